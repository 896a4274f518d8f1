/* SPDX-License-Identifier: Apache-2.0 */
/* A process of one's own, with pipes to its standard input and from its standard output; it ends when told, or with us.
 */
#ifndef PST_BENCH_CHILD_H
#define PST_BENCH_CHILD_H

#include "base/base.h"

#include <sys/types.h>

struct pst_child {
	pid_t pid;
	int in, out; /* ours: its input, its output (does not block) */
};

pst_err PST_MUST_USE pst_child_start(struct pst_child *child, const char *const argv[]);

/* Ends its input, waits two seconds, then kills it. */
void pst_child_stop(struct pst_child *child);

#endif

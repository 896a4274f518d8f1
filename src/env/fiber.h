/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Straight-line code that waits, in a shard that never blocks: a function with a stack of its own, which gives the
 * thread back while it waits and is resumed by whoever it waits for. For rare work in the background that would be
 * unreadable as a state machine (the check of an open pool); never on the data path. Both environments, one thread, no
 * clock.
 */
#ifndef PST_ENV_FIBER_H
#define PST_ENV_FIBER_H

#include "base/base.h"

struct pst_fiber;

/* NULL: out of memory. @fn begins with the first pst_fiber_resume. */
struct pst_fiber *pst_fiber_new(size_t stack_bytes, void (*fn)(void *ctx), void *ctx);

/* Runs @fn until it yields or returns. True: it has returned. */
bool pst_fiber_resume(struct pst_fiber *fiber);

/* Inside of @fn: go on when resumed. */
void pst_fiber_yield(struct pst_fiber *fiber);

/* It has returned, or was never resumed. NULL is allowed. */
void pst_fiber_free(struct pst_fiber *fiber);

#endif

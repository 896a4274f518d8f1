/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One load, several ways to reach storage: an NVMe/TCP volume, an NBD export, a file. Each is a table of calls; the
 * load (beside-load.c) is the same for all. One thread; completions come out of poll, never out of submit.
 */
#ifndef PST_TESTS_BENCH_BESIDE_H
#define PST_TESTS_BENCH_BESIDE_H

#include "base/base.h"

enum beside_kind { BESIDE_READ, BESIDE_WRITE, BESIDE_FLUSH };

struct beside_request {
	enum beside_kind kind;
	uint64_t offset_bytes;
	uint32_t len_bytes;
	void *buf; /* aligned to 4096 */
	void (*done)(struct beside_request *request);
	bool failed;
	struct beside_request *next; /* the way's, between completion and poll */
	void *own;                   /* the way's, for one request; made in its open */
};

struct beside_place {
	const char *nqn;  /* penstock */
	const char *port; /* penstock, nbd: on 127.0.0.1 */
	const char *file; /* file */
	uint32_t depth;
	uint32_t spin_us; /* penstock: longest spin of the client */
};

struct beside_way {
	const char *name;
	bool (*open)(const struct beside_place *place); /* false after saying why on stderr */
	void (*submit)(struct beside_request *request);
	void (*poll)(void); /* runs what has completed; waits up to 10 ms for the first */
	void (*close)(void);
};

extern const struct beside_way beside_penstock, beside_nbd, beside_file;

#endif

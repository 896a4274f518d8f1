/* SPDX-License-Identifier: Apache-2.0 */
/* A sorted set of small named values in memory: the catalog records of a pool, as far as they are not on disk. */
#ifndef PST_VOLUME_RECORDS_H
#define PST_VOLUME_RECORDS_H

#include "volume/pool.h"

struct pst_record {
	char *key;
	void *value;
	uint32_t value_bytes;
};

/* In key order. One owner, one thread. Zero-initialised is empty. */
struct pst_records {
	struct pst_record *items;
	size_t count, capacity;
};

/* Copies both; replaces. PST_E_NOMEM leaves the set as it was. */
pst_err PST_MUST_USE pst_records_put(struct pst_records *set, const char *key, const void *value, uint32_t value_bytes);
pst_err PST_MUST_USE pst_records_delete(struct pst_records *set, const char *key); /* PST_E_NOTFOUND */
void pst_records_each(const struct pst_records *set, const char *prefix, pst_record_fn *fn, void *ctx);
void pst_records_done(struct pst_records *set);

#endif

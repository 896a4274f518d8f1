/* SPDX-License-Identifier: Apache-2.0 */
/* What the halves of recovery share: recover.c reads and verifies, recover-apply.c applies. */
#ifndef PST_STORE_RECOVER_H
#define PST_STORE_RECOVER_H

#include "store/recover-read.h"

#define RECOVER_VERIFIERS 8u

struct recover_item {
	const struct pst_log_record *record;
	uint64_t seq;
	uint32_t index;
	bool aborted;
	uint8_t bad[PST_PIECE_BLOCKS_MAX / 8]; /* blocks that did not verify */
};

struct recover_verifier {
	struct recovery *r;
	struct recover_item *item; /* NULL: idle */
	unsigned tries;
	struct pst_file_op op;
	struct iovec iov;
	uint8_t *buf;
};

struct recovery {
	struct store *st;
	struct part *p;
	struct waiter *done;
	struct waiter wait;
	char *detail;
	bool clean, same_boot, rewrites;
	struct recover_read read;
	uint8_t *chunk; /* what was read */
	void (*next)(struct recovery *r);
	struct pst_file_op op; /* the root, if it is written again */
	struct iovec iov;
	struct pst_root root;
	uint32_t page;
	struct pst_log_block *log;
	uint32_t log_count, log_capacity;
	uint64_t proven; /* records up to this block need no verification */
	struct recover_item *items;
	size_t item_count, at;
	struct recover_verifier verifiers[RECOVER_VERIFIERS];
	unsigned verifying;
	uint64_t dropped;
	uint8_t *catalog;
	uint32_t catalog_at;
	struct pst_ptr catalog_ptrs[PST_NODE_FANOUT];
};

static inline bool recover_has_data(const struct pst_log_record *rec)
{
	return rec->kind == PST_LOG_WRITE || rec->kind == PST_LOG_MOVE;
}

/* Did block @i of the record not verify? */
static inline bool recover_is_bad(const struct recover_item *item, uint32_t i)
{
	return (item->bad[i / 8] >> (i % 8) & 1) != 0;
}

/* Maps what was read; ends with recovery_end. */
void recovery_apply(struct recovery *r);

/* @what: which step failed, for operators; PST_OK: nothing did. */
void recovery_end(struct recovery *r, pst_err err, const char *what);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* Log blocks and records: build, seal, judge, walk. Pure; any thread. */
#ifndef PST_STORE_LOGFMT_H
#define PST_STORE_LOGFMT_H

#include "store/format.h"

/* The longest write record: what one piece of a request may cover. */
#define PST_PIECE_BLOCKS_MAX 128u

void pst_log_block_init(struct pst_log_block *block, uint32_t partition, uint64_t incarnation, uint64_t seq);

/*
 * Append a record with @body_bytes after its header. False: it does not fit in what is left of the block. @body may be
 * NULL for none. Records never straddle blocks, so a block stands for itself.
 */
bool pst_log_block_add(struct pst_log_block *block, const struct pst_log_record *record, const void *body,
		       uint32_t body_bytes);

/* Bytes that a record with this body takes. */
static inline uint32_t pst_log_record_bytes(uint32_t body_bytes)
{
	return (uint32_t)pst_round_up(sizeof(struct pst_log_record) + body_bytes, 8);
}

/* Fills in the link to the block before, and the CRC, which it returns for the link of the next. */
uint32_t pst_log_block_seal(struct pst_log_block *block, uint32_t prev_crc);

/* Is it block @seq of this log, whole, and does it continue the chain? */
bool pst_log_block_follows(const struct pst_log_block *block, uint32_t partition, uint64_t incarnation, uint64_t seq,
			   uint32_t prev_crc);

/*
 * Walk the records: *at is 0 at first. Returns NULL at the end, and also for a record that makes no sense, then with
 * *ret_bad set: the block is whole but not ours to understand.
 */
const struct pst_log_record *pst_log_block_next(const struct pst_log_block *block, uint32_t *at, bool *ret_bad);

/* CRCs of a write record; value of others. */
static inline const void *pst_log_record_body(const struct pst_log_record *record)
{
	return record + 1;
}

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* Reading what recovery begins from: blocks of a partition in a row, some of which are copies of each other. */
#ifndef PST_STORE_RECOVER_READ_H
#define PST_STORE_RECOVER_READ_H

#include "store/internal.h"

struct recover_read {
	struct part *part;
	uint8_t *buf; /* the caller's, aligned to PST_BLOCK_BYTES, as long as the longest read */
	uint64_t block;
	uint32_t count, at;
	bool twin_unreadable;
	struct pst_file_op op;
	struct iovec iov;
	void (*done)(struct recover_read *read, pst_err err);
};

/* @count blocks from @block of the partition into @read's buf, then its done. One at a time. */
void recover_read_blocks(struct recover_read *read, uint64_t block, uint32_t count);

/*
 * The same of blocks that are copies of each other in pairs. If they can't be read at once, each is read by itself: one
 * that can't be is as good as a damaged one (zeros), but never both of a pair. That a read failed by chance must not
 * make an older root count.
 */
void recover_read_pairs(struct recover_read *read, uint64_t block, uint32_t count);

#endif

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
	uint32_t unreadable; /* the first block of those that can't be read and are zeros now; count: none */
	bool pairs, twin_unreadable;
	struct pst_file_op op;
	struct iovec iov;
	void (*done)(struct recover_read *read, pst_err err);
};

/*
 * @count blocks from @block of the partition into @read's buf, then its done. One at a time. If they can't be read at
 * once, each is read by itself, and those that can't be are zeros, which the caller must not take for what was written;
 * a single block that can't be is an error.
 */
void recover_read_blocks(struct recover_read *read, uint64_t block, uint32_t count);

/*
 * The same of blocks that are copies of each other in pairs. One that can't be read is as good as a damaged one, but
 * both of a pair are an error. That a read failed by chance must not make an older root count.
 */
void recover_read_pairs(struct recover_read *read, uint64_t block, uint32_t count);

#endif

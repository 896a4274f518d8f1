/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading blocks that may lie scattered into one buffer, through their checksums: for what reads on its own account
 * (moves, read-ahead), not for users' requests. The owner keeps the blocks from being reused (struct reading).
 */
#ifndef PST_STORE_FETCH_H
#define PST_STORE_FETCH_H

#include "store/internal.h"

#define FETCH_READS 8u /* in flight for one fetch */

struct fetch;

struct fetch_read {
	struct fetch *fetch; /* NULL: idle */
	struct pst_file_op op;
	struct iovec iov;
};

struct fetch {
	struct part *part;
	const uint32_t *blocks, *crcs; /* the owner's; bits above PST_PTR_BLOCK don't count */
	uint32_t count, at, reading;
	uint8_t *buffer;
	void (*done)(struct fetch *f);
	pst_err err;
	uint32_t bad; /* after an error: the first block with another checksum, or of what can't be read */
	struct fetch_read reads[FETCH_READS];
};

/* @buffer: 4096-aligned, room for @count blocks. @done runs in a completion, never inside the call. */
void fetch_begin(struct fetch *f, struct part *p, const uint32_t *blocks, const uint32_t *crcs, uint32_t count,
		 uint8_t *buffer, void (*done)(struct fetch *f));

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Data buffers of one shard: a buddy allocator over one region of memory, so that every command gets one contiguous,
 * 4096-aligned buffer and the whole is bounded. Running out is normal: the caller waits. One shard's thread.
 */
#ifndef PST_TARGET_BUFFERS_H
#define PST_TARGET_BUFFERS_H

#include "base/base.h"

#define PST_BUFFER_ORDERS 12u /* 4 KiB << 11 is 8 MiB, the longest I/O */

struct pst_buffers {
	uint8_t *memory;
	uint32_t block_count; /* of 4096 bytes */
	uint32_t top_order;   /* of the longest buffer */
	uint32_t head[PST_BUFFER_ORDERS];
	struct pst_buffer_block *blocks;
	uint64_t used_bytes;
};

/* @buffer_bytes_max: a power of two, 4096 to 8 MiB. @total_bytes is rounded up to a multiple of it. */
pst_err PST_MUST_USE pst_buffers_init(struct pst_buffers *b, uint64_t total_bytes, uint32_t buffer_bytes_max);
void pst_buffers_done(struct pst_buffers *b);

/* NULL when there is none now. @bytes: 1 to buffer_bytes_max; free with the same number. */
void *pst_buffers_get(struct pst_buffers *b, uint32_t bytes);
void pst_buffers_put(struct pst_buffers *b, void *buffer, uint32_t bytes);

/* What a buffer of @bytes takes from the total. */
uint32_t pst_buffers_round(uint32_t bytes);

#endif

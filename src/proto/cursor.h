/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bounded cursors. pst_bytes reads a flat message: a read past its end gives NULL and moves nothing. pst_iovcur walks
 * scattered buffers; it asserts that it stays inside, so callers check lengths from the peer first. Any thread.
 */
#ifndef PST_PROTO_CURSOR_H
#define PST_PROTO_CURSOR_H

#include "base/base.h"

#include <string.h>
#include <sys/uio.h>

struct pst_bytes {
	const uint8_t *at;
	size_t left;
};

/* The next @len_bytes, or NULL when there are not as many. */
static inline const void *pst_bytes_take(struct pst_bytes *b, size_t len_bytes)
{
	const uint8_t *at = b->at;

	if (len_bytes > b->left)
		return NULL;
	b->at += len_bytes;
	b->left -= len_bytes;
	return at;
}

struct pst_iovcur {
	const struct iovec *iov;
	uint32_t count;
	size_t offset; /* into iov[0]; less than its length, unless count is 0 */
};

/* Moves on by @bytes, past empty entries too. */
static inline void pst_iovcur_skip(struct pst_iovcur *c, uint64_t bytes)
{
	while (c->count > 0 && bytes >= c->iov->iov_len - c->offset) {
		bytes -= c->iov->iov_len - c->offset;
		c->iov++;
		c->count--;
		c->offset = 0;
	}
	pst_assert(bytes == 0 || c->count > 0);
	c->offset += bytes;
}

static inline struct pst_iovcur pst_iovcur_of(const struct iovec *iov, uint32_t count, uint64_t skip_bytes)
{
	struct pst_iovcur c = { .iov = iov, .count = count };

	pst_iovcur_skip(&c, skip_bytes);
	return c;
}

/* The contiguous piece at the cursor, at most @max bytes of it; moves past it. */
static inline struct iovec pst_iovcur_take(struct pst_iovcur *c, uint64_t max)
{
	struct iovec piece;

	pst_assert(c->count > 0);
	piece.iov_base = (uint8_t *)c->iov->iov_base + c->offset;
	piece.iov_len = PST_MIN(c->iov->iov_len - c->offset, max);
	pst_iovcur_skip(c, piece.iov_len);
	return piece;
}

#endif

/* SPDX-License-Identifier: Apache-2.0 */
#include "volume/iov.h"
#include "base/copy.h"

#include <string.h>

/* The run of contiguous bytes at @offset_bytes: where it begins, and how long it is (at most @max_bytes). */
static char *run_at(const struct iovec **iov, uint64_t *offset_bytes, uint64_t max_bytes, size_t *ret_len)
{
	while (*offset_bytes >= (*iov)->iov_len) {
		*offset_bytes -= (*iov)->iov_len;
		(*iov)++;
	}
	*ret_len = PST_MIN((*iov)->iov_len - *offset_bytes, max_bytes);
	return (char *)(*iov)->iov_base + *offset_bytes;
}

void pst_iov_copy_to(const struct iovec *iov, uint64_t offset_bytes, const void *src, size_t len_bytes)
{
	const char *from = src;

	while (len_bytes > 0) {
		size_t n;
		char *to = run_at(&iov, &offset_bytes, len_bytes, &n);

		memcpy(to, from, n);
		from += n;
		offset_bytes += n;
		len_bytes -= n;
	}
}

static void copy_out(char *to, const struct iovec *iov, uint64_t offset_bytes, size_t len_bytes, bool past_caches)
{
	while (len_bytes > 0) {
		size_t n;
		const char *from = run_at(&iov, &offset_bytes, len_bytes, &n);

		if (past_caches)
			pst_copy_past_caches(to, from, n);
		else
			memcpy(to, from, n);
		to += n;
		offset_bytes += n;
		len_bytes -= n;
	}
}

void pst_iov_copy_from(void *dst, const struct iovec *iov, uint64_t offset_bytes, size_t len_bytes)
{
	copy_out(dst, iov, offset_bytes, len_bytes, false);
}

void pst_iov_store_from(void *dst, const struct iovec *iov, uint64_t offset_bytes, size_t len_bytes)
{
	copy_out(dst, iov, offset_bytes, len_bytes, true);
}

void pst_iov_zero(const struct iovec *iov, uint64_t offset_bytes, uint64_t len_bytes)
{
	while (len_bytes > 0) {
		size_t n;
		char *to = run_at(&iov, &offset_bytes, len_bytes, &n);

		memset(to, 0, n);
		offset_bytes += n;
		len_bytes -= n;
	}
}

void pst_iov_hole(const struct pst_io *io, uint64_t first, uint64_t count)
{
	pst_iov_zero(io->iov, first * PST_BLOCK_BYTES, count * PST_BLOCK_BYTES);
	for (uint64_t i = first; io->holes != NULL && i < first + count; i++)
		io->holes[i / 64] |= (uint64_t)1 << (i % 64);
}

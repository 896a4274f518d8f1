/* SPDX-License-Identifier: Apache-2.0 */
/* Copying between scattered buffers and flat memory, at an offset. The ranges must lie inside the buffers. */
#ifndef PST_VOLUME_IOV_H
#define PST_VOLUME_IOV_H

#include "volume/volume.h"

/* Copy @len_bytes from @src into @iov, beginning @offset_bytes into it. */
void pst_iov_copy_to(const struct iovec *iov, uint64_t offset_bytes, const void *src, size_t len_bytes);

/* Copy @len_bytes out of @iov, beginning @offset_bytes into it. */
void pst_iov_copy_from(void *dst, const struct iovec *iov, uint64_t offset_bytes, size_t len_bytes);

/* The same, to where nobody looks soon: past the caches. Call pst_copy_settle (base/copy.h) before others are told. */
void pst_iov_store_from(void *dst, const struct iovec *iov, uint64_t offset_bytes, size_t len_bytes);

void pst_iov_zero(const struct iovec *iov, uint64_t offset_bytes, uint64_t len_bytes);

/* Blocks [@first, @first + @count) of what @io reads have no data: zeros, and their bits in io->holes. */
void pst_iov_hole(const struct pst_io *io, uint64_t first, uint64_t count);

#endif

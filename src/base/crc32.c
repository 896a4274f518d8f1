/* SPDX-License-Identifier: Apache-2.0 */
#include "base/crc32.h"

#include "base/base.h"

#include <isa-l/crc.h>
#include <limits.h>

uint32_t pst_crc32(const void *data, size_t len_bytes)
{
	pst_assert(len_bytes <= INT_MAX);
	return crc32_gzip_refl(0, data, len_bytes);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "base/crc32c.h"

#include <isa-l/crc.h>
#include <limits.h>

uint32_t pst_crc32c_more(uint32_t crc, const void *data, size_t len_bytes)
{
	const unsigned char *p = data;

	/* ISA-L takes the raw register (before the final inversion), an int length, and a pointer without const. */
	crc = ~crc;
	while (len_bytes > 0) {
		int n = len_bytes > INT_MAX ? INT_MAX : (int)len_bytes;

		crc = crc32_iscsi((unsigned char *)(uintptr_t)p, n, crc);
		p += n;
		len_bytes -= (size_t)n;
	}
	return ~crc;
}

uint32_t pst_crc32c(const void *data, size_t len_bytes)
{
	return pst_crc32c_more(0, data, len_bytes);
}

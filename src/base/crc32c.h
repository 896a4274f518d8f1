/* SPDX-License-Identifier: Apache-2.0 */
/* CRC32C (Castagnoli, RFC 3720 appendix B.4) as NVMe/TCP digests and the store use it; computed by ISA-L. Any thread.
 */
#ifndef PST_BASE_CRC32C_H
#define PST_BASE_CRC32C_H

#include <stddef.h>
#include <stdint.h>

/* CRC32C of @len_bytes at @data. pst_crc32c("123456789", 9) is E3069283h. */
uint32_t pst_crc32c(const void *data, size_t len_bytes);

/* Continue: @crc is the finished CRC32C of what came before (0 for nothing). */
uint32_t pst_crc32c_more(uint32_t crc, const void *data, size_t len_bytes);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* CRC-32 (IEEE 802.3, that of gzip) as keys of hosts carry it; computed by ISA-L. Any thread. */
#ifndef PST_BASE_CRC32_H
#define PST_BASE_CRC32_H

#include <stddef.h>
#include <stdint.h>

/* CRC-32 of @len_bytes (below 2 GiB) at @data. pst_crc32("123456789", 9) is CBF43926h. */
uint32_t pst_crc32(const void *data, size_t len_bytes);

#endif

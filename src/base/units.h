/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sizes and rates as people type them. K, M, G, T are powers of 1000; Ki, Mi, Gi, Ti of 1024; a trailing B is allowed
 * for sizes ("500GB"). Rates: "20000iops", "500MB/s", "1GiB/s". Decimal fractions are allowed ("1.5Gi"). Any thread.
 */
#ifndef PST_BASE_UNITS_H
#define PST_BASE_UNITS_H

#include "base/base.h"

/* PST_E_INVAL: not a size; PST_E_RANGE: above 2^63-1 bytes. */
pst_err PST_MUST_USE pst_parse_size(const char *text, uint64_t *ret_bytes);

/* Sets exactly one of *ret_iops and *ret_bytes_per_s, leaving the other as it is. Same errors. */
pst_err PST_MUST_USE pst_parse_rate(const char *text, uint64_t *ret_iops, uint64_t *ret_bytes_per_s);

/* "10s", "500ms", "5m", "2h", "30d"; a plain number is seconds. */
pst_err PST_MUST_USE pst_parse_duration(const char *text, uint64_t *ret_ns);

/* "512 B", "1.5 GiB": at most 16 bytes with the terminating zero. Returns @buf. */
char *pst_format_size(uint64_t bytes, char buf[16]);

/* Nanoseconds since 1970 as "2026-11-23T16:00:00.123Z" (RFC 3339, UTC). Returns @buf. */
char *pst_format_time(uint64_t wall_ns, char buf[32]);

#endif

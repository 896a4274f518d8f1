/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Small words that every module uses: must-use results, containers, assertions, checked arithmetic.
 * Depends on nothing but the C library.
 */
#ifndef PST_BASE_BASE_H
#define PST_BASE_BASE_H

#include "penstock/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PST_MUST_USE __attribute__((warn_unused_result))
#define PST_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))

#define pst_container_of(ptr, type, member) ((type *)(void *)((char *)(ptr)-offsetof(type, member)))
#define PST_ARRAY_COUNT(a) (sizeof(a) / sizeof((a)[0]))
#define PST_MIN(a, b) ((a) < (b) ? (a) : (b))
#define PST_MAX(a, b) ((a) > (b) ? (a) : (b))

/*
 * Our own bugs end the process, in release builds too: going on would risk data. Never assert on what a peer, a disk,
 * a file or a user wrote: those are errors to return.
 */
#define pst_assert(cond) ((cond) ? (void)0 : pst_assert_failed(#cond, __FILE__, __LINE__))
_Noreturn void pst_assert_failed(const char *cond, const char *file, int line);

/* Arithmetic on values from a peer or a disk: true on success, false where the result does not fit. */
static inline bool PST_MUST_USE pst_add_u64(uint64_t a, uint64_t b, uint64_t *ret)
{
	return !__builtin_add_overflow(a, b, ret);
}

static inline bool PST_MUST_USE pst_mul_u64(uint64_t a, uint64_t b, uint64_t *ret)
{
	return !__builtin_mul_overflow(a, b, ret);
}

/* Does [first, first + count) lie inside [0, limit)? Safe for every value. */
static inline bool pst_range_ok(uint64_t first, uint64_t count, uint64_t limit)
{
	return first <= limit && count <= limit - first;
}

static inline uint64_t pst_div_round_up(uint64_t a, uint64_t b)
{
	return a / b + (a % b != 0);
}

static inline uint64_t pst_round_up(uint64_t a, uint64_t b)
{
	return pst_div_round_up(a, b) * b;
}

static inline bool pst_is_pow2(uint64_t a)
{
	return a != 0 && (a & (a - 1)) == 0;
}

#endif

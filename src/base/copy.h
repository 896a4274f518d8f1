/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A copy into memory that will not be looked at soon, and that no cache holds. An ordinary one first fetches each line
 * that it is about to overwrite, and drives out of the cache what is still needed.
 */
#ifndef PST_BASE_COPY_H
#define PST_BASE_COPY_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#ifdef __SSE2__
#include <emmintrin.h>
#endif

#define PST_COPY_LINE_BYTES 64u

/*
 * As memcpy. Whole lines at an aligned @to go past the caches where the processor can do that (x86-64); all else is an
 * ordinary copy. Other threads may see it late: call pst_copy_settle, once for many, before they are told of it.
 */
static inline void pst_copy_past_caches(void *to, const void *from, size_t bytes)
{
#ifdef __SSE2__
	if ((uintptr_t)to % PST_COPY_LINE_BYTES == 0 && bytes % PST_COPY_LINE_BYTES == 0) {
		__m128i *d = to;
		const __m128i *s = from;

		for (size_t i = 0; i < bytes / sizeof(*d); i += 4) {
			__m128i a = _mm_loadu_si128(s + i), b = _mm_loadu_si128(s + i + 1);
			__m128i c = _mm_loadu_si128(s + i + 2), e = _mm_loadu_si128(s + i + 3);

			_mm_stream_si128(d + i, a);
			_mm_stream_si128(d + i + 1, b);
			_mm_stream_si128(d + i + 2, c);
			_mm_stream_si128(d + i + 3, e);
		}
		return;
	}
#endif
	memcpy(to, from, bytes);
}

/* What pst_copy_past_caches has written on this thread comes before all that it writes from here on. */
static inline void pst_copy_settle(void)
{
#ifdef __SSE2__
	_mm_sfence();
#endif
}

#endif

/* SPDX-License-Identifier: Apache-2.0 */
#include "base/prng.h"
#include "target/buffers.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#define LONGEST 65536u
#define HELD_MAX 64u

/* Buffers in use never overlap, are aligned, and the count of what is used is right, over many random moves. */
static void buffers_never_overlap(void **state)
{
	struct {
		uint8_t *at;
		uint32_t bytes;
	} held[HELD_MAX];
	struct pst_buffers b;
	struct pst_prng prng;
	uint32_t count = 0, refused = 0;
	uint64_t used = 0;

	(void)state;
	pst_prng_init(&prng, 7);
	assert_int_equal(pst_buffers_init(&b, 4 * LONGEST, LONGEST), PST_OK);
	for (unsigned round = 0; round < 20000; round++) {
		if (count < HELD_MAX && pst_prng_chance(&prng, 55, 100)) {
			uint32_t bytes = 1 + (uint32_t)pst_prng_below(&prng, LONGEST);
			uint8_t *at = pst_buffers_get(&b, bytes);

			if (at == NULL) {
				refused++;
				continue;
			}
			assert_int_equal((uintptr_t)at % 4096, 0);
			for (uint32_t i = 0; i < count; i++)
				assert_true(at + pst_buffers_round(bytes) <= held[i].at ||
					    held[i].at + pst_buffers_round(held[i].bytes) <= at);
			held[count].at = at;
			held[count++].bytes = bytes;
			used += pst_buffers_round(bytes);
		} else if (count > 0) {
			uint32_t i = (uint32_t)pst_prng_below(&prng, count);

			used -= pst_buffers_round(held[i].bytes);
			pst_buffers_put(&b, held[i].at, held[i].bytes);
			held[i] = held[--count];
		}
		assert_int_equal(b.used_bytes, used);
	}
	assert_true(refused > 0);
	while (count > 0) {
		count--;
		pst_buffers_put(&b, held[count].at, held[count].bytes);
	}
	/* What was broken into pieces has grown together again. */
	for (unsigned i = 0; i < 4; i++)
		assert_non_null(held[i].at = pst_buffers_get(&b, LONGEST));
	assert_null(pst_buffers_get(&b, 1));
	for (unsigned i = 0; i < 4; i++)
		pst_buffers_put(&b, held[i].at, LONGEST);
	pst_buffers_done(&b);
}

/* Sizes are rounded to powers of two of blocks. */
static void sizes_round_up(void **state)
{
	(void)state;
	assert_int_equal(pst_buffers_round(1), 4096);
	assert_int_equal(pst_buffers_round(4096), 4096);
	assert_int_equal(pst_buffers_round(4097), 8192);
	assert_int_equal(pst_buffers_round(3 * 4096), 4 * 4096);
	assert_int_equal(pst_buffers_round(1 << 20), 1 << 20);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(buffers_never_overlap),
		cmocka_unit_test(sizes_round_up),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

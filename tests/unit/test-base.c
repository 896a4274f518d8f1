/* SPDX-License-Identifier: Apache-2.0 */
#include "base/base.h"
#include "base/crc32c.h"
#include "base/hash.h"
#include "base/hist.h"
#include "base/list.h"
#include "base/units.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

/* The check value of the CRC-32C catalogue entry, whole and in pieces. */
static void crc32c_matches_check_value(void **state)
{
	(void)state;
	assert_int_equal(pst_crc32c("123456789", 9), 0xe3069283);
	assert_int_equal(pst_crc32c_more(pst_crc32c("1234", 4), "56789", 5), 0xe3069283);
	assert_int_equal(pst_crc32c("", 0), 0);
}

/* Powers of 1000 and 1024 are kept apart; nonsense is refused. */
static void sizes_parse_as_typed(void **state)
{
	uint64_t v = 7;

	(void)state;
	assert_int_equal(pst_parse_size("4096", &v), PST_OK);
	assert_int_equal(v, 4096);
	assert_int_equal(pst_parse_size("2Ti", &v), PST_OK);
	assert_int_equal(v, (uint64_t)2 << 40);
	assert_int_equal(pst_parse_size("1.5GB", &v), PST_OK);
	assert_int_equal(v, 1500000000);
	v = 7;
	for (const char **bad = (const char *[]){ "", "x", "-1", "1Q", "0x10", "inf", " 1", "1 G", NULL }; *bad; bad++)
		assert_int_equal(pst_parse_size(*bad, &v), PST_E_INVAL);
	assert_int_equal(pst_parse_size("9999999T", &v), PST_E_RANGE);
	assert_int_equal(v, 7);
}

/* A rate names its unit and sets only that one. */
static void rates_set_one_of_two(void **state)
{
	uint64_t iops = 1, bytes = 2;

	(void)state;
	assert_int_equal(pst_parse_rate("20000iops", &iops, &bytes), PST_OK);
	assert_int_equal(iops, 20000);
	assert_int_equal(bytes, 2);
	assert_int_equal(pst_parse_rate("500MB/s", &iops, &bytes), PST_OK);
	assert_int_equal(bytes, 500000000);
	assert_int_equal(pst_parse_rate("500MB", &iops, &bytes), PST_E_INVAL);
	assert_int_equal(pst_parse_rate("500", &iops, &bytes), PST_E_INVAL);
}

/* Durations from microseconds to days; a plain number is seconds. */
static void durations_have_units(void **state)
{
	static const struct {
		const char *text;
		uint64_t ns;
	} good[] = { { "3", 3000000000 },       { "500ms", 500000000 },      { "7us", 7000 },
		     { "1.5h", 5400000000000 }, { "30d", 2592000000000000 }, { "0d", 0 } };
	uint64_t ns = 7;

	(void)state;
	for (const char **bad = (const char *[]){ "", "d", "1w", "-1d", "1 d", NULL }; *bad; bad++)
		assert_int_equal(pst_parse_duration(*bad, &ns), PST_E_INVAL);
	assert_int_equal(pst_parse_duration("999999999d", &ns), PST_E_RANGE);
	assert_int_equal(ns, 7);
	for (size_t i = 0; i < PST_ARRAY_COUNT(good); i++) {
		assert_int_equal(pst_parse_duration(good[i].text, &ns), PST_OK);
		assert_int_equal(ns, good[i].ns);
	}
}

/* Percentiles are at most 1/16 above the true value, over the whole range. */
static void histogram_error_is_bounded(void **state)
{
	static struct pst_hist h, earlier;

	(void)state;
	for (uint64_t v = 1; v <= 100000; v++)
		pst_hist_add(&h, v * 10);
	for (double f = 0.01; f < 1; f += 0.01) {
		double truth = f * 1000000;
		double got = (double)pst_hist_percentile_ns(&h, f);

		assert_true(got >= truth * 0.999 && got <= truth * (1 + 1.0 / 16) + 10);
	}
	assert_int_equal(pst_hist_percentile_ns(&h, 1), 1000000);
	earlier = h;
	pst_hist_add(&h, UINT64_MAX);
	assert_int_equal(pst_hist_percentile_ns(&h, 1), UINT64_MAX);
	pst_hist_subtract(&h, &earlier);
	assert_int_equal(h.count, 1);
}

/* Ranges near 2^64 neither wrap nor pass. */
static void range_check_does_not_wrap(void **state)
{
	(void)state;
	assert_true(pst_range_ok(0, 10, 10));
	assert_true(pst_range_ok(10, 0, 10));
	assert_false(pst_range_ok(UINT64_MAX, 2, 10));
	assert_false(pst_range_ok(5, UINT64_MAX, 10));
}

/* Removing twice is harmless; order is kept over splices. */
static void list_keeps_order(void **state)
{
	struct pst_list head, other, a, b, c;

	(void)state;
	pst_list_init(&head);
	pst_list_init(&other);
	pst_list_push_back(&head, &a);
	pst_list_push_back(&other, &b);
	pst_list_push_back(&other, &c);
	pst_list_splice(&head, &other);
	assert_true(pst_list_empty(&other));
	assert_ptr_equal(pst_list_pop_front(&head), &a);
	pst_list_remove(&b);
	pst_list_remove(&b);
	assert_ptr_equal(pst_list_pop_front(&head), &c);
	assert_null(pst_list_pop_front(&head));
}

struct word {
	struct pst_hash_node node;
	char text[16];
};

static struct word *word_find(const struct pst_hash *h, const char *text)
{
	PST_HASH_EACH(it, h, pst_hash_string(h, text))
	{
		struct word *w = pst_container_of(it, struct word, node);

		if (strcmp(w->text, text) == 0)
			return w;
	}
	return NULL;
}

/* Everything that is in a table is found, through its growth, and nothing else; what is removed is not. */
static void hash_finds_what_is_there(void **state)
{
	static struct word words[1000];
	struct pst_hash h;

	(void)state;
	pst_hash_init(&h, 7);
	for (unsigned i = 0; i < 1000; i++) {
		snprintf(words[i].text, sizeof(words[i].text), "word-%u", i);
		assert_null(word_find(&h, words[i].text));
		pst_hash_add(&h, &words[i].node, pst_hash_string(&h, words[i].text));
	}
	for (unsigned i = 0; i < 1000; i += 2)
		pst_hash_remove(&h, &words[i].node);
	assert_int_equal(h.count, 500);
	for (unsigned i = 0; i < 1000; i++)
		assert_ptr_equal(word_find(&h, words[i].text), i % 2 == 0 ? NULL : &words[i]);
	/* Equal hashes: all are gone through. */
	pst_hash_add(&h, &words[0].node, words[1].node.hash);
	assert_ptr_equal(word_find(&h, "word-1"), &words[1]);
	pst_hash_remove(&h, &words[0].node);
	for (unsigned i = 1; i < 1000; i += 2)
		pst_hash_remove(&h, &words[i].node);
	pst_hash_done(&h);
}

/* Times are written as RFC 3339 has them: at the epoch, on a leap day, at the end of a century that has none. */
static void times_are_rfc3339(void **state)
{
	static const struct {
		uint64_t s;
		const char *text;
	} known[] = {
		{ 0, "1970-01-01T00:00:00.007Z" },          { 951782399, "2000-02-28T23:59:59.007Z" },
		{ 951782400, "2000-02-29T00:00:00.007Z" },  { 1709251199, "2024-02-29T23:59:59.007Z" },
		{ 1798761599, "2026-12-31T23:59:59.007Z" }, { 4107542400, "2100-03-01T00:00:00.007Z" },
	};
	char buf[32];

	(void)state;
	for (unsigned i = 0; i < PST_ARRAY_COUNT(known); i++)
		assert_string_equal(pst_format_time(known[i].s * 1000000000u + 7999999, buf), known[i].text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(times_are_rfc3339),         cmocka_unit_test(crc32c_matches_check_value),
		cmocka_unit_test(sizes_parse_as_typed),      cmocka_unit_test(rates_set_one_of_two),
		cmocka_unit_test(durations_have_units),      cmocka_unit_test(histogram_error_is_bounded),
		cmocka_unit_test(range_check_does_not_wrap), cmocka_unit_test(list_keeps_order),
		cmocka_unit_test(hash_finds_what_is_there),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "store/alloc.h"
#include "store/logfmt.h"
#include "store/superblock.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define BLOCKS 4096u

static struct pst_superblock sample(void)
{
	struct pst_superblock sb = { .magic = PST_SB_MAGIC, .version = PST_SB_VERSION, .generation = 3 };
	char detail[PST_DETAIL_BYTES];

	assert_int_equal(pst_sb_layout(&sb, BLOCKS, 2, detail), PST_OK);
	pst_sb_seal(&sb);
	return sb;
}

/* One damaged copy: the other is taken and a repair asked for, whichever it is. */
static void one_bad_superblock_is_repaired(void **state)
{
	struct pst_superblock a = sample(), b = sample();
	const struct pst_superblock *got = NULL;
	char detail[PST_DETAIL_BYTES] = "";
	bool repair = false;

	(void)state;
	((uint8_t *)&a)[700] ^= 1;
	assert_int_equal(pst_sb_choose(&a, &b, BLOCKS, &got, &repair, detail), PST_OK);
	assert_ptr_equal(got, &b);
	assert_true(repair);
	assert_int_equal(pst_sb_choose(&b, &a, BLOCKS, &got, &repair, detail), PST_OK);
	assert_ptr_equal(got, &b);
}

/* Both damaged: a format error that says so. */
static void two_bad_superblocks_are_refused(void **state)
{
	struct pst_superblock a = sample();
	const struct pst_superblock *got = NULL;
	char detail[PST_DETAIL_BYTES] = "";
	bool repair;

	(void)state;
	((uint8_t *)&a)[700] ^= 1;
	assert_int_equal(pst_sb_choose(&a, &a, BLOCKS, &got, &repair, detail), PST_E_FORMAT);
	assert_non_null(strstr(detail, "damaged"));
}

/* The higher generation of two intact copies counts. */
static void newer_superblock_counts(void **state)
{
	struct pst_superblock a = sample(), b = sample();
	const struct pst_superblock *got = NULL;
	char detail[PST_DETAIL_BYTES] = "";
	bool repair = true;

	(void)state;
	b.generation++;
	pst_sb_seal(&b);
	assert_int_equal(pst_sb_choose(&a, &b, BLOCKS, &got, &repair, detail), PST_OK);
	assert_ptr_equal(got, &b);
	assert_false(repair);
}

/* An incompatible feature that this program does not know is named. */
static void unknown_feature_is_named(void **state)
{
	struct pst_superblock a = sample();
	const struct pst_superblock *got = NULL;
	char detail[PST_DETAIL_BYTES] = "";
	bool repair;

	(void)state;
	a.features_incompat = 1u << 5;
	pst_sb_seal(&a);
	assert_int_equal(pst_sb_choose(&a, &a, BLOCKS, &got, &repair, detail), PST_E_FORMAT);
	assert_non_null(strstr(detail, "incompatible feature bit 5"));
}

/* A layout beyond the file, and a layout that overlaps itself, are refused. */
static void senseless_layouts_are_refused(void **state)
{
	struct pst_superblock a = sample();
	const struct pst_superblock *got = NULL;
	char detail[PST_DETAIL_BYTES] = "";
	bool repair;

	(void)state;
	assert_int_equal(pst_sb_choose(&a, &a, BLOCKS - 1, &got, &repair, detail), PST_E_FORMAT);
	a.partitions[1].data_start = a.partitions[1].blocks;
	pst_sb_seal(&a);
	assert_int_equal(pst_sb_choose(&a, &a, BLOCKS, &got, &repair, detail), PST_E_FORMAT);
}

/* A log block that is torn at any sector does not follow; nor does one of another lap, incarnation or history. */
static void torn_and_stale_log_blocks_do_not_follow(void **state)
{
	struct pst_log_block block, torn;
	struct pst_log_record record = { .kind = PST_LOG_DISCARD, .slot = 1, .lba = 7, .count = 3 };

	(void)state;
	pst_log_block_init(&block, 0, 5, 100);
	while (pst_log_block_add(&block, &record, NULL, 0))
		;
	pst_log_block_seal(&block, 77);
	assert_true(pst_log_block_follows(&block, 0, 5, 100, 77));
	assert_false(pst_log_block_follows(&block, 0, 5, 116, 77));
	assert_false(pst_log_block_follows(&block, 0, 6, 100, 77));
	assert_false(pst_log_block_follows(&block, 1, 5, 100, 77));
	assert_false(pst_log_block_follows(&block, 0, 5, 100, 78));
	for (size_t sector = 0; sector < PST_BLOCK_BYTES; sector += 512) {
		torn = block;
		memset((uint8_t *)&torn + sector, 0, 512);
		assert_false(pst_log_block_follows(&torn, 0, 5, 100, 77));
	}
}

/* A record whose fields make no sense ends the walk with a complaint, not with a crash. */
static void senseless_records_are_refused(void **state)
{
	struct pst_log_block block;
	struct pst_log_record record = { .kind = PST_LOG_WRITE, .slot = 1, .lba = 7, .block = 50, .count = 100 };
	uint32_t at = 0;
	bool bad = false;

	(void)state;
	pst_log_block_init(&block, 0, 1, 1);
	assert_true(pst_log_block_add(&block, &record, NULL, 0)); /* 100 CRCs are missing */
	assert_null(pst_log_block_next(&block, &at, &bad));
	assert_true(bad);
}

/* What is taken is not taken again before it is released; a full partition gives nothing. */
static void allocator_hands_out_each_block_once(void **state)
{
	struct pst_alloc a;
	uint32_t total = 0, block = 0, got;

	(void)state;
	assert_int_equal(pst_alloc_init(&a, 0, 1000, 40), PST_OK);
	while ((got = pst_alloc_take(&a, 7, &block)) > 0) {
		assert_in_range(block, 40, 999);
		total += got;
	}
	assert_int_equal(total, 960);
	assert_int_equal(a.free_count, 0);
	pst_alloc_release(&a, 500, 3);
	assert_int_equal(pst_alloc_take(&a, 7, &block), 3);
	assert_int_equal(block, 500);
	assert_true(pst_alloc_use(&a, 500));
	assert_false(pst_alloc_use(&a, 500));
	assert_true(pst_alloc_unuse(&a, 500));
	pst_alloc_done(&a);
}

/* A row is handed out whole or not at all, and the next one follows it; single blocks in between are passed over. */
static void allocator_finds_rows(void **state)
{
	struct pst_alloc a;
	uint32_t block, first;

	(void)state;
	assert_int_equal(pst_alloc_init(&a, 0, 1000, 40), PST_OK);
	assert_int_equal(pst_alloc_take_run(&a, 100, &first), 100);
	assert_int_equal(pst_alloc_take_run(&a, 100, &block), 100);
	assert_int_equal(block, first + 100);
	assert_int_equal(pst_alloc_take_run(&a, 961, &block), 0);
	for (uint32_t b = 40; b < first; b += 64)
		pst_alloc_hold(&a, b);
	for (uint32_t b = first + 200; b < 1000; b += 64)
		pst_alloc_hold(&a, b);
	assert_int_equal(pst_alloc_take_run(&a, 64, &block), 0);
	assert_int_equal(pst_alloc_take_run(&a, 63, &block), 63);
	for (uint32_t i = 0; i < 63; i++)
		assert_true(pst_alloc_is_busy(&a, block + i));
	pst_alloc_release(&a, first, 100);
	assert_int_equal(pst_alloc_take_run(&a, 100, &block), 100);
	assert_in_range(block, first - 63, first);
	assert_int_equal(pst_alloc_take_run(&a, 0, &block), 0);
	pst_alloc_done(&a);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(one_bad_superblock_is_repaired),
		cmocka_unit_test(two_bad_superblocks_are_refused),
		cmocka_unit_test(newer_superblock_counts),
		cmocka_unit_test(unknown_feature_is_named),
		cmocka_unit_test(senseless_layouts_are_refused),
		cmocka_unit_test(torn_and_stale_log_blocks_do_not_follow),
		cmocka_unit_test(senseless_records_are_refused),
		cmocka_unit_test(allocator_hands_out_each_block_once),
		cmocka_unit_test(allocator_finds_rows),
	};

	return cmocka_run_group_tests_name("store", tests, NULL, NULL);
}

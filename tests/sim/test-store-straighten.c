/* SPDX-License-Identifier: Apache-2.0 */
/* Straightening: what random writes have scattered lies in order again, and nothing else is touched. */
#include "store-rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define MIB ((uint64_t)1 << 20)
#define BLOCKS 1024u

static uint8_t byte_of(uint64_t lba)
{
	return (uint8_t)(1 + lba % 251);
}

/* Every block of the volume, one by one, in an order that leaves no two together. */
static void scatter(struct rig *r, unsigned volume)
{
	for (uint64_t i = 0; i < BLOCKS; i++)
		assert_int_equal(rig_fill(r, volume, i * 389 % BLOCKS, 1, byte_of(i * 389 % BLOCKS)), PST_OK);
}

static struct rig *rig(uint64_t bytes)
{
	struct rig *r = rig_new(1, bytes, 2);

	rig_start(r);
	rig_create(r, 0, BLOCKS);
	return r;
}

static void assert_contents(struct rig *r, unsigned volume)
{
	for (uint64_t i = 0; i < BLOCKS; i++)
		assert_int_equal(rig_byte(r, volume, i), byte_of(i));
}

/* In how many pieces the volume lies, over all partitions. */
static uint64_t fragments(struct rig *r, unsigned volume)
{
	struct store *st = rig_store(r);
	const struct svol *v = pst_container_of(r->volumes[volume], struct svol, volume);
	uint64_t count = 0;

	for (uint64_t lba = 0; lba < BLOCKS; lba += 32)
		(void)rig_byte(r, volume, lba); /* its leaves are in memory */
	for (uint32_t p = 0; p < st->part_count; p++) {
		uint32_t last = 0;

		for (uint64_t local = 0; local < part_local(st, p, BLOCKS); local++) {
			const struct node *leaf =
			    cache_find(&st->cache, &st->parts[p], 0, map_leaf_index(v->disk.slot, local));
			uint32_t block = leaf->data->entry[local % PST_NODE_FANOUT].block;

			count += block != last + 1;
			last = block;
		}
	}
	return count;
}

static pst_err task(struct rig *r, enum pst_pool_op_kind kind, int volume, uint64_t rate)
{
	struct pst_pool_op op = { .kind = kind, .task = PST_TASK_STRAIGHTEN, .rate_bytes_per_s = rate };

	if (volume >= 0)
		rig_uuid((unsigned)volume, op.uuid);
	return rig_pool(r, op);
}

static bool idle(void *ctx)
{
	struct pst_pool_task t[4];
	uint32_t count = pst_pool_tasks(((struct rig *)ctx)->pool, t, 4);
	bool running = false;

	for (uint32_t i = 0; i < count; i++)
		running = running || t[i].running;
	return !running;
}

static void run(struct rig *r, int volume)
{
	assert_int_equal(task(r, PST_POOL_TASK_START, volume, 0), PST_OK);
	assert_true(pst_sim_run_until(r->sim, idle, r, 600 * RIG_SECOND));
}

static uint64_t written(struct rig *r)
{
	struct pst_pool_stats stats;

	pst_pool_stats(r->pool, &stats);
	return stats.device_written_bytes;
}

/* Scattered data lies in a few runs afterwards, the same data in as much space; a second run finds nothing to do. */
static void scattered_data_gets_in_order(void **state)
{
	struct rig *r = rig(16 * MIB);
	struct pst_pool_stats before, after;
	struct pst_pool_task t;
	uint64_t bytes;

	(void)state;
	scatter(r, 0);
	assert_true(fragments(r, 0) > 1000);
	pst_pool_stats(r->pool, &before);
	run(r, 0);
	pst_pool_stats(r->pool, &after);
	assert_int_equal(pst_pool_tasks(r->pool, &t, 1), 1);
	assert_int_equal(t.done_bytes, BLOCKS * PST_BLOCK_BYTES);
	assert_int_equal(t.total_bytes, BLOCKS * PST_BLOCK_BYTES);
	assert_int_equal(t.errors, 0);
	assert_in_range(fragments(r, 0), 2, 20);
	assert_int_equal(before.used_bytes, after.used_bytes);
	/* All but twice 8 blocks, which lie alone in a leaf. */
	assert_non_null(strstr(r->events, "moved_bytes=4128768 no_room_bytes=0"));
	assert_contents(r, 0);
	bytes = written(r);
	run(r, 0);
	assert_true(written(r) - bytes < 100 * PST_BLOCK_BYTES);
	rig_kill(r);
	rig_start(r);
	assert_contents(r, 0);
	rig_stop(r);
	rig_free(r);
}

/* What lies in order, and what is too short to be read in sequence, is left where it is. */
static void what_does_not_pay_is_left(void **state)
{
	struct rig *r = rig(16 * MIB);
	uint64_t bytes;

	(void)state;
	for (uint64_t i = 0; i < BLOCKS / 2; i += 16)
		assert_int_equal(rig_fill(r, 0, i, 16, 5), PST_OK);
	for (uint64_t i = BLOCKS / 2; i < BLOCKS; i++)
		if (i % 16 != 0)
			assert_int_equal(rig_fill(r, 0, BLOCKS + BLOCKS / 2 - 1 - i, 1, 6), PST_OK);
	bytes = written(r);
	run(r, -1);
	assert_non_null(strstr(r->events, "straightened volume=all moved_bytes=0"));
	assert_true(written(r) - bytes < 100 * PST_BLOCK_BYTES);
	rig_stop(r);
	rig_free(r);
}

/* The whole pool: all volumes, however many. */
static void all_volumes_of_a_pool(void **state)
{
	struct rig *r = rig(32 * MIB);

	(void)state;
	rig_create(r, 1, BLOCKS);
	rig_create(r, 2, BLOCKS);
	scatter(r, 0);
	scatter(r, 2);
	run(r, -1);
	assert_in_range(fragments(r, 0), 2, 20);
	assert_in_range(fragments(r, 2), 2, 20);
	assert_contents(r, 0);
	assert_contents(r, 2);
	rig_stop(r);
	rig_free(r);
}

/* Killed and without power again and again while it runs, it goes on by itself; no block is ever wrong. */
static void goes_on_after_crashes(void **state)
{
	struct rig *r = rig(16 * MIB);

	(void)state;
	scatter(r, 0);
	assert_int_equal(rig_io(r, 0, PST_IO_FLUSH, 0, 0, NULL), PST_OK);
	assert_int_equal(task(r, PST_POOL_TASK_START, 0, MIB), PST_OK);
	for (unsigned i = 0; i < 8; i++) {
		pst_sim_run_for(r->sim, RIG_SECOND / 2);
		if (i % 2 == 0)
			rig_kill(r);
		else
			rig_power(r);
		rig_start(r);
		assert_contents(r, 0);
	}
	assert_true(pst_sim_run_until(r->sim, idle, r, 600 * RIG_SECOND));
	assert_in_range(fragments(r, 0), 2, 32);
	assert_contents(r, 0);
	rig_stop(r);
	rig_free(r);
}

/* Free space is in single blocks: nothing is moved, and the event says what would help. */
static void without_runs_of_free_space(void **state)
{
	struct rig *r = rig(16 * MIB);

	(void)state;
	scatter(r, 0);
	for (uint32_t p = 0; p < 2; p++) {
		struct pst_alloc *a = &rig_store(r)->parts[p].alloc;

		for (uint32_t b = a->data_start; b < a->blocks; b += 12)
			if (!pst_alloc_is_busy(a, b))
				pst_alloc_hold(a, b);
	}
	run(r, 0);
	assert_non_null(strstr(r->events, "moved_bytes=0 no_room_bytes=4128768: free space is scattered too"));
	assert_contents(r, 0);
	rig_free(r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(scattered_data_gets_in_order), cmocka_unit_test(what_does_not_pay_is_left),
		cmocka_unit_test(all_volumes_of_a_pool),        cmocka_unit_test(goes_on_after_crashes),
		cmocka_unit_test(without_runs_of_free_space),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

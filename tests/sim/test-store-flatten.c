/* SPDX-License-Identifier: Apache-2.0 */
/* Flattening: a clone stands on its own afterwards, whatever happens to it, its source, or the machine meanwhile. */
#include "pool-image.h"
#include "store-rig.h"
#include "store/check.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define MIB ((uint64_t)1 << 20)
#define BLOCKS 1200u

static const uint8_t snapshot_uuid[16] = { 100 };

static uint8_t byte_of(uint64_t lba)
{
	return (uint8_t)(1 + lba / 40 % 200);
}

static pst_err snapshot(struct rig *r, unsigned volume, uint8_t first)
{
	struct pst_snapshot_member member = { .snapshot = { first } };
	struct pst_pool_op op = { .kind = PST_POOL_SNAPSHOT, .members = &member, .member_count = 1 };

	rig_uuid(volume, member.volume);
	return rig_pool(r, op);
}

static pst_err delete (struct rig *r, const uint8_t uuid[16])
{
	struct pst_pool_op op = { .kind = PST_POOL_VOLUME_DELETE };

	memcpy(op.uuid, uuid, 16);
	return rig_pool(r, op);
}

static pst_err task(struct rig *r, enum pst_pool_op_kind kind, unsigned volume, uint64_t rate)
{
	struct pst_pool_op op = { .kind = kind, .task = PST_TASK_FLATTEN, .rate_bytes_per_s = rate };

	rig_uuid(volume, op.uuid);
	return rig_pool(r, op);
}

/* Volume 1 is a clone of a snapshot of volume 0, with something of its own. */
static struct rig *rig(uint64_t seed, uint64_t bytes)
{
	struct rig *r = rig_new(seed, bytes, 2);
	struct pst_pool_op clone = { .kind = PST_POOL_CLONE, .other = { 2 } }, open = { .kind = PST_POOL_VOLUME_OPEN };

	rig_start(r);
	rig_create(r, 0, BLOCKS);
	for (uint64_t lba = 0; lba < BLOCKS; lba += 40)
		if (lba % 120 != 80)
			assert_int_equal(rig_fill(r, 0, lba, 40, byte_of(lba)), PST_OK);
	assert_int_equal(snapshot(r, 0, 100), PST_OK);
	memcpy(clone.uuid, snapshot_uuid, 16);
	assert_int_equal(rig_pool(r, clone), PST_OK);
	rig_uuid(1, open.uuid);
	assert_int_equal(rig_pool(r, open), PST_OK);
	r->volumes[1] = r->op.volume;
	assert_int_equal(rig_fill(r, 1, 100, 3, 250), PST_OK);
	assert_int_equal(rig_io(r, 1, PST_IO_DISCARD, 120, 7, NULL), PST_OK);
	assert_int_equal(rig_io(r, 1, PST_IO_FLUSH, 0, 0, NULL), PST_OK);
	return r;
}

static void assert_contents(struct rig *r)
{
	for (uint64_t lba = 0; lba < BLOCKS; lba += lba < 140 ? 1 : 7) {
		uint8_t want = lba / 40 * 40 % 120 == 80 ? 0 : byte_of(lba);

		want = lba >= 100 && lba < 103 ? 250 : lba >= 120 && lba < 127 ? 0 : want;
		assert_int_equal(rig_byte(r, 1, lba), want);
	}
}

static struct pst_volume_info info(struct rig *r, unsigned volume)
{
	struct pst_pool_op op = { .kind = PST_POOL_VOLUME_INFO };

	rig_uuid(volume, op.uuid);
	assert_int_equal(rig_pool(r, op), PST_OK);
	return r->op.info;
}

static bool has_parent(struct rig *r)
{
	static const uint8_t none[16];

	return memcmp(info(r, 1).parent, none, 16) != 0;
}

static bool idle(void *ctx)
{
	struct pst_pool_task t[8];
	uint32_t count = pst_pool_tasks(((struct rig *)ctx)->pool, t, 8);

	for (uint32_t i = 0; i < PST_MIN(count, 8u); i++)
		if (t[i].kind == PST_TASK_FLATTEN && t[i].running)
			return false;
	return true;
}

static void wait_idle(struct rig *r)
{
	assert_true(pst_sim_run_until(r->sim, idle, r, 600 * RIG_SECOND));
}

static bool image_read(void *ctx, uint64_t block, void *buf)
{
	return pst_sim_disk_peek(((struct rig *)ctx)->node, RIG_PATH, block * PST_BLOCK_BYTES, buf, PST_BLOCK_BYTES);
}

static void stop_and_check(struct rig *r)
{
	char why[256] = "";

	rig_stop(r);
	if (!pool_image_check(image_read, r, why))
		fail_msg("%s", why);
}

/* All blocks are its own, it has no parent, and its source can go, with all of its space, while it stays what it is. */
static void a_clone_stands_on_its_own(void **state)
{
	struct rig *r = rig(1, 32 * MIB);
	struct pst_volume_info after;
	uint8_t source[16];

	(void)state;
	assert_true(has_parent(r));
	assert_true(info(r, 1).own_blocks < 10);
	assert_int_equal(task(r, PST_POOL_TASK_START, 1, 0), PST_OK);
	wait_idle(r);
	after = info(r, 1);
	assert_false(has_parent(r));
	assert_int_equal(after.own_blocks, after.mapped_blocks);
	assert_contents(r);
	assert_int_equal(task(r, PST_POOL_TASK_START, 1, 0), PST_E_INVAL);
	rig_close(r, 0);
	rig_uuid(0, source);
	assert_int_equal(delete (r, source), PST_OK);
	assert_int_equal(delete (r, snapshot_uuid), PST_OK);
	pst_sim_run_for(r->sim, 60 * RIG_SECOND);
	for (uint64_t lba = 0; lba < BLOCKS; lba += 40) /* what was theirs is written over */
		assert_int_equal(rig_fill(r, 1, lba, 1, rig_byte(r, 1, lba)), PST_OK);
	assert_contents(r);
	rig_power(r);
	rig_start(r);
	assert_contents(r);
	stop_and_check(r);
	rig_free(r);
}

/* A volume that shares nothing, and a snapshot, are refused with the reason. */
static void what_has_nothing_to_flatten(void **state)
{
	struct rig *r = rig(2, 32 * MIB);
	struct pst_pool_op op = { .kind = PST_POOL_TASK_START, .task = PST_TASK_FLATTEN };

	(void)state;
	rig_create(r, 2, 64);
	assert_int_equal(task(r, PST_POOL_TASK_START, 2, 0), PST_E_INVAL);
	assert_non_null(strstr(r->op.detail, "shares nothing"));
	memcpy(op.uuid, snapshot_uuid, 16);
	assert_int_equal(rig_pool(r, op), PST_E_DENIED);
	rig_free(r);
}

/* A snapshot of the clone is taken while it runs: it ends all the same, and both keep their contents. */
static void a_snapshot_in_between(void **state)
{
	struct rig *r = rig(3, 32 * MIB);

	(void)state;
	assert_int_equal(task(r, PST_POOL_TASK_START, 1, 2 * MIB), PST_OK);
	pst_sim_run_for(r->sim, RIG_SECOND / 2);
	assert_int_equal(snapshot(r, 1, 101), PST_OK);
	wait_idle(r);
	assert_false(has_parent(r));
	assert_contents(r);
	stop_and_check(r);
	rig_free(r);
}

/* Too little space: it stops with that error and leaves the clone as it is; nothing is wrong with the pool. */
static void without_space(void **state)
{
	struct rig *r = rig(4, 7 * MIB);

	(void)state;
	assert_int_equal(task(r, PST_POOL_TASK_START, 1, 0), PST_OK);
	wait_idle(r);
	assert_true(has_parent(r));
	assert_non_null(strstr(r->events, "task_failed task=flatten"));
	assert_contents(r);
	stop_and_check(r);
	rig_free(r);
}

/*
 * Kills and power losses at every stage, with writes that are not flushed: it goes on by itself until the clone stands
 * on its own; then its source is deleted at once, and the power fails again.
 */
static void crashes_at_every_stage(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed <= 40; seed++) {
		struct rig *r = rig(100 + seed, 32 * MIB);
		uint8_t source[16];

		assert_int_equal(task(r, PST_POOL_TASK_START, 1, 0), PST_OK);
		for (unsigned crash = 0; crash < 4; crash++) {
			pst_sim_run_for(r->sim, pst_sim_rand_below(r->sim, 12 * 1000 * 1000));
			assert_int_equal(rig_fill(r, 1, 100, 3, 250), PST_OK);
			if (pst_sim_rand_below(r->sim, 2) == 0)
				rig_kill(r);
			else
				rig_power(r);
			rig_start(r);
			assert_contents(r);
		}
		wait_idle(r);
		assert_false(has_parent(r));
		rig_uuid(0, source);
		rig_close(r, 0);
		assert_int_equal(delete (r, source), PST_OK);
		assert_int_equal(delete (r, snapshot_uuid), PST_OK);
		pst_sim_run_for(r->sim, pst_sim_rand_below(r->sim, 50 * 1000 * 1000));
		rig_power(r);
		rig_start(r);
		assert_contents(r);
		pst_sim_run_for(r->sim, 60 * RIG_SECOND);
		assert_contents(r);
		stop_and_check(r);
		rig_free(r);
	}
}

/* Free space lies in short runs, so a walk leaves something: it goes on until nothing is left, not before. */
static void with_scattered_space(void **state)
{
	struct rig *r = rig(5, 32 * MIB);
	struct pst_volume_info after;

	(void)state;
	for (uint32_t p = 0; p < 2; p++) {
		struct pst_alloc *a = &rig_store(r)->parts[p].alloc;

		for (uint32_t b = a->data_start; b < a->blocks; b += 12)
			if (!pst_alloc_is_busy(a, b))
				pst_alloc_hold(a, b);
	}
	assert_int_equal(task(r, PST_POOL_TASK_START, 1, 0), PST_OK);
	wait_idle(r);
	after = info(r, 1);
	assert_false(has_parent(r));
	assert_int_equal(after.own_blocks, after.mapped_blocks);
	assert_contents(r);
	rig_free(r);
}

static pst_err crashed_read(void *ctx, uint32_t device, uint64_t block, void *buf)
{
	(void)device;
	return image_read(ctx, block, buf) ? PST_OK : PST_E_RANGE;
}

static void finding(void *ctx, bool repaired, const char *text)
{
	(void)ctx;
	(void)repaired;
	fail_msg("%s", text);
}

static void check_crashed(struct rig *r)
{
	struct pst_check check = { .data = true, .finding = finding };
	struct pst_check_io io = { .ctx = r,
				   .devices = 1,
				   .blocks = pst_sim_disk_size(r->node, RIG_PATH) / PST_BLOCK_BYTES,
				   .read = crashed_read,
				   .boot_id = "" };
	char detail[200] = "";

	assert_int_equal(pst_check_pool(&io, &check, detail), PST_OK);
	assert_int_equal(check.findings, 0);
}

static bool detaching(void *ctx)
{
	return rig_store(ctx)->control.also == PST_ALSO_DETACH;
}

/*
 * The power fails around the record that ends it, and any part of what was not flushed is gone: either the clone still
 * has its parent, or it needs it no more. The checker judges that, before the task goes on.
 */
static void power_loss_at_the_end(void **state)
{
	struct pst_sim_faults faults = { .disk_keep_percent = 101 };

	(void)state;
	for (uint64_t seed = 1; seed <= 120; seed++) {
		struct rig *r = rig(1000 + seed, 24 * MIB);
		uint8_t source[16];

		pst_sim_set_faults(r->sim, NULL, &faults);
		assert_int_equal(task(r, PST_POOL_TASK_START, 1, 0), PST_OK);
		assert_true(pst_sim_run_until(r->sim, detaching, r, 600 * RIG_SECOND));
		pst_sim_run_for(r->sim, pst_sim_rand_below(r->sim, 400 * 1000));
		rig_power(r);
		check_crashed(r);
		rig_start(r);
		assert_contents(r);
		wait_idle(r);
		assert_false(has_parent(r));
		rig_uuid(0, source);
		rig_close(r, 0);
		assert_int_equal(delete (r, source), PST_OK);
		assert_int_equal(delete (r, snapshot_uuid), PST_OK);
		pst_sim_run_for(r->sim, 60 * RIG_SECOND);
		assert_contents(r);
		stop_and_check(r);
		rig_free(r);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_clone_stands_on_its_own), cmocka_unit_test(what_has_nothing_to_flatten),
		cmocka_unit_test(a_snapshot_in_between),     cmocka_unit_test(without_space),
		cmocka_unit_test(crashes_at_every_stage),    cmocka_unit_test(with_scattered_space),
		cmocka_unit_test(power_loss_at_the_end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* The frame for work in the background, with a kind of task that only counts. */
#include "check-image.h"
#include "store-rig.h"
#include "store/task.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#define MIB ((uint64_t)1 << 20)
#define UNIT (64u * 1024)
#define UNITS 32u
#define WORK_NS ((uint64_t)200 * 1000)

/* A unit of work takes WORK_NS and a buffer. position[0] is the next unit. */
struct count_slot {
	struct task *task;
	struct pst_timer timer;
	uint8_t *buffer;
};

struct count_state {
	struct count_slot slots[TASK_BUFFERS];
	unsigned out;
};

static unsigned out_max, begins, ends;

static void worked(struct pst_timer *timer)
{
	struct count_slot *slot = pst_container_of(timer, struct count_slot, timer);
	uint8_t *buffer = slot->buffer;

	((struct count_state *)slot->task->state)->out--;
	slot->buffer = NULL;
	task_give(slot->task, buffer);
}

static pst_err count_begin(struct task *t)
{
	begins++;
	t->total_bytes = UNITS * (uint64_t)UNIT;
	return PST_OK;
}

static enum task_step count_step(struct task *t)
{
	struct count_state *s = t->state;
	unsigned i = 0;

	if (t->position[0] == UNITS)
		return TASK_DONE;
	while (i < TASK_BUFFERS && s->slots[i].buffer != NULL)
		i++;
	if (i == TASK_BUFFERS)
		return TASK_WAIT;
	s->slots[i].buffer = task_take(t, UNIT);
	if (s->slots[i].buffer == NULL)
		return TASK_WAIT;
	s->slots[i].task = t;
	memset(s->slots[i].buffer, 0, TASK_BUFFER_BLOCKS * PST_BLOCK_BYTES);
	s->out++;
	out_max = PST_MAX(out_max, s->out);
	pst_timer_init(&s->slots[i].timer, worked);
	pst_timer_arm(t->store->pool.env, &s->slots[i].timer, pst_env_now_ns(t->store->pool.env) + WORK_NS);
	t->position[0]++;
	t->done_bytes += UNIT;
	return TASK_MORE;
}

static void count_end(struct task *t)
{
	assert_int_equal(((struct count_state *)t->state)->out, 0);
	ends++;
}

static const struct task_ops count_ops = { .name = "count",
					   .flags = TASK_OF_POOL | TASK_OF_VOLUME,
					   .state_bytes = sizeof(struct count_state),
					   .begin = count_begin,
					   .step = count_step,
					   .end = count_end };
static const struct task_ops *const test_kinds[PST_TASK_KINDS] = { [PST_TASK_SCRUB] = &count_ops };

static void start(struct rig *r)
{
	rig_start(r);
	rig_store(r)->tasks->kinds = test_kinds;
	tasks_load(rig_store(r));
}

static struct rig *rig(void)
{
	struct rig *r = rig_new(1, 8 * MIB, 1);

	out_max = begins = ends = 0;
	start(r);
	return r;
}

static pst_err task(struct rig *r, enum pst_pool_op_kind kind, int volume, uint64_t rate)
{
	struct pst_pool_op op = { .kind = kind, .task = PST_TASK_SCRUB, .rate_bytes_per_s = rate };

	if (volume >= 0)
		rig_uuid((unsigned)volume, op.uuid);
	return rig_pool(r, op);
}

static struct pst_pool_task only_task(struct rig *r)
{
	struct pst_pool_task t[2];

	assert_int_equal(pst_pool_tasks(r->pool, t, 2), 1);
	return t[0];
}

static bool idle(void *ctx)
{
	return !only_task(ctx).running;
}

static void wait_idle(struct rig *r)
{
	assert_true(pst_sim_run_until(r->sim, idle, r, 600 * RIG_SECOND));
}

/* It runs to its end, several operations at once, and stays in the list with its counts; then it can run again. */
static void runs_to_its_end(void **state)
{
	struct rig *r = rig();

	(void)state;
	for (unsigned i = 1; i <= 2; i++) {
		assert_int_equal(task(r, PST_POOL_TASK_START, -1, 0), PST_OK);
		wait_idle(r);
		assert_int_equal(only_task(r).done_bytes, UNITS * UNIT);
		assert_int_equal(only_task(r).total_bytes, UNITS * UNIT);
		assert_int_equal(begins, i);
		assert_int_equal(ends, i);
		assert_int_equal(out_max, TASK_BUFFERS);
	}
	assert_null(rig_store(r)->tasks->memory);
	rig_stop(r);
	rig_free(r);
}

/* At 256 KiB/s, 2 MiB take 8 s; asked for another rate while it runs, it takes that, and says that it runs. */
static void keeps_its_rate(void **state)
{
	struct rig *r = rig();
	uint64_t begun = pst_sim_now_ns(r->sim), took;

	(void)state;
	assert_int_equal(task(r, PST_POOL_TASK_START, -1, 256 * 1024), PST_OK);
	wait_idle(r);
	took = pst_sim_now_ns(r->sim) - begun;
	assert_in_range(took / 1000000, 7600, 8200);

	assert_int_equal(task(r, PST_POOL_TASK_START, -1, 1024), PST_OK);
	pst_sim_run_for(r->sim, RIG_SECOND);
	assert_true(only_task(r).running);
	assert_int_equal(task(r, PST_POOL_TASK_START, -1, 0), PST_E_EXISTS);
	begun = pst_sim_now_ns(r->sim);
	wait_idle(r);
	assert_in_range((pst_sim_now_ns(r->sim) - begun) / 1000000, 0, 100);
	rig_stop(r);
	rig_free(r);
}

/* While requests come, one operation is under way at a time, and there are pauses between. */
static void goes_slower_beside_requests(void **state)
{
	struct rig *r = rig();
	uint64_t begun;

	(void)state;
	rig_create(r, 0, 64);
	assert_int_equal(rig_fill(r, 0, 0, 1, 1), PST_OK);
	begun = pst_sim_now_ns(r->sim);
	assert_int_equal(task(r, PST_POOL_TASK_START, -1, 0), PST_OK);
	while (only_task(r).running)
		(void)rig_byte(r, 0, 0);
	assert_int_equal(out_max, 1);
	assert_true(pst_sim_now_ns(r->sim) - begun > UNITS * WORK_NS * 4);
	rig_stop(r);
	rig_free(r);
}

/* Stopped, it goes on where it was: when started again, after the pool was closed, and (if it ran) by itself. */
static void goes_on_where_it_stopped(void **state)
{
	struct rig *r = rig();
	uint64_t done;

	(void)state;
	assert_int_equal(task(r, PST_POOL_TASK_STOP, -1, 0), PST_E_NOTFOUND);
	assert_int_equal(task(r, PST_POOL_TASK_START, -1, 256 * 1024), PST_OK);
	pst_sim_run_for(r->sim, 2 * RIG_SECOND);
	assert_int_equal(task(r, PST_POOL_TASK_STOP, -1, 0), PST_OK);
	assert_false(only_task(r).running);
	done = only_task(r).done_bytes;
	assert_in_range(done, 256 * 1024, MIB);
	pst_sim_run_for(r->sim, 2 * RIG_SECOND);
	assert_int_equal(only_task(r).done_bytes, done);

	rig_kill(r); /* stopping is durable, and with it where it stopped */
	start(r);
	assert_false(only_task(r).running);
	assert_int_equal(only_task(r).done_bytes, done);
	assert_int_equal(task(r, PST_POOL_TASK_START, -1, 256 * 1024), PST_OK);
	pst_sim_run_for(r->sim, 2 * RIG_SECOND);
	assert_true(only_task(r).done_bytes > done);

	done = only_task(r).done_bytes;
	rig_stop(r);
	start(r);
	assert_true(only_task(r).running);
	assert_true(only_task(r).done_bytes >= done);
	wait_idle(r);
	assert_int_equal(only_task(r).done_bytes, UNITS * UNIT);
	rig_stop(r);
	rig_free(r);
}

/* The power fails: it goes on by itself, from where a checkpoint has seen it at most a good half minute before. */
static void goes_on_after_power_loss(void **state)
{
	struct rig *r = rig();

	(void)state;
	assert_int_equal(task(r, PST_POOL_TASK_START, -1, 16 * 1024), PST_OK);
	pst_sim_run_for(r->sim, 100 * RIG_SECOND);
	rig_power(r);
	start(r);
	assert_true(only_task(r).running);
	assert_in_range(only_task(r).done_bytes, 60 * 16 * 1024, UNITS * UNIT);
	wait_idle(r);
	assert_int_equal(only_task(r).done_bytes, UNITS * UNIT);
	rig_stop(r);
	rig_free(r);
}

static void seen(void *ctx, const char *key, const void *value, uint32_t value_bytes)
{
	(void)key;
	(void)value;
	(void)value_bytes;
	(*(unsigned *)ctx)++;
}

/* The store's own records are not shown to users, and can't be written or deleted by them. */
static void its_record_is_the_stores_own(void **state)
{
	struct rig *r = rig();
	struct pst_pool_op put = { .kind = PST_POOL_RECORD_PUT, .key = ".task/count", .value = "x", .value_bytes = 1 };
	struct pst_pool_op del = { .kind = PST_POOL_RECORD_DELETE, .key = ".task/count" };
	unsigned count = 0;

	(void)state;
	assert_int_equal(task(r, PST_POOL_TASK_START, -1, 1024), PST_OK);
	assert_int_equal(rig_store(r)->records.count, 1);
	pst_pool_records(r->pool, "", seen, &count);
	assert_int_equal(count, 0);
	assert_int_equal(rig_pool(r, put), PST_E_DENIED);
	assert_int_equal(rig_pool(r, del), PST_E_DENIED);
	put.key = "mine";
	assert_int_equal(rig_pool(r, put), PST_OK);
	pst_pool_records(r->pool, "", seen, &count);
	assert_int_equal(count, 1);
	rig_stop(r);
	rig_free(r);
}

/* A task of a volume needs one, and is gone with it, though it was at work: also after a crash right then. */
static void vanishes_with_its_volume(void **state)
{
	struct rig *r = rig();
	struct pst_pool_op del = { .kind = PST_POOL_VOLUME_DELETE };
	struct pst_pool_task t[2];

	(void)state;
	assert_int_equal(task(r, PST_POOL_TASK_START, 0, 0), PST_E_NOTFOUND);
	rig_create(r, 0, 64);
	assert_int_equal(task(r, PST_POOL_TASK_START, 0, 1024), PST_OK);
	pst_sim_run_for(r->sim, RIG_SECOND);
	rig_close(r, 0);
	rig_uuid(0, del.uuid);
	assert_int_equal(rig_pool(r, del), PST_OK);
	pst_sim_run_for(r->sim, RIG_SECOND);
	assert_int_equal(pst_pool_tasks(r->pool, t, 2), 0);
	assert_int_equal(begins, ends);
	rig_power(r);
	start(r);
	/* The end of the deletion may have gone with the power: then it has been repeated, and is listed. */
	if (pst_pool_tasks(r->pool, t, 2) > 0)
		assert_int_equal(t[0].kind, PST_TASK_DELETE);
	assert_in_range(pst_pool_tasks(r->pool, t, 2), 0, 1);
	rig_stop(r);
	rig_free(r);
}

static struct pst_pool_task deletion(struct rig *r)
{
	struct pst_pool_task t[4];
	uint32_t count = pst_pool_tasks(r->pool, t, 4);

	for (uint32_t i = 0; i < count; i++)
		if (t[i].kind == PST_TASK_DELETE)
			return t[i];
	return (struct pst_pool_task){ .kind = PST_TASK_KINDS };
}

/* Deletion starts by itself, keeps the rate that it was given, also at the next open, and can't be stopped. */
static void deletion_keeps_its_rate(void **state)
{
	struct rig *r = rig_new(7, (uint64_t)64 << 20, 2);
	struct pst_pool_op rate = { .kind = PST_POOL_TASK_START, .task = PST_TASK_DELETE, .rate_bytes_per_s = 1 << 20 };
	struct pst_pool_op end = { .kind = PST_POOL_TASK_STOP, .task = PST_TASK_DELETE };
	struct pst_pool_op del = { .kind = PST_POOL_VOLUME_DELETE };
	struct pst_pool_stats before, after;

	(void)state;
	rig_start(r);
	pst_pool_stats(r->pool, &before);
	assert_int_equal(deletion(r).kind, PST_TASK_KINDS);
	assert_int_equal(rig_pool(r, rate), PST_OK);
	rig_create(r, 0, 8192);
	for (uint64_t lba = 0; lba < 8192; lba += 512)
		assert_int_equal(rig_fill(r, 0, lba, 512, 1), PST_OK);
	rig_close(r, 0);
	rig_uuid(0, del.uuid);
	assert_int_equal(rig_pool(r, del), PST_OK);
	pst_sim_run_for(r->sim, 5 * RIG_SECOND);
	assert_true(deletion(r).running);
	assert_in_range(deletion(r).done_bytes, 1 << 20, 9 << 20); /* one leaf is 2 MiB */
	assert_int_equal(rig_pool(r, end), PST_E_DENIED);
	rig_stop(r);
	rig_start(r);
	assert_int_equal(deletion(r).rate_bytes_per_s, 1 << 20);
	pst_sim_run_for(r->sim, 5 * RIG_SECOND);
	assert_true(deletion(r).running);
	pst_sim_run_for(r->sim, 40 * RIG_SECOND);
	assert_false(deletion(r).running);
	pst_pool_stats(r->pool, &after);
	assert_true(after.used_bytes <= before.used_bytes + (64 << 10)); /* the catalog's own nodes */
	rig_stop(r);
	rig_free(r);
}

/*
 * A rate of next to nothing holds up neither a snapshot, which needs the tree of versions to stand still, nor writes
 * that need the space, nor the end.
 */
static void deletion_goes_on_when_it_is_needed(void **state)
{
	struct rig *r = rig_new(8, (uint64_t)64 << 20, 2);
	struct pst_pool_op rate = { .kind = PST_POOL_TASK_START, .task = PST_TASK_DELETE, .rate_bytes_per_s = 1 };
	struct pst_pool_op del = { .kind = PST_POOL_VOLUME_DELETE };
	struct pst_snapshot_member member;
	struct pst_pool_op snapshot = { .kind = PST_POOL_SNAPSHOT, .members = &member, .member_count = 1 };

	(void)state;
	rig_start(r);
	assert_int_equal(rig_pool(r, rate), PST_OK);
	rig_create(r, 0, 12288);
	rig_create(r, 1, 12288);
	for (uint64_t lba = 0; lba < 8192; lba += 512)
		assert_int_equal(rig_fill(r, 0, lba, 512, 1), PST_OK);
	rig_close(r, 0);
	rig_uuid(0, del.uuid);
	assert_int_equal(rig_pool(r, del), PST_OK);
	pst_sim_run_for(r->sim, 5 * RIG_SECOND);
	rig_uuid(1, member.volume);
	rig_uuid(2, member.snapshot);
	assert_int_equal(rig_pool(r, snapshot), PST_OK);
	assert_true(deletion(r).running);
	rig_stop(r);
	rig_start(r);
	assert_true(deletion(r).running);
	for (uint64_t lba = 0; lba < 12288; lba += 512)
		assert_int_equal(rig_fill(r, 1, lba, 512, 2), PST_OK);
	rig_stop(r);
	rig_free(r);
}

static void deletion_rate(struct rig *r, uint64_t bytes_per_s)
{
	struct pst_pool_op rate = { .kind = PST_POOL_TASK_START,
				    .task = PST_TASK_DELETE,
				    .rate_bytes_per_s = bytes_per_s };

	assert_int_equal(rig_pool(r, rate), PST_OK);
}

static void remove_version(struct rig *r, unsigned number)
{
	struct pst_pool_op del = { .kind = PST_POOL_VOLUME_DELETE };

	rig_uuid(number, del.uuid);
	assert_int_equal(rig_pool(r, del), PST_OK);
}

static void snapshot(struct rig *r, unsigned volume, unsigned number)
{
	struct pst_snapshot_member member;
	struct pst_pool_op op = { .kind = PST_POOL_SNAPSHOT, .members = &member, .member_count = 1 };

	rig_uuid(volume, member.volume);
	rig_uuid(number, member.snapshot);
	assert_int_equal(rig_pool(r, op), PST_OK);
}

static uint64_t used_bytes(struct rig *r)
{
	struct pst_pool_stats s;

	pst_pool_stats(r->pool, &s);
	return s.used_bytes;
}

/* Killed, checked and started again. */
static void restart(struct rig *r)
{
	char boot_id[37], why[512];

	pst_env_boot_id(r->env, boot_id);
	rig_kill(r);
	if (!check_image(rig_read_block, r, 1, pst_sim_disk_size(r->node, RIG_PATH) / PST_BLOCK_BYTES, boot_id, why))
		fail_msg("%s", why);
	rig_start(r);
}

/*
 * A snapshot that has taken over what a deleted one had is merged node by node into its volume, and the volume is
 * deleted in the midst of that, after @seconds: no node is given back twice, nothing stays. A node of the map that both
 * have is free only once.
 */
static void delete_both(uint64_t seconds)
{
	struct rig *r = rig_new(9 + seconds, (uint64_t)64 << 20, 1);
	uint64_t empty;

	rig_start(r);
	rig_create(r, 0, 4096);
	rig_close(r, 0);
	remove_version(r, 0);
	pst_sim_run_for(r->sim, 10 * RIG_SECOND);
	empty = used_bytes(r);
	rig_create(r, 0, 4096);
	for (uint64_t lba = 0; lba < 4096; lba += 512)
		assert_int_equal(rig_fill(r, 0, lba, 512, 1), PST_OK);
	snapshot(r, 0, 1);
	assert_int_equal(rig_fill(r, 0, 0, 1, 2), PST_OK);
	snapshot(r, 0, 2);
	remove_version(r, 1);
	pst_sim_run_for(r->sim, 30 * RIG_SECOND);
	assert_false(deletion(r).running);
	deletion_rate(r, 2 << 20);
	remove_version(r, 2);
	pst_sim_run_for(r->sim, seconds * RIG_SECOND);
	rig_close(r, 0);
	remove_version(r, 0);
	pst_sim_run_for(r->sim, 4 * RIG_SECOND);
	restart(r);
	restart(r); /* now with the checkpoint of what had been done by then */
	rig_create(r, 3, 4096);
	assert_int_equal(rig_fill(r, 3, 0, 512, 3), PST_OK);
	pst_sim_run_for(r->sim, 60 * RIG_SECOND);
	assert_false(deletion(r).running);
	restart(r);
	assert_int_equal(rig_byte(r, 3, 511), 3);
	rig_close(r, 3);
	remove_version(r, 3);
	pst_sim_run_for(r->sim, 60 * RIG_SECOND);
	assert_in_range(used_bytes(r), 0, empty + (64 << 10));
	rig_stop(r);
	rig_free(r);
}

static void child_is_deleted_while_its_parent_is_merged(void **state)
{
	(void)state;
	for (uint64_t seconds = 0; seconds < 12; seconds++)
		delete_both(seconds);
}

/*
 * The volume frees what it has got from its deleted snapshot, down to nothing, while that is still being merged into
 * it, after @seconds; then it is written again. What the two own adds up at every moment.
 */
static void empty_in_the_midst(uint64_t seconds)
{
	struct rig *r = rig_new(30 + seconds, (uint64_t)64 << 20, 1);

	rig_start(r);
	rig_create(r, 0, 4096);
	for (uint64_t lba = 0; lba < 4096; lba += 512)
		assert_int_equal(rig_fill(r, 0, lba, 512, 1), PST_OK);
	snapshot(r, 0, 1);
	for (uint64_t lba = 2048; lba < 4096;
	     lba += 512) /* to be freed, which takes time; the rest is passed on at once */
		assert_int_equal(rig_fill(r, 0, lba, 512, 2), PST_OK);
	deletion_rate(r, 2 << 20);
	remove_version(r, 1);
	pst_sim_run_for(r->sim, seconds * RIG_SECOND);
	assert_int_equal(rig_io(r, 0, PST_IO_DISCARD, 1, 4095, NULL), PST_OK);
	assert_int_equal(rig_io(r, 0, PST_IO_DISCARD, 0, 1, NULL), PST_OK);
	restart(r);
	assert_int_equal(rig_fill(r, 0, 100, 512, 3), PST_OK);
	pst_sim_run_for(r->sim, 60 * RIG_SECOND);
	assert_false(deletion(r).running);
	restart(r);
	assert_int_equal(rig_byte(r, 0, 611), 3);
	rig_stop(r);
	rig_free(r);
}

static void volume_is_emptied_while_its_snapshot_is_merged(void **state)
{
	(void)state;
	for (uint64_t seconds = 0; seconds < 10; seconds++)
		empty_in_the_midst(seconds);
}

/*
 * A volume that shared with a snapshot when partition 1 had its last checkpoint is emptied piece by piece and deleted:
 * the catalog does not know it any more, partition 1's root still has its tree. What that counts as the volume's own is
 * nothing to judge by.
 */
static void deleted_version_of_an_older_root_is_no_finding(void **state)
{
	struct rig *r = rig_new(11, (uint64_t)64 << 20, 2);
	uint64_t generation;

	(void)state;
	rig_start(r);
	rig_create(r, 0, 1000);
	assert_int_equal(rig_fill(r, 0, 0, 1000, 1), PST_OK);
	snapshot(r, 0, 1);
	assert_int_equal(rig_fill(r, 0, 0, 512, 2), PST_OK);
	rig_stop(r);
	rig_start(r);
	generation = rig_store(r)->parts[1].generation;
	assert_int_equal(rig_io(r, 0, PST_IO_DISCARD, 0, 999, NULL), PST_OK);
	assert_int_equal(rig_io(r, 0, PST_IO_DISCARD, 999, 1, NULL), PST_OK);
	rig_close(r, 0);
	remove_version(r, 0);
	pst_sim_run_for(r->sim, RIG_SECOND);
	assert_false(deletion(r).running);
	assert_int_equal(rig_store(r)->parts[1].generation, generation);
	restart(r);
	assert_int_equal(rig_byte(r, 1, 999), 1);
	rig_stop(r);
	rig_free(r);
}

/* Kinds that can't be started say so. */
static void what_does_not_exist_is_refused(void **state)
{
	struct rig *r = rig();
	struct pst_pool_op op = { .kind = PST_POOL_TASK_START, .task = PST_TASK_KINDS };

	(void)state;
	assert_int_equal(rig_pool(r, op), PST_E_INVAL);
	op.task = PST_TASK_DELETE;
	assert_int_equal(rig_pool(r, op), PST_E_UNSUPPORTED);
	rig_stop(r);
	rig_free(r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(runs_to_its_end),
		cmocka_unit_test(keeps_its_rate),
		cmocka_unit_test(goes_slower_beside_requests),
		cmocka_unit_test(goes_on_where_it_stopped),
		cmocka_unit_test(goes_on_after_power_loss),
		cmocka_unit_test(its_record_is_the_stores_own),
		cmocka_unit_test(vanishes_with_its_volume),
		cmocka_unit_test(deletion_keeps_its_rate),
		cmocka_unit_test(deletion_goes_on_when_it_is_needed),
		cmocka_unit_test(child_is_deleted_while_its_parent_is_merged),
		cmocka_unit_test(volume_is_emptied_while_its_snapshot_is_merged),
		cmocka_unit_test(deleted_version_of_an_older_root_is_no_finding),
		cmocka_unit_test(what_does_not_exist_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

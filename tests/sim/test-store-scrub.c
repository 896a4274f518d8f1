/* SPDX-License-Identifier: Apache-2.0 */
/* What the store says and mends when the device does not give back what was written: read by a host, and by the scrub.
 */
#include "base/prng.h"
#include "store-rig.h"
#include "store/scrub.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define MIB ((uint64_t)1 << 20)
#define B PST_BLOCK_BYTES
#define BLOCKS 3000u /* of the volume: several leaves in each partition */

static struct rig *rig(void)
{
	struct rig *r = rig_new(1, 64 * MIB, 2);

	rig_start(r);
	rig_create(r, 0, BLOCKS);
	for (uint64_t lba = 0; lba < BLOCKS; lba += 100)
		assert_int_equal(rig_fill(r, 0, lba, 100, (uint8_t)(lba / 100 + 1)), PST_OK);
	assert_int_equal(rig_io(r, 0, PST_IO_FLUSH, 0, 0, NULL), PST_OK);
	return r;
}

/* So that all is on the disk and little in memory. */
static void reopen(struct rig *r)
{
	rig_stop(r);
	rig_start(r);
}

static bool ran;

static void node_loaded(struct waiter *w)
{
	(void)w;
	ran = true;
}

static bool has_run(void *ctx)
{
	(void)ctx;
	return ran;
}

static uint64_t offset_of(struct rig *r, uint32_t part, uint64_t block)
{
	return (rig_store(r)->parts[part].geo.start + block) * B;
}

static struct part *part_of(struct rig *r, uint64_t lba, uint64_t *ret_local)
{
	struct store *st = rig_store(r);
	uint64_t stripe = lba / PST_STRIPE_BLOCKS;

	*ret_local = stripe / st->part_count * PST_STRIPE_BLOCKS + lba % PST_STRIPE_BLOCKS;
	return &st->parts[stripe % st->part_count];
}

static struct pst_ptr pointer_to(struct rig *r, unsigned level, unsigned volume, uint64_t lba)
{
	struct waiter w = { .run = node_loaded };
	struct node *n = NULL;
	uint8_t uuid[16];
	uint64_t local, leaf;
	struct part *p = part_of(r, lba, &local);
	enum map_result got;

	rig_uuid(volume, uuid);
	leaf = map_leaf_index(svol_find(rig_store(r), uuid)->disk.slot, local);
	pst_list_init(&w.node);
	while ((got = map_get(p, level, level == 0 ? leaf : leaf / PST_NODE_FANOUT, false, &w, &n)) == MAP_WAIT) {
		ran = false;
		assert_true(pst_sim_run_until(r->sim, has_run, NULL, RIG_SECOND));
	}
	assert_int_equal(got, MAP_OK);
	return n->data->entry[level == 0 ? local % PST_NODE_FANOUT : leaf % PST_NODE_FANOUT];
}

/* Where the block lies that the volume has at @lba (level 0), or the leaf over it (1). */
static uint64_t place(struct rig *r, unsigned level, unsigned volume, uint64_t lba)
{
	uint64_t local;
	struct part *p = part_of(r, lba, &local);

	return offset_of(r, p->index, pst_ptr_block(pointer_to(r, level, volume, lba)));
}

static void rot(struct rig *r, uint64_t offset)
{
	uint8_t byte;

	assert_true(pst_sim_disk_peek(r->node, RIG_PATH, offset + 77, &byte, 1));
	byte ^= 4;
	assert_true(pst_sim_disk_poke(r->node, RIG_PATH, offset + 77, &byte, 1));
}

static pst_err scrub(struct rig *r, enum pst_pool_op_kind kind, uint64_t rate)
{
	struct pst_pool_op op = { .kind = kind, .task = PST_TASK_SCRUB, .rate_bytes_per_s = rate };

	return rig_pool(r, op);
}

static struct pst_pool_task progress(struct rig *r)
{
	struct pst_pool_task task;

	assert_int_equal(pst_pool_tasks(r->pool, &task, 1), 1);
	assert_int_equal(task.kind, PST_TASK_SCRUB);
	return task;
}

static bool scrub_ended(void *ctx)
{
	return !progress(ctx).running;
}

/* From start to end; returns how much was bad. */
static uint64_t scrub_all(struct rig *r)
{
	assert_int_equal(scrub(r, PST_POOL_TASK_START, 0), PST_OK);
	assert_true(pst_sim_run_until(r->sim, scrub_ended, r, 60 * RIG_SECOND));
	pst_sim_run_for(r->sim, RIG_SECOND); /* checkpoints that it has asked for */
	return progress(r).errors;
}

static bool said(struct rig *r, const char *text)
{
	return strstr(r->events, text) != NULL;
}

static unsigned times_said(struct rig *r, const char *text)
{
	unsigned n = 0;

	for (const char *at = r->events; (at = strstr(at, text)) != NULL; at++)
		n++;
	return n;
}

/* A scrub of a sound pool reads every block that is in use exactly once, and finds nothing. */
static void sound_pool(void **state)
{
	struct rig *r = rig();
	struct pst_pool_stats before, after;
	uint64_t nodes_and_data;

	(void)state;
	reopen(r);
	pst_pool_stats(r->pool, &before);
	assert_int_equal(scrub_all(r), 0);
	pst_pool_stats(r->pool, &after);
	nodes_and_data = progress(r).done_bytes;
	assert_int_equal(after.checksum_errors, 0);
	assert_int_equal(nodes_and_data, before.used_bytes);
	/* Beside those: roots, superblocks, the space map, and the nodes that the map loads for itself. */
	assert_in_range(after.device_read_bytes - before.device_read_bytes, nodes_and_data, nodes_and_data + 40 * B);
	assert_true(said(r, "scrub_ended"));
	rig_free(r);
}

/* Rot is found by the scrub and named; the host gets a media error and no data; overwriting heals it, and says so. */
static void rotten_data(void **state)
{
	struct rig *r = rig();
	struct pst_pool_stats stats;
	uint8_t buf[8 * B];

	(void)state;
	rot(r, place(r, 0, 0, 1234));
	rot(r, place(r, 0, 0, 1235));
	rot(r, place(r, 0, 0, 2999));
	reopen(r);
	assert_int_equal(scrub_all(r), 3);
	assert_true(said(r, "bad_block volume=01000000-0000-0000-0000-000000000000 lba=1234 blocks=2 "));
	assert_true(said(r, "bad_block volume=01000000-0000-0000-0000-000000000000 lba=2999 blocks=1 "));
	assert_int_equal(times_said(r, "bad_block "), 2);
	pst_pool_stats(r->pool, &stats);
	assert_int_equal(stats.bad_blocks, 3);

	memset(buf, 0x55, sizeof(buf));
	assert_int_equal(rig_io(r, 0, PST_IO_READ, 1230, 8, buf), PST_E_CHECKSUM);
	for (unsigned i = 4 * B; i < 6 * B; i++)
		assert_int_equal(buf[i], 0);
	assert_int_equal(times_said(r, "bad_block "), 2); /* known: not again */

	assert_int_equal(rig_fill(r, 0, 1234, 2, 9), PST_OK);
	assert_int_equal(times_said(r, "bad_block_healed"), 2);
	assert_int_equal(rig_byte(r, 0, 1235), 9);
	pst_pool_stats(r->pool, &stats);
	assert_int_equal(stats.bad_blocks, 1);
	assert_int_equal(scrub_all(r), 1);
	rig_free(r);
}

/* A host that reads first is what tells; sectors that can't be read are told like wrong data. */
static void read_tells(void **state)
{
	struct rig *r = rig();
	uint8_t buf[4 * B];

	(void)state;
	reopen(r);
	assert_true(pst_sim_disk_damage(r->node, RIG_PATH, place(r, 0, 0, 700), 512));
	rot(r, place(r, 0, 0, 800));
	assert_int_equal(rig_io(r, 0, PST_IO_READ, 700, 1, buf), PST_E_IO);
	assert_int_equal(rig_io(r, 0, PST_IO_READ, 798, 4, buf), PST_E_CHECKSUM);
	pst_sim_run_for(r->sim, RIG_SECOND);
	assert_true(said(r, "lba=700 blocks=1 "));
	assert_true(said(r, "error=PST_E_IO found_by=read"));
	assert_true(said(r, "lba=800 blocks=1 "));
	assert_true(said(r, "error=PST_E_CHECKSUM found_by=read"));
	rig_free(r);
}

/* Writes that never happened or went elsewhere: the scrub finds each block that was hit, and no other. */
static void lost_and_misdirected(void **state)
{
	(void)state;
	for (unsigned which = 0; which < 2; which++) {
		struct rig *r = rig();
		struct pst_sim_faults faults = { 0 };
		struct part *p = &rig_store(r)->parts[0];
		uint64_t bad = 0;

		/* Data only: the log would be found by the next start. */
		faults.disk_lost_ppm = which == 0 ? 1000000 : 0;
		faults.disk_misdirect_ppm = which == 1 ? 1000000 : 0;
		faults.disk_corrupt_from = offset_of(r, 0, p->geo.data_start);
		faults.disk_corrupt_to = offset_of(r, 0, p->geo.blocks);
		pst_sim_set_faults(r->sim, r->node, &faults);
		assert_int_equal(rig_fill(r, 0, 10, 1, 0xa5), PST_OK);
		pst_sim_heal(r->sim);
		assert_true(scrub_all(r) >= 1);
		for (uint64_t lba = 0; lba < BLOCKS; lba++) {
			uint8_t buf[B];
			pst_err err = rig_io(r, 0, PST_IO_READ, lba, 1, buf);

			assert_true(err == PST_OK || err == PST_E_CHECKSUM);
			bad += err != PST_OK;
		}
		assert_int_equal(bad, progress(r).errors);
		rig_free(r);
	}
}

/* What exists twice is written again: afterwards nothing is wrong, and the other copy may be lost. */
static void copies_are_mended(void **state)
{
	struct rig *r = rig();
	struct store *st;
	uint64_t mirror, root, page;
	uint8_t *junk = calloc(1, B);

	(void)state;
	reopen(r);
	st = rig_store(r);
	mirror = pst_sim_disk_size(r->node, RIG_PATH) - B;
	root = offset_of(r, 1, st->parts[1].generation % 2 * 2);
	page = offset_of(r, 0, part_space_page(&st->parts[0], 0, st->parts[0].alloc.page_copy[0]));
	rot(r, 0);
	rot(r, root);
	rot(r, page);
	assert_int_equal(scrub_all(r), 3);
	assert_true(said(r, "superblock_repaired copy=0"));
	assert_true(said(r, "root_copy_damaged partition=1"));
	assert_true(said(r, "space_map_page_damaged partition=0 number=0"));
	assert_int_equal(scrub_all(r), 0);
	assert_true(pst_sim_disk_poke(r->node, RIG_PATH, mirror, junk, B));
	rig_kill(r);
	rig_start(r);
	assert_int_equal(rig_byte(r, 0, 2999), 30);
	free(junk);
	rig_free(r);
}

/* A sector that can't be read is no worse than one that rots: of two copies the other counts. Both: the open says so.
 */
static void unreadable_copies_do_no_harm(void **state)
{
	struct rig *r = rig();
	struct store *st;
	uint64_t root, page;

	(void)state;
	reopen(r);
	st = rig_store(r);
	root = offset_of(r, 1, st->parts[1].generation % 2 * 2);
	page = offset_of(r, 0, part_space_page(&st->parts[0], 0, 1 - st->parts[0].alloc.page_copy[0]));
	rig_kill(r);
	assert_true(pst_sim_disk_damage(r->node, RIG_PATH, root, 512));
	assert_true(pst_sim_disk_damage(r->node, RIG_PATH, page, 512));
	rig_start(r);
	assert_int_equal(rig_byte(r, 0, 2999), 30);
	root = offset_of(r, 0, rig_store(r)->parts[0].generation % 2 * 2);
	rig_kill(r);
	assert_true(pst_sim_disk_damage(r->node, RIG_PATH, root, 2 * B));
	assert_int_equal(rig_open(r), PST_E_IO);
	assert_non_null(strstr(r->store_op.detail, "partition 0: its metadata can't be read"));
	rig_free(r);
}

static uint64_t next_log_block(struct rig *r, uint32_t ahead)
{
	const struct part *p = &rig_store(r)->parts[0];

	return offset_of(r, 0, p->geo.log_start + (p->head_seq + ahead) % p->geo.log_blocks);
}

/* Of the log's ring an unreadable sector harms only if a record may be in it. */
static void unreadable_log_block_counts_if_needed(void **state)
{
	struct rig *r = rig();
	uint64_t at;

	(void)state;
	reopen(r);
	at = next_log_block(r, 2);
	rig_kill(r);
	assert_true(pst_sim_disk_damage(r->node, RIG_PATH, at, 512));
	rig_start(r);
	assert_int_equal(rig_byte(r, 0, 2999), 30);
	at = next_log_block(r, 0);
	rig_kill(r);
	assert_true(pst_sim_disk_damage(r->node, RIG_PATH, at, 512));
	assert_int_equal(rig_open(r), PST_E_IO);
	assert_non_null(strstr(r->store_op.detail, "partition 0: its log can't be read"));
	rig_free(r);
}

/* A log block that rots before it is needed: the scrub makes it superfluous, so a crash loses nothing. */
static void rotten_log(void **state)
{
	struct rig *r = rig();
	struct part *p = &rig_store(r)->parts[0];

	(void)state;
	assert_true(p->written_seq >= p->tail_seq);
	rot(r, offset_of(r, 0, p->geo.log_start + p->tail_seq % p->geo.log_blocks));
	assert_int_equal(scrub_all(r), 1);
	assert_true(said(r, "log_block_damaged partition=0"));
	rig_power(r);
	rig_start(r);
	for (uint64_t lba = 0; lba < BLOCKS; lba += 100)
		assert_int_equal(rig_byte(r, 0, lba), lba / 100 + 1);
	rig_free(r);
}

/* A rotten leaf: its place is named; one that is in memory is written again, and nothing is lost. */
static void rotten_nodes(void **state)
{
	struct rig *r = rig();
	uint64_t lost, kept;

	(void)state;
	reopen(r);
	lost = place(r, 1, 0, 1100);
	kept = place(r, 1, 0, 0);
	assert_int_equal(rig_byte(r, 0, 0), 1); /* now its leaf is in memory */
	assert_int_not_equal(lost, kept);
	rot(r, lost);
	rot(r, kept);
	assert_int_equal(scrub_all(r), 2);
	assert_int_equal(times_said(r, "bad_map_node"), 2);
	assert_true(said(r, "it is written again from memory"));
	assert_true(said(r, "what it maps is lost"));
	reopen(r);
	assert_int_equal(rig_byte(r, 0, 0), 1);
	assert_int_equal(scrub_all(r), 1);
	rig_free(r);
}

/* At a low rate it takes its time; when the pool is closed in the midst, it goes on where it was and still finds what
 * lies behind. */
static void resumes(void **state)
{
	struct rig *r = rig();
	uint64_t done;

	(void)state;
	reopen(r);
	rot(r, place(r, 0, 0, 2900));
	assert_int_equal(scrub(r, PST_POOL_TASK_START, MIB), PST_OK);
	pst_sim_run_for(r->sim, 4 * RIG_SECOND);
	done = progress(r).done_bytes;
	assert_true(progress(r).running);
	assert_in_range(done, 3 * MIB, 5 * MIB);
	assert_int_equal(progress(r).errors, 0);
	rig_stop(r);
	rig_start(r);
	assert_in_range(progress(r).done_bytes, done - MIB / 2, done + MIB);
	assert_true(pst_sim_run_until(r->sim, scrub_ended, r, 60 * RIG_SECOND));
	assert_int_equal(progress(r).errors, 1);
	assert_true(said(r, "lba=2900 blocks=1 "));
	/* Not all of it again. */
	assert_in_range(progress(r).done_bytes, BLOCKS * B, BLOCKS * B + MIB);
	rig_free(r);
}

/* Overwrites under way while it reads are no errors. */
static void beside_writes(void **state)
{
	struct rig *r = rig();
	struct pst_prng prng;

	(void)state;
	reopen(r);
	pst_prng_init(&prng, 5);
	for (unsigned pass = 0; pass < 20; pass++) {
		pst_err err = scrub(r, PST_POOL_TASK_START, 0);

		assert_true(err == PST_OK || err == PST_E_EXISTS);
		for (unsigned i = 0; i < 50; i++)
			assert_int_equal(rig_fill(r, 0, pst_prng_below(&prng, BLOCKS - 3), 1 + i % 3, (uint8_t)i),
					 PST_OK);
	}
	assert_true(pst_sim_run_until(r->sim, scrub_ended, r, 60 * RIG_SECOND));
	assert_int_equal(progress(r).errors, 0);
	assert_int_equal(times_said(r, "bad_"), 0);
	rig_free(r);
}

/* A device where everything is bad: lines are limited, and what was not told is counted. */
static void many_bad_blocks(void **state)
{
	struct rig *r = rig();

	(void)state;
	reopen(r);
	for (uint64_t lba = 0; lba < BLOCKS; lba += 5)
		rot(r, place(r, 0, 0, lba));
	r->events[0] = '\0';
	assert_int_equal(scrub_all(r), BLOCKS / 5);
	assert_in_range(times_said(r, "bad_block "), 30, 300);
	rig_free(r);
}

static pst_err version_op(struct rig *r, enum pst_pool_op_kind kind, unsigned from, unsigned to)
{
	struct pst_snapshot_member member;
	struct pst_pool_op op = { .kind = kind, .members = &member, .member_count = 1 };

	rig_uuid(from, op.uuid);
	rig_uuid(to, op.other);
	rig_uuid(from, member.volume);
	rig_uuid(to, member.snapshot);
	return rig_pool(r, op);
}

/*
 * A block that a volume shares with two snapshots and a clone rots: all four are named, once each, and nobody that has
 * another block there. The scrub reads shared blocks once. Overwriting heals the volume, and only that.
 */
static void shared_blocks(void **state)
{
	struct rig *r = rig();
	struct pst_pool_stats stats;
	pst_err err = version_op(r, PST_POOL_SNAPSHOT, 0, 10);

	(void)state;
	if (err == PST_E_UNSUPPORTED) {
		print_message("skipped: this store has no snapshots yet\n");
		rig_free(r);
		skip();
	}
	assert_int_equal(err, PST_OK);
	assert_int_equal(rig_fill(r, 0, 50, 1, 99), PST_OK); /* the first snapshot has another block there */
	assert_int_equal(version_op(r, PST_POOL_SNAPSHOT, 0, 11), PST_OK);
	assert_int_equal(version_op(r, PST_POOL_CLONE, 11, 1), PST_OK);
	reopen(r);
	r->events[0] = '\0';
	assert_int_equal(scrub_all(r), 0);
	pst_pool_stats(r->pool, &stats);
	assert_int_equal(progress(r).done_bytes, stats.used_bytes);

	rot(r, place(r, 0, 0, 40));
	rot(r, place(r, 0, 0, 50));
	assert_int_equal(scrub_all(r), 2);
	assert_int_equal(times_said(r, "bad_block "), 2);
	assert_int_equal(times_said(r, "bad_block_shared "), 3 + 2);
	assert_int_equal(times_said(r, "=0b000000-0000-0000-0000-000000000000 lba=40 "), 1); /* snapshot 10 */
	assert_int_equal(times_said(r, "=0c000000-0000-0000-0000-000000000000 lba=40 "), 1);
	assert_int_equal(times_said(r, "=01000000-0000-0000-0000-000000000000 lba=40 "), 1);
	assert_int_equal(times_said(r, "=02000000-0000-0000-0000-000000000000 lba=40 "), 1);
	assert_int_equal(times_said(r, "=0b000000-0000-0000-0000-000000000000 lba=50 "), 0);
	assert_int_equal(times_said(r, "=0c000000-0000-0000-0000-000000000000 lba=50 "), 1);
	assert_int_equal(times_said(r, "=02000000-0000-0000-0000-000000000000 lba=50 "), 1);
	pst_pool_stats(r->pool, &stats);
	assert_int_equal(stats.bad_blocks, 4 + 3);
	assert_int_equal(rig_fill(r, 0, 40, 1, 1), PST_OK);
	assert_int_equal(times_said(r, "bad_block_healed volume=01000000"), 1);
	pst_pool_stats(r->pool, &stats);
	assert_int_equal(stats.bad_blocks, 6);
	assert_int_equal(rig_byte(r, 0, 40), 1);
	rig_free(r);
}

static const char key[] = "not a real key, but long enough";

static pst_err key_op(struct rig *r, enum pst_pool_op_kind kind, uint8_t *out)
{
	struct pst_pool_op op = { .kind = kind, .value = key, .value_bytes = sizeof(key), .key_bytes = out };

	rig_uuid(0, op.uuid);
	return rig_pool(r, op);
}

/* One block of a key slot rots: both are whole again, and the other one may go. Both rot: it is said, and counted. */
static void key_slots(void **state)
{
	struct rig *r = rig_new(3, 16 * MIB, 1);
	static uint8_t out[PST_POOL_KEY_BYTES_MAX];
	uint64_t slot;
	uint8_t uuid[16];

	(void)state;
	rig_start(r);
	rig_create(r, 0, 100);
	rig_close(r, 0);
	assert_int_equal(key_op(r, PST_POOL_KEY_PUT, NULL), PST_OK);
	rig_uuid(0, uuid);
	slot = offset_of(r, 0, svol_find(rig_store(r), uuid)->disk.key_block);
	assert_int_equal(scrub_all(r), 0);
	rot(r, slot);
	assert_int_equal(scrub_all(r), 1);
	assert_true(said(r, "key_slot_damaged"));
	assert_true(said(r, "one copy was damaged and is written again"));
	assert_int_equal(scrub_all(r), 0);
	rot(r, slot + B);
	assert_int_equal(key_op(r, PST_POOL_KEY_GET, out), PST_OK);
	assert_memory_equal(out, key, sizeof(key));
	rot(r, slot);
	assert_int_equal(scrub_all(r), 1);
	assert_true(said(r, "can't be unlocked again"));
	rig_free(r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sound_pool),
		cmocka_unit_test(rotten_data),
		cmocka_unit_test(read_tells),
		cmocka_unit_test(lost_and_misdirected),
		cmocka_unit_test(copies_are_mended),
		cmocka_unit_test(unreadable_copies_do_no_harm),
		cmocka_unit_test(unreadable_log_block_counts_if_needed),
		cmocka_unit_test(rotten_log),
		cmocka_unit_test(rotten_nodes),
		cmocka_unit_test(resumes),
		cmocka_unit_test(beside_writes),
		cmocka_unit_test(many_bad_blocks),
		cmocka_unit_test(key_slots),
		cmocka_unit_test(shared_blocks),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

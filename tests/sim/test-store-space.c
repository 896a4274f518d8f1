/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Space of a pool in the simulator: growth by devices and by their tails with crashes at any moment of it, missing and
 * foreign devices, full pools. The sums must always be exact: used and free make up what the pool has for data.
 */
#include "store-rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define B PST_BLOCK_BYTES
#define DEVICE_BYTES ((uint64_t)4 << 20)
#define VOLUME_BLOCKS 3000u /* more than the pool has at first */
#define WRITE_BLOCKS 16u

struct world {
	struct rig *r;
	uint8_t uuid; /* of the volume that operations are about; the open one is the rig's first */
	const char *paths[2];
	uint8_t written[VOLUME_BLOCKS]; /* generation of each block's content; 0: a hole */
};

static void pool_begin(struct world *w, struct pst_pool_op op)
{
	op.uuid[0] = w->uuid;
	rig_pool_begin(w->r, op);
}

static pst_err pool_run(struct world *w, struct pst_pool_op op)
{
	pool_begin(w, op);
	rig_finish(w->r);
	return w->r->op.err;
}

static void device_add(struct world *w, const char *path)
{
	pool_begin(w, (struct pst_pool_op){ .kind = PST_POOL_DEVICE_ADD, .key = path, .size_bytes = DEVICE_BYTES });
}

static void grow(struct world *w, const char *path, uint64_t size_bytes)
{
	pool_begin(w, (struct pst_pool_op){ .kind = PST_POOL_GROW, .key = path, .size_bytes = size_bytes });
}

static pst_err start(struct world *w)
{
	return rig_open(w->r);
}

static void volume_open(struct world *w)
{
	assert_int_equal(pool_run(w, (struct pst_pool_op){ .kind = PST_POOL_VOLUME_OPEN }), PST_OK);
	w->r->volumes[0] = w->r->op.volume;
}

static struct world *world_new(uint64_t seed, uint32_t partitions)
{
	struct world *w = calloc(1, sizeof(*w));

	w->r = rig_new(seed, DEVICE_BYTES, partitions);
	w->uuid = 7;
	w->paths[0] = "elsewhere";
	w->paths[1] = "nowhere";
	w->r->config = (struct pst_store_config){
		.io_depth_max = 1024, .device_paths = w->paths, .device_path_count = 2, .space_alerts = { 80, 85, 90 }
	}; /* its reserve is over 5 % */
	assert_int_equal(start(w), PST_OK);
	assert_int_equal(
	    pool_run(w, (struct pst_pool_op){ .kind = PST_POOL_VOLUME_CREATE, .block_count = VOLUME_BLOCKS }), PST_OK);
	volume_open(w);
	return w;
}

static void world_free(struct world *w)
{
	rig_free(w->r);
	free(w);
}

static void stop(struct world *w)
{
	rig_close(w->r, 0);
	assert_int_equal(pool_run(w, (struct pst_pool_op){ .kind = PST_POOL_CLOSE }), PST_OK);
	pst_sim_kill(w->r->node);
}

/* ---- Contents ---- */

static void fill(uint8_t *buf, uint64_t lba, uint8_t generation)
{
	memset(buf, (int)(lba * 7 + generation * 31), B);
	memcpy(buf, &lba, sizeof(lba));
	buf[8] = generation;
}

static pst_err io_run(struct world *w, enum pst_io_kind kind, uint64_t lba, uint64_t count, void *buf)
{
	return rig_io(w->r, 0, kind, lba, count, buf);
}

/* PST_E_NOSPACE leaves old or new contents in each block; no others are known then. */
static pst_err write_blocks(struct world *w, uint64_t lba, uint64_t count, uint8_t generation)
{
	uint8_t *buf = malloc(count * B);
	pst_err err;

	for (uint64_t i = 0; i < count; i++)
		fill(buf + i * B, lba + i, generation);
	err = io_run(w, PST_IO_WRITE, lba, count, buf);
	for (uint64_t i = 0; err == PST_OK && i < count; i++)
		w->written[lba + i] = generation;
	free(buf);
	return err;
}

static void verify(struct world *w)
{
	uint8_t buf[B], want[B];

	for (uint64_t lba = 0; lba < VOLUME_BLOCKS; lba++) {
		if (w->written[lba] == 0)
			continue;
		assert_int_equal(io_run(w, PST_IO_READ, lba, 1, buf), PST_OK);
		fill(want, lba, w->written[lba]);
		assert_memory_equal(buf, want, B);
	}
}

/* Write from @from on to holes until the pool is full; returns the first LBA that did not go. */
static uint64_t fill_up(struct world *w, uint64_t from, uint8_t generation)
{
	uint64_t lba = from;
	pst_err err = PST_OK;

	while (lba < VOLUME_BLOCKS && (err = write_blocks(w, lba, 1, generation)) == PST_OK)
		lba++;
	assert_true(err == PST_OK || err == PST_E_NOSPACE);
	return lba;
}

static struct pst_pool_stats stats(struct world *w)
{
	struct pst_pool_stats s;

	pst_pool_stats(w->r->pool, &s);
	return s;
}

/* ---- Tests ---- */

/* A full pool takes writes again when a device has been added, and all is there after it was closed and opened. */
static void added_device_gives_space(void **state)
{
	struct world *w = world_new(1, 1);
	struct pst_pool_stats before, after;
	uint64_t lba;

	(void)state;
	lba = fill_up(w, 0, 1);
	assert_in_range(lba, 700, 1000);
	before = stats(w);
	device_add(w, "second");
	rig_finish(w->r);
	assert_int_equal(w->r->op.err, PST_OK);
	after = stats(w);
	assert_int_equal(after.size_bytes, 2 * DEVICE_BYTES);
	assert_int_equal(after.devices, 2);
	assert_int_equal(after.used_bytes, before.used_bytes);
	/* Two superblock copies, two headers, a page of the space map or the block that stands for it. */
	assert_in_range(before.free_bytes + DEVICE_BYTES - after.free_bytes, 5 * B, 6 * B);
	assert_true(fill_up(w, lba, 2) > lba + 900);
	verify(w);
	stop(w);
	assert_int_equal(start(w), PST_OK);
	assert_int_equal(stats(w).used_bytes + stats(w).free_bytes, after.used_bytes + after.free_bytes);
	volume_open(w);
	verify(w);
	world_free(w);
}

/* Devices and tails, again and again, up to what the superblock has room for; then a refusal that says so. */
static void growth_has_an_end(void **state)
{
	struct world *w = world_new(2, 3);
	uint64_t size = DEVICE_BYTES, lba = 0, total;

	(void)state;
	device_add(w, "second");
	rig_finish(w->r);
	assert_int_equal(w->r->op.err, PST_OK);
	for (unsigned i = 1; i < 21; i++) {
		size += 256 * 1024;
		lba = fill_up(w, lba, 1);
		grow(w, i % 2 != 0 ? "second" : RIG_PATH, i % 2 != 0 ? size : size + 64 * 1024);
		rig_finish(w->r);
		if (w->r->op.err != PST_OK)
			print_message("%s\n", w->r->op.detail);
		assert_int_equal(w->r->op.err, PST_OK);
		if (i % 5 == 0) {
			stop(w);
			assert_int_equal(start(w), PST_OK);
			volume_open(w);
		}
	}
	grow(w, RIG_PATH, 2 * size);
	rig_finish(w->r);
	assert_int_equal(w->r->op.err, PST_E_RANGE);
	assert_non_null(strstr(w->r->op.detail, "21 times"));
	fill_up(w, lba, 1);
	verify(w);
	total = stats(w).used_bytes + stats(w).free_bytes;
	pst_sim_kill(w->r->node);
	assert_int_equal(start(w), PST_OK);
	assert_int_equal(stats(w).used_bytes + stats(w).free_bytes, total);
	volume_open(w);
	verify(w);
	world_free(w);
}

/* What is not a growth, or no device of the pool, is refused and named; nothing changes. */
static void senseless_growth_is_refused(void **state)
{
	struct world *w = world_new(3, 1);

	(void)state;
	grow(w, RIG_PATH, 0);
	rig_finish(w->r);
	assert_int_equal(w->r->op.err, PST_E_RANGE);
	assert_non_null(strstr(w->r->op.detail, "has not grown"));
	grow(w, RIG_PATH, DEVICE_BYTES + 5 * B);
	rig_finish(w->r);
	assert_int_equal(w->r->op.err, PST_E_RANGE);
	assert_non_null(strstr(w->r->op.detail, "too few"));
	grow(w, "stranger", 0);
	rig_finish(w->r);
	assert_int_equal(w->r->op.err, PST_E_NOTFOUND);
	device_add(w, RIG_PATH);
	rig_finish(w->r);
	assert_int_equal(w->r->op.err, PST_E_EXISTS);
	assert_int_equal(pool_run(w, (struct pst_pool_op){ .kind = PST_POOL_DEVICE_ADD, .key = "missing" }),
			 PST_E_NOTFOUND);
	assert_int_equal(stats(w).size_bytes, DEVICE_BYTES);
	world_free(w);
}

/* A device of a pool is refused as a pool of its own, as a new pool, and by other pools. */
static void device_of_a_pool_is_recognised(void **state)
{
	struct pst_store_format_config config = { .size_bytes = DEVICE_BYTES };
	struct pst_store_config open = { 0 };
	struct world *w = world_new(4, 1);

	(void)state;
	device_add(w, "second");
	rig_finish(w->r);
	assert_int_equal(w->r->op.err, PST_OK);
	stop(w);
	w->r->env = pst_sim_env_new(w->r->node, 0);
	w->r->done = false;
	pst_store_open(w->r->env, "second", &open, &w->r->store_op);
	rig_finish(w->r);
	assert_int_equal(w->r->store_op.err, PST_E_FORMAT);
	assert_non_null(strstr(w->r->store_op.detail, "device 1 of a pool"));
	assert_non_null(strstr(w->r->store_op.detail, RIG_PATH));
	w->r->done = false;
	pst_store_format(w->r->env, "second", &config, &w->r->store_op);
	rig_finish(w->r);
	assert_int_equal(w->r->store_op.err, PST_E_EXISTS);
	w->r->done = false;
	pst_store_format(w->r->env, "other", &config, &w->r->store_op);
	rig_finish(w->r);
	w->r->done = false;
	pst_store_open(w->r->env, "other", &open, &w->r->store_op);
	rig_finish(w->r);
	assert_int_equal(w->r->store_op.err, PST_OK);
	w->r->pool = w->r->store_op.pool;
	device_add(w, "second");
	rig_finish(w->r);
	assert_int_equal(w->r->op.err, PST_E_EXISTS);
	assert_non_null(strstr(w->r->op.detail, "belongs to the pool"));
	world_free(w);
}

static void copy_disk(struct world *w, const char *from, const char *to)
{
	uint8_t buf[B];
	struct pst_env *env = pst_sim_env_new(w->r->node, 0);
	struct pst_file *file;

	assert_int_equal(pst_file_open(env, to, PST_FILE_CREATE, &file), PST_OK);
	assert_int_equal(pst_file_truncate(file, DEVICE_BYTES), PST_OK);
	pst_file_close(file);
	for (uint64_t at = 0; at < DEVICE_BYTES; at += B) {
		assert_true(pst_sim_disk_peek(w->r->node, from, at, buf, B));
		assert_true(pst_sim_disk_poke(w->r->node, to, at, buf, B));
		memset(buf, 0, B);
		assert_true(pst_sim_disk_poke(w->r->node, from, at, buf, B));
	}
	pst_sim_kill(w->r->node);
}

/* A missing device is named, with where it was last; at another path it is found by --device, and remembered. */
static void missing_device_is_named(void **state)
{
	struct world *w = world_new(5, 2);

	(void)state;
	device_add(w, "second");
	rig_finish(w->r);
	assert_int_equal(w->r->op.err, PST_OK);
	fill_up(w, 0, 1);
	stop(w);
	copy_disk(w, "second", "third");
	assert_int_equal(start(w), PST_E_NOTFOUND);
	assert_non_null(strstr(w->r->store_op.detail, "last at second"));
	pst_sim_kill(w->r->node);
	w->paths[0] = "third";
	assert_int_equal(start(w), PST_OK);
	volume_open(w);
	verify(w);
	stop(w);
	w->paths[0] = "elsewhere";
	assert_int_equal(start(w), PST_OK);
	world_free(w);
}

/* One damaged copy of a region's header does no harm, two keep the pool closed; data is never guessed. */
static void damaged_region_header_is_found(void **state)
{
	struct world *w = world_new(6, 2);
	uint8_t zero[B] = { 0 };

	(void)state;
	device_add(w, "second");
	rig_finish(w->r);
	stop(w);
	assert_true(pst_sim_disk_poke(w->r->node, "second", B, zero, B));
	assert_int_equal(start(w), PST_OK);
	assert_non_null(strstr(w->r->events, "region_header_damaged"));
	stop(w);
	assert_true(pst_sim_disk_poke(w->r->node, "second", DEVICE_BYTES - 2 * B, zero, B));
	assert_int_equal(start(w), PST_E_CHECKSUM);
	assert_non_null(strstr(w->r->store_op.detail, "second: both copies of the header of region 0"));
	world_free(w);
}

/*
 * Crashes at any moment of an addition and of the growth of the first device, whose second superblock moves: the space
 * is there or it is not, everything flushed is, the sums are exact, and a second try succeeds.
 */
static void crash_in_growth(uint64_t seed)
{
	struct world *w = world_new(seed, 1 + seed % 3);
	struct pst_sim_faults faults = { .disk_tear_bytes = 512, .disk_keep_percent = (uint32_t)(seed % 101) };
	bool tail = seed % 2 != 0, grown;
	uint64_t lba = fill_up(w, 0, 1), before, data_before, data_after;
	uint64_t full = tail ? DEVICE_BYTES * 3 : DEVICE_BYTES * 2;

	assert_int_equal(io_run(w, PST_IO_FLUSH, 0, 0, NULL), PST_OK);
	pst_sim_set_faults(w->r->sim, w->r->node, &faults);
	before = stats(w).size_bytes;
	data_before = stats(w).used_bytes + stats(w).free_bytes;
	if (tail)
		grow(w, RIG_PATH, full);
	else
		device_add(w, "second");
	pst_sim_run_for(w->r->sim, pst_sim_rand_below(w->r->sim, 1500 * 1000));
	grown = w->r->done;
	if (seed % 5 == 0) {
		pst_sim_kill(w->r->node);
	} else {
		pst_sim_power_off(w->r->node);
		pst_sim_power_on(w->r->node);
	}
	if (start(w) != PST_OK)
		fail_msg("seed %llu: %s", (unsigned long long)seed, w->r->store_op.detail);
	assert_true(stats(w).size_bytes == full || (!grown && stats(w).size_bytes == before));
	if (stats(w).size_bytes == before) {
		assert_int_equal(stats(w).used_bytes + stats(w).free_bytes, data_before);
		if (tail)
			grow(w, RIG_PATH, full);
		else
			device_add(w, "second");
		rig_finish(w->r);
		if (w->r->op.err != PST_OK)
			fail_msg("seed %llu: %s", (unsigned long long)seed, w->r->op.detail);
	}
	data_after = stats(w).used_bytes + stats(w).free_bytes;
	assert_in_range(data_before + full - before - data_after, 4 * B, 12 * B);
	volume_open(w);
	verify(w);
	io_run(w, PST_IO_FLUSH, 0, 0, NULL); /* says that writes may be lost; once */
	assert_true(fill_up(w, lba, 2) > lba);
	verify(w);
	/* Again, now with data in the new space. */
	assert_int_equal(io_run(w, PST_IO_FLUSH, 0, 0, NULL), PST_OK);
	pst_sim_power_off(w->r->node);
	pst_sim_power_on(w->r->node);
	assert_int_equal(start(w), PST_OK);
	assert_int_equal(stats(w).used_bytes + stats(w).free_bytes, data_after);
	volume_open(w);
	verify(w);
	world_free(w);
}

static void crash_in_growth_is_all_or_nothing(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed <= 50; seed++)
		crash_in_growth(seed);
}

/* ---- Checkpoints ---- */

static void checkpoint_until(struct part *p, struct world *w, enum cp_state state)
{
	for (unsigned i = 0; p->cp.state != state; i++) {
		assert_true(i < 100000);
		pst_sim_run_for(w->r->sim, 1000);
	}
}

/*
 * The root that a checkpoint is writing still reaches what is freed meanwhile: that goes free with the checkpoint after
 * it, also if it lies just behind what goes free with this one.
 */
static void what_is_freed_beside_a_checkpoint_waits_for_the_next(void **state)
{
	struct world *w = world_new(10, 1);
	struct part *p = &rig_store(w->r)->parts[0];
	const struct freed *last;
	uint32_t block;

	(void)state;
	fill_up(w, 0, 1);
	checkpoint_want(p, NULL);
	checkpoint_until(p, w, CP_WRITE);
	checkpoint_until(p, w, CP_IDLE);
	assert_int_equal(io_run(w, PST_IO_DISCARD, 0, 600, NULL), PST_OK);
	checkpoint_want(p, NULL);
	checkpoint_until(p, w, CP_WRITE);
	assert_true(p->cp.frees_frozen > 0);
	last = &p->node_freed.items[p->cp.frees_frozen - 1];
	block = last->block + last->count;
	(void)!pst_alloc_use(&p->alloc, block); /* a node is there, if nothing else is */
	part_free_node(p, block);
	checkpoint_until(p, w, CP_IDLE);
	assert_true(pst_alloc_is_busy(&p->alloc, block));
	checkpoint_want(p, NULL);
	checkpoint_until(p, w, CP_WRITE);
	checkpoint_until(p, w, CP_IDLE);
	assert_false(pst_alloc_is_busy(&p->alloc, block));
	rig_kill(w->r);
	world_free(w);
}

/* ---- Full pools ---- */

static bool *other_done;

static void on_other(struct pst_io *io)
{
	(void)io;
	*other_done = true;
}

static bool is_true(void *ctx)
{
	return *(bool *)ctx;
}

static unsigned paused_done;

static void on_paused(struct pst_io *io)
{
	(void)io;
	paused_done++;
}

static bool grown_and_written(void *ctx)
{
	struct world *w = ctx;

	return w->r->io_done && w->r->pool_done;
}

/* One request at a time while the pool is full: what gives back what it takes always goes. */
static void full_pool_takes_what_gives_back(void **state)
{
	struct world *w = world_new(7, 1);
	uint64_t lba = fill_up(w, 0, 1), back;

	(void)state;
	assert_non_null(strstr(w->r->events, "pool_full"));
	for (unsigned i = 0; i < 1500; i++) {
		uint64_t at = pst_sim_rand_below(w->r->sim, lba - 1), count = PST_MIN(lba - at, 1 + i % 24);

		assert_int_equal(write_blocks(w, at, count, (uint8_t)(2 + i % 200)), PST_OK);
		if (i % 300 == 0)
			assert_int_equal(io_run(w, PST_IO_FLUSH, 0, 0, NULL), PST_OK);
	}
	assert_int_equal(write_blocks(w, lba, 1, 9), PST_E_NOSPACE);
	verify(w);
	/* Discards give back; then as many holes can be written. */
	assert_int_equal(io_run(w, PST_IO_DISCARD, 100, 60, NULL), PST_OK);
	memset(w->written + 100, 0, 60);
	back = fill_up(w, 100, 3);
	assert_true(back >= 155);
	/* The catalog lives on the reserve. */
	w->uuid = 8;
	for (unsigned i = 0; i < 40; i++) {
		assert_int_equal(pool_run(w, (struct pst_pool_op){ .kind = PST_POOL_VOLUME_CREATE, .block_count = 10 }),
				 PST_OK);
		assert_int_equal(pool_run(w, (struct pst_pool_op){ .kind = PST_POOL_VOLUME_DELETE }), PST_OK);
	}
	verify(w);
	stop(w);
	assert_int_equal(start(w), PST_OK);
	w->uuid = 7;
	volume_open(w);
	verify(w);
	world_free(w);
}

/* Two volumes that are full together: deleting one gives all of its space to the other. */
static void deletion_works_in_a_full_pool(void **state)
{
	struct world *w = world_new(8, 2);
	uint64_t used_empty = stats(w).used_bytes, first;

	(void)state;
	first = fill_up(w, 0, 1);
	rig_close(w->r, 0);
	assert_int_equal(pool_run(w, (struct pst_pool_op){ .kind = PST_POOL_VOLUME_DELETE }), PST_OK);
	pst_sim_run_for(w->r->sim, 5 * RIG_SECOND);
	assert_true(stats(w).used_bytes <= used_empty + 8 * B);
	w->uuid = 8;
	memset(w->written, 0, sizeof(w->written));
	assert_int_equal(
	    pool_run(w, (struct pst_pool_op){ .kind = PST_POOL_VOLUME_CREATE, .block_count = VOLUME_BLOCKS }), PST_OK);
	volume_open(w);
	assert_in_range(fill_up(w, 0, 2), first - 4, first + 4);
	verify(w);
	world_free(w);
}

static void set_volume(struct world *w, enum pst_on_full on_full, uint64_t reserved)
{
	pool_begin(w, (struct pst_pool_op){ .kind = PST_POOL_VOLUME_SET,
					    .settings = { .on_full = on_full, .reserved_blocks = reserved } });
	rig_finish(w->r);
}

/* A paused write waits through reads, flushes and overwrites, and goes on when a device has been added. */
static void paused_write_goes_on_with_new_space(void **state)
{
	struct world *w = world_new(9, 1);
	uint8_t *buf = malloc(WRITE_BLOCKS * B), other[B];
	struct pst_io paused;
	struct iovec iov;
	uint64_t lba;
	bool done = false;

	(void)state;
	lba = fill_up(w, 0, 1);
	set_volume(w, PST_ON_FULL_PAUSE, 0);
	assert_int_equal(w->r->op.err, PST_OK);
	for (uint64_t i = 0; i < WRITE_BLOCKS; i++)
		fill(buf + i * B, lba + i, 4);
	rig_io_begin(w->r, 0, PST_IO_WRITE, lba, WRITE_BLOCKS, buf);
	pst_sim_run_for(w->r->sim, 30 * RIG_SECOND);
	assert_false(w->r->done);
	/* The world's request is out; work with others meanwhile. */
	iov = (struct iovec){ other, B };
	for (unsigned i = 0; i < 3; i++) {
		static const enum pst_io_kind kinds[] = { PST_IO_READ, PST_IO_FLUSH, PST_IO_WRITE };

		paused = (struct pst_io){ .kind = kinds[i], .done = on_other };
		other_done = &done;
		done = false;
		if (kinds[i] != PST_IO_FLUSH) {
			paused.lba = 5;
			paused.block_count = 1;
			paused.iov = &iov;
			paused.iov_count = 1;
		}
		pst_volume_submit(w->r->volumes[0], &paused);
		assert_true(pst_sim_run_until(w->r->sim, is_true, &done, RIG_SECOND));
		assert_int_equal(paused.err, PST_OK);
	}
	assert_false(w->r->done);
	device_add(w, "second"); /* sets done to false, and either sets it to true */
	assert_true(pst_sim_run_until(w->r->sim, grown_and_written, w, 10 * RIG_SECOND));
	assert_int_equal(w->r->op.err, PST_OK);
	assert_int_equal(w->r->io.err, PST_OK);
	assert_non_null(strstr(w->r->events, "pool_space_back"));
	memset(w->written + lba, 4, WRITE_BLOCKS);
	verify(w);
	free(buf);
	world_free(w);
}

/* Many paused writes, more than the store takes at a time, leave room for the discard that frees space for them. */
static void paused_writes_hold_nothing(void **state)
{
	static struct pst_io ios[1500];
	static struct iovec iov;
	static uint8_t buf[B];
	struct world *w = world_new(10, 1);
	uint64_t lba;
	unsigned done;

	(void)state;
	lba = fill_up(w, 0, 1);
	set_volume(w, PST_ON_FULL_PAUSE, 0);
	iov = (struct iovec){ buf, B };
	paused_done = 0;
	for (unsigned i = 0; i < PST_ARRAY_COUNT(ios); i++) {
		ios[i] = (struct pst_io){ .kind = PST_IO_WRITE,
					  .lba = lba + i,
					  .block_count = 1,
					  .iov = &iov,
					  .iov_count = 1,
					  .done = on_paused };
		pst_volume_submit(w->r->volumes[0], &ios[i]);
	}
	pst_sim_run_for(w->r->sim, 20 * RIG_SECOND);
	done = paused_done;
	assert_true(done < 40);
	assert_int_equal(io_run(w, PST_IO_DISCARD, 0, 200, NULL), PST_OK);
	pst_sim_run_for(w->r->sim, 20 * RIG_SECOND);
	assert_in_range(paused_done - done, 150, 210);
	assert_int_equal(ios[1400].err, PST_OK); /* not answered yet */
	/* The pause is bounded; then the same once more, and closing the volume cancels them. */
	pst_sim_run_for(w->r->sim, 30 * RIG_SECOND);
	assert_int_equal(paused_done, PST_ARRAY_COUNT(ios));
	assert_int_equal(ios[1400].err, PST_E_CANCELLED);
	paused_done = 1400;
	for (unsigned i = 1400; i < PST_ARRAY_COUNT(ios); i++)
		pst_volume_submit(w->r->volumes[0], &ios[i]);
	pst_sim_run_for(w->r->sim, RIG_SECOND);
	assert_int_equal(paused_done, 1400);
	rig_close(w->r, 0);
	assert_int_equal(paused_done, PST_ARRAY_COUNT(ios));
	assert_int_equal(ios[PST_ARRAY_COUNT(ios) - 1].err, PST_E_CANCELLED);
	w->r->volumes[0] = NULL;
	stop(w);
	world_free(w);
}

/* Recalled writes end at once, paused or not begun, and none lands when there is space again; the others do. */
static void recalled_writes_do_not_land(void **state)
{
	static struct pst_io ios[600];
	static struct iovec iov;
	static uint8_t buf[B], back[B];
	struct world *w = world_new(11, 1);
	unsigned before;
	uint64_t lba;

	(void)state;
	lba = fill_up(w, 0, 1);
	set_volume(w, PST_ON_FULL_PAUSE, 0);
	memset(buf, 7, sizeof(buf));
	iov = (struct iovec){ buf, B };
	paused_done = 0;
	for (unsigned i = 0; i < PST_ARRAY_COUNT(ios); i++) {
		ios[i] = (struct pst_io){ .kind = PST_IO_WRITE,
					  .lba = lba + i,
					  .block_count = 1,
					  .iov = &iov,
					  .iov_count = 1,
					  .err = PST_E_AGAIN,
					  .done = on_paused };
		pst_volume_submit(w->r->volumes[0], &ios[i]);
	}
	for (unsigned i = 0; i < 100; i++) /* the store has not looked at them */
		pst_volume_recall(w->r->volumes[0], &ios[i]);
	assert_int_equal(paused_done, 0);
	pst_sim_run_for(w->r->sim, 20 * RIG_SECOND);
	assert_in_range(paused_done, 100, 140);
	before = paused_done;
	for (unsigned i = 200; i < 300; i++)
		pst_volume_recall(w->r->volumes[0], &ios[i]);
	assert_int_equal(paused_done, before);
	pst_sim_run_for(w->r->sim, RIG_SECOND / 10);
	assert_in_range(paused_done, before + 60, before + 100);
	assert_int_equal(io_run(w, PST_IO_DISCARD, 0, lba, NULL), PST_OK);
	pst_sim_run_for(w->r->sim, 20 * RIG_SECOND);
	assert_int_equal(paused_done, PST_ARRAY_COUNT(ios));
	for (unsigned i = 0; i < PST_ARRAY_COUNT(ios); i++) {
		assert_int_equal(io_run(w, PST_IO_READ, lba + i, 1, back), PST_OK);
		assert_int_equal(back[9], ios[i].err == PST_OK ? 7 : 0);
		if (i < 100)
			assert_int_equal(ios[i].err, PST_E_CANCELLED);
		else if (i < 200 || i >= 300)
			assert_int_equal(ios[i].err, PST_OK);
	}
	stop(w);
	world_free(w);
}

/* What a volume has reserved is there for it when others have filled the pool; more than there is can't be reserved. */
static void reservation_is_kept(void **state)
{
	struct world *w = world_new(11, 2);
	struct pst_volume *first = w->r->volumes[0];
	struct pst_pool_op create = { .kind = PST_POOL_VOLUME_CREATE,
				      .block_count = 400,
				      .settings = { .reserved_blocks = 300 } };
	uint8_t first_written[VOLUME_BLOCKS];
	uint64_t reserved;

	(void)state;
	w->uuid = 8;
	create.settings.reserved_blocks = create.block_count = 2000;
	assert_int_equal(pool_run(w, create), PST_E_NOSPACE);
	assert_non_null(strstr(w->r->op.detail, "too little to keep 7 MiB"));
	create.settings.reserved_blocks = 300;
	create.block_count = 512;
	assert_int_equal(pool_run(w, create), PST_OK);
	reserved = stats(w).reserved_bytes;
	assert_in_range(reserved, 300 * B, 312 * B);
	for (uint64_t lba = 0; lba < VOLUME_BLOCKS; lba += 256)
		fill_up(w, lba, 1); /* on both partitions */
	assert_true(stats(w).free_bytes >= reserved);
	/* Raising it now is refused, lowering is not. */
	set_volume(w, PST_ON_FULL_FAIL, 400);
	assert_int_equal(w->r->op.err, PST_E_NOSPACE);
	set_volume(w, PST_ON_FULL_FAIL, 290);
	assert_int_equal(w->r->op.err, PST_OK);
	for (uint64_t lba = 0; lba < VOLUME_BLOCKS; lba += 256)
		fill_up(w, lba, 1); /* what that gave */
	/* It is known again after a crash, before the volume is open. */
	assert_int_equal(io_run(w, PST_IO_FLUSH, 0, 0, NULL), PST_OK);
	pst_sim_kill(w->r->node);
	assert_int_equal(start(w), PST_OK);
	assert_in_range(stats(w).reserved_bytes, 290 * B, 302 * B);
	w->uuid = 7;
	volume_open(w);
	verify(w);
	memcpy(first_written, w->written, sizeof(first_written));
	first = w->r->volumes[0];
	assert_int_equal(write_blocks(w, VOLUME_BLOCKS - 1, 1, 1), PST_E_NOSPACE);
	assert_int_equal(write_blocks(w, VOLUME_BLOCKS - 256, 1, 1), PST_E_NOSPACE);
	w->uuid = 8;
	volume_open(w);
	memset(w->written, 0, sizeof(w->written));
	for (uint64_t lba = 0; lba < 290; lba++) /* half of it on each partition */
		assert_int_equal(write_blocks(w, lba < 145 ? lba : 256 + lba - 145, 1, 5), PST_OK);
	verify(w);
	assert_true(stats(w).reserved_bytes <= 12 * B);
	pst_sim_kill(w->r->node);
	assert_int_equal(start(w), PST_OK);
	assert_true(stats(w).reserved_bytes <= 12 * B);
	volume_open(w);
	verify(w);
	/* Deleting the volume ends its reservation; discarding its blocks brings the reservation back. */
	assert_int_equal(io_run(w, PST_IO_DISCARD, 0, 512, NULL), PST_OK);
	assert_in_range(stats(w).reserved_bytes, 290 * B, 302 * B);
	rig_close(w->r, 0);
	assert_int_equal(pool_run(w, (struct pst_pool_op){ .kind = PST_POOL_VOLUME_DELETE }), PST_OK);
	assert_int_equal(stats(w).reserved_bytes, 0);
	(void)first;
	world_free(w);
}

/* A block that a snapshot holds needs a new one: its overwrite counts as a write to a hole, in a pool filled to the
 * last. */
static void inherited_blocks_need_new_ones(void **state)
{
	struct world *w = world_new(13, 1);
	struct pst_snapshot_member member = { .volume = { 7 }, .snapshot = { 9 } };
	struct pst_pool_op snapshot = { .kind = PST_POOL_SNAPSHOT, .members = &member, .member_count = 1 };
	uint64_t lba = 400, overwritten = 0;
	pst_err err;

	(void)state;
	for (uint64_t i = 0; i < lba; i++)
		assert_int_equal(write_blocks(w, i, 1, 1), PST_OK);
	assert_int_equal(pool_run(w, snapshot), PST_OK);
	lba = fill_up(w, lba, 2);
	assert_true(lba > 600);
	for (uint64_t i = 0; i < 40; i++) {
		err = write_blocks(w, i * 10, 1, 3);
		assert_true(err == PST_OK || err == PST_E_NOSPACE);
		overwritten += err == PST_OK;
	}
	assert_true(overwritten <= 2); /* what the last checkpoint gave back */
	for (uint64_t i = 410; i < lba; i++)
		assert_int_equal(write_blocks(w, i, 1, 4), PST_OK);
	assert_int_equal(io_run(w, PST_IO_FLUSH, 0, 0, NULL), PST_OK);
	/* Taking another one and deleting it again works, too, and so does discarding what is the volume's own. */
	member.snapshot[0] = 10;
	assert_int_equal(pool_run(w, snapshot), PST_OK);
	w->uuid = 10;
	assert_int_equal(pool_run(w, (struct pst_pool_op){ .kind = PST_POOL_VOLUME_DELETE }), PST_OK);
	pst_sim_run_for(w->r->sim, 5 * RIG_SECOND);
	assert_int_equal(io_run(w, PST_IO_DISCARD, 410, 50, NULL), PST_OK);
	memset(w->written + 410, 0, 50);
	assert_int_equal(io_run(w, PST_IO_FLUSH, 0, 0, NULL), PST_OK);
	verify(w);
	/* Without the snapshot all is the volume's own again. */
	w->uuid = 9;
	assert_int_equal(pool_run(w, (struct pst_pool_op){ .kind = PST_POOL_VOLUME_DELETE }), PST_OK);
	pst_sim_run_for(w->r->sim, 5 * RIG_SECOND);
	for (uint64_t i = 0; i < 400; i++)
		assert_int_equal(write_blocks(w, i, 1, 5), PST_OK);
	verify(w);
	world_free(w);
}

/* A snapshot takes over what a volume has written, so its reservation must be there once more. */
static void snapshot_needs_the_reservation_anew(void **state)
{
	struct world *w = world_new(14, 1);
	struct pst_snapshot_member member = { .volume = { 7 }, .snapshot = { 9 } };
	struct pst_pool_op snapshot = { .kind = PST_POOL_SNAPSHOT, .members = &member, .member_count = 1 };

	(void)state;
	set_volume(w, PST_ON_FULL_FAIL, 320);
	for (uint64_t i = 0; i < 320; i++)
		assert_int_equal(write_blocks(w, i, 1, 1), PST_OK);
	assert_true(stats(w).reserved_bytes <= 8 * B);
	assert_int_equal(pool_run(w, snapshot), PST_OK);
	assert_in_range(stats(w).reserved_bytes, 320 * B, 332 * B);
	for (uint64_t i = 0; i < 320; i++)
		assert_int_equal(write_blocks(w, i, 1, 2), PST_OK);
	member.snapshot[0] = 10;
	assert_int_equal(pool_run(w, snapshot), PST_E_NOSPACE);
	assert_non_null(strstr(w->r->op.detail, "too little"));
	verify(w);
	world_free(w);
}

/* Discarding all of a volume is quick, frees everything in the background, and holds what was written since. */
static void whole_discard(uint64_t seed, bool cut)
{
	struct world *w = world_new(seed, 1 + seed % 3);
	uint64_t used_empty = stats(w).used_bytes, lba, began;

	lba = fill_up(w, 0, 1);
	assert_int_equal(io_run(w, PST_IO_FLUSH, 0, 0, NULL), PST_OK);
	began = pst_sim_now_ns(w->r->sim);
	rig_io_begin(w->r, 0, seed % 2 != 0 ? PST_IO_DISCARD : PST_IO_WRITE_ZEROES, 0, VOLUME_BLOCKS, NULL);
	if (cut) {
		pst_sim_run_for(w->r->sim, pst_sim_rand_below(w->r->sim, 2 * 1000 * 1000));
		if (seed % 4 < 2) {
			pst_sim_kill(w->r->node);
		} else {
			pst_sim_power_off(w->r->node);
			pst_sim_power_on(w->r->node);
		}
		cut = !w->r->done;
		assert_int_equal(start(w), PST_OK);
		volume_open(w);
		io_run(w, PST_IO_FLUSH, 0, 0, NULL); /* says that writes may be lost; once */
	} else {
		rig_finish(w->r);
		assert_int_equal(w->r->io.err, PST_OK);
		assert_true(pst_sim_now_ns(w->r->sim) - began < RIG_SECOND / 200);
	}
	if (cut) { /* all or nothing */
		uint8_t buf[B], zero[B] = { 0 };

		assert_int_equal(io_run(w, PST_IO_READ, 0, 1, buf), PST_OK);
		if (memcmp(buf, zero, B) != 0) {
			verify(w);
			assert_int_equal(io_run(w, PST_IO_DISCARD, 0, VOLUME_BLOCKS, NULL), PST_OK);
		}
	}
	memset(w->written, 0, sizeof(w->written));
	assert_int_equal(write_blocks(w, 7, 3, 2), PST_OK);
	for (uint64_t i = 0; i < lba; i += 97) {
		uint8_t buf[B], zero[B] = { 0 };

		assert_int_equal(io_run(w, PST_IO_READ, i, 1, buf), PST_OK);
		if (i < 7 || i >= 10)
			assert_memory_equal(buf, zero, B);
	}
	pst_sim_run_for(w->r->sim, 20 * RIG_SECOND);
	assert_true(stats(w).used_bytes <= used_empty + (3 + 12) * B);
	verify(w);
	assert_true(fill_up(w, 10, 3) + 20 > lba);
	verify(w);
	stop(w);
	assert_int_equal(start(w), PST_OK);
	volume_open(w);
	verify(w);
	world_free(w);
}

static void whole_discard_is_one_step(void **state)
{
	(void)state;
	whole_discard(20, false);
	whole_discard(21, false);
	for (uint64_t seed = 30; seed < 50; seed++)
		whole_discard(seed, true);
}

static unsigned occurrences(const char *text, const char *what)
{
	unsigned n = 0;

	for (const char *at = text; (at = strstr(at, what)) != NULL; at++)
		n++;
	return n;
}

/* Each threshold speaks once on the way up and, after a margin, once on the way down. */
static void thresholds_speak_once(void **state)
{
	struct world *w = world_new(12, 1);
	uint64_t lba = fill_up(w, 0, 1);

	(void)state;
	assert_int_equal(occurrences(w->r->events, "pool_space_low"), 3);
	assert_int_equal(occurrences(w->r->events, "percent=80"), 1);
	assert_int_equal(occurrences(w->r->events, "percent=90"), 1);
	assert_int_equal(occurrences(w->r->events, "pool_full"), 1);
	for (unsigned i = 0; i < 50; i++) { /* up and down at the edge */
		assert_int_equal(io_run(w, PST_IO_DISCARD, lba - 2, 2, NULL), PST_OK);
		fill_up(w, lba - 2, 2);
	}
	assert_int_equal(occurrences(w->r->events, "pool_space_low"), 3);
	assert_int_equal(occurrences(w->r->events, "pool_full"), 1);
	assert_int_equal(io_run(w, PST_IO_DISCARD, 0, lba, NULL), PST_OK);
	assert_int_equal(io_run(w, PST_IO_FLUSH, 0, 0, NULL), PST_OK);
	pst_sim_run_for(w->r->sim, RIG_SECOND);
	assert_int_equal(occurrences(w->r->events, "pool_space_better"), 3);
	assert_int_equal(occurrences(w->r->events, "pool_space_back"), 1);
	world_free(w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(added_device_gives_space),
		cmocka_unit_test(growth_has_an_end),
		cmocka_unit_test(senseless_growth_is_refused),
		cmocka_unit_test(device_of_a_pool_is_recognised),
		cmocka_unit_test(missing_device_is_named),
		cmocka_unit_test(damaged_region_header_is_found),
		cmocka_unit_test(crash_in_growth_is_all_or_nothing),
		cmocka_unit_test(what_is_freed_beside_a_checkpoint_waits_for_the_next),
		cmocka_unit_test(full_pool_takes_what_gives_back),
		cmocka_unit_test(deletion_works_in_a_full_pool),
		cmocka_unit_test(paused_write_goes_on_with_new_space),
		cmocka_unit_test(paused_writes_hold_nothing),
		cmocka_unit_test(recalled_writes_do_not_land),
		cmocka_unit_test(reservation_is_kept),
		cmocka_unit_test(thresholds_speak_once),
		cmocka_unit_test(inherited_blocks_need_new_ones),
		cmocka_unit_test(snapshot_needs_the_reservation_anew),
		cmocka_unit_test(whole_discard_is_one_step),
	};

	return cmocka_run_group_tests_name("store-space", tests, NULL, NULL);
}

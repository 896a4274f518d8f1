/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Growth of a pool in the simulator, by devices and by their tails, with crashes at any moment of it; devices that are
 * missing, foreign or damaged.
 */
#include "space-rig.h"

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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(added_device_gives_space),          cmocka_unit_test(growth_has_an_end),
		cmocka_unit_test(senseless_growth_is_refused),       cmocka_unit_test(device_of_a_pool_is_recognised),
		cmocka_unit_test(missing_device_is_named),           cmocka_unit_test(damaged_region_header_is_found),
		cmocka_unit_test(crash_in_growth_is_all_or_nothing),
	};

	return cmocka_run_group_tests_name("store-growth", tests, NULL, NULL);
}

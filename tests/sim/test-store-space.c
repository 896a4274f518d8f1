/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Space of a pool in the simulator: when blocks are free again, and what a full pool still takes. The sums must always
 * be exact: used and free make up what the pool has for data.
 */
#include "space-rig.h"

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

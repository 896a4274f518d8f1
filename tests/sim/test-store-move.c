/* SPDX-License-Identifier: Apache-2.0 */
/* Moving blocks (src/store/move.h): alone, against everything that may come in between, and under crashes. */
#include "oracle.h"
#include "pool-image.h"
#include "store-rig.h"
#include "store/move.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define MIB ((uint64_t)1 << 20)

struct mover {
	struct move move;
	uint8_t *buffer;
	bool busy;
};

static void moved(struct move *m)
{
	pst_container_of(m, struct mover, move)->busy = false;
}

static bool is_idle(void *ctx)
{
	return !((struct mover *)ctx)->busy;
}

static struct node *leaf_of(struct rig *r, unsigned volume, uint64_t lba)
{
	struct store *st = rig_store(r);
	const struct svol *v = pst_container_of(r->volumes[volume], struct svol, volume);
	struct node *leaf = cache_find(&st->cache, &st->parts[0], 0, map_leaf_index(v->disk.slot, lba));

	return leaf != NULL && !leaf->loading ? leaf : NULL;
}

/* Pools here have one partition, so local LBAs are the volume's. False: not all of it has data. */
static bool begin(struct rig *r, struct mover *mv, unsigned volume, uint64_t lba, uint32_t count, bool whole)
{
	const struct svol *v = pst_container_of(r->volumes[volume], struct svol, volume);
	struct node *leaf = leaf_of(r, volume, lba);
	uint32_t at = (uint32_t)(lba % PST_NODE_FANOUT);

	if (leaf == NULL || at + count > PST_NODE_FANOUT)
		return false;
	for (uint32_t i = 0; i < count; i++)
		if (move_old(leaf, at + i) == 0)
			return false;
	if (mv->buffer == NULL)
		mv->buffer = aligned_alloc(PST_BLOCK_BYTES, (size_t)PST_PIECE_BLOCKS_MAX * PST_BLOCK_BYTES);
	mv->busy = true;
	mv->move.done = moved;
	mv->move.run_min = whole ? count : 1;
	move_begin(&mv->move, leaf->part, v->disk.slot, lba, leaf, count, mv->buffer);
	return true;
}

static void end(struct rig *r, struct mover *mv)
{
	assert_true(pst_sim_run_until(r->sim, is_idle, mv, 600 * RIG_SECOND));
}

static uint32_t block_at(struct rig *r, uint64_t lba)
{
	return leaf_of(r, 0, lba)->data->entry[lba % PST_NODE_FANOUT].block;
}

/* 64 blocks, written backwards one by one: no two lie in a row. */
static struct rig *scattered(uint64_t seed)
{
	struct rig *r = rig_new(seed, 8 * MIB, 1);

	rig_start(r);
	rig_create(r, 0, 504);
	for (unsigned i = 64; i > 0; i--)
		assert_int_equal(rig_fill(r, 0, i - 1, 1, (uint8_t)i), PST_OK);
	return r;
}

static void assert_contents(struct rig *r)
{
	for (unsigned i = 0; i < 64; i++)
		assert_int_equal(rig_byte(r, 0, i), i + 1);
}

/* Scattered blocks lie in a row afterwards, with the same contents, also for the next process; nothing leaks. */
static void puts_blocks_in_a_row(void **state)
{
	struct rig *r = scattered(1);
	struct mover mv = { 0 };
	uint64_t used = rig_store(r)->parts[0].alloc.used_count;

	(void)state;
	assert_true(begin(r, &mv, 0, 0, 64, true));
	end(r, &mv);
	assert_int_equal(mv.move.err, PST_OK);
	assert_int_equal(mv.move.moved, 64);
	for (uint64_t i = 1; i < 64; i++)
		assert_int_equal(block_at(r, i), block_at(r, 0) + i);
	assert_int_equal(rig_store(r)->parts[0].alloc.used_count, used);
	assert_contents(r);
	rig_kill(r);
	rig_start(r);
	assert_contents(r);
	for (uint64_t i = 1; i < 64; i++)
		assert_int_equal(block_at(r, i), block_at(r, 0) + i);
	rig_stop(r);
	rig_free(r);
	free(mv.buffer);
}

/* What is overwritten or discarded while it is being moved stays as the user made it; its neighbours are moved. */
static void never_undoes_a_write(void **state)
{
	(void)state;
	for (uint64_t delay = 0; delay < 600; delay += 20) {
		struct rig *r = scattered(100 + delay);
		struct mover mv = { 0 };
		uint32_t was = block_at(r, 30);

		assert_true(begin(r, &mv, 0, 0, 64, true));
		pst_sim_run_for(r->sim, delay * 1000);
		assert_int_equal(rig_fill(r, 0, 10, 1, 200), PST_OK);
		assert_int_equal(rig_io(r, 0, PST_IO_DISCARD, 20, 1, NULL), PST_OK);
		end(r, &mv);
		assert_int_equal(mv.move.err, PST_OK);
		assert_int_equal(rig_byte(r, 0, 10), 200);
		assert_int_equal(rig_byte(r, 0, 20), 0);
		assert_int_equal(rig_byte(r, 0, 30), 31);
		assert_int_not_equal(block_at(r, 30), was);
		rig_kill(r);
		rig_start(r);
		assert_int_equal(rig_byte(r, 0, 10), 200);
		assert_int_equal(rig_byte(r, 0, 20), 0);
		assert_int_equal(rig_byte(r, 0, 30), 31);
		rig_stop(r);
		rig_free(r);
		free(mv.buffer);
	}
}

static struct pst_file_op *held;

static void hold_read(struct pst_file_op *op)
{
	held = op;
}

/*
 * Blocks that a move reads are not handed out again before it ends, though they were overwritten and that is durable;
 * and what it wrote in vain is free only when its record is durable, because recovery may still use it.
 */
static void its_blocks_are_not_reused_early(void **state)
{
	struct rig *r = scattered(5);
	struct pst_alloc *a = &rig_store(r)->parts[0].alloc;
	struct mover mv = { 0 };
	uint32_t old = block_at(r, 10);
	void (*read_done)(struct pst_file_op * op);

	(void)state;
	assert_true(begin(r, &mv, 0, 0, 64, true));
	read_done = mv.move.fetch.reads[0].op.done;
	mv.move.fetch.reads[0].op.done = hold_read;
	assert_int_equal(rig_fill(r, 0, 10, 1, 200), PST_OK);
	assert_int_equal(rig_io(r, 0, PST_IO_FLUSH, 0, 0, NULL), PST_OK);
	pst_sim_run_for(r->sim, RIG_SECOND);
	assert_true(pst_alloc_is_busy(a, old));
	read_done(held);
	end(r, &mv);
	assert_int_equal(mv.move.moved, 63);
	assert_true(pst_alloc_is_busy(a, mv.move.block + 10));
	assert_int_equal(rig_io(r, 0, PST_IO_FLUSH, 0, 0, NULL), PST_OK);
	pst_sim_run_for(r->sim, RIG_SECOND);
	assert_false(pst_alloc_is_busy(a, old));
	assert_false(pst_alloc_is_busy(a, mv.move.block + 10));
	rig_stop(r);
	rig_free(r);
	free(mv.buffer);
}

/* A block that has rotted ends the move with an event that names it; nothing is moved, no rot gets a new checksum. */
static void rot_is_not_moved(void **state)
{
	struct rig *r = scattered(2);
	struct mover mv = { 0 };
	uint32_t block = block_at(r, 5), before = block_at(r, 6);
	uint64_t offset = (rig_store(r)->parts[0].geo.start + block) * PST_BLOCK_BYTES + 99;
	uint8_t buf[PST_BLOCK_BYTES];

	(void)state;
	assert_true(pst_sim_disk_poke(r->node, RIG_PATH, offset, "x", 1));
	assert_true(begin(r, &mv, 0, 0, 64, true));
	end(r, &mv);
	assert_int_equal(mv.move.err, PST_E_CHECKSUM);
	assert_int_equal(mv.move.moved, 0);
	assert_int_equal(block_at(r, 6), before);
	assert_int_equal(rig_io(r, 0, PST_IO_READ, 5, 1, buf), PST_E_CHECKSUM);
	assert_non_null(strstr(r->events, "lba=5 "));
	rig_free(r);
	free(mv.buffer);
}

/* No row is free: asked for a whole one, it says so and leaves everything; else it moves what fits. */
static void without_a_row(void **state)
{
	struct rig *r = scattered(3);
	struct pst_alloc *a = &rig_store(r)->parts[0].alloc;
	struct mover mv = { 0 };
	uint32_t before = block_at(r, 0);

	(void)state;
	for (uint32_t b = a->data_start; b < a->blocks; b += 20)
		if (!pst_alloc_is_busy(a, b))
			pst_alloc_hold(a, b);
	assert_true(begin(r, &mv, 0, 0, 64, true));
	end(r, &mv);
	assert_int_equal(mv.move.err, PST_E_NOSPACE);
	assert_int_equal(block_at(r, 0), before);
	assert_true(begin(r, &mv, 0, 0, 64, false));
	end(r, &mv);
	assert_int_equal(mv.move.err, PST_OK);
	assert_int_equal(mv.move.count, 16);
	assert_int_equal(mv.move.moved, 16);
	assert_contents(r);
	rig_free(r);
	free(mv.buffer);
}

static void (*write_done)(struct pst_file_op *op);

static void write_failed(struct pst_file_op *op)
{
	op->err = PST_E_IO;
	write_done(op);
}

/* The data write of a move fails: the move says so, what was there stays, and the pool is whole when opened again. */
static void its_write_fails(void **state)
{
	struct rig *r = scattered(4);
	struct mover mv = { 0 };
	uint32_t before = block_at(r, 0);

	(void)state;
	assert_true(begin(r, &mv, 0, 0, 64, true));
	while (mv.move.fetch.reading > 0)
		assert_true(pst_sim_step(r->sim));
	while (mv.move.op.done == NULL)
		assert_true(pst_sim_step(r->sim));
	/* It has been submitted: its end is overheard. */
	write_done = mv.move.op.done;
	mv.move.op.done = write_failed;
	end(r, &mv);
	assert_int_equal(mv.move.err, PST_E_IO);
	assert_int_equal(mv.move.moved, 0);
	assert_int_equal(block_at(r, 0), before);
	assert_contents(r);
	for (unsigned i = 0; i < 2; i++) {
		if (i == 0)
			rig_kill(r);
		else
			rig_power(r);
		rig_start(r);
		assert_contents(r);
		assert_int_equal(block_at(r, 0), before);
	}
	rig_stop(r);
	rig_free(r);
	free(mv.buffer);
}

/* ---- Everything at once, with crashes ---- */

#define BLOCKS 300u
#define OPS 6u
#define MOVERS 3u

struct op {
	struct soup *s;
	struct pst_io io;
	struct iovec iov;
	uint8_t *buf;
	struct oracle_read *read;
	struct oracle_flush *flush;
	bool busy;
};

struct soup {
	uint64_t seed;
	struct rig *r;
	struct oracle *oracle;
	struct op ops[OPS];
	struct mover movers[MOVERS];
	uint64_t moves, moved, passed_over;
};

static void op_done(struct pst_io *io)
{
	struct op *op = pst_container_of(io, struct op, io);
	char why[256] = "";
	bool ok = io->err == PST_OK;

	op->busy = false;
	assert_true(ok || io->err == PST_E_NOSPACE || io->err == PST_E_LOST);
	if (io->kind == PST_IO_READ && !oracle_read_end(op->read, ok ? op->buf : NULL, why))
		fail_msg("seed %llu: %s", (unsigned long long)op->s->seed, why);
	else if (io->kind == PST_IO_FLUSH)
		oracle_flush_end(op->flush, ok);
	else if (io->kind != PST_IO_READ)
		oracle_write_end(op->s->oracle, io->lba, io->block_count, ok, false);
}

static uint64_t below(struct soup *s, uint64_t bound)
{
	return pst_sim_rand_below(s->r->sim, bound);
}

static void request(struct soup *s, struct op *op, enum pst_io_kind kind, uint64_t lba, uint64_t count)
{
	if (kind != PST_IO_READ && kind != PST_IO_FLUSH && oracle_busy(s->oracle, lba, count))
		return;
	op->s = s;
	op->iov = (struct iovec){ op->buf, count * PST_BLOCK_BYTES };
	op->io = (struct pst_io){ .kind = kind, .lba = lba, .block_count = count, .done = op_done };
	if (kind == PST_IO_READ || kind == PST_IO_WRITE) {
		op->io.iov = &op->iov;
		op->io.iov_count = 1;
	}
	if (kind == PST_IO_READ)
		op->read = oracle_read_begin(s->oracle, lba, count);
	else if (kind == PST_IO_FLUSH)
		op->flush = oracle_flush_begin(s->oracle);
	else
		oracle_write_begin(s->oracle, lba, count, kind == PST_IO_WRITE ? op->buf : NULL);
	op->busy = true;
	pst_volume_submit(s->r->volumes[0], &op->io);
}

static void some_request(struct soup *s, struct op *op)
{
	unsigned what = (unsigned)below(s, 100);
	uint64_t lba = below(s, BLOCKS), count = 1 + below(s, PST_MIN(BLOCKS - lba, 8u));

	if (what < 60)
		request(s, op, PST_IO_WRITE, lba, count);
	else if (what < 85)
		request(s, op, PST_IO_READ, lba, count);
	else if (what < 92)
		request(s, op, PST_IO_DISCARD, lba, count);
	else
		request(s, op, PST_IO_FLUSH, 0, 0);
}

static bool soup_idle(void *ctx)
{
	struct soup *s = ctx;
	bool busy = false;

	for (unsigned i = 0; i < OPS; i++)
		busy = busy || s->ops[i].busy;
	for (unsigned i = 0; i < MOVERS; i++)
		busy = busy || s->movers[i].busy;
	return !busy;
}

static void drain(struct soup *s)
{
	assert_true(pst_sim_run_until(s->r->sim, soup_idle, s, 600 * RIG_SECOND));
}

static void forget(struct soup *s)
{
	for (unsigned i = 0; i < OPS; i++) {
		struct op *op = &s->ops[i];

		if (!op->busy)
			continue;
		if (op->io.kind == PST_IO_READ)
			oracle_read_end(op->read, NULL, (char[256]){ 0 });
		else if (op->io.kind == PST_IO_FLUSH)
			oracle_flush_end(op->flush, false);
		else
			oracle_write_end(s->oracle, op->io.lba, op->io.block_count, false, false);
		op->busy = false;
	}
	for (unsigned i = 0; i < MOVERS; i++)
		s->movers[i].busy = false;
}

static void verify(struct soup *s)
{
	for (uint64_t lba = 0; lba < BLOCKS; lba += 100) {
		request(s, &s->ops[0], PST_IO_READ, lba, 100);
		drain(s);
	}
}

static bool image_read(void *ctx, uint64_t block, void *buf)
{
	return pst_sim_disk_peek(((struct rig *)ctx)->node, RIG_PATH, block * PST_BLOCK_BYTES, buf, PST_BLOCK_BYTES);
}

static void some_move(struct soup *s, struct mover *mv)
{
	uint32_t count = 1 + (uint32_t)below(s, 20);

	assert_true(mv->move.err == PST_OK || mv->move.err == PST_E_NOSPACE); /* it reads nothing that was reused */
	s->moved += mv->move.moved;
	s->passed_over += mv->move.err == PST_OK ? mv->move.count - mv->move.moved : 0;
	mv->move.moved = mv->move.count = 0;
	s->moves += begin(s->r, mv, 0, below(s, BLOCKS - count), count, below(s, 2) == 0);
}

static void live(struct soup *s)
{
	unsigned steps = (unsigned)below(s, 500);
	struct pst_pool_op straighten = { .kind = PST_POOL_TASK_START, .task = PST_TASK_STRAIGHTEN };

	rig_start(s->r);
	request(s, &s->ops[0], PST_IO_FLUSH, 0, 0);
	drain(s);
	verify(s);
	if (below(s, 2) == 0)
		(void)rig_pool(s->r, straighten);
	for (unsigned i = 0; i < steps; i++) {
		struct op *op = &s->ops[below(s, OPS)];
		struct mover *mv = &s->movers[below(s, MOVERS)];

		if (!op->busy)
			some_request(s, op);
		if (!mv->busy && below(s, 3) == 0)
			some_move(s, mv);
		if (below(s, 2) == 0)
			pst_sim_run_for(s->r->sim, below(s, 300 * 1000));
	}
	if (below(s, 3) == 0) {
		char why[256];

		drain(s);
		rig_stop(s->r);
		if (!pool_image_check(image_read, s->r, why))
			fail_msg("seed %llu: %s", (unsigned long long)s->seed, why);
		return;
	}
	forget(s);
	if (below(s, 2) == 0) {
		rig_kill(s->r);
		return;
	}
	rig_power(s->r);
	oracle_power_loss(s->oracle);
}

/*
 * Moves of everything, all the time, in a pool that is nearly full, against writes, discards, flushes and crashes; in
 * half of the lives a straightening runs too. SEEDS=N: so many pools.
 */
static void survives_crashes(void **state)
{
	uint64_t total_moved = 0, total_passed = 0;
	uint64_t seeds = getenv("SEEDS") != NULL ? strtoull(getenv("SEEDS"), NULL, 10) : 120;

	(void)state;
	for (uint64_t seed = 1; seed <= seeds; seed++) {
		struct soup s = { .seed = seed, .r = rig_new(seed, (400 + seed % 10 * 90) * PST_BLOCK_BYTES, 1) };
		struct pst_sim_faults faults;
		unsigned lives = 2 + (unsigned)below(&s, 5);

		s.oracle = oracle_new(0, BLOCKS);
		for (unsigned i = 0; i < OPS; i++)
			s.ops[i].buf = aligned_alloc(PST_BLOCK_BYTES, 100 * PST_BLOCK_BYTES);
		s.r->config.metadata_cache_bytes = below(&s, 2) == 0 ? 0 : 300 * 1024;
		rig_start(s.r);
		rig_create(s.r, 0, BLOCKS);
		rig_stop(s.r);
		pst_sim_faults_swarm(s.r->sim, PST_SIM_DISK_TIMING | PST_SIM_DISK_TEARS, &faults);
		pst_sim_set_faults(s.r->sim, NULL, &faults);
		for (unsigned i = 0; i < lives; i++)
			live(&s);
		total_moved += s.moved;
		total_passed += s.passed_over;
		for (unsigned i = 0; i < OPS; i++)
			free(s.ops[i].buf);
		for (unsigned i = 0; i < MOVERS; i++)
			free(s.movers[i].buffer);
		oracle_free(s.oracle);
		rig_free(s.r);
	}
	print_message("%llu blocks moved, %llu had changed meanwhile\n", (unsigned long long)total_moved,
		      (unsigned long long)total_passed);
	assert_true(total_moved > seeds * 80);
	assert_true(total_passed > seeds);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(puts_blocks_in_a_row),
		cmocka_unit_test(never_undoes_a_write),
		cmocka_unit_test(its_blocks_are_not_reused_early),
		cmocka_unit_test(rot_is_not_moved),
		cmocka_unit_test(without_a_row),
		cmocka_unit_test(its_write_fails),
		cmocka_unit_test(survives_crashes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

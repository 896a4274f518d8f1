/* SPDX-License-Identifier: Apache-2.0 */
/* Read-ahead: sequences find their data in memory, and never anything but what the volume holds at that moment. */
#include "oracle.h"
#include "store-rig.h"
#include "store/readahead.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define MIB ((uint64_t)1 << 20)
#define BLOCKS 2048u
#define STEP 8u

static uint8_t byte_of(uint64_t lba)
{
	return (uint8_t)(1 + lba / STEP % 251);
}

static struct rig *rig(uint64_t readahead_bytes)
{
	struct rig *r = rig_new(1, 32 * MIB, 2);

	r->config.readahead_bytes = readahead_bytes;
	rig_start(r);
	rig_create(r, 0, BLOCKS);
	for (uint64_t lba = 0; lba < BLOCKS; lba += STEP)
		assert_int_equal(rig_fill(r, 0, lba, STEP, byte_of(lba)), PST_OK);
	return r;
}

static uint64_t device_reads(struct rig *r)
{
	struct pst_sim_stats stats;

	pst_sim_stats(r->sim, &stats);
	return stats.reads;
}

static void read_step(struct rig *r, uint64_t lba, uint8_t byte)
{
	uint8_t buf[STEP * PST_BLOCK_BYTES];

	assert_int_equal(rig_io(r, 0, PST_IO_READ, lba, STEP, buf), PST_OK);
	for (size_t i = 0; i < sizeof(buf); i++)
		if (buf[i] != byte)
			fail_msg("lba %llu: %u, not %u", (unsigned long long)lba, buf[i], byte);
}

/* A volume read in small steps, one at a time, costs a fraction of the device reads, and far less time. */
static void sequences_are_read_ahead(void **state)
{
	uint64_t reads[2], ns[2];

	(void)state;
	for (unsigned on = 0; on < 2; on++) {
		struct rig *r = rig(on ? 0 : PST_READAHEAD_NONE);
		uint64_t begun = pst_sim_now_ns(r->sim);

		reads[on] = device_reads(r);
		for (uint64_t lba = 0; lba < BLOCKS; lba += STEP)
			read_step(r, lba, byte_of(lba));
		reads[on] = device_reads(r) - reads[on];
		ns[on] = pst_sim_now_ns(r->sim) - begun;
		rig_stop(r);
		rig_free(r);
	}
	assert_true(reads[1] < reads[0] / 4);
	assert_true(ns[1] < ns[0] / 4);
}

/* Reads here and there fetch nothing that was not asked for. */
static void random_reads_are_left_alone(void **state)
{
	struct rig *r = rig(0);
	struct pst_pool_stats before, after;

	(void)state;
	pst_pool_stats(r->pool, &before);
	for (uint64_t i = 0; i < 200; i++)
		read_step(r, i * 37 % (BLOCKS / STEP) * STEP, byte_of(i * 37 % (BLOCKS / STEP) * STEP));
	pst_pool_stats(r->pool, &after);
	assert_int_equal(after.device_read_bytes - before.device_read_bytes, 200 * STEP * PST_BLOCK_BYTES);
	rig_stop(r);
	rig_free(r);
}

/* What is overwritten or discarded after it was fetched reads as it is now: also when the block is used again for it.
 */
static void stale_data_is_never_served(void **state)
{
	struct rig *r = rig(0);

	(void)state;
	for (uint64_t lba = 0; lba < BLOCKS; lba += STEP) {
		uint64_t ahead = lba + 2 * STEP;

		read_step(r, lba, lba < 10 * STEP || lba % (3 * STEP) != 0 ? byte_of(lba) : lba % 2 == 0 ? 252 : 0);
		if (ahead < BLOCKS && ahead >= 10 * STEP && ahead % (3 * STEP) == 0)
			assert_int_equal(rig_fill(r, 0, ahead, STEP, 252), PST_OK);
		pst_sim_run_for(r->sim, 1000000);
	}
	for (uint64_t lba = 0; lba < 512; lba += STEP) {
		read_step(r, lba, lba < 10 * STEP || lba % (3 * STEP) != 0 ? byte_of(lba) : 252);
		assert_int_equal(rig_io(r, 0, PST_IO_DISCARD, lba + 2 * STEP, STEP, NULL), PST_OK);
		assert_int_equal(rig_fill(r, 0, lba + 2 * STEP, STEP, byte_of(lba + 2 * STEP)), PST_OK);
		if (lba + 2 * STEP >= 10 * STEP && (lba + 2 * STEP) % (3 * STEP) == 0)
			assert_int_equal(rig_fill(r, 0, lba + 2 * STEP, STEP, 252), PST_OK);
	}
	rig_stop(r);
	rig_free(r);
}

/* A rotten block is never served from a window: its read fails with the checksum, all others are right. */
static void rot_is_never_served(void **state)
{
	struct rig *r = rig(0);
	const struct svol *v = pst_container_of(r->volumes[0], struct svol, volume);
	struct part *p = &rig_store(r)->parts[0];
	const struct node *leaf = cache_find(&rig_store(r)->cache, p, 0, map_leaf_index(v->disk.slot, 200));
	uint8_t buf[STEP * PST_BLOCK_BYTES];

	(void)state;
	assert_true(pst_sim_disk_poke(r->node, RIG_PATH,
				      (p->geo.start + leaf->data->entry[200].block) * PST_BLOCK_BYTES + 7, "x", 1));
	for (uint64_t lba = 0; lba < BLOCKS; lba += STEP) {
		if (lba == 200)
			assert_int_equal(rig_io(r, 0, PST_IO_READ, lba, STEP, buf), PST_E_CHECKSUM);
		else
			read_step(r, lba, byte_of(lba));
	}
	rig_free(r);
}

/* Its memory is what was configured: with room for two windows, many sequences at once still read right. */
static void memory_is_bounded(void **state)
{
	struct rig *r = rig(MIB);

	(void)state;
	for (uint64_t i = 0; i < BLOCKS / 8; i += STEP)
		for (uint64_t sequence = 0; sequence < 8; sequence++)
			read_step(r, sequence * (BLOCKS / 8) + i, byte_of(sequence * (BLOCKS / 8) + i));
	rig_stop(r);
	rig_free(r);
}

/* The volume is closed, or the process killed, while windows are being read: nothing of them is left behind. */
static void closing_in_between(void **state)
{
	(void)state;
	for (uint64_t ns = 0; ns < 400000; ns += 10000) {
		struct rig *r = rig(0);

		for (uint64_t lba = 0; lba < 10 * STEP; lba += STEP)
			read_step(r, lba, byte_of(lba));
		pst_sim_run_for(r->sim, ns);
		if (ns % 20000 == 0) {
			rig_stop(r);
		} else {
			rig_close(r, 0);
			rig_kill(r);
		}
		rig_start(r);
		read_step(r, 0, byte_of(0));
		rig_stop(r);
		rig_free(r);
	}
}

/* ---- Sequences against writers, all the time ---- */

struct op {
	struct pst_io io;
	struct iovec iov;
	struct oracle *oracle;
	struct oracle_read *read;
	uint8_t *buf;
	bool busy;
};

static void op_done(struct pst_io *io)
{
	struct op *op = pst_container_of(io, struct op, io);
	char why[256];

	op->busy = false;
	assert_int_equal(io->err, PST_OK);
	if (io->kind != PST_IO_READ)
		oracle_write_end(op->oracle, io->lba, io->block_count, true, false);
	else if (!oracle_read_end(op->read, op->buf, why))
		fail_msg("%s", why);
}

static void submit(struct rig *r, struct op *op, enum pst_io_kind kind, uint64_t lba, uint64_t count)
{
	if (kind != PST_IO_READ && oracle_busy(op->oracle, lba, count))
		return;
	if (kind == PST_IO_READ)
		op->read = oracle_read_begin(op->oracle, lba, count);
	else
		oracle_write_begin(op->oracle, lba, count, kind == PST_IO_WRITE ? op->buf : NULL);
	op->iov = (struct iovec){ op->buf, count * PST_BLOCK_BYTES };
	op->io = (struct pst_io){ .kind = kind, .lba = lba, .block_count = count, .done = op_done };
	if (kind != PST_IO_DISCARD) {
		op->io.iov = &op->iov;
		op->io.iov_count = 1;
	}
	op->busy = true;
	pst_volume_submit(r->volumes[0], &op->io);
}

static bool ops_idle(void *ctx)
{
	struct op *ops = ctx;

	return !ops[0].busy && !ops[1].busy;
}

/* One sequence round and round, and writes, discards and straightening just before it: the oracle judges each read. */
static void sequences_against_writers(void **state)
{
	uint64_t served = 0;

	(void)state;
	for (uint64_t seed = 1; seed <= 60; seed++) {
		struct rig *r = rig_new(seed, 400 * PST_BLOCK_BYTES, 1);
		struct op ops[2] = { 0 };
		struct oracle *oracle = oracle_new(0, 256);
		struct pst_pool_op straighten = { .kind = PST_POOL_TASK_START, .task = PST_TASK_STRAIGHTEN };
		uint64_t at = 0;

		r->config.metadata_cache_bytes = 300 * 1024;
		rig_start(r);
		rig_create(r, 0, 256);
		for (unsigned i = 0; i < 2; i++) {
			ops[i].oracle = oracle;
			ops[i].buf = aligned_alloc(PST_BLOCK_BYTES, 32 * PST_BLOCK_BYTES);
		}
		for (uint64_t lba = 0; lba < 256; lba += 32) {
			submit(r, &ops[1], PST_IO_WRITE, lba, 32);
			assert_true(pst_sim_run_until(r->sim, ops_idle, ops, 60 * RIG_SECOND));
		}
		for (unsigned i = 0; i < 600; i++) {
			uint64_t lba = (at + 8 + pst_sim_rand_below(r->sim, 64)) % 250;

			if (i % 200 == 50)
				(void)rig_pool(r, straighten);
			if (!ops[0].busy) {
				submit(r, &ops[0], PST_IO_READ, at, 4);
				at = (at + 4) % 256;
			}
			if (!ops[1].busy && pst_sim_rand_below(r->sim, 3) == 0)
				submit(r, &ops[1], pst_sim_rand_below(r->sim, 4) == 0 ? PST_IO_DISCARD : PST_IO_WRITE,
				       lba, 1 + pst_sim_rand_below(r->sim, 6));
			pst_sim_run_for(r->sim, pst_sim_rand_below(r->sim, 200000));
		}
		assert_true(pst_sim_run_until(r->sim, ops_idle, ops, 60 * RIG_SECOND));
		served += readahead_served(rig_store(r));
		rig_stop(r);
		free(ops[0].buf);
		free(ops[1].buf);
		oracle_free(oracle);
		rig_free(r);
	}
	print_message("%llu blocks served\n", (unsigned long long)served);
	assert_true(served > 10000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sequences_are_read_ahead),   cmocka_unit_test(random_reads_are_left_alone),
		cmocka_unit_test(stale_data_is_never_served), cmocka_unit_test(rot_is_never_served),
		cmocka_unit_test(memory_is_bounded),          cmocka_unit_test(closing_in_between),
		cmocka_unit_test(sequences_against_writers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

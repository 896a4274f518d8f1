/* SPDX-License-Identifier: Apache-2.0 */
/* The store on one failing device, fault by fault: what the random simulation meets too rarely to rely on. */
#include "store-rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct rig *rig(uint64_t seed)
{
	struct rig *r = rig_new(seed, 4 << 20, 0);

	rig_start(r);
	rig_create(r, 0, 64);
	return r;
}

/* ---- A flush that fails ---- */

static bool flush_has_failed(void *ctx)
{
	struct pst_sim_stats stats;

	pst_sim_stats(((struct rig *)ctx)->sim, &stats);
	return stats.flush_errors > 0;
}

/* The next flush fails and drops about half of what it covered; @later: so do all after it. */
static void fail_flush(struct rig *r, bool later)
{
	struct pst_sim_faults faults = { .disk_flush_error_ppm = 1000000 };

	pst_sim_set_faults(r->sim, r->node, &faults);
	rig_io_begin(r, 0, PST_IO_FLUSH, 0, 0, NULL);
	assert_true(pst_sim_run_until(r->sim, flush_has_failed, r, 60 * RIG_SECOND));
	if (!later)
		pst_sim_heal(r->sim);
	rig_finish(r);
	assert_int_not_equal(r->io.err, PST_OK);
	assert_non_null(strstr(r->events, "flush_failed"));
	assert_int_equal(rig_fill(r, 0, 2, 1, 99), PST_E_IO);
	assert_int_equal(rig_io(r, 0, PST_IO_FLUSH, 0, 0, NULL), PST_E_IO);
	pst_sim_heal(r->sim);
}

/*
 * Opened again: what was flushed stands, what was not is old or new and stays so, and the first flush tells.
 */
static void assert_as_after_a_crash(struct rig *r)
{
	uint8_t first, second;

	assert_int_equal(rig_open(r), PST_OK);
	assert_non_null(strstr(r->events, "device_flush_failed_before"));
	assert_int_equal(rig_volume_open(r, 0), PST_OK);
	first = rig_byte(r, 0, 0);
	second = rig_byte(r, 0, 1);
	assert_true(first == 1 || first == 2);
	assert_true(second == 0 || second == 3);
	assert_int_equal(rig_byte(r, 0, 2), 0);
	assert_int_equal(rig_io(r, 0, PST_IO_FLUSH, 0, 0, NULL), PST_E_LOST);
	assert_int_equal(rig_io(r, 0, PST_IO_FLUSH, 0, 0, NULL), PST_OK);
	/* A success covers what could be read before it, though the failed flush may have dropped it. */
	pst_sim_power_off(r->node);
	pst_sim_power_on(r->node);
	assert_int_equal(rig_open(r), PST_OK);
	assert_int_equal(rig_volume_open(r, 0), PST_OK);
	assert_int_equal(rig_byte(r, 0, 0), first);
	assert_int_equal(rig_byte(r, 0, 1), second);
	assert_int_equal(rig_io(r, 0, PST_IO_FLUSH, 0, 0, NULL), PST_E_LOST);
}

static struct rig *rig_with_unflushed_writes(uint64_t seed)
{
	struct rig *r = rig(seed);

	assert_int_equal(rig_fill(r, 0, 0, 1, 1), PST_OK);
	assert_int_equal(rig_io(r, 0, PST_IO_FLUSH, 0, 0, NULL), PST_OK);
	assert_int_equal(rig_fill(r, 0, 0, 1, 2), PST_OK);
	assert_int_equal(rig_fill(r, 0, 1, 1, 3), PST_OK);
	return r;
}

/* The process dies after a flush failed; the machine goes on. The next open counts it like a machine crash. */
static void killed_after_a_failed_flush(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed <= 20; seed++) {
		struct rig *r = rig_with_unflushed_writes(seed);

		fail_flush(r, seed % 2 == 0);
		pst_sim_kill(r->node);
		assert_as_after_a_crash(r);
		rig_free(r);
	}
}

/* The same when volume and pool are closed in order: the pool can't be clean. */
static void closed_after_a_failed_flush(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed <= 20; seed++) {
		struct rig *r = rig_with_unflushed_writes(seed);

		fail_flush(r, seed % 2 == 0);
		rig_close(r, 0);
		(void)rig_pool(r, (struct pst_pool_op){ .kind = PST_POOL_CLOSE });
		pst_sim_kill(r->node);
		assert_as_after_a_crash(r);
		rig_free(r);
	}
}

/* The note of a failed flush ends with the open that heeded it: a mere kill later loses nothing and tells nothing. */
static void failed_flush_is_told_once(void **state)
{
	struct rig *r = rig_with_unflushed_writes(1);

	(void)state;
	fail_flush(r, false);
	pst_sim_kill(r->node);
	assert_as_after_a_crash(r);
	assert_int_equal(rig_fill(r, 0, 5, 1, 6), PST_OK);
	pst_sim_kill(r->node);
	assert_int_equal(rig_open(r), PST_OK);
	assert_null(strstr(r->events, "lost"));
	assert_int_equal(rig_volume_open(r, 0), PST_OK);
	assert_int_equal(rig_byte(r, 0, 5), 6);
	assert_int_equal(rig_io(r, 0, PST_IO_FLUSH, 0, 0, NULL), PST_OK);
	rig_free(r);
}

/*
 * A flush fails in the midst of writes and checkpoints, the process dies, and then the power fails while the pool is
 * opened or soon after: it always opens again, and a block is never worse than flushed before.
 */
static void power_loss_after_a_failed_flush(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed <= 150; seed++) {
		struct pst_sim_faults faults = { .disk_flush_error_ppm = 1000000,
						 .disk_keep_percent = 101,
						 .disk_tear_bytes = 512 };
		struct rig *r = rig(seed);
		uint8_t flushed = 0, byte = 0;
		unsigned flushes = 0, healthy = (unsigned)pst_sim_rand_below(r->sim, 30);

		while (!flush_has_failed(r)) {
			byte++;
			for (uint64_t lba = 0; lba < 8; lba++)
				(void)rig_fill(r, 0, lba, 1, byte);
			if (flushes++ == healthy)
				pst_sim_set_faults(r->sim, r->node, &faults);
			if (rig_io(r, 0, PST_IO_FLUSH, 0, 0, NULL) == PST_OK)
				flushed = byte;
		}
		pst_sim_kill(r->node);
		faults.disk_flush_error_ppm = 0;
		pst_sim_set_faults(r->sim, r->node, &faults);
		rig_open_begin(r);
		pst_sim_run_for(r->sim, pst_sim_rand_below(r->sim, 5 * RIG_SECOND / 1000));
		pst_sim_power_off(r->node);
		pst_sim_power_on(r->node);
		assert_int_equal(rig_open(r), PST_OK);
		assert_int_equal(rig_volume_open(r, 0), PST_OK);
		for (uint64_t lba = 0; lba < 8; lba++) {
			uint8_t now = rig_byte(r, 0, lba);

			assert_in_range(now, flushed, byte);
		}
		rig_free(r);
	}
}

/* ---- A daemon that was killed ---- */

static uint64_t flushes_before;

static bool has_flushed(void *ctx)
{
	struct pst_sim_stats stats;

	pst_sim_stats(((struct rig *)ctx)->sim, &stats);
	return stats.flushes > flushes_before;
}

/* What it has left in the kernel is flushed before recovery writes anything over what that may depend on. */
static void recovery_flushes_what_was_left_first(void **state)
{
	struct pst_sim_stats before, now;
	struct rig *r = rig(1);

	(void)state;
	for (uint64_t lba = 0; lba < 8; lba++)
		assert_int_equal(rig_fill(r, 0, lba, 1, 1), PST_OK);
	rig_kill(r);
	pst_sim_stats(r->sim, &before);
	flushes_before = before.flushes;
	rig_open_begin(r);
	assert_true(pst_sim_run_until(r->sim, has_flushed, r, RIG_SECOND));
	pst_sim_stats(r->sim, &now);
	assert_int_equal(now.writes, before.writes);
	rig_finish(r);
	assert_int_equal(r->store_op.err, PST_OK);
	rig_free(r);
}

static bool io_is_done(void *ctx)
{
	return ((struct rig *)ctx)->io_done;
}

/* While the pool grows. */
static pst_err io_beside(struct rig *r, enum pst_io_kind kind, uint64_t count, void *buf)
{
	rig_io_begin(r, 0, kind, 0, count, buf);
	assert_true(pst_sim_run_until(r->sim, io_is_done, r, 60 * RIG_SECOND));
	return r->io.err;
}

static bool pool_is_done(void *ctx)
{
	return ((struct rig *)ctx)->pool_done;
}

/* In order, though the pool has failed: a process that is killed leaks what it had. */
static void close_failed(struct rig *r)
{
	rig_close(r, 0);
	(void)rig_pool(r, (struct pst_pool_op){ .kind = PST_POOL_CLOSE });
	rig_kill(r);
}

/*
 * A growth of the pool writes superblocks while requests and checkpoints go on, and one flush of all these fails: what
 * another one reported as flushed is there after a loss of power, and the pool can be opened.
 */
static void flush_fails_while_the_pool_grows(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed <= 100; seed++) {
		struct pst_sim_faults faults = { .disk_flush_error_ppm = 300000, .disk_keep_percent = 101 };
		struct rig *r = rig(seed);
		uint8_t flushed = 0, byte = 0, buf[4 * PST_BLOCK_BYTES];

		rig_pool_begin(r,
			       (struct pst_pool_op){ .kind = PST_POOL_GROW, .key = RIG_PATH, .size_bytes = 5 << 20 });
		pst_sim_run_for(r->sim, pst_sim_rand_below(r->sim, RIG_SECOND / 1000));
		pst_sim_set_faults(r->sim, r->node, &faults);
		for (unsigned i = 0; i < 8 && !flush_has_failed(r); i++) {
			memset(buf, ++byte, sizeof(buf));
			checkpoint_want(&rig_store(r)->parts[0], NULL);
			if (io_beside(r, PST_IO_WRITE, 4, buf) == PST_OK &&
			    io_beside(r, PST_IO_FLUSH, 0, NULL) == PST_OK)
				flushed = byte;
		}
		assert_true(pst_sim_run_until(r->sim, pool_is_done, r, 60 * RIG_SECOND));
		if (rig_store(r)->failed != PST_OK)
			close_failed(r);
		faults.disk_flush_error_ppm = 0;
		pst_sim_set_faults(r->sim, r->node, &faults);
		rig_power(r);
		rig_start(r);
		for (uint64_t lba = 0; lba < 4; lba++)
			assert_in_range(rig_byte(r, 0, lba), flushed, byte);
		rig_stop(r);
		rig_free(r);
	}
}

/*
 * A flush fails while the superblocks of a growth are written, and again in the opens that follow: whatever a loss of
 * power then leaves of the superblocks, one of them is whole and found.
 */
static void flush_fails_again_after_a_growth(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed <= 100; seed++) {
		struct pst_sim_faults faults = { .disk_flush_error_ppm = 400000,
						 .disk_keep_percent = 101,
						 .disk_tear_bytes = 512 };
		bool adds = seed % 3 == 0;
		struct rig *r = rig(seed);

		assert_int_equal(rig_fill(r, 0, 0, 4, 1), PST_OK);
		assert_int_equal(rig_io(r, 0, PST_IO_FLUSH, 0, 0, NULL), PST_OK);
		pst_sim_set_faults(r->sim, r->node, &faults);
		rig_pool_begin(r, (struct pst_pool_op){ .kind = adds ? PST_POOL_DEVICE_ADD : PST_POOL_GROW,
							.key = adds ? "other" : RIG_PATH,
							.size_bytes = 5 << 20 });
		if (adds && seed % 2 == 0) {
			pst_sim_run_for(r->sim, pst_sim_rand_below(r->sim, RIG_SECOND / 1000));
			rig_kill(r);
		} else {
			assert_true(pst_sim_run_until(r->sim, pool_is_done, r, 60 * RIG_SECOND));
			close_failed(r);
		}
		for (unsigned i = 0; i < 3 && rig_open(r) != PST_OK; i++)
			rig_kill(r);
		faults.disk_flush_error_ppm = 0;
		pst_sim_set_faults(r->sim, r->node, &faults);
		rig_power(r);
		rig_start(r);
		for (uint64_t lba = 0; lba < 4; lba++)
			assert_int_equal(rig_byte(r, 0, lba), 1);
		rig_stop(r);
		rig_free(r);
	}
}

/*
 * The open after a failed flush recovers several partitions side by side, and flushes fail again: the pool can still be
 * opened after a loss of power.
 */
static void flush_fails_while_partitions_recover(void **state)
{
	const uint64_t blocks = 16u * PST_STRIPE_BLOCKS;

	(void)state;
	for (uint64_t seed = 1; seed <= 100; seed++) {
		struct pst_sim_faults faults = { .disk_flush_error_ppm = 40000, .disk_keep_percent = 101 };
		struct rig *r = rig_new(seed, 12 << 20, 16); /* more than are recovered at once */

		rig_start(r);
		rig_create(r, 0, blocks);
		for (uint64_t lba = 0; lba < blocks; lba += PST_STRIPE_BLOCKS)
			assert_int_equal(rig_fill(r, 0, lba, 1, 1), PST_OK);
		assert_int_equal(rig_io(r, 0, PST_IO_FLUSH, 0, 0, NULL), PST_OK);
		fail_flush(r, false);
		close_failed(r);
		pst_sim_set_faults(r->sim, r->node, &faults);
		for (unsigned i = 0; i < 3 && rig_open(r) != PST_OK; i++)
			rig_kill(r);
		faults.disk_flush_error_ppm = 0;
		pst_sim_set_faults(r->sim, r->node, &faults);
		rig_power(r);
		rig_start(r);
		for (uint64_t lba = 0; lba < blocks; lba += PST_STRIPE_BLOCKS)
			assert_int_equal(rig_byte(r, 0, lba), 1);
		rig_stop(r);
		rig_free(r);
	}
}

/* ---- A write that fails, though its data may have arrived ---- */

static bool write_has_failed(struct rig *r)
{
	struct pst_sim_faults faults = { .disk_write_error_ppm = 500000 };
	pst_err err;

	assert_int_equal(rig_fill(r, 0, 0, 1, 1), PST_OK);
	assert_int_equal(rig_io(r, 0, PST_IO_FLUSH, 0, 0, NULL), PST_OK);
	pst_sim_set_faults(r->sim, r->node, &faults);
	err = rig_fill(r, 0, 0, 1, 2);
	pst_sim_heal(r->sim);
	return err != PST_OK && rig_store(r)->failed == PST_OK; /* else it has not, or the log has */
}

/* Once it was answered with an error, the death of the process does not bring it back, nor the power after a flush. */
static void failed_write_stays_failed(void **state)
{
	unsigned failed = 0;

	(void)state;
	for (uint64_t seed = 1; seed <= 120; seed++) {
		struct rig *r = rig(seed);

		if (write_has_failed(r)) {
			failed++;
			assert_int_equal(rig_byte(r, 0, 0), 1);
			if (seed % 2 == 0) {
				rig_kill(r);
			} else {
				assert_int_equal(rig_io(r, 0, PST_IO_FLUSH, 0, 0, NULL), PST_OK);
				rig_power(r);
			}
			rig_start(r);
			assert_int_equal(rig_byte(r, 0, 0), 1);
		}
		rig_stop(r);
		rig_free(r);
	}
	assert_true(failed > 20);
}

static void fua_done(struct pst_io *io)
{
	io->done = NULL;
}

static bool fua_is_done(void *ctx)
{
	return ((struct pst_io *)ctx)->done == NULL;
}

/* What a read with FUA has returned is there after a loss of power that takes all that was not flushed. */
static void read_with_fua_makes_durable(void **state)
{
	struct pst_sim_faults faults = { .disk_keep_percent = 0 };
	struct rig *r = rig(9);
	uint8_t buf[PST_BLOCK_BYTES];
	struct iovec iov = { buf, sizeof(buf) };
	struct pst_io io = { .kind = PST_IO_READ,
			     .flags = PST_IO_FUA,
			     .block_count = 1,
			     .iov = &iov,
			     .iov_count = 1,
			     .done = fua_done };

	(void)state;
	pst_sim_set_faults(r->sim, r->node, &faults);
	assert_int_equal(rig_fill(r, 0, 0, 1, 1), PST_OK);
	assert_int_equal(rig_io(r, 0, PST_IO_FLUSH, 0, 0, NULL), PST_OK);
	assert_int_equal(rig_fill(r, 0, 0, 1, 2), PST_OK);
	pst_volume_submit(r->volumes[0], &io);
	assert_true(pst_sim_run_until(r->sim, fua_is_done, &io, 60 * RIG_SECOND));
	assert_int_equal(io.err, PST_OK);
	assert_int_equal(buf[0], 2);
	rig_power(r);
	rig_start(r);
	assert_int_equal(rig_byte(r, 0, 0), 2);
	rig_stop(r);
	rig_free(r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(killed_after_a_failed_flush),
		cmocka_unit_test(closed_after_a_failed_flush),
		cmocka_unit_test(failed_flush_is_told_once),
		cmocka_unit_test(power_loss_after_a_failed_flush),
		cmocka_unit_test(recovery_flushes_what_was_left_first),
		cmocka_unit_test(flush_fails_while_the_pool_grows),
		cmocka_unit_test(flush_fails_again_after_a_growth),
		cmocka_unit_test(flush_fails_while_partitions_recover),
		cmocka_unit_test(failed_write_stays_failed),
		cmocka_unit_test(read_with_fua_makes_durable),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

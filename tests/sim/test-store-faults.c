/* SPDX-License-Identifier: Apache-2.0 */
/* The store on one failing device, fault by fault: what the random simulation meets too rarely to rely on. */
#include "env/sim/sim.h"
#include "store/store.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define SECOND ((uint64_t)1000000000)
#define PATH "pool"
#define B PST_BLOCK_BYTES

/* Killed processes leak on purpose (sim.h). */
int __lsan_is_turned_off(void);
__attribute__((visibility("default"), used)) int __lsan_is_turned_off(void)
{
	return 1;
}

struct world {
	struct pst_sim *sim;
	struct pst_sim_node *node;
	struct pst_env *env;
	struct pst_store_op store_op;
	struct pst_pool_op pool_op;
	struct pst_pool *pool;
	struct pst_volume *volume;
	struct pst_io io;
	struct iovec iov;
	struct pst_volume_close_op close;
	bool done;
	char events[4096];
};

static bool is_done(void *ctx)
{
	return ((struct world *)ctx)->done;
}

static void on_store(struct pst_store_op *op)
{
	pst_container_of(op, struct world, store_op)->done = true;
}

static void on_pool(struct pst_pool_op *op)
{
	pst_container_of(op, struct world, pool_op)->done = true;
}

static void on_io(struct pst_io *io)
{
	pst_container_of(io, struct world, io)->done = true;
}

static void on_close(struct pst_volume_close_op *op)
{
	pst_container_of(op, struct world, close)->done = true;
}

static void on_event(void *ctx, enum pst_log_level level, const char *text)
{
	struct world *w = ctx;
	size_t used = strlen(w->events);

	(void)level;
	snprintf(w->events + used, sizeof(w->events) - used, "%s\n", text);
}

static void finish(struct world *w)
{
	assert_true(pst_sim_run_until(w->sim, is_done, w, 60 * SECOND));
}

static pst_err pool_run(struct world *w, enum pst_pool_op_kind kind)
{
	w->done = false;
	w->pool_op = (struct pst_pool_op){ .kind = kind, .uuid = { 7 }, .block_count = 64, .done = on_pool };
	pst_pool_submit(w->pool, &w->pool_op);
	finish(w);
	return w->pool_op.err;
}

/* A process that opens the pool. */
static void start_begin(struct world *w)
{
	struct pst_store_config config = { .on_event = on_event, .event_ctx = w };

	w->events[0] = '\0';
	w->env = pst_sim_env_new(w->node, 0);
	w->done = false;
	w->store_op = (struct pst_store_op){ .done = on_store };
	pst_store_open(w->env, PATH, &config, &w->store_op);
}

static pst_err start(struct world *w)
{
	start_begin(w);
	finish(w);
	w->pool = w->store_op.pool;
	return w->store_op.err;
}

static void volume_open(struct world *w)
{
	assert_int_equal(pool_run(w, PST_POOL_VOLUME_OPEN), PST_OK);
	w->volume = w->pool_op.volume;
}

static struct world *world_new(uint64_t seed)
{
	struct pst_store_format_config config = { .size_bytes = 4 << 20 };
	struct world *w = calloc(1, sizeof(*w));

	w->sim = pst_sim_new(seed);
	w->node = pst_sim_node_new(w->sim, "node");
	w->env = pst_sim_env_new(w->node, 0);
	w->store_op = (struct pst_store_op){ .done = on_store };
	pst_store_format(w->env, PATH, &config, &w->store_op);
	finish(w);
	assert_int_equal(w->store_op.err, PST_OK);
	pst_sim_kill(w->node);
	assert_int_equal(start(w), PST_OK);
	assert_int_equal(pool_run(w, PST_POOL_VOLUME_CREATE), PST_OK);
	volume_open(w);
	return w;
}

static void world_free(struct world *w)
{
	pst_sim_free(w->sim);
	free(w);
}

static void io_submit(struct world *w, enum pst_io_kind kind, uint64_t lba, void *buf)
{
	w->done = false;
	w->iov = (struct iovec){ buf, B };
	w->io = (struct pst_io){ .kind = kind, .lba = lba, .done = on_io };
	if (kind != PST_IO_FLUSH) {
		w->io.block_count = 1;
		w->io.iov = &w->iov;
		w->io.iov_count = 1;
	}
	pst_volume_submit(w->volume, &w->io);
}

static pst_err io_run(struct world *w, enum pst_io_kind kind, uint64_t lba, void *buf)
{
	io_submit(w, kind, lba, buf);
	finish(w);
	return w->io.err;
}

static pst_err write_byte(struct world *w, uint64_t lba, uint8_t byte)
{
	uint8_t buf[B];

	memset(buf, byte, sizeof(buf));
	return io_run(w, PST_IO_WRITE, lba, buf);
}

/* Reads the block, which is all of one byte, and returns that. */
static uint8_t read_byte(struct world *w, uint64_t lba)
{
	uint8_t buf[B];

	memset(buf, 0xee, sizeof(buf));
	assert_int_equal(io_run(w, PST_IO_READ, lba, buf), PST_OK);
	for (size_t i = 1; i < sizeof(buf); i++)
		assert_int_equal(buf[i], buf[0]);
	return buf[0];
}

/* ---- A flush that fails ---- */

static bool flush_has_failed(void *ctx)
{
	struct pst_sim_stats stats;

	pst_sim_stats(((struct world *)ctx)->sim, &stats);
	return stats.flush_errors > 0;
}

/* The next flush fails and drops about half of what it covered; @later: so do all after it. */
static void fail_flush(struct world *w, bool later)
{
	struct pst_sim_faults faults = { .disk_flush_error_ppm = 1000000 };

	pst_sim_set_faults(w->sim, w->node, &faults);
	io_submit(w, PST_IO_FLUSH, 0, NULL);
	assert_true(pst_sim_run_until(w->sim, flush_has_failed, w, 60 * SECOND));
	if (!later)
		pst_sim_heal(w->sim);
	finish(w);
	assert_int_not_equal(w->io.err, PST_OK);
	assert_non_null(strstr(w->events, "flush_failed"));
	assert_int_equal(write_byte(w, 2, 99), PST_E_IO);
	assert_int_equal(io_run(w, PST_IO_FLUSH, 0, NULL), PST_E_IO);
	pst_sim_heal(w->sim);
}

/*
 * Opened again: what was flushed stands, what was not is old or new and stays so, and the first flush tells.
 */
static void assert_as_after_a_crash(struct world *w)
{
	uint8_t first, second;

	assert_int_equal(start(w), PST_OK);
	assert_non_null(strstr(w->events, "device_flush_failed_before"));
	volume_open(w);
	first = read_byte(w, 0);
	second = read_byte(w, 1);
	assert_true(first == 1 || first == 2);
	assert_true(second == 0 || second == 3);
	assert_int_equal(read_byte(w, 2), 0);
	assert_int_equal(io_run(w, PST_IO_FLUSH, 0, NULL), PST_E_LOST);
	assert_int_equal(io_run(w, PST_IO_FLUSH, 0, NULL), PST_OK);
	/* A success covers what could be read before it, though the failed flush may have dropped it. */
	pst_sim_power_off(w->node);
	pst_sim_power_on(w->node);
	assert_int_equal(start(w), PST_OK);
	volume_open(w);
	assert_int_equal(read_byte(w, 0), first);
	assert_int_equal(read_byte(w, 1), second);
	assert_int_equal(io_run(w, PST_IO_FLUSH, 0, NULL), PST_E_LOST);
}

static struct world *world_with_unflushed_writes(uint64_t seed)
{
	struct world *w = world_new(seed);

	assert_int_equal(write_byte(w, 0, 1), PST_OK);
	assert_int_equal(io_run(w, PST_IO_FLUSH, 0, NULL), PST_OK);
	assert_int_equal(write_byte(w, 0, 2), PST_OK);
	assert_int_equal(write_byte(w, 1, 3), PST_OK);
	return w;
}

/* The process dies after a flush failed; the machine goes on. The next open counts it like a machine crash. */
static void killed_after_a_failed_flush(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed <= 20; seed++) {
		struct world *w = world_with_unflushed_writes(seed);

		fail_flush(w, seed % 2 == 0);
		pst_sim_kill(w->node);
		assert_as_after_a_crash(w);
		world_free(w);
	}
}

/* The same when volume and pool are closed in order: the pool can't be clean. */
static void closed_after_a_failed_flush(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed <= 20; seed++) {
		struct world *w = world_with_unflushed_writes(seed);

		fail_flush(w, seed % 2 == 0);
		w->done = false;
		w->close.done = on_close;
		pst_volume_close(w->volume, &w->close);
		finish(w);
		(void)pool_run(w, PST_POOL_CLOSE);
		pst_sim_kill(w->node);
		assert_as_after_a_crash(w);
		world_free(w);
	}
}

/* The note of a failed flush ends with the open that heeded it: a mere kill later loses nothing and tells nothing. */
static void failed_flush_is_told_once(void **state)
{
	struct world *w = world_with_unflushed_writes(1);

	(void)state;
	fail_flush(w, false);
	pst_sim_kill(w->node);
	assert_as_after_a_crash(w);
	assert_int_equal(write_byte(w, 5, 6), PST_OK);
	pst_sim_kill(w->node);
	assert_int_equal(start(w), PST_OK);
	assert_null(strstr(w->events, "lost"));
	volume_open(w);
	assert_int_equal(read_byte(w, 5), 6);
	assert_int_equal(io_run(w, PST_IO_FLUSH, 0, NULL), PST_OK);
	world_free(w);
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
		struct world *w = world_new(seed);
		uint8_t flushed = 0, byte = 0;
		unsigned flushes = 0, healthy = (unsigned)pst_sim_rand_below(w->sim, 30);

		while (!flush_has_failed(w)) {
			byte++;
			for (uint64_t lba = 0; lba < 8; lba++)
				(void)write_byte(w, lba, byte);
			if (flushes++ == healthy)
				pst_sim_set_faults(w->sim, w->node, &faults);
			if (io_run(w, PST_IO_FLUSH, 0, NULL) == PST_OK)
				flushed = byte;
		}
		pst_sim_kill(w->node);
		faults.disk_flush_error_ppm = 0;
		pst_sim_set_faults(w->sim, w->node, &faults);
		start_begin(w);
		pst_sim_run_for(w->sim, pst_sim_rand_below(w->sim, 5 * SECOND / 1000));
		pst_sim_power_off(w->node);
		pst_sim_power_on(w->node);
		assert_int_equal(start(w), PST_OK);
		volume_open(w);
		for (uint64_t lba = 0; lba < 8; lba++) {
			uint8_t now = read_byte(w, lba);

			assert_in_range(now, flushed, byte);
		}
		world_free(w);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(killed_after_a_failed_flush),
		cmocka_unit_test(closed_after_a_failed_flush),
		cmocka_unit_test(failed_flush_is_told_once),
		cmocka_unit_test(power_loss_after_a_failed_flush),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

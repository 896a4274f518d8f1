/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a pool costs as it grows: growth --file POOL [--cache BYTES] [--reads N] [--dirty SECONDS]
 *
 * Opens a pool of big-pool and measures on its volume: opening, the first read, random 4 KiB reads at depth 1, a
 * snapshot, memory. One line of JSON. What the pool can't do is null. With --dirty it only overwrites random blocks for
 * so long and ends as if killed; the next run then measures recovery.
 */
#include "measure.h"

#include "base/prng.h"
#include "base/units.h"
#include "store/store.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct run {
	struct pst_env *env;
	struct pst_pool *pool;
	struct pst_volume *volume;
	struct pst_io io;
	struct iovec iov;
	bool waiting;
};

static struct run run;
static struct pst_prng prng;

static void store_done(struct pst_store_op *op)
{
	(void)op;
	run.waiting = false;
}

static void pool_done(struct pst_pool_op *op)
{
	(void)op;
	run.waiting = false;
}

static void io_done(struct pst_io *io)
{
	(void)io;
	run.waiting = false;
}

static void volume_closed(struct pst_volume_close_op *op)
{
	(void)op;
	run.waiting = false;
}

static void wait_done(void)
{
	while (run.waiting)
		pst_env_poll(run.env, UINT64_MAX);
}

static void check(pst_err err, const char *what, const char *detail)
{
	if (err == PST_OK)
		return;
	fprintf(stderr, "growth: %s: %s %s\n", what, pst_err_text(err), detail);
	exit(1);
}

static pst_err pool_call(struct pst_pool_op *op)
{
	op->done = pool_done;
	run.waiting = true;
	pst_pool_submit(run.pool, op);
	wait_done();
	return op->err;
}

static double since_ms(uint64_t begin_ns)
{
	return (double)(measure_now_ns() - begin_ns) / 1e6;
}

static double rss_mib(void)
{
	FILE *f = fopen("/proc/self/statm", "r");
	unsigned long size = 0, resident = 0;

	if (f == NULL || fscanf(f, "%lu %lu", &size, &resident) != 2)
		check(PST_E_IO, "/proc/self/statm", "");
	fclose(f);
	return (double)resident * (double)sysconf(_SC_PAGESIZE) / (1 << 20);
}

static double open_pool(const char *path, uint64_t cache_bytes)
{
	struct pst_store_config config = { .metadata_cache_bytes = cache_bytes };
	struct pst_store_op op = { .done = store_done };
	uint64_t begin_ns = measure_now_ns();

	run.waiting = true;
	pst_store_open(run.env, path, &config, &op);
	wait_done();
	check(op.err, path, op.detail);
	run.pool = op.pool;
	return since_ms(begin_ns);
}

static void open_volume(void)
{
	struct pst_pool_op op = { .kind = PST_POOL_VOLUME_OPEN, .uuid = { 1 } };

	check(pool_call(&op), "open volume", op.detail);
	run.volume = op.volume;
}

static double read_ms(uint64_t lba)
{
	uint64_t begin_ns = measure_now_ns();

	run.io = (struct pst_io){
		.kind = PST_IO_READ, .lba = lba, .block_count = 1, .iov = &run.iov, .iov_count = 1, .done = io_done
	};
	run.waiting = true;
	pst_volume_submit(run.volume, &run.io);
	wait_done();
	check(run.io.err, "read", "");
	return since_ms(begin_ns);
}

static uint64_t write_begin_ns, write_longest_ns;
static bool write_stop, write_busy;

static void write_done(struct pst_io *io)
{
	uint64_t now = measure_now_ns();

	check(io->err, "write", "");
	write_longest_ns = PST_MAX(write_longest_ns, now - write_begin_ns);
	write_begin_ns = now;
	io->lba = pst_prng_below(&prng, run.volume->block_count);
	write_busy = !write_stop;
	if (write_busy)
		pst_volume_submit(run.volume, io);
}

/*
 * Milliseconds; below 0: the pool can't. *ret_stall_ms: the longest time that one random write after another took while
 * the snapshot was taken and for a moment after it.
 */
static double snapshot_ms(double *ret_stall_ms)
{
	struct pst_snapshot_member member = { .volume = { 1 }, .snapshot = { 2 } };
	struct pst_pool_op op = { .kind = PST_POOL_SNAPSHOT, .members = &member, .member_count = 1 };
	struct pst_pool_op delete_op = { .kind = PST_POOL_VOLUME_DELETE, .uuid = { 2 } };
	struct pst_io write = {
		.kind = PST_IO_WRITE, .block_count = 1, .iov = &run.iov, .iov_count = 1, .done = write_done
	};
	uint64_t begin_ns = measure_now_ns();
	double ms;
	pst_err err;

	write_busy = true;
	write_begin_ns = begin_ns;
	pst_volume_submit(run.volume, &write);
	while (since_ms(begin_ns) < 200)
		pst_env_poll(run.env, 1000000);
	write_longest_ns = 0;
	begin_ns = measure_now_ns();
	err = pool_call(&op);
	ms = since_ms(begin_ns);
	while (since_ms(begin_ns) < 200)
		pst_env_poll(run.env, 1000000);
	write_stop = true;
	while (write_busy)
		pst_env_poll(run.env, UINT64_MAX);
	*ret_stall_ms = (double)write_longest_ns / 1e6;
	if (err == PST_E_UNSUPPORTED)
		return -1;
	check(err, "snapshot", op.detail);
	check(pool_call(&delete_op), "delete the snapshot", delete_op.detail);
	return ms;
}

#define DIRTY_DEPTH 32u

static struct pst_io dirty_ios[DIRTY_DEPTH];
static uint64_t dirty_begin_ns[DIRTY_DEPTH];
static struct pst_hist dirty_latency;

static void dirty_done(struct pst_io *io)
{
	uint64_t now = measure_now_ns(), *begin_ns = &dirty_begin_ns[io - dirty_ios];

	check(io->err, "write", "");
	pst_hist_add(&dirty_latency, now - *begin_ns);
	*begin_ns = now;
	io->lba = pst_prng_below(&prng, run.volume->block_count);
	pst_volume_submit(run.volume, io);
}

/* Overwrites random blocks, and is gone without a word. */
_Noreturn static void dirty(double seconds)
{
	uint64_t end_ns = measure_now_ns() + (uint64_t)(seconds * 1e9);

	memset(run.iov.iov_base, 5, PST_BLOCK_BYTES);
	for (uint32_t i = 0; i < DIRTY_DEPTH; i++) {
		dirty_ios[i] = (struct pst_io){ .kind = PST_IO_WRITE,
						.lba = pst_prng_below(&prng, run.volume->block_count),
						.block_count = 1,
						.iov = &run.iov,
						.iov_count = 1,
						.done = dirty_done };
		dirty_begin_ns[i] = measure_now_ns();
		pst_volume_submit(run.volume, &dirty_ios[i]);
	}
	while (measure_now_ns() < end_ns)
		pst_env_poll(run.env, 10000000);
	printf("{\"writes\":%llu,\"p50_us\":%.0f,\"p99_us\":%.0f,\"max_ms\":%.1f}\n",
	       (unsigned long long)dirty_latency.count, (double)pst_hist_percentile_ns(&dirty_latency, 0.5) / 1e3,
	       (double)pst_hist_percentile_ns(&dirty_latency, 0.99) / 1e3, (double)dirty_latency.max_ns / 1e6);
	fflush(stdout);
	_exit(0);
}

static double close_pool(void)
{
	struct pst_volume_close_op close_op = { .done = volume_closed };
	struct pst_pool_op op = { .kind = PST_POOL_CLOSE };
	uint64_t begin_ns = measure_now_ns();

	run.waiting = true;
	pst_volume_close(run.volume, &close_op);
	wait_done();
	check(pool_call(&op), "close pool", op.detail);
	return since_ms(begin_ns);
}

int main(int argc, char **argv)
{
	struct pst_env_config env = { .log_level = PST_LOG_ERROR };
	const char *path = NULL;
	uint64_t cache = 0, reads = 20000;
	double stall_ms = 0, open_ms, first_ms, open_mib, full_mib, snap_ms, begin_mib;
	static struct pst_hist hist;
	uint64_t begin_ns;
	double dirty_seconds = 0;

	for (int i = 1; i + 1 < argc; i += 2) {
		if (strcmp(argv[i], "--file") == 0)
			path = argv[i + 1];
		else if (strcmp(argv[i], "--cache") == 0)
			check(pst_parse_size(argv[i + 1], &cache), argv[i + 1], "");
		else if (strcmp(argv[i], "--reads") == 0)
			reads = strtoull(argv[i + 1], NULL, 10);
		else if (strcmp(argv[i], "--dirty") == 0)
			dirty_seconds = strtod(argv[i + 1], NULL);
		else
			path = NULL;
	}
	if (path == NULL || argc % 2 == 0 || reads == 0) {
		fprintf(stderr, "usage: growth --file POOL [--cache BYTES] [--reads N] [--dirty SECONDS]\n");
		return 2;
	}
	pst_prng_init(&prng, 1);
	run.iov = (struct iovec){ aligned_alloc(PST_BLOCK_BYTES, PST_BLOCK_BYTES), PST_BLOCK_BYTES };
	check(pst_env_new(&env, &run.env), "environment", "");
	begin_mib = rss_mib();
	open_ms = open_pool(path, cache);
	open_mib = rss_mib() - begin_mib;
	open_volume();
	if (dirty_seconds > 0)
		dirty(dirty_seconds);
	first_ms = read_ms(run.volume->block_count / 2);
	begin_ns = measure_now_ns();
	for (uint64_t i = 0; i < reads; i++)
		pst_hist_add(&hist, (uint64_t)(read_ms(pst_prng_below(&prng, run.volume->block_count)) * 1e6));
	begin_ns = measure_now_ns() - begin_ns;
	full_mib = rss_mib() - begin_mib;
	snap_ms = snapshot_ms(&stall_ms);
	printf("{\"mapped_bytes\":%llu,\"open_ms\":%.1f,\"first_read_ms\":%.2f,\"read_iops\":%.0f,\"read_p50_us\":%.0f,"
	       "\"read_p99_us\":%.0f,\"open_mib\":%.1f,\"full_mib\":%.1f,",
	       (unsigned long long)run.volume->block_count * PST_BLOCK_BYTES, open_ms, first_ms,
	       (double)reads / ((double)begin_ns / 1e9), (double)pst_hist_percentile_ns(&hist, 0.5) / 1e3,
	       (double)pst_hist_percentile_ns(&hist, 0.99) / 1e3, open_mib, full_mib);
	if (snap_ms < 0)
		printf("\"snapshot_ms\":null,\"snapshot_stall_ms\":null,");
	else
		printf("\"snapshot_ms\":%.2f,\"snapshot_stall_ms\":%.2f,", snap_ms, stall_ms);
	printf("\"close_ms\":%.1f}\n", close_pool());
	pst_env_free(run.env);
	free(run.iov.iov_base);
	return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How long requests stall while checkpoints run: stall --file POOL --span BYTES --seconds S [--depth N] [--block BYTES]
 *
 * On a new pool in the (sparse or preallocated) file: the volume is filled once, then one random 4 KiB read at a time
 * runs beside --depth random overwrites of --block bytes. One line of JSON: latencies, and how many took over 20 ms.
 */
#include "measure.h"

#include "base/prng.h"
#include "store/store.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SLOW_NS ((uint64_t)20 * 1000 * 1000)
#define FILL_BYTES (1u << 20)

struct kind {
	struct pst_hist latency;
	uint64_t slow;
};

struct slot {
	struct pst_io io;
	struct iovec iov;
	uint64_t begin_ns;
	struct kind *kind;
};

static struct {
	struct pst_env *env;
	struct pst_pool *pool;
	struct pst_volume *volume;
	struct pst_prng prng;
	struct kind reads, writes;
	uint32_t outstanding;
	bool waiting, measuring, stop;
	const char *path;
	uint64_t pool_bytes;
} run;

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
	fprintf(stderr, "stall: %s: %s %s\n", what, pst_err_text(err), detail);
	exit(1);
}

static void pool_call(struct pst_pool_op *op, const char *what)
{
	op->done = pool_done;
	run.waiting = true;
	pst_pool_submit(run.pool, op);
	wait_done();
	check(op->err, what, op->detail);
}

static bool option(const char *name, char *value)
{
	if (strcmp(name, "--file") != 0)
		return false;
	run.path = value;
	return true;
}

static void pool_open(uint64_t volume_bytes)
{
	struct pst_env_config env = { .log_level = PST_LOG_WARN };
	struct pst_store_format_config format = { .size_bytes = volume_bytes * 3 };
	struct pst_store_config config = { 0 };
	struct pst_store_op op = { .done = store_done };
	struct pst_pool_op pool = { .uuid = { 1 }, .block_count = volume_bytes / PST_BLOCK_BYTES };

	check(pst_env_new(&env, &run.env), "environment", "");
	run.waiting = true;
	pst_store_format(run.env, run.path, &format, &op);
	wait_done();
	check(op.err, run.path, op.detail);
	run.waiting = true;
	pst_store_open(run.env, run.path, &config, &op);
	wait_done();
	check(op.err, run.path, op.detail);
	run.pool = op.pool;
	pool.kind = PST_POOL_VOLUME_CREATE;
	pool_call(&pool, "create volume");
	pool.kind = PST_POOL_VOLUME_OPEN;
	pool_call(&pool, "open volume");
	run.volume = pool.volume;
}

static void start(struct slot *s)
{
	s->io.lba = pst_prng_below(&run.prng, run.volume->block_count / s->io.block_count) * s->io.block_count;
	s->begin_ns = measure_now_ns();
	run.outstanding++;
	pst_volume_submit(run.volume, &s->io);
}

static void finished(struct pst_io *io)
{
	struct slot *s = pst_container_of(io, struct slot, io);
	uint64_t ns = measure_now_ns() - s->begin_ns;

	check(io->err, "request", "");
	run.outstanding--;
	if (run.measuring) {
		pst_hist_add(&s->kind->latency, ns);
		s->kind->slow += ns >= SLOW_NS;
	}
	if (!run.stop)
		start(s);
}

static void slot_init(struct slot *s, enum pst_io_kind kind, uint32_t bytes)
{
	s->iov = (struct iovec){ aligned_alloc(PST_BLOCK_BYTES, bytes), bytes };
	memset(s->iov.iov_base, 7, bytes);
	s->kind = kind == PST_IO_READ ? &run.reads : &run.writes;
	s->io = (struct pst_io){
		.kind = kind, .block_count = bytes / PST_BLOCK_BYTES, .iov = &s->iov, .iov_count = 1, .done = finished
	};
}

static void fill(void)
{
	struct slot s = { .kind = &run.writes };

	slot_init(&s, PST_IO_WRITE, FILL_BYTES);
	run.stop = true;
	for (uint64_t at = 0; at < run.volume->block_count; at += s.io.block_count) {
		s.io.lba = at;
		run.outstanding++;
		pst_volume_submit(run.volume, &s.io);
		while (run.outstanding > 0)
			pst_env_poll(run.env, UINT64_MAX);
	}
	run.stop = false;
	free(s.iov.iov_base);
}

static void print(const char *name, const struct kind *k, double seconds, const char *end)
{
	printf("\"%s\":{\"iops\":%.0f,\"p50_us\":%.0f,\"p99_us\":%.0f,\"p999_us\":%.0f,\"max_ms\":%.1f,\"over_20ms\":%"
	       "llu}%s",
	       name, (double)k->latency.count / seconds, (double)pst_hist_percentile_ns(&k->latency, 0.5) / 1e3,
	       (double)pst_hist_percentile_ns(&k->latency, 0.99) / 1e3,
	       (double)pst_hist_percentile_ns(&k->latency, 0.999) / 1e3, (double)k->latency.max_ns / 1e6,
	       (unsigned long long)k->slow, end);
}

int main(int argc, char **argv)
{
	struct measure_load load;
	struct pst_volume_close_op close_op = { .done = volume_closed };
	struct pst_pool_op op = { .kind = PST_POOL_CLOSE };
	struct slot *slots;
	uint64_t end_ns;

	measure_parse(argc, argv, &load, option);
	if (run.path == NULL) {
		fprintf(stderr, "stall: --file is missing\n");
		return 2;
	}
	pst_prng_init(&run.prng, load.seed);
	pool_open(load.span_bytes);
	fill();
	slots = calloc((size_t)load.depth + 1, sizeof(*slots));
	for (uint32_t i = 0; i <= load.depth; i++) {
		slot_init(&slots[i], i == 0 ? PST_IO_READ : PST_IO_WRITE, i == 0 ? PST_BLOCK_BYTES : load.block_bytes);
		start(&slots[i]);
	}
	run.measuring = true;
	end_ns = measure_now_ns() + (uint64_t)(load.seconds * 1e9);
	while (measure_now_ns() < end_ns)
		pst_env_poll(run.env, 10000000);
	run.measuring = false;
	run.stop = true;
	while (run.outstanding > 0)
		pst_env_poll(run.env, UINT64_MAX);
	printf("{");
	print("read", &run.reads, load.seconds, ",");
	print("write", &run.writes, load.seconds, "}\n");
	run.waiting = true;
	pst_volume_close(run.volume, &close_op);
	wait_done();
	pool_call(&op, "close pool");
	pst_env_free(run.env);
	for (uint32_t i = 0; i <= load.depth; i++)
		free(slots[i].iov.iov_base);
	free(slots);
	return 0;
}

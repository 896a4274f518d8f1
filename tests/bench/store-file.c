/* SPDX-License-Identifier: Apache-2.0 */
/* The same loop as raw-file.c through a volume of the store, on a pool that it makes in --file. */
#include "measure.h"

#include "base/prng.h"
#include "store/store.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *path;

static bool option(const char *name, char *value)
{
	if (strcmp(name, "--file") != 0)
		return false;
	path = value;
	return true;
}

struct run {
	struct measure_load load;
	struct measure measure;
	struct pst_prng prng;
	struct pst_env *env;
	struct pst_pool *pool;
	struct pst_volume *volume;
	uint64_t next;
	uint32_t outstanding;
	bool measuring, stop;
	pst_err err;
};

struct slot {
	struct pst_io io;
	struct iovec iov;
	struct run *run;
	uint64_t begin_ns;
};

static bool waiting;

static void store_done(struct pst_store_op *op)
{
	(void)op;
	waiting = false;
}

static void pool_done(struct pst_pool_op *op)
{
	(void)op;
	waiting = false;
}

static void volume_closed(struct pst_volume_close_op *op)
{
	(void)op;
	waiting = false;
}

static void wait_done(struct run *r)
{
	while (waiting)
		pst_env_poll(r->env, UINT64_MAX);
}

static void check(pst_err err, const char *what, const char *detail)
{
	if (err == PST_OK)
		return;
	fprintf(stderr, "store-file: %s: %s %s\n", what, pst_err_text(err), detail);
	exit(1);
}

static void pool_call(struct run *r, struct pst_pool_op *op, const char *what)
{
	op->done = pool_done;
	waiting = true;
	pst_pool_submit(r->pool, op);
	wait_done(r);
	check(op->err, what, "");
}

static void open_pool(struct run *r)
{
	struct pst_env_config env = { .log_level = PST_LOG_ERROR };
	struct pst_store_format_config format = { 0 };
	struct pst_store_config config = { 0 };
	struct pst_store_op op = { .done = store_done };
	struct pst_pool_op pool = { .kind = PST_POOL_VOLUME_CREATE, .uuid = { 1 } };

	check(pst_env_new(&env, &r->env), "environment", "");
	waiting = true;
	pst_store_format(r->env, path, &format, &op);
	wait_done(r);
	/* A pool of an earlier run is as good as a new one. */
	if (op.err != PST_OK && op.err != PST_E_EXISTS)
		check(op.err, path, op.detail);
	bool fresh = op.err == PST_OK;

	waiting = true;
	pst_store_open(r->env, path, &config, &op);
	wait_done(r);
	check(op.err, path, op.detail);
	r->pool = op.pool;
	if (fresh) {
		pool.block_count = r->load.span_bytes / PST_BLOCK_BYTES;
		pool_call(r, &pool, "create volume");
	}
	pool.kind = PST_POOL_VOLUME_OPEN;
	pool_call(r, &pool, "open volume");
	r->volume = pool.volume;
}

static void start(struct slot *s)
{
	struct run *r = s->run;
	uint64_t blocks = r->load.span_bytes / r->load.block_bytes;
	uint64_t block = r->load.sequential ? r->next++ % blocks : pst_prng_below(&r->prng, blocks);

	s->io.lba = block * (r->load.block_bytes / PST_BLOCK_BYTES);
	s->begin_ns = measure_now_ns();
	r->outstanding++;
	pst_volume_submit(r->volume, &s->io);
}

static void finished(struct pst_io *io)
{
	struct slot *s = pst_container_of(io, struct slot, io);
	struct run *r = s->run;

	r->outstanding--;
	if (io->err != PST_OK) {
		r->err = io->err;
		r->stop = true;
	}
	if (r->measuring)
		pst_hist_add(&r->measure.latency, measure_now_ns() - s->begin_ns);
	if (!r->stop)
		start(s);
}

static void poll_until(struct run *r, double seconds)
{
	uint64_t end = measure_now_ns() + (uint64_t)(seconds * 1e9);

	while (!r->stop && measure_now_ns() < end)
		pst_env_poll(r->env, 10000000);
}

/* Reads measure data, not holes: every block is written once before. */
static void fill(struct run *r)
{
	struct slot s = { .run = r };
	uint32_t bytes = 1u << 20;

	s.iov = (struct iovec){ aligned_alloc(4096, bytes), bytes };
	memset(s.iov.iov_base, 7, bytes);
	r->stop = true;
	for (uint64_t at = 0; at + bytes <= r->load.span_bytes; at += bytes) {
		s.io = (struct pst_io){ .kind = PST_IO_WRITE,
					.lba = at / PST_BLOCK_BYTES,
					.block_count = bytes / PST_BLOCK_BYTES,
					.iov = &s.iov,
					.iov_count = 1,
					.done = finished };
		r->outstanding++;
		pst_volume_submit(r->volume, &s.io);
		while (r->outstanding > 0)
			pst_env_poll(r->env, UINT64_MAX);
		check(r->err, "fill", "");
	}
	free(s.iov.iov_base);
	r->stop = false;
}

int main(int argc, char **argv)
{
	static struct run r;
	struct pst_volume_close_op close_op = { .done = volume_closed };
	struct pst_pool_op op = { .kind = PST_POOL_CLOSE };
	struct slot *slots;

	measure_parse(argc, argv, &r.load, option);
	measure_pin(r.load.cpu);
	pst_prng_init(&r.prng, r.load.seed);
	if (path == NULL) {
		fprintf(stderr, "store-file: --file is missing\n");
		return 2;
	}
	open_pool(&r);
	if (!r.load.write)
		fill(&r);
	slots = calloc(r.load.depth, sizeof(*slots));
	for (uint32_t i = 0; i < r.load.depth; i++) {
		slots[i].run = &r;
		slots[i].iov = (struct iovec){ aligned_alloc(4096, r.load.block_bytes), r.load.block_bytes };
		memset(slots[i].iov.iov_base, 1, r.load.block_bytes);
		slots[i].io = (struct pst_io){ .kind = r.load.write ? PST_IO_WRITE : PST_IO_READ,
					       .block_count = r.load.block_bytes / PST_BLOCK_BYTES,
					       .iov = &slots[i].iov,
					       .iov_count = 1,
					       .done = finished };
		start(&slots[i]);
	}
	poll_until(&r, r.load.warmup_seconds);
	measure_begin(&r.measure, 0);
	r.measuring = true;
	poll_until(&r, r.load.seconds);
	r.measuring = false;
	check(r.err, "load", "");
	measure_end(&r.measure, &r.load);
	r.stop = true;
	while (r.outstanding > 0)
		pst_env_poll(r.env, UINT64_MAX);
	waiting = true;
	pst_volume_close(r.volume, &close_op);
	wait_done(&r);
	pool_call(&r, &op, "close pool");
	pst_env_free(r.env);
	for (uint32_t i = 0; i < r.load.depth; i++)
		free(slots[i].iov.iov_base);
	free(slots);
	return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pairs of measurements of the store, A and B by turns in one process (ABBA), a line of JSON for each pair:
 *
 *   store-pairs --file F --case prepare                          writes all of F: a pool, and behind it the raw space
 *   store-pairs --file F --case CASE --pairs N --seconds S [--op read|write --pattern random|sequential --block B
 *               --depth D --cache BYTES --rate PERCENT --task TASK --until sent|durable]
 *
 * CASE   A                                                B
 * raw    a volume                                         plain io_uring O_DIRECT in the same file, same load
 * snap   random writes after a snapshot                   before it
 * beside requests beside --task scrub|straighten|delete   the same without
 *
 * and without pairs: scatter writes all of the volume in random order, straighten puts it in order again.
 *
 * Before each measurement the file is flushed, so that neither side waits for what the other one has written. With
 * --until durable the time also holds the flush that makes the writes durable, on both sides.
 *
 * In snap and beside latency is what counts, so requests come at a fixed rate (--rate of the closed loop's, in
 * percent), and each is timed from when it was due. `beside` mixes 70 % reads with 30 % writes of 4 KiB.
 */
#include "measure.h"

#include "base/prng.h"
#include "base/units.h"
#include "store/store.h"

#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define POOL_BYTES ((uint64_t)8 << 30)
#define SPAN_BYTES ((uint64_t)2 << 30)
#define OTHER_BYTES ((uint64_t)512 << 20) /* a second volume, for work in the background */
#define DEPTH_MAX 128u
#define MIXED_WRITES_PERCENT 30u
#define SNAPSHOTS_DELETED 8u /* at once: one would be gone before the measurement is over */

static struct {
	const char *path, *what, *task;
	uint64_t pairs, cache_bytes, rate_percent;
	bool durable;
} opt = { .what = "", .task = "", .pairs = 7, .rate_percent = 30 };

struct result {
	uint64_t ops;
	double seconds, p50_us, p99_us, cpu_us;
};

struct bench;

struct slot {
	struct bench *b;
	void *buf;
	struct pst_io io;
	struct iovec iov;
	uint64_t begin_ns;
	struct slot *next;
};

struct bench {
	struct measure_load load;
	struct pst_hist latency;
	struct pst_prng prng;
	struct slot slots[DEPTH_MAX], *free;
	uint64_t next; /* sequential: block to come */
	bool measuring, stop, mixed;
	uint32_t outstanding;
	double rate; /* per second; 0: closed loop */
	/* the store */
	struct pst_env *env;
	struct pst_pool *pool;
	struct pst_volume *volume, *other;
	/* raw */
	struct io_uring ring;
	int fd;
};

static bool option(const char *name, char *value)
{
	if (strcmp(name, "--file") == 0)
		opt.path = value;
	else if (strcmp(name, "--case") == 0)
		opt.what = value;
	else if (strcmp(name, "--task") == 0)
		opt.task = value;
	else if (strcmp(name, "--pairs") == 0)
		opt.pairs = strtoull(value, NULL, 10);
	else if (strcmp(name, "--rate") == 0)
		opt.rate_percent = strtoull(value, NULL, 10);
	else if (strcmp(name, "--until") == 0 && (strcmp(value, "durable") == 0 || strcmp(value, "sent") == 0))
		opt.durable = value[0] == 'd';
	else if (strcmp(name, "--cache") == 0)
		return pst_parse_size(value, &opt.cache_bytes) == PST_OK;
	else
		return false;
	return true;
}

static void die(const char *what, const char *why)
{
	fprintf(stderr, "store-pairs: %s: %s\n", what, why);
	exit(1);
}

static void check(pst_err err, const char *what)
{
	if (err != PST_OK)
		die(what, pst_err_text(err));
}

/* ---- Calls that wait ---- */

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

static void wait_done(struct bench *b)
{
	while (waiting)
		pst_env_poll(b->env, UINT64_MAX);
}

static pst_err pool_call(struct bench *b, struct pst_pool_op *op)
{
	op->done = pool_done;
	waiting = true;
	pst_pool_submit(b->pool, op);
	wait_done(b);
	return op->err;
}

static struct pst_volume *volume_open(struct bench *b, uint8_t number, uint64_t bytes)
{
	struct pst_pool_op op = { .kind = PST_POOL_VOLUME_CREATE, .uuid = { number } };
	pst_err err;

	op.block_count = bytes / PST_BLOCK_BYTES;
	err = pool_call(b, &op);
	if (err != PST_E_EXISTS)
		check(err, "create volume");
	op.kind = PST_POOL_VOLUME_OPEN;
	check(pool_call(b, &op), "open volume");
	return op.volume;
}

static void pool_open(struct bench *b)
{
	struct pst_store_config config = { .metadata_cache_bytes = opt.cache_bytes };
	struct pst_store_op op = { .done = store_done };

	waiting = true;
	pst_store_open(b->env, opt.path, &config, &op);
	wait_done(b);
	if (op.err != PST_OK)
		die(opt.path, op.detail);
	b->pool = op.pool;
	b->volume = volume_open(b, 1, SPAN_BYTES);
	b->other = volume_open(b, 2, OTHER_BYTES);
}

static void pool_close(struct bench *b)
{
	struct pst_volume *volumes[] = { b->volume, b->other };
	struct pst_pool_op op = { .kind = PST_POOL_CLOSE };

	for (unsigned i = 0; i < 2; i++) {
		struct pst_volume_close_op close_op = { .done = volume_closed };

		waiting = true;
		pst_volume_close(volumes[i], &close_op);
		wait_done(b);
	}
	check(pool_call(b, &op), "close pool");
}

/* ---- Load on a volume ---- */

static void finished(struct pst_io *io);

static uint64_t choose(struct bench *b)
{
	uint64_t blocks = b->load.span_bytes / b->load.block_bytes;

	return b->load.sequential ? b->next++ % blocks : pst_prng_below(&b->prng, blocks);
}

static void volume_start(struct slot *s, uint64_t begin_ns)
{
	struct bench *b = s->b;
	bool write = b->mixed ? pst_prng_below(&b->prng, 100) < MIXED_WRITES_PERCENT : b->load.write;

	s->iov = (struct iovec){ s->buf, b->load.block_bytes };
	s->io = (struct pst_io){ .kind = write ? PST_IO_WRITE : PST_IO_READ,
				 .lba = choose(b) * (b->load.block_bytes / PST_BLOCK_BYTES),
				 .block_count = b->load.block_bytes / PST_BLOCK_BYTES,
				 .iov = &s->iov,
				 .iov_count = 1,
				 .done = finished };
	s->begin_ns = begin_ns;
	b->outstanding++;
	pst_volume_submit(b->volume, &s->io);
}

static void finished(struct pst_io *io)
{
	struct slot *s = pst_container_of(io, struct slot, io);
	struct bench *b = s->b;
	uint64_t now = measure_now_ns();

	check(io->err, "request");
	b->outstanding--;
	if (b->measuring)
		pst_hist_add(&b->latency, now - s->begin_ns);
	if (b->rate == 0 && !b->stop) {
		volume_start(s, now);
		return;
	}
	s->next = b->free;
	b->free = s;
}

static void volume_until(struct bench *b, uint64_t end)
{
	uint64_t gap = b->rate > 0 ? (uint64_t)(1e9 / b->rate) : 0, due = measure_now_ns(), now;

	while ((now = measure_now_ns()) < end) {
		for (; gap > 0 && due <= now && b->free != NULL; due += gap) {
			struct slot *s = b->free;

			b->free = s->next;
			volume_start(s, due);
		}
		pst_env_poll(b->env, gap == 0 ? UINT64_MAX : due > now ? due - now : 0);
	}
}

static void volume_drain(struct bench *b)
{
	b->stop = true;
	while (b->outstanding > 0)
		pst_env_poll(b->env, UINT64_MAX);
}

static void flushed(struct pst_io *io)
{
	(void)io;
	waiting = false;
}

static void volume_flush(struct bench *b)
{
	struct pst_io io = { .kind = PST_IO_FLUSH, .done = flushed };

	waiting = true;
	pst_volume_submit(b->volume, &io);
	wait_done(b);
	check(io.err, "flush");
}

static void volume_load(struct bench *b, double seconds, double *ret_seconds, double *ret_cpu)
{
	uint64_t begun;
	double cpu;

	b->free = NULL;
	b->stop = b->measuring = false;
	for (uint32_t i = 0; i < DEPTH_MAX; i++) {
		b->slots[i].next = b->free;
		if (b->rate > 0)
			b->free = &b->slots[i];
		else if (i < b->load.depth)
			volume_start(&b->slots[i], measure_now_ns());
	}
	volume_until(b, measure_now_ns() + 100000000);
	b->measuring = true;
	begun = measure_now_ns();
	cpu = measure_process_cpu_s(getpid());
	volume_until(b, begun + (uint64_t)(seconds * 1e9));
	if (opt.durable) {
		volume_drain(b);
		volume_flush(b);
	}
	b->measuring = false;
	*ret_cpu = measure_process_cpu_s(getpid()) - cpu;
	*ret_seconds = (double)(measure_now_ns() - begun) / 1e9;
	volume_drain(b);
}

/* ---- The same on the raw file ---- */

static void raw_start(struct bench *b, struct slot *s)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&b->ring);
	uint64_t offset = POOL_BYTES + choose(b) * b->load.block_bytes;

	if (b->load.write)
		io_uring_prep_write(sqe, b->fd, s->buf, b->load.block_bytes, offset);
	else
		io_uring_prep_read(sqe, b->fd, s->buf, b->load.block_bytes, offset);
	io_uring_sqe_set_data(sqe, s);
	s->begin_ns = measure_now_ns();
	b->outstanding++;
}

static void raw_turn(struct bench *b, bool again)
{
	struct io_uring_cqe *cqe;
	unsigned head, seen = 0;

	io_uring_submit_and_wait(&b->ring, 1);
	io_uring_for_each_cqe(&b->ring, head, cqe)
	{
		struct slot *s = io_uring_cqe_get_data(cqe);

		seen++;
		b->outstanding--;
		if (cqe->res != (int)b->load.block_bytes)
			die(opt.path, cqe->res < 0 ? strerror(-cqe->res) : "short transfer");
		if (b->measuring)
			pst_hist_add(&b->latency, measure_now_ns() - s->begin_ns);
		if (again)
			raw_start(b, s);
	}
	io_uring_cq_advance(&b->ring, seen);
}

static void raw_drain(struct bench *b)
{
	while (b->outstanding > 0)
		raw_turn(b, false);
}

static void raw_flush(struct bench *b)
{
	if (fdatasync(b->fd) != 0)
		die(opt.path, strerror(errno));
}

static void raw_load(struct bench *b, double seconds, double *ret_seconds, double *ret_cpu)
{
	uint64_t begun, end = measure_now_ns() + 100000000;
	double cpu;

	b->measuring = false;
	for (uint32_t i = 0; i < b->load.depth; i++)
		raw_start(b, &b->slots[i]);
	while (measure_now_ns() < end)
		raw_turn(b, true);
	b->measuring = true;
	begun = measure_now_ns();
	cpu = measure_process_cpu_s(getpid());
	while (measure_now_ns() < begun + (uint64_t)(seconds * 1e9))
		raw_turn(b, true);
	if (opt.durable) {
		raw_drain(b);
		raw_flush(b);
	}
	b->measuring = false;
	*ret_cpu = measure_process_cpu_s(getpid()) - cpu;
	*ret_seconds = (double)(measure_now_ns() - begun) / 1e9;
	raw_drain(b);
}

static struct result measure(struct bench *b, bool raw)
{
	struct result r = { 0 };
	double cpu = 0;

	volume_flush(b); /* of the whole file: what the side before left for the device to write down is no part of this
			    measurement */
	memset(&b->latency, 0, sizeof(b->latency));
	(raw ? raw_load : volume_load)(b, b->load.seconds, &r.seconds, &cpu);
	r.ops = b->latency.count;
	r.p50_us = (double)pst_hist_percentile_ns(&b->latency, 0.5) / 1e3;
	r.p99_us = (double)pst_hist_percentile_ns(&b->latency, 0.99) / 1e3;
	r.cpu_us = cpu / (double)PST_MAX(r.ops, 1u) * 1e6;
	return r;
}

/* ---- Pairs ---- */

/* Jiffies of the whole machine: all, and those that the hypervisor took. */
static void cpu_times(uint64_t *ret_all, uint64_t *ret_stolen)
{
	unsigned long long v[8] = { 0 };
	FILE *f = fopen("/proc/stat", "re");

	*ret_all = *ret_stolen = 0;
	if (f == NULL)
		return;
	if (fscanf(f, "cpu %llu %llu %llu %llu %llu %llu %llu %llu", &v[0], &v[1], &v[2], &v[3], &v[4], &v[5], &v[6],
		   &v[7]) == 8) {
		for (unsigned i = 0; i < 8; i++)
			*ret_all += v[i];
		*ret_stolen = v[7];
	}
	fclose(f);
}

static void print_result(const char *name, const struct result *r)
{
	printf("\"%s\":{\"iops\":%.0f,\"p50_us\":%.1f,\"p99_us\":%.1f,\"cpu_us\":%.3f}", name,
	       (double)r->ops / r->seconds, r->p50_us, r->p99_us, r->cpu_us);
}

static void print_pair(const struct result *a, const struct result *b, double steal)
{
	printf("{");
	print_result("a", a);
	printf(",");
	print_result("b", b);
	printf(",\"steal\":%.4f}\n", steal);
	fflush(stdout);
}

/* Pair @i of A and B: the first ones of odd pairs come second. Runs at most twice as many for steal. */
static void pairs(struct bench *b, struct result (*a)(struct bench *b), struct result (*other)(struct bench *b),
		  void (*before)(struct bench *b))
{
	for (uint64_t done = 0, repeats = 0; done < opt.pairs;) {
		struct result ra, rb;
		uint64_t all, stolen, all2, stolen2;
		double steal;

		if (before != NULL)
			before(b);
		cpu_times(&all, &stolen);
		if (done % 2 == 1 && before == NULL)
			rb = other(b);
		ra = a(b);
		if (done % 2 == 0 || before != NULL)
			rb = other(b);
		cpu_times(&all2, &stolen2);
		steal = (double)(stolen2 - stolen) / (double)PST_MAX(all2 - all, 1u);
		if (steal > 0.02 && repeats++ < opt.pairs)
			continue;
		print_pair(&ra, &rb, steal);
		done++;
	}
}

static struct result on_volume(struct bench *b)
{
	return measure(b, false);
}

static struct result on_raw(struct bench *b)
{
	return measure(b, true);
}

/* Requests at a fixed rate, as a share of what a closed loop at the given depth reaches. */
static void set_rate(struct bench *b)
{
	double seconds, cpu;

	memset(&b->latency, 0, sizeof(b->latency));
	b->rate = 0;
	volume_load(b, 0.5, &seconds, &cpu);
	b->rate = (double)b->latency.count / seconds * (double)opt.rate_percent / 100;
}

/* ---- Snapshots and work in the background ---- */

static uint8_t snapshots;

static pst_err snapshot(struct bench *b, uint8_t volume)
{
	struct pst_snapshot_member member = { .volume = { volume }, .snapshot = { 100 + volume, ++snapshots } };
	struct pst_pool_op op = { .kind = PST_POOL_SNAPSHOT, .members = &member, .member_count = 1 };

	return pool_call(b, &op);
}

/* The @back-th before the last one. */
static pst_err snapshot_delete(struct bench *b, uint8_t volume, uint8_t back)
{
	struct pst_pool_op op = { .kind = PST_POOL_VOLUME_DELETE, .uuid = { 100 + volume, snapshots - back } };

	return pool_call(b, &op);
}

static bool task_runs(struct bench *b)
{
	struct pst_pool_task tasks[64];
	uint32_t count = PST_MIN(pst_pool_tasks(b->pool, tasks, 64), 64u);

	for (uint32_t i = 0; i < count; i++)
		if (tasks[i].running)
			return true;
	return false;
}

static void tasks_end(struct bench *b)
{
	while (task_runs(b))
		pst_env_poll(b->env, 10000000);
}

static struct result after_snapshot(struct bench *b)
{
	struct result r;

	check(snapshot(b, 1), "snapshot");
	r = measure(b, false);
	check(snapshot_delete(b, 1, 0), "delete snapshot");
	tasks_end(b);
	return r;
}

/* Every block once, in an order that leaves no two together: the count is a power of two, the step is odd. */
static void scatter(struct bench *b, struct pst_volume *volume, uint64_t bytes)
{
	uint64_t blocks = bytes / PST_BLOCK_BYTES, at = 0;

	b->stop = true;
	b->measuring = false;
	b->rate = 0;
	for (uint64_t done = 0; done < blocks;) {
		for (uint32_t i = 0; i < 64; i++, done++, at += 40503) {
			struct slot *s = &b->slots[i];

			s->iov = (struct iovec){ s->buf, PST_BLOCK_BYTES };
			s->io = (struct pst_io){ .kind = PST_IO_WRITE,
						 .lba = at % blocks,
						 .block_count = 1,
						 .iov = &s->iov,
						 .iov_count = 1,
						 .done = finished };
			b->outstanding++;
			pst_volume_submit(volume, &s->io);
		}
		while (b->outstanding > 0)
			pst_env_poll(b->env, UINT64_MAX);
	}
}

static void background_ready(struct bench *b)
{
	double rate = b->rate;

	tasks_end(b);
	if (strcmp(opt.task, "straighten") == 0)
		scatter(b, b->other, OTHER_BYTES);
	for (uint8_t i = 0; strcmp(opt.task, "delete") == 0 && i < SNAPSHOTS_DELETED; i++) {
		check(snapshot(b, 2), "snapshot");
		scatter(b, b->other, OTHER_BYTES);
	}
	b->rate = rate;
}

static struct result beside_background(struct bench *b)
{
	struct pst_pool_op op = { .kind = PST_POOL_TASK_START, .task = PST_TASK_SCRUB };
	struct result r;

	if (strcmp(opt.task, "delete") == 0) {
		for (uint8_t i = 0; i < SNAPSHOTS_DELETED; i++)
			check(snapshot_delete(b, 2, i), "delete snapshot");
	} else {
		if (strcmp(opt.task, "straighten") == 0) {
			op.task = PST_TASK_STRAIGHTEN;
			op.uuid[0] = 2;
		}
		check(pool_call(b, &op), "start task");
	}
	r = measure(b, false);
	if (!task_runs(b))
		fprintf(stderr, "store-pairs: the task ended before the measurement\n");
	op.kind = PST_POOL_TASK_STOP;
	if (strcmp(opt.task, "scrub") == 0)
		(void)pool_call(b, &op);
	tasks_end(b);
	return r;
}

/* ---- Preparing ---- */

static void fill(struct bench *b, struct pst_volume *volume, uint64_t bytes)
{
	struct pst_volume *was = b->volume;

	b->volume = volume;
	b->load = (struct measure_load){ .write = true, .sequential = true, .block_bytes = 1 << 20, .depth = 8 };
	b->load.span_bytes = bytes;
	b->next = 0;
	b->stop = b->measuring = false;
	b->rate = 0;
	for (uint32_t i = 0; i < b->load.depth; i++)
		volume_start(&b->slots[i], measure_now_ns());
	while (b->outstanding > 0) {
		if (b->next >= bytes >> 20)
			b->stop = true;
		pst_env_poll(b->env, UINT64_MAX);
	}
	b->volume = was;
}

/* Every block of the file is written: space that was only reserved is read without asking the disk. */
static void prepare(struct bench *b)
{
	struct pst_store_format_config format = { .size_bytes = POOL_BYTES };
	struct pst_store_op op = { .done = store_done };
	uint64_t *words = b->slots[0].buf;

	for (int part = 0; part < 2; part++) { /* the pool's share; then, when it is formatted, the rest */
		for (uint64_t at = part == 0 ? 0 : POOL_BYTES; at < (part == 0 ? POOL_BYTES : POOL_BYTES + SPAN_BYTES);
		     at += 1 << 20) {
			for (unsigned i = 0; i < (1 << 20) / sizeof(words[0]); i++)
				words[i] = pst_prng_next(&b->prng);
			if (pwrite(b->fd, words, 1 << 20, (off_t)at) != 1 << 20)
				die(opt.path, strerror(errno));
		}
		if (part == 1)
			break;
		waiting = true;
		pst_store_format(b->env, opt.path, &format, &op);
		wait_done(b);
		if (op.err != PST_OK)
			die(opt.path, op.detail);
	}
	pool_open(b);
	fill(b, b->volume, SPAN_BYTES);
	fill(b, b->other, OTHER_BYTES);
	pool_close(b);
}

static void straighten(struct bench *b)
{
	struct pst_pool_op op = { .kind = PST_POOL_TASK_START, .task = PST_TASK_STRAIGHTEN, .uuid = { 1 } };

	check(pool_call(b, &op), "straighten");
	tasks_end(b);
}

static void run_case(struct bench *b)
{
	if (strcmp(opt.what, "raw") == 0) {
		pairs(b, on_volume, on_raw, NULL);
	} else if (strcmp(opt.what, "snap") == 0) {
		set_rate(b);
		pairs(b, after_snapshot, on_volume, NULL);
	} else if (strcmp(opt.what, "beside") == 0) {
		b->mixed = true;
		set_rate(b);
		pairs(b, beside_background, on_volume, background_ready);
	} else if (strcmp(opt.what, "scatter") == 0) {
		scatter(b, b->volume, SPAN_BYTES);
	} else if (strcmp(opt.what, "straighten") == 0) {
		straighten(b);
	} else {
		die("--case", "one of prepare, raw, snap, beside, scatter, straighten");
	}
}

int main(int argc, char **argv)
{
	static struct bench b;
	struct pst_env_config env = { .log_level = PST_LOG_ERROR };

	measure_parse(argc, argv, &b.load, option);
	measure_pin(b.load.cpu);
	pst_prng_init(&b.prng, b.load.seed);
	if (opt.path == NULL || b.load.depth > DEPTH_MAX)
		die("usage", "--file is missing, or --depth is over 128");
	b.load.span_bytes = SPAN_BYTES;
	for (uint32_t i = 0; i < DEPTH_MAX; i++) {
		uint64_t bytes = i < 8 ? PST_MAX(b.load.block_bytes, 1u << 20) : b.load.block_bytes;

		b.slots[i].b = &b;
		b.slots[i].buf = aligned_alloc(PST_BLOCK_BYTES, bytes);
		memset(b.slots[i].buf, 1, bytes);
	}
	b.fd = open(opt.path, O_RDWR | O_CREAT | O_DIRECT | O_CLOEXEC, 0600);
	if (b.fd < 0 || io_uring_queue_init(DEPTH_MAX * 2, &b.ring, 0) != 0)
		die(opt.path, strerror(errno));
	check(pst_env_new(&env, &b.env), "environment");
	if (strcmp(opt.what, "prepare") == 0) {
		prepare(&b);
	} else {
		pool_open(&b);
		run_case(&b);
		pool_close(&b);
	}
	io_uring_queue_exit(&b.ring);
	close(b.fd);
	pst_env_free(b.env);
	for (uint32_t i = 0; i < DEPTH_MAX; i++)
		free(b.slots[i].buf);
	return 0;
}

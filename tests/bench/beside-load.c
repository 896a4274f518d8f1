/* SPDX-License-Identifier: Apache-2.0 */
/*
 * beside-load --way penstock|nbd|file ... [--flush-every N] [--fill on] [--count N] and the shape of measure.h
 *
 * A closed loop of `depth` operations. While writing, every N-th operation is a flush in place of a write, so that
 * everyone pays for durability within the measured time; flushes are not counted as operations. --fill writes the span
 * once, in order, and flushes; --count ends after that many operations, and flushes: both measure nothing. Prints the
 * line of measure_end, and before it one with the longest time in which nothing completed (`gap_ms`), the longest
 * operation (`max_ms`) and the CPU time of the whole machine per operation (`machine_cpu_us`).
 */
#include "beside.h"

#include "base/prng.h"
#include "measure.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define FILL_BYTES (1u << 20)

static const struct beside_way *const ways[] = { &beside_penstock, &beside_file,
#ifdef PST_HAVE_LIBNBD
						 &beside_nbd,
#endif
						 NULL };

struct run {
	struct measure_load load;
	struct measure measure;
	struct pst_prng prng;
	struct beside_place place;
	const struct beside_way *way;
	uint64_t next, flush_every, count, submitted, last_ns, gap_ns, max_ns;
	uint32_t outstanding;
	int server;
	bool fill, measuring, stop, failed;
};

static struct run r = { .flush_every = 256, .place = { .port = "4420" } };

struct slot {
	struct beside_request request; /* first: completions are cast back */
	uint64_t begin_ns;
};

static bool option(const char *name, char *value)
{
	if (strcmp(name, "--way") == 0) {
		for (size_t i = 0; ways[i] != NULL; i++)
			if (strcmp(ways[i]->name, value) == 0)
				r.way = ways[i];
		return r.way != NULL;
	}
	if (strcmp(name, "--nqn") == 0)
		r.place.nqn = value;
	else if (strcmp(name, "--port") == 0)
		r.place.port = value;
	else if (strcmp(name, "--file") == 0)
		r.place.file = value;
	else if (strcmp(name, "--server-pid") == 0)
		r.server = (int)strtol(value, NULL, 10);
	else if (strcmp(name, "--flush-every") == 0)
		r.flush_every = strtoull(value, NULL, 10);
	else if (strcmp(name, "--count") == 0)
		r.count = strtoull(value, NULL, 10);
	else if (strcmp(name, "--fill") == 0)
		r.fill = strcmp(value, "on") == 0;
	else
		return false;
	return true;
}

static void start(struct slot *s)
{
	uint64_t blocks = r.load.span_bytes / r.load.block_bytes;
	uint64_t block = r.load.sequential ? r.next++ % blocks : pst_prng_below(&r.prng, blocks);

	if (r.count > 0 && r.submitted == r.count) {
		r.stop = true;
		return;
	}
	r.submitted++;
	s->request.kind = r.load.write ? BESIDE_WRITE : BESIDE_READ;
	if (r.load.write && r.flush_every > 0 && r.submitted % r.flush_every == 0)
		s->request.kind = BESIDE_FLUSH;
	s->request.offset_bytes = block * r.load.block_bytes;
	s->begin_ns = measure_now_ns();
	r.outstanding++;
	r.way->submit(&s->request);
}

static void finished(struct beside_request *request)
{
	struct slot *s = (struct slot *)request;
	uint64_t now = measure_now_ns();

	r.outstanding--;
	r.failed |= request->failed;
	r.stop |= request->failed;
	if (r.measuring) {
		if (request->kind != BESIDE_FLUSH)
			pst_hist_add(&r.measure.latency, now - s->begin_ns);
		r.max_ns = PST_MAX(r.max_ns, now - s->begin_ns);
		r.gap_ns = PST_MAX(r.gap_ns, now - r.last_ns);
	}
	r.last_ns = now;
	if (!r.stop)
		start(s);
}

/* All CPU time of the machine that was not idle: in a quiet machine also what kernel threads did for a loop device. */
static double machine_cpu_s(void)
{
	unsigned long long t[7] = { 0 };
	FILE *f = fopen("/proc/stat", "re");

	if (f == NULL ||
	    fscanf(f, "cpu %llu %llu %llu %llu %llu %llu %llu", &t[0], &t[1], &t[2], &t[3], &t[4], &t[5], &t[6]) != 7)
		t[0] = 0;
	if (f != NULL)
		fclose(f);
	return (double)(t[0] + t[1] + t[2] + t[5] + t[6]) / (double)sysconf(_SC_CLK_TCK);
}

static void poll_until(double seconds)
{
	uint64_t end = measure_now_ns() + (uint64_t)(seconds * 1e9);

	while (!r.stop && measure_now_ns() < end)
		r.way->poll();
}

static void drain(void)
{
	r.stop = true;
	while (r.outstanding > 0)
		r.way->poll();
}

static void flush(struct slot *s)
{
	s->request.kind = BESIDE_FLUSH;
	r.outstanding++;
	r.way->submit(&s->request);
	drain();
}

/* Incompressible, and no two blocks alike. */
static void *buffer(uint32_t bytes)
{
	uint64_t *buf = aligned_alloc(4096, bytes);

	pst_assert(buf != NULL);
	for (size_t i = 0; i < bytes / sizeof(*buf); i++)
		buf[i] = pst_prng_next(&r.prng);
	return buf;
}

static bool connected(void)
{
	measure_pin(r.load.cpu);
	pst_prng_init(&r.prng, r.load.seed);
	r.place.depth = r.load.depth;
	if (r.way == NULL) {
		fprintf(stderr, "beside-load: --way is missing\n");
		return false;
	}
	return r.way->open(&r.place);
}

int main(int argc, char **argv)
{
	measure_parse(argc, argv, &r.load, option);
	if (r.fill) {
		r.load.write = r.load.sequential = true;
		r.load.block_bytes = FILL_BYTES;
		r.count = r.load.span_bytes / FILL_BYTES;
		r.flush_every = 0;
	}
	if (!connected())
		return 1;
	struct slot *slots = calloc(r.load.depth, sizeof(*slots));
	for (uint32_t i = 0; i < r.load.depth; i++)
		slots[i].request = (struct beside_request){ .len_bytes = r.load.block_bytes,
							    .buf = buffer(r.load.block_bytes),
							    .done = finished };
	for (uint32_t i = 0; i < r.load.depth && !r.stop; i++)
		start(&slots[i]);
	poll_until(r.count > 0 ? 3600 : r.load.warmup_seconds);
	if (r.count == 0) {
		double machine = machine_cpu_s();

		measure_begin(&r.measure, r.server);
		r.last_ns = measure_now_ns();
		r.measuring = true;
		poll_until(r.load.seconds);
		r.measuring = false;
		if (!r.failed) {
			printf("{\"gap_ms\":%.2f,\"max_ms\":%.2f,\"machine_cpu_us\":%.2f}\n", (double)r.gap_ns / 1e6,
			       (double)r.max_ns / 1e6,
			       (machine_cpu_s() - machine) * 1e6 / (double)PST_MAX(r.measure.latency.count, 1u));
			measure_end(&r.measure, &r.load);
		}
	}
	drain();
	flush(&slots[0]);
	r.way->close();
	for (uint32_t i = 0; i < r.load.depth; i++) {
		free(slots[i].request.buf);
		free(slots[i].request.own);
	}
	free(slots);
	return r.failed ? 1 : 0;
}

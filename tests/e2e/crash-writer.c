/* SPDX-License-Identifier: Apache-2.0 */
/*
 * crash-writer --nqn NQN --port PORT --span BYTES --seconds S --log FILE    write, discard and flush
 * crash-writer --nqn NQN --port PORT --span BYTES --dump                    print what is there
 *
 * The load of test_recorded_crashes.py, and the reader of what a replayed crash has left. Every block says which write
 * it comes from (address, version, and a pattern over all of it). The log has a line for each begin and end: w TIME ID
 * LBA COUNT VERSION, z TIME ID LBA COUNT VERSION (zeroes), f TIME ID, e TIME ID
 * --dump prints a line for each block: its version, 0 for zeros, "bad" for anything else, "error" if it can't be read.
 */
#include "base/prng.h"
#include "penstock/penstock.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define BLOCK 4096u
#define DEPTH 12u
#define RUN_BLOCKS_MAX 8u

struct block {
	uint64_t magic, lba, version;
	uint64_t pattern[(BLOCK - 24) / 8];
};
_Static_assert(sizeof(struct block) == BLOCK, "one block");

struct slot {
	struct pst_request request;
	struct iovec iov;
	struct block *blocks;
	uint64_t lba, id;
	uint32_t count;
	bool busy;
};

struct writer {
	pst_host *host;
	pst_ns *ns;
	struct pst_prng prng;
	FILE *log;
	uint64_t span_blocks, last;
	bool *in_flight;
	struct slot slots[DEPTH];
	uint32_t outstanding;
	pst_err err;
};

static unsigned long long now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (unsigned long long)t.tv_sec * 1000000000u + (unsigned long long)t.tv_nsec;
}

static void make_block(struct block *b, uint64_t lba, uint64_t version)
{
	struct pst_prng p;

	*b = (struct block){ .magic = 0x6b636f6c62687363u, .lba = lba, .version = version };
	pst_prng_init(&p, (lba << 32) ^ version);
	for (size_t i = 0; i < PST_ARRAY_COUNT(b->pattern); i++)
		b->pattern[i] = pst_prng_next(&p);
}

static void finished(struct pst_request *request)
{
	struct slot *s = pst_container_of(request, struct slot, request);
	struct writer *w = request->arg;

	if (request->err != PST_OK && w->err == PST_OK)
		w->err = request->err;
	else if (request->err == PST_OK)
		fprintf(w->log, "e %llu %llu\n", now_ns(), (unsigned long long)s->id);
	for (uint32_t i = 0; i < s->count; i++)
		w->in_flight[s->lba + i] = false;
	w->outstanding--;
	s->busy = false;
}

static bool choose_range(struct writer *w, struct slot *s)
{
	s->count = 1 + (uint32_t)pst_prng_below(&w->prng, RUN_BLOCKS_MAX);
	s->lba = pst_prng_below(&w->prng, w->span_blocks - s->count);
	for (uint32_t i = 0; i < s->count; i++)
		if (w->in_flight[s->lba + i])
			return false;
	return true;
}

static void submit(struct writer *w, struct slot *s)
{
	uint64_t what = pst_prng_below(&w->prng, 100);
	enum pst_request_kind kind = what < 4    ? PST_REQUEST_FLUSH
				     : what < 12 ? PST_REQUEST_WRITE_ZEROES
						 : PST_REQUEST_WRITE;

	s->count = 0;
	if (kind != PST_REQUEST_FLUSH && !choose_range(w, s))
		return;
	s->id = ++w->last;
	for (uint32_t i = 0; i < s->count; i++) {
		w->in_flight[s->lba + i] = true;
		if (kind == PST_REQUEST_WRITE)
			make_block(&s->blocks[i], s->lba + i, s->id);
	}
	if (kind == PST_REQUEST_FLUSH)
		fprintf(w->log, "f %llu %llu\n", now_ns(), (unsigned long long)s->id);
	else
		fprintf(w->log, "%c %llu %llu %llu %u\n", kind == PST_REQUEST_WRITE ? 'w' : 'z', now_ns(),
			(unsigned long long)s->id, (unsigned long long)s->lba, s->count);
	s->iov = (struct iovec){ s->blocks, (size_t)s->count * BLOCK };
	s->request = (struct pst_request){ .kind = kind,
					   .offset_bytes = s->lba * BLOCK,
					   .len_bytes = (uint64_t)s->count * BLOCK,
					   .iov = kind == PST_REQUEST_WRITE ? &s->iov : NULL,
					   .iov_count = kind == PST_REQUEST_WRITE,
					   .done = finished,
					   .arg = w };
	s->busy = true;
	w->outstanding++;
	pst_ns_submit(w->ns, &s->request);
}

static int write_all(struct writer *w, double seconds)
{
	unsigned long long end = now_ns() + (unsigned long long)(seconds * 1e9);

	w->in_flight = calloc(w->span_blocks, sizeof(w->in_flight[0]));
	for (unsigned i = 0; i < DEPTH; i++)
		w->slots[i].blocks = aligned_alloc(BLOCK, (size_t)RUN_BLOCKS_MAX * BLOCK);
	while (now_ns() < end && w->err == PST_OK) {
		for (unsigned i = 0; i < DEPTH; i++)
			if (!w->slots[i].busy)
				submit(w, &w->slots[i]);
		pst_host_poll(w->host, 100);
	}
	while (w->outstanding > 0)
		pst_host_poll(w->host, 100);
	for (unsigned i = 0; i < DEPTH; i++)
		free(w->slots[i].blocks);
	free(w->in_flight);
	if (w->err != PST_OK)
		fprintf(stderr, "crash-writer: %s\n", pst_err_text(w->err));
	return w->err != PST_OK || fclose(w->log) != 0;
}

static void dump(struct writer *w)
{
	static const struct block zeros;
	static struct block got, want;

	for (uint64_t lba = 0; lba < w->span_blocks; lba++) {
		if (pst_ns_read(w->ns, lba * BLOCK, &got, sizeof(got)) != PST_OK) {
			puts("error");
			continue;
		}
		make_block(&want, lba, got.version);
		if (memcmp(&got, &zeros, BLOCK) == 0)
			puts("0");
		else if (memcmp(&got, &want, BLOCK) == 0)
			printf("%llu\n", (unsigned long long)got.version);
		else
			puts("bad");
	}
}

int main(int argc, char **argv)
{
	static struct writer w;
	struct pst_host_options host = { .struct_bytes = sizeof(host), .caller_polls = true };
	struct pst_ns_options options = { .struct_bytes = sizeof(options),
					  .traddr = "127.0.0.1",
					  .queue_entries = DEPTH + 1 };
	double seconds = 1;
	bool dumping = false;
	int rc = 0;

	for (int i = 1; i < argc; i++) {
		if (strcmp(argv[i], "--dump") == 0)
			dumping = true;
		else if (i + 1 == argc)
			return 2;
		else if (strcmp(argv[i], "--nqn") == 0)
			options.subnqn = argv[++i];
		else if (strcmp(argv[i], "--port") == 0)
			options.trsvcid = (uint16_t)strtoul(argv[++i], NULL, 10);
		else if (strcmp(argv[i], "--seconds") == 0)
			seconds = strtod(argv[++i], NULL);
		else if (strcmp(argv[i], "--span") == 0)
			w.span_blocks = strtoull(argv[++i], NULL, 0) / BLOCK;
		else if (strcmp(argv[i], "--log") == 0)
			w.log = fopen(argv[++i], "we");
		else
			return 2;
	}
	if (w.span_blocks <= RUN_BLOCKS_MAX || (!dumping && w.log == NULL))
		return 2;
	pst_prng_init(&w.prng, now_ns());
	if (pst_host_open(&host, &w.host) != PST_OK || pst_ns_connect(w.host, &options, &w.ns) != PST_OK)
		return 1;
	if (dumping)
		dump(&w);
	else
		rc = write_all(&w, seconds);
	pst_ns_disconnect(w.ns);
	pst_host_close(w.host);
	return rc;
}

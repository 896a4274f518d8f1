/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kill-writer --nqn NQN --port PORT --seconds S [--span BYTES] [--seed N]      write and verify through restarts
 * kill-writer --nqn NQN --port PORT --probe                                    wait until one block is read
 *
 * The load and the verifier for killing penstockd under load, over libpenstock. Every block says which write it comes
 * from (address, version, and a pattern over all of its 4096 bytes), so a lost write, a torn block, or a block of some
 * other place is told from a good one. Writes do not overlap writes in flight. Now and then the writer drains and reads
 * everything back: each block must be exactly its last completed version. Prints one JSON line; exit 1: data was wrong.
 */
#include "base/prng.h"
#include "penstock/penstock.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define BLOCK 4096u
#define DEPTH 32u
#define RUN_BLOCKS_MAX 16u
#define VERIFY_BLOCKS 64u
#define ROUND_WRITES 3000u

struct block {
	uint64_t magic, lba, version, seed;
	uint64_t pattern[(BLOCK - 32) / 8];
};

_Static_assert(sizeof(struct block) == BLOCK, "one block");

struct slot {
	struct pst_request request;
	struct iovec iov;
	struct block *blocks;
	uint64_t lba;
	uint32_t count;
};

struct writer {
	pst_host *host;
	pst_ns *ns;
	struct pst_prng prng;
	uint64_t seed, span_blocks, version;
	uint64_t *versions; /* last completed, by LBA; 0: never written */
	bool *in_flight;
	struct slot slots[DEPTH];
	uint32_t outstanding;
	uint64_t submitted, completed, flushes, verified, wrong;
	uint64_t longest_stall_ns;
	pst_err err;
};

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void make_block(struct block *b, uint64_t seed, uint64_t lba, uint64_t version)
{
	struct pst_prng p;

	*b = (struct block){ .magic = 0x6b636f6c626b6c77u, .lba = lba, .version = version, .seed = seed };
	pst_prng_init(&p, seed ^ (lba << 32) ^ version);
	for (size_t i = 0; i < PST_ARRAY_COUNT(b->pattern); i++)
		b->pattern[i] = pst_prng_next(&p);
}

/* What a block is, if it is not what it should be. */
static void complain(struct writer *w, const struct block *got, uint64_t lba, uint64_t version)
{
	struct block want;

	w->wrong++;
	if (w->wrong > 10)
		return;
	make_block(&want, got->seed, got->lba, got->version);
	fprintf(stderr, "kill-writer: block %llu should be version %llu, is %s (address %llu, version %llu)\n",
		(unsigned long long)lba, (unsigned long long)version,
		memcmp(got, &want, BLOCK) != 0 ? (got->magic == 0 ? "zeros" : "torn or foreign")
		: got->lba != lba              ? "another block's"
					       : "another version",
		(unsigned long long)got->lba, (unsigned long long)got->version);
}

static void check_block(struct writer *w, const struct block *got, uint64_t lba)
{
	static const struct block zeros;
	struct block want = zeros;

	if (w->versions[lba] != 0)
		make_block(&want, w->seed, lba, w->versions[lba]);
	w->verified++;
	if (memcmp(got, &want, BLOCK) != 0)
		complain(w, got, lba, w->versions[lba]);
}

static void finished(struct pst_request *request)
{
	struct slot *s = pst_container_of(request, struct slot, request);
	struct writer *w = request->arg;

	w->outstanding--;
	w->longest_stall_ns = PST_MAX(w->longest_stall_ns, request->latency_ns);
	for (uint32_t i = 0; i < s->count; i++) {
		w->in_flight[s->lba + i] = false;
		if (request->err == PST_OK)
			w->versions[s->lba + i] = s->blocks[i].version;
	}
	if (request->err != PST_OK && w->err == PST_OK) {
		fprintf(stderr, "kill-writer: %s failed: %s, NVMe status %03xh\n", s->count > 0 ? "write" : "flush",
			pst_err_text(request->err), request->nvme_status);
		w->err = request->err;
	}
	w->completed++;
	s->request.arg = NULL; /* the slot is free */
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
	bool flush = pst_prng_chance(&w->prng, 1, 50);

	if (flush) {
		s->count = 0;
		w->flushes++;
	} else if (!choose_range(w, s)) {
		return;
	}
	w->version++;
	for (uint32_t i = 0; i < s->count; i++) {
		make_block(&s->blocks[i], w->seed, s->lba + i, w->version);
		w->in_flight[s->lba + i] = true;
	}
	s->iov = (struct iovec){ s->blocks, (size_t)s->count * BLOCK };
	s->request = (struct pst_request){ .kind = flush ? PST_REQUEST_FLUSH : PST_REQUEST_WRITE,
					   .offset_bytes = s->lba * BLOCK,
					   .len_bytes = (uint64_t)s->count * BLOCK,
					   .iov = flush ? NULL : &s->iov,
					   .iov_count = flush ? 0 : 1,
					   .done = finished,
					   .arg = w };
	w->submitted++;
	w->outstanding++;
	pst_ns_submit(w->ns, &s->request);
}

static void drain(struct writer *w)
{
	while (w->outstanding > 0)
		pst_host_poll(w->host, 100);
}

static void write_round(struct writer *w)
{
	for (uint64_t end = w->submitted + ROUND_WRITES; w->submitted < end && w->err == PST_OK;) {
		for (unsigned i = 0; i < DEPTH; i++)
			if (w->slots[i].request.arg == NULL)
				submit(w, &w->slots[i]);
		pst_host_poll(w->host, 100);
	}
	drain(w);
}

static void verify_all(struct writer *w)
{
	static struct block blocks[VERIFY_BLOCKS];

	for (uint64_t lba = 0; lba < w->span_blocks && w->err == PST_OK; lba += VERIFY_BLOCKS) {
		w->err = pst_ns_read(w->ns, lba * BLOCK, blocks, sizeof(blocks));
		if (w->err != PST_OK)
			fprintf(stderr, "kill-writer: read failed: %s\n", pst_err_text(w->err));
		for (uint32_t i = 0; i < VERIFY_BLOCKS && w->err == PST_OK; i++)
			check_block(w, &blocks[i], lba + i);
	}
}

static int probe(pst_host *host, const struct pst_ns_options *options)
{
	static char block[BLOCK];
	pst_ns *ns;

	for (uint64_t end = now_ns() + 20000000000u; now_ns() < end;) {
		struct timespec pause = { .tv_nsec = 2000000 };

		if (pst_ns_connect(host, options, &ns) == PST_OK) {
			pst_err err = pst_ns_read(ns, 0, block, sizeof(block));

			pst_ns_disconnect(ns);
			return err == PST_OK ? 0 : 1;
		}
		nanosleep(&pause, NULL);
	}
	return 1;
}

static int write_and_verify(struct writer *w, double seconds)
{
	struct pst_ns_stats stats;
	uint64_t end = now_ns() + (uint64_t)(seconds * 1e9);

	w->versions = calloc(w->span_blocks, sizeof(w->versions[0]));
	w->in_flight = calloc(w->span_blocks, sizeof(w->in_flight[0]));
	for (unsigned i = 0; i < DEPTH; i++)
		w->slots[i].blocks = aligned_alloc(BLOCK, (size_t)RUN_BLOCKS_MAX * BLOCK);
	while (now_ns() < end && w->err == PST_OK && w->wrong == 0) {
		write_round(w);
		verify_all(w);
	}
	pst_ns_stats(w->ns, &stats);
	printf("{\"completed\":%llu,\"flushes\":%llu,\"verified\":%llu,\"wrong\":%llu,\"reconnects\":%llu,"
	       "\"replayed\":%llu,\"longest_stall_s\":%.3f}\n",
	       (unsigned long long)w->completed, (unsigned long long)w->flushes, (unsigned long long)w->verified,
	       (unsigned long long)w->wrong, (unsigned long long)stats.reconnects,
	       (unsigned long long)stats.replayed_requests, (double)w->longest_stall_ns / 1e9);
	for (unsigned i = 0; i < DEPTH; i++)
		free(w->slots[i].blocks);
	free(w->versions);
	free(w->in_flight);
	return w->err != PST_OK || w->wrong > 0;
}

int main(int argc, char **argv)
{
	static struct writer w = { .seed = 1, .span_blocks = 16384 };
	struct pst_host_options host = { .struct_bytes = sizeof(host), .caller_polls = true };
	struct pst_ns_options options = { .struct_bytes = sizeof(options),
					  .traddr = "127.0.0.1",
					  .queue_entries = DEPTH + 1,
					  .reconnect_delay_ms = 20 };
	double seconds = 10;
	bool probing = false;
	pst_err err;
	int rc;

	for (int i = 1; i < argc; i++) {
		if (strcmp(argv[i], "--probe") == 0)
			probing = true;
		else if (i + 1 == argc)
			return 2;
		else if (strcmp(argv[i], "--nqn") == 0)
			options.subnqn = argv[++i];
		else if (strcmp(argv[i], "--port") == 0)
			options.trsvcid = (uint16_t)strtoul(argv[++i], NULL, 10);
		else if (strcmp(argv[i], "--seconds") == 0)
			seconds = strtod(argv[++i], NULL);
		else if (strcmp(argv[i], "--seed") == 0)
			w.seed = strtoull(argv[++i], NULL, 0);
		else if (strcmp(argv[i], "--span") == 0)
			w.span_blocks = strtoull(argv[++i], NULL, 0) / BLOCK / VERIFY_BLOCKS * VERIFY_BLOCKS;
		else
			return 2;
	}
	pst_prng_init(&w.prng, w.seed);
	if (pst_host_open(&host, &w.host) != PST_OK)
		return 1;
	if (probing) {
		rc = probe(w.host, &options);
	} else {
		err = pst_ns_connect(w.host, &options, &w.ns);
		if (err != PST_OK) {
			fprintf(stderr, "kill-writer: connect: %s\n", pst_err_text(err));
			return 1;
		}
		rc = write_and_verify(&w, seconds);
		pst_ns_disconnect(w.ns);
	}
	pst_host_close(w.host);
	return rc;
}

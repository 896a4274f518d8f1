/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What checksums and encryption add to a block of 4096 bytes, in CPU time of the shard, beside what the same bytes cost
 * CRC32C and AES-256-XTS alone: `crypt-cost [--rounds N]`. One JSON line for each case.
 *
 * The encrypting layer stands above a volume that does nothing, and the time of that volume alone is taken off; so what
 * is left is the layer: bounce memory, lists, the cipher's set-up. The store adds a CRC32C over each block, as measured
 * here, in the same call. Cases alternate within a round; given is the median over the rounds.
 */
#include "base/crc32c.h"
#include "env/env.h"
#include "volume/crypt.h"

#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define B PST_BLOCK_BYTES
#define SPAN_BLOCKS 1024u /* 4 MiB of buffers in turn: not all in the first cache */
#define DEPTH 32u
#define PER_ROUND 16384u /* blocks */
#define ROUNDS_MAX 1001u

static char *buffers;

static double cpu_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

/* ---- A volume that does nothing ---- */

struct nothing {
	struct pst_volume volume;
	struct pst_list done;
	struct pst_post post;
	bool posted;
	struct pst_volume_close_op *closing;
};

static void nothing_run(struct pst_post *post)
{
	struct nothing *n = pst_container_of(post, struct nothing, post);
	struct pst_list done, *node;

	n->posted = false;
	pst_list_init(&done);
	pst_list_splice(&done, &n->done);
	while ((node = pst_list_pop_front(&done)) != NULL) {
		struct pst_io *io = pst_container_of(node, struct pst_io, node);

		io->done(io);
	}
	if (n->closing != NULL)
		n->closing->done(n->closing);
}

static void nothing_schedule(struct nothing *n)
{
	if (!n->posted)
		pst_env_post(n->volume.env, &n->post);
	n->posted = true;
}

static void nothing_submit(struct pst_volume *volume, struct pst_io *io)
{
	struct nothing *n = pst_container_of(volume, struct nothing, volume);

	pst_list_push_back(&n->done, &io->node);
	nothing_schedule(n);
}

static void nothing_close(struct pst_volume *volume, struct pst_volume_close_op *op)
{
	struct nothing *n = pst_container_of(volume, struct nothing, volume);

	n->closing = op;
	nothing_schedule(n);
}

static const struct pst_volume_ops nothing_ops = { .name = "nothing",
						   .submit = nothing_submit,
						   .close = nothing_close };

/* ---- Load on a volume: DEPTH requests under way, PER_ROUND blocks in all ---- */

struct slot {
	struct pst_io io;
	struct iovec iov;
};

static struct {
	struct pst_volume *volume;
	struct slot slots[DEPTH];
	enum pst_io_kind kind;
	uint32_t blocks;
	uint32_t submitted, completed;
} load;

static void slot_start(struct slot *s)
{
	uint32_t at = load.submitted % SPAN_BLOCKS;

	s->iov = (struct iovec){ buffers + (size_t)at * B, (size_t)load.blocks * B };
	s->io.kind = load.kind;
	s->io.lba = at;
	s->io.block_count = load.blocks;
	s->io.iov = &s->iov;
	s->io.iov_count = 1;
	load.submitted += load.blocks;
	pst_volume_submit(load.volume, &s->io);
}

static void slot_done(struct pst_io *io)
{
	load.completed += load.blocks;
	if (load.submitted < PER_ROUND)
		slot_start(pst_container_of(io, struct slot, io));
}

static double volume_ns(struct pst_env *env, struct pst_volume *volume, enum pst_io_kind kind, uint32_t blocks)
{
	double begin = cpu_ns();

	load.volume = volume;
	load.kind = kind;
	load.blocks = blocks;
	load.submitted = load.completed = 0;
	for (uint32_t i = 0; i < DEPTH && load.submitted < PER_ROUND; i++) {
		load.slots[i].io.done = slot_done;
		slot_start(&load.slots[i]);
	}
	while (load.completed < PER_ROUND)
		pst_env_poll(env, UINT64_MAX);
	return (cpu_ns() - begin) / PER_ROUND;
}

/* ---- CRC and AES alone ---- */

static double crc_ns(void)
{
	volatile uint32_t sum = 0;
	double begin = cpu_ns();

	for (uint32_t i = 0; i < PER_ROUND; i++)
		sum += pst_crc32c(buffers + (size_t)(i % SPAN_BLOCKS) * B, B);
	return (cpu_ns() - begin) / PER_ROUND;
}

/* Through EVP, a tweak for each block, between the buffers and one block that stays in the cache. */
static double aes_ns(EVP_CIPHER_CTX *ctx, bool encrypt)
{
	static char other[B] __attribute__((aligned(4096)));
	double begin = cpu_ns();

	for (uint32_t i = 0; i < PER_ROUND; i++) {
		char *buffer = buffers + (size_t)(i % SPAN_BLOCKS) * B;
		uint8_t tweak[16] = { 0 };
		int len;

		memcpy(tweak, &i, sizeof(i));
		if (EVP_CipherInit_ex2(ctx, NULL, NULL, tweak, -1, NULL) != 1 ||
		    EVP_CipherUpdate(ctx, (void *)(encrypt ? other : buffer), &len, (void *)(encrypt ? buffer : other),
				     (int)B) != 1)
			abort();
	}
	return (cpu_ns() - begin) / PER_ROUND;
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static double median(double *values, uint32_t count)
{
	qsort(values, count, sizeof(values[0]), by_value);
	return values[count / 2];
}

struct rig {
	struct pst_env *env;
	struct nothing nothing;
	struct pst_crypt_pool *pool;
	struct pst_volume *crypt;
	EVP_CIPHER_CTX *ctx[2]; /* decrypt, encrypt */
};

static void measure(struct rig *r, enum pst_io_kind kind, uint32_t blocks, uint32_t rounds)
{
	static double crc[ROUNDS_MAX], aes[ROUNDS_MAX], added[ROUNDS_MAX], part[ROUNDS_MAX];
	bool write = kind == PST_IO_WRITE;
	double crc_m, aes_m, added_m, bar;

	for (uint32_t i = 0; i < rounds; i++) {
		double bare;

		crc[i] = crc_ns();
		aes[i] = aes_ns(r->ctx[write], write);
		bare = volume_ns(r->env, &r->nothing.volume, kind, blocks);
		added[i] = volume_ns(r->env, r->crypt, kind, blocks) - bare + crc[i];
		part[i] = added[i] / (1.3 * (crc[i] + aes[i]) + 100);
	}
	crc_m = median(crc, rounds);
	aes_m = median(aes, rounds);
	added_m = median(added, rounds);
	bar = 1.3 * (crc_m + aes_m) + 100;
	printf("{\"case\":\"%s %u KiB\",\"crc_ns\":%.0f,\"aes_ns\":%.0f,\"added_ns\":%.0f,\"bar_ns\":%.0f,"
	       "\"of_bar\":%.3f}\n",
	       write ? "write" : "read", blocks * B / 1024, crc_m, aes_m, added_m, bar, median(part, rounds));
}

static void closed(struct pst_volume_close_op *op)
{
	(void)op;
	load.completed = 1;
}

static void rig_open(struct rig *r)
{
	const struct pst_env_config config = { .backend = PST_ENV_POSIX, .log_level = PST_LOG_ERROR };
	static const struct pst_crypt_pool_config pool_config = { 0 };
	uint8_t key[PST_CRYPT_KEY_BYTES];
	EVP_CIPHER *cipher = EVP_CIPHER_fetch(NULL, "AES-256-XTS", NULL);

	for (unsigned i = 0; i < sizeof(key); i++)
		key[i] = (uint8_t)(i * 5 + 1);
	if (cipher == NULL || pst_env_new(&config, &r->env) != PST_OK)
		abort();
	r->nothing.volume = (struct pst_volume){ .ops = &nothing_ops, .env = r->env, .block_count = 2 * SPAN_BLOCKS };
	r->nothing.post.fn = nothing_run;
	pst_list_init(&r->nothing.done);
	if (pst_crypt_pool_new(r->env, &pool_config, &r->pool) != PST_OK ||
	    pst_crypt_new(r->pool, &r->nothing.volume, key, &r->crypt) != PST_OK)
		abort();
	for (int encrypt = 0; encrypt < 2; encrypt++) {
		r->ctx[encrypt] = EVP_CIPHER_CTX_new();
		if (EVP_CipherInit_ex2(r->ctx[encrypt], cipher, key, NULL, encrypt, NULL) != 1)
			abort();
	}
	EVP_CIPHER_free(cipher);
	buffers = aligned_alloc(B, (size_t)2 * SPAN_BLOCKS * B);
	memset(buffers, 7, (size_t)2 * SPAN_BLOCKS * B);
}

int main(int argc, char **argv)
{
	static const uint32_t sizes[] = { 1, 32, 256 };
	struct pst_volume_close_op op = { .done = closed };
	uint32_t rounds = 21;
	struct rig r = { 0 };

	if (argc == 3 && strcmp(argv[1], "--rounds") == 0)
		rounds = (uint32_t)strtoul(argv[2], NULL, 10);
	if ((argc != 1 && argc != 3) || rounds == 0 || rounds > ROUNDS_MAX) {
		fprintf(stderr, "usage: crypt-cost [--rounds N], N at most %u\n", ROUNDS_MAX);
		return 2;
	}
	rig_open(&r);
	for (unsigned i = 0; i < PST_ARRAY_COUNT(sizes); i++) {
		measure(&r, PST_IO_WRITE, sizes[i], rounds);
		measure(&r, PST_IO_READ, sizes[i], rounds);
	}
	load.completed = 0;
	pst_volume_close(r.crypt, &op);
	while (load.completed == 0)
		pst_env_poll(r.env, UINT64_MAX);
	pst_crypt_pool_free(r.pool);
	EVP_CIPHER_CTX_free(r.ctx[0]);
	EVP_CIPHER_CTX_free(r.ctx[1]);
	pst_env_free(r.env);
	free(buffers);
	return 0;
}

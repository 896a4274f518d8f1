/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reads and writes are cut into pieces of at most 64 blocks, each with a run of bounce memory and a request of its own
 * to the lower volume:
 *
 *   write:   WAITING for bounce memory -> encrypted from the caller's memory into it -> lower volume -> done
 *   read:    WAITING for bounce memory -> lower volume -> decrypted out of it into the caller's memory -> done
 *
 * What waits is the caller's request, in a list of its volume; volumes take turns, one piece each. So a request's
 * pieces end in any order, which is no less than the volume interface promises. What needs no bounce memory is handed
 * down as it is. State of a request: struct work, in its scratch.
 *
 * Blocks that lie in one piece in the caller's memory are ciphered straight from or to it; others are gathered in the
 * bounce memory first and ciphered there, in place.
 */
#include "volume/crypt.h"

#include "volume/iov.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>

#define PIECE_BLOCKS 64u /* bits of a word: of the free map, and of a piece's holes */
#define BOUNCE_BYTES_DEFAULT ((size_t)16 << 20)
#define PIECES_DEFAULT 512u
#define CIPHER "AES-256-XTS"
#define TWEAK_BYTES 16u

struct crypt;

struct piece {
	struct crypt *crypt;
	struct pst_io *upper; /* NULL: it is free */
	struct pst_io lower;
	struct pst_list node;
	uint64_t at; /* its first block in the upper request */
	uint32_t block, count;
	struct iovec iov;
	uint64_t holes;
};

struct pst_crypt_pool {
	struct pst_env *env;
	EVP_CIPHER *cipher;
	char *memory;
	uint64_t *free_map; /* a bit for each block; a run lies in one word */
	uint32_t words;
	uint32_t touched; /* blocks before this one have been used */
	struct piece *pieces;
	struct pst_list free_pieces;
	uint32_t write_blocks, write_pieces; /* in use by writes */
	uint32_t blocks_max, pieces_max;
	struct pst_list hungry; /* crypts with requests that wait */
	struct pst_list done;   /* requests that ended inside submit */
	struct pst_post post;
	bool posted;
	uint32_t volumes;
};

struct crypt {
	struct pst_volume volume;
	struct pst_volume *lower;
	struct pst_crypt_pool *pool;
	EVP_CIPHER_CTX *encrypt, *decrypt;
	uint32_t write_blocks; /* of bounce memory */
	uint32_t inflight;     /* reads and writes */
	struct pst_list reads, writes;
	struct pst_list hungry_node;
	struct pst_volume_close_op *closing;
	struct pst_volume_close_op lower_close;
};

struct work {
	struct crypt *crypt;
	uint64_t next; /* blocks before this one have a piece */
	uint32_t pieces;
};
_Static_assert(sizeof(struct work) <= sizeof(((struct pst_io *)0)->scratch), "scratch");

static struct work *to_work(struct pst_io *io)
{
	return (struct work *)(void *)io->scratch;
}

static struct crypt *to_crypt(struct pst_volume *volume)
{
	return pst_container_of(volume, struct crypt, volume);
}

/* ---- Bounce memory ---- */

/* Where a run of @count bits begins, or 0 if there is none: one bit. */
static uint64_t run_of(uint64_t bits, uint32_t count)
{
	for (uint32_t have = 1; have < count && bits != 0;) {
		uint32_t more = PST_MIN(have, count - have);

		bits &= bits >> more;
		have += more;
	}
	return bits & (~bits + 1);
}

static uint64_t run_mask(uint32_t at, uint32_t count)
{
	return (count == 64 ? UINT64_MAX : ((uint64_t)1 << count) - 1) << at;
}

/* Takes a run of @want blocks or, where there is none, as long a one as there is; returns its length, 0: none. */
static uint32_t bounce_take(struct pst_crypt_pool *p, uint32_t want, uint32_t *ret_block)
{
	/* From low addresses on: what has been used before is in the caches. */
	for (; want > 0; want = want > 1 ? want / 2 : 0) {
		for (uint32_t w = 0; w < p->words; w++) {
			uint64_t first = run_of(p->free_map[w], want);
			uint32_t at;

			if (first == 0)
				continue;
			at = (uint32_t)__builtin_ctzll(first);
			p->free_map[w] &= ~run_mask(at, want);
			*ret_block = w * PIECE_BLOCKS + at;
			p->touched = PST_MAX(p->touched, *ret_block + want);
			return want;
		}
	}
	return 0;
}

static void bounce_put(struct pst_crypt_pool *p, uint32_t block, uint32_t count)
{
	p->free_map[block / PIECE_BLOCKS] |= run_mask(block % PIECE_BLOCKS, count);
}

/* ---- The cipher ---- */

static bool cipher_unit(EVP_CIPHER_CTX *ctx, uint64_t lba, const void *from, void *to)
{
	uint8_t tweak[TWEAK_BYTES] = { 0 };
	int len;

	for (unsigned i = 0; i < sizeof(lba); i++)
		tweak[i] = (uint8_t)(lba >> (8 * i));
	/* -1: as the context is, which is to encrypt or to decrypt. */
	return EVP_CipherInit_ex2(ctx, NULL, NULL, tweak, -1, NULL) == 1 &&
	       EVP_CipherUpdate(ctx, to, &len, from, (int)PST_BLOCK_BYTES) == 1 && len == (int)PST_BLOCK_BYTES;
}

/* Where block after block of the caller's memory lies. */
struct place {
	const struct iovec *iov;
	size_t offset;
};

static struct place place_of(const struct pst_io *io, uint64_t block)
{
	struct place at = { io->iov, block * PST_BLOCK_BYTES };

	while (at.offset > 0 && at.offset >= at.iov->iov_len)
		at.offset -= (at.iov++)->iov_len;
	return at;
}

/* The next block, if it is in one piece, else NULL; moves on. */
static char *place_next(struct place *at)
{
	char *whole = NULL;
	size_t left = PST_BLOCK_BYTES;

	while (at->iov->iov_len == at->offset) {
		at->iov++;
		at->offset = 0;
	}
	if (at->iov->iov_len - at->offset >= PST_BLOCK_BYTES)
		whole = (char *)at->iov->iov_base + at->offset;
	while (left > 0) {
		size_t take = PST_MIN(at->iov->iov_len - at->offset, left);

		left -= take;
		at->offset += take;
		if (left > 0) {
			at->iov++;
			at->offset = 0;
		}
	}
	return whole;
}

static bool piece_encrypt(struct piece *piece)
{
	struct pst_io *upper = piece->upper;
	struct place at = place_of(upper, piece->at);
	bool ok = true;

	for (uint32_t i = 0; ok && i < piece->count; i++) {
		char *to = (char *)piece->iov.iov_base + (size_t)i * PST_BLOCK_BYTES;
		struct place here = at;
		const char *from = place_next(&at);

		if (from == NULL) {
			pst_iov_copy_from(to, here.iov, here.offset, PST_BLOCK_BYTES);
			from = to;
		}
		ok = cipher_unit(piece->crypt->encrypt, upper->lba + piece->at + i, from, to);
	}
	return ok;
}

static bool piece_decrypt(struct piece *piece)
{
	struct pst_io *upper = piece->upper;
	struct place at = place_of(upper, piece->at);
	bool ok = true;

	for (uint32_t i = 0; ok && i < piece->count; i++) {
		char *from = (char *)piece->iov.iov_base + (size_t)i * PST_BLOCK_BYTES;
		struct place here = at;
		char *whole = place_next(&at), *to = whole != NULL ? whole : from;

		if ((piece->holes >> i & 1) != 0) {
			pst_iov_hole(upper, piece->at + i, 1);
			continue;
		}
		ok = cipher_unit(piece->crypt->decrypt, upper->lba + piece->at + i, from, to);
		if (ok && whole == NULL)
			pst_iov_copy_to(here.iov, here.offset, from, PST_BLOCK_BYTES);
	}
	return ok;
}

/* ---- Requests ---- */

static void pool_run(struct pst_crypt_pool *p);

static void lower_closed(struct pst_volume_close_op *op)
{
	struct crypt *c = pst_container_of(op, struct crypt, lower_close);
	struct pst_volume_close_op *closing = c->closing;

	EVP_CIPHER_CTX_free(c->encrypt); /* both wipe their keys */
	EVP_CIPHER_CTX_free(c->decrypt);
	c->pool->volumes--;
	free(c);
	closing->done(closing);
}

/* What was handed down as it is completes before the lower volume is closed. */
static void close_when_idle(struct crypt *c)
{
	bool begun = c->lower_close.done != NULL;

	if (c->closing == NULL || begun || c->inflight > 0)
		return;
	c->lower_close.done = lower_closed;
	pst_volume_close(c->lower, &c->lower_close);
}

static void work_done(struct pst_io *upper)
{
	struct crypt *c = to_work(upper)->crypt;

	c->inflight--;
	upper->done(upper);
	close_when_idle(c);
}

static void done_run(struct pst_post *post)
{
	struct pst_crypt_pool *p = pst_container_of(post, struct pst_crypt_pool, post);
	struct pst_list done, *node;

	p->posted = false;
	pst_list_init(&done);
	pst_list_splice(&done, &p->done);
	while ((node = pst_list_pop_front(&done)) != NULL)
		work_done(pst_container_of(node, struct pst_io, node));
}

/* On the shard's next turn: this may be inside submit. */
static void work_done_later(struct pst_crypt_pool *p, struct pst_io *upper)
{
	pst_list_push_back(&p->done, &upper->node);
	if (p->posted)
		return;
	p->posted = true;
	pst_env_post(p->env, &p->post);
}

static void piece_put(struct piece *piece)
{
	struct crypt *c = piece->crypt;
	struct pst_crypt_pool *p = c->pool;

	if (piece->upper->kind == PST_IO_WRITE) {
		p->write_blocks -= piece->count;
		p->write_pieces--;
		c->write_blocks -= piece->count;
	}
	bounce_put(p, piece->block, piece->count);
	piece->upper = NULL;
	pst_list_push_front(&p->free_pieces, &piece->node);
}

static void piece_done(struct pst_io *lower)
{
	struct piece *piece = pst_container_of(lower, struct piece, lower);
	struct pst_crypt_pool *p = piece->crypt->pool;
	struct pst_io *upper = piece->upper;
	struct work *work = to_work(upper);
	pst_err err = lower->err;

	if (upper->kind == PST_IO_READ && err == PST_OK && !piece_decrypt(piece))
		err = PST_E_INTERNAL;
	if (upper->kind == PST_IO_READ && err != PST_OK)
		pst_iov_zero(upper->iov, piece->at * PST_BLOCK_BYTES, (uint64_t)piece->count * PST_BLOCK_BYTES);
	upper->device_ns = PST_MAX(upper->device_ns, lower->device_ns);
	if (upper->err == PST_OK)
		upper->err = err;
	piece_put(piece);
	work->pieces--;
	if (work->pieces == 0 && work->next == upper->block_count)
		work_done(upper);
	pool_run(p);
}

/* NULL: there is no room for one now. */
static struct piece *piece_get(struct crypt *c, struct pst_io *upper)
{
	struct pst_crypt_pool *p = c->pool;
	struct work *work = to_work(upper);
	uint32_t count = (uint32_t)PST_MIN(upper->block_count - work->next, PIECE_BLOCKS);
	bool write = upper->kind == PST_IO_WRITE;
	struct pst_list *node;
	struct piece *piece;
	uint32_t block;

	if (write) {
		uint32_t all = p->blocks_max / 4 * 3, own = p->blocks_max / 4;

		if (p->write_pieces >= p->pieces_max - p->pieces_max / 4)
			return NULL;
		count = PST_MIN(count, PST_MIN(all - p->write_blocks, own - c->write_blocks));
	}
	if (pst_list_empty(&p->free_pieces))
		return NULL;
	count = bounce_take(p, count, &block);
	if (count == 0)
		return NULL;
	if (write) {
		p->write_pieces++;
		p->write_blocks += count;
		c->write_blocks += count;
	}
	node = pst_list_pop_front(&p->free_pieces);
	piece = pst_container_of(node, struct piece, node);
	piece->crypt = c;
	piece->upper = upper;
	piece->at = work->next;
	piece->block = block;
	piece->count = count;
	piece->holes = 0;
	piece->iov = (struct iovec){ p->memory + (size_t)block * PST_BLOCK_BYTES, (size_t)count * PST_BLOCK_BYTES };
	return piece;
}

/* The next piece of the first request in @waiting. False: it must wait. */
static bool serve_one(struct crypt *c, struct pst_list *waiting)
{
	struct pst_io *upper = pst_container_of(waiting->next, struct pst_io, node);
	struct work *work = to_work(upper);
	struct piece *piece = NULL;

	/* The pool may have shrunk the lower volume since this was submitted; after an error the rest is not tried. */
	if (upper->err == PST_OK && !pst_range_ok(upper->lba, upper->block_count, c->lower->block_count))
		upper->err = PST_E_RANGE;
	if (upper->err == PST_OK) {
		piece = piece_get(c, upper);
		if (piece == NULL)
			return false;
		work->next += piece->count;
	}
	if (piece != NULL && upper->kind == PST_IO_WRITE && !piece_encrypt(piece)) {
		upper->err = PST_E_INTERNAL;
		piece_put(piece);
		piece = NULL;
	}
	if (upper->err != PST_OK)
		work->next = upper->block_count;
	if (work->next == upper->block_count)
		pst_list_remove(&upper->node);
	if (piece == NULL) {
		if (work->pieces == 0)
			work_done_later(c->pool, upper);
		return true;
	}
	work->pieces++;
	piece->lower = (struct pst_io){
		.kind = upper->kind,
		.flags = upper->flags,
		.lba = upper->lba + piece->at,
		.block_count = piece->count,
		.iov = &piece->iov,
		.iov_count = 1,
		.holes = upper->kind == PST_IO_READ ? &piece->holes : NULL,
		.done = piece_done,
	};
	pst_volume_submit(c->lower, &piece->lower);
	return true;
}

/* Volumes take turns, reads before writes, until nobody gets on. */
static void pool_run(struct pst_crypt_pool *p)
{
	bool more = true;

	while (more) {
		struct pst_list round, *node;

		more = false;
		pst_list_init(&round);
		pst_list_splice(&round, &p->hungry);
		while ((node = pst_list_pop_front(&round)) != NULL) {
			struct crypt *c = pst_container_of(node, struct crypt, hungry_node);

			if (!pst_list_empty(&c->reads) && serve_one(c, &c->reads))
				more = true;
			if (!pst_list_empty(&c->writes) && serve_one(c, &c->writes))
				more = true;
			if (!pst_list_empty(&c->reads) || !pst_list_empty(&c->writes))
				pst_list_push_back(&p->hungry, &c->hungry_node);
		}
	}
}

static void crypt_submit(struct pst_volume *volume, struct pst_io *io)
{
	struct crypt *c = to_crypt(volume);
	struct pst_crypt_pool *p = c->pool;
	bool bounce = io->kind == PST_IO_READ || io->kind == PST_IO_WRITE;

	pst_assert(c->closing == NULL);
	if (!bounce && (io->kind == PST_IO_FLUSH || pst_range_ok(io->lba, io->block_count, c->lower->block_count))) {
		pst_volume_submit(c->lower, io);
		return;
	}
	*to_work(io) = (struct work){ .crypt = c };
	c->inflight++;
	if (!bounce) {
		io->err = PST_E_RANGE; /* the lower volume has shrunk */
		work_done_later(p, io);
		return;
	}
	if (pst_list_empty(&c->reads) && pst_list_empty(&c->writes))
		pst_list_push_back(&p->hungry, &c->hungry_node);
	pst_list_push_back(io->kind == PST_IO_READ ? &c->reads : &c->writes, &io->node);
	pool_run(p);
}

/* What waits for bounce memory does not go on; pieces of it that have been handed down are recalled there. */
static void crypt_recall(struct pst_volume *volume, struct pst_io *io)
{
	struct crypt *c = to_crypt(volume);
	struct pst_crypt_pool *p = c->pool;
	struct work *work = to_work(io);

	if (work->next < io->block_count) {
		work->next = io->block_count;
		if (io->err == PST_OK)
			io->err = PST_E_CANCELLED;
		pst_list_remove(&io->node);
		if (pst_list_empty(&c->reads) && pst_list_empty(&c->writes))
			pst_list_remove(&c->hungry_node);
		if (work->pieces == 0)
			work_done_later(p, io);
	}
	for (uint32_t i = 0; work->pieces > 0 && i < p->pieces_max; i++)
		if (p->pieces[i].upper == io)
			pst_volume_recall(c->lower, &p->pieces[i].lower);
}

static void crypt_stats(struct pst_volume *volume, struct pst_volume_stats *ret_stats)
{
	pst_volume_stats(to_crypt(volume)->lower, ret_stats);
}

static void crypt_close(struct pst_volume *volume, struct pst_volume_close_op *op)
{
	struct crypt *c = to_crypt(volume);

	c->closing = op;
	close_when_idle(c);
}

static void crypt_resized(struct pst_volume *volume)
{
	struct crypt *c = to_crypt(volume);

	pst_volume_resized(c->lower);
	c->volume.block_count = c->lower->block_count;
}

static const struct pst_volume_ops crypt_ops = {
	.name = "crypt",
	.submit = crypt_submit,
	.stats = crypt_stats,
	.close = crypt_close,
	.resized = crypt_resized,
	.recall = crypt_recall,
};

/* ---- Making ---- */

/* NULL on failure. */
static EVP_CIPHER_CTX *context_new(const struct pst_crypt_pool *p, const uint8_t *key, int encrypt)
{
	EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();

	if (ctx != NULL && EVP_CipherInit_ex2(ctx, p->cipher, key, NULL, encrypt, NULL) == 1)
		return ctx;
	EVP_CIPHER_CTX_free(ctx);
	return NULL;
}

pst_err pst_crypt_new(struct pst_crypt_pool *pool, struct pst_volume *lower, const uint8_t *key,
		      struct pst_volume **ret_volume)
{
	struct crypt *c;

	if (CRYPTO_memcmp(key, key + PST_CRYPT_KEY_BYTES / 2, PST_CRYPT_KEY_BYTES / 2) == 0)
		return PST_E_KEY;
	c = calloc(1, sizeof(*c));
	if (c == NULL)
		return PST_E_NOMEM;
	c->volume = *lower;
	c->volume.ops = &crypt_ops;
	c->lower = lower;
	c->pool = pool;
	pst_list_init(&c->reads);
	pst_list_init(&c->writes);
	c->encrypt = context_new(pool, key, 1);
	c->decrypt = context_new(pool, key, 0);
	if (c->encrypt == NULL || c->decrypt == NULL) {
		EVP_CIPHER_CTX_free(c->encrypt);
		EVP_CIPHER_CTX_free(c->decrypt);
		free(c);
		return PST_E_NOMEM;
	}
	pool->volumes++;
	*ret_volume = &c->volume;
	return PST_OK;
}

pst_err pst_crypt_pool_new(struct pst_env *env, const struct pst_crypt_pool_config *config,
			   struct pst_crypt_pool **ret_pool)
{
	size_t bytes = config->bounce_bytes != 0 ? config->bounce_bytes : BOUNCE_BYTES_DEFAULT;
	struct pst_crypt_pool *p = calloc(1, sizeof(*p));

	if (p == NULL)
		return PST_E_NOMEM;
	p->env = env;
	p->words = (uint32_t)pst_div_round_up(bytes, PIECE_BLOCKS * PST_BLOCK_BYTES);
	p->blocks_max = p->words * PIECE_BLOCKS;
	p->pieces_max = config->pieces != 0 ? PST_MAX(config->pieces, 2u) : PIECES_DEFAULT;
	p->post.fn = done_run;
	pst_list_init(&p->free_pieces);
	pst_list_init(&p->hungry);
	pst_list_init(&p->done);
	p->memory = aligned_alloc(PST_BLOCK_BYTES, (size_t)p->blocks_max * PST_BLOCK_BYTES);
	p->free_map = malloc(p->words * sizeof(p->free_map[0]));
	p->pieces = calloc(p->pieces_max, sizeof(p->pieces[0]));
	p->cipher = EVP_CIPHER_fetch(NULL, CIPHER, NULL);
	if (p->memory == NULL || p->free_map == NULL || p->pieces == NULL || p->cipher == NULL) {
		pst_err err = p->cipher == NULL ? PST_E_UNSUPPORTED : PST_E_NOMEM;

		pst_crypt_pool_free(p);
		return err;
	}
	memset(p->free_map, 0xff, p->words * sizeof(p->free_map[0]));
	for (uint32_t i = 0; i < p->pieces_max; i++)
		pst_list_push_back(&p->free_pieces, &p->pieces[i].node);
	*ret_pool = p;
	return PST_OK;
}

void pst_crypt_pool_free(struct pst_crypt_pool *pool)
{
	if (pool == NULL)
		return;
	pst_assert(pool->volumes == 0 && !pool->posted);
	EVP_CIPHER_free(pool->cipher);
	free(pool->pieces);
	free(pool->free_map);
	if (pool->memory != NULL)
		OPENSSL_cleanse(pool->memory, (size_t)pool->touched * PST_BLOCK_BYTES);
	free(pool->memory);
	free(pool);
}

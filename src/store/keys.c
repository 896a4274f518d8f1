/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A slot is two blocks, overwritten in place one after the other with a flush between, so that one is whole at every
 * instant. Each says which block it is, of which pool, with a generation; the higher generation of the intact ones
 * counts. A block whose value has no length says that the key was erased.
 *
 *   put    read both -> write the one that does not count -> flush -> write the other -> flush
 *          first one of a family: into two new blocks, and then the version's record with their number is logged
 *   get    read both; if an erasure was interrupted, end it
 *   erase  read both -> overwrite one -> flush -> overwrite the other -> flush
 *
 * Crashes. During the first put: the record is not there, so the blocks are free; what lies in them unlocks nothing.
 * During a later put: the old value or the new one. During an erasure: the value is gone, or the erasure, which was not
 * confirmed, has not begun. Deletion of a family: the slot is wiped after the last member is marked as deleted and
 * before its space comes back; it is freed by the record that ends the last member (ghosts of deleted snapshots count),
 * so that a crash in between wipes it once more at the next open.
 *
 *   scrub  read both -> if they differ or one is damaged: what counts is put, or erased, once more
 *
 * One job at a time; others wait in order.
 */
#include "store/keys.h"

#include "base/crc32c.h"

#include <stdlib.h>
#include <string.h>

#define RUN_TRIES 64u

enum keys_state { KEYS_IDLE, KEYS_READ, KEYS_WRITE, KEYS_FLUSH };

struct keys {
	struct store *st;
	struct pst_list queue; /* key_job; the first is at work */
	enum keys_state state;
	unsigned copy, round;       /* which block; write: the first or the second of both */
	struct pst_key_disk *pages; /* both, as read; then [0] is what is written */
	bool whole[2];
	pst_err read_err;
	uint64_t generation; /* of what is written */
	struct pst_file_op op;
	struct iovec iov;
	struct waiter flushed;

	/* Of the operation on the pool. */
	struct key_job job;
	bool begun;
	uint32_t fresh_block; /* 0: none */
};

static struct key_job *current(struct keys *k)
{
	return pst_container_of(k->queue.next, struct key_job, node);
}

/* ---- Blocks ---- */

static uint32_t key_crc(const struct pst_key_disk *key)
{
	struct pst_key_disk head = { .magic = key->magic };
	size_t rest = offsetof(struct pst_key_disk, pool_uuid);

	return pst_crc32c_more(pst_crc32c(&head, rest), key->pool_uuid, PST_BLOCK_BYTES - rest);
}

static bool is_whole(const struct keys *k, const struct pst_key_disk *key, uint32_t block)
{
	return key->magic == PST_KEY_MAGIC && memcmp(key->pool_uuid, k->st->pool.uuid, 16) == 0 &&
	       key->block == block && key->value_bytes <= PST_POOL_KEY_BYTES_MAX && key->crc == key_crc(key);
}

static void key_fill(struct keys *k, uint32_t block)
{
	const struct key_job *job = current(k);
	struct pst_key_disk *key = &k->pages[0];

	memset(key, 0, sizeof(*key));
	key->magic = PST_KEY_MAGIC;
	memcpy(key->pool_uuid, k->st->pool.uuid, 16);
	key->block = block;
	key->generation = k->generation;
	if (job->kind == KEY_JOB_PUT) {
		key->value_bytes = job->value_bytes;
		memcpy(key->value, job->value, job->value_bytes);
	}
	key->crc = key_crc(key);
}

/* ---- One job ---- */

static void run(struct keys *k);

static void job_end(struct keys *k, pst_err err)
{
	struct key_job *job = current(k);

	pst_list_remove(&job->node);
	k->state = KEYS_IDLE;
	memset(k->pages, 0, 2 * sizeof(k->pages[0]));
	job->done->err = err;
	store_wake(k->st, job->done);
	if (!pst_list_empty(&k->queue))
		run(k);
}

static void io_done(struct pst_file_op *op);

static void block_start(struct keys *k, enum pst_file_kind kind, struct pst_key_disk *page)
{
	k->iov = (struct iovec){ page, PST_BLOCK_BYTES };
	k->op = (struct pst_file_op){
		.kind = kind, .iov = &k->iov, .iov_count = 1, .len_bytes = PST_BLOCK_BYTES, .done = io_done
	};
	part_submit(&k->st->parts[0], &k->op, (uint64_t)current(k)->block + k->copy);
}

static void write_copy(struct keys *k)
{
	k->state = KEYS_WRITE;
	key_fill(k, current(k)->block + k->copy);
	block_start(k, PST_FILE_WRITE, &k->pages[0]);
}

/* Which copy counts; -1: neither is whole. */
static int which_counts(const struct keys *k)
{
	if (k->whole[0] && k->whole[1])
		return k->pages[1].generation > k->pages[0].generation;
	return k->whole[0] ? 0 : k->whole[1] ? 1 : -1;
}

static void got(struct keys *k, const struct pst_key_disk *key)
{
	struct key_job *job = current(k);

	job->value_bytes = key->value_bytes;
	memcpy(job->out, key->value, key->value_bytes);
	job_end(k, PST_OK);
}

static bool slot_exists(struct store *st, uint32_t block)
{
	PST_LIST_EACH(l, &st->volumes)
		if (pst_container_of(l, struct svol, node)->disk.key_block == block)
			return true;
	return false;
}

/* The job becomes one that brings both blocks to what this one says. */
static void mend(struct key_job *job, const struct pst_key_disk *key)
{
	job->mended = true;
	job->kind = key->value_bytes > 0 ? KEY_JOB_PUT : KEY_JOB_ERASE;
	job->value_bytes = key->value_bytes;
	memcpy(job->out, key->value, key->value_bytes);
	job->value = job->out;
}

/* Both blocks are read. */
static void decide(struct keys *k)
{
	struct key_job *job = current(k);
	int counts = which_counts(k);
	bool erased = counts >= 0 && k->pages[counts].value_bytes == 0;
	bool other = counts >= 0 && k->whole[1 - counts] && k->pages[1 - counts].value_bytes != 0;

	k->generation = counts >= 0 ? k->pages[counts].generation + 1 : 1;
	if (job->kind == KEY_JOB_GET) {
		if (counts < 0)
			return job_end(k, k->read_err != PST_OK ? k->read_err : PST_E_CHECKSUM);
		if (!erased)
			return got(k, &k->pages[counts]);
		if (!other)
			return job_end(k, PST_E_NOTFOUND);
		job->kind = KEY_JOB_ERASE; /* that was interrupted */
		job->erase_found = true;
	}
	if (job->kind == KEY_JOB_SCRUB) {
		if (!slot_exists(k->st, job->block))
			return job_end(k, PST_OK);
		if (counts < 0)
			return job_end(k, k->read_err != PST_OK ? k->read_err : PST_E_CHECKSUM);
		if (k->whole[1 - counts] && k->pages[0].generation == k->pages[1].generation)
			return job_end(k, PST_OK);
		mend(job, &k->pages[counts]);
	}
	k->round = 0;
	/* What counts is overwritten last, but first when it must not count any more. */
	k->copy = counts < 0 ? 0 : (unsigned)(job->kind == KEY_JOB_PUT ? 1 - counts : counts);
	write_copy(k);
}

static void flush_done(struct waiter *w)
{
	struct keys *k = pst_container_of(w, struct keys, flushed);
	pst_err err = w->err;

	w->err = PST_OK;
	if (err != PST_OK)
		return job_end(k, err);
	if (++k->round == 2)
		return job_end(k, current(k)->erase_found ? PST_E_NOTFOUND : PST_OK);
	k->copy = 1 - k->copy;
	write_copy(k);
}

static void io_done(struct pst_file_op *op)
{
	struct keys *k = pst_container_of(op, struct keys, op);

	k->st->outstanding--;
	if (k->state == KEYS_WRITE) {
		if (op->err != PST_OK)
			return job_end(k, op->err); /* the other copy still stands */
		k->state = KEYS_FLUSH;
		k->flushed.run = flush_done;
		commit_wait(k->st, &k->flushed);
		return;
	}
	k->whole[k->copy] = op->err == PST_OK && is_whole(k, &k->pages[k->copy], current(k)->block + k->copy);
	if (op->err != PST_OK)
		k->read_err = op->err;
	if (k->copy == 1)
		return decide(k);
	k->copy = 1;
	block_start(k, PST_FILE_READ, &k->pages[1]);
}

static void run(struct keys *k)
{
	k->state = KEYS_READ;
	k->copy = 0;
	k->read_err = PST_OK;
	current(k)->erase_found = false;
	block_start(k, PST_FILE_READ, &k->pages[0]);
}

static struct keys *keys_get(struct store *st)
{
	struct keys *k = st->keys;

	if (k != NULL)
		return k;
	k = calloc(1, sizeof(*k));
	if (k == NULL)
		return NULL;
	k->st = st;
	k->pages = aligned_alloc(PST_BLOCK_BYTES, 2 * sizeof(k->pages[0]));
	pst_list_init(&k->queue);
	pst_list_init(&k->flushed.node);
	if (k->pages == NULL) {
		free(k);
		return NULL;
	}
	st->keys = k;
	return k;
}

void keys_free(struct store *st)
{
	if (st->keys != NULL)
		free(st->keys->pages);
	free(st->keys);
	st->keys = NULL;
}

static void job_start(struct keys *k, struct key_job *job)
{
	bool first = pst_list_empty(&k->queue);

	pst_list_push_back(&k->queue, &job->node);
	if (first)
		run(k);
}

pst_err keys_scrub(struct store *st, uint32_t block, struct key_job *job, uint8_t *buf, struct waiter *done)
{
	struct keys *k = keys_get(st);

	if (k == NULL)
		return PST_E_NOMEM;
	*job = (struct key_job){ .kind = KEY_JOB_SCRUB, .block = block, .out = buf, .done = done };
	job_start(k, job);
	return PST_OK;
}

/* ---- Operations on the pool ---- */

pst_err keys_op_begin(struct store *st, const struct pst_pool_op *op)
{
	struct control *c = &st->control;
	struct keys *k = keys_get(st);

	if (k == NULL)
		return PST_E_NOMEM;
	k->begun = false;
	k->fresh_block = 0;
	c->vol = svol_find(st, op->uuid);
	if (c->vol == NULL)
		return PST_E_NOTFOUND;
	if (st->failed != PST_OK && op->kind != PST_POOL_KEY_GET)
		return PST_E_IO;
	if (c->vol->disk.key_block != 0)
		return PST_OK;
	if (op->kind != PST_POOL_KEY_PUT)
		return PST_E_NOTFOUND;
	if (c->vol->open || c->vol->logged_busy)
		return PST_E_BUSY;
	/* All members name the slot, so it has to be there before there is a second one. */
	PST_LIST_EACH(l, &st->volumes)
		if (pst_container_of(l, struct svol, node)->disk.parent == c->vol->disk.slot ||
		    c->vol->disk.parent != 0)
			return PST_E_BUSY;
	return PST_OK;
}

/* Two blocks in a row; fragments that are in the way are given back. */
static uint32_t pair_take(struct part *p)
{
	uint32_t tries[RUN_TRIES], count = 0, got_block = 0, block;

	while (got_block == 0 && count < RUN_TRIES) {
		uint32_t n = pst_alloc_take(&p->alloc, 2, &block);

		if (n == 2)
			got_block = block;
		else if (n == 1)
			tries[count++] = block;
		else
			break;
	}
	while (count > 0)
		pst_alloc_release(&p->alloc, tries[--count], 1);
	return got_block;
}

static pst_err op_start(struct store *st, const struct pst_pool_op *op)
{
	struct control *c = &st->control;
	struct part *p = &st->parts[0];
	struct keys *k = st->keys;
	uint32_t block = c->vol->disk.key_block;

	if (block == 0) {
		if (p->alloc.free_count < space_last(p) + 4) {
			pst_err err = part_space_wait(p, &c->wait, &c->space_checkpoint);

			return err == PST_OK ? PST_E_AGAIN : err;
		}
		block = k->fresh_block = pair_take(p);
		if (block == 0)
			return PST_E_NOSPACE;
	}
	k->job = (struct key_job){ .block = block,
				   .value = op->value,
				   .value_bytes = op->value_bytes,
				   .out = op->key_bytes,
				   .done = &c->wait };
	k->job.kind = op->kind == PST_POOL_KEY_PUT   ? KEY_JOB_PUT
		      : op->kind == PST_POOL_KEY_GET ? KEY_JOB_GET
						     : KEY_JOB_ERASE;
	k->begun = true;
	job_start(k, &k->job);
	return PST_E_AGAIN;
}

pst_err keys_op_gather(struct store *st, struct pst_pool_op *op, struct pst_version_disk *disk, bool *ret_log)
{
	struct control *c = &st->control;
	struct keys *k = st->keys;
	pst_err err = c->wait.err;

	if (!k->begun)
		return op_start(st, op);
	c->wait.err = PST_OK;
	if (err != PST_OK)
		return err;
	if (op->kind == PST_POOL_KEY_GET)
		op->value_bytes = k->job.value_bytes;
	*ret_log = k->fresh_block != 0;
	if (*ret_log)
		disk->key_block = k->fresh_block;
	return PST_OK;
}

void keys_op_failed(struct store *st)
{
	struct keys *k = st->keys;

	if (k != NULL && k->fresh_block != 0)
		pst_alloc_release(&st->parts[0].alloc, k->fresh_block, 2);
	if (k != NULL)
		k->fresh_block = 0;
}

/* ---- The space map, and the end of a family ---- */

/* Does a version name this slot? @wanted: one that is not deleted. @but: not this one. */
static bool is_named(const struct store *st, uint32_t key_block, bool wanted, const struct svol *but)
{
	PST_LIST_EACH(l, &st->volumes) {
		const struct svol *v = pst_container_of(l, struct svol, node);

		if (v != but && v->disk.key_block == key_block &&
		    (!wanted || (v->disk.flags & PST_VOLUME_DELETING) == 0))
			return true;
	}
	return false;
}

pst_err keys_follow(struct store *st, uint32_t old_block, uint32_t new_block)
{
	struct pst_alloc *a = &st->parts[0].alloc;

	if (new_block == old_block || new_block == 0)
		return new_block == old_block ? PST_OK : PST_E_FORMAT; /* a slot stays as long as the family does */
	if (!pst_alloc_valid(a, new_block, 2))
		return PST_E_FORMAT;
	/* Entered by the record of the first member that names it; the space map read from disk may have it already. */
	for (uint32_t i = 0; i < 2; i++)
		if (!pst_alloc_is_used(a, new_block + i))
			pst_assert(pst_alloc_use(a, new_block + i));
	return PST_OK;
}

void keys_version_ended(struct store *st, uint32_t key_block, uint64_t seq)
{
	struct part *p = &st->parts[0];

	if (key_block == 0 || is_named(st, key_block, false, NULL))
		return;
	for (uint32_t i = 0; i < 2; i++)
		if (pst_alloc_unuse(&p->alloc, key_block + i))
			freed_push(&p->freed, seq, st->next_read_id, key_block + i, 1);
}

bool keys_wipe_last(struct svol *v, struct waiter *done)
{
	struct store *st = v->store;
	struct keys *k;

	if (v->disk.key_block == 0 || is_named(st, v->disk.key_block, true, v))
		return false;
	k = keys_get(st);
	if (k == NULL) {
		done->err = PST_E_NOMEM;
		store_wake(st, done);
		return true;
	}
	v->key_job = (struct key_job){ .kind = KEY_JOB_ERASE, .block = v->disk.key_block, .done = done };
	job_start(k, &v->key_job);
	return true;
}

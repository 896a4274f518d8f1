/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One committer for the pool: all who wait for durability share device flushes. A flush covers what had completed when
 * it was submitted; who comes while one is under way waits for the next. What it proves: all log blocks that were
 * completed at submission, in every partition, are durable with their data. A flush goes to all devices of the pool at
 * once (data lies on all of them) and has failed when one of them fails.
 *
 * Blocks freed by a record wait in part.freed, in log order, until that record is durable and every read that began
 * before it was applied has ended. Nodes and the catalog's old blocks wait in part.node_freed for the next root.
 *
 * Many devices stand still while they write down what a flush covers: the more, the longer. So the pool also flushes
 * before anybody asks, little by little, as long as that costs a small part of the time (trickle). Then those who ask
 * wait for little, and nobody meets a long stop. Writes that come too fast for that wait for the limit instead
 * (unflushed_bytes_max), since flushing all the time would cost them half their rate.
 *
 * A failed flush means that nobody knows what is on the disk: the kernel may have dropped what it covered, and later
 * flushes succeed. The pool stops writing (store_fail), and the superblock says that the next open must not trust what
 * was written but not flushed, as after a machine crash (sb_distrust).
 */
#include "store/check-online.h"

#include <stdlib.h>
#include <string.h>

#define FREED_MANY 131072u /* in all partitions together */
#define TRICKLE_BYTES_MIN ((uint64_t)1 << 20)
#define TRICKLE_PART 5u /* of the time: a fifth */

void commit_wait(struct store *st, struct waiter *w)
{
	pst_list_push_back(&st->flush_next, &w->node);
	store_schedule(st);
}

void freed_push(struct freed_list *f, uint64_t seq, uint64_t read_id, uint32_t block, uint32_t count)
{
	struct freed *last = f->count > f->head ? &f->items[f->count - 1] : NULL;

	if (last != NULL && last->seq == seq && last->read_id == read_id && last->block + last->count == block) {
		last->count += count;
		return;
	}
	if (f->count == f->capacity && f->head > 0) {
		memmove(f->items, f->items + f->head, (f->count - f->head) * sizeof(f->items[0]));
		f->count -= f->head;
		f->head = 0;
	}
	if (f->count == f->capacity) {
		size_t capacity = f->capacity > 0 ? f->capacity * 2 : 1024;
		struct freed *items = realloc(f->items, capacity * sizeof(*items));

		if (items == NULL)
			return; /* these blocks stay busy until the pool is opened again; nothing else is lost */
		f->items = items;
		f->capacity = capacity;
	}
	f->items[f->count++] = (struct freed){ seq, read_id, block, count };
}

uint64_t oldest_read(const struct store *st)
{
	if (pst_list_empty(&st->reads))
		return st->next_read_id;
	return pst_container_of(st->reads.next, struct reading, node)->id;
}

void reading_begin(struct store *st, struct reading *r)
{
	r->id = st->next_read_id++;
	pst_list_push_back(&st->reads, &r->node);
}

void reading_end(struct reading *r)
{
	pst_list_remove(&r->node);
}

/* Blocks that are neither free nor in use: what was freed waits, beside a little that is being written. */
static uint32_t waiting(const struct part *p)
{
	return p->alloc.data_blocks - p->alloc.used_count - p->alloc.free_count;
}

void freed_release(struct part *p)
{
	struct freed_list *f = &p->freed;
	uint64_t oldest = oldest_read(p->store);

	if (p->store->recovering)
		return; /* recovery has rules of its own */
	while (f->head < f->count) {
		struct freed *item = &f->items[f->head];

		if (item->seq > p->durable_seq || item->read_id > oldest)
			break;
		online_release(p, item->block, item->count);
		f->head++;
		p->space_wake = true;
	}
	if (f->head == f->count)
		f->head = f->count = 0;
	if (f->count > f->head && f->items[f->head].seq > p->durable_seq &&
	    (p->store->freed_items > FREED_MANY || waiting(p) > p->alloc.free_count))
		p->store->flush_wanted = true;
}

void part_free_data(struct part *p, uint64_t seq, uint32_t block)
{
	if (PST_MUTANT == PST_MUTANT_REUSE_EARLY && !p->store->recovering) {
		pst_alloc_release(&p->alloc, block, 1);
		return;
	}
	freed_push(&p->freed, seq, p->store->next_read_id, block, 1);
}

/* A node (or catalog block) that the map no longer reaches, but the root on disk may. */
void part_free_node(struct part *p, uint32_t block)
{
	if (pst_alloc_unuse(&p->alloc, block))
		freed_push(&p->node_freed, p->cp.freezes, 0, block, 1);
}

/* The result of the flush is on record: tell it. */
void commit_flushed(struct store *st)
{
	pst_err err = st->flush_err;

	st->flushing = false;
	for (uint32_t i = 0; i < st->part_count; i++) {
		struct part *p = &st->parts[i];

		if (err == PST_OK)
			p->durable_seq = PST_MAX(p->durable_seq, p->flushing_seq);
		p->space_wake = true;
	}
	PST_LIST_EACH(l, &st->flush_now)
		pst_container_of(l, struct waiter, node)->err = err;
	store_wake_all(st, &st->flush_now);
	store_schedule(st);
}

/* Would a flush now take no more than its part of the time since the last one? */
static bool trickle(const struct store *st, uint64_t bytes)
{
	const struct flush_cost *c = &st->flush_cost;
	double expected_ns = (double)c->base_ns + c->ns_per_byte * (double)bytes;

	return bytes >= TRICKLE_BYTES_MIN &&
	       (double)(pst_env_now_ns(st->pool.env) - c->end_ns) >= expected_ns * (TRICKLE_PART - 1);
}

/* What a flush costs: the least that one took lately, and for each byte what it took beyond that. */
static void flush_learn(struct store *st)
{
	struct flush_cost *c = &st->flush_cost;
	uint64_t took_ns;

	c->end_ns = pst_env_now_ns(st->pool.env);
	took_ns = c->end_ns - c->begun_ns;
	c->base_ns = c->base_ns == 0 ? took_ns : PST_MIN(took_ns, c->base_ns + c->base_ns / 16);
	if (c->bytes >= TRICKLE_BYTES_MIN)
		c->ns_per_byte += ((double)(took_ns - c->base_ns) / (double)c->bytes - c->ns_per_byte) / 4;
}

static void flush_done(struct pst_file_op *op)
{
	struct store *st = pst_container_of(op, struct device, flush_op)->st;

	st->outstanding--;
	if (st->flush_err == PST_OK)
		st->flush_err = op->err;
	if (--st->flushes_busy > 0)
		return;
	flush_learn(st);
	if (st->flush_err != PST_OK) {
		store_fail(st, st->flush_err, "flush_failed");
		if (sb_distrust(st))
			return; /* commit_flushed follows */
	}
	commit_flushed(st);
}

void commit_run(struct store *st)
{
	uint64_t bytes = st->unflushed_blocks * PST_BLOCK_BYTES;

	st->freed_items = 0;
	for (uint32_t i = 0; i < st->part_count; i++)
		st->freed_items += st->parts[i].freed.count - st->parts[i].freed.head;
	if (st->flushing)
		return;
	if (bytes > st->unflushed_bytes_max || trickle(st, bytes))
		st->flush_wanted = true;
	if (pst_list_empty(&st->flush_next) && !st->flush_wanted)
		return;
	st->flush_wanted = false;
	st->unflushed_blocks = 0;
	pst_list_splice(&st->flush_now, &st->flush_next);
	if (st->failed != PST_OK) {
		PST_LIST_EACH(l, &st->flush_now)
			pst_container_of(l, struct waiter, node)->err = PST_E_IO;
		store_wake_all(st, &st->flush_now);
		return;
	}
	for (uint32_t i = 0; i < st->part_count; i++)
		st->parts[i].flushing_seq = journal_completed(&st->parts[i]);
	st->flushing = true;
	st->flush_cost.begun_ns = pst_env_now_ns(st->pool.env);
	st->flush_cost.bytes = bytes;
	st->flush_err = PST_OK;
	st->flushes_busy = st->device_count;
	st->stats.device_flushes++;
	for (uint32_t i = 0; i < st->device_count; i++) {
		struct pst_file_op *op = &st->devices[i].flush_op;

		*op = (struct pst_file_op){ .kind = PST_FILE_FLUSH, .done = flush_done };
		if (PST_MUTANT == PST_MUTANT_FLUSH_NOTHING)
			op->kind = PST_FILE_DISCARD;
		device_submit(&st->devices[i], op);
	}
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The checker (check.h) is synchronous; an open pool never waits. So it runs in a fiber, which gives the shard back at
 * each read. What it looks at must not change meanwhile:
 *
 *   PIN    no other operation on the pool, no merging -> from now on no block is free again -> a checkpoint of each
 *          partition, and none after it
 *   KEEP   the roots and space map pages of all partitions are read into memory
 *   LOOK   everything goes on; the check follows the kept roots, whose blocks stay as they are
 *
 * Only the state of the roots is checked: what came later is in the log, and was written by this very process.
 *
 * Bounds: one check at a time; memory for roots and pages (1/16384 of the pool), PIN_HELD_MAX runs of blocks for each
 * partition. When the pool is short of space, or more than that would be held back, the check ends with PST_E_AGAIN.
 */
#include "store/check-online.h"

#include "env/fiber.h"
#include "store/check.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define STACK_BYTES ((size_t)512 << 10)
#define PIN_HELD_MAX 262144u

struct kept {
	uint64_t block; /* of the device */
	uint32_t device;
	uint8_t *page;
};

struct online {
	struct store *st;
	struct pst_pool_op *op;
	struct waiter wait;
	uint32_t part_index;
	uint64_t generation; /* of the partition at part_index, before its checkpoint */
	bool pinned, detached, short_of_space;
	struct pst_fiber *fiber;
	struct pst_file_op file_op;
	struct iovec iov;
	uint8_t *page;
	uint8_t *kept_pages;
	struct kept *kept; /* by device and block */
	size_t kept_count;
	pst_err err;
};

/* ---- Blocks that wait ---- */

static void release_held(struct part *p)
{
	struct freed_list *f = &p->held;

	p->pinned = p->cp_hold = false;
	for (size_t i = f->head; i < f->count; i++)
		pst_alloc_release(&p->alloc, f->items[i].block, f->items[i].count);
	free(f->items);
	*f = (struct freed_list){ 0 };
	p->space_wake = true;
}

static void unpin(struct store *st)
{
	for (uint32_t i = 0; i < st->part_count; i++)
		release_held(&st->parts[i]);
	store_schedule(st);
}

void online_need_space(struct store *st)
{
	struct online *o = st->online;

	if (o == NULL || o->short_of_space || !o->pinned)
		return;
	o->short_of_space = true;
	o->op->check->stop = true;
	unpin(st);
}

void online_release(struct part *p, uint32_t block, uint32_t count)
{
	if (p->pinned && p->held.count >= PIN_HELD_MAX)
		online_need_space(p->store);
	if (p->pinned)
		freed_push(&p->held, 0, 0, block, count);
	else
		pst_alloc_release(&p->alloc, block, count);
}

void online_stop(struct store *st)
{
	if (st->online != NULL)
		st->online->op->check->stop = true;
}

/* ---- Reading, inside the fiber ---- */

static void read_done(struct pst_file_op *op)
{
	struct online *o = pst_container_of(op, struct online, file_op);

	o->st->outstanding--;
	store_wake(o->st, &o->wait);
}

static pst_err device_read(struct online *o, uint32_t device, uint64_t block, void *buf)
{
	if (device >= o->st->device_count)
		return PST_E_RANGE;
	o->iov = (struct iovec){ o->page, PST_BLOCK_BYTES };
	o->file_op = (struct pst_file_op){ .kind = PST_FILE_READ,
					   .iov = &o->iov,
					   .iov_count = 1,
					   .offset_bytes = block * PST_BLOCK_BYTES,
					   .len_bytes = PST_BLOCK_BYTES,
					   .done = read_done };
	device_submit(&o->st->devices[device], &o->file_op);
	pst_fiber_yield(o->fiber);
	if (o->file_op.err == PST_OK)
		memcpy(buf, o->page, PST_BLOCK_BYTES);
	return o->file_op.err;
}

static int by_block(const void *a, const void *b)
{
	const struct kept *x = a, *y = b;

	if (x->device != y->device)
		return x->device < y->device ? -1 : 1;
	return x->block < y->block ? -1 : x->block > y->block;
}

static pst_err look_read(void *ctx, uint32_t device, uint64_t block, void *buf)
{
	struct online *o = ctx;
	struct kept key = { .device = device, .block = block }, *found;

	found = bsearch(&key, o->kept, o->kept_count, sizeof(key), by_block);
	if (found == NULL)
		return device_read(o, device, block, buf);
	if (found->page == NULL)
		return PST_E_IO;
	memcpy(buf, found->page, PST_BLOCK_BYTES);
	return PST_OK;
}

/* ---- Keep ---- */

static uint64_t device_block(const struct part *p, uint64_t block, uint32_t *ret_device)
{
	*ret_device = 0;
	for (uint32_t i = p->segment_count; i > 0 && block >= p->geo.blocks; i--) {
		const struct segment *s = &p->segments[i - 1];

		if (block < s->at.first)
			continue;
		*ret_device = s->device;
		return s->at.start + (block - s->at.first);
	}
	return p->geo.start + block;
}

static void keep_one(struct online *o, const struct part *p, uint64_t block)
{
	struct kept *k = &o->kept[o->kept_count];

	k->block = device_block(p, block, &k->device);
	k->page = o->kept_pages + o->kept_count * PST_BLOCK_BYTES;
	if (device_read(o, k->device, k->block, k->page) != PST_OK)
		k->page = NULL;
	o->kept_count++;
}

static pst_err keep(struct online *o)
{
	struct store *st = o->st;
	size_t count = 0;

	for (uint32_t i = 0; i < st->part_count; i++)
		count += PST_ROOT_SLOTS + 2 * (size_t)st->parts[i].alloc.pages;
	o->kept = calloc(count, sizeof(o->kept[0]));
	o->kept_pages = malloc(count * PST_BLOCK_BYTES);
	if (o->kept == NULL || o->kept_pages == NULL)
		return PST_E_NOMEM;
	for (uint32_t i = 0; i < st->part_count; i++) {
		const struct part *p = &st->parts[i];

		for (uint32_t b = 0; b < PST_ROOT_SLOTS; b++)
			keep_one(o, p, b);
		for (uint32_t page = 0; page < p->alloc.pages; page++)
			for (uint32_t copy = 0; copy < 2; copy++)
				keep_one(o, p, part_space_page(p, page, copy));
	}
	qsort(o->kept, o->kept_count, sizeof(o->kept[0]), by_block);
	return PST_OK;
}

/* ---- Look ---- */

/* Others may go on. */
static void detach(struct online *o)
{
	struct store *st = o->st;

	if (o->detached)
		return;
	o->detached = true;
	for (uint32_t i = 0; i < st->part_count; i++)
		st->parts[i].cp_hold = false;
	st->merging.holds--;
	control_detach(st);
	merge_kick(st);
}

static void look(void *ctx)
{
	struct online *o = ctx;
	struct pst_check_io io = { .ctx = o, .devices = o->st->device_count, .read = look_read, .live = true };

	io.blocks = o->st->devices[0].info.size_bytes / PST_BLOCK_BYTES;
	o->err = keep(o);
	detach(o);
	if (o->err == PST_OK)
		o->err = pst_check_pool(&io, o->op->check, o->op->detail);
}

static void end(struct online *o)
{
	struct store *st = o->st;
	struct pst_pool_op *op = o->op;

	detach(o);
	unpin(st);
	op->err = o->err;
	if (o->short_of_space) {
		op->err = PST_E_AGAIN;
		snprintf(op->detail, sizeof(op->detail),
			 "the pool needed the space that the check kept; check again when "
			 "less is written, or add space");
	}
	st->online = NULL;
	pst_fiber_free(o->fiber);
	free(o->kept);
	free(o->kept_pages);
	free(o->page);
	free(o);
	control_done(st, op);
}

static void resume(struct waiter *w)
{
	struct online *o = pst_container_of(w, struct online, wait);

	w->err = PST_OK;
	if (pst_fiber_resume(o->fiber))
		end(o);
}

/* ---- Pin ---- */

/* A checkpoint that began after the pin; then the next partition. */
static void pin(struct waiter *w)
{
	struct online *o = pst_container_of(w, struct online, wait);
	struct store *st = o->st;

	if (w->err != PST_OK || st->failed != PST_OK) {
		o->err = w->err != PST_OK ? w->err : PST_E_IO;
		end(o);
		return;
	}
	if (!o->pinned && !merge_hold(st, w))
		return;
	for (uint32_t i = 0; i < st->part_count && !o->pinned; i++)
		st->parts[i].pinned = true;
	o->pinned = true;
	for (; o->part_index < st->part_count; o->part_index++) {
		struct part *p = &st->parts[o->part_index];

		if (o->generation == 0)
			o->generation = p->generation;
		if (p->generation == o->generation || p->cp.state != CP_IDLE) {
			p->cp_hold = false;
			checkpoint_want(p, w);
			return;
		}
		p->cp_hold = true;
		o->generation = 0;
	}
	o->fiber = pst_fiber_new(STACK_BYTES, look, o);
	if (o->fiber == NULL) {
		o->err = PST_E_NOMEM;
		end(o);
		return;
	}
	w->run = resume;
	resume(w);
}

pst_err online_begin(struct store *st, struct pst_pool_op *op)
{
	struct online *o;

	if (st->online != NULL)
		return PST_E_BUSY;
	if (op->check->repair) {
		snprintf(op->detail, sizeof(op->detail), "a pool that is open is not repaired: stop its daemon first");
		return PST_E_UNSUPPORTED;
	}
	o = calloc(1, sizeof(*o));
	if (o == NULL)
		return PST_E_NOMEM;
	o->page = aligned_alloc(PST_BLOCK_BYTES, PST_BLOCK_BYTES);
	if (o->page == NULL) {
		free(o);
		return PST_E_NOMEM;
	}
	o->st = st;
	o->op = op;
	o->wait.run = pin;
	pst_list_init(&o->wait.node);
	st->online = o;
	st->merging.holds++;
	store_wake(st, &o->wait);
	return PST_E_AGAIN;
}

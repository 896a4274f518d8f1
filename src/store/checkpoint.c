/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A checkpoint brings the map and the space map of one partition to disk as they are at one point of the log, and moves
 * the log's tail there.
 *
 *   IDLE -> QUIESCE: no new records; those under way are applied
 *        -> freeze (at once, in memory): every dirty node gets a new block, its parent the address and CRC; dirty space
 *           map pages are copied; the root is made. From here on records go on; changing a frozen node takes a new page
 *        -> WRITE: nodes, catalog, pages (each over the copy that is not current) -> FLUSH -> ROOT, both copies ->
 *           ROOT_FLUSH -> IDLE: old nodes and the log before the freeze are free
 *
 * A few partitions at a time are in QUIESCE, and one is frozen in a turn, so that neither writers wait for all
 * partitions at once, nor reads for the freezing of more than one.
 *
 * Failed writes are tried again with the same content for as long as it takes; meanwhile those who wait for the log or
 * for space get the error (cp.err). Nothing is undone: the old root stays valid until the new one is durable.
 */
#include "store/check-online.h"
#include "store/space.h"

#include "base/crc32c.h"

#include <stdlib.h>
#include <string.h>

#define TRIES_MAX 5u
#define FREEZE_NODES_WANTED 2048u /* what is frozen at once stops everything for some milliseconds */
#define QUIESCING_MAX 8u
#define REPLAY_BLOCKS_MAX 32768u /* of all logs together: what opening after a crash may have to read (128 MiB) */
#define RETRY_NS ((uint64_t)100 * 1000 * 1000)

static void pump(struct part *p);

bool checkpoint_blocks_writes(const struct part *p)
{
	return p->cp.state == CP_QUIESCE;
}

/* Blocks that must stay free: every dirty node, all that records under way (and one more) can make dirty, a catalog. */
uint32_t checkpoint_need(const struct part *p)
{
	uint32_t catalog = 0;

	if (p->index == 0)
		catalog = (uint32_t)pst_div_round_up(p->store->catalog_bytes, PST_BLOCK_BYTES) + PST_NODE_LEVELS;
	return p->dirty_count + PST_NODE_LEVELS * (p->inflight + 1 + p->merging) + catalog;
}

void checkpoint_want(struct part *p, struct waiter *w)
{
	p->cp.wanted = true;
	if (w != NULL) {
		pst_assert(p->cp.waiter == NULL);
		p->cp.waiter = w;
	}
	store_schedule(p->store);
}

/* ---- Freeze ---- */

static void catalog_freeze(struct part *p)
{
	struct store *st = p->store;
	struct checkpoint *cp = &p->cp;
	struct node *leaf = NULL;
	struct waiter none = { .err = PST_OK };
	uint32_t old_blocks = (uint32_t)pst_div_round_up(p->catalog_bytes, PST_BLOCK_BYTES);
	bool damaged = false;

	if (p->index != 0 || !st->catalog_dirty)
		return;
	cp->catalog_blocks = (uint32_t)pst_div_round_up(st->catalog_bytes, PST_BLOCK_BYTES);
	cp->catalog_next = 0;
	catalog_encode(st, cp->catalog);
	st->cache.overflow = true; /* six nodes at most, and they stay */
	pst_assert(map_get(p, 0, map_leaf_index(PST_SLOT_CATALOG, 0), true, &none, &leaf) == MAP_OK);
	st->cache.overflow = st->recovering;
	map_pin(leaf);
	for (uint32_t i = 0; i < PST_MAX(old_blocks, cp->catalog_blocks); i++) {
		uint32_t block = 0, crc = 0, old = 0;

		if (i < cp->catalog_blocks) {
			pst_assert(pst_alloc_take(&p->alloc, 1, &block) == 1); /* checkpoint_need */
			crc = pst_crc32c((char *)cp->catalog + (size_t)i * PST_BLOCK_BYTES, PST_BLOCK_BYTES);
			cp->catalog_at[i] = block;
		}
		map_set(leaf, i, block, crc, &old, &damaged);
		if (old != 0)
			freed_push(&p->node_freed, p->cp.freezes, 0, old, 1);
	}
	/* The leaf stays pinned (once): it is needed at every checkpoint. */
	if (leaf->pins > 1)
		map_unpin(leaf);
	p->catalog_bytes = st->catalog_bytes;
	st->catalog_dirty = false;
}

/* A dirty node gets a block and an image; its children have been frozen before. Not the root: see freeze. */
void node_freeze(struct node *n)
{
	struct part *p = n->part;
	struct pst_ptr ptr;

	pst_assert(n->image == NULL && (n->data->used > 0 || n->pins > 0 || n->parent == NULL));
	if (n->block != 0)
		part_free_node(p, n->block);
	pst_assert(pst_alloc_take(&p->alloc, 1, &n->block) == 1); /* checkpoint_need */
	pst_assert(pst_alloc_use(&p->alloc, n->block));
	n->data->generation = p->generation;
	space_node(n);
	ptr = (struct pst_ptr){ n->block, pst_crc32c(n->data, sizeof(*n->data)) };
	if (n->parent != NULL)
		n->parent->data->entry[n->index % PST_NODE_FANOUT] = ptr;
	else
		p->cp.root->map = ptr;
	n->dirty = false;
	p->dirty_count--;
	p->store->cache.dirty--;
	pst_list_remove(&n->list);
	pst_list_push_back(&p->store->cache.clean, &n->list);
	pst_list_push_back(&p->cp.images, &image_add(&p->store->cache, n)->list);
}

static void freeze(struct part *p)
{
	struct store *st = p->store;
	struct pst_root *root = p->cp.root;
	struct pst_list hidden;

	p->generation++;
	catalog_freeze(p);
	map_dirty(p->root);
	pst_list_init(&hidden);
	for (unsigned level = 0; level < PST_NODE_LEVELS; level++)
		while (!pst_list_empty(&p->dirty[level])) {
			struct node *n = pst_container_of(p->dirty[level].next, struct node, list);

			if (!map_hide_empty(n, &hidden))
				node_freeze(n);
		}
	map_show_again(p, &hidden);
	root->magic = PST_ROOT_MAGIC;
	memcpy(root->pool_uuid, st->pool.uuid, 16);
	root->partition = p->index;
	root->generation = p->generation;
	root->incarnation = p->incarnation;
	root->log_seq = p->head_seq;
	root->log_prev_crc = p->prev_crc;
	root->catalog_bytes = p->catalog_bytes;
	root->space_digest = pst_alloc_freeze(&p->alloc, p->generation);
	root->space_pages = p->alloc.pages;
	root->used_blocks = p->alloc.used_count;
	pst_root_seal(root);
	p->cp.freeze_seq = p->head_seq;
	p->cp.frees_frozen = p->node_freed.count;
	p->cp.freezes++;
	p->cp.next_page = 0;
	p->cp.err = PST_OK;
	p->cp.tries = 0;
}

/* ---- Writing ---- */

static void retry(struct pst_timer *timer)
{
	struct part *p = pst_container_of(timer, struct part, cp.retry);

	store_schedule(p->store);
}

static void failed(struct part *p, pst_err err)
{
	struct store *st = p->store;

	if (p->cp.err == PST_OK)
		store_event(st, PST_LOG_WARN,
			    "checkpoint_failed partition=%u error=%s: trying again; give its file system space",
			    p->index, pst_err_name(err));
	p->cp.err = err;
	p->cp.tries++;
	p->space_wake = true;
	store_wake_all(st, &st->cache.waiters);
	if (!pst_timer_armed(&p->cp.retry)) {
		pst_timer_init(&p->cp.retry, retry);
		pst_timer_arm(st->pool.env, &p->cp.retry, pst_env_now_ns(st->pool.env) + RETRY_NS);
	}
}

static void op_done(struct pst_file_op *op)
{
	struct cp_op *o = pst_container_of(op, struct cp_op, op);
	struct part *p = o->part;

	p->store->outstanding--;
	o->busy = false;
	p->cp.ops_busy--;
	if (op->err != PST_OK) {
		for (uint32_t i = o->image_count; i > 0; i--)
			pst_list_push_front(&p->cp.images, &o->images[i - 1]->list);
		if (p->cp.state == CP_ROOT)
			p->cp.next_page = 0;
		else if (o->page > 0)
			p->cp.next_page = PST_MIN(p->cp.next_page, o->page - 1);
		else if (o->image_count == 0)
			p->cp.catalog_next = 0; /* all of it again: it is short */
		failed(p, op->err);
	} else {
		for (uint32_t i = 0; i < o->image_count; i++)
			image_written(&p->store->cache, o->images[i]);
		if (o->page > 0) {
			p->alloc.page_copy[o->page - 1] ^= 1;
			p->alloc.page_dirty[o->page - 1] &= (uint8_t)~PST_PAGE_WRITING;
		}
	}
	store_schedule(p->store);
}

static void op_submit(struct part *p, struct cp_op *o, uint64_t block)
{
	uint64_t len = 0;

	for (uint32_t i = 0; i < o->op.iov_count; i++)
		len += o->iov[i].iov_len;
	o->part = p;
	o->busy = true;
	p->cp.ops_busy++;
	o->op.kind = PST_FILE_WRITE;
	o->op.iov = o->iov;
	o->op.len_bytes = len;
	o->op.done = op_done;
	part_submit(p, &o->op, block);
}

/* Nodes whose new blocks lie in a row go out together. */
static bool submit_nodes(struct part *p, struct cp_op *o)
{
	uint32_t first = 0, n = 0;

	while (!pst_list_empty(&p->cp.images) && n < CP_OP_BLOCKS) {
		struct image *image = pst_container_of(p->cp.images.next, struct image, list);

		if (n == 0)
			first = image->block;
		else if (image->block != first + n)
			break;
		pst_list_remove(&image->list);
		o->images[n] = image;
		o->iov[n++] = (struct iovec){ image->page, PST_BLOCK_BYTES };
	}
	if (n == 0)
		return false;
	o->image_count = n;
	o->page = 0;
	o->op.iov_count = n;
	op_submit(p, o, first);
	return true;
}

static bool submit_catalog(struct part *p, struct cp_op *o)
{
	struct checkpoint *cp = &p->cp;
	uint32_t first = cp->catalog_next, n = 1;

	if (first == cp->catalog_blocks)
		return false;
	while (first + n < cp->catalog_blocks && cp->catalog_at[first + n] == cp->catalog_at[first] + n)
		n++;
	cp->catalog_next += n;
	o->image_count = o->page = 0;
	o->iov[0] =
	    (struct iovec){ (char *)cp->catalog + (size_t)first * PST_BLOCK_BYTES, (size_t)n * PST_BLOCK_BYTES };
	o->op.iov_count = 1;
	op_submit(p, o, cp->catalog_at[first]);
	return true;
}

static bool submit_page(struct part *p, struct cp_op *o)
{
	struct pst_alloc *a = &p->alloc;

	while (p->cp.next_page < a->pages && !(a->page_dirty[p->cp.next_page] & PST_PAGE_WRITING))
		p->cp.next_page++;
	if (p->cp.next_page == a->pages)
		return false;
	o->image_count = 0;
	o->page = ++p->cp.next_page;
	o->iov[0] = (struct iovec){ &a->shadow[o->page - 1], PST_BLOCK_BYTES };
	o->op.iov_count = 1;
	op_submit(p, o, part_space_page(p, o->page - 1, a->page_copy[o->page - 1] ^ 1u));
	return true;
}

static bool submit_root(struct part *p, struct cp_op *o)
{
	if (p->cp.next_page == 1)
		return false;
	p->cp.next_page = 1;
	o->image_count = o->page = 0;
	o->iov[0] = o->iov[1] = (struct iovec){ p->cp.root, PST_BLOCK_BYTES };
	o->op.iov_count = 2;
	op_submit(p, o, p->generation % 2 * 2);
	return true;
}

/* ---- The machine ---- */

static void finish(struct part *p)
{
	struct store *st = p->store;
	struct freed_list *f = &p->node_freed;
	struct waiter *w = p->cp.waiter;

	for (size_t i = 0; i < p->cp.frees_frozen; i++)
		online_release(p, f->items[i].block, f->items[i].count);
	if (f->count > p->cp.frees_frozen)
		memmove(f->items, f->items + p->cp.frees_frozen, (f->count - p->cp.frees_frozen) * sizeof(f->items[0]));
	f->count -= p->cp.frees_frozen;
	pst_alloc_shadow_put(&p->alloc);
	p->tail_seq = p->cp.freeze_seq;
	p->cp.state = CP_IDLE;
	p->cp.done_count++;
	p->cp.waiter = NULL;
	p->space_wake = true;
	store_wake_all(st, &st->cache.waiters);
	p->cp_hold = p->pinned && w != NULL;
	if (w != NULL)
		store_wake(st, w);
	store_schedule(st);
}

static void flushed(struct waiter *w)
{
	struct part *p = pst_container_of(w, struct part, cp.wait);
	pst_err err = w->err;

	w->err = PST_OK;
	if (err != PST_OK)
		return; /* the pool has failed: checkpoint_run sees it */
	if (p->cp.state == CP_ROOT_FLUSH) {
		finish(p);
		return;
	}
	p->cp.state = CP_ROOT;
	p->cp.next_page = 0;
	pump(p);
}

static void pump(struct part *p)
{
	struct checkpoint *cp = &p->cp;

	if (pst_timer_armed(&cp->retry))
		return;
	for (unsigned i = 0; i < CP_OPS; i++) {
		struct cp_op *o = &cp->ops[i];
		bool more;

		if (o->busy)
			continue;
		if (cp->state == CP_WRITE)
			more = submit_nodes(p, o) || submit_catalog(p, o) || submit_page(p, o);
		else
			more = submit_root(p, o);
		if (!more)
			break;
	}
	if (cp->ops_busy > 0)
		return;
	cp->err = PST_OK;
	cp->state = cp->state == CP_WRITE ? CP_FLUSH : CP_ROOT_FLUSH;
	cp->wait.run = flushed;
	if (PST_MUTANT == PST_MUTANT_ROOT_UNFLUSHED && cp->state == CP_ROOT_FLUSH)
		store_wake(p->store, &cp->wait);
	else
		commit_wait(p->store, &cp->wait);
}

static void begin_if_useful(struct part *p)
{
	struct checkpoint *cp = &p->cp;
	struct store *st = p->store;
	uint32_t log_max = PST_MIN(p->geo.log_blocks / 2, PST_MAX(REPLAY_BLOCKS_MAX / st->part_count, 8u));
	bool log_long = p->head_seq - p->tail_seq > log_max;
	/* Those that have most of them: at least half as many as the average. */
	bool many_dirty = st->cache.dirty > st->cache.capacity / 8 && p->dirty_count > 0 &&
			  (uint64_t)p->dirty_count * 2 * st->part_count >= st->cache.dirty;
	bool many_here = p->dirty_count > FREEZE_NODES_WANTED;
	bool many_freed = p->node_freed.count > st->cache.capacity;

	if (st->quiescing < QUIESCING_MAX && (cp->wanted || log_long || many_dirty || many_here || many_freed)) {
		cp->wanted = false;
		cp->state = CP_QUIESCE;
		st->quiescing++;
	}
}

static void freeze_if_memory(struct part *p)
{
	if (pst_alloc_shadow_get(&p->alloc) != PST_OK) {
		failed(p, PST_E_NOMEM);
		return;
	}
	freeze(p);
	p->store->quiescing--;
	p->store->froze = true;
	p->cp.state = CP_WRITE;
	p->space_wake = true;
}

void checkpoint_run(struct part *p)
{
	struct checkpoint *cp = &p->cp;

	if (p->store->failed != PST_OK) { /* whoever waits for it hears so; nothing is written any more */
		if (cp->waiter != NULL && cp->ops_busy == 0) {
			cp->waiter->err = PST_E_IO;
			store_wake(p->store, cp->waiter);
			cp->waiter = NULL;
		}
		return;
	}
	/* Nobody may wait for ever to open or close a pool on a device that refuses writes. */
	if (cp->err != PST_OK && cp->tries >= TRIES_MAX && cp->ops_busy == 0 &&
	    (p->store->recovering || p->store->closing)) {
		pst_timer_disarm(p->store->pool.env, &cp->retry);
		store_fail(p->store, cp->err, "checkpoint_failed");
		return;
	}
	if (p->root == NULL || (p->store->recovering && cp->waiter == NULL))
		return;
	if (cp->state == CP_IDLE && !p->cp_hold)
		begin_if_useful(p);
	if (cp->state == CP_QUIESCE && p->inflight == 0 && !p->store->froze && !pst_timer_armed(&cp->retry))
		freeze_if_memory(p);
	if (cp->state == CP_WRITE || cp->state == CP_ROOT)
		pump(p);
}

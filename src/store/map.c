/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The map of a partition: one radix tree over slot and local LBA, six levels of 504 entries. It is changed in memory,
 * in log order, and reaches the disk only by checkpoints, copy on write.
 *
 * Invariants: the parent of a node in memory is in memory; the parent of a dirty node is dirty; an entry
 * PST_PTR_PENDING means that the child is in memory and has no address; a node without entries is dropped, except the
 * root, except while it is pinned, and except a version's whose account is not closed (share.c, merge_own).
 * data_blocks of a node up to the level of versions counts the data below it, also across what is not in memory;
 * own_blocks of a version's node counts what was allocated in its name and not freed.
 *
 * Sharing (docs/versions.md): a node whose pointer is marked PST_PTR_INHERITED is the parent version's too. Changing
 * it means a copy: it leaves its block to the parent, and all of its entries become inherited. A dirty node is
 * therefore never inherited, nor is anything above it.
 *
 * PST_PTR_LOST stands where a repair has given something up: reads of it fail, until it is written or discarded. It is
 * an entry that has no block and counts as no data. A lost node is made up when it is needed: all below it is lost.
 */
#include "store/internal.h"

#include "base/crc32c.h"

#include <string.h>

static const uint64_t span[PST_NODE_LEVELS] = { /* leaves below one node of the level */
						1, 504, 254016, 128024064, 64524128256u, 32520160641024u
};

uint64_t map_index_in_version(unsigned level, uint64_t index)
{
	return level <= PST_NODE_LEVEL_VOLUME ? index % (span[PST_NODE_LEVEL_VOLUME] / span[level]) : index;
}

uint64_t map_index_of_slot(unsigned level, uint32_t slot, uint64_t index_in_version)
{
	return slot * (span[PST_NODE_LEVEL_VOLUME] / span[level]) + index_in_version;
}

uint64_t map_leaf_index(uint32_t slot, uint64_t lba)
{
	return (slot * PST_SLOT_SPAN + lba) / PST_NODE_FANOUT;
}

/* ---- Changing nodes ---- */

static void own_page(struct node *n)
{
	struct pst_node_disk *page;

	if (n->image == NULL)
		return;
	page = cache_page_get(&n->part->store->cache);
	pst_assert(page != NULL); /* dirty nodes are limited so that there is one: see cache.c */
	memcpy(page, n->data, sizeof(*page));
	n->image->node = NULL;
	n->image = NULL;
	n->data = page;
}

void map_inherit_all(struct pst_node_disk *data)
{
	for (uint32_t i = 0; i < PST_NODE_FANOUT; i++)
		if (data->entry[i].block != 0)
			data->entry[i].block |= PST_PTR_INHERITED;
}

/* Its parent is dirty. If the parent version holds this node too, or it was lost, it becomes a node of its own. */
static void unshare(struct node *n)
{
	struct pst_ptr *ptr = &n->parent->data->entry[n->index % PST_NODE_FANOUT];

	if (pst_ptr_inherited(*ptr))
		map_inherit_all(n->data);
	else if (ptr->block != PST_PTR_LOST)
		return;
	*ptr = (struct pst_ptr){ .block = PST_PTR_PENDING };
	n->block = 0;
}

void map_dirty(struct node *n)
{
	if (n->dirty)
		return;
	if (n->parent != NULL)
		map_dirty(n->parent);
	own_page(n);
	if (n->parent != NULL)
		unshare(n);
	n->dirty = true;
	pst_list_remove(&n->list);
	pst_list_push_back(&n->part->dirty[n->level], &n->list);
	n->part->dirty_count++;
	n->part->store->cache.dirty++;
}

static void make_clean(struct node *n)
{
	if (!n->dirty)
		return;
	n->dirty = false;
	n->part->dirty_count--;
	n->part->store->cache.dirty--;
	pst_list_remove(&n->list);
	pst_list_push_back(&n->part->store->cache.clean, &n->list);
}

/* A snapshot's. It may hold an empty leaf, of a write that had its place in the log only after it. */
static bool never_changes(const struct node *n)
{
	const struct svol *v;

	if (n->dirty || n->level >= PST_NODE_LEVEL_VOLUME)
		return false;
	v = svol_by_slot(n->part->store, (uint32_t)(n->index / (span[PST_NODE_LEVEL_VOLUME] / span[n->level])));
	return v == NULL || ((v->disk.flags & PST_VOLUME_SNAPSHOT) != 0 && (v->disk.flags & PST_VOLUME_DELETING) == 0);
}

static bool is_empty(const struct node *n)
{
	return n->data->used == 0 && (n->level != PST_NODE_LEVEL_VOLUME || n->data->own_blocks == 0);
}

static void drop_empty(struct node *n)
{
	while (n->parent != NULL && is_empty(n) && n->pins == 0 && n->children == 0 && !n->loading &&
	       !never_changes(n)) {
		struct node *parent = n->parent;
		struct pst_ptr *ptr;

		map_dirty(parent); /* now the entry says whether another version has it too */
		ptr = &parent->data->entry[n->index % PST_NODE_FANOUT];
		if (n->block != 0 && !pst_ptr_inherited(*ptr))
			part_free_node(n->part, n->block);
		*ptr = (struct pst_ptr){ 0 };
		parent->data->used--;
		make_clean(n);
		cache_remove(n->part->store, n);
		n = parent;
	}
}

bool map_hide_empty(struct node *n, struct pst_list *hidden)
{
	struct node *parent = n->parent;

	if (parent == NULL || n->data->used != 0)
		return false;
	parent->data->entry[n->index % PST_NODE_FANOUT] = (struct pst_ptr){ 0 };
	parent->data->used--;
	if (n->block != 0)
		part_free_node(n->part, n->block);
	n->block = 0;
	pst_list_remove(&n->list);
	pst_list_push_front(hidden, &n->list);
	return true;
}

void map_show_again(struct part *p, struct pst_list *hidden)
{
	while (!pst_list_empty(hidden)) {
		struct node *n = pst_container_of(pst_list_pop_front(hidden), struct node, list);

		map_dirty(n->parent);
		n->parent->data->entry[n->index % PST_NODE_FANOUT].block = PST_PTR_PENDING;
		n->parent->data->used++;
		pst_list_push_back(&p->dirty[n->level], &n->list);
	}
}

void map_pin(struct node *n)
{
	n->pins++;
}

void map_unpin(struct node *n)
{
	pst_assert(n->pins > 0);
	n->pins--;
	drop_empty(n);
}

bool map_is_own(const struct node *leaf, uint32_t i)
{
	struct pst_ptr ptr = leaf->data->entry[i];

	if (ptr.block == 0 || pst_ptr_inherited(ptr) || pst_ptr_block(ptr) == PST_PTR_LOST)
		return false;
	for (const struct node *n = leaf; n->level < PST_NODE_LEVEL_VOLUME; n = n->parent)
		if (pst_ptr_inherited(n->parent->data->entry[n->index % PST_NODE_FANOUT]))
			return false;
	return true;
}

int map_set(struct node *leaf, uint32_t i, uint32_t block, uint32_t crc, uint32_t *ret_free, bool *ret_damaged)
{
	struct pst_alloc *a = &leaf->part->alloc;
	struct pst_ptr *ptr;
	int mapped, own;
	bool lost;

	*ret_free = 0;
	if (block == 0 && leaf->data->entry[i].block == 0)
		return 0;
	if (block != 0 && !pst_alloc_use(a, block)) {
		*ret_damaged = true;
		return 0;
	}
	map_dirty(leaf); /* now the entry says whether it is inherited */
	ptr = &leaf->data->entry[i];
	lost = pst_ptr_block(*ptr) == PST_PTR_LOST;
	leaf->data->used += (uint32_t)(block != 0) - (uint32_t)(ptr->block != 0);
	mapped = (block != 0) - (ptr->block != 0 && !lost);
	own = block != 0;
	if (ptr->block != 0 && !pst_ptr_inherited(*ptr) && !lost) {
		*ret_free = ptr->block;
		own--;
		if (!pst_alloc_unuse(a, ptr->block))
			*ret_damaged = true;
	}
	*ptr = (struct pst_ptr){ block, block != 0 ? crc : 0 };
	for (struct node *n = leaf; n->level <= PST_NODE_LEVEL_VOLUME; n = n->parent) {
		n->data->data_blocks = (uint64_t)((int64_t)n->data->data_blocks + mapped);
		if (n->level == PST_NODE_LEVEL_VOLUME)
			n->data->own_blocks = (uint64_t)((int64_t)n->data->own_blocks + own);
	}
	return mapped;
}

/* ---- Finding and loading nodes ---- */

static pst_err loaded_ok(const struct node *n)
{
	const struct pst_node_disk *d = n->data;
	uint32_t used = 0;

	if (pst_crc32c(d, sizeof(*d)) != n->want_crc || d->magic != PST_NODE_MAGIC || d->level != n->level ||
	    d->partition != n->part->index ||
	    map_index_in_version(d->level, d->index) != map_index_in_version(n->level, n->index))
		return PST_E_CHECKSUM;
	for (uint32_t i = 0; i < PST_NODE_FANOUT; i++) {
		if (d->entry[i].block == 0)
			continue;
		used++;
		if (pst_ptr_block(d->entry[i]) != PST_PTR_LOST &&
		    !pst_alloc_valid(&n->part->alloc, pst_ptr_block(d->entry[i]), 1))
			return PST_E_CHECKSUM;
	}
	return used == d->used ? PST_OK : PST_E_CHECKSUM;
}

/* What nodes of format 1 don't have. */
static void modernize(struct pst_node_disk *d)
{
	if (d->format != 0)
		return;
	d->format = PST_NODE_FORMAT;
	if (d->level == PST_NODE_LEVEL_VOLUME)
		d->own_blocks = d->data_blocks;
}

static void load_done(struct pst_file_op *op)
{
	struct node *n = pst_container_of(op, struct node, op);
	struct store *st = n->part->store;
	pst_err err = op->err != PST_OK ? op->err : loaded_ok(n);

	st->outstanding--;
	n->loading = false;
	if (err != PST_OK) {
		st->stats.checksum_errors += err == PST_E_CHECKSUM;
		store_event(st, PST_LOG_ERROR, "map_node_unreadable partition=%u level=%u index=%llu block=%u error=%s",
			    n->part->index, n->level, (unsigned long long)n->index, n->block, pst_err_name(err));
		PST_LIST_EACH(l, &n->waiters)
			pst_container_of(l, struct waiter, node)->err = err;
	}
	store_wake_all(st, &n->waiters);
	store_wake_all(st, &st->cache.waiters);
	if (err == PST_OK) {
		modernize(n->data);
		return;
	}
	if (n->parent == NULL)
		n->part->root = NULL;
	cache_remove(st, n);
}

static void load(struct node *n, struct pst_ptr ptr)
{
	struct part *p = n->part;
	const struct image *image = image_find(&p->store->cache, p, pst_ptr_block(ptr));

	n->block = pst_ptr_block(ptr);
	if (image != NULL) { /* another version's, frozen and not written yet */
		memcpy(n->data, image->page, sizeof(*n->data));
		return;
	}
	n->loading = true;
	n->want_crc = ptr.crc;
	n->iov = (struct iovec){ n->data, PST_BLOCK_BYTES };
	n->op = (struct pst_file_op){
		.kind = PST_FILE_READ,
		.iov = &n->iov,
		.iov_count = 1,
		.urgent = store_urgent(p->store),
		.len_bytes = PST_BLOCK_BYTES,
		.done = load_done,
	};
	part_submit(p, &n->op, n->block);
}

/*
 * A node in place of one that was lost. Beyond the volume's end there was nothing; while the pool is being recovered
 * the end may not be known yet, and then what is added to the volume later has to be written before it can be read.
 */
static void make_lost(struct node *n)
{
	uint32_t slot = (uint32_t)(n->index / (span[PST_NODE_LEVEL_VOLUME] / span[n->level]));
	const struct svol *v = svol_by_slot(n->part->store, slot);
	uint64_t end = v != NULL ? part_local(n->part->store, n->part->index, v->disk.block_count) : PST_SLOT_SPAN;
	uint64_t each = n->level > 0 ? span[n->level - 1] * PST_NODE_FANOUT : 1;
	uint64_t first = map_index_in_version(n->level, n->index) * each * PST_NODE_FANOUT;

	for (uint32_t i = 0; i < PST_NODE_FANOUT && first + i * each < end; i++) {
		n->data->entry[i].block = PST_PTR_LOST;
		n->data->used++;
	}
}

pst_err map_open(struct part *p, struct pst_ptr ptr, struct waiter *w)
{
	p->root = cache_add(p->store, p, PST_NODE_LEVELS - 1, 0, NULL);
	if (p->root == NULL)
		return PST_E_NOMEM;
	if (ptr.block == 0) {
		store_wake(p->store, w);
		return PST_OK;
	}
	if (!pst_alloc_valid(&p->alloc, ptr.block, 1))
		return PST_E_CHECKSUM;
	load(p->root, ptr);
	pst_list_push_back(&p->root->waiters, &w->node);
	return PST_OK;
}

/* The child of @n towards leaf @leaf_index: in memory, made, or being loaded. */
static enum map_result child_get(struct node *n, uint64_t leaf_index, bool create, struct waiter *w,
				 struct node **ret_node)
{
	struct part *p = n->part;
	struct store *st = p->store;
	unsigned level = n->level - 1u;
	uint64_t index = leaf_index / span[level];
	struct node *child = cache_find(&st->cache, p, level, index);
	struct pst_ptr ptr;

	if (child != NULL) {
		*ret_node = child;
		return MAP_OK;
	}
	ptr = n->data->entry[index % PST_NODE_FANOUT];
	if (ptr.block == 0 && !create)
		return MAP_HOLE;
	child = cache_add(st, p, level, index, n);
	if (child == NULL) {
		drop_empty(n);
		pst_list_push_back(&st->cache.waiters, &w->node);
		checkpoint_want(p, NULL);
		store_schedule(st);
		return MAP_WAIT;
	}
	if (pst_ptr_block(ptr) == PST_PTR_LOST) {
		make_lost(child);
	} else if (ptr.block != 0) {
		load(child, ptr);
	} else {
		map_dirty(child);
		n->data->entry[index % PST_NODE_FANOUT].block = PST_PTR_PENDING;
		n->data->used++;
	}
	*ret_node = child;
	return MAP_OK;
}

static enum map_result ready(struct node *n, struct waiter *w)
{
	if (!n->loading)
		return MAP_OK;
	pst_list_push_back(&n->waiters, &w->node);
	return MAP_WAIT;
}

enum map_result map_get(struct part *p, unsigned level, uint64_t index, bool create, struct waiter *w,
			struct node **ret_node)
{
	struct store *st = p->store;
	uint64_t leaf_index = index * span[level];
	struct node *n = NULL;
	unsigned l = level;

	if (w->err != PST_OK)
		return MAP_ERROR;
	if (p->root == NULL) {
		w->err = PST_E_CHECKSUM;
		return MAP_ERROR;
	}
	while ((n = cache_find(&st->cache, p, l, leaf_index / span[l])) == NULL)
		l++;
	for (;;) {
		enum map_result got = ready(n, w);

		if (got != MAP_OK)
			return got;
		if (n->level == level)
			break;
		got = child_get(n, leaf_index, create, w, &n);
		if (got != MAP_OK)
			return got;
	}
	cache_touch(&st->cache, n);
	*ret_node = n;
	return MAP_OK;
}

bool map_find(const struct part *p, unsigned level, uint64_t index, struct node **ret_node)
{
	struct node *n = p->root;

	*ret_node = NULL;
	while (n != NULL && !n->loading && n->level > level) {
		unsigned below = n->level - 1u;
		uint64_t at = index / (span[below] / span[level]);

		if (n->data->entry[at % PST_NODE_FANOUT].block == 0)
			return true;
		n = cache_find(&p->store->cache, p, below, at);
	}
	*ret_node = n;
	return n != NULL && !n->loading;
}

enum map_result map_next_leaf(struct part *p, uint32_t slot, uint64_t *lba, uint64_t end, struct waiter *w,
			      struct node **ret_leaf)
{
	uint64_t at = map_leaf_index(slot, *lba);
	uint64_t last = map_leaf_index(slot, end - 1);
	uint64_t first = map_leaf_index(slot, 0);
	struct node *n = p->root;

	if (w->err != PST_OK)
		return MAP_ERROR;
	if (n == NULL) {
		w->err = PST_E_CHECKSUM;
		return MAP_ERROR;
	}
	while (at <= last) {
		enum map_result got = ready(n, w);

		if (got != MAP_OK)
			return got;
		if (n->level == 0) {
			*lba = PST_MAX(*lba, (at - first) * PST_NODE_FANOUT);
			*ret_leaf = n;
			return MAP_OK;
		}
		got = child_get(n, at, false, w, &n);
		if (got == MAP_WAIT || got == MAP_ERROR)
			return got;
		if (got == MAP_HOLE) { /* on to the first leaf of the next entry, from the top */
			uint64_t step = span[n->level - 1];

			at = (at / step + 1) * step;
			n = p->root;
		}
	}
	return MAP_HOLE;
}

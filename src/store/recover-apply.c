/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The second half of recovery (recover.c has the whole): what was read and verified is put into the map.
 *
 *   root of the map -> (partition 0) catalog -> all records in order -> checkpoint, or none after a clean close
 */
#include "store/recover.h"
#include "store/move.h"

#include "base/crc32c.h"

#include <string.h>

/* ---- The end: a checkpoint ---- */

/* Snapshots take blocks while the log is replayed: not those that records to come have written their data to. */
static void hold_blocks(struct recovery *r)
{
	for (size_t at = r->at; at < r->item_count; at++) {
		const struct recover_item *item = &r->items[at];

		if (item->aborted || item->record->kind != PST_LOG_WRITE)
			continue;
		for (uint32_t i = 0; i < item->record->count; i++)
			if (!recover_is_bad(item, i))
				pst_alloc_hold(&r->p->alloc, item->record->block + i);
	}
}

/* Blocks that replay freed, and that no later record took into use again (some are in the list more than once). */
static void release_freed(struct recovery *r)
{
	struct part *p = r->p;
	struct freed_list *f = &p->freed;

	for (; f->head < f->count; f->head++) {
		const struct freed *item = &f->items[f->head];

		for (uint32_t b = item->block; b < item->block + item->count; b++)
			if (pst_alloc_is_busy(&p->alloc, b) && !pst_alloc_is_used(&p->alloc, b))
				pst_alloc_release(&p->alloc, b, 1);
	}
	f->head = f->count = 0;
	hold_blocks(r);
}

static void after_checkpoint(struct waiter *w)
{
	struct recovery *r = pst_container_of(w, struct recovery, wait);

	if (w->err == PST_OK && r->dropped > 0)
		store_event(r->st, PST_LOG_INFO,
			    "unflushed_blocks_dropped partition=%u blocks=%llu: their older contents stand",
			    r->p->index, (unsigned long long)r->dropped);
	if (w->err == PST_OK)
		release_freed(r);
	recovery_end(r, w->err, "the checkpoint after recovery failed");
}

static void volumes_closed(struct recovery *r)
{
	PST_LIST_EACH(l, &r->st->volumes) {
		struct svol *v = pst_container_of(l, struct svol, node);

		if ((v->disk.flags & PST_VOLUME_PENDING) != 0) { /* the crash came first: version.c */
			v->disk.flags |= PST_VOLUME_DELETING;
			catalog_changed(r->st);
		}
		if ((v->disk.flags & PST_VOLUME_OPEN) == 0)
			continue;
		v->disk.flags &= ~(uint32_t)PST_VOLUME_OPEN;
		if (!r->same_boot)
			v->disk.flags |= PST_VOLUME_LOST;
		catalog_changed(r->st);
	}
}

/*
 * After a clean close there is nothing to bring to the disk: no record follows the root, and no block of this
 * incarnation can lie beyond the log's end, since closing waits for all of them and then makes its last checkpoints.
 * So the log just goes on.
 */
static bool checkpoint_needed(const struct recovery *r)
{
	const struct part *p = r->p;

	if (!r->clean || r->log_count > 0 || p->dirty_count > 0 || (p->index == 0 && r->st->catalog_dirty))
		return true;
	for (uint32_t i = 0; i < p->alloc.pages; i++)
		if ((p->alloc.page_dirty[i] & PST_PAGE_DIRTY) != 0)
			return true;
	return false;
}

static void write_checkpoint(struct recovery *r)
{
	struct part *p = r->p;

	if (p->index == 0)
		volumes_closed(r);
	if (p->index == 0 && p->catalog_bytes == 0)
		catalog_changed(r->st);
	if (!checkpoint_needed(r)) {
		recovery_end(r, PST_OK, "");
		return;
	}
	p->incarnation++;
	/* Old data is kept as long as there is room: if a read failed by chance, a second recovery may want it. */
	if (p->alloc.free_count < checkpoint_need(p))
		release_freed(r);
	if (p->alloc.free_count < checkpoint_need(p)) {
		recovery_end(r, PST_E_NOSPACE, "no room for the checkpoint after recovery");
		return;
	}
	r->wait.run = after_checkpoint;
	r->wait.err = PST_OK;
	checkpoint_want(p, &r->wait);
}

/* ---- Apply ---- */

static pst_err apply_blocks(struct recovery *r, const struct recover_item *item, struct node *leaf)
{
	const struct pst_log_record *rec = item->record;
	const uint32_t *crc = pst_log_record_body(rec);
	bool damaged = false;

	map_pin(leaf);
	for (uint32_t i = 0; i < rec->count; i++) {
		uint32_t at = (uint32_t)(rec->lba % PST_NODE_FANOUT) + i, freed = 0;

		if (rec->kind == PST_LOG_DISCARD)
			map_set(leaf, at, 0, 0, &freed, &damaged);
		else if (rec->kind == PST_LOG_MOVE && !recover_is_bad(item, i))
			(void)move_apply_one(leaf, at, crc[rec->count + i], rec->block + i, crc[i], &freed, &damaged);
		else if (!recover_is_bad(item, i))
			map_set(leaf, at, rec->block + i, crc[i], &freed, &damaged);
		if (freed != 0)
			freed_push(&r->p->freed, item->seq, 0, freed, 1);
	}
	map_unpin(leaf);
	return damaged ? PST_E_CHECKSUM : PST_OK;
}

/* The nodes that a record about versions needs, so far as there are any; see share.c. */
static enum map_result load_versions(struct part *p, const struct pst_log_record *rec, struct waiter *w)
{
	const struct pst_log_merge *m = pst_log_record_body(rec);
	bool merge = rec->kind == PST_LOG_MERGE;
	uint32_t slots[] = { rec->slot, merge ? m->child : (uint32_t)rec->lba, merge ? m->parent : 0,
			     merge ? m->grandparent : 0 };
	struct node *n;

	for (size_t i = 0; i < PST_ARRAY_COUNT(slots); i++) {
		enum map_result got = MAP_OK;

		if (slots[i] == 0)
			continue;
		if (merge)
			got = map_get(p, rec->count, map_index_of_slot(rec->count, slots[i], rec->lba), false, w, &n);
		if (got == MAP_OK || got == MAP_HOLE)
			got = map_get(p, PST_NODE_LEVEL_VOLUME, slots[i], !merge, w, &n);
		if (got == MAP_WAIT || got == MAP_ERROR)
			return got;
	}
	return MAP_OK;
}

/* Versions' nodes that were made for a record and stay empty go again. */
static void drop_empty_version(struct part *p, uint32_t slot)
{
	struct node *n = NULL;

	if (slot == 0 || !map_find(p, PST_NODE_LEVEL_VOLUME, slot, &n) || n == NULL)
		return;
	map_pin(n);
	map_unpin(n);
}

static enum map_result apply_versions(struct recovery *r, const struct recover_item *item)
{
	const struct pst_log_record *rec = item->record;
	struct part *p = r->p;
	struct node *n = NULL;
	enum map_result got = load_versions(p, rec, &r->wait);

	if (got != MAP_OK)
		return got;
	/* A snapshot gives dirty nodes their blocks. Whether there is room for the rest, the checkpoint finds out. */
	if (rec->kind == PST_LOG_SNAPSHOT && p->alloc.free_count < p->dirty_count)
		release_freed(r);
	if (rec->kind == PST_LOG_SNAPSHOT && p->alloc.free_count < p->dirty_count) {
		r->wait.err = PST_E_NOSPACE;
		return MAP_ERROR;
	}
	if (rec->kind == PST_LOG_SNAPSHOT)
		share_snapshot(p, rec->slot, (uint32_t)rec->lba);
	else if (rec->kind == PST_LOG_CLONE)
		share_clone(p, rec->slot, (uint32_t)rec->lba);
	else
		(void)share_merge(p, rec, pst_log_record_body(rec), item->seq);
	if (rec->kind == PST_LOG_MERGE &&
	    map_find(p, rec->count, map_index_of_slot(rec->count, rec->slot, rec->lba), &n) && n != NULL) {
		map_pin(n);
		map_unpin(n);
	} else if (rec->kind != PST_LOG_MERGE) {
		drop_empty_version(p, rec->slot);
		drop_empty_version(p, (uint32_t)rec->lba);
	}
	return MAP_OK;
}

static void apply(struct waiter *w)
{
	struct recovery *r = pst_container_of(w, struct recovery, wait);
	struct part *p = r->p;
	pst_err err = PST_OK;

	for (; err == PST_OK && r->at < r->item_count; r->at++) {
		const struct recover_item *item = &r->items[r->at];
		const struct pst_log_record *rec = item->record;
		struct node *leaf = NULL;
		enum map_result got;

		if (item->aborted)
			continue;
		if (rec->kind == PST_LOG_SNAPSHOT || rec->kind == PST_LOG_CLONE || rec->kind == PST_LOG_MERGE) {
			got = apply_versions(r, item);
			if (got == MAP_WAIT)
				return;
			err = got == MAP_ERROR ? w->err : PST_OK;
			continue;
		}
		if (!recover_has_data(rec) && rec->kind != PST_LOG_DISCARD) {
			if (p->index == 0)
				err = catalog_replay(r->st, rec, pst_log_record_body(rec), item->seq);
			continue;
		}
		got = map_get(p, 0, map_leaf_index(rec->slot, rec->lba), rec->kind == PST_LOG_WRITE, w, &leaf);
		if (got == MAP_WAIT)
			return;
		err = got == MAP_ERROR ? w->err : PST_OK;
		if (got == MAP_OK)
			err = apply_blocks(r, item, leaf);
	}
	if (err != PST_OK)
		recovery_end(r, err, "its log does not fit its map");
	else
		write_checkpoint(r);
}

static void apply_begin(struct recovery *r)
{
	r->at = 0;
	hold_blocks(r);
	r->wait.run = apply;
	r->wait.err = PST_OK;
	store_wake(r->st, &r->wait);
}

/* ---- Catalog ---- */

static void catalog_block(struct recovery *r);

static void catalog_block_read(struct recovery *r)
{
	if (pst_crc32c(r->chunk, PST_BLOCK_BYTES) != r->catalog_ptrs[r->catalog_at].crc) {
		recovery_end(r, PST_E_CHECKSUM, "a block of the catalog is damaged");
		return;
	}
	memcpy(r->catalog + (size_t)r->catalog_at * PST_BLOCK_BYTES, r->chunk, PST_BLOCK_BYTES);
	r->catalog_at++;
	catalog_block(r);
}

static void catalog_block(struct recovery *r)
{
	pst_err err;

	if (r->catalog_at < pst_div_round_up(r->root.catalog_bytes, PST_BLOCK_BYTES)) {
		r->next = catalog_block_read;
		recover_read_blocks(&r->read, r->catalog_ptrs[r->catalog_at].block, 1);
		return;
	}
	err = catalog_decode(r->st, r->catalog, r->root.catalog_bytes);
	r->st->catalog_bytes = catalog_image_bytes(r->st);
	if (err != PST_OK)
		recovery_end(r, err, "the catalog makes no sense");
	else
		apply_begin(r);
}

static void catalog_leaf(struct waiter *w)
{
	struct recovery *r = pst_container_of(w, struct recovery, wait);
	struct node *leaf = NULL;
	enum map_result got = map_get(r->p, 0, map_leaf_index(PST_SLOT_CATALOG, 0), false, w, &leaf);

	if (got == MAP_WAIT)
		return;
	if (got != MAP_OK) {
		recovery_end(r, got == MAP_ERROR ? w->err : PST_E_CHECKSUM, "the catalog can't be found");
		return;
	}
	map_pin(leaf); /* for as long as the pool is open: see catalog_freeze */
	memcpy(r->catalog_ptrs, leaf->data->entry, sizeof(r->catalog_ptrs));
	for (uint32_t i = 0; i < pst_div_round_up(r->root.catalog_bytes, PST_BLOCK_BYTES); i++) {
		if (r->catalog_ptrs[i].block == 0) {
			recovery_end(r, PST_E_CHECKSUM, "a part of the catalog is missing");
			return;
		}
	}
	r->catalog_at = 0;
	catalog_block(r);
}

static void root_loaded(struct waiter *w)
{
	struct recovery *r = pst_container_of(w, struct recovery, wait);

	if (w->err != PST_OK) {
		recovery_end(r, w->err, "the root of its map is damaged");
	} else if (r->p->index == 0 && r->root.catalog_bytes > 0) {
		r->wait.run = catalog_leaf;
		store_wake(r->st, &r->wait);
	} else {
		apply_begin(r);
	}
}

void recovery_apply(struct recovery *r)
{
	pst_err err;

	r->wait.run = root_loaded;
	r->wait.err = PST_OK;
	err = map_open(r->p, r->root.map, &r->wait);
	if (err != PST_OK)
		recovery_end(r, err, "the root of its map is damaged");
}

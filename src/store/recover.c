/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Recovery of one partition: from what is on disk to the last state that may be shown, then a checkpoint of it.
 *
 *   root -> space map -> log: read from the root's log_seq on, as far as the chain of CRCs goes
 *        -> scan: the farthest proof, and the aborts
 *        -> verify: the data of write records beyond the proof is read, and blocks whose CRC does not match are
 * dropped: they were not flushed, and the mapping before them still stands, because its blocks were not reusable
 *        -> (partition 0) catalog -> apply: all records in order -> checkpoint, with a new incarnation of the log;
 * none after a clean close
 *
 * The proof is durable_seq after another boot (what was not flushed may be gone), completed_seq after the same boot
 * (what was written has reached the kernel). Nothing is written before the checkpoint, and its nodes go only to blocks
 * that no verified record and no part of the old root needs; so recovery that is cut short begins again.
 *
 * After a failed flush (no boot id in the superblock) what was not flushed may be readable, because the kernel still
 * has it, and yet be clean to it, so that no flush ever brings it to the disk. What recovery builds on is therefore
 * written again as it is: first the root, with a flush, then the verified data, which the checkpoint's flush covers.
 */
#include "store/internal.h"
#include "store/move.h"
#include "store/recover-read.h"

#include "base/crc32c.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHUNK_BLOCKS 128u
#define CLEAN_CHUNK_BLOCKS 8u /* of the log, where it should be empty */
#define VERIFIERS 8u
#define VERIFY_TRIES 3u

struct item {
	const struct pst_log_record *record;
	uint64_t seq;
	uint32_t index;
	bool aborted;
	uint8_t bad[PST_PIECE_BLOCKS_MAX / 8]; /* blocks that did not verify */
};

struct verifier {
	struct recovery *r;
	struct item *item; /* NULL: idle */
	unsigned tries;
	struct pst_file_op op;
	struct iovec iov;
	uint8_t *buf;
};

struct recovery {
	struct store *st;
	struct part *p;
	struct waiter *done;
	struct waiter wait;
	char *detail;
	bool clean, same_boot, rewrites;
	struct recover_read read;
	uint8_t *chunk; /* what was read */
	void (*next)(struct recovery *r);
	struct pst_file_op op; /* the root, if it is written again */
	struct iovec iov;
	struct pst_root root;
	uint32_t page;
	struct pst_log_block *log;
	uint32_t log_count, log_capacity;
	uint64_t proven; /* records up to this block need no verification */
	struct item *items;
	size_t item_count, at;
	struct verifier verifiers[VERIFIERS];
	unsigned verifying;
	uint64_t dropped;
	uint8_t *catalog;
	uint32_t catalog_at;
	struct pst_ptr catalog_ptrs[PST_NODE_FANOUT];
};

static bool has_data(const struct pst_log_record *rec)
{
	return rec->kind == PST_LOG_WRITE || rec->kind == PST_LOG_MOVE;
}

static void was_read(struct recover_read *read, pst_err err);

struct recovery *recovery_new(struct store *st, bool same_boot, struct waiter *done, char *detail)
{
	struct recovery *r = calloc(1, sizeof(*r));

	if (r == NULL)
		return NULL;
	r->st = st;
	r->clean = st->sb->clean != 0 && st->sb->version == PST_SB_VERSION; /* else there is a catalog to rewrite */
	r->same_boot = same_boot;
	r->rewrites = !same_boot && st->sb->boot_id[0] == '\0';
	r->done = done;
	r->detail = detail;
	pst_list_init(&r->wait.node);
	r->chunk = aligned_alloc(PST_BLOCK_BYTES, (size_t)CHUNK_BLOCKS * PST_BLOCK_BYTES);
	r->read = (struct recover_read){ .buf = r->chunk, .done = was_read };
	r->catalog = aligned_alloc(PST_BLOCK_BYTES, PST_CATALOG_BYTES_MAX);
	for (unsigned i = 0; i < VERIFIERS; i++) {
		r->verifiers[i].r = r;
		r->verifiers[i].buf = aligned_alloc(PST_BLOCK_BYTES, (size_t)PST_PIECE_BLOCKS_MAX * PST_BLOCK_BYTES);
		if (r->verifiers[i].buf == NULL || r->chunk == NULL || r->catalog == NULL) {
			recovery_free(r);
			return NULL;
		}
	}
	return r;
}

void recovery_free(struct recovery *r)
{
	if (r == NULL)
		return;
	for (unsigned i = 0; i < VERIFIERS; i++)
		free(r->verifiers[i].buf);
	free(r->chunk);
	free(r->catalog);
	free(r->log);
	free(r->items);
	free(r);
}

static void end(struct recovery *r, pst_err err, const char *what)
{
	if (err != PST_OK && r->detail[0] == '\0')
		snprintf(r->detail, PST_DETAIL_BYTES, "partition %u: %s (%s)", r->p->index, what, pst_err_text(err));
	r->done->err = err;
	store_wake(r->st, r->done);
}

static void was_read(struct recover_read *read, pst_err err)
{
	struct recovery *r = pst_container_of(read, struct recovery, read);

	if (err != PST_OK)
		end(r, err, "its metadata can't be read");
	else
		r->next(r);
}

/* ---- Checkpoint: the end ---- */

static bool is_bad(const struct item *item, uint32_t i)
{
	return (item->bad[i / 8] >> (i % 8) & 1) != 0;
}

/* Snapshots take blocks while the log is replayed: not those that records to come have written their data to. */
static void hold_blocks(struct recovery *r)
{
	for (size_t at = r->at; at < r->item_count; at++) {
		const struct item *item = &r->items[at];

		if (item->aborted || item->record->kind != PST_LOG_WRITE)
			continue;
		for (uint32_t i = 0; i < item->record->count; i++)
			if (!is_bad(item, i))
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
	end(r, w->err, "the checkpoint after recovery failed");
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
		end(r, PST_OK, "");
		return;
	}
	p->incarnation++;
	/* Old data is kept as long as there is room: if a read failed by chance, a second recovery may want it. */
	if (p->alloc.free_count < checkpoint_need(p))
		release_freed(r);
	if (p->alloc.free_count < checkpoint_need(p)) {
		end(r, PST_E_NOSPACE, "no room for the checkpoint after recovery");
		return;
	}
	r->wait.run = after_checkpoint;
	r->wait.err = PST_OK;
	checkpoint_want(p, &r->wait);
}

/* ---- Apply ---- */

static pst_err apply_blocks(struct recovery *r, const struct item *item, struct node *leaf)
{
	const struct pst_log_record *rec = item->record;
	const uint32_t *crc = pst_log_record_body(rec);
	bool damaged = false;

	map_pin(leaf);
	for (uint32_t i = 0; i < rec->count; i++) {
		uint32_t at = (uint32_t)(rec->lba % PST_NODE_FANOUT) + i, freed = 0;

		if (rec->kind == PST_LOG_DISCARD)
			map_set(leaf, at, 0, 0, &freed, &damaged);
		else if (rec->kind == PST_LOG_MOVE && !is_bad(item, i))
			(void)move_apply_one(leaf, at, crc[rec->count + i], rec->block + i, crc[i], &freed, &damaged);
		else if (!is_bad(item, i))
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

static enum map_result apply_versions(struct recovery *r, const struct item *item)
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
		const struct item *item = &r->items[r->at];
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
		if (!has_data(rec) && rec->kind != PST_LOG_DISCARD) {
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
		end(r, err, "its log does not fit its map");
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
		end(r, PST_E_CHECKSUM, "a block of the catalog is damaged");
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
		end(r, err, "the catalog makes no sense");
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
		end(r, got == MAP_ERROR ? w->err : PST_E_CHECKSUM, "the catalog can't be found");
		return;
	}
	map_pin(leaf); /* for as long as the pool is open: see catalog_freeze */
	memcpy(r->catalog_ptrs, leaf->data->entry, sizeof(r->catalog_ptrs));
	for (uint32_t i = 0; i < pst_div_round_up(r->root.catalog_bytes, PST_BLOCK_BYTES); i++) {
		if (r->catalog_ptrs[i].block == 0) {
			end(r, PST_E_CHECKSUM, "a part of the catalog is missing");
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
		end(r, w->err, "the root of its map is damaged");
	} else if (r->p->index == 0 && r->root.catalog_bytes > 0) {
		r->wait.run = catalog_leaf;
		store_wake(r->st, &r->wait);
	} else {
		apply_begin(r);
	}
}

static void open_map(struct recovery *r)
{
	pst_err err;

	r->wait.run = root_loaded;
	r->wait.err = PST_OK;
	err = map_open(r->p, r->root.map, &r->wait);
	if (err != PST_OK)
		end(r, err, "the root of its map is damaged");
}

/* ---- Verify ---- */

static void verify_more(struct recovery *r);

static void verify_submit(struct verifier *v, enum pst_file_kind kind)
{
	struct part *p = v->r->p;
	const struct pst_log_record *rec = v->item->record;

	v->iov = (struct iovec){ v->buf, (size_t)rec->count * PST_BLOCK_BYTES };
	v->op.kind = kind;
	v->op.iov = &v->iov;
	v->op.iov_count = 1;
	v->op.len_bytes = v->iov.iov_len;
	part_submit(p, &v->op, rec->block);
}

static void verify_done(struct pst_file_op *op)
{
	struct verifier *v = pst_container_of(op, struct verifier, op);
	struct recovery *r = v->r;
	const uint32_t *crc = pst_log_record_body(v->item->record);

	r->st->outstanding--;
	if (op->err != PST_OK && ++v->tries < VERIFY_TRIES) {
		verify_submit(v, op->kind);
		return;
	}
	if (op->err == PST_OK && op->kind == PST_FILE_READ && r->rewrites) {
		v->tries = 0;
		verify_submit(v, PST_FILE_WRITE);
		return;
	}
	for (uint32_t i = 0; i < v->item->record->count; i++) {
		if (op->err == PST_OK && pst_crc32c(v->buf + (size_t)i * PST_BLOCK_BYTES, PST_BLOCK_BYTES) == crc[i])
			continue;
		v->item->bad[i / 8] |= (uint8_t)(1u << (i % 8));
		r->dropped++;
	}
	v->item = NULL;
	r->verifying--;
	verify_more(r);
}

static void verify_more(struct recovery *r)
{
	for (unsigned i = 0; i < VERIFIERS; i++) {
		struct verifier *v = &r->verifiers[i];

		if (v->item != NULL)
			continue;
		while (r->at < r->item_count) {
			struct item *item = &r->items[r->at++];

			if (item->aborted || !has_data(item->record) || item->seq <= r->proven ||
			    PST_MUTANT == PST_MUTANT_RECOVER_UNVERIFIED)
				continue;
			v->item = item;
			v->tries = 0;
			v->op.done = verify_done;
			r->verifying++;
			verify_submit(v, PST_FILE_READ);
			break;
		}
	}
	if (r->verifying == 0 && r->at == r->item_count)
		open_map(r);
}

/* ---- Scan ---- */

static void mark_aborted(struct recovery *r, const struct pst_log_record *abort)
{
	for (size_t i = 0; i < r->item_count; i++)
		if (r->items[i].seq == abort->lba && r->items[i].index == abort->count)
			r->items[i].aborted = true;
}

static pst_err scan_block(struct recovery *r, const struct pst_log_block *b)
{
	const struct pst_log_record *rec;
	uint32_t at = 0, index = 0;
	bool bad = false;

	r->proven = PST_MAX(r->proven, r->same_boot ? b->completed_seq : b->durable_seq);
	while ((rec = pst_log_block_next(b, &at, &bad)) != NULL) {
		if (has_data(rec) && !pst_alloc_valid(&r->p->alloc, rec->block, rec->count))
			return PST_E_FORMAT;
		if (rec->kind == PST_LOG_ABORT)
			mark_aborted(r, rec);
		else
			r->items[r->item_count++] = (struct item){ .record = rec, .seq = b->seq, .index = index };
		index++;
	}
	return bad ? PST_E_FORMAT : PST_OK;
}

static void scan(struct recovery *r)
{
	struct part *p = r->p;
	uint64_t records = 0, end_seq = r->root.log_seq + r->log_count - 1;
	pst_err err = PST_OK;

	for (uint32_t i = 0; i < r->log_count; i++)
		records += r->log[i].record_count;
	free(r->items);
	r->items = calloc(PST_MAX(records, 1u), sizeof(r->items[0]));
	if (r->items == NULL) {
		end(r, PST_E_NOMEM, "its log");
		return;
	}
	r->item_count = 0;
	r->proven = 0;
	for (uint32_t i = 0; err == PST_OK && i < r->log_count; i++)
		err = scan_block(r, &r->log[i]);
	if (err != PST_OK) {
		end(r, err, "its log has records that this program does not know");
		return;
	}
	p->head_seq = end_seq + 1;
	p->tail_seq = r->root.log_seq;
	p->written_seq = end_seq;
	p->durable_seq = 0;
	p->prev_crc = r->log_count > 0 ? r->log[r->log_count - 1].crc : r->root.log_prev_crc;
	r->at = 0;
	verify_more(r);
}

/* ---- Log ---- */

static void log_read(struct recovery *r);

/*
 * The chain ends at this block. Later blocks of the same incarnation may lie beyond: they were under way. But one that
 * says that a block of the gap had been durable (after the same boot: written) shows that the log is damaged, and that
 * going on would silently lose what was flushed.
 */
static bool gap_is_damage(struct recovery *r, const struct pst_log_block *b, uint32_t count)
{
	uint64_t end_seq = r->root.log_seq + r->log_count - 1;

	for (uint32_t i = 0; i < count; i++) {
		if (b[i].seq <= end_seq || b[i].seq > end_seq + r->p->geo.log_blocks ||
		    !pst_log_block_follows(&b[i], r->p->index, r->root.incarnation, b[i].seq, b[i].prev_crc))
			continue;
		if ((r->same_boot ? b[i].completed_seq : b[i].durable_seq) > end_seq)
			return true;
	}
	return false;
}

static pst_err log_keep(struct recovery *r, const struct pst_log_block *b)
{
	if (r->log_count == r->log_capacity) {
		uint32_t capacity = r->log_capacity > 0 ? r->log_capacity * 2 : CHUNK_BLOCKS;
		struct pst_log_block *log = realloc(r->log, (size_t)capacity * sizeof(*log));

		if (log == NULL)
			return PST_E_NOMEM;
		r->log = log;
		r->log_capacity = capacity;
	}
	r->log[r->log_count++] = *b;
	return PST_OK;
}

static void log_chunk(struct recovery *r)
{
	const struct pst_log_block *b = (const void *)r->chunk;
	uint32_t count = r->read.count;

	for (uint32_t i = 0; i < count; i++) {
		uint32_t prev = r->log_count > 0 ? r->log[r->log_count - 1].crc : r->root.log_prev_crc;

		if (!pst_log_block_follows(&b[i], r->p->index, r->root.incarnation, r->root.log_seq + r->log_count,
					   prev)) {
			if (i == r->read.unreadable) /* it may be what comes next */
				end(r, PST_E_IO, "its log can't be read");
			else if (gap_is_damage(r, &b[i], count - i))
				end(r, PST_E_CHECKSUM, "its log is damaged: flushed records can't be read");
			else
				scan(r);
			return;
		}
		if (log_keep(r, &b[i]) != PST_OK) {
			end(r, PST_E_NOMEM, "its log");
			return;
		}
	}
	log_read(r);
}

static void log_read(struct recovery *r)
{
	const struct pst_sb_partition *geo = &r->p->geo;
	uint32_t at = (uint32_t)((r->root.log_seq + r->log_count) % geo->log_blocks);
	uint32_t count = PST_MIN(r->clean ? CLEAN_CHUNK_BLOCKS : CHUNK_BLOCKS, geo->log_blocks - at);

	count = PST_MIN(count, geo->log_blocks - r->log_count);
	if (count == 0) {
		scan(r);
		return;
	}
	r->next = log_chunk;
	recover_read_blocks(&r->read, geo->log_start + at, count);
}

/* ---- Space map and root ---- */

static void space_read(struct recovery *r);

static void space_chunk(struct recovery *r)
{
	const struct pst_space_page *copies = (const void *)r->chunk;
	uint32_t pages = r->read.count / 2;

	for (uint32_t i = 0; i < pages; i++, r->page++) {
		pst_err err = pst_alloc_load_page(&r->p->alloc, r->page, &copies[(size_t)2 * i], r->root.generation);

		if (err != PST_OK) {
			end(r, err, "both copies of a page of its space map are damaged");
			return;
		}
	}
	space_read(r);
}

static void space_read(struct recovery *r)
{
	struct part *p = r->p;
	uint32_t known = r->root.space_pages != 0 ? r->root.space_pages : p->geo.space_pages, pages = 1;
	pst_err err;

	/* As many as lie in a row. Pages that the root does not know are those of space that was added after it. */
	if (known <= p->alloc.pages && r->page < known) {
		while (pages < CHUNK_BLOCKS / 2 && r->page + pages < known &&
		       part_space_page(p, r->page + pages, 0) == part_space_page(p, r->page, 0) + 2 * pages)
			pages++;
		r->next = space_chunk;
		recover_read_pairs(&r->read, part_space_page(p, r->page, 0), pages * 2);
		return;
	}
	err = pst_alloc_loaded(&p->alloc, known, r->root.space_digest, r->root.used_blocks);
	if (err != PST_OK)
		end(r, err, "its space map is not the one that its root means");
	else
		log_read(r);
}

static void root_flushed(struct waiter *w)
{
	struct recovery *r = pst_container_of(w, struct recovery, wait);

	if (w->err != PST_OK)
		end(r, w->err, "its root can't be flushed");
	else
		space_read(r);
}

static void root_rewritten(struct pst_file_op *op)
{
	struct recovery *r = pst_container_of(op, struct recovery, op);

	r->st->outstanding--;
	if (op->err != PST_OK) {
		end(r, op->err, "its root can't be written again");
		return;
	}
	/* Through the committer: were it to fail beside a flush of another partition's checkpoint, that one must too.
	 */
	r->wait.run = root_flushed;
	commit_wait(r->st, &r->wait);
}

/* The one block of it that was chosen; the root before it, in the other slot, is left alone. */
static void root_rewrite(struct recovery *r, const struct pst_root *root)
{
	uint64_t block = (uint64_t)(root - (const struct pst_root *)(const void *)r->chunk);

	r->iov = (struct iovec){ (void *)(uintptr_t)root, PST_BLOCK_BYTES };
	r->op = (struct pst_file_op){ .kind = PST_FILE_WRITE,
				      .iov = &r->iov,
				      .iov_count = 1,
				      .len_bytes = PST_BLOCK_BYTES,
				      .done = root_rewritten };
	part_submit(r->p, &r->op, block);
}

static void roots_read(struct recovery *r)
{
	struct part *p = r->p;
	const struct pst_root *root = pst_root_choose((const void *)r->chunk, r->st->sb->uuid, p->index);

	if (root == NULL) {
		end(r, PST_E_FORMAT, "none of its four root blocks is intact");
		return;
	}
	r->root = *root;
	if (root->log_seq == 0 || root->catalog_bytes > PST_CATALOG_BYTES_MAX) {
		end(r, PST_E_FORMAT, "its root makes no sense");
		return;
	}
	p->generation = root->generation;
	p->incarnation = root->incarnation;
	p->catalog_bytes = root->catalog_bytes;
	if (r->rewrites)
		root_rewrite(r, root);
	else
		space_read(r);
}

void recovery_start(struct recovery *r, struct part *p)
{
	r->p = p;
	r->read.part = p;
	r->page = 0;
	r->log_count = 0;
	r->dropped = 0;
	r->wait.err = PST_OK;
	r->next = roots_read;
	recover_read_pairs(&r->read, 0, PST_ROOT_SLOTS);
}

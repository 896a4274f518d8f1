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
#include "store/recover.h"

#include "base/crc32c.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHUNK_BLOCKS 128u
#define CLEAN_CHUNK_BLOCKS 8u /* of the log, where it should be empty */
#define VERIFY_TRIES 3u

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
	for (unsigned i = 0; i < RECOVER_VERIFIERS; i++) {
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
	for (unsigned i = 0; i < RECOVER_VERIFIERS; i++)
		free(r->verifiers[i].buf);
	free(r->chunk);
	free(r->catalog);
	free(r->log);
	free(r->items);
	free(r);
}

void recovery_end(struct recovery *r, pst_err err, const char *what)
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
		recovery_end(r, err, "its metadata can't be read");
	else
		r->next(r);
}

/* ---- Verify ---- */

static void verify_more(struct recovery *r);

static void verify_submit(struct recover_verifier *v, enum pst_file_kind kind)
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
	struct recover_verifier *v = pst_container_of(op, struct recover_verifier, op);
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
	for (unsigned i = 0; i < RECOVER_VERIFIERS; i++) {
		struct recover_verifier *v = &r->verifiers[i];

		if (v->item != NULL)
			continue;
		while (r->at < r->item_count) {
			struct recover_item *item = &r->items[r->at++];

			if (item->aborted || !recover_has_data(item->record) || item->seq <= r->proven ||
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
		recovery_apply(r);
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
		if (recover_has_data(rec) && !pst_alloc_valid(&r->p->alloc, rec->block, rec->count))
			return PST_E_FORMAT;
		if (rec->kind == PST_LOG_ABORT)
			mark_aborted(r, rec);
		else
			r->items[r->item_count++] =
			    (struct recover_item){ .record = rec, .seq = b->seq, .index = index };
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
		recovery_end(r, PST_E_NOMEM, "its log");
		return;
	}
	r->item_count = 0;
	r->proven = 0;
	for (uint32_t i = 0; err == PST_OK && i < r->log_count; i++)
		err = scan_block(r, &r->log[i]);
	if (err != PST_OK) {
		recovery_end(r, err, "its log has records that this program does not know");
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
				recovery_end(r, PST_E_IO, "its log can't be read");
			else if (gap_is_damage(r, &b[i], count - i))
				recovery_end(r, PST_E_CHECKSUM, "its log is damaged: flushed records can't be read");
			else
				scan(r);
			return;
		}
		if (log_keep(r, &b[i]) != PST_OK) {
			recovery_end(r, PST_E_NOMEM, "its log");
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
			recovery_end(r, err, "both copies of a page of its space map are damaged");
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
		recovery_end(r, err, "its space map is not the one that its root means");
	else
		log_read(r);
}

static void root_flushed(struct waiter *w)
{
	struct recovery *r = pst_container_of(w, struct recovery, wait);

	if (w->err != PST_OK)
		recovery_end(r, w->err, "its root can't be flushed");
	else
		space_read(r);
}

static void root_rewritten(struct pst_file_op *op)
{
	struct recovery *r = pst_container_of(op, struct recovery, op);

	r->st->outstanding--;
	if (op->err != PST_OK) {
		recovery_end(r, op->err, "its root can't be written again");
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
		recovery_end(r, PST_E_FORMAT, "none of its four root blocks is intact");
		return;
	}
	r->root = *root;
	if (root->log_seq == 0 || root->catalog_bytes > PST_CATALOG_BYTES_MAX) {
		recovery_end(r, PST_E_FORMAT, "its root makes no sense");
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

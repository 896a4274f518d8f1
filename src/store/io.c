/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Requests of volumes. A request is cut into pieces, each inside one leaf of the map; a write's piece lies in one run
 * of newly allocated blocks, a read's in one run of blocks. The request itself is what waits: for a node to be loaded,
 * for space, for a piece. It goes on where it was as soon as it can (req_run), so its pieces are under way together.
 *
 *   write:   room in log, cache and pool -> blocks -> data write and record, side by side -> applied in log order
 *   discard: like a write, without data and blocks; leaves that don't exist are passed over
 *   read:    map -> device -> CRC of every block; what does not match is an error, never data
 *
 * A read's blocks can't be handed out again while it is under way: it is in store.reads, see commit.c.
 */
#include "store/bad.h"
#include "store/piece.h"
#include "store/prefetch.h"
#include "store/readahead.h"
#include "store/space.h"

#include "volume/iov.h"

#include <string.h>

enum step { STEP_ON, STEP_WAIT };

/* ---- The end of a request ---- */

static void req_finish(struct req *r)
{
	struct store *st = r->store;
	struct svol *v = r->vol;

	io_complete(st, r->io, r->err);
	pst_list_push_back(&st->free_reqs, &r->wait.node);
	svol_io_done(v);
}

static void req_durable(struct waiter *w)
{
	struct req *r = pst_container_of(w, struct req, wait);

	r->err = w->err;
	w->err = PST_OK;
	req_finish(r);
}

/* Nothing of it is in flight: it waits without a request until there is space, and goes on where it was. */
static void req_pause(struct req *r)
{
	struct svol *v = r->vol;

	r->io->scratch[IO_DONE_BLOCKS] = r->at - r->io->lba;
	space_pause(r->full, r->io);
	pst_list_push_back(&r->store->free_reqs, &r->wait.node);
	store_schedule(r->store);
	svol_io_done(v);
}

static void req_check_done(struct req *r)
{
	if (r->full != NULL && r->pieces == 0 && r->err == PST_OK && r->vol->closing == NULL && !r->store->closing) {
		req_pause(r);
		return;
	}
	if (r->full != NULL && r->pieces == 0) {
		r->issued = true;
		if (r->err == PST_OK)
			r->err = PST_E_CANCELLED;
	}
	if (!r->issued || r->pieces > 0)
		return;
	if ((r->io->flags & PST_IO_FUA) != 0 && r->err == PST_OK) { /* a read may have found what is not durable yet */
		r->wait.run = req_durable;
		commit_wait(r->store, &r->wait);
		return;
	}
	req_finish(r);
}

static void req_piece_done(struct req *r, struct piece *piece, pst_err err)
{
	if (piece->begun_ns != 0)
		r->io->device_ns = PST_MAX(r->io->device_ns, pst_env_now_ns(r->store->pool.env) - piece->begun_ns);
	if (r->err == PST_OK)
		r->err = err;
	r->pieces--;
	req_check_done(r);
}

/* ---- Read ---- */

/* Block @i of the piece, and never data for it. */
static void read_bad(struct piece *piece, uint32_t i, pst_err err)
{
	struct req *r = piece->req;
	struct part *p = piece->logged.part;
	uint64_t lba = r->io->lba + piece->io_block + i, local;
	uint32_t count;

	piece_locate(r->store, lba, 1, &local, &count);
	bad_found(p, r->vol->disk.slot, local, piece->block + i, err, false);
	piece->err = err;
}

static void read_done(struct pst_file_op *op)
{
	struct piece *piece = pst_container_of(op, struct piece, op);
	struct store *st = piece->req->store;
	const struct iovec *at = op->iov;
	size_t offset = 0;

	st->outstanding--;
	reading_end(&piece->reading);
	piece->err = PST_OK;
	for (uint32_t i = 0; i < piece->count; i++) {
		if (op->err != PST_OK)
			read_bad(piece, i, op->err);
		else if (piece_crc(&at, &offset) != piece->crc[i] && PST_MUTANT != PST_MUTANT_SKIP_CRC)
			read_bad(piece, i, PST_E_CHECKSUM);
	}
	if (piece->err != PST_OK)
		pst_iov_zero(piece->iov, 0, (uint64_t)piece->count * PST_BLOCK_BYTES);
	else if (piece->bounce != NULL)
		pst_iov_copy_to(piece->iov, 0, piece->bounce, (size_t)piece->count * PST_BLOCK_BYTES);
	req_piece_done(piece->req, piece, piece->err);
	piece_put(st, piece);
	store_schedule(st); /* blocks that waited for this read */
}

static enum step read_step(struct req *r)
{
	struct store *st = r->store;
	uint64_t local, io_block = r->at - r->io->lba;
	uint32_t count, i, n;
	struct part *p = piece_locate(st, r->at, r->end - r->at, &local, &count);
	struct node *leaf = NULL;
	enum map_result got = map_get(p, 0, map_leaf_index(r->vol->disk.slot, local), false, &r->wait, &leaf);
	const struct pst_ptr *entry;
	struct piece *piece;

	if (got == MAP_WAIT)
		return STEP_WAIT;
	if (got == MAP_ERROR) {
		r->err = r->wait.err;
		return STEP_ON;
	}
	i = (uint32_t)(local % PST_NODE_FANOUT);
	entry = leaf != NULL ? &leaf->data->entry[i] : NULL;
	if (entry == NULL || entry->block == 0) {
		for (n = 1; n < count && (entry == NULL || entry[n].block == 0);)
			n++;
		pst_iov_hole(r->io, io_block, n);
		r->at += n;
		return STEP_ON;
	}
	if (pst_ptr_block(*entry) == PST_PTR_LOST) {
		r->err = PST_E_CHECKSUM;
		return STEP_ON;
	}
	switch (readahead_serve(r->vol, r->at, entry, count, r->io, io_block, &r->wait, &n)) {
	case READAHEAD_SERVED:
		r->at += n;
		return STEP_ON;
	case READAHEAD_WAIT:
		return STEP_WAIT;
	default:
		break;
	}
	for (n = 1; n < count && pst_ptr_block(entry[n]) == pst_ptr_block(entry[0]) + n;)
		n++;
	piece = piece_get(r, p, NULL, n);
	if (piece == NULL)
		return STEP_WAIT;
	piece->io_block = io_block;
	if (!piece_buffers(piece))
		return STEP_WAIT;
	piece->block = pst_ptr_block(*entry);
	for (i = 0; i < piece->count; i++)
		piece->crc[i] = entry[i].crc;
	reading_begin(st, &piece->reading);
	r->at += piece->count;
	piece_submit(piece, PST_FILE_READ, read_done);
	return STEP_ON;
}

/* ---- Room ---- */

static enum step admit(struct req *r, struct part *p)
{
	pst_err err = part_admit(p, false, &r->wait);

	if (err == PST_E_AGAIN)
		return STEP_WAIT;
	r->err = err;
	return STEP_ON;
}

static enum step wait_for_space(struct req *r, struct part *p)
{
	pst_err err = part_space_wait(p, &r->wait, &r->space_checkpoint);

	bool merging = p->store->merging.version != NULL && !p->store->merging.starved;

	if (err == PST_E_NOSPACE && merging) { /* what was deleted is about to come back */
		r->space_checkpoint = 0;
		pst_list_push_back(&p->space_waiters, &r->wait.node);
		return STEP_WAIT;
	}
	if (err == PST_OK)
		return STEP_WAIT;
	if (err == PST_E_NOSPACE && space_full(p, r->vol) && r->io->kind == PST_IO_WRITE) {
		r->full = p;
		if (r->pieces == 0)
			req_check_done(r);
		return STEP_WAIT;
	}
	r->err = err;
	return STEP_ON;
}

/* ---- What a record says, in the map ---- */

/* Its blocks, or holes where it has none. The leaf is let go. */
static void map_piece(struct piece *piece, bool has_blocks)
{
	const struct logged *l = &piece->logged;
	uint32_t at = (uint32_t)(l->record.lba % PST_NODE_FANOUT);
	struct svol *v = piece->req->vol;
	struct store *st = l->part->store;
	bool damaged = false;

	for (uint32_t i = 0; st->failed == PST_OK && i < piece->count; i++) {
		uint32_t block = has_blocks ? piece->block + i : 0, crc = has_blocks ? piece->crc[i] : 0, freed;
		int mapped = map_set(piece->leaf, at + i, block, crc, &freed, &damaged);

		v->used_blocks += (uint64_t)(int64_t)mapped;
		if (freed != 0)
			part_free_data(l->part, l->seq, freed);
	}
	if (damaged)
		store_fail(st, PST_E_CHECKSUM, "space_map_damaged");
	bad_overwritten(l->part, v->disk.slot, l->record.lba, piece->count);
	readahead_overwritten(v, l->part, l->record.lba, piece->count);
	space_used(v, piece->leaf);
	map_unpin(piece->leaf);
}

/* ---- Write ---- */

/* Only now is the failure told: before, the death of the process or a loss of power after a flush could undo it. */
static void abort_apply(struct logged *l)
{
	struct piece *piece = pst_container_of(l, struct piece, logged);
	struct part *p = l->part;

	journal_abort_applied(p);
	freed_push(&p->freed, l->seq, 0, piece->block, piece->count);
	req_piece_done(piece->req, piece, piece->err);
	piece_put(p->store, piece);
}

static void write_apply(struct logged *l)
{
	struct piece *piece = pst_container_of(l, struct piece, logged);
	struct part *p = l->part;
	struct store *st = p->store;
	struct req *r = piece->req;

	if (st->failed != PST_OK) {
		map_unpin(piece->leaf);
		req_piece_done(r, piece, PST_E_IO);
		piece_put(st, piece); /* its blocks stay busy: the log may speak of them */
		return;
	}
	if (piece->err != PST_OK) {
		map_unpin(piece->leaf);
		journal_abort(l, abort_apply); /* its blocks stay taken until that is durable */
		return;
	}
	map_piece(piece, true);
	st->unflushed_blocks += piece->count;
	req_piece_done(r, piece, PST_OK);
	piece_put(st, piece);
}

static void write_done(struct pst_file_op *op)
{
	struct piece *piece = pst_container_of(op, struct piece, op);

	piece->req->store->outstanding--;
	piece->req->store->writing_bytes -= op->len_bytes;
	piece->err = op->err;
	piece->logged.ready = true;
	store_schedule(piece->req->store);
}

static void write_piece_start(struct piece *piece, uint64_t local)
{
	struct part *p = piece->logged.part;
	const struct iovec *at = piece->iov;
	size_t offset = 0;

	for (uint32_t i = 0; i < piece->count; i++)
		piece->crc[i] = piece_crc(&at, &offset);
	if (piece->bounce != NULL)
		pst_iov_copy_from(piece->bounce, piece->iov, 0, (size_t)piece->count * PST_BLOCK_BYTES);
	piece->logged.record = (struct pst_log_record){ .kind = PST_LOG_WRITE,
							.slot = piece->req->vol->disk.slot,
							.lba = local,
							.block = piece->block,
							.count = piece->count };
	piece->logged.body = piece->crc;
	piece->logged.body_bytes = piece->count * (uint32_t)sizeof(piece->crc[0]);
	piece->logged.ready = false;
	piece->logged.apply = write_apply;
	map_pin(piece->leaf);
	piece->req->store->writing_bytes += (uint64_t)piece->count * PST_BLOCK_BYTES;
	piece_submit(piece, PST_FILE_WRITE, write_done);
	journal_add(p, &piece->logged);
}

/* Does writing there take more blocks than it gives back? Holes do, and what is shared with a snapshot. */
static bool needs_space(const struct node *leaf, uint64_t local, uint32_t count)
{
	if (leaf == NULL)
		return true;
	for (uint32_t i = 0; i < count; i++)
		if (!map_is_own(leaf, (uint32_t)(local % PST_NODE_FANOUT) + i))
			return true;
	return false;
}

static enum step write_step(struct req *r)
{
	struct store *st = r->store;
	uint64_t local, index, floor;
	uint32_t count;
	struct part *p = piece_locate(st, r->at, r->end - r->at, &local, &count);
	struct node *leaf = NULL;
	enum map_result got;
	struct piece *piece;

	if (r->io->recalled) {
		r->err = PST_E_CANCELLED;
		return STEP_ON;
	}
	if (admit(r, p) == STEP_WAIT)
		return STEP_WAIT;
	if (r->err != PST_OK)
		return STEP_ON;
	index = map_leaf_index(r->vol->disk.slot, local);
	got = map_get(p, 0, index, false, &r->wait, &leaf);
	if (got == MAP_WAIT)
		return STEP_WAIT;
	if (got == MAP_ERROR) {
		r->err = r->wait.err;
		return STEP_ON;
	}
	/* Nodes that a checkpoint must write come first; writes to holes leave a reserve for overwrites and deletes. */
	floor = space_floor(p, r->vol, needs_space(leaf, local, count));
	if (p->alloc.free_count <= floor)
		return wait_for_space(r, p);
	count = (uint32_t)PST_MIN(count, p->alloc.free_count - floor);
	if (!cache_room(st, PST_NODE_LEVELS)) {
		pst_list_push_back(&st->cache.waiters, &r->wait.node);
		checkpoint_want(p, NULL);
		return STEP_WAIT;
	}
	piece = piece_get(r, p, NULL, count);
	if (piece == NULL)
		return STEP_WAIT;
	piece->io_block = r->at - r->io->lba;
	if (!piece_buffers(piece))
		return STEP_WAIT;
	got = map_get(p, 0, index, true, &r->wait, &piece->leaf);
	if (got != MAP_OK) { /* out of memory, or it was evicted just now: it waits in either case */
		piece_put(st, piece);
		return STEP_WAIT;
	}
	piece->count = pst_alloc_take(&p->alloc, piece->count, &piece->block);
	pst_assert(piece->count > 0);
	/* The run may be shorter than wished. */
	piece_iov(piece->iov, r->io->iov, piece->io_block * PST_BLOCK_BYTES, (uint64_t)piece->count * PST_BLOCK_BYTES);
	if (piece->bounce != NULL)
		piece->bounce_iov.iov_len = (size_t)piece->count * PST_BLOCK_BYTES;
	else
		piece->op.iov_count = piece_iov(piece->iov, r->io->iov, piece->io_block * PST_BLOCK_BYTES,
						(uint64_t)piece->count * PST_BLOCK_BYTES);
	r->at += piece->count;
	r->space_checkpoint = 0;
	write_piece_start(piece, local); /* pins the leaf */
	prefetch_leaf(p, r->vol, local, r->io->block_count);
	return STEP_ON;
}

/* ---- Discard, write zeroes: holes from now on ---- */

static void discard_apply(struct logged *l)
{
	struct piece *piece = pst_container_of(l, struct piece, logged);
	struct store *st = l->part->store;

	map_piece(piece, false);
	req_piece_done(piece->req, piece, st->failed != PST_OK ? PST_E_IO : PST_OK);
	piece_put(st, piece);
}

static enum step discard_step(struct req *r)
{
	struct store *st = r->store;
	struct part *p = &st->parts[r->part_index];
	struct node *leaf = NULL;
	struct piece *piece;
	enum map_result got = MAP_HOLE;

	if (r->at < r->end) {
		if (admit(r, p) == STEP_WAIT)
			return STEP_WAIT;
		if (r->err != PST_OK)
			return STEP_ON;
		got = map_next_leaf(p, r->vol->disk.slot, &r->at, r->end, &r->wait, &leaf);
	}
	if (got == MAP_WAIT)
		return STEP_WAIT;
	if (got == MAP_ERROR) {
		r->err = r->wait.err;
		return STEP_ON;
	}
	if (got == MAP_HOLE) {
		if (++r->part_index < st->part_count) {
			r->at = part_local(st, r->part_index, r->io->lba);
			r->end = part_local(st, r->part_index, r->io->lba + r->io->block_count);
		}
		return STEP_ON;
	}
	if (p->alloc.free_count < space_last(p))
		return wait_for_space(r, p);
	piece = piece_get(r, p, leaf, (uint32_t)PST_MIN(r->end - r->at, PST_NODE_FANOUT - r->at % PST_NODE_FANOUT));
	if (piece == NULL)
		return STEP_WAIT;
	map_pin(leaf);
	piece->logged.record = (struct pst_log_record){
		.kind = PST_LOG_DISCARD, .slot = r->vol->disk.slot, .lba = r->at, .count = piece->count
	};
	piece->logged.body = NULL;
	piece->logged.body_bytes = 0;
	piece->logged.ready = true;
	piece->logged.apply = discard_apply;
	r->pieces++;
	r->at += piece->count;
	r->space_checkpoint = 0;
	journal_add(p, &piece->logged);
	return STEP_ON;
}

/* ---- Flush, and the machine ---- */

static void flush_step(struct req *r)
{
	struct svol *v = r->vol;
	char uuid[37];

	if (v->lost) {
		v->lost = false;
		store_event(
		    r->store, PST_LOG_ERROR,
		    "unflushed_writes_lost volume=%s: the machine stopped while it was open; check what uses it",
		    store_uuid_text(v->volume.uuid, uuid));
		/* Best effort: closing the volume logs it too. */
		if (!v->logged_busy && journal_room(&r->store->parts[0]))
			svol_log(v, v->disk.flags & ~(uint32_t)PST_VOLUME_LOST, NULL);
		r->err = PST_E_LOST;
		req_finish(r);
		return;
	}
	r->wait.run = req_durable;
	commit_wait(r->store, &r->wait);
}

static bool req_finished(const struct req *r)
{
	if (r->err != PST_OK)
		return true;
	if (r->io->kind == PST_IO_DISCARD || r->io->kind == PST_IO_WRITE_ZEROES)
		return r->part_index == r->store->part_count;
	return r->at == r->end;
}

static void req_run(struct waiter *w)
{
	struct req *r = pst_container_of(w, struct req, wait);

	while (!req_finished(r)) {
		enum step step = r->io->kind == PST_IO_READ    ? read_step(r)
				 : r->io->kind == PST_IO_WRITE ? write_step(r)
							       : discard_step(r);
		if (step == STEP_WAIT)
			return;
	}
	w->err = PST_OK;
	r->issued = true;
	req_check_done(r);
}

static void req_start(struct req *r, struct pst_io *io)
{
	struct svol *v;

	memcpy(&v, io->scratch, sizeof(v)); /* as svol_io_submit left it */
	*r = (struct req){ .store = r->store, .vol = v, .io = io, .at = io->lba, .end = io->lba + io->block_count };
	if (io->kind == PST_IO_WRITE)
		r->at += io->scratch[IO_DONE_BLOCKS];
	pst_list_init(&r->wait.node);
	r->wait.run = req_run;
	if (!pst_range_ok(io->lba, io->block_count, v->disk.block_count)) {
		r->err = PST_E_RANGE; /* it waited while the volume shrank */
		req_finish(r);
		return;
	}
	if (io->kind == PST_IO_FLUSH) {
		flush_step(r);
		return;
	}
	if (io->kind == PST_IO_DISCARD || io->kind == PST_IO_WRITE_ZEROES) {
		r->at = part_local(r->store, 0, io->lba);
		r->end = part_local(r->store, 0, io->lba + io->block_count);
	}
	if (io->kind == PST_IO_READ)
		readahead_note(v, io->lba, io->block_count);
	req_run(&r->wait);
}

void io_start(struct store *st)
{
	while (!pst_list_empty(&st->io_queue) && !pst_list_empty(&st->free_reqs)) {
		struct pst_io *io = pst_container_of(pst_list_pop_front(&st->io_queue), struct pst_io, node);
		struct req *r = pst_container_of(pst_list_pop_front(&st->free_reqs), struct req, wait.node);

		req_start(r, io);
	}
}

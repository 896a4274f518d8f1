/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A move is a write whose data comes from the disk and whose record names what it replaces:
 *
 *   read the blocks, in as many pieces as they lie in -> compare the CRCs -> as for a write: room in log, cache and
 *   pool, blocks, data write and MOVE record side by side -> applied in log order: each entry that still is what it was
 *   is replaced, and its old block freed; the new block of another is given back
 *
 * Why "still the same block" means "still the same contents": the move counts as a read from its beginning until its
 * record is applied, so no block that it has read can be freed, handed out again and written meanwhile.
 * Why recovery comes to the same result: records are applied in the same order, and a new block that was given back is
 * reusable only when the MOVE record is durable, hence proven with all before it. In an unproven tail, data that does
 * not verify is dropped like a write's: the entry stays, and its old block was not reusable.
 *
 * Failures: a block that can't be read, or has another CRC, ends the move before anything is written; it is
 * told as an event. A data write that fails ends in an ABORT record, like a write's.
 */
#include "store/move.h"

#include "store/bad.h"

static void move_write(struct waiter *w);

uint32_t move_old(const struct node *leaf, uint32_t i)
{
	struct pst_ptr ptr = leaf->data->entry[i];
	uint32_t block = pst_ptr_block(ptr);

	if (block == 0 || block == PST_PTR_LOST)
		return 0;
	return map_is_own(leaf, i) ? block : block | PST_PTR_INHERITED;
}

bool move_apply_one(struct node *leaf, uint32_t i, uint32_t old, uint32_t block, uint32_t crc, uint32_t *ret_free,
		    bool *ret_damaged)
{
	*ret_free = 0;
	if (move_old(leaf, i) != old || leaf->data->entry[i].crc != crc)
		return false;
	map_set(leaf, i, block, crc, ret_free, ret_damaged);
	return true;
}

static uint32_t *crcs(struct move *m)
{
	return m->body;
}

static uint32_t *olds(struct move *m)
{
	return m->body + m->count;
}

static void finish(struct move *m, pst_err err)
{
	m->err = err;
	reading_end(&m->reading);
	store_schedule(m->store); /* blocks that waited for this read */
	m->done(m);
}

/* It ends without a record: nothing speaks of the new blocks. */
static void cancel(struct move *m, pst_err err)
{
	if (m->block != 0)
		pst_alloc_release(&m->part->alloc, m->block, m->count);
	m->part->space_wake = true;
	finish(m, err);
}

/* More than the checkpoint needs must be left, and users' overwrites come first. */
static uint64_t floor_blocks(const struct part *p)
{
	return checkpoint_need(p) + (uint64_t)p->reserve;
}

/* ---- Read ---- */

static void fetched(struct fetch *f)
{
	struct move *m = pst_container_of(f, struct move, fetch);

	m->err = f->err;
	if (f->err != PST_OK)
		bad_found(m->part, m->slot, m->local + f->bad, olds(m)[f->bad] & PST_PTR_BLOCK, f->err, false);
	m->wait.run = move_write;
	store_wake(m->store, &m->wait);
}

pst_err move_room(struct part *p, uint32_t count, struct waiter *w, uint64_t *since)
{
	pst_err err;

	if (p->alloc.free_count > floor_blocks(p) + count) {
		*since = 0;
		return PST_OK;
	}
	err = part_space_wait(p, w, since);
	return err == PST_OK ? PST_E_AGAIN : err;
}

void move_begin(struct move *m, struct part *p, uint32_t slot, uint64_t local, const struct node *leaf, uint32_t count,
		uint8_t *buffer)
{
	uint32_t at = (uint32_t)(local % PST_NODE_FANOUT);

	pst_assert(count > 0 && count <= PST_PIECE_BLOCKS_MAX && at + count <= PST_NODE_FANOUT);
	m->store = p->store;
	m->part = p;
	m->slot = slot;
	m->local = local;
	m->count = count;
	m->moved = 0;
	m->err = m->wait.err = PST_OK;
	m->buffer = buffer;
	m->block = 0;
	pst_list_init(&m->wait.node);
	pst_list_init(&m->reading.node);
	for (uint32_t i = 0; i < count; i++) {
		crcs(m)[i] = leaf->data->entry[at + i].crc;
		olds(m)[i] = move_old(leaf, at + i);
		pst_assert(olds(m)[i] != 0);
	}
	/* Taken now, so that moves that go on side by side get their blocks in the order of their beginning. */
	if (p->alloc.free_count > floor_blocks(p) + count)
		pst_alloc_take_run(&p->alloc, count, &m->block);
	reading_begin(p->store, &m->reading);
	fetch_begin(&m->fetch, p, olds(m), crcs(m), count, buffer, fetched);
}

/* ---- Write ---- */

static void abort_applied(struct logged *l)
{
	struct move *m = pst_container_of(l, struct move, logged);
	struct part *p = m->part;

	journal_abort_applied(p);
	freed_push(&p->freed, l->seq, 0, m->block, m->count);
	finish(m, m->store->failed != PST_OK ? PST_E_IO : m->op.err);
}

static void move_apply(struct logged *l)
{
	struct move *m = pst_container_of(l, struct move, logged);
	struct part *p = m->part;
	struct store *st = m->store;
	uint32_t at = (uint32_t)(m->local % PST_NODE_FANOUT);
	bool damaged = false;

	if (st->failed != PST_OK || m->op.err != PST_OK) {
		map_unpin(m->leaf);
		if (st->failed != PST_OK)
			finish(m, PST_E_IO); /* its blocks stay busy: the log may speak of them */
		else
			journal_abort(l, abort_applied);
		return;
	}
	for (uint32_t i = 0; i < m->count; i++) {
		uint32_t freed = 0;

		if (!move_apply_one(m->leaf, at + i, olds(m)[i], m->block + i, crcs(m)[i], &freed, &damaged))
			freed_push(&p->freed, l->seq, 0, m->block + i, 1);
		else
			m->moved++;
		if (freed != 0)
			part_free_data(p, l->seq, freed);
	}
	if (damaged)
		store_fail(st, PST_E_CHECKSUM, "space_map_damaged");
	st->unflushed_blocks += m->count;
	map_unpin(m->leaf);
	finish(m, PST_OK);
}

static void write_done(struct pst_file_op *op)
{
	struct move *m = pst_container_of(op, struct move, op);

	m->store->outstanding--;
	m->logged.ready = true;
	store_schedule(m->store);
}

/* Blocks to write to, if they were not there at the beginning. */
static pst_err take_blocks(struct move *m)
{
	uint32_t want = m->count, got = 0;

	for (; got == 0 && want > 0 && want >= PST_MIN(m->run_min, m->count); want /= 2)
		got = pst_alloc_take_run(&m->part->alloc, want, &m->block);
	if (got == 0)
		return PST_E_NOSPACE;
	for (uint32_t i = 0; got < m->count && i < got; i++) /* the two halves of the body come closer */
		m->body[got + i] = m->body[m->count + i];
	m->count = got;
	return PST_OK;
}

/* PST_E_AGAIN: it waits. */
static pst_err room(struct move *m)
{
	struct part *p = m->part;

	if (!cache_room(m->store, PST_NODE_LEVELS)) {
		pst_list_push_back(&m->store->cache.waiters, &m->wait.node);
		checkpoint_want(p, NULL);
		return PST_E_AGAIN;
	}
	if (p->alloc.free_count <= floor_blocks(p) + (m->block == 0 ? m->count : 0))
		return PST_E_NOSPACE; /* it must not wait for what may wait for its own reads to end */
	return m->block == 0 ? take_blocks(m) : PST_OK;
}

static void log_and_write(struct move *m)
{
	struct logged *l = &m->logged;

	l->record = (struct pst_log_record){
		.kind = PST_LOG_MOVE, .slot = m->slot, .lba = m->local, .block = m->block, .count = m->count
	};
	l->body = m->body;
	l->body_bytes = 2 * m->count * (uint32_t)sizeof(m->body[0]);
	l->ready = false;
	l->apply = move_apply;
	m->iov = (struct iovec){ m->buffer, (size_t)m->count * PST_BLOCK_BYTES };
	m->op = (struct pst_file_op){
		.kind = PST_FILE_WRITE, .iov = &m->iov, .iov_count = 1, .len_bytes = m->iov.iov_len, .done = write_done
	};
	part_submit(m->part, &m->op, m->block);
	journal_add(m->part, l);
}

static bool anything_left(struct move *m)
{
	uint32_t at = (uint32_t)(m->local % PST_NODE_FANOUT);

	for (uint32_t i = 0; i < m->count; i++)
		if (move_old(m->leaf, at + i) == olds(m)[i])
			return true;
	return false;
}

/* Its slot may have another version by now, even a snapshot, with the same entries. */
static bool may_change(const struct move *m)
{
	const struct svol *v = svol_by_slot(m->store, m->slot);

	return v != NULL && (v->disk.flags & (PST_VOLUME_SNAPSHOT | PST_VOLUME_DELETING | PST_VOLUME_PENDING)) == 0;
}

static void move_write(struct waiter *w)
{
	struct move *m = pst_container_of(w, struct move, wait);
	struct part *p = m->part;
	enum map_result got;
	pst_err err = m->err;

	if (err == PST_OK)
		err = part_admit(p, true, w);
	if (err == PST_E_AGAIN)
		return;
	if (err != PST_OK) {
		cancel(m, err);
		return;
	}
	got = map_get(p, 0, map_leaf_index(m->slot, m->local), false, w, &m->leaf);
	if (got == MAP_WAIT)
		return;
	if (got == MAP_ERROR || got == MAP_HOLE || !may_change(m) || !anything_left(m)) {
		cancel(m, got == MAP_ERROR ? w->err : PST_OK);
		return;
	}
	map_pin(m->leaf);
	err = room(m);
	if (err == PST_OK)
		log_and_write(m);
	else
		map_unpin(m->leaf);
	if (err != PST_OK && err != PST_E_AGAIN)
		cancel(m, err);
}

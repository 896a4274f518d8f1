/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is not in the maps. All of it exists twice, or can be made anew from memory, so damage is mended: a superblock's
 * copy is written over; for roots, space map pages and logs a checkpoint is asked for, which writes a whole new root,
 * the damaged pages, and leaves the old log behind. Each step may meet things while they are being written: what a
 * checkpoint is at work on, or has replaced meanwhile, is not judged.
 */
#include "store/keys.h"
#include "store/scrub.h"

#include <string.h>

enum { META_ROOTS, META_SPACE, META_LOG, META_END };

/* Nothing of the partition's roots and space map was written since the read was submitted. */
static bool is_still(const struct scrub_op *o)
{
	return o->part->cp.state == CP_IDLE && o->part->generation == o->generation;
}

static void mended(struct scrub_op *o, const char *what, uint64_t number)
{
	struct task *t = o->task;

	t->errors++;
	t->store->stats.checksum_errors++;
	store_event(t->store, PST_LOG_WARN, "%s partition=%u number=%llu: it is written again", what, o->part->index,
		    (unsigned long long)number);
	checkpoint_want(o->part, NULL);
}

/* ---- Superblocks ---- */

static void superblock_written(struct pst_file_op *op)
{
	struct scrub_op *o = pst_container_of(op, struct scrub_op, op);
	struct task *t = o->task;
	uint8_t *buffer = o->buffer;

	t->store->outstanding--;
	if (op->err == PST_OK)
		store_event(t->store, PST_LOG_WARN, "superblock_repaired copy=%u: it was damaged and is written again",
			    o->first);
	else
		store_event(t->store, PST_LOG_ERROR,
			    "superblock_not_repaired copy=%u error=%s: the other copy is intact; replace the device",
			    o->first, pst_err_name(op->err));
	o->busy = o->reading = false;
	task_give(t, buffer);
}

/* True: the buffer is in use for writing it again. */
static bool superblock_look(struct scrub_op *o)
{
	struct store *st = o->task->store;
	const struct pst_superblock *sb = (const void *)o->buffer;

	if (st->sb_writer.done != NULL || st->growth != NULL || st->failed != PST_OK ||
	    st->sb->generation != o->generation)
		return false; /* just being written */
	if (o->op.err == PST_OK && pst_sb_intact(sb) && sb->generation == st->sb->generation &&
	    memcmp(sb->uuid, st->sb->uuid, 16) == 0)
		return false;
	o->task->errors++;
	memcpy(o->buffer, st->sb, PST_BLOCK_BYTES);
	o->reading = true;
	o->op.kind = PST_FILE_WRITE;
	o->op.done = superblock_written;
	store_submit(st, &o->op);
	return true;
}

/* ---- Key slots ---- */

static void key_looked(struct waiter *w)
{
	struct scrub *s = pst_container_of(w, struct scrub, key_wait);
	struct task *t = s->task;
	uint8_t *buffer = s->key_buffer;

	if (w->err != PST_OK || s->key_job.mended) {
		t->errors++;
		t->store->stats.checksum_errors++;
		store_event(t->store, s->key_job.mended ? PST_LOG_WARN : PST_LOG_ERROR,
			    "key_slot_damaged block=%u error=%s: %s", s->key_job.block, pst_err_name(w->err),
			    w->err == PST_OK ? "one copy was damaged and is written again"
					     : "its volumes can't be unlocked again; copy what is open now");
	}
	t->done_bytes += 2 * PST_BLOCK_BYTES;
	memset(buffer, 0, PST_POOL_KEY_BYTES_MAX);
	s->key_buffer = NULL;
	task_give(t, buffer);
}

/* The families' slots in the order of their places. */
static enum task_step keys_look(struct task *t)
{
	struct scrub *s = t->state;
	uint32_t block = 0;
	uint8_t *buffer;

	if (s->key_buffer != NULL)
		return TASK_WAIT;
	PST_LIST_EACH(l, &t->store->volumes) {
		uint32_t at = pst_container_of(l, struct svol, node)->disk.key_block;

		if (at > s->meta_at && (block == 0 || at < block))
			block = at;
	}
	if (block == 0)
		return TASK_DONE;
	s->key_buffer = task_take(t, 2 * PST_BLOCK_BYTES);
	if (s->key_buffer == NULL)
		return TASK_WAIT;
	s->meta_at = block;
	s->key_wait.run = key_looked;
	s->key_wait.err = PST_OK;
	pst_list_init(&s->key_wait.node);
	t->err = keys_scrub(t->store, block, &s->key_job, s->key_buffer, &s->key_wait);
	if (t->err == PST_OK)
		return TASK_WAIT;
	buffer = s->key_buffer;
	s->key_buffer = NULL;
	task_give(t, buffer);
	return TASK_FAILED;
}

enum task_step scrub_meta_pool(struct task *t)
{
	struct scrub *s = t->state;
	struct scrub_op *o;

	if (s->meta_step == 2)
		return keys_look(t);
	o = scrub_op_take(t, SCRUB_SUPERBLOCKS, &t->store->parts[0], PST_BLOCK_BYTES);
	if (o == NULL)
		return TASK_WAIT;
	o->generation = t->store->sb->generation;
	o->first = s->meta_step++;
	scrub_read_device(o, o->first == 0 ? 0 : pst_sb_mirror(t->store->sb));
	return TASK_MORE;
}

/* ---- Roots ---- */

static void roots_look(struct scrub_op *o)
{
	struct scrub *s = o->task->state;
	const struct pst_root *roots = (const void *)o->buffer;
	uint32_t slot = (uint32_t)(o->generation % 2 * 2);

	if (!is_still(o))
		return;
	for (uint32_t i = slot; i < slot + 2; i++) {
		if (o->op.err != PST_OK || !pst_root_intact(&roots[i], o->task->store->sb->uuid, o->part->index) ||
		    roots[i].generation != o->generation)
			mended(o, "root_copy_damaged", i);
		else
			s->map = roots[i].map;
	}
}

/* ---- Space map ---- */

static void space_look(struct scrub_op *o)
{
	const struct pst_space_page *pages = (const void *)o->buffer;
	struct pst_alloc *a = &o->part->alloc;

	if (!is_still(o))
		return;
	for (uint32_t i = 0; i < o->count / 2; i++) {
		uint32_t page = o->first + i;

		if (o->op.err == PST_OK && pst_alloc_page_ok(a, page, &pages[2 * i + a->page_copy[page]]))
			continue;
		a->page_dirty[page] |= PST_PAGE_DIRTY;
		mended(o, "space_map_page_damaged", page);
	}
}

static enum task_step space_read(struct task *t, struct part *p)
{
	struct scrub *s = t->state;
	uint32_t page = s->meta_at, n = 1;
	struct scrub_op *o;

	if (page >= p->alloc.pages) {
		s->meta_step++;
		s->meta_at = 0;
		return TASK_MORE;
	}
	while (n < TASK_BUFFER_BLOCKS / 2 && page + n < p->alloc.pages &&
	       part_space_page(p, page + n, 0) == part_space_page(p, page, 0) + 2 * n)
		n++;
	o = scrub_op_take(t, SCRUB_SPACE, p, (uint64_t)2 * n * PST_BLOCK_BYTES);
	if (o == NULL)
		return TASK_WAIT;
	o->generation = p->cp.state == CP_IDLE ? p->generation : 0;
	o->first = page;
	s->meta_at += n;
	scrub_read(o, part_space_page(p, page, 0), 2 * n);
	return TASK_MORE;
}

/* ---- Log ---- */

static void log_look(struct scrub_op *o)
{
	const struct pst_log_block *b = (const void *)o->buffer;
	const struct part *p = o->part;

	for (uint32_t i = 0; i < o->count; i++) {
		uint64_t seq = o->seq + i;

		if (seq < p->tail_seq) /* nobody needs it any more */
			continue;
		if (o->op.err == PST_OK && pst_log_block_follows(&b[i], p->index, p->incarnation, seq, b[i].prev_crc))
			continue;
		mended(o, "log_block_damaged", seq);
		return; /* all of it goes with the checkpoint */
	}
}

/* From the tail to what is written now. meta_at: blocks after the tail that have been read. */
static enum task_step log_read(struct task *t, struct part *p)
{
	struct scrub *s = t->state;
	uint64_t seq = p->tail_seq + s->meta_at;
	uint32_t at = (uint32_t)(seq % p->geo.log_blocks), count;
	struct scrub_op *o;

	if (seq > p->written_seq) {
		s->meta_step++;
		return TASK_MORE;
	}
	count = (uint32_t)PST_MIN(p->written_seq - seq + 1, PST_MIN(TASK_BUFFER_BLOCKS, p->geo.log_blocks - at));
	o = scrub_op_take(t, SCRUB_LOG, p, (uint64_t)count * PST_BLOCK_BYTES);
	if (o == NULL)
		return TASK_WAIT;
	o->seq = seq;
	s->meta_at += count;
	scrub_read(o, p->geo.log_start + at, count);
	return TASK_MORE;
}

/* ---- */

enum task_step scrub_meta_part(struct task *t, struct part *p)
{
	struct scrub *s = t->state;
	struct scrub_op *o;

	switch (s->meta_step) {
	case META_ROOTS:
		o = scrub_op_take(t, SCRUB_ROOTS, p, (uint64_t)PST_ROOT_SLOTS * PST_BLOCK_BYTES);
		if (o == NULL)
			return TASK_WAIT;
		o->generation = p->cp.state == CP_IDLE ? p->generation : 0;
		s->meta_step++;
		scrub_read(o, 0, PST_ROOT_SLOTS);
		return TASK_MORE;
	case META_SPACE:
		return space_read(t, p);
	case META_LOG:
		return log_read(t, p);
	default:
		return TASK_DONE;
	}
}

bool scrub_meta_look(struct scrub_op *o)
{
	if (o->kind == SCRUB_SUPERBLOCKS)
		return superblock_look(o);
	if (o->kind == SCRUB_ROOTS)
		roots_look(o);
	else if (o->kind == SCRUB_SPACE)
		space_look(o);
	else
		log_look(o);
	return false;
}

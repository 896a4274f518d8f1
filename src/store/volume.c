/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Volumes of a pool. A volume's record (struct svol.disk) is what has been logged and applied. The flag OPEN is durable
 * before open completes and goes away at close: whoever finds it after a machine crash knows that completed writes may
 * be missing, and says so at the first flush. A deleted volume keeps its slot, marked DELETING, until it has been
 * merged (merge.c).
 */
#include "store/readahead.h"
#include "store/bad.h"
#include "store/keys.h"
#include "store/space.h"

#include <stdlib.h>
#include <string.h>

struct svol *svol_alloc(struct store *st, const struct pst_version_disk *disk)
{
	struct svol *v = calloc(1, sizeof(*v));

	if (v == NULL)
		return NULL;
	v->store = st;
	v->disk = *disk;
	v->volume.ops = &store_volume_ops;
	v->volume.env = st->pool.env;
	v->volume.block_count = disk->block_count;
	memcpy(v->volume.uuid, disk->uuid, 16);
	pst_list_init(&v->held_ios);
	pst_list_init(&v->close_wait.node);
	pst_list_init(&v->close_node);
	pst_list_init(&v->node);
	return v;
}

struct svol *svol_new(struct store *st, const struct pst_version_disk *disk)
{
	struct svol *v = svol_alloc(st, disk);

	if (v != NULL)
		pst_list_push_back(&st->volumes, &v->node);
	return v;
}

void svol_set(struct svol *v, const struct pst_version_disk *disk)
{
	uint32_t parent = v->disk.parent;

	v->disk = *disk;
	v->disk.parent = parent;
	v->volume.block_count = disk->block_count;
	memcpy(v->volume.uuid, disk->uuid, 16);
}

void svol_free(struct svol *v)
{
	bad_version_gone(v->store, v->disk.slot);
	space_volume_gone(v);
	pst_list_remove(&v->node);
	free(v);
}

struct svol *svol_find(struct store *st, const uint8_t uuid[16])
{
	PST_LIST_EACH(l, &st->volumes) {
		struct svol *v = pst_container_of(l, struct svol, node);

		if ((v->disk.flags & (PST_VOLUME_DELETING | PST_VOLUME_PENDING)) == 0 &&
		    memcmp(v->disk.uuid, uuid, 16) == 0)
			return v;
	}
	return NULL;
}

struct svol *svol_by_slot(struct store *st, uint32_t slot)
{
	PST_LIST_EACH(l, &st->volumes) {
		struct svol *v = pst_container_of(l, struct svol, node);

		if (v->disk.slot == slot)
			return v;
	}
	return NULL;
}

/* ---- Requests ---- */

void svol_io_submit(struct svol *v, struct pst_io *io)
{
	struct store *st = v->store;

	memcpy(io->scratch, &v, sizeof(v));
	io->err = PST_OK;
	if (v->held) {
		pst_list_push_back(&v->held_ios, &io->node);
		return;
	}
	v->inflight++;
	st->foreground_inflight++;
	st->foreground_ios++;
	if ((v->disk.flags & PST_VOLUME_SNAPSHOT) != 0 && io->kind != PST_IO_READ && io->kind != PST_IO_FLUSH) {
		io_complete(st, io, PST_E_DENIED);
		svol_io_done(v);
		return;
	}
	pst_list_push_back(&st->io_queue, &io->node);
	store_schedule(st);
}

static void close_when_idle(struct svol *v);

void svol_io_done(struct svol *v)
{
	pst_assert(v->inflight > 0);
	v->store->foreground_inflight--;
	if (--v->inflight > 0)
		return;
	if (v->idle_waiter != NULL) {
		store_wake(v->store, v->idle_waiter);
		v->idle_waiter = NULL;
	}
	if (v->closing != NULL && v->emptying == NULL)
		close_when_idle(v);
}

/* While held, requests wait (a resize is under way). */
void svol_hold(struct svol *v, bool held)
{
	struct pst_list *l;

	v->held = held;
	while (!held && (l = pst_list_pop_front(&v->held_ios)) != NULL)
		svol_io_submit(v, pst_container_of(l, struct pst_io, node));
}

/* ---- The volume's own records ---- */

void svol_logged(struct logged *l)
{
	struct svol *v = pst_container_of(l, struct svol, logged);

	v->logged_busy = false;
	if (v->store->failed == PST_OK) {
		svol_set(v, &v->log_body);
		catalog_changed(v->store);
	}
}

/* Log the volume's state with other @flags; @apply (NULL: none) runs when that has been applied. One at a time. */
void svol_log(struct svol *v, uint32_t flags, void (*apply)(struct logged *l))
{
	pst_assert(!v->logged_busy);
	v->logged_busy = true;
	v->log_body = v->disk;
	v->log_body.flags = flags;
	v->logged.record = (struct pst_log_record){ .kind = PST_LOG_VERSION, .slot = v->disk.slot };
	v->logged.body = &v->log_body;
	v->logged.body_bytes = sizeof(v->log_body);
	v->logged.ready = true;
	v->logged.apply = apply != NULL ? apply : svol_logged;
	journal_add(&v->store->parts[0], &v->logged);
}

/* ---- Close: requests end, all is flushed, the flag OPEN goes, durably ---- */

static void close_finish(struct svol *v)
{
	readahead_drop_volume(v);
	/* The turn's end tells the caller: nothing of the volume is touched after that. */
	pst_list_push_back(&v->store->done_closes, &v->close_node);
	store_schedule(v->store);
}

static void close_durable(struct waiter *w)
{
	close_finish(pst_container_of(w, struct svol, close_wait)); /* whatever came of it: it was flushed before */
}

static void close_applied(struct logged *l)
{
	struct svol *v = pst_container_of(l, struct svol, logged);

	svol_logged(l);
	v->close_wait.run = close_durable;
	commit_wait(v->store, &v->close_wait);
}

static void close_log(struct waiter *w)
{
	struct svol *v = pst_container_of(w, struct svol, close_wait);
	struct part *p = &v->store->parts[0];
	uint32_t flags = v->disk.flags & ~(uint32_t)PST_VOLUME_OPEN;

	if (w->err != PST_OK || v->store->failed != PST_OK) {
		close_finish(v); /* it stays marked as open: what was not flushed may be lost */
		return;
	}
	if (checkpoint_blocks_writes(p) || !journal_room(p) || v->logged_busy) {
		if (!journal_room(p))
			checkpoint_want(p, NULL);
		pst_list_push_back(&p->space_waiters, &w->node);
		store_schedule(v->store);
		return;
	}
	if (!v->lost)
		flags &= ~(uint32_t)PST_VOLUME_LOST;
	svol_log(v, flags, close_applied);
}

static void close_when_idle(struct svol *v)
{
	v->close_wait.run = close_log;
	v->close_wait.err = PST_OK;
	commit_wait(v->store, &v->close_wait);
}

static void volume_close(struct pst_volume *volume, struct pst_volume_close_op *op)
{
	struct svol *v = pst_container_of(volume, struct svol, volume);

	pst_assert(v->open && v->closing == NULL);
	v->closing = op;
	space_cancel(v->store, v);
	svol_close_go_on(v);
}

void svol_close_go_on(struct svol *v)
{
	if (v->closing != NULL && v->inflight == 0 && pst_list_empty(&v->held_ios) && v->emptying == NULL)
		close_when_idle(v);
}

static void volume_submit(struct pst_volume *volume, struct pst_io *io)
{
	struct svol *v = pst_container_of(volume, struct svol, volume);

	pst_assert(v->open && v->closing == NULL);
	io->scratch[IO_DONE_BLOCKS] = io->scratch[IO_PAUSED_NS] = 0;
	if (!empty_submit(v, io))
		svol_io_submit(v, io);
}

static void volume_stats(struct pst_volume *volume, struct pst_volume_stats *ret_stats)
{
	ret_stats->used_bytes = pst_container_of(volume, struct svol, volume)->used_blocks * PST_BLOCK_BYTES;
}

static void volume_recall(struct pst_volume *volume, struct pst_io *io)
{
	space_recall(pst_container_of(volume, struct svol, volume)->store, io);
}

const struct pst_volume_ops store_volume_ops = {
	.name = "store",
	.submit = volume_submit,
	.stats = volume_stats,
	.close = volume_close,
	.recall = volume_recall,
};

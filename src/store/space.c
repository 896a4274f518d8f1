/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Free space is a matter of each partition, since a volume's LBAs stripe over all of them. Of the free blocks of one,
 * from the last to the first:
 *
 *   checkpoint_need  what the next checkpoint writes: nobody else gets it
 *   MERGE_RESERVE    what giving back deleted versions takes meanwhile: when that stands still, all does
 *   reserve          (with the former) overwrites, discards, deletions and the catalog live on it when the pool is
 * full; they give back what they take promises         what volumes have reserved and not yet used: only the volume's
 * own writes may take it the rest         for all
 *
 * A write that takes blocks (to a hole, or to a block shared with a snapshot) and finds only what is not for it fails
 * with PST_E_NOSPACE, or pauses: its request is taken back into a list of the partition, so it holds nothing but
 * itself, and begins again where it was when there is room. Closing its volume cancels it, and so does its owner's
 * recall.
 *
 * A reservation is spread like the volume's stripes: a partition keeps its share. One as large as the volume is exact;
 * a smaller one is kept in full only if the volume is written evenly. The map for it is counted in: one node for each
 * 504 LBAs at most.
 */
#include "store/space.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ALERT_HYSTERESIS_PERCENT 2u
#define PAUSE_CHECKS 16u /* in the longest pause */

/* ---- Reservations ---- */

static uint64_t share_of(const struct store *st, uint32_t part_index, uint64_t block_count, uint64_t reserved)
{
	uint64_t local = part_local(st, part_index, block_count);

	if (reserved >= block_count)
		return local;
	return PST_MIN(local, (uint64_t)((double)reserved * (double)local / (double)block_count) + 1);
}

/* Blocks to keep free for @left data blocks somewhere in @local LBAs. */
static uint64_t with_map(uint64_t left, uint64_t local)
{
	return left == 0 ? 0 : left + PST_MIN(left, local / PST_NODE_FANOUT + 1) + PST_NODE_LEVEL_VOLUME;
}

static void promise_set(struct svol *v, uint32_t i, uint64_t share, uint64_t own)
{
	struct store *st = v->store;
	struct promise *pr = &v->promises[i];
	uint64_t local = part_local(st, i, v->disk.block_count);
	uint64_t blocks = with_map(share > own ? share - own : 0, local);

	st->parts[i].promised += blocks - pr->blocks;
	*pr = (struct promise){ share, own, blocks };
}

void space_volume_gone(struct svol *v)
{
	for (uint32_t i = 0; v->promises != NULL && i < v->store->part_count; i++)
		v->store->parts[i].promised -= v->promises[i].blocks;
	if (v->promises != NULL)
		v->store->space.reserving--;
	free(v->promises);
	v->promises = NULL;
}

void space_volume_changed(struct svol *v)
{
	struct store *st = v->store;
	uint64_t reserved =
	    (v->disk.flags & (PST_VOLUME_DELETING | PST_VOLUME_SNAPSHOT)) == 0 ? v->disk.reserved_blocks : 0;

	if (reserved == 0) {
		space_volume_gone(v);
		return;
	}
	if (st->recovering)
		return; /* space_load follows */
	if (v->promises == NULL) {
		v->promises = calloc(st->part_count, sizeof(v->promises[0]));
		if (v->promises == NULL)
			return; /* not kept then, until the next change: memory for it is small, and this is rare */
		st->space.reserving++;
	}
	for (uint32_t i = 0; i < st->part_count; i++)
		promise_set(v, i, share_of(st, i, v->disk.block_count, reserved), v->promises[i].own);
}

void space_volume_emptied(struct svol *v)
{
	for (uint32_t i = 0; v->promises != NULL && i < v->store->part_count; i++)
		space_node_charged(v, i, 0);
}

void space_node_charged(struct svol *v, uint32_t part_index, uint64_t own_blocks)
{
	if ((int64_t)own_blocks < 0) /* while its parent is being merged: share.c */
		own_blocks = 0;
	if (v->promises != NULL && v->promises[part_index].own != own_blocks)
		promise_set(v, part_index, v->promises[part_index].share, own_blocks);
}

void space_node(const struct node *n)
{
	struct store *st = n->part->store;
	struct svol *v;

	if (st->space.reserving == 0 || n->level != PST_NODE_LEVEL_VOLUME)
		return;
	v = svol_by_slot(st, (uint32_t)n->index);
	if (v != NULL)
		space_node_charged(v, n->part->index, n->data->own_blocks);
}

/* @fresh: nothing that it has will count as used. */
static pst_err can_keep(struct store *st, const struct svol *v, bool fresh, uint64_t block_count,
			uint64_t reserved_blocks, char detail[PST_DETAIL_BYTES])
{
	uint64_t missing = 0;

	for (uint32_t i = 0; reserved_blocks > 0 && i < st->part_count; i++) {
		const struct part *p = &st->parts[i];
		const struct promise none = { 0 };
		const struct promise *old = v != NULL && v->promises != NULL ? &v->promises[i] : &none;
		uint64_t share = share_of(st, i, block_count, reserved_blocks);
		uint64_t own = fresh ? 0 : old->own;
		uint64_t want = with_map(share > own ? share - own : 0, part_local(st, i, block_count));
		uint64_t kept = p->alloc.used_count + checkpoint_need(p) + p->reserve + p->promised - old->blocks;
		uint64_t there = p->alloc.data_blocks > kept ? p->alloc.data_blocks - kept : 0;

		if (want > there)
			missing = PST_MAX(missing, want - there);
	}
	if (missing == 0)
		return PST_OK;
	snprintf(detail, PST_DETAIL_BYTES,
		 "the pool has about %llu MiB too little to keep %llu MiB free: add space, or reserve less",
		 (unsigned long long)(missing * st->part_count / 256 + 1), (unsigned long long)reserved_blocks / 256);
	return PST_E_NOSPACE;
}

pst_err space_can_promise(struct store *st, const struct svol *v, uint64_t block_count, uint64_t reserved_blocks,
			  char detail[PST_DETAIL_BYTES])
{
	return can_keep(st, v, false, block_count, reserved_blocks, detail);
}

pst_err space_can_snapshot(struct store *st, const struct svol *v, char detail[PST_DETAIL_BYTES])
{
	return can_keep(st, v, true, v->disk.block_count, v->disk.reserved_blocks, detail);
}

pst_err space_settings(struct store *st, const struct svol *v, struct pst_version_disk *disk, struct pst_pool_op *op)
{
	uint64_t reserved = PST_MIN(op->settings.reserved_blocks, disk->block_count);

	if (v != NULL && (v->disk.flags & PST_VOLUME_SNAPSHOT) != 0)
		return PST_E_DENIED;
	disk->flags &= ~(uint32_t)PST_VOLUME_PAUSE;
	if (op->settings.on_full == PST_ON_FULL_PAUSE)
		disk->flags |= PST_VOLUME_PAUSE;
	/* Less than before can always be kept. */
	if (v != NULL && reserved <= disk->reserved_blocks) {
		disk->reserved_blocks = reserved;
		return PST_OK;
	}
	disk->reserved_blocks = reserved;
	return space_can_promise(st, v, disk->block_count, reserved, op->detail);
}

uint64_t space_floor(const struct part *p, const struct svol *v, bool takes)
{
	uint64_t floor = space_last(p);

	if (takes)
		floor +=
		    p->reserve - MERGE_RESERVE + p->promised - (v->promises != NULL ? v->promises[p->index].blocks : 0);
	return floor;
}

/* ---- What reserving volumes have, at the beginning ---- */

static void load_run(struct waiter *w)
{
	struct store *st = pst_container_of(w, struct store, space.load);
	struct space *sp = &st->space;

	for (; sp->load_at != &st->volumes; sp->load_at = sp->load_at->next, sp->load_part = 0) {
		struct svol *v = pst_container_of(sp->load_at, struct svol, node);

		for (; v->promises != NULL && sp->load_part < st->part_count; sp->load_part++) {
			struct node *n = NULL;
			enum map_result got =
			    map_get(&st->parts[sp->load_part], PST_NODE_LEVEL_VOLUME, v->disk.slot, false, w, &n);

			if (got == MAP_WAIT)
				return;
			if (got == MAP_OK)
				space_node(n);
			w->err = PST_OK; /* an unreadable node has been reported */
		}
	}
	store_wake(st, sp->load_done);
}

void space_load(struct store *st, struct waiter *done)
{
	struct space *sp = &st->space;

	PST_LIST_EACH(l, &st->volumes)
		space_volume_changed(pst_container_of(l, struct svol, node));
	sp->load_done = done;
	sp->load.run = load_run;
	sp->load_at = st->volumes.next;
	sp->load_part = 0;
	pst_list_init(&sp->load.node);
	load_run(&sp->load);
}

/* ---- A full pool ---- */

static void totals(const struct store *st, uint64_t *ret_used, uint64_t *ret_all, uint64_t *ret_promised)
{
	*ret_used = *ret_all = *ret_promised = 0;
	for (uint32_t i = 0; i < st->part_count; i++) {
		*ret_used += st->parts[i].alloc.used_count;
		*ret_all += st->parts[i].alloc.data_blocks;
		*ret_promised += st->parts[i].promised;
	}
}

static void tell(struct store *st, enum pst_log_level level, const char *what, unsigned percent, const char *next)
{
	uint64_t used, all, promised;
	char uuid[37], at[24] = "";

	totals(st, &used, &all, &promised);
	if (percent > 0)
		snprintf(at, sizeof(at), " percent=%u", percent);
	store_event(st, level, "%s pool=%s%s used_bytes=%llu free_bytes=%llu reserved_bytes=%llu: %s", what,
		    store_uuid_text(st->pool.uuid, uuid), at, (unsigned long long)used * PST_BLOCK_BYTES,
		    (unsigned long long)(all - used) * PST_BLOCK_BYTES, (unsigned long long)promised * PST_BLOCK_BYTES,
		    next);
}

bool space_full(struct part *p, const struct svol *v)
{
	struct store *st = p->store;

	if (!st->space.full) {
		st->space.full = true;
		tell(st, PST_LOG_ERROR, "pool_full", 0,
		     "writes to new blocks fail or pause; delete or discard data, or add space");
	}
	return (v->disk.flags & PST_VOLUME_PAUSE) != 0 && v->closing == NULL && !st->closing;
}

static struct svol *volume_of(const struct pst_io *io)
{
	struct svol *v;

	memcpy(&v, io->scratch, sizeof(v)); /* as svol_io_submit left it */
	return v;
}

/* Paused writes of @v (NULL: of any volume) that were paused before @before_ns end. */
static void cancel(struct store *st, const struct svol *v, uint64_t before_ns)
{
	for (uint32_t i = 0; i < st->part_count; i++) {
		struct pst_list keep, *l;

		pst_list_init(&keep);
		while ((l = pst_list_pop_front(&st->parts[i].paused)) != NULL) {
			struct pst_io *io = pst_container_of(l, struct pst_io, node);

			if ((v != NULL && volume_of(io) != v) || io->scratch[IO_PAUSED_NS] >= before_ns) {
				pst_list_push_back(&keep, l);
				continue;
			}
			st->space.paused--;
			io_complete(st, io, PST_E_CANCELLED);
		}
		pst_list_splice(&st->parts[i].paused, &keep);
	}
}

void space_cancel(struct store *st, const struct svol *v)
{
	cancel(st, v, UINT64_MAX);
}

void space_recall(struct store *st, struct pst_io *io)
{
	for (uint32_t i = 0; i < st->part_count; i++)
		PST_LIST_EACH(l, &st->parts[i].paused) {
			if (l != &io->node)
				continue;
			pst_list_remove(l);
			st->space.paused--;
			io_complete(st, io, PST_E_CANCELLED);
			return;
		}
}

/* A look at all of them, now and then, as long as there are any. */
static void pause_check(struct pst_timer *timer)
{
	struct store *st = pst_container_of(timer, struct store, space.pause_end);
	uint64_t now_ns = pst_env_now_ns(st->pool.env), pause_ns = st->space.pause_ns;

	if (now_ns > pause_ns)
		cancel(st, NULL, now_ns - pause_ns);
	if (st->space.paused > 0)
		pst_timer_arm(st->pool.env, timer, now_ns + pause_ns / PAUSE_CHECKS);
}

void space_pause(struct part *p, struct pst_io *io)
{
	struct store *st = p->store;
	uint64_t now_ns = pst_env_now_ns(st->pool.env);

	if (io->recalled) { /* while parts of it were in flight */
		io_complete(st, io, PST_E_CANCELLED);
		return;
	}
	if (io->scratch[IO_PAUSED_NS] == 0)
		io->scratch[IO_PAUSED_NS] = now_ns;
	pst_list_push_back(&p->paused, &io->node);
	st->space.paused++;
	if (!pst_timer_armed(&st->space.pause_end))
		pst_timer_arm(st->pool.env, &st->space.pause_end, now_ns + st->space.pause_ns / PAUSE_CHECKS);
}

/* What has been freed is not free before a flush, nodes of the map not before a checkpoint: nobody else may ask for it.
 */
static void hasten(struct part *p)
{
	const struct freed_list *f = &p->freed;

	if (f->count > f->head && f->items[f->head].seq > p->durable_seq)
		p->store->flush_wanted = true;
	if (p->node_freed.count > 0 && p->cp.state == CP_IDLE)
		checkpoint_want(p, NULL);
}

/* As many as fit go on; a pool that has failed lets all go on, to fail. */
static void resume(struct part *p)
{
	struct store *st = p->store;
	struct pst_list keep, *l;
	uint64_t taken = 0;

	pst_list_init(&keep);
	while ((l = pst_list_pop_front(&p->paused)) != NULL) {
		struct pst_io *io = pst_container_of(l, struct pst_io, node);
		struct svol *v = volume_of(io);

		if (st->failed == PST_OK && p->alloc.free_count <= space_floor(p, v, true) + taken) {
			pst_list_push_back(&keep, l);
			continue;
		}
		taken += io->block_count;
		st->space.paused--;
		svol_io_submit(v, io);
	}
	pst_list_splice(&p->paused, &keep);
	if (!pst_list_empty(&p->paused))
		hasten(p);
}

static bool has_room(const struct store *st)
{
	for (uint32_t i = 0; i < st->part_count; i++) {
		const struct part *p = &st->parts[i];

		if (p->alloc.free_count <= checkpoint_need(p) + p->reserve + p->promised + p->reserve / 2)
			return false;
	}
	return true;
}

static void alerts(struct store *st)
{
	struct space *sp = &st->space;
	uint64_t used, all, promised;

	totals(st, &used, &all, &promised);
	while (sp->alert < PST_SPACE_ALERTS && sp->alerts[sp->alert] > 0 && used * 100 >= all * sp->alerts[sp->alert]) {
		unsigned percent = sp->alerts[sp->alert++];

		if (sp->alert < PST_SPACE_ALERTS && used * 100 >= all * sp->alerts[sp->alert] &&
		    sp->alerts[sp->alert] > 0)
			continue; /* the highest says it all */
		tell(st, PST_LOG_WARN, "pool_space_low", percent, "delete or discard data, or add space");
	}
	if (sp->alert > 0 && (used + all * ALERT_HYSTERESIS_PERCENT / 100) * 100 < all * sp->alerts[sp->alert - 1]) {
		sp->alert--;
		tell(st, PST_LOG_INFO, "pool_space_better", sp->alerts[sp->alert], "below this threshold again");
	}
	if (sp->full && has_room(st)) {
		sp->full = false;
		tell(st, PST_LOG_INFO, "pool_space_back", 0, "writes to new blocks go on");
	}
}

void space_turn(struct store *st)
{
	if (st->recovering || st->part_count == 0) /* being opened */
		return;
	if (st->space.paused > 0)
		for (uint32_t i = 0; i < st->part_count; i++)
			resume(&st->parts[i]);
	alerts(st);
}

void space_init(struct store *st, const struct pst_store_config *config)
{
	static const uint8_t defaults[PST_SPACE_ALERTS] = { 80, 90, 95 };
	const uint8_t *alerts = config->space_alerts[0] > 0 ? config->space_alerts : defaults;

	memcpy(st->space.alerts, alerts, sizeof(st->space.alerts));
	st->space.pause_ns = (uint64_t)config->pause_s * 1000000000u;
	pst_timer_init(&st->space.pause_end, pause_check);
}

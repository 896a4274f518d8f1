/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Operations on the pool, one at a time in order of arrival. Those that change something are one log record on
 * partition 0 and complete when it is durable:
 *
 *   check and gather (steps of its own) -> room -> log -> applied: memory changes -> flush -> done
 */
#include "store/bad.h"
#include "store/check-online.h"
#include "store/keys.h"
#include "store/space.h"
#include "store/task.h"

#include <string.h>

#define POLL_NS ((uint64_t)1000 * 1000)

enum { STEP_BEGIN, STEP_GATHER, STEP_LOG, STEP_CHECKPOINT, STEP_DONE };

struct pst_pool_op *control_current(struct store *st)
{
	return pst_container_of(st->control.queue.next, struct pst_pool_op, node);
}

/* It goes on outside of the queue, and is the caller's to complete: control_done. */
void control_detach(struct store *st)
{
	struct control *c = &st->control;

	pst_list_remove(&control_current(st)->node);
	c->wait.err = PST_OK;
	c->step = STEP_BEGIN;
	if (!pst_list_empty(&c->queue))
		store_wake(st, &c->wait);
	store_schedule(st);
}

void control_done(struct store *st, struct pst_pool_op *op)
{
	pst_list_push_back(&st->done_ops, &op->node);
	store_schedule(st);
}

void control_finish(struct store *st, pst_err err)
{
	struct pst_pool_op *op = control_current(st);

	if (flatten_is_detach(op)) {
		st->merging.holds--;
		merge_kick(st);
	}
	control_detach(st);
	op->err = err;
	control_done(st, op);
}

/* ---- Logging ---- */

static void control_durable(struct waiter *w)
{
	struct control *c = pst_container_of(w, struct control, wait);
	struct store *st = pst_container_of(c, struct store, control);
	struct pst_pool_op *op = control_current(st);
	pst_err err = w->err;

	w->run = NULL;
	switch (op->kind) {
	case PST_POOL_VOLUME_OPEN:
		if (err != PST_OK)
			break;
		c->vol->open = true;
		c->vol->lost = (c->vol->disk.flags & PST_VOLUME_LOST) != 0;
		c->vol->used_blocks = c->sum;
		op->volume = &c->vol->volume;
		break;
	case PST_POOL_VOLUME_RESIZE:
		svol_hold(c->vol, false);
		break;
	case PST_POOL_VOLUME_EMPTY:
		empty_end(st);
		break;
	case PST_POOL_VOLUME_DELETE:
		if (err == PST_OK)
			merge_kick(st);
		tasks_volume_gone(st);
		break;
	case PST_POOL_TASK_START:
	case PST_POOL_TASK_STOP:
		tasks_op_end(st, op, err);
		break;
	default:
		break;
	}
	control_init(st);
	control_finish(st, err);
}

static void control_applied(struct logged *l)
{
	struct control *c = pst_container_of(l, struct control, logged);
	struct store *st = pst_container_of(c, struct store, control);
	pst_err err = st->failed != PST_OK ? PST_E_IO : PST_OK;

	if (c->vol != NULL)
		c->vol->logged_busy = false;
	if (control_current(st)->kind == PST_POOL_VOLUME_EMPTY && err == PST_OK) {
		empty_apply(st, (const void *)c->body);
	} else if (l->record.kind == PST_LOG_VERSION && err == PST_OK) {
		struct pst_version_disk disk;

		if (control_current(st)->kind == PST_POOL_VOLUME_CREATE)
			pst_list_push_back(&st->volumes, &c->vol->node);
		memcpy(&disk, c->body, sizeof(disk));
		pst_assert(keys_follow(st, c->vol->disk.key_block, disk.key_block) == PST_OK);
		svol_set(c->vol, &disk);
		if (l->record.block == PST_ALSO_DETACH)
			c->vol->disk.parent = 0;
		space_volume_changed(c->vol);
		catalog_changed(st);
	} else if (err == PST_OK) {
		err = catalog_replay(st, &c->logged.record, c->body, l->seq);
		if (err != PST_OK)
			store_fail(st, err, "catalog_record_failed");
	} else if (control_current(st)->kind == PST_POOL_VOLUME_CREATE) {
		svol_free(c->vol);
	}
	c->wait.err = err;
	c->wait.run = control_durable;
	if (err == PST_OK)
		commit_wait(st, &c->wait);
	else
		store_wake(st, &c->wait);
}

/* Room for the record in log and pool, and for the catalog after it. PST_E_AGAIN: waiting. */
pst_err control_room(struct store *st, uint32_t records, uint32_t growth_bytes)
{
	struct part *p = &st->parts[0];
	struct control *c = &st->control;
	pst_err err;
	bool full = !journal_room_for(p, records);

	if (st->failed != PST_OK)
		return PST_E_IO;
	if ((uint64_t)st->catalog_bytes + growth_bytes > PST_CATALOG_BYTES_MAX)
		return PST_E_NOSPACE;
	if (checkpoint_blocks_writes(p) || full) {
		if (full && p->cp.err != PST_OK)
			return p->cp.err;
		if (full)
			checkpoint_want(p, NULL);
		pst_list_push_back(&p->space_waiters, &c->wait.node);
		store_schedule(st);
		return PST_E_AGAIN;
	}
	growth_bytes *= records;
	if (p->alloc.free_count >= (growth_bytes > 0 ? space_last(p) : checkpoint_need(p)) +
				       PST_NODE_LEVELS * (records - 1) +
				       2 * pst_div_round_up(growth_bytes, PST_BLOCK_BYTES))
		return PST_OK;
	err = part_space_wait(p, &c->wait, &c->space_checkpoint);
	return err == PST_OK ? PST_E_AGAIN : err;
}

static void control_log(struct store *st, enum pst_log_kind kind, uint32_t slot, uint32_t body_bytes)
{
	struct control *c = &st->control;

	c->logged.record = (struct pst_log_record){
		.kind = (uint8_t)kind, .slot = slot, .lba = slot, .block = c->also, .count = body_bytes
	};
	if (c->emptying) {
		c->logged.record.block = PST_ALSO_REPLACE;
		c->logged.record.lba = c->vol->disk.slot;
	}
	c->logged.body = c->body;
	c->logged.body_bytes = body_bytes;
	c->logged.ready = true;
	c->logged.apply = control_applied;
	if (c->vol != NULL)
		c->vol->logged_busy = true;
	journal_add(&st->parts[0], &c->logged);
}

/* ---- Each operation: PST_OK: its body is ready to be logged; PST_E_AGAIN: it waits ---- */

static pst_err create(struct store *st, struct pst_pool_op *op)
{
	struct control *c = &st->control;
	struct pst_version_disk disk = { .block_count = op->block_count, .slot = 1 };
	pst_err err;

	if (svol_find(st, op->uuid) != NULL)
		return PST_E_EXISTS;
	if (part_local(st, 0, op->block_count) > PST_SLOT_SPAN)
		return PST_E_RANGE;
	while (disk.slot < PST_SLOTS_MAX && svol_by_slot(st, disk.slot) != NULL)
		disk.slot++;
	if (disk.slot == PST_SLOTS_MAX)
		return PST_E_NOSPACE;
	memcpy(disk.uuid, op->uuid, 16);
	err = space_settings(st, NULL, &disk, op);
	if (err != PST_OK)
		return err;
	c->vol = svol_new(st, &disk);
	if (c->vol == NULL)
		return PST_E_NOMEM;
	pst_list_remove(&c->vol->node); /* until the record is applied */
	memcpy(c->body, &disk, sizeof(disk));
	return PST_OK;
}

/* How much data the volume has, from its node in each partition. */
static pst_err open_gather(struct store *st)
{
	struct control *c = &st->control;

	for (; c->part_index < st->part_count; c->part_index++) {
		struct node *n = NULL;
		enum map_result got =
		    map_get(&st->parts[c->part_index], PST_NODE_LEVEL_VOLUME, c->vol->disk.slot, false, &c->wait, &n);

		if (got == MAP_WAIT)
			return PST_E_AGAIN;
		if (got == MAP_ERROR)
			return c->wait.err;
		if (got == MAP_OK)
			c->sum += n->data->data_blocks;
	}
	return PST_OK;
}

/* Is there data at or above the new end? */
static pst_err resize_gather(struct store *st, uint64_t new_count)
{
	struct control *c = &st->control;

	for (; c->part_index < st->part_count; c->part_index++, c->lba = 0) {
		struct part *p = &st->parts[c->part_index];
		uint64_t end = part_local(st, c->part_index, c->vol->disk.block_count);

		c->lba = PST_MAX(c->lba, part_local(st, c->part_index, new_count));
		while (c->lba < end) {
			struct node *leaf = NULL;
			enum map_result got = map_next_leaf(p, c->vol->disk.slot, &c->lba, end, &c->wait, &leaf);

			if (got == MAP_WAIT)
				return PST_E_AGAIN;
			if (got == MAP_ERROR)
				return c->wait.err;
			if (got == MAP_HOLE)
				break;
			do {
				if (leaf->data->entry[c->lba % PST_NODE_FANOUT].block != 0)
					return PST_E_BUSY;
			} while (++c->lba < end && c->lba % PST_NODE_FANOUT != 0);
		}
	}
	return PST_OK;
}

static pst_err volume_gather(struct store *st, struct pst_pool_op *op)
{
	struct control *c = &st->control;
	struct svol *v = c->vol;
	struct pst_version_disk disk = v->disk;
	pst_err err = PST_OK;
	bool log = true;

	switch (op->kind) {
	case PST_POOL_VOLUME_OPEN:
		err = open_gather(st);
		if ((disk.flags & PST_VOLUME_SNAPSHOT) == 0)
			disk.flags |= PST_VOLUME_OPEN;
		break;
	case PST_POOL_VOLUME_RESIZE:
		if (v->inflight > 0) {
			v->idle_waiter = &c->wait;
			return PST_E_AGAIN;
		}
		if (op->block_count < disk.block_count)
			err = resize_gather(st, op->block_count);
		disk.block_count = op->block_count;
		break;
	case PST_POOL_VOLUME_EMPTY:
		err = empty_gather(st, &disk);
		break;
	case PST_POOL_VOLUME_SET:
		err = flatten_is_detach(op) ? flatten_gather(st, v, &c->also) : space_settings(st, v, &disk, op);
		break;
	case PST_POOL_KEY_PUT:
	case PST_POOL_KEY_GET:
	case PST_POOL_KEY_ERASE:
		err = keys_op_gather(st, control_current(st), &disk, &log);
		break;
	default:
		disk.flags |= PST_VOLUME_DELETING;
		break;
	}
	memcpy(c->body, &disk, sizeof(disk));
	c->unlogged = !log;
	return err;
}

static pst_err volume_begin(struct store *st, const struct pst_pool_op *op)
{
	struct control *c = &st->control;

	c->vol = svol_find(st, op->uuid);
	if (c->vol == NULL)
		return PST_E_NOTFOUND;
	if (c->vol->closing != NULL || c->vol->logged_busy)
		return PST_E_BUSY;
	if ((op->kind == PST_POOL_VOLUME_OPEN || op->kind == PST_POOL_VOLUME_DELETE) && c->vol->open)
		return PST_E_BUSY;
	if (op->kind == PST_POOL_VOLUME_RESIZE && part_local(st, 0, op->block_count) > PST_SLOT_SPAN)
		return PST_E_RANGE;
	if ((op->kind == PST_POOL_VOLUME_RESIZE || op->kind == PST_POOL_VOLUME_EMPTY) &&
	    (c->vol->disk.flags & PST_VOLUME_SNAPSHOT) != 0)
		return PST_E_DENIED;
	if (op->kind == PST_POOL_VOLUME_RESIZE)
		svol_hold(c->vol, true);
	if (op->kind == PST_POOL_VOLUME_EMPTY)
		empty_begin(st);
	return PST_OK;
}

static pst_err record_begin(struct store *st, const struct pst_pool_op *op, uint32_t *ret_bytes)
{
	size_t key_bytes = strlen(op->key) + 1;
	bool found = false;

	if (op->key[0] == STORE_KEY_RESERVED)
		return PST_E_DENIED;
	for (size_t i = 0; i < st->records.count; i++)
		found = found || strcmp(st->records.items[i].key, op->key) == 0;
	if (op->kind == PST_POOL_RECORD_DELETE && !found)
		return PST_E_NOTFOUND;
	memcpy(st->control.body, op->key, key_bytes);
	*ret_bytes = (uint32_t)key_bytes;
	if (op->kind == PST_POOL_RECORD_PUT) {
		if (op->value_bytes > 0)
			memcpy(st->control.body + key_bytes, op->value, op->value_bytes);
		*ret_bytes += op->value_bytes;
	}
	return PST_OK;
}

/* ---- Close ---- */

static void close_poll(struct pst_timer *timer)
{
	struct control *c = pst_container_of(timer, struct control, poll);

	store_wake(pst_container_of(c, struct store, control), &c->wait);
}

static bool quiet(const struct store *st)
{
	if (st->merging.version != NULL && st->failed == PST_OK)
		return false;
	for (uint32_t i = 0; i < st->part_count; i++) {
		if (st->parts[i].write_count > 0 || st->parts[i].inflight > 0)
			return false;
		if (st->failed == PST_OK && st->parts[i].cp.state != CP_IDLE)
			return false;
	}
	return st->outstanding == 0 && st->online == NULL;
}

static void close_run(struct store *st)
{
	struct control *c = &st->control;

	if (!st->closing) {
		st->closing = true;
		online_stop(st);
		tasks_close(st);
		merge_hurry(st);
	}
	if (c->wait.err != PST_OK && st->failed == PST_OK)
		st->failed = c->wait.err; /* the superblock could not be written: the pool stays unclean */
	c->wait.err = PST_OK;
	if (!quiet(st) || !tasks_quiet(st)) {
		pst_timer_init(&c->poll, close_poll);
		pst_timer_arm(st->pool.env, &c->poll, pst_env_now_ns(st->pool.env) + POLL_NS);
		return;
	}
	if (st->failed == PST_OK && c->part_index < st->part_count) {
		checkpoint_want(&st->parts[c->part_index++], &c->wait);
		return;
	}
	if (st->failed == PST_OK && c->step != STEP_DONE) {
		c->step = STEP_DONE;
		st->sb->clean = 1;
		sb_write(st, &c->wait);
		return;
	}
	for (uint32_t i = 0; i < st->part_count; i++)
		pst_timer_disarm(st->pool.env, &st->parts[i].cp.retry);
	pst_timer_disarm(st->pool.env, &st->space.pause_end);
	pst_timer_disarm(st->pool.env, &st->merging.pause);
	control_finish(st, PST_OK);
}

/* ---- The machine ---- */

static pst_err begin(struct store *st, struct pst_pool_op *op, uint32_t *ret_bytes)
{
	struct control *c = &st->control;

	c->part_index = 0;
	c->sum = 0;
	c->lba = 0;
	c->space_checkpoint = 0;
	c->unlogged = false;
	c->also = PST_ALSO_NOTHING;
	c->vol = NULL;
	*ret_bytes = sizeof(struct pst_version_disk);
	if (flatten_is_detach(op))
		st->merging.holds++; /* until control_finish */
	switch (op->kind) {
	case PST_POOL_VOLUME_CREATE:
	case PST_POOL_CLOSE:
	case PST_POOL_DEVICE_ADD:
	case PST_POOL_GROW:
		return PST_OK;
	case PST_POOL_RECORD_PUT:
	case PST_POOL_RECORD_DELETE:
		return record_begin(st, op, ret_bytes);
	case PST_POOL_TASK_START:
	case PST_POOL_TASK_STOP:
		return tasks_op_begin(st, op, c->body, ret_bytes);
	case PST_POOL_KEY_PUT:
	case PST_POOL_KEY_GET:
	case PST_POOL_KEY_ERASE:
		return keys_op_begin(st, op);
	case PST_POOL_VOLUME_OPEN:
	case PST_POOL_VOLUME_RESIZE:
	case PST_POOL_VOLUME_DELETE:
	case PST_POOL_VOLUME_EMPTY:
	case PST_POOL_VOLUME_SET:
		return volume_begin(st, op);
	case PST_POOL_SNAPSHOT:
	case PST_POOL_CLONE:
	case PST_POOL_ROLLBACK:
		return version_begin(st, op);
	case PST_POOL_VOLUME_INFO:
	case PST_POOL_DIFF:
		return inspect_begin(st, op);
	case PST_POOL_CHECK:
		return online_begin(st, op);
	default:
		return PST_E_UNSUPPORTED;
	}
}

static void fail(struct store *st, const struct pst_pool_op *op, pst_err err)
{
	struct control *c = &st->control;

	if (op->kind == PST_POOL_VOLUME_RESIZE && c->vol != NULL)
		svol_hold(c->vol, false);
	if (c->emptying)
		empty_end(st);
	if (op->kind == PST_POOL_KEY_PUT)
		keys_op_failed(st);
	control_finish(st, err);
}

static void log_it(struct store *st, struct pst_pool_op *op, uint32_t bytes)
{
	struct control *c = &st->control;
	pst_err err = PST_OK;

	if (op->kind == PST_POOL_RECORD_PUT || op->kind == PST_POOL_TASK_START || op->kind == PST_POOL_TASK_STOP) {
		control_log(st, PST_LOG_PUT, 0, bytes);
	} else if (op->kind == PST_POOL_RECORD_DELETE) {
		control_log(st, PST_LOG_DELETE, 0, bytes);
	} else {
		if (op->kind == PST_POOL_VOLUME_CREATE)
			err = create(st, op);
		if (err != PST_OK)
			fail(st, op, err);
		else if (op->kind == PST_POOL_VOLUME_EMPTY)
			control_log(st, PST_LOG_VERSION, ((const struct pst_version_disk *)(const void *)c->body)->slot,
				    bytes);
		else
			control_log(st, PST_LOG_VERSION, c->vol->disk.slot, bytes);
	}
}

static void control_run(struct waiter *w)
{
	struct control *c = pst_container_of(w, struct control, wait);
	struct store *st = pst_container_of(c, struct store, control);
	struct pst_pool_op *op = control_current(st);
	bool grows = op->kind == PST_POOL_VOLUME_CREATE || op->kind == PST_POOL_VOLUME_EMPTY ||
		     op->kind == PST_POOL_RECORD_PUT || op->kind == PST_POOL_TASK_START;
	pst_err err = PST_OK;

	if (c->step == STEP_BEGIN) {
		err = begin(st, op, &c->body_bytes);
		c->step = STEP_GATHER;
	}
	if (err == PST_OK && op->kind == PST_POOL_CLOSE) {
		close_run(st);
		return;
	}
	if (err == PST_OK && (op->kind == PST_POOL_DEVICE_ADD || op->kind == PST_POOL_GROW)) {
		growth_run(st, op);
		return;
	}
	if (c->making != NULL) {
		version_run(st);
		return;
	}
	if (c->inspection != NULL) {
		err = inspect_run(st, op);
		if (err != PST_E_AGAIN)
			control_finish(st, err);
		return;
	}
	if (err == PST_OK && c->step == STEP_GATHER && c->vol != NULL)
		err = volume_gather(st, op);
	if (err == PST_OK && op->kind == PST_POOL_VOLUME_OPEN && (c->vol->disk.flags & PST_VOLUME_SNAPSHOT) != 0) {
		control_durable(&c->wait); /* it is never written to, so nothing has to be noted */
		return;
	}
	if (err == PST_OK && c->unlogged) {
		control_finish(st, PST_OK);
		return;
	}
	if (err == PST_OK) {
		c->step = STEP_LOG;
		err = control_room(st, 1, grows ? c->body_bytes + 64 : 0);
	}
	if (err == PST_E_AGAIN)
		return;
	if (err != PST_OK)
		fail(st, op, err);
	else
		log_it(st, op, c->body_bytes);
}

void control_init(struct store *st)
{
	struct control *c = &st->control;

	c->wait.run = control_run;
	c->wait.err = PST_OK;
	if (c->queue.next == NULL) {
		pst_list_init(&c->queue);
		pst_list_init(&c->wait.node);
	}
}

void control_submit(struct pst_pool *pool, struct pst_pool_op *op)
{
	struct store *st = pst_container_of(pool, struct store, pool);
	bool first = pst_list_empty(&st->control.queue);

	pst_assert(!st->closing);
	pst_list_push_back(&st->control.queue, &op->node);
	if (first)
		store_wake(st, &st->control.wait);
}

static void control_records(struct pst_pool *pool, const char *prefix, pst_record_fn *fn, void *ctx)
{
	const struct pst_records *records = &pst_container_of(pool, struct store, pool)->records;

	for (size_t i = 0; i < records->count; i++) {
		const struct pst_record *r = &records->items[i];

		if (r->key[0] != STORE_KEY_RESERVED && strncmp(r->key, prefix, strlen(prefix)) == 0)
			fn(ctx, r->key, r->value, r->value_bytes);
	}
}

static void control_stats(struct pst_pool *pool, struct pst_pool_stats *ret_stats)
{
	struct store *st = pst_container_of(pool, struct store, pool);

	*ret_stats = st->stats;
	ret_stats->bad_blocks = bad_known(st);
	ret_stats->size_bytes = devices_bytes(st);
	ret_stats->devices = st->device_count;
	ret_stats->metadata_cache_bytes = (uint64_t)st->cache.page_count * PST_BLOCK_BYTES;
	for (uint32_t i = 0; i < st->part_count; i++) {
		const struct part *p = &st->parts[i];

		ret_stats->reserved_bytes += p->promised * PST_BLOCK_BYTES;
		ret_stats->used_bytes += (uint64_t)p->alloc.used_count * PST_BLOCK_BYTES;
		ret_stats->free_bytes += ((uint64_t)p->alloc.data_blocks - p->alloc.used_count) * PST_BLOCK_BYTES;
	}
}

const struct pst_pool_ops store_pool_ops = { "store", control_submit, control_records, control_stats, tasks_list };

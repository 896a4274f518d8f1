/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The pool as a whole: memory, events, and its turn. Completions and submissions only note what happened and schedule
 * the turn; the turn then does, in this order: apply what the log allows, release space, run who waits, start requests,
 * build log writes, drive checkpoints and the committer, and complete requests. It runs once per batch of events.
 */
#include "store/bad.h"
#include "store/keys.h"
#include "store/prefetch.h"
#include "store/space.h"
#include "store/readahead.h"
#include "store/task.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TURN_ROUNDS_MAX 4u
#define URGENT_BEHIND_BYTES (1u << 20)

char *store_uuid_text(const uint8_t uuid[16], char buf[37])
{
	size_t at = 0;

	for (int i = 0; i < 16; i++) {
		if (i == 4 || i == 6 || i == 8 || i == 10)
			buf[at++] = '-';
		snprintf(buf + at, 37 - at, "%02x", uuid[i]);
		at += 2;
	}
	return buf;
}

void store_event(struct store *st, enum pst_log_level level, const char *fmt, ...)
{
	char text[256];
	va_list args;

	va_start(args, fmt);
	vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	pst_env_log(st->pool.env, level, "%s", text);
	if (st->on_event != NULL)
		st->on_event(st->event_ctx, level, text);
}

/*
 * Once: from now on nothing is written (but the note of a failed flush in the superblock), so that what is on disk
 * stays what it is. Reads go on.
 */
void store_fail(struct store *st, pst_err err, const char *what)
{
	if (st->failed != PST_OK)
		return;
	st->failed = err;
	store_event(st, PST_LOG_ERROR, "%s error=%s: the pool takes no more writes; repair its device and restart",
		    what, pst_err_name(err));
	for (uint32_t i = 0; i < st->part_count; i++)
		st->parts[i].space_wake = true;
	store_wake_all(st, &st->cache.waiters);
	store_schedule(st);
}

void device_submit(struct device *d, struct pst_file_op *op)
{
	struct store *st = d->st;

	if (op->kind == PST_FILE_READ)
		st->stats.device_read_bytes += op->len_bytes;
	else if (op->kind == PST_FILE_WRITE)
		st->stats.device_written_bytes += op->len_bytes;
	st->outstanding++;
	pst_file_submit(d->file, op);
}

bool store_urgent(const struct store *st)
{
	return st->writing_bytes > URGENT_BEHIND_BYTES;
}

void store_submit(struct store *st, struct pst_file_op *op)
{
	device_submit(&st->devices[0], op);
}

void part_submit(struct part *p, struct pst_file_op *op, uint64_t block)
{
	uint64_t start = p->geo.start;
	uint32_t device = 0;

	for (uint32_t i = p->segment_count; i > 0 && block >= p->geo.blocks; i--) {
		const struct segment *s = &p->segments[i - 1];

		if (block < s->at.first)
			continue;
		device = s->device;
		start = s->at.start - s->at.first;
		break;
	}
	op->offset_bytes = (start + block) * PST_BLOCK_BYTES;
	device_submit(&p->store->devices[device], op);
}

/* ---- The turn ---- */

void store_schedule(struct store *st)
{
	if (st->turn_posted || st->in_turn)
		return;
	st->turn_posted = true;
	pst_env_post(st->pool.env, &st->turn);
}

void store_wake(struct store *st, struct waiter *w)
{
	pst_list_push_back(&st->runnable, &w->node);
	store_schedule(st);
}

void store_wake_all(struct store *st, struct pst_list *waiters)
{
	if (pst_list_empty(waiters))
		return;
	pst_list_splice(&st->runnable, waiters);
	store_schedule(st);
}

static void run_waiters(struct store *st)
{
	struct pst_list batch, *l;

	pst_list_init(&batch);
	pst_list_splice(&batch, &st->runnable);
	while ((l = pst_list_pop_front(&batch)) != NULL) {
		struct waiter *w = pst_container_of(l, struct waiter, node);

		w->run(w);
	}
}

static void turn_round(struct store *st)
{
	bool applied = false;

	for (uint32_t i = 0; i < st->part_count; i++) {
		struct part *p = &st->parts[i];

		if (journal_apply(p)) {
			applied = true;
			p->space_wake = true;
		}
		freed_release(p);
		if (p->space_wake) {
			p->space_wake = false;
			store_wake_all(st, &p->space_waiters);
		}
	}
	if (applied)
		store_wake_all(st, &st->cache.waiters);
	space_turn(st);
	run_waiters(st);
	io_start(st);
	for (uint32_t i = 0; i < st->part_count; i++) {
		journal_build(&st->parts[i]);
		checkpoint_run(&st->parts[i]);
	}
	commit_run(st);
}

static void store_turn(struct pst_post *post)
{
	struct store *st = pst_container_of(post, struct store, turn);
	struct pst_list ios, closes, ops, *l;

	/* Rounds that follow at once (a wake-up within the turn) save a trip through the loop; the bound keeps it fair.
	 */
	st->turn_posted = false;
	st->in_turn = true;
	st->froze = false;
	for (unsigned i = 0; i < TURN_ROUNDS_MAX; i++) {
		turn_round(st);
		if (pst_list_empty(&st->runnable))
			break;
	}
	st->in_turn = false;
	if (!pst_list_empty(&st->runnable))
		store_schedule(st);
	for (uint32_t i = 0; i < st->part_count; i++)
		if (st->parts[i].space_wake)
			store_schedule(st);
	pst_list_init(&ios);
	pst_list_init(&closes);
	pst_list_init(&ops);
	pst_list_splice(&ios, &st->done_ios);
	pst_list_splice(&closes, &st->done_closes);
	pst_list_splice(&ops, &st->done_ops);
	while ((l = pst_list_pop_front(&ios)) != NULL) {
		struct pst_io *io = pst_container_of(l, struct pst_io, node);

		io->done(io);
	}
	while ((l = pst_list_pop_front(&closes)) != NULL) {
		struct svol *v = pst_container_of(l, struct svol, close_node);
		struct pst_volume_close_op *op = v->closing;

		v->closing = NULL;
		v->open = false;
		op->done(op);
	}
	while ((l = pst_list_pop_front(&ops)) != NULL) {
		struct pst_pool_op *op = pst_container_of(l, struct pst_pool_op, node);

		if (op->kind == PST_POOL_CLOSE) { /* the last one: its caller submits nothing after it */
			if (st->turn_posted) {
				pst_list_push_back(&st->done_ops, &op->node); /* a turn is still to come */
				return;
			}
			store_free(st);
		}
		op->done(op);
	}
}

void io_complete(struct store *st, struct pst_io *io, pst_err err)
{
	io->err = err;
	pst_list_push_back(&st->done_ios, &io->node);
	store_schedule(st);
}

/* ---- Memory ---- */

static pst_err pools_init(struct store *st, uint32_t depth)
{
	st->reqs = calloc(depth, sizeof(st->reqs[0]));
	st->pieces = calloc(depth, sizeof(st->pieces[0]));
	st->bounce_memory = aligned_alloc(PST_BLOCK_BYTES, (size_t)BOUNCES * BOUNCE_BLOCKS * PST_BLOCK_BYTES);
	st->sb = aligned_alloc(PST_BLOCK_BYTES, PST_BLOCK_BYTES);
	if (st->reqs == NULL || st->pieces == NULL || st->bounce_memory == NULL || st->sb == NULL)
		return PST_E_NOMEM;
	for (uint32_t i = 0; i < depth; i++) {
		st->reqs[i].store = st;
		pst_list_push_back(&st->free_reqs, &st->reqs[i].wait.node);
		pst_list_push_back(&st->free_pieces, &st->pieces[i].logged.node);
	}
	for (unsigned i = 0; i < BOUNCES; i++)
		st->bounces[st->bounce_count++] =
		    (char *)st->bounce_memory + (size_t)i * BOUNCE_BLOCKS * PST_BLOCK_BYTES;
	return PST_OK;
}

pst_err store_new(struct pst_env *env, const struct pst_store_config *config, struct store **ret_store)
{
	struct store *st = calloc(1, sizeof(*st));
	struct pst_list *lists[] = { &st->volumes,     &st->free_reqs, &st->free_pieces, &st->io_queue,
				     &st->req_waiters, &st->reads,     &st->flush_next,  &st->flush_now,
				     &st->runnable,    &st->done_ios,  &st->done_closes, &st->done_ops };
	pst_err err;

	if (st == NULL)
		return PST_E_NOMEM;
	for (size_t i = 0; i < PST_ARRAY_COUNT(lists); i++)
		pst_list_init(lists[i]);
	st->pool.ops = &store_pool_ops;
	st->pool.env = env;
	st->unflushed_bytes_max = config->unflushed_bytes_max;
	st->on_event = config->on_event;
	st->event_ctx = config->event_ctx;
	st->turn.fn = store_turn;
	st->next_read_id = 1;
	control_init(st);
	space_init(st, config);
	merge_init(st);
	err = cache_init(&st->cache, config->metadata_cache_bytes);
	if (err == PST_OK)
		err = pools_init(st, config->io_depth_max);
	if (err == PST_OK)
		err = bad_init(st);
	if (err == PST_OK)
		err = tasks_init(st);
	if (err == PST_OK)
		err = readahead_init(st, config->readahead_bytes);
	if (err != PST_OK) {
		store_free(st);
		return err;
	}
	*ret_store = st;
	return PST_OK;
}

static pst_err part_init(struct store *st, uint32_t index)
{
	struct part *p = &st->parts[index];
	pst_err err;

	p->store = st;
	p->index = index;
	p->geo = st->sb->partitions[index];
	for (unsigned l = 0; l < PST_NODE_LEVELS; l++)
		pst_list_init(&p->dirty[l]);
	pst_list_init(&p->pending);
	pst_list_init(&p->applying);
	pst_list_init(&p->space_waiters);
	pst_list_init(&p->paused);
	pst_list_init(&p->cp.images);
	pst_timer_init(&p->cp.retry, NULL);
	prefetch_init(p);
	p->cp.root = aligned_alloc(PST_BLOCK_BYTES, PST_BLOCK_BYTES);
	if (index == 0) {
		p->cp.catalog = aligned_alloc(PST_BLOCK_BYTES, PST_CATALOG_BYTES_MAX);
		p->cp.catalog_at = calloc(PST_NODE_FANOUT, sizeof(p->cp.catalog_at[0]));
		if (p->cp.catalog == NULL || p->cp.catalog_at == NULL)
			return PST_E_NOMEM;
	}
	if (p->cp.root == NULL)
		return PST_E_NOMEM;
	memset(p->cp.root, 0, PST_BLOCK_BYTES);
	err = pst_alloc_init(&p->alloc, index, p->geo.blocks, p->geo.data_start);
	if (err == PST_OK)
		err = part_segments_init(p);
	for (unsigned i = 0; err == PST_OK && i < LOG_WRITES; i++) {
		p->writes[i].blocks = aligned_alloc(PST_BLOCK_BYTES, (size_t)LOG_WRITE_BLOCKS * PST_BLOCK_BYTES);
		if (p->writes[i].blocks == NULL)
			err = PST_E_NOMEM;
	}
	return err;
}

pst_err store_parts_init(struct store *st)
{
	st->parts = calloc(st->sb->partition_count, sizeof(st->parts[0]));
	if (st->parts == NULL)
		return PST_E_NOMEM;
	st->part_count = st->sb->partition_count;
	for (uint32_t i = 0; i < st->part_count; i++) {
		pst_err err = part_init(st, i);

		if (err != PST_OK)
			return err;
	}
	return PST_OK;
}

void store_free(struct store *st)
{
	while (!pst_list_empty(&st->volumes)) /* before the partitions, which count what is promised to them */
		svol_free(pst_container_of(st->volumes.next, struct svol, node));
	for (uint32_t i = 0; i < st->part_count; i++) {
		struct part *p = &st->parts[i];

		if (p->alloc.used != NULL)
			pst_alloc_done(&p->alloc);
		for (unsigned w = 0; w < LOG_WRITES; w++)
			free(p->writes[w].blocks);
		free(p->freed.items);
		free(p->node_freed.items);
		free(p->cp.root);
		free(p->cp.catalog);
		free(p->cp.catalog_at);
	}
	free(st->parts);
	tasks_free(st);
	readahead_free(st);
	keys_free(st);
	bad_free(st);
	pst_records_done(&st->records);
	cache_done(&st->cache);
	devices_close(st);
	free(st->reqs);
	free(st->pieces);
	free(st->bounce_memory);
	free(st->sb);
	free(st);
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What deleted versions held comes back, in the background, one version at a time. A deleted version that has at most
 * one child is walked top down, one node and one log record after the other (share.c says what a record does): what its
 * child holds too becomes the child's, what its parent holds stays the parent's, the rest is freed. When no partition
 * has anything of it any more, and that is durable, a last record removes it and gives its child to its parent.
 *
 * A deleted version with more children stays until it has one: they share through it. Nothing is remembered but the
 * flag PST_VOLUME_DELETING: after a crash the walk finds what is left.
 *
 * Whoever changes the tree of versions (version.c) holds the walk meanwhile: a record names parent and child.
 */
#include "store/keys.h"
#include "store/task.h"

#include <string.h>

#define RETRY_NS ((uint64_t)100 * 1000 * 1000)

static void merge_begin(struct waiter *w);

static uint32_t child_count(struct store *st, uint32_t slot, struct svol **ret_child)
{
	uint32_t count = 0;

	*ret_child = NULL;
	PST_LIST_EACH(l, &st->volumes) {
		struct svol *v = pst_container_of(l, struct svol, node);

		if (v->disk.parent != slot)
			continue;
		*ret_child = v;
		count++;
	}
	return count;
}

uint32_t merge_children(struct store *st, uint32_t slot)
{
	struct svol *child;

	return child_count(st, slot, &child);
}

/*
 * One that has been begun is ended first: with its parent and its child it is compared place by place, and neither may
 * be taken for one that holds nothing there only because it has been merged already. But before all others those that
 * never were (PENDING): on partitions without their mark they hold nothing, though their child shares with their
 * parent. Of two of these in a row the lower one, for the same reason.
 */
static struct svol *next_version(struct store *st)
{
	struct svol *next = NULL, *begun = NULL;

	PST_LIST_EACH(l, &st->volumes) {
		struct svol *v = pst_container_of(l, struct svol, node);
		struct svol *child;
		bool can = (v->disk.flags & PST_VOLUME_DELETING) != 0 && child_count(st, v->disk.slot, &child) <= 1;

		if (can && (v->disk.flags & PST_VOLUME_PENDING) != 0 &&
		    (child == NULL || (child->disk.flags & PST_VOLUME_PENDING) == 0))
			return v;
		if ((v->disk.flags & PST_VOLUME_MERGING) != 0)
			begun = v;
		else if (next == NULL && can)
			next = v;
	}
	return begun != NULL ? begun : next;
}

static void stop(struct store *st)
{
	struct merging *m = &st->merging;

	m->version = NULL;
	m->starved = false;
	m->wait.err = PST_OK;
	for (uint32_t i = 0; i < st->part_count; i++)
		st->parts[i].space_wake = true; /* who waited for this space has it, or never will */
	store_schedule(st);
	if (m->hold_waiter != NULL)
		store_wake(st, m->hold_waiter);
	m->hold_waiter = NULL;
}

/* ---- As a task: it is listed, has a rate, and lets requests go first ---- */

static const uint8_t of_pool[16];

static enum task_step delete_step(struct task *t)
{
	struct store *st = t->store;

	t->err = st->merging.err;
	if (t->err != PST_OK)
		return TASK_FAILED;
	return st->merging.version != NULL || next_version(st) != NULL ? TASK_WAIT : TASK_DONE;
}

const struct task_ops delete_task_ops = { .name = "delete",
					  .flags = TASK_OF_POOL | TASK_BY_ITSELF,
					  .step = delete_step };

/* Without memory for the task it goes on all the same, unlisted and unbraked. */
static void task_show(struct store *st, bool running)
{
	struct task *t = task_find(st, PST_TASK_DELETE, of_pool);

	if (running)
		(void)!task_start_internal(st, PST_TASK_DELETE, of_pool);
	else if (t != NULL)
		task_wake(t);
}

/* Something was deleted, or a hold has ended. */
void merge_kick(struct store *st)
{
	struct merging *m = &st->merging;

	if (m->version != NULL || m->holds > 0 || st->closing || st->recovering || st->failed != PST_OK)
		return;
	m->err = PST_OK;
	m->version = next_version(st);
	task_show(st, m->version != NULL);
	if (m->version == NULL)
		return;
	m->part_index = 0;
	memset(m->merged, 0xff, sizeof(m->merged));
	m->wait.run = merge_begin;
	m->wait.err = PST_OK;
	/* The key of a family goes first: whatever happens to the rest, nobody can read it any more. */
	if (!keys_wipe_last(m->version, &m->wait))
		store_wake(st, &m->wait);
}

bool merge_hold(struct store *st, struct waiter *w)
{
	struct merging *m = &st->merging;

	if (m->version == NULL)
		return true;
	m->hold_waiter = w;
	merge_hurry(st);
	return false;
}

/* ---- One record ---- */

static void unpin_all(struct merging *m)
{
	for (uint32_t i = 0; i < m->pin_count; i++)
		map_unpin(m->pins[i]);
	m->pin_count = 0;
}

static bool space_wanted(const struct store *st)
{
	for (uint32_t i = 0; i < st->part_count; i++)
		if (!pst_list_empty(&st->parts[i].space_waiters))
			return true;
	return false;
}

static void merge_applied(struct logged *l)
{
	struct merging *m = pst_container_of(l, struct merging, logged);
	struct store *st = l->part->store;
	struct task *t = task_find(st, PST_TASK_DELETE, of_pool);
	uint64_t bytes = (uint64_t)m->pins[0]->data->used * PST_BLOCK_BYTES, due = 0;

	if (l->record.count > 0)
		bytes = PST_BLOCK_BYTES; /* of a node above the leaves: itself */
	if (st->failed == PST_OK && share_merge(l->part, &l->record, &m->body, l->seq))
		m->merged[l->record.count] = l->record.lba;
	unpin_all(m);
	l->part->merging = false;
	if (t != NULL) {
		t->done_bytes += l->record.count == 0 ? bytes : 0;
		due = task_brake(t, bytes, m->begun_ns);
	}
	m->braked = due > 0 && m->holds == 0 && !st->closing && !space_wanted(st);
	if (m->braked)
		pst_timer_arm(st->pool.env, &m->pause, due);
	else
		store_wake(st, &m->wait);
}

/* Who needs space, or the tree of versions, is not made to wait for the rate. */
void merge_hurry(struct store *st)
{
	struct merging *m = &st->merging;

	if (!m->braked)
		return;
	m->braked = false;
	pst_timer_disarm(st->pool.env, &m->pause);
	store_wake(st, &m->wait);
}

static enum map_result pin(struct merging *m, struct part *p, unsigned level, uint32_t slot, uint64_t index)
{
	struct node *n = NULL;
	enum map_result got;

	if (slot == 0)
		return MAP_HOLE;
	got = map_get(p, level, map_index_of_slot(level, slot, index), false, &m->wait, &n);
	if (got != MAP_OK)
		return got;
	map_pin(n);
	m->pins[m->pin_count++] = n;
	return got;
}

/* Everything that the record needs, in memory. */
static enum map_result pin_all(struct merging *m, struct part *p, unsigned level, uint64_t index)
{
	const uint32_t slots[] = { m->version->disk.slot, m->body.child, m->body.parent, m->body.grandparent };
	enum map_result got = MAP_OK;

	for (size_t i = 0; i < PST_ARRAY_COUNT(slots); i++) {
		got = pin(m, p, level, slots[i], index);
		if (got == MAP_OK || got == MAP_HOLE)
			got = pin(m, p, PST_NODE_LEVEL_VOLUME, slots[i], 0);
		if (got == MAP_WAIT || got == MAP_ERROR) {
			unpin_all(m);
			return got;
		}
	}
	return MAP_OK;
}

/* ---- The walk ---- */

/* The next node to be merged. MAP_HOLE: the partition has nothing of the version any more. */
static enum map_result next_node(struct merging *m, struct part *p, unsigned *ret_level, uint64_t *ret_index)
{
	uint64_t index = 0;

	for (unsigned level = PST_NODE_LEVEL_VOLUME;; level--) {
		struct node *n = NULL;
		enum map_result got =
		    map_get(p, level, map_index_of_slot(level, m->version->disk.slot, index), false, &m->wait, &n);
		uint32_t i = 0;

		if (got != MAP_OK)
			return got;
		if (level == 0 || m->merged[level] != index || n->data->used == 0) {
			*ret_level = level;
			*ret_index = index;
			return MAP_OK;
		}
		while (n->data->entry[i].block == 0)
			i++;
		index = index * PST_NODE_FANOUT + i;
	}
}

static void merge_end_applied(struct logged *l)
{
	struct store *st = l->part->store;

	if (st->failed == PST_OK && catalog_replay(st, &l->record, NULL, l->seq) != PST_OK)
		store_fail(st, PST_E_INTERNAL, "version_end_failed");
	stop(st);
	merge_kick(st);
}

/* Every partition's part is gone, durably: the version goes. */
static void merge_end(struct waiter *w)
{
	struct merging *m = pst_container_of(w, struct merging, wait);
	struct store *st = pst_container_of(m, struct store, merging);
	pst_err err = w->err != PST_OK ? w->err : part_admit(&st->parts[0], false, w);

	if (err == PST_E_AGAIN)
		return;
	if (err != PST_OK || st->closing || m->holds > 0 || m->version->logged_busy) {
		stop(st);
		return;
	}
	m->logged.record = (struct pst_log_record){ .kind = PST_LOG_VOLUME_END, .slot = m->version->disk.slot };
	m->logged.body = NULL;
	m->logged.body_bytes = 0;
	m->logged.ready = true;
	m->logged.apply = merge_end_applied;
	journal_add(&st->parts[0], &m->logged);
}

static void log_merge(struct merging *m, struct part *p, unsigned level, uint64_t index)
{
	p->merging = true;
	m->begun_ns = pst_env_now_ns(p->store->pool.env);
	m->logged.record = (struct pst_log_record){
		.kind = PST_LOG_MERGE, .slot = m->version->disk.slot, .lba = index, .count = level
	};
	m->logged.body = &m->body;
	m->logged.body_bytes = sizeof(m->body);
	m->logged.ready = true;
	m->logged.apply = merge_applied;
	journal_add(p, &m->logged);
}

static void failed(struct store *st, pst_err err)
{
	char uuid[37];

	store_event(st, PST_LOG_ERROR,
		    "delete_stopped version=%s error=%s: its space stays in use; check the pool and open it again",
		    store_uuid_text(st->merging.version->disk.uuid, uuid), pst_err_name(err));
	st->merging.err = err;
	stop(st);
	task_show(st, false);
}

/* PST_OK: a record is on its way. PST_E_NOTFOUND: the partition is done. PST_E_AGAIN: it waits. */
static pst_err merge_step(struct store *st, struct part *p)
{
	struct merging *m = &st->merging;
	unsigned level = 0;
	uint64_t index = 0;
	enum map_result got;
	pst_err err = part_admit(p, false, &m->wait);

	if (err != PST_OK)
		return err;
	got = next_node(m, p, &level, &index);
	if (got == MAP_OK)
		got = pin_all(m, p, level, index);
	else if (got == MAP_HOLE)
		return PST_E_NOTFOUND;
	if (got != MAP_OK)
		return got == MAP_WAIT ? PST_E_AGAIN : m->wait.err;
	/* It may dirty two paths: its own record's and as many again. */
	if (p->alloc.free_count < checkpoint_need(p) + PST_NODE_LEVELS) {
		unpin_all(m);
		err = part_space_wait(p, &m->wait, &m->space_checkpoint);
		return err == PST_OK ? PST_E_AGAIN : err;
	}
	m->space_checkpoint = 0;
	m->starved = false;
	log_merge(m, p, level, index);
	return PST_OK;
}

static void merge_run(struct waiter *w)
{
	struct merging *m = pst_container_of(w, struct merging, wait);
	struct store *st = pst_container_of(m, struct store, merging);
	struct svol *child, *parent;
	pst_err err = w->err != PST_OK ? w->err : PST_E_NOTFOUND;

	if (st->closing || st->failed != PST_OK || m->holds > 0 || child_count(st, m->version->disk.slot, &child) > 1) {
		stop(st);
		return;
	}
	parent = svol_by_slot(st, m->version->disk.parent);
	m->body = (struct pst_log_merge){
		.parent = m->version->disk.parent,
		.grandparent =
		    parent != NULL && (parent->disk.flags & PST_VOLUME_MERGING) != 0 ? parent->disk.parent : 0,
		.child = child != NULL ? child->disk.slot : 0,
		.child_live = child != NULL && (child->disk.flags & (PST_VOLUME_SNAPSHOT | PST_VOLUME_DELETING)) == 0,
	};
	while (err == PST_E_NOTFOUND && m->part_index < st->part_count) {
		err = merge_step(st, &st->parts[m->part_index]);
		if (err == PST_E_NOTFOUND) {
			m->part_index++;
			memset(m->merged, 0xff, sizeof(m->merged));
		}
	}
	if (err == PST_OK || err == PST_E_AGAIN)
		return;
	if (err == PST_E_NOSPACE) { /* others have what it needs for the moment; giving up would keep the pool full */
		m->space_checkpoint = 0;
		m->starved = true;
		pst_timer_arm(st->pool.env, &m->pause, pst_env_now_ns(st->pool.env) + RETRY_NS);
		return;
	}
	if (err != PST_E_NOTFOUND) {
		failed(st, err);
		return;
	}
	w->run = merge_end;
	commit_wait(st, w);
}

static void merge_begun(struct logged *l)
{
	struct svol *v = pst_container_of(l, struct svol, logged);
	struct merging *m = &v->store->merging;

	svol_logged(l);
	m->wait.run = merge_run;
	commit_wait(v->store, &m->wait);
}

/* That it has been begun must be known before anything is changed. */
static void merge_begin(struct waiter *w)
{
	struct merging *m = pst_container_of(w, struct merging, wait);
	struct store *st = pst_container_of(m, struct store, merging);
	struct svol *v = m->version;
	pst_err err = w->err != PST_OK ? w->err : part_admit(&st->parts[0], false, w);

	if (err == PST_E_AGAIN)
		return;
	if (st->closing || st->failed != PST_OK || m->holds > 0)
		stop(st);
	else if (err != PST_OK)
		failed(st, err);
	else if ((v->disk.flags & PST_VOLUME_MERGING) != 0)
		merge_run(w);
	else
		svol_log(v, v->disk.flags | PST_VOLUME_MERGING, merge_begun);
}

static void merge_pause_over(struct pst_timer *timer)
{
	struct merging *m = pst_container_of(timer, struct merging, pause);

	m->braked = false;
	store_wake(pst_container_of(m, struct store, merging), &m->wait);
}

void merge_init(struct store *st)
{
	pst_list_init(&st->merging.wait.node);
	pst_timer_init(&st->merging.pause, merge_pause_over);
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Snapshots, clones, rollback: making versions. Requests of the volumes go on meanwhile.
 *
 *   hold the merging of deleted versions -> each new version is recorded as PENDING, durably: whatever happens from now
 *   on, its slot is known -> the nodes that are needed are brought into memory and pinned -> THE INSTANT: in one turn,
 * a record for each new version goes into the log of every partition -> all are applied and durable -> the versions are
 *   recorded as made, durably
 *
 * The instant: a write is in the snapshot if its record was logged before. A write that had completed when another
 * began was logged before that one, in whatever partition; so no snapshot has a write without those that it may depend
 * on. After a crash a version that is still PENDING is deleted like any other: what it shares goes back (merge.c).
 */
#include "store/space.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum step { STEP_HOLD, STEP_INTEND, STEP_GATHER, STEP_MARK, STEP_MAKE, STEP_END };

struct mark {
	struct logged logged;
	struct making *making;
	struct node *from, *to; /* pinned; NULL: not yet */
};

struct member {
	struct svol *from;            /* what it shares with */
	struct svol *subject;         /* whose place in the tree of versions changes with it */
	struct pst_version_disk made; /* what it is in the end */
	struct pst_version_disk disk; /* as it is being recorded */
	struct logged logged;
	struct making *making;
};

struct making {
	struct store *st;
	enum step step;
	enum pst_log_kind kind;        /* of the marks: SNAPSHOT or CLONE */
	enum pst_log_also first, last; /* of the version records */
	uint32_t member_count;
	struct member *members;
	uint32_t mark_count;
	struct mark *marks; /* by member, then partition */
	uint32_t gathered, marked;
	uint32_t busy; /* records that are not applied */
	pst_err err;
};

static struct waiter *wait_of(struct making *k)
{
	return &k->st->control.wait;
}

static void end(struct making *k)
{
	struct store *st = k->st;
	pst_err err = k->err;

	for (uint32_t i = 0; i < k->mark_count; i++) {
		if (k->marks[i].from != NULL)
			map_unpin(k->marks[i].from);
		if (k->marks[i].to != NULL)
			map_unpin(k->marks[i].to);
	}
	free(k->members);
	free(k->marks);
	free(k);
	st->control.making = NULL;
	st->merging.holds--;
	control_finish(st, err);
	merge_kick(st);
}

/* ---- Version records of all members, then a flush ---- */

static void record_applied(struct logged *l)
{
	struct member *m = pst_container_of(l, struct member, logged);
	struct making *k = m->making;
	struct store *st = k->st;

	m->subject->logged_busy = false;
	if (st->failed != PST_OK)
		k->err = PST_E_IO;
	else if (catalog_replay(st, &l->record, &m->disk, l->seq) != PST_OK)
		store_fail(st, k->err = PST_E_NOMEM, "version_record_failed");
	else
		space_volume_changed(svol_by_slot(st, m->disk.slot));
	if (--k->busy == 0)
		commit_wait(st, wait_of(k));
}

static void log_records(struct making *k, uint32_t flags, enum pst_log_also also)
{
	for (uint32_t i = 0; i < k->member_count; i++) {
		struct member *m = &k->members[i];

		if (also == PST_ALSO_ADOPT) /* only now that no version ends any more */
			m->made.parent = m->subject->disk.parent;
		m->disk = m->made;
		m->disk.flags |= flags;
		m->logged.record = (struct pst_log_record){
			.kind = PST_LOG_VERSION, .slot = m->made.slot, .block = also, .lba = m->subject->disk.slot
		};
		m->logged.body = &m->disk;
		m->logged.body_bytes = sizeof(m->disk);
		m->logged.ready = true;
		m->logged.apply = record_applied;
		m->subject->logged_busy = true;
		k->busy++;
		journal_add(&k->st->parts[0], &m->logged);
	}
}

/* Room for all of the records at once? PST_E_AGAIN: waiting. */
static pst_err records_room(struct making *k)
{
	struct store *st = k->st;

	for (uint32_t i = 0; i < k->member_count; i++) {
		if (!k->members[i].subject->logged_busy)
			continue;
		pst_list_push_back(&st->parts[0].space_waiters, &wait_of(k)->node);
		return PST_E_AGAIN;
	}
	return control_room(st, k->member_count, (uint32_t)sizeof(struct pst_version_disk));
}

/* ---- The nodes that the marks need ---- */

static enum map_result pin(struct making *k, struct part *p, uint32_t slot, struct node **ret_node)
{
	struct node *n = NULL;
	enum map_result got = map_get(p, PST_NODE_LEVEL_VOLUME, slot, true, wait_of(k), &n);

	if (got != MAP_OK)
		return got;
	map_pin(n);
	*ret_node = n;
	return MAP_OK;
}

static pst_err gather(struct making *k)
{
	struct store *st = k->st;

	for (; k->gathered < k->mark_count; k->gathered++) {
		struct mark *mark = &k->marks[k->gathered];
		struct member *m = &k->members[k->gathered / st->part_count];
		struct part *p = &st->parts[k->gathered % st->part_count];
		enum map_result got = MAP_OK;
		pst_err err;

		if (st->failed != PST_OK)
			return PST_E_IO;
		if (p->alloc.free_count < space_last(p) + 2 * PST_NODE_LEVELS) {
			err = part_space_wait(p, wait_of(k), &st->control.space_checkpoint);
			return err == PST_OK ? PST_E_AGAIN : err;
		}
		if (mark->from == NULL)
			got = pin(k, p, m->from->disk.slot, &mark->from);
		if (got == MAP_OK)
			got = pin(k, p, m->made.slot, &mark->to);
		if (got == MAP_WAIT)
			return PST_E_AGAIN;
		if (got == MAP_ERROR)
			return wait_of(k)->err;
	}
	return PST_OK;
}

/* ---- The instant ---- */

static void log_marks(struct making *k);

static void mark_applied(struct logged *l)
{
	struct mark *mark = pst_container_of(l, struct mark, logged);
	struct making *k = mark->making;

	if (k->st->failed != PST_OK)
		k->err = PST_E_IO;
	else if (l->record.kind == PST_LOG_SNAPSHOT)
		share_snapshot(l->part, l->record.slot, (uint32_t)l->record.lba);
	else
		share_clone(l->part, l->record.slot, (uint32_t)l->record.lba);
	if (k->st->failed == PST_OK)
		space_node(mark->from); /* what it has is no longer charged to it */
	k->busy--;
	if (PST_MUTANT == PST_MUTANT_NO_BARRIER && k->st->failed == PST_OK)
		log_marks(k);
	if (k->busy == 0)
		commit_wait(k->st, wait_of(k));
}

/* May all marks go into the logs now? PST_E_AGAIN: waiting. */
static pst_err marks_room(struct making *k)
{
	struct store *st = k->st;
	uint32_t pages = st->cache.dirty + st->cache.image_count;

	if (st->failed != PST_OK)
		return PST_E_IO;
	if (pages > st->cache.capacity / 2) { /* two pages for each node are all that there are */
		for (uint32_t i = 0; i < st->part_count; i++)
			checkpoint_want(&st->parts[i], NULL);
		pst_list_push_back(&st->cache.waiters, &wait_of(k)->node);
		return PST_E_AGAIN;
	}
	for (uint32_t i = 0; i < st->part_count; i++) {
		struct part *p = &st->parts[i];
		pst_err err = part_admit(p, false, wait_of(k));

		if (err != PST_OK)
			return err;
		if (!journal_room_for(p, k->member_count)) {
			checkpoint_want(p, NULL);
			pst_list_push_back(&p->space_waiters, &wait_of(k)->node);
			return PST_E_AGAIN;
		}
		if (p->alloc.free_count < space_last(p) + k->member_count * PST_NODE_LEVELS) {
			err = part_space_wait(p, wait_of(k), &st->control.space_checkpoint);
			return err == PST_OK ? PST_E_AGAIN : err;
		}
	}
	return PST_OK;
}

static void log_marks(struct making *k)
{
	struct store *st = k->st;

	for (; k->marked < k->mark_count; k->marked++) {
		uint32_t i = k->marked;
		struct mark *mark = &k->marks[i];
		const struct member *m = &k->members[i / st->part_count];

		if (PST_MUTANT == PST_MUTANT_NO_BARRIER && k->busy > 0)
			return; /* one after the other */
		mark->logged.record = (struct pst_log_record){ .kind = (uint8_t)k->kind,
							       .slot = m->made.slot,
							       .lba = m->from->disk.slot };
		mark->logged.ready = true;
		mark->logged.apply = mark_applied;
		mark->making = k;
		k->busy++;
		journal_add(&st->parts[i % st->part_count], &mark->logged);
	}
}

/* ---- The machine ---- */

/*
 * Nothing may be left half made: what has been recorded is deleted. That needs no record, and no room for one: after a
 * crash a version that is PENDING is deleted all the same.
 */
static void fail(struct making *k, pst_err err)
{
	struct store *st = k->st;

	if (k->err == PST_OK)
		k->err = err;
	for (uint32_t i = 0; k->step > STEP_INTEND && k->step < STEP_END && i < k->member_count; i++) {
		struct svol *v = svol_by_slot(st, k->members[i].made.slot);

		if (v != NULL)
			v->disk.flags |= PST_VOLUME_DELETING;
	}
	catalog_changed(st);
	end(k);
}

/* One step, from where it stands. PST_E_AGAIN: it waits, or the step's records are on their way. */
static pst_err step_run(struct making *k)
{
	enum step next = k->step + 1;
	bool logs = false;
	pst_err err;

	switch (k->step) {
	case STEP_HOLD:
		err = merge_hold(k->st, wait_of(k)) ? PST_OK : PST_E_AGAIN;
		break;
	case STEP_GATHER:
		err = gather(k);
		break;
	case STEP_MARK:
		err = marks_room(k);
		logs = err == PST_OK;
		if (logs)
			log_marks(k);
		break;
	default:
		err = records_room(k);
		logs = err == PST_OK;
		if (!logs)
			break;
		if (k->step == STEP_INTEND)
			log_records(k, PST_VOLUME_PENDING, k->first);
		else
			log_records(k, 0, k->last);
		break;
	}
	if (err != PST_OK)
		return err;
	k->step = next;
	return logs ? PST_E_AGAIN : PST_OK;
}

void version_run(struct store *st)
{
	struct making *k = st->control.making;
	pst_err err = wait_of(k)->err != PST_OK ? wait_of(k)->err : k->err;

	while (err == PST_OK) {
		if (k->step == STEP_END) {
			end(k);
			return;
		}
		err = step_run(k);
	}
	if (err != PST_E_AGAIN)
		fail(k, err);
}

/* ---- What is to be made ---- */

static pst_err free_slot(struct store *st, uint32_t *slot)
{
	while (*slot < PST_SLOTS_MAX && svol_by_slot(st, *slot) != NULL)
		++*slot;
	return *slot < PST_SLOTS_MAX ? PST_OK : PST_E_NOSPACE;
}

static pst_err snapshot_member(struct store *st, struct member *m, const struct pst_snapshot_member *asked)
{
	struct svol *v = svol_find(st, asked->volume);

	if (v == NULL)
		return PST_E_NOTFOUND;
	if (svol_find(st, asked->snapshot) != NULL)
		return PST_E_EXISTS;
	if ((v->disk.flags & PST_VOLUME_SNAPSHOT) != 0)
		return PST_E_INVAL;
	if (v->closing != NULL)
		return PST_E_BUSY;
	m->from = m->subject = v;
	m->made = v->disk;
	m->made.flags = PST_VOLUME_SNAPSHOT;
	m->made.reserved_blocks = 0;
	memcpy(m->made.uuid, asked->snapshot, 16);
	return PST_OK;
}

static pst_err clone_member(struct store *st, struct member *m, const struct pst_pool_op *op)
{
	bool rollback = op->kind == PST_POOL_ROLLBACK;
	struct svol *s = svol_find(st, rollback ? op->other : op->uuid), *v = svol_find(st, op->uuid);

	if (s == NULL || v == NULL)
		return PST_E_NOTFOUND;
	if (!rollback && svol_find(st, op->other) != NULL)
		return PST_E_EXISTS;
	if ((s->disk.flags & PST_VOLUME_SNAPSHOT) == 0 || (rollback && (v->disk.flags & PST_VOLUME_SNAPSHOT) != 0))
		return PST_E_INVAL;
	if (rollback && (v->open || v->closing != NULL))
		return PST_E_BUSY;
	if (rollback && v->disk.key_block != s->disk.key_block)
		return PST_E_INVAL; /* another family's key */
	m->from = s;
	m->subject = v;
	m->made = s->disk;
	m->made.flags = rollback ? v->disk.flags & PST_VOLUME_PAUSE : 0;
	m->made.reserved_blocks = rollback ? v->disk.reserved_blocks : 0;
	m->made.parent = s->disk.slot;
	memcpy(m->made.uuid, rollback ? op->uuid : op->other, 16);
	return PST_OK;
}

static pst_err members_init(struct making *k, struct pst_pool_op *op)
{
	uint32_t slot = 1;

	for (uint32_t i = 0; i < k->member_count; i++) {
		struct member *m = &k->members[i];
		pst_err err = op->kind == PST_POOL_SNAPSHOT ? snapshot_member(k->st, m, &op->members[i])
							    : clone_member(k->st, m, op);

		if (err == PST_OK && op->kind == PST_POOL_SNAPSHOT)
			err = space_can_snapshot(k->st, m->from, op->detail);
		if (err == PST_OK)
			err = free_slot(k->st, &slot);
		if (err != PST_OK)
			return err;
		for (uint32_t j = 0; j < i; j++)
			if (k->members[j].from == m->from || memcmp(k->members[j].made.uuid, m->made.uuid, 16) == 0)
				return PST_E_INVAL;
		m->made.slot = slot++;
		m->making = k;
	}
	return PST_OK;
}

pst_err version_begin(struct store *st, struct pst_pool_op *op)
{
	struct making *k = calloc(1, sizeof(*k));
	pst_err err = PST_E_NOMEM;

	if (k == NULL)
		return PST_E_NOMEM;
	k->st = st;
	k->kind = op->kind == PST_POOL_SNAPSHOT ? PST_LOG_SNAPSHOT : PST_LOG_CLONE;
	k->first = op->kind == PST_POOL_SNAPSHOT ? PST_ALSO_ADOPT : PST_ALSO_NOTHING;
	k->last = op->kind == PST_POOL_ROLLBACK ? PST_ALSO_REPLACE : PST_ALSO_NOTHING;
	k->member_count = op->kind == PST_POOL_SNAPSHOT ? op->member_count : 1;
	k->mark_count = k->member_count * st->part_count;
	k->members = calloc(k->member_count, sizeof(k->members[0]));
	k->marks = calloc(k->mark_count, sizeof(k->marks[0]));
	/* Their nodes stay in memory, so most of it must be left to others. */
	if (2 * k->mark_count + PST_NODE_LEVELS > st->cache.capacity / 2)
		snprintf(op->detail, sizeof(op->detail), "needs a metadata cache of at least %u MiB",
			 (4 * k->mark_count + 4 * PST_NODE_LEVELS) / 256 + 1);
	else if (k->members != NULL && k->marks != NULL)
		err = members_init(k, op);
	if (err != PST_OK) {
		free(k->members);
		free(k->marks);
		free(k);
		return err;
	}
	st->control.making = k;
	st->merging.holds++;
	return PST_OK;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * PST_TASK_FLATTEN: a volume gets blocks of its own for everything that it shares with its parent version, and then has
 * no parent. What it was cloned from can be deleted and gives its space back; the volume's own earlier snapshots stay,
 * but are of another family from then on (no rollback to them).
 *
 *   WALK:   every leaf; rows of inherited blocks are moved (move.h: the copy is the volume's, nothing is freed)
 *   DETACH: as an operation of control.c, so that no snapshot comes in between, with merging held:
 *           in every partition, all that is mapped is its own -> flush -> the record without a parent
 *
 * Why in this order: the record is in partition 0, the copies are in all. Only when all copies are durable may the
 * record say that nothing is shared, or a crash could leave a volume that reads blocks which nobody keeps for it. What
 * is written between the look and the record replaces own blocks by own blocks.
 *
 * A snapshot of the volume that is taken meanwhile shares everything again: then the walk begins anew. Blocks that
 * can't be read can't be copied: the task stops with that error; overwrite or discard them, and start it again.
 * position: partition, local LBA, slot. The walk may be repeated at any time: own blocks are passed by.
 */
#include "store/task.h"

#include "store/move.h"

#include <stdio.h>
#include <string.h>

enum { AT_PART, AT_LBA, AT_SLOT }; /* in task.position */
enum detach { DETACH_NO, DETACH_DONE };

struct copier {
	struct move move;
	struct task *task;
	bool busy;
};

struct flatten {
	struct copier copiers[TASK_BUFFERS];
	struct task *task;
	uint64_t since; /* see move_room */
	uint64_t errors;
	pst_err err; /* of the last block that could not be copied */
	enum detach detach;
	struct pst_pool_op op;
};

/* ---- Detach: called by control.c for the operation that flatten_step submits ---- */

static void detach_done(struct pst_pool_op *op)
{
	struct flatten *f = pst_container_of(op, struct flatten, op);

	f->detach = DETACH_DONE;
	task_event_end(f->task);
}

bool flatten_is_detach(const struct pst_pool_op *op)
{
	return op->done == detach_done;
}

/* Is all that @v maps its own? PST_E_EXISTS: no. PST_E_AGAIN: waiting. */
static pst_err all_own(struct store *st, const struct svol *v)
{
	struct control *c = &st->control;

	for (; c->part_index < st->part_count; c->part_index++) {
		struct part *p = &st->parts[c->part_index];
		struct node *n = NULL;
		enum map_result got = map_get(p, PST_NODE_LEVEL_VOLUME, v->disk.slot, false, &c->wait, &n);

		if (got == MAP_WAIT)
			return PST_E_AGAIN;
		if (got == MAP_ERROR)
			return c->wait.err;
		if (got == MAP_OK && n->data->own_blocks != n->data->data_blocks)
			return PST_E_EXISTS;
	}
	return PST_OK;
}

pst_err flatten_gather(struct store *st, const struct svol *v, enum pst_log_also *ret_also)
{
	struct control *c = &st->control;
	pst_err err;

	if (c->wait.err != PST_OK)
		return c->wait.err;
	if (c->lba == 0) {
		if (!merge_hold(st, &c->wait))
			return PST_E_AGAIN;
		err = all_own(st, v);
		if (err != PST_OK)
			return err;
		c->lba = 1;
		commit_wait(st, &c->wait);
		return PST_E_AGAIN;
	}
	*ret_also = PST_ALSO_DETACH;
	return PST_OK;
}

/* ---- Walk ---- */

static void copied(struct move *m)
{
	struct copier *copier = pst_container_of(m, struct copier, move);
	struct task *t = copier->task;
	struct flatten *f = t->state;

	copier->busy = false;
	if (m->err != PST_OK) {
		f->err = m->err;
		f->errors++;
		t->errors += m->err != PST_E_NOSPACE;
	}
	task_give(t, m->buffer);
}

static bool inherited(const struct node *leaf, uint32_t i)
{
	return (move_old(leaf, i) & PST_PTR_INHERITED) != 0;
}

static enum task_step copy_row(struct task *t, struct part *p, const struct svol *v, const struct node *leaf,
			       uint32_t count)
{
	struct flatten *f = t->state;
	struct copier *copier = f->copiers;
	pst_err err = move_room(p, count, &t->wait, &f->since);
	uint8_t *buffer;

	if (err == PST_E_AGAIN)
		return TASK_WAIT;
	if (err != PST_OK) {
		t->err = err;
		return TASK_FAILED;
	}
	buffer = task_take(t, (uint64_t)count * PST_BLOCK_BYTES);
	if (buffer == NULL)
		return TASK_WAIT;
	while (copier->busy) /* there are as many as buffers */
		copier++;
	copier->busy = true;
	copier->task = t;
	copier->move.done = copied;
	copier->move.run_min = 1; /* what no run was free for is left to the next walk */
	t->done_bytes += (uint64_t)count * PST_BLOCK_BYTES;
	move_begin(&copier->move, p, v->disk.slot, t->position[AT_LBA], leaf, count, buffer);
	t->position[AT_LBA] += count;
	return TASK_MORE;
}

static enum task_step look(struct task *t, struct part *p, const struct svol *v, const struct node *leaf, uint64_t end)
{
	uint32_t i = (uint32_t)(t->position[AT_LBA] % PST_NODE_FANOUT), n = 0;
	uint32_t stop = (uint32_t)PST_MIN((uint64_t)PST_NODE_FANOUT, i + (end - t->position[AT_LBA]));

	for (; i < stop && !inherited(leaf, i); i++) {
		t->position[AT_LBA]++;
		t->done_bytes += leaf->data->entry[i].block != 0 ? PST_BLOCK_BYTES : 0;
	}
	while (i + n < stop && n < PST_PIECE_BLOCKS_MAX && inherited(leaf, i + n))
		n++;
	return n > 0 ? copy_row(t, p, v, leaf, n) : TASK_MORE;
}

static void walk_again(struct task *t)
{
	struct flatten *f = t->state;

	t->position[AT_PART] = t->position[AT_LBA] = 0;
	t->done_bytes = 0;
	t->total_bytes = task_volume(t)->used_blocks * PST_BLOCK_BYTES; /* known while it is open */
	f->errors = 0;
	f->detach = DETACH_NO;
}

/* The walk is over, and nothing is under way. */
static enum task_step detach(struct task *t)
{
	struct flatten *f = t->state;

	if (f->detach == DETACH_DONE && f->op.err == PST_OK)
		return TASK_DONE;
	if (f->detach == DETACH_DONE && f->op.err == PST_E_EXISTS) {
		walk_again(t);
		return TASK_MORE;
	}
	if (f->errors > 0 || (f->detach == DETACH_DONE && f->op.err != PST_E_BUSY)) {
		t->err = f->errors > 0 ? f->err : f->op.err;
		walk_again(t);
		return TASK_FAILED;
	}
	if (!task_event_begin(t))
		return TASK_WAIT;
	f->task = t;
	f->detach = DETACH_NO;
	f->op = (struct pst_pool_op){ .kind = PST_POOL_VOLUME_SET, .done = detach_done };
	memcpy(f->op.uuid, t->uuid, 16);
	pst_list_init(&f->op.node);
	control_submit(&t->store->pool, &f->op);
	return TASK_WAIT;
}

static enum task_step flatten_step(struct task *t)
{
	struct store *st = t->store;
	struct svol *v = task_volume(t);
	struct part *p;
	struct node *leaf = NULL;
	uint64_t end;

	if (t->position[AT_SLOT] != v->disk.slot) { /* it begins, or the volume was rolled back */
		t->position[AT_SLOT] = v->disk.slot;
		walk_again(t);
	}
	if (t->position[AT_PART] >= st->part_count)
		return t->inflight > 0 ? TASK_WAIT : detach(t);
	p = &st->parts[t->position[AT_PART]];
	end = part_local(st, p->index, v->disk.block_count);
	if (t->position[AT_LBA] < end) {
		switch (map_next_leaf(p, v->disk.slot, &t->position[AT_LBA], end, &t->wait, &leaf)) {
		case MAP_WAIT:
			task_charge(t, PST_BLOCK_BYTES);
			return TASK_WAIT;
		case MAP_ERROR:
			t->err = t->wait.err;
			t->wait.err = PST_OK;
			return TASK_FAILED;
		case MAP_OK:
			return look(t, p, v, leaf, end);
		default:
			break;
		}
	}
	t->position[AT_PART]++;
	t->position[AT_LBA] = 0;
	return TASK_MORE;
}

static pst_err flatten_check(struct store *st, struct svol *v, char detail[PST_DETAIL_BYTES])
{
	(void)st;
	if ((v->disk.flags & PST_VOLUME_SNAPSHOT) != 0) {
		snprintf(detail, PST_DETAIL_BYTES, "a snapshot stays as it was taken");
		return PST_E_DENIED;
	}
	if (v->disk.parent == 0) {
		snprintf(detail, PST_DETAIL_BYTES, "it shares nothing with other versions");
		return PST_E_INVAL;
	}
	return PST_OK;
}

const struct task_ops flatten_task_ops = {
	.name = "flatten",
	.flags = TASK_OF_VOLUME,
	.state_bytes = sizeof(struct flatten),
	.check = flatten_check,
	.step = flatten_step,
};

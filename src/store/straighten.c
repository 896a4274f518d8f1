/* SPDX-License-Identifier: Apache-2.0 */
/*
 * PST_TASK_STRAIGHTEN: data whose order on the device has nothing left of the order in the volume is rewritten in runs,
 * one volume or all that can be written. Random overwrites go to the device one behind another, in the order of time,
 * so a sequential read of them becomes as many small reads as there are blocks.
 *
 * The rule. A leaf of the map is looked at in windows of 128 blocks (512 KiB), and there at each row of neighbouring
 * blocks with data of the version's own: what a snapshot or a parent holds too is left alone, or it would be unshared
 * and take space twice. Rewriting a row pays if
 *   - it has at least ROW_MIN blocks: shorter ones are no sequential data, and
 *   - it lies in more than FRAGMENTS_PER_MIB fragments per MiB, that is, on average a device read of it gets less than
 *     64 KiB: above that, devices read as fast as they do in order, or nearly so.
 * A row is moved to one run of free blocks, at worst to runs of ROW_MIN blocks; if even those are not free, it stays.
 * Neighbouring rows get neighbouring runs as long as there is room.
 *
 * position: slot of the volume, partition, local LBA. Rewriting is not an error to repeat: a row in order is passed by.
 */
#include "store/task.h"

#include "store/move.h"

#include <stdio.h>

#define WINDOW_BLOCKS PST_PIECE_BLOCKS_MAX
#define ROW_MIN 16u
#define FRAGMENTS_PER_MIB 16u
#define MIB_BLOCKS 256u

enum { AT_SLOT, AT_PART, AT_LBA }; /* in task.position */

struct straightener {
	struct move move;
	struct task *task;
	bool busy;
};

struct straighten {
	struct straightener movers[TASK_BUFFERS];
	uint32_t sized; /* partitions counted for total_bytes */
	uint64_t moved_blocks, no_room_blocks;
	uint64_t since; /* see move_room */
};

static void move_done(struct move *m)
{
	struct straightener *mover = pst_container_of(m, struct straightener, move);
	struct task *t = mover->task;
	struct straighten *s = t->state;

	mover->busy = false;
	s->moved_blocks += m->moved;
	if (m->err == PST_E_NOSPACE)
		s->no_room_blocks += m->count;
	else if (m->err != PST_OK)
		t->errors++;
	task_give(t, m->buffer);
}

static bool own(const struct node *leaf, uint32_t i)
{
	uint32_t old = move_old(leaf, i);

	return old != 0 && (old & PST_PTR_INHERITED) == 0;
}

/* The row of own blocks at @i, at most up to @end; *ret_fragments: in how many pieces it lies. */
static uint32_t row_at(const struct node *leaf, uint32_t i, uint32_t end, uint32_t *ret_fragments)
{
	const struct pst_ptr *entry = leaf->data->entry;
	uint32_t n = 0;

	*ret_fragments = 0;
	for (; i + n < end && own(leaf, i + n); n++)
		if (n == 0 || entry[i + n].block != entry[i + n - 1].block + 1)
			++*ret_fragments;
	return n;
}

static bool pays(uint32_t blocks, uint32_t fragments)
{
	return blocks >= ROW_MIN && (uint64_t)fragments * MIB_BLOCKS > (uint64_t)blocks * FRAGMENTS_PER_MIB;
}

/* ---- Which volume, and how much there is ---- */

static bool writable(const struct svol *v)
{
	return (v->disk.flags & (PST_VOLUME_SNAPSHOT | PST_VOLUME_DELETING)) == 0;
}

/* The volume with the lowest slot from @slot on; NULL: none. */
static struct svol *next_volume(struct store *st, uint64_t slot)
{
	struct svol *best = NULL;

	PST_LIST_EACH(l, &st->volumes) {
		struct svol *v = pst_container_of(l, struct svol, node);

		if (writable(v) && v->disk.slot >= slot && (best == NULL || v->disk.slot < best->disk.slot))
			best = v;
	}
	return best;
}

static struct svol *current(struct task *t)
{
	if (task_of_pool(t))
		return next_volume(t->store, t->position[AT_SLOT]);
	return t->position[AT_SLOT] != UINT64_MAX ? task_volume(t) : NULL;
}

static enum task_step size_up(struct task *t)
{
	struct straighten *s = t->state;
	struct store *st = t->store;

	for (; s->sized < st->part_count; s->sized++) {
		struct part *p = &st->parts[s->sized];
		struct node *n = NULL;
		enum map_result got = MAP_HOLE;

		if (task_of_pool(t)) {
			t->total_bytes += (uint64_t)p->alloc.used_count * PST_BLOCK_BYTES;
			continue;
		}
		got = map_get(p, PST_NODE_LEVEL_VOLUME, task_volume(t)->disk.slot, false, &t->wait, &n);
		if (got == MAP_WAIT)
			return TASK_WAIT;
		t->wait.err = PST_OK; /* a node that can't be read is told when its turn comes */
		if (got == MAP_OK)
			t->total_bytes += n->data->data_blocks * PST_BLOCK_BYTES;
	}
	return TASK_MORE;
}

/* ---- Work ---- */

static enum task_step next_part(struct task *t, const struct svol *v)
{
	t->position[AT_LBA] = 0;
	if (++t->position[AT_PART] == t->store->part_count) {
		t->position[AT_PART] = 0;
		t->position[AT_SLOT] = task_of_pool(t) ? v->disk.slot + 1 : UINT64_MAX;
	}
	return TASK_MORE;
}

/* Blocks that were looked at and need nothing (any more). */
static void passed(struct task *t, const struct node *leaf, uint32_t from, uint32_t to)
{
	t->position[AT_LBA] += to - from;
	for (uint32_t i = from; i < to; i++)
		t->done_bytes += leaf->data->entry[i].block != 0 ? PST_BLOCK_BYTES : 0;
}

static enum task_step move_row(struct task *t, struct part *p, const struct svol *v, const struct node *leaf,
			       uint32_t count)
{
	struct straighten *s = t->state;
	uint64_t lba = t->position[AT_LBA];
	struct straightener *mover = s->movers;
	pst_err err = move_room(p, count, &t->wait, &s->since);
	uint8_t *buffer;

	if (err == PST_E_AGAIN)
		return TASK_WAIT;
	if (err != PST_OK) {
		passed(t, leaf, (uint32_t)(lba % PST_NODE_FANOUT), (uint32_t)(lba % PST_NODE_FANOUT) + count);
		s->no_room_blocks += count;
		s->since = 0;
		return TASK_MORE;
	}
	buffer = task_take(t, (uint64_t)count * PST_BLOCK_BYTES);
	if (buffer == NULL)
		return TASK_WAIT;
	while (mover->busy) /* there are as many as buffers */
		mover++;
	mover->busy = true;
	mover->task = t;
	mover->move.done = move_done;
	mover->move.run_min = ROW_MIN;
	passed(t, leaf, (uint32_t)(lba % PST_NODE_FANOUT), (uint32_t)(lba % PST_NODE_FANOUT) + count);
	move_begin(&mover->move, p, v->disk.slot, lba, leaf, count, buffer);
	return TASK_MORE;
}

static enum task_step look(struct task *t, struct part *p, const struct svol *v, const struct node *leaf, uint64_t end)
{
	uint64_t lba = t->position[AT_LBA];
	uint32_t at = (uint32_t)(lba % PST_NODE_FANOUT), i = at, count = 0, fragments;
	uint32_t stop = (at / WINDOW_BLOCKS + 1) * WINDOW_BLOCKS;

	stop = (uint32_t)PST_MIN(PST_MIN(stop, PST_NODE_FANOUT), at + (end - lba));
	while (i < stop) {
		count = row_at(leaf, i, stop, &fragments);
		if (pays(count, fragments))
			break;
		i += PST_MAX(count, 1u);
		count = 0;
	}
	passed(t, leaf, at, i);
	return count > 0 ? move_row(t, p, v, leaf, count) : TASK_MORE;
}

static enum task_step straighten_step(struct task *t)
{
	struct straighten *s = t->state;
	struct store *st = t->store;
	struct svol *v;
	struct part *p;
	struct node *leaf = NULL;
	uint64_t end;

	if (s->sized < st->part_count)
		return size_up(t);
	v = current(t);
	if (v == NULL || t->position[AT_PART] >= st->part_count)
		return TASK_DONE;
	if (t->position[AT_SLOT] != v->disk.slot) { /* the first one, the next one, or rolled back to another slot */
		t->position[AT_SLOT] = v->disk.slot;
		t->position[AT_PART] = t->position[AT_LBA] = 0;
	}
	p = &st->parts[t->position[AT_PART]];
	end = part_local(st, p->index, v->disk.block_count);
	if (t->position[AT_LBA] >= end)
		return next_part(t, v);
	switch (map_next_leaf(p, v->disk.slot, &t->position[AT_LBA], end, &t->wait, &leaf)) {
	case MAP_WAIT:
		task_charge(t, PST_BLOCK_BYTES);
		return TASK_WAIT;
	case MAP_ERROR: /* it was told as an event; what is below is left as it is */
		t->wait.err = PST_OK;
		t->errors++;
		return next_part(t, v);
	case MAP_HOLE:
		return next_part(t, v);
	default:
		return look(t, p, v, leaf, end);
	}
}

static pst_err straighten_check(struct store *st, struct svol *v, char detail[PST_DETAIL_BYTES])
{
	(void)st;
	if (v == NULL || writable(v))
		return PST_OK;
	snprintf(detail, PST_DETAIL_BYTES, "a snapshot stays as it was taken");
	return PST_E_DENIED;
}

static pst_err straighten_begin(struct task *t)
{
	t->total_bytes = 0;
	return PST_OK;
}

static void straighten_end(struct task *t)
{
	const struct straighten *s = t->state;
	char uuid[37];

	if (t->phase != TASK_FINISHED)
		return;
	store_event(t->store, PST_LOG_INFO, "straightened volume=%s moved_bytes=%llu no_room_bytes=%llu%s",
		    task_of_pool(t) ? "all" : store_uuid_text(t->uuid, uuid),
		    (unsigned long long)s->moved_blocks * PST_BLOCK_BYTES,
		    (unsigned long long)s->no_room_blocks * PST_BLOCK_BYTES,
		    s->no_room_blocks > 0 ? ": free space is scattered too; add space and start it again" : "");
}

const struct task_ops straighten_task_ops = {
	.name = "straighten",
	.flags = TASK_OF_POOL | TASK_OF_VOLUME,
	.state_bytes = sizeof(struct straighten),
	.check = straighten_check,
	.begin = straighten_begin,
	.step = straighten_step,
	.end = straighten_end,
};

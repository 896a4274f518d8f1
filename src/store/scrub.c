/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The walk goes through the map of each partition by place, over all versions, and reads each node and each data block
 * where it belongs to the version that owns it: what is marked as the parent's (PST_PTR_INHERITED) is passed over. In a
 * snapshot or a deleted version the mark may be stale; there the parent's entry decides.
 *
 * Leaves are read past the cache, so that a scrub does not drive out what the volumes need; a leaf that is in the cache
 * is taken from there, and its block on the disk is verified all the same, unless the next checkpoint replaces it.
 *
 * Nothing keeps a block in place while it is being read. So whatever does not verify is looked up again: is it still
 * mapped there? Then it is read once more, block by block, and looked up again; only what is still there and still
 * wrong counts. What moves from one version to another while a pass is under way may be met by the next pass only.
 *
 * A bad data block: bad.c tells. A bad node: what it maps can't be reached any more; if it is in memory and no other
 * version shares it, the next checkpoint writes it again elsewhere.
 */
#include "store/scrub.h"

#include "base/crc32c.h"

#include <string.h>

#define WALK_MAX 64u /* places that one step may pass over */

static const uint64_t span[PST_NODE_LEVELS] = { /* leaves below one node of the level */
						1, 504, 254016, 128024064, 64524128256u, 32520160641024u
};

/* ---- Reading ---- */

static struct scrub *state(const struct task *t)
{
	return t->state;
}

struct scrub_op *scrub_op_take(struct task *t, enum scrub_kind kind, struct part *p, uint64_t bytes)
{
	struct scrub *s = state(t);

	for (unsigned i = 0; i < TASK_BUFFERS; i++) {
		struct scrub_op *o = &s->ops[i];
		uint8_t *buffer;

		if (o->busy)
			continue;
		buffer = task_take(t, bytes);
		if (buffer == NULL)
			return NULL;
		*o = (struct scrub_op){ .task = t, .kind = kind, .busy = true, .buffer = buffer, .part = p };
		return o;
	}
	return NULL;
}

static bool any_bad(const struct scrub_op *o)
{
	for (uint32_t i = 0; i < o->count; i++)
		if (o->bad[i] != 0)
			return true;
	return false;
}

static void judge(struct scrub_op *o, uint32_t first, uint32_t count)
{
	for (uint32_t i = first; i < first + count; i++) {
		const uint8_t *data = o->buffer + (size_t)i * PST_BLOCK_BYTES;

		o->bad[i] = o->op.err != PST_OK || pst_crc32c(data, PST_BLOCK_BYTES) != o->crc[i];
		o->err[i] = o->op.err != PST_OK ? o->op.err : PST_E_CHECKSUM;
	}
}

static void walk_on(struct scrub *s, uint64_t at)
{
	s->at = at;
	s->checked = PST_NODE_LEVELS;
}

static void op_end(struct scrub_op *o)
{
	o->busy = false;
	o->task->done_bytes += (uint64_t)o->count * PST_BLOCK_BYTES;
}

/* The leaf that the walk waits for. */
static void leaf_take(struct scrub_op *o)
{
	struct scrub *s = state(o->task);
	const struct pst_node_disk *d = (const void *)o->buffer;

	memcpy(s->entry, d->entry, sizeof(s->entry));
	s->leaf_reading = false;
	s->leaf_valid = true;
	s->leaf_next = 0;
}

/* The buffer goes back at once, so that the frame's count is of reads; what was bad is looked at by step(). */
static void read_done(struct pst_file_op *op)
{
	struct scrub_op *o = pst_container_of(op, struct scrub_op, op);
	struct task *t = o->task;
	uint8_t *buffer = o->buffer;

	t->store->outstanding--;
	o->reading = false;
	if (o->kind > SCRUB_NODE) {
		if (scrub_meta_look(o))
			return;
		o->busy = false;
	} else if (o->singly) {
		judge(o, o->next, 1);
	} else {
		judge(o, 0, o->count);
	}
	if (o->kind <= SCRUB_NODE && !any_bad(o)) {
		if (o->kind == SCRUB_LEAF)
			leaf_take(o);
		op_end(o);
	}
	o->buffer = NULL;
	task_give(t, buffer);
}

static void submit(struct scrub_op *o, uint32_t first, uint32_t count)
{
	o->reading = true;
	o->iov = (struct iovec){ o->buffer + (size_t)first * PST_BLOCK_BYTES, (size_t)count * PST_BLOCK_BYTES };
	o->op = (struct pst_file_op){
		.kind = PST_FILE_READ, .iov = &o->iov, .iov_count = 1, .len_bytes = o->iov.iov_len, .done = read_done
	};
}

void scrub_read(struct scrub_op *o, uint32_t block, uint32_t count)
{
	o->block = block;
	o->count = count;
	submit(o, 0, count);
	part_submit(o->part, &o->op, block);
}

void scrub_read_device(struct scrub_op *o, uint64_t block)
{
	o->count = 1;
	submit(o, 0, 1);
	o->op.offset_bytes = block * PST_BLOCK_BYTES;
	store_submit(o->task->store, &o->op);
}

/* ---- What is back ---- */

/* The entry that points to this node: MAP_OK, MAP_HOLE: it is not there any more, MAP_WAIT. */
static enum map_result pointer_of(const struct scrub_op *o, struct pst_ptr *ret_ptr)
{
	struct node *parent = NULL;
	unsigned level = o->level + 1;
	enum map_result got = map_get(o->part, level, o->at / span[level], false, &o->task->wait, &parent);

	if (got == MAP_WAIT)
		return got;
	o->task->wait.err = PST_OK;
	if (got != MAP_OK)
		return MAP_HOLE;
	*ret_ptr = parent->data->entry[o->at / span[o->level] % PST_NODE_FANOUT];
	return MAP_OK;
}

/* Marks of blocks that are not mapped there any more go. False: it waits. */
static bool look_up(struct scrub_op *o)
{
	struct node *leaf = NULL;
	struct pst_ptr ptr = { 0 };
	enum map_result got;

	if (o->kind != SCRUB_DATA && o->level == PST_NODE_LEVELS - 1) {
		if (o->part->root == NULL || o->part->root->block != o->block || o->part->root->dirty)
			o->bad[0] = 0;
		return true;
	}
	if (o->kind != SCRUB_DATA) {
		got = pointer_of(o, &ptr);
		if (got == MAP_WAIT)
			return false;
		if (pst_ptr_block(ptr) != o->block || ptr.crc != o->crc[0])
			o->bad[0] = 0;
		return true;
	}
	got = map_get(o->part, 0, o->at, false, &o->task->wait, &leaf);
	if (got == MAP_WAIT)
		return false;
	o->task->wait.err = PST_OK;
	for (uint32_t i = 0; i < o->count; i++) {
		if (leaf != NULL)
			ptr = leaf->data->entry[o->first + i];
		if (leaf == NULL || pst_ptr_block(ptr) != o->block + i || ptr.crc != o->crc[i])
			o->bad[i] = 0;
	}
	return true;
}

/* If it is known in memory and nobody else's, it need not be lost: the next checkpoint writes it again. */
static bool node_restore(const struct scrub_op *o)
{
	struct part *p = o->part;
	struct node *n = cache_find(&p->store->cache, p, o->level, o->at / span[o->level]);
	const struct svol *v = svol_by_slot(p->store, (uint32_t)(o->at / span[PST_NODE_LEVEL_VOLUME]));

	if (n == NULL || n->loading || n->block != o->block || p->alloc.free_count <= space_last(p))
		return false;
	if (o->level <= PST_NODE_LEVEL_VOLUME && v != NULL &&
	    (v->disk.flags & (PST_VOLUME_SNAPSHOT | PST_VOLUME_DELETING)) != 0)
		return false;
	map_dirty(n);
	checkpoint_want(p, NULL);
	return true;
}

static void node_bad(struct scrub_op *o)
{
	struct store *st = o->task->store;
	uint32_t slot = (uint32_t)(o->at / span[PST_NODE_LEVEL_VOLUME]);
	const struct svol *v = svol_by_slot(st, slot);
	uint64_t local = o->at % span[PST_NODE_LEVEL_VOLUME] * PST_NODE_FANOUT;
	bool restored = node_restore(o);
	char uuid[37] = "several";

	st->stats.checksum_errors += o->err[0] == PST_E_CHECKSUM;
	store_event(st, restored ? PST_LOG_WARN : PST_LOG_ERROR,
		    "bad_map_node partition=%u level=%u block=%u volume=%s lba=%llu local_blocks=%llu error=%s: %s",
		    o->part->index, o->level, o->block,
		    o->level <= PST_NODE_LEVEL_VOLUME && v != NULL ? store_uuid_text(v->disk.uuid, uuid) : uuid,
		    (unsigned long long)bad_volume_lba(o->part, local),
		    (unsigned long long)span[o->level] * PST_NODE_FANOUT, pst_err_name(o->err[0]),
		    restored ? "it is written again from memory"
			     : "what it maps is lost; restore the volume, or check and repair the pool");
}

static void tell(struct scrub_op *o)
{
	uint32_t slot = (uint32_t)(o->at / span[PST_NODE_LEVEL_VOLUME]);
	uint64_t local = o->at % span[PST_NODE_LEVEL_VOLUME] * PST_NODE_FANOUT + o->first;

	for (uint32_t i = 0; i < o->count; i++) {
		if (o->bad[i] == 0)
			continue;
		o->task->errors++;
		if (o->kind == SCRUB_DATA)
			bad_found(o->part, slot, local + i, o->block + i, o->err[i], true);
		else
			node_bad(o);
	}
}

/* Reads the next bad block once more. False: there is none, or no buffer (then the task waits for one). */
static bool read_again(struct scrub_op *o, bool *ret_waits)
{
	while (o->next < o->count && o->bad[o->next] == 0)
		o->next++;
	*ret_waits = false;
	if (o->next == o->count)
		return false;
	o->buffer = task_take(o->task, PST_BLOCK_BYTES);
	if (o->buffer == NULL) {
		*ret_waits = true;
		return false;
	}
	submit(o, o->next, 1);
	part_submit(o->part, &o->op, o->block + o->next);
	return true;
}

enum look { LOOK_DONE, LOOK_READS, LOOK_WAITS };

/* An operation that met something bad. */
static enum look look(struct scrub_op *o)
{
	struct scrub *s = state(o->task);
	bool waits;

	if (!o->singly) {
		if (!look_up(o))
			return LOOK_WAITS;
		o->singly = true;
		o->next = 0;
	} else if (o->next < o->count && o->buffer == NULL && o->again) {
		o->next++; /* that one has been read again */
	}
	o->again = read_again(o, &waits);
	if (o->again)
		return LOOK_READS;
	if (waits || !look_up(o))
		return LOOK_WAITS;
	tell(o);
	if (o->kind == SCRUB_LEAF) {
		s->leaf_reading = false;
		if (any_bad(o))
			walk_on(s, s->at + 1); /* else another one is there by now: the walk looks again */
	}
	op_end(o);
	return LOOK_DONE;
}

/* False: one of them waits. */
static bool look_at_all(struct task *t)
{
	for (unsigned i = 0; i < TASK_BUFFERS; i++) {
		struct scrub_op *o = &state(t)->ops[i];

		if (o->busy && !o->reading && look(o) == LOOK_WAITS)
			return false;
	}
	return true;
}

/* ---- The walk ---- */

/* Live volumes know exactly what their parent holds; others may be wrong, and compare. */
static enum map_result is_parents(struct task *t, struct part *p, struct node *n, uint32_t i, bool *ret_is)
{
	uint32_t slot = (uint32_t)(state(t)->at / span[PST_NODE_LEVEL_VOLUME]);
	const struct svol *v = svol_by_slot(t->store, slot);
	struct node *parent = NULL;
	struct pst_ptr ptr = n->data->entry[i];
	enum map_result got;

	*ret_is = false;
	if (n->level > PST_NODE_LEVEL_VOLUME || !pst_ptr_inherited(ptr) || v == NULL || v->disk.parent == 0)
		return MAP_OK;
	*ret_is = true;
	if ((v->disk.flags & (PST_VOLUME_SNAPSHOT | PST_VOLUME_DELETING)) == 0)
		return MAP_OK;
	map_pin(n);
	got =
	    map_get(p, n->level, map_index_of_slot(n->level, v->disk.parent, map_index_in_version(n->level, n->index)),
		    false, &t->wait, &parent);
	map_unpin(n);
	if (got == MAP_WAIT)
		return got;
	t->wait.err = PST_OK;
	*ret_is = got == MAP_OK && pst_ptr_block(parent->data->entry[i]) == pst_ptr_block(ptr);
	return MAP_OK;
}

/* Is what is on the disk at this pointer about to be replaced, or not written yet? */
static bool is_passing(struct part *p, unsigned level, uint64_t index, struct pst_ptr ptr)
{
	const struct node *n = cache_find(&p->store->cache, p, level, index);

	return pst_ptr_block(ptr) == PST_PTR_PENDING || (n != NULL && n->dirty) ||
	       image_find(&p->store->cache, p, pst_ptr_block(ptr)) != NULL;
}

static bool node_verify(struct task *t, struct part *p, enum scrub_kind kind, unsigned level, struct pst_ptr ptr)
{
	struct scrub_op *o = scrub_op_take(t, kind, p, PST_BLOCK_BYTES);

	if (o == NULL)
		return false;
	o->at = state(t)->at;
	o->level = level;
	o->crc[0] = ptr.crc;
	scrub_read(o, pst_ptr_block(ptr), 1);
	return true;
}

/* Entries of the leaf that belong to the parent. The walk comes here with the leaf's entries in s->entry. */
static enum map_result leaf_skips(struct task *t, struct part *p)
{
	struct scrub *s = state(t);
	const struct svol *v = svol_by_slot(t->store, (uint32_t)(s->at / span[PST_NODE_LEVEL_VOLUME]));
	uint64_t in_version = s->at % span[PST_NODE_LEVEL_VOLUME];
	struct node *parent = NULL;
	enum map_result got = MAP_HOLE;
	bool live = v != NULL && (v->disk.flags & (PST_VOLUME_SNAPSHOT | PST_VOLUME_DELETING)) == 0;

	if (v != NULL && v->disk.parent != 0 && !live) {
		got = map_get(p, 0, map_index_of_slot(0, v->disk.parent, in_version), false, &t->wait, &parent);
		if (got == MAP_WAIT)
			return got;
		t->wait.err = PST_OK;
	}
	for (uint32_t i = 0; i < PST_NODE_FANOUT; i++) {
		uint32_t block = pst_ptr_block(s->entry[i]);
		bool parents = pst_ptr_inherited(s->entry[i]) && v != NULL && v->disk.parent != 0;

		if (parents && !live)
			parents = got == MAP_OK && pst_ptr_block(parent->data->entry[i]) == block;
		s->skip[i] = block == 0 || block == PST_PTR_LOST || parents;
	}
	return MAP_OK;
}

/* The leaf's entries: from the cache, or it is being read. */
static enum task_step leaf_get(struct task *t, struct part *p, struct pst_ptr ptr)
{
	struct scrub *s = state(t);
	const struct node *n = cache_find(&p->store->cache, p, 0, s->at);
	const struct image *image = image_find(&p->store->cache, p, pst_ptr_block(ptr));

	if (n == NULL && image == NULL) {
		if (!node_verify(t, p, SCRUB_LEAF, 0, ptr))
			return TASK_WAIT;
		s->leaf_reading = true;
		return TASK_WAIT;
	}
	if (n != NULL && n->loading) {
		struct node *loaded = NULL;
		enum map_result got = map_get(p, 0, s->at, false, &t->wait, &loaded);

		if (got != MAP_WAIT)
			t->wait.err = PST_OK;
		return got == MAP_WAIT ? TASK_WAIT : TASK_MORE;
	}
	if (!is_passing(p, 0, s->at, ptr) && !node_verify(t, p, SCRUB_NODE, 0, ptr))
		return TASK_WAIT;
	memcpy(s->entry, n != NULL ? n->data->entry : image->page->entry, sizeof(s->entry));
	s->leaf_valid = true;
	s->leaf_next = 0;
	return TASK_MORE;
}

/* From the map's root down to the leaf at s->at, or on to the next place that may have one. */
static enum task_step descend(struct task *t, struct part *p)
{
	struct scrub *s = state(t);
	struct node *n = p->root;

	if (n != NULL && s->at == 0 && s->checked == PST_NODE_LEVELS) {
		if (n->block == s->map.block && s->map.block != 0 && !is_passing(p, n->level, 0, s->map) &&
		    !node_verify(t, p, SCRUB_NODE, n->level, s->map))
			return TASK_WAIT;
		s->checked = n->level;
	}
	for (unsigned level = PST_NODE_LEVELS - 1; n != NULL; level--) {
		unsigned below = level - 1;
		uint32_t i = (uint32_t)(s->at / span[below] % PST_NODE_FANOUT);
		struct pst_ptr ptr = n->data->entry[i];
		bool parents = false;
		enum map_result got;

		if (ptr.block != 0 && is_parents(t, p, n, i, &parents) == MAP_WAIT)
			return TASK_WAIT;
		if (ptr.block == 0 || parents || pst_ptr_block(ptr) == PST_PTR_LOST) {
			walk_on(s, (s->at / span[below] + 1) * span[below]);
			return TASK_MORE;
		}
		if (below == 0)
			return leaf_get(t, p, ptr);
		if (below < s->checked && s->at % span[below] == 0) {
			if (!is_passing(p, below, s->at / span[below], ptr) &&
			    !node_verify(t, p, SCRUB_NODE, below, ptr))
				return TASK_WAIT;
			s->checked = below;
		}
		got = map_get(p, below, s->at / span[below], false, &t->wait, &n);
		if (got == MAP_WAIT)
			return TASK_WAIT;
		t->wait.err = PST_OK;
		if (got != MAP_OK) { /* told by the read of it just now */
			walk_on(s, (s->at / span[below] + 1) * span[below]);
			return TASK_MORE;
		}
	}
	t->err = PST_E_CHECKSUM;
	return TASK_FAILED;
}

/* The next run of blocks of the leaf. */
static enum task_step data_read(struct task *t, struct part *p)
{
	struct scrub *s = state(t);
	uint32_t first = s->leaf_next, n = 1;
	struct scrub_op *o;

	while (first < PST_NODE_FANOUT && s->skip[first])
		first++;
	s->leaf_next = first;
	if (first == PST_NODE_FANOUT) {
		s->leaf_valid = false;
		walk_on(s, s->at + 1);
		return TASK_MORE;
	}
	while (n < TASK_BUFFER_BLOCKS && first + n < PST_NODE_FANOUT && !s->skip[first + n] &&
	       pst_ptr_block(s->entry[first + n]) == pst_ptr_block(s->entry[first]) + n)
		n++;
	o = scrub_op_take(t, SCRUB_DATA, p, (uint64_t)n * PST_BLOCK_BYTES);
	if (o == NULL)
		return TASK_WAIT;
	o->at = s->at;
	o->first = first;
	for (uint32_t i = 0; i < n; i++)
		o->crc[i] = s->entry[first + i].crc;
	s->leaf_next += n;
	scrub_read(o, pst_ptr_block(s->entry[first]), n);
	return TASK_MORE;
}

static enum task_step walk(struct task *t, struct part *p)
{
	struct scrub *s = state(t);
	enum task_step step = TASK_MORE;

	if (s->leaf_reading)
		return TASK_WAIT;
	if (s->leaf_valid && s->leaf_next == 0 && leaf_skips(t, p) == MAP_WAIT)
		return TASK_WAIT;
	if (s->leaf_valid)
		return data_read(t, p);
	for (unsigned i = 0; i < WALK_MAX && step == TASK_MORE && !s->leaf_valid; i++) {
		if (s->at >= span[PST_NODE_LEVELS - 1])
			return TASK_DONE;
		step = descend(t, p);
	}
	return step;
}

/* ---- The task ---- */

/* Where it must begin again to have seen what is under way now. */
static void position_save(struct task *t)
{
	const struct scrub *s = state(t);
	uint64_t at = s->at;

	for (unsigned i = 0; i < TASK_BUFFERS; i++)
		if (s->ops[i].busy && s->ops[i].kind <= SCRUB_NODE && s->ops[i].part->index == s->part)
			at = PST_MIN(at, s->ops[i].at);
	t->position[0] = s->phase;
	t->position[1] = s->part;
	t->position[2] = s->phase == SCRUB_PHASE_MAP ? at : 0;
}

static pst_err scrub_begin(struct task *t)
{
	struct scrub *s = state(t);
	struct store *st = t->store;

	s->phase = t->position[0] <= SCRUB_PHASE_MAP ? (enum scrub_phase)t->position[0] : SCRUB_PHASE_POOL;
	s->part = (uint32_t)PST_MIN(t->position[1], st->part_count - 1);
	walk_on(s, t->position[2]);
	s->task = t;
	t->total_bytes = 0;
	for (uint32_t i = 0; i < st->part_count; i++)
		t->total_bytes += (uint64_t)st->parts[i].alloc.used_count * PST_BLOCK_BYTES;
	return PST_OK;
}

static bool all_given(const struct scrub *s)
{
	for (unsigned i = 0; i < TASK_BUFFERS; i++)
		if (s->ops[i].busy)
			return false;
	return true;
}

static enum task_step ended(struct task *t)
{
	store_event(t->store, t->errors > 0 ? PST_LOG_ERROR : PST_LOG_INFO, "scrub_ended bytes=%llu errors=%llu",
		    (unsigned long long)t->done_bytes, (unsigned long long)t->errors);
	t->total_bytes = t->done_bytes;
	return TASK_DONE;
}

static enum task_step scrub_step(struct task *t)
{
	struct scrub *s = state(t);
	struct part *p = &t->store->parts[s->part];
	enum task_step step;

	if (!look_at_all(t))
		return TASK_WAIT;
	if (s->phase == SCRUB_PHASE_POOL)
		step = scrub_meta_pool(t);
	else if (s->phase == SCRUB_PHASE_PART)
		step = scrub_meta_part(t, p);
	else
		step = walk(t, p);
	if (step == TASK_DONE && !all_given(s))
		return TASK_WAIT; /* a phase ends when all of it has been looked at */
	if (step == TASK_DONE) {
		s->meta_step = s->meta_at = 0;
		walk_on(s, 0);
		if (s->phase < SCRUB_PHASE_MAP)
			s->phase++;
		else if (++s->part == t->store->part_count)
			return ended(t);
		else
			s->phase = SCRUB_PHASE_PART;
		if (s->phase == SCRUB_PHASE_PART)
			s->map = (struct pst_ptr){ 0 };
		step = TASK_MORE;
	}
	position_save(t);
	return step;
}

const struct task_ops scrub_task = { .name = "scrub",
				     .flags = TASK_OF_POOL,
				     .state_bytes = sizeof(struct scrub),
				     .begin = scrub_begin,
				     .step = scrub_step };

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Versions that share blocks, for the checker (docs/versions.md has the model). The rule that is checked: at one place
 * the versions that hold a block are a connected part of the tree of versions, and the topmost of them owns it. So a
 * version owns what its parent does not hold; every block has one owner; a live version's mark PST_PTR_INHERITED says
 * exactly that its parent holds the same; a snapshot's mark may stand where it is not true any more, if something was
 * merged into it.
 *
 * The parent at a place is the nearest version above that is not being deleted (or not made yet) with nothing there.
 *
 * What a version has in the end: the leaf of the root's tree that it began with, its own records, and, when it was made
 * in this log, what the other had at that moment. A merge record empties its version's leaf. While a merge goes on in
 * the log its version counts as empty below the merged nodes: who owns what it still has there is decided by recovery.
 */
#include "store/check-internal.h"

#include "base/crc32c.h"

#include <string.h>

/* ---- What a version has ---- */

/* The record that made @slot before @upto; NULL: the root has it already, or nothing does. */
static const struct ck_event *origin(const struct ck_part *p, uint32_t slot, uint64_t upto)
{
	for (size_t i = p->event_count; i > 0; i--) {
		const struct ck_event *e = &p->events[i - 1];

		if (e->order < upto && e->record->kind != PST_LOG_MERGE && e->record->slot == slot)
			return e;
	}
	return NULL;
}

/* The last merge of @slot before @upto that covers the node; its order + 1; 0: none. */
static uint64_t merged(const struct ck_part *p, uint32_t slot, unsigned level, uint64_t index, uint64_t upto)
{
	for (size_t i = p->event_count; i > 0; i--) {
		const struct ck_event *e = &p->events[i - 1];
		unsigned top = e->record->count;

		if (e->order >= upto || e->record->kind != PST_LOG_MERGE || e->record->slot != slot)
			continue;
		if (top >= level && index / (ck_span[top] / ck_span[level]) == e->record->lba)
			return e->order + 1;
	}
	return 0;
}

static uint64_t of_slot(uint32_t slot, unsigned level, uint64_t index)
{
	return slot * (ck_span[PST_NODE_LEVEL_VOLUME] / ck_span[level]) + index;
}

struct base {
	uint32_t block;
	bool inherited; /* a pointer on the way to it is marked */
};

/* The node of the root's tree at a place of @slot. False: there is none, or it can't be read (told). */
static bool base_node(struct ck *ck, uint32_t slot, unsigned level, uint64_t index, struct pst_node_disk *node,
		      struct base *ret)
{
	struct pst_ptr ptr = ck->part.root.map;
	uint64_t place = of_slot(slot, level, index);

	*ret = (struct base){ 0 };
	for (unsigned l = PST_NODE_LEVELS - 1;; l--) {
		const char *why;

		if (pst_ptr_block(ptr) == 0 || pst_ptr_block(ptr) == PST_PTR_LOST ||
		    ck_node_cached(ck, ptr, l, place / (ck_span[l] / ck_span[level]), node, &why) != PST_OK)
			return false;
		ret->block = pst_ptr_block(ptr);
		if (l == level)
			return true;
		ptr = node->entry[place / (ck_span[l - 1] / ck_span[level]) % PST_NODE_FANOUT];
		ret->inherited = ret->inherited || pst_ptr_inherited(ptr);
	}
}

static void inherit_all(struct pst_ptr entry[PST_NODE_FANOUT])
{
	for (uint32_t i = 0; i < PST_NODE_FANOUT; i++)
		if (entry[i].block != 0)
			entry[i].block |= PST_PTR_INHERITED;
}

/* A snapshot of @slot in [from, upto). */
static bool snapshot_between(const struct ck_part *p, uint32_t slot, uint64_t from, uint64_t upto)
{
	for (size_t i = 0; i < p->event_count; i++)
		if (p->events[i].record->kind == PST_LOG_SNAPSHOT && p->events[i].record->lba == slot &&
		    p->events[i].order >= from && p->events[i].order < upto)
			return true;
	return false;
}

static void apply_items(struct ck *ck, uint32_t slot, uint64_t leaf, uint64_t from, uint64_t upto,
			struct pst_ptr entry[PST_NODE_FANOUT])
{
	const struct ck_part *p = &ck->part;
	size_t end, at = ck_items_of(p, of_slot(slot, 0, leaf), &end);
	bool marked = ck_slot_touched(p, slot);

	for (; at < end; at++) {
		if (p->items[at].order < from || p->items[at].order >= upto)
			continue;
		/* A move asks whether the block is still the version's own. */
		if (marked && snapshot_between(p, slot, from, p->items[at].order))
			inherit_all(entry);
		from = p->items[at].order;
		ck_item_apply(&p->items[at], entry);
	}
}

/*
 * Leaf @leaf of @slot at @upto. Marks are only those of the root's tree: good where the log has no event of this
 * version.
 */
static void content(struct ck *ck, uint32_t slot, uint64_t leaf, uint64_t upto, struct pst_ptr entry[PST_NODE_FANOUT])
{
	const struct ck_event *made = origin(&ck->part, slot, upto);
	uint64_t from = merged(&ck->part, slot, 0, leaf, upto);
	struct pst_node_disk *node = ck->part.other[1];
	struct base base;

	if (made != NULL && made->order >= from) {
		content(ck, (uint32_t)made->record->lba, leaf, made->order, entry);
		if (made->record->kind == PST_LOG_CLONE)
			inherit_all(entry);
		apply_items(ck, slot, leaf, made->order, upto, entry);
		return;
	}
	memset(entry, 0, PST_NODE_FANOUT * sizeof(entry[0]));
	if (from == 0 && base_node(ck, slot, 0, leaf, node, &base)) {
		memcpy(entry, node->entry, PST_NODE_FANOUT * sizeof(entry[0]));
		if (base.inherited)
			inherit_all(entry);
	}
	apply_items(ck, slot, leaf, from, upto, entry);
}

/* ---- Above a version ---- */

static const struct ck_version *above(const struct ck *ck, const struct ck_version *v)
{
	return v->disk.parent != 0 ? ck_version_find(ck, v->disk.parent) : NULL;
}

static bool passed_over(const struct ck_version *v)
{
	return (v->disk.flags & (PST_VOLUME_DELETING | PST_VOLUME_PENDING)) != 0;
}

/* What the parent has at each place where @v has something. */
static void parents_content(struct ck *ck, const struct ck_version *v, uint64_t leaf,
			    struct pst_ptr entry[PST_NODE_FANOUT])
{
	struct pst_ptr *more = ck->part.other[2]->entry;

	memset(entry, 0, PST_NODE_FANOUT * sizeof(entry[0]));
	for (v = above(ck, v); v != NULL; v = above(ck, v)) {
		content(ck, v->disk.slot, leaf, UINT64_MAX, more);
		for (uint32_t i = 0; i < PST_NODE_FANOUT; i++)
			if (entry[i].block == 0)
				entry[i] = more[i];
		if (!passed_over(v))
			return;
	}
}

/* ---- A leaf ---- */

/* Must its marks be true? Not those of a snapshot that a deleted version has been merged into. */
static bool exact(struct ck *ck, const struct ck_version *v)
{
	struct pst_node_disk *node = ck->part.other[4];
	struct base base;

	if (passed_over(v))
		return false;
	return (v->disk.flags & PST_VOLUME_SNAPSHOT) == 0 ||
	       !base_node(ck, v->disk.slot, PST_NODE_LEVEL_VOLUME, 0, node, &base) || node->stale == 0;
}

/* A repair mends it only where the log changes nothing: then the leaf is the root's. Marks above it come first. */
static void leaf_mark_wrong(struct ck *ck, const struct ck_version *v, uint64_t local, bool to)
{
	struct base base;

	if (base_node(ck, v->disk.slot, 0, local / PST_NODE_FANOUT, ck->part.other[4], &base) && !base.inherited)
		ck_mark_wrong(ck, (struct ck_mark){ base.block, (uint32_t)(local % PST_NODE_FANOUT), v->family, to });
}

static void entry_judge(struct ck *ck, struct ck_version *v, uint64_t local, struct pst_ptr mine,
			struct pst_ptr parents, bool marks)
{
	bool same = pst_ptr_block(mine) == pst_ptr_block(parents);
	char place[CK_PLACE_BYTES];

	if (marks && same && !pst_ptr_inherited(mine)) {
		ck_finding(
		    ck,
		    "%s: its block %u of partition %u is its parent's too, and not marked so: it will be freed while "
		    "it is used",
		    ck_place(ck, v->disk.slot, local, 1, place), pst_ptr_block(mine), ck->part.index);
		leaf_mark_wrong(ck, v, local, true);
	}
	if (marks && !same && pst_ptr_inherited(mine) && exact(ck, v)) {
		ck_finding(
		    ck,
		    "%s: its block %u of partition %u is marked as its parent's, which does not have it: it will "
		    "never be freed",
		    ck_place(ck, v->disk.slot, local, 1, place), pst_ptr_block(mine), ck->part.index);
		leaf_mark_wrong(ck, v, local, false);
	}
	if (same)
		return;
	ck->versions[v->family].blocks++;
	v->owned++;
	ck_entry_last(ck, v->disk.slot, local);
	ck_own(ck, v->disk.slot, local, mine);
}

/* Are its marks on the disk those of the last state? Not where the log makes or merges it, or what is above it. */
static bool marks_final(const struct ck *ck, const struct ck_version *v)
{
	do {
		if (ck_slot_touched(&ck->part, v->disk.slot))
			return false;
		v = above(ck, v);
	} while (v != NULL && passed_over(v));
	return v == NULL || !ck_slot_touched(&ck->part, v->disk.slot);
}

static uint64_t own_entries(const struct pst_ptr entry[PST_NODE_FANOUT])
{
	uint64_t count = 0;

	for (uint32_t i = 0; i < PST_NODE_FANOUT; i++)
		count += entry[i].block != 0 && pst_ptr_block(entry[i]) != PST_PTR_LOST && !pst_ptr_inherited(entry[i]);
	return count;
}

static void leaf_judge(struct ck *ck, struct ck_version *v, uint64_t leaf)
{
	struct pst_ptr mine[PST_NODE_FANOUT], *parents = ck->part.other[3]->entry;
	bool marks = marks_final(ck, v);
	uint64_t local = leaf * PST_NODE_FANOUT;

	if (!ck_slot_touched(&ck->part, v->disk.slot) && ck_items_any(&ck->part, of_slot(v->disk.slot, 0, leaf), 1)) {
		content(ck, v->disk.slot, leaf, 0, mine);
		v->logged -= own_entries(mine);
		content(ck, v->disk.slot, leaf, UINT64_MAX, mine);
		v->logged += own_entries(mine);
	} else {
		content(ck, v->disk.slot, leaf, UINT64_MAX, mine);
	}
	parents_content(ck, v, leaf, parents);
	for (uint32_t i = 0; i < PST_NODE_FANOUT; i++) {
		if (pst_ptr_block(mine[i]) == PST_PTR_LOST)
			ck_lost(ck, v->disk.slot, local + i, 1);
		else if (mine[i].block != 0)
			entry_judge(ck, v, local + i, mine[i], parents[i], marks);
	}
}

/* ---- The walk over a version, passing over what it shares as a whole ---- */

/* Has the log anything for this part of the version, or of what it was made from? */
static bool changed(const struct ck *ck, uint32_t slot, unsigned level, uint64_t index)
{
	uint64_t upto = UINT64_MAX;

	if (!ck_slot_touched(&ck->part, slot))
		return ck_items_any(&ck->part, of_slot(slot, level, index) * ck_span[level], ck_span[level]);
	for (;;) {
		const struct ck_event *made = origin(&ck->part, slot, upto);

		if (ck_items_any(&ck->part, of_slot(slot, level, index) * ck_span[level], ck_span[level]))
			return true;
		if (made == NULL)
			return false;
		slot = (uint32_t)made->record->lba;
		upto = made->order;
	}
}

/* The slot whose tree, in the root's state, the version began with. */
static uint32_t base_slot(const struct ck *ck, uint32_t slot)
{
	uint64_t upto = UINT64_MAX;
	const struct ck_event *made;

	while ((made = origin(&ck->part, slot, upto)) != NULL) {
		slot = (uint32_t)made->record->lba;
		upto = made->order;
	}
	return slot;
}

enum shared { NOT_SHARED, SHARED, UNKNOWN };

/* Is the subtree at @index of @level, in block @block, one that a version above has as it is? */
static enum shared shared_whole(struct ck *ck, const struct ck_version *v, unsigned level, uint64_t index,
				uint32_t block)
{
	struct pst_node_disk *node = ck->part.other[4];
	struct base base;

	if (!marks_final(ck, v) || changed(ck, v->disk.slot, level, index))
		return UNKNOWN;
	for (v = above(ck, v); v != NULL; v = above(ck, v)) {
		uint32_t theirs = 0;

		if (changed(ck, v->disk.slot, level, index))
			return UNKNOWN;
		if (base_node(ck, v->disk.slot, level + 1, index / PST_NODE_FANOUT, node, &base))
			theirs = pst_ptr_block(node->entry[index % PST_NODE_FANOUT]);
		if (theirs == block)
			return SHARED;
		if (theirs != 0 || !passed_over(v))
			return NOT_SHARED;
	}
	return NOT_SHARED;
}

/* The pointer at @index of @level, entry of the node in block @above_it. */
static void mark_judge(struct ck *ck, const struct ck_version *v, unsigned level, uint64_t index, uint32_t above_it,
		       struct pst_ptr ptr, enum shared shared)
{
	bool missing = shared == SHARED && !pst_ptr_inherited(ptr);
	bool wrong = shared == NOT_SHARED && pst_ptr_inherited(ptr) && exact(ck, v);

	if (missing)
		ck_finding(
		    ck,
		    "slot %u: its node of level %u in block %u of partition %u is its parent's too, and not marked "
		    "so: it will be changed while it is used",
		    v->disk.slot, level, pst_ptr_block(ptr), ck->part.index);
	if (wrong)
		ck_finding(
		    ck,
		    "slot %u: its node of level %u in block %u of partition %u is marked as its parent's, which does "
		    "not have it: it will never be freed",
		    v->disk.slot, level, pst_ptr_block(ptr), ck->part.index);
	if (missing || wrong)
		ck_mark_wrong(ck,
			      (struct ck_mark){ above_it, (uint32_t)(index % PST_NODE_FANOUT), v->family, missing });
}

static void version_walk(struct ck *ck, struct ck_version *v, unsigned level, uint64_t index)
{
	struct pst_ptr entry[PST_NODE_FANOUT];
	struct base base;

	if (ck->check->stop)
		return;
	memset(entry, 0, sizeof(entry));
	if (base_node(ck, base_slot(ck, v->disk.slot), level, index, ck->part.other[4], &base))
		memcpy(entry, ck->part.other[4]->entry, sizeof(entry));
	for (uint32_t i = 0; i < PST_NODE_FANOUT; i++) {
		uint64_t child = index * PST_NODE_FANOUT + i;
		uint32_t block = pst_ptr_block(entry[i]);
		enum shared shared = UNKNOWN;

		if (block == 0 && !changed(ck, v->disk.slot, level - 1, child))
			continue;
		if (block != 0 && block != PST_PTR_LOST) {
			shared = shared_whole(ck, v, level - 1, child, block);
			if (!base.inherited)
				mark_judge(ck, v, level - 1, child, base.block, entry[i], shared);
		}
		if (shared == SHARED)
			continue;
		if (shared == NOT_SHARED && ck_block_ok(ck, block)) {
			ck->part.two_owners = ck->part.two_owners || ck_bit(ck->part.owned, block);
			ck_set(ck->part.owned, block);
		}
		if (level == 1)
			leaf_judge(ck, v, child);
		else
			version_walk(ck, v, level - 1, child);
	}
}

/* ---- Families ---- */

/*
 * What the version says it owns; what the log's writes change of it is counted with its leaves. Its family's sum
 * counts, and only where no record of the log makes or merges one of them.
 */
static void own_add(struct ck *ck, const struct ck_version *v)
{
	struct ck_version *first = &ck->versions[v->family];
	const struct pst_node_disk *node = ck->part.other[4];
	struct base base;

	first->own += v->logged;
	first->logged_any = first->logged_any || ck_slot_touched(&ck->part, v->disk.slot) ||
			    changed(ck, v->disk.slot, PST_NODE_LEVEL_VOLUME, 0);
	if (ck_slot_touched(&ck->part, v->disk.slot))
		first->own_exact = false;
	else if (base_node(ck, v->disk.slot, PST_NODE_LEVEL_VOLUME, 0, ck->part.other[4], &base))
		first->own += node->format == 0 ? node->data_blocks : node->own_blocks;
}

void ck_families(struct ck *ck)
{
	for (uint32_t i = 0; i < ck->version_count; i++) {
		ck->versions[i].blocks = ck->versions[i].own = 0;
		ck->versions[i].own_exact = true;
		ck->versions[i].logged_any = false;
		ck->versions[i].owned = ck->versions[i].logged = 0;
	}
	for (uint32_t i = 0; i < ck->version_count; i++) {
		struct ck_version *v = &ck->versions[i];

		if (!ck_slot_shares(ck, v->disk.slot))
			continue;
		version_walk(ck, v, PST_NODE_LEVEL_VOLUME, 0);
		own_add(ck, v);
	}
	for (uint32_t i = 0; i < ck->version_count; i++) {
		const struct ck_version *v = &ck->versions[i];

		if (!v->own_exact || ck->part.broken || v->own == v->blocks)
			continue;
		ck_finding(
		    ck,
		    "the family of slot %u says it owns %llu blocks of partition %u, it has %llu: usage is shown wrong",
		    v->disk.slot, (unsigned long long)v->own, ck->part.index, (unsigned long long)v->blocks);
	}
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What snapshots, clones and deletions do to the map of one partition, each as one step of its log; the same when the
 * record is applied and when it is replayed. The model is in docs/versions.md. In short: versions form a tree; those
 * that hold a block, at the one place where a family can hold it, are a connected part of that tree; the topmost of
 * them owns it. So ownership is found by comparing with the parent, and nothing needs to be counted.
 */
#include "store/internal.h"

#include <string.h>

static struct node *version_node(struct part *p, uint32_t slot)
{
	return slot != 0 ? cache_find(&p->store->cache, p, PST_NODE_LEVEL_VOLUME, slot) : NULL;
}

/*
 * Every dirty node below the version's own one gets a block, so that others can point to it. Those that are empty so
 * far, because a write into them is still under way, go to @hidden: the snapshot is without them.
 */
static void freeze_below(struct part *p, uint32_t slot, struct pst_list *hidden)
{
	for (unsigned level = 0; level < PST_NODE_LEVEL_VOLUME; level++) {
		uint64_t first = map_index_of_slot(level, slot, 0), end = map_index_of_slot(level, slot + 1, 0);
		struct pst_list *l = p->dirty[level].next, *next;

		for (; l != &p->dirty[level]; l = next) {
			struct node *n = pst_container_of(l, struct node, list);

			next = l->next;
			if (n->index >= first && n->index < end && !map_hide_empty(n, hidden))
				node_freeze(n);
		}
	}
}

/* @to is an empty version: it gets what @from has. */
static void copy_version(struct node *to, const struct node *from)
{
	map_dirty(to);
	memcpy(to->data->entry, from->data->entry, sizeof(to->data->entry));
	to->data->used = from->data->used;
	to->data->data_blocks = from->data->data_blocks;
}

void share_snapshot(struct part *p, uint32_t snapshot, uint32_t volume)
{
	struct node *s = version_node(p, snapshot), *v = version_node(p, volume);
	struct pst_list hidden;

	pst_list_init(&hidden);
	freeze_below(p, volume, &hidden);
	if (v != NULL && s != NULL && (v->data->used != 0 || v->data->own_blocks != 0) && s->data->used == 0) {
		copy_version(s, v);
		map_dirty(v);
		s->data->own_blocks = v->data->own_blocks;
		v->data->own_blocks = 0;
		if (PST_MUTANT != PST_MUTANT_SNAPSHOT_NOT_SHARED)
			map_inherit_all(v->data);
	}
	map_show_again(p, &hidden);
}

void share_clone(struct part *p, uint32_t clone, uint32_t snapshot)
{
	struct node *c = version_node(p, clone), *s = version_node(p, snapshot);

	if (c == NULL || s == NULL || s->data->used == 0 || c->data->used != 0)
		return;
	copy_version(c, s);
	map_inherit_all(c->data);
}

/* ---- Merging a deleted version into its only child, or into nothing ---- */

struct merge {
	struct part *part;
	uint64_t seq;
	struct node *gone, *child;         /* the nodes at one place; child: NULL where there is none */
	struct node *above[2];             /* parent and grandparent, likewise */
	struct node *gone_top, *child_top; /* of the versions */
	bool child_live;
	bool deep; /* what is passed on to a live child has bits that may be stale */
};

static bool above_has(const struct merge *m, uint32_t i, uint32_t block)
{
	for (size_t k = 0; k < PST_ARRAY_COUNT(m->above); k++)
		if (m->above[k] != NULL && pst_ptr_block(m->above[k]->data->entry[i]) == block)
			return true;
	return false;
}

/* Ownership of one entry of the deleted version's node passes to its child, or back to its parent, or ends. */
static void merge_entry(struct merge *m, uint32_t i)
{
	struct pst_ptr *gone = &m->gone->data->entry[i];
	uint32_t block = pst_ptr_block(*gone);
	bool parents = above_has(m, i, block);
	bool childs = m->child != NULL && pst_ptr_block(m->child->data->entry[i]) == block && block != PST_PTR_PENDING;

	if (childs && !parents && m->deep && m->gone->level > 0) { /* bit by bit: see below */
		gone->block &= ~PST_PTR_INHERITED;
		return;
	}
	if (childs && !parents && m->child_live && pst_ptr_inherited(m->child->data->entry[i]) &&
	    PST_MUTANT != PST_MUTANT_NOT_PASSED_ON) {
		map_dirty(m->child);
		m->child->data->entry[i].block &= ~PST_PTR_INHERITED;
	}
	if (!childs && !parents && block != PST_PTR_LOST) {
		if (m->gone->level > 0) { /* to be merged in its turn; it is this version's to change */
			gone->block &= ~PST_PTR_INHERITED;
			return;
		}
		if (!pst_alloc_unuse(&m->part->alloc, block))
			store_fail(m->part->store, PST_E_CHECKSUM, "space_map_damaged");
		part_free_data(m->part, m->seq, block);
		m->gone_top->data->own_blocks--;
	}
	if (m->gone->level > 0)
		cache_forget(m->part->store, m->gone, i);
	*gone = (struct pst_ptr){ 0 };
	m->gone->data->used--;
}

/*
 * When this was the last entry of the version's part of the map, what it owned is its child's. Until then the child's
 * account may be below zero: what it got and has freed since is still in this one.
 */
static void merge_own(struct merge *m)
{
	const struct node *n = m->gone;
	uint32_t entries = n->data->used;

	while (entries == 0 && n->level < PST_NODE_LEVEL_VOLUME) {
		n = n->parent;
		entries = n->data->used - 1;
	}
	if (entries > 0 || m->gone_top->data->own_blocks == 0)
		return;
	if (m->child_top != NULL) {
		map_dirty(m->child_top);
		m->child_top->data->own_blocks += m->gone_top->data->own_blocks;
	}
	m->gone_top->data->own_blocks = 0;
}

/*
 * The node itself may be the child's too: it was to be merged bit by bit into a live child, which has been deleted
 * since, and gets it as a whole now. So it is not to be freed when nothing of it is left here.
 */
static void leave_to_child(const struct merge *m)
{
	struct node *n = m->gone;

	if (m->child == NULL || n->level == PST_NODE_LEVEL_VOLUME || n->block == 0 || n->block != m->child->block)
		return;
	n->block = 0;
	n->parent->data->entry[n->index % PST_NODE_FANOUT] = (struct pst_ptr){ .block = PST_PTR_PENDING };
}

/*
 * Bits. A live volume's must be exact, since writing relies on them. A snapshot's nodes are shared with its children
 * and can't change, so when something is merged into a snapshot its bits stay as they are, and it is marked stale: from
 * now on comparing with the parent counts, and only that. When a stale version is merged into a live volume, nodes are
 * not passed on whole: the volume gets copies, with exact bits.
 *
 * Nothing is done where a node that it needs has come into being since the record was made and is not in memory, or
 * when somebody still looks at the version: the same node is merged again then. Replay may do it at once, with the same
 * result in the end.
 */
bool share_merge(struct part *p, const struct pst_log_record *r, const struct pst_log_merge *body, uint64_t seq)
{
	struct merge m = { .part = p, .seq = seq, .child_live = body->child_live != 0 };
	unsigned level = r->count;

	if (!map_find(p, level, map_index_of_slot(level, r->slot, r->lba), &m.gone) || m.gone == NULL ||
	    !map_find(p, PST_NODE_LEVEL_VOLUME, r->slot, &m.gone_top) || !cache_idle_below(&p->store->cache, m.gone))
		return false;
	if (body->child != 0 && (!map_find(p, level, map_index_of_slot(level, body->child, r->lba), &m.child) ||
				 !map_find(p, PST_NODE_LEVEL_VOLUME, body->child, &m.child_top)))
		return false;
	if ((body->parent != 0 && !map_find(p, level, map_index_of_slot(level, body->parent, r->lba), &m.above[0])) ||
	    (body->grandparent != 0 &&
	     !map_find(p, level, map_index_of_slot(level, body->grandparent, r->lba), &m.above[1])))
		return false;
	m.deep = m.child_live && m.gone_top->data->stale != 0;
	if (m.deep && m.child != NULL)
		map_dirty(m.child);
	if (!m.child_live && m.child_top != NULL && m.child_top->data->stale == 0) {
		map_dirty(m.child_top);
		m.child_top->data->stale = 1;
	}
	map_dirty(m.gone);
	leave_to_child(&m);
	for (struct node *n = m.gone; n->level <= PST_NODE_LEVEL_VOLUME; n = n->parent)
		n->data->data_blocks = 0; /* of what is going nobody counts it */
	for (uint32_t i = 0; i < PST_NODE_FANOUT; i++)
		if (m.gone->data->entry[i].block != 0)
			merge_entry(&m, i);
	merge_own(&m);
	return true;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The map of a partition as its root says, for the checker: every node once, top down, and what it says about what is
 * below. Marks what is reached. A block is reached twice only where versions of a family share it, at one place.
 *
 * On the way, leaves get what the log says: for a version that shares with none this is the last state, so its owner is
 * entered here; families of several versions are check-family.c's.
 */
#include "store/check-internal.h"

#include "base/crc32c.h"

#include <stdlib.h>
#include <string.h>

/* Leaves below one node of the level. */
const uint64_t ck_span[PST_NODE_LEVELS + 1] = { 1, 504, 254016, 128024064, 64524128256u, 32520160641024u, UINT64_MAX };

static struct pst_ptr plain(struct pst_ptr ptr)
{
	ptr.block = pst_ptr_block(ptr);
	return ptr;
}

/* ---- Nodes ---- */

/*
 * A node that versions share says where it was when it was made, so below the level of the volume only the place inside
 * the version counts.
 */
static bool index_fits(const struct ck *ck, const struct pst_node_disk *node, unsigned level, uint64_t index)
{
	uint64_t in_slot;

	if (node->index == index)
		return true;
	if (level >= PST_NODE_LEVEL_VOLUME || ck->sb.version == PST_SB_VERSION_OLD)
		return false;
	in_slot = ck_span[PST_NODE_LEVEL_VOLUME] / ck_span[level];
	return node->index % in_slot == index % in_slot;
}

pst_err ck_node_read(struct ck *ck, struct pst_ptr ptr, unsigned level, uint64_t index, struct pst_node_disk *node,
		     const char **ret_why)
{
	pst_err err;

	if (!ck_block_ok(ck, pst_ptr_block(ptr))) {
		*ret_why = "is no data block";
		return PST_E_FORMAT;
	}
	err = ck_read(ck, pst_ptr_block(ptr), node);
	ck->check->nodes_read++;
	if (err != PST_OK) {
		*ret_why = "can't be read";
		return err;
	}
	if (pst_crc32c(node, sizeof(*node)) != ptr.crc) {
		*ret_why = "has another checksum than its parent says";
		return PST_E_CHECKSUM;
	}
	if (node->magic != PST_NODE_MAGIC || node->level != level || node->partition != ck->part.index ||
	    !index_fits(ck, node, level, index)) {
		*ret_why = "is whole, but another node";
		return PST_E_FORMAT;
	}
	return PST_OK;
}

pst_err ck_node_cached(struct ck *ck, struct pst_ptr ptr, unsigned level, uint64_t index, struct pst_node_disk *node,
		       const char **ret_why)
{
	struct ck_cached *c = &ck->part.cache[pst_ptr_block(ptr) % CK_CACHE_NODES];
	pst_err err;

	if (c->ptr.block == pst_ptr_block(ptr) && c->ptr.crc == ptr.crc && c->node.level == level &&
	    index_fits(ck, &c->node, level, index)) {
		*node = c->node;
		return PST_OK;
	}
	err = ck_node_read(ck, ptr, level, index, node, ret_why);
	if (err == PST_OK)
		*c = (struct ck_cached){ *node, plain(ptr) };
	return err;
}

/* ---- Data ---- */

void ck_own(struct ck *ck, uint32_t slot, uint64_t local, struct pst_ptr ptr)
{
	struct ck_part *p = &ck->part;
	char place[CK_PLACE_BYTES];
	uint32_t block = pst_ptr_block(ptr);
	pst_err err;

	if (!ck_block_ok(ck, block))
		return; /* told by the one who found it */
	if (ck_bit(p->owned, block)) {
		p->two_owners = true;
		ck_finding(ck, "%s: its block %u of partition %u is used twice: a write to one will free it for both",
			   ck_place(ck, slot, local, 1, place), block, p->index);
	}
	ck_set(p->owned, block);
	if (!ck->verify)
		return;
	ck->check->data_read++;
	err = ck_read(ck, block, ck->chunk);
	if (err == PST_OK && pst_crc32c(ck->chunk, PST_BLOCK_BYTES) == ptr.crc)
		return;
	if (p->bad != NULL)
		ck_set(p->bad, block);
	ck_finding(ck, "%s: block %u of partition %u %s: reads of it fail; write it anew from a copy",
		   ck_place(ck, slot, local, 1, place), block, p->index,
		   err != PST_OK ? "can't be read" : "has another checksum than was written");
}

/* ---- Marks ---- */

void ck_mark_wrong(struct ck *ck, struct ck_mark mark)
{
	struct ck_part *p = &ck->part;

	if (!ck->check->repair || ck->again || p->mark_count == CK_MARKS_MAX)
		return;
	if (p->mark_count == p->mark_capacity) {
		size_t capacity = p->mark_capacity > 0 ? p->mark_capacity * 2 : 64;
		struct ck_mark *marks = realloc(p->marks, capacity * sizeof(*marks));

		if (marks == NULL)
			return; /* it is found again */
		p->marks = marks;
		p->mark_capacity = capacity;
	}
	p->marks[p->mark_count++] = mark;
}

/* ---- Who shares ---- */

static uint32_t slot_of(uint64_t leaf)
{
	return (uint32_t)(leaf / ck_span[PST_NODE_LEVEL_VOLUME]);
}

/*
 * A version that the log changes may have shared with a parent in the root's state that it has none of any more: the
 * moves that end a flattening are in this log, the record that says so in partition 0's.
 */
bool ck_slot_shares(const struct ck *ck, uint32_t slot)
{
	const struct ck_version *v = ck_version_find(ck, slot);
	uint64_t leaves = ck_span[PST_NODE_LEVEL_VOLUME];

	return ck_slot_touched(&ck->part, slot) ||
	       (v != NULL && (v->many || ck_items_any(&ck->part, slot * leaves, leaves)));
}

/* In the root's state: one that is gone since may have shared then with whatever is there now. */
static bool slot_shared(const struct ck *ck, uint32_t slot)
{
	return ck_slot_shares(ck, slot) || (ck_version_find(ck, slot) == NULL && slot != PST_SLOT_CATALOG);
}

static bool shared(const struct ck *ck, uint64_t leaf)
{
	return slot_shared(ck, slot_of(leaf));
}

/* Is it a live volume that shares with none? Then nothing of it may be marked as its parent's. */
static bool alone(const struct ck *ck, uint32_t slot)
{
	const struct ck_version *v = ck_version_find(ck, slot);

	return !slot_shared(ck, slot) &&
	       (v == NULL || (v->disk.flags & (PST_VOLUME_SNAPSHOT | PST_VOLUME_DELETING | PST_VOLUME_PENDING)) == 0);
}

/* ---- The last state of a leaf whose version shares with none ---- */

/* Local LBAs of the volume on this partition. */
static uint64_t local_end(const struct ck *ck, const struct ck_version *v)
{
	uint64_t row = (uint64_t)PST_STRIPE_BLOCKS * ck->sb.partition_count, blocks = v->disk.block_count;
	uint64_t rest = blocks % row, before = (uint64_t)ck->part.index * PST_STRIPE_BLOCKS;

	rest = rest > before ? PST_MIN(rest - before, PST_STRIPE_BLOCKS) : 0;
	return blocks / row * PST_STRIPE_BLOCKS + rest;
}

void ck_lost(struct ck *ck, uint32_t slot, uint64_t local, uint64_t count)
{
	const struct ck_version *v = ck_version_find(ck, slot);
	char place[CK_PLACE_BYTES];

	if (v == NULL || local >= local_end(ck, v))
		return;
	count = PST_MIN(count, local_end(ck, v) - local);
	ck->check->lost_blocks += count;
	ck_note(ck, "%s: lost since an earlier repair: reads of it fail until it is written",
		ck_place(ck, slot, local, count, place));
}

void ck_entry_last(struct ck *ck, uint32_t slot, uint64_t local)
{
	const struct ck_version *v = ck_version_find(ck, slot);
	char place[CK_PLACE_BYTES];

	if (slot == PST_SLOT_CATALOG || ck->no_catalog)
		return;
	if (v == NULL && ck->part.orphan != slot) {
		ck->part.orphan = slot;
		ck_finding(ck, "partition %u: slot %u has data and no volume: nobody can reach or free it",
			   ck->part.index, slot);
	} else if (v != NULL && local >= local_end(ck, v)) {
		ck_finding(ck,
			   "%s: mapped, but beyond the volume's end of %llu blocks: it takes space that nobody sees",
			   ck_place(ck, slot, local, 1, place), (unsigned long long)v->disk.block_count);
	}
}

/* @block_of_leaf: the root's leaf that @base is from. */
static void leaf_last(struct ck *ck, uint64_t leaf, uint32_t block_of_leaf, const struct pst_ptr base[PST_NODE_FANOUT])
{
	struct ck_part *p = &ck->part;
	uint32_t slot = (uint32_t)(leaf / ck_span[PST_NODE_LEVEL_VOLUME]);
	uint64_t local = leaf % ck_span[PST_NODE_LEVEL_VOLUME] * PST_NODE_FANOUT;
	struct pst_ptr entry[PST_NODE_FANOUT];
	size_t end, at = ck_items_of(p, leaf, &end);
	char place[CK_PLACE_BYTES];

	memcpy(entry, base, sizeof(entry));
	for (; at < end; at++) {
		p->items[at].visited = true;
		ck_item_apply(&p->items[at], entry);
	}
	for (uint32_t i = 0; i < PST_NODE_FANOUT; i++) {
		uint32_t block = pst_ptr_block(entry[i]), run = 1;

		if (block == 0)
			continue;
		if (block == PST_PTR_LOST) {
			while (i + run < PST_NODE_FANOUT && pst_ptr_block(entry[i + run]) == PST_PTR_LOST)
				run++;
			ck_lost(ck, slot, local + i, run);
			i += run - 1;
			continue;
		}
		ck_entry_last(ck, slot, local + i);
		if (pst_ptr_inherited(entry[i]) && alone(ck, slot)) {
			ck_finding(ck, "%s: marked as its parent's, but it has none: its block %u will never be freed",
				   ck_place(ck, slot, local + i, 1, place), block);
			ck_mark_wrong(ck, (struct ck_mark){ block_of_leaf, i, CK_NO_FAMILY, false });
		}
		ck_own(ck, slot, local + i, entry[i]);
	}
}

/* ---- The walk ---- */

struct sums {
	uint32_t used;
	uint64_t data;
	bool known; /* nothing below was unreadable */
};

static void mark(struct ck *ck, uint64_t leaf, uint32_t block, bool node)
{
	struct ck_part *p = &ck->part;

	if (shared(ck, leaf))
		ck_set(p->sharers, block);
	ck_set(p->reached, block);
	if (node)
		ck_set(p->nodes, block);
	p->reached_count++;
}

static void data_entry(struct ck *ck, uint64_t leaf, uint32_t i, struct pst_ptr ptr)
{
	struct ck_part *p = &ck->part;
	uint32_t slot = (uint32_t)(leaf / ck_span[PST_NODE_LEVEL_VOLUME]), block = pst_ptr_block(ptr);
	uint64_t local = leaf % ck_span[PST_NODE_LEVEL_VOLUME] * PST_NODE_FANOUT + i;
	char place[CK_PLACE_BYTES];

	if (!ck_block_ok(ck, block)) {
		ck_finding(ck, "%s: points to block %u of partition %u, which is no data block: reads of it fail",
			   ck_place(ck, slot, local, 1, place), block, p->index);
		return;
	}
	if (!ck_bit(p->reached, block)) {
		mark(ck, leaf, block, false);
		return;
	}
	if (ck_bit(p->nodes, block))
		ck_finding(ck, "%s: its block %u of partition %u is a node of the map: one of both is wrong",
			   ck_place(ck, slot, local, 1, place), block, p->index);
	else if (!shared(ck, leaf) && !ck_bit(p->sharers, block))
		ck_finding(ck, "%s: its block %u of partition %u is reached a second time: one of both is wrong",
			   ck_place(ck, slot, local, 1, place), block, p->index);
}

/* A lost pointer in a node of @level; those in leaves are told with the last state. */
static void lost_below(struct ck *ck, unsigned level, uint64_t child)
{
	uint64_t leaf = child * (level > 0 ? ck_span[level - 1] : 0), per_slot = ck_span[PST_NODE_LEVEL_VOLUME];

	if (level > 0 && level <= PST_NODE_LEVEL_VOLUME + 1)
		ck_lost(ck, (uint32_t)(leaf / per_slot), leaf % per_slot * PST_NODE_FANOUT,
			ck_span[level - 1] * PST_NODE_FANOUT);
}

static struct sums walk(struct ck *ck, unsigned level, uint64_t index, struct pst_ptr ptr);

static void mark_alone(struct ck *ck, unsigned level, uint64_t index, uint32_t block, uint32_t i, struct pst_ptr ptr)
{
	char place[CK_PLACE_BYTES];

	if (!pst_ptr_inherited(ptr) ||
	    (level <= PST_NODE_LEVEL_VOLUME &&
	     !alone(ck, (uint32_t)(index * ck_span[level] / ck_span[PST_NODE_LEVEL_VOLUME]))))
		return;
	ck_finding(ck,
		   "%s: a pointer in its node of level %u is marked as its parent's, but it has none: what is below "
		   "will never be freed",
		   ck_node_place(ck, level, index, place), level);
	ck_mark_wrong(ck, (struct ck_mark){ block, i, CK_NO_FAMILY, false });
}

static struct sums entries(struct ck *ck, unsigned level, uint64_t index, uint32_t block,
			   const struct pst_node_disk *node)
{
	struct sums s = { .known = true };

	for (uint32_t i = 0; i < PST_NODE_FANOUT; i++) {
		struct sums below;

		if (node->entry[i].block == 0)
			continue;
		s.used++;
		if (level > 0)
			mark_alone(ck, level, index, block, i, node->entry[i]);
		if (pst_ptr_block(node->entry[i]) == PST_PTR_LOST) {
			lost_below(ck, level, index * PST_NODE_FANOUT + i);
			continue;
		}
		if (level == 0) {
			data_entry(ck, index, i, node->entry[i]);
			s.data++;
			continue;
		}
		below = walk(ck, level - 1, index * PST_NODE_FANOUT + i, node->entry[i]);
		s.data += below.data;
		s.known = s.known && below.known;
	}
	return s;
}

/* What is being deleted is not counted any more; a slot may have another version now than at the root's time, or none.
 */
static bool going(const struct ck *ck, const struct ck_version *v)
{
	return v == NULL || (v->disk.flags & (PST_VOLUME_DELETING | PST_VOLUME_PENDING)) != 0 ||
	       ck_slot_touched(&ck->part, v->disk.slot);
}

static void judge_counts(struct ck *ck, unsigned level, uint64_t index, const struct pst_node_disk *node, struct sums s)
{
	char place[CK_PLACE_BYTES];
	const struct ck_version *v =
	    ck_version_find(ck, (uint32_t)(index * ck_span[level] / ck_span[PST_NODE_LEVEL_VOLUME]));
	bool counts_data = level <= PST_NODE_LEVEL_VOLUME ? !going(ck, v) || index == PST_SLOT_CATALOG
							  : node->format == 0 && ck->sb.version == PST_SB_VERSION_OLD;

	if (s.used != node->used)
		ck_finding(ck, "%s: its node of level %u says %u entries and has %u: it can't be loaded",
			   ck_node_place(ck, level, index, place), level, node->used, s.used);
	/*
	 * A version that is being made has its node before anything is in it; a snapshot keeps the leaf of a write that
	 * had its place in the log only after it.
	 */
	if (s.used == 0 && level < PST_NODE_LEVEL_VOLUME && !shared(ck, index * ck_span[level]))
		ck_finding(ck, "%s: its node of level %u is empty: it only takes space",
			   ck_node_place(ck, level, index, place), level);
	if (s.known && counts_data && s.data != node->data_blocks)
		ck_finding(
		    ck,
		    "%s: its node of level %u counts %llu data blocks below it, there are %llu: usage is shown wrong",
		    ck_node_place(ck, level, index, place), level, (unsigned long long)node->data_blocks,
		    (unsigned long long)s.data);
}

/* A version that shares with none owns all that it has. */
static void judge_own(struct ck *ck, uint64_t index, const struct pst_node_disk *node, struct sums s)
{
	char place[CK_PLACE_BYTES];

	if (s.known && node->format != 0 && node->own_blocks != s.data &&
	    !shared(ck, index * ck_span[PST_NODE_LEVEL_VOLUME]))
		ck_finding(ck, "%s: says it owns %llu blocks of partition %u, there are %llu: usage is shown wrong",
			   ck_place(ck, (uint32_t)index, 0, 1, place), (unsigned long long)node->own_blocks,
			   ck->part.index, (unsigned long long)s.data);
}

static struct sums walk(struct ck *ck, unsigned level, uint64_t index, struct pst_ptr ptr)
{
	struct ck_part *p = &ck->part;
	struct pst_node_disk *node = p->path[level];
	uint32_t block = pst_ptr_block(ptr);
	char place[CK_PLACE_BYTES];
	const char *why = NULL;
	struct sums s;

	if (ck->check->stop)
		return (struct sums){ 0 };
	if (ck_node_read(ck, plain(ptr), level, index, node, &why) != PST_OK) {
		ck_finding(ck,
			   "%s: the node of level %u in block %u of partition %u %s: what is below it can't be read",
			   ck_node_place(ck, level, index, place), level, block, p->index, why);
		p->broken = true;
		return (struct sums){ 0 };
	}
	if (ck_bit(p->reached, block)) {
		bool fine = ck_bit(p->nodes, block) && level < PST_NODE_LEVEL_VOLUME &&
			    (shared(ck, index * ck_span[level]) || ck_bit(p->sharers, block));

		if (!fine) {
			p->two_owners = true;
			ck_finding(
			    ck,
			    "%s: its node of level %u in block %u of partition %u is reached a second time: one of "
			    "both is wrong",
			    ck_node_place(ck, level, index, place), level, block, p->index);
		}
		return (struct sums){ .data = node->data_blocks, .known = fine };
	}
	mark(ck, index * ck_span[level], block, true);
	ck_progress(ck, 1);
	s = entries(ck, level, index, block, node);
	judge_counts(ck, level, index, node, s);
	if (level == PST_NODE_LEVEL_VOLUME)
		judge_own(ck, index, node, s);
	if (level == 0 && !ck_slot_shares(ck, slot_of(index)))
		leaf_last(ck, index, block, node->entry);
	return s;
}

/* Leaves that only the log knows. */
static void new_leaves(struct ck *ck)
{
	static const struct pst_ptr none[PST_NODE_FANOUT];
	struct ck_part *p = &ck->part;

	for (size_t i = 0; i < p->item_count; i++)
		if (!p->items[i].visited && !ck_slot_shares(ck, slot_of(p->items[i].leaf)))
			leaf_last(ck, p->items[i].leaf, 0, none);
}

static void nodes_overwritten(struct ck *ck)
{
	struct ck_part *p = &ck->part;

	for (uint64_t w = 0; w < pst_div_round_up(p->blocks, 64); w++) {
		uint64_t both = p->owned[w] & p->nodes[w];

		for (; both != 0; both &= both - 1)
			ck_finding(ck,
				   "partition %u: block %llu is a node of the map, and the log has data written there",
				   p->index, (unsigned long long)(w * 64 + (uint64_t)__builtin_ctzll(both)));
	}
}

void ck_tree(struct ck *ck)
{
	struct ck_part *p = &ck->part;

	if (p->root.map.block != 0)
		walk(ck, PST_NODE_LEVELS - 1, 0, p->root.map);
	new_leaves(ck);
	nodes_overwritten(ck);
}

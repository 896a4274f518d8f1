/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Repair of a pool that nobody has open. Nothing that is in use is overwritten: what must change is written to free
 * blocks and to the copies of the space map that do not count, flushed, and then a new root makes it true. Cut short,
 * it leaves what was there before. The log stays as it is; recovery replays it on the repaired tree.
 *
 *   superblock and root copies      written again from the good one
 *   nodes and data                  what can't be read or does not verify becomes PST_PTR_LOST: errors, never zeros
 *   counts, what versions own       of what is there
 *   marks                           of what is there, where each block has one owner
 *   slots without a volume          dropped
 *   space map                       what is reached from the new root
 *   log, where damaged              ends there, if the caller has agreed to lose the rest
 *
 * What needs a decision is left: blocks used twice (with `data` the one whose checksum fits stays) and marks beside
 * them, a damaged catalog.
 */
#include "store/check-internal.h"

#include "base/crc32c.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct moved {
	uint32_t from;
	struct pst_ptr to;
};

struct rebuild {
	struct ck *ck;
	uint64_t *reached; /* bitmap: from the new root */
	uint64_t reached_count;
	uint64_t *taken; /* bitmap: not to be written to */
	uint32_t next;   /* search for free blocks goes on there */
	struct moved *moved;
	size_t moved_count, moved_capacity;
	uint64_t counts, marks; /* nodes in which they were put right */
	pst_err err;
};

static pst_err flush(struct ck *ck)
{
	return ck->io->flush(ck->io->ctx);
}

/* ---- Copies ---- */

pst_err ck_repair_superblock(struct ck *ck)
{
	pst_err err;

	if (!ck->sb_damaged)
		return PST_OK;
	err = ck->io->write(ck->io->ctx, 0, ck->sb_bad, &ck->sb);
	if (err == PST_OK)
		err = flush(ck);
	if (err == PST_OK)
		ck_repaired(ck, "superblock, copy in block %llu: written again from the other",
			    (unsigned long long)ck->sb_bad);
	return err;
}

static pst_err repair_roots(struct ck *ck)
{
	struct ck_part *p = &ck->part;
	pst_err err = PST_OK;

	for (uint32_t i = 0; err == PST_OK && i < PST_ROOT_SLOTS; i++) {
		const struct pst_root *root = (const void *)ck->chunk;

		if (ck_read(ck, i, ck->chunk) == PST_OK && ck_root_fine(ck, root, i))
			continue;
		err = ck_write(ck, i, &p->root);
		if (err == PST_OK)
			err = flush(ck);
		if (err == PST_OK)
			ck_repaired(ck, "partition %u: root copy in block %u: written again from another", p->index, i);
	}
	return err;
}

/* ---- The log ---- */

/* All blocks of this log beyond its end: they would prove that it should have gone on. */
static pst_err cut_log(struct ck *ck)
{
	struct ck_part *p = &ck->part;
	uint64_t end = p->root.log_seq + p->log_count;
	const struct pst_log_block *b = (const void *)ck->chunk;
	static const uint8_t zero[PST_BLOCK_BYTES];
	uint32_t count = 0;
	pst_err err = PST_OK;

	for (uint32_t at = 0; err == PST_OK && at < p->geo.log_blocks; at++) {
		if (ck_read(ck, p->geo.log_start + at, ck->chunk) == PST_OK &&
		    (b->magic != PST_LOG_MAGIC || b->incarnation != p->root.incarnation || b->seq < end))
			continue;
		err = ck_write(ck, p->geo.log_start + at, zero);
		count++;
	}
	if (err == PST_OK)
		err = flush(ck);
	if (err == PST_OK)
		ck_repaired(
		    ck,
		    "partition %u: its log ends before block %llu now; %u blocks of it are given up: what was written, "
		    "discarded, made or deleted there after that is lost, flushed or not",
		    p->index, (unsigned long long)end, count);
	return err;
}

/* ---- Free blocks ---- */

static void take_log_blocks(struct rebuild *r)
{
	const struct ck *ck = r->ck;
	const struct ck_part *p = &ck->part;

	for (uint32_t i = 0; i < p->log_count; i++) {
		const struct pst_log_record *rec;
		uint32_t at = 0;
		bool bad = false;

		while ((rec = pst_log_block_next(&p->log[i], &at, &bad)) != NULL)
			for (uint32_t b = 0;
			     (rec->kind == PST_LOG_WRITE || rec->kind == PST_LOG_MOVE) && b < rec->count; b++)
				if (ck_block_ok(ck, (uint64_t)rec->block + b)) {
					ck_set(r->taken, rec->block + b);
					/* Bad or not: a pointer of the tree may mean what was there before. */
					p->bad[(rec->block + b) / 64] &= ~((uint64_t)1 << ((rec->block + b) % 64));
				}
	}
}

static uint32_t take_block(struct rebuild *r)
{
	const struct ck_part *p = &r->ck->part;

	for (; r->next < p->blocks; r->next++) {
		if (ck_bit(r->taken, r->next) || !ck_block_ok(r->ck, r->next))
			continue;
		ck_set(r->taken, r->next);
		return r->next++;
	}
	snprintf(r->ck->detail, PST_DETAIL_BYTES,
		 "partition %u has no free block for the repair: nothing was changed there", p->index);
	r->err = PST_E_NOSPACE;
	return 0;
}

/* ---- Nodes ---- */

static void reach(struct rebuild *r, uint32_t block)
{
	if (ck_bit(r->reached, block))
		return;
	ck_set(r->reached, block);
	r->reached_count++;
}

static struct pst_ptr node_write(struct rebuild *r, struct pst_node_disk *node)
{
	struct pst_ptr ptr = { .block = take_block(r) };

	if (ptr.block == 0)
		return ptr;
	node->generation = r->ck->part.root.generation + 1;
	ptr.crc = pst_crc32c(node, sizeof(*node));
	r->err = ck_write(r->ck, ptr.block, node);
	reach(r, ptr.block);
	return ptr;
}

static void remember(struct rebuild *r, uint32_t from, struct pst_ptr to)
{
	if (r->moved_count == r->moved_capacity) {
		size_t capacity = r->moved_capacity > 0 ? r->moved_capacity * 2 : 64;
		struct moved *moved = realloc(r->moved, capacity * sizeof(*moved));

		if (moved == NULL) {
			r->err = PST_E_NOMEM;
			return;
		}
		r->moved = moved;
		r->moved_capacity = capacity;
	}
	r->moved[r->moved_count++] = (struct moved){ from, to };
}

static const struct moved *moved_find(const struct rebuild *r, uint32_t from)
{
	for (size_t i = 0; i < r->moved_count; i++)
		if (r->moved[i].from == from)
			return &r->moved[i];
	return NULL;
}

/* Does the log put something else there? Then nobody misses what the tree says. */
static bool superseded(const struct ck_part *p, uint64_t leaf, uint32_t i)
{
	size_t end, at = ck_items_of(p, leaf, &end);

	for (; at < end; at++)
		if (i - p->items[at].record->lba % PST_NODE_FANOUT < p->items[at].record->count)
			return true;
	return false;
}

/* The look at the last state has found what is bad; of two that claim a block one may be right. */
static bool data_good(struct rebuild *r, uint64_t leaf, struct pst_ptr ptr)
{
	struct ck *ck = r->ck;
	uint32_t block = pst_ptr_block(ptr);

	if (!ck_block_ok(ck, block))
		return false;
	if (leaf < ck_span[PST_NODE_LEVEL_VOLUME] || !ck_bit(ck->part.bad, block))
		return true;
	return ck_read(ck, block, ck->chunk) == PST_OK && pst_crc32c(ck->chunk, PST_BLOCK_BYTES) == ptr.crc;
}

/* What takes the place of a node that can't be read. Above the versions: one with all versions there, each lost. */
static struct pst_ptr node_lost(struct rebuild *r, unsigned level, uint64_t index)
{
	struct ck *ck = r->ck;
	struct pst_node_disk *node;
	struct pst_ptr ptr = { .block = PST_PTR_LOST };

	if (level <= PST_NODE_LEVEL_VOLUME)
		return ptr;
	node = aligned_alloc(PST_BLOCK_BYTES, PST_BLOCK_BYTES);
	if (node == NULL) {
		r->err = PST_E_NOMEM;
		return ptr;
	}
	memset(node, 0, sizeof(*node));
	node->magic = PST_NODE_MAGIC;
	node->level = (uint8_t)level;
	node->partition = ck->part.index;
	node->index = index;
	node->format = PST_NODE_FORMAT;
	for (uint32_t i = 0; i < ck->version_count && r->err == PST_OK; i++) {
		uint64_t per_entry = ck_span[level - 1] / ck_span[PST_NODE_LEVEL_VOLUME];
		uint64_t at = ck->versions[i].disk.slot / per_entry;

		if (at / PST_NODE_FANOUT != index || node->entry[at % PST_NODE_FANOUT].block != 0)
			continue;
		node->entry[at % PST_NODE_FANOUT] = node_lost(r, level - 1, at);
		node->used++;
	}
	if (node->used > 0 && r->err == PST_OK)
		ptr = node_write(r, node);
	else
		ptr.block = 0;
	free(node);
	return ptr;
}

struct built {
	struct pst_ptr ptr;
	uint64_t data;
};

static struct built build(struct rebuild *r, unsigned level, uint64_t index, struct pst_ptr ptr);

/* A slot that no record speaks of, and no event of the log. */
static bool orphan(const struct rebuild *r, unsigned level, uint64_t child)
{
	const struct ck *ck = r->ck;

	return level == PST_NODE_LEVEL_VOLUME + 1 && child != PST_SLOT_CATALOG && !ck->no_catalog && !ck->unsure &&
	       ck_version_find(ck, (uint32_t)child) == NULL && !ck_slot_touched(&ck->part, (uint32_t)child) &&
	       !ck_items_any(&ck->part, child * ck_span[PST_NODE_LEVEL_VOLUME], ck_span[PST_NODE_LEVEL_VOLUME]);
}

/* One entry of a node: what it should be. *ret_data: data blocks below. */
static struct pst_ptr entry_build(struct rebuild *r, unsigned level, uint64_t index, uint32_t i, struct pst_ptr ptr,
				  uint64_t *ret_data)
{
	uint64_t child = index * PST_NODE_FANOUT + i;
	char place[CK_PLACE_BYTES];
	struct built b;

	*ret_data = 0;
	if (ptr.block == 0 || pst_ptr_block(ptr) == PST_PTR_LOST)
		return ptr;
	if (orphan(r, level, child)) {
		ck_repaired(r->ck, "partition %u: slot %llu, of no volume: dropped, its blocks are free",
			    r->ck->part.index, (unsigned long long)child);
		return (struct pst_ptr){ 0 };
	}
	if (level > 0) {
		b = build(r, level - 1, child, ptr);
		*ret_data = b.data;
		return b.ptr;
	}
	if (data_good(r, index, ptr)) {
		reach(r, pst_ptr_block(ptr));
		*ret_data = 1;
		return ptr;
	}
	if (!superseded(&r->ck->part, index, i))
		ck_repaired(r->ck, "%s: given up: reads of it fail until it is written",
			    ck_place(r->ck, (uint32_t)(child / PST_SLOT_SPAN), child % PST_SLOT_SPAN, 1, place));
	return (struct pst_ptr){ .block = PST_PTR_LOST };
}

/* What a version owns of the partition, where that can be told; else what it says. */
static uint64_t own_blocks(const struct rebuild *r, uint32_t slot, const struct pst_node_disk *node, uint64_t data)
{
	const struct ck *ck = r->ck;
	const struct ck_version *v = ck_version_find(ck, slot), *first;
	uint64_t own;

	if (!ck_slot_shares(ck, slot))
		return data;
	if (v == NULL || ck->part.broken || ck->unsure)
		return node->own_blocks;
	/* Only the sum is judged, so only with a wrong one something is wrong. With wrong marks it may make no sense
	 * yet. */
	first = &ck->versions[v->family];
	own = v->owned - v->logged;
	return first->own_exact && first->own != first->blocks && own <= data ? own : node->own_blocks;
}

/* Counts of a node that is there; true: they were wrong. */
static bool counts_put_right(struct rebuild *r, unsigned level, uint64_t index, struct pst_node_disk *node,
			     uint32_t used, uint64_t data)
{
	const struct ck *ck = r->ck;
	uint32_t slot = (uint32_t)(index * ck_span[level] / ck_span[PST_NODE_LEVEL_VOLUME]);
	const struct ck_version *v = ck_version_find(ck, slot);
	bool going = v != NULL && (v->disk.flags & (PST_VOLUME_DELETING | PST_VOLUME_PENDING)) != 0;
	bool counts = level <= PST_NODE_LEVEL_VOLUME && !going && !(v == NULL && slot != PST_SLOT_CATALOG);
	bool wrong = node->used != used;

	node->used = used;
	if (counts && node->data_blocks != data) {
		node->data_blocks = data;
		wrong = true;
	}
	if (level == PST_NODE_LEVEL_VOLUME && counts && node->format != 0) {
		uint64_t own = own_blocks(r, slot, node, data);

		wrong = wrong || own != node->own_blocks;
		node->own_blocks = own;
	}
	return wrong;
}

/* ---- Marks ---- */

static int by_block(const void *a, const void *b)
{
	const struct ck_mark *x = a, *y = b;

	return x->block < y->block ? -1 : x->block > y->block;
}

/*
 * Marks follow from who holds what, so they can be put right if that is certain: each block has one owner. With two, a
 * block would be freed while the other uses it; a mark too many only keeps a block in use. In a family that the log
 * changes, owners are those of the last state and marks those of the root's: that waits until it has been replayed.
 */
static void marks_choose(struct rebuild *r)
{
	struct ck *ck = r->ck;
	struct ck_part *p = &ck->part;
	size_t count = 0;

	for (size_t i = 0; i < p->mark_count && !p->two_owners && !p->broken && !ck->no_catalog && !ck->unsure; i++)
		if (p->marks[i].family == CK_NO_FAMILY || !ck->versions[p->marks[i].family].logged_any)
			p->marks[count++] = p->marks[i];
	p->mark_count = count;
	if (count > 0)
		qsort(p->marks, count, sizeof(p->marks[0]), by_block);
}

/* The marks of the root's node in @block; true: some were wrong. */
static bool marks_put_right(struct rebuild *r, uint32_t block, struct pst_node_disk *node)
{
	const struct ck_part *p = &r->ck->part;
	size_t low = 0, high = p->mark_count, first;

	while (low < high) {
		size_t mid = low + (high - low) / 2;

		if (p->marks[mid].block < block)
			low = mid + 1;
		else
			high = mid;
	}
	for (first = low; low < p->mark_count && p->marks[low].block == block; low++)
		node->entry[p->marks[low].entry].block =
		    pst_ptr_block(node->entry[p->marks[low].entry]) | (p->marks[low].to ? PST_PTR_INHERITED : 0);
	r->marks += low > first;
	return low > first;
}

/* The same node with other entries or counts: at another block. */
static struct pst_ptr replace(struct rebuild *r, struct pst_ptr old, struct pst_node_disk *node)
{
	struct pst_ptr ptr = node_write(r, node);

	remember(r, pst_ptr_block(old), ptr);
	ptr.block |= old.block & PST_PTR_INHERITED;
	return ptr;
}

static struct built build(struct rebuild *r, unsigned level, uint64_t index, struct pst_ptr ptr)
{
	struct ck *ck = r->ck;
	struct pst_node_disk *node = ck->part.path[level];
	const struct moved *moved = moved_find(r, pst_ptr_block(ptr));
	char place[CK_PLACE_BYTES];
	const char *why;
	uint32_t used = 0;
	uint64_t data = 0;
	bool changed = false;

	if (r->err != PST_OK)
		return (struct built){ ptr, 0 };
	if (moved != NULL) /* another version's too, and written anew */
		ptr = (struct pst_ptr){ moved->to.block | (ptr.block & PST_PTR_INHERITED), moved->to.crc };
	if (ck_node_read(ck, ptr, level, index, node, &why) != PST_OK) {
		if (level > PST_NODE_LEVEL_VOLUME && (ck->no_catalog || ck->unsure)) {
			r->err = PST_E_CHECKSUM; /* told; a version that is left out of a new one would read as zeros */
			return (struct built){ ptr, 0 };
		}
		ck_repaired(
		    ck,
		    "%s: given up with its node of level %u in block %u of partition %u: reads of it fail until it is "
		    "written",
		    ck_node_place(ck, level, index, place), level, pst_ptr_block(ptr), ck->part.index);
		return (struct built){ node_lost(r, level, index), 0 };
	}
	if (moved != NULL || ck_bit(r->reached, pst_ptr_block(ptr)))
		return (struct built){ ptr, node->data_blocks };
	changed = marks_put_right(r, pst_ptr_block(ptr), node);
	for (uint32_t i = 0; i < PST_NODE_FANOUT && r->err == PST_OK; i++) {
		uint64_t below;
		struct pst_ptr now = entry_build(r, level, index, i, node->entry[i], &below);

		changed = changed || now.block != node->entry[i].block || now.crc != node->entry[i].crc;
		node->entry[i] = now;
		used += now.block != 0;
		data += below;
	}
	if (counts_put_right(r, level, index, node, used, data)) {
		r->counts += !changed;
		changed = true;
	}
	if (used == 0 && level < PST_NODE_LEVEL_VOLUME)
		return (struct built){ { 0 }, 0 };
	if (changed && r->err == PST_OK)
		return (struct built){ replace(r, ptr, node), data };
	reach(r, pst_ptr_block(ptr));
	return (struct built){ ptr, data };
}

/* ---- Space map and root ---- */

/* The page as it should be; true: it is not so on the disk. */
static bool page_make(struct rebuild *r, uint32_t index, struct pst_space_page *page, uint64_t *freed, uint64_t *taken)
{
	const struct ck_part *p = &r->ck->part;
	uint64_t first = (uint64_t)index * PST_SPACE_BITS;
	bool changed = false;

	for (uint32_t i = 0; i < PST_SPACE_BITS; i++) {
		bool want = first + i < p->blocks && ck_bit(r->reached, (uint32_t)(first + i));

		if (want == ck_bit(page->bits, i))
			continue;
		*(want ? taken : freed) += 1;
		page->bits[i / 64] ^= (uint64_t)1 << (i % 64);
		changed = true;
	}
	return changed;
}

/*
 * True: pages differ from what is reached. With @write they are written; and so is a page whose other copy is of a
 * checkpoint that was never committed: that copy has the number of the root to come, and would count with it.
 */
static bool space_make(struct rebuild *r, bool write, uint32_t *ret_digest)
{
	struct ck *ck = r->ck;
	struct ck_part *p = &ck->part;
	struct pst_space_page *page = (void *)p->other[0];
	uint64_t freed = 0, taken = 0;
	bool any = false;

	*ret_digest = 0;
	for (uint32_t i = 0; i < pst_div_round_up(p->blocks, PST_SPACE_BITS) && r->err == PST_OK; i++) {
		bool later;
		int copy = ck_page_read(ck, i, page, &later);
		bool differs = page_make(r, i, page, &freed, &taken) || copy < 0;

		any = any || differs;
		if (write && (differs || later)) {
			page->generation = p->root.generation + 1;
			ck_page_seal(page);
			r->err = ck_write(ck, ck_page_block(ck, i, copy == 0), page);
		}
		*ret_digest = pst_crc32c_more(*ret_digest, &page->crc, sizeof(page->crc));
	}
	if (write && any && r->err == PST_OK)
		ck_repaired(
		    ck, "partition %u: space map written anew from what is reached: %llu blocks freed, %llu entered",
		    p->index, (unsigned long long)freed, (unsigned long long)taken);
	return any;
}

static void root_write(struct rebuild *r, struct pst_ptr map, uint32_t digest)
{
	struct ck *ck = r->ck;
	struct pst_root *root = (void *)ck->chunk;

	r->err = flush(ck);
	*root = ck->part.root;
	root->generation++;
	root->map = map;
	root->space_digest = digest;
	root->used_blocks = r->reached_count;
	root->space_pages = (uint32_t)pst_div_round_up(ck->part.blocks, PST_SPACE_BITS);
	pst_root_seal(root);
	for (uint32_t copy = 0; copy < 2 && r->err == PST_OK; copy++)
		r->err = ck_write(ck, root->generation % 2 * 2 + copy, root);
	if (r->err == PST_OK)
		r->err = flush(ck);
}

static void rebuild(struct rebuild *r)
{
	struct ck *ck = r->ck;
	struct pst_ptr map = ck->part.root.map;
	uint64_t before = ck->check->repaired;
	uint32_t digest;

	if (map.block != 0)
		map = build(r, PST_NODE_LEVELS - 1, 0, map).ptr;
	if (r->err != PST_OK)
		return;
	for (uint32_t i = 0; ck->part.index == 0 && i < ck->root_key_count; i++)
		for (uint32_t copy = 0; copy < 2; copy++)
			if (ck_block_ok(ck, (uint64_t)ck->root_keys[i] + copy))
				reach(r, ck->root_keys[i] + copy);
	if (!space_make(r, false, &digest) && map.block == ck->part.root.map.block &&
	    digest == ck->part.root.space_digest && r->reached_count == ck->part.root.used_blocks)
		return;
	(void)space_make(r, true, &digest);
	if (r->err != PST_OK)
		return;
	root_write(r, map, digest);
	if (r->err != PST_OK)
		return;
	if (r->counts > 0)
		ck_repaired(ck, "partition %u: counts put right in %llu nodes", ck->part.index,
			    (unsigned long long)r->counts);
	if (r->marks > 0)
		ck_repaired(ck, "partition %u: marks of what versions share put right in %llu nodes", ck->part.index,
			    (unsigned long long)r->marks);
	if (ck->check->repaired == before)
		ck_repaired(ck, "partition %u: what its root says of the space map put right", ck->part.index);
}

/* ---- A partition ---- */

pst_err ck_repair_partition(struct ck *ck)
{
	struct ck_part *p = &ck->part;
	size_t words = (size_t)pst_div_round_up(p->blocks, 64);
	struct rebuild r = { .ck = ck, .next = p->geo.data_start };

	r.err = repair_roots(ck);
	if (r.err == PST_OK && p->log_damaged && ck->check->cut_log)
		r.err = cut_log(ck);
	if (r.err != PST_OK || (p->index == 0 && ck->no_catalog))
		return r.err;
	r.reached = calloc(words, sizeof(uint64_t));
	r.taken = calloc(words, sizeof(uint64_t));
	if (r.reached == NULL || r.taken == NULL) {
		r.err = PST_E_NOMEM;
	} else {
		for (size_t w = 0; w < words; w++)
			r.taken[w] = p->reached[w] | p->owned[w];
		take_log_blocks(&r);
		marks_choose(&r);
		rebuild(&r);
	}
	free(r.reached);
	free(r.taken);
	free(r.moved);
	return r.err;
}

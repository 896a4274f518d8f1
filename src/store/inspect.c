/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Operations that only look at versions: how much they hold, and where two of them differ.
 *
 * The difference is found by walking both trees side by side and passing over what they share: its cost is that of what
 * has changed. Leaves lie in partitions and a volume's LBAs stripe over these, so a unit of 32 leaves of each
 * partition, which is a whole number of stripes, is compared at a time; that gives ranges in the order of LBAs.
 */
#include "store/internal.h"

#include <stdlib.h>
#include <string.h>

#define UNIT_LEAVES 32u
#define UNIT_BLOCKS (UNIT_LEAVES * PST_NODE_FANOUT) /* on each partition */
#define UNIT_STRIPES (UNIT_BLOCKS / PST_STRIPE_BLOCKS)
_Static_assert(UNIT_BLOCKS % PST_STRIPE_BLOCKS == 0, "a unit is whole stripes");

struct inspection {
	struct store *st;
	struct svol *a, *b; /* b: NULL: nothing */
	uint64_t end;       /* of the longer one, LBA */
	uint64_t *next;     /* by partition: the next leaf that differs; UINT64_MAX: none */
	uint32_t part_index;
	bool found; /* the unit is known */
	uint64_t unit;
	uint8_t *bits; /* of the unit, by partition */
	uint32_t room; /* for ranges */
	uint64_t mapped, own;
};

static void inspect_free(struct store *st)
{
	struct inspection *s = st->control.inspection;

	if (s == NULL)
		return;
	free(s->next);
	free(s->bits);
	free(s);
	st->control.inspection = NULL;
}

/* ---- Info ---- */

static pst_err info_run(struct inspection *s, struct pst_pool_op *op)
{
	static const uint8_t none[16];
	struct store *st = s->st;
	const struct svol *parent = s->a->disk.parent != 0 ? svol_by_slot(st, s->a->disk.parent) : NULL;

	for (; s->part_index < st->part_count; s->part_index++) {
		struct node *n = NULL;
		enum map_result got = map_get(&st->parts[s->part_index], PST_NODE_LEVEL_VOLUME, s->a->disk.slot, false,
					      &st->control.wait, &n);

		if (got == MAP_WAIT)
			return PST_E_AGAIN;
		if (got == MAP_ERROR)
			return st->control.wait.err;
		if (got == MAP_OK) {
			s->mapped += n->data->data_blocks;
			s->own += (uint64_t)PST_MAX((int64_t)n->data->own_blocks, 0); /* see share.c, merge_own */
		}
	}
	op->info = (struct pst_volume_info){
		.block_count = s->a->disk.block_count,
		.mapped_blocks = s->mapped,
		.own_blocks = s->own,
		.snapshot = (s->a->disk.flags & PST_VOLUME_SNAPSHOT) != 0,
		.has_key = s->a->disk.key_block != 0,
		.children = merge_children(st, s->a->disk.slot),
		.settings = { .reserved_blocks = s->a->disk.reserved_blocks,
			      .on_full =
				  (s->a->disk.flags & PST_VOLUME_PAUSE) != 0 ? PST_ON_FULL_PAUSE : PST_ON_FULL_FAIL },
	};
	memcpy(op->info.parent, parent != NULL ? parent->disk.uuid : none, 16);
	return PST_OK;
}

/* ---- Difference ---- */

/* The node of @v at that place, pinned; NULL: none. */
static pst_err node_get(struct inspection *s, struct part *p, const struct svol *v, unsigned level, uint64_t index,
			struct node **ret_node)
{
	struct waiter *w = &s->st->control.wait;
	struct node *n = NULL;
	enum map_result got;

	*ret_node = NULL;
	if (v == NULL)
		return PST_OK;
	got = map_get(p, level, map_index_of_slot(level, v->disk.slot, index), false, w, &n);
	if (got == MAP_WAIT)
		return PST_E_AGAIN;
	if (got == MAP_ERROR)
		return w->err;
	if (got == MAP_OK) {
		map_pin(n);
		*ret_node = n;
	}
	return PST_OK;
}

static pst_err nodes_get(struct inspection *s, struct part *p, unsigned level, uint64_t index,
			 struct node *ret_nodes[2])
{
	pst_err err = node_get(s, p, s->a, level, index, &ret_nodes[0]);

	if (err != PST_OK)
		return err;
	err = node_get(s, p, s->b, level, index, &ret_nodes[1]);
	if (err != PST_OK && ret_nodes[0] != NULL)
		map_unpin(ret_nodes[0]);
	return err;
}

static void nodes_put(struct node *nodes[2])
{
	for (int i = 0; i < 2; i++)
		if (nodes[i] != NULL)
			map_unpin(nodes[i]);
}

static bool same_entry(struct node *const nodes[2], uint32_t i)
{
	uint32_t a = nodes[0] != NULL ? pst_ptr_block(nodes[0]->data->entry[i]) : 0;
	uint32_t b = nodes[1] != NULL ? pst_ptr_block(nodes[1]->data->entry[i]) : 0;

	return a == b && a < PST_PTR_LOST;
}

/* *leaf: the first leaf from there on that may differ; UINT64_MAX: none before @end. */
static pst_err next_leaf(struct inspection *s, struct part *p, uint64_t end, uint64_t *leaf)
{
	while (*leaf < end) {
		uint64_t step = (uint64_t)PST_NODE_FANOUT * PST_NODE_FANOUT; /* leaves below an entry */
		unsigned level = PST_NODE_LEVEL_VOLUME;
		bool same = false;

		for (; level > 0 && !same; level--, step /= PST_NODE_FANOUT) {
			struct node *nodes[2];
			pst_err err = nodes_get(s, p, level, *leaf / step / PST_NODE_FANOUT, nodes);

			if (err != PST_OK)
				return err;
			same = same_entry(nodes, (uint32_t)(*leaf / step % PST_NODE_FANOUT));
			nodes_put(nodes);
			if (same)
				break;
		}
		if (!same)
			return PST_OK;
		*leaf = (*leaf / step + 1) * step;
	}
	*leaf = UINT64_MAX;
	return PST_OK;
}

static pst_err compare_leaf(struct inspection *s, uint32_t part_index, uint64_t leaf)
{
	struct node *nodes[2];
	pst_err err = nodes_get(s, &s->st->parts[part_index], 0, leaf, nodes);
	uint8_t *bits = s->bits + (size_t)part_index * UNIT_BLOCKS / 8;
	uint32_t first = (uint32_t)(leaf % UNIT_LEAVES) * PST_NODE_FANOUT;

	if (err != PST_OK)
		return err;
	for (uint32_t i = 0; i < PST_NODE_FANOUT; i++)
		if (!same_entry(nodes, i))
			bits[(first + i) / 8] |= (uint8_t)(1u << ((first + i) % 8));
	nodes_put(nodes);
	return PST_OK;
}

/* The unit with the next difference, from s->unit on. */
static pst_err find_unit(struct inspection *s)
{
	struct store *st = s->st;
	uint64_t first = UINT64_MAX;

	for (; s->part_index < st->part_count; s->part_index++) {
		uint64_t *leaf = &s->next[s->part_index];
		uint64_t end = pst_div_round_up(part_local(st, s->part_index, s->end), PST_NODE_FANOUT);
		pst_err err;

		if (*leaf < s->unit * UNIT_LEAVES)
			*leaf = s->unit * UNIT_LEAVES;
		err = next_leaf(s, &st->parts[s->part_index], end, leaf);
		if (err != PST_OK)
			return err;
	}
	for (uint32_t i = 0; i < st->part_count; i++)
		first = PST_MIN(first, s->next[i]);
	s->unit = first != UINT64_MAX ? first / UNIT_LEAVES : UINT64_MAX;
	s->found = true;
	s->part_index = 0;
	memset(s->bits, 0, (size_t)st->part_count * UNIT_BLOCKS / 8);
	return PST_OK;
}

static pst_err compare_unit(struct inspection *s)
{
	struct store *st = s->st;

	for (; s->part_index < st->part_count; s->part_index++) {
		uint64_t *leaf = &s->next[s->part_index];
		uint64_t end = pst_div_round_up(part_local(st, s->part_index, s->end), PST_NODE_FANOUT);

		while (*leaf != UINT64_MAX && *leaf < (s->unit + 1) * UNIT_LEAVES) {
			pst_err err = compare_leaf(s, s->part_index, *leaf);

			if (err != PST_OK)
				return err;
			++*leaf;
			err = next_leaf(s, &st->parts[s->part_index], end, leaf);
			if (err != PST_OK)
				return err; /* comparing that leaf once more does no harm */
		}
	}
	s->part_index = 0;
	return PST_OK;
}

/* One more block that differs. False: there is no room for its range. */
static bool emit(struct pst_pool_op *op, uint32_t room, uint64_t lba)
{
	struct pst_range *last = op->range_count > 0 ? &op->ranges[op->range_count - 1] : NULL;

	if (last != NULL && last->lba + last->block_count == lba) {
		last->block_count++;
		return true;
	}
	if (op->range_count == room)
		return false;
	op->ranges[op->range_count++] = (struct pst_range){ lba, 1 };
	return true;
}

/* The unit's differences as ranges. False: all room is used. */
static bool emit_unit(struct inspection *s, struct pst_pool_op *op, uint32_t room)
{
	uint32_t parts = s->st->part_count;
	uint64_t base = s->unit * UNIT_BLOCKS * parts;

	for (uint32_t i = 0; i < UNIT_STRIPES * parts; i++) {
		const uint8_t *bits = s->bits + (size_t)(i % parts) * UNIT_BLOCKS / 8;
		uint32_t first = i / parts * PST_STRIPE_BLOCKS;

		for (uint32_t b = first; b < first + PST_STRIPE_BLOCKS; b++) {
			uint64_t lba = base + (uint64_t)i * PST_STRIPE_BLOCKS + (b - first);

			if ((bits[b / 8] >> (b % 8) & 1) == 0 || lba < op->lba || lba >= s->end)
				continue;
			if (!emit(op, room, lba)) {
				op->lba = lba;
				return false;
			}
		}
	}
	return true;
}

static pst_err diff_run(struct inspection *s, struct pst_pool_op *op)
{
	for (;;) {
		pst_err err = s->found ? PST_OK : find_unit(s);

		if (err == PST_OK && s->unit != UINT64_MAX)
			err = compare_unit(s);
		if (err != PST_OK)
			return err;
		if (s->unit == UINT64_MAX) {
			op->lba = s->end;
			return PST_OK;
		}
		if (!emit_unit(s, op, s->room))
			return PST_OK;
		s->found = false;
		s->unit++;
	}
}

/* ---- Begin and end ---- */

pst_err inspect_begin(struct store *st, struct pst_pool_op *op)
{
	static const uint8_t none[16];
	struct svol *a = svol_find(st, op->uuid), *b = NULL;
	struct inspection *s;

	if (a != NULL && op->kind == PST_POOL_DIFF && memcmp(op->other, none, 16) != 0)
		b = svol_find(st, op->other);
	if (a == NULL || (op->kind == PST_POOL_DIFF && b == NULL && memcmp(op->other, none, 16) != 0))
		return PST_E_NOTFOUND;
	s = calloc(1, sizeof(*s));
	if (s == NULL)
		return PST_E_NOMEM;
	st->control.inspection = s;
	s->st = st;
	s->a = a;
	s->b = b;
	if (op->kind == PST_POOL_VOLUME_INFO)
		return PST_OK;
	s->next = calloc(st->part_count, sizeof(s->next[0]));
	s->bits = calloc(st->part_count, UNIT_BLOCKS / 8);
	if (s->next == NULL || s->bits == NULL) {
		inspect_free(st);
		return PST_E_NOMEM;
	}
	s->room = op->range_count;
	op->range_count = 0;
	s->end = PST_MAX(a->disk.block_count, b != NULL ? b->disk.block_count : 0);
	s->unit = op->lba / ((uint64_t)UNIT_BLOCKS * st->part_count);
	return PST_OK;
}

/* PST_E_AGAIN: control.wait runs when it can go on. */
pst_err inspect_run(struct store *st, struct pst_pool_op *op)
{
	struct inspection *s = st->control.inspection;
	pst_err err = op->kind == PST_POOL_VOLUME_INFO ? info_run(s, op) : diff_run(s, op);

	if (err != PST_E_AGAIN)
		inspect_free(st);
	return err;
}

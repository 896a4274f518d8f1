/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Snapshots, clones and rollbacks. A snapshot's block holds what the volume's block may have held at some instant
 * between request and completion. Mostly that is one version, else a cell of several (oracle-internal.h). Cells are
 * never freed: clones and later snapshots point to them, and a seed is short.
 */
#include "oracle-internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

struct oracle_snapshot {
	struct oracle *oracle;
	struct oracle_instant *instant;
	uint64_t marks[];
};

bool oracle_value_may_be(const struct oracle_value *value, uint64_t version)
{
	if (value->cell == NULL)
		return value->version == version;
	for (uint32_t i = 0; i < value->cell->n; i++)
		if (oracle_value_may_be(&value->cell->may[i].value, version))
			return true;
	return false;
}

static bool instant_narrow(struct oracle_instant *t, uint64_t begin, uint64_t next_end, char why[256])
{
	uint64_t low = PST_MAX(t->low, begin), high = PST_MIN(t->high, next_end);

	if (low > high) {
		snprintf(why, 256,
			 "the snapshot shows no single instant: it has a write that began at tick %" PRIu64
			 ", and lacks one that had ended at tick %" PRIu64,
			 low, high);
		return false;
	}
	t->low = low;
	t->high = high;
	return true;
}

bool oracle_value_settle(struct oracle_value *value, uint64_t version, char why[256])
{
	struct oracle_cell *cell = value->cell;
	uint32_t n = 0;

	if (cell == NULL)
		return true;
	for (uint32_t i = 0; i < cell->n; i++)
		if (oracle_value_may_be(&cell->may[i].value, version))
			cell->may[n++] = cell->may[i];
	pst_assert(n > 0);
	cell->n = n;
	if (n > 1) /* zeros that were written twice, say: nobody can tell which */
		return true;
	if (cell->instant != NULL && !instant_narrow(cell->instant, cell->may[0].begin, cell->may[0].next_end, why))
		return false;
	return oracle_value_settle(&cell->may[0].value, version, why);
}

static bool value_known(const struct oracle_value *value, uint64_t *ret_version)
{
	while (value->cell != NULL) {
		if (value->cell->n != 1)
			return false;
		value = &value->cell->may[0].value;
	}
	*ret_version = value->version;
	return true;
}

bool oracle_known(const struct oracle *oracle, uint64_t lba, uint64_t *ret_version)
{
	const struct oracle_block *b = &oracle->blocks[lba];

	return !oracle->lenient && !b->writing && oracle_block_decided(b) &&
	       value_known(&b->v[b->live].value, ret_version);
}

/* ---- Snapshot ---- */

struct oracle_instant *oracle_instant_new(void)
{
	struct oracle_instant *t = oracle_alloc(sizeof(*t));

	t->low = oracle_tick();
	t->high = UINT64_MAX;
	return t;
}

struct oracle_snapshot *oracle_snapshot_begin(struct oracle *oracle, struct oracle_instant *instant)
{
	struct oracle_snapshot *s = oracle_alloc(sizeof(*s) + oracle->block_count * sizeof(s->marks[0]));

	s->oracle = oracle;
	s->instant = instant;
	oracle->snapshots_pending++;
	for (uint64_t i = 0; i < oracle->block_count; i++)
		s->marks[i] = oracle->blocks[i].base + oracle->blocks[i].live;
	return s;
}

static struct oracle_value candidates(const struct oracle_block *b, uint32_t low, struct oracle_instant *instant,
				      bool power_lost)
{
	struct oracle_cell *cell = oracle_alloc(sizeof(*cell) + (b->n - low) * sizeof(cell->may[0]));
	struct oracle_value only;

	cell->instant = instant;
	for (uint32_t i = low; i < b->n; i++) {
		if (b->v[i].hidden && (!power_lost || b->v[i].failed == 0))
			continue;
		if (cell->n > 0)
			cell->may[cell->n - 1].next_end = b->v[i].end;
		cell->may[cell->n].value = b->v[i].value;
		cell->may[cell->n].begin = b->v[i].begin;
		cell->may[cell->n++].next_end = UINT64_MAX;
	}
	if (cell->n == 1) {
		only = cell->may[0].value;
		free(cell);
		return only;
	}
	return (struct oracle_value){ .cell = cell };
}

struct oracle *oracle_snapshot_end(struct oracle_snapshot *s, uint32_t volume, bool power_lost)
{
	struct oracle *from = s->oracle, *to = oracle_new(volume, from->block_count);

	s->instant->high = PST_MIN(s->instant->high, oracle_tick());
	to->lenient = from->lenient;
	to->any_family = from->any_family;
	for (uint64_t i = 0; i < from->block_count; i++) {
		const struct oracle_block *b = &from->blocks[i];
		uint64_t low = PST_MIN(s->marks[i], b->base + (power_lost ? b->floor : UINT32_MAX));

		pst_assert(low >= b->base);
		/* A read meanwhile may have decided that what was possible when it began never was. */
		low = PST_MIN(low - b->base, b->n - 1);
		while (b->v[low].hidden)
			low--;
		to->blocks[i].v[0].value = candidates(b, (uint32_t)low, power_lost ? NULL : s->instant, power_lost);
	}
	from->snapshots_pending--;
	free(s);
	return to;
}

/* ---- Clone and rollback ---- */

struct oracle *oracle_clone(const struct oracle *snapshot, uint32_t volume)
{
	struct oracle *to = oracle_new(volume, snapshot->block_count);

	to->lenient = snapshot->lenient;
	to->any_family = snapshot->any_family;
	for (uint64_t i = 0; i < to->block_count; i++)
		to->blocks[i].v[0].value = snapshot->blocks[i].v[0].value;
	return to;
}

void oracle_rollback(struct oracle *oracle, const struct oracle *snapshot, bool ok)
{
	for (uint64_t i = 0; i < oracle->block_count; i++) {
		struct oracle_block *b = &oracle->blocks[i];

		pst_assert(!b->writing);
		oracle_block_push(oracle, i, snapshot->blocks[i].v[0].value);
		b->writes++;
		if (ok)
			b->live = b->floor = b->stopped = b->n - 1;
	}
}

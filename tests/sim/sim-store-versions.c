/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Snapshots (also of several volumes at once, while requests go on), clones, rollbacks and differences. A snapshot gets
 * its oracle when it ends: complete, or when its process dies. In the second case it is there or not: the next open of
 * the pool tells, and all members of a group must agree.
 */
#include "sim-store.h"

#include <string.h>

static bool is_unsure(const struct world *w, pst_err err)
{
	return err != PST_E_NOSPACE && err != PST_E_BUSY && (w->corrupting || flush_failed(w));
}

/* ---- Snapshots ---- */

/* The taking of @v is over. */
static void snapshot_end(struct vol *v, enum certainty exists, bool power_lost)
{
	v->exists = exists;
	v->blocks = v->blocks_pending = v->source->blocks;
	v->oracle = oracle_snapshot_end(v->taking, v->id, power_lost);
	v->taking = NULL;
	v->source = NULL;
}

void snapshots_end(struct world *w, bool power_lost)
{
	for (unsigned i = 0; i < VERSIONS; i++)
		if (w->vols[i].source != NULL)
			snapshot_end(&w->vols[i], MAYBE, power_lost);
}

void snapshot_found(struct world *w, struct vol *v, bool there)
{
	enum certainty *group = &w->groups[v->group];

	if (v->group == 0)
		return;
	v->group = 0;
	if (!w->lenient && *group != MAYBE && *group != (there ? YES : NO))
		fail(w, "snapshot %x is %s, others taken with it are %s", v->id, there ? "there" : "missing",
		     there ? "missing" : "there");
	*group = there ? YES : NO;
}

/* Random members: volumes that surely exist, each once, each with a place for its snapshot. */
static uint32_t members_choose(struct world *w, struct oracle_instant *instant)
{
	uint64_t from = below(w, VERSIONS), want = 1 + below(w, MEMBERS);
	uint32_t n = 0;

	for (unsigned i = 0; i < VERSIONS && n < want; i++) {
		struct vol *v = &w->vols[(from + i) % VERSIONS], *s;

		if (v->exists != YES || v->snapshot || v->source != NULL)
			continue;
		s = vol_free_place(w);
		if (s == NULL)
			break;
		vol_init(w, s, v->id >> 16);
		s->snapshot = true;
		s->source = v;
		s->group = w->next_group;
		s->taking = oracle_snapshot_begin(v->oracle, instant);
		memcpy(w->members[n].volume, v->uuid, 16);
		memcpy(w->members[n++].snapshot, s->uuid, 16);
	}
	return n;
}

/* Requests go on while it waits. */
static bool wait_busily(struct world *w, const char *what)
{
	for (unsigned i = 0; i < 200 && !w->done && !w->failed && !flush_failed(w); i++) {
		struct op *op = &w->ops[below(w, OPS)];

		if (!op->busy)
			request(w, op);
		pst_sim_run_for(w->sim, below(w, 50 * 1000));
	}
	return !w->failed && wait_done(w, what);
}

static bool snapshot(struct world *w)
{
	uint32_t n;
	pst_err err;

	w->next_group = w->next_group % (GROUPS - 1) + 1;
	w->groups[w->next_group] = MAYBE;
	n = members_choose(w, oracle_instant_new());
	if (n == 0)
		return true;
	pool_prepare(w, PST_POOL_SNAPSHOT, NULL, 0);
	w->pool_op.members = w->members;
	w->pool_op.member_count = n;
	pst_pool_submit(w->pool, &w->pool_op);
	if (maybe_cut(w) || !wait_busily(w, "snapshot"))
		return false;
	err = w->pool_op.err;
	for (unsigned i = 0; i < VERSIONS; i++) {
		struct vol *v = &w->vols[i];

		if (v->source == NULL)
			continue;
		if (err == PST_OK)
			v->group = 0;
		snapshot_end(v, err == PST_OK ? YES : is_unsure(w, err) ? MAYBE : NO, err != PST_OK);
	}
	if (err != PST_OK && err != PST_E_NOSPACE && !is_unsure(w, err))
		fail(w, "snapshot of %u: %s", n, pst_err_name(err));
	w->result->counters[C_SNAPSHOTS] += err == PST_OK;
	return !w->failed;
}

/* ---- Clones and rollbacks ---- */

static bool clone(struct world *w, struct vol *s)
{
	struct vol *v = vol_free_place(w);
	pst_err err;

	if (v == NULL)
		return true;
	vol_init(w, v, s->id >> 16);
	v->oracle = oracle_clone(s->oracle, v->id);
	v->blocks = v->blocks_pending = s->blocks;
	v->exists = MAYBE;
	pool_prepare(w, PST_POOL_CLONE, s, 0);
	memcpy(w->pool_op.other, v->uuid, 16);
	pst_pool_submit(w->pool, &w->pool_op);
	if (maybe_cut(w) || !wait_busily(w, "clone"))
		return false;
	err = w->pool_op.err;
	v->exists = err == PST_OK ? YES : is_unsure(w, err) ? MAYBE : NO;
	if (err != PST_OK && err != PST_E_NOSPACE && !is_unsure(w, err))
		fail(w, "clone of %x: %s", s->id, pst_err_name(err));
	w->result->counters[C_CLONES] += err == PST_OK;
	return !w->failed;
}

static bool rollback(struct world *w, struct vol *v, struct vol *s)
{
	pst_err err;

	if (v->volume != NULL && !volume_close(w, v))
		return false;
	v->blocks_pending = s->blocks;
	pool_prepare(w, PST_POOL_ROLLBACK, v, 0);
	memcpy(w->pool_op.other, s->uuid, 16);
	pst_pool_submit(w->pool, &w->pool_op);
	v->lost = PST_MIN(v->lost, MAYBE); /* what was lost counts no more, whether it is told that it is done or not */
	if (maybe_cut(w) || !wait_busily(w, "rollback")) {
		oracle_rollback(v->oracle, s->oracle, false);
		return false;
	}
	err = w->pool_op.err;
	if (err == PST_OK || is_unsure(w, err))
		oracle_rollback(v->oracle, s->oracle, err == PST_OK);
	if (err == PST_OK)
		v->blocks = v->blocks_pending;
	else if (!is_unsure(w, err))
		v->blocks_pending = v->blocks;
	if (err != PST_OK && err != PST_E_NOSPACE && !is_unsure(w, err))
		fail(w, "rollback of %x to %x: %s", v->id, s->id, pst_err_name(err));
	w->result->counters[C_ROLLBACKS] += err == PST_OK;
	return !w->failed;
}

/* ---- What differs, and how much there is ---- */

/* Blocks from @from to before @to do (@differ), or do not, differ according to the pool. */
static void range_check(struct world *w, const struct vol *a, const struct vol *b, uint64_t from, uint64_t to,
			bool differ)
{
	for (uint64_t lba = from; lba < to && lba < w->max_blocks && !w->failed; lba++) {
		uint64_t va = 0, vb = 0;

		if (!oracle_known(a->oracle, lba, &va) || (b != NULL && !oracle_known(b->oracle, lba, &vb)))
			continue;
		if ((va != vb) != differ && !(differ && w->moves))
			fail(w, "difference of %x and %x: block %llu holds %llx and %llx, and is %sreported", a->id,
			     b != NULL ? b->id : 0, (unsigned long long)lba, (unsigned long long)va,
			     (unsigned long long)vb, differ ? "" : "not ");
	}
}

static bool diff(struct world *w, struct vol *a, struct vol *b)
{
	uint64_t lba = 0, at = 0, end = b != NULL ? PST_MAX(a->blocks, b->blocks) : a->blocks;

	while (lba < end && !w->failed) {
		pool_prepare(w, PST_POOL_DIFF, a, 0);
		if (b != NULL)
			memcpy(w->pool_op.other, b->uuid, 16);
		w->pool_op.lba = lba;
		w->pool_op.ranges = w->ranges;
		w->pool_op.range_count = 1 + (uint32_t)below(w, PST_ARRAY_COUNT(w->ranges));
		pst_pool_submit(w->pool, &w->pool_op);
		if (!wait_done(w, "difference"))
			return false;
		if (w->pool_op.err != PST_OK) {
			if (!w->corrupting)
				fail(w, "difference: %s", pst_err_name(w->pool_op.err));
			return !w->failed;
		}
		for (uint32_t i = 0; i < w->pool_op.range_count; i++) {
			const struct pst_range *r = &w->ranges[i];

			if (r->lba < at || r->block_count == 0)
				fail(w, "difference: range at %llu after %llu", (unsigned long long)r->lba,
				     (unsigned long long)at);
			range_check(w, a, b, at, r->lba, false);
			at = r->lba + r->block_count;
			range_check(w, a, b, r->lba, at, true);
		}
		if (w->pool_op.lba <= lba && w->pool_op.lba < end)
			fail(w, "difference does not go on after %llu", (unsigned long long)lba);
		lba = w->pool_op.lba;
		range_check(w, a, b, at, PST_MIN(lba, end), false);
		at = PST_MAX(at, lba);
	}
	w->result->counters[C_DIFFS]++;
	return !w->failed;
}

static bool info(struct world *w, struct vol *v)
{
	const struct pst_volume_info *info = &w->pool_op.info;
	uint64_t mapped = 0;

	ops_drain(w);
	if (w->failed)
		return false;
	pool_submit(w, PST_POOL_VOLUME_INFO, v, 0);
	if (!wait_done(w, "info"))
		return false;
	if (w->pool_op.err != PST_OK || w->corrupting) {
		if (!w->corrupting)
			fail(w, "info of %x: %s", v->id, pst_err_name(w->pool_op.err));
		return !w->failed;
	}
	if (info->snapshot != v->snapshot || info->block_count != v->blocks)
		fail(w, "info of %x: %llu blocks, not %llu; snapshot %d", v->id, (unsigned long long)info->block_count,
		     (unsigned long long)v->blocks, info->snapshot);
	for (uint64_t lba = 0; lba < v->blocks; lba++) {
		uint64_t version = 0;

		if (!oracle_known(v->oracle, lba, &version))
			return !w->failed;
		mapped += version != 0;
	}
	if (info->mapped_blocks != mapped)
		fail(w, "info of %x: %llu blocks mapped, not %llu", v->id, (unsigned long long)info->mapped_blocks,
		     (unsigned long long)mapped);
	return !w->failed;
}

/* ---- Choice ---- */

/* A random version that surely exists, of the family of @of if given. */
static struct vol *choose(struct world *w, bool snapshot, const struct vol *of)
{
	uint64_t from = below(w, VERSIONS);

	for (unsigned i = 0; i < VERSIONS; i++) {
		struct vol *v = &w->vols[(from + i) % VERSIONS];

		if (v->exists == YES && v->source == NULL && v->snapshot == snapshot &&
		    (of == NULL || of->id >> 16 == v->id >> 16))
			return v;
	}
	return NULL;
}

bool version_control(struct world *w)
{
	unsigned what = (unsigned)below(w, 100);
	struct vol *s = choose(w, true, NULL), *v;

	if (what < 35 || s == NULL)
		return snapshot(w);
	v = choose(w, what >= 75, s);
	if (what < 55)
		return clone(w, s);
	if (what < 65)
		return s->volume != NULL ? volume_close(w, s) : chance(w, 50) ? volume_delete(w, s) : volume_open(w, s);
	if (what < 75)
		return v == NULL || rollback(w, v, s);
	if (what < 90)
		return diff(w, s, v == s || chance(w, 20) ? NULL : v);
	v = choose(w, chance(w, 50), NULL);
	return v == NULL || info(w, v);
}

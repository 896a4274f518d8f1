/* SPDX-License-Identifier: Apache-2.0 */
/* Operations on the pool, one at a time: volumes and catalog records. */
#include "sim-store.h"

#include <string.h>

static void pool_done(struct pst_pool_op *op)
{
	pst_container_of(op, struct world, pool_op)->done = true;
}

void pool_prepare(struct world *w, enum pst_pool_op_kind kind, const struct vol *v, uint64_t blocks)
{
	w->done = false;
	w->pool_op = (struct pst_pool_op){ .kind = kind, .done = pool_done, .block_count = blocks };
	if (v != NULL)
		memcpy(w->pool_op.uuid, v->uuid, 16);
}

void pool_submit(struct world *w, enum pst_pool_op_kind kind, const struct vol *v, uint64_t blocks)
{
	pool_prepare(w, kind, v, blocks);
	pst_pool_submit(w->pool, &w->pool_op);
}

static void closed(struct pst_volume_close_op *op)
{
	pst_container_of(op, struct world, close_op)->done = true;
}

/* A control operation begins; the life may end before it does. */
bool maybe_cut(struct world *w)
{
	if (w->calm || !chance(w, 4))
		return false;
	pst_sim_run_for(w->sim, below(w, 2 * 1000 * 1000));
	return !w->done;
}

/* A new identity for the place; everything that was there is forgotten. */
void vol_init(struct world *w, struct vol *v, uint32_t family)
{
	if (v->volume == NULL)
		oracle_free(v->oracle);
	*v = (struct vol){ .id = family << 16 | ++w->next_id };
	memcpy(v->uuid, &v->id, sizeof(v->id));
	v->uuid[15] = 1;
}

struct vol *vol_free_place(struct world *w)
{
	uint64_t from = below(w, VERSIONS);

	for (unsigned i = 0; i < VERSIONS; i++) {
		struct vol *v = &w->vols[(from + i) % VERSIONS];

		if (v->exists == NO && v->source == NULL)
			return v;
	}
	return NULL;
}

static bool volume_create(struct world *w)
{
	uint64_t blocks = 1 + below(w, w->max_blocks);
	struct vol *v = vol_free_place(w);

	if (v == NULL)
		return true;
	vol_init(w, v, ++w->next_family);
	v->oracle = oracle_new(v->id, w->max_blocks);
	v->blocks = v->blocks_pending = blocks;
	v->exists = MAYBE;
	pool_submit(w, PST_POOL_VOLUME_CREATE, v, blocks);
	if (maybe_cut(w))
		return false;
	if (!wait_done(w, "create"))
		return false;
	v->exists = w->pool_op.err == PST_OK ? YES : NO;
	if (w->pool_op.err != PST_OK && w->pool_op.err != PST_E_NOSPACE && !w->corrupting)
		fail(w, "create: %s", pst_err_name(w->pool_op.err));
	return true;
}

static bool volume_opened(struct world *w, struct vol *v)
{
	uint64_t blocks = w->pool_op.volume->block_count;

	v->exists = YES;
	v->volume = w->pool_op.volume;
	v->said = false;
	if (!w->lenient && blocks != v->blocks && blocks != v->blocks_pending)
		fail(w, "volume %x has %llu blocks, not %llu or %llu", v->id, (unsigned long long)blocks,
		     (unsigned long long)v->blocks, (unsigned long long)v->blocks_pending);
	if (blocks > w->max_blocks)
		fail(w, "volume %x has %llu blocks", v->id, (unsigned long long)blocks);
	v->blocks = v->blocks_pending = blocks;
	snapshot_found(w, v, true);
	return !w->failed;
}

bool volume_open(struct world *w, struct vol *v)
{
	bool marked = v->opened;

	pool_submit(w, PST_POOL_VOLUME_OPEN, v, 0);
	v->opened = !v->snapshot;
	if (maybe_cut(w))
		return false;
	if (!wait_done(w, "open of a volume"))
		return false;
	if (w->pool_op.err == PST_OK)
		return volume_opened(w, v);
	v->opened = marked;
	if (w->pool_op.err == PST_E_NOTFOUND && v->exists != YES) {
		v->exists = NO;
		snapshot_found(w, v, false);
	} else if (!w->corrupting && w->pool_op.err != PST_E_NOSPACE) {
		fail(w, "open of volume %x: %s", v->id, pst_err_name(w->pool_op.err));
	}
	return !w->failed;
}

bool volume_close(struct world *w, struct vol *v)
{
	w->done = false;
	w->close_op.done = closed;
	for (unsigned i = 0; i < OPS; i++)
		if (w->ops[i].busy && w->ops[i].v == v)
			ops_drain(w);
	if (w->failed)
		return false;
	pst_volume_close(v->volume, &w->close_op);
	v->volume = NULL;
	if (maybe_cut(w))
		return false;
	if (!wait_done(w, "close of a volume"))
		return false;
	v->opened = w->growth_failed; /* a pool that takes no more writes can't record that it was closed */
	v->lost = v->said && !v->opened ? NO : v->lost;
	return true;
}

bool volume_delete(struct world *w, struct vol *v)
{
	enum certainty before = v->exists;

	w->result->counters[C_DELETES]++;
	v->exists = MAYBE;
	pool_submit(w, PST_POOL_VOLUME_DELETE, v, 0);
	if (maybe_cut(w))
		return false;
	if (!wait_done(w, "delete"))
		return false;
	if (w->pool_op.err == PST_OK || (w->pool_op.err == PST_E_NOTFOUND && before != YES))
		v->exists = NO;
	else if (w->pool_op.err == PST_E_NOSPACE)
		v->exists = before;
	else if (!w->corrupting)
		fail(w, "delete of %x: %s", v->id, pst_err_name(w->pool_op.err));
	return !w->failed;
}

static bool volume_resize(struct world *w, struct vol *v)
{
	w->result->counters[C_RESIZES]++;
	v->blocks_pending = 1 + below(w, w->max_blocks);
	if (v->blocks_pending < v->blocks)
		ops_drain(w); /* so that no write of ours lies beyond the end */
	pool_submit(w, PST_POOL_VOLUME_RESIZE, v, v->blocks_pending);
	if (maybe_cut(w))
		return false;
	if (!wait_done(w, "resize"))
		return false;
	if (w->pool_op.err == PST_OK)
		v->blocks = v->blocks_pending;
	else if (w->pool_op.err != PST_E_BUSY && w->pool_op.err != PST_E_NOSPACE && !w->corrupting)
		fail(w, "resize: %s", pst_err_name(w->pool_op.err));
	v->blocks_pending = v->blocks;
	return true;
}

static bool record_put(struct world *w)
{
	unsigned k = (unsigned)below(w, KEYS);
	static unsigned value;

	snprintf(w->key_buf[k], sizeof(w->key_buf[k]), "key-%u", k);
	value = ++w->value;
	w->keys_pending[k] = value;
	w->done = false;
	w->pool_op = (struct pst_pool_op){ .kind = PST_POOL_RECORD_PUT,
					   .done = pool_done,
					   .key = w->key_buf[k],
					   .value = &value,
					   .value_bytes = sizeof(value) };
	pst_pool_submit(w->pool, &w->pool_op);
	if (maybe_cut(w))
		return false;
	if (!wait_done(w, "put"))
		return false;
	if (w->pool_op.err == PST_OK)
		w->keys[k] = value;
	else if (!w->corrupting && w->pool_op.err != PST_E_NOSPACE)
		fail(w, "put: %s", pst_err_name(w->pool_op.err));
	return true;
}

void record_seen(void *ctx, const char *key, const void *value, uint32_t value_bytes)
{
	struct world *w = ctx;
	unsigned k = (unsigned)(key[4] - '0'), is;

	if (value_bytes != sizeof(is) || k >= KEYS) {
		fail(w, "a record that nobody wrote: %s", key);
		return;
	}
	memcpy(&is, value, sizeof(is));
	if (is != w->keys[k] && is != w->keys_pending[k] && !w->lenient)
		fail(w, "record %s is %u, not %u or %u", key, is, w->keys[k], w->keys_pending[k]);
	w->keys[k] = w->keys_pending[k] = is;
}

/* Work in the background begins, on a volume or the whole pool, or stops; it goes on when the pool is opened again. */
static bool task(struct world *w)
{
	struct vol *v = &w->vols[below(w, VERSIONS)];
	bool stop = chance(w, 20);
	pst_err err;

	if (v->exists != YES || v->source != NULL)
		v = NULL;
	pool_prepare(w, stop ? PST_POOL_TASK_STOP : PST_POOL_TASK_START, chance(w, 70) ? v : NULL, 0);
	w->pool_op.task = (enum pst_pool_task_kind)below(w, PST_TASK_KINDS);
	w->pool_op.rate_bytes_per_s = chance(w, 50) ? 0 : 1 + below(w, 64u << 20);
	w->moves = w->moves || w->pool_op.task == PST_TASK_STRAIGHTEN || w->pool_op.task == PST_TASK_FLATTEN;
	pst_pool_submit(w->pool, &w->pool_op);
	if (maybe_cut(w) || !wait_done(w, "task"))
		return false;
	err = w->pool_op.err;
	w->result->counters[C_TASKS] += err == PST_OK;
	if (err != PST_OK && err != PST_E_NOSPACE && err != PST_E_EXISTS && err != PST_E_NOTFOUND &&
	    err != PST_E_INVAL && err != PST_E_UNSUPPORTED && err != PST_E_DENIED && !w->corrupting)
		fail(w, "task %d: %s", w->pool_op.task, pst_err_name(err));
	return !w->failed;
}

static unsigned volumes(const struct world *w)
{
	unsigned n = 0;

	for (unsigned i = 0; i < VERSIONS; i++)
		n += w->vols[i].exists != NO && !w->vols[i].snapshot;
	return n;
}

bool control(struct world *w)
{
	struct vol *v = &w->vols[below(w, VERSIONS)];

	if (chance(w, 20))
		return record_put(w);
	if (w->grows && chance(w, 20))
		return space_control(w);
	if (chance(w, 8))
		return task(w);
	if (w->versions && chance(w, 50))
		return version_control(w);
	if (volumes(w) < VOLUMES && chance(w, 50))
		return volume_create(w);
	if (v->exists == NO || v->source != NULL)
		return true;
	if (v->volume == NULL)
		return chance(w, 25) ? volume_delete(w, v) : volume_open(w, v);
	return chance(w, 60) && !v->snapshot ? volume_resize(w, v) : volume_close(w, v);
}

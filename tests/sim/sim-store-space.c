/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Space in the simulation: devices are added and grow in the middle of everything, volumes get reservations and pause
 * when the pool is full. What the pool has for data is used or free, always.
 */
#include "sim-store.h"

#include <string.h>

static const char *device_path(struct world *w, unsigned index)
{
	if (index == 0)
		return PATH;
	snprintf(w->device_paths[index], sizeof(w->device_paths[index]), "device-%u", index);
	return w->device_paths[index];
}

bool space_image_read(void *ctx, uint32_t device, uint64_t block, void *buf)
{
	struct world *w = ctx;

	return device < DEVICES &&
	       pst_sim_disk_peek(w->node, device_path(w, device), block * PST_BLOCK_BYTES, buf, PST_BLOCK_BYTES);
}

void space_seen(struct world *w)
{
	struct pst_pool_stats stats;

	pst_pool_stats(w->pool, &stats);
	w->devices = PST_MAX(stats.devices, 1u);
	if (stats.size_bytes == w->size_bytes && stats.used_bytes + stats.free_bytes != w->data_bytes)
		fail(w, "%llu bytes are used and %llu free, together not %llu", (unsigned long long)stats.used_bytes,
		     (unsigned long long)stats.free_bytes, (unsigned long long)w->data_bytes);
	if (stats.size_bytes < w->size_bytes && !w->lenient)
		fail(w, "the pool has %llu bytes, and had %llu", (unsigned long long)stats.size_bytes,
		     (unsigned long long)w->size_bytes);
	w->size_bytes = stats.size_bytes;
	w->data_bytes = stats.used_bytes + stats.free_bytes;
}

static bool growth_end(struct world *w, const char *what)
{
	if (maybe_cut(w))
		return false;
	if (!wait_done(w, what))
		return false;
	if (w->pool_op.err == PST_OK)
		w->result->counters[C_GROWTHS]++;
	else if (w->pool_op.err != PST_E_RANGE && !w->corrupting)
		fail(w, "%s: %s: %s", what, pst_err_name(w->pool_op.err), w->pool_op.detail);
	w->growth_failed = w->growth_failed || w->pool_op.err == PST_E_IO;
	if (!w->failed && w->pool_op.err != PST_E_IO) /* then it is known when the pool is opened again */
		space_seen(w);
	return !w->failed;
}

static bool device_add(struct world *w)
{
	pool_prepare(w, PST_POOL_DEVICE_ADD, NULL, 0);
	w->pool_op.key = device_path(w, w->devices);
	w->pool_op.size_bytes = (60 + below(w, 300)) * PST_BLOCK_BYTES;
	pst_pool_submit(w->pool, &w->pool_op);
	return growth_end(w, "addition of a device");
}

static bool device_grow(struct world *w)
{
	const char *path = device_path(w, (unsigned)below(w, w->devices));

	pool_prepare(w, PST_POOL_GROW, NULL, 0);
	w->pool_op.key = path;
	w->pool_op.size_bytes = pst_sim_disk_size(w->node, path) + below(w, 200) * PST_BLOCK_BYTES;
	pst_pool_submit(w->pool, &w->pool_op);
	return growth_end(w, "growth of a device");
}

static bool volume_set(struct world *w)
{
	struct vol *v = &w->vols[below(w, VERSIONS)];

	if (v->exists != YES || v->snapshot)
		return true;
	pool_prepare(w, PST_POOL_VOLUME_SET, v, 0);
	w->pool_op.settings.reserved_blocks = chance(w, 50) ? 0 : below(w, v->blocks + 1);
	w->pool_op.settings.on_full = chance(w, 50) ? PST_ON_FULL_PAUSE : PST_ON_FULL_FAIL;
	v->may_pause = true;
	pst_pool_submit(w->pool, &w->pool_op);
	if (maybe_cut(w))
		return false;
	if (!wait_done(w, "settings"))
		return false;
	if (w->pool_op.err != PST_OK && w->pool_op.err != PST_E_NOSPACE && w->pool_op.err != PST_E_BUSY &&
	    !w->corrupting)
		fail(w, "settings of %x: %s", v->id, pst_err_name(w->pool_op.err));
	return !w->failed;
}

bool space_control(struct world *w)
{
	if (chance(w, 50))
		return volume_set(w);
	return w->devices < DEVICES && chance(w, 40) ? device_add(w) : device_grow(w);
}

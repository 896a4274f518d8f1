/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The storage process: one machine of steps from an empty machine (or a pool that a crash left behind) to a target that
 * serves, and back. It can be cut off after any step: the next process starts from the beginning.
 */
#include "system.h"

#if SIM_WITH_STORE
#include "store/store.h"
#endif

#include <stdlib.h>
#include <string.h>

#define POOL_PATH "/pool.penstock"
#define POOL_BYTES ((uint64_t)64 << 20)

struct storage_volume {
	struct storage *storage;
	struct pst_volume *volume;
	struct pst_subsystem *subsystem;
	struct pst_subsystem_remove_op remove;
	struct pst_volume_close_op close;
};

struct storage {
	struct system *sys;
	struct pst_env *envs[4];
	struct pst_pool *pool;
	struct pst_pool_op op;
#if SIM_WITH_STORE
	struct pst_store_op store_op;
#endif
	struct pst_target *target;
	struct pst_target_stop_op stop;
	struct storage_volume volumes[VOLUMES_MAX];
	struct pst_ana_op ana_op;
	bool ana_busy, ana_again;
	uint32_t at; /* volume of the step */
	bool up;
};

static void storage_create_next(struct storage *s);
static void storage_open_next(struct storage *s);

static void storage_failed(struct storage *s, const char *what, pst_err err, const char *detail)
{
	system_fail(s->sys, "storage: %s: %s (%s)", what, pst_err_name(err), detail);
}

/* ---- Serving ---- */

static void storage_serve(struct storage *s)
{
	struct pst_addr bound;
	/* Tiny limits, so that buffers run out. */
	struct pst_target_config config = { .transfer_bytes_max = TRANSFER_BYTES_MAX,
					    .buffer_bytes_max = 262144u << pst_sim_rand_below(s->sys->sim, 3) };
	pst_err err = pst_target_new(s->envs, s->sys->shards, &config, &s->target);

	for (uint32_t i = 0; err == PST_OK && i < PORTS; i++) {
		struct pst_target_port port = { .id = (uint16_t)(1 + i),
						.addr = { .host = "0.0.0.0", .port = (uint16_t)(4420 + i) },
						.ana = s->sys->ana[i] };

		err = pst_target_listen(s->target, &port, &bound);
	}
	for (uint32_t i = 0; err == PST_OK && i < s->sys->volume_count; i++) {
		struct pst_subsystem_config sub = { .nqn = s->sys->volumes[i].nqn,
						    .serial = "SIM",
						    .model = "Penstock volume",
						    .nsid = 1,
						    .ana_group = 1 + i % 2,
						    .volume = s->volumes[i].volume };

		memcpy(sub.uuid, s->sys->volumes[i].uuid, 16);
		err = pst_subsystem_add(s->target, &sub, &s->volumes[i].subsystem);
	}
	if (err != PST_OK)
		storage_failed(s, "serve", err, "target");
	s->sys->formatted = true;
	s->up = true;
}

static void storage_on_volume(struct pst_pool_op *op)
{
	struct storage *s = pst_container_of(op, struct storage, op);

	if (op->err != PST_OK) {
		storage_failed(s, "volume", op->err, op->kind == PST_POOL_VOLUME_OPEN ? "open" : "create");
		return;
	}
	if (op->kind == PST_POOL_VOLUME_CREATE) {
		s->at++;
		storage_create_next(s);
		return;
	}
	s->volumes[s->at].volume = op->volume;
	s->at++;
	storage_open_next(s);
}

static void storage_volume_op(struct storage *s, enum pst_pool_op_kind kind)
{
	s->op = (struct pst_pool_op){ .kind = kind,
				      .block_count = s->sys->volumes[s->at].block_count,
				      .done = storage_on_volume };
	memcpy(s->op.uuid, s->sys->volumes[s->at].uuid, 16);
	pst_pool_submit(s->pool, &s->op);
}

static void storage_open_next(struct storage *s)
{
	if (s->at == s->sys->volume_count)
		storage_serve(s);
	else
		storage_volume_op(s, PST_POOL_VOLUME_OPEN);
}

static void storage_create_next(struct storage *s)
{
	if (s->at == s->sys->volume_count || s->sys->formatted) {
		s->at = 0;
		storage_open_next(s);
		return;
	}
	storage_volume_op(s, PST_POOL_VOLUME_CREATE);
}

/* ---- The pool ---- */

#if SIM_WITH_STORE
static void storage_on_pool_open(struct pst_store_op *op)
{
	struct storage *s = pst_container_of(op, struct storage, store_op);

	if (op->err != PST_OK) {
		storage_failed(s, "pool open", op->err, op->detail);
		return;
	}
	s->pool = op->pool;
	storage_create_next(s);
}

static void storage_open_pool(struct storage *s)
{
	static const struct pst_store_config config = { .metadata_cache_bytes = 1 << 20 };

	s->store_op = (struct pst_store_op){ .done = storage_on_pool_open };
	pst_store_open(s->envs[0], POOL_PATH, &config, &s->store_op);
}

static void storage_on_format(struct pst_store_op *op)
{
	struct storage *s = pst_container_of(op, struct storage, store_op);

	if (op->err != PST_OK)
		storage_failed(s, "format", op->err, op->detail);
	else
		storage_open_pool(s);
}

static void storage_begin(struct storage *s)
{
	static const struct pst_store_format_config config = { .size_bytes = POOL_BYTES };

	if (s->sys->formatted) {
		storage_open_pool(s);
		return;
	}
	s->store_op = (struct pst_store_op){ .done = storage_on_format };
	pst_store_format(s->envs[0], POOL_PATH, &config, &s->store_op);
}
#else
static void storage_begin(struct storage *s)
{
	pst_err err = pst_ram_pool_new(s->envs[0], POOL_BYTES, &s->pool);

	if (err != PST_OK)
		storage_failed(s, "pool", err, "ram");
	else
		storage_create_next(s);
}
#endif

void storage_start(struct system *sys)
{
	struct storage *s = calloc(1, sizeof(*s));

	pst_assert(s && !sys->storage);
	s->sys = sys;
	for (uint32_t i = 0; i < sys->shards; i++)
		s->envs[i] = pst_sim_env_new(sys->storage_node, 1 + (uint32_t)pst_sim_rand_below(sys->sim, 64));
	for (uint32_t i = 0; i < VOLUMES_MAX; i++)
		s->volumes[i].storage = s;
	sys->storage = s;
	storage_begin(s);
}

bool storage_up(const struct system *sys)
{
	return sys->storage && sys->storage->up;
}

/* ---- Paths ---- */

static void storage_on_ana(struct pst_ana_op *op)
{
	struct storage *s = pst_container_of(op, struct storage, ana_op);

	s->ana_busy = false;
	if (s->ana_again) {
		s->ana_again = false;
		storage_open_paths(s->sys);
	}
}

static void storage_ana_apply(struct storage *s, uint32_t port, uint32_t group)
{
	pst_err err;

	s->ana_busy = true;
	s->ana_op.done = storage_on_ana;
	err = pst_target_set_ana(s->target, (uint16_t)(port + 1), 1u << group,
				 (enum pst_ana_state)s->sys->ana[port][group], &s->ana_op);
	pst_assert(err == PST_OK);
}

bool storage_set_ana(struct system *sys, uint32_t port, uint32_t group, enum pst_ana_state state)
{
	if (storage_up(sys) && sys->storage->ana_busy)
		return false;
	sys->ana[port][group] = (uint8_t)state;
	sys->ana_changes++;
	if (storage_up(sys))
		storage_ana_apply(sys->storage, port, group);
	return true;
}

void storage_open_paths(struct system *sys)
{
	for (uint32_t port = 0; port < PORTS; port++)
		for (uint32_t group = 0; group < 2; group++) {
			if (sys->ana[port][group] == PST_ANA_OPTIMIZED)
				continue;
			if (!storage_set_ana(sys, port, group, PST_ANA_OPTIMIZED)) {
				sys->storage->ana_again = true;
				return;
			}
			if (storage_up(sys)) { /* the others when this one is done */
				sys->storage->ana_again = true;
				return;
			}
		}
}

/* ---- Stopping ---- */

static void storage_on_pool_close(struct pst_pool_op *op)
{
	struct storage *s = pst_container_of(op, struct storage, op);

	if (op->err != PST_OK)
		storage_failed(s, "pool close", op->err, "");
	s->sys->storage = NULL;
}

static void storage_on_stopped(struct pst_target_stop_op *op)
{
	struct storage *s = pst_container_of(op, struct storage, stop);

	s->op = (struct pst_pool_op){ .kind = PST_POOL_CLOSE, .done = storage_on_pool_close };
	pst_pool_submit(s->pool, &s->op);
}

static void storage_stop_next(struct storage *s);

static void storage_on_volume_closed(struct pst_volume_close_op *op)
{
	struct storage *s = pst_container_of(op, struct storage_volume, close)->storage;

	s->at++;
	storage_stop_next(s);
}

static void storage_on_removed(struct pst_subsystem_remove_op *op)
{
	struct storage_volume *v = pst_container_of(op, struct storage_volume, remove);

	v->close.done = storage_on_volume_closed;
	pst_volume_close(v->volume, &v->close);
}

static void storage_stop_next(struct storage *s)
{
	if (s->at < s->sys->volume_count) {
		s->volumes[s->at].remove.done = storage_on_removed;
		pst_subsystem_remove(s->volumes[s->at].subsystem, &s->volumes[s->at].remove);
		return;
	}
	s->stop.done = storage_on_stopped;
	pst_target_stop(s->target, &s->stop);
}

void storage_stop(struct system *sys)
{
	sys->storage->at = 0;
	sys->storage->up = false;
	storage_stop_next(sys->storage);
}

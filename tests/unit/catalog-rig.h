/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The catalog over the memory pool with versions (fake-pool.h), a target of the test's own (it counts hosts as told),
 * and a pool in between that ends the world at any durable step: before it, after it, or with an error.
 */
#ifndef PENSTOCK_TESTS_CATALOG_RIG_H
#define PENSTOCK_TESTS_CATALOG_RIG_H

#include "fake-pool.h"

#include "control/catalog.h"
#include "control/kek.h"
#include "control/policy.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define MIB ((uint64_t)1 << 20)
#define VOLUMES_MAX 32u
#define GRAVES_MAX 1024u

/* ---- A target that only counts ---- */

struct pst_subsystem {
	struct pst_post post;
	struct pst_subsystem_remove_op *remove;
	uint32_t hosts;
	unsigned resized;
	uint32_t ana_group;
	bool detached;
	struct pst_allow_list allow; /* as told last; the names are forgotten */
	char first_allowed[PST_NQN_MAX + 1];
};

static struct {
	struct pst_env *env;
	unsigned subsystems;
	struct pst_subsystem *last;
	unsigned hosts, locked_hosts, changes; /* that it was told of */
	struct pst_auth_key host_key, ctrl_key, tls_key;
	bool has_host_key, has_ctrl_key, has_tls_key;
	uint32_t groups;
	struct pst_subsystem_config config; /* of the last */
	struct pst_ana_op *ana_op;
	struct pst_post ana_post;
	uint16_t ana_port; /* as told last */
	uint32_t ana_groups;
	enum pst_ana_state ana_state;
	uint8_t reservation[2048];
} target;

static void allow_told(struct pst_subsystem *s, const struct pst_allow_list *allow)
{
	s->allow = *allow;
	snprintf(s->first_allowed, sizeof(s->first_allowed), "%s", allow->count > 0 ? allow->nqns[0] : "");
	s->allow.nqns = NULL;
}

pst_err pst_subsystem_allow(struct pst_subsystem *s, const struct pst_allow_list *allow)
{
	allow_told(s, allow);
	return PST_OK;
}

pst_err pst_target_host_set(struct pst_target *t, const struct pst_target_host *host)
{
	(void)t;
	target.changes++;
	if (host->locked) {
		target.locked_hosts++;
		return PST_OK;
	}
	target.hosts++;
	target.has_host_key = host->host_key != NULL;
	target.has_ctrl_key = host->ctrl_key != NULL;
	target.has_tls_key = host->tls_key != NULL;
	if (host->host_key != NULL)
		target.host_key = *host->host_key;
	if (host->ctrl_key != NULL)
		target.ctrl_key = *host->ctrl_key;
	if (host->tls_key != NULL)
		target.tls_key = *host->tls_key;
	target.groups = host->groups;
	return PST_OK;
}

void pst_target_host_remove(struct pst_target *t, const char *nqn)
{
	(void)t;
	(void)nqn;
	target.hosts--;
}

pst_err pst_subsystem_add(struct pst_target *t, const struct pst_subsystem_config *config, struct pst_subsystem **ret)
{
	(void)t;
	assert_non_null(config->volume);
	assert_non_null(config->flow);
	assert_int_equal(strlen(config->serial), 20);
	assert_non_null(config->reservation_save);
	assert_true(config->reservation_bytes <= sizeof(target.reservation));
	memcpy(target.reservation, config->reservation, config->reservation_bytes);
	target.config = *config;
	*ret = calloc(1, sizeof(**ret));
	target.subsystems++;
	target.last = *ret;
	(*ret)->ana_group = config->ana_group;
	(*ret)->detached = config->detached;
	allow_told(*ret, &config->allow);
	return PST_OK;
}

static void removed(struct pst_post *post)
{
	struct pst_subsystem *s = pst_container_of(post, struct pst_subsystem, post);
	struct pst_subsystem_remove_op *op = s->remove;

	free(s);
	target.subsystems--;
	op->done(op);
}

void pst_subsystem_remove(struct pst_subsystem *s, struct pst_subsystem_remove_op *op)
{
	s->remove = op;
	s->post.fn = removed;
	pst_env_post(target.env, &s->post);
}

void pst_subsystem_resized(struct pst_subsystem *s)
{
	s->resized++;
}

const char *pst_ana_state_name(enum pst_ana_state state)
{
	return state == PST_ANA_OPTIMIZED ? "optimized" : state == PST_ANA_INACCESSIBLE ? "inaccessible" : NULL;
}

bool pst_ana_state_find(const char *name, enum pst_ana_state *ret_state)
{
	*ret_state = strcmp(name, "optimized") == 0 ? PST_ANA_OPTIMIZED : PST_ANA_INACCESSIBLE;
	return strcmp(name, pst_ana_state_name(*ret_state)) == 0;
}

static void ana_told(struct pst_post *post)
{
	struct pst_ana_op *op = target.ana_op;

	(void)post;
	target.ana_op = NULL;
	op->done(op);
}

static void ana_change(struct pst_ana_op *op)
{
	target.ana_op = op;
	target.ana_post.fn = ana_told;
	pst_env_post(target.env, &target.ana_post);
}

pst_err pst_target_set_ana(struct pst_target *t, uint16_t port_id, uint32_t groups, enum pst_ana_state state,
			   struct pst_ana_op *op)
{
	(void)t;
	target.ana_port = port_id;
	target.ana_groups = groups;
	target.ana_state = state;
	ana_change(op);
	return PST_OK;
}

void pst_subsystem_set_group(struct pst_subsystem *s, uint32_t group, struct pst_ana_op *op)
{
	s->ana_group = group;
	ana_change(op);
}

void pst_subsystem_set_attached(struct pst_subsystem *s, bool attached, struct pst_ana_op *op)
{
	s->detached = !attached;
	ana_change(op);
}

uint32_t pst_subsystem_host_count(struct pst_subsystem *s)
{
	return s->hosts;
}

/* ---- A pool that ends the world ---- */

enum doom { DOOM_NONE, DOOM_BEFORE, DOOM_AFTER, DOOM_ERROR };

struct doom_pool {
	struct pst_pool pool;
	struct pst_pool *lower;
	enum doom doom;
	unsigned steps, doom_at; /* durable steps begin, counted from 1 */
	bool ended;
	struct pst_pool_op lower_op, *op;
	struct pst_volume *open[VOLUMES_MAX]; /* that were opened; may be closed or gone since */
	uint8_t open_uuids[VOLUMES_MAX][16];
	uint8_t made[VOLUMES_MAX][16];
	unsigned made_count;
	struct pst_post post;
};

static void remember_open(struct doom_pool *d, struct pst_volume *volume)
{
	unsigned i = 0;

	while (i < VOLUMES_MAX && d->open[i] != NULL && memcmp(d->open_uuids[i], volume->uuid, 16) != 0)
		i++;
	if (i == VOLUMES_MAX)
		abort();
	d->open[i] = volume;
	memcpy(d->open_uuids[i], volume->uuid, 16);
}

static void doom_lower_done(struct pst_pool_op *lower)
{
	struct doom_pool *d = pst_container_of(lower, struct doom_pool, lower_op);
	struct pst_pool_op *op = d->op;

	if (lower->kind == PST_POOL_VOLUME_OPEN && lower->err == PST_OK)
		remember_open(d, lower->volume);
	if (lower->kind != PST_POOL_VOLUME_OPEN && d->doom == DOOM_AFTER && d->steps == d->doom_at)
		d->ended = true;
	if (d->ended)
		return;
	op->err = lower->err;
	op->volume = lower->volume;
	op->info = lower->info;
	memcpy(op->detail, lower->detail, sizeof(op->detail));
	op->done(op);
}

static void doom_error(struct pst_post *post)
{
	struct doom_pool *d = pst_container_of(post, struct doom_pool, post);

	d->op->err = PST_E_IO;
	d->op->done(d->op);
}

static void doom_submit(struct pst_pool *pool, struct pst_pool_op *op)
{
	struct doom_pool *d = pst_container_of(pool, struct doom_pool, pool);
	bool durable = op->kind != PST_POOL_VOLUME_OPEN && op->kind != PST_POOL_VOLUME_INFO &&
		       op->kind != PST_POOL_DIFF && op->kind != PST_POOL_CHECK && op->kind != PST_POOL_CLOSE;

	if (d->ended)
		return;
	if (!durable && op->kind != PST_POOL_VOLUME_OPEN && op->kind != PST_POOL_CLOSE) {
		pst_pool_submit(d->lower, op); /* may be beside another */
		return;
	}
	d->op = op;
	if (durable && ++d->steps == d->doom_at && d->doom == DOOM_BEFORE) {
		d->ended = true;
		return;
	}
	if (durable && d->steps == d->doom_at && d->doom == DOOM_ERROR) {
		d->post.fn = doom_error;
		pst_env_post(pool->env, &d->post);
		return;
	}
	if (op->kind == PST_POOL_VOLUME_CREATE || op->kind == PST_POOL_CLONE)
		memcpy(d->made[d->made_count++], op->kind == PST_POOL_CLONE ? op->other : op->uuid, 16);
	d->lower_op = *op;
	d->lower_op.done = doom_lower_done;
	pst_pool_submit(d->lower, &d->lower_op);
}

static void doom_records(struct pst_pool *pool, const char *prefix, pst_record_fn *fn, void *ctx)
{
	pst_pool_records(pst_container_of(pool, struct doom_pool, pool)->lower, prefix, fn, ctx);
}

static void doom_stats(struct pst_pool *pool, struct pst_pool_stats *ret_stats)
{
	pst_pool_stats(pst_container_of(pool, struct doom_pool, pool)->lower, ret_stats);
}

static uint32_t doom_tasks(struct pst_pool *pool, struct pst_pool_task *tasks, uint32_t max)
{
	return pst_pool_tasks(pst_container_of(pool, struct doom_pool, pool)->lower, tasks, max);
}

static const struct pst_pool_ops doom_ops = { "ram", doom_submit, doom_records, doom_stats, doom_tasks };

/* ---- The world ---- */

struct world {
	struct pst_env *env;
	struct pst_pool *ram; /* fake's */
	struct fake_pool *fake;
	struct doom_pool *doom;
	struct pst_catalog *catalog;
	unsigned done;
};

static struct world w;
static struct pst_kek *rig_kek;  /* of the next boot; NULL: none */
static void *graves[GRAVES_MAX]; /* what a crash leaves: kept, so that it is no leak */
static unsigned grave_count;

static void bury(void *dead)
{
	assert_true(grave_count < GRAVES_MAX);
	graves[grave_count++] = dead;
}

static void pool_added(struct pst_catalog_pool_op *op)
{
	(void)op;
	w.done++;
}

static void op_done(struct pst_catalog_op *op)
{
	(void)op;
	w.done++;
}

static void wait_done(void)
{
	assert_int_equal(w.done, 0); /* never inside the call */
	for (unsigned turns = 0; w.done == 0 && turns < 1000 && !w.doom->ended; turns++)
		pst_env_poll(w.env, 1000000);
	if (!w.doom->ended)
		assert_int_equal(w.done, 1);
	w.done = 0;
}

static void boot(enum doom doom, unsigned doom_at)
{
	static struct pst_catalog_pool_op op;
	struct doom_pool *d = calloc(1, sizeof(*d));

	d->pool.ops = &doom_ops;
	d->pool.env = w.env;
	d->lower = &w.fake->pool;
	d->doom = doom;
	d->doom_at = doom_at;
	w.doom = d;
	target.env = w.env;
	assert_int_equal(pst_catalog_new(w.env, NULL, &w.catalog), PST_OK);
	if (rig_kek != NULL)
		pst_catalog_set_kek(w.catalog, rig_kek);
	op = (struct pst_catalog_pool_op){ .name = "p", .pool = &d->pool, .done = pool_added };
	op.qos.capacity_iops = 10000;
	pst_catalog_add_pool(w.catalog, &op);
	wait_done();
	if (!d->ended)
		assert_string_equal(op.message, "");
}

static void volume_closed(struct pst_volume_close_op *op)
{
	(void)op;
	w.done++;
}

static void pool_done(struct pst_pool_op *op)
{
	(void)op;
	w.done++;
}

/* The process is gone; what its kernel had open is closed. */
static void crash(void)
{
	bury(w.catalog);
	for (unsigned i = 0; i < VOLUMES_MAX && w.doom->open[i] != NULL; i++) {
		struct pst_volume_close_op close = { .done = volume_closed };
		struct pst_pool_op op = { .kind = PST_POOL_VOLUME_OPEN, .done = pool_done };

		memcpy(op.uuid, w.doom->open_uuids[i], 16);
		pst_pool_submit(w.ram, &op);
		while (w.done == 0)
			pst_env_poll(w.env, 1000000);
		w.done = 0;
		if (op.err != PST_OK && op.err != PST_E_BUSY)
			continue;
		pst_volume_close(op.err == PST_OK ? op.volume : w.doom->open[i], &close);
		while (w.done == 0)
			pst_env_poll(w.env, 1000000);
		w.done = 0;
	}
	pst_env_poll(w.env, 0);
	bury(w.doom);
	target.subsystems = 0;
}

static void catalog_closed(struct pst_catalog_close_op *op)
{
	(void)op;
	w.done++;
}

static void shut_down(void)
{
	struct pst_catalog_close_op op = { .done = catalog_closed };

	pst_catalog_close(w.catalog, &op);
	while (w.done == 0)
		pst_env_poll(w.env, 1000000);
	w.done = 0;
	free(w.doom);
	assert_int_equal(target.subsystems, 0);
}

static void new_pool(void)
{
	assert_int_equal(pst_ram_pool_new(w.env, 64 * MIB, &w.ram), PST_OK);
	w.fake = fake_pool_new(w.env, w.ram);
}

static int setup(void **state)
{
	struct pst_env_config config = { .backend = PST_ENV_POSIX, .log_level = PST_LOG_ERROR };

	(void)state;
	memset(&w, 0, sizeof(w));
	memset(&target, 0, sizeof(target));
	assert_int_equal(pst_env_new(&config, &w.env), PST_OK);
	new_pool();
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	pst_env_free(w.env);
	return 0;
}

/* ---- Calls ---- */

static struct pst_catalog_op call;
static bool call_force, call_with_snapshots; /* of the next call; taken back after it */
static const char *call_tenant;              /* that the caller is bound to; stays */

/* True when answered; then `call` has the answer (release with json_decref(call.result)). */
static bool ask(enum pst_catalog_op_kind kind, enum pst_catalog_object object, const char *name, const char *body)
{
	call = (struct pst_catalog_op){ .kind = kind, .object = object, .name = name, .done = op_done };
	call.force = call_force;
	call.tenant = call_tenant;
	call.with_snapshots = call_with_snapshots;
	call_force = call_with_snapshots = false;
	if (body != NULL)
		call.body = json_loads(body, 0, NULL);
	assert_true(body == NULL || call.body != NULL);
	pst_catalog_submit(w.catalog, &call);
	wait_done();
	json_decref(call.body);
	return !w.doom->ended;
}

static inline pst_err err_of(enum pst_catalog_op_kind kind, enum pst_catalog_object object, const char *name,
			     const char *body)
{
	assert_true(ask(kind, object, name, body));
	json_decref(call.result);
	if (call.err != PST_OK)
		assert_string_not_equal(call.message, "");
	return call.err;
}

/* All that there is, without what differs between runs. */
static char *signature(void)
{
	static const enum pst_catalog_object kinds[] = { PST_CATALOG_VOLUME,  PST_CATALOG_SNAPSHOT, PST_CATALOG_TENANT,
							 PST_CATALOG_PROFILE, PST_CATALOG_HOST,     PST_CATALOG_TOKEN };
	json_t *all = json_array(), *item;
	char *text;
	size_t i;

	for (unsigned k = 0; k < PST_ARRAY_COUNT(kinds); k++) {
		assert_true(ask(PST_CATALOG_LIST, kinds[k], NULL, NULL));
		json_array_foreach(call.result, i, item)
		{
			json_object_del(item, "uuid");
			json_object_del(item, "nqn");
			json_object_del(item, "serial");
			json_object_del(item, "created");
			json_object_del(item, "source_uuid");
			json_object_del(item, "id");
			json_object_del(item, "expires");
			json_array_append(all, item);
		}
		json_decref(call.result);
	}
	text = json_dumps(all, JSON_COMPACT);
	json_decref(all);
	return text;
}

static void start_world(enum doom doom, unsigned doom_at)
{
	new_pool();
	boot(doom, doom_at);
}

static inline void put_record(const char *key, const char *value)
{
	struct pst_pool_op op = { .kind = PST_POOL_RECORD_PUT, .key = key, .value = value, .done = pool_done };

	op.value_bytes = (uint32_t)strlen(value);
	pst_pool_submit(w.ram, &op);
	while (w.done == 0)
		pst_env_poll(w.env, 1000000);
	w.done = 0;
	assert_int_equal(op.err, PST_OK);
}

/* ---- A row of calls, and what a crash at each of their durable steps leaves ---- */

struct step {
	enum pst_catalog_op_kind kind;
	enum pst_catalog_object object;
	const char *name, *body;
	bool with_snapshots;
};

#define STEPS_MAX 32u

static const struct step *steps;
static unsigned step_count;
static char *signatures[STEPS_MAX + 1];

/* What the catalog lists is what lies in the pool. */
static void check_no_orphans(void)
{
	static const enum pst_catalog_object kinds[] = { PST_CATALOG_VOLUME, PST_CATALOG_SNAPSHOT };

	for (unsigned k = 0; k < 2; k++) {
		json_t *item;
		size_t n;

		assert_true(ask(PST_CATALOG_LIST, kinds[k], NULL, NULL));
		assert_int_equal(json_array_size(call.result), fake_pool_count(w.fake, k == 1));
		json_array_foreach(call.result, n, item)
		{
			uint8_t uuid[16];
			const char *text = json_string_value(json_object_get(item, "uuid"));

			assert_int_equal(pst_uuid_parse(text, uuid), PST_OK);
			assert_non_null(fake_pool_find(w.fake, uuid));
			assert_string_equal(json_string_value(json_object_get(item, "state")), "ready");
		}
		json_decref(call.result);
	}
}

/* Runs until the world ends or a call fails. Returns how many calls succeeded. */
static unsigned run_steps(bool record)
{
	for (unsigned i = 0; i < step_count; i++) {
		const struct step *s = &steps[i];

		if (record)
			signatures[i] = signature();
		call_with_snapshots = s->with_snapshots;
		if (!ask(s->kind, s->object, s->name, s->body))
			return i;
		json_decref(call.result);
		if (call.err != PST_OK)
			return i;
	}
	if (record)
		signatures[step_count] = signature();
	return step_count;
}

static void one_crash(enum doom doom, unsigned doom_at)
{
	unsigned answered;
	char *found;

	start_world(doom, doom_at);
	answered = run_steps(false);
	crash();
	boot(DOOM_NONE, 0);
	found = signature();
	if (strcmp(found, signatures[answered]) != 0) {
		assert_true(answered < step_count);
		assert_string_equal(found, signatures[answered + 1]);
	}
	free(found);
	check_no_orphans();
	shut_down();
}

/* Returns how many durable steps the calls take. */
static inline unsigned crash_everywhere(const struct step *row, unsigned count)
{
	unsigned durable;

	steps = row;
	step_count = count;
	assert_true(count <= STEPS_MAX);
	boot(DOOM_NONE, 0);
	assert_int_equal(run_steps(true), count);
	durable = w.doom->steps;
	check_no_orphans();
	shut_down();
	for (unsigned at = 1; at <= durable; at++) {
		one_crash(DOOM_BEFORE, at);
		one_crash(DOOM_AFTER, at);
		one_crash(DOOM_ERROR, at);
	}
	for (unsigned i = 0; i <= count; i++)
		free(signatures[i]);
	for (unsigned i = 0; i < grave_count; i++)
		assert_non_null(graves[i]);
	return durable;
}

#endif

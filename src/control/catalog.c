/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The catalog's turn-taking: calls, records, pools.
 *
 * Calls that read are answered on the shard's next turn, from memory. Calls that change are queued; one is in work
 * (c->current) until cat_succeed or cat_fail ends it. Each consists of durable steps, of which one is in flight at a
 * time (c->pool_op, c->pool_done); catalog-tenant.c and catalog-volume.c say which, and what a crash between them
 * means.
 *
 * Adding a pool and closing use the same steps, and never run beside a call.
 */
#include "control/catalog-internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- Ending a change ---- */

static void schedule(struct pst_catalog *c)
{
	if (c->posted)
		return;
	c->posted = true;
	pst_env_post(c->env, &c->post);
}

static void vop_error(struct pst_catalog_op *op, pst_err err, const char *hint, const char *fmt, va_list ap)
{
	op->err = err;
	vsnprintf(op->message, sizeof(op->message), fmt, ap);
	snprintf(op->hint, sizeof(op->hint), "%s", hint != NULL ? hint : "");
}

void cat_op_error(struct pst_catalog_op *op, pst_err err, const char *hint, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vop_error(op, err, hint, fmt, ap);
	va_end(ap);
}

void cat_fail(struct pst_catalog *c, pst_err err, const char *hint, const char *fmt, ...)
{
	struct pst_catalog_op *op = c->current;
	va_list ap;

	pst_assert(op != NULL && err != PST_OK);
	va_start(ap, fmt);
	vop_error(op, err, hint, fmt, ap);
	va_end(ap);
	c->current = NULL;
	schedule(c);
	op->done(op);
}

void cat_succeed(struct pst_catalog *c, json_t *result)
{
	struct pst_catalog_op *op = c->current;

	if (op->object == PST_CATALOG_VOLUME)
		cat_volume_hide(c, op, result);
	op->err = PST_OK;
	op->result = result;
	c->current = NULL;
	schedule(c);
	op->done(op);
}

void cat_fail_policy(struct pst_catalog *c, pst_err err, const char *what, const char *name)
{
	char hint[200];

	if (err == PST_E_INVAL) {
		snprintf(hint, sizeof(hint), "penstock %s show %s", what, name);
		cat_fail(c, err, hint, "%s '%s': a reservation is above the limit", what, name);
	} else if (err == PST_E_NOSPACE) {
		cat_fail(c, err, "penstock tenant list",
			 "%s '%s': the reservation can't be honoured; other reservations leave less", what, name);
	} else {
		cat_fail(c, err, NULL, "%s '%s': the policy was refused: %s", what, name, pst_err_text(err));
	}
}

/* ---- Durable steps ---- */

static void pool_op_done(struct pst_pool_op *op)
{
	struct pst_catalog *c = pst_container_of(op, struct pst_catalog, pool_op);

	c->pool_done(c, op->err);
}

void cat_pool_step(struct pst_catalog *c, unsigned pool, void (*done)(struct pst_catalog *c, pst_err err))
{
	c->pool_done = done;
	c->pool_op.done = pool_op_done;
	pst_pool_submit(c->pools[pool].pool, &c->pool_op);
}

static void record_key(struct pst_catalog *c, const char *kind, const char *name)
{
	snprintf(c->key, sizeof(c->key), "%s/%s", kind, name);
}

static void turn_failed(struct pst_post *post)
{
	struct pst_catalog *c = pst_container_of(post, struct pst_catalog, turn);

	c->pool_done(c, c->turn_err);
}

void cat_record_put(struct pst_catalog *c, unsigned pool, const char *kind, const char *name, json_t *value,
		    void (*done)(struct pst_catalog *c, pst_err err))
{
	size_t bytes = value != NULL ? json_dumpb(value, c->record, sizeof(c->record), JSON_COMPACT) : 0;

	json_decref(value);
	pst_assert(bytes <= sizeof(c->record)); /* every member is bounded */
	if (bytes == 0) {
		c->pool_done = done;
		c->turn_err = PST_E_NOMEM;
		c->turn.fn = turn_failed;
		pst_env_post(c->env, &c->turn);
		return;
	}
	record_key(c, kind, name);
	c->pool_op = (struct pst_pool_op){ .kind = PST_POOL_RECORD_PUT, .key = c->key, .value = c->record };
	c->pool_op.value_bytes = (uint32_t)bytes;
	cat_pool_step(c, pool, done);
}

void cat_record_delete(struct pst_catalog *c, unsigned pool, const char *kind, const char *name,
		       void (*done)(struct pst_catalog *c, pst_err err))
{
	record_key(c, kind, name);
	c->pool_op = (struct pst_pool_op){ .kind = PST_POOL_RECORD_DELETE, .key = c->key };
	cat_pool_step(c, pool, done);
}

/* ---- Taking turns ---- */

bool cat_open_to(const struct pst_catalog_op *op)
{
	return op->tenant == NULL || op->object == PST_CATALOG_VOLUME || op->object == PST_CATALOG_SNAPSHOT ||
	       (op->object == PST_CATALOG_TENANT && op->kind < PST_CATALOG_CREATE);
}

static void (*const changes[])(struct pst_catalog *c) = {
	[PST_CATALOG_POOL] = cat_pool_change,
	[PST_CATALOG_TENANT] = cat_tenant_change,
	[PST_CATALOG_PROFILE] = cat_profile_change,
	[PST_CATALOG_VOLUME] = cat_volume_change,
	[PST_CATALOG_SNAPSHOT] = cat_snapshot_change,
	[PST_CATALOG_TASK] = cat_pool_change,
	[PST_CATALOG_DEVICE] = cat_pool_change,
	[PST_CATALOG_CHECK] = cat_pool_change,
	[PST_CATALOG_KEY] = cat_key_change,
	[PST_CATALOG_HOST] = cat_host_change,
	[PST_CATALOG_PORT] = cat_port_change,
	[PST_CATALOG_TOKEN] = cat_token_change,
	[PST_CATALOG_EVENT] = NULL, /* can't be changed by calls */
};

static void take_turn(struct pst_post *post)
{
	struct pst_catalog *c = pst_container_of(post, struct pst_catalog, post);
	struct pst_list reads, *node;

	c->posted = false;
	pst_list_init(&reads);
	pst_list_splice(&reads, &c->reads);
	while ((node = pst_list_pop_front(&reads)) != NULL)
		cat_read(c, pst_container_of(node, struct pst_catalog_op, node));
	if (c->current != NULL || pst_list_empty(&c->queue))
		return;
	c->current = pst_container_of(pst_list_pop_front(&c->queue), struct pst_catalog_op, node);
	if (c->pool_count == 0)
		cat_fail(c, PST_E_AGAIN, NULL, "no pool is open yet");
	else if (!cat_open_to(c->current))
		cat_fail(c, PST_E_DENIED, NULL, "this is not for tenants");
	else
		changes[c->current->object](c);
}

void pst_catalog_submit(struct pst_catalog *c, struct pst_catalog_op *op)
{
	bool read = op->kind < PST_CATALOG_CREATE;

	pst_assert(op->done != NULL && c->closing == NULL);
	pst_assert(read || changes[op->object] != NULL);
	op->err = PST_OK;
	op->message[0] = op->hint[0] = '\0';
	op->result = NULL;
	op->tick = ++c->tick;
	pst_list_push_back(read ? &c->reads : &c->queue, &op->node);
	schedule(c);
}

/* ---- Adding a pool ---- */

static void add_fail(struct pst_catalog *c, pst_err err, const char *fmt, ...) PST_PRINTF(3, 4);
static void add_fail(struct pst_catalog *c, pst_err err, const char *fmt, ...)
{
	struct pst_catalog_pool_op *op = c->adding;
	va_list ap;

	if (op->err != PST_OK)
		return; /* the first error counts */
	op->err = err;
	va_start(ap, fmt);
	vsnprintf(op->message, sizeof(op->message), fmt, ap);
	va_end(ap);
}

static void add_record(void *ctx, const char *key, const void *value, uint32_t value_bytes)
{
	struct pst_catalog *c = ctx;
	unsigned pool = c->pool_count - 1;
	const char *name = strchr(key, '/') + 1, *pool_name = c->pools[pool].name;
	json_t *record = json_loadb(value, value_bytes, 0, NULL);
	json_t *format = json_object_get(record, "format");
	char message[200] = "its record is damaged";
	pst_err err = PST_E_FORMAT;

	if (json_is_integer(format) && json_integer_value(format) > CAT_RECORD_FORMAT)
		snprintf(message, sizeof(message),
			 "its record is of format %" JSON_INTEGER_FORMAT
			 ", written by a newer Penstock; this one knows format %d",
			 json_integer_value(format), CAT_RECORD_FORMAT);
	else if (!json_is_integer(format) || (key[0] != 's' && key[0] != 'h' && key[0] != 'l' && !pst_name_ok(name)))
		err = PST_E_FORMAT;
	else if (key[0] == 'h')
		err = cat_host_load(c, pool, name, record);
	else if (key[0] == 'i')
		err = cat_identity_load(c, record);
	else if (key[0] == 'l')
		err = cat_port_load(c, pool, name, record);
	else if (key[0] == 'a')
		err = cat_allow_load(c, pool, name, record);
	else if (strncmp(key, "token/", 6) == 0)
		err = cat_token_load(c, pool, name, record);
	else if (key[0] == 't')
		err = cat_tenant_load(c, pool, name, record);
	else if (key[0] == 'p')
		err = cat_profile_load(c, pool, name, record);
	else if (key[0] == 'v')
		err = cat_volume_load(c, pool, name, record, message, sizeof(message));
	else
		err = cat_snapshot_load(c, pool, name, record, message, sizeof(message));
	json_decref(record);
	if (err != PST_OK)
		add_fail(c, err, "pool '%s': %.80s can't be loaded: %s", pool_name, key, message);
}

static struct cat_volume *next_to_load(struct pst_catalog *c)
{
	for (struct cat_named *n = cat_names_after(&c->volumes, c->cursor); n != NULL;
	     n = cat_names_next(&c->volumes, n)) {
		struct cat_volume *v = pst_container_of(n, struct cat_volume, named);

		if (v->pool == c->pool_count - 1)
			return v;
	}
	return NULL;
}

/* Of those whose making or deletion was interrupted. */
static struct cat_snapshot *next_to_resolve(struct pst_catalog *c)
{
	CAT_NAMES_EACH(n, &c->volumes) {
		const struct cat_volume *v = pst_container_of(n, struct cat_volume, named);

		if (v->pool != c->pool_count - 1)
			continue;
		CAT_NAMES_EACH(m, &v->snapshots) {
			struct cat_snapshot *s = pst_container_of(m, struct cat_snapshot, named);

			if ((s->state == CAT_CREATING || s->state == CAT_DELETING) && s->error == PST_OK)
				return s;
		}
	}
	return NULL;
}

static void snapshot_resolved(struct pst_catalog *c, pst_err err)
{
	if (err != PST_OK)
		cat_event(c, c->pool_count - 1, PST_LOG_ERROR, "snapshot_failed pool=%s error=\"%s\"",
			  c->pools[c->pool_count - 1].name, pst_err_text(err));
	pst_env_post(c->env, &c->turn);
}

static void volume_loaded(struct pst_catalog *c, struct cat_volume *v, pst_err err)
{
	if (v->state != CAT_READY && err == PST_OK) {
		cat_event(c, v->pool, PST_LOG_INFO, "volume_%s volume=%s reason=\"interrupted by the last stop\"",
			  v->state == CAT_CREATING ? "create_undone" : "delete_completed", v->name);
		cat_volume_free(c, v);
	} else if (err != PST_OK) {
		cat_event(c, v->pool, PST_LOG_ERROR, "volume_failed volume=%s pool=%s error=\"%s\"", v->name,
			  c->pools[v->pool].name, pst_err_text(err));
		v->state = v->state == CAT_READY ? CAT_FAILED : CAT_DELETING;
		v->error = err;
	}
	pst_env_post(c->env, &c->turn);
}

static void add_next(struct pst_post *post)
{
	struct pst_catalog *c = pst_container_of(post, struct pst_catalog, turn);
	struct pst_catalog_pool_op *op = c->adding;
	struct cat_volume *v = op->err == PST_OK ? next_to_load(c) : NULL;
	struct cat_snapshot *s = op->err == PST_OK && v == NULL ? next_to_resolve(c) : NULL;

	c->turn.fn = add_next;
	if (v != NULL) {
		snprintf(c->cursor, sizeof(c->cursor), "%s", v->name);
		cat_volume_job(c, v, v->state == CAT_READY ? CAT_PROGRAM_START : CAT_PROGRAM_UNDO, volume_loaded);
		return;
	}
	if (s != NULL) {
		cat_snapshot_resolve(c, s, snapshot_resolved);
		return;
	}
	c->adding = NULL;
	op->done(op);
}

/* Before any volume is served the target knows who has to prove what. */
static void add_hosts_done(struct pst_catalog *c)
{
	c->turn.fn = add_next;
	pst_env_post(c->env, &c->turn);
}

static void add_hosts(struct pst_post *post)
{
	struct pst_catalog *c = pst_container_of(post, struct pst_catalog, turn);

	cat_hosts_start(c, add_hosts_done);
}

void pst_catalog_add_pool(struct pst_catalog *c, struct pst_catalog_pool_op *op)
{
	struct cat_pool *p = &c->pools[c->pool_count];
	unsigned twin;

	pst_assert(c->pool_count < PST_CATALOG_POOLS_MAX && c->adding == NULL && c->current == NULL);
	c->adding = op;
	op->err = PST_OK;
	op->message[0] = '\0';
	c->cursor[0] = '\0';
	p->pool = op->pool;
	snprintf(p->name, sizeof(p->name), "%s", op->name);
	if (cat_pool_find(c, op->name, &twin))
		add_fail(c, PST_E_EXISTS, "two pools are named '%s'", op->name);
	c->pool_count++;
	if (!pst_name_ok(op->name))
		add_fail(c, PST_E_INVAL, "'%s' can't be a pool's name: a name is " PST_NAME_RULE, op->name);
	if (op->err == PST_OK && pst_qos_new(c->env, &op->qos, &p->qos) != PST_OK)
		add_fail(c, PST_E_NOMEM, "no memory for the scheduler of pool '%s'", op->name);
	if (op->err == PST_OK)
		pst_pool_records(p->pool, "tenant/", add_record, c);
	if (op->err == PST_OK)
		pst_pool_records(p->pool, "token/", add_record, c);
	if (op->err == PST_OK)
		pst_pool_records(p->pool, "profile/", add_record, c);
	if (op->err == PST_OK)
		pst_pool_records(p->pool, "volume/", add_record, c);
	if (op->err == PST_OK)
		pst_pool_records(p->pool, "allow/", add_record, c);
	if (op->err == PST_OK)
		pst_pool_records(p->pool, "snapshot/", add_record, c);
	if (op->err == PST_OK)
		pst_pool_records(p->pool, "host/", add_record, c);
	if (op->err == PST_OK)
		pst_pool_records(p->pool, "listen/", add_record, c);
	if (op->err == PST_OK)
		pst_pool_records(p->pool, "identity/", add_record, c);
	if (op->err == PST_OK && cat_tenants_on_pool(c, c->pool_count - 1) != PST_OK)
		add_fail(c, PST_E_NOMEM, "no memory for the tenants of pool '%s'", op->name);
	/* Tenants of this pool on the pools that were there before. */
	for (unsigned i = 0; op->err == PST_OK && i + 1 < c->pool_count; i++)
		if (cat_tenants_on_pool(c, i) != PST_OK)
			add_fail(c, PST_E_NOMEM, "no memory for the tenants of pool '%s'", op->name);
	c->turn.fn = add_hosts;
	pst_env_post(c->env, &c->turn);
}

/* ---- Making, closing ---- */

static void names_init(struct pst_catalog *c)
{
	struct cat_names *const kinds[] = { &c->tenants, &c->profiles, &c->volumes, &c->hosts, &c->tokens };

	pst_env_random(c->env, &c->names_seed, sizeof(c->names_seed));
	for (size_t i = 0; i < PST_ARRAY_COUNT(kinds); i++)
		cat_names_init(kinds[i], c->names_seed);
	pst_hash_init(&c->token_ids, c->names_seed);
}

/* Nothing is in it any more. */
static void catalog_free(struct pst_catalog *c)
{
	struct cat_names *const kinds[] = { &c->tenants, &c->profiles, &c->volumes, &c->hosts, &c->tokens };

	for (size_t i = 0; i < PST_ARRAY_COUNT(kinds); i++)
		cat_names_done(kinds[i]);
	pst_hash_done(&c->token_ids);
	json_decref(c->addresses);
	free(c->events);
	free(c);
}

pst_err pst_catalog_new(struct pst_env *env, struct pst_target *target, struct pst_catalog **ret_catalog)
{
	struct pst_catalog *c = calloc(1, sizeof(*c));
	pst_err err;

	if (c == NULL)
		return PST_E_NOMEM;
	c->env = env;
	c->target = target;
	c->addresses = json_array();
	c->post.fn = take_turn;
	names_init(c);
	pst_list_init(&c->queue);
	pst_list_init(&c->reads);
	pst_list_init(&c->waiting);
	c->events = calloc(PST_CATALOG_EVENTS_MAX, sizeof(c->events[0]));
	err = c->events != NULL ? cat_builtins(c) : PST_E_NOMEM;
	if (err != PST_OK) {
		cat_tenants_free(c);
		catalog_free(c);
		return err;
	}
	*ret_catalog = c;
	return PST_OK;
}

void pst_catalog_set_kek(struct pst_catalog *c, struct pst_kek *kek)
{
	c->keys.kek = kek;
}

void pst_catalog_set_addresses(struct pst_catalog *c, json_t *addresses)
{
	json_decref(c->addresses);
	c->addresses = json_incref(addresses);
}

static void close_next(struct pst_post *post);

static void pool_closed(struct pst_catalog *c, pst_err err)
{
	if (err != PST_OK)
		pst_env_log(c->env, PST_LOG_ERROR,
			    "pool_close_failed pool=%s error=\"%s\" next=\"the next start recovers it\"",
			    c->pools[c->pool_count - 1].name, pst_err_text(err));
	c->pool_count--;
	pst_env_post(c->env, &c->turn);
}

static void volume_stopped(struct pst_catalog *c, struct cat_volume *v, pst_err err)
{
	(void)err;
	cat_volume_free(c, v);
	pst_env_post(c->env, &c->turn);
}

static void close_next(struct pst_post *post)
{
	struct pst_catalog *c = pst_container_of(post, struct pst_catalog, turn);
	struct pst_catalog_close_op *op = c->closing;
	struct cat_named *first = cat_names_next(&c->volumes, NULL);

	for (unsigned i = 0; i < c->pool_count; i++)
		if (cat_check_stop(c, i)) {
			c->close_waits = true;
			return;
		}
	if (first != NULL) {
		cat_volume_job(c, pst_container_of(first, struct cat_volume, named), CAT_PROGRAM_STOP, volume_stopped);
		return;
	}
	cat_tenants_free(c);
	if (c->pool_count > 0) {
		struct cat_pool *p = &c->pools[c->pool_count - 1];

		cat_check_free(c, c->pool_count - 1);
		if (p->qos != NULL)
			pst_qos_free(p->qos);
		p->qos = NULL;
		pst_crypt_pool_free(p->crypt);
		p->crypt = NULL;
		c->pool_op = (struct pst_pool_op){ .kind = PST_POOL_CLOSE };
		cat_pool_step(c, c->pool_count - 1, pool_closed);
		return;
	}
	cat_hosts_done(c);
	cat_tokens_done(c);
	cat_keys_done(c);
	catalog_free(c);
	op->done(op);
}

void pst_catalog_close(struct pst_catalog *c, struct pst_catalog_close_op *op)
{
	pst_assert(c->current == NULL && pst_list_empty(&c->queue) && pst_list_empty(&c->reads) && c->adding == NULL);
	pst_assert(pst_list_empty(&c->waiting) && !c->walk.busy);
	pst_assert(c->closing == NULL);
	c->closing = op;
	c->turn.fn = close_next;
	pst_env_post(c->env, &c->turn);
}

/* ---- For metrics ---- */

bool pst_catalog_next_volume(struct pst_catalog *c, const char *after, struct pst_catalog_volume_info *ret_info)
{
	for (struct cat_named *n = cat_names_after(&c->volumes, after); n != NULL; n = cat_names_next(&c->volumes, n)) {
		const struct cat_volume *v = pst_container_of(n, struct cat_volume, named);
		struct cat_usage usage;

		if (v->subsystem == NULL || v->state != CAT_READY)
			continue;
		cat_volume_usage(c, v, &usage);
		*ret_info = (struct pst_catalog_volume_info){
			.name = v->name,
			.tenant = v->tenant->name,
			.profile = v->profile,
			.pool = c->pools[v->pool].name,
			.size_bytes = cat_volume_bytes(v),
			.used_bytes = usage.own_bytes + cat_snapshots_own(v),
			.mapped_bytes = usage.mapped_bytes,
			.own_bytes = usage.own_bytes,
			.snapshot_bytes = cat_snapshots_own(v),
			.snapshots = cat_names_count(&v->snapshots),
			.hosts = pst_subsystem_host_count(v->subsystem),
			.subsystem = v->subsystem,
			.flow = v->flow,
		};
		return true;
	}
	return false;
}

bool pst_catalog_pool_at(struct pst_catalog *c, unsigned index, struct pst_catalog_pool_info *ret_info)
{
	if (index >= c->pool_count)
		return false;
	ret_info->name = c->pools[index].name;
	ret_info->engine = c->pools[index].pool->ops->name;
	pst_pool_stats(c->pools[index].pool, &ret_info->stats);
	ret_info->task_count = PST_MIN(pst_pool_tasks(c->pools[index].pool, ret_info->tasks, PST_CATALOG_TASKS_MAX),
				       PST_CATALOG_TASKS_MAX);
	return true;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Calls that read. They are answered on the shard's next turn, from memory; but what volumes and snapshots take up only
 * their pool knows, so calls that tell it walk over the objects in question first and ask (c->walk, one at a time,
 * beside whatever change is in work). Calls that come meanwhile share what is asked after they came: ticks say which.
 */
#include "control/catalog-internal.h"

#include <stdio.h>
#include <string.h>

struct cat_named *cat_asked_next(const struct pst_catalog_op *op, const struct cat_names *names,
				 const struct cat_named *after)
{
	if (op->kind != PST_CATALOG_SHOW)
		return cat_names_next(names, after);
	return after == NULL ? cat_names_find(names, op->name) : NULL;
}

static json_t *read_pools(struct pst_catalog *c, const struct pst_catalog_op *op)
{
	json_t *list = json_array();

	for (unsigned i = 0; i < c->pool_count; i++)
		if (op->kind != PST_CATALOG_SHOW || strcmp(op->name, c->pools[i].name) == 0)
			json_array_append_new(list, cat_pool_json(c, i));
	return list;
}

static json_t *read_tenants(struct pst_catalog *c, const struct pst_catalog_op *op)
{
	json_t *list = json_array();

	CAT_ASKED_EACH(n, op, &c->tenants) {
		const struct cat_tenant *t = pst_container_of(n, struct cat_tenant, named);

		if (op->tenant == NULL || strcmp(op->tenant, t->name) == 0)
			json_array_append_new(list, cat_tenant_json(c, t));
	}
	return list;
}

static json_t *read_profiles(struct pst_catalog *c, const struct pst_catalog_op *op)
{
	json_t *list = json_array();

	CAT_ASKED_EACH(n, op, &c->profiles)
		json_array_append_new(list, cat_profile_json(pst_container_of(n, struct cat_profile, named)));
	return list;
}

static json_t *read_volumes(struct pst_catalog *c, const struct pst_catalog_op *op)
{
	json_t *list = json_array();

	CAT_ASKED_EACH(n, op, &c->volumes) {
		const struct cat_volume *v = pst_container_of(n, struct cat_volume, named);
		json_t *json;

		if (!cat_volume_shown(v) || !cat_volume_visible(op, v))
			continue;
		json = cat_volume_json(c, v);
		cat_volume_hide(c, op, json);
		json_array_append_new(list, json);
	}
	return list;
}

/* Is @s one that @op asks for? Every snapshot of a volume counts for what the volume takes up. */
static bool wants_snapshot(struct pst_catalog *c, const struct pst_catalog_op *op, const struct cat_snapshot *s)
{
	return op->object != PST_CATALOG_SNAPSHOT || op->kind != PST_CATALOG_SHOW ||
	       cat_snapshot_of(c, op, op->name) == s;
}

static bool wants_volume(const struct pst_catalog_op *op, const struct cat_volume *v)
{
	return cat_volume_visible(op, v) && (op->object != PST_CATALOG_TENANT || op->kind != PST_CATALOG_SHOW ||
					     strcmp(op->name, v->tenant->name) == 0);
}

/* Is one volume all that counts for @op? */
static bool is_of_one(const struct pst_catalog_op *op)
{
	return (op->object == PST_CATALOG_VOLUME && op->kind == PST_CATALOG_SHOW) ||
	       (op->object == PST_CATALOG_SNAPSHOT && (op->kind == PST_CATALOG_SHOW || op->volume != NULL));
}

/* The first volume that may count for @op, and the one behind @v; NULL: none (is left). */
static struct cat_volume *volume_first(struct pst_catalog *c, const struct pst_catalog_op *op)
{
	const struct cat_snapshot *s;
	struct cat_named *n;

	if (op->object == PST_CATALOG_SNAPSHOT && op->kind == PST_CATALOG_SHOW) {
		s = cat_snapshot_of(c, op, op->name);
		return s != NULL ? s->volume : NULL;
	}
	if (is_of_one(op))
		return cat_volume_of(c, op, op->object == PST_CATALOG_VOLUME ? op->name : op->volume);
	n = cat_names_next(&c->volumes, NULL);
	return n != NULL ? pst_container_of(n, struct cat_volume, named) : NULL;
}

static struct cat_volume *volume_after(struct pst_catalog *c, const struct pst_catalog_op *op,
				       const struct cat_volume *v)
{
	struct cat_named *n = is_of_one(op) ? NULL : cat_names_next(&c->volumes, &v->named);

	return n != NULL ? pst_container_of(n, struct cat_volume, named) : NULL;
}

static json_t *read_snapshots(struct pst_catalog *c, const struct pst_catalog_op *op)
{
	json_t *list = json_array();

	for (const struct cat_volume *v = volume_first(c, op); v != NULL; v = volume_after(c, op, v)) {
		if (!wants_volume(op, v))
			continue;
		CAT_NAMES_EACH(m, &v->snapshots) {
			const struct cat_snapshot *s = pst_container_of(m, struct cat_snapshot, named);

			if (cat_snapshot_shown(s) && wants_snapshot(c, op, s))
				json_array_append_new(list, cat_snapshot_json(c, s));
		}
	}
	return list;
}

static const struct {
	const char *word;
	json_t *(*read)(struct pst_catalog *c, const struct pst_catalog_op *op);
	bool asks; /* what is used */
} objects[] = {
	[PST_CATALOG_POOL] = { "pool", read_pools, false },
	[PST_CATALOG_TENANT] = { "tenant", read_tenants, true },
	[PST_CATALOG_PROFILE] = { "profile", read_profiles, false },
	[PST_CATALOG_VOLUME] = { "volume", read_volumes, true },
	[PST_CATALOG_SNAPSHOT] = { "snapshot", read_snapshots, true },
	[PST_CATALOG_HOST] = { "host", cat_read_hosts, false },
	[PST_CATALOG_KEY] = { "key", cat_read_keys, false },
	[PST_CATALOG_PORT] = { "port", cat_read_ports, false },
	[PST_CATALOG_TOKEN] = { "token", cat_read_tokens, false },
};

static void answer_not_found(struct pst_catalog_op *op, const char *word, const char *name)
{
	char hint[64];

	snprintf(hint, sizeof(hint), "penstock %s %s", word, strcmp(word, "key") == 0 ? "status" : "list");
	cat_op_error(op, PST_E_NOTFOUND, hint, "there is no %s '%.223s'", word, name);
}

static void answer(struct pst_catalog *c, struct pst_catalog_op *op)
{
	json_t *list;

	if (op->kind == PST_CATALOG_REFRESH)
		return op->done(op);
	list = objects[op->object].read(c, op);
	if (op->kind == PST_CATALOG_SHOW && json_array_size(list) == 1)
		op->result = json_incref(json_array_get(list, 0));
	else if (op->kind == PST_CATALOG_SHOW)
		answer_not_found(op, objects[op->object].word, op->name);
	else if (op->volume != NULL && cat_volume_of(c, op, op->volume) == NULL)
		answer_not_found(op, "volume", op->volume);
	else
		op->result = json_incref(list);
	json_decref(list);
	op->done(op);
}

/* ---- Asking what is used ---- */

void cat_usage_take(struct pst_catalog *c, struct cat_usage *usage, const struct pst_volume_info *info)
{
	*usage = (struct cat_usage){
		.tick = ++c->tick,
		.mapped_bytes = info->mapped_blocks * PST_BLOCK_BYTES,
		.own_bytes = info->own_blocks * PST_BLOCK_BYTES,
		.children = info->children,
		.settings = info->settings,
	};
}

void cat_volume_usage(struct pst_catalog *c, const struct cat_volume *v, struct cat_usage *ret_usage)
{
	struct pst_volume_stats stats = { 0 };

	*ret_usage = v->usage;
	if (v->usage.tick != 0 && !c->pools[v->pool].no_info)
		return;
	if (v->volume != NULL)
		pst_volume_stats(v->volume, &stats);
	ret_usage->mapped_bytes = ret_usage->own_bytes = stats.used_bytes;
}

static struct pst_catalog_op *waiting_first(struct pst_catalog *c)
{
	return pst_container_of(c->waiting.next, struct pst_catalog_op, node);
}

/* From a volume to its first snapshot, from its last one to the next volume. */
static void walk_on(struct pst_catalog *c)
{
	struct cat_volume *v = c->walk.volume;
	struct cat_named *next =
	    cat_names_next(&v->snapshots, c->walk.snapshot != NULL ? &c->walk.snapshot->named : NULL);

	if (next != NULL) {
		c->walk.snapshot = pst_container_of(next, struct cat_snapshot, named);
		return;
	}
	c->walk.snapshot = NULL;
	c->walk.volume = volume_after(c, waiting_first(c), v);
}

void cat_read_forget_volume(struct pst_catalog *c, const struct cat_volume *v)
{
	if (c->walk.usage == &v->usage)
		c->walk.usage = NULL;
	if (c->walk.volume == v) {
		c->walk.snapshot = NULL;
		c->walk.volume = volume_after(c, waiting_first(c), v);
	}
}

void cat_read_forget_snapshot(struct pst_catalog *c, const struct cat_snapshot *s)
{
	if (c->walk.usage == &s->usage)
		c->walk.usage = NULL;
	if (c->walk.asked == s)
		c->walk.asked = NULL;
	if (c->walk.snapshot == s)
		walk_on(c);
}

static void walk(struct pst_catalog *c);

static void walk_answered(struct pst_pool_op *op)
{
	struct pst_catalog *c = pst_container_of(op, struct pst_catalog, walk.op);
	struct cat_snapshot *s = c->walk.asked;

	c->walk.busy = false;
	if (op->err == PST_E_UNSUPPORTED)
		c->pools[c->walk.pool].no_info = true;
	if (op->err == PST_OK && c->walk.usage != NULL) {
		uint64_t tick = c->walk.usage->tick;

		cat_usage_take(c, c->walk.usage, &op->info);
		c->walk.usage->tick = tick; /* of when it was asked */
	} else if (op->err == PST_E_NOTFOUND && s != NULL && s->state == CAT_READY) {
		s->state = CAT_FAILED;
		s->error = op->err;
	}
	walk(c);
}

static bool walk_skips(struct pst_catalog *c, const struct cat_usage *usage)
{
	const struct pst_catalog_op *op = waiting_first(c);
	const struct cat_volume *v = c->walk.volume;
	const struct cat_snapshot *s = c->walk.snapshot;

	if (usage->tick >= op->tick || c->pools[v->pool].no_info || !wants_volume(op, v))
		return true;
	return s != NULL ? s->state != CAT_READY || !wants_snapshot(c, op, s) : v->state != CAT_READY;
}

/* Asks for the next object that the first waiting call wants. False: there is none left. */
static bool walk_ask(struct pst_catalog *c)
{
	while (c->walk.volume != NULL) {
		struct cat_snapshot *s = c->walk.snapshot;
		struct cat_volume *v = c->walk.volume;
		struct cat_usage *usage = s != NULL ? &s->usage : &v->usage;
		bool skips = walk_skips(c, usage);

		walk_on(c);
		if (skips)
			continue;
		usage->tick = ++c->tick;
		c->walk.busy = true;
		c->walk.usage = usage;
		c->walk.asked = s;
		c->walk.pool = v->pool;
		c->walk.op = (struct pst_pool_op){ .kind = PST_POOL_VOLUME_INFO, .done = walk_answered };
		memcpy(c->walk.op.uuid, s != NULL ? s->uuid : v->uuid, 16);
		pst_pool_submit(c->pools[v->pool].pool, &c->walk.op);
		return true;
	}
	return false;
}

static void walk_restart(struct pst_catalog *c)
{
	c->walk.snapshot = NULL;
	c->walk.volume = pst_list_empty(&c->waiting) ? NULL : volume_first(c, waiting_first(c));
}

/* Answers the calls for which all was asked. */
static void walk(struct pst_catalog *c)
{
	while (!pst_list_empty(&c->waiting) && !walk_ask(c)) {
		answer(c, pst_container_of(pst_list_pop_front(&c->waiting), struct pst_catalog_op, node));
		walk_restart(c);
	}
}

void cat_read(struct pst_catalog *c, struct pst_catalog_op *op)
{
	if (!cat_open_to(op)) {
		cat_op_error(op, PST_E_DENIED, NULL, "this is not for tenants");
		return op->done(op);
	}
	if (op->kind == PST_CATALOG_DIFF)
		return cat_diff(c, op);
	if (op->object >= PST_CATALOG_TASK)
		return cat_pool_read(c, op);
	if (!objects[op->object].asks)
		return answer(c, op);
	pst_list_push_back(&c->waiting, &op->node);
	if (c->walk.busy)
		return;
	walk_restart(c);
	walk(c);
}

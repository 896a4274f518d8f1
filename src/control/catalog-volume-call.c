/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What users ask of volumes: checked here, then handed to a program of catalog-volume.c, whose result is worded here.
 * Nothing has changed when a request is refused.
 */
#include "control/catalog-internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define CAT_NSID 1u

static void volume_created(struct pst_catalog *c, struct cat_volume *v, pst_err err)
{
	char name[PST_NAME_MAX + 1], tenant[PST_NAME_MAX + 1];
	const char *pool = c->pools[v->pool].name;

	snprintf(name, sizeof(name), "%s", v->name);
	snprintf(tenant, sizeof(tenant), "%s", v->tenant->name);
	if (err == PST_OK) {
		v->state = CAT_READY;
		return cat_succeed(c, cat_volume_json(c, v));
	}
	if (v->state == CAT_CREATING)
		cat_volume_free(c, v);
	else
		v->error = err;
	if (err == PST_E_NOSPACE && c->rate_refused)
		cat_fail(c, err, "penstock tenant show NAME, and reserve less or raise the tenant's",
			 "volume '%s' was not created: its reservation is more than tenant '%s' or pool '%s' has left",
			 name, tenant, pool);
	else if (err == PST_E_NOSPACE)
		cat_fail(c, err, "penstock pool list, and delete or discard data, or add space",
			 "volume '%s' was not created: pool '%s' has no space for it, or for what it is to keep free",
			 name, pool);
	else if (err == PST_E_INVAL)
		cat_fail_policy(c, err, "volume", name);
	else if (err == PST_E_KEY)
		cat_fail(c, err, "penstock key status", "volume '%s' was not created: %s", name, c->keys.detail);
	else
		cat_fail(c, err, "penstock pool list", "volume '%s' was not created in pool '%s': %s", name, pool,
			 pst_err_text(err));
}

void cat_uuid_new(struct pst_catalog *c, uint8_t ret_uuid[16])
{
	pst_env_random(c->env, ret_uuid, 16);
	ret_uuid[6] = (uint8_t)((ret_uuid[6] & 0x0f) | 0x40); /* RFC 4122, version 4: random */
	ret_uuid[8] = (uint8_t)((ret_uuid[8] & 0x3f) | 0x80);
}

static void identity_new(struct pst_catalog *c, struct cat_volume *v)
{
	char text[37];
	size_t n = 2;

	cat_uuid_new(c, v->uuid);
	pst_uuid_format(v->uuid, text);
	snprintf(v->nqn, sizeof(v->nqn), "nqn.2014-08.org.nvmexpress:uuid:%s", text);
	snprintf(v->serial, sizeof(v->serial), "PS");
	for (size_t i = 0; n < sizeof(v->serial) - 1; i++)
		if (text[i] != '-')
			v->serial[n++] = text[i];
	v->nsid = CAT_NSID;
}

struct create_request {
	const char *name, *tenant, *profile, *pool, *source;
	const struct cat_snapshot *snapshot; /* of source */
	uint64_t size_bytes;
	struct cat_tenant *t;
	struct cat_profile *p;
	unsigned pool_index; /* of pool; the first if there is no wish */
};

/* A clone begins as large as its snapshot, in its pool, and may be larger. */
static bool create_lookup_source(struct pst_catalog *c, struct create_request *r)
{
	const struct cat_snapshot *s = cat_snapshot_of(c, c->current, r->source);

	if (s == NULL || !cat_snapshot_shown(s)) {
		cat_fail(c, PST_E_NOTFOUND, "penstock snapshot list", "there is no snapshot '%s'", r->source);
	} else if (s->state != CAT_READY) {
		cat_fail(c, PST_E_BUSY, "penstock snapshot list", "snapshot '%s' is %s and can't be cloned", r->source,
			 cat_state_names[s->state]);
	} else if (r->pool != NULL && strcmp(r->pool, c->pools[s->volume->pool].name) != 0) {
		cat_fail(c, PST_E_INVAL, "leave out the pool, or copy the data",
			 "snapshot '%s' lies in pool '%s': its clones do too", r->source,
			 c->pools[s->volume->pool].name);
	} else if (json_object_get(c->current->body, "size_bytes") != NULL && r->size_bytes < s->size_bytes) {
		cat_fail(c, PST_E_INVAL, "leave out the size: a clone is as large as its snapshot",
			 "volume '%s' can't be smaller than snapshot '%s' of %" PRIu64 " bytes", r->name, r->source,
			 s->size_bytes);
	} else {
		r->snapshot = s;
		r->pool = c->pools[s->volume->pool].name;
		r->size_bytes = PST_MAX(r->size_bytes, s->size_bytes);
		return true;
	}
	return false;
}

static bool create_lookup(struct pst_catalog *c, struct create_request *r)
{
	r->t = c->current->tenant == NULL || strcmp(c->current->tenant, r->tenant) == 0 ? cat_tenant_find(c, r->tenant)
											: NULL;
	r->p = cat_profile_find(c, r->profile);
	if (cat_volume_find(c, r->name) != NULL)
		cat_fail(c, PST_E_EXISTS, "penstock volume list", "volume '%s' exists already", r->name);
	else if (r->t == NULL)
		cat_fail(c, PST_E_NOTFOUND, "penstock tenant list", "there is no tenant '%s'", r->tenant);
	else if (r->p == NULL)
		cat_fail(c, PST_E_NOTFOUND, "penstock profile list", "there is no profile '%s'", r->profile);
	else if (r->pool != NULL && !cat_pool_find(c, r->pool, &r->pool_index))
		cat_fail(c, PST_E_NOTFOUND, "penstock pool list", "there is no pool '%s'", r->pool);
	else if (cat_names_count(&c->volumes) >= PST_CATALOG_VOLUMES_MAX)
		cat_fail(c, PST_E_NOMEM, "penstock volume delete NAME", "there are %u volumes, the most allowed",
			 cat_names_count(&c->volumes));
	else
		return cat_tenant_quota(c, r->t, r->name, r->size_bytes);
	return false;
}

/* Sizes are whole blocks: rounded up, as people type 500G. */
static bool size_check(struct pst_catalog *c, const char *name, uint64_t *size_bytes)
{
	if (*size_bytes == 0 || *size_bytes > (uint64_t)INT64_MAX - PST_BLOCK_BYTES) {
		cat_fail(c, PST_E_INVAL, "penstock volume create NAME --size 10Gi",
			 "volume '%s' needs a size_bytes of at least 1 and below 2^63", name);
		return false;
	}
	*size_bytes = pst_round_up(*size_bytes, PST_BLOCK_BYTES);
	return true;
}

/* on_full and reserved_bytes into c->job; false after cat_fail. */
static bool body_settings(struct pst_catalog *c)
{
	uint64_t reserved_bytes = 0;
	const char *on_full = NULL;

	c->job.sets_on_full = c->job.sets_reserved = false;
	if (!cat_body_text(c, "on_full", 16, &on_full) || !cat_body_u64(c, "reserved_bytes", &reserved_bytes))
		return false;
	if (on_full != NULL && strcmp(on_full, "fail") != 0 && strcmp(on_full, "pause") != 0) {
		cat_fail(c, PST_E_INVAL, NULL, "on_full must be \"fail\" or \"pause\"");
		return false;
	}
	c->job.sets_on_full = on_full != NULL;
	c->job.sets_reserved = json_object_get(c->current->body, "reserved_bytes") != NULL;
	c->job.settings.on_full =
	    on_full != NULL && strcmp(on_full, "pause") == 0 ? PST_ON_FULL_PAUSE : PST_ON_FULL_FAIL;
	c->job.settings.reserved_blocks = pst_div_round_up(reserved_bytes, PST_BLOCK_BYTES);
	return true;
}

static void volume_create(struct pst_catalog *c)
{
	static const char *const allowed[] = { "name",          "size_bytes", "tenant",  "profile",        "pool",
					       "policy",        "source",     "on_full", "reserved_bytes", "encrypted",
					       "allowed_hosts", "ana_group",  NULL };
	struct create_request r = { .tenant = c->current->tenant != NULL ? c->current->tenant : "default",
				    .profile = "general" };
	struct pst_qos_policy policy;
	struct cat_volume *v;

	if (!cat_body_check(c, allowed) || !cat_body_name(c, &r.name) ||
	    !cat_body_u64(c, "size_bytes", &r.size_bytes) || !cat_body_text(c, "tenant", PST_NAME_MAX, &r.tenant) ||
	    !cat_body_text(c, "profile", PST_NAME_MAX, &r.profile) ||
	    !cat_body_text(c, "pool", PST_NAME_MAX, &r.pool) ||
	    !cat_body_text(c, "source", CAT_SNAPSHOT_NAME_MAX, &r.source) ||
	    (r.source != NULL && !create_lookup_source(c, &r)) || !size_check(c, r.name, &r.size_bytes) ||
	    !create_lookup(c, &r))
		return;
	policy = r.p->policy;
	if (!cat_body_policy(c, &policy) || !body_settings(c))
		return;
	v = cat_volume_new(c, r.name);
	if (v == NULL)
		return cat_fail(c, PST_E_NOMEM, NULL, "no memory for volume '%s'", r.name);
	v->state = CAT_CREATING;
	v->tenant = r.t;
	v->pool = r.pool_index;
	v->policy = policy;
	v->create_blocks = r.size_bytes / PST_BLOCK_BYTES;
	v->ana_group = 1;
	snprintf(v->profile, sizeof(v->profile), "%s", r.profile);
	if (r.snapshot != NULL) {
		snprintf(v->source, sizeof(v->source), "%s", r.source);
		memcpy(v->source_uuid, r.snapshot->uuid, sizeof(v->source_uuid));
		v->source_blocks = r.snapshot->size_bytes / PST_BLOCK_BYTES;
	}
	identity_new(c, v);
	if (!cat_ana_group_want(c, &v->ana_group) ||
	    !cat_key_want(c, v, r.name, r.snapshot != NULL ? r.snapshot->volume : NULL) ||
	    !cat_allow_want(c, r.name, r.snapshot != NULL ? r.snapshot->volume : NULL, &v->allowed))
		return cat_volume_free(c, v);
	c->rate_refused = false;
	cat_volume_job(c, v, CAT_PROGRAM_CREATE, volume_created);
}

static void volume_deleted(struct pst_catalog *c, struct cat_volume *v, pst_err err)
{
	if (err == PST_OK) {
		cat_volume_free(c, v);
		return cat_succeed(c, NULL);
	}
	if (v->subsystem != NULL)
		v->state = CAT_READY; /* not even marked */
	else
		v->error = err;
	cat_fail(c, err, "penstock pool list", "volume '%s' could not be deleted: %s", v->name, pst_err_text(err));
}

static void volume_delete(struct pst_catalog *c, struct cat_volume *v)
{
	uint32_t hosts = v->subsystem != NULL ? pst_subsystem_host_count(v->subsystem) : 0;
	unsigned snapshots = cat_names_count(&v->snapshots);
	char hint[200];

	if (hosts > 0 && !c->current->force) {
		snprintf(hint, sizeof(hint),
			 "unmount and disconnect it there first, or: penstock volume delete %s --force", v->name);
		return cat_fail(c, PST_E_BUSY, hint, "volume '%s' is in use: %u host%s connected", v->name, hosts,
				hosts == 1 ? " is" : "s are");
	}
	if (snapshots > 0 && !c->current->with_snapshots && v->state != CAT_DELETING) {
		snprintf(hint, sizeof(hint),
			 "penstock snapshot list %s, then: penstock volume delete %s --with-snapshots", v->name,
			 v->name);
		return cat_fail(c, PST_E_BUSY, hint, "volume '%s' has %u snapshot%s, which would go with it", v->name,
				snapshots, snapshots == 1 ? "" : "s");
	}
	v->state = CAT_DELETING;
	cat_volume_job(c, v, CAT_PROGRAM_DELETE, volume_deleted);
}

static void volume_resized(struct pst_catalog *c, struct cat_volume *v, pst_err err)
{
	const char *pool = c->pools[v->pool].name;

	if (err == PST_OK) {
		pst_volume_resized(v->volume);
		pst_subsystem_resized(v->subsystem);
		return cat_succeed(c, cat_volume_json(c, v));
	}
	if (err == PST_E_BUSY)
		cat_fail(c, err, "shrink the file system and discard what is behind its end, or choose a larger --size",
			 "volume '%s' holds data behind the size asked for: shrinking it would lose that data",
			 v->name);
	else
		cat_fail(c, err, "penstock pool list", "volume '%s' in pool '%s' was not resized: %s", v->name, pool,
			 pst_err_text(err));
}

static void volume_resize(struct pst_catalog *c, struct cat_volume *v)
{
	uint64_t have = cat_volume_bytes(v), size_bytes = 0;
	uint32_t hosts = pst_subsystem_host_count(v->subsystem);
	char hint[200];

	if (!cat_body_u64(c, "size_bytes", &size_bytes) || !size_check(c, v->name, &size_bytes))
		return;
	if (size_bytes > have && !cat_tenant_quota(c, v->tenant, v->name, size_bytes - have))
		return;
	if (size_bytes < have && hosts > 0 && !c->current->force) {
		snprintf(hint, sizeof(hint), "disconnect first, or: penstock volume resize %s --size SIZE --force",
			 v->name);
		return cat_fail(c, PST_E_BUSY, hint, "volume '%s' can't shrink in use: %u host%s connected", v->name,
				hosts, hosts == 1 ? " is" : "s are");
	}
	c->job.resize_blocks = size_bytes / PST_BLOCK_BYTES;
	cat_volume_job(c, v, CAT_PROGRAM_RESIZE, volume_resized);
}

static void volume_set_done(struct pst_catalog *c, struct cat_volume *v, pst_err err)
{
	if (err != PST_OK) {
		pst_err back = pst_qos_flow_set(v->flow, &c->old_policy);

		pst_assert(back == PST_OK); /* it was in force a moment ago */
		v->policy = c->old_policy;
		return cat_fail(c, err, "penstock pool list", "the change of volume '%s' could not be recorded: %s",
				v->name, pst_err_text(err));
	}
	cat_succeed(c, cat_volume_json(c, v));
}

static void volume_settings_done(struct pst_catalog *c, struct cat_volume *v, pst_err err)
{
	const char *pool = c->pools[v->pool].name;

	if (err == PST_OK)
		return cat_succeed(c, cat_volume_json(c, v));
	if (err == PST_E_NOSPACE)
		cat_fail(c, err, "penstock pool list",
			 "pool '%s' has not enough free space to reserve that for volume '%s'", pool, v->name);
	else
		cat_fail(c, err, "penstock pool list", "the settings of volume '%s' in pool '%s' were not changed: %s",
			 v->name, pool, pst_err_text(err));
}

static bool sets_hosts(const json_t *body)
{
	return json_object_get(body, "allowed_hosts") != NULL || json_object_get(body, "allow_host") != NULL ||
	       json_object_get(body, "deny_host") != NULL || json_object_get(body, "any_host") != NULL;
}

/* Size, policy, hosts and settings are different steps: each would be done without the others if a crash came between.
 */
static bool set_one_of(struct pst_catalog *c)
{
	const json_t *body = c->current->body;
	bool settings = json_object_get(body, "on_full") != NULL || json_object_get(body, "reserved_bytes") != NULL;
	bool size = json_object_get(body, "size_bytes") != NULL, policy = json_object_get(body, "policy") != NULL;
	bool group = json_object_get(body, "ana_group") != NULL, attached = json_object_get(body, "attached") != NULL;

	if (settings + size + policy + group + attached + sets_hosts(body) <= 1)
		return true;
	cat_fail(c, PST_E_INVAL, NULL,
		 "size_bytes, policy, hosts, ana_group, attached, and on_full with reserved_bytes must be changed by "
		 "separate "
		 "requests");
	return false;
}

static void volume_set(struct pst_catalog *c, struct cat_volume *v)
{
	static const char *const allowed[] = { "size_bytes",    "policy",     "on_full",   "reserved_bytes",
					       "allowed_hosts", "allow_host", "deny_host", "any_host",
					       "ana_group",     "attached",   NULL };
	struct pst_qos_policy policy = v->policy;
	json_t *body = c->current->body;
	pst_err err;

	if (!cat_body_check(c, allowed) || !set_one_of(c) || !cat_body_policy(c, &policy) || !body_settings(c))
		return;
	if (v->state != CAT_READY)
		return cat_fail(c, PST_E_BUSY, "penstock volume show NAME", "volume '%s' is %s and can't be changed",
				v->name, cat_state_names[v->state]);
	if (sets_hosts(body))
		return cat_allow_set(c, v);
	if (json_object_get(body, "ana_group") != NULL)
		return cat_ana_group_set(c, v);
	if (json_object_get(body, "attached") != NULL)
		return cat_attached_set(c, v);
	if (cat_key_refuses(c, v))
		return;
	if (json_object_get(body, "size_bytes") != NULL)
		return volume_resize(c, v);
	if (c->job.sets_on_full || c->job.sets_reserved)
		return cat_volume_job(c, v, CAT_PROGRAM_SETTINGS, volume_settings_done);
	err = pst_qos_flow_set(v->flow, &policy);
	if (err != PST_OK)
		return cat_fail_policy(c, err, "volume", v->name);
	c->old_policy = v->policy;
	v->policy = policy;
	cat_volume_job(c, v, CAT_PROGRAM_STORE, volume_set_done);
}

static void volume_rolled_back(struct pst_catalog *c, struct cat_volume *v, pst_err err)
{
	const char *snapshot = json_string_value(json_object_get(c->current->body, "snapshot"));

	if (v->subsystem == NULL && !v->locked) {
		v->state = CAT_FAILED;
		v->error = err;
	}
	if (err == PST_OK)
		return cat_succeed(c, cat_volume_json(c, v));
	if (err == PST_E_INVAL)
		cat_fail(c, err, "penstock snapshot list",
			 "volume '%s' can't become snapshot '%s': they don't descend from one volume", v->name,
			 snapshot);
	else
		cat_fail(c, err, "penstock volume show NAME", "volume '%s' was not rolled back to '%s': %s%s", v->name,
			 snapshot, pst_err_text(err), v->subsystem == NULL ? "; it is out of service" : "");
}

/* Hosts keep what they have read: one that stays connected would go on with a mixture of then and now. */
static void volume_rollback(struct pst_catalog *c, struct cat_volume *v)
{
	static const char *const allowed[] = { "snapshot", NULL };
	const char *name = NULL;
	const struct cat_snapshot *s;
	uint32_t hosts;
	char hint[200];

	if (!cat_body_check(c, allowed) || !cat_body_text(c, "snapshot", CAT_SNAPSHOT_NAME_MAX, &name))
		return;
	s = name != NULL ? cat_snapshot_of(c, c->current, name) : NULL;
	if (name == NULL)
		return cat_fail(c, PST_E_INVAL, "penstock snapshot rollback VOLUME@NAME", "snapshot is missing");
	if (s == NULL || s->state != CAT_READY)
		return cat_fail(c, PST_E_NOTFOUND, "penstock snapshot list", "there is no snapshot '%s'", name);
	if (v->state != CAT_READY)
		return cat_fail(c, PST_E_BUSY, "penstock volume show NAME", "volume '%s' is %s and can't be changed",
				v->name, cat_state_names[v->state]);
	if (cat_key_refuses(c, v))
		return;
	if (s->volume->pool != v->pool)
		return cat_fail(c, PST_E_INVAL, "penstock snapshot list",
				"volume '%s' and snapshot '%s' lie in different pools", v->name, name);
	hosts = pst_subsystem_host_count(v->subsystem);
	if (hosts > 0 && !c->current->force) {
		snprintf(hint, sizeof(hint),
			 "unmount and disconnect it there first, or: penstock snapshot rollback %.100s --force", name);
		return cat_fail(c, PST_E_BUSY, hint, "volume '%s' can't be rolled back in use: %u host%s connected",
				v->name, hosts, hosts == 1 ? " is" : "s are");
	}
	if (s->size_bytes > cat_volume_bytes(v) &&
	    !cat_tenant_quota(c, v->tenant, v->name, s->size_bytes - cat_volume_bytes(v)))
		return;
	memcpy(c->job.snapshot, s->uuid, sizeof(s->uuid));
	cat_volume_job(c, v, CAT_PROGRAM_ROLLBACK, volume_rolled_back);
}

void cat_volume_change(struct pst_catalog *c)
{
	struct pst_catalog_op *op = c->current;
	struct cat_volume *v;

	if (op->kind == PST_CATALOG_CREATE)
		return volume_create(c);
	v = cat_volume_of(c, op, op->name);
	if (v == NULL)
		cat_fail(c, PST_E_NOTFOUND, "penstock volume list", "there is no volume '%.63s'", op->name);
	else if (op->kind == PST_CATALOG_SET)
		volume_set(c, v);
	else if (op->kind == PST_CATALOG_ROLLBACK)
		volume_rollback(c, v);
	else
		volume_delete(c, v);
}

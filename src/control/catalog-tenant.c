/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tenants and profiles. Each change is one durable step, the record: what is in memory (and in the scheduler, which may
 * refuse a policy) changes first and is taken back if the record fails.
 *
 * A tenant has one scheduler group per pool: there is one scheduler per device, so its policy holds on each pool.
 */
#include "control/catalog-internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void set_name(char to[PST_NAME_MAX + 1], const char *name)
{
	snprintf(to, PST_NAME_MAX + 1, "%s", name);
}

/* ---- Tenants ---- */

struct cat_tenant *cat_tenant_find(struct pst_catalog *c, const char *name)
{
	struct cat_named *n = cat_names_find(&c->tenants, name);

	return n != NULL ? pst_container_of(n, struct cat_tenant, named) : NULL;
}

static struct cat_tenant *tenant_new(const char *name)
{
	struct cat_tenant *t = calloc(1, sizeof(*t));

	if (t == NULL)
		return NULL;
	set_name(t->name, name);
	t->policy = pst_policy_default;
	return t;
}

static void tenant_free(struct pst_catalog *c, struct cat_tenant *t)
{
	for (unsigned i = 0; i < c->pool_count; i++)
		if (t->groups[i] != NULL)
			pst_qos_group_free(t->groups[i]);
	cat_names_remove(&c->tenants, &t->named);
	free(t);
}

/* On every pool or on none. New groups are made where there are none yet. */
static pst_err tenant_apply(struct pst_catalog *c, struct cat_tenant *t, const struct pst_qos_policy *policy)
{
	bool made[PST_CATALOG_POOLS_MAX] = { false };
	pst_err err = PST_OK;
	unsigned i;

	for (i = 0; i < c->pool_count && err == PST_OK; i++) {
		made[i] = t->groups[i] == NULL;
		err = made[i] ? pst_qos_group_new(c->pools[i].qos, policy, &t->groups[i])
			      : pst_qos_group_set(t->groups[i], policy);
	}
	if (err == PST_OK) {
		t->policy = *policy;
		return PST_OK;
	}
	for (i--; i-- > 0;) {
		if (made[i]) {
			pst_qos_group_free(t->groups[i]);
			t->groups[i] = NULL;
		} else {
			pst_err back = pst_qos_group_set(t->groups[i], &t->policy);

			pst_assert(back == PST_OK); /* it was in force a moment ago */
		}
	}
	return err;
}

pst_err cat_tenants_on_pool(struct pst_catalog *c, unsigned pool)
{
	CAT_NAMES_EACH(n, &c->tenants) {
		struct cat_tenant *t = pst_container_of(n, struct cat_tenant, named);
		struct pst_qos_policy policy = t->policy;
		pst_err err;

		if (t->groups[pool] != NULL)
			continue;
		err = pst_qos_group_new(c->pools[pool].qos, &policy, &t->groups[pool]);
		if (err == PST_E_NOSPACE || err == PST_E_INVAL) {
			/* The device's stated capacity was reduced: serve, but without a promise that can't be kept. */
			cat_event(c, pool, PST_LOG_WARN,
				  "reservation_dropped tenant=%s pool=%s next=\"lower the tenant's reservation or "
				  "raise --capacity\"",
				  t->name, c->pools[pool].name);
			policy.reserve_iops = policy.reserve_bytes_per_s = 0;
			err = pst_qos_group_new(c->pools[pool].qos, &policy, &t->groups[pool]);
		}
		if (err != PST_OK)
			return err;
	}
	return PST_OK;
}

static json_t *tenant_record(const struct cat_tenant *t)
{
	return json_pack("{s:i s:I s:o}", "format", CAT_RECORD_FORMAT, "quota_bytes", (json_int_t)t->quota_bytes,
			 "policy", pst_policy_to_json(&t->policy));
}

pst_err cat_tenant_load(struct pst_catalog *c, unsigned pool, const char *name, json_t *record)
{
	struct cat_tenant *t = cat_tenant_find(c, name), *fresh = NULL;
	struct pst_qos_policy policy = pst_policy_default;
	json_int_t quota;
	char message[200];
	json_t *json;

	if (json_unpack(record, "{s:I s:o}", "quota_bytes", &quota, "policy", &json) != 0 || quota < 0 ||
	    pst_policy_from_json(&policy, json, message, sizeof(message)) != PST_OK)
		return PST_E_FORMAT;
	if (t != NULL && strcmp(name, "default") != 0) {
		pst_env_log(c->env, PST_LOG_WARN, "tenant_in_two_pools tenant=%s used_from=%s ignored_from=%s", name,
			    c->pools[t->home].name, c->pools[pool].name);
		return PST_OK;
	}
	if (t == NULL)
		t = fresh = tenant_new(name);
	if (t == NULL)
		return PST_E_NOMEM;
	t->quota_bytes = (uint64_t)quota;
	t->policy = policy;
	t->home = pool;
	if (fresh != NULL)
		cat_names_add(&c->tenants, &t->named, t->name);
	return PST_OK;
}

struct usage {
	uint64_t provisioned_bytes, used_bytes;
	unsigned volumes;
};

static struct usage tenant_usage(struct pst_catalog *c, const struct cat_tenant *t)
{
	struct usage u = { 0 };

	CAT_NAMES_EACH(n, &c->volumes) {
		struct cat_volume *v = pst_container_of(n, struct cat_volume, named);
		struct cat_usage used;

		if (v->tenant != t || v->state == CAT_CREATING)
			continue;
		cat_volume_usage(c, v, &used);
		u.provisioned_bytes += cat_volume_bytes(v);
		u.used_bytes += used.own_bytes + cat_snapshots_own(v);
		u.volumes++;
	}
	return u;
}

json_t *cat_tenant_json(struct pst_catalog *c, const struct cat_tenant *t)
{
	struct usage u = tenant_usage(c, t);

	return json_pack("{s:s s:I s:I s:I s:I s:o}", "name", t->name, "quota_bytes", (json_int_t)t->quota_bytes,
			 "provisioned_bytes", (json_int_t)u.provisioned_bytes, "used_bytes", (json_int_t)u.used_bytes,
			 "volumes", (json_int_t)u.volumes, "policy", pst_policy_to_json(&t->policy));
}

bool cat_tenant_quota(struct pst_catalog *c, const struct cat_tenant *t, const char *volume, uint64_t more_bytes)
{
	uint64_t have = t->quota_bytes != 0 ? tenant_usage(c, t).provisioned_bytes : 0;
	uint64_t left = t->quota_bytes > have ? t->quota_bytes - have : 0;
	char hint[200];

	if (t->quota_bytes == 0 || more_bytes <= left)
		return true;
	pst_env_log(c->env, PST_LOG_WARN,
		    "quota_exceeded tenant=%s volume=%s needs_bytes=%" PRIu64 " left_bytes=%" PRIu64
		    " quota_bytes=%" PRIu64
		    " next=\"nothing has changed; raise the quota, or delete or shrink volumes\"",
		    t->name, volume, more_bytes, left, t->quota_bytes);
	if (c->current->tenant != NULL) /* who may not set it */
		snprintf(hint, sizeof(hint),
			 "delete or shrink volumes (penstock volume list), or ask an operator for more");
	else
		snprintf(hint, sizeof(hint), "penstock tenant set %s --quota SIZE, or delete or shrink volumes of it",
			 t->name);
	cat_fail(c, PST_E_QUOTA, hint,
		 "volume '%s' needs %" PRIu64 " bytes more, but tenant '%s' has %" PRIu64
		 " left of its quota of %" PRIu64 " bytes",
		 volume, more_bytes, t->name, left, t->quota_bytes);
	return false;
}

static void tenant_created(struct pst_catalog *c, pst_err err)
{
	struct cat_tenant *t = c->subject;

	if (err != PST_OK) {
		char name[PST_NAME_MAX + 1];

		set_name(name, t->name);
		tenant_free(c, t);
		cat_fail(c, err, "penstock pool list", "tenant '%s' could not be recorded: %s", name,
			 pst_err_text(err));
		return;
	}
	cat_succeed(c, cat_tenant_json(c, t));
}

static void tenant_create(struct pst_catalog *c)
{
	static const char *const allowed[] = { "name", "quota_bytes", "policy", NULL };
	struct pst_qos_policy policy = pst_policy_default;
	uint64_t quota_bytes = 0;
	struct cat_tenant *t;
	const char *name;
	pst_err err;

	if (!cat_body_check(c, allowed) || !cat_body_name(c, &name) || !cat_body_policy(c, &policy) ||
	    !cat_body_u64(c, "quota_bytes", &quota_bytes))
		return;
	if (cat_tenant_find(c, name) != NULL)
		return cat_fail(c, PST_E_EXISTS, "penstock tenant list", "tenant '%s' exists already", name);
	if (cat_names_count(&c->tenants) >= PST_CATALOG_TENANTS_MAX)
		return cat_fail(c, PST_E_NOMEM, "penstock tenant delete NAME", "there are %u tenants, the most allowed",
				cat_names_count(&c->tenants));
	t = tenant_new(name);
	if (t == NULL)
		return cat_fail(c, PST_E_NOMEM, NULL, "no memory for tenant '%s'", name);
	t->quota_bytes = quota_bytes;
	t->home = CAT_HOME;
	err = tenant_apply(c, t, &policy);
	if (err != PST_OK) {
		cat_fail_policy(c, err, "tenant", name);
		free(t);
		return;
	}
	cat_names_add(&c->tenants, &t->named, t->name);
	c->subject = t;
	cat_record_put(c, t->home, "tenant", t->name, tenant_record(t), tenant_created);
}

static void tenant_set_done(struct pst_catalog *c, pst_err err)
{
	struct cat_tenant *t = c->subject;

	if (err != PST_OK) {
		pst_err back = tenant_apply(c, t, &c->old_policy);

		pst_assert(back == PST_OK);
		t->quota_bytes = c->old_quota_bytes;
		cat_fail(c, err, "penstock pool list", "the change of tenant '%s' could not be recorded: %s", t->name,
			 pst_err_text(err));
		return;
	}
	cat_succeed(c, cat_tenant_json(c, t));
}

static void tenant_set(struct pst_catalog *c, struct cat_tenant *t)
{
	static const char *const allowed[] = { "quota_bytes", "policy", NULL };
	struct pst_qos_policy policy = t->policy;
	uint64_t quota_bytes = t->quota_bytes, have;
	pst_err err;

	if (!cat_body_check(c, allowed) || !cat_body_policy(c, &policy) ||
	    !cat_body_u64(c, "quota_bytes", &quota_bytes))
		return;
	have = tenant_usage(c, t).provisioned_bytes;
	if (quota_bytes != t->quota_bytes && quota_bytes != 0 && quota_bytes < have)
		return cat_fail(c, PST_E_QUOTA, "penstock volume list",
				"tenant '%s' has volumes of %" PRIu64 " bytes already, more than a quota of %" PRIu64,
				t->name, have, quota_bytes);
	c->old_policy = t->policy;
	c->old_quota_bytes = t->quota_bytes;
	err = tenant_apply(c, t, &policy);
	if (err != PST_OK)
		return cat_fail_policy(c, err, "tenant", t->name);
	t->quota_bytes = quota_bytes;
	c->subject = t;
	cat_record_put(c, t->home, "tenant", t->name, tenant_record(t), tenant_set_done);
}

static void tenant_deleted(struct pst_catalog *c, pst_err err)
{
	struct cat_tenant *t = c->subject;

	if (err != PST_OK && err != PST_E_NOTFOUND)
		return cat_fail(c, err, "penstock pool list", "tenant '%s' could not be deleted: %s", t->name,
				pst_err_text(err));
	tenant_free(c, t);
	cat_succeed(c, NULL);
}

static void tenant_delete(struct pst_catalog *c, struct cat_tenant *t)
{
	unsigned volumes = tenant_usage(c, t).volumes, tokens = cat_tokens_of(c, t->name);

	if (strcmp(t->name, "default") == 0)
		return cat_fail(c, PST_E_INVAL, NULL, "tenant 'default' always exists");
	if (volumes > 0)
		return cat_fail(c, PST_E_BUSY, "penstock volume list", "tenant '%s' has %u volume%s", t->name, volumes,
				volumes == 1 ? "" : "s");
	if (tokens > 0)
		return cat_fail(c, PST_E_BUSY, "penstock token list, then: penstock token revoke NAME",
				"tenant '%s' has %u token%s, which a later tenant of this name would inherit", t->name,
				tokens, tokens == 1 ? "" : "s");
	c->subject = t;
	cat_record_delete(c, t->home, "tenant", t->name, tenant_deleted);
}

void cat_tenant_change(struct pst_catalog *c)
{
	struct pst_catalog_op *op = c->current;
	struct cat_tenant *t;

	if (op->kind == PST_CATALOG_CREATE)
		return tenant_create(c);
	t = cat_tenant_find(c, op->name);
	if (t == NULL)
		cat_fail(c, PST_E_NOTFOUND, "penstock tenant list", "there is no tenant '%.63s'", op->name);
	else if (op->kind == PST_CATALOG_SET)
		tenant_set(c, t);
	else
		tenant_delete(c, t);
}

/* ---- Profiles ---- */

struct cat_profile *cat_profile_find(struct pst_catalog *c, const char *name)
{
	struct cat_named *n = cat_names_find(&c->profiles, name);

	return n != NULL ? pst_container_of(n, struct cat_profile, named) : NULL;
}

static struct cat_profile *profile_add(struct pst_catalog *c, const char *name, const char *summary,
				       const struct pst_qos_policy *policy, unsigned home, bool builtin)
{
	struct cat_profile *p = calloc(1, sizeof(*p));

	if (p == NULL)
		return NULL;
	set_name(p->name, name);
	snprintf(p->summary, sizeof(p->summary), "%s", summary);
	p->policy = *policy;
	p->home = home;
	p->builtin = builtin;
	cat_names_add(&c->profiles, &p->named, p->name);
	c->site_profile_count += !builtin;
	return p;
}

static void profile_free(struct pst_catalog *c, struct cat_profile *p)
{
	cat_names_remove(&c->profiles, &p->named);
	c->site_profile_count -= !p->builtin;
	free(p);
}

json_t *cat_profile_json(const struct cat_profile *p)
{
	return json_pack("{s:s s:s s:b s:o}", "name", p->name, "summary", p->summary, "builtin", p->builtin, "policy",
			 pst_policy_to_json(&p->policy));
}

static json_t *profile_record(const struct cat_profile *p)
{
	return json_pack("{s:i s:s s:o}", "format", CAT_RECORD_FORMAT, "summary", p->summary, "policy",
			 pst_policy_to_json(&p->policy));
}

pst_err cat_profile_load(struct pst_catalog *c, unsigned pool, const char *name, json_t *record)
{
	struct pst_qos_policy policy = pst_policy_default;
	char message[200];
	const char *summary;
	json_t *json;

	if (json_unpack(record, "{s:s s:o}", "summary", &summary, "policy", &json) != 0 ||
	    pst_policy_from_json(&policy, json, message, sizeof(message)) != PST_OK)
		return PST_E_FORMAT;
	if (cat_profile_find(c, name) != NULL) {
		pst_env_log(c->env, PST_LOG_WARN, "profile_twice profile=%s ignored_from=%s", name,
			    c->pools[pool].name);
		return PST_OK;
	}
	return profile_add(c, name, summary, &policy, pool, false) != NULL ? PST_OK : PST_E_NOMEM;
}

pst_err cat_builtins(struct pst_catalog *c)
{
	struct cat_tenant *t = tenant_new("default");

	if (t == NULL)
		return PST_E_NOMEM;
	cat_names_add(&c->tenants, &t->named, t->name);
	for (const struct pst_profile *b = pst_profiles; b->name != NULL; b++)
		if (profile_add(c, b->name, b->summary, &b->policy, CAT_HOME, true) == NULL)
			return PST_E_NOMEM;
	return PST_OK;
}

static void profile_created(struct pst_catalog *c, pst_err err)
{
	struct cat_profile *p = c->subject;

	if (err != PST_OK) {
		char name[PST_NAME_MAX + 1];

		set_name(name, p->name);
		profile_free(c, p);
		cat_fail(c, err, "penstock pool list", "profile '%s' could not be recorded: %s", name,
			 pst_err_text(err));
		return;
	}
	cat_succeed(c, cat_profile_json(p));
}

/* The scheduler checks policies in force; a profile's isn't yet. */
static bool profile_policy_ok(struct pst_catalog *c, const struct pst_qos_policy *p, const char *name)
{
	if ((p->limit_iops != 0 && p->reserve_iops > p->limit_iops) ||
	    (p->limit_bytes_per_s != 0 && p->reserve_bytes_per_s > p->limit_bytes_per_s)) {
		cat_fail_policy(c, PST_E_INVAL, "profile", name);
		return false;
	}
	return true;
}

static void profile_create(struct pst_catalog *c)
{
	static const char *const allowed[] = { "name", "summary", "policy", NULL };
	struct pst_qos_policy policy = pst_policy_default;
	const char *name, *summary = "";

	if (!cat_body_check(c, allowed) || !cat_body_name(c, &name) || !cat_body_policy(c, &policy) ||
	    !cat_body_text(c, "summary", CAT_SUMMARY_MAX, &summary) || !profile_policy_ok(c, &policy, name))
		return;
	if (cat_profile_find(c, name) != NULL)
		return cat_fail(c, PST_E_EXISTS, "penstock profile list", "profile '%s' exists already", name);
	if (c->site_profile_count >= PST_CATALOG_PROFILES_MAX)
		return cat_fail(c, PST_E_NOMEM, "penstock profile delete NAME",
				"there are %u profiles of this site, the most allowed", c->site_profile_count);
	c->subject = profile_add(c, name, summary, &policy, CAT_HOME, false);
	if (c->subject == NULL)
		return cat_fail(c, PST_E_NOMEM, NULL, "no memory for profile '%s'", name);
	cat_record_put(c, CAT_HOME, "profile", name, profile_record(c->subject), profile_created);
}

static void profile_set_done(struct pst_catalog *c, pst_err err)
{
	struct cat_profile *p = c->subject;

	if (err != PST_OK) {
		p->policy = c->old_policy;
		memcpy(p->summary, c->old_summary, sizeof(p->summary));
		cat_fail(c, err, "penstock pool list", "the change of profile '%s' could not be recorded: %s", p->name,
			 pst_err_text(err));
		return;
	}
	cat_succeed(c, cat_profile_json(p));
}

static void profile_set(struct pst_catalog *c, struct cat_profile *p)
{
	static const char *const allowed[] = { "summary", "policy", NULL };
	struct pst_qos_policy policy = p->policy;
	const char *summary = NULL;

	if (!cat_body_check(c, allowed) || !cat_body_policy(c, &policy) ||
	    !cat_body_text(c, "summary", CAT_SUMMARY_MAX, &summary) || !profile_policy_ok(c, &policy, p->name))
		return;
	c->old_policy = p->policy;
	memcpy(c->old_summary, p->summary, sizeof(p->summary));
	p->policy = policy;
	if (summary != NULL)
		snprintf(p->summary, sizeof(p->summary), "%s", summary);
	c->subject = p;
	cat_record_put(c, p->home, "profile", p->name, profile_record(p), profile_set_done);
}

static void profile_deleted(struct pst_catalog *c, pst_err err)
{
	struct cat_profile *p = c->subject;

	if (err != PST_OK && err != PST_E_NOTFOUND)
		return cat_fail(c, err, "penstock pool list", "profile '%s' could not be deleted: %s", p->name,
				pst_err_text(err));
	profile_free(c, p);
	cat_succeed(c, NULL);
}

static void profile_delete(struct pst_catalog *c, struct cat_profile *p)
{
	CAT_NAMES_EACH(n, &c->volumes) {
		const struct cat_volume *v = pst_container_of(n, struct cat_volume, named);

		if (strcmp(v->profile, p->name) == 0)
			return cat_fail(c, PST_E_BUSY, "penstock volume list", "profile '%s' is used by volume '%s'",
					p->name, v->name);
	}
	c->subject = p;
	cat_record_delete(c, p->home, "profile", p->name, profile_deleted);
}

void cat_profile_change(struct pst_catalog *c)
{
	struct pst_catalog_op *op = c->current;
	struct cat_profile *p;

	if (op->kind == PST_CATALOG_CREATE)
		return profile_create(c);
	p = cat_profile_find(c, op->name);
	if (p == NULL)
		cat_fail(c, PST_E_NOTFOUND, "penstock profile list", "there is no profile '%.63s'", op->name);
	else if (p->builtin)
		cat_fail(c, PST_E_INVAL, "penstock profile create NAME",
			 "profile '%s' is built in and can't be changed; define one of your own", p->name);
	else if (op->kind == PST_CATALOG_SET)
		profile_set(c, p);
	else
		profile_delete(c, p);
}

void cat_tenants_free(struct pst_catalog *c)
{
	CAT_NAMES_EACH(n, &c->tenants)
		tenant_free(c, pst_container_of(n, struct cat_tenant, named));
	CAT_NAMES_EACH(m, &c->profiles)
		profile_free(c, pst_container_of(m, struct cat_profile, named));
}

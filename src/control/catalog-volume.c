/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Volumes: what is done to one is a program, a row of steps. Each step that is durable commits alone, so a crash lands
 * between two of them, and the record tells the next start what to do:
 *
 *   create   intent* make* open serve commit*    record "creating" until commit: a crash undoes it
 *   undo     unserve close remove* forget*       also what a failed create runs
 *   delete   mark* unserve close remove* forget* record "deleting" from mark on: a crash completes it
 *   start    open serve                          record "ready"
 *   resize   resize*                             the pool holds the size, the record doesn't
 *   store    commit*                             a changed policy, already in force; taken back if this fails
 *                                                (* durable)
 * What is "not found" while undoing or deleting is what was wanted.
 */
#include "control/catalog-internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CAT_MODEL "Penstock volume"
#define CAT_NSID 1u

struct cat_step {
	/* Starts the step; step_done is called for it, on a later turn, unless it returns true: then it is done. */
	bool (*start)(struct pst_catalog *c, struct cat_volume *v, pst_err *ret_err);
	bool undoes; /* "not found" is success */
};

static void step_done(struct pst_catalog *c, pst_err err);
static void job_run(struct pst_catalog *c);

/* ---- Volumes in memory ---- */

struct cat_volume *cat_volume_find(struct pst_catalog *c, const char *name)
{
	PST_LIST_EACH(n, &c->volumes) {
		struct cat_volume *v = pst_container_of(n, struct cat_volume, node);

		if (strcmp(v->name, name) == 0)
			return v;
	}
	return NULL;
}

static struct cat_volume *volume_new(struct pst_catalog *c, const char *name)
{
	struct cat_volume *v = calloc(1, sizeof(*v));
	struct pst_list *at = c->volumes.next;

	if (v == NULL)
		return NULL;
	snprintf(v->name, sizeof(v->name), "%s", name);
	while (at != &c->volumes && strcmp(pst_container_of(at, struct cat_volume, node)->name, name) < 0)
		at = at->next;
	pst_list_add_before(at, &v->node);
	c->volume_count++;
	return v;
}

void cat_volume_free(struct pst_catalog *c, struct cat_volume *v)
{
	pst_assert(v->volume == NULL && v->flow == NULL && v->subsystem == NULL);
	pst_list_remove(&v->node);
	c->volume_count--;
	free(v);
}

bool cat_volume_shown(const struct cat_volume *v)
{
	return v->state != CAT_CREATING;
}

uint64_t cat_volume_bytes(const struct cat_volume *v)
{
	return v->volume != NULL ? v->volume->block_count * PST_BLOCK_BYTES : 0;
}

static const char *const state_names[] = { "creating", "ready", "deleting", "failed" };

json_t *cat_volume_json(struct pst_catalog *c, const struct cat_volume *v)
{
	struct pst_volume_stats stats = { 0 };
	char uuid[37];
	json_t *json;

	pst_uuid_format(v->uuid, uuid);
	if (v->volume != NULL)
		pst_volume_stats(v->volume, &stats);
	json = json_pack("{s:s s:s s:s s:i s:s s:s s:I s:i s:s s:s s:s s:I s:i s:O s:o}", "name", v->name, "uuid", uuid,
			 "nqn", v->nqn, "nsid", (int)v->nsid, "serial", v->serial, "state", state_names[v->state],
			 "size_bytes", (json_int_t)cat_volume_bytes(v), "block_size", (int)PST_BLOCK_BYTES, "tenant",
			 v->tenant->name, "profile", v->profile, "pool", c->pools[v->pool].name, "used_bytes",
			 (json_int_t)stats.used_bytes, "hosts",
			 v->subsystem != NULL ? (int)pst_subsystem_host_count(v->subsystem) : 0, "addresses",
			 c->addresses, "policy", pst_policy_to_json(&v->policy));
	if (json != NULL && v->error != PST_OK)
		json_object_set_new(json, "error", json_string(pst_err_text(v->error)));
	return json;
}

static json_t *volume_record(const struct cat_volume *v, const char *state)
{
	char uuid[37];

	pst_uuid_format(v->uuid, uuid);
	return json_pack("{s:i s:s s:s s:s s:s s:i s:s s:s s:o}", "format", CAT_RECORD_FORMAT, "state", state, "uuid",
			 uuid, "nqn", v->nqn, "serial", v->serial, "nsid", (int)v->nsid, "tenant", v->tenant->name,
			 "profile", v->profile, "policy", pst_policy_to_json(&v->policy));
}

static pst_err volume_state_parse(const char *text, enum cat_volume_state *ret_state)
{
	for (unsigned i = 0; i <= CAT_DELETING; i++)
		if (strcmp(text, state_names[i]) == 0) {
			*ret_state = (enum cat_volume_state)i;
			return PST_OK;
		}
	return PST_E_FORMAT;
}

pst_err cat_volume_load(struct pst_catalog *c, unsigned pool, const char *name, json_t *record, char *message,
			size_t message_bytes)
{
	const char *state_text, *uuid_text, *nqn, *serial, *tenant_name, *profile;
	struct pst_qos_policy policy = pst_policy_default;
	enum cat_volume_state state;
	struct cat_volume *v;
	uint8_t uuid[16];
	json_t *json;
	int nsid;

	snprintf(message, message_bytes, "its record is damaged");
	if (json_unpack(record, "{s:s s:s s:s s:s s:i s:s s:s s:o}", "state", &state_text, "uuid", &uuid_text, "nqn",
			&nqn, "serial", &serial, "nsid", &nsid, "tenant", &tenant_name, "profile", &profile, "policy",
			&json) != 0 ||
	    strlen(nqn) > PST_NQN_MAX || strlen(serial) >= sizeof(v->serial) || strlen(profile) > PST_NAME_MAX ||
	    nsid < 1 || pst_uuid_parse(uuid_text, uuid) != PST_OK || volume_state_parse(state_text, &state) != PST_OK)
		return PST_E_FORMAT;
	if (pst_policy_from_json(&policy, json, message, message_bytes) != PST_OK)
		return PST_E_FORMAT;
	if (cat_tenant_find(c, tenant_name) == NULL) {
		snprintf(message, message_bytes,
			 "it belongs to tenant '%.63s', which no pool opened so far records; open the pool that does "
			 "first",
			 tenant_name);
		return PST_E_NOTFOUND;
	}
	if (cat_volume_find(c, name) != NULL) {
		snprintf(message, message_bytes, "another pool that is open has a volume of this name");
		return PST_E_EXISTS;
	}
	v = volume_new(c, name);
	if (v == NULL)
		return PST_E_NOMEM;
	v->tenant = cat_tenant_find(c, tenant_name);
	v->pool = pool;
	v->state = state;
	memcpy(v->uuid, uuid, sizeof(uuid));
	snprintf(v->nqn, sizeof(v->nqn), "%s", nqn);
	snprintf(v->serial, sizeof(v->serial), "%s", serial);
	snprintf(v->profile, sizeof(v->profile), "%s", profile);
	v->nsid = (uint32_t)nsid;
	v->policy = policy;
	return PST_OK;
}

/* ---- Steps ---- */

static bool step_intent(struct pst_catalog *c, struct cat_volume *v, pst_err *ret_err)
{
	(void)ret_err;
	cat_record_put(c, v->pool, "volume", v->name, volume_record(v, "creating"), step_done);
	return false;
}

static bool step_commit(struct pst_catalog *c, struct cat_volume *v, pst_err *ret_err)
{
	(void)ret_err;
	cat_record_put(c, v->pool, "volume", v->name, volume_record(v, "ready"), step_done);
	return false;
}

static bool step_mark(struct pst_catalog *c, struct cat_volume *v, pst_err *ret_err)
{
	(void)ret_err;
	cat_record_put(c, v->pool, "volume", v->name, volume_record(v, "deleting"), step_done);
	return false;
}

static bool step_forget(struct pst_catalog *c, struct cat_volume *v, pst_err *ret_err)
{
	(void)ret_err;
	cat_record_delete(c, v->pool, "volume", v->name, step_done);
	return false;
}

static void pool_step(struct pst_catalog *c, struct cat_volume *v, enum pst_pool_op_kind kind, uint64_t block_count)
{
	c->pool_op = (struct pst_pool_op){ .kind = kind, .block_count = block_count };
	memcpy(c->pool_op.uuid, v->uuid, sizeof(v->uuid));
	cat_pool_step(c, v->pool, step_done);
}

static bool step_make(struct pst_catalog *c, struct cat_volume *v, pst_err *ret_err)
{
	(void)ret_err;
	pool_step(c, v, PST_POOL_VOLUME_CREATE, v->create_blocks);
	return false;
}

static bool step_remove(struct pst_catalog *c, struct cat_volume *v, pst_err *ret_err)
{
	(void)ret_err;
	pool_step(c, v, PST_POOL_VOLUME_DELETE, 0);
	return false;
}

static bool step_resize(struct pst_catalog *c, struct cat_volume *v, pst_err *ret_err)
{
	(void)ret_err;
	pool_step(c, v, PST_POOL_VOLUME_RESIZE, c->job.resize_blocks);
	return false;
}

static void open_done(struct pst_catalog *c, pst_err err)
{
	if (err == PST_OK)
		c->job.volume->volume = c->pool_op.volume;
	step_done(c, err);
}

static bool step_open(struct pst_catalog *c, struct cat_volume *v, pst_err *ret_err)
{
	(void)ret_err;
	c->pool_op = (struct pst_pool_op){ .kind = PST_POOL_VOLUME_OPEN };
	memcpy(c->pool_op.uuid, v->uuid, sizeof(v->uuid));
	cat_pool_step(c, v->pool, open_done);
	return false;
}

static pst_err serve_flow(struct pst_catalog *c, struct cat_volume *v)
{
	struct pst_qos_group *group = v->tenant->groups[v->pool];
	pst_err err = pst_qos_flow_new(group, &v->policy, &v->flow);

	if (err == PST_OK || v->state == CAT_CREATING)
		return err;
	/* It was granted once; its tenant or the device has less now. Serve, but promise nothing. */
	pst_env_log(c->env, PST_LOG_WARN,
		    "reservation_dropped volume=%s next=\"lower its reservation or raise its tenant's\"", v->name);
	v->policy.reserve_iops = v->policy.reserve_bytes_per_s = 0;
	return pst_qos_flow_new(group, &v->policy, &v->flow);
}

static bool step_serve(struct pst_catalog *c, struct cat_volume *v, pst_err *ret_err)
{
	struct pst_subsystem_config config = {
		.nqn = v->nqn, .serial = v->serial, .model = CAT_MODEL, .nsid = v->nsid
	};

	*ret_err = serve_flow(c, v);
	if (*ret_err != PST_OK)
		return true;
	memcpy(config.uuid, v->uuid, sizeof(v->uuid));
	config.volume = v->volume;
	config.flow = v->flow;
	*ret_err = pst_subsystem_add(c->target, &config, &v->subsystem);
	return true;
}

static void unserved(struct pst_subsystem_remove_op *op)
{
	step_done(pst_container_of(op, struct pst_catalog, remove_op), PST_OK);
}

static bool step_unserve(struct pst_catalog *c, struct cat_volume *v, pst_err *ret_err)
{
	struct pst_subsystem *subsystem = v->subsystem;

	*ret_err = PST_OK;
	if (subsystem == NULL)
		return true;
	v->subsystem = NULL; /* nobody may ask it for statistics any more */
	c->remove_op.done = unserved;
	pst_subsystem_remove(subsystem, &c->remove_op);
	return false;
}

static void volume_closed(struct pst_volume_close_op *op)
{
	struct pst_catalog *c = pst_container_of(op, struct pst_catalog, close_op);

	c->job.volume->volume = NULL;
	step_done(c, PST_OK);
}

static bool step_close(struct pst_catalog *c, struct cat_volume *v, pst_err *ret_err)
{
	*ret_err = PST_OK;
	if (v->flow != NULL)
		pst_qos_flow_free(v->flow);
	v->flow = NULL;
	if (v->volume == NULL)
		return true;
	c->close_op.done = volume_closed;
	pst_volume_close(v->volume, &c->close_op);
	return false;
}

/* ---- Programs ---- */

static const struct cat_step create_steps[] = { { step_intent }, { step_make },   { step_open },
						{ step_serve },  { step_commit }, { NULL } };
static const struct cat_step delete_steps[] = { { step_mark },         { step_unserve },      { step_close },
						{ step_remove, true }, { step_forget, true }, { NULL } };
static const struct cat_step undo_steps[] = {
	{ step_unserve }, { step_close }, { step_remove, true }, { step_forget, true }, { NULL }
};
static const struct cat_step start_steps[] = { { step_open }, { step_serve }, { NULL } };
static const struct cat_step stop_steps[] = { { step_unserve }, { step_close }, { NULL } };
static const struct cat_step resize_steps[] = { { step_resize }, { NULL } };
static const struct cat_step store_steps[] = { { step_commit }, { NULL } };

static bool in_program(const struct cat_step *step, const struct cat_step *program, size_t bytes)
{
	return (const char *)step >= (const char *)program && (const char *)step < (const char *)program + bytes;
}

/* Where a failed step leads: a create is undone, a start is taken back, everything else ends. */
static const struct cat_step *after_failure(const struct cat_step *step)
{
	if (in_program(step, create_steps, sizeof(create_steps)))
		return undo_steps;
	if (in_program(step, start_steps, sizeof(start_steps)))
		return stop_steps;
	return NULL;
}

static void job_finish(struct pst_catalog *c)
{
	struct cat_job job = c->job;

	c->job = (struct cat_job){ .volume = NULL };
	job.finished(c, job.volume, job.err);
}

/* True when there is a next step. */
static bool job_next(struct pst_catalog *c, pst_err err)
{
	struct cat_job *job = &c->job;

	if (err == PST_E_NOTFOUND && job->step->undoes)
		err = PST_OK;
	if (err == PST_OK) {
		job->step++;
		return job->step->start != NULL;
	}
	if (job->err == PST_OK)
		job->err = err;
	else
		/* Undoing failed too: the record is still there, and the next start or delete goes on. */
		job->volume->state = CAT_DELETING;
	job->step = after_failure(job->step);
	return job->step != NULL;
}

static void job_run(struct pst_catalog *c)
{
	struct cat_job *job = &c->job;
	pst_err err = PST_OK;

	while (job->step->start(c, job->volume, &err)) {
		if (!job_next(c, err))
			return job_finish(c);
		err = PST_OK;
	}
}

static void step_done(struct pst_catalog *c, pst_err err)
{
	if (job_next(c, err))
		job_run(c);
	else
		job_finish(c);
}

static void job_start(struct pst_catalog *c, struct cat_volume *v, const struct cat_step *program,
		      void (*finished)(struct pst_catalog *c, struct cat_volume *v, pst_err err))
{
	pst_assert(c->job.volume == NULL);
	c->job.volume = v;
	c->job.step = program;
	c->job.err = PST_OK;
	c->job.finished = finished;
	job_run(c);
}

void cat_volume_start(struct pst_catalog *c, struct cat_volume *v,
		      void (*finished)(struct pst_catalog *c, struct cat_volume *v, pst_err err))
{
	job_start(c, v, v->state == CAT_READY ? start_steps : undo_steps, finished);
}

void cat_volume_stop(struct pst_catalog *c, struct cat_volume *v,
		     void (*finished)(struct pst_catalog *c, struct cat_volume *v, pst_err err))
{
	job_start(c, v, stop_steps, finished);
}

/* ---- Changes ---- */

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
	if (err == PST_E_NOSPACE)
		cat_fail(c, err, "penstock pool list",
			 "volume '%s' was not created: pool '%s' has no space for it, or the reservation is more than "
			 "tenant '%s' or the pool has left",
			 name, pool, tenant);
	else if (err == PST_E_INVAL)
		cat_fail_policy(c, err, "volume", name);
	else
		cat_fail(c, err, "penstock pool list", "volume '%s' was not created in pool '%s': %s", name, pool,
			 pst_err_text(err));
}

static void identity_new(struct pst_catalog *c, struct cat_volume *v)
{
	char text[37];
	size_t n = 2;

	pst_env_random(c->env, v->uuid, sizeof(v->uuid));
	v->uuid[6] = (uint8_t)((v->uuid[6] & 0x0f) | 0x40); /* RFC 4122, version 4: random */
	v->uuid[8] = (uint8_t)((v->uuid[8] & 0x3f) | 0x80);
	pst_uuid_format(v->uuid, text);
	snprintf(v->nqn, sizeof(v->nqn), "nqn.2014-08.org.nvmexpress:uuid:%s", text);
	snprintf(v->serial, sizeof(v->serial), "PS");
	for (size_t i = 0; n < sizeof(v->serial) - 1; i++)
		if (text[i] != '-')
			v->serial[n++] = text[i];
	v->nsid = CAT_NSID;
}

struct create_request {
	const char *name, *tenant, *profile, *pool;
	uint64_t size_bytes;
	struct cat_tenant *t;
	struct cat_profile *p;
	unsigned pool_index;
};

static bool create_lookup(struct pst_catalog *c, struct create_request *r)
{
	r->t = cat_tenant_find(c, r->tenant);
	r->p = cat_profile_find(c, r->profile);
	for (r->pool_index = 0; r->pool_index < c->pool_count; r->pool_index++)
		if (r->pool == NULL || strcmp(c->pools[r->pool_index].name, r->pool) == 0)
			break;
	if (cat_volume_find(c, r->name) != NULL)
		cat_fail(c, PST_E_EXISTS, "penstock volume list", "volume '%s' exists already", r->name);
	else if (r->t == NULL)
		cat_fail(c, PST_E_NOTFOUND, "penstock tenant list", "there is no tenant '%s'", r->tenant);
	else if (r->p == NULL)
		cat_fail(c, PST_E_NOTFOUND, "penstock profile list", "there is no profile '%s'", r->profile);
	else if (r->pool_index == c->pool_count)
		cat_fail(c, PST_E_NOTFOUND, "penstock pool list", "there is no pool '%s'", r->pool ? r->pool : "");
	else if (c->volume_count >= PST_CATALOG_VOLUMES_MAX)
		cat_fail(c, PST_E_NOMEM, "penstock volume delete NAME", "there are %u volumes, the most allowed",
			 c->volume_count);
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

static void volume_create(struct pst_catalog *c)
{
	static const char *const allowed[] = { "name", "size_bytes", "tenant", "profile", "pool", "policy", NULL };
	struct create_request r = { .tenant = "default", .profile = "general" };
	struct pst_qos_policy policy;
	struct cat_volume *v;

	if (!cat_body_check(c, allowed) || !cat_body_name(c, &r.name) ||
	    !cat_body_u64(c, "size_bytes", &r.size_bytes) || !cat_body_text(c, "tenant", PST_NAME_MAX, &r.tenant) ||
	    !cat_body_text(c, "profile", PST_NAME_MAX, &r.profile) ||
	    !cat_body_text(c, "pool", PST_NAME_MAX, &r.pool) || !size_check(c, r.name, &r.size_bytes) ||
	    !create_lookup(c, &r))
		return;
	policy = r.p->policy;
	if (!cat_body_policy(c, &policy))
		return;
	v = volume_new(c, r.name);
	if (v == NULL)
		return cat_fail(c, PST_E_NOMEM, NULL, "no memory for volume '%s'", r.name);
	v->state = CAT_CREATING;
	v->tenant = r.t;
	v->pool = r.pool_index;
	v->policy = policy;
	v->create_blocks = r.size_bytes / PST_BLOCK_BYTES;
	snprintf(v->profile, sizeof(v->profile), "%s", r.profile);
	identity_new(c, v);
	job_start(c, v, create_steps, volume_created);
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
	char hint[200];

	if (hosts > 0 && !c->current->force) {
		snprintf(hint, sizeof(hint),
			 "unmount and disconnect it there first, or: penstock volume delete %s --force", v->name);
		return cat_fail(c, PST_E_BUSY, hint, "volume '%s' is in use: %u host%s connected", v->name, hosts,
				hosts == 1 ? " is" : "s are");
	}
	v->state = CAT_DELETING;
	job_start(c, v, delete_steps, volume_deleted);
}

static void volume_resized(struct pst_catalog *c, struct cat_volume *v, pst_err err)
{
	const char *pool = c->pools[v->pool].name;

	if (err == PST_OK) {
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
	job_start(c, v, resize_steps, volume_resized);
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

static void volume_set(struct pst_catalog *c, struct cat_volume *v)
{
	static const char *const allowed[] = { "size_bytes", "policy", NULL };
	struct pst_qos_policy policy = v->policy;
	json_t *body = c->current->body;
	pst_err err;

	if (!cat_body_check(c, allowed) || !cat_body_policy(c, &policy))
		return;
	if (v->state != CAT_READY)
		return cat_fail(c, PST_E_BUSY, "penstock volume show NAME", "volume '%s' is %s and can't be changed",
				v->name, state_names[v->state]);
	if (json_object_get(body, "size_bytes") != NULL) {
		if (json_object_get(body, "policy") == NULL)
			return volume_resize(c, v);
		return cat_fail(c, PST_E_INVAL, NULL, "size_bytes and policy must be changed by separate requests");
	}
	err = pst_qos_flow_set(v->flow, &policy);
	if (err != PST_OK)
		return cat_fail_policy(c, err, "volume", v->name);
	c->old_policy = v->policy;
	v->policy = policy;
	job_start(c, v, store_steps, volume_set_done);
}

void cat_volume_change(struct pst_catalog *c)
{
	struct pst_catalog_op *op = c->current;
	struct cat_volume *v;

	if (op->kind == PST_CATALOG_CREATE)
		return volume_create(c);
	v = cat_volume_find(c, op->name);
	if (v == NULL)
		cat_fail(c, PST_E_NOTFOUND, "penstock volume list", "there is no volume '%.63s'", op->name);
	else if (op->kind == PST_CATALOG_SET)
		volume_set(c, v);
	else
		volume_delete(c, v);
}

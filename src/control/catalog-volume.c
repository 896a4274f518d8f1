/* SPDX-License-Identifier: Apache-2.0 */
/* clang-format off */
/*
 * Volumes: what is done to one is a program, a row of steps. Each step that is durable commits alone, so a crash lands
 * between two of them, and the record tells the next start what to do:
 *
 *   create    intent* list* make* key* grow* settings* open serve commit* ask
 *                                                 record "creating" until commit: a crash undoes it
 *   undo      unserve close drop* remove* unlist* unreserve* forget*
 *                                                 also what a failed create runs
 *   delete    mark* undo                          record "deleting" from mark on: a crash completes it
 *   start     open serve                          record "ready"
 *   resize    resize* ask                         the pool holds the size, the record doesn't
 *   settings  ask settings* ask                   the pool's own step; ask, as one may be left as it is
 *   store     commit*                             a changed policy, in force; taken back if this fails
 *   rollback  unserve close back* start ask       the pool's own step; start is also what a failure runs
 *                                                 (* durable)
 *
 * What is "not found" while undoing or deleting is what was wanted. Make is CLONE for a clone, which grows if it is to
 * be larger than its snapshot. Drop: its snapshots. List: of the hosts that may connect, if there is one; it is there
 * before the volume can be served. Unreserve: what is kept of its reservation, if anything. Ask: what is mapped, for the answer; its failure is none.
 */
/* clang-format on */
#include "control/catalog-internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CAT_MODEL "Penstock volume"

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
	struct cat_named *n = cat_names_find(&c->volumes, name);

	return n != NULL ? pst_container_of(n, struct cat_volume, named) : NULL;
}

bool cat_volume_visible(const struct pst_catalog_op *op, const struct cat_volume *v)
{
	return op->tenant == NULL || strcmp(op->tenant, v->tenant->name) == 0;
}

struct cat_volume *cat_volume_of(struct pst_catalog *c, const struct pst_catalog_op *op, const char *name)
{
	struct cat_volume *v = cat_volume_find(c, name);

	return v != NULL && cat_volume_visible(op, v) ? v : NULL;
}

struct cat_volume *cat_volume_new(struct pst_catalog *c, const char *name)
{
	struct cat_volume *v = calloc(1, sizeof(*v));

	if (v == NULL)
		return NULL;
	snprintf(v->name, sizeof(v->name), "%s", name);
	cat_names_init(&v->snapshots, c->names_seed);
	cat_names_add(&c->volumes, &v->named, v->name);
	return v;
}

void cat_volume_free(struct pst_catalog *c, struct cat_volume *v)
{
	pst_assert(v->volume == NULL && v->flow == NULL && v->subsystem == NULL);
	CAT_NAMES_EACH(n, &v->snapshots)
		cat_snapshot_free(c, pst_container_of(n, struct cat_snapshot, named));
	cat_read_forget_volume(c, v);
	json_decref(v->allowed);
	cat_reservation_free(v);
	cat_names_done(&v->snapshots);
	cat_names_remove(&c->volumes, &v->named);
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

const char *const cat_state_names[] = { "creating", "ready", "deleting", "failed" };

json_t *cat_volume_json(struct pst_catalog *c, const struct cat_volume *v)
{
	struct cat_usage usage;
	char uuid[37];
	json_t *json;

	pst_uuid_format(v->uuid, uuid);
	cat_volume_usage(c, v, &usage);
	json = json_pack("{s:s s:s s:s s:i s:s s:s s:I s:i s:s s:s s:s s:I s:I s:I s:i s:s s:I s:i s:O s:i s:b s:o}",
			 "name", v->name, "uuid", uuid, "nqn", v->nqn, "nsid", (int)v->nsid, "serial", v->serial,
			 "state", cat_state_names[v->state], "size_bytes", (json_int_t)cat_volume_bytes(v),
			 "block_size", (int)PST_BLOCK_BYTES, "tenant", v->tenant->name, "profile", v->profile, "pool",
			 c->pools[v->pool].name, "used_bytes", (json_int_t)(usage.own_bytes + cat_snapshots_own(v)),
			 "mapped_bytes", (json_int_t)usage.mapped_bytes, "own_bytes", (json_int_t)usage.own_bytes,
			 "snapshots", (int)cat_names_count(&v->snapshots), "on_full",
			 usage.settings.on_full == PST_ON_FULL_PAUSE ? "pause" : "fail", "reserved_bytes",
			 (json_int_t)(usage.settings.reserved_blocks * PST_BLOCK_BYTES), "hosts",
			 v->subsystem != NULL ? (int)pst_subsystem_host_count(v->subsystem) : 0, "addresses",
			 c->addresses, "ana_group", (int)v->ana_group, "attached", !v->detached, "policy",
			 pst_policy_to_json(&v->policy));
	if (json != NULL && v->source[0] != '\0') {
		pst_uuid_format(v->source_uuid, uuid);
		json_object_set_new(json, "source", json_string(v->source));
		json_object_set_new(json, "source_uuid", json_string(uuid));
	}
	if (json != NULL && v->error != PST_OK)
		json_object_set_new(json, "error", json_string(pst_err_text(v->error)));
	cat_key_json(v, json);
	cat_allow_json(v, json);
	return json;
}

void cat_volume_hide(struct pst_catalog *c, const struct pst_catalog_op *op, json_t *json)
{
	const char *source = json_string_value(json_object_get(json, "source"));

	/* Of one that is gone nobody knows any more whose it was. */
	if (op->tenant == NULL || source == NULL || cat_snapshot_of(c, op, source) != NULL)
		return;
	json_object_del(json, "source");
	json_object_del(json, "source_uuid");
}

static json_t *volume_record(const struct cat_volume *v, const char *state)
{
	char uuid[37];
	json_t *json;

	pst_uuid_format(v->uuid, uuid);
	json =
	    json_pack("{s:i s:s s:s s:s s:s s:i s:i s:s s:s s:o}", "format", CAT_RECORD_FORMAT, "state", state, "uuid",
		      uuid, "nqn", v->nqn, "serial", v->serial, "nsid", (int)v->nsid, "ana_group", (int)v->ana_group,
		      "tenant", v->tenant->name, "profile", v->profile, "policy", pst_policy_to_json(&v->policy));
	if (json != NULL && v->source[0] != '\0') {
		pst_uuid_format(v->source_uuid, uuid);
		json_object_set_new(json, "source", json_string(v->source));
		json_object_set_new(json, "source_uuid", json_string(uuid));
	}
	if (json != NULL && v->detached)
		json_object_set_new(json, "attached", json_false());
	cat_key_record(v, json);
	return json;
}

pst_err cat_state_parse(const char *text, enum cat_volume_state *ret_state)
{
	for (unsigned i = 0; i <= CAT_DELETING; i++)
		if (strcmp(text, cat_state_names[i]) == 0) {
			*ret_state = (enum cat_volume_state)i;
			return PST_OK;
		}
	return PST_E_FORMAT;
}

pst_err cat_volume_load(struct pst_catalog *c, unsigned pool, const char *name, json_t *record, char *message,
			size_t message_bytes)
{
	const char *state_text, *uuid_text, *nqn, *serial, *tenant_name, *profile, *source = "", *source_uuid = NULL;
	struct pst_qos_policy policy = pst_policy_default;
	enum cat_volume_state state;
	struct cat_volume *v;
	uint8_t uuid[16];
	json_t *json;
	int nsid, ana_group = 1;

	snprintf(message, message_bytes, "its record is damaged");
	if (json_unpack(record, "{s:s s:s s:s s:s s:i s:s s:s s:o s?s s?s s?i}", "state", &state_text, "uuid",
			&uuid_text, "nqn", &nqn, "serial", &serial, "nsid", &nsid, "tenant", &tenant_name, "profile",
			&profile, "policy", &json, "source", &source, "source_uuid", &source_uuid, "ana_group",
			&ana_group) != 0 ||
	    ana_group < 1 || ana_group > (int)PST_ANA_GROUPS_MAX || strlen(source) > CAT_SNAPSHOT_NAME_MAX ||
	    strlen(nqn) > PST_NQN_MAX || strlen(serial) >= sizeof(v->serial) || strlen(profile) > PST_NAME_MAX ||
	    nsid < 1 || pst_uuid_parse(uuid_text, uuid) != PST_OK || cat_state_parse(state_text, &state) != PST_OK)
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
	v = cat_volume_new(c, name);
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
	v->ana_group = (uint32_t)ana_group;
	v->detached = json_is_false(json_object_get(record, "attached"));
	v->policy = policy;
	if (cat_key_load(v, record) != PST_OK)
		return PST_E_FORMAT;
	snprintf(v->source, sizeof(v->source), "%s", source);
	if (source_uuid != NULL && pst_uuid_parse(source_uuid, v->source_uuid) != PST_OK)
		memset(v->source_uuid, 0, sizeof(v->source_uuid));
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

/* Before the volume can be served, and before it is forgotten. */
static bool step_list(struct pst_catalog *c, struct cat_volume *v, pst_err *ret_err)
{
	*ret_err = PST_OK;
	if (v->allowed == NULL)
		return true;
	cat_record_put(c, v->pool, "allow", v->name, cat_allow_record(v), step_done);
	return false;
}

static bool step_unlist(struct pst_catalog *c, struct cat_volume *v, pst_err *ret_err)
{
	*ret_err = PST_OK;
	if (v->allowed == NULL)
		return true;
	cat_record_delete(c, v->pool, "allow", v->name, step_done);
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
	if (v->source[0] == '\0') {
		pool_step(c, v, PST_POOL_VOLUME_CREATE, v->create_blocks);
		return false;
	}
	c->pool_op = (struct pst_pool_op){ .kind = PST_POOL_CLONE };
	memcpy(c->pool_op.uuid, v->source_uuid, sizeof(v->source_uuid));
	memcpy(c->pool_op.other, v->uuid, sizeof(v->uuid));
	cat_pool_step(c, v->pool, step_done);
	return false;
}

static bool step_grow(struct pst_catalog *c, struct cat_volume *v, pst_err *ret_err)
{
	*ret_err = PST_OK;
	if (v->source[0] == '\0' || v->create_blocks == v->source_blocks)
		return true;
	pool_step(c, v, PST_POOL_VOLUME_RESIZE, v->create_blocks);
	return false;
}

static bool step_settings(struct pst_catalog *c, struct cat_volume *v, pst_err *ret_err)
{
	struct pst_volume_settings settings = v->usage.settings;

	*ret_err = PST_OK;
	if (!c->job.sets_on_full && !c->job.sets_reserved)
		return true;
	if (c->job.sets_on_full)
		settings.on_full = c->job.settings.on_full;
	if (c->job.sets_reserved)
		settings.reserved_blocks = c->job.settings.reserved_blocks;
	c->pool_op = (struct pst_pool_op){ .kind = PST_POOL_VOLUME_SET, .settings = settings };
	memcpy(c->pool_op.uuid, v->uuid, sizeof(v->uuid));
	cat_pool_step(c, v->pool, step_done);
	return false;
}

static bool step_drop(struct pst_catalog *c, struct cat_volume *v, pst_err *ret_err)
{
	*ret_err = PST_OK;
	if (cat_names_count(&v->snapshots) == 0)
		return true;
	cat_snapshots_drop(c, v, step_done);
	return false;
}

static bool step_back(struct pst_catalog *c, struct cat_volume *v, pst_err *ret_err)
{
	(void)ret_err;
	c->pool_op = (struct pst_pool_op){ .kind = PST_POOL_ROLLBACK };
	memcpy(c->pool_op.uuid, v->uuid, sizeof(v->uuid));
	memcpy(c->pool_op.other, c->job.snapshot, sizeof(c->job.snapshot));
	cat_pool_step(c, v->pool, step_done);
	return false;
}

static void asked(struct pst_catalog *c, pst_err err)
{
	if (err == PST_OK)
		cat_usage_take(c, &c->job.volume->usage, &c->pool_op.info);
	step_done(c, PST_OK);
}

static bool step_ask(struct pst_catalog *c, struct cat_volume *v, pst_err *ret_err)
{
	(void)ret_err;
	c->pool_op = (struct pst_pool_op){ .kind = PST_POOL_VOLUME_INFO };
	memcpy(c->pool_op.uuid, v->uuid, sizeof(v->uuid));
	cat_pool_step(c, v->pool, asked);
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

	c->rate_refused = err == PST_E_NOSPACE;
	if (err == PST_OK || v->state == CAT_CREATING)
		return err;
	/* It was granted once; its tenant or the device has less now. Serve, but promise nothing. */
	cat_event(c, v->pool, PST_LOG_WARN,
		  "reservation_dropped volume=%s next=\"lower its reservation or raise its tenant's\"", v->name);
	v->policy.reserve_iops = v->policy.reserve_bytes_per_s = 0;
	return pst_qos_flow_new(group, &v->policy, &v->flow);
}

static bool step_serve(struct pst_catalog *c, struct cat_volume *v, pst_err *ret_err)
{
	struct pst_subsystem_config config = { .nqn = v->nqn,
					       .serial = v->serial,
					       .model = CAT_MODEL,
					       .nsid = v->nsid,
					       .ana_group = v->ana_group,
					       .detached = v->detached };

	*ret_err = PST_OK;
	if (v->locked)
		return true;
	*ret_err = serve_flow(c, v);
	if (*ret_err != PST_OK)
		return true;
	memcpy(config.uuid, v->uuid, sizeof(v->uuid));
	config.volume = v->volume;
	config.flow = v->flow;
	*ret_err = cat_reservation_serve(c, v, &config);
	if (*ret_err == PST_OK)
		*ret_err = cat_allow_of(v, &config.allow);
	if (*ret_err != PST_OK)
		return true;
	*ret_err = pst_subsystem_add(c->target, &config, &v->subsystem);
	cat_allow_done(&config.allow);
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

static bool step_unreserve(struct pst_catalog *c, struct cat_volume *v, pst_err *ret_err)
{
	return cat_reservation_forget(c, v, ret_err, step_done);
}

/* ---- Keys: nothing to do for volumes that are not encrypted ---- */

static bool step_key(struct pst_catalog *c, struct cat_volume *v, pst_err *ret_err)
{
	return cat_key_make(c, v, ret_err, step_done);
}

static bool step_unlock(struct pst_catalog *c, struct cat_volume *v, pst_err *ret_err)
{
	return cat_key_unlock(c, v, ret_err, step_done);
}

/* ---- Programs ---- */

static const struct cat_step create_steps[] = { { step_intent }, { step_list },     { step_make }, { step_key },
						{ step_grow },   { step_settings }, { step_open }, { step_unlock },
						{ step_serve },  { step_commit },   { step_ask },  { NULL } };
static const struct cat_step delete_steps[] = {
	{ step_mark },         { step_unserve },         { step_close },        { step_drop }, { step_remove, true },
	{ step_unlist, true }, { step_unreserve, true }, { step_forget, true }, { NULL }
};
static const struct cat_step undo_steps[] = { { step_unserve },      { step_close },
					      { step_drop },         { step_remove, true },
					      { step_unlist, true }, { step_unreserve, true },
					      { step_forget, true }, { NULL } };
static const struct cat_step start_steps[] = { { step_open }, { step_unlock }, { step_serve }, { NULL } };
static const struct cat_step stop_steps[] = { { step_unserve }, { step_close }, { NULL } };
static const struct cat_step resize_steps[] = { { step_resize }, { step_ask }, { NULL } };
static const struct cat_step store_steps[] = { { step_commit }, { NULL } };
static const struct cat_step settings_steps[] = { { step_ask }, { step_settings }, { step_ask }, { NULL } };
static const struct cat_step rollback_steps[] = { { step_unserve }, { step_close }, { step_back }, { step_open },
						  { step_unlock },  { step_serve }, { step_ask },  { NULL } };

static bool in_program(const struct cat_step *step, const struct cat_step *program, size_t bytes)
{
	return (const char *)step >= (const char *)program && (const char *)step < (const char *)program + bytes;
}

/* Where a failed step leads: a create is undone, a start is taken back, a volume that is as it was is started again. */
static const struct cat_step *after_failure(const struct cat_step *step)
{
	if (in_program(step, create_steps, sizeof(create_steps)))
		return undo_steps;
	if (in_program(step, start_steps, sizeof(start_steps)))
		return stop_steps;
	if (in_program(step, rollback_steps, sizeof(rollback_steps)))
		return step->start == step_back ? start_steps : stop_steps;
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
		/*
		 * Undoing failed too: the record is still there, and the next start or delete goes on. Or a volume
		 * could not be started again.
		 */
		job->volume->state = in_program(job->step, undo_steps, sizeof(undo_steps)) ? CAT_DELETING : CAT_FAILED;
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

void cat_volume_job(struct pst_catalog *c, struct cat_volume *v, enum cat_program program, cat_job_fn *finished)
{
	static const struct cat_step *const programs[] = {
		[CAT_PROGRAM_CREATE] = create_steps,     [CAT_PROGRAM_DELETE] = delete_steps,
		[CAT_PROGRAM_UNDO] = undo_steps,         [CAT_PROGRAM_START] = start_steps,
		[CAT_PROGRAM_STOP] = stop_steps,         [CAT_PROGRAM_RESIZE] = resize_steps,
		[CAT_PROGRAM_UNLOCK] = start_steps + 1,  [CAT_PROGRAM_STORE] = store_steps,
		[CAT_PROGRAM_ROLLBACK] = rollback_steps, [CAT_PROGRAM_SETTINGS] = settings_steps,
	};

	pst_assert(c->job.volume == NULL);
	c->job.volume = v;
	c->job.step = programs[program];
	c->job.err = PST_OK;
	c->job.finished = finished;
	job_run(c);
}

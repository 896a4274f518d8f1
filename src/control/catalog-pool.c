/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pools as users see them, and what they ask of them: tasks, devices, growth, checks. Tasks and devices are the pool's
 * own to remember: each change here is one step of it. A check changes nothing and may take long, so it runs beside
 * everything else: starting it is answered at once, and its state is there to be read, until the next one begins.
 */
#include "control/catalog-internal.h"

#include "base/units.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MESSAGES_MAX 1000u /* of a check; more are only counted */
#define PATH_BYTES_MAX 1000u

static const uint8_t no_uuid[16];
const char *const pst_catalog_task_names[PST_TASK_KINDS] = { "scrub", "straighten", "flatten", "delete" };

struct cat_check {
	struct pst_catalog *catalog;
	struct pst_pool_op op;
	struct pst_check check;
	bool running;
	uint64_t started_ns, ended_ns, done, total;
	json_t *findings, *notes;
	uint64_t message_count;
};

bool cat_pool_find(const struct pst_catalog *c, const char *name, unsigned *ret_index)
{
	for (unsigned i = 0; i < c->pool_count; i++)
		if (strcmp(c->pools[i].name, name) == 0) {
			*ret_index = i;
			return true;
		}
	return false;
}

static const char *reason(const struct pst_catalog *c, pst_err err)
{
	return c->pool_op.detail[0] != '\0' ? c->pool_op.detail : pst_err_text(err);
}

json_t *cat_pool_json(struct pst_catalog *c, unsigned index)
{
	const struct cat_pool *p = &c->pools[index];
	struct pst_pool_stats s;
	json_int_t provisioned = 0, volumes = 0, snapshots = 0;
	char uuid[37];

	CAT_NAMES_EACH(n, &c->volumes) {
		const struct cat_volume *v = pst_container_of(n, struct cat_volume, named);

		if (v->pool != index || !cat_volume_shown(v))
			continue;
		provisioned += (json_int_t)cat_volume_bytes(v);
		volumes++;
		snapshots += cat_names_count(&v->snapshots);
	}
	pst_uuid_format(p->pool->uuid, uuid);
	pst_pool_stats(p->pool, &s);
	return json_pack("{s:s s:s s:s s:I s:I s:I s:I s:I s:I s:I s:I s:I s:I}", "name", p->name, "engine",
			 p->pool->ops->name, "uuid", uuid, "size_bytes", (json_int_t)s.size_bytes, "used_bytes",
			 (json_int_t)s.used_bytes, "free_bytes", (json_int_t)s.free_bytes, "reserved_bytes",
			 (json_int_t)s.reserved_bytes, "provisioned_bytes", provisioned, "volumes", volumes,
			 "snapshots", snapshots, "devices", (json_int_t)s.devices, "checksum_errors",
			 (json_int_t)s.checksum_errors, "bad_blocks", (json_int_t)s.bad_blocks);
}

/* ---- Tasks ---- */

static bool task_parse(const char *text, enum pst_pool_task_kind *ret_kind)
{
	for (unsigned i = 0; text != NULL && i < PST_TASK_KINDS; i++)
		if (strcmp(text, pst_catalog_task_names[i]) == 0) {
			*ret_kind = (enum pst_pool_task_kind)i;
			return true;
		}
	return false;
}

static json_t *task_json(struct pst_catalog *c, const struct pst_pool_task *t)
{
	char uuid[37], started[32], buf[CAT_SNAPSHOT_NAME_MAX + 1];
	const char *name;
	json_t *json;

	json = json_pack("{s:s s:b s:I s:I s:I s:I}", "task", pst_catalog_task_names[t->kind], "running", t->running,
			 "done_bytes", (json_int_t)t->done_bytes, "total_bytes", (json_int_t)t->total_bytes,
			 "rate_bytes_per_s", (json_int_t)t->rate_bytes_per_s, "errors", (json_int_t)t->errors);
	if (json != NULL && t->started_ns != 0)
		json_object_set_new(json, "started", json_string(pst_format_time(t->started_ns, started)));
	if (json == NULL || memcmp(t->uuid, no_uuid, 16) == 0)
		return json;
	pst_uuid_format(t->uuid, uuid);
	json_object_set_new(json, "uuid", json_string(uuid));
	name = cat_name_of(c, t->uuid, buf);
	if (name != NULL)
		json_object_set_new(json, "volume", json_string(name));
	return json;
}

static void tasks_read(struct pst_catalog *c, struct pst_catalog_op *op, unsigned pool)
{
	struct pst_pool_task *tasks = calloc(PST_CATALOG_TASKS_MAX, sizeof(*tasks));
	uint32_t count = tasks != NULL ? pst_pool_tasks(c->pools[pool].pool, tasks, PST_CATALOG_TASKS_MAX) : 0;

	op->result = json_array();
	for (uint32_t i = 0; i < PST_MIN(count, PST_CATALOG_TASKS_MAX); i++)
		json_array_append_new(op->result, task_json(c, &tasks[i]));
	free(tasks);
}

/* The task that c->pool_op is about. */
static json_t *task_current(struct pst_catalog *c, unsigned pool)
{
	struct pst_pool_task *tasks = calloc(PST_CATALOG_TASKS_MAX, sizeof(*tasks));
	uint32_t count = tasks != NULL ? pst_pool_tasks(c->pools[pool].pool, tasks, PST_CATALOG_TASKS_MAX) : 0;
	json_t *json = NULL;

	for (uint32_t i = 0; i < PST_MIN(count, PST_CATALOG_TASKS_MAX) && json == NULL; i++)
		if (tasks[i].kind == c->pool_op.task && memcmp(tasks[i].uuid, c->pool_op.uuid, 16) == 0)
			json = task_json(c, &tasks[i]);
	free(tasks);
	return json;
}

static void task_fail(struct pst_catalog *c, pst_err err, const char *what)
{
	const char *pool = c->pools[c->subject_pool].name;
	char hint[200];

	snprintf(hint, sizeof(hint),
		 err == PST_E_UNSUPPORTED ? "pools on disk can: penstockd --pool DIR" : "penstock pool tasks %s", pool);
	cat_fail(c, err, hint, "task '%s' of pool '%s' %s: %s", pst_catalog_task_names[c->pool_op.task], pool, what,
		 err == PST_E_NOTFOUND && c->pool_op.detail[0] == '\0' ? "it does not run" : reason(c, err));
}

static void task_started(struct pst_catalog *c, pst_err err)
{
	/* Running already: it takes the rate of this call. */
	if (err != PST_OK && err != PST_E_EXISTS)
		return task_fail(c, err, "was not started");
	cat_succeed(c, task_current(c, c->subject_pool));
}

static void task_stopped(struct pst_catalog *c, pst_err err)
{
	if (err != PST_OK)
		return task_fail(c, err, "was not stopped");
	cat_succeed(c, NULL);
}

/* Fills c->pool_op; false after cat_fail. */
static bool task_op(struct pst_catalog *c, enum pst_pool_op_kind kind, unsigned pool, const char *task,
		    const char *name)
{
	const struct cat_volume *v = name != NULL ? cat_volume_find(c, name) : NULL;
	enum pst_pool_task_kind which;

	if (!task_parse(task, &which)) {
		cat_fail(c, PST_E_INVAL, "penstock pool tasks POOL",
			 "'%.40s' is not a task: scrub, straighten, flatten, delete", task != NULL ? task : "");
	} else if (name != NULL && (v == NULL || v->pool != pool || !cat_volume_shown(v))) {
		cat_fail(c, PST_E_NOTFOUND, "penstock volume list", "there is no volume '%.63s' in pool '%s'", name,
			 c->pools[pool].name);
	} else {
		c->pool_op = (struct pst_pool_op){ .kind = kind, .task = which };
		if (v != NULL)
			memcpy(c->pool_op.uuid, v->uuid, 16);
		c->subject_pool = pool;
		return true;
	}
	return false;
}

static bool task_flatten_ok(struct pst_catalog *c, const char *volume)
{
	const struct cat_volume *v = volume != NULL ? cat_volume_find(c, volume) : NULL;

	if (volume == NULL)
		cat_fail(c, PST_E_INVAL, "penstock volume flatten NAME", "flatten needs a volume");
	else if (v != NULL && v->source[0] == '\0')
		cat_fail(c, PST_E_INVAL, "penstock volume list",
			 "volume '%s' is not a clone: all that it has is its own", v->name);
	else
		return true;
	return false;
}

static void task_start(struct pst_catalog *c, unsigned pool)
{
	static const char *const allowed[] = { "task", "volume", "rate_bytes_per_s", NULL };
	const char *task = NULL, *volume = NULL;
	uint64_t rate = 0;

	if (!cat_body_check(c, allowed) || !cat_body_text(c, "task", 40, &task) ||
	    !cat_body_text(c, "volume", PST_NAME_MAX, &volume) || !cat_body_u64(c, "rate_bytes_per_s", &rate) ||
	    !task_op(c, PST_POOL_TASK_START, pool, task, volume))
		return;
	if (c->pool_op.task == PST_TASK_FLATTEN && !task_flatten_ok(c, volume))
		return;
	c->pool_op.rate_bytes_per_s = rate;
	cat_pool_step(c, pool, task_started);
}

/* ---- Space ---- */

static void space_added(struct pst_catalog *c, pst_err err)
{
	const char *pool = c->pools[c->subject_pool].name;
	char hint[200];

	if (err == PST_OK)
		return cat_succeed(c, cat_pool_json(c, c->subject_pool));
	snprintf(hint, sizeof(hint),
		 err == PST_E_UNSUPPORTED ? "pools on disk can: penstockd --pool DIR" : "penstock pool show %s", pool);
	cat_fail(c, err, hint, "pool '%s' was not enlarged: '%.100s': %s", pool, c->path, reason(c, err));
}

/* The daemon's working directory is nobody's business: paths are whole. */
static bool body_path(struct pst_catalog *c)
{
	const char *path = NULL;

	if (!cat_body_text(c, "path", PATH_BYTES_MAX, &path))
		return false;
	if (path == NULL || path[0] != '/') {
		cat_fail(c, PST_E_INVAL, NULL, "path must be given and begin with '/', as the daemon sees it");
		return false;
	}
	snprintf(c->path, sizeof(c->path), "%s", path);
	return true;
}

static void space_add(struct pst_catalog *c, unsigned pool, enum pst_pool_op_kind kind)
{
	static const char *const device[] = { "path", NULL }, *const grow[] = { "path", "size_bytes", NULL };
	uint64_t size_bytes = 0;

	if (!cat_body_check(c, kind == PST_POOL_GROW ? grow : device) || !body_path(c) ||
	    !cat_body_u64(c, "size_bytes", &size_bytes))
		return;
	c->pool_op = (struct pst_pool_op){ .kind = kind, .key = c->path, .size_bytes = size_bytes };
	c->subject_pool = pool;
	cat_pool_step(c, pool, space_added);
}

/* ---- Checks ---- */

static void check_finding(void *ctx, bool repaired, const char *text)
{
	struct cat_check *k = ctx;

	if (k->message_count++ < MESSAGES_MAX)
		json_array_append_new(k->findings, json_pack("{s:b s:s}", "repaired", repaired, "text", text));
}

static void check_note(void *ctx, const char *text)
{
	struct cat_check *k = ctx;

	if (k->message_count++ < MESSAGES_MAX)
		json_array_append_new(k->notes, json_string(text));
}

static void check_progress(void *ctx, uint64_t done, uint64_t of_blocks)
{
	struct cat_check *k = ctx;

	k->done = done;
	k->total = of_blocks;
}

static const char *check_status(const struct cat_check *k)
{
	if (k->running)
		return "running";
	if (k->op.err != PST_OK)
		return k->op.err == PST_E_CANCELLED ? "stopped" : "failed";
	return k->check.findings > 0 ? "damaged" : "clean";
}

static json_t *check_json(struct pst_catalog *c, unsigned pool)
{
	const struct cat_check *k = c->pools[pool].check;
	char started[32], ended[32];
	json_t *json = json_pack(
	    "{s:s s:s s:b s:b s:s s:I s:I s:I s:I s:I s:I s:I s:O s:O s:I}", "pool", c->pools[pool].name, "status",
	    check_status(k), "running", k->running, "data", k->check.data, "started",
	    pst_format_time(k->started_ns, started), "found", (json_int_t)k->check.findings, "lost_bytes",
	    (json_int_t)(k->check.lost_blocks * PST_BLOCK_BYTES), "used_bytes",
	    (json_int_t)(k->check.blocks_used * PST_BLOCK_BYTES), "nodes_read", (json_int_t)k->check.nodes_read,
	    "data_blocks_read", (json_int_t)k->check.data_read, "done_blocks", (json_int_t)k->done, "total_blocks",
	    (json_int_t)k->total, "findings", k->findings, "notes", k->notes, "left_out",
	    (json_int_t)(k->message_count > MESSAGES_MAX ? k->message_count - MESSAGES_MAX : 0));

	if (json != NULL && !k->running)
		json_object_set_new(json, "ended", json_string(pst_format_time(k->ended_ns, ended)));
	if (json != NULL && !k->running && k->op.err != PST_OK)
		json_object_set_new(json, "error",
				    json_string(k->op.detail[0] != '\0' ? k->op.detail : pst_err_text(k->op.err)));
	return json;
}

static void check_done(struct pst_pool_op *op)
{
	struct cat_check *k = pst_container_of(op, struct cat_check, op);
	struct pst_catalog *c = k->catalog;

	k->running = false;
	k->ended_ns = pst_env_wall_ns(c->env);
	for (unsigned i = 0; i < c->pool_count; i++)
		if (c->pools[i].check == k)
			cat_event(c, i, k->check.findings > 0 || op->err != PST_OK ? PST_LOG_WARN : PST_LOG_INFO,
				  "pool_checked pool=%s status=%s findings=%" PRIu64 " lost_blocks=%" PRIu64,
				  c->pools[i].name, check_status(k), k->check.findings, k->check.lost_blocks);
	if (c->close_waits)
		pst_env_post(c->env, &c->turn);
	c->close_waits = false;
}

static void check_start(struct pst_catalog *c, unsigned pool)
{
	static const char *const allowed[] = { "data", NULL };
	struct cat_check *k = c->pools[pool].check;
	json_t *data;
	char hint[200];

	if (!cat_body_check(c, allowed))
		return;
	data = json_object_get(c->current->body, "data");
	if (data != NULL && !json_is_boolean(data))
		return cat_fail(c, PST_E_INVAL, NULL, "data must be true or false");
	snprintf(hint, sizeof(hint), "penstock pool check %s", c->pools[pool].name);
	if (k != NULL && k->running)
		return cat_fail(c, PST_E_BUSY, hint, "pool '%s' is being checked", c->pools[pool].name);
	cat_check_free(c, pool);
	k = calloc(1, sizeof(*k));
	if (k == NULL)
		return cat_fail(c, PST_E_NOMEM, NULL, "no memory to check pool '%s'", c->pools[pool].name);
	k->catalog = c;
	k->findings = json_array();
	k->notes = json_array();
	k->check = (struct pst_check){ .data = json_is_true(data), .finding = check_finding, .ctx = k };
	k->check.note = check_note;
	k->check.progress = check_progress;
	k->running = true;
	k->started_ns = pst_env_wall_ns(c->env);
	k->op = (struct pst_pool_op){ .kind = PST_POOL_CHECK, .check = &k->check, .done = check_done };
	c->pools[pool].check = k;
	pst_pool_submit(c->pools[pool].pool, &k->op);
	cat_succeed(c, check_json(c, pool));
}

void cat_check_free(struct pst_catalog *c, unsigned pool)
{
	struct cat_check *k = c->pools[pool].check;

	if (k == NULL)
		return;
	pst_assert(!k->running);
	json_decref(k->findings);
	json_decref(k->notes);
	free(k);
	c->pools[pool].check = NULL;
}

bool cat_check_stop(struct pst_catalog *c, unsigned pool)
{
	struct cat_check *k = c->pools[pool].check;

	if (k == NULL || !k->running)
		return false;
	k->check.stop = true;
	return true;
}

/* ---- Calls ---- */

static void answer_no_pool(struct pst_catalog_op *op)
{
	cat_op_error(op, PST_E_NOTFOUND, "penstock pool list", "there is no pool '%.63s'", op->name);
}

void cat_pool_read(struct pst_catalog *c, struct pst_catalog_op *op)
{
	unsigned pool;

	if (op->object == PST_CATALOG_EVENT)
		op->result = cat_events_json(c, op->since, op->pool);
	else if (!cat_pool_find(c, op->name, &pool))
		answer_no_pool(op);
	else if (op->object == PST_CATALOG_TASK)
		tasks_read(c, op, pool);
	else if (c->pools[pool].check != NULL)
		op->result = check_json(c, pool);
	else
		cat_op_error(op, PST_E_NOTFOUND, "penstock pool check POOL",
			     "pool '%.63s' was not checked since the daemon was started", op->name);
	op->done(op);
}

void cat_pool_change(struct pst_catalog *c)
{
	struct pst_catalog_op *op = c->current;
	unsigned pool;

	if (!cat_pool_find(c, op->name, &pool))
		cat_fail(c, PST_E_NOTFOUND, "penstock pool list", "there is no pool '%.63s'", op->name);
	else if (op->object == PST_CATALOG_CHECK)
		check_start(c, pool);
	else if (op->object == PST_CATALOG_DEVICE)
		space_add(c, pool, PST_POOL_DEVICE_ADD);
	else if (op->object == PST_CATALOG_POOL)
		space_add(c, pool, PST_POOL_GROW);
	else if (op->kind == PST_CATALOG_CREATE)
		task_start(c, pool);
	else if (task_op(c, PST_POOL_TASK_STOP, pool, op->sub, op->volume))
		cat_pool_step(c, pool, task_stopped);
}

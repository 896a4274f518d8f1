/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Snapshots. The pool takes all members of a group at one instant and durably, or none; the records tell the next start
 * what a crash interrupted (* durable):
 *
 *   create   intent* for each, take*, commit* for each     record "creating" until commit
 *   undo     remove* and forget* for each                  also what a failed create runs
 *   delete   mark*, remove*, forget*                       record "deleting" from mark on
 *
 * Taking is the one moment that decides: after a crash, a record "creating" whose snapshot the pool has becomes
 * "ready", and is forgotten otherwise; so a group is there wholly or not at all. Therefore a commit that fails is only
 * logged. "deleting" is completed. Snapshots of a volume that is being deleted go with it: cat_snapshots_drop.
 */
#include "control/catalog-internal.h"

#include "base/units.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- In memory ---- */

static const char *full_name(const struct cat_snapshot *s, char buf[CAT_SNAPSHOT_NAME_MAX + 1])
{
	snprintf(buf, CAT_SNAPSHOT_NAME_MAX + 1, "%s@%s", s->volume->name, s->name);
	return buf;
}

static struct cat_snapshot *find_in(struct cat_volume *v, const char *name)
{
	struct cat_named *n = cat_names_find(&v->snapshots, name);

	return n != NULL ? pst_container_of(n, struct cat_snapshot, named) : NULL;
}

/* Cuts "VOLUME@NAME"; false if it isn't one. */
static bool split_name(const char *full, char volume[PST_NAME_MAX + 1], const char **ret_name)
{
	const char *at = strchr(full, '@');

	if (at == NULL || at - full > (ptrdiff_t)PST_NAME_MAX)
		return false;
	snprintf(volume, PST_NAME_MAX + 1, "%.*s", (int)(at - full), full);
	*ret_name = at + 1;
	return pst_name_ok(volume) && pst_name_ok(at + 1);
}

struct cat_snapshot *cat_snapshot_find(struct pst_catalog *c, const char *full)
{
	char volume[PST_NAME_MAX + 1];
	struct cat_volume *v;
	const char *name;

	if (!split_name(full, volume, &name))
		return NULL;
	v = cat_volume_find(c, volume);
	return v != NULL ? find_in(v, name) : NULL;
}

struct cat_snapshot *cat_snapshot_of(struct pst_catalog *c, const struct pst_catalog_op *op, const char *full)
{
	struct cat_snapshot *s = cat_snapshot_find(c, full);

	return s != NULL && cat_volume_visible(op, s->volume) ? s : NULL;
}

static struct cat_snapshot *snapshot_new(struct pst_catalog *c, struct cat_volume *v, const char *name)
{
	struct cat_snapshot *s = calloc(1, sizeof(*s));

	if (s == NULL)
		return NULL;
	s->volume = v;
	snprintf(s->name, sizeof(s->name), "%s", name);
	cat_names_add(&v->snapshots, &s->named, s->name);
	c->snapshot_count++;
	return s;
}

void cat_snapshot_free(struct pst_catalog *c, struct cat_snapshot *s)
{
	cat_read_forget_snapshot(c, s);
	cat_names_remove(&s->volume->snapshots, &s->named);
	c->snapshot_count--;
	free(s);
}

bool cat_snapshot_shown(const struct cat_snapshot *s)
{
	return s->state != CAT_CREATING;
}

uint64_t cat_snapshots_own(const struct cat_volume *v)
{
	uint64_t bytes = 0;

	CAT_NAMES_EACH(n, &v->snapshots)
		bytes += pst_container_of(n, struct cat_snapshot, named)->usage.own_bytes;
	return bytes;
}

json_t *cat_snapshot_json(struct pst_catalog *c, const struct cat_snapshot *s)
{
	char name[CAT_SNAPSHOT_NAME_MAX + 1], uuid[37], created[32];
	json_t *json;

	pst_uuid_format(s->uuid, uuid);
	json = json_pack("{s:s s:s s:s s:s s:s s:s s:I s:I s:I s:I}", "name", full_name(s, name), "volume",
			 s->volume->name, "pool", c->pools[s->volume->pool].name, "uuid", uuid, "state",
			 cat_state_names[s->state], "created", pst_format_time(s->created_ns, created), "size_bytes",
			 (json_int_t)s->size_bytes, "mapped_bytes", (json_int_t)s->usage.mapped_bytes, "own_bytes",
			 (json_int_t)s->usage.own_bytes, "children", (json_int_t)s->usage.children);
	if (json != NULL && s->error != PST_OK)
		json_object_set_new(json, "error", json_string(pst_err_text(s->error)));
	return json;
}

/* ---- Records ---- */

static void record_put(struct pst_catalog *c, const struct cat_snapshot *s, const char *state,
		       void (*done)(struct pst_catalog *c, pst_err err))
{
	char name[CAT_SNAPSHOT_NAME_MAX + 1], uuid[37];

	pst_uuid_format(s->uuid, uuid);
	cat_record_put(c, s->volume->pool, "snapshot", full_name(s, name),
		       json_pack("{s:i s:s s:s s:I s:I}", "format", CAT_RECORD_FORMAT, "state", state, "uuid", uuid,
				 "created_ns", (json_int_t)s->created_ns, "size_bytes", (json_int_t)s->size_bytes),
		       done);
}

static void record_delete(struct pst_catalog *c, const struct cat_snapshot *s,
			  void (*done)(struct pst_catalog *c, pst_err err))
{
	char name[CAT_SNAPSHOT_NAME_MAX + 1];

	cat_record_delete(c, s->volume->pool, "snapshot", full_name(s, name), done);
}

/* From the pool; the record stays. */
static void remove_version(struct pst_catalog *c, const struct cat_snapshot *s,
			   void (*done)(struct pst_catalog *c, pst_err err))
{
	c->pool_op = (struct pst_pool_op){ .kind = PST_POOL_VOLUME_DELETE };
	memcpy(c->pool_op.uuid, s->uuid, sizeof(s->uuid));
	cat_pool_step(c, s->volume->pool, done);
}

pst_err cat_snapshot_load(struct pst_catalog *c, unsigned pool, const char *full, json_t *record, char *message,
			  size_t message_bytes)
{
	char volume[PST_NAME_MAX + 1];
	const char *state_text, *uuid_text, *name;
	json_int_t created_ns, size_bytes;
	enum cat_volume_state state;
	struct cat_snapshot *s;
	struct cat_volume *v;
	uint8_t uuid[16];

	if (!split_name(full, volume, &name) ||
	    json_unpack(record, "{s:s s:s s:I s:I}", "state", &state_text, "uuid", &uuid_text, "created_ns",
			&created_ns, "size_bytes", &size_bytes) != 0 ||
	    created_ns < 0 || size_bytes < 0 || pst_uuid_parse(uuid_text, uuid) != PST_OK ||
	    cat_state_parse(state_text, &state) != PST_OK)
		return PST_E_FORMAT;
	v = cat_volume_find(c, volume);
	if (v == NULL || v->pool != pool) {
		snprintf(message, message_bytes, "there is no record of volume '%s', which it is of", volume);
		return PST_E_FORMAT;
	}
	s = snapshot_new(c, v, name);
	if (s == NULL)
		return PST_E_NOMEM;
	s->state = state;
	memcpy(s->uuid, uuid, sizeof(uuid));
	s->created_ns = (uint64_t)created_ns;
	s->size_bytes = (uint64_t)size_bytes;
	return PST_OK;
}

/* ---- Create ---- */

static void create_undo(struct pst_catalog *c);
static void create_commit(struct pst_catalog *c);

static void create_failed(struct pst_catalog *c)
{
	struct cat_snapshot_job *j = &c->snap;
	char hint[200] = "penstock pool list";

	if (j->err == PST_E_UNSUPPORTED)
		snprintf(hint, sizeof(hint), "pools on disk can: penstockd --pool DIR");
	if (j->err == PST_E_NOSPACE)
		snprintf(hint, sizeof(hint), "delete snapshots or volumes, or: penstock pool add-device %s PATH",
			 c->pools[j->volume->pool].name);
	cat_fail(c, j->err, hint, "no snapshot of volume '%s' was taken in pool '%s': %s", j->volume->name,
		 c->pools[j->volume->pool].name, j->detail[0] != '\0' ? j->detail : pst_err_text(j->err));
}

static void undo_forgotten(struct pst_catalog *c, pst_err err)
{
	struct cat_snapshot_job *j = &c->snap;

	if (err != PST_OK && err != PST_E_NOTFOUND)
		pst_env_log(
		    c->env, PST_LOG_WARN,
		    "snapshot_record_left volume=%s snapshot=%s error=\"%s\" next=\"the next start removes it\"",
		    j->volume->name, j->members[j->at]->name, pst_err_text(err));
	cat_snapshot_free(c, j->members[j->at++]);
	create_undo(c);
}

static void undo_removed(struct pst_catalog *c, pst_err err)
{
	struct cat_snapshot *s = c->snap.members[c->snap.at];

	if (err == PST_OK || err == PST_E_NOTFOUND)
		return record_delete(c, s, undo_forgotten);
	/* It may be there: shown, so that it can be deleted again. */
	s->state = CAT_DELETING;
	s->error = err;
	c->snap.at++;
	create_undo(c);
}

static void create_undo(struct pst_catalog *c)
{
	struct cat_snapshot_job *j = &c->snap;

	if (j->at == j->count)
		return create_failed(c);
	if (j->tried)
		remove_version(c, j->members[j->at], undo_removed);
	else
		record_delete(c, j->members[j->at], undo_forgotten);
}

static void create_stop(struct pst_catalog *c, pst_err err)
{
	struct cat_snapshot_job *j = &c->snap;

	j->err = err;
	j->at = 0;
	create_undo(c);
}

static void create_answer(struct pst_catalog *c)
{
	struct cat_snapshot_job *j = &c->snap;
	json_t *list = json_array();

	for (unsigned i = 0; i < j->count; i++)
		json_array_append_new(list, cat_snapshot_json(c, j->members[i]));
	cat_succeed(c, list);
}

static void create_ask(struct pst_catalog *c);

static void create_asked(struct pst_catalog *c, pst_err err)
{
	struct cat_snapshot_job *j = &c->snap;

	if (err == PST_OK)
		cat_usage_take(c, &j->members[j->at]->usage, &c->pool_op.info);
	j->at++;
	create_ask(c);
}

/* What is mapped, for the answer. */
static void create_ask(struct pst_catalog *c)
{
	struct cat_snapshot_job *j = &c->snap;

	if (j->at == j->count)
		return create_answer(c);
	c->pool_op = (struct pst_pool_op){ .kind = PST_POOL_VOLUME_INFO };
	memcpy(c->pool_op.uuid, j->members[j->at]->uuid, 16);
	cat_pool_step(c, j->volume->pool, create_asked);
}

static void create_committed(struct pst_catalog *c, pst_err err)
{
	struct cat_snapshot_job *j = &c->snap;
	struct cat_snapshot *s = j->members[j->at];

	if (err != PST_OK)
		cat_event(c, j->volume->pool, PST_LOG_WARN,
			  "snapshot_record_late volume=%s snapshot=%s error=\"%s\" next=\"the next start mends it\"",
			  j->volume->name, s->name, pst_err_text(err));
	s->state = CAT_READY;
	j->at++;
	create_commit(c);
}

static void create_commit(struct pst_catalog *c)
{
	struct cat_snapshot_job *j = &c->snap;

	if (j->at < j->count)
		return record_put(c, j->members[j->at], "ready", create_committed);
	j->at = 0;
	create_ask(c);
}

static void create_taken(struct pst_catalog *c, pst_err err)
{
	snprintf(c->snap.detail, sizeof(c->snap.detail), "%s", c->pool_op.detail);
	if (err != PST_OK)
		return create_stop(c, err);
	c->snap.at = 0;
	create_commit(c);
}

static void create_take(struct pst_catalog *c)
{
	struct cat_snapshot_job *j = &c->snap;

	for (unsigned i = 0; i < j->count; i++) {
		memcpy(j->pairs[i].volume, j->members[i]->volume->uuid, 16);
		memcpy(j->pairs[i].snapshot, j->members[i]->uuid, 16);
	}
	j->tried = true;
	c->pool_op = (struct pst_pool_op){ .kind = PST_POOL_SNAPSHOT };
	c->pool_op.members = j->pairs;
	c->pool_op.member_count = j->count;
	cat_pool_step(c, j->volume->pool, create_taken);
}

static void create_intent(struct pst_catalog *c);

static void create_recorded(struct pst_catalog *c, pst_err err)
{
	if (err != PST_OK)
		return create_stop(c, err);
	c->snap.at++;
	create_intent(c);
}

static void create_intent(struct pst_catalog *c)
{
	struct cat_snapshot_job *j = &c->snap;

	if (j->at < j->count)
		record_put(c, j->members[j->at], "creating", create_recorded);
	else
		create_take(c);
}

/* One member of the request; false after cat_fail. */
static bool member_check(struct pst_catalog *c, const char *volume, const char *name, struct cat_volume **ret_volume)
{
	struct cat_snapshot_job *j = &c->snap;
	struct cat_volume *v = cat_volume_of(c, c->current, volume);
	char hint[200];

	snprintf(hint, sizeof(hint), "penstock snapshot list %.63s", volume);
	if (!pst_name_ok(name))
		cat_fail(c, PST_E_INVAL, "penstock snapshot create VOLUME@NAME",
			 "'%.63s' can't be a snapshot's name: a name is " PST_NAME_RULE, name);
	else if (v == NULL || !cat_volume_shown(v))
		cat_fail(c, PST_E_NOTFOUND, "penstock volume list", "there is no volume '%.63s'", volume);
	else if (v->state != CAT_READY)
		cat_fail(c, PST_E_BUSY, "penstock volume show NAME", "volume '%s' is %s: no snapshot can be taken",
			 v->name, cat_state_names[v->state]);
	else if (find_in(v, name) != NULL)
		cat_fail(c, PST_E_EXISTS, hint, "snapshot '%s@%s' exists already", v->name, name);
	else if (j->count > 0 && v->pool != j->members[0]->volume->pool)
		cat_fail(c, PST_E_INVAL, "penstock snapshot create, once for each pool",
			 "volumes '%s' (pool '%s') and '%s' (pool '%s') can't be taken at one instant: they lie in "
			 "different pools",
			 j->members[0]->volume->name, c->pools[j->members[0]->volume->pool].name, v->name,
			 c->pools[v->pool].name);
	else if (c->snapshot_count >= PST_CATALOG_SNAPSHOTS_MAX)
		cat_fail(c, PST_E_NOMEM, "penstock snapshot delete VOLUME@NAME",
			 "there are %u snapshots, the most allowed", c->snapshot_count);
	else
		return *ret_volume = v, true;
	return false;
}

static bool member_twice(struct pst_catalog *c, const struct cat_volume *v)
{
	for (unsigned i = 0; i < c->snap.count; i++)
		if (c->snap.members[i]->volume == v) {
			cat_fail(c, PST_E_INVAL, NULL,
				 "volume '%s' is named twice: one snapshot of each at one instant", v->name);
			return true;
		}
	return false;
}

static bool member_add(struct pst_catalog *c, json_t *member)
{
	struct cat_snapshot_job *j = &c->snap;
	const char *volume, *name;
	struct cat_snapshot *s;
	struct cat_volume *v;

	if (json_unpack_ex(member, NULL, JSON_STRICT, "{s:s s:s}", "volume", &volume, "name", &name) != 0) {
		cat_fail(c, PST_E_INVAL, NULL, "each of members must be an object with volume and name");
		return false;
	}
	if (!member_check(c, volume, name, &v) || member_twice(c, v))
		return false;
	s = snapshot_new(c, v, name);
	if (s == NULL) {
		cat_fail(c, PST_E_NOMEM, NULL, "no memory for snapshot '%s@%s'", volume, name);
		return false;
	}
	s->state = CAT_CREATING;
	s->size_bytes = cat_volume_bytes(v);
	s->created_ns = pst_env_wall_ns(c->env);
	cat_uuid_new(c, s->uuid);
	j->members[j->count++] = s;
	return true;
}

static void snapshot_create(struct pst_catalog *c)
{
	static const char *const allowed[] = { "members", NULL };
	struct cat_snapshot_job *j = &c->snap;
	json_t *members, *member;
	size_t i;

	if (!cat_body_check(c, allowed))
		return;
	members = json_object_get(c->current->body, "members");
	if (json_array_size(members) == 0 || json_array_size(members) > PST_SNAPSHOT_MEMBERS_MAX)
		return cat_fail(c, PST_E_INVAL, NULL,
				"members must be an array of 1 to %u objects with volume and name",
				PST_SNAPSHOT_MEMBERS_MAX);
	*j = (struct cat_snapshot_job){ .count = 0 };
	json_array_foreach(members, i, member)
	{
		if (member_add(c, member))
			continue;
		while (j->count > 0)
			cat_snapshot_free(c, j->members[--j->count]);
		return;
	}
	j->volume = j->members[0]->volume;
	create_intent(c);
}

/* ---- Dropping: one after the other, all of a volume, or one ---- */

static void drop_next(struct pst_catalog *c);

static void drop_forgotten(struct pst_catalog *c, pst_err err)
{
	struct cat_snapshot_job *j = &c->snap;

	if (err != PST_OK && err != PST_E_NOTFOUND) {
		j->members[0]->error = err;
		return j->done(c, err);
	}
	cat_snapshot_free(c, j->members[0]);
	if (j->volume == NULL)
		j->done(c, PST_OK);
	else
		drop_next(c);
}

static void drop_removed(struct pst_catalog *c, pst_err err)
{
	struct cat_snapshot_job *j = &c->snap;

	if (err == PST_OK || err == PST_E_NOTFOUND)
		return record_delete(c, j->members[0], drop_forgotten);
	j->members[0]->error = err;
	j->done(c, err);
}

static void drop_next(struct pst_catalog *c)
{
	struct cat_snapshot_job *j = &c->snap;
	struct cat_named *first = cat_names_next(&j->volume->snapshots, NULL);

	if (first == NULL)
		return j->done(c, PST_OK);
	j->members[0] = pst_container_of(first, struct cat_snapshot, named);
	j->members[0]->state = CAT_DELETING;
	remove_version(c, j->members[0], drop_removed);
}

void cat_snapshots_drop(struct pst_catalog *c, struct cat_volume *v, void (*done)(struct pst_catalog *c, pst_err err))
{
	pst_assert(cat_names_count(&v->snapshots) > 0); /* or done would run inside */
	c->snap = (struct cat_snapshot_job){ .volume = v, .done = done };
	drop_next(c);
}

/* ---- Delete ---- */

static void deleted(struct pst_catalog *c, pst_err err)
{
	if (err == PST_OK)
		return cat_succeed(c, NULL);
	cat_fail(c, err, "penstock pool list", "snapshot '%.127s' could not be deleted: %s", c->current->name,
		 pst_err_text(err));
}

static void delete_marked(struct pst_catalog *c, pst_err err)
{
	struct cat_snapshot *s = c->snap.members[0];

	if (err == PST_OK) {
		s->state = CAT_DELETING;
		return remove_version(c, s, drop_removed);
	}
	deleted(c, err);
}

static void snapshot_delete(struct pst_catalog *c, struct cat_snapshot *s)
{
	c->snap = (struct cat_snapshot_job){ .done = deleted };
	c->snap.members[0] = s;
	record_put(c, s, "deleting", delete_marked);
}

void cat_snapshot_change(struct pst_catalog *c)
{
	struct pst_catalog_op *op = c->current;
	struct cat_snapshot *s;

	if (op->kind == PST_CATALOG_CREATE)
		return snapshot_create(c);
	s = cat_snapshot_of(c, op, op->name);
	if (s == NULL)
		cat_fail(c, PST_E_NOTFOUND, "penstock snapshot list", "there is no snapshot '%.127s'", op->name);
	else
		snapshot_delete(c, s);
}

/* ---- After a crash ---- */

static void resolve_mended(struct pst_catalog *c, pst_err err)
{
	struct cat_snapshot *s = c->snap.members[0];

	s->state = CAT_READY; /* which it is; the record follows at the next start, if not now */
	cat_event(c, s->volume->pool, err == PST_OK ? PST_LOG_INFO : PST_LOG_WARN,
		  "snapshot_create_completed volume=%s snapshot=%s reason=\"interrupted by the last stop\"%s",
		  s->volume->name, s->name, err == PST_OK ? "" : " record=late");
	c->snap.done(c, PST_OK);
}

static void resolve_asked(struct pst_catalog *c, pst_err err)
{
	struct cat_snapshot *s = c->snap.members[0];

	if (err == PST_OK) {
		cat_usage_take(c, &s->usage, &c->pool_op.info);
		return record_put(c, s, "ready", resolve_mended);
	}
	if (err == PST_E_NOTFOUND) {
		cat_event(c, s->volume->pool, PST_LOG_INFO,
			  "snapshot_create_undone volume=%s snapshot=%s reason=\"interrupted by the last stop\"",
			  s->volume->name, s->name);
		return record_delete(c, s, drop_forgotten);
	}
	s->state = CAT_FAILED;
	s->error = err;
	c->snap.done(c, err);
}

void cat_snapshot_resolve(struct pst_catalog *c, struct cat_snapshot *s,
			  void (*done)(struct pst_catalog *c, pst_err err))
{
	c->snap = (struct cat_snapshot_job){ .done = done };
	c->snap.members[0] = s;
	if (s->state == CAT_DELETING) {
		cat_event(c, s->volume->pool, PST_LOG_INFO,
			  "snapshot_delete_completed volume=%s snapshot=%s reason=\"interrupted by the last stop\"",
			  s->volume->name, s->name);
		return remove_version(c, s, drop_removed);
	}
	c->pool_op = (struct pst_pool_op){ .kind = PST_POOL_VOLUME_INFO };
	memcpy(c->pool_op.uuid, s->uuid, sizeof(s->uuid));
	cat_pool_step(c, s->volume->pool, resolve_asked);
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Versions in a run: snapshots that steps take, and clones that steps use.
 *
 * A snapshot is taken when its step has succeeded and its volumes are detached: the keeper has unmounted them and found
 * the file system on the volume in order, so that a version never needs a journal replay. All of a step's snapshots are
 * of one instant. A version is its uuid; names only find it. What a name stands for never changes: where a snapshot of
 * that name exists, its content decides. The same (by the digest that was recorded of it): it is kept. Another: the
 * step fails and the version stays. `auto` compares with the newest version, and counts on: v1, v2 ...
 *
 * A clone is named like any volume of the pipeline, so that there is one at a time. It is made when a step first needs
 * it, kept for as long as its version is the one that is wanted, and made anew for each attempt of a step that writes
 * it (but not with profile checkpoint, whose contents are there to go on from). What must be deleted for that is always
 * a clone (volumes.c looks), and never a version.
 */
#include "base/units.h"
#include "control/client.h"
#include "pipeline/runner.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What the daemon says of a snapshot. */
struct found {
	char uuid[40], created[48];
};

static const char *text_of(json_t *object, const char *key)
{
	const char *text = json_string_value(json_object_get(object, key));

	return text != NULL ? text : "";
}

/* @name is "VOLUME@NAME" as the file has it. */
static pst_err find_version(struct runner *r, const char *name, json_t **ret_json, struct found *ret,
			    struct pst_api_error *e)
{
	json_t *json = NULL;
	char path[200];

	snprintf(path, sizeof(path), "/v1/snapshots/%s-%s", r->pipeline->name, name);
	pst_err err = run_api_patient(r, "GET", path, NULL, &json, e);
	if (err != PST_OK)
		return err;
	if (ret != NULL) {
		snprintf(ret->uuid, sizeof(ret->uuid), "%s", text_of(json, "uuid"));
		snprintf(ret->created, sizeof(ret->created), "%s", text_of(json, "created"));
	}
	if (ret_json != NULL)
		*ret_json = json;
	else
		json_decref(json);
	return PST_OK;
}

/*
 * The newest snapshot of a volume (its name behind '@' into @ret_name), and the highest number N of those named vN.
 * PST_E_NOTFOUND: it has none.
 */
static pst_err newest_version(struct runner *r, const struct run_volume *v, char ret_name[64], struct found *ret,
			      unsigned *ret_number, struct pst_api_error *e)
{
	json_t *list = NULL, *one;
	char path[160];
	size_t i;
	bool any = false;

	snprintf(path, sizeof(path), "/v1/snapshots?volume=%s", v->name);
	pst_err err = run_api_patient(r, "GET", path, NULL, &list, e);
	*ret_number = 0;
	json_array_foreach(list, i, one)
	{
		const char *at = strchr(text_of(one, "name"), '@'), *created = text_of(one, "created");
		char *end = NULL;

		if (at == NULL)
			continue;
		unsigned long number = at[1] == 'v' ? strtoul(at + 2, &end, 10) : 0;
		if (end != NULL && *end == '\0' && number < 1000000000)
			*ret_number = PST_MAX(*ret_number, (unsigned)number);
		/* Times are of seconds: among equals the name counts, v10 after v9. */
		int order = any ? strcmp(created, ret->created) : 1;
		if (order < 0 || (order == 0 && strverscmp(at + 1, ret_name) < 0))
			continue;
		any = true;
		snprintf(ret_name, 64, "%s", at + 1);
		snprintf(ret->uuid, sizeof(ret->uuid), "%s", text_of(one, "uuid"));
		snprintf(ret->created, sizeof(ret->created), "%s", created);
	}
	json_decref(list);
	return err == PST_OK && !any ? PST_E_NOTFOUND : err;
}

/* ---- the record ---- */

/* The entry of a version; made when it is new. */
static json_t *entry(struct runner *r, const char *name, const char *uuid, const char *status)
{
	json_t *one;
	size_t i;

	json_array_foreach(r->versions, i, one) if (strcmp(text_of(one, "uuid"), uuid) == 0) return one;
	one = json_pack("{s:s, s:s%, s:s, s:s, s:s, s:[], s:[]}", "name", name, "volume", name,
			(size_t)(strchr(name, '@') - name), "snapshot", strchr(name, '@') + 1, "uuid", uuid, "status",
			status, "read_by", "clones");
	json_array_append_new(r->versions, one);
	return one;
}

static void note_reader(struct runner *r, struct run_step *s, const struct run_volume *v)
{
	json_t *readers = json_object_get(entry(r, v->version, v->version_uuid, "read"), "read_by"), *name;
	size_t i;

	json_array_foreach(readers, i, name) if (strcmp(json_string_value(name), s->spec->name) == 0) return;
	json_array_append_new(readers, json_string(s->spec->name));
	registry_read_version(r, s, v->version, v->version_uuid);
}

static json_t *find_clone(struct runner *r, const char *version_uuid)
{
	json_t *clones = json_array();

	for (size_t i = 0; i < r->pipeline->volume_count; i++) {
		struct run_volume *v = &r->volumes[i];
		json_t *json = NULL, *own;
		struct pst_api_error e;
		char path[160];

		if (v->spec->source == SIZE_MAX || strcmp(v->version_uuid, version_uuid) != 0 || !v->there)
			continue;
		snprintf(path, sizeof(path), "/v1/volumes/%s", v->name);
		(void)run_api(r, "GET", path, NULL, &json, &e);
		own = json_pack("{s:s, s:s, s:s, s:b, s:b}", "name", v->spec->name, "volume", v->name, "uuid", v->uuid,
				"made", v->made, "written", v->spec->writer != SIZE_MAX);
		for (size_t k = 0; k < 2; k++) {
			const char *key = k == 0 ? "mapped_bytes" : "own_bytes";
			json_t *value = json_object_get(json, key);

			json_object_set(own, key, value != NULL ? value : json_null());
		}
		json_array_append_new(clones, own);
		json_decref(json);
	}
	return clones;
}

json_t *versions_json(struct runner *r)
{
	static const char *const keys[] = { "created", "size_bytes", "mapped_bytes", "own_bytes" };
	json_t *one;
	size_t i;

	json_array_foreach(r->versions, i, one)
	{
		json_t *now = NULL;
		struct pst_api_error e;

		(void)find_version(r, text_of(one, "name"), &now, NULL, &e);
		for (size_t k = 0; k < PST_ARRAY_COUNT(keys); k++) {
			json_t *value = json_object_get(now, keys[k]);

			json_object_set(one, keys[k], value != NULL ? value : json_null());
		}
		json_object_set_new(one, "clones", find_clone(r, text_of(one, "uuid")));
		json_decref(now);
	}
	return json_incref(r->versions);
}

/* ---- clones ---- */

static bool know_version(struct runner *r, struct run_step *s, struct run_volume *v)
{
	const char *source = r->pipeline->volumes[v->spec->source].name;
	bool latest = strcmp(v->spec->version, PST_PIPELINE_LATEST) == 0;
	struct pst_api_error e = { 0 };
	char name[64] = "";
	struct found found = { 0 };
	unsigned number;
	pst_err err = PST_OK;

	if (v->version_uuid[0] != '\0')
		return true;
	if (latest)
		err = newest_version(r, &r->volumes[v->spec->source], name, &found, &number, &e);
	else
		snprintf(name, sizeof(name), "%s", v->spec->version);
	snprintf(v->version, sizeof(v->version), "%s@%s", source, err == PST_OK ? name : PST_PIPELINE_LATEST);
	if (err == PST_OK && !latest)
		err = find_version(r, v->version, NULL, &found, &e);
	if (err == PST_E_NOTFOUND)
		step_fail(s,
			  "volume '%s' is a clone of %s, which does not exist: let a step take it (snapshots: {%s: "
			  "...}), or: penstock snapshot create %s-%s",
			  v->spec->name, v->version, source, r->pipeline->name, latest ? source : v->version);
	else if (err != PST_OK || found.uuid[0] == '\0')
		step_fail(s, "volume '%s': its version %s can't be asked for: %s", v->spec->name, v->version,
			  e.message[0] != '\0' ? e.message : pst_err_text(err));
	else
		snprintf(v->version_uuid, sizeof(v->version_uuid), "%s", found.uuid);
	return v->version_uuid[0] != '\0';
}

bool versions_known(struct runner *r, struct run_step *s)
{
	for (size_t i = 0; i < s->spec->uses_count; i++) {
		struct run_volume *v = &r->volumes[s->spec->uses[i].volume];

		if (v->spec->source != SIZE_MAX && !know_version(r, s, v))
			return false;
	}
	return true;
}

bool version_clone(struct runner *r, struct run_step *s, struct run_volume *v, bool rw, struct pst_api_error *e)
{
	bool fits = v->there && strcmp(v->own_version, v->version_uuid) == 0;
	bool fresh = rw && strcmp(v->spec->profile, "checkpoint") != 0;

	note_reader(r, s, v);
	if (fits && !fresh)
		return true;
	if (!volume_renew(r, v, e))
		return false;
	progress_line(r, "%s: volume '%s' is a clone of %s", s->spec->name, v->name, v->version);
	return true;
}

/* ---- snapshots ---- */

bool version_stands(struct runner *r, const char *name, const char *uuid)
{
	struct pst_api_error e;
	struct found found = { 0 };

	return find_version(r, name, NULL, &found, &e) == PST_OK && strcmp(found.uuid, uuid) == 0;
}

bool versions_pins(const struct run_step *s, size_t volume)
{
	for (size_t i = 0; i < s->spec->pins_count; i++)
		if (s->spec->pins[i].volume == volume)
			return true;
	return false;
}

/* What the step's volume holds: read as its output, or for the snapshot. */
static json_t *pin_digest(struct runner *r, struct run_step *s, size_t pin)
{
	json_t *own = json_array_get(s->pin_digests, pin), *output;
	const char *name = r->pipeline->volumes[s->spec->pins[pin].volume].name;
	size_t i;

	if (json_is_object(own))
		return own;
	json_array_foreach(s->outputs, i, output) if (strcmp(text_of(output, "volume"), name) == 0 &&
						      strcmp(text_of(output, "path"), "/") == 0) return output;
	return NULL;
}

/* One snapshot: its name, and whether it must be taken. */
struct plan {
	char name[96]; /* VOLUME@NAME */
	struct found found;
	bool take;
	json_t *digest;
};

static bool same_content(struct runner *r, const struct found *found, json_t *digest)
{
	char sha256[65];

	return registry_pinned(r, found->uuid, sha256) && strcmp(sha256, text_of(digest, "sha256")) == 0;
}

static pst_err plan_auto(struct runner *r, struct run_step *s, const struct pst_pipeline_pin *pin, struct plan *plan,
			 struct pst_api_error *e)
{
	struct run_volume *v = &r->volumes[pin->volume];
	char newest[64] = "";
	unsigned number;
	pst_err err = newest_version(r, v, newest, &plan->found, &number, e);

	(void)s;
	plan->take = err == PST_E_NOTFOUND || (err == PST_OK && !same_content(r, &plan->found, plan->digest));
	if (plan->take)
		snprintf(newest, sizeof(newest), "v%u", number + 1);
	snprintf(plan->name, sizeof(plan->name), "%s@%s", v->spec->name, newest);
	return err == PST_E_NOTFOUND ? PST_OK : err;
}

static pst_err plan_named(struct runner *r, struct run_step *s, const struct pst_pipeline_pin *pin, struct plan *plan,
			  struct pst_api_error *e)
{
	snprintf(plan->name, sizeof(plan->name), "%s@%s", r->volumes[pin->volume].spec->name, pin->version);
	pst_err err = find_version(r, plan->name, NULL, &plan->found, e);
	plan->take = err == PST_E_NOTFOUND;
	if (err == PST_OK && !same_content(r, &plan->found, plan->digest)) {
		step_fail(s,
			  "%s exists and holds other content, and a version never changes: name the new one "
			  "otherwise in 'snapshots', or let it be counted (auto); penstock snapshot delete %s-%s if "
			  "nobody needs the old one",
			  plan->name, r->pipeline->name, plan->name);
		return PST_E_EXISTS;
	}
	return plan->take ? PST_OK : err;
}

static bool plan_one(struct runner *r, struct run_step *s, size_t i, struct plan *plan)
{
	const struct pst_pipeline_pin *pin = &s->spec->pins[i];
	struct run_volume *v = &r->volumes[pin->volume];
	struct pst_api_error e = { 0 };

	for (size_t k = 0; k < s->spec->uses_count; k++)
		if (s->uses[k].volume == pin->volume && !s->uses[k].clean) {
			step_fail(s, "volume '%s' was not left clean: no snapshot is taken of it", v->spec->name);
			return false;
		}
	plan->digest = pin_digest(r, s, i);
	pst_err err = strcmp(pin->version, PST_PIPELINE_AUTO) == 0 ? plan_auto(r, s, pin, plan, &e)
								   : plan_named(r, s, pin, plan, &e);
	if (err != PST_OK)
		step_fail(s, "snapshot %s: %s", plan->name, e.message[0] != '\0' ? e.message : pst_err_text(err));
	return err == PST_OK;
}

/* All that are to be taken in one call, so at one instant. */
static bool take_all(struct runner *r, struct run_step *s, struct plan *plans)
{
	json_t *members = json_array();
	struct pst_api_error e = { 0 };
	pst_err err = PST_OK;

	for (size_t i = 0; i < s->spec->pins_count; i++)
		if (plans[i].take)
			json_array_append_new(members, json_pack("{s:s, s:s}", "volume",
								 r->volumes[s->spec->pins[i].volume].name, "name",
								 strchr(plans[i].name, '@') + 1));
	if (json_array_size(members) > 0)
		err = run_api_patient(r, "POST", "/v1/snapshots", json_pack("{s:O}", "members", members), NULL, &e);
	json_decref(members);
	/* It was looked for a moment ago: then it is ours, and only the answer was lost with the daemon. */
	if (err == PST_E_EXISTS)
		err = PST_OK;
	for (size_t i = 0; i < s->spec->pins_count && err == PST_OK; i++)
		if (plans[i].take)
			err = find_version(r, plans[i].name, NULL, &plans[i].found, &e);
	r->no_space |= err == PST_E_NOSPACE;
	if (err != PST_OK)
		step_fail(s, "its snapshot could not be taken: %s",
			  e.message[0] != '\0' ? e.message : pst_err_text(err));
	return err == PST_OK;
}

static void pinned(struct runner *r, struct run_step *s, size_t i, const struct plan *plan)
{
	struct run_volume *v = &r->volumes[s->spec->pins[i].volume];
	json_t *one = entry(r, plan->name, plan->found.uuid, plan->take ? "taken" : "kept"), *output;

	if (plan->take)
		registry_pin(r, s, v, plan->name, plan->found.uuid, plan->digest);
	json_object_set_new(one, "step", json_string(s->spec->name));
	for (const char *const *key = (const char *const[]){ "sha256", "files", "bytes", NULL }; *key != NULL; key++)
		json_object_set(one, *key, json_object_get(plan->digest, *key));
	output = json_pack("{s:s, s:s, s:s, s:s, s:s}", "volume", v->spec->name, "volume_uuid", v->uuid, "path", "/",
			   "version", plan->name, "version_uuid", plan->found.uuid);
	json_object_update_missing(output, json_copy(plan->digest));
	json_array_append_new(s->outputs, output);
	progress_line(r, "%s: volume '%s' is %s %s%s", s->spec->name, v->name, plan->take ? "pinned as" : "still",
		      plan->name, plan->take ? "" : ": the same content");
}

bool versions_pin(struct runner *r, struct run_step *s)
{
	struct plan *plans = calloc(PST_MAX(s->spec->pins_count, (size_t)1), sizeof(*plans));
	bool ok = plans != NULL;

	for (size_t i = 0; i < s->spec->pins_count && ok; i++)
		ok = plan_one(r, s, i, &plans[i]);
	ok = ok && take_all(r, s, plans);
	for (size_t i = 0; i < s->spec->pins_count && ok; i++)
		pinned(r, s, i, &plans[i]);
	free(plans);
	return ok;
}

void versions_cached(struct runner *r, struct run_step *s)
{
	json_t *output, *one;
	size_t i;

	json_array_foreach(s->outputs, i, output)
	{
		if (text_of(output, "version_uuid")[0] == '\0')
			continue;
		one = entry(r, text_of(output, "version"), text_of(output, "version_uuid"), "cached");
		json_object_set_new(one, "step", json_string(s->spec->name));
		for (const char *const *key = (const char *const[]){ "sha256", "files", "bytes", NULL }; *key != NULL;
		     key++)
			json_object_set(one, *key, json_object_get(output, *key));
	}
	for (i = 0; i < s->spec->uses_count; i++)
		if (r->volumes[s->spec->uses[i].volume].spec->source != SIZE_MAX)
			note_reader(r, s, &r->volumes[s->spec->uses[i].volume]);
}

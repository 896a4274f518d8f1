/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Allow lists: which hosts may connect to a volume. A volume without one (v->allowed NULL) takes any host; an empty one
 * takes none, so that taking off the last host opens nothing. The list is a record of its own, "allow/VOLUME", there
 * exactly if the volume has one: each change is one durable step. It is told to the target after that.
 *
 * A clone begins with the list of what it was cloned from: it has the same data.
 */
#include "control/catalog-internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ENTRY_BYTES 3u /* quotes and comma */
#define RECORD_ROOM (PST_RECORD_VALUE_MAX - 64u)

static bool listed(const json_t *list, const char *nqn, size_t *ret_at)
{
	json_t *one;
	size_t i;

	json_array_foreach(list, i, one)
	{
		if (strcmp(json_string_value(one), nqn) != 0)
			continue;
		*ret_at = i;
		return true;
	}
	return false;
}

static bool fits(const json_t *list)
{
	size_t bytes = 0, i;
	json_t *one;

	json_array_foreach(list, i, one) bytes += json_string_length(one) + ENTRY_BYTES;
	return bytes <= RECORD_ROOM;
}

/* Only names, each once. */
static bool sound(const json_t *list)
{
	json_t *one;
	size_t i, at;

	if (!json_is_array(list))
		return false;
	json_array_foreach(list, i, one)
	{
		if (!json_is_string(one) || strlen(json_string_value(one)) != json_string_length(one) ||
		    !cat_nqn_ok(json_string_value(one)) || !listed(list, json_string_value(one), &at) || at != i)
			return false;
	}
	return true;
}

json_t *cat_allowed_volumes(struct pst_catalog *c, const char *nqn)
{
	json_t *names = json_array();
	size_t at;

	CAT_NAMES_EACH(n, &c->volumes) {
		const struct cat_volume *v = pst_container_of(n, struct cat_volume, named);

		if (v->allowed != NULL && cat_volume_shown(v) && listed(v->allowed, nqn, &at))
			json_array_append_new(names, json_string(v->name));
	}
	return names;
}

void cat_allow_json(const struct cat_volume *v, json_t *json)
{
	if (json != NULL && v->allowed != NULL)
		json_object_set_new(json, "allowed_hosts", json_deep_copy(v->allowed));
}

pst_err cat_allow_load(struct pst_catalog *c, unsigned pool, const char *name, json_t *record)
{
	struct cat_volume *v = cat_volume_find(c, name);
	json_t *list = json_object_get(record, "hosts");

	if (v == NULL || v->pool != pool || v->allowed != NULL || !sound(list) || !fits(list))
		return PST_E_FORMAT;
	v->allowed = json_incref(list);
	return PST_OK;
}

/* ---- The target ---- */

pst_err cat_allow_of(const struct cat_volume *v, struct pst_allow_list *ret_list)
{
	size_t count = json_array_size(v->allowed);
	const char **nqns = NULL;

	if (count > 0 && (nqns = calloc(count, sizeof(*nqns))) == NULL)
		return PST_E_NOMEM;
	for (size_t i = 0; i < count; i++)
		nqns[i] = json_string_value(json_array_get(v->allowed, i));
	*ret_list = (struct pst_allow_list){ v->allowed != NULL, nqns, (uint32_t)count };
	return PST_OK;
}

void cat_allow_done(struct pst_allow_list *list)
{
	free((void *)(uintptr_t)list->nqns);
}

/* ---- Steps of a volume's programs ---- */

json_t *cat_allow_record(const struct cat_volume *v)
{
	return json_pack("{s:i s:O}", "format", CAT_RECORD_FORMAT, "hosts", v->allowed);
}

/* ---- Calls ---- */

bool cat_allow_want(struct pst_catalog *c, const char *name, const struct cat_volume *source, json_t **ret_list)
{
	json_t *json = json_object_get(c->current->body, "allowed_hosts");

	if (json == NULL && source != NULL)
		json = source->allowed;
	if (json == NULL) {
		*ret_list = NULL;
		return true;
	}
	if (!sound(json)) {
		cat_fail(c, PST_E_INVAL, "cat /etc/nvme/hostnqn, on the host",
			 "allowed_hosts of volume '%s' must be a list of host NQNs, each once", name);
		return false;
	}
	if (!fits(json)) {
		cat_fail(c, PST_E_NOSPACE, "penstock volume deny NAME HOSTNQN",
			 "the list of volume '%s' would be too long: its names may have %u bytes together", name,
			 RECORD_ROOM);
		return false;
	}
	*ret_list = json_deep_copy(json);
	if (*ret_list == NULL)
		cat_fail(c, PST_E_NOMEM, NULL, "no memory for the list of volume '%s'", name);
	return *ret_list != NULL;
}

static void allow_told(struct pst_catalog *c, struct cat_volume *v)
{
	struct pst_allow_list list;
	pst_err err = v->subsystem != NULL ? cat_allow_of(v, &list) : PST_OK;

	if (v->subsystem != NULL && err == PST_OK) {
		err = pst_subsystem_allow(v->subsystem, &list);
		cat_allow_done(&list);
	}
	if (err != PST_OK)
		return cat_fail(c, err, "do it again",
				"the list of volume '%s' is recorded, but not in force: there is no memory", v->name);
	pst_env_log(c->env, PST_LOG_INFO, "volume_hosts volume=%s allowed=%d", v->name,
		    v->allowed != NULL ? (int)json_array_size(v->allowed) : -1);
	cat_succeed(c, cat_volume_json(c, v));
}

static void allow_recorded(struct pst_catalog *c, pst_err err)
{
	struct cat_volume *v = c->subject;
	json_t *list = c->allow_next;

	c->allow_next = NULL;
	if (err != PST_OK && !(err == PST_E_NOTFOUND && list == NULL)) {
		json_decref(list);
		return cat_fail(c, err, "penstock pool list", "the list of volume '%s' could not be recorded: %s",
				v->name, pst_err_text(err));
	}
	json_decref(v->allowed);
	v->allowed = list;
	allow_told(c, v);
}

/* One name more or less. NULL after cat_fail. */
static json_t *edited(struct pst_catalog *c, const struct cat_volume *v, const char *nqn, bool allow)
{
	json_t *list = v->allowed != NULL ? json_deep_copy(v->allowed) : json_array();
	bool there;
	size_t at;

	if (list == NULL) {
		cat_fail(c, PST_E_NOMEM, NULL, "no memory for the list of volume '%s'", v->name);
		return NULL;
	}
	there = listed(list, nqn, &at);
	if (!cat_nqn_ok(nqn))
		cat_fail(c, PST_E_INVAL, "cat /etc/nvme/hostnqn, on the host",
			 "'%.223s' can't be a host's name: it begins with nqn. and has letters, digits, and .:_-", nqn);
	else if (!allow && v->allowed == NULL)
		cat_fail(c, PST_E_INVAL, "penstock volume allow NAME HOSTNQN, for each host that may",
			 "volume '%s' has no list: any host may connect; say first which may", v->name);
	else if (!allow && !there)
		cat_fail(c, PST_E_NOTFOUND, "penstock volume show NAME", "host '%.223s' is not on the list of '%s'",
			 nqn, v->name);
	else if (allow && !there && (json_array_append_new(list, json_string(nqn)) != 0 || !fits(list)))
		cat_fail(c, PST_E_NOSPACE, "penstock volume deny NAME HOSTNQN",
			 "the list of volume '%s' would be too long: its names may have %u bytes together", v->name,
			 RECORD_ROOM);
	else {
		if (!allow)
			json_array_remove(list, at);
		return list;
	}
	json_decref(list);
	return NULL;
}

void cat_allow_set(struct pst_catalog *c, struct cat_volume *v)
{
	json_t *body = c->current->body, *list = NULL;
	const char *allow = NULL, *deny = NULL;
	const json_t *any = json_object_get(body, "any_host");

	if (!cat_body_text(c, "allow_host", PST_NQN_MAX, &allow) || !cat_body_text(c, "deny_host", PST_NQN_MAX, &deny))
		return;
	if ((allow != NULL) + (deny != NULL) + (any != NULL) + (json_object_get(body, "allowed_hosts") != NULL) != 1)
		return cat_fail(c, PST_E_INVAL, NULL,
				"allow_host, deny_host, any_host and allowed_hosts must be given by separate requests");
	if (any != NULL && !json_is_true(any))
		return cat_fail(c, PST_E_INVAL, NULL, "any_host must be true, or left out");
	if (allow != NULL || deny != NULL) {
		list = edited(c, v, allow != NULL ? allow : deny, allow != NULL);
		if (list == NULL)
			return;
	} else if (!cat_allow_want(c, v->name, NULL, &list)) {
		return;
	}
	c->subject = v;
	c->allow_next = list;
	if (list != NULL)
		cat_record_put(c, v->pool, "allow", v->name,
			       json_pack("{s:i s:O}", "format", CAT_RECORD_FORMAT, "hosts", list), allow_recorded);
	else
		cat_record_delete(c, v->pool, "allow", v->name, allow_recorded);
}

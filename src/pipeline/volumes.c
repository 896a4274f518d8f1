/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The pipeline's volumes in the daemon: made on demand, through REST, named PIPELINE-VOLUME. And the accounting that
 * compares three independent counts of the bytes that crossed: the host library's, the target's, the sockets'.
 */
#include "control/client.h"
#include "pipeline/runner.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

void run_api_complain(const struct pst_api_error *e)
{
	fprintf(stderr, "penstock: %s\n", e->message);
	if (e->hint[0] != '\0')
		fprintf(stderr, "  try: %s\n", e->hint);
}

#define CANCELLING_PATIENCE_S 3.0

struct patience {
	struct runner *r;
	double until;
};

/* A daemon that hangs is waited for, but not once the user has interrupted. */
static bool impatient(void *arg)
{
	struct patience *p = arg;

	return p->r->cancelling ? run_now() >= p->until : run_interrupted();
}

pst_err run_api(struct runner *r, const char *method, const char *path, json_t *body, json_t **ret,
		struct pst_api_error *e)
{
	struct patience patience = { r, run_now() + CANCELLING_PATIENCE_S };

	memset(e, 0, sizeof(*e));
	pst_api_on_wait(impatient, &patience);
	pst_err err = pst_api_call(r->daemon.api, method, path, body, ret, e);
	pst_api_on_wait(NULL, NULL);
	json_decref(body);
	return err;
}

pst_err run_api_patient(struct runner *r, const char *method, const char *path, json_t *body, json_t **ret,
			struct pst_api_error *e)
{
	pst_err err;

	for (int i = 0; (err = run_api(r, method, path, json_incref(body), ret, e)) == PST_E_REFUSED && i < 40; i++) {
		struct timespec pause = { 0, 250000000 };

		if (r->cancelling)
			break;
		nanosleep(&pause, NULL);
		daemon_tick(r);
	}
	json_decref(body);
	return err;
}

static bool parse_address(struct run_volume *v, const char *address)
{
	const char *colon = address != NULL ? strrchr(address, ':') : NULL;

	if (colon == NULL)
		return false;
	size_t len = (size_t)(colon - address);
	bool bracket = address[0] == '[' && len > 2 && address[len - 1] == ']';
	snprintf(v->host, sizeof(v->host), "%.*s", (int)(len - (bracket ? 2 : 0)), address + (bracket ? 1 : 0));
	v->port = (unsigned)strtoul(colon + 1, NULL, 10);
	return v->host[0] != '\0' && v->port > 0 && v->port < 65536;
}

static bool take(struct run_volume *v, json_t *json)
{
	const char *uuid = json_string_value(json_object_get(json, "uuid"));
	const char *nqn = json_string_value(json_object_get(json, "nqn"));

	if (uuid == NULL || nqn == NULL)
		return false;
	snprintf(v->uuid, sizeof(v->uuid), "%s", uuid);
	snprintf(v->nqn, sizeof(v->nqn), "%s", nqn);
	v->nsid = (unsigned)json_integer_value(json_object_get(json, "nsid"));
	v->used_bytes = (uint64_t)json_integer_value(json_object_get(json, "used_bytes"));
	v->cloned = json_is_string(json_object_get(json, "source"));
	v->there = true;
	return parse_address(v, json_string_value(json_array_get(json_object_get(json, "addresses"), 0)));
}

static pst_err create(struct runner *r, struct run_volume *v, struct pst_api_error *e)
{
	json_t *json = NULL, *body = json_pack("{s:s, s:s}", "name", v->name, "profile", v->spec->profile);

	if (v->spec->source == SIZE_MAX)
		json_object_set_new(body, "size_bytes", json_integer((json_int_t)v->spec->size_bytes));
	else
		json_object_set_new(body, "source", json_sprintf("%s-%s", r->pipeline->name, v->version));
	pst_err err = run_api(r, "POST", "/v1/volumes", body, &json, e);

	if (err == PST_OK && !take(v, json)) {
		snprintf(e->message, sizeof(e->message), "the daemon's answer about volume '%s' lacks its address",
			 v->name);
		err = PST_E_PROTO;
	}
	json_decref(json);
	if (err == PST_OK && v->spec->source != SIZE_MAX) {
		v->made = true;
		snprintf(v->own_version, sizeof(v->own_version), "%s", v->version_uuid);
		registry_clone(r, v->uuid, v->version_uuid);
	}
	return err;
}

static pst_err fetch(struct runner *r, struct run_volume *v, struct pst_api_error *e)
{
	json_t *json = NULL;
	char path[160];

	snprintf(path, sizeof(path), "/v1/volumes/%s", v->name);
	pst_err err = run_api(r, "GET", path, NULL, &json, e);
	if (err == PST_OK) {
		json_int_t size = json_integer_value(json_object_get(json, "size_bytes"));
		bool first = v->uuid[0] == '\0';

		if (!take(v, json))
			err = PST_E_PROTO;
		else if (first && v->spec->source == SIZE_MAX && size != (json_int_t)v->spec->size_bytes)
			progress_line(r,
				      "volume '%s' exists with %lld bytes; the file asks for %llu: it stays as it is",
				      v->name, (long long)size, (unsigned long long)v->spec->size_bytes);
	}
	json_decref(json);
	return err;
}

/* Bytes of payload that the target counted for a volume, from /v1/stats; false if it says nothing about it. */
static bool target_bytes(json_t *stats, const char *name, uint64_t *ret_bytes)
{
	json_t *list = json_object_get(stats, "volumes"), *v;
	size_t i;

	json_array_foreach(list, i, v)
	{
		const char *n = json_string_value(json_object_get(v, "name"));

		if (n == NULL || strcmp(n, name) != 0)
			continue;
		json_t *read = json_object_get(v, "bytes_read"), *written = json_object_get(v, "bytes_written");
		if (!json_is_integer(read) || !json_is_integer(written))
			return false;
		*ret_bytes = (uint64_t)json_integer_value(read) + (uint64_t)json_integer_value(written);
		return true;
	}
	return false;
}

/*
 * A clone is made when a step first needs it, since its version may not be there yet. What is in its place must be a
 * clone, because it will be deleted for a new one without asking.
 */
static pst_err open_clone(struct runner *r, struct run_volume *v, struct pst_api_error *e)
{
	pst_err err = fetch(r, v, e);

	if (err == PST_E_NOTFOUND)
		return PST_OK;
	if (err != PST_OK)
		return err;
	if (!v->cloned) {
		snprintf(e->message, sizeof(e->message),
			 "volume '%s' is to be a clone, but a volume that is none has this name; it is not touched",
			 v->name);
		snprintf(e->hint, sizeof(e->hint), "penstock volume delete %s, if its contents are not needed",
			 v->name);
		return PST_E_EXISTS;
	}
	(void)registry_cloned(r, v->uuid, v->own_version);
	return PST_OK;
}

static pst_err open_one(struct runner *r, struct run_volume *v, struct pst_api_error *e)
{
	if (v->spec->source != SIZE_MAX)
		return open_clone(r, v, e);
	pst_err err = fetch(r, v, e);
	if (err == PST_E_NOTFOUND && (err = create(r, v, e)) == PST_OK)
		progress_line(r, "volume '%s' made: %llu MiB, profile %s", v->name,
			      (unsigned long long)(v->spec->size_bytes >> 20), v->spec->profile);
	return err;
}

enum pst_run_result volumes_open(struct runner *r)
{
	struct pst_api_error e;
	json_t *stats = NULL;

	for (size_t i = 0; i < r->pipeline->volume_count; i++) {
		struct run_volume *v = &r->volumes[i];

		v->spec = &r->pipeline->volumes[i];
		if (asprintf(&v->name, "%s-%s", r->pipeline->name, v->spec->name) < 0)
			return PST_RUN_FAILED;
		pst_err err = open_one(r, v, &e);
		if (err == PST_E_CANCELLED)
			return PST_RUN_INTERRUPTED;
		if (err != PST_OK) {
			if (e.message[0] == '\0')
				snprintf(e.message, sizeof(e.message), "volume '%s': %s", v->name, pst_err_text(err));
			run_api_complain(&e);
			return err == PST_E_NOSPACE || err == PST_E_QUOTA ? PST_RUN_NO_SPACE : PST_RUN_FAILED;
		}
		if (r->daemon.listen[0] == '\0' && v->there)
			snprintf(r->daemon.listen, sizeof(r->daemon.listen), "%.100s:%u", v->host, v->port);
	}
	if (run_api(r, "GET", "/v1/stats", NULL, &stats, &e) == PST_OK)
		for (size_t i = 0; i < r->pipeline->volume_count; i++)
			r->volumes[i].target_known =
			    target_bytes(stats, r->volumes[i].name, &r->volumes[i].target_before);
	json_decref(stats);
	return PST_RUN_OK;
}

bool volume_refresh(struct runner *r, struct run_volume *v)
{
	struct pst_api_error e;
	pst_err err;

	/* A daemon that is away for a moment: a step's start waits with the others for it. */
	for (int i = 0; (err = fetch(r, v, &e)) == PST_E_REFUSED && i < 40 && !r->cancelling; i++) {
		struct timespec pause = { 0, 250000000 };

		nanosleep(&pause, NULL);
		daemon_tick(r);
	}
	if (err != PST_OK)
		run_api_complain(&e);
	return err == PST_OK;
}

bool volume_renew(struct runner *r, struct run_volume *v, struct pst_api_error *e)
{
	char path[160];

	snprintf(path, sizeof(path), "/v1/volumes/%s", v->name);
	pst_err err = v->there ? run_api_patient(r, "DELETE", path, NULL, NULL, e) : PST_OK;
	/* The last host of it may still be closing its connections. */
	for (int i = 0; i < 20 && err == PST_E_BUSY; i++) {
		struct timespec pause = { 0, 100000000 };

		nanosleep(&pause, NULL);
		err = run_api(r, "DELETE", path, NULL, NULL, e);
	}
	if (err == PST_OK)
		err = create(r, v, e);
	if (err != PST_OK)
		run_api_complain(e);
	else
		v->target_known = false; /* counts of the old one are gone with it */
	return err == PST_OK;
}

json_t *volumes_accounting(struct runner *r)
{
	json_t *all = json_object(), *stats = NULL;
	struct pst_api_error e;
	bool answered = run_api(r, "GET", "/v1/stats", NULL, &stats, &e) == PST_OK;

	for (size_t i = 0; i < r->pipeline->volume_count; i++) {
		struct run_volume *v = &r->volumes[i];
		uint64_t after = 0;
		json_t *one = json_pack("{s:I, s:I, s:I, s:I}", "host_bytes", (json_int_t)v->host_bytes, "socket_bytes",
					(json_int_t)v->socket_bytes, "overhead_bytes", (json_int_t)v->overhead_bytes,
					"retransmits", (json_int_t)v->retransmits);

		if (answered && target_bytes(stats, v->name, &after) && (!v->target_known || after >= v->target_before))
			json_object_set_new(
			    one, "target_bytes",
			    json_integer((json_int_t)(after - (v->target_known ? v->target_before : 0))));
		else
			json_object_set_new(one, "target_bytes", json_null());
		json_object_set_new(all, v->spec->name, one);
	}
	json_decref(stats);
	return all;
}

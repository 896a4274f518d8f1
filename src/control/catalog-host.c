/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hosts: who may claim an NQN. A host's keys (its own, the controller's that it asks a proof of, and the one that it
 * uses TLS with; at least the first or the last) lie in its record, wrapped; what becomes of them is in
 * catalog-host-keys.c. Here is what is said of hosts: records, answers, calls.
 */
#include "control/catalog-host.h"
#include "proto/tls-key.h"

#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NQN_MIN 5u
#define NO_KEK_HINT "penstockd --kek FILE, where FILE holds 32 random bytes; see penstockd(8)"

/*
 * Hosts may be strangers: without a wish of the operator's they make us compute in the smaller groups only, and never
 * without any (docs/security.md).
 */
#define GROUPS_DEFAULT (1u << PST_AUTH_FFDHE2048 | 1u << PST_AUTH_FFDHE3072 | 1u << PST_AUTH_FFDHE4096)

static const struct {
	const char *member, *what;
	pst_err (*parse)(const char *text, size_t text_len, struct pst_auth_key *ret_key, const char **ret_why);
} kinds[CAT_HOST_KEYS] = {
	[CAT_HOST_KEY] = { "key", "the key", pst_auth_key_parse },
	[CAT_CTRL_KEY] = { "ctrl_key", "the controller key", pst_auth_key_parse },
	[CAT_TLS_KEY] = { "tls_key", "the TLS key", pst_tls_key_parse },
};

bool cat_nqn_ok(const char *nqn)
{
	static const char allowed[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789.:_-";
	size_t len = strnlen(nqn, PST_NQN_MAX + 1);

	return len >= NQN_MIN && len <= PST_NQN_MAX && strncmp(nqn, "nqn.", 4) == 0 && strspn(nqn, allowed) == len;
}

struct cat_host *cat_host_find(struct pst_catalog *c, const char *nqn)
{
	struct cat_named *n = cat_names_find(&c->hosts, nqn);

	return n != NULL ? pst_container_of(n, struct cat_host, named) : NULL;
}

static void host_free(struct pst_catalog *c, struct cat_host *h)
{
	cat_names_remove(&c->hosts, &h->named);
	free(h);
}

void cat_hosts_done(struct pst_catalog *c)
{
	CAT_NAMES_EACH(n, &c->hosts)
		host_free(c, pst_container_of(n, struct cat_host, named));
	pst_secret_free(c->env, c->host.plain, sizeof(*c->host.plain));
	c->host.plain = NULL;
}

/* ---- Records and answers ---- */

static json_t *names_json(uint32_t set, const char *(*name)(uint8_t id))
{
	json_t *list = json_array();

	for (uint8_t id = 0; id < 32; id++)
		if ((set >> id & 1) != 0)
			json_array_append_new(list, json_string(name(id)));
	return list;
}

static bool names_parse(const json_t *list, bool (*find)(const char *name, uint8_t *ret_id), uint32_t *ret_set)
{
	uint32_t set = 0;
	json_t *one;
	size_t i;

	json_array_foreach(list, i, one)
	{
		uint8_t id;

		if (!json_is_string(one) || !find(json_string_value(one), &id))
			return false;
		set |= 1u << id;
	}
	*ret_set = set;
	return json_is_array(list) && set != 0;
}

json_t *cat_host_record(const struct cat_host *h)
{
	json_t *json =
	    json_pack("{s:i s:o s:o}", "format", CAT_RECORD_FORMAT, "hashes", names_json(h->hashes, pst_auth_hash_name),
		      "groups", names_json(h->groups, pst_auth_group_name));

	for (unsigned i = 0; i < CAT_HOST_KEYS && json != NULL; i++) {
		char text[2 * CAT_WRAPPED_MAX + 1];

		if (!cat_host_has(h, i))
			continue;
		cat_hex(h->keys[i].wrapped, h->keys[i].wrapped_bytes, text);
		json_object_set_new(json, kinds[i].member,
				    json_pack("{s:s s:s}", "kek", h->keys[i].kek_id, "wrapped", text));
	}
	return json;
}

/* A controller's proof follows the host's. */
static bool keys_sound(bool host, bool ctrl, bool tls)
{
	return host || (tls && !ctrl);
}

pst_err cat_host_load(struct pst_catalog *c, unsigned pool, const char *nqn, json_t *record)
{
	struct cat_host *h;

	if (!cat_nqn_ok(nqn))
		return PST_E_FORMAT;
	if (cat_host_find(c, nqn) != NULL) {
		pst_env_log(c->env, PST_LOG_WARN, "host_in_two_pools host=%s ignored_from=%s", nqn,
			    c->pools[pool].name);
		return PST_OK;
	}
	h = calloc(1, sizeof(*h));
	if (h == NULL)
		return PST_E_NOMEM;
	snprintf(h->nqn, sizeof(h->nqn), "%s", nqn);
	h->home = pool;
	h->unseen = true;
	for (unsigned i = 0; i < CAT_HOST_KEYS; i++) {
		json_t *json = json_object_get(record, kinds[i].member);
		const char *kek_id, *text;

		if (json == NULL)
			continue;
		if (json_unpack(json, "{s:s s:s}", "kek", &kek_id, "wrapped", &text) != 0 || !pst_kek_id_ok(kek_id) ||
		    !cat_unhex(text, h->keys[i].wrapped, CAT_WRAPPED_MAX, &h->keys[i].wrapped_bytes)) {
			free(h);
			return PST_E_FORMAT;
		}
		snprintf(h->keys[i].kek_id, sizeof(h->keys[i].kek_id), "%s", kek_id);
	}
	if (!keys_sound(cat_host_has(h, CAT_HOST_KEY), cat_host_has(h, CAT_CTRL_KEY), cat_host_has(h, CAT_TLS_KEY)) ||
	    !names_parse(json_object_get(record, "hashes"), pst_auth_hash_find, &h->hashes) ||
	    !names_parse(json_object_get(record, "groups"), pst_auth_group_find, &h->groups)) {
		free(h);
		return PST_E_FORMAT;
	}
	cat_names_add(&c->hosts, &h->named, h->nqn);
	return PST_OK;
}

static json_t *host_json(struct pst_catalog *c, const struct cat_host *h)
{
	json_t *json = json_pack("{s:s s:b s:b s:b s:o s:o s:s s:b s:o}", "nqn", h->nqn, "authenticates",
				 cat_host_has(h, CAT_HOST_KEY), "two_way", cat_host_has(h, CAT_CTRL_KEY), "tls",
				 cat_host_has(h, CAT_TLS_KEY), "hashes", names_json(h->hashes, pst_auth_hash_name),
				 "groups", names_json(h->groups, pst_auth_group_name), "kek", cat_host_kek(h), "locked",
				 h->locked, "volumes", cat_allowed_volumes(c, h->nqn));

	if (json != NULL && h->locked)
		json_object_set_new(json, "error", json_string(h->lock_reason));
	return json;
}

json_t *cat_read_hosts(struct pst_catalog *c, const struct pst_catalog_op *op)
{
	json_t *list = json_array();

	CAT_ASKED_EACH(n, op, &c->hosts)
		json_array_append_new(list, host_json(c, pst_container_of(n, struct cat_host, named)));
	return list;
}

/* ---- Calls ---- */

/* A key of the body into the work: false after cat_fail. All but the host's own may be "none". */
static bool body_key(struct pst_catalog *c, unsigned i)
{
	struct cat_host_work *w = &c->host;
	json_t *json = json_object_get(c->current->body, kinds[i].member);
	const char *why = "is not a string";

	if (json == NULL)
		return true;
	if (i != CAT_HOST_KEY && json_is_string(json) && strcmp(json_string_value(json), "none") == 0) {
		w->next.keys[i] = (struct cat_host_key){ 0 };
		w->unwrap[i] = false;
	} else if (json_is_string(json) && kinds[i].parse(json_string_value(json), json_string_length(json),
							  &w->plain->keys[i], &why) == PST_OK) {
		w->unwrap[i] = false;
		w->wrap[i] = true;
	} else {
		cat_fail(c, PST_E_INVAL,
			 i == CAT_TLS_KEY ? "penstock host set NQN --generate-tls-key; or: nvme gen-tls-key"
					  : "penstock host create NQN --generate-key; or: nvme gen-dhchap-key",
			 "%s of host '%s' %s", kinds[i].what, w->next.nqn, why);
		return false;
	}
	return true;
}

static bool body_names(struct pst_catalog *c, const char *member, bool (*find)(const char *name, uint8_t *ret_id),
		       uint32_t *set)
{
	json_t *json = json_object_get(c->current->body, member);

	if (json == NULL || names_parse(json, find, set))
		return true;
	cat_fail(c, PST_E_INVAL, NULL, "%s must be a list of at least one of %s", member,
		 find == pst_auth_hash_find ? "sha256, sha384, sha512"
					    : "null, ffdhe2048, ffdhe3072, ffdhe4096, ffdhe6144, ffdhe8192");
	return false;
}

/* What the request changes, into the work; equal keys would let each side give back what the other has computed. */
static bool body_host(struct pst_catalog *c)
{
	struct cat_host_work *w = &c->host;
	bool will_have[CAT_HOST_KEYS];

	for (unsigned i = 0; i < CAT_HOST_KEYS; i++) {
		if (!body_key(c, i))
			return false;
		will_have[i] = w->wrap[i] || cat_host_has(&w->next, i);
	}
	if (!body_names(c, "hashes", pst_auth_hash_find, &w->next.hashes) ||
	    !body_names(c, "groups", pst_auth_group_find, &w->next.groups))
		return false;
	if (!keys_sound(will_have[CAT_HOST_KEY], will_have[CAT_CTRL_KEY], will_have[CAT_TLS_KEY])) {
		cat_fail(c, PST_E_INVAL, "penstock host delete NQN; or --generate-key, or --generate-tls-key",
			 "host '%s' needs a key or a TLS key, and with a controller key a key", w->next.nqn);
		return false;
	}
	if (c->keys.kek == NULL && (w->wrap[CAT_HOST_KEY] || w->wrap[CAT_CTRL_KEY] || w->wrap[CAT_TLS_KEY])) {
		cat_fail(c, PST_E_KEY, NO_KEK_HINT,
			 "the key of host '%s' can't be kept: penstockd was started without a key-encryption key to "
			 "wrap it with",
			 w->next.nqn);
		return false;
	}
	if (w->wrap[0] && w->wrap[1] && w->plain->keys[0].len_bytes == w->plain->keys[1].len_bytes &&
	    CRYPTO_memcmp(w->plain->keys[0].bytes, w->plain->keys[1].bytes, w->plain->keys[0].len_bytes) == 0) {
		cat_fail(c, PST_E_INVAL, "penstock host create NQN --generate-key --two-way",
			 "the controller key of host '%s' is its own key: they must differ", w->next.nqn);
		return false;
	}
	w->record = true;
	return true;
}

static void changed(struct pst_catalog *c, pst_err err)
{
	bool creating = c->current->kind == PST_CATALOG_CREATE;
	struct cat_host *h = creating ? c->subject : cat_host_find(c, c->host.next.nqn);

	pst_assert(h != NULL);
	if (err != PST_OK) {
		cat_fail(c, err, err == PST_E_KEY ? "penstock key status" : "penstock pool list",
			 "host '%s' was not %s: %s", c->host.next.nqn, creating ? "created" : "changed",
			 c->host.detail[0] != '\0' ? c->host.detail : pst_err_text(err));
		if (creating)
			free(h);
		return;
	}
	memcpy(h->keys, c->host.next.keys, sizeof(h->keys));
	h->hashes = c->host.next.hashes;
	h->groups = c->host.next.groups;
	h->locked = false;
	if (creating)
		cat_names_add(&c->hosts, &h->named, h->nqn);
	pst_env_log(c->env, PST_LOG_INFO, "host_%s host=%s key=%s two_way=%s tls=%s", creating ? "created" : "changed",
		    h->nqn, cat_host_has(h, CAT_HOST_KEY) ? "yes" : "no", cat_host_has(h, CAT_CTRL_KEY) ? "yes" : "no",
		    cat_host_has(h, CAT_TLS_KEY) ? "yes" : "no");
	cat_succeed(c, host_json(c, h));
}

static void host_create(struct pst_catalog *c)
{
	static const char *const allowed[] = { "nqn", "key", "ctrl_key", "tls_key", "hashes", "groups", NULL };
	const char *nqn = NULL;
	struct cat_host *h;

	if (!cat_body_check(c, allowed) || !cat_body_text(c, "nqn", PST_NQN_MAX, &nqn))
		return;
	if (nqn == NULL || !cat_nqn_ok(nqn))
		return cat_fail(
		    c, PST_E_INVAL, "cat /etc/nvme/hostnqn, on the host",
		    "'%.223s' can't be a host's name: it begins with nqn. and has letters, digits, and .:_-",
		    nqn != NULL ? nqn : "");
	if (cat_host_find(c, nqn) != NULL)
		return cat_fail(c, PST_E_EXISTS, "penstock host set NQN --key FILE", "host '%s' exists already", nqn);
	if (cat_names_count(&c->hosts) >= PST_CATALOG_HOSTS_MAX)
		return cat_fail(c, PST_E_NOMEM, "penstock host delete NQN", "there are %u hosts, the most allowed",
				cat_names_count(&c->hosts));
	h = calloc(1, sizeof(*h));
	if (h == NULL || !cat_host_work_memory(c)) {
		free(h);
		return cat_fail(c, PST_E_NOMEM, NULL, "no memory for host '%s'", nqn);
	}
	snprintf(h->nqn, sizeof(h->nqn), "%s", nqn);
	h->home = CAT_HOME;
	h->hashes = PST_AUTH_HASHES;
	h->groups = GROUPS_DEFAULT;
	cat_host_work_begin(c, h, changed);
	if (!body_host(c)) {
		OPENSSL_cleanse(c->host.plain, sizeof(*c->host.plain));
		free(h);
		return;
	}
	c->subject = h;
	cat_host_work_next(c);
}

static void host_set(struct pst_catalog *c, struct cat_host *h)
{
	static const char *const allowed[] = { "key", "ctrl_key", "tls_key", "hashes", "groups", NULL };

	if (!cat_body_check(c, allowed))
		return;
	if (!cat_host_work_memory(c))
		return cat_fail(c, PST_E_NOMEM, NULL, "no memory for host '%s'", h->nqn);
	cat_host_work_begin(c, h, changed);
	if (body_host(c))
		cat_host_work_next(c);
	else
		OPENSSL_cleanse(c->host.plain, sizeof(*c->host.plain));
}

static void host_deleted(struct pst_catalog *c, pst_err err)
{
	struct cat_host *h = c->subject;

	if (err != PST_OK && err != PST_E_NOTFOUND)
		return cat_fail(c, err, "penstock pool list", "host '%s' could not be deleted: %s", h->nqn,
				pst_err_text(err));
	pst_target_host_remove(c->target, h->nqn);
	pst_env_log(c->env, PST_LOG_INFO, "host_deleted host=%s", h->nqn);
	host_free(c, h);
	cat_succeed(c, NULL);
}

/* Its name on allow lists would let in anybody who claims it, once there is no key to prove it with. */
static void host_delete(struct pst_catalog *c, struct cat_host *h)
{
	json_t *volumes = cat_allowed_volumes(c, h->nqn);
	size_t count = json_array_size(volumes);
	char hint[200];

	if (count > 0 && !c->current->force) {
		const char *first = json_string_value(json_array_get(volumes, 0));

		snprintf(hint, sizeof(hint), "penstock volume deny %s %.100s; or --force", first, h->nqn);
		cat_fail(c, PST_E_BUSY, hint,
			 "host '%s' is on the list of %zu volume%s (%s%s): without its key, whoever claims its name "
			 "could connect",
			 h->nqn, count, count == 1 ? "" : "s", first, count > 1 ? ", ..." : "");
		json_decref(volumes);
		return;
	}
	json_decref(volumes);
	c->subject = h;
	cat_record_delete(c, h->home, "host", h->nqn, host_deleted);
}

void cat_host_change(struct pst_catalog *c)
{
	struct pst_catalog_op *op = c->current;
	struct cat_host *h;

	c->host.current[0] = '\0';
	if (op->kind == PST_CATALOG_CREATE)
		return host_create(c);
	h = cat_host_find(c, op->name);
	if (h == NULL)
		cat_fail(c, PST_E_NOTFOUND, "penstock host list", "there is no host '%.223s'", op->name);
	else if (op->kind == PST_CATALOG_SET)
		host_set(c, h);
	else
		host_delete(c, h);
}

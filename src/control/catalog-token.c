/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tokens: who may call the API, and as what. A token is 32 random bytes that are shown once, when it is made; its
 * record has their SHA-256 alone. That is enough for a secret of this kind: there is nothing to guess, so nothing that
 * a slow hash would have to slow down. As text:
 *
 *     penstock_IIIIIIIIIIIIIIII_SSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSS
 *
 * with its id (8 bytes in hexadecimal, by which it is found, no secret) and the secret in base64url (RFC 4648, 5)
 * without padding. Each change is one durable step, the record. A tenant that tokens are bound to can't be deleted: a
 * later one of the same name would inherit them.
 */
#include "control/catalog-internal.h"

#include "base/units.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SECRET_BYTES 32u
#define SECRET_CHARS 43u
#define PREFIX "penstock_"
#define PREFIX_CHARS (sizeof(PREFIX) - 1)
#define TEXT_CHARS (PREFIX_CHARS + 2 * PST_TOKEN_ID_BYTES + 1 + SECRET_CHARS)
#define EXPIRES_S_MAX ((uint64_t)3650 * 86400)
#define NS_PER_S 1000000000u

struct cat_token {
	struct cat_named named;     /* catalog->tokens */
	struct pst_hash_node by_id; /* catalog->token_ids */
	char name[PST_NAME_MAX + 1];
	enum pst_role role;
	char tenant[PST_NAME_MAX + 1]; /* "": bound to none */
	unsigned home;
	uint8_t id[PST_TOKEN_ID_BYTES], digest[CAT_DIGEST_BYTES];
	uint64_t created_ns, expires_ns; /* wall clock; 0: never */
	uint64_t used_ns;                /* last time, as far as this daemon knows; 0: not yet */
};

/* ---- In memory ---- */

static struct cat_token *token_find(struct pst_catalog *c, const char *name)
{
	struct cat_named *n = cat_names_find(&c->tokens, name);

	return n != NULL ? pst_container_of(n, struct cat_token, named) : NULL;
}

static struct cat_token *token_by_id(struct pst_catalog *c, const uint8_t id[PST_TOKEN_ID_BYTES])
{
	PST_HASH_EACH(it, &c->token_ids, pst_hash_bytes(&c->token_ids, id, PST_TOKEN_ID_BYTES))
	{
		struct cat_token *t = pst_container_of(it, struct cat_token, by_id);

		if (memcmp(t->id, id, sizeof(t->id)) == 0)
			return t;
	}
	return NULL;
}

static void token_insert(struct pst_catalog *c, struct cat_token *t)
{
	cat_names_add(&c->tokens, &t->named, t->name);
	pst_hash_add(&c->token_ids, &t->by_id, pst_hash_bytes(&c->token_ids, t->id, sizeof(t->id)));
}

static void token_free(struct pst_catalog *c, struct cat_token *t)
{
	cat_names_remove(&c->tokens, &t->named);
	pst_hash_remove(&c->token_ids, &t->by_id);
	free(t);
}

void cat_tokens_done(struct pst_catalog *c)
{
	CAT_NAMES_EACH(n, &c->tokens)
		token_free(c, pst_container_of(n, struct cat_token, named));
	pst_secret_free(c->env, c->token_text, TEXT_CHARS + 1);
	c->token_text = NULL;
}

unsigned cat_tokens_of(struct pst_catalog *c, const char *tenant)
{
	unsigned count = 0;

	CAT_NAMES_EACH(n, &c->tokens)
		count += strcmp(pst_container_of(n, struct cat_token, named)->tenant, tenant) == 0;
	return count;
}

/* ---- As text ---- */

static const char base64url[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

static void secret_format(const uint8_t secret[SECRET_BYTES], char text[SECRET_CHARS + 1])
{
	for (unsigned i = 0; i < SECRET_CHARS; i++) {
		unsigned bit = 6 * i, byte = bit / 8;
		unsigned two = (unsigned)secret[byte] << 8 | (byte + 1 < SECRET_BYTES ? secret[byte + 1] : 0u);

		text[i] = base64url[two >> (10 - bit % 8) & 63];
	}
	text[SECRET_CHARS] = '\0';
}

/* Each secret has one text: the two bits that are left over must be 0. */
static bool secret_parse(const char *text, uint8_t secret[SECRET_BYTES])
{
	uint32_t bits = 0;
	unsigned have = 0, n = 0;

	for (unsigned i = 0; i < SECRET_CHARS; i++) {
		const char *at = text[i] != '\0' ? strchr(base64url, text[i]) : NULL;

		if (at == NULL)
			return false;
		bits = bits << 6 | (uint32_t)(at - base64url);
		have += 6;
		if (have >= 8) {
			have -= 8;
			secret[n++] = (uint8_t)(bits >> have);
		}
	}
	return (bits & ((1u << have) - 1)) == 0 && n == SECRET_BYTES;
}

static bool text_parse(const char *text, uint8_t id[PST_TOKEN_ID_BYTES], uint8_t secret[SECRET_BYTES])
{
	char hex[2 * PST_TOKEN_ID_BYTES + 1];
	uint32_t len;

	if (strnlen(text, TEXT_CHARS + 1) != TEXT_CHARS || strncmp(text, PREFIX, PREFIX_CHARS) != 0 ||
	    text[PREFIX_CHARS + 2 * PST_TOKEN_ID_BYTES] != '_')
		return false;
	memcpy(hex, text + PREFIX_CHARS, sizeof(hex) - 1);
	hex[sizeof(hex) - 1] = '\0';
	return cat_unhex(hex, id, PST_TOKEN_ID_BYTES, &len) && len == PST_TOKEN_ID_BYTES &&
	       secret_parse(text + TEXT_CHARS - SECRET_CHARS, secret);
}

static bool digest_of(const uint8_t secret[SECRET_BYTES], uint8_t ret[CAT_DIGEST_BYTES])
{
	return EVP_Digest(secret, SECRET_BYTES, ret, NULL, EVP_sha256(), NULL) == 1;
}

/* ---- Who calls ---- */

static bool expired(struct pst_catalog *c, const struct cat_token *t)
{
	return t->expires_ns != 0 && pst_env_wall_ns(c->env) >= t->expires_ns;
}

pst_err pst_catalog_authenticate(struct pst_catalog *c, const char *text, struct pst_caller *ret_caller,
				 const char **ret_why)
{
	uint8_t id[PST_TOKEN_ID_BYTES], secret[SECRET_BYTES], digest[CAT_DIGEST_BYTES];
	struct cat_token *t = NULL;
	bool hashed;

	if (!text_parse(text, id, secret)) {
		OPENSSL_cleanse(secret, sizeof(secret));
		*ret_why = "malformed";
		return PST_E_DENIED;
	}
	hashed = digest_of(secret, digest);
	OPENSSL_cleanse(secret, sizeof(secret));
	t = token_by_id(c, id);
	if (t == NULL || !hashed || CRYPTO_memcmp(t->digest, digest, sizeof(digest)) != 0) {
		*ret_why = t == NULL ? "unknown" : "wrong_secret";
		return PST_E_DENIED;
	}
	if (expired(c, t)) {
		*ret_why = "expired";
		return PST_E_DENIED;
	}
	t->used_ns = pst_env_wall_ns(c->env);
	*ret_caller = (struct pst_caller){ .role = t->role, .has_token = true };
	memcpy(ret_caller->token_id, t->id, sizeof(t->id));
	memcpy(ret_caller->tenant, t->tenant, sizeof(t->tenant));
	return PST_OK;
}

bool pst_catalog_caller_valid(struct pst_catalog *c, const struct pst_caller *caller)
{
	const struct cat_token *t = caller->has_token ? token_by_id(c, caller->token_id) : NULL;

	return !caller->has_token || (t != NULL && !expired(c, t));
}

/* ---- Records and answers ---- */

static json_t *token_record(const struct cat_token *t)
{
	char id[2 * PST_TOKEN_ID_BYTES + 1], digest[2 * CAT_DIGEST_BYTES + 1];
	json_t *json;

	cat_hex(t->id, PST_TOKEN_ID_BYTES, id);
	cat_hex(t->digest, CAT_DIGEST_BYTES, digest);
	json = json_pack("{s:i s:s s:s s:s s:I s:I}", "format", CAT_RECORD_FORMAT, "id", id, "sha256", digest, "role",
			 pst_role_name(t->role), "created_ns", (json_int_t)t->created_ns, "expires_ns",
			 (json_int_t)t->expires_ns);
	if (json != NULL && t->tenant[0] != '\0')
		json_object_set_new(json, "tenant", json_string(t->tenant));
	return json;
}

static json_t *token_json(const struct cat_token *t)
{
	char id[2 * PST_TOKEN_ID_BYTES + 1], time[32];
	json_t *json;

	cat_hex(t->id, PST_TOKEN_ID_BYTES, id);
	json = json_pack("{s:s s:s s:s s:s}", "name", t->name, "id", id, "role", pst_role_name(t->role), "created",
			 pst_format_time(t->created_ns, time));
	if (json == NULL)
		return NULL;
	if (t->tenant[0] != '\0')
		json_object_set_new(json, "tenant", json_string(t->tenant));
	if (t->expires_ns != 0)
		json_object_set_new(json, "expires", json_string(pst_format_time(t->expires_ns, time)));
	if (t->used_ns != 0)
		json_object_set_new(json, "last_used", json_string(pst_format_time(t->used_ns, time)));
	return json;
}

json_t *cat_read_tokens(struct pst_catalog *c, const struct pst_catalog_op *op)
{
	json_t *list = json_array();

	CAT_ASKED_EACH(n, op, &c->tokens)
		json_array_append_new(list, token_json(pst_container_of(n, struct cat_token, named)));
	return list;
}

/* A role with a tenant or without, as it must be; and the tenant exists. */
static bool binding_ok(struct pst_catalog *c, enum pst_role role, const char *tenant)
{
	return tenant != NULL ? pst_role_may_be_bound(role) && cat_tenant_find(c, tenant) != NULL
			      : !pst_role_must_be_bound(role);
}

pst_err cat_token_load(struct pst_catalog *c, unsigned pool, const char *name, json_t *record)
{
	const char *id, *digest, *role_name, *tenant = NULL;
	json_int_t created_ns, expires_ns;
	uint32_t id_bytes, digest_bytes;
	struct cat_token *t;

	if (token_find(c, name) != NULL) {
		pst_env_log(c->env, PST_LOG_WARN, "token_in_two_pools token=%s ignored_from=%s", name,
			    c->pools[pool].name);
		return PST_OK;
	}
	if (json_unpack(record, "{s:s s:s s:s s:I s:I s?s}", "id", &id, "sha256", &digest, "role", &role_name,
			"created_ns", &created_ns, "expires_ns", &expires_ns, "tenant", &tenant) != 0 ||
	    created_ns < 0 || expires_ns < 0)
		return PST_E_FORMAT;
	t = calloc(1, sizeof(*t));
	if (t == NULL)
		return PST_E_NOMEM;
	if (!cat_unhex(id, t->id, sizeof(t->id), &id_bytes) || id_bytes != sizeof(t->id) ||
	    !cat_unhex(digest, t->digest, sizeof(t->digest), &digest_bytes) || digest_bytes != sizeof(t->digest) ||
	    !pst_role_find(role_name, &t->role) || !binding_ok(c, t->role, tenant)) {
		free(t);
		return PST_E_FORMAT;
	}
	snprintf(t->name, sizeof(t->name), "%s", name);
	snprintf(t->tenant, sizeof(t->tenant), "%s", tenant != NULL ? tenant : "");
	t->created_ns = (uint64_t)created_ns;
	t->expires_ns = (uint64_t)expires_ns;
	t->home = pool;
	token_insert(c, t);
	return PST_OK;
}

/* ---- Calls ---- */

/* Fills id and digest; the text goes to c->token_text, which is wiped when it has been answered with. */
static bool secret_make(struct pst_catalog *c, struct cat_token *t)
{
	uint8_t secret[SECRET_BYTES];
	bool ok;

	if (c->token_text == NULL)
		c->token_text = pst_secret_alloc(c->env, TEXT_CHARS + 1);
	if (c->token_text == NULL)
		return false;
	do
		pst_env_random(c->env, t->id, sizeof(t->id));
	while (token_by_id(c, t->id) != NULL);
	pst_env_random(c->env, secret, sizeof(secret));
	ok = digest_of(secret, t->digest);
	memcpy(c->token_text, PREFIX, PREFIX_CHARS);
	cat_hex(t->id, PST_TOKEN_ID_BYTES, c->token_text + PREFIX_CHARS);
	c->token_text[TEXT_CHARS - SECRET_CHARS - 1] = '_';
	secret_format(secret, c->token_text + TEXT_CHARS - SECRET_CHARS);
	OPENSSL_cleanse(secret, sizeof(secret));
	return ok;
}

static void token_created(struct pst_catalog *c, pst_err err)
{
	struct cat_token *t = c->subject;
	json_t *json;

	if (err != PST_OK) {
		OPENSSL_cleanse(c->token_text, TEXT_CHARS);
		cat_fail(c, err, "penstock pool list", "token '%s' could not be recorded: %s", t->name,
			 pst_err_text(err));
		free(t);
		return;
	}
	token_insert(c, t);
	pst_env_log(c->env, PST_LOG_INFO, "token_created token=%s role=%s tenant=%s", t->name, pst_role_name(t->role),
		    t->tenant[0] != '\0' ? t->tenant : "-");
	json = token_json(t);
	if (json != NULL)
		json_object_set_new(json, "token", json_string(c->token_text));
	OPENSSL_cleanse(c->token_text, TEXT_CHARS);
	cat_succeed(c, json);
}

/* Role and tenant of the request; false after cat_fail. */
static bool body_role(struct pst_catalog *c, enum pst_role *ret_role, const char **ret_tenant)
{
	const char *role = NULL, *tenant = NULL;

	if (!cat_body_text(c, "role", PST_NAME_MAX, &role) || !cat_body_text(c, "tenant", PST_NAME_MAX, &tenant))
		return false;
	if (role == NULL || !pst_role_find(role, ret_role)) {
		cat_fail(c, PST_E_INVAL, "penstock token create NAME --role ROLE",
			 "'%.63s' is not a role: admin, operator, tenant, viewer, metrics", role != NULL ? role : "");
	} else if (tenant == NULL && pst_role_must_be_bound(*ret_role)) {
		cat_fail(c, PST_E_INVAL, "penstock token create NAME --role tenant --tenant TENANT",
			 "a token of role '%s' needs a tenant", role);
	} else if (tenant != NULL && !pst_role_may_be_bound(*ret_role)) {
		cat_fail(c, PST_E_INVAL, "penstock token create NAME --role tenant --tenant TENANT",
			 "a token of role '%s' can't be bound to a tenant", role);
	} else if (tenant != NULL && cat_tenant_find(c, tenant) == NULL) {
		cat_fail(c, PST_E_NOTFOUND, "penstock tenant list", "there is no tenant '%s'", tenant);
	} else {
		*ret_tenant = tenant;
		return true;
	}
	return false;
}

static bool body_expiry(struct pst_catalog *c, uint64_t *ret_seconds)
{
	*ret_seconds = 0;
	if (!cat_body_u64(c, "expires_in_s", ret_seconds))
		return false;
	if (json_object_get(c->current->body, "expires_in_s") == NULL ||
	    (*ret_seconds >= 1 && *ret_seconds <= EXPIRES_S_MAX))
		return true;
	cat_fail(c, PST_E_INVAL, "penstock token create NAME --expires 30d",
		 "expires_in_s must be from 1 to %llu; leave it out for a token that does not expire",
		 (unsigned long long)EXPIRES_S_MAX);
	return false;
}

static void token_create(struct pst_catalog *c)
{
	static const char *const allowed[] = { "name", "role", "tenant", "expires_in_s", NULL };
	const char *name, *tenant = NULL;
	uint64_t expires_s;
	enum pst_role role;
	struct cat_token *t;

	if (!cat_body_check(c, allowed) || !cat_body_name(c, &name) || !body_role(c, &role, &tenant) ||
	    !body_expiry(c, &expires_s))
		return;
	if (token_find(c, name) != NULL)
		return cat_fail(c, PST_E_EXISTS, "penstock token list", "token '%s' exists already", name);
	if (cat_names_count(&c->tokens) >= PST_CATALOG_TOKENS_MAX)
		return cat_fail(c, PST_E_NOMEM, "penstock token revoke NAME", "there are %u tokens, the most allowed",
				cat_names_count(&c->tokens));
	t = calloc(1, sizeof(*t));
	if (t == NULL || !secret_make(c, t)) {
		free(t);
		return cat_fail(c, PST_E_NOMEM, NULL, "no memory for token '%s'", name);
	}
	snprintf(t->name, sizeof(t->name), "%s", name);
	snprintf(t->tenant, sizeof(t->tenant), "%s", tenant != NULL ? tenant : "");
	t->role = role;
	t->home = CAT_HOME;
	t->created_ns = pst_env_wall_ns(c->env);
	t->expires_ns = expires_s > 0 ? t->created_ns + expires_s * NS_PER_S : 0;
	c->subject = t;
	cat_record_put(c, t->home, "token", t->name, token_record(t), token_created);
}

static void token_deleted(struct pst_catalog *c, pst_err err)
{
	struct cat_token *t = c->subject;

	if (err != PST_OK && err != PST_E_NOTFOUND)
		return cat_fail(c, err, "penstock token revoke NAME, again", "token '%s' was not revoked: %s", t->name,
				pst_err_text(err));
	pst_env_log(c->env, PST_LOG_INFO, "token_revoked token=%s", t->name);
	token_free(c, t);
	cat_succeed(c, NULL);
}

void cat_token_change(struct pst_catalog *c)
{
	struct pst_catalog_op *op = c->current;
	struct cat_token *t;

	if (op->kind == PST_CATALOG_CREATE)
		return token_create(c);
	t = token_find(c, op->name);
	if (t == NULL)
		return cat_fail(c, PST_E_NOTFOUND, "penstock token list", "there is no token '%.63s'", op->name);
	c->subject = t;
	cat_record_delete(c, t->home, "token", t->name, token_deleted);
}

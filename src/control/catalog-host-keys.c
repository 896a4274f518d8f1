/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The keys of hosts: in records wrapped with a key-encryption key, as volume keys are; unwrapped in the target alone,
 * in secret memory. Whatever is done to a host is the same row of steps, each of which may have nothing to do:
 *
 *   unwrap each key    those that the record has and the request does not replace
 *   wrap each key      those that are new, or wrapped with an old KEK
 *   record*            what changed (* durable)
 *   tell the target
 *
 * A host whose keys can't be unwrapped is locked: the target refuses whoever claims its name. What is wrapped is the
 * key with a digest of the NQN and its role before it, so that a record that was patched together is found out.
 */
#include "control/catalog-host.h"
#include "proto/tls-key.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <string.h>

#define SECRET_HEAD 36u /* role, hash, length, 0, SHA-256 of the NQN */

static const struct {
	char role; /* in what is wrapped */
	bool (*ok)(uint8_t hash, size_t len_bytes);
} kinds[CAT_HOST_KEYS] = {
	[CAT_HOST_KEY] = { 'H', pst_auth_key_ok },
	[CAT_CTRL_KEY] = { 'C', pst_auth_key_ok },
	[CAT_TLS_KEY] = { 'T', pst_tls_key_ok },
};

/* ---- The row of steps ---- */

void cat_host_work_begin(struct pst_catalog *c, const struct cat_host *h,
			 void (*done)(struct pst_catalog *c, pst_err err))
{
	struct cat_host_work *w = &c->host;

	w->next = *h;
	for (unsigned i = 0; i < CAT_HOST_KEYS; i++) {
		w->unwrap[i] = cat_host_has(h, i);
		w->wrap[i] = false;
	}
	w->record = false;
	w->detail[0] = '\0';
	w->done = done;
}

bool cat_host_work_memory(struct pst_catalog *c)
{
	if (c->host.plain == NULL)
		c->host.plain = pst_secret_alloc(c->env, sizeof(*c->host.plain));
	return c->host.plain != NULL && cat_key_secret(c);
}

/* Nothing unwrapped stays behind. */
static void work_end(struct pst_catalog *c, pst_err err)
{
	if (c->host.plain != NULL)
		OPENSSL_cleanse(c->host.plain, sizeof(*c->host.plain));
	if (c->keys.secret != NULL)
		OPENSSL_cleanse(c->keys.secret, PST_KEK_SECRET_MAX);
	c->host.done(c, err);
}

static bool digest(const char *nqn, uint8_t ret[32])
{
	return EVP_Digest(nqn, strlen(nqn), ret, NULL, EVP_sha256(), NULL) == 1;
}

static void unwrapped(struct pst_kek_op *op)
{
	struct pst_catalog *c = pst_container_of(op, struct pst_catalog, keys.op);
	struct cat_host_work *w = &c->host;
	struct pst_auth_key *key = &w->plain->keys[w->at];
	uint8_t sum[32];

	if (op->err != PST_OK) {
		snprintf(w->detail, sizeof(w->detail), "%s", op->detail);
		return work_end(c, PST_E_KEY);
	}
	if (op->secret_bytes <= SECRET_HEAD || op->secret[0] != (uint8_t)kinds[w->at].role ||
	    !digest(w->next.nqn, sum) || CRYPTO_memcmp(op->secret + 4, sum, sizeof(sum)) != 0 ||
	    op->secret[2] != op->secret_bytes - SECRET_HEAD || !kinds[w->at].ok(op->secret[1], op->secret[2])) {
		snprintf(w->detail, sizeof(w->detail),
			 "its record holds the key of another host: was the pool's file patched together?");
		return work_end(c, PST_E_KEY);
	}
	*key = (struct pst_auth_key){ .hash = op->secret[1], .len_bytes = op->secret[2] };
	memcpy(key->bytes, op->secret + SECRET_HEAD, key->len_bytes);
	/* In an action over all hosts: one that is wrapped with an old KEK is wrapped anew. */
	w->wrap[w->at] |= w->current[0] != '\0' && strcmp(w->current, w->next.keys[w->at].kek_id) != 0;
	w->record |= w->wrap[w->at];
	cat_host_work_next(c);
}

static void wrapped(struct pst_kek_op *op)
{
	struct pst_catalog *c = pst_container_of(op, struct pst_catalog, keys.op);
	struct cat_host_key *key = &c->host.next.keys[c->host.at];

	if (op->err != PST_OK || op->wrapped_bytes > sizeof(key->wrapped)) {
		snprintf(c->host.detail, sizeof(c->host.detail), "%s", op->detail);
		return work_end(c, PST_E_KEY);
	}
	memcpy(key->wrapped, op->wrapped, op->wrapped_bytes);
	key->wrapped_bytes = op->wrapped_bytes;
	memcpy(key->kek_id, op->id, sizeof(key->kek_id));
	cat_host_work_next(c);
}

static void submit_unwrap(struct pst_catalog *c)
{
	const struct cat_host_key *key = &c->host.next.keys[c->host.at];
	struct pst_kek_op *op = &c->keys.op;

	op->kind = PST_KEK_UNWRAP;
	memcpy(op->id, key->kek_id, sizeof(op->id));
	memcpy(op->wrapped, key->wrapped, key->wrapped_bytes);
	op->wrapped_bytes = key->wrapped_bytes;
	op->secret = c->keys.secret;
	op->done = unwrapped;
	c->keys.kek->ops->submit(c->keys.kek, op);
}

static void submit_wrap(struct pst_catalog *c)
{
	const struct pst_auth_key *key = &c->host.plain->keys[c->host.at];
	struct pst_kek_op *op = &c->keys.op;

	op->kind = PST_KEK_WRAP;
	op->secret = c->keys.secret;
	op->secret[0] = (uint8_t)kinds[c->host.at].role;
	op->secret[1] = key->hash;
	op->secret[2] = key->len_bytes;
	op->secret[3] = 0;
	if (!digest(c->host.next.nqn, op->secret + 4)) {
		snprintf(c->host.detail, sizeof(c->host.detail), "OpenSSL has no memory");
		return work_end(c, PST_E_KEY);
	}
	memcpy(op->secret + SECRET_HEAD, key->bytes, key->len_bytes);
	op->secret_bytes = SECRET_HEAD + key->len_bytes;
	op->done = wrapped;
	c->keys.kek->ops->submit(c->keys.kek, op);
}

static pst_err tell_target(struct pst_catalog *c, const struct cat_host *h, const struct cat_host_plain *plain)
{
	struct pst_target_host host = {
		.nqn = h->nqn,
		.locked = plain == NULL,
		.host_key = plain != NULL && cat_host_has(h, CAT_HOST_KEY) ? &plain->keys[CAT_HOST_KEY] : NULL,
		.ctrl_key = plain != NULL && cat_host_has(h, CAT_CTRL_KEY) ? &plain->keys[CAT_CTRL_KEY] : NULL,
		.tls_key = plain != NULL && cat_host_has(h, CAT_TLS_KEY) ? &plain->keys[CAT_TLS_KEY] : NULL,
		.hashes = h->hashes,
		.groups = h->groups,
	};

	return pst_target_host_set(c->target, &host);
}

static void recorded(struct pst_catalog *c, pst_err err)
{
	if (err == PST_OK)
		return cat_host_work_next(c);
	snprintf(c->host.detail, sizeof(c->host.detail), "its record can't be written: %s", pst_err_text(err));
	work_end(c, err);
}

static bool needs_kek(const struct cat_host_work *w)
{
	bool needs = false;

	for (unsigned i = 0; i < CAT_HOST_KEYS; i++)
		needs = needs || w->unwrap[i] || w->wrap[i];
	return needs;
}

void cat_host_work_next(struct pst_catalog *c)
{
	struct cat_host_work *w = &c->host;

	if (needs_kek(w) && c->keys.kek == NULL) {
		snprintf(
		    w->detail, sizeof(w->detail),
		    "its key is wrapped with key-encryption key '%s': start penstockd with --kek PATH that holds it",
		    cat_host_kek(&w->next));
		return work_end(c, PST_E_KEY);
	}
	for (w->at = 0; w->at < CAT_HOST_KEYS; w->at++)
		if (w->unwrap[w->at]) {
			w->unwrap[w->at] = false;
			return submit_unwrap(c);
		}
	for (w->at = 0; w->at < CAT_HOST_KEYS; w->at++)
		if (w->wrap[w->at]) {
			w->wrap[w->at] = false;
			return submit_wrap(c);
		}
	if (w->record) {
		w->record = false;
		return cat_record_put(c, w->next.home, "host", w->next.nqn, cat_host_record(&w->next), recorded);
	}
	work_end(c, tell_target(c, &w->next, w->plain));
}

/* ---- At the start, and over all hosts ---- */

static void lock(struct pst_catalog *c, struct cat_host *h)
{
	h->locked = true;
	snprintf(h->lock_reason, sizeof(h->lock_reason), "%s", c->host.detail);
	pst_env_log(c->env, PST_LOG_WARN, "host_locked host=%s kek=%s: %s", h->nqn, cat_host_kek(h), h->lock_reason);
	if (tell_target(c, h, NULL) != PST_OK)
		pst_env_log(c->env, PST_LOG_ERROR, "host_lost host=%s reason=\"no memory\" next=restart", h->nqn);
}

static void all_next(struct pst_post *post);

/* Each on a turn of its own: there may be thousands. */
static void all_turn(struct pst_catalog *c)
{
	c->turn.fn = all_next;
	pst_env_post(c->env, &c->turn);
}

static void one_of_all(struct pst_catalog *c, pst_err err)
{
	struct cat_host *h = cat_host_find(c, c->host.next.nqn);
	bool anew = h != NULL && memcmp(h->keys, c->host.next.keys, sizeof(h->keys)) != 0;

	pst_assert(h != NULL);
	h->unseen = false;
	if (err == PST_OK) {
		memcpy(h->keys, c->host.next.keys, sizeof(h->keys));
		if (h->locked || anew)
			pst_env_log(c->env, PST_LOG_INFO, "host_key_%s host=%s kek=%s", anew ? "rotated" : "unlocked",
				    h->nqn, cat_host_kek(h));
		c->keys.rotated += anew;
		c->keys.already += !anew;
		h->locked = false;
		h->lock_reason[0] = '\0';
	} else if (h->locked || c->host.current[0] == '\0') {
		lock(c, h);
	}
	if (err != PST_OK && c->host.current[0] != '\0') {
		pst_env_log(c->env, PST_LOG_ERROR, "host_key_rotate_failed host=%s: %s", h->nqn, c->host.detail);
		json_array_append_new(c->keys.failed, json_pack("{s:s s:s}", "host", h->nqn, "error", c->host.detail));
	}
	all_turn(c);
}

static void all_next(struct pst_post *post)
{
	struct pst_catalog *c = pst_container_of(post, struct pst_catalog, turn);

	CAT_NAMES_EACH(n, &c->hosts) {
		struct cat_host *h = pst_container_of(n, struct cat_host, named);

		if (!h->unseen)
			continue;
		cat_host_work_begin(c, h, one_of_all);
		if (cat_host_work_memory(c))
			return cat_host_work_next(c);
		snprintf(c->host.detail, sizeof(c->host.detail), "there is no memory for its keys");
		return work_end(c, PST_E_NOMEM);
	}
	c->host.current[0] = '\0';
	c->host.all_done(c);
}

void cat_hosts_start(struct pst_catalog *c, void (*done)(struct pst_catalog *c))
{
	c->host.current[0] = '\0';
	c->host.all_done = done;
	all_turn(c);
}

void cat_hosts_unlock(struct pst_catalog *c, void (*done)(struct pst_catalog *c))
{
	CAT_NAMES_EACH(n, &c->hosts)
		pst_container_of(n, struct cat_host, named)->unseen =
		    pst_container_of(n, struct cat_host, named)->locked;
	cat_hosts_start(c, done);
}

void cat_hosts_rotate(struct pst_catalog *c, const char *current, void (*done)(struct pst_catalog *c))
{
	CAT_NAMES_EACH(n, &c->hosts)
		pst_container_of(n, struct cat_host, named)->unseen = true;
	snprintf(c->host.current, sizeof(c->host.current), "%s", current);
	c->host.all_done = done;
	all_turn(c);
}

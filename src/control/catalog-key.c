/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Keys of encrypted volumes: made with the volume, unwrapped when it is opened, wrapped anew when the operator rotates,
 * erased when he says so. A family (a volume, its clones, their snapshots) has one key, in the pool's key slot.
 *
 *   make     random key -> wrap -> slot*                        a step of creating a volume
 *   unlock   slot -> unwrap -> the encrypting layer             a step of starting one; failing leaves it locked
 *   rotate   for each: slot -> unwrap -> wrap -> slot*          cut short, it goes on when it is asked for again
 *   reload   KEKs -> unlock what is locked, hosts first
 *   erase    stop all of the family -> erase slot* -> start them, locked          (* durable)
 *
 * A locked volume is open but not served, so that its size is known; deleting, snapshots and scrubbing need no key.
 * Unwrapped keys lie in one buffer of secret memory for the moments between two of these steps, and are wiped there.
 */
#include "control/catalog-internal.h"

#include <openssl/crypto.h>
#include <stdio.h>
#include <string.h>

#define SECRET_BYTES (PST_CRYPT_KEY_BYTES + 16u) /* the key, and the family that it belongs to */

/* ---- One key ---- */

static void wipe(struct pst_catalog *c)
{
	if (c->keys.secret != NULL)
		OPENSSL_cleanse(c->keys.secret, PST_KEK_SECRET_MAX);
}

static pst_err secret_get(struct pst_catalog *c)
{
	if (c->keys.secret == NULL)
		c->keys.secret = pst_secret_alloc(c->env, PST_KEK_SECRET_MAX);
	return c->keys.secret != NULL ? PST_OK : PST_E_NOMEM;
}

bool cat_key_secret(struct pst_catalog *c)
{
	return secret_get(c) == PST_OK;
}

void cat_keys_done(struct pst_catalog *c)
{
	pst_secret_free(c->env, c->keys.secret, PST_KEK_SECRET_MAX);
	c->keys.secret = NULL;
}

static void end(struct pst_catalog *c, pst_err err, const char *fmt, ...) PST_PRINTF(3, 4);
static void end(struct pst_catalog *c, pst_err err, const char *fmt, ...)
{
	va_list ap;

	if (err != PST_OK)
		wipe(c);
	va_start(ap, fmt);
	vsnprintf(c->keys.detail, sizeof(c->keys.detail), fmt, ap);
	va_end(ap);
	c->keys.done(c, err);
}

static void slot_op(struct pst_catalog *c, enum pst_pool_op_kind kind, void (*done)(struct pst_catalog *c, pst_err err))
{
	c->pool_op = (struct pst_pool_op){ .kind = kind, .key_bytes = c->keys.bytes };
	memcpy(c->pool_op.uuid, c->keys.volume->uuid, 16);
	if (kind == PST_POOL_KEY_PUT) {
		c->pool_op.value = c->keys.bytes;
		c->pool_op.value_bytes = pst_key_slot_encode(&c->keys.slot, c->keys.bytes);
	}
	cat_pool_step(c, c->keys.volume->pool, done);
}

static void kek_op(struct pst_catalog *c, enum pst_kek_op_kind kind, void (*done)(struct pst_kek_op *op))
{
	c->keys.op.kind = kind;
	c->keys.op.secret = c->keys.secret;
	c->keys.op.done = done;
	c->keys.kek->ops->submit(c->keys.kek, &c->keys.op);
}

static void load_unwrapped(struct pst_kek_op *op)
{
	struct pst_catalog *c = pst_container_of(op, struct pst_catalog, keys.op);

	if (op->err != PST_OK)
		end(c, op->err, "%s", op->detail);
	else if (op->secret_bytes != SECRET_BYTES ||
		 CRYPTO_memcmp(op->secret + PST_CRYPT_KEY_BYTES, c->keys.volume->key_family, 16) != 0)
		end(c, PST_E_KEY,
		    "its key slot holds the key of another volume: was the pool's file patched together?");
	else
		end(c, PST_OK, "%s", "");
}

static void load_read(struct pst_catalog *c, pst_err err)
{
	struct cat_keys *k = &c->keys;
	struct cat_volume *v = k->volume;

	v->key_erased = err == PST_E_NOTFOUND;
	if (v->key_erased)
		return end(c, err, "its key was erased: what was written with it can't be read any more; delete it");
	if (err != PST_OK)
		return end(c, err, "its key slot can't be read: %s", pst_err_text(err));
	err = pst_key_slot_decode(k->bytes, c->pool_op.value_bytes, &k->slot);
	if (err != PST_OK)
		return end(c, err, "its key slot is damaged, or was written by a newer Penstock");
	memcpy(v->kek_id, k->slot.kek_id, sizeof(v->kek_id));
	if (k->kek == NULL)
		return end(
		    c, PST_E_KEY,
		    "its key is wrapped with key-encryption key '%s': start penstockd with --kek PATH that holds "
		    "it",
		    v->kek_id);
	memcpy(k->op.id, k->slot.kek_id, sizeof(k->op.id));
	memcpy(k->op.wrapped, k->slot.wrapped, k->slot.wrapped_bytes);
	k->op.wrapped_bytes = k->slot.wrapped_bytes;
	kek_op(c, PST_KEK_UNWRAP, load_unwrapped);
}

/* The key of @v into c->keys.secret; then @done, on a later turn. On error c->keys.detail tells why. */
static void load(struct pst_catalog *c, struct cat_volume *v, void (*done)(struct pst_catalog *c, pst_err err))
{
	c->keys.volume = v;
	c->keys.done = done;
	slot_op(c, PST_POOL_KEY_GET, load_read);
}

static void store_put(struct pst_catalog *c, pst_err err)
{
	wipe(c);
	if (err == PST_OK)
		memcpy(c->keys.volume->kek_id, c->keys.slot.kek_id, sizeof(c->keys.slot.kek_id));
	end(c, err, "its key slot can't be written: %s", pst_err_text(err));
}

static void store_wrapped(struct pst_kek_op *op)
{
	struct pst_catalog *c = pst_container_of(op, struct pst_catalog, keys.op);
	struct pst_key_slot *slot = &c->keys.slot;

	if (op->err != PST_OK)
		return end(c, op->err, "%s", op->detail);
	*slot = (struct pst_key_slot){ .wrapped_ns = pst_env_wall_ns(c->env), .wrapped_bytes = op->wrapped_bytes };
	memcpy(slot->family, c->keys.volume->key_family, sizeof(slot->family));
	memcpy(slot->kek_id, op->id, sizeof(slot->kek_id));
	memcpy(slot->wrapped, op->wrapped, op->wrapped_bytes);
	slot_op(c, PST_POOL_KEY_PUT, store_put);
}

/* The key in c->keys.secret into the slot of @v, wrapped with the current KEK; it is wiped. */
static void store(struct pst_catalog *c, struct cat_volume *v, void (*done)(struct pst_catalog *c, pst_err err))
{
	c->keys.volume = v;
	c->keys.done = done;
	c->keys.op.secret_bytes = SECRET_BYTES;
	kek_op(c, PST_KEK_WRAP, store_wrapped);
}

/* ---- Steps of a volume's programs ---- */

static void made(struct pst_catalog *c, pst_err err)
{
	c->keys.step_done(c, err == PST_OK || err == PST_E_NOSPACE ? err : PST_E_KEY);
}

bool cat_key_make(struct pst_catalog *c, struct cat_volume *v, pst_err *ret_err,
		  void (*done)(struct pst_catalog *c, pst_err err))
{
	uint8_t *key;

	*ret_err = PST_OK;
	if (!v->encrypted || v->source[0] != '\0')
		return true;
	*ret_err = secret_get(c);
	if (*ret_err != PST_OK)
		return true;
	key = c->keys.secret;
	do
		pst_env_random(c->env, key, PST_CRYPT_KEY_BYTES);
	while (CRYPTO_memcmp(key, key + PST_CRYPT_KEY_BYTES / 2, PST_CRYPT_KEY_BYTES / 2) == 0);
	memcpy(key + PST_CRYPT_KEY_BYTES, v->key_family, 16);
	c->keys.step_done = done;
	store(c, v, made);
	return false;
}

static void lock(struct pst_catalog *c, struct cat_volume *v)
{
	v->locked = true;
	snprintf(v->lock_reason, sizeof(v->lock_reason), "%s", c->keys.detail);
	pst_env_log(c->env, PST_LOG_WARN, "volume_locked volume=%s pool=%s kek=%s: %s", v->name, c->pools[v->pool].name,
		    v->kek_id[0] != '\0' ? v->kek_id : "unknown", v->lock_reason);
}

static void unlock_loaded(struct pst_catalog *c, pst_err err)
{
	struct cat_volume *v = c->keys.volume;
	struct cat_pool *pool = &c->pools[v->pool];
	bool creating = v->state == CAT_CREATING;

	if (err != PST_OK) {
		lock(c, v);
		return c->keys.step_done(c, creating ? PST_E_KEY : PST_OK);
	}
	if (pool->crypt == NULL) {
		static const struct pst_crypt_pool_config config = { 0 };

		err = pst_crypt_pool_new(c->env, &config, &pool->crypt);
	}
	if (err == PST_OK)
		err = pst_crypt_new(pool->crypt, v->volume, c->keys.secret, &v->volume);
	wipe(c);
	if (err == PST_OK && v->locked)
		pst_env_log(c->env, PST_LOG_INFO, "volume_unlocked volume=%s kek=%s", v->name, v->kek_id);
	v->locked = err != PST_OK;
	v->lock_reason[0] = '\0';
	c->keys.step_done(c, err);
}

bool cat_key_unlock(struct pst_catalog *c, struct cat_volume *v, pst_err *ret_err,
		    void (*done)(struct pst_catalog *c, pst_err err))
{
	*ret_err = PST_OK;
	if (!v->encrypted)
		return true;
	*ret_err = secret_get(c);
	if (*ret_err != PST_OK)
		return true;
	c->keys.step_done = done;
	load(c, v, unlock_loaded);
	return false;
}

bool cat_key_refuses(struct pst_catalog *c, const struct cat_volume *v)
{
	if (!v->locked)
		return false;
	cat_fail(c, PST_E_KEY, "penstock key status", "volume '%s' is locked: %s", v->name, v->lock_reason);
	return true;
}

/* ---- Records and answers ---- */

bool cat_key_want(struct pst_catalog *c, struct cat_volume *v, const char *name, const struct cat_volume *source)
{
	json_t *json = json_object_get(c->current->body, "encrypted");

	if (source != NULL) {
		v->encrypted = source->encrypted;
		memcpy(v->key_family, source->key_family, sizeof(v->key_family));
		if (json == NULL || (json_is_boolean(json) && json_is_true(json) == source->encrypted))
			return true;
		cat_fail(c, PST_E_INVAL, "leave it out: clones share blocks with what they were made from, and its key",
			 "volume '%s' is a clone of '%s', which is %sencrypted", name, source->name,
			 source->encrypted ? "" : "not ");
		return false;
	}
	if (json != NULL && !json_is_boolean(json)) {
		cat_fail(c, PST_E_INVAL, NULL, "encrypted must be true or false");
		return false;
	}
	v->encrypted = json_is_true(json);
	memcpy(v->key_family, v->uuid, sizeof(v->key_family));
	if (!v->encrypted || c->keys.kek != NULL)
		return true;
	cat_fail(c, PST_E_KEY, "penstockd --kek FILE, where FILE holds 32 random bytes; see penstockd(8)",
		 "volume '%s' can't be encrypted: penstockd was started without a key-encryption key", name);
	return false;
}

void cat_key_record(const struct cat_volume *v, json_t *record)
{
	char uuid[37];

	if (!v->encrypted || record == NULL)
		return;
	pst_uuid_format(v->key_family, uuid);
	json_object_set_new(record, "key_family", json_string(uuid));
}

pst_err cat_key_load(struct cat_volume *v, json_t *record)
{
	json_t *json = json_object_get(record, "key_family");

	v->encrypted = json != NULL;
	if (json == NULL)
		return PST_OK;
	return json_is_string(json) ? pst_uuid_parse(json_string_value(json), v->key_family) : PST_E_FORMAT;
}

void cat_key_json(const struct cat_volume *v, json_t *json)
{
	if (json == NULL)
		return;
	json_object_set_new(json, "encrypted", json_boolean(v->encrypted));
	json_object_set_new(json, "locked", json_boolean(v->locked));
	if (!v->locked || v->state != CAT_READY)
		return;
	json_object_set_new(json, "state", json_string("locked"));
	json_object_set_new(json, "error", json_string(v->lock_reason));
}

/* NULL: none. */
static json_t *status_json(struct pst_catalog *c)
{
	struct pst_kek_status s;

	if (c->keys.kek == NULL)
		return NULL;
	c->keys.kek->ops->status(c->keys.kek, &s);
	return json_pack("{s:s s:s s:i s:s}", "source", s.source, "current", s.current, "keys", (int)s.keys, "problem",
			 s.problem);
}

static json_t *key_json(struct pst_catalog *c, const struct cat_volume *v)
{
	const char *state = v->key_erased ? "erased" : v->locked ? "locked" : "unlocked";
	char uuid[37];
	json_t *json;

	pst_uuid_format(v->key_family, uuid);
	json = json_pack("{s:s s:s s:s s:s s:s s:s}", "volume", v->name, "pool", c->pools[v->pool].name, "state", state,
			 "kek", v->kek_id, "family", uuid, "cipher", "aes-256-xts");
	if (json != NULL && v->lock_reason[0] != '\0')
		json_object_set_new(json, "error", json_string(v->lock_reason));
	return json;
}

json_t *cat_read_keys(struct pst_catalog *c, const struct pst_catalog_op *op)
{
	json_t *list = json_array();

	CAT_ASKED_EACH(n, op, &c->volumes) {
		const struct cat_volume *v = pst_container_of(n, struct cat_volume, named);

		if (v->encrypted && cat_volume_shown(v))
			json_array_append_new(list, key_json(c, v));
	}
	if (op->kind == PST_CATALOG_SHOW)
		return list;
	return json_pack("{s:o* s:o}", "kek", status_json(c), "volumes", list);
}

/* ---- Actions over several volumes: by name, from the cursor on ---- */

/* The next one in service (or locked) that is encrypted; @family: only of this one, NULL: all. */
static struct cat_volume *next_volume(struct pst_catalog *c, const uint8_t *family)
{
	for (struct cat_named *n = cat_names_after(&c->volumes, c->keys.cursor); n != NULL;
	     n = cat_names_next(&c->volumes, n)) {
		struct cat_volume *v = pst_container_of(n, struct cat_volume, named);

		if (!v->encrypted || v->state != CAT_READY ||
		    (family != NULL && memcmp(v->key_family, family, 16) != 0))
			continue;
		snprintf(c->keys.cursor, sizeof(c->keys.cursor), "%s", v->name);
		return v;
	}
	return NULL;
}

/* ---- Rotate ---- */

static void rotate_next(struct pst_catalog *c);

static void rotate_end(struct pst_catalog *c)
{
	struct cat_keys *k = &c->keys;
	json_t *failed = k->failed;

	k->failed = NULL;
	if (k->only[0] != '\0' && json_array_size(failed) > 0) {
		cat_fail(c, PST_E_KEY, "penstock key status", "the key of volume '%s' was not wrapped anew: %s",
			 k->only, json_string_value(json_object_get(json_array_get(failed, 0), "error")));
		json_decref(failed);
		return;
	}
	cat_succeed(c, json_pack("{s:o s:i s:i s:o}", "kek", status_json(c), "rotated", (int)k->rotated, "current",
				 (int)k->already, "failed", failed));
}

static void rotate_on(struct pst_catalog *c, pst_err err)
{
	const char *name = c->keys.volume->name;

	if (err != PST_OK) {
		pst_env_log(c->env, PST_LOG_ERROR, "key_rotate_failed volume=%s: %s", name, c->keys.detail);
		json_array_append_new(c->keys.failed, json_pack("{s:s s:s}", "volume", name, "error", c->keys.detail));
	}
	if (c->keys.only[0] != '\0')
		rotate_end(c);
	else
		rotate_next(c);
}

static void rotate_stored(struct pst_catalog *c, pst_err err)
{
	if (err == PST_OK) {
		c->keys.rotated++;
		pst_env_log(c->env, PST_LOG_INFO, "key_rotated volume=%s kek=%s", c->keys.volume->name,
			    c->keys.volume->kek_id);
	}
	rotate_on(c, err);
}

static void rotate_loaded(struct pst_catalog *c, pst_err err)
{
	struct pst_kek_status s;

	if (err != PST_OK)
		return rotate_on(c, err);
	c->keys.kek->ops->status(c->keys.kek, &s);
	if (strcmp(s.current, c->keys.slot.kek_id) != 0)
		return store(c, c->keys.volume, rotate_stored);
	wipe(c);
	c->keys.already++;
	rotate_on(c, PST_OK);
}

static void rotate_next(struct pst_catalog *c)
{
	struct cat_volume *v = next_volume(c, NULL);
	struct pst_kek_status s;

	while (v != NULL && v->key_erased)
		v = next_volume(c, NULL);
	if (v != NULL)
		return load(c, v, rotate_loaded);
	c->keys.kek->ops->status(c->keys.kek, &s);
	cat_hosts_rotate(c, s.current, rotate_end);
}

static void rotate(struct pst_catalog *c, const char *name)
{
	struct cat_volume *v = name != NULL ? cat_volume_find(c, name) : NULL;

	if (name != NULL && (v == NULL || !v->encrypted))
		return cat_fail(c, PST_E_NOTFOUND, "penstock key status", "there is no encrypted volume '%.63s'", name);
	if (v != NULL && v->state != CAT_READY)
		return cat_fail(c, PST_E_BUSY, "penstock volume show NAME", "volume '%s' is %s", v->name,
				cat_state_names[v->state]);
	if (secret_get(c) != PST_OK)
		return cat_fail(c, PST_E_NOMEM, NULL, "no memory for keys");
	snprintf(c->keys.only, sizeof(c->keys.only), "%s", name != NULL ? name : "");
	c->keys.rotated = c->keys.already = 0;
	c->keys.failed = json_array();
	if (v != NULL)
		load(c, v, rotate_loaded);
	else
		rotate_next(c);
}

/* ---- Reload ---- */

static void unlock_next(struct pst_catalog *c);

static void started(struct cat_volume *v, pst_err err)
{
	if (err == PST_OK)
		return;
	v->state = CAT_FAILED;
	v->error = err;
}

static void unlock_on(struct pst_catalog *c, struct cat_volume *v, pst_err err)
{
	started(v, err);
	if (err == PST_OK && !v->locked)
		c->keys.unlocked++;
	else
		c->keys.still_locked++;
	unlock_next(c);
}

static void unlock_next(struct pst_catalog *c)
{
	struct cat_volume *v;

	while ((v = next_volume(c, NULL)) != NULL) {
		if (v->locked && !v->key_erased)
			return cat_volume_job(c, v, CAT_PROGRAM_UNLOCK, unlock_on);
	}
	cat_succeed(c, json_pack("{s:o s:i s:i}", "kek", status_json(c), "unlocked", (int)c->keys.unlocked, "locked",
				 (int)c->keys.still_locked));
}

static void reloaded(struct pst_kek_op *op)
{
	cat_hosts_unlock(pst_container_of(op, struct pst_catalog, keys.op), unlock_next);
}

/* ---- Erase ---- */

static void restart_next(struct pst_catalog *c);

static void restart_on(struct pst_catalog *c, struct cat_volume *v, pst_err err)
{
	started(v, err);
	restart_next(c);
}

static void restart_next(struct pst_catalog *c)
{
	struct cat_volume *v = next_volume(c, c->keys.family);

	if (v != NULL)
		return cat_volume_job(c, v, CAT_PROGRAM_START, restart_on);
	if (c->keys.err == PST_OK || c->keys.err == PST_E_NOTFOUND)
		return cat_succeed(c, NULL);
	cat_fail(c, c->keys.err, "penstock key status", "the key of volume '%s' was not erased: %s", c->keys.only,
		 pst_err_text(c->keys.err));
}

static void erased(struct pst_catalog *c, pst_err err)
{
	c->keys.err = err;
	if (err == PST_OK)
		pst_env_log(c->env, PST_LOG_WARN, "key_erased volume=%s next=\"delete it and what was cloned from it\"",
			    c->keys.only);
	c->keys.cursor[0] = '\0';
	restart_next(c);
}

static void stop_next(struct pst_catalog *c);

static void stop_on(struct pst_catalog *c, struct cat_volume *v, pst_err err)
{
	(void)v;
	(void)err; /* stopping doesn't fail */
	stop_next(c);
}

static void stop_next(struct pst_catalog *c)
{
	struct cat_volume *v = next_volume(c, c->keys.family);

	if (v != NULL)
		return cat_volume_job(c, v, CAT_PROGRAM_STOP, stop_on);
	c->keys.volume = cat_volume_find(c, c->keys.only);
	slot_op(c, PST_POOL_KEY_ERASE, erased);
}

static void erase(struct pst_catalog *c, const char *name)
{
	const struct cat_volume *v = cat_volume_find(c, name);
	uint32_t hosts = 0, others = 0;
	char hint[200];

	if (v == NULL || !v->encrypted)
		return cat_fail(c, PST_E_NOTFOUND, "penstock key status", "there is no encrypted volume '%.63s'", name);
	CAT_NAMES_EACH(n, &c->volumes) {
		const struct cat_volume *m = pst_container_of(n, struct cat_volume, named);

		if (!m->encrypted || memcmp(m->key_family, v->key_family, 16) != 0)
			continue;
		others += m != v;
		hosts += m->subsystem != NULL ? pst_subsystem_host_count(m->subsystem) : 0;
	}
	if (!c->current->force && (hosts > 0 || others > 0)) {
		snprintf(hint, sizeof(hint), "if that is meant: penstock key erase %s --yes --force", name);
		return cat_fail(c, PST_E_BUSY, hint,
				"volume '%s' shares its key with %u other volume%s, and %u host%s connected to them: "
				"all of it would become unreadable",
				name, others, others == 1 ? "" : "s", hosts, hosts == 1 ? " is" : "s are");
	}
	memcpy(c->keys.family, v->key_family, sizeof(c->keys.family));
	snprintf(c->keys.only, sizeof(c->keys.only), "%s", name);
	c->keys.cursor[0] = '\0';
	stop_next(c);
}

/* ---- Calls ---- */

void cat_key_change(struct pst_catalog *c)
{
	static const char *const allowed[] = { "action", "volume", NULL };
	const char *action = "", *volume = NULL;

	c->keys.cursor[0] = '\0';
	c->keys.unlocked = c->keys.still_locked = 0;
	if (c->current->kind == PST_CATALOG_DELETE)
		return erase(c, c->current->name);
	if (!cat_body_check(c, allowed) || !cat_body_text(c, "action", 20, &action) ||
	    !cat_body_text(c, "volume", PST_NAME_MAX, &volume))
		return;
	if (strcmp(action, "rotate") != 0 && (strcmp(action, "reload") != 0 || volume != NULL))
		return cat_fail(c, PST_E_INVAL, "penstock key --help",
				"action must be \"rotate\" (with or without a volume) or \"reload\"");
	if (c->keys.kek == NULL)
		return cat_fail(c, PST_E_KEY, "penstockd --kek PATH; see penstockd(8)",
				"penstockd was started without a key-encryption key");
	if (action[1] == 'o')
		rotate(c, volume);
	else
		kek_op(c, PST_KEK_RELOAD, reloaded);
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where volumes keep what must outlive a restart of their reservations: a record "reservation/NAME" in the volume's
 * pool, with the target's bytes in hexadecimal. It is written by the target's leave, beside the changes of the catalog,
 * which never touch it but to delete it, when the volume is out of service for good. A record that makes no sense keeps
 * its volume out of service: who is fenced off would not be known.
 */
#include "control/catalog-internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define KIND "reservation/"
#define BYTES_MAX 1400u /* in hexadecimal, and with what is around it, a record */

struct cat_reservation {
	struct pst_catalog *catalog;
	const struct cat_volume *volume;
	char key[PST_RECORD_KEY_MAX + 1];
	struct pst_pool_op op;
	char *value;
	struct pst_reservation_save_op *save; /* under way; NULL: none */
	struct pst_post post;
	uint8_t loaded[BYTES_MAX];
	uint32_t loaded_bytes;
	bool found;
	pst_err err;
};

static void saved(struct cat_reservation *r, pst_err err)
{
	struct pst_reservation_save_op *save = r->save;

	free(r->value);
	r->value = NULL;
	r->save = NULL;
	save->err = err;
	save->done(save);
}

static void pool_done(struct pst_pool_op *op)
{
	struct cat_reservation *r = pst_container_of(op, struct cat_reservation, op);

	/* Nothing to forget is what was wanted. */
	saved(r, op->kind == PST_POOL_RECORD_DELETE && op->err == PST_E_NOTFOUND ? PST_OK : op->err);
}

static void no_memory(struct pst_post *post)
{
	saved(pst_container_of(post, struct cat_reservation, post), PST_E_NOMEM);
}

static char *record_text(const uint8_t *bytes, uint32_t len_bytes)
{
	char hex[2 * BYTES_MAX + 1];
	json_t *json;
	char *text;

	for (uint32_t i = 0; i < len_bytes; i++)
		snprintf(hex + 2 * (size_t)i, 3, "%02x", bytes[i]);
	hex[2 * (size_t)len_bytes] = '\0';
	json = json_pack("{s:i s:s}", "format", CAT_RECORD_FORMAT, "state", hex);
	text = json != NULL ? json_dumps(json, JSON_COMPACT) : NULL;
	json_decref(json);
	return text;
}

static void save(void *ctx, struct pst_reservation_save_op *op)
{
	struct cat_reservation *r = ctx;

	pst_assert(r->save == NULL && op->len_bytes <= BYTES_MAX);
	r->save = op;
	r->op = (struct pst_pool_op){ .kind = PST_POOL_RECORD_DELETE, .key = r->key, .done = pool_done };
	if (op->len_bytes > 0) {
		r->value = record_text(op->bytes, op->len_bytes);
		if (r->value == NULL) {
			r->post.fn = no_memory;
			pst_env_post(r->catalog->env, &r->post);
			return;
		}
		r->op.kind = PST_POOL_RECORD_PUT;
		r->op.value = r->value;
		r->op.value_bytes = (uint32_t)strlen(r->value);
	}
	pst_pool_submit(r->catalog->pools[r->volume->pool].pool, &r->op);
}

static int digit(char c)
{
	return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static pst_err parse(struct cat_reservation *r, const json_t *record)
{
	const json_t *format = json_object_get(record, "format");
	const char *hex = json_string_value(json_object_get(record, "state"));
	size_t len = hex != NULL ? strlen(hex) : 0;

	if (!json_is_integer(format) || json_integer_value(format) != CAT_RECORD_FORMAT || len == 0 || len % 2 != 0 ||
	    len > 2 * (size_t)BYTES_MAX)
		return PST_E_FORMAT;
	for (size_t i = 0; i < len; i += 2) {
		int high = digit(hex[i]), low = digit(hex[i + 1]);

		if (high < 0 || low < 0)
			return PST_E_FORMAT;
		r->loaded[i / 2] = (uint8_t)(high << 4 | low);
	}
	r->loaded_bytes = (uint32_t)(len / 2);
	return PST_OK;
}

/* The prefix finds volumes whose names begin with this one's, too. */
static void look(void *ctx, const char *key, const void *value, uint32_t value_bytes)
{
	struct cat_reservation *r = ctx;
	json_t *record;

	if (strcmp(key, r->key) != 0)
		return;
	r->found = true;
	record = json_loadb(value, value_bytes, 0, NULL);
	r->err = parse(r, record);
	json_decref(record);
}

static struct cat_reservation *reservation_of(struct pst_catalog *c, struct cat_volume *v)
{
	if (v->reservation == NULL)
		v->reservation = calloc(1, sizeof(*v->reservation));
	if (v->reservation == NULL)
		return NULL;
	v->reservation->catalog = c;
	v->reservation->volume = v;
	snprintf(v->reservation->key, sizeof(v->reservation->key), KIND "%s", v->name);
	v->reservation->loaded_bytes = 0;
	v->reservation->found = false;
	v->reservation->err = PST_OK;
	pst_pool_records(c->pools[v->pool].pool, v->reservation->key, look, v->reservation);
	return v->reservation;
}

pst_err cat_reservation_serve(struct pst_catalog *c, struct cat_volume *v, struct pst_subsystem_config *config)
{
	struct cat_reservation *r = reservation_of(c, v);

	if (r == NULL)
		return PST_E_NOMEM;
	if (r->err != PST_OK) {
		cat_event(c, v->pool, PST_LOG_ERROR, "reservation_damaged volume=%s record=%s", v->name, r->key);
		return r->err;
	}
	config->reservation_save = save;
	config->reservation_save_ctx = r;
	config->reservation = r->loaded;
	config->reservation_bytes = r->loaded_bytes;
	return PST_OK;
}

bool cat_reservation_forget(struct pst_catalog *c, struct cat_volume *v, pst_err *ret_err,
			    void (*done)(struct pst_catalog *c, pst_err err))
{
	struct cat_reservation *r = reservation_of(c, v);

	*ret_err = r == NULL ? PST_E_NOMEM : PST_OK;
	if (r == NULL || !r->found) /* most have none: no durable step for them */
		return true;
	cat_record_delete(c, v->pool, "reservation", v->name, done);
	return false;
}

void cat_reservation_free(struct cat_volume *v)
{
	pst_assert(v->reservation == NULL || v->reservation->save == NULL);
	free(v->reservation);
	v->reservation = NULL;
}

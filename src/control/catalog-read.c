/* SPDX-License-Identifier: Apache-2.0 */
/* Answers of calls that read, made from memory. */
#include "control/catalog-internal.h"

#include <stdio.h>
#include <string.h>

static json_t *pool_json(struct pst_catalog *c, unsigned index)
{
	const struct cat_pool *p = &c->pools[index];
	struct pst_pool_stats s;
	json_int_t provisioned = 0, volumes = 0;
	char uuid[37];

	PST_LIST_EACH(n, &c->volumes) {
		const struct cat_volume *v = pst_container_of(n, struct cat_volume, node);

		if (v->pool != index || !cat_volume_shown(v))
			continue;
		provisioned += (json_int_t)cat_volume_bytes(v);
		volumes++;
	}
	pst_uuid_format(p->pool->uuid, uuid);
	pst_pool_stats(p->pool, &s);
	return json_pack("{s:s s:s s:s s:I s:I s:I s:I s:I s:I}", "name", p->name, "engine", p->pool->ops->name, "uuid",
			 uuid, "size_bytes", (json_int_t)s.size_bytes, "used_bytes", (json_int_t)s.used_bytes,
			 "free_bytes", (json_int_t)s.free_bytes, "provisioned_bytes", provisioned, "volumes", volumes,
			 "checksum_errors", (json_int_t)s.checksum_errors);
}

/* @name NULL: all. */
static json_t *read_pools(struct pst_catalog *c, const char *name)
{
	json_t *list = json_array();

	for (unsigned i = 0; i < c->pool_count; i++)
		if (name == NULL || strcmp(name, c->pools[i].name) == 0)
			json_array_append_new(list, pool_json(c, i));
	return list;
}

static json_t *read_tenants(struct pst_catalog *c, const char *name)
{
	json_t *list = json_array();

	PST_LIST_EACH(n, &c->tenants) {
		const struct cat_tenant *t = pst_container_of(n, struct cat_tenant, node);

		if (name == NULL || strcmp(name, t->name) == 0)
			json_array_append_new(list, cat_tenant_json(c, t));
	}
	return list;
}

static json_t *read_profiles(struct pst_catalog *c, const char *name)
{
	json_t *list = json_array();

	PST_LIST_EACH(n, &c->profiles) {
		const struct cat_profile *p = pst_container_of(n, struct cat_profile, node);

		if (name == NULL || strcmp(name, p->name) == 0)
			json_array_append_new(list, cat_profile_json(p));
	}
	return list;
}

static json_t *read_volumes(struct pst_catalog *c, const char *name)
{
	json_t *list = json_array();

	PST_LIST_EACH(n, &c->volumes) {
		const struct cat_volume *v = pst_container_of(n, struct cat_volume, node);

		if (cat_volume_shown(v) && (name == NULL || strcmp(name, v->name) == 0))
			json_array_append_new(list, cat_volume_json(c, v));
	}
	return list;
}

static const struct {
	const char *word;
	json_t *(*read)(struct pst_catalog *c, const char *name);
} objects[] = {
	[PST_CATALOG_POOL] = { "pool", read_pools },
	[PST_CATALOG_TENANT] = { "tenant", read_tenants },
	[PST_CATALOG_PROFILE] = { "profile", read_profiles },
	[PST_CATALOG_VOLUME] = { "volume", read_volumes },
};

void cat_answer_read(struct pst_catalog *c, struct pst_catalog_op *op)
{
	json_t *list = objects[op->object].read(c, op->kind == PST_CATALOG_SHOW ? op->name : NULL);
	const char *word = objects[op->object].word;

	op->err = PST_OK;
	if (op->kind == PST_CATALOG_LIST) {
		op->result = list;
	} else if (json_array_size(list) == 1) {
		op->result = json_incref(json_array_get(list, 0));
		json_decref(list);
	} else {
		json_decref(list);
		op->err = PST_E_NOTFOUND;
		snprintf(op->message, sizeof(op->message), "there is no %s '%.63s'", word, op->name);
		snprintf(op->hint, sizeof(op->hint), "penstock %s list", word);
	}
	op->done(op);
}

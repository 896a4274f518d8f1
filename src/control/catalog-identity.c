/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What this instance is called as a discovery service: an NQN of its own, made at the first start and kept in a record
 * of the first pool, so that hosts which stay connected to it know it again.
 */
#include "control/catalog-internal.h"

#include <stdio.h>

#define RECORD_NAME "discovery" /* of the only record "identity/..." */

pst_err cat_identity_load(struct pst_catalog *c, json_t *record)
{
	const char *nqn = json_string_value(json_object_get(record, "nqn"));

	if (nqn == NULL || !cat_nqn_ok(nqn))
		return PST_E_FORMAT;
	if (c->discovery_nqn[0] == '\0') /* the first pool that has one counts */
		snprintf(c->discovery_nqn, sizeof(c->discovery_nqn), "%s", nqn);
	return PST_OK;
}

static void answer(struct pst_catalog *c, pst_err err)
{
	struct pst_catalog_identity_op *op = c->identifying;

	c->identifying = NULL;
	op->err = err;
	op->discovery_nqn = c->discovery_nqn;
	op->done(op);
}

static void known(struct pst_post *post)
{
	answer(pst_container_of(post, struct pst_catalog, turn), PST_OK);
}

void pst_catalog_identity(struct pst_catalog *c, struct pst_catalog_identity_op *op)
{
	uint8_t uuid[16];
	char text[37];

	pst_assert(c->adding == NULL && c->current == NULL && c->identifying == NULL && c->pool_count > 0);
	c->identifying = op;
	if (c->discovery_nqn[0] != '\0') {
		c->turn.fn = known;
		pst_env_post(c->env, &c->turn);
		return;
	}
	cat_uuid_new(c, uuid);
	pst_uuid_format(uuid, text);
	snprintf(c->discovery_nqn, sizeof(c->discovery_nqn), "nqn.2014-08.org.nvmexpress:uuid:%s", text);
	cat_record_put(c, CAT_HOME, "identity", RECORD_NAME,
		       json_pack("{s:i s:s}", "format", CAT_RECORD_FORMAT, "nqn", c->discovery_nqn), answer);
}

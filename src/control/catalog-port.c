/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Ports: the addresses where hosts connect, which the daemon is started with, and the access through each of them by
 * ANA group (Base 2.0, 8.1), which is set here and kept. A port is known by its id: what was set for it waits in its
 * record until a daemon listens on that id again, on whatever address.
 *
 *   set    record* tell the target        (* durable: a crash between the two is completed by the next start)
 */
#include "control/catalog-internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct cat_port *port_find(struct pst_catalog *c, uint16_t id)
{
	for (unsigned i = 0; i < c->port_count; i++)
		if (c->ports[i].id == id)
			return &c->ports[i];
	return NULL;
}

/* NULL: there are too many. */
static struct cat_port *port_get(struct pst_catalog *c, uint16_t id)
{
	struct cat_port *p = port_find(c, id);

	if (p != NULL || c->port_count == PST_CATALOG_PORTS_MAX)
		return p;
	p = &c->ports[c->port_count++];
	*p = (struct cat_port){ .id = id, .home = CAT_HOME };
	memset(p->ana, PST_ANA_OPTIMIZED, sizeof(p->ana));
	return p;
}

/* 0: it is none. */
static uint16_t id_parse(const char *text)
{
	uint32_t id = 0;

	if (text[0] == '0')
		return 0;
	for (; *text >= '0' && *text <= '9' && id <= UINT16_MAX; text++)
		id = id * 10 + (uint32_t)(*text - '0');
	return *text == '\0' && id <= UINT16_MAX ? (uint16_t)id : 0;
}

const uint8_t *pst_catalog_port_ana(struct pst_catalog *c, uint16_t id)
{
	const struct cat_port *p = port_find(c, id);

	return p != NULL ? p->ana : NULL;
}

void pst_catalog_port_listens(struct pst_catalog *c, uint16_t id, const struct pst_addr *addr)
{
	struct cat_port *p = port_get(c, id);

	pst_assert(p != NULL); /* cat_port_load has left room */
	p->listens = true;
	pst_addr_format(addr, p->address);
}

/* ---- Records and answers ---- */

/* Groups that are not optimized. */
static json_t *port_record(const struct cat_port *p)
{
	json_t *ana = json_object();

	for (unsigned i = 0; i < PST_ANA_GROUPS_MAX; i++) {
		char group[12];

		if (p->ana[i] == PST_ANA_OPTIMIZED)
			continue;
		snprintf(group, sizeof(group), "%u", i + 1);
		json_object_set_new(ana, group, json_string(pst_ana_state_name(p->ana[i])));
	}
	return json_pack("{s:i s:o}", "format", CAT_RECORD_FORMAT, "ana", ana);
}

pst_err cat_port_load(struct pst_catalog *c, unsigned pool, const char *name, json_t *record)
{
	uint8_t states[PST_ANA_GROUPS_MAX];
	uint16_t id = id_parse(name);
	json_t *ana = json_object_get(record, "ana"), *state;
	const char *group;
	struct cat_port *p;

	memset(states, PST_ANA_OPTIMIZED, sizeof(states));
	if (id == 0 || !json_is_object(ana))
		return PST_E_FORMAT;
	json_object_foreach(ana, group, state)
	{
		uint16_t number = id_parse(group);
		enum pst_ana_state value;

		if (number == 0 || number > PST_ANA_GROUPS_MAX || !json_is_string(state) ||
		    !pst_ana_state_find(json_string_value(state), &value))
			return PST_E_FORMAT;
		states[number - 1] = (uint8_t)value;
	}
	if (port_find(c, id) != NULL) {
		pst_env_log(c->env, PST_LOG_WARN, "port_in_two_pools port=%u ignored_from=%s", id, c->pools[pool].name);
		return PST_OK;
	}
	if (c->port_count == PST_CATALOG_PORTS_MAX - PST_TARGET_PORTS_MAX) {
		pst_env_log(c->env, PST_LOG_WARN, "port_forgotten port=%u reason=\"there are records of too many\"",
			    id);
		return PST_OK;
	}
	p = port_get(c, id);
	p->home = pool;
	memcpy(p->ana, states, sizeof(states));
	return PST_OK;
}

static unsigned volumes_in(struct pst_catalog *c, uint32_t group)
{
	unsigned count = 0;

	CAT_NAMES_EACH(n, &c->volumes) {
		const struct cat_volume *v = pst_container_of(n, struct cat_volume, named);

		count += cat_volume_shown(v) && v->ana_group == group;
	}
	return count;
}

/* Groups with volumes, and those whose state was set. "ana" is the one word for all of these. */
static json_t *port_json(struct pst_catalog *c, const struct cat_port *p)
{
	json_t *groups = json_array();
	const char *all = NULL;

	for (unsigned i = 0; i < PST_ANA_GROUPS_MAX; i++) {
		const char *name = pst_ana_state_name(p->ana[i]);
		unsigned volumes = volumes_in(c, i + 1);

		if (volumes == 0 && p->ana[i] == PST_ANA_OPTIMIZED)
			continue;
		json_array_append_new(
		    groups, json_pack("{s:i s:s s:i}", "group", (int)(i + 1), "ana", name, "volumes", (int)volumes));
		all = all == NULL || strcmp(all, name) == 0 ? name : "mixed";
	}
	return json_pack("{s:i s:s s:s s:o}", "id", (int)p->id, "address", p->address, "ana",
			 all != NULL ? all : "optimized", "groups", groups);
}

json_t *cat_read_ports(struct pst_catalog *c, const struct pst_catalog_op *op)
{
	json_t *list = json_array();

	for (unsigned i = 0; i < c->port_count; i++)
		if (c->ports[i].listens && (op->kind != PST_CATALOG_SHOW || id_parse(op->name) == c->ports[i].id))
			json_array_append_new(list, port_json(c, &c->ports[i]));
	return list;
}

/* ---- Changes ---- */

static void told(struct pst_ana_op *op)
{
	struct pst_catalog *c = pst_container_of(op, struct pst_catalog, port.op);

	cat_succeed(c, port_json(c, c->port.port));
}

static void recorded(struct pst_catalog *c, pst_err err)
{
	struct cat_port *p = c->port.port;

	if (err != PST_OK) {
		memcpy(p->ana, c->port.old, sizeof(p->ana));
		return cat_fail(c, err, "penstock pool list", "the change of port %u could not be recorded: %s", p->id,
				pst_err_text(err));
	}
	c->port.op.done = told;
	err = pst_target_set_ana(c->target, p->id, c->port.groups, c->port.state, &c->port.op);
	pst_assert(err == PST_OK); /* it listens */
	pst_env_log(c->env, PST_LOG_INFO, "port_ana port=%u groups=%08x state=%s", p->id, c->port.groups,
		    pst_ana_state_name(c->port.state));
}

void cat_port_change(struct pst_catalog *c)
{
	static const char *const allowed[] = { "ana", "group", NULL };
	struct cat_port *p = port_find(c, id_parse(c->current->name));
	const char *state = NULL;
	uint64_t group = 0;
	char name[12];

	if (p == NULL || !p->listens)
		return cat_fail(c, PST_E_NOTFOUND, "penstock port list", "there is no port '%.20s'", c->current->name);
	if (!cat_body_check(c, allowed) || !cat_body_text(c, "ana", 32, &state) || !cat_body_u64(c, "group", &group))
		return;
	if (state == NULL || !pst_ana_state_find(state, &c->port.state))
		return cat_fail(c, PST_E_INVAL, NULL,
				"ana must be \"optimized\", \"non-optimized\", \"inaccessible\", \"persistent-loss\" "
				"or \"change\"");
	if (json_object_get(c->current->body, "group") != NULL && (group == 0 || group > PST_ANA_GROUPS_MAX))
		return cat_fail(c, PST_E_INVAL, "leave it out: all groups", "group must be from 1 to %u",
				PST_ANA_GROUPS_MAX);
	c->port.port = p;
	c->port.groups = group > 0 ? 1u << (group - 1) : UINT32_MAX;
	memcpy(c->port.old, p->ana, sizeof(p->ana));
	for (unsigned i = 0; i < PST_ANA_GROUPS_MAX; i++)
		if ((c->port.groups >> i & 1) != 0)
			p->ana[i] = (uint8_t)c->port.state;
	snprintf(name, sizeof(name), "%u", p->id);
	cat_record_put(c, p->home, "listen", name, port_record(p), recorded);
}

/* ---- The group of a volume ---- */

bool cat_ana_group_want(struct pst_catalog *c, uint32_t *ret_group)
{
	uint64_t group = 1;

	if (json_object_get(c->current->body, "ana_group") == NULL)
		return true;
	if (!cat_body_u64(c, "ana_group", &group))
		return false;
	if (group == 0 || group > PST_ANA_GROUPS_MAX) {
		cat_fail(c, PST_E_INVAL, NULL, "ana_group must be from 1 to %u", PST_ANA_GROUPS_MAX);
		return false;
	}
	*ret_group = (uint32_t)group;
	return true;
}

/* Of the group, or of attaching: the volume is as it should be. */
static void volume_told(struct pst_ana_op *op)
{
	struct pst_catalog *c = pst_container_of(op, struct pst_catalog, port.op);

	cat_succeed(c, cat_volume_json(c, c->subject));
}

static void group_recorded(struct pst_catalog *c, struct cat_volume *v, pst_err err)
{
	if (err != PST_OK) {
		v->ana_group = c->port.old_group;
		return cat_fail(c, err, "penstock pool list", "the group of volume '%s' could not be recorded: %s",
				v->name, pst_err_text(err));
	}
	if (v->subsystem == NULL) /* locked: it is served with its group when it is unlocked */
		return cat_succeed(c, cat_volume_json(c, v));
	c->subject = v;
	c->port.op.done = volume_told;
	pst_subsystem_set_group(v->subsystem, v->ana_group, &c->port.op);
}

void cat_ana_group_set(struct pst_catalog *c, struct cat_volume *v)
{
	c->port.old_group = v->ana_group;
	if (cat_ana_group_want(c, &v->ana_group))
		cat_volume_job(c, v, CAT_PROGRAM_STORE, group_recorded);
}

/* ---- Attaching and detaching a volume ---- */

static void attached_recorded(struct pst_catalog *c, struct cat_volume *v, pst_err err)
{
	if (err != PST_OK) {
		v->detached = !v->detached;
		return cat_fail(c, err, "penstock pool list", "that volume '%s' is %s could not be recorded: %s",
				v->name, v->detached ? "attached" : "detached", pst_err_text(err));
	}
	pst_env_log(c->env, PST_LOG_INFO, "volume_%s volume=%s", v->detached ? "detached" : "attached", v->name);
	if (v->subsystem == NULL)
		return cat_succeed(c, cat_volume_json(c, v));
	c->subject = v;
	c->port.op.done = volume_told;
	pst_subsystem_set_attached(v->subsystem, !v->detached, &c->port.op);
}

void cat_attached_set(struct pst_catalog *c, struct cat_volume *v)
{
	const json_t *json = json_object_get(c->current->body, "attached");
	uint32_t hosts = v->subsystem != NULL ? pst_subsystem_host_count(v->subsystem) : 0;
	char hint[200];

	if (!json_is_boolean(json))
		return cat_fail(c, PST_E_INVAL, NULL, "attached must be true or false");
	if (json_is_true(json) != v->detached)
		return cat_succeed(c, cat_volume_json(c, v));
	if (!v->detached && hosts > 0 && !c->current->force) {
		snprintf(hint, sizeof(hint), "unmount it there first, or: penstock volume detach %s --force", v->name);
		return cat_fail(c, PST_E_BUSY, hint, "volume '%s' is in use: %u host%s connected", v->name, hosts,
				hosts == 1 ? " is" : "s are");
	}
	v->detached = !v->detached;
	cat_volume_job(c, v, CAT_PROGRAM_STORE, attached_recorded);
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The discovery log (Base 2.0, 5.16.1.23, log page 70h), on the home shard. A host is shown what it may connect to, at
 * the ports that it can reach, and where its TLS key, or that it has none, lets it in: for the whole target its own
 * discovery subsystem at each port, its subsystems at each port, then referrals.
 *
 * The generation is that of what this host sees. A change that everybody sees counts for all; one that hosts on allow
 * lists see is kept by their names, and only they hear of it. When there are too many names to keep it counts for all.
 * It begins at random, so that a host which returns after a restart of the target notices.
 */
#include "target/internal.h"
#include "target/logs.h"

#include <stdlib.h>

#define VIEWS_MAX 1024u

/* When what a host by this name sees changed last, other than for all. */
struct view {
	struct pst_list node; /* target->views */
	uint64_t generation;
	char hostnqn[PST_NQN_MAX + 1];
};

/* ---- Generations ---- */

static struct view *view_find(const struct pst_target *target, const char *hostnqn)
{
	PST_LIST_EACH(node, &target->views) {
		struct view *view = pst_container_of(node, struct view, node);

		if (strcmp(view->hostnqn, hostnqn) == 0)
			return view;
	}
	return NULL;
}

void pst_discovery_init(struct pst_target *target)
{
	uint32_t begin;

	pst_list_init(&target->views);
	pst_env_random(pst_target_home(target), &begin, sizeof(begin));
	target->generation = target->generation_all = ((uint64_t)begin << 20) + 1;
}

void pst_discovery_done(struct pst_target *target)
{
	struct pst_list *node;

	while ((node = pst_list_pop_front(&target->views)) != NULL)
		free(pst_container_of(node, struct view, node));
	target->view_count = 0;
}

static uint64_t generation_for(const struct pst_target *target, const char *hostnqn)
{
	const struct view *view = view_find(target, hostnqn);

	return view != NULL ? view->generation : target->generation_all;
}

/* Base 2.0, 3.1.2.3.4.2: an event for hosts that have asked for it. @hostnqn NULL: for all. */
static void tell(struct pst_target *target, const char *hostnqn)
{
	PST_LIST_EACH(node, &target->ctrls) {
		struct pst_ctrl *ctrl = pst_container_of(node, struct pst_ctrl, node);

		if (ctrl->subsystem == NULL && (hostnqn == NULL || strcmp(ctrl->hostnqn, hostnqn) == 0))
			pst_ctrl_raise(ctrl, PST_EVENT_DISCOVERY_CHANGED);
	}
}

void pst_discovery_changed_for_all(struct pst_target *target)
{
	pst_discovery_done(target); /* none of them is newer than this */
	target->generation_all = ++target->generation;
	tell(target, NULL);
}

void pst_discovery_changed_for(struct pst_target *target, const char *hostnqn)
{
	struct view *view = view_find(target, hostnqn);

	if (view == NULL && target->view_count < VIEWS_MAX)
		view = calloc(1, sizeof(*view));
	if (view == NULL) {
		pst_discovery_changed_for_all(target);
		return;
	}
	if (view->generation == 0) {
		memcpy(view->hostnqn, hostnqn, strnlen(hostnqn, PST_NQN_MAX));
		pst_list_push_back(&target->views, &view->node);
		target->view_count++;
	}
	view->generation = ++target->generation;
	tell(target, hostnqn);
}

void pst_discovery_changed(const struct pst_subsystem *subsystem)
{
	if (!subsystem->restricted)
		pst_discovery_changed_for_all(subsystem->target);
	for (uint32_t i = 0; subsystem->restricted && i < subsystem->allowed_count; i++)
		pst_discovery_changed_for(subsystem->target, subsystem->allowed[i]);
}

/* ---- Settings ---- */

void pst_target_set_discovery_nqn(struct pst_target *target, const char *nqn)
{
	pst_assert(strlen(nqn) <= PST_NQN_MAX && target->port_count == 0);
	memcpy(target->discovery_nqn, nqn, strlen(nqn) + 1);
}

const char *pst_discovery_nqn(const struct pst_target *target)
{
	return target->discovery_nqn[0] != '\0' ? target->discovery_nqn : NVMF_DISCOVERY_NQN;
}

/* Base 2.0, 3.1.2.3: the well-known name; TP8013: or a name of its own. */
bool pst_discovery_is(const struct pst_target *target, const char *nqn)
{
	return strcmp(nqn, NVMF_DISCOVERY_NQN) == 0 || strcmp(nqn, pst_discovery_nqn(target)) == 0;
}

pst_err pst_target_refer(struct pst_target *target, const struct pst_addr *addr)
{
	if (target->referral_count == PST_TARGET_REFERRALS_MAX)
		return PST_E_NOMEM;
	target->referrals[target->referral_count++] = *addr;
	pst_discovery_changed_for_all(target);
	return PST_OK;
}

/* ---- The log ---- */

/* What a walk over the entries does with each; without a window it counts. */
struct walk {
	const struct pst_queue *queue;
	const struct pst_log_window *w; /* NULL: none */
	uint64_t count;
};

static bool is_wildcard(const char *host)
{
	return strcmp(host, "0.0.0.0") == 0 || strcmp(host, "::") == 0;
}

static bool is_ipv6(const char *host)
{
	return strchr(host, ':') != NULL;
}

/* Where the host of this connection reaches @port; NULL: not at all, as far as we can say. */
static const char *reached_at(const struct pst_queue *queue, unsigned index)
{
	const struct pst_port *port = &queue->shard->target->ports[index];
	const char *local = queue->local.host, *host = port->bound.host;

	if (index == queue->port) /* as it did now: never a wildcard */
		return local;
	if (is_wildcard(host))
		return is_ipv6(host) == is_ipv6(local) ? local : NULL;
	return pst_addr_is_loopback(host) && !pst_addr_is_loopback(local) ? NULL : host;
}

static void put_entry(struct walk *walk, struct pst_discovery_entry *entry)
{
	uint8_t bytes[PST_DISCOVERY_ENTRY_BYTES];
	uint64_t at = ++walk->count * PST_DISCOVERY_ENTRY_BYTES; /* behind the header */

	if (walk->w == NULL || at + PST_DISCOVERY_ENTRY_BYTES <= walk->w->offset_bytes ||
	    at >= walk->w->offset_bytes + walk->w->len_bytes)
		return;
	entry->ipv6 = is_ipv6(entry->traddr);
	entry->admin_queue_entries = 32;
	pst_log_discovery_entry(entry, bytes);
	pst_log_window_put(walk->w, at, bytes, sizeof(bytes));
}

/* Whoever has a TLS key comes over TLS, and nobody else does (access.c). */
static bool takes(const struct pst_port *port, bool secure)
{
	return port->tls != (secure ? PST_TARGET_TLS_OFF : PST_TARGET_TLS_REQUIRED);
}

static void put_at_ports(struct walk *walk, enum pst_discovery_kind kind, const char *nqn)
{
	const struct pst_target *target = walk->queue->shard->target;
	bool secure = pst_access_needs_tls(target, walk->queue->ctrl->hostnqn);

	for (unsigned i = 0; i < target->port_count; i++) {
		struct pst_discovery_entry entry = { .kind = kind,
						     .nqn = nqn,
						     .tls = secure,
						     .traddr = reached_at(walk->queue, i),
						     .port = target->ports[i].bound.port,
						     .port_id = target->ports[i].id };

		if (entry.traddr != NULL && takes(&target->ports[i], secure))
			put_entry(walk, &entry);
	}
}

static void walk(struct walk *walk)
{
	const struct pst_target *target = walk->queue->shard->target;

	put_at_ports(walk, PST_DISCOVERY_CURRENT, pst_discovery_nqn(target)); /* TP8014 */
	PST_LIST_EACH(node, &target->subsystems) {
		const struct pst_subsystem *subsystem = pst_container_of(node, struct pst_subsystem, node);

		if (pst_access_listed(subsystem, walk->queue->ctrl->hostnqn))
			put_at_ports(walk, PST_DISCOVERY_SUBSYSTEM, subsystem->nqn);
	}
	for (unsigned i = 0; i < target->referral_count; i++)
		put_entry(walk, &(struct pst_discovery_entry){ .kind = PST_DISCOVERY_REFERRAL,
							       .nqn = NVMF_DISCOVERY_NQN,
							       .traddr = target->referrals[i].host,
							       .port = target->referrals[i].port });
}

uint64_t pst_discovery_entries(const struct pst_queue *queue)
{
	struct walk counts = { .queue = queue };

	walk(&counts);
	return counts.count;
}

void pst_discovery_log(const struct pst_queue *queue, const struct pst_log_window *w)
{
	struct walk writes = { .queue = queue, .w = w };
	uint8_t header[PST_DISCOVERY_ENTRY_BYTES];

	walk(&writes);
	pst_log_discovery_header(generation_for(queue->shard->target, queue->ctrl->hostnqn), writes.count, header);
	pst_log_window_put(w, 0, header, sizeof(header));
}

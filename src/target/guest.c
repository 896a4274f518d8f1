/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What each host uses, so that none takes all: connections and authentications under way, by the name that it gives in
 * Connect. Names are claims until they are proved, so these limits keep hosts from each other's way by accident; what a
 * stranger can take is bounded by address and in all, before Connect: accept.c. Home shard.
 */
#include "target/internal.h"

#include <stdlib.h>

static struct pst_guest *find(const struct pst_target *target, const char *hostnqn)
{
	PST_HASH_EACH(it, &target->guests, pst_hash_string(&target->guests, hostnqn))
	{
		struct pst_guest *guest = pst_container_of(it, struct pst_guest, node);

		if (strcmp(guest->hostnqn, hostnqn) == 0)
			return guest;
	}
	return NULL;
}

static struct pst_guest *guest_new(struct pst_target *target, const char *hostnqn)
{
	struct pst_guest *guest = calloc(1, sizeof(*guest));

	if (guest == NULL)
		return NULL;
	memcpy(guest->hostnqn, hostnqn, strlen(hostnqn)); /* zeroed, and checked by Connect */
	pst_hash_add(&target->guests, &guest->node, pst_hash_string(&target->guests, hostnqn));
	return guest;
}

void pst_target_limit_log(struct pst_target *target, const struct pst_queue *queue, const char *hostnqn,
			  const char *limit, uint32_t value)
{
	char peer[72];

	pst_env_log(pst_target_home(target), PST_LOG_WARN,
		    "limit_reached limit=%s value=%u host=%s peer=%s next=refuse", limit, value, hostnqn,
		    pst_addr_format(&queue->peer, peer));
}

uint16_t pst_guest_enter(struct pst_queue *queue, const char *hostnqn)
{
	struct pst_target *target = queue->shard->target;
	struct pst_guest *guest = find(target, hostnqn);

	pst_assert(queue->guest == NULL);
	if (guest != NULL && guest->connections >= target->config.connections_per_host_max) {
		pst_target_limit_log(target, queue, hostnqn, "connections_per_host_max",
				     target->config.connections_per_host_max);
		return NVMF_CONTROLLER_BUSY; /* without Do Not Retry: it may have room later */
	}
	if (guest == NULL)
		guest = guest_new(target, hostnqn);
	if (guest == NULL)
		return NVMF_CONTROLLER_BUSY;
	guest->connections++;
	queue->guest = guest;
	return NVME_SUCCESS;
}

void pst_guest_leave(struct pst_queue *queue)
{
	struct pst_guest *guest = queue->guest;

	if (guest == NULL)
		return;
	queue->guest = NULL;
	if (--guest->connections > 0)
		return;
	pst_assert(guest->auths == 0);
	pst_hash_remove(&queue->shard->target->guests, &guest->node);
	free(guest);
}

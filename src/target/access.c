/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who may connect to what: the hosts that the target knows, and the allow lists of subsystems. The rules, in order:
 *
 *   1. A host that is not on the list of a subsystem that has one is refused.
 *   2. A host whose keys we can't have is refused.
 *   3. A host with a TLS key comes over TLS, by which it has proved to know it; one without does not.
 *   4. A host with a host key proves that it knows it.
 *   5. Where hosts must authenticate beyond this machine, one without any key is refused there.
 *   6. Any other host may connect.
 *
 * After each change all associations are looked at again: those that would be refused now end. A host's keys lie in
 * secret memory and nowhere else in the target, but in the transactions of its queues that are authenticating.
 */
#include "target/internal.h"

#include <stdlib.h>
#include <string.h>

static struct pst_known_host *host_find(const struct pst_target *target, const char *nqn)
{
	PST_LIST_EACH(node, &target->hosts) {
		struct pst_known_host *host = pst_container_of(node, struct pst_known_host, node);

		if (strcmp(host->nqn, nqn) == 0)
			return host;
	}
	return NULL;
}

bool pst_access_listed(const struct pst_subsystem *subsystem, const char *hostnqn)
{
	if (!subsystem->restricted)
		return true;
	for (uint32_t i = 0; i < subsystem->allowed_count; i++)
		if (strcmp(subsystem->allowed[i], hostnqn) == 0)
			return true;
	return false;
}

enum pst_access pst_access_of(const struct pst_target *target, const struct pst_subsystem *subsystem,
			      const struct pst_claim *claim, const struct pst_known_host **ret_host,
			      const char **ret_why)
{
	const struct pst_known_host *host = host_find(target, claim->hostnqn);
	bool has_tls_key = host != NULL && host->has_tls_key;

	if (subsystem != NULL && !pst_access_listed(subsystem, claim->hostnqn))
		*ret_why = "it is not on the volume's list";
	else if (host != NULL && host->locked)
		*ret_why = "its keys are locked";
	else if (has_tls_key && !claim->secure)
		*ret_why = "it has a TLS key, and comes without TLS";
	else if (!has_tls_key && claim->secure)
		*ret_why = "it has no TLS key any more";
	else if (host != NULL && host->has_key) {
		*ret_host = host;
		return PST_ACCESS_PROOF;
	} else if (claim->remote && !claim->secure && target->config.authenticate_remote)
		*ret_why = "it has no key, and comes from beyond this machine";
	else
		return PST_ACCESS_OPEN;
	return PST_ACCESS_NO;
}

bool pst_access_needs_tls(const struct pst_target *target, const char *hostnqn)
{
	const struct pst_known_host *host = host_find(target, hostnqn);

	return host != NULL && host->has_tls_key;
}

bool pst_access_find_psk(const struct pst_target *target, const struct pst_tls_identity *offers, unsigned count,
			 unsigned *ret_which, struct pst_tls_psk *ret_psk)
{
	for (unsigned i = 0; i < count; i++) {
		const struct pst_known_host *host = host_find(target, offers[i].hostnqn);

		if (host == NULL || host->locked || !host->has_tls_key ||
		    pst_tls_psk_derive(&host->tls_key, &offers[i], ret_psk) != PST_OK)
			continue;
		*ret_which = i;
		return true;
	}
	return false;
}

/* Looks at every association again. @proved: a host whose key is gone; NULL: none. */
static void review(struct pst_target *target, const char *proved)
{
	PST_LIST_EACH(node, &target->ctrls) {
		struct pst_ctrl *ctrl = pst_container_of(node, struct pst_ctrl, node);
		const struct pst_known_host *host;
		const struct pst_claim claim = { ctrl->hostnqn, ctrl->remote, ctrl->secure };
		const char *why;
		enum pst_access access = pst_access_of(target, ctrl->subsystem, &claim, &host, &why);

		if (access == PST_ACCESS_NO)
			pst_ctrl_kill(ctrl, why);
		else if (access == PST_ACCESS_PROOF && ctrl->admitted && !ctrl->proved)
			pst_ctrl_kill(ctrl, "its host has to authenticate now");
		else if (proved != NULL && (ctrl->proved || !ctrl->admitted) && strcmp(ctrl->hostnqn, proved) == 0)
			pst_ctrl_kill(ctrl, "its host has been deleted");
	}
}

pst_err pst_target_host_set(struct pst_target *target, const struct pst_target_host *config)
{
	struct pst_known_host *host = host_find(target, config->nqn);
	bool had_tls_key = host != NULL && host->has_tls_key;
	size_t len = strlen(config->nqn);

	if (len == 0 || len > PST_NQN_MAX)
		return PST_E_INVAL;
	if (host == NULL) {
		host = pst_secret_alloc(pst_target_home(target), sizeof(*host));
		if (host == NULL)
			return PST_E_NOMEM;
		memcpy(host->nqn, config->nqn, len);
		pst_list_push_back(&target->hosts, &host->node);
	}
	host->locked = config->locked;
	host->has_key = config->host_key != NULL;
	host->has_ctrl_key = config->ctrl_key != NULL;
	host->has_tls_key = config->tls_key != NULL;
	host->host_key = host->has_key ? *config->host_key : (struct pst_auth_key){ 0 };
	host->ctrl_key = host->has_ctrl_key ? *config->ctrl_key : (struct pst_auth_key){ 0 };
	host->tls_key = host->has_tls_key ? *config->tls_key : (struct pst_auth_key){ 0 };
	host->hashes = config->hashes;
	host->groups = config->groups;
	review(target, NULL);
	if (host->has_tls_key != had_tls_key) /* it is shown other ports */
		pst_discovery_changed_for(target, host->nqn);
	return PST_OK;
}

static void host_free(struct pst_target *target, struct pst_known_host *host)
{
	pst_list_remove(&host->node);
	pst_secret_free(pst_target_home(target), host, sizeof(*host));
}

void pst_target_host_remove(struct pst_target *target, const char *nqn)
{
	struct pst_known_host *host = host_find(target, nqn);
	bool had_key, had_tls_key;

	if (host == NULL)
		return;
	had_key = host->has_key || host->has_tls_key || host->locked;
	had_tls_key = host->has_tls_key;
	host_free(target, host);
	review(target, had_key ? nqn : NULL);
	if (had_tls_key)
		pst_discovery_changed_for(target, nqn);
}

void pst_access_done(struct pst_target *target)
{
	while (!pst_list_empty(&target->hosts))
		host_free(target, pst_container_of(target->hosts.next, struct pst_known_host, node));
}

pst_err pst_access_list_set(struct pst_subsystem *subsystem, const struct pst_allow_list *allow)
{
	char(*allowed)[PST_NQN_MAX + 1] = NULL;

	if (allow->count > 0) {
		allowed = calloc(allow->count, sizeof(*allowed));
		if (allowed == NULL)
			return PST_E_NOMEM;
	}
	for (uint32_t i = 0; i < allow->count; i++) {
		size_t len = strlen(allow->nqns[i]);

		pst_assert(len <= PST_NQN_MAX);
		memcpy(allowed[i], allow->nqns[i], len);
	}
	subsystem->allowed = allowed;
	subsystem->allowed_count = allow->count;
	subsystem->restricted = allow->restricted;
	return PST_OK;
}

/* Those who see it now and did not before, or the other way round, hear of it. */
static void tell_difference(struct pst_subsystem *subsystem, char (*before)[PST_NQN_MAX + 1], uint32_t before_count)
{
	for (uint32_t i = 0; i < before_count; i++)
		if (!pst_access_listed(subsystem, before[i]))
			pst_discovery_changed_for(subsystem->target, before[i]);
	for (uint32_t i = 0; i < subsystem->allowed_count; i++) {
		bool was_listed = false;

		for (uint32_t j = 0; j < before_count; j++)
			was_listed |= strcmp(before[j], subsystem->allowed[i]) == 0;
		if (!was_listed)
			pst_discovery_changed_for(subsystem->target, subsystem->allowed[i]);
	}
}

pst_err pst_subsystem_allow(struct pst_subsystem *subsystem, const struct pst_allow_list *allow)
{
	char(*before)[PST_NQN_MAX + 1] = subsystem->allowed;
	uint32_t before_count = subsystem->allowed_count;
	bool was_restricted = subsystem->restricted;
	pst_err err = pst_access_list_set(subsystem, allow);

	if (err != PST_OK)
		return err;
	review(subsystem->target, NULL);
	if (subsystem->restricted && was_restricted)
		tell_difference(subsystem, before, before_count);
	else if (subsystem->restricted || was_restricted)
		pst_discovery_changed_for_all(subsystem->target);
	free(before);
	return PST_OK;
}

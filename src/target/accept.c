/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which connections are taken at all, before anybody has said a word: so many in all, so many new ones in a second, and
 * so many that have not finished Connect, in all and from one address. Others are closed at once; a host tries again.
 * On the shard that accepts; all but connections_max counts for each shard.
 *
 * The rate is a bucket that holds connections_max: after a restart all hosts that may be connected may come at once.
 */
#include "target/internal.h"

#define LOG_NS 1000000000ull /* one line in so long says how many were refused */

static bool rate_allows(struct pst_shard *shard, uint64_t now_ns)
{
	const struct pst_target_config *config = &shard->target->config;
	uint64_t each_ns = 1000000000ull / config->accepts_per_s_max, full_ns = each_ns * config->connections_max;

	/* accept_ns: when the bucket will be full again; each connection takes each_ns more. */
	shard->accept_ns = PST_MAX(shard->accept_ns, now_ns);
	if (shard->accept_ns + each_ns > now_ns + full_ns)
		return false;
	shard->accept_ns += each_ns;
	return true;
}

static const char *half_open(const struct pst_shard *shard, const struct pst_addr *peer)
{
	const struct pst_target_config *config = &shard->target->config;
	uint32_t count = 0, same = 0;

	PST_LIST_EACH(node, &shard->half_open) {
		const struct pst_queue *queue = pst_container_of(node, struct pst_queue, half_open_node);

		count++;
		same += strcmp(queue->peer.host, peer->host) == 0;
	}
	return count >= config->half_open_max              ? "half_open_max"
	       : same >= config->half_open_per_address_max ? "half_open_per_address_max"
							   : NULL;
}

const char *pst_accept_refusal(struct pst_shard *shard, const struct pst_addr *peer)
{
	struct pst_target *target = shard->target;
	const char *limit;

	if (shard->stopping || atomic_load(&target->quiet))
		return "stopping";
	if (atomic_load(&target->queue_count) >= target->config.connections_max)
		return "connections_max";
	limit = half_open(shard, peer);
	if (limit != NULL)
		return limit;
	return rate_allows(shard, pst_env_now_ns(shard->env)) ? NULL : "accepts_per_s_max";
}

void pst_accept_log(struct pst_shard *shard, const struct pst_addr *peer, const char *limit)
{
	uint64_t now_ns = pst_env_now_ns(shard->env);
	char text[72];

	shard->refused++;
	if (shard->refused_log_ns != 0 && now_ns - shard->refused_log_ns < LOG_NS)
		return;
	pst_env_log(shard->env, PST_LOG_WARN, "connection_refused limit=%s peer=%s count=%u next=close", limit,
		    pst_addr_format(peer, text), shard->refused);
	shard->refused = 0;
	shard->refused_log_ns = now_ns;
}

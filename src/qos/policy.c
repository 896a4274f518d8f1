/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which policies are accepted, and the life of groups and flows.
 *
 * Reservations are promises, so they are added up before they are given. In each dimension (operations, bytes per
 * second) a group takes from the device what it reserves itself or, if it reserves nothing, the sum of what its flows
 * reserve. The flows of a group may reserve no more than the group reserves (if it does) and no more than its limit.
 * Invariants: qos->reserved and group->reserved are exactly these sums, whatever was refused.
 */
#include "qos/internal.h"

#include <stdlib.h>

#define WEIGHT_MAX 10000u
#define BURST_NS_MAX (60ull * 1000000000)
#define WEIGHT_DEFAULT 100u
#define BURST_NS_DEFAULT 100000000ull

static pst_err PST_MUST_USE policy_normalise(const struct pst_qos_policy *policy, struct pst_qos_policy *ret)
{
	for (int d = 0; d < QOS_DIMS; d++)
		if (qos_limit(policy, d) != 0 && qos_reserve(policy, d) > qos_limit(policy, d))
			return PST_E_INVAL;
	if (policy->weight > WEIGHT_MAX || policy->burst_ns > BURST_NS_MAX)
		return PST_E_INVAL;
	*ret = *policy;
	if (ret->weight == 0)
		ret->weight = WEIGHT_DEFAULT;
	if (ret->burst_ns == 0)
		ret->burst_ns = BURST_NS_DEFAULT;
	return PST_OK;
}

/* What the group takes from the device, given its own reservation and its flows' sum. */
static uint64_t group_claim(uint64_t own, uint64_t flows)
{
	return own != 0 ? own : flows;
}

/*
 * Account for a group whose policy becomes @policy and whose flows' reservations become @flows. All or nothing: on
 * PST_E_NOSPACE the books are as before.
 */
static pst_err PST_MUST_USE reserve(struct pst_qos_group *group, const struct pst_qos_policy *policy,
				    const uint64_t flows[QOS_DIMS])
{
	struct pst_qos *qos = group->qos;
	uint64_t total[QOS_DIMS];

	for (int d = 0; d < QOS_DIMS; d++) {
		uint64_t capacity = d == QOS_OPS ? qos->config.capacity_iops : qos->config.capacity_bytes_per_s;
		uint64_t own = qos_reserve(policy, d), limit = qos_limit(policy, d);
		uint64_t before = group_claim(qos_reserve(&group->node.policy, d), group->reserved[d]);

		if ((own != 0 && flows[d] > own) || (limit != 0 && flows[d] > limit))
			return PST_E_NOSPACE;
		if (!pst_add_u64(qos->reserved[d] - before, group_claim(own, flows[d]), &total[d]))
			return PST_E_NOSPACE;
		/* A claim that shrinks is always granted, also where the capacity has been lowered since. */
		if (capacity != 0 && total[d] > capacity && total[d] > qos->reserved[d])
			return PST_E_NOSPACE;
	}
	for (int d = 0; d < QOS_DIMS; d++) {
		qos->reserved[d] = total[d];
		group->reserved[d] = flows[d];
	}
	return PST_OK;
}

/* The same for one flow of the group, whose reservation goes from @before to @after. */
static pst_err PST_MUST_USE reserve_flow(struct pst_qos_group *group, const struct pst_qos_policy *before,
					 const struct pst_qos_policy *after)
{
	uint64_t flows[QOS_DIMS];

	for (int d = 0; d < QOS_DIMS; d++)
		if (!pst_add_u64(group->reserved[d] - qos_reserve(before, d), qos_reserve(after, d), &flows[d]))
			return PST_E_NOSPACE;
	return reserve(group, &group->node.policy, flows);
}

pst_err pst_qos_group_new(struct pst_qos *qos, const struct pst_qos_policy *policy, struct pst_qos_group **ret_group)
{
	struct pst_qos_group *group = calloc(1, sizeof(*group));
	pst_err err;

	if (group == NULL)
		return PST_E_NOMEM;
	group->qos = qos;
	err = pst_qos_group_set(group, policy);
	if (err != PST_OK) {
		free(group);
		return err;
	}
	qos->group_count++;
	*ret_group = group;
	return PST_OK;
}

void pst_qos_group_free(struct pst_qos_group *group)
{
	static const struct pst_qos_policy none;
	static const uint64_t nothing[QOS_DIMS];
	pst_err err;

	if (group == NULL)
		return;
	pst_assert(group->flow_count == 0);
	err = reserve(group, &none, nothing);
	pst_assert(err == PST_OK);
	group->qos->group_count--;
	free(group);
}

pst_err pst_qos_flow_new(struct pst_qos_group *group, const struct pst_qos_policy *policy,
			 struct pst_qos_flow **ret_flow)
{
	struct pst_qos_flow *flow = calloc(1, sizeof(*flow));
	pst_err err;

	if (flow == NULL)
		return PST_E_NOMEM;
	flow->group = group;
	pst_list_init(&flow->sources);
	pst_qos_source_init(&flow->own);
	err = pst_qos_flow_set(flow, policy);
	if (err != PST_OK) {
		free(flow);
		return err;
	}
	group->flow_count++;
	*ret_flow = flow;
	return PST_OK;
}

void pst_qos_flow_free(struct pst_qos_flow *flow)
{
	static const struct pst_qos_policy none;
	pst_err err;

	if (flow == NULL)
		return;
	pst_assert(pst_list_empty(&flow->sources) && flow->admitted_now == 0);
	err = reserve_flow(flow->group, &flow->node.policy, &none);
	pst_assert(err == PST_OK);
	flow->group->flow_count--;
	free(flow);
}

pst_err pst_qos_group_set(struct pst_qos_group *group, const struct pst_qos_policy *policy)
{
	struct pst_qos_policy normal;
	pst_err err = policy_normalise(policy, &normal);

	if (err != PST_OK)
		return err;
	err = reserve(group, &normal, group->reserved);
	if (err != PST_OK)
		return err;
	group->node.policy = normal;
	qos_group_changed(group);
	return PST_OK;
}

pst_err pst_qos_flow_set(struct pst_qos_flow *flow, const struct pst_qos_policy *policy)
{
	struct pst_qos_policy normal;
	pst_err err = policy_normalise(policy, &normal);

	if (err != PST_OK)
		return err;
	err = reserve_flow(flow->group, &flow->node.policy, &normal);
	if (err != PST_OK)
		return err;
	flow->node.policy = normal;
	qos_flow_changed(flow);
	return PST_OK;
}

void pst_qos_flow_stats(struct pst_qos_flow *flow, struct pst_qos_stats *ret_stats)
{
	*ret_stats = flow->node.stats;
}

void pst_qos_group_stats(struct pst_qos_group *group, struct pst_qos_stats *ret_stats)
{
	*ret_stats = group->node.stats;
}

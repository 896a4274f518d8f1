/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Quality of service: a tree node > tenant > volume with reservation, limit and weight at each level, enforced at
 * admission by one scheduler per device. A request waits here before its payload is pulled and before the device sees
 * it; what has started is never delayed. Work-conserving: reservations are promises, not walls.
 * Lives on the device's shard; pure state plus the shard's clock and one timer.
 */
#ifndef PST_QOS_QOS_H
#define PST_QOS_QOS_H

#include "env/env.h"
#include "volume/volume.h"

/* 0 means: not set. */
struct pst_qos_policy {
	uint64_t reserve_iops, reserve_bytes_per_s;
	uint64_t limit_iops, limit_bytes_per_s;
	uint32_t weight;   /* share of what is left; 0: 100 */
	uint64_t burst_ns; /* how much unused limit may be saved up; 0: 100 ms */
};

struct pst_qos_config {
	uint32_t inflight_ops_max;                    /* started and not done, per device; 0: 64 */
	uint64_t inflight_bytes_max;                  /* 0: 4 MiB */
	uint64_t capacity_iops, capacity_bytes_per_s; /* what reservations may add up to; 0: not checked */
};

struct pst_qos;
struct pst_qos_group; /* a tenant */
struct pst_qos_flow;  /* a volume inside a tenant */

pst_err PST_MUST_USE pst_qos_new(struct pst_env *env, const struct pst_qos_config *config, struct pst_qos **ret_qos);
void pst_qos_free(struct pst_qos *qos); /* no waiters, no flows */

pst_err PST_MUST_USE pst_qos_group_new(struct pst_qos *qos, const struct pst_qos_policy *policy,
				       struct pst_qos_group **ret_group);
void pst_qos_group_free(struct pst_qos_group *group); /* without flows */
pst_err PST_MUST_USE pst_qos_flow_new(struct pst_qos_group *group, const struct pst_qos_policy *policy,
				      struct pst_qos_flow **ret_flow);
void pst_qos_flow_free(struct pst_qos_flow *flow); /* without waiters or admitted requests */

/*
 * Live changes, in force for waiting requests at once. PST_E_INVAL: reservation above limit; PST_E_NOSPACE: the
 * reservations of the device, or of the tenant's volumes, would exceed what the device or tenant has.
 */
pst_err PST_MUST_USE pst_qos_group_set(struct pst_qos_group *group, const struct pst_qos_policy *policy);
pst_err PST_MUST_USE pst_qos_flow_set(struct pst_qos_flow *flow, const struct pst_qos_policy *policy);

/*
 * One of several users of a flow, such as a connection: the sources of a flow take turns, request by request, so that a
 * deep queue does not stand before a shallow one. The caller's; on the device's shard; has no waiters when it goes.
 */
struct pst_qos_source {
	struct pst_list node, waiters; /* scheduler's, as all here */
	uint64_t fetching_ops, fetching_bytes;
};

void pst_qos_source_init(struct pst_qos_source *source);

/* Embedded in the caller's request. */
struct pst_qos_waiter {
	enum pst_io_kind kind;
	uint64_t bytes;
	void (*admitted)(struct pst_qos_waiter *waiter); /* never inside pst_qos_enter */
	uint64_t queued_ns;                              /* when it entered */
	uint64_t waited_ns;                              /* set at admission: how long it waited here */
	struct pst_qos_flow *flow;
	struct pst_qos_source *source; /* NULL: one turn together with all others that name none */
	struct pst_list node;          /* scheduler's */
	uint64_t scratch[4];           /* scheduler's */
};

/*
 * Enter: true means admitted at once (the usual case costs no turn); false: admitted() comes later. After admission the
 * caller fetches what the request still lacks (a write's payload, a buffer), and calls pst_qos_started when the device
 * gets it. Only then does it count as in flight: a host that is slow to send what it was asked for keeps nobody else
 * waiting. What a source has admitted and not started is bounded by the device's own bounds, for that source alone.
 * pst_qos_leave exactly once, when the request is complete or dropped. pst_qos_cancel removes one that still waits.
 */
bool PST_MUST_USE pst_qos_enter(struct pst_qos_flow *flow, struct pst_qos_waiter *waiter);
void pst_qos_started(struct pst_qos_waiter *waiter); /* harmless when it has started already */
void pst_qos_leave(struct pst_qos_waiter *waiter);
void pst_qos_cancel(struct pst_qos_waiter *waiter);

struct pst_qos_stats {
	uint64_t admitted_ops, admitted_bytes;
	uint64_t throttled_ops; /* that had to wait */
	uint64_t throttled_ns;  /* sum of their waits */
	uint64_t waiting_ops;   /* now */
};

void pst_qos_flow_stats(struct pst_qos_flow *flow, struct pst_qos_stats *ret_stats);
void pst_qos_group_stats(struct pst_qos_group *group, struct pst_qos_stats *ret_stats);

#endif

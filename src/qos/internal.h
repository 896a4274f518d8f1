/* SPDX-License-Identifier: Apache-2.0 */
/* The scheduler's own structures, shared by policy.c (what is promised) and qos.c (who is next). */
#ifndef PST_QOS_INTERNAL_H
#define PST_QOS_INTERNAL_H

#include "qos/qos.h"

#include "base/heap.h"

enum { QOS_OPS, QOS_BYTES, QOS_DIMS };

/* What a request costs at one level of the tree. */
struct qos_charge {
	uint64_t limit[QOS_DIMS];   /* operations and bytes, counted against limits */
	uint64_t reserve[QOS_DIMS]; /* the same against reservations: long requests are several operations */
	uint64_t fair;              /* against weights */
};

/* What groups and flows have in common: a policy, its clocks, and a place in the parent's heaps. */
struct qos_node {
	struct pst_qos_policy policy;  /* weight and burst never 0 here */
	uint64_t limit_ns[QOS_DIMS];   /* within its limit from this time on */
	uint64_t reserve_ns[QOS_DIMS]; /* its reservation falls due at this time */
	uint64_t fair_start;           /* weighted service so far (start tag of the next request) */
	struct pst_heap_node by_share; /* parent's ready heap; key: fair_start */
	struct pst_heap_node by_due;   /* parent's due heap; key: when a reservation falls due */
	struct pst_heap_node by_wake;  /* parent's wake heap; key: when a limit lets go */
	struct pst_qos_stats stats;
};

/* The children of the device (groups) or of a group (flows) that have waiters. */
struct qos_children {
	struct pst_heap ready, due, wake;
	uint64_t fair_now; /* start tag of the child served last */
};

struct pst_qos {
	struct pst_env *env;
	struct pst_qos_config config;
	struct pst_timer timer;
	uint64_t timer_ns; /* what it is armed for; 0: not armed */
	bool in_turn;      /* the turn arms the timer itself when it ends */
	uint64_t inflight_ops, inflight_bytes;
	uint64_t rescue_ns; /* from when on an admission by weight goes before reservations */
	uint64_t reserved[QOS_DIMS];
	uint64_t group_count;
	struct qos_children groups;
};

struct pst_qos_group {
	struct pst_qos *qos;
	struct qos_node node;
	uint64_t reserved[QOS_DIMS]; /* sum over its flows */
	uint64_t flow_count;
	struct qos_children flows;
};

struct pst_qos_flow {
	struct pst_qos_group *group;
	struct qos_node node;
	struct pst_list sources;   /* those with waiters, in order of their turns */
	struct pst_qos_source own; /* of waiters that name none */
	uint64_t admitted_now;
};

/* After a change of policy: forget debts and credits of the old one, and let the new one act at once. */
void qos_group_changed(struct pst_qos_group *group);
void qos_flow_changed(struct pst_qos_flow *flow);

static inline uint64_t qos_limit(const struct pst_qos_policy *policy, int dim)
{
	return dim == QOS_OPS ? policy->limit_iops : policy->limit_bytes_per_s;
}

static inline uint64_t qos_reserve(const struct pst_qos_policy *policy, int dim)
{
	return dim == QOS_OPS ? policy->reserve_iops : policy->reserve_bytes_per_s;
}

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who is admitted next.
 *
 * Model. A device takes a bounded number of requests and bytes at a time; what is beyond waits here, first come first
 * served within its source, the sources of a flow in turn. Whenever there is room, one request is chosen:
 *   1. reservations: of the flows and groups whose reservation is due, the one due longest;
 *   2. weights: the group, and in it the flow, that has had the least weighted service.
 * A flow over its limit, or in a group over its limit, takes part in neither until the limit lets go. Nothing else
 * holds a request back, so the scheduler is work-conserving: reservations order, they do not set capacity aside.
 *
 * Clocks instead of buckets. A limit or reservation of r per second is a time stamp that moves on by cost/r with every
 * request (the virtual scheduling of ITU-T I.371, the tags of mClock, OSDI 2010): "within the limit" and "due" are
 * comparisons with now, and idling earns at most burst_ns because a stamp never lags further behind. Rounding is
 * upwards: limits err to the strict side, by at most 1 ns a request. A reservation's stamp is never further ahead than
 * the last request's cost: a flow that took more than its reservation while the device was idle is still owed it when a
 * neighbour arrives. Every admission counts both against the reservation and against weights, so a flow gets the larger
 * of reservation and share, not both added up.
 *
 * Weights are start-time fair queueing (Goyal, Vin, Cheng, SIGCOMM 1996) at both levels of the tree. A child that
 * returns starts at the present, so idling earns no share; a child served by reservation is never put further ahead
 * than FAIR_LEAD, so that when its reservation is taken away it waits for no more than that.
 *
 * Why this and not one mClock over all flows: with tags per level a tenant's reservation and weight hold whatever
 * number of volumes it has, and each decision is a look at the top of one heap per level: O(log n) in the number of
 * flows that wait, none of those that do not.
 *
 * States of a waiter: outside (0), WAITING (in its source's list), ADMITTED (its payload or buffer is being fetched:
 * counted at its source), STARTED (counted in flight at the device). A source with as much admitted and not started as
 * its bound allows takes no part until some of it has started: so a host that does not send what it was asked for holds
 * up itself alone, and the device's room goes to others. A flow is in its group's heaps only while it has sources that
 * may go: in wake if over its limit, else in ready, and in due if it reserves. A group likewise in the device's heaps;
 * one that is ready may also be in wake, for its flows that are held back.
 *
 * Failure modes. Reservations above what the device really does would starve the rest: at least every RESCUE_NS one
 * admission goes by weight. A request larger than the byte bound is admitted when nothing else is in flight.
 * Admissions happen on the timer's turn, never inside the caller's enter, leave or set.
 */
#include "qos/internal.h"

#include <stdlib.h>

#define NS_PER_S 1000000000ull
#define NEVER (UINT64_MAX / 2) /* as a due time: reserves nothing */
#define INFLIGHT_OPS_DEFAULT 64u
#define INFLIGHT_BYTES_DEFAULT (4ull << 20)
#define RESERVE_CREDIT_NS_MAX 100000000ull /* how long a reservation can be overdue and still be made up for */
#define RESERVE_OP_BYTES 65536u            /* a longer request is several operations to a reservation */
#define FAIR_OP_BYTES 16384u               /* what a request costs before its bytes; writes twice */
#define FAIR_LEAD (16ull << 20)
#define META_BYTES_MAX 65536u /* discard and write zeroes change maps, not blocks */
#define CHARGED_BYTES_MAX (1ull << 32)
#define RESCUE_NS 10000000ull
#define RESCUE_BYTES 65536u

enum { WAITER_STATE, WAITER_BYTES };
enum { OUTSIDE, WAITING, ADMITTED, STARTED };

static struct qos_node *node_of_wake(struct pst_heap_node *heap_node)
{
	return pst_container_of(heap_node, struct qos_node, by_wake);
}

static struct pst_qos_group *group_of(struct qos_node *node)
{
	return pst_container_of(node, struct pst_qos_group, node);
}

static struct pst_qos_flow *flow_of(struct qos_node *node)
{
	return pst_container_of(node, struct pst_qos_flow, node);
}

/* ---- Costs and clocks ---- */

/* What a request weighs at the device: a discard of a terabyte is small work. */
static uint64_t waiter_bytes(const struct pst_qos_waiter *waiter)
{
	switch (waiter->kind) {
	case PST_IO_READ:
	case PST_IO_WRITE:
		return PST_MIN(waiter->bytes, CHARGED_BYTES_MAX);
	case PST_IO_WRITE_ZEROES:
	case PST_IO_DISCARD:
		return PST_MIN(waiter->bytes, META_BYTES_MAX);
	default:
		return 0;
	}
}

static struct qos_charge charge_of(const struct pst_qos_waiter *waiter)
{
	uint64_t bytes = waiter->scratch[WAITER_BYTES];
	uint64_t ops = PST_MAX(1, pst_div_round_up(bytes, RESERVE_OP_BYTES));
	uint64_t fixed = waiter->kind == PST_IO_READ ? FAIR_OP_BYTES : 2 * FAIR_OP_BYTES;

	return (struct qos_charge){ .limit = { 1, bytes }, .reserve = { ops, bytes }, .fair = fixed + bytes };
}

static uint64_t cost_ns(uint64_t amount, uint64_t per_s)
{
	return pst_div_round_up(amount * NS_PER_S, per_s);
}

static uint64_t stamp_advance(uint64_t stamp, uint64_t now, uint64_t credit_ns, uint64_t cost)
{
	uint64_t oldest = now > credit_ns ? now - credit_ns : 0;

	return PST_MAX(stamp, oldest) + cost;
}

static uint64_t limit_due_ns(const struct qos_node *node)
{
	uint64_t due = 0;

	for (int d = 0; d < QOS_DIMS; d++)
		if (qos_limit(&node->policy, d) != 0)
			due = PST_MAX(due, node->limit_ns[d]);
	return due;
}

/* Due when no dimension has had its share. */
static uint64_t reserve_due_ns(const struct qos_node *node)
{
	uint64_t due = 0;

	if (node->policy.reserve_iops == 0 && node->policy.reserve_bytes_per_s == 0)
		return NEVER;
	for (int d = 0; d < QOS_DIMS; d++)
		if (qos_reserve(&node->policy, d) != 0)
			due = PST_MAX(due, node->reserve_ns[d]);
	return due;
}

static uint64_t fair_cost(uint64_t cost, const struct qos_node *node)
{
	return cost * 100 / node->policy.weight;
}

/* One admission at one level. */
static void node_charge(struct qos_node *node, struct qos_children *siblings, const struct qos_charge *charge,
			uint64_t now, bool by_reserve)
{
	const struct pst_qos_policy *policy = &node->policy;
	uint64_t lead;

	for (int d = 0; d < QOS_DIMS; d++) {
		if (qos_limit(policy, d) != 0)
			node->limit_ns[d] = stamp_advance(node->limit_ns[d], now, policy->burst_ns,
							  cost_ns(charge->limit[d], qos_limit(policy, d)));
		if (qos_reserve(policy, d) != 0) {
			uint64_t cost = cost_ns(charge->reserve[d], qos_reserve(policy, d));

			node->reserve_ns[d] =
			    PST_MIN(now + cost, stamp_advance(node->reserve_ns[d], now,
							      PST_MIN(policy->burst_ns, RESERVE_CREDIT_NS_MAX), cost));
		}
	}
	if (!by_reserve)
		siblings->fair_now = pst_key_later(siblings->fair_now, node->fair_start);
	node->fair_start += fair_cost(charge->fair, node);
	lead = siblings->fair_now + fair_cost(FAIR_LEAD, node);
	if (pst_key_before(lead, node->fair_start))
		node->fair_start = lead;
	node->stats.admitted_ops++;
	node->stats.admitted_bytes += charge->limit[QOS_BYTES];
}

/* ---- Heaps ---- */

/* Take @node out of its parent's heaps; was it ready? */
static bool node_unqueue(struct qos_node *node, struct qos_children *siblings)
{
	bool was_ready = node->by_share.queued;

	pst_heap_remove(&siblings->ready, &node->by_share);
	pst_heap_remove(&siblings->due, &node->by_due);
	pst_heap_remove(&siblings->wake, &node->by_wake);
	return was_ready;
}

/* A child that comes back has no claim on what was given out while it did not want any. */
static void node_ready(struct qos_node *node, struct qos_children *siblings, bool was_ready)
{
	if (!was_ready)
		node->fair_start = pst_key_later(node->fair_start, siblings->fair_now);
	pst_heap_insert(&siblings->ready, &node->by_share, node->fair_start);
}

/* Put the group where it belongs after anything about it or its flows has changed. */
static void group_requeue(struct pst_qos_group *group, uint64_t now)
{
	struct qos_children *groups = &group->qos->groups, *flows = &group->flows;
	struct pst_heap_node *ready = pst_heap_min(&flows->ready), *wake = pst_heap_min(&flows->wake);
	uint64_t held_until = limit_due_ns(&group->node), due = NEVER;
	bool was_ready = node_unqueue(&group->node, groups);

	if (ready == NULL && wake == NULL)
		return;
	if (held_until > now) {
		if (ready == NULL)
			held_until = PST_MAX(held_until, wake->key);
		pst_heap_insert(&groups->wake, &group->node.by_wake, held_until);
		return;
	}
	if (wake != NULL)
		pst_heap_insert(&groups->wake, &group->node.by_wake, wake->key);
	if (ready == NULL)
		return;
	node_ready(&group->node, groups, was_ready);
	due = reserve_due_ns(&group->node);
	if (pst_heap_min(&flows->due) != NULL)
		due = PST_MIN(due, pst_heap_min(&flows->due)->key);
	if (due != NEVER)
		pst_heap_insert(&groups->due, &group->node.by_due, due);
}

static void flow_requeue_alone(struct pst_qos_flow *flow, uint64_t now)
{
	struct qos_children *flows = &flow->group->flows;
	uint64_t held_until = limit_due_ns(&flow->node), due = reserve_due_ns(&flow->node);
	bool was_ready = node_unqueue(&flow->node, flows);

	if (pst_list_empty(&flow->sources))
		return;
	if (held_until > now) {
		pst_heap_insert(&flows->wake, &flow->node.by_wake, held_until);
		return;
	}
	node_ready(&flow->node, flows, was_ready);
	if (due != NEVER)
		pst_heap_insert(&flows->due, &flow->node.by_due, due);
}

static void flow_requeue(struct pst_qos_flow *flow, uint64_t now)
{
	flow_requeue_alone(flow, now);
	group_requeue(flow->group, now);
}

/* Let go of everything whose limit allows it by now. */
static void wake_due(struct pst_qos *qos, uint64_t now)
{
	struct pst_heap_node *top;

	while ((top = pst_heap_min(&qos->groups.wake)) != NULL && top->key <= now) {
		struct pst_qos_group *group = group_of(node_of_wake(top));

		while ((top = pst_heap_min(&group->flows.wake)) != NULL && top->key <= now)
			flow_requeue_alone(flow_of(node_of_wake(top)), now);
		group_requeue(group, now);
	}
}

/* ---- Sources ---- */

void pst_qos_source_init(struct pst_qos_source *source)
{
	pst_list_init(&source->node);
	pst_list_init(&source->waiters);
	source->fetching_ops = source->fetching_bytes = 0;
}

static struct pst_qos_source *source_of(struct pst_qos_waiter *waiter)
{
	return waiter->source != NULL ? waiter->source : &waiter->flow->own;
}

/* Has the source room for @bytes more that are admitted and not started? */
static bool source_fits(const struct pst_qos *qos, const struct pst_qos_source *source, uint64_t bytes)
{
	if (source->fetching_ops == 0)
		return true;
	return source->fetching_ops < qos->config.inflight_ops_max &&
	       source->fetching_bytes + bytes <= qos->config.inflight_bytes_max;
}

/* Into the turns of its flow if it has a waiter that may go, else out of them. It keeps the turn it has. */
static void source_requeue(struct pst_qos_flow *flow, struct pst_qos_source *source)
{
	const struct pst_qos_waiter *first;

	if (pst_list_empty(&source->waiters)) {
		pst_list_remove(&source->node);
		return;
	}
	first = pst_container_of(source->waiters.next, struct pst_qos_waiter, node);
	if (!source_fits(flow->group->qos, source, first->scratch[WAITER_BYTES]))
		pst_list_remove(&source->node);
	else if (pst_list_empty(&source->node))
		pst_list_push_back(&flow->sources, &source->node);
}

/* @waiter is no longer fetching. */
static void source_fetched(struct pst_qos_waiter *waiter)
{
	struct pst_qos_source *source = source_of(waiter);

	pst_assert(source->fetching_ops > 0 && source->fetching_bytes >= waiter->scratch[WAITER_BYTES]);
	source->fetching_ops--;
	source->fetching_bytes -= waiter->scratch[WAITER_BYTES];
	if (pst_list_empty(&source->waiters) || !pst_list_empty(&source->node))
		return;
	source_requeue(waiter->flow, source);
	flow_requeue(waiter->flow, pst_env_turn_ns(waiter->flow->group->qos->env));
}

/* ---- Choosing and admitting ---- */

/* The flow to serve, and at which levels a reservation is why. */
struct choice {
	struct pst_qos_flow *flow;
	bool group_by_reserve, flow_by_reserve;
};

static struct pst_qos_flow *group_choose_by_share(struct pst_qos_group *group)
{
	return flow_of(pst_container_of(pst_heap_min(&group->flows.ready), struct qos_node, by_share));
}

static struct choice choose_by_reserve(struct pst_qos *qos, uint64_t now)
{
	struct pst_heap_node *top = pst_heap_min(&qos->groups.due);
	struct pst_qos_group *group;

	if (top == NULL || top->key > now)
		return (struct choice){ 0 };
	group = group_of(pst_container_of(top, struct qos_node, by_due));
	top = pst_heap_min(&group->flows.due);
	if (top != NULL && top->key <= now)
		return (struct choice){ flow_of(pst_container_of(top, struct qos_node, by_due)), true, true };
	return (struct choice){ group_choose_by_share(group), true, false };
}

/* A flow of NULL: nobody may go now. */
static struct choice choose(struct pst_qos *qos, uint64_t now)
{
	struct pst_heap_node *top = pst_heap_min(&qos->groups.ready);
	struct choice choice = { 0 };

	if (now < qos->rescue_ns)
		choice = choose_by_reserve(qos, now);
	if (choice.flow == NULL && top != NULL)
		choice.flow = group_choose_by_share(group_of(pst_container_of(top, struct qos_node, by_share)));
	return choice;
}

static struct pst_qos_waiter *choice_waiter(const struct choice *choice)
{
	struct pst_qos_source *source = pst_container_of(choice->flow->sources.next, struct pst_qos_source, node);

	return pst_container_of(source->waiters.next, struct pst_qos_waiter, node);
}

static bool fits(const struct pst_qos *qos, uint64_t bytes)
{
	if (qos->inflight_ops == 0)
		return true;
	return qos->inflight_ops < qos->config.inflight_ops_max &&
	       qos->inflight_bytes + bytes <= qos->config.inflight_bytes_max;
}

static void admit(const struct choice *choice, struct pst_qos_waiter *waiter, uint64_t now)
{
	struct pst_qos_flow *flow = choice->flow;
	struct pst_qos *qos = flow->group->qos;
	struct qos_charge charge = charge_of(waiter);

	if (!flow->node.by_share.queued)
		flow->node.fair_start = pst_key_later(flow->node.fair_start, flow->group->flows.fair_now);
	if (!flow->group->node.by_share.queued)
		flow->group->node.fair_start = pst_key_later(flow->group->node.fair_start, qos->groups.fair_now);
	node_charge(&flow->node, &flow->group->flows, &charge, now, choice->flow_by_reserve);
	node_charge(&flow->group->node, &qos->groups, &charge, now, choice->group_by_reserve);
	/* A long request by weight buys reservations a longer time without interruption. */
	if (!choice->group_by_reserve)
		qos->rescue_ns = now + RESCUE_NS * PST_MAX(1, charge.limit[QOS_BYTES] / RESCUE_BYTES);
	source_of(waiter)->fetching_ops++;
	source_of(waiter)->fetching_bytes += waiter->scratch[WAITER_BYTES];
	flow->admitted_now++;
	waiter->scratch[WAITER_STATE] = ADMITTED;
	waiter->waited_ns = now - waiter->queued_ns;
}

/* ---- Waiting ---- */

static void count_wait(struct qos_node *node, const struct pst_qos_waiter *waiter)
{
	node->stats.throttled_ops++;
	node->stats.throttled_ns += waiter->waited_ns;
	node->stats.waiting_ops--;
}

/* Arm the timer for the next thing to do: at once if someone can go, else when the first limit lets go. */
static void timer_update(struct pst_qos *qos, uint64_t now)
{
	struct pst_heap_node *wake = pst_heap_min(&qos->groups.wake);
	struct choice choice = choose(qos, now);
	uint64_t at = wake != NULL ? PST_MAX(wake->key, now) : 0;

	if (qos->in_turn)
		return;
	if (choice.flow != NULL && fits(qos, choice_waiter(&choice)->scratch[WAITER_BYTES]))
		at = now;
	/* Armed for the past is armed for the next turn: leave it. */
	if (at == qos->timer_ns || (qos->timer_ns != 0 && at != 0 && qos->timer_ns <= now && at <= now))
		return;
	qos->timer_ns = at;
	if (at != 0)
		pst_timer_arm(qos->env, &qos->timer, at);
	else
		pst_timer_disarm(qos->env, &qos->timer);
}

/* The scheduler's turn. Bounded: what callbacks bring in beyond that goes on the next turn. */
static void turn(struct pst_timer *timer)
{
	struct pst_qos *qos = pst_container_of(timer, struct pst_qos, timer);

	qos->timer_ns = 0;
	qos->in_turn = true;
	for (uint32_t i = 0; i < qos->config.inflight_ops_max; i++) {
		uint64_t now = pst_env_turn_ns(qos->env);
		struct choice choice;
		struct pst_qos_waiter *waiter;

		wake_due(qos, now);
		choice = choose(qos, now);
		if (choice.flow == NULL || !fits(qos, choice_waiter(&choice)->scratch[WAITER_BYTES]))
			break;
		waiter = choice_waiter(&choice);
		pst_list_remove(&waiter->node);
		admit(&choice, waiter, now);
		/* A source that was served goes to the end of the turns. */
		pst_list_remove(&source_of(waiter)->node);
		source_requeue(choice.flow, source_of(waiter));
		count_wait(&choice.flow->node, waiter);
		count_wait(&choice.flow->group->node, waiter);
		flow_requeue(choice.flow, now);
		waiter->admitted(waiter);
	}
	qos->in_turn = false;
	timer_update(qos, pst_env_turn_ns(qos->env));
}

bool pst_qos_enter(struct pst_qos_flow *flow, struct pst_qos_waiter *waiter)
{
	struct pst_qos_group *group = flow->group;
	struct pst_qos *qos = group->qos;
	uint64_t now = pst_env_turn_ns(qos->env);
	struct pst_qos_source *source;
	bool was_empty;

	waiter->flow = flow;
	source = source_of(waiter);
	waiter->queued_ns = now;
	waiter->scratch[WAITER_BYTES] = waiter_bytes(waiter);
	pst_list_init(&waiter->node);
	wake_due(qos, now);
	if (pst_heap_min(&qos->groups.ready) == NULL && pst_list_empty(&source->waiters) &&
	    source_fits(qos, source, waiter->scratch[WAITER_BYTES]) && limit_due_ns(&flow->node) <= now &&
	    limit_due_ns(&group->node) <= now && fits(qos, waiter->scratch[WAITER_BYTES])) {
		admit(&(struct choice){ .flow = flow }, waiter, now);
		/* The group may have waiters that its limit now holds longer. */
		group_requeue(group, now);
		return true;
	}
	waiter->scratch[WAITER_STATE] = WAITING;
	was_empty = pst_list_empty(&flow->sources);
	pst_list_push_back(&source->waiters, &waiter->node);
	source_requeue(flow, source);
	flow->node.stats.waiting_ops++;
	group->node.stats.waiting_ops++;
	if (was_empty)
		flow_requeue(flow, now);
	timer_update(qos, now);
	return false;
}

void pst_qos_started(struct pst_qos_waiter *waiter)
{
	struct pst_qos *qos = waiter->flow->group->qos;

	if (waiter->scratch[WAITER_STATE] == STARTED)
		return;
	pst_assert(waiter->scratch[WAITER_STATE] == ADMITTED);
	waiter->scratch[WAITER_STATE] = STARTED;
	qos->inflight_ops++;
	qos->inflight_bytes += waiter->scratch[WAITER_BYTES];
	source_fetched(waiter);
	if (pst_heap_min(&qos->groups.ready) != NULL)
		timer_update(qos, pst_env_turn_ns(qos->env));
}

void pst_qos_leave(struct pst_qos_waiter *waiter)
{
	struct pst_qos_flow *flow = waiter->flow;
	struct pst_qos *qos = flow->group->qos;

	pst_assert(waiter->scratch[WAITER_STATE] == ADMITTED || waiter->scratch[WAITER_STATE] == STARTED);
	if (waiter->scratch[WAITER_STATE] == STARTED) {
		pst_assert(qos->inflight_ops > 0 && qos->inflight_bytes >= waiter->scratch[WAITER_BYTES]);
		qos->inflight_ops--;
		qos->inflight_bytes -= waiter->scratch[WAITER_BYTES];
	} else {
		source_fetched(waiter);
	}
	waiter->scratch[WAITER_STATE] = OUTSIDE;
	flow->admitted_now--;
	if (pst_heap_min(&qos->groups.ready) != NULL)
		timer_update(qos, pst_env_turn_ns(qos->env));
}

void pst_qos_cancel(struct pst_qos_waiter *waiter)
{
	struct pst_qos_flow *flow = waiter->flow;
	struct pst_qos *qos = flow->group->qos;
	uint64_t now = pst_env_turn_ns(qos->env);

	pst_assert(waiter->scratch[WAITER_STATE] == WAITING);
	waiter->scratch[WAITER_STATE] = OUTSIDE;
	waiter->waited_ns = now - waiter->queued_ns;
	pst_list_remove(&waiter->node);
	source_requeue(flow, source_of(waiter));
	count_wait(&flow->node, waiter);
	count_wait(&flow->group->node, waiter);
	flow_requeue(flow, now);
	timer_update(qos, now);
}

/* ---- Life and live changes ---- */

static void node_changed(struct qos_node *node, const struct qos_children *siblings, uint64_t now)
{
	for (int d = 0; d < QOS_DIMS; d++) {
		node->limit_ns[d] = now;
		node->reserve_ns[d] = now;
	}
	node->fair_start = siblings->fair_now;
}

void qos_group_changed(struct pst_qos_group *group)
{
	uint64_t now = pst_env_turn_ns(group->qos->env);

	node_changed(&group->node, &group->qos->groups, now);
	group_requeue(group, now);
	timer_update(group->qos, now);
}

void qos_flow_changed(struct pst_qos_flow *flow)
{
	uint64_t now = pst_env_turn_ns(flow->group->qos->env);

	node_changed(&flow->node, &flow->group->flows, now);
	flow_requeue(flow, now);
	timer_update(flow->group->qos, now);
}

pst_err pst_qos_new(struct pst_env *env, const struct pst_qos_config *config, struct pst_qos **ret_qos)
{
	struct pst_qos *qos = calloc(1, sizeof(*qos));

	if (qos == NULL)
		return PST_E_NOMEM;
	qos->env = env;
	qos->config = *config;
	if (qos->config.inflight_ops_max == 0)
		qos->config.inflight_ops_max = INFLIGHT_OPS_DEFAULT;
	if (qos->config.inflight_bytes_max == 0)
		qos->config.inflight_bytes_max = INFLIGHT_BYTES_DEFAULT;
	qos->rescue_ns = pst_env_turn_ns(env) + RESCUE_NS;
	pst_timer_init(&qos->timer, turn);
	*ret_qos = qos;
	return PST_OK;
}

void pst_qos_free(struct pst_qos *qos)
{
	if (qos == NULL)
		return;
	pst_assert(qos->group_count == 0 && qos->inflight_ops == 0);
	pst_timer_disarm(qos->env, &qos->timer);
	free(qos);
}

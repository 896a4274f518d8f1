/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The scheduler against a fake clock and a model of a device: one server, first in first out, whose time per request
 * is fixed plus proportional to its bytes. Loads are closed loops: so many requests always outstanding.
 */
#include "qos/qos.h"
#include "base/heap.h"
#include "base/prng.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#define MS 1000000ull
#define S (1000 * MS)

/* ---- A fake environment: a clock that the test moves, and the scheduler's one timer ---- */

struct pst_env {
	uint64_t now_ns;
	struct pst_timer *timer;
};

uint64_t pst_env_turn_ns(struct pst_env *env)
{
	return env->now_ns;
}

void pst_timer_init(struct pst_timer *timer, void (*fn)(struct pst_timer *timer))
{
	*timer = (struct pst_timer){ .fn = fn };
}

void pst_timer_arm(struct pst_env *env, struct pst_timer *timer, uint64_t deadline_ns)
{
	assert_true(env->timer == NULL || env->timer == timer);
	timer->deadline_ns = deadline_ns;
	timer->armed = true;
	env->timer = timer;
}

void pst_timer_disarm(struct pst_env *env, struct pst_timer *timer)
{
	timer->armed = false;
	env->timer = NULL;
}

/* ---- The device and its loads ---- */

#define SLOTS_MAX 1024u

struct load;

struct slot {
	struct pst_qos_waiter waiter;
	struct load *load;
	struct pst_list queued; /* at the device */
};

struct load {
	struct bench *bench;
	struct pst_qos_flow *flow;
	struct pst_qos_source source;
	bool own_source;
	enum pst_io_kind kind;
	uint64_t bytes;
	uint32_t depth;
	uint64_t think_ns; /* between a completion and the next request; depth 1 only */
	uint64_t resume_ns;
	bool stopped;
	uint64_t ops, worst_wait_ns;
	struct slot slots[256];
};

struct bench {
	struct pst_env env;
	struct pst_qos *qos;
	uint64_t op_ns, bytes_per_s; /* the device */
	struct pst_list device;
	uint64_t device_done_ns; /* of the head */
	uint64_t at_device, at_device_bytes, most_ops, most_bytes;
	struct load loads[32];
	uint32_t load_count;
	bool entering;
};

static void device_start(struct bench *b)
{
	struct slot *slot;

	if (pst_list_empty(&b->device))
		return;
	slot = pst_container_of(b->device.next, struct slot, queued);
	b->device_done_ns =
	    b->env.now_ns + b->op_ns + (b->bytes_per_s != 0 ? slot->waiter.bytes * S / b->bytes_per_s : 0);
}

static void device_submit(struct slot *slot)
{
	struct bench *b = slot->load->bench;
	bool idle = pst_list_empty(&b->device);

	pst_qos_started(&slot->waiter);
	pst_list_push_back(&b->device, &slot->queued);
	b->at_device++;
	b->at_device_bytes += slot->waiter.bytes;
	b->most_ops = PST_MAX(b->most_ops, b->at_device);
	b->most_bytes = PST_MAX(b->most_bytes, b->at_device_bytes);
	if (idle)
		device_start(b);
}

static unsigned admissions;

static void admitted_counted(struct pst_qos_waiter *waiter)
{
	(void)waiter;
	admissions++;
}

static void slot_admitted(struct pst_qos_waiter *waiter)
{
	struct slot *slot = pst_container_of(waiter, struct slot, waiter);

	assert_false(slot->load->bench->entering);
	slot->load->worst_wait_ns = PST_MAX(slot->load->worst_wait_ns, waiter->waited_ns);
	device_submit(slot);
}

static void slot_enter(struct slot *slot)
{
	struct bench *b = slot->load->bench;
	bool now;

	slot->waiter.kind = slot->load->kind;
	slot->waiter.bytes = slot->load->bytes;
	slot->waiter.admitted = slot_admitted;
	slot->waiter.source = slot->load->own_source ? &slot->load->source : NULL;
	b->entering = true;
	now = pst_qos_enter(slot->load->flow, &slot->waiter);
	b->entering = false;
	if (now)
		device_submit(slot);
}

static void device_complete(struct bench *b)
{
	struct slot *slot = pst_container_of(pst_list_pop_front(&b->device), struct slot, queued);
	struct load *load = slot->load;

	b->at_device--;
	b->at_device_bytes -= slot->waiter.bytes;
	load->ops++;
	device_start(b);
	pst_qos_leave(&slot->waiter);
	if (load->stopped)
		return;
	if (load->think_ns != 0)
		load->resume_ns = b->env.now_ns + load->think_ns;
	else
		slot_enter(slot);
}

static void bench_run(struct bench *b, uint64_t ns)
{
	uint64_t end = b->env.now_ns + ns;

	for (;;) {
		uint64_t next = end;
		struct load *resume = NULL;
		bool device = !pst_list_empty(&b->device) && b->device_done_ns <= next, timer = false;

		if (device)
			next = b->device_done_ns;
		for (uint32_t i = 0; i < b->load_count; i++)
			if (b->loads[i].resume_ns != 0 && b->loads[i].resume_ns <= next) {
				resume = &b->loads[i];
				next = resume->resume_ns;
			}
		if (b->env.timer != NULL && b->env.timer->deadline_ns <= next) {
			next = PST_MAX(b->env.timer->deadline_ns, b->env.now_ns);
			timer = true;
		}
		b->env.now_ns = PST_MAX(b->env.now_ns, next);
		if (timer) {
			struct pst_timer *t = b->env.timer;

			pst_timer_disarm(&b->env, t);
			t->fn(t);
		} else if (resume != NULL) {
			resume->resume_ns = 0;
			slot_enter(&resume->slots[0]);
		} else if (device) {
			device_complete(b);
		} else {
			return;
		}
	}
}

/* A device of 10,000 requests per second, whatever their size, and default bounds. */
static struct bench *bench_new(const struct pst_qos_config *config)
{
	static struct bench b;

	memset(&b, 0, sizeof(b));
	b.env.now_ns = 1000 * S;
	b.op_ns = 100000;
	pst_list_init(&b.device);
	assert_int_equal(pst_qos_new(&b.env, config, &b.qos), PST_OK);
	return &b;
}

static struct pst_qos_group *group_new(struct bench *b, struct pst_qos_policy policy)
{
	struct pst_qos_group *group;

	assert_int_equal(pst_qos_group_new(b->qos, &policy, &group), PST_OK);
	return group;
}

static struct pst_qos_flow *flow_new(struct pst_qos_group *group, struct pst_qos_policy policy)
{
	struct pst_qos_flow *flow;

	assert_int_equal(pst_qos_flow_new(group, &policy, &flow), PST_OK);
	return flow;
}

static void load_start(struct load *load, uint32_t depth)
{
	load->depth = depth;
	for (uint32_t i = 0; i < depth; i++) {
		load->slots[i].load = load;
		slot_enter(&load->slots[i]);
	}
}

static struct load *load_new(struct bench *b, struct pst_qos_flow *flow, enum pst_io_kind kind, uint64_t bytes,
			     uint32_t depth)
{
	struct load *load = &b->loads[b->load_count++];

	*load = (struct load){ .bench = b, .flow = flow, .kind = kind, .bytes = bytes };
	load_start(load, depth);
	return load;
}

/* Stops every load, drains the device, and frees all: waiters, flows and groups must balance. */
static void bench_free(struct bench *b)
{
	for (uint32_t i = 0; i < b->load_count; i++) {
		b->loads[i].stopped = true;
		b->loads[i].resume_ns = 0;
	}
	/* A waiter that still waits is in no device list and in its flow's queue. */
	for (uint32_t i = 0; i < b->load_count; i++)
		for (uint32_t j = 0; j < b->loads[i].depth; j++)
			if (!pst_list_empty(&b->loads[i].slots[j].waiter.node))
				pst_qos_cancel(&b->loads[i].slots[j].waiter);
	bench_run(b, 100 * S);
	assert_int_equal(b->at_device, 0);
	assert_null(b->env.timer);
	for (uint32_t i = 0; i < b->load_count; i++) {
		struct pst_qos_stats stats;

		pst_qos_flow_stats(b->loads[i].flow, &stats);
		assert_int_equal(stats.waiting_ops, 0);
	}
}

/* Frees a bench in which every load has a tenant and a flow of its own. */
static void bench_free_all(struct bench *b, struct pst_qos_group **groups, uint32_t group_count)
{
	bench_free(b);
	for (uint32_t i = 0; i < b->load_count; i++) {
		bool seen = false;

		for (uint32_t j = 0; j < i; j++)
			seen |= b->loads[j].flow == b->loads[i].flow;
		if (!seen)
			pst_qos_flow_free(b->loads[i].flow);
	}
	for (uint32_t i = 0; i < group_count; i++)
		pst_qos_group_free(groups[i]);
	pst_qos_free(b->qos);
}

static uint64_t ops_during(struct bench *b, const struct load *load, uint64_t ns)
{
	uint64_t before = load->ops;

	bench_run(b, ns);
	return load->ops - before;
}

#define assert_near(value, wanted, percent)                                                                   \
	do {                                                                                                  \
		double value_ = (double)(value), wanted_ = (double)(wanted);                                  \
		if (value_ < wanted_ * (1 - (percent) / 100.0) || value_ > wanted_ * (1 + (percent) / 100.0)) \
			fail_msg("%s is %.0f, not within %d %% of %.0f", #value, value_, percent, wanted_);   \
	} while (0)

/* ---- Limits ---- */

/* A limit of operations holds within 5 % at any depth, per flow and per tenant. */
static void limit_iops_holds(void **state)
{
	(void)state;
	for (uint32_t depth = 1; depth <= 128; depth *= 8) {
		struct bench *b = bench_new(&(struct pst_qos_config){ 0 });
		struct pst_qos_group *g[2] = { group_new(b, (struct pst_qos_policy){ 0 }),
					       group_new(b, (struct pst_qos_policy){ .limit_iops = 1000 }) };
		struct load *flow =
		    load_new(b, flow_new(g[0], (struct pst_qos_policy){ .limit_iops = 500 }), PST_IO_READ, 4096, depth);
		struct load *tenant =
		    load_new(b, flow_new(g[1], (struct pst_qos_policy){ 0 }), PST_IO_WRITE, 4096, depth);
		uint64_t before = tenant->ops;

		bench_run(b, S);
		before = tenant->ops;
		assert_near(ops_during(b, flow, 4 * S), 2000, 5);
		assert_near(tenant->ops - before, 4000, 5);
		bench_free_all(b, g, 2);
	}
}

/* A limit of bytes holds within 5 %, also where one request is longer than the burst. */
static void limit_bytes_holds(void **state)
{
	static const uint64_t sizes[] = { 4096, 131072, 4194304 };

	(void)state;
	for (size_t i = 0; i < PST_ARRAY_COUNT(sizes); i++) {
		struct bench *b = bench_new(&(struct pst_qos_config){ 0 });
		struct pst_qos_group *g = group_new(b, (struct pst_qos_policy){ 0 });
		struct load *load = load_new(b, flow_new(g, (struct pst_qos_policy){ .limit_bytes_per_s = 20000000 }),
					     PST_IO_WRITE, sizes[i], 16);

		bench_run(b, S);
		assert_near(ops_during(b, load, 20 * S) * sizes[i], 400000000, 5);
		bench_free_all(b, &g, 1);
	}
}

/* A return from an hour of idling earns one burst and no more. */
static void idle_return_gets_one_burst(void **state)
{
	struct bench *b = bench_new(&(struct pst_qos_config){ 0 });
	struct pst_qos_group *g = group_new(b, (struct pst_qos_policy){ .limit_iops = 1000, .burst_ns = 200 * MS });
	struct pst_qos_flow *flow = flow_new(g, (struct pst_qos_policy){ 0 });
	struct load *load;

	(void)state;
	bench_run(b, 3600 * S);
	load = load_new(b, flow, PST_IO_READ, 4096, 64);
	bench_run(b, S);
	assert_near(load->ops, 1200, 2);
	bench_free_all(b, &g, 1);
}

/* ---- Reservations ---- */

/* A reservation is honoured under a flood of another tenant, at once and in every half second. */
static void reservation_holds_under_flood(void **state)
{
	struct bench *b = bench_new(&(struct pst_qos_config){ .capacity_iops = 10000 });
	struct pst_qos_group *g[3] = { group_new(b, (struct pst_qos_policy){ .reserve_iops = 6000 }),
				       group_new(b, (struct pst_qos_policy){ .weight = 10000 }),
				       group_new(b, (struct pst_qos_policy){ .weight = 10000 }) };
	struct load *flood, *victim;

	(void)state;
	flood = load_new(b, flow_new(g[1], (struct pst_qos_policy){ 0 }), PST_IO_WRITE, 4096, 128);
	(void)load_new(b, flow_new(g[2], (struct pst_qos_policy){ 0 }), PST_IO_READ, 4096, 128);
	bench_run(b, 5 * S);
	victim = load_new(b, flow_new(g[0], (struct pst_qos_policy){ 0 }), PST_IO_READ, 4096, 128);
	for (int i = 0; i < 10; i++)
		assert_true(ops_during(b, victim, S / 2) >= 2900);
	assert_true(flood->ops > 0);
	bench_free_all(b, g, 3);
}

/* The reservation of a volume holds against its own tenant's other volumes. */
static void reservation_holds_inside_tenant(void **state)
{
	struct bench *b = bench_new(&(struct pst_qos_config){ 0 });
	struct pst_qos_group *g = group_new(b, (struct pst_qos_policy){ .limit_iops = 5000 });
	struct load *victim =
	    load_new(b, flow_new(g, (struct pst_qos_policy){ .reserve_iops = 3000 }), PST_IO_READ, 4096, 64);

	(void)state;
	for (int i = 0; i < 8; i++)
		(void)load_new(b, flow_new(g, (struct pst_qos_policy){ 0 }), PST_IO_READ, 4096, 64);
	bench_run(b, S);
	assert_near(ops_during(b, victim, 4 * S), 12000, 5);
	bench_free_all(b, &g, 1);
}

/* A tenant's reservation is shared by weight among volumes that reserve nothing themselves. */
static void tenant_reservation_is_shared_by_weight(void **state)
{
	struct bench *b = bench_new(&(struct pst_qos_config){ 0 });
	struct pst_qos_group *g[2] = { group_new(b, (struct pst_qos_policy){ .reserve_iops = 8000, .weight = 1 }),
				       group_new(b, (struct pst_qos_policy){ .weight = 1000 }) };
	struct load *one = load_new(b, flow_new(g[0], (struct pst_qos_policy){ 0 }), PST_IO_READ, 4096, 64);
	struct load *three =
	    load_new(b, flow_new(g[0], (struct pst_qos_policy){ .weight = 300 }), PST_IO_READ, 4096, 64);
	uint64_t before;

	(void)state;
	(void)load_new(b, flow_new(g[1], (struct pst_qos_policy){ 0 }), PST_IO_READ, 4096, 64);
	bench_run(b, 60 * S);
	before = three->ops;
	assert_near(ops_during(b, one, 4 * S), 8000, 5);
	assert_near(three->ops - before, 24000, 5);
	bench_free_all(b, g, 2);
}

/* A shallow reader with a reservation is not put behind a deep queue of long writes. */
static void long_writes_do_not_stand_before_reads(void **state)
{
	struct bench *b = bench_new(&(struct pst_qos_config){ 0 });
	struct pst_qos_group *g[2] = { group_new(b, (struct pst_qos_policy){ .reserve_iops = 200 }),
				       group_new(b, (struct pst_qos_policy){ 0 }) };
	struct load *reader;

	(void)state;
	b->bytes_per_s = 1000000000;
	(void)load_new(b, flow_new(g[1], (struct pst_qos_policy){ 0 }), PST_IO_WRITE, 1048576, 128);
	reader = load_new(b, flow_new(g[0], (struct pst_qos_policy){ 0 }), PST_IO_READ, 4096, 1);
	reader->think_ns = 2 * MS;
	bench_run(b, 5 * S);
	assert_true(b->most_bytes <= 4194304 + 4096);
	/* One write must make room; without the bounds it would be 128 of them, 141 ms. */
	assert_true(reader->worst_wait_ns <= 3 * MS);
	assert_true(reader->ops >= 5 * 100);
	bench_free_all(b, g, 2);
}

/* Promises beyond the device, a tenant's reservation or a tenant's limit are refused and leave the books alone. */
static void reservations_beyond_capacity_are_refused(void **state)
{
	struct bench *b = bench_new(&(struct pst_qos_config){ .capacity_iops = 10000, .capacity_bytes_per_s = 1000 });
	struct pst_qos_group *a, *c;
	struct pst_qos_flow *f, *none = NULL;
	struct pst_qos_policy p = { .reserve_iops = 6000 };

	(void)state;
	a = group_new(b, p);
	assert_int_equal(pst_qos_group_new(b->qos, &(struct pst_qos_policy){ .reserve_iops = 4001 }, &c),
			 PST_E_NOSPACE);
	assert_int_equal(pst_qos_group_new(b->qos, &(struct pst_qos_policy){ .reserve_bytes_per_s = 1001 }, &c),
			 PST_E_NOSPACE);
	c = group_new(b, (struct pst_qos_policy){ .limit_iops = 3000 });
	assert_int_equal(pst_qos_flow_new(c, &(struct pst_qos_policy){ .reserve_iops = 3001 }, &none), PST_E_NOSPACE);
	f = flow_new(c, (struct pst_qos_policy){ .reserve_iops = 3000 });
	assert_int_equal(pst_qos_group_set(a, &(struct pst_qos_policy){ .reserve_iops = 7001 }), PST_E_NOSPACE);
	assert_int_equal(pst_qos_group_set(a, &(struct pst_qos_policy){ .reserve_iops = 7000 }), PST_OK);
	assert_int_equal(pst_qos_flow_new(a, &(struct pst_qos_policy){ .reserve_iops = 7001 }, &none), PST_E_NOSPACE);
	/* The tenant may not shrink below what its volumes were promised. */
	assert_int_equal(pst_qos_group_set(c, &(struct pst_qos_policy){ .limit_iops = 2999 }), PST_E_NOSPACE);
	assert_int_equal(pst_qos_group_set(c, &(struct pst_qos_policy){ .reserve_iops = 2999 }), PST_E_NOSPACE);
	assert_int_equal(pst_qos_flow_set(f, &(struct pst_qos_policy){ .reserve_iops = UINT64_MAX }), PST_E_NOSPACE);
	assert_int_equal(pst_qos_flow_set(f, &(struct pst_qos_policy){ .reserve_iops = 5, .limit_iops = 4 }),
			 PST_E_INVAL);
	assert_int_equal(pst_qos_flow_set(f, &(struct pst_qos_policy){ .weight = 10001 }), PST_E_INVAL);
	assert_int_equal(pst_qos_flow_set(f, &(struct pst_qos_policy){ .burst_ns = 61 * S }), PST_E_INVAL);
	assert_null(none);
	pst_qos_flow_free(f);
	pst_qos_group_free(c);
	c = group_new(b, (struct pst_qos_policy){ .reserve_iops = 3000 });
	pst_qos_group_free(c);
	pst_qos_group_free(a);
	pst_qos_free(b->qos);
}

/* ---- Sharing ---- */

/* A reservation that is not used is used by others: the device is never idle while someone waits. */
static void unused_reservation_is_lent(void **state)
{
	struct bench *b = bench_new(&(struct pst_qos_config){ 0 });
	struct pst_qos_group *g[2] = { group_new(b, (struct pst_qos_policy){ .reserve_iops = 9000 }),
				       group_new(b, (struct pst_qos_policy){ 0 }) };
	struct load *idle = load_new(b, flow_new(g[0], (struct pst_qos_policy){ 0 }), PST_IO_READ, 4096, 0);
	struct load *busy = load_new(b, flow_new(g[1], (struct pst_qos_policy){ 0 }), PST_IO_READ, 4096, 64);

	(void)state;
	assert_near(ops_during(b, busy, 2 * S), 20000, 1);
	assert_int_equal(idle->ops, 0);
	bench_free_all(b, g, 2);
}

/* Weights split what is left, between tenants and between the volumes of one; without policy all are equal. */
static void weights_split_the_rest(void **state)
{
	struct bench *b = bench_new(&(struct pst_qos_config){ 0 });
	struct pst_qos_group *g[2] = { group_new(b, (struct pst_qos_policy){ .weight = 300 }),
				       group_new(b, (struct pst_qos_policy){ 0 }) };
	struct load *a = load_new(b, flow_new(g[0], (struct pst_qos_policy){ .weight = 200 }), PST_IO_READ, 4096, 128);
	struct load *c = load_new(b, flow_new(g[0], (struct pst_qos_policy){ 0 }), PST_IO_READ, 4096, 64);
	struct load *d = load_new(b, flow_new(g[1], (struct pst_qos_policy){ 0 }), PST_IO_READ, 4096, 256);

	(void)state;
	bench_run(b, 10 * S);
	assert_near(a->ops, 50000, 5);
	assert_near(c->ops, 25000, 5);
	assert_near(d->ops, 25000, 5);
	bench_free_all(b, g, 2);
}

/* Costs follow sizes: a flow of long requests does not take more of a device bound by bytes than one of short ones. */
static void long_requests_cost_more(void **state)
{
	struct bench *b = bench_new(&(struct pst_qos_config){ 0 });
	struct pst_qos_group *g[2] = { group_new(b, (struct pst_qos_policy){ 0 }),
				       group_new(b, (struct pst_qos_policy){ 0 }) };
	struct load *small, *large;

	(void)state;
	b->op_ns = 10000;
	b->bytes_per_s = 1000000000;
	small = load_new(b, flow_new(g[0], (struct pst_qos_policy){ 0 }), PST_IO_READ, 16384, 64);
	large = load_new(b, flow_new(g[1], (struct pst_qos_policy){ 0 }), PST_IO_READ, 262144, 64);
	bench_run(b, 10 * S);
	/* Equal shares of cost: (16 + 256) / (16 + 16) KiB = 8.5 short requests for each long one. */
	assert_near(small->ops, (double)large->ops * 8.5, 5);
	bench_free_all(b, g, 2);
}

/*
 * Two hosts of one volume that is at its limit: the shallow one gets every turn that it can use, not a share by depth.
 */
static void sources_of_a_flow_take_turns(void **state)
{
	struct bench *b = bench_new(&(struct pst_qos_config){ 0 });
	struct pst_qos_group *g = group_new(b, (struct pst_qos_policy){ .limit_iops = 5000 });
	struct load *deep = load_new(b, flow_new(g, (struct pst_qos_policy){ 0 }), PST_IO_READ, 4096, 0);
	struct load *shallow = load_new(b, deep->flow, PST_IO_READ, 4096, 0);

	(void)state;
	pst_qos_source_init(&deep->source);
	pst_qos_source_init(&shallow->source);
	deep->own_source = shallow->own_source = true;
	load_start(deep, 64);
	load_start(shallow, 1);
	bench_run(b, S);
	/* Every second admission, 400 us apart, but for the 100 us in the device. */
	assert_true(ops_during(b, shallow, S) > 1600);
	assert_near(deep->ops + shallow->ops, 10000, 6);
	bench_free_all(b, &g, 1);
}

/* A tenant that comes back is neither owed its absence nor punished for what it took alone. */
static void return_starts_at_the_present(void **state)
{
	struct bench *b = bench_new(&(struct pst_qos_config){ 0 });
	struct pst_qos_group *g[2] = { group_new(b, (struct pst_qos_policy){ 0 }),
				       group_new(b, (struct pst_qos_policy){ 0 }) };
	struct load *a = load_new(b, flow_new(g[0], (struct pst_qos_policy){ 0 }), PST_IO_READ, 4096, 128), *c;
	uint64_t before;

	(void)state;
	bench_run(b, 100 * S);
	c = load_new(b, flow_new(g[1], (struct pst_qos_policy){ 0 }), PST_IO_READ, 4096, 128);
	before = a->ops;
	assert_near(ops_during(b, c, S), 5000, 5);
	assert_near(a->ops - before, 5000, 5);
	bench_free_all(b, g, 2);
}

/* Reservations above what the device really does slow the others down, but never to a standstill. */
static void overcommitted_reservations_starve_nobody(void **state)
{
	struct bench *b = bench_new(&(struct pst_qos_config){ 0 });
	struct pst_qos_group *g[2] = { group_new(b, (struct pst_qos_policy){ .reserve_iops = 50000 }),
				       group_new(b, (struct pst_qos_policy){ 0 }) };
	struct load *poor;

	(void)state;
	(void)load_new(b, flow_new(g[0], (struct pst_qos_policy){ 0 }), PST_IO_READ, 4096, 128);
	poor = load_new(b, flow_new(g[1], (struct pst_qos_policy){ 0 }), PST_IO_READ, 4096, 4);
	for (int i = 0; i < 10; i++)
		assert_true(ops_during(b, poor, S) >= 40);
	bench_free_all(b, g, 2);
}

/* ---- Live changes and cancellation ---- */

/* A new limit, a lifted limit and a new reservation are in force within 100 ms, for what already waits. */
static void changes_act_within_100_ms(void **state)
{
	struct bench *b = bench_new(&(struct pst_qos_config){ 0 });
	struct pst_qos_group *g[2] = { group_new(b, (struct pst_qos_policy){ 0 }),
				       group_new(b, (struct pst_qos_policy){ .weight = 9000 }) };
	struct load *a = load_new(b, flow_new(g[0], (struct pst_qos_policy){ 0 }), PST_IO_READ, 4096, 64);
	struct load *flood = load_new(b, flow_new(g[1], (struct pst_qos_policy){ 0 }), PST_IO_READ, 4096, 128);

	(void)state;
	bench_run(b, 10 * S);
	assert_true(ops_during(b, a, 100 * MS) < 50);
	assert_int_equal(pst_qos_flow_set(a->flow, &(struct pst_qos_policy){ .reserve_iops = 5000 }), PST_OK);
	assert_true(ops_during(b, a, 100 * MS) > 400);
	assert_int_equal(pst_qos_group_set(g[1], &(struct pst_qos_policy){ .limit_iops = 10 }), PST_OK);
	bench_run(b, 10 * MS);
	assert_true(ops_during(b, flood, 100 * MS) <= 2);
	/* One operation per second, then none at all for a long time: lifting it must not wait for the stamp. */
	assert_int_equal(pst_qos_group_set(g[1], &(struct pst_qos_policy){ .limit_bytes_per_s = 1 }), PST_OK);
	bench_run(b, S);
	assert_int_equal(ops_during(b, flood, 10 * S), 0);
	assert_int_equal(pst_qos_group_set(g[1], &(struct pst_qos_policy){ 0 }), PST_OK);
	assert_true(ops_during(b, flood, 100 * MS) > 350);
	bench_free_all(b, g, 2);
}

/* A reservation taken away leaves no debt: the flow gets its fair share at once. */
static void lost_reservation_leaves_no_debt(void **state)
{
	struct bench *b = bench_new(&(struct pst_qos_config){ 0 });
	struct pst_qos_group *g[2] = { group_new(b, (struct pst_qos_policy){ .reserve_iops = 9000 }),
				       group_new(b, (struct pst_qos_policy){ 0 }) };
	struct load *a = load_new(b, flow_new(g[0], (struct pst_qos_policy){ 0 }), PST_IO_READ, 4096, 128);

	(void)state;
	(void)load_new(b, flow_new(g[1], (struct pst_qos_policy){ 0 }), PST_IO_READ, 4096, 128);
	bench_run(b, 100 * S);
	assert_int_equal(pst_qos_group_set(g[0], &(struct pst_qos_policy){ 0 }), PST_OK);
	assert_true(ops_during(b, a, 100 * MS) > 400);
	bench_free_all(b, g, 2);
}

/* A cancelled request is not admitted later, gives nothing back, and is counted as having waited. */
static void cancel_removes_a_waiter(void **state)
{
	struct bench *b = bench_new(&(struct pst_qos_config){ 0 });
	struct pst_qos_group *g = group_new(b, (struct pst_qos_policy){ .limit_iops = 1 });
	struct pst_qos_flow *flow = flow_new(g, (struct pst_qos_policy){ 0 });
	struct pst_qos_waiter w[2] = { { .kind = PST_IO_FLUSH }, { .kind = PST_IO_FLUSH } };
	struct pst_qos_stats stats;

	(void)state;
	assert_true(pst_qos_enter(flow, &w[0]));
	assert_false(pst_qos_enter(flow, &w[1]));
	bench_run(b, 10 * MS);
	pst_qos_cancel(&w[1]);
	assert_null(b->env.timer);
	pst_qos_leave(&w[0]);
	pst_qos_flow_stats(flow, &stats);
	assert_int_equal(stats.admitted_ops, 1);
	assert_int_equal(stats.throttled_ops, 1);
	assert_int_equal(stats.throttled_ns, 10 * MS);
	assert_int_equal(stats.waiting_ops, 0);
	assert_int_equal(w[1].waited_ns, 10 * MS);
	bench_run(b, 10 * S);
	pst_qos_flow_free(flow);
	pst_qos_group_free(g);
	pst_qos_free(b->qos);
}

/* Discards of whole volumes are small work, and do not exhaust a limit of bytes; a request above the bound still goes.
 */
static void extreme_sizes_pass(void **state)
{
	struct bench *b = bench_new(&(struct pst_qos_config){ .inflight_bytes_max = 65536 });
	struct pst_qos_group *g = group_new(b, (struct pst_qos_policy){ 0 });
	struct pst_qos_flow *flow = flow_new(g, (struct pst_qos_policy){ .limit_bytes_per_s = 100000000 });
	struct load *discard = load_new(b, flow, PST_IO_DISCARD, (uint64_t)1 << 62, 1), *large;

	(void)state;
	assert_true(ops_during(b, discard, S) >= 1000);
	discard->stopped = true;
	large = load_new(b, flow, PST_IO_READ, 8388608, 4);
	assert_near(ops_during(b, large, 10 * S), 119, 5);
	bench_free_all(b, &g, 1);
}

/* ---- Random operations with invariants ---- */

struct fuzz {
	struct bench *b;
	struct pst_prng rng;
	struct pst_qos_group *groups[5];
	struct pst_qos_flow *flows[5][4];
	uint32_t active;
};

static struct pst_qos_policy fuzz_policy(struct fuzz *f)
{
	struct pst_qos_policy p = { 0 };

	if (pst_prng_chance(&f->rng, 1, 2))
		p.limit_iops = 1 + pst_prng_below(&f->rng, 8000);
	if (pst_prng_chance(&f->rng, 1, 3))
		p.limit_bytes_per_s = 100000 + pst_prng_below(&f->rng, 500000000);
	if (pst_prng_chance(&f->rng, 1, 2))
		p.reserve_iops = pst_prng_below(&f->rng, 3000);
	if (pst_prng_chance(&f->rng, 1, 3))
		p.reserve_bytes_per_s = pst_prng_below(&f->rng, 100000000);
	p.weight = (uint32_t)pst_prng_below(&f->rng, 1000);
	p.burst_ns = pst_prng_below(&f->rng, 300 * MS);
	return p;
}

static void fuzz_step(struct fuzz *f, struct load *load)
{
	struct pst_qos_policy policy = fuzz_policy(f);
	uint32_t g = (uint32_t)pst_prng_below(&f->rng, 5), i = (uint32_t)pst_prng_below(&f->rng, 4);
	struct slot *slot = &load->slots[pst_prng_below(&f->rng, load->depth)];
	pst_err err;

	switch (pst_prng_below(&f->rng, 5)) {
	case 0:
		err = pst_qos_group_set(f->groups[g], &policy);
		break;
	case 1:
		err = pst_qos_flow_set(f->flows[g][i], &policy);
		break;
	case 2:
		/* Cancel one that waits and let it in again. */
		if (!pst_list_empty(&slot->waiter.node)) {
			pst_qos_cancel(&slot->waiter);
			slot_enter(slot);
		}
		return;
	case 3:
		load->bytes = pst_prng_below(&f->rng, 300) * 4096;
		load->kind = (enum pst_io_kind)pst_prng_below(&f->rng, PST_IO_KINDS);
		return;
	default:
		bench_run(f->b, pst_prng_below(&f->rng, 50 * MS));
		return;
	}
	assert_true(err == PST_OK || err == PST_E_INVAL || err == PST_E_NOSPACE);
}

/*
 * Whatever the order of changes, cancellations and loads: bounds hold, callbacks never run inside enter, and when all
 * limits are lifted every flow makes progress and everything can be freed.
 */
static void random_operations_keep_invariants(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed <= 60; seed++) {
		struct fuzz f = { .b = bench_new(&(struct pst_qos_config){ .inflight_ops_max = 1 + (uint32_t)seed % 32,
									   .inflight_bytes_max = 1 << 20,
									   .capacity_iops = 20000 }) };
		uint64_t before[PST_ARRAY_COUNT(f.b->loads)];

		pst_prng_init(&f.rng, seed);
		for (int g = 0; g < 5; g++) {
			f.groups[g] = group_new(f.b, (struct pst_qos_policy){ 0 });
			for (int i = 0; i < 4; i++) {
				f.flows[g][i] = flow_new(f.groups[g], (struct pst_qos_policy){ 0 });
				(void)load_new(f.b, f.flows[g][i], PST_IO_READ, 4096,
					       1 + (uint32_t)pst_prng_below(&f.rng, 16));
			}
		}
		for (int step = 0; step < 400; step++)
			fuzz_step(&f, &f.b->loads[pst_prng_below(&f.rng, f.b->load_count)]);
		assert_true(f.b->most_ops <= 1 + seed % 32);
		for (int g = 0; g < 5; g++) {
			for (int i = 0; i < 4; i++)
				assert_int_equal(pst_qos_flow_set(f.flows[g][i], &(struct pst_qos_policy){ 0 }),
						 PST_OK);
			assert_int_equal(pst_qos_group_set(f.groups[g], &(struct pst_qos_policy){ 0 }), PST_OK);
		}
		for (uint32_t i = 0; i < f.b->load_count; i++)
			before[i] = f.b->loads[i].ops;
		bench_run(f.b, 2 * S);
		for (uint32_t i = 0; i < f.b->load_count; i++)
			if (f.b->loads[i].ops < before[i] + 10)
				fail_msg("seed %lu: load %u stands still", (unsigned long)seed, i);
		bench_free_all(f.b, f.groups, 5);
	}
}

/* The heap gives keys in order, across the wrap of the counter, with removals from anywhere. */
static void heap_keeps_order(void **state)
{
	static struct pst_heap_node nodes[500];
	struct pst_heap heap = { 0 };
	struct pst_prng rng;
	uint64_t last = 0, left = 0;

	(void)state;
	pst_prng_init(&rng, 7);
	for (size_t i = 0; i < 500; i++)
		pst_heap_insert(&heap, &nodes[i], UINT64_MAX - 500 + pst_prng_below(&rng, 1000));
	for (size_t i = 0; i < 500; i += 3) {
		pst_heap_remove(&heap, &nodes[i]);
		pst_heap_remove(&heap, &nodes[i]);
	}
	last = UINT64_MAX - 501;
	for (struct pst_heap_node *n; (n = pst_heap_min(&heap)) != NULL; left++) {
		assert_false(pst_key_before(n->key, last));
		last = n->key;
		pst_heap_remove(&heap, n);
	}
	assert_int_equal(left, 500 - 167);
}

/*
 * A host that never sends what it was asked for (admitted, never started) fills its own bound and no other's: another
 * connection of the same volume, and another volume, go on at full speed; when it goes, what it held is free again.
 */
static void slow_senders_hold_up_themselves_alone(void **state)
{
	struct bench *b = bench_new(&(struct pst_qos_config){ .inflight_ops_max = 4, .inflight_bytes_max = 1 << 20 });
	struct pst_qos_group *g = group_new(b, (struct pst_qos_policy){ 0 });
	struct pst_qos_flow *flow = flow_new(g, (struct pst_qos_policy){ 0 });
	struct pst_qos_source stuck, lively;
	struct pst_qos_waiter w[6], other = { .kind = PST_IO_WRITE, .bytes = 4096, .source = &lively };

	(void)state;
	pst_qos_source_init(&stuck);
	pst_qos_source_init(&lively);
	for (unsigned i = 0; i < 6; i++) {
		w[i] = (struct pst_qos_waiter){
			.kind = PST_IO_WRITE, .bytes = 4096, .source = &stuck, .admitted = admitted_counted
		};
		assert_int_equal(pst_qos_enter(flow, &w[i]), i < 4);
	}
	for (unsigned i = 0; i < 100; i++) {
		assert_true(pst_qos_enter(flow, &other));
		pst_qos_started(&other);
		pst_qos_leave(&other);
	}
	admissions = 0;
	pst_qos_started(&w[0]);
	bench_run(b, MS);
	assert_int_equal(admissions, 1); /* w[4] */
	pst_qos_leave(&w[1]);
	bench_run(b, MS);
	assert_int_equal(admissions, 2); /* w[5] */
	for (unsigned i = 0; i < 6; i++)
		if (i != 1)
			pst_qos_leave(&w[i]);
	pst_qos_flow_free(flow);
	bench_free_all(b, &g, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(heap_keeps_order),
		cmocka_unit_test(limit_iops_holds),
		cmocka_unit_test(limit_bytes_holds),
		cmocka_unit_test(idle_return_gets_one_burst),
		cmocka_unit_test(reservation_holds_under_flood),
		cmocka_unit_test(reservation_holds_inside_tenant),
		cmocka_unit_test(tenant_reservation_is_shared_by_weight),
		cmocka_unit_test(long_writes_do_not_stand_before_reads),
		cmocka_unit_test(reservations_beyond_capacity_are_refused),
		cmocka_unit_test(unused_reservation_is_lent),
		cmocka_unit_test(weights_split_the_rest),
		cmocka_unit_test(long_requests_cost_more),
		cmocka_unit_test(sources_of_a_flow_take_turns),
		cmocka_unit_test(return_starts_at_the_present),
		cmocka_unit_test(overcommitted_reservations_starve_nobody),
		cmocka_unit_test(changes_act_within_100_ms),
		cmocka_unit_test(lost_reservation_leaves_no_debt),
		cmocka_unit_test(cancel_removes_a_waiter),
		cmocka_unit_test(slow_senders_hold_up_themselves_alone),
		cmocka_unit_test(extreme_sizes_pass),
		cmocka_unit_test(random_operations_keep_invariants),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A session with several paths to one subsystem, in the simulator: which it takes, when it leaves one, and that every
 * request completes once whatever becomes of them. The randomized form of this is tests/sim/sim-system.c.
 */
#include "env/sim/sim.h"
#include "host/host.h"
#include "target/target.h"
#include "volume/fault.h"
#include "volume/pool.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define SECOND ((uint64_t)1000000000)
#define BLOCK 4096u
#define BLOCKS 256u
#define REQUESTS 64u
#define NQN "nqn.2014-08.org.nvmexpress:uuid:11111111-2222-3333-4444-555555555555"

/* Killed processes leak on purpose (sim.h). */
int __lsan_is_turned_off(void);
__attribute__((visibility("default"), used)) int __lsan_is_turned_off(void)
{
	return 1;
}

struct world {
	struct pst_sim *sim;
	struct pst_sim_node *target_node, *host_node;
	struct pst_env *target_env, *host_env;
	struct pst_pool *pool;
	struct pst_pool_op pool_op;
	struct pst_volume *volume; /* a fault engine above memory */
	struct pst_target *target;
	struct pst_subsystem *subsystem;
	struct pst_session_config config;
	struct pst_session_open_op open;
	struct pst_session_close_op close;
	struct pst_session *session;
	struct pst_ana_op ana;
	bool pool_done, opened, closed, ana_done;
	unsigned done;
	struct pst_request requests[REQUESTS];
	struct iovec iovs[REQUESTS];
	uint8_t data[REQUESTS][BLOCK];
};

static bool flag(void *ctx)
{
	return *(bool *)ctx;
}

static void wait_for(struct world *w, bool *what)
{
	assert_true(pst_sim_run_until(w->sim, flag, what, 120 * SECOND));
}

static void on_pool(struct pst_pool_op *op)
{
	pst_container_of(op, struct world, pool_op)->pool_done = true;
}

static void on_open(struct pst_session_open_op *op)
{
	struct world *w = pst_container_of(op, struct world, open);

	w->opened = true;
	w->session = op->session;
}

static void on_close(struct pst_session_close_op *op)
{
	pst_container_of(op, struct world, close)->closed = true;
}

static void on_ana(struct pst_ana_op *op)
{
	pst_container_of(op, struct world, ana)->ana_done = true;
}

static void on_request(struct pst_request *request)
{
	((struct world *)request->arg)->done++;
}

static void pool_run(struct world *w, enum pst_pool_op_kind kind)
{
	w->pool_op = (struct pst_pool_op){ .kind = kind, .uuid = { 1 }, .block_count = BLOCKS, .done = on_pool };
	w->pool_done = false;
	pst_pool_submit(w->pool, &w->pool_op);
	wait_for(w, &w->pool_done);
	assert_int_equal(w->pool_op.err, PST_OK);
}

static void serve(struct world *w)
{
	struct pst_subsystem_config config = { .nqn = NQN, .serial = "1", .model = "M", .nsid = 1, .uuid = { 1 } };
	struct pst_target_config target = { .buffer_bytes_max = 4 << 20 };
	struct pst_addr bound;

	w->target_env = pst_sim_env_new(w->target_node, 0);
	assert_int_equal(pst_ram_pool_new(w->target_env, BLOCKS * BLOCK * 2, &w->pool), PST_OK);
	pool_run(w, PST_POOL_VOLUME_CREATE);
	pool_run(w, PST_POOL_VOLUME_OPEN);
	assert_int_equal(pst_fault_new(w->pool_op.volume, REQUESTS, &w->volume), PST_OK);
	config.volume = w->volume;
	assert_int_equal(pst_target_new(&w->target_env, 1, &target, &w->target), PST_OK);
	for (uint16_t id = 1; id <= 2; id++) {
		struct pst_target_port port = { .id = id, .addr = { .port = (uint16_t)(4419 + id) } };

		snprintf(port.addr.host, sizeof(port.addr.host), "%s", pst_sim_node_ip(w->target_node));
		assert_int_equal(pst_target_listen(w->target, &port, &bound), PST_OK);
	}
	assert_int_equal(pst_subsystem_add(w->target, &config, &w->subsystem), PST_OK);
}

static struct world *world_new(uint64_t seed)
{
	struct world *w = calloc(1, sizeof(*w));

	w->sim = pst_sim_new(seed);
	w->target_node = pst_sim_node_new(w->sim, "target");
	w->host_node = pst_sim_node_new(w->sim, "host");
	w->host_env = pst_sim_env_new(w->host_node, 0);
	w->config = (struct pst_session_config){
		.subnqn = NQN,
		.hostnqn = "nqn.2014-08.org.nvmexpress:uuid:99999999-2222-3333-4444-555555555555",
		.hostid = { 9 },
		.nsid = 1,
		.io_queues = 2,
		.queue_entries = 32,
		.keep_alive_ns = 2 * SECOND,
		.connect_timeout_ns = 5 * SECOND,
		.reconnect_delay_ns = SECOND / 10,
		.addr.port = 4420,
		.more_count = 1,
	};
	snprintf(w->config.addr.host, sizeof(w->config.addr.host), "%s", pst_sim_node_ip(w->target_node));
	w->config.more[0] = w->config.addr;
	w->config.more[0].port = 4421;
	serve(w);
	return w;
}

static pst_err session_open(struct world *w)
{
	w->open.done = on_open;
	w->opened = false;
	pst_session_open(w->host_env, &w->config, &w->open);
	wait_for(w, &w->opened);
	return w->open.err;
}

static void world_free(struct world *w)
{
	if (w->session != NULL) {
		w->close.done = on_close;
		pst_session_close(w->session, &w->close);
		wait_for(w, &w->closed);
	}
	pst_sim_free(w->sim);
	free(w);
}

static void ana(struct world *w, uint16_t port, enum pst_ana_state state)
{
	w->ana.done = on_ana;
	w->ana_done = false;
	assert_int_equal(pst_target_set_ana(w->target, port, UINT32_MAX, state, &w->ana), PST_OK);
	wait_for(w, &w->ana_done);
}

static void submit(struct world *w, unsigned i, enum pst_request_kind kind, uint64_t block)
{
	w->iovs[i] = (struct iovec){ w->data[i], BLOCK };
	w->requests[i] = (struct pst_request){ .kind = kind,
					       .offset_bytes = block * BLOCK,
					       .len_bytes = BLOCK,
					       .iov = &w->iovs[i],
					       .iov_count = 1,
					       .done = on_request,
					       .arg = w };
	pst_session_submit(w->session, &w->requests[i]);
}

struct until {
	struct world *w;
	unsigned done;
};

static bool is_done(void *ctx)
{
	const struct until *u = ctx;

	return u->w->done >= u->done;
}

static void run_until_done(struct world *w, unsigned done)
{
	struct until u = { w, done };

	assert_true(pst_sim_run_until(w->sim, is_done, &u, 120 * SECOND));
	assert_int_equal(w->done, done);
	for (unsigned i = 0; i < done; i++)
		assert_int_equal(w->requests[i].err, PST_OK);
}

static void one(struct world *w, enum pst_request_kind kind, uint64_t block)
{
	w->done = 0;
	submit(w, 0, kind, block);
	run_until_done(w, 1);
}

/* The first path is only the second best: the session goes to the optimized one. */
static void an_optimized_path_comes_first(void **state)
{
	struct world *w = world_new(1);

	(void)state;
	ana(w, 1, PST_ANA_NON_OPTIMIZED);
	assert_int_equal(session_open(w), PST_OK);
	assert_int_equal(pst_session_path(w->session), 1);
	one(w, PST_REQUEST_WRITE, 0);
	world_free(w);
}

/* Where none is optimized, one that serves is taken; where none serves, the open says to try later. */
static void the_second_best_will_do(void **state)
{
	struct world *w = world_new(2);

	(void)state;
	ana(w, 1, PST_ANA_NON_OPTIMIZED);
	ana(w, 2, PST_ANA_INACCESSIBLE);
	assert_int_equal(session_open(w), PST_OK);
	assert_int_equal(pst_session_path(w->session), 0);
	one(w, PST_REQUEST_WRITE, 0);
	world_free(w);
	w = world_new(2);
	ana(w, 1, PST_ANA_CHANGE);
	ana(w, 2, PST_ANA_PERSISTENT_LOSS);
	assert_int_equal(session_open(w), PST_E_AGAIN);
	world_free(w);
}

/* Paths close and open under load: the session follows, and every request succeeds, once. */
static void requests_follow_the_access(void **state)
{
	struct world *w = world_new(3);
	struct pst_fault_rule slow = { .action = PST_FAULT_DELAY,
				       .kinds = 1u << PST_IO_WRITE,
				       .delay_ns = SECOND / 20 };

	(void)state;
	assert_int_equal(pst_fault_add(w->volume, &slow), PST_OK);
	assert_int_equal(session_open(w), PST_OK);
	assert_int_equal(pst_session_path(w->session), 0);
	for (unsigned turn = 0; turn < 6; turn++) {
		uint16_t closes = 1 + turn % 2;

		w->done = 0;
		for (unsigned i = 0; i < REQUESTS; i++) {
			memset(w->data[i], (int)(1 + turn * 16 + i % 16), BLOCK);
			submit(w, i, PST_REQUEST_WRITE, i);
		}
		pst_sim_run_for(w->sim, SECOND / 40);
		ana(w, closes, PST_ANA_INACCESSIBLE);
		run_until_done(w, REQUESTS);
		assert_int_equal(pst_session_path(w->session), closes == 1 ? 1 : 0);
		ana(w, closes, PST_ANA_OPTIMIZED);
		w->done = 0;
		for (unsigned i = 0; i < REQUESTS; i++)
			submit(w, i, PST_REQUEST_READ, i);
		run_until_done(w, REQUESTS);
		for (unsigned i = 0; i < REQUESTS; i++)
			assert_int_equal(w->data[i][BLOCK - 1], 1 + turn * 16 + i % 16);
	}
	world_free(w);
}

/* With one path only, requests wait until it is opened again. */
static void a_single_path_is_waited_for(void **state)
{
	struct world *w = world_new(4);

	(void)state;
	w->config.more_count = 0;
	assert_int_equal(session_open(w), PST_OK);
	ana(w, 1, PST_ANA_INACCESSIBLE);
	submit(w, 0, PST_REQUEST_WRITE, 0);
	pst_sim_run_for(w->sim, 20 * SECOND);
	assert_int_equal(w->done, 0);
	ana(w, 1, PST_ANA_OPTIMIZED);
	run_until_done(w, 1);
	world_free(w);
}

/*
 * After silence what was in flight and changes data is not sent again before the target has dropped the lost
 * association, though another path is there; reads go on over that at once.
 */
static void lost_writes_are_held_back(void **state)
{
	struct world *w = world_new(5);
	struct pst_ns_stats stats;
	uint64_t lost_ns;

	(void)state;
	assert_int_equal(session_open(w), PST_OK);
	pst_sim_partition(w->target_node, w->host_node, true);
	w->done = 0;
	submit(w, 1, PST_REQUEST_WRITE, 1); /* never gets there */
	do {
		pst_sim_run_for(w->sim, SECOND / 100);
		pst_session_stats(w->session, &stats);
	} while (stats.connected && pst_sim_now_ns(w->sim) < 20 * SECOND);
	lost_ns = pst_sim_now_ns(w->sim);
	pst_sim_partition(w->target_node, w->host_node, false);
	submit(w, 0, PST_REQUEST_READ, 1);
	run_until_done(w, 1);
	assert_true(pst_sim_now_ns(w->sim) - lost_ns < SECOND);
	run_until_done(w, 2);
	assert_true(pst_sim_now_ns(w->sim) - lost_ns >= w->config.keep_alive_ns);
	world_free(w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_optimized_path_comes_first), cmocka_unit_test(the_second_best_will_do),
		cmocka_unit_test(requests_follow_the_access),    cmocka_unit_test(a_single_path_is_waited_for),
		cmocka_unit_test(lost_writes_are_held_back),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

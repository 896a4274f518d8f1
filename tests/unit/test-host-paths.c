/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A session with several paths to one subsystem, in the simulator: which it takes, when it leaves one, and that every
 * request completes once whatever becomes of them. The randomized form of this is tests/sim/sim-system.c.
 */
#include "host-rig.h"

#define LOAD 64u

/* Two paths of the session, by ports of one target. */
static struct world *two_paths(uint64_t seed, const struct pst_fault_rule *fault)
{
	struct world *w = world_new(seed);

	w->ports = 2;
	w->fault = fault;
	w->config.io_queues = 2;
	w->config.more_count = 1;
	w->config.more[0] = w->config.addr;
	w->config.more[0].port = 4421;
	target_start(w);
	return w;
}

struct change {
	struct pst_ana_op op;
	bool done;
};

static void on_ana(struct pst_ana_op *op)
{
	pst_container_of(op, struct change, op)->done = true;
}

static void ana(struct world *w, uint16_t port, enum pst_ana_state state)
{
	struct change change = { .op.done = on_ana };

	assert_int_equal(pst_target_set_ana(w->target, port, UINT32_MAX, state, &change.op), PST_OK);
	wait_for(w, &change.done, 120 * SECOND);
}

/* Request @i, of a block. */
static void begin(struct world *w, unsigned i, enum pst_request_kind kind, uint64_t block)
{
	submit(w, i, kind, block * BLOCK, w->data + i * BLOCK, BLOCK);
}

static void all_succeed(struct world *w, unsigned count)
{
	run_until_done(w, count, 120 * SECOND);
	for (unsigned i = 0; i < count; i++)
		assert_int_equal(w->requests[i].err, PST_OK);
}

static void one_write(struct world *w)
{
	assert_int_equal(do_one(w, PST_REQUEST_WRITE, 0, w->data, BLOCK), PST_OK);
}

/* The first path is only the second best: the session goes to the optimized one. */
static void an_optimized_path_comes_first(void **state)
{
	struct world *w = two_paths(1, NULL);

	(void)state;
	ana(w, 1, PST_ANA_NON_OPTIMIZED);
	assert_int_equal(session_open(w), PST_OK);
	assert_int_equal(pst_session_path(w->session), 1);
	one_write(w);
	world_free(w);
}

/* Where none is optimized, one that serves is taken; where none serves, the open says to try later. */
static void the_second_best_will_do(void **state)
{
	struct world *w = two_paths(2, NULL);

	(void)state;
	ana(w, 1, PST_ANA_NON_OPTIMIZED);
	ana(w, 2, PST_ANA_INACCESSIBLE);
	assert_int_equal(session_open(w), PST_OK);
	assert_int_equal(pst_session_path(w->session), 0);
	one_write(w);
	world_free(w);
	w = two_paths(2, NULL);
	ana(w, 1, PST_ANA_CHANGE);
	ana(w, 2, PST_ANA_PERSISTENT_LOSS);
	assert_int_equal(session_open(w), PST_E_AGAIN);
	world_free(w);
}

/* Paths close and open under load: the session follows, and every request succeeds, once. */
static void requests_follow_the_access(void **state)
{
	struct pst_fault_rule slow = { .action = PST_FAULT_DELAY,
				       .kinds = 1u << PST_IO_WRITE,
				       .delay_ns = SECOND / 20 };
	struct world *w = two_paths(3, &slow);

	(void)state;
	assert_int_equal(session_open(w), PST_OK);
	assert_int_equal(pst_session_path(w->session), 0);
	for (unsigned turn = 0; turn < 6; turn++) {
		uint16_t closes = 1 + turn % 2;

		w->done = 0;
		for (unsigned i = 0; i < LOAD; i++) {
			memset(w->data + i * BLOCK, (int)(1 + turn * 16 + i % 16), BLOCK);
			begin(w, i, PST_REQUEST_WRITE, i);
		}
		pst_sim_run_for(w->sim, SECOND / 40);
		ana(w, closes, PST_ANA_INACCESSIBLE);
		all_succeed(w, LOAD);
		assert_int_equal(pst_session_path(w->session), closes == 1 ? 1 : 0);
		ana(w, closes, PST_ANA_OPTIMIZED);
		w->done = 0;
		for (unsigned i = 0; i < LOAD; i++)
			begin(w, i, PST_REQUEST_READ, i);
		all_succeed(w, LOAD);
		for (unsigned i = 0; i < LOAD; i++)
			assert_int_equal(w->data[(i + 1) * BLOCK - 1], 1 + turn * 16 + i % 16);
	}
	world_free(w);
}

/* With one path only, requests wait until it is opened again. */
static void a_single_path_is_waited_for(void **state)
{
	struct world *w = two_paths(4, NULL);

	(void)state;
	w->config.more_count = 0;
	assert_int_equal(session_open(w), PST_OK);
	ana(w, 1, PST_ANA_INACCESSIBLE);
	begin(w, 0, PST_REQUEST_WRITE, 0);
	pst_sim_run_for(w->sim, 20 * SECOND);
	assert_int_equal(w->done, 0);
	ana(w, 1, PST_ANA_OPTIMIZED);
	all_succeed(w, 1);
	world_free(w);
}

/*
 * After silence what was in flight and changes data is not sent again before the target has dropped the lost
 * association, though another path is there; reads go on over that at once.
 */
static void lost_writes_are_held_back(void **state)
{
	struct world *w = two_paths(5, NULL);
	struct pst_ns_stats stats;
	uint64_t lost_ns;

	(void)state;
	assert_int_equal(session_open(w), PST_OK);
	pst_sim_partition(w->target_node, w->host_node, true);
	w->done = 0;
	begin(w, 1, PST_REQUEST_WRITE, 1); /* never gets there */
	do {
		pst_sim_run_for(w->sim, SECOND / 100);
		pst_session_stats(w->session, &stats);
	} while (stats.connected && pst_sim_now_ns(w->sim) < 20 * SECOND);
	lost_ns = pst_sim_now_ns(w->sim);
	pst_sim_partition(w->target_node, w->host_node, false);
	begin(w, 0, PST_REQUEST_READ, 1);
	all_succeed(w, 1);
	assert_true(pst_sim_now_ns(w->sim) - lost_ns < SECOND);
	all_succeed(w, 2);
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

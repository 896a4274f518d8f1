/* SPDX-License-Identifier: Apache-2.0 */
/* The host against the real target in the simulator: handshake, splitting, queueing, loss, replay, timeouts, faults. */
#include "host-rig.h"

/* The handshake tells size, block size, uuid, cache; reads and writes of every kind work and count. */
static void connect_read_write(void **state)
{
	struct world *w = world_new(1);
	struct pst_ns_info info;
	struct pst_ns_stats stats;
	static uint8_t out[5 << 20], in[5 << 20];

	(void)state;
	target_start(w);
	assert_int_equal(session_open(w), PST_OK);
	pst_session_info(w->session, &info);
	assert_int_equal(info.size_bytes, BLOCKS * BLOCK);
	assert_int_equal(info.block_bytes, BLOCK);
	assert_int_equal(info.uuid[1], 2);
	assert_int_equal(info.transfer_bytes_max, 1 << 20);
	fill(out, sizeof(out), 3);
	assert_int_equal(do_one(w, PST_REQUEST_WRITE, BLOCK, out, BLOCK), PST_OK); /* in a capsule */
	assert_int_equal(do_one(w, PST_REQUEST_READ, BLOCK, in, BLOCK), PST_OK);
	assert_memory_equal(in, out, BLOCK);
	assert_int_equal(do_one(w, PST_REQUEST_WRITE, 0, out, sizeof(out)), PST_OK); /* five commands */
	assert_int_equal(do_one(w, PST_REQUEST_READ, 0, in, sizeof(in)), PST_OK);
	assert_memory_equal(in, out, sizeof(out));
	assert_int_equal(do_one(w, PST_REQUEST_FLUSH, 0, NULL, 0), PST_OK);
	assert_int_equal(do_one(w, PST_REQUEST_WRITE_ZEROES, 2 * BLOCK, NULL, BLOCK), PST_OK);
	assert_int_equal(do_one(w, PST_REQUEST_DISCARD, 3 * BLOCK, NULL, BLOCK), PST_OK);
	assert_int_equal(do_one(w, PST_REQUEST_READ, 0, in, sizeof(in)), PST_OK);
	memset(out + 2 * BLOCK, 0, 2 * BLOCK);
	assert_memory_equal(in, out, sizeof(out));
	pst_session_stats(w->session, &stats);
	assert_int_equal(stats.requests[PST_REQUEST_READ], 3);
	assert_int_equal(stats.bytes_read, BLOCK + 2 * sizeof(in));
	assert_int_equal(stats.bytes_written, BLOCK + sizeof(out));
	assert_int_equal(stats.reconnects, 0);
	assert_true(stats.connected);
	/* Independent count: payload, and less than 2 % around it. */
	assert_true(stats.socket_bytes_received > stats.bytes_read);
	assert_true(stats.socket_bytes_received < stats.bytes_read + stats.bytes_read / 50 + 20000);
	assert_int_equal(pst_session_latency(w->session, PST_REQUEST_READ)->count, 3);
	world_free(w);
}

/* What is wrong with a request is told through its callback. */
static void bad_requests_are_refused(void **state)
{
	struct world *w = world_new(2);
	uint8_t buf[BLOCK];

	(void)state;
	target_start(w);
	assert_int_equal(session_open(w), PST_OK);
	assert_int_equal(do_one(w, PST_REQUEST_READ, 1, buf, BLOCK), PST_E_INVAL);
	assert_int_equal(do_one(w, PST_REQUEST_READ, 0, buf, 0), PST_E_INVAL);
	assert_int_equal(do_one(w, PST_REQUEST_READ, 0, buf, 100), PST_E_INVAL);
	assert_int_equal(do_one(w, PST_REQUEST_READ, BLOCKS * BLOCK, buf, BLOCK), PST_E_RANGE);
	assert_int_equal(do_one(w, PST_REQUEST_READ, UINT64_MAX - BLOCK + 1, buf, BLOCK), PST_E_RANGE);
	assert_int_equal(do_one(w, (enum pst_request_kind)9, 0, buf, BLOCK), PST_E_INVAL);
	assert_int_equal(do_one(w, PST_REQUEST_READ, 0, buf, BLOCK), PST_OK);
	world_free(w);
}

/* Far more requests than the queue is deep wait inside and all complete; over several queues, with digests. */
static void more_requests_than_the_queue_is_deep(void **state)
{
	(void)state;
	for (uint32_t queues = 1; queues <= 3; queues++) {
		struct world *w = world_new(3 + queues);
		static uint8_t bufs[REQUESTS][BLOCK];

		w->config.io_queues = queues;
		w->config.queue_entries = 8;
		w->config.header_digest = w->config.data_digest = true;
		target_start(w);
		assert_int_equal(session_open(w), PST_OK);
		w->done = 0;
		for (unsigned i = 0; i < REQUESTS; i++) {
			fill(bufs[i], BLOCK, (uint8_t)i);
			submit(w, i, PST_REQUEST_WRITE, (uint64_t)i * BLOCK, bufs[i], BLOCK);
		}
		run_until_done(w, REQUESTS, 60 * SECOND);
		memset(bufs, 0, sizeof(bufs));
		w->done = 0;
		for (unsigned i = 0; i < REQUESTS; i++)
			submit(w, i, PST_REQUEST_READ, (uint64_t)i * BLOCK, bufs[i], BLOCK);
		run_until_done(w, REQUESTS, 60 * SECOND);
		for (unsigned i = 0; i < REQUESTS; i++) {
			uint8_t want[BLOCK];

			fill(want, BLOCK, (uint8_t)i);
			assert_int_equal(w->requests[i].err, PST_OK);
			assert_memory_equal(bufs[i], want, BLOCK);
		}
		world_free(w);
	}
}

/* Connecting tells why it did not work. */
static void connect_errors(void **state)
{
	struct world *w = world_new(7);

	(void)state;
	assert_int_equal(session_open(w), PST_E_REFUSED);
	target_start(w);
	snprintf(w->config.subnqn, sizeof(w->config.subnqn), "%s",
		 "nqn.2014-08.org.nvmexpress:uuid:00000000-2222-3333-4444-555555555555");
	assert_int_equal(session_open(w), PST_E_NOTFOUND);
	snprintf(w->config.subnqn, sizeof(w->config.subnqn), "%s", NQN);
	w->config.nsid = 7;
	assert_int_equal(session_open(w), PST_E_NOTFOUND);
	w->config.nsid = 1;
	pst_sim_partition(w->target_node, w->host_node, true);
	assert_int_equal(session_open(w), PST_E_TIMEOUT);
	pst_sim_partition(w->target_node, w->host_node, false);
	assert_int_equal(session_open(w), PST_OK);
	world_free(w);
}

/* A target that is killed and started again gets all requests in flight once more; nothing fails. */
static void requests_survive_a_restart_of_the_target(void **state)
{
	struct world *w = world_new(8);
	struct pst_ns_stats stats;
	static uint8_t bufs[REQUESTS][BLOCK];

	(void)state;
	target_start(w);
	assert_int_equal(session_open(w), PST_OK);
	w->done = 0;
	for (unsigned i = 0; i < REQUESTS; i++)
		submit(w, i, PST_REQUEST_WRITE, (uint64_t)i * BLOCK, bufs[i], BLOCK);
	for (unsigned i = 0; i < 200; i++)
		pst_sim_step(w->sim);
	pst_sim_kill(w->target_node);
	pst_sim_run_for(w->sim, 3 * SECOND);
	assert_true(w->done < REQUESTS);
	pst_session_stats(w->session, &stats);
	assert_false(stats.connected);
	target_start(w);
	run_until_done(w, REQUESTS, 60 * SECOND);
	for (unsigned i = 0; i < REQUESTS; i++)
		assert_int_equal(w->requests[i].err, PST_OK);
	pst_session_stats(w->session, &stats);
	assert_true(stats.connected);
	assert_int_equal(stats.reconnects, 1);
	assert_true(stats.replayed_requests > 0);
	assert_true(stats.stalled_ns > 2 * SECOND);
	world_free(w);
}

static const struct pst_fault_rule flushes_hang = { .action = PST_FAULT_DELAY,
						    .kinds = 1 << PST_IO_FLUSH,
						    .delay_ns = 3600 * SECOND };
static const struct pst_fault_rule first_flush_tells = {
	.action = PST_FAULT_ERROR, .kinds = 1 << PST_IO_FLUSH, .err = PST_E_LOST, .count = 1
};

/* A write completes while a flush is under way; then the target's machine stops, and the flush is sent again. */
static struct world *world_with_loss(bool write_after_flush, bool second_flush)
{
	struct world *w = world_new(21);

	w->fault = &flushes_hang;
	w->config.io_queues = 4;
	target_start(w);
	assert_int_equal(session_open(w), PST_OK);
	assert_int_equal(do_one(w, PST_REQUEST_WRITE, 0, w->data, BLOCK), PST_OK);
	w->done = 0;
	submit(w, 1, PST_REQUEST_FLUSH, 0, NULL, 0);
	pst_sim_run_for(w->sim, SECOND / 100);
	if (write_after_flush) {
		submit(w, 2, PST_REQUEST_WRITE, 0, w->data, BLOCK);
		run_until_done(w, 1, SECOND);
	}
	if (second_flush)
		submit(w, 3, PST_REQUEST_FLUSH, 0, NULL, 0);
	pst_sim_run_for(w->sim, SECOND / 100);
	w->done = 0;
	pst_sim_kill(w->target_node);
	w->fault = &first_flush_tells;
	target_start(w);
	run_until_done(w, second_flush ? 2 : 1, 60 * SECOND);
	assert_int_equal(w->requests[1].err, PST_E_IO);
	return w;
}

/*
 * The target tells once that unflushed writes are lost. If a flush hears it that was submitted before one of these
 * writes completed, the next flush must fail too: its caller relies on that write.
 */
static void flush_after_a_told_loss_tells_it_again(void **state)
{
	struct world *w = world_with_loss(true, false);

	(void)state;
	assert_int_equal(do_one(w, PST_REQUEST_FLUSH, 0, NULL, 0), PST_E_IO);
	assert_int_equal(w->requests[0].nvme_status, w->requests[1].nvme_status);
	assert_int_not_equal(w->requests[0].nvme_status, 0);
	assert_int_equal(do_one(w, PST_REQUEST_FLUSH, 0, NULL, 0), PST_OK);
	world_free(w);
}

/* All flushes that are under way when one hears of the loss claim the same writes: all fail. */
static void flushes_under_way_all_tell_a_loss(void **state)
{
	(void)state;
	for (int written = 0; written < 2; written++) {
		struct world *w = world_with_loss(written, true);

		assert_int_equal(w->requests[3].err, PST_E_IO);
		assert_int_equal(do_one(w, PST_REQUEST_FLUSH, 0, NULL, 0), PST_OK);
		world_free(w);
	}
}

/* Without a write after the flush one failure is all: it has told everything. */
static void loss_is_told_once(void **state)
{
	struct world *w = world_with_loss(false, false);

	(void)state;
	assert_int_equal(do_one(w, PST_REQUEST_FLUSH, 0, NULL, 0), PST_OK);
	world_free(w);
}

/* With a loss timeout requests fail once it has passed, and at once after that; a new connection ends it. */
static void the_loss_timeout_ends_waiting(void **state)
{
	struct world *w = world_new(9);
	uint8_t buf[BLOCK];

	(void)state;
	w->config.loss_timeout_ns = 3 * SECOND;
	target_start(w);
	assert_int_equal(session_open(w), PST_OK);
	pst_sim_kill(w->target_node);
	assert_int_equal(do_one(w, PST_REQUEST_READ, 0, buf, BLOCK), PST_E_TIMEOUT);
	assert_true(w->requests[0].latency_ns > 2 * SECOND && w->requests[0].latency_ns < 4 * SECOND);
	assert_int_equal(do_one(w, PST_REQUEST_READ, 0, buf, BLOCK), PST_E_TIMEOUT);
	assert_true(w->requests[0].latency_ns < SECOND / 100);
	target_start(w);
	pst_sim_run_for(w->sim, 5 * SECOND);
	assert_int_equal(do_one(w, PST_REQUEST_READ, 0, buf, BLOCK), PST_OK);
	world_free(w);
}

/* A silent partition is noticed by the Keep Alive; afterwards the requests go on. */
static void keep_alive_notices_a_partition(void **state)
{
	struct world *w = world_new(10);
	struct pst_ns_stats stats;
	uint8_t buf[BLOCK];

	(void)state;
	target_start(w);
	assert_int_equal(session_open(w), PST_OK);
	pst_sim_partition(w->target_node, w->host_node, true);
	do {
		pst_sim_run_for(w->sim, SECOND / 10);
		pst_session_stats(w->session, &stats);
	} while (stats.connected && pst_sim_now_ns(w->sim) < 10 * SECOND);
	assert_false(stats.connected);
	pst_sim_partition(w->target_node, w->host_node, false);
	assert_int_equal(do_one(w, PST_REQUEST_READ, 0, buf, BLOCK), PST_OK);
	/* Not before the target has dropped the old association: see session_fence_ns. */
	pst_session_stats(w->session, &stats);
	assert_true(stats.stalled_ns >= w->config.keep_alive_ns);
	world_free(w);
}

/* Closing gives every request back as cancelled, also those that wait for a lost target. */
static void close_cancels_requests(void **state)
{
	(void)state;
	for (int kill = 0; kill < 2; kill++) {
		struct world *w = world_new(11);
		static uint8_t buf[BLOCK];

		target_start(w);
		assert_int_equal(session_open(w), PST_OK);
		w->done = 0;
		if (kill) {
			pst_sim_kill(w->target_node);
			pst_sim_run_for(w->sim, SECOND);
		}
		for (unsigned i = 0; i < 100; i++)
			submit(w, i, PST_REQUEST_READ, 0, buf, BLOCK);
		session_close(w);
		assert_int_equal(w->done, 100);
		if (kill)
			assert_int_equal(w->requests[99].err, PST_E_CANCELLED);
		world_free(w);
	}
}

/* Resets, refusals, splits and stalls slow things down; every request still succeeds, and data is what was written. */
static void network_faults_lose_nothing(void **state)
{
	(void)state;
	for (uint64_t seed = 100; seed < 130; seed++) {
		struct world *w = world_new(seed);
		struct pst_sim_faults faults;
		static uint8_t bufs[REQUESTS][BLOCK];

		w->config.data_digest = seed % 2;
		w->config.io_queues = 1 + seed % 3;
		target_start(w);
		assert_int_equal(session_open(w), PST_OK);
		pst_sim_faults_swarm(w->sim, PST_SIM_NET_TIMING | PST_SIM_NET_BREAKS, &faults);
		pst_sim_set_faults(w->sim, NULL, &faults);
		for (unsigned round = 0; round < 3; round++) {
			w->done = 0;
			for (unsigned i = 0; i < REQUESTS; i++) {
				fill(bufs[i], BLOCK, (uint8_t)(i + round));
				submit(w, i, PST_REQUEST_WRITE, (uint64_t)i * BLOCK, bufs[i], BLOCK);
			}
			pst_sim_run_for(w->sim, SECOND / 2);
			if (round == 2)
				pst_sim_heal(w->sim);
			if (round == 2)
				run_until_done(w, REQUESTS, 120 * SECOND);
			else
				run_until_done(w, REQUESTS, 1000 * SECOND);
			for (unsigned i = 0; i < REQUESTS; i++)
				assert_int_equal(w->requests[i].err, PST_OK);
		}
		memset(bufs, 0, sizeof(bufs));
		w->done = 0;
		for (unsigned i = 0; i < REQUESTS; i++)
			submit(w, i, PST_REQUEST_READ, (uint64_t)i * BLOCK, bufs[i], BLOCK);
		run_until_done(w, REQUESTS, 120 * SECOND);
		for (unsigned i = 0; i < REQUESTS; i++) {
			uint8_t want[BLOCK];

			fill(want, BLOCK, (uint8_t)(i + 2));
			assert_memory_equal(bufs[i], want, BLOCK);
		}
		world_free(w);
	}
}

/* Discovery finds the one subsystem, at the address it was asked at. */
static void discovery_lists_subsystems(void **state)
{
	struct world *w = world_new(12);
	const struct pst_discovery_entry *entries;
	size_t count;

	(void)state;
	target_start(w);
	snprintf(w->config.subnqn, sizeof(w->config.subnqn), "%s", "nqn.2014-08.org.nvmexpress.discovery");
	w->config.discovery = true;
	w->config.io_queues = 0;
	w->config.keep_alive_ns = 0;
	assert_int_equal(session_open(w), PST_OK);
	entries = pst_session_entries(w->session, &count);
	assert_int_equal(count, 1);
	assert_string_equal(entries[0].subnqn, NQN);
	assert_string_equal(entries[0].traddr, pst_sim_node_ip(w->target_node));
	assert_int_equal(entries[0].trsvcid, 4420);
	world_free(w);
}

/* A host NQN and its identifier belong together. */
static void host_identity(void **state)
{
	uint8_t uuid[16] = { 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x47, 0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff },
		back[16];
	char nqn[224];

	(void)state;
	pst_host_nqn_format(uuid, nqn);
	assert_string_equal(nqn, "nqn.2014-08.org.nvmexpress:uuid:11223344-5566-4788-99aa-bbccddeeff00");
	assert_true(pst_host_nqn_uuid(nqn, back));
	assert_memory_equal(uuid, back, 16);
	assert_false(pst_host_nqn_uuid("nqn.2020-01.com.example:host", back));
	assert_false(pst_host_nqn_uuid("nqn.2014-08.org.nvmexpress:uuid:1122", back));
}

/* ---- Authentication ---- */

#define HOSTNQN "nqn.2014-08.org.nvmexpress:uuid:99999999-2222-3333-4444-555555555555"

static const struct pst_session_keys keys = {
	.host = { .hash = 1, .len_bytes = 32, .bytes = "the host's" },
	.ctrl = { .hash = 0, .len_bytes = 48, .bytes = "the controller's" },
	.has_host = true,
	.has_ctrl = true,
};
static const struct pst_target_host two_way = { .nqn = HOSTNQN, .host_key = &keys.host, .ctrl_key = &keys.ctrl };
static const struct pst_target_host one_way = { .nqn = HOSTNQN, .host_key = &keys.host };

/* Every queue authenticates, in both ways, and again after the target was killed: requests survive that, too. */
static void queues_authenticate_and_again_after_a_restart(void **state)
{
	struct world *w = world_new(21);
	struct pst_ns_stats stats;
	uint8_t out[BLOCK], in[BLOCK];

	(void)state;
	w->known = &two_way;
	w->config.keys = &keys;
	w->config.io_queues = 3;
	target_start(w);
	assert_int_equal(session_open(w), PST_OK);
	fill(out, BLOCK, 5);
	assert_int_equal(do_one(w, PST_REQUEST_WRITE, 0, out, BLOCK), PST_OK);
	pst_sim_kill(w->target_node);
	target_start(w); /* in memory: what was written is gone */
	w->done = 0;
	submit(w, 0, PST_REQUEST_WRITE, BLOCK, out, BLOCK);
	run_until_done(w, 1, 60 * SECOND);
	assert_int_equal(w->requests[0].err, PST_OK);
	assert_int_equal(do_one(w, PST_REQUEST_READ, BLOCK, in, BLOCK), PST_OK);
	assert_memory_equal(in, out, BLOCK);
	pst_session_stats(w->session, &stats);
	assert_int_equal(stats.reconnects, 1);
	world_free(w);
}

/* Wrong or missing keys on either side, and a target that lets the proof drop, are "denied". */
static void wrong_keys_are_denied(void **state)
{
	static const struct pst_session_keys wrong_host = { .host = { .hash = 1, .len_bytes = 32, .bytes = "wrong" },
							    .has_host = true };
	static const struct pst_session_keys wrong_ctrl = {
		.host = { .hash = 1, .len_bytes = 32, .bytes = "the host's" },
		.ctrl = { .hash = 0, .len_bytes = 48, .bytes = "wrong" },
		.has_host = true,
		.has_ctrl = true
	};
	static const struct pst_session_keys alone = { .host = { .hash = 1, .len_bytes = 32, .bytes = "the host's" },
						       .has_host = true };
	static const struct {
		const struct pst_target_host *known;
		const struct pst_session_keys *keys;
		pst_err err;
	} cases[] = {
		{ &one_way, NULL, PST_E_DENIED },  { &one_way, &wrong_host, PST_E_DENIED },
		{ &one_way, &keys, PST_E_DENIED }, { &two_way, &wrong_ctrl, PST_E_DENIED },
		{ NULL, &keys, PST_E_DENIED },     { NULL, &alone, PST_OK },
		{ &one_way, &alone, PST_OK },      { &two_way, &alone, PST_OK },
		{ &two_way, &keys, PST_OK },
	};

	(void)state;
	for (unsigned i = 0; i < PST_ARRAY_COUNT(cases); i++) {
		struct world *w = world_new(22 + i);

		w->known = cases[i].known;
		w->config.keys = cases[i].keys;
		target_start(w);
		assert_int_equal(session_open(w), cases[i].err);
		world_free(w);
	}
}

/* A host that is taken off the list is disconnected; its requests wait, and go on when it is let in again. */
static void a_denied_host_waits(void **state)
{
	static const char *const nobody[] = { "nqn.2026-01.example:nobody" };
	struct world *w = world_new(40);
	struct pst_ns_stats stats;
	uint8_t buf[BLOCK] = { 0 };

	(void)state;
	target_start(w);
	assert_int_equal(session_open(w), PST_OK);
	assert_int_equal(pst_subsystem_allow(w->subsystem, &(struct pst_allow_list){ true, nobody, 1 }), PST_OK);
	pst_sim_run_for(w->sim, 5 * SECOND);
	pst_session_stats(w->session, &stats);
	assert_false(stats.connected);
	w->done = 0;
	submit(w, 0, PST_REQUEST_WRITE, 0, buf, BLOCK);
	pst_sim_run_for(w->sim, 5 * SECOND);
	assert_int_equal(w->done, 0);
	assert_int_equal(pst_subsystem_allow(w->subsystem, &(struct pst_allow_list){ 0 }), PST_OK);
	run_until_done(w, 1, 10 * SECOND);
	assert_int_equal(w->requests[0].err, PST_OK);
	world_free(w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(connect_read_write),
		cmocka_unit_test(bad_requests_are_refused),
		cmocka_unit_test(more_requests_than_the_queue_is_deep),
		cmocka_unit_test(connect_errors),
		cmocka_unit_test(requests_survive_a_restart_of_the_target),
		cmocka_unit_test(flush_after_a_told_loss_tells_it_again),
		cmocka_unit_test(flushes_under_way_all_tell_a_loss),
		cmocka_unit_test(loss_is_told_once),
		cmocka_unit_test(the_loss_timeout_ends_waiting),
		cmocka_unit_test(keep_alive_notices_a_partition),
		cmocka_unit_test(close_cancels_requests),
		cmocka_unit_test(network_faults_lose_nothing),
		cmocka_unit_test(discovery_lists_subsystems),
		cmocka_unit_test(host_identity),
		cmocka_unit_test(queues_authenticate_and_again_after_a_restart),
		cmocka_unit_test(wrong_keys_are_denied),
		cmocka_unit_test(a_denied_host_waits),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

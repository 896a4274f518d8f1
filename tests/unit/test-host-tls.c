/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Host and target over TLS, in the simulator: who gets in, what becomes of connections when keys change, and faults of
 * the network. Handshakes draw from OpenSSL's generator, which here is a seeded one: same seed, same trace.
 */
#include "host-rig.h"

#include "base/prng.h"

#define OPENSSL_SUPPRESS_DEPRECATED /* RAND_set_rand_method: the whole generator, for all of the process */
#include <openssl/rand.h>

#define HOSTNQN "nqn.2014-08.org.nvmexpress:uuid:99999999-2222-3333-4444-555555555555"

/* ---- OpenSSL's randomness ---- */

static struct pst_prng prng;

static int seeded_bytes(unsigned char *buf, int bytes)
{
	for (int i = 0; i < bytes; i++)
		buf[i] = (unsigned char)pst_prng_below(&prng, 256);
	return 1;
}

static int seeded_status(void)
{
	return 1;
}

/* ---- Keys ---- */

static const struct pst_session_keys keys = {
	.host = { .hash = 1, .len_bytes = 32, .bytes = "for authentication" },
	.tls = { .hash = 1, .len_bytes = 32, .bytes = "for TLS" },
	.has_host = true,
	.has_tls = true,
};
static const struct pst_session_keys tls_alone = { .tls = { .hash = 1, .len_bytes = 32, .bytes = "for TLS" },
						   .has_tls = true };
static const struct pst_session_keys longer = { .tls = { .hash = 2, .len_bytes = 48, .bytes = "for TLS, longer" },
						.has_tls = true };
static const struct pst_session_keys wrong = { .tls = { .hash = 1, .len_bytes = 32, .bytes = "wrong" },
					       .has_tls = true };
static const struct pst_target_host with_tls = { .nqn = HOSTNQN, .tls_key = &keys.tls };
static const struct pst_target_host with_longer = { .nqn = HOSTNQN, .tls_key = &longer.tls };
static const struct pst_target_host with_both = { .nqn = HOSTNQN, .tls_key = &keys.tls, .host_key = &keys.host };
static const struct pst_target_host with_key = { .nqn = HOSTNQN, .host_key = &keys.host };
static const struct pst_target_host other = { .nqn = "nqn.2026-01.example:other", .tls_key = &keys.tls };

/* Every combination of key, record and listener has its outcome; data flows where it is "success". */
static void who_gets_in(void **state)
{
	static const struct {
		enum pst_target_tls listener;
		const struct pst_target_host *known;
		const struct pst_session_keys *keys;
		pst_err err;
	} cases[] = {
		{ PST_TARGET_TLS_REQUIRED, &with_tls, &tls_alone, PST_OK },
		{ PST_TARGET_TLS_REQUIRED, &with_longer, &longer, PST_OK },
		{ PST_TARGET_TLS_ALLOWED, &with_tls, &tls_alone, PST_OK },
		{ PST_TARGET_TLS_REQUIRED, &with_both, &keys, PST_OK },
		{ PST_TARGET_TLS_REQUIRED, &with_both, &tls_alone, PST_E_DENIED }, /* TLS alone is not enough */
		{ PST_TARGET_TLS_REQUIRED, &with_tls, &keys, PST_OK },             /* nobody asks for the other */
		{ PST_TARGET_TLS_REQUIRED, &with_tls, &wrong, PST_E_DENIED },
		{ PST_TARGET_TLS_REQUIRED, &with_tls, &longer, PST_E_DENIED },
		{ PST_TARGET_TLS_REQUIRED, &other, &tls_alone, PST_E_DENIED },
		{ PST_TARGET_TLS_REQUIRED, NULL, &tls_alone, PST_E_DENIED },
		{ PST_TARGET_TLS_REQUIRED, &with_key, &keys, PST_E_DENIED },
		{ PST_TARGET_TLS_REQUIRED, NULL, NULL, PST_E_CLOSED },
		{ PST_TARGET_TLS_ALLOWED, NULL, NULL, PST_OK },
		{ PST_TARGET_TLS_ALLOWED, &with_tls, NULL, PST_E_DENIED }, /* whoever has a TLS key uses it */
		{ PST_TARGET_TLS_OFF, &with_tls, NULL, PST_E_DENIED },
		{ PST_TARGET_TLS_OFF, &with_tls, &tls_alone, PST_E_PROTO },
	};

	(void)state;
	for (unsigned i = 0; i < PST_ARRAY_COUNT(cases); i++) {
		struct world *w = world_new(i + 1);
		static uint8_t out[3 << 20], in[3 << 20];
		pst_err err;

		w->tls = cases[i].listener;
		w->known = cases[i].known;
		w->config.keys = cases[i].keys;
		w->config.io_queues = 1 + i % 3;
		target_start(w);
		err = session_open(w);
		if (err != cases[i].err)
			fail_msg("case %u: %s instead of %s", i, pst_err_name(err), pst_err_name(cases[i].err));
		if (err == PST_OK) {
			fill(out, sizeof(out), (uint8_t)i);
			assert_int_equal(do_one(w, PST_REQUEST_WRITE, 0, out, sizeof(out)), PST_OK);
			memset(in, 0, sizeof(in));
			assert_int_equal(do_one(w, PST_REQUEST_READ, 0, in, sizeof(in)), PST_OK);
			assert_memory_equal(in, out, sizeof(out));
			assert_int_equal(do_one(w, PST_REQUEST_FLUSH, 0, NULL, 0), PST_OK);
		}
		world_free(w);
	}
}

/* Is the host connected, after some time? */
static bool connected_after(struct world *w, uint64_t ns)
{
	struct pst_ns_stats stats;

	pst_sim_run_for(w->sim, ns);
	pst_session_stats(w->session, &stats);
	return stats.connected;
}

/* A new key is for the next connection; a host that loses its key, or gets its first, loses its connections. */
static void keys_change_live(void **state)
{
	static const struct pst_target_host changed = { .nqn = HOSTNQN, .tls_key = &longer.tls };
	struct world *w = world_new(50);
	uint8_t buf[BLOCK] = { 1 };

	(void)state;
	w->tls = PST_TARGET_TLS_ALLOWED;
	w->known = &with_tls;
	w->config.keys = &tls_alone;
	target_start(w);
	assert_int_equal(session_open(w), PST_OK);
	assert_int_equal(pst_target_host_set(w->target, &changed), PST_OK);
	assert_true(connected_after(w, 5 * SECOND));
	assert_int_equal(do_one(w, PST_REQUEST_WRITE, 0, buf, BLOCK), PST_OK);
	session_close(w);
	assert_int_equal(session_open(w), PST_E_DENIED);
	assert_int_equal(pst_target_host_set(w->target, &with_tls), PST_OK);
	assert_int_equal(session_open(w), PST_OK);
	pst_target_host_remove(w->target, HOSTNQN);
	assert_false(connected_after(w, 5 * SECOND));
	assert_int_equal(pst_target_host_set(w->target, &with_tls), PST_OK); /* and in it is again */
	assert_true(connected_after(w, 5 * SECOND));
	assert_int_equal(pst_target_host_set(w->target, &with_key), PST_OK);
	assert_false(connected_after(w, 5 * SECOND));
	session_close(w);

	pst_target_host_remove(w->target, HOSTNQN);
	w->config.keys = NULL;
	assert_int_equal(session_open(w), PST_OK);
	assert_int_equal(pst_target_host_set(w->target, &with_tls), PST_OK);
	assert_false(connected_after(w, 5 * SECOND));
	world_free(w);
}

/* Requests survive a restart of the target and faults of the network over TLS as they do without. */
static void network_faults_lose_nothing(void **state)
{
	(void)state;
	for (uint64_t seed = 200; seed < 212; seed++) {
		struct world *w = world_new(seed);
		struct pst_sim_faults faults;
		static uint8_t bufs[REQUESTS][BLOCK];

		w->tls = PST_TARGET_TLS_REQUIRED;
		w->known = &with_tls;
		w->config.keys = &tls_alone;
		w->config.io_queues = 1 + seed % 3;
		w->target_config.tls_rekey_records = 1 + seed % 7;
		target_start(w);
		assert_int_equal(session_open(w), PST_OK);
		pst_sim_faults_swarm(w->sim, PST_SIM_NET_TIMING | PST_SIM_NET_BREAKS, &faults);
		pst_sim_set_faults(w->sim, NULL, &faults);
		w->done = 0;
		for (unsigned i = 0; i < REQUESTS; i++) {
			fill(bufs[i], BLOCK, (uint8_t)i);
			submit(w, i, PST_REQUEST_WRITE, (uint64_t)i * BLOCK, bufs[i], BLOCK);
		}
		pst_sim_run_for(w->sim, SECOND / 2);
		pst_sim_heal(w->sim);
		run_until_done(w, REQUESTS, 120 * SECOND);
		memset(bufs, 0, sizeof(bufs));
		w->done = 0;
		for (unsigned i = 0; i < REQUESTS; i++)
			submit(w, i, PST_REQUEST_READ, (uint64_t)i * BLOCK, bufs[i], BLOCK);
		run_until_done(w, REQUESTS, 120 * SECOND);
		for (unsigned i = 0; i < REQUESTS; i++) {
			uint8_t want[BLOCK];

			fill(want, BLOCK, (uint8_t)i);
			assert_memory_equal(bufs[i], want, BLOCK);
		}
		world_free(w);
	}
}

static uint64_t trace_hash_of_a_run(uint64_t seed)
{
	struct world *w;
	uint8_t buf[BLOCK] = { 3 };
	uint64_t hash;

	pst_prng_init(&prng, seed);
	w = world_new(seed);
	w->tls = PST_TARGET_TLS_REQUIRED;
	w->known = &with_tls;
	w->config.keys = &tls_alone;
	target_start(w);
	assert_int_equal(session_open(w), PST_OK);
	assert_int_equal(do_one(w, PST_REQUEST_WRITE, 0, buf, BLOCK), PST_OK);
	hash = pst_sim_trace_hash(w->sim);
	world_free(w);
	return hash;
}

/* A run over TLS can be replayed, too. */
static void the_same_seed_has_the_same_trace(void **state)
{
	(void)state;
	assert_true(trace_hash_of_a_run(5) == trace_hash_of_a_run(5));
	assert_true(trace_hash_of_a_run(5) != trace_hash_of_a_run(6));
}

struct removal {
	struct pst_subsystem_remove_op op;
	bool done;
};

static void on_removed(struct pst_subsystem_remove_op *op)
{
	pst_container_of(op, struct removal, op)->done = true;
}

static bool is_removed(void *ctx)
{
	return ((struct removal *)ctx)->done;
}

/* A closing alert that can't leave, since the host takes nothing any more, holds nobody up for long. */
static void a_goodbye_that_can_not_leave_is_not_waited_for(void **state)
{
	static uint8_t bufs[16][1 << 20];
	struct removal removal = { .op.done = on_removed };
	struct world *w = world_new(9);
	struct pst_sim_faults narrow = { .net_window_bytes = 4096 };

	(void)state;
	w->tls = PST_TARGET_TLS_REQUIRED;
	w->known = &with_tls;
	w->config.keys = &tls_alone;
	target_start(w);
	assert_int_equal(session_open(w), PST_OK);
	pst_sim_set_faults(w->sim, NULL, &narrow);
	for (unsigned i = 0; i < PST_ARRAY_COUNT(bufs); i++)
		submit(w, i, PST_REQUEST_READ, 0, bufs[i], sizeof(bufs[i]));
	pst_sim_run_for(w->sim, SECOND / 1000);
	pst_sim_partition(w->target_node, w->host_node, true);
	pst_sim_run_for(w->sim, SECOND / 100);
	pst_subsystem_remove(w->subsystem, &removal.op);
	pst_sim_run_for(w->sim, SECOND / 20);
	assert_false(removal.done); /* so there was something that could not leave */
	assert_true(pst_sim_run_until(w->sim, is_removed, &removal, SECOND / 10));
	pst_sim_heal(w->sim);
	world_free(w);
}

/* Discovery is over TLS as well, with a key for its own name. */
static void discovery_is_over_tls(void **state)
{
	struct world *w = world_new(70);
	size_t count;

	(void)state;
	w->tls = PST_TARGET_TLS_REQUIRED;
	w->known = &with_tls;
	w->config.keys = &tls_alone;
	w->config.discovery = true;
	snprintf(w->config.subnqn, sizeof(w->config.subnqn), "nqn.2014-08.org.nvmexpress.discovery");
	target_start(w);
	assert_int_equal(session_open(w), PST_OK);
	assert_string_equal(pst_session_entries(w->session, &count)[0].subnqn, NQN);
	assert_int_equal(count, 1);
	world_free(w);
}

int main(void)
{
	static RAND_METHOD method = { .bytes = seeded_bytes, .pseudorand = seeded_bytes, .status = seeded_status };
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(who_gets_in),
		cmocka_unit_test(keys_change_live),
		cmocka_unit_test(network_faults_lose_nothing),
		cmocka_unit_test(the_same_seed_has_the_same_trace),
		cmocka_unit_test(a_goodbye_that_can_not_leave_is_not_waited_for),
		cmocka_unit_test(discovery_is_over_tls),
	};

	pst_prng_init(&prng, 1);
	if (RAND_set_rand_method(&method) != 1)
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}

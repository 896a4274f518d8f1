/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The course of one seed: build the system without faults; let the hosts work while the network misbehaves, disks are
 * slow, and the storage process is killed or its machine loses power (also while it recovers); then end all faults and
 * demand that every request completes, that every volume reads as the oracle says, and that all can be closed.
 */
#include "seeds.h"
#include "system.h"

#include <stdlib.h>
#include <string.h>

void system_fail(struct system *sys, const char *fmt, ...)
{
	va_list args;

	if (sys->failed)
		return;
	sys->failed = true;
	fprintf(stderr, "at %.6f s: ", (double)pst_sim_now_ns(sys->sim) / 1e9);
	va_start(args, fmt);
	vfprintf(stderr, fmt, args);
	va_end(args);
	fputc('\n', stderr);
}

/* ---- Conditions ---- */

static bool is_up(void *ctx)
{
	struct system *sys = ctx;

	return sys->failed || storage_up(sys);
}

static bool is_down(void *ctx)
{
	struct system *sys = ctx;

	return sys->failed || !sys->storage;
}

static bool all_connected(void *ctx)
{
	struct system *sys = ctx;

	for (uint32_t i = 0; i < sys->client_count; i++)
		if (!client_connected(sys->clients[i]))
			return sys->failed;
	return true;
}

static bool all_idle(void *ctx)
{
	struct system *sys = ctx;

	for (uint32_t i = 0; i < sys->client_count; i++)
		if (!client_idle(sys->clients[i]))
			return sys->failed;
	return sys->ops_left == 0 || sys->failed;
}

static bool all_gone(void *ctx)
{
	struct system *sys = ctx;

	for (uint32_t i = 0; i < sys->client_count; i++)
		if (!client_gone(sys->clients[i]))
			return sys->failed;
	return true;
}

static bool must(struct system *sys, pst_sim_predicate *predicate, const char *what)
{
	if (!pst_sim_run_until(sys->sim, predicate, sys, 120 * SECOND))
		system_fail(sys, "no progress: not %s after 120 s without faults", what);
	return !sys->failed;
}

/* ---- Building ---- */

static void system_new(struct system *sys, uint64_t seed, FILE *trace)
{
	memset(sys, 0, sizeof(*sys));
	sys->sim = pst_sim_new(seed);
	sys->trace = trace;
	pst_sim_set_trace(sys->sim, trace);
	sys->with_store = SIM_WITH_STORE;
	sys->shards = 1 + (uint32_t)pst_sim_rand_below(sys->sim, 3);
	sys->volume_count = 1 + (uint32_t)pst_sim_rand_below(sys->sim, VOLUMES_MAX);
	for (uint32_t i = 0; i < sys->volume_count; i++) {
		struct system_volume *v = &sys->volumes[i];

		memset(v->uuid, 0x10 + (int)i, sizeof(v->uuid));
		pst_host_nqn_format(v->uuid, v->nqn);
		v->block_count = 1 + pst_sim_rand_below(sys->sim, VOLUME_BLOCKS_MAX);
		v->oracle = oracle_new(i + 1, v->block_count);
	}
	sys->storage_node = pst_sim_node_new(sys->sim, "storage");
	memset(sys->ana, PST_ANA_OPTIMIZED, sizeof(sys->ana));
}

static bool system_start(struct system *sys)
{
	storage_start(sys);
	if (!must(sys, is_up, "serving at first"))
		return false;
	sys->client_count = sys->volume_count + (uint32_t)pst_sim_rand_below(sys->sim, 3);
	for (uint32_t i = 0; i < sys->client_count; i++) {
		char name[16];

		snprintf(name, sizeof(name), "host%u", i);
		/* Every volume has a host; some have two. */
		sys->clients[i] = client_start(sys, pst_sim_node_new(sys->sim, name), i % sys->volume_count);
	}
	return must(sys, all_connected, "connected at first");
}

/* ---- Trouble ---- */

static void system_restart_storage(struct system *sys)
{
	if (!pst_sim_node_on(sys->storage_node))
		pst_sim_power_on(sys->storage_node);
	if (!sys->storage)
		storage_start(sys);
}

static void system_crash(struct system *sys, bool power)
{
	if (!pst_sim_node_on(sys->storage_node))
		return;
	sys->storage = NULL;
	if (power) {
		pst_sim_power_off(sys->storage_node);
		sys->power_losses++;
		sys->tells++;
		for (uint32_t i = 0; i < sys->volume_count; i++)
			oracle_power_loss(sys->volumes[i].oracle);
	} else {
		pst_sim_kill(sys->storage_node);
		sys->tells += sys->power_losses > 0;
	}
}

static void system_change_access(struct system *sys)
{
	static const enum pst_ana_state states[] = { PST_ANA_OPTIMIZED,       PST_ANA_OPTIMIZED,
						     PST_ANA_NON_OPTIMIZED,   PST_ANA_INACCESSIBLE,
						     PST_ANA_PERSISTENT_LOSS, PST_ANA_CHANGE };

	storage_set_ana(sys, (uint32_t)pst_sim_rand_below(sys->sim, PORTS), (uint32_t)pst_sim_rand_below(sys->sim, 2),
			states[pst_sim_rand_below(sys->sim, PST_ARRAY_COUNT(states))]);
}

static void system_disturb(struct system *sys, bool crashes)
{
	struct pst_sim_node *first = sys->storage_node;

	switch (pst_sim_rand_below(sys->sim, 9)) {
	case 0:
	case 1:
		if (crashes)
			system_crash(sys, false);
		break;
	case 2:
		if (crashes)
			system_crash(sys, true);
		break;
	case 3: {
		struct pst_sim_node *host = client_node(sys->clients[pst_sim_rand_below(sys->sim, sys->client_count)]);

		pst_sim_partition(first, host, pst_sim_rand_below(sys->sim, 2));
		break;
	}
	case 4:
	case 5:
	case 6:
		system_change_access(sys);
		break;
	default:
		break; /* only time */
	}
}

static void system_trouble(struct system *sys)
{
	bool crashes = sys->with_store && pst_sim_rand_below(sys->sim, 4);
	struct pst_sim_faults faults;

	pst_sim_faults_swarm(sys->sim, PST_SIM_HARMLESS, &faults);
	pst_sim_set_faults(sys->sim, NULL, &faults);
	sys->ops_left = 100 + pst_sim_rand_below(sys->sim, 500);
	for (uint32_t i = 0; i < sys->client_count; i++)
		client_work(sys->clients[i]);
	for (int turn = 0; turn < 12 && !sys->failed; turn++) {
		uint64_t span_ns = (uint64_t)1000000 << pst_sim_rand_below(sys->sim, 12);

		pst_sim_run_for(sys->sim, pst_sim_rand_below(sys->sim, span_ns) + 1);
		system_disturb(sys, crashes);
		/* Sometimes it stays down for a while. */
		if (pst_sim_rand_below(sys->sim, 3) == 0)
			pst_sim_run_for(sys->sim, pst_sim_rand_below(sys->sim, 4 * SECOND));
		system_restart_storage(sys);
	}
}

/* ---- After ---- */

static bool system_settle(struct system *sys)
{
	pst_sim_heal(sys->sim);
	system_restart_storage(sys);
	storage_open_paths(sys);
	sys->ops_left = PST_MIN(sys->ops_left, 100u); /* what was not begun yet must work now */
	if (!must(sys, is_up, "serving") || !must(sys, all_idle, "all requests complete"))
		return false;
	for (uint32_t i = 0; i < sys->client_count; i++)
		client_verify(sys->clients[i]);
	return must(sys, all_idle, "all volumes read");
}

static bool system_end(struct system *sys)
{
	for (uint32_t i = 0; i < sys->client_count; i++)
		client_stop(sys->clients[i]);
	if (!must(sys, all_gone, "all sessions closed"))
		return false;
	storage_stop(sys);
	return must(sys, is_down, "storage stopped");
}

static bool system_seed(uint64_t seed, FILE *trace, struct seed_result *ret_result)
{
	struct pst_sim_stats stats;
	static struct system sys;
	bool ok;

	system_new(&sys, seed, trace);
	ok = system_start(&sys);
	if (ok) {
		system_trouble(&sys);
		ok = !sys.failed && system_settle(&sys) && system_end(&sys);
	}
	pst_sim_stats(sys.sim, &stats);
	*ret_result = (struct seed_result){
		.trace_hash = pst_sim_trace_hash(sys.sim),
		.counters = { stats.steps, sys.reads, sys.writes, sys.flushes, sys.verified_blocks, stats.kills,
			      stats.power_losses, stats.torn, stats.resets, sys.reconnects, stats.splits,
			      sys.flush_failures, sys.ana_changes },
	};
	pst_sim_free(sys.sim);
	return ok;
}

int main(int argc, char **argv)
{
	static const char *const names[] = { "steps",  "reads",        "writes",         "flushes", "verified blocks",
					     "kills",  "power losses", "torn",           "resets",  "reconnects",
					     "splits", "lost flushes", "access changes", NULL };

	return seeds_main(argc, argv, system_seed, names);
}

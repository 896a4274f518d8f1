/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What operators see of the daemon: counters and histograms of every volume and pool, collected on the home shard in
 * small portions (a few volumes per turn, so that collecting never stalls the data path) and written as Prometheus text
 * or JSON on any other thread.
 */
#ifndef PST_CONTROL_STATS_H
#define PST_CONTROL_STATS_H

#include "control/catalog.h"
#include "control/policy.h"

struct pst_stats_volume {
	char name[PST_NAME_MAX + 1], tenant[PST_NAME_MAX + 1], profile[PST_NAME_MAX + 1], pool[PST_NAME_MAX + 1];
	uint64_t size_bytes, used_bytes, mapped_bytes, own_bytes, snapshot_bytes, snapshots, hosts;
	struct pst_subsystem_stats io;
	struct pst_qos_stats qos;
};

/* All tasks of one kind in a pool together: the set of labels is bounded. */
struct pst_stats_task {
	uint64_t running, done_bytes, total_bytes, errors;
};

struct pst_stats {
	uint64_t now_ns, wall_ns; /* when collecting ended */
	struct pst_stats_volume *volumes;
	size_t volume_count, volume_capacity;
	struct {
		char name[PST_NAME_MAX + 1];
		const char *engine;
		struct pst_pool_stats stats;
		struct pst_stats_task tasks[PST_TASK_KINDS];
	} pools[PST_CATALOG_POOLS_MAX];
	unsigned pool_count;
	bool site;          /* pools and events, too */
	uint64_t events[4]; /* by level */
};

struct pst_stats_op {
	struct pst_env *env; /* the home shard; set by the caller, as are catalog and done */
	struct pst_catalog *catalog;
	const char *tenant; /* whose volumes alone, and nothing of the site; NULL: all. The caller's until done */
	void (*done)(struct pst_stats_op *op); /* on the home shard */
	pst_err err;
	struct pst_stats stats; /* result; the caller's, to end with pst_stats_done */
	struct pst_post post;
	struct pst_catalog_op refresh;
	char after[PST_NAME_MAX + 1];
};

/* Any thread. */
void pst_stats_collect(struct pst_stats_op *op);
void pst_stats_done(struct pst_stats *stats);

/* Malloced text, NULL without memory. @io: name of the environment's back end. */
char *pst_stats_prometheus(const struct pst_stats *stats, const char *version, const char *io);
json_t *pst_stats_json(const struct pst_stats *stats);

#endif

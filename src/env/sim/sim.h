/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The simulator: an implementation of env.h in which one thread, one seed and a virtual clock drive any number of
 * machines with their processes, disks and network (docs/simulator.md; what can go wrong: docs/fault-model.md). Same
 * seed and same calls, same run: pst_sim_trace_hash tells.
 *
 * A node is a machine running at most one process; the process has one or more shards (struct pst_env). When a node is
 * killed or loses power, its shards, timers, posts and operations vanish without a completion: whatever the code under
 * test had allocated is leaked on purpose, so run each seed in a child process (tests/sim/seeds.h) where that adds up.
 *
 * Everything here is called from outside of the simulated code (between steps), except where it says otherwise.
 */
#ifndef PST_ENV_SIM_SIM_H
#define PST_ENV_SIM_SIM_H

#include "env/env.h"

#include <stdio.h>

struct pst_sim;
struct pst_sim_node;

#define PST_SIM_SECTOR_BYTES 512u

struct pst_sim *pst_sim_new(uint64_t seed);
void pst_sim_free(struct pst_sim *sim); /* with all nodes; NULL is allowed */

/* Write every event and log line there; NULL (the default): nowhere. */
void pst_sim_set_trace(struct pst_sim *sim, FILE *trace);

/* Digest of everything that has happened: order, times, transferred bytes. */
uint64_t pst_sim_trace_hash(const struct pst_sim *sim);

uint64_t pst_sim_now_ns(const struct pst_sim *sim);

/* For workloads and oracles, so that one seed decides everything. From anywhere. */
uint64_t pst_sim_rand(struct pst_sim *sim);
uint64_t pst_sim_rand_below(struct pst_sim *sim, uint64_t bound);
bool pst_sim_chance(struct pst_sim *sim, uint32_t ppm); /* in millionths */

/* ---- Machines ---- */

/* Powered on, with an empty disk. @name is for traces and is copied. The first node is 10.0.0.1, and so on. */
struct pst_sim_node *pst_sim_node_new(struct pst_sim *sim, const char *name);
const char *pst_sim_node_ip(const struct pst_sim_node *node);
bool pst_sim_node_on(const struct pst_sim_node *node);

/* One shard of the node's process, which begins with the first. @file_depth: as in pst_env_config. */
struct pst_env *pst_sim_env_new(struct pst_sim_node *node, uint32_t file_depth);

/*
 * SIGKILL: what had reached the kernel stays, each operation in flight is done, partly done or not done; the kernel
 * closes the sockets, so peers are told.
 */
void pst_sim_kill(struct pst_sim_node *node);

/*
 * The plug: of what was not flushed any subset survives, by pieces of disk_tear_bytes where the faults say so. Peers
 * are not told. The node can run a process again after pst_sim_power_on, with another boot id.
 */
void pst_sim_power_off(struct pst_sim_node *node);
void pst_sim_power_on(struct pst_sim_node *node);

/* No packets between @a and @b while @cut. */
void pst_sim_partition(struct pst_sim_node *a, struct pst_sim_node *b, bool cut);

/* Wall clock of the node, relative to before; the monotonic clock never jumps. */
void pst_sim_wall_jump(struct pst_sim_node *node, int64_t by_ns);

/* ---- Faults ---- */

/* Chances are in millionths, per operation or packet. All zero: nothing fails, power loss keeps or loses whole writes.
 */
struct pst_sim_faults {
	/* disk, time */
	uint64_t disk_ns_min, disk_ns_max; /* an ordinary operation; 0: 20 us to 200 us */
	uint32_t disk_slow_ppm;            /* an operation takes up to disk_slow_ns_max */
	uint64_t disk_slow_ns_max;
	uint32_t disk_stall_ppm; /* all operations of the disk wait up to disk_stall_ns_max */
	uint64_t disk_stall_ns_max;
	/* disk, power loss and kill */
	uint32_t disk_tear_bytes;   /* unflushed writes survive by pieces of 512 or 4096; 0: as a whole or not at all */
	uint32_t disk_keep_percent; /* of unflushed writes that survive: up to 100; more: another share each time */
	bool disk_discard_garbage;  /* discarded ranges read as garbage */
	/* disk, errors that are reported */
	uint32_t disk_read_error_ppm, disk_write_error_ppm;
	uint32_t disk_flush_error_ppm; /* what it covered may be lost, and no later flush brings it back */
	uint32_t disk_flush_lie_ppm;   /* this flush succeeds and does nothing: only a later, honest one does */
	uint32_t disk_latent_ppm;      /* a sector of this write can't be read until it is written again */
	/* disk, errors that are not reported */
	uint32_t disk_rot_ppm;       /* a bit of this write flips */
	uint32_t disk_lost_ppm;      /* this write never happens */
	uint32_t disk_misdirect_ppm; /* this write goes to another place */
	uint32_t disk_misread_ppm;   /* this read comes from another place */
	uint64_t disk_corrupt_from;  /* the four above, and latent: only for offsets in [from, to); to 0: everywhere */
	uint64_t disk_corrupt_to;
	/* network */
	uint64_t net_ns_min, net_ns_max; /* one way; 0: 10 us to 100 us */
	uint32_t net_window_bytes;       /* one direction holds so much; 0: 256 KiB */
	uint32_t net_split_ppm;          /* a transfer is cut at a random byte */
	uint32_t net_stall_ppm;          /* a direction stops for up to net_stall_ns_max */
	uint64_t net_stall_ns_max;
	uint32_t net_reset_ppm;  /* the connection breaks for both ends */
	uint32_t net_refuse_ppm; /* a connect is refused though somebody listens */
};

/* Classes for swarm testing: a seed gets a random subset of those allowed, each with random strength. */
enum {
	PST_SIM_DISK_TIMING = 1,
	PST_SIM_DISK_TEARS = 2,
	PST_SIM_DISK_ERRORS = 4,     /* reported, transient */
	PST_SIM_DISK_CORRUPTION = 8, /* latent errors, rot, lost and misdirected */
	PST_SIM_NET_TIMING = 16,     /* splits, small windows, latency, stalls */
	PST_SIM_NET_BREAKS = 32,     /* resets, refusals */
	PST_SIM_DISK_LIES = 64,      /* flushes that do nothing */
	PST_SIM_HARMLESS = PST_SIM_DISK_TIMING | PST_SIM_DISK_TEARS | PST_SIM_NET_TIMING | PST_SIM_NET_BREAKS,
};

void pst_sim_faults_swarm(struct pst_sim *sim, unsigned allowed, struct pst_sim_faults *ret_faults);
char *pst_sim_faults_describe(const struct pst_sim_faults *faults, char *buf, size_t size);

/* For a node's disk and what it sends; NULL @node: all nodes, also those to come. */
void pst_sim_set_faults(struct pst_sim *sim, struct pst_sim_node *node, const struct pst_sim_faults *faults);

/* No more faults anywhere: chances to zero, partitions and stalls over, machines that are off stay so. */
void pst_sim_heal(struct pst_sim *sim);

/* ---- Disks by hand: @path as the code under test opened it. False if there is no such file or range. ---- */

bool pst_sim_disk_peek(struct pst_sim_node *node, const char *path, uint64_t offset, void *buf, size_t len);
/* Changes medium and cache, behind everybody's back. */
bool pst_sim_disk_poke(struct pst_sim_node *node, const char *path, uint64_t offset, const void *buf, size_t len);
/* Reads of these sectors fail until they are written. */
bool pst_sim_disk_damage(struct pst_sim_node *node, const char *path, uint64_t offset, size_t len);
uint64_t pst_sim_disk_size(struct pst_sim_node *node, const char *path);

struct pst_sim_stats {
	uint64_t steps, reads, writes, flushes, flush_errors, flush_lies, power_losses, kills, torn, lost, misdirected,
	    rotten, latent;
	uint64_t connects, resets, splits, stalls;
};

/* What has happened so far: a run that injected nothing tested nothing. */
void pst_sim_stats(const struct pst_sim *sim, struct pst_sim_stats *ret_stats);

/* ---- Running ---- */

/* One event. False if there is none left. */
bool pst_sim_step(struct pst_sim *sim);

/* Run for so long, or to the end of all events; time then stands at the end of the span. */
void pst_sim_run_for(struct pst_sim *sim, uint64_t span_ns);

/* True as soon as @predicate(ctx) holds; false after @limit_ns more, or when nothing is left to happen. */
typedef bool pst_sim_predicate(void *ctx);
bool PST_MUST_USE pst_sim_run_until(struct pst_sim *sim, pst_sim_predicate *predicate, void *ctx, uint64_t limit_ns);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Inside the simulator: sim.c has machines, shards, time and the choice of the next event; disk.c the media; file.c the
 * operations on them; net.c connections. All of it is one thread.
 *
 * Memory: objects that simulated code may still point to when its node dies (envs, files, streams, listeners) stay
 * allocated on lists of the sim until pst_sim_free.
 */
#ifndef PST_ENV_SIM_INTERNAL_H
#define PST_ENV_SIM_INTERNAL_H

#include "base/prng.h"
#include "env/sim/sim.h"
#include "env/timers.h"

#define SIM_NODES_MAX 64u

struct pst_sim {
	struct pst_prng prng;
	uint64_t now_ns;
	uint64_t hash;
	FILE *trace;
	struct pst_timers events;
	struct pst_sim_node *nodes[SIM_NODES_MAX];
	uint32_t node_count;
	bool cut[SIM_NODES_MAX][SIM_NODES_MAX];
	struct pst_sim_faults faults; /* of nodes to come */
	struct pst_sim_stats stats;
	struct pst_list envs, files, streams, listeners, conns; /* all ever made, for pst_sim_free */
	struct pst_env *running;                                /* whose code is on the stack */
	uint32_t next_id;
};

struct pst_sim_node {
	struct pst_sim *sim;
	char name[32];
	char ip[16];
	uint32_t index;
	bool on;
	uint32_t boots;
	int64_t wall_offset_ns;
	struct pst_sim_faults faults;
	struct pst_list disks;
	struct pst_list live_envs;
	uint16_t next_port;
};

struct pst_env {
	struct pst_sim *sim;
	struct pst_sim_node *node;
	uint32_t id;
	bool dead;
	struct pst_list all_node, live_node;
	struct pst_timers timers;
	struct pst_post *posts_first, **posts_last;
	struct pst_timer posts_event; /* on sim->events */
	uint32_t file_depth, files_inflight;
	struct pst_list file_waiting, file_ops; /* waiting: pst_file_op; ops: struct sim_file_op */
	struct pst_list live_files, live_streams, live_listeners, connecting;
};

/* One line of trace, and into the hash; @numbers are what makes this event different from others. */
void sim_trace(struct pst_sim *sim, const struct pst_env *env, const char *what, uint64_t a, uint64_t b, uint64_t c);

/* Make sure that an allocation worked: the simulator itself is not under test. */
void *sim_alloc(size_t bytes);

uint64_t sim_between(struct pst_sim *sim, uint64_t min, uint64_t max);
void sim_arm(struct pst_sim *sim, struct pst_timer *event, uint64_t after_ns);

/* Bracket calls into simulated code. */
void sim_enter(struct pst_env *env);
void sim_leave(struct pst_env *env);

/* ---- disk.c: media ---- */

struct sim_disk {
	struct pst_list node;
	struct pst_sim_node *machine;
	char *path;
	uint64_t size_bytes;
	struct sim_image *cache;   /* what reads see */
	struct sim_image *medium;  /* what survives power loss for certain */
	struct pst_list unflushed; /* struct sim_write, oldest first */
	uint64_t next_done;
	uint64_t stalled_until_ns;
	struct pst_list damaged; /* struct sim_damage */
	bool locked;
	uint32_t opens;
};

struct sim_write {
	struct pst_list node;
	uint64_t offset, len;
	uint8_t *data; /* NULL: zeros */
	uint64_t done; /* when its completion was delivered, counted by next_done; 0: not yet */
};

struct sim_disk *sim_disk_find(struct pst_sim_node *machine, const char *path);
struct sim_disk *sim_disk_new(struct pst_sim_node *machine, const char *path);
void sim_disk_free(struct sim_disk *disk);
void sim_disk_resize(struct sim_disk *disk, uint64_t size_bytes);

/* False: a damaged sector is in the way. */
bool sim_disk_read(struct sim_disk *disk, uint64_t offset, void *buf, uint64_t len);

/* Applies to the cache; the record waits for a flush. @data NULL: zeros. */
struct sim_write *sim_disk_write(struct sim_disk *disk, uint64_t offset, const void *data, uint64_t len);
void sim_disk_write_done(struct sim_disk *disk, struct sim_write *write);

/* What had been delivered as done when @covers was taken from next_done is on the medium now. */
void sim_disk_flush(struct sim_disk *disk, uint64_t covers);
/* The same, but the device failed: each part may be on the medium, and is forgotten either way. */
void sim_disk_flush_failed(struct sim_disk *disk, uint64_t covers);
void sim_disk_power_loss(struct sim_disk *disk);
void sim_disk_damage(struct sim_disk *disk, uint64_t offset, uint64_t len);

/* The ranges of a write that happen when it is cut off in the middle, by pieces of disk_tear_bytes. */
void sim_disk_write_partly(struct sim_disk *disk, uint64_t offset, const void *data, uint64_t len);

/* ---- file.c, net.c: what happens to a dying process ---- */

void sim_files_kill(struct pst_env *env, bool power);
void sim_streams_kill(struct pst_env *env, bool power);
void sim_files_free(struct pst_sim *sim);
void sim_net_free(struct pst_sim *sim);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The simulation of the store, in five files: sim-store.c has lives and faults, sim-store-io.c requests to volumes,
 * sim-store-control.c operations on the pool, sim-store-versions.c snapshots, clones, rollbacks and differences,
 * sim-store-space.c growth, reservations and pauses.
 *
 * Functions that return bool return false when the life ends here, in the middle of something, or the test has failed.
 */
#ifndef TESTS_SIM_SIM_STORE_H
#define TESTS_SIM_SIM_STORE_H

#include "oracle.h"
#include "seeds.h"

#include "env/sim/sim.h"
#include "store/store.h"

#define VERSIONS 10u
#define VOLUMES 3u /* that begin empty; clones come on top */
#define OPS 8u
#define KEYS 3u
#define MEMBERS 3u
#define GROUPS 512u
#define IO_BLOCKS_MAX 24u
#define LONG_NS ((uint64_t)120 * 1000 * 1000 * 1000)
#define PATH "pool"
#define DEVICES 4u

enum {
	C_LIVES,
	C_WRITES,
	C_READS,
	C_FLUSHES,
	C_NOSPACE,
	C_POWER,
	C_KILLS,
	C_CLOSES,
	C_LOST,
	C_DELETES,
	C_RESIZES,
	C_ERRORS,
	C_ROT,
	C_FLUSH_ERRORS,
	C_LIES,
	C_SNAPSHOTS,
	C_CLONES,
	C_ROLLBACKS,
	C_DIFFS,
	C_IMAGES,
	C_EMPTIED,
	C_CHECKS,
	C_GROWTHS,
	C_TASKS,
};

enum certainty { NO, MAYBE, YES };

/* A volume or snapshot, or a place where one can come to be. */
struct vol {
	uint32_t id; /* family in the upper 16 bits (oracle.h) */
	bool snapshot;
	bool may_pause; /* in a full pool */
	enum certainty exists, lost;
	bool said;                       /* a flush since the open has said whether writes were lost */
	bool opened;                     /* in this life, or in one before that no recovery has followed */
	uint64_t blocks, blocks_pending; /* size; what a resize or rollback under way wants */
	uint8_t uuid[16];
	struct oracle *oracle;
	struct pst_volume *volume;
	uint32_t group;     /* snapshots taken at once are all there or none */
	struct vol *source; /* while it is being taken */
	struct oracle_snapshot *taking;
};

struct op {
	struct world *w;
	struct vol *v;
	bool busy;
	struct pst_io io;
	struct iovec iov[3];
	uint8_t *memory, *buf;
	struct oracle_read *read;
	struct oracle_flush *flush;
};

struct world {
	struct pst_sim *sim;
	struct pst_sim_node *node;
	struct pst_env *env;
	struct seed_result *result;
	uint64_t max_blocks;
	bool failed;
	bool corrupting; /* errors are fair */
	bool rots, lies, strikes, writes_fail;
	bool lenient; /* anything old may come back */
	bool versions;
	bool grows;
	bool moves;         /* blocks may lie elsewhere than they were written */
	bool stopped;       /* in this life the pool has said that it takes no more writes */
	bool calm;          /* lives are not cut short */
	bool growth_failed; /* in this life a write of a growth has failed: the pool may take no more writes */
	struct vol vols[VERSIONS];
	struct op ops[OPS];
	struct pst_pool *pool;
	struct pst_pool_op pool_op;
	struct pst_store_op store_op;
	struct pst_volume_close_op close_op;
	struct pst_snapshot_member members[MEMBERS];
	struct pst_range ranges[8];
	unsigned keys[KEYS], keys_pending[KEYS]; /* values; 0: none */
	char key_buf[KEYS][16];
	unsigned value, key_pending;
	bool done; /* of the control operation under way */
	uint32_t next_id, next_family, next_group;
	enum certainty groups[GROUPS]; /* what became of them */
	unsigned devices;
	char device_paths[DEVICES + 1][24];
	uint64_t size_bytes, data_bytes; /* as last seen */
	uint64_t empty_used_bytes;       /* of a pool without volumes; 0: not known yet */
};

/* sim-store.c */
void fail(struct world *w, const char *fmt, ...) PST_PRINTF(2, 3);
uint64_t below(struct world *w, uint64_t bound);
bool chance(struct world *w, unsigned percent);
bool flush_failed(const struct world *w);
bool wait_done(struct world *w, const char *what);

/* sim-store-io.c */
void request(struct world *w, struct op *op);
void ops_drain(struct world *w);
void ops_forget(struct world *w);
void verify(struct world *w, struct vol *v);

/* sim-store-control.c: prepare, fill in the rest, pst_pool_submit; or all at once */
void pool_prepare(struct world *w, enum pst_pool_op_kind kind, const struct vol *v, uint64_t blocks);
void pool_submit(struct world *w, enum pst_pool_op_kind kind, const struct vol *v, uint64_t blocks);
bool maybe_cut(struct world *w);
void vol_init(struct world *w, struct vol *v, uint32_t family);
struct vol *vol_free_place(struct world *w);
bool volume_open(struct world *w, struct vol *v);
bool volume_close(struct world *w, struct vol *v);
bool volume_delete(struct world *w, struct vol *v);
bool control(struct world *w);
void record_seen(void *ctx, const char *key, const void *value, uint32_t value_bytes);

/* sim-store-versions.c */
bool version_control(struct world *w);
/* The process has died, or the power: snapshots that were being taken are there or not. */
void snapshots_end(struct world *w, bool power_lost);
/* A snapshot of unknown fate has turned out to be there or not. */
void snapshot_found(struct world *w, struct vol *v, bool there);

/* sim-store-space.c */
bool space_control(struct world *w);
void space_seen(struct world *w);
bool space_image_read(void *ctx, uint32_t device, uint64_t block, void *buf);

#endif

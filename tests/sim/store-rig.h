/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One store on one simulated machine, driven step by step by tests that look inside (tests/sim/test-store-*.c). Calls
 * wait for their end, in virtual time, and fail the test if it does not come.
 */
#ifndef TESTS_SIM_STORE_RIG_H
#define TESTS_SIM_STORE_RIG_H

#include "env/sim/sim.h"
#include "store/internal.h"
#include "store/store.h"

#define RIG_SECOND ((uint64_t)1000000000)
#define RIG_PATH "pool"
#define RIG_VOLUMES 12u

struct rig {
	struct pst_sim *sim;
	struct pst_sim_node *node;
	struct pst_env *env;
	struct pst_store_config config;
	struct pst_store_op store_op;
	struct pst_pool_op op; /* the last one that rig_pool has run */
	struct pst_pool *pool;
	struct pst_volume *volumes[RIG_VOLUMES]; /* open ones */
	struct pst_volume_close_op close;
	struct pst_io io;
	struct iovec iov;
	bool done, io_done, pool_done; /* whatever was begun last; the last request, operation */
	char events[8192];             /* since the last start */
};

/* Formats a pool; no process runs yet. */
struct rig *rig_new(uint64_t seed, uint64_t size_bytes, uint32_t partitions);
void rig_free(struct rig *r);

/* A process that opens the pool, and its volumes that exist. */
void rig_start(struct rig *r);
void rig_open_begin(struct rig *r); /* the pool only */
pst_err rig_open(struct rig *r);
void rig_stop(struct rig *r); /* closes all in order */
void rig_kill(struct rig *r);
void rig_power(struct rig *r); /* off and on */

static inline struct store *rig_store(struct rig *r)
{
	return pst_container_of(r->pool, struct store, pool);
}

/* Volumes are numbered from 0; their uuid is 1 + that, then zeros. */
void rig_uuid(unsigned volume, uint8_t ret_uuid[16]);
void rig_create(struct rig *r, unsigned volume, uint64_t blocks); /* and opens it */
pst_err rig_volume_open(struct rig *r, unsigned volume);
void rig_close(struct rig *r, unsigned volume);
void rig_pool_begin(struct rig *r, struct pst_pool_op op);
pst_err rig_pool(struct rig *r, struct pst_pool_op op);

void rig_io_begin(struct rig *r, unsigned volume, enum pst_io_kind kind, uint64_t lba, uint64_t count, void *buf);
pst_err rig_io(struct rig *r, unsigned volume, enum pst_io_kind kind, uint64_t lba, uint64_t count, void *buf);
/* Blocks that are filled with one byte. */
pst_err rig_fill(struct rig *r, unsigned volume, uint64_t lba, uint64_t count, uint8_t byte);
/* Reads one block, which must be all of one byte, and returns that. */
uint8_t rig_byte(struct rig *r, unsigned volume, uint64_t lba);

/* What the disk of the pool's first device holds now, with the rig as @ctx: a check_image_read_fn. */
bool rig_read_block(void *ctx, uint32_t device, uint64_t block, void *buf);

void rig_finish(struct rig *r); /* until what was begun last is done */

#endif

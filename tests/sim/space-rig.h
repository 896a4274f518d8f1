/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A pool of one small device in the simulator (store-rig.h) with one volume that is larger than it, whose contents are
 * known: for tests of the pool's space.
 */
#ifndef TESTS_SIM_SPACE_RIG_H
#define TESTS_SIM_SPACE_RIG_H

#include "store-rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define B PST_BLOCK_BYTES
#define DEVICE_BYTES ((uint64_t)4 << 20)
#define VOLUME_BLOCKS 3000u /* more than the pool has at first */
#define WRITE_BLOCKS 16u

struct world {
	struct rig *r;
	uint8_t uuid; /* of the volume that operations are about; the open one is the rig's first */
	const char *paths[2];
	uint8_t written[VOLUME_BLOCKS]; /* generation of each block's content; 0: a hole */
};

static inline void pool_begin(struct world *w, struct pst_pool_op op)
{
	op.uuid[0] = w->uuid;
	rig_pool_begin(w->r, op);
}

static inline pst_err pool_run(struct world *w, struct pst_pool_op op)
{
	pool_begin(w, op);
	rig_finish(w->r);
	return w->r->op.err;
}

static inline void device_add(struct world *w, const char *path)
{
	pool_begin(w, (struct pst_pool_op){ .kind = PST_POOL_DEVICE_ADD, .key = path, .size_bytes = DEVICE_BYTES });
}

static inline void grow(struct world *w, const char *path, uint64_t size_bytes)
{
	pool_begin(w, (struct pst_pool_op){ .kind = PST_POOL_GROW, .key = path, .size_bytes = size_bytes });
}

static inline pst_err start(struct world *w)
{
	return rig_open(w->r);
}

static inline void volume_open(struct world *w)
{
	assert_int_equal(pool_run(w, (struct pst_pool_op){ .kind = PST_POOL_VOLUME_OPEN }), PST_OK);
	w->r->volumes[0] = w->r->op.volume;
}

static inline struct world *world_new(uint64_t seed, uint32_t partitions)
{
	struct world *w = calloc(1, sizeof(*w));

	w->r = rig_new(seed, DEVICE_BYTES, partitions);
	w->uuid = 7;
	w->paths[0] = "elsewhere";
	w->paths[1] = "nowhere";
	w->r->config = (struct pst_store_config){
		.io_depth_max = 1024, .device_paths = w->paths, .device_path_count = 2, .space_alerts = { 80, 85, 90 }
	}; /* its reserve is over 5 % */
	assert_int_equal(start(w), PST_OK);
	assert_int_equal(
	    pool_run(w, (struct pst_pool_op){ .kind = PST_POOL_VOLUME_CREATE, .block_count = VOLUME_BLOCKS }), PST_OK);
	volume_open(w);
	return w;
}

static inline void world_free(struct world *w)
{
	rig_free(w->r);
	free(w);
}

static inline void stop(struct world *w)
{
	rig_close(w->r, 0);
	assert_int_equal(pool_run(w, (struct pst_pool_op){ .kind = PST_POOL_CLOSE }), PST_OK);
	pst_sim_kill(w->r->node);
}

/* ---- Contents ---- */

static inline void fill(uint8_t *buf, uint64_t lba, uint8_t generation)
{
	memset(buf, (int)(lba * 7 + generation * 31), B);
	memcpy(buf, &lba, sizeof(lba));
	buf[8] = generation;
}

static inline pst_err io_run(struct world *w, enum pst_io_kind kind, uint64_t lba, uint64_t count, void *buf)
{
	return rig_io(w->r, 0, kind, lba, count, buf);
}

/* PST_E_NOSPACE leaves old or new contents in each block; no others are known then. */
static inline pst_err write_blocks(struct world *w, uint64_t lba, uint64_t count, uint8_t generation)
{
	uint8_t *buf = malloc(count * B);
	pst_err err;

	for (uint64_t i = 0; i < count; i++)
		fill(buf + i * B, lba + i, generation);
	err = io_run(w, PST_IO_WRITE, lba, count, buf);
	for (uint64_t i = 0; err == PST_OK && i < count; i++)
		w->written[lba + i] = generation;
	free(buf);
	return err;
}

static inline void verify(struct world *w)
{
	uint8_t buf[B], want[B];

	for (uint64_t lba = 0; lba < VOLUME_BLOCKS; lba++) {
		if (w->written[lba] == 0)
			continue;
		assert_int_equal(io_run(w, PST_IO_READ, lba, 1, buf), PST_OK);
		fill(want, lba, w->written[lba]);
		assert_memory_equal(buf, want, B);
	}
}

/* Write from @from on to holes until the pool is full; returns the first LBA that did not go. */
static inline uint64_t fill_up(struct world *w, uint64_t from, uint8_t generation)
{
	uint64_t lba = from;
	pst_err err = PST_OK;

	while (lba < VOLUME_BLOCKS && (err = write_blocks(w, lba, 1, generation)) == PST_OK)
		lba++;
	assert_true(err == PST_OK || err == PST_E_NOSPACE);
	return lba;
}

static inline struct pst_pool_stats stats(struct world *w)
{
	struct pst_pool_stats s;

	pst_pool_stats(w->r->pool, &s);
	return s;
}

#endif

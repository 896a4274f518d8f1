/* SPDX-License-Identifier: Apache-2.0 */
/* The local engine: a pool on one file or block device, redirect on write (docs/store-format.md). */
#ifndef PST_STORE_STORE_H
#define PST_STORE_STORE_H

#include "base/limit.h"
#include "volume/pool.h"

struct pst_store_format_config {
	uint64_t size_bytes;      /* regular files: grown to this; 0: the file's or device's own size */
	uint32_t partition_count; /* 0: chosen by size, at most 64 */
};

#define PST_SPACE_ALERTS 3u

#define PST_READAHEAD_NONE UINT64_MAX

/* Limits; 0: the default. Names, defaults and ranges are in one table, config.c; docs/memory.md has it for people. */
struct pst_store_config {
	uint64_t metadata_cache_bytes; /* nodes of the map in memory */
	uint64_t readahead_bytes;      /* memory for volumes that are read in sequence, or PST_READAHEAD_NONE */
	/*
	 * Written and not flushed: at more the pool flushes by itself. After the death of the machine opening reads it
	 * all, to tell what is whole.
	 */
	uint64_t unflushed_bytes_max;
	uint32_t io_depth_max;       /* volume requests in flight inside the store; more wait */
	uint32_t pause_s;            /* the longest that a write pauses in a full pool */
	pst_pool_event_fn *on_event; /* NULL: events only go to the log */
	void *event_ctx;
	/* Percent used at which to say so, ascending; 0: none. All 0: 80, 90, 95. */
	uint8_t space_alerts[PST_SPACE_ALERTS];
	/* Where to look for further devices of the pool that are not where they were; read until the open is done. */
	const char *const *device_paths;
	uint32_t device_path_count;
};

/* The limits by name: for pst_limit_set. */
const struct pst_limit *pst_store_limits(size_t *ret_count);

struct pst_store_op {
	void (*done)(struct pst_store_op *op);
	pst_err err;
	char detail[200];      /* on error, for people: what is wrong with what, and what to do */
	struct pst_pool *pool; /* result of open */
};

/* Write a new, empty pool. PST_E_EXISTS if @path already holds one. @config is read before the call returns. */
void pst_store_format(struct pst_env *env, const char *path, const struct pst_store_format_config *config,
		      struct pst_store_op *op);

/*
 * Open with recovery. PST_E_RANGE: a limit of @config; PST_E_LOCKED: opened twice; PST_E_FORMAT: not a pool, damaged
 * superblock, or unknown incompatible feature (detail says which). Close with PST_POOL_CLOSE.
 */
void pst_store_open(struct pst_env *env, const char *path, const struct pst_store_config *config,
		    struct pst_store_op *op);

#endif

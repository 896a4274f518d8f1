/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What holds volumes: the local store (src/store, a file or block device) or memory (src/volume/ram.c). A pool belongs
 * to one shard. It also keeps the catalog's records: small named values, committed durably and atomically one at a time
 * in the log of the pool (or just kept, for ram). All calls are asynchronous and complete on the pool's shard, never
 * inside the call.
 */
#ifndef PST_VOLUME_POOL_H
#define PST_VOLUME_POOL_H

#include "volume/volume.h"

struct pst_pool;

#define PST_RECORD_KEY_MAX 255u    /* bytes, without the terminating zero */
#define PST_RECORD_VALUE_MAX 3072u /* bytes */

enum pst_pool_op_kind {
	PST_POOL_VOLUME_CREATE, /* uuid, block_count. PST_E_EXISTS; PST_E_NOSPACE */
	PST_POOL_VOLUME_DELETE, /* uuid; not open (PST_E_BUSY). Space comes back in the background, also after a crash
				 */
	PST_POOL_VOLUME_RESIZE, /* uuid, block_count; open or not. Shrinking below the highest used block: PST_E_BUSY */
	PST_POOL_VOLUME_OPEN,   /* uuid -> volume. PST_E_NOTFOUND; PST_E_BUSY if already open */
	PST_POOL_RECORD_PUT,    /* key, value, value_bytes; replaces. Durable on completion */
	PST_POOL_RECORD_DELETE, /* key; PST_E_NOTFOUND */
	PST_POOL_CLOSE,         /* volumes must be closed; flushes, marks clean; the pool is gone afterwards */
};

struct pst_pool_op {
	enum pst_pool_op_kind kind;
	uint8_t uuid[16];
	uint64_t block_count;
	const char *key;
	const void *value; /* the caller's until done */
	uint32_t value_bytes;
	void (*done)(struct pst_pool_op *op);
	pst_err err;
	struct pst_volume *volume; /* result of open */
	struct pst_list node;      /* pool's */
	uint64_t scratch[8];       /* pool's */
};

struct pst_pool_stats {
	uint64_t size_bytes, used_bytes, free_bytes;
	uint64_t metadata_cache_bytes;
	uint64_t device_read_bytes, device_written_bytes, device_flushes;
	uint64_t checksum_errors;
};

/* Called once per record, for pst_pool_records; pointers are valid during the call. */
typedef void pst_record_fn(void *ctx, const char *key, const void *value, uint32_t value_bytes);

/* Called on the pool's shard for what operators must know ("checksum_error volume=... lba=..."). */
typedef void pst_pool_event_fn(void *ctx, enum pst_log_level level, const char *text);

struct pst_pool_ops {
	const char *name; /* "ram", "store" */
	void (*submit)(struct pst_pool *pool, struct pst_pool_op *op);
	/* Synchronous, from memory: all records whose key begins with @prefix, in key order. */
	void (*records)(struct pst_pool *pool, const char *prefix, pst_record_fn *fn, void *ctx);
	void (*stats)(struct pst_pool *pool, struct pst_pool_stats *ret_stats);
};

struct pst_pool {
	const struct pst_pool_ops *ops;
	struct pst_env *env;
	uint8_t uuid[16];
};

void pst_pool_submit(struct pst_pool *pool, struct pst_pool_op *op);
void pst_pool_records(struct pst_pool *pool, const char *prefix, pst_record_fn *fn, void *ctx);
void pst_pool_stats(struct pst_pool *pool, struct pst_pool_stats *ret_stats);

/* The memory pool: volumes are thin, in 4096-byte blocks allocated on first write; PST_E_NOSPACE beyond @size_bytes. */
pst_err PST_MUST_USE pst_ram_pool_new(struct pst_env *env, uint64_t size_bytes, struct pst_pool **ret_pool);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What holds volumes: the local store (src/store, a file or block device) or memory (src/volume/ram.c). A pool belongs
 * to one shard. It also keeps the catalog's records: small named values, committed durably and atomically one at a time
 * in the log of the pool (or just kept, for ram). All calls are asynchronous and complete on the pool's shard, never
 * inside the call.
 *
 * Versions: a snapshot is a version of a volume that never changes; a clone is a volume that begins as a snapshot. All
 * that descend from one volume are a family: they share blocks, and a key slot. Versions may be deleted in any order.
 * A pool that can't do something answers PST_E_UNSUPPORTED.
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

	/* Versions. VOLUME_DELETE and VOLUME_OPEN (then read-only: writes fail with PST_E_DENIED) take snapshots too.
	 */
	PST_POOL_SNAPSHOT, /* members: all at one instant, durable on completion. The volumes may be open and in use */
	PST_POOL_CLONE,    /* uuid (a snapshot), other (of the new volume) */
	PST_POOL_ROLLBACK, /* uuid (a volume, not open), other (a snapshot): becomes what that one is. PST_E_INVAL: it
			      has another key */
	PST_POOL_DIFF,     /* uuid, other (zero: nothing), lba -> ranges that differ, lba to go on at */
	PST_POOL_VOLUME_EMPTY, /* uuid, open or not: all that it holds is discarded, at once and durably */
	PST_POOL_VOLUME_INFO,  /* uuid -> info */
	PST_POOL_VOLUME_SET,   /* uuid, settings */

	/* The family's key slot: bytes that are nobody's business here, overwritten in place. KEY_ERASE: also on disk.
	 */
	PST_POOL_KEY_PUT,   /* uuid of any member; value, value_bytes (at most PST_POOL_KEY_BYTES_MAX). Durable */
	PST_POOL_KEY_GET,   /* uuid -> key_bytes, value_bytes. PST_E_NOTFOUND: it has none */
	PST_POOL_KEY_ERASE, /* uuid. Happens by itself when the last member of the family is deleted */

	/* Work in the background. */
	PST_POOL_TASK_START, /* task, uuid (zero: the whole pool), rate. PST_E_EXISTS: it runs; its rate is set anew */
	PST_POOL_TASK_STOP,  /* task, uuid. It begins where it stopped when started again. PST_E_NOTFOUND */

	/* Space. */
	PST_POOL_DEVICE_ADD, /* key: path of a file or block device without a pool */
	PST_POOL_GROW,       /* key: path of a device of the pool that has grown, or a file to grow to size_bytes */
	PST_POOL_CHECK,      /* check, beside the work of the pool */
};

#define PST_POOL_KEY_BYTES_MAX 2048u

enum pst_pool_task_kind {
	PST_TASK_SCRUB,      /* read everything that is in use, verify, restore what has a second copy */
	PST_TASK_STRAIGHTEN, /* put what random overwrites have scattered in order again, where that pays */
	PST_TASK_FLATTEN,    /* a clone's shared blocks become its own */
	PST_TASK_DELETE,     /* what deleted versions held comes back; starts by itself */
	PST_TASK_KINDS,
};

struct pst_pool_task {
	enum pst_pool_task_kind kind;
	uint8_t uuid[16]; /* of the volume; zero: the pool */
	bool running;
	uint64_t done_bytes, total_bytes; /* total: as far as known */
	uint64_t rate_bytes_per_s;        /* limit; 0: none */
	uint64_t errors;                  /* bad blocks found */
	uint64_t started_ns;              /* wall clock; 0: never */
};

struct pst_snapshot_member {
	uint8_t volume[16];   /* uuid */
	uint8_t snapshot[16]; /* uuid that the snapshot gets */
};
#define PST_SNAPSHOT_MEMBERS_MAX 64u

struct pst_range {
	uint64_t lba, block_count;
};

enum pst_on_full { PST_ON_FULL_FAIL, PST_ON_FULL_PAUSE };

struct pst_volume_settings {
	uint64_t reserved_blocks; /* kept free for it, as long as it has written less */
	enum pst_on_full on_full; /* what writes that need new space do in a full pool */
};

struct pst_volume_info {
	uint64_t block_count;
	uint64_t mapped_blocks; /* that have data, shared or not */
	uint64_t own_blocks; /* charged to this version: written since its parent was taken. A family's sum is exact */
	uint8_t parent[16];  /* zero: none */
	bool snapshot, has_key;
	uint32_t children;
	struct pst_volume_settings settings;
};

/* What a check found. Also a line for each finding goes to @finding. */
struct pst_check {
	bool data;    /* verify data too, not only metadata */
	bool repair;  /* offline only */
	bool cut_log; /* repair may end a damaged log where the damage begins: what was written after that is lost */
	bool stop;    /* the caller may set it at any time: the check then ends soon, with PST_E_CANCELLED */
	void (*finding)(void *ctx, bool repaired, const char *text);
	void (*note)(void *ctx, const char *text); /* what is worth knowing and no damage, or NULL */
	void (*progress)(void *ctx, uint64_t done, uint64_t of_blocks); /* or NULL */
	void *ctx;
	uint64_t findings, repaired; /* lines of each kind */
	uint64_t left;               /* findings that are still there after a repair */
	uint64_t lost_blocks;        /* of volumes: reads of them fail until they are written */
	uint64_t blocks_used, nodes_read, data_read;
};

struct pst_pool_op {
	enum pst_pool_op_kind kind;
	uint8_t uuid[16];
	uint64_t block_count;
	const char *key;
	const void *value; /* the caller's until done */
	uint32_t value_bytes;
	void (*done)(struct pst_pool_op *op);
	uint8_t other[16];
	const struct pst_snapshot_member *members;
	uint32_t member_count;
	struct pst_range *ranges; /* the caller's */
	uint32_t range_count;     /* room; then how many */
	uint64_t lba;
	struct pst_volume_info info;
	struct pst_volume_settings settings;
	uint8_t *key_bytes; /* the caller's: PST_POOL_KEY_BYTES_MAX */
	enum pst_pool_task_kind task;
	uint64_t rate_bytes_per_s;
	uint64_t size_bytes;
	struct pst_check *check;
	char detail[200]; /* on error, may say more; else empty */
	pst_err err;
	struct pst_volume *volume; /* result of open */
	struct pst_list node;      /* pool's */
	uint64_t scratch[8];       /* pool's */
};

struct pst_pool_stats {
	uint64_t size_bytes, used_bytes, free_bytes;
	uint64_t metadata_cache_bytes;
	uint64_t device_read_bytes, device_written_bytes, device_flushes;
	uint64_t checksum_errors; /* detections, ever */
	uint64_t bad_blocks;      /* known now: not yet overwritten. Counted for each version that holds them */
	uint32_t devices;
	uint64_t reserved_bytes; /* promised to volumes and not yet used by them */
};

/* Called once per record, for pst_pool_records; pointers are valid during the call. */
typedef void pst_record_fn(void *ctx, const char *key, const void *value, uint32_t value_bytes);

/* Called on the pool's shard for what operators must know ("bad_block volume=... lba=..."). */
typedef void pst_pool_event_fn(void *ctx, enum pst_log_level level, const char *text);

struct pst_pool_ops {
	const char *name; /* "ram", "store" */
	void (*submit)(struct pst_pool *pool, struct pst_pool_op *op);
	/* Synchronous, from memory: all records whose key begins with @prefix, in key order. */
	void (*records)(struct pst_pool *pool, const char *prefix, pst_record_fn *fn, void *ctx);
	void (*stats)(struct pst_pool *pool, struct pst_pool_stats *ret_stats);
	/* Synchronous: fills up to @max; returns how many there are. NULL: no tasks. */
	uint32_t (*tasks)(struct pst_pool *pool, struct pst_pool_task *tasks, uint32_t max);
};

struct pst_pool {
	const struct pst_pool_ops *ops;
	struct pst_env *env;
	uint8_t uuid[16];
};

void pst_pool_submit(struct pst_pool *pool, struct pst_pool_op *op);
void pst_pool_records(struct pst_pool *pool, const char *prefix, pst_record_fn *fn, void *ctx);
void pst_pool_stats(struct pst_pool *pool, struct pst_pool_stats *ret_stats);
uint32_t pst_pool_tasks(struct pst_pool *pool, struct pst_pool_task *tasks, uint32_t max);

/* The memory pool: volumes are thin, in 4096-byte blocks allocated on first write; PST_E_NOSPACE beyond @size_bytes. */
pst_err PST_MUST_USE pst_ram_pool_new(struct pst_env *env, uint64_t size_bytes, struct pst_pool **ret_pool);

#endif

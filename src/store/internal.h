/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The parts of an open pool, and who calls whom. Everything runs on the pool's one shard. Nothing acts inside an
 * event: completions note what happened and schedule the pool's turn (store.c), which runs in a fixed order.
 *
 *   volume.c, control.c   requests of users  ->  io.c (cuts them into pieces)
 *   io.c, piece.c         pieces: data writes and reads, checksums
 *   room.c                whether a record may be written now, and who waits
 *   journal.c             log order: records out, applied when data and record are written
 *   map.c, cache.c        the radix tree and its nodes in memory
 *   commit.c              device flushes; blocks become reusable
 *   checkpoint.c          map and space map to disk, log tail forward
 *   open.c, recover.c     from disk to an open pool
 *   devices.c, growth.c   the devices of a pool, and space that is added
 */
#ifndef PST_STORE_INTERNAL_H
#define PST_STORE_INTERNAL_H

#include "store/alloc.h"
#include "store/format.h"
#include "store/logfmt.h"
#include "store/region.h"
#include "store/store.h"
#include "store/superblock.h"
#include "volume/records.h"

/*
 * Deliberate bugs, one at a time, to prove that the simulation finds them. Never set in the product: the tests compile
 * the store again with it.
 */
#ifndef PST_MUTANT
#define PST_MUTANT 0
#endif
enum {
	PST_MUTANT_FLUSH_NOTHING = 1,
	PST_MUTANT_COMPLETE_EARLY = 2,
	PST_MUTANT_REUSE_EARLY = 3,
	PST_MUTANT_SKIP_CRC = 4,
	PST_MUTANT_RECOVER_UNVERIFIED = 5,
	PST_MUTANT_SNAPSHOT_NOT_SHARED = 6, /* the volume goes on as if all blocks were its own */
	PST_MUTANT_NO_BARRIER = 9,          /* the partitions' marks of a snapshot are not of one instant */
	PST_MUTANT_NOT_PASSED_ON = 7,       /* nobody owns what a deleted version shared with its child */
	PST_MUTANT_ROOT_UNFLUSHED = 8,      /* a checkpoint ends before its root is durable */
};

struct store;
struct online;
struct part;
struct svol;

/* ---- Waiting: whoever cannot go on leaves a waiter in one list, and is run again from the pool's turn ---- */

struct waiter {
	struct pst_list node;
	void (*run)(struct waiter *w);
	pst_err err; /* why the wait ended, if not well; the one who runs clears it */
};

/* ---- Nodes of the map in memory (cache.c) ---- */

struct node {
	struct part *part;
	struct node *parent; /* its parent is in memory as long as it is; NULL: the root */
	struct node *hash_next;
	struct pst_node_disk *data;
	struct image *image; /* not written yet, and data is its page; NULL: none */
	uint64_t index;
	uint8_t level;
	bool loading, dirty;
	uint32_t block; /* where it is, or will be when the checkpoint is done; 0: nowhere */
	uint32_t pins, children;
	struct pst_list list;    /* clean: cache.clean; dirty: part.dirty[level] */
	struct pst_list waiters; /* for the end of loading */
	struct pst_file_op op;
	struct iovec iov;
	uint32_t want_crc;
};

/*
 * A node as it was frozen, until it is written: by a checkpoint, or because a snapshot needs it as it is now. The page
 * is the node's own until the node changes again (then it takes a new one) or goes.
 */
struct image {
	struct pst_list list; /* in part.cp.images until it is being written; unused: cache.spare_images */
	struct image *hash_next;
	struct part *part;
	struct node *node; /* whose page this is; NULL: nobody's but this image's */
	struct pst_node_disk *page;
	uint32_t block;
};

struct cache {
	uint32_t capacity, count; /* nodes */
	uint32_t hash_mask;
	struct node **hash;
	struct image **image_hash; /* unwritten ones, by partition and block */
	uint32_t image_count;
	struct pst_list spare_images; /* there is one for each page */
	struct pst_list clean;        /* least recently used first */
	struct pst_list waiters;      /* for a node to become evictable */
	struct pst_list spare;        /* unused node structs, by their list */
	void *pages;                  /* free pages, linked through their first bytes */
	uint32_t page_count;          /* existing */
	uint32_t dirty;
	bool overflow; /* recovery may go over the limit */
};

/* ---- Things with a place in the log (journal.c) ---- */

struct logged {
	struct pst_list node;
	struct part *part;
	uint64_t seq;   /* of its log block, once built */
	uint32_t index; /* its number in that block */
	struct pst_log_record record;
	const void *body;
	uint32_t body_bytes;
	bool ready;                      /* its data, if any, is written (or failed) */
	void (*apply)(struct logged *l); /* in log order, when data and record are written */
};

#define LOG_WRITE_BLOCKS 16u
#define LOG_WRITES 4u

struct log_write {
	struct part *part;
	struct pst_log_block *blocks;
	uint32_t count;
	uint64_t last_seq;
	bool busy, done;
	unsigned tries;
	struct pst_file_op op;
	struct iovec iov;
	struct pst_timer retry;
};

/* Who reads blocks that were mapped when it began: they are not handed out again before it ends (commit.c). */
struct reading {
	struct pst_list node; /* in store.reads, by id */
	uint64_t id;
};

/* ---- Pieces: what of a request lies in one leaf and in one run of blocks (piece.h, io.c) ---- */

struct piece {
	struct logged logged;
	struct req *req;
	struct node *leaf; /* pinned: writes and discards */
	uint32_t block, count;
	uint64_t io_block; /* where in the request's buffers */
	pst_err err;
	uint64_t begun_ns;
	struct reading reading;
	struct pst_file_op op;
	struct iovec iov[PST_IO_IOV_MAX];
	struct iovec bounce_iov;
	void *bounce; /* from store.bounces, for unaligned buffers */
	uint32_t crc[PST_PIECE_BLOCKS_MAX];
};

#define BOUNCE_BLOCKS 32u
#define BOUNCES 32u

/* In pst_io.scratch: 0 is the volume. */
#define IO_DONE_BLOCKS 1 /* of a write that was paused: done before */
#define IO_PAUSED_NS 2   /* when it was paused first; 0: it was not */

struct req {
	struct waiter wait;
	struct store *store;
	struct svol *vol;
	struct pst_io *io;
	uint64_t at, end;    /* read, write: LBAs of the volume; else local LBAs on partition part_index */
	uint32_t part_index; /* discard, write zeroes */
	uint32_t pieces;     /* in flight */
	bool issued;
	pst_err err;
	struct part *full;         /* the write pauses for space on it, when no piece is in flight; NULL: it does not */
	uint64_t space_checkpoint; /* checkpoints done when it began to wait for space; 0: it does not */
};

/* ---- Freed blocks that can't be handed out yet (commit.c) ---- */

struct freed {
	uint64_t seq;     /* of the record that freed it: must be durable */
	uint64_t read_id; /* reads before this one may still be under way */
	uint32_t block, count;
};

struct freed_list {
	struct freed *items;
	size_t head, count, capacity; /* head: items before it are gone */
};

/* ---- Checkpoint (checkpoint.c) ---- */

enum cp_state { CP_IDLE, CP_QUIESCE, CP_WRITE, CP_FLUSH, CP_ROOT, CP_ROOT_FLUSH };

#define CP_OPS 8u
#define CP_OP_BLOCKS 32u

struct cp_op {
	struct part *part;
	bool busy;
	struct pst_file_op op;
	struct iovec iov[CP_OP_BLOCKS];
	struct image *images[CP_OP_BLOCKS];
	uint32_t image_count;
	uint32_t page; /* space map page + 1; 0: nodes or catalog */
};

struct checkpoint {
	enum cp_state state;
	bool wanted;
	struct waiter wait;     /* for flushes */
	struct waiter *waiter;  /* told when it is done: open and close */
	struct pst_list images; /* to be written */
	struct cp_op ops[CP_OPS];
	uint32_t ops_busy;
	uint32_t next_page;
	void *catalog; /* image being written */
	uint32_t catalog_blocks, catalog_next;
	uint32_t *catalog_at;
	struct pst_root *root; /* one page */
	pst_err err;           /* of the last failed try; waiters for space get it */
	unsigned tries;
	struct pst_timer retry;
	uint64_t freeze_seq; /* the log before this is in the checkpoint */
	uint64_t done_count;
	size_t frees_frozen; /* of part.node_freed: free once the root is durable */
	uint64_t freezes;    /* so far; what was freed before the last of them is not joined to what comes after it */
};

/* A leaf of the map that is asked for before it is needed (prefetch.c): 16 leaves are 32 MiB ahead. */
#define PREFETCHES 16u
struct prefetch {
	struct part *part;
	struct waiter wait;
	uint64_t leaf;
	bool busy;
};

/* Blocks of the partition that were added: where they are (devices.c). */
struct segment {
	uint32_t device;
	uint32_t space_first; /* its first space map page */
	struct pst_region_segment at;
};

struct part {
	struct store *store;
	uint32_t index;
	struct pst_sb_partition geo;
	struct pst_alloc alloc;
	uint32_t reserve; /* blocks that writes to holes leave alone */

	struct node *root;
	struct pst_list dirty[PST_NODE_LEVELS];
	uint32_t dirty_count;

	uint64_t generation, incarnation;
	uint64_t head_seq;    /* next log block to build */
	uint64_t tail_seq;    /* first that replay needs */
	uint64_t written_seq; /* all blocks up to here are written */
	uint64_t durable_seq, flushing_seq;
	uint64_t hold_seq; /* a failed write's block: no proof may reach it before its abort is applied; 0: none */
	uint32_t aborts;
	uint32_t prev_crc;
	uint32_t inflight;        /* admitted and not applied */
	bool merging;             /* one of them is a merge: it may dirty twice as many nodes */
	struct pst_list pending;  /* logged, without a block yet */
	struct pst_list applying; /* logged, in log order */
	struct log_write writes[LOG_WRITES];
	unsigned write_first, write_count; /* in flight, in order */

	struct freed_list freed;      /* data, by log order */
	struct freed_list node_freed; /* nodes and catalog: free when the next root is durable; seq: cp.freezes */
	struct pst_list space_waiters;
	bool space_wake;
	struct checkpoint cp;
	uint32_t catalog_bytes; /* partition 0: of the image on disk */
	uint64_t promised;      /* blocks that are kept free for volumes with reservations (space.c) */
	struct pst_list paused; /* pst_io that wait until there is space */
	struct prefetch prefetches[PREFETCHES];
	/* check-online.c: */
	bool pinned;  /* blocks don't become free; they gather in held */
	bool cp_hold; /* no checkpoint begins */
	struct freed_list held;

	struct segment segments[PST_REGIONS_MAX];
	uint32_t segment_count;
};

/* ---- Key slots (keys.c) ---- */

struct keys;

enum key_job_kind { KEY_JOB_PUT, KEY_JOB_GET, KEY_JOB_ERASE, KEY_JOB_SCRUB };

struct key_job {
	struct pst_list node;
	enum key_job_kind kind;
	uint32_t block; /* first of the two */
	const void *value;
	uint32_t value_bytes;
	uint8_t *out;
	bool erase_found;
	bool mended; /* scrub: one block was not what it should be, and both are written again */
	struct waiter *done;
};

/* ---- Volumes and control ---- */

struct svol {
	struct pst_volume volume; /* what open hands out */
	struct store *store;
	struct pst_list node;         /* in store.volumes */
	struct pst_version_disk disk; /* as logged and applied */
	uint64_t used_blocks;         /* while open */
	bool open, held;
	bool lost;
	uint32_t inflight; /* requests */
	struct pst_list held_ios;
	struct pst_volume_close_op *closing;
	struct waiter close_wait;
	struct waiter *idle_waiter; /* resize waits for the requests in flight */
	struct logged logged;       /* its own record: close, lost */
	bool logged_busy;
	struct pst_version_disk log_body;
	struct key_job key_job; /* wiping the slot of a deleted family */
	struct pst_list close_node;
	struct pst_pool_op empty_op;
	struct pst_io *emptying;  /* the discard of everything that is under way (empty.c); NULL: none */
	struct streams *streams;  /* readahead.h; NULL: it has not been read since it was opened */
	struct promise *promises; /* one for each partition, if it has a reservation (space.c) */
};

struct control {
	struct pst_list queue; /* pst_pool_op, first is current */
	struct waiter wait;
	struct pst_timer poll; /* close: until nothing is under way */
	unsigned step;
	uint32_t part_index;
	uint64_t space_checkpoint;
	uint64_t lba; /* resize: where the search for data stands */
	struct svol *vol;
	bool unlogged; /* it changes no record */
	enum pst_log_also also;
	uint64_t sum;
	bool emptying;
	struct svol *dead;             /* what becomes of the slot of a volume that is emptied (empty.c) */
	struct making *making;         /* versions, see version.c; NULL: none */
	struct inspection *inspection; /* see inspect.c; NULL: none */
	struct logged logged;
	uint32_t body_bytes;
	_Alignas(8) uint8_t body[PST_LOG_PAYLOAD];
};

/* The version whose space comes back (merge.c). */
struct merging {
	struct waiter wait;
	struct svol *version; /* NULL: none */
	uint32_t part_index;
	uint64_t merged[PST_NODE_LEVEL_VOLUME + 1]; /* the last node of each level that was merged */
	uint64_t space_checkpoint;
	struct logged logged;
	struct pst_log_merge body;
	struct node *pins[8];
	uint32_t pin_count;
	uint64_t begun_ns; /* the record under way */
	bool braked;       /* it waits for the rate, or for requests to go first */
	bool starved;      /* it finds no room itself */
	pst_err err;       /* why deletion has stopped, if not well */
	struct pst_timer pause;
	uint32_t holds; /* who changes the tree of versions */
	struct waiter *hold_waiter;
};

/* Writing both superblocks (open.c). */
struct sb_writer {
	struct store *st;
	struct waiter *done; /* NULL: not at work */
	struct waiter wait;  /* for a flush */
	struct pst_file_op op;
	struct iovec iov;
	unsigned step;   /* even: a copy is being written, odd: flushed */
	bool distrust;   /* a flush has failed meanwhile: to be noted when the writing is done */
	bool distrusted; /* a failed flush is on record, or being recorded */
};

/* One of the files or block devices that hold the pool; 0 is the one that it was made on. */
#define DEVICE_PATH_BYTES 1024u
struct device {
	struct store *st;
	struct pst_file *file;
	struct pst_file_info info;
	char path[DEVICE_PATH_BYTES];
	struct pst_file_op flush_op; /* the committer's */
};

struct growth;

/* space.c */
struct space {
	uint32_t reserving; /* volumes with promises */
	uint32_t paused;    /* writes */
	uint64_t pause_ns;  /* for at most so long */
	struct pst_timer pause_end;
	bool full;      /* has been said */
	unsigned alert; /* thresholds that are passed */
	uint8_t alerts[PST_SPACE_ALERTS];
	struct waiter load, *load_done;
	struct pst_list *load_at;
	uint32_t load_part;
};

struct store {
	struct pst_pool pool;
	struct device devices[PST_DEVICES_MAX];
	uint32_t device_count;
	struct pst_file_info info;  /* what all devices can do */
	struct pst_region *regions; /* headers, in order; NULL: none */
	struct growth *growth;      /* under way; NULL: none */
	struct space space;
	struct pst_superblock *sb; /* one page */
	struct sb_writer sb_writer;
	uint64_t sb_spare_bytes; /* where the copy lies that may be torn: the other one is current */
	pst_pool_event_fn *on_event;
	void *event_ctx;
	uint32_t part_count;
	struct part *parts;
	struct cache cache;
	struct pst_list volumes;
	struct pst_records records;
	uint32_t catalog_bytes; /* as it would be written now */
	bool catalog_dirty;
	pst_err failed; /* not PST_OK: log or flush failed; nothing is written any more until the pool is reopened */
	bool recovering, closing;

	struct req *reqs;
	struct piece *pieces;
	struct pst_list free_reqs, free_pieces; /* by wait.node, logged.node */
	struct pst_list io_queue;               /* pst_io without a req */
	struct pst_list req_waiters;            /* for a piece or a bounce buffer */
	void *bounce_memory;
	void *bounces[BOUNCES];
	unsigned bounce_count;

	struct pst_list reads; /* struct reading, by id */
	uint64_t next_read_id;

	struct pst_list flush_next, flush_now; /* waiters */
	uint32_t flushes_busy;                 /* devices */
	pst_err flush_err;
	bool flushing, flush_wanted;
	uint64_t writing_bytes; /* of volumes, on their way to the devices */
	uint64_t unflushed_blocks, unflushed_bytes_max;
	struct flush_cost {
		uint64_t begun_ns, end_ns, bytes; /* of the last one, or the one under way */
		uint64_t base_ns;
		double ns_per_byte;
	} flush_cost;
	uint64_t freed_items; /* in part.freed of all, when the last turn ended */

	struct pst_list runnable;                        /* waiters to run in this turn */
	struct pst_list done_ios, done_closes, done_ops; /* completed at the end of the turn */
	uint32_t outstanding;                            /* file operations */
	struct keys *keys;                               /* made when first needed */
	struct pst_post turn;
	bool turn_posted, in_turn;
	struct control control;
	struct online *online; /* the check of the open pool, or NULL */
	struct merging merging;
	struct pst_pool_stats stats;

	struct tasks *tasks; /* task.h */
	struct readahead *readahead;
	uint64_t foreground_ios;      /* requests of volumes, ever */
	uint32_t foreground_inflight; /* and now */

	struct bad *bad; /* bad.h */

	unsigned quiescing; /* checkpoint.c: partitions that are in CP_QUIESCE */
	bool froze;         /* one was frozen in this turn */
};

/* ---- store.c ---- */
void store_schedule(struct store *st);
void store_wake(struct store *st, struct waiter *w); /* run it in the pool's turn */
void store_wake_all(struct store *st, struct pst_list *waiters);
void store_event(struct store *st, enum pst_log_level level, const char *fmt, ...) PST_PRINTF(3, 4);
void store_fail(struct store *st, pst_err err, const char *what);
void io_complete(struct store *st, struct pst_io *io, pst_err err);
void device_submit(struct device *d, struct pst_file_op *op); /* counts, then pst_file_submit */
void store_submit(struct store *st, struct pst_file_op *op);  /* the same for device 0 */
/* The same for blocks of a partition, from @block on: the one place that knows where they lie. */
void part_submit(struct part *p, struct pst_file_op *op, uint64_t block);
/*
 * Should a small request for which others wait (log, map) overtake what is queued for the device? Only where that is
 * much: mq-deadline sends nothing else while it has something of a higher class, so small requests in a high class
 * would cost many small ones more than they gain (docs/performance.md).
 */
bool store_urgent(const struct store *st);
char *store_uuid_text(const uint8_t uuid[16], char buf[37]);
pst_err PST_MUST_USE store_new(struct pst_env *env, const struct pst_store_config *config, struct store **ret_store);
pst_err PST_MUST_USE store_parts_init(struct store *st);
void store_free(struct store *st);
extern const struct pst_pool_ops store_pool_ops;

/* ---- cache.c ---- */
pst_err PST_MUST_USE cache_init(struct cache *c, uint64_t bytes);
void cache_done(struct cache *c);
struct node *cache_find(struct cache *c, const struct part *p, unsigned level, uint64_t index);
/* Can @count nodes be had without waiting? Evicts for it. */
bool cache_room(struct store *st, uint32_t count);
/* Enters an empty, clean node; NULL: no room. */
struct node *cache_add(struct store *st, struct part *p, unsigned level, uint64_t index, struct node *parent);
void cache_remove(struct store *st, struct node *n);
void cache_touch(struct cache *c, struct node *n);
/* Nobody loads or uses the nodes below @n. */
bool cache_idle_below(struct cache *c, const struct node *n);
/* Entry @i of @n goes, though its subtree lives on elsewhere: what is in memory of it must be idle. */
void cache_forget(struct store *st, struct node *n, uint32_t i);
struct pst_node_disk *cache_page_get(struct cache *c);
void cache_page_put(struct cache *c, void *page);
/* What node @n is now shall be at n->block. Its data must not change before node_own_page (map.c). */
struct image *image_add(struct cache *c, struct node *n);
struct image *image_find(struct cache *c, const struct part *p, uint32_t block);
void image_written(struct cache *c, struct image *image);

/* ---- map.c ---- */
enum map_result { MAP_OK, MAP_HOLE, MAP_WAIT, MAP_ERROR };
uint64_t map_leaf_index(uint32_t slot, uint64_t lba);
/* Nodes of a version (levels 0 to 3) are numbered by level from 0 inside it; above, for the whole map. */
uint64_t map_index_in_version(unsigned level, uint64_t index);
uint64_t map_index_of_slot(unsigned level, uint32_t slot, uint64_t index_in_version);
/* The node @index of @level. MAP_WAIT: @w is queued and run later. @create makes what is missing; see map_room. */
enum map_result map_get(struct part *p, unsigned level, uint64_t index, bool create, struct waiter *w,
			struct node **ret_node);
pst_err PST_MUST_USE map_open(struct part *p, struct pst_ptr ptr, struct waiter *w);
void map_dirty(struct node *n); /* makes it and all above it this version's own, too */
void map_inherit_all(struct pst_node_disk *data);
/*
 * Enters a block (0: a hole) at place @i of @leaf, keeping counts and space map. Returns by how much the number of
 * mapped blocks changes; *ret_free is the block that no version holds any more, 0: none.
 */
int map_set(struct node *leaf, uint32_t i, uint32_t block, uint32_t crc, uint32_t *ret_free, bool *ret_damaged);
/* Is the block at place @i of @leaf (0: a hole) this version's alone, so that overwriting it frees a block? */
bool map_is_own(const struct node *leaf, uint32_t i);
/* In memory only: the node, or NULL where there is none. False: there is one that is not in memory. */
bool map_find(const struct part *p, unsigned level, uint64_t index, struct node **ret_node);
/*
 * A node without entries (somebody holds it, and is about to fill it) is not for the disk. Before dirty nodes are
 * frozen, from level 0 upwards, it is taken out of its parent and put into @hidden; afterwards it goes back, in memory.
 */
bool map_hide_empty(struct node *n, struct pst_list *hidden);
void map_show_again(struct part *p, struct pst_list *hidden);
void map_pin(struct node *n);
void map_unpin(struct node *n); /* and drop it if it is empty */
/*
 * The first leaf that exists with local LBAs of @slot in [*lba, end): MAP_OK with *lba moved into it, MAP_HOLE: none,
 * MAP_WAIT, MAP_ERROR as above.
 */
enum map_result map_next_leaf(struct part *p, uint32_t slot, uint64_t *lba, uint64_t end, struct waiter *w,
			      struct node **ret_leaf);

/* ---- share.c: at the record's place in the log; all nodes that it needs are in memory ---- */
void share_snapshot(struct part *p, uint32_t snapshot, uint32_t volume);
void share_clone(struct part *p, uint32_t clone, uint32_t snapshot);
/* False: something was in the way, and nothing was done. */
bool share_merge(struct part *p, const struct pst_log_record *r, const struct pst_log_merge *body, uint64_t seq);

/* ---- merge.c ---- */
void merge_init(struct store *st);
void merge_kick(struct store *st);
void merge_hurry(struct store *st); /* somebody waits for it */
bool merge_hold(struct store *st,
		struct waiter *w); /* merging.holds is set; false: @w runs when the walk stands still */
uint32_t merge_children(struct store *st, uint32_t slot);

/* ---- journal.c ---- */
bool journal_room(const struct part *p);
bool journal_room_for(const struct part *p, uint32_t records);
void journal_add(struct part *p, struct logged *l);
void journal_build(struct part *p); /* log writes for what is pending */
bool journal_apply(struct part *p); /* what can be applied; true: something was */
uint64_t journal_completed(const struct part *p);
/* The data of this record, which was just applied, was not written: logs that; @apply runs when that is applied. */
void journal_abort(struct logged *l, void (*apply)(struct logged *l));
void journal_abort_applied(struct part *p); /* the first thing in such an @apply */

/* ---- commit.c ---- */
void commit_wait(struct store *st, struct waiter *w); /* run when all that is completed now is durable */
void commit_run(struct store *st);
void commit_flushed(struct store *st);
void freed_push(struct freed_list *f, uint64_t seq, uint64_t read_id, uint32_t block, uint32_t count);
void freed_release(struct part *p); /* what is durable and not being read */
void part_free_data(struct part *p, uint64_t seq, uint32_t block);
void part_free_node(struct part *p, uint32_t block);
uint64_t oldest_read(const struct store *st);
void reading_begin(struct store *st, struct reading *r);
void reading_end(struct reading *r); /* with store_schedule, for who waits for blocks */

/* ---- checkpoint.c ---- */
void checkpoint_run(struct part *p);
void checkpoint_want(struct part *p, struct waiter *w);
bool checkpoint_blocks_writes(const struct part *p);
void node_freeze(struct node *n);
uint32_t checkpoint_need(const struct part *p); /* blocks that a checkpoint would take now */

/*
 * Free blocks of a partition that only the merging of deleted versions may take: copies of nodes, before those that
 * they replace come back.
 */
#define MERGE_RESERVE (4 * PST_NODE_LEVELS)

/* What everyone else leaves alone. */
static inline uint32_t space_last(const struct part *p)
{
	return checkpoint_need(p) + MERGE_RESERVE;
}

/* ---- io.c ---- */
void io_start(struct store *st); /* requests waiting for a req */

/* ---- piece.c; for io.c there is piece.h ---- */
uint64_t part_local(const struct store *st, uint32_t part_index, uint64_t lba); /* local LBAs below volume LBA @lba */

/* ---- room.c ---- */
/*
 * May another record begin on this partition now? PST_E_AGAIN: @w is queued. Space in the pool apart. @reading: the
 * caller is in store.reads, so it must not wait for blocks that only become free when it ends.
 */
pst_err PST_MUST_USE part_admit(struct part *p, bool reading, struct waiter *w);
/*
 * @w waits for blocks that will be free sometime, and what that takes is set in motion; or an error: there is nothing
 * to wait for. @since: checkpoints done when this wait began; 0: it begins now.
 */
pst_err PST_MUST_USE part_space_wait(struct part *p, struct waiter *w, uint64_t *since);

/* ---- volume.c ---- */
struct svol *svol_new(struct store *st, const struct pst_version_disk *disk);
/*
 * The version's state, from its record. Its parent stays what it is: that changes only with the record that adopts it
 * or ends its parent, which may have come between the making of this one and its place in the log.
 */
void svol_set(struct svol *v, const struct pst_version_disk *disk);
void svol_free(struct svol *v);
struct svol *svol_find(struct store *st, const uint8_t uuid[16]);
struct svol *svol_by_slot(struct store *st, uint32_t slot);
void svol_io_submit(struct svol *v, struct pst_io *io); /* also of one that was paused */
void svol_io_done(struct svol *v);
void svol_log(struct svol *v, uint32_t flags, void (*apply)(struct logged *l));
void svol_logged(struct logged *l); /* what @apply has to do in any case */
void svol_hold(struct svol *v, bool held);
struct svol *svol_alloc(struct store *st, const struct pst_version_disk *disk); /* known to nobody yet */
void svol_close_go_on(struct svol *v); /* what kept it from closing may be over */
extern const struct pst_volume_ops store_volume_ops;

/* ---- catalog.c ---- */
uint32_t catalog_image_bytes(const struct store *st);
void catalog_encode(const struct store *st, uint8_t *image);
pst_err PST_MUST_USE catalog_decode(struct store *st, const uint8_t *image, uint32_t bytes);
/* @seq: the record's log block. */
pst_err PST_MUST_USE catalog_replay(struct store *st, const struct pst_log_record *r, const void *body, uint64_t seq);
void catalog_changed(struct store *st);

/* ---- version.c ---- */
pst_err PST_MUST_USE version_begin(struct store *st, struct pst_pool_op *op);
void version_run(struct store *st);

/* ---- inspect.c: begin, then run until it is not PST_E_AGAIN ---- */
pst_err PST_MUST_USE inspect_begin(struct store *st, struct pst_pool_op *op);
pst_err PST_MUST_USE inspect_run(struct store *st, struct pst_pool_op *op);

/* ---- control.c ---- */
struct pst_pool_op *control_current(struct store *st);
void control_finish(struct store *st, pst_err err);
void control_detach(struct store *st);
void control_done(struct store *st, struct pst_pool_op *op);
/* Room for @records on partition 0, and for a catalog that is as much longer. PST_E_AGAIN: control.wait runs then. */
pst_err PST_MUST_USE control_room(struct store *st, uint32_t records, uint32_t growth_bytes);
void control_submit(struct pst_pool *pool, struct pst_pool_op *op);
void control_init(struct store *st);

/* ---- open.c, recover.c ---- */
struct recovery;
struct recovery *recovery_new(struct store *st, bool same_boot, struct waiter *done, char *detail);
/* Bring one partition to its last state, with a checkpoint; then @done runs, with its err. One at a time. */
void recovery_start(struct recovery *r, struct part *p);
void recovery_free(struct recovery *r);
/* Both superblocks, one after the other, with flushes between; then @done runs, with its err. One at a time. */
void sb_write(struct store *st, struct waiter *done);
bool sb_distrust(struct store *st); /* after a failed flush, before it is told: see open.c; ends in commit_flushed */

/* ---- devices.c ---- */
pst_err PST_MUST_USE device_open(struct store *st, struct device *d, const char *path, unsigned flags);
/*
 * The devices and regions beyond the first device, as the superblock lists them. @paths: where else to look. Then @done
 * runs, with its err; @detail says what is missing.
 */
void devices_open(struct store *st, const char *const *paths, uint32_t path_count, struct waiter *done, char *detail);
/* The segments of all regions enter the partitions' geometry; after devices_open, before their memory is made. */
pst_err PST_MUST_USE part_segments_init(struct part *p);
void part_segment_add(struct part *p, const struct pst_region *region);
/* The block of the partition that holds a copy of a page of its space map. */
uint32_t part_space_page(const struct part *p, uint32_t page, uint32_t copy);
uint64_t part_blocks(const struct part *p);
void devices_changed(struct store *st); /* one more, or its properties */
void devices_close(struct store *st);
uint64_t devices_bytes(const struct store *st);

/* ---- empty.c ---- */
/* False: @io is not a discard of all that the volume has, or not worth it. */
bool empty_submit(struct svol *v, struct pst_io *io);
void empty_begin(struct store *st);
pst_err PST_MUST_USE empty_gather(struct store *st, struct pst_version_disk *disk);
void empty_apply(struct store *st, const struct pst_version_disk *disk);
void empty_end(struct store *st);

/* ---- growth.c ---- */
void growth_run(struct store *st, struct pst_pool_op *op);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The parts of the checker.
 *
 *   check.c           superblocks; one partition after the other; findings as text
 *   check-read.c      where blocks lie
 *   check-log.c       roots and log of a partition; which records count
 *   check-catalog.c   the versions (volumes, snapshots, clones) as they are at the end of the log
 *   check-tree.c      the map as its root says, and leaves as the log leaves them
 *   check-keys.c      key slots
 *   check-family.c    versions that share blocks: what is inherited, who owns what
 *   check-space.c     space map against what is reached
 *   check-repair.c    a partition written anew, without what is damaged
 *
 * Two states are looked at together. The *root's*: what the map on disk reaches; the space map must name exactly that.
 * The *last*: the same after all records of the log; this is what users get, and where each data block has one owner.
 */
#ifndef PST_STORE_CHECK_INTERNAL_H
#define PST_STORE_CHECK_INTERNAL_H

#include "store/check.h"
#include "store/format.h"
#include "store/logfmt.h"
#include "store/region.h"
#include "store/superblock.h"
#include "volume/records.h"

#define CK_CHUNK_BLOCKS 128u

/* A write or discard record that counts, by leaf and then by order. */
struct ck_item {
	uint64_t leaf;  /* its number in the partition */
	uint64_t order; /* place in the log */
	const struct pst_log_record *record;
	bool visited;
	uint8_t bad[PST_PIECE_BLOCKS_MAX / 8]; /* blocks that were never written: recovery drops them, and so do we */
};

/* A record that changes more than one leaf: snapshot, clone, merge. In order. */
struct ck_event {
	uint64_t order;
	const struct pst_log_record *record;
};

struct ck_version {
	struct pst_version_disk disk;
	uint32_t family; /* the one at the top: its place among the versions */
	bool many;       /* its family has more than one version */
	/* Of the one at the top, for the partition at work: what the family has, and what it says it has. */
	uint64_t blocks, own;
	bool own_exact;  /* the log makes and merges none of them */
	bool logged_any; /* it changes one of them at least */
	uint64_t owned;  /* of each: blocks that it has and no version above it */
	uint64_t logged; /* of those: more than in the root's state, modulo 2^64, because of the log's writes */
};

/* A wrong mark "inherited": of an entry of the node in @block, as the root's tree has it. */
struct ck_mark {
	uint32_t block, entry;
	uint32_t family; /* place among the versions; CK_NO_FAMILY: it shares with none */
	bool to;         /* what it should be */
};

#define CK_NO_FAMILY UINT32_MAX
#define CK_MARKS_MAX 65536u /* for one repair of a partition; it is repeated while there are more */

#define CK_CACHE_NODES 128u
struct ck_cached {
	struct pst_node_disk node;
	struct pst_ptr ptr; /* 0: empty */
};

/* The partition at work. */
struct ck_part {
	uint32_t index;
	struct pst_sb_partition geo;
	uint32_t blocks; /* with all that was added */
	struct pst_root root;
	struct pst_log_block *log;
	uint32_t log_count;
	struct ck_item *items;
	size_t item_count;
	struct ck_event *events;
	size_t event_count;
	uint64_t *touched;         /* bitmap: slots that events speak of */
	uint64_t *reached, *nodes; /* bitmaps: blocks that the root reaches; those of them that are nodes */
	uint64_t *sharers;         /* those of them that a version has which may share (ck_slot_shares) */
	uint64_t *owned;           /* blocks whose owner is known: data of the last state, nodes of families */
	bool two_owners;           /* one of those at least has two */
	uint64_t *bad;             /* data of the last state that does not verify; only for a repair, else NULL */
	struct ck_mark *marks;     /* wrong ones; only for a repair */
	size_t mark_count, mark_capacity;
	uint64_t reached_count;
	struct pst_node_disk *path[PST_NODE_LEVELS], *other[PST_NODE_LEVELS]; /* one node of each level */
	uint32_t orphan;                                                      /* the last slot told to have no volume */
	struct ck_cached *cache;                                              /* nodes read last, by block */
	bool log_damaged;
	bool broken; /* something could not be read: leaks can't be told from what is below it */
};

struct ck {
	const struct pst_check_io *io;
	struct pst_check *check;
	char *detail;
	struct pst_superblock sb;
	uint64_t sb_bad; /* where the copy lies that is damaged; 0 with no sb_damaged */
	bool sb_damaged;
	bool same_boot;
	bool told;       /* what is found now has been told before */
	uint64_t untold; /* so many times nothing was said because of that */
	bool verify;     /* read data, too */
	bool again;      /* the look after the repair */
	bool no_catalog; /* it can't be read: nobody knows which slots there should be */
	bool unsure;     /* which versions there are, or what they share: a repair must not conclude from it */
	struct ck_version *versions; /* by slot */
	uint32_t version_count, version_capacity;
	uint32_t *root_keys; /* blocks of the key slots that the root's catalog names */
	uint32_t root_key_count;
	struct pst_records records;
	struct pst_region regions[PST_REGIONS_MAX];
	uint64_t header_bad[PST_REGIONS_MAX]; /* block of a damaged copy; 0: none */
	struct ck_part part;
	uint8_t *chunk;
	uint64_t progress_done, progress_total;
};

/* ---- check.c ---- */
void ck_finding(struct ck *ck, const char *fmt, ...) PST_PRINTF(2, 3);
void ck_note(struct ck *ck, const char *fmt, ...) PST_PRINTF(2, 3);
void ck_progress(struct ck *ck, uint64_t blocks);
void ck_repaired(struct ck *ck, const char *fmt, ...) PST_PRINTF(2, 3);

#define CK_PLACE_BYTES 160u
/* "volume UUID LBA 17 to 42": @count local LBAs of @slot from @local on. */
char *ck_place(const struct ck *ck, uint32_t slot, uint64_t local, uint64_t count, char buf[CK_PLACE_BYTES]);
/* Of a node: what lies below it. */
char *ck_node_place(const struct ck *ck, unsigned level, uint64_t index, char buf[CK_PLACE_BYTES]);

static inline bool ck_bit(const uint64_t *bits, uint32_t b)
{
	return (bits[b / 64] >> (b % 64) & 1) != 0;
}

static inline void ck_set(uint64_t *bits, uint32_t b)
{
	bits[b / 64] |= (uint64_t)1 << (b % 64);
}

/* ---- check-read.c ---- */
pst_err PST_MUST_USE ck_regions(struct ck *ck);
pst_err PST_MUST_USE ck_repair_regions(struct ck *ck);
/* Of the partition at work. Is the block one for nodes and data? */
bool ck_block_ok(const struct ck *ck, uint64_t block);
uint32_t ck_page_block(const struct ck *ck, uint32_t page, uint32_t copy);
pst_err ck_read(struct ck *ck, uint64_t block, void *buf);
pst_err ck_write(struct ck *ck, uint64_t block, const void *buf);

/* ---- check-log.c ---- */
/* Is this what must be in one of the four root blocks? */
bool ck_root_fine(const struct ck *ck, const struct pst_root *slot, uint32_t number);
/* Roots and log; PST_E_CHECKSUM: the partition can't be looked at (told). */
pst_err PST_MUST_USE ck_part_open(struct ck *ck, uint32_t index);
void ck_part_close(struct ck *ck);
/* The first item of this leaf, in order; *ret_end is behind the last. */
size_t ck_items_of(const struct ck_part *p, uint64_t leaf, size_t *ret_end);
/* Is anything in [leaf, leaf + count)? */
bool ck_items_any(const struct ck_part *p, uint64_t leaf, uint64_t count);
/* Do events of this log speak of the slot? */
bool ck_slot_touched(const struct ck_part *p, uint32_t slot);
void ck_item_apply(const struct ck_item *item, struct pst_ptr entry[PST_NODE_FANOUT]);

/* ---- check-catalog.c ---- */
pst_err PST_MUST_USE ck_catalog(struct ck *ck);
struct ck_version *ck_version_find(const struct ck *ck, uint32_t slot);

/* ---- check-keys.c ---- */
/* The versions are those of the root; then: they are the last ones. Partition 0 is at work in all three. */
pst_err PST_MUST_USE ck_keys_root(struct ck *ck);
void ck_keys_reached(struct ck *ck); /* after the tree */
void ck_keys(struct ck *ck);

/* ---- check-tree.c ---- */
extern const uint64_t ck_span[PST_NODE_LEVELS + 1];
pst_err PST_MUST_USE ck_node_read(struct ck *ck, struct pst_ptr ptr, unsigned level, uint64_t index,
				  struct pst_node_disk *node, const char **ret_why);
/* The same, from memory where it was read lately. */
pst_err PST_MUST_USE ck_node_cached(struct ck *ck, struct pst_ptr ptr, unsigned level, uint64_t index,
				    struct pst_node_disk *node, const char **ret_why);
void ck_tree(struct ck *ck);
/*
 * May blocks of this slot be another's too, at the root's time or at the end? Then check-family.c judges its last
 * state.
 */
bool ck_slot_shares(const struct ck *ck, uint32_t slot);
/* An entry of the last state: does its volume exist, and reach so far? */
void ck_entry_last(struct ck *ck, uint32_t slot, uint64_t local);
void ck_lost(struct ck *ck, uint32_t slot, uint64_t local, uint64_t count);
/* The owner of a data block in the last state: entered, and its data verified. */
void ck_own(struct ck *ck, uint32_t slot, uint64_t local, struct pst_ptr ptr);
/* To be put right by a repair. */
void ck_mark_wrong(struct ck *ck, struct ck_mark mark);

/* ---- check-family.c ---- */
void ck_families(struct ck *ck);

/* ---- check-space.c ---- */
void ck_space(struct ck *ck);
/*
 * The page that counts, and which copy it is; -1: neither can be read. *ret_later: the other copy is of a checkpoint
 * that was never committed.
 */
int ck_page_read(struct ck *ck, uint32_t index, struct pst_space_page *ret_page, bool *ret_later);
void ck_page_seal(struct pst_space_page *page);

/* ---- check-repair.c: after the look at it; each is durable when it returns ---- */
pst_err PST_MUST_USE ck_repair_superblock(struct ck *ck);
pst_err PST_MUST_USE ck_repair_partition(struct ck *ck);

#endif

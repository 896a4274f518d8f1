/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Damage planted in the image of a pool, from docs/store-format.md, with a reader and writer of its own. Only what
 * counts is hit: a copy that is not current, or a log block that nothing proves, may be anything after a crash, so a
 * flip there is no damage. Damage is of two sorts: bytes that changed behind a checksum, and wrong contents under right
 * checksums.
 */
#ifndef TESTS_SIM_PLANT_H
#define TESTS_SIM_PLANT_H

#include "base/prng.h"
#include "store/format.h"

enum plant_kind {
	PLANT_SUPERBLOCK,   /* a bit of a copy */
	PLANT_ROOT,         /* a bit of a copy of the newest root, or all of it; clean images */
	PLANT_SPACE,        /* a bit of the current copy of a space map page */
	PLANT_LOG,          /* a bit of a log block that later ones prove */
	PLANT_NODE,         /* a bit of a node */
	PLANT_NODE_STALE,   /* a node's block holds another node: a misdirected write */
	PLANT_NODE_ZERO,    /* a node's block was never written */
	PLANT_DATA,         /* a bit of a data block */
	PLANT_DATA_SWAPPED, /* a data block holds another one's */
	PLANT_LEAK,         /* under right checksums: a block in use that nothing reaches */
	PLANT_FREE,         /* a block that is reached and free */
	PLANT_USED_TWICE,   /* an entry points to another entry's block */
	PLANT_COUNT,        /* used, data_blocks or own_blocks of a node */
	PLANT_OUTSIDE,      /* an entry points outside of the partition's data */
	PLANT_MARK,         /* the mark "inherited" of an entry is the opposite */
	PLANT_DROPPED,      /* an entry is gone, with all below it */
	PLANT_ROOT_COUNT,   /* the root's number of used blocks */
	PLANT_CATALOG,      /* a field of a version's record: slot, parent, flags, size */
	PLANT_KINDS
};

const char *plant_name(enum plant_kind kind);

struct plant_node {
	uint32_t part, block;
	int level;       /* -1: data */
	uint32_t parent; /* index of the node above, in the image's list; UINT32_MAX: the root points to it */
	uint32_t entry;  /* of that one */
	uint64_t place;  /* index in its level; data: slot * span + local LBA */
	bool superseded; /* data: the log has something else for this place */
};

struct plant_image {
	uint8_t *bytes;
	uint64_t blocks;
	struct pst_superblock sb;
	struct plant_node *nodes; /* all that the roots reach, every place once; shared ones at each place */
	uint32_t node_count, node_capacity;
	bool clean;
};

/* Takes @bytes over (malloced). */
void plant_image_init(struct plant_image *im, uint8_t *bytes, uint64_t blocks);
void plant_image_done(struct plant_image *im);

/*
 * No damage: what a checkpoint leaves that was cut short before its root. The copies of space map pages that do not
 * count have the number of the root to come, and other bits.
 */
void plant_cut_checkpoint(struct plant_image *im);

/* A bit of the first block of a partition's log; more than one must be proven. */
void plant_log_gap(struct plant_image *im, uint32_t part);

/*
 * One piece of damage, chosen by @prng. False: this image has no place for this kind (nothing was changed). @what says
 * what was done.
 */
bool plant(struct plant_image *im, enum plant_kind kind, struct pst_prng *prng, char what[160]);

#endif

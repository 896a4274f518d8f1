/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who may take the free space of a pool, and what happens when there is none: reservations of volumes, writes that
 * pause in a full pool, and events about how full it is (docs/pools.md). On the pool's shard.
 */
#ifndef PST_STORE_SPACE_H
#define PST_STORE_SPACE_H

#include "store/internal.h"

/* What of a volume's reservation it has not used yet, on one partition. */
struct promise {
	uint64_t share;  /* of the reservation, in data blocks */
	uint64_t own;    /* blocks charged to the volume */
	uint64_t blocks; /* kept free for it: what is left of its share, and the map for that */
};

/* After a change of @v's record, or when it appears. */
void space_volume_changed(struct svol *v);
/* Its slot is another, without a tree. */
void space_volume_emptied(struct svol *v);
/* Before it is freed. */
void space_volume_gone(struct svol *v);

/* Can the pool keep @reserved_blocks for a volume of @block_count (@v: the one that has it already, or NULL)? */
pst_err PST_MUST_USE space_can_promise(struct store *st, const struct svol *v, uint64_t block_count,
				       uint64_t reserved_blocks, char detail[PST_DETAIL_BYTES]);

/* The same when a snapshot takes over what @v has written: its reservation begins anew then. */
pst_err PST_MUST_USE space_can_snapshot(struct store *st, const struct svol *v, char detail[PST_DETAIL_BYTES]);

/* What @op sets, into the record of @v (NULL: a new volume), if the pool can keep it. */
pst_err PST_MUST_USE space_settings(struct store *st, const struct svol *v, struct pst_version_disk *disk,
				    struct pst_pool_op *op);

/* The volume's node of @p has changed, or has been read: what is charged to it may have. */
void space_node(const struct node *n);
/* The same for the volume that is known to have written below @leaf. */
static inline void space_used(struct svol *v, const struct node *leaf);

/* Blocks that must stay free for others when @v writes; @takes: it needs more than it gives back. */
uint64_t space_floor(const struct part *p, const struct svol *v, bool takes);

/* A write of @v found no room on @p. Says so once. True: it is to wait, by space_pause, until there is some. */
bool space_full(struct part *p, const struct svol *v);
void space_pause(struct part *p, struct pst_io *io);
/* A paused write ends with PST_E_CANCELLED. Another one does so where it would begin its next piece: io.c. */
void space_recall(struct store *st, struct pst_io *io);
/* All paused writes of @v end with PST_E_CANCELLED. */
void space_cancel(struct store *st, const struct svol *v);

/* Each turn: paused writes that have room go on; events. */
void space_turn(struct store *st);

/*
 * After recovery: find out what volumes with reservations have used. Then @done runs, always well: what can't be read
 * counts as not used.
 */
void space_load(struct store *st, struct waiter *done);

void space_init(struct store *st, const struct pst_store_config *config);

void space_node_charged(struct svol *v, uint32_t part_index, uint64_t own_blocks);

static inline void space_used(struct svol *v, const struct node *leaf)
{
	const struct node *n = leaf;

	if (v->promises == NULL)
		return;
	while (n->level < PST_NODE_LEVEL_VOLUME)
		n = n->parent;
	space_node_charged(v, n->part->index, n->data->own_blocks);
}

#endif

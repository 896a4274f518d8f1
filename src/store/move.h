/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Rewriting blocks elsewhere if they are still the same: what straightening and flattening do, one run of up to
 * PST_PIECE_BLOCKS_MAX local LBAs inside a leaf at a time. Writes, discards, snapshots and crashes may come in between
 * at any point: a block that is not what it was when the move began is left as it is. Nothing that a user sees changes.
 *
 * The caller owns the struct and its buffer from move_begin until @done; there is no allocation. Pool's shard only.
 */
#ifndef PST_STORE_MOVE_H
#define PST_STORE_MOVE_H

#include "store/fetch.h"

struct move;

struct move {
	/* The caller's. */
	void (*done)(struct move *m); /* in the pool's turn, never inside move_begin */
	uint32_t
	    run_min; /* if no run is free for all, what fits in a shorter one is moved, down to this; else NOSPACE */

	/* Result. */
	uint32_t count; /* blocks that it was about: the first ones, if there was no run for all */
	uint32_t moved; /* blocks that lie elsewhere now */
	pst_err err;    /* PST_E_CHECKSUM, PST_E_IO; PST_E_NOSPACE: no place to move to */

	struct logged logged;
	struct waiter wait;
	struct store *store;
	struct part *part;
	uint32_t slot;
	uint64_t local;
	struct node *leaf; /* pinned while logged */
	struct reading reading;
	uint32_t block; /* the new ones begin here; 0: not taken yet */
	struct fetch fetch;
	struct pst_file_op op;
	struct iovec iov;
	uint8_t *buffer;
	/* As in the record: CRCs of all blocks, then the blocks that are replaced (see PST_LOG_MOVE in format.h). */
	uint32_t body[2 * PST_PIECE_BLOCKS_MAX];
};

/*
 * What entry @i of a leaf says to a MOVE record: its block, and PST_PTR_INHERITED if the block is not the version's
 * own, for whatever reason. 0: nothing that could be moved.
 */
uint32_t move_old(const struct node *leaf, uint32_t i);

/*
 * Is there space for @count more blocks, of what users' overwrites may take? PST_E_AGAIN: @w is queued, and run when
 * there may be; PST_E_NOSPACE: waiting won't help. @since: 0 at first, then as it was left.
 */
pst_err PST_MUST_USE move_room(struct part *p, uint32_t count, struct waiter *w, uint64_t *since);

/*
 * Begin to move @count blocks (1 to PST_PIECE_BLOCKS_MAX) of version @slot from local LBA @local on: all in @leaf,
 * which is in memory, and all with move_old() not 0. @buffer has room for them and is 4096-aligned.
 */
void move_begin(struct move *m, struct part *p, uint32_t slot, uint64_t local, const struct node *leaf, uint32_t count,
		uint8_t *buffer);

/* A MOVE record is applied, live or in recovery: entry @i of @leaf. True: it was replaced; *ret_free as in map_set. */
bool move_apply_one(struct node *leaf, uint32_t i, uint32_t old, uint32_t block, uint32_t crc, uint32_t *ret_free,
		    bool *ret_damaged);

#endif

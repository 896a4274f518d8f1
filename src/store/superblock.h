/* SPDX-License-Identifier: Apache-2.0 */
/* Superblocks and roots: lay out, seal, judge. Pure functions; any thread. */
#ifndef PST_STORE_SUPERBLOCK_H
#define PST_STORE_SUPERBLOCK_H

#include "store/format.h"

#define PST_DETAIL_BYTES 200u

/*
 * Lay out an empty pool of @blocks blocks in @partition_count partitions (0: chosen by size). PST_E_RANGE: too small
 * or too large; @detail says what would do.
 */
pst_err PST_MUST_USE pst_sb_layout(struct pst_superblock *sb, uint64_t blocks, uint32_t partition_count,
				   char detail[PST_DETAIL_BYTES]);

void pst_sb_seal(struct pst_superblock *sb);

/* Is this block a superblock at all (magic and CRC)? */
bool pst_sb_intact(const struct pst_superblock *sb);

/*
 * Where the second copy may lie, in a file whose last block is @last, in the order in which to look: as @first, a first
 * copy in whatever state, says. An intact one is right. Of a damaged one the places that it names are hints, for a file
 * that was made longer and not yet grown into: what they lead to must be intact. Its sectors may be of two generations,
 * so the table of devices is a hint without the feature that says that there is one, and the size at the beginning is
 * one with it. Returns how many places, 1 at least.
 */
#define PST_SB_SECONDS 3u
unsigned pst_sb_seconds(const struct pst_superblock *first, uint64_t last, uint64_t ret[PST_SB_SECONDS]);

/*
 * Choose between the copies: *ret_sb points to the better one, *ret_repair says that the other needs rewriting.
 * PST_E_FORMAT: both bad, unknown incompatible feature, or fields that make no sense for a file of @file_blocks.
 */
pst_err PST_MUST_USE pst_sb_choose(const struct pst_superblock *a, const struct pst_superblock *b, uint64_t file_blocks,
				   const struct pst_superblock **ret_sb, bool *ret_repair,
				   char detail[PST_DETAIL_BYTES]);

void pst_root_seal(struct pst_root *root);
bool pst_root_intact(const struct pst_root *root, const uint8_t pool_uuid[16], uint32_t partition);

/* The newest intact root of @slots; NULL if there is none. */
const struct pst_root *pst_root_choose(const struct pst_root slots[PST_ROOT_SLOTS], const uint8_t pool_uuid[16],
				       uint32_t partition);

#endif

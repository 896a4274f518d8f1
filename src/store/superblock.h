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
 * Where the second copy may lie, in a file whose last block is @last: where @first, a first copy in whatever state,
 * says;
 * @last if it says nothing that can be. Of an intact one this is true. Of a damaged one it is a hint, to be followed if
 * the last block is no copy, as in a file that was made longer and not yet grown into: what it leads to must be intact.
 */
uint64_t pst_sb_second(const struct pst_superblock *first, uint64_t last);

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

/* SPDX-License-Identifier: Apache-2.0 */
/* Space added to a pool: lay out a region, seal it, judge it. Pure functions; any thread. */
#ifndef PST_STORE_REGION_H
#define PST_STORE_REGION_H

#include "store/superblock.h"

/*
 * Lay out blocks [@start, @start + @blocks) of device @device as region number @index: a segment for each partition,
 * behind the @have[i] blocks that partition i has. PST_E_RANGE: too small, or the partitions are full; @detail says
 * what would do.
 */
pst_err PST_MUST_USE pst_region_layout(const struct pst_superblock *sb, const uint64_t *have, uint32_t index,
				       uint32_t device, uint64_t start, uint64_t blocks, struct pst_region *ret_region,
				       char detail[PST_DETAIL_BYTES]);

void pst_region_seal(struct pst_region *region);

/* Is it the header of region @index of this pool, whole, and does it fit behind what the partitions have? */
bool pst_region_ok(const struct pst_region *region, const struct pst_superblock *sb, uint32_t index,
		   const uint64_t *have);

/* The path of device @index in the superblock; "" if it is not recorded. */
const char *pst_sb_device_path(const struct pst_superblock *sb, uint32_t index);

/* Record them all, in order. False: not all fit; those that don't are left empty. */
bool pst_sb_set_device_paths(struct pst_superblock *sb, const char *const *paths);

/* The block of device 0 with the second superblock. */
uint64_t pst_sb_mirror(const struct pst_superblock *sb);

#endif

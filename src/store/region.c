/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A region is a range of a device: its header, one segment for each partition, its header again. The table of regions
 * in the superblock holds the CRC of each header, so that a header counts only if that superblock means it: what a
 * crash left of a region that was being added is nothing.
 *
 * All segments of a region have the same number of blocks, since LBAs stripe evenly over the partitions.
 */
#include "store/region.h"

#include "base/crc32c.h"

#include <stdio.h>
#include <string.h>

#define SEGMENT_DATA_MIN 16u
#define PARTITION_BLOCKS_MAX ((uint64_t)PST_PTR_LOST - 1)

static uint32_t region_crc(const struct pst_region *region)
{
	static const uint8_t zero[4];
	uint32_t crc = pst_crc32c(region, offsetof(struct pst_region, crc));

	crc = pst_crc32c_more(crc, zero, sizeof(zero));
	return pst_crc32c_more(crc, region->pool_uuid, sizeof(*region) - offsetof(struct pst_region, pool_uuid));
}

void pst_region_seal(struct pst_region *region)
{
	region->crc = region_crc(region);
}

/* What a partition of @have blocks gets with @blocks more. */
static void segment_layout(struct pst_region_segment *s, uint64_t start, uint64_t have, uint64_t blocks)
{
	uint64_t pages = pst_div_round_up(have, PST_SPACE_BITS);

	*s = (struct pst_region_segment){ .start = start, .first = (uint32_t)have, .blocks = (uint32_t)blocks };
	s->space_pages = (uint32_t)(pst_div_round_up(have + blocks, PST_SPACE_BITS) - pages);
	s->data = PST_MAX(2 * s->space_pages, 1u);
}

pst_err pst_region_layout(const struct pst_superblock *sb, const uint64_t *have, uint32_t index, uint32_t device,
			  uint64_t start, uint64_t blocks, struct pst_region *ret_region, char detail[PST_DETAIL_BYTES])
{
	uint64_t each = blocks > 2 ? (blocks - 2) / sb->partition_count : 0, most = 0;

	for (uint32_t i = 0; i < sb->partition_count; i++)
		most = PST_MAX(most, have[i]);
	if (most >= PARTITION_BLOCKS_MAX - SEGMENT_DATA_MIN - 2) {
		snprintf(detail, PST_DETAIL_BYTES,
			 "the pool's %u partitions have the 8 TiB that one can have; make another pool",
			 sb->partition_count);
		return PST_E_RANGE;
	}
	each = PST_MIN(each, PARTITION_BLOCKS_MAX - most);
	*ret_region = (struct pst_region){ .magic = PST_REGION_MAGIC,
					   .index = index,
					   .device = device,
					   .start = start,
					   .blocks = blocks,
					   .partition_count = sb->partition_count };
	memcpy(ret_region->pool_uuid, sb->uuid, 16);
	for (uint32_t i = 0; i < sb->partition_count; i++) {
		struct pst_region_segment *s = &ret_region->segments[i];

		segment_layout(s, start + 1 + i * each, have[i], each);
		if (each < s->data + SEGMENT_DATA_MIN) {
			snprintf(detail, PST_DETAIL_BYTES,
				 "%llu bytes are too few to add to %u partitions: add %llu or more",
				 (unsigned long long)blocks * PST_BLOCK_BYTES, sb->partition_count,
				 (unsigned long long)(2 + (uint64_t)sb->partition_count * (SEGMENT_DATA_MIN + 2)) *
				     PST_BLOCK_BYTES);
			return PST_E_RANGE;
		}
	}
	return PST_OK;
}

static bool segment_ok(const struct pst_region *r, const struct pst_region_segment *s, uint64_t have)
{
	struct pst_region_segment want;

	if (s->blocks > PARTITION_BLOCKS_MAX - have || s->start <= r->start ||
	    !pst_range_ok(s->start - r->start, s->blocks, r->blocks - 1))
		return false;
	segment_layout(&want, s->start, have, s->blocks);
	return memcmp(&want, s, sizeof(want)) == 0 && s->data + SEGMENT_DATA_MIN <= s->blocks;
}

bool pst_region_ok(const struct pst_region *region, const struct pst_superblock *sb, uint32_t index,
		   const uint64_t *have)
{
	const struct pst_sb_region *entry = &sb->regions[index];

	if (region->magic != PST_REGION_MAGIC || region->crc != region_crc(region) ||
	    region->crc != entry->header_crc || memcmp(region->pool_uuid, sb->uuid, 16) != 0 ||
	    region->index != index || region->device != entry->device || region->start != entry->start ||
	    region->partition_count != sb->partition_count || region->blocks < 3 ||
	    memcmp(region->device_uuid, sb->devices[entry->device].uuid, 16) != 0 ||
	    !pst_range_ok(region->start, region->blocks, sb->devices[entry->device].blocks - 1))
		return false;
	for (uint32_t i = 0; i < sb->partition_count; i++)
		if (!segment_ok(region, &region->segments[i], have[i]))
			return false;
	return true;
}

/* ---- The superblock's tables ---- */

const char *pst_sb_device_path(const struct pst_superblock *sb, uint32_t index)
{
	size_t at = 0;

	for (; index > 0 && at < sizeof(sb->device_paths); index--)
		at += strnlen(sb->device_paths + at, sizeof(sb->device_paths) - at) + 1;
	if (at >= sizeof(sb->device_paths) || memchr(sb->device_paths + at, 0, sizeof(sb->device_paths) - at) == NULL)
		return "";
	return sb->device_paths + at;
}

bool pst_sb_set_device_paths(struct pst_superblock *sb, const char *const *paths)
{
	size_t at = 0;
	bool all = true;

	memset(sb->device_paths, 0, sizeof(sb->device_paths));
	for (uint32_t i = 0; i < sb->device_count; i++) {
		size_t len = strlen(paths[i]), rest = sb->device_count - i - 1;

		if (at + len + 1 + rest > sizeof(sb->device_paths)) {
			all = false;
			len = 0;
		}
		memcpy(sb->device_paths + at, paths[i], len);
		at += len + 1;
	}
	return all;
}

uint64_t pst_sb_mirror(const struct pst_superblock *sb)
{
	return (sb->device_count > 0 ? sb->devices[0].blocks : sb->blocks) - 1;
}

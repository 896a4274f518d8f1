/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where blocks lie, for the checker: the pool's first device, and the regions that were added to it, on any device. The
 * superblock holds the checksum of each region's header; of its two copies either will do.
 */
#include "store/check-internal.h"

#include <stdio.h>
#include <string.h>

/* ---- Regions ---- */

/* The second copy of a header ends its region; a block with a superblock's copy follows (that of then, or the last). */
static uint64_t second_header(const struct ck *ck, uint32_t region)
{
	const struct pst_sb_region *at = &ck->sb.regions[region];
	uint64_t end = ck->sb.devices[at->device].blocks - 1;

	for (uint32_t i = 0; i < ck->sb.region_count; i++)
		if (ck->sb.regions[i].device == at->device && ck->sb.regions[i].start > at->start)
			end = PST_MIN(end, ck->sb.regions[i].start - 1);
	return end - 1;
}

static pst_err region(struct ck *ck, uint32_t index, uint64_t have[PST_PARTITIONS_MAX])
{
	const struct pst_sb_region *at = &ck->sb.regions[index];
	const uint64_t blocks[2] = { at->start, second_header(ck, index) };
	struct pst_region *r = (void *)ck->chunk;
	bool good[2];

	if (at->device >= ck->io->devices) {
		snprintf(ck->detail, PST_DETAIL_BYTES, "device %u of the pool is missing: name it with --device",
			 at->device);
		return PST_E_NOTFOUND;
	}
	for (int c = 0; c < 2; c++) {
		good[c] = ck->io->read(ck->io->ctx, at->device, blocks[c], r) == PST_OK &&
			  pst_region_ok(r, &ck->sb, index, have);
		if (good[c])
			ck->regions[index] = *r;
	}
	if (!good[0] && !good[1]) {
		snprintf(ck->detail, PST_DETAIL_BYTES, "both copies of the header of region %u are damaged (device %u)",
			 index, at->device);
		return PST_E_CHECKSUM;
	}
	for (int c = 0; c < 2; c++) {
		if (good[c])
			continue;
		ck_finding(ck, "region %u: its header in block %llu of device %u is damaged: the other copy is good",
			   index, (unsigned long long)blocks[c], at->device);
		ck->header_bad[index] = blocks[c];
	}
	for (uint32_t i = 0; i < ck->sb.partition_count; i++)
		have[i] += ck->regions[index].segments[i].blocks;
	return PST_OK;
}

pst_err ck_regions(struct ck *ck)
{
	uint64_t have[PST_PARTITIONS_MAX];
	pst_err err = PST_OK;

	for (uint32_t i = 0; i < ck->sb.partition_count; i++)
		have[i] = ck->sb.partitions[i].blocks;
	for (uint32_t i = 0; err == PST_OK && i < ck->sb.region_count; i++)
		err = region(ck, i, have);
	for (uint32_t i = 0; i < ck->sb.partition_count; i++)
		ck->progress_total += have[i];
	return err;
}

pst_err ck_repair_regions(struct ck *ck)
{
	pst_err err = PST_OK;

	for (uint32_t i = 0; err == PST_OK && i < ck->sb.region_count; i++) {
		if (ck->header_bad[i] == 0)
			continue;
		err = ck->io->write(ck->io->ctx, ck->sb.regions[i].device, ck->header_bad[i], &ck->regions[i]);
		if (err == PST_OK)
			err = ck->io->flush(ck->io->ctx);
		if (err == PST_OK)
			ck_repaired(ck, "region %u: header in block %llu of device %u: written again from the other", i,
				    (unsigned long long)ck->header_bad[i], ck->sb.regions[i].device);
	}
	return err;
}

/* ---- Blocks of the partition at work ---- */

static const struct pst_region_segment *segment_of(const struct ck *ck, uint64_t block, uint32_t *ret_device)
{
	for (uint32_t i = ck->sb.region_count; i > 0 && block >= ck->part.geo.blocks; i--) {
		const struct pst_region_segment *s = &ck->regions[i - 1].segments[ck->part.index];

		*ret_device = ck->regions[i - 1].device;
		if (block >= s->first)
			return s;
	}
	return NULL;
}

static uint64_t locate(const struct ck *ck, uint64_t block, uint32_t *ret_device)
{
	const struct pst_region_segment *s = segment_of(ck, block, ret_device);

	if (s != NULL)
		return s->start + (block - s->first);
	*ret_device = 0;
	return ck->part.geo.start + block;
}

bool ck_block_ok(const struct ck *ck, uint64_t block)
{
	const struct pst_region_segment *s;
	uint32_t device;

	if (block < ck->part.geo.blocks)
		return block >= ck->part.geo.data_start;
	s = segment_of(ck, block, &device);
	return s != NULL && block >= (uint64_t)s->first + s->data && block < (uint64_t)s->first + s->blocks;
}

uint32_t ck_page_block(const struct ck *ck, uint32_t page, uint32_t copy)
{
	uint64_t first = ck->part.geo.space_pages;

	for (uint32_t i = 0; i < ck->sb.region_count && page >= ck->part.geo.space_pages; i++) {
		const struct pst_region_segment *s = &ck->regions[i].segments[ck->part.index];

		if (page < first + s->space_pages)
			return (uint32_t)(s->first + 2 * (page - first) + copy);
		first += s->space_pages;
	}
	return ck->part.geo.space_start + 2 * page + copy;
}

pst_err ck_read(struct ck *ck, uint64_t block, void *buf)
{
	uint32_t device;
	uint64_t at = locate(ck, block, &device);

	return ck->io->read(ck->io->ctx, device, at, buf);
}

pst_err ck_write(struct ck *ck, uint64_t block, const void *buf)
{
	uint32_t device;
	uint64_t at = locate(ck, block, &device);

	return ck->io->write(ck->io->ctx, device, at, buf);
}

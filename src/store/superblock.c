/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Two copies of the superblock: block 0 and the last block of the pool. They are rewritten one after the other with a
 * flush between, so at any time at least one is whole; the higher generation counts. Roots have two slots by
 * generation and two copies in each: a root that was torn by a crash leaves the one before it.
 */
#include "store/superblock.h"

#include "store/region.h"

#include "base/crc32c.h"

#include <stdio.h>
#include <string.h>

#define PARTITION_BLOCKS_MIN 160u
#define PARTITION_BLOCKS_WANTED ((uint64_t)2 << 20) /* 8 GiB */
#define PARTITION_BLOCKS_MAX (PST_PTR_LOST - 1u)
#define LOG_BLOCKS_MIN 16u
#define LOG_BLOCKS_MAX 8192u
#define LOGS_BLOCKS_MAX 65536u /* of all logs together, if that is more for each: pools with few partitions */

static uint32_t crc_without(const void *block, size_t crc_offset)
{
	static const uint8_t zero[4];
	const uint8_t *p = block;
	uint32_t crc = pst_crc32c(p, crc_offset);

	crc = pst_crc32c_more(crc, zero, sizeof(zero));
	return pst_crc32c_more(crc, p + crc_offset + 4, PST_BLOCK_BYTES - crc_offset - 4);
}

pst_err pst_sb_layout(struct pst_superblock *sb, uint64_t blocks, uint32_t partition_count,
		      char detail[PST_DETAIL_BYTES])
{
	uint64_t usable = blocks > 2 ? blocks - 2 : 0; /* the two superblocks */
	uint64_t count = partition_count, each;
	uint32_t log_max;

	if (count == 0)
		count = PST_MIN(PST_MAX(usable / PARTITION_BLOCKS_WANTED, 1u), PST_PARTITIONS_MAX);
	if (count > PST_PARTITIONS_MAX) {
		snprintf(detail, PST_DETAIL_BYTES, "%llu partitions; at most %u are possible",
			 (unsigned long long)count, PST_PARTITIONS_MAX);
		return PST_E_RANGE;
	}
	each = usable / count;
	log_max = PST_MAX(LOG_BLOCKS_MAX, LOGS_BLOCKS_MAX / (uint32_t)count);
	if (each < PARTITION_BLOCKS_MIN || each > PARTITION_BLOCKS_MAX) {
		snprintf(detail, PST_DETAIL_BYTES,
			 "%llu bytes in %llu partitions; a partition must have %u KiB to 8 TiB: choose another size",
			 (unsigned long long)blocks * PST_BLOCK_BYTES, (unsigned long long)count,
			 PARTITION_BLOCKS_MIN * (PST_BLOCK_BYTES / 1024));
		return PST_E_RANGE;
	}
	sb->blocks = blocks;
	sb->partition_count = (uint32_t)count;
	sb->stripe_blocks = PST_STRIPE_BLOCKS;
	for (uint32_t i = 0; i < count; i++) {
		struct pst_sb_partition *p = &sb->partitions[i];

		p->start = 1 + i * each;
		p->blocks = (uint32_t)each;
		p->log_start = PST_ROOT_SLOTS;
		p->log_blocks = (uint32_t)PST_MIN(PST_MAX(each / 32, LOG_BLOCKS_MIN), log_max);
		p->space_start = p->log_start + p->log_blocks;
		p->space_pages = (uint32_t)pst_div_round_up(each, PST_SPACE_BITS);
		p->data_start = p->space_start + 2 * p->space_pages;
	}
	return PST_OK;
}

void pst_sb_seal(struct pst_superblock *sb)
{
	sb->crc = crc_without(sb, offsetof(struct pst_superblock, crc));
}

bool pst_sb_intact(const struct pst_superblock *sb)
{
	return sb->magic == PST_SB_MAGIC && sb->crc == crc_without(sb, offsetof(struct pst_superblock, crc));
}

static bool partition_sane(const struct pst_sb_partition *p, uint64_t pool_blocks)
{
	uint64_t at = PST_ROOT_SLOTS;

	if (p->start == 0 || !pst_range_ok(p->start, p->blocks, pool_blocks - 1) || p->blocks > PARTITION_BLOCKS_MAX)
		return false;
	if (p->log_start != at || p->log_blocks < LOG_BLOCKS_MIN)
		return false;
	at += p->log_blocks;
	if (p->space_start != at || p->space_pages != pst_div_round_up(p->blocks, PST_SPACE_BITS))
		return false;
	at += 2 * (uint64_t)p->space_pages;
	return p->data_start == at && at < p->blocks;
}

unsigned pst_sb_seconds(const struct pst_superblock *first, uint64_t last, uint64_t ret[PST_SB_SECONDS])
{
	const uint64_t hints[] = { first->devices[0].blocks - 1, first->blocks - 1 };
	unsigned count = 0;

	if (pst_sb_intact(first)) {
		ret[0] = pst_sb_mirror(first) <= last ? pst_sb_mirror(first) : last;
		return 1;
	}
	ret[count++] = last;
	for (unsigned i = 0; first->magic == PST_SB_MAGIC && i < PST_ARRAY_COUNT(hints); i++)
		if (hints[i] >= 2 && hints[i] < last && hints[i] != ret[count - 1])
			ret[count++] = hints[i];
	return count;
}

/* The tables of devices and regions; what the regions hold is judged by their headers. */
static bool devices_sane(const struct pst_superblock *sb)
{
	if ((sb->features_incompat & PST_FEATURE_REGIONS) == 0)
		return sb->device_count == 0 && sb->region_count == 0;
	if (sb->device_count == 0 || sb->device_count > PST_DEVICES_MAX || sb->region_count == 0 ||
	    sb->region_count > PST_REGIONS_MAX || sb->device_index >= sb->device_count ||
	    sb->devices[0].blocks < sb->blocks)
		return false;
	for (uint32_t i = 0; i < sb->device_count; i++)
		if (sb->devices[i].blocks < 3)
			return false;
	for (uint32_t i = 0; i < sb->region_count; i++)
		if (sb->regions[i].device >= sb->device_count ||
		    sb->regions[i].start >= sb->devices[sb->regions[i].device].blocks - 1)
			return false;
	return true;
}

static pst_err sb_sane(const struct pst_superblock *sb, uint64_t file_blocks, char detail[PST_DETAIL_BYTES])
{
	uint64_t unknown = sb->features_incompat & ~(uint64_t)PST_FEATURES_INCOMPAT_KNOWN;
	uint64_t unknown_ro = sb->features_ro_compat & ~(uint64_t)PST_FEATURES_RO_COMPAT_KNOWN;

	if (sb->version != PST_SB_VERSION && sb->version != PST_SB_VERSION_OLD) {
		snprintf(detail, PST_DETAIL_BYTES,
			 "format version %u; this program reads versions %u and %u: use a newer one", sb->version,
			 PST_SB_VERSION_OLD, PST_SB_VERSION);
		return PST_E_FORMAT;
	}
	if (unknown != 0 || unknown_ro != 0) {
		snprintf(detail, PST_DETAIL_BYTES,
			 "the pool uses %s feature bit %d, unknown to this program: use a newer one",
			 unknown != 0 ? "incompatible" : "read-only-compatible",
			 __builtin_ctzll(unknown != 0 ? unknown : unknown_ro));
		return PST_E_FORMAT;
	}
	if (devices_sane(sb) && sb->device_index > 0) {
		snprintf(detail, PST_DETAIL_BYTES,
			 "this is device %u of a pool whose first device was last at %.120s: open that one",
			 sb->device_index, pst_sb_device_path(sb, 0));
		return PST_E_FORMAT;
	}
	if (devices_sane(sb) && sb->blocks >= 3 && pst_sb_mirror(sb) >= file_blocks) {
		snprintf(detail, PST_DETAIL_BYTES,
			 "the pool has %llu blocks but its file only %llu: it was cut off; restore its end",
			 (unsigned long long)pst_sb_mirror(sb) + 1, (unsigned long long)file_blocks);
		return PST_E_FORMAT;
	}
	if (sb->partition_count == 0 || sb->partition_count > PST_PARTITIONS_MAX || sb->blocks < 3 ||
	    sb->stripe_blocks != PST_STRIPE_BLOCKS || memchr(sb->boot_id, 0, sizeof(sb->boot_id)) == NULL ||
	    !devices_sane(sb))
		goto insane;
	for (uint32_t i = 0; i < sb->partition_count; i++) {
		if (!partition_sane(&sb->partitions[i], sb->blocks))
			goto insane;
	}
	return PST_OK;
insane:
	snprintf(detail, PST_DETAIL_BYTES, "the superblock is intact but its layout makes no sense");
	return PST_E_FORMAT;
}

pst_err pst_sb_choose(const struct pst_superblock *a, const struct pst_superblock *b, uint64_t file_blocks,
		      const struct pst_superblock **ret_sb, bool *ret_repair, char detail[PST_DETAIL_BYTES])
{
	bool a_ok = pst_sb_intact(a), b_ok = pst_sb_intact(b);
	const struct pst_superblock *best;
	pst_err err;

	if (!a_ok && !b_ok) {
		snprintf(detail, PST_DETAIL_BYTES, "%s: neither its first nor its last block is an intact superblock",
			 a->magic == PST_SB_MAGIC || b->magic == PST_SB_MAGIC ? "damaged pool" : "not a Penstock pool");
		return PST_E_FORMAT;
	}
	best = !b_ok || (a_ok && a->generation >= b->generation) ? a : b;
	err = sb_sane(best, file_blocks, detail);
	if (err != PST_OK)
		return err;
	*ret_sb = best;
	*ret_repair = !a_ok || !b_ok;
	return PST_OK;
}

void pst_root_seal(struct pst_root *root)
{
	root->crc = crc_without(root, offsetof(struct pst_root, crc));
}

bool pst_root_intact(const struct pst_root *root, const uint8_t pool_uuid[16], uint32_t partition)
{
	return root->magic == PST_ROOT_MAGIC && root->partition == partition &&
	       memcmp(root->pool_uuid, pool_uuid, 16) == 0 &&
	       root->crc == crc_without(root, offsetof(struct pst_root, crc));
}

const struct pst_root *pst_root_choose(const struct pst_root slots[PST_ROOT_SLOTS], const uint8_t pool_uuid[16],
				       uint32_t partition)
{
	const struct pst_root *best = NULL;

	for (uint32_t i = 0; i < PST_ROOT_SLOTS; i++) {
		if (!pst_root_intact(&slots[i], pool_uuid, partition))
			continue;
		if (best == NULL || slots[i].generation > best->generation)
			best = &slots[i];
	}
	return best;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The space map of a partition against what its root reaches, page by page, for the checker. Of the two copies of a
 * page the newest that is not newer than the root counts; the other may be torn, since a checkpoint that was cut short
 * may have been writing it.
 */
#include "store/check-internal.h"

#include "base/crc32c.h"

#include <stdlib.h>
#include <string.h>

static uint32_t page_crc(const struct pst_space_page *page)
{
	static const uint8_t zero[4];
	uint32_t crc = pst_crc32c(page, offsetof(struct pst_space_page, crc));

	crc = pst_crc32c_more(crc, zero, sizeof(zero));
	return pst_crc32c_more(crc, &page->partition, sizeof(*page) - offsetof(struct pst_space_page, partition));
}

void ck_page_seal(struct pst_space_page *page)
{
	page->crc = page_crc(page);
}

static bool page_intact(const struct ck *ck, const struct pst_space_page *page, uint32_t index)
{
	return page->magic == PST_SPACE_MAGIC && page->partition == ck->part.index && page->index == index &&
	       page->crc == page_crc(page);
}

/* As it is before the first checkpoint that changes it. */
static void page_blank(const struct ck *ck, struct pst_space_page *page, uint32_t index)
{
	memset(page, 0, sizeof(*page));
	page->magic = PST_SPACE_MAGIC;
	page->partition = ck->part.index;
	page->index = index;
	ck_page_seal(page);
}

int ck_page_read(struct ck *ck, uint32_t index, struct pst_space_page *ret_page, bool *ret_later)
{
	struct pst_space_page *copies = (void *)ck->chunk;
	bool blank = false;
	int best = -1;

	*ret_later = false;
	for (int c = 0; c < 2; c++) {
		if (ck_read(ck, ck_page_block(ck, index, (uint32_t)c), &copies[c]) != PST_OK)
			memset(&copies[c], 0xff, sizeof(copies[c]));
		blank = blank || (copies[c].magic == 0 && copies[c].generation == 0);
		if (!page_intact(ck, &copies[c], index))
			continue;
		if (copies[c].generation > ck->part.root.generation)
			*ret_later = true;
		else if (best < 0 || copies[c].generation > copies[best].generation)
			best = c;
	}
	if (best >= 0)
		*ret_page = copies[best];
	else
		page_blank(ck, ret_page, index);
	return best >= 0 ? best : blank ? 0 : -1;
}

/* Bits @set or not in the page, where reaching says otherwise, in runs. */
static void differences(struct ck *ck, const struct pst_space_page *page, uint64_t first, bool set)
{
	struct ck_part *p = &ck->part;
	uint64_t limit = PST_MIN(first + PST_SPACE_BITS, p->blocks), run = 0;

	for (uint64_t b = first; b <= limit; b++) {
		bool in_map = b < limit && ck_bit(page->bits, (uint32_t)(b - first));
		bool reached = b < limit && ck_bit(p->reached, (uint32_t)b);

		if (b < limit && in_map != reached && in_map == set) {
			run++;
			continue;
		}
		if (run == 0)
			continue;
		if (set)
			ck_finding(
			    ck,
			    "partition %u: blocks %llu to %llu: in use says the space map, but nothing reaches them: "
			    "%llu blocks leaked",
			    p->index, (unsigned long long)(b - run), (unsigned long long)b - 1,
			    (unsigned long long)run);
		else
			ck_finding(
			    ck,
			    "partition %u: blocks %llu to %llu: free says the space map, but they are in use: they "
			    "may be overwritten",
			    p->index, (unsigned long long)(b - run), (unsigned long long)b - 1);
		run = 0;
	}
}

/* Bits for blocks that can't be data. */
static void outside(struct ck *ck, const struct pst_space_page *page, uint64_t first)
{
	const struct ck_part *p = &ck->part;

	for (uint32_t i = 0; i < PST_SPACE_BITS; i++)
		if (ck_bit(page->bits, i) && first + i >= p->blocks) {
			ck_finding(
			    ck,
			    "partition %u: its space map has bits beyond the partition's end: the pool can't be opened",
			    p->index);
			return;
		}
}

void ck_space(struct ck *ck)
{
	struct ck_part *p = &ck->part;
	struct pst_space_page *page = (void *)p->other[0];
	uint32_t digest = 0;
	uint32_t pages = (uint32_t)pst_div_round_up(p->blocks, PST_SPACE_BITS);
	uint32_t known = p->root.space_pages != 0 ? p->root.space_pages : p->geo.space_pages;
	bool damaged = false, later;

	for (uint32_t i = 0; i < pages; i++) {
		if (ck_page_read(ck, i, page, &later) < 0) {
			ck_finding(ck,
				   "partition %u: both copies of page %u of its space map are damaged: the pool can't "
				   "be opened",
				   p->index, i);
			damaged = true;
		} else {
			if (!p->broken)
				differences(ck, page, (uint64_t)i * PST_SPACE_BITS, true);
			differences(ck, page, (uint64_t)i * PST_SPACE_BITS, false);
			outside(ck, page, (uint64_t)i * PST_SPACE_BITS);
		}
		if (i < known) /* space that was added since the root is blank */
			digest = pst_crc32c_more(digest, &page->crc, sizeof(page->crc));
		ck_progress(ck, 2);
	}
	if (!damaged && digest != p->root.space_digest)
		ck_finding(
		    ck,
		    "partition %u: its space map is not the one that its root means: the newest copy of a page is "
		    "damaged; the pool can't be opened",
		    p->index);
	if (!p->broken && p->root.used_blocks != p->reached_count)
		ck_finding(
		    ck, "partition %u: its root counts %llu blocks in use, %llu are reached: the pool can't be opened",
		    p->index, (unsigned long long)p->root.used_blocks, (unsigned long long)p->reached_count);
}

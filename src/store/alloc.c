/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Invariants: used is a subset of busy; blocks before data_start are busy for ever and never used; free_count is the
 * number of blocks not busy, page_free the same by page.
 */
#include "store/alloc.h"

#include "base/crc32c.h"

#include <stdlib.h>
#include <string.h>

static uint64_t bit(uint32_t block)
{
	return (uint64_t)1 << (block % 64);
}

static uint32_t page_crc(const struct pst_space_page *page)
{
	static const uint8_t zero[4];
	uint32_t crc = pst_crc32c(page, offsetof(struct pst_space_page, crc));

	crc = pst_crc32c_more(crc, zero, sizeof(zero));
	return pst_crc32c_more(crc, &page->partition, sizeof(*page) - offsetof(struct pst_space_page, partition));
}

static void page_init(struct pst_alloc *a, uint32_t index)
{
	struct pst_space_page *p = &a->used[index];

	memset(p, 0, sizeof(*p));
	p->magic = PST_SPACE_MAGIC;
	p->partition = a->partition;
	p->index = index;
	p->crc = page_crc(p);
	a->page_crc[index] = p->crc;
}

/* By words: a large pool has hundreds of millions of blocks. */
static void all_free(struct pst_alloc *a)
{
	for (uint32_t w = 0; w < a->pages * PST_SPACE_WORDS; w++) {
		uint64_t first = (uint64_t)w * 64, word = 0;

		if (first < a->data_start)
			word |= a->data_start - first >= 64 ? UINT64_MAX : bit(a->data_start) - 1;
		if (first + 64 > a->blocks)
			word |= first >= a->blocks ? UINT64_MAX : ~(bit(a->blocks) - 1);
		a->busy[w] = word;
		a->page_free[w / PST_SPACE_WORDS] += 64 - (uint32_t)__builtin_popcountll(word);
	}
	a->free_count = a->blocks - a->data_start;
}

pst_err pst_alloc_init(struct pst_alloc *a, uint32_t partition, uint32_t blocks, uint32_t data_start)
{
	uint32_t pages = (uint32_t)pst_div_round_up(blocks, PST_SPACE_BITS);
	size_t page_bytes = (size_t)pages * PST_BLOCK_BYTES;

	*a = (struct pst_alloc){ .partition = partition, .blocks = blocks, .data_start = data_start, .pages = pages };
	a->used = aligned_alloc(PST_BLOCK_BYTES, page_bytes);
	a->busy = calloc((size_t)pages * PST_SPACE_WORDS, sizeof(uint64_t));
	a->page_free = calloc(pages, sizeof(uint32_t));
	a->page_crc = calloc(pages, sizeof(uint32_t));
	a->page_dirty = calloc(pages, 1);
	a->page_copy = calloc(pages, 1);
	if (a->used == NULL || a->busy == NULL || a->page_free == NULL || a->page_crc == NULL ||
	    a->page_dirty == NULL || a->page_copy == NULL) {
		pst_alloc_done(a);
		return PST_E_NOMEM;
	}
	for (uint32_t i = 0; i < pages; i++)
		page_init(a, i);
	all_free(a);
	a->cursor = data_start;
	return PST_OK;
}

void pst_alloc_done(struct pst_alloc *a)
{
	free(a->used);
	free(a->shadow);
	free(a->busy);
	free(a->page_free);
	free(a->page_crc);
	free(a->page_dirty);
	free(a->page_copy);
	*a = (struct pst_alloc){ 0 };
}

static void make_busy(struct pst_alloc *a, uint32_t block)
{
	a->busy[block / 64] |= bit(block);
	a->page_free[block / PST_SPACE_BITS]--;
	a->free_count--;
}

/* First free block in [from, to); @to if there is none. */
static uint32_t find_free(const struct pst_alloc *a, uint32_t from, uint32_t to)
{
	while (from < to) {
		uint64_t word;

		if (a->page_free[from / PST_SPACE_BITS] == 0) {
			uint64_t next = ((uint64_t)from / PST_SPACE_BITS + 1) * PST_SPACE_BITS;

			from = (uint32_t)PST_MIN(next, to);
			continue;
		}
		word = ~a->busy[from / 64] >> (from % 64);
		if (word != 0)
			return PST_MIN(from + (uint32_t)__builtin_ctzll(word), to);
		from = (uint32_t)PST_MIN(((uint64_t)from / 64 + 1) * 64, to);
	}
	return to;
}

uint32_t pst_alloc_take(struct pst_alloc *a, uint32_t want, uint32_t *ret_block)
{
	uint32_t block, count = 0;

	if (a->free_count == 0 || want == 0)
		return 0;
	block = find_free(a, a->cursor, a->blocks);
	if (block == a->blocks)
		block = find_free(a, a->data_start, a->cursor);
	pst_assert(!pst_alloc_is_busy(a, block));
	while (count < want && block + count < a->blocks && !pst_alloc_is_busy(a, block + count))
		make_busy(a, block + count++);
	a->cursor = block + count < a->blocks ? block + count : a->data_start;
	*ret_block = block;
	return count;
}

void pst_alloc_release(struct pst_alloc *a, uint32_t block, uint32_t count)
{
	for (uint32_t b = block; b < block + count; b++) {
		pst_assert(b >= a->data_start && b < a->blocks);
		pst_assert(pst_alloc_is_busy(a, b) && !pst_alloc_is_used(a, b));
		a->busy[b / 64] &= ~bit(b);
		a->page_free[b / PST_SPACE_BITS]++;
	}
	a->free_count += count;
}

bool pst_alloc_valid(const struct pst_alloc *a, uint64_t block, uint64_t count)
{
	return block >= a->data_start && pst_range_ok(block, count, a->blocks);
}

static uint64_t *used_word(const struct pst_alloc *a, uint32_t block)
{
	return &a->used[block / PST_SPACE_BITS].bits[block % PST_SPACE_BITS / 64];
}

bool pst_alloc_is_used(const struct pst_alloc *a, uint32_t block)
{
	return (*used_word(a, block) & bit(block)) != 0;
}

bool pst_alloc_is_busy(const struct pst_alloc *a, uint32_t block)
{
	return (a->busy[block / 64] & bit(block)) != 0;
}

bool pst_alloc_use(struct pst_alloc *a, uint32_t block)
{
	if (pst_alloc_is_used(a, block))
		return false;
	if (!pst_alloc_is_busy(a, block))
		make_busy(a, block);
	*used_word(a, block) |= bit(block);
	a->page_dirty[block / PST_SPACE_BITS] |= PST_PAGE_DIRTY;
	a->used_count++;
	return true;
}

bool pst_alloc_unuse(struct pst_alloc *a, uint32_t block)
{
	if (!pst_alloc_is_used(a, block))
		return false;
	*used_word(a, block) &= ~bit(block);
	a->page_dirty[block / PST_SPACE_BITS] |= PST_PAGE_DIRTY;
	a->used_count--;
	return true;
}

void pst_alloc_hold(struct pst_alloc *a, uint32_t block)
{
	if (!pst_alloc_is_busy(a, block))
		make_busy(a, block);
}

pst_err pst_alloc_shadow_get(struct pst_alloc *a)
{
	if (a->shadow == NULL)
		a->shadow = aligned_alloc(PST_BLOCK_BYTES, (size_t)a->pages * PST_BLOCK_BYTES);
	return a->shadow != NULL ? PST_OK : PST_E_NOMEM;
}

void pst_alloc_shadow_put(struct pst_alloc *a)
{
	free(a->shadow);
	a->shadow = NULL;
}

uint32_t pst_alloc_freeze(struct pst_alloc *a, uint64_t generation)
{
	for (uint32_t i = 0; i < a->pages; i++) {
		if (!(a->page_dirty[i] & PST_PAGE_DIRTY))
			continue;
		a->page_dirty[i] = PST_PAGE_WRITING;
		a->used[i].generation = generation;
		a->used[i].crc = page_crc(&a->used[i]);
		a->page_crc[i] = a->used[i].crc;
		a->shadow[i] = a->used[i];
	}
	return pst_crc32c(a->page_crc, a->pages * sizeof(uint32_t));
}

pst_err pst_alloc_load_page(struct pst_alloc *a, uint32_t index, const struct pst_space_page copies[2],
			    uint64_t generation)
{
	int best = -1;
	bool blank = false;

	for (int c = 0; c < 2; c++) {
		const struct pst_space_page *p = &copies[c];

		blank = blank || (p->magic == 0 && p->generation == 0);
		if (p->magic != PST_SPACE_MAGIC || p->partition != a->partition || p->index != index ||
		    p->crc != page_crc(p))
			continue;
		if (p->generation > generation) {
			/* Of a checkpoint that was never committed, but whose number will come again: overwrite it. */
			a->page_dirty[index] = PST_PAGE_DIRTY;
			continue;
		}
		if (best < 0 || p->generation > copies[best].generation)
			best = c;
	}
	if (best < 0)
		return blank ? PST_OK : PST_E_CHECKSUM;
	a->used[index] = copies[best];
	a->page_crc[index] = copies[best].crc;
	a->page_copy[index] = (uint8_t)best;
	return PST_OK;
}

pst_err pst_alloc_loaded(struct pst_alloc *a, uint32_t digest, uint64_t used_count)
{
	if (pst_crc32c(a->page_crc, a->pages * sizeof(uint32_t)) != digest)
		return PST_E_CHECKSUM;
	for (uint32_t w = 0; w < a->pages * PST_SPACE_WORDS; w++) {
		uint64_t word = a->used[w / PST_SPACE_WORDS].bits[w % PST_SPACE_WORDS];
		uint32_t count = (uint32_t)__builtin_popcountll(word);

		if ((word & a->busy[w]) != 0) /* so far only what is no data block is busy */
			return PST_E_CHECKSUM;
		a->busy[w] |= word;
		a->page_free[w / PST_SPACE_WORDS] -= count;
		a->free_count -= count;
		a->used_count += count;
	}
	return a->used_count == used_count ? PST_OK : PST_E_CHECKSUM;
}

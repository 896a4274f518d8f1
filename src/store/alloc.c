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

static void page_init(const struct pst_alloc *a, struct pst_space_page *p, uint32_t index)
{
	memset(p, 0, sizeof(*p));
	p->magic = PST_SPACE_MAGIC;
	p->partition = a->partition;
	p->index = index;
	p->crc = page_crc(p);
}

static uint64_t *busy_word(const struct pst_alloc *a, uint32_t block)
{
	return &a->busy[block / PST_SPACE_BITS][block % PST_SPACE_BITS / 64];
}

static void make_busy(struct pst_alloc *a, uint32_t block)
{
	*busy_word(a, block) |= bit(block);
	a->page_free[block / PST_SPACE_BITS]--;
	a->free_count--;
}

/* Those of [from, to) that are busy become free, word by word. */
static void make_free(struct pst_alloc *a, uint32_t from, uint32_t to)
{
	while (from < to) {
		uint32_t n = PST_MIN(64 - from % 64, to - from);
		uint64_t mask = (n == 64 ? ~(uint64_t)0 : bit(n) - 1) << (from % 64);
		uint64_t *word = busy_word(a, from);
		uint32_t count = (uint32_t)__builtin_popcountll(*word & mask);

		*word &= ~mask;
		a->page_free[from / PST_SPACE_BITS] += count;
		a->free_count += count;
		from += n;
	}
}

/* ---- Making and growing ---- */

static void *array(uint64_t count, size_t size, bool *ok)
{
	void *p = calloc(PST_MAX(count, 1u), size);

	*ok = *ok && p != NULL;
	return p;
}

/* Memory for the pages from @from on; those before it are the caller's to copy. */
static bool growth_memory(struct pst_alloc_growth *g, uint32_t from)
{
	uint32_t count = g->pages - from;
	bool ok = true;

	g->used = array(g->pages, sizeof(g->used[0]), &ok);
	g->busy = array(g->pages, sizeof(g->busy[0]), &ok);
	g->page_free = array(g->pages, sizeof(g->page_free[0]), &ok);
	g->page_crc = array(g->pages, sizeof(g->page_crc[0]), &ok);
	g->page_dirty = array(g->pages, 1, &ok);
	g->page_copy = array(g->pages, 1, &ok);
	g->memory[0] = aligned_alloc(PST_BLOCK_BYTES, (size_t)PST_MAX(count, 1u) * PST_BLOCK_BYTES);
	g->memory[1] = malloc((size_t)PST_MAX(count, 1u) * PST_SPACE_WORDS * sizeof(uint64_t));
	return ok && g->memory[0] != NULL && g->memory[1] != NULL;
}

pst_err pst_alloc_grow_prepare(const struct pst_alloc *a, uint32_t blocks, uint32_t reserved,
			       struct pst_alloc_growth *ret_growth)
{
	struct pst_alloc_growth g = { .blocks = blocks, .reserved = reserved };

	pst_assert(reserved > 0 && reserved < blocks && a->segment_count < PST_SEGMENTS_MAX);
	pst_assert(blocks <= UINT32_MAX - a->blocks);
	g.pages = (uint32_t)pst_div_round_up((uint64_t)a->blocks + blocks, PST_SPACE_BITS);
	if (!growth_memory(&g, a->pages)) {
		pst_alloc_grow_cancel(&g);
		return PST_E_NOMEM;
	}
	memset(g.memory[1], 0xff, (size_t)(g.pages - a->pages) * PST_SPACE_WORDS * sizeof(uint64_t));
	for (uint32_t i = a->pages; i < g.pages; i++) {
		g.used[i] = (struct pst_space_page *)g.memory[0] + (i - a->pages);
		g.busy[i] = (uint64_t *)g.memory[1] + (size_t)(i - a->pages) * PST_SPACE_WORDS;
		page_init(a, g.used[i], i);
		g.page_crc[i] = g.used[i]->crc;
		g.page_dirty[i] = PST_PAGE_DIRTY;
	}
	*ret_growth = g;
	return PST_OK;
}

void pst_alloc_grow_cancel(struct pst_alloc_growth *g)
{
	free(g->used);
	free(g->busy);
	free(g->page_free);
	free(g->page_crc);
	free(g->page_dirty);
	free(g->page_copy);
	for (size_t i = 0; i < PST_ARRAY_COUNT(g->memory); i++)
		free(g->memory[i]);
	*g = (struct pst_alloc_growth){ 0 };
}

#define TAKE_OVER(name)                                                          \
	do {                                                                     \
		if (a->pages > 0)                                                \
			memcpy(g->name, a->name, a->pages * sizeof(g->name[0])); \
		free(a->name);                                                   \
		a->name = g->name;                                               \
	} while (0)

void pst_alloc_grow_commit(struct pst_alloc *a, struct pst_alloc_growth *g)
{
	uint32_t data = a->blocks + g->reserved, end = a->blocks + g->blocks;

	TAKE_OVER(used);
	TAKE_OVER(busy);
	TAKE_OVER(page_free);
	TAKE_OVER(page_crc);
	TAKE_OVER(page_dirty);
	TAKE_OVER(page_copy);
	for (size_t i = 0; i < PST_ARRAY_COUNT(g->memory); i++)
		a->memory[a->memory_count++] = g->memory[i];
	a->pages = g->pages;
	a->segments[a->segment_count++] = (struct pst_alloc_segment){ data, end };
	a->blocks = end;
	a->data_blocks += end - data;
	make_free(a, data, end);
	*g = (struct pst_alloc_growth){ 0 };
}

/* An empty partition is one that has grown from nothing. */
pst_err pst_alloc_init(struct pst_alloc *a, uint32_t partition, uint32_t blocks, uint32_t data_start)
{
	struct pst_alloc_growth growth;
	pst_err err;

	*a = (struct pst_alloc){ .partition = partition, .data_start = data_start, .cursor = data_start };
	err = pst_alloc_grow_prepare(a, blocks, data_start, &growth);
	if (err != PST_OK)
		return err;
	pst_alloc_grow_commit(a, &growth);
	memset(a->page_dirty, 0, a->pages);
	a->run_cursor = data_start + (blocks - data_start) / 2;
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
	for (uint32_t i = 0; i < a->memory_count; i++)
		free(a->memory[i]);
	*a = (struct pst_alloc){ 0 };
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
		word = ~*busy_word(a, from) >> (from % 64);
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

/* First busy block in [from, to); @to if there is none. */
static uint32_t find_busy(const struct pst_alloc *a, uint32_t from, uint32_t to)
{
	while (from < to) {
		uint64_t word = *busy_word(a, from) >> (from % 64);

		if (word != 0)
			return PST_MIN(from + (uint32_t)__builtin_ctzll(word), to);
		from = (uint32_t)PST_MIN(((uint64_t)from / 64 + 1) * 64, to);
	}
	return to;
}

/* The first row of @want free blocks that begins in [from, to); @to if there is none. */
static uint32_t find_run(const struct pst_alloc *a, uint32_t from, uint32_t to, uint32_t want)
{
	while ((from = find_free(a, from, to)) < to) {
		uint32_t end = find_busy(a, from, (uint32_t)PST_MIN((uint64_t)from + want, a->blocks));

		if (end - from == want)
			return from;
		from = end;
	}
	return to;
}

uint32_t pst_alloc_take_run(struct pst_alloc *a, uint32_t want, uint32_t *ret_block)
{
	uint32_t block;

	if (want == 0 || a->free_count < want)
		return 0;
	block = find_run(a, a->run_cursor, a->blocks, want);
	if (block == a->blocks) {
		block = find_run(a, a->data_start, a->run_cursor, want);
		if (block == a->run_cursor)
			return 0;
	}
	for (uint32_t i = 0; i < want; i++)
		make_busy(a, block + i);
	a->run_cursor = block + want < a->blocks ? block + want : a->data_start;
	*ret_block = block;
	return want;
}

void pst_alloc_release(struct pst_alloc *a, uint32_t block, uint32_t count)
{
	pst_assert(pst_alloc_valid(a, block, count));
	for (uint32_t b = block; b < block + count; b++)
		pst_assert(pst_alloc_is_busy(a, b) && !pst_alloc_is_used(a, b));
	make_free(a, block, block + count);
}

bool pst_alloc_valid(const struct pst_alloc *a, uint64_t block, uint64_t count)
{
	for (uint32_t i = 0; i < a->segment_count; i++)
		if (block < a->segments[i].end)
			return block >= a->segments[i].data && pst_range_ok(block, count, a->segments[i].end);
	return false;
}

static uint64_t *used_word(const struct pst_alloc *a, uint32_t block)
{
	return &a->used[block / PST_SPACE_BITS]->bits[block % PST_SPACE_BITS / 64];
}

bool pst_alloc_is_used(const struct pst_alloc *a, uint32_t block)
{
	return (*used_word(a, block) & bit(block)) != 0;
}

bool pst_alloc_is_busy(const struct pst_alloc *a, uint32_t block)
{
	return (*busy_word(a, block) & bit(block)) != 0;
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

bool pst_alloc_page_ok(const struct pst_alloc *a, uint32_t index, const struct pst_space_page *page)
{
	if (a->used[index]->generation == 0) /* never written */
		return true;
	return page->magic == PST_SPACE_MAGIC && page->partition == a->partition && page->index == index &&
	       page->crc == page_crc(page) && page->crc == a->page_crc[index];
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
		a->used[i]->generation = generation;
		a->used[i]->crc = page_crc(a->used[i]);
		a->page_crc[i] = a->used[i]->crc;
		memcpy(&a->shadow[i], a->used[i], sizeof(a->shadow[i]));
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
	memcpy(a->used[index], &copies[best], sizeof(copies[best]));
	a->page_crc[index] = copies[best].crc;
	a->page_copy[index] = (uint8_t)best;
	return PST_OK;
}

static pst_err page_loaded(struct pst_alloc *a, uint32_t index)
{
	for (uint32_t w = 0; w < PST_SPACE_WORDS; w++) {
		uint64_t word = a->used[index]->bits[w];
		uint32_t count = (uint32_t)__builtin_popcountll(word);

		if ((word & a->busy[index][w]) != 0) /* so far only what is no data block is busy */
			return PST_E_CHECKSUM;
		a->busy[index][w] |= word;
		a->page_free[index] -= count;
		a->free_count -= count;
		a->used_count += count;
	}
	return PST_OK;
}

pst_err pst_alloc_loaded(struct pst_alloc *a, uint32_t pages, uint32_t digest, uint64_t used_count)
{
	if (pages > a->pages || pst_crc32c(a->page_crc, pages * sizeof(uint32_t)) != digest)
		return PST_E_CHECKSUM;
	for (uint32_t i = 0; i < pages; i++) {
		pst_err err = page_loaded(a, i);

		if (err != PST_OK)
			return err;
	}
	for (uint32_t i = pages; i < a->pages; i++)
		a->page_dirty[i] |= PST_PAGE_DIRTY;
	return a->used_count == used_count ? PST_OK : PST_E_CHECKSUM;
}

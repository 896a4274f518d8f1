/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Space of one partition, as two bitmaps. `used`: what the map reaches at this point of the log; this is what a
 * checkpoint writes, and what counts as used. `busy`: what must not be handed out: all that is used, and also blocks
 * of writes in flight, blocks freed by a record that is not yet durable or still being read, nodes of the root on disk.
 * One owner, one thread. Memory: 1/16384 of the partition (two bits per block), and while a checkpoint writes dirty
 * pages, these once more.
 *
 * Blocks are numbered through, but need not lie in a row: a partition grows by segments, each of which begins with
 * blocks that are never handed out (its space map pages; one at least). So no run of free blocks crosses into another
 * segment.
 */
#ifndef PST_STORE_ALLOC_H
#define PST_STORE_ALLOC_H

#include "store/format.h"

enum {
	PST_PAGE_DIRTY = 1,   /* differs from the disk */
	PST_PAGE_WRITING = 2, /* its shadow is to be written over the copy that is not current */
};

#define PST_SEGMENTS_MAX (1u + PST_REGIONS_MAX)

struct pst_alloc_segment {
	uint32_t data, end; /* blocks that can be handed out: [data, end) */
};

struct pst_alloc {
	uint32_t partition;
	uint32_t blocks, data_start, pages;
	struct pst_alloc_segment segments[PST_SEGMENTS_MAX];
	uint32_t segment_count;
	/* By page: arrays of pointers, so that growing copies no bitmap. */
	struct pst_space_page **used; /* in the form of the disk */
	uint64_t **busy;
	void *memory[2 * PST_SEGMENTS_MAX]; /* what they point into */
	uint32_t memory_count;
	struct pst_space_page *shadow; /* dirty pages as the checkpoint in progress writes them; NULL: there is none */
	uint32_t *page_free;           /* blocks not busy: full pages are passed over */
	uint32_t *page_crc;            /* of the pages as they are on disk */
	uint8_t *page_dirty;
	uint8_t *page_copy; /* which copy is current */
	uint32_t free_count, used_count;
	uint32_t data_blocks; /* that can be used at all */
	uint32_t cursor;      /* next fit, so that writes lie one behind another */
	uint32_t run_cursor;  /* the same for pst_alloc_take_run */
};

/* Memory for more blocks, taken before it is certain that they come. */
struct pst_alloc_growth {
	uint32_t blocks, reserved; /* of the new segment; reserved: at its beginning, not for data */
	uint32_t pages;            /* afterwards */
	struct pst_space_page **used;
	uint64_t **busy;
	void *memory[2];
	uint32_t *page_free, *page_crc;
	uint8_t *page_dirty, *page_copy;
};

pst_err PST_MUST_USE pst_alloc_init(struct pst_alloc *a, uint32_t partition, uint32_t blocks, uint32_t data_start);
void pst_alloc_done(struct pst_alloc *a);

/*
 * Another segment of @blocks blocks behind the end, the first @reserved (1 at least) of them not for data. prepare
 * takes the memory and changes nothing; then commit can't fail and is quick; or cancel. Pages that are new become
 * dirty.
 */
pst_err PST_MUST_USE pst_alloc_grow_prepare(const struct pst_alloc *a, uint32_t blocks, uint32_t reserved,
					    struct pst_alloc_growth *ret_growth);
void pst_alloc_grow_commit(struct pst_alloc *a, struct pst_alloc_growth *growth);
void pst_alloc_grow_cancel(struct pst_alloc_growth *growth);

/* Up to @want free blocks in a row; returns how many, beginning at *ret_block; 0: none are free. They become busy. */
uint32_t pst_alloc_take(struct pst_alloc *a, uint32_t want, uint32_t *ret_block);

/*
 * Exactly @want free blocks in a row, or 0 if there is no such row. Goes its own way through the partition, so that
 * what is put in order does not mix with what is being written.
 */
uint32_t pst_alloc_take_run(struct pst_alloc *a, uint32_t want, uint32_t *ret_block);

/* Not busy any more: free to be handed out. */
void pst_alloc_release(struct pst_alloc *a, uint32_t block, uint32_t count);

/* Is [block, block + count) a range of data blocks of one segment? For values from the disk. */
bool pst_alloc_valid(const struct pst_alloc *a, uint64_t block, uint64_t count);

/* Enter in, strike from the space map. False: it was (not) there already; nothing is changed then. */
bool PST_MUST_USE pst_alloc_use(struct pst_alloc *a, uint32_t block);
bool PST_MUST_USE pst_alloc_unuse(struct pst_alloc *a, uint32_t block);
bool pst_alloc_is_used(const struct pst_alloc *a, uint32_t block);
bool pst_alloc_is_busy(const struct pst_alloc *a, uint32_t block);

/* Make one block busy if it is not (recovery). */
void pst_alloc_hold(struct pst_alloc *a, uint32_t block);

/* Is @page what the disk should have as page @index by the last checkpoint? */
bool pst_alloc_page_ok(const struct pst_alloc *a, uint32_t index, const struct pst_space_page *page);

/* Memory for the shadow, before a freeze, and the end of it. Pages that are not dirty are never touched. */
pst_err PST_MUST_USE pst_alloc_shadow_get(struct pst_alloc *a);
void pst_alloc_shadow_put(struct pst_alloc *a);

/* Copy dirty pages to the shadow, sealed for @generation, and mark them WRITING; returns the digest over all. */
uint32_t pst_alloc_freeze(struct pst_alloc *a, uint64_t generation);

/*
 * Take over one page from disk: the newer intact one of @copies that is not newer than @generation.
 * A copy that was never written is an empty page, unless the other is intact. PST_E_CHECKSUM: neither.
 */
pst_err PST_MUST_USE pst_alloc_load_page(struct pst_alloc *a, uint32_t index, const struct pst_space_page copies[2],
					 uint64_t generation);

/*
 * After the first @pages pages, those that the root knows (further ones are empty and become dirty): compares the
 * digest, counts, makes all that is used busy. PST_E_CHECKSUM.
 */
pst_err PST_MUST_USE pst_alloc_loaded(struct pst_alloc *a, uint32_t pages, uint32_t digest, uint64_t used_count);

#endif

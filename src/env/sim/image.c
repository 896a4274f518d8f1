/* SPDX-License-Identifier: Apache-2.0 */
#include "env/sim/image.h"
#include "env/sim/internal.h"

#include <stdlib.h>
#include <string.h>

#define PAGE_BYTES 4096u
#define CHUNK_PAGES 256u
#define CHUNK_BYTES ((uint64_t)PAGE_BYTES * CHUNK_PAGES)

struct image_chunk {
	uint8_t *pages[CHUNK_PAGES];
};

struct sim_image {
	uint64_t size_bytes;
	uint64_t chunk_count;
	struct image_chunk **chunks;
};

struct sim_image *sim_image_new(uint64_t size_bytes)
{
	struct sim_image *image = sim_alloc(sizeof(*image));

	sim_image_resize(image, size_bytes);
	return image;
}

static void image_drop_chunk(struct sim_image *image, uint64_t i)
{
	if (!image->chunks[i])
		return;
	for (uint32_t p = 0; p < CHUNK_PAGES; p++)
		free(image->chunks[i]->pages[p]);
	free(image->chunks[i]);
	image->chunks[i] = NULL;
}

void sim_image_free(struct sim_image *image)
{
	for (uint64_t i = 0; i < image->chunk_count; i++)
		image_drop_chunk(image, i);
	free(image->chunks);
	free(image);
}

void sim_image_resize(struct sim_image *image, uint64_t size_bytes)
{
	uint64_t count = pst_div_round_up(size_bytes, CHUNK_BYTES);
	uint64_t keep = pst_round_up(size_bytes, CHUNK_BYTES);
	struct image_chunk **chunks;

	/* What lies beyond the new end must read as zeros if the file grows again. */
	if (size_bytes < image->size_bytes && keep > size_bytes)
		sim_image_write(image, size_bytes, NULL, PST_MIN(keep, image->size_bytes) - size_bytes);
	for (uint64_t i = count; i < image->chunk_count; i++)
		image_drop_chunk(image, i);
	chunks = realloc(image->chunks, (count ? count : 1) * sizeof(*chunks));
	pst_assert(chunks);
	for (uint64_t i = image->chunk_count; i < count; i++)
		chunks[i] = NULL;
	image->chunks = chunks;
	image->chunk_count = count;
	image->size_bytes = size_bytes;
}

void sim_image_read(const struct sim_image *image, uint64_t offset, void *buf, uint64_t len)
{
	uint8_t *to = buf;

	pst_assert(pst_range_ok(offset, len, image->size_bytes));
	while (len) {
		uint64_t in_page = offset % PAGE_BYTES, n = PST_MIN(len, PAGE_BYTES - in_page);
		struct image_chunk *chunk = image->chunks[offset / CHUNK_BYTES];
		uint8_t *page = chunk ? chunk->pages[offset / PAGE_BYTES % CHUNK_PAGES] : NULL;

		if (page)
			memcpy(to, page + in_page, n);
		else
			memset(to, 0, n);
		to += n;
		offset += n;
		len -= n;
	}
}

static uint8_t **image_page(struct sim_image *image, uint64_t offset)
{
	struct image_chunk **chunk = &image->chunks[offset / CHUNK_BYTES];

	if (!*chunk)
		*chunk = sim_alloc(sizeof(**chunk));
	return &(*chunk)->pages[offset / PAGE_BYTES % CHUNK_PAGES];
}

static void image_zero(struct sim_image *image, uint64_t offset, uint64_t n)
{
	struct image_chunk *chunk = image->chunks[offset / CHUNK_BYTES];
	uint8_t **page;

	if (!chunk)
		return;
	page = &chunk->pages[offset / PAGE_BYTES % CHUNK_PAGES];
	if (*page && n == PAGE_BYTES) {
		free(*page);
		*page = NULL;
	} else if (*page) {
		memset(*page + offset % PAGE_BYTES, 0, n);
	}
}

void sim_image_write(struct sim_image *image, uint64_t offset, const void *data, uint64_t len)
{
	const uint8_t *from = data;

	pst_assert(pst_range_ok(offset, len, image->size_bytes));
	while (len) {
		uint64_t in_page = offset % PAGE_BYTES, n = PST_MIN(len, PAGE_BYTES - in_page);

		if (!from) {
			if (!image->chunks[offset / CHUNK_BYTES]) /* skip what is empty anyway */
				n = PST_MIN(len, CHUNK_BYTES - offset % CHUNK_BYTES);
			else
				image_zero(image, offset, n);
		} else {
			uint8_t **page = image_page(image, offset);

			if (!*page)
				*page = sim_alloc(PAGE_BYTES);
			memcpy(*page + in_page, from, n);
			from += n;
		}
		offset += n;
		len -= n;
	}
}

void sim_image_copy(struct sim_image *to, const struct sim_image *from)
{
	pst_assert(to->size_bytes == from->size_bytes);
	for (uint64_t i = 0; i < from->chunk_count; i++) {
		image_drop_chunk(to, i);
		if (!from->chunks[i])
			continue;
		to->chunks[i] = sim_alloc(sizeof(*to->chunks[i]));
		for (uint32_t p = 0; p < CHUNK_PAGES; p++) {
			if (!from->chunks[i]->pages[p])
				continue;
			to->chunks[i]->pages[p] = sim_alloc(PAGE_BYTES);
			memcpy(to->chunks[i]->pages[p], from->chunks[i]->pages[p], PAGE_BYTES);
		}
	}
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Nodes in memory, for all partitions together, up to a limit. A node is found by its place in the tree (partition,
 * level, index), not by its address, so a changed node needs no new address before the checkpoint. A node can be
 * evicted when it is clean, not pinned, not being written, and no child of it is in memory.
 *
 * A frozen node that is not written yet has an image. While the node stays as it is, they share a page; when it changes
 * again, it takes a new page. Other versions may need the frozen node meanwhile: they find the image by its block.
 * Dirty nodes are limited to half of the capacity, and a snapshot waits until dirty nodes and images together are not
 * more than that, so there are at most two pages for each node.
 */
#include "store/internal.h"

#include <stdlib.h>
#include <string.h>

#define EVICT_SCAN_MAX 64u

pst_err cache_init(struct cache *c, uint64_t bytes)
{
	uint64_t nodes = bytes / PST_BLOCK_BYTES;
	uint64_t buckets = 64;

	while (buckets < nodes)
		buckets *= 2;
	*c = (struct cache){ .capacity = (uint32_t)PST_MIN(nodes, UINT32_MAX / 4), .hash_mask = (uint32_t)buckets - 1 };
	pst_list_init(&c->clean);
	pst_list_init(&c->waiters);
	pst_list_init(&c->spare);
	pst_list_init(&c->spare_images);
	c->hash = calloc(buckets, sizeof(c->hash[0]));
	c->image_hash = calloc(buckets, sizeof(c->image_hash[0]));
	return c->hash != NULL && c->image_hash != NULL ? PST_OK : PST_E_NOMEM;
}

void cache_done(struct cache *c)
{
	struct pst_list *l;

	for (uint32_t i = 0; c->image_hash != NULL && i <= c->hash_mask; i++) {
		for (struct image *image = c->image_hash[i], *next; image != NULL; image = next) {
			next = image->hash_next;
			if (image->node == NULL)
				free(image->page);
			free(image);
		}
	}
	for (uint32_t i = 0; c->hash != NULL && i <= c->hash_mask; i++) {
		for (struct node *n = c->hash[i], *next; n != NULL; n = next) {
			next = n->hash_next;
			free(n->data);
			free(n);
		}
	}
	free(c->hash);
	free(c->image_hash);
	c->hash = NULL;
	c->image_hash = NULL;
	while (c->spare.next != NULL && (l = pst_list_pop_front(&c->spare)) != NULL)
		free(pst_container_of(l, struct node, list));
	while (c->spare_images.next != NULL && (l = pst_list_pop_front(&c->spare_images)) != NULL)
		free(pst_container_of(l, struct image, list));
	while (c->pages != NULL) {
		void *next = *(void **)c->pages;

		free(c->pages);
		c->pages = next;
	}
}

static struct node **bucket(struct cache *c, const struct part *p, unsigned level, uint64_t index)
{
	uint64_t h = (index * PST_NODE_LEVELS + level) * 64 + p->index;

	h *= 0x9e3779b97f4a7c15u;
	return &c->hash[(h >> 32) & c->hash_mask];
}

struct node *cache_find(struct cache *c, const struct part *p, unsigned level, uint64_t index)
{
	for (struct node *n = *bucket(c, p, level, index); n != NULL; n = n->hash_next)
		if (n->index == index && n->level == level && n->part == p)
			return n;
	return NULL;
}

static uint32_t pages_max(const struct cache *c)
{
	return 2 * c->capacity + PST_NODE_LEVELS;
}

struct pst_node_disk *cache_page_get(struct cache *c)
{
	void *page = c->pages;
	struct image *image;

	if (page != NULL) {
		c->pages = *(void **)page;
		return page;
	}
	if (!c->overflow && c->page_count >= pages_max(c))
		return NULL;
	page = aligned_alloc(PST_BLOCK_BYTES, PST_BLOCK_BYTES);
	image = malloc(sizeof(*image));
	if (page == NULL || image == NULL) {
		free(page);
		free(image);
		return NULL;
	}
	pst_list_push_back(&c->spare_images, &image->list);
	c->page_count++;
	return page;
}

void cache_page_put(struct cache *c, void *page)
{
	if (c->page_count > pages_max(c)) {
		struct pst_list *spare = pst_list_pop_front(&c->spare_images);

		pst_assert(spare != NULL); /* an image has a page, so this page's is unused */
		free(pst_container_of(spare, struct image, list));
		c->page_count--;
		free(page);
		return;
	}
	*(void **)page = c->pages;
	c->pages = page;
}

void cache_touch(struct cache *c, struct node *n)
{
	if (n->dirty || n->loading)
		return;
	pst_list_remove(&n->list);
	pst_list_push_back(&c->clean, &n->list);
}

void cache_remove(struct store *st, struct node *n)
{
	struct cache *c = &st->cache;
	struct node **at = bucket(c, n->part, n->level, n->index);

	pst_assert(n->pins == 0 && n->children == 0 && !n->loading);
	while (*at != n)
		at = &(*at)->hash_next;
	*at = n->hash_next;
	pst_list_remove(&n->list);
	if (n->parent != NULL)
		n->parent->children--;
	n->parent = NULL;
	c->count--;
	if (n->image != NULL)
		n->image->node = NULL; /* it keeps the page */
	else
		cache_page_put(c, n->data);
	n->image = NULL;
	n->data = NULL;
	pst_list_push_back(&c->spare, &n->list);
}

/* ---- Images ---- */

static struct image **image_bucket(struct cache *c, const struct part *p, uint32_t block)
{
	uint64_t h = ((uint64_t)block * PST_PARTITIONS_MAX + p->index) * 0x9e3779b97f4a7c15u;

	return &c->image_hash[(h >> 32) & c->hash_mask];
}

struct image *image_add(struct cache *c, struct node *n)
{
	struct image **at = image_bucket(c, n->part, n->block);
	struct pst_list *spare = pst_list_pop_front(&c->spare_images);
	struct image *image;

	pst_assert(n->image == NULL && spare != NULL); /* one for each page */
	image = pst_container_of(spare, struct image, list);
	*image = (struct image){ .part = n->part, .node = n, .page = n->data, .block = n->block, .hash_next = *at };
	pst_list_init(&image->list);
	*at = image;
	c->image_count++;
	n->image = image;
	return image;
}

struct image *image_find(struct cache *c, const struct part *p, uint32_t block)
{
	struct image *image = *image_bucket(c, p, block);

	while (image != NULL && (image->part != p || image->block != block))
		image = image->hash_next;
	return image;
}

void image_written(struct cache *c, struct image *image)
{
	struct image **at = image_bucket(c, image->part, image->block);

	while (*at != image)
		at = &(*at)->hash_next;
	*at = image->hash_next;
	c->image_count--;
	if (image->node != NULL)
		image->node->image = NULL;
	pst_list_push_back(&c->spare_images, &image->list);
	if (image->node == NULL)
		cache_page_put(c, image->page);
}

/* ---- Nodes ---- */

static struct node *child_of(struct cache *c, const struct node *n, uint32_t i)
{
	return cache_find(c, n->part, n->level - 1u, n->index * PST_NODE_FANOUT + i);
}

bool cache_idle_below(struct cache *c, const struct node *n)
{
	uint32_t left = n->children;

	for (uint32_t i = 0; left > 0 && i < PST_NODE_FANOUT; i++) {
		const struct node *child = child_of(c, n, i);

		if (child == NULL)
			continue;
		left--;
		if (child->loading || child->pins > 0 || !cache_idle_below(c, child))
			return false;
	}
	return true;
}

void cache_forget(struct store *st, struct node *n, uint32_t i)
{
	struct node *child = n->children > 0 ? child_of(&st->cache, n, i) : NULL;

	if (child == NULL)
		return;
	pst_assert(!child->dirty); /* what is shared is not */
	for (uint32_t j = 0; child->children > 0 && j < PST_NODE_FANOUT; j++)
		cache_forget(st, child, j);
	cache_remove(st, child);
}

static bool evict_one(struct store *st)
{
	struct cache *c = &st->cache;

	for (unsigned i = 0; i < EVICT_SCAN_MAX && !pst_list_empty(&c->clean); i++) {
		struct node *n = pst_container_of(c->clean.next, struct node, list);

		if (n->pins == 0 && n->children == 0 && n->image == NULL && n->parent != NULL && !n->loading) {
			cache_remove(st, n);
			return true;
		}
		pst_list_remove(&n->list);
		pst_list_push_back(&c->clean, &n->list);
	}
	return false;
}

bool cache_room(struct store *st, uint32_t count)
{
	struct cache *c = &st->cache;

	while (c->count + count > c->capacity && !c->overflow)
		if (!evict_one(st))
			return false;
	return true;
}

static struct node *node_struct(struct cache *c)
{
	struct pst_list *l = pst_list_pop_front(&c->spare);

	return l != NULL ? pst_container_of(l, struct node, list) : malloc(sizeof(struct node));
}

struct node *cache_add(struct store *st, struct part *p, unsigned level, uint64_t index, struct node *parent)
{
	struct cache *c = &st->cache;
	struct node *n, **at = bucket(c, p, level, index);
	struct pst_node_disk *page;

	if (parent != NULL)
		parent->pins++;
	if (!cache_room(st, 1) || (page = cache_page_get(c)) == NULL) {
		if (parent != NULL)
			parent->pins--;
		return NULL;
	}
	if (parent != NULL)
		parent->pins--;
	n = node_struct(c);
	if (n == NULL) {
		cache_page_put(c, page);
		return NULL;
	}
	*n = (struct node){ .part = p, .parent = parent, .index = index, .level = (uint8_t)level, .data = page };
	memset(page, 0, sizeof(*page));
	page->magic = PST_NODE_MAGIC;
	page->level = (uint8_t)level;
	page->format = PST_NODE_FORMAT;
	page->partition = p->index;
	page->index = index;
	if (parent != NULL)
		parent->children++;
	pst_list_init(&n->waiters);
	pst_list_init(&n->list);
	pst_list_push_back(&c->clean, &n->list);
	n->hash_next = *at;
	*at = n;
	c->count++;
	return n;
}

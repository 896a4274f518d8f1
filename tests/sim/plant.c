/* SPDX-License-Identifier: Apache-2.0 */
#include "plant.h"

#include "base/crc32c.h"
#include "store/logfmt.h"
#include "store/superblock.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ROOTS_NODE UINT32_MAX

static const char *const names[] = { "superblock", "root",         "space map page", "log block",    "node",
				     "stale node", "zero node",    "data",           "swapped data", "leak",
				     "free block", "used twice",   "count",          "outside",      "mark",
				     "dropped",    "root's count", "catalog" };

const char *plant_name(enum plant_kind kind)
{
	return names[kind];
}

/* ---- Reading ---- */

static void *at(const struct plant_image *im, uint32_t part, uint64_t block)
{
	return im->bytes + (im->sb.partitions[part].start + block) * PST_BLOCK_BYTES;
}

static struct pst_root *newest_root(const struct plant_image *im, uint32_t part)
{
	struct pst_root *slots = at(im, part, 0), *best = NULL;

	for (uint32_t i = 0; i < PST_ROOT_SLOTS; i++)
		if (pst_root_intact(&slots[i], im->sb.uuid, part) &&
		    (best == NULL || slots[i].generation > best->generation))
			best = &slots[i];
	return best;
}

/* The log from the root on; returns its length and the last block that is proven. */
static uint32_t log_blocks(const struct plant_image *im, uint32_t part, uint64_t *ret_proven)
{
	const struct pst_sb_partition *geo = &im->sb.partitions[part];
	const struct pst_root *root = newest_root(im, part);
	uint32_t prev = root->log_prev_crc, count = 0;

	*ret_proven = 0;
	for (; count < geo->log_blocks; count++) {
		const struct pst_log_block *b =
		    at(im, part, geo->log_start + (root->log_seq + count) % geo->log_blocks);

		if (!pst_log_block_follows(b, part, root->incarnation, root->log_seq + count, prev))
			break;
		prev = b->crc;
		*ret_proven = PST_MAX(*ret_proven, b->durable_seq);
	}
	return count;
}

static bool log_has(const struct plant_image *im, uint32_t part, uint64_t place)
{
	const struct pst_sb_partition *geo = &im->sb.partitions[part];
	uint64_t proven, seq = newest_root(im, part)->log_seq;
	uint32_t count = log_blocks(im, part, &proven);

	for (uint32_t i = 0; i < count; i++) {
		const struct pst_log_block *b = at(im, part, geo->log_start + (seq + i) % geo->log_blocks);
		const struct pst_log_record *r;
		uint32_t offset = 0;
		bool bad = false;

		while ((r = pst_log_block_next(b, &offset, &bad)) != NULL)
			if (place - (r->slot * PST_SLOT_SPAN + r->lba) < r->count || r->kind == PST_LOG_SNAPSHOT ||
			    r->kind == PST_LOG_CLONE || r->kind == PST_LOG_MERGE)
				return true;
	}
	return false;
}

static void collect(struct plant_image *im, struct plant_node n)
{
	const struct pst_node_disk *node = at(im, n.part, n.block);
	uint32_t index = im->node_count;

	if (im->node_count == im->node_capacity) {
		im->node_capacity = im->node_capacity > 0 ? im->node_capacity * 2 : 256;
		im->nodes = realloc(im->nodes, im->node_capacity * sizeof(im->nodes[0]));
		pst_assert(im->nodes != NULL);
	}
	if (n.level < 0)
		n.superseded = log_has(im, n.part, n.place);
	im->nodes[im->node_count++] = n;
	for (uint32_t i = 0; n.level >= 0 && i < PST_NODE_FANOUT; i++)
		if (node->entry[i].block != 0)
			collect(im, (struct plant_node){ .part = n.part,
							 .block = pst_ptr_block(node->entry[i]),
							 .level = n.level - 1,
							 .parent = index,
							 .entry = i,
							 .place = n.place * PST_NODE_FANOUT + i });
}

void plant_image_init(struct plant_image *im, uint8_t *bytes, uint64_t blocks)
{
	*im = (struct plant_image){ .bytes = bytes, .blocks = blocks };
	memcpy(&im->sb, bytes, sizeof(im->sb));
	pst_assert(pst_sb_intact(&im->sb));
	im->clean = im->sb.clean != 0;
	for (uint32_t p = 0; p < im->sb.partition_count; p++)
		if (newest_root(im, p)->map.block != 0)
			collect(im, (struct plant_node){ .part = p,
							 .block = newest_root(im, p)->map.block,
							 .level = PST_NODE_LEVELS - 1,
							 .parent = ROOTS_NODE });
}

void plant_image_done(struct plant_image *im)
{
	free(im->nodes);
	free(im->bytes);
	*im = (struct plant_image){ 0 };
}

/* ---- Writing, with right checksums ---- */

static void root_seal(struct plant_image *im, uint32_t part, const struct pst_root *root)
{
	struct pst_root *slots = at(im, part, 0), sealed = *root;

	pst_root_seal(&sealed);
	for (uint32_t copy = 0; copy < 2; copy++)
		slots[root->generation % 2 * 2 + copy] = sealed;
}

/* Node @n has changed: what points to it along its path gets its new checksum. */
static void reseal(struct plant_image *im, uint32_t n)
{
	for (;;) {
		const struct plant_node *node = &im->nodes[n];
		uint32_t crc = pst_crc32c(at(im, node->part, node->block), PST_BLOCK_BYTES);

		if (node->parent == ROOTS_NODE) {
			struct pst_root root = *newest_root(im, node->part);

			root.map.crc = crc;
			root_seal(im, node->part, &root);
			return;
		}
		((struct pst_node_disk *)at(im, node->part, im->nodes[node->parent].block))->entry[node->entry].crc =
		    crc;
		n = node->parent;
	}
}

/* ---- Choosing ---- */

typedef bool fits_fn(const struct plant_image *im, const struct plant_node *n);

static bool is_node(const struct plant_image *im, const struct plant_node *n)
{
	(void)im;
	return n->level >= 0;
}

static bool is_data(const struct plant_image *im, const struct plant_node *n)
{
	(void)im;
	return n->level < 0 && !n->superseded;
}

static bool is_users_data(const struct plant_image *im, const struct plant_node *n)
{
	return is_data(im, n) && n->place >= PST_SLOT_SPAN;
}

/* Slots from 1 on, below their node of level 3. */
static bool is_users_entry(const struct plant_image *im, const struct plant_node *n)
{
	uint64_t per_slot = PST_SLOT_SPAN;

	(void)im;
	for (int level = -1; level < n->level; level++)
		per_slot /= PST_NODE_FANOUT;
	return n->level < (int)PST_NODE_LEVEL_VOLUME && !n->superseded && n->place >= per_slot;
}

/* A random one of those that fit, UINT32_MAX: none. */
static uint32_t choose(const struct plant_image *im, struct pst_prng *prng, fits_fn *fits)
{
	uint32_t from = (uint32_t)pst_prng_below(prng, im->node_count);

	for (uint32_t i = 0; i < im->node_count; i++) {
		uint32_t n = (from + i) % im->node_count;

		if (fits(im, &im->nodes[n]))
			return n;
	}
	return UINT32_MAX;
}

static void flip(uint8_t *block, struct pst_prng *prng, char what[160])
{
	uint32_t bit = (uint32_t)pst_prng_below(prng, PST_BLOCK_BYTES * 8);
	size_t used = strlen(what);

	block[bit / 8] ^= (uint8_t)(1u << (bit % 8));
	snprintf(what + used, 160 - used, " bit %u of byte %u", bit % 8, bit / 8);
}

static uint32_t random_part(const struct plant_image *im, struct pst_prng *prng)
{
	return (uint32_t)pst_prng_below(prng, im->sb.partition_count);
}

/* ---- Kinds ---- */

static bool space_page(struct plant_image *im, uint32_t part, uint32_t index, struct pst_space_page **ret_page)
{
	const struct pst_root *root = newest_root(im, part);
	struct pst_space_page *copies = at(im, part, im->sb.partitions[part].space_start + 2 * (uint64_t)index);

	*ret_page = NULL;
	for (int c = 0; c < 2; c++)
		if (copies[c].magic == PST_SPACE_MAGIC && copies[c].generation <= root->generation &&
		    (*ret_page == NULL || copies[c].generation > (*ret_page)->generation))
			*ret_page = &copies[c];
	return *ret_page != NULL;
}

static uint32_t page_crc(struct pst_space_page *page)
{
	page->crc = 0;
	return page->crc = pst_crc32c(page, sizeof(*page));
}

void plant_cut_checkpoint(struct plant_image *im)
{
	for (uint32_t part = 0; part < im->sb.partition_count; part++) {
		const struct pst_sb_partition *geo = &im->sb.partitions[part];

		for (uint32_t i = 0; i < geo->space_pages; i++) {
			struct pst_space_page *copies = at(im, part, geo->space_start + 2 * (uint64_t)i), *page, *other;

			if (!space_page(im, part, i, &page))
				continue;
			other = page == copies ? &copies[1] : &copies[0];
			*other = *page;
			other->generation = newest_root(im, part)->generation + 1;
			for (uint32_t b = geo->data_start; b < geo->blocks; b += 7)
				other->bits[b / 64] ^= (uint64_t)1 << (b % 64);
			(void)page_crc(other);
		}
	}
}

/* One bit of the space map, under right checksums. Only images with one page for each partition. */
static bool plant_space_bit(struct plant_image *im, uint32_t part, uint32_t block, bool to)
{
	struct pst_root root = *newest_root(im, part);
	struct pst_space_page *page;
	uint32_t crc;

	if (im->sb.partitions[part].space_pages != 1 || !space_page(im, part, 0, &page))
		return false;
	if (((page->bits[block / 64] >> (block % 64) & 1) != 0) == to)
		return false;
	page->bits[block / 64] ^= (uint64_t)1 << (block % 64);
	crc = page_crc(page);
	root.space_digest = pst_crc32c(&crc, sizeof(crc));
	root.used_blocks += to ? 1 : (uint64_t)-1;
	root_seal(im, part, &root);
	return true;
}

static bool plant_leak(struct plant_image *im, struct pst_prng *prng, char what[160])
{
	uint32_t part = random_part(im, prng);
	const struct pst_sb_partition *geo = &im->sb.partitions[part];
	uint32_t block = geo->data_start + (uint32_t)pst_prng_below(prng, geo->blocks - geo->data_start);

	snprintf(what, 160, "partition %u block %u leaked", part, block);
	return plant_space_bit(im, part, block, true);
}

static bool plant_log(struct plant_image *im, struct pst_prng *prng, char what[160])
{
	uint32_t part = random_part(im, prng);
	const struct pst_sb_partition *geo = &im->sb.partitions[part];
	uint64_t proven, first = newest_root(im, part)->log_seq, seq;
	uint32_t count = log_blocks(im, part, &proven);

	if (count == 0 || proven < first)
		return false;
	seq = first + pst_prng_below(prng, PST_MIN(proven - first + 1, count));
	if (seq == first + count - 1)
		return false; /* nothing behind it says so */
	snprintf(what, 160, "partition %u log block %llu", part, (unsigned long long)seq);
	flip(at(im, part, geo->log_start + seq % geo->log_blocks), prng, what);
	return true;
}

void plant_log_gap(struct plant_image *im, uint32_t part)
{
	const struct pst_sb_partition *geo = &im->sb.partitions[part];
	uint64_t proven, first = newest_root(im, part)->log_seq;

	pst_assert(log_blocks(im, part, &proven) > 1 && proven > first);
	((uint8_t *)at(im, part, geo->log_start + first % geo->log_blocks))[PST_BLOCK_BYTES - 1] ^= 1;
}

static bool plant_swap(struct plant_image *im, struct pst_prng *prng, fits_fn *fits, char what[160])
{
	uint32_t a = choose(im, prng, fits), b = choose(im, prng, fits);
	void *to;

	if (a == UINT32_MAX)
		return false;
	to = at(im, im->nodes[a].part, im->nodes[a].block);
	if (memcmp(to, at(im, im->nodes[b].part, im->nodes[b].block), PST_BLOCK_BYTES) == 0)
		return false;
	snprintf(what, 160, "partition %u block %u (level %d) has the contents of block %u", im->nodes[a].part,
		 im->nodes[a].block, im->nodes[a].level, im->nodes[b].block);
	memcpy(to, at(im, im->nodes[b].part, im->nodes[b].block), PST_BLOCK_BYTES);
	return true;
}

static struct pst_node_disk *parent_of(struct plant_image *im, uint32_t n)
{
	return at(im, im->nodes[n].part, im->nodes[im->nodes[n].parent].block);
}

/* The entry that leads to a random place is changed, under right checksums. */
static bool plant_entry(struct plant_image *im, enum plant_kind kind, struct pst_prng *prng, char what[160])
{
	uint32_t n = choose(im, prng, is_users_entry), other = choose(im, prng, is_data);
	const struct plant_node *node = &im->nodes[n];
	const struct pst_sb_partition *geo;
	struct pst_ptr *ptr;

	if (n == UINT32_MAX || other == UINT32_MAX)
		return false;
	geo = &im->sb.partitions[node->part];
	ptr = &parent_of(im, n)->entry[node->entry];
	snprintf(what, 160, "partition %u: entry %u of the node of level %d in block %u", node->part, node->entry,
		 node->level + 1, im->nodes[node->parent].block);
	switch (kind) {
	case PLANT_USED_TWICE:
		if (node->level >= 0 || im->nodes[other].part != node->part || im->nodes[other].block == node->block)
			return false;
		ptr->block = im->nodes[other].block | (ptr->block & PST_PTR_INHERITED);
		ptr->crc = pst_crc32c(at(im, node->part, im->nodes[other].block), PST_BLOCK_BYTES);
		break;
	case PLANT_OUTSIDE:
		ptr->block = pst_prng_chance(prng, 1, 2) ? 1 + (uint32_t)pst_prng_below(prng, geo->data_start - 1)
							 : geo->blocks + (uint32_t)pst_prng_below(prng, 1 << 20);
		break;
	case PLANT_MARK:
		ptr->block ^= PST_PTR_INHERITED;
		break;
	default:
		*ptr = (struct pst_ptr){ 0 };
		parent_of(im, n)->used--;
	}
	reseal(im, node->parent);
	return true;
}

static bool plant_count(struct plant_image *im, struct pst_prng *prng, char what[160])
{
	uint32_t n = choose(im, prng, is_node);
	struct pst_node_disk *node = at(im, im->nodes[n].part, im->nodes[n].block);
	uint64_t which = pst_prng_below(prng, 3);

	if (im->nodes[n].level > (int)PST_NODE_LEVEL_VOLUME)
		which = 0;
	else if (im->nodes[n].level < (int)PST_NODE_LEVEL_VOLUME)
		which %= 2;
	snprintf(what, 160, "partition %u: count %llu of the node of level %d in block %u", im->nodes[n].part,
		 (unsigned long long)which, im->nodes[n].level, im->nodes[n].block);
	if (which == 0)
		node->used ^= 1u << pst_prng_below(prng, 9);
	else
		*(which == 1 ? &node->data_blocks : &node->own_blocks) += 1 + pst_prng_below(prng, 100);
	reseal(im, n);
	return true;
}

static bool plant_catalog(struct plant_image *im, struct pst_prng *prng, char what[160])
{
	for (uint32_t n = 0; n < im->node_count; n++) {
		struct pst_catalog_head *head;
		struct pst_version_disk *v;
		uint32_t i;

		if (im->nodes[n].level >= 0 || im->nodes[n].part != 0 || im->nodes[n].place != 0)
			continue;
		head = at(im, 0, im->nodes[n].block);
		if (head->magic != PST_CATALOG_MAGIC || head->version_count == 0 || !im->clean)
			return false;
		i = (uint32_t)pst_prng_below(prng, PST_MIN(head->version_count, 60u));
		v = (struct pst_version_disk *)(void *)(head + 1) + i;
		snprintf(what, 160, "catalog: the version in slot %u", v->slot);
		switch (pst_prng_below(prng, 5)) {
		case 0:
			v->slot += 200; /* of nobody: its data has no version then */
			break;
		case 1:
			v->parent = 250000;
			break;
		case 2:
			v->flags |= 1u << 31;
			break;
		case 3:
			v->block_count = 0;
			break;
		default:
			head->version_count += 1000;
		}
		parent_of(im, n)->entry[im->nodes[n].entry].crc = pst_crc32c(head, PST_BLOCK_BYTES);
		reseal(im, im->nodes[n].parent);
		return true;
	}
	return false;
}

static bool plant_flip(struct plant_image *im, enum plant_kind kind, struct pst_prng *prng, char what[160])
{
	uint32_t part = random_part(im, prng), n;
	const struct pst_root *root = newest_root(im, part);
	struct pst_space_page *page;
	uint8_t *block;

	switch (kind) {
	case PLANT_SUPERBLOCK:
		block = pst_prng_chance(prng, 1, 2) ? im->bytes : im->bytes + (im->sb.blocks - 1) * PST_BLOCK_BYTES;
		snprintf(what, 160, "superblock, %s copy,", block == im->bytes ? "first" : "second");
		break;
	case PLANT_ROOT:
		if (!im->clean)
			return false;
		block = at(im, part, root->generation % 2 * 2 + pst_prng_below(prng, 2));
		snprintf(what, 160, "partition %u root", part);
		if (pst_prng_chance(prng, 1, 2)) {
			memset(block, 0, PST_BLOCK_BYTES);
			return true;
		}
		break;
	case PLANT_SPACE:
		if (!space_page(im, part, (uint32_t)pst_prng_below(prng, im->sb.partitions[part].space_pages), &page))
			return false;
		block = (uint8_t *)page;
		snprintf(what, 160, "partition %u space map page %u", part, page->index);
		break;
	default:
		n = choose(im, prng, kind == PLANT_DATA ? is_data : is_node);
		if (n == UINT32_MAX)
			return false;
		block = at(im, im->nodes[n].part, im->nodes[n].block);
		snprintf(what, 160, "partition %u block %u (level %d)", im->nodes[n].part, im->nodes[n].block,
			 im->nodes[n].level);
	}
	flip(block, prng, what);
	return true;
}

bool plant(struct plant_image *im, enum plant_kind kind, struct pst_prng *prng, char what[160])
{
	struct pst_root root;
	uint32_t n;

	what[0] = '\0';
	switch (kind) {
	case PLANT_LOG:
		return plant_log(im, prng, what);
	case PLANT_NODE_STALE:
		return plant_swap(im, prng, is_node, what);
	case PLANT_DATA_SWAPPED:
		return plant_swap(im, prng, is_users_data, what);
	case PLANT_NODE_ZERO:
		n = choose(im, prng, is_node);
		snprintf(what, 160, "partition %u block %u is zeros", im->nodes[n].part, im->nodes[n].block);
		memset(at(im, im->nodes[n].part, im->nodes[n].block), 0, PST_BLOCK_BYTES);
		return true;
	case PLANT_LEAK:
		return plant_leak(im, prng, what);
	case PLANT_FREE:
		n = (uint32_t)pst_prng_below(prng, im->node_count);
		snprintf(what, 160, "partition %u block %u is free and reached", im->nodes[n].part, im->nodes[n].block);
		return plant_space_bit(im, im->nodes[n].part, im->nodes[n].block, false);
	case PLANT_USED_TWICE:
	case PLANT_OUTSIDE:
	case PLANT_MARK:
	case PLANT_DROPPED:
		return plant_entry(im, kind, prng, what);
	case PLANT_COUNT:
		return plant_count(im, prng, what);
	case PLANT_ROOT_COUNT:
		n = random_part(im, prng);
		root = *newest_root(im, n);
		root.used_blocks += 1 + pst_prng_below(prng, 50);
		root_seal(im, n, &root);
		snprintf(what, 160, "partition %u: the root's count of used blocks", n);
		return true;
	case PLANT_CATALOG:
		return plant_catalog(im, prng, what);
	default:
		return plant_flip(im, kind, prng, what);
	}
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "pool-image.h"

#include "base/crc32c.h"
#include "store/superblock.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { REACHED = 1, OWNED = 2 }; /* owned: by a pointer that is not inherited, nor anything above it */

struct image {
	pool_image_read_fn *read;
	void *ctx;
	char *why;
	struct pst_superblock sb;
	uint32_t part;
	uint8_t *reached; /* by block of the partition */
	uint64_t count, data_count, own;
};

static bool bad(struct image *im, const char *what, uint64_t block)
{
	snprintf(im->why, 256, "pool image: partition %u block %llu: %s", im->part, (unsigned long long)block, what);
	return false;
}

static bool get(struct image *im, uint64_t block, void *buf)
{
	return im->read(im->ctx, im->sb.partitions[im->part].start + block, buf) || bad(im, "can't be read", block);
}

static bool reach(struct image *im, struct pst_ptr ptr, int level, bool inherited, uint64_t *ret_data)
{
	uint32_t block = pst_ptr_block(ptr);
	const struct pst_sb_partition *geo = &im->sb.partitions[im->part];
	struct pst_node_disk node;
	uint64_t below = 0;
	uint32_t used = 0;

	inherited = inherited || pst_ptr_inherited(ptr);
	if (block < geo->data_start || block >= geo->blocks)
		return bad(im, "is no data block", block);
	if (!inherited && (im->reached[block] & OWNED) != 0)
		return bad(im, "belongs to two", block);
	if (im->reached[block] == 0) {
		im->count++;
		im->data_count += level < 0;
	}
	im->reached[block] |= inherited ? REACHED : REACHED | OWNED;
	if (!get(im, block, &node))
		return false;
	if (pst_crc32c(&node, sizeof(node)) != ptr.crc)
		return bad(im, level < 0 ? "data checksum" : "node checksum", block);
	if (level < 0) {
		*ret_data += 1;
		return true;
	}
	if (node.magic != PST_NODE_MAGIC || node.level != level)
		return bad(im, "is not a node of its level", block);
	for (uint32_t i = 0; i < PST_NODE_FANOUT; i++) {
		if (node.entry[i].block == 0)
			continue;
		used++;
		if (!reach(im, node.entry[i], level - 1, inherited, &below))
			return false;
	}
	if (level == PST_NODE_LEVEL_VOLUME)
		im->own += node.own_blocks;
	/* A version that is being deleted says 0. */
	if (used != node.used ||
	    (level <= (int)PST_NODE_LEVEL_VOLUME && below != node.data_blocks && node.data_blocks != 0))
		return bad(im, "counts wrong", block);
	if (used == 0 && level < (int)PST_NODE_LEVEL_VOLUME)
		return bad(im, "is an empty node", block);
	*ret_data += below;
	return true;
}

static bool check_space(struct image *im, const struct pst_root *root)
{
	const struct pst_sb_partition *geo = &im->sb.partitions[im->part];
	struct pst_space_page page, best;

	if (root->used_blocks != im->count)
		return bad(im, "the root's count of used blocks is not what is reached", 0);
	for (uint32_t i = 0; i < geo->space_pages; i++) {
		bool any = false;

		memset(&best, 0, sizeof(best));
		for (uint32_t c = 0; c < 2; c++) {
			if (!get(im, geo->space_start + 2 * i + c, &page))
				return false;
			if (page.magic == PST_SPACE_MAGIC && page.generation <= root->generation &&
			    (!any || page.generation > best.generation)) {
				best = page;
				any = true;
			}
		}
		for (uint32_t b = 0; b < PST_SPACE_BITS && i * PST_SPACE_BITS + b < geo->blocks; b++) {
			bool set = (best.bits[b / 64] >> (b % 64) & 1) != 0;

			if (set != (im->reached[i * PST_SPACE_BITS + b] != 0))
				return bad(im, set ? "is allocated and not reached" : "is reached and not allocated",
					   i * PST_SPACE_BITS + b);
		}
	}
	return true;
}

static bool check_partition(struct image *im)
{
	struct pst_root roots[PST_ROOT_SLOTS];
	const struct pst_root *root;
	uint64_t data = 0;

	for (uint32_t i = 0; i < PST_ROOT_SLOTS; i++)
		if (!get(im, i, &roots[i]))
			return false;
	root = pst_root_choose(roots, im->sb.uuid, im->part);
	if (root == NULL)
		return bad(im, "no root", 0);
	im->count = im->data_count = im->own = 0;
	if (root->map.block != 0 && !reach(im, root->map, PST_NODE_LEVELS - 1, false, &data))
		return false;
	if (im->own != im->data_count)
		return bad(im, "the versions' own blocks are not as many as there are", 0);
	return check_space(im, root);
}

bool pool_image_check(pool_image_read_fn *read, void *ctx, char why[256])
{
	struct image im = { .read = read, .ctx = ctx, .why = why };
	bool ok = true;

	if (!read(ctx, 0, &im.sb) || !pst_sb_intact(&im.sb))
		return bad(&im, "no superblock", 0);
	for (im.part = 0; ok && im.part < im.sb.partition_count; im.part++) {
		im.reached = calloc(im.sb.partitions[im.part].blocks, 1);
		ok = check_partition(&im);
		free(im.reached);
	}
	return ok;
}

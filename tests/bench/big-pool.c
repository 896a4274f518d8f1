/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writes a large pool quickly: big-pool --file POOL --mapped BYTES
 *
 * All metadata is real: every leaf of the map has its own block, with the right checksums, counts and space map, as if
 * the volume had been written once from end to end. The data blocks are holes of the (sparse) file, which read as
 * zeros, and their CRC is that of zeros; so a pool with 1 TiB mapped takes 2 GiB of disk, and opens, checks and scrubs
 * as any.
 *
 * The pool and its volume (uuid 1) are made by the store itself; then each partition gets the volume's nodes and a root
 * of the next generation, as a checkpoint would have written them.
 */
#include "base/crc32c.h"
#include "base/units.h"
#include "store/alloc.h"
#include "store/store.h"
#include "store/superblock.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define B PST_BLOCK_BYTES
#define SLOT 1u /* of the only volume */
#define BATCH 256u

_Noreturn static void die(const char *what, const char *detail)
{
	fprintf(stderr, "big-pool: %s: %s\n", what, detail);
	exit(1);
}

/* ---- The empty pool ---- */

static bool waiting;

static void store_done(struct pst_store_op *op)
{
	(void)op;
	waiting = false;
}

static void pool_done(struct pst_pool_op *op)
{
	(void)op;
	waiting = false;
}

static void pool_make(const char *path, uint64_t mapped_bytes)
{
	struct pst_env_config env_config = { .backend = PST_ENV_POSIX, .log_level = PST_LOG_ERROR };
	/* Room for nodes, logs, reserves and some new data. */
	struct pst_store_format_config format = { .size_bytes = mapped_bytes + mapped_bytes / 10 + ((uint64_t)1 << 28),
						  .partition_count = 1 };
	struct pst_store_config config = { 0 };
	struct pst_store_op op = { .done = store_done };
	struct pst_pool_op create = {
		.kind = PST_POOL_VOLUME_CREATE, .uuid = { 1 }, .block_count = mapped_bytes / B, .done = pool_done
	};
	struct pst_pool_op close_op = { .kind = PST_POOL_CLOSE, .done = pool_done };
	struct pst_env *env;

	/* As many as by default, but a power of two, so that all get the same share. */
	while (format.partition_count < PST_PARTITIONS_MAX && mapped_bytes / (format.partition_count * 2) >= (uint64_t)8
														 << 30)
		format.partition_count *= 2;
	if (pst_env_new(&env_config, &env) != PST_OK)
		die(path, "no environment");
	for (int step = 0; step < 2; step++) {
		waiting = true;
		if (step == 0)
			pst_store_format(env, path, &format, &op);
		else
			pst_store_open(env, path, &config, &op);
		while (waiting)
			pst_env_poll(env, UINT64_MAX);
		if (op.err != PST_OK)
			die(path, op.detail);
	}
	for (int step = 0; step < 2; step++) {
		struct pst_pool_op *p = step == 0 ? &create : &close_op;

		waiting = true;
		pst_pool_submit(op.pool, p);
		while (waiting)
			pst_env_poll(env, UINT64_MAX);
		if (p->err != PST_OK)
			die(path, pst_err_text(p->err));
	}
	pst_env_free(env);
}

/* ---- Blocks ---- */

struct filling {
	int fd;
	const char *path;
	struct pst_superblock sb;
	const struct pst_sb_partition *geo;
	uint32_t index;
	struct pst_alloc alloc;
	struct pst_root root;
	uint32_t zero_crc;
	uint32_t node_block, node_count; /* taken for nodes and not yet used: they lie together */
	uint32_t nodes_left;             /* to be taken after that */
	uint8_t *batch;                  /* nodes on their way to the disk: blocks batch_first.. */
	uint32_t batch_first, batch_count;
};

static void blocks_read(struct filling *f, uint64_t block, uint32_t count, void *buf)
{
	if (pread(f->fd, buf, (size_t)count * B, (off_t)((f->geo->start + block) * B)) != (ssize_t)count * B)
		die(f->path, "can't be read");
}

static void blocks_write(struct filling *f, uint64_t block, uint32_t count, const void *buf)
{
	if (pwrite(f->fd, buf, (size_t)count * B, (off_t)((f->geo->start + block) * B)) != (ssize_t)count * B)
		die(f->path, "can't be written");
}

static void batch_flush(struct filling *f)
{
	if (f->batch_count > 0)
		blocks_write(f, f->batch_first, f->batch_count, f->batch);
	f->batch_count = 0;
}

static uint32_t take(struct filling *f, uint32_t want, uint32_t *ret_block)
{
	uint32_t n = pst_alloc_take(&f->alloc, want, ret_block);

	if (n == 0)
		die(f->path, "a partition is too small for its share");
	for (uint32_t i = 0; i < n; i++)
		if (!pst_alloc_use(&f->alloc, *ret_block + i))
			die(f->path, "the space map is wrong");
	return n;
}

static void nodes_take(struct filling *f)
{
	if (f->node_count > 0 || f->nodes_left == 0)
		return;
	f->node_count = take(f, f->nodes_left, &f->node_block);
	f->nodes_left -= f->node_count;
}

/* Gives the node a block and hands it to the disk. */
static struct pst_ptr node_write(struct filling *f, struct pst_node_disk *n)
{
	uint32_t block = f->node_block++;

	f->node_count--;
	n->generation = f->root.generation;
	if (f->batch_count == BATCH || (f->batch_count > 0 && block != f->batch_first + f->batch_count))
		batch_flush(f);
	if (f->batch_count == 0)
		f->batch_first = block;
	memcpy(f->batch + (size_t)f->batch_count++ * B, n, B);
	nodes_take(f);
	return (struct pst_ptr){ block, pst_crc32c(n, B) };
}

static void node_init(struct filling *f, struct pst_node_disk *n, unsigned level, uint64_t index)
{
	memset(n, 0, sizeof(*n));
	n->magic = PST_NODE_MAGIC;
	n->level = (uint8_t)level;
	n->partition = f->index;
	n->index = index;
	n->format = f->sb.version >= 2 ? 2 : 0;
}

/* ---- The volume's nodes ---- */

/* One leaf over @count local LBAs. Its data lies in a row. */
static void leaf_fill(struct filling *f, struct pst_node_disk *n, uint32_t count)
{
	for (uint32_t i = 0; i < count;) {
		uint32_t block, got = take(f, count - i, &block);

		for (uint32_t j = 0; j < got; j++)
			n->entry[i++] = (struct pst_ptr){ block + j, f->zero_crc };
	}
	n->used = count;
	n->data_blocks = count;
}

/* The node of @level over @count local LBAs from @local on, with all that is below it. */
static struct pst_ptr subtree(struct filling *f, unsigned level, uint64_t local, uint64_t count)
{
	struct pst_node_disk *n = aligned_alloc(B, B);
	uint64_t span = 1;
	struct pst_ptr ptr;

	for (unsigned l = 0; l < level; l++)
		span *= PST_NODE_FANOUT;
	node_init(f, n, level, (SLOT * PST_SLOT_SPAN + local) / (span * PST_NODE_FANOUT));
	if (level == 0) {
		leaf_fill(f, n, (uint32_t)count);
	} else {
		for (uint64_t at = 0; at < count; at += span) {
			n->entry[n->used++] = subtree(f, level - 1, local + at, PST_MIN(span, count - at));
		}
		n->data_blocks = count;
	}
	if (level == PST_NODE_LEVEL_VOLUME && f->sb.version >= 2)
		n->own_blocks = count;
	ptr = node_write(f, n);
	free(n);
	return ptr;
}

/* The new version of a node above the volume's, with @child as its entry @i; @old: where it was, if anywhere. */
static struct pst_ptr above(struct filling *f, unsigned level, struct pst_ptr old, uint32_t i, struct pst_ptr child,
			    uint64_t count, struct pst_node_disk *n)
{
	if (old.block != 0) {
		if (!pst_alloc_unuse(&f->alloc, old.block))
			die(f->path, "the space map is wrong");
	} else {
		node_init(f, n, level, 0);
	}
	n->used += n->entry[i].block == 0;
	n->entry[i] = child;
	if (f->sb.version < 2)
		n->data_blocks += count;
	return node_write(f, n);
}

static void map_fill(struct filling *f, uint64_t count)
{
	struct pst_node_disk *top = aligned_alloc(B, B), *middle = aligned_alloc(B, B);
	struct pst_ptr child, old = { 0 };

	f->nodes_left = PST_NODE_LEVELS - 1 - PST_NODE_LEVEL_VOLUME;
	for (uint64_t below = count, level = 0; level <= PST_NODE_LEVEL_VOLUME; level++) {
		below = pst_div_round_up(below, PST_NODE_FANOUT);
		f->nodes_left += (uint32_t)below;
	}
	nodes_take(f);
	child = subtree(f, PST_NODE_LEVEL_VOLUME, 0, count);

	if (f->root.map.block != 0) {
		blocks_read(f, f->root.map.block, 1, top);
		old = top->entry[0];
	}
	if (old.block != 0)
		blocks_read(f, old.block, 1, middle);
	child = above(f, PST_NODE_LEVEL_VOLUME + 1, old, SLOT, child, count, middle);
	f->root.map = above(f, PST_NODE_LEVELS - 1, f->root.map, 0, child, count, top);
	batch_flush(f);
	free(top);
	free(middle);
}

/* ---- A partition ---- */

static void space_load(struct filling *f)
{
	struct pst_space_page *copies = aligned_alloc(B, (size_t)2 * B);
	pst_err err = pst_alloc_init(&f->alloc, f->index, f->geo->blocks, f->geo->data_start);

	for (uint32_t i = 0; err == PST_OK && i < f->geo->space_pages; i++) {
		blocks_read(f, f->geo->space_start + (uint64_t)2 * i, 2, copies);
		err = pst_alloc_load_page(&f->alloc, i, copies, f->root.generation);
	}
	if (err == PST_OK)
		err = pst_alloc_loaded(&f->alloc, f->geo->space_pages, f->root.space_digest, f->root.used_blocks);
	if (err != PST_OK)
		die(f->path, "the space map can't be loaded");
	free(copies);
}

static void partition_fill(struct filling *f, uint32_t index, uint64_t count)
{
	struct pst_root *slots = aligned_alloc(B, (size_t)PST_ROOT_SLOTS * B);
	const struct pst_root *newest;
	struct pst_alloc *a = &f->alloc;

	f->index = index;
	f->geo = &f->sb.partitions[index];
	blocks_read(f, 0, PST_ROOT_SLOTS, slots);
	newest = pst_root_choose(slots, f->sb.uuid, index);
	if (newest == NULL)
		die(f->path, "a partition has no root");
	f->root = *newest;
	space_load(f);
	f->root.generation++;
	map_fill(f, count);
	if (pst_alloc_shadow_get(a) != PST_OK)
		die(f->path, "no memory");
	f->root.space_digest = pst_alloc_freeze(a, f->root.generation);
	f->root.used_blocks = a->used_count;
	for (uint32_t i = 0; i < a->pages; i++)
		if (a->page_dirty[i] & PST_PAGE_WRITING)
			blocks_write(f, f->geo->space_start + 2 * i + (a->page_copy[i] ^ 1u), 1, a->used[i]);
	pst_root_seal(&f->root);
	slots[0] = slots[1] = f->root;
	blocks_write(f, f->root.generation % 2 * 2, 2, slots);
	pst_alloc_done(a);
	free(slots);
}

int main(int argc, char **argv)
{
	static const uint8_t zeros[B];
	static struct filling f;
	uint64_t mapped = 0, row;

	if (argc != 5 || strcmp(argv[1], "--file") != 0 || strcmp(argv[3], "--mapped") != 0 ||
	    pst_parse_size(argv[4], &mapped) != PST_OK) {
		fprintf(stderr, "usage: big-pool --file POOL --mapped BYTES (as 100Gi)\n");
		return 2;
	}
	f.path = argv[2];
	pool_make(f.path, mapped);
	f.fd = open(f.path, O_RDWR);
	if (f.fd < 0 || pread(f.fd, &f.sb, B, 0) != B || !pst_sb_intact(&f.sb))
		die(f.path, "has no superblock");
	row = (uint64_t)f.sb.partition_count * PST_STRIPE_BLOCKS;
	if (mapped / B % row != 0)
		die(f.path, "the mapped size must be a multiple of the stripes of all partitions: take whole GiB");
	f.zero_crc = pst_crc32c(zeros, B);
	f.batch = aligned_alloc(B, (size_t)BATCH * B);
	for (uint32_t i = 0; i < f.sb.partition_count; i++)
		partition_fill(&f, i, mapped / B / f.sb.partition_count);
	if (fsync(f.fd) != 0)
		die(f.path, "can't be flushed");
	close(f.fd);
	free(f.batch);
	printf("{\"file\":\"%s\",\"mapped_bytes\":%llu,\"partitions\":%u}\n", f.path, (unsigned long long)mapped,
	       f.sb.partition_count);
	return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Adding space to an open pool: a new device, or the tail of one that has grown. Requests go on all the while.
 *
 *   open and look (a device that holds a pool is refused) -> lay out the region -> memory for all partitions
 *   -> space map pages zeroed, headers, the device's own superblock copies -> flush
 *   -> both superblocks of the pool, which list the region: from here on it exists
 *   -> the partitions grow, one in each turn of the pool; who waits for space goes on
 *
 * Whatever ends this before the superblocks leaves the pool as it was; the device may then be added again. If writing
 * the superblocks fails nobody knows which of them is on the disk: the pool takes no more writes until it is opened
 * again, as after a failed flush.
 */
#include "store/internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum growth_step {
	GROWTH_READ_FIRST, /* of a new device: is it a pool? */
	GROWTH_READ_LAST,
	GROWTH_LAYOUT,
	GROWTH_ZERO, /* a partition at a time */
	GROWTH_HEADER,
	GROWTH_HEADER_COPY,
	GROWTH_LABEL_LAST,
	GROWTH_LABEL,
	GROWTH_FLUSH,
	GROWTH_SUPERBLOCKS,
	GROWTH_PARTITIONS,
};

struct growth {
	struct store *st;
	struct pst_pool_op *user;
	struct waiter wait;
	struct pst_file_op op;
	struct iovec iov;
	struct device *device;
	bool added;     /* a new device */
	bool committed; /* the pool's superblocks are being written: the device is the pool's */
	uint32_t device_index, part_index;
	uint64_t blocks;             /* of the device, afterwards */
	enum growth_step step;       /* what comes next */
	struct pst_region *region;   /* a page */
	struct pst_superblock *next; /* the pool's, with the region; a page */
	struct pst_superblock *page;
	struct pst_alloc_growth allocs[PST_PARTITIONS_MAX];
};

static void step(struct growth *g);

static void growth_end(struct growth *g, pst_err err)
{
	struct store *st = g->st;

	for (uint32_t i = 0; i < st->part_count; i++)
		pst_alloc_grow_cancel(&g->allocs[i]); /* those that were not committed */
	if (g->added && !g->committed && g->device->file != NULL) {
		pst_file_close(g->device->file);
		*g->device = (struct device){ 0 };
	}
	st->growth = NULL;
	free(g->region);
	free(g->next);
	free(g->page);
	free(g);
	control_finish(st, err);
}

static void refuse(struct growth *g, pst_err err, const char *what)
{
	if (g->user->detail[0] == '\0')
		snprintf(g->user->detail, sizeof(g->user->detail), "%.100s: %s", g->user->key, what);
	growth_end(g, err);
}

static void op_done(struct pst_file_op *op)
{
	struct growth *g = pst_container_of(op, struct growth, op);

	g->st->outstanding--;
	if (op->err != PST_OK) {
		refuse(g, op->err, op->kind == PST_FILE_READ ? "it can't be read" : "it can't be written");
		return;
	}
	step(g);
}

static void submit(struct growth *g, enum pst_file_kind kind, uint64_t block, uint64_t count, void *buf)
{
	bool data = kind == PST_FILE_READ || kind == PST_FILE_WRITE;

	g->iov = (struct iovec){ buf, PST_BLOCK_BYTES };
	g->op = (struct pst_file_op){ .kind = kind,
				      .iov = data ? &g->iov : NULL,
				      .iov_count = data,
				      .offset_bytes = block * PST_BLOCK_BYTES,
				      .len_bytes = count * PST_BLOCK_BYTES,
				      .done = op_done };
	device_submit(g->device, &g->op);
}

/* ---- Layout ---- */

static void next_superblock(struct growth *g, uint64_t start)
{
	struct store *st = g->st;
	struct pst_superblock *sb = g->next;
	const char *paths[PST_DEVICES_MAX];

	memcpy(sb, st->sb, sizeof(*sb));
	sb->features_incompat |= PST_FEATURE_REGIONS;
	if (sb->device_count == 0) {
		sb->device_count = 1;
		pst_env_random(st->pool.env, sb->devices[0].uuid, 16);
		memcpy(sb->device_uuid, sb->devices[0].uuid, 16);
		sb->devices[0].blocks = sb->blocks;
	}
	if (g->added) {
		sb->device_count = g->device_index + 1;
		pst_env_random(st->pool.env, sb->devices[g->device_index].uuid, 16);
	}
	sb->devices[g->device_index].blocks = g->blocks;
	for (uint32_t i = 0; i < sb->device_count; i++)
		paths[i] = st->devices[i].path;
	if (!pst_sb_set_device_paths(sb, paths))
		store_event(st, PST_LOG_WARN,
			    "device_paths_too_long: not all fit into the superblock; name the devices with --device");
	memcpy(g->region->device_uuid, sb->devices[g->device_index].uuid, 16);
	g->region->created_ns = pst_env_wall_ns(st->pool.env);
	pst_region_seal(g->region);
	sb->regions[sb->region_count++] =
	    (struct pst_sb_region){ .start = start, .device = g->device_index, .header_crc = g->region->crc };
	/* What the device's own copies say: see struct pst_superblock. */
	memcpy(g->page, sb, sizeof(*sb));
	g->page->device_index = g->device_index;
	memcpy(g->page->device_uuid, sb->devices[g->device_index].uuid, 16);
	pst_sb_seal(g->page);
}

static pst_err layout(struct growth *g)
{
	struct store *st = g->st;
	const struct pst_superblock *sb = st->sb;
	uint64_t have[PST_PARTITIONS_MAX], start = 1;
	pst_err err;

	if (!g->added)
		start = sb->device_count > 0 ? sb->devices[g->device_index].blocks : sb->blocks;
	if (sb->region_count == PST_REGIONS_MAX) {
		snprintf(g->user->detail, sizeof(g->user->detail),
			 "space was added %u times, which is all that a pool has room for; make another pool",
			 PST_REGIONS_MAX);
		return PST_E_RANGE;
	}
	if (g->blocks <= start) {
		snprintf(g->user->detail, sizeof(g->user->detail),
			 "%.60s has not grown: the pool uses all %llu bytes of it; enlarge it, or name a larger size",
			 g->user->key, (unsigned long long)start * PST_BLOCK_BYTES);
		return PST_E_RANGE;
	}
	for (uint32_t i = 0; i < st->part_count; i++)
		have[i] = part_blocks(&st->parts[i]);
	err = pst_region_layout(sb, have, sb->region_count, g->device_index, start, g->blocks - 1 - start, g->region,
				g->user->detail);
	if (err != PST_OK)
		return err;
	next_superblock(g, start);
	for (uint32_t i = 0; i < st->part_count; i++) {
		const struct pst_region_segment *s = &g->region->segments[i];

		err = pst_alloc_grow_prepare(&st->parts[i].alloc, s->blocks, s->data, &g->allocs[i]);
		if (err != PST_OK)
			return err;
	}
	return PST_OK;
}

/* A device that holds a pool, or a part of another one, stays as it is. What an addition that was cut short left is
 * nothing. */
static bool is_free(struct growth *g)
{
	const struct pst_superblock *sb = g->page;
	char uuid[37];

	if (!pst_sb_intact(sb))
		return true;
	if (memcmp(sb->uuid, g->st->sb->uuid, 16) == 0 && sb->device_index >= PST_MAX(g->st->sb->device_count, 1u))
		return true;
	snprintf(g->user->detail, sizeof(g->user->detail),
		 "%.80s belongs to %s %s; it is left as it is: choose another, or wipe its first and last 4096 bytes",
		 g->user->key, memcmp(sb->uuid, g->st->sb->uuid, 16) == 0 ? "this pool" : "the pool",
		 store_uuid_text(sb->uuid, uuid));
	return false;
}

/* ---- The region exists ---- */

static void partition_grow(struct growth *g)
{
	struct store *st = g->st;
	const struct pst_region *r = g->region;
	struct part *p = &st->parts[g->part_index++];

	part_segment_add(p, r);
	pst_alloc_grow_commit(&p->alloc, &g->allocs[p->index]);
	p->space_wake = true;
	if (g->part_index < st->part_count) {
		store_wake(st, &g->wait);
		return;
	}
	store_event(st, PST_LOG_INFO, "%s device=%s added_bytes=%llu pool_bytes=%llu",
		    g->added ? "pool_device_added" : "pool_grown", g->device->path,
		    (unsigned long long)r->blocks * PST_BLOCK_BYTES, (unsigned long long)devices_bytes(st));
	growth_end(g, PST_OK);
}

static void superblocks_failed(struct growth *g, pst_err err)
{
	store_fail(g->st, err, "superblock_write_failed");
	refuse(g, err, "the superblock can't be written; open the pool again to see whether the space was added");
}

static void superblocks_write(struct growth *g)
{
	struct store *st = g->st;
	uint64_t generation = st->sb->generation, mirror = pst_sb_mirror(st->sb);

	if (st->failed != PST_OK) {
		refuse(g, PST_E_IO, "the pool takes no more writes");
		return;
	}
	g->committed = true;
	memcpy(st->sb, g->next, sizeof(*st->sb));
	st->sb->generation = generation;
	memcpy(&st->regions[g->region->index], g->region, sizeof(*g->region));
	st->device_count = st->sb->device_count;
	devices_changed(st);
	g->step = GROWTH_PARTITIONS;
	g->part_index = 0;
	sb_write(st, &g->wait);
	/* Until the second copy is durable at its new place, the first one is all that is sure; the old place is free.
	 */
	st->sb_spare_bytes = mirror * PST_BLOCK_BYTES;
}

/* ---- The machine ---- */

static void step(struct growth *g)
{
	const struct pst_region *r = g->region;
	const struct pst_region_segment *s;
	pst_err err;

	switch (g->step) {
	case GROWTH_READ_FIRST:
		g->step = GROWTH_READ_LAST;
		submit(g, PST_FILE_READ, 0, 1, g->page);
		return;
	case GROWTH_READ_LAST:
		if (!is_free(g)) {
			growth_end(g, PST_E_EXISTS);
			return;
		}
		g->step = GROWTH_LAYOUT;
		submit(g, PST_FILE_READ, g->blocks - 1, 1, g->page);
		return;
	case GROWTH_LAYOUT:
		err = g->added && !is_free(g) ? PST_E_EXISTS : layout(g);
		if (err != PST_OK) {
			refuse(g, err, pst_err_text(err));
			return;
		}
		g->step = GROWTH_ZERO;
		/* fall through */
	case GROWTH_ZERO:
		s = &r->segments[g->part_index++];
		if (g->part_index == g->st->part_count)
			g->step = GROWTH_HEADER;
		submit(g, PST_FILE_WRITE_ZEROES, s->start, s->data, NULL);
		return;
	case GROWTH_HEADER:
		g->step = GROWTH_HEADER_COPY;
		submit(g, PST_FILE_WRITE, r->start, 1, g->region);
		return;
	case GROWTH_HEADER_COPY:
		/* The last block of device 0 is the pool's second superblock, to be written when all is ready. */
		g->step = g->device_index > 0 ? GROWTH_LABEL_LAST : GROWTH_FLUSH;
		submit(g, PST_FILE_WRITE, r->start + r->blocks - 1, 1, g->region);
		return;
	case GROWTH_LABEL_LAST:
		g->step = g->added ? GROWTH_LABEL : GROWTH_FLUSH;
		submit(g, PST_FILE_WRITE, g->blocks - 1, 1, g->page);
		return;
	case GROWTH_LABEL:
		g->step = GROWTH_FLUSH;
		submit(g, PST_FILE_WRITE, 0, 1, g->page);
		return;
	case GROWTH_FLUSH:
		g->step = GROWTH_SUPERBLOCKS;
		if (g->added)
			submit(g, PST_FILE_FLUSH, 0, 0, NULL);
		else /* there is data of the pool on this device: its flush must not fail unheard */
			commit_wait(g->st, &g->wait);
		return;
	case GROWTH_SUPERBLOCKS:
		superblocks_write(g);
		return;
	default:
		partition_grow(g);
	}
}

static void waited(struct waiter *w)
{
	struct growth *g = pst_container_of(w, struct growth, wait);
	pst_err err = w->err;

	w->err = PST_OK;
	if (err == PST_OK)
		step(g);
	else if (g->step == GROWTH_SUPERBLOCKS)
		refuse(g, err, "its device can't be flushed");
	else
		superblocks_failed(g, err);
}

/* ---- The beginning ---- */

static pst_err device_sized(struct growth *g)
{
	struct device *d = g->device;
	uint64_t size_bytes = g->user->size_bytes / PST_BLOCK_BYTES * PST_BLOCK_BYTES;
	pst_err err = PST_OK;

	pst_file_info(d->file, &d->info);
	if (size_bytes > d->info.size_bytes)
		err = pst_file_truncate(d->file, size_bytes);
	if (err == PST_E_UNSUPPORTED)
		snprintf(g->user->detail, sizeof(g->user->detail),
			 "%.100s is a block device of %llu bytes; enlarge it with the tools that made it", g->user->key,
			 (unsigned long long)d->info.size_bytes);
	pst_file_info(d->file, &d->info);
	g->blocks = d->info.size_bytes / PST_BLOCK_BYTES;
	if (err == PST_OK && g->blocks < 3)
		err = PST_E_RANGE;
	return err;
}

static pst_err find_device(struct growth *g)
{
	struct store *st = g->st;
	const char *path = g->user->key;

	for (g->device_index = 0; g->device_index < st->device_count; g->device_index++)
		if (strcmp(st->devices[g->device_index].path, path) == 0)
			break;
	g->device = &st->devices[g->device_index % PST_DEVICES_MAX];
	if (g->user->kind == PST_POOL_GROW && g->device_index < st->device_count) {
		g->step = GROWTH_LAYOUT;
		return device_sized(g);
	}
	if (g->user->kind == PST_POOL_GROW) {
		snprintf(g->user->detail, sizeof(g->user->detail),
			 "%.60s is no device of the pool; the first one is %.60s", path, st->devices[0].path);
		return PST_E_NOTFOUND;
	}
	if (g->device_index < st->device_count || g->device_index == PST_DEVICES_MAX) {
		snprintf(g->user->detail, sizeof(g->user->detail),
			 g->device_index < st->device_count ? "%.80s is a device of the pool already"
							    : "%.80s: a pool has at most 8 devices",
			 path);
		return g->device_index < st->device_count ? PST_E_EXISTS : PST_E_RANGE;
	}
	return PST_OK;
}

static pst_err new_device(struct growth *g)
{
	pst_err err = device_open(g->st, g->device, g->user->key, g->user->size_bytes > 0 ? PST_FILE_CREATE : 0);

	g->added = err == PST_OK;
	return err == PST_OK ? device_sized(g) : err;
}

void growth_run(struct store *st, struct pst_pool_op *op)
{
	struct growth *g = calloc(1, sizeof(*g));
	pst_err err = PST_E_NOMEM;

	op->detail[0] = '\0';
	if (g == NULL) {
		control_finish(st, err);
		return;
	}
	g->st = st;
	g->user = op;
	g->wait.run = waited;
	pst_list_init(&g->wait.node);
	st->growth = g;
	g->region = aligned_alloc(PST_BLOCK_BYTES, PST_BLOCK_BYTES);
	g->next = aligned_alloc(PST_BLOCK_BYTES, PST_BLOCK_BYTES);
	g->page = aligned_alloc(PST_BLOCK_BYTES, PST_BLOCK_BYTES);
	if (st->regions == NULL)
		st->regions = calloc(PST_REGIONS_MAX, sizeof(st->regions[0]));
	if (g->region != NULL && g->next != NULL && g->page != NULL && st->regions != NULL)
		err = st->failed != PST_OK ? PST_E_IO : find_device(g);
	if (err == PST_OK && op->kind == PST_POOL_DEVICE_ADD)
		err = new_device(g);
	if (err != PST_OK)
		refuse(g, err, pst_err_text(err));
	else
		step(g);
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The devices of a pool and what lies where on them. Device 0 holds the superblock and the partitions as they were
 * made; space that was added lies in regions, on any device (region.c). Opening a pool of more than that:
 *
 *   for each further device: where it was last, then the paths given -> its superblock's copy says that it is the one
 *   -> for each region: its header, or the second copy of it -> the partitions' segments
 *
 * Any of them missing: the pool is not opened, since every volume has data on all devices.
 */
#include "store/internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- Where blocks lie ---- */

uint64_t part_blocks(const struct part *p)
{
	const struct segment *last;

	if (p->segment_count == 0)
		return p->geo.blocks;
	last = &p->segments[p->segment_count - 1];
	return (uint64_t)last->at.first + last->at.blocks;
}

uint32_t part_space_page(const struct part *p, uint32_t page, uint32_t copy)
{
	for (uint32_t i = p->segment_count; i > 0 && page >= p->geo.space_pages; i--) {
		const struct segment *s = &p->segments[i - 1];

		if (page >= s->space_first)
			return s->at.first + 2 * (page - s->space_first) + copy;
	}
	return p->geo.space_start + 2 * page + copy;
}

static uint32_t reserve_of(uint32_t data_blocks)
{
	return MERGE_RESERVE + PST_MIN(PST_MAX(data_blocks / 32, 16u), 2048u);
}

void part_segment_add(struct part *p, const struct pst_region *region)
{
	uint32_t pages = (uint32_t)pst_div_round_up(part_blocks(p), PST_SPACE_BITS);
	uint32_t data;

	pst_assert(p->segment_count < PST_REGIONS_MAX);
	p->segments[p->segment_count++] =
	    (struct segment){ .device = region->device, .space_first = pages, .at = region->segments[p->index] };
	data = p->geo.blocks - p->geo.data_start;
	for (uint32_t i = 0; i < p->segment_count; i++)
		data += p->segments[i].at.blocks - p->segments[i].at.data;
	p->reserve = reserve_of(data);
}

pst_err part_segments_init(struct part *p)
{
	const struct store *st = p->store;

	p->reserve = reserve_of(p->geo.blocks - p->geo.data_start);
	for (uint32_t i = 0; i < st->sb->region_count; i++) {
		const struct pst_region_segment *s = &st->regions[i].segments[p->index];
		struct pst_alloc_growth growth;
		pst_err err = pst_alloc_grow_prepare(&p->alloc, s->blocks, s->data, &growth);

		if (err != PST_OK)
			return err;
		part_segment_add(p, &st->regions[i]);
		pst_alloc_grow_commit(&p->alloc, &growth);
	}
	/* What is new to the root becomes dirty when the space map has been read. */
	memset(p->alloc.page_dirty, 0, p->alloc.pages);
	return PST_OK;
}

/* ---- Devices ---- */

pst_err device_open(struct store *st, struct device *d, const char *path, unsigned flags)
{
	pst_err err = pst_file_open(st->pool.env, path, flags | PST_FILE_EXCLUSIVE | PST_FILE_DIRECT, &d->file);

	if (err != PST_OK)
		return err;
	d->st = st;
	snprintf(d->path, sizeof(d->path), "%s", path);
	pst_file_info(d->file, &d->info);
	return PST_OK;
}

/* The pool's properties: what is true for all devices. */
void devices_changed(struct store *st)
{
	st->info = st->devices[0].info;
	for (uint32_t i = 1; i < st->device_count; i++) {
		const struct pst_file_info *info = &st->devices[i].info;

		st->info.align_bytes = PST_MAX(st->info.align_bytes, info->align_bytes);
		st->info.can_discard = st->info.can_discard && info->can_discard;
	}
}

void devices_close(struct store *st)
{
	for (uint32_t i = 0; i < PST_DEVICES_MAX; i++)
		if (st->devices[i].file != NULL)
			pst_file_close(st->devices[i].file);
	free(st->regions);
}

uint64_t devices_bytes(const struct store *st)
{
	uint64_t blocks = st->sb->device_count == 0 ? st->sb->blocks : 0;

	for (uint32_t i = 0; i < st->sb->device_count; i++)
		blocks += st->sb->devices[i].blocks;
	return blocks * PST_BLOCK_BYTES;
}

/* ---- Opening them ---- */

struct finding {
	struct store *st;
	const char *const *paths;
	uint32_t path_count;
	struct waiter *done;
	char *detail;
	struct device *device; /* being looked for */
	uint32_t index, candidate;
	uint32_t region;
	uint64_t have[PST_PARTITIONS_MAX];
	struct pst_file_op op;
	struct iovec iov;
	void *page;
	bool second; /* reading the second copy */
	pst_err why; /* the most telling reason why none of the candidates would do */
};

static void find_next(struct finding *f);
static void region_read(struct finding *f);

static void finding_end(struct finding *f, pst_err err)
{
	struct store *st = f->st;

	if (err == PST_OK)
		devices_changed(st);
	f->done->err = err;
	store_wake(st, f->done);
	free(f->page);
	free(f);
}

static void finding_read(struct finding *f, struct device *d, uint64_t block, void (*done)(struct pst_file_op *op))
{
	f->iov = (struct iovec){ f->page, PST_BLOCK_BYTES };
	f->op = (struct pst_file_op){ .kind = PST_FILE_READ,
				      .iov = &f->iov,
				      .iov_count = 1,
				      .offset_bytes = block * PST_BLOCK_BYTES,
				      .len_bytes = PST_BLOCK_BYTES,
				      .done = done };
	device_submit(d, &f->op);
}

static bool label_matches(const struct finding *f)
{
	const struct pst_superblock *sb = f->st->sb, *label = f->page;

	return f->op.err == PST_OK && pst_sb_intact(label) && memcmp(label->uuid, sb->uuid, 16) == 0 &&
	       label->device_index == f->index && memcmp(label->device_uuid, sb->devices[f->index].uuid, 16) == 0;
}

static void label_read(struct pst_file_op *op)
{
	struct finding *f = pst_container_of(op, struct finding, op);
	struct device *d = f->device;
	uint64_t blocks = d->info.size_bytes / PST_BLOCK_BYTES;

	f->st->outstanding--;
	if (!label_matches(f) && !f->second && blocks > 1) {
		f->second = true;
		finding_read(f, d, PST_MIN(blocks, f->st->sb->devices[f->index].blocks) - 1, label_read);
		return;
	}
	if (label_matches(f) && blocks >= f->st->sb->devices[f->index].blocks) {
		f->index++;
		f->candidate = 0;
		f->why = PST_OK;
	} else {
		f->why = label_matches(f) ? PST_E_RANGE : f->why;
		pst_file_close(d->file);
		*d = (struct device){ 0 };
	}
	find_next(f);
}

static bool is_open(const struct store *st, const char *path)
{
	for (uint32_t i = 0; i < PST_DEVICES_MAX; i++)
		if (st->devices[i].file != NULL && strcmp(st->devices[i].path, path) == 0)
			return true;
	return false;
}

static void device_missing(struct finding *f)
{
	const struct pst_superblock *sb = f->st->sb;
	const char *last = pst_sb_device_path(sb, f->index), *what = "is missing";
	pst_err err = f->why != PST_OK ? f->why : PST_E_NOTFOUND;
	char uuid[37];

	if (f->why != PST_OK)
		what = f->why == PST_E_LOCKED ? "is in use elsewhere" : "was cut off";
	if (last[0] == '\0')
		last = "a place that is not recorded";
	snprintf(f->detail, PST_DETAIL_BYTES, "device %u of %u %s; it was last at %.100s: name it with --device",
		 f->index, sb->device_count, what, last);
	store_event(f->st, PST_LOG_ERROR, "pool_device_missing device=%u uuid=%s bytes=%llu last=%s", f->index,
		    store_uuid_text(sb->devices[f->index].uuid, uuid),
		    (unsigned long long)sb->devices[f->index].blocks * PST_BLOCK_BYTES, last);
	finding_end(f, err == PST_E_RANGE ? PST_E_FORMAT : err);
}

/* Candidate 0 is where the device was last. */
static void find_next(struct finding *f)
{
	struct store *st = f->st;

	if (f->index == st->sb->device_count) {
		st->device_count = f->index;
		f->second = false;
		region_read(f);
		return;
	}
	f->device = &st->devices[f->index];
	while (f->candidate <= f->path_count) {
		const char *path =
		    f->candidate == 0 ? pst_sb_device_path(st->sb, f->index) : f->paths[f->candidate - 1];
		pst_err err;

		f->candidate++;
		if (path[0] == '\0' || is_open(st, path))
			continue;
		err = device_open(st, f->device, path, 0);
		if (err == PST_OK && f->device->info.size_bytes >= 3 * PST_BLOCK_BYTES) {
			f->second = false;
			finding_read(f, f->device, 0, label_read);
			return;
		}
		if (err == PST_OK) {
			pst_file_close(f->device->file);
			*f->device = (struct device){ 0 };
		} else if (err == PST_E_LOCKED) {
			f->why = err;
		}
	}
	device_missing(f);
}

static void header_read(struct pst_file_op *op)
{
	struct finding *f = pst_container_of(op, struct finding, op);
	struct store *st = f->st;
	const struct pst_region *r = f->page;

	st->outstanding--;
	if (op->err == PST_OK && pst_region_ok(r, st->sb, f->region, f->have)) {
		memcpy(&st->regions[f->region], r, sizeof(*r));
		for (uint32_t i = 0; i < st->sb->partition_count; i++)
			f->have[i] += r->segments[i].blocks;
		if (f->second)
			store_event(
			    st, PST_LOG_WARN,
			    "region_header_damaged region=%u device=%s: its second copy is used; check the device",
			    f->region, st->devices[r->device].path);
		f->region++;
		f->second = false;
	} else if (!f->second) {
		f->second = true;
	} else {
		snprintf(f->detail, PST_DETAIL_BYTES, "%.100s: both copies of the header of region %u are damaged",
			 st->devices[st->sb->regions[f->region].device].path, f->region);
		finding_end(f, PST_E_CHECKSUM);
		return;
	}
	region_read(f);
}

/* The second copy of a header ends the region, where the next region of the device or its last block follows. */
static uint64_t header_second(const struct pst_superblock *sb, uint32_t region)
{
	const struct pst_sb_region *at = &sb->regions[region];
	uint64_t end = sb->devices[at->device].blocks;

	for (uint32_t i = 0; i < sb->region_count; i++)
		if (sb->regions[i].device == at->device && sb->regions[i].start > at->start)
			end = PST_MIN(end, sb->regions[i].start);
	return end - 2;
}

static void region_read(struct finding *f)
{
	const struct pst_superblock *sb = f->st->sb;
	const struct pst_sb_region *at = &sb->regions[f->region];

	if (f->region == sb->region_count) {
		finding_end(f, PST_OK);
		return;
	}
	finding_read(f, &f->st->devices[at->device], f->second ? header_second(sb, f->region) : at->start, header_read);
}

void devices_open(struct store *st, const char *const *paths, uint32_t path_count, struct waiter *done, char *detail)
{
	struct finding *f;

	st->device_count = 1;
	if (st->sb->device_count == 0) {
		devices_changed(st);
		store_wake(st, done);
		return;
	}
	f = calloc(1, sizeof(*f));
	st->regions = calloc(PST_REGIONS_MAX, sizeof(st->regions[0]));
	if (f != NULL)
		f->page = aligned_alloc(PST_BLOCK_BYTES, PST_BLOCK_BYTES);
	if (f == NULL || f->page == NULL || st->regions == NULL) {
		free(f);
		done->err = PST_E_NOMEM;
		store_wake(st, done);
		return;
	}
	f->st = st;
	f->paths = paths;
	f->path_count = path_count;
	f->done = done;
	f->detail = detail;
	f->index = 1;
	for (uint32_t i = 0; i < st->sb->partition_count; i++)
		f->have[i] = st->sb->partitions[i].blocks;
	find_next(f);
}

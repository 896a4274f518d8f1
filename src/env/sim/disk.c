/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A simulated medium. `cache` is what reads see: everything written so far. `medium` is what a flush has made certain.
 * Between them stands the list of unflushed writes, in the order in which they were applied. At power loss each of them
 * (or each of its pieces of 512 or 4096 bytes) is copied to the medium or not, in that order, so a sector ends as the
 * certain version or any version written since; then the cache becomes a copy of the medium. A process death changes
 * nothing here: the cache is the kernel's.
 *
 * A flush covers the writes whose completion had been delivered when it was submitted, which is all that a caller can
 * rely on. A failed flush decides at once which of them survive and forgets them, as Linux does: the pages are clean
 * afterwards, and no later flush writes them. Nobody can observe the decision before the next power loss. A flush that
 * lies succeeds and leaves everything as it was, unflushed: a device that answers from its cache.
 *
 * Growing and shrinking is durable at once (the store does it only while formatting, before its first flush).
 */
#include "env/sim/image.h"
#include "env/sim/internal.h"

#include <stdlib.h>
#include <string.h>

struct sim_damage {
	struct pst_list node;
	uint64_t sector;
};

struct sim_disk *sim_disk_find(struct pst_sim_node *machine, const char *path)
{
	PST_LIST_EACH(at, &machine->disks) {
		struct sim_disk *disk = pst_container_of(at, struct sim_disk, node);

		if (strcmp(disk->path, path) == 0)
			return disk;
	}
	return NULL;
}

struct sim_disk *sim_disk_new(struct pst_sim_node *machine, const char *path)
{
	struct sim_disk *disk = sim_alloc(sizeof(*disk));

	disk->machine = machine;
	disk->path = strdup(path);
	pst_assert(disk->path);
	disk->cache = sim_image_new(0);
	disk->medium = sim_image_new(0);
	disk->next_done = 1;
	pst_list_init(&disk->unflushed);
	pst_list_init(&disk->damaged);
	pst_list_push_back(&machine->disks, &disk->node);
	return disk;
}

static void disk_forget(struct sim_write *write)
{
	pst_list_remove(&write->node);
	free(write->data);
	free(write);
}

void sim_disk_free(struct sim_disk *disk)
{
	PST_LIST_EACH(at, &disk->unflushed) {
		disk_forget(pst_container_of(at, struct sim_write, node));
	}
	PST_LIST_EACH(at, &disk->damaged) {
		free(pst_container_of(at, struct sim_damage, node));
	}
	sim_image_free(disk->cache);
	sim_image_free(disk->medium);
	free(disk->path);
	free(disk);
}

void sim_disk_resize(struct sim_disk *disk, uint64_t size_bytes)
{
	PST_LIST_EACH(at, &disk->unflushed) {
		struct sim_write *write = pst_container_of(at, struct sim_write, node);

		if (write->offset >= size_bytes)
			write->len = 0;
		else
			write->len = PST_MIN(write->len, size_bytes - write->offset);
	}
	sim_image_resize(disk->cache, size_bytes);
	sim_image_resize(disk->medium, size_bytes);
	disk->size_bytes = size_bytes;
}

static bool disk_hit(const struct sim_damage *damage, uint64_t offset, uint64_t len)
{
	uint64_t at = damage->sector * PST_SIM_SECTOR_BYTES;

	return at < offset + len && offset < at + PST_SIM_SECTOR_BYTES;
}

void sim_disk_damage(struct sim_disk *disk, uint64_t offset, uint64_t len)
{
	for (uint64_t s = offset / PST_SIM_SECTOR_BYTES; s < pst_div_round_up(offset + len, PST_SIM_SECTOR_BYTES);
	     s++) {
		struct sim_damage *damage = sim_alloc(sizeof(*damage));

		damage->sector = s;
		pst_list_push_back(&disk->damaged, &damage->node);
	}
}

bool sim_disk_read(struct sim_disk *disk, uint64_t offset, void *buf, uint64_t len)
{
	PST_LIST_EACH(at, &disk->damaged) {
		if (disk_hit(pst_container_of(at, struct sim_damage, node), offset, len))
			return false;
	}
	sim_image_read(disk->cache, offset, buf, len);
	return true;
}

struct sim_write *sim_disk_write(struct sim_disk *disk, uint64_t offset, const void *data, uint64_t len)
{
	struct sim_write *write = sim_alloc(sizeof(*write));

	write->offset = offset;
	write->len = len;
	if (data) {
		write->data = sim_alloc(len ? len : 1);
		memcpy(write->data, data, len);
	}
	PST_LIST_EACH(at, &disk->damaged) {
		struct sim_damage *damage = pst_container_of(at, struct sim_damage, node);

		if (disk_hit(damage, offset, len)) {
			pst_list_remove(&damage->node);
			free(damage);
		}
	}
	sim_image_write(disk->cache, offset, data, len);
	pst_list_push_back(&disk->unflushed, &write->node);
	return write;
}

void sim_disk_write_done(struct sim_disk *disk, struct sim_write *write)
{
	write->done = disk->next_done++;
}

static void disk_persist(struct sim_disk *disk, const struct sim_write *write, uint64_t from, uint64_t len)
{
	sim_image_write(disk->medium, write->offset + from, write->data ? write->data + from : NULL, len);
}

/*
 * Each piece of @tear bytes (aligned; 0: all at once) with the chance @keep in percent; counts writes that were cut.
 */
static void disk_persist_some(struct sim_disk *disk, const struct sim_write *write, uint32_t tear, uint32_t keep)
{
	struct pst_sim *sim = disk->machine->sim;
	uint64_t at = 0, kept = 0;

	if (tear == 0) {
		if (pst_sim_rand_below(sim, 100) < keep)
			disk_persist(disk, write, 0, write->len);
		return;
	}
	while (at < write->len) {
		uint64_t to_boundary = tear - (write->offset + at) % tear;
		uint64_t n = PST_MIN(to_boundary, write->len - at);

		/* Long ranges (zeroes over gigabytes) in larger steps. */
		if (write->len > (1u << 22))
			n = PST_MIN(write->len - at, (uint64_t)1 << 20);
		if (pst_sim_rand_below(sim, 100) < keep) {
			disk_persist(disk, write, at, n);
			kept += n;
		}
		at += n;
	}
	if (kept && kept < write->len)
		sim->stats.torn++;
}

void sim_disk_flush(struct sim_disk *disk, uint64_t covers)
{
	PST_LIST_EACH(at, &disk->unflushed) {
		struct sim_write *write = pst_container_of(at, struct sim_write, node);

		if (!write->done || write->done >= covers)
			continue;
		disk_persist(disk, write, 0, write->len);
		disk_forget(write);
	}
}

void sim_disk_flush_failed(struct sim_disk *disk, uint64_t covers)
{
	PST_LIST_EACH(at, &disk->unflushed) {
		struct sim_write *write = pst_container_of(at, struct sim_write, node);

		if (!write->done || write->done >= covers)
			continue;
		disk_persist_some(disk, write, disk->machine->faults.disk_tear_bytes, 50);
		disk_forget(write);
	}
}

void sim_disk_power_loss(struct sim_disk *disk)
{
	struct pst_sim *sim = disk->machine->sim;
	const struct pst_sim_faults *faults = &disk->machine->faults;
	uint32_t keep = faults->disk_keep_percent;

	if (keep > 100)
		keep = (uint32_t)pst_sim_rand_below(sim, 101);
	PST_LIST_EACH(at, &disk->unflushed) {
		struct sim_write *write = pst_container_of(at, struct sim_write, node);

		disk_persist_some(disk, write, faults->disk_tear_bytes, keep);
		disk_forget(write);
	}
	sim_image_copy(disk->cache, disk->medium);
	disk->stalled_until_ns = 0;
}

void sim_disk_write_partly(struct sim_disk *disk, uint64_t offset, const void *data, uint64_t len)
{
	struct pst_sim *sim = disk->machine->sim;
	uint32_t tear = disk->machine->faults.disk_tear_bytes;
	bool all = pst_sim_rand_below(sim, 2);
	uint64_t at = 0;

	if (tear == 0 && !all)
		return;
	while (at < len) {
		uint64_t n = tear != 0 && !all && data ? PST_MIN(len - at, tear - (offset + at) % tear) : len - at;

		if (all || pst_sim_rand_below(sim, 2))
			sim_disk_write(disk, offset + at, data ? (const uint8_t *)data + at : NULL, n)->done =
			    disk->next_done++;
		at += n;
	}
}

/* ---- By hand ---- */

bool pst_sim_disk_peek(struct pst_sim_node *node, const char *path, uint64_t offset, void *buf, size_t len)
{
	struct sim_disk *disk = sim_disk_find(node, path);

	if (!disk || !pst_range_ok(offset, len, disk->size_bytes))
		return false;
	sim_image_read(disk->cache, offset, buf, len);
	return true;
}

bool pst_sim_disk_poke(struct pst_sim_node *node, const char *path, uint64_t offset, const void *buf, size_t len)
{
	struct sim_disk *disk = sim_disk_find(node, path);

	if (!disk || !pst_range_ok(offset, len, disk->size_bytes))
		return false;
	sim_image_write(disk->cache, offset, buf, len);
	sim_image_write(disk->medium, offset, buf, len);
	return true;
}

bool pst_sim_disk_damage(struct pst_sim_node *node, const char *path, uint64_t offset, size_t len)
{
	struct sim_disk *disk = sim_disk_find(node, path);

	if (!disk || !pst_range_ok(offset, len, disk->size_bytes))
		return false;
	sim_disk_damage(disk, offset, len);
	return true;
}

uint64_t pst_sim_disk_size(struct pst_sim_node *node, const char *path)
{
	struct sim_disk *disk = sim_disk_find(node, path);

	return disk ? disk->size_bytes : 0;
}

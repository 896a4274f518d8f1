/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The catalog, for the checker: the image that partition 0's root means, then the catalog's records of its log, in
 * order. What comes out are the versions as they are at the end; the rules between them (parents, flags) are judged on
 * that state alone.
 */
#include "store/check-internal.h"

#include "base/crc32c.h"

#include <stdlib.h>
#include <string.h>

/* ---- Versions ---- */

static uint32_t lower_bound(const struct ck *ck, uint32_t slot)
{
	uint32_t low = 0, high = ck->version_count;

	while (low < high) {
		uint32_t mid = low + (high - low) / 2;

		if (ck->versions[mid].disk.slot < slot)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

struct ck_version *ck_version_find(const struct ck *ck, uint32_t slot)
{
	uint32_t i = lower_bound(ck, slot);

	return i < ck->version_count && ck->versions[i].disk.slot == slot ? &ck->versions[i] : NULL;
}

static pst_err version_put(struct ck *ck, const struct pst_version_disk *disk)
{
	uint32_t i = lower_bound(ck, disk->slot), parent;

	if (disk->slot == 0 || disk->slot >= PST_SLOTS_MAX || disk->block_count == 0 || disk->parent >= PST_SLOTS_MAX ||
	    (disk->flags & ~(uint32_t)PST_VOLUME_FLAGS) != 0) {
		ck_finding(
		    ck,
		    "catalog: the record of slot %u makes no sense (%llu blocks, flags %#x, parent %u): the pool "
		    "can't be opened",
		    disk->slot, (unsigned long long)disk->block_count, disk->flags, disk->parent);
		ck->unsure = true;
		return PST_OK;
	}
	if (i < ck->version_count && ck->versions[i].disk.slot == disk->slot) {
		/* Its parent changes only with the record that adopts or detaches it, or ends its parent. */
		parent = ck->versions[i].disk.parent;
		ck->versions[i].disk = *disk;
		ck->versions[i].disk.parent = parent;
		return PST_OK;
	}
	if (ck->version_count == ck->version_capacity) {
		uint32_t capacity = ck->version_capacity > 0 ? ck->version_capacity * 2 : 16;
		struct ck_version *versions = realloc(ck->versions, capacity * sizeof(*versions));

		if (versions == NULL)
			return PST_E_NOMEM;
		ck->versions = versions;
		ck->version_capacity = capacity;
	}
	memmove(&ck->versions[i + 1], &ck->versions[i], (ck->version_count - i) * sizeof(ck->versions[0]));
	ck->versions[i] = (struct ck_version){ .disk = *disk };
	ck->version_count++;
	return PST_OK;
}

static void version_delete(struct ck *ck, uint32_t slot)
{
	struct ck_version *v = ck_version_find(ck, slot);

	if (v == NULL)
		return;
	for (uint32_t i = 0; i < ck->version_count;
	     i++) /* what it shared with its child is between that and its parent now */
		if (ck->versions[i].disk.parent == slot)
			ck->versions[i].disk.parent = v->disk.parent;
	memmove(v, v + 1, (size_t)(ck->versions + ck->version_count - (v + 1)) * sizeof(*v));
	ck->version_count--;
}

/* A volume of format 1. */
static pst_err volume_put(struct ck *ck, const void *old)
{
	struct pst_volume_disk volume;
	struct pst_version_disk disk;

	memcpy(&volume, old, sizeof(volume));
	disk =
	    (struct pst_version_disk){ .block_count = volume.block_count, .slot = volume.slot, .flags = volume.flags };
	memcpy(disk.uuid, volume.uuid, 16);
	return version_put(ck, &disk);
}

/* ---- The image ---- */

static uint64_t record_bytes(const struct pst_catalog_record *r)
{
	return sizeof(*r) + pst_round_up((uint64_t)r->key_bytes + r->value_bytes, 8);
}

static pst_err image_records(struct ck *ck, const uint8_t *image, uint32_t bytes, uint32_t at, uint32_t count)
{
	pst_err err = PST_OK;

	for (uint32_t i = 0; err == PST_OK && i < count; i++) {
		struct pst_catalog_record r = { 0 };
		char key[PST_RECORD_KEY_MAX + 1];

		if (bytes - at >= sizeof(r))
			memcpy(&r, image + at, sizeof(r));
		if (r.key_bytes == 0 || r.key_bytes > PST_RECORD_KEY_MAX || r.value_bytes > PST_RECORD_VALUE_MAX ||
		    record_bytes(&r) > bytes - at || memchr(image + at + sizeof(r), 0, r.key_bytes) != NULL) {
			ck_finding(ck, "catalog: its record number %u makes no sense: the pool can't be opened", i);
			return PST_OK;
		}
		memcpy(key, image + at + sizeof(r), r.key_bytes);
		key[r.key_bytes] = '\0';
		err = pst_records_put(&ck->records, key, image + at + sizeof(r) + r.key_bytes, r.value_bytes);
		at += (uint32_t)record_bytes(&r);
	}
	return err;
}

static pst_err image_decode(struct ck *ck, const uint8_t *image, uint32_t bytes)
{
	struct pst_catalog_head head = { 0 };
	uint32_t at = sizeof(head);
	pst_err err = PST_OK;
	uint32_t each;

	if (bytes >= sizeof(head))
		memcpy(&head, image, sizeof(head));
	each = head.magic == PST_CATALOG_MAGIC_OLD ? (uint32_t)sizeof(struct pst_volume_disk)
						   : (uint32_t)sizeof(struct pst_version_disk);
	if ((head.magic != PST_CATALOG_MAGIC && head.magic != PST_CATALOG_MAGIC_OLD) ||
	    head.version_count > (bytes - at) / each) {
		ck_finding(ck,
			   "catalog: its image makes no sense (magic %#x, %u versions in %u bytes): the pool can't be "
			   "opened",
			   head.magic, head.version_count, bytes);
		ck->no_catalog = true;
		return PST_OK;
	}
	for (uint32_t i = 0; err == PST_OK && i < head.version_count; i++, at += each) {
		struct pst_version_disk disk;

		if (head.magic == PST_CATALOG_MAGIC)
			memcpy(&disk, image + at, sizeof(disk));
		err = head.magic == PST_CATALOG_MAGIC ? version_put(ck, &disk) : volume_put(ck, image + at);
	}
	return err == PST_OK ? image_records(ck, image, bytes, at, head.record_count) : err;
}

/* The leaf of slot 0, whose first entries are the image's blocks. False: there is none, or it can't be reached. */
static bool image_leaf(struct ck *ck, struct pst_node_disk *node)
{
	struct pst_ptr ptr = ck->part.root.map;

	for (int level = PST_NODE_LEVELS - 1; level >= 0; level--) {
		const char *why;

		if (ptr.block == 0 || ck_node_read(ck, ptr, (unsigned)level, 0, node, &why) != PST_OK)
			return false;
		ptr = node->entry[0];
	}
	return true;
}

static pst_err image_read(struct ck *ck)
{
	uint32_t bytes = ck->part.root.catalog_bytes, blocks = (uint32_t)pst_div_round_up(bytes, PST_BLOCK_BYTES);
	struct pst_node_disk *leaf = ck->part.path[0];
	uint8_t *image;
	pst_err err = PST_OK;

	if (bytes == 0)
		return PST_OK;
	if (!image_leaf(ck, leaf)) {
		ck_finding(ck, "catalog: the node that names its blocks can't be read: the pool can't be opened");
		ck->no_catalog = true;
		return PST_OK;
	}
	image = calloc(blocks, PST_BLOCK_BYTES);
	if (image == NULL)
		return PST_E_NOMEM;
	for (uint32_t i = 0; i < blocks; i++) {
		uint8_t *to = image + (size_t)i * PST_BLOCK_BYTES;

		if (ck_block_ok(ck, leaf->entry[i].block) && ck_read(ck, leaf->entry[i].block, to) == PST_OK &&
		    pst_crc32c(to, PST_BLOCK_BYTES) == leaf->entry[i].crc)
			continue;
		ck_finding(
		    ck,
		    "catalog: its block %u of %u, in block %u of partition 0: missing or damaged: the pool can't "
		    "be opened",
		    i, blocks, leaf->entry[i].block);
		ck->no_catalog = true;
	}
	if (!ck->no_catalog)
		err = image_decode(ck, image, bytes);
	free(image);
	return err;
}

/* ---- The log ---- */

static pst_err replay(struct ck *ck, const struct pst_log_record *r)
{
	const char *key = pst_log_record_body(r);
	struct pst_version_disk disk;
	size_t len;

	switch (r->kind) {
	case PST_LOG_VOLUME:
		return volume_put(ck, key);
	case PST_LOG_VERSION:
		memcpy(&disk, key, sizeof(disk));
		if (r->block == PST_ALSO_REPLACE && ck_version_find(ck, (uint32_t)r->lba) != NULL)
			ck_version_find(ck, (uint32_t)r->lba)->disk.flags |= PST_VOLUME_DELETING;
		else if (r->block == PST_ALSO_ADOPT && ck_version_find(ck, (uint32_t)r->lba) != NULL)
			ck_version_find(ck, (uint32_t)r->lba)->disk.parent = disk.slot;
		else if (r->block == PST_ALSO_DETACH && ck_version_find(ck, (uint32_t)r->lba) != NULL)
			ck_version_find(ck, (uint32_t)r->lba)->disk.parent = 0;
		return version_put(ck, &disk);
	case PST_LOG_VOLUME_END:
		version_delete(ck, r->slot);
		return PST_OK;
	case PST_LOG_PUT:
		len = strlen(key) + 1;
		if (len <= PST_RECORD_KEY_MAX + 1 && r->count - len <= PST_RECORD_VALUE_MAX)
			return pst_records_put(&ck->records, key, key + len, (uint32_t)(r->count - len));
		ck_finding(ck, "catalog: a record in the log is too long: the pool can't be opened");
		return PST_OK;
	case PST_LOG_DELETE:
		if (pst_records_delete(&ck->records, key) != PST_OK && !ck->no_catalog)
			ck_finding(
			    ck,
			    "catalog: the log deletes the record \"%s\", which is not there: the pool can't be opened",
			    key);
		return PST_OK;
	default:
		return PST_OK;
	}
}

/* ---- Rules between versions ---- */

/* The version at the top of its family; NULL: its parents make no sense (told). */
static const struct ck_version *top(struct ck *ck, const struct ck_version *v)
{
	const struct ck_version *up = v;
	char place[CK_PLACE_BYTES];

	for (uint32_t steps = 0; up->disk.parent != 0; steps++) {
		const struct ck_version *parent = ck_version_find(ck, up->disk.parent);

		if (parent == NULL || steps > ck->version_count) {
			ck_finding(ck, "%s: its chain of parents %s slot %u: what it shares can't be told",
				   ck_place(ck, v->disk.slot, 0, 1, place),
				   parent == NULL ? "ends at the missing" : "never ends, at", up->disk.parent);
			return NULL;
		}
		up = parent;
	}
	return up;
}

static int by_uuid(const void *a, const void *b)
{
	const struct ck_version *const *x = a, *const *y = b;

	return memcmp((*x)->disk.uuid, (*y)->disk.uuid, 16);
}

static pst_err uuids(struct ck *ck)
{
	struct ck_version **sorted = calloc(PST_MAX(ck->version_count, 1u), sizeof(*sorted));
	uint32_t count = 0;

	if (sorted == NULL)
		return PST_E_NOMEM;
	for (uint32_t i = 0; i < ck->version_count; i++)
		if ((ck->versions[i].disk.flags & (PST_VOLUME_DELETING | PST_VOLUME_PENDING)) == 0)
			sorted[count++] = &ck->versions[i];
	qsort(sorted, count, sizeof(*sorted), by_uuid);
	for (uint32_t i = 1; i < count; i++)
		if (memcmp(sorted[i - 1]->disk.uuid, sorted[i]->disk.uuid, 16) == 0)
			ck_finding(ck, "catalog: slots %u and %u have one uuid: only one of them can be found",
				   sorted[i - 1]->disk.slot, sorted[i]->disk.slot);
	free(sorted);
	return PST_OK;
}

/* A chain that makes no sense is cut: each of its versions stands for itself. */
static void families(struct ck *ck)
{
	for (uint32_t i = 0; i < ck->version_count; i++) {
		if (top(ck, &ck->versions[i]) != NULL)
			continue;
		ck->versions[i].disk.parent = 0;
		ck->unsure = true;
	}
	for (uint32_t i = 0; i < ck->version_count; i++) {
		struct ck_version *v = &ck->versions[i], *first = v;

		for (uint32_t steps = 0; first->disk.parent != 0 && steps <= ck->version_count; steps++)
			first = ck_version_find(ck, first->disk.parent);
		v->family = (uint32_t)(first - ck->versions);
		if (first != v)
			first->many = v->many = true;
	}
}

pst_err ck_catalog(struct ck *ck)
{
	pst_err err = ck_part_open(ck, 0);

	/* What was made after the gap is not seen. */
	ck->unsure = ck->unsure || (ck->part.log_damaged && !ck->check->cut_log);
	if (err == PST_OK)
		err = image_read(ck);
	if (err == PST_OK)
		err = ck_keys_root(ck);
	for (uint32_t i = 0; err == PST_OK && i < ck->part.log_count; i++) {
		const struct pst_log_record *r;
		uint32_t at = 0;
		bool bad = false;

		while (err == PST_OK && (r = pst_log_block_next(&ck->part.log[i], &at, &bad)) != NULL)
			err = replay(ck, r);
	}
	if (err == PST_E_CHECKSUM) { /* told */
		ck->no_catalog = true;
		err = PST_OK;
	}
	if (err == PST_OK)
		families(ck);
	if (err == PST_OK)
		err = uuids(ck);
	if (err == PST_OK && !ck->no_catalog)
		ck_keys(ck);
	ck_part_close(ck);
	return err;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Volumes and catalog records: in memory, changed by log records of partition 0 in log order, written as one image with
 * the checkpoints of partition 0 when they have changed. The image is the data of slot 0 of the map.
 */
#include "store/space.h"
#include "store/keys.h"

#include <string.h>

static uint32_t record_bytes(size_t key_bytes, uint32_t value_bytes)
{
	return (uint32_t)(sizeof(struct pst_catalog_record) + pst_round_up(key_bytes + value_bytes, 8));
}

uint32_t catalog_image_bytes(const struct store *st)
{
	uint32_t bytes = sizeof(struct pst_catalog_head);

	PST_LIST_EACH(l, &st->volumes) {
		(void)l;
		bytes += (uint32_t)sizeof(struct pst_version_disk);
	}
	for (size_t i = 0; i < st->records.count; i++)
		bytes += record_bytes(strlen(st->records.items[i].key), st->records.items[i].value_bytes);
	return bytes;
}

void catalog_changed(struct store *st)
{
	st->catalog_bytes = catalog_image_bytes(st);
	st->catalog_dirty = true;
}

void catalog_encode(const struct store *st, uint8_t *image)
{
	struct pst_catalog_head *head = (void *)image;
	uint8_t *to = image + sizeof(*head);

	memset(image, 0, pst_round_up(st->catalog_bytes, PST_BLOCK_BYTES));
	head->magic = PST_CATALOG_MAGIC;
	head->record_count = (uint32_t)st->records.count;
	PST_LIST_EACH(l, &st->volumes) {
		memcpy(to, &pst_container_of(l, struct svol, node)->disk, sizeof(struct pst_version_disk));
		to += sizeof(struct pst_version_disk);
		head->version_count++;
	}
	for (size_t i = 0; i < st->records.count; i++) {
		const struct pst_record *r = &st->records.items[i];
		struct pst_catalog_record disk = { (uint32_t)strlen(r->key), r->value_bytes };

		memcpy(to, &disk, sizeof(disk));
		memcpy(to + sizeof(disk), r->key, disk.key_bytes);
		memcpy(to + sizeof(disk) + disk.key_bytes, r->value, r->value_bytes);
		to += record_bytes(disk.key_bytes, disk.value_bytes);
	}
	pst_assert(to == image + st->catalog_bytes);
}

/* ---- From disk ---- */

static pst_err version_put(struct store *st, const struct pst_version_disk *disk)
{
	struct svol *v = svol_by_slot(st, disk->slot);
	bool fresh = v == NULL;

	if (disk->slot == 0 || disk->slot >= PST_SLOTS_MAX || disk->block_count == 0 || disk->parent >= PST_SLOTS_MAX ||
	    (disk->flags & ~(uint32_t)PST_VOLUME_FLAGS) != 0 || part_local(st, 0, disk->block_count) > PST_SLOT_SPAN)
		return PST_E_FORMAT;
	if (keys_follow(st, fresh ? 0 : v->disk.key_block, disk->key_block) != PST_OK)
		return PST_E_FORMAT;
	if (!fresh)
		svol_set(v, disk);
	return !fresh || svol_new(st, disk) != NULL ? PST_OK : PST_E_NOMEM;
}

/* Of a pool in format 1. */
static pst_err volume_put(struct store *st, const void *old)
{
	struct pst_volume_disk volume;
	struct pst_version_disk disk;

	memcpy(&volume, old, sizeof(volume));
	disk =
	    (struct pst_version_disk){ .block_count = volume.block_count, .slot = volume.slot, .flags = volume.flags };
	memcpy(disk.uuid, volume.uuid, 16);
	return (volume.flags & ~(uint32_t)PST_VOLUME_FLAGS_OLD) == 0 ? version_put(st, &disk) : PST_E_FORMAT;
}

static pst_err record_decode(struct store *st, const uint8_t *image, uint32_t bytes, uint32_t *at)
{
	struct pst_catalog_record disk;
	char key[PST_RECORD_KEY_MAX + 1];

	if (bytes - *at < sizeof(disk))
		return PST_E_FORMAT;
	memcpy(&disk, image + *at, sizeof(disk));
	if (disk.key_bytes == 0 || disk.key_bytes > PST_RECORD_KEY_MAX || disk.value_bytes > PST_RECORD_VALUE_MAX ||
	    record_bytes(disk.key_bytes, disk.value_bytes) > bytes - *at)
		return PST_E_FORMAT;
	memcpy(key, image + *at + sizeof(disk), disk.key_bytes);
	key[disk.key_bytes] = '\0';
	if (strlen(key) != disk.key_bytes)
		return PST_E_FORMAT;
	*at += record_bytes(disk.key_bytes, disk.value_bytes);
	return pst_records_put(&st->records, key,
			       image + *at - record_bytes(disk.key_bytes, disk.value_bytes) + sizeof(disk) +
				   disk.key_bytes,
			       disk.value_bytes);
}

pst_err catalog_decode(struct store *st, const uint8_t *image, uint32_t bytes)
{
	const struct pst_catalog_head *head = (const void *)image;
	bool old = head->magic == PST_CATALOG_MAGIC_OLD;
	uint32_t each = old ? (uint32_t)sizeof(struct pst_volume_disk) : (uint32_t)sizeof(struct pst_version_disk);
	uint32_t at = sizeof(*head);
	pst_err err = PST_OK;

	if (bytes < sizeof(*head) || (!old && head->magic != PST_CATALOG_MAGIC) ||
	    head->version_count > (bytes - at) / each)
		return PST_E_FORMAT;
	for (uint32_t i = 0; err == PST_OK && i < head->version_count; i++, at += each) {
		struct pst_version_disk disk;

		if (!old)
			memcpy(&disk, image + at, sizeof(disk));
		err = old ? volume_put(st, image + at) : version_put(st, &disk);
	}
	for (uint32_t i = 0; err == PST_OK && i < head->record_count; i++)
		err = record_decode(st, image, bytes, &at);
	return err;
}

/* Nothing is left of this version: its children are its parent's. */
static void version_end(struct store *st, uint32_t slot, uint64_t seq)
{
	struct svol *gone = svol_by_slot(st, slot);
	uint32_t key_block;

	if (gone == NULL)
		return;
	key_block = gone->disk.key_block;
	PST_LIST_EACH(l, &st->volumes) {
		struct svol *v = pst_container_of(l, struct svol, node);

		if (v->disk.parent == slot)
			v->disk.parent = gone->disk.parent;
	}
	svol_free(gone);
	keys_version_ended(st, key_block, seq);
}

/* One of the catalog's log records; others are none of its business. */
pst_err catalog_replay(struct store *st, const struct pst_log_record *r, const void *body, uint64_t seq)
{
	const char *key = body;
	struct pst_version_disk disk;
	struct svol *v;
	size_t len;
	pst_err err = PST_OK;

	switch (r->kind) {
	case PST_LOG_VOLUME:
		err = volume_put(st, key);
		break;
	case PST_LOG_VERSION:
		memcpy(&disk, key, sizeof(disk));
		err = disk.slot == r->slot ? version_put(st, &disk) : PST_E_FORMAT;
		v = r->block != PST_ALSO_NOTHING ? svol_by_slot(st, (uint32_t)r->lba) : NULL;
		if (v != NULL && r->block == PST_ALSO_ADOPT)
			v->disk.parent = disk.slot;
		else if (v != NULL && r->block == PST_ALSO_DETACH)
			v->disk.parent = 0;
		else if (v != NULL) {
			v->disk.flags |= PST_VOLUME_DELETING;
			space_volume_changed(v);
		}
		break;
	case PST_LOG_VOLUME_END:
		version_end(st, r->slot, seq);
		break;
	case PST_LOG_PUT:
		len = strlen(key) + 1;
		if (len > PST_RECORD_KEY_MAX + 1 || r->count - len > PST_RECORD_VALUE_MAX)
			return PST_E_FORMAT;
		err = pst_records_put(&st->records, key, key + len, (uint32_t)(r->count - len));
		break;
	case PST_LOG_DELETE:
		if (pst_records_delete(&st->records, key) != PST_OK)
			return PST_E_FORMAT;
		break;
	default:
		return PST_OK;
	}
	catalog_changed(st);
	return err;
}

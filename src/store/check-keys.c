/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Key slots, for the checker: two blocks of partition 0 for each family, which all of its versions name. A crash may
 * leave one copy torn, so one intact copy is no finding; none means that the family's data can never be read again.
 */
#include "store/check-internal.h"

#include "base/crc32c.h"

#include <stdlib.h>
#include <string.h>

/* Is it the first version that names this slot? */
static bool is_first(const struct ck *ck, uint32_t i)
{
	for (uint32_t k = 0; k < i; k++)
		if (ck->versions[k].disk.key_block == ck->versions[i].disk.key_block)
			return false;
	return true;
}

pst_err ck_keys_root(struct ck *ck)
{
	ck->root_keys = calloc(PST_MAX(ck->version_count, 1u), sizeof(ck->root_keys[0]));
	if (ck->root_keys == NULL)
		return PST_E_NOMEM;
	for (uint32_t i = 0; i < ck->version_count; i++)
		if (ck->versions[i].disk.key_block != 0 && is_first(ck, i))
			ck->root_keys[ck->root_key_count++] = ck->versions[i].disk.key_block;
	return PST_OK;
}

void ck_keys_reached(struct ck *ck)
{
	struct ck_part *p = &ck->part;

	for (uint32_t i = 0; p->index == 0 && i < ck->root_key_count; i++) {
		for (uint32_t copy = 0; copy < 2; copy++) {
			uint64_t block = (uint64_t)ck->root_keys[i] + copy;

			if (!ck_block_ok(ck, block))
				continue; /* told: ck_keys */
			if (ck_bit(p->reached, (uint32_t)block)) {
				ck_finding(ck, "key slot in block %llu of partition 0: the map reaches this block, too",
					   (unsigned long long)block);
				continue;
			}
			ck_set(p->reached, (uint32_t)block);
			p->reached_count++;
		}
	}
	/* Those of the last state: a repair must not write there. */
	for (uint32_t i = 0; p->index == 0 && i < ck->version_count; i++)
		for (uint32_t copy = 0; copy < 2 && ck->versions[i].disk.key_block != 0; copy++)
			if (ck_block_ok(ck, (uint64_t)ck->versions[i].disk.key_block + copy))
				ck_set(p->owned, ck->versions[i].disk.key_block + copy);
}

static bool copy_whole(struct ck *ck, uint64_t block)
{
	struct pst_key_disk *key = (void *)ck->chunk;
	static const uint8_t zero[4];
	uint32_t crc;

	if (ck_read(ck, block, key) != PST_OK || key->magic != PST_KEY_MAGIC || key->block != block ||
	    memcmp(key->pool_uuid, ck->sb.uuid, 16) != 0 || key->value_bytes > PST_POOL_KEY_BYTES_MAX)
		return false;
	crc = pst_crc32c(key, offsetof(struct pst_key_disk, crc));
	crc = pst_crc32c_more(crc, zero, sizeof(zero));
	crc = pst_crc32c_more(crc, key->pool_uuid, sizeof(*key) - offsetof(struct pst_key_disk, pool_uuid));
	return crc == key->crc;
}

void ck_keys(struct ck *ck)
{
	for (uint32_t i = 0; i < ck->version_count; i++) {
		uint32_t block = ck->versions[i].disk.key_block;
		char place[CK_PLACE_BYTES];

		if (block == 0 || !is_first(ck, i))
			continue;
		ck_place(ck, ck->versions[i].disk.slot, 0, 1, place);
		if (!ck_block_ok(ck, block) || !ck_block_ok(ck, (uint64_t)block + 1))
			ck_finding(ck, "%s: its key slot can't be in block %u: the pool can't be opened", place, block);
		else if (!copy_whole(ck, block) && !copy_whole(ck, (uint64_t)block + 1))
			ck_finding(ck,
				   "%s: both copies of its key slot (blocks %u and %u of partition 0) are damaged: its "
				   "data and that of its clones and snapshots can't be read any more",
				   place, block, block + 1);
	}
}

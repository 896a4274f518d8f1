/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A check from beginning to end: superblocks, then the catalog (partition 0 with its log), then each partition: log,
 * tree, families, space map. What can't be read ends the look at that object, never the check. Nothing read from the
 * disk is trusted before its checksum holds, and nothing that holds is trusted to make sense.
 */
#include "store/check-internal.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TEXT_BYTES 512u
#define REPAIR_ROUNDS_MAX 64u /* of one partition; levels of the map, and CK_MARKS_MAX marks each time */

/* ---- Telling ---- */

void ck_finding(struct ck *ck, const char *fmt, ...)
{
	char text[TEXT_BYTES] = "still there: ";
	size_t used = ck->again ? strlen(text) : 0;
	va_list ap;

	ck->untold += ck->told;
	if (ck->told || ck->check->stop) /* what is read after a stop may be anything */
		return;
	ck->check->findings++;
	if (ck->check->finding == NULL)
		return;
	va_start(ap, fmt);
	vsnprintf(text + used, sizeof(text) - used, fmt, ap);
	va_end(ap);
	ck->check->finding(ck->check->ctx, false, text);
}

void ck_repaired(struct ck *ck, const char *fmt, ...)
{
	char text[TEXT_BYTES];
	va_list ap;

	ck->check->repaired++;
	if (ck->check->finding == NULL)
		return;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	ck->check->finding(ck->check->ctx, true, text);
}

void ck_note(struct ck *ck, const char *fmt, ...)
{
	char text[TEXT_BYTES];
	va_list ap;

	if (ck->check->note == NULL || (ck->check->repair && !ck->again && ck->check->findings > 0))
		return; /* told with the second look */
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	ck->check->note(ck->check->ctx, text);
}

void ck_progress(struct ck *ck, uint64_t blocks)
{
	ck->progress_done += blocks;
	if (ck->check->progress != NULL)
		ck->check->progress(ck->check->ctx, ck->progress_done, ck->progress_total);
}

static char *uuid_text(const uint8_t u[16], char buf[37])
{
	char *to = buf;

	for (unsigned i = 0; i < 16; i++)
		to += snprintf(to, 4, "%s%02x", i == 4 || i == 6 || i == 8 || i == 10 ? "-" : "", u[i]);
	return buf;
}

/* The volume's LBA of a local one. */
static uint64_t volume_lba(const struct ck *ck, uint64_t local)
{
	uint64_t stripe = local / PST_STRIPE_BLOCKS * ck->sb.partition_count + ck->part.index;

	return stripe * PST_STRIPE_BLOCKS + local % PST_STRIPE_BLOCKS;
}

char *ck_place(const struct ck *ck, uint32_t slot, uint64_t local, uint64_t count, char buf[CK_PLACE_BYTES])
{
	const struct ck_version *v = ck_version_find(ck, slot);
	char uuid[37], who[64];

	if (slot == PST_SLOT_CATALOG)
		snprintf(who, sizeof(who), "catalog");
	else if (v == NULL)
		snprintf(who, sizeof(who), "slot %u, of no volume,", slot);
	else
		snprintf(who, sizeof(who), "%s %s",
			 (v->disk.flags & PST_VOLUME_DELETING) != 0   ? "deleted volume"
			 : (v->disk.flags & PST_VOLUME_SNAPSHOT) != 0 ? "snapshot"
								      : "volume",
			 uuid_text(v->disk.uuid, uuid));
	if (count == 1)
		snprintf(buf, CK_PLACE_BYTES, "%s LBA %llu", who, (unsigned long long)volume_lba(ck, local));
	else
		snprintf(buf, CK_PLACE_BYTES, "%s LBA %llu to %llu (its part on partition %u)", who,
			 (unsigned long long)volume_lba(ck, local),
			 (unsigned long long)volume_lba(ck, local + count - 1), ck->part.index);
	return buf;
}

char *ck_node_place(const struct ck *ck, unsigned level, uint64_t index, char buf[CK_PLACE_BYTES])
{
	uint64_t leaves = ck_span[level], per_slot = ck_span[PST_NODE_LEVEL_VOLUME];
	uint64_t first = index * leaves;

	if (level > PST_NODE_LEVEL_VOLUME)
		snprintf(buf, CK_PLACE_BYTES, "slots %llu to %llu, all of these volumes on this partition",
			 (unsigned long long)(first / per_slot), (unsigned long long)((first + leaves - 1) / per_slot));
	else
		ck_place(ck, (uint32_t)(first / per_slot), first % per_slot * PST_NODE_FANOUT, leaves * PST_NODE_FANOUT,
			 buf);
	return buf;
}

/* ---- Superblocks ---- */

#define FIRST_DEVICE_BYTES_MIN 4u

/*
 * The tables of devices and regions lie in several sectors: a crash while space was added may have torn a copy. When
 * space is added for the first time, and its first sector, with the feature, is the one that is still as it was, what
 * tells is that device 0 is in the table: more bytes than a flip makes.
 */
static bool torn_by_growth(const struct pst_superblock *bad, const struct pst_superblock *best)
{
	const uint8_t *first = (const uint8_t *)&bad->devices[0];
	unsigned bytes = 0;

	if (best->clean)
		return false;
	for (size_t i = 0; i < sizeof(bad->devices[0]); i++)
		bytes += first[i] != 0;
	return ((best->features_incompat | bad->features_incompat) & PST_FEATURE_REGIONS) != 0 ||
	       bytes >= FIRST_DEVICE_BYTES_MIN;
}

/*
 * An older second copy is what a crash between the two writes leaves. A copy that is not whole is damage: all else that
 * differs between two generations lies in one sector, so no torn write makes it.
 */
static pst_err superblocks(struct ck *ck)
{
	struct pst_superblock *copies = (void *)ck->chunk;
	const struct pst_superblock *best = NULL;
	uint64_t last = ck->io->blocks - 1, seconds[PST_SB_SECONDS];
	unsigned count;
	bool one_bad = false;
	pst_err err;

	if (ck->io->blocks < 3) {
		snprintf(ck->detail, PST_DETAIL_BYTES, "not a Penstock pool (it is empty or tiny)");
		return PST_E_FORMAT;
	}
	if (ck->io->read(ck->io->ctx, 0, 0, &copies[0]) != PST_OK)
		memset(&copies[0], 0, sizeof(copies[0]));
	count = pst_sb_seconds(&copies[0], last, seconds);
	for (unsigned i = 0; i < count && (i == 0 || !pst_sb_intact(&copies[1])); i++) {
		last = seconds[i];
		if (ck->io->read(ck->io->ctx, 0, last, &copies[1]) != PST_OK)
			memset(&copies[1], 0, sizeof(copies[1]));
	}
	err = pst_sb_choose(&copies[0], &copies[1], ck->io->blocks, &best, &one_bad, ck->detail);
	if (err != PST_OK)
		return err;
	ck->sb = *best;
	ck->sb_damaged = one_bad;
	ck->sb_bad = best == &copies[0] ? last : 0;
	if (one_bad && !torn_by_growth(best == &copies[0] ? &copies[1] : &copies[0], best))
		ck_finding(ck,
			   "superblock, copy in block %llu: damaged: the other copy is good; if that goes too, the "
			   "pool is lost",
			   (unsigned long long)ck->sb_bad);
	else if (!one_bad && memcmp(copies[0].uuid, copies[1].uuid, 16) != 0)
		ck_finding(ck,
			   "superblocks: the copies are of different pools: was a file copied over a part of another?");
	ck->same_boot = best->clean != 0 || (best->boot_id[0] != '\0' && ck->io->boot_id != NULL &&
					     strcmp(best->boot_id, ck->io->boot_id) == 0);
	return PST_OK;
}

/* ---- The check ---- */

static void look_at_part(struct ck *ck)
{
	ck_tree(ck);
	ck_keys_reached(ck);
	ck_families(ck);
	if (!ck->check->stop)
		ck_space(ck);
}

/*
 * Marks and what versions own can be judged only when all that is damaged is out of the way, and marks of a node only
 * when those above it are right. So a partition is looked at again, and repaired again, as long as that finds something
 * to do. Data that is bad is given up the first time.
 */
static pst_err repair_part(struct ck *ck, uint32_t index)
{
	uint64_t progress = ck->progress_done, before;
	pst_err err;

	for (uint32_t rounds = 0;; rounds++) {
		before = ck->check->repaired;
		err = ck_repair_partition(ck);
		if (err != PST_OK || ck->check->repaired == before || rounds == REPAIR_ROUNDS_MAX)
			break;
		ck_part_close(ck);
		ck->told = true;
		ck->verify = false;
		ck->untold = 0;
		err = ck_part_open(ck, index);
		if (err == PST_OK)
			look_at_part(ck);
		ck->progress_done = progress;
		if (err != PST_OK || ck->untold == 0 || ck->check->stop)
			break;
	}
	ck->told = false;
	ck->verify = ck->check->data;
	return err;
}

/* @before: the findings before anything of it was looked at. */
static pst_err partition(struct ck *ck, uint32_t index, bool repair, uint64_t before)
{
	pst_err err;

	ck->told = index == 0; /* the catalog has been read from there */
	err = ck_part_open(ck, index);
	ck->told = false;
	if (err == PST_OK) {
		look_at_part(ck);
		ck->check->blocks_used += ck->part.reached_count;
		if (repair && !ck->check->stop && ck->check->findings > before)
			err = repair_part(ck, index);
	}
	ck_part_close(ck);
	if (ck->check->stop) {
		snprintf(ck->detail, PST_DETAIL_BYTES, "stopped");
		return PST_E_CANCELLED;
	}
	return err == PST_E_CHECKSUM ? PST_OK : err;
}

static void forget(struct ck *ck)
{
	pst_records_done(&ck->records);
	free(ck->versions);
	free(ck->root_keys);
	ck->versions = NULL;
	ck->root_keys = NULL;
	ck->root_key_count = 0;
	ck->version_count = ck->version_capacity = 0;
	ck->no_catalog = ck->unsure = false;
	memset(ck->header_bad, 0, sizeof(ck->header_bad));
}

static pst_err look(struct ck *ck, bool repair)
{
	uint64_t before;
	pst_err err;

	ck->check->findings = ck->check->lost_blocks = ck->check->blocks_used = 0;
	err = superblocks(ck);
	ck->progress_done = ck->progress_total = 0;
	if (err == PST_OK)
		err = ck_regions(ck);
	if (err == PST_OK && repair)
		err = ck_repair_superblock(ck);
	if (err == PST_OK && repair)
		err = ck_repair_regions(ck);
	before = ck->check->findings; /* the catalog is partition 0's */
	if (err == PST_OK)
		err = ck_catalog(ck);
	for (uint32_t i = 0; err == PST_OK && i < ck->sb.partition_count; i++) {
		err = partition(ck, i, repair, before);
		before = ck->check->findings;
	}
	forget(ck);
	return err;
}

/* Look; repair what was found, partition by partition; look again, to see what is left. */
static pst_err run(struct ck *ck)
{
	uint64_t found;
	pst_err err = look(ck, ck->check->repair);

	ck->check->left = found = ck->check->findings;
	if (err != PST_OK || !ck->check->repair || found == 0)
		return err;
	ck->again = true;
	err = look(ck, false);
	ck->check->left = ck->check->findings;
	ck->check->findings = found;
	return err;
}

pst_err pst_check_pool(const struct pst_check_io *io, struct pst_check *check, char detail[200])
{
	struct ck *ck = calloc(1, sizeof(*ck));
	pst_err err = PST_E_NOMEM;

	check->findings = check->repaired = check->left = check->lost_blocks = 0;
	check->blocks_used = check->nodes_read = check->data_read = 0;
	detail[0] = '\0';
	if (ck == NULL)
		return PST_E_NOMEM;
	ck->io = io;
	ck->check = check;
	ck->verify = check->data;
	ck->detail = detail;
	ck->chunk = aligned_alloc(PST_BLOCK_BYTES, (size_t)CK_CHUNK_BLOCKS * PST_BLOCK_BYTES);
	if (ck->chunk != NULL)
		err = run(ck);
	if (err == PST_E_NOMEM && detail[0] == '\0')
		snprintf(detail, PST_DETAIL_BYTES, "out of memory");
	else if (err != PST_OK && detail[0] == '\0')
		snprintf(detail, PST_DETAIL_BYTES, "%s", pst_err_text(err));
	free(ck->chunk);
	free(ck);
	return err;
}

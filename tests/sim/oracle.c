/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A block's versions stand in the order in which they were written (writes to one block do not overlap, so there is
 * one): numbers v[0..n). `live` is the oldest that a read may return now, `floor` the oldest that may come back after a
 * power loss; the newest possible is always the last. Version number 0 is zeros.
 *
 *   completed      live = its index (older ones are gone)
 *   unknown fate   live stays (old or new); so it is for a write without FUA that met a power loss, see below
 *   failed         as unknown fate, but a read that decides against it only hides it
 *   flushed        floor = what live was when the flush began; what had failed by then and is hidden never was
 *   power loss     live = floor (anything since may have come back, what is hidden too)
 *   stopped        what is hidden may come back, and what stands between two versions that a read can't tell apart
 *   read           decides between possible versions: later ones never were, if no write and no power loss met the read
 *
 * A version's number is its volume's and a serial number of that volume, so it is the same version wherever a snapshot
 * or clone shows it.
 */
#include "oracle-internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct oracle_flush {
	struct oracle *oracle;
	uint64_t power_losses, begin;
	uint64_t marks[];
};

struct oracle_read {
	struct oracle *oracle;
	struct oracle_read *next;
	uint64_t lba, count;
	uint64_t power_losses;
	struct {
		uint64_t low, writes;
		bool writing;
	} blocks[];
};

void *oracle_alloc(size_t bytes)
{
	void *p = calloc(1, bytes);

	pst_assert(p);
	return p;
}

uint64_t oracle_tick(void)
{
	static uint64_t ticks;

	return ++ticks;
}

struct oracle *oracle_new(uint32_t volume, uint64_t block_count)
{
	struct oracle *oracle = oracle_alloc(sizeof(*oracle));

	oracle->volume = volume;
	oracle->block_count = block_count;
	oracle->next = 1;
	oracle->blocks = oracle_alloc(block_count * sizeof(oracle->blocks[0]));
	for (uint64_t i = 0; i < block_count; i++) {
		struct oracle_block *b = &oracle->blocks[i];

		b->capacity = 1;
		b->v = oracle_alloc(b->capacity * sizeof(b->v[0]));
		b->n = 1; /* zeros */
		b->v[0].end = 0;
	}
	return oracle;
}

void oracle_free(struct oracle *oracle)
{
	if (!oracle)
		return;
	for (uint64_t i = 0; i < oracle->block_count; i++)
		free(oracle->blocks[i].v);
	free(oracle->blocks);
	free(oracle);
}

/* ---- Contents ---- */

struct oracle_stamp {
	uint64_t magic;
	uint32_t volume;
	uint32_t piece; /* of 32 bytes: a shift inside the block is seen too */
	uint64_t lba;
	uint64_t version;
};

#define ORACLE_MAGIC 0x6f7261636c652121u

static void block_fill(uint8_t *buf, uint32_t volume, uint64_t lba, uint64_t version)
{
	if (version == 0) {
		memset(buf, 0, ORACLE_BLOCK_BYTES);
		return;
	}
	for (uint32_t i = 0; i < ORACLE_BLOCK_BYTES / sizeof(struct oracle_stamp); i++) {
		struct oracle_stamp stamp = { ORACLE_MAGIC ^ version * 0x9e3779b97f4a7c15u, volume, i, lba, version };

		memcpy(buf + i * sizeof(stamp), &stamp, sizeof(stamp));
	}
}

/* The version of a whole block of this place and family; UINT64_MAX if it is anything else, and then why. */
static uint64_t block_version(const struct oracle *o, uint64_t lba, const uint8_t *buf, char why[256])
{
	uint8_t expected[ORACLE_BLOCK_BYTES];
	struct oracle_stamp stamp;

	memcpy(&stamp, buf, sizeof(stamp));
	block_fill(expected, stamp.volume, lba, stamp.magic ? stamp.version : 0);
	if (memcmp(buf, expected, sizeof(expected)) == 0 &&
	    (stamp.magic == 0 || stamp.volume >> 16 == o->volume >> 16 || o->any_family))
		return stamp.magic == 0 ? 0 : stamp.version;
	if (stamp.magic == (ORACLE_MAGIC ^ stamp.version * 0x9e3779b97f4a7c15u) &&
	    ((stamp.volume >> 16 != o->volume >> 16 && !o->any_family) || stamp.lba != lba)) {
		snprintf(why, 256,
			 "volume %x block %" PRIu64 " holds bytes of volume %x block %" PRIu64 " (version %" PRIx64 ")",
			 o->volume, lba, stamp.volume, stamp.lba, stamp.version);
		return UINT64_MAX;
	}
	for (size_t i = 0; i < sizeof(expected); i++)
		if (buf[i] != expected[i]) {
			snprintf(why, 256,
				 "volume %x block %" PRIu64 " is torn or garbage: begins as version %" PRIx64
				 ", differs at byte %zu",
				 o->volume, lba, stamp.version, i);
			break;
		}
	return UINT64_MAX;
}

/* ---- Writes ---- */

bool oracle_busy(const struct oracle *oracle, uint64_t lba, uint64_t count)
{
	for (uint64_t i = lba; i < lba + count; i++)
		if (oracle->blocks[i].writing)
			return true;
	return false;
}

/* A read under way may still return what has been overwritten meanwhile. */
static bool block_being_read(const struct oracle *oracle, uint64_t lba)
{
	for (const struct oracle_read *read = oracle->reads; read; read = read->next)
		if (lba >= read->lba && lba - read->lba < read->count)
			return true;
	return false;
}

void oracle_block_push(struct oracle *oracle, uint64_t lba, struct oracle_value value)
{
	struct oracle_block *b = &oracle->blocks[lba];
	uint32_t drop = PST_MIN(PST_MIN(b->live, b->floor), b->stopped);

	if (drop >= 16 && !block_being_read(oracle, lba) &&
	    oracle->snapshots_pending == 0) { /* what can come back no more */
		memmove(b->v, b->v + drop, (b->n - drop) * sizeof(b->v[0]));
		b->n -= drop;
		b->live -= drop;
		b->floor -= drop;
		b->stopped -= drop;
		b->base += drop;
	}
	if (b->n == b->capacity) {
		b->capacity *= 2;
		b->v = realloc(b->v, b->capacity * sizeof(b->v[0]));
		pst_assert(b->v);
	}
	b->v[b->n++] = (struct oracle_entry){ .value = value, .begin = oracle_tick(), .end = UINT64_MAX };
}

void oracle_write_begin(struct oracle *oracle, uint64_t lba, uint64_t count, uint8_t *buf)
{
	uint64_t version = buf ? (uint64_t)oracle->volume << 32 | oracle->next++ : 0;

	pst_assert(!oracle_busy(oracle, lba, count));
	for (uint64_t i = 0; i < count; i++) {
		struct oracle_block *b = &oracle->blocks[lba + i];

		if (buf)
			block_fill(buf + i * ORACLE_BLOCK_BYTES, oracle->volume, lba + i, version);
		oracle_block_push(oracle, lba + i, (struct oracle_value){ .version = version });
		b->writing = true;
		b->writing_power_losses = oracle->power_losses;
		b->writes++;
	}
}

void oracle_write_end(struct oracle *oracle, uint64_t lba, uint64_t count, bool ok, bool durable)
{
	uint64_t now = oracle_tick();

	for (uint64_t i = lba; i < lba + count; i++) {
		struct oracle_block *b = &oracle->blocks[i];

		pst_assert(b->writing);
		b->writing = false;
		b->writes++;
		/*
		 * A completion that comes after a power loss may be of an execution before it: the answer was on its
		 * way, or parts of the request were answered earlier and not sent again. What was complete and not
		 * flushed may be lost; the next flush tells the host.
		 */
		if (ok && (durable || b->writing_power_losses == oracle->power_losses)) {
			b->live = b->stopped = b->n - 1;
			b->v[b->live].end = now;
		}
		if (ok && durable)
			b->floor = b->n - 1;
	}
}

void oracle_write_failed(struct oracle *oracle, uint64_t lba, uint64_t count)
{
	oracle_write_end(oracle, lba, count, false, false);
	for (uint64_t i = lba; i < lba + count; i++) {
		struct oracle_block *b = &oracle->blocks[i];

		if (b->writing_power_losses == oracle->power_losses)
			b->v[b->n - 1].failed = oracle_tick();
	}
}

bool oracle_block_decided(const struct oracle_block *b)
{
	for (uint32_t i = b->live + 1; i < b->n; i++)
		if (!b->v[i].hidden)
			return false;
	return true;
}

/* ---- Flush and power ---- */

struct oracle_flush *oracle_flush_begin(struct oracle *oracle)
{
	struct oracle_flush *flush = oracle_alloc(sizeof(*flush) + oracle->block_count * sizeof(flush->marks[0]));

	flush->oracle = oracle;
	flush->power_losses = oracle->power_losses;
	flush->begin = oracle_tick();
	for (uint64_t i = 0; i < oracle->block_count; i++)
		flush->marks[i] = oracle->blocks[i].base + oracle->blocks[i].live;
	return flush;
}

void oracle_flush_end(struct oracle_flush *flush, bool ok)
{
	struct oracle *oracle = flush->oracle;

	/*
	 * A flush that met a power loss (and was sent again after it) covers what is there after the loss, but which
	 * version that is nobody has seen: it proves nothing about older completions.
	 */
	for (uint64_t i = 0; ok && flush->power_losses == oracle->power_losses && i < oracle->block_count; i++) {
		struct oracle_block *b = &oracle->blocks[i];

		if (flush->marks[i] > b->base + b->floor)
			b->floor = (uint32_t)(flush->marks[i] - b->base);
		b->stopped = PST_MAX(b->stopped, b->floor);
		for (uint32_t k = 0; k < b->n; k++)
			if (b->v[k].failed < flush->begin)
				b->v[k].failed = 0;
	}
	free(flush);
}

void oracle_be_lenient(struct oracle *oracle, bool families)
{
	oracle->lenient = true;
	oracle->any_family = !families;
}

/* The oldest possible is @live or older; what has failed may be there. */
static void block_unsettle(struct oracle_block *b, uint32_t live)
{
	b->live = PST_MIN(b->live, live);
	b->stopped = PST_MIN(b->stopped, b->live);
	for (uint32_t k = b->live + 1; k < b->n; k++)
		b->v[k].end = UINT64_MAX; /* it may not have happened after all */
	for (uint32_t k = 0; k < b->n; k++) {
		b->v[k].hidden = b->v[k].hidden && b->v[k].failed == 0;
		b->v[k].failed = 0;
	}
}

void oracle_power_loss(struct oracle *oracle)
{
	oracle->power_losses++;
	for (uint64_t i = 0; i < oracle->block_count; i++)
		block_unsettle(&oracle->blocks[i], oracle->blocks[i].floor);
	for (struct oracle_read *read = oracle->reads; read; read = read->next)
		for (uint64_t i = 0; i < read->count; i++) {
			struct oracle_block *b = &oracle->blocks[read->lba + i];

			read->blocks[i].low = PST_MIN(read->blocks[i].low, b->base + b->floor);
		}
}

void oracle_stopped(struct oracle *oracle)
{
	pst_assert(oracle->reads == NULL);
	for (uint64_t i = 0; i < oracle->block_count; i++)
		block_unsettle(&oracle->blocks[i], oracle->blocks[i].stopped);
}

/* ---- Reads ---- */

struct oracle_read *oracle_read_begin(struct oracle *oracle, uint64_t lba, uint64_t count)
{
	struct oracle_read *read = oracle_alloc(sizeof(*read) + count * sizeof(read->blocks[0]));

	read->oracle = oracle;
	read->lba = lba;
	read->count = count;
	read->power_losses = oracle->power_losses;
	for (uint64_t i = 0; i < count; i++) {
		struct oracle_block *b = &oracle->blocks[lba + i];

		read->blocks[i].low = b->base + b->live;
		read->blocks[i].writes = b->writes;
		read->blocks[i].writing = b->writing;
	}
	read->next = oracle->reads;
	oracle->reads = read;
	return read;
}

/* Where in the history, from the newest; -1: not among the possible. */
static int64_t block_find(const struct oracle_block *b, uint64_t low, uint64_t version)
{
	uint64_t from = low > b->base ? low - b->base : 0;

	for (uint64_t i = b->n; i > from; i--)
		if (!b->v[i - 1].hidden && oracle_value_may_be(&b->v[i - 1].value, version))
			return (int64_t)(i - 1);
	return -1;
}

/* If only one entry may have been seen, then what it stands for is known. */
static bool settle(struct oracle_block *b, uint64_t low, uint64_t version, char why[256])
{
	uint32_t from = low > b->base ? (uint32_t)(low - b->base) : 0;
	struct oracle_value *only = NULL;

	for (uint32_t i = from; i < b->n; i++) {
		if (b->v[i].hidden || !oracle_value_may_be(&b->v[i].value, version))
			continue;
		if (only != NULL)
			return true;
		only = &b->v[i].value;
	}
	return only == NULL || oracle_value_settle(only, version, why);
}

/* Number @at is there, and later ones never were; or have failed, and are not there unless the power fails. */
static void decide(struct oracle_block *b, uint32_t at, uint64_t version)
{
	uint32_t n = at + 1;

	for (uint32_t i = n; i < b->n; i++) {
		if (b->v[i].failed == 0)
			continue;
		b->v[n] = b->v[i];
		b->v[n++].hidden = true;
	}
	while (b->stopped < at && !oracle_value_may_be(&b->v[b->stopped].value, version))
		b->stopped++;
	b->n = n;
	b->live = at;
	b->v[at].value = (struct oracle_value){ .version = version };
	b->floor = PST_MIN(b->floor, b->live);
}

static bool read_check(struct oracle_read *read, uint64_t i, const uint8_t *buf, char why[256])
{
	struct oracle *oracle = read->oracle;
	struct oracle_block *b = &oracle->blocks[read->lba + i];
	uint64_t version = block_version(oracle, read->lba + i, buf, why);
	int64_t at;

	if (version == UINT64_MAX)
		return false;
	if (oracle->lenient)
		return true;
	at = block_find(b, read->blocks[i].low, version);
	if (at < 0) {
		snprintf(why, 256,
			 "volume %x block %" PRIu64 " reads as version %" PRIx64 "; it has had %" PRIu64
			 " versions: the last is %" PRIx64 "%s"
			 ", the oldest possible when the read began was number %" PRIu64 ", now number %" PRIu64
			 ", version %" PRIx64 "%s",
			 oracle->volume, read->lba + i, version, b->base + b->n, b->v[b->n - 1].value.version,
			 b->v[b->n - 1].value.cell ? " of several" : "", read->blocks[i].low, b->base + b->live,
			 b->v[b->live].value.version, b->v[b->live].value.cell ? " of several" : "");
		return false;
	}
	if (!settle(b, read->blocks[i].low, version, why))
		return false;
	if (!b->writing && !read->blocks[i].writing && read->blocks[i].writes == b->writes &&
	    read->power_losses == oracle->power_losses && !block_being_read(oracle, read->lba + i)) {
		/*
		 * Nothing moved. (Another read under way may have seen a later version before the power failed, so then
		 * nothing is decided yet.)
		 */
		decide(b, (uint32_t)at, version);
	}
	return true;
}

bool oracle_read_end(struct oracle_read *read, const uint8_t *buf, char ret_why[256])
{
	struct oracle_read **at = &read->oracle->reads;
	bool ok = true;

	while (*at != read)
		at = &(*at)->next;
	*at = read->next;
	for (uint64_t i = 0; buf && ok && i < read->count; i++)
		ok = read_check(read, i, buf + i * ORACLE_BLOCK_BYTES, ret_why);
	free(read);
	return ok;
}

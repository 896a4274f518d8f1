/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Roots and log of a partition, for the checker.
 *
 *   four root blocks -> the newest; each must be whole, save one pair that was never written
 *   log -> the chain from the root on -> what proves how far it must reach -> the records that count
 *
 * Records that are not proven count only as far as their data is there (as recovery decides, by reading it). The log
 * stays in memory while the partition is looked at: items point into it.
 */
#include "store/check-internal.h"

#include "base/crc32c.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- Roots ---- */

static bool all_zero(const void *block)
{
	static const uint8_t zero[PST_BLOCK_BYTES];

	return memcmp(block, zero, PST_BLOCK_BYTES) == 0;
}

/* The first pair begins as zeros, and a crash may cut short every write to one of its copies. */
bool ck_root_fine(const struct ck *ck, const struct pst_root *slot, uint32_t number)
{
	bool unused = number < 2 && all_zero(slot) && (!ck->sb.clean || ck->part.root.generation % 2 == 1);

	return unused || pst_root_intact(slot, ck->sb.uuid, ck->part.index);
}

/* All that differs between two roots lies in one sector: a root that is not whole is damage, never a torn write. */
static pst_err roots(struct ck *ck)
{
	struct ck_part *p = &ck->part;
	struct pst_root *slots = (void *)ck->chunk;
	const struct pst_root *root;

	for (uint32_t i = 0; i < PST_ROOT_SLOTS; i++)
		if (ck_read(ck, i, &slots[i]) != PST_OK)
			memset(&slots[i], 0xff, sizeof(slots[i]));
	root = pst_root_choose(slots, ck->sb.uuid, p->index);
	if (root == NULL) {
		ck_finding(ck, "partition %u: none of its four root blocks is whole: nothing on it can be found",
			   p->index);
		return PST_E_CHECKSUM;
	}
	p->root = *root;
	for (uint32_t i = 0; i < PST_ROOT_SLOTS; i++)
		if (!ck_root_fine(ck, &slots[i], i))
			ck_finding(ck, "partition %u: root copy in block %u: damaged: another copy is good", p->index,
				   i);
	if (root->log_seq == 0 || root->catalog_bytes > PST_CATALOG_BYTES_MAX ||
	    (root->map.block != 0 && !ck_block_ok(ck, root->map.block))) {
		ck_finding(ck,
			   "partition %u: its root makes no sense (log %llu, map in block %u): the pool can't be "
			   "opened",
			   p->index, (unsigned long long)root->log_seq, root->map.block);
		return PST_E_CHECKSUM;
	}
	return PST_OK;
}

/* ---- The chain ---- */

/*
 * Blocks beyond the end that belong to this log and say that a block of the gap had been written for good. Each is
 * judged by itself, so it may be anywhere in the ring.
 */
static bool gap_is_damage(struct ck *ck, uint64_t end_seq)
{
	struct ck_part *p = &ck->part;
	const struct pst_log_block *b = (const void *)ck->chunk;

	for (uint32_t at = 0; at < p->geo.log_blocks; at += CK_CHUNK_BLOCKS) {
		uint32_t count = PST_MIN(CK_CHUNK_BLOCKS, p->geo.log_blocks - at);

		for (uint32_t i = 0; i < count; i++)
			if (ck_read(ck, p->geo.log_start + at + i, ck->chunk + (size_t)i * PST_BLOCK_BYTES) != PST_OK)
				memset(ck->chunk + (size_t)i * PST_BLOCK_BYTES, 0, PST_BLOCK_BYTES);
		for (uint32_t i = 0; i < count; i++) {
			if (b[i].seq <= end_seq || b[i].seq > end_seq + p->geo.log_blocks ||
			    b[i].seq % p->geo.log_blocks != at + i ||
			    !pst_log_block_follows(&b[i], p->index, p->root.incarnation, b[i].seq, b[i].prev_crc))
				continue;
			if ((ck->same_boot ? b[i].completed_seq : b[i].durable_seq) > end_seq)
				return true;
		}
	}
	return false;
}

static pst_err chain(struct ck *ck)
{
	struct ck_part *p = &ck->part;
	uint32_t capacity = 0;

	if (ck->io->live)
		return PST_OK;

	while (p->log_count < p->geo.log_blocks) {
		uint64_t seq = p->root.log_seq + p->log_count;
		uint32_t prev = p->log_count > 0 ? p->log[p->log_count - 1].crc : p->root.log_prev_crc;
		pst_err err;

		if (p->log_count == capacity) {
			struct pst_log_block *log;

			capacity = capacity > 0 ? capacity * 2 : 16;
			log = realloc(p->log, (size_t)capacity * sizeof(*log));
			if (log == NULL)
				return PST_E_NOMEM;
			p->log = log;
		}
		err = ck_read(ck, p->geo.log_start + seq % p->geo.log_blocks, &p->log[p->log_count]);
		if (err != PST_OK ||
		    !pst_log_block_follows(&p->log[p->log_count], p->index, p->root.incarnation, seq, prev))
			break;
		p->log_count++;
	}
	p->log_damaged = gap_is_damage(ck, p->root.log_seq + p->log_count - 1);
	if (p->log_damaged)
		ck_finding(ck,
			   "partition %u: log block %llu: damaged or unreadable, and later blocks prove that it was "
			   "durable: the pool can't be opened; what was written from there on can't be told (--cut-log "
			   "gives it up)",
			   p->index, (unsigned long long)(p->root.log_seq + p->log_count));
	if (ck->sb.clean && p->log_count > 0)
		ck_finding(ck,
			   "partition %u: the pool was closed in order, but its log holds %u blocks: the root is older "
			   "than the log",
			   p->index, p->log_count);
	return PST_OK;
}

/* ---- Records ---- */

bool ck_slot_touched(const struct ck_part *p, uint32_t slot)
{
	return slot < PST_SLOTS_MAX && ck_bit(p->touched, slot);
}

static void touch(struct ck_part *p, const struct pst_log_record *r)
{
	const struct pst_log_merge *merge = pst_log_record_body(r);

	ck_set(p->touched, r->slot);
	ck_set(p->touched, r->kind == PST_LOG_MERGE ? merge->child : (uint32_t)r->lba);
	ck_set(p->touched, r->kind == PST_LOG_MERGE ? merge->parent : r->slot);
}

static int by_leaf(const void *a, const void *b)
{
	const struct ck_item *x = a, *y = b;

	if (x->leaf != y->leaf)
		return x->leaf < y->leaf ? -1 : 1;
	return x->order < y->order ? -1 : x->order > y->order;
}

/* Which blocks of an unproven write are not there. */
static void item_verify(struct ck *ck, struct ck_item *item)
{
	const struct pst_log_record *r = item->record;
	const uint32_t *crc = pst_log_record_body(r);

	for (uint32_t i = 0; i < r->count; i++) {
		pst_err err = ck_read(ck, r->block + i, ck->chunk);

		if (err != PST_OK || pst_crc32c(ck->chunk, PST_BLOCK_BYTES) != crc[i])
			item->bad[i / 8] |= (uint8_t)(1u << (i % 8));
	}
}

static bool aborted(const struct ck_part *p, uint64_t seq, uint32_t number)
{
	for (uint32_t i = 0; i < p->log_count; i++) {
		const struct pst_log_record *r;
		uint32_t at = 0;
		bool bad = false;

		if (p->log[i].seq < seq)
			continue;
		while ((r = pst_log_block_next(&p->log[i], &at, &bad)) != NULL)
			if (r->kind == PST_LOG_ABORT && r->lba == seq && r->count == number)
				return true;
	}
	return false;
}

static bool log_has_aborts(const struct ck_part *p)
{
	for (uint32_t i = 0; i < p->log_count; i++) {
		const struct pst_log_record *r;
		uint32_t at = 0;
		bool bad = false;

		while ((r = pst_log_block_next(&p->log[i], &at, &bad)) != NULL)
			if (r->kind == PST_LOG_ABORT)
				return true;
	}
	return false;
}

static bool writes(const struct pst_log_record *r)
{
	return r->kind == PST_LOG_WRITE || r->kind == PST_LOG_MOVE;
}

static uint64_t proven(const struct ck *ck)
{
	uint64_t seq = 0;

	for (uint32_t i = 0; i < ck->part.log_count; i++) {
		const struct pst_log_block *b = &ck->part.log[i];

		seq = PST_MAX(seq, ck->same_boot ? b->completed_seq : b->durable_seq);
	}
	return seq;
}

static void record_enter(struct ck *ck, const struct pst_log_record *r, uint64_t seq, uint64_t order, bool verify)
{
	struct ck_part *p = &ck->part;

	if (writes(r) || r->kind == PST_LOG_DISCARD) {
		struct ck_item *item = &p->items[p->item_count++];

		*item = (struct ck_item){ .leaf = (r->slot * PST_SLOT_SPAN + r->lba) / PST_NODE_FANOUT,
					  .order = order,
					  .record = r };
		if (r->kind == PST_LOG_DISCARD)
			return;
		if (!ck_block_ok(ck, r->block) || !ck_block_ok(ck, (uint64_t)r->block + r->count - 1))
			ck_finding(ck,
				   "partition %u: log block %llu names blocks %u and on, which are no data blocks: the "
				   "pool can't be opened",
				   p->index, (unsigned long long)seq, r->block);
		else if (verify)
			item_verify(ck, item);
	} else if (r->kind == PST_LOG_SNAPSHOT || r->kind == PST_LOG_CLONE || r->kind == PST_LOG_MERGE) {
		p->events[p->event_count++] = (struct ck_event){ order, r };
		touch(p, r);
	}
}

static pst_err records(struct ck *ck)
{
	struct ck_part *p = &ck->part;
	uint64_t count = 0, order = 0, sure = proven(ck);
	bool aborts = log_has_aborts(p);

	for (uint32_t i = 0; i < p->log_count; i++)
		count += p->log[i].record_count;
	p->items = calloc(PST_MAX(count, 1u), sizeof(p->items[0]));
	p->events = calloc(PST_MAX(count, 1u), sizeof(p->events[0]));
	if (p->items == NULL || p->events == NULL)
		return PST_E_NOMEM;
	for (uint32_t i = 0; i < p->log_count; i++) {
		const struct pst_log_block *b = &p->log[i];
		const struct pst_log_record *r;
		uint32_t at = 0, number = 0;
		bool bad = false;

		for (; (r = pst_log_block_next(b, &at, &bad)) != NULL; number++, order++)
			if (!aborts || !writes(r) || !aborted(p, b->seq, number))
				record_enter(ck, r, b->seq, order, b->seq > sure);
		if (bad || number != b->record_count)
			ck_finding(
			    ck,
			    "partition %u: log block %llu is whole but holds a record that this program does not "
			    "know: the pool can't be opened; use a newer one",
			    p->index, (unsigned long long)b->seq);
	}
	qsort(p->items, p->item_count, sizeof(p->items[0]), by_leaf);
	return PST_OK;
}

/* ---- Looking up ---- */

static size_t first_at(const struct ck_part *p, uint64_t leaf)
{
	size_t low = 0, high = p->item_count;

	while (low < high) {
		size_t mid = low + (high - low) / 2;

		if (p->items[mid].leaf < leaf)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

size_t ck_items_of(const struct ck_part *p, uint64_t leaf, size_t *ret_end)
{
	size_t first = first_at(p, leaf), end = first;

	while (end < p->item_count && p->items[end].leaf == leaf)
		end++;
	*ret_end = end;
	return first;
}

bool ck_items_any(const struct ck_part *p, uint64_t leaf, uint64_t count)
{
	size_t first = first_at(p, leaf);

	return first < p->item_count && p->items[first].leaf - leaf < count;
}

void ck_item_apply(const struct ck_item *item, struct pst_ptr entry[PST_NODE_FANOUT])
{
	const struct pst_log_record *r = item->record;
	const uint32_t *crc = pst_log_record_body(r);

	for (uint32_t i = 0; i < r->count; i++) {
		struct pst_ptr *e = &entry[r->lba % PST_NODE_FANOUT + i];

		if (r->kind == PST_LOG_DISCARD)
			*e = (struct pst_ptr){ 0 };
		else if ((item->bad[i / 8] >> (i % 8) & 1) == 0 &&
			 (r->kind == PST_LOG_WRITE || (e->block == crc[r->count + i] && e->crc == crc[i])))
			*e = (struct pst_ptr){ r->block + i, crc[i] };
	}
}

/* ---- Begin and end ---- */

static bool memory(struct ck_part *p, bool repair)
{
	size_t words = (size_t)pst_div_round_up(p->blocks, 64);

	p->reached = calloc(words, sizeof(uint64_t));
	p->nodes = calloc(words, sizeof(uint64_t));
	p->sharers = calloc(words, sizeof(uint64_t));
	p->owned = calloc(words, sizeof(uint64_t));
	p->bad = repair ? calloc(words, sizeof(uint64_t)) : NULL;
	p->touched = calloc(pst_div_round_up(PST_SLOTS_MAX, 64), sizeof(uint64_t));
	p->cache = calloc(CK_CACHE_NODES, sizeof(p->cache[0]));
	if (p->reached == NULL || p->nodes == NULL || p->sharers == NULL || p->owned == NULL || p->touched == NULL ||
	    p->cache == NULL || (repair && p->bad == NULL))
		return false;
	for (unsigned i = 0; i < PST_NODE_LEVELS; i++) {
		p->path[i] = aligned_alloc(PST_BLOCK_BYTES, PST_BLOCK_BYTES);
		p->other[i] = aligned_alloc(PST_BLOCK_BYTES, PST_BLOCK_BYTES);
		if (p->path[i] == NULL || p->other[i] == NULL)
			return false;
	}
	return true;
}

pst_err ck_part_open(struct ck *ck, uint32_t index)
{
	struct ck_part *p = &ck->part;
	pst_err err;

	*p = (struct ck_part){ .index = index, .geo = ck->sb.partitions[index] };
	p->blocks = p->geo.blocks;
	for (uint32_t i = 0; i < ck->sb.region_count; i++)
		p->blocks += ck->regions[i].segments[index].blocks;
	if (!memory(p, ck->check->repair))
		return PST_E_NOMEM;
	err = roots(ck);
	if (err == PST_OK)
		err = chain(ck);
	if (err == PST_OK)
		err = records(ck);
	return err;
}

void ck_part_close(struct ck *ck)
{
	struct ck_part *p = &ck->part;

	for (unsigned i = 0; i < PST_NODE_LEVELS; i++) {
		free(p->path[i]);
		free(p->other[i]);
	}
	free(p->touched);
	free(p->cache);
	free(p->log);
	free(p->items);
	free(p->events);
	free(p->reached);
	free(p->nodes);
	free(p->sharers);
	free(p->owned);
	free(p->bad);
	free(p->marks);
	*p = (struct ck_part){ 0 };
}

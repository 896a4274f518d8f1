/* SPDX-License-Identifier: Apache-2.0 */
#include "store/logfmt.h"

#include "base/crc32c.h"

#include <string.h>

void pst_log_block_init(struct pst_log_block *block, uint32_t partition, uint64_t incarnation, uint64_t seq)
{
	memset(block, 0, sizeof(*block));
	block->magic = PST_LOG_MAGIC;
	block->partition = partition;
	block->incarnation = incarnation;
	block->seq = seq;
}

bool pst_log_block_add(struct pst_log_block *block, const struct pst_log_record *record, const void *body,
		       uint32_t body_bytes)
{
	uint32_t bytes = pst_log_record_bytes(body_bytes);
	struct pst_log_record *to = (void *)(block->payload + block->used_bytes);

	if (bytes > PST_LOG_PAYLOAD - block->used_bytes)
		return false;
	*to = *record;
	to->bytes = (uint16_t)bytes;
	if (body_bytes > 0)
		memcpy(to + 1, body, body_bytes);
	block->used_bytes += bytes;
	block->record_count++;
	return true;
}

static uint32_t block_crc(const struct pst_log_block *block)
{
	static const uint8_t zero[4];
	uint32_t crc = pst_crc32c(block, offsetof(struct pst_log_block, crc));

	crc = pst_crc32c_more(crc, zero, sizeof(zero));
	return pst_crc32c_more(crc, &block->incarnation, sizeof(*block) - offsetof(struct pst_log_block, incarnation));
}

uint32_t pst_log_block_seal(struct pst_log_block *block, uint32_t prev_crc)
{
	block->prev_crc = prev_crc;
	block->crc = block_crc(block);
	return block->crc;
}

bool pst_log_block_follows(const struct pst_log_block *block, uint32_t partition, uint64_t incarnation, uint64_t seq,
			   uint32_t prev_crc)
{
	return block->magic == PST_LOG_MAGIC && block->partition == partition && block->incarnation == incarnation &&
	       block->seq == seq && block->prev_crc == prev_crc && block->used_bytes <= PST_LOG_PAYLOAD &&
	       block->crc == block_crc(block);
}

static bool merge_sane(const struct pst_log_record *r, uint32_t body)
{
	const struct pst_log_merge *m = pst_log_record_body(r);
	uint64_t nodes = 1;

	if (body < sizeof(*m) || r->count > PST_NODE_LEVEL_VOLUME || r->slot == 0 || r->slot >= PST_SLOTS_MAX)
		return false;
	for (unsigned level = r->count; level < PST_NODE_LEVEL_VOLUME; level++)
		nodes *= PST_NODE_FANOUT;
	return r->lba < nodes && m->parent < PST_SLOTS_MAX && m->child < PST_SLOTS_MAX &&
	       m->grandparent < PST_SLOTS_MAX;
}

/* Everything that later code relies on, checked once. */
static bool record_sane(const struct pst_log_record *r, uint32_t room)
{
	uint32_t body;

	if (r->bytes < sizeof(*r) || r->bytes % 8 != 0 || r->bytes > room)
		return false;
	body = r->bytes - (uint32_t)sizeof(*r);
	switch (r->kind) {
	case PST_LOG_WRITE:
		return r->count > 0 && r->count <= PST_PIECE_BLOCKS_MAX && r->count * 4 <= body && r->block > 0 &&
		       pst_range_ok(r->lba, r->count, PST_SLOT_SPAN) && r->slot < PST_SLOTS_MAX &&
		       r->lba % PST_NODE_FANOUT + r->count <= PST_NODE_FANOUT;
	case PST_LOG_MOVE:
		return r->count > 0 && r->count <= PST_PIECE_BLOCKS_MAX && r->count * 8 <= body && r->block > 0 &&
		       pst_range_ok(r->lba, r->count, PST_SLOT_SPAN) && r->slot > 0 && r->slot < PST_SLOTS_MAX &&
		       r->lba % PST_NODE_FANOUT + r->count <= PST_NODE_FANOUT;
	case PST_LOG_DISCARD:
		return r->count > 0 && pst_range_ok(r->lba, r->count, PST_SLOT_SPAN) && r->slot < PST_SLOTS_MAX &&
		       r->lba % PST_NODE_FANOUT + r->count <= PST_NODE_FANOUT;
	case PST_LOG_ABORT:
		return true;
	case PST_LOG_VOLUME:
		return body >= sizeof(struct pst_volume_disk) && r->slot > 0 && r->slot < PST_SLOTS_MAX;
	case PST_LOG_VERSION:
		return body >= sizeof(struct pst_version_disk) && r->slot > 0 && r->slot < PST_SLOTS_MAX &&
		       r->lba < PST_SLOTS_MAX && r->block <= PST_ALSO_DETACH;
	case PST_LOG_VOLUME_END:
		return r->slot > 0 && r->slot < PST_SLOTS_MAX;
	case PST_LOG_SNAPSHOT:
	case PST_LOG_CLONE:
		return r->slot > 0 && r->slot < PST_SLOTS_MAX && r->lba > 0 && r->lba < PST_SLOTS_MAX;
	case PST_LOG_MERGE:
		return merge_sane(r, body);
	case PST_LOG_PUT:
	case PST_LOG_DELETE:
		return r->count > 0 && r->count <= body && memchr(r + 1, 0, r->count) != NULL;
	default:
		return false;
	}
}

const struct pst_log_record *pst_log_block_next(const struct pst_log_block *block, uint32_t *at, bool *ret_bad)
{
	const struct pst_log_record *r = (const void *)(block->payload + *at);
	uint32_t room = block->used_bytes - *at;

	if (room == 0)
		return NULL;
	if (room < sizeof(*r) || !record_sane(r, room)) {
		*ret_bad = true;
		return NULL;
	}
	*at += r->bytes;
	return r;
}

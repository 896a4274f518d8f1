/* SPDX-License-Identifier: Apache-2.0 */
/* Cutting requests: stripes and leaves, buffers that are aligned for the file or copied, and the pieces themselves. */
#include "store/piece.h"

#include "base/crc32c.h"

/* ---- LBAs and buffers ---- */

uint64_t part_local(const struct store *st, uint32_t part_index, uint64_t lba)
{
	uint64_t row = (uint64_t)PST_STRIPE_BLOCKS * st->part_count;
	uint64_t rest = lba % row, before = (uint64_t)part_index * PST_STRIPE_BLOCKS;

	rest = rest > before ? PST_MIN(rest - before, PST_STRIPE_BLOCKS) : 0;
	return lba / row * PST_STRIPE_BLOCKS + rest;
}

struct part *piece_locate(struct store *st, uint64_t lba, uint64_t max, uint64_t *ret_local, uint32_t *ret_count)
{
	uint64_t stripe = lba / PST_STRIPE_BLOCKS;
	uint64_t local = stripe / st->part_count * PST_STRIPE_BLOCKS + lba % PST_STRIPE_BLOCKS;

	max = PST_MIN(max, PST_PIECE_BLOCKS_MAX);
	max = PST_MIN(max, PST_STRIPE_BLOCKS - lba % PST_STRIPE_BLOCKS);
	*ret_count = (uint32_t)PST_MIN(max, PST_NODE_FANOUT - local % PST_NODE_FANOUT);
	*ret_local = local;
	return &st->parts[stripe % st->part_count];
}

uint32_t piece_iov(struct iovec *to, const struct iovec *from, uint64_t offset, uint64_t len)
{
	uint32_t n = 0;

	while (offset >= from->iov_len)
		offset -= (from++)->iov_len;
	while (len > 0) {
		size_t take = PST_MIN(from->iov_len - offset, len);

		if (take > 0)
			to[n++] = (struct iovec){ (char *)from->iov_base + offset, take };
		len -= take;
		offset = 0;
		from++;
	}
	return n;
}

static bool is_aligned(const struct iovec *iov, uint32_t count, uint32_t align)
{
	uintptr_t bits = 0;

	for (uint32_t i = 0; i < count; i++)
		bits |= (uintptr_t)iov[i].iov_base | iov[i].iov_len;
	return (bits & (align - 1)) == 0;
}

uint32_t piece_crc(const struct iovec **iov, size_t *offset)
{
	size_t left = PST_BLOCK_BYTES;
	uint32_t crc = 0;

	while (left > 0) {
		size_t take = PST_MIN((*iov)->iov_len - *offset, left);

		crc = pst_crc32c_more(crc, (char *)(*iov)->iov_base + *offset, take);
		left -= take;
		*offset += take;
		if (*offset == (*iov)->iov_len) {
			(*iov)++;
			*offset = 0;
		}
	}
	return crc;
}

/* ---- Pieces ---- */

struct piece *piece_get(struct req *r, struct part *p, struct node *leaf, uint32_t count)
{
	struct store *st = r->store;
	struct pst_list *l = pst_list_pop_front(&st->free_pieces);
	struct piece *piece;

	if (l == NULL) {
		pst_list_push_back(&st->req_waiters, &r->wait.node);
		return NULL;
	}
	piece = pst_container_of(l, struct piece, logged.node);
	piece->req = r;
	piece->logged.part = p;
	piece->leaf = leaf;
	piece->block = 0;
	piece->count = count;
	piece->err = PST_OK;
	piece->bounce = NULL;
	piece->begun_ns = 0;
	return piece;
}

void piece_put(struct store *st, struct piece *piece)
{
	if (piece->bounce != NULL)
		st->bounces[st->bounce_count++] = piece->bounce;
	piece->bounce = NULL;
	pst_list_push_back(&st->free_pieces, &piece->logged.node);
	store_wake_all(st, &st->req_waiters);
}

bool piece_buffers(struct piece *piece)
{
	struct req *r = piece->req;
	struct store *st = r->store;
	uint64_t offset = piece->io_block * PST_BLOCK_BYTES;
	uint32_t n = piece_iov(piece->iov, r->io->iov, offset, (uint64_t)piece->count * PST_BLOCK_BYTES);

	piece->op.iov = piece->iov;
	piece->op.iov_count = n;
	if (is_aligned(piece->iov, n, st->info.align_bytes))
		return true;
	if (st->bounce_count == 0) {
		piece_put(st, piece);
		pst_list_push_back(&st->req_waiters, &r->wait.node);
		return false;
	}
	piece->count = PST_MIN(piece->count, BOUNCE_BLOCKS);
	piece_iov(piece->iov, r->io->iov, offset, (uint64_t)piece->count * PST_BLOCK_BYTES);
	piece->bounce = st->bounces[--st->bounce_count];
	piece->bounce_iov = (struct iovec){ piece->bounce, (size_t)piece->count * PST_BLOCK_BYTES };
	piece->op.iov = &piece->bounce_iov;
	piece->op.iov_count = 1;
	return true;
}

void piece_submit(struct piece *piece, enum pst_file_kind kind, void (*done)(struct pst_file_op *op))
{
	struct part *p = piece->logged.part;

	piece->op.kind = kind;
	piece->op.len_bytes = (uint64_t)piece->count * PST_BLOCK_BYTES;
	piece->op.done = done;
	piece->begun_ns = pst_env_now_ns(p->store->pool.env);
	piece->req->pieces++;
	part_submit(p, &piece->op, piece->block);
}

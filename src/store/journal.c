/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The log of a partition. A record gets its place in the log when a log block is built, in the pool's turn; what has
 * gathered by then goes out together. Up to LOG_WRITES writes are under way; blocks count as written only without a
 * hole before them. A record is applied to the map when it is written, its data is written, and all records before it
 * are applied: so the map is always the state at one point of the log, and completions follow log order.
 *
 * A log block is never written twice: a torn write hurts only itself, and the chain of CRCs ends before it.
 * A failed log write is tried again (the same bytes to the same place); if it goes on failing, the pool stops writing.
 *
 * The data write of a record failed: its record is in the log but must never count. An abort record follows, and no
 * proof (durable_seq, completed_seq of later blocks) passes the failed record until the abort is written; recovery
 * verifies what is not proven, and drops it.
 */
#include "store/internal.h"

#include <string.h>

#define TRIES_MAX 5u
#define RETRY_NS ((uint64_t)20 * 1000 * 1000)

static uint64_t log_used(const struct part *p)
{
	return p->head_seq - p->tail_seq;
}

/* Room for one more record, and for an abort of it and of each that is under way. */
bool journal_room_for(const struct part *p, uint32_t records)
{
	return log_used(p) + 2 * ((uint64_t)p->inflight + records) <= p->geo.log_blocks;
}

bool journal_room(const struct part *p)
{
	return journal_room_for(p, 1);
}

void journal_add(struct part *p, struct logged *l)
{
	l->part = p;
	l->seq = 0;
	p->inflight++;
	pst_list_push_back(&p->pending, &l->node);
	store_schedule(p->store);
}

/* Every block up to the result: written, with the data of its records, and applied. */
uint64_t journal_completed(const struct part *p)
{
	if (pst_list_empty(&p->applying))
		return p->written_seq;
	return pst_container_of(p->applying.next, struct logged, node)->seq - 1;
}

/*
 * The record is in the log, so its blocks stay taken until the abort is durable, and nothing is proven from its block
 * on until the abort is written.
 */
void journal_abort(struct logged *l, void (*apply)(struct logged *l))
{
	struct part *p = l->part;

	p->hold_seq = p->hold_seq != 0 ? PST_MIN(p->hold_seq, l->seq) : l->seq;
	p->aborts++;
	l->record = (struct pst_log_record){ .kind = PST_LOG_ABORT, .lba = l->seq, .count = l->index };
	l->body = NULL;
	l->body_bytes = 0;
	l->apply = apply;
	journal_add(p, l);
}

void journal_abort_applied(struct part *p)
{
	if (--p->aborts == 0)
		p->hold_seq = 0;
}

static uint64_t proof(const struct part *p, uint64_t seq)
{
	return p->hold_seq != 0 ? PST_MIN(seq, p->hold_seq - 1) : seq;
}

static void write_done(struct pst_file_op *op);

static void write_submit(struct log_write *w)
{
	struct part *p = w->part;
	uint64_t first = w->last_seq + 1 - w->count;

	w->iov = (struct iovec){ w->blocks, (size_t)w->count * PST_BLOCK_BYTES };
	w->op = (struct pst_file_op){
		.kind = PST_FILE_WRITE,
		.iov = &w->iov,
		.iov_count = 1,
		.urgent = store_urgent(p->store),
		.len_bytes = w->iov.iov_len,
		.done = write_done,
	};
	part_submit(p, &w->op, p->geo.log_start + first % p->geo.log_blocks);
}

static void write_retry(struct pst_timer *timer)
{
	write_submit(pst_container_of(timer, struct log_write, retry));
}

static void write_done(struct pst_file_op *op)
{
	struct log_write *w = pst_container_of(op, struct log_write, op);
	struct store *st = w->part->store;

	st->outstanding--;
	if (op->err != PST_OK && st->failed == PST_OK) {
		if (++w->tries < TRIES_MAX) {
			pst_timer_init(&w->retry, write_retry);
			pst_timer_arm(st->pool.env, &w->retry, pst_env_now_ns(st->pool.env) + RETRY_NS);
			return;
		}
		store_fail(st, op->err, "log_write_failed");
	}
	w->done = true;
	store_schedule(st);
}

/* Writes that are done, in order, move written_seq. */
static void writes_collect(struct part *p)
{
	while (p->write_count > 0 && p->writes[p->write_first].done) {
		struct log_write *w = &p->writes[p->write_first];

		if (p->store->failed == PST_OK)
			p->written_seq = w->last_seq;
		w->busy = w->done = false;
		p->write_first = (p->write_first + 1) % LOG_WRITES;
		p->write_count--;
	}
}

static void block_begin(struct part *p, struct pst_log_block *b, uint64_t seq)
{
	pst_log_block_init(b, p->index, p->incarnation, seq);
	b->durable_seq = proof(p, p->durable_seq);
	b->completed_seq = proof(p, journal_completed(p));
}

static void build_one(struct part *p, struct log_write *w)
{
	uint32_t to_ring_end = p->geo.log_blocks - (uint32_t)(p->head_seq % p->geo.log_blocks);
	uint32_t blocks_max = PST_MIN(LOG_WRITE_BLOCKS, to_ring_end);
	struct pst_log_block *b = w->blocks;

	w->count = 0;
	block_begin(p, b, p->head_seq);
	while (!pst_list_empty(&p->pending)) {
		struct logged *l = pst_container_of(p->pending.next, struct logged, node);

		if (!pst_log_block_add(b, &l->record, l->body, l->body_bytes)) {
			pst_assert(b->record_count > 0);
			if (w->count + 1 == blocks_max)
				break;
			p->prev_crc = pst_log_block_seal(b, p->prev_crc);
			w->count++;
			p->head_seq++;
			b++;
			block_begin(p, b, p->head_seq);
			continue;
		}
		l->seq = p->head_seq;
		l->index = b->record_count - 1;
		pst_list_remove(&l->node);
		pst_list_push_back(&p->applying, &l->node);
	}
	p->prev_crc = pst_log_block_seal(b, p->prev_crc);
	w->count++;
	w->last_seq = p->head_seq++;
	pst_assert(log_used(p) <= p->geo.log_blocks);
}

void journal_build(struct part *p)
{
	if (p->store->failed != PST_OK)
		return;
	while (!pst_list_empty(&p->pending) && p->write_count < LOG_WRITES) {
		struct log_write *w = &p->writes[(p->write_first + p->write_count) % LOG_WRITES];

		p->write_count++;
		w->part = p;
		w->busy = true;
		w->done = false;
		w->tries = 0;
		build_one(p, w);
		write_submit(w);
	}
}

/*
 * After a failure of the log nothing can be applied any more; records complete with the error. What has a place in the
 * log may or may not be found there by recovery: neither was acknowledged.
 */
bool journal_apply(struct part *p)
{
	bool any = false;

	writes_collect(p);
	if (p->store->failed != PST_OK && p->write_count == 0)
		pst_list_splice(&p->applying, &p->pending);
	while (!pst_list_empty(&p->applying)) {
		struct logged *l = pst_container_of(p->applying.next, struct logged, node);
		bool written = l->seq != 0 && l->seq <= p->written_seq;

		if (PST_MUTANT == PST_MUTANT_COMPLETE_EARLY)
			written = true;
		if (p->store->failed != PST_OK && p->write_count == 0)
			written = true;
		if (!l->ready || !written)
			break;
		pst_list_remove(&l->node);
		p->inflight--;
		any = true;
		l->apply(l);
	}
	return any;
}

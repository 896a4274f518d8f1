/* SPDX-License-Identifier: Apache-2.0 */
/* Room for one more record: in the log, in the cache, among the blocks; who finds none waits and is woken. */
#include "store/check-online.h"

#define FREED_MAX 262144u /* of all partitions together: 6 MiB, and what has grown */

pst_err part_space_wait(struct part *p, struct waiter *w, uint64_t *since)
{
	struct store *st = p->store;
	bool freed = p->freed.count > p->freed.head;

	if (p->pinned)
		online_need_space(st);
	merge_hurry(st);
	if (*since == 0)
		*since = p->cp.done_count + 1;
	if (p->cp.done_count + 1 >= *since + 3)
		return PST_E_NOSPACE; /* two whole checkpoints have not helped */
	if (p->cp.err != PST_OK)
		return p->cp.err;
	if (freed && p->freed.items[p->freed.head].seq > p->durable_seq)
		st->flush_wanted = true;
	else if (p->inflight == 0 && !freed) {
		if (p->cp.state == CP_IDLE && p->dirty_count == 0 && p->node_freed.count == 0)
			return PST_E_NOSPACE;
		checkpoint_want(p, NULL);
	}
	pst_list_push_back(&p->space_waiters, &w->node);
	store_schedule(st);
	return PST_OK;
}

pst_err part_admit(struct part *p, bool reading, struct waiter *w)
{
	struct store *st = p->store;
	bool log_full = !journal_room(p), cache_full = st->cache.dirty > st->cache.capacity / 4;
	bool freed_full = !reading && st->freed_items > FREED_MAX;

	if (st->failed != PST_OK)
		return PST_E_IO;
	if (!checkpoint_blocks_writes(p) && !log_full && !cache_full && !freed_full)
		return PST_OK;
	if ((log_full || cache_full) && p->cp.err != PST_OK)
		return p->cp.err; /* checkpoints fail (a full file system below?): say so instead of waiting */
	if (cache_full)
		for (uint32_t i = 0; i < st->part_count; i++)
			if (st->parts[i].dirty_count > 0)
				checkpoint_want(&st->parts[i], NULL);
	if (log_full)
		checkpoint_want(p, NULL);
	if (freed_full)
		st->flush_wanted = true;
	pst_list_push_back(&p->space_waiters, &w->node);
	store_schedule(st);
	return PST_E_AGAIN;
}

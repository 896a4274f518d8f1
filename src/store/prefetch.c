/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Leaves of the map for large writes. A write needs its leaf before it can begin: what it overwrites is freed. Behind
 * megabytes of queued writes the read of a leaf takes milliseconds, in which a sequence of large writes has less under
 * way than it could. So each of them asks for a leaf some way ahead. A write that was not part of a sequence has then
 * cost one read of a block, beside its own 64 or more.
 */
#include "store/prefetch.h"

#define LARGE_BLOCKS 64u

static void prefetch_run(struct waiter *w)
{
	struct prefetch *f = pst_container_of(w, struct prefetch, wait);
	struct store *st = f->part->store;
	struct node *leaf;

	w->err = PST_OK;
	f->busy = !st->closing && st->failed == PST_OK && map_get(f->part, 0, f->leaf, false, w, &leaf) == MAP_WAIT;
}

void prefetch_init(struct part *p)
{
	for (unsigned i = 0; i < PREFETCHES; i++) {
		p->prefetches[i].part = p;
		p->prefetches[i].wait.run = prefetch_run;
		pst_list_init(&p->prefetches[i].wait.node);
	}
}

void prefetch_leaf(struct part *p, const struct svol *v, uint64_t local, uint64_t count)
{
	uint64_t ahead = local + (uint64_t)PREFETCHES * PST_NODE_FANOUT;
	uint64_t leaf = map_leaf_index(v->disk.slot, ahead);
	struct prefetch *f = &p->prefetches[leaf % PREFETCHES];

	if (count < LARGE_BLOCKS || f->busy || f->leaf == leaf ||
	    ahead >= part_local(p->store, p->index, v->disk.block_count))
		return;
	f->leaf = leaf;
	prefetch_run(&f->wait);
}

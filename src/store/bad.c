/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reports wait in a ring until the pool's turn looks up who else holds the block: the versions that hold it are a
 * connected part of the tree of versions (docs/versions.md), so the walk goes from the one that met it to parents and
 * children, and on only from those that hold it. It may have to wait for nodes of the map.
 *
 *   bad_found -> queue -> walk: for each block who holds it -> a range of blocks with the same holders -> events, known
 */
#include "store/bad.h"

#include <stdlib.h>
#include <string.h>

#define REPORTS_MAX 64u
#define HOLDERS_MAX 256u
#define KNOWN_MAX 4096u
#define BUCKETS 1024u
#define LINES_BURST 256u
#define LINES_PER_S 4u
#define SECOND_NS ((uint64_t)1000 * 1000 * 1000)

struct report {
	uint32_t part, slot, block, count;
	uint64_t local;
	pst_err err;
	bool by_scrub;
};

struct known {
	uint64_t local;
	uint32_t part, slot;
	uint32_t next; /* index + 1 */
};

struct bad {
	struct store *st;
	struct waiter wait;
	bool walking; /* wait is in use */
	struct report queue[REPORTS_MAX];
	uint32_t first, count;

	/* The walk of the first report: who holds block @at? Slots before @asked have answered. */
	uint32_t at, range_first;
	uint32_t slots[HOLDERS_MAX], slot_count, asked;
	bool holds[HOLDERS_MAX];
	uint32_t holders[HOLDERS_MAX], holder_count; /* of the block before */

	struct known known[KNOWN_MAX];
	uint32_t buckets[BUCKETS], free_known, known_used, known_count;

	uint64_t tokens_ns; /* lines cost SECOND_NS / LINES_PER_S each */
	uint64_t refilled_ns, untold;
};

uint64_t bad_volume_lba(const struct part *p, uint64_t local)
{
	return (local / PST_STRIPE_BLOCKS * p->store->part_count + p->index) * PST_STRIPE_BLOCKS +
	       local % PST_STRIPE_BLOCKS;
}

uint64_t bad_known(const struct store *st)
{
	return st->bad->known_count;
}

/* ---- What is known ---- */

static uint32_t *bucket(struct bad *b, uint32_t part, uint32_t slot, uint64_t local)
{
	uint64_t h = (local * PST_PARTITIONS_MAX + part) * 0x9e3779b97f4a7c15u + slot * 0xc2b2ae3d27d4eb4fu;

	return &b->buckets[(h >> 40) % BUCKETS];
}

static uint32_t *known_find(struct bad *b, uint32_t part, uint32_t slot, uint64_t local)
{
	uint32_t *at = bucket(b, part, slot, local);

	while (*at != 0) {
		struct known *k = &b->known[*at - 1];

		if (k->local == local && k->part == part && k->slot == slot)
			return at;
		at = &k->next;
	}
	return NULL;
}

/* When it is full, blocks are told again each time: the limit on lines holds then. */
static void known_add(struct bad *b, uint32_t part, uint32_t slot, uint64_t local)
{
	uint32_t index, *at = bucket(b, part, slot, local);

	if (known_find(b, part, slot, local) != NULL)
		return;
	if (b->free_known != 0) {
		index = b->free_known - 1;
		b->free_known = b->known[index].next;
	} else if (b->known_used < KNOWN_MAX) {
		index = b->known_used++;
	} else {
		return;
	}
	b->known[index] = (struct known){ .local = local, .part = part, .slot = slot, .next = *at };
	*at = index + 1;
	b->known_count++;
}

static void known_drop(struct bad *b, uint32_t *at)
{
	uint32_t index = *at - 1;

	*at = b->known[index].next;
	b->known[index].next = b->free_known;
	b->free_known = index + 1;
	b->known_count--;
}

/* ---- Telling ---- */

/* May a line be told now? If not, it counts as untold. */
static bool may_tell(struct bad *b)
{
	uint64_t now = pst_env_now_ns(b->st->pool.env), line_ns = SECOND_NS / LINES_PER_S;

	b->tokens_ns = PST_MIN(b->tokens_ns + (now - b->refilled_ns), LINES_BURST * line_ns);
	b->refilled_ns = now;
	if (b->tokens_ns < line_ns) {
		b->untold++;
		return false;
	}
	b->tokens_ns -= line_ns;
	if (b->untold > 0)
		store_event(b->st, PST_LOG_ERROR, "bad_blocks_untold lines=%llu: scrub the pool to have all of them",
			    (unsigned long long)b->untold);
	b->untold = 0;
	return true;
}

static const char *kind_of(const struct svol *v)
{
	if (v == NULL)
		return "gone";
	if ((v->disk.flags & PST_VOLUME_DELETING) != 0)
		return "deleted";
	return (v->disk.flags & PST_VOLUME_SNAPSHOT) != 0 ? "snapshot" : "volume";
}

static const char *uuid_of(const struct svol *v, char buf[37])
{
	return v != NULL ? store_uuid_text(v->disk.uuid, buf) : "none";
}

static void tell_range(struct bad *b, const struct report *r, uint32_t first, uint32_t count)
{
	struct store *st = b->st;
	unsigned long long lba = bad_volume_lba(&st->parts[r->part], r->local + first);
	struct svol *met = svol_by_slot(st, r->slot);
	char uuid[37], other[37];

	for (uint32_t i = 0; r->slot != PST_SLOT_CATALOG && i < b->holder_count; i++)
		for (uint32_t k = 0; k < count; k++)
			known_add(b, r->part, b->holders[i], r->local + first + k);
	if (r->slot == PST_SLOT_CATALOG) {
		if (may_tell(b))
			store_event(st, PST_LOG_ERROR,
				    "bad_block of=catalog partition=%u block=%u blocks=%u error=%s found_by=%s: it is "
				    "written again from memory",
				    r->part, r->block + first, count, pst_err_name(r->err),
				    r->by_scrub ? "scrub" : "read");
		return;
	}
	if (may_tell(b))
		store_event(st, PST_LOG_ERROR,
			    "bad_block %s=%s lba=%llu blocks=%u partition=%u block=%u error=%s found_by=%s: restore it "
			    "from a copy, or overwrite it",
			    kind_of(met), uuid_of(met, uuid), lba, count, r->part, r->block + first,
			    pst_err_name(r->err), r->by_scrub ? "scrub" : "read");
	for (uint32_t i = 0; i < b->holder_count; i++) {
		struct svol *v = svol_by_slot(st, b->holders[i]);

		if (v == NULL || v == met || (v->disk.flags & PST_VOLUME_DELETING) != 0 || !may_tell(b))
			continue;
		store_event(st, PST_LOG_ERROR,
			    "bad_block_shared %s=%s lba=%llu blocks=%u with=%s: it has the same block", kind_of(v),
			    uuid_of(v, uuid), lba, count, uuid_of(met, other));
	}
}

/* ---- The walk ---- */

static void visit(struct bad *b, uint32_t slot)
{
	if (slot == 0)
		return;
	for (uint32_t i = 0; i < b->slot_count; i++)
		if (b->slots[i] == slot)
			return;
	if (b->slot_count == HOLDERS_MAX)
		b->untold++;
	else
		b->slots[b->slot_count++] = slot;
}

static void visit_neighbours(struct bad *b, uint32_t slot)
{
	struct svol *v = svol_by_slot(b->st, slot);

	if (v != NULL)
		visit(b, v->disk.parent);
	PST_LIST_EACH(l, &b->st->volumes) {
		const struct svol *child = pst_container_of(l, struct svol, node);

		if (child->disk.parent == slot)
			visit(b, child->disk.slot);
	}
}

/* Does the version hold block @at of the report? False: it waits for a node. */
static bool ask(struct bad *b, const struct report *r, uint32_t i)
{
	struct node *leaf = NULL;
	uint64_t local = r->local + b->at;
	enum map_result got;

	b->holds[i] = b->slots[i] == r->slot;
	if (b->holds[i])
		return true;
	got = map_get(&b->st->parts[r->part], 0, map_leaf_index(b->slots[i], local), false, &b->wait, &leaf);
	if (got == MAP_WAIT)
		return false;
	b->wait.err = PST_OK;
	b->holds[i] = got == MAP_OK && pst_ptr_block(leaf->data->entry[local % PST_NODE_FANOUT]) == r->block + b->at;
	return true;
}

/* The holders of one block are known: they extend the range, or end it and begin another. */
static void answered(struct bad *b, const struct report *r)
{
	uint32_t n = 0;
	bool same = true;

	for (uint32_t i = 0; i < b->slot_count; i++) {
		if (!b->holds[i])
			continue;
		same = same && n < b->holder_count && b->holders[n] == b->slots[i];
		n++;
	}
	same = same && n == b->holder_count;
	if (!same && b->at > b->range_first) {
		tell_range(b, r, b->range_first, b->at - b->range_first);
		b->range_first = b->at;
	}
	n = 0;
	for (uint32_t i = 0; i < b->slot_count; i++)
		if (b->holds[i])
			b->holders[n++] = b->slots[i];
	b->holder_count = n;
}

/* False: it waits. */
static bool walk(struct bad *b, const struct report *r)
{
	for (; b->at < r->count; b->at++, b->slot_count = b->asked = 0) {
		if (b->slot_count == 0) {
			b->slots[b->slot_count++] = r->slot;
			b->asked = 0;
		}
		for (; b->asked < b->slot_count; b->asked++) {
			if (!ask(b, r, b->asked))
				return false;
			if (b->holds[b->asked] && r->slot != PST_SLOT_CATALOG)
				visit_neighbours(b, b->slots[b->asked]);
		}
		answered(b, r);
	}
	tell_range(b, r, b->range_first, b->at - b->range_first);
	return true;
}

static void walk_run(struct waiter *w)
{
	struct bad *b = pst_container_of(w, struct bad, wait);

	b->walking = true;
	while (b->count > 0 && !b->st->closing) {
		if (!walk(b, &b->queue[b->first]))
			return;
		b->first = (b->first + 1) % REPORTS_MAX;
		b->count--;
		b->at = b->range_first = b->slot_count = b->holder_count = 0;
	}
	b->walking = false;
}

/* ---- For the rest of the store ---- */

static bool is_queued(const struct bad *b, const struct part *p, uint32_t slot, uint64_t local)
{
	for (uint32_t i = 0; i < b->count; i++) {
		const struct report *r = &b->queue[(b->first + i) % REPORTS_MAX];

		if (r->part == p->index && r->slot == slot && local >= r->local && local < r->local + r->count)
			return true;
	}
	return false;
}

void bad_found(struct part *p, uint32_t slot, uint64_t local, uint32_t block, pst_err err, bool by_scrub)
{
	struct store *st = p->store;
	struct bad *b = st->bad;
	bool begun = b->at > 0 || b->slot_count > 0; /* the first one: it stays as it is */
	struct report *last = b->count > (begun ? 1 : 0) ? &b->queue[(b->first + b->count - 1) % REPORTS_MAX] : NULL;

	st->stats.checksum_errors += err == PST_E_CHECKSUM;
	if (known_find(b, p->index, slot, local) != NULL || is_queued(b, p, slot, local))
		return;
	if (slot == PST_SLOT_CATALOG) {
		catalog_changed(st);
		checkpoint_want(p, NULL);
	}
	if (last != NULL && last->part == p->index && last->slot == slot && last->err == err &&
	    last->by_scrub == by_scrub && last->local + last->count == local && last->block + last->count == block &&
	    local % PST_NODE_FANOUT != 0) {
		last->count++;
		return;
	}
	if (b->count == REPORTS_MAX) {
		b->untold++;
		return;
	}
	b->queue[(b->first + b->count++) % REPORTS_MAX] = (struct report){ .part = p->index,
									   .slot = slot,
									   .block = block,
									   .count = 1,
									   .local = local,
									   .err = err,
									   .by_scrub = by_scrub };
	if (!b->walking) {
		b->walking = true;
		store_wake(st, &b->wait);
	}
}

void bad_overwritten(struct part *p, uint32_t slot, uint64_t local, uint32_t count)
{
	struct bad *b = p->store->bad;
	char uuid[37];

	for (uint32_t i = 0; b->known_count > 0 && i < count; i++) {
		uint32_t *at = known_find(b, p->index, slot, local + i);

		if (at == NULL)
			continue;
		known_drop(b, at);
		if (may_tell(b))
			store_event(p->store, PST_LOG_INFO, "bad_block_healed volume=%s lba=%llu: it was overwritten",
				    uuid_of(svol_by_slot(p->store, slot), uuid),
				    (unsigned long long)bad_volume_lba(p, local + i));
	}
}

void bad_version_gone(struct store *st, uint32_t slot)
{
	struct bad *b = st->bad;

	for (uint32_t i = 0; b != NULL && b->known_count > 0 && i < BUCKETS; i++) {
		uint32_t *at = &b->buckets[i];

		while (*at != 0) {
			if (b->known[*at - 1].slot == slot)
				known_drop(b, at);
			else
				at = &b->known[*at - 1].next;
		}
	}
}

pst_err bad_init(struct store *st)
{
	struct bad *b = calloc(1, sizeof(*b));

	if (b == NULL)
		return PST_E_NOMEM;
	b->st = st;
	b->wait.run = walk_run;
	pst_list_init(&b->wait.node);
	b->tokens_ns = LINES_BURST * (SECOND_NS / LINES_PER_S);
	b->refilled_ns = pst_env_now_ns(st->pool.env);
	st->bad = b;
	return PST_OK;
}

void bad_free(struct store *st)
{
	free(st->bad);
	st->bad = NULL;
}

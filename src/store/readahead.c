/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Detection: a volume remembers where its last reads ended, for STREAMS sequences at once. A read that begins where one
 * of them ended goes on with it; after STREAK_MIN blocks in sequence, and as long as the volume has at most
 * INFLIGHT_MAX requests under way (a host that keeps more in flight does its own read-ahead, and a copy would only
 * cost), the windows after it are fetched, AHEAD of them.
 *
 * A window: EMPTY -> MAPPING (its leaf is looked up) -> READING -> READY -> EMPTY, when it has been read to its end,
 * its volume closes, or another stream needs it and nobody has come for it in IDLE_NS:
 * with more streams than windows, some read without help, and none fetches for nothing. While MAPPING or READING it
 * can't go at once: it is orphaned (no volume) and becomes EMPTY when it is done. An error makes it EMPTY: the request
 * itself will meet it and tell.
 *
 * A window never crosses a leaf of the map or a stripe. READING, it counts as a read (its blocks are not reused);
 * READY, it is memory, and each block is served only while the map still has the same block with the same checksum,
 * and no record that changes its LBA was applied: a block that was given out again is not taken for what it was.
 */
#include "store/readahead.h"

#include "store/fetch.h"
#include "volume/iov.h"

#include <stdlib.h>
#include <string.h>

#define WINDOW READAHEAD_WINDOW_BLOCKS
#define WINDOW_BYTES ((uint64_t)WINDOW * PST_BLOCK_BYTES)
#define STREAMS 4u
#define STREAK_MIN 32u
#define INFLIGHT_MAX 2u
#define WINDOWS_MAX 1024u
#define AHEAD 2u
#define IDLE_NS ((uint64_t)1000 * 1000 * 1000)

enum window_state { EMPTY, MAPPING, READING, READY };

struct window {
	struct store *store;
	struct svol *vol; /* NULL: orphan, or EMPTY */
	enum window_state state;
	uint64_t lba, local; /* of its first block */
	struct part *part;
	uint32_t slot, count;
	uint64_t begun_ns;
	struct pst_list node;    /* readahead.all, longest unused first */
	struct pst_list waiters; /* requests */
	struct waiter wait;      /* for the map */
	struct reading reading;
	struct fetch fetch;
	uint32_t blocks[WINDOW], crcs[WINDOW];
	bool stale[WINDOW]; /* has got other contents since it was looked up */
	uint8_t *data;
};

struct stream {
	uint64_t next;   /* where the next read of the sequence begins */
	uint64_t streak; /* blocks in sequence so far */
	uint64_t ahead;  /* up to here windows were begun */
	uint64_t used;   /* by order of use */
};

struct readahead {
	struct pst_list all;
	struct window *windows;
	uint32_t count;
	uint64_t served_blocks;
};

struct streams {
	struct stream streams[STREAMS];
	uint64_t clock;
	uint32_t windows; /* that belong to the volume */
};

/* ---- Windows ---- */

static void window_empty(struct window *w)
{
	if (w->vol != NULL)
		w->vol->streams->windows--;
	w->vol = NULL;
	w->state = EMPTY;
	pst_list_remove(&w->node);
	pst_list_push_front(&w->store->readahead->all, &w->node);
	store_wake_all(w->store, &w->waiters);
}

/* It is of no use any more. */
static void window_drop(struct window *w)
{
	if (w->state == READY) {
		window_empty(w);
	} else if (w->state != EMPTY && w->vol != NULL) {
		w->vol->streams->windows--;
		w->vol = NULL;
		store_wake_all(w->store, &w->waiters);
	}
}

static void fetched(struct fetch *f)
{
	struct window *w = pst_container_of(f, struct window, fetch);

	reading_end(&w->reading);
	store_schedule(w->store); /* blocks that waited for this read */
	w->state = READY;
	if (f->err != PST_OK || w->vol == NULL)
		window_empty(w);
	else
		store_wake_all(w->store, &w->waiters);
}

static void window_map(struct waiter *waiter)
{
	struct window *w = pst_container_of(waiter, struct window, wait);
	struct node *leaf = NULL;
	enum map_result got = MAP_ERROR;
	uint32_t n = 0;

	if (w->vol != NULL && !w->store->closing)
		got = map_get(w->part, 0, map_leaf_index(w->slot, w->local), false, waiter, &leaf);
	if (got == MAP_WAIT)
		return;
	waiter->err = PST_OK;
	for (; got == MAP_OK && n < w->count; n++) {
		struct pst_ptr ptr = leaf->data->entry[w->local % PST_NODE_FANOUT + n];

		if (ptr.block == 0 || pst_ptr_block(ptr) == PST_PTR_LOST)
			break;
		w->blocks[n] = pst_ptr_block(ptr);
		w->crcs[n] = ptr.crc;
	}
	w->count = n;
	if (n == 0) {
		w->state = READY;
		window_empty(w);
		return;
	}
	w->state = READING;
	reading_begin(w->store, &w->reading);
	fetch_begin(&w->fetch, w->part, w->blocks, w->crcs, n, w->data, fetched);
}

static struct window *window_at(const struct svol *v, uint64_t lba)
{
	PST_LIST_EACH(l, &v->store->readahead->all) {
		struct window *w = pst_container_of(l, struct window, node);

		if (w->vol == v && lba - w->lba < w->count)
			return w;
	}
	return NULL;
}

/* The longest unused one that can be had; NULL: all are in use. */
static struct window *window_take(struct readahead *ra, uint64_t now_ns)
{
	PST_LIST_EACH(l, &ra->all) {
		struct window *w = pst_container_of(l, struct window, node);

		if (w->state == EMPTY || (w->state == READY && now_ns - w->begun_ns > IDLE_NS)) {
			window_drop(w);
			if (w->data == NULL) /* at its first use, and then for as long as the pool is open */
				w->data = aligned_alloc(PST_BLOCK_BYTES, WINDOW_BYTES);
			return w->data != NULL ? w : NULL;
		}
	}
	return NULL;
}

/* Begins to fetch from @lba on; returns where the next window begins; @lba: there is none to be had. */
static uint64_t window_begin(struct svol *v, uint64_t lba)
{
	struct store *st = v->store;
	uint64_t now_ns = pst_env_now_ns(st->pool.env);
	struct window *w = window_take(st->readahead, now_ns);
	uint64_t stripe = lba / PST_STRIPE_BLOCKS, count = WINDOW - lba % WINDOW;

	if (w == NULL)
		return lba;
	w->local = stripe / st->part_count * PST_STRIPE_BLOCKS + lba % PST_STRIPE_BLOCKS;
	count = PST_MIN(count, PST_NODE_FANOUT - w->local % PST_NODE_FANOUT);
	w->count = (uint32_t)PST_MIN(count, v->disk.block_count - lba);
	w->vol = v;
	w->lba = lba;
	w->slot = v->disk.slot;
	w->part = &st->parts[stripe % st->part_count];
	w->state = MAPPING;
	w->begun_ns = now_ns;
	memset(w->stale, 0, sizeof(w->stale));
	w->wait.err = PST_OK;
	v->streams->windows++;
	pst_list_remove(&w->node);
	pst_list_push_back(&st->readahead->all, &w->node);
	lba += w->count;
	window_map(&w->wait);
	return lba;
}

/* ---- Streams ---- */

static struct stream *stream_of(struct streams *s, uint64_t lba)
{
	struct stream *oldest = &s->streams[0];

	s->clock++;
	for (unsigned i = 0; i < STREAMS; i++) {
		struct stream *stream = &s->streams[i];

		if (stream->next == lba && stream->streak > 0)
			return stream;
		if (stream->used < oldest->used)
			oldest = stream;
	}
	*oldest = (struct stream){ .next = lba };
	return oldest;
}

void readahead_note(struct svol *v, uint64_t lba, uint64_t count)
{
	struct stream *stream;

	if (v->store->readahead->count == 0)
		return;
	if (v->streams == NULL) /* once for an open volume; without memory it reads without help */
		v->streams = calloc(1, sizeof(*v->streams));
	if (v->streams == NULL)
		return;
	stream = stream_of(v->streams, lba);
	stream->used = v->streams->clock;
	stream->next = lba + count;
	stream->streak += count;
	if (stream->streak < STREAK_MIN || stream->streak == count || v->inflight > INFLIGHT_MAX)
		return;
	stream->ahead = PST_MAX(stream->ahead, stream->next);
	while (stream->ahead < stream->next + AHEAD * WINDOW && stream->ahead < v->disk.block_count) {
		uint64_t next = window_begin(v, stream->ahead);

		if (next == stream->ahead)
			break;
		stream->ahead = next;
	}
}

enum readahead_result readahead_serve(struct svol *v, uint64_t lba, const struct pst_ptr *entry, uint32_t max,
				      struct pst_io *io, uint64_t io_block, struct waiter *waiter, uint32_t *ret_count)
{
	struct window *w;
	uint32_t at, n = 0;

	if (v->streams == NULL || v->streams->windows == 0)
		return READAHEAD_NONE;
	w = window_at(v, lba);
	if (w == NULL)
		return READAHEAD_NONE;
	if (w->state != READY) {
		pst_list_push_back(&w->waiters, &waiter->node);
		return READAHEAD_WAIT;
	}
	at = (uint32_t)(lba - w->lba);
	while (n < max && at + n < w->count && !w->stale[at + n] && pst_ptr_block(entry[n]) == w->blocks[at + n] &&
	       entry[n].crc == w->crcs[at + n])
		n++;
	if (n == 0)
		return READAHEAD_NONE;
	pst_iov_copy_to(io->iov, io_block * PST_BLOCK_BYTES, w->data + (size_t)at * PST_BLOCK_BYTES,
			(size_t)n * PST_BLOCK_BYTES);
	*ret_count = n;
	v->store->readahead->served_blocks += n;
	if (at + n == w->count)
		window_drop(w); /* a sequence does not come back */
	return READAHEAD_SERVED;
}

void readahead_overwritten(struct svol *v, const struct part *p, uint64_t local, uint32_t count)
{
	if (v->streams == NULL || v->streams->windows == 0)
		return;
	PST_LIST_EACH(l, &v->store->readahead->all) {
		struct window *w = pst_container_of(l, struct window, node);

		if (w->vol != v || w->part != p || local >= w->local + w->count || w->local >= local + count)
			continue;
		for (uint64_t i = PST_MAX(local, w->local); i < PST_MIN(local + count, w->local + w->count); i++)
			w->stale[i - w->local] = true;
	}
}

void readahead_drop_volume(struct svol *v)
{
	if (v->streams == NULL)
		return;
	PST_LIST_EACH(l, &v->store->readahead->all) {
		struct window *w = pst_container_of(l, struct window, node);

		if (w->vol == v)
			window_drop(w);
	}
	free(v->streams);
	v->streams = NULL;
}

uint64_t readahead_served(const struct store *st)
{
	return st->readahead->served_blocks;
}

/* ---- The pool's life ---- */

pst_err readahead_init(struct store *st, uint64_t bytes)
{
	uint64_t wanted = bytes == PST_READAHEAD_NONE ? 0 : bytes;
	struct readahead *ra = calloc(1, sizeof(*ra));

	if (ra == NULL)
		return PST_E_NOMEM;
	st->readahead = ra;
	pst_list_init(&ra->all);
	ra->count = (uint32_t)PST_MIN(wanted / WINDOW_BYTES, WINDOWS_MAX);
	if (ra->count == 0)
		return PST_OK;
	ra->windows = calloc(ra->count, sizeof(ra->windows[0]));
	if (ra->windows == NULL)
		return PST_E_NOMEM;
	for (uint32_t i = 0; i < ra->count; i++) {
		struct window *w = &ra->windows[i];

		w->store = st;
		w->wait.run = window_map;
		pst_list_init(&w->wait.node);
		pst_list_init(&w->waiters);
		pst_list_init(&w->reading.node);
		pst_list_push_back(&ra->all, &w->node);
	}
	return PST_OK;
}

void readahead_free(struct store *st)
{
	struct readahead *ra = st->readahead;

	if (ra == NULL)
		return;
	PST_LIST_EACH(l, &st->volumes) {
		struct svol *v = pst_container_of(l, struct svol, node);

		free(v->streams);
		v->streams = NULL;
	}
	for (uint32_t i = 0; ra->windows != NULL && i < ra->count; i++)
		free(ra->windows[i].data);
	free(ra->windows);
	free(ra);
	st->readahead = NULL;
}

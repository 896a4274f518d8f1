/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Loader and accelerator share one thread and one clock. The loader keeps `depth` reads in flight as long as fewer than
 * batches_ahead + 1 batches of records are waiting. The accelerator is a time: it is busy until `busy_until`; when that
 * has passed and a batch is ready, it takes it. What lies between busy_until and the taking is idle time, which is what
 * an accelerator that waits for data would have lost.
 */
#include "bench/feed.h"

#include <stdlib.h>
#include <time.h>

struct feed_read {
	struct pst_source_read read;
	struct pst_feed *feed;
	uint32_t number;
	bool in_flight;
};

struct pst_feed {
	struct pst_source *source;
	struct pst_feed_config config;
	struct pst_prng order;
	struct feed_read reads[PST_FEED_DEPTH_MAX];
	uint32_t in_flight;
	uint32_t ready_records;
	uint64_t busy_until_ns;
	struct pst_feed_figures *figures; /* of the running stretch; NULL between stretches */
};

static uint64_t now_ns(struct pst_source *source)
{
	struct timespec t;

	if (source->now_ns != NULL)
		return source->now_ns(source);
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void read_done(struct pst_source_read *read)
{
	struct feed_read *r = pst_container_of(read, struct feed_read, read);
	struct pst_feed *f = r->feed;
	bool ok = read->err == PST_OK && pst_record_ok(&f->config.layout, r->number, read->iov.iov_base);

	r->in_flight = false;
	f->in_flight--;
	if (ok)
		f->ready_records++;
	if (f->figures == NULL)
		return;
	pst_hist_add(&f->figures->latency, read->latency_ns);
	if (ok) {
		f->figures->records++;
		f->figures->bytes += read->iov.iov_len;
	} else if (read->err != PST_OK) {
		f->figures->errors++;
	} else {
		f->figures->bad_records++;
	}
}

pst_err pst_feed_new(struct pst_source *source, const struct pst_feed_config *config, struct pst_feed **ret_feed)
{
	struct pst_feed *f;

	if (config->depth == 0 || config->depth > PST_FEED_DEPTH_MAX || config->batch_records == 0)
		return PST_E_INVAL;
	f = calloc(1, sizeof(*f));
	if (f == NULL)
		return PST_E_NOMEM;
	f->source = source;
	f->config = *config;
	pst_prng_init(&f->order, config->layout.seed);
	for (uint32_t i = 0; i < config->depth; i++) {
		size_t bytes = pst_record_stride(&config->layout);

		f->reads[i].feed = f;
		f->reads[i].read.done = read_done;
		f->reads[i].read.iov = (struct iovec){ aligned_alloc(4096, bytes), bytes };
		if (f->reads[i].read.iov.iov_base == NULL) {
			pst_feed_free(f);
			return PST_E_NOMEM;
		}
	}
	*ret_feed = f;
	return PST_OK;
}

static void load(struct pst_feed *f)
{
	uint32_t wanted = (f->config.batches_ahead + 1) * f->config.batch_records;

	for (uint32_t i = 0; i < f->config.depth && f->ready_records + f->in_flight < wanted; i++) {
		struct feed_read *r = &f->reads[i];

		if (r->in_flight)
			continue;
		r->number = (uint32_t)pst_prng_below(&f->order, f->config.layout.record_count);
		r->read.offset_bytes = r->number * pst_record_stride(&f->config.layout);
		r->in_flight = true;
		f->in_flight++;
		f->source->submit(f->source, &r->read);
	}
}

/* Idle time is counted up to @now also while it lasts, so that each stretch gets its share. */
static void accelerate(struct pst_feed *f, uint64_t now)
{
	while (now >= f->busy_until_ns) {
		f->figures->idle_ns += now - f->busy_until_ns;
		f->busy_until_ns = now;
		if (f->ready_records < f->config.batch_records)
			return;
		f->ready_records -= f->config.batch_records;
		f->figures->batches++;
		f->busy_until_ns = now + f->config.batch_ns;
		if (f->config.batch_ns == 0)
			return;
	}
}

void pst_feed_run(struct pst_feed *f, double seconds, struct pst_feed_figures *ret_figures)
{
	uint64_t begin = now_ns(f->source), end = begin + (uint64_t)(seconds * 1e9), now = begin;

	*ret_figures = (struct pst_feed_figures){ 0 };
	f->figures = ret_figures;
	if (f->busy_until_ns == 0)
		f->busy_until_ns = begin;
	while (now < end) {
		uint64_t wake = PST_MIN(end, f->busy_until_ns > now ? f->busy_until_ns : end);

		load(f);
		f->source->poll(f->source, (wake - now) / 1000);
		now = now_ns(f->source);
		accelerate(f, now);
	}
	ret_figures->elapsed_ns = now - begin;
	f->figures = NULL;
}

void pst_feed_free(struct pst_feed *f)
{
	if (f == NULL)
		return;
	while (f->in_flight > 0)
		f->source->poll(f->source, 100000);
	for (uint32_t i = 0; i < f->config.depth; i++)
		free(f->reads[i].read.iov.iov_base);
	free(f);
}

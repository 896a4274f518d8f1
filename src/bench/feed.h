/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A training job as storage sees it: records are read in a random order, verified, and gathered into batches for an
 * emulated accelerator, which takes a fixed time for each batch and idles when none is ready. One thread, no page
 * cache: a source reads with O_DIRECT or over NVMe/TCP.
 */
#ifndef PST_BENCH_FEED_H
#define PST_BENCH_FEED_H

#include "base/hist.h"
#include "base/prng.h"

#include <sys/uio.h>

#define PST_FEED_DEPTH_MAX 64u

/* One read in flight; embedded in the feed. */
struct pst_source_read {
	struct iovec iov;
	uint64_t offset_bytes;
	void (*done)(struct pst_source_read *read);
	pst_err err;
	uint64_t latency_ns;
	uint64_t scratch[48]; /* the source's request */
};

/* Where records come from. */
struct pst_source {
	void (*submit)(struct pst_source *source, struct pst_source_read *read);
	/* Runs completions; waits at most @timeout_us for the first. */
	void (*poll)(struct pst_source *source, uint64_t timeout_us);
	/* The clock that the accelerator lives by; NULL: CLOCK_MONOTONIC. Tests have one that only poll() moves. */
	uint64_t (*now_ns)(struct pst_source *source);
};

/* A file of the local disk, O_DIRECT. PST_E_UNSUPPORTED when its file system can't. */
pst_err PST_MUST_USE pst_source_open_file(const char *path, struct pst_source **ret_source);
void pst_source_close_file(struct pst_source *source);

/* A volume, through libpenstock. */
struct pst_source_volume_options {
	const char *host;
	uint16_t port;
	const char *nqn;
};

pst_err PST_MUST_USE pst_source_open_volume(const struct pst_source_volume_options *options,
					    struct pst_source **ret_source);
void pst_source_close_volume(struct pst_source *source);

/* Records: a header with the record's number and CRC32C, then bytes that follow from the number; padded to 4 KiB. */
struct pst_record_layout {
	uint32_t record_bytes;
	uint32_t record_count;
	uint64_t seed;
};

/* Bytes from one record to the next. */
uint64_t pst_record_stride(const struct pst_record_layout *layout);

/* Fills pst_record_stride() bytes. */
void pst_record_make(const struct pst_record_layout *layout, uint32_t number, void *buf);
bool pst_record_ok(const struct pst_record_layout *layout, uint32_t number, const void *buf);

struct pst_feed_config {
	struct pst_record_layout layout;
	uint32_t depth; /* reads in flight, at most PST_FEED_DEPTH_MAX */
	uint32_t batch_records;
	uint32_t batches_ahead; /* gathered and not yet taken, besides the one being gathered */
	uint64_t batch_ns;      /* the accelerator's time for one batch; 0: it takes what comes (to find the limit) */
};

/* What one stretch of time saw. */
struct pst_feed_figures {
	uint64_t records, bytes, bad_records, errors, batches;
	uint64_t elapsed_ns, idle_ns;
	struct pst_hist latency;
};

struct pst_feed;

pst_err PST_MUST_USE pst_feed_new(struct pst_source *source, const struct pst_feed_config *config,
				  struct pst_feed **ret_feed);

/* Runs for @seconds; figures are of this stretch alone. Reads stay in flight between stretches. */
void pst_feed_run(struct pst_feed *feed, double seconds, struct pst_feed_figures *ret_figures);

/* Waits for reads in flight. */
void pst_feed_free(struct pst_feed *feed);

#endif

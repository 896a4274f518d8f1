/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A checkpoint burst: 1 MiB writes at a fixed depth, sequential over a volume, with a flush after each checkpoint. Runs
 * until its standard input ends (so it never outlives its parent) and tells its rate as JSON lines on standard output:
 * {"t":SECONDS,"mb_s":RATE}, t on the monotonic clock.
 */
#ifndef PST_BENCH_BURST_H
#define PST_BENCH_BURST_H

#include "bench/feed.h"

struct pst_burst_config {
	struct pst_source_volume_options volume;
	uint64_t span_bytes;       /* of the volume that is written, over and over */
	uint64_t checkpoint_bytes; /* between flushes */
	uint32_t write_bytes, depth;
	uint32_t report_ms;
};

/* Returns when standard input has ended, or with the error that ended it. */
pst_err PST_MUST_USE pst_burst_run(const struct pst_burst_config *config);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Latency histogram with exact counts and bounded relative error: 16 linear sub-buckets per power of two (as in HDR
 * histograms), so a reported value is at most 1/16 above the true one. Values are nanoseconds, 0 to 2^64-1.
 * One histogram serves operators (/metrics), the bench and the reports. A histogram has one writer; readers on other
 * threads may see a count that is one update behind.
 */
#ifndef PST_BASE_HIST_H
#define PST_BASE_HIST_H

#include "base/base.h"

#define PST_HIST_SUB_BITS 4
#define PST_HIST_BUCKETS ((64 - PST_HIST_SUB_BITS + 1) << PST_HIST_SUB_BITS)

struct pst_hist {
	uint64_t count;
	uint64_t sum_ns;
	uint64_t max_ns;
	uint64_t bucket[PST_HIST_BUCKETS];
};

void pst_hist_add(struct pst_hist *h, uint64_t value_ns);
void pst_hist_merge(struct pst_hist *to, const struct pst_hist *from);

/* Remove an earlier state of the same histogram: what is left is what was added since. max_ns stays an upper bound. */
void pst_hist_subtract(struct pst_hist *from, const struct pst_hist *earlier);

/* Smallest bucket limit that at least @fraction (0 to 1) of all values do not exceed; 0 for an empty histogram. */
uint64_t pst_hist_percentile_ns(const struct pst_hist *h, double fraction);

/* Largest value that falls into bucket @index (below PST_HIST_BUCKETS). */
uint64_t pst_hist_bucket_limit_ns(unsigned index);

/* How many values were at most @limit_ns (to bucket accuracy). */
uint64_t pst_hist_count_le(const struct pst_hist *h, uint64_t limit_ns);

#endif

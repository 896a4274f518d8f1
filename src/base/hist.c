/* SPDX-License-Identifier: Apache-2.0 */
#include "base/hist.h"

#include <math.h>

/* Values below 2^SUB_BITS have a bucket each; above, the top SUB_BITS+1 bits choose it. */
static unsigned bucket_of(uint64_t v)
{
	if (v < (1u << PST_HIST_SUB_BITS))
		return (unsigned)v;

	unsigned top = 63u - (unsigned)__builtin_clzll(v);
	unsigned shift = top - PST_HIST_SUB_BITS;

	return ((shift + 1) << PST_HIST_SUB_BITS) + (unsigned)((v >> shift) & ((1u << PST_HIST_SUB_BITS) - 1));
}

uint64_t pst_hist_bucket_limit_ns(unsigned b)
{
	if (b < (1u << PST_HIST_SUB_BITS))
		return b;

	unsigned shift = (b >> PST_HIST_SUB_BITS) - 1;
	uint64_t base = (uint64_t)((1u << PST_HIST_SUB_BITS) + (b & ((1u << PST_HIST_SUB_BITS) - 1)));

	return (base << shift) + ((uint64_t)1 << shift) - 1;
}

void pst_hist_add(struct pst_hist *h, uint64_t value_ns)
{
	h->bucket[bucket_of(value_ns)]++;
	h->count++;
	h->sum_ns += value_ns;
	if (value_ns > h->max_ns)
		h->max_ns = value_ns;
}

void pst_hist_merge(struct pst_hist *to, const struct pst_hist *from)
{
	for (unsigned b = 0; b < PST_HIST_BUCKETS; b++)
		to->bucket[b] += from->bucket[b];
	to->count += from->count;
	to->sum_ns += from->sum_ns;
	to->max_ns = PST_MAX(to->max_ns, from->max_ns);
}

void pst_hist_subtract(struct pst_hist *from, const struct pst_hist *earlier)
{
	for (unsigned b = 0; b < PST_HIST_BUCKETS; b++) {
		pst_assert(from->bucket[b] >= earlier->bucket[b]);
		from->bucket[b] -= earlier->bucket[b];
	}
	from->count -= earlier->count;
	from->sum_ns -= earlier->sum_ns;
}

uint64_t pst_hist_percentile_ns(const struct pst_hist *h, double fraction)
{
	if (h->count == 0)
		return 0;

	uint64_t rank = (uint64_t)ceil(fraction * (double)h->count);
	uint64_t seen = 0;

	rank = PST_MAX(rank, 1);
	for (unsigned b = 0; b < PST_HIST_BUCKETS; b++) {
		seen += h->bucket[b];
		if (seen >= rank)
			return PST_MIN(pst_hist_bucket_limit_ns(b), h->max_ns);
	}
	return h->max_ns;
}

uint64_t pst_hist_count_le(const struct pst_hist *h, uint64_t limit_ns)
{
	uint64_t seen = 0;

	for (unsigned b = 0; b < PST_HIST_BUCKETS && pst_hist_bucket_limit_ns(b) <= limit_ns; b++)
		seen += h->bucket[b];
	return seen;
}

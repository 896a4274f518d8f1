/* SPDX-License-Identifier: Apache-2.0 */
/* The store's limits: one table has their names, defaults and ranges. */
#include "store/internal.h"

#define LIMIT(field, fallback, min, max) PST_LIMIT(struct pst_store_config, field, fallback, min, max)

static const struct pst_limit limits[] = {
	LIMIT(metadata_cache_bytes, 64u << 20, 1u << 18, (uint64_t)1 << 40),
	LIMIT(readahead_bytes, 16u << 20, 1, UINT64_MAX),
	LIMIT(unflushed_bytes_max, 1u << 30, PST_BLOCK_BYTES, (uint64_t)1 << 40),
	LIMIT(io_depth_max, 1024, 1, 65536),
	LIMIT(pause_s, 60, 1, 86400),
};

const struct pst_limit *pst_store_limits(size_t *ret_count)
{
	*ret_count = PST_ARRAY_COUNT(limits);
	return limits;
}

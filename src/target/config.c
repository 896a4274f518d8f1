/* SPDX-License-Identifier: Apache-2.0 */
/* The target's limits: one table has their names, defaults and ranges; what depends on others is in the check. */
#include "target/internal.h"

#include <stdio.h>

#define LIMIT(field, fallback, min, max) PST_LIMIT(struct pst_target_config, field, fallback, min, max)

static const struct pst_limit limits[] = {
	LIMIT(connections_max, 1024, 1, 1000000),
	LIMIT(connections_per_host_max, 768, 1, 1000000),
	LIMIT(half_open_max, 512, 1, 1000000),
	LIMIT(half_open_per_address_max, 256, 1, 1000000),
	LIMIT(accepts_per_s_max, 1000, 1, 1000000),
	LIMIT(auth_max, 256, 1, 1000000),
	LIMIT(auth_per_host_max, 64, 1, 1000000),
	LIMIT(io_queues_max, 16, 1, 65535),
	LIMIT(queue_entries_max, 128, 32, 8192),
	LIMIT(transfer_bytes_max, 1u << 20, 8192, PST_IO_BLOCKS_MAX *PST_BLOCK_BYTES),
	LIMIT(incapsule_bytes, 8192, PST_BLOCK_BYTES, PST_ADMIN_INCAPSULE_BYTES),
	LIMIT(buffer_bytes_max, 64u << 20, 32768, (uint64_t)1 << 40),
	LIMIT(registrants_max, 32, 1, PST_REGISTRANTS_MAX),
	LIMIT(connect_timeout_ms, 10000, 100, 3600000),
	LIMIT(auth_timeout_ms, 10000, 100, 3600000),
	LIMIT(stall_timeout_ms, 30000, 100, 3600000),
	LIMIT(data_timeout_ms, 60000, 100, 3600000),
	LIMIT(keep_alive_ms_default, 120000, 1000, 3600000),
	LIMIT(tls_handshake_timeout_ms, 5000, 100, 3600000),
	LIMIT(tls_handshake_bytes_max, 16384, 1024, 1u << 20),
	LIMIT(tls_buffer_bytes, 65536, PST_TLS_BUFFER_BYTES_MIN, 1u << 20),
	LIMIT(tls_rekey_records, 1u << 24, 1, 1u << 24),
};

const struct pst_limit *pst_target_limits(size_t *ret_count)
{
	*ret_count = PST_ARRAY_COUNT(limits);
	return limits;
}

pst_err pst_target_config_complete(struct pst_target_config *config, char why[PST_LIMIT_WHY_BYTES])
{
	if (pst_limit_complete(limits, PST_ARRAY_COUNT(limits), config, why) != PST_OK)
		return PST_E_INVAL;
	if (!pst_is_pow2(config->transfer_bytes_max))
		snprintf(why, PST_LIMIT_WHY_BYTES, "transfer_bytes_max is a power of two");
	else if (config->incapsule_bytes % PST_BLOCK_BYTES != 0)
		snprintf(why, PST_LIMIT_WHY_BYTES, "incapsule_bytes is a multiple of %u", PST_BLOCK_BYTES);
	else if (config->buffer_bytes_max / 4 < config->transfer_bytes_max)
		snprintf(why, PST_LIMIT_WHY_BYTES, "buffer_bytes_max is at least 4 times transfer_bytes_max");
	else
		return PST_OK;
	return PST_E_INVAL;
}

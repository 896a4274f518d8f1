/* SPDX-License-Identifier: Apache-2.0 */
#include "control/rest-guard.h"

#include <netinet/in.h>
#include <string.h>

#define WINDOW_NS 60000000000u
#define V6_PREFIX_BYTES 8u /* /64 */

static void key_of(const struct sockaddr *address, uint8_t key[16])
{
	memset(key, 0, 16);
	if (address->sa_family == AF_INET) {
		const struct sockaddr_in *v4 = (const struct sockaddr_in *)(const void *)address;

		key[10] = key[11] = 0xff; /* as IPv6 maps them */
		memcpy(key + 12, &v4->sin_addr, 4);
	} else if (address->sa_family == AF_INET6) {
		const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)(const void *)address;

		memcpy(key, &v6->sin6_addr, V6_PREFIX_BYTES);
	}
}

uint32_t pst_rest_guard_failed(struct pst_rest_guard *guard, const struct sockaddr *address, uint64_t now_ns)
{
	struct pst_rest_guard_entry *e = &guard->entries[0];
	uint8_t key[16];

	key_of(address, key);
	for (unsigned i = 0; i < PST_REST_GUARD_ADDRESSES; i++) {
		struct pst_rest_guard_entry *at = &guard->entries[i];

		if (at->last_ns != 0 && memcmp(at->address, key, sizeof(key)) == 0) {
			e = at;
			break;
		}
		if (at->last_ns < e->last_ns)
			e = at;
	}
	if (memcmp(e->address, key, sizeof(key)) != 0 || e->last_ns == 0 || now_ns - e->since_ns >= WINDOW_NS) {
		memcpy(e->address, key, sizeof(key));
		e->since_ns = now_ns;
		e->failures = 0;
	}
	e->last_ns = now_ns;
	e->failures += e->failures < UINT32_MAX;
	return e->failures;
}

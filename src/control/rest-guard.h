/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How often each address failed to show a valid token, minute by minute. Of IPv6 a /64 counts as one address: that is
 * what one customer has. A bounded table: where it is full, the address that failed longest ago makes room. Pure; the
 * caller keeps threads apart.
 */
#ifndef PST_CONTROL_REST_GUARD_H
#define PST_CONTROL_REST_GUARD_H

#include "base/base.h"

#include <sys/socket.h>

#define PST_REST_GUARD_ADDRESSES 256u

struct pst_rest_guard {
	struct pst_rest_guard_entry {
		uint8_t address[16];
		uint64_t since_ns, last_ns; /* 0: unused */
		uint32_t failures;          /* since then */
	} entries[PST_REST_GUARD_ADDRESSES];
};

/* Counts a failure at @now_ns (monotonic, not 0). Returns how many there were within a minute, with this one. */
uint32_t pst_rest_guard_failed(struct pst_rest_guard *guard, const struct sockaddr *address, uint64_t now_ns);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzz target: any messages to either role of DH-HMAC-CHAP, and any text as a key. The first byte chooses role, proof
 * wanted, group; a message is a length (one byte, in units of 4) and bytes. Whoever does not know the key is never
 * taken for genuine, each message moves the transaction on or ends it, and what is sent has the length that was
 * announced.
 */
#include "proto/auth.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len_bytes);

static void key(const uint8_t *data, size_t len_bytes)
{
	char text[PST_AUTH_KEY_TEXT_MAX];
	struct pst_auth_key parsed;
	const char *why = NULL;

	if (pst_auth_key_parse((const char *)data, len_bytes, &parsed, &why) != PST_OK) {
		pst_assert(why != NULL);
		return;
	}
	pst_auth_key_format(&parsed, text);
	pst_assert(strlen(text) == len_bytes && memcmp(text, data, len_bytes) == 0);
}

static void start(struct pst_auth *auth, uint8_t how)
{
	struct pst_auth_key host_key = { .hash = 1, .len_bytes = 32, .bytes = "nobody knows this" };
	struct pst_auth_config config = {
		.controller = (how & 1) != 0,
		.hostnqn = "nqn.2026-01.example:host",
		.subnqn = "nqn.2026-01.example:subsystem",
		.host_key = &host_key,
		.ctrl_key = (how & 2) != 0 ? &host_key : NULL,
		.groups = (how & 4) != 0 ? 1u << PST_AUTH_FFDHE2048 : 1u << PST_AUTH_NULL_GROUP,
	};
	struct pst_auth_random random = { .challenge = { 5 }, .exponent = { 6 }, .seqnum = 7, .t_id = 0x2020 };

	pst_assert(pst_auth_init(auth, &config, &random) == PST_OK);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len_bytes)
{
	uint8_t message[PST_AUTH_MESSAGE_MAX + 1];
	struct pst_auth auth;
	uint8_t how = len_bytes > 0 ? data[0] : 0;
	size_t at = 1;
	unsigned steps = 0;

	key(data, len_bytes);
	start(&auth, how);
	while (pst_auth_step(&auth) < PST_AUTH_DONE) {
		pst_assert(++steps < 10);
		if (pst_auth_step(&auth) == PST_AUTH_SEND) {
			uint32_t bytes = pst_auth_send_bytes(&auth);

			message[bytes] = 0xa5;
			pst_auth_send(&auth, message);
			pst_assert(message[bytes] == 0xa5);
			continue;
		}
		if (at >= len_bytes) {
			pst_auth_receive(&auth, data, 0);
		} else {
			size_t bytes = PST_MIN(4 * (size_t)data[at], len_bytes - at - 1);

			pst_auth_receive(&auth, data + at + 1, bytes);
			at += 1 + bytes;
		}
	}
	/* Only a host that wants no proof is content without one. */
	pst_assert(pst_auth_step(&auth) == PST_AUTH_FAILED || (how & 3) == 0);
	pst_auth_done(&auth);
	return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Keys of DH-HMAC-CHAP (NVM Express Base 2.0, 8.13.5.8) in the form that people handle: DHHC-1:HH:BASE64:, where HH
 * says by which hash function the key is transformed before use (00: as it is; 01 SHA-256, 02 SHA-384, 03 SHA-512) and
 * the base64 is of the key and its CRC-32, little-endian. Pure; any thread. Who holds a key or its text wipes it.
 */
#ifndef PST_PROTO_AUTH_KEY_H
#define PST_PROTO_AUTH_KEY_H

#include "base/base.h"

#define PST_AUTH_KEY_MAX 64u       /* bytes of a key: 32, 48 or 64 */
#define PST_AUTH_KEY_TEXT_MAX 104u /* of its text, with the terminating zero */

struct pst_auth_key {
	uint8_t hash; /* enum pst_auth_hash, or 0: used as it is */
	uint8_t len_bytes;
	uint8_t bytes[PST_AUTH_KEY_MAX];
};

/*
 * @text of @text_len characters, without white space around it. PST_E_INVAL: *ret_why (static) completes "the key ...";
 * nothing of the text is in it.
 */
pst_err PST_MUST_USE pst_auth_key_parse(const char *text, size_t text_len, struct pst_auth_key *ret_key,
					const char **ret_why);

/* The text of a sound key. Returns @text. */
char *pst_auth_key_format(const struct pst_auth_key *key, char text[PST_AUTH_KEY_TEXT_MAX]);

/* Is the length one that the transformation @hash allows? 0 allows 32, 48 and 64; the others that of their hash. */
bool pst_auth_key_ok(uint8_t hash, size_t len_bytes);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Keys as people handle them: PREFIX HH : BASE64 :, where HH names a hash function and the base64 is of the key and its
 * CRC-32, little-endian. What NVMe calls secrets (DHHC-1, auth-key.h) and pre-shared keys (NVMeTLSkey-1, tls-key.h)
 * differ in prefix, hash functions and lengths. Pure; any thread. Who holds a key or its text wipes it.
 */
#ifndef PST_PROTO_KEY_TEXT_H
#define PST_PROTO_KEY_TEXT_H

#include "base/base.h"

#define PST_KEY_TEXT_BYTES_MAX 64u /* of a key, whatever its kind */

struct pst_key_form {
	const char *prefix; /* with its colon */
	bool (*ok)(uint8_t hash, size_t len_bytes);
	uint8_t hash_max;
	const char *bad_prefix, *bad_hash, *bad_length; /* static; each completes "the key ..." */
};

/*
 * @text of @text_len characters, without white space around it. PST_E_INVAL: *ret_why (static) completes "the key ...";
 * nothing of the text is in it.
 */
pst_err PST_MUST_USE pst_key_text_parse(const struct pst_key_form *form, const char *text, size_t text_len,
					uint8_t *ret_hash, uint8_t ret_key[PST_KEY_TEXT_BYTES_MAX], uint8_t *ret_len,
					const char **ret_why);

/* The text of a sound key into @text, which has room for it: prefix, 3, 4 for each 3 bytes of key and CRC, 2. */
char *pst_key_text_format(const struct pst_key_form *form, uint8_t hash, const uint8_t *key, uint8_t len_bytes,
			  char *text);

/* Base64 of @len bytes, padded, with a zero at the end: @text has room for 4 characters for each 3 bytes, and that. */
void pst_base64_encode(const uint8_t *bytes, size_t len, char *text);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/auth-key.h"

#include "proto/key-text.h"

bool pst_auth_key_ok(uint8_t hash, size_t len_bytes)
{
	if (hash == 0)
		return len_bytes == 32 || len_bytes == 48 || len_bytes == 64;
	return hash <= 3 && len_bytes == 16u + 16u * hash;
}

static const struct pst_key_form form = {
	.prefix = "DHHC-1:",
	.ok = pst_auth_key_ok,
	.hash_max = 3,
	.bad_prefix = "does not begin with DHHC-1:HH: (see nvme gen-dhchap-key)",
	.bad_hash = "names a transformation that is none of 00, 01, 02, 03",
	.bad_length = "has not the length that its transformation asks for (00: 32, 48 or 64 bytes; 01: 32; 02: 48; "
		      "03: 64)",
};

pst_err pst_auth_key_parse(const char *text, size_t text_len, struct pst_auth_key *ret_key, const char **ret_why)
{
	_Static_assert(sizeof(ret_key->bytes) == PST_KEY_TEXT_BYTES_MAX, "room for any");
	return pst_key_text_parse(&form, text, text_len, &ret_key->hash, ret_key->bytes, &ret_key->len_bytes, ret_why);
}

char *pst_auth_key_format(const struct pst_auth_key *key, char text[PST_AUTH_KEY_TEXT_MAX])
{
	return pst_key_text_format(&form, key->hash, key->bytes, key->len_bytes, text);
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Text of a key and back. The decoder is strict, so that every key has one text: no white space, no missing padding, no
 * bits set in what the padding leaves over. Failure modes: a text that is no key, one whose CRC does not fit (a typing
 * error), a length that does not belong to its transformation.
 */
#include "proto/auth-key.h"

#include "base/crc32.h"
#include "base/le.h"

#include <openssl/crypto.h>
#include <string.h>

#define PREFIX "DHHC-1:"
#define PREFIX_CHARS 7u
#define HEAD_CHARS 10u /* DHHC-1:HH: */
#define CRC_BYTES 4u

static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

bool pst_auth_key_ok(uint8_t hash, size_t len_bytes)
{
	if (hash == 0)
		return len_bytes == 32 || len_bytes == 48 || len_bytes == 64;
	return hash <= 3 && len_bytes == 16u + 16u * hash;
}

static bool digit_value(char c, uint32_t *ret_value)
{
	const char *at = c != '\0' ? strchr(digits, c) : NULL;

	if (at == NULL)
		return false;
	*ret_value = (uint32_t)(at - digits);
	return true;
}

/* The length of what @chars characters of base64 hold, into @bytes of room for @max; false: they are no base64. */
static bool base64_decode(const char *text, size_t chars, uint8_t *bytes, size_t max, size_t *ret_len)
{
	size_t padding, len = 0;

	if (chars == 0 || chars % 4 != 0 || chars / 4 * 3 > max)
		return false;
	padding = text[chars - 1] != '=' ? 0 : text[chars - 2] != '=' ? 1 : 2;
	for (size_t at = 0; at < chars; at += 4) {
		size_t missing = at + 4 == chars ? padding : 0;
		uint32_t bits = 0, value;

		for (size_t i = 0; i < 4; i++) {
			if (i >= 4 - missing)
				value = 0;
			else if (!digit_value(text[at + i], &value))
				return false;
			bits = bits << 6 | value;
		}
		if ((bits & ((1u << 8 * missing) - 1)) != 0)
			return false;
		for (size_t i = 0; i < 3 - missing; i++)
			bytes[len++] = (uint8_t)(bits >> (16 - 8 * i));
	}
	*ret_len = len;
	return true;
}

static pst_err parse(const char *text, size_t text_len, uint8_t raw[PST_AUTH_KEY_MAX + 8], struct pst_auth_key *ret_key,
		     const char **ret_why)
{
	size_t len;

	if (text_len < HEAD_CHARS || memcmp(text, PREFIX, PREFIX_CHARS) != 0 || text[HEAD_CHARS - 1] != ':') {
		*ret_why = "does not begin with DHHC-1:HH: (see nvme gen-dhchap-key)";
		return PST_E_INVAL;
	}
	if (text[PREFIX_CHARS] != '0' || text[PREFIX_CHARS + 1] < '0' || text[PREFIX_CHARS + 1] > '3') {
		*ret_why = "names a transformation that is none of 00, 01, 02, 03";
		return PST_E_INVAL;
	}
	if (text[text_len - 1] != ':' || text_len == HEAD_CHARS) {
		*ret_why = "does not end with a colon: is it cut off?";
		return PST_E_INVAL;
	}
	if (!base64_decode(text + HEAD_CHARS, text_len - HEAD_CHARS - 1, raw, PST_AUTH_KEY_MAX + 8, &len)) {
		*ret_why = "is not 32, 48 or 64 bytes and a checksum in base64";
		return PST_E_INVAL;
	}
	if (len < CRC_BYTES || !pst_auth_key_ok((uint8_t)(text[PREFIX_CHARS + 1] - '0'), len - CRC_BYTES)) {
		*ret_why =
		    "has not the length that its transformation asks for (00: 32, 48 or 64 bytes; 01: 32; 02: 48; "
		    "03: 64)";
		return PST_E_INVAL;
	}
	len -= CRC_BYTES;
	if (pst_crc32(raw, len) != pst_get_le32(raw + len)) {
		*ret_why = "has a wrong checksum: was it mistyped?";
		return PST_E_INVAL;
	}
	*ret_key = (struct pst_auth_key){ .hash = (uint8_t)(text[PREFIX_CHARS + 1] - '0'), .len_bytes = (uint8_t)len };
	memcpy(ret_key->bytes, raw, len);
	return PST_OK;
}

pst_err pst_auth_key_parse(const char *text, size_t text_len, struct pst_auth_key *ret_key, const char **ret_why)
{
	uint8_t raw[PST_AUTH_KEY_MAX + 8];
	pst_err err = parse(text, text_len, raw, ret_key, ret_why);

	OPENSSL_cleanse(raw, sizeof(raw));
	return err;
}

char *pst_auth_key_format(const struct pst_auth_key *key, char text[PST_AUTH_KEY_TEXT_MAX])
{
	uint8_t raw[PST_AUTH_KEY_MAX + 8] = { 0 };
	size_t len = key->len_bytes + CRC_BYTES, at = HEAD_CHARS;

	pst_assert(pst_auth_key_ok(key->hash, key->len_bytes));
	memcpy(raw, key->bytes, key->len_bytes);
	pst_put_le32(raw + key->len_bytes, pst_crc32(key->bytes, key->len_bytes));
	memcpy(text, PREFIX "0?:", HEAD_CHARS);
	text[PREFIX_CHARS + 1] = (char)('0' + key->hash);
	for (size_t i = 0; i < len; i += 3) {
		uint32_t bits = (uint32_t)raw[i] << 16 | (uint32_t)raw[i + 1] << 8 | raw[i + 2];

		text[at++] = digits[bits >> 18];
		text[at++] = digits[bits >> 12 & 63];
		text[at++] = i + 1 < len ? digits[bits >> 6 & 63] : '=';
		text[at++] = i + 2 < len ? digits[bits & 63] : '=';
	}
	text[at++] = ':';
	text[at++] = '\0';
	pst_assert(at <= PST_AUTH_KEY_TEXT_MAX);
	OPENSSL_cleanse(raw, sizeof(raw));
	return text;
}

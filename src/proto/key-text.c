/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Text of a key and back. The decoder is strict, so that every key has one text: no white space, no missing padding, no
 * bits set in what the padding leaves over. Failure modes: a text that is no key, one whose CRC does not fit (a typing
 * error), a length that does not belong to its hash function.
 */
#include "proto/key-text.h"

#include "base/crc32.h"
#include "base/le.h"

#include <openssl/crypto.h>
#include <string.h>

#define CRC_BYTES 4u
#define RAW_MAX (PST_KEY_TEXT_BYTES_MAX + 8u)

static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

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

void pst_base64_encode(const uint8_t *bytes, size_t len, char *text)
{
	size_t at = 0;

	for (size_t i = 0; i < len; i += 3) {
		uint32_t bits = (uint32_t)bytes[i] << 16;

		bits |= i + 1 < len ? (uint32_t)bytes[i + 1] << 8 : 0;
		bits |= i + 2 < len ? bytes[i + 2] : 0;
		text[at++] = digits[bits >> 18];
		text[at++] = digits[bits >> 12 & 63];
		text[at++] = i + 1 < len ? digits[bits >> 6 & 63] : '=';
		text[at++] = i + 2 < len ? digits[bits & 63] : '=';
	}
	text[at] = '\0';
}

static const char *parse(const struct pst_key_form *form, const char *text, size_t text_len, uint8_t raw[RAW_MAX],
			 uint8_t *ret_hash, size_t *ret_len)
{
	size_t prefix = strlen(form->prefix), head = prefix + 3, len; /* HH: */
	uint8_t hash;

	if (text_len < head || memcmp(text, form->prefix, prefix) != 0 || text[head - 1] != ':')
		return form->bad_prefix;
	if (text[prefix] != '0' || text[prefix + 1] < '0' || text[prefix + 1] > '0' + form->hash_max)
		return form->bad_hash;
	if (text[text_len - 1] != ':' || text_len == head)
		return "does not end with a colon: is it cut off?";
	hash = (uint8_t)(text[prefix + 1] - '0');
	if (!base64_decode(text + head, text_len - head - 1, raw, RAW_MAX, &len))
		return "is not bytes of a key and a checksum in base64";
	if (len < CRC_BYTES || !form->ok(hash, len - CRC_BYTES))
		return form->bad_length;
	len -= CRC_BYTES;
	if (pst_crc32(raw, len) != pst_get_le32(raw + len))
		return "has a wrong checksum: was it mistyped?";
	*ret_hash = hash;
	*ret_len = len;
	return NULL;
}

pst_err pst_key_text_parse(const struct pst_key_form *form, const char *text, size_t text_len, uint8_t *ret_hash,
			   uint8_t ret_key[PST_KEY_TEXT_BYTES_MAX], uint8_t *ret_len, const char **ret_why)
{
	uint8_t raw[RAW_MAX];
	size_t len = 0;
	const char *why = parse(form, text, text_len, raw, ret_hash, &len);

	if (why == NULL) {
		memcpy(ret_key, raw, len);
		*ret_len = (uint8_t)len;
	} else {
		*ret_why = why;
	}
	OPENSSL_cleanse(raw, sizeof(raw));
	return why == NULL ? PST_OK : PST_E_INVAL;
}

char *pst_key_text_format(const struct pst_key_form *form, uint8_t hash, const uint8_t *key, uint8_t len_bytes,
			  char *text)
{
	uint8_t raw[RAW_MAX] = { 0 };
	size_t at = strlen(form->prefix);

	pst_assert(form->ok(hash, len_bytes) && hash <= form->hash_max);
	memcpy(raw, key, len_bytes);
	pst_put_le32(raw + len_bytes, pst_crc32(key, len_bytes));
	memcpy(text, form->prefix, at);
	text[at++] = '0';
	text[at++] = (char)('0' + hash);
	text[at++] = ':';
	pst_base64_encode(raw, len_bytes + CRC_BYTES, text + at);
	at += strlen(text + at);
	text[at++] = ':';
	text[at] = '\0';
	OPENSSL_cleanse(raw, sizeof(raw));
	return text;
}

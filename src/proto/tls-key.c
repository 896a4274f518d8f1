/* SPDX-License-Identifier: Apache-2.0 */
/*
 * HKDF (RFC 5869) needs one block of HMAC here, since no key is longer than its hash: then Expand is HMAC(PRK, info ||
 * 01h), where info is the HkdfLabel of RFC 8446, 7.1. Salts are all zeros. tests/unit/tls-vectors.py computes the same
 * from the specifications alone.
 */
#include "proto/tls-key.h"

#include "proto/cursor.h"
#include "proto/key-text.h"

#include <openssl/crypto.h>
#include <openssl/hmac.h>
#include <string.h>

#define HASH_MAX 48u
#define CONTEXT_MAX 255u
#define KIND_CHARS 8u /* NVMe1R01 */

/* ---- Texts ---- */

bool pst_tls_key_ok(uint8_t hash, size_t len_bytes)
{
	return hash <= 2 && ((len_bytes == 32 && hash != 2) || (len_bytes == 48 && hash != 1));
}

static const struct pst_key_form form = {
	.prefix = "NVMeTLSkey-1:",
	.ok = pst_tls_key_ok,
	.hash_max = 2,
	.bad_prefix = "does not begin with NVMeTLSkey-1:HH: (see nvme gen-tls-key)",
	.bad_hash = "names a hash function that is none of 00, 01, 02",
	.bad_length = "has not the length that its hash function asks for (00: 32 or 48 bytes; 01: 32; 02: 48)",
};

/* TCP 1.0, 3.6.1.5 */
pst_err pst_tls_key_parse(const char *text, size_t text_len, struct pst_auth_key *ret_key, const char **ret_why)
{
	return pst_key_text_parse(&form, text, text_len, &ret_key->hash, ret_key->bytes, &ret_key->len_bytes, ret_why);
}

char *pst_tls_key_format(const struct pst_auth_key *key, char text[PST_TLS_KEY_TEXT_MAX])
{
	return pst_key_text_format(&form, key->hash, key->bytes, key->len_bytes, text);
}

/* The next word of printable ASCII, up to a blank or the end; false: none, or too long. */
static bool take_word(const char **at, const char *end, size_t max, char *ret_word)
{
	size_t len = 0;

	while (*at + len < end && (*at)[len] > ' ' && (*at)[len] <= '~')
		len++;
	if (len == 0 || len > max)
		return false;
	memcpy(ret_word, *at, len);
	ret_word[len] = '\0';
	*at += len;
	return true;
}

static bool take_blank(const char **at, const char *end)
{
	return *at < end && *(*at)++ == ' ';
}

static size_t digest_chars(uint8_t hash)
{
	return hash == PST_TLS_SHA384 ? 64 : 44;
}

/* TCP 1.0, 3.6.1.3; version 1, with the digest: TP8018. */
bool pst_tls_identity_parse(const char *text, size_t text_len, struct pst_tls_identity *ret_identity)
{
	const char *at = text + KIND_CHARS, *end = text + text_len;
	struct pst_tls_identity id = { 0 };

	if (text_len < KIND_CHARS || memcmp(text, "NVMe", 4) != 0 || (text[4] != '0' && text[4] != '1') ||
	    text[5] != 'R' || text[6] != '0' || (text[7] != '1' && text[7] != '2'))
		return false;
	id.version = (uint8_t)(text[4] - '0');
	id.hash = (uint8_t)(text[7] - '0');
	if (!take_blank(&at, end) || !take_word(&at, end, PST_TLS_NQN_MAX, id.hostnqn) || !take_blank(&at, end) ||
	    !take_word(&at, end, PST_TLS_NQN_MAX, id.subnqn))
		return false;
	if (id.version == 1 && (!take_blank(&at, end) || !take_word(&at, end, PST_TLS_DIGEST_MAX, id.digest) ||
				strlen(id.digest) != digest_chars(id.hash)))
		return false;
	if (at != end)
		return false;
	*ret_identity = id;
	return true;
}

static char *put(char *at, const char *text)
{
	size_t len = strlen(text);

	memcpy(at, text, len);
	return at + len;
}

size_t pst_tls_identity_format(const struct pst_tls_identity *id, char text[PST_TLS_IDENTITY_MAX + 1])
{
	char *at = put(text, "NVMe0R01 ");

	text[4] = (char)('0' + id->version);
	text[7] = (char)('0' + id->hash);
	at = put(put(put(at, id->hostnqn), " "), id->subnqn);
	if (id->version == 1)
		at = put(put(at, " "), id->digest);
	*at = '\0';
	return (size_t)(at - text);
}

/* A vector: its length in @width bytes, big-endian, then so many bytes. */
static bool take_vector(struct pst_bytes *from, unsigned width, struct pst_bytes *ret_vector)
{
	const uint8_t *number = pst_bytes_take(from, width);
	size_t len = 0;

	if (number == NULL)
		return false;
	for (unsigned i = 0; i < width; i++)
		len = len << 8 | number[i];
	ret_vector->left = len;
	ret_vector->at = pst_bytes_take(from, len);
	return ret_vector->at != NULL;
}

unsigned pst_tls_offers_parse(const uint8_t *extension, size_t bytes, struct pst_tls_identity *ret_offers, unsigned max)
{
	struct pst_bytes all = { extension, bytes }, list, one;
	unsigned count = 0;

	if (!take_vector(&all, 2, &list))
		return 0;
	while (count < max && take_vector(&list, 2, &one) && pst_bytes_take(&list, 4) != NULL)
		count += pst_tls_identity_parse((const char *)one.at, one.left, &ret_offers[count]);
	return count;
}

/* ---- Derivation ---- */

static const EVP_MD *md_of(uint8_t hash)
{
	return hash == PST_TLS_SHA384 ? EVP_sha384() : EVP_sha256();
}

static uint8_t bytes_of(uint8_t hash)
{
	return hash == PST_TLS_SHA384 ? 48 : 32;
}

/* HKDF-Expand-Label(HKDF-Extract(0, @key), @label, @context, length of the hash). */
static bool derive(uint8_t hash, const uint8_t *key, size_t key_bytes, const char *label, const char *context,
		   uint8_t ret[HASH_MAX])
{
	static const uint8_t salt[HASH_MAX];
	uint8_t prk[HASH_MAX], info[4 + 32 + CONTEXT_MAX + 1];
	size_t label_bytes = strlen("tls13 ") + strlen(label), context_bytes = strlen(context);
	char *at = (char *)info;
	bool ok;

	pst_assert(context_bytes <= CONTEXT_MAX && label_bytes <= 32);
	*at++ = 0;
	*at++ = (char)bytes_of(hash);
	*at++ = (char)label_bytes;
	at = put(put(at, "tls13 "), label);
	*at++ = (char)context_bytes;
	at = put(at, context);
	*at++ = 1; /* the only block */
	ok = HMAC(md_of(hash), salt, bytes_of(hash), key, key_bytes, prk, NULL) != NULL &&
	     HMAC(md_of(hash), prk, bytes_of(hash), info, (size_t)(at - (char *)info), ret, NULL) != NULL;
	OPENSSL_cleanse(prk, sizeof(prk));
	return ok;
}

/* The retained PSK is as long as the configured one, which is as long as its hash, if there is one. */
static bool retain(const struct pst_auth_key *key, const char *hostnqn, uint8_t ret[HASH_MAX])
{
	if (key->hash == 0) {
		memcpy(ret, key->bytes, key->len_bytes);
		return true;
	}
	return derive(key->hash, key->bytes, key->len_bytes, "HostNQN", hostnqn, ret);
}

/* HMAC(retained PSK, "HOSTNQN SUBNQN NVMe-over-Fabrics") in base64. */
static bool make_digest(const uint8_t *retained, size_t retained_bytes, const struct pst_tls_identity *id,
			char ret[PST_TLS_DIGEST_MAX + 1])
{
	char text[2 * PST_TLS_NQN_MAX + 20], *at;
	uint8_t digest[HASH_MAX];

	at = put(put(put(put(text, id->hostnqn), " "), id->subnqn), " NVMe-over-Fabrics");
	if (HMAC(md_of(id->hash), retained, (int)retained_bytes, (uint8_t *)text, (size_t)(at - text), digest, NULL) ==
	    NULL)
		return false;
	pst_base64_encode(digest, bytes_of(id->hash), ret);
	return true;
}

static pst_err make_psk(const uint8_t *retained, size_t retained_bytes, const struct pst_tls_identity *id,
			struct pst_tls_psk *ret_psk)
{
	char context[PST_TLS_IDENTITY_MAX + 1] = "01 ";

	if (id->version == 0) {
		if (pst_tls_identity_format(id, context) > CONTEXT_MAX)
			return PST_E_INVAL;
	} else {
		context[1] = (char)('0' + id->hash);
		*put(context + 3, id->digest) = '\0';
	}
	ret_psk->hash = id->hash;
	ret_psk->len_bytes = bytes_of(id->hash);
	return derive(id->hash, retained, retained_bytes, "nvme-tls-psk", context, ret_psk->bytes) ? PST_OK
												   : PST_E_NOMEM;
}

pst_err pst_tls_psk_derive(const struct pst_auth_key *key, const struct pst_tls_identity *id,
			   struct pst_tls_psk *ret_psk)
{
	uint8_t retained[HASH_MAX];
	char digest[PST_TLS_DIGEST_MAX + 1] = "";
	pst_err err = PST_OK;

	pst_assert(pst_tls_key_ok(key->hash, key->len_bytes));
	if (!retain(key, id->hostnqn, retained) ||
	    (id->version == 1 && !make_digest(retained, key->len_bytes, id, digest)))
		err = PST_E_NOMEM;
	else if (CRYPTO_memcmp(digest, id->digest, strlen(digest)) != 0)
		err = PST_E_KEY;
	else
		err = make_psk(retained, key->len_bytes, id, ret_psk);
	OPENSSL_cleanse(retained, sizeof(retained));
	return err;
}

pst_err pst_tls_psk_make(const struct pst_auth_key *key, const char *hostnqn, const char *subnqn,
			 struct pst_tls_identity *ret_identity, struct pst_tls_psk *ret_psk)
{
	struct pst_tls_identity id = { .version = 1, .hash = key->len_bytes == 48 ? PST_TLS_SHA384 : PST_TLS_SHA256 };
	uint8_t retained[HASH_MAX];
	pst_err err = PST_E_NOMEM;

	if (strlen(hostnqn) > PST_TLS_NQN_MAX || strlen(subnqn) > PST_TLS_NQN_MAX)
		return PST_E_INVAL;
	*put(id.hostnqn, hostnqn) = *put(id.subnqn, subnqn) = '\0';
	if (retain(key, hostnqn, retained) && make_digest(retained, key->len_bytes, &id, id.digest))
		err = make_psk(retained, key->len_bytes, &id, ret_psk);
	OPENSSL_cleanse(retained, sizeof(retained));
	if (err == PST_OK)
		*ret_identity = id;
	return err;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libcrypto's key generation would take its randomness from the system. Here it comes from the caller, so that core
 * code stays free of system calls and the simulator can replay: the private exponent is cut from the caller's bytes,
 * and the public value is "derived" with the generator 2 as the peer's value, which is g^x mod p.
 *
 * Exponents have the lengths of RFC 7919, appendix A, rounded up to bytes: twice the strength of the group. More would
 * cost time (it is linear in them) and add nothing. libcrypto computes with them in constant time.
 */
#include "proto/auth-crypto.h"

#include "base/le.h"

#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/dh.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <string.h>

#define NQN_MAX 223u
#define TRANSFORM_LABEL "NVMe-over-Fabrics"

static const struct hash {
	const char *name;
	uint32_t bytes;
	const EVP_MD *(*md)(void);
} hashes[] = {
	[PST_AUTH_SHA256] = { "sha256", 32, EVP_sha256 },
	[PST_AUTH_SHA384] = { "sha384", 48, EVP_sha384 },
	[PST_AUTH_SHA512] = { "sha512", 64, EVP_sha512 },
};

static const struct group {
	const char *name;
	uint32_t bytes, exponent_bytes;
} groups[] = {
	[PST_AUTH_NULL_GROUP] = { "null", 0, 0 },        [PST_AUTH_FFDHE2048] = { "ffdhe2048", 256, 29 },
	[PST_AUTH_FFDHE3072] = { "ffdhe3072", 384, 35 }, [PST_AUTH_FFDHE4096] = { "ffdhe4096", 512, 41 },
	[PST_AUTH_FFDHE6144] = { "ffdhe6144", 768, 47 }, [PST_AUTH_FFDHE8192] = { "ffdhe8192", 1024, 50 },
};

const char *pst_auth_hash_name(uint8_t id)
{
	return id < PST_ARRAY_COUNT(hashes) ? hashes[id].name : NULL;
}

const char *pst_auth_group_name(uint8_t id)
{
	return id < PST_ARRAY_COUNT(groups) ? groups[id].name : NULL;
}

bool pst_auth_hash_find(const char *name, uint8_t *ret_id)
{
	for (uint8_t id = PST_AUTH_SHA256; id < PST_ARRAY_COUNT(hashes); id++)
		if (strcmp(hashes[id].name, name) == 0) {
			*ret_id = id;
			return true;
		}
	return false;
}

bool pst_auth_group_find(const char *name, uint8_t *ret_id)
{
	for (uint8_t id = 0; id < PST_ARRAY_COUNT(groups); id++)
		if (strcmp(groups[id].name, name) == 0) {
			*ret_id = id;
			return true;
		}
	return false;
}

uint32_t pst_auth_hash_bytes(uint8_t id)
{
	return id < PST_ARRAY_COUNT(hashes) ? hashes[id].bytes : 0;
}

uint32_t pst_auth_dh_bytes(uint8_t id)
{
	return id < PST_ARRAY_COUNT(groups) ? groups[id].bytes : 0;
}

/* ---- Groups ---- */

static void reverse(uint8_t *to, const uint8_t *from, size_t len)
{
	for (size_t i = 0; i < len; i++)
		to[i] = from[len - 1 - i];
}

/* A key of the group: parameters alone, a private exponent, or a public value (big-endian). NULL: no memory. */
static EVP_PKEY *group_key(const struct group *group, const uint8_t *exponent, const uint8_t *value)
{
	uint8_t number[PST_AUTH_DH_MAX]; /* parameters are in the machine's order */
	EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(NULL, "DH", NULL);
	EVP_PKEY *key = NULL;
	OSSL_PARAM params[3];
	int selection = EVP_PKEY_KEY_PARAMETERS;

	_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "numbers are given to libcrypto byte-reversed");
	params[0] = OSSL_PARAM_construct_utf8_string(OSSL_PKEY_PARAM_GROUP_NAME, (char *)(uintptr_t)group->name, 0);
	params[1] = params[2] = OSSL_PARAM_construct_end();
	if (exponent != NULL) {
		memcpy(number, exponent, group->exponent_bytes);
		params[1] = OSSL_PARAM_construct_BN(OSSL_PKEY_PARAM_PRIV_KEY, number, group->exponent_bytes);
		selection = EVP_PKEY_KEYPAIR;
	} else if (value != NULL) {
		reverse(number, value, group->bytes);
		params[1] = OSSL_PARAM_construct_BN(OSSL_PKEY_PARAM_PUB_KEY, number, group->bytes);
		selection = EVP_PKEY_PUBLIC_KEY;
	}
	if (ctx == NULL || EVP_PKEY_fromdata_init(ctx) != 1 || EVP_PKEY_fromdata(ctx, &key, selection, params) != 1)
		key = NULL;
	EVP_PKEY_CTX_free(ctx);
	OPENSSL_cleanse(number, sizeof(number));
	return key;
}

/*
 * The exponent in bytes of the caller, lowest first; its top bit is set, so that it has the length that its group asks
 * for, and never is 0.
 */
static void exponent_make(const struct group *group, const uint8_t random[PST_AUTH_EXPONENT_MAX],
			  uint8_t ret[PST_AUTH_EXPONENT_MAX])
{
	memcpy(ret, random, group->exponent_bytes);
	ret[group->exponent_bytes - 1] |= 0x80;
}

/* value^x mod p, with its leading zeros. The value has been checked, or is the generator. */
static bool power(const struct group *group, const uint8_t random[PST_AUTH_EXPONENT_MAX], const uint8_t *value,
		  uint8_t ret[PST_AUTH_DH_MAX])
{
	uint8_t exponent[PST_AUTH_EXPONENT_MAX];
	EVP_PKEY *mine, *theirs = group_key(group, NULL, value);
	EVP_PKEY_CTX *ctx = NULL;
	size_t len = PST_AUTH_DH_MAX;
	bool ok = false;

	exponent_make(group, random, exponent);
	mine = group_key(group, exponent, NULL);
	OPENSSL_cleanse(exponent, sizeof(exponent));
	if (mine != NULL && theirs != NULL)
		ctx = EVP_PKEY_CTX_new_from_pkey(NULL, mine, NULL);
	if (ctx != NULL && EVP_PKEY_derive_init(ctx) == 1 && EVP_PKEY_CTX_set_dh_pad(ctx, 1) == 1 &&
	    EVP_PKEY_derive_set_peer_ex(ctx, theirs, 0) == 1 && EVP_PKEY_derive(ctx, ret, &len) == 1)
		ok = len == group->bytes;
	EVP_PKEY_CTX_free(ctx);
	EVP_PKEY_free(mine);
	EVP_PKEY_free(theirs);
	return ok;
}

bool pst_auth_dh_public(uint8_t group, const uint8_t random[PST_AUTH_EXPONENT_MAX], uint8_t ret_value[PST_AUTH_DH_MAX])
{
	uint8_t generator[PST_AUTH_DH_MAX] = { 0 };

	pst_assert(pst_auth_dh_bytes(group) > 0);
	generator[groups[group].bytes - 1] = 2; /* RFC 7919: of all five */
	return power(&groups[group], random, generator, ret_value);
}

bool pst_auth_dh_check(uint8_t group, const uint8_t *value, bool *ret_sound)
{
	uint8_t reversed[PST_AUTH_DH_MAX], prime[PST_AUTH_DH_MAX];
	uint32_t bytes = pst_auth_dh_bytes(group), zeros = 0;
	OSSL_PARAM params[2];
	EVP_PKEY *key;
	bool ok;

	pst_assert(bytes > 0);
	params[0] = OSSL_PARAM_construct_BN(OSSL_PKEY_PARAM_FFC_P, reversed, bytes);
	params[1] = OSSL_PARAM_construct_end();
	key = group_key(&groups[group], NULL, NULL);
	ok = key != NULL && EVP_PKEY_get_params(key, params) == 1;
	EVP_PKEY_free(key);
	if (!ok)
		return false;
	reverse(prime, reversed, bytes);
	prime[bytes - 1] &= 0xfe; /* p - 1: p is odd */
	while (zeros < bytes && value[zeros] == 0)
		zeros++;
	*ret_sound = zeros < bytes && !(zeros == bytes - 1 && value[zeros] == 1) && memcmp(value, prime, bytes) < 0;
	return true;
}

bool pst_auth_dh_session_key(uint8_t group, uint8_t hash, const uint8_t random[PST_AUTH_EXPONENT_MAX],
			     const uint8_t *value, uint8_t ret_key[PST_AUTH_HASH_MAX])
{
	uint8_t secret[PST_AUTH_DH_MAX];
	bool ok = power(&groups[group], random, value, secret) &&
		  EVP_Digest(secret, groups[group].bytes, ret_key, NULL, hashes[hash].md(), NULL) == 1;

	OPENSSL_cleanse(secret, sizeof(secret));
	return ok;
}

/* ---- Values ---- */

static bool hmac(uint8_t hash, const uint8_t *key, size_t key_bytes, const void *data, size_t bytes, uint8_t *ret)
{
	return HMAC(hashes[hash].md(), key, (int)key_bytes, data, bytes, ret, NULL) != NULL;
}

bool pst_auth_augment(uint8_t hash, const uint8_t *session_key, const uint8_t *challenge,
		      uint8_t ret[PST_AUTH_HASH_MAX])
{
	return hmac(hash, session_key, hashes[hash].bytes, challenge, hashes[hash].bytes, ret);
}

bool pst_auth_key_transform(const struct pst_auth_key *key, const char *nqn, struct pst_auth_key *ret_key)
{
	uint8_t text[NQN_MAX + sizeof(TRANSFORM_LABEL)];
	size_t len = strlen(nqn);

	pst_assert(len <= NQN_MAX);
	*ret_key = *key;
	if (key->hash == 0)
		return true;
	memcpy(text, nqn, len);
	memcpy(text + len, TRANSFORM_LABEL, sizeof(TRANSFORM_LABEL) - 1);
	return hmac(key->hash, key->bytes, key->len_bytes, text, len + sizeof(TRANSFORM_LABEL) - 1, ret_key->bytes);
}

static uint8_t *put(uint8_t *at, const void *data, size_t bytes)
{
	memcpy(at, data, bytes);
	return at + bytes;
}

bool pst_auth_respond(const struct pst_auth_response *r, uint8_t ret[PST_AUTH_HASH_MAX])
{
	uint8_t text[PST_AUTH_HASH_MAX + 4 + 2 + 1 + 16 + NQN_MAX + 1 + NQN_MAX], *at = text;

	pst_assert(strlen(r->label) <= 16 && strlen(r->first_nqn) <= NQN_MAX && strlen(r->second_nqn) <= NQN_MAX);
	at = put(at, r->challenge, hashes[r->hash].bytes);
	pst_put_le32(at, r->seqnum);
	pst_put_le16(at + 4, r->t_id);
	at[6] = 0; /* SC_C: no secure channel is made of this */
	at = put(at + 7, r->label, strlen(r->label));
	at = put(at, r->first_nqn, strlen(r->first_nqn) + 1);
	at = put(at, r->second_nqn, strlen(r->second_nqn));
	return hmac(r->hash, r->key->bytes, r->key->len_bytes, text, (size_t)(at - text), ret);
}

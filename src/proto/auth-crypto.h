/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The arithmetic of DH-HMAC-CHAP (NVM Express Base 2.0, 8.13.5): hash functions, the ffdhe groups of RFC 7919, and the
 * values made of them; by OpenSSL, which does no I/O for this. Pure; any thread. false or an error: libcrypto has no
 * memory. Results that are secret are the caller's to wipe.
 */
#ifndef PST_PROTO_AUTH_CRYPTO_H
#define PST_PROTO_AUTH_CRYPTO_H

#include "base/base.h"
#include "proto/auth-key.h"

enum pst_auth_hash { PST_AUTH_SHA256 = 1, PST_AUTH_SHA384 = 2, PST_AUTH_SHA512 = 3 };

enum pst_auth_group {
	PST_AUTH_NULL_GROUP = 0,
	PST_AUTH_FFDHE2048 = 1,
	PST_AUTH_FFDHE3072 = 2,
	PST_AUTH_FFDHE4096 = 3,
	PST_AUTH_FFDHE6144 = 4,
	PST_AUTH_FFDHE8192 = 5,
};

#define PST_AUTH_HASHES 0x0eu /* bit per identifier */
#define PST_AUTH_GROUPS 0x3fu
#define PST_AUTH_HASH_MAX 64u     /* bytes */
#define PST_AUTH_DH_MAX 1024u     /* bytes of a DH value */
#define PST_AUTH_EXPONENT_MAX 64u /* bytes of randomness for a private exponent; what is needed is taken */

/* "sha256", "null", "ffdhe2048": static; NULL: no such identifier. And back; false: no such name. */
const char *pst_auth_hash_name(uint8_t id);
const char *pst_auth_group_name(uint8_t id);
bool pst_auth_hash_find(const char *name, uint8_t *ret_id);
bool pst_auth_group_find(const char *name, uint8_t *ret_id);

uint32_t pst_auth_hash_bytes(uint8_t id); /* 0: no such identifier */
uint32_t pst_auth_dh_bytes(uint8_t id);   /* of a DH value; 0: the NULL group, or no such identifier */

/* The public value g^x mod p of the private exponent that @random gives. */
bool PST_MUST_USE pst_auth_dh_public(uint8_t group, const uint8_t random[PST_AUTH_EXPONENT_MAX],
				     uint8_t ret_value[PST_AUTH_DH_MAX]);

/*
 * Is @value (pst_auth_dh_bytes long) between 2 and p - 2? The others give a shared secret that everybody knows. Since
 * p is a safe prime there is no other small subgroup to look for.
 */
bool PST_MUST_USE pst_auth_dh_check(uint8_t group, const uint8_t *value, bool *ret_sound);

/* The session key: hash of the shared secret value^x mod p, which has the length of p, leading zeros included. */
bool PST_MUST_USE pst_auth_dh_session_key(uint8_t group, uint8_t hash, const uint8_t random[PST_AUTH_EXPONENT_MAX],
					  const uint8_t *value, uint8_t ret_key[PST_AUTH_HASH_MAX]);

/* Ca = HMAC(session key, C). */
bool PST_MUST_USE pst_auth_augment(uint8_t hash, const uint8_t *session_key, const uint8_t *challenge,
				   uint8_t ret[PST_AUTH_HASH_MAX]);

/* K' of @key for who is named @nqn (Base 2.0, 8.13.5.7): HMAC(K, NQN || "NVMe-over-Fabrics"), or K where hash is 0. */
bool PST_MUST_USE pst_auth_key_transform(const struct pst_auth_key *key, const char *nqn, struct pst_auth_key *ret_key);

/* What a response is made of: HMAC(K', Ca || S || T_ID || SC_C || label || first NQN || 00h || second NQN). */
struct pst_auth_response {
	uint8_t hash;
	const struct pst_auth_key *key; /* transformed */
	const uint8_t *challenge;       /* augmented, if there is a DH group */
	uint32_t seqnum;
	uint16_t t_id;
	const char *label; /* "HostHost" or "Controller" */
	const char *first_nqn, *second_nqn;
};

bool PST_MUST_USE pst_auth_respond(const struct pst_auth_response *r, uint8_t ret[PST_AUTH_HASH_MAX]);

#endif

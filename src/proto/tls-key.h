/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pre-shared keys of NVMe/TCP over TLS 1.3 (TCP 1.0, 3.6.1.3 and 3.6.1.5; TP8018 for identities of version 1): the
 * configured PSK in the form that people handle, NVMeTLSkey-1:HH:BASE64:, the identities by which a host names what it
 * uses, and what TLS gets in the end. Three keys, each derived from the one before:
 *
 *   configured PSK   32 or 48 bytes; HH says by which hash function it is bound to a host (01 SHA-256, 02 SHA-384; 00:
 *                    by none)
 *   retained PSK     HKDF-Expand-Label(HKDF-Extract(0, configured), "HostNQN", host's NQN)
 *   TLS PSK          HKDF-Expand-Label(HKDF-Extract(0, retained), "nvme-tls-psk", context), by the hash function of the
 *                    cipher suite; the context is the identity (version 0), or its hash and digest (version 1)
 *
 * Pure; any thread. Keys are the caller's to wipe.
 */
#ifndef PST_PROTO_TLS_KEY_H
#define PST_PROTO_TLS_KEY_H

#include "proto/auth-key.h"

#define PST_TLS_KEY_TEXT_MAX 90u /* of a configured PSK's text, with the terminating zero */
#define PST_TLS_NQN_MAX 223u
#define PST_TLS_DIGEST_MAX 64u    /* characters of a digest in an identity */
#define PST_TLS_IDENTITY_MAX 521u /* characters of an identity: NVMe1R02, both names, the digest, 3 blanks */

/* Text of a configured PSK and back, as pst_auth_key_parse and pst_auth_key_format. */
pst_err PST_MUST_USE pst_tls_key_parse(const char *text, size_t text_len, struct pst_auth_key *ret_key,
				       const char **ret_why);
char *pst_tls_key_format(const struct pst_auth_key *key, char text[PST_TLS_KEY_TEXT_MAX]);

/* Is the length one that @hash allows? 0: 32 and 48; 1: 32; 2: 48. */
bool pst_tls_key_ok(uint8_t hash, size_t len_bytes);

/* The hash function of a cipher suite, and so of a TLS PSK. The numbers are those of the identity. */
enum pst_tls_hash {
	PST_TLS_SHA256 = 1, /* TLS_AES_128_GCM_SHA256 */
	PST_TLS_SHA384 = 2, /* TLS_AES_256_GCM_SHA384 */
};

/* What a host says of the key that it uses: "NVMe1R01 HOSTNQN SUBNQN DIGEST"; without the digest in version 0. */
struct pst_tls_identity {
	uint8_t version; /* 0 or 1 */
	uint8_t hash;    /* enum pst_tls_hash */
	char hostnqn[PST_TLS_NQN_MAX + 1];
	char subnqn[PST_TLS_NQN_MAX + 1];
	char digest[PST_TLS_DIGEST_MAX + 1]; /* "" in version 0 */
};

/* False: @text is no identity of a retained PSK. Generated PSKs (secure channel concatenation) are not supported. */
bool PST_MUST_USE pst_tls_identity_parse(const char *text, size_t text_len, struct pst_tls_identity *ret_identity);

/* Its text, with a zero at the end; returns the length. */
size_t pst_tls_identity_format(const struct pst_tls_identity *identity, char text[PST_TLS_IDENTITY_MAX + 1]);

/*
 * The identities in the extension pre_shared_key of a ClientHello (RFC 8446, 4.2.11), up to @max of those that are
 * NVMe's; returns how many. What is malformed ends the list: libssl judges it.
 */
unsigned pst_tls_offers_parse(const uint8_t *extension, size_t bytes, struct pst_tls_identity *ret_offers,
			      unsigned max);

/* What TLS works with. */
struct pst_tls_psk {
	uint8_t hash; /* enum pst_tls_hash */
	uint8_t len_bytes;
	uint8_t bytes[48];
};

/*
 * For a host: the identity (version 1) that goes with @key, and the PSK. The hash function is SHA-384 for keys of 48
 * bytes, else SHA-256. PST_E_INVAL: a name is too long; PST_E_NOMEM: libcrypto has no memory.
 */
pst_err PST_MUST_USE pst_tls_psk_make(const struct pst_auth_key *key, const char *hostnqn, const char *subnqn,
				      struct pst_tls_identity *ret_identity, struct pst_tls_psk *ret_psk);

/*
 * For a target: the PSK that belongs to an identity which a host offers. PST_E_KEY: its digest was not made with @key;
 * PST_E_INVAL: of version 0, with names that are too long for the derivation (255 characters in all).
 */
pst_err PST_MUST_USE pst_tls_psk_derive(const struct pst_auth_key *key, const struct pst_tls_identity *identity,
					struct pst_tls_psk *ret_psk);

#endif

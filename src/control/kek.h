/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Key-encryption keys (KEKs): what volume keys are wrapped with, so that only wrapped keys lie in pools. An ops table,
 * so that a key management service can stand behind it: calls are asynchronous, complete on the home shard and never
 * inside the call. Here are also the key slots' bytes (docs/encryption.md): pure functions.
 *
 * Unwrapped keys are always in secret memory (env.h), and the caller's.
 */
#ifndef PST_CONTROL_KEK_H
#define PST_CONTROL_KEK_H

#include "env/env.h"

#define PST_KEK_ID_MAX 64u        /* bytes, of [A-Za-z0-9._-] */
#define PST_KEK_SECRET_MAX 128u   /* bytes that can be wrapped */
#define PST_KEK_WRAPPED_MAX 1024u /* bytes that may come out */

struct pst_kek;

enum pst_kek_op_kind {
	PST_KEK_WRAP,   /* secret -> wrapped, id (the current one). PST_E_NOTFOUND: there is no current KEK */
	PST_KEK_UNWRAP, /* wrapped, id -> secret. PST_E_NOTFOUND: no such KEK; PST_E_KEY: it does not fit */
	PST_KEK_RELOAD, /* look again which KEKs there are */
};

struct pst_kek_op {
	enum pst_kek_op_kind kind;
	char id[PST_KEK_ID_MAX + 1];
	uint8_t *secret; /* PST_KEK_SECRET_MAX bytes of secret memory, the caller's */
	uint32_t secret_bytes;
	uint8_t wrapped[PST_KEK_WRAPPED_MAX];
	uint32_t wrapped_bytes;
	void (*done)(struct pst_kek_op *op);
	pst_err err;
	char detail[300]; /* on error: what is wrong, and what to do */
	struct pst_post post;
};

struct pst_kek_status {
	char source[200];                 /* "file:/etc/penstock/kek" */
	char current[PST_KEK_ID_MAX + 1]; /* new keys are wrapped with; "": none */
	uint32_t keys;                    /* known */
	char problem[300];                /* of the last reload; "": none */
};

struct pst_kek_ops {
	void (*submit)(struct pst_kek *kek, struct pst_kek_op *op);
	void (*status)(struct pst_kek *kek, struct pst_kek_status *ret_status); /* synchronous, from memory */
	void (*free)(struct pst_kek *kek);
};

struct pst_kek {
	const struct pst_kek_ops *ops;
	struct pst_env *env;
};

/*
 * @path: a file with one key, or a directory with one file for each, named by id; a key is 32 bytes, as they are, in
 * hexadecimal, or in base64. @current: id of the key to wrap with; NULL: the one whose name comes last in byte order. A
 * key is found by its name and by its fingerprint; a single file's id is its fingerprint. What can't be loaded is told
 * by status, not by an error: it may come yet. Reads files in the call and in PST_KEK_RELOAD.
 */
pst_err PST_MUST_USE pst_kek_file_new(struct pst_env *env, const char *path, const char *current,
				      struct pst_kek **ret_kek);

bool pst_kek_id_ok(const char *id);

/* ---- Key slots: what a pool keeps for a family of volumes ---- */

#define PST_KEY_SLOT_MAX 2048u

enum pst_key_wrap { PST_KEY_WRAP_AES_KWP = 1 }; /* AES-256 key wrap with padding (RFC 5649) of key and family */
enum pst_key_cipher { PST_KEY_CIPHER_AES_256_XTS = 1 };

struct pst_key_slot {
	uint8_t family[16];  /* uuid of the volume that the family began with */
	uint64_t wrapped_ns; /* wall clock */
	char kek_id[PST_KEK_ID_MAX + 1];
	uint8_t wrapped[PST_KEK_WRAPPED_MAX];
	uint32_t wrapped_bytes;
};

/* Returns the length, at most PST_KEY_SLOT_MAX. */
uint32_t pst_key_slot_encode(const struct pst_key_slot *slot, uint8_t buf[PST_KEY_SLOT_MAX]);

/* PST_E_CHECKSUM, PST_E_FORMAT (not a slot, or one of a newer Penstock). */
pst_err PST_MUST_USE pst_key_slot_decode(const uint8_t *buf, uint32_t bytes, struct pst_key_slot *ret_slot);

#endif

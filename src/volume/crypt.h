/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The encrypting layer: stands above another volume, which sees ciphertext only. AES-256-XTS (IEEE 1619) with OpenSSL;
 * a data unit is one block of 4096 bytes, its tweak the block's LBA in the volume as 128 bits, little-endian: what
 * dm-crypt calls aes-xts-plain64 with sector_size:4096 and iv_large_sectors. Holes of the lower volume are zeros and
 * have no ciphertext; write zeroes, discard and flush pass through. Lengths, FUA and results are the lower volume's.
 *
 * Nothing is ever encrypted or decrypted in the caller's memory: requests go through bounce memory, which all encrypted
 * volumes of one shard share, and wait when it is used up. A volume has at most a quarter of it for writes, and all
 * writes together at most three quarters, so that writes which wait below (for space) can't stop everything else.
 *
 * XTS has no authentication: whoever can write to the device can garble blocks (the store's checksums find accidents,
 * not intent) and put back what once was at the same LBA.
 */
#ifndef PST_VOLUME_CRYPT_H
#define PST_VOLUME_CRYPT_H

#include "volume/volume.h"

#define PST_CRYPT_KEY_BYTES 64u /* the data's key, then the tweak's */

struct pst_crypt_pool;

struct pst_crypt_pool_config {
	size_t bounce_bytes; /* rounded up to 256 KiB; 0: 16 MiB. Memory is touched as it is needed */
	uint32_t pieces;     /* of requests, under way at once, each at most 256 KiB long; 0: 512 */
};

/* PST_E_UNSUPPORTED: OpenSSL does not offer the cipher. On the shard of the volumes that are to use it. */
pst_err PST_MUST_USE pst_crypt_pool_new(struct pst_env *env, const struct pst_crypt_pool_config *config,
					struct pst_crypt_pool **ret_pool);

/* Its volumes must be closed. NULL is allowed. */
void pst_crypt_pool_free(struct pst_crypt_pool *pool);

/*
 * @key (PST_CRYPT_KEY_BYTES, in secret memory) is the caller's, not needed any more afterwards. Owns @lower: closing
 * the result closes it too, and wipes the key. PST_E_KEY: both halves are the same, which IEEE 1619 forbids.
 */
pst_err PST_MUST_USE pst_crypt_new(struct pst_crypt_pool *pool, struct pst_volume *lower, const uint8_t *key,
				   struct pst_volume **ret_volume);

#endif

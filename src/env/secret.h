/* SPDX-License-Identifier: Apache-2.0 */
/* What programs on the real environment may do with secret memory beside env.h. Any thread. */
#ifndef PST_ENV_SECRET_H
#define PST_ENV_SECRET_H

#include "base/base.h"

/* As pst_secret_alloc and pst_secret_free, for callers that don't know the length any more. */
void *pst_secret_malloc(size_t len_bytes);
void *pst_secret_realloc(void *secret, size_t len_bytes);
void pst_secret_release(void *secret);

/* Bytes of secret memory that exist, and those of them that could not be locked: they may be swapped out. */
void pst_secret_usage(size_t *ret_bytes, size_t *ret_unlocked_bytes);

/*
 * From now on OpenSSL keeps everything in secret memory: the key schedules inside its contexts, too. First of all in
 * main, before anything has called OpenSSL. False: it was too late.
 */
bool PST_MUST_USE pst_secret_for_openssl(void);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A cipher context of OpenSSL holds the key schedule, of which the key itself is a part, in memory from its general
 * allocator. So that one has to be ours, for all of it: what OpenSSL copies where is its own business.
 */
#include "env/secret.h"

#include <openssl/crypto.h>

static void *openssl_malloc(size_t bytes, const char *file, int line)
{
	(void)file;
	(void)line;
	return pst_secret_malloc(bytes);
}

static void *openssl_realloc(void *mem, size_t bytes, const char *file, int line)
{
	(void)file;
	(void)line;
	return pst_secret_realloc(mem, bytes);
}

static void openssl_free(void *mem, const char *file, int line)
{
	(void)file;
	(void)line;
	pst_secret_release(mem);
}

bool pst_secret_for_openssl(void)
{
	return CRYPTO_set_mem_functions(openssl_malloc, openssl_realloc, openssl_free) == 1;
}

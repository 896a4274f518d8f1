/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory for keys. Regions come from mmap, are excluded from core dumps (else they are not used at all) and locked as
 * far as RLIMIT_MEMLOCK allows (best effort: what could not be locked is counted, and the daemon says so). Requests are
 * rounded up to a power of two and cut from regions; what is freed is wiped and goes to the list of its size, for ever.
 * Larger requests have a region of their own. A header before each piece holds its size.
 *
 * One state for the process, under one lock: OpenSSL allocates from any thread. Not for the data path.
 */
#include "env/secret.h"
#include "env/env.h"

#include <pthread.h>
#include <string.h>
#include <sys/mman.h>

#define HEADER_BYTES 16u
#define CLASS_MIN 5u  /* 32 bytes, with the header */
#define CLASS_MAX 14u /* 16 KiB */
#define REGION_BYTES ((size_t)256 * 1024)
#define PAGE_BYTES ((size_t)4096)

struct header {
	size_t len_bytes;         /* that the caller may use */
	size_t region_bytes : 63; /* of a region of its own; 0: cut from a shared one */
	size_t unlocked : 1;      /* that region */
};
_Static_assert(sizeof(struct header) <= HEADER_BYTES, "header");

struct piece {
	struct piece *next;
};

static struct {
	pthread_mutex_t lock;
	struct piece *free[CLASS_MAX + 1];
	char *fresh; /* not yet cut */
	size_t fresh_bytes;
	size_t bytes, unlocked_bytes;
} secret = { .lock = PTHREAD_MUTEX_INITIALIZER };

static char *region_map(size_t bytes, bool *ret_unlocked)
{
	char *region = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (region == MAP_FAILED)
		return NULL;
	if (madvise(region, bytes, MADV_DONTDUMP) != 0) {
		munmap(region, bytes);
		return NULL;
	}
	secret.bytes += bytes;
	*ret_unlocked = mlock(region, bytes) != 0;
	if (*ret_unlocked)
		secret.unlocked_bytes += bytes;
	return region;
}

static char *piece_cut(unsigned class)
{
	size_t bytes = (size_t)1 << class;
	struct piece *piece = secret.free[class];
	bool unlocked;

	if (piece != NULL) {
		secret.free[class] = piece->next;
		return (char *)piece;
	}
	if (secret.fresh_bytes < bytes) {
		secret.fresh =
		    region_map(REGION_BYTES, &unlocked); /* the old rest is less than 16 KiB, and stays unused */
		secret.fresh_bytes = secret.fresh != NULL ? REGION_BYTES : 0;
		if (secret.fresh == NULL)
			return NULL;
	}
	secret.fresh += bytes;
	secret.fresh_bytes -= bytes;
	return secret.fresh - bytes;
}

static unsigned class_of(size_t bytes)
{
	unsigned class = CLASS_MIN;

	while (((size_t)1 << class) < bytes)
		class ++;
	return class;
}

void *pst_secret_malloc(size_t len_bytes)
{
	size_t bytes, region_bytes = 0;
	struct header *header;
	bool unlocked = false;
	char *piece;

	if (len_bytes > SIZE_MAX / 2)
		return NULL;
	bytes = len_bytes + HEADER_BYTES;
	pthread_mutex_lock(&secret.lock);
	if (bytes <= (size_t)1 << CLASS_MAX) {
		piece = piece_cut(class_of(bytes));
	} else {
		region_bytes = pst_round_up(bytes, PAGE_BYTES);
		piece = region_map(region_bytes, &unlocked);
	}
	pthread_mutex_unlock(&secret.lock);
	if (piece == NULL)
		return NULL;
	memset(piece, 0, bytes);
	header = (struct header *)(void *)piece;
	*header = (struct header){ len_bytes, region_bytes, unlocked };
	return piece + HEADER_BYTES;
}

void pst_secret_release(void *mem)
{
	struct header *header;
	size_t bytes;

	if (mem == NULL)
		return;
	header = (struct header *)(void *)((char *)mem - HEADER_BYTES);
	bytes = header->len_bytes + HEADER_BYTES;
	pthread_mutex_lock(&secret.lock);
	if (header->region_bytes != 0) {
		size_t region_bytes = header->region_bytes;

		secret.bytes -= region_bytes;
		secret.unlocked_bytes -= header->unlocked ? region_bytes : 0;
		explicit_bzero(header, bytes);
		munmap(header, region_bytes);
	} else {
		struct piece *piece = (struct piece *)(void *)header;
		unsigned class = class_of(bytes);

		explicit_bzero(header, bytes);
		piece->next = secret.free[class];
		secret.free[class] = piece;
	}
	pthread_mutex_unlock(&secret.lock);
}

void *pst_secret_realloc(void *mem, size_t len_bytes)
{
	size_t old_bytes = mem != NULL ? ((struct header *)(void *)((char *)mem - HEADER_BYTES))->len_bytes : 0;
	void *grown;

	if (len_bytes == 0) {
		pst_secret_release(mem);
		return NULL;
	}
	grown = pst_secret_malloc(len_bytes);
	if (grown == NULL)
		return NULL;
	if (mem != NULL)
		memcpy(grown, mem, PST_MIN(old_bytes, len_bytes));
	pst_secret_release(mem);
	return grown;
}

void pst_secret_usage(size_t *ret_bytes, size_t *ret_unlocked_bytes)
{
	pthread_mutex_lock(&secret.lock);
	*ret_bytes = secret.bytes;
	*ret_unlocked_bytes = secret.unlocked_bytes;
	pthread_mutex_unlock(&secret.lock);
}

void *pst_secret_alloc(struct pst_env *env, size_t len_bytes)
{
	(void)env;
	return pst_secret_malloc(len_bytes);
}

void pst_secret_free(struct pst_env *env, void *mem, size_t len_bytes)
{
	(void)env;
	pst_assert(mem == NULL || ((struct header *)(void *)((char *)mem - HEADER_BYTES))->len_bytes == len_bytes);
	pst_secret_release(mem);
}

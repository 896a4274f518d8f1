/* SPDX-License-Identifier: Apache-2.0 */
/* Chains in buckets; doubles when there are as many nodes as buckets. FNV-1a, seeded and with its bits mixed. */
#include "base/hash.h"

#include <stdlib.h>
#include <string.h>

#define BUCKETS_MIN 16u
#define BUCKETS_MAX (1u << 30)

void pst_hash_init(struct pst_hash *h, uint64_t seed)
{
	*h = (struct pst_hash){ .buckets = &h->one, .bucket_count = 1, .seed = seed };
	pst_list_init(&h->one);
}

void pst_hash_done(struct pst_hash *h)
{
	pst_assert(h->count == 0);
	if (h->buckets != &h->one)
		free(h->buckets);
}

uint64_t pst_hash_bytes(const struct pst_hash *h, const void *key, size_t len_bytes)
{
	const uint8_t *p = key;
	uint64_t hash = h->seed ^ 0xcbf29ce484222325u;

	for (size_t i = 0; i < len_bytes; i++)
		hash = (hash ^ p[i]) * 0x100000001b3u;
	hash = (hash ^ hash >> 32) * 0x9e3779b97f4a7c15u;
	return hash ^ hash >> 29;
}

uint64_t pst_hash_string(const struct pst_hash *h, const char *key)
{
	return pst_hash_bytes(h, key, strlen(key));
}

static struct pst_list *bucket_of(const struct pst_hash *h, uint64_t hash)
{
	return &h->buckets[hash & (h->bucket_count - 1)];
}

static void grow(struct pst_hash *h)
{
	uint32_t old_count = h->bucket_count, count = PST_MAX(2 * old_count, BUCKETS_MIN);
	struct pst_list *old = h->buckets, *buckets = malloc(count * sizeof(*buckets)), *l;

	if (buckets == NULL)
		return;
	for (uint32_t i = 0; i < count; i++)
		pst_list_init(&buckets[i]);
	h->buckets = buckets;
	h->bucket_count = count;
	for (uint32_t i = 0; i < old_count; i++)
		while ((l = pst_list_pop_front(&old[i])) != NULL)
			pst_list_push_back(bucket_of(h, pst_container_of(l, struct pst_hash_node, node)->hash), l);
	if (old != &h->one)
		free(old);
}

void pst_hash_add(struct pst_hash *h, struct pst_hash_node *node, uint64_t hash)
{
	if (h->count >= h->bucket_count && h->bucket_count < BUCKETS_MAX)
		grow(h);
	node->hash = hash;
	pst_list_push_back(bucket_of(h, hash), &node->node);
	h->count++;
}

void pst_hash_remove(struct pst_hash *h, struct pst_hash_node *node)
{
	pst_list_remove(&node->node);
	h->count--;
}

struct pst_hash_node *pst_hash_next(const struct pst_hash *h, uint64_t hash, const struct pst_hash_node *after)
{
	const struct pst_list *head = bucket_of(h, hash);
	struct pst_list *l = after != NULL ? after->node.next : head->next;

	for (; l != head; l = l->next)
		if (pst_container_of(l, struct pst_hash_node, node)->hash == hash)
			return pst_container_of(l, struct pst_hash_node, node);
	return NULL;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A hash table of nodes that are embedded in what they find. It knows hashes, not keys: a search goes through the nodes
 * of one hash, and the caller compares. Adding never fails: where memory to grow is missing, searches take longer.
 * Iteration over all is the business of a list beside it. One thread at a time.
 */
#ifndef PST_BASE_HASH_H
#define PST_BASE_HASH_H

#include "base/base.h"
#include "base/list.h"

struct pst_hash_node {
	struct pst_list node;
	uint64_t hash;
};

struct pst_hash {
	struct pst_list *buckets, one; /* one: until there is memory for more */
	uint32_t bucket_count;         /* a power of two */
	uint32_t count;
	uint64_t seed;
};

/* @seed: random where the keys come from peers, so that nobody can make them collide. */
void pst_hash_init(struct pst_hash *h, uint64_t seed);
void pst_hash_done(struct pst_hash *h); /* empty by now */

uint64_t pst_hash_bytes(const struct pst_hash *h, const void *key, size_t len_bytes);
uint64_t pst_hash_string(const struct pst_hash *h, const char *key);

/* @node is not in a table. */
void pst_hash_add(struct pst_hash *h, struct pst_hash_node *node, uint64_t hash);
void pst_hash_remove(struct pst_hash *h, struct pst_hash_node *node);

/* The first of @hash for @after NULL, else the one after @after; NULL: no more. */
struct pst_hash_node *pst_hash_next(const struct pst_hash *h, uint64_t hash, const struct pst_hash_node *after);

#define PST_HASH_EACH(it, h, hash) \
	for (struct pst_hash_node *it = pst_hash_next(h, hash, NULL); (it) != NULL; (it) = pst_hash_next(h, hash, it))

#endif

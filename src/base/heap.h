/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An intrusive priority queue (pairing heap): smallest key first, no allocation, removal from anywhere. Keys are
 * compared by signed difference, so counters that wrap stay in order as long as they lie within 2^63 of one another.
 * Insert is O(1), removal O(log n) amortised. Not thread-safe.
 */
#ifndef PST_BASE_HEAP_H
#define PST_BASE_HEAP_H

#include "base/base.h"

struct pst_heap_node {
	struct pst_heap_node *child; /* first of the children */
	struct pst_heap_node *next;  /* right sibling */
	struct pst_heap_node *prev;  /* left sibling, or the parent for a first child */
	uint64_t key;
	bool queued;
};

struct pst_heap {
	struct pst_heap_node *root;
};

/* Is @a before @b on the wrapping number line? */
static inline bool pst_key_before(uint64_t a, uint64_t b)
{
	return (int64_t)(a - b) < 0;
}

static inline uint64_t pst_key_later(uint64_t a, uint64_t b)
{
	return pst_key_before(a, b) ? b : a;
}

/* The node with the smallest key, still queued; NULL when empty. */
static inline struct pst_heap_node *pst_heap_min(const struct pst_heap *heap)
{
	return heap->root;
}

/* @node must not be queued. */
void pst_heap_insert(struct pst_heap *heap, struct pst_heap_node *node, uint64_t key);

/* Harmless if @node is not queued; else it must be in @heap. */
void pst_heap_remove(struct pst_heap *heap, struct pst_heap_node *node);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pairing heap (Fredman, Sedgewick, Sleator, Tarjan 1986). Invariants: no child's key is before its parent's; the root
 * has neither prev nor next; a node outside every heap has queued == false and null links.
 */
#include "base/heap.h"

/* Both roots, neither NULL. On equal keys @a stays on top. */
static struct pst_heap_node *meld(struct pst_heap_node *a, struct pst_heap_node *b)
{
	if (pst_key_before(b->key, a->key)) {
		struct pst_heap_node *top = b;

		b = a;
		a = top;
	}
	b->prev = a;
	b->next = a->child;
	if (a->child != NULL)
		a->child->prev = b;
	a->child = b;
	return a;
}

/* One heap from a list of siblings: pairs from left to right, then all of them from right to left. */
static struct pst_heap_node *meld_siblings(struct pst_heap_node *first)
{
	struct pst_heap_node *pairs = NULL, *root = NULL;

	while (first != NULL) {
		struct pst_heap_node *a = first, *b = a->next;

		first = b != NULL ? b->next : NULL;
		a->next = a->prev = NULL;
		if (b != NULL) {
			b->next = b->prev = NULL;
			a = meld(a, b);
		}
		a->next = pairs;
		pairs = a;
	}
	while (pairs != NULL) {
		struct pst_heap_node *next = pairs->next;

		pairs->next = NULL;
		root = root == NULL ? pairs : meld(root, pairs);
		pairs = next;
	}
	return root;
}

void pst_heap_insert(struct pst_heap *heap, struct pst_heap_node *node, uint64_t key)
{
	pst_assert(!node->queued);
	*node = (struct pst_heap_node){ .key = key, .queued = true };
	heap->root = heap->root == NULL ? node : meld(heap->root, node);
}

void pst_heap_remove(struct pst_heap *heap, struct pst_heap_node *node)
{
	struct pst_heap_node *children;

	if (!node->queued)
		return;
	children = meld_siblings(node->child);
	if (node == heap->root) {
		heap->root = children;
	} else {
		if (node->prev->child == node)
			node->prev->child = node->next;
		else
			node->prev->next = node->next;
		if (node->next != NULL)
			node->next->prev = node->prev;
		if (children != NULL)
			heap->root = meld(heap->root, children);
	}
	*node = (struct pst_heap_node){ 0 };
}

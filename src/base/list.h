/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Intrusive doubly linked list. The head is a node; an unlinked node points to itself, so that removing twice is
 * harmless and "is it queued?" has an answer. Not thread-safe.
 */
#ifndef PST_BASE_LIST_H
#define PST_BASE_LIST_H

#include "base/base.h"

struct pst_list {
	struct pst_list *next, *prev;
};

static inline void pst_list_init(struct pst_list *l)
{
	l->next = l->prev = l;
}

static inline bool pst_list_empty(const struct pst_list *l)
{
	return l->next == l;
}

/* Insert @node before @pos; with the head as @pos that is the tail. */
static inline void pst_list_add_before(struct pst_list *pos, struct pst_list *node)
{
	node->next = pos;
	node->prev = pos->prev;
	pos->prev->next = node;
	pos->prev = node;
}

static inline void pst_list_push_back(struct pst_list *head, struct pst_list *node)
{
	pst_list_add_before(head, node);
}

static inline void pst_list_push_front(struct pst_list *head, struct pst_list *node)
{
	pst_list_add_before(head->next, node);
}

static inline void pst_list_remove(struct pst_list *node)
{
	node->prev->next = node->next;
	node->next->prev = node->prev;
	pst_list_init(node);
}

/* First node, unlinked; NULL when empty. */
static inline struct pst_list *pst_list_pop_front(struct pst_list *head)
{
	struct pst_list *node = head->next;

	if (node == head)
		return NULL;
	pst_list_remove(node);
	return node;
}

/* Move all of @from to the tail of @to. */
static inline void pst_list_splice(struct pst_list *to, struct pst_list *from)
{
	if (pst_list_empty(from))
		return;
	from->next->prev = to->prev;
	to->prev->next = from->next;
	from->prev->next = to;
	to->prev = from->prev;
	pst_list_init(from);
}

/* @node may be removed in the body. */
#define PST_LIST_EACH(node, head)                                                             \
	for (struct pst_list *node = (head)->next, *node##_next = node->next; node != (head); \
	     node = node##_next, node##_next = node->next)

#endif

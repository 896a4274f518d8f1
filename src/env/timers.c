/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pairing heap (Fredman et al. 1986): every node keeps its first child, its next sibling and `prev`, which is the
 * previous sibling or, for a first child, the parent. Melding puts the later root below the earlier one. Removing a
 * node melds its children in pairs from left to right and then from right to left; both passes are loops, since a heap
 * may be one long list of children. Order is (deadline, seq): total, so that the simulator is deterministic.
 */
#include "env/timers.h"

void pst_timer_init(struct pst_timer *timer, void (*fn)(struct pst_timer *timer))
{
	*timer = (struct pst_timer){ .fn = fn };
}

static bool timer_before(const struct pst_timer *a, const struct pst_timer *b)
{
	return a->deadline_ns != b->deadline_ns ? a->deadline_ns < b->deadline_ns : a->seq < b->seq;
}

static struct pst_timer *timer_meld(struct pst_timer *a, struct pst_timer *b)
{
	if (!a || !b)
		return a ? a : b;
	if (timer_before(b, a)) {
		struct pst_timer *swap = a;

		a = b;
		b = swap;
	}
	b->prev = a;
	b->next = a->child;
	if (a->child)
		a->child->prev = b;
	a->child = b;
	return a;
}

static struct pst_timer *timer_meld_siblings(struct pst_timer *first)
{
	struct pst_timer *pairs = NULL, *root = NULL;

	while (first) {
		struct pst_timer *a = first, *b = a->next, *pair;

		first = b ? b->next : NULL;
		a->next = a->prev = NULL;
		if (b)
			b->next = b->prev = NULL;
		pair = timer_meld(a, b);
		pair->next = pairs;
		pairs = pair;
	}
	while (pairs) {
		struct pst_timer *pair = pairs;

		pairs = pair->next;
		pair->next = NULL;
		root = timer_meld(root, pair);
	}
	return root;
}

void pst_timers_disarm(struct pst_timers *timers, struct pst_timer *timer)
{
	struct pst_timer *children;

	if (!timer->armed)
		return;
	children = timer_meld_siblings(timer->child);
	if (timer == timers->root) {
		timers->root = children;
	} else {
		if (timer->prev->child == timer)
			timer->prev->child = timer->next;
		else
			timer->prev->next = timer->next;
		if (timer->next)
			timer->next->prev = timer->prev;
		timers->root = timer_meld(timers->root, children);
	}
	timer->child = timer->next = timer->prev = NULL;
	timer->armed = false;
}

void pst_timers_arm(struct pst_timers *timers, struct pst_timer *timer, uint64_t deadline_ns)
{
	pst_timers_disarm(timers, timer);
	timer->deadline_ns = deadline_ns;
	timer->seq = timers->next_seq++;
	timer->armed = true;
	timers->root = timer_meld(timers->root, timer);
}

unsigned pst_timers_run(struct pst_timers *timers, uint64_t now_ns, unsigned limit)
{
	unsigned ran = 0;

	while (ran < limit && timers->root && timers->root->deadline_ns <= now_ns) {
		struct pst_timer *timer = timers->root;

		pst_timers_disarm(timers, timer);
		timer->fn(timer);
		ran++;
	}
	return ran;
}

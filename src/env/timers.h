/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Ordered timers for the environments: a pairing heap whose links live in the timers themselves, so that arming
 * allocates nothing and cannot fail. Equal deadlines fire in the order in which they were armed. Not thread-safe.
 */
#ifndef PST_ENV_TIMERS_H
#define PST_ENV_TIMERS_H

#include "env/env.h"

struct pst_timers {
	struct pst_timer *root;
	uint64_t next_seq;
};

void pst_timers_arm(struct pst_timers *timers, struct pst_timer *timer, uint64_t deadline_ns);
void pst_timers_disarm(struct pst_timers *timers, struct pst_timer *timer);

/* The earliest timer, still armed; NULL if there is none. */
static inline struct pst_timer *pst_timers_first(const struct pst_timers *timers)
{
	return timers->root;
}

/* Run what is due at @now_ns, at most @limit timers (so that one that re-arms itself can't hold the loop). */
unsigned pst_timers_run(struct pst_timers *timers, uint64_t now_ns, unsigned limit);

#endif

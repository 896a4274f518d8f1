/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The fault engine: stands above another volume and misbehaves as told, for tests and rehearsals: errors, delays,
 * flipped bits, a full pool. Rules are tried in order; the first that fits a request acts. On the volume's shard.
 */
#ifndef PST_VOLUME_FAULT_H
#define PST_VOLUME_FAULT_H

#include "volume/volume.h"

#define PST_FAULT_RULES_MAX 16u

enum pst_fault_action {
	PST_FAULT_ERROR,   /* complete with rule->err, the lower volume is not asked */
	PST_FAULT_DELAY,   /* hold for rule->delay_ns, then go on */
	PST_FAULT_CORRUPT, /* reads: flip one bit of the first block on the way back */
	PST_FAULT_PAUSE, /* as in a full pool: hold until the rules are cleared, it is recalled, or the volume closes */
};

struct pst_fault_rule {
	enum pst_fault_action action;
	uint32_t kinds;            /* bit mask of 1 << enum pst_io_kind */
	uint64_t lba, block_count; /* requests that touch this range; block_count 0: every request of these kinds */
	pst_err err;
	uint64_t delay_ns;
	uint64_t skip;  /* let this many fitting requests pass first */
	uint64_t count; /* then act on this many; 0: on all */
};

/* @io_max: requests held at once (more wait in order). Owns @lower: closing the result closes it too. */
pst_err PST_MUST_USE pst_fault_new(struct pst_volume *lower, uint32_t io_max, struct pst_volume **ret_volume);

/* PST_E_NOMEM beyond PST_FAULT_RULES_MAX. Takes effect for requests submitted afterwards. */
pst_err PST_MUST_USE pst_fault_add(struct pst_volume *fault, const struct pst_fault_rule *rule);
/* What is paused goes on. */
void pst_fault_clear(struct pst_volume *fault);

/* How often the rules have acted. */
uint64_t pst_fault_hits(struct pst_volume *fault);

#endif

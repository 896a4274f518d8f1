/* SPDX-License-Identifier: Apache-2.0 */
/* A small deterministic generator (SplitMix64, Steele et al. 2014) for simulation, tests and benches; not for secrets.
 */
#ifndef PST_BASE_PRNG_H
#define PST_BASE_PRNG_H

#include "base/base.h"

struct pst_prng {
	uint64_t state;
};

static inline void pst_prng_init(struct pst_prng *p, uint64_t seed)
{
	p->state = seed;
}

static inline uint64_t pst_prng_next(struct pst_prng *p)
{
	uint64_t z = (p->state += 0x9e3779b97f4a7c15u);

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return z ^ (z >> 31);
}

/* Uniform in [0, bound); bound > 0. */
static inline uint64_t pst_prng_below(struct pst_prng *p, uint64_t bound)
{
	pst_assert(bound > 0);
	return (uint64_t)(((unsigned __int128)pst_prng_next(p) * bound) >> 64);
}

/* True with probability @num in @den. */
static inline bool pst_prng_chance(struct pst_prng *p, uint64_t num, uint64_t den)
{
	return pst_prng_below(p, den) < num;
}

#endif

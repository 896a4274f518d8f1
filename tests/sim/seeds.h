/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Running seeds, for all simulation programs: --seed N [--count M] [--trace] [--jobs J]. Each seed runs in a child
 * process, so that what a simulated crash leaks vanishes, and a failed assertion is that seed's failure. Some seeds run
 * twice and must give the same trace hash. A failing seed prints one line that replays it.
 */
#ifndef TESTS_SIM_SEEDS_H
#define TESTS_SIM_SEEDS_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#define SEED_COUNTERS 32

struct seed_result {
	uint64_t trace_hash;
	uint64_t counters[SEED_COUNTERS]; /* summed over seeds and printed with the names given to seeds_main */
};

/* Runs one seed in this process: true if all held; else it has said on stderr what did not. @trace: NULL or a file. */
typedef bool seed_fn(uint64_t seed, FILE *trace, struct seed_result *ret_result);

/* @counter_names ends with NULL. Returns the exit status of the program: 0, 1 for failures, 2 for usage. */
int seeds_main(int argc, char **argv, seed_fn *fn, const char *const *counter_names);

#endif

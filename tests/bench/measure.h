/* SPDX-License-Identifier: Apache-2.0 */
/* What the bench programs share: the load's shape from the command line, the measured window, one line of JSON. */
#ifndef PST_TESTS_BENCH_MEASURE_H
#define PST_TESTS_BENCH_MEASURE_H

#include "base/hist.h"

#include <sys/types.h>

struct measure_load {
	bool write;
	bool sequential;
	uint32_t block_bytes; /* per operation; multiple of 4096 */
	uint32_t depth;       /* operations in flight */
	double seconds;       /* measured, after the warm-up */
	double warmup_seconds;
	uint64_t span_bytes; /* working set */
	uint64_t seed;
	int cpu; /* core for the load, -1: any */
};

/* Parses --op read|write --pattern random|sequential --block --depth --seconds --span --seed --cpu; exits 2 on others
 * that @other (may be NULL) does not take: it gets the option and its value. */
void measure_parse(int argc, char **argv, struct measure_load *ret_load, bool (*other)(const char *name, char *value));

uint64_t measure_now_ns(void);

/* CPU time of a process (user and system) and of the whole machine's interrupts (irq and softirq), in seconds. */
double measure_process_cpu_s(pid_t pid);
double measure_interrupt_cpu_s(void);

/* The window: begins with measure_begin (after the warm-up), ends with measure_end, which prints the result. */
struct measure {
	struct pst_hist latency;
	uint64_t begin_ns;
	pid_t server; /* whose CPU is told apart; 0: none */
	double server_cpu_s, client_cpu_s, interrupt_cpu_s;
};

void measure_begin(struct measure *m, pid_t server);

/* {"iops":..,"mb_s":..,"p50_us":..,"p99_us":..,"max_us":..,"server_cpu_us":..,"client_cpu_us":..,"interrupt_cpu_us":..}
 * per op. */
void measure_end(struct measure *m, const struct measure_load *load);

/* Runs the calling thread on one core from now on; -1 does nothing. */
void measure_pin(int cpu);

#endif

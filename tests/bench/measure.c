/* SPDX-License-Identifier: Apache-2.0 */
#include "measure.h"

#include "base/units.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static bool take_option(struct measure_load *l, const char *name, char *value)
{
	uint64_t n = 0;

	if (strcmp(name, "--op") == 0)
		l->write = strcmp(value, "write") == 0;
	else if (strcmp(name, "--pattern") == 0)
		l->sequential = strcmp(value, "sequential") == 0;
	else if (strcmp(name, "--seconds") == 0)
		l->seconds = strtod(value, NULL);
	else if (strcmp(name, "--cpu") == 0)
		l->cpu = (int)strtol(value, NULL, 10);
	else if (strcmp(name, "--seed") == 0)
		l->seed = strtoull(value, NULL, 0);
	else if (pst_parse_size(value, &n) != PST_OK)
		return false;
	else if (strcmp(name, "--block") == 0)
		l->block_bytes = (uint32_t)n;
	else if (strcmp(name, "--depth") == 0)
		l->depth = (uint32_t)n;
	else if (strcmp(name, "--span") == 0)
		l->span_bytes = n;
	else
		return false;
	return true;
}

void measure_parse(int argc, char **argv, struct measure_load *ret_load, bool (*other)(const char *name, char *value))
{
	*ret_load = (struct measure_load){ .block_bytes = 4096,
					   .depth = 1,
					   .seconds = 2,
					   .warmup_seconds = 0.3,
					   .span_bytes = 256 << 20,
					   .seed = 1,
					   .cpu = -1 };
	for (int i = 1; i < argc; i += 2) {
		bool taken = i + 1 < argc && ((other != NULL && other(argv[i], argv[i + 1])) ||
					      take_option(ret_load, argv[i], argv[i + 1]));

		if (!taken) {
			fprintf(stderr, "%s: unknown option or missing value: %s\n", argv[0], argv[i]);
			exit(2);
		}
	}
	if (ret_load->depth == 0 || ret_load->block_bytes == 0 || ret_load->block_bytes % 4096 != 0 ||
	    ret_load->span_bytes < ret_load->block_bytes) {
		fprintf(stderr, "%s: the block must be a multiple of 4096 within the span, the depth at least 1\n",
			argv[0]);
		exit(2);
	}
}

uint64_t measure_now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

double measure_process_cpu_s(pid_t pid)
{
	clockid_t clock;
	struct timespec t;

	if (clock_getcpuclockid(pid, &clock) != 0 || clock_gettime(clock, &t) != 0)
		return 0;
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

double measure_interrupt_cpu_s(void)
{
	unsigned long long user, nice, system, idle, wait, irq, softirq;
	FILE *f = fopen("/proc/stat", "re");
	int n = f == NULL ? 0
			  : fscanf(f, "cpu %llu %llu %llu %llu %llu %llu %llu", &user, &nice, &system, &idle, &wait,
				   &irq, &softirq);

	if (f != NULL)
		fclose(f);
	return n == 7 ? (double)(irq + softirq) / (double)sysconf(_SC_CLK_TCK) : 0;
}

void measure_begin(struct measure *m, pid_t server)
{
	*m = (struct measure){ .server = server };
	m->server_cpu_s = server > 0 ? measure_process_cpu_s(server) : 0;
	m->client_cpu_s = measure_process_cpu_s(getpid());
	m->interrupt_cpu_s = measure_interrupt_cpu_s();
	m->begin_ns = measure_now_ns();
}

void measure_end(struct measure *m, const struct measure_load *load)
{
	double seconds = (double)(measure_now_ns() - m->begin_ns) / 1e9;
	double ops = (double)PST_MAX(m->latency.count, 1u);
	double server = m->server > 0 ? measure_process_cpu_s(m->server) - m->server_cpu_s : 0;
	double client = measure_process_cpu_s(getpid()) - m->client_cpu_s;
	double interrupts = measure_interrupt_cpu_s() - m->interrupt_cpu_s;

	printf("{\"iops\":%.0f,\"mb_s\":%.1f,\"p50_us\":%.1f,\"p99_us\":%.1f,\"max_us\":%.0f,\"server_cpu_us\":%.2f,"
	       "\"client_cpu_us\":%.2f,\"interrupt_cpu_us\":%.2f}\n",
	       (double)m->latency.count / seconds, (double)m->latency.count * load->block_bytes / seconds / 1e6,
	       (double)pst_hist_percentile_ns(&m->latency, 0.5) / 1e3,
	       (double)pst_hist_percentile_ns(&m->latency, 0.99) / 1e3, (double)m->latency.max_ns / 1e3,
	       server / ops * 1e6, client / ops * 1e6, interrupts / ops * 1e6);
}

void measure_pin(int cpu)
{
	cpu_set_t set;

	if (cpu < 0)
		return;
	CPU_ZERO(&set);
	CPU_SET((unsigned)cpu, &set);
	if (sched_setaffinity(0, sizeof(set), &set) != 0)
		perror("sched_setaffinity");
}

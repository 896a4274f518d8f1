/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hold --nqn NQN --port PORT --server-pid PID --count N --seconds S
 *
 * Connects N hosts to a volume, each with an admin and an I/O connection, lets them be, and prints the share of a core
 * that the server takes meanwhile and its memory. Keep-alives go on: they are part of being connected.
 */
#include "measure.h"

#include "penstock/penstock.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct pst_ns_options target = { .struct_bytes = sizeof(target), .traddr = "127.0.0.1", .queue_entries = 2 };
static int server_pid;
static uint32_t count = 50;

static bool option(const char *name, char *value)
{
	if (strcmp(name, "--nqn") == 0)
		target.subnqn = value;
	else if (strcmp(name, "--port") == 0)
		target.trsvcid = (uint16_t)strtoul(value, NULL, 10);
	else if (strcmp(name, "--server-pid") == 0)
		server_pid = (int)strtol(value, NULL, 10);
	else if (strcmp(name, "--count") == 0)
		count = (uint32_t)strtoul(value, NULL, 10);
	else
		return false;
	return true;
}

static double resident_mib(int pid)
{
	unsigned long pages = 0;
	char path[64];
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/statm", pid);
	f = fopen(path, "re");
	if (f == NULL || fscanf(f, "%*u %lu", &pages) != 1)
		pages = 0;
	if (f != NULL)
		fclose(f);
	return (double)pages * (double)sysconf(_SC_PAGESIZE) / (1 << 20);
}

int main(int argc, char **argv)
{
	struct pst_host_options options = { .struct_bytes = sizeof(options) };
	struct measure_load load;
	pst_host *host;
	pst_ns **ns;
	double before_mib, cpu_s;
	uint64_t begin_ns;
	pst_err err;

	measure_parse(argc, argv, &load, option);
	measure_pin(load.cpu);
	ns = calloc(count, sizeof(*ns));
	err = ns == NULL ? PST_E_NOMEM : pst_host_open(&options, &host);
	before_mib = resident_mib(server_pid);
	for (uint32_t i = 0; err == PST_OK && i < count; i++)
		err = pst_ns_connect(host, &target, &ns[i]);
	if (err != PST_OK) {
		fprintf(stderr, "hold: connect: %s\n", pst_err_text(err));
		return 1;
	}
	sleep(1);
	begin_ns = measure_now_ns();
	cpu_s = measure_process_cpu_s(server_pid);
	usleep((useconds_t)(load.seconds * 1e6));
	cpu_s = measure_process_cpu_s(server_pid) - cpu_s;
	printf("{\"connections\":%u,\"server_core_percent\":%.3f,\"kib_per_connection\":%.1f}\n", 2 * count,
	       cpu_s / ((double)(measure_now_ns() - begin_ns) / 1e9) * 100,
	       (resident_mib(server_pid) - before_mib) * 1024 / (2 * count));
	for (uint32_t i = 0; i < count; i++)
		pst_ns_disconnect(ns[i]);
	pst_host_close(host);
	free(ns);
	return 0;
}

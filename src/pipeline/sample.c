/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The timeline: every half second what the machine and the volumes did. CPU from /proc/stat (busy: all but idle and
 * iowait, as a share of all CPUs), TCP retransmits from /proc/net/snmp, drops from /proc/net/dev (all interfaces),
 * volumes from their keepers. The first sample has no rates and is left out.
 */
#include "pipeline/runner.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TIMELINE_MAX 20000u /* 10,000 s; later ones are left out */

static void read_cpu(uint64_t *busy, uint64_t *total, uint64_t *steal)
{
	unsigned long long v[8] = { 0 };
	FILE *f = fopen("/proc/stat", "re");

	if (f == NULL)
		return;
	if (fscanf(f, "cpu %llu %llu %llu %llu %llu %llu %llu %llu", &v[0], &v[1], &v[2], &v[3], &v[4], &v[5], &v[6],
		   &v[7]) == 8) {
		*total = v[0] + v[1] + v[2] + v[3] + v[4] + v[5] + v[6] + v[7];
		*busy = v[0] + v[1] + v[2] + v[5] + v[6];
		*steal = v[7];
	}
	fclose(f);
}

static uint64_t read_retransmits(void)
{
	char line[1024];
	FILE *f = fopen("/proc/net/snmp", "re");
	uint64_t value = 0;

	while (f != NULL && fgets(line, sizeof(line), f) != NULL) {
		char *save = NULL, *field = strtok_r(line, " \n", &save);

		if (field == NULL || strcmp(field, "Tcp:") != 0)
			continue;
		/* Twelfth number of the second such line: RetransSegs (the first line has the names). */
		for (int i = 0; i < 12 && field != NULL; i++)
			field = strtok_r(NULL, " \n", &save);
		if (field != NULL)
			value = strtoull(field, NULL, 10);
	}
	if (f != NULL)
		fclose(f);
	return value;
}

static uint64_t read_drops(void)
{
	char line[512];
	FILE *f = fopen("/proc/net/dev", "re");
	uint64_t drops = 0;

	while (f != NULL && fgets(line, sizeof(line), f) != NULL) {
		unsigned long long v[12] = { 0 };
		char *colon = strchr(line, ':');

		if (colon != NULL &&
		    sscanf(colon + 1, "%llu %llu %llu %llu %llu %llu %llu %llu %llu %llu %llu %llu", &v[0], &v[1],
			   &v[2], &v[3], &v[4], &v[5], &v[6], &v[7], &v[8], &v[9], &v[10], &v[11]) == 12)
			drops += v[3] + v[11];
	}
	if (f != NULL)
		fclose(f);
	return drops;
}

/* What the keepers of this volume have done so far, those that have ended included. */
static void volume_totals(struct runner *r, size_t volume, uint64_t *read, uint64_t *written, uint64_t *requests)
{
	for (size_t i = 0; i < r->pipeline->step_count; i++)
		for (size_t k = 0; k < r->steps[i].spec->uses_count; k++) {
			struct run_use *u = &r->steps[i].uses[k];
			struct pst_attach_figures g = { 0 };

			if (u->volume != volume)
				continue;
			if (u->attach.pid > 0)
				pst_attach_live(&u->attach, &g);
			*read += u->figures.bytes_read + g.stats.bytes_read;
			*written += u->figures.bytes_written + g.stats.bytes_written;
			*requests +=
			    u->figures.requests[0] + u->figures.requests[1] + g.stats.requests[0] + g.stats.requests[1];
		}
}

static double rate(uint64_t now, uint64_t *before, double seconds)
{
	double value =
	    now > *before ? (double)(now - *before) / seconds : 0; /* a digest's reads are taken off: never below 0 */

	*before = now;
	return value;
}

static json_t *sample_volumes(struct runner *r, double seconds)
{
	json_t *all = json_object();

	for (size_t i = 0; i < r->pipeline->volume_count; i++) {
		struct run_volume *v = &r->volumes[i];
		uint64_t read = 0, written = 0, requests = 0;

		volume_totals(r, i, &read, &written, &requests);
		double in = rate(read, &v->sampled_read, seconds), out = rate(written, &v->sampled_written, seconds);
		double iops = rate(requests, &v->sampled_requests, seconds);
		json_object_set_new(
		    all, v->spec->name,
		    json_pack("{s:f, s:f, s:f}", "read_mb_s", in / 1e6, "write_mb_s", out / 1e6, "iops", iops));
	}
	return all;
}

void sample_take(struct runner *r)
{
	uint64_t busy = 0, total = 0, steal = 0, retransmits = read_retransmits(), drops = read_drops();
	double now = run_now(), seconds = now - r->last_sample;
	bool first = r->cpu_total == 0;

	read_cpu(&busy, &total, &steal);
	if (!first && json_array_size(r->timeline) < TIMELINE_MAX) {
		double span = (double)PST_MAX(total - r->cpu_total, (uint64_t)1);

		json_array_append_new(r->timeline,
				      json_pack("{s:f, s:f, s:f, s:I, s:I, s:o}", "t", run_wall(), "cpu_busy",
						(double)(busy - r->cpu_busy) / span, "steal",
						(double)(steal - r->cpu_steal) / span, "tcp_retransmits",
						(json_int_t)(retransmits - r->retransmits), "nic_drops",
						(json_int_t)(drops - r->drops), "volumes", sample_volumes(r, seconds)));
	}
	r->cpu_busy = busy;
	r->cpu_total = total;
	r->cpu_steal = steal;
	r->retransmits = retransmits;
	r->drops = drops;
	r->last_sample = now;
	r->next_sample = now + 0.5;
}

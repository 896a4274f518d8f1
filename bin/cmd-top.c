/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `penstock top`: what happened between two looks at /v1/stats. The daemon delivers whole histograms; the difference of
 * two is the histogram of the time between, so the percentiles here are of the last interval, not since the start.
 *
 * Where time goes: of the time that commands took in the daemon, waiting for admission is QoS, being in the pool is
 * device, and the rest (receiving data, sending answers, waiting for buffers) is network.
 */
#include "base/hist.h"
#include "cli-object.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

struct sample {
	struct pst_hist latency; /* of all operations */
	uint64_t qos_ns, device_ns;
	uint64_t ops, bytes_read, bytes_written, throttled;
};

/* ---- Reading samples ---- */

static uint64_t u64(json_t *object, const char *member)
{
	return (uint64_t)json_integer_value(json_object_get(object, member));
}

/* Adds what the daemon wrote; limits that are no bucket's are left out. */
static void hist_read(struct pst_hist *h, json_t *json)
{
	json_t *pair;
	size_t i;
	unsigned b = 0;

	json_array_foreach(json_object_get(json, "buckets"), i, pair)
	{
		uint64_t limit = (uint64_t)json_integer_value(json_array_get(pair, 0));

		while (b < PST_HIST_BUCKETS && pst_hist_bucket_limit_ns(b) < limit)
			b++;
		if (b < PST_HIST_BUCKETS && pst_hist_bucket_limit_ns(b) == limit)
			h->bucket[b] += (uint64_t)json_integer_value(json_array_get(pair, 1));
	}
	h->count += u64(json, "count");
	h->sum_ns += u64(json, "sum_ns");
	h->max_ns = PST_MAX(h->max_ns, u64(json, "max_ns"));
}

static void sample_read(struct sample *s, json_t *row)
{
	const char *op;
	json_t *value;

	memset(s, 0, sizeof(*s));
	if (row == NULL)
		return;
	json_object_foreach(json_object_get(row, "latency"), op, value) hist_read(&s->latency, value);
	json_object_foreach(json_object_get(row, "ops"), op, value) s->ops += (uint64_t)json_integer_value(value);
	s->qos_ns = u64(json_object_get(row, "qos_wait"), "sum_ns");
	s->device_ns = u64(json_object_get(row, "device_wait"), "sum_ns");
	s->bytes_read = u64(row, "bytes_read");
	s->bytes_written = u64(row, "bytes_written");
	s->throttled = u64(json_object_get(row, "throttled"), "ops");
}

/* A volume that was made anew under the same name, or a restarted daemon, counts from zero. */
static bool counts_on(const struct sample *now, const struct sample *before)
{
	for (unsigned b = 0; b < PST_HIST_BUCKETS; b++)
		if (now->latency.bucket[b] < before->latency.bucket[b])
			return false;
	return now->latency.count >= before->latency.count && now->latency.sum_ns >= before->latency.sum_ns &&
	       now->qos_ns >= before->qos_ns && now->device_ns >= before->device_ns && now->ops >= before->ops &&
	       now->bytes_read >= before->bytes_read && now->bytes_written >= before->bytes_written &&
	       now->throttled >= before->throttled;
}

static void sample_subtract(struct sample *now, const struct sample *before)
{
	if (!counts_on(now, before))
		return;
	pst_hist_subtract(&now->latency, &before->latency);
	now->qos_ns -= before->qos_ns;
	now->device_ns -= before->device_ns;
	now->ops -= before->ops;
	now->bytes_read -= before->bytes_read;
	now->bytes_written -= before->bytes_written;
	now->throttled -= before->throttled;
}

/* ---- From two looks to rows ---- */

static json_t *find_row(json_t *list, const char *name)
{
	json_t *row;
	size_t i;

	json_array_foreach(list, i,
			   row) if (strcmp(json_string_value(json_object_get(row, "name")), name) == 0) return row;
	return NULL;
}

static double share(uint64_t part, uint64_t whole)
{
	return whole == 0 ? 0 : PST_MIN(1.0, (double)part / (double)whole);
}

static json_t *row_make(json_t *now_row, json_t *before_row, double seconds)
{
	struct sample *s = malloc(2 * sizeof(*s));
	json_t *row = json_object();
	double qos, device;

	if (s == NULL || row == NULL) {
		free(s);
		return row;
	}
	sample_read(&s[0], now_row);
	sample_read(&s[1], before_row);
	sample_subtract(&s[0], &s[1]);
	qos = share(s->qos_ns, s->latency.sum_ns);
	device = share(s->device_ns, s->latency.sum_ns);
	json_object_set(row, "name", json_object_get(now_row, "name"));
	if (json_object_get(now_row, "tenant") != NULL)
		json_object_set(row, "tenant", json_object_get(now_row, "tenant"));
	json_object_set(row, "hosts", json_object_get(now_row, "hosts"));
	json_object_set_new(row, "ops_per_s", json_real((double)s->ops / seconds));
	json_object_set_new(row, "read_bytes_per_s", json_real((double)s->bytes_read / seconds));
	json_object_set_new(row, "write_bytes_per_s", json_real((double)s->bytes_written / seconds));
	json_object_set_new(row, "p50_us", json_real((double)pst_hist_percentile_ns(&s->latency, 0.5) / 1000));
	json_object_set_new(row, "p99_us", json_real((double)pst_hist_percentile_ns(&s->latency, 0.99) / 1000));
	json_object_set_new(row, "throttled_share", json_real(share(s->throttled, s->ops)));
	json_object_set_new(row, "time_qos_share", json_real(qos));
	json_object_set_new(row, "time_device_share", json_real(device));
	json_object_set_new(row, "time_network_share",
			    json_real(s->latency.sum_ns == 0 ? 0 : PST_MAX(0.0, 1 - qos - device)));
	free(s);
	return row;
}

static json_t *rows_make(json_t *now, json_t *before, const char *list, double seconds)
{
	json_t *rows = json_array(), *row;
	size_t i;

	json_array_foreach(json_object_get(now, list), i, row)
	{
		const char *name = json_string_value(json_object_get(row, "name"));

		if (name != NULL)
			json_array_append_new(rows,
					      row_make(row, find_row(json_object_get(before, list), name), seconds));
	}
	return rows;
}

static json_t *view_make(json_t *now, json_t *before)
{
	double seconds = (double)(u64(now, "monotonic_ns") - u64(before, "monotonic_ns")) * 1e-9;

	/* A daemon restarted between the looks may have a smaller clock only after a reboot. */
	if (!(seconds > 0 && seconds < 1e9))
		seconds = 1;
	return json_pack("{s:f s:o s:o}", "seconds", seconds, "volumes", rows_make(now, before, "volumes", seconds),
			 "tenants", rows_make(now, before, "tenants", seconds));
}

/* ---- Showing ---- */

static char *format_number(json_t *value, char buf[64])
{
	snprintf(buf, 64, "%.0f", json_real_value(value));
	return buf;
}

static char *format_mb(json_t *value, char buf[64])
{
	snprintf(buf, 64, "%.1f", json_real_value(value) / 1e6);
	return buf;
}

static char *format_percent(json_t *value, char buf[64])
{
	snprintf(buf, 64, "%.0f%%", json_real_value(value) * 100);
	return buf;
}

#define RATE_COLUMNS                                                                                               \
	{ "OPS/S", "ops_per_s", true, format_number }, { "READ MB/S", "read_bytes_per_s", true, format_mb },       \
	    { "WRITE MB/S", "write_bytes_per_s", true, format_mb }, { "P50 US", "p50_us", true, format_number },   \
	    { "P99 US", "p99_us", true, format_number }, { "THROTTLED", "throttled_share", true, format_percent }, \
	    { "NETWORK", "time_network_share", true, format_percent },                                             \
	    { "QOS", "time_qos_share", true, format_percent },                                                     \
	    { "DEVICE", "time_device_share", true, format_percent },                                               \
	{                                                                                                          \
		NULL                                                                                               \
	}

static const struct cli_column volume_columns[] = {
	{ "VOLUME", "name" }, { "TENANT", "tenant" }, { "HOSTS", "hosts", true }, RATE_COLUMNS
};
static const struct cli_column tenant_columns[] = { { "TENANT", "name" }, { "HOSTS", "hosts", true }, RATE_COLUMNS };

static int show(json_t *view, bool json, bool once)
{
	int rc;

	if (json) {
		json_dumpf(view, stdout, once ? JSON_INDENT(2) : JSON_COMPACT);
		putchar('\n');
		return fflush(stdout) == 0 ? CLI_OK : CLI_FAILED;
	}
	if (!once && isatty(STDOUT_FILENO))
		fputs("\033[H\033[2J", stdout);
	if (json_array_size(json_object_get(view, "volumes")) == 0) {
		puts("no volumes yet; try: penstock volume create NAME --size 10Gi");
		return fflush(stdout) == 0 ? CLI_OK : CLI_FAILED;
	}
	rc = cli_print_table(json_object_get(view, "volumes"), volume_columns);
	putchar('\n');
	if (rc == CLI_OK)
		rc = cli_print_table(json_object_get(view, "tenants"), tenant_columns);
	return rc == CLI_OK && fflush(stdout) == 0 ? CLI_OK : CLI_FAILED;
}

static void wait_ns(uint64_t ns)
{
	struct timespec t = { .tv_sec = (time_t)(ns / 1000000000), .tv_nsec = (long)(ns % 1000000000) };

	nanosleep(&t, NULL);
}

int cmd_top(int argc, char **argv)
{
	uint64_t interval_ns = 1000000000;
	bool once = false;
	const struct cli_arg args[] = {
		{ "--interval", "DURATION", CLI_ARG_DURATION, &interval_ns, "time between looks (default 1s)" },
		{ "--once", NULL, CLI_ARG_FLAG, &once, "show one interval and end" },
		{ NULL },
	};
	const struct cli_verb verb = { "top", "", NULL, "Shows what volumes and tenants are doing, until Ctrl-C.",
				       args };
	struct cli_common common = { 0 };
	json_t *before, *now;
	int rc;

	if (!cli_parse(&verb, argc, argv, &common, &rc))
		return rc;
	if (interval_ns < 100000000 || interval_ns > 3600000000000) {
		cli_error("penstock top --interval 2s", "--interval must be from 100ms to 1h");
		return CLI_USAGE;
	}
	if (!cli_call(&common, "GET", "/v1/stats", NULL, &before, &rc))
		return rc;
	do {
		json_t *view;

		wait_ns(interval_ns);
		if (!cli_call(&common, "GET", "/v1/stats", NULL, &now, &rc))
			break;
		view = view_make(now, before);
		rc = show(view, common.json, once);
		json_decref(view);
		json_decref(before);
		before = now;
	} while (!once && rc == CLI_OK);
	json_decref(before);
	return rc;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Order: fill the local file and the volume with the same records; calibrate (how many records a second the volume
 * gives when the accelerator takes no time), and choose the accelerator's time per batch such that it needs DEMAND of
 * that; then the cases. The neighbour is a process of its own (`penstock bench burst`). In the last case the policies
 * change while both run; its figures begin SETTLE_S later.
 */
#include "bench/neighbour.h"

#include "bench/burst.h"
#include "bench/child.h"
#include "control/client.h"
#include "env/env.h"
#include "penstock/penstock.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define TRAINING "bench-training"
#define NEIGHBOUR "bench-neighbour"
#define RECORDS "bench-records"
#define BURST "bench-burst"

#define DEMAND 0.6 /* of what the volume gives alone */
#define CALIBRATE_S 2.5
#define SETTLE_S 0.5
#define SAMPLE_S 0.2
#define BURST_BYTES ((uint64_t)512 << 20)
#define RESERVE_HEADROOM 1.25 /* the guarantee, over what training needs */
#define NEIGHBOUR_SHARE 0.2   /* its limit, of what it took without one */
#define HURT 0.05             /* added idle time that counts as hurt */
#define CPU_FULL 0.9
#define STEAL_MUCH 0.02

struct volume_address {
	char host[64];
	uint16_t port;
	char nqn[224];
};

struct proof {
	const struct pst_neighbour_config *config;
	struct pst_record_layout layout;
	char *message;
	size_t message_bytes;
	char local_path[4096];
	struct volume_address records, burst;
	struct pst_child neighbour;
	bool neighbour_runs, in_memory;
	char burst_line[256];
	size_t burst_used;
	double burst_mb_s, burst_sum;
	uint32_t burst_samples;
	uint64_t batch_ns;
	double demand_bytes_per_s, neighbour_free_mb_s;
	double begin_s;
	json_t *cases, *timeline;
};

static double now_s(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static pst_err fail(struct proof *p, pst_err err, const char *fmt, ...) PST_PRINTF(3, 4);

static pst_err fail(struct proof *p, pst_err err, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(p->message, p->message_bytes, fmt, ap);
	va_end(ap);
	return err;
}

static void progress(const struct proof *p, const char *fmt, ...) PST_PRINTF(2, 3);

static void progress(const struct proof *p, const char *fmt, ...)
{
	char text[300];
	va_list ap;

	if (p->config->progress == NULL)
		return;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	p->config->progress(text);
}

static pst_err go_on(struct proof *p)
{
	return p->config->interrupted() ? fail(p, PST_E_CANCELLED, "interrupted; nothing was left behind") : PST_OK;
}

/* ---- The daemon's objects ---- */

static pst_err call(struct proof *p, const char *method, const char *path, json_t *body, json_t **ret)
{
	struct pst_api_error error = { 0 };
	pst_err err = pst_api_call(p->config->api, method, path, body, ret, &error);

	json_decref(body);
	if (err != PST_OK)
		return fail(p, err, "%s %s: %s%s%s", method, path, error.message, error.hint[0] ? "; try: " : "",
			    error.hint);
	return PST_OK;
}

static void remove_objects(struct proof *p)
{
	static const char *const paths[] = { "/v1/volumes/" RECORDS, "/v1/volumes/" BURST, "/v1/tenants/" TRAINING,
					     "/v1/tenants/" NEIGHBOUR };
	struct pst_api_error error;

	/* What is not there (left by a run before, or not made yet) need not be removed. */
	for (size_t i = 0; i < PST_ARRAY_COUNT(paths); i++)
		if (pst_api_call(p->config->api, "DELETE", paths[i], NULL, NULL, &error) != PST_OK)
			continue;
}

static pst_err make_volume(struct proof *p, const char *name, const char *tenant, const char *profile, uint64_t bytes,
			   struct volume_address *ret)
{
	json_t *volume;
	struct pst_addr addr;
	const char *where, *nqn;
	pst_err err = call(p, "POST", "/v1/tenants", json_pack("{s:s}", "name", tenant), NULL);

	if (err == PST_OK)
		err = call(p, "POST", "/v1/volumes",
			   json_pack("{s:s s:I s:s s:s}", "name", name, "size_bytes", (json_int_t)bytes, "tenant",
				     tenant, "profile", profile),
			   &volume);
	if (err != PST_OK)
		return err;
	where = json_string_value(json_array_get(json_object_get(volume, "addresses"), 0));
	nqn = json_string_value(json_object_get(volume, "nqn"));
	if (where == NULL || nqn == NULL || pst_addr_parse(where, 4420, &addr) != PST_OK) {
		err = fail(p, PST_E_PROTO, "volume %s: the daemon told no address", name);
	} else {
		snprintf(ret->host, sizeof(ret->host), "%s", addr.host);
		snprintf(ret->nqn, sizeof(ret->nqn), "%s", nqn);
		ret->port = addr.port;
	}
	json_decref(volume);
	return err;
}

/* ---- Filling ---- */

static pst_err fill_file(struct proof *p)
{
	uint64_t stride = pst_record_stride(&p->layout);
	void *buf = aligned_alloc(4096, stride);
	int fd = open(p->local_path, O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC | O_DIRECT, 0600);
	pst_err err = PST_OK;

	if (fd < 0 || buf == NULL)
		err = fail(p, errno == EINVAL ? PST_E_UNSUPPORTED : PST_E_IO, "%s: %s", p->local_path,
			   errno == EINVAL ? "its file system has no O_DIRECT; name another with --local"
					   : strerror(errno));
	for (uint32_t i = 0; err == PST_OK && i < p->layout.record_count; i++) {
		pst_record_make(&p->layout, i, buf);
		if (pwrite(fd, buf, stride, (off_t)(i * stride)) != (ssize_t)stride)
			err = fail(p, PST_E_NOSPACE, "%s: %s", p->local_path, strerror(errno));
		else
			err = go_on(p);
	}
	if (fd >= 0)
		close(fd);
	free(buf);
	return err;
}

#define FILL_RECORDS 16u /* written in one go */

static pst_err fill_volume(struct proof *p)
{
	struct pst_host_options host_options = { .struct_bytes = sizeof(host_options) };
	struct pst_ns_options ns_options = { .struct_bytes = sizeof(ns_options),
					     .traddr = p->records.host,
					     .trsvcid = p->records.port,
					     .subnqn = p->records.nqn };
	uint64_t stride = pst_record_stride(&p->layout);
	char *buf = aligned_alloc(4096, stride * FILL_RECORDS);
	pst_host *host = NULL;
	pst_ns *ns = NULL;
	pst_err err = buf != NULL ? pst_host_open(&host_options, &host) : PST_E_NOMEM;

	if (err == PST_OK)
		err = pst_ns_connect(host, &ns_options, &ns);
	for (uint32_t i = 0; err == PST_OK && i < p->layout.record_count; i += FILL_RECORDS) {
		uint32_t count = PST_MIN(FILL_RECORDS, p->layout.record_count - i);

		for (uint32_t k = 0; k < count; k++)
			pst_record_make(&p->layout, i + k, buf + k * stride);
		err = pst_ns_write(ns, i * stride, buf, count * stride);
		if (err == PST_OK)
			err = go_on(p);
	}
	if (err == PST_OK)
		err = pst_ns_flush(ns);
	if (err != PST_OK && err != PST_E_CANCELLED)
		err = fail(p, err, "volume %s: filling it with records: %s", RECORDS, pst_err_text(err));
	pst_ns_disconnect(ns);
	pst_host_close(host);
	free(buf);
	return err;
}

/* ---- The neighbour ---- */

static pst_err start_neighbour(struct proof *p)
{
	char port[8], span[24];
	const char *const argv[] = { p->config->program, "bench",  "burst", "--host",
				     p->burst.host,      "--port", port,    "--nqn",
				     p->burst.nqn,       "--span", span,    NULL };

	snprintf(port, sizeof(port), "%u", p->burst.port);
	snprintf(span, sizeof(span), "%llu", (unsigned long long)BURST_BYTES);
	if (pst_child_start(&p->neighbour, argv) != PST_OK)
		return fail(p, PST_E_INTERNAL, "%s: the neighbour's process could not be started", p->config->program);
	p->neighbour_runs = true;
	return PST_OK;
}

static void take_burst_line(struct proof *p, const char *line)
{
	json_t *json = json_loads(line, 0, NULL);

	if (json_is_number(json_object_get(json, "mb_s"))) {
		p->burst_mb_s = json_number_value(json_object_get(json, "mb_s"));
		p->burst_sum += p->burst_mb_s;
		p->burst_samples++;
	}
	json_decref(json);
}

/* Take the rates that the neighbour has told since. Its end before its time is an error. */
static pst_err hear_neighbour(struct proof *p)
{
	for (;;) {
		ssize_t n =
		    read(p->neighbour.out, p->burst_line + p->burst_used, sizeof(p->burst_line) - 1 - p->burst_used);
		char *end;

		if (n < 0)
			return PST_OK; /* nothing more now: the pipe does not block */
		if (n == 0)
			return fail(p, PST_E_CLOSED, "the neighbour's process ended before its time");
		p->burst_used += (size_t)n;
		p->burst_line[p->burst_used] = '\0';
		while ((end = strchr(p->burst_line, '\n')) != NULL) {
			*end = '\0';
			take_burst_line(p, p->burst_line);
			p->burst_used -= (size_t)(end + 1 - p->burst_line);
			memmove(p->burst_line, end + 1, p->burst_used + 1);
		}
		if (p->burst_used == sizeof(p->burst_line) - 1)
			p->burst_used = 0;
	}
}

/* ---- Cases ---- */

struct cpu_times {
	double total, idle, steal;
};

static struct cpu_times cpu_times(void)
{
	double v[8] = { 0 };
	FILE *f = fopen("/proc/stat", "re");
	struct cpu_times t = { 0 };

	if (f == NULL)
		return t;
	if (fscanf(f, "cpu %lf %lf %lf %lf %lf %lf %lf %lf", &v[0], &v[1], &v[2], &v[3], &v[4], &v[5], &v[6], &v[7]) ==
	    8) {
		for (size_t i = 0; i < 8; i++)
			t.total += v[i];
		t.idle = v[3] + v[4];
		t.steal = v[7];
	}
	fclose(f);
	return t;
}

static void add_figures(struct pst_feed_figures *sum, const struct pst_feed_figures *part)
{
	sum->records += part->records;
	sum->bytes += part->bytes;
	sum->bad_records += part->bad_records;
	sum->errors += part->errors;
	sum->batches += part->batches;
	sum->elapsed_ns += part->elapsed_ns;
	sum->idle_ns += part->idle_ns;
	pst_hist_merge(&sum->latency, &part->latency);
}

static void add_sample(struct proof *p, const char *name, const struct pst_feed_figures *f)
{
	double seconds = (double)f->elapsed_ns / 1e9;

	json_array_append_new(p->timeline, json_pack("{s:f s:s s:f s:f s:f}", "t", now_s() - p->begin_s, "case", name,
						     "victim_mb_s", (double)f->bytes / seconds / 1e6, "neighbour_mb_s",
						     p->neighbour_runs ? p->burst_mb_s : 0.0, "idle_fraction",
						     fmin(1, (double)f->idle_ns / (double)f->elapsed_ns)));
}

static void add_case(struct proof *p, const char *name, const struct pst_feed_figures *f, struct cpu_times before)
{
	struct cpu_times after = cpu_times();
	double seconds = (double)f->elapsed_ns / 1e9, total = fmax(after.total - before.total, 1);
	double neighbour = p->burst_samples > 0 ? p->burst_sum / p->burst_samples : 0;

	json_array_append_new(
	    p->cases,
	    json_pack("{s:s s:f s:f s:f s:f s:f s:f s:f s:f s:f s:I}", "case", name, "accelerator_idle_fraction",
		      fmin(1, (double)f->idle_ns / (double)f->elapsed_ns), "samples_per_s",
		      (double)f->batches * p->config->batch_records / seconds, "mb_s", (double)f->bytes / seconds / 1e6,
		      "p50_us", (double)pst_hist_percentile_ns(&f->latency, 0.5) / 1e3, "p95_us",
		      (double)pst_hist_percentile_ns(&f->latency, 0.95) / 1e3, "p99_us",
		      (double)pst_hist_percentile_ns(&f->latency, 0.99) / 1e3, "neighbour_mb_s", neighbour, "cpu_busy",
		      1 - (after.idle - before.idle) / total, "steal", (after.steal - before.steal) / total,
		      "bad_records", (json_int_t)f->bad_records));
}

/* One case: samples for the timeline, their sum for the case. */
static pst_err run_case(struct proof *p, const char *name, struct pst_feed *feed)
{
	static struct pst_feed_figures sum, part;
	struct cpu_times before = cpu_times();
	pst_err err = PST_OK;

	sum = (struct pst_feed_figures){ 0 };
	p->burst_sum = p->burst_samples = 0;
	progress(p, "%s, %.0f s", name, p->config->seconds);
	for (double end = now_s() + p->config->seconds; err == PST_OK && now_s() < end;) {
		pst_feed_run(feed, SAMPLE_S, &part);
		err = go_on(p);
		if (err == PST_OK && p->neighbour_runs)
			err = hear_neighbour(p);
		add_figures(&sum, &part);
		add_sample(p, name, &part);
	}
	if (err == PST_OK && sum.bad_records + sum.errors > 0)
		err = fail(p, PST_E_CHECKSUM, "case %s: %llu records were wrong and %llu reads failed", name,
			   (unsigned long long)sum.bad_records, (unsigned long long)sum.errors);
	add_case(p, name, &sum, before);
	return err;
}

static struct pst_feed_config feed_config(const struct proof *p, uint64_t batch_ns)
{
	return (struct pst_feed_config){ .layout = p->layout,
					 .depth = p->config->depth,
					 .batch_records = p->config->batch_records,
					 .batches_ahead = p->config->batches_ahead,
					 .batch_ns = batch_ns };
}

static pst_err calibrate(struct proof *p, struct pst_source *source)
{
	static struct pst_feed_figures f;
	struct pst_feed_config config = feed_config(p, 0);
	struct pst_feed *feed;
	pst_err err = pst_feed_new(source, &config, &feed);

	if (err != PST_OK)
		return err;
	progress(p, "calibrating the emulated accelerator, %.1f s", CALIBRATE_S);
	pst_feed_run(feed, CALIBRATE_S, &f);
	pst_feed_free(feed);
	if (f.records == 0)
		return fail(p, PST_E_IO, "volume %s gave no valid record in %.1f s", RECORDS, CALIBRATE_S);

	double demand = DEMAND * (double)f.records / ((double)f.elapsed_ns / 1e9);

	p->batch_ns = (uint64_t)(p->config->batch_records / demand * 1e9);
	p->demand_bytes_per_s = demand * (double)pst_record_stride(&p->layout);
	return PST_OK;
}

static pst_err local_case(struct proof *p)
{
	struct pst_feed_config config = feed_config(p, p->batch_ns);
	struct pst_source *source;
	struct pst_feed *feed;
	pst_err err = pst_source_open_file(p->local_path, &source);

	if (err != PST_OK)
		return fail(p, err, "%s: %s", p->local_path, pst_err_text(err));
	err = pst_feed_new(source, &config, &feed);
	if (err == PST_OK) {
		err = run_case(p, "local", feed);
		pst_feed_free(feed);
	}
	pst_source_close_file(source);
	return err;
}

/* `penstock tenant set` for both, while training and its neighbour run. */
static pst_err set_policies(struct proof *p)
{
	double reserve = p->demand_bytes_per_s * RESERVE_HEADROOM;
	double limit = fmax(16e6, p->neighbour_free_mb_s * 1e6 * NEIGHBOUR_SHARE);
	pst_err err;

	progress(p, "penstock tenant set %s --reserve %.0fMB/s; penstock tenant set %s --limit %.0fMB/s", TRAINING,
		 reserve / 1e6, NEIGHBOUR, limit / 1e6);
	err = call(p, "PATCH", "/v1/tenants/" TRAINING,
		   json_pack("{s:{s:I}}", "policy", "reserve_bytes_per_s", (json_int_t)reserve), NULL);
	if (err != PST_OK)
		return err;
	return call(p, "PATCH", "/v1/tenants/" NEIGHBOUR,
		    json_pack("{s:{s:I}}", "policy", "limit_bytes_per_s", (json_int_t)limit), NULL);
}

static pst_err volume_cases(struct proof *p, struct pst_source *source)
{
	static struct pst_feed_figures settle;
	struct pst_feed_config config = feed_config(p, p->batch_ns);
	struct pst_feed *feed;
	pst_err err = pst_feed_new(source, &config, &feed);

	if (err != PST_OK)
		return err;
	err = run_case(p, "alone", feed);
	if (err == PST_OK)
		err = start_neighbour(p);
	if (err == PST_OK) {
		pst_feed_run(feed, SETTLE_S, &settle);
		err = run_case(p, "neighbour", feed);
		p->neighbour_free_mb_s = p->burst_samples > 0 ? p->burst_sum / p->burst_samples : 0;
	}
	if (err == PST_OK)
		err = set_policies(p);
	if (err == PST_OK) {
		pst_feed_run(feed, SETTLE_S, &settle);
		err = run_case(p, "guarantee", feed);
	}
	pst_feed_free(feed);
	return err;
}

/* ---- The result ---- */

static double idle_of(const struct proof *p, size_t i)
{
	return json_number_value(json_object_get(json_array_get(p->cases, i), "accelerator_idle_fraction"));
}

static double figure_of(const struct proof *p, size_t i, const char *key)
{
	return json_number_value(json_object_get(json_array_get(p->cases, i), key));
}

/* What held the guarantee back, as far as it was measured. The network is loopback: it is CPU. */
static void tell_reason(const struct proof *p, char *text, size_t bytes)
{
	double cpu = figure_of(p, 3, "cpu_busy"), steal = figure_of(p, 3, "steal");

	if (steal > STEAL_MUCH)
		snprintf(text, bytes, "the machine's host took %.0f %% of the CPU away (steal)", steal * 100);
	else if (cpu > CPU_FULL)
		snprintf(text, bytes,
			 "with %.0f %% of the CPU busy, the node had not enough left for what was promised", cpu * 100);
	else
		snprintf(text, bytes,
			 "the CPU was %.0f %% busy and the network is this machine's own, which leaves the disk: its "
			 "reads took %.1f ms at p99",
			 cpu * 100, figure_of(p, 3, "p99_us") / 1e3);
}

/* What was shown, or why nothing was: in terms of what was measured. */
static void tell_verdict(const struct proof *p, char *text, size_t bytes)
{
	double alone = idle_of(p, 1), beside = idle_of(p, 2), guarded = idle_of(p, 3);
	char reason[240];

	tell_reason(p, reason, sizeof(reason));
	if (beside < alone + HURT)
		snprintf(text, bytes,
			 "The neighbour did not hurt on this machine: idle time changed by %+.1f points while it wrote "
			 "%.0f MB/s at %.0f %% CPU. There was room for both.",
			 (beside - alone) * 100, p->neighbour_free_mb_s, figure_of(p, 2, "cpu_busy") * 100);
	else if (guarded > beside - (beside - alone) / 2)
		snprintf(text, bytes,
			 "The neighbour cost %.1f points of accelerator time, and the guarantee gave only %.1f of them "
			 "back: %s.",
			 (beside - alone) * 100, (beside - guarded) * 100, reason);
	else
		snprintf(text, bytes,
			 "The neighbour cost %.1f points of accelerator time; the guarantee gave %.1f points back.",
			 (beside - alone) * 100, (beside - guarded) * 100);
	if (idle_of(p, 0) > HURT && strlen(text) < bytes)
		snprintf(text + strlen(text), bytes - strlen(text),
			 " Even the local disk left the accelerator idle for %.1f %% of the time: the disk, or other "
			 "work on this machine, took part in every case.",
			 idle_of(p, 0) * 100);
}

/* Are the records in memory? Then the volume's cases say nothing about a disk. */
static bool pool_in_memory(struct proof *p)
{
	struct pst_api_error error;
	json_t *pools = NULL, *volume = NULL, *pool;
	bool memory = false;
	size_t i;

	if (pst_api_call(p->config->api, "GET", "/v1/volumes/" RECORDS, NULL, &volume, &error) == PST_OK &&
	    pst_api_call(p->config->api, "GET", "/v1/pools", NULL, &pools, &error) == PST_OK) {
		const char *name = json_string_value(json_object_get(volume, "pool"));

		json_array_foreach(pools, i, pool)
		{
			const char *engine = json_string_value(json_object_get(pool, "engine"));
			const char *its_name = json_string_value(json_object_get(pool, "name"));

			if (engine != NULL && strcmp(engine, "ram") == 0 &&
			    (name == NULL || (its_name != NULL && strcmp(name, its_name) == 0)))
				memory = true;
		}
	}
	json_decref(pools);
	json_decref(volume);
	return memory;
}

static json_t *make_proof(struct proof *p)
{
	char verdict[600];

	tell_verdict(p, verdict, sizeof(verdict));
	return json_pack(
	    "{s:O s:O s:o s:s s:[s,s,s,s]}", "cases", p->cases, "timeline", p->timeline, "note",
	    json_sprintf("%u records of %u KB, each verified by CRC32C, read in random order by %u requests in "
			 "flight; batches of %u, %u gathered ahead. The emulated accelerator takes %.1f ms for a "
			 "batch: it needs %.0f MB/s, which is %.0f %% of what the volume gives alone. The neighbour "
			 "writes 1 MiB blocks, 32 at once, with a flush every 128 MiB.",
			 p->layout.record_count, p->layout.record_bytes / 1000, p->config->depth,
			 p->config->batch_records, p->config->batches_ahead, (double)p->batch_ns / 1e6,
			 p->demand_bytes_per_s / 1e6, DEMAND * 100),
	    "verdict", verdict, "labels",
	    "Emulated: the accelerator of the proof is a timed wait for each batch; its idle time is measured.",
	    p->in_memory
		? "Cache-served: the pool is in memory, so the volume's cases read RAM over NVMe/TCP, and only "
		  "the local case reads a disk (O_DIRECT)."
		: "Not cache-served: the local case reads with O_DIRECT; the volume is read over NVMe/TCP by a "
		  "host that caches nothing, from a pool opened with O_DIRECT where its file system can.",
	    "CPU-shared: training, its neighbour and the target share this machine's cores in the proof.",
	    "Loopback: the network of the proof is this machine's own.");
}

static pst_err prepare(struct proof *p)
{
	uint64_t bytes = pst_record_stride(&p->layout) * p->layout.record_count;
	pst_err err;

	remove_objects(p);
	err = make_volume(p, RECORDS, TRAINING, "dataset", bytes, &p->records);
	if (err == PST_OK)
		err = make_volume(p, BURST, NEIGHBOUR, "checkpoint", BURST_BYTES, &p->burst);
	if (err != PST_OK)
		return err;
	p->in_memory = pool_in_memory(p);
	progress(p, "writing %u records (%.0f MB) to the local disk", p->layout.record_count, (double)bytes / 1e6);
	err = fill_file(p);
	if (err == PST_OK) {
		progress(p, "writing the same records to volume %s", RECORDS);
		err = fill_volume(p);
	}
	return err;
}

static pst_err measure(struct proof *p)
{
	struct pst_source_volume_options volume = { p->records.host, p->records.port, p->records.nqn };
	struct pst_source *source;
	pst_err err = pst_source_open_volume(&volume, &source);

	if (err != PST_OK)
		return fail(p, err, "volume %s: %s", RECORDS, pst_err_text(err));
	err = calibrate(p, source);
	p->begin_s = now_s();
	if (err == PST_OK)
		err = local_case(p);
	if (err == PST_OK)
		err = volume_cases(p, source);
	pst_source_close_volume(source);
	return err;
}

pst_err pst_neighbour_run(const struct pst_neighbour_config *config, json_t **ret_proof, char *message,
			  size_t message_bytes)
{
	struct proof p = { .config = config,
			   .layout = { config->record_bytes, config->record_count, 1 },
			   .message = message,
			   .message_bytes = message_bytes,
			   .cases = json_array(),
			   .timeline = json_array() };
	pst_err err;

	snprintf(message, message_bytes, "out of memory");
	snprintf(p.local_path, sizeof(p.local_path), "%s/penstock-bench-%d", config->local_dir, (int)getpid());
	err = prepare(&p);
	if (err == PST_OK)
		err = measure(&p);
	if (p.neighbour_runs)
		pst_child_stop(&p.neighbour);
	unlink(p.local_path);
	remove_objects(&p);
	if (err == PST_OK)
		*ret_proof = make_proof(&p);
	json_decref(p.cases);
	json_decref(p.timeline);
	return err;
}

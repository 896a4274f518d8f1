/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Volumes and tenants have the same figures: a tenant is the sum of its volumes in service. Tables say which member of
 * struct pst_stats_volume is which metric.
 */
#include "control/stats.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define VOLUMES_PER_TURN 8u /* a volume's histograms are some 50 KiB to copy */

/* ---- Collecting, on the home shard ---- */

static pst_err collect_one(struct pst_stats *s, const struct pst_catalog_volume_info *info)
{
	struct pst_stats_volume *v;

	if (s->volume_count == s->volume_capacity) {
		size_t capacity = s->volume_capacity ? 2 * s->volume_capacity : 16;
		struct pst_stats_volume *grown = realloc(s->volumes, capacity * sizeof(*grown));

		if (grown == NULL)
			return PST_E_NOMEM;
		s->volumes = grown;
		s->volume_capacity = capacity;
	}
	v = &s->volumes[s->volume_count++];
	snprintf(v->name, sizeof(v->name), "%s", info->name);
	snprintf(v->tenant, sizeof(v->tenant), "%s", info->tenant);
	snprintf(v->profile, sizeof(v->profile), "%s", info->profile);
	snprintf(v->pool, sizeof(v->pool), "%s", info->pool);
	v->size_bytes = info->size_bytes;
	v->used_bytes = info->used_bytes;
	v->mapped_bytes = info->mapped_bytes;
	v->own_bytes = info->own_bytes;
	v->snapshot_bytes = info->snapshot_bytes;
	v->snapshots = info->snapshots;
	v->hosts = info->hosts;
	pst_subsystem_stats(info->subsystem, &v->io);
	pst_qos_flow_stats(info->flow, &v->qos);
	return PST_OK;
}

static void collect_site(struct pst_stats_op *op)
{
	struct pst_stats *s = &op->stats;
	struct pst_catalog_pool_info info;

	while (pst_catalog_pool_at(op->catalog, s->pool_count, &info)) {
		snprintf(s->pools[s->pool_count].name, sizeof(s->pools[0].name), "%s", info.name);
		s->pools[s->pool_count].engine = info.engine;
		s->pools[s->pool_count].stats = info.stats;
		for (uint32_t i = 0; i < info.task_count; i++) {
			struct pst_stats_task *t = &s->pools[s->pool_count].tasks[info.tasks[i].kind];

			t->running += info.tasks[i].running;
			t->done_bytes += info.tasks[i].done_bytes;
			t->total_bytes += info.tasks[i].total_bytes;
			t->errors += info.tasks[i].errors;
		}
		s->pool_count++;
	}
	pst_catalog_event_counts(op->catalog, s->events);
}

static void collect_rest(struct pst_stats_op *op)
{
	struct pst_stats *s = &op->stats;

	s->site = op->tenant == NULL;
	if (s->site)
		collect_site(op);
	s->now_ns = pst_env_now_ns(op->env);
	s->wall_ns = pst_env_wall_ns(op->env);
}

static void collect_turn(struct pst_post *post)
{
	struct pst_stats_op *op = pst_container_of(post, struct pst_stats_op, post);
	struct pst_catalog_volume_info info;

	for (unsigned i = 0; i < VOLUMES_PER_TURN; i++) {
		if (!pst_catalog_next_volume(op->catalog, op->after, &info)) {
			collect_rest(op);
			op->done(op);
			return;
		}
		if (op->tenant == NULL || strcmp(op->tenant, info.tenant) == 0)
			op->err = collect_one(&op->stats, &info);
		if (op->err != PST_OK) {
			op->done(op);
			return;
		}
		snprintf(op->after, sizeof(op->after), "%s", info.name);
	}
	pst_env_post(op->env, &op->post);
}

static void refreshed(struct pst_catalog_op *refresh)
{
	struct pst_stats_op *op = pst_container_of(refresh, struct pst_stats_op, refresh);

	op->post.fn = collect_turn;
	pst_env_post(op->env, &op->post);
}

static void refresh_turn(struct pst_post *post)
{
	struct pst_stats_op *op = pst_container_of(post, struct pst_stats_op, post);

	op->refresh = (struct pst_catalog_op){ .kind = PST_CATALOG_REFRESH, .object = PST_CATALOG_VOLUME };
	op->refresh.done = refreshed;
	pst_catalog_submit(op->catalog, &op->refresh);
}

void pst_stats_collect(struct pst_stats_op *op)
{
	op->err = PST_OK;
	op->stats = (struct pst_stats){ 0 };
	op->after[0] = '\0';
	op->post.fn = refresh_turn;
	pst_env_post(op->env, &op->post);
}

void pst_stats_done(struct pst_stats *stats)
{
	free(stats->volumes);
	*stats = (struct pst_stats){ 0 };
}

/* ---- Tenants ---- */

static void add_io(struct pst_subsystem_stats *to, const struct pst_subsystem_stats *from)
{
	for (unsigned i = 0; i < 4; i++) {
		pst_hist_merge(&to->latency[i], &from->latency[i]);
		to->ops[i] += from->ops[i];
		to->errors[i] += from->errors[i];
	}
	pst_hist_merge(&to->wait_qos, &from->wait_qos);
	pst_hist_merge(&to->wait_device, &from->wait_device);
	to->media_errors += from->media_errors;
	to->bytes_read += from->bytes_read;
	to->bytes_written += from->bytes_written;
	to->socket_bytes_received += from->socket_bytes_received;
	to->socket_bytes_sent += from->socket_bytes_sent;
	to->retransmits += from->retransmits;
}

static void add_qos(struct pst_qos_stats *to, const struct pst_qos_stats *from)
{
	to->admitted_ops += from->admitted_ops;
	to->admitted_bytes += from->admitted_bytes;
	to->throttled_ops += from->throttled_ops;
	to->throttled_ns += from->throttled_ns;
	to->waiting_ops += from->waiting_ops;
}

/* One entry per tenant that has volumes in service, named like it; malloced. */
static struct pst_stats_volume *tenants_of(const struct pst_stats *s, size_t *ret_count)
{
	struct pst_stats_volume *list = calloc(s->volume_count + 1, sizeof(*list));
	size_t count = 0;

	for (size_t i = 0; list != NULL && i < s->volume_count; i++) {
		const struct pst_stats_volume *v = &s->volumes[i];
		size_t t = 0;

		while (t < count && strcmp(list[t].name, v->tenant) != 0)
			t++;
		if (t == count)
			memcpy(list[count++].name, v->tenant, sizeof(v->tenant));
		list[t].size_bytes += v->size_bytes;
		list[t].used_bytes += v->used_bytes;
		list[t].mapped_bytes += v->mapped_bytes;
		list[t].own_bytes += v->own_bytes;
		list[t].snapshot_bytes += v->snapshot_bytes;
		list[t].snapshots += v->snapshots;
		list[t].hosts += v->hosts;
		add_io(&list[t].io, &v->io);
		add_qos(&list[t].qos, &v->qos);
	}
	*ret_count = count;
	return list;
}

/* ---- Tables ---- */

#define AT(member) offsetof(struct pst_stats_volume, member)

struct metric {
	const char *name, *type, *help;
	const char *label; /* beside volume or tenant; NULL: none */
	size_t at;
	double scale; /* 0: a whole number */
};

/* Metrics of the same name stand together, as the format demands. */
static const struct metric metrics[] = {
	{ "operations_total", "counter", "Completed commands", "op=\"read\"", AT(io.ops[0]) },
	{ "operations_total", "counter", "", "op=\"write\"", AT(io.ops[1]) },
	{ "operations_total", "counter", "", "op=\"flush\"", AT(io.ops[2]) },
	{ "operations_total", "counter", "", "op=\"other\"", AT(io.ops[3]) },
	{ "errors_total", "counter", "Commands that failed", "op=\"read\"", AT(io.errors[0]) },
	{ "errors_total", "counter", "", "op=\"write\"", AT(io.errors[1]) },
	{ "errors_total", "counter", "", "op=\"flush\"", AT(io.errors[2]) },
	{ "errors_total", "counter", "", "op=\"other\"", AT(io.errors[3]) },
	{ "media_errors_total", "counter", "Commands that failed with a media error", NULL, AT(io.media_errors) },
	{ "bytes_total", "counter", "Payload of completed commands", "direction=\"read\"", AT(io.bytes_read) },
	{ "bytes_total", "counter", "", "direction=\"write\"", AT(io.bytes_written) },
	{ "socket_bytes_total", "counter", "TCP payload as the kernel counts it", "direction=\"received\"",
	  AT(io.socket_bytes_received) },
	{ "socket_bytes_total", "counter", "", "direction=\"sent\"", AT(io.socket_bytes_sent) },
	{ "retransmits_total", "counter", "TCP segments sent again", NULL, AT(io.retransmits) },
	{ "throttled_operations_total", "counter", "Commands that waited for admission", NULL, AT(qos.throttled_ops) },
	{ "throttled_seconds_total", "counter", "Time commands waited for admission", NULL, AT(qos.throttled_ns),
	  1e-9 },
	{ "waiting_operations", "gauge", "Commands that wait for admission now", NULL, AT(qos.waiting_ops) },
	{ "hosts", "gauge", "Connected controllers", NULL, AT(hosts) },
	{ "size_bytes", "gauge", "Provisioned size", NULL, AT(size_bytes) },
	{ "used_bytes", "gauge", "Charged on the pool, with snapshots", NULL, AT(used_bytes) },
	{ "mapped_bytes", "gauge", "With data, shared or not", NULL, AT(mapped_bytes) },
	{ "own_bytes", "gauge", "Charged without snapshots", NULL, AT(own_bytes) },
	{ "snapshot_bytes", "gauge", "Charged to snapshots", NULL, AT(snapshot_bytes) },
	{ "snapshots", "gauge", "Snapshots", NULL, AT(snapshots) },
};

static const struct metric hists[] = {
	{ "latency_seconds", "histogram", "Arrival of a command to its last byte handed to the socket", "op=\"read\"",
	  AT(io.latency[0]) },
	{ "latency_seconds", "histogram", "", "op=\"write\"", AT(io.latency[1]) },
	{ "latency_seconds", "histogram", "", "op=\"flush\"", AT(io.latency[2]) },
	{ "latency_seconds", "histogram", "", "op=\"other\"", AT(io.latency[3]) },
	{ "qos_wait_seconds", "histogram", "Part of the latency spent waiting for admission", NULL, AT(io.wait_qos) },
	{ "device_wait_seconds", "histogram", "Part of the latency spent in the pool", NULL, AT(io.wait_device) },
};

static const uint64_t bounds_ns[] = {
	50000,    100000,   250000,    500000,    1000000,   2500000,    5000000,    10000000,
	25000000, 50000000, 100000000, 250000000, 500000000, 1000000000, 2500000000, 10000000000,
};

static uint64_t value_at(const struct pst_stats_volume *v, size_t at)
{
	uint64_t value;

	memcpy(&value, (const char *)v + at, sizeof(value));
	return value;
}

static const struct pst_hist *hist_at(const struct pst_stats_volume *v, size_t at)
{
	return (const struct pst_hist *)(const void *)((const char *)v + at);
}

/* ---- Prometheus text ---- */

struct rows {
	const char *what; /* "volume", "tenant" */
	const struct pst_stats_volume *list;
	size_t count;
};

/* Names are of a set that needs no escaping (pst_name_ok). */
static void labels(char *buf, size_t bytes, const struct rows *rows, const struct pst_stats_volume *v, const char *more)
{
	int n = snprintf(buf, bytes, "%s=\"%s\"", rows->what, v->name);

	if (v->tenant[0] != '\0')
		n += snprintf(buf + n, bytes - (size_t)n, ",tenant=\"%s\"", v->tenant);
	if (more != NULL)
		snprintf(buf + n, bytes - (size_t)n, ",%s", more);
}

static void write_head(FILE *f, const struct rows *rows, const struct metric *m)
{
	if (m->help[0] != '\0')
		fprintf(f, "# HELP penstock_%s_%s %s, by %s.\n# TYPE penstock_%s_%s %s\n", rows->what, m->name, m->help,
			rows->what, rows->what, m->name, m->type);
}

static void write_metric(FILE *f, const struct rows *rows, const struct metric *m)
{
	char text[256];

	write_head(f, rows, m);
	for (size_t i = 0; i < rows->count; i++) {
		uint64_t value = value_at(&rows->list[i], m->at);

		labels(text, sizeof(text), rows, &rows->list[i], m->label);
		if (m->scale != 0)
			fprintf(f, "penstock_%s_%s{%s} %.9f\n", rows->what, m->name, text, (double)value * m->scale);
		else
			fprintf(f, "penstock_%s_%s{%s} %" PRIu64 "\n", rows->what, m->name, text, value);
	}
}

static void write_hist(FILE *f, const struct rows *rows, const struct metric *m)
{
	char text[256];

	write_head(f, rows, m);
	for (size_t i = 0; i < rows->count; i++) {
		const struct pst_hist *h = hist_at(&rows->list[i], m->at);

		labels(text, sizeof(text), rows, &rows->list[i], m->label);
		for (size_t b = 0; b < PST_ARRAY_COUNT(bounds_ns); b++)
			fprintf(f, "penstock_%s_%s_bucket{%s,le=\"%g\"} %" PRIu64 "\n", rows->what, m->name, text,
				(double)bounds_ns[b] * 1e-9, pst_hist_count_le(h, bounds_ns[b]));
		fprintf(f, "penstock_%s_%s_bucket{%s,le=\"+Inf\"} %" PRIu64 "\n", rows->what, m->name, text, h->count);
		fprintf(f, "penstock_%s_%s_sum{%s} %.9f\n", rows->what, m->name, text, (double)h->sum_ns * 1e-9);
		fprintf(f, "penstock_%s_%s_count{%s} %" PRIu64 "\n", rows->what, m->name, text, h->count);
	}
}

static const struct {
	const char *name, *type, *help;
	size_t at;
} pool_metrics[] = {
	{ "size_bytes", "gauge", "Size of the pool", offsetof(struct pst_pool_stats, size_bytes) },
	{ "used_bytes", "gauge", "Space in use", offsetof(struct pst_pool_stats, used_bytes) },
	{ "free_bytes", "gauge", "Space left", offsetof(struct pst_pool_stats, free_bytes) },
	{ "reserved_bytes", "gauge", "Promised to volumes, not used by them yet",
	  offsetof(struct pst_pool_stats, reserved_bytes) },
	{ "metadata_cache_bytes", "gauge", "Memory that holds metadata",
	  offsetof(struct pst_pool_stats, metadata_cache_bytes) },
	{ "device_read_bytes_total", "counter", "Read from the device",
	  offsetof(struct pst_pool_stats, device_read_bytes) },
	{ "device_written_bytes_total", "counter", "Written to the device",
	  offsetof(struct pst_pool_stats, device_written_bytes) },
	{ "device_flushes_total", "counter", "Flushes of the device", offsetof(struct pst_pool_stats, device_flushes) },
	{ "checksum_errors_total", "counter", "Blocks that failed their checksum",
	  offsetof(struct pst_pool_stats, checksum_errors) },
	{ "bad_blocks", "gauge", "Blocks known to be bad and not overwritten since, in each version that holds them",
	  offsetof(struct pst_pool_stats, bad_blocks) },
};

static void write_pools(FILE *f, const struct pst_stats *s)
{
	for (size_t m = 0; m < PST_ARRAY_COUNT(pool_metrics); m++) {
		fprintf(f, "# HELP penstock_pool_%s %s.\n# TYPE penstock_pool_%s %s\n", pool_metrics[m].name,
			pool_metrics[m].help, pool_metrics[m].name, pool_metrics[m].type);
		for (unsigned i = 0; i < s->pool_count; i++) {
			uint64_t value;

			memcpy(&value, (const char *)&s->pools[i].stats + pool_metrics[m].at, sizeof(value));
			fprintf(f, "penstock_pool_%s{pool=\"%s\",engine=\"%s\"} %" PRIu64 "\n", pool_metrics[m].name,
				s->pools[i].name, s->pools[i].engine, value);
		}
	}
}

static const struct {
	const char *name, *type, *help;
	size_t at;
} task_metrics[] = {
	{ "running", "gauge", "Tasks that run", offsetof(struct pst_stats_task, running) },
	{ "done_bytes", "gauge", "How far they are", offsetof(struct pst_stats_task, done_bytes) },
	{ "total_bytes", "gauge", "How far they will get, as far as known",
	  offsetof(struct pst_stats_task, total_bytes) },
	{ "errors", "gauge", "Bad blocks found", offsetof(struct pst_stats_task, errors) },
};

static void write_tasks(FILE *f, const struct pst_stats *s)
{
	for (size_t m = 0; m < PST_ARRAY_COUNT(task_metrics); m++) {
		fprintf(f, "# HELP penstock_pool_task_%s %s, by kind of task.\n# TYPE penstock_pool_task_%s %s\n",
			task_metrics[m].name, task_metrics[m].help, task_metrics[m].name, task_metrics[m].type);
		for (unsigned i = 0; i < s->pool_count * PST_TASK_KINDS; i++) {
			unsigned pool = i / PST_TASK_KINDS, kind = i % PST_TASK_KINDS;
			uint64_t value;

			memcpy(&value, (const char *)&s->pools[pool].tasks[kind] + task_metrics[m].at, sizeof(value));
			fprintf(f, "penstock_pool_task_%s{pool=\"%s\",task=\"%s\"} %" PRIu64 "\n", task_metrics[m].name,
				s->pools[pool].name, pst_catalog_task_names[kind], value);
		}
	}
}

static void write_events(FILE *f, const struct pst_stats *s)
{
	static const char *const levels[] = { "error", "warn", "info", "debug" };

	fprintf(f, "# HELP penstock_events_total Events of pools, by level.\n# TYPE penstock_events_total counter\n");
	for (unsigned i = 0; i < PST_ARRAY_COUNT(levels); i++)
		fprintf(f, "penstock_events_total{level=\"%s\"} %" PRIu64 "\n", levels[i], s->events[i]);
}

char *pst_stats_prometheus(const struct pst_stats *s, const char *version, const char *io)
{
	size_t tenant_count, bytes;
	struct pst_stats_volume *tenants = tenants_of(s, &tenant_count);
	const struct rows all[] = { { "volume", s->volumes, s->volume_count }, { "tenant", tenants, tenant_count } };
	char *text = NULL;
	FILE *f = tenants != NULL ? open_memstream(&text, &bytes) : NULL;

	if (f == NULL) {
		free(tenants);
		return NULL;
	}
	fprintf(f, "# HELP penstock_build_info Version and environment; always 1.\n# TYPE penstock_build_info gauge\n");
	fprintf(f, "penstock_build_info{version=\"%s\",io=\"%s\"} 1\n", version, io);
	if (s->site) {
		write_pools(f, s);
		write_tasks(f, s);
		write_events(f, s);
	}
	for (size_t r = 0; r < PST_ARRAY_COUNT(all); r++) {
		for (size_t m = 0; m < PST_ARRAY_COUNT(metrics); m++)
			write_metric(f, &all[r], &metrics[m]);
		for (size_t m = 0; m < PST_ARRAY_COUNT(hists); m++)
			write_hist(f, &all[r], &hists[m]);
	}
	free(tenants);
	if (fclose(f) != 0) {
		free(text);
		return NULL;
	}
	return text;
}

/* ---- JSON ---- */

static json_t *hist_json(const struct pst_hist *h)
{
	json_t *buckets = json_array();

	for (unsigned b = 0; b < PST_HIST_BUCKETS; b++)
		if (h->bucket[b] != 0)
			json_array_append_new(buckets, json_pack("[I, I]", (json_int_t)pst_hist_bucket_limit_ns(b),
								 (json_int_t)h->bucket[b]));
	return json_pack("{s:I s:I s:I s:o}", "count", (json_int_t)h->count, "sum_ns", (json_int_t)h->sum_ns, "max_ns",
			 (json_int_t)h->max_ns, "buckets", buckets);
}

static json_t *four_json(const uint64_t n[4])
{
	return json_pack("{s:I s:I s:I s:I}", "read", (json_int_t)n[0], "write", (json_int_t)n[1], "flush",
			 (json_int_t)n[2], "other", (json_int_t)n[3]);
}

static json_t *row_json(const struct pst_stats_volume *v)
{
	const struct pst_subsystem_stats *s = &v->io;

	return json_pack(
	    "{s:s s:I s:I s:I s:I s:I s:I s:I s:o s:o s:I s:I s:I s:I s:I s:{s:I s:I s:I} s:{s:o s:o s:o s:o} s:o s:o}",
	    "name", v->name, "size_bytes", (json_int_t)v->size_bytes, "used_bytes", (json_int_t)v->used_bytes,
	    "mapped_bytes", (json_int_t)v->mapped_bytes, "own_bytes", (json_int_t)v->own_bytes, "snapshot_bytes",
	    (json_int_t)v->snapshot_bytes, "snapshots", (json_int_t)v->snapshots, "hosts", (json_int_t)v->hosts, "ops",
	    four_json(s->ops), "errors", four_json(s->errors), "bytes_read", (json_int_t)s->bytes_read, "bytes_written",
	    (json_int_t)s->bytes_written, "socket_bytes_received", (json_int_t)s->socket_bytes_received,
	    "socket_bytes_sent", (json_int_t)s->socket_bytes_sent, "retransmits", (json_int_t)s->retransmits,
	    "throttled", "ops", (json_int_t)v->qos.throttled_ops, "ns", (json_int_t)v->qos.throttled_ns, "waiting",
	    (json_int_t)v->qos.waiting_ops, "latency", "read", hist_json(&s->latency[0]), "write",
	    hist_json(&s->latency[1]), "flush", hist_json(&s->latency[2]), "other", hist_json(&s->latency[3]),
	    "qos_wait", hist_json(&s->wait_qos), "device_wait", hist_json(&s->wait_device));
}

static json_t *pools_json(const struct pst_stats *s)
{
	json_t *list = json_array();

	for (unsigned i = 0; i < s->pool_count; i++) {
		const struct pst_pool_stats *p = &s->pools[i].stats;

		json_array_append_new(
		    list, json_pack("{s:s s:s s:I s:I s:I s:I s:I s:I s:I s:I s:I}", "name", s->pools[i].name, "engine",
				    s->pools[i].engine, "size_bytes", (json_int_t)p->size_bytes, "used_bytes",
				    (json_int_t)p->used_bytes, "free_bytes", (json_int_t)p->free_bytes,
				    "metadata_cache_bytes", (json_int_t)p->metadata_cache_bytes, "device_read_bytes",
				    (json_int_t)p->device_read_bytes, "device_written_bytes",
				    (json_int_t)p->device_written_bytes, "device_flushes",
				    (json_int_t)p->device_flushes, "checksum_errors", (json_int_t)p->checksum_errors,
				    "bad_blocks", (json_int_t)p->bad_blocks));
	}
	return list;
}

json_t *pst_stats_json(const struct pst_stats *s)
{
	size_t tenant_count;
	struct pst_stats_volume *sums = tenants_of(s, &tenant_count);
	json_t *volumes = json_array(), *tenants = json_array();

	for (size_t i = 0; i < s->volume_count; i++) {
		json_t *row = row_json(&s->volumes[i]);

		json_object_set_new(row, "tenant", json_string(s->volumes[i].tenant));
		json_object_set_new(row, "profile", json_string(s->volumes[i].profile));
		json_object_set_new(row, "pool", json_string(s->volumes[i].pool));
		json_array_append_new(volumes, row);
	}
	for (size_t i = 0; sums != NULL && i < tenant_count; i++)
		json_array_append_new(tenants, row_json(&sums[i]));
	free(sums);
	return json_pack("{s:I s:I s:o s:o s:o}", "monotonic_ns", (json_int_t)s->now_ns, "wall_ns",
			 (json_int_t)s->wall_ns, "volumes", volumes, "tenants", tenants, "pools", pools_json(s));
}

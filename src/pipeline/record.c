/* SPDX-License-Identifier: Apache-2.0 */
/* The run record, run.json (docs/pipeline.md describes it field by field): written whole, then renamed into place. */
#include "pipeline/runner.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static json_t *kind_json(const struct use_figures *f, size_t k, enum pst_request_kind kind, double seconds)
{
	double n = f->requests[kind] > 0 ? (double)f->requests[kind] : 1;

	return json_pack("{s:f, s:f, s:f, s:f}", "p50_us", f->weighted_us[k][0] / n, "p95_us", f->weighted_us[k][1] / n,
			 "p99_us", f->weighted_us[k][2] / n, "iops",
			 seconds > 0 ? (double)f->requests[kind] / seconds : 0.0);
}

static json_t *use_json(struct runner *r, struct run_step *s, struct run_use *u)
{
	const struct use_figures *f = &u->figures;
	struct run_volume *v = &r->volumes[u->volume];
	double n = f->all_requests > 0 ? (double)f->all_requests : 1, seconds = s->ended - s->started;
	json_t *json = json_pack(
	    "{s:s, s:s, s:s, s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:f, s:f, s:f}", "name", v->spec->name,
	    "profile", v->spec->profile, "volume", v->name, "uuid", v->uuid, "mode", u->rw ? "rw" : "ro", "bytes_read",
	    (json_int_t)f->bytes_read, "bytes_written", (json_int_t)f->bytes_written, "reads",
	    (json_int_t)f->requests[PST_REQUEST_READ], "writes", (json_int_t)f->requests[PST_REQUEST_WRITE], "flushes",
	    (json_int_t)f->requests[PST_REQUEST_FLUSH], "write_zeroes",
	    (json_int_t)f->requests[PST_REQUEST_WRITE_ZEROES], "discards", (json_int_t)f->requests[PST_REQUEST_DISCARD],
	    "p50_us", f->all_us[0] / n, "p95_us", f->all_us[1] / n, "p99_us", f->all_us[2] / n);

	if (v->spec->source != SIZE_MAX) {
		json_object_set_new(json, "version", json_string(v->version));
		json_object_set_new(json, "version_uuid", json_string(v->version_uuid));
	}
	json_object_set_new(json, "read", kind_json(f, 0, PST_REQUEST_READ, seconds));
	json_object_set_new(json, "write", kind_json(f, 1, PST_REQUEST_WRITE, seconds));
	json_object_set_new(json, "flush", kind_json(f, 2, PST_REQUEST_FLUSH, seconds));
	return json;
}

static json_t *step_json(struct runner *r, struct run_step *s)
{
	json_t *volumes = json_array();

	for (size_t i = 0; i < s->spec->uses_count; i++)
		json_array_append_new(volumes, use_json(r, s, &s->uses[i]));
	json_t *json = json_pack("{s:s, s:s, s:f, s:O, s:o, s:O, s:i}", "name", s->spec->name, "status",
				 status_name(s->status), "seconds", s->ended - s->started, "attempts", s->attempts,
				 "volumes", volumes, "outputs", s->outputs, "cpus", s->cpus);
	json_object_set_new(json, "started", json_real(r->started_wall + (s->started - r->started)));
	json_object_set_new(json, "logs", s->log_path != NULL ? json_string(s->log_path) : json_null());
	json_object_set_new(json, "events_file", s->events_path != NULL ? json_string(s->events_path) : json_null());
	json_object_set_new(json, "key", json_string(s->key));
	if (s->status == STATUS_FAILED)
		json_object_set_new(json, "error", json_string(s->error));
	return json;
}

static bool write_file(struct runner *r, json_t *json)
{
	char *path = NULL, *temporary = NULL;
	bool ok = asprintf(&path, "%s/run.json", r->record) >= 0 &&
		  asprintf(&temporary, "%s/.run.json", r->record) >= 0 &&
		  json_dump_file(json, temporary, JSON_INDENT(1)) == 0 && rename(temporary, path) == 0;

	int why = errno;
	if (!ok)
		fprintf(stderr, "penstock: the run record %s can't be written: %s\n", path, strerror(why));
	else if (r->options->json)
		(void)!json_dumpf(json, stdout, JSON_INDENT(1));
	if (ok && r->options->json)
		putchar('\n');
	if (!ok && temporary != NULL)
		(void)unlink(temporary);
	free(path);
	free(temporary);
	errno = why; /* the caller's exit code depends on it */
	return ok;
}

bool record_write(struct runner *r, json_t *accounting)
{
	json_t *steps = json_array();

	for (size_t i = 0; i < r->pipeline->step_count; i++)
		json_array_append_new(steps, step_json(r, &r->steps[i]));
	json_t *json = json_pack("{s:i, s:s, s:s, s:f, s:f, s:s, s:s, s:s, s:s, s:o, s:O, s:O, s:o}", "format", 1,
				 "pipeline", r->pipeline->name, "run_id", r->run_id, "started", r->started_wall,
				 "ended", r->ended_wall, "command", r->options->command, "file", r->options->file,
				 "mount_path", pst_mount_path_name(r->path), "mount_reason", r->path_reason, "steps",
				 steps, "events", r->events, "timeline", r->timeline, "accounting", accounting);
	json_object_set_new(json, "daemon",
			    json_pack("{s:s, s:s, s:b, s:s, s:i, s:i}", "io", r->daemon.io, "listen", r->daemon.listen,
				      "own", r->daemon.own, "api", r->daemon.api, "pid", r->daemon.pid, "restarts",
				      r->daemon.restarts));
	json_object_set_new(json, "versions", versions_json(r));
	json_object_set_new(json, "environment", environment_json());
	json_object_set_new(json, "interrupted", json_boolean(r->cancelling));
	reserve_release(r);
	bool ok = write_file(r, json);
	json_decref(json);
	return ok;
}

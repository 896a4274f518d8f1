/* SPDX-License-Identifier: Apache-2.0 */
/* report.json: steps, training and rollout as they follow from the run record's steps and events. */
#include "pipeline/report.h"

#include "base/units.h"

#include <math.h>
#include <string.h>

static const char *text_of(json_t *object, const char *key)
{
	const char *text = json_string_value(json_object_get(object, key));

	return text != NULL ? text : "";
}

/* NAN when it is not there. */
static double number_of(json_t *object, const char *key)
{
	json_t *value = json_object_get(object, key);

	return json_is_number(value) ? json_number_value(value) : NAN;
}

/* Numbers that were not measured become null. */
static void set_number(json_t *object, const char *key, double value)
{
	json_object_set_new(object, key, isfinite(value) ? json_real(value) : json_null());
}

static void copy(json_t *to, json_t *from, const char *key)
{
	json_t *value = json_object_get(from, key);

	json_object_set(to, key, value != NULL ? value : json_null());
}

/* ---- Steps ---- */

static json_t *report_volume(json_t *volume, double seconds)
{
	static const char *const keys[] = { "name",   "profile", "bytes_read", "bytes_written", "reads",
					    "writes", "flushes", "p50_us",     "p95_us",        "p99_us" };
	json_t *v = json_object();
	double requests = number_of(volume, "reads") + number_of(volume, "writes") + number_of(volume, "flushes");

	for (size_t i = 0; i < PST_ARRAY_COUNT(keys); i++)
		copy(v, volume, keys[i]);
	if (json_object_get(volume, "version") != NULL)
		copy(v, volume, "version");
	set_number(v, "iops", seconds > 0 ? requests / seconds : NAN);
	return v;
}

static json_t *report_steps(json_t *run)
{
	json_t *steps = json_array(), *step, *volume;
	size_t i, k;

	json_array_foreach(json_object_get(run, "steps"), i, step)
	{
		json_t *s = json_object(), *volumes = json_array();
		json_t *attempts = json_object_get(step, "attempts");

		copy(s, step, "name");
		copy(s, step, "status");
		copy(s, step, "seconds");
		copy(s, step, "error");
		json_object_set_new(s, "attempts", json_integer((json_int_t)json_array_size(attempts)));
		json_array_foreach(json_object_get(step, "volumes"), k, volume)
		    json_array_append_new(volumes, report_volume(volume, number_of(step, "seconds")));
		json_object_set_new(s, "volumes", volumes);
		json_object_set(s, "times", json_is_array(attempts) ? attempts : json_null());
		json_array_append_new(steps, s);
	}
	return steps;
}

static json_t *find_step(json_t *run, const char *name)
{
	json_t *step;
	size_t i;

	json_array_foreach(json_object_get(run, "steps"), i,
			   step) if (strcmp(text_of(step, "name"), name) == 0) return step;
	return NULL;
}

/* ---- Training ---- */

struct training {
	double samples, bytes, step_seconds, data_wait, first_step_after_kill;
	double peak_bytes_per_s;
	json_t *checkpoints;
};

static void count_training_event(struct training *t, json_t *event, double killed_at)
{
	const char *kind = text_of(event, "event");
	double seconds = number_of(event, "seconds");

	if (strcmp(kind, "train_step") == 0 && isfinite(seconds)) {
		double at = number_of(event, "t");

		t->step_seconds += seconds;
		t->samples += fmax(number_of(event, "samples"), 0);
		t->bytes += fmax(number_of(event, "bytes"), 0);
		t->data_wait += fmax(number_of(event, "data_wait_s"), 0);
		if (at > killed_at && !isfinite(t->first_step_after_kill))
			t->first_step_after_kill = at;
	} else if (strcmp(kind, "checkpoint_end") == 0 && isfinite(seconds)) {
		json_array_append_new(t->checkpoints, json_real(seconds));
		if (seconds > 0)
			t->peak_bytes_per_s = fmax(t->peak_bytes_per_s, number_of(event, "bytes") / seconds);
	}
}

/* When the first attempt of a step ended by a signal; NAN if none did. */
static double killed_at(json_t *step)
{
	json_t *attempt;
	size_t i;

	json_array_foreach(json_object_get(step, "attempts"), i,
			   attempt) if (json_integer_value(json_object_get(attempt, "signal")) !=
					0) return number_of(attempt, "ended");
	return NAN;
}

static json_t *result_of(json_t *run, const char *stage)
{
	json_t *event, *found = NULL;
	size_t i;

	json_array_foreach(json_object_get(run, "events"), i,
			   event) if (strcmp(text_of(event, "event"), "result") == 0 &&
				      strcmp(text_of(event, "stage"), stage) == 0) found = event;
	return found;
}

static const char *link_name(json_t *run)
{
	const char *listen = json_string_value(json_object_get(json_object_get(run, "daemon"), "listen"));

	if (listen == NULL || listen[0] == '\0')
		return "not known: a daemon that the run did not start";
	if (strncmp(listen, "127.", 4) == 0 || strncmp(listen, "[::1]", 5) == 0)
		return "loopback, no link";
	return listen;
}

static json_t *report_training(json_t *run)
{
	json_t *step = find_step(run, "train"), *training = json_object(), *event;
	struct training t = { .first_step_after_kill = NAN, .checkpoints = json_array() };
	double killed = killed_at(step), busy;
	size_t i;

	json_array_foreach(json_object_get(run, "events"), i, event) if (strcmp(text_of(event, "step"), "train") == 0)
	    count_training_event(&t, event, killed);
	busy = t.step_seconds > 0 ? t.step_seconds : NAN;
	set_number(training, "dataset_read_mb_s", t.bytes / busy / 1e6);
	set_number(training, "samples_per_s", t.samples / busy);
	set_number(training, "accelerator_idle_fraction", t.data_wait / busy);
	set_number(training, "restart_recovery_s", t.first_step_after_kill - killed);
	set_number(training, "checkpoint_peak_mb_s", t.peak_bytes_per_s > 0 ? t.peak_bytes_per_s / 1e6 : NAN);
	set_number(training, "test_accuracy", number_of(result_of(run, "evaluate"), "accuracy"));
	json_object_set_new(training, "checkpoint_write_s", t.checkpoints);
	json_object_set_new(training, "link", json_string(link_name(run)));
	return training;
}

/* ---- Versions: what was read, what was trained on it, what that cost ---- */

static json_t *find_version(json_t *run, const char *uuid)
{
	json_t *version;
	size_t i;

	json_array_foreach(json_object_get(run, "versions"), i,
			   version) if (strcmp(text_of(version, "uuid"), uuid) == 0) return version;
	return NULL;
}

/* "Its clone train-data cost no copy: 0 B of 57 MiB are its own." */
static void add_clone(json_t *sentences, json_t *version)
{
	json_t *clone;
	size_t i;

	json_array_foreach(json_object_get(version, "clones"), i, clone)
	{
		double own = number_of(clone, "own_bytes"), mapped = number_of(clone, "mapped_bytes");
		char own_text[16], mapped_text[16];

		if (!isfinite(own) || !isfinite(mapped))
			continue;
		pst_format_size((uint64_t)own, own_text);
		pst_format_size((uint64_t)mapped, mapped_text);
		json_array_append_new(sentences,
				      json_sprintf("Volume %s is a clone of %s%s: %s of its %s are its own.",
						   text_of(clone, "name"), text_of(version, "name"),
						   own == 0 ? " and cost no copy" : "", own_text, mapped_text));
	}
}

/* What was trained on which version, by what the runner attached to the step, not by what the step says of itself. */
static json_t *report_lineage(json_t *run)
{
	json_t *sentences = json_array(), *registered = result_of(run, "register"), *volume, *version;
	json_t *again = result_of(run, "recheck"), *one;
	size_t i;

	json_array_foreach(json_object_get(find_step(run, "train"), "volumes"), i, volume)
	{
		const char *name = text_of(volume, "version"), *uuid = text_of(volume, "version_uuid");

		if (name[0] == '\0')
			continue;
		if (registered != NULL)
			json_array_append_new(sentences, json_sprintf("Model %s %s was trained on %s (%s).",
								      text_of(registered, "model"),
								      text_of(registered, "version"), name, uuid));
		else
			json_array_append_new(sentences, json_sprintf("Step train read %s (%s).", name, uuid));
		if ((version = find_version(run, uuid)) != NULL)
			add_clone(sentences, version);
	}
	json_array_foreach(json_object_get(again, "versions"), i, one)
	{
		double accuracy = number_of(one, "accuracy");

		if (isfinite(accuracy))
			json_array_append_new(
			    sentences,
			    json_sprintf("Scored again when the volume had changed: accuracy %.4f on "
					 "%s%s.",
					 accuracy, text_of(one, "version"),
					 json_is_true(json_object_get(one, "as_registered")) ? ", as registered" : ""));
	}
	return sentences;
}

/* ---- Rollout ---- */

static void copy_result(json_t *to, const char *key, json_t *result)
{
	json_object_set(to, key, result != NULL ? result : json_null());
}

static json_t *report_rollout(json_t *run)
{
	json_t *rollout = json_object();

	copy_result(rollout, "batch", result_of(run, "rollout_batch"));
	copy_result(rollout, "realtime", result_of(run, "rollout_realtime"));
	return rollout;
}

/* ---- Proof and summary ---- */

static double idle_of(json_t *proof, const char *name)
{
	json_t *c;
	size_t i;

	json_array_foreach(proof, i, c) if (strcmp(text_of(c, "case"), name) ==
					    0) return number_of(c, "accelerator_idle_fraction");
	return NAN;
}

static json_t *report_summary(json_t *proof, double cost_per_hour)
{
	double alone = idle_of(proof, "alone"), beside = idle_of(proof, "neighbour");
	double guarded = idle_of(proof, "guarantee");
	char sentence[400] = "The neighbour proof was not run: storage's share of accelerator time is not known.";
	char money[200] = "";

	if (isfinite(alone) && isfinite(beside) && isfinite(guarded)) {
		snprintf(
		    sentence, sizeof(sentence),
		    "Storage took %.1f %% of accelerator time alone, %.1f %% beside a noisy neighbour, and %.1f %% "
		    "with a guarantee.",
		    alone * 100, beside * 100, guarded * 100);
		if (cost_per_hour > 0)
			snprintf(money, sizeof(money),
				 " At %.2f an hour per accelerator that is %.2f, %.2f and %.2f lost in each hour.",
				 cost_per_hour, alone * cost_per_hour, beside * cost_per_hour, guarded * cost_per_hour);
		strncat(sentence, money, sizeof(sentence) - strlen(sentence) - 1);
	}
	return json_pack("{s:s s:s s:f}", "sentence", sentence, "note",
			 cost_per_hour > 0
			     ? "Measured with an emulated accelerator."
			     : "Measured with an emulated accelerator; with PENSTOCK_ACCELERATOR_COST (per "
			       "hour) set, the loss is told in money too.",
			 "cost_per_hour", cost_per_hour);
}

/* ---- Accounting: |difference| after the stated overheads, as a share of the host's bytes ---- */

static json_t *report_accounting(json_t *run)
{
	json_t *accounting = json_object(), *volume;
	const char *name;

	json_object_foreach(json_object_get(run, "accounting"), name, volume)
	{
		json_t *v = json_deep_copy(volume);
		double host = number_of(v, "host_bytes"), target = number_of(v, "target_bytes");
		double socket = number_of(v, "socket_bytes"), overhead = number_of(v, "overhead_bytes");
		double difference = isfinite(target) ? fabs(target - host) : NAN;

		if (isfinite(socket) && isfinite(overhead))
			difference = fmax(difference, fabs(socket - overhead - host)); /* of a NAN: the other */
		if (json_object_get(v, "difference") == NULL)
			set_number(v, "difference", host > 0 ? difference / host : NAN);
		json_object_set_new(accounting, name, v);
	}
	return accounting;
}

/* The machine as the record has it, and how the run reached its volumes. */
static json_t *report_environment(json_t *run)
{
	json_t *environment = json_object(), *daemon = json_object_get(run, "daemon");

	json_object_update(environment, json_object_get(run, "environment"));
	copy(environment, daemon, "io");
	copy(environment, daemon, "listen");
	copy(environment, run, "mount_path");
	return environment;
}

static json_t *report_labels(json_t *run, json_t *proof)
{
	json_t *labels = json_array(), *label;
	const char *path = text_of(run, "mount_path");
	size_t i;

	json_array_append_new(labels, json_string("CPU-shared: host, target, training and neighbour run on the same "
						  "cores, so each takes CPU from the others."));
	json_array_append_new(labels,
			      json_sprintf("Volumes were reached by: %s (%s).", path, text_of(run, "mount_reason")));
	if (strcmp(path, "staged") == 0)
		json_array_append_new(labels, json_string("Cache-served: on the staged path steps read local copies; "
							  "the volume's latencies are those of staging in and "
							  "out."));
	json_array_foreach(json_object_get(run, "labels"), i, label) json_array_append(labels, label);
	json_array_foreach(json_object_get(proof, "labels"), i, label) json_array_append(labels, label);
	return labels;
}

json_t *pst_report_make(json_t *run, json_t *proof, double cost_per_hour, char *message, size_t message_bytes)
{
	static const char *const keys[] = { "pipeline", "run_id", "started", "ended", "command", "daemon", "timeline" };
	json_t *report, *cases = json_object_get(proof, "cases");

	if (!json_is_string(json_object_get(run, "run_id")) || !json_is_array(json_object_get(run, "steps"))) {
		snprintf(message, message_bytes, "it is not a run record: run_id or steps is missing");
		return NULL;
	}
	report = json_object();
	for (size_t i = 0; i < PST_ARRAY_COUNT(keys); i++)
		copy(report, run, keys[i]);
	json_object_set_new(report, "steps", report_steps(run));
	json_object_set_new(report, "training", report_training(run));
	json_object_set_new(report, "rollout", report_rollout(run));
	json_object_set_new(report, "lineage", report_lineage(run));
	if (json_is_array(json_object_get(run, "versions")))
		copy(report, run, "versions");
	else
		json_object_set_new(report, "versions", json_array());
	copy_result(report, "evaluation", result_of(run, "evaluate"));
	if (cases != NULL)
		json_object_set(report, "proof", cases);
	else
		json_object_set_new(report, "proof", json_array());
	json_object_set(report, "proof_details", proof != NULL ? proof : json_null());
	json_object_set_new(report, "summary", report_summary(cases, cost_per_hour));
	json_object_set_new(report, "accounting", report_accounting(run));
	json_object_set_new(report, "environment", report_environment(run));
	json_object_set_new(report, "labels", report_labels(run, proof));
	return report;
}

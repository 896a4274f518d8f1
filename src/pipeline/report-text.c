/* SPDX-License-Identifier: Apache-2.0 */
/* The report in a terminal: the sentence, the steps, training and rollout, the proof. */
#include "pipeline/report.h"

#include "base/units.h"

#include <libsmartcols.h>
#include <math.h>
#include <string.h>

static const char *text_of(json_t *object, const char *key)
{
	const char *text = json_string_value(json_object_get(object, key));

	return text != NULL ? text : "-";
}

static struct libscols_table *new_table(FILE *to, const char *const *heads)
{
	struct libscols_table *t = scols_new_table();

	if (t == NULL)
		return NULL;
	scols_table_set_stream(t, to);
	for (size_t i = 0; heads[i] != NULL; i++)
		scols_table_new_column(t, heads[i], 0, i == 0 ? 0 : SCOLS_FL_RIGHT);
	return t;
}

static void print_table(struct libscols_table *t)
{
	if (t == NULL)
		return;
	scols_print_table(t);
	scols_unref_table(t);
}

/* "-" for what is not a number. */
static void set_number(struct libscols_line *line, size_t column, json_t *value, double scale, const char *format)
{
	char text[40] = "-";

	if (json_is_number(value)) {
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
		snprintf(text, sizeof(text), format, json_number_value(value) * scale);
#pragma GCC diagnostic pop
	}
	scols_line_set_data(line, column, text);
}

static void set_size(struct libscols_line *line, size_t column, json_t *value)
{
	char text[16] = "-";

	if (json_is_number(value))
		pst_format_size((uint64_t)json_number_value(value), text);
	scols_line_set_data(line, column, text);
}

static void print_steps(json_t *report, FILE *to)
{
	static const char *const heads[] = { "STEP", "STATUS", "SECONDS", "VOLUME", "READ", "WRITTEN",
					     "IOPS", "P50 us", "P95 us",  "P99 us", NULL };
	struct libscols_table *t = new_table(to, heads);
	json_t *step, *v;
	size_t i, k;

	json_array_foreach(json_object_get(report, "steps"), i, step)
	{
		json_t *volumes = json_object_get(step, "volumes");
		size_t rows = PST_MAX(json_array_size(volumes), (size_t)1);

		for (k = 0; t != NULL && k < rows; k++) {
			struct libscols_line *line = scols_table_new_line(t, NULL);

			v = json_array_get(volumes, k);
			scols_line_set_data(line, 0, k == 0 ? text_of(step, "name") : "");
			scols_line_set_data(line, 1, k == 0 ? text_of(step, "status") : "");
			if (k == 0)
				set_number(line, 2, json_object_get(step, "seconds"), 1, "%.1f");
			scols_line_set_data(line, 3, text_of(v, "name"));
			set_size(line, 4, json_object_get(v, "bytes_read"));
			set_size(line, 5, json_object_get(v, "bytes_written"));
			set_number(line, 6, json_object_get(v, "iops"), 1, "%.0f");
			set_number(line, 7, json_object_get(v, "p50_us"), 1, "%.0f");
			set_number(line, 8, json_object_get(v, "p95_us"), 1, "%.0f");
			set_number(line, 9, json_object_get(v, "p99_us"), 1, "%.0f");
		}
	}
	print_table(t);
	json_array_foreach(json_object_get(report, "steps"), i, step)
	{
		if (json_is_string(json_object_get(step, "error")))
			fprintf(to, "%s failed: %s\n", text_of(step, "name"), text_of(step, "error"));
	}
}

static void print_value(FILE *to, const char *label, json_t *object, const char *key, double scale, const char *unit)
{
	json_t *value = json_object_get(object, key);

	if (json_is_number(value))
		fprintf(to, "  %-38s %.4g%s\n", label, json_number_value(value) * scale, unit);
	else
		fprintf(to, "  %-38s not measured\n", label);
}

static void print_training(json_t *report, FILE *to)
{
	json_t *t = json_object_get(report, "training"), *rollout = json_object_get(report, "rollout");
	json_t *batch = json_object_get(rollout, "batch"), *realtime = json_object_get(rollout, "realtime");

	fputs("\nTraining\n", to);
	print_value(to, "test accuracy", t, "test_accuracy", 1, "");
	print_value(to, "samples/s", t, "samples_per_s", 1, "");
	print_value(to, "dataset read rate", t, "dataset_read_mb_s", 1, " MB/s");
	print_value(to, "accelerator idle (waiting for data)", t, "accelerator_idle_fraction", 100, " %");
	print_value(to, "restart recovery (kill to first step)", t, "restart_recovery_s", 1, " s");
	fprintf(to, "  %-38s %zu\n", "checkpoints written", json_array_size(json_object_get(t, "checkpoint_write_s")));
	fputs("Rollout\n", to);
	print_value(to, "batch predictions/s", batch, "predictions_per_s", 1, "");
	print_value(to, "real-time requests/s", realtime, "requests_per_s", 1, "");
	print_value(to, "real-time p50", realtime, "p50_ms", 1, " ms");
	print_value(to, "real-time p99", realtime, "p99_ms", 1, " ms");
}

/* Names in one cell. */
static void set_names(struct libscols_line *line, size_t column, json_t *names, const char *key)
{
	char text[240] = "";
	json_t *one;
	size_t i;

	json_array_foreach(names, i, one)
	{
		const char *name = key != NULL ? text_of(one, key) : json_string_value(one);

		if (i > 0)
			strncat(text, ", ", sizeof(text) - strlen(text) - 1);
		strncat(text, name != NULL ? name : "-", sizeof(text) - strlen(text) - 1);
	}
	scols_line_set_data(line, column, text[0] != '\0' ? text : "-");
}

static void print_versions(json_t *report, FILE *to)
{
	static const char *const heads[] = { "VERSION", "STATUS",      "BY",      "MAPPED", "OWN",
					     "CLONES",  "CLONE'S OWN", "READ BY", NULL };
	json_t *versions = json_object_get(report, "versions"), *v, *sentence;
	struct libscols_table *t;
	size_t i;

	if (json_array_size(versions) == 0)
		return;
	fputs("\nVersions of data\n", to);
	t = new_table(to, heads);
	if (t != NULL)
		scols_column_set_flags(scols_table_get_column(t, 7), 0); /* words, to the left */
	json_array_foreach(versions, i, v)
	{
		struct libscols_line *line = t != NULL ? scols_table_new_line(t, NULL) : NULL;
		json_t *clones = json_object_get(v, "clones");

		if (line == NULL)
			continue;
		scols_line_set_data(line, 0, text_of(v, "name"));
		scols_line_set_data(line, 1, text_of(v, "status"));
		scols_line_set_data(line, 2, text_of(v, "step"));
		set_size(line, 3, json_object_get(v, "mapped_bytes"));
		set_size(line, 4, json_object_get(v, "own_bytes"));
		set_names(line, 5, clones, "name");
		set_size(line, 6, json_object_get(json_array_get(clones, 0), "own_bytes"));
		set_names(line, 7, json_object_get(v, "read_by"), NULL);
	}
	print_table(t);
	json_array_foreach(json_object_get(report, "lineage"), i, sentence)
	    fprintf(to, "%s\n", json_string_value(sentence));
}

static void print_proof(json_t *report, FILE *to)
{
	static const char *const heads[] = { "CASE",   "IDLE %",         "SAMPLES/s", "READ MB/s",
					     "P99 us", "NEIGHBOUR MB/s", NULL };
	struct libscols_table *t;
	json_t *c;
	size_t i;

	if (json_array_size(json_object_get(report, "proof")) == 0)
		return;
	fputs("\nA neighbour, and a guarantee (emulated accelerator)\n", to);
	t = new_table(to, heads);
	json_array_foreach(json_object_get(report, "proof"), i, c)
	{
		struct libscols_line *line = t != NULL ? scols_table_new_line(t, NULL) : NULL;

		if (line == NULL)
			continue;
		scols_line_set_data(line, 0, text_of(c, "case"));
		set_number(line, 1, json_object_get(c, "accelerator_idle_fraction"), 100, "%.1f");
		set_number(line, 2, json_object_get(c, "samples_per_s"), 1, "%.0f");
		set_number(line, 3, json_object_get(c, "mb_s"), 1, "%.0f");
		set_number(line, 4, json_object_get(c, "p99_us"), 1, "%.0f");
		if (json_number_value(json_object_get(c, "neighbour_mb_s")) > 0)
			set_number(line, 5, json_object_get(c, "neighbour_mb_s"), 1, "%.0f");
		else
			scols_line_set_data(line, 5, "-");
	}
	print_table(t);
	if (json_is_string(json_object_get(json_object_get(report, "proof_details"), "verdict")))
		fprintf(to, "%s\n", text_of(json_object_get(report, "proof_details"), "verdict"));
}

void pst_report_print(json_t *report, FILE *to)
{
	fprintf(to, "\n%s\n%s\n\n", text_of(json_object_get(report, "summary"), "sentence"),
		text_of(json_object_get(report, "summary"), "note"));
	print_steps(report, to);
	print_training(report, to);
	print_versions(report, to);
	print_proof(report, to);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* The model's life, its errors as people read them, and the checks that need this machine. */
#include "pipeline/pipeline.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static void paths_free(struct pst_pipeline_path *list, size_t count)
{
	for (size_t i = 0; i < count; i++)
		free(list[i].path);
	free(list);
}

static void step_done(struct pst_pipeline_step *step)
{
	free(step->name);
	for (size_t i = 0; step->command != NULL && step->command[i] != NULL; i++)
		free(step->command[i]);
	free(step->command);
	free(step->needs);
	free(step->uses);
	paths_free(step->inputs, step->inputs_count);
	paths_free(step->outputs, step->outputs_count);
	for (size_t i = 0; i < step->env_count; i++) {
		free(step->env[i].name);
		free(step->env[i].value);
	}
	free(step->env);
	for (size_t i = 0; i < step->pins_count; i++)
		free(step->pins[i].version);
	free(step->pins);
}

void pst_pipeline_free(struct pst_pipeline *pipeline)
{
	if (pipeline == NULL)
		return;
	for (size_t i = 0; i < pipeline->volume_count; i++) {
		free(pipeline->volumes[i].name);
		free(pipeline->volumes[i].profile);
		free(pipeline->volumes[i].fs);
		free(pipeline->volumes[i].version);
	}
	free(pipeline->volumes);
	for (size_t i = 0; i < pipeline->step_count; i++)
		step_done(&pipeline->steps[i]);
	free(pipeline->steps);
	free(pipeline->name);
	free(pipeline);
}

bool pst_pipeline_needs(const struct pst_pipeline *pipeline, size_t index, size_t other)
{
	const struct pst_pipeline_step *step = &pipeline->steps[index];
	bool seen[PST_PIPELINE_STEPS_MAX] = { false };
	size_t todo[PST_PIPELINE_STEPS_MAX], count = 0;

	for (;;) {
		for (size_t i = 0; i < step->needs_count; i++)
			if (!seen[step->needs[i]]) {
				seen[step->needs[i]] = true;
				todo[count++] = step->needs[i];
			}
		if (seen[other] || count == 0)
			return seen[other];
		step = &pipeline->steps[todo[--count]];
	}
}

void pst_pipeline_errors_add(struct pst_pipeline_errors *errors, struct pst_place at, const char *fmt, ...)
{
	va_list ap;

	errors->count++;
	if (errors->list == NULL)
		errors->list = calloc(PST_PIPELINE_ERRORS_MAX, sizeof(*errors->list));
	if (errors->list == NULL || errors->count > PST_PIPELINE_ERRORS_MAX)
		return;
	struct pst_pipeline_error *e = &errors->list[errors->count - 1];
	e->at = at;
	va_start(ap, fmt);
	vsnprintf(e->message, sizeof(e->message), fmt, ap);
	va_end(ap);
}

void pst_pipeline_errors_done(struct pst_pipeline_errors *errors)
{
	free(errors->list);
	*errors = (struct pst_pipeline_errors){ 0 };
}

static int by_place(const void *a, const void *b)
{
	const struct pst_pipeline_error *x = a, *y = b;

	if (x->at.line != y->at.line)
		return x->at.line < y->at.line ? -1 : 1;
	return x->at.column < y->at.column ? -1 : x->at.column > y->at.column;
}

/* The source line with a caret below; tabs stay, so that the caret stands where the eye expects it. */
static void print_source(struct pst_place at, const char *text, size_t len_bytes, FILE *out)
{
	const char *line = text, *end = text + len_bytes;

	for (unsigned i = 1; i < at.line && line != NULL; i++) {
		line = memchr(line, '\n', (size_t)(end - line));
		if (line != NULL)
			line++;
	}
	if (line == NULL || line >= end)
		return;
	const char *stop = memchr(line, '\n', (size_t)(end - line));
	int len = (int)PST_MIN((stop != NULL ? stop : end) - line, 160);
	fprintf(out, "%5u | %.*s\n      | ", at.line, len, line);
	for (unsigned i = 1; i < at.column && i <= (unsigned)len; i++)
		fputc(line[i - 1] == '\t' ? '\t' : ' ', out);
	fputc('^', out);
	for (unsigned i = 1; i < at.width && at.column + i <= (unsigned)len; i++)
		fputc('~', out);
	fputc('\n', out);
}

void pst_pipeline_errors_print(struct pst_pipeline_errors *errors, const char *file, const char *text, size_t len_bytes,
			       FILE *out)
{
	size_t kept = PST_MIN(errors->count, (size_t)PST_PIPELINE_ERRORS_MAX);

	if (errors->list == NULL)
		return;
	qsort(errors->list, kept, sizeof(*errors->list), by_place);
	for (size_t i = 0; i < kept; i++) {
		const struct pst_pipeline_error *e = &errors->list[i];

		fprintf(out, "%s:%u:%u: error: %s\n", file, e->at.line, e->at.column, e->message);
		print_source(e->at, text, len_bytes, out);
	}
	if (errors->count > kept)
		fprintf(out, "%s: %zu more errors\n", file, errors->count - kept);
}

static char *join(const char *dir, size_t dir_len, const char *name)
{
	char *path = NULL;

	if (asprintf(&path, "%.*s/%s", (int)dir_len, dir, name) < 0)
		return NULL;
	return path;
}

static bool runnable(const char *path)
{
	struct stat st;

	return path != NULL && access(path, X_OK) == 0 && stat(path, &st) == 0 && S_ISREG(st.st_mode);
}

char *pst_pipeline_find_command(const char *command, const char *dir)
{
	if (strchr(command, '/') != NULL) {
		char *path = command[0] == '/' ? strdup(command) : join(dir, strlen(dir), command);

		if (runnable(path))
			return path;
		free(path);
		return NULL;
	}
	const char *at = getenv("PATH");
	for (at = at != NULL ? at : "/usr/bin:/bin"; *at != '\0';) {
		size_t len = strcspn(at, ":");
		char *path = len > 0 ? join(at, len, command) : join(".", 1, command);

		if (runnable(path))
			return path;
		free(path);
		at += len + (at[len] == ':');
	}
	return NULL;
}

pst_err pst_pipeline_check(const struct pst_pipeline *pipeline, const char *dir, struct pst_pipeline_errors *errors)
{
	for (size_t i = 0; i < pipeline->step_count; i++) {
		const struct pst_pipeline_step *step = &pipeline->steps[i];
		char *found = pst_pipeline_find_command(step->command[0], dir);

		if (found == NULL)
			pst_pipeline_errors_add(
			    errors, step->command_at, "step '%s': command '%s' %s", step->name, step->command[0],
			    strchr(step->command[0], '/') != NULL ? "is not there, or not executable"
								  : "is not found in PATH");
		free(found);
		for (size_t k = 0; k < step->inputs_count; k++) {
			const struct pst_pipeline_path *in = &step->inputs[k];
			char *path = in->volume != SIZE_MAX ? NULL
				     : in->path[0] == '/'   ? strdup(in->path)
							    : join(dir, strlen(dir), in->path);

			if (path != NULL && access(path, R_OK) != 0)
				pst_pipeline_errors_add(errors, in->at, "step '%s': input '%s' can't be read",
							step->name, in->path);
			free(path);
		}
	}
	return errors->count > 0 ? PST_E_INVAL : PST_OK;
}

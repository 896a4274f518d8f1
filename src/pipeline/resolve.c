/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From names to indexes: the second half of parsing (parse.h). A name may stand before what it names; so all names are
 * known here. Cycles are looked for when all else is right.
 */
#include "pipeline/parse.h"

#include <stdlib.h>
#include <string.h>

void *parse_grow(void *array_ptr, size_t *count, size_t item_bytes, size_t max)
{
	void **array = array_ptr;

	if (*count >= max)
		return NULL;
	char *bigger = realloc(*array, (*count + 1) * item_bytes);
	if (bigger == NULL)
		return NULL;
	*array = bigger;
	char *item = bigger + *count * item_bytes;
	memset(item, 0, item_bytes);
	*count += 1;
	return item;
}

/* ---- names to indexes ---- */

static size_t find_step(const struct pst_pipeline *p, const char *name)
{
	for (size_t i = 0; i < p->step_count; i++)
		if (p->steps[i].name != NULL && strcmp(p->steps[i].name, name) == 0)
			return i;
	return SIZE_MAX;
}

static size_t find_volume(const struct pst_pipeline *p, const char *name)
{
	for (size_t i = 0; i < p->volume_count; i++)
		if (strcmp(p->volumes[i].name, name) == 0)
			return i;
	return SIZE_MAX;
}

static void unknown_name(struct pst_yaml *y, const struct pst_pipeline *p, const struct ref *ref, bool volume)
{
	const char *names[PST_PIPELINE_STEPS_MAX + 1] = { NULL };
	size_t count = 0;

	for (size_t i = 0; i < (volume ? p->volume_count : p->step_count); i++) {
		const char *name = volume ? p->volumes[i].name : p->steps[i].name;

		if (name != NULL)
			names[count++] = name;
	}
	const char *near = pst_yaml_nearest(ref->name, names);
	const char *kind = volume ? "volume" : "step";
	if (near != NULL)
		pst_pipeline_errors_add(y->errors, ref->at, "unknown %s '%s'; did you mean '%s'?", kind, ref->name,
					near);
	else
		pst_pipeline_errors_add(y->errors, ref->at, "unknown %s '%s'", kind, ref->name);
}

static void resolve_needs(struct pst_yaml *y, struct draft *d, size_t index)
{
	struct pst_pipeline_step *step = &d->pipeline->steps[index];
	struct refs *refs = &d->steps[index].needs;

	for (size_t i = 0; i < refs->count; i++) {
		size_t need = find_step(d->pipeline, refs->list[i].name);
		size_t *slot;

		if (need == SIZE_MAX)
			unknown_name(y, d->pipeline, &refs->list[i], false);
		else if ((slot = parse_grow(&step->needs, &step->needs_count, sizeof(*slot), PARSE_LIST_MAX)) != NULL)
			*slot = need;
	}
}

static void resolve_uses(struct pst_yaml *y, struct draft *d, size_t index)
{
	struct pst_pipeline_step *step = &d->pipeline->steps[index];
	struct refs *refs = &d->steps[index].uses;

	for (size_t i = 0; i < refs->count; i++) {
		size_t volume = find_volume(d->pipeline, refs->list[i].name);
		struct pst_pipeline_use *use;

		if (volume == SIZE_MAX)
			unknown_name(y, d->pipeline, &refs->list[i], true);
		else if ((use = parse_grow(&step->uses, &step->uses_count, sizeof(*use), PARSE_LIST_MAX)) != NULL)
			*use = (struct pst_pipeline_use){ volume, refs->list[i].rw };
	}
}

static bool uses_volume(const struct pst_pipeline_step *step, size_t volume, bool rw)
{
	for (size_t i = 0; i < step->uses_count; i++)
		if (step->uses[i].volume == volume && (step->uses[i].rw || !rw))
			return true;
	return false;
}

/* "VOLUME:/PATH", or a file beside the pipeline file (which an output can't be). */
static void resolve_path(struct pst_yaml *y, struct draft *d, size_t index, struct ref *ref, bool output)
{
	struct pst_pipeline_step *step = &d->pipeline->steps[index];
	char *colon = strstr(ref->name, ":/");
	size_t volume = SIZE_MAX;
	const char *path = ref->name;

	if (colon != NULL) {
		*colon = '\0';
		path = colon + 1;
		volume = find_volume(d->pipeline, ref->name);
		if (volume == SIZE_MAX) {
			unknown_name(y, d->pipeline, ref, true);
			return;
		}
		if (!uses_volume(step, volume, output)) {
			pst_pipeline_errors_add(y->errors, ref->at,
						"%s on volume '%s', which this step does not mount%s",
						output ? "output" : "input", ref->name, output ? " rw" : "");
			return;
		}
	} else if (output) {
		pst_pipeline_errors_add(y->errors, ref->at, "output '%s' is not on a volume: write it as VOLUME:/PATH",
					ref->name);
		return;
	}
	if (strstr(path, "..") != NULL) {
		pst_pipeline_errors_add(y->errors, ref->at, "'..' in '%s': paths go down only", path);
		return;
	}
	struct pst_pipeline_path *slot =
	    output ? parse_grow(&step->outputs, &step->outputs_count, sizeof(*slot), PARSE_LIST_MAX)
		   : parse_grow(&step->inputs, &step->inputs_count, sizeof(*slot), PARSE_LIST_MAX);
	if (slot != NULL)
		*slot = (struct pst_pipeline_path){ volume, strdup(path), ref->at };
}

static void duplicates(struct pst_yaml *y, const struct pst_pipeline *p, size_t index)
{
	const char *name = p->steps[index].name;

	if (name != NULL && find_step(p, name) < index)
		pst_pipeline_errors_add(y->errors, p->steps[index].at, "step '%s' exists already, in line %u", name,
					p->steps[find_step(p, name)].at.line);
}

/* ---- cycles ---- */

struct visit {
	const struct pst_pipeline *pipeline;
	uint8_t state[PST_PIPELINE_STEPS_MAX]; /* 0 new, 1 on the path, 2 done */
	size_t path[PST_PIPELINE_STEPS_MAX];
	size_t depth;
};

static void report_cycle(struct pst_yaml *y, struct visit *v, size_t again)
{
	char text[240] = "";
	size_t first = 0;

	while (v->path[first] != again)
		first++;
	for (size_t i = first; i <= v->depth; i++) {
		size_t step = i < v->depth ? v->path[i] : again;
		size_t used = strlen(text);

		snprintf(text + used, sizeof(text) - used, "%s%s", i > first ? " -> " : "",
			 v->pipeline->steps[step].name);
	}
	pst_pipeline_errors_add(y->errors, v->pipeline->steps[again].at, "steps need each other in a circle: %s", text);
}

/* Depth is bounded by PST_PIPELINE_STEPS_MAX. */
static void visit_step(struct pst_yaml *y, struct visit *v, size_t index)
{
	const struct pst_pipeline_step *step = &v->pipeline->steps[index];

	if (v->state[index] == 2)
		return;
	if (v->state[index] == 1) {
		report_cycle(y, v, index);
		return;
	}
	v->state[index] = 1;
	v->path[v->depth++] = index;
	for (size_t i = 0; i < step->needs_count; i++)
		visit_step(y, v, step->needs[i]);
	v->depth--;
	v->state[index] = 2;
}

static void find_cycles(struct pst_yaml *y, const struct pst_pipeline *p)
{
	struct visit v = { .pipeline = p };

	for (size_t i = 0; i < p->step_count; i++)
		visit_step(y, &v, i);
}
/* ---- all of it ---- */

void parse_resolve(struct pst_yaml *y, struct draft *d)
{
	for (size_t i = 0; i < d->pipeline->step_count; i++) {
		duplicates(y, d->pipeline, i);
		resolve_needs(y, d, i);
		resolve_uses(y, d, i);
		for (size_t k = 0; k < d->steps[i].inputs.count; k++)
			resolve_path(y, d, i, &d->steps[i].inputs.list[k], false);
		for (size_t k = 0; k < d->steps[i].outputs.count; k++)
			resolve_path(y, d, i, &d->steps[i].outputs.list[k], true);
	}
	if (y->errors->count == 0)
		find_cycles(y, d->pipeline);
}

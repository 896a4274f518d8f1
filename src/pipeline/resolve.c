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

/*
 * The volume of "VOLUME:/..." or, for "VOLUME@NAME:/...", the clone of that version that the step mounts. SIZE_MAX with
 * an error.
 */
static size_t path_volume(struct pst_yaml *y, struct draft *d, size_t index, struct ref *ref)
{
	const struct pst_pipeline *p = d->pipeline;
	const struct pst_pipeline_step *step = &p->steps[index];
	char *at = strchr(ref->name, '@');

	if (at == NULL) {
		size_t volume = find_volume(p, ref->name);

		if (volume == SIZE_MAX)
			unknown_name(y, p, ref, true);
		return volume;
	}
	for (size_t i = 0; i < step->uses_count; i++) {
		const struct pst_pipeline_volume *v = &p->volumes[step->uses[i].volume];

		if (v->source == SIZE_MAX || strcmp(v->version, at + 1) != 0 ||
		    strncmp(p->volumes[v->source].name, ref->name, (size_t)(at - ref->name)) != 0 ||
		    p->volumes[v->source].name[at - ref->name] != '\0')
			continue;
		if (v->writer == SIZE_MAX)
			return step->uses[i].volume;
		pst_pipeline_errors_add(y->errors, ref->at,
					"'%s' is not what volume '%s' holds, since a step writes it: use '%s:/...'",
					ref->name, v->name, v->name);
		return SIZE_MAX;
	}
	pst_pipeline_errors_add(y->errors, ref->at, "input on '%s', of which this step mounts no clone", ref->name);
	return SIZE_MAX;
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
		if (output && strchr(ref->name, '@') != NULL) {
			pst_pipeline_errors_add(y->errors, ref->at, "output on '%s': versions never change", ref->name);
			return;
		}
		volume = path_volume(y, d, index, ref);
		if (volume == SIZE_MAX)
			return;
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
/* ---- versions ---- */

static void resolve_clone(struct pst_yaml *y, struct draft *d, size_t index)
{
	struct pst_pipeline *p = d->pipeline;
	struct pst_pipeline_volume *volume = &p->volumes[index];
	struct ref *ref = &d->clones.list[index];
	char *at = strchr(ref->name, '@');

	if (at == NULL || !parse_name_ok(at + 1, true) || strcmp(at + 1, PST_PIPELINE_AUTO) == 0) {
		pst_pipeline_errors_add(y->errors, ref->at,
					"'%s' names no version: write VOLUME@SNAPSHOT, or VOLUME@latest for the newest",
					ref->name);
		return;
	}
	volume->version = strdup(at + 1);
	*at = '\0';
	size_t source = find_volume(p, ref->name);
	if (source == SIZE_MAX) {
		unknown_name(y, p, ref, true);
	} else if (d->clones.list[source].name != NULL) {
		pst_pipeline_errors_add(y->errors, ref->at, "volume '%s' is a clone itself: take its version '%s'",
					ref->name, d->clones.list[source].name);
	} else {
		volume->source = source;
		volume->size_bytes = p->volumes[source].size_bytes;
		if (p->volumes[source].fs != NULL)
			volume->fs = strdup(p->volumes[source].fs);
		if (volume->profile == NULL && p->volumes[source].profile != NULL)
			volume->profile = strdup(p->volumes[source].profile);
	}
}

/* A second writer would find what the first one made of it, or not, depending on what was cached. */
static void find_writers(struct pst_yaml *y, struct draft *d)
{
	struct pst_pipeline *p = d->pipeline;

	for (size_t i = 0; i < p->step_count; i++)
		for (size_t k = 0; k < p->steps[i].uses_count; k++) {
			struct pst_pipeline_volume *v = &p->volumes[p->steps[i].uses[k].volume];

			if (!p->steps[i].uses[k].rw || v->source == SIZE_MAX)
				continue;
			if (v->writer != SIZE_MAX && v->writer != i)
				pst_pipeline_errors_add(y->errors, p->steps[i].at,
							"step '%s' writes clone '%s', as step '%s' does: give it a "
							"clone of its own",
							p->steps[i].name, v->name, p->steps[v->writer].name);
			else
				v->writer = i;
		}
}

static void resolve_pin(struct pst_yaml *y, struct draft *d, size_t index, struct ref *ref)
{
	struct pst_pipeline *p = d->pipeline;
	struct pst_pipeline_step *step = &p->steps[index];
	size_t volume = find_volume(p, ref->name);
	struct pst_pipeline_pin *pin;

	if (volume == SIZE_MAX) {
		unknown_name(y, p, ref, true);
		return;
	}
	if (!uses_volume(step, volume, false))
		pst_pipeline_errors_add(y->errors, ref->at, "snapshot of volume '%s', which this step does not mount",
					ref->name);
	else if (d->clones.list[volume].name != NULL)
		pst_pipeline_errors_add(
		    y->errors, ref->at,
		    "snapshot of '%s', which is a clone and made anew when its step runs again: copy "
		    "what shall stay to a volume of its own",
		    ref->name);
	else if (p->volumes[volume].profile != NULL && strcmp(p->volumes[volume].profile, "checkpoint") == 0)
		pst_pipeline_errors_add(
		    y->errors, ref->at,
		    "snapshot of '%s', which has profile checkpoint and is made empty when its step "
		    "starts anew: copy what shall stay to a volume of another profile",
		    ref->name);
	else if ((pin = parse_grow(&step->pins, &step->pins_count, sizeof(*pin), PARSE_LIST_MAX)) != NULL)
		*pin = (struct pst_pipeline_pin){ volume, strdup(ref->value), ref->at };
}

static bool takes(const struct pst_pipeline_step *step, size_t volume, const char *version)
{
	for (size_t i = 0; i < step->pins_count; i++)
		if (step->pins[i].volume == volume && (version == NULL || strcmp(step->pins[i].version, version) == 0))
			return true;
	return false;
}

/* Two steps that take the same version: the second could only find it taken. */
static void find_double_pins(struct pst_yaml *y, const struct pst_pipeline *p)
{
	for (size_t i = 0; i < p->step_count; i++)
		for (size_t k = 0; k < p->steps[i].pins_count; k++) {
			const struct pst_pipeline_pin *pin = &p->steps[i].pins[k];

			for (size_t n = 0; n < i && strcmp(pin->version, PST_PIPELINE_AUTO) != 0; n++)
				if (takes(&p->steps[n], pin->volume, pin->version))
					pst_pipeline_errors_add(y->errors, pin->at, "step '%s' takes snapshot '%s@%s'",
								p->steps[n].name, p->volumes[pin->volume].name,
								pin->version);
		}
}

/*
 * Who uses a clone of a version that a step of this file takes must need that step, or it could start before the
 * version is there. Of `latest`: at least one of those who take one.
 */
static void check_version_needs(struct pst_yaml *y, const struct pst_pipeline *p, size_t index, size_t volume)
{
	const struct pst_pipeline_volume *v = &p->volumes[volume];
	bool latest = strcmp(v->version, PST_PIPELINE_LATEST) == 0;
	size_t taker = SIZE_MAX;

	for (size_t i = 0; i < p->step_count; i++) {
		if (!takes(&p->steps[i], v->source, latest ? NULL : v->version))
			continue;
		if (pst_pipeline_needs(p, index, i))
			return;
		taker = i;
	}
	if (taker != SIZE_MAX)
		pst_pipeline_errors_add(
		    y->errors, p->steps[index].at,
		    "step '%s' uses '%s', a clone of '%s@%s', without needing step '%s', which takes "
		    "that snapshot",
		    p->steps[index].name, v->name, p->volumes[v->source].name, v->version, p->steps[taker].name);
}

static void check_versions(struct pst_yaml *y, const struct pst_pipeline *p)
{
	find_double_pins(y, p);
	for (size_t i = 0; i < p->step_count; i++)
		for (size_t k = 0; k < p->steps[i].uses_count; k++)
			if (p->volumes[p->steps[i].uses[k].volume].source != SIZE_MAX)
				check_version_needs(y, p, i, p->steps[i].uses[k].volume);
}

/* ---- all of it ---- */

void parse_resolve(struct pst_yaml *y, struct draft *d)
{
	for (size_t i = 0; i < d->pipeline->volume_count; i++)
		if (d->clones.list[i].name != NULL)
			resolve_clone(y, d, i);
	for (size_t i = 0; i < d->pipeline->step_count; i++) {
		duplicates(y, d->pipeline, i);
		resolve_needs(y, d, i);
		resolve_uses(y, d, i);
	}
	find_writers(y, d);
	for (size_t i = 0; i < d->pipeline->step_count; i++) {
		for (size_t k = 0; k < d->steps[i].inputs.count; k++)
			resolve_path(y, d, i, &d->steps[i].inputs.list[k], false);
		for (size_t k = 0; k < d->steps[i].outputs.count; k++)
			resolve_path(y, d, i, &d->steps[i].outputs.list[k], true);
		for (size_t k = 0; k < d->steps[i].pins.count; k++)
			resolve_pin(y, d, i, &d->steps[i].pins.list[k]);
	}
	if (y->errors->count == 0)
		find_cycles(y, d->pipeline);
	if (y->errors->count == 0)
		check_versions(y, d->pipeline);
}

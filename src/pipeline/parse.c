/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The schema of the pipeline file. Model: first the document is walked into a draft that holds names; then names are
 * resolved to indexes (so that a step may need one that stands further down); then cycles are looked for. Errors are
 * collected throughout; a pipeline comes out only if there are none.
 */
#include "base/units.h"
#include "pipeline/parse.h"

#include <stdlib.h>
#include <string.h>

static const char *const profiles[] = { "dataset", "checkpoint", "feature", "artifact", "general", NULL };
static const char *const filesystems[] = { "ext4", "xfs", NULL };

#define VOLUME_BYTES_MIN (16u << 20) /* ext4 with a journal */
#define VOLUME_BYTES_DEFAULT ((uint64_t)1 << 30)

/* What the handlers of a step's keys work on. */
struct step_ctx {
	struct pst_pipeline_step *step;
	struct draft_step *draft;
	struct refs *refs; /* the list being filled */
	size_t command_count;
	const char *what;
};

static void too_many(struct pst_yaml *y, struct pst_place at, const char *what, size_t max)
{
	pst_pipeline_errors_add(y->errors, at, "too many %s: at most %zu", what, max);
}

bool parse_name_ok(const char *name, bool dots)
{
	static const char letters[] = "abcdefghijklmnopqrstuvwxyz0123456789-.";
	size_t len = strlen(name), allowed = dots ? sizeof(letters) - 1 : sizeof(letters) - 2;

	if (len == 0 || len > PST_PIPELINE_NAME_MAX || strchr("-.", name[0]) != NULL ||
	    strchr("-.", name[len - 1]) != NULL)
		return false;
	for (size_t i = 0; i < len; i++)
		if (memchr(letters, name[i], allowed) == NULL)
			return false;
	return true;
}

static void check_name(struct pst_yaml *y, struct pst_place at, const char *kind, const char *name)
{
	if (!parse_name_ok(name, false))
		pst_pipeline_errors_add(y->errors, at,
					"'%s' can't name a %s: use 1 to %u lower-case letters, digits and inner '-'",
					name, kind, PST_PIPELINE_NAME_MAX);
}

static bool in_list(const char *word, const char *const *names)
{
	for (; *names != NULL; names++)
		if (strcmp(word, *names) == 0)
			return true;
	return false;
}

/* A text that must be one of @names; NULL with an error. */
static char *choice(struct pst_yaml *y, const struct pst_yaml_value *v, const char *what, const char *const *names)
{
	char *text = pst_yaml_text(y, v, what);
	char all[128] = "";

	if (text == NULL || in_list(text, names))
		return text;
	for (size_t i = 0; names[i] != NULL; i++) {
		strncat(all, i > 0 ? ", " : "", sizeof(all) - strlen(all) - 1);
		strncat(all, names[i], sizeof(all) - strlen(all) - 1);
	}
	pst_pipeline_errors_add(y->errors, v->at, "unknown %s '%s': one of %s", what, text, all);
	free(text);
	return NULL;
}

static bool parse_size(struct pst_yaml *y, const struct pst_yaml_value *v, const char *what, uint64_t *ret_bytes)
{
	char *text = pst_yaml_text(y, v, what);
	bool ok = text != NULL && pst_parse_size(text, ret_bytes) == PST_OK;

	if (text != NULL && !ok)
		pst_pipeline_errors_add(y->errors, v->at, "%s: '%s' is not a size like 500M or 2Gi", what, text);
	free(text);
	return ok;
}

/* ---- volumes ---- */

/* What the handlers of a volume's keys work on. */
struct volume_ctx {
	struct pst_pipeline_volume *volume;
	struct ref *clone;
	struct pst_place size_at, fs_at; /* line 0: not given */
};

static void volume_size(struct pst_yaml *y, void *object, const struct pst_yaml_value *v)
{
	struct volume_ctx *c = object;
	struct pst_pipeline_volume *volume = c->volume;

	c->size_at = v->at;
	if (!parse_size(y, v, "size", &volume->size_bytes))
		return;
	if (volume->size_bytes < VOLUME_BYTES_MIN)
		pst_pipeline_errors_add(y->errors, v->at, "size of volume '%s' is below the smallest, 16Mi",
					volume->name);
	else if (!pst_add_u64(volume->size_bytes, 4095, &volume->size_bytes))
		pst_pipeline_errors_add(y->errors, v->at, "size of volume '%s' is too large", volume->name);
	else
		volume->size_bytes &= ~(uint64_t)4095;
}

static void set_text(char **field, char *text)
{
	if (text == NULL)
		return;
	free(*field);
	*field = text;
}

static void volume_profile(struct pst_yaml *y, void *object, const struct pst_yaml_value *v)
{
	set_text(&((struct volume_ctx *)object)->volume->profile, choice(y, v, "profile", profiles));
}

static void volume_fs(struct pst_yaml *y, void *object, const struct pst_yaml_value *v)
{
	struct volume_ctx *c = object;

	c->fs_at = v->at;
	set_text(&c->volume->fs, choice(y, v, "fs", filesystems));
}

static void volume_clone(struct pst_yaml *y, void *object, const struct pst_yaml_value *v)
{
	struct volume_ctx *c = object;

	c->clone->at = v->at;
	set_text(&c->clone->name, pst_yaml_text(y, v, "'clone'"));
}

static const struct pst_yaml_key volume_keys[] = {
	{ "size", volume_size, false }, { "profile", volume_profile, false },
	{ "fs", volume_fs, false },     { "clone", volume_clone, false },
	{ NULL, NULL, false },
};

/* Sizes and file systems of clones are their versions'; the profile is, if nothing is said. */
static void volume_defaults(struct pst_yaml *y, struct volume_ctx *c)
{
	struct pst_pipeline_volume *volume = c->volume;

	if (c->clone->name == NULL) {
		if (volume->profile == NULL)
			volume->profile = strdup("general");
		if (volume->fs == NULL)
			volume->fs = strdup("ext4");
		return;
	}
	if (c->size_at.line > 0)
		pst_pipeline_errors_add(y->errors, c->size_at, "volume '%s' is a clone: its size is its version's",
					volume->name);
	if (c->fs_at.line == 0)
		return;
	pst_pipeline_errors_add(y->errors, c->fs_at, "volume '%s' is a clone: its file system is its version's",
				volume->name);
	free(volume->fs);
	volume->fs = NULL;
}

static void volume_pair(struct pst_yaml *y, void *object, const char *key, struct pst_place key_at,
			const struct pst_yaml_value *v)
{
	struct draft *d = object;
	char what[80];

	check_name(y, key_at, "volume", key);
	struct pst_pipeline_volume *volume =
	    parse_grow(&d->pipeline->volumes, &d->pipeline->volume_count, sizeof(*volume), PST_PIPELINE_VOLUMES_MAX);
	struct ref *clone = parse_grow(&d->clones.list, &d->clones.count, sizeof(*clone), PST_PIPELINE_VOLUMES_MAX);
	if (volume == NULL || clone == NULL) {
		too_many(y, key_at, "volumes", PST_PIPELINE_VOLUMES_MAX);
		d->pipeline->volume_count = PST_MIN(d->pipeline->volume_count, d->clones.count);
		return;
	}
	volume->name = strdup(key);
	volume->size_bytes = VOLUME_BYTES_DEFAULT;
	volume->source = volume->writer = SIZE_MAX;
	volume->at = key_at;
	snprintf(what, sizeof(what), "volume '%.50s'", key);
	struct volume_ctx c = { .volume = volume, .clone = clone };
	pst_yaml_object(y, v, what, volume_keys, &c);
	volume_defaults(y, &c);
}

static void top_volumes(struct pst_yaml *y, void *object, const struct pst_yaml_value *v)
{
	pst_yaml_mapping(y, v, "'volumes'", volume_pair, object);
}

/* ---- steps ---- */

static void step_name(struct pst_yaml *y, void *object, const struct pst_yaml_value *v)
{
	struct step_ctx *c = object;
	char *name = pst_yaml_text(y, v, "the name of a step");

	if (name == NULL)
		return;
	check_name(y, v->at, "step", name);
	c->step->at = v->at;
	set_text(&c->step->name, name);
}

static void command_word(struct pst_yaml *y, void *object, const struct pst_yaml_value *v)
{
	struct step_ctx *c = object;
	char *word = pst_yaml_text(y, v, "a word of 'command'");

	if (word == NULL)
		return;
	if (c->command_count == 0)
		c->step->command_at = v->at;
	/* The array always has room for its NULL: count words, then grow by one more that stays zero. */
	size_t count = c->command_count + 1;
	if (parse_grow(&c->step->command, &count, sizeof(char *), PARSE_LIST_MAX) == NULL) {
		too_many(y, v->at, "words in 'command'", PARSE_LIST_MAX);
		free(word);
		return;
	}
	c->step->command[c->command_count++] = word;
}

static void step_command(struct pst_yaml *y, void *object, const struct pst_yaml_value *v)
{
	struct step_ctx *c = object;
	static const char *const shell[] = { "/bin/sh", "-c" };

	c->step->command_at = v->at;
	c->step->command = calloc(4, sizeof(char *));
	if (c->step->command == NULL)
		return;
	if (v->node != NULL && fy_node_get_type(v->node) == FYNT_SCALAR) {
		char *line = pst_yaml_text(y, v, "'command'");

		if (line == NULL)
			return;
		for (size_t i = 0; i < PST_ARRAY_COUNT(shell); i++)
			c->step->command[i] = strdup(shell[i]);
		c->step->command[2] = line;
		return;
	}
	pst_yaml_sequence(y, v, "'command'", command_word, c);
	if (c->command_count == 0)
		pst_pipeline_errors_add(y->errors, v->at, "'command' is empty");
}

static void ref_item(struct pst_yaml *y, void *object, const struct pst_yaml_value *v)
{
	struct step_ctx *c = object;
	char *name = pst_yaml_text(y, v, c->what);

	if (name == NULL)
		return;
	struct ref *ref = parse_grow(&c->refs->list, &c->refs->count, sizeof(*ref), PARSE_LIST_MAX);
	if (ref == NULL) {
		too_many(y, v->at, c->what, PARSE_LIST_MAX);
		free(name);
		return;
	}
	*ref = (struct ref){ .name = name, .at = v->at };
}

static void refs_list(struct pst_yaml *y, struct step_ctx *c, struct refs *refs, const char *key, const char *what,
		      const struct pst_yaml_value *v)
{
	c->refs = refs;
	c->what = what;
	pst_yaml_sequence(y, v, key, ref_item, c);
}

static void step_needs(struct pst_yaml *y, void *object, const struct pst_yaml_value *v)
{
	struct step_ctx *c = object;

	refs_list(y, c, &c->draft->needs, "'needs'", "a step in 'needs'", v);
}

static void step_inputs(struct pst_yaml *y, void *object, const struct pst_yaml_value *v)
{
	struct step_ctx *c = object;

	c->step->inputs_given = true;
	refs_list(y, c, &c->draft->inputs, "'inputs'", "an input", v);
}

static void step_outputs(struct pst_yaml *y, void *object, const struct pst_yaml_value *v)
{
	struct step_ctx *c = object;

	c->step->outputs_given = true;
	refs_list(y, c, &c->draft->outputs, "'outputs'", "an output", v);
}

static void use_pair(struct pst_yaml *y, void *object, const char *key, struct pst_place key_at,
		     const struct pst_yaml_value *v)
{
	static const char *const modes[] = { "ro", "rw", NULL };
	struct step_ctx *c = object;
	char *mode = choice(y, v, "mode", modes);

	if (mode == NULL)
		return;
	struct ref *ref =
	    parse_grow(&c->draft->uses.list, &c->draft->uses.count, sizeof(*ref), PST_PIPELINE_VOLUMES_MAX);
	if (ref == NULL)
		too_many(y, key_at, "volumes in a step", PST_PIPELINE_VOLUMES_MAX);
	else
		*ref = (struct ref){ .name = strdup(key), .rw = strcmp(mode, "rw") == 0, .at = key_at };
	free(mode);
}

static void step_volumes(struct pst_yaml *y, void *object, const struct pst_yaml_value *v)
{
	pst_yaml_mapping(y, v, "'volumes' of a step", use_pair, object);
}

static void pin_pair(struct pst_yaml *y, void *object, const char *key, struct pst_place key_at,
		     const struct pst_yaml_value *v)
{
	struct step_ctx *c = object;
	char *version = pst_yaml_text(y, v, "the name of a snapshot");

	if (version == NULL)
		return;
	if (!parse_name_ok(version, true) || strcmp(version, PST_PIPELINE_LATEST) == 0)
		pst_pipeline_errors_add(y->errors, v->at,
					"'%s' can't name a snapshot: use 1 to %u lower-case letters, digits and inner "
					"'-' or '.'%s",
					version, PST_PIPELINE_NAME_MAX,
					strcmp(version, PST_PIPELINE_LATEST) == 0 ? "; 'latest' is for clones" : "");
	struct ref *ref =
	    parse_grow(&c->draft->pins.list, &c->draft->pins.count, sizeof(*ref), PST_PIPELINE_VOLUMES_MAX);
	if (ref == NULL) {
		too_many(y, key_at, "snapshots in a step", PST_PIPELINE_VOLUMES_MAX);
		free(version);
		return;
	}
	*ref = (struct ref){ .name = strdup(key), .value = version, .at = key_at };
}

static void step_snapshots(struct pst_yaml *y, void *object, const struct pst_yaml_value *v)
{
	pst_yaml_mapping(y, v, "'snapshots'", pin_pair, object);
}

static void env_pair(struct pst_yaml *y, void *object, const char *key, struct pst_place key_at,
		     const struct pst_yaml_value *v)
{
	struct step_ctx *c = object;
	size_t len = 0;
	const char *raw =
	    v->node != NULL && fy_node_get_type(v->node) == FYNT_SCALAR ? fy_node_get_scalar(v->node, &len) : NULL;

	if (key[0] == '\0' || strchr(key, '=') != NULL)
		pst_pipeline_errors_add(y->errors, key_at, "'%s' can't name an environment variable", key);
	else if (strncmp(key, "PENSTOCK_", 9) == 0)
		pst_pipeline_errors_add(y->errors, key_at,
					"'%s': names that begin with PENSTOCK_ are set by the runner", key);
	char *value = raw != NULL && len == 0 ? strdup("") : pst_yaml_text(y, v, "the value of a variable");
	if (value == NULL)
		return;
	struct pst_pipeline_env *env = parse_grow(&c->step->env, &c->step->env_count, sizeof(*env), PARSE_LIST_MAX);
	if (env == NULL) {
		too_many(y, key_at, "variables in 'env'", PARSE_LIST_MAX);
		free(value);
		return;
	}
	*env = (struct pst_pipeline_env){ strdup(key), value };
}

static void step_env(struct pst_yaml *y, void *object, const struct pst_yaml_value *v)
{
	pst_yaml_mapping(y, v, "'env'", env_pair, object);
}

static void step_retries(struct pst_yaml *y, void *object, const struct pst_yaml_value *v)
{
	(void)pst_yaml_number(y, v, "'retries'", 100, &((struct step_ctx *)object)->step->retries);
}

static void step_timeout(struct pst_yaml *y, void *object, const struct pst_yaml_value *v)
{
	struct step_ctx *c = object;
	char *text = pst_yaml_text(y, v, "'timeout'");

	if (text != NULL && (pst_parse_duration(text, &c->step->timeout_ns) != PST_OK || c->step->timeout_ns == 0))
		pst_pipeline_errors_add(y->errors, v->at, "timeout: '%s' is not a duration like 90s, 10m or 2h", text);
	free(text);
}

static void resource_cpus(struct pst_yaml *y, void *object, const struct pst_yaml_value *v)
{
	struct pst_pipeline_step *step = object;

	if (pst_yaml_number(y, v, "'cpus'", 1024, &step->cpus) && step->cpus == 0)
		pst_pipeline_errors_add(y->errors, v->at, "'cpus' must be at least 1");
}

static void resource_memory(struct pst_yaml *y, void *object, const struct pst_yaml_value *v)
{
	struct pst_pipeline_step *step = object;

	if (parse_size(y, v, "memory", &step->memory_bytes) && step->memory_bytes < 16u << 20)
		pst_pipeline_errors_add(y->errors, v->at, "'memory' is below the smallest, 16Mi");
}

static const struct pst_yaml_key resource_keys[] = {
	{ "cpus", resource_cpus, false },
	{ "memory", resource_memory, false },
	{ NULL, NULL, false },
};

static void step_resources(struct pst_yaml *y, void *object, const struct pst_yaml_value *v)
{
	pst_yaml_object(y, v, "'resources'", resource_keys, ((struct step_ctx *)object)->step);
}

static const struct pst_yaml_key step_keys[] = {
	{ "name", step_name, true },
	{ "command", step_command, true },
	{ "needs", step_needs, false },
	{ "volumes", step_volumes, false },
	{ "inputs", step_inputs, false },
	{ "outputs", step_outputs, false },
	{ "snapshots", step_snapshots, false },
	{ "env", step_env, false },
	{ "retries", step_retries, false },
	{ "timeout", step_timeout, false },
	{ "resources", step_resources, false },
	{ NULL, NULL, false },
};

static void step_item(struct pst_yaml *y, void *object, const struct pst_yaml_value *v)
{
	struct draft *d = object;
	size_t count = d->pipeline->step_count;

	struct pst_pipeline_step *step =
	    parse_grow(&d->pipeline->steps, &d->pipeline->step_count, sizeof(*step), PST_PIPELINE_STEPS_MAX);
	struct draft_step *draft = parse_grow(&d->steps, &count, sizeof(*draft), PST_PIPELINE_STEPS_MAX);
	if (step == NULL || draft == NULL) {
		too_many(y, v->at, "steps", PST_PIPELINE_STEPS_MAX);
		d->pipeline->step_count = PST_MIN(d->pipeline->step_count, count);
		return;
	}
	step->at = step->command_at = v->at;
	struct step_ctx c = { .step = step, .draft = draft };
	pst_yaml_object(y, v, "a step", step_keys, &c);
}

static void top_steps(struct pst_yaml *y, void *object, const struct pst_yaml_value *v)
{
	struct draft *d = object;
	size_t before = y->errors->count;

	pst_yaml_sequence(y, v, "'steps'", step_item, d);
	if (d->pipeline->step_count == 0 && y->errors->count == before)
		pst_pipeline_errors_add(y->errors, v->at, "'steps' is empty");
}

static void top_pipeline(struct pst_yaml *y, void *object, const struct pst_yaml_value *v)
{
	struct draft *d = object;
	char *name = pst_yaml_text(y, v, "'pipeline'");

	if (name != NULL)
		check_name(y, v->at, "pipeline", name);
	set_text(&d->pipeline->name, name);
}

static const struct pst_yaml_key top_keys[] = {
	{ "pipeline", top_pipeline, true },
	{ "volumes", top_volumes, false },
	{ "steps", top_steps, true },
	{ NULL, NULL, false },
};
/* ---- all of it ---- */

static void refs_done(struct refs *refs)
{
	for (size_t i = 0; i < refs->count; i++)
		free(refs->list[i].name), free(refs->list[i].value);
	free(refs->list);
}

static void draft_done(struct draft *d)
{
	for (size_t i = 0; d->steps != NULL && i < d->pipeline->step_count; i++) {
		refs_done(&d->steps[i].needs);
		refs_done(&d->steps[i].uses);
		refs_done(&d->steps[i].inputs);
		refs_done(&d->steps[i].outputs);
		refs_done(&d->steps[i].pins);
	}
	refs_done(&d->clones);
	free(d->steps);
}

pst_err pst_pipeline_parse(const char *text, size_t len_bytes, struct pst_pipeline_errors *errors,
			   struct pst_pipeline **ret_pipeline)
{
	struct draft d = { .pipeline = calloc(1, sizeof(*d.pipeline)) };
	struct pst_place top = { 1, 1, 1 };
	struct pst_yaml y = { 0 };

	if (d.pipeline == NULL)
		return PST_E_NOMEM;
	if (len_bytes > PST_PIPELINE_FILE_BYTES_MAX || memchr(text, '\0', len_bytes) != NULL) {
		pst_pipeline_errors_add(errors, top, "not a pipeline file: %s",
					len_bytes > PST_PIPELINE_FILE_BYTES_MAX ? "longer than 1 MiB"
										: "it holds zero bytes");
	} else if (pst_yaml_load(&y, text, len_bytes, errors)) {
		struct pst_yaml_value root = pst_yaml_root(&y);

		pst_yaml_object(&y, &root, "a pipeline file", top_keys, &d);
		parse_resolve(&y, &d);
	}
	if (y.doc != NULL)
		pst_yaml_done(&y);
	draft_done(&d);
	if (errors->count > 0) {
		pst_pipeline_free(d.pipeline);
		return PST_E_INVAL;
	}
	*ret_pipeline = d.pipeline;
	return PST_OK;
}

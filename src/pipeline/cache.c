/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which steps need not run again. The key of a step is the SHA-256 of everything that it depends on: command,
 * environment, resources, the identity of its volumes, input files by content, inputs on volumes by the version that
 * was last recorded of them. A step is cached if it succeeded before with the same key and its outputs are still the
 * versions that it recorded then. An input without a recorded version (a volume filled by hand) has no key: the step
 * runs. Changes made to a volume outside of runs are not seen; --fresh is for that.
 *
 * Where the file says nothing: inputs are the words of the command that are files beside the pipeline file, and every
 * volume mounted read-only; outputs are all of every volume mounted read-write.
 */
#include "pipeline/runner.h"

#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static bool add_file(struct runner *r, json_t *inputs, const char *path)
{
	uint64_t files = 0, bytes = 0;
	char *full = NULL, hex[65] = "";

	if (asprintf(&full, "%s%s%s", path[0] == '/' ? "" : r->file_dir, path[0] == '/' ? "" : "/", path) < 0)
		return false;
	pst_err err = pst_tree_digest(full, hex, &files, &bytes);
	free(full);
	if (err == PST_OK)
		json_array_append_new(inputs, json_pack("{s:s, s:s}", "file", path, "sha256", hex));
	return err == PST_OK;
}

static bool add_volume(struct runner *r, json_t *inputs, size_t volume, const char *path)
{
	struct run_volume *v = &r->volumes[volume];
	char hex[65];

	/* What nobody writes is its version. */
	if (v->spec->source != SIZE_MAX && v->spec->writer == SIZE_MAX) {
		json_array_append_new(
		    inputs, json_pack("{s:s, s:s, s:s}", "version", v->version, "path", path, "uuid", v->version_uuid));
		return true;
	}
	if (!registry_latest(r, v->uuid, path, hex))
		return false;
	json_array_append_new(inputs,
			      json_pack("{s:s, s:s, s:s}", "volume", v->spec->name, "path", path, "sha256", hex));
	return true;
}

static bool given_inputs(struct runner *r, const struct pst_pipeline_step *spec, json_t *inputs)
{
	for (size_t i = 0; i < spec->inputs_count; i++) {
		const struct pst_pipeline_path *in = &spec->inputs[i];

		if (in->volume == SIZE_MAX ? !add_file(r, inputs, in->path)
					   : !add_volume(r, inputs, in->volume, in->path))
			return false;
	}
	return true;
}

static bool default_inputs(struct runner *r, const struct pst_pipeline_step *spec, json_t *inputs)
{
	for (size_t i = 0; spec->command[i] != NULL; i++) {
		const char *word = spec->command[i];
		struct stat st;
		char *full = NULL;

		if (word[0] == '/' || word[0] == '-' || asprintf(&full, "%s/%s", r->file_dir, word) < 0)
			continue;
		bool file = stat(full, &st) == 0 && S_ISREG(st.st_mode);
		free(full);
		if (file && !add_file(r, inputs, word))
			return false;
	}
	for (size_t i = 0; i < spec->uses_count; i++)
		if (!spec->uses[i].rw && !add_volume(r, inputs, spec->uses[i].volume, "/"))
			return false;
	return true;
}

static void hash_text(const char *text, char hex[65])
{
	unsigned char hash[EVP_MAX_MD_SIZE];
	unsigned len = 0;

	EVP_Digest(text, strlen(text), hash, &len, EVP_sha256(), NULL);
	for (unsigned i = 0; i < 32; i++)
		snprintf(hex + i * 2, 3, "%02x", hash[i]);
}

static json_t *pins_json(struct runner *r, const struct pst_pipeline_step *spec)
{
	json_t *pins = json_array();

	for (size_t i = 0; i < spec->pins_count; i++)
		json_array_append_new(
		    pins, json_pack("[s, s]", r->pipeline->volumes[spec->pins[i].volume].name, spec->pins[i].version));
	return pins;
}

void cache_key(struct runner *r, struct run_step *s)
{
	const struct pst_pipeline_step *spec = s->spec;
	json_t *command = json_array(), *env = json_array(), *volumes = json_array(), *inputs = json_array();

	s->key[0] = '\0';
	for (size_t i = 0; spec->command[i] != NULL; i++)
		json_array_append_new(command, json_string(spec->command[i]));
	for (size_t i = 0; i < spec->env_count; i++)
		json_array_append_new(env, json_pack("[s, s]", spec->env[i].name, spec->env[i].value));
	for (size_t i = 0; i < spec->uses_count; i++) {
		struct run_volume *v = &r->volumes[spec->uses[i].volume];
		/* A checkpoint volume is made anew for a new start: its identity says nothing about the result. */
		bool scratch = spec->uses[i].rw && strcmp(v->spec->profile, "checkpoint") == 0;

		json_array_append_new(volumes, json_pack("[s, s, b]", v->spec->name,
							 v->spec->source != SIZE_MAX ? v->version_uuid
							 : scratch                   ? ""
										     : v->uuid,
							 spec->uses[i].rw));
	}
	bool known = spec->inputs_given ? given_inputs(r, spec, inputs) : default_inputs(r, spec, inputs);
	json_t *all =
	    json_pack("{s:i, s:o, s:o, s:o, s:o, s:i, s:I}", "format", 1, "command", command, "env", env, "volumes",
		      volumes, "inputs", inputs, "cpus", spec->cpus, "memory", (json_int_t)spec->memory_bytes);
	if (spec->pins_count > 0)
		json_object_set_new(all, "snapshots", pins_json(r, spec));
	char *text = all != NULL && known ? json_dumps(all, JSON_COMPACT | JSON_SORT_KEYS) : NULL;
	if (text != NULL)
		hash_text(text, s->key);
	free(text);
	json_decref(all);
}

static const char *member(json_t *output, const char *key)
{
	const char *text = json_string_value(json_object_get(output, key));

	return text != NULL ? text : "";
}

/* Does another step read the volume @volume itself, and not a clone of a version of it? */
static bool read_live(struct runner *r, const struct run_step *s, size_t volume)
{
	for (size_t i = 0; i < r->pipeline->step_count; i++)
		for (size_t k = 0; k < r->steps[i].spec->uses_count && &r->steps[i] != s; k++)
			if (r->steps[i].spec->uses[k].volume == volume && !r->steps[i].spec->uses[k].rw)
				return true;
	return false;
}

/*
 * Is an output still what was recorded? A snapshot: if it exists. A path on a volume: if no later version of it was
 * recorded, or if a snapshot has kept it and all others read that.
 */
static bool output_holds(struct runner *r, struct run_step *s, json_t *output)
{
	const char *uuid = member(output, "volume_uuid"), *path = member(output, "path");
	size_t volume = 0;
	char latest[65];

	if (member(output, "version_uuid")[0] != '\0')
		return version_stands(r, member(output, "version"), member(output, "version_uuid"));
	while (volume < r->pipeline->volume_count && strcmp(r->volumes[volume].uuid, uuid) != 0)
		volume++;
	if (volume == r->pipeline->volume_count)
		return false;
	if (versions_pins(s, volume) && !read_live(r, s, volume))
		return true; /* the snapshot is an output of its own */
	return registry_latest(r, uuid, path, latest) && strcmp(latest, member(output, "sha256")) == 0;
}

bool cache_hit(struct runner *r, struct run_step *s)
{
	char *text = s->key[0] != '\0' && !r->options->fresh ? registry_success(r, s) : NULL;
	json_t *outputs = text != NULL ? json_loads(text, 0, NULL) : NULL, *output;
	bool hit = json_is_array(outputs);
	size_t i;

	free(text);
	json_array_foreach(outputs, i, output) hit = hit && output_holds(r, s, output);
	if (hit) {
		json_decref(s->outputs);
		s->outputs = json_incref(outputs);
	}
	json_decref(outputs);
	return hit;
}

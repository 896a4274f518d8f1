/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The pipeline file as the runner sees it: volumes, and steps that need each other. pst_pipeline_parse is pure (text
 * in, model or errors out; no file is touched), so that it can be fuzzed; pst_pipeline_check then looks at this machine
 * (are the commands there?). Both collect every error before anything is started.
 *
 * A pipeline owns all that it points to and does not change after parsing. Any one thread.
 */
#ifndef PST_PIPELINE_PIPELINE_H
#define PST_PIPELINE_PIPELINE_H

#include "base/base.h"

#include <stdio.h>

#define PST_PIPELINE_FILE_BYTES_MAX (1u << 20)
#define PST_PIPELINE_STEPS_MAX 256u
#define PST_PIPELINE_VOLUMES_MAX 64u
#define PST_PIPELINE_NAME_MAX 40u

/* A place in the file; lines and columns count from 1. */
struct pst_place {
	unsigned line, column, width;
};

/*
 * A volume begins blank, or as a clone of a version of another one: then profile (if not given), size and file system
 * are that one's.
 */
#define PST_PIPELINE_LATEST "latest" /* the version of a clone: the newest that there is */
#define PST_PIPELINE_AUTO "auto"     /* the name of a snapshot: v1, v2 ..., a new one only for new content */

struct pst_pipeline_volume {
	char *name;
	char *profile; /* dataset, checkpoint, feature, artifact, general */
	char *fs;      /* ext4 or xfs */
	uint64_t size_bytes;
	size_t source; /* of a clone: the volume; else SIZE_MAX */
	char *version; /* of a clone: the name of the snapshot, or latest; else NULL */
	size_t writer; /* of a clone: the one step that mounts it rw; SIZE_MAX: none */
	struct pst_place at;
};

/* A volume that a step uses: its index and how it is mounted. */
struct pst_pipeline_use {
	size_t volume;
	bool rw;
};

/* A snapshot that a step takes when it has succeeded. */
struct pst_pipeline_pin {
	size_t volume;
	char *version; /* its name, or auto */
	struct pst_place at;
};

/* An input or output: a path on a volume, or (volume == SIZE_MAX) a path beside the pipeline file. */
struct pst_pipeline_path {
	size_t volume;
	char *path;
	struct pst_place at;
};

struct pst_pipeline_env {
	char *name, *value;
};

struct pst_pipeline_step {
	char *name;
	char **command; /* NULL-terminated */
	size_t *needs;  /* indexes of steps */
	size_t needs_count;
	struct pst_pipeline_use *uses;
	size_t uses_count;
	struct pst_pipeline_path *inputs, *outputs;
	size_t inputs_count, outputs_count;
	struct pst_pipeline_pin *pins;
	size_t pins_count;
	bool inputs_given, outputs_given;
	struct pst_pipeline_env *env;
	size_t env_count;
	unsigned retries;
	uint64_t timeout_ns; /* 0: none */
	unsigned cpus;       /* 0: not asked for */
	uint64_t memory_bytes;
	struct pst_place at, command_at;
};

struct pst_pipeline {
	char *name;
	struct pst_pipeline_volume *volumes;
	size_t volume_count;
	struct pst_pipeline_step *steps;
	size_t step_count;
};

struct pst_pipeline_error {
	struct pst_place at;
	char message[320];
};

/* What is wrong with a file; at most PST_PIPELINE_ERRORS_MAX are kept, `count` goes on counting. */
#define PST_PIPELINE_ERRORS_MAX 64u
struct pst_pipeline_errors {
	struct pst_pipeline_error *list;
	size_t count;
};

/*
 * Parse @text. PST_E_INVAL when *errors holds at least one. @errors must be zeroed by the caller and given to
 * pst_pipeline_errors_done; *ret_pipeline is set only on success and goes to pst_pipeline_free.
 */
pst_err PST_MUST_USE pst_pipeline_parse(const char *text, size_t len_bytes, struct pst_pipeline_errors *errors,
					struct pst_pipeline **ret_pipeline);

/* Are commands and named input files there? @dir is the directory of the pipeline file. PST_E_INVAL with errors. */
pst_err PST_MUST_USE pst_pipeline_check(const struct pst_pipeline *pipeline, const char *dir,
					struct pst_pipeline_errors *errors);

/* Where @command would be found from @dir; NULL if nowhere. The caller frees. */
char *pst_pipeline_find_command(const char *command, const char *dir);

/* Does step @index need step @other, directly or through others? */
bool pst_pipeline_needs(const struct pst_pipeline *pipeline, size_t index, size_t other);

/* Prints "FILE:LINE:COLUMN: error: ..." with the source line and a caret, in order of place. */
void pst_pipeline_errors_print(struct pst_pipeline_errors *errors, const char *file, const char *text, size_t len_bytes,
			       FILE *out);
void pst_pipeline_errors_add(struct pst_pipeline_errors *errors, struct pst_place at, const char *fmt, ...)
    PST_PRINTF(3, 4);
void pst_pipeline_errors_done(struct pst_pipeline_errors *errors);

void pst_pipeline_free(struct pst_pipeline *pipeline);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Running a pipeline: `penstock run` as a library call. One at a time and on a thread that is the process's only one
 * (keepers and steps are forked from it). Takes over SIGINT, SIGTERM and SIGCHLD while it runs.
 */
#ifndef PST_PIPELINE_RUN_H
#define PST_PIPELINE_RUN_H

#include "base/base.h"

struct pst_run_options {
	const char *file;
	const char *record; /* NULL: STATE/runs/RUN_ID */
	const char *state;  /* NULL: PENSTOCK_STATE_DIR, or the user's or system's default */
	const char *pool;   /* for an own daemon; NULL: STATE/pool */
	const char
	    *api; /* an existing daemon; NULL: PENSTOCK_URL, or one that answers at the default address, or own */
	const char *path;      /* forced mount path, or NULL */
	const char *python;    /* our Python folder for PYTHONPATH, or NULL */
	const char *command;   /* how it was called, for the record */
	const char *kill_step; /* rehearsal: SIGKILL this step once ... */
	unsigned kill_at;      /* ... when it reports this training step */
	bool dry_run, fresh, json;
};

enum pst_run_result {
	PST_RUN_OK,
	PST_RUN_FAILED, /* could not run; said why */
	PST_RUN_USAGE,  /* the file is wrong; nothing was started */
	PST_RUN_NO_DAEMON,
	PST_RUN_CONFLICT,    /* the pool is open in another process */
	PST_RUN_NO_SPACE,    /* pool, quota or disk is full */
	PST_RUN_UNSUPPORTED, /* this machine can't do what was asked for */
	PST_RUN_STEP_FAILED,
	PST_RUN_INTERRUPTED,
};

enum pst_run_result pst_run_pipeline(const struct pst_run_options *options);

#endif

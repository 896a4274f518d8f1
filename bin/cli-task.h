/* SPDX-License-Identifier: Apache-2.0 */
/* Work in the background of a pool, for commands that start it, wait for it or end it. */
#ifndef PENSTOCK_BIN_CLI_TASK_H
#define PENSTOCK_BIN_CLI_TASK_H

#include "cli-object.h"

/* One line of progress: overwritten on a terminal, else a new one every 5 s, on standard error. */
struct cli_progress {
	bool on_terminal, shown;
	uint64_t last_ns;
};

void cli_progress_begin(struct cli_progress *progress);
void cli_progress_line(struct cli_progress *progress, const char *fmt, ...) PST_PRINTF(2, 3);
void cli_progress_end(struct cli_progress *progress);

struct cli_task {
	const char *pool;   /* NULL: that of the volume */
	const char *task;   /* "scrub" */
	const char *volume; /* NULL: the whole pool */
	bool stop, wait;
};

/* --rate, --wait and --stop of a command that starts a task. @task: a struct cli_task. */
#define CLI_TASK_ARGS(task)                                                                                       \
	{ "--rate",                                                                                               \
	  "RATE",                                                                                                 \
	  CLI_ARG_BYTES_PER_S,                                                                                    \
	  NULL,                                                                                                   \
	  "at most 100MB/s and the like; 0: no limit; also of one "                                               \
	  "that runs",                                                                                            \
	  "rate_bytes_per_s" },                                                                                   \
	    { "--wait", NULL, CLI_ARG_FLAG, &(task)->wait, "wait until it is done, with its progress" },          \
	{                                                                                                         \
		"--stop", NULL, CLI_ARG_FLAG, &(task)->stop, "stop it; started again it goes on where it stopped" \
	}

/* Starts (with the body of @common, which may hold a rate), waits or stops, and prints. Releases @common. */
int cli_task_run(struct cli_common *common, const struct cli_task *task);

/* Waits until none of kind @task is running in @pool any more. */
int cli_task_wait_all(const struct cli_common *common, const char *pool, const char *task);

/* As cli_object_delete; with *wait (set by an option of @verb) until the space has come back. */
int cli_delete(const struct cli_object *object, const struct cli_object_verb *verb, const bool *wait, int argc,
	       char **argv);

/* The pool that @collection/@name is in; malloced; NULL after reporting. */
char *cli_pool_of(const struct cli_common *common, const char *collection, const char *name, int *ret_exit);

#endif

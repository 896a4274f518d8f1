/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The `penstock` command: a table of subcommands (penstock.c), one file each (cmd-NAME.c). To add one: write the file,
 * declare its function here, add a line to the table and a man page.
 */
#ifndef PENSTOCK_BIN_CLI_H
#define PENSTOCK_BIN_CLI_H

#include "base/base.h"

/* Exit codes, documented in penstock(1). */
enum cli_exit {
	CLI_OK = 0,
	CLI_FAILED = 1,        /* the operation failed; the message says what, which object, and what to do */
	CLI_USAGE = 2,         /* the command line or a file given is wrong; nothing was started */
	CLI_NO_DAEMON = 3,     /* no daemon answers */
	CLI_NOT_FOUND = 4,     /* the named object does not exist */
	CLI_CONFLICT = 5,      /* it exists already, or is in use */
	CLI_NO_SPACE = 6,      /* pool, quota or disk is full */
	CLI_UNSUPPORTED = 7,   /* this machine can't; `penstock doctor` says why */
	CLI_STEP_FAILED = 8,   /* a pipeline step failed after its retries */
	CLI_REPAIRED = 10,     /* `pool check --repair`: there was damage, and none is left */
	CLI_DAMAGED = 11,      /* `pool check`: there is damage */
	CLI_DENIED = 12,       /* the daemon is not trusted, or the token is not valid or may not do that */
	CLI_INTERRUPTED = 130, /* Ctrl-C; everything that was started has been ended */
};

struct cli_command {
	const char *name;
	const char *summary;               /* one line for --help */
	int (*run)(int argc, char **argv); /* argv[0] is the subcommand's name; returns enum cli_exit */
};

int cmd_bench(int argc, char **argv);
int cmd_doctor(int argc, char **argv);
int cmd_host(int argc, char **argv);
int cmd_key(int argc, char **argv);
int cmd_mount(int argc, char **argv);
int cmd_pool(int argc, char **argv);
int cmd_port(int argc, char **argv);
int cmd_profile(int argc, char **argv);
int cmd_report(int argc, char **argv);
int cmd_tenant(int argc, char **argv);
int cmd_token(int argc, char **argv);
int cmd_top(int argc, char **argv);
int cmd_volume(int argc, char **argv);
int cmd_run(int argc, char **argv);
int cmd_snapshot(int argc, char **argv);
int cmd_umount(int argc, char **argv);

/* "penstock: MESSAGE" and, if not NULL, a second line "  try: HINT" on stderr. */
void cli_error(const char *hint, const char *fmt, ...) PST_PRINTF(2, 3);

/* The exit code that fits an error. */
int cli_exit_for(pst_err err);

#endif

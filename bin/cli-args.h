/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One way to read a command line, for all commands that talk to the daemon: a table of options, names before or after
 * them, `--help` made from the table. Sizes, rates and durations are as base/units.h reads them.
 */
#ifndef PENSTOCK_BIN_CLI_ARGS_H
#define PENSTOCK_BIN_CLI_ARGS_H

#include "cli.h"

#include <jansson.h>

enum cli_arg_kind {
	CLI_ARG_FLAG,     /* bool */
	CLI_ARG_TEXT,     /* const char * */
	CLI_ARG_SIZE,     /* struct cli_size */
	CLI_ARG_RESERVE,  /* json_t *: reserve_iops, reserve_bytes_per_s; repeatable; "none" takes both back */
	CLI_ARG_LIMIT,    /* the same for limits */
	CLI_ARG_WEIGHT,   /* json_t *: weight */
	CLI_ARG_BURST,    /* json_t *: burst_ms */
	CLI_ARG_DURATION, /* uint64_t, nanoseconds */
};

struct cli_size {
	bool given;
	uint64_t bytes;
};

struct cli_arg {
	const char *name;  /* "--size" */
	const char *value; /* "SIZE"; NULL for a flag */
	enum cli_arg_kind kind;
	void *to; /* json_t **: an object, made when first needed */
	const char *help;
};

/* What every command takes beside its own. */
struct cli_common {
	bool json;
	const char *api; /* NULL: PENSTOCK_URL or the default */
};

struct cli_verb {
	const char *command, *verb; /* "volume", "create" */
	const char *names;          /* "NAME", or NULL for none */
	const char *summary;
	const struct cli_arg *args; /* ended by a NULL name */
};

/*
 * argv[0] is the verb. Returns true to go on; false with *ret_exit set after --help (printed) or an error (reported).
 * *ret_name (may be NULL if verb->names is) is the one positional argument.
 */
bool cli_parse(const struct cli_verb *verb, int argc, char **argv, struct cli_common *common, const char **ret_name,
	       int *ret_exit);

#define CLI_POLICY_ARGS(policy)                                                                                   \
	{ "--reserve", "RATE", CLI_ARG_RESERVE, policy,                                                           \
	  "guarantee 20000iops or 500MB/s; repeatable; none takes it back" },                                     \
	    { "--limit", "RATE", CLI_ARG_LIMIT, policy,                                                           \
	      "at most 20000iops or 500MB/s; repeatable; none takes it back" },                                   \
	    { "--weight", "N", CLI_ARG_WEIGHT, policy, "share of what is left over, 1 to 10000" },                \
	{                                                                                                         \
		"--burst", "DURATION", CLI_ARG_BURST, policy, "unused limit that may be saved up, as 500ms or 2s" \
	}

/* Calls the daemon. On error reports it and sets *ret_exit. *ret_json may be NULL. */
bool cli_call(const struct cli_common *common, const char *method, const char *path, json_t *body, json_t **ret_json,
	      int *ret_exit);

/* "/v1/volumes/NAME?force=true" with NAME percent-encoded. Malloced. */
char *cli_path(const char *collection, const char *name, bool force);

int cli_print_json(json_t *json);

/* "20000iops 500MB/s", "-" for none. */
char *cli_rates(json_t *policy, const char *what, char buf[64]);

#endif

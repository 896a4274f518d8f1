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
	CLI_ARG_FLAG,        /* bool */
	CLI_ARG_TEXT,        /* const char * */
	CLI_ARG_SIZE,        /* struct cli_size */
	CLI_ARG_RESERVE,     /* json_t *: reserve_iops, reserve_bytes_per_s; repeatable; "none" takes both back */
	CLI_ARG_LIMIT,       /* the same for limits */
	CLI_ARG_WEIGHT,      /* json_t *: weight */
	CLI_ARG_BURST,       /* json_t *: burst_ms */
	CLI_ARG_DURATION,    /* uint64_t, nanoseconds */
	CLI_ARG_BYTES_PER_S, /* json: a rate such as 100MB/s, 0 for none; only into a body */
	CLI_ARG_NUMBER,      /* json: a whole number; only into a body */
};

struct cli_size {
	bool given;
	uint64_t bytes;
};

struct cli_arg {
	const char *name;  /* "--size" */
	const char *value; /* "SIZE"; NULL for a flag */
	enum cli_arg_kind kind;
	void *to; /* json_t **: an object, made when first needed. NULL: the value goes where @member says */
	const char *help;
	/* For REST calls: the member of the body (rates, weights and bursts: of its policy), or "?NAME" of the query.
	 */
	const char *member;
};

#define CLI_NAMES_MAX 64u

/* What every command takes beside its own, and what it was given. */
struct cli_common {
	bool json;
	const char *api; /* NULL: PENSTOCK_URL or the default */
	json_t *body;    /* of options with a member; an object, NULL without any. To be released: cli_common_done */
	json_t *query;   /* likewise: {"force": "true"} */
	const char *names[CLI_NAMES_MAX];
	unsigned name_count;
};

struct cli_verb {
	const char *command, *verb; /* "volume", "create" */
	const char *names;          /* "NAME", or NULL for none; "NAME..." for several, "[NAME]" if it may be missing */
	const char *summary;
	const struct cli_arg *args; /* ended by a NULL name */
};

/*
 * argv[0] is the verb. Returns true to go on; false with *ret_exit set after --help (printed) or an error (reported).
 * Positional arguments are in common->names.
 */
bool cli_parse(const struct cli_verb *verb, int argc, char **argv, struct cli_common *common, int *ret_exit);
void cli_common_done(struct cli_common *common);

#define CLI_POLICY_ARGS                                                                                               \
	{                                                                                                             \
		"--reserve",                                                                                          \
		"RATE",                                                                                               \
		CLI_ARG_RESERVE,                                                                                      \
		NULL,                                                                                                 \
		"guarantee 20000iops or 500MB/s; repeatable; none takes it back",                                     \
		"policy"                                                                                              \
	},                                                                                                            \
	    { "--limit", "RATE", CLI_ARG_LIMIT, NULL, "at most 20000iops or 500MB/s; repeatable; none takes it back", \
	      "policy" },                                                                                             \
	    { "--weight", "N", CLI_ARG_WEIGHT, NULL, "share of what is left over, 1 to 10000", "policy" },            \
	{                                                                                                             \
		"--burst", "DURATION", CLI_ARG_BURST, NULL, "unused limit that may be saved up, as 500ms or 2s",      \
		    "policy"                                                                                          \
	}

/* For options that send nothing else than "?NAME=true". */
#define CLI_FLAG_QUERY(option, name, help)                       \
	{                                                        \
		option, NULL, CLI_ARG_FLAG, NULL, help, "?" name \
	}

/* Calls the daemon; the query of @common is added to @path. On error reports it and sets *ret_exit. *ret_json may be
 * NULL. */
bool cli_call(const struct cli_common *common, const char *method, const char *path, json_t *body, json_t **ret_json,
	      int *ret_exit);

/* "/v1/volumes/NAME" with NAME percent-encoded, and "/MORE" unless NULL. Malloced. */
char *cli_path(const char *collection, const char *name, const char *more);

int cli_print_json(json_t *json);

/* "20000iops 500MB/s", "-" for none. */
char *cli_rates(json_t *policy, const char *what, char buf[64]);

#endif

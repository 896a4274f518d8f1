/* SPDX-License-Identifier: Apache-2.0 */
/* What `penstock volume`, `tenant`, `profile` and `pool` have in common: verbs, and list, show and delete. */
#ifndef PENSTOCK_BIN_CLI_OBJECT_H
#define PENSTOCK_BIN_CLI_OBJECT_H

#include "cli-args.h"
#include "cli-table.h"

struct cli_object;

struct cli_object_verb {
	const char *name;
	const char *summary;
	int (*run)(const struct cli_object *object, int argc, char **argv);
};

struct cli_object {
	const char *word;       /* "volume" */
	const char *collection; /* "volumes" */
	const char *summary;
	const struct cli_object_verb *verbs; /* ended by a NULL name */
	const struct cli_column *columns;
	const char *empty; /* what to do when the list is empty */
	bool forceable;    /* delete takes --force */
};

/* argv[1] is the verb. */
int cli_object_run(const struct cli_object *object, int argc, char **argv);

int cli_object_list(const struct cli_object *object, int argc, char **argv);
int cli_object_show(const struct cli_object *object, int argc, char **argv);
int cli_object_delete(const struct cli_object *object, int argc, char **argv);

/* POST to the collection (@name NULL) or PATCH; prints the answer. Takes @body over. */
int cli_object_send(const struct cli_object *object, const struct cli_common *common, const char *name, bool force,
		    json_t *body);

/* {"name": NAME}, and the policy (taken over, may be NULL). */
json_t *cli_object_body(const char *name, json_t *policy);

#endif

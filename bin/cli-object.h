/* SPDX-License-Identifier: Apache-2.0 */
/* What `penstock volume`, `snapshot`, `tenant`, `profile` and `pool` have in common: verbs, and most of what they do.
 */
#ifndef PENSTOCK_BIN_CLI_OBJECT_H
#define PENSTOCK_BIN_CLI_OBJECT_H

#include "cli-args.h"
#include "cli-table.h"

struct cli_object;

struct cli_object_verb {
	const char *name;
	const char *summary; /* among the verbs */
	int (*run)(const struct cli_object *object, const struct cli_object_verb *verb, int argc, char **argv);
	const char *text;           /* for its own --help; NULL: as usual */
	const struct cli_arg *args; /* NULL: none */
	const char *needs;          /* member of the body that must be given, and how */
	const char *how;
};

struct cli_object {
	const char *word;       /* "volume" */
	const char *collection; /* "volumes" */
	const char *summary;
	const struct cli_object_verb *verbs; /* ended by a NULL name */
	const struct cli_column *columns;
	const char *empty; /* what to do when the list is empty */
};

/* argv[1] is the verb. */
int cli_object_run(const struct cli_object *object, int argc, char **argv);

/* Parses for @verb; @names as in struct cli_verb. */
bool cli_object_parse(const struct cli_object *object, const struct cli_object_verb *verb, const char *names, int argc,
		      char **argv, struct cli_common *common, int *ret_exit);

/* The verbs that most objects have. Create and set send what options were given. */
int cli_object_list(const struct cli_object *object, const struct cli_object_verb *verb, int argc, char **argv);
int cli_object_show(const struct cli_object *object, const struct cli_object_verb *verb, int argc, char **argv);
int cli_object_create(const struct cli_object *object, const struct cli_object_verb *verb, int argc, char **argv);
int cli_object_set(const struct cli_object *object, const struct cli_object_verb *verb, int argc, char **argv);
int cli_object_delete(const struct cli_object *object, const struct cli_object_verb *verb, int argc, char **argv);

/* Calls, prints the object that comes back, releases @common. @path may be NULL (no memory), and is freed. */
int cli_object_call(struct cli_common *common, const char *method, char *path);
/* As a table of @columns, or JSON; takes @list over. */
int cli_object_print_list(const struct cli_common *common, json_t *list, const struct cli_column *columns);

#endif

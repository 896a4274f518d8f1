/* SPDX-License-Identifier: Apache-2.0 */
/* Tables and cards for people, by libsmartcols. */
#ifndef PENSTOCK_BIN_CLI_TABLE_H
#define PENSTOCK_BIN_CLI_TABLE_H

#include <jansson.h>
#include <stdbool.h>

struct cli_column {
	const char *title;
	const char *member; /* of the objects that are listed; "policy" goes with @format */
	bool right;
	/* NULL: strings and numbers as they are. Else writes @value (may be NULL) into @buf and returns it. */
	char *(*format)(json_t *value, char buf[64]);
};

char *cli_format_size(json_t *value, char buf[64]);
char *cli_format_text(json_t *value, char buf[64]);  /* missing: "-" */
char *cli_format_quota(json_t *value, char buf[64]); /* 0: "-" */
char *cli_format_reserve(json_t *policy, char buf[64]);
char *cli_format_limit(json_t *policy, char buf[64]);
char *cli_format_weight(json_t *policy, char buf[64]);

/* @columns ends with a NULL title. Returns enum cli_exit. */
int cli_print_table(json_t *list, const struct cli_column *columns);

/* One object, a line per member, in the daemon's words and order; sizes for people. */
int cli_print_card(json_t *object);

#endif

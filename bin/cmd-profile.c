/* SPDX-License-Identifier: Apache-2.0 */
#include "cli-object.h"

static const struct cli_column columns[] = {
	{ "NAME", "name" },
	{ "BUILTIN", "builtin" },
	{ "RESERVE", "policy", false, cli_format_reserve },
	{ "LIMIT", "policy", false, cli_format_limit },
	{ "WEIGHT", "policy", true, cli_format_weight },
	{ "SUMMARY", "summary" },
	{ NULL },
};

static const struct cli_arg args[] = {
	{ "--summary", "TEXT", CLI_ARG_TEXT, NULL, "what it is for, in one line", "summary" },
	CLI_POLICY_ARGS,
	{ NULL },
};

static const struct cli_object_verb verbs[] = {
	{ "create", "define a profile of this site", cli_object_create, "Defines a profile of this site.", args },
	{ "list", "list profiles", cli_object_list },
	{ "show", "show one profile", cli_object_show },
	{ "set", "change one of this site", cli_object_set,
	  "Changes a profile of this site, for volumes created from now on.", args },
	{ "delete", "delete an unused one", cli_object_delete },
	{ NULL },
};

static const struct cli_object object = {
	.word = "profile",
	.collection = "profiles",
	.summary = "Profiles: named policies that new volumes begin with.",
	.verbs = verbs,
	.columns = columns,
	.empty = "penstock profile create NAME",
};

int cmd_profile(int argc, char **argv)
{
	return cli_object_run(&object, argc, argv);
}

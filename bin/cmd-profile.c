/* SPDX-License-Identifier: Apache-2.0 */
#include "cli-object.h"

#include <string.h>

static const struct cli_column columns[] = {
	{ "NAME", "name" },
	{ "BUILTIN", "builtin" },
	{ "RESERVE", "policy", false, cli_format_reserve },
	{ "LIMIT", "policy", false, cli_format_limit },
	{ "WEIGHT", "policy", true, cli_format_weight },
	{ "SUMMARY", "summary" },
	{ NULL },
};

static int change(const struct cli_object *o, int argc, char **argv, bool is_new)
{
	const char *name, *summary = NULL;
	json_t *policy = NULL, *body;
	const struct cli_arg args[] = {
		{ "--summary", "TEXT", CLI_ARG_TEXT, &summary, "what it is for, in one line" },
		CLI_POLICY_ARGS(&policy),
		{ NULL },
	};
	const struct cli_verb verb = { "profile", is_new ? "create" : "set", "NAME",
				       is_new ? "Defines a profile of this site."
					      : "Changes a profile of this site, for volumes created from now on.",
				       args };
	struct cli_common common = { 0 };
	int rc;

	if (!cli_parse(&verb, argc, argv, &common, &name, &rc)) {
		json_decref(policy);
		return rc;
	}
	if (!is_new && policy == NULL && summary == NULL) {
		cli_error("penstock profile set --help", "profile set: nothing to change was given");
		return CLI_USAGE;
	}
	body = cli_object_body(is_new ? name : NULL, policy);
	if (summary != NULL)
		json_object_set_new(body, "summary", json_string(summary));
	return cli_object_send(o, &common, is_new ? NULL : name, false, body);
}

static int create(const struct cli_object *o, int argc, char **argv)
{
	return change(o, argc, argv, true);
}

static int set(const struct cli_object *o, int argc, char **argv)
{
	return change(o, argc, argv, false);
}

static const struct cli_object_verb verbs[] = {
	{ "create", "define a profile of this site", create },   { "list", "list profiles", cli_object_list },
	{ "show", "show one profile", cli_object_show },         { "set", "change one of this site", set },
	{ "delete", "delete an unused one", cli_object_delete }, { NULL },
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

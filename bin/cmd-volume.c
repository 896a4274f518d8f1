/* SPDX-License-Identifier: Apache-2.0 */
#include "cli-object.h"

#include <string.h>

static const struct cli_column columns[] = {
	{ "NAME", "name" },
	{ "SIZE", "size_bytes", true, cli_format_size },
	{ "USED", "used_bytes", true, cli_format_size },
	{ "TENANT", "tenant" },
	{ "PROFILE", "profile" },
	{ "HOSTS", "hosts", true },
	{ "RESERVE", "policy", false, cli_format_reserve },
	{ "LIMIT", "policy", false, cli_format_limit },
	{ "STATE", "state" },
	{ NULL },
};

static int create(const struct cli_object *o, int argc, char **argv)
{
	struct cli_size size = { 0 };
	const char *name, *tenant = NULL, *profile = NULL, *pool = NULL;
	json_t *policy = NULL, *body;
	const struct cli_arg args[] = {
		{ "--size", "SIZE", CLI_ARG_SIZE, &size, "500Gi and the like; space is taken as data is written" },
		{ "--tenant", "NAME", CLI_ARG_TEXT, &tenant, "whose quota and policy it is under (default: default)" },
		{ "--profile", "NAME", CLI_ARG_TEXT, &profile, "the policy it begins with (default: general)" },
		{ "--pool", "NAME", CLI_ARG_TEXT, &pool, "default: the daemon's first" },
		CLI_POLICY_ARGS(&policy),
		{ NULL },
	};
	const struct cli_verb verb = { "volume", "create", "NAME", "Creates a volume and serves it at once.", args };
	struct cli_common common = { 0 };
	int rc;

	if (!cli_parse(&verb, argc, argv, &common, &name, &rc)) {
		json_decref(policy);
		return rc;
	}
	if (!size.given) {
		json_decref(policy);
		cli_error("penstock volume create NAME --size 10Gi", "volume create: --size is missing");
		return CLI_USAGE;
	}
	body = cli_object_body(name, policy);
	json_object_set_new(body, "size_bytes", json_integer((json_int_t)size.bytes));
	if (tenant != NULL)
		json_object_set_new(body, "tenant", json_string(tenant));
	if (profile != NULL)
		json_object_set_new(body, "profile", json_string(profile));
	if (pool != NULL)
		json_object_set_new(body, "pool", json_string(pool));
	return cli_object_send(o, &common, NULL, false, body);
}

static int set(const struct cli_object *o, int argc, char **argv)
{
	json_t *policy = NULL;
	const struct cli_arg args[] = { CLI_POLICY_ARGS(&policy), { NULL } };
	const struct cli_verb verb = { "volume", "set", "NAME", "Changes a volume's policy, in force at once.", args };
	struct cli_common common = { 0 };
	const char *name;
	int rc;

	if (!cli_parse(&verb, argc, argv, &common, &name, &rc)) {
		json_decref(policy);
		return rc;
	}
	if (policy == NULL) {
		cli_error("penstock volume set --help", "volume set: nothing to change was given");
		return CLI_USAGE;
	}
	return cli_object_send(o, &common, name, false, cli_object_body(NULL, policy));
}

static int resize(const struct cli_object *o, int argc, char **argv)
{
	struct cli_size size = { 0 };
	bool force = false;
	const struct cli_arg args[] = {
		{ "--size", "SIZE", CLI_ARG_SIZE, &size, "the new size" },
		{ "--force", NULL, CLI_ARG_FLAG, &force, "shrink also with hosts connected" },
		{ NULL },
	};
	const struct cli_verb verb = { "volume", "resize", "NAME",
				       "Grows a volume, or shrinks it where it holds no data; hosts are told.", args };
	struct cli_common common = { 0 };
	const char *name;
	json_t *body;
	int rc;

	if (!cli_parse(&verb, argc, argv, &common, &name, &rc))
		return rc;
	if (!size.given) {
		cli_error("penstock volume resize NAME --size 20Gi", "volume resize: --size is missing");
		return CLI_USAGE;
	}
	body = cli_object_body(NULL, NULL);
	json_object_set_new(body, "size_bytes", json_integer((json_int_t)size.bytes));
	return cli_object_send(o, &common, name, force, body);
}

static const struct cli_object_verb verbs[] = {
	{ "create", "create a volume", create },
	{ "list", "list volumes", cli_object_list },
	{ "show", "show one volume", cli_object_show },
	{ "set", "change its policy", set },
	{ "resize", "grow or shrink it", resize },
	{ "delete", "delete it and its data", cli_object_delete },
	{ NULL },
};

static const struct cli_object object = {
	.word = "volume",
	.collection = "volumes",
	.summary = "Volumes: thin, served over NVMe/TCP, under the policy of their tenant and their own.",
	.verbs = verbs,
	.columns = columns,
	.empty = "penstock volume create NAME --size 10Gi",
	.forceable = true,
};

int cmd_volume(int argc, char **argv)
{
	return cli_object_run(&object, argc, argv);
}

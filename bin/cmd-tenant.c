/* SPDX-License-Identifier: Apache-2.0 */
#include "cli-object.h"

#include <string.h>

static const struct cli_column columns[] = {
	{ "NAME", "name" },
	{ "VOLUMES", "volumes", true },
	{ "PROVISIONED", "provisioned_bytes", true, cli_format_size },
	{ "USED", "used_bytes", true, cli_format_size },
	{ "QUOTA", "quota_bytes", true, cli_format_quota },
	{ "RESERVE", "policy", false, cli_format_reserve },
	{ "LIMIT", "policy", false, cli_format_limit },
	{ "WEIGHT", "policy", true, cli_format_weight },
	{ NULL },
};

/* create and set take the same options. */
static int change(const struct cli_object *o, int argc, char **argv, bool is_new)
{
	struct cli_size quota = { 0 };
	json_t *policy = NULL, *body;
	const struct cli_arg args[] = {
		{ "--quota", "SIZE", CLI_ARG_SIZE, &quota, "most that its volumes' sizes may add up to; 0: no quota" },
		CLI_POLICY_ARGS(&policy),
		{ NULL },
	};
	const struct cli_verb verb = { "tenant", is_new ? "create" : "set", "NAME",
				       is_new ? "Creates a tenant."
					      : "Changes a tenant's quota or policy, in force at once.",
				       args };
	struct cli_common common = { 0 };
	const char *name;
	int rc;

	if (!cli_parse(&verb, argc, argv, &common, &name, &rc)) {
		json_decref(policy);
		return rc;
	}
	if (!is_new && policy == NULL && !quota.given) {
		cli_error("penstock tenant set --help", "tenant set: nothing to change was given");
		return CLI_USAGE;
	}
	body = cli_object_body(is_new ? name : NULL, policy);
	if (quota.given)
		json_object_set_new(body, "quota_bytes", json_integer((json_int_t)quota.bytes));
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
	{ "create", "create a tenant", create },
	{ "list", "list tenants", cli_object_list },
	{ "show", "show one tenant", cli_object_show },
	{ "set", "change its quota or policy", set },
	{ "delete", "delete one without volumes", cli_object_delete },
	{ NULL },
};

static const struct cli_object object = {
	.word = "tenant",
	.collection = "tenants",
	.summary = "Tenants: who volumes belong to, with a quota and a policy over all of their volumes.",
	.verbs = verbs,
	.columns = columns,
	.empty = "penstock tenant create NAME",
};

int cmd_tenant(int argc, char **argv)
{
	return cli_object_run(&object, argc, argv);
}

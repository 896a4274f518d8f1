/* SPDX-License-Identifier: Apache-2.0 */
#include "cli-object.h"

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

static const struct cli_arg args[] = {
	{ "--quota", "SIZE", CLI_ARG_SIZE, NULL, "most that its volumes' sizes may add up to; 0: no quota",
	  "quota_bytes" },
	CLI_POLICY_ARGS,
	{ NULL },
};

static const struct cli_object_verb verbs[] = {
	{ "create", "create a tenant", cli_object_create, "Creates a tenant.", args },
	{ "list", "list tenants", cli_object_list },
	{ "show", "show one tenant", cli_object_show },
	{ "set", "change its quota or policy", cli_object_set, "Changes a tenant's quota or policy, in force at once.",
	  args },
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

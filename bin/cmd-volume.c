/* SPDX-License-Identifier: Apache-2.0 */
#include "cli-object.h"
#include "cli-task.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct cli_column columns[] = {
	{ "NAME", "name" },
	{ "SIZE", "size_bytes", true, cli_format_size },
	{ "USED", "used_bytes", true, cli_format_size },
	{ "SNAPSHOTS", "snapshots", true },
	{ "TENANT", "tenant" },
	{ "PROFILE", "profile" },
	{ "HOSTS", "hosts", true },
	{ "RESERVE", "policy", false, cli_format_reserve },
	{ "LIMIT", "policy", false, cli_format_limit },
	{ "STATE", "state" },
	{ NULL },
};

#define OWNER_ARGS                                                                                                     \
	{ "--tenant", "NAME", CLI_ARG_TEXT, NULL, "whose quota and policy it is under (default: default)", "tenant" }, \
	{                                                                                                              \
		"--profile", "NAME", CLI_ARG_TEXT, NULL, "the policy it begins with (default: general)", "profile"     \
	}

#define SPACE_ARGS                                                                                                  \
	{                                                                                                           \
		"--on-full", "pause|fail", CLI_ARG_TEXT, NULL, "what writes that need new space do in a full pool", \
		"on_full"                                                                                           \
	},                                                                                                          \
	{                                                                                                           \
		"--reserve-space", "SIZE", CLI_ARG_SIZE, NULL, "keep that much free for it; 0 takes it back",       \
		    "reserved_bytes"                                                                                \
	}

static const struct cli_arg clone_args[] = {
	{ "--size", "SIZE", CLI_ARG_SIZE, NULL, "larger than the snapshot (default: as large)", "size_bytes" },
	OWNER_ARGS,
	SPACE_ARGS,
	CLI_POLICY_ARGS,
	{ NULL },
};

#define GROUP_ARG                                                                                                    \
	{                                                                                                            \
		"--ana-group", "N", CLI_ARG_NUMBER, NULL, "the group that it is in: see penstock port (default: 1)", \
		    "ana_group"                                                                                      \
	}

static const struct cli_arg set_args[] = { SPACE_ARGS, GROUP_ARG, CLI_POLICY_ARGS, { NULL } };

static const struct cli_arg resize_args[] = {
	{ "--size", "SIZE", CLI_ARG_SIZE, NULL, "the new size", "size_bytes" },
	CLI_FLAG_QUERY("--force", "force", "shrink also with hosts connected"),
	{ NULL },
};

static int delete (const struct cli_object *o, const struct cli_object_verb *v, int argc, char **argv)
{
	bool wait = false;
	const struct cli_arg args[] = {
		CLI_FLAG_QUERY("--force", "force", "also with hosts connected: their I/O fails"),
		CLI_FLAG_QUERY("--with-snapshots", "with_snapshots", "its snapshots too; clones of them go on"),
		{ "--wait", NULL, CLI_ARG_FLAG, &wait, "until its space has come back" },
		{ NULL },
	};
	struct cli_object_verb verb = *v;

	verb.args = args;
	return cli_delete(o, &verb, &wait, argc, argv);
}

/* NQNs with commas between them. */
static json_t *names_split(const char *names)
{
	json_t *list = json_array();

	while (*names != '\0') {
		size_t len = strcspn(names, ",");

		json_array_append_new(list, json_stringn(names, len));
		names += len + (names[len] == ',');
	}
	return list;
}

static int create(const struct cli_object *o, const struct cli_object_verb *v, int argc, char **argv)
{
	const char *hosts = NULL;
	const struct cli_arg args[] = {
		{ "--size", "SIZE", CLI_ARG_SIZE, NULL, "500Gi and the like; space is taken as data is written",
		  "size_bytes" },
		OWNER_ARGS,
		{ "--pool", "NAME", CLI_ARG_TEXT, NULL, "default: the daemon's first", "pool" },
		SPACE_ARGS,
		{ "--encrypt", NULL, CLI_ARG_FLAG, NULL, "ciphertext in the pool; penstockd needs --kek", "encrypted" },
		GROUP_ARG,
		{ "--allow", "NQN[,NQN]", CLI_ARG_TEXT, &hosts, "only these hosts may connect (default: any)" },
		CLI_POLICY_ARGS,
		{ NULL },
	};
	struct cli_common common = { 0 };
	struct cli_object_verb verb = *v;
	int rc;

	verb.args = args;
	if (!cli_object_parse(o, &verb, "NAME", argc, argv, &common, &rc))
		return rc;
	if (json_object_get(common.body, "size_bytes") == NULL) {
		cli_error("penstock volume create NAME --size 10Gi", "volume create: --size is missing");
		cli_common_done(&common);
		return CLI_USAGE;
	}
	json_object_set_new(common.body, "name", json_string(common.names[0]));
	if (hosts != NULL)
		json_object_set_new(common.body, "allowed_hosts", names_split(hosts));
	return cli_object_call(&common, "POST", strdup("/v1/volumes"));
}

/* For its hosts, which stay connected. */
static int attach_or_detach(const struct cli_object *o, const struct cli_object_verb *v, int argc, char **argv)
{
	struct cli_common common = { 0 };
	int rc;

	if (!cli_object_parse(o, v, "NAME", argc, argv, &common, &rc))
		return rc;
	common.body = json_pack("{s:b}", "attached", strcmp(v->name, "attach") == 0);
	return cli_object_call(&common, "PATCH", cli_path("volumes", common.names[0], NULL));
}

static const struct cli_arg detach_args[] = {
	CLI_FLAG_QUERY("--force", "force", "also with hosts connected: their I/O fails"),
	{ NULL },
};

/* One host more or less on the list of those that may connect. */
static int allow_or_deny(const struct cli_object *o, const struct cli_object_verb *v, int argc, char **argv)
{
	bool allow = strcmp(v->name, "allow") == 0, any = false;
	const struct cli_arg args[] = {
		{ "--any", NULL, CLI_ARG_FLAG, &any, "take the list away: any host may connect" },
		{ NULL },
	};
	struct cli_common common = { 0 };
	struct cli_object_verb verb = *v;
	int rc;

	if (allow)
		verb.args = args;
	if (!cli_object_parse(o, &verb, allow ? "VOLUME... [HOSTNQN]" : "VOLUME HOSTNQN...", argc, argv, &common, &rc))
		return rc;
	if (common.name_count != (any ? 1 : 2)) {
		cli_error(allow ? "penstock volume allow VOLUME HOSTNQN" : "penstock volume deny VOLUME HOSTNQN",
			  "volume %s: a volume and %s are needed", v->name,
			  any ? "nothing else" : "the NQN of one host");
		cli_common_done(&common);
		return CLI_USAGE;
	}
	common.body = any ? json_pack("{s:b}", "any_host", 1)
			  : json_pack("{s:s}", allow ? "allow_host" : "deny_host", common.names[1]);
	return cli_object_call(&common, "PATCH", cli_path("volumes", common.names[0], NULL));
}

static int clone(const struct cli_object *o, const struct cli_object_verb *v, int argc, char **argv)
{
	struct cli_common common = { 0 };
	int rc;

	if (!cli_object_parse(o, v, "VOLUME@NAME NEW...", argc, argv, &common, &rc))
		return rc;
	if (common.name_count != 2) {
		cli_error("penstock volume clone VOLUME@NAME NEW", "volume clone: a snapshot and the name of one new "
								   "volume are needed");
		cli_common_done(&common);
		return CLI_USAGE;
	}
	if (common.body == NULL)
		common.body = json_object();
	json_object_set_new(common.body, "source", json_string(common.names[0]));
	json_object_set_new(common.body, "name", json_string(common.names[1]));
	return cli_object_call(&common, "POST", strdup("/v1/volumes"));
}

/* Flatten and straighten: the verb is the task. */
static int run_task(const struct cli_object *o, const struct cli_object_verb *v, int argc, char **argv)
{
	struct cli_task task = { .task = v->name };
	const struct cli_arg args[] = { CLI_TASK_ARGS(&task), { NULL } };
	struct cli_object_verb verb = *v;
	struct cli_common common = { 0 };
	int rc;

	verb.args = args;
	if (!cli_object_parse(o, &verb, "NAME", argc, argv, &common, &rc))
		return rc;
	task.volume = common.names[0];
	return cli_task_run(&common, &task);
}

static const struct cli_object_verb verbs[] = {
	{ "create", "create a volume", create, "Creates a volume and serves it at once." },
	{ "clone", "create one that begins as a snapshot", clone,
	  "Creates a volume that begins as a snapshot, and serves it at once. Nothing is copied.", clone_args },
	{ "list", "list volumes", cli_object_list },
	{ "show", "show one volume", cli_object_show },
	{ "set", "change its policy, or what it does in a full pool", cli_object_set,
	  "Changes a volume's policy, or its space settings, in force at once; one of both at a time.", set_args },
	{ "resize", "grow or shrink it", cli_object_set,
	  "Grows a volume, or shrinks it where it holds no data; hosts are told.", resize_args, "size_bytes",
	  "penstock volume resize NAME --size 20Gi" },
	{ "allow", "let a host connect, and no other that is not let", allow_or_deny,
	  "Puts a host on the list of those that may connect. A volume without a list takes any host." },
	{ "deny", "take a host off the list", allow_or_deny,
	  "Takes a host off the list of those that may connect, and disconnects it. An empty list takes nobody." },
	{ "flatten", "give a clone data of its own", run_task,
	  "Copies what a clone shares with others, in the background, while it is in use." },
	{ "straighten", "put its data in order again", run_task,
	  "Puts what random overwrites have scattered in order, in the background, where that pays." },
	{ "detach", "take it from its hosts, which stay connected", attach_or_detach,
	  "Takes a volume from its hosts: they stay connected, and the volume is not there for them.", detach_args },
	{ "attach", "give it back to them", attach_or_detach, "Gives a detached volume back to its hosts." },
	{ "delete", "delete it and its data", delete, "Deletes a volume and its data." },
	{ NULL },
};

static const struct cli_object object = {
	.word = "volume",
	.collection = "volumes",
	.summary = "Volumes: thin, served over NVMe/TCP, under the policy of their tenant and their own.",
	.verbs = verbs,
	.columns = columns,
	.empty = "penstock volume create NAME --size 10Gi",
};

int cmd_volume(int argc, char **argv)
{
	return cli_object_run(&object, argc, argv);
}

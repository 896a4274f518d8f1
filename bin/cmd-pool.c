/* SPDX-License-Identifier: Apache-2.0 */
/* Pools come from penstockd's command line; this shows them, adds to them, and runs work in their background. */
#include "cmd-pool.h"

#include "cli-task.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static const struct cli_column columns[] = {
	{ "NAME", "name" },
	{ "ENGINE", "engine" },
	{ "SIZE", "size_bytes", true, cli_format_size },
	{ "USED", "used_bytes", true, cli_format_size },
	{ "FREE", "free_bytes", true, cli_format_size },
	{ "RESERVED", "reserved_bytes", true, cli_format_size },
	{ "PROVISIONED", "provisioned_bytes", true, cli_format_size },
	{ "VOLUMES", "volumes", true },
	{ "SNAPSHOTS", "snapshots", true },
	{ "DEVICES", "devices", true },
	{ NULL },
};

static const struct cli_column task_columns[] = {
	{ "TASK", "task" },
	{ "VOLUME", "volume", false, cli_format_text },
	{ "RUNNING", "running" },
	{ "DONE", "done_bytes", true, cli_format_size },
	{ "OF", "total_bytes", true, cli_format_size },
	{ "RATE/S", "rate_bytes_per_s", true, cli_format_quota },
	{ "ERRORS", "errors", true },
	{ "STARTED", "started", false, cli_format_text },
	{ NULL },
};

/* The pool that was named, or the only one; false after reporting. */
static bool which_pool(struct cli_common *common, char name[64], int *ret_exit)
{
	const struct cli_common plain = { .api = common->api };
	json_t *list;
	bool ok;

	if (common->name_count > 0) {
		snprintf(name, 64, "%s", common->names[0]);
		return true;
	}
	if (!cli_call(&plain, "GET", "/v1/pools", NULL, &list, ret_exit))
		return false;
	ok = json_array_size(list) == 1;
	if (ok)
		snprintf(name, 64, "%s", json_string_value(json_object_get(json_array_get(list, 0), "name")));
	else
		cli_error("penstock pool list", "there are several pools: name one");
	*ret_exit = CLI_USAGE;
	json_decref(list);
	return ok;
}

static int tasks(const struct cli_object *o, const struct cli_object_verb *v, int argc, char **argv)
{
	struct cli_common common = { 0 };
	char pool[64], *path;
	json_t *list = NULL;
	int rc;

	if (!cli_object_parse(o, v, "[NAME]", argc, argv, &common, &rc) || !which_pool(&common, pool, &rc))
		return rc;
	path = cli_path("pools", pool, "tasks");
	if (path != NULL && cli_call(&common, "GET", path, NULL, &list, &rc)) {
		if (common.json || json_array_size(list) > 0)
			rc = cli_object_print_list(&common, json_incref(list), task_columns);
		else
			printf("nothing is going on in the background of pool %s\n", pool);
	}
	json_decref(list);
	free(path);
	return rc;
}

static int scrub(const struct cli_object *o, const struct cli_object_verb *v, int argc, char **argv)
{
	struct cli_task task = { .task = "scrub" };
	const struct cli_arg args[] = { CLI_TASK_ARGS(&task), { NULL } };
	struct cli_object_verb verb = *v;
	struct cli_common common = { 0 };
	char pool[64];
	int rc;

	verb.args = args;
	if (!cli_object_parse(o, &verb, "[NAME]", argc, argv, &common, &rc))
		return rc;
	task.pool = pool;
	if (which_pool(&common, pool, &rc))
		return cli_task_run(&common, &task);
	cli_common_done(&common);
	return rc;
}

/* ---- Space ---- */

static int add_space(const struct cli_object *o, const struct cli_object_verb *v, int argc, char **argv)
{
	struct cli_common common = { 0 };
	bool grow = strcmp(v->name, "grow") == 0;
	char here[1024], *path = NULL;
	int rc;

	if (!cli_object_parse(o, v, "NAME PATH...", argc, argv, &common, &rc))
		return rc;
	if (common.name_count != 2) {
		cli_error(grow ? "penstock pool grow NAME PATH --size 200Gi" : "penstock pool add-device NAME PATH",
			  "pool %s: a pool and one path are needed", v->name);
		cli_common_done(&common);
		return CLI_USAGE;
	}
	if (common.names[1][0] == '/')
		path = strdup(common.names[1]);
	else if (getcwd(here, sizeof(here)) == NULL || asprintf(&path, "%s/%s", here, common.names[1]) < 0)
		path = NULL;
	if (common.body == NULL)
		common.body = json_object();
	json_object_set_new(common.body, "path", json_string(path != NULL ? path : common.names[1]));
	free(path);
	return cli_object_call(&common, "POST", cli_path("pools", common.names[0], grow ? "grow" : "devices"));
}

/* ---- Events ---- */

static void print_event(const struct cli_common *common, json_t *e)
{
	if (common->json) {
		json_dumpf(e, stdout, JSON_COMPACT);
		putchar('\n');
		return;
	}
	printf("%s %-5s %s: %s\n", json_string_value(json_object_get(e, "time")),
	       json_string_value(json_object_get(e, "level")), json_string_value(json_object_get(e, "pool")),
	       json_string_value(json_object_get(e, "text")));
}

/* Prints what came after @since; -1 after an error. */
static json_int_t print_events(struct cli_common *common, json_int_t since, int *ret_exit)
{
	char text[32];
	json_t *list, *e;
	size_t i;

	snprintf(text, sizeof(text), "%" JSON_INTEGER_FORMAT, since);
	json_object_set_new(common->query, "since", json_string(text));
	if (!cli_call(common, "GET", "/v1/events", NULL, &list, ret_exit))
		return -1;
	json_array_foreach(list, i, e)
	{
		json_int_t number = json_integer_value(json_object_get(e, "number"));

		if (since > 0 && i == 0 && number > since + 1 && json_object_get(common->query, "pool") == NULL)
			fprintf(stderr,
				"penstock: %" JSON_INTEGER_FORMAT " events were overwritten before they were "
				"read\n",
				number - since - 1);
		since = number;
		print_event(common, e);
	}
	fflush(stdout);
	json_decref(list);
	return since;
}

static int events(const struct cli_object *o, const struct cli_object_verb *v, int argc, char **argv)
{
	const char *since_text = "0";
	bool follow = false;
	const struct cli_arg args[] = {
		{ "--since", "N", CLI_ARG_TEXT, &since_text, "only those with higher numbers" },
		{ "--follow", NULL, CLI_ARG_FLAG, &follow, "go on with what comes, until interrupted" },
		{ NULL },
	};
	struct cli_object_verb verb = *v;
	struct cli_common common = { 0 };
	json_int_t since;
	char *end;
	int rc;

	verb.args = args;
	if (!cli_object_parse(o, &verb, "[NAME]", argc, argv, &common, &rc))
		return rc;
	since = strtoll(since_text, &end, 10);
	if (since_text[0] < '0' || since_text[0] > '9' || *end != '\0') {
		cli_error("penstock pool events --help", "--since needs the number of an event, not '%s'", since_text);
		return CLI_USAGE;
	}
	common.query = json_object();
	if (common.name_count > 0)
		json_object_set_new(common.query, "pool", json_string(common.names[0]));
	do {
		since = print_events(&common, since, &rc);
		if (follow && since >= 0)
			nanosleep(&(struct timespec){ .tv_sec = 1 }, NULL);
	} while (follow && since >= 0);
	cli_common_done(&common);
	return rc;
}

static const struct cli_arg grow_args[] = {
	{ "--size", "SIZE", CLI_ARG_SIZE, NULL, "what a file is to grow to; block devices have grown by other means",
	  "size_bytes" },
	{ NULL },
};

static const struct cli_object_verb verbs[] = {
	{ "list", "list pools", cli_object_list },
	{ "show", "show one pool", cli_object_show },
	{ "check", "check a pool, and repair one that nobody uses", cmd_pool_check },
	{ "tasks", "what is going on in its background", tasks, "Lists the work in the background of a pool." },
	{ "scrub", "read and verify all that is in use", scrub,
	  "Reads everything that is in use, verifies it, and mends what exists twice, while the pool is in use." },
	{ "add-device", "add a file or block device", add_space,
	  "Adds a file or block device to a pool, while it is in use." },
	{ "grow", "take what a device has grown by", add_space,
	  "Takes what a device of a pool has grown by, or lets a file grow, while the pool is in use.", grow_args },
	{ "events", "what pools had to say", events, "Prints what pools had to say since the daemon was started." },
	{ NULL },
};

static const struct cli_object object = {
	.word = "pool",
	.collection = "pools",
	.summary = "Pools: what volumes are made of. A pool is made by `penstockd --pool DIR`.",
	.verbs = verbs,
	.columns = columns,
	.empty = "penstockd --pool DIR",
};

int cmd_pool(int argc, char **argv)
{
	return cli_object_run(&object, argc, argv);
}

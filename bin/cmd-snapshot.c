/* SPDX-License-Identifier: Apache-2.0 */
/* Snapshots are named VOLUME@NAME everywhere. */
#include "cli-object.h"
#include "cli-task.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct cli_column columns[] = {
	{ "NAME", "name" },
	{ "CREATED", "created" },
	{ "SIZE", "size_bytes", true, cli_format_size },
	{ "MAPPED", "mapped_bytes", true, cli_format_size },
	{ "OWN", "own_bytes", true, cli_format_size },
	{ "CHILDREN", "children", true },
	{ "STATE", "state" },
	{ NULL },
};

/* Cuts "VOLUME@NAME" at its first '@'; NULL after reporting that it isn't one. */
static char *cut_volume(const char *name)
{
	const char *at = strchr(name, '@');

	if (at == NULL || at == name || at[1] == '\0') {
		cli_error("penstock snapshot create train@v1", "'%s' does not name a snapshot: that is VOLUME@NAME",
			  name);
		return NULL;
	}
	return strndup(name, (size_t)(at - name));
}

static json_t *members_of(const struct cli_common *common)
{
	json_t *members = json_array();

	for (unsigned i = 0; i < common->name_count; i++) {
		char *volume = cut_volume(common->names[i]);

		if (volume == NULL) {
			json_decref(members);
			return NULL;
		}
		json_array_append_new(
		    members, json_pack("{s:s s:s}", "volume", volume, "name", common->names[i] + strlen(volume) + 1));
		free(volume);
	}
	return members;
}

static int create(const struct cli_object *o, const struct cli_object_verb *v, int argc, char **argv)
{
	struct cli_common common = { 0 };
	json_t *members, *list;
	int rc;
	bool ok;

	if (!cli_object_parse(o, v, "VOLUME@NAME...", argc, argv, &common, &rc))
		return rc;
	members = members_of(&common);
	if (members == NULL)
		return CLI_USAGE;
	common.body = json_pack("{s:o}", "members", members);
	ok = cli_call(&common, "POST", "/v1/snapshots", common.body, &list, &rc);
	cli_common_done(&common);
	return ok ? cli_object_print_list(&common, list, columns) : rc;
}

static int list(const struct cli_object *o, const struct cli_object_verb *v, int argc, char **argv)
{
	struct cli_common common = { 0 };
	json_t *all;
	int rc;
	bool ok;

	if (!cli_object_parse(o, v, "[VOLUME]", argc, argv, &common, &rc))
		return rc;
	if (common.name_count > 0)
		common.query = json_pack("{s:s}", "volume", common.names[0]);
	ok = cli_call(&common, "GET", "/v1/snapshots", NULL, &all, &rc);
	cli_common_done(&common);
	if (!ok)
		return rc;
	if (common.json || json_array_size(all) > 0)
		return cli_object_print_list(&common, all, columns);
	printf("no snapshots yet; try: %s\n", o->empty);
	json_decref(all);
	return CLI_OK;
}

static const struct cli_column diff_columns[] = {
	{ "OFFSET", "offset_bytes", true },
	{ "LENGTH", "length_bytes", true },
	{ NULL },
};

static void print_diff(const struct cli_common *common, json_t *ranges, const char *name)
{
	uint64_t bytes = 0;
	char size[64];
	json_t *range, *sum;
	size_t i;

	json_array_foreach(ranges, i, range) bytes +=
	    (uint64_t)json_integer_value(json_object_get(range, "length_bytes"));
	sum = json_integer((json_int_t)bytes);
	if (json_array_size(ranges) > 0)
		cli_print_table(ranges, diff_columns);
	printf("%s%s differs from %s in %zu range%s, %s\n", json_array_size(ranges) > 0 ? "\n" : "", name,
	       json_object_get(common->query, "from") ? json_string_value(json_object_get(common->query, "from"))
						      : "nothing",
	       json_array_size(ranges), json_array_size(ranges) == 1 ? "" : "s", cli_format_size(sum, size));
	json_decref(sum);
}

/* Answers are bounded: asks until there is no more. */
static int diff(const struct cli_object *o, const struct cli_object_verb *v, int argc, char **argv)
{
	struct cli_common common = { 0 };
	json_t *ranges = json_array(), *part, *next;
	char offset[32];
	bool more = false;
	char *path;
	int rc;

	if (!cli_object_parse(o, v, "VOLUME@NAME", argc, argv, &common, &rc)) {
		json_decref(ranges);
		return rc;
	}
	path = cli_path(o->collection, common.names[0], "diff");
	if (common.query == NULL)
		common.query = json_object();
	do {
		if (path == NULL || !cli_call(&common, "GET", path, NULL, &part, &rc))
			break;
		json_array_extend(ranges, json_object_get(part, "ranges"));
		next = json_object_get(part, "next_offset_bytes");
		snprintf(offset, sizeof(offset), "%" JSON_INTEGER_FORMAT, json_integer_value(next));
		json_object_set_new(common.query, "offset_bytes", json_string(offset));
		more = next != NULL;
		json_decref(part);
	} while (more);
	free(path);
	if (rc == CLI_OK && common.json) {
		part = json_pack("{s:s s:O}", "name", common.names[0], "ranges", ranges);
		if (json_object_get(common.query, "from") != NULL)
			json_object_set(part, "from", json_object_get(common.query, "from"));
		rc = cli_print_json(part);
		json_decref(part);
	} else if (rc == CLI_OK) {
		print_diff(&common, ranges, common.names[0]);
	}
	json_decref(ranges);
	cli_common_done(&common);
	return rc;
}

static int rollback(const struct cli_object *o, const struct cli_object_verb *v, int argc, char **argv)
{
	const char *to = NULL;
	const struct cli_arg args[] = {
		{ "--volume", "NAME", CLI_ARG_TEXT, &to, "another volume of its family (default: the one it is of)" },
		CLI_FLAG_QUERY("--force", "force", "also with hosts connected: what they have cached is wrong then"),
		{ NULL },
	};
	struct cli_object_verb verb = *v;
	struct cli_common common = { 0 };
	char *volume;
	int rc;

	verb.args = args;
	if (!cli_object_parse(o, &verb, "VOLUME@NAME", argc, argv, &common, &rc))
		return rc;
	volume = cut_volume(common.names[0]);
	if (volume == NULL) {
		cli_common_done(&common);
		return CLI_USAGE;
	}
	common.body = json_pack("{s:s}", "snapshot", common.names[0]);
	rc = cli_object_call(&common, "POST", cli_path("volumes", to != NULL ? to : volume, "rollback"));
	free(volume);
	return rc;
}

static int delete (const struct cli_object *o, const struct cli_object_verb *v, int argc, char **argv)
{
	bool wait = false;
	const struct cli_arg args[] = {
		{ "--wait", NULL, CLI_ARG_FLAG, &wait, "until its space has come back" },
		{ NULL },
	};
	struct cli_object_verb verb = *v;

	verb.args = args;
	return cli_delete(o, &verb, &wait, argc, argv);
}

static const struct cli_arg diff_args[] = {
	{ "--from", "SNAPSHOT", CLI_ARG_TEXT, NULL,
	  "NAME of the same volume, or VOLUME@NAME of its family (default: nothing: all that has data)", "?from" },
	{ NULL },
};

static const struct cli_object_verb verbs[] = {
	{ "create", "take snapshots, all at one instant", create,
	  "Takes snapshots of volumes of one pool, all at one instant, while they are in use." },
	{ "list", "list snapshots, of one volume or all", list },
	{ "show", "show one snapshot", cli_object_show },
	{ "diff", "the ranges that differ from another one", diff,
	  "Lists the ranges in which a snapshot differs from another one.", diff_args },
	{ "rollback", "make the volume what it was then", rollback,
	  "Makes a volume what a snapshot is. Newer snapshots stay. What was not in any snapshot is lost." },
	{ "delete", "delete one; its space comes back in the background", delete,
	  "Deletes a snapshot. Other snapshots and clones stay as they are." },
	{ NULL },
};

static const struct cli_object object = {
	.word = "snapshot",
	.collection = "snapshots",
	.summary = "Snapshots: what volumes were at an instant. `penstock volume clone` makes a volume of one.",
	.verbs = verbs,
	.columns = columns,
	.empty = "penstock snapshot create VOLUME@NAME",
};

int cmd_snapshot(int argc, char **argv)
{
	return cli_object_run(&object, argc, argv);
}

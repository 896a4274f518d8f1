/* SPDX-License-Identifier: Apache-2.0 */
/* Keys of encrypted volumes: which key-encryption key they are wrapped with; rotation, reloading, crypto-erase. */
#include "cli-object.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct cli_column columns[] = {
	{ "VOLUME", "volume" }, { "STATE", "state" }, { "KEK", "kek" },
	{ "POOL", "pool" },     { "ERROR", "error" }, { NULL },
};

static const char *text(json_t *json, const char *member)
{
	const char *value = json_string_value(json_object_get(json, member));

	return value != NULL ? value : "";
}

static void print_kek(json_t *kek)
{
	if (!json_is_object(kek)) {
		puts("key-encryption keys: none (penstockd was started without --kek)");
		return;
	}
	printf("key-encryption keys: %s, %lld known, wrapping with %s\n", text(kek, "source"),
	       (long long)json_integer_value(json_object_get(kek, "keys")),
	       text(kek, "current")[0] != '\0' ? text(kek, "current") : "none");
	if (text(kek, "problem")[0] != '\0')
		printf("problem: %s\n", text(kek, "problem"));
}

static int status(const struct cli_object *o, const struct cli_object_verb *v, int argc, char **argv)
{
	struct cli_common common = { 0 };
	json_t *answer, *list;
	char *path;
	int rc;
	bool ok;

	if (!cli_object_parse(o, v, "[VOLUME]", argc, argv, &common, &rc))
		return rc;
	if (common.name_count > 0)
		return cli_object_show(o, v, argc, argv);
	path = strdup("/v1/keys");
	ok = path != NULL && cli_call(&common, "GET", path, NULL, &answer, &rc);
	free(path);
	cli_common_done(&common);
	if (!ok)
		return rc;
	list = json_object_get(answer, "volumes");
	if (common.json) {
		rc = cli_print_json(answer);
	} else {
		print_kek(json_object_get(answer, "kek"));
		rc = json_array_size(list) > 0 ? cli_print_table(list, columns)
					       : printf("no encrypted volumes; try: %s\n", o->empty) < 0;
	}
	json_decref(answer);
	return rc;
}

/* Sends an action and prints its counts; @counts: members, ended by NULL. */
static int act(struct cli_common *common, const char *action, const char *const *counts)
{
	json_t *answer, *failed, *one;
	size_t i;
	int rc;
	bool ok;

	common->body = json_pack("{s:s}", "action", action);
	if (common->name_count > 0)
		json_object_set_new(common->body, "volume", json_string(common->names[0]));
	ok = cli_call(common, "POST", "/v1/keys", common->body, &answer, &rc);
	cli_common_done(common);
	if (!ok)
		return rc;
	failed = json_object_get(answer, "failed");
	if (common->json) {
		rc = cli_print_json(answer);
	} else {
		print_kek(json_object_get(answer, "kek"));
		for (; *counts != NULL; counts++)
			printf("%s: %lld\n", *counts, (long long)json_integer_value(json_object_get(answer, *counts)));
	}
	json_array_foreach(failed, i, one)
	    cli_error("penstock key status", "%s '%s': %s", text(one, "host")[0] != '\0' ? "host" : "volume",
		      text(one, "host")[0] != '\0' ? text(one, "host") : text(one, "volume"), text(one, "error"));
	if (rc == CLI_OK && json_array_size(failed) > 0)
		rc = CLI_FAILED;
	json_decref(answer);
	return rc;
}

static int rotate(const struct cli_object *o, const struct cli_object_verb *v, int argc, char **argv)
{
	static const char *const counts[] = { "rotated", "current", NULL };
	struct cli_common common = { 0 };
	int rc;

	if (!cli_object_parse(o, v, "[VOLUME]", argc, argv, &common, &rc))
		return rc;
	return act(&common, "rotate", counts);
}

static int reload(const struct cli_object *o, const struct cli_object_verb *v, int argc, char **argv)
{
	static const char *const counts[] = { "unlocked", "locked", NULL };
	struct cli_common common = { 0 };
	int rc;

	if (!cli_object_parse(o, v, NULL, argc, argv, &common, &rc))
		return rc;
	return act(&common, "reload", counts);
}

/* Nothing brings the data back: it has to be meant. */
static int erase(const struct cli_object *o, const struct cli_object_verb *v, int argc, char **argv)
{
	bool yes = false;
	const struct cli_arg args[] = {
		{ "--yes", NULL, CLI_ARG_FLAG, &yes, "yes: what was written becomes unreadable, for ever" },
		CLI_FLAG_QUERY("--force", "force", "also with hosts connected, and with clones, which share the key"),
		{ NULL },
	};
	struct cli_object_verb with_args = *v;
	struct cli_common common = { 0 };
	char *path;
	int rc;
	bool ok;

	with_args.args = args;
	if (!cli_object_parse(o, &with_args, "VOLUME", argc, argv, &common, &rc))
		return rc;
	if (!yes) {
		cli_error("penstock key erase VOLUME --yes",
			  "key erase: this makes volume '%s', its clones and their snapshots unreadable for ever; "
			  "say --yes if that is meant",
			  common.names[0]);
		cli_common_done(&common);
		return CLI_USAGE;
	}
	path = cli_path("keys", common.names[0], NULL);
	ok = path != NULL && cli_call(&common, "DELETE", path, NULL, NULL, &rc);
	free(path);
	if (ok && common.json)
		printf("{\"erased\": \"%s\"}\n", common.names[0]);
	else if (ok)
		printf("erased the key of volume %s; penstock volume delete %s gives its space back\n", common.names[0],
		       common.names[0]);
	cli_common_done(&common);
	return rc;
}

static const struct cli_object_verb verbs[] = {
	{ "status", "which keys there are, and what is locked", status,
	  "Shows the key-encryption keys and every encrypted volume." },
	{ "rotate", "wrap volume keys with the current key-encryption key", rotate,
	  "Wraps the key of a volume, or of all, with the current key-encryption key. No data is rewritten. Cut short, "
	  "it "
	  "goes on when it is run again." },
	{ "reload", "read the key-encryption keys again, and unlock", reload,
	  "Reads the key-encryption keys again and serves the volumes that this unlocks." },
	{ "erase", "destroy a volume's key: nobody can read it any more", erase,
	  "Destroys the key of a volume and all of its clones and snapshots. Nothing brings it back." },
	{ NULL },
};

static const struct cli_object object = {
	.word = "key",
	.collection = "keys",
	.summary = "Keys of encrypted volumes (penstock volume create NAME --size SIZE --encrypt).",
	.verbs = verbs,
	.columns = columns,
	.empty = "penstock volume create NAME --size 10Gi --encrypt",
};

int cmd_key(int argc, char **argv)
{
	return cli_object_run(&object, argc, argv);
}

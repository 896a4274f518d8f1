/* SPDX-License-Identifier: Apache-2.0 */
#include "cli-object.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct cli_arg no_args[] = { { NULL } };

int cli_object_run(const struct cli_object *o, int argc, char **argv)
{
	char hint[64];

	for (const struct cli_object_verb *v = o->verbs; argc > 1 && v->name != NULL; v++)
		if (strcmp(argv[1], v->name) == 0)
			return v->run(o, v, argc - 1, argv + 1);
	snprintf(hint, sizeof(hint), "penstock %s --help", o->word);
	if (argc > 1 && strcmp(argv[1], "--help") != 0 && strcmp(argv[1], "-h") != 0) {
		cli_error(hint, "%s: unknown verb '%s'", o->word, argv[1]);
		return CLI_USAGE;
	}
	printf("usage: penstock %s VERB [ARGUMENTS]\n\n%s\n\nVerbs:\n", o->word, o->summary);
	for (const struct cli_object_verb *v = o->verbs; v->name != NULL; v++)
		printf("  %-10s %s\n", v->name, v->summary);
	printf("\n`penstock %s VERB --help` tells more.\n", o->word);
	return argc > 1 ? CLI_OK : CLI_USAGE;
}

bool cli_object_parse(const struct cli_object *o, const struct cli_object_verb *v, const char *names, int argc,
		      char **argv, struct cli_common *common, int *ret_exit)
{
	const struct cli_verb verb = { o->word, v->name, names, v->text != NULL ? v->text : v->summary,
				       v->args != NULL ? v->args : no_args };

	return cli_parse(&verb, argc, argv, common, ret_exit);
}

int cli_object_print_list(const struct cli_common *common, json_t *list, const struct cli_column *columns)
{
	int rc = common->json ? cli_print_json(list) : cli_print_table(list, columns);

	json_decref(list);
	return rc;
}

int cli_object_list(const struct cli_object *o, const struct cli_object_verb *v, int argc, char **argv)
{
	struct cli_common common = { 0 };
	char path[64];
	json_t *list;
	int rc;
	bool ok;

	if (!cli_object_parse(o, v, NULL, argc, argv, &common, &rc))
		return rc;
	snprintf(path, sizeof(path), "/v1/%s", o->collection);
	ok = cli_call(&common, "GET", path, NULL, &list, &rc);
	cli_common_done(&common);
	if (!ok)
		return rc;
	if (common.json || json_array_size(list) > 0)
		return cli_object_print_list(&common, list, o->columns);
	printf("no %s yet; try: %s\n", o->collection, o->empty);
	json_decref(list);
	return CLI_OK;
}

int cli_object_call(struct cli_common *common, const char *method, char *path)
{
	json_t *object;
	int rc = CLI_FAILED;

	if (path != NULL && cli_call(common, method, path, common->body, &object, &rc)) {
		rc = common->json ? cli_print_json(object) : cli_print_card(object);
		json_decref(object);
	}
	free(path);
	cli_common_done(common);
	return rc;
}

int cli_object_show(const struct cli_object *o, const struct cli_object_verb *v, int argc, char **argv)
{
	struct cli_common common = { 0 };
	int rc;

	if (!cli_object_parse(o, v, "NAME", argc, argv, &common, &rc))
		return rc;
	return cli_object_call(&common, "GET", cli_path(o->collection, common.names[0], NULL));
}

/* False after reporting that a needed option is missing. */
static bool has_needed(const struct cli_object *o, const struct cli_object_verb *v, struct cli_common *common)
{
	const struct cli_arg *a = v->args;

	if (v->needs == NULL || json_object_get(common->body, v->needs) != NULL)
		return true;
	while (a->member == NULL || strcmp(a->member, v->needs) != 0)
		a++;
	cli_error(v->how, "%s %s: %s is missing", o->word, v->name, a->name);
	cli_common_done(common);
	return false;
}

int cli_object_create(const struct cli_object *o, const struct cli_object_verb *v, int argc, char **argv)
{
	struct cli_common common = { 0 };
	char path[64];
	int rc;

	if (!cli_object_parse(o, v, "NAME", argc, argv, &common, &rc))
		return rc;
	if (!has_needed(o, v, &common))
		return CLI_USAGE;
	if (common.body == NULL)
		common.body = json_object();
	json_object_set_new(common.body, "name", json_string(common.names[0]));
	snprintf(path, sizeof(path), "/v1/%s", o->collection);
	return cli_object_call(&common, "POST", strdup(path));
}

int cli_object_set(const struct cli_object *o, const struct cli_object_verb *v, int argc, char **argv)
{
	struct cli_common common = { 0 };
	char hint[64];
	int rc;

	if (!cli_object_parse(o, v, "NAME", argc, argv, &common, &rc))
		return rc;
	if (!has_needed(o, v, &common))
		return CLI_USAGE;
	if (common.body == NULL) {
		snprintf(hint, sizeof(hint), "penstock %s %s --help", o->word, v->name);
		cli_error(hint, "%s %s: nothing to change was given", o->word, v->name);
		cli_common_done(&common);
		return CLI_USAGE;
	}
	return cli_object_call(&common, "PATCH", cli_path(o->collection, common.names[0], NULL));
}

int cli_object_delete(const struct cli_object *o, const struct cli_object_verb *v, int argc, char **argv)
{
	struct cli_common common = { 0 };
	char *path;
	int rc;
	bool ok;

	if (!cli_object_parse(o, v, "NAME", argc, argv, &common, &rc))
		return rc;
	path = cli_path(o->collection, common.names[0], NULL);
	ok = path != NULL && cli_call(&common, "DELETE", path, NULL, NULL, &rc);
	free(path);
	cli_common_done(&common);
	if (ok && common.json)
		printf("{\"deleted\": \"%s\"}\n", common.names[0]);
	else if (ok)
		printf("deleted %s %s\n", o->word, common.names[0]);
	return rc;
}

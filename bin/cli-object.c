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
			return v->run(o, argc - 1, argv + 1);
	snprintf(hint, sizeof(hint), "penstock %s --help", o->word);
	if (argc > 1 && strcmp(argv[1], "--help") != 0 && strcmp(argv[1], "-h") != 0) {
		cli_error(hint, "%s: unknown verb '%s'", o->word, argv[1]);
		return CLI_USAGE;
	}
	printf("usage: penstock %s VERB [ARGUMENTS]\n\n%s\n\nVerbs:\n", o->word, o->summary);
	for (const struct cli_object_verb *v = o->verbs; v->name != NULL; v++)
		printf("  %-8s %s\n", v->name, v->summary);
	printf("\n`penstock %s VERB --help` tells more.\n", o->word);
	return argc > 1 ? CLI_OK : CLI_USAGE;
}

int cli_object_list(const struct cli_object *o, int argc, char **argv)
{
	const struct cli_verb verb = { o->word, "list", NULL, "Lists what there is.", no_args };
	struct cli_common common = { 0 };
	char path[64];
	json_t *list;
	int rc;

	snprintf(path, sizeof(path), "/v1/%s", o->collection);
	if (!cli_parse(&verb, argc, argv, &common, NULL, &rc) || !cli_call(&common, "GET", path, NULL, &list, &rc))
		return rc;
	if (common.json)
		rc = cli_print_json(list);
	else if (json_array_size(list) == 0)
		printf("no %s yet; try: %s\n", o->collection, o->empty);
	else
		rc = cli_print_table(list, o->columns);
	json_decref(list);
	return rc;
}

static int print_object(const struct cli_common *common, json_t *object)
{
	int rc = common->json ? cli_print_json(object) : cli_print_card(object);

	json_decref(object);
	return rc;
}

int cli_object_show(const struct cli_object *o, int argc, char **argv)
{
	const struct cli_verb verb = { o->word, "show", "NAME", "Shows one.", no_args };
	struct cli_common common = { 0 };
	const char *name;
	json_t *object;
	char *path;
	int rc;
	bool ok;

	if (!cli_parse(&verb, argc, argv, &common, &name, &rc))
		return rc;
	path = cli_path(o->collection, name, false);
	ok = path != NULL && cli_call(&common, "GET", path, NULL, &object, &rc);
	free(path);
	return ok ? print_object(&common, object) : rc;
}

int cli_object_delete(const struct cli_object *o, int argc, char **argv)
{
	bool force = false;
	const struct cli_arg force_args[] = {
		{ "--force", NULL, CLI_ARG_FLAG, &force, "also with hosts connected: their I/O fails" }, { NULL }
	};
	const struct cli_verb verb = { o->word, "delete", "NAME", "Deletes one, and what it holds.",
				       o->forceable ? force_args : no_args };
	struct cli_common common = { 0 };
	const char *name;
	char *path;
	int rc;
	bool ok;

	if (!cli_parse(&verb, argc, argv, &common, &name, &rc))
		return rc;
	path = cli_path(o->collection, name, force);
	ok = path != NULL && cli_call(&common, "DELETE", path, NULL, NULL, &rc);
	free(path);
	if (ok && common.json)
		printf("{\"deleted\": \"%s\"}\n", name);
	else if (ok)
		printf("deleted %s %s\n", o->word, name);
	return rc;
}

int cli_object_send(const struct cli_object *o, const struct cli_common *common, const char *name, bool force,
		    json_t *body)
{
	char collection[64];
	char *path = NULL;
	json_t *object;
	int rc = CLI_FAILED;
	bool ok;

	snprintf(collection, sizeof(collection), "/v1/%s", o->collection);
	if (name != NULL)
		path = cli_path(o->collection, name, force);
	ok = body != NULL && (name == NULL || path != NULL) &&
	     cli_call(common, name != NULL ? "PATCH" : "POST", name != NULL ? path : collection, body, &object, &rc);
	free(path);
	json_decref(body);
	return ok ? print_object(common, object) : rc;
}

json_t *cli_object_body(const char *name, json_t *policy)
{
	json_t *body = json_object();

	if (name != NULL)
		json_object_set_new(body, "name", json_string(name));
	if (policy != NULL)
		json_object_set_new(body, "policy", policy);
	return body;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Tokens of the API. A token is printed once, by the command that has it made: the daemon keeps its digest alone. */
#include "cli-object.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NS_PER_S 1000000000u

static const struct cli_column columns[] = {
	{ "NAME", "name" },
	{ "ROLE", "role" },
	{ "TENANT", "tenant", false, cli_format_text },
	{ "CREATED", "created" },
	{ "EXPIRES", "expires", false, cli_format_text },
	{ "LAST USED", "last_used", false, cli_format_text },
	{ NULL },
};

static int print_created(const struct cli_common *common, json_t *token)
{
	json_t *text;
	int rc;

	if (common->json)
		return cli_print_json(token);
	text = json_incref(json_object_get(token, "token"));
	json_object_del(token, "token");
	rc = cli_print_card(token);
	printf("The token, which is not shown again; for --token-file:\n  %s\n", json_string_value(text));
	json_decref(text);
	return fflush(stdout) == 0 ? rc : CLI_FAILED;
}

static int create(const struct cli_object *o, const struct cli_object_verb *v, int argc, char **argv)
{
	uint64_t expires_ns = UINT64_MAX; /* not given */
	const struct cli_arg args[] = {
		{ "--role", "ROLE", CLI_ARG_TEXT, NULL, "admin, operator, tenant, viewer or metrics", "role" },
		{ "--tenant", "TENANT", CLI_ARG_TEXT, NULL, "the only one that it can see: for tenant, viewer, metrics",
		  "tenant" },
		{ "--expires", "DURATION", CLI_ARG_DURATION, &expires_ns, "how long it is valid, as 12h or 30d", NULL },
		{ NULL },
	};
	struct cli_object_verb verb = *v;
	struct cli_common common = { 0 };
	json_t *token;
	int rc;

	verb.args = args;
	if (!cli_object_parse(o, &verb, "NAME", argc, argv, &common, &rc))
		return rc;
	if (json_object_get(common.body, "role") == NULL) {
		cli_error("penstock token create NAME --role viewer", "token create: --role is missing");
		cli_common_done(&common);
		return CLI_USAGE;
	}
	json_object_set_new(common.body, "name", json_string(common.names[0]));
	if (expires_ns != UINT64_MAX)
		json_object_set_new(common.body, "expires_in_s",
				    json_integer((json_int_t)pst_div_round_up(expires_ns, NS_PER_S)));
	if (cli_call(&common, "POST", "/v1/tokens", common.body, &token, &rc)) {
		rc = print_created(&common, token);
		json_decref(token);
	}
	cli_common_done(&common);
	return rc;
}

static const struct cli_object_verb verbs[] = {
	{ "create", "make a token, and print it this once", create,
	  "Makes a token and prints it, this once. Whoever has it may do what its role may." },
	{ "list", "list tokens", cli_object_list },
	{ "show", "show one, without its secret", cli_object_show },
	{ "revoke", "end one, at once", cli_object_delete, "Revokes a token: from then on it opens nothing." },
	{ NULL },
};

static const struct cli_object object = {
	.word = "token",
	.collection = "tokens",
	.summary = "Tokens: who may call the API, over https or with less than everything.",
	.verbs = verbs,
	.columns = columns,
	.empty = "penstock token create NAME --role viewer",
};

int cmd_token(int argc, char **argv)
{
	return cli_object_run(&object, argc, argv);
}

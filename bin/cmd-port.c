/* SPDX-License-Identifier: Apache-2.0 */
#include "cli-object.h"

static const struct cli_column columns[] = {
	{ "ID", "id", true },
	{ "ADDRESS", "address" },
	{ "ACCESS", "ana" },
	{ NULL },
};

static const struct cli_arg set_args[] = {
	{ "--ana", "STATE", CLI_ARG_TEXT, NULL,
	  "optimized, non-optimized, inaccessible, persistent-loss or change: what hosts are told", "ana" },
	{ "--group", "N", CLI_ARG_NUMBER, NULL, "only for the volumes of this ANA group (default: all)", "group" },
	{ NULL },
};

static const struct cli_object_verb verbs[] = {
	{ "list", "list ports", cli_object_list },
	{ "show", "show one, with the ANA groups of volumes", cli_object_show },
	{ "set", "say how well volumes may be used through it", cli_object_set,
	  "Changes the access to volumes through a port, at once. Commands that are under way complete.", set_args,
	  "ana", "penstock port set ID --ana inaccessible" },
	{ NULL },
};

static const struct cli_object object = {
	.word = "port",
	.collection = "ports",
	.summary = "Ports: the addresses where hosts connect.",
	.verbs = verbs,
	.columns = columns,
	.empty = "penstockd --listen ADDR:PORT",
};

int cmd_port(int argc, char **argv)
{
	return cli_object_run(&object, argc, argv);
}

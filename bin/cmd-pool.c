/* SPDX-License-Identifier: Apache-2.0 */
/* Pools come from penstockd's command line; this only shows them. */
#include "cmd-pool.h"

static const struct cli_column columns[] = {
	{ "NAME", "name" },
	{ "ENGINE", "engine" },
	{ "SIZE", "size_bytes", true, cli_format_size },
	{ "USED", "used_bytes", true, cli_format_size },
	{ "FREE", "free_bytes", true, cli_format_size },
	{ "PROVISIONED", "provisioned_bytes", true, cli_format_size },
	{ "VOLUMES", "volumes", true },
	{ NULL },
};

static const struct cli_object_verb verbs[] = {
	{ "list", "list pools", cli_object_list },
	{ "show", "show one pool", cli_object_show },
	{ "check", "check a pool, and repair one that nobody uses", cmd_pool_check },
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

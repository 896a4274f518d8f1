/* SPDX-License-Identifier: Apache-2.0 */
#include "cli.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* In the order of --help. */
static const struct cli_command commands[] = {
	{ "volume", "create, clone, list, show, change, resize and delete volumes", cmd_volume },
	{ "snapshot", "take, list, compare, roll back to and delete snapshots", cmd_snapshot },
	{ "tenant", "create, list, show, change and delete tenants", cmd_tenant },
	{ "port", "where hosts connect, and what may be used there", cmd_port },
	{ "profile", "named policies that volumes begin with", cmd_profile },
	{ "host", "hosts that authenticate: create, list, show, change, delete", cmd_host },
	{ "key", "keys of encrypted volumes: status, rotation, erasure", cmd_key },
	{ "token", "who may call the API: create, list, show, revoke", cmd_token },
	{ "pool", "list, scrub, enlarge and watch pools", cmd_pool },
	{ "top", "what volumes and tenants are doing, live", cmd_top },
	{ "bench", "what a noisy neighbour costs, and what a guarantee gives back", cmd_bench },
	{ "doctor", "what this machine can and can't do, and what to do about it", cmd_doctor },
	{ "mount", "make a volume a directory", cmd_mount },
	{ "umount", "end that", cmd_umount },
	{ "run", "run a pipeline", cmd_run },
	{ "report", "make the report of a pipeline run", cmd_report },
	{ NULL, NULL, NULL },
};

void cli_error(const char *hint, const char *fmt, ...)
{
	va_list ap;

	fputs("penstock: ", stderr);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
	if (hint != NULL && hint[0] != '\0')
		fprintf(stderr, "  try: %s\n", hint);
}

int cli_exit_for(pst_err err)
{
	switch (err) {
	case PST_OK:
		return CLI_OK;
	case PST_E_INVAL:
	case PST_E_RANGE:
		return CLI_USAGE;
	case PST_E_REFUSED:
		return CLI_NO_DAEMON;
	case PST_E_NOTFOUND:
		return CLI_NOT_FOUND;
	case PST_E_EXISTS:
	case PST_E_BUSY:
	case PST_E_LOCKED:
	case PST_E_ADDRINUSE:
		return CLI_CONFLICT;
	case PST_E_NOSPACE:
	case PST_E_QUOTA:
		return CLI_NO_SPACE;
	case PST_E_UNSUPPORTED:
		return CLI_UNSUPPORTED;
	case PST_E_DENIED:
		return CLI_DENIED;
	default:
		return CLI_FAILED;
	}
}

static void print_help(void)
{
	puts("usage: penstock COMMAND [ARGUMENTS]\n\nCommands:");
	for (const struct cli_command *c = commands; c->name != NULL; c++)
		printf("  %-10s %s\n", c->name, c->summary);
	puts("\n`penstock COMMAND --help` tells more; penstock(1) lists exit codes and environment variables.");
}

int main(int argc, char **argv)
{
	if (argc < 2 || strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "help") == 0) {
		print_help();
		return argc < 2 ? CLI_USAGE : CLI_OK;
	}
	if (strcmp(argv[1], "--version") == 0) {
		puts("penstock " PENSTOCK_VERSION);
		return CLI_OK;
	}
	for (const struct cli_command *c = commands; c->name != NULL; c++)
		if (strcmp(c->name, argv[1]) == 0)
			return c->run(argc - 1, argv + 1);
	cli_error("penstock --help", "unknown command '%s'", argv[1]);
	return CLI_USAGE;
}

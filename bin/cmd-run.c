/* SPDX-License-Identifier: Apache-2.0 */
/* penstock run: see penstock-run(1). */
#include "cli.h"
#include "pipeline/run.h"

#include <getopt.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char usage[] =
    "usage: penstock run FILE [options]\n\n"
    "Runs the pipeline in FILE (penstock-pipeline(5)), each step on its volumes.\n\n"
    "  --dry-run        check the file and print the plan\n"
    "  --fresh          run every step, cached or not, from empty checkpoint volumes\n"
    "  --record DIR     write run.json, logs and events there (default: STATE/runs/RUN)\n"
    "  --state DIR      registry and defaults (default: $PENSTOCK_STATE_DIR, /var/lib/penstock for root,\n"
    "                   ~/.local/state/penstock for others)\n"
    "  --pool DIR       start an own penstockd on this pool (default: STATE/pool, if no daemon answers)\n"
    "  --api URL        use the daemon at URL (default: $PENSTOCK_URL)\n"
    "  --path PATH      reach volumes by kernel, fuse-loop, fuse2fs or staged (default: $PENSTOCK_MOUNT, or the best)\n"
    "  --kill STEP@N    rehearse a failure: SIGKILL that step once, when it reports training step N\n"
    "  --json           print the record (or, with --dry-run, the plan) as JSON on stdout\n";

enum { OPT_DRY_RUN = 256, OPT_FRESH, OPT_RECORD, OPT_STATE, OPT_POOL, OPT_API, OPT_PATH, OPT_KILL, OPT_JSON, OPT_HELP };

static const struct option options[] = {
	{ "dry-run", no_argument, NULL, OPT_DRY_RUN },
	{ "fresh", no_argument, NULL, OPT_FRESH },
	{ "record", required_argument, NULL, OPT_RECORD },
	{ "state", required_argument, NULL, OPT_STATE },
	{ "pool", required_argument, NULL, OPT_POOL },
	{ "api", required_argument, NULL, OPT_API },
	{ "path", required_argument, NULL, OPT_PATH },
	{ "kill", required_argument, NULL, OPT_KILL },
	{ "json", no_argument, NULL, OPT_JSON },
	{ "help", no_argument, NULL, OPT_HELP },
	{ NULL, 0, NULL, 0 },
};

static const int exits[] = {
	[PST_RUN_OK] = CLI_OK,
	[PST_RUN_FAILED] = CLI_FAILED,
	[PST_RUN_USAGE] = CLI_USAGE,
	[PST_RUN_NO_DAEMON] = CLI_NO_DAEMON,
	[PST_RUN_CONFLICT] = CLI_CONFLICT,
	[PST_RUN_NO_SPACE] = CLI_NO_SPACE,
	[PST_RUN_UNSUPPORTED] = CLI_UNSUPPORTED,
	[PST_RUN_STEP_FAILED] = CLI_STEP_FAILED,
	[PST_RUN_INTERRUPTED] = CLI_INTERRUPTED,
};

/* A path beside the running program: "SELF_DIR/NAME" if it is there, else NULL. The caller frees. */
static char *beside_self(const char *name)
{
	char self[4096], *path = NULL;
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);

	if (n <= 0)
		return NULL;
	self[n] = '\0';
	if (asprintf(&path, "%s/%s", dirname(self), name) < 0)
		return NULL;
	if (access(path, F_OK) == 0)
		return path;
	free(path);
	return NULL;
}

/* Our Python helper: beside an installed program, or in the tree that it was built from. */
static char *find_python(void)
{
	static const char *const places[] = { "../share/penstock/python", "../../python", "../python" };
	char *found = NULL;

	for (size_t i = 0; i < PST_ARRAY_COUNT(places) && found == NULL; i++) {
		char *place = beside_self(places[i]);

		found = place != NULL ? realpath(place, NULL) : NULL;
		free(place);
	}
	return found;
}

static bool parse_kill(char *text, struct pst_run_options *o)
{
	char *at = strchr(text, '@'), *end = NULL;

	if (at == NULL || at == text)
		return false;
	*at = '\0';
	o->kill_step = text;
	unsigned long n = strtoul(at + 1, &end, 10);
	o->kill_at = (unsigned)n;
	return at[1] != '\0' && *end == '\0' && n > 0 && n < 1u << 31;
}

/* 0, or an exit code; CLI_OK + 1000 for --help. */
static int parse(int argc, char **argv, struct pst_run_options *o)
{
	for (int c; (c = getopt_long(argc, argv, "h", options, NULL)) != -1;)
		switch (c) {
		case OPT_DRY_RUN:
			o->dry_run = true;
			break;
		case OPT_FRESH:
			o->fresh = true;
			break;
		case OPT_RECORD:
			o->record = optarg;
			break;
		case OPT_STATE:
			o->state = optarg;
			break;
		case OPT_POOL:
			o->pool = optarg;
			break;
		case OPT_API:
			o->api = optarg;
			break;
		case OPT_PATH:
			o->path = optarg;
			break;
		case OPT_KILL:
			if (!parse_kill(optarg, o)) {
				cli_error("--kill train@100", "--kill wants STEP@N");
				return CLI_USAGE;
			}
			break;
		case OPT_JSON:
			o->json = true;
			break;
		case OPT_HELP:
		case 'h':
			fputs(usage, stdout);
			return 1000;
		default:
			fputs(usage, stderr);
			return CLI_USAGE;
		}
	if (optind + 1 != argc) {
		cli_error("penstock run --help", "which pipeline? One FILE is wanted");
		return CLI_USAGE;
	}
	o->file = argv[optind];
	if (o->api != NULL && o->pool != NULL) {
		cli_error("one of them", "--api (a daemon that runs) and --pool (one to start) exclude each other");
		return CLI_USAGE;
	}
	return CLI_OK;
}

static char *command_line(int argc, char **argv)
{
	char *text = strdup("penstock");

	for (int i = 0; i < argc && text != NULL; i++) {
		char *longer = NULL;

		if (asprintf(&longer, "%s %s", text, argv[i]) < 0)
			longer = NULL;
		free(text);
		text = longer;
	}
	return text;
}

int cmd_run(int argc, char **argv)
{
	struct pst_run_options o = { 0 };
	char *command = command_line(argc, argv);
	int code = parse(argc, argv, &o);

	if (code != CLI_OK) {
		free(command);
		return code == 1000 ? CLI_OK : code;
	}
	char *python = find_python();
	o.python = python;
	o.command = command != NULL ? command : "penstock run";
	enum pst_run_result result = pst_run_pipeline(&o);
	free(python);
	free(command);
	return exits[result];
}

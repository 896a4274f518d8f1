/* SPDX-License-Identifier: Apache-2.0 */
/* `penstock report`: report.json, report.html and the terminal report of a run. */
#include "cli.h"

#include "pipeline/report.h"

#include <errno.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static void print_help(void)
{
	puts("usage: penstock report RUN.json [--proof PROOF.json] --out DIR\n"
	     "\n"
	     "Makes DIR/report.json and DIR/report.html (self-contained) from a run record and the proof of\n"
	     "`penstock bench neighbour`, and prints the report.\n"
	     "\n"
	     "  --proof FILE   the proof to include\n"
	     "  --out DIR      where the report goes; made if missing\n"
	     "  --json         print report.json instead of the terminal report\n"
	     "\n"
	     "PENSTOCK_ACCELERATOR_COST: price of one accelerator per hour; tells the loss in money too.");
}

static json_t *load(const char *path)
{
	json_error_t error;
	json_t *json = json_load_file(path, 0, &error);

	if (json == NULL)
		cli_error(NULL, "%s:%d:%d: %s", path, error.line, error.column, error.text);
	return json;
}

static FILE *create(const char *directory, const char *name)
{
	char path[4096];
	FILE *f = NULL;

	if ((size_t)snprintf(path, sizeof(path), "%s/%s", directory, name) < sizeof(path))
		f = fopen(path, "we");
	if (f == NULL)
		cli_error(NULL, "%s/%s: %s", directory, name, strerror(errno));
	return f;
}

static bool close_file(FILE *f, bool ok, const char *name)
{
	ok = fclose(f) == 0 && ok;
	if (!ok)
		cli_error(NULL, "%s could not be written: %s", name, strerror(errno));
	return ok;
}

static int write_report(json_t *report, const char *directory)
{
	FILE *f;

	if (mkdir(directory, 0777) != 0 && errno != EEXIST) {
		cli_error(NULL, "%s: %s", directory, strerror(errno));
		return CLI_FAILED;
	}
	f = create(directory, "report.json");
	if (f == NULL || !close_file(f, json_dumpf(report, f, JSON_INDENT(1)) == 0, "report.json"))
		return CLI_FAILED;
	f = create(directory, "report.html");
	if (f == NULL || !close_file(f, pst_report_write_html(report, f) == PST_OK, "report.html"))
		return CLI_FAILED;
	return CLI_OK;
}

/* The price, or 0; false when the variable is set to something else than a number above 0. */
static bool accelerator_cost(double *ret)
{
	const char *text = getenv("PENSTOCK_ACCELERATOR_COST");
	char *end;

	*ret = 0;
	if (text == NULL || text[0] == '\0')
		return true;
	*ret = strtod(text, &end);
	return *end == '\0' && *ret > 0 && *ret < 1e9;
}

static int make_report(const char *run_path, const char *proof_path, const char *directory, bool print_json)
{
	json_t *run = load(run_path), *proof = proof_path != NULL ? load(proof_path) : NULL, *report = NULL;
	char message[200];
	double cost;
	int rc = CLI_USAGE;

	if (!accelerator_cost(&cost)) {
		cli_error(NULL, "PENSTOCK_ACCELERATOR_COST must be a price per hour, such as 2.50");
	} else if (run != NULL && (proof != NULL || proof_path == NULL)) {
		report = pst_report_make(run, proof, cost, message, sizeof(message));
		if (report == NULL)
			cli_error("penstock run FILE --record DIR", "%s: %s", run_path, message);
	}
	if (report != NULL)
		rc = write_report(report, directory);
	if (rc == CLI_OK && print_json) {
		json_dumpf(report, stdout, JSON_INDENT(1));
	} else if (rc == CLI_OK) {
		pst_report_print(report, stdout);
		printf("\nreport: %s/report.html\n", directory);
	}
	json_decref(report);
	json_decref(proof);
	json_decref(run);
	return rc;
}

int cmd_report(int argc, char **argv)
{
	static const struct option options[] = { { "proof", required_argument, NULL, 'p' },
						 { "out", required_argument, NULL, 'o' },
						 { "json", no_argument, NULL, 'j' },
						 { "help", no_argument, NULL, 'h' },
						 { 0 } };
	const char *proof = NULL, *directory = NULL;
	bool print_json = false;
	int c;

	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (c) {
		case 'p':
			proof = optarg;
			break;
		case 'o':
			directory = optarg;
			break;
		case 'j':
			print_json = true;
			break;
		case 'h':
			print_help();
			return CLI_OK;
		default:
			return CLI_USAGE;
		}
	}
	if (optind + 1 != argc || directory == NULL) {
		cli_error("penstock report --help", "a run record and --out are needed");
		return CLI_USAGE;
	}
	return make_report(argv[optind], proof, directory, print_json);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "cli-args.h"

#include "base/units.h"
#include "control/client.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void print_arg(const char *name, const char *value, const char *help)
{
	char left[40];

	snprintf(left, sizeof(left), "%s%s%s", name, value != NULL ? " " : "", value != NULL ? value : "");
	printf("  %-20s %s\n", left, help);
}

static void print_usage(const struct cli_verb *v)
{
	printf("usage: penstock %s%s%s%s%s [OPTION]...\n\n%s\n\n", v->command, v->verb[0] != '\0' ? " " : "", v->verb,
	       v->names != NULL ? " " : "", v->names != NULL ? v->names : "", v->summary);
	for (const struct cli_arg *a = v->args; a->name != NULL; a++)
		print_arg(a->name, a->value, a->help);
	print_arg("--json", NULL, "print JSON");
	print_arg("--api", "unix:PATH", "the daemon's API (else PENSTOCK_URL, else the default socket)");
	print_arg("--help", NULL, "print this");
}

static bool policy_set(json_t **policy, const char *member, uint64_t value)
{
	if (*policy == NULL)
		*policy = json_object();
	return json_object_set_new(*policy, member, json_integer((json_int_t)value)) == 0;
}

static bool take_rate(json_t **policy, const char *what, const char *text)
{
	uint64_t iops = UINT64_MAX, bytes_per_s = UINT64_MAX;
	char member[40];

	if (strcmp(text, "none") == 0)
		iops = bytes_per_s = 0;
	else if (pst_parse_rate(text, &iops, &bytes_per_s) != PST_OK)
		return false;
	if (iops != UINT64_MAX) {
		snprintf(member, sizeof(member), "%s_iops", what);
		policy_set(policy, member, iops);
	}
	if (bytes_per_s != UINT64_MAX) {
		snprintf(member, sizeof(member), "%s_bytes_per_s", what);
		policy_set(policy, member, bytes_per_s);
	}
	return true;
}

static bool take_weight(json_t **policy, const char *text)
{
	char *end;
	unsigned long n = strtoul(text, &end, 10);

	return text[0] >= '0' && text[0] <= '9' && *end == '\0' && n <= 10000 && policy_set(policy, "weight", n);
}

static bool take_burst(json_t **policy, const char *text)
{
	uint64_t ns;

	return pst_parse_duration(text, &ns) == PST_OK && policy_set(policy, "burst_ms", ns / 1000000);
}

static const char *const examples[] = {
	[CLI_ARG_FLAG] = "nothing",
	[CLI_ARG_TEXT] = "a text",
	[CLI_ARG_SIZE] = "a size such as 500Gi",
	[CLI_ARG_RESERVE] = "a rate such as 20000iops or 500MB/s",
	[CLI_ARG_LIMIT] = "a rate such as 20000iops or 500MB/s",
	[CLI_ARG_WEIGHT] = "a whole number from 1 to 10000",
	[CLI_ARG_BURST] = "a duration such as 500ms",
	[CLI_ARG_DURATION] = "a duration such as 2s",
};

static bool take_value(const struct cli_arg *a, const char *text)
{
	struct cli_size *size = a->to;

	switch (a->kind) {
	case CLI_ARG_FLAG:
		*(bool *)a->to = true;
		return true;
	case CLI_ARG_TEXT:
		*(const char **)a->to = text;
		return true;
	case CLI_ARG_SIZE:
		size->given = true;
		return pst_parse_size(text, &size->bytes) == PST_OK;
	case CLI_ARG_RESERVE:
		return take_rate(a->to, "reserve", text);
	case CLI_ARG_LIMIT:
		return take_rate(a->to, "limit", text);
	case CLI_ARG_WEIGHT:
		return take_weight(a->to, text);
	case CLI_ARG_BURST:
		return take_burst(a->to, text);
	case CLI_ARG_DURATION:
		return pst_parse_duration(text, a->to) == PST_OK;
	}
	return false;
}

/* How many of argv it took; 0: not an option of @args; negative: reported. */
static int take_option(const struct cli_verb *v, const struct cli_arg *args, int argc, char **argv)
{
	for (const struct cli_arg *a = args; a->name != NULL; a++) {
		size_t len = strlen(a->name);
		const char *text = argv[0][len] == '=' ? argv[0] + len + 1 : NULL;
		int used = 1;

		if (strncmp(argv[0], a->name, len) != 0 || (argv[0][len] != '\0' && argv[0][len] != '='))
			continue;
		if (a->value != NULL && text == NULL && argc > 1) {
			text = argv[1];
			used = 2;
		}
		if ((a->value != NULL) != (text != NULL) || !take_value(a, text)) {
			char hint[80];

			snprintf(hint, sizeof(hint), "penstock %s %s --help", v->command, v->verb);
			cli_error(hint, "%s needs %s, not '%s'", a->name, examples[a->kind], text ? text : "");
			return -1;
		}
		return used;
	}
	return 0;
}

static int usage_error(const struct cli_verb *v, const char *what, const char *which)
{
	char hint[80];

	snprintf(hint, sizeof(hint), "penstock %s %s --help", v->command, v->verb);
	cli_error(hint, "%s %s: %s%s", v->command, v->verb, what, which);
	return CLI_USAGE;
}

bool cli_parse(const struct cli_verb *v, int argc, char **argv, struct cli_common *common, const char **ret_name,
	       int *ret_exit)
{
	const struct cli_arg own[] = { { "--json", NULL, CLI_ARG_FLAG, &common->json, "" },
				       { "--api", "unix:PATH", CLI_ARG_TEXT, &common->api, "" },
				       { NULL } };
	const char *name = NULL;
	bool only_names = false;

	*ret_exit = CLI_USAGE;
	for (int i = 1; i < argc;) {
		int used = 0;

		if (!only_names && (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0)) {
			print_usage(v);
			*ret_exit = CLI_OK;
			return false;
		}
		if (!only_names && strcmp(argv[i], "--") == 0) {
			only_names = true;
			i++;
			continue;
		}
		if (!only_names && argv[i][0] == '-') {
			used = take_option(v, v->args, argc - i, argv + i);
			if (used == 0)
				used = take_option(v, own, argc - i, argv + i);
			if (used == 0)
				usage_error(v, "unknown option ", argv[i]);
			if (used <= 0)
				return false;
		} else if (v->names == NULL || name != NULL) {
			usage_error(v, "unexpected argument ", argv[i]);
			return false;
		} else {
			name = argv[i];
			used = 1;
		}
		i += used;
	}
	if (v->names != NULL && name == NULL) {
		usage_error(v, "missing ", v->names);
		return false;
	}
	if (ret_name != NULL)
		*ret_name = name;
	*ret_exit = CLI_OK;
	return true;
}

bool cli_call(const struct cli_common *common, const char *method, const char *path, json_t *body, json_t **ret_json,
	      int *ret_exit)
{
	struct pst_api_error error;
	pst_err err = pst_api_call(common->api, method, path, body, ret_json, &error);

	*ret_exit = cli_exit_for(err);
	if (err == PST_OK)
		return true;
	cli_error(error.hint, "%s", error.message);
	return false;
}

char *cli_path(const char *collection, const char *name, bool force)
{
	static const char digits[] = "0123456789ABCDEF";
	size_t bytes = strlen(collection) + 3 * strlen(name) + 32, n;
	char *path = malloc(bytes);

	if (path == NULL)
		return NULL;
	n = (size_t)snprintf(path, bytes, "/v1/%s/", collection);
	for (const unsigned char *p = (const unsigned char *)name; *p != '\0'; p++) {
		if ((*p >= 'a' && *p <= 'z') || (*p >= '0' && *p <= '9') || strchr("._-", *p) != NULL) {
			path[n++] = (char)*p;
		} else {
			path[n++] = '%';
			path[n++] = digits[*p >> 4];
			path[n++] = digits[*p & 15];
		}
	}
	snprintf(path + n, bytes - n, "%s", force ? "?force=true" : "");
	return path;
}

int cli_print_json(json_t *json)
{
	int rc = json_dumpf(json, stdout, JSON_INDENT(2));

	putchar('\n');
	return rc == 0 && fflush(stdout) == 0 ? CLI_OK : CLI_FAILED;
}

char *cli_rates(json_t *policy, const char *what, char buf[64])
{
	char member[40], size[16], text[32] = "";
	json_int_t iops, bytes_per_s;

	snprintf(member, sizeof(member), "%s_iops", what);
	iops = json_integer_value(json_object_get(policy, member));
	snprintf(member, sizeof(member), "%s_bytes_per_s", what);
	bytes_per_s = json_integer_value(json_object_get(policy, member));
	if (iops != 0)
		snprintf(text, sizeof(text), "%" JSON_INTEGER_FORMAT "iops", iops);
	snprintf(buf, 64, "%s%s%s%s", text, iops != 0 && bytes_per_s != 0 ? " " : "",
		 bytes_per_s != 0 ? pst_format_size((uint64_t)bytes_per_s, size) : "", bytes_per_s != 0 ? "/s" : "");
	if (buf[0] == '\0')
		snprintf(buf, 64, "-");
	return buf;
}

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
	print_arg("--api", "URL", "unix:PATH or https://HOST:PORT (else PENSTOCK_URL, else the default socket)");
	print_arg("--token-file", "FILE", "a file with the token to show (else PENSTOCK_TOKEN_FILE)");
	print_arg("--ca", "FILE",
		  "certificates that vouch for an https daemon's (else PENSTOCK_CA, else the system's)");
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

static bool take_whole(json_t **object, const char *member, const char *text, unsigned long max)
{
	char *end;
	unsigned long n = strtoul(text, &end, 10);

	return text[0] >= '0' && text[0] <= '9' && *end == '\0' && n <= max && policy_set(object, member, n);
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
	[CLI_ARG_BYTES_PER_S] = "a rate such as 100MB/s",
	[CLI_ARG_NUMBER] = "a whole number of at least 1",
};

static bool set_text(json_t **object, const char *member, const char *text)
{
	if (*object == NULL)
		*object = json_object();
	return json_object_set_new(*object, member, json_string(text)) == 0;
}

static bool take_number(json_t **body, const struct cli_arg *a, const char *text)
{
	uint64_t value = 0, iops = UINT64_MAX;
	pst_err err = PST_OK;

	if (a->kind == CLI_ARG_NUMBER)
		return take_whole(body, a->member, text, UINT32_MAX);
	if (a->kind == CLI_ARG_SIZE)
		err = pst_parse_size(text, &value);
	else if (strcmp(text, "0") != 0 && strcmp(text, "none") != 0)
		err = pst_parse_rate(text, &iops, &value);
	return err == PST_OK && iops == UINT64_MAX && policy_set(body, a->member, value);
}

/* The value of an option that is sent: into the body, its policy, or the query. */
static bool send_value(struct cli_common *common, const struct cli_arg *a, const char *text)
{
	json_t *policy;
	bool ok;

	if (a->member[0] == '?')
		return set_text(&common->query, a->member + 1, a->kind == CLI_ARG_FLAG ? "true" : text);
	if (a->kind == CLI_ARG_TEXT)
		return set_text(&common->body, a->member, text);
	if (a->kind == CLI_ARG_SIZE || a->kind == CLI_ARG_BYTES_PER_S || a->kind == CLI_ARG_NUMBER)
		return take_number(&common->body, a, text);
	if (common->body == NULL)
		common->body = json_object();
	if (a->kind == CLI_ARG_FLAG)
		return json_object_set_new(common->body, a->member, json_true()) == 0;
	policy = json_incref(json_object_get(common->body, "policy"));
	ok = a->kind == CLI_ARG_RESERVE  ? take_rate(&policy, "reserve", text)
	     : a->kind == CLI_ARG_LIMIT  ? take_rate(&policy, "limit", text)
	     : a->kind == CLI_ARG_WEIGHT ? take_whole(&policy, "weight", text, 10000)
					 : take_burst(&policy, text);
	if (ok)
		json_object_set(common->body, "policy", policy);
	json_decref(policy);
	return ok;
}

static bool take_value(struct cli_common *common, const struct cli_arg *a, const char *text)
{
	struct cli_size *size = a->to;

	if (a->to == NULL)
		return send_value(common, a, text);

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
	case CLI_ARG_DURATION:
		return pst_parse_duration(text, a->to) == PST_OK;
	default:
		return false; /* only into a body */
	}
}

/* How many of argv it took; 0: not an option of @args; negative: reported. */
static int take_option(const struct cli_verb *v, struct cli_common *common, const struct cli_arg *args, int argc,
		       char **argv)
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
		if ((a->value != NULL) != (text != NULL) || !take_value(common, a, text)) {
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

void cli_common_done(struct cli_common *common)
{
	json_decref(common->body);
	json_decref(common->query);
	common->body = common->query = NULL;
}

/* For the client, which looks there. */
static bool given(const char *variable, const char *value)
{
	return value == NULL || setenv(variable, value, 1) == 0;
}

static bool parse_all(const struct cli_verb *v, int argc, char **argv, struct cli_common *common, int *ret_exit)
{
	const char *token_file = NULL, *ca = NULL;
	const struct cli_arg own[] = { { "--json", NULL, CLI_ARG_FLAG, &common->json, "" },
				       { "--api", "URL", CLI_ARG_TEXT, &common->api, "" },
				       { "--token-file", "FILE", CLI_ARG_TEXT, &token_file, "" },
				       { "--ca", "FILE", CLI_ARG_TEXT, &ca, "" },
				       { NULL } };
	unsigned names_max = v->names == NULL ? 0 : strstr(v->names, "...") != NULL ? CLI_NAMES_MAX : 1;
	bool only_names = false;

	for (int i = 1; i < argc;) {
		int used = 1;

		if (!only_names && (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0)) {
			print_usage(v);
			*ret_exit = CLI_OK;
			return false;
		}
		if (!only_names && strcmp(argv[i], "--") == 0) {
			only_names = true;
		} else if (!only_names && argv[i][0] == '-') {
			used = take_option(v, common, v->args, argc - i, argv + i);
			if (used == 0)
				used = take_option(v, common, own, argc - i, argv + i);
			if (used == 0)
				usage_error(v, "unknown option ", argv[i]);
			if (used <= 0)
				return false;
		} else if (common->name_count == names_max) {
			usage_error(v, "unexpected argument ", argv[i]);
			return false;
		} else {
			common->names[common->name_count++] = argv[i];
		}
		i += used;
	}
	if (names_max > 0 && common->name_count == 0 && v->names[0] != '[') {
		usage_error(v, "missing ", v->names);
		return false;
	}
	return given(PST_API_TOKEN_FILE, token_file) && given(PST_API_CA, ca);
}

bool cli_parse(const struct cli_verb *v, int argc, char **argv, struct cli_common *common, int *ret_exit)
{
	*ret_exit = CLI_USAGE;
	if (!parse_all(v, argc, argv, common, ret_exit)) {
		cli_common_done(common);
		return false;
	}
	*ret_exit = CLI_OK;
	return true;
}

/* Appends @text, percent-encoded. */
static size_t encode(char *to, const char *text)
{
	static const char digits[] = "0123456789ABCDEF";
	size_t n = 0;

	for (const unsigned char *p = (const unsigned char *)text; *p != '\0'; p++) {
		if ((*p >= 'a' && *p <= 'z') || (*p >= '0' && *p <= '9') || strchr("._-@", *p) != NULL) {
			to[n++] = (char)*p;
		} else {
			to[n++] = '%';
			to[n++] = digits[*p >> 4];
			to[n++] = digits[*p & 15];
		}
	}
	to[n] = '\0';
	return n;
}

char *cli_path(const char *collection, const char *name, const char *more)
{
	size_t bytes = strlen(collection) + 3 * strlen(name) + (more != NULL ? strlen(more) : 0) + 8, n;
	char *path = malloc(bytes);

	if (path == NULL)
		return NULL;
	n = (size_t)snprintf(path, bytes, "/v1/%s/", collection);
	n += encode(path + n, name);
	if (more != NULL)
		snprintf(path + n, bytes - n, "/%s", more);
	return path;
}

/* @path and the query; malloced. */
static char *with_query(const char *path, json_t *query)
{
	size_t bytes = strlen(path) + 1, n = strlen(path);
	const char *key;
	json_t *value;
	char *text;

	json_object_foreach(query, key, value) bytes += strlen(key) + 3 * json_string_length(value) + 2;
	text = malloc(bytes);
	if (text == NULL)
		return NULL;
	memcpy(text, path, n + 1);
	json_object_foreach(query, key, value)
	{
		n += (size_t)snprintf(text + n, bytes - n, "%c%s=", strchr(text, '?') == NULL ? '?' : '&', key);
		n += encode(text + n, json_string_value(value));
	}
	return text;
}

bool cli_call(const struct cli_common *common, const char *method, const char *path, json_t *body, json_t **ret_json,
	      int *ret_exit)
{
	char *text = with_query(path, common->query);
	struct pst_api_error error = { .message = "no memory" };
	pst_err err = text != NULL ? pst_api_call(common->api, method, text, body, ret_json, &error) : PST_E_NOMEM;

	free(text);
	*ret_exit = cli_exit_for(err);
	if (err == PST_OK)
		return true;
	cli_error(error.hint, "%s", error.message);
	return false;
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

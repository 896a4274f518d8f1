/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hosts and their keys. Keys come from files, never from the command line, where every user of the machine could read
 * them; those that are made here are printed once, by the command that makes them.
 */
#include "cli-object.h"

#include "proto/auth-key.h"
#include "proto/tls-key.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#define KEY_FILE_MAX 512u /* bytes: a key and white space around it */
#define MADE_KEY_BYTES 32u
#define MADE_KEY_HASH 1u

static const struct cli_column columns[] = {
	{ "NQN", "nqn" }, { "KEY", "authenticates" }, { "TWO-WAY", "two_way" },
	{ "TLS", "tls" }, { "VOLUMES", "volumes" },   { "LOCKED", "locked" },
	{ NULL },
};

_Static_assert(PST_TLS_KEY_TEXT_MAX <= PST_AUTH_KEY_TEXT_MAX, "room for any");

/* The kinds of keys, in the order of the request's arrays. */
static const struct {
	const char *member, *title, *hint;
	pst_err (*parse)(const char *text, size_t text_len, struct pst_auth_key *ret_key, const char **ret_why);
	char *(*format)(const struct pst_auth_key *key, char *text);
} kinds[] = {
	{ "key", "The host's key, which is not shown again:", "nvme gen-dhchap-key; or --generate-key",
	  pst_auth_key_parse, pst_auth_key_format },
	{ "ctrl_key", "The controller's key, which is not shown again:", "nvme gen-dhchap-key; or --two-way",
	  pst_auth_key_parse, pst_auth_key_format },
	{ "tls_key", "The host's TLS key, which is not shown again:", "nvme gen-tls-key; or --generate-tls-key",
	  pst_tls_key_parse, pst_tls_key_format },
};
#define KINDS PST_ARRAY_COUNT(kinds)

/* What create and set are given. */
struct request {
	const char *files[KINDS], *hashes, *groups;
	bool make[KINDS];
	char made[KINDS][PST_AUTH_KEY_TEXT_MAX]; /* texts of keys that were made; "": none */
};

#define HOST_ARGS(r, none_help)                                                                                    \
	{ "--key", "FILE", CLI_ARG_TEXT, &(r)->files[0],                                                           \
	  "its key, as nvme gen-dhchap-key writes it; -: from standard input" },                                   \
	    { "--generate-key", NULL, CLI_ARG_FLAG, &(r)->make[0], "make a key, and print it this once" },         \
	    { "--ctrl-key", "FILE", CLI_ARG_TEXT, &(r)->files[1],                                                  \
	      "the controller's key, for hosts that ask for a proof" none_help },                                  \
	    { "--two-way", NULL, CLI_ARG_FLAG, &(r)->make[1], "make a controller key, and print it this once" },   \
	    { "--tls-key", "FILE", CLI_ARG_TEXT, &(r)->files[2],                                                   \
	      "its key for TLS, as nvme gen-tls-key writes it" none_help },                                        \
	    { "--generate-tls-key", NULL, CLI_ARG_FLAG, &(r)->make[2], "make a TLS key, and print it this once" }, \
	    { "--hash", "NAME[,NAME]", CLI_ARG_TEXT, &(r)->hashes,                                                 \
	      "only these: sha256, sha384, sha512 (default: all)" },                                               \
	{                                                                                                          \
		"--group", "NAME[,NAME]", CLI_ARG_TEXT, &(r)->groups,                                              \
		    "only these: null, ffdhe2048, 3072, 4096, 6144, 8192 (default: 2048 to 4096)"                  \
	}

/* The key of kind @i in a file, into @text; false after saying what is wrong. */
static bool key_read(unsigned i, const char *path, char text[PST_AUTH_KEY_TEXT_MAX])
{
	char buf[KEY_FILE_MAX + 1];
	struct pst_auth_key key;
	const char *why = "", *begin = buf;
	int fd = strcmp(path, "-") == 0 ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC);
	ssize_t got = 0;
	size_t len = 0;
	bool ok = false;

	while (fd >= 0 && len < KEY_FILE_MAX && (got = read(fd, buf + len, KEY_FILE_MAX - len)) > 0)
		len += (size_t)got;
	if (fd < 0 || got < 0) {
		cli_error(NULL, "%s can't be read: %s", path, strerror(errno));
		goto out;
	}
	while (len > 0 && strchr(" \t\r\n", buf[len - 1]) != NULL)
		len--;
	buf[len] = '\0';
	begin += strspn(begin, " \t\r\n");
	if (kinds[i].parse(begin, strlen(begin), &key, &why) == PST_OK) {
		kinds[i].format(&key, text);
		ok = true;
	} else {
		cli_error(kinds[i].hint, "the key in %s %s", path, why);
	}
	explicit_bzero(&key, sizeof(key));
out:
	explicit_bzero(buf, sizeof(buf));
	if (fd > STDIN_FILENO)
		close(fd);
	return ok;
}

static bool key_make(unsigned i, char text[PST_AUTH_KEY_TEXT_MAX])
{
	struct pst_auth_key key = { .hash = MADE_KEY_HASH, .len_bytes = MADE_KEY_BYTES };
	bool ok = getrandom(key.bytes, MADE_KEY_BYTES, 0) == (ssize_t)MADE_KEY_BYTES;

	if (ok)
		kinds[i].format(&key, text);
	else
		cli_error(NULL, "no random numbers: %s", strerror(errno));
	explicit_bzero(&key, sizeof(key));
	return ok;
}

static json_t *names_split(const char *names)
{
	json_t *list = json_array();

	while (*names != '\0') {
		size_t len = strcspn(names, ",");

		json_array_append_new(list, json_stringn(names, len));
		names += len + (names[len] == ',');
	}
	return list;
}

/* Keys and restrictions into the body; false after an error. */
static bool request_body(struct request *r, struct cli_common *common)
{
	if (common->body == NULL)
		common->body = json_object();
	for (unsigned i = 0; i < KINDS; i++) {
		const char *file = r->files[i];
		char text[PST_AUTH_KEY_TEXT_MAX] = "";

		if (r->make[i] && file != NULL) {
			cli_error("penstock host --help", "a key is either made or read from %s", file);
			return false;
		}
		if (r->make[i] && !key_make(i, r->made[i]))
			return false;
		if (i > 0 && file != NULL && strcmp(file, "none") == 0)
			snprintf(text, sizeof(text), "none");
		else if (file != NULL && !key_read(i, file, text))
			return false;
		if (r->make[i] || file != NULL)
			json_object_set_new(common->body, kinds[i].member, json_string(r->make[i] ? r->made[i] : text));
		explicit_bzero(text, sizeof(text));
	}
	if (r->hashes != NULL)
		json_object_set_new(common->body, "hashes", names_split(r->hashes));
	if (r->groups != NULL)
		json_object_set_new(common->body, "groups", names_split(r->groups));
	return true;
}

/* Calls, and prints the host, with the keys that were made for it. */
static int request_send(struct request *r, struct cli_common *common, const char *method, char *path)
{
	json_t *host;
	int rc = CLI_FAILED;

	if (path == NULL || !cli_call(common, method, path, common->body, &host, &rc))
		goto out;
	for (unsigned i = 0; i < KINDS && common->json; i++)
		if (r->made[i][0] != '\0')
			json_object_set_new(host, kinds[i].member, json_string(r->made[i]));
	rc = common->json ? cli_print_json(host) : cli_print_card(host);
	for (unsigned i = 0; i < KINDS && !common->json; i++)
		if (r->made[i][0] != '\0')
			printf("%s\n  %s\n", kinds[i].title, r->made[i]);
	json_decref(host);
out:
	free(path);
	explicit_bzero(r, sizeof(*r));
	cli_common_done(common);
	return rc;
}

static int create(const struct cli_object *o, const struct cli_object_verb *v, int argc, char **argv)
{
	struct request r = { 0 };
	const struct cli_arg args[] = { HOST_ARGS(&r, ""), { NULL } };
	struct cli_object_verb verb = *v;
	struct cli_common common = { 0 };
	int rc;

	verb.args = args;
	if (!cli_object_parse(o, &verb, "HOSTNQN", argc, argv, &common, &rc))
		return rc;
	if (r.files[0] == NULL && !r.make[0] && r.files[2] == NULL && !r.make[2]) {
		cli_error("penstock host create HOSTNQN --generate-key",
			  "host create: a key is missing: --key FILE, --generate-key, --tls-key FILE or "
			  "--generate-tls-key");
		cli_common_done(&common);
		return CLI_USAGE;
	}
	if (!request_body(&r, &common)) {
		cli_common_done(&common);
		return CLI_USAGE;
	}
	json_object_set_new(common.body, "nqn", json_string(common.names[0]));
	return request_send(&r, &common, "POST", strdup("/v1/hosts"));
}

static int set(const struct cli_object *o, const struct cli_object_verb *v, int argc, char **argv)
{
	struct request r = { 0 };
	const struct cli_arg args[] = { HOST_ARGS(&r, "; none takes it away"), { NULL } };
	struct cli_object_verb verb = *v;
	struct cli_common common = { 0 };
	int rc;

	verb.args = args;
	if (!cli_object_parse(o, &verb, "HOSTNQN", argc, argv, &common, &rc))
		return rc;
	if (!request_body(&r, &common)) {
		cli_common_done(&common);
		return CLI_USAGE;
	}
	if (json_object_size(common.body) == 0) {
		cli_error("penstock host set --help", "host set: nothing to change was given");
		cli_common_done(&common);
		return CLI_USAGE;
	}
	return request_send(&r, &common, "PATCH", cli_path("hosts", common.names[0], NULL));
}

static const struct cli_arg delete_args[] = {
	CLI_FLAG_QUERY("--force", "force", "also if volumes list it: whoever claims its name could connect to them"),
	{ NULL },
};

static const struct cli_object_verb verbs[] = {
	{ "create", "say who a host is, and its key", create,
	  "Creates a host: from then on whoever claims its name must prove to know its key." },
	{ "list", "list hosts", cli_object_list },
	{ "show", "show one host", cli_object_show },
	{ "set", "change its keys, or what it may use", set,
	  "Changes a host's keys, or what it may use; connections that it has stay." },
	{ "delete", "delete one; its connections end", cli_object_delete, "Deletes a host. Its connections end.",
	  delete_args },
	{ NULL },
};

static const struct cli_object object = {
	.word = "host",
	.collection = "hosts",
	.summary = "Hosts that authenticate: their names, and the keys that prove them.",
	.verbs = verbs,
	.columns = columns,
	.empty = "penstock host create HOSTNQN --generate-key",
};

int cmd_host(int argc, char **argv)
{
	return cli_object_run(&object, argc, argv);
}

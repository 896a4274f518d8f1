/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A stand-in for the REST client: volumes are sparse files in the directory $PST_FAKE_DIR, whose paths are the
 * addresses that fake-host.c opens; a snapshot is a copy named VOLUME@NAME, a clone a copy with the snapshot's name in
 * .CLONE.source beside it. For tests of the runner: used_bytes is the file's, a uuid belongs to one birth of a file.
 */
#include "control/client.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

const char *pst_api_url(const char *url, char buf[256])
{
	snprintf(buf, 256, "%s", url != NULL ? url : "fake:");
	return buf;
}

void pst_api_on_wait(bool (*give_up)(void *arg), void *arg)
{
	(void)give_up, (void)arg; /* nothing here waits */
}

static void place(char path[512], const char *prefix, const char *name, const char *suffix)
{
	snprintf(path, 512, "%s/%s%s%s", getenv("PST_FAKE_DIR"), prefix, name, suffix);
}

/* The snapshot that a clone was made of; "" for others. */
static void source_of(const char *name, char source[256])
{
	char path[512];

	place(path, ".", name, ".source");
	FILE *f = fopen(path, "r");
	source[0] = '\0';
	if (f != NULL && fgets(source, 256, f) == NULL)
		source[0] = '\0';
	if (f != NULL)
		fclose(f);
}

static void uuid_of(const char *path, const char *name, char uuid[40])
{
	struct statx st = { 0 };
	unsigned hash = 5381;

	statx(AT_FDCWD, path, 0, STATX_BTIME, &st);
	for (const char *c = name; *c != '\0'; c++)
		hash = hash * 33 + (unsigned char)*c;
	snprintf(uuid, 40, "%08x-%llx-%x", hash, (unsigned long long)st.stx_btime.tv_sec, st.stx_btime.tv_nsec);
}

static json_t *describe(const char *name)
{
	char path[512], uuid[40], source[256], created[40];
	struct stat st;
	struct tm tm;

	place(path, "", name, "");
	if (stat(path, &st) != 0)
		return NULL;
	uuid_of(path, name, uuid);
	source_of(name, source);
	strftime(created, sizeof(created), "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&st.st_mtime, &tm));
	json_t *json = json_pack("{s:s, s:s, s:s, s:i, s:I, s:I, s:I, s:s, s:[s++]}", "name", name, "uuid", uuid, "nqn",
				 "nqn", "nsid", 1, "size_bytes", (json_int_t)st.st_size, "used_bytes",
				 (json_int_t)st.st_blocks * 512, "mapped_bytes", (json_int_t)st.st_blocks * 512,
				 "created", created, "addresses", path, ":", "4420");
	if (source[0] != '\0')
		json_object_set_new(json, "source", json_string(source));
	/* A copy is made with the time of its birth as its own; who writes it changes that. */
	bool own = source[0] == '\0' || st.st_mtim.tv_sec != 0;
	json_object_set_new(json, "own_bytes", json_integer(own ? (json_int_t)st.st_blocks * 512 : 0));
	return json;
}

static pst_err copy(const char *from, const char *to, bool clone)
{
	char source[512], target[512], command[1200];
	const struct timespec never[2] = { { 0, 0 }, { 0, 0 } };

	place(source, "", from, "");
	place(target, "", to, "");
	if (access(source, F_OK) != 0)
		return PST_E_NOTFOUND;
	if (access(target, F_OK) == 0)
		return PST_E_EXISTS;
	snprintf(command, sizeof(command), "cp --sparse=always '%s' '%s'", source, target);
	if (system(command) != 0)
		return PST_E_IO;
	if (!clone)
		return PST_OK;
	utimensat(AT_FDCWD, target, never, 0);
	place(target, ".", to, ".source");
	FILE *f = fopen(target, "w");
	fputs(from, f);
	fclose(f);
	return PST_OK;
}

static pst_err make(const char *name, json_t *body)
{
	const char *source = json_string_value(json_object_get(body, "source"));
	char path[512];

	if (source != NULL)
		return copy(source, name, true);
	place(path, "", name, "");
	int fd = open(path, O_RDWR | O_CREAT | O_EXCL, 0600);
	int failed = fd < 0 ? -1 : ftruncate(fd, json_integer_value(json_object_get(body, "size_bytes")));
	if (fd >= 0)
		close(fd);
	return failed != 0 ? PST_E_EXISTS : PST_OK;
}

static pst_err take(json_t *body)
{
	json_t *member;
	size_t i;
	pst_err err = PST_OK;

	json_array_foreach(json_object_get(body, "members"), i, member)
	{
		const char *volume = json_string_value(json_object_get(member, "volume"));
		char name[256];

		snprintf(name, sizeof(name), "%s@%s", volume, json_string_value(json_object_get(member, "name")));
		if (err == PST_OK)
			err = copy(volume, name, false);
	}
	return err;
}

static json_t *list(const char *volume)
{
	char command[1200], line[512];
	json_t *all = json_array();

	snprintf(command, sizeof(command), "cd '%s' && ls | grep '^%s@'", getenv("PST_FAKE_DIR"), volume);
	FILE *f = popen(command, "r");
	while (f != NULL && fgets(line, sizeof(line), f) != NULL) {
		line[strcspn(line, "\n")] = '\0';
		json_array_append_new(all, describe(line));
	}
	if (f != NULL)
		pclose(f);
	return all;
}

static pst_err drop(const char *name)
{
	char path[512];

	place(path, ".", name, ".source");
	(void)unlink(path);
	place(path, "", name, "");
	return unlink(path) == 0 ? PST_OK : PST_E_NOTFOUND;
}

pst_err pst_api_call(const char *url, const char *method, const char *path, json_t *body, json_t **ret_json,
		     struct pst_api_error *ret_error)
{
	const char *name = strrchr(path, '/') + 1, *query = strstr(path, "?volume=");
	bool snapshots = strncmp(path, "/v1/snapshots", 13) == 0;
	json_t *json = NULL;
	pst_err err = PST_OK;

	(void)url, (void)ret_error;
	if (strncmp(path, "/v1/volumes", 11) != 0 && !snapshots) {
		json = json_object();
	} else if (query != NULL) {
		json = list(query + 8);
	} else if (strcmp(method, "DELETE") == 0) {
		return drop(name);
	} else if (snapshots && strcmp(method, "POST") == 0) {
		err = take(body);
		json = json_array();
	} else {
		if (strcmp(method, "POST") == 0) {
			name = json_string_value(json_object_get(body, "name"));
			err = make(name, body);
		}
		json = err == PST_OK ? describe(name) : NULL;
		err = err == PST_OK && json == NULL ? PST_E_NOTFOUND : err;
	}
	if (ret_json != NULL && err == PST_OK)
		*ret_json = json;
	else
		json_decref(json);
	return err;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A stand-in for the REST client: volumes are sparse files in the directory $PST_FAKE_DIR, whose paths are the
 * addresses that fake-host.c opens. For tests of the runner; used_bytes is the file's, uuid its inode's.
 */
#include "control/client.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

const char *pst_api_url(const char *url, char buf[256])
{
	snprintf(buf, 256, "%s", url != NULL ? url : "fake:");
	return buf;
}

static json_t *describe(const char *path, const char *name)
{
	struct stat st;

	if (stat(path, &st) != 0)
		return NULL;
	return json_pack("{s:s, s:s+, s:s, s:i, s:I, s:I, s:[s++]}", "name", name, "uuid", "fake-", name, "nqn", "nqn",
			 "nsid", 1, "size_bytes", (json_int_t)st.st_size, "used_bytes", (json_int_t)st.st_blocks * 512,
			 "addresses", path, ":", "4420");
}

void pst_api_on_wait(bool (*give_up)(void *arg), void *arg)
{
	(void)give_up, (void)arg; /* nothing here waits */
}

pst_err pst_api_call(const char *url, const char *method, const char *path, json_t *body, json_t **ret_json,
		     struct pst_api_error *ret_error)
{
	const char *dir = getenv("PST_FAKE_DIR"), *name = strrchr(path, '/') + 1;
	char file[512];

	(void)url, (void)ret_error;
	if (strncmp(path, "/v1/volumes", 11) != 0) {
		if (ret_json != NULL)
			*ret_json = json_object();
		return PST_OK;
	}
	if (strcmp(method, "POST") == 0)
		name = json_string_value(json_object_get(body, "name"));
	snprintf(file, sizeof(file), "%s/%s", dir, name);
	if (strcmp(method, "DELETE") == 0)
		return unlink(file) == 0 ? PST_OK : PST_E_NOTFOUND;
	if (strcmp(method, "POST") == 0) {
		int fd = open(file, O_RDWR | O_CREAT | O_EXCL, 0600);
		int failed = fd < 0 ? -1 : ftruncate(fd, json_integer_value(json_object_get(body, "size_bytes")));

		if (fd >= 0)
			close(fd);
		if (failed != 0)
			return PST_E_EXISTS;
	}
	json_t *json = describe(file, name);
	if (json == NULL)
		return PST_E_NOTFOUND;
	if (ret_json != NULL)
		*ret_json = json;
	else
		json_decref(json);
	return PST_OK;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One call: one connection, one request, one answer of bounded size. Errors come from the daemon's error object; what
 * happened before there was one (no socket, no daemon, a broken answer) gets a message and a hint of its own.
 */
#include "control/client.h"

#include <curl/curl.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ANSWER_BYTES_MAX ((size_t)64 << 20)
#define CALL_TIMEOUT_MS 60000L
#define CONNECT_TIMEOUT_MS 5000L
#define TOKEN_CHARS "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
#define TOKEN_FILE_MAX 256u /* bytes: a token and white space around it */

const char *pst_api_default(char buf[256])
{
	const char *run = getenv("XDG_RUNTIME_DIR");

	if (geteuid() == 0)
		snprintf(buf, 256, "unix:/run/penstock/api.sock");
	else if (run != NULL && run[0] == '/')
		snprintf(buf, 256, "unix:%.200s/penstock/api.sock", run);
	else
		snprintf(buf, 256, "unix:/tmp/penstock-%u/api.sock", (unsigned)geteuid());
	return buf;
}

const char *pst_api_url(const char *url, char buf[256])
{
	if (url == NULL)
		url = getenv("PENSTOCK_URL");
	if (url == NULL || url[0] == '\0')
		return pst_api_default(buf);
	snprintf(buf, 256, "%s", url);
	return buf;
}

static _Thread_local struct {
	bool (*give_up)(void *arg);
	void *arg;
} on_wait;

void pst_api_on_wait(bool (*give_up)(void *arg), void *arg)
{
	on_wait.give_up = give_up;
	on_wait.arg = arg;
}

/* CURLOPT_XFERINFOFUNCTION: anything but 0 ends the call. */
static int waiting(void *ctx, curl_off_t down_total, curl_off_t down, curl_off_t up_total, curl_off_t up)
{
	(void)ctx, (void)down_total, (void)down, (void)up_total, (void)up;
	return on_wait.give_up(on_wait.arg);
}

struct answer {
	char *data;
	size_t bytes;
};

static size_t answer_take(char *data, size_t size, size_t count, void *ctx)
{
	struct answer *a = ctx;
	size_t bytes = size * count;
	char *grown;

	if (bytes > ANSWER_BYTES_MAX - a->bytes)
		return 0; /* curl ends the call with a write error */
	grown = realloc(a->data, a->bytes + bytes + 1);
	if (grown == NULL)
		return 0;
	memcpy(grown + a->bytes, data, bytes);
	a->data = grown;
	a->bytes += bytes;
	a->data[a->bytes] = '\0';
	return bytes;
}

static pst_err err_from_code(const char *code)
{
#define X(name, number, text)         \
	if (strcmp(code, #name) == 0) \
		return name;
	PST_ERR_LIST(X)
#undef X
	return PST_E_INTERNAL;
}

static pst_err fail(struct pst_api_error *error, pst_err err, const char *message, const char *hint)
{
	if (error != NULL) {
		snprintf(error->message, sizeof(error->message), "%s", message);
		snprintf(error->hint, sizeof(error->hint), "%s", hint);
	}
	return err;
}

static pst_err fail_transport(struct pst_api_error *error, CURLcode code, const char *url)
{
	char message[400];

	switch (code) {
	case CURLE_COULDNT_CONNECT:
		snprintf(message, sizeof(message), "no daemon answers at %s", url);
		return fail(error, PST_E_REFUSED, message,
			    "penstockd --pool DIR, or set PENSTOCK_URL to where the daemon listens");
	case CURLE_OPERATION_TIMEDOUT:
		snprintf(message, sizeof(message), "the daemon at %s took too long to answer", url);
		return fail(error, PST_E_TIMEOUT, message, "");
	case CURLE_PEER_FAILED_VERIFICATION:
	case CURLE_SSL_CACERT_BADFILE:
		snprintf(message, sizeof(message), "the daemon at %s is not trusted: %s", url,
			 curl_easy_strerror(code));
		return fail(
		    error, PST_E_DENIED, message,
		    "--ca FILE, or PENSTOCK_CA, with the certificate that vouches for the daemon's; and its name "
		    "as that has it");
	case CURLE_ABORTED_BY_CALLBACK:
		return fail(error, PST_E_CANCELLED, "given up while waiting for the daemon to answer", "");
	case CURLE_WRITE_ERROR:
		return fail(error, PST_E_NOMEM, "the daemon's answer is too long", "");
	default:
		snprintf(message, sizeof(message), "talking to the daemon at %s failed: %s", url,
			 curl_easy_strerror(code));
		return fail(error, PST_E_CLOSED, message, "");
	}
}

static pst_err fail_status(struct pst_api_error *error, long status, json_t *answer)
{
	const char *code = NULL, *message = NULL, *hint = "";
	char text[100];

	json_unpack(answer, "{s:{s:s, s:s, s?s}}", "error", "code", &code, "message", &message, "hint", &hint);
	if (code != NULL && message != NULL)
		return fail(error, err_from_code(code), message, hint);
	snprintf(text, sizeof(text), "the daemon answered with HTTP status %ld and no error object", status);
	return fail(error, PST_E_PROTO, text, "");
}

static pst_err take_answer(long status, const struct answer *a, json_t **ret_json, struct pst_api_error *error)
{
	json_t *json = a->bytes > 0 ? json_loadb(a->data, a->bytes, JSON_DECODE_ANY, NULL) : NULL;
	pst_err err = PST_OK;

	if (error != NULL)
		error->http_status = (int)status;
	if (status < 200 || status > 299)
		err = fail_status(error, status, json);
	else if (ret_json != NULL && json == NULL && status != 204)
		err = fail(error, PST_E_PROTO, "the daemon's answer is not JSON", "");
	if (err == PST_OK && ret_json != NULL)
		*ret_json = json;
	else
		json_decref(json);
	return err;
}

/* curl_global_init is not thread-safe in every build of libcurl. */
static void global_init(void)
{
	curl_global_init(CURL_GLOBAL_DEFAULT);
}

/* ---- The token ---- */

/* "Authorization: Bearer TOKEN" from the file that the environment names, "" without one; false after an error. */
static bool token_header(char header[TOKEN_FILE_MAX + 32], struct pst_api_error *error)
{
	const char *path = getenv(PST_API_TOKEN_FILE);
	char buf[TOKEN_FILE_MAX + 1], message[400];
	const char *begin = buf;
	ssize_t got = 0;
	size_t len = 0;
	int fd;

	header[0] = '\0';
	if (path == NULL || path[0] == '\0')
		return true;
	fd = open(path, O_RDONLY | O_CLOEXEC);
	while (fd >= 0 && len < TOKEN_FILE_MAX && (got = read(fd, buf + len, TOKEN_FILE_MAX - len)) > 0)
		len += (size_t)got;
	if (fd < 0 || got < 0) {
		snprintf(message, sizeof(message), "the token file %.200s can't be read: %s", path, strerror(errno));
		fail(error, PST_E_INVAL, message, "penstock token create NAME --role ROLE");
	} else {
		while (len > 0 && strchr(" \t\r\n", buf[len - 1]) != NULL)
			len--;
		buf[len] = '\0';
		begin += strspn(begin, " \t\r\n");
		if (begin[0] != '\0' && strspn(begin, TOKEN_CHARS) == strlen(begin)) {
			snprintf(header, TOKEN_FILE_MAX + 32, "Authorization: Bearer %s", begin);
		} else {
			snprintf(message, sizeof(message), "the token file %.200s does not hold a token", path);
			fail(error, PST_E_INVAL, message, "penstock token create NAME --role ROLE");
		}
	}
	explicit_bzero(buf, sizeof(buf));
	if (fd >= 0)
		close(fd);
	return header[0] != '\0';
}

static void headers_free(struct curl_slist *headers)
{
	for (struct curl_slist *h = headers; h != NULL; h = h->next)
		explicit_bzero(h->data, strlen(h->data));
	curl_slist_free_all(headers);
}

/* NULL after an error. */
static struct curl_slist *headers_make(struct pst_api_error *error)
{
	struct curl_slist *headers = curl_slist_append(NULL, "Content-Type: application/json"), *more;
	char header[TOKEN_FILE_MAX + 32];

	if (headers == NULL) {
		fail(error, PST_E_NOMEM, "no memory for a call to the daemon", "");
		return NULL;
	}
	if (!token_header(header, error)) {
		headers_free(headers);
		return NULL;
	}
	if (header[0] == '\0')
		return headers;
	more = curl_slist_append(headers, header);
	explicit_bzero(header, sizeof(header));
	if (more != NULL)
		return more;
	headers_free(headers);
	fail(error, PST_E_NOMEM, "no memory for a call to the daemon", "");
	return NULL;
}

/* ---- A call ---- */

static bool is_unix(const char *url)
{
	return strncmp(url, "unix:", 5) == 0;
}

/* Where to: a socket's path and a name for show, or a host whose certificate is checked. */
static void call_address(CURL *curl, const char *url, const char *path)
{
	const char *ca = getenv(PST_API_CA);
	size_t len = strlen(url);
	char full[1280];

	if (is_unix(url)) {
		snprintf(full, sizeof(full), "http://penstock%s", path);
		curl_easy_setopt(curl, CURLOPT_UNIX_SOCKET_PATH, url + strlen("unix:"));
	} else {
		while (len > 0 && url[len - 1] == '/')
			len--;
		snprintf(full, sizeof(full), "%.*s%s", (int)len, url, path);
		curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "https");
		curl_easy_setopt(curl, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
		if (ca != NULL && ca[0] != '\0') {
			curl_easy_setopt(curl, CURLOPT_CAINFO, ca);
			curl_easy_setopt(curl, CURLOPT_CAPATH, NULL); /* and nobody else */
		}
	}
	curl_easy_setopt(curl, CURLOPT_URL, full);
}

static CURL *call_prepare(const char *url, const char *method, const char *path, const char *body,
			  struct curl_slist *headers, struct answer *answer)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	CURL *curl;

	pthread_once(&once, global_init);
	curl = curl_easy_init();
	if (curl == NULL)
		return NULL;
	call_address(curl, url, path);
	curl_easy_setopt(curl, CURLOPT_CUSTOMREQUEST, method);
	curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(curl, CURLOPT_PROXY, "");
	curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, CALL_TIMEOUT_MS);
	if (on_wait.give_up != NULL) {
		curl_easy_setopt(curl, CURLOPT_XFERINFOFUNCTION, waiting);
		curl_easy_setopt(curl, CURLOPT_NOPROGRESS, 0L);
	}
	curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT_MS, CONNECT_TIMEOUT_MS);
	curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, answer_take);
	curl_easy_setopt(curl, CURLOPT_WRITEDATA, answer);
	curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
	if (body != NULL)
		curl_easy_setopt(curl, CURLOPT_POSTFIELDS, body);
	return curl;
}

pst_err pst_api_call(const char *url, const char *method, const char *path, json_t *body, json_t **ret_json,
		     struct pst_api_error *ret_error)
{
	char buf[256];
	const char *at = pst_api_url(url, buf);
	struct answer answer = { 0 };
	struct curl_slist *headers;
	char *text = NULL;
	pst_err err;
	CURL *curl;

	if (ret_error != NULL)
		*ret_error = (struct pst_api_error){ 0 };
	if ((!is_unix(at) || at[5] == '\0') && strncmp(at, "https://", 8) != 0)
		return fail(ret_error, PST_E_INVAL, "the daemon's address must be unix:PATH or https://HOST:PORT",
			    "PENSTOCK_URL=unix:PATH");
	headers = headers_make(ret_error);
	if (headers == NULL)
		return PST_E_INVAL;
	if (body != NULL)
		text = json_dumps(body, JSON_COMPACT);
	curl = call_prepare(at, method, path, text, headers, &answer);
	if (curl == NULL || (body != NULL && text == NULL)) {
		err = fail(ret_error, PST_E_NOMEM, "no memory for a call to the daemon", "");
	} else {
		CURLcode code = curl_easy_perform(curl);
		long status = 0;

		curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
		err = code == CURLE_OK ? take_answer(status, &answer, ret_json, ret_error)
				       : fail_transport(ret_error, code, at);
	}
	curl_easy_cleanup(curl);
	headers_free(headers);
	free(answer.data);
	free(text);
	return err;
}

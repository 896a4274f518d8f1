/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One request:
 *
 *   HEAD     first call of the handler: allocated
 *   BODY     collected, at most PST_REST_BODY_MAX bytes
 *   ROUTED   answered at once (errors, the OpenAPI document), or
 *   POSTED   suspended; the home shard works on it, then resumes the connection
 *   ANSWERED the handler is called again and queues the response
 *
 * A request belongs to the HTTP thread but for POSTED, when it belongs to the home shard. A client that goes away
 * meanwhile is noticed when the connection is resumed.
 */
#include "control/rest.h"
#include "control/rest-socket.h"
#include "control/stats.h"
#include "env/secret.h"

#include <errno.h>
#include <microhttpd.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define IDLE_SECONDS 30u
/* Above 32 KiB the server maps it, and unmaps it with the connection: keys that were in a request don't linger. */
#define CONNECTION_MEMORY_BYTES 65536u
#define NAME_BYTES (PST_NQN_MAX + 2) /* one more than the longest, so that a longer one is not found instead of cut */

extern const char pst_openapi_json[];

struct pst_rest {
	struct pst_env *env;
	struct pst_catalog *catalog;
	const char *version, *io;
	struct MHD_Daemon *http;
	struct pst_rest_socket socket;
	atomic_bool quiet;
	atomic_uint posted; /* requests that the home shard has */
};

enum method { GET, POST, PATCH, DELETE, METHODS };

static const char *const method_names[METHODS] = { "GET", "POST", "PATCH", "DELETE" };

struct request;

struct route {
	const char *path; /* {} stands for a name; at the end, for all that follows */
	unsigned methods; /* bit mask */
	enum pst_catalog_object object;
	enum pst_catalog_op_kind kinds[METHODS];
	enum MHD_Result (*run)(struct request *r, const struct route *route);
	enum MHD_Result (*answer)(struct request *r);
};

struct request {
	struct pst_rest *rest;
	struct MHD_Connection *connection;
	const struct route *route;
	enum method method;
	bool answered; /* the shard is done with it */
	bool too_large;
	char *body;
	size_t body_bytes;
	char names[2][NAME_BYTES]; /* of the path */
	struct pst_catalog_op op;
	struct pst_stats_op stats;
	struct pst_post post;
};

/* ---- Answers ---- */

static enum MHD_Result send_text(struct request *r, unsigned status, const char *type, char *text,
				 enum MHD_ResponseMemoryMode mode)
{
	struct MHD_Response *response = MHD_create_response_from_buffer(strlen(text), text, mode);
	enum MHD_Result result;

	if (response == NULL) {
		if (mode == MHD_RESPMEM_MUST_FREE)
			free(text);
		return MHD_NO;
	}
	MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, type);
	MHD_add_response_header(response, MHD_HTTP_HEADER_CACHE_CONTROL, "no-store");
	if (status == MHD_HTTP_METHOD_NOT_ALLOWED && r->route != NULL) {
		char allow[64] = "";
		size_t used = 0;

		for (unsigned m = 0; m < METHODS; m++)
			if (r->route->methods & (1u << m))
				used += (size_t)snprintf(allow + used, sizeof(allow) - used, "%s%s",
							 used > 0 ? ", " : "", method_names[m]);
		MHD_add_response_header(response, MHD_HTTP_HEADER_ALLOW, allow);
	}
	result = MHD_queue_response(r->connection, status, response);
	MHD_destroy_response(response);
	return result;
}

static enum MHD_Result send_json(struct request *r, unsigned status, json_t *json)
{
	char *text = json != NULL ? json_dumps(json, JSON_COMPACT) : NULL;

	json_decref(json);
	if (text == NULL)
		return MHD_NO;
	return send_text(r, status, "application/json", text, MHD_RESPMEM_MUST_FREE);
}

static unsigned status_of(pst_err err)
{
	switch (err) {
	case PST_E_INVAL:
	case PST_E_RANGE:
		return MHD_HTTP_BAD_REQUEST;
	case PST_E_NOTFOUND:
		return MHD_HTTP_NOT_FOUND;
	case PST_E_EXISTS:
	case PST_E_BUSY:
		return MHD_HTTP_CONFLICT;
	case PST_E_KEY:
		return MHD_HTTP_LOCKED;
	case PST_E_NOSPACE:
	case PST_E_QUOTA:
		return MHD_HTTP_INSUFFICIENT_STORAGE;
	case PST_E_NOMEM:
	case PST_E_AGAIN:
		return MHD_HTTP_SERVICE_UNAVAILABLE;
	case PST_E_UNSUPPORTED:
		return MHD_HTTP_NOT_IMPLEMENTED;
	default:
		return MHD_HTTP_INTERNAL_SERVER_ERROR;
	}
}

static enum MHD_Result send_error(struct request *r, unsigned status, pst_err err, const char *message,
				  const char *hint)
{
	return send_json(
	    r, status,
	    json_pack("{s:{s:s s:s s:s}}", "error", "code", pst_err_name(err), "message", message, "hint", hint));
}

/* ---- The home shard's part ---- */

static void posted_done(struct request *r)
{
	struct pst_rest *rest = r->rest;

	r->answered = true;
	MHD_resume_connection(r->connection);
	atomic_fetch_sub(&rest->posted, 1);
}

static void catalog_done(struct pst_catalog_op *op)
{
	posted_done(pst_container_of(op, struct request, op));
}

static void stats_done(struct pst_stats_op *op)
{
	posted_done(pst_container_of(op, struct request, stats));
}

static void submit_there(struct pst_post *post)
{
	struct request *r = pst_container_of(post, struct request, post);

	pst_catalog_submit(r->rest->catalog, &r->op);
}

/* ---- Routes ---- */

static enum MHD_Result run_openapi(struct request *r, const struct route *route)
{
	union {
		const char *in;
		char *out;
	} text = { .in = pst_openapi_json }; /* persistent: not written to */

	(void)route;
	return send_text(r, MHD_HTTP_OK, "application/json", text.out, MHD_RESPMEM_PERSISTENT);
}

/* False after an answer: the rest is shutting down. */
static bool post_begin(struct request *r)
{
	atomic_fetch_add(&r->rest->posted, 1);
	if (!atomic_load(&r->rest->quiet))
		return true;
	atomic_fetch_sub(&r->rest->posted, 1);
	return false;
}

static enum MHD_Result send_quiet(struct request *r)
{
	return send_error(r, MHD_HTTP_SERVICE_UNAVAILABLE, PST_E_AGAIN, "the daemon is shutting down",
			  "try again when it is back");
}

static enum MHD_Result run_stats(struct request *r, const struct route *route)
{
	(void)route;
	if (!post_begin(r))
		return send_quiet(r);
	r->stats = (struct pst_stats_op){ .env = r->rest->env, .catalog = r->rest->catalog, .done = stats_done };
	MHD_suspend_connection(r->connection);
	pst_stats_collect(&r->stats);
	return MHD_YES;
}

static enum MHD_Result answer_metrics(struct request *r)
{
	char *text =
	    r->stats.err == PST_OK ? pst_stats_prometheus(&r->stats.stats, r->rest->version, r->rest->io) : NULL;

	if (text == NULL)
		return send_error(r, MHD_HTTP_SERVICE_UNAVAILABLE, PST_E_NOMEM, "no memory for the metrics", "");
	return send_text(r, MHD_HTTP_OK, "text/plain; version=0.0.4; charset=utf-8", text, MHD_RESPMEM_MUST_FREE);
}

static enum MHD_Result answer_stats(struct request *r)
{
	if (r->stats.err != PST_OK)
		return send_error(r, MHD_HTTP_SERVICE_UNAVAILABLE, PST_E_NOMEM, "no memory for the statistics", "");
	return send_json(r, MHD_HTTP_OK, pst_stats_json(&r->stats.stats));
}

static bool parse_body(struct request *r, char *message, size_t message_bytes)
{
	json_error_t error;

	r->op.body = json_loadb(r->body != NULL ? r->body : "", r->body_bytes, JSON_REJECT_DUPLICATES, &error);
	if (r->op.body == NULL)
		snprintf(message, message_bytes, "the body is not JSON: line %d, column %d: %s", error.line,
			 error.column, error.text);
	return r->op.body != NULL;
}

static const char *query(struct request *r, const char *name)
{
	return MHD_lookup_connection_value(r->connection, MHD_GET_ARGUMENT_KIND, name);
}

static bool query_bool(struct request *r, const char *name, bool *ret_value, char *message, size_t message_bytes)
{
	const char *text = query(r, name);

	if (text == NULL)
		return true;
	*ret_value = strcmp(text, "true") == 0;
	if (*ret_value || strcmp(text, "false") == 0)
		return true;
	snprintf(message, message_bytes, "%s must be true or false", name);
	return false;
}

static bool query_u64(struct request *r, const char *name, uint64_t *ret_value, char *message, size_t message_bytes)
{
	const char *text = query(r, name);
	char *end;

	if (text == NULL)
		return true;
	errno = 0;
	*ret_value = strtoull(text, &end, 10);
	if (text[0] >= '0' && text[0] <= '9' && *end == '\0' && errno == 0 && *ret_value <= INT64_MAX)
		return true;
	snprintf(message, message_bytes, "%s must be a whole number of at least 0", name);
	return false;
}

static bool parse_query(struct request *r, char *message, size_t message_bytes)
{
	r->op.volume = query(r, "volume");
	r->op.from = query(r, "from");
	r->op.pool = query(r, "pool");
	return query_bool(r, "force", &r->op.force, message, message_bytes) &&
	       query_bool(r, "with_snapshots", &r->op.with_snapshots, message, message_bytes) &&
	       query_u64(r, "offset_bytes", &r->op.offset_bytes, message, message_bytes) &&
	       query_u64(r, "since", &r->op.since, message, message_bytes);
}

static enum MHD_Result run_catalog(struct request *r, const struct route *route)
{
	char message[300];

	if (!parse_query(r, message, sizeof(message)))
		return send_error(r, MHD_HTTP_BAD_REQUEST, PST_E_INVAL, message, "");
	if ((r->method == POST || r->method == PATCH) && !parse_body(r, message, sizeof(message)))
		return send_error(r, MHD_HTTP_BAD_REQUEST, PST_E_INVAL, message, "");
	r->op.kind = route->kinds[r->method];
	r->op.object = route->object;
	r->op.name = r->names[0];
	r->op.sub = r->names[1];
	r->op.done = catalog_done;
	r->post.fn = submit_there;
	if (!post_begin(r))
		return send_quiet(r);
	MHD_suspend_connection(r->connection);
	pst_env_post(r->rest->env, &r->post);
	return MHD_YES;
}

static enum MHD_Result answer_catalog(struct request *r)
{
	json_t *result = r->op.result;

	r->op.result = NULL;
	if (r->op.err != PST_OK) {
		json_decref(result);
		return send_error(r, status_of(r->op.err), r->op.err, r->op.message, r->op.hint);
	}
	if (result == NULL && r->method == DELETE) {
		static char nothing[] = "";

		return send_text(r, MHD_HTTP_NO_CONTENT, "application/json", nothing, MHD_RESPMEM_PERSISTENT);
	}
	if (result == NULL)
		return send_error(r, MHD_HTTP_SERVICE_UNAVAILABLE, PST_E_NOMEM, "done, but no memory for the answer",
				  "read the object again");
	return send_json(r, r->op.kind == PST_CATALOG_CREATE ? MHD_HTTP_CREATED : MHD_HTTP_OK, result);
}

/* Health is asked of the home shard: a daemon that can't turn does not answer. */
static enum MHD_Result answer_health(struct request *r)
{
	size_t pools = json_array_size(r->op.result);

	return send_json(r, MHD_HTTP_OK,
			 json_pack("{s:s s:I s:s s:s}", "status", "ok", "pools", (json_int_t)pools, "version",
				   r->rest->version, "io", r->rest->io));
}

#define M(method) (1u << (method))
#define LIST                                                          \
	{                                                             \
		[GET] = PST_CATALOG_LIST, [POST] = PST_CATALOG_CREATE \
	}
#define ONE                                                                                        \
	{                                                                                          \
		[GET] = PST_CATALOG_SHOW, [PATCH] = PST_CATALOG_SET, [DELETE] = PST_CATALOG_DELETE \
	}

/* The first that fits counts. */
static const struct route routes[] = {
	{ "/healthz", M(GET), PST_CATALOG_POOL, LIST, run_catalog, answer_health },
	{ "/metrics", M(GET), 0, LIST, run_stats, answer_metrics },
	{ "/openapi.json", M(GET), 0, LIST, run_openapi, NULL },
	{ "/v1/stats", M(GET), 0, LIST, run_stats, answer_stats },
	{ "/v1/pools", M(GET), PST_CATALOG_POOL, LIST, run_catalog, answer_catalog },
	{ "/v1/pools/{}/tasks", M(GET) | M(POST), PST_CATALOG_TASK, LIST, run_catalog, answer_catalog },
	{ "/v1/pools/{}/tasks/{}", M(DELETE), PST_CATALOG_TASK, ONE, run_catalog, answer_catalog },
	{ "/v1/pools/{}/devices", M(POST), PST_CATALOG_DEVICE, LIST, run_catalog, answer_catalog },
	{ "/v1/pools/{}/grow", M(POST), PST_CATALOG_POOL, { [POST] = PST_CATALOG_SET }, run_catalog, answer_catalog },
	{ "/v1/pools/{}/check",
	  M(GET) | M(POST),
	  PST_CATALOG_CHECK,
	  { [GET] = PST_CATALOG_SHOW, [POST] = PST_CATALOG_CREATE },
	  run_catalog,
	  answer_catalog },
	{ "/v1/events", M(GET), PST_CATALOG_EVENT, LIST, run_catalog, answer_catalog },
	{ "/v1/pools/{}", M(GET), PST_CATALOG_POOL, ONE, run_catalog, answer_catalog },
	{ "/v1/tenants", M(GET) | M(POST), PST_CATALOG_TENANT, LIST, run_catalog, answer_catalog },
	{ "/v1/tenants/{}", M(GET) | M(PATCH) | M(DELETE), PST_CATALOG_TENANT, ONE, run_catalog, answer_catalog },
	{ "/v1/profiles", M(GET) | M(POST), PST_CATALOG_PROFILE, LIST, run_catalog, answer_catalog },
	{ "/v1/profiles/{}", M(GET) | M(PATCH) | M(DELETE), PST_CATALOG_PROFILE, ONE, run_catalog, answer_catalog },
	{ "/v1/volumes", M(GET) | M(POST), PST_CATALOG_VOLUME, LIST, run_catalog, answer_catalog },
	{ "/v1/volumes/{}/rollback",
	  M(POST),
	  PST_CATALOG_VOLUME,
	  { [POST] = PST_CATALOG_ROLLBACK },
	  run_catalog,
	  answer_catalog },
	{ "/v1/volumes/{}", M(GET) | M(PATCH) | M(DELETE), PST_CATALOG_VOLUME, ONE, run_catalog, answer_catalog },
	{ "/v1/hosts", M(GET) | M(POST), PST_CATALOG_HOST, LIST, run_catalog, answer_catalog },
	{ "/v1/hosts/{}", M(GET) | M(PATCH) | M(DELETE), PST_CATALOG_HOST, ONE, run_catalog, answer_catalog },
	{ "/v1/ports", M(GET), PST_CATALOG_PORT, LIST, run_catalog, answer_catalog },
	{ "/v1/ports/{}", M(GET) | M(PATCH), PST_CATALOG_PORT, ONE, run_catalog, answer_catalog },
	{ "/v1/keys", M(GET) | M(POST), PST_CATALOG_KEY, LIST, run_catalog, answer_catalog },
	{ "/v1/keys/{}", M(GET) | M(DELETE), PST_CATALOG_KEY, ONE, run_catalog, answer_catalog },
	{ "/v1/snapshots", M(GET) | M(POST), PST_CATALOG_SNAPSHOT, LIST, run_catalog, answer_catalog },
	{ "/v1/snapshots/{}/diff",
	  M(GET),
	  PST_CATALOG_SNAPSHOT,
	  { [GET] = PST_CATALOG_DIFF },
	  run_catalog,
	  answer_catalog },
	{ "/v1/snapshots/{}", M(GET) | M(DELETE), PST_CATALOG_SNAPSHOT, ONE, run_catalog, answer_catalog },
};

/* Does @url fit? Fills @names with what stands for {}: one part of the path each, or all the rest for the last. */
static bool route_fits(const char *path, const char *url, char names[2][NAME_BYTES])
{
	for (unsigned n = 0; *path != '\0'; path++) {
		if (*path == '{') {
			size_t len = path[2] == '\0' ? strlen(url) : strcspn(url, "/");

			if (len == 0)
				return false;
			snprintf(names[n++], sizeof(names[0]), "%.*s", (int)PST_MIN(len, sizeof(names[0])), url);
			url += len;
			path++;
		} else if (*url++ != *path) {
			return false;
		}
	}
	return *url == '\0';
}

static const struct route *route_find(const char *url, struct request *r)
{
	for (size_t i = 0; i < PST_ARRAY_COUNT(routes); i++)
		if (route_fits(routes[i].path, url, r->names))
			return &routes[i];
	return NULL;
}

static enum MHD_Result dispatch(struct request *r, const char *url, const char *method)
{
	char message[200];

	r->route = route_find(url, r);
	if (r->too_large)
		return send_error(r, MHD_HTTP_CONTENT_TOO_LARGE, PST_E_INVAL, "the body is longer than 64 KiB", "");
	if (r->route == NULL) {
		snprintf(message, sizeof(message), "there is nothing at %.120s", url);
		return send_error(r, MHD_HTTP_NOT_FOUND, PST_E_NOTFOUND, message, "GET /openapi.json");
	}
	while (r->method < METHODS && strcmp(method, method_names[r->method]) != 0)
		r->method++;
	if (r->method == METHODS || !(r->route->methods & (1u << r->method))) {
		snprintf(message, sizeof(message), "%.20s is not a method of %.120s", method, url);
		return send_error(r, MHD_HTTP_METHOD_NOT_ALLOWED, PST_E_INVAL, message, "GET /openapi.json");
	}
	return r->route->run(r, r->route);
}

/* ---- HTTP ---- */

static void take_body(struct request *r, const char *data, size_t bytes)
{
	char *grown;

	if (r->too_large || bytes > PST_REST_BODY_MAX - r->body_bytes) {
		r->too_large = true;
		return;
	}
	grown = pst_secret_realloc(r->body, r->body_bytes + bytes); /* there may be keys in it */
	if (grown == NULL) {
		r->too_large = true;
		return;
	}
	memcpy(grown + r->body_bytes, data, bytes);
	r->body = grown;
	r->body_bytes += bytes;
}

static enum MHD_Result handle(void *ctx, struct MHD_Connection *connection, const char *url, const char *method,
			      const char *version, const char *data, size_t *data_bytes, void **con)
{
	struct request *r = *con;

	(void)version;
	if (r == NULL) {
		r = calloc(1, sizeof(*r));
		if (r == NULL)
			return MHD_NO;
		r->rest = ctx;
		r->connection = connection;
		*con = r;
		return MHD_YES;
	}
	if (*data_bytes > 0) {
		take_body(r, data, *data_bytes);
		*data_bytes = 0;
		return MHD_YES;
	}
	if (r->answered)
		return r->route->answer(r);
	return dispatch(r, url, method);
}

static void completed(void *ctx, struct MHD_Connection *connection, void **con, enum MHD_RequestTerminationCode code)
{
	struct request *r = *con;

	(void)ctx;
	(void)connection;
	(void)code;
	if (r == NULL)
		return;
	json_decref(r->op.body);
	json_decref(r->op.result);
	pst_stats_done(&r->stats.stats);
	pst_secret_release(r->body);
	free(r);
	*con = NULL;
}

pst_err pst_rest_start(const struct pst_rest_config *config, struct pst_rest **ret_rest, char *detail,
		       size_t detail_bytes)
{
	struct pst_rest *rest = calloc(1, sizeof(*rest));
	pst_err err;

	if (rest == NULL)
		return PST_E_NOMEM;
	rest->env = config->env;
	rest->catalog = config->catalog;
	rest->version = config->version;
	rest->io = config->io;
	err = pst_rest_socket_open(&rest->socket, config->socket_path, detail, detail_bytes);
	if (err != PST_OK) {
		free(rest);
		return err;
	}
	rest->http = MHD_start_daemon(
	    MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_POLL | MHD_ALLOW_SUSPEND_RESUME, 0, NULL, NULL, handle, rest,
	    MHD_OPTION_LISTEN_SOCKET, rest->socket.fd, MHD_OPTION_CONNECTION_LIMIT, PST_REST_CONNECTIONS_MAX,
	    MHD_OPTION_CONNECTION_TIMEOUT, IDLE_SECONDS, MHD_OPTION_CONNECTION_MEMORY_LIMIT,
	    (size_t)CONNECTION_MEMORY_BYTES, MHD_OPTION_NOTIFY_COMPLETED, completed, NULL, MHD_OPTION_END);
	if (rest->http == NULL) {
		snprintf(detail, detail_bytes, "the HTTP server did not start on %s", config->socket_path);
		pst_rest_socket_close(&rest->socket);
		free(rest);
		return PST_E_INTERNAL;
	}
	*ret_rest = rest;
	return PST_OK;
}

bool pst_rest_quiesce(struct pst_rest *rest)
{
	atomic_store(&rest->quiet, true);
	return atomic_load(&rest->posted) > 0;
}

void pst_rest_stop(struct pst_rest *rest)
{
	MHD_stop_daemon(rest->http); /* closes the listening socket */
	rest->socket.fd = -1;
	pst_rest_socket_close(&rest->socket);
	free(rest);
}

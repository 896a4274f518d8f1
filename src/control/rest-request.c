/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One request:
 *
 *   HEAD     first call of the handler: allocated. Who comes with a token is suspended until the home shard has looked
 *            at it; who comes by the unix socket without one is an admin
 *   BODY     collected, at most PST_REST_BODY_MAX bytes; of callers that were refused, passed over
 *   DENIED   answered with 401; with a delay, where there were too many of them, or
 *   ROUTED   answered at once (errors, the OpenAPI document), or
 *   POSTED   suspended; the home shard works on it, then resumes the connection
 *   ANSWERED the handler is called again and queues the response
 *
 * A request belongs to its listener's thread but while it is suspended, when it belongs to the home shard. A client
 * that goes away meanwhile is noticed when the connection is resumed.
 */
#include "control/rest-internal.h"
#include "control/rest-routes.h"
#include "env/secret.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define TOKEN_BYTES 128u

extern const char pst_openapi_json[];

struct request {
	struct pst_rest *rest;
	struct MHD_Connection *connection;
	struct pst_rest_link *link;
	const struct pst_route *route;
	enum pst_method method;
	bool looked_at; /* at its token, just now: the server makes the first call again */
	bool quiet;     /* the server is shutting down */
	bool answered;  /* the shard is done with it */
	bool delayed;   /* its refusal was kept back */
	bool too_large;
	const char *denied; /* why it has no valid token: a word for the log; NULL: its caller is known */
	struct pst_caller caller;
	char token[TOKEN_BYTES]; /* wiped when it was looked at */
	char *body;
	size_t body_bytes;
	char names[PST_ROUTE_NAMES][PST_ROUTE_NAME_BYTES]; /* of the path */
	struct pst_catalog_op op;
	struct pst_stats_op stats;
	struct pst_post post;
};

/* ---- Answers ---- */

static void add_headers(struct request *r, unsigned status, struct MHD_Response *response)
{
	char allow[64] = "";
	size_t used = 0;

	MHD_add_response_header(response, MHD_HTTP_HEADER_CACHE_CONTROL, "no-store");
	if (status == MHD_HTTP_UNAUTHORIZED) {
		MHD_add_response_header(response, MHD_HTTP_HEADER_WWW_AUTHENTICATE, "Bearer");
		MHD_add_response_header(response, MHD_HTTP_HEADER_CONNECTION, "close");
	}
	if (status != MHD_HTTP_METHOD_NOT_ALLOWED || r->route == NULL)
		return;
	for (unsigned m = 0; m < PST_METHODS; m++)
		if (pst_route_has(r->route, (enum pst_method)m))
			used += (size_t)snprintf(allow + used, sizeof(allow) - used, "%s%s", used > 0 ? ", " : "",
						 pst_method_names[m]);
	MHD_add_response_header(response, MHD_HTTP_HEADER_ALLOW, allow);
}

/* Takes @response over; NULL: there was no memory for it. */
static enum MHD_Result send_response(struct request *r, unsigned status, const char *type,
				     struct MHD_Response *response)
{
	enum MHD_Result result;

	if (response == NULL)
		return MHD_NO;
	MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, type);
	add_headers(r, status, response);
	pst_rest_watch_start(r->rest->watch, r->link);
	result = MHD_queue_response(r->connection, status, response);
	MHD_destroy_response(response);
	return result;
}

static enum MHD_Result send_static(struct request *r, unsigned status, const char *type, const char *text)
{
	union {
		const char *in;
		char *out;
	} data = { .in = text }; /* persistent: not written to */

	return send_response(r, status, type,
			     MHD_create_response_from_buffer(strlen(text), data.out, MHD_RESPMEM_PERSISTENT));
}

/* As JSON's memory is freed: in the daemon that wipes it, since a new token is in an answer. */
static void json_text_free(void *text)
{
	json_malloc_t alloc;
	json_free_t release;

	json_get_alloc_funcs(&alloc, &release);
	release(text);
}

static enum MHD_Result send_json(struct request *r, unsigned status, json_t *json)
{
	char *text = json != NULL ? json_dumps(json, JSON_COMPACT) : NULL;
	struct MHD_Response *response;

	json_decref(json);
	if (text == NULL)
		return MHD_NO;
	response = MHD_create_response_from_buffer_with_free_callback(strlen(text), text, json_text_free);
	if (response == NULL)
		json_text_free(text);
	return send_response(r, status, "application/json", response);
}

static unsigned status_of(pst_err err)
{
	switch (err) {
	case PST_E_INVAL:
	case PST_E_RANGE:
		return MHD_HTTP_BAD_REQUEST;
	case PST_E_DENIED:
		return MHD_HTTP_FORBIDDEN;
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

static enum MHD_Result send_quiet(struct request *r)
{
	return send_error(r, MHD_HTTP_SERVICE_UNAVAILABLE, PST_E_AGAIN, "the daemon is shutting down",
			  "try again when it is back");
}

/* ---- The home shard's part ---- */

/* False: the server is shutting down. Else the connection is suspended until posted_done. */
static bool post(struct request *r, void (*fn)(struct pst_post *post))
{
	atomic_fetch_add(&r->rest->posted, 1);
	if (atomic_load(&r->rest->quiet)) {
		atomic_fetch_sub(&r->rest->posted, 1);
		return false;
	}
	r->post.fn = fn;
	MHD_suspend_connection(r->connection);
	pst_env_post(r->rest->env, &r->post);
	return true;
}

static void posted_done(struct request *r)
{
	struct pst_rest *rest = r->rest;

	MHD_resume_connection(r->connection);
	atomic_fetch_sub(&rest->posted, 1);
}

static void authenticate_there(struct pst_post *post)
{
	struct request *r = pst_container_of(post, struct request, post);
	pst_err err = pst_catalog_authenticate(r->rest->catalog, r->token, &r->caller, &r->denied);

	if (err == PST_OK)
		r->denied = NULL;
	explicit_bzero(r->token, sizeof(r->token));
	r->looked_at = true;
	posted_done(r);
}

static void catalog_done(struct pst_catalog_op *op)
{
	struct request *r = pst_container_of(op, struct request, op);

	r->answered = true;
	posted_done(r);
}

static void stats_done(struct pst_stats_op *op)
{
	struct request *r = pst_container_of(op, struct request, stats);

	r->answered = true;
	posted_done(r);
}

/* A token may have been revoked while the request's body was on its way. */
static bool valid_there(struct request *r)
{
	if (pst_catalog_caller_valid(r->rest->catalog, &r->caller))
		return true;
	r->denied = "revoked";
	posted_done(r);
	return false;
}

static void submit_there(struct pst_post *post)
{
	struct request *r = pst_container_of(post, struct request, post);

	if (valid_there(r))
		pst_catalog_submit(r->rest->catalog, &r->op);
}

static void collect_there(struct pst_post *post)
{
	struct request *r = pst_container_of(post, struct request, post);

	if (valid_there(r))
		pst_stats_collect(&r->stats);
}

/* ---- Work ---- */

static const char *tenant_of(const struct request *r)
{
	return r->caller.tenant[0] != '\0' ? r->caller.tenant : NULL;
}

static enum MHD_Result run_stats(struct request *r)
{
	r->stats = (struct pst_stats_op){ .env = r->rest->env, .catalog = r->rest->catalog, .done = stats_done };
	r->stats.tenant = tenant_of(r);
	return post(r, collect_there) ? MHD_YES : send_quiet(r);
}

static enum MHD_Result answer_metrics(struct request *r)
{
	char *text =
	    r->stats.err == PST_OK ? pst_stats_prometheus(&r->stats.stats, r->rest->version, r->rest->io) : NULL;
	struct MHD_Response *response;

	if (text == NULL)
		return send_error(r, MHD_HTTP_SERVICE_UNAVAILABLE, PST_E_NOMEM, "no memory for the metrics", "");
	response = MHD_create_response_from_buffer(strlen(text), text, MHD_RESPMEM_MUST_FREE);
	if (response == NULL)
		free(text);
	return send_response(r, MHD_HTTP_OK, "text/plain; version=0.0.4; charset=utf-8", response);
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

static enum MHD_Result run_catalog(struct request *r)
{
	char message[300];

	if (!parse_query(r, message, sizeof(message)))
		return send_error(r, MHD_HTTP_BAD_REQUEST, PST_E_INVAL, message, "");
	if ((r->method == PST_POST || r->method == PST_PATCH) && !parse_body(r, message, sizeof(message)))
		return send_error(r, MHD_HTTP_BAD_REQUEST, PST_E_INVAL, message, "");
	r->op.kind = r->route->kinds[r->method];
	r->op.object = r->route->object;
	r->op.name = r->names[0];
	r->op.sub = r->names[1];
	/* Health is how many pools there are, for all who may ask. */
	r->op.tenant = r->route->work != PST_ROUTE_HEALTH ? tenant_of(r) : NULL;
	r->op.done = catalog_done;
	return post(r, submit_there) ? MHD_YES : send_quiet(r);
}

static enum MHD_Result answer_catalog(struct request *r)
{
	json_t *result = r->op.result;

	r->op.result = NULL;
	if (r->op.err != PST_OK) {
		json_decref(result);
		return send_error(r, status_of(r->op.err), r->op.err, r->op.message, r->op.hint);
	}
	if (result == NULL && r->method == PST_DELETE)
		return send_static(r, MHD_HTTP_NO_CONTENT, "application/json", "");
	if (result == NULL)
		return send_error(r, MHD_HTTP_SERVICE_UNAVAILABLE, PST_E_NOMEM, "done, but no memory for the answer",
				  "read the object again");
	return send_json(r, r->op.kind == PST_CATALOG_CREATE ? MHD_HTTP_CREATED : MHD_HTTP_OK, result);
}

static enum MHD_Result answer_health(struct request *r)
{
	size_t pools = json_array_size(r->op.result);

	return send_json(r, MHD_HTTP_OK,
			 json_pack("{s:s s:I s:s s:s}", "status", "ok", "pools", (json_int_t)pools, "version",
				   r->rest->version, "io", r->rest->io));
}

static enum MHD_Result run_openapi(struct request *r)
{
	return send_static(r, MHD_HTTP_OK, "application/json", pst_openapi_json);
}

static const struct {
	enum MHD_Result (*run)(struct request *r);
	enum MHD_Result (*answer)(struct request *r);
} works[] = {
	[PST_ROUTE_CATALOG] = { run_catalog, answer_catalog }, [PST_ROUTE_HEALTH] = { run_catalog, answer_health },
	[PST_ROUTE_STATS] = { run_stats, answer_stats },       [PST_ROUTE_METRICS] = { run_stats, answer_metrics },
	[PST_ROUTE_OPENAPI] = { run_openapi, NULL },
};

/* ---- Who may what ---- */

/* The token of the request, for the home shard to look at. */
static void identify(struct request *r)
{
	static const char scheme[] = "Bearer ";
	const char *header = MHD_lookup_connection_value(r->connection, MHD_HEADER_KIND, MHD_HTTP_HEADER_AUTHORIZATION);

	if (header == NULL) {
		r->caller = (struct pst_caller){ .role = PST_ROLE_ADMIN }; /* by the unix socket */
		r->denied = r->link->tcp ? "no_token" : NULL;
	} else if (strncasecmp(header, scheme, sizeof(scheme) - 1) != 0 ||
		   strlen(header + sizeof(scheme) - 1) >= sizeof(r->token)) {
		r->denied = "malformed";
	} else {
		snprintf(r->token, sizeof(r->token), "%s", header + sizeof(scheme) - 1);
		r->denied = "unknown"; /* until it is found */
		r->quiet = !post(r, authenticate_there);
	}
}

static uint32_t count_failure(struct request *r)
{
	struct pst_rest *rest = r->rest;
	uint32_t failures;

	if (!r->link->tcp)
		return 0;
	pthread_mutex_lock(&rest->guard_lock);
	failures = pst_rest_guard_failed(&rest->guard, (struct sockaddr *)&r->link->peer, pst_rest_now_ns());
	pthread_mutex_unlock(&rest->guard_lock);
	return failures;
}

/* Guessing is hopeless, trying it need not be free; and the log must not fill. */
static enum MHD_Result deny(struct request *r)
{
	const struct pst_rest_limits *limits = &r->rest->limits;

	if (!r->delayed) {
		uint32_t failures = count_failure(r);

		if (failures <= limits->api_failures_max)
			pst_env_log(r->rest->env, PST_LOG_WARN, "api_denied peer=%s reason=%s", r->link->peer_text,
				    r->denied);
		else if (failures == limits->api_failures_max + 1)
			pst_env_log(r->rest->env, PST_LOG_WARN,
				    "api_slowed peer=%s failures=%u next=\"further ones within the minute are not "
				    "logged\"",
				    r->link->peer_text, failures);
		r->delayed = true;
		if (failures > limits->api_failures_max &&
		    pst_rest_watch_hold(r->rest->watch, r->link, r->connection, limits->api_failure_delay_ms))
			return MHD_YES;
	}
	return send_error(r, MHD_HTTP_UNAUTHORIZED, PST_E_DENIED, "the API needs a valid token",
			  "penstock token create NAME --role ROLE, on the daemon's machine; then PENSTOCK_TOKEN_FILE");
}

static enum MHD_Result dispatch(struct request *r, const char *url, const char *method)
{
	char message[200];

	pst_rest_watch_pause(r->rest->watch, r->link);
	if (r->quiet)
		return send_quiet(r);
	if (r->denied != NULL)
		return deny(r);
	r->route = pst_route_find(url, r->names);
	r->method = pst_method_find(method);
	if (r->route == NULL) {
		snprintf(message, sizeof(message), "there is nothing at %.120s", url);
		return send_error(r, MHD_HTTP_NOT_FOUND, PST_E_NOTFOUND, message, "GET /openapi.json");
	}
	if (!pst_route_has(r->route, r->method)) {
		snprintf(message, sizeof(message), "%.20s is not a method of %.120s", method, url);
		return send_error(r, MHD_HTTP_METHOD_NOT_ALLOWED, PST_E_INVAL, message, "GET /openapi.json");
	}
	if (!pst_role_may(r->caller.role, tenant_of(r) != NULL, r->route->rights[r->method])) {
		snprintf(message, sizeof(message), "a token of role '%s'%s may not %s %s",
			 pst_role_name(r->caller.role), tenant_of(r) != NULL ? " for a tenant" : "", method,
			 r->route->path);
		return send_error(r, MHD_HTTP_FORBIDDEN, PST_E_DENIED, message, "ask whoever made the token");
	}
	if (r->too_large)
		return send_error(r, MHD_HTTP_CONTENT_TOO_LARGE, PST_E_INVAL, "the body is longer than 64 KiB", "");
	return works[r->route->work].run(r);
}

/* ---- HTTP ---- */

static void take_body(struct request *r, const char *data, size_t bytes)
{
	char *grown;

	if (r->denied != NULL || r->quiet)
		return; /* no memory for strangers */
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

static struct pst_rest_link *link_of(struct MHD_Connection *connection)
{
	return MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT)->socket_context;
}

enum MHD_Result pst_rest_handle(void *ctx, struct MHD_Connection *connection, const char *url, const char *method,
				const char *version, const char *data, size_t *data_bytes, void **con)
{
	struct request *r = *con;

	(void)version;
	if (r == NULL) {
		r = link_of(connection) != NULL ? calloc(1, sizeof(*r)) : NULL;
		if (r == NULL)
			return MHD_NO;
		r->rest = ((struct pst_rest_listener *)ctx)->rest;
		r->connection = connection;
		r->link = link_of(connection);
		*con = r;
		identify(r);
		return MHD_YES;
	}
	if (r->looked_at) {
		r->looked_at = false;
		return MHD_YES;
	}
	if (*data_bytes > 0) {
		take_body(r, data, *data_bytes);
		*data_bytes = 0;
		return MHD_YES;
	}
	if (r->answered)
		return works[r->route->work].answer(r);
	return dispatch(r, url, method);
}

void pst_rest_completed(void *ctx, struct MHD_Connection *connection, void **con, enum MHD_RequestTerminationCode code)
{
	struct request *r = *con;
	const struct pst_rest_listener *listener = ctx;

	(void)connection;
	(void)code;
	if (r == NULL)
		return;
	pst_rest_watch_start(listener->rest->watch, r->link); /* the next one's time */
	json_decref(r->op.body);
	json_decref(r->op.result);
	pst_stats_done(&r->stats.stats);
	pst_secret_release(r->body);
	free(r);
	*con = NULL;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Listeners: one HTTP server for the unix socket and one for each TCP address, so that strangers who take all places of
 * one don't shut out the others. What they share: the watch over their connections, who failed how often, the home
 * shard.
 */
#include "control/rest-internal.h"
#include "control/rest-tls.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

/* Above 32 KiB the server maps it, and unmaps it with the connection: keys that were in a request don't linger. */
#define CONNECTION_MEMORY_BYTES 65536u
#define CERT_SOON_S 604800 /* a week */
#define POLL_NS 10000000u

static void notified(void *ctx, struct MHD_Connection *connection, void **socket_context,
		     enum MHD_ConnectionNotificationCode code)
{
	const struct pst_rest_listener *l = ctx;

	if (code == MHD_CONNECTION_NOTIFY_STARTED) {
		*socket_context = pst_rest_watch_begin(l->rest->watch, connection, l->tcp);
	} else if (*socket_context != NULL) {
		pst_rest_watch_end(l->rest->watch, *socket_context);
		*socket_context = NULL;
	}
}

#define LIMIT(field, fallback, min, max) PST_LIMIT(struct pst_rest_limits, field, fallback, min, max)

static const struct pst_limit limits[] = {
	LIMIT(api_connections_max, 64, 1, 65536),           LIMIT(api_connections_per_address_max, 16, 1, 65536),
	LIMIT(api_request_timeout_ms, 30000, 100, 3600000), LIMIT(api_failures_max, 10, 1, 1000000),
	LIMIT(api_failure_delay_ms, 1000, 1, 60000),
};

const struct pst_limit *pst_rest_limits(size_t *ret_count)
{
	*ret_count = PST_ARRAY_COUNT(limits);
	return limits;
}

static void load_logged(struct pst_rest *rest)
{
	int64_t left = pst_rest_tls_expires_s() - (int64_t)time(NULL);

	pst_env_log(rest->env, left < CERT_SOON_S ? PST_LOG_WARN : PST_LOG_INFO,
		    "api_certificate file=%s days_left=%lld%s", rest->cert_path, (long long)(left / 86400),
		    left < CERT_SOON_S ? " next=\"renew it, then SIGHUP\"" : "");
}

static void reload(void *ctx)
{
	struct pst_rest *rest = ctx;
	char detail[400];

	if (rest->tcp_count == 0)
		return;
	if (pst_rest_tls_load(rest->cert_path, rest->key_path, detail, sizeof(detail)) == PST_OK)
		load_logged(rest);
	else
		pst_env_log(rest->env, PST_LOG_ERROR, "api_certificate_kept error=\"%s\"", detail);
}

void pst_rest_reload(struct pst_rest *rest)
{
	pst_rest_watch_ask(rest->watch);
}

/* Takes @fd over; false: it is the caller's still. */
static bool listener_start(struct pst_rest *rest, struct pst_rest_listener *l, int fd, bool tcp)
{
	struct MHD_OptionItem only_tcp[] = {
		{ MHD_OPTION_PER_IP_CONNECTION_LIMIT, (intptr_t)rest->limits.api_connections_per_address_max, NULL },
		{ MHD_OPTION_HTTPS_CERT_CALLBACK2, 0, (void *)(uintptr_t)pst_rest_tls_retrieve },
		{ MHD_OPTION_HTTPS_PRIORITIES, 0, (void *)(uintptr_t)pst_rest_tls_priorities },
		{ MHD_OPTION_END, 0, NULL },
	};
	unsigned flags = MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_POLL | MHD_ALLOW_SUSPEND_RESUME;

	if (!tcp)
		only_tcp[0].option = MHD_OPTION_END;
	l->rest = rest;
	l->tcp = tcp;
	l->http = MHD_start_daemon(
	    flags | (tcp ? MHD_USE_TLS : 0), 0, NULL, NULL, pst_rest_handle, l, MHD_OPTION_LISTEN_SOCKET, fd,
	    MHD_OPTION_CONNECTION_LIMIT, (unsigned)rest->limits.api_connections_max, MHD_OPTION_CONNECTION_TIMEOUT,
	    (unsigned)pst_div_round_up(rest->limits.api_request_timeout_ms, 1000), MHD_OPTION_CONNECTION_MEMORY_LIMIT,
	    (size_t)CONNECTION_MEMORY_BYTES, MHD_OPTION_NOTIFY_COMPLETED, pst_rest_completed, l,
	    MHD_OPTION_NOTIFY_CONNECTION, notified, l, MHD_OPTION_ARRAY, only_tcp, MHD_OPTION_END);
	return l->http != NULL;
}

static pst_err start_local(struct pst_rest *rest, const char *path, char *detail, size_t detail_bytes)
{
	pst_err err = pst_rest_socket_open(&rest->socket, path, detail, detail_bytes);

	if (err != PST_OK)
		return err;
	if (listener_start(rest, &rest->local, rest->socket.fd, false))
		return PST_OK;
	snprintf(detail, detail_bytes, "the HTTP server did not start on %s", path);
	pst_rest_socket_close(&rest->socket);
	return PST_E_INTERNAL;
}

static pst_err start_tcp(struct pst_rest *rest, const struct pst_addr *addr, char *detail, size_t detail_bytes)
{
	struct pst_rest_listener *l = &rest->tcp[rest->tcp_count];
	char text[72];
	int fd;
	pst_err err = pst_rest_socket_tcp(addr, &fd, &l->bound, detail, detail_bytes);

	if (err != PST_OK)
		return err;
	if (!listener_start(rest, l, fd, true)) {
		snprintf(detail, detail_bytes, "the HTTPS server did not start on %s", pst_addr_format(addr, text));
		close(fd);
		return PST_E_INTERNAL;
	}
	rest->tcp_count++;
	return PST_OK;
}

pst_err pst_rest_start(const struct pst_rest_config *config, struct pst_rest **ret_rest, char *detail,
		       size_t detail_bytes)
{
	struct pst_rest *rest = calloc(1, sizeof(*rest));
	char why[PST_LIMIT_WHY_BYTES];
	pst_err err;

	if (rest == NULL)
		return PST_E_NOMEM;
	rest->env = config->env;
	rest->catalog = config->catalog;
	rest->version = config->version;
	rest->io = config->io;
	rest->cert_path = config->cert_path;
	rest->key_path = config->key_path;
	rest->limits = config->limits;
	pthread_mutex_init(&rest->guard_lock, NULL);
	err = pst_limit_complete(limits, PST_ARRAY_COUNT(limits), &rest->limits, why);
	pst_assert(err == PST_OK); /* each was checked when it was set */
	if (config->tcp_count > 0)
		err = pst_rest_tls_load(config->cert_path, config->key_path, detail, detail_bytes);
	if (err == PST_OK)
		err = pst_rest_watch_new(rest->limits.api_request_timeout_ms, reload, rest, &rest->watch);
	if (err == PST_OK)
		err = start_local(rest, config->socket_path, detail, detail_bytes);
	for (unsigned i = 0; i < config->tcp_count && err == PST_OK; i++)
		err = start_tcp(rest, &config->tcp[i], detail, detail_bytes);
	if (err != PST_OK) {
		/* The first listeners may have been asked already. */
		while (rest->watch != NULL && pst_rest_quiesce(rest))
			pst_env_poll(rest->env, POLL_NS);
		pst_rest_stop(rest);
		return err;
	}
	if (config->tcp_count > 0)
		load_logged(rest);
	*ret_rest = rest;
	return PST_OK;
}

const struct pst_addr *pst_rest_tcp_bound(const struct pst_rest *rest, unsigned index)
{
	return &rest->tcp[index].bound;
}

bool pst_rest_quiesce(struct pst_rest *rest)
{
	atomic_store(&rest->quiet, true);
	pst_rest_watch_release(rest->watch);
	return atomic_load(&rest->posted) > 0;
}

void pst_rest_stop(struct pst_rest *rest)
{
	for (unsigned i = 0; i < rest->tcp_count; i++)
		MHD_stop_daemon(rest->tcp[i].http); /* closes the listening socket */
	if (rest->local.http != NULL) {
		MHD_stop_daemon(rest->local.http);
		rest->socket.fd = -1;
		pst_rest_socket_close(&rest->socket);
	}
	if (rest->watch != NULL)
		pst_rest_watch_free(rest->watch);
	pst_rest_tls_unload();
	pthread_mutex_destroy(&rest->guard_lock);
	free(rest);
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The REST API: HTTP on a unix socket, and over TCP with TLS and tokens; each listener on a thread of its own. Every
 * request that concerns the catalog is posted to the home shard and answered when that is done; meanwhile its
 * connection is suspended, and others go on. docs/api.md and openapi.json describe what it speaks.
 */
#ifndef PST_CONTROL_REST_H
#define PST_CONTROL_REST_H

#include "base/limit.h"
#include "control/catalog.h"

#define PST_REST_BODY_MAX 65536u
#define PST_REST_TCP_MAX 8u /* addresses */

struct pst_rest;

/* 0: the default. */
struct pst_rest_limits {
	uint32_t api_connections_max;             /* of each listener; further ones wait */
	uint32_t api_connections_per_address_max; /* of those, over TCP; further ones are closed */
	uint32_t api_request_timeout_ms; /* for a whole request, with the handshake; and again for its answer */
	uint32_t api_failures_max;     /* requests without a valid token in a minute from an address; more are slowed */
	uint32_t api_failure_delay_ms; /* by how much */
};

/* The table of their names, defaults and ranges. */
const struct pst_limit *pst_rest_limits(size_t *ret_count);

struct pst_rest_config {
	struct pst_env *env; /* the home shard */
	struct pst_catalog *catalog;
	const char *socket_path;    /* copied */
	const struct pst_addr *tcp; /* @tcp_count addresses for HTTPS; port 0 takes any that is free */
	unsigned tcp_count;
	const char *cert_path, *key_path; /* PEM; the caller's as long as it runs; with tcp_count > 0 */
	struct pst_rest_limits limits;
	const char *version; /* static strings, as is io: for penstock_build_info */
	const char *io;
};

/*
 * The socket gets mode 0600; who comes by it may do everything, or what the token that he shows may. PATH.lock is held
 * for as long as the server runs: the socket of a dead daemon is replaced, that of a living one is PST_E_ADDRINUSE. On
 * error @detail (of @detail_bytes) says what and what to do. On the home shard's thread.
 */
pst_err PST_MUST_USE pst_rest_start(const struct pst_rest_config *config, struct pst_rest **ret_rest, char *detail,
				    size_t detail_bytes);

/* Where it listens for HTTPS: as many as were configured. */
const struct pst_addr *pst_rest_tcp_bound(const struct pst_rest *rest, unsigned index);

/* Reads certificate and key again, later and on another thread; what is wrong is logged, and the old ones stay. */
void pst_rest_reload(struct pst_rest *rest);

/* From now on requests are answered with 503. True as long as earlier ones are in work: keep the home shard turning. */
bool pst_rest_quiesce(struct pst_rest *rest);

/* After pst_rest_quiesce returned false. Removes the socket. */
void pst_rest_stop(struct pst_rest *rest);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The REST API: HTTP on a unix socket, on a thread of its own. Every request that concerns the catalog is posted to the
 * home shard and answered when that is done; meanwhile its connection is suspended, and others go on. docs/api.md and
 * openapi.json describe what it speaks.
 */
#ifndef PST_CONTROL_REST_H
#define PST_CONTROL_REST_H

#include "control/catalog.h"

#define PST_REST_BODY_MAX 65536u
#define PST_REST_CONNECTIONS_MAX 64u

struct pst_rest;

struct pst_rest_config {
	struct pst_env *env; /* the home shard */
	struct pst_catalog *catalog;
	const char *socket_path; /* copied */
	const char *version;     /* static strings, as is io: for penstock_build_info */
	const char *io;
};

/*
 * The socket gets mode 0600. PATH.lock is held for as long as the server runs: the socket of a dead daemon is replaced,
 * that of a living one is PST_E_ADDRINUSE. On error @detail (of @detail_bytes) says what and what to do.
 */
pst_err PST_MUST_USE pst_rest_start(const struct pst_rest_config *config, struct pst_rest **ret_rest, char *detail,
				    size_t detail_bytes);

/* From now on requests are answered with 503. True as long as earlier ones are in work: keep the home shard turning. */
bool pst_rest_quiesce(struct pst_rest *rest);

/* After pst_rest_quiesce returned false. Removes the socket. */
void pst_rest_stop(struct pst_rest *rest);

#endif

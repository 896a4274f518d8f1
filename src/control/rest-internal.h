/* SPDX-License-Identifier: Apache-2.0 */
/* The REST server's own structures: rest.c starts and stops it, rest-request.c does what is asked. */
#ifndef PST_CONTROL_REST_INTERNAL_H
#define PST_CONTROL_REST_INTERNAL_H

#include "control/rest-guard.h"
#include "control/rest-socket.h"
#include "control/rest-watch.h"
#include "control/rest.h"
#include "control/stats.h"

#include <microhttpd.h>
#include <pthread.h>
#include <stdatomic.h>

/* The unix socket, or one address: whether a caller needs a token hangs on this alone. */
struct pst_rest_listener {
	struct pst_rest *rest;
	bool tcp;
	struct MHD_Daemon *http;
	struct pst_addr bound; /* of TCP */
};

struct pst_rest {
	struct pst_env *env;
	struct pst_catalog *catalog;
	const char *version, *io, *cert_path, *key_path;
	struct pst_rest_limits limits;
	struct pst_rest_socket socket;
	struct pst_rest_listener local, tcp[PST_REST_TCP_MAX];
	unsigned tcp_count;
	struct pst_rest_watch *watch;
	pthread_mutex_t guard_lock;
	struct pst_rest_guard guard;
	atomic_bool quiet;
	atomic_uint posted; /* requests that the home shard has */
};

/* What a listener calls for each piece of a request, and at its end; @ctx: the listener. */
enum MHD_Result pst_rest_handle(void *ctx, struct MHD_Connection *connection, const char *url, const char *method,
				const char *version, const char *data, size_t *data_bytes, void **con);
void pst_rest_completed(void *ctx, struct MHD_Connection *connection, void **con, enum MHD_RequestTerminationCode code);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The NVMe/TCP host without threads: sessions on one shard. libpenstock (public.c) is a thin shell around it that adds
 * the thread; the simulator uses it directly. Everything here is called on the shard of @env; callbacks come from its
 * loop, never from inside a call.
 *
 * A session is one association with one controller: an admin queue, I/O queues, and the requests of the caller, which
 * survive the loss of the association (docs/host.md).
 */
#ifndef PST_HOST_HOST_H
#define PST_HOST_HOST_H

#include "base/hist.h"
#include "env/env.h"
#include "penstock/penstock.h"
#include "proto/auth-key.h"

struct pst_session;

/*
 * What a host proves itself with; and what its targets must, if there is one. With a TLS key (a configured PSK) every
 * connection is over TLS.
 */
struct pst_session_keys {
	struct pst_auth_key host, ctrl, tls;
	bool has_host, has_ctrl, has_tls;
};

#define PST_SESSION_PATHS_MAX 8u

struct pst_session_config {
	struct pst_addr addr;
	struct pst_addr more[PST_SESSION_PATHS_MAX - 1]; /* other paths to the same subsystem */
	uint32_t more_count;
	char subnqn[224];
	char hostnqn[224];
	uint8_t hostid[16];
	const struct pst_session_keys *keys; /* the caller's, for as long as the session; NULL: none */
	bool discovery; /* reads the discovery log instead of a namespace; see pst_session_entries */
	uint32_t nsid, io_queues, queue_entries;
	bool header_digest, data_digest;
	uint64_t keep_alive_ns, connect_timeout_ns, reconnect_delay_ns, loss_timeout_ns; /* loss 0: for ever */
};

struct pst_session_open_op {
	void (*done)(struct pst_session_open_op *op);
	pst_err err;
	struct pst_session *session; /* on success; NULL else */
};

struct pst_session_close_op {
	void (*done)(struct pst_session_close_op *op);
};

/*
 * Connect; one attempt at each path. Errors: PST_E_REFUSED, PST_E_TIMEOUT, PST_E_NOTFOUND (subsystem or namespace),
 * PST_E_DENIED, PST_E_PROTO (also: the target does not speak TLS), PST_E_NOMEM, PST_E_CLOSED (also: the target wants
 * TLS).
 */
void pst_session_open(struct pst_env *env, const struct pst_session_config *config, struct pst_session_open_op *op);

/* Orderly shutdown; outstanding requests complete with PST_E_CANCELLED, then op->done; the session is gone. */
void pst_session_close(struct pst_session *session, struct pst_session_close_op *op);

/* The path in use, or the one that is tried: 0 is addr, others are more[]. */
uint32_t pst_session_path(const struct pst_session *session);

/* See pst_ns_submit. */
void pst_session_submit(struct pst_session *session, struct pst_request *request);

void pst_session_info(const struct pst_session *session, struct pst_ns_info *ret_info);
void pst_session_stats(const struct pst_session *session, struct pst_ns_stats *ret_stats);

/* Valid while the session is open. */
struct pst_hist *pst_session_latency(struct pst_session *session, enum pst_request_kind kind);

/* Of a discovery session. */
const struct pst_discovery_entry *pst_session_entries(const struct pst_session *session, size_t *ret_count);

/* "nqn.2014-08.org.nvmexpress:uuid:..." of @uuid. */
void pst_host_nqn_format(const uint8_t uuid[16], char ret_nqn[224]);

/* The uuid at the end of @nqn; false if it is no uuid NQN. */
bool pst_host_nqn_uuid(const char *nqn, uint8_t ret_uuid[16]);

#endif

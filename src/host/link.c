/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A link carries bytes between a stream and a connection engine. Completions store what came and call session_run;
 * that drains the events of every link, decides, and then moves bytes (link_move) for all of them, so that what many
 * events caused leaves in one send.
 *
 * With a TLS key there is an engine for TLS between the two (proto/tls.h), which moves bytes where they are drained. A
 * link that is closed sends TLS's closing alert first (RFC 8446, 6.1), if nothing else is being sent: where the target
 * takes nothing any more, nobody is to wait for that.
 *
 * CLOSING lasts until the environment has given back every operation: only then the engine may return the commands in
 * flight, since their buffers may have been in use by the kernel.
 */
#include "host/impl.h"

#include <openssl/crypto.h>

static void link_on_connect(struct pst_connect_op *op)
{
	struct pst_link *link = pst_container_of(op, struct pst_link, connect);

	if (op->err != PST_OK) {
		link->state = LINK_DOWN;
		pst_conn_fail(link->conn);
		session_lose(link->session, op->err);
	} else {
		link->stream = op->stream;
		link->state = LINK_UP;
		if (link->doomed)
			link_close(link);
	}
	session_run(link->session);
}

/* The stream has come to its end, or broken. */
static void link_ended(struct pst_link *link, pst_err err)
{
	struct pst_session *s = link->session;

	if (err == PST_OK && !s->lost && link->tls != NULL && pst_tls_state(link->tls) == PST_TLS_OPEN)
		pst_env_log(s->env, PST_LOG_WARN,
			    "host_tls_cut_off subnqn=%s qid=%u reason=\"closed without TLS's closing alert\"",
			    s->config.subnqn, link->qid);
	session_lose(s, err == PST_OK ? PST_E_CLOSED : err);
}

static void link_on_recv(struct pst_stream_op *op)
{
	struct pst_link *link = pst_container_of(op, struct pst_link, recv);

	link->receiving = false;
	if (op->err == PST_OK && op->done_bytes > 0 && link->tls != NULL)
		pst_tls_got(link->tls, op->done_bytes);
	else if (op->err == PST_OK && op->done_bytes > 0)
		pst_conn_got(link->conn, op->done_bytes);
	else
		link_ended(link, op->err);
	session_run(link->session);
}

static void link_shut(struct pst_link *link);

static void link_on_send(struct pst_stream_op *op)
{
	struct pst_link *link = pst_container_of(op, struct pst_link, send);

	link->sending = false;
	if (op->err == PST_OK && link->tls != NULL)
		pst_tls_sent(link->tls, link->conn, op->done_bytes);
	else if (op->err == PST_OK)
		pst_conn_sent(link->conn, op->done_bytes);
	else
		session_lose(link->session, op->err);
	if (link->parting)
		link_shut(link);
	session_run(link->session);
}

/* Every operation is back. */
static void link_on_close(struct pst_close_op *op)
{
	struct pst_link *link = pst_container_of(op, struct pst_link, close);

	link->stream = NULL;
	link->state = LINK_DOWN;
	pst_conn_fail(link->conn);
	session_run(link->session);
}

/* The identity is of this host and this subsystem, so each link makes its own, and the key it is used with. */
static pst_err link_secure(struct pst_link *link)
{
	struct pst_session *s = link->session;
	const struct pst_tls_config config = {
		.context = s->tls,
		.buffer_bytes = TLS_BUFFER_BYTES,
		.handshake_bytes_max = TLS_HANDSHAKE_BYTES_MAX,
		.rekey_records = TLS_REKEY_RECORDS,
	};
	struct pst_tls_identity identity;
	struct pst_tls_psk psk;
	pst_err err;

	if (s->tls == NULL)
		return PST_OK;
	err = pst_tls_psk_make(&s->config.keys->tls, s->config.hostnqn, s->config.subnqn, &identity, &psk);
	if (err == PST_OK)
		err = pst_tls_new(&config, &identity, &psk, &link->tls);
	OPENSSL_cleanse(&psk, sizeof(psk));
	return err;
}

/* @link must be DOWN and its engine gone. */
void link_open(struct pst_link *link, uint32_t depth, uint32_t incapsule_bytes)
{
	struct pst_session *s = link->session;
	struct pst_conn_config config = {
		.role = PST_CONN_HOST,
		.commands_max = depth,
		.incapsule_bytes = incapsule_bytes,
		.header_digest = s->config.header_digest,
		.data_digest = s->config.data_digest,
	};
	pst_err err;

	pst_assert(link->state == LINK_DOWN && link->conn == NULL);
	link->doomed = link->connected = link->sending = link->receiving = link->parting = false;
	link->send.err = PST_OK;
	link->depth = depth;
	err = pst_conn_new(&config, &link->conn);
	if (err == PST_OK)
		err = link_secure(link);
	if (err != PST_OK) {
		pst_conn_free(link->conn);
		link->conn = NULL;
		session_lose(s, err);
		return;
	}
	pst_conn_set_output_max(link->conn, LINK_SEND_BYTES);
	link->state = LINK_CONNECTING;
	link->connect.addr = *path_addr(s);
	link->connect.done = link_on_connect;
	link->send.done = link_on_send;
	link->send.iov = link->send_iov;
	link->recv.done = link_on_recv;
	link->recv.iov = link->recv_iov;
	pst_connect(s->env, &link->connect);
}

static void link_shut(struct pst_link *link)
{
	if (link->parting)
		pst_timer_disarm(link->session->env, &link->parting_end);
	link->parting = false;
	link->close.done = link_on_close;
	pst_stream_close(link->stream, &link->close);
}

static void link_parting_late(struct pst_timer *timer)
{
	link_shut(pst_container_of(timer, struct pst_link, parting_end));
}

/* False: there is nothing to be said, or no way to say it. */
static bool link_part(struct pst_link *link)
{
	struct pst_env *env = link->session->env;

	if (link->tls == NULL || link->sending || link->send.err != PST_OK || !pst_tls_goodbye(link->tls))
		return false;
	link->send.iov_count = pst_tls_output(link->tls, link->conn, link->send_iov, LINK_IOV_SEND);
	if (link->send.iov_count == 0)
		return false;
	link->sending = link->parting = true;
	pst_timer_init(&link->parting_end, link_parting_late);
	pst_timer_arm(env, &link->parting_end, pst_env_now_ns(env) + PARTING_NS_MAX);
	pst_stream_send(link->stream, &link->send);
	return true;
}

/* A connect under way can't be called back: the link is closed when it is done. */
void link_close(struct pst_link *link)
{
	struct pst_stream_stats stats;
	struct pst_ns_stats *sum = &link->session->stats;

	link->doomed = true;
	link->connected = false;
	if (link->state != LINK_UP)
		return;
	pst_stream_stats(link->stream, &stats);
	sum->socket_bytes_received += stats.bytes_received;
	sum->socket_bytes_sent += stats.bytes_sent;
	sum->retransmits += stats.retransmits;
	link->state = LINK_CLOSING;
	if (!link_part(link))
		link_shut(link);
}

bool link_ready(const struct pst_link *link)
{
	return link->state == LINK_UP && pst_conn_state(link->conn) == PST_CONN_STATE_READY;
}

static void link_drain(struct pst_link *link)
{
	struct pst_session *s = link->session;
	struct pst_conn_event ev;

	while (pst_conn_next_event(link->conn, &ev)) {
		switch (ev.kind) {
		case PST_CONN_RESPONSE:
			if (link->qid > 0 && ev.cmd->owner != NULL)
				requests_response(s, &ev);
			else
				steps_response(s, link, &ev);
			break;
		case PST_CONN_FAILED:
		case PST_CONN_TERMINATED:
			pst_env_log(s->env, PST_LOG_WARN, "host_terminated subnqn=%s by=%s fes=%u fei=%u reason=\"%s\"",
				    s->config.subnqn, ev.kind == PST_CONN_FAILED ? "host" : "target", ev.error.fes,
				    (unsigned)ev.error.fei, pst_pdu_fes_text(ev.error.fes));
			session_lose(s, PST_E_PROTO);
			break;
		default:
			break;
		}
	}
}

/* What has come through TLS, if that is between. False: nothing more now. */
static bool link_feed(struct pst_link *link)
{
	struct pst_session *s = link->session;
	const char *reason;
	bool more;
	pst_err err;

	if (link->tls == NULL || link->state != LINK_UP)
		return false;
	more = pst_tls_feed(link->tls, link->conn);
	err = pst_tls_error(link->tls, &reason);
	if (err == PST_OK)
		return more;
	if (!s->lost && err != PST_E_CLOSED)
		pst_env_log(s->env, PST_LOG_WARN, "host_tls_failed subnqn=%s qid=%u reason=\"%s\"", s->config.subnqn,
			    link->qid, reason);
	session_lose(s, err);
	return false;
}

void link_events(struct pst_link *link)
{
	if (link->conn == NULL)
		return;
	do {
		link_drain(link);
	} while (link_feed(link));
	if (link->state == LINK_DOWN && pst_conn_state(link->conn) == PST_CONN_STATE_DEAD) {
		pst_conn_free(link->conn);
		link->conn = NULL;
		pst_tls_free(link->tls);
		link->tls = NULL;
		auth_end(link);
	}
}

/* Send what is queued, receive what may come. */
void link_move(struct pst_link *link)
{
	if (link->state != LINK_UP)
		return;
	if (!link->sending) {
		link->send.iov_count = link->tls != NULL
					   ? pst_tls_output(link->tls, link->conn, link->send_iov, LINK_IOV_SEND)
					   : pst_conn_output(link->conn, link->send_iov, LINK_IOV_SEND);
		if (link->send.iov_count > 0) {
			link->sending = true;
			pst_stream_send(link->stream, &link->send);
		}
	}
	if (!link->receiving) {
		link->recv.iov_count = link->tls != NULL ? pst_tls_want(link->tls, link->recv_iov, LINK_IOV_RECV)
							 : pst_conn_want(link->conn, link->recv_iov, LINK_IOV_RECV);
		if (link->recv.iov_count > 0) {
			link->receiving = true;
			pst_stream_recv(link->stream, &link->recv);
		}
	}
}

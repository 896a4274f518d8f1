/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A link carries bytes between a stream and a connection engine. Completions store what came and call session_run;
 * that drains the events of every link, decides, and then moves bytes (link_move) for all of them, so that what many
 * events caused leaves in one send.
 *
 * CLOSING lasts until the environment has given back every operation: only then the engine may return the commands in
 * flight, since their buffers may have been in use by the kernel.
 */
#include "host/impl.h"

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

static void link_on_recv(struct pst_stream_op *op)
{
	struct pst_link *link = pst_container_of(op, struct pst_link, recv);

	link->receiving = false;
	if (op->err == PST_OK && op->done_bytes > 0)
		pst_conn_got(link->conn, op->done_bytes);
	else
		session_lose(link->session, op->err == PST_OK ? PST_E_CLOSED : op->err);
	session_run(link->session);
}

static void link_on_send(struct pst_stream_op *op)
{
	struct pst_link *link = pst_container_of(op, struct pst_link, send);

	link->sending = false;
	if (op->err == PST_OK)
		pst_conn_sent(link->conn, op->done_bytes);
	else
		session_lose(link->session, op->err);
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
	link->doomed = link->connected = link->sending = link->receiving = false;
	link->depth = depth;
	err = pst_conn_new(&config, &link->conn);
	if (err != PST_OK) {
		session_lose(s, err);
		return;
	}
	link->state = LINK_CONNECTING;
	link->connect.addr = *path_addr(s);
	link->connect.done = link_on_connect;
	link->send.done = link_on_send;
	link->send.iov = link->send_iov;
	link->recv.done = link_on_recv;
	link->recv.iov = link->recv_iov;
	pst_connect(s->env, &link->connect);
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
	link->close.done = link_on_close;
	pst_stream_close(link->stream, &link->close);
}

bool link_ready(const struct pst_link *link)
{
	return link->state == LINK_UP && pst_conn_state(link->conn) == PST_CONN_STATE_READY;
}

void link_events(struct pst_link *link)
{
	struct pst_session *s = link->session;
	struct pst_conn_event ev;

	if (link->conn == NULL)
		return;
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
	if (link->state == LINK_DOWN && pst_conn_state(link->conn) == PST_CONN_STATE_DEAD) {
		pst_conn_free(link->conn);
		link->conn = NULL;
		auth_end(link);
	}
}

/* Send what is queued, receive what may come. */
void link_move(struct pst_link *link)
{
	if (link->state != LINK_UP)
		return;
	if (!link->sending) {
		link->send.iov_count = pst_conn_output(link->conn, link->send_iov, LINK_IOV_SEND);
		if (link->send.iov_count > 0) {
			link->sending = true;
			pst_stream_send(link->stream, &link->send);
		}
	}
	if (!link->receiving) {
		link->recv.iov_count = pst_conn_want(link->conn, link->recv_iov, LINK_IOV_RECV);
		if (link->recv.iov_count > 0) {
			link->receiving = true;
			pst_stream_recv(link->stream, &link->recv);
		}
	}
}

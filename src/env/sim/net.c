/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Connections between simulated machines. A connection has two ends and a pipe in each direction: a queue of segments
 * (bytes, an end, or a reset) that arrive one after the other after a delay. What has arrived waits in `ready` bytes
 * until the receiver takes it; the window bounds both together, so a sender without a reader stops.
 *
 * An end lives until its owner closes it or dies. A close sends the end of the stream after the data, or a reset if
 * there was something unread, as Linux does; a killed process's kernel does the same for it. A machine without power
 * says nothing: what is sent to it is tried again until it is back, which then answers with a reset. Segments are never
 * reordered or damaged inside a connection: TCP sees to that (checksums that TCP misses are what digests are for).
 */
#include "base/crc32c.h"
#include "env/sim/internal.h"

#include <stdlib.h>
#include <string.h>

#define RETRY_NS 200000000u
#define SYN_RETRY_NS 1000000000u
#define CONNECT_TIMEOUT_NS 10000000000u

enum sim_segment_kind { SIM_DATA, SIM_FIN, SIM_RST };

struct sim_segment {
	struct pst_list node;
	enum sim_segment_kind kind;
	uint64_t arrive_ns;
	size_t len, taken;
	uint8_t data[];
};

struct sim_pipe {
	struct sim_conn *conn;
	int to;                /* index of the receiving end */
	struct pst_list wire;  /* not arrived; their head's arrival is `event` */
	struct pst_list ready; /* arrived, not yet received; DATA only */
	size_t held_bytes, ready_bytes;
	uint64_t last_arrive_ns;
	struct pst_timer event;
};

struct sim_conn {
	struct pst_list all_node;
	struct pst_sim *sim;
	struct pst_stream *ends[2]; /* NULL: closed or dead */
	struct pst_sim_node *nodes[2];
	struct sim_pipe pipes[2]; /* pipes[i] leads to ends[i] */
};

struct pst_stream {
	struct pst_list all_node, live_node;
	struct pst_env *env;
	struct sim_conn *conn;
	int side;
	struct pst_stream_op *recv, *send;
	uint32_t send_index;
	size_t send_skip;
	struct pst_close_op *close;
	struct pst_timer recv_event, send_event, close_event;
	bool ended;  /* FIN arrived */
	bool broken; /* RST arrived */
	struct pst_addr local, peer;
	struct pst_stream_stats stats;
};

struct pst_listener {
	struct pst_list all_node, live_node;
	struct pst_env *env;
	struct pst_addr addr;
	pst_accept_fn *on_accept;
	void *ctx;
};

/* One connect under way; freed at its end. */
struct sim_connect {
	struct pst_list node;
	struct pst_timer event;
	struct pst_env *env;
	struct pst_connect_op *op;
	uint64_t give_up_ns;
	bool decided;
	pst_err err;
	struct pst_stream *stream;
};

static uint64_t net_latency(struct pst_sim_node *from)
{
	const struct pst_sim_faults *f = &from->faults;
	uint64_t ns = f->net_ns_max ? sim_between(from->sim, f->net_ns_min, f->net_ns_max)
				    : sim_between(from->sim, 10000, 100000);

	if (pst_sim_chance(from->sim, f->net_stall_ppm)) {
		from->sim->stats.stalls++;
		ns += pst_sim_rand_below(from->sim, f->net_stall_ns_max + 1);
	}
	return ns;
}

static bool net_loopback(const char *host)
{
	return strcmp(host, "127.0.0.1") == 0 || strcmp(host, "::1") == 0 || strcmp(host, "localhost") == 0;
}

static bool net_wildcard(const char *host)
{
	return strcmp(host, "0.0.0.0") == 0 || strcmp(host, "::") == 0;
}

static struct pst_sim_node *net_node(struct pst_sim_node *from, const char *host)
{
	struct pst_sim *sim = from->sim;

	if (net_loopback(host))
		return from;
	for (uint32_t i = 0; i < sim->node_count; i++)
		if (strcmp(sim->nodes[i]->ip, host) == 0)
			return sim->nodes[i];
	return NULL;
}

static bool net_cut(const struct pst_sim_node *a, const struct pst_sim_node *b)
{
	return !a->on || !b->on || a->sim->cut[a->index][b->index];
}

/* ---- Receiving ---- */

static void stream_take(struct pst_stream *stream, struct pst_stream_op *op, size_t limit)
{
	struct sim_pipe *pipe = &stream->conn->pipes[stream->side];
	uint32_t crc = 0;

	for (uint32_t i = 0; i < op->iov_count && op->done_bytes < limit; i++) {
		size_t filled = 0;

		while (filled < op->iov[i].iov_len && op->done_bytes < limit) {
			struct sim_segment *seg = pst_container_of(pipe->ready.next, struct sim_segment, node);
			size_t n = PST_MIN(PST_MIN(seg->len - seg->taken, op->iov[i].iov_len - filled),
					   limit - op->done_bytes);

			memcpy((uint8_t *)op->iov[i].iov_base + filled, seg->data + seg->taken, n);
			crc = pst_crc32c_more(crc, seg->data + seg->taken, n);
			seg->taken += n;
			filled += n;
			op->done_bytes += n;
			if (seg->taken == seg->len) {
				pst_list_remove(&seg->node);
				free(seg);
			}
		}
	}
	pipe->ready_bytes -= op->done_bytes;
	pipe->held_bytes -= op->done_bytes;
	stream->stats.bytes_received += op->done_bytes;
	sim_trace(stream->env->sim, stream->env, "recv", op->done_bytes, crc, 0);
}

static void stream_wake_sender(struct sim_conn *conn, int side)
{
	struct pst_stream *sender = conn->ends[side];

	if (sender && sender->send && !pst_timer_armed(&sender->send_event))
		sim_arm(conn->sim, &sender->send_event, net_latency(conn->nodes[!side]));
}

static void stream_recv_try(struct pst_stream *stream)
{
	struct sim_pipe *pipe = &stream->conn->pipes[stream->side];
	struct pst_sim *sim = stream->env->sim;
	struct pst_stream_op *op = stream->recv;
	size_t room = 0;

	if (!op)
		return;
	for (uint32_t i = 0; i < op->iov_count; i++)
		room += op->iov[i].iov_len;
	if (pipe->ready_bytes && room) {
		size_t n = PST_MIN(room, pipe->ready_bytes);

		if (pst_sim_chance(sim, stream->env->node->faults.net_split_ppm)) {
			sim->stats.splits++;
			n = 1 + pst_sim_rand_below(sim, n);
		}
		stream_take(stream, op, n);
		stream_wake_sender(stream->conn, !stream->side);
		op->err = PST_OK;
	} else if (stream->broken) {
		op->err = PST_E_CLOSED;
	} else if (stream->ended || !room) {
		op->err = PST_OK;
	} else {
		return;
	}
	stream->recv = NULL;
	sim_enter(stream->env);
	op->done(op);
	sim_leave(stream->env);
}

static void stream_on_recv(struct pst_timer *event)
{
	stream_recv_try(pst_container_of(event, struct pst_stream, recv_event));
}

/* ---- Pipes ---- */

static void pipe_arm(struct sim_pipe *pipe)
{
	struct pst_sim *sim = pipe->conn->sim;
	struct sim_segment *seg;

	if (pst_list_empty(&pipe->wire) || pst_timer_armed(&pipe->event))
		return;
	seg = pst_container_of(pipe->wire.next, struct sim_segment, node);
	pst_timers_arm(&sim->events, &pipe->event, PST_MAX(seg->arrive_ns, sim->now_ns));
}

static struct sim_segment *pipe_push(struct sim_pipe *pipe, enum sim_segment_kind kind, size_t len)
{
	struct sim_segment *seg = sim_alloc(sizeof(*seg) + len);
	struct pst_sim_node *from = pipe->conn->nodes[!pipe->to];

	seg->kind = kind;
	seg->len = len;
	seg->arrive_ns = PST_MAX(pipe->last_arrive_ns, pipe->conn->sim->now_ns + net_latency(from));
	pipe->last_arrive_ns = seg->arrive_ns;
	pipe->held_bytes += len;
	pst_list_push_back(&pipe->wire, &seg->node);
	pipe_arm(pipe);
	return seg;
}

static void pipe_drop(struct pst_list *segments)
{
	PST_LIST_EACH(at, segments) {
		pst_list_remove(at);
		free(pst_container_of(at, struct sim_segment, node));
	}
}

/* This end hears no more data: the sender may go on into the void, or is told. */
static void pipe_reset_receiver(struct sim_pipe *pipe)
{
	pipe_drop(&pipe->wire);
	pst_timers_disarm(&pipe->conn->sim->events, &pipe->event);
	pipe->held_bytes = pipe->ready_bytes;
	pipe_push(pipe, SIM_RST, 0);
}

static void stream_break(struct pst_stream *stream)
{
	struct pst_sim *sim = stream->env->sim;

	if (stream->broken)
		return;
	stream->broken = true;
	/* What had arrived may still be read, or not: stacks differ. */
	if (pst_sim_rand_below(sim, 2)) {
		struct sim_pipe *pipe = &stream->conn->pipes[stream->side];

		pipe_drop(&pipe->ready);
		pipe->held_bytes -= pipe->ready_bytes;
		pipe->ready_bytes = 0;
	}
	if (stream->send && !pst_timer_armed(&stream->send_event))
		sim_arm(sim, &stream->send_event, sim_between(sim, 100, 2000));
	stream_recv_try(stream);
}

static void pipe_deliver(struct sim_pipe *pipe, struct sim_segment *seg)
{
	struct sim_conn *conn = pipe->conn;
	struct pst_stream *end = conn->ends[pipe->to];
	enum sim_segment_kind kind = seg->kind;

	if (kind == SIM_DATA && end && !end->broken) {
		pst_list_push_back(&pipe->ready, &seg->node);
		pipe->ready_bytes += seg->len;
	} else {
		pipe->held_bytes -= seg->len;
		free(seg);
	}
	if (!end) {
		if (kind == SIM_DATA && conn->ends[!pipe->to])
			pipe_reset_receiver(&conn->pipes[!pipe->to]);
		return;
	}
	if (kind == SIM_RST) {
		stream_break(end);
		return;
	}
	end->ended |= kind == SIM_FIN;
	stream_recv_try(end);
}

static void pipe_on_event(struct pst_timer *event)
{
	struct sim_pipe *pipe = pst_container_of(event, struct sim_pipe, event);
	struct sim_segment *seg = pst_container_of(pipe->wire.next, struct sim_segment, node);
	struct pst_sim *sim = pipe->conn->sim;
	struct pst_sim_node *from = pipe->conn->nodes[!pipe->to];

	if (net_cut(from, pipe->conn->nodes[pipe->to])) {
		/* TCP tries again, as long as there is somebody to try. */
		if (from->on) {
			sim_arm(sim, &pipe->event, RETRY_NS + pst_sim_rand_below(sim, RETRY_NS));
			return;
		}
		pipe_drop(&pipe->wire);
		return;
	}
	pst_list_remove(&seg->node);
	sim_trace(sim, NULL, "deliver", seg->kind, seg->len, pipe->to);
	if (seg->kind == SIM_DATA && pst_sim_chance(sim, from->faults.net_reset_ppm)) {
		sim->stats.resets++;
		pipe->held_bytes -= seg->len;
		free(seg);
		pipe_reset_receiver(pipe);
		pipe_reset_receiver(&pipe->conn->pipes[!pipe->to]);
		return;
	}
	pipe_deliver(pipe, seg);
	pipe_arm(pipe);
}

/* ---- Sending ---- */

static size_t stream_send_segment(struct pst_stream *stream, struct sim_pipe *pipe, size_t room)
{
	struct pst_stream_op *op = stream->send;
	const struct iovec *iov = &op->iov[stream->send_index];
	size_t n = PST_MIN(iov->iov_len - stream->send_skip, PST_MIN(room, 65536u));
	struct sim_segment *seg;

	if (n && pst_sim_chance(stream->env->sim, stream->env->node->faults.net_split_ppm)) {
		stream->env->sim->stats.splits++;
		n = 1 + pst_sim_rand_below(stream->env->sim, n);
	}
	if (n) {
		seg = pipe_push(pipe, SIM_DATA, n);
		memcpy(seg->data, (uint8_t *)iov->iov_base + stream->send_skip, n);
		sim_trace(stream->env->sim, stream->env, "send", n, pst_crc32c(seg->data, n), 0);
	}
	stream->send_skip += n;
	op->done_bytes += n;
	stream->stats.bytes_sent += n;
	if (stream->send_skip == iov->iov_len) {
		stream->send_index++;
		stream->send_skip = 0;
	}
	return n;
}

static void stream_on_send(struct pst_timer *event)
{
	struct pst_stream *stream = pst_container_of(event, struct pst_stream, send_event);
	struct sim_pipe *pipe = &stream->conn->pipes[!stream->side];
	uint32_t configured = stream->env->node->faults.net_window_bytes;
	size_t window = configured ? configured : 262144;
	struct pst_stream_op *op = stream->send;

	if (!op)
		return;
	while (!stream->broken && stream->send_index < op->iov_count) {
		if (pipe->held_bytes >= window)
			return; /* the receiver's progress wakes us */
		stream_send_segment(stream, pipe, window - pipe->held_bytes);
	}
	op->err = stream->broken ? PST_E_CLOSED : PST_OK;
	stream->send = NULL;
	sim_enter(stream->env);
	op->done(op);
	sim_leave(stream->env);
}

void pst_stream_recv(struct pst_stream *stream, struct pst_stream_op *op)
{
	struct pst_sim *sim = stream->env->sim;

	pst_assert(!stream->recv && !stream->close && op->iov_count >= 1 && op->iov_count <= 256);
	op->done_bytes = 0;
	stream->recv = op;
	sim_arm(sim, &stream->recv_event, sim_between(sim, 100, 2000));
}

void pst_stream_send(struct pst_stream *stream, struct pst_stream_op *op)
{
	struct pst_sim *sim = stream->env->sim;

	pst_assert(!stream->send && !stream->close && op->iov_count >= 1 && op->iov_count <= 256);
	op->done_bytes = 0;
	stream->send = op;
	stream->send_index = 0;
	stream->send_skip = 0;
	sim_arm(sim, &stream->send_event, sim_between(sim, 100, 2000));
}

/* ---- Closing ---- */

/* The stream is no end of its connection any more; the peer will hear of it unless the power is gone. */
static void stream_detach(struct pst_stream *stream, bool silent)
{
	struct sim_conn *conn = stream->conn;
	struct sim_pipe *in = &conn->pipes[stream->side], *out = &conn->pipes[!stream->side];
	struct pst_timers *events = &conn->sim->events;
	bool unread = in->ready_bytes > 0;

	pst_timers_disarm(events, &stream->recv_event);
	pst_timers_disarm(events, &stream->send_event);
	pst_timers_disarm(events, &stream->close_event);
	pst_list_remove(&stream->live_node);
	conn->ends[stream->side] = NULL;
	pipe_drop(&in->ready);
	in->held_bytes -= in->ready_bytes;
	in->ready_bytes = 0;
	if (silent) {
		pipe_drop(&out->wire);
		pst_timers_disarm(events, &out->event);
	} else if (!stream->broken) {
		if (unread)
			pipe_reset_receiver(out);
		else
			pipe_push(out, SIM_FIN, 0);
	}
	stream_wake_sender(conn, !stream->side);
}

static void stream_on_close(struct pst_timer *event)
{
	struct pst_stream *stream = pst_container_of(event, struct pst_stream, close_event);
	struct pst_stream_op *ops[2] = { stream->recv, stream->send };
	struct pst_close_op *close = stream->close;
	struct pst_env *env = stream->env;

	sim_trace(env->sim, env, "stream_close", ops[0] != NULL, ops[1] != NULL, 0);
	stream->recv = stream->send = NULL;
	stream_detach(stream, false);
	sim_enter(env);
	for (int i = 0; i < 2; i++) {
		if (!ops[i])
			continue;
		ops[i]->err = PST_E_CANCELLED;
		ops[i]->done(ops[i]);
	}
	close->done(close);
	sim_leave(env);
}

void pst_stream_close(struct pst_stream *stream, struct pst_close_op *op)
{
	struct pst_sim *sim = stream->env->sim;

	pst_assert(!stream->close);
	stream->close = op;
	/* Nothing of this stream happens any more but its end. */
	pst_timers_disarm(&sim->events, &stream->recv_event);
	pst_timers_disarm(&sim->events, &stream->send_event);
	sim_arm(sim, &stream->close_event, sim_between(sim, 100, 5000));
}

void pst_stream_stats(struct pst_stream *stream, struct pst_stream_stats *ret_stats)
{
	*ret_stats = stream->stats;
}

void pst_stream_addrs(struct pst_stream *stream, struct pst_addr *ret_local, struct pst_addr *ret_peer)
{
	*ret_local = stream->local;
	*ret_peer = stream->peer;
}

/* ---- Connecting ---- */

static struct pst_stream *stream_new(struct pst_env *env, struct sim_conn *conn, int side)
{
	struct pst_stream *stream = sim_alloc(sizeof(*stream));

	stream->env = env;
	stream->conn = conn;
	stream->side = side;
	pst_timer_init(&stream->recv_event, stream_on_recv);
	pst_timer_init(&stream->send_event, stream_on_send);
	pst_timer_init(&stream->close_event, stream_on_close);
	pst_list_push_back(&env->sim->streams, &stream->all_node);
	pst_list_push_back(&env->live_streams, &stream->live_node);
	conn->ends[side] = stream;
	conn->nodes[side] = env->node;
	return stream;
}

static struct sim_conn *conn_new(struct pst_env *client, struct pst_env *server)
{
	struct sim_conn *conn = sim_alloc(sizeof(*conn));

	conn->sim = client->sim;
	for (int i = 0; i < 2; i++) {
		conn->pipes[i].conn = conn;
		conn->pipes[i].to = i;
		pst_list_init(&conn->pipes[i].wire);
		pst_list_init(&conn->pipes[i].ready);
		pst_timer_init(&conn->pipes[i].event, pipe_on_event);
	}
	stream_new(client, conn, 0);
	stream_new(server, conn, 1);
	pst_list_push_back(&client->sim->conns, &conn->all_node);
	return conn;
}

/* One of the shards that listen there, at random. */
static struct pst_listener *net_listener(struct pst_sim_node *node, const struct pst_addr *addr)
{
	struct pst_listener *found = NULL;
	uint32_t count = 0;

	PST_LIST_EACH(e, &node->live_envs) {
		struct pst_env *env = pst_container_of(e, struct pst_env, live_node);

		PST_LIST_EACH(l, &env->live_listeners) {
			struct pst_listener *listener = pst_container_of(l, struct pst_listener, live_node);

			if (listener->addr.port != addr->port ||
			    (!net_wildcard(listener->addr.host) && strcmp(listener->addr.host, addr->host) != 0 &&
			     !(net_loopback(listener->addr.host) && strcmp(addr->host, "localhost") == 0)))
				continue;
			if (pst_sim_rand_below(node->sim, ++count) == 0)
				found = listener;
		}
	}
	return found;
}

static void connect_end(struct sim_connect *c)
{
	struct pst_connect_op *op = c->op;
	struct pst_env *env = c->env;

	pst_list_remove(&c->node);
	op->err = c->err;
	op->stream = c->stream;
	sim_trace(env->sim, env, "connect", c->err, 0, 0);
	free(c);
	sim_enter(env);
	op->done(op);
	sim_leave(env);
}

static void connect_accept(struct sim_connect *c, struct pst_listener *listener)
{
	struct sim_conn *conn = conn_new(c->env, listener->env);
	struct pst_stream *client = conn->ends[0], *server = conn->ends[1];

	client->peer = server->local = c->op->addr;
	snprintf(client->local.host, sizeof(client->local.host), "%s",
		 conn->nodes[0] == conn->nodes[1] ? c->op->addr.host : conn->nodes[0]->ip);
	client->local.port = conn->nodes[0]->next_port++;
	server->peer = client->local;
	c->stream = client;
	conn->sim->stats.connects++;
	sim_trace(conn->sim, listener->env, "accept", server->local.port, 0, 0);
	sim_enter(listener->env);
	listener->on_accept(listener->ctx, server);
	sim_leave(listener->env);
}

static void connect_on_event(struct pst_timer *event)
{
	struct sim_connect *c = pst_container_of(event, struct sim_connect, event);
	struct pst_sim *sim = c->env->sim;
	struct pst_sim_node *from = c->env->node, *to = net_node(from, c->op->addr.host);
	struct pst_listener *listener;

	if (c->decided) {
		connect_end(c);
		return;
	}
	if (!to || net_cut(from, to)) {
		if (sim->now_ns < c->give_up_ns) {
			sim_arm(sim, &c->event, SYN_RETRY_NS);
			return;
		}
		c->err = PST_E_TIMEOUT;
		connect_end(c);
		return;
	}
	c->decided = true;
	listener = net_listener(to, &c->op->addr);
	if (!listener || pst_sim_chance(sim, from->faults.net_refuse_ppm))
		c->err = PST_E_REFUSED;
	else
		connect_accept(c, listener);
	sim_arm(sim, &c->event, net_latency(to));
}

void pst_connect(struct pst_env *env, struct pst_connect_op *op)
{
	struct sim_connect *c = sim_alloc(sizeof(*c));
	struct pst_addr checked;
	char text[72];

	c->env = env;
	c->op = op;
	c->give_up_ns = env->sim->now_ns + CONNECT_TIMEOUT_NS;
	if (pst_addr_parse(pst_addr_format(&op->addr, text), 0, &checked) != PST_OK) {
		c->decided = true;
		c->err = PST_E_INVAL;
	}
	pst_timer_init(&c->event, connect_on_event);
	pst_list_push_back(&env->connecting, &c->node);
	sim_arm(env->sim, &c->event, net_latency(env->node));
}

/* ---- Listening ---- */

static bool listen_taken(struct pst_env *env, const struct pst_addr *addr)
{
	PST_LIST_EACH(at, &env->live_listeners) {
		struct pst_listener *listener = pst_container_of(at, struct pst_listener, live_node);

		if (listener->addr.port == addr->port &&
		    (net_wildcard(addr->host) || net_wildcard(listener->addr.host) ||
		     strcmp(addr->host, listener->addr.host) == 0))
			return true;
	}
	return false;
}

pst_err pst_listen(struct pst_env *env, const struct pst_addr *addr, pst_accept_fn *on_accept, void *ctx,
		   struct pst_listener **ret_listener)
{
	struct pst_listener *listener;
	struct pst_addr bound;
	char text[72];

	if (pst_addr_parse(pst_addr_format(addr, text), 0, &bound) != PST_OK ||
	    (!net_wildcard(bound.host) && net_node(env->node, bound.host) != env->node))
		return PST_E_INVAL;
	if (strcmp(bound.host, "localhost") == 0)
		snprintf(bound.host, sizeof(bound.host), "127.0.0.1");
	if (bound.port == 0)
		bound.port = env->node->next_port++;
	/* Other shards of the process may share the address. */
	if (listen_taken(env, &bound))
		return PST_E_ADDRINUSE;
	listener = sim_alloc(sizeof(*listener));
	listener->env = env;
	listener->addr = bound;
	listener->on_accept = on_accept;
	listener->ctx = ctx;
	pst_list_push_back(&env->sim->listeners, &listener->all_node);
	pst_list_push_back(&env->live_listeners, &listener->live_node);
	*ret_listener = listener;
	return PST_OK;
}

void pst_listener_addr(struct pst_listener *listener, struct pst_addr *ret_addr)
{
	*ret_addr = listener->addr;
}

void pst_listener_close(struct pst_listener *listener)
{
	pst_list_remove(&listener->live_node);
}

/* ---- Death ---- */

void sim_streams_kill(struct pst_env *env, bool power)
{
	PST_LIST_EACH(c, &env->connecting) {
		struct sim_connect *connect = pst_container_of(c, struct sim_connect, node);

		pst_timers_disarm(&env->sim->events, &connect->event);
		pst_list_remove(&connect->node);
		free(connect);
	}
	PST_LIST_EACH(s, &env->live_streams) {
		stream_detach(pst_container_of(s, struct pst_stream, live_node), power);
	}
	PST_LIST_EACH(l, &env->live_listeners) {
		pst_list_remove(l);
	}
}

void sim_net_free(struct pst_sim *sim)
{
	PST_LIST_EACH(e, &sim->envs) {
		struct pst_env *env = pst_container_of(e, struct pst_env, all_node);

		PST_LIST_EACH(c, &env->connecting) {
			free(pst_container_of(c, struct sim_connect, node));
		}
	}
	PST_LIST_EACH(c, &sim->conns) {
		struct sim_conn *conn = pst_container_of(c, struct sim_conn, all_node);

		for (int i = 0; i < 2; i++) {
			pipe_drop(&conn->pipes[i].wire);
			pipe_drop(&conn->pipes[i].ready);
		}
		free(conn);
	}
	PST_LIST_EACH(s, &sim->streams) {
		free(pst_container_of(s, struct pst_stream, all_node));
	}
	PST_LIST_EACH(l, &sim->listeners) {
		free(pst_container_of(l, struct pst_listener, all_node));
	}
}

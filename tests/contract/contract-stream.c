/* SPDX-License-Identifier: Apache-2.0 */
/* Streams: connecting, listening, split transfers, the end of a stream, closing in the middle of everything. */
#include "contract.h"

#define MIB (1024u * 1024u)

struct end {
	struct harness *h;
	struct pst_listener *listener;
	struct pst_addr addr;
	struct pst_stream *accepted[8];
	unsigned accepts;
	struct pst_connect_op connect;
	unsigned connects;
	bool inside, submitting;
};

struct stream_io {
	struct pst_stream_op op;
	struct iovec iov[16];
	struct pst_env *env;
	uint64_t turn_ns, now_ns; /* when it completed */
	unsigned completions;
	bool submitting, inside;
};

struct closing {
	struct pst_close_op op;
	unsigned closed;
	struct stream_io *ops[2];
	bool early; /* an operation completed after close had */
};

static void on_accept(void *ctx, struct pst_stream *stream)
{
	struct end *end = ctx;

	assert_true(end->accepts < 8);
	end->accepted[end->accepts++] = stream;
}

static void on_connect(struct pst_connect_op *op)
{
	struct end *end = pst_container_of(op, struct end, connect);

	end->inside |= end->submitting;
	end->connects++;
}

static void end_connect(struct end *end, const struct pst_addr *addr)
{
	end->connect = (struct pst_connect_op){ .addr = *addr, .done = on_connect };
	end->submitting = true;
	pst_connect(end->h->env, &end->connect);
	end->submitting = false;
}

/* A connected pair over @host: end->connect.stream and end->accepted[0]. */
static void end_open(struct harness *h, struct end *end, const char *host)
{
	struct pst_addr any = { 0 };

	memset(end, 0, sizeof(*end));
	end->h = h;
	snprintf(any.host, sizeof(any.host), "%s", host);
	assert_int_equal(pst_listen(h->env, &any, on_accept, end, &end->listener), PST_OK);
	pst_listener_addr(end->listener, &end->addr);
	assert_true(end->addr.port != 0);
	end_connect(end, &end->addr);
	HARNESS_RUN_UNTIL(h, end->connects == 1 && end->accepts == 1);
	assert_int_equal(end->connect.err, PST_OK);
	assert_non_null(end->connect.stream);
	assert_false(end->inside);
}

static void on_closed(struct pst_close_op *op)
{
	struct closing *c = pst_container_of(op, struct closing, op);

	for (unsigned i = 0; i < 2; i++)
		c->early |= c->ops[i] && c->ops[i]->completions == 0;
	c->closed++;
}

static void stream_close(struct harness *h, struct pst_stream *stream)
{
	struct closing c = { .op.done = on_closed };

	pst_stream_close(stream, &c.op);
	assert_int_equal(c.closed, 0);
	HARNESS_RUN_UNTIL(h, c.closed == 1);
}

static void end_close(struct end *end)
{
	if (end->connect.stream)
		stream_close(end->h, end->connect.stream);
	for (unsigned i = 0; i < end->accepts; i++)
		if (end->accepted[i])
			stream_close(end->h, end->accepted[i]);
	pst_listener_close(end->listener);
	HARNESS_SETTLE(end->h);
}

static void stream_io_done(struct pst_stream_op *op)
{
	struct stream_io *io = pst_container_of(op, struct stream_io, op);

	io->inside |= io->submitting;
	io->completions++;
	if (io->env) {
		io->turn_ns = pst_env_turn_ns(io->env);
		io->now_ns = pst_env_now_ns(io->env);
	}
}

static void recv_start(struct pst_stream *stream, struct stream_io *io, void *buf, size_t len)
{
	memset(io, 0, sizeof(*io));
	io->iov[0] = (struct iovec){ buf, len };
	io->op = (struct pst_stream_op){ .iov = io->iov, .iov_count = 1, .done = stream_io_done };
	io->submitting = true;
	pst_stream_recv(stream, &io->op);
	io->submitting = false;
}

static void send_start(struct pst_stream *stream, struct stream_io *io, void *buf, size_t len)
{
	memset(io, 0, sizeof(*io));
	io->iov[0] = (struct iovec){ buf, len };
	io->op = (struct pst_stream_op){ .iov = io->iov, .iov_count = 1, .done = stream_io_done };
	io->submitting = true;
	pst_stream_send(stream, &io->op);
	io->submitting = false;
}

/* Receive exactly @len bytes in as many pieces as come. */
static void recv_all(struct harness *h, struct pst_stream *stream, uint8_t *buf, size_t len)
{
	struct stream_io io;

	for (size_t got = 0; got < len; got += io.op.done_bytes) {
		recv_start(stream, &io, buf + got, len - got);
		HARNESS_RUN_UNTIL(h, io.completions == 1);
		assert_int_equal(io.op.err, PST_OK);
		assert_in_range(io.op.done_bytes, 1, len - got);
		assert_false(io.inside);
	}
}

static void transfer_over(struct harness *h, const char *host)
{
	const size_t len = 3 * MIB + 17;
	uint8_t *out = malloc(len), *in = calloc(1, len);
	struct end end;
	struct stream_io send = { 0 };
	struct pst_stream_stats stats;
	struct pst_addr local, peer;
	size_t at = 0;

	end_open(h, &end, host);
	for (size_t i = 0; i < len; i++)
		out[i] = (uint8_t)(i * 13 + i / 509);
	for (unsigned i = 0; i < 16; i++) {
		size_t part = i == 15 ? len - at : (i * 99991) % 190000; /* the first is empty */

		send.iov[i] = (struct iovec){ out + at, part };
		at += part;
	}
	send.op = (struct pst_stream_op){ .iov = send.iov, .iov_count = 16, .done = stream_io_done };
	send.submitting = true;
	pst_stream_send(end.connect.stream, &send.op);
	send.submitting = false;
	recv_all(h, end.accepted[0], in, len);
	HARNESS_RUN_UNTIL(h, send.completions == 1);
	assert_false(send.inside);
	assert_int_equal(send.op.err, PST_OK);
	assert_int_equal(send.op.done_bytes, len);
	assert_memory_equal(in, out, len);
	pst_stream_stats(end.accepted[0], &stats);
	assert_int_equal(stats.bytes_received, len);
	pst_stream_stats(end.connect.stream, &stats);
	assert_int_equal(stats.bytes_sent, len);
	pst_stream_addrs(end.connect.stream, &local, &peer);
	assert_int_equal(peer.port, end.addr.port);
	assert_string_equal(peer.host, host);
	pst_stream_addrs(end.accepted[0], &peer, &local);
	assert_int_equal(peer.port, end.addr.port);
	end_close(&end);
	free(out);
	free(in);
}

/* Megabytes arrive complete and in order, though both sides split them; addresses and counters are right. */
static void large_transfer_is_whole(void **state)
{
	transfer_over(*state, "127.0.0.1");
}

/* After a pause what comes in has the time of its own turn, not of the last one before. */
static void a_turn_knows_its_time(void **state)
{
	struct harness *h = *state;
	struct stream_io recv, send;
	struct end end;
	uint64_t sent_ns;
	char in, out = 'x';

	end_open(h, &end, "127.0.0.1");
	recv_start(end.accepted[0], &recv, &in, 1);
	recv.env = h->env;
	HARNESS_SETTLE(h);
	sent_ns = pst_env_now_ns(h->env);
	send_start(end.connect.stream, &send, &out, 1);
	HARNESS_RUN_UNTIL(h, recv.completions == 1 && send.completions == 1);
	assert_true(recv.turn_ns >= sent_ns);
	assert_true(recv.turn_ns <= recv.now_ns);
	end_close(&end);
}

/* The same over IPv6. */
static void ipv6_works_too(void **state)
{
	struct harness *h = *state;

	if (!harness_has_ipv6(h)) {
		fprintf(stderr, "# ipv6_works_too: SKIPPED: this machine has no IPv6 loopback\n");
		skip();
	}
	transfer_over(h, "::1");
}

/* After the peer's close its last bytes still arrive, then the end: success with 0 bytes. */
static void end_of_stream_is_zero_bytes(void **state)
{
	struct harness *h = *state;
	struct stream_io send, recv;
	uint8_t out[100], in[300];
	struct end end;

	end_open(h, &end, "127.0.0.1");
	memset(out, 7, sizeof(out));
	send_start(end.connect.stream, &send, out, sizeof(out));
	HARNESS_RUN_UNTIL(h, send.completions == 1);
	stream_close(h, end.connect.stream);
	end.connect.stream = NULL;
	recv_all(h, end.accepted[0], in, sizeof(out));
	assert_memory_equal(in, out, sizeof(out));
	recv_start(end.accepted[0], &recv, in, sizeof(in));
	HARNESS_RUN_UNTIL(h, recv.completions == 1);
	assert_int_equal(recv.op.err, PST_OK);
	assert_int_equal(recv.op.done_bytes, 0);
	end_close(&end);
}

/* Close ends a waiting receive and a blocked send as cancelled, once each, before it completes itself. */
static void close_cancels_outstanding(void **state)
{
	const size_t len = 64 * MIB; /* more than any socket buffers */
	struct harness *h = *state;
	struct stream_io send, recv;
	uint8_t *out = calloc(1, len), in[100];
	struct closing c = { .op.done = on_closed, .ops = { &send, &recv } };
	struct end end;

	end_open(h, &end, "127.0.0.1");
	recv_start(end.connect.stream, &recv, in, sizeof(in));
	send_start(end.connect.stream, &send, out, len);
	HARNESS_SETTLE(h);
	assert_int_equal(send.completions + recv.completions, 0);
	pst_stream_close(end.connect.stream, &c.op);
	assert_int_equal(send.completions + recv.completions + c.closed, 0);
	end.connect.stream = NULL;
	HARNESS_RUN_UNTIL(h, c.closed == 1);
	HARNESS_SETTLE(h);
	assert_false(c.early);
	assert_int_equal(send.completions, 1);
	assert_int_equal(recv.completions, 1);
	assert_int_equal(send.op.err, PST_E_CANCELLED);
	assert_int_equal(recv.op.err, PST_E_CANCELLED);
	end_close(&end);
	free(out);
}

/* A peer that is gone makes sends fail with a value, not with a signal, and receives end. */
static void send_to_gone_peer_fails(void **state)
{
	struct harness *h = *state;
	struct stream_io send;
	uint8_t out[4096] = { 0 };
	struct end end;
	unsigned sends = 0;

	end_open(h, &end, "127.0.0.1");
	stream_close(h, end.accepted[0]);
	end.accepted[0] = NULL;
	do {
		send_start(end.connect.stream, &send, out, sizeof(out));
		HARNESS_RUN_UNTIL(h, send.completions == 1);
		HARNESS_SETTLE(h);
	} while (send.op.err == PST_OK && ++sends < 100);
	assert_int_equal(send.op.err, PST_E_CLOSED);
	end_close(&end);
}

/* Both directions at once and a receive that waits while the own side sends. */
static void both_directions_at_once(void **state)
{
	struct harness *h = *state;
	struct stream_io a_send, b_send, a_recv;
	uint8_t a[1000], b[1000], in[1000];
	struct end end;

	end_open(h, &end, "127.0.0.1");
	memset(a, 'a', sizeof(a));
	memset(b, 'b', sizeof(b));
	recv_start(end.connect.stream, &a_recv, in, 1);
	send_start(end.connect.stream, &a_send, a, sizeof(a));
	send_start(end.accepted[0], &b_send, b, sizeof(b));
	HARNESS_RUN_UNTIL(h, a_recv.completions == 1 && a_send.completions == 1 && b_send.completions == 1);
	assert_int_equal(a_recv.op.done_bytes, 1);
	assert_int_equal(in[0], 'b');
	recv_all(h, end.connect.stream, in, sizeof(in) - 1);
	recv_all(h, end.accepted[0], in, sizeof(in));
	assert_memory_equal(in, a, sizeof(a));
	end_close(&end);
}

/* Nobody listens: refused, later, with no stream. */
static void connect_refused(void **state)
{
	struct harness *h = *state;
	struct end end = { .h = h };
	struct pst_addr addr = { .host = "127.0.0.1" };

	assert_int_equal(pst_listen(h->env, &addr, on_accept, &end, &end.listener), PST_OK);
	pst_listener_addr(end.listener, &addr);
	pst_listener_close(end.listener);
	HARNESS_SETTLE(h);
	end_connect(&end, &addr);
	assert_int_equal(end.connects, 0);
	HARNESS_RUN_UNTIL(h, end.connects == 1);
	assert_int_equal(end.connect.err, PST_E_REFUSED);
	assert_null(end.connect.stream);
	assert_false(end.inside);
}

/* An address that is none: told by listen at once, by connect through its completion. */
static void bad_address_is_invalid(void **state)
{
	struct harness *h = *state;
	struct end end = { .h = h };
	struct pst_addr addr = { .host = "no.such.host", .port = 1 };

	assert_int_equal(pst_listen(h->env, &addr, on_accept, &end, &end.listener), PST_E_INVAL);
	end_connect(&end, &addr);
	HARNESS_RUN_UNTIL(h, end.connects == 1);
	assert_int_equal(end.connect.err, PST_E_INVAL);
	assert_false(end.inside);
}

/* An address that this shard, or another program, listens on is refused; other shards of the program may share it. */
static void busy_port_is_told(void **state)
{
	struct harness *h = *state;
	struct pst_listener *second = NULL;
	struct pst_addr taken;
	struct end end;

	end_open(h, &end, "127.0.0.1");
	assert_int_equal(pst_listen(h->env, &end.addr, on_accept, &end, &second), PST_E_ADDRINUSE);
	if (harness_occupy_port(h, &taken)) {
		assert_int_equal(pst_listen(h->env, &taken, on_accept, &end, &second), PST_E_ADDRINUSE);
		harness_release_port(h);
	}
	assert_null(second);
	end_close(&end);
}

/* Two shards listen on one address; each connection is accepted by one of them, and either can go alone. */
static void shards_share_an_address(void **state)
{
	struct harness *h = *state;
	struct end first = { .h = h }, second = { .h = h }, client[6];
	struct pst_env *other = harness_second_shard(h);
	struct pst_addr addr = { .host = "127.0.0.1" };

	assert_int_equal(pst_listen(h->env, &addr, on_accept, &first, &first.listener), PST_OK);
	pst_listener_addr(first.listener, &addr);
	assert_int_equal(pst_listen(other, &addr, on_accept, &second, &second.listener), PST_OK);
	for (unsigned i = 0; i < 6; i++) {
		client[i] = (struct end){ .h = h };
		end_connect(&client[i], &addr);
	}
	HARNESS_RUN_UNTIL(h, first.accepts + second.accepts == 6);
	for (unsigned i = 0; i < 6; i++) {
		HARNESS_RUN_UNTIL(h, client[i].connects == 1);
		assert_int_equal(client[i].connect.err, PST_OK);
		stream_close(h, client[i].connect.stream);
	}
	end_close(&second);
	client[0] = (struct end){ .h = h };
	first.connect.stream = NULL;
	HARNESS_SETTLE(h);
	end_connect(&client[0], &addr);
	HARNESS_RUN_UNTIL(h, first.accepts + second.accepts == 7 && client[0].connects == 1);
	assert_int_equal(client[0].connect.err, PST_OK);
	stream_close(h, client[0].connect.stream);
	end_close(&first);
	harness_free_shard(h, other);
}

/* After the listener has closed its port is free again, and streams that it accepted live on. */
static void listener_close_frees_port(void **state)
{
	struct harness *h = *state;
	uint8_t byte = 'x', in;
	struct stream_io send;
	struct end end;

	end_open(h, &end, "127.0.0.1");
	pst_listener_close(end.listener);
	HARNESS_SETTLE(h);
	assert_int_equal(pst_listen(h->env, &end.addr, on_accept, &end, &end.listener), PST_OK);
	send_start(end.connect.stream, &send, &byte, 1);
	recv_all(h, end.accepted[0], &in, 1);
	assert_int_equal(in, 'x');
	HARNESS_RUN_UNTIL(h, send.completions == 1);
	end_close(&end);
}

/* Several connections to one listener are all accepted, once each. */
static void many_connections(void **state)
{
	struct harness *h = *state;
	struct end ends[6];

	end_open(h, &ends[0], "127.0.0.1");
	for (unsigned i = 1; i < 6; i++) {
		memset(&ends[i], 0, sizeof(ends[i]));
		ends[i].h = h;
		end_connect(&ends[i], &ends[0].addr);
	}
	HARNESS_RUN_UNTIL(h, ends[0].accepts == 6);
	for (unsigned i = 1; i < 6; i++) {
		HARNESS_RUN_UNTIL(h, ends[i].connects == 1);
		assert_int_equal(ends[i].connect.err, PST_OK);
		stream_close(h, ends[i].connect.stream);
	}
	end_close(&ends[0]);
}

int contract_stream_tests(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, harness_setup, harness_teardown)
	const struct CMUnitTest tests[] = {
		TEST(large_transfer_is_whole),     TEST(a_turn_knows_its_time),     TEST(ipv6_works_too),
		TEST(end_of_stream_is_zero_bytes), TEST(close_cancels_outstanding), TEST(send_to_gone_peer_fails),
		TEST(both_directions_at_once),     TEST(connect_refused),           TEST(bad_address_is_invalid),
		TEST(listener_close_frees_port),   TEST(many_connections),          TEST(busy_port_is_told),
		TEST(shards_share_an_address),
	};
#undef TEST

	return cmocka_run_group_tests_name("streams", tests, NULL, NULL);
}

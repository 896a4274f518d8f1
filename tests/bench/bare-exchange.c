/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The limit that loopback TCP sets: the bytes of NVMe/TCP reads and writes without any protocol. A request is 72 bytes
 * (a write: and its data), an answer 24 bytes (a read: and its data, from a region of --span bytes). Both ends do plain
 * recv and sendmsg, and handle everything that has arrived before they send again, in one call. The server is a process
 * of its own; it runs on core 0 and the client on --cpu.
 */
#include "measure.h"

#include "base/prng.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#define REQUEST_BYTES 72u
#define ANSWER_BYTES 24u
#define IOV_BATCH 512u

struct request {
	uint64_t offset, sent_ns;
	uint8_t rest[REQUEST_BYTES - 16];
};

_Static_assert(sizeof(struct request) == REQUEST_BYTES, "as long as a command capsule PDU");

struct answer {
	uint64_t sent_ns;
	uint8_t rest[ANSWER_BYTES - 8];
};

_Static_assert(sizeof(struct answer) == ANSWER_BYTES, "as long as a response or data header");

static _Noreturn void die(const char *what)
{
	perror(what);
	exit(1);
}

static void send_all(int fd, struct iovec *iov, size_t count)
{
	while (count > 0) {
		struct msghdr m = { .msg_iov = iov, .msg_iovlen = PST_MIN(count, (size_t)IOV_BATCH) };
		ssize_t n = sendmsg(fd, &m, MSG_NOSIGNAL);

		if (n < 0)
			die("sendmsg");
		while (count > 0 && (size_t)n >= iov->iov_len) {
			n -= (ssize_t)iov->iov_len;
			iov++;
			count--;
		}
		if (count > 0) {
			iov->iov_base = (char *)iov->iov_base + n;
			iov->iov_len -= (size_t)n;
		}
	}
}

/* A stream of fixed-size messages: receives at least one, hands out all that are whole, keeps the rest. */
struct stream {
	int fd;
	char *buf;
	size_t capacity, have, message_bytes;
};

static size_t receive_messages(struct stream *s)
{
	do {
		ssize_t n = recv(s->fd, s->buf + s->have, s->capacity - s->have, 0);

		if (n < 0)
			die("recv");
		if (n == 0)
			return 0;
		s->have += (size_t)n;
	} while (s->have < s->message_bytes);
	return s->have / s->message_bytes;
}

static void consume_messages(struct stream *s, size_t count)
{
	s->have -= count * s->message_bytes;
	memmove(s->buf, s->buf + count * s->message_bytes, s->have);
}

static void stream_init(struct stream *s, int fd, size_t message_bytes, uint32_t depth)
{
	*s = (struct stream){ .fd = fd, .message_bytes = message_bytes };
	s->capacity = message_bytes * (depth + 1);
	s->buf = malloc(s->capacity);
	if (s->buf == NULL)
		die("malloc");
}

static void serve(int fd, const struct measure_load *load)
{
	struct stream in;
	char *region = malloc(load->span_bytes);
	struct answer *answers = calloc(load->depth + 1, sizeof(*answers));
	struct iovec *iov = calloc(2 * (load->depth + 1), sizeof(*iov));
	size_t count;

	stream_init(&in, fd, REQUEST_BYTES + (load->write ? load->block_bytes : 0), load->depth);
	if (region == NULL || answers == NULL || iov == NULL)
		die("malloc");
	memset(region, 1, load->span_bytes);
	while ((count = receive_messages(&in)) > 0) {
		size_t parts = 0;

		for (size_t i = 0; i < count; i++) {
			char *message = in.buf + i * in.message_bytes;
			struct request r;

			memcpy(&r, message, sizeof(r));
			answers[i].sent_ns = r.sent_ns;
			iov[parts++] = (struct iovec){ &answers[i], ANSWER_BYTES };
			if (load->write)
				memcpy(region + r.offset, message + REQUEST_BYTES, load->block_bytes);
			else
				iov[parts++] = (struct iovec){ region + r.offset, load->block_bytes };
		}
		send_all(fd, iov, parts);
		consume_messages(&in, count);
	}
}

struct client {
	const struct measure_load *load;
	struct pst_prng prng;
	struct request *requests;
	struct iovec *iov;
	char *data;
};

static void ask(struct client *c, int fd, size_t count)
{
	size_t parts = 0;

	for (size_t i = 0; i < count; i++) {
		uint64_t blocks = c->load->span_bytes / c->load->block_bytes;

		c->requests[i].offset = pst_prng_below(&c->prng, blocks) * c->load->block_bytes;
		c->requests[i].sent_ns = measure_now_ns();
		c->iov[parts++] = (struct iovec){ &c->requests[i], REQUEST_BYTES };
		if (c->load->write)
			c->iov[parts++] = (struct iovec){ c->data, c->load->block_bytes };
	}
	send_all(fd, c->iov, parts);
}

static void run_client(int fd, const struct measure_load *load, pid_t server)
{
	static struct measure m;
	struct client c = { .load = load };
	struct stream in;
	uint64_t begin = measure_now_ns() + (uint64_t)(load->warmup_seconds * 1e9);
	uint64_t end = begin + (uint64_t)(load->seconds * 1e9);
	bool measuring = false;

	c.requests = calloc(load->depth, sizeof(*c.requests));
	c.iov = calloc(2 * (size_t)load->depth, sizeof(*c.iov));
	c.data = calloc(1, load->block_bytes);
	if (c.requests == NULL || c.iov == NULL || c.data == NULL)
		die("malloc");
	pst_prng_init(&c.prng, load->seed);
	stream_init(&in, fd, ANSWER_BYTES + (load->write ? 0 : load->block_bytes), load->depth);
	ask(&c, fd, load->depth);
	for (;;) {
		size_t count = receive_messages(&in);
		uint64_t now = measure_now_ns();

		if (!measuring && now >= begin) {
			measuring = true;
			measure_begin(&m, server);
		}
		for (size_t i = 0; measuring && i < count; i++) {
			struct answer a;

			memcpy(&a, in.buf + i * in.message_bytes, sizeof(a));
			pst_hist_add(&m.latency, now - a.sent_ns);
		}
		if (now >= end)
			break;
		consume_messages(&in, count);
		ask(&c, fd, count);
	}
	measure_end(&m, load);
}

int main(int argc, char **argv)
{
	struct measure_load load;
	struct sockaddr_in addr = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(addr);
	int listener = socket(AF_INET, SOCK_STREAM, 0), fd, one = 1;
	pid_t server;

	measure_parse(argc, argv, &load, NULL);
	if (listener < 0 || bind(listener, (struct sockaddr *)&addr, len) != 0 || listen(listener, 1) != 0 ||
	    getsockname(listener, (struct sockaddr *)&addr, &len) != 0)
		die("listen");
	server = fork();
	if (server < 0)
		die("fork");
	if (server == 0) {
		if (load.cpu >= 0)
			measure_pin(0);
		fd = accept(listener, NULL, NULL);
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
		serve(fd, &load);
		return 0;
	}
	measure_pin(load.cpu);
	fd = socket(AF_INET, SOCK_STREAM, 0);
	if (fd < 0 || connect(fd, (struct sockaddr *)&addr, len) != 0)
		die("connect");
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	run_client(fd, &load, server);
	close(fd);
	kill(server, SIGTERM);
	waitpid(server, NULL, 0);
	return 0;
}

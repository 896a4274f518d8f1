/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sockets, as far as both real backends agree: addresses, options, listening from several shards, and the ends of
 * operations.
 *
 * Several shards listen on one address with SO_REUSEPORT, yet a second daemon on the same port must be told so. Linux
 * would let every socket of the same user join the group. Therefore the first socket of this process on an address is
 * bound without the option, which fails beside any other socket, and gets the option only then; sockets of further
 * shards are bound with it. The table of addresses of this process is the one shared thing here, under a lock.
 */
#include "env/real.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/tcp.h> /* its tcp_info has the byte counters, which the C library's lacks */
#include <netinet/in.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define CONNECT_TIMEOUT_MS 10000u
#define ACCEPT_PAUSE_NS 100000000u
#define LISTEN_BACKLOG 1024
#define BIND_PATIENCE_NS 500000000u

/* ---- Addresses ---- */

static pst_err net_sockaddr(const struct pst_addr *addr, struct sockaddr_storage *ret, socklen_t *ret_len)
{
	struct sockaddr_in v4 = { .sin_family = AF_INET, .sin_port = htons(addr->port) };
	struct sockaddr_in6 v6 = { .sin6_family = AF_INET6, .sin6_port = htons(addr->port) };
	const char *host = strcmp(addr->host, "localhost") == 0 ? "127.0.0.1" : addr->host;

	memset(ret, 0, sizeof(*ret));
	if (inet_pton(AF_INET, host, &v4.sin_addr) == 1) {
		memcpy(ret, &v4, sizeof(v4));
		*ret_len = sizeof(v4);
		return PST_OK;
	}
	if (inet_pton(AF_INET6, host, &v6.sin6_addr) == 1) {
		memcpy(ret, &v6, sizeof(v6));
		*ret_len = sizeof(v6);
		return PST_OK;
	}
	return PST_E_INVAL;
}

static void net_addr_from(const struct sockaddr_storage *sa, struct pst_addr *ret)
{
	struct sockaddr_in v4;
	struct sockaddr_in6 v6;

	memset(ret, 0, sizeof(*ret));
	if (sa->ss_family == AF_INET6) {
		memcpy(&v6, sa, sizeof(v6));
		inet_ntop(AF_INET6, &v6.sin6_addr, ret->host, sizeof(ret->host));
		ret->port = ntohs(v6.sin6_port);
	} else {
		memcpy(&v4, sa, sizeof(v4));
		inet_ntop(AF_INET, &v4.sin_addr, ret->host, sizeof(ret->host));
		ret->port = ntohs(v4.sin_port);
	}
}

static void net_stream_addrs(struct pst_stream *stream)
{
	struct sockaddr_storage sa = { .ss_family = AF_INET };
	socklen_t len = sizeof(sa);

	if (getsockname(stream->fd, (struct sockaddr *)(void *)&sa, &len) == 0)
		net_addr_from(&sa, &stream->local);
	len = sizeof(sa);
	if (getpeername(stream->fd, (struct sockaddr *)(void *)&sa, &len) == 0)
		net_addr_from(&sa, &stream->peer);
}

static void net_set(int fd, int level, int option, int value)
{
	/* These tune; a kernel that refuses one still carries the connection. */
	if (setsockopt(fd, level, option, &value, sizeof(value)) != 0)
		return;
}

/* ---- Listening ---- */

struct net_shared {
	struct net_shared *next;
	struct pst_addr addr;
	unsigned listeners;
};

static pthread_mutex_t net_shared_lock = PTHREAD_MUTEX_INITIALIZER;
static struct net_shared *net_shared_list;

static struct net_shared **net_shared_find(const struct pst_addr *addr)
{
	struct net_shared **at = &net_shared_list;

	while (*at && ((*at)->addr.port != addr->port || strcmp((*at)->addr.host, addr->host) != 0))
		at = &(*at)->next;
	return at;
}

static void net_shared_unref(const struct pst_addr *addr)
{
	struct net_shared **at, *gone;

	pthread_mutex_lock(&net_shared_lock);
	at = net_shared_find(addr);
	gone = *at;
	pst_assert(gone);
	if (--gone->listeners == 0) {
		*at = gone->next;
		free(gone);
	}
	pthread_mutex_unlock(&net_shared_lock);
}

/* A killed predecessor's socket may live until the kernel has ended its requests: wait for it a moment. */
static int net_bind_patiently(int fd, const struct sockaddr_storage *sa, socklen_t len)
{
	uint64_t give_up_ns = pst_real_now_ns() + BIND_PATIENCE_NS;

	while (bind(fd, (const struct sockaddr *)(const void *)sa, len) != 0) {
		if (errno != EADDRINUSE || pst_real_now_ns() > give_up_ns)
			return errno;
		nanosleep(&(struct timespec){ .tv_nsec = 10000000 }, NULL);
	}
	return 0;
}

static int net_bind(int fd, const struct sockaddr_storage *sa, socklen_t len, bool shared)
{
	int error;

	net_set(fd, SOL_SOCKET, SO_REUSEADDR, 1);
	if (sa->ss_family == AF_INET6)
		net_set(fd, IPPROTO_IPV6, IPV6_V6ONLY, 1);
	if (shared)
		net_set(fd, SOL_SOCKET, SO_REUSEPORT, 1);
	error = net_bind_patiently(fd, sa, len);
	if (error == 0 && !shared)
		net_set(fd, SOL_SOCKET, SO_REUSEPORT, 1);
	if (error == 0 && listen(fd, LISTEN_BACKLOG) != 0)
		error = errno;
	return error;
}

/* Sharing is for other shards; twice on one is a mistake. */
static bool net_listens_already(struct pst_env *env, const struct pst_addr *addr)
{
	PST_LIST_EACH(at, &env->listeners) {
		struct pst_listener *listener = pst_container_of(at, struct pst_listener, node);

		if (listener->addr.port == addr->port && strcmp(listener->addr.host, addr->host) == 0)
			return true;
	}
	return false;
}

/* Fills listener->fd and listener->addr and registers the address. Under the lock. */
static pst_err net_listen_locked(struct pst_listener *listener, const struct sockaddr_storage *sa, socklen_t len)
{
	struct sockaddr_storage bound;
	socklen_t bound_len = sizeof(bound);
	struct net_shared *shared;
	int error;

	net_addr_from(sa, &listener->addr);
	if (listener->addr.port && net_listens_already(listener->env, &listener->addr))
		return PST_E_ADDRINUSE;
	shared = listener->addr.port ? *net_shared_find(&listener->addr) : NULL;
	error = net_bind(listener->fd, sa, len, shared != NULL);
	if (error == 0 && getsockname(listener->fd, (struct sockaddr *)(void *)&bound, &bound_len) != 0)
		error = errno;
	if (error)
		return pst_real_errno(error);
	net_addr_from(&bound, &listener->addr);
	if (!shared) {
		shared = calloc(1, sizeof(*shared));
		if (!shared)
			return PST_E_NOMEM;
		shared->addr = listener->addr;
		shared->next = net_shared_list;
		net_shared_list = shared;
	}
	shared->listeners++;
	return PST_OK;
}

pst_err pst_listen(struct pst_env *env, const struct pst_addr *addr, pst_accept_fn *on_accept, void *ctx,
		   struct pst_listener **ret_listener)
{
	struct pst_listener *listener;
	struct sockaddr_storage sa;
	socklen_t len;
	pst_err err = net_sockaddr(addr, &sa, &len);

	if (err != PST_OK)
		return err;
	listener = calloc(1, sizeof(*listener));
	if (!listener)
		return PST_E_NOMEM;
	listener->env = env;
	listener->on_accept = on_accept;
	listener->ctx = ctx;
	listener->fd = socket(sa.ss_family, SOCK_STREAM | SOCK_CLOEXEC | env->ops->socket_flags, 0);
	if (listener->fd < 0) {
		err = pst_real_errno(errno);
		free(listener);
		return err;
	}
	pthread_mutex_lock(&net_shared_lock);
	err = net_listen_locked(listener, &sa, len);
	pthread_mutex_unlock(&net_shared_lock);
	if (err == PST_OK) {
		err = env->ops->listener_start(listener);
		if (err != PST_OK)
			net_shared_unref(&listener->addr);
	}
	if (err != PST_OK) {
		close(listener->fd);
		free(listener);
		return err;
	}
	pst_list_push_back(&env->listeners, &listener->node);
	*ret_listener = listener;
	return PST_OK;
}

void pst_listener_addr(struct pst_listener *listener, struct pst_addr *ret_addr)
{
	*ret_addr = listener->addr;
}

void pst_listener_close(struct pst_listener *listener)
{
	pst_assert(!listener->closed);
	listener->closed = true;
	pst_timer_disarm(listener->env, &listener->retry);
	net_shared_unref(&listener->addr);
	pst_list_remove(&listener->node);
	listener->env->ops->listener_stop(listener);
}

void pst_real_listener_free(struct pst_listener *listener)
{
	free(listener);
}

static struct pst_stream *net_stream_new(struct pst_env *env, int fd)
{
	struct pst_stream *stream = calloc(1, sizeof(*stream));

	if (!stream)
		return NULL;
	stream->env = env;
	stream->fd = fd;
	net_set(fd, IPPROTO_TCP, TCP_NODELAY, 1);
	env->open_streams++;
	return stream;
}

static void net_stream_free(struct pst_stream *stream)
{
	stream->env->open_streams--;
	free(stream);
}

void pst_real_accepted(struct pst_listener *listener, int fd)
{
	struct pst_env *env = listener->env;
	struct pst_stream *stream = net_stream_new(env, fd);

	if (!stream) {
		close(fd);
		return;
	}
	net_stream_addrs(stream);
	if (env->ops->stream_start(stream, NULL, 0) != PST_OK) {
		close(fd);
		net_stream_free(stream);
		return;
	}
	listener->on_accept(listener->ctx, stream);
}

bool pst_real_accept_failed(struct pst_listener *listener, int error)
{
	if (error != EMFILE && error != ENFILE && error != ENOMEM && error != ENOBUFS)
		return false; /* that connection died before it was accepted */
	pst_env_log(listener->env, PST_LOG_WARN,
		    "accept_failed addr=%s port=%u errno=%d next=\"again in 100 ms; raise the limit of open files\"",
		    listener->addr.host, listener->addr.port, error);
	pst_timer_arm(listener->env, &listener->retry, pst_env_now_ns(listener->env) + ACCEPT_PAUSE_NS);
	return true;
}

/* ---- Connecting ---- */

static struct pst_real_net_op *net_op(uint64_t *scratch)
{
	return (struct pst_real_net_op *)(void *)scratch;
}

static void net_connect_post(struct pst_post *post)
{
	struct pst_connect_op *op =
	    pst_container_of(pst_container_of(post, struct pst_real_net_op, post), struct pst_connect_op, scratch);

	op->done(op);
}

static void net_connect_fail(struct pst_env *env, struct pst_connect_op *op, pst_err err)
{
	op->err = err;
	net_op(op->scratch)->post.fn = net_connect_post;
	pst_env_post(env, &net_op(op->scratch)->post);
}

void pst_connect(struct pst_env *env, struct pst_connect_op *op)
{
	struct pst_stream *stream;
	struct sockaddr_storage sa;
	socklen_t len;
	pst_err err = net_sockaddr(&op->addr, &sa, &len);
	int fd;

	op->stream = NULL;
	if (err != PST_OK) {
		net_connect_fail(env, op, err);
		return;
	}
	fd = socket(sa.ss_family, SOCK_STREAM | SOCK_CLOEXEC | env->ops->socket_flags, 0);
	if (fd < 0) {
		net_connect_fail(env, op, pst_real_errno(errno));
		return;
	}
	stream = net_stream_new(env, fd);
	if (!stream) {
		close(fd);
		net_connect_fail(env, op, PST_E_NOMEM);
		return;
	}
	net_set(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, CONNECT_TIMEOUT_MS);
	stream->connect = op;
	err = env->ops->stream_start(stream, &sa, len);
	if (err != PST_OK) {
		close(fd);
		net_stream_free(stream);
		net_connect_fail(env, op, err);
	}
}

void pst_real_connect_done(struct pst_stream *stream, int error)
{
	struct pst_connect_op *op = stream->connect;

	stream->connect = NULL;
	op->err = pst_real_errno(error);
	if (error) {
		close(stream->fd);
		net_stream_free(stream);
	} else {
		/* An established connection waits as long as TCP does: liveness is the business of the protocol above.
		 */
		net_set(stream->fd, IPPROTO_TCP, TCP_USER_TIMEOUT, 0);
		net_stream_addrs(stream);
		op->stream = stream;
	}
	op->done(op);
}

/* ---- Streams ---- */

void pst_stream_recv(struct pst_stream *stream, struct pst_stream_op *op)
{
	pst_assert(!stream->recv && !stream->close && op->iov_count >= 1 && op->iov_count <= 256);
	stream->recv = op;
	op->done_bytes = 0;
	stream->recv_msg =
	    (struct msghdr){ .msg_iov = (struct iovec *)(uintptr_t)op->iov, .msg_iovlen = op->iov_count };
	stream->env->ops->stream_recv(stream);
}

void pst_stream_send(struct pst_stream *stream, struct pst_stream_op *op)
{
	pst_assert(!stream->send && !stream->close && op->iov_count >= 1 && op->iov_count <= 256);
	stream->send = op;
	op->done_bytes = 0;
	stream->cursor = (struct pst_iov_cursor){ .iov = op->iov, .count = op->iov_count };
	stream->env->ops->stream_send(stream);
}

bool pst_real_send_prepare(struct pst_stream *stream)
{
	struct pst_iov_cursor *c = &stream->cursor;

	if (c->part.iov_len) {
		stream->send_msg = (struct msghdr){ .msg_iov = &c->part, .msg_iovlen = 1 };
		return true;
	}
	while (c->count && c->iov->iov_len == 0) {
		c->iov++;
		c->count--;
	}
	stream->send_msg = (struct msghdr){ .msg_iov = (struct iovec *)(uintptr_t)c->iov, .msg_iovlen = c->count };
	return c->count > 0;
}

void pst_real_send_advance(struct pst_stream *stream, size_t bytes)
{
	struct pst_iov_cursor *c = &stream->cursor;

	stream->send->done_bytes += bytes;
	if (c->part.iov_len) {
		pst_assert(bytes <= c->part.iov_len);
		c->part.iov_base = (char *)c->part.iov_base + bytes;
		c->part.iov_len -= bytes;
		return;
	}
	while (bytes && bytes >= c->iov->iov_len) {
		bytes -= c->iov->iov_len;
		c->iov++;
		c->count--;
	}
	if (bytes == 0)
		return;
	c->part.iov_base = (char *)c->iov->iov_base + bytes;
	c->part.iov_len = c->iov->iov_len - bytes;
	c->iov++;
	c->count--;
}

void pst_real_recv_done(struct pst_stream *stream, pst_err err, size_t bytes)
{
	struct pst_stream_op *op = stream->recv;

	stream->recv = NULL;
	stream->recv_posted = false;
	op->err = err;
	op->done_bytes = bytes;
	op->done(op);
}

void pst_real_send_done(struct pst_stream *stream, pst_err err)
{
	struct pst_stream_op *op = stream->send;

	stream->send = NULL;
	stream->send_posted = false;
	op->err = err;
	op->done(op);
}

static void net_recv_post(struct pst_post *post)
{
	struct pst_stream *stream = pst_container_of(post, struct pst_real_net_op, post)->stream;

	pst_real_recv_done(stream, stream->recv->err, stream->recv->done_bytes);
}

static void net_send_post(struct pst_post *post)
{
	struct pst_stream *stream = pst_container_of(post, struct pst_real_net_op, post)->stream;

	pst_real_send_done(stream, stream->send->err);
}

static void net_post(struct pst_stream *stream, uint64_t *scratch, void (*fn)(struct pst_post *))
{
	struct pst_real_net_op *n = net_op(scratch);

	n->stream = stream;
	n->post.fn = fn;
	pst_env_post(stream->env, &n->post);
}

void pst_real_recv_post(struct pst_stream *stream, pst_err err, size_t bytes)
{
	stream->recv->err = err;
	stream->recv->done_bytes = bytes;
	stream->recv_posted = true;
	net_post(stream, stream->recv->scratch, net_recv_post);
}

void pst_real_send_post(struct pst_stream *stream, pst_err err)
{
	stream->send->err = err;
	stream->send_posted = true;
	net_post(stream, stream->send->scratch, net_send_post);
}

void pst_real_stream_cancel(struct pst_stream *stream)
{
	if (stream->recv && !stream->recv_posted)
		pst_real_recv_post(stream, PST_E_CANCELLED, 0);
	if (stream->send && !stream->send_posted)
		pst_real_send_post(stream, PST_E_CANCELLED);
}

static void net_close_post(struct pst_post *post)
{
	struct pst_close_op *op =
	    pst_container_of(pst_container_of(post, struct pst_real_net_op, post), struct pst_close_op, scratch);
	struct pst_stream *stream = net_op(op->scratch)->stream;

	net_stream_free(stream);
	op->done(op);
}

void pst_real_stream_gone(struct pst_stream *stream)
{
	net_post(stream, stream->close->scratch, net_close_post);
}

void pst_stream_close(struct pst_stream *stream, struct pst_close_op *op)
{
	pst_assert(!stream->close);
	stream->close = op;
	stream->env->ops->stream_close(stream);
}

void pst_stream_stats(struct pst_stream *stream, struct pst_stream_stats *ret_stats)
{
	struct tcp_info info;
	socklen_t len = sizeof(info);

	memset(&info, 0, sizeof(info));
	memset(ret_stats, 0, sizeof(*ret_stats));
	if (getsockopt(stream->fd, IPPROTO_TCP, TCP_INFO, &info, &len) != 0)
		return;
	ret_stats->bytes_received = info.tcpi_bytes_received;
	ret_stats->bytes_sent = info.tcpi_bytes_sent - info.tcpi_bytes_retrans;
	ret_stats->retransmits = info.tcpi_total_retrans;
	ret_stats->rtt_us = info.tcpi_rtt;
}

void pst_stream_addrs(struct pst_stream *stream, struct pst_addr *ret_local, struct pst_addr *ret_peer)
{
	*ret_local = stream->local;
	*ret_peer = stream->peer;
}

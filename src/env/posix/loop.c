/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The posix backend, for machines and containers that refuse io_uring: epoll for sockets, a pool of threads for files
 * (disk.c), their results returning as posts.
 *
 * Sockets are registered once, edge-triggered, and each stream remembers whether the next recv or send is worth trying.
 * A submit tries at once, since most sends and many receives can be served without waiting; the completion still comes
 * as a post. An event that belongs to a stream closed earlier in the same batch finds stream->close set and does
 * nothing: a stream is freed by a post, which runs after the batch.
 */
#include "env/posix/posix.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

#define EVENTS_PER_WAIT 64

static pst_err posix_watch(struct pst_env *env, int fd, struct pst_source *source, uint32_t events)
{
	struct epoll_event event = { .events = events, .data.ptr = source };

	return epoll_ctl(env->epoll_fd, EPOLL_CTL_ADD, fd, &event) == 0 ? PST_OK : pst_real_errno(errno);
}

/* ---- Listeners ---- */

static void listener_accept(struct pst_listener *listener)
{
	/* Bounded: a flood of connections must not hold the loop. Level-triggered, so the rest is seen next time. */
	for (int i = 0; i < 16 && !listener->closed; i++) {
		int fd = accept4(listener->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

		if (fd >= 0) {
			pst_real_accepted(listener, fd);
		} else if (errno == EAGAIN) {
			return;
		} else if (pst_real_accept_failed(listener, errno)) {
			epoll_ctl(listener->env->epoll_fd, EPOLL_CTL_DEL, listener->fd, NULL);
			return;
		}
	}
}

static void listener_on_event(struct pst_source *source, uint32_t events)
{
	struct pst_listener *listener = pst_container_of(source, struct pst_listener, source);

	(void)events;
	if (!listener->closed)
		listener_accept(listener);
}

static void listener_on_retry(struct pst_timer *timer)
{
	struct pst_listener *listener = pst_container_of(timer, struct pst_listener, retry);

	if (posix_watch(listener->env, listener->fd, &listener->source, EPOLLIN) != PST_OK)
		pst_timer_arm(listener->env, timer, pst_env_now_ns(listener->env) + 100000000);
}

static pst_err posix_listener_start(struct pst_listener *listener)
{
	listener->source.on_event = listener_on_event;
	pst_timer_init(&listener->retry, listener_on_retry);
	return posix_watch(listener->env, listener->fd, &listener->source, EPOLLIN);
}

static void listener_free_post(struct pst_post *post)
{
	pst_real_listener_free(pst_container_of(post, struct pst_listener, free_post));
}

static void posix_listener_stop(struct pst_listener *listener)
{
	close(listener->fd);
	/* An event of this batch may still point here. */
	listener->free_post.fn = listener_free_post;
	pst_env_post(listener->env, &listener->free_post);
}

/* ---- Streams ---- */

/* True when the operation is complete, with *ret_err and *ret_bytes. */
static bool recv_try(struct pst_stream *stream, pst_err *ret_err, size_t *ret_bytes)
{
	size_t room = 0;
	ssize_t n;

	do
		n = recvmsg(stream->fd, &stream->recv_msg, 0);
	while (n < 0 && errno == EINTR);
	if (n < 0 && errno == EAGAIN) {
		stream->can_recv = false;
		return false;
	}
	*ret_err = n < 0 ? pst_real_errno(errno) : PST_OK;
	*ret_bytes = n < 0 ? 0 : (size_t)n;
	for (size_t i = 0; i < stream->recv_msg.msg_iovlen; i++)
		room += stream->recv_msg.msg_iov[i].iov_len;
	/* Less than asked for: the socket is empty, unless the end has come, of which there is no further event. */
	if (n > 0 && (size_t)n < room && !stream->hung_up)
		stream->can_recv = false;
	return true;
}

static bool send_try(struct pst_stream *stream, pst_err *ret_err)
{
	while (pst_real_send_prepare(stream)) {
		bool more = stream->cursor.part.iov_len && stream->cursor.count;
		ssize_t n = sendmsg(stream->fd, &stream->send_msg, MSG_NOSIGNAL | (more ? MSG_MORE : 0));

		if (n >= 0) {
			pst_real_send_advance(stream, (size_t)n);
		} else if (errno == EAGAIN) {
			stream->can_send = false;
			return false;
		} else if (errno != EINTR) {
			*ret_err = pst_real_errno(errno);
			return true;
		}
	}
	*ret_err = PST_OK;
	return true;
}

static void stream_on_connected(struct pst_stream *stream)
{
	int error = 0;
	socklen_t len = sizeof(error);

	if (getsockopt(stream->fd, SOL_SOCKET, SO_ERROR, &error, &len) != 0)
		error = errno;
	stream->can_send = true;
	pst_real_connect_done(stream, error);
}

static void stream_on_event(struct pst_source *source, uint32_t events)
{
	struct pst_stream *stream = pst_container_of(source, struct pst_stream, source);
	pst_err err;
	size_t bytes;

	if (stream->close)
		return;
	if (stream->connect) {
		if (events & (EPOLLOUT | EPOLLERR | EPOLLHUP))
			stream_on_connected(stream);
		return;
	}
	if (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR))
		stream->hung_up = true;
	if (events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR))
		stream->can_recv = true;
	if (events & (EPOLLOUT | EPOLLHUP | EPOLLERR))
		stream->can_send = true;
	if (stream->can_send && stream->send && !stream->send_posted && send_try(stream, &err))
		pst_real_send_done(stream, err);
	if (stream->close)
		return;
	if (stream->can_recv && stream->recv && !stream->recv_posted && recv_try(stream, &err, &bytes))
		pst_real_recv_done(stream, err, bytes);
}

static pst_err posix_stream_start(struct pst_stream *stream, const struct sockaddr_storage *sa, socklen_t sa_len)
{
	stream->source.on_event = stream_on_event;
	stream->can_recv = stream->can_send = !stream->connect;
	/* Not connected yet: EPOLLOUT or an error comes when it is decided. */
	if (stream->connect && connect(stream->fd, (const struct sockaddr *)(const void *)sa, sa_len) != 0 &&
	    errno != EINPROGRESS)
		return pst_real_errno(errno);
	return posix_watch(stream->env, stream->fd, &stream->source, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET);
}

static void posix_stream_recv(struct pst_stream *stream)
{
	pst_err err;
	size_t bytes;

	if (stream->can_recv && recv_try(stream, &err, &bytes))
		pst_real_recv_post(stream, err, bytes);
}

static void posix_stream_send(struct pst_stream *stream)
{
	pst_err err;

	if (stream->can_send && send_try(stream, &err))
		pst_real_send_post(stream, err);
}

static void posix_stream_close(struct pst_stream *stream)
{
	close(stream->fd);
	pst_real_stream_cancel(stream);
	pst_real_stream_gone(stream);
}

/* ---- Waiting ---- */

static int epoll_wait_ns(struct pst_env *env, struct epoll_event *events, uint64_t timeout_ns)
{
	uint64_t timeout_ms = pst_div_round_up(timeout_ns, 1000000);

	if (!env->no_epoll_pwait2) {
		struct timespec ts = { .tv_sec = (time_t)(timeout_ns / 1000000000),
				       .tv_nsec = (long)(timeout_ns % 1000000000) };
		int n =
		    epoll_pwait2(env->epoll_fd, events, EVENTS_PER_WAIT, timeout_ns == UINT64_MAX ? NULL : &ts, NULL);

		if (n >= 0 || (errno != ENOSYS && errno != EPERM))
			return n;
		env->no_epoll_pwait2 = true; /* an old seccomp profile */
	}
	return epoll_wait(env->epoll_fd, events, EVENTS_PER_WAIT, timeout_ms > INT32_MAX ? -1 : (int)timeout_ms);
}

static unsigned posix_wait(struct pst_env *env, uint64_t timeout_ns)
{
	struct epoll_event events[EVENTS_PER_WAIT];
	int n = epoll_wait_ns(env, events, timeout_ns);
	unsigned ran = 0;

	pst_assert(n >= 0 || errno == EINTR);
	atomic_store(&env->asleep, false);
	if (n > 0)
		pst_real_begin_turn(env);
	for (int i = 0; i < n; i++) {
		struct pst_source *source = events[i].data.ptr;
		uint64_t count;

		if (source) {
			source->on_event(source, events[i].events);
			ran++;
		} else if (read(env->wake_fd, &count, sizeof(count)) < 0) {
			pst_assert(errno == EAGAIN || errno == EINTR);
		}
	}
	return ran;
}

/* The epoll descriptor is itself readable while events are pending, and asking does not consume edges. */
static bool posix_ready(struct pst_env *env)
{
	struct pollfd pollfd = { .fd = env->epoll_fd, .events = POLLIN };

	return poll(&pollfd, 1, 0) > 0;
}

static void posix_free(struct pst_env *env)
{
	pst_posix_disk_free(env);
	close(env->epoll_fd);
}

pst_err pst_posix_start(struct pst_env *env)
{
	static const struct pst_backend_ops ops = {
		.name = "posix",
		.socket_flags = SOCK_NONBLOCK,
		.wait = posix_wait,
		.ready = posix_ready,
		.free = posix_free,
		.file_start = pst_posix_file_start,
		.listener_start = posix_listener_start,
		.listener_stop = posix_listener_stop,
		.stream_start = posix_stream_start,
		.stream_recv = posix_stream_recv,
		.stream_send = posix_stream_send,
		.stream_close = posix_stream_close,
	};
	pst_err err;

	env->ops = &ops;
	env->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (env->epoll_fd < 0)
		return pst_real_errno(errno);
	err = posix_watch(env, env->wake_fd, NULL, EPOLLIN);
	if (err != PST_OK)
		close(env->epoll_fd);
	return err;
}

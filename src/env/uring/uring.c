/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The io_uring backend: everything, files and sockets, is a request on the shard's one ring. Baseline is Linux 6.1.
 *
 * The ring has a single issuer and defers completions to it (DEFER_TASKRUN), so nothing interrupts a shard, and a flag
 * in shared memory tells a spinning shard that something is ready. A shard may be set up on one thread and run on
 * another: the ring starts disabled and is enabled by the first wait, on the thread that is the shard's from then on.
 *
 * Requests of a turn are collected and go to the kernel in one call with the wait. The user_data of a request is the
 * address of what it belongs to, with the kind in the low three bits. Streams and listeners count their requests; a
 * close cancels them (the cancel counts too, since a descriptor must not be reused while a cancel by descriptor is on
 * its way), and the descriptor is closed when the count is zero.
 */
#include "env/real.h"

#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <linux/ioprio.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define SQ_EXTRA 512u /* beside file_depth: sockets, before anything is submitted */
#define CQES_PER_TURN 512u
/*
 * What was read or written is worked on (checksums) before what follows from it is submitted. In short turns the device
 * has something to do meanwhile: with 32 reads of 4 KiB in flight, a turn for all that came at once cost 20 % of the
 * requests per second.
 */
#define FILE_BYTES_PER_TURN 32768u
#define LISTENERS_END_TURNS 1000

enum uring_kind {
	URING_WAKE,
	URING_FILE,
	URING_RECV,
	URING_SEND,
	URING_CONNECT,
	URING_ACCEPT,
	URING_CANCEL_STREAM,
	URING_CANCEL_LISTENER,
};
#define URING_KIND_MASK 7u

struct pst_uring {
	struct io_uring ring;
	bool enabled;
	bool wake_armed;
	uint64_t wake_value;
	uint32_t closing_listeners;
};

/* ---- Submission ---- */

/*
 * The queue is large enough for all that can be prepared before the ring runs. Later a full queue is handed to the
 * kernel here; that fails only without kernel memory, and then passes.
 */
static struct io_uring_sqe *uring_sqe(struct pst_env *env)
{
	struct io_uring *ring = &env->uring->ring;
	struct io_uring_sqe *sqe = io_uring_get_sqe(ring);

	for (int tries = 0; !sqe && tries < 1000; tries++) {
		pst_assert(env->uring->enabled);
		if (io_uring_submit(ring) < 0)
			nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
		sqe = io_uring_get_sqe(ring);
	}
	pst_assert(sqe);
	return sqe;
}

/* After the prep function, which clears the entry. */
static void uring_tag(struct io_uring_sqe *sqe, enum uring_kind kind, void *object)
{
	pst_assert(((uintptr_t)object & URING_KIND_MASK) == 0);
	sqe->user_data = (uintptr_t)object | kind;
}

/* ---- Files ---- */

static void uring_file_start(struct pst_file *file, struct pst_file_op *op)
{
	struct pst_real_file_op *r = pst_real_file_op(op);
	struct io_uring_sqe *sqe = uring_sqe(file->env);
	bool by_write = op->kind == PST_FILE_WRITE_ZEROES && atomic_load(&file->zeroes_by_write);
	uint64_t at = op->offset_bytes + r->done_bytes;
	const struct iovec *iov;
	unsigned count;

	if (op->kind == PST_FILE_FLUSH) {
		io_uring_prep_fsync(sqe, file->fd, IORING_FSYNC_DATASYNC);
	} else if (op->kind == PST_FILE_READ || op->kind == PST_FILE_WRITE || by_write) {
		pst_real_file_next(op, &iov, &count);
		if (op->kind == PST_FILE_READ && count == 1)
			io_uring_prep_read(sqe, file->fd, iov->iov_base, (unsigned)iov->iov_len, at);
		else if (op->kind == PST_FILE_READ)
			io_uring_prep_readv(sqe, file->fd, iov, count, at);
		else if (count == 1)
			io_uring_prep_write(sqe, file->fd, iov->iov_base, (unsigned)iov->iov_len, at);
		else
			io_uring_prep_writev(sqe, file->fd, iov, count, at);
		if (op->urgent && !atomic_load(&file->no_urgency))
			sqe->ioprio = IOPRIO_PRIO_VALUE(IOPRIO_CLASS_RT, IOPRIO_NR_LEVELS / 2);
	} else {
		io_uring_prep_fallocate(sqe, file->fd, pst_real_fallocate_mode(op->kind), (off_t)op->offset_bytes,
					(off_t)op->len_bytes);
	}
	uring_tag(sqe, URING_FILE, op);
}

static void uring_on_fallocate(struct pst_file *file, struct pst_file_op *op, int res)
{
	if (res == -EOPNOTSUPP && op->kind == PST_FILE_WRITE_ZEROES) {
		atomic_store(&file->zeroes_by_write, true);
		uring_file_start(file, op);
		return;
	}
	if (res == -EOPNOTSUPP)
		res = 0; /* a discard is a hint */
	pst_real_file_done(op, pst_real_errno(-res));
}

static void uring_on_file(struct pst_file_op *op, int res)
{
	struct pst_real_file_op *r = pst_real_file_op(op);
	struct pst_file *file = r->file;

	if (res == -EINTR || res == -EAGAIN) {
		uring_file_start(file, op);
		return;
	}
	if (res == -EPERM && op->urgent) {
		atomic_store(&file->no_urgency, true);
		op->urgent = false;
		uring_file_start(file, op);
		return;
	}
	if (op->kind == PST_FILE_DISCARD ||
	    (op->kind == PST_FILE_WRITE_ZEROES && !atomic_load(&file->zeroes_by_write))) {
		uring_on_fallocate(file, op, res);
		return;
	}
	if (op->kind == PST_FILE_FLUSH || res < 0) {
		pst_real_file_done(op, pst_real_errno(res < 0 ? -res : 0));
		return;
	}
	if (res == 0) {
		pst_real_file_done(op, op->kind == PST_FILE_READ ? PST_E_RANGE : PST_E_IO);
		return;
	}
	r->done_bytes += (uint64_t)res;
	if (r->done_bytes < op->len_bytes)
		uring_file_start(file, op);
	else
		pst_real_file_done(op, PST_OK);
}

/* ---- Listeners ---- */

static void listener_arm(struct pst_listener *listener)
{
	struct io_uring_sqe *sqe = uring_sqe(listener->env);

	io_uring_prep_multishot_accept(sqe, listener->fd, NULL, NULL, SOCK_CLOEXEC);
	uring_tag(sqe, URING_ACCEPT, listener);
	listener->inflight++;
}

static void listener_on_retry(struct pst_timer *timer)
{
	listener_arm(pst_container_of(timer, struct pst_listener, retry));
}

static pst_err uring_listener_start(struct pst_listener *listener)
{
	pst_timer_init(&listener->retry, listener_on_retry);
	listener_arm(listener);
	return PST_OK;
}

static void listener_maybe_free(struct pst_listener *listener)
{
	if (listener->inflight)
		return;
	listener->env->uring->closing_listeners--;
	close(listener->fd);
	pst_real_listener_free(listener);
}

static void uring_listener_stop(struct pst_listener *listener)
{
	struct io_uring_sqe *sqe = uring_sqe(listener->env);

	listener->env->uring->closing_listeners++;
	/* The port is free from here on, whenever the kernel ends the accept. */
	if (shutdown(listener->fd, SHUT_RD) != 0)
		pst_env_log(listener->env, PST_LOG_WARN, "listener_shutdown_failed errno=%d next=\"closing it\"",
			    errno);
	io_uring_prep_cancel_fd(sqe, listener->fd, IORING_ASYNC_CANCEL_ALL);
	uring_tag(sqe, URING_CANCEL_LISTENER, listener);
	listener->inflight++;
}

static void uring_on_accept(struct pst_listener *listener, int res, bool more)
{
	if (!more)
		listener->inflight--;
	if (listener->closed) {
		if (res >= 0)
			close(res);
		listener_maybe_free(listener);
		return;
	}
	if (res >= 0)
		pst_real_accepted(listener, res);
	else if (pst_real_accept_failed(listener, -res))
		return; /* the timer arms it again */
	if (!more && !listener->closed)
		listener_arm(listener);
}

/* ---- Streams ---- */

static void uring_stream_recv(struct pst_stream *stream)
{
	struct io_uring_sqe *sqe = uring_sqe(stream->env);

	if (stream->recv_msg.msg_iovlen == 1)
		io_uring_prep_recv(sqe, stream->fd, stream->recv_msg.msg_iov->iov_base,
				   stream->recv_msg.msg_iov->iov_len, 0);
	else
		io_uring_prep_recvmsg(sqe, stream->fd, &stream->recv_msg, 0);
	/* The last receive left nothing behind: do not try, wait. */
	if (!stream->can_recv)
		sqe->ioprio |= IORING_RECVSEND_POLL_FIRST;
	uring_tag(sqe, URING_RECV, stream);
	stream->inflight++;
}

static void uring_stream_send(struct pst_stream *stream)
{
	struct io_uring_sqe *sqe;

	if (!pst_real_send_prepare(stream)) {
		pst_real_send_post(stream, PST_OK);
		return;
	}
	sqe = uring_sqe(stream->env);
	if (stream->send_msg.msg_iovlen == 1)
		io_uring_prep_send(sqe, stream->fd, stream->send_msg.msg_iov->iov_base,
				   stream->send_msg.msg_iov->iov_len, MSG_NOSIGNAL | MSG_WAITALL);
	else
		io_uring_prep_sendmsg(sqe, stream->fd, &stream->send_msg, MSG_NOSIGNAL | MSG_WAITALL);
	uring_tag(sqe, URING_SEND, stream);
	stream->inflight++;
}

static pst_err uring_stream_start(struct pst_stream *stream, const struct sockaddr_storage *sa, socklen_t sa_len)
{
	struct io_uring_sqe *sqe;

	stream->can_recv = true;
	if (!stream->connect)
		return PST_OK;
	stream->connect_sa = *sa;
	sqe = uring_sqe(stream->env);
	io_uring_prep_connect(sqe, stream->fd, (struct sockaddr *)(void *)&stream->connect_sa, sa_len);
	uring_tag(sqe, URING_CONNECT, stream);
	stream->inflight++;
	return PST_OK;
}

static void stream_maybe_gone(struct pst_stream *stream)
{
	/* The owner may have closed from inside the completion that brought us here: then it is done already. */
	if (!stream->close || stream->inflight || stream->fd < 0)
		return;
	close(stream->fd);
	stream->fd = -1;
	pst_real_stream_gone(stream);
}

static void uring_stream_close(struct pst_stream *stream)
{
	struct io_uring_sqe *sqe;

	if (stream->inflight) {
		sqe = uring_sqe(stream->env);
		io_uring_prep_cancel_fd(sqe, stream->fd, IORING_ASYNC_CANCEL_ALL);
		uring_tag(sqe, URING_CANCEL_STREAM, stream);
		stream->inflight++;
	}
	stream_maybe_gone(stream);
}

static void uring_on_recv(struct pst_stream *stream, int res, uint32_t flags)
{
	stream->inflight--;
	stream->can_recv = flags & IORING_CQE_F_SOCK_NONEMPTY;
	if (stream->close && res <= 0)
		pst_real_recv_done(stream, PST_E_CANCELLED, 0);
	else if (res == -EINTR || res == -EAGAIN)
		uring_stream_recv(stream);
	else
		pst_real_recv_done(stream, res < 0 ? pst_real_errno(-res) : PST_OK, res < 0 ? 0 : (size_t)res);
}

static void uring_on_send(struct pst_stream *stream, int res)
{
	bool again = res == -EINTR || res == -EAGAIN;

	stream->inflight--;
	if (res > 0)
		pst_real_send_advance(stream, (size_t)res);
	if (res > 0 && !pst_real_send_prepare(stream))
		pst_real_send_done(stream, PST_OK);
	else if (stream->close)
		pst_real_send_done(stream, PST_E_CANCELLED);
	else if (res > 0 || again)
		uring_stream_send(stream);
	else
		pst_real_send_done(stream, res < 0 ? pst_real_errno(-res) : PST_E_CLOSED);
}

/* ---- Completion ---- */

static void uring_on_cqe(struct pst_env *env, uint64_t user_data, int res, uint32_t flags)
{
	void *object = (void *)(uintptr_t)(user_data & ~(uint64_t)URING_KIND_MASK);
	struct pst_stream *stream = object;
	struct pst_listener *listener = object;

	switch ((enum uring_kind)(user_data & URING_KIND_MASK)) {
	case URING_WAKE:
		env->uring->wake_armed = false;
		break;
	case URING_FILE:
		uring_on_file(object, res);
		break;
	case URING_RECV:
		uring_on_recv(stream, res, flags);
		stream_maybe_gone(stream);
		break;
	case URING_SEND:
		uring_on_send(stream, res);
		stream_maybe_gone(stream);
		break;
	case URING_CONNECT:
		stream->inflight--;
		pst_real_connect_done(stream, res < 0 ? -res : 0);
		break;
	case URING_ACCEPT:
		uring_on_accept(listener, res, flags & IORING_CQE_F_MORE);
		break;
	case URING_CANCEL_STREAM:
		stream->inflight--;
		stream_maybe_gone(stream);
		break;
	case URING_CANCEL_LISTENER:
		listener->inflight--;
		listener_maybe_free(listener);
		break;
	}
}

static bool uring_task_run(struct io_uring *ring)
{
	return __atomic_load_n(ring->sq.kflags, __ATOMIC_RELAXED) & (IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW);
}

static void uring_enter(struct pst_env *env, uint64_t timeout_ns)
{
	struct io_uring *ring = &env->uring->ring;
	struct io_uring_cqe *cqe;
	int n;

	if (io_uring_cq_ready(ring))
		timeout_ns = 0;
	if (timeout_ns == 0) {
		if (!io_uring_sq_ready(ring) && !uring_task_run(ring))
			return;
		n = io_uring_submit_and_get_events(ring);
	} else if (timeout_ns == UINT64_MAX) {
		n = io_uring_submit_and_wait(ring, 1);
	} else {
		struct __kernel_timespec ts = { .tv_sec = (long long)(timeout_ns / 1000000000),
						.tv_nsec = (long long)(timeout_ns % 1000000000) };

		n = io_uring_submit_and_wait_timeout(ring, &cqe, 1, &ts, NULL);
	}
	/* Interrupted, timed out, or out of memory for a moment: what was not submitted is next time. */
	pst_assert(n >= 0 || n == -EINTR || n == -ETIME || n == -EAGAIN || n == -EBUSY || n == -ENOMEM);
}

/*
 * A request that a thread of the kernel carried out (a flush, a discard) may be complete to us before that thread lets
 * go of it, and letting go, with the file, is then work deferred to the next call of ours.
 */
static void uring_drop_finished(struct pst_env *env)
{
	if (env->uring->enabled)
		(void)io_uring_get_events(&env->uring->ring);
}

static void uring_enable(struct pst_env *env)
{
	/* liburing 2.3 declares io_uring_enable_rings but does not export it. */
	long n = syscall(__NR_io_uring_register, env->uring->ring.ring_fd, IORING_REGISTER_ENABLE_RINGS, NULL, 0);

	pst_assert(n >= 0);
	env->uring->enabled = true;
}

static unsigned uring_wait(struct pst_env *env, uint64_t timeout_ns)
{
	struct pst_uring *uring = env->uring;
	struct io_uring_cqe *cqe;
	unsigned ran = 0;
	uint64_t file_bytes = 0;

	if (!uring->enabled)
		uring_enable(env);
	if (!uring->wake_armed) {
		struct io_uring_sqe *sqe = uring_sqe(env);

		io_uring_prep_read(sqe, env->wake_fd, &uring->wake_value, sizeof(uring->wake_value), 0);
		uring_tag(sqe, URING_WAKE, NULL);
		uring->wake_armed = true;
	}
	uring_enter(env, timeout_ns);
	atomic_store(&env->asleep, false);
	if (io_uring_cq_ready(&uring->ring))
		pst_real_begin_turn(env);
	while (ran < CQES_PER_TURN && file_bytes < FILE_BYTES_PER_TURN && io_uring_peek_cqe(&uring->ring, &cqe) == 0) {
		uint64_t user_data = cqe->user_data;
		uint32_t flags = cqe->flags;
		int res = cqe->res;

		if ((user_data & URING_KIND_MASK) == URING_FILE && res > 0)
			file_bytes += (uint32_t)res;
		/* Before the handler, which may submit. */
		io_uring_cqe_seen(&uring->ring, cqe);
		uring_on_cqe(env, user_data, res, flags);
		ran++;
	}
	return ran;
}

static bool uring_ready(struct pst_env *env)
{
	struct io_uring *ring = &env->uring->ring;

	return io_uring_cq_ready(ring) || io_uring_sq_ready(ring) || uring_task_run(ring);
}

static void uring_free(struct pst_env *env)
{
	/* Listeners that were closed just before, on the thread that ran the shard. */
	for (int i = 0; i < LISTENERS_END_TURNS && env->uring->closing_listeners; i++)
		uring_wait(env, 1000000);
	io_uring_queue_exit(&env->uring->ring);
	free(env->uring);
}

/* ---- Starting ---- */

static void uring_refused(struct pst_env *env, int error)
{
	char disabled = '?';
	int fd = open("/proc/sys/kernel/io_uring_disabled", O_RDONLY | O_CLOEXEC);

	if (fd >= 0) {
		if (read(fd, &disabled, 1) != 1)
			disabled = '?';
		close(fd);
	}
	if (error == EPERM && disabled >= '1' && disabled <= '2')
		snprintf(env->reason, sizeof(env->reason), "io_uring is off here (sysctl kernel.io_uring_disabled=%c)",
			 disabled);
	else if (error == EPERM)
		snprintf(env->reason, sizeof(env->reason),
			 "io_uring is refused (EPERM), as container runtimes do by default");
	else if (error == EINVAL)
		snprintf(env->reason, sizeof(env->reason), "io_uring of this kernel is older than Linux 6.1");
	else
		snprintf(env->reason, sizeof(env->reason), "io_uring is not available: %s", strerror(error));
}

pst_err pst_uring_start(struct pst_env *env)
{
	static const struct pst_backend_ops ops = {
		.name = "io_uring",
		.wait = uring_wait,
		.ready = uring_ready,
		.drop_finished = uring_drop_finished,
		.free = uring_free,
		.file_start = uring_file_start,
		.listener_start = uring_listener_start,
		.listener_stop = uring_listener_stop,
		.stream_start = uring_stream_start,
		.stream_recv = uring_stream_recv,
		.stream_send = uring_stream_send,
		.stream_close = uring_stream_close,
	};
	struct io_uring_params params = { .flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN |
						   IORING_SETUP_TASKRUN_FLAG | IORING_SETUP_R_DISABLED |
						   IORING_SETUP_CQSIZE };
	uint32_t entries = PST_MIN(env->file_depth, 16384u) + SQ_EXTRA;
	int error;

	params.cq_entries = 4 * entries;
	env->uring = calloc(1, sizeof(*env->uring));
	if (!env->uring)
		return PST_E_NOMEM;
	error = -io_uring_queue_init_params(entries, &env->uring->ring, &params);
	if (error) {
		uring_refused(env, error);
		free(env->uring);
		env->uring = NULL;
		return PST_E_UNSUPPORTED;
	}
	snprintf(env->reason, sizeof(env->reason), "available");
	env->ops = &ops;
	return PST_OK;
}

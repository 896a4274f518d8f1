/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The loop of a real shard. A turn runs the posts that had arrived when it began, then due timers, then asks the
 * backend for events; each is bounded, so none can starve the others.
 *
 * Sleeping: the shard sets `asleep`, looks at the mailbox once more, and blocks; whoever posts pushes first and then,
 * if it finds `asleep`, clears it and writes the eventfd. Both orders are sequentially consistent, so either the shard
 * sees the post or the poster sees it asleep. A busy shard is never woken by a system call.
 *
 * Spinning: a shard that sleeps pays the wake-up of a core on the next request, one that always spins burns a core. It
 * spins only while the recent gap between pieces of work is shorter than the configured longest spin, for about twice
 * that gap. One long gap raises the average above the limit; then it sleeps at once until work is dense again.
 */
#include "env/logline.h"
#include "env/real.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#define TIMERS_PER_TURN 256u
#define PUT_OFF_MAX 3u

static uint64_t clock_ns(clockid_t id)
{
	struct timespec ts;

	clock_gettime(id, &ts);
	return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

uint64_t pst_real_now_ns(void)
{
	return clock_ns(CLOCK_MONOTONIC) + 1; /* never 0 */
}

uint64_t pst_env_now_ns(struct pst_env *env)
{
	(void)env;
	return pst_real_now_ns();
}

uint64_t pst_env_turn_ns(struct pst_env *env)
{
	return env->turn_ns;
}

uint64_t pst_env_wall_ns(struct pst_env *env)
{
	(void)env;
	return clock_ns(CLOCK_REALTIME);
}

void pst_env_random(struct pst_env *env, void *buf, size_t len_bytes)
{
	(void)env;
	for (size_t done = 0; done < len_bytes;) {
		ssize_t n = getrandom((char *)buf + done, len_bytes - done, 0);

		pst_assert(n > 0 || errno == EINTR);
		if (n > 0)
			done += (size_t)n;
	}
}

void pst_env_boot_id(struct pst_env *env, char ret[37])
{
	int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
	ssize_t n = fd >= 0 ? read(fd, ret, 36) : -1;

	(void)env;
	if (fd >= 0)
		close(fd);
	/* Without /proc nothing tells boots apart: every start then counts as a new boot, the safe side. */
	if (n != 36) {
		static const char hex[] = "0123456789abcdef";
		uint8_t random[36];

		pst_env_random(env, random, sizeof(random));
		for (int i = 0; i < 36; i++)
			ret[i] = i == 8 || i == 13 || i == 18 || i == 23 ? '-' : hex[random[i] & 15];
	}
	ret[36] = 0;
}

void pst_env_log(struct pst_env *env, enum pst_log_level level, const char *fmt, ...)
{
	char line[PST_LOGLINE_MAX];
	va_list args;
	size_t len;

	if (level > env->log_level)
		return;
	va_start(args, fmt);
	len = pst_logline_format(line, pst_env_wall_ns(env), level, fmt, args);
	va_end(args);
	/* One write per line keeps lines of several shards whole. A full or closed stderr must not stop a shard. */
	if (write(STDERR_FILENO, line, len) < 0)
		return;
}

void pst_timer_arm(struct pst_env *env, struct pst_timer *timer, uint64_t deadline_ns)
{
	pst_timers_arm(&env->timers, timer, deadline_ns);
}

void pst_timer_disarm(struct pst_env *env, struct pst_timer *timer)
{
	pst_timers_disarm(&env->timers, timer);
}

/* ---- Posts ---- */

static void env_wake(struct pst_env *env)
{
	uint64_t one = 1;

	/* Fails only when the counter is full, and then the shard is awake already. */
	if (write(env->wake_fd, &one, sizeof(one)) < 0)
		return;
}

void pst_env_post(struct pst_env *to, struct pst_post *post)
{
	post->next = atomic_load(&to->mailbox);
	while (!atomic_compare_exchange_weak(&to->mailbox, &post->next, post))
		;
	if (atomic_exchange(&to->asleep, false))
		env_wake(to);
}

void pst_env_stop(struct pst_env *env)
{
	atomic_store(&env->stop, true);
	if (atomic_exchange(&env->asleep, false))
		env_wake(env);
}

static unsigned env_run_posts(struct pst_env *env)
{
	struct pst_post *newest = atomic_exchange(&env->mailbox, NULL), *oldest = NULL;
	unsigned ran = 0;

	while (newest) {
		struct pst_post *post = newest;

		newest = post->next;
		post->next = oldest;
		oldest = post;
	}
	while (oldest) {
		struct pst_post *post = oldest;

		oldest = post->next;
		post->fn(post);
		ran++;
	}
	return ran;
}

/* ---- The loop ---- */

static unsigned env_run_own(struct pst_env *env)
{
	bool posts = atomic_load_explicit(&env->mailbox, memory_order_relaxed) != NULL;
	unsigned ran = 0;

	if (posts || pst_timers_first(&env->timers))
		pst_real_begin_turn(env);
	if (posts)
		ran += env_run_posts(env);
	if (pst_timers_first(&env->timers))
		ran += pst_timers_run(&env->timers, env->turn_ns, TIMERS_PER_TURN);
	return ran;
}

static void env_note_work(struct pst_env *env)
{
	uint64_t now_ns = pst_env_now_ns(env), gap_ns = now_ns - env->last_work_ns;

	/* Capped, so that dense work after a long pause is believed after a few requests. */
	gap_ns = PST_MIN(gap_ns, 16 * env->spin_ns_max);
	env->gap_ns = (7 * env->gap_ns + gap_ns) / 8;
	env->last_work_ns = now_ns;
}

static bool env_has_own_work(struct pst_env *env)
{
	return atomic_load(&env->mailbox) || atomic_load(&env->stop);
}

static uint64_t env_timeout(struct pst_env *env, uint64_t timeout_ns)
{
	struct pst_timer *timer = pst_timers_first(&env->timers);
	uint64_t now_ns;

	if (!timer)
		return timeout_ns;
	now_ns = pst_env_now_ns(env);
	return timer->deadline_ns <= now_ns ? 0 : PST_MIN(timeout_ns, timer->deadline_ns - now_ns);
}

static void cpu_relax(void)
{
#if defined(__x86_64__)
	__builtin_ia32_pause();
#elif defined(__aarch64__)
	__asm__ volatile("yield");
#endif
}

/* True when something came up. */
static bool env_spin(struct pst_env *env, uint64_t timeout_ns)
{
	uint64_t end_ns;

	if (env->spin_ns_max == 0 || env->gap_ns > env->spin_ns_max)
		return false;
	end_ns = env->last_work_ns + PST_MIN(env->spin_ns_max, 2 * env->gap_ns);
	do {
		uint64_t now_ns = pst_env_now_ns(env);

		if (env_has_own_work(env) || env->ops->ready(env))
			return true;
		if (now_ns >= end_ns)
			return false;
		if (end_ns - now_ns > timeout_ns)
			end_ns = now_ns + timeout_ns;
		cpu_relax();
	} while (true);
}

static unsigned env_wait(struct pst_env *env, uint64_t timeout_ns)
{
	unsigned ran;

	timeout_ns = env_timeout(env, timeout_ns);
	if (timeout_ns == 0 || env_has_own_work(env) || env_spin(env, timeout_ns))
		return env->ops->wait(env, 0);
	atomic_store(&env->asleep, true);
	if (env_has_own_work(env))
		timeout_ns = 0;
	ran = env->ops->wait(env, timeout_ns);
	atomic_store(&env->asleep, false);
	return ran;
}

unsigned pst_env_poll(struct pst_env *env, uint64_t timeout_ns)
{
	unsigned ran = env_run_own(env);

	/*
	 * What our own work wants of the kernel goes there with the wait that follows, in one system call instead of
	 * two or three: one turn may complete a request, the next one begin another. Bounded, since there may be such
	 * work each time.
	 */
	if (ran && timeout_ns > 0 && env->put_off < PUT_OFF_MAX) {
		env->put_off++;
		return ran;
	}
	env->put_off = 0;
	ran += env_wait(env, ran ? 0 : timeout_ns);
	if (ran == 0)
		ran = env_run_own(env);
	if (ran && env->spin_ns_max)
		env_note_work(env);
	return ran;
}

void pst_env_run(struct pst_env *env)
{
	while (!atomic_load(&env->stop))
		pst_env_poll(env, UINT64_MAX);
	atomic_store(&env->stop, false);
}

/* ---- Making and freeing ---- */

static pst_err env_start_auto(struct pst_env *env)
{
	const char *forced = getenv("PENSTOCK_IO");
	pst_err err;

	if (forced && strcmp(forced, "posix") == 0) {
		snprintf(env->reason, sizeof(env->reason), "PENSTOCK_IO=posix");
		err = pst_posix_start(env);
	} else if (!forced || strcmp(forced, "uring") == 0) {
		err = pst_uring_start(env);
		if (!forced && err == PST_E_UNSUPPORTED) /* the reason stays */
			err = pst_posix_start(env);
	} else {
		snprintf(env->reason, sizeof(env->reason),
			 "PENSTOCK_IO is '%.40s': set it to posix or uring, or unset it", forced);
		err = PST_E_INVAL;
	}
	if (err == PST_OK)
		pst_env_log(env, PST_LOG_INFO, "io_chosen backend=%s reason=\"%s\"", env->ops->name, env->reason);
	return err;
}

static pst_err env_start(struct pst_env *env, enum pst_env_backend backend)
{
	switch (backend) {
	case PST_ENV_URING:
		return pst_uring_start(env);
	case PST_ENV_POSIX:
		snprintf(env->reason, sizeof(env->reason), "asked for");
		return pst_posix_start(env);
	case PST_ENV_AUTO:
		return env_start_auto(env);
	}
	return PST_E_INVAL;
}

pst_err pst_env_new(const struct pst_env_config *config, struct pst_env **ret_env)
{
	struct pst_env *env = calloc(1, sizeof(*env));
	pst_err err;

	if (!env)
		return PST_E_NOMEM;
	env->log_level = config->log_level;
	env->file_depth = config->file_depth ? config->file_depth : 256;
	env->disk_threads = config->disk_threads ? config->disk_threads : 4;
	env->spin_ns_max = (uint64_t)config->spin_us * 1000;
	env->gap_ns = 16 * env->spin_ns_max;
	env->last_work_ns = env->turn_ns = pst_env_now_ns(env);
	env->epoll_fd = -1;
	pst_list_init(&env->file_waiting);
	pst_list_init(&env->listeners);
	env->wake_fd = eventfd(0, EFD_CLOEXEC);
	if (env->wake_fd < 0) {
		err = pst_real_errno(errno);
		free(env);
		return err;
	}
	err = env_start(env, config->backend);
	if (err != PST_OK) {
		pst_env_log(env, PST_LOG_ERROR, "io_start_failed reason=\"%s\"", env->reason);
		close(env->wake_fd);
		free(env);
		return err;
	}
	*ret_env = env;
	return PST_OK;
}

const char *pst_env_backend_name(struct pst_env *env)
{
	return env->ops->name;
}

const char *pst_env_backend_reason(struct pst_env *env)
{
	return env->reason;
}

void pst_env_free(struct pst_env *env)
{
	if (!env)
		return;
	pst_assert(env->open_files == 0 && env->open_streams == 0 && pst_list_empty(&env->listeners));
	env->ops->free(env);
	close(env->wake_fd);
	free(env);
}

pst_err pst_real_errno(int error)
{
	switch (error) {
	case 0:
		return PST_OK;
	case ENOMEM:
	case ENOBUFS:
	case EMFILE:
	case ENFILE:
		return PST_E_NOMEM;
	case ENOSPC:
	case EDQUOT:
	case EFBIG:
		return PST_E_NOSPACE;
	case ENOENT:
	case ENOTDIR:
	case ENXIO:
	case ENODEV:
		return PST_E_NOTFOUND;
	case EACCES:
	case EPERM:
	case EROFS:
		return PST_E_DENIED;
	case EBUSY:
		return PST_E_LOCKED;
	case EADDRINUSE:
		return PST_E_ADDRINUSE;
	case EADDRNOTAVAIL:
	case EAFNOSUPPORT:
	case EINVAL:
		return PST_E_INVAL;
	case ECONNREFUSED:
		return PST_E_REFUSED;
	case ETIMEDOUT:
	case EHOSTUNREACH:
	case ENETUNREACH:
		return PST_E_TIMEOUT;
	case ECONNRESET:
	case ECONNABORTED:
	case EPIPE:
	case ENOTCONN:
		return PST_E_CLOSED;
	case ECANCELED:
		return PST_E_CANCELLED;
	case EOPNOTSUPP:
		return PST_E_UNSUPPORTED;
	default:
		return PST_E_IO;
	}
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The keeper process. Model:
 *
 *   CONNECT -> START -> READY -> (persist | digest)* -> FINISH -> STOP -> gone
 *
 * The main thread walks through these states and waits for messages in READY. A second thread waits for SIGTERM: it
 * sets `giving_up` and closes the namespace, which fails every request in flight, so that a main thread stuck in
 * mount, umount or a copy comes back with an error and goes on to STOP. The end of the starter's socket is an order to
 * FINISH and STOP (unless detached). A mount that somebody else unmounts ends the keeper too.
 */
#include "mount/keeper.h"
#include "mount/localmount.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MESSAGE_MAX 8192
/* The starter is gone: its daemon may be going too, and nobody waits for the outcome. */
#define STARTER_GONE_PATIENCE_S 8

static const struct pst_keeper_ops *const paths[PST_MOUNT_PATHS] = {
	[PST_MOUNT_KERNEL] = &pst_keeper_kernel,
	[PST_MOUNT_FUSE_LOOP] = &pst_keeper_fuse_loop,
	[PST_MOUNT_FUSE2FS] = &pst_keeper_fuse2fs,
	[PST_MOUNT_STAGED] = &pst_keeper_staged,
};

double pst_keeper_seconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

pst_err pst_keeper_fail(struct pst_keeper *k, pst_err err, const char *hint, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(k->text, sizeof(k->text), fmt, ap);
	va_end(ap);
	snprintf(k->hint, sizeof(k->hint), "%s", hint != NULL ? hint : "");
	return err;
}

pst_err pst_keeper_filesystem(struct pst_keeper *k, const char **ret_fs, bool *ret_make)
{
	const struct pst_attach_spec *spec = k->spec;
	enum pst_volume_content content = PST_CONTENT_UNKNOWN;
	char text[200];
	pst_err err = pst_content_probe(&k->io, &content);

	*ret_make = false;
	if (err != PST_OK)
		return pst_keeper_fail(k, err, NULL, "volume '%s' can't be read: %s", spec->volume, pst_err_text(err));
	if (content == PST_CONTENT_EXT4 || content == PST_CONTENT_XFS) {
		*ret_fs = content == PST_CONTENT_EXT4 ? "ext4" : "xfs";
		return PST_OK;
	}
	if (content == PST_CONTENT_UNKNOWN || !spec->blank)
		return pst_keeper_fail(k, PST_E_FORMAT, "penstock volume delete VOLUME, if its contents are not needed",
				       "volume '%s' holds data that is no ext4 or xfs; it is not formatted",
				       spec->volume);
	if (spec->ro)
		return pst_keeper_fail(k, PST_E_FORMAT, "mount it without --ro once",
				       "volume '%s' is blank, and read-only was asked for", spec->volume);
	*ret_fs = spec->fs;
	k->formatted = true;
	if (strcmp(spec->fs, "xfs") == 0) {
		*ret_make = true;
		return PST_OK;
	}
	double begin = pst_keeper_seconds();
	err = pst_ext4_format(&k->io, text);
	k->format_s = pst_keeper_seconds() - begin;
	if (err == PST_OK)
		return PST_OK;
	/* Half a file system would be "unknown data" for the next attempt. */
	(void)pst_nsio_zero(&k->io, 0, k->io.info.size_bytes);
	return pst_keeper_fail(k, err, NULL, "formatting volume '%s': %s", spec->volume, text);
}

/* ---- messages ---- */

/* How the end was ordered. */
struct ending {
	bool discard; /* what is not on the volume yet is not wanted */
	bool polite;  /* not while a process still uses the directory */
	bool check;   /* say whether the file system was left clean */
};

static void answer(int fd, json_t *message)
{
	char text[MESSAGE_MAX];
	size_t len = message != NULL ? json_dumpb(message, text, sizeof(text), JSON_COMPACT) : 0;

	json_decref(message);
	if (len > 0 && len <= sizeof(text))
		(void)!send(fd, text, len, MSG_NOSIGNAL);
}

static void answer_error(struct pst_keeper *k, int fd, pst_err err)
{
	answer(fd, json_pack("{s:s, s:s, s:s, s:s}", "event", "error", "code", pst_err_name(err), "message", k->text,
			     "hint", k->hint));
}

static void do_persist(struct pst_keeper *k, int fd, json_int_t id, const char *path)
{
	size_t len = strlen(k->spec->dir);
	pst_err err;

	if (strncmp(path, k->spec->dir, len) != 0 || (path[len] != '/' && path[len] != '\0') ||
	    strstr(path, "/../") != NULL)
		err = pst_keeper_fail(k, PST_E_INVAL, NULL, "'%s' is not on volume '%s'", path, k->spec->volume);
	else
		err = k->ops->persist(k, path);
	answer(fd, json_pack("{s:s, s:I, s:b, s:s}", "event", "persisted", "id", id, "ok", err == PST_OK, "message",
			     err == PST_OK ? "" : k->text));
}

static void do_digest(struct pst_keeper *k, int fd, json_int_t id, const char *path)
{
	uint64_t files = 0, bytes = 0;
	char *full = NULL, hex[65] = "";
	struct pst_attach_figures before, after;

	pst_nsio_figures(&k->io, &before);
	pst_err err = asprintf(&full, "%s/%s", k->spec->dir, path) < 0 ? PST_E_NOMEM : PST_OK;

	if (err == PST_OK)
		err = pst_tree_digest(full, hex, &files, &bytes);
	free(full);
	pst_nsio_figures(&k->io, &after);
	answer(fd,
	       json_pack("{s:s, s:I, s:I, s:I, s:b, s:s, s:I, s:I, s:s}", "event", "digest", "id", id, "bytes_read",
			 (json_int_t)(after.stats.bytes_read - before.stats.bytes_read), "reads",
			 (json_int_t)(after.stats.requests[PST_REQUEST_READ] - before.stats.requests[PST_REQUEST_READ]),
			 "ok", err == PST_OK, "sha256", hex, "files", (json_int_t)files, "bytes", (json_int_t)bytes,
			 "message", pst_err_text(err)));
}

/* True when the keeper shall end; *ending then says how. */
static bool handle(struct pst_keeper *k, int fd, const char *text, size_t len, struct ending *ending)
{
	json_t *message = json_loadb(text, len, 0, NULL);
	const char *op = json_string_value(json_object_get(message, "op"));
	const char *path = json_string_value(json_object_get(message, "path"));
	json_int_t id = json_integer_value(json_object_get(message, "id"));
	bool end = false;

	if (op != NULL && strcmp(op, "persist") == 0 && path != NULL) {
		do_persist(k, fd, id, path);
	} else if (op != NULL && strcmp(op, "digest") == 0 && path != NULL) {
		do_digest(k, fd, id, path);
	} else if (op != NULL && strcmp(op, "detach") == 0) {
		ending->discard = json_is_true(json_object_get(message, "discard"));
		ending->polite = json_is_true(json_object_get(message, "polite"));
		ending->check = json_is_true(json_object_get(message, "check"));
		end = true;
	}
	json_decref(message);
	return end;
}

/* One message from a visitor of extra_fd (umount); returns its socket when it asked for the end, else -1. */
static int visitor(struct pst_keeper *k, struct ending *ending)
{
	int fd = accept4(k->spec->extra_fd, NULL, NULL, SOCK_CLOEXEC);
	char text[MESSAGE_MAX];
	struct pollfd p = { fd, POLLIN, 0 };

	if (fd < 0)
		return -1;
	ssize_t n = poll(&p, 1, 2000) == 1 ? recv(fd, text, sizeof(text), MSG_DONTWAIT) : -1;
	if (n > 0 && handle(k, fd, text, (size_t)n, ending))
		return fd;
	close(fd);
	return -1;
}

/* READY: until the end is ordered. Returns the socket that ordered it (the caller answers), or -1 for nobody. */
static int serve(struct pst_keeper *k, int fd, struct ending *ending)
{
	int mounts = open("/proc/self/mountinfo", O_RDONLY | O_CLOEXEC), ended = -1;
	bool mounted = pst_mountinfo_has(k->spec->dir), run = true;

	while (run && !atomic_load(&k->giving_up)) {
		struct pollfd p[4] = {
			{ fd, POLLIN, 0 },
			{ k->ops->poll_fd != NULL ? k->ops->poll_fd(k) : -1, POLLIN, 0 },
			{ mounts, POLLPRI, 0 },
			{ k->spec->extra_fd, POLLIN, 0 },
		};
		char text[MESSAGE_MAX];

		if (poll(p, 4, 200) < 0 && errno != EINTR)
			break;
		if (p[1].revents & POLLIN)
			k->ops->poll(k);
		if (p[0].revents & (POLLIN | POLLHUP)) {
			ssize_t n = recv(fd, text, sizeof(text), MSG_DONTWAIT);

			if (n > 0 && handle(k, fd, text, (size_t)n, ending)) {
				ended = fd;
				run = false;
			} else if (n == 0 && k->spec->detached) {
				fd = -1; /* the starter is gone, and may be */
			} else if (n == 0) {
				alarm(STARTER_GONE_PATIENCE_S);
				run = false;
			}
		}
		if (run && p[3].revents & POLLIN && (ended = visitor(k, ending)) >= 0)
			run = false;
		if (run && mounted && p[2].revents != 0 && !pst_mountinfo_has(k->spec->dir))
			run = false;
	}
	if (mounts >= 0)
		close(mounts);
	return ended;
}

/* ---- life ---- */

static void *signal_main(void *arg)
{
	struct pst_keeper *k = arg;
	sigset_t set;
	int sig;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGALRM);
	while (sigwait(&set, &sig) != 0)
		;
	atomic_store(&k->giving_up, true);
	pst_nsio_close(&k->io);
	return NULL;
}

static pst_err connect_volume(struct pst_keeper *k, struct pst_attach_shared *shared)
{
	const struct pst_attach_spec *spec = k->spec;
	pst_err err = pst_nsio_open(spec, shared, &k->io);

	if (err != PST_OK)
		return pst_keeper_fail(k, err,
				       err == PST_E_DENIED || err == PST_E_KEY
					   ? "export PENSTOCK_HOST_NQN=NQN PENSTOCK_HOST_KEY=FILE (or "
					     "PENSTOCK_TLS_KEY); see penstock-host(1)"
					   : "penstock volume show VOLUME, for its addresses",
				       "volume '%s' can't be reached at %s port %u: %s", spec->volume, spec->traddr,
				       spec->trsvcid, pst_err_text(err));
	return PST_OK;
}

/* For those who look for this keeper by its directory. */
static void publish_place(const struct pst_attach_spec *spec, bool there)
{
	char link[256];

	if (spec->socket_path == NULL)
		return;
	snprintf(link, sizeof(link), "%s.dir", spec->socket_path);
	(void)unlink(link);
	if (there)
		(void)!symlink(spec->dir, link);
	else
		(void)unlink(spec->socket_path);
}

#define POLITE_PATIENCE_MS 1000

/*
 * READY, until an order to end is followed. A polite one is refused while the directory is in use: unmounting it under
 * a process that writes would lose what it writes next.
 */
static pst_err serve_and_finish(struct pst_keeper *k, int *fd, struct ending *ending)
{
	for (;;) {
		*ending = (struct ending){ 0 };
		int starter = *fd, ordered = serve(k, *fd, ending);
		pst_err err = PST_OK;

		if (!ending->discard && !atomic_load(&k->giving_up))
			err = k->ops->finish(k);
		if (err != PST_OK || ordered < 0 || !ending->polite ||
		    pst_local_umount_idle(k->spec->dir, POLITE_PATIENCE_MS)) {
			*fd = ordered;
			return err;
		}
		answer_error(k, ordered,
			     pst_keeper_fail(k, PST_E_BUSY,
					     "end what uses it (fuser -vm DIR shows it), or penstock umount --force",
					     "%s is in use; it stays mounted", k->spec->dir));
		close(ordered);
		*fd = starter == ordered ? -1 : starter;
	}
}

/* After everything was taken down; the kernel's path has closed our own connection, so there it is opened once more. */
static bool left_clean(struct pst_keeper *k)
{
	struct pst_nsio again;
	bool clean = false, open = k->spec->path != PST_MOUNT_KERNEL;

	if (k->torn || atomic_load(&k->giving_up) || (!open && pst_nsio_open(k->spec, NULL, &again) != PST_OK))
		return false;
	if (pst_ext4_clean(open ? &k->io : &again, &clean) != PST_OK)
		clean = false;
	if (!open)
		pst_nsio_close(&again);
	return clean;
}

static int keeper_main(const struct pst_attach_spec *spec, int fd, struct pst_attach_shared *shared)
{
	struct pst_keeper *k = calloc(1, sizeof(*k));
	struct ending ending = { 0 };
	bool clean = false;
	pthread_t signals;
	pst_err err;

	if (k == NULL)
		return 1;
	k->spec = spec;
	k->ops = paths[spec->path];
	double begin = pst_keeper_seconds();
	if ((err = connect_volume(k, shared)) != PST_OK) {
		answer_error(k, fd, err);
		return 1;
	}
	if (pthread_create(&signals, NULL, signal_main, k) != 0)
		return 1;
	publish_place(spec, true);
	err = k->ops->start(k);
	if (err == PST_OK) {
		answer(fd, json_pack("{s:s, s:s, s:b, s:f, s:f}", "event", "ready", "path",
				     pst_mount_path_name(spec->path), "formatted", k->formatted, "format_s",
				     k->format_s, "attach_s", pst_keeper_seconds() - begin));
		err = serve_and_finish(k, &fd, &ending);
	}
	k->ops->stop(k);
	if (err == PST_OK && ending.check)
		clean = left_clean(k);
	publish_place(spec, false);
	pst_nsio_close(&k->io);
	if (err != PST_OK && fd >= 0)
		answer_error(k, fd, err);
	else if (fd >= 0)
		answer(fd, json_pack("{s:s, s:b}", "event", "detached", "clean", clean));
	/* The signal thread may be inside pst_nsio_close: the process ends, its memory goes with it. */
	return err == PST_OK ? 0 : 1;
}

/* In the child: own group, no signals but SIGTERM (which has a thread), no descriptors of the starter. */
static _Noreturn void child(const struct pst_attach_spec *spec, int fd, struct pst_attach_shared *shared)
{
	struct pst_attach_spec own = *spec;
	sigset_t all;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, NULL);
	signal(SIGCHLD, SIG_DFL);
	if (spec->detached) {
		/* Whoever reads what `penstock mount` prints must see its end. */
		int null = open("/dev/null", O_RDWR | O_CLOEXEC);

		for (int i = 0; i < 3 && null >= 0; i++)
			dup2(null, i);
		setsid();
	} else {
		setpgid(0, 0);
	}
	prctl(PR_SET_NAME, "penstock-keeper");
	/* 3: the starter; 4: visitors. Moved up first, so that neither overwrites the other. */
	int a = fcntl(fd, F_DUPFD_CLOEXEC, 10),
	    b = spec->extra_fd >= 0 ? fcntl(spec->extra_fd, F_DUPFD_CLOEXEC, 10) : -1;
	dup3(a, 3, O_CLOEXEC);
	if (b >= 0)
		own.extra_fd = dup3(b, 4, O_CLOEXEC);
	close_range(b >= 0 ? 5 : 4, ~0u, 0);
	_exit(keeper_main(&own, 3, shared));
}

pst_err pst_attach_start(const struct pst_attach_spec *spec, struct pst_attach *ret_attach)
{
	struct pst_attach_shared *shared =
	    mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	int fds[2];

	if (shared == MAP_FAILED)
		return PST_E_NOMEM;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) != 0) {
		munmap(shared, sizeof(*shared));
		return PST_E_NOMEM;
	}
	fflush(NULL);
	pid_t pid = fork();
	if (pid == 0)
		child(spec, fds[1], shared);
	close(fds[1]);
	if (pid < 0) {
		close(fds[0]);
		munmap(shared, sizeof(*shared));
		return PST_E_NOMEM;
	}
	*ret_attach = (struct pst_attach){ pid, fds[0], shared };
	return PST_OK;
}

pst_err pst_attach_send(struct pst_attach *attach, json_t *op)
{
	char text[MESSAGE_MAX];
	size_t len = json_dumpb(op, text, sizeof(text), JSON_COMPACT);

	json_decref(op);
	if (len == 0 || len > sizeof(text))
		return PST_E_INVAL;
	return send(attach->fd, text, len, MSG_NOSIGNAL) == (ssize_t)len ? PST_OK : PST_E_CLOSED;
}

pst_err pst_attach_receive(struct pst_attach *attach, int timeout_ms, json_t **ret_message)
{
	struct pollfd p = { attach->fd, POLLIN, 0 };
	char text[MESSAGE_MAX];

	int ready = poll(&p, 1, timeout_ms);
	if (ready == 0 || (ready < 0 && errno == EINTR))
		return PST_E_AGAIN;
	ssize_t n = recv(attach->fd, text, sizeof(text), MSG_DONTWAIT);
	if (n <= 0)
		return n < 0 && errno == EAGAIN ? PST_E_AGAIN : PST_E_CLOSED;
	*ret_message = json_loadb(text, (size_t)n, 0, NULL);
	return *ret_message != NULL ? PST_OK : PST_E_CLOSED;
}

void pst_attach_live(const struct pst_attach *attach, struct pst_attach_figures *ret_figures)
{
	unsigned before, after;

	/* The writer is short; if it died in the middle, what is there is the best there is. */
	for (int tries = 0; tries < 1000; tries++) {
		before = atomic_load(&attach->shared->sequence);
		*ret_figures = attach->shared->figures;
		after = atomic_load(&attach->shared->sequence);
		if (before == after && before % 2 == 0)
			return;
	}
}

void pst_attach_done(struct pst_attach *attach)
{
	if (attach->pid > 0)
		while (waitpid(attach->pid, NULL, 0) < 0 && errno == EINTR)
			;
	if (attach->pid > 0) {
		close(attach->fd);
		munmap(attach->shared, sizeof(*attach->shared));
	}
	*attach = (struct pst_attach){ 0, -1, NULL };
}

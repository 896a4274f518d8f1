/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The daemon of a run: one that answers, or an own penstockd on a pool directory. Model of the own one:
 *
 *   runner --leash (pipe)--> guardian --fork--> penstockd
 *
 * The guardian ends the daemon when the leash breaks: at once if the runner wrote a byte first (orderly), after 10 s if
 * it just died, so that keepers can still write back and take their mounts down. The guardian's death takes the daemon
 * with it (PDEATHSIG). Both sit in a process group of their own: Ctrl-C is for the runner, which ends steps and volumes
 * before the daemon.
 *
 * A daemon that was stopped in an orderly way (exit 0) was stopped by someone: steps stall until it is back, and the
 * progress says so. One that crashed is started again, on the same port, at most 10 times.
 */
#include "control/client.h"
#include "control/daemon.h"
#include "pipeline/runner.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define RESTARTS_MAX 10u

static _Noreturn void exec_daemon(struct runner *r, int ready_fd, const char *pool, const char *listen)
{
	char fd_text[16], *log = NULL;
	sigset_t none;

	prctl(PR_SET_PDEATHSIG, SIGTERM);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	if (asprintf(&log, "%s/logs/penstockd.log", r->record) < 0)
		_exit(127);
	int out = open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644),
	    null = open("/dev/null", O_RDONLY | O_CLOEXEC);
	dup2(null, 0);
	dup2(out, 1);
	dup2(out, 2);
	fcntl(ready_fd, F_SETFD, 0);
	snprintf(fd_text, sizeof(fd_text), "%d", ready_fd);
	execlp(r->options->penstockd, r->options->penstockd, "--pool", pool, "--listen", listen, "--api", r->daemon.api,
	       "--ready-fd", fd_text, (char *)NULL);
	dprintf(2, "penstock: %s: %s\n", r->options->penstockd, strerror(errno));
	_exit(127);
}

static _Noreturn void guardian(struct runner *r, int leash, int ready_fd, const char *pool, const char *listen)
{
	char byte;
	sigset_t all;
	int status = 0;

	setpgid(0, 0);
	prctl(PR_SET_NAME, "penstock-guard");
	int a = fcntl(leash, F_DUPFD_CLOEXEC, 10), b = fcntl(ready_fd, F_DUPFD_CLOEXEC, 10);
	dup3(a, 3, O_CLOEXEC);
	dup3(b, 4, O_CLOEXEC);
	close_range(5, ~0u, 0);
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, NULL);
	signal(SIGCHLD, SIG_DFL);
	fflush(NULL);
	pid_t pid = fork();
	if (pid == 0)
		exec_daemon(r, 4, pool, listen);
	close(4);
	struct pollfd p = { 3, POLLIN, 0 };
	while (waitpid(pid, &status, WNOHANG) == 0) {
		if (poll(&p, 1, 100) <= 0)
			continue;
		if (read(3, &byte, 1) != 1)
			for (int i = 0; i < 100 && waitpid(pid, &status, WNOHANG) == 0; i++)
				usleep(100000);
		kill(pid, SIGTERM);
		for (int i = 0; i < 100 && waitpid(pid, &status, WNOHANG) == 0; i++)
			usleep(100000);
		kill(pid, SIGKILL);
		(void)waitpid(pid, &status, 0);
		break;
	}
	_exit(WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status));
}

/* Can @port be had on the loopback address? Only a hint: the daemon may still lose a race, and says so. */
static bool port_free(unsigned port)
{
	struct sockaddr_in addr = { .sin_family = AF_INET,
				    .sin_port = htons((uint16_t)port),
				    .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	(void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	bool ok = fd >= 0 && bind(fd, (struct sockaddr *)&addr, sizeof(addr)) == 0 && listen(fd, 1) == 0;
	if (fd >= 0)
		close(fd);
	return ok;
}

/* The readiness line, or NULL when the daemon ended, the user interrupts, or 60 s passed. */
static json_t *await_ready(int fd)
{
	char line[4096];
	size_t used = 0;
	json_t *ready = NULL;
	double until = run_now() + 60;

	while (used < sizeof(line) - 1 && run_now() < until && !run_interrupted()) {
		struct pollfd p = { fd, POLLIN, 0 };

		if (poll(&p, 1, 100) == 0)
			continue;
		ssize_t n = read(fd, line + used, sizeof(line) - 1 - used);
		if (n <= 0)
			break;
		used += (size_t)n;
		if (memchr(line, '\n', used) != NULL) {
			ready = json_loadb(line, (size_t)((char *)memchr(line, '\n', used) - line), 0, NULL);
			break;
		}
	}
	return ready;
}

/* 0, or the exit code of a daemon that did not come up (enum in control/daemon.h, or 127: no such program). */
static int start(struct runner *r, const char *listen)
{
	struct run_daemon *d = &r->daemon;
	int leash[2], ready[2];
	char *own_pool = NULL;
	const char *pool = r->options->pool;
	int status = 0;

	if (pool == NULL && asprintf(&own_pool, "%s/pool", r->state) >= 0)
		pool = own_pool;
	if (pipe2(leash, O_CLOEXEC) != 0 || pipe2(ready, O_CLOEXEC) != 0)
		return PST_DAEMON_FAILED;
	fflush(NULL);
	pid_t pid = fork();
	if (pid == 0)
		guardian(r, leash[0], ready[1], pool, listen);
	close(leash[0]);
	close(ready[1]);
	json_t *line = pid > 0 ? await_ready(ready[0]) : NULL;
	close(ready[0]);
	free(own_pool);
	if (line == NULL) {
		(void)!write(leash[1], "x", 1); /* one that is still starting ends at once */
		close(leash[1]);
		while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR)
			;
		return WIFEXITED(status) && WEXITSTATUS(status) != 0 ? WEXITSTATUS(status) : PST_DAEMON_FAILED;
	}
	d->guardian = pid;
	d->leash = leash[1];
	d->own = true;
	d->gone = false;
	d->pid = (int)json_integer_value(json_object_get(line, "pid"));
	const char *io = json_string_value(json_object_get(line, "io"));
	const char *at = json_string_value(json_array_get(json_object_get(line, "listen"), 0));
	snprintf(d->io, sizeof(d->io), "%s", io != NULL ? io : "unknown");
	snprintf(d->listen, sizeof(d->listen), "%s", at != NULL ? at : listen);
	json_decref(line);
	return 0;
}

/* Why it did not come up: its own last words. */
static enum pst_run_result complain(struct runner *r, int code)
{
	char *path = NULL, line[600], last[600] = "";

	if (run_interrupted())
		return PST_RUN_INTERRUPTED;
	FILE *f = asprintf(&path, "%s/logs/penstockd.log", r->record) >= 0 ? fopen(path, "re") : NULL;
	while (f != NULL && fgets(line, sizeof(line), f) != NULL)
		if (strncmp(line, "penstock", 8) == 0) {
			line[strcspn(line, "\n")] = '\0';
			snprintf(last, sizeof(last), "%s", strchr(line, ':') != NULL ? strchr(line, ':') + 1 : line);
		}
	if (f != NULL)
		fclose(f);
	fprintf(stderr, "penstock: the daemon of this run did not start:%s\n  its log: %s\n",
		last[0] != '\0' ? last : " it did not say why", path);
	free(path);
	return code == PST_DAEMON_CONFLICT      ? PST_RUN_CONFLICT
	       : code == PST_DAEMON_NO_SPACE    ? PST_RUN_NO_SPACE
	       : code == PST_DAEMON_UNSUPPORTED ? PST_RUN_UNSUPPORTED
						: PST_RUN_NO_DAEMON;
}

/* Does a daemon answer at @url? What it says about itself goes to @d, if that is not NULL. */
static bool answers(const char *url, struct run_daemon *d)
{
	struct pst_api_error e = { 0 };
	json_t *health = NULL;
	bool ok = pst_api_call(url, "GET", "/healthz", NULL, &health, &e) == PST_OK || e.http_status > 0;
	const char *io = json_string_value(json_object_get(health, "io"));

	/* An older daemon does not say it. */
	if (ok && d != NULL)
		snprintf(d->io, sizeof(d->io), "%s", io != NULL ? io : "unknown");
	json_decref(health);
	return ok;
}

enum pst_run_result daemon_open(struct runner *r)
{
	struct run_daemon *d = &r->daemon;
	char url[256];
	const char *api = pst_api_url(r->options->api, url);
	bool asked = r->options->api != NULL || getenv("PENSTOCK_URL") != NULL;

	d->leash = -1;
	/* --pool asks for a daemon on that pool: whoever else answers is not meant. */
	if ((asked || r->options->pool == NULL) && answers(api, d)) {
		snprintf(d->api, sizeof(d->api), "%s", api);
		progress_line(r, "daemon at %s: %s", d->api, d->io);
		return PST_RUN_OK;
	}
	if (asked) {
		fprintf(stderr, "penstock: no daemon answers at %s\n  try: penstockd --pool DIR\n", api);
		return PST_RUN_NO_DAEMON;
	}
	unsetenv(PST_API_TOKEN_FILE); /* a token of another daemon: this one knows none, and needs none */
	snprintf(d->api, sizeof(d->api), "unix:%s/daemon.api", r->sockets);
	bool free_port = port_free(4420);
	if (!free_port)
		progress_line(r, "port 4420 is taken: the daemon of this run listens on another");
	int code = start(r, free_port ? "127.0.0.1:4420" : "127.0.0.1:0");
	if (code == PST_DAEMON_CONFLICT && free_port) /* somebody was quicker; or the pool is open elsewhere */
		code = start(r, "127.0.0.1:0");
	if (code != 0)
		return complain(r, code);
	progress_line(r, "own daemon: pid %d, %s, listens on %s", d->pid, d->io, d->listen);
	return PST_RUN_OK;
}

void daemon_child(struct runner *r, pid_t pid, int status)
{
	struct run_daemon *d = &r->daemon;

	if (pid != d->guardian)
		return;
	d->guardian = 0;
	d->gone = true;
	close(d->leash);
	d->leash = -1;
	bool orderly = WIFEXITED(status) && WEXITSTATUS(status) == 0;
	if (!orderly && d->restarts < RESTARTS_MAX) {
		progress_line(r, "the daemon has died (%d): steps that use volumes stall; the runner starts it again",
			      WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
		d->restart_at = run_now() + 2.0;
	} else {
		progress_line(r,
			      "the daemon was stopped: steps that use volumes stall until you start it again: "
			      "penstockd --pool %s%s "
			      "--listen %s --api %s",
			      r->options->pool != NULL ? r->options->pool : r->state,
			      r->options->pool != NULL ? "" : "/pool", d->listen, d->api);
		d->restart_at = 0;
	}
}

void daemon_tick(struct runner *r)
{
	struct run_daemon *d = &r->daemon;

	if (!d->gone || d->restart_at == 0 || run_now() < d->restart_at || r->cancelling)
		return;
	d->restarts++;
	if (start(r, d->listen) == 0) {
		progress_line(r, "the daemon is back: pid %d", d->pid);
	} else if (answers(d->api, d)) {
		progress_line(r, "somebody has started the daemon again");
		d->gone = false;
	} else {
		d->restart_at = d->restarts < RESTARTS_MAX ? run_now() + 3.0 : 0;
		progress_line(r, "the daemon does not start (see logs/penstockd.log)%s",
			      d->restart_at > 0 ? "; trying again" : "; start it by hand");
	}
}

void daemon_close(struct runner *r)
{
	struct run_daemon *d = &r->daemon;

	if (d->guardian <= 0)
		return;
	(void)!write(d->leash, "x", 1);
	close(d->leash);
	while (waitpid(d->guardian, NULL, 0) < 0 && errno == EINTR)
		;
	d->guardian = 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 *   command --leash (pipe)--> guardian --fork--> penstockd
 *
 * The guardian ends the daemon when the leash breaks: at once if the command wrote a byte first (orderly), after
 * linger_ms if it just died, so that keepers can still write back and take their mounts down. The guardian's death
 * takes the daemon with it (PDEATHSIG). Both sit in a process group of their own: Ctrl-C is for the command, which ends
 * what uses the daemon first. The daemon gets the write end of a pipe as --ready-fd: one line of JSON when it serves,
 * end of file when it has ended before.
 */
#include "control/own-daemon.h"
#include "control/client.h"
#include "control/daemon.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <libgen.h>
#include <limits.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define LOOK_MS 100
#define READY_LOOKS 600 /* 60 s */
#define STOP_MS 10000u
#define NO_PROGRAM 127

/* In the guardian and the daemon; after LEASH and READY nothing is open. */
enum { LEASH = 3, READY };

/* "penstockd" beside us, else by PATH. */
static void find_program(char *ret, size_t bytes)
{
	char self[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);

	if (n > 0) {
		self[n] = '\0';
		if ((size_t)snprintf(ret, bytes, "%s/penstockd", dirname(self)) < bytes && access(ret, X_OK) == 0)
			return;
	}
	snprintf(ret, bytes, "penstockd");
}

static _Noreturn void exec_daemon(const struct pst_own_daemon_config *config, const char *listen)
{
	int out = open(config->log_path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
	int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
	char program[PATH_MAX], ready[16];
	const char *argv[12] = { program, "--pool", config->pool, "--listen", listen, "--api", config->api };
	size_t n = 7;
	sigset_t none;

	prctl(PR_SET_PDEATHSIG, SIGTERM);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	dup2(null, STDIN_FILENO);
	dup2(out, STDOUT_FILENO);
	dup2(out, STDERR_FILENO);
	find_program(program, sizeof(program));
	fcntl(READY, F_SETFD, 0);
	snprintf(ready, sizeof(ready), "%d", READY);
	argv[n++] = "--ready-fd";
	argv[n++] = ready;
	if (config->pool_size != NULL) {
		argv[n++] = "--pool-size";
		argv[n++] = config->pool_size;
	}
	execvp(program, (char *const *)(uintptr_t)argv);
	dprintf(STDERR_FILENO, "penstock: %s: %s\n", program, strerror(errno));
	_exit(errno == ENOENT ? NO_PROGRAM : PST_DAEMON_FAILED);
}

/* False: it still runs. */
static bool ends_within(pid_t pid, unsigned ms, int *ret_status)
{
	for (unsigned waited = 0; waitpid(pid, ret_status, WNOHANG) == 0; waited += LOOK_MS) {
		if (waited >= ms)
			return false;
		nanosleep(&(struct timespec){ .tv_nsec = LOOK_MS * 1000000 }, NULL);
	}
	return true;
}

static _Noreturn void guard(const struct pst_own_daemon_config *config, const char *listen, int leash, int ready)
{
	struct pollfd p = { LEASH, POLLIN, 0 };
	int a, b, status = 0;
	sigset_t all;
	char byte;
	pid_t pid;

	setpgid(0, 0);
	prctl(PR_SET_NAME, "penstock-guard");
	a = fcntl(leash, F_DUPFD_CLOEXEC, 10);
	b = fcntl(ready, F_DUPFD_CLOEXEC, 10);
	dup3(a, LEASH, O_CLOEXEC);
	dup3(b, READY, O_CLOEXEC);
	close_range(READY + 1, ~0u, 0);
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, NULL);
	signal(SIGCHLD, SIG_DFL);
	pid = fork();
	if (pid == 0)
		exec_daemon(config, listen);
	close(READY);
	if (pid < 0)
		_exit(PST_DAEMON_FAILED);
	while (waitpid(pid, &status, WNOHANG) == 0) {
		if (poll(&p, 1, LOOK_MS) <= 0)
			continue;
		if (read(LEASH, &byte, 1) != 1 && ends_within(pid, config->linger_ms, &status))
			break;
		kill(pid, SIGTERM);
		if (!ends_within(pid, STOP_MS, &status)) {
			kill(pid, SIGKILL);
			(void)waitpid(pid, &status, 0);
		}
		break;
	}
	_exit(WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status));
}

/* Can the port be had on the loopback address? Only a hint: the daemon may still lose a race, and says so. */
static bool port_free(void)
{
	struct sockaddr_in addr = { .sin_family = AF_INET,
				    .sin_port = htons(PST_DAEMON_PORT),
				    .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	bool ok;

	(void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	ok = fd >= 0 && bind(fd, (struct sockaddr *)&addr, sizeof(addr)) == 0 && listen(fd, 1) == 0;
	if (fd >= 0)
		close(fd);
	return ok;
}

/* The readiness line; NULL: the daemon has ended, the wait was interrupted, or is over. */
static json_t *await_ready(int fd, bool (*interrupted)(void))
{
	char line[4096];
	size_t used = 0;

	for (unsigned looks = 0; looks < READY_LOOKS && used < sizeof(line) && !interrupted(); looks++) {
		struct pollfd p = { fd, POLLIN, 0 };
		const char *end;
		ssize_t n;

		if (poll(&p, 1, LOOK_MS) <= 0)
			continue;
		n = read(fd, line + used, sizeof(line) - used);
		if (n <= 0)
			return NULL;
		used += (size_t)n;
		end = memchr(line, '\n', used);
		if (end != NULL)
			return json_loadb(line, (size_t)(end - line), 0, NULL);
	}
	return NULL;
}

static int start_on(struct pst_own_daemon *d, const struct pst_own_daemon_config *config, const char *where)
{
	const char *io, *listens;
	int leash[2], ready[2], status = 0;
	json_t *line;
	pid_t pid;

	if (pipe2(leash, O_CLOEXEC) != 0)
		return PST_DAEMON_FAILED;
	if (pipe2(ready, O_CLOEXEC) != 0) {
		close(leash[0]);
		close(leash[1]);
		return PST_DAEMON_FAILED;
	}
	fflush(NULL);
	pid = fork();
	if (pid == 0)
		guard(config, where, leash[0], ready[1]);
	close(leash[0]);
	close(ready[1]);
	line = pid > 0 ? await_ready(ready[0], config->interrupted) : NULL;
	close(ready[0]);
	d->guardian = PST_MAX(pid, 0);
	d->leash = leash[1];
	if (line == NULL) {
		(void)!write(leash[1], "x", 1); /* one that is still starting ends at once */
		while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR)
			;
		pst_own_daemon_ended(d);
		return WIFEXITED(status) && WEXITSTATUS(status) != 0 ? WEXITSTATUS(status) : PST_DAEMON_FAILED;
	}
	io = json_string_value(json_object_get(line, "io"));
	listens = json_string_value(json_array_get(json_object_get(line, "listen"), 0));
	d->pid = (pid_t)json_integer_value(json_object_get(line, "pid"));
	snprintf(d->io, sizeof(d->io), "%s", io != NULL ? io : "unknown");
	snprintf(d->listen, sizeof(d->listen), "%s", listens != NULL ? listens : where);
	json_decref(line);
	unsetenv(PST_API_TOKEN_FILE); /* a token of another daemon: this one knows none, and needs none */
	return PST_DAEMON_OK;
}

/* Programs begin what they say of an end with their name. */
static void last_words(const char *log_path, char *why, size_t bytes)
{
	FILE *f = fopen(log_path, "re");
	char line[600];

	snprintf(why, bytes, "it did not say why");
	while (f != NULL && fgets(line, sizeof(line), f) != NULL) {
		const char *text = strncmp(line, "penstock", 8) == 0 ? strstr(line, ": ") : NULL;

		line[strcspn(line, "\n")] = '\0';
		if (text != NULL)
			snprintf(why, bytes, "%s", text + 2);
	}
	if (f != NULL)
		fclose(f);
}

int pst_own_daemon_start(struct pst_own_daemon *daemon, const struct pst_own_daemon_config *config, const char *listen,
			 char *why, size_t why_bytes)
{
	static const char any[] = "127.0.0.1:0", expected[] = "127.0.0.1:4420";
	int code;

	*daemon = (struct pst_own_daemon){ .other_port = listen == NULL && !port_free() };
	code = start_on(daemon, config, listen != NULL ? listen : daemon->other_port ? any : expected);
	if (code == PST_DAEMON_CONFLICT && listen == NULL && !daemon->other_port) {
		daemon->other_port = true; /* somebody was quicker; or the pool is open elsewhere */
		code = start_on(daemon, config, any);
	}
	if (code == NO_PROGRAM)
		snprintf(why, why_bytes, "penstockd was not found beside this program or in PATH");
	else if (code != PST_DAEMON_OK)
		last_words(config->log_path, why, why_bytes);
	return code;
}

void pst_own_daemon_stop(struct pst_own_daemon *daemon)
{
	if (daemon->guardian == 0)
		return;
	(void)!write(daemon->leash, "x", 1);
	while (waitpid(daemon->guardian, NULL, 0) < 0 && errno == EINTR)
		;
	pst_own_daemon_ended(daemon);
}

void pst_own_daemon_ended(struct pst_own_daemon *daemon)
{
	close(daemon->leash);
	daemon->guardian = 0;
}

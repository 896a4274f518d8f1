/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The child gets the write end of a pipe as --ready-fd: one line of JSON when it serves, end of file when it has died
 * before. Port 4420 is tried first; when the daemon does not come up on it, whatever the reason, it is started again
 * on any port, and only a failure there is final.
 */
#include "control/own-daemon.h"
#include "control/client.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define READY_TIMEOUT_MS 60000
#define STOP_TIMEOUT_MS 20000
#define LOOK_MS 10
#define READY_MAX 4096u

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

static void exec_daemon(const struct pst_own_daemon *d, const struct pst_own_daemon_config *config, const char *program,
			const char *listen, int ready, const char *log)
{
	char ready_text[16];
	const char *argv[20] = { program };
	size_t n = 1;
	int fd = open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);

	/* Our own end, however it comes, ends the daemon; a Ctrl-C for the terminal's group is not for it. */
	prctl(PR_SET_PDEATHSIG, SIGTERM);
	setpgid(0, 0);
	if (fd >= 0)
		dup2(fd, STDERR_FILENO);
	fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	dup2(fd, STDIN_FILENO);
	dup2(fd, STDOUT_FILENO);
	snprintf(ready_text, sizeof(ready_text), "%d", ready);
	argv[n++] = config->pool != NULL ? "--pool" : "--ram";
	argv[n++] = config->pool != NULL ? config->pool : config->pool_size;
	if (config->pool != NULL && config->pool_size != NULL) {
		argv[n++] = "--pool-size";
		argv[n++] = config->pool_size;
	}
	argv[n++] = "--listen";
	argv[n++] = listen;
	argv[n++] = "--api";
	argv[n++] = d->api;
	argv[n++] = "--ready-fd";
	argv[n++] = ready_text;
	argv[n] = NULL;
	execvp(program, (char *const *)(uintptr_t)argv);
	_exit(errno == ENOENT ? 127 : 126);
}

/* The ready line, or "" when the daemon ends or takes too long. */
static void read_ready(int fd, char line[READY_MAX])
{
	size_t used = 0;

	while (used < READY_MAX - 1) {
		struct pollfd p = { .fd = fd, .events = POLLIN };
		ssize_t n = poll(&p, 1, READY_TIMEOUT_MS) > 0 ? read(fd, line + used, READY_MAX - 1 - used) : 0;

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			break;
		used += (size_t)n;
		if (memchr(line, '\n', used) != NULL) {
			line[used] = '\0';
			return;
		}
	}
	line[0] = '\0';
}

static bool take_ready(struct pst_own_daemon *d, const char *line)
{
	json_t *json = json_loads(line, 0, NULL);
	const char *listen = json_string_value(json_array_get(json_object_get(json, "listen"), 0));
	const char *io = json_string_value(json_object_get(json, "io"));

	if (listen != NULL)
		snprintf(d->listen, sizeof(d->listen), "%s", listen);
	snprintf(d->io, sizeof(d->io), "%s", io != NULL ? io : "unknown");
	json_decref(json);
	return listen != NULL;
}

/* The last line of the log, which says why. */
static void last_line(const char *path, char *ret, size_t bytes)
{
	char buf[4096];
	FILE *f = fopen(path, "re");

	snprintf(ret, bytes, "it said nothing");
	while (f != NULL && fgets(buf, sizeof(buf), f) != NULL) {
		buf[strcspn(buf, "\n")] = '\0';
		if (buf[0] != '\0')
			snprintf(ret, bytes, "%s", buf);
	}
	if (f != NULL)
		fclose(f);
}

static pst_err start_on(struct pst_own_daemon *d, const struct pst_own_daemon_config *config, const char *program,
			const char *listen, const char *log)
{
	char line[READY_MAX];
	int ready[2], status;

	if (pipe(ready) != 0)
		return PST_E_NOMEM;
	fcntl(ready[0], F_SETFD, FD_CLOEXEC);
	d->pid = fork();
	if (d->pid == 0)
		exec_daemon(d, config, program, listen, ready[1], log);
	close(ready[1]);
	if (d->pid > 0)
		read_ready(ready[0], line);
	close(ready[0]);
	if (d->pid < 0) {
		d->pid = 0;
		return PST_E_NOMEM;
	}
	if (take_ready(d, line))
		return PST_OK;
	kill(d->pid, SIGTERM);
	waitpid(d->pid, &status, 0);
	d->pid = 0;
	return WIFEXITED(status) && WEXITSTATUS(status) == 127 ? PST_E_NOTFOUND : PST_E_REFUSED;
}

static void remove_directory(struct pst_own_daemon *d)
{
	static const char *const names[] = { "api.sock", "api.sock.lock", "penstockd.log" };
	char path[128];

	for (size_t i = 0; i < PST_ARRAY_COUNT(names); i++) {
		snprintf(path, sizeof(path), "%s/%s", d->directory, names[i]);
		unlink(path);
	}
	rmdir(d->directory);
}

pst_err pst_own_daemon_start(struct pst_own_daemon *daemon, const struct pst_own_daemon_config *config, char *message,
			     size_t message_bytes)
{
	char program[PATH_MAX], log[PATH_MAX];
	pst_err err;

	*daemon = (struct pst_own_daemon){ 0 };
	/* A short path: socket names have 108 bytes. */
	snprintf(daemon->directory, sizeof(daemon->directory), "/tmp/penstock-XXXXXX");
	if (mkdtemp(daemon->directory) == NULL) {
		snprintf(message, message_bytes, "/tmp: no directory for a socket can be made: %s", strerror(errno));
		return PST_E_DENIED;
	}
	snprintf(daemon->api, sizeof(daemon->api), "unix:%s/api.sock", daemon->directory);
	snprintf(log, sizeof(log), "%s/penstockd.log", daemon->directory);
	if (config->log_path != NULL)
		snprintf(log, sizeof(log), "%s", config->log_path);
	find_program(program, sizeof(program));
	err = start_on(daemon, config, program, "127.0.0.1:4420", log);
	if (err == PST_E_REFUSED) {
		daemon->other_port = true;
		err = start_on(daemon, config, program, "127.0.0.1:0", log);
	}
	if (err == PST_OK) {
		unsetenv(PST_API_TOKEN_FILE); /* a token of another daemon: this one knows none, and needs none */
		return PST_OK;
	}
	if (err == PST_E_NOTFOUND)
		snprintf(message, message_bytes, "penstockd was not found beside this program or in PATH");
	else
		last_line(log, message, message_bytes);
	remove_directory(daemon);
	return err;
}

bool pst_own_daemon_alive(struct pst_own_daemon *daemon)
{
	if (daemon->pid == 0)
		return false;
	if (waitpid(daemon->pid, NULL, WNOHANG) == 0)
		return true;
	daemon->pid = 0;
	return false;
}

bool pst_own_daemon_stop(struct pst_own_daemon *daemon)
{
	bool clean = true;

	if (daemon->directory[0] == '\0')
		return true;
	if (daemon->pid != 0)
		kill(daemon->pid, SIGTERM);
	for (int ms = 0; pst_own_daemon_alive(daemon); ms += LOOK_MS) {
		nanosleep(&(struct timespec){ .tv_nsec = LOOK_MS * 1000000 }, NULL);
		if (ms < STOP_TIMEOUT_MS)
			continue;
		clean = false;
		kill(daemon->pid, SIGKILL);
		waitpid(daemon->pid, NULL, 0);
		daemon->pid = 0;
	}
	remove_directory(daemon);
	daemon->directory[0] = '\0';
	return clean;
}

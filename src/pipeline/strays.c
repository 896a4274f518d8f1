/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Processes of steps that nobody waits for: left behind in the background, moved to sessions of their own, or orphaned
 * because the runner was killed. They are known by PENSTOCK_RUN_ID and PENSTOCK_STEP in their environment.
 *
 * The janitor is a process that outlives the runner by a moment: when the runner's end of a pipe closes without a word,
 * it kills every process of the run, so that keepers can take the volumes down.
 */
#include "pipeline/runner.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

static bool carries(const char *pid, const char *run, const char *step)
{
	static char env[262144];
	char path[64];
	bool ours_run = false, ours_step = step == NULL;

	snprintf(path, sizeof(path), "/proc/%.20s/environ", pid);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = 0, got;
	while (fd >= 0 && n < (ssize_t)sizeof(env) - 1 && (got = read(fd, env + n, sizeof(env) - 1 - (size_t)n)) > 0)
		n += got;
	if (fd >= 0)
		close(fd);
	env[n] = '\0';
	for (ssize_t at = 0; at < n; at += (ssize_t)strlen(env + at) + 1) {
		ours_run |= strcmp(env + at, run) == 0;
		ours_step |= step != NULL && strcmp(env + at, step) == 0;
	}
	return ours_run && ours_step;
}

void strays_kill(const char *run_id, const char *step)
{
	char run[64], step_text[64];
	DIR *proc = opendir("/proc");
	struct dirent *e;

	snprintf(run, sizeof(run), "PENSTOCK_RUN_ID=%s", run_id);
	snprintf(step_text, sizeof(step_text), "PENSTOCK_STEP=%.40s", step != NULL ? step : "");
	while (proc != NULL && (e = readdir(proc)) != NULL)
		if (isdigit((unsigned char)e->d_name[0]) && strtol(e->d_name, NULL, 10) != getpid() &&
		    carries(e->d_name, run, step != NULL ? step_text : NULL))
			kill((pid_t)strtol(e->d_name, NULL, 10), SIGKILL);
	if (proc != NULL)
		closedir(proc);
}

void sockets_remove(struct runner *r)
{
	DIR *dir = opendir(r->sockets);
	struct dirent *e;

	while (dir != NULL && (e = readdir(dir)) != NULL)
		(void)unlinkat(dirfd(dir), e->d_name, 0);
	if (dir != NULL)
		closedir(dir);
	(void)rmdir(r->sockets);
}

static _Noreturn void janitor(struct runner *r, int leash)
{
	sigset_t all;
	char byte;

	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, NULL);
	setpgid(0, 0);
	prctl(PR_SET_NAME, "penstock-janitor");
	dup3(fcntl(leash, F_DUPFD_CLOEXEC, 10), 3, O_CLOEXEC);
	close_range(4, ~0u, 0);
	if (read(3, &byte, 1) == 1)
		_exit(0);
	/* Twice: a step may be forking while it is looked at. */
	strays_kill(r->run_id, NULL);
	usleep(200000);
	strays_kill(r->run_id, NULL);
	sleep(10); /* the daemon's own end */
	sockets_remove(r);
	_exit(0);
}

bool janitor_open(struct runner *r)
{
	int leash[2];

	if (pipe2(leash, O_CLOEXEC) != 0)
		return false;
	fflush(NULL);
	r->janitor = fork();
	if (r->janitor == 0)
		janitor(r, leash[0]);
	close(leash[0]);
	r->janitor_leash = leash[1];
	return r->janitor > 0;
}

void janitor_close(struct runner *r)
{
	if (r->janitor <= 0)
		return;
	(void)!write(r->janitor_leash, "x", 1);
	close(r->janitor_leash);
	while (waitpid(r->janitor, NULL, 0) < 0 && errno == EINTR)
		;
	r->janitor = 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "bench/child.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PATIENCE_MS 2000
#define LOOK_MS 10

pst_err pst_child_start(struct pst_child *child, const char *const argv[])
{
	int in[2], out[2];

	if (pipe2(in, O_CLOEXEC) != 0)
		return PST_E_NOMEM;
	if (pipe2(out, O_CLOEXEC) != 0) {
		close(in[0]);
		close(in[1]);
		return PST_E_NOMEM;
	}
	child->pid = fork();
	if (child->pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGTERM);
		dup2(in[0], STDIN_FILENO);
		dup2(out[1], STDOUT_FILENO);
		execv(argv[0], (char *const *)(uintptr_t)argv);
		_exit(127);
	}
	close(in[0]);
	close(out[1]);
	child->in = in[1];
	child->out = out[0];
	fcntl(child->out, F_SETFL, O_NONBLOCK);
	if (child->pid > 0)
		return PST_OK;
	close(child->in);
	close(child->out);
	return PST_E_NOMEM;
}

void pst_child_stop(struct pst_child *child)
{
	close(child->in);
	for (int ms = 0; waitpid(child->pid, NULL, WNOHANG) == 0; ms += LOOK_MS) {
		nanosleep(&(struct timespec){ .tv_nsec = LOOK_MS * 1000000 }, NULL);
		if (ms < PATIENCE_MS)
			continue;
		kill(child->pid, SIGKILL);
		waitpid(child->pid, NULL, 0);
		break;
	}
	close(child->out);
}

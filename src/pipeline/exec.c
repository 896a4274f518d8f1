/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The loop: one poll over signals, keepers and control sockets, with a tick every 50 ms; and the scheduler. A step
 * starts when what it needs has succeeded (or is cached), its CPUs are free, and its volumes are: a volume is attached
 * read-write by one step at a time, or read-only by any number. Steps are looked at in the order of the file.
 *
 * A step that fails takes those that need it with it (skipped); others go on. The first SIGINT or SIGTERM ends every
 * step (SIGTERM, 5 s, SIGKILL) and takes the volumes down; the second does not wait.
 */
#include "pipeline/runner.h"

#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#define POLL_MAX 2048u

struct polled {
	struct run_step *step;
	struct run_use *use; /* keeper */
	size_t client;       /* PST_CONTROL_CLIENTS_MAX: the listening socket */
};

/* ---- scheduling ---- */

static bool needs_met(struct runner *r, struct run_step *s, bool *ret_hopeless)
{
	bool met = true;

	for (size_t i = 0; i < s->spec->needs_count; i++) {
		struct run_step *need = &r->steps[s->spec->needs[i]];

		met = met && need->state == STEP_DONE;
		if (need->state == STEP_DONE && (need->status == STATUS_FAILED || need->status == STATUS_SKIPPED))
			*ret_hopeless = true;
	}
	return met;
}

static bool volumes_free(struct runner *r, const struct run_step *s)
{
	for (size_t i = 0; i < s->spec->uses_count; i++) {
		const struct run_volume *v = &r->volumes[s->spec->uses[i].volume];

		if (v->writer || (s->spec->uses[i].rw && v->readers > 0))
			return false;
	}
	return true;
}

static void hold_volumes(struct runner *r, struct run_step *s, bool hold)
{
	if (s->holds == hold)
		return;
	s->holds = hold;
	for (size_t i = 0; i < s->spec->uses_count; i++) {
		struct run_volume *v = &r->volumes[s->spec->uses[i].volume];

		if (s->spec->uses[i].rw)
			v->writer = hold;
		else
			v->readers += hold ? 1u : -1u;
	}
}

/* CPUs for a step out of those that no other step has; 0 if there are not enough. Steps that ask for none count as 1.
 */
static uint64_t pick_cpus(struct runner *r, unsigned count)
{
	uint64_t taken = 0, mask = 0;
	unsigned used = 0;

	for (size_t i = 0; i < r->pipeline->step_count; i++)
		if (r->steps[i].state != STEP_WAITING && r->steps[i].state != STEP_DONE) {
			taken |= r->steps[i].cpu_mask;
			used += r->steps[i].cpus;
		}
	if (used + count > r->cpus)
		return 0;
	for (unsigned i = 0; i < 64 && count > 0; i++)
		if (r->cpu_allowed >> i & 1 && !(taken >> i & 1)) {
			mask |= (uint64_t)1 << i;
			count--;
		}
	return count == 0 ? mask : 0;
}

static void consider(struct runner *r, struct run_step *s)
{
	bool hopeless = false;

	if (!needs_met(r, s, &hopeless)) {
		if (hopeless) {
			snprintf(s->error, sizeof(s->error), "a step that it needs did not succeed");
			step_finish(r, s, STATUS_SKIPPED);
		}
		return;
	}
	if (hopeless) {
		step_finish(r, s, STATUS_SKIPPED);
		return;
	}
	if (!volumes_free(r, s) || (s->cpu_mask = pick_cpus(r, s->cpus)) == 0)
		return;
	if (!versions_known(r, s)) {
		step_finish(r, s, STATUS_FAILED);
		return;
	}
	cache_key(r, s);
	if (cache_hit(r, s)) {
		versions_cached(r, s);
		step_finish(r, s, STATUS_CACHED);
		return;
	}
	s->continues = !r->options->fresh && s->key[0] != '\0' && registry_unfinished(r, s);
	hold_volumes(r, s, true);
	progress_line(r, "%s: starts", s->spec->name);
	if (!step_start(r, s)) {
		snprintf(s->error, sizeof(s->error), "its checkpoint volume could not be made anew");
		step_finish(r, s, STATUS_FAILED);
	}
}

static void schedule(struct runner *r)
{
	for (size_t i = 0; i < r->pipeline->step_count; i++) {
		struct run_step *s = &r->steps[i];

		if (s->state == STEP_WAITING && !r->cancelling)
			consider(r, s);
		else if (s->state != STEP_WAITING && s->state != STEP_DONE)
			step_tick(r, s);
		if (s->state == STEP_DONE)
			hold_volumes(r, s, false);
	}
}

static bool all_done(struct runner *r)
{
	for (size_t i = 0; i < r->pipeline->step_count; i++)
		if (r->steps[i].state != STEP_DONE)
			return false;
	return true;
}

/* ---- signals ---- */

static void cancel(struct runner *r)
{
	bool again = r->cancelling;

	progress_line(r, again ? "interrupted again: killing what is left"
			       : "interrupted: ending steps and detaching volumes");
	r->cancelling = true;
	for (size_t i = 0; i < r->pipeline->step_count; i++)
		step_cancel(r, &r->steps[i], again);
}

/* Keepers are waited for by their own (pst_attach_done), so only children that are known here are asked about. */
static void reap(struct runner *r)
{
	int status;

	for (size_t i = 0; i < r->pipeline->step_count; i++) {
		struct run_step *s = &r->steps[i];

		if (s->pid > 0 && waitpid(s->pid, &status, WNOHANG) == s->pid)
			step_exited(r, s, status);
	}
	if (r->daemon.process.guardian > 0 &&
	    waitpid(r->daemon.process.guardian, &status, WNOHANG) == r->daemon.process.guardian)
		daemon_child(r, r->daemon.process.guardian, status);
}

static void read_signals(struct runner *r)
{
	struct signalfd_siginfo info;

	while (read(r->signals, &info, sizeof(info)) == sizeof(info))
		if (info.ssi_signo == SIGINT || info.ssi_signo == SIGTERM || info.ssi_signo == SIGHUP)
			cancel(r);
	reap(r);
}

/* ---- the loop ---- */

static size_t gather(struct runner *r, struct pollfd *p, struct polled *what)
{
	size_t n = 0;

	p[n++] = (struct pollfd){ r->signals, POLLIN, 0 };
	for (size_t i = 0; i < r->pipeline->step_count; i++) {
		struct run_step *s = &r->steps[i];

		for (size_t k = 0; k < s->spec->uses_count && n < POLL_MAX; k++)
			if (s->uses[k].attach.pid > 0) {
				what[n] = (struct polled){ s, &s->uses[k], 0 };
				p[n++] = (struct pollfd){ s->uses[k].attach.fd, POLLIN, 0 };
			}
		if (s->control_fd < 0 || n + PST_CONTROL_CLIENTS_MAX + 1 > POLL_MAX)
			continue;
		what[n] = (struct polled){ s, NULL, PST_CONTROL_CLIENTS_MAX };
		p[n++] = (struct pollfd){ s->control_fd, POLLIN, 0 };
		for (size_t k = 0; k < PST_CONTROL_CLIENTS_MAX; k++)
			if (s->clients[k].fd >= 0) {
				what[n] = (struct polled){ s, NULL, k };
				p[n++] = (struct pollfd){ s->clients[k].fd, POLLIN, 0 };
			}
	}
	return n;
}

/* What was gathered may have gone meanwhile: each is looked at again. */
static void dispatch(struct runner *r, struct pollfd *p, struct polled *what, size_t n)
{
	for (size_t i = 1; i < n; i++) {
		struct run_step *s = what[i].step;

		if (p[i].revents == 0)
			continue;
		if (what[i].use != NULL) {
			if (what[i].use->attach.pid > 0 && what[i].use->attach.fd == p[i].fd)
				step_message(r, s, what[i].use);
		} else if (s->control_fd >= 0 && what[i].client == PST_CONTROL_CLIENTS_MAX) {
			control_accept(s);
		} else if (s->control_fd >= 0 && s->clients[what[i].client].fd == p[i].fd) {
			control_input(r, s, what[i].client);
		}
	}
}

static enum pst_run_result result_of(struct runner *r)
{
	if (r->cancelling)
		return PST_RUN_INTERRUPTED;
	for (size_t i = 0; i < r->pipeline->step_count; i++)
		if (r->steps[i].status != STATUS_SUCCEEDED && r->steps[i].status != STATUS_CACHED)
			return r->no_space ? PST_RUN_NO_SPACE : PST_RUN_STEP_FAILED;
	return PST_RUN_OK;
}

enum pst_run_result exec_all(struct runner *r)
{
	static struct pollfd p[POLL_MAX];
	static struct polled what[POLL_MAX];

	while (!all_done(r)) {
		schedule(r);
		if (run_now() >= r->next_sample)
			sample_take(r);
		daemon_tick(r);
		progress_tick(r);
		size_t n = gather(r, p, what);
		if (poll(p, n, 50) <= 0)
			continue;
		dispatch(r, p, what, n);
		if (p[0].revents != 0)
			read_signals(r);
	}
	sample_take(r);
	progress_end(r);
	return result_of(r);
}

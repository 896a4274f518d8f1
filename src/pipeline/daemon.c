/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The daemon of a run: one that answers, or an own penstockd on a pool directory (control/own-daemon.h).
 *
 * A daemon that was stopped in an orderly way (exit 0) was stopped by someone: steps stall until it is back, and the
 * progress says so. One that crashed is started again, on the same port, at most 10 times.
 */
#include "control/client.h"
#include "control/daemon.h"
#include "pipeline/runner.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#define RESTARTS_MAX 10u
#define LINGER_MS 10000u /* for keepers whose runner was killed */

/* PST_DAEMON_OK, or the exit code of a daemon that did not come up; @why then has its last words. */
static int start(struct runner *r, const char *listen, char *why, size_t why_bytes)
{
	struct run_daemon *d = &r->daemon;
	char *own_pool = NULL, *log = NULL;
	struct pst_own_daemon_config config = {
		.pool = r->options->pool, .api = d->api, .linger_ms = LINGER_MS, .interrupted = run_interrupted
	};
	int code = PST_DAEMON_FAILED;

	snprintf(why, why_bytes, "out of memory");
	if (asprintf(&own_pool, "%s/pool", r->state) >= 0 && asprintf(&log, "%s/logs/penstockd.log", r->record) >= 0) {
		if (config.pool == NULL)
			config.pool = own_pool;
		config.log_path = log;
		code = pst_own_daemon_start(&d->process, &config, listen, why, why_bytes);
	}
	free(own_pool);
	free(log);
	if (code != PST_DAEMON_OK)
		return code;
	d->pid = d->process.pid;
	d->own = true;
	d->gone = false;
	snprintf(d->io, sizeof(d->io), "%s", d->process.io);
	snprintf(d->listen, sizeof(d->listen), "%s", d->process.listen);
	return code;
}

static enum pst_run_result complain(struct runner *r, int code, const char *why)
{
	if (run_interrupted())
		return PST_RUN_INTERRUPTED;
	fprintf(stderr, "penstock: the daemon of this run did not start: %s\n  its log: %s/logs/penstockd.log\n", why,
		r->record);
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
	char url[256], why[600];
	const char *api = pst_api_url(r->options->api, url);
	bool asked = r->options->api != NULL || getenv("PENSTOCK_URL") != NULL;

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
	snprintf(d->api, sizeof(d->api), "unix:%s/daemon.api", r->sockets);
	int code = start(r, NULL, why, sizeof(why));
	if (code != PST_DAEMON_OK)
		return complain(r, code, why);
	if (d->process.other_port)
		progress_line(r, "port 4420 is taken: the daemon of this run listens on another");
	progress_line(r, "own daemon: pid %d, %s, listens on %s", d->pid, d->io, d->listen);
	return PST_RUN_OK;
}

void daemon_child(struct runner *r, pid_t pid, int status)
{
	struct run_daemon *d = &r->daemon;

	if (pid != d->process.guardian)
		return;
	pst_own_daemon_ended(&d->process);
	d->gone = true;
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
	char why[600];

	if (!d->gone || d->restart_at == 0 || run_now() < d->restart_at || r->cancelling)
		return;
	d->restarts++;
	if (start(r, d->listen, why, sizeof(why)) == PST_DAEMON_OK) {
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
	pst_own_daemon_stop(&r->daemon.process);
}

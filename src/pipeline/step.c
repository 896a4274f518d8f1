/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One step's life. Model:
 *
 *   WAITING -> ATTACHING -> RUNNING -> DIGESTING -> DETACHING -> DONE
 *                  ^            |                       |  ^
 *                  |            +-- failed, killed -----|--+
 *                  +------------ next attempt ----------+
 *
 * Each attempt attaches its volumes anew and so sees what is on them, not what a cache remembers. A failed attempt's
 * volumes are detached like a good one's where they are mounted (the kernel has what the step wrote, as after any
 * crash of a program); on the staged path what was not copied out yet is dropped, which is what losing the machine
 * would do, and what the step had closed or persisted is there. Then the next attempt, after 1, 2, 4 ... 30 s; at once
 * after a rehearsed kill, which does not count as a retry.
 *
 * Ending is patient and then rude: SIGTERM, after 5 s SIGKILL, always to the whole process group, and at the end to any
 * process that carries this run's and step's name in its environment, wherever it moved itself.
 */
#include "base/units.h"
#include "control/client.h"
#include "pipeline/runner.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define TERM_PATIENCE_S 5.0
#define DETACH_PATIENCE_S 5.0

static void begin_detach(struct runner *r, struct run_step *s, bool discard);

void step_fail(struct run_step *s, const char *fmt, ...)
{
	va_list ap;

	s->attempt_failed = true;
	if (s->error[0] != '\0')
		return; /* the first reason is the reason */
	va_start(ap, fmt);
	vsnprintf(s->error, sizeof(s->error), fmt, ap);
	va_end(ap);
}

/* ---- volumes ---- */

static bool make_place(struct runner *r, struct run_step *s, struct run_use *u)
{
	const char *name = r->volumes[u->volume].spec->name;

	free(u->dir);
	free(u->work);
	u->dir = u->work = NULL;
	if (asprintf(&u->dir, "%s/volumes/%s/%s", r->record, s->spec->name, name) < 0 ||
	    asprintf(&u->work, "%s/volumes/%s/.%s", r->record, s->spec->name, name) < 0)
		return false;
	return mkdir(u->dir, 0755) == 0 || errno == EEXIST;
}

static bool attach_one(struct runner *r, struct run_step *s, struct run_use *u)
{
	struct run_volume *v = &r->volumes[u->volume];

	struct pst_api_error e = { 0 };

	if (v->spec->source != SIZE_MAX && !version_clone(r, s, v, u->rw, &e)) {
		step_fail(s, "volume '%s' can't be made as a clone of %s: %s", v->name, v->version, e.message);
		return false;
	}
	if (!volume_refresh(r, v)) {
		step_fail(s, "volume '%s' can't be asked for", v->name);
		return false;
	}
	if (!make_place(r, s, u)) {
		step_fail(s, "%s: %s", u->dir, strerror(errno));
		return false;
	}
	struct pst_attach_spec spec = {
		.volume = v->name,
		.traddr = v->host,
		.trsvcid = (uint16_t)v->port,
		.nqn = v->nqn,
		.nsid = v->nsid,
		.fs = v->spec->fs,
		.ro = !u->rw,
		.blank = v->used_bytes == 0 && v->spec->source == SIZE_MAX,
		.path = r->path,
		.dir = u->dir,
		.work = u->work,
		.extra_fd = -1,
	};
	if (pst_attach_start(&spec, &u->attach) != PST_OK) {
		step_fail(s, "volume '%s': no process could be started for it", v->name);
		return false;
	}
	u->ready = u->detach_sent = u->full = u->clean = false;
	u->rudeness = 0;
	u->digest_bytes = u->digest_reads = 0;
	return true;
}

static void weigh(double to[3], const uint64_t ns[3], uint64_t count)
{
	for (size_t i = 0; i < 3; i++)
		to[i] += (double)ns[i] / 1000.0 * (double)count;
}

#define CAPSULE_DATA_BYTES 8192u /* writes up to this long travel inside their command capsule */
#define SETUP_BYTES 20480u       /* connecting two queues, Identify data, and the end */

/*
 * What NVMe/TCP adds to the payload by its PDU headers (NVMe/TCP Transport 3.6.2): 72 bytes of command capsule, 24 of
 * response; a read has a C2HData header in place of the response; a longer write has an R2T and an H2CData header more.
 */
static uint64_t protocol_bytes(const struct pst_ns_stats *s)
{
	uint64_t total = 0, writes = s->requests[PST_REQUEST_WRITE];

	for (size_t k = 0; k < PST_ARRAY_COUNT(s->requests); k++)
		total += 96 * s->requests[k];
	if (writes > 0 && s->bytes_written / writes > CAPSULE_DATA_BYTES)
		total += 48 * writes;
	return total + SETUP_BYTES;
}

static void add_figures(struct runner *r, struct run_use *u)
{
	struct run_volume *v = &r->volumes[u->volume];
	struct use_figures *f = &u->figures;
	struct pst_attach_figures g;

	pst_attach_live(&u->attach, &g);
	uint64_t reads = g.stats.requests[PST_REQUEST_READ] - u->digest_reads;
	uint64_t writes = g.stats.requests[PST_REQUEST_WRITE];
	f->bytes_read += g.stats.bytes_read - u->digest_bytes;
	f->bytes_written += g.stats.bytes_written;
	for (size_t k = 0; k < 5; k++)
		f->requests[k] += k == PST_REQUEST_READ ? reads : g.stats.requests[k];
	weigh(f->weighted_us[0], g.latency_ns[0], reads);
	weigh(f->weighted_us[1], g.latency_ns[1], writes);
	weigh(f->weighted_us[2], g.latency_ns[2], g.stats.requests[PST_REQUEST_FLUSH]);
	weigh(f->all_us, g.all_ns, reads + writes);
	f->all_requests += reads + writes;
	v->host_bytes += g.stats.bytes_read + g.stats.bytes_written;
	v->socket_bytes += g.stats.socket_bytes_received + g.stats.socket_bytes_sent;
	v->retransmits += g.stats.retransmits;
	if (g.stats.socket_bytes_received > 0)
		v->overhead_bytes += protocol_bytes(&g.stats);
}

static void release_use(struct runner *r, struct run_use *u)
{
	add_figures(r, u);
	u->full = atomic_load(&u->attach.shared->full);
	pst_attach_done(&u->attach);
	(void)rmdir(u->dir);
}

static bool all_detached(struct run_step *s)
{
	for (size_t i = 0; i < s->spec->uses_count; i++)
		if (s->uses[i].attach.pid > 0)
			return false;
	return true;
}

/* ---- the command ---- */

static char *upper_name(const char *prefix, const char *volume)
{
	char *name = NULL;

	if (asprintf(&name, "%s%s", prefix, volume) < 0)
		return NULL;
	for (char *c = name; *c != '\0'; c++)
		*c = *c == '-' ? '_' : (char)toupper((unsigned char)*c);
	return name;
}

/* Of a clone: which version it is. */
static void set_version(const struct run_volume *v)
{
	char *name = v->spec->source != SIZE_MAX ? upper_name("PENSTOCK_VERSION_", v->spec->name) : NULL, *value = NULL;

	if (name != NULL && asprintf(&value, "%s %s", v->version, v->version_uuid) >= 0)
		setenv(name, value, 1);
	free(name);
	free(value);
}

static void child_environment(struct runner *r, struct run_step *s)
{
	const char *python = getenv("PYTHONPATH");
	char number[16], *path = NULL;

	for (size_t i = 0; i < s->spec->env_count; i++)
		setenv(s->spec->env[i].name, s->spec->env[i].value, 1);
	snprintf(number, sizeof(number), "%u", s->attempt);
	setenv("PENSTOCK_PIPELINE", r->pipeline->name, 1);
	setenv("PENSTOCK_RUN_ID", r->run_id, 1);
	setenv("PENSTOCK_STEP", s->spec->name, 1);
	setenv("PENSTOCK_ATTEMPT", number, 1);
	setenv("PENSTOCK_EVENTS", s->events_path, 1);
	setenv("PENSTOCK_CONTROL", s->control_path, 1);
	for (size_t i = 0; i < s->spec->uses_count; i++) {
		char *name = upper_name("PENSTOCK_VOLUME_", r->volumes[s->uses[i].volume].spec->name);

		if (name != NULL)
			setenv(name, s->uses[i].dir, 1);
		free(name);
		set_version(&r->volumes[s->uses[i].volume]);
	}
	if (r->options->python != NULL &&
	    asprintf(&path, "%s%s%s", r->options->python, python != NULL && python[0] != '\0' ? ":" : "",
		     python != NULL ? python : "") >= 0)
		setenv("PYTHONPATH", path, 1);
}

static void child_limits(struct runner *r, struct run_step *s)
{
	cpu_set_t set;

	if (s->spec->cpus > 0) {
		CPU_ZERO(&set);
		for (unsigned i = 0; i < 64; i++)
			if (s->cpu_mask >> i & 1)
				CPU_SET(i, &set);
		if (sched_setaffinity(0, sizeof(set), &set) != 0)
			_exit(126);
	}
	if (s->spec->memory_bytes > 0) {
		struct rlimit limit = { s->spec->memory_bytes, s->spec->memory_bytes };

		if (setrlimit(RLIMIT_DATA, &limit) != 0)
			_exit(126);
	}
	(void)r;
}

static _Noreturn void child(struct runner *r, struct run_step *s, int log_fd, const char *program)
{
	sigset_t none;

	setpgid(0, 0);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	signal(SIGPIPE, SIG_DFL);
	int null = open("/dev/null", O_RDONLY);
	dup2(null, 0);
	dup2(log_fd, 1);
	dup2(log_fd, 2);
	close_range(3, ~0u, 0);
	child_environment(r, s);
	child_limits(r, s);
	if (chdir(r->file_dir) == 0)
		execv(program, s->spec->command);
	dprintf(2, "penstock: %s: %s\n", program, strerror(errno));
	_exit(127);
}

static void launch(struct runner *r, struct run_step *s)
{
	char *program = pst_pipeline_find_command(s->spec->command[0], r->file_dir);
	int log = open(s->log_path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);

	if (program == NULL || log < 0 || !control_open(r, s)) {
		step_fail(s, "%s: %s",
			  program == NULL ? s->spec->command[0]
			  : log < 0       ? s->log_path
					  : s->control_path,
			  program == NULL ? "not found any more" : strerror(errno));
		begin_detach(r, s, true);
	} else {
		dprintf(log, "--- attempt %u of step %s, run %s\n", s->attempt, s->spec->name, r->run_id);
		fflush(NULL);
		s->pid = fork();
		if (s->pid == 0)
			child(r, s, log, program);
		if (s->pid > 0)
			setpgid(s->pid, s->pid); /* both sides: whoever comes first */
		s->state = STEP_RUNNING;
		s->term_sent = 0;
		s->attempt_started = run_wall();
		s->deadline = s->spec->timeout_ns > 0 ? run_now() + (double)s->spec->timeout_ns / 1e9 : 0;
		if (s->pid < 0) {
			s->pid = 0;
			step_fail(s, "fork: %s", strerror(errno));
			begin_detach(r, s, true);
		}
	}
	if (log >= 0)
		close(log);
	free(program);
}

/* ---- moves ---- */

static void next_attempt(struct runner *r, struct run_step *s)
{
	s->attempt++;
	s->attempt_failed = s->timed_out = s->killed_for_rehearsal = false;
	s->exit_code = s->exit_signal = 0;
	s->error[0] = '\0';
	s->next_try = 0;
	s->attempt_started = run_wall();
	s->state = STEP_ATTACHING;
	for (size_t i = 0; i < s->spec->uses_count; i++)
		if (!attach_one(r, s, &s->uses[i])) {
			begin_detach(r, s, true);
			return;
		}
	if (s->spec->uses_count == 0)
		launch(r, s);
}

bool step_start(struct runner *r, struct run_step *s)
{
	char *dir = NULL;

	s->started = run_now();
	s->last_said = s->started;
	if (asprintf(&dir, "%s/volumes/%s", r->record, s->spec->name) >= 0)
		(void)mkdir(dir, 0755);
	free(dir);
	for (size_t i = 0; i < s->spec->uses_count; i++) {
		struct run_volume *v = &r->volumes[s->uses[i].volume];
		struct pst_api_error e;

		/* Checkpoints of another try, or of one that ended well, must not be taken up. */
		if (s->uses[i].rw && !s->continues && v->used_bytes > 0 &&
		    strcmp(v->spec->profile, "checkpoint") == 0) {
			progress_line(r, "%s: starts anew: checkpoint volume '%s' is made %s", s->spec->name, v->name,
				      v->spec->source == SIZE_MAX ? "empty" : "anew from its version");
			if (!volume_renew(r, v, &e))
				return false;
		}
	}
	if (s->continues)
		progress_line(r, "%s: takes up what an earlier run left unfinished", s->spec->name);
	next_attempt(r, s);
	return true;
}

static void begin_detach(struct runner *r, struct run_step *s, bool discard)
{
	s->state = STEP_DETACHING;
	control_close(s);
	for (size_t i = 0; i < s->spec->uses_count; i++) {
		struct run_use *u = &s->uses[i];

		if (u->attach.pid == 0 || u->detach_sent)
			continue;
		/* Where it is mounted, what a killed step wrote is in the kernel and worth keeping. */
		bool drop = discard && r->path == PST_MOUNT_STAGED;
		(void)pst_attach_send(&u->attach, json_pack("{s:s, s:b, s:b}", "op", "detach", "discard", drop, "check",
							    versions_pins(s, u->volume)));
		u->detach_sent = true;
		u->detach_deadline = run_now() + DETACH_PATIENCE_S;
	}
}

static void record_attempt(struct run_step *s)
{
	json_t *a = json_pack("{s:f, s:f}", "started", s->attempt_started, "ended", run_wall());

	if (s->exit_signal != 0)
		json_object_set_new(a, "signal", json_integer(s->exit_signal));
	else
		json_object_set_new(a, "exit", json_integer(s->exit_code));
	if (s->killed_for_rehearsal)
		json_object_set_new(a, "rehearsed", json_true());
	if (s->error[0] != '\0')
		json_object_set_new(a, "error", json_string(s->error));
	json_array_append_new(s->attempts, a);
}

/*
 * What a step sees of a full pool is an errno, or a page that was never written back, which it may not see at all
 * (fuse2fs drops the error of a write that it had put off): its volumes know better.
 */
static void judge_full(struct runner *r, struct run_step *s)
{
	for (size_t i = 0; i < s->spec->uses_count; i++)
		if (s->uses[i].full) {
			if (!s->attempt_failed)
				step_fail(s, "its command succeeded, but not all that it wrote was kept");
			size_t used = strlen(s->error);

			snprintf(s->error + used, sizeof(s->error) - used,
				 "; the pool has no room left for volume '%s' (see: penstock pool list)",
				 r->volumes[s->uses[i].volume].name);
			r->no_space = true;
			return;
		}
}

/* All volumes are off: the attempt is over. */
static void attempt_over(struct runner *r, struct run_step *s)
{
	unsigned used = 0;
	json_t *a;
	size_t i;

	judge_full(r, s);
	if (!s->attempt_failed && s->spec->pins_count > 0)
		(void)versions_pin(r, s); /* or it has failed */
	record_attempt(s);
	if (!s->attempt_failed) {
		step_finish(r, s, STATUS_SUCCEEDED);
		return;
	}
	json_array_foreach(s->attempts, i, a) used += json_object_get(a, "rehearsed") == NULL;
	if (r->cancelling || (!s->killed_for_rehearsal && used > s->spec->retries)) {
		step_finish(r, s, STATUS_FAILED);
		return;
	}
	double pause = s->killed_for_rehearsal ? 0 : PST_MIN(30.0, (double)(1u << PST_MIN(used - 1, 5u)));
	progress_line(r, "%s: %s; next attempt%s", s->spec->name, s->error,
		      pause > 0 ? " after a pause" : " at once, from its last checkpoint");
	s->next_try = run_now() + pause;
}

void step_finish(struct runner *r, struct run_step *s, enum step_status status)
{
	static const char *const words[] = { "", "succeeded", "cached", "FAILED", "skipped" };
	uint64_t read = 0, written = 0;
	char in[16], out[16];

	s->ended = run_now();
	if (s->started == 0)
		s->started = s->ended;
	s->state = STEP_DONE;
	s->status = status;
	registry_step(r, s, status_name(status));
	for (size_t i = 0; i < s->spec->uses_count; i++) {
		read += s->uses[i].figures.bytes_read;
		written += s->uses[i].figures.bytes_written;
	}
	if (status == STATUS_FAILED)
		progress_line(r, "%s: FAILED: %s; its log: %s", s->spec->name, s->error, s->log_path);
	else if (status == STATUS_SUCCEEDED)
		progress_line(r, "%s: succeeded in %.1f s, read %s, wrote %s%s", s->spec->name, s->ended - s->started,
			      pst_format_size(read, in), pst_format_size(written, out),
			      s->attempt > 1 ? ", after a restart" : "");
	else
		progress_line(r, "%s: %s", s->spec->name, words[status]);
}

/*
 * What is read after a success: each output, then what goes into a snapshot and was no output. digest_next counts
 * through both. False: no such; else what it is, *ret_pin is SIZE_MAX for an output.
 */
static bool digest_target(struct run_step *s, size_t *ret_volume, const char **ret_path, size_t *ret_pin)
{
	const struct pst_pipeline_step *spec = s->spec;
	size_t outputs = spec->outputs_given ? spec->outputs_count : spec->uses_count, n = s->digest_next;

	*ret_pin = n < outputs ? SIZE_MAX : n - outputs;
	*ret_path = n < outputs && spec->outputs_given ? spec->outputs[n].path : "/";
	if (n >= outputs + spec->pins_count)
		return false;
	*ret_volume = n >= outputs          ? spec->pins[n - outputs].volume
		      : spec->outputs_given ? spec->outputs[n].volume
					    : spec->uses[n].volume;
	return true;
}

static bool is_output(struct runner *r, struct run_step *s, size_t volume)
{
	const char *name = r->pipeline->volumes[volume].name;
	json_t *output;
	size_t i;

	json_array_foreach(s->outputs, i,
			   output) if (strcmp(json_string_value(json_object_get(output, "volume")), name) == 0 &&
				       strcmp(json_string_value(json_object_get(output, "path")), "/") ==
					   0) return true;
	return false;
}

/* The next of them; DETACHING when there is none left. */
static void next_digest(struct runner *r, struct run_step *s)
{
	const char *path;
	size_t volume, pin;

	for (; digest_target(s, &volume, &path, &pin); s->digest_next++) {
		if (pin != SIZE_MAX && is_output(r, s, volume)) {
			json_array_append_new(s->pin_digests, json_null());
			continue;
		}
		for (size_t i = 0; i < s->spec->uses_count; i++) {
			struct run_use *u = &s->uses[i];

			if (u->volume != volume || (!u->rw && pin == SIZE_MAX))
				continue;
			if (pst_attach_send(&u->attach, json_pack("{s:s, s:i, s:s}", "op", "digest", "id", 0, "path",
								  path + (path[0] == '/'))) != PST_OK)
				step_fail(s, "volume '%s' is gone", r->volumes[volume].name);
			else
				return;
		}
	}
	begin_detach(r, s, s->attempt_failed);
}

static void digest_arrived(struct runner *r, struct run_step *s, struct run_use *u, json_t *m)
{
	const char *path = "/";
	size_t volume, pin = SIZE_MAX;

	(void)digest_target(s, &volume, &path, &pin);
	/* Not the step's own reads. */
	u->digest_bytes += (uint64_t)json_integer_value(json_object_get(m, "bytes_read"));
	u->digest_reads += (uint64_t)json_integer_value(json_object_get(m, "reads"));
	if (!json_is_true(json_object_get(m, "ok")))
		step_fail(s, "its output '%s' on volume '%s': %s", path, r->volumes[u->volume].name,
			  json_string_value(json_object_get(m, "message")));
	else if (pin == SIZE_MAX)
		registry_version(r, s, &r->volumes[u->volume], path, m);
	else
		json_array_append(s->pin_digests, m);
	s->digest_next++;
	next_digest(r, s);
}

static void all_ready(struct runner *r, struct run_step *s)
{
	for (size_t i = 0; i < s->spec->uses_count; i++)
		if (!s->uses[i].ready)
			return;
	if (r->cancelling)
		begin_detach(r, s, true);
	else
		launch(r, s);
}

static void keeper_gone(struct runner *r, struct run_step *s, struct run_use *u)
{
	release_use(r, u);
	if (s->state != STEP_DETACHING) {
		step_fail(s, "volume '%s' was detached by somebody else", r->volumes[u->volume].name);
		if (s->state == STEP_RUNNING)
			step_cancel(r, s, true);
		else
			begin_detach(r, s, true);
	}
	if (s->state == STEP_DETACHING && all_detached(s))
		attempt_over(r, s);
}

void step_message(struct runner *r, struct run_step *s, struct run_use *u)
{
	json_t *m = NULL;
	pst_err err = pst_attach_receive(&u->attach, 0, &m);
	const char *event = json_string_value(json_object_get(m, "event"));

	if (err == PST_E_AGAIN)
		return;
	if (err != PST_OK) {
		keeper_gone(r, s, u);
		return;
	}
	if (event != NULL && strcmp(event, "ready") == 0) {
		u->ready = true;
		if (json_is_true(json_object_get(m, "formatted")))
			progress_line(r, "%s: volume '%s' formatted with %s in %.2f s", s->spec->name,
				      r->volumes[u->volume].name, r->volumes[u->volume].spec->fs,
				      json_real_value(json_object_get(m, "format_s")));
		if (s->state == STEP_ATTACHING)
			all_ready(r, s);
	} else if (event != NULL && strcmp(event, "error") == 0) {
		step_fail(s, "%s", json_string_value(json_object_get(m, "message")));
		if (s->state == STEP_ATTACHING)
			begin_detach(r, s, true);
	} else if (event != NULL && strcmp(event, "detached") == 0) {
		u->clean = json_is_true(json_object_get(m, "clean"));
	} else if (event != NULL && strcmp(event, "persisted") == 0) {
		control_answer(s, m);
	} else if (event != NULL && strcmp(event, "digest") == 0 && s->state == STEP_DIGESTING) {
		digest_arrived(r, s, u, m);
	}
	json_decref(m);
}

void step_exited(struct runner *r, struct run_step *s, int status)
{
	kill(-s->pid, SIGKILL); /* what it left behind in its group */
	strays_kill(r->run_id, s->spec->name);
	events_read(r, s);
	s->pid = 0;
	s->exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : 0;
	s->exit_signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
	if (s->timed_out)
		step_fail(s, "ran into its timeout of %.0f s", (double)s->spec->timeout_ns / 1e9);
	else if (r->cancelling)
		step_fail(s, "interrupted");
	else if (s->killed_for_rehearsal)
		step_fail(s, "killed in a rehearsal");
	else if (s->exit_signal != 0)
		step_fail(s, "killed by signal %d (%s)", s->exit_signal, strsignal(s->exit_signal));
	else if (s->exit_code != 0)
		step_fail(s, "exit code %d", s->exit_code);
	if (s->attempt_failed) {
		begin_detach(r, s, true);
	} else {
		s->state = STEP_DIGESTING;
		s->digest_next = 0;
		json_decref(s->outputs);
		s->outputs = json_array();
		json_array_clear(s->pin_digests);
		control_close(s);
		next_digest(r, s);
	}
	if (s->state == STEP_DETACHING && all_detached(s))
		attempt_over(r, s);
}

/* Once cancelled, a keeper gets SIGTERM (give up waiting for the daemon), and at last SIGKILL. */
static void push_keepers(struct runner *r, struct run_step *s)
{
	for (size_t i = 0; i < s->spec->uses_count; i++) {
		struct run_use *u = &s->uses[i];

		if (u->attach.pid == 0 || !u->detach_sent || run_now() < u->detach_deadline || !r->cancelling)
			continue;
		if (u->rudeness < 2) {
			progress_line(r, "%s: volume '%s' does not detach: %s", s->spec->name,
				      r->volumes[u->volume].name,
				      u->rudeness == 0 ? "giving up on its daemon" : "killing its keeper");
			kill(u->attach.pid, u->rudeness == 0 ? SIGTERM : SIGKILL);
			u->rudeness++;
			u->detach_deadline = run_now() + 15.0;
		}
	}
}

void step_cancel(struct runner *r, struct run_step *s, bool now)
{
	if (s->state == STEP_WAITING) {
		snprintf(s->error, sizeof(s->error), "interrupted");
		step_finish(r, s, STATUS_SKIPPED);
	} else if (s->state == STEP_RUNNING && s->pid > 0) {
		if (s->term_sent == 0 || now)
			kill(-s->pid, now ? SIGKILL : SIGTERM);
		s->term_sent = now ? 2 : PST_MAX(s->term_sent, 1u);
		s->deadline = run_now() + TERM_PATIENCE_S;
	} else if (s->state == STEP_ATTACHING || s->state == STEP_DIGESTING) {
		step_fail(s, "interrupted");
		begin_detach(r, s, true);
	} else if (s->state == STEP_DETACHING && s->next_try > 0) {
		step_finish(r, s, STATUS_FAILED);
	}
}

void step_tick(struct runner *r, struct run_step *s)
{
	double now = run_now();

	if (s->state == STEP_RUNNING) {
		events_read(r, s);
		if (s->deadline > 0 && now >= s->deadline && s->term_sent < 2) {
			s->timed_out |= !r->cancelling && s->term_sent == 0;
			kill(-s->pid, s->term_sent == 0 ? SIGTERM : SIGKILL);
			s->term_sent++;
			s->deadline = now + TERM_PATIENCE_S;
		}
	}
	if (s->state == STEP_DETACHING) {
		push_keepers(r, s);
		if (s->next_try > 0 && now >= s->next_try && all_detached(s))
			next_attempt(r, s);
		else if (s->next_try == 0 && all_detached(s))
			attempt_over(r, s);
	}
}

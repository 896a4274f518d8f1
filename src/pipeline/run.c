/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From options to a result: read and check the file, choose a path, find or start a daemon, make volumes, run, record,
 * and take everything down in the reverse order. Nothing is started before the file is known to be right.
 */
#include "pipeline/runner.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

double run_now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

double run_wall(void)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

bool run_interrupted(void)
{
	sigset_t set;

	return sigpending(&set) == 0 &&
	       (sigismember(&set, SIGINT) || sigismember(&set, SIGTERM) || sigismember(&set, SIGHUP));
}

/* ---- the file ---- */

static char *read_file(const char *path, size_t *ret_len)
{
	FILE *f = fopen(path, "re");
	char *text = f != NULL ? malloc(PST_PIPELINE_FILE_BYTES_MAX + 2) : NULL;

	if (text != NULL)
		*ret_len = fread(text, 1, PST_PIPELINE_FILE_BYTES_MAX + 1, f);
	if (text == NULL || ferror(f)) {
		fprintf(stderr, "penstock: %s: %s\n  try: penstock run FILE\n", path, strerror(errno));
		free(text);
		text = NULL;
	}
	if (f != NULL)
		fclose(f);
	return text;
}

static enum pst_run_result load(struct runner *r)
{
	struct pst_pipeline_errors errors = { 0 };
	size_t len = 0;
	char *text = read_file(r->options->file, &len), *real = realpath(r->options->file, NULL);
	pst_err err = PST_E_NOTFOUND;

	if (text == NULL || real == NULL) {
		free(text);
		free(real);
		return PST_RUN_USAGE;
	}
	r->file_dir = strdup(dirname(real));
	free(real);
	err = pst_pipeline_parse(text, len, &errors, &r->pipeline);
	if (err == PST_OK)
		err = pst_pipeline_check(r->pipeline, r->file_dir, &errors);
	if (errors.count > 0) {
		pst_pipeline_errors_print(&errors, r->options->file, text, len, stderr);
		fprintf(stderr, "penstock: %s: %zu error%s; nothing was started\n", r->options->file, errors.count,
			errors.count == 1 ? "" : "s");
	}
	pst_pipeline_errors_done(&errors);
	free(text);
	return err == PST_OK ? PST_RUN_OK : PST_RUN_USAGE;
}

static enum pst_run_result choose_path(struct runner *r)
{
	const char *fs = "ext4";

	for (size_t i = 0; i < r->pipeline->volume_count; i++)
		if (strcmp(r->pipeline->volumes[i].fs, "xfs") == 0)
			fs = "xfs";
	pst_err err = pst_mount_choose(r->options->path, fs, true, &r->path, r->path_reason);
	if (err == PST_OK)
		return PST_RUN_OK;
	fprintf(stderr, "penstock: no way to reach volumes here: %s\n  try: penstock doctor\n", r->path_reason);
	return err == PST_E_INVAL ? PST_RUN_USAGE : PST_RUN_UNSUPPORTED;
}

static enum pst_run_result check_kill(struct runner *r)
{
	if (r->options->kill_step == NULL)
		return PST_RUN_OK;
	for (size_t i = 0; i < r->pipeline->step_count; i++)
		if (strcmp(r->pipeline->steps[i].name, r->options->kill_step) == 0)
			return PST_RUN_OK;
	fprintf(stderr, "penstock: --kill: the pipeline has no step '%s'\n", r->options->kill_step);
	return PST_RUN_USAGE;
}

/* ---- places ---- */

static bool make_dirs(const char *path)
{
	char *copy = strdup(path);
	bool ok = copy != NULL;

	for (char *c = copy + 1; ok && *c != '\0'; c++)
		if (*c == '/') {
			*c = '\0';
			ok = mkdir(copy, 0755) == 0 || errno == EEXIST;
			*c = '/';
		}
	ok = ok && (mkdir(copy, 0755) == 0 || errno == EEXIST);
	free(copy);
	return ok;
}

static char *default_state(void)
{
	const char *home = getenv("HOME"), *xdg = getenv("XDG_STATE_HOME"), *set = getenv("PENSTOCK_STATE_DIR");
	char *path = NULL;

	if (set != NULL && set[0] != '\0')
		return strdup(set);
	if (geteuid() == 0)
		return strdup("/var/lib/penstock");
	if (asprintf(&path, "%s%s/penstock",
		     xdg != NULL    ? xdg
		     : home != NULL ? home
				    : "/tmp",
		     xdg != NULL ? "" : "/.local/state") < 0)
		return NULL;
	return path;
}

static char *absolute(const char *path)
{
	char *cwd = path[0] == '/' ? NULL : getcwd(NULL, 0), *full = NULL;

	if (path[0] == '/')
		return strdup(path);
	if (cwd == NULL || asprintf(&full, "%s/%s", cwd, path) < 0)
		full = NULL;
	free(cwd);
	return full;
}

/*
 * A run whose record can't be written is lost, and disks fill up while steps write logs: so space for it is taken at
 * the begin and given back right before the record is written.
 */
static bool reserve_take(struct runner *r)
{
	char *path = NULL;
	int fd = asprintf(&path, "%s/.reserve", r->record) >= 0 ? open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600) : -1;

	errno = fd >= 0 ? posix_fallocate(fd, 0, RUN_RESERVE_BYTES) : errno;
	bool ok = fd >= 0 && errno == 0;
	if (!ok) {
		fprintf(stderr,
			"penstock: %s: %s; a run's record needs at least %lld MiB there\n"
			"  try: make room, or --record DIR on another disk\n",
			r->record, strerror(errno), (long long)(RUN_RESERVE_BYTES >> 20));
		(void)unlink(path);
	}
	if (fd >= 0)
		close(fd);
	free(path);
	return ok;
}

void reserve_release(struct runner *r)
{
	char *path = NULL;

	if (r->record != NULL && asprintf(&path, "%s/.reserve", r->record) >= 0)
		(void)unlink(path);
	free(path);
}

static enum pst_run_result place_error(void)
{
	return errno == ENOSPC || errno == EDQUOT ? PST_RUN_NO_SPACE : PST_RUN_FAILED;
}

#define SOCKET_DIR_PARENT_MAX 40 /* socket names have 107 bytes, and names of steps up to 40 */

/* A new directory for sockets, in TMPDIR if that is short enough. */
static char *make_socket_dir(void)
{
	const char *tmp = getenv("TMPDIR");
	char path[SOCKET_DIR_PARENT_MAX + 32];

	if (tmp == NULL || tmp[0] != '/' || strlen(tmp) > SOCKET_DIR_PARENT_MAX)
		tmp = "/tmp";
	snprintf(path, sizeof(path), "%s/penstock-XXXXXX", tmp);
	if (mkdtemp(path) != NULL)
		return strdup(path);
	fprintf(stderr, "penstock: a directory for sockets can't be made in %s: %s\n", tmp, strerror(errno));
	return NULL;
}

static enum pst_run_result make_places(struct runner *r)
{
	char *state = r->options->state != NULL ? strdup(r->options->state) : default_state(), *sub[3] = { NULL };
	char *record = NULL;

	r->state = state != NULL ? absolute(state) : NULL;
	free(state);
	if (r->state == NULL ||
	    (r->options->record == NULL && asprintf(&record, "%s/runs/%s", r->state, r->run_id) < 0))
		return PST_RUN_FAILED;
	r->record = absolute(r->options->record != NULL ? r->options->record : record);
	free(record);
	static const char *const names[] = { "logs", "events", "volumes" };
	bool ok = r->record != NULL && make_dirs(r->state);
	for (size_t i = 0; i < 3 && ok; i++)
		ok = asprintf(&sub[i], "%s/%s", r->record, names[i]) >= 0 && make_dirs(sub[i]);
	for (size_t i = 0; i < 3; i++)
		free(sub[i]);
	if (!ok) {
		enum pst_run_result result = place_error();

		fprintf(stderr, "penstock: %s or %s can't be written: %s\n  try: --record DIR --state DIR\n", r->state,
			r->record, strerror(errno));
		return result;
	}
	if (!reserve_take(r))
		return place_error();
	r->sockets = make_socket_dir();
	return r->sockets != NULL ? PST_RUN_OK : place_error();
}

static void remove_places(struct runner *r)
{
	char *path = NULL;

	reserve_release(r);
	for (size_t i = 0; i < r->pipeline->step_count && r->record != NULL; i++) {
		if (asprintf(&path, "%s/volumes/%s", r->record, r->pipeline->steps[i].name) < 0)
			continue;
		(void)rmdir(path);
		free(path);
	}
	if (r->record != NULL && asprintf(&path, "%s/volumes", r->record) >= 0) {
		(void)rmdir(path);
		free(path);
	}
	if (r->sockets != NULL)
		sockets_remove(r);
}

/* ---- the runner ---- */

static void make_run_id(struct runner *r)
{
	time_t now = time(NULL);
	struct tm tm;
	uint16_t salt = 0;

	(void)!getrandom(&salt, sizeof(salt), 0);
	gmtime_r(&now, &tm);
	strftime(r->run_id, sizeof(r->run_id), "%Y%m%d-%H%M%S", &tm);
	size_t used = strlen(r->run_id);
	snprintf(r->run_id + used, sizeof(r->run_id) - used, "-%04x", salt);
}

static void count_cpus(struct runner *r)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	if (sched_getaffinity(0, sizeof(set), &set) != 0)
		CPU_SET(0, &set);
	for (unsigned i = 0; i < 64; i++)
		if (CPU_ISSET(i, &set)) {
			r->cpu_allowed |= (uint64_t)1 << i;
			r->cpus++;
		}
}

static bool make_steps(struct runner *r)
{
	r->volumes = calloc(PST_MAX(r->pipeline->volume_count, (size_t)1), sizeof(*r->volumes));
	r->steps = calloc(r->pipeline->step_count, sizeof(*r->steps));
	if (r->volumes == NULL || r->steps == NULL)
		return false;
	for (size_t i = 0; i < r->pipeline->step_count; i++) {
		struct run_step *s = &r->steps[i];

		s->spec = &r->pipeline->steps[i];
		s->control_fd = -1;
		s->attempts = json_array();
		s->outputs = json_array();
		s->pin_digests = json_array();
		s->cpus = PST_MAX(s->spec->cpus, 1u);
		if (s->cpus > r->cpus) {
			progress_line(r, "%s: asks for %u CPUs, this machine gives %u: it gets those", s->spec->name,
				      s->cpus, r->cpus);
			s->cpus = r->cpus;
		}
		s->uses = calloc(PST_MAX(s->spec->uses_count, (size_t)1), sizeof(*s->uses));
		if (s->uses == NULL || asprintf(&s->log_path, "%s/logs/%s.log", r->record, s->spec->name) < 0 ||
		    asprintf(&s->events_path, "%s/events/%s.jsonl", r->record, s->spec->name) < 0)
			return false;
		(void)unlink(s->events_path); /* a record directory may be used again */
		(void)unlink(s->log_path);
		for (size_t k = 0; k < s->spec->uses_count; k++) {
			s->uses[k].volume = s->spec->uses[k].volume;
			s->uses[k].rw = s->spec->uses[k].rw;
		}
	}
	return true;
}

static void free_steps(struct runner *r)
{
	for (size_t i = 0; r->steps != NULL && i < r->pipeline->step_count; i++) {
		struct run_step *s = &r->steps[i];

		json_decref(s->attempts);
		json_decref(s->outputs);
		json_decref(s->pin_digests);
		for (size_t k = 0; s->uses != NULL && k < s->spec->uses_count; k++) {
			free(s->uses[k].dir);
			free(s->uses[k].work);
		}
		free(s->uses);
		free(s->log_path);
		free(s->events_path);
		free(s->control_path);
	}
	for (size_t i = 0; r->volumes != NULL && i < r->pipeline->volume_count; i++)
		free(r->volumes[i].name);
	free(r->steps);
	free(r->volumes);
}

static enum pst_run_result run_steps(struct runner *r)
{
	enum pst_run_result result = daemon_open(r);

	if (result == PST_RUN_OK)
		result = volumes_open(r);
	if (result != PST_RUN_OK)
		return result;
	registry_run(r, "running");
	result = exec_all(r);
	json_t *accounting = volumes_accounting(r);
	r->ended_wall = run_wall();
	registry_run(r, result == PST_RUN_OK ? "succeeded" : r->cancelling ? "interrupted" : "failed");
	if (!record_write(r, accounting) && result == PST_RUN_OK)
		result = place_error();
	progress_line(r, "%s; record: %s/run.json",
		      result == PST_RUN_OK ? "the pipeline succeeded"
		      : r->cancelling      ? "interrupted"
					   : "the pipeline FAILED",
		      r->record);
	return result;
}

static enum pst_run_result prepare_and_run(struct runner *r)
{
	sigset_t set, before;
	enum pst_run_result result = PST_RUN_FAILED;

	/* Before anything is made: what is made is also removed. */
	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGHUP);
	sigaddset(&set, SIGCHLD);
	sigprocmask(SIG_BLOCK, &set, &before);
	result = make_places(r);
	if (result != PST_RUN_OK) {
		reserve_release(r);
		sigprocmask(SIG_SETMASK, &before, NULL);
		return result;
	}
	result = PST_RUN_FAILED;
	r->signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	r->started = run_now();
	r->started_wall = run_wall();
	r->tty = isatty(2) && getenv("TERM") != NULL && strcmp(getenv("TERM"), "dumb") != 0;
	progress_line(r, "run %s of %s; volumes by %s: %s", r->run_id, r->pipeline->name, pst_mount_path_name(r->path),
		      r->path_reason);
	if (make_steps(r) && janitor_open(r) && registry_open(r))
		result = run_steps(r);
	daemon_close(r);
	janitor_close(r);
	registry_close(r);
	close(r->signals);
	remove_places(r);
	sigprocmask(SIG_SETMASK, &before, NULL);
	return result;
}

enum pst_run_result pst_run_pipeline(const struct pst_run_options *options)
{
	struct runner *r = calloc(1, sizeof(*r));
	enum pst_run_result result;

	if (r == NULL)
		return PST_RUN_FAILED;
	r->options = options;
	r->events = json_array();
	r->timeline = json_array();
	r->versions = json_array();
	count_cpus(r);
	make_run_id(r);
	result = load(r);
	if (result == PST_RUN_OK)
		result = check_kill(r);
	if (result == PST_RUN_OK)
		result = choose_path(r);
	if (result == PST_RUN_OK && options->dry_run && options->json) {
		json_t *plan = plan_json(r);

		(void)!json_dumpf(plan, stdout, JSON_INDENT(1));
		putchar('\n');
		json_decref(plan);
	} else if (result == PST_RUN_OK && options->dry_run) {
		plan_print(r);
	} else if (result == PST_RUN_OK) {
		result = prepare_and_run(r);
	}
	if (r->pipeline != NULL)
		free_steps(r);
	pst_pipeline_free(r->pipeline);
	json_decref(r->events);
	json_decref(r->timeline);
	json_decref(r->versions);
	free(r->file_dir);
	free(r->record);
	free(r->state);
	free(r->sockets);
	free(r);
	return result;
}

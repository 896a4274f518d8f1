/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the runner's files share. One struct runner, one thread, one poll loop (exec.c); each file below is a part of
 * it. Nothing here is for others.
 */
#ifndef PST_PIPELINE_RUNNER_H
#define PST_PIPELINE_RUNNER_H

#include "control/own-daemon.h"
#include "mount/mount.h"
#include "pipeline/pipeline.h"
#include "pipeline/run.h"

#include <jansson.h>
#include <sqlite3.h>
#include <sys/types.h>

#define PST_CONTROL_CLIENTS_MAX 16u

/* A volume of the pipeline as the daemon has it. */
struct run_volume {
	bool there, cloned;    /* in the daemon; as a clone of something */
	bool made;             /* a clone: in this run */
	char version[96];      /* a clone: "VOLUME@NAME" as the file calls them; "" before a step needed it */
	char version_uuid[40]; /* a clone: of that version */
	char own_version[40];  /* a clone: of the version that it was made from, as far as the registry knows */
	const struct pst_pipeline_volume *spec;
	char *name; /* PIPELINE-VOLUME */
	char uuid[40];
	char nqn[224];
	char host[256];
	unsigned port, nsid;
	uint64_t used_bytes;
	unsigned readers;                               /* steps that have it attached read-only */
	bool writer;                                    /* one step has it attached read-write */
	uint64_t host_bytes, socket_bytes, retransmits; /* of attachments that have ended */
	uint64_t overhead_bytes;                        /* expected of NVMe/TCP, in socket_bytes */
	uint64_t target_before;
	bool target_known;
	uint64_t sampled_read, sampled_written, sampled_requests; /* sample.c: totals at the last sample */
};

enum step_state {
	STEP_WAITING,   /* for needs, CPUs, or volumes */
	STEP_ATTACHING, /* keepers are starting */
	STEP_RUNNING,   /* the command runs */
	STEP_DIGESTING, /* it succeeded; its outputs are being read for their version */
	STEP_DETACHING, /* keepers are ending */
	STEP_DONE,
};

enum step_status { STATUS_NONE, STATUS_SUCCEEDED, STATUS_CACHED, STATUS_FAILED, STATUS_SKIPPED };

/* Counters of one volume in one step, over all attempts. */
struct use_figures {
	uint64_t bytes_read, bytes_written, requests[5];
	double weighted_us[3][3], all_us[3]; /* percentiles times requests; divided at the end */
	uint64_t all_requests;
};

struct run_use {
	struct pst_attach attach; /* pid 0: not attached */
	char *dir, *work;
	bool rw, ready, detach_sent, full; /* full: of this attempt */
	bool clean;                        /* left without a journal to replay; known when `check` was asked for */
	double detach_deadline;            /* when to become rude */
	unsigned rudeness;
	uint64_t digest_bytes, digest_reads; /* read by our digest, not by the step */
	struct use_figures figures;
	size_t volume;
};

struct control_client {
	int fd;
	char line[4200];
	size_t used;
};

struct run_step {
	const struct pst_pipeline_step *spec;
	enum step_state state;
	enum step_status status;
	struct run_use *uses;
	json_t *attempts, *outputs; /* outputs: versions of this run */
	json_t *pin_digests;        /* per snapshot to be taken; null: its output has it */
	unsigned attempt;           /* 1-based */
	pid_t pid;
	unsigned cpus;
	uint64_t cpu_mask;
	double started, ended, attempt_started, deadline, next_try;
	unsigned term_sent; /* 0, 1 SIGTERM, 2 SIGKILL */
	bool holds;         /* its volumes */
	bool attempt_failed, timed_out, killed_for_rehearsal, continues, rehearsed;
	int exit_code, exit_signal; /* of the attempt */
	char *log_path, *events_path, *control_path;
	off_t events_read;
	int control_fd;
	struct control_client clients[PST_CONTROL_CLIENTS_MAX];
	unsigned train_step;
	size_t digest_next;
	char key[65];
	char error[320]; /* why the attempt failed, if not by its exit */
	double last_said, stalled_since;
};

struct run_daemon {
	struct pst_own_daemon process; /* not running if it is not ours */
	int pid;                       /* 0: not ours */
	bool own, gone;
	char api[256], listen[128], io[32];
	unsigned restarts;
	double restart_at;
};

struct runner {
	const struct pst_run_options *options;
	struct pst_pipeline *pipeline;
	char run_id[40];
	char *file_dir; /* absolute directory of the pipeline file */
	char *record, *state, *sockets;
	enum pst_mount_path path;
	char path_reason[240];
	struct run_daemon daemon;
	struct run_volume *volumes;
	struct run_step *steps;
	sqlite3 *registry;
	json_t *events, *timeline;
	json_t *versions; /* that this run took, kept or read: versions.c */
	double started;   /* monotonic */
	double started_wall, ended_wall;
	int signals, janitor_leash;
	pid_t janitor;
	unsigned cpus;
	uint64_t cpu_allowed;
	bool cancelling, no_space; /* no_space: a step met a full pool */
	bool tty;
	unsigned tty_lines;
	double last_heartbeat, next_sample, last_sample;
	uint64_t cpu_busy, cpu_total, cpu_steal, retransmits, drops; /* sample.c */
};

double run_now(void);  /* monotonic seconds */
double run_wall(void); /* since 1970 */

/* Has the user interrupted, and the loop not yet seen it? For what waits outside of the loop. */
bool run_interrupted(void);

#define RUN_RESERVE_BYTES ((off_t)4 << 20)
/* Gives back the space that was kept for the record. */
void reserve_release(struct runner *r);

/* plan.c */
void plan_print(struct runner *r);
json_t *plan_json(struct runner *r);

/* daemon.c: find or start one; end it. False with a message. */
enum pst_run_result daemon_open(struct runner *r);
void daemon_tick(struct runner *r); /* notices that our own has died */
void daemon_child(struct runner *r, pid_t pid, int status);
void daemon_close(struct runner *r);

/* volumes.c */
struct pst_api_error;
/* One call, which an interrupted user ends; steals @body. */
pst_err run_api(struct runner *r, const char *method, const char *path, json_t *body, json_t **ret,
		struct pst_api_error *e);
/* The same, waiting up to 10 s for a daemon that is away for a moment. */
pst_err run_api_patient(struct runner *r, const char *method, const char *path, json_t *body, json_t **ret,
			struct pst_api_error *e);
/* Prints what happened and what to do. */
void run_api_complain(const struct pst_api_error *e);
enum pst_run_result volumes_open(struct runner *r);
/* Deletes (if it is there) and makes it again: blank, or as its version. False after complaining. */
bool volume_renew(struct runner *r, struct run_volume *v, struct pst_api_error *e);
/* Fresh addresses and used bytes, before attaching. */
bool volume_refresh(struct runner *r, struct run_volume *v);
json_t *volumes_accounting(struct runner *r);

/* versions.c: snapshots that steps take, clones that they use. */
/* The versions of the clones that a step uses become known; false with s->error. */
bool versions_known(struct runner *r, struct run_step *s);
/* A clone of the right version is there, and for a step that writes it: a new one. False after complaining. */
bool version_clone(struct runner *r, struct run_step *s, struct run_volume *v, bool rw, struct pst_api_error *e);
/* Is @name ("VOLUME@NAME") still the version with this uuid? */
bool version_stands(struct runner *r, const char *name, const char *uuid);
/* Takes the snapshots of a step whose volumes are detached; false with s->error. */
bool versions_pin(struct runner *r, struct run_step *s);
/* Is there a snapshot to be taken of this use's volume? */
bool versions_pins(const struct run_step *s, size_t volume);
/* Versions of a cached step go to the record as well. */
void versions_cached(struct runner *r, struct run_step *s);
json_t *versions_json(struct runner *r);

/* cache.c */
void cache_key(struct runner *r, struct run_step *s);
bool cache_hit(struct runner *r, struct run_step *s);

/* registry.c; errors are said once and make `cached` impossible, nothing else. */
bool registry_open(struct runner *r);
void registry_close(struct runner *r);
void registry_run(struct runner *r, const char *status);
void registry_step(struct runner *r, struct run_step *s, const char *status);
void registry_version(struct runner *r, struct run_step *s, struct run_volume *v, const char *path, json_t *digest);
/* The version last recorded of a path on a volume, into @sha256; false if none. */
bool registry_latest(struct runner *r, const char *volume_uuid, const char *path, char sha256[65]);
/* Outputs (JSON text, caller frees) of the last success of this step with this key; NULL if none. */
char *registry_success(struct runner *r, struct run_step *s);
/* Snapshots by uuid: what they hold, as their maker read it; and what clones were made from. */
void registry_pin(struct runner *r, struct run_step *s, struct run_volume *v, const char *name, const char *uuid,
		  json_t *digest);
bool registry_pinned(struct runner *r, const char *uuid, char sha256[65]);
void registry_clone(struct runner *r, const char *uuid, const char *version_uuid);
bool registry_cloned(struct runner *r, const char *uuid, char version_uuid[40]);
void registry_read_version(struct runner *r, struct run_step *s, const char *name, const char *uuid);
/* Did the last try of this step, with the same key, not succeed? Then its checkpoints continue it. */
bool registry_unfinished(struct runner *r, struct run_step *s);

/* step.c: the states of one step. */
/* The attempt has failed; the first reason given is the reason. */
void step_fail(struct run_step *s, const char *fmt, ...) PST_PRINTF(2, 3);
bool step_start(struct runner *r, struct run_step *s); /* false: could not; status is set */
void step_message(struct runner *r, struct run_step *s, struct run_use *u);
void step_exited(struct runner *r, struct run_step *s, int status);
void step_tick(struct runner *r, struct run_step *s);
void step_cancel(struct runner *r, struct run_step *s, bool now);
void step_finish(struct runner *r, struct run_step *s, enum step_status status);

/* strays.c: kill what carries the run's (and, if not NULL, the step's) name in its environment. */
void strays_kill(const char *run_id, const char *step);
bool janitor_open(struct runner *r);
void janitor_close(struct runner *r);
void sockets_remove(struct runner *r); /* the directory, with whatever is in it */

/* events.c */
void events_read(struct runner *r, struct run_step *s);

/* control.c: the socket on which a step asks for durability. */
bool control_open(struct runner *r, struct run_step *s);
void control_close(struct run_step *s);
void control_accept(struct run_step *s);
void control_input(struct runner *r, struct run_step *s, size_t client);
void control_answer(struct run_step *s, json_t *persisted);

/* sample.c */
void sample_take(struct runner *r);

/* progress.c */
void progress_line(struct runner *r, const char *fmt, ...) PST_PRINTF(2, 3);
void progress_tick(struct runner *r);
void progress_end(struct runner *r);
const char *status_name(enum step_status status);

/* record.c */
bool record_write(struct runner *r, json_t *accounting);
json_t *environment_json(void); /* environment.c */

/* exec.c */
enum pst_run_result exec_all(struct runner *r);

#endif

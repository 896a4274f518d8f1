/* SPDX-License-Identifier: Apache-2.0 */
/* The catalog's own structures; see catalog.c for the model. Everything here lives on the home shard. */
#ifndef PST_CONTROL_CATALOG_INTERNAL_H
#define PST_CONTROL_CATALOG_INTERNAL_H

#include "control/catalog.h"
#include "control/catalog-names.h"
#include "control/kek.h"
#include "control/policy.h"
#include "volume/crypt.h"

#define CAT_RECORD_FORMAT 1
#define CAT_SUMMARY_MAX 200u
#define CAT_SNAPSHOT_NAME_MAX (2 * PST_NAME_MAX + 1) /* VOLUME@NAME */
#define CAT_HOME 0u /* index of the pool that new tenants, profiles, hosts and tokens are recorded in */
#define CAT_DIGEST_BYTES 32u

struct cat_check;       /* catalog-pool.c */
struct cat_reservation; /* catalog-reservation.c */

struct cat_pool {
	char name[PST_NAME_MAX + 1];
	struct pst_pool *pool;
	struct pst_qos *qos;
	struct pst_crypt_pool *crypt; /* made with the first encrypted volume that is unlocked */
	struct cat_check *check;      /* the last one; NULL: none yet */
	bool no_info;                 /* can't say what is mapped, beyond pst_volume_stats */
};

struct cat_tenant {
	struct cat_named named; /* catalog->tenants */
	char name[PST_NAME_MAX + 1];
	uint64_t quota_bytes; /* sum of its volumes' sizes; 0: none */
	struct pst_qos_policy policy;
	unsigned home; /* index of the pool with its record */
	struct pst_qos_group *groups[PST_CATALOG_POOLS_MAX];
};

struct cat_profile {
	struct cat_named named; /* catalog->profiles */
	char name[PST_NAME_MAX + 1];
	char summary[CAT_SUMMARY_MAX + 1];
	struct pst_qos_policy policy;
	bool builtin;
	unsigned home;
};

/* Of a volume or snapshot, as its pool said last. */
struct cat_usage {
	uint64_t tick; /* catalog->tick when the pool was asked; 0: never */
	uint64_t mapped_bytes, own_bytes;
	uint32_t children;
	struct pst_volume_settings settings;
};

enum cat_volume_state {
	CAT_CREATING, /* recorded, not answered: not shown, and undone by a crash */
	CAT_READY,
	CAT_DELETING, /* recorded: a crash completes it */
	CAT_FAILED,   /* recorded as ready, but can't be served: shown with its error */
};

struct cat_volume {
	struct cat_named named; /* catalog->volumes */
	char name[PST_NAME_MAX + 1];
	char profile[PST_NAME_MAX + 1];
	struct cat_tenant *tenant;
	unsigned pool;
	enum cat_volume_state state;
	pst_err error; /* of CAT_FAILED and of a CAT_DELETING that got stuck */
	uint8_t uuid[16];
	char nqn[PST_NQN_MAX + 1];
	char serial[21];
	uint32_t nsid;
	uint32_t ana_group;
	bool detached; /* from its hosts, which stay connected */
	struct pst_qos_policy policy;
	char source[CAT_SNAPSHOT_NAME_MAX + 1]; /* clones: the snapshot it began as, which may be gone; else "" */
	uint8_t source_uuid[16];
	uint64_t create_blocks;             /* of CAT_CREATING */
	uint64_t source_blocks;             /* of a clone that is CAT_CREATING */
	bool encrypted, locked, key_erased; /* locked: open, but not served; why: lock_reason */
	uint8_t key_family[16];             /* uuid of the volume that its key was made for */
	char kek_id[PST_KEK_ID_MAX + 1];    /* as last seen in its key slot */
	char lock_reason[300];
	json_t *allowed; /* NQNs of the hosts that may connect; NULL: any host */
	struct cat_names snapshots;
	struct cat_usage usage;
	struct pst_volume *volume;
	struct pst_qos_flow *flow;
	struct pst_subsystem *subsystem;
	struct cat_reservation *reservation; /* NULL until it is served first */
};

/* States as for volumes; but a crash leaves a CREATING one that the pool has taken, and only forgets others. */
struct cat_snapshot {
	struct cat_named named; /* volume->snapshots */
	struct cat_volume *volume;
	char name[PST_NAME_MAX + 1]; /* without the volume's */
	enum cat_volume_state state;
	pst_err error;
	uint8_t uuid[16];
	uint64_t created_ns, size_bytes;
	struct cat_usage usage;
};

#define CAT_EVENT_TEXT_MAX 399u

struct cat_event {
	uint64_t wall_ns;
	enum pst_log_level level;
	char pool[PST_NAME_MAX + 1];
	char text[CAT_EVENT_TEXT_MAX + 1];
};

struct cat_step;

typedef void cat_job_fn(struct pst_catalog *c, struct cat_volume *v, pst_err err);

/* What is being done to one volume: catalog-volume.c. */
struct cat_job {
	struct cat_volume *volume; /* NULL: none */
	const struct cat_step *step;
	pst_err err; /* the first error */
	uint64_t resize_blocks;
	uint8_t snapshot[16]; /* to roll back to */
	bool sets_on_full, sets_reserved;
	struct pst_volume_settings settings; /* those that are set */
	cat_job_fn *finished;
};

/* What is being done to snapshots: catalog-snapshot.c. */
struct cat_snapshot_job {
	struct cat_snapshot *members[PST_SNAPSHOT_MEMBERS_MAX];
	struct pst_snapshot_member pairs[PST_SNAPSHOT_MEMBERS_MAX];
	unsigned count, at;
	bool tried; /* the pool was asked for them */
	pst_err err;
	char detail[200];
	struct cat_volume *volume; /* whose snapshots are dropped */
	void (*done)(struct pst_catalog *c, pst_err err);
};

/* What is being done to keys: catalog-key.c. */
struct cat_keys {
	struct pst_kek *kek; /* the daemon's; NULL: none */
	struct pst_kek_op op;
	uint8_t *secret;           /* PST_KEK_SECRET_MAX bytes of secret memory; wiped after each use */
	struct cat_volume *volume; /* whose key is in work */
	struct pst_key_slot slot;
	uint8_t bytes[PST_KEY_SLOT_MAX];
	void (*done)(struct pst_catalog *c, pst_err err);
	void (*step_done)(struct pst_catalog *c, pst_err err);
	char detail[300];
	/* Of an action over several volumes. */
	char cursor[PST_NAME_MAX + 1], only[PST_NAME_MAX + 1];
	uint8_t family[16];
	unsigned rotated, already, unlocked, still_locked;
	json_t *failed;
	pst_err err;
};

#define CAT_WRAPPED_MAX 128u

/* The keys of a host, in its record and in memory. */
enum { CAT_HOST_KEY, CAT_CTRL_KEY, CAT_TLS_KEY, CAT_HOST_KEYS };

struct cat_host_key {
	char kek_id[PST_KEK_ID_MAX + 1];
	uint8_t wrapped[CAT_WRAPPED_MAX];
	uint32_t wrapped_bytes; /* 0: there is none */
};

struct cat_host {
	struct cat_named named; /* catalog->hosts, by NQN */
	char nqn[PST_NQN_MAX + 1];
	unsigned home;
	uint32_t hashes, groups;
	struct cat_host_key keys[CAT_HOST_KEYS];
	bool locked; /* its keys can't be unwrapped */
	bool unseen; /* of an action over all hosts that has yet to come to this one */
	char lock_reason[300];
};

struct cat_port {
	uint16_t id;
	bool listens;     /* else it is known by its record only */
	char address[72]; /* where it listens */
	uint8_t ana[PST_ANA_GROUPS_MAX];
	unsigned home;
};

/* What is being done to a port, or to a volume's group: catalog-port.c. */
struct cat_port_work {
	struct cat_port *port;
	uint32_t groups, old_group;
	enum pst_ana_state state;
	uint8_t old[PST_ANA_GROUPS_MAX];
	struct pst_ana_op op;
};

/* In secret memory. */
struct cat_host_plain {
	struct pst_auth_key keys[CAT_HOST_KEYS];
};

/* What is being done to a host: catalog-host-keys.c. */
struct cat_host_work {
	struct cat_host next; /* as it will be */
	struct cat_host_plain *plain;
	bool unwrap[CAT_HOST_KEYS], wrap[CAT_HOST_KEYS], record;
	unsigned at;
	char detail[300];
	char current[PST_KEK_ID_MAX + 1]; /* of a rotation; else "" */
	void (*done)(struct pst_catalog *c, pst_err err);
	void (*all_done)(struct pst_catalog *c);
};

struct pst_catalog {
	struct pst_env *env;
	struct pst_target *target;
	json_t *addresses;
	struct cat_pool pools[PST_CATALOG_POOLS_MAX];
	unsigned pool_count;
	uint64_t names_seed;
	struct cat_names tenants, profiles, volumes, hosts, tokens;
	struct pst_hash token_ids;   /* the same tokens, by id */
	char *token_text;            /* secret memory: a token that was made, until it is answered with */
	unsigned site_profile_count; /* without the built-in ones */
	unsigned snapshot_count;     /* of all volumes */

	struct pst_list queue;   /* changes that wait, in order of arrival */
	struct pst_list reads;   /* not looked at yet */
	struct pst_list waiting; /* reads that want to know what is used; the first is in work while walk.busy */
	uint64_t tick;           /* counts reads and what they ask pools for */
	struct {
		bool busy;
		struct cat_volume *volume;     /* the next to ask for; NULL: the end */
		struct cat_snapshot *snapshot; /* NULL: the volume itself */
		struct cat_usage *usage;       /* where the answer goes; NULL: its object is gone */
		struct cat_snapshot *asked;    /* the snapshot that is asked for; NULL: a volume */
		unsigned pool;
		struct pst_pool_op op;
	} walk;
	struct pst_catalog_op *current; /* the change in work */
	struct pst_post post;
	bool posted;

	/* The one step in flight. */
	struct pst_pool_op pool_op;
	void (*pool_done)(struct pst_catalog *c, pst_err err);
	char key[PST_RECORD_KEY_MAX + 1];
	char record[PST_RECORD_VALUE_MAX];
	struct pst_subsystem_remove_op remove_op;
	struct pst_volume_close_op close_op;
	struct cat_job job;
	struct cat_snapshot_job snap;
	struct cat_keys keys;
	struct cat_host_work host;
	struct cat_port ports[PST_CATALOG_PORTS_MAX];
	unsigned port_count;
	struct cat_port_work port;
	char discovery_nqn[PST_NQN_MAX + 1]; /* "": not known yet */
	struct pst_catalog_identity_op *identifying;
	json_t *allow_next; /* the list that is being recorded */
	/* Of the change in work on a tenant or profile. */
	void *subject;
	unsigned subject_pool; /* of a change of a pool */
	char path[1024];       /* likewise */
	struct pst_qos_policy old_policy;
	uint64_t old_quota_bytes;
	bool rate_refused; /* of a create: PST_E_NOSPACE is about the rate that it reserves, not about the pool's space
			    */
	char old_summary[CAT_SUMMARY_MAX + 1];

	struct cat_event *events; /* a ring by number */
	uint64_t event_count;     /* number of the newest */
	uint64_t events_by_level[4];

	struct pst_catalog_pool_op *adding;
	char cursor[PST_NAME_MAX + 1]; /* volumes up to this name are loaded */
	struct pst_catalog_close_op *closing;
	bool close_waits;     /* for a check to end */
	struct pst_post turn; /* goes on with adding or closing, and ends a step that could not begin */
	pst_err turn_err;
};

/* ---- catalog.c ---- */

/* Fills an answer that is an error; c->current or not. */
void cat_op_error(struct pst_catalog_op *op, pst_err err, const char *hint, const char *fmt, ...) PST_PRINTF(4, 5);

/* Ends c->current with an error or, with PST_OK, with @result (taken over). */
void cat_fail(struct pst_catalog *c, pst_err err, const char *hint, const char *fmt, ...) PST_PRINTF(4, 5);
void cat_succeed(struct pst_catalog *c, json_t *result);

/* One durable step; @done runs on a later turn. @value is taken over; NULL (it could not be built) is PST_E_NOMEM. */
void cat_record_put(struct pst_catalog *c, unsigned pool, const char *kind, const char *name, json_t *value,
		    void (*done)(struct pst_catalog *c, pst_err err));
void cat_record_delete(struct pst_catalog *c, unsigned pool, const char *kind, const char *name,
		       void (*done)(struct pst_catalog *c, pst_err err));
/* The same for c->pool_op, filled but for done. */
void cat_pool_step(struct pst_catalog *c, unsigned pool, void (*done)(struct pst_catalog *c, pst_err err));

/* May @op be asked by who asks it? What a tenant may not ask is for the REST server to refuse: this is the second door.
 */
bool cat_open_to(const struct pst_catalog_op *op);

/* Why a policy was refused by the scheduler. */
void cat_fail_policy(struct pst_catalog *c, pst_err err, const char *what, const char *name);

/* ---- catalog-body.c ---- */

/* Members of c->current->body: false after cat_fail. @allowed ends with NULL. */
bool cat_body_check(struct pst_catalog *c, const char *const *allowed);
bool cat_body_name(struct pst_catalog *c, const char **ret_name);
bool cat_body_text(struct pst_catalog *c, const char *member, size_t max, const char **ret_text);
bool cat_body_u64(struct pst_catalog *c, const char *member, uint64_t *ret_value);
bool cat_body_policy(struct pst_catalog *c, struct pst_qos_policy *policy);

/* Bytes as hexadecimal digits, lower case. cat_unhex: false: @text is not that, or has more than @max bytes. */
void cat_hex(const uint8_t *bytes, uint32_t len, char *text);
bool cat_unhex(const char *text, uint8_t *bytes, uint32_t max, uint32_t *ret_len);

/* ---- catalog-read.c ---- */

/* Of @names, those that @op asks for: the one that it names, or all. */
struct cat_named *cat_asked_next(const struct pst_catalog_op *op, const struct cat_names *names,
				 const struct cat_named *after);
#define CAT_ASKED_EACH(it, op, names) \
	for (struct cat_named *it = cat_asked_next(op, names, NULL); (it) != NULL; (it) = cat_asked_next(op, names, it))

/* Reads that @op needs are under way; it is answered now or later. */
void cat_read(struct pst_catalog *c, struct pst_catalog_op *op);
/* Before the object is freed. */
void cat_read_forget_volume(struct pst_catalog *c, const struct cat_volume *v);
void cat_read_forget_snapshot(struct pst_catalog *c, const struct cat_snapshot *s);

/* What c->pool_op's info says. */
void cat_usage_take(struct pst_catalog *c, struct cat_usage *usage, const struct pst_volume_info *info);
/* What is known of a volume, also where the pool can't say. */
void cat_volume_usage(struct pst_catalog *c, const struct cat_volume *v, struct cat_usage *ret_usage);
/* Own bytes of all of its snapshots. */
uint64_t cat_snapshots_own(const struct cat_volume *v);

/* ---- catalog-pool.c ---- */

/* False: no pool that is open has this name. */
bool cat_pool_find(const struct pst_catalog *c, const char *name, unsigned *ret_index);
json_t *cat_pool_json(struct pst_catalog *c, unsigned index);
void cat_pool_read(struct pst_catalog *c, struct pst_catalog_op *op);
void cat_pool_change(struct pst_catalog *c);
/* Tells a check to end; true if one is running. */
bool cat_check_stop(struct pst_catalog *c, unsigned pool);
/* None may be running. */
void cat_check_free(struct pst_catalog *c, unsigned pool);

/* ---- catalog-events.c ---- */

/* Logs, and keeps it for those who ask. */
void cat_event(struct pst_catalog *c, unsigned pool, enum pst_log_level level, const char *fmt, ...) PST_PRINTF(4, 5);
/* "VOLUME" or "VOLUME@NAME" (in @buf); NULL: neither a volume nor a snapshot has it; deleted versions are nobody's. */
const char *cat_name_of(struct pst_catalog *c, const uint8_t uuid[16], char buf[CAT_SNAPSHOT_NAME_MAX + 1]);
json_t *cat_events_json(struct pst_catalog *c, uint64_t since, const char *pool);

/* ---- catalog-diff.c ---- */

void cat_diff(struct pst_catalog *c, struct pst_catalog_op *op);

/* ---- catalog-tenant.c: tenants and profiles ---- */

struct cat_tenant *cat_tenant_find(struct pst_catalog *c, const char *name);
struct cat_profile *cat_profile_find(struct pst_catalog *c, const char *name);
json_t *cat_tenant_json(struct pst_catalog *c, const struct cat_tenant *t);
json_t *cat_profile_json(const struct cat_profile *p);
pst_err cat_builtins(struct pst_catalog *c);
pst_err cat_tenant_load(struct pst_catalog *c, unsigned pool, const char *name, json_t *record);
pst_err cat_profile_load(struct pst_catalog *c, unsigned pool, const char *name, json_t *record);
/* Groups of all tenants on a pool that was just added. */
pst_err cat_tenants_on_pool(struct pst_catalog *c, unsigned pool);
void cat_tenants_free(struct pst_catalog *c);
void cat_tenant_change(struct pst_catalog *c);
void cat_profile_change(struct pst_catalog *c);
/* May @t have @more_bytes more? False after cat_fail. */
bool cat_tenant_quota(struct pst_catalog *c, const struct cat_tenant *t, const char *volume, uint64_t more_bytes);

/* ---- catalog-host.c ---- */

bool cat_nqn_ok(const char *nqn);
pst_err cat_host_load(struct pst_catalog *c, unsigned pool, const char *nqn, json_t *record);
json_t *cat_read_hosts(struct pst_catalog *c, const struct pst_catalog_op *op);
void cat_host_change(struct pst_catalog *c);
void cat_hosts_done(struct pst_catalog *c);

/* ---- catalog-host-keys.c ---- */

/* Over all hosts, one by one, then @done: those that were loaded; those that are locked; wrapped anew with @current. */
void cat_hosts_start(struct pst_catalog *c, void (*done)(struct pst_catalog *c));
void cat_hosts_unlock(struct pst_catalog *c, void (*done)(struct pst_catalog *c));
void cat_hosts_rotate(struct pst_catalog *c, const char *current, void (*done)(struct pst_catalog *c));

/* ---- catalog-token.c ---- */

pst_err cat_token_load(struct pst_catalog *c, unsigned pool, const char *name, json_t *record);
json_t *cat_read_tokens(struct pst_catalog *c, const struct pst_catalog_op *op);
void cat_token_change(struct pst_catalog *c);
/* How many are bound to @tenant. */
unsigned cat_tokens_of(struct pst_catalog *c, const char *tenant);
void cat_tokens_done(struct pst_catalog *c);

/* ---- catalog-identity.c ---- */

pst_err cat_identity_load(struct pst_catalog *c, json_t *record);

/* ---- catalog-port.c ---- */

pst_err cat_port_load(struct pst_catalog *c, unsigned pool, const char *name, json_t *record);
json_t *cat_read_ports(struct pst_catalog *c, const struct pst_catalog_op *op);
void cat_port_change(struct pst_catalog *c);
/* The request's "ana_group", if it has one. False after cat_fail. */
bool cat_ana_group_want(struct pst_catalog *c, uint32_t *ret_group);
/* The request changes the group alone. */
void cat_ana_group_set(struct pst_catalog *c, struct cat_volume *v);
/* The request attaches or detaches, alone. */
void cat_attached_set(struct pst_catalog *c, struct cat_volume *v);

/* ---- catalog-access.c ---- */

pst_err cat_allow_load(struct pst_catalog *c, unsigned pool, const char *name, json_t *record);
void cat_allow_json(const struct cat_volume *v, json_t *json);
json_t *cat_allow_record(const struct cat_volume *v);
/* Names of the volumes that list @nqn. */
json_t *cat_allowed_volumes(struct pst_catalog *c, const char *nqn);
/* The request's list, or that of @source (which may be NULL): NULL for any host. False after cat_fail. */
bool cat_allow_want(struct pst_catalog *c, const char *name, const struct cat_volume *source, json_t **ret_list);
/* What the target is told, valid as long as v->allowed; to be released. */
pst_err PST_MUST_USE cat_allow_of(const struct cat_volume *v, struct pst_allow_list *ret_list);
void cat_allow_done(struct pst_allow_list *list);
/* The request changes the list alone. */
void cat_allow_set(struct pst_catalog *c, struct cat_volume *v);

/* ---- catalog-key.c ---- */

/* There is secret memory for one key; false: there is none to be had. */
bool cat_key_secret(struct pst_catalog *c);

/* Steps: true: done at once, with *ret_err; else @done runs later. For volumes that are not encrypted: nothing to do.
 */
bool cat_key_make(struct pst_catalog *c, struct cat_volume *v, pst_err *ret_err,
		  void (*done)(struct pst_catalog *c, pst_err err));
/* Puts the encrypting layer above v->volume, or leaves the volume locked, which is no error unless it is being made. */
bool cat_key_unlock(struct pst_catalog *c, struct cat_volume *v, pst_err *ret_err,
		    void (*done)(struct pst_catalog *c, pst_err err));
/* The request's "encrypted", or what @source is. False after cat_fail; @v then stays as it is. */
bool cat_key_want(struct pst_catalog *c, struct cat_volume *v, const char *name, const struct cat_volume *source);
/* True after cat_fail: it is locked. */
bool cat_key_refuses(struct pst_catalog *c, const struct cat_volume *v);
void cat_key_record(const struct cat_volume *v, json_t *record);
pst_err PST_MUST_USE cat_key_load(struct cat_volume *v, json_t *record);
void cat_key_json(const struct cat_volume *v, json_t *json);
json_t *cat_read_keys(struct pst_catalog *c, const struct pst_catalog_op *op);
void cat_key_change(struct pst_catalog *c);
void cat_keys_done(struct pst_catalog *c);

/* ---- catalog-reservation.c ---- */

/* Fills in what was kept of the volume's reservation, and where to keep it. PST_E_FORMAT: that makes no sense. */
pst_err PST_MUST_USE cat_reservation_serve(struct pst_catalog *c, struct cat_volume *v,
					   struct pst_subsystem_config *config);
/* A step, as those of catalog-key.c: what was kept goes. */
bool cat_reservation_forget(struct pst_catalog *c, struct cat_volume *v, pst_err *ret_err,
			    void (*done)(struct pst_catalog *c, pst_err err));
void cat_reservation_free(struct cat_volume *v); /* out of service */

/* ---- catalog-volume.c ---- */

struct cat_volume *cat_volume_find(struct pst_catalog *c, const char *name);
/* As cat_volume_find, but only what @op may see. */
struct cat_volume *cat_volume_of(struct pst_catalog *c, const struct pst_catalog_op *op, const char *name);
bool cat_volume_visible(const struct pst_catalog_op *op, const struct cat_volume *v);
json_t *cat_volume_json(struct pst_catalog *c, const struct cat_volume *v);
/* Takes out of a volume's JSON (NULL: nothing to do) what @op may not see: a source that is another tenant's. */
void cat_volume_hide(struct pst_catalog *c, const struct pst_catalog_op *op, json_t *json);
bool cat_volume_shown(const struct cat_volume *v);
uint64_t cat_volume_bytes(const struct cat_volume *v);
pst_err cat_volume_load(struct pst_catalog *c, unsigned pool, const char *name, json_t *record, char *message,
			size_t message_bytes);
struct cat_volume *cat_volume_new(struct pst_catalog *c, const char *name);
void cat_volume_free(struct pst_catalog *c, struct cat_volume *v);
extern const char *const cat_state_names[];
/* Only states that are recorded. */
pst_err cat_state_parse(const char *text, enum cat_volume_state *ret_state);
void cat_uuid_new(struct pst_catalog *c, uint8_t ret_uuid[16]);

enum cat_program {
	CAT_PROGRAM_CREATE,
	CAT_PROGRAM_DELETE,
	CAT_PROGRAM_UNDO,
	CAT_PROGRAM_START,
	CAT_PROGRAM_STOP,
	CAT_PROGRAM_RESIZE,
	CAT_PROGRAM_STORE,
	CAT_PROGRAM_ROLLBACK,
	CAT_PROGRAM_SETTINGS,
	CAT_PROGRAM_UNLOCK, /* of a locked volume: the rest of START */
};

/* One at a time. @finished gets the first error. */
void cat_volume_job(struct pst_catalog *c, struct cat_volume *v, enum cat_program program, cat_job_fn *finished);

/* ---- catalog-snapshot.c ---- */

/* By "VOLUME@NAME". */
struct cat_snapshot *cat_snapshot_find(struct pst_catalog *c, const char *full_name);
/* As cat_snapshot_find, but only what @op may see. */
struct cat_snapshot *cat_snapshot_of(struct pst_catalog *c, const struct pst_catalog_op *op, const char *full_name);
bool cat_snapshot_shown(const struct cat_snapshot *s);
json_t *cat_snapshot_json(struct pst_catalog *c, const struct cat_snapshot *s);
pst_err cat_snapshot_load(struct pst_catalog *c, unsigned pool, const char *full_name, json_t *record, char *message,
			  size_t message_bytes);
void cat_snapshot_free(struct pst_catalog *c, struct cat_snapshot *s);
void cat_snapshot_change(struct pst_catalog *c);
/* A volume's snapshots cease to exist, in pool and catalog. "Not found" is what was wanted. */
void cat_snapshots_drop(struct pst_catalog *c, struct cat_volume *v, void (*done)(struct pst_catalog *c, pst_err err));
/* Completes or undoes what the last stop interrupted: any state but CAT_READY. It may be gone afterwards. */
void cat_snapshot_resolve(struct pst_catalog *c, struct cat_snapshot *s,
			  void (*done)(struct pst_catalog *c, pst_err err));

/* ---- catalog-volume-call.c ---- */

void cat_volume_change(struct pst_catalog *c);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The catalog: pools, tenants, volumes, snapshots, profiles, hosts and tokens; what is stored in the pools' records,
 * served by the target, and changed by the API. Core code: one shard (the target's home shard, on which the pools live
 * too), no system call. Changes run one after the other; each leaves the records such that a crash at any point is
 * completed or undone at the next start. Reading never waits for a change.
 *
 * Records: "tenant/NAME", "token/NAME", "profile/NAME", "host/NQN", "listen/PORT" and "identity/discovery" (in the
 * first pool), "volume/NAME", "allow/VOLUME", "snapshot/VOLUME@NAME" and "reservation/VOLUME" (in the volume's pool):
 * JSON objects with a member "format" (1). docs/catalog.md describes them.
 */
#ifndef PST_CONTROL_CATALOG_H
#define PST_CONTROL_CATALOG_H

#include "control/access.h"
#include "target/target.h"
#include "volume/pool.h"

#include <jansson.h>

#define PST_CATALOG_POOLS_MAX 8u
#define PST_CATALOG_VOLUMES_MAX 4096u
#define PST_CATALOG_TENANTS_MAX 1024u
#define PST_CATALOG_PROFILES_MAX 256u /* site-defined ones */
#define PST_CATALOG_SNAPSHOTS_MAX 16384u
#define PST_CATALOG_HOSTS_MAX 4096u
#define PST_CATALOG_TOKENS_MAX 1024u
#define PST_CATALOG_PORTS_MAX 64u    /* that records know; PST_TARGET_PORTS_MAX of them listen */
#define PST_CATALOG_EVENTS_MAX 1024u /* kept in memory; older ones are overwritten */

struct pst_catalog;

enum pst_catalog_op_kind {
	PST_CATALOG_LIST,     /* result: array of all objects of this kind, by name */
	PST_CATALOG_SHOW,     /* result: one */
	PST_CATALOG_DIFF,     /* snapshots: from, offset_bytes; result: ranges that differ */
	PST_CATALOG_REFRESH,  /* volumes: ask the pools what is used, for the metrics; no result */
	PST_CATALOG_CREATE,   /* body; result: the new object (snapshots: an array; devices: the pool) */
	PST_CATALOG_SET,      /* body: members to change; result: the object afterwards. Pools: grow */
	PST_CATALOG_ROLLBACK, /* volumes: body; result: the volume afterwards */
	PST_CATALOG_DELETE,   /* result: none */
};

enum pst_catalog_object {
	PST_CATALOG_POOL,
	PST_CATALOG_TENANT,
	PST_CATALOG_PROFILE,
	PST_CATALOG_VOLUME,
	PST_CATALOG_SNAPSHOT, /* named VOLUME@NAME */
	PST_CATALOG_HOST,     /* named by its NQN */
	PST_CATALOG_KEY,      /* of the volume that name names: list, show, delete (erases); create: an action */
	PST_CATALOG_PORT,     /* named by its id: list, show, set */
	PST_CATALOG_TOKEN,    /* list, show, create, delete (revokes) */
	PST_CATALOG_TASK,     /* of the pool that name names: list, create (starts), delete (stops) */
	PST_CATALOG_DEVICE,   /* likewise: create */
	PST_CATALOG_CHECK,    /* likewise: create (starts), show */
	PST_CATALOG_EVENT,    /* list */
};

struct pst_catalog_op {
	enum pst_catalog_op_kind kind;
	enum pst_catalog_object object;
	const char *name; /* all but LIST and CREATE (parts of pools: always); the caller's until done */
	const char *sub;  /* tasks: delete: which */
	json_t *body;     /* CREATE, SET; the caller's reference; may be NULL, which is an error to report */
	bool force;       /* volumes: delete, shrink or roll back also with hosts connected; hosts: delete if listed */
	bool with_snapshots;   /* volumes: delete their snapshots too */
	const char *volume;    /* snapshots: list only those of this one; tasks: stop the one of it; may be NULL */
	const char *pool;      /* events: only this pool's; may be NULL */
	uint64_t since;        /* events: those with higher numbers */
	const char *from;      /* diff: a snapshot, NAME or VOLUME@NAME; NULL: nothing */
	uint64_t offset_bytes; /* diff: where to begin */
	/*
	 * The caller's tenant; NULL: it is bound to none. To one that is bound, other tenants' volumes and snapshots
	 * are as if they did not exist, and all else that is not its own is refused.
	 */
	const char *tenant;
	void (*done)(struct pst_catalog_op *op);
	pst_err err;
	char message[400]; /* on error: what, which object */
	char hint[200];    /* the command to type next; may be empty */
	json_t *result;    /* the caller's reference to release */
	struct pst_list node;
	uint64_t tick; /* the catalog's */
};

pst_err PST_MUST_USE pst_catalog_new(struct pst_env *env, struct pst_target *target, struct pst_catalog **ret_catalog);

/* @addresses: an array of "HOST:PORT" that volumes are reached at. Takes a reference of its own. */
void pst_catalog_set_addresses(struct pst_catalog *catalog, json_t *addresses);

/*
 * Ports: after all pools have been added. The access that was set for port @id, as pst_target_listen takes it, NULL:
 * nothing; and that it listens, at @addr: it is shown and may be changed from now on.
 */
const uint8_t *pst_catalog_port_ana(struct pst_catalog *catalog, uint16_t id);
void pst_catalog_port_listens(struct pst_catalog *catalog, uint16_t id, const struct pst_addr *addr);

struct pst_catalog_identity_op {
	void (*done)(struct pst_catalog_identity_op *op); /* never inside the call */
	pst_err err;               /* it could not be recorded: it will be another one after the next start */
	const char *discovery_nqn; /* the catalog's, also after an error */
};

/* What this instance is called as a discovery service. Once, after all pools have been added and before any call. */
void pst_catalog_identity(struct pst_catalog *catalog, struct pst_catalog_identity_op *op);

struct pst_kek;

/* What volume keys are wrapped with; the caller's, for as long as the catalog is open. Before the first pool. */
void pst_catalog_set_kek(struct pst_catalog *catalog, struct pst_kek *kek);

struct pst_catalog_pool_op {
	const char *name;      /* of the pool; copied */
	struct pst_pool *pool; /* the catalog's from now on, also after an error */
	struct pst_qos_config qos;
	void (*done)(struct pst_catalog_pool_op *op);
	pst_err err;
	char message[400];
};

/*
 * Loads the pool's records, finishes what a crash interrupted, serves its volumes. One at a time, before any
 * pst_catalog_submit. A volume that can't be opened does not fail the pool: it is listed with state "failed".
 */
void pst_catalog_add_pool(struct pst_catalog *catalog, struct pst_catalog_pool_op *op);

/*
 * Whose token @text is; on the home shard, like all that follows. PST_E_DENIED: nobody's, or one that has expired;
 * *ret_why then is a word for the log, never for the caller.
 */
pst_err PST_MUST_USE pst_catalog_authenticate(struct pst_catalog *catalog, const char *text,
					      struct pst_caller *ret_caller, const char **ret_why);
/* Was its token revoked meanwhile, or has it expired? */
bool pst_catalog_caller_valid(struct pst_catalog *catalog, const struct pst_caller *caller);

/* op->done never runs inside the call. */
void pst_catalog_submit(struct pst_catalog *catalog, struct pst_catalog_op *op);

struct pst_catalog_close_op {
	void (*done)(struct pst_catalog_close_op *op);
};

/* Takes the volumes out of service, closes volumes and pools, frees the catalog. No calls may be outstanding. */
void pst_catalog_close(struct pst_catalog *catalog, struct pst_catalog_close_op *op);

/*
 * For pst_store_config.on_event and its like: an event of a pool, on the home shard, from before the pool is added. The
 * pool has logged it already.
 */
void pst_catalog_event(struct pst_catalog *catalog, const char *pool, enum pst_log_level level, const char *text);
/* How many there were, by level. */
void pst_catalog_event_counts(struct pst_catalog *catalog, uint64_t ret_counts[4]);

/* ---- For metrics; pointers are valid until the shard's next turn. ---- */

struct pst_catalog_volume_info {
	const char *name, *tenant, *profile, *pool;
	uint64_t size_bytes, used_bytes, mapped_bytes, own_bytes, snapshot_bytes;
	uint32_t hosts, snapshots;
	struct pst_subsystem *subsystem;
	struct pst_qos_flow *flow;
};

/* The first volume in service whose name is behind @after ("" for the first at all); false at the end. */
bool pst_catalog_next_volume(struct pst_catalog *catalog, const char *after, struct pst_catalog_volume_info *ret_info);

#define PST_CATALOG_TASKS_MAX 256u /* of a pool, that are looked at */

/* By enum pst_pool_task_kind. */
extern const char *const pst_catalog_task_names[PST_TASK_KINDS];

struct pst_catalog_pool_info {
	const char *name, *engine;
	struct pst_pool_stats stats;
	struct pst_pool_task tasks[PST_CATALOG_TASKS_MAX];
	uint32_t task_count;
};

bool pst_catalog_pool_at(struct pst_catalog *catalog, unsigned index, struct pst_catalog_pool_info *ret_info);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The NVMe/TCP target: subsystems with namespaces, controllers, connections. Control calls run on the target's home
 * shard; connections live on the shard that accepted them.
 */
#ifndef PST_TARGET_TARGET_H
#define PST_TARGET_TARGET_H

#include "base/hist.h"
#include "base/limit.h"
#include "proto/auth-crypto.h"
#include "qos/qos.h"
#include "volume/volume.h"

#define PST_NQN_MAX 223u /* bytes, without the terminating zero (NVMe Base, NVMe Qualified Names) */

#define PST_TARGET_PORTS_MAX 16u
#define PST_TARGET_REFERRALS_MAX 16u
#define PST_ANA_GROUPS_MAX 32u /* ids 1 to 32: ANAGRPMAX, NANAGRPID */

struct pst_target;
struct pst_subsystem;

/* Limits; 0: the default. Names, defaults and ranges are in one table, config.c; docs/target.md has it for people. */
struct pst_target_config {
	uint32_t io_queues_max;             /* per controller */
	uint32_t queue_entries_max;         /* of a queue; commands of a connection */
	uint32_t transfer_bytes_max;        /* MDTS; power of two */
	uint32_t incapsule_bytes;           /* for I/O queues */
	uint32_t connections_max;           /* in all; further ones are closed at once, as for the next four */
	uint32_t half_open_max;             /* that have not finished Connect; per shard */
	uint32_t half_open_per_address_max; /* of those from one address; per shard */
	uint32_t accepts_per_s_max;         /* per shard, after connections_max at once */
	uint32_t connections_per_host_max;  /* by host NQN; further ones: Connect is answered with busy */
	uint64_t buffer_bytes_max;          /* data buffers per shard. Exhausted: commands wait */
	uint32_t registrants_max;           /* hosts that reservations know, per subsystem */
	uint32_t keep_alive_ms_default;     /* for discovery controllers whose host asks for none */
	uint32_t auth_max;                  /* queues that are authenticating at a time; further ones: busy */
	uint32_t auth_per_host_max;         /* of those of one host NQN */
	uint32_t connect_timeout_ms;        /* from accept to the end of Connect */
	uint32_t auth_timeout_ms;           /* from there to the end of authentication */
	uint32_t stall_timeout_ms;          /* nothing of promised data comes, or of ours is taken */
	uint32_t data_timeout_ms;           /* from asking for a write's data to its end, however it trickles */
	uint32_t tls_handshake_timeout_ms;  /* from accept to the end of the handshake. Looked at twice a second */
	uint32_t tls_handshake_bytes_max;   /* that a host may send for it */
	uint32_t tls_buffer_bytes;          /* three for each connection over TLS */
	uint64_t tls_rekey_records;         /* sent until the key is renewed (RFC 8446, 5.5) */
	bool authenticate_remote;           /* hosts without a key may come over loopback addresses only */
};

/* The limits by name: for pst_limit_set. */
const struct pst_limit *pst_target_limits(size_t *ret_count);

/* Puts defaults in the place of zeros. PST_E_INVAL: @why says which limit does not fit. */
pst_err PST_MUST_USE pst_target_config_complete(struct pst_target_config *config, char why[PST_LIMIT_WHY_BYTES]);

/* @envs: the shards that serve connections; envs[0] is the home shard. */
pst_err PST_MUST_USE pst_target_new(struct pst_env *const *envs, uint32_t env_count,
				    const struct pst_target_config *config, struct pst_target **ret_target);

/* ---- Ports and the access through them (NVM Express Base 2.0, 8.1): ana.c. Home shard. ---- */

/* As log page 0Ch has them. */
enum pst_ana_state {
	PST_ANA_OPTIMIZED = 1,
	PST_ANA_NON_OPTIMIZED = 2,
	PST_ANA_INACCESSIBLE = 3,
	PST_ANA_PERSISTENT_LOSS = 4,
	PST_ANA_CHANGE = 15, /* between two others: commands are refused, and hosts wait at most ANATT for the end */
};

/* "optimized", "non-optimized", "inaccessible", "persistent-loss", "change". Pure; any thread. NULL, false: none. */
const char *pst_ana_state_name(enum pst_ana_state state);
bool pst_ana_state_find(const char *name, enum pst_ana_state *ret_state);

/* Over TLS come hosts that have a TLS key (struct pst_target_host), and no others. */
enum pst_target_tls {
	PST_TARGET_TLS_OFF,
	PST_TARGET_TLS_ALLOWED,  /* a connection's first byte says which it is */
	PST_TARGET_TLS_REQUIRED, /* who does not speak TLS is closed at once */
};

/* An address where hosts connect: a port of every subsystem. */
struct pst_target_port {
	uint16_t id; /* from 1 */
	struct pst_addr addr;
	enum pst_target_tls tls;
	const uint8_t *ana; /* enum pst_ana_state of each group, by id - 1; copied. NULL: all optimized */
};

/* Listens on every shard. PST_E_EXISTS (the id), PST_E_NOMEM (no more ports), PST_E_ADDRINUSE and others of pst_listen.
 */
pst_err PST_MUST_USE pst_target_listen(struct pst_target *target, const struct pst_target_port *port,
				       struct pst_addr *ret_bound);

/*
 * Discovery: a name of this target's own for its discovery service, which hosts may use in place of the well-known one
 * and see in its log; it should outlive restarts. Before the first port. And a discovery service elsewhere, which hosts
 * are referred to: PST_E_NOMEM beyond PST_TARGET_REFERRALS_MAX.
 */
void pst_target_set_discovery_nqn(struct pst_target *target, const char *nqn);
pst_err PST_MUST_USE pst_target_refer(struct pst_target *target, const struct pst_addr *addr);

/* A change of the access of paths; embedded in the caller's own structure. One at a time for each target. */
struct pst_ana_op {
	void (*done)(struct pst_ana_op *op); /* never inside the call */
	uint32_t parts;                      /* the target's */
};

/*
 * The access to the volumes of @groups (bit id - 1) through port @port_id becomes @state. Commands that a volume has
 * already are completed. Later ones on a path that is not accessible are answered with its status, without Do Not
 * Retry. Hosts get an event. When done, nothing that came over a path which is not accessible now is still to reach a
 * volume. PST_E_NOTFOUND: no such port.
 */
pst_err PST_MUST_USE pst_target_set_ana(struct pst_target *target, uint16_t port_id, uint32_t groups,
					enum pst_ana_state state, struct pst_ana_op *op);

/* The subsystem's namespace is in ANA group @group (1 to PST_ANA_GROUPS_MAX) from now on. As above. */
void pst_subsystem_set_group(struct pst_subsystem *subsystem, uint32_t group, struct pst_ana_op *op);

/*
 * Detached, the namespace is not there for hosts, which stay connected: it is on no list, and commands to it are
 * refused. As above: what the volume has already is completed, and nothing is left of it when done.
 */
void pst_subsystem_set_attached(struct pst_subsystem *subsystem, bool attached, struct pst_ana_op *op);

/*
 * Before subsystems are removed for a shutdown: from now on connections are refused, and a Connect under way is
 * answered with "controller busy". A host that lost its connection would otherwise come back at once, be told that its
 * subsystem does not exist, and give up for good instead of waiting for the restart.
 */
void pst_target_quiesce(struct pst_target *target);

struct pst_target_stop_op {
	void (*done)(struct pst_target_stop_op *op);
};

/* Close listeners, drain and close connections, then op->done; frees the target. Subsystems must be removed before. */
void pst_target_stop(struct pst_target *target, struct pst_target_stop_op *op);

/* ---- Who may connect: access.c. Home shard. ---- */

/*
 * What the target knows of a host. Whoever claims the name of a host that has a key proves that he knows it, on every
 * queue of every subsystem, discovery included: a TLS key by using it (so such a host comes over TLS only), a host key
 * by DH-HMAC-CHAP, both if there are both. Hosts that the target does not know have no key.
 */
struct pst_target_host {
	const char *nqn;
	const struct pst_auth_key *host_key; /* NULL: none */
	const struct pst_auth_key *ctrl_key; /* we prove ourselves with it, if the host asks for that. NULL: none */
	const struct pst_auth_key *tls_key;  /* its configured PSK (tls-key.h). NULL: none */
	bool locked;                         /* it has a key, but we can't have it now: nobody may use the name */
	uint32_t hashes, groups;             /* bit per identifier that may be used; 0: all */
};

/*
 * Adds a host, or puts new keys in the place of old ones. Associations that it has stay, but for those of a name that
 * now wants a proof and had not given one. Everything is copied. PST_E_NOMEM, PST_E_INVAL (the name's length).
 */
pst_err PST_MUST_USE pst_target_host_set(struct pst_target *target, const struct pst_target_host *host);

/* Its associations end, if it had a key. Harmless if it is not there. */
void pst_target_host_remove(struct pst_target *target, const char *nqn);

/* The hosts that may connect to a subsystem, by NQN. */
struct pst_allow_list {
	bool restricted; /* false: any host */
	const char *const *nqns;
	uint32_t count;
};
/*
 * Keeps what must survive a loss of power of a subsystem's reservation (persist through power loss), in place of what
 * was kept before; durable when done. Everything is the target's until @done, which runs on the home shard, never
 * inside the call, with @err set. One at a time per subsystem; none is under way when the subsystem's removal is done.
 */
struct pst_reservation_save_op {
	const void *bytes;
	uint32_t len_bytes; /* 0: nothing is to be kept any more */
	void (*done)(struct pst_reservation_save_op *op);
	pst_err err;
};

typedef void pst_reservation_save_fn(void *ctx, struct pst_reservation_save_op *op);

struct pst_subsystem_config {
	const char *nqn;
	const char *serial; /* at most 20 ASCII characters */
	const char *model;  /* at most 40 */
	uint32_t nsid;
	uint8_t uuid[16];
	uint32_t ana_group; /* 0: 1 */
	bool detached;      /* see pst_subsystem_set_attached */
	struct pst_allow_list allow;
	struct pst_volume *volume;                 /* the caller closes it, after removal is done */
	struct pst_qos_flow *flow;                 /* NULL: no admission control */
	pst_reservation_save_fn *reservation_save; /* NULL: reservations don't persist, and hosts are told so */
	void *reservation_save_ctx;
	const void *reservation;    /* what was kept last; copied */
	uint32_t reservation_bytes; /* 0: nothing */
};

/* One volume, one subsystem. PST_E_EXISTS; PST_E_FORMAT: what was kept of its reservation makes no sense. Appears in
 * discovery at once, with an event to discovery hosts. */
pst_err PST_MUST_USE pst_subsystem_add(struct pst_target *target, const struct pst_subsystem_config *config,
				       struct pst_subsystem **ret_subsystem);

/* Hosts that are not on the list any more are disconnected. The list is copied; PST_E_NOMEM leaves the old one. */
pst_err PST_MUST_USE pst_subsystem_allow(struct pst_subsystem *subsystem, const struct pst_allow_list *allow);

struct pst_subsystem_remove_op {
	void (*done)(struct pst_subsystem_remove_op *op);
};

/* Controllers are torn down, requests in flight finish, then op->done. */
void pst_subsystem_remove(struct pst_subsystem *subsystem, struct pst_subsystem_remove_op *op);

/* After the volume's size changed: hosts get the namespace-changed event. */
void pst_subsystem_resized(struct pst_subsystem *subsystem);

/* How many hosts are connected and authenticated (a volume in use on delete is refused by the control plane). */
uint32_t pst_subsystem_host_count(struct pst_subsystem *subsystem);

/* Per volume, for /metrics and `penstock top`; indexes: 0 read, 1 write, 2 flush, 3 others. Home shard. */
struct pst_subsystem_stats {
	struct pst_hist latency[4];  /* arrival of the command to its last byte handed to the socket */
	struct pst_hist wait_qos;    /* admission */
	struct pst_hist wait_device; /* dispatch to completion by the volume */
	uint64_t ops[4], errors[4];
	uint64_t media_errors;                             /* of those: status code type 2h */
	uint64_t bytes_read, bytes_written;                /* payload of completed commands */
	uint64_t socket_bytes_received, socket_bytes_sent; /* TCP_INFO of its connections, closed ones included */
	uint64_t retransmits;
};

void pst_subsystem_stats(struct pst_subsystem *subsystem, struct pst_subsystem_stats *ret_stats);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The target's own structures. Who may touch what:
 *  - home shard (envs[0]): target, subsystems, controllers;
 *  - connection's shard: its connection, commands, buffers, statistics of that shard;
 *  - volume's shard: only what the functions named *_there do to one command, while it is posted there.
 * Between shards go posts, embedded in the structure that they are about.
 */
#ifndef PST_TARGET_INTERNAL_H
#define PST_TARGET_INTERNAL_H

#include "base/hash.h"
#include "proto/auth.h"
#include "proto/conn.h"
#include "proto/tls.h"
#include "target/buffers.h"
#include "target/check.h"
#include "target/reservation.h"
#include "target/state.h"
#include "target/target.h"

#include <stdatomic.h>
#include <string.h>

#define PST_TARGET_MODEL "Penstock volume"
#define PST_TARGET_FIRMWARE "0.1.0"

#define PST_ADMIN_INCAPSULE_BYTES 8192u        /* TCP transport 3.3.2: the admin queue takes it in any case */
#define PST_INCAPSULE_BUDGET_BYTES 131072u     /* waiting in-capsule data per connection; then it isn't read */
#define PST_TERMINATE_TIMEOUT_NS 1000000000ull /* for the peer to close after a termination request */
#define PST_PARTING_TIMEOUT_NS 100000000ull    /* for TLS's closing alert to leave; the peer's is not waited for */
#define PST_AUTH_RECEIVE_BYTES_MAX 16384u      /* AL of Authentication Receive; longer than any message */
#define PST_TICK_NS 500000000ull
#define PST_SEND_IOV_MAX 256u
/* A send or a receive copies all of it before anyone else has a turn: less while other connections of the shard are
 * busy. */
#define PST_SEND_BYTES_MAX 262144u
#define PST_TURN_BYTES_SHARED 65536u
#define PST_EXPECT_MAX 16u     /* commands that a volume is told of at once */
#define PST_SHARED_NS 1000000u /* how long a connection that has received something counts as busy */

struct pst_shard;
struct pst_ctrl;
struct pst_queue;
struct pst_known_host;
struct pst_tls_lookup;

/* ---- Commands ---- */

/* Life of a command; the table of legal moves is in command.c, the picture in docs/target.md. */
enum pst_cmd_state {
	PST_CMD_FREE,
	PST_CMD_RECEIVED,   /* checked; waiting for admission */
	PST_CMD_ADMITTED,   /* waiting for a buffer, if it needs one */
	PST_CMD_DATA,       /* its payload is being pulled */
	PST_CMD_DISPATCHED, /* with the volume, or with the home shard */
	PST_CMD_COMPLETED,  /* completion, and data of a read, on the way to the socket */
	PST_CMD_STATES,
};

struct pst_cmd {
	struct pst_queue *queue;
	enum pst_cmd_state state;
	struct pst_list node;      /* queue->cmds_free, or queue->hungry while waiting for a buffer */
	struct pst_conn_cmd *wire; /* the engine's view; it holds in-capsule data until the command is over */
	struct pst_checked_io io;
	uint64_t arrived_ns, pulled_ns, dispatched_ns;
	struct iovec iov;     /* the payload */
	uint8_t *buffer;      /* from the shard's buffers; NULL: none, in-capsule data, or a loan */
	struct pst_loan loan; /* of a read, until its data is sent; iov_count 0: none */
	uint32_t buffer_bytes;
	uint32_t incapsule_bytes; /* of data with the capsule, charged to the budget until dispatch */
	bool abort;               /* answer with Command Abort Requested as soon as possible */
	bool admitted;            /* counted in by the flow: leave exactly once */
	bool to_home;             /* an admin, Fabrics or reservation command */

	/* Fused commands: fused.c. */
	struct pst_cmd *fused;        /* the second: the first; read by the volume's shard */
	struct pst_cmd *fused_second; /* the first: the second, once it is there */
	uint32_t fused_missing;       /* the second: data of so many has yet to come */
	pst_err fused_err;

	/* Dataset Management, Copy */
	struct pst_block_range *ranges; /* in the payload's memory */
	uint32_t range_count, range_index;

	/* Crossing shards: one crossing at a time, but cancelling may overtake waiting. */
	struct pst_qos_waiter waiter;
	bool waiting_there; /* volume's shard */
	bool cancelling, leaving;
	struct pst_post post, cancel_post;

	/* Volume's shard, from the gate to the volume's answer; reservation commands: home shard. */
	struct pst_io volume_io;
	struct pst_list gate_node; /* gate->inside, held_back, compounds; reservations->waiting */
	struct iovec part_iov;
	uint64_t done_blocks, range_done; /* of a compound command */
	bool fenced;                      /* a change of the reservation waits until it has left */
	bool inside;                      /* of the gate: it has begun */
	bool ana_fenced;                  /* likewise a change of the access through its port */
	uint64_t first_lba, last_lba;     /* what it may change, if it does; last is inside */

	/* What the home or the volume's shard answers. */
	uint16_t status;
	uint32_t dw0, dw1;
	struct pst_list aer_node; /* ctrl->aers, or target->auth_line */
	enum pst_auth_outcome {
		PST_AUTH_NOTHING,
		PST_AUTH_PROVED,
		PST_AUTH_REFUSED
	} auth; /* what it did to its queue */
	struct pst_queue *abort_queue;
};

/* ---- Connections: one queue each ---- */

enum pst_queue_state {
	PST_QUEUE_OPEN,        /* accepted; Connect has yet to come */
	PST_QUEUE_LIVE,        /* connected */
	PST_QUEUE_TERMINATING, /* termination request on its way; waiting for the peer to close */
	PST_QUEUE_CLOSING,     /* the stream is being closed; commands come home */
};

struct pst_queue {
	/* Connection's shard. */
	struct pst_shard *shard;
	struct pst_list shard_node;
	struct pst_list half_open_node; /* shard->half_open: until Connect has succeeded */
	enum pst_queue_state state;
	struct pst_stream *stream;
	struct pst_conn *conn;
	struct pst_tls *tls;           /* between them; NULL: they speak in clear */
	struct pst_tls_lookup *lookup; /* on its way to the home shard and back */
	bool parting;                  /* CLOSING, and the stream still takes TLS's closing alert */
	struct pst_timer parting_end;
	struct pst_stream_op recv, send;
	struct iovec recv_iov[2], send_iov[PST_SEND_IOV_MAX];
	bool receiving, sending, pumping;
	struct pst_list dirty_node;  /* shard->dirty: has output, or may read again */
	struct pst_list hungry;      /* commands waiting for buffers, in order */
	struct pst_list hungry_node; /* shard->hungry */
	uint64_t buffer_bytes_held, buffer_bytes_cap;
	uint32_t incapsule_waiting_bytes;
	uint32_t state_count[PST_CMD_STATES];
	struct pst_list cmds_free;
	struct pst_cmd *cmds;
	uint32_t cmd_count, cmds_used; /* those beyond have never been touched: their memory is not resident */
	uint8_t fabrics_data[2048];    /* of Connect or Authentication Send */
	struct pst_cmd *fabrics_cmd;   /* whose it is; NULL: nobody's */
	uint16_t qid;
	bool authenticated;          /* or need not be; from Connect on */
	bool auth_failed;            /* closed when the peer has had time to read why */
	struct pst_cmd *fused_first; /* waits for the one that it is fused with; NULL: none */
	bool fused_broken;           /* it is over: the next one, if it is the second, has failed */
	uint64_t state_since_ns, input_ns, send_began_ns;
	uint64_t turn_ns; /* the time, while pumping: one look at the clock for all events of a turn */
	struct pst_close_op close_op;
	bool stream_closed, lost_answered, gone_posted;
	struct pst_post lost_post, gone_post;
	struct pst_addr local, peer;
	unsigned port; /* index; constant from the start */

	/* Who has proved by TLS to be who; NULL: nobody. Constant from before Connect on, and read at home, too. */
	const struct pst_tls_identity *tls_peer;

	/* Home shard, from Connect until lost; subsystem, nsid and volume are constant then and may be read anywhere.
	 */
	struct pst_ctrl *ctrl;
	struct pst_list ctrl_node;
	uint16_t home_qid;
	struct pst_guest *guest;         /* from Connect until it is gone */
	struct pst_auth *auth;           /* secret memory; while it is authenticating */
	struct pst_subsystem *subsystem; /* NULL: discovery */
	uint8_t hostid[16];              /* constant from Connect on, as the subsystem */
	uint16_t cntlid;                 /* likewise */
	struct pst_list subsystem_node;
	_Atomic uint8_t denies;     /* home, read on the connection's shard: bits of PST_ACCESS_*, by the reservation */
	struct pst_post visit_post; /* to abort its commands, for a Preempt and Abort */
	/* Volume's shard: the same, by the reservation that the gate has as its gate_version. */
	uint32_t gate_version;
	uint8_t gate_denies;
	struct pst_qos_source source; /* volume's shard: this connection's turns among those of its volume */
	bool kill_posted;
	struct pst_post kill_post;

	/* Written on the connection's shard, read at home. */
	_Atomic uint64_t socket_received, socket_sent, retransmits;
	uint64_t seen_received, seen_sent, seen_retransmits; /* home: folded into the subsystem */
};

struct pst_shard {
	struct pst_target *target;
	struct pst_env *env;
	uint32_t index;
	struct pst_list queues;
	struct pst_list dirty;
	struct pst_list hungry;
	bool dirty_posted, feeding;
	struct pst_post dirty_post;
	struct pst_buffers buffers;
	const struct pst_queue *received_last; /* only to compare; NULL: it is gone */
	uint64_t shared_until_ns;              /* another than that has received something since PST_SHARED_NS */
	struct pst_timer tick;
	struct pst_list listeners;
	struct pst_list half_open;
	uint64_t accept_ns;      /* accept.c */
	uint64_t refused_log_ns; /* 0: never */
	uint32_t refused;        /* since then */
	bool stopping;
	struct pst_post stop_post;
};

/* ---- Home shard ---- */

/* A host, as long as it has connections: guest.c. */
struct pst_guest {
	struct pst_hash_node node; /* target->guests */
	char hostnqn[PST_NQN_MAX + 1];
	uint32_t connections, auths;
};

struct pst_ctrl {
	struct pst_target *target;
	struct pst_list node;
	struct pst_hash_node id_node;    /* target->ctrl_ids */
	struct pst_subsystem *subsystem; /* NULL: discovery */
	uint16_t cntlid;
	char hostnqn[256];
	uint8_t hostid[16];
	struct pst_registers registers;
	struct pst_features features;
	struct pst_events events;
	struct pst_log_errors errors;
	uint32_t changed_nsid;
	uint64_t ana_changes; /* the last that it was told of */
	struct pst_log_notices notices;
	uint32_t abort_count; /* on their way to another queue and back */
	struct pst_list queues;
	struct pst_list aers; /* commands that wait for events */
	struct pst_timer keep_alive;
	uint64_t alive_ns;
	unsigned port; /* index: where its admin queue is connected */
	bool remote;   /* it came over an address that is not loopback */
	bool secure;   /* it came over TLS, with its key */
	bool admitted; /* its admin queue is authenticated, or need not be */
	bool proved;   /* it is authenticated */
	bool dead;
};

/* The reservation commands of a subsystem: reservation-command.c. */
struct pst_reservations {
	struct pst_reservation state; /* in force */
	pst_reservation_save_fn *save;
	void *save_ctx;
	struct pst_list waiting;
	/* Of the command in work. */
	struct pst_cmd *current; /* NULL: none */
	struct pst_reservation_request
	    request; /* also read at the gate, while the change is there; as next and effect */
	struct pst_reservation next;
	struct pst_reservation_effect effect;
	uint32_t parts; /* that it waits for */
	struct pst_post post;
	struct pst_reservation_save_op save_op;
	uint8_t saved[PST_RESERVATION_SAVED_MAX];
};

#define PST_GATE_SCRATCH_BYTES 131072u

/* Volume's shard: gate.c, compound.c. */
struct pst_gate {
	struct pst_list inside; /* commands that the volume has */
	/* Writes of blocks that a Compare and Write, or a write of another association, is at work on. In order. */
	struct pst_list held_back;
	uint32_t changing; /* of those inside: commands of one request, or of ranges, that change blocks */
	uint16_t changing_cntlid;
	bool changing_mixed;       /* they are not all of that controller */
	struct pst_list compounds; /* compound commands that wait for their turn */
	struct pst_cmd *compound;  /* the one at work, also inside; NULL: none */
	bool compound_waits;       /* for writes of its blocks that came before */
	bool choosing;
	uint8_t *scratch; /* its memory */
	struct pst_reservation reservation;
	uint32_t version;                /* of the reservation: counts its changes */
	struct pst_reservations *change; /* waits until the fenced have left; NULL: none */
	uint32_t fenced;
	uint8_t ana[PST_TARGET_PORTS_MAX]; /* enum pst_ana_state, by port */
	uint32_t ana_fenced;               /* a change of the access waits until these have left */
};

struct pst_shard_stats {
	struct pst_hist latency[4], wait_qos, wait_device;
	uint64_t ops[4], errors[4], bytes_read, bytes_written, media_errors;
};

struct pst_subsystem {
	struct pst_target *target;
	struct pst_list node;
	struct pst_hash_node name_node; /* target->subsystem_names */
	char nqn[PST_NQN_MAX + 1];
	char serial[21], model[41];
	uint32_t nsid;
	uint8_t uuid[16];
	struct pst_volume *volume;
	struct pst_qos_flow *flow;
	uint64_t added_ns;
	uint32_t ana_group;
	_Atomic uint8_t ana[PST_TARGET_PORTS_MAX]; /* by port; written at home, a first look on connections' shards */
	uint64_t ana_changes[PST_TARGET_PORTS_MAX];
	/* Of a change: constant while the gate looks at it. */
	struct pst_ana_op *ana_op; /* NULL: none */
	uint8_t ana_next[PST_TARGET_PORTS_MAX];
	uint32_t ana_parts;        /* that it waits for */
	bool detached, ns_changed; /* as set; hosts are to look at the namespace again when it is in force */
	struct pst_post ana_post, ana_drained_post;
	struct pst_list queues;
	uint32_t queue_count; /* connected and not yet gone */
	uint32_t ctrl_count;
	uint32_t host_count; /* controllers that are admitted */
	bool restricted;     /* to the hosts named in allowed */
	char (*allowed)[PST_NQN_MAX + 1];
	uint32_t allowed_count;
	struct pst_subsystem_remove_op *remove;
	bool remove_posted;
	struct pst_post remove_post;
	uint64_t socket_received, socket_sent, retransmits; /* of closed connections */
	struct pst_shard_stats *shard_stats;                /* one per shard, written there */
	struct pst_reservations reservations;
	struct pst_gate gate; /* volume's shard */
};

struct pst_port {
	uint16_t id;
	struct pst_addr bound;
	enum pst_target_tls tls;
	uint8_t ana[PST_ANA_GROUPS_MAX]; /* enum pst_ana_state, by group - 1 */
};

struct pst_target {
	struct pst_target_config config;
	struct pst_port ports[PST_TARGET_PORTS_MAX]; /* never removed, and but for the states constant */
	unsigned port_count;
	struct pst_ana_op *ana_op; /* a change in work; NULL: none */
	struct pst_post ana_post;
	struct pst_shard *shards;
	uint32_t shard_count;
	struct pst_list subsystems;
	struct pst_list ctrls;
	struct pst_list hosts;
	struct pst_tls_context *tls;         /* constant from the first port with TLS on; NULL: there is none */
	uint64_t generation, generation_all; /* of the discovery log: the last of anybody's, the last of all hosts' */
	struct pst_list views;               /* of single hosts: discovery.c */
	uint32_t view_count;
	char discovery_nqn[PST_NQN_MAX + 1]; /* "": only the well-known one */
	struct pst_addr referrals[PST_TARGET_REFERRALS_MAX];
	unsigned referral_count;
	struct pst_hash subsystem_names, ctrl_ids, guests;
	uint32_t auth_count;         /* queues that are authenticating */
	struct pst_list auth_line;   /* Authentication Sends that wait for their turn */
	struct pst_timer auth_timer; /* for the next of them */
	uint64_t auth_next_ns;       /* not before */
	uint16_t cntlid_next;
	_Atomic uint32_t queue_count; /* accepted and not yet gone */
	atomic_bool quiet;            /* shutting down: nobody new */
	uint32_t shards_stopped;
	bool stopping, stop_done_posted;
	struct pst_target_stop_op *stop;
	struct pst_post stop_post;
};

static inline struct pst_env *pst_target_home(const struct pst_target *target)
{
	return target->shards[0].env;
}

static inline uint64_t pst_ms_ns(uint32_t ms)
{
	return (uint64_t)ms * 1000000;
}

/* ---- queue.c: connection's shard ---- */

void pst_queue_accept(void *listener, struct pst_stream *stream);
uint64_t pst_queue_now_ns(const struct pst_queue *queue);
void pst_queue_dirty(struct pst_queue *queue); /* has something to send, or may read again: on this shard's next turn */
void pst_queue_close(struct pst_queue *queue, const char *why);
void pst_queue_shut(struct pst_queue *queue); /* CLOSING: the stream goes */
void pst_queue_check_closed(struct pst_queue *queue);
void pst_queue_resume(struct pst_queue *queue); /* on a turn of its own */
/* After malformed input: waits for the peer to close, which is done for it soon. */
void pst_queue_terminate(struct pst_queue *queue);
void pst_queue_refresh_sockets(struct pst_queue *queue);
void pst_shard_tick(struct pst_timer *timer);
void pst_shard_run_dirty(struct pst_post *post);
void pst_shard_feed_hungry(struct pst_shard *shard); /* buffers came back */

/* ---- accept.c: the shard that accepts ---- */

/* The limit that a new connection would exceed; NULL: it is taken, and counted. */
const char *pst_accept_refusal(struct pst_shard *shard, const struct pst_addr *peer);
void pst_accept_log(struct pst_shard *shard, const struct pst_addr *peer, const char *limit);

/* ---- guest.c: home shard ---- */

/* A connection becomes its host's; a status. @hostnqn has been checked. */
uint16_t pst_guest_enter(struct pst_queue *queue, const char *hostnqn);
void pst_guest_leave(struct pst_queue *queue); /* harmless if it never became so */
void pst_target_limit_log(struct pst_target *target, const struct pst_queue *queue, const char *hostnqn,
			  const char *limit, uint32_t value);

/* ---- secure.c: connection's shard, but for lookups ---- */

/* PST_E_NOMEM. A new connection to a listener that wants TLS, or takes it. */
pst_err PST_MUST_USE pst_secure_begin(struct pst_queue *queue);
/* Bytes that have come move on to the connection engine. True: there may be events, and more. */
bool pst_secure_feed(struct pst_queue *queue);
/*
 * The connection is closing. True: TLS's closing alert goes out first, and pst_queue_shut is called when it has left,
 * or after PST_PARTING_TIMEOUT_NS.
 */
bool pst_secure_part(struct pst_queue *queue);
void pst_secure_parting_sent(struct pst_queue *queue); /* a send of a CLOSING queue is back; harmless for others */
/* How the host has ended the stream, for the log. */
const char *pst_secure_ending(const struct pst_queue *queue);
/* Says why, when the handshake has not ended in time; else NULL. */
const char *pst_secure_late(const struct pst_queue *queue, uint64_t now_ns);

/* ---- command.c: connection's shard ---- */

void pst_cmd_start(struct pst_queue *queue, struct pst_cmd *cmd, struct pst_conn_cmd *wire, pst_err err);
void pst_cmd_data_arrived(struct pst_cmd *cmd, pst_err err);
void pst_cmd_released(struct pst_cmd *cmd);
void pst_cmd_buffer_granted(struct pst_cmd *cmd);
/* Answer; what can't be sent any more only comes back as released. */
void pst_cmd_complete(struct pst_cmd *cmd, uint16_t status);
/* The volume, or the gate to it, has answered with cmd->status. */
void pst_cmd_volume_done(struct pst_cmd *cmd);
/* True: it will be aborted; false: too late. */
bool pst_cmd_abort(struct pst_cmd *cmd);
/* The connection is closing: stop waiting. */
void pst_cmd_abandon(struct pst_cmd *cmd);
void pst_cmd_move(struct pst_cmd *cmd, enum pst_cmd_state to);
void pst_cmd_prepare(struct pst_queue *queue, struct pst_cmd *cmd);

void pst_cmd_pull(struct pst_cmd *cmd);

/* ---- expect.c: connection's shard ---- */

/* Tells the volume of the commands that come next; how many they are. They may yet turn out to be something else. */
unsigned pst_expect(struct pst_queue *queue);

/* ---- fused.c: connection's shard ---- */

/* Every command of an I/O queue, first of all. True: it has been answered. */
bool pst_fused_arrive(struct pst_cmd *cmd);
/* After its check: the status, or what is wrong with the pair. */
uint16_t pst_fused_check(struct pst_cmd *cmd, uint16_t status);
/* True: it is a first one, and waits for the second. */
bool pst_fused_hold(struct pst_cmd *cmd);
/* Of a second one: all data came with the capsules; else into its buffer. */
bool pst_fused_has_data(const struct pst_cmd *second);
void pst_fused_pull(struct pst_cmd *second);
/* Of either one. The second, when all is there, and *err of both; NULL: not yet. */
struct pst_cmd *pst_fused_data_arrived(struct pst_cmd *cmd, pst_err *err);
void pst_fused_dispatch(struct pst_cmd *second);
/* Answers the first; returns the second's status. */
uint16_t pst_fused_complete(struct pst_cmd *second, uint16_t status);
/* Abort or abandon. True: nothing more is to be done. */
bool pst_fused_abort(struct pst_cmd *cmd, bool *ret_aborted);

/* ---- admin.c, fabrics.c: home shard; they answer through pst_admin_finish ---- */

/* On the connection's shard: what data an admin or Fabrics command moves. Returns a status. */
uint16_t pst_admin_plan(struct pst_cmd *cmd, uint32_t incapsule_bytes);
void pst_admin_at_home(struct pst_post *post);
/* Back to the connection's shard with the answer. */
void pst_admin_finish(struct pst_cmd *cmd, uint16_t status);
uint16_t pst_fabrics_connect(struct pst_cmd *cmd);
uint16_t pst_fabrics_property(struct pst_cmd *cmd, bool set);

/* ---- auth.c ---- */

uint16_t pst_auth_plan(struct pst_cmd *cmd, uint32_t incapsule_bytes); /* connection's shard; returns a status */

/* Home shard. begin: after it queue->auth is there, on success; a status. */
uint16_t pst_auth_begin(struct pst_queue *queue, const struct pst_known_host *host, const char *hostnqn,
			const char *subnqn);
void pst_auth_end(struct pst_queue *queue);
void pst_auth_command(struct pst_cmd *cmd);
void pst_auth_turn(struct pst_timer *timer);

/* ---- access.c: home shard ---- */

struct pst_known_host {
	struct pst_list node; /* target->hosts; in secret memory */
	char nqn[PST_NQN_MAX + 1];
	bool has_key, has_ctrl_key, has_tls_key, locked;
	uint32_t hashes, groups;
	struct pst_auth_key host_key, ctrl_key, tls_key;
};

enum pst_access { PST_ACCESS_NO, PST_ACCESS_OPEN, PST_ACCESS_PROOF };

/* How somebody comes who claims to be a host. */
struct pst_claim {
	const char *hostnqn;
	bool remote; /* over an address that is not loopback */
	bool secure; /* over TLS, with the host's key */
};

/*
 * @subsystem NULL: discovery. *ret_host is set for PST_ACCESS_PROOF, *ret_why (static, for logs) for PST_ACCESS_NO.
 */
enum pst_access pst_access_of(const struct pst_target *target, const struct pst_subsystem *subsystem,
			      const struct pst_claim *claim, const struct pst_known_host **ret_host,
			      const char **ret_why);
bool pst_access_needs_tls(const struct pst_target *target, const char *hostnqn);
/* The first of @offers that is of a host with a TLS key, and of that key; false: there is none. */
bool pst_access_find_psk(const struct pst_target *target, const struct pst_tls_identity *offers, unsigned count,
			 unsigned *ret_which, struct pst_tls_psk *ret_psk);
bool pst_access_listed(const struct pst_subsystem *subsystem, const char *hostnqn);
/* In place of the old list, which is the caller's to free. */
pst_err pst_access_list_set(struct pst_subsystem *subsystem, const struct pst_allow_list *allow);
void pst_access_done(struct pst_target *target); /* forgets all hosts */
/* ---- ana.c ---- */

/* Home shard, before any connection comes over @port, or to @subsystem. */
void pst_ana_begin(struct pst_subsystem *subsystem, unsigned port);
#define PST_ANA_DETACHED 0u /* beside enum pst_ana_state: the namespace is not attached */

/* What a command on a path of this state is answered with; NVME_SUCCESS: it may go on. Pure. */
uint16_t pst_ana_status(uint8_t state);
/* The same of a command's path. On the connection's or the home shard; only the gate judges for good. */
uint16_t pst_ana_look(const struct pst_cmd *cmd);
void pst_ana_drained(struct pst_gate *gate);                                                     /* volume's shard */
void pst_ana_log(const struct pst_ctrl *ctrl, bool groups_only, const struct pst_log_window *w); /* log page 0Ch */

/* ---- discovery.c: home shard ---- */

void pst_discovery_init(struct pst_target *target);
void pst_discovery_done(struct pst_target *target);
/* Something has changed for all hosts; for one; for those that see @subsystem. */
void pst_discovery_changed_for_all(struct pst_target *target);
void pst_discovery_changed_for(struct pst_target *target, const char *hostnqn);
void pst_discovery_changed(const struct pst_subsystem *subsystem);
const char *pst_discovery_nqn(const struct pst_target *target);
bool pst_discovery_is(const struct pst_target *target, const char *nqn); /* either of its names */
uint64_t pst_discovery_entries(const struct pst_queue *queue);
void pst_discovery_log(const struct pst_queue *queue, const struct pst_log_window *w);

/* ---- gate.c: volume's shard, but for enter ---- */

void pst_gate_init(struct pst_gate *gate, const struct pst_reservation *reservation);
/* Puts @states in force; pst_ana_drained when nothing that they refuse is with the volume any more. */
void pst_gate_set_ana(struct pst_gate *gate, const uint8_t states[PST_TARGET_PORTS_MAX]);
/* The status of the command's path, by the states in force. */
uint16_t pst_gate_path(const struct pst_cmd *cmd);
void pst_gate_begin(struct pst_gate *gate, struct pst_cmd *cmd); /* it has passed, and is inside from now on */
/* On the connection's shard: hands the command over until pst_cmd_volume_done, which never runs inside the call. */
void pst_gate_enter(struct pst_cmd *cmd);
/* Puts change->next in force; pst_reservation_gate_done when nothing of what it forbids is with the volume any more. */
void pst_gate_change(struct pst_gate *gate, struct pst_reservations *change);

bool pst_gate_denies(struct pst_cmd *cmd);
uint16_t pst_gate_status(struct pst_cmd *cmd); /* after the volume has answered */
/* @inside_enter: the answer may not run inside the call. */
void pst_gate_leave(struct pst_cmd *cmd, uint16_t status, bool inside_enter);

/* ---- compound.c: volume's shard ---- */

bool pst_compound_holds_back(const struct pst_gate *gate, const struct pst_cmd *cmd);
/* Something has left: who waits may begin. */
void pst_compound_next(struct pst_gate *gate);

/* ---- reservation-command.c: home shard, but for gate_done ---- */

/* PST_E_FORMAT; PST_E_INVAL: persistent, but with no place to keep changes. */
pst_err PST_MUST_USE pst_reservations_init(struct pst_reservations *reservations,
					   const struct pst_subsystem_config *config);
/* Answers through pst_admin_finish. Set Features of the persistence comes here too. */
void pst_reservation_command(struct pst_cmd *cmd);
void pst_reservation_at_home(struct pst_post *post);
void pst_reservation_gate_done(struct pst_reservations *reservations); /* volume's shard */
/* A new queue learns what its host may not do. */
void pst_reservation_look(struct pst_queue *queue);

/* ---- controller.c: home shard ---- */

struct pst_ctrl *pst_ctrl_new(struct pst_target *target, struct pst_subsystem *subsystem,
			      const struct nvmf_connect_data *data, uint32_t keep_alive_ms);
struct pst_ctrl *pst_ctrl_find(struct pst_target *target, uint16_t cntlid);
void pst_ctrl_attach(struct pst_ctrl *ctrl, struct pst_queue *queue);
void pst_ctrl_admit(struct pst_ctrl *ctrl, bool proved);
void pst_ctrl_kill(struct pst_ctrl *ctrl, const char *why);
void pst_ctrl_kill_io_queues(struct pst_ctrl *ctrl);

/* Base 2.0, 3.7.2: ends I/O queues and event requests, forgets what was set; Connect's keep alive timer stays. */
void pst_ctrl_reset(struct pst_ctrl *ctrl);
void pst_ctrl_alive(struct pst_ctrl *ctrl);
void pst_ctrl_raise(struct pst_ctrl *ctrl, enum pst_event_kind kind);
void pst_ctrl_notice(struct pst_ctrl *ctrl, enum pst_reservation_notice notice);
void pst_ctrl_deliver_events(struct pst_ctrl *ctrl);
void pst_queue_lost(struct pst_queue *queue); /* the connection is closing: let go of it */
void pst_queue_gone(struct pst_post *post);   /* all its commands are home: freed here */

/* ---- target.c: home shard ---- */

struct pst_subsystem *pst_subsystem_find(struct pst_target *target, const char *nqn);
void pst_subsystem_fold_sockets(struct pst_subsystem *subsystem, struct pst_queue *queue);
void pst_subsystem_check_removed(struct pst_subsystem *subsystem);
void pst_target_check_stopped(struct pst_target *target);

struct pst_target_listener {
	struct pst_list node; /* shard->listeners */
	struct pst_shard *shard;
	struct pst_addr addr;
	unsigned port; /* index */
	struct pst_listener *listener;
	struct pst_post post;
};

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The system simulation: one storage machine with a pool, a target and volumes; several host machines whose sessions
 * work on the volumes; faults below all of it; one oracle for each volume above. sim-system.c has the course of a seed,
 * system-storage.c the storage process, system-client.c the hosts.
 */
#ifndef TESTS_SIM_SYSTEM_H
#define TESTS_SIM_SYSTEM_H

#include "env/sim/sim.h"
#include "host/host.h"
#include "oracle.h"
#include "target/target.h"
#include "volume/pool.h"

#define SECOND ((uint64_t)1000000000)
#define VOLUMES_MAX 3u
#define CLIENTS_MAX 5u
#define CLIENT_DEPTH 8u
#define OP_BLOCKS_MAX 40u
#define VOLUME_BLOCKS_MAX 256u
#define PORTS 2u
#define TRANSFER_BYTES_MAX 65536u /* of the target: small, so that requests are split */

struct system_volume {
	uint8_t uuid[16];
	char nqn[224];
	uint64_t block_count;
	struct oracle *oracle;
};

struct client;
struct storage;

struct system {
	struct pst_sim *sim;
	FILE *trace;
	bool failed; /* the first failure has been printed */
	bool with_store, io_errors_allowed;
	uint32_t power_losses;
	uint32_t
	    tells; /* how many times a volume may have told of a power loss: a process that is killed may forget it */

	struct pst_sim_node *storage_node;
	struct storage *storage; /* of the running process; NULL while it is down */
	uint32_t shards;
	bool formatted;
	uint8_t ana[PORTS][PST_ANA_GROUPS_MAX]; /* outlives the storage process */
	uint64_t ana_changes;

	struct system_volume volumes[VOLUMES_MAX];
	uint32_t volume_count;
	struct client *clients[CLIENTS_MAX];
	uint32_t client_count;

	uint64_t ops_left; /* that the clients may still begin */
	uint64_t reads, writes, flushes, flush_failures, verified_blocks, reconnects;
};

/* Says it once, with the virtual time; the run ends. */
void system_fail(struct system *sys, const char *fmt, ...) PST_PRINTF(2, 3);

/* The storage process: starts, and some time later storage_up is true. What a crash leaves behind is not freed. */
void storage_start(struct system *sys);
bool storage_up(const struct system *sys);
/* Orderly: subsystems, target, volumes, pool; then storage is NULL and its shards are free. */
void storage_stop(struct system *sys);

/* The access to all volumes of a group through a port, from now on; false: the last change is not done yet. */
bool storage_set_ana(struct system *sys, uint32_t port, uint32_t group, enum pst_ana_state state);
/* Everything is optimized again, sooner or later. */
void storage_open_paths(struct system *sys);

struct client *client_start(struct system *sys, struct pst_sim_node *node, uint32_t volume);
struct pst_sim_node *client_node(const struct client *client);
bool client_connected(const struct client *client);
bool client_idle(const struct client *client); /* nothing outstanding */
void client_work(struct client *client);       /* as long as sys->ops_left; from any time */
void client_verify(struct client *client);     /* read the whole volume; client_idle again when done */
void client_stop(struct client *client);       /* close the session; client_gone when done */
bool client_gone(const struct client *client);
void client_free(struct client *client);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A target with a memory volume on one simulated machine, and hosts that are protocol engines on another: for black-box
 * tests of the target. Calls wait in simulated time, so that a test reads as a sequence.
 */
#ifndef PST_TEST_TARGET_RIG_H
#define PST_TEST_TARGET_RIG_H

#include "env/sim/sim.h"
#include "proto/conn.h"
#include "qos/qos.h"
#include "target/target.h"
#include "volume/fault.h"
#include "volume/pool.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define RIG_NQN "nqn.2014-08.org.nvmexpress:uuid:00000000-0000-4000-8000-000000000001"
#define RIG_HOSTNQN "nqn.2014-08.org.nvmexpress:uuid:00000000-0000-4000-8000-0000000000aa"
#define RIG_BLOCKS 4096u /* 16 MiB */
#define RIG_SECOND 1000000000ull

struct rig_options {
	unsigned shards;       /* 0: 1 */
	unsigned volume_shard; /* where the pool lives */
	struct pst_target_config target;
	bool qos;
	struct pst_qos_policy policy;
	bool keeps;                /* reservations through power loss */
	const char *discovery_nqn; /* NULL: only the well-known one */
	bool ram;                  /* the volume is the memory engine's own, which lends its blocks; no faults */
};

struct rig {
	struct pst_sim *sim;
	struct pst_sim_node *machine, *client;
	struct pst_env *envs[4], *host_env;
	unsigned shards;
	struct pst_pool *pool;
	struct pst_volume *volume; /* a fault engine over ram, or ram */
	struct pst_qos *qos;
	struct pst_qos_group *group;
	struct pst_qos_flow *flow;
	struct pst_target *target;
	struct pst_subsystem *subsystem;
	struct pst_addr addr;
	bool keeps;
	uint8_t kept[2048]; /* of a reservation */
	uint32_t kept_bytes, save_count;
	pst_err save_err; /* to fail saving with */
	struct pst_reservation_save_op *save_op;
	struct pst_timer save_timer;
};

/* One connection of a host. */
struct link {
	struct rig *rig;
	struct pst_conn *conn;
	struct pst_stream *stream;
	struct pst_connect_op connect;
	struct pst_stream_op recv, send;
	struct iovec recv_iov[8], send_iov[64];
	bool receiving, sending, connected, ended, ready, closed;
	struct pst_conn_event end; /* TERMINATED or FAILED */
	struct pst_close_op close_op;
};

/* One command of a host. */
struct call {
	struct pst_conn_cmd *cmd;
	struct iovec iov;
	bool done;
	pst_err err;
	struct nvme_cqe cqe;
};

static inline bool rig_flag(void *flag)
{
	return *(bool *)flag;
}

/* Waits for *flag. */
static inline void rig_wait(struct rig *rig, bool *flag)
{
	assert_true(pst_sim_run_until(rig->sim, rig_flag, flag, 100 * RIG_SECOND));
}

/* ---- Links ---- */

static inline void link_run(struct link *l);

static inline void link_end(struct link *l)
{
	if (!l->ended && !l->receiving && !l->sending) {
		l->ended = true;
		pst_conn_fail(l->conn);
		link_run(l);
	}
}

static inline void link_received(struct pst_stream_op *op)
{
	struct link *l = pst_container_of(op, struct link, recv);

	l->receiving = false;
	if (op->err != PST_OK || op->done_bytes == 0) {
		l->closed = true;
		link_end(l);
		return;
	}
	pst_conn_got(l->conn, op->done_bytes);
	link_run(l);
}

static inline void link_sent(struct pst_stream_op *op)
{
	struct link *l = pst_container_of(op, struct link, send);

	l->sending = false;
	if (op->err != PST_OK || l->closed) {
		l->closed = true;
		link_end(l);
		return;
	}
	pst_conn_sent(l->conn, op->done_bytes);
	link_run(l);
}

static inline void link_run(struct link *l)
{
	struct pst_conn_event ev;

	while (pst_conn_next_event(l->conn, &ev)) {
		if (ev.kind == PST_CONN_READY)
			l->ready = true;
		if (ev.kind == PST_CONN_TERMINATED || ev.kind == PST_CONN_FAILED)
			l->end = ev;
		if (ev.kind == PST_CONN_RESPONSE) {
			struct call *call = ev.cmd->owner;

			call->done = true;
			call->err = ev.err;
			call->cqe = ev.cqe;
		}
	}
	if (l->closed)
		return;
	if (!l->sending) {
		l->send.iov_count = pst_conn_output(l->conn, l->send_iov, PST_ARRAY_COUNT(l->send_iov));
		if (l->send.iov_count > 0) {
			l->send.iov = l->send_iov;
			l->send.done = link_sent;
			l->sending = true;
			pst_stream_send(l->stream, &l->send);
		}
	}
	if (!l->receiving) {
		l->recv.iov_count = pst_conn_want(l->conn, l->recv_iov, PST_ARRAY_COUNT(l->recv_iov));
		if (l->recv.iov_count > 0) {
			l->recv.iov = l->recv_iov;
			l->recv.done = link_received;
			l->receiving = true;
			pst_stream_recv(l->stream, &l->recv);
		}
	}
}

static inline void link_connected(struct pst_connect_op *op)
{
	struct link *l = pst_container_of(op, struct link, connect);

	l->connected = true;
	l->stream = op->stream;
}

/* A TCP connection only. */
static inline void link_dial(struct rig *rig, struct link *l)
{
	*l = (struct link){ .rig = rig };
	l->connect.addr = rig->addr;
	l->connect.done = link_connected;
	pst_connect(rig->host_env, &l->connect);
	rig_wait(rig, &l->connected);
	assert_int_equal(l->connect.err, PST_OK);
}

/* @incapsule_bytes: data that may go with a command; the rest waits to be asked for. */
static inline void link_open_with(struct rig *rig, struct link *l, bool digests, uint32_t incapsule_bytes)
{
	struct pst_conn_config config = { .role = PST_CONN_HOST,
					  .commands_max = 128,
					  .incapsule_bytes = incapsule_bytes,
					  .header_digest = digests,
					  .data_digest = digests };

	link_dial(rig, l);
	assert_int_equal(pst_conn_new(&config, &l->conn), PST_OK);
	link_run(l);
	rig_wait(rig, &l->ready);
}

static inline void link_open(struct rig *rig, struct link *l, bool digests)
{
	link_open_with(rig, l, digests, 8192);
}

static inline void link_close_done(struct pst_close_op *op)
{
	struct link *l = pst_container_of(op, struct link, close_op);

	l->stream = NULL;
	l->closed = true;
	if (l->conn != NULL) {
		if (!l->ended)
			pst_conn_fail(l->conn);
		l->ended = true;
		link_run(l);
	}
}

static inline bool link_is_closed(void *link)
{
	return ((struct link *)link)->stream == NULL;
}

static inline void link_close(struct link *l)
{
	l->closed = true;
	l->close_op.done = link_close_done;
	pst_stream_close(l->stream, &l->close_op);
	assert_true(pst_sim_run_until(l->rig->sim, link_is_closed, l, 10 * RIG_SECOND));
	pst_conn_free(l->conn);
	l->conn = NULL;
}

/* ---- Commands ---- */

static inline void call_start(struct link *l, struct call *call, const struct nvme_sqe *sqe, enum pst_conn_dir dir,
			      void *data, uint32_t bytes)
{
	*call = (struct call){ .iov = { data, bytes } };
	call->cmd = pst_conn_submit(
	    l->conn, sqe, &(struct pst_conn_xfer){ .dir = dir, .bytes = bytes, .iov = &call->iov, .iov_count = 1 },
	    call);
	assert_non_null(call->cmd);
	link_run(l);
}

/* From now on writes wait for space, until pst_fault_clear. Not with rig_options.ram. */
static inline void rig_full_pool(struct rig *rig)
{
	assert_int_equal(pst_fault_add(rig->volume, &(struct pst_fault_rule){ .action = PST_FAULT_PAUSE,
									      .kinds = 1u << PST_IO_WRITE }),
			 PST_OK);
}

static inline uint16_t call_status(struct link *l, struct call *call)
{
	rig_wait(l->rig, &call->done);
	assert_int_equal(call->err, PST_OK);
	return nvme_get16(call->cqe.status) >> 1;
}

/* Waits; returns the status, and dword 0 of the completion. */
static inline uint16_t command(struct link *l, const struct nvme_sqe *sqe, enum pst_conn_dir dir, void *data,
			       uint32_t bytes, uint32_t *ret_dw0)
{
	struct call call;
	uint16_t status;

	call_start(l, &call, sqe, dir, data, bytes);
	status = call_status(l, &call);
	if (ret_dw0 != NULL)
		*ret_dw0 = nvme_get32(call.cqe.dw0);
	return status;
}

static inline struct nvme_sqe sqe_io(uint8_t opcode, uint64_t lba, uint32_t blocks)
{
	return (struct nvme_sqe){ .opcode = opcode,
				  .nsid = nvme_le32_of(1),
				  .cdw10 = nvme_le32_of((uint32_t)lba),
				  .cdw11 = nvme_le32_of((uint32_t)(lba >> 32)),
				  .cdw12 = nvme_le32_of(blocks - 1) };
}

/* A fused Compare and Write of one block. */
static inline void caw_start(struct link *l, struct call calls[2], uint64_t lba, void *old_block, void *new_block)
{
	struct nvme_sqe sqe = sqe_io(NVME_CMD_COMPARE, lba, 1);

	sqe.flags = 1;
	call_start(l, &calls[0], &sqe, PST_CONN_DATA_OUT, old_block, 4096);
	sqe.opcode = NVME_CMD_WRITE;
	sqe.flags = 2;
	call_start(l, &calls[1], &sqe, PST_CONN_DATA_OUT, new_block, 4096);
}

static inline struct nvme_sqe sqe_admin(uint8_t opcode, uint32_t cdw10, uint32_t cdw11)
{
	return (struct nvme_sqe){ .opcode = opcode, .cdw10 = nvme_le32_of(cdw10), .cdw11 = nvme_le32_of(cdw11) };
}

static inline void connect_fill(struct nvmf_connect_cmd *cmd, struct nvmf_connect_data *data, const char *nqn,
				uint16_t qid, uint16_t cntlid, uint32_t kato_ms)
{
	*cmd = (struct nvmf_connect_cmd){ .opcode = NVME_FABRICS,
					  .fctype = NVMF_CONNECT,
					  .qid = nvme_le16_of(qid),
					  .sqsize = nvme_le16_of(qid == 0 ? 31 : 127),
					  .kato = nvme_le32_of(kato_ms) };
	memset(data, 0, sizeof(*data));
	memset(data->hostid, 7, sizeof(data->hostid));
	data->cntlid = nvme_le16_of(cntlid);
	memcpy(data->subnqn, nqn, strlen(nqn));
	memcpy(data->hostnqn, RIG_HOSTNQN, strlen(RIG_HOSTNQN));
}

static inline uint16_t link_connect(struct link *l, const char *nqn, uint16_t qid, uint16_t cntlid, uint32_t kato_ms,
				    uint16_t *ret_cntlid)
{
	struct nvmf_connect_cmd cmd;
	struct nvmf_connect_data data;
	uint32_t dw0 = 0;
	uint16_t status;

	connect_fill(&cmd, &data, nqn, qid, cntlid, kato_ms);
	status = command(l, (void *)&cmd, PST_CONN_DATA_OUT, &data, sizeof(data), &dw0);
	if (ret_cntlid != NULL)
		*ret_cntlid = (uint16_t)dw0;
	return status;
}

static inline uint16_t property_set_cc(struct link *l, uint32_t cc)
{
	struct nvmf_property_cmd cmd = { .opcode = NVME_FABRICS,
					 .fctype = NVMF_PROPERTY_SET,
					 .offset = nvme_le32_of(NVME_PROP_CC),
					 .value = nvme_le64_of(cc) };

	return command(l, (void *)&cmd, PST_CONN_NO_DATA, NULL, 0, NULL);
}

/* An enabled controller with one I/O queue. */
struct host {
	struct link admin, io;
	uint16_t cntlid;
};

/* @sqsize: 0-based, of the I/O queue; @id: each byte of the host identifier. */
static inline void host_connect_as(struct rig *rig, struct host *h, bool digests, uint32_t kato_ms, uint16_t sqsize,
				   uint8_t id)
{
	struct nvmf_connect_cmd cmd;
	struct nvmf_connect_data data;
	uint32_t cntlid = 0;

	link_open(rig, &h->admin, digests);
	connect_fill(&cmd, &data, RIG_NQN, 0, 0xffff, kato_ms);
	memset(data.hostid, id, sizeof(data.hostid));
	assert_int_equal(command(&h->admin, (void *)&cmd, PST_CONN_DATA_OUT, &data, sizeof(data), &cntlid), 0);
	h->cntlid = (uint16_t)cntlid;
	assert_int_equal(property_set_cc(&h->admin, 0x00460001), 0);
	link_open(rig, &h->io, digests);
	connect_fill(&cmd, &data, RIG_NQN, 1, h->cntlid, 0);
	memset(data.hostid, id, sizeof(data.hostid));
	cmd.sqsize = nvme_le16_of(sqsize);
	assert_int_equal(command(&h->io, (void *)&cmd, PST_CONN_DATA_OUT, &data, sizeof(data), NULL), 0);
}

static inline void host_connect_sized(struct rig *rig, struct host *h, bool digests, uint32_t kato_ms, uint16_t sqsize)
{
	host_connect_as(rig, h, digests, kato_ms, sqsize, 7);
}

static inline void host_connect(struct rig *rig, struct host *h, bool digests, uint32_t kato_ms)
{
	host_connect_sized(rig, h, digests, kato_ms, 127);
}

static inline void host_close(struct host *h)
{
	link_close(&h->io);
	link_close(&h->admin);
}

/* ---- The machine ---- */

struct rig_wait_op {
	struct pst_pool_op pool;
	struct pst_target_stop_op stop;
	struct pst_subsystem_remove_op remove;
	struct pst_volume_close_op close;
	bool done;
};

static inline void rig_pool_done(struct pst_pool_op *op)
{
	pst_container_of(op, struct rig_wait_op, pool)->done = true;
}

static inline void rig_stop_done(struct pst_target_stop_op *op)
{
	pst_container_of(op, struct rig_wait_op, stop)->done = true;
}

static inline void rig_remove_done(struct pst_subsystem_remove_op *op)
{
	pst_container_of(op, struct rig_wait_op, remove)->done = true;
}

static inline void rig_close_done(struct pst_volume_close_op *op)
{
	pst_container_of(op, struct rig_wait_op, close)->done = true;
}

static inline struct pst_volume *rig_pool_op(struct rig *rig, enum pst_pool_op_kind kind)
{
	struct rig_wait_op op = { .pool = { .kind = kind, .block_count = RIG_BLOCKS, .done = rig_pool_done } };

	op.pool.uuid[0] = 1;
	pst_pool_submit(rig->pool, &op.pool);
	rig_wait(rig, &op.done);
	assert_int_equal(op.pool.err, PST_OK);
	return op.pool.volume;
}

/* Saving takes a millisecond, as on a disk. */
static inline void rig_saved(struct pst_timer *timer)
{
	struct rig *rig = pst_container_of(timer, struct rig, save_timer);
	struct pst_reservation_save_op *op = rig->save_op;

	op->err = rig->save_err;
	if (op->err == PST_OK) {
		assert_true(op->len_bytes <= sizeof(rig->kept));
		if (op->len_bytes > 0)
			memcpy(rig->kept, op->bytes, op->len_bytes);
		rig->kept_bytes = op->len_bytes;
		rig->save_count++;
	}
	op->done(op);
}

static inline void rig_save(void *ctx, struct pst_reservation_save_op *op)
{
	struct rig *rig = ctx;

	rig->save_op = op;
	pst_timer_arm(rig->envs[0], &rig->save_timer, pst_env_now_ns(rig->envs[0]) + RIG_SECOND / 1000);
}

static inline void rig_subsystem_add(struct rig *rig, const char *nqn, struct pst_subsystem **ret)
{
	struct pst_subsystem_config config = { .nqn = nqn,
					       .serial = "S",
					       .model = "M",
					       .nsid = 1,
					       .uuid = { 1 },
					       .volume = rig->volume,
					       .flow = rig->flow,
					       .reservation_save = rig->keeps ? rig_save : NULL,
					       .reservation_save_ctx = rig,
					       .reservation = rig->kept,
					       .reservation_bytes = rig->kept_bytes };

	assert_int_equal(pst_subsystem_add(rig->target, &config, ret), PST_OK);
}

static inline void rig_subsystem_remove(struct rig *rig, struct pst_subsystem *subsystem)
{
	struct rig_wait_op op = { .remove.done = rig_remove_done };

	pst_subsystem_remove(subsystem, &op.remove);
	rig_wait(rig, &op.done);
}

static inline void rig_new(struct rig *rig, const struct rig_options *options)
{
	struct pst_target_port port = { .id = 1 };
	struct pst_volume *ram;
	struct pst_env *home;

	*rig = (struct rig){ .sim = pst_sim_new(1),
			     .shards = options->shards > 0 ? options->shards : 1,
			     .keeps = options->keeps };
	pst_timer_init(&rig->save_timer, rig_saved);
	rig->machine = pst_sim_node_new(rig->sim, "target");
	rig->client = pst_sim_node_new(rig->sim, "host");
	for (unsigned i = 0; i < rig->shards; i++)
		rig->envs[i] = pst_sim_env_new(rig->machine, 0);
	rig->host_env = pst_sim_env_new(rig->client, 0);
	home = rig->envs[options->volume_shard];
	assert_int_equal(pst_ram_pool_new(home, RIG_BLOCKS * 4096ull, &rig->pool), PST_OK);
	rig_pool_op(rig, PST_POOL_VOLUME_CREATE);
	ram = rig_pool_op(rig, PST_POOL_VOLUME_OPEN);
	if (options->ram)
		rig->volume = ram;
	else
		assert_int_equal(pst_fault_new(ram, 256, &rig->volume), PST_OK);
	if (options->qos) {
		assert_int_equal(pst_qos_new(home, &(struct pst_qos_config){ 0 }, &rig->qos), PST_OK);
		assert_int_equal(pst_qos_group_new(rig->qos, &(struct pst_qos_policy){ 0 }, &rig->group), PST_OK);
		assert_int_equal(pst_qos_flow_new(rig->group, &options->policy, &rig->flow), PST_OK);
	}
	assert_int_equal(pst_target_new(rig->envs, rig->shards, &options->target, &rig->target), PST_OK);
	if (options->discovery_nqn != NULL)
		pst_target_set_discovery_nqn(rig->target, options->discovery_nqn);
	rig_subsystem_add(rig, RIG_NQN, &rig->subsystem);
	assert_int_equal(pst_addr_parse(pst_sim_node_ip(rig->machine), 4420, &rig->addr), PST_OK);
	port.addr = rig->addr;
	assert_int_equal(pst_target_listen(rig->target, &port, &rig->addr), PST_OK);
	pst_sim_run_for(rig->sim, 1000000);
}

/* Everything ends in order; what is left over is a leak that the sanitizer finds. */
static inline void rig_free(struct rig *rig)
{
	struct rig_wait_op stop = { .stop.done = rig_stop_done }, close = { .close.done = rig_close_done };

	if (rig->subsystem != NULL)
		rig_subsystem_remove(rig, rig->subsystem);
	pst_target_stop(rig->target, &stop.stop);
	rig_wait(rig, &stop.done);
	pst_volume_close(rig->volume, &close.close);
	rig_wait(rig, &close.done);
	if (rig->flow != NULL) {
		pst_qos_flow_free(rig->flow);
		pst_qos_group_free(rig->group);
		pst_qos_free(rig->qos);
	}
	rig_pool_op(rig, PST_POOL_CLOSE);
	for (unsigned i = 0; i < rig->shards; i++)
		pst_env_free(rig->envs[i]);
	pst_env_free(rig->host_env);
	pst_sim_free(rig->sim);
}

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* The target as a black box, over the simulated network, with protocol engines as hosts. */
#include "base/le.h"
#include "target-rig.h"
#include "target/identify.h"

static uint8_t pattern_byte(uint64_t at, uint8_t seed)
{
	return (uint8_t)(at * 131 + (at >> 12) * 7 + seed);
}

static uint8_t *pattern(uint32_t bytes, uint8_t seed)
{
	uint8_t *data = malloc(bytes);

	for (uint32_t i = 0; i < bytes; i++)
		data[i] = pattern_byte(i, seed);
	return data;
}

/* Write, read, zero and discard, short (in-capsule) and long (R2T), against expected bytes. */
static void exercise(struct rig *rig, bool digests)
{
	struct host h;
	struct pst_subsystem_stats *stats = malloc(sizeof(*stats));
	uint8_t *back = malloc(1 << 20), range[4096] = { 0 };
	struct nvme_sqe sqe;

	host_connect(rig, &h, digests, 0);
	for (uint32_t blocks = 1; blocks <= 256; blocks *= 4) {
		uint8_t *data = pattern(blocks * 4096, (uint8_t)blocks);

		sqe = sqe_io(NVME_CMD_WRITE, blocks, blocks);
		assert_int_equal(command(&h.io, &sqe, PST_CONN_DATA_OUT, data, blocks * 4096, NULL), 0);
		sqe = sqe_io(NVME_CMD_READ, blocks, blocks);
		assert_int_equal(command(&h.io, &sqe, PST_CONN_DATA_IN, back, blocks * 4096, NULL), 0);
		assert_memory_equal(back, data, blocks * 4096);
		free(data);
	}
	sqe = (struct nvme_sqe){ .opcode = NVME_CMD_FLUSH, .nsid = nvme_le32_of(1) };
	assert_int_equal(command(&h.io, &sqe, PST_CONN_NO_DATA, NULL, 0, NULL), 0);
	sqe = sqe_io(NVME_CMD_WRITE_ZEROES, 300, 2);
	assert_int_equal(command(&h.io, &sqe, PST_CONN_NO_DATA, NULL, 0, NULL), 0);
	sqe = sqe_admin(NVME_CMD_DSM, 1, NVME_DSM_DEALLOCATE); /* two ranges in a list of 4096 bytes, as Linux does */
	sqe.nsid = nvme_le32_of(1);
	pst_put_le32(range + 4, 2);
	pst_put_le64(range + 8, 302);
	pst_put_le32(range + 20, 1);
	pst_put_le64(range + 24, 310);
	assert_int_equal(command(&h.io, &sqe, PST_CONN_DATA_OUT, range, sizeof(range), NULL), 0);
	sqe = sqe_io(NVME_CMD_READ, 300, 11);
	assert_int_equal(command(&h.io, &sqe, PST_CONN_DATA_IN, back, 11 * 4096, NULL), 0);
	for (uint32_t i = 0; i < 11; i++) {
		bool zero = i < 4 || i == 10;

		assert_int_equal(back[i * 4096 + 5], zero ? 0 : pattern_byte((300 - 256 + i) * 4096 + 5, 0));
	}
	sqe = sqe_io(NVME_CMD_READ, RIG_BLOCKS - 1, 2);
	assert_int_equal(command(&h.io, &sqe, PST_CONN_DATA_IN, back, 8192, NULL),
			 NVME_LBA_OUT_OF_RANGE | NVME_STATUS_DNR);
	host_close(&h);
	pst_sim_run_for(rig->sim, RIG_SECOND);
	pst_subsystem_stats(rig->subsystem, stats);
	assert_int_equal(stats->ops[1], 5);
	assert_int_equal(stats->bytes_written, (1 + 4 + 16 + 64 + 256) * 4096);
	assert_int_equal(stats->ops[0], 6);
	assert_int_equal(stats->errors[0], 1);
	assert_int_equal(stats->ops[2], 1);
	assert_int_equal(stats->ops[3], 2);
	assert_int_equal(stats->latency[1].count, 5);
	assert_int_equal(stats->wait_device.count, 14);
	assert_true(stats->socket_bytes_received > stats->bytes_written);
	assert_true(stats->socket_bytes_received < stats->bytes_written + stats->bytes_written / 50 + 10000);
	assert_true(stats->socket_bytes_sent > stats->bytes_read);
	assert_int_equal(pst_subsystem_host_count(rig->subsystem), 0);
	free(stats);
	free(back);
}

/* One shard: everything at home. */
static void data_survives_the_way(void **state)
{
	struct rig rig;

	(void)state;
	rig_new(&rig, &(struct rig_options){ .ram = true });
	exercise(&rig, false);
	rig_free(&rig);
}

/* Connections spread over three shards, the volume is on the last, digests and admission are on. */
static void data_survives_between_shards(void **state)
{
	struct rig rig;

	(void)state;
	rig_new(&rig, &(struct rig_options){ .shards = 3, .volume_shard = 2, .qos = true });
	exercise(&rig, true);
	rig_free(&rig);
}

/* Each wrong parameter of Connect is named by its offset, and the connection stays usable for a right one. */
static void connect_names_the_wrong_parameter(void **state)
{
	static const struct {
		unsigned what;
		uint16_t status;
		uint32_t dw0;
	} cases[] = {
		{ 0, NVMF_INCOMPATIBLE_FORMAT | NVME_STATUS_DNR, 0 },
		{ 1, NVMF_INVALID_PARAM | NVME_STATUS_DNR, 44 },
		{ 2, NVMF_INVALID_PARAM | NVME_STATUS_DNR, 44 },
		{ 3, NVMF_INVALID_PARAM | NVME_STATUS_DNR, 1u << 16 | 0 },
		{ 4, NVMF_INVALID_PARAM | NVME_STATUS_DNR, 1u << 16 | 16 },
		{ 5, NVMF_INVALID_PARAM | NVME_STATUS_DNR, 1u << 16 | 256 },
		{ 6, NVMF_INVALID_PARAM | NVME_STATUS_DNR, 1u << 16 | 256 },
		{ 7, NVMF_INVALID_PARAM | NVME_STATUS_DNR, 1u << 16 | 512 },
		{ 8, NVMF_INVALID_PARAM | NVME_STATUS_DNR, 1u << 16 | 16 },
		{ 9, NVMF_INVALID_HOST | NVME_STATUS_DNR, 0 },
	};
	struct rig rig;
	struct link l;

	(void)state;
	rig_new(&rig, &(struct rig_options){ 0 });
	link_open(&rig, &l, false);
	for (size_t i = 0; i < PST_ARRAY_COUNT(cases); i++) {
		struct nvmf_connect_cmd cmd;
		struct nvmf_connect_data data;
		uint32_t dw0 = 0;

		connect_fill(&cmd, &data, RIG_NQN, cases[i].what == 8 ? 1 : 0, 0xffff, 0);
		switch (cases[i].what) {
		case 0:
			cmd.recfmt = nvme_le16_of(1);
			break;
		case 1:
			cmd.sqsize = nvme_le16_of(0);
			break;
		case 2:
			cmd.sqsize = nvme_le16_of(128);
			break;
		case 3:
			memset(data.hostid, 0, sizeof(data.hostid));
			break;
		case 4:
			data.cntlid = nvme_le16_of(1);
			break;
		case 5:
			data.subnqn[10] ^= 1;
			break;
		case 6:
			memset(data.subnqn, 'n', sizeof(data.subnqn));
			break;
		case 7:
			memset(data.hostnqn, 0, sizeof(data.hostnqn));
			break;
		case 9: /* a host with the subsystem's own name */
			memcpy(data.hostnqn, data.subnqn, sizeof(data.hostnqn));
			break;
		default: /* an I/O queue of no controller */
			break;
		}
		assert_int_equal(command(&l, (void *)&cmd, PST_CONN_DATA_OUT, &data, sizeof(data), &dw0),
				 cases[i].status);
		assert_int_equal(dw0, cases[i].dw0);
	}
	assert_int_equal(link_connect(&l, RIG_NQN, 0, 0xffff, 0, NULL), 0);
	assert_int_equal(link_connect(&l, RIG_NQN, 0, 0xffff, 0, NULL), NVME_COMMAND_SEQUENCE_ERROR | NVME_STATUS_DNR);
	link_close(&l);
	rig_free(&rig);
}

/* I/O queues: only of an enabled controller, of the same host, with a free and granted id. */
static void io_queues_belong_to_their_host(void **state)
{
	struct rig rig;
	struct link admin, l, taken;
	struct nvmf_connect_cmd cmd;
	struct nvmf_connect_data data;
	uint16_t cntlid;
	uint32_t dw0;

	(void)state;
	rig_new(&rig, &(struct rig_options){ .target = { .io_queues_max = 2 } });
	link_open(&rig, &admin, false);
	assert_int_equal(link_connect(&admin, RIG_NQN, 0, 0xffff, 0, &cntlid), 0);
	link_open(&rig, &l, false);
	connect_fill(&cmd, &data, RIG_NQN, 1, cntlid, 0); /* before the controller is enabled */
	assert_int_equal(command(&l, (void *)&cmd, PST_CONN_DATA_OUT, &data, sizeof(data), &dw0),
			 NVMF_INVALID_PARAM | NVME_STATUS_DNR);
	assert_int_equal(dw0, offsetof(struct nvmf_connect_cmd, qid));
	assert_int_equal(property_set_cc(&admin, 0x00460001), 0);
	connect_fill(&cmd, &data, RIG_NQN, 1, cntlid, 0);
	data.hostid[3] ^= 1;
	assert_int_equal(command(&l, (void *)&cmd, PST_CONN_DATA_OUT, &data, sizeof(data), &dw0),
			 NVMF_INVALID_PARAM | NVME_STATUS_DNR);
	assert_int_equal(dw0, 1u << 16);
	assert_int_equal(link_connect(&l, RIG_NQN, 3, cntlid, 0, NULL), NVMF_INVALID_PARAM | NVME_STATUS_DNR);
	link_open(&rig, &taken, false);
	assert_int_equal(link_connect(&taken, RIG_NQN, 2, cntlid, 0, NULL), 0);
	assert_int_equal(link_connect(&l, RIG_NQN, 2, cntlid, 0, NULL), NVME_COMMAND_SEQUENCE_ERROR | NVME_STATUS_DNR);
	assert_int_equal(link_connect(&l, RIG_NQN, 1, cntlid, 0, NULL), 0);
	/* Disabling the controller takes its I/O queues away, and only them. */
	assert_int_equal(property_set_cc(&admin, 0), 0);
	rig_wait(&rig, &l.closed);
	rig_wait(&rig, &taken.closed);
	assert_int_equal(property_set_cc(&admin, 0x00460001), 0);
	link_close(&l);
	link_close(&taken);
	link_close(&admin);
	rig_free(&rig);
}

/* Before Connect, and before the controller is enabled, there is nothing to be had. */
static void commands_out_of_order_are_refused(void **state)
{
	struct rig rig;
	struct link l;
	struct nvme_sqe sqe = sqe_admin(NVME_ADMIN_IDENTIFY, 1, 0);
	uint8_t data[4096];

	(void)state;
	rig_new(&rig, &(struct rig_options){ 0 });
	link_open(&rig, &l, false);
	assert_int_equal(command(&l, &sqe, PST_CONN_DATA_IN, data, sizeof(data), NULL),
			 NVME_COMMAND_SEQUENCE_ERROR | NVME_STATUS_DNR);
	assert_int_equal(link_connect(&l, RIG_NQN, 0, 0xffff, 0, NULL), 0);
	assert_int_equal(command(&l, &sqe, PST_CONN_DATA_IN, data, sizeof(data), NULL),
			 NVME_COMMAND_SEQUENCE_ERROR | NVME_STATUS_DNR);
	assert_int_equal(property_set_cc(&l, 0x00460001), 0);
	assert_int_equal(command(&l, &sqe, PST_CONN_DATA_IN, data, sizeof(data), NULL), 0);
	sqe.opcode = 0x80; /* Format NVM: not ours */
	assert_int_equal(command(&l, &sqe, PST_CONN_NO_DATA, NULL, 0, NULL), NVME_INVALID_OPCODE | NVME_STATUS_DNR);
	sqe = (struct nvme_sqe){ .opcode = NVME_FABRICS, .nsid = nvme_le32_of(0x20) }; /* a reserved type */
	assert_int_equal(command(&l, &sqe, PST_CONN_NO_DATA, NULL, 0, NULL), NVME_INVALID_FIELD | NVME_STATUS_DNR);
	link_close(&l);
	rig_free(&rig);
}

/* That a queue goes without SQ flow control is said once, by Connect's response; after it the head is 0. */
static void flow_control_is_turned_off(void **state)
{
	(void)state;
	for (unsigned off = 0; off < 2; off++) {
		struct nvme_sqe sqe = sqe_admin(NVME_ADMIN_KEEP_ALIVE, 0, 0);
		struct nvmf_connect_data data;
		struct nvmf_connect_cmd cmd;
		struct call call;
		struct rig rig;
		struct link l;

		rig_new(&rig, &(struct rig_options){ 0 });
		link_open(&rig, &l, false);
		connect_fill(&cmd, &data, RIG_NQN, 0, 0xffff, 0);
		cmd.cattr = off ? NVMF_CATTR_NO_SQ_FLOW_CONTROL : 0;
		call_start(&l, &call, (void *)&cmd, PST_CONN_DATA_OUT, &data, sizeof(data));
		assert_int_equal(call_status(&l, &call), 0);
		assert_int_equal(nvme_get16(call.cqe.sqhd), off ? 0xffff : 1);
		call_start(&l, &call, &sqe, PST_CONN_NO_DATA, NULL, 0);
		assert_int_equal(call_status(&l, &call), 0);
		assert_int_equal(nvme_get16(call.cqe.sqhd), off ? 0 : 2);
		link_close(&l);
		rig_free(&rig);
	}
}

static void raw_sent(struct pst_stream_op *op)
{
	struct link *l = pst_container_of(op, struct link, send);

	l->sending = false;
	l->ready = true;
}

static void raw_received(struct pst_stream_op *op)
{
	struct link *l = pst_container_of(op, struct link, recv);

	l->receiving = false;
	l->ended = true;
}

/* Garbage ends its own connection with a termination request; the neighbour does not notice. */
static void garbage_ends_only_its_connection(void **state)
{
	struct rig rig;
	struct host h;
	struct link bad;
	uint8_t garbage[128], answer[256], block[4096];
	struct nvme_sqe sqe = sqe_io(NVME_CMD_READ, 0, 1);

	(void)state;
	rig_new(&rig, &(struct rig_options){ .shards = 2 });
	host_connect(&rig, &h, false, 0);
	for (unsigned seed = 0; seed < 20; seed++) {
		link_dial(&rig, &bad);
		for (size_t i = 0; i < sizeof(garbage); i++)
			garbage[i] = pattern_byte(i, (uint8_t)(seed * 37));
		bad.send_iov[0] = (struct iovec){ garbage, sizeof(garbage) };
		bad.send = (struct pst_stream_op){ .iov = bad.send_iov, .iov_count = 1, .done = raw_sent };
		pst_stream_send(bad.stream, &bad.send);
		bad.recv_iov[0] = (struct iovec){ answer, sizeof(answer) };
		bad.recv = (struct pst_stream_op){ .iov = bad.recv_iov, .iov_count = 1, .done = raw_received };
		pst_stream_recv(bad.stream, &bad.recv);
		rig_wait(&rig, &bad.ended);
		assert_int_equal(bad.recv.err, PST_OK);
		assert_true(bad.recv.done_bytes >= 24);
		assert_int_equal(answer[0], NVME_TCP_C2H_TERM);
		/* We don't close, as a stubborn peer: the target does, soon. */
		bad.ended = false;
		pst_stream_recv(bad.stream, &bad.recv);
		rig_wait(&rig, &bad.ended);
		assert_int_equal(bad.recv.done_bytes, 0);
		link_close(&bad);
		assert_int_equal(command(&h.io, &sqe, PST_CONN_DATA_IN, block, sizeof(block), NULL), 0);
	}
	host_close(&h);
	rig_free(&rig);
}

/* Silence longer than the keep alive timeout ends the association, all its queues; keep alive commands prevent it. */
static void keep_alive_expiry_drops_the_association(void **state)
{
	struct rig rig;
	struct host h;
	struct link discovery;
	struct nvme_sqe sqe = sqe_admin(NVME_ADMIN_KEEP_ALIVE, 0, 0);

	(void)state;
	rig_new(&rig, &(struct rig_options){ .shards = 2, .target = { .keep_alive_ms_default = 20000 } });
	host_connect(&rig, &h, false, 5000);
	link_open(&rig, &discovery, false);
	assert_int_equal(link_connect(&discovery, NVMF_DISCOVERY_NQN, 0, 0xffff, 0, NULL), 0);
	for (unsigned i = 0; i < 4; i++) {
		pst_sim_run_for(rig.sim, 4 * RIG_SECOND);
		assert_int_equal(command(&h.admin, &sqe, PST_CONN_NO_DATA, NULL, 0, NULL), 0);
	}
	assert_false(h.io.closed);
	assert_int_equal(pst_subsystem_host_count(rig.subsystem), 1);
	pst_sim_run_for(rig.sim, 6 * RIG_SECOND);
	assert_true(h.io.closed);
	assert_true(h.admin.closed);
	assert_int_equal(pst_subsystem_host_count(rig.subsystem), 0);
	rig_wait(&rig, &discovery.closed); /* its own reaper, at 20 s */
	link_close(&discovery);
	host_close(&h);
	rig_free(&rig);
}

/* The timer begins when the controller is enabled. A reset forgets what was set, event requests too. */
static void a_reset_forgets_settings(void **state)
{
	struct nvme_sqe alive = sqe_admin(NVME_ADMIN_KEEP_ALIVE, 0, 0),
			request = sqe_admin(NVME_ADMIN_ASYNC_EVENT, 0, 0),
			set = sqe_admin(NVME_ADMIN_SET_FEATURES, NVME_FEAT_ASYNC_EVENT, NVME_AEC_NS_CHANGED),
			get = sqe_admin(NVME_ADMIN_GET_FEATURES, NVME_FEAT_ASYNC_EVENT, 0),
			kato = sqe_admin(NVME_ADMIN_GET_FEATURES, NVME_FEAT_KATO, 0);
	struct call calls[2][PST_TARGET_AER_MAX];
	struct link l;
	struct rig rig;
	uint32_t dw0;

	(void)state;
	rig_new(&rig, &(struct rig_options){ .shards = 2 });
	link_open(&rig, &l, false);
	assert_int_equal(link_connect(&l, RIG_NQN, 0, 0xffff, 5000, NULL), 0);
	pst_sim_run_for(rig.sim, 4 * RIG_SECOND);
	assert_int_equal(property_set_cc(&l, 0x00460001), 0);
	pst_sim_run_for(rig.sim, 4 * RIG_SECOND);
	assert_int_equal(command(&l, &alive, PST_CONN_NO_DATA, NULL, 0, NULL), 0);
	assert_int_equal(command(&l, &set, PST_CONN_NO_DATA, NULL, 0, NULL), 0);
	for (unsigned i = 0; i < PST_TARGET_AER_MAX; i++)
		call_start(&l, &calls[0][i], &request, PST_CONN_NO_DATA, NULL, 0);
	assert_int_equal(property_set_cc(&l, 0), 0);
	for (unsigned i = 0; i < PST_TARGET_AER_MAX; i++)
		assert_int_equal(call_status(&l, &calls[0][i]), NVME_ABORT_REQUESTED);
	assert_int_equal(property_set_cc(&l, 0x00460001), 0);
	assert_int_equal(command(&l, &get, PST_CONN_NO_DATA, NULL, 0, &dw0), 0);
	assert_int_equal(dw0, 0);
	assert_int_equal(command(&l, &kato, PST_CONN_NO_DATA, NULL, 0, &dw0), 0);
	assert_int_equal(dw0, 5000);
	for (unsigned i = 0; i < PST_TARGET_AER_MAX; i++)
		call_start(&l, &calls[1][i], &request, PST_CONN_NO_DATA, NULL, 0);
	pst_sim_run_for(rig.sim, RIG_SECOND);
	for (unsigned i = 0; i < PST_TARGET_AER_MAX; i++)
		assert_false(calls[1][i].done);
	link_close(&l);
	rig_free(&rig);
}

/* A resize and a new volume are told, once, until the page was read. */
static void changes_raise_events(void **state)
{
	struct rig rig;
	struct host h;
	struct link discovery;
	struct call aer;
	struct nvme_sqe sqe;
	struct pst_subsystem *second;
	uint8_t log[8192];

	(void)state;
	rig_new(&rig, &(struct rig_options){ .shards = 2 });
	host_connect(&rig, &h, false, 0);
	sqe = sqe_admin(NVME_ADMIN_SET_FEATURES, NVME_FEAT_ASYNC_EVENT, NVME_AEC_NS_CHANGED);
	assert_int_equal(command(&h.admin, &sqe, PST_CONN_NO_DATA, NULL, 0, NULL), 0);
	sqe = sqe_admin(NVME_ADMIN_ASYNC_EVENT, 0, 0);
	call_start(&h.admin, &aer, &sqe, PST_CONN_NO_DATA, NULL, 0);
	pst_sim_run_for(rig.sim, RIG_SECOND);
	assert_false(aer.done);
	pst_subsystem_resized(rig.subsystem);
	assert_int_equal(call_status(&h.admin, &aer), 0);
	assert_int_equal(nvme_get32(aer.cqe.dw0), 0x040002);
	sqe = sqe_admin(NVME_ADMIN_GET_LOG_PAGE, 1023u << 16 | NVME_LOG_CHANGED_NS, 0);
	assert_int_equal(command(&h.admin, &sqe, PST_CONN_DATA_IN, log, 4096, NULL), 0);
	assert_int_equal(pst_get_le32(log), 1);

	link_open(&rig, &discovery, false);
	assert_int_equal(link_connect(&discovery, NVMF_DISCOVERY_NQN, 0, 0xffff, 10000, NULL), 0);
	assert_int_equal(property_set_cc(&discovery, 0x00460001), 0);
	sqe = sqe_admin(NVME_ADMIN_SET_FEATURES, NVME_FEAT_ASYNC_EVENT, NVME_AEC_DISCOVERY_CHANGED);
	assert_int_equal(command(&discovery, &sqe, PST_CONN_NO_DATA, NULL, 0, NULL), 0);
	sqe = sqe_admin(NVME_ADMIN_ASYNC_EVENT, 0, 0);
	call_start(&discovery, &aer, &sqe, PST_CONN_NO_DATA, NULL, 0);
	pst_sim_run_for(rig.sim, RIG_SECOND);
	rig_subsystem_add(&rig, RIG_NQN "-second", &second);
	assert_int_equal(call_status(&discovery, &aer), 0);
	assert_int_equal(nvme_get32(aer.cqe.dw0), 0x70f002);
	sqe = sqe_admin(NVME_ADMIN_GET_LOG_PAGE, 1023u << 16 | NVME_LOG_DISCOVERY, 0);
	assert_int_equal(command(&discovery, &sqe, PST_CONN_DATA_IN, log, 4096, NULL), 0);
	assert_int_equal(pst_get_le64(log + 8), 3); /* the discovery subsystem and two volumes */
	assert_memory_equal(log + 1024 + 512, pst_sim_node_ip(rig.machine), strlen(pst_sim_node_ip(rig.machine)));
	sqe.cdw10 = nvme_le32_of(255u << 16 | NVME_LOG_DISCOVERY); /* the last record by its offset */
	sqe.cdw12 = nvme_le32_of(3072);
	assert_int_equal(command(&discovery, &sqe, PST_CONN_DATA_IN, log, 1024, NULL), 0);
	assert_string_equal((char *)log + 256, RIG_NQN "-second");
	rig_subsystem_remove(&rig, second);
	link_close(&discovery);
	host_close(&h);
	rig_free(&rig);
}

/* Abort finds a write that waits for admission, here or on another shard, and a request for events. */
static void abort_reaches_waiting_commands(void **state)
{
	(void)state;
	for (unsigned shards = 1; shards <= 2; shards++) {
		struct rig rig;
		struct host h;
		struct call writes[8], aborts[7], aer, other;
		struct pst_qos_stats stats;
		struct nvme_sqe sqe, abort;
		uint8_t *data = pattern(65536, 3);
		uint32_t dw0;

		rig_new(&rig, &(struct rig_options){ .shards = shards,
						     .volume_shard = shards - 1,
						     .qos = true,
						     .policy = { .limit_iops = 1, .burst_ns = 1 } });
		host_connect(&rig, &h, false, 0);
		sqe = sqe_io(NVME_CMD_WRITE, 0, 16);
		for (unsigned i = 0; i < 8; i++)
			call_start(&h.io, &writes[i], &sqe, PST_CONN_DATA_OUT, data, 65536);
		pst_sim_run_for(rig.sim, RIG_SECOND / 2);
		assert_false(writes[7].done);
		abort = sqe_admin(NVME_ADMIN_ABORT, (uint32_t)nvme_get16(writes[7].cmd->sqe.cid) << 16 | 1, 0);
		assert_int_equal(command(&h.admin, &abort, PST_CONN_NO_DATA, NULL, 0, &dw0), 0);
		assert_int_equal(dw0 & 1, 0);
		assert_int_equal(call_status(&h.io, &writes[7]), NVME_ABORT_REQUESTED);
		assert_int_equal(command(&h.admin, &abort, PST_CONN_NO_DATA, NULL, 0, &dw0), 0);
		assert_int_equal(dw0 & 1, 1);
		sqe = sqe_admin(NVME_ADMIN_ASYNC_EVENT, 0, 0);
		call_start(&h.admin, &aer, &sqe, PST_CONN_NO_DATA, NULL, 0);
		call_start(&h.admin, &other, &sqe, PST_CONN_NO_DATA, NULL, 0);
		pst_sim_run_for(rig.sim, RIG_SECOND / 100);
		abort = sqe_admin(NVME_ADMIN_ABORT, (uint32_t)nvme_get16(aer.cmd->sqe.cid) << 16, 0);
		assert_int_equal(command(&h.admin, &abort, PST_CONN_NO_DATA, NULL, 0, &dw0), 0);
		assert_int_equal(dw0 & 1, 0);
		assert_int_equal(call_status(&h.admin, &aer), NVME_ABORT_REQUESTED);
		assert_false(other.done);
		/* More Aborts at once than the controller takes (ACL): the excess is told so, the others are answered.
		 */
		unsigned refused = 0;
		abort = sqe_admin(NVME_ADMIN_ABORT, 0xfffe0001, 0);
		for (unsigned i = 0; i < 7; i++)
			call_start(&h.admin, &aborts[i], &abort, PST_CONN_NO_DATA, NULL, 0);
		for (unsigned i = 0; i < 7; i++)
			refused += call_status(&h.admin, &aborts[i]) == (NVME_ABORT_LIMIT_EXCEEDED | NVME_STATUS_DNR);
		assert_in_range(refused, 1, 7 - PST_TARGET_ABORT_MAX);
		/* The host goes away: its waiting writes leave the scheduler. */
		host_close(&h);
		pst_sim_run_for(rig.sim, RIG_SECOND / 10);
		pst_qos_flow_stats(rig.flow, &stats);
		assert_int_equal(stats.waiting_ops, 0);
		free(data);
		rig_free(&rig);
	}
}

/* With memory for four long reads, sixty-four of them still all succeed: they wait. */
static void exhausted_buffers_make_commands_wait(void **state)
{
	struct rig rig;
	struct host a, b;
	struct call calls[128];
	struct nvme_sqe sqe = sqe_io(NVME_CMD_READ, 0, 16);
	uint8_t *data = malloc(65536);

	(void)state;
	rig_new(&rig,
		&(struct rig_options){ .target = { .transfer_bytes_max = 65536, .buffer_bytes_max = 4 * 65536 } });
	host_connect(&rig, &a, false, 0);
	host_connect(&rig, &b, false, 0);
	for (unsigned i = 0; i < 128; i++)
		call_start(i % 2 ? &a.io : &b.io, &calls[i], &sqe, PST_CONN_DATA_IN, data, 65536);
	for (unsigned i = 0; i < 128; i++)
		assert_int_equal(call_status(i % 2 ? &a.io : &b.io, &calls[i]), 0);
	/* Waiting for memory is no obstacle to going away. */
	for (unsigned i = 0; i < 128; i++)
		call_start(i % 2 ? &a.io : &b.io, &calls[i], &sqe, PST_CONN_DATA_IN, data, 65536);
	pst_sim_run_for(rig.sim, 200000);
	host_close(&a);
	host_close(&b);
	rig_free(&rig);
	free(data);
}

/* Media errors have their status, are counted, and stand in the error log. */
static void media_errors_are_told_and_logged(void **state)
{
	struct rig rig;
	struct host h;
	struct nvme_sqe sqe = sqe_io(NVME_CMD_READ, 9, 1);
	uint8_t data[4096];

	(void)state;
	rig_new(&rig, &(struct rig_options){ .shards = 2, .volume_shard = 1 });
	assert_int_equal(pst_fault_add(rig.volume, &(struct pst_fault_rule){ .action = PST_FAULT_ERROR,
									     .kinds = 1u << PST_IO_READ,
									     .lba = 9,
									     .block_count = 1,
									     .err = PST_E_CHECKSUM,
									     .count = 1 }),
			 PST_OK);
	host_connect(&rig, &h, false, 0);
	assert_int_equal(command(&h.io, &sqe, PST_CONN_DATA_IN, data, 4096, NULL),
			 NVME_UNRECOVERED_READ_ERROR | NVME_STATUS_DNR);
	assert_int_equal(command(&h.io, &sqe, PST_CONN_DATA_IN, data, 4096, NULL), 0);
	sqe = sqe_admin(NVME_ADMIN_GET_LOG_PAGE, 15u << 16 | NVME_LOG_ERROR, 0);
	assert_int_equal(command(&h.admin, &sqe, PST_CONN_DATA_IN, data, 64, NULL), 0);
	assert_int_equal(pst_get_le64(data), 1);
	assert_int_equal(pst_get_le16(data + 8), 1);
	assert_int_equal(pst_get_le64(data + 16), 9);
	sqe = sqe_admin(NVME_ADMIN_GET_LOG_PAGE, 127u << 16 | NVME_LOG_SMART, 0);
	assert_int_equal(command(&h.admin, &sqe, PST_CONN_DATA_IN, data, 512, NULL), 0);
	assert_int_equal(pst_get_le64(data + 160), 1);
	host_close(&h);
	rig_free(&rig);
}

/* Removing a volume under load completes: hosts are disconnected, requests in flight end first. */
static void removal_under_load_completes(void **state)
{
	(void)state;
	for (unsigned shards = 1; shards <= 3; shards++) {
		struct rig rig;
		struct host h;
		struct call calls[64];
		struct nvme_sqe sqe = sqe_io(NVME_CMD_WRITE, 0, 64);
		uint8_t *data = pattern(64 * 4096, 1);

		rig_new(&rig, &(struct rig_options){ .shards = shards, .volume_shard = shards / 2, .qos = true });
		assert_int_equal(pst_fault_add(rig.volume, &(struct pst_fault_rule){ .action = PST_FAULT_DELAY,
										     .kinds = 1u << PST_IO_WRITE,
										     .delay_ns = RIG_SECOND }),
				 PST_OK);
		host_connect(&rig, &h, true, 0);
		for (unsigned i = 0; i < 64; i++)
			call_start(&h.io, &calls[i], &sqe, PST_CONN_DATA_OUT, data, 64 * 4096);
		pst_sim_run_for(rig.sim, shards * 3000000);
		rig_subsystem_remove(&rig, rig.subsystem);
		rig.subsystem = NULL;
		rig_wait(&rig, &h.io.closed);
		rig_wait(&rig, &h.admin.closed);
		host_close(&h);
		free(data);
		rig_free(&rig);
	}
}

/* Above the limit of connections a host is turned away, and served again when there is room. */
static void connections_are_limited(void **state)
{
	struct rig rig;
	struct link a, b, c;

	(void)state;
	rig_new(&rig, &(struct rig_options){ .target = { .connections_max = 2 } });
	link_open(&rig, &a, false);
	link_open(&rig, &b, false);
	link_dial(&rig, &c);
	c.recv_iov[0] = (struct iovec){ c.connect.addr.host, sizeof(c.connect.addr.host) };
	c.recv = (struct pst_stream_op){ .iov = c.recv_iov, .iov_count = 1, .done = raw_received };
	pst_stream_recv(c.stream, &c.recv);
	rig_wait(&rig, &c.ended);
	assert_int_equal(c.recv.done_bytes, 0);
	link_close(&c);
	link_close(&b);
	pst_sim_run_for(rig.sim, RIG_SECOND);
	link_open(&rig, &b, false);
	assert_int_equal(link_connect(&b, RIG_NQN, 0, 0xffff, 0, NULL), 0);
	link_close(&a);
	link_close(&b);
	rig_free(&rig);
}

/* A connection that never says Connect is closed. */
static void silence_before_connect_is_bounded(void **state)
{
	struct rig rig;
	struct link l;

	(void)state;
	rig_new(&rig, &(struct rig_options){ 0 });
	link_open(&rig, &l, false);
	pst_sim_run_for(rig.sim, 9 * RIG_SECOND);
	assert_false(l.closed);
	rig_wait(&rig, &l.closed);
	link_close(&l);
	rig_free(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(data_survives_the_way),
		cmocka_unit_test(data_survives_between_shards),
		cmocka_unit_test(connect_names_the_wrong_parameter),
		cmocka_unit_test(io_queues_belong_to_their_host),
		cmocka_unit_test(commands_out_of_order_are_refused),
		cmocka_unit_test(flow_control_is_turned_off),
		cmocka_unit_test(garbage_ends_only_its_connection),
		cmocka_unit_test(keep_alive_expiry_drops_the_association),
		cmocka_unit_test(a_reset_forgets_settings),
		cmocka_unit_test(changes_raise_events),
		cmocka_unit_test(abort_reaches_waiting_commands),
		cmocka_unit_test(exhausted_buffers_make_commands_wait),
		cmocka_unit_test(media_errors_are_told_and_logged),
		cmocka_unit_test(removal_under_load_completes),
		cmocka_unit_test(connections_are_limited),
		cmocka_unit_test(silence_before_connect_is_bounded),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

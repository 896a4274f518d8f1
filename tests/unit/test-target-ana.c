/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Several ports and the access through them, with the target as a black box on one to three shards and the volume on
 * the last of them: what hosts are told, which commands are refused, and that no old write follows a new one.
 */
#include "base/le.h"
#include "target-rig.h"

#define ANA_EVENT (NVME_AER_TYPE_NOTICE | NVME_AER_ANA_CHANGED << 8 | NVME_LOG_ANA << 16)

struct ana_call {
	struct pst_ana_op op;
	bool done;
};

static void ana_done(struct pst_ana_op *op)
{
	pst_container_of(op, struct ana_call, op)->done = true;
}

static void ana_start(struct rig *rig, struct ana_call *call, uint16_t port, uint32_t groups, enum pst_ana_state state)
{
	*call = (struct ana_call){ .op.done = ana_done };
	assert_int_equal(pst_target_set_ana(rig->target, port, groups, state, &call->op), PST_OK);
	assert_false(call->done);
}

static void ana(struct rig *rig, uint16_t port, uint32_t groups, enum pst_ana_state state)
{
	struct ana_call call;

	ana_start(rig, &call, port, groups, state);
	rig_wait(rig, &call.done);
}

/* The rig's own port is 1; this adds port 2. Hosts connect where rig->addr says. */
struct ports {
	struct pst_addr one, two;
};

static struct ports two_ports(struct rig *rig)
{
	struct pst_target_port port = { .id = 2, .addr = rig->addr };
	struct ports ports = { .one = rig->addr };

	port.addr.port = 4421;
	assert_int_equal(pst_target_listen(rig->target, &port, &ports.two), PST_OK);
	pst_sim_run_for(rig->sim, 1000000);
	return ports;
}

static void connect_at(struct rig *rig, struct pst_addr addr, struct host *h, uint8_t id)
{
	rig->addr = addr;
	host_connect_as(rig, h, false, 0, 127, id);
}

/* A host that knows both ways to the volume. */
static void connect_both(struct rig *rig, struct host *a, struct host *b)
{
	struct ports ports = two_ports(rig);

	connect_at(rig, ports.one, a, 7);
	connect_at(rig, ports.two, b, 7);
}

static uint16_t put(struct link *l, uint64_t lba, uint8_t value)
{
	static uint8_t data[4096];
	struct nvme_sqe sqe = sqe_io(NVME_CMD_WRITE, lba, 1);

	memset(data, value, sizeof(data));
	return command(l, &sqe, PST_CONN_DATA_OUT, data, sizeof(data), NULL);
}

static uint16_t get(struct link *l, uint64_t lba, uint8_t *ret_value)
{
	static uint8_t data[4096];
	struct nvme_sqe sqe = sqe_io(NVME_CMD_READ, lba, 1);
	uint16_t status = command(l, &sqe, PST_CONN_DATA_IN, data, sizeof(data), NULL);

	*ret_value = data[0];
	return status;
}

static void log_read(struct link *l, bool groups_only, uint8_t page[64])
{
	struct nvme_sqe sqe =
	    sqe_admin(NVME_ADMIN_GET_LOG_PAGE, NVME_LOG_ANA | (groups_only ? 1 << 8 : 0) | 15 << 16, 0);

	assert_int_equal(command(l, &sqe, PST_CONN_DATA_IN, page, 64, NULL), 0);
}

static const struct nvme_ana_group *group_of(const uint8_t page[64])
{
	return (const void *)(page + sizeof(struct nvme_ana_log));
}

static void listen_for_events(struct link *l, struct call *event)
{
	struct nvme_sqe config = sqe_admin(NVME_ADMIN_SET_FEATURES, NVME_FEAT_ASYNC_EVENT,
					   NVME_AEC_ANA_CHANGED | NVME_AEC_NS_CHANGED),
			request = sqe_admin(NVME_ADMIN_ASYNC_EVENT, 0, 0);

	assert_int_equal(command(l, &config, PST_CONN_NO_DATA, NULL, 0, NULL), 0);
	call_start(l, event, &request, PST_CONN_NO_DATA, NULL, 0);
}

/* Hosts see the group, its state on the port that they came by, and a count that moves with it. */
static void hosts_are_told(void **state)
{
	uint8_t page[4096] = { 0 }, log[64];
	const struct nvme_id_ctrl *ctrl = (const void *)page;
	const struct nvme_id_ns *ns = (const void *)page;
	struct nvme_sqe sqe;
	struct host a, b;
	struct rig rig;
	struct call event_a, event_b;
	uint64_t before;

	(void)state;
	rig_new(&rig, &(struct rig_options){ .shards = 2, .volume_shard = 1 });
	connect_both(&rig, &a, &b);
	sqe = sqe_admin(NVME_ADMIN_IDENTIFY, NVME_CNS_CONTROLLER, 0);
	assert_int_equal(command(&a.admin, &sqe, PST_CONN_DATA_IN, page, 4096, NULL), 0);
	assert_int_equal(ctrl->cmic, 1 | 2 | 8);
	assert_int_equal(nvme_get32(ctrl->anagrpmax), PST_ANA_GROUPS_MAX);
	assert_int_equal(nvme_get32(ctrl->nanagrpid), PST_ANA_GROUPS_MAX);
	assert_int_equal(ctrl->anacap & 0x1f, 0x1f);
	assert_true(ctrl->anatt > 0);
	assert_true((nvme_get32(ctrl->oaes) & NVME_AEC_ANA_CHANGED) != 0);
	sqe = sqe_admin(NVME_ADMIN_IDENTIFY, NVME_CNS_NAMESPACE, 0);
	sqe.nsid = nvme_le32_of(1);
	assert_int_equal(command(&a.admin, &sqe, PST_CONN_DATA_IN, page, 4096, NULL), 0);
	assert_int_equal(nvme_get32(ns->anagrpid), 1);
	assert_int_equal(ns->nmic & 1, 1);

	sqe = sqe_admin(NVME_ADMIN_IDENTIFY, NVME_CNS_CONTROLLERS, 0); /* those of both ports */
	assert_int_equal(command(&a.admin, &sqe, PST_CONN_DATA_IN, page, 4096, NULL), 0);
	assert_int_equal(pst_get_le16(page), 2);
	assert_int_equal(pst_get_le16(page + 2), PST_MIN(a.cntlid, b.cntlid));

	listen_for_events(&a.admin, &event_a);
	listen_for_events(&b.admin, &event_b);
	log_read(&b.admin, false, log);
	assert_int_equal(nvme_get16(((struct nvme_ana_log *)(void *)log)->ngrps), 1);
	assert_int_equal(nvme_get32(group_of(log)->grpid), 1);
	assert_int_equal(nvme_get32(group_of(log)->nnsids), 1);
	assert_int_equal(nvme_get32(group_of(log)->nsids[0]), 1);
	assert_int_equal(group_of(log)->state, PST_ANA_OPTIMIZED);
	before = nvme_get64(((struct nvme_ana_log *)(void *)log)->chgcnt);
	assert_true(before > 0);
	ana(&rig, 2, 1, PST_ANA_NON_OPTIMIZED);
	rig_wait(&rig, &event_b.done);
	assert_int_equal(nvme_get32(event_b.cqe.dw0), ANA_EVENT);
	log_read(&b.admin, true, log);
	assert_int_equal(nvme_get64(((struct nvme_ana_log *)(void *)log)->chgcnt), before + 1);
	assert_int_equal(group_of(log)->state, PST_ANA_NON_OPTIMIZED);
	assert_int_equal(nvme_get32(group_of(log)->nnsids), 0);
	pst_sim_run_for(rig.sim, RIG_SECOND);
	assert_false(event_a.done); /* nothing has changed on its port */
	log_read(&a.admin, false, log);
	assert_int_equal(group_of(log)->state, PST_ANA_OPTIMIZED);
	host_close(&a);
	host_close(&b);
	rig_free(&rig);
}

/* Every kind of command is refused on a closed path, with its status and for another try; others are not touched. */
static void a_closed_path_refuses(void **state)
{
	static const struct {
		enum pst_ana_state state;
		uint16_t status;
	} closed[] = { { PST_ANA_INACCESSIBLE, NVME_ANA_INACCESSIBLE },
		       { PST_ANA_PERSISTENT_LOSS, NVME_ANA_PERSISTENT_LOSS },
		       { PST_ANA_CHANGE, NVME_ANA_TRANSITION } };
	uint8_t value, data[4096] = { 0 };

	(void)state;
	for (unsigned shards = 1; shards <= 3; shards++) {
		struct rig rig;
		struct host a, b;

		rig_new(&rig,
			&(struct rig_options){ .shards = shards, .volume_shard = shards - 1, .ram = shards == 1 });
		connect_both(&rig, &a, &b);
		assert_int_equal(put(&b.io, 5, 0x11), 0);
		for (size_t i = 0; i < PST_ARRAY_COUNT(closed); i++) {
			struct nvme_sqe flush = sqe_io(NVME_CMD_FLUSH, 0, 1), compare = sqe_io(NVME_CMD_COMPARE, 5, 1),
					zeroes = sqe_io(NVME_CMD_WRITE_ZEROES, 5, 1),
					report = sqe_io(NVME_CMD_RESV_REPORT, 0, 1),
					mask = sqe_admin(NVME_ADMIN_GET_FEATURES, NVME_FEAT_RESV_MASK, 0),
					identify = sqe_admin(NVME_ADMIN_IDENTIFY, NVME_CNS_NAMESPACE, 0),
					alive = sqe_admin(NVME_ADMIN_KEEP_ALIVE, 0, 0);

			report.cdw10 = nvme_le32_of(1023);
			report.cdw11 = nvme_le32_of(1);
			mask.nsid = nvme_le32_of(1);
			identify.nsid = nvme_le32_of(1);
			ana(&rig, 2, 1, closed[i].state);
			assert_int_equal(command(&b.admin, &identify, PST_CONN_DATA_IN, data, 4096, NULL), 0);
			assert_int_equal(pst_get_le64(data), RIG_BLOCKS);
			assert_int_equal(pst_get_le64(data + 16) > 0, closed[i].state == PST_ANA_CHANGE); /* NUSE */
			memset(data, 0, sizeof(data));
			assert_int_equal(put(&b.io, 5, 0x22), closed[i].status);
			assert_int_equal(get(&b.io, 5, &value), closed[i].status);
			assert_int_equal(command(&b.io, &flush, PST_CONN_NO_DATA, NULL, 0, NULL), closed[i].status);
			assert_int_equal(command(&b.io, &zeroes, PST_CONN_NO_DATA, NULL, 0, NULL), closed[i].status);
			assert_int_equal(command(&b.io, &compare, PST_CONN_DATA_OUT, data, 4096, NULL),
					 closed[i].status);
			assert_int_equal(command(&b.io, &report, PST_CONN_DATA_IN, data, 4096, NULL), closed[i].status);
			assert_int_equal(command(&b.admin, &mask, PST_CONN_NO_DATA, NULL, 0, NULL), closed[i].status);
			assert_int_equal(command(&b.admin, &alive, PST_CONN_NO_DATA, NULL, 0, NULL), 0);
			assert_int_equal(get(&a.io, 5, &value), 0);
			assert_int_equal(value, 0x11);
			ana(&rig, 2, 1, PST_ANA_OPTIMIZED);
			assert_int_equal(get(&b.io, 5, &value), 0);
			assert_int_equal(value, 0x11);
		}
		host_close(&a);
		host_close(&b);
		rig_free(&rig);
	}
}

/* What the volume has is completed, and only then the change is done; what waits for admission is refused. */
static void commands_under_way_complete(void **state)
{
	static uint8_t data[4096];

	(void)state;
	for (unsigned shards = 1; shards <= 3; shards++) {
		struct nvme_sqe sqe = sqe_io(NVME_CMD_WRITE, 9, 1);
		struct pst_fault_rule slow = { .action = PST_FAULT_DELAY,
					       .kinds = 1u << PST_IO_WRITE,
					       .delay_ns = 2 * RIG_SECOND };
		struct call inside, waits, event;
		struct ana_call change;
		struct ports ports;
		struct host b;
		struct rig rig;

		rig_new(&rig,
			&(struct rig_options){
			    .shards = shards, .volume_shard = shards - 1, .qos = true, .policy = { .limit_iops = 1 } });
		ports = two_ports(&rig);
		assert_int_equal(pst_fault_add(rig.volume, &slow), PST_OK);
		connect_at(&rig, ports.two, &b, 7);
		listen_for_events(&b.admin, &event);
		call_start(&b.io, &inside, &sqe, PST_CONN_DATA_OUT, data, sizeof(data));
		pst_sim_run_for(rig.sim, RIG_SECOND / 10);
		call_start(&b.io, &waits, &sqe, PST_CONN_DATA_OUT, data, sizeof(data));
		pst_sim_run_for(rig.sim, RIG_SECOND / 10);
		assert_false(inside.done || waits.done);
		ana_start(&rig, &change, 2, 1, PST_ANA_INACCESSIBLE);
		rig_wait(&rig, &event.done); /* hosts need not wait for it */
		assert_false(change.done);
		assert_int_equal(call_status(&b.io, &inside), 0);
		rig_wait(&rig, &change.done);
		assert_int_equal(call_status(&b.io, &waits), NVME_ANA_INACCESSIBLE);
		host_close(&b);
		rig_free(&rig);
	}
}

/*
 * A write is at work in the volume when its path is lost. The host sends it again over the other path, and when that is
 * answered, a later write of the same block. The later one stays, whatever becomes of the first sending.
 */
static void an_old_write_never_follows_a_new_one(void **state)
{
	static uint8_t data[2 * 4096];

	(void)state;
	for (unsigned shards = 1; shards <= 3; shards++) {
		struct nvme_sqe sqe = sqe_io(NVME_CMD_WRITE, 9, 2);
		struct pst_fault_rule slow = {
			.action = PST_FAULT_DELAY, .kinds = 1u << PST_IO_WRITE, .delay_ns = 5 * RIG_SECOND, .count = 1
		};
		struct call first, other;
		struct ports ports;
		struct host a, b, c;
		struct rig rig;
		uint8_t value;
		uint64_t begin;

		rig_new(&rig, &(struct rig_options){ .shards = shards, .volume_shard = shards - 1 });
		ports = two_ports(&rig);
		assert_int_equal(pst_fault_add(rig.volume, &slow), PST_OK);
		connect_at(&rig, ports.one, &a, 7);
		connect_at(&rig, ports.two, &b, 7);
		memset(data, 1, sizeof(data));
		call_start(&a.io, &first, &sqe, PST_CONN_DATA_OUT, data, sizeof(data));
		pst_sim_run_for(rig.sim, RIG_SECOND / 10);
		host_close(&a); /* the path is gone, the write is not */
		pst_sim_run_for(rig.sim, RIG_SECOND / 10);
		begin = pst_sim_now_ns(rig.sim);
		assert_int_equal(put(&b.io, 20, 9), 0); /* blocks that it does not touch are not held up */
		assert_true(pst_sim_now_ns(rig.sim) - begin < RIG_SECOND);
		call_start(&b.io, &other, &sqe, PST_CONN_DATA_OUT, data, sizeof(data));
		connect_at(&rig, ports.one, &c, 9); /* a third one, in line behind it */
		assert_int_equal(put(&c.io, 10, 2), 0);
		assert_int_equal(call_status(&b.io, &other), 0);
		assert_int_equal(put(&b.io, 9, 3), 0);
		assert_true(pst_sim_now_ns(rig.sim) - begin > 4 * RIG_SECOND);
		pst_sim_run_for(rig.sim, 10 * RIG_SECOND);
		assert_int_equal(get(&b.io, 9, &value), 0);
		assert_int_equal(value, 3);
		assert_int_equal(get(&b.io, 10, &value), 0);
		assert_int_equal(value, 2);
		host_close(&b);
		host_close(&c);
		rig_free(&rig);
	}
}

/* The same of a Copy that a lost path has left behind: a write of what it changes comes after it. */
static void an_old_copy_never_follows_a_write(void **state)
{
	static uint8_t ranges[4096];

	(void)state;
	for (unsigned shards = 1; shards <= 3; shards++) {
		struct nvme_sqe sqe = sqe_io(NVME_CMD_COPY, 9, 1);
		struct pst_fault_rule slow = {
			.action = PST_FAULT_DELAY, .kinds = 1u << PST_IO_READ, .delay_ns = 5 * RIG_SECOND, .count = 1
		};
		struct call copy;
		struct host a, b;
		struct rig rig;
		uint8_t value;

		rig_new(&rig, &(struct rig_options){ .shards = shards, .volume_shard = shards - 1 });
		connect_both(&rig, &a, &b);
		assert_int_equal(put(&a.io, 100, 1), 0);
		assert_int_equal(pst_fault_add(rig.volume, &slow), PST_OK);
		pst_put_le64(ranges + 8, 100);
		call_start(&a.io, &copy, &sqe, PST_CONN_DATA_OUT, ranges, 32);
		pst_sim_run_for(rig.sim, RIG_SECOND / 10);
		host_close(&a);
		assert_int_equal(put(&b.io, 9, 2), 0);
		pst_sim_run_for(rig.sim, 10 * RIG_SECOND);
		assert_int_equal(get(&b.io, 9, &value), 0);
		assert_int_equal(value, 2);
		host_close(&b);
		rig_free(&rig);
	}
}

/* The same by a change of the access: after an answer with the status of the closed path, nothing of it lands. */
static void nothing_lands_after_the_path_was_closed(void **state)
{
	static uint8_t data[64][4096];

	(void)state;
	for (unsigned shards = 1; shards <= 3; shards++) {
		struct call calls[64];
		struct ana_call change;
		struct host a, b;
		struct rig rig;
		uint8_t value;

		rig_new(&rig, &(struct rig_options){ .shards = shards, .volume_shard = shards - 1 });
		connect_both(&rig, &a, &b);
		for (unsigned i = 0; i < PST_ARRAY_COUNT(calls); i++) {
			struct nvme_sqe sqe = sqe_io(NVME_CMD_WRITE, i, 1);

			memset(data[i], 1, sizeof(data[i]));
			call_start(&a.io, &calls[i], &sqe, PST_CONN_DATA_OUT, data[i], sizeof(data[i]));
			if (i == 20)
				ana_start(&rig, &change, 1, 1, PST_ANA_INACCESSIBLE);
			pst_sim_run_for(rig.sim, 10000);
		}
		rig_wait(&rig, &change.done);
		for (unsigned i = 0; i < PST_ARRAY_COUNT(calls); i++) {
			uint16_t status = call_status(&a.io, &calls[i]);

			assert_true(status == 0 || status == NVME_ANA_INACCESSIBLE);
			if (status != 0)
				assert_int_equal(put(&b.io, i, 2), 0);
		}
		assert_int_equal(nvme_get16(calls[63].cqe.status) >> 1, NVME_ANA_INACCESSIBLE);
		pst_sim_run_for(rig.sim, RIG_SECOND);
		for (unsigned i = 0; i < PST_ARRAY_COUNT(calls); i++) {
			assert_int_equal(get(&b.io, i, &value), 0);
			assert_int_equal(value, nvme_get16(calls[i].cqe.status) >> 1 == 0 ? 1 : 2);
		}
		host_close(&a);
		host_close(&b);
		rig_free(&rig);
	}
}

/*
 * A path is closed while the pool is full. What waits for space of its commands, and what waits at the gate behind a
 * write that does, ends with the status of the path, and the change does not wait for the space. The host sends a write
 * again over the other path, and a later one: that one stays, and nothing of the closed path lands.
 */
static void a_closed_path_does_not_wait_for_space(void **state)
{
	static uint8_t old[4096], again[4096], later[4096], mine[4096], range[32];

	(void)state;
	memset(old, 1, sizeof(old));
	memset(again, 2, sizeof(again));
	memset(later, 3, sizeof(later));
	memset(mine, 4, sizeof(mine));
	pst_put_le64(range + 8, 100);
	for (unsigned shards = 1; shards <= 3; shards++) {
		struct call writes[8], copy, later_copy, behind, own, resent, newer;
		struct nvme_sqe sqe;
		struct ana_call change;
		struct host a, b;
		struct rig rig;
		uint8_t value;

		rig_new(&rig, &(struct rig_options){ .shards = shards, .volume_shard = shards - 1 });
		connect_both(&rig, &a, &b);
		rig_full_pool(&rig);
		sqe = sqe_io(NVME_CMD_WRITE, 7, 1);
		call_start(&a.io, &own, &sqe, PST_CONN_DATA_OUT, mine, sizeof(mine));
		pst_sim_run_for(rig.sim, RIG_SECOND);
		call_start(&b.io, &behind, &sqe, PST_CONN_DATA_OUT, old, sizeof(old));
		sqe = sqe_io(NVME_CMD_WRITE, 5, 1);
		for (unsigned i = 0; i < 8; i++)
			call_start(&b.io, &writes[i], &sqe, PST_CONN_DATA_OUT, old, sizeof(old));
		sqe = sqe_io(NVME_CMD_COPY, 6, 1);
		call_start(&b.io, &copy, &sqe, PST_CONN_DATA_OUT, range, sizeof(range));
		call_start(&b.io, &later_copy, &sqe, PST_CONN_DATA_OUT, range, sizeof(range));
		pst_sim_run_for(rig.sim, 10 * RIG_SECOND);
		assert_false(writes[0].done || copy.done || behind.done || own.done);
		ana_start(&rig, &change, 2, 1, PST_ANA_INACCESSIBLE);
		pst_sim_run_for(rig.sim, RIG_SECOND);
		assert_true(change.done);
		for (unsigned i = 0; i < 8; i++)
			assert_true(writes[i].done && call_status(&b.io, &writes[i]) == NVME_ANA_INACCESSIBLE);
		assert_true(copy.done && call_status(&b.io, &copy) == NVME_ANA_INACCESSIBLE);
		assert_true(later_copy.done && call_status(&b.io, &later_copy) == NVME_ANA_INACCESSIBLE);
		assert_true(behind.done && call_status(&b.io, &behind) == NVME_ANA_INACCESSIBLE);
		assert_false(own.done);
		sqe = sqe_io(NVME_CMD_WRITE, 5, 1);
		call_start(&a.io, &resent, &sqe, PST_CONN_DATA_OUT, again, sizeof(again));
		pst_sim_run_for(rig.sim, RIG_SECOND);
		assert_false(resent.done);
		pst_fault_clear(rig.volume);
		assert_int_equal(call_status(&a.io, &resent), 0);
		assert_int_equal(call_status(&a.io, &own), 0);
		call_start(&a.io, &newer, &sqe, PST_CONN_DATA_OUT, later, sizeof(later));
		assert_int_equal(call_status(&a.io, &newer), 0);
		pst_sim_run_for(rig.sim, 10 * RIG_SECOND);
		assert_int_equal(get(&a.io, 5, &value), 0);
		assert_int_equal(value, 3);
		assert_int_equal(get(&a.io, 6, &value), 0);
		assert_int_equal(value, 0);
		assert_int_equal(get(&a.io, 7, &value), 0);
		assert_int_equal(value, 4);
		ana(&rig, 2, 1, PST_ANA_OPTIMIZED);
		assert_int_equal(put(&b.io, 6, 5), 0);
		host_close(&a);
		host_close(&b);
		rig_free(&rig);
	}
}

/* Likewise a fused pair that waits for its turn; it has not begun. */
static void a_waiting_pair_ends_with_its_path(void **state)
{
	static uint8_t zeros[4096], mine[4096];

	(void)state;
	memset(mine, 4, sizeof(mine));
	for (unsigned shards = 1; shards <= 3; shards++) {
		struct nvme_sqe sqe = sqe_io(NVME_CMD_WRITE, 5, 1);
		struct call own, pair[2];
		struct ana_call change;
		struct host a, b;
		struct rig rig;
		uint8_t value;

		rig_new(&rig, &(struct rig_options){ .shards = shards, .volume_shard = shards - 1 });
		connect_both(&rig, &a, &b);
		rig_full_pool(&rig);
		call_start(&a.io, &own, &sqe, PST_CONN_DATA_OUT, mine, sizeof(mine));
		pst_sim_run_for(rig.sim, RIG_SECOND);
		caw_start(&b.io, pair, 5, zeros, zeros);
		pst_sim_run_for(rig.sim, RIG_SECOND);
		assert_false(own.done || pair[1].done);
		ana_start(&rig, &change, 2, 1, PST_ANA_CHANGE);
		pst_sim_run_for(rig.sim, RIG_SECOND);
		assert_true(change.done);
		assert_true(pair[1].done && call_status(&b.io, &pair[1]) == NVME_ANA_TRANSITION);
		assert_false(own.done);
		pst_fault_clear(rig.volume);
		assert_int_equal(call_status(&a.io, &own), 0);
		assert_int_equal(get(&a.io, 5, &value), 0);
		assert_int_equal(value, 4);
		host_close(&a);
		host_close(&b);
		rig_free(&rig);
	}
}

/* A Copy that reads while its path is closed does not go on to write: that might wait for space. */
static void a_copy_of_a_closed_path_does_not_go_on(void **state)
{
	static uint8_t ranges[32];
	struct nvme_sqe sqe = sqe_io(NVME_CMD_COPY, 9, 1);
	struct pst_fault_rule slow = {
		.action = PST_FAULT_DELAY, .kinds = 1u << PST_IO_READ, .delay_ns = 2 * RIG_SECOND, .count = 1
	};
	struct call copy;
	struct ana_call change;
	struct host a, b;
	struct rig rig;
	uint8_t value;

	(void)state;
	rig_new(&rig, &(struct rig_options){ .shards = 2, .volume_shard = 1 });
	connect_both(&rig, &a, &b);
	assert_int_equal(put(&a.io, 100, 1), 0);
	assert_int_equal(pst_fault_add(rig.volume, &slow), PST_OK);
	pst_put_le64(ranges + 8, 100);
	call_start(&b.io, &copy, &sqe, PST_CONN_DATA_OUT, ranges, sizeof(ranges));
	pst_sim_run_for(rig.sim, RIG_SECOND / 10);
	rig_full_pool(&rig);
	ana_start(&rig, &change, 2, 1, PST_ANA_INACCESSIBLE);
	pst_sim_run_for(rig.sim, 3 * RIG_SECOND);
	assert_true(change.done && copy.done);
	assert_int_equal(call_status(&b.io, &copy), NVME_ANA_INACCESSIBLE);
	pst_fault_clear(rig.volume);
	assert_int_equal(get(&a.io, 9, &value), 0);
	assert_int_equal(value, 0);
	host_close(&a);
	host_close(&b);
	rig_free(&rig);
}

/* Groups have states of their own, and a namespace that moves to another takes on those. */
static void groups_have_their_own_states(void **state)
{
	struct ana_call move = { .op.done = ana_done };
	struct nvme_sqe request = sqe_admin(NVME_ADMIN_ASYNC_EVENT, 0, 0);
	struct call event;
	struct ports ports;
	struct host b;
	struct rig rig;
	uint8_t log[64], value;

	(void)state;
	rig_new(&rig, &(struct rig_options){ .shards = 2, .volume_shard = 1 });
	ports = two_ports(&rig);
	connect_at(&rig, ports.two, &b, 7);
	listen_for_events(&b.admin, &event);
	ana(&rig, 2, 1u << 4, PST_ANA_INACCESSIBLE); /* group 5 */
	assert_int_equal(put(&b.io, 0, 1), 0);
	assert_false(event.done);
	pst_subsystem_set_group(rig.subsystem, 5, &move.op);
	rig_wait(&rig, &move.done);
	rig_wait(&rig, &event.done);
	assert_int_equal(nvme_get32(event.cqe.dw0),
			 NVME_AER_TYPE_NOTICE | NVME_AER_ANA_CHANGED << 8 | NVME_LOG_ANA << 16);
	call_start(&b.admin, &event, &request, PST_CONN_NO_DATA, NULL, 0);
	pst_sim_run_for(rig.sim, RIG_SECOND);
	assert_false(event.done); /* the namespace itself has not changed */
	assert_int_equal(get(&b.io, 0, &value), NVME_ANA_INACCESSIBLE);
	log_read(&b.admin, false, log);
	assert_int_equal(nvme_get32(group_of(log)->grpid), 5);
	assert_int_equal(group_of(log)->state, PST_ANA_INACCESSIBLE);
	ana(&rig, 2, UINT32_MAX, PST_ANA_OPTIMIZED);
	assert_int_equal(get(&b.io, 0, &value), 0);
	host_close(&b);
	rig_free(&rig);
}

/* A detached namespace is on no list, and not to be reached; hosts stay, hear of it, and have it again afterwards. */
static void a_detached_namespace_is_gone(void **state)
{
	static uint8_t page[4096];

	(void)state;
	for (unsigned shards = 1; shards <= 3; shards++) {
		struct ana_call call = { .op.done = ana_done };
		struct nvme_sqe list = sqe_admin(NVME_ADMIN_IDENTIFY, NVME_CNS_ACTIVE_LIST, 0),
				ns = sqe_admin(NVME_ADMIN_IDENTIFY, NVME_CNS_NAMESPACE, 0);
		struct call event;
		struct host h;
		struct rig rig;
		uint8_t log[64], value;

		ns.nsid = nvme_le32_of(1);
		rig_new(&rig,
			&(struct rig_options){ .shards = shards, .volume_shard = shards - 1, .ram = shards == 1 });
		host_connect(&rig, &h, false, 0);
		assert_int_equal(put(&h.io, 3, 9), 0);
		listen_for_events(&h.admin, &event);
		pst_subsystem_set_attached(rig.subsystem, false, &call.op);
		rig_wait(&rig, &call.done);
		rig_wait(&rig, &event.done);
		assert_int_equal(get(&h.io, 3, &value), NVME_INVALID_NAMESPACE | NVME_STATUS_DNR);
		assert_int_equal(command(&h.admin, &list, PST_CONN_DATA_IN, page, sizeof(page), NULL), 0);
		assert_int_equal(pst_get_le32(page), 0);
		assert_int_equal(command(&h.admin, &ns, PST_CONN_DATA_IN, page, sizeof(page), NULL), 0);
		assert_int_equal(pst_get_le64(page), 0); /* inactive: all zeros */
		log_read(&h.admin, false, log);
		assert_int_equal(nvme_get16(((struct nvme_ana_log *)(void *)log)->ngrps), 0);
		call = (struct ana_call){ .op.done = ana_done };
		pst_subsystem_set_attached(rig.subsystem, true, &call.op);
		rig_wait(&rig, &call.done);
		assert_int_equal(command(&h.admin, &list, PST_CONN_DATA_IN, page, sizeof(page), NULL), 0);
		assert_int_equal(pst_get_le32(page), 1);
		assert_int_equal(get(&h.io, 3, &value), 0);
		assert_int_equal(value, 9);
		host_close(&h);
		rig_free(&rig);
	}
}

/* All queues of an association are on one port; ports have ids of their own. */
static void queues_stay_on_their_port(void **state)
{
	struct pst_target_port again = { .id = 2 };
	struct ana_call call = { .op.done = ana_done };
	struct pst_addr bound;
	struct ports ports;
	struct host a;
	struct link io;
	struct rig rig;

	(void)state;
	rig_new(&rig, &(struct rig_options){ .shards = 1 });
	ports = two_ports(&rig);
	connect_at(&rig, ports.one, &a, 7);
	rig.addr = ports.two;
	link_open(&rig, &io, false);
	assert_int_equal(link_connect(&io, RIG_NQN, 2, a.cntlid, 0, NULL), NVMF_INVALID_PARAM | NVME_STATUS_DNR);
	link_close(&io);
	again.addr = ports.one;
	again.addr.port = 4499;
	assert_int_equal(pst_target_listen(rig.target, &again, &bound), PST_E_EXISTS);
	assert_int_equal(pst_target_set_ana(rig.target, 3, 1, PST_ANA_OPTIMIZED, &call.op), PST_E_NOTFOUND);
	host_close(&a);
	rig_free(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(hosts_are_told),
		cmocka_unit_test(a_closed_path_refuses),
		cmocka_unit_test(commands_under_way_complete),
		cmocka_unit_test(an_old_write_never_follows_a_new_one),
		cmocka_unit_test(an_old_copy_never_follows_a_write),
		cmocka_unit_test(nothing_lands_after_the_path_was_closed),
		cmocka_unit_test(a_closed_path_does_not_wait_for_space),
		cmocka_unit_test(a_waiting_pair_ends_with_its_path),
		cmocka_unit_test(a_copy_of_a_closed_path_does_not_go_on),
		cmocka_unit_test(groups_have_their_own_states),
		cmocka_unit_test(a_detached_namespace_is_gone),
		cmocka_unit_test(queues_stay_on_their_port),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

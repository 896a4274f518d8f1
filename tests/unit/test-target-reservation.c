/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reservations through the target as a black box: several hosts share a volume, on one to three shards, with the volume
 * on the last of them.
 */
#include "base/le.h"
#include "target-rig.h"

#define CONFLICT (NVME_RESERVATION_CONFLICT | NVME_STATUS_DNR)
#define BAD (NVME_INVALID_FIELD | NVME_STATUS_DNR)
#define DELAY (RIG_SECOND / 10)

enum { REGISTER, UNREGISTER, REPLACE };
enum { ACQUIRE, PREEMPT, PREEMPT_ABORT };
enum { RELEASE, CLEAR };

static uint8_t block[4096];

static struct nvme_sqe sqe_resv(uint8_t opcode, uint32_t cdw10, uint32_t cdw11)
{
	struct nvme_sqe sqe = sqe_admin(opcode, cdw10, cdw11);

	sqe.nsid = nvme_le32_of(1);
	return sqe;
}

static void resv_start(struct host *h, struct call *call, uint8_t keys[16], uint8_t opcode, uint32_t cdw10,
		       uint64_t key, uint64_t other_key)
{
	struct nvme_sqe sqe = sqe_resv(opcode, cdw10, 0);

	pst_put_le64(keys, key);
	pst_put_le64(keys + 8, other_key);
	call_start(&h->io, call, &sqe, PST_CONN_DATA_OUT, keys, opcode == NVME_CMD_RESV_RELEASE ? 8 : 16);
}

static uint16_t resv(struct host *h, uint8_t opcode, uint32_t cdw10, uint64_t key, uint64_t other_key)
{
	struct call call;
	uint8_t keys[16];

	resv_start(h, &call, keys, opcode, cdw10, key, other_key);
	return call_status(&h->io, &call);
}

static uint16_t enroll(struct host *h, uint64_t key)
{
	return resv(h, NVME_CMD_RESV_REGISTER, REGISTER, 0, key);
}

static uint16_t acquire(struct host *h, uint32_t action, uint32_t type, uint64_t key, uint64_t other_key)
{
	return resv(h, NVME_CMD_RESV_ACQUIRE, action | type << 8, key, other_key);
}

static uint16_t do_read(struct host *h)
{
	struct nvme_sqe sqe = sqe_io(NVME_CMD_READ, 5, 1);

	return command(&h->io, &sqe, PST_CONN_DATA_IN, block, sizeof(block), NULL);
}

static uint16_t do_write(struct host *h)
{
	struct nvme_sqe sqe = sqe_io(NVME_CMD_WRITE, 5, 1);

	return command(&h->io, &sqe, PST_CONN_DATA_OUT, block, sizeof(block), NULL);
}

static void report(struct host *h, uint8_t page[512])
{
	struct nvme_sqe sqe = sqe_resv(NVME_CMD_RESV_REPORT, 127, 1);

	assert_int_equal(command(&h->io, &sqe, PST_CONN_DATA_IN, page, 512, NULL), 0);
}

/* Every command that writes or reads, for a host that may do neither. */
static void all_refused(struct host *h, bool reads_too)
{
	struct nvme_sqe sqe;
	uint8_t range[4096] = { 0 };

	assert_int_equal(do_write(h), CONFLICT);
	assert_int_equal(do_read(h), reads_too ? CONFLICT : 0);
	sqe = sqe_io(NVME_CMD_WRITE_ZEROES, 5, 1);
	assert_int_equal(command(&h->io, &sqe, PST_CONN_NO_DATA, NULL, 0, NULL), CONFLICT);
	sqe = (struct nvme_sqe){ .opcode = NVME_CMD_FLUSH, .nsid = nvme_le32_of(1) };
	assert_int_equal(command(&h->io, &sqe, PST_CONN_NO_DATA, NULL, 0, NULL), CONFLICT);
	sqe = sqe_resv(NVME_CMD_DSM, 0, NVME_DSM_DEALLOCATE);
	pst_put_le32(range + 4, 1);
	assert_int_equal(command(&h->io, &sqe, PST_CONN_DATA_OUT, range, sizeof(range), NULL), CONFLICT);
	/* A long write, whose data would have to be asked for, is refused before it is. */
	sqe = sqe_io(NVME_CMD_WRITE, 0, 64);
	uint8_t *data = calloc(64, 4096);
	assert_int_equal(command(&h->io, &sqe, PST_CONN_DATA_OUT, data, 64 * 4096, NULL), CONFLICT);
	free(data);
	sqe = sqe_io(NVME_CMD_COMPARE, 5, 1);
	assert_int_equal(command(&h->io, &sqe, PST_CONN_DATA_OUT, block, 4096, NULL), reads_too ? CONFLICT : 0);
	sqe = sqe_io(NVME_CMD_VERIFY, 5, 1);
	assert_int_equal(command(&h->io, &sqe, PST_CONN_NO_DATA, NULL, 0, NULL), reads_too ? CONFLICT : 0);
	memset(range, 0, sizeof(range));
	sqe = sqe_io(NVME_CMD_COPY, 500, 1);
	assert_int_equal(command(&h->io, &sqe, PST_CONN_DATA_OUT, range, 32, NULL), CONFLICT);
	struct call pair[2];
	caw_start(&h->io, pair, 5, block, block);
	assert_int_equal(call_status(&h->io, &pair[0]), reads_too ? CONFLICT : NVME_FUSED_FAILED | NVME_STATUS_DNR);
	assert_int_equal(call_status(&h->io, &pair[1]), reads_too ? NVME_FUSED_FAILED | NVME_STATUS_DNR : CONFLICT);
}

/* Two hosts share a volume; the one that is fenced can't write from the moment when the other one has its answer. */
static void the_fenced_host_can_not_write(void **state)
{
	(void)state;
	for (unsigned shards = 1; shards <= 3; shards++) {
		struct rig rig;
		struct host a, b;
		uint8_t page[512];

		rig_new(&rig,
			&(struct rig_options){
			    .shards = shards, .volume_shard = shards - 1, .qos = shards > 1, .ram = shards != 2 });
		host_connect_as(&rig, &a, false, 0, 127, 0xa);
		host_connect_as(&rig, &b, false, 0, 127, 0xb);
		assert_int_equal(enroll(&a, 1), 0);
		assert_int_equal(enroll(&b, 2), 0);
		assert_int_equal(acquire(&b, ACQUIRE, 3, 2, 0), 0);
		assert_int_equal(do_write(&a), 0);
		assert_int_equal(do_write(&b), 0);
		assert_int_equal(acquire(&a, PREEMPT, 4, 1, 2), 0);
		all_refused(&b, true);
		assert_int_equal(do_write(&a), 0);
		assert_int_equal(enroll(&b, 2), 0);
		assert_int_equal(do_write(&b), 0);
		assert_int_equal(do_read(&b), 0);
		assert_int_equal(resv(&a, NVME_CMD_RESV_RELEASE, RELEASE | 4 << 8, 1, 0), 0);
		assert_int_equal(acquire(&a, ACQUIRE, 1, 1, 0), 0);
		all_refused(&b, false);
		report(&b, page);
		assert_int_equal(pst_get_le32(page), 4); /* three registrations, a preemption */
		assert_int_equal(page[4], 1);
		assert_int_equal(pst_get_le16(page + 5), 2);
		assert_int_equal(page[64 + 2], 1);
		assert_int_equal(page[64 + 16], 0xa);
		assert_int_equal(pst_get_le64(page + 128 + 8), 2);
		/* A registration is the host's, not the connection's. */
		host_close(&a);
		pst_sim_run_for(rig.sim, RIG_SECOND);
		assert_int_equal(do_write(&b), CONFLICT);
		host_connect_as(&rig, &a, false, 0, 127, 0xa);
		assert_int_equal(do_write(&a), 0);
		assert_int_equal(resv(&b, NVME_CMD_RESV_RELEASE, CLEAR, 2, 0), 0);
		assert_int_equal(do_write(&b), 0);
		assert_int_equal(do_write(&a), 0);
		host_close(&a);
		host_close(&b);
		rig_free(&rig);
	}
}

static void slow(struct rig *rig, enum pst_io_kind kind, uint64_t delay_ns)
{
	assert_int_equal(pst_fault_add(rig->volume, &(struct pst_fault_rule){ .action = PST_FAULT_DELAY,
									      .kinds = 1u << kind,
									      .delay_ns = delay_ns }),
			 PST_OK);
}

/* What the volume has of the fenced host is done before the Preempt is answered; what comes later is refused. */
static void preempt_waits_for_what_is_under_way(void **state)
{
	(void)state;
	for (unsigned shards = 1; shards <= 3; shards++) {
		struct rig rig;
		struct host a, b;
		struct call writes[8], preempt, range_call;
		uint8_t keys[16], ranges[4096] = { 0 };
		struct nvme_sqe sqe = sqe_io(NVME_CMD_WRITE, 5, 1);

		rig_new(&rig, &(struct rig_options){ .shards = shards, .volume_shard = shards - 1 });
		host_connect_as(&rig, &a, false, 0, 127, 0xa);
		host_connect_as(&rig, &b, false, 0, 127, 0xb);
		assert_int_equal(enroll(&a, 1), 0);
		assert_int_equal(enroll(&b, 2), 0);
		assert_int_equal(acquire(&b, ACQUIRE, 1, 2, 0), 0);
		slow(&rig, PST_IO_WRITE, DELAY);
		slow(&rig, PST_IO_DISCARD, DELAY);
		for (unsigned i = 0; i < 8; i++)
			call_start(&b.io, &writes[i], &sqe, PST_CONN_DATA_OUT, block, sizeof(block));
		/* Three ranges, one after the other: the Preempt comes in between. */
		for (unsigned i = 0; i < 3; i++) {
			pst_put_le32(ranges + 16 * i + 4, 1);
			pst_put_le64(ranges + 16 * i + 8, 10 * i + 10);
		}
		sqe = sqe_resv(NVME_CMD_DSM, 2, NVME_DSM_DEALLOCATE);
		call_start(&b.io, &range_call, &sqe, PST_CONN_DATA_OUT, ranges, sizeof(ranges));
		pst_sim_run_for(rig.sim, DELAY / 4);
		resv_start(&a, &preempt, keys, NVME_CMD_RESV_ACQUIRE, PREEMPT | 1 << 8, 1, 2);
		pst_sim_run_for(rig.sim, DELAY / 4);
		assert_false(preempt.done);
		assert_int_equal(do_write(&b), CONFLICT); /* while the Preempt waits, nothing new gets in */
		assert_int_equal(call_status(&a.io, &preempt), 0);
		pst_sim_run_for(rig.sim, DELAY / 4); /* the answers are on their way; less than another write takes */
		for (unsigned i = 0; i < 8; i++)
			assert_true(writes[i].done && call_status(&b.io, &writes[i]) == 0);
		assert_int_equal(call_status(&b.io, &range_call), CONFLICT);
		assert_int_equal(do_read(&b), 0);
		host_close(&a);
		host_close(&b);
		rig_free(&rig);
	}
}

/* Preempt and Abort aborts what waits on the connections of the preempted host, and only there. */
static void preempt_and_abort_aborts_what_waits(void **state)
{
	(void)state;
	for (unsigned shards = 1; shards <= 3; shards++) {
		struct rig rig;
		struct host a, b, c;
		struct call waiting[32], other;
		unsigned aborted = 0, refused = 0;
		struct nvme_sqe sqe = sqe_io(NVME_CMD_READ, 5, 1);
		struct pst_qos_stats stats;

		rig_new(&rig, &(struct rig_options){ .shards = shards,
						     .volume_shard = shards - 1,
						     .qos = true,
						     .policy = { .limit_iops = 10 } });
		host_connect_as(&rig, &a, false, 0, 127, 0xa);
		host_connect_as(&rig, &b, false, 0, 127, 0xb);
		host_connect_as(&rig, &c, false, 0, 127, 0xc);
		assert_int_equal(enroll(&a, 1), 0);
		assert_int_equal(enroll(&b, 2), 0);
		/* Reads, that the reservation would let pass: they are aborted for being the preempted host's. */
		assert_int_equal(acquire(&b, ACQUIRE, 1, 2, 0), 0);
		for (unsigned i = 0; i < 32; i++)
			call_start(&b.io, &waiting[i], &sqe, PST_CONN_DATA_IN, block, sizeof(block));
		call_start(&c.io, &other, &sqe, PST_CONN_DATA_IN, block, sizeof(block));
		pst_sim_run_for(rig.sim, RIG_SECOND / 100);
		assert_int_equal(acquire(&a, PREEMPT_ABORT, 1, 1, 2), 0);
		for (unsigned i = 0; i < 32; i++) {
			uint16_t status = call_status(&b.io, &waiting[i]);

			aborted += status == NVME_ABORT_REQUESTED;
			refused += status != NVME_ABORT_REQUESTED && status != 0;
		}
		assert_in_range(aborted, 20, 32);
		assert_int_equal(refused, 0);
		assert_int_equal(call_status(&c.io, &other), 0);
		pst_qos_flow_stats(rig.flow, &stats);
		assert_int_equal(stats.waiting_ops, 0);
		host_close(&a);
		host_close(&b);
		host_close(&c);
		rig_free(&rig);
	}
}

/* What waits at the volume for a compound command's turn is aborted too, and what has begun is waited for. */
static void preempt_and_abort_reaches_the_gate(void **state)
{
	(void)state;
	for (unsigned shards = 1; shards <= 3; shards++) {
		struct rig rig;
		struct host a, b;
		struct call verifies[10], mine, preempt;
		uint8_t keys[16];
		struct nvme_sqe sqe = sqe_io(NVME_CMD_VERIFY, 0, 100);

		rig_new(&rig, &(struct rig_options){ .shards = shards, .volume_shard = shards - 1 });
		host_connect_as(&rig, &a, false, 0, 127, 0xa);
		host_connect_as(&rig, &b, false, 0, 127, 0xb);
		assert_int_equal(enroll(&a, 1), 0);
		assert_int_equal(enroll(&b, 2), 0);
		slow(&rig, PST_IO_READ, DELAY);
		for (unsigned i = 0; i < 10; i++)
			call_start(&b.io, &verifies[i], &sqe, PST_CONN_NO_DATA, NULL, 0);
		pst_sim_run_for(rig.sim, DELAY / 4);
		call_start(&a.io, &mine, &sqe, PST_CONN_NO_DATA, NULL, 0);
		resv_start(&a, &preempt, keys, NVME_CMD_RESV_ACQUIRE, PREEMPT_ABORT | 1 << 8, 1, 2);
		pst_sim_run_for(rig.sim, DELAY / 4);
		assert_false(preempt.done || verifies[0].done);
		for (unsigned i = 1; i < 10; i++)
			assert_true(verifies[i].done && call_status(&b.io, &verifies[i]) == NVME_ABORT_REQUESTED);
		assert_int_equal(call_status(&a.io, &preempt), 0);
		assert_int_equal(call_status(&b.io, &verifies[0]), 0);
		assert_int_equal(call_status(&a.io, &mine), 0);
		host_close(&a);
		host_close(&b);
		rig_free(&rig);
	}
}

/*
 * Writes that wait for space in a full pool end when their host is fenced, and the Preempt does not wait for the space.
 * They don't land when there is space again; a write of the host that stays allowed does.
 */
static void fenced_writes_do_not_wait_for_space(void **state)
{
	static uint8_t theirs[4096], mine[4096], back[4096], range[32];

	(void)state;
	memset(theirs, 0xbb, sizeof(theirs));
	memset(mine, 0xaa, sizeof(mine));
	pst_put_le64(range + 8, 100);
	for (unsigned shards = 1; shards <= 3; shards++) {
		struct rig rig;
		struct host a, b;
		struct call writes[8], copy, later_copy, own, preempt;
		uint8_t keys[16];
		struct nvme_sqe sqe;

		rig_new(&rig, &(struct rig_options){ .shards = shards, .volume_shard = shards - 1 });
		host_connect_as(&rig, &a, false, 0, 127, 0xa);
		host_connect_as(&rig, &b, false, 0, 127, 0xb);
		assert_int_equal(enroll(&a, 1), 0);
		assert_int_equal(enroll(&b, 2), 0);
		/* Write exclusive, registrants only: a may write, and so may b, until it is preempted. */
		assert_int_equal(acquire(&b, ACQUIRE, 3, 2, 0), 0);
		rig_full_pool(&rig);
		sqe = sqe_io(NVME_CMD_WRITE, 5, 1);
		for (unsigned i = 0; i < 8; i++)
			call_start(&b.io, &writes[i], &sqe, PST_CONN_DATA_OUT, theirs, sizeof(theirs));
		sqe = sqe_io(NVME_CMD_COPY, 6, 1);
		call_start(&b.io, &copy, &sqe, PST_CONN_DATA_OUT, range, sizeof(range));
		call_start(&b.io, &later_copy, &sqe, PST_CONN_DATA_OUT, range, sizeof(range));
		sqe = sqe_io(NVME_CMD_WRITE, 7, 1);
		call_start(&a.io, &own, &sqe, PST_CONN_DATA_OUT, mine, sizeof(mine));
		pst_sim_run_for(rig.sim, 10 * RIG_SECOND);
		assert_false(writes[0].done || copy.done || own.done);
		resv_start(&a, &preempt, keys, NVME_CMD_RESV_ACQUIRE, PREEMPT | 3 << 8, 1, 2);
		pst_sim_run_for(rig.sim, RIG_SECOND);
		assert_true(preempt.done && call_status(&a.io, &preempt) == 0);
		for (unsigned i = 0; i < 8; i++)
			assert_true(writes[i].done && call_status(&b.io, &writes[i]) == CONFLICT);
		assert_true(copy.done && call_status(&b.io, &copy) == CONFLICT);
		assert_true(later_copy.done && call_status(&b.io, &later_copy) == CONFLICT);
		assert_false(own.done);
		pst_fault_clear(rig.volume);
		assert_int_equal(call_status(&a.io, &own), 0);
		for (unsigned lba = 5; lba <= 7; lba++) {
			sqe = sqe_io(NVME_CMD_READ, lba, 1);
			assert_int_equal(command(&a.io, &sqe, PST_CONN_DATA_IN, back, sizeof(back), NULL), 0);
			assert_int_equal(back[0], lba == 7 ? 0xaa : 0);
		}
		host_close(&a);
		host_close(&b);
		rig_free(&rig);
	}
}

/* The same for Preempt and Abort, of a host that might go on writing; and for a fused pair that waits for its turn. */
static void aborted_writes_do_not_wait_for_space(void **state)
{
	static uint8_t theirs[4096], zeros[4096], back[4096];

	(void)state;
	memset(theirs, 0xbb, sizeof(theirs));
	for (unsigned shards = 1; shards <= 3; shards++) {
		struct rig rig;
		struct host a, b;
		struct call own, pair[2], preempt, write;
		uint8_t keys[16];
		struct nvme_sqe sqe = sqe_io(NVME_CMD_WRITE, 5, 1);

		rig_new(&rig, &(struct rig_options){ .shards = shards, .volume_shard = shards - 1 });
		host_connect_as(&rig, &a, false, 0, 127, 0xa);
		host_connect_as(&rig, &b, false, 0, 127, 0xb);
		assert_int_equal(enroll(&a, 1), 0);
		assert_int_equal(enroll(&b, 2), 0);
		rig_full_pool(&rig);
		call_start(&a.io, &own, &sqe, PST_CONN_DATA_OUT, zeros, sizeof(zeros));
		sqe = sqe_io(NVME_CMD_WRITE, 6, 1);
		call_start(&b.io, &write, &sqe, PST_CONN_DATA_OUT, theirs, sizeof(theirs));
		pst_sim_run_for(rig.sim, RIG_SECOND);
		caw_start(&b.io, pair, 5, zeros, theirs);
		pst_sim_run_for(rig.sim, RIG_SECOND);
		assert_false(own.done || write.done || pair[1].done);
		/* No reservation is held: preempting the key takes the registration away, and forbids nothing. */
		resv_start(&a, &preempt, keys, NVME_CMD_RESV_ACQUIRE, PREEMPT_ABORT | 1 << 8, 1, 2);
		pst_sim_run_for(rig.sim, RIG_SECOND);
		assert_true(preempt.done);
		assert_true(write.done && call_status(&b.io, &write) == NVME_ABORT_REQUESTED);
		assert_true(pair[1].done && call_status(&b.io, &pair[1]) == NVME_ABORT_REQUESTED);
		assert_false(own.done);
		pst_fault_clear(rig.volume);
		assert_int_equal(call_status(&a.io, &own), 0);
		for (unsigned lba = 5; lba <= 6; lba++) {
			sqe = sqe_io(NVME_CMD_READ, lba, 1);
			assert_int_equal(command(&a.io, &sqe, PST_CONN_DATA_IN, back, sizeof(back), NULL), 0);
			assert_int_equal(back[0], 0);
		}
		host_close(&a);
		host_close(&b);
		rig_free(&rig);
	}
}

static void restart(struct rig *rig, struct host *a, struct host *b)
{
	host_close(a);
	host_close(b);
	rig_subsystem_remove(rig, rig->subsystem);
	rig_subsystem_add(rig, RIG_NQN, &rig->subsystem);
	host_connect_as(rig, a, false, 0, 127, 0xa);
	host_connect_as(rig, b, false, 0, 127, 0xb);
}

/* With PTPL the fenced host is still fenced after a restart, and the holder need not register again; without, not. */
static void persistent_reservations_outlive_a_restart(void **state)
{
	(void)state;
	for (unsigned shards = 1; shards <= 3; shards++) {
		struct rig rig;
		struct host a, b;
		uint8_t page[512], again[512];

		rig_new(&rig, &(struct rig_options){ .shards = shards, .volume_shard = shards - 1, .keeps = true });
		host_connect_as(&rig, &a, false, 0, 127, 0xa);
		host_connect_as(&rig, &b, false, 0, 127, 0xb);
		assert_int_equal(enroll(&a, 1), 0);
		assert_int_equal(acquire(&a, ACQUIRE, 2, 1, 0), 0);
		all_refused(&b, true);
		assert_int_equal(rig.save_count, 0);
		restart(&rig, &a, &b);
		assert_int_equal(do_write(&b), 0);
		assert_int_equal(resv(&a, NVME_CMD_RESV_REGISTER, REGISTER | 3u << 30, 0, 1), 0);
		assert_int_equal(acquire(&a, ACQUIRE, 2, 1, 0), 0);
		assert_int_equal(rig.save_count, 2);
		report(&a, page);
		assert_int_equal(page[9], 1);
		restart(&rig, &a, &b);
		report(&a, again);
		assert_memory_equal(page, again, sizeof(page));
		all_refused(&b, true);
		assert_int_equal(do_write(&a), 0);
		assert_int_equal(do_read(&a), 0);
		/* Saving fails: so does the command, and what was in force stays in force. */
		rig.save_err = PST_E_IO;
		assert_int_equal(resv(&a, NVME_CMD_RESV_RELEASE, RELEASE | 2 << 8, 1, 0), NVME_INTERNAL_ERROR);
		assert_int_equal(enroll(&b, 2), NVME_INTERNAL_ERROR);
		report(&a, again);
		assert_memory_equal(page, again, sizeof(page));
		all_refused(&b, true);
		rig.save_err = PST_OK;
		/* Persistence off: kept no longer, though still in force. */
		assert_int_equal(resv(&a, NVME_CMD_RESV_REGISTER, REPLACE | 2u << 30, 1, 9), 0);
		assert_int_equal(rig.kept_bytes, 0);
		all_refused(&b, true);
		restart(&rig, &a, &b);
		assert_int_equal(do_write(&b), 0);
		host_close(&a);
		host_close(&b);
		rig_free(&rig);
	}
}

/* The feature of the namespace and the mask of the controller, with their namespace ids. */
static void features_are_of_the_namespace(void **state)
{
	struct rig rig;
	struct host h;
	struct nvme_sqe sqe;
	uint32_t dw0 = 7;

	(void)state;
	rig_new(&rig, &(struct rig_options){ .shards = 2, .volume_shard = 1, .keeps = true });
	host_connect(&rig, &h, false, 0);
	sqe = sqe_resv(NVME_ADMIN_SET_FEATURES, NVME_FEAT_RESV_PERSIST, 1);
	sqe.nsid = nvme_le32_of(2);
	assert_int_equal(command(&h.admin, &sqe, PST_CONN_NO_DATA, NULL, 0, NULL), BAD);
	sqe.nsid = nvme_le32_of(0xffffffff);
	assert_int_equal(command(&h.admin, &sqe, PST_CONN_NO_DATA, NULL, 0, NULL), 0);
	assert_int_equal(rig.save_count, 1);
	sqe = sqe_resv(NVME_ADMIN_GET_FEATURES, NVME_FEAT_RESV_PERSIST, 0);
	assert_int_equal(command(&h.admin, &sqe, PST_CONN_NO_DATA, NULL, 0, &dw0), 0);
	assert_int_equal(dw0, 1);
	sqe = sqe_resv(NVME_ADMIN_GET_FEATURES, NVME_FEAT_RESV_PERSIST | 3 << 8, 0);
	assert_int_equal(command(&h.admin, &sqe, PST_CONN_NO_DATA, NULL, 0, &dw0), 0);
	assert_int_equal(dw0, 6);
	sqe = sqe_resv(NVME_ADMIN_GET_FEATURES, NVME_FEAT_RESV_MASK, 0);
	sqe.nsid = nvme_le32_of(0xffffffff);
	assert_int_equal(command(&h.admin, &sqe, PST_CONN_NO_DATA, NULL, 0, NULL), BAD);
	sqe = sqe_resv(NVME_ADMIN_SET_FEATURES, NVME_FEAT_RESV_MASK, 0xff);
	assert_int_equal(command(&h.admin, &sqe, PST_CONN_NO_DATA, NULL, 0, NULL), 0);
	sqe = sqe_resv(NVME_ADMIN_GET_FEATURES, NVME_FEAT_RESV_MASK, 0);
	assert_int_equal(command(&h.admin, &sqe, PST_CONN_NO_DATA, NULL, 0, &dw0), 0);
	assert_int_equal(dw0, 0xe);
	host_close(&h);
	rig_free(&rig);
	/* Where nothing can be kept, hosts may not ask for it. */
	rig_new(&rig, &(struct rig_options){ .shards = 1 });
	host_connect(&rig, &h, false, 0);
	sqe = sqe_resv(NVME_ADMIN_SET_FEATURES, NVME_FEAT_RESV_PERSIST, 1);
	assert_int_equal(command(&h.admin, &sqe, PST_CONN_NO_DATA, NULL, 0, NULL), BAD);
	assert_int_equal(resv(&h, NVME_CMD_RESV_REGISTER, REGISTER | 3u << 30, 0, 1), BAD);
	assert_int_equal(resv(&h, NVME_CMD_RESV_REGISTER, REGISTER | 2u << 30, 0, 1), 0);
	host_close(&h);
	rig_free(&rig);
}

static void log_page(struct host *h, uint8_t page[64])
{
	struct nvme_sqe sqe = sqe_admin(NVME_ADMIN_GET_LOG_PAGE, 15u << 16 | NVME_LOG_RESERVATION, 0);

	assert_int_equal(command(&h->admin, &sqe, PST_CONN_DATA_IN, page, 64, NULL), 0);
}

/* Those who lose something are told: an event, and a page for each thing, until all are read; masked ones are not. */
static void hosts_are_notified(void **state)
{
	struct rig rig;
	struct host a, b;
	struct call aer;
	struct nvme_sqe request = sqe_admin(NVME_ADMIN_ASYNC_EVENT, 0, 0), sqe;
	uint8_t page[64];

	(void)state;
	rig_new(&rig, &(struct rig_options){ .shards = 3, .volume_shard = 1 });
	host_connect_as(&rig, &a, false, 0, 127, 0xa);
	host_connect_as(&rig, &b, false, 0, 127, 0xb);
	assert_int_equal(enroll(&a, 1), 0);
	assert_int_equal(enroll(&b, 2), 0);
	call_start(&b.admin, &aer, &request, PST_CONN_NO_DATA, NULL, 0);
	assert_int_equal(acquire(&a, ACQUIRE, 3, 1, 0), 0);
	assert_int_equal(resv(&a, NVME_CMD_RESV_RELEASE, RELEASE | 3 << 8, 1, 0), 0);
	assert_int_equal(call_status(&b.admin, &aer), 0);
	assert_int_equal(nvme_get32(aer.cqe.dw0), NVME_LOG_RESERVATION << 16 | NVME_AER_TYPE_COMMAND_SET);
	assert_int_equal(acquire(&a, PREEMPT, 3, 1, 2), 0);
	log_page(&b, page);
	assert_int_equal(pst_get_le64(page), 1);
	assert_int_equal(page[8], 2); /* reservation released */
	assert_int_equal(page[9], 1);
	assert_int_equal(pst_get_le32(page + 12), 1);
	call_start(&b.admin, &aer, &request, PST_CONN_NO_DATA, NULL, 0); /* there is more: told again */
	assert_int_equal(call_status(&b.admin, &aer), 0);
	log_page(&b, page);
	assert_int_equal(page[8], 1); /* registration preempted */
	log_page(&b, page);
	assert_int_equal(page[8], 0);
	log_page(&a, page); /* who did it is not told */
	assert_int_equal(page[8], 0);
	sqe = sqe_resv(NVME_ADMIN_SET_FEATURES, NVME_FEAT_RESV_MASK, 8);
	assert_int_equal(command(&b.admin, &sqe, PST_CONN_NO_DATA, NULL, 0, NULL), 0);
	assert_int_equal(enroll(&b, 2), 0);
	assert_int_equal(resv(&a, NVME_CMD_RESV_RELEASE, CLEAR, 1, 0), 0);
	log_page(&b, page);
	assert_int_equal(page[8], 0);
	host_close(&a);
	host_close(&b);
	rig_free(&rig);
}

/* A malformed command is answered, and has changed nothing; further hosts than configured are refused. */
static void malformed_commands_change_nothing(void **state)
{
	static const struct {
		uint8_t opcode;
		uint32_t cdw10, cdw11, bytes;
		uint16_t status;
	} bad[] = {
		{ NVME_CMD_RESV_REGISTER, 3, 0, 16, BAD },
		{ NVME_CMD_RESV_REGISTER, 1u << 30, 0, 16, BAD },
		{ NVME_CMD_RESV_REGISTER, REGISTER, 0, 16, BAD }, /* key 0 */
		{ NVME_CMD_RESV_REGISTER, REPLACE | 8, 0, 16, BAD },
		{ NVME_CMD_RESV_REGISTER, UNREGISTER | 8, 0, 12, NVME_SGL_LENGTH_INVALID | NVME_STATUS_DNR },
		{ NVME_CMD_RESV_ACQUIRE, 3 | 1 << 8, 0, 16, BAD },
		{ NVME_CMD_RESV_ACQUIRE, 0, 0, 16, BAD },
		{ NVME_CMD_RESV_ACQUIRE, 7 << 8, 0, 16, BAD },
		{ NVME_CMD_RESV_ACQUIRE, 8 | 1 << 8, 0, 16, BAD },
		{ NVME_CMD_RESV_ACQUIRE, 1 << 8, 0, 8, NVME_SGL_LENGTH_INVALID | NVME_STATUS_DNR },
		{ NVME_CMD_RESV_RELEASE, 2, 0, 8, BAD },
		{ NVME_CMD_RESV_RELEASE, 1, 0, 4, NVME_SGL_LENGTH_INVALID | NVME_STATUS_DNR },
	};
	struct rig rig;
	struct host a, b, c;
	uint8_t page[512], again[512], zeros[16] = { 0 };
	struct nvme_sqe sqe;

	(void)state;
	rig_new(&rig, &(struct rig_options){ .shards = 2, .volume_shard = 1, .target.registrants_max = 2 });
	host_connect_as(&rig, &a, false, 0, 127, 0xa);
	host_connect_as(&rig, &b, false, 0, 127, 0xb);
	host_connect_as(&rig, &c, false, 0, 127, 0xc);
	assert_int_equal(enroll(&a, 1), 0);
	assert_int_equal(enroll(&b, 2), 0);
	assert_int_equal(enroll(&c, 3), NVME_INTERNAL_ERROR | NVME_STATUS_DNR);
	assert_int_equal(acquire(&a, ACQUIRE, 1, 1, 0), 0);
	report(&a, page);
	for (size_t i = 0; i < PST_ARRAY_COUNT(bad); i++) {
		sqe = sqe_resv(bad[i].opcode, bad[i].cdw10, bad[i].cdw11);
		assert_int_equal(command(&a.io, &sqe, PST_CONN_DATA_OUT, zeros, bad[i].bytes, NULL), bad[i].status);
		report(&a, again);
		assert_memory_equal(page, again, sizeof(page));
	}
	sqe = sqe_resv(NVME_CMD_RESV_REPORT, 127, 0);
	assert_int_equal(command(&a.io, &sqe, PST_CONN_DATA_IN, again, 512, NULL),
			 NVME_HOST_ID_INCONSISTENT | NVME_STATUS_DNR);
	sqe = sqe_resv(NVME_CMD_RESV_REPORT, 1, 1); /* only the beginning is asked for */
	assert_int_equal(command(&a.io, &sqe, PST_CONN_DATA_IN, again, 8, NULL), 0);
	assert_memory_equal(page, again, 8);
	sqe.nsid = nvme_le32_of(0xffffffff);
	assert_int_equal(command(&a.io, &sqe, PST_CONN_DATA_IN, again, 8, NULL),
			 NVME_INVALID_NAMESPACE | NVME_STATUS_DNR);
	host_close(&a);
	host_close(&b);
	host_close(&c);
	rig_free(&rig);
}

/* Many changes at once, from connections on all shards, one of which goes away in the middle: each is answered. */
static void changes_take_turns(void **state)
{
	(void)state;
	for (unsigned shards = 1; shards <= 3; shards++) {
		struct rig rig;
		struct host a, b;
		struct call calls[2][16];
		uint8_t keys[2][16][16], page[512];

		rig_new(&rig, &(struct rig_options){ .shards = shards, .volume_shard = shards - 1, .keeps = true });
		host_connect_as(&rig, &a, false, 0, 127, 0xa);
		host_connect_as(&rig, &b, false, 0, 127, 0xb);
		assert_int_equal(resv(&a, NVME_CMD_RESV_REGISTER, REGISTER | 3u << 30, 0, 1), 0);
		for (unsigned i = 0; i < 16; i++) {
			resv_start(&a, &calls[0][i], keys[0][i], NVME_CMD_RESV_REGISTER, REPLACE | 8, 0, i + 2);
			resv_start(&b, &calls[1][i], keys[1][i], NVME_CMD_RESV_REGISTER, REGISTER, 0, i + 2);
		}
		pst_sim_run_for(rig.sim, RIG_SECOND / 250);
		host_close(&b);
		for (unsigned i = 0; i < 16; i++)
			assert_int_equal(call_status(&a.io, &calls[0][i]), 0);
		report(&a, page);
		assert_int_equal(pst_get_le64(page + 64 + 8), 17);
		assert_in_range(pst_get_le16(page + 5), 1, 2);
		host_close(&a);
		rig_free(&rig);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_fenced_host_can_not_write),
		cmocka_unit_test(preempt_waits_for_what_is_under_way),
		cmocka_unit_test(preempt_and_abort_aborts_what_waits),
		cmocka_unit_test(preempt_and_abort_reaches_the_gate),
		cmocka_unit_test(fenced_writes_do_not_wait_for_space),
		cmocka_unit_test(aborted_writes_do_not_wait_for_space),
		cmocka_unit_test(persistent_reservations_outlive_a_restart),
		cmocka_unit_test(features_are_of_the_namespace),
		cmocka_unit_test(hosts_are_notified),
		cmocka_unit_test(malformed_commands_change_nothing),
		cmocka_unit_test(changes_take_turns),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

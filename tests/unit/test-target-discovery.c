/* SPDX-License-Identifier: Apache-2.0 */
/* The discovery service as a black box: what is listed, for whom, when it counts as changed, and who hears of it. */
#include "target-rig.h"

#define OWN_NQN "nqn.2014-08.org.nvmexpress:uuid:00000000-0000-4000-8000-0000000000dd"
#define OTHER_HOST "nqn.2026-01.example:other"
#define DISCOVERY_EVENT (NVME_AER_TYPE_NOTICE | NVME_AER_DISCOVERY_CHANGED << 8 | NVME_LOG_DISCOVERY << 16)

static void connect_as(struct rig *rig, struct link *l, const char *nqn, const char *hostnqn, uint32_t kato_ms)
{
	struct nvmf_connect_cmd cmd;
	struct nvmf_connect_data data;

	link_open(rig, l, false);
	connect_fill(&cmd, &data, nqn, 0, 0xffff, kato_ms);
	memset(data.hostnqn, 0, sizeof(data.hostnqn));
	memcpy(data.hostnqn, hostnqn, strlen(hostnqn));
	assert_int_equal(command(l, (void *)&cmd, PST_CONN_DATA_OUT, &data, sizeof(data), NULL), 0);
	assert_int_equal(property_set_cc(l, 0x00460001), 0);
}

static void read_log(struct link *l, uint64_t offset, void *data, uint32_t bytes)
{
	struct nvme_sqe sqe =
	    sqe_admin(NVME_ADMIN_GET_LOG_PAGE, NVME_LOG_DISCOVERY | (uint32_t)(bytes / 4 - 1) << 16, 0);

	sqe.cdw12 = nvme_le32_of((uint32_t)offset);
	assert_int_equal(command(l, &sqe, PST_CONN_DATA_IN, data, bytes, NULL), 0);
}

static uint64_t generation(struct link *l)
{
	static struct nvmf_discovery_log log;

	read_log(l, 0, &log, sizeof(log));
	return nvme_get64(log.genctr);
}

static uint64_t count(struct link *l)
{
	static struct nvmf_discovery_log log;

	read_log(l, 0, &log, sizeof(log));
	return nvme_get64(log.numrec);
}

static void listen_for_events(struct link *l, struct call *event)
{
	struct nvme_sqe config = sqe_admin(NVME_ADMIN_SET_FEATURES, NVME_FEAT_ASYNC_EVENT, NVME_AEC_DISCOVERY_CHANGED),
			request = sqe_admin(NVME_ADMIN_ASYNC_EVENT, 0, 0);

	assert_int_equal(command(l, &config, PST_CONN_NO_DATA, NULL, 0, NULL), 0);
	call_start(l, event, &request, PST_CONN_NO_DATA, NULL, 0);
}

static void allow(struct rig *rig, bool restricted, const char *a, const char *b)
{
	const char *nqns[] = { a, b };
	struct pst_allow_list list = { .restricted = restricted,
				       .nqns = nqns,
				       .count = restricted ? (a != NULL) + (b != NULL) : 0 };

	assert_int_equal(pst_subsystem_allow(rig->subsystem, &list), PST_OK);
	pst_sim_run_for(rig->sim, RIG_SECOND / 10);
}

/* The service itself and each subsystem stand there once for each port, then referrals; in pieces as in one. */
static void every_port_is_listed(void **state)
{
	static uint8_t whole[8 * 1024], pieces[8 * 1024];
	const struct nvmf_discovery_log *log = (const void *)whole;
	struct pst_target_port port = { .id = 9 };
	const struct pst_addr elsewhere = { .host = "192.0.2.7", .port = 8009 };
	struct pst_addr bound;
	struct rig rig;
	struct link l;

	(void)state;
	rig_new(&rig, &(struct rig_options){ .shards = 2, .discovery_nqn = OWN_NQN });
	port.addr = rig.addr;
	port.addr.port = 4421;
	assert_int_equal(pst_target_listen(rig.target, &port, &bound), PST_OK);
	assert_int_equal(pst_target_refer(rig.target, &elsewhere), PST_OK);
	connect_as(&rig, &l, NVMF_DISCOVERY_NQN, RIG_HOSTNQN, 0);
	read_log(&l, 0, whole, 6 * 1024);
	assert_int_equal(nvme_get64(log->numrec), 5);
	for (unsigned i = 0; i < 5; i++) {
		const struct nvmf_discovery_entry *e = &log->entries[i];

		assert_int_equal(e->subtype, i < 2 ? 3 : i < 4 ? 2 : 1);
		assert_int_equal(nvme_get16(e->portid), i == 4 ? 0 : i % 2 == 0 ? 1 : 9);
		assert_memory_equal(e->trsvcid, i == 4 ? "8009 " : i % 2 == 0 ? "4420 " : "4421 ", 5);
		assert_string_equal(e->subnqn, i < 2 ? OWN_NQN : i < 4 ? RIG_NQN : NVMF_DISCOVERY_NQN);
		assert_int_equal(nvme_get16(e->eflags), i < 2 ? 2 : 0);
		assert_int_equal(e->treq, 4); /* "not required" makes hosts come with TLS (libnvme 1.3) */
	}
	for (uint32_t at = 0; at < 6 * 1024; at += 364)
		read_log(&l, at, pieces + at, PST_MIN(364u, 6 * 1024 - at));
	assert_memory_equal(whole, pieces, 6 * 1024);
	link_close(&l);
	rig_free(&rig);
}

/* By its own name it is the same service, and says so in Identify. */
static void it_has_a_name_of_its_own(void **state)
{
	static uint8_t page[4096];
	const struct nvme_id_ctrl *id = (const void *)page;
	struct nvme_sqe sqe = sqe_admin(NVME_ADMIN_IDENTIFY, NVME_CNS_CONTROLLER, 0);
	struct rig rig;
	struct link l;

	(void)state;
	rig_new(&rig, &(struct rig_options){ .discovery_nqn = OWN_NQN });
	connect_as(&rig, &l, OWN_NQN, RIG_HOSTNQN, 60000);
	assert_int_equal(count(&l), 2);
	assert_int_equal(command(&l, &sqe, PST_CONN_DATA_IN, page, sizeof(page), NULL), 0);
	assert_string_equal(id->subnqn, OWN_NQN);
	assert_int_equal(id->cntrltype, 2);
	link_close(&l);
	rig_free(&rig);
}

/* With a keep alive timer a host hears of changes without having set a feature; without one it must ask. */
static void who_stays_is_told(void **state)
{
	struct nvme_sqe request = sqe_admin(NVME_ADMIN_ASYNC_EVENT, 0, 0);
	struct rig rig;
	struct link stays, passes;
	struct call event, none;

	(void)state;
	rig_new(&rig, &(struct rig_options){ .shards = 1 });
	connect_as(&rig, &stays, NVMF_DISCOVERY_NQN, RIG_HOSTNQN, 60000);
	connect_as(&rig, &passes, NVMF_DISCOVERY_NQN, RIG_HOSTNQN, 0);
	call_start(&stays, &event, &request, PST_CONN_NO_DATA, NULL, 0);
	call_start(&passes, &none, &request, PST_CONN_NO_DATA, NULL, 0);
	allow(&rig, true, RIG_HOSTNQN, NULL);
	rig_wait(&rig, &event.done);
	assert_int_equal(nvme_get32(event.cqe.dw0), DISCOVERY_EVENT);
	pst_sim_run_for(rig.sim, RIG_SECOND);
	assert_false(none.done);
	link_close(&stays);
	link_close(&passes);
	rig_free(&rig);
}

/* The generation moves, and the event comes, when this host's view changes, and not when only another's does. */
static void changes_are_told_to_whom_they_concern(void **state)
{
	struct rig rig;
	struct link mine, other;
	struct call my_event, other_event;
	uint64_t before, other_before;

	(void)state;
	rig_new(&rig, &(struct rig_options){ .shards = 1 });
	connect_as(&rig, &mine, NVMF_DISCOVERY_NQN, RIG_HOSTNQN, 60000);
	connect_as(&rig, &other, NVMF_DISCOVERY_NQN, OTHER_HOST, 60000);
	before = generation(&mine);
	assert_int_equal(generation(&other), before);
	listen_for_events(&mine, &my_event);
	listen_for_events(&other, &other_event);

	allow(&rig, true, RIG_HOSTNQN, NULL); /* from "any host": everybody's */
	rig_wait(&rig, &my_event.done);
	rig_wait(&rig, &other_event.done);
	assert_int_equal(nvme_get32(other_event.cqe.dw0), DISCOVERY_EVENT);
	assert_int_equal(count(&other), 1);
	assert_int_equal(count(&mine), 2);
	before = generation(&mine);
	other_before = generation(&other);

	listen_for_events(&mine, &my_event);
	listen_for_events(&other, &other_event);
	allow(&rig, true, RIG_HOSTNQN, OTHER_HOST);
	rig_wait(&rig, &other_event.done);
	assert_false(my_event.done);
	assert_int_equal(generation(&mine), before);
	assert_true(generation(&other) > other_before);
	assert_int_equal(count(&other), 2);

	rig_subsystem_remove(&rig, rig.subsystem);
	rig.subsystem = NULL;
	rig_wait(&rig, &my_event.done);
	assert_true(generation(&mine) > before);
	assert_int_equal(count(&mine), 1);
	link_close(&mine);
	link_close(&other);
	rig_free(&rig);
}

/* Names beyond what is kept make it a change for everybody: too much is told, and never too little. */
static void many_names_are_everybody(void **state)
{
	static char nqns[1100][64];
	static const char *names[1100];
	struct pst_allow_list list = { .restricted = true, .nqns = names, .count = 1100 };
	struct rig rig;
	struct link l;
	uint64_t before;

	(void)state;
	for (unsigned i = 0; i < 1100; i++) {
		snprintf(nqns[i], sizeof(nqns[i]), "nqn.2026-01.example:%u", i);
		names[i] = nqns[i];
	}
	rig_new(&rig, &(struct rig_options){ .shards = 1 });
	allow(&rig, true, OTHER_HOST, NULL);
	connect_as(&rig, &l, NVMF_DISCOVERY_NQN, RIG_HOSTNQN, 0);
	before = generation(&l);
	assert_int_equal(pst_subsystem_allow(rig.subsystem, &list), PST_OK);
	assert_true(generation(&l) > before);
	link_close(&l);
	rig_free(&rig);
}

/* With a keep alive timer it stays as long as the host is heard of, without one it goes after two idle minutes. */
static void it_stays_with_a_keep_alive(void **state)
{
	struct nvme_sqe alive = sqe_admin(NVME_ADMIN_KEEP_ALIVE, 0, 0);
	struct rig rig;
	struct link stays, goes;

	(void)state;
	rig_new(&rig, &(struct rig_options){ .shards = 1 });
	connect_as(&rig, &stays, NVMF_DISCOVERY_NQN, RIG_HOSTNQN, 60000);
	connect_as(&rig, &goes, NVMF_DISCOVERY_NQN, RIG_HOSTNQN, 0);
	for (unsigned i = 0; i < 10; i++) {
		pst_sim_run_for(rig.sim, 30 * RIG_SECOND);
		assert_int_equal(command(&stays, &alive, PST_CONN_NO_DATA, NULL, 0, NULL), 0);
	}
	assert_false(stays.closed);
	assert_true(goes.closed);
	pst_sim_run_for(rig.sim, 90 * RIG_SECOND);
	assert_true(stays.closed);
	link_close(&stays);
	link_close(&goes);
	rig_free(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_port_is_listed),     cmocka_unit_test(it_has_a_name_of_its_own),
		cmocka_unit_test(who_stays_is_told),        cmocka_unit_test(changes_are_told_to_whom_they_concern),
		cmocka_unit_test(many_names_are_everybody), cmocka_unit_test(it_stays_with_a_keep_alive),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Who may connect: authentication and allow lists of the target as a black box, over the simulated network. */
#include "base/le.h"
#include "proto/auth.h"
#include "target-rig.h"

#include <stdio.h>

#define REFUSED (NVMF_INVALID_HOST | NVME_STATUS_DNR)
#define PROOF_WANTED (NVMF_AUTH_REQUIRED | NVME_STATUS_DNR)
#define BAD_SEQUENCE (NVME_COMMAND_SEQUENCE_ERROR | NVME_STATUS_DNR)
#define BAD_FIELD (NVME_INVALID_FIELD | NVME_STATUS_DNR)

static const struct pst_auth_key host_key = { .hash = 1, .len_bytes = 32, .bytes = "the host's" };
static const struct pst_auth_key ctrl_key = { .hash = 3, .len_bytes = 64, .bytes = "the controller's" };
static const struct pst_auth_key wrong_key = { .hash = 1, .len_bytes = 32, .bytes = "nobody's" };

static void host_set(struct rig *rig, const struct pst_auth_key *key, const struct pst_auth_key *ctrl, uint32_t groups)
{
	struct pst_target_host host = { .nqn = RIG_HOSTNQN, .host_key = key, .ctrl_key = ctrl, .groups = groups };

	assert_int_equal(pst_target_host_set(rig->target, &host), PST_OK);
}

/* ---- A host that authenticates ---- */

static struct nvmf_auth_cmd auth_cmd(uint8_t fctype, uint32_t length)
{
	return (struct nvmf_auth_cmd){ .opcode = NVME_FABRICS,
				       .fctype = fctype,
				       .spsp0 = NVMF_AUTH_SPSP,
				       .spsp1 = NVMF_AUTH_SPSP,
				       .secp = NVMF_AUTH_SECP,
				       .length = nvme_le32_of(length) };
}

static uint16_t auth_send(struct link *l, void *message, uint32_t bytes)
{
	struct nvmf_auth_cmd cmd = auth_cmd(NVMF_AUTH_SEND, bytes);

	return command(l, (void *)&cmd, PST_CONN_DATA_OUT, message, bytes, NULL);
}

static uint16_t auth_receive(struct link *l, void *message, uint32_t bytes)
{
	struct nvmf_auth_cmd cmd = auth_cmd(NVMF_AUTH_RECEIVE, bytes);

	return command(l, (void *)&cmd, PST_CONN_DATA_IN, message, bytes, NULL);
}

static void engine_start(struct pst_auth *auth, const char *subnqn, const struct pst_auth_key *key,
			 const struct pst_auth_key *ctrl)
{
	struct pst_auth_random random = { .challenge = { 3 }, .exponent = { 4 }, .seqnum = 5, .t_id = 6 };
	struct pst_auth_config config = { .hostnqn = RIG_HOSTNQN, .subnqn = subnqn, .host_key = key, .ctrl_key = ctrl };

	assert_int_equal(pst_auth_init(auth, &config, &random), PST_OK);
}

/* The whole transaction; the failure, or 0. */
static uint8_t authenticate(struct link *l, const char *subnqn, const struct pst_auth_key *key,
			    const struct pst_auth_key *ctrl)
{
	uint8_t message[4096], failure;
	struct pst_auth auth;
	bool by_peer;

	engine_start(&auth, subnqn, key, ctrl);
	while (pst_auth_step(&auth) < PST_AUTH_DONE) {
		if (pst_auth_step(&auth) == PST_AUTH_SEND) {
			uint32_t bytes = pst_auth_send_bytes(&auth);

			pst_auth_send(&auth, message);
			assert_int_equal(auth_send(l, message, bytes), 0);
		} else {
			assert_int_equal(auth_receive(l, message, sizeof(message)), 0);
			pst_auth_receive(&auth, message, sizeof(message));
		}
	}
	failure = pst_auth_failure(&auth, &by_peer);
	assert_int_equal(failure == 0, pst_auth_step(&auth) == PST_AUTH_DONE);
	pst_auth_done(&auth);
	return failure;
}

/* Status of Connect; *ret_dw0 as it came. */
static uint16_t connect_raw(struct link *l, const char *nqn, uint16_t qid, uint16_t cntlid, uint32_t *ret_dw0)
{
	struct nvmf_connect_cmd cmd;
	struct nvmf_connect_data data;

	connect_fill(&cmd, &data, nqn, qid, cntlid, 0);
	return command(l, (void *)&cmd, PST_CONN_DATA_OUT, &data, sizeof(data), ret_dw0);
}

static uint16_t connect_admin(struct rig *rig, struct link *l, const char *nqn, uint32_t *ret_dw0)
{
	link_open(rig, l, false);
	return connect_raw(l, nqn, 0, 0xffff, ret_dw0);
}

static void refused(struct rig *rig, const char *nqn)
{
	struct link l;
	uint32_t dw0;

	assert_int_equal(connect_admin(rig, &l, nqn, &dw0), REFUSED);
	assert_int_equal(dw0, 0);
	link_close(&l);
}

static uint16_t keep_alive(struct link *l)
{
	struct nvme_sqe sqe = { .opcode = NVME_ADMIN_KEEP_ALIVE };

	return command(l, &sqe, PST_CONN_NO_DATA, NULL, 0, NULL);
}

/* Both queues, with proof. */
static void host_connect_proving(struct rig *rig, struct host *h, const struct pst_auth_key *ctrl)
{
	uint32_t dw0;

	assert_int_equal(connect_admin(rig, &h->admin, RIG_NQN, &dw0), 0);
	assert_int_equal(dw0 >> 16, 2); /* ATR, and no ASCR */
	h->cntlid = (uint16_t)dw0;
	assert_int_equal(authenticate(&h->admin, RIG_NQN, &host_key, ctrl), 0);
	assert_int_equal(property_set_cc(&h->admin, 0x00460001), 0);
	link_open(rig, &h->io, false);
	assert_int_equal(connect_raw(&h->io, RIG_NQN, 1, h->cntlid, &dw0), 0);
	assert_int_equal(dw0 >> 16, 2);
	assert_int_equal(authenticate(&h->io, RIG_NQN, &host_key, ctrl), 0);
}

static void write_and_read(struct host *h)
{
	uint8_t data[4096], back[4096] = { 0 };
	struct nvme_sqe sqe = sqe_io(NVME_CMD_WRITE, 7, 1);

	memset(data, 0x5c, sizeof(data));
	assert_int_equal(command(&h->io, &sqe, PST_CONN_DATA_OUT, data, sizeof(data), NULL), 0);
	sqe = sqe_io(NVME_CMD_READ, 7, 1);
	assert_int_equal(command(&h->io, &sqe, PST_CONN_DATA_IN, back, sizeof(back), NULL), 0);
	assert_memory_equal(back, data, sizeof(data));
}

/* With the right keys every queue authenticates, in one way and both, on one shard and between shards; then data flows.
 */
static void right_keys_are_let_in(void **state)
{
	static const uint32_t groups[] = { 1u << PST_AUTH_NULL_GROUP, 1u << PST_AUTH_FFDHE2048, 0 };

	(void)state;
	for (unsigned i = 0; i < 6; i++) {
		struct rig rig;
		struct host h;

		rig_new(&rig, &(struct rig_options){ .shards = i % 2 == 0 ? 1 : 3 });
		host_set(&rig, &host_key, &ctrl_key, groups[i / 2]);
		host_connect_proving(&rig, &h, i % 2 == 0 ? NULL : &ctrl_key);
		write_and_read(&h);
		assert_int_equal(pst_subsystem_host_count(rig.subsystem), 1);
		host_close(&h);
		rig_free(&rig);
	}
}

/* Wrong keys, either side's, get the failure "authentication failed", no command, and the end of the connection. */
static void wrong_keys_are_kept_out(void **state)
{
	static const struct {
		const struct pst_auth_key *host, *ctrl;
	} cases[] = { { &wrong_key, NULL }, { &wrong_key, &ctrl_key }, { &host_key, &wrong_key } };

	(void)state;
	for (unsigned i = 0; i < PST_ARRAY_COUNT(cases); i++) {
		struct rig rig;
		struct link l;

		rig_new(&rig, &(struct rig_options){ .shards = i + 1 });
		host_set(&rig, &host_key, &ctrl_key, 0);
		assert_int_equal(connect_admin(&rig, &l, RIG_NQN, NULL), 0);
		assert_int_equal(authenticate(&l, RIG_NQN, cases[i].host, cases[i].ctrl), NVMF_AUTH_FAILED);
		assert_int_equal(keep_alive(&l), PROOF_WANTED);
		assert_int_equal(pst_subsystem_host_count(rig.subsystem), 0);
		rig_wait(&rig, &l.closed);
		link_close(&l);
		rig_free(&rig);
	}
}

/* A controller that is to prove itself and has no key for that fails the transaction: the host does not go on. */
static void a_proof_that_can_not_be_given_is_a_failure(void **state)
{
	struct rig rig;
	struct link l;

	(void)state;
	rig_new(&rig, &(struct rig_options){ 0 });
	host_set(&rig, &host_key, NULL, 0);
	assert_int_equal(connect_admin(&rig, &l, RIG_NQN, NULL), 0);
	assert_int_equal(authenticate(&l, RIG_NQN, &host_key, &ctrl_key), NVMF_AUTH_FAILED);
	rig_wait(&rig, &l.closed);
	link_close(&l);
	rig_free(&rig);
}

/* Before a queue has authenticated it takes no other command: admin queue and I/O queue. */
static void nothing_else_is_taken_before(void **state)
{
	struct nvmf_property_cmd get = { .opcode = NVME_FABRICS, .fctype = NVMF_PROPERTY_GET };
	struct nvme_sqe identify = sqe_admin(NVME_ADMIN_IDENTIFY, NVME_CNS_CONTROLLER, 0), sqe;
	uint8_t page[4096];
	struct rig rig;
	struct host h;
	uint32_t dw0;

	(void)state;
	rig_new(&rig, &(struct rig_options){ 0 });
	host_set(&rig, &host_key, NULL, 0);
	assert_int_equal(connect_admin(&rig, &h.admin, RIG_NQN, &dw0), 0);
	assert_int_equal(property_set_cc(&h.admin, 0x00460001), PROOF_WANTED);
	assert_int_equal(command(&h.admin, (void *)&get, PST_CONN_NO_DATA, NULL, 0, NULL), PROOF_WANTED);
	assert_int_equal(command(&h.admin, &identify, PST_CONN_DATA_IN, page, sizeof(page), NULL), PROOF_WANTED);
	assert_int_equal(keep_alive(&h.admin), PROOF_WANTED);
	link_open(&rig, &h.io, false);
	assert_int_equal(connect_raw(&h.io, RIG_NQN, 1, (uint16_t)dw0, NULL),
			 NVMF_INVALID_PARAM | NVME_STATUS_DNR); /* not enabled yet */
	assert_int_equal(authenticate(&h.admin, RIG_NQN, &host_key, NULL), 0);
	assert_int_equal(property_set_cc(&h.admin, 0x00460001), 0);
	assert_int_equal(connect_raw(&h.io, RIG_NQN, 1, (uint16_t)dw0, NULL), 0);
	sqe = sqe_io(NVME_CMD_READ, 0, 1);
	assert_int_equal(command(&h.io, &sqe, PST_CONN_DATA_IN, page, sizeof(page), NULL), PROOF_WANTED);
	sqe = sqe_io(NVME_CMD_WRITE, 0, 1);
	assert_int_equal(command(&h.io, &sqe, PST_CONN_DATA_OUT, page, sizeof(page), NULL), PROOF_WANTED);
	assert_int_equal(authenticate(&h.io, RIG_NQN, &host_key, NULL), 0);
	write_and_read(&h);
	host_close(&h);
	rig_free(&rig);
}

/* Each wrong field of the two commands has its status, and none of them harms the transaction. */
static void malformed_commands_are_refused(void **state)
{
	uint8_t message[4096], reply[4096];
	struct nvmf_auth_cmd cmd;
	struct pst_auth auth;
	struct rig rig;
	struct link l;
	uint32_t bytes;

	(void)state;
	rig_new(&rig, &(struct rig_options){ 0 });
	link_open(&rig, &l, false);
	assert_int_equal(auth_send(&l, message, 72), BAD_SEQUENCE); /* before Connect */
	host_set(&rig, &host_key, NULL, 0);
	assert_int_equal(connect_raw(&l, RIG_NQN, 0, 0xffff, NULL), 0);
	engine_start(&auth, RIG_NQN, &host_key, NULL);
	bytes = pst_auth_send_bytes(&auth);
	pst_auth_send(&auth, message);
	assert_int_equal(auth_receive(&l, reply, sizeof(reply)), BAD_SEQUENCE); /* nothing to be fetched */
	for (unsigned field = 0; field < 4; field++) {
		cmd = auth_cmd(NVMF_AUTH_SEND, bytes);
		cmd.secp -= field == 0;
		cmd.spsp0 += field == 1;
		cmd.spsp1 += field == 2;
		if (field == 3)
			cmd.length = nvme_le32_of(0);
		assert_int_equal(command(&l, (void *)&cmd, PST_CONN_DATA_OUT, message, bytes, NULL), BAD_FIELD);
	}
	assert_int_equal(auth_send(&l, message, 4096), BAD_FIELD); /* longer than any message */
	cmd = auth_cmd(NVMF_AUTH_SEND, bytes + 4);                 /* not what the SGL says */
	assert_int_equal(command(&l, (void *)&cmd, PST_CONN_DATA_OUT, message, bytes, NULL),
			 NVME_SGL_LENGTH_INVALID | NVME_STATUS_DNR);
	assert_int_equal(auth_send(&l, message, bytes), 0);
	assert_int_equal(auth_send(&l, message, bytes), BAD_SEQUENCE); /* a challenge waits to be fetched */
	assert_int_equal(auth_receive(&l, reply, 15), BAD_FIELD);      /* it does not fit in there */
	cmd = auth_cmd(NVMF_AUTH_RECEIVE, 1u << 20);
	assert_int_equal(command(&l, (void *)&cmd, PST_CONN_DATA_IN, reply, sizeof(reply), NULL), BAD_FIELD);
	assert_int_equal(auth_receive(&l, reply, sizeof(reply)), 0);
	pst_auth_receive(&auth, reply, sizeof(reply));
	bytes = pst_auth_send_bytes(&auth);
	pst_auth_send(&auth, message);
	assert_int_equal(auth_send(&l, message, bytes), 0);
	assert_int_equal(auth_receive(&l, reply, sizeof(reply)), 0);
	assert_int_equal(keep_alive(&l), 0);
	assert_int_equal(auth_send(&l, message, bytes), BAD_SEQUENCE); /* once is enough */
	assert_int_equal(auth_receive(&l, reply, sizeof(reply)), BAD_SEQUENCE);
	pst_auth_done(&auth);
	link_close(&l);
	rig_free(&rig);
}

/* A broken message gets the failure message with its code, by Authentication Receive; then the connection ends. */
static void broken_messages_get_their_failure(void **state)
{
	static const struct {
		uint8_t at, value, failure;
	} cases[] = { { 0, 1, NVMF_AUTH_BAD_MESSAGE },    { 6, 1, NVMF_AUTH_CONCATENATION_MISMATCH },
		      { 7, 9, NVMF_AUTH_BAD_PAYLOAD },    { 8, 9, NVMF_AUTH_PROTOCOL_UNUSABLE },
		      { 10, 1, NVMF_AUTH_HASH_UNUSABLE }, { 11, 1, NVMF_AUTH_GROUP_UNUSABLE },
		      { 10, 77, NVMF_AUTH_BAD_PAYLOAD } };

	(void)state;
	for (unsigned i = 0; i < PST_ARRAY_COUNT(cases); i++) {
		uint8_t message[PST_AUTH_MESSAGE_MAX], answer[8];
		struct pst_auth auth;
		struct rig rig;
		struct link l;
		uint32_t bytes;

		rig_new(&rig, &(struct rig_options){ 0 });
		host_set(&rig, &host_key, NULL, 1u << PST_AUTH_FFDHE2048);
		assert_int_equal(connect_admin(&rig, &l, RIG_NQN, NULL), 0);
		engine_start(&auth, RIG_NQN, &host_key, NULL);
		bytes = pst_auth_send_bytes(&auth);
		pst_auth_send(&auth, message);
		message[12] = i == 4 ? 9 : message[12]; /* the only hash, and group, that is offered */
		message[cases[i].at] = cases[i].value;
		assert_int_equal(auth_send(&l, message, bytes), 0);
		assert_int_equal(auth_receive(&l, answer, sizeof(answer)), 0);
		assert_int_equal(answer[1], NVMF_AUTH_FAILURE1);
		assert_int_equal(answer[7], cases[i].failure);
		rig_wait(&rig, &l.closed);
		pst_auth_done(&auth);
		link_close(&l);
		rig_free(&rig);
	}
}

/* Two messages at once: the second is refused, and does not touch the first one's data. */
static void one_message_at_a_time(void **state)
{
	struct nvmf_auth_cmd cmd;
	uint8_t message[PST_AUTH_MESSAGE_MAX], junk[PST_AUTH_MESSAGE_MAX] = { 0 }, reply[4096];
	struct pst_auth auth;
	struct call calls[2];
	struct rig rig;
	struct link l;
	uint32_t bytes;

	(void)state;
	rig_new(&rig, &(struct rig_options){ .shards = 3 });
	host_set(&rig, &host_key, NULL, 0);
	assert_int_equal(connect_admin(&rig, &l, RIG_NQN, NULL), 0);
	engine_start(&auth, RIG_NQN, &host_key, NULL);
	bytes = pst_auth_send_bytes(&auth);
	pst_auth_send(&auth, message);
	cmd = auth_cmd(NVMF_AUTH_SEND, bytes);
	call_start(&l, &calls[0], (void *)&cmd, PST_CONN_DATA_OUT, message, bytes);
	call_start(&l, &calls[1], (void *)&cmd, PST_CONN_DATA_OUT, junk, bytes);
	assert_int_equal(call_status(&l, &calls[0]), 0);
	assert_int_equal(call_status(&l, &calls[1]), BAD_SEQUENCE);
	assert_int_equal(auth_receive(&l, reply, sizeof(reply)), 0);
	assert_int_equal(reply[1], NVMF_AUTH_CHALLENGE);
	pst_auth_done(&auth);
	link_close(&l);
	rig_free(&rig);
}

/* A host that connects and does not authenticate is closed after 10 s, wherever it stops. */
static void silence_is_bounded(void **state)
{
	uint8_t message[PST_AUTH_MESSAGE_MAX];
	struct pst_auth auth;
	struct rig rig;
	struct link l[2];
	uint32_t bytes;

	(void)state;
	rig_new(&rig, &(struct rig_options){ .shards = 2 });
	host_set(&rig, &host_key, NULL, 0);
	for (unsigned i = 0; i < 2; i++)
		assert_int_equal(connect_admin(&rig, &l[i], RIG_NQN, NULL), 0);
	engine_start(&auth, RIG_NQN, &host_key, NULL);
	bytes = pst_auth_send_bytes(&auth);
	pst_auth_send(&auth, message);
	assert_int_equal(auth_send(&l[1], message, bytes), 0);
	pst_sim_run_for(rig.sim, 9 * RIG_SECOND);
	assert_false(l[0].closed || l[1].closed);
	pst_sim_run_for(rig.sim, 2 * RIG_SECOND);
	assert_true(l[0].closed && l[1].closed);
	pst_auth_done(&auth);
	link_close(&l[0]);
	link_close(&l[1]);
	rig_free(&rig);
}

/* Above the limit of queues that authenticate a host is told to try again; hosts that have authenticated don't count.
 */
static void authenticating_queues_are_limited(void **state)
{
	struct rig rig;
	struct link l[3];

	(void)state;
	rig_new(&rig, &(struct rig_options){ .target.auth_max = 1 });
	host_set(&rig, &host_key, NULL, 0);
	assert_int_equal(connect_admin(&rig, &l[0], RIG_NQN, NULL), 0);
	assert_int_equal(connect_admin(&rig, &l[1], RIG_NQN, NULL), NVMF_CONTROLLER_BUSY);
	assert_int_equal(authenticate(&l[0], RIG_NQN, &host_key, NULL), 0);
	assert_int_equal(connect_raw(&l[1], RIG_NQN, 0, 0xffff, NULL), 0);
	link_close(&l[1]); /* and neither do those that have gone */
	pst_sim_run_for(rig.sim, RIG_SECOND);
	assert_int_equal(connect_admin(&rig, &l[2], RIG_NQN, NULL), 0);
	link_close(&l[0]);
	link_close(&l[2]);
	rig_free(&rig);
}

/* One host's queues don't take all the places of authentication. */
static void authenticating_queues_of_a_host_are_limited(void **state)
{
	const struct pst_target_host other = { .nqn = "nqn.2026-01.example:other", .host_key = &host_key };
	struct nvmf_connect_cmd cmd;
	struct nvmf_connect_data data;
	struct link l[3];
	struct rig rig;

	(void)state;
	rig_new(&rig, &(struct rig_options){ .target.auth_per_host_max = 1 });
	host_set(&rig, &host_key, NULL, 0);
	assert_int_equal(pst_target_host_set(rig.target, &other), PST_OK);
	assert_int_equal(connect_admin(&rig, &l[0], RIG_NQN, NULL), 0);
	assert_int_equal(connect_admin(&rig, &l[1], RIG_NQN, NULL), NVMF_CONTROLLER_BUSY);
	link_open(&rig, &l[2], false);
	connect_fill(&cmd, &data, RIG_NQN, 0, 0xffff, 0);
	memset(data.hostnqn, 0, sizeof(data.hostnqn));
	memcpy(data.hostnqn, other.nqn, strlen(other.nqn));
	assert_int_equal(command(&l[2], (void *)&cmd, PST_CONN_DATA_OUT, &data, sizeof(data), NULL), 0);
	for (unsigned i = 0; i < 3; i++)
		link_close(&l[i]);
	rig_free(&rig);
}

/* ---- Who may connect at all ---- */

static uint64_t discovered(struct rig *rig)
{
	struct nvme_sqe sqe = sqe_admin(NVME_ADMIN_GET_LOG_PAGE, NVME_LOG_DISCOVERY | 1023u << 16, 0);
	uint8_t page[4096];
	struct link l;

	assert_int_equal(connect_admin(rig, &l, NVMF_DISCOVERY_NQN, NULL), 0);
	assert_int_equal(property_set_cc(&l, 0x00460001), 0);
	assert_int_equal(command(&l, &sqe, PST_CONN_DATA_IN, page, sizeof(page), NULL), 0);
	link_close(&l);
	if (pst_get_le64(page + 8) == 1) /* what is not counted is not there, either */
		assert_int_equal(page[2048 + 256], 0);
	return pst_get_le64(page + 8) - 1;
}

static void allow(struct rig *rig, const char *nqn)
{
	const char *const nqns[] = { "nqn.2026-01.example:another", nqn };
	struct pst_allow_list list = { .restricted = true, .nqns = nqns, .count = nqn != NULL ? 2 : 1 };

	assert_int_equal(pst_subsystem_allow(rig->subsystem, &list), PST_OK);
}

/* A list lets in who is on it, shows the volume to nobody else, and works at once: who is taken off is disconnected. */
static void allow_lists_are_kept(void **state)
{
	struct rig rig;
	struct host h;

	(void)state;
	rig_new(&rig, &(struct rig_options){ .shards = 2 });
	assert_int_equal(discovered(&rig), 1);
	allow(&rig, NULL);
	refused(&rig, RIG_NQN);
	assert_int_equal(discovered(&rig), 0);
	allow(&rig, RIG_HOSTNQN);
	assert_int_equal(discovered(&rig), 1);
	host_connect(&rig, &h, false, 0);
	write_and_read(&h);
	allow(&rig, NULL);
	rig_wait(&rig, &h.io.closed);
	rig_wait(&rig, &h.admin.closed);
	refused(&rig, RIG_NQN);
	host_close(&h);
	assert_int_equal(pst_subsystem_allow(rig.subsystem, &(struct pst_allow_list){ 0 }), PST_OK);
	host_connect(&rig, &h, false, 0);
	host_close(&h);
	rig_free(&rig);
}

/* Beyond loopback a host without a key finds every door closed, discovery's too; with one it gets in. */
static void remote_hosts_need_a_key(void **state)
{
	struct rig rig;
	struct host h;

	(void)state;
	rig_new(&rig, &(struct rig_options){ .target.authenticate_remote = true });
	refused(&rig, RIG_NQN);
	refused(&rig, NVMF_DISCOVERY_NQN);
	host_set(&rig, &host_key, NULL, 0);
	host_connect_proving(&rig, &h, NULL);
	host_close(&h);
	rig_free(&rig);
}

/* A key that is new ends what came without; a changed one ends nothing; a locked or deleted host is out. */
static void changes_of_hosts_act_at_once(void **state)
{
	struct pst_target_host locked = { .nqn = RIG_HOSTNQN, .locked = true };
	struct rig rig;
	struct host h;
	struct link l;

	(void)state;
	rig_new(&rig, &(struct rig_options){ 0 });
	host_connect(&rig, &h, false, 0);
	host_set(&rig, &host_key, NULL, 0);
	rig_wait(&rig, &h.admin.closed);
	rig_wait(&rig, &h.io.closed);
	host_close(&h);

	host_connect_proving(&rig, &h, NULL);
	host_set(&rig, &wrong_key, NULL, 0);
	pst_sim_run_for(rig.sim, RIG_SECOND);
	write_and_read(&h);
	assert_int_equal(connect_admin(&rig, &l, RIG_NQN, NULL), 0);
	assert_int_equal(authenticate(&l, RIG_NQN, &host_key, NULL), NVMF_AUTH_FAILED);
	link_close(&l);

	assert_int_equal(pst_target_host_set(rig.target, &locked), PST_OK);
	rig_wait(&rig, &h.io.closed);
	host_close(&h);
	refused(&rig, RIG_NQN);

	host_set(&rig, &host_key, NULL, 0);
	host_connect_proving(&rig, &h, NULL);
	pst_target_host_remove(rig.target, RIG_HOSTNQN);
	rig_wait(&rig, &h.io.closed);
	host_close(&h);
	host_connect(&rig, &h, false, 0); /* as nobody in particular */
	host_close(&h);
	rig_free(&rig);
}

/* The volume goes while a host is authenticating, and messages wait in line: everything comes home. */
static void removal_in_the_middle_completes(void **state)
{
	struct nvmf_auth_cmd cmd;
	uint8_t message[PST_AUTH_MESSAGE_MAX];
	struct pst_auth auth;
	struct call call;
	struct rig rig;
	struct link l;
	uint32_t bytes;

	(void)state;
	rig_new(&rig, &(struct rig_options){ .shards = 3 });
	host_set(&rig, &host_key, NULL, 0);
	assert_int_equal(connect_admin(&rig, &l, RIG_NQN, NULL), 0);
	engine_start(&auth, RIG_NQN, &host_key, NULL);
	bytes = pst_auth_send_bytes(&auth);
	pst_auth_send(&auth, message);
	cmd = auth_cmd(NVMF_AUTH_SEND, bytes);
	call_start(&l, &call, (void *)&cmd, PST_CONN_DATA_OUT, message, bytes);
	rig_subsystem_remove(&rig, rig.subsystem);
	rig.subsystem = NULL;
	rig_wait(&rig, &call.done);
	pst_auth_done(&auth);
	link_close(&l);
	rig_free(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(right_keys_are_let_in),
		cmocka_unit_test(wrong_keys_are_kept_out),
		cmocka_unit_test(a_proof_that_can_not_be_given_is_a_failure),
		cmocka_unit_test(nothing_else_is_taken_before),
		cmocka_unit_test(malformed_commands_are_refused),
		cmocka_unit_test(broken_messages_get_their_failure),
		cmocka_unit_test(one_message_at_a_time),
		cmocka_unit_test(silence_is_bounded),
		cmocka_unit_test(authenticating_queues_are_limited),
		cmocka_unit_test(authenticating_queues_of_a_host_are_limited),
		cmocka_unit_test(allow_lists_are_kept),
		cmocka_unit_test(remote_hosts_need_a_key),
		cmocka_unit_test(changes_of_hosts_act_at_once),
		cmocka_unit_test(removal_in_the_middle_completes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

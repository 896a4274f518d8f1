/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The whole target under a script of a hostile host, in the simulator: raw bytes, sound PDUs around arbitrary commands,
 * commands through a protocol engine, time, sudden ends. Whatever comes, a second host is served all the while, and in
 * the end every connection, command and buffer has come back (the target asserts it when it stops).
 *
 * Steps of their own make writes whose data is asked for, with H2CData that lies, on raw connections with and without
 * digests; transactions of authentication, with a byte or their order wrong; and sound reservation commands (and
 * compound and fused ones) with one arbitrary field, from two hosts: they get further than arbitrary bytes would. Hosts
 * that are fenced off by them may be refused, which is all that may happen to a bystander.
 *
 * A script is a sequence of steps, each a byte (low 3 bits: what, others: which connection) and its arguments.
 */
#include "../unit/target-rig.h"
#include "base/crc32c.h"
#include "base/le.h"
#include "proto/auth.h"
#include "proto/tcp_pdu.h"

#define RAW_LINKS 3u
#define STEPS_MAX 64u
#define RAW_HOST_ID 8 /* as the hostile host's: raw connections may become its I/O queues */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len_bytes);

struct script {
	const uint8_t *at, *end;
};

static uint8_t next(struct script *s)
{
	return s->at < s->end ? *s->at++ : 0;
}

/* At most @max bytes of the script, the rest zeros. */
static void take(struct script *s, void *to, size_t max)
{
	size_t len = PST_MIN(max, (size_t)(s->end - s->at));

	memset(to, 0, max);
	memcpy(to, s->at, len);
	s->at += len;
}

/* ---- A host without an engine ---- */

struct raw {
	struct link link;
	uint8_t out[16384], in[4096];
	bool open, digests;
};

static void raw_read(struct pst_stream_op *op);

static void raw_want(struct raw *r)
{
	r->link.recv_iov[0] = (struct iovec){ r->in, sizeof(r->in) };
	r->link.recv = (struct pst_stream_op){ .iov = r->link.recv_iov, .iov_count = 1, .done = raw_read };
	pst_stream_recv(r->link.stream, &r->link.recv);
}

static void raw_read(struct pst_stream_op *op)
{
	struct raw *r = pst_container_of(pst_container_of(op, struct link, recv), struct raw, link);

	if (op->err == PST_OK && op->done_bytes > 0)
		raw_want(r);
	else
		r->link.closed = true;
}

static void raw_written(struct pst_stream_op *op)
{
	pst_container_of(op, struct link, send)->sending = false;
}

static void raw_open(struct rig *rig, struct raw *r)
{
	if (r->open)
		return;
	link_dial(rig, &r->link);
	r->open = true;
	r->digests = false;
	raw_want(r);
}

static void raw_close(struct raw *r)
{
	if (r->open)
		link_close(&r->link);
	r->open = false;
}

static void raw_send(struct rig *rig, struct raw *r, size_t bytes)
{
	/* A target that does not read (its right) leaves the send outstanding: then nothing more is said. */
	if (!r->open || r->link.sending || r->link.closed || bytes == 0)
		return;
	r->link.send_iov[0] = (struct iovec){ r->out, bytes };
	r->link.send = (struct pst_stream_op){ .iov = r->link.send_iov, .iov_count = 1, .done = raw_written };
	r->link.sending = true;
	pst_stream_send(r->link.stream, &r->link.send);
	pst_sim_run_for(rig->sim, 300000);
}

/* How a PDU is spoilt: bits 0-1 which way (0: not at all), then where and with what. */
struct spoil {
	uint8_t how, at, with;
};

/* A PDU whose header is right, and its digests, but for what @spoil says. Returns its length. */
static size_t pdu_make(struct raw *r, const void *header, uint8_t hlen, const void *data, uint32_t bytes,
		       struct spoil spoil)
{
	struct nvme_tcp_ch *ch = (struct nvme_tcp_ch *)r->out;
	bool hd = r->digests, dd = r->digests && bytes > 0;
	uint32_t at = hlen + (hd ? 4u : 0), len = at + bytes + (dd ? 4 : 0);

	memcpy(r->out, header, hlen);
	ch->flags |= (uint8_t)((hd ? NVME_TCP_F_HDGST : 0) | (dd ? NVME_TCP_F_DDGST : 0));
	ch->hlen = hlen;
	ch->pdo = bytes > 0 ? (uint8_t)at : 0;
	ch->plen = nvme_le32_of(len);
	if (bytes > 0)
		memcpy(r->out + at, data, bytes);
	if ((spoil.how & 3) == 1) /* before the digests: they are right */
		r->out[spoil.at % hlen] ^= spoil.with;
	if (hd)
		pst_put_le32(r->out + hlen, pst_crc32c(r->out, hlen));
	if (dd)
		pst_put_le32(r->out + at + bytes, pst_crc32c(r->out + at, bytes));
	if ((spoil.how & 3) == 2) /* after them: they are wrong */
		r->out[(spoil.at << 2 | spoil.how >> 6) % len] ^= spoil.with;
	return (spoil.how & 3) == 3 ? (spoil.at << 8 | spoil.with) % len : len;
}

static const struct spoil sound;

static void raw_icreq(struct rig *rig, struct raw *r, bool digests)
{
	memset(r->out, 0, 128);
	r->out[0] = NVME_TCP_ICREQ;
	r->out[2] = r->out[4] = 128;
	r->out[11] = digests ? 3 : 0;
	raw_send(rig, r, 128);
	r->digests = digests;
}

/* A capsule whose header is right: the command and its data are what is to be judged. */
static void raw_capsule(struct rig *rig, struct raw *r, const void *sqe, const void *payload, uint32_t payload_bytes,
			struct spoil spoil)
{
	struct nvme_tcp_cmd pdu = { .ch.type = NVME_TCP_CMD };

	memcpy(&pdu.sqe, sqe, sizeof(pdu.sqe));
	raw_send(rig, r, pdu_make(r, &pdu, sizeof(pdu), payload, payload_bytes, spoil));
}

/* A host that has to authenticate. */
#define KEYED_NQN "nqn.2026-01.example:keyed"

static void raw_connect(struct rig *rig, struct raw *r, const char *nqn, uint16_t qid, uint16_t cntlid, bool keyed,
			bool digests)
{
	struct nvmf_connect_cmd cmd;
	struct nvmf_connect_data data;

	connect_fill(&cmd, &data, nqn, qid, qid == 0 ? 0xffff : cntlid, 1000);
	if (keyed) {
		memset(data.hostnqn, 0, sizeof(data.hostnqn));
		memcpy(data.hostnqn, KEYED_NQN, sizeof(KEYED_NQN));
	}
	memset(data.hostid, RAW_HOST_ID, sizeof(data.hostid));
	cmd.flags = 0x40;
	cmd.sgl.length = nvme_le32_of(sizeof(data));
	cmd.sgl.type = NVME_SGL_IN_CAPSULE;
	raw_icreq(rig, r, digests);
	raw_capsule(rig, r, &cmd, &data, sizeof(data), sound);
}

/* ---- The script ---- */

enum { STEP_BYTES, STEP_CAPSULE, STEP_CONNECT, STEP_COMMAND, STEP_TIME, STEP_CLOSE, STEP_EVENT, STEP_READ_BACK };

struct play {
	struct rig rig;
	struct host good, bad;
	struct raw raws[RAW_LINKS];
	struct link keyed; /* of a host that has to authenticate, and for a while does so */
	struct pst_auth auth;
	bool authenticating;
	struct call calls[STEPS_MAX];
	uint8_t *buffers[STEPS_MAX];
	unsigned call_count;
};

static void bystander_is_served(struct play *p)
{
	static uint8_t block[4096];
	struct nvme_sqe sqe = sqe_io(NVME_CMD_READ, 0, 1);

	uint16_t status = command(&p->good.io, &sqe, PST_CONN_DATA_IN, block, sizeof(block), NULL);

	if (status != 0 && status != (NVME_RESERVATION_CONFLICT | NVME_STATUS_DNR))
		abort();
}

/* A command of the hostile host through its engine: sound on the wire, arbitrary inside. */
static void step_command(struct play *p, struct script *s, uint8_t which)
{
	struct link *l = which & 1 ? &p->bad.io : &p->bad.admin;
	struct call *call = &p->calls[p->call_count];
	enum pst_conn_dir dir = (enum pst_conn_dir)(next(s) % 3);
	uint32_t bytes = (uint32_t)next(s) * 512;
	struct nvme_sqe sqe;

	take(s, &sqe, 64);
	if (l->closed || l->conn == NULL || p->call_count == STEPS_MAX)
		return;
	p->buffers[p->call_count] = calloc(1, bytes + 1);
	*call = (struct call){ .iov = { p->buffers[p->call_count], bytes } };
	p->call_count++;
	call->cmd = pst_conn_submit(
	    l->conn, &sqe, &(struct pst_conn_xfer){ .dir = dir, .bytes = bytes, .iov = &call->iov, .iov_count = 1 },
	    call);
	link_run(l);
}

/* The list of hosts comes and goes; the good host is always on it. What is authenticating is looked at again. */
static void access_changes(struct play *p, uint8_t which)
{
	static const char *const nqns[] = { RIG_HOSTNQN, KEYED_NQN };
	struct pst_allow_list list = { (which & 1) != 0, nqns, which & 2 ? 2 : 1 };
	struct pst_auth_key key = { .hash = 1, .len_bytes = 32, .bytes = { which } };
	struct pst_target_host host = { .nqn = KEYED_NQN, .host_key = &key, .groups = 1u << PST_AUTH_NULL_GROUP };

	if (pst_subsystem_allow(p->rig.subsystem, &list) != PST_OK ||
	    pst_target_host_set(p->rig.target, &host) != PST_OK)
		abort();
	if (which & 4)
		pst_target_host_remove(p->rig.target, KEYED_NQN);
}

/* Mostly sound: few keys, so that they match; every action and type. */
static void step_reservation(struct play *p, struct script *s, uint8_t which)
{
	static const uint8_t opcodes[] = { NVME_CMD_RESV_REGISTER, NVME_CMD_RESV_ACQUIRE, NVME_CMD_RESV_RELEASE,
					   NVME_CMD_RESV_REPORT };
	struct link *l = which & 1 ? &p->bad.io : &p->good.io;
	uint8_t opcode = opcodes[next(s) % PST_ARRAY_COUNT(opcodes)], keys = next(s), type = next(s);
	uint32_t bytes = opcode == NVME_CMD_RESV_RELEASE ? 8 : 16;
	struct nvme_sqe sqe = sqe_admin(opcode, (uint32_t)type << 8 | next(s) | (uint32_t)(keys >> 6) << 30, 1);
	struct call *call = &p->calls[p->call_count];

	if (l->closed || l->conn == NULL || p->call_count == STEPS_MAX)
		return;
	if (opcode == NVME_CMD_RESV_REPORT) {
		sqe.cdw10 = nvme_le32_of(type % 128);
		bytes = (type % 128 + 1) * 4;
	}
	sqe.nsid = nvme_le32_of(1);
	p->buffers[p->call_count] = calloc(1, 512);
	p->buffers[p->call_count][0] = keys & 3;
	p->buffers[p->call_count][8] = keys >> 2 & 3;
	*call = (struct call){ .iov = { p->buffers[p->call_count], bytes } };
	p->call_count++;
	call->cmd = pst_conn_submit(
	    l->conn, &sqe,
	    &(struct pst_conn_xfer){ .dir = opcode == NVME_CMD_RESV_REPORT ? PST_CONN_DATA_IN : PST_CONN_DATA_OUT,
				     .bytes = bytes,
				     .iov = &call->iov,
				     .iov_count = 1 },
	    call);
	link_run(l);
}

/* Commands of several parts, and fused ones: all touch the same few blocks. */
static void step_compound(struct play *p, struct script *s, uint8_t which)
{
	static const uint8_t opcodes[] = { NVME_CMD_COMPARE, NVME_CMD_WRITE, NVME_CMD_VERIFY, NVME_CMD_COPY };
	struct link *l = which & 1 ? &p->bad.io : &p->good.io;
	uint8_t kind = next(s), where = next(s), opcode = opcodes[kind & 3];
	uint32_t blocks = (where >> 4 & 3) + 1, bytes = opcode == NVME_CMD_COPY ? 32 * blocks : 4096 * blocks;
	struct nvme_sqe sqe = sqe_io(opcode, where & 7, blocks);
	struct call *call = &p->calls[p->call_count];

	if (l->closed || l->conn == NULL || p->call_count == STEPS_MAX)
		return;
	sqe.flags = kind >> 2 & 3;
	p->buffers[p->call_count] = calloc(1, 4 * 4096);
	take(s, p->buffers[p->call_count], opcode == NVME_CMD_COPY ? 20 : where >> 6);
	*call = (struct call){ .iov = { p->buffers[p->call_count], bytes } };
	p->call_count++;
	call->cmd = pst_conn_submit(
	    l->conn, &sqe,
	    &(struct pst_conn_xfer){ .dir = opcode == NVME_CMD_VERIFY ? PST_CONN_NO_DATA : PST_CONN_DATA_OUT,
				     .bytes = opcode == NVME_CMD_VERIFY ? 0 : bytes,
				     .iov = &call->iov,
				     .iov_count = 1 },
	    call);
	link_run(l);
}

struct flicker {
	struct pst_ana_op op;
	bool done;
};

static void flickered(struct pst_ana_op *op)
{
	pst_container_of(op, struct flicker, op)->done = true;
}

/* The path is closed, or the namespace detached, and it is back at once; what is under way may be refused. */
static void path_flickers(struct play *p, bool detach)
{
	for (unsigned i = 0; i < 2; i++) {
		struct flicker f = { .op.done = flickered };

		if (detach)
			pst_subsystem_set_attached(p->rig.subsystem, i == 1, &f.op);
		else
			assert_int_equal(pst_target_set_ana(p->rig.target, 1, 1,
							    i == 1 ? PST_ANA_OPTIMIZED : PST_ANA_INACCESSIBLE, &f.op),
					 PST_OK);
		rig_wait(&p->rig, &f.done);
	}
}

static struct spoil take_spoil(struct script *s, uint8_t how)
{
	struct spoil spoil = { how, 0, 0 };

	if ((how & 3) != 0) {
		spoil.how = next(s);
		spoil.at = next(s);
		spoil.with = next(s);
	}
	return spoil;
}

/* A raw write whose data is to be asked for, and H2CData: that of the R2T, as far as one can guess, and lies about it.
 */
static void step_data(struct play *p, struct script *s, struct raw *r, uint8_t write)
{
	static const uint32_t lengths[] = { 4096, 8192, 65536, 4, 0, 4092, 12288, 16384 };
	static const uint8_t zeros[16384];
	uint8_t what = next(s), cid = next(s), lie = next(s);
	uint32_t bytes = lengths[what & 7], offset = what & 8 ? lengths[what >> 4 & 7] : 0;
	struct nvme_tcp_data data = { .ch.type = NVME_TCP_H2C_DATA,
				      .ch.flags = what & 128 ? 0 : NVME_TCP_F_LAST,
				      .cccid = nvme_le16_of(cid & 7),
				      .ttag = nvme_le16_of(cid >> 3 & 7),
				      .datao = nvme_le32_of(offset) };

	if (write) {
		struct nvme_sqe sqe = sqe_io(NVME_CMD_WRITE, cid >> 3, (what >> 3 & 15) + 1);

		sqe.cid = nvme_le16_of(cid & 7);
		sqe.flags = 0x40;
		sqe.sgl.length = nvme_le32_of(((what >> 3 & 15) + 1) * 4096);
		sqe.sgl.type = NVME_SGL_TRANSPORT;
		raw_capsule(&p->rig, r, &sqe, NULL, 0, take_spoil(s, lie));
		return;
	}
	bytes = PST_MIN(bytes, (uint32_t)sizeof(zeros) - 256);
	data.datal = nvme_le32_of(bytes + (lie & 4));
	raw_send(&p->rig, r, pdu_make(r, &data, sizeof(data), zeros, bytes, take_spoil(s, lie)));
}

static const struct pst_auth_key keyed_key = { .hash = 1, .len_bytes = 32 };

static void auth_begin(struct play *p)
{
	const struct pst_auth_config config = {
		.hostnqn = KEYED_NQN, .subnqn = RIG_NQN, .host_key = &keyed_key, .groups = 1u << PST_AUTH_NULL_GROUP
	};
	struct nvmf_connect_cmd cmd;
	struct nvmf_connect_data data;
	struct pst_auth_random random = { { 1 } };
	struct call call;

	if (p->keyed.stream != NULL)
		link_close(&p->keyed);
	link_open(&p->rig, &p->keyed, false);
	connect_fill(&cmd, &data, RIG_NQN, 0, 0xffff, 0);
	memset(data.hostnqn, 0, sizeof(data.hostnqn));
	memcpy(data.hostnqn, KEYED_NQN, sizeof(KEYED_NQN));
	call_start(&p->keyed, &call, (void *)&cmd, PST_CONN_DATA_OUT, &data, sizeof(data));
	rig_wait(&p->rig, &call.done);
	if (p->authenticating)
		pst_auth_done(&p->auth);
	if (pst_auth_init(&p->auth, &config, &random) != PST_OK)
		abort();
	p->authenticating = true;
}

/* The next message of a sound transaction, or of one that has a byte or its order wrong. */
static void step_auth(struct play *p, struct script *s)
{
	static uint8_t message[4096];
	struct nvmf_auth_cmd cmd = { .opcode = NVME_FABRICS,
				     .fctype = NVMF_AUTH_RECEIVE,
				     .secp = NVMF_AUTH_SECP,
				     .spsp0 = NVMF_AUTH_SPSP,
				     .spsp1 = NVMF_AUTH_SPSP };
	uint8_t how = next(s);
	uint32_t bytes = sizeof(message) - 2048;
	bool send;
	struct call call;

	if (!p->authenticating || p->keyed.closed || pst_conn_state(p->keyed.conn) != PST_CONN_STATE_READY ||
	    (how & 7) == 7 || pst_auth_step(&p->auth) >= PST_AUTH_DONE) {
		auth_begin(p);
		return;
	}
	send = (pst_auth_step(&p->auth) == PST_AUTH_SEND) != ((how & 7) == 6);
	memset(message, 0, sizeof(message));
	if (send) {
		cmd.fctype = NVMF_AUTH_SEND;
		if (pst_auth_step(&p->auth) == PST_AUTH_SEND) {
			bytes = pst_auth_send_bytes(&p->auth);
			pst_auth_send(&p->auth, message);
		}
		if ((how & 7) == 5)
			message[next(s)] ^= next(s);
	}
	cmd.length = nvme_le32_of(bytes);
	call_start(&p->keyed, &call, (void *)&cmd, send ? PST_CONN_DATA_OUT : PST_CONN_DATA_IN, message, bytes);
	rig_wait(&p->rig, &call.done);
	if (!send && call.err == PST_OK && nvme_get16(call.cqe.status) == 0 &&
	    pst_auth_step(&p->auth) == PST_AUTH_RECEIVE)
		pst_auth_receive(&p->auth, message, bytes);
}

static void step(struct play *p, struct script *s)
{
	uint8_t what = next(s), which = what >> 3;
	struct raw *raw = &p->raws[which % RAW_LINKS];
	uint8_t sqe[64];
	static uint8_t payload[8192];
	size_t bytes;

	switch (what & 7) {
	case STEP_BYTES:
		raw_open(&p->rig, raw);
		bytes = next(s);
		take(s, raw->out, bytes);
		raw_send(&p->rig, raw, bytes);
		break;
	case STEP_CAPSULE:
		bytes = (size_t)(next(s) % 33) * 256;
		take(s, sqe, sizeof(sqe));
		take(s, payload, PST_MIN(bytes, 64u));
		raw_capsule(&p->rig, raw, sqe, payload, (uint32_t)bytes, take_spoil(s, which >> 2));
		break;
	case STEP_CONNECT:
		raw_open(&p->rig, raw);
		raw_connect(&p->rig, raw, which & 4 ? NVMF_DISCOVERY_NQN : RIG_NQN, next(s) % 5, p->bad.cntlid,
			    (which & 8) != 0, (which & 16) != 0);
		break;
	case STEP_COMMAND:
		step_command(p, s, which);
		break;
	case STEP_TIME:
		pst_sim_run_for(p->rig.sim, (uint64_t)next(s) * (which & 1 ? 100000000ull : 10000ull));
		break;
	case STEP_CLOSE:
		if (which & 8)
			step_data(p, s, raw, which >> 4);
		else if (which & 16)
			step_auth(p, s);
		else
			raw_close(raw);
		break;
	case STEP_EVENT:
		if ((which & 3) == 3) {
			step_compound(p, s, which >> 2);
		} else if (which & 1) {
			step_reservation(p, s, which >> 2);
		} else {
			if (which & 2)
				path_flickers(p, (which & 4) != 0);
			pst_subsystem_resized(p->rig.subsystem);
			access_changes(p, which);
		}
		break;
	default:
		bystander_is_served(p);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len_bytes)
{
	struct script s = { data, data + len_bytes };
	struct play *p = calloc(1, sizeof(*p));
	uint8_t kind = next(&s);

	rig_new(&p->rig, &(struct rig_options){
			     .shards = 1 + (kind & 1),
			     .volume_shard = kind & 1,
			     .qos = (kind & 2) != 0,
			     .keeps = (kind & 32) != 0,
			     .policy = { .limit_iops = kind & 4 ? 50 : 0 },
			     .target = { .transfer_bytes_max = 65536,
					 .buffer_bytes_max = 4 * 65536,
					 .registrants_max = 2,
					 .queue_entries_max = 32 + (kind & 8) },
			 });
	host_connect_sized(&p->rig, &p->good, false, 0, 31);
	host_connect_as(&p->rig, &p->bad, (kind & 16) != 0, 0, 31, RAW_HOST_ID);
	access_changes(p, 0);
	for (unsigned i = 0; i < STEPS_MAX && s.at < s.end; i++)
		step(p, &s);
	bystander_is_served(p);
	for (unsigned i = 0; i < RAW_LINKS; i++)
		raw_close(&p->raws[i]);
	if (p->keyed.stream != NULL)
		link_close(&p->keyed);
	if (p->authenticating)
		pst_auth_done(&p->auth);
	host_close(&p->bad);
	host_close(&p->good);
	rig_free(&p->rig);
	for (unsigned i = 0; i < p->call_count; i++)
		free(p->buffers[i]);
	free(p);
	return 0;
}

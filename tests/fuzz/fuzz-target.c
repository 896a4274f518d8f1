/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The whole target under a script of a hostile host, in the simulator: raw bytes, sound PDUs around arbitrary commands,
 * commands through a protocol engine, time, sudden ends. Whatever comes, a second host is served all the while, and in
 * the end every connection, command and buffer has come back (the target asserts it when it stops).
 *
 * Steps of their own make sound reservation commands (and compound and fused ones) with one arbitrary field, from two
 * hosts: they get further than arbitrary bytes would. Hosts that are fenced off by them may be refused, which is all
 * that may happen to a bystander.
 *
 * A script is a sequence of steps, each a byte (low 3 bits: what, others: which connection) and its arguments.
 */
#include "../unit/target-rig.h"

#define RAW_LINKS 3u
#define STEPS_MAX 64u

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
	bool open;
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

static size_t pdu_icreq(uint8_t *out)
{
	memset(out, 0, 128);
	out[0] = NVME_TCP_ICREQ;
	out[2] = out[4] = 128;
	return 128;
}

/* A capsule whose header is right: the command and its data are what is to be judged. */
static size_t pdu_capsule(uint8_t *out, const void *sqe, const void *payload, uint32_t payload_bytes)
{
	uint32_t plen = 72 + payload_bytes;

	memset(out, 0, 8);
	out[0] = NVME_TCP_CMD;
	out[2] = 72;
	out[3] = payload_bytes > 0 ? 72 : 0;
	out[4] = plen & 0xff;
	out[5] = (uint8_t)(plen >> 8);
	memcpy(out + 8, sqe, 64);
	if (payload_bytes > 0)
		memcpy(out + 72, payload, payload_bytes);
	return plen;
}

/* A host that has to authenticate. */
#define KEYED_NQN "nqn.2026-01.example:keyed"

static void raw_connect(struct rig *rig, struct raw *r, const char *nqn, uint16_t qid, uint16_t cntlid, bool keyed)
{
	struct nvmf_connect_cmd cmd;
	struct nvmf_connect_data data;

	connect_fill(&cmd, &data, nqn, qid, qid == 0 ? 0xffff : cntlid, 1000);
	if (keyed) {
		memset(data.hostnqn, 0, sizeof(data.hostnqn));
		memcpy(data.hostnqn, KEYED_NQN, sizeof(KEYED_NQN));
	}
	cmd.flags = 0x40;
	cmd.sgl.length = nvme_le32_of(sizeof(data));
	cmd.sgl.type = NVME_SGL_IN_CAPSULE;
	raw_send(rig, r, pdu_icreq(r->out));
	raw_send(rig, r, pdu_capsule(r->out, &cmd, &data, sizeof(data)));
}

/* ---- The script ---- */

enum { STEP_BYTES, STEP_CAPSULE, STEP_CONNECT, STEP_COMMAND, STEP_TIME, STEP_CLOSE, STEP_EVENT, STEP_READ_BACK };

struct play {
	struct rig rig;
	struct host good, bad;
	struct raw raws[RAW_LINKS];
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
		raw_send(&p->rig, raw, pdu_capsule(raw->out, sqe, payload, (uint32_t)bytes));
		break;
	case STEP_CONNECT:
		raw_open(&p->rig, raw);
		raw_connect(&p->rig, raw, which & 4 ? NVMF_DISCOVERY_NQN : RIG_NQN, next(s) % 5, p->bad.cntlid,
			    (which & 8) != 0);
		break;
	case STEP_COMMAND:
		step_command(p, s, which);
		break;
	case STEP_TIME:
		pst_sim_run_for(p->rig.sim, (uint64_t)next(s) * (which & 1 ? 100000000ull : 10000ull));
		break;
	case STEP_CLOSE:
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
	host_connect_as(&p->rig, &p->bad, (kind & 16) != 0, 0, 31, 8);
	access_changes(p, 0);
	for (unsigned i = 0; i < STEPS_MAX && s.at < s.end; i++)
		step(p, &s);
	bystander_is_served(p);
	for (unsigned i = 0; i < RAW_LINKS; i++)
		raw_close(&p->raws[i]);
	host_close(&p->bad);
	host_close(&p->good);
	rig_free(&p->rig);
	for (unsigned i = 0; i < p->call_count; i++)
		free(p->buffers[i]);
	free(p);
	return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A host: one session on one volume, up to CLIENT_DEPTH requests at once, chosen at random; writes of all hosts to one
 * volume keep apart (the oracle knows), reads go anywhere. Every completion is checked: it comes once, without an error
 * that the faults do not explain, and a read returns what the oracle allows.
 */
#include "system.h"

#include <stdlib.h>
#include <string.h>

struct client_op {
	struct pst_request request;
	struct client *client;
	bool outstanding;
	uint32_t power_losses; /* of the system, when it began */
	uint64_t reconnects;   /* likewise, of the session */
	uint64_t number;
	uint64_t lba, count;
	struct oracle_read *read;
	struct oracle_flush *flush;
	struct iovec iov[2];
	uint8_t *buf;
};

struct client {
	struct system *sys;
	struct pst_sim_node *node;
	struct pst_env *env;
	struct system_volume *volume;
	struct pst_session *session;
	struct pst_session_open_op open;
	struct pst_session_close_op close;
	struct pst_session_config config;
	struct pst_timer timer; /* open again, or work on */
	struct client_op ops[CLIENT_DEPTH];
	uint32_t outstanding;
	uint64_t begun;        /* requests */
	uint64_t told_to;      /* those begun up to here may fail with the flush that told of a loss */
	uint32_t lost_flushes; /* begun and failed after a power loss, as they may once for each */
	bool verifying, gone;
	uint64_t verify_lba;
};

static void client_open(struct client *c)
{
	pst_session_open(c->env, &c->config, &c->open);
}

static void client_on_open(struct pst_session_open_op *op)
{
	struct client *c = pst_container_of(op, struct client, open);

	if (op->err != PST_OK) {
		/* The target is not there yet, or a fault hit the handshake: hosts try again. */
		pst_timer_arm(c->env, &c->timer, pst_env_now_ns(c->env) + SECOND / 10);
		return;
	}
	c->session = op->session;
}

static void client_on_timer(struct pst_timer *timer)
{
	struct client *c = pst_container_of(timer, struct client, timer);

	if (!c->session)
		client_open(c);
	else
		client_work(c);
}

struct client *client_start(struct system *sys, struct pst_sim_node *node, uint32_t volume)
{
	struct client *c = calloc(1, sizeof(*c));
	uint8_t uuid[16] = { 0x77, [15] = (uint8_t)sys->client_count };

	pst_assert(c);
	c->sys = sys;
	c->node = node;
	c->env = pst_sim_env_new(node, 0);
	c->volume = &sys->volumes[volume];
	c->open.done = client_on_open;
	pst_timer_init(&c->timer, client_on_timer);
	c->config = (struct pst_session_config){
		.nsid = 1,
		.io_queues = 1 + (uint32_t)pst_sim_rand_below(sys->sim, 3),
		.queue_entries = 2 + (uint32_t)pst_sim_rand_below(sys->sim, 31),
		.header_digest = pst_sim_rand_below(sys->sim, 2),
		.data_digest = pst_sim_rand_below(sys->sim, 2),
		.keep_alive_ns = 2 * SECOND,
		.connect_timeout_ns = 5 * SECOND,
		.reconnect_delay_ns = SECOND / 10,
	};
	snprintf(c->config.addr.host, sizeof(c->config.addr.host), "%s", pst_sim_node_ip(sys->storage_node));
	/* Some know both ports, in either order; some know one. */
	c->config.addr.port = (uint16_t)(4420 + pst_sim_rand_below(sys->sim, PORTS));
	if (pst_sim_rand_below(sys->sim, 4) > 0) {
		c->config.more_count = 1;
		c->config.more[0] = c->config.addr;
		c->config.more[0].port = (uint16_t)(4420 + 4421 - c->config.addr.port);
	}
	snprintf(c->config.subnqn, sizeof(c->config.subnqn), "%s", c->volume->nqn);
	memcpy(c->config.hostid, uuid, sizeof(uuid));
	pst_host_nqn_format(uuid, c->config.hostnqn);
	for (uint32_t i = 0; i < CLIENT_DEPTH; i++) {
		c->ops[i].client = c;
		c->ops[i].buf = aligned_alloc(4096, OP_BLOCKS_MAX * ORACLE_BLOCK_BYTES);
		pst_assert(c->ops[i].buf);
	}
	client_open(c);
	return c;
}

struct pst_sim_node *client_node(const struct client *client)
{
	return client->node;
}

bool client_connected(const struct client *client)
{
	return client->session;
}

bool client_idle(const struct client *client)
{
	return client->session && client->outstanding == 0 && !client->verifying;
}

/* ---- Completions ---- */

static void op_trace(const struct client_op *op, const char *what)
{
	static const char *const kinds[] = { "read", "write", "flush", "zeroes", "discard" };
	const struct system *sys = op->client->sys;

	if (sys->trace)
		fprintf(sys->trace, "%12.6f ms %s %s %s%s volume %zu blocks %llu+%llu %s\n",
			(double)(pst_sim_now_ns(sys->sim) - SECOND) / 1e6, what, op->client->config.hostnqn + 60,
			kinds[op->request.kind], op->request.fua ? "+fua" : "",
			(size_t)(op->client->volume - sys->volumes) + 1, (unsigned long long)op->lba,
			(unsigned long long)op->count, pst_err_name(op->request.err));
}

static void client_next_verify(struct client *c);

static uint64_t client_reconnects(const struct client *c)
{
	struct pst_ns_stats stats;

	pst_session_stats(c->session, &stats);
	return stats.reconnects;
}

/*
 * After a power loss one flush may fail, with all that are under way then, and once more if the process that told is
 * killed before the note of it is on the disk; and if it was begun before the loss, once more the next, of writes that
 * it did not cover. The same if it was begun before a reconnect: the host can't know whether it was told of a loss
 * before that or after it, and what was written between the two is doubtful.
 */
static bool op_may_tell_loss(struct client_op *op)
{
	struct client *c = op->client;

	if (op->number <= c->told_to)
		return true;
	c->told_to = c->begun;
	if (op->power_losses != c->sys->power_losses || op->reconnects != client_reconnects(c))
		return true;
	return c->lost_flushes++ < c->sys->tells;
}

static void op_check_error(struct client_op *op)
{
	struct client *c = op->client;
	struct system *sys = c->sys;

	if (op->request.err == PST_OK || sys->io_errors_allowed)
		return;
	if (op->request.kind == PST_REQUEST_FLUSH && op_may_tell_loss(op)) {
		sys->flush_failures++;
		return;
	}
	system_fail(sys, "request kind %d of block %llu failed: %s, NVMe status %xh", op->request.kind,
		    (unsigned long long)op->lba, pst_err_name(op->request.err), op->request.nvme_status);
}

static void op_end(struct client_op *op)
{
	struct oracle *oracle = op->client->volume->oracle;
	bool ok = op->request.err == PST_OK;
	char why[256];

	switch (op->request.kind) {
	case PST_REQUEST_READ:
		if (!oracle_read_end(op->read, ok ? op->buf : NULL, why))
			system_fail(op->client->sys, "%s", why);
		break;
	case PST_REQUEST_FLUSH:
		oracle_flush_end(op->flush, ok);
		break;
	default:
		oracle_write_end(oracle, op->lba, op->count, ok, op->request.fua);
		break;
	}
}

static void client_on_done(struct pst_request *request)
{
	struct client_op *op = pst_container_of(request, struct client_op, request);
	struct client *c = op->client;

	if (!op->outstanding) {
		system_fail(c->sys, "request kind %d completed twice", request->kind);
		return;
	}
	op->outstanding = false;
	c->outstanding--;
	op_trace(op, "done");
	op_check_error(op);
	op_end(op);
	if (c->verifying)
		client_next_verify(c);
	else if (!pst_timer_armed(&c->timer))
		pst_timer_arm(c->env, &c->timer, pst_env_now_ns(c->env) + pst_sim_rand_below(c->sys->sim, 2000000));
}

/* ---- Requests ---- */

static void op_submit(struct client_op *op, enum pst_request_kind kind, uint64_t lba, uint64_t count)
{
	bool transfers = kind == PST_REQUEST_READ || kind == PST_REQUEST_WRITE;
	uint64_t bytes = count * ORACLE_BLOCK_BYTES, cut = 0;
	struct client *c = op->client;

	if (transfers && pst_sim_rand_below(c->sys->sim, 2))
		cut = pst_sim_rand_below(c->sys->sim, bytes);
	op->lba = lba;
	op->count = count;
	op->iov[0] = (struct iovec){ op->buf, cut ? cut : bytes };
	op->iov[1] = (struct iovec){ op->buf + cut, bytes - cut };
	op->request = (struct pst_request){
		.kind = kind,
		.fua = kind != PST_REQUEST_READ && kind != PST_REQUEST_FLUSH && pst_sim_rand_below(c->sys->sim, 8) == 0,
		.offset_bytes = lba * ORACLE_BLOCK_BYTES,
		.len_bytes = kind == PST_REQUEST_FLUSH ? 0 : bytes,
		.iov = transfers ? op->iov : NULL,
		.iov_count = transfers ? (cut ? 2 : 1) : 0,
		.done = client_on_done,
	};
	op->outstanding = true;
	op->power_losses = c->sys->power_losses;
	op->reconnects = client_reconnects(c);
	op->number = ++c->begun;
	c->outstanding++;
	op_trace(op, "begin");
	pst_session_submit(c->session, &op->request);
}

static void client_begin_write(struct client *c, struct client_op *op, uint64_t lba, uint64_t count)
{
	bool zeroes = pst_sim_rand_below(c->sys->sim, 8) == 0;

	if (oracle_busy(c->volume->oracle, lba, count))
		return;
	c->sys->writes++;
	oracle_write_begin(c->volume->oracle, lba, count, zeroes ? NULL : op->buf);
	op_submit(op, zeroes ? PST_REQUEST_WRITE_ZEROES : PST_REQUEST_WRITE, lba, count);
}

static void client_begin(struct client *c, struct client_op *op)
{
	struct pst_sim *sim = c->sys->sim;
	uint64_t most = pst_sim_rand_below(sim, 4) ? 4 : OP_BLOCKS_MAX;
	uint64_t count = 1 + pst_sim_rand_below(sim, PST_MIN(most, c->volume->block_count));
	uint64_t lba = pst_sim_rand_below(sim, c->volume->block_count - count + 1);
	uint64_t choice = pst_sim_rand_below(sim, 100);

	c->sys->ops_left--;
	if (choice < 40) {
		c->sys->reads++;
		op->read = oracle_read_begin(c->volume->oracle, lba, count);
		op_submit(op, PST_REQUEST_READ, lba, count);
	} else if (choice < 92) {
		client_begin_write(c, op, lba, count);
	} else {
		c->sys->flushes++;
		op->flush = oracle_flush_begin(c->volume->oracle);
		op_submit(op, PST_REQUEST_FLUSH, 0, 0);
	}
}

void client_work(struct client *c)
{
	for (uint32_t i = 0; i < CLIENT_DEPTH && c->session && !c->sys->failed; i++)
		if (!c->ops[i].outstanding && c->sys->ops_left && pst_sim_rand_below(c->sys->sim, 3))
			client_begin(c, &c->ops[i]);
	if (c->session && c->sys->ops_left && c->outstanding == 0)
		pst_timer_arm(c->env, &c->timer, pst_env_now_ns(c->env) + 1000000);
}

static void client_next_verify(struct client *c)
{
	struct client_op *op = &c->ops[0];
	uint64_t count = PST_MIN(OP_BLOCKS_MAX, c->volume->block_count - c->verify_lba);

	if (count == 0 || c->sys->failed) {
		c->verifying = false;
		return;
	}
	op->read = oracle_read_begin(c->volume->oracle, c->verify_lba, count);
	op_submit(op, PST_REQUEST_READ, c->verify_lba, count);
	c->verify_lba += count;
	c->sys->verified_blocks += count;
}

void client_verify(struct client *c)
{
	pst_assert(client_idle(c) && c->sys->ops_left == 0);
	c->verifying = true;
	c->verify_lba = 0;
	client_next_verify(c);
}

/* ---- The end ---- */

static void client_on_close(struct pst_session_close_op *op)
{
	struct client *c = pst_container_of(op, struct client, close);

	c->gone = true;
}

void client_stop(struct client *c)
{
	struct pst_ns_stats stats;

	pst_assert(client_idle(c));
	pst_timer_disarm(c->env, &c->timer);
	pst_session_stats(c->session, &stats);
	c->sys->reconnects += stats.reconnects;
	c->close.done = client_on_close;
	pst_session_close(c->session, &c->close);
	c->session = NULL;
}

bool client_gone(const struct client *client)
{
	return client->gone;
}

void client_free(struct client *c)
{
	for (uint32_t i = 0; i < CLIENT_DEPTH; i++)
		free(c->ops[i].buf);
	pst_env_free(c->env);
	free(c);
}

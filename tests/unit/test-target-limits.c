/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The limits of the target, and peers that are slow, silent, greedy, or gone: what they get, what others see of it, and
 * that nothing of theirs is left. Black box, in the simulator.
 */
#include "target-rig.h"

#include <stdio.h>

#define OTHER_NQN "nqn.2026-01.example:other"

/* ---- What was logged ---- */

struct log {
	FILE *file;
	char *text;
	size_t bytes;
};

static void log_begin(struct log *log, struct rig *rig)
{
	log->file = open_memstream(&log->text, &log->bytes);
	assert_non_null(log->file);
	pst_sim_set_trace(rig->sim, log->file);
}

/* How often @what stands in it. */
static unsigned log_count(struct log *log, const char *what)
{
	unsigned count = 0;

	fflush(log->file);
	for (const char *at = log->text; (at = strstr(at, what)) != NULL; at++)
		count++;
	return count;
}

static void log_end(struct log *log, struct rig *rig)
{
	pst_sim_set_trace(rig->sim, NULL);
	fclose(log->file);
	free(log->text);
}

/* ---- Peers that misbehave ---- */

static void raw_ended(struct pst_stream_op *op)
{
	struct link *l = pst_container_of(op, struct link, recv);

	l->closed = op->err != PST_OK || op->done_bytes == 0;
}

/* A connection that hears when it is closed, and says nothing. */
static void dial_silent(struct rig *rig, struct link *l)
{
	static uint8_t in[512];

	link_dial(rig, l);
	l->recv_iov[0] = (struct iovec){ in, sizeof(in) };
	l->recv = (struct pst_stream_op){ .iov = l->recv_iov, .iov_count = 1, .done = raw_ended };
	pst_stream_recv(l->stream, &l->recv);
	pst_sim_run_for(rig->sim, RIG_SECOND / 1000);
}

static void raw_sent(struct pst_stream_op *op)
{
	pst_container_of(op, struct link, send)->sending = false;
}

static void send_raw(struct link *l, void *bytes, size_t len)
{
	if (l->sending || l->closed)
		return;
	l->send_iov[0] = (struct iovec){ bytes, len };
	l->send = (struct pst_stream_op){ .iov = l->send_iov, .iov_count = 1, .done = raw_sent };
	l->sending = true;
	pst_stream_send(l->stream, &l->send);
}

static uint16_t connect_named(struct rig *rig, struct link *l, const char *hostnqn)
{
	struct nvmf_connect_cmd cmd;
	struct nvmf_connect_data data;

	link_open(rig, l, false);
	connect_fill(&cmd, &data, RIG_NQN, 0, 0xffff, 0);
	memset(data.hostnqn, 0, sizeof(data.hostnqn));
	memcpy(data.hostnqn, hostnqn, strlen(hostnqn));
	return command(l, (void *)&cmd, PST_CONN_DATA_OUT, &data, sizeof(data), NULL);
}

static void served(struct host *h)
{
	static uint8_t block[4096];
	struct nvme_sqe sqe = sqe_io(NVME_CMD_READ, 0, 1);

	assert_int_equal(command(&h->io, &sqe, PST_CONN_DATA_IN, block, sizeof(block), NULL), 0);
}

/* ---- Tests ---- */

/* Limits are set by name; a wrong name, a number out of range, and what does not fit together are told in words. */
static void limits_have_names_and_ranges(void **state)
{
	struct pst_target_config config = { 0 };
	char why[PST_LIMIT_WHY_BYTES] = "";
	size_t count;
	const struct pst_limit *limits = pst_target_limits(&count);

	(void)state;
	assert_int_equal(pst_limit_set(limits, count, &config, "auth_max", 7, why), PST_OK);
	assert_int_equal(pst_limit_set(limits, count, &config, "buffer_bytes_max", 8u << 20, why), PST_OK);
	assert_int_equal(config.auth_max, 7);
	assert_int_equal(config.buffer_bytes_max, 8u << 20);
	assert_int_equal(pst_limit_set(limits, count, &config, "registrants_max", 57, why), PST_E_RANGE);
	assert_string_equal(why, "registrants_max is from 1 to 56, not 57");
	assert_int_equal(config.registrants_max, 0);
	assert_int_equal(pst_limit_set(limits, count, &config, "auth", 7, why), PST_E_NOTFOUND);
	assert_int_equal(pst_target_config_complete(&config, why), PST_OK);
	assert_int_equal(config.connections_max, 1024);
	assert_int_equal(config.auth_max, 7);
	config.transfer_bytes_max = 12288;
	assert_int_equal(pst_target_config_complete(&config, why), PST_E_INVAL);
	assert_non_null(strstr(why, "transfer_bytes_max"));
	config.transfer_bytes_max = 4u << 20;
	assert_int_equal(pst_target_config_complete(&config, why), PST_E_INVAL);
	assert_non_null(strstr(why, "buffer_bytes_max"));
}

/* Above its limit a host is told to try again, and the log names it; another host is not concerned. */
static void connections_of_a_host_are_limited(void **state)
{
	struct link own[3], other;
	struct rig rig;
	struct log log;

	(void)state;
	rig_new(&rig, &(struct rig_options){ .shards = 2, .target.connections_per_host_max = 2 });
	log_begin(&log, &rig);
	assert_int_equal(connect_named(&rig, &own[0], RIG_HOSTNQN), 0);
	assert_int_equal(connect_named(&rig, &own[1], RIG_HOSTNQN), 0);
	assert_int_equal(connect_named(&rig, &own[2], RIG_HOSTNQN), NVMF_CONTROLLER_BUSY);
	assert_int_equal(log_count(&log, "limit=connections_per_host_max value=2 host=" RIG_HOSTNQN " peer="), 1);
	assert_int_equal(connect_named(&rig, &other, OTHER_NQN), 0);
	link_close(&own[0]);
	pst_sim_run_for(rig.sim, RIG_SECOND);
	assert_int_equal(link_connect(&own[2], RIG_NQN, 0, 0xffff, 0, NULL), 0); /* on the same connection */
	link_close(&own[1]);
	link_close(&own[2]);
	link_close(&other);
	log_end(&log, &rig);
	rig_free(&rig);
}

/* Connections that say nothing take a part of the places only, and not for long; who has connected is not counted. */
static void silent_connections_leave_room(void **state)
{
	struct link silent[3], more, live;
	struct rig rig;
	struct log log;

	(void)state;
	rig_new(&rig,
		&(struct rig_options){ .target = { .half_open_per_address_max = 3, .connect_timeout_ms = 2000 } });
	log_begin(&log, &rig);
	assert_int_equal(connect_named(&rig, &live, RIG_HOSTNQN), 0);
	for (unsigned i = 0; i < 3; i++) {
		dial_silent(&rig, &silent[i]);
		assert_false(silent[i].closed);
	}
	dial_silent(&rig, &more);
	assert_true(more.closed);
	assert_int_equal(log_count(&log, "connection_refused limit=half_open_per_address_max peer=10.0.0.2:"), 1);
	link_close(&more);
	pst_sim_run_for(rig.sim, 3 * RIG_SECOND);
	assert_true(silent[0].closed && silent[1].closed && silent[2].closed);
	assert_false(live.closed);
	assert_int_equal(connect_named(&rig, &more, OTHER_NQN), 0);
	for (unsigned i = 0; i < 3; i++)
		link_close(&silent[i]);
	link_close(&more);
	link_close(&live);
	log_end(&log, &rig);
	rig_free(&rig);
}

/* From many addresses they are limited in all. */
static void silent_connections_are_limited_in_all(void **state)
{
	struct link silent[2], more;
	struct rig rig;
	struct log log;

	(void)state;
	rig_new(&rig, &(struct rig_options){ .target.half_open_max = 2 });
	log_begin(&log, &rig);
	dial_silent(&rig, &silent[0]);
	dial_silent(&rig, &silent[1]);
	dial_silent(&rig, &more);
	assert_true(more.closed);
	assert_int_equal(log_count(&log, "connection_refused limit=half_open_max "), 1);
	for (unsigned i = 0; i < 2; i++)
		link_close(&silent[i]);
	link_close(&more);
	log_end(&log, &rig);
	rig_free(&rig);
}

/* A flood is refused beyond the rate, and does not flood the log; time brings room again. */
static void floods_are_refused(void **state)
{
	struct link l;
	struct host bystander;
	unsigned refused = 0;
	struct rig rig;
	struct log log;

	(void)state;
	rig_new(&rig, &(struct rig_options){ .target = { .connections_max = 20, .accepts_per_s_max = 10 } });
	log_begin(&log, &rig);
	host_connect(&rig, &bystander, false, 0);
	for (unsigned i = 0; i < 200; i++) {
		dial_silent(&rig, &l);
		refused += l.closed;
		link_close(&l);
	}
	assert_in_range(refused, 170, 185);
	served(&bystander);
	assert_in_range(log_count(&log, "connection_refused limit=accepts_per_s_max "), 1, 2);
	pst_sim_run_for(rig.sim, RIG_SECOND);
	dial_silent(&rig, &l);
	assert_false(l.closed);
	link_close(&l);
	host_close(&bystander);
	log_end(&log, &rig);
	rig_free(&rig);
}

/* A peer that says everything right, one byte at a time, has no more time for it than any other. */
static void slow_peers_do_not_last(void **state)
{
	uint8_t icreq[128] = { NVME_TCP_ICREQ, 0, 128, 0, 128 };
	struct link l;
	struct rig rig;

	(void)state;
	rig_new(&rig, &(struct rig_options){ .target.connect_timeout_ms = 3000 });
	dial_silent(&rig, &l);
	for (unsigned i = 0; i < 100 && !l.closed; i++) {
		assert_true(i < 40);
		send_raw(&l, &icreq[i], 1);
		pst_sim_run_for(rig.sim, RIG_SECOND / 10);
	}
	assert_true(l.closed);
	link_close(&l);
	/* The same after ICReq. */
	dial_silent(&rig, &l);
	send_raw(&l, icreq, sizeof(icreq));
	pst_sim_run_for(rig.sim, 4 * RIG_SECOND);
	pst_stream_recv(l.stream, &l.recv); /* the answer to ICReq came first */
	pst_sim_run_for(rig.sim, RIG_SECOND / 10);
	assert_true(l.closed);
	link_close(&l);
	rig_free(&rig);
}

/* A host that asks for much and takes nothing holds its share of buffers, no more, and for stall_timeout_ms at most. */
static void who_does_not_read_is_bounded(void **state)
{
	static uint8_t memory[31][65536];
	struct nvme_sqe sqe = sqe_io(NVME_CMD_READ, 0, 16);
	struct host greedy, bystander;
	struct call calls[31];
	struct rig rig;
	struct log log;

	(void)state;
	rig_new(&rig,
		&(struct rig_options){
		    .target = { .stall_timeout_ms = 2000, .transfer_bytes_max = 65536, .buffer_bytes_max = 8 << 16 } });
	host_connect_sized(&rig, &greedy, false, 0, 31);
	host_connect_as(&rig, &bystander, false, 0, 31, 8);
	log_begin(&log, &rig);
	for (unsigned i = 0; i < 31; i++)
		call_start(&greedy.io, &calls[i], &sqe, PST_CONN_DATA_IN, memory[i], sizeof(memory[i]));
	while (greedy.io.sending)
		assert_true(pst_sim_step(rig.sim));
	greedy.io.closed = true; /* it does not read on */
	for (unsigned i = 0; i < 15; i++) {
		served(&bystander);
		pst_sim_run_for(rig.sim, RIG_SECOND / 10);
	}
	assert_int_equal(log_count(&log, "connection_closed"), 0);
	pst_sim_run_for(rig.sim, 2 * RIG_SECOND);
	assert_int_equal(log_count(&log, "the host does not take what it asked for"), 1);
	served(&bystander);
	log_end(&log, &rig);
	host_close(&greedy);
	host_close(&bystander);
	rig_free(&rig);
}

/* A host that promises data and does not send it loses that connection, and its buffers come back. */
static void who_does_not_send_is_bounded(void **state)
{
	static uint8_t memory[65536];
	struct nvme_sqe sqe = sqe_io(NVME_CMD_WRITE, 0, 16);
	struct host liar, bystander;
	struct call calls[8];
	struct rig rig;

	(void)state;
	rig_new(&rig,
		&(struct rig_options){
		    .target = { .stall_timeout_ms = 2000, .transfer_bytes_max = 65536, .buffer_bytes_max = 8 << 16 } });
	host_connect_sized(&rig, &liar, false, 0, 31);
	host_connect_as(&rig, &bystander, false, 0, 31, 8);
	for (unsigned i = 0; i < 8; i++)
		call_start(&liar.io, &calls[i], &sqe, PST_CONN_DATA_OUT, memory, sizeof(memory));
	while (liar.io.sending) /* until its commands are out; R2Ts come later */
		assert_true(pst_sim_step(rig.sim));
	liar.io.sending = true;
	for (unsigned i = 0; i < 15; i++) {
		served(&bystander);
		pst_sim_run_for(rig.sim, RIG_SECOND / 10);
	}
	assert_false(liar.io.closed);
	pst_sim_run_for(rig.sim, 2 * RIG_SECOND);
	assert_true(liar.io.closed);
	liar.io.sending = false;
	served(&bystander);
	host_close(&liar);
	host_close(&bystander);
	rig_free(&rig);
}

static void trickled(struct pst_stream_op *op)
{
	struct link *l = pst_container_of(op, struct link, send);

	if (op->err == PST_OK)
		pst_conn_sent(l->conn, op->done_bytes);
	l->send.done = NULL; /* l->sending stays: nothing else is sent */
}

/* A few bytes of what the host has to say. */
static void trickle(struct link *l)
{
	if (l->send.done != NULL || l->closed || pst_conn_output(l->conn, l->send_iov, 8) == 0)
		return;
	l->send_iov[0].iov_len = PST_MIN(l->send_iov[0].iov_len, (size_t)100);
	l->send = (struct pst_stream_op){ .iov = l->send_iov, .iov_count = 1, .done = trickled };
	pst_stream_send(l->stream, &l->send);
}

/* Data that comes, but so slowly that its buffers would be kept for long, ends its connection as well. */
static void who_trickles_is_bounded(void **state)
{
	static uint8_t memory[65536];
	struct nvme_sqe sqe = sqe_io(NVME_CMD_WRITE, 0, 16);
	struct host slow, bystander;
	struct call calls[8];
	unsigned tenths;
	struct rig rig;

	(void)state;
	rig_new(&rig, &(struct rig_options){ .target = { .stall_timeout_ms = 2000,
							 .data_timeout_ms = 5000,
							 .transfer_bytes_max = 65536,
							 .buffer_bytes_max = 8 << 16 } });
	host_connect_sized(&rig, &slow, false, 0, 31);
	host_connect_as(&rig, &bystander, false, 0, 31, 8);
	for (unsigned i = 0; i < 8; i++)
		call_start(&slow.io, &calls[i], &sqe, PST_CONN_DATA_OUT, memory, sizeof(memory));
	while (slow.io.sending)
		assert_true(pst_sim_step(rig.sim));
	slow.io.sending = true;
	slow.io.send.done = NULL;
	for (tenths = 0; tenths < 100 && !slow.io.closed; tenths++) {
		trickle(&slow.io);
		served(&bystander);
		pst_sim_run_for(rig.sim, RIG_SECOND / 10);
	}
	assert_in_range(tenths, 45, 65);
	slow.io.sending = false;
	host_close(&slow);
	host_close(&bystander);
	rig_free(&rig);
}

/* Commands of all kinds, under way at once. */
static void everything(struct host *h, struct call calls[8], uint8_t *memory)
{
	static const struct {
		uint8_t opcode, flags;
		uint32_t blocks;
		enum pst_conn_dir dir;
	} kinds[8] = {
		{ NVME_CMD_WRITE, 0, 16, PST_CONN_DATA_OUT },      { NVME_CMD_READ, 0, 16, PST_CONN_DATA_IN },
		{ NVME_CMD_COMPARE, 1, 1, PST_CONN_DATA_OUT },     { NVME_CMD_WRITE, 2, 1, PST_CONN_DATA_OUT },
		{ NVME_CMD_VERIFY, 0, 64, PST_CONN_NO_DATA },      { NVME_CMD_COMPARE, 0, 16, PST_CONN_DATA_OUT },
		{ NVME_CMD_WRITE_ZEROES, 0, 9, PST_CONN_NO_DATA }, { NVME_CMD_WRITE, 0, 1, PST_CONN_DATA_OUT },
	};

	for (unsigned i = 0; i < 8; i++) {
		struct nvme_sqe sqe = sqe_io(kinds[i].opcode, 0, kinds[i].blocks);

		sqe.flags = kinds[i].flags;
		call_start(&h->io, &calls[i], &sqe, kinds[i].dir, memory + 65536 * i,
			   kinds[i].dir == PST_CONN_NO_DATA ? 0 : kinds[i].blocks * 4096);
	}
}

/*
 * Connections that break at any moment of their life, with everything under way, leave nothing: the places of
 * connections_max are free again, no command waits in the flow, and the target stops, which asserts the rest.
 */
static void resets_leave_nothing(void **state)
{
	uint8_t *memory = calloc(8, 65536);

	(void)state;
	for (unsigned kind = 0; kind < 4; kind++) {
		struct pst_qos_stats stats;
		struct rig rig;

		rig_new(&rig,
			&(struct rig_options){ .shards = 1 + (kind & 1),
					       .volume_shard = kind & 1,
					       .qos = true,
					       .policy.limit_iops = kind & 2 ? 400 : 0,
					       .target = { .connections_max = 2, .accepts_per_s_max = 1000000 } });
		for (unsigned moment = 0; moment < 60; moment++) {
			struct call calls[8], connect;
			struct nvmf_connect_cmd cmd;
			struct nvmf_connect_data data;
			struct host h;

			/* First in the middle of Connect. */
			link_open(&rig, &h.io, kind & 1);
			connect_fill(&cmd, &data, RIG_NQN, 0, 0xffff, 0);
			call_start(&h.io, &connect, (void *)&cmd, PST_CONN_DATA_OUT, &data, sizeof(data));
			pst_sim_run_for(rig.sim, moment * 10000);
			link_close(&h.io);
			pst_sim_run_for(rig.sim, 10000000);
			host_connect(&rig, &h, kind & 1, 0);
			everything(&h, calls, memory);
			pst_sim_run_for(rig.sim, moment * 20000);
			if (moment & 1)
				link_close(&h.admin); /* the association goes first */
			link_close(&h.io);
			if (!(moment & 1))
				link_close(&h.admin);
			pst_sim_run_for(rig.sim, 100000000);
			pst_qos_flow_stats(rig.flow, &stats);
			assert_int_equal(stats.waiting_ops, 0);
			assert_int_equal(pst_subsystem_host_count(rig.subsystem), 0);
		}
		rig_free(&rig);
	}
	free(memory);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(limits_have_names_and_ranges),
		cmocka_unit_test(connections_of_a_host_are_limited),
		cmocka_unit_test(silent_connections_leave_room),
		cmocka_unit_test(silent_connections_are_limited_in_all),
		cmocka_unit_test(floods_are_refused),
		cmocka_unit_test(slow_peers_do_not_last),
		cmocka_unit_test(who_does_not_read_is_bounded),
		cmocka_unit_test(who_does_not_send_is_bounded),
		cmocka_unit_test(who_trickles_is_bounded),
		cmocka_unit_test(resets_leave_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "conn-pair.h"

#include "base/le.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

static void fill(uint8_t *bytes, size_t len, uint64_t seed)
{
	struct pst_prng prng;

	pst_prng_init(&prng, seed);
	for (size_t i = 0; i < len; i++)
		bytes[i] = (uint8_t)pst_prng_next(&prng);
}

static uint16_t response_status(const struct pair *p)
{
	return nvme_get16(p->last_response.cqe.status) >> 1;
}

/* Writes and reads @len bytes through scattered buffers and compares. */
static void exchange(struct pair *p, uint32_t at, uint32_t len, uint64_t seed)
{
	uint8_t *out = malloc(len + 100), *in = calloc(1, len + 100);
	struct iovec out_iov[3] = { { out, 50 }, { NULL, 0 }, { out + 50, len + 50 } };
	struct iovec in_iov[2] = { { in, 70 }, { in + 70, len + 30 } };
	unsigned before = p->responses;

	fill(out, len + 100, seed);
	assert_non_null(pair_submit(p, NVME_CMD_WRITE, at, out_iov, 3, 40, len));
	pair_run(p);
	assert_int_equal(p->responses, before + 1);
	assert_int_equal(p->last_response.err, PST_OK);
	assert_int_equal(response_status(p), 0);
	assert_memory_equal(p->device + at, out + 40, len);
	assert_non_null(pair_submit(p, NVME_CMD_READ, at, in_iov, 2, 60, len));
	pair_run(p);
	assert_int_equal(p->responses, before + 2);
	assert_int_equal(p->last_response.err, PST_OK);
	assert_int_equal(p->last_response.cmd->data_bytes, len);
	assert_memory_equal(in + 60, out + 40, len);
	free(out);
	free(in);
}

/* Every combination of digests, padding, SUCCESS flag and splits carries data both ways unchanged. */
static void data_survives_every_split(void **state)
{
	static const size_t chunks[] = { 1, 2, 7, 23, 71, 129, 4096, 0 };

	(void)state;
	for (unsigned mode = 0; mode < 64; mode++) {
		struct pair_config c = {
			.header_digest = mode & 1,
			.data_digest = mode & 2,
			.success = mode & 4,
			.host_align = mode & 8 ? 31 : 0,
			.target_align = mode & 16 ? 5 : 0,
			.incapsule_bytes = 8192,
			.maxh2cdata = 4096,
			.iov_max = mode & 32 ? 1 : 16,
			.chunk = chunks[mode % PST_ARRAY_COUNT(chunks)],
		};
		struct pair *p = pair_new(&c);

		if (mode % 3 == 0) {
			pst_conn_set_output_max(p->host, 1 + mode);
			pst_conn_set_output_max(p->target, 5000);
			pst_conn_set_input_max(p->host, 5000);
			pst_conn_set_input_max(p->target, 1 + mode);
		}
		pair_run(p);
		assert_int_equal(p->host_ready, 1);
		assert_int_equal(p->target_ready, 1);
		exchange(p, 0, 1, mode);
		exchange(p, 4096, 512, mode + 1);
		exchange(p, 8192, 8192, mode + 2);  /* the longest in a capsule */
		exchange(p, 16384, 8193, mode + 3); /* three R2Ts */
		if (c.chunk == 0 || c.chunk > 100)
			exchange(p, 65536, 200000, mode + 4);
		pair_free(p);
	}
}

/* Many commands at once, answered in the order of their arrival, fill the queue and empty it. */
static void a_full_queue_drains(void **state)
{
	struct pair_config c = { .incapsule_bytes = 4096, .incapsule_buffers = 3, .data_digest = true };
	struct pair *p = pair_new(&c);
	static uint8_t bufs[PAIR_COMMANDS][4096];
	static struct iovec iovs[PAIR_COMMANDS];

	(void)state;
	pair_run(p);
	for (unsigned round = 0; round < 5; round++) {
		for (unsigned i = 0; i < PAIR_COMMANDS; i++) {
			fill(bufs[i], sizeof(bufs[i]), round * 100 + i);
			iovs[i] = (struct iovec){ bufs[i], sizeof(bufs[i]) };
			assert_non_null(pair_submit(p, NVME_CMD_WRITE, i * 4096, &iovs[i], 1, 0, 4096));
		}
		assert_null(pair_submit(p, NVME_CMD_FLUSH, 0, NULL, 0, 0, 0));
		pair_run(p);
		assert_int_equal(p->responses, (round + 1) * PAIR_COMMANDS);
		assert_memory_equal(p->device, bufs, sizeof(bufs));
		assert_int_equal(pst_conn_busy(p->host), 0);
		assert_int_equal(pst_conn_busy(p->target), 0);
	}
	pair_free(p);
}

/* With all in-capsule buffers taken the socket is not read; answers make room again. */
static void exhausted_buffers_stop_reading(void **state)
{
	struct pair_config c = { .incapsule_bytes = 4096, .incapsule_buffers = 2 };
	struct pair *p = pair_new(&c);
	struct iovec iov[2];
	uint8_t buf[4096] = { 1 };
	struct iovec data = { buf, sizeof(buf) };

	(void)state;
	pair_run(p);
	p->hold_answers = true;
	for (unsigned i = 0; i < 4; i++)
		assert_non_null(pair_submit(p, NVME_CMD_WRITE, 0, &data, 1, 0, 4096));
	pair_run(p);
	assert_int_equal(p->held_count, 2);
	assert_int_equal(pst_conn_want(p->target, iov, 2), 0);
	p->hold_answers = false;
	pair_answer(p, p->held[0], 0);
	pair_answer(p, p->held[1], 0);
	p->held_count = 0;
	pair_run(p);
	assert_int_equal(p->responses, 4);
	pair_free(p);
}

static bool is_held(const struct pair *p, uint32_t at)
{
	for (unsigned k = 0; k < p->held_count; k++)
		if (nvme_get32(p->held[k]->sqe.cdw10) == at)
			return true;
	return false;
}

/*
 * Data of writes that stays where it was received is the same however long its command is kept, in whatever order
 * commands end, and whatever comes in meanwhile; a wrong digest is still found, and the stages never run out.
 */
static void data_in_place_stays_until_the_end(void **state)
{
	enum { BYTES = 8192 };
	static const size_t chunks[] = { 0, 0, 0, 70000, 9000, 4200, 129, 1 };
	static uint8_t bufs[PAIR_COMMANDS][BYTES];
	static struct iovec iovs[PAIR_COMMANDS];
	unsigned in_place = 0;

	(void)state;
	for (unsigned mode = 0; mode < 32; mode++) {
		struct pair_config c = { .header_digest = mode & 1,
					 .data_digest = mode & 2,
					 .host_align = mode & 4 ? 31 : 0,
					 .incapsule_bytes = BYTES,
					 .chunk = chunks[mode / 4] };
		struct pair *p = pair_new(&c);
		unsigned sent = 0;

		pair_run(p);
		pst_conn_set_in_place(p->target);
		p->hold_answers = true;
		while (sent < 400) {
			unsigned keep = (unsigned)pst_prng_below(&p->prng, PAIR_COMMANDS);

			for (unsigned n = 0; pst_conn_busy(p->host) < PAIR_COMMANDS && n < 9; n++, sent++) {
				unsigned i = sent % PAIR_COMMANDS;
				uint32_t len = 4 * (1 + (uint32_t)pst_prng_below(&p->prng, BYTES / 4));

				if (is_held(p, i))
					break; /* its buffer is in use */
				fill(bufs[i], len, sent);
				iovs[i] = (struct iovec){ bufs[i], len };
				assert_non_null(pair_submit(p, NVME_CMD_WRITE, i, &iovs[i], 1, 0, len));
			}
			pair_run(p);
			for (unsigned k = 0; k < p->held_count; k++) {
				const struct pst_conn_cmd *cmd = p->held[k];

				assert_int_equal(cmd->data_bytes, nvme_get32(cmd->sqe.cdw12));
				assert_memory_equal(cmd->data, bufs[nvme_get32(cmd->sqe.cdw10)], cmd->data_bytes);
				in_place += ((uintptr_t)cmd->data & 4095) != 0;
			}
			while (p->held_count > keep) { /* any of them, but the oldest before long */
				unsigned k = (unsigned)pst_prng_below(&p->prng, p->held_count);
				struct pst_conn_cmd *cmd = p->held[k];

				memmove(&p->held[k], &p->held[k + 1], (p->held_count - k - 1) * sizeof(p->held[0]));
				p->held_count--;
				pst_conn_answer(p->target, cmd, &(struct pst_conn_result){ 0 }, NULL, 0, 0);
			}
			pair_run(p);
		}
		pair_free(p);
	}
	assert_true(in_place > 1000);
}

/*
 * The capsules that have come are seen ahead of their events, in order, with and without data in them and digests;
 * never more than asked for, and none that has not been received, to its data.
 */
static void commands_are_seen_ahead(void **state)
{
	enum { COMMANDS = 12, LEN = 512 };
	static uint8_t buf[LEN];
	struct iovec iov = { buf, LEN };

	(void)state;
	for (unsigned mode = 0; mode < 4; mode++) {
		struct pair_config c = { .header_digest = mode & 1, .data_digest = mode & 2, .incapsule_bytes = 4096 };
		struct pair *p = pair_new(&c);
		const struct nvme_sqe *ahead[COMMANDS + 1];
		struct pst_conn_event ev;

		assert_int_equal(pst_conn_peek(p->target, ahead, COMMANDS), 0); /* ICReq is no command */
		pair_run(p);
		p->hold_answers = true;
		for (unsigned i = 0; i < COMMANDS; i++)
			assert_non_null(
			    pair_submit(p, i % 3 == 1 ? NVME_CMD_WRITE : NVME_CMD_READ, i, &iov, 1, 0, LEN));
		while (pair_output(p, p->host, &p->to_target))
			;
		p->to_target.to -= 10; /* of the last capsule */
		while (pair_input(p, p->target, &p->to_target))
			;
		assert_int_equal(pst_conn_peek(p->target, ahead, 3), 3);
		for (unsigned i = 0; i < COMMANDS - 1; i++) {
			assert_int_equal(pst_conn_peek(p->target, ahead, COMMANDS + 1), COMMANDS - 1 - i);
			for (unsigned k = 0; k < COMMANDS - 1 - i; k++) {
				assert_int_equal(ahead[k]->opcode, (i + k) % 3 == 1 ? NVME_CMD_WRITE : NVME_CMD_READ);
				assert_int_equal(nvme_get32(ahead[k]->cdw10), i + k);
			}
			assert_true(pst_conn_next_event(p->target, &ev));
			assert_int_equal(ev.kind, PST_CONN_COMMAND);
			assert_int_equal(nvme_get32(ev.cmd->sqe.cdw10), i);
			p->held[p->held_count++] = ev.cmd;
		}
		assert_int_equal(pst_conn_peek(p->target, ahead, COMMANDS), 0);
		assert_false(pst_conn_next_event(p->target, &ev));
		pair_free(p);
	}
}

/* What is ahead may be anything, of any length, with any bytes behind it: it is looked at, and no further. */
static void garbage_ahead_is_no_command(void **state)
{
	struct pair_config c = { .incapsule_bytes = 4096 };
	struct pst_prng prng;

	(void)state;
	pst_prng_init(&prng, 3);
	for (unsigned round = 0; round < 2000; round++) {
		struct pair *p = pair_new(&c);
		const struct nvme_sqe *ahead[8];
		uint8_t bytes[400];
		size_t received = 1 + pst_prng_below(&prng, sizeof(bytes));
		unsigned seen;

		pair_run(p);
		for (size_t i = 0; i < sizeof(bytes); i++)
			bytes[i] = (uint8_t)pst_prng_below(&prng, 256);
		bytes[0] = NVME_TCP_CMD;
		pst_put_le32(bytes + 4, (uint32_t)pst_prng_below(&prng, round % 2 ? 200 : UINT32_MAX));
		pipe_put(&p->to_target, bytes, received);
		while (pair_input(p, p->target, &p->to_target))
			;
		seen = pst_conn_peek(p->target, ahead, 8);
		assert_int_equal(seen > 0, received >= sizeof(struct nvme_tcp_cmd));
		assert_true(seen <= received / sizeof(struct nvme_tcp_cmd));
		pair_free(p);
	}
}

/* Flips one bit of the next bytes on the way after @skip bytes have passed. */
static void damage(struct pipe *pipe, size_t skip)
{
	pipe->bytes[pipe->from + skip] ^= 0x10;
}

/*
 * So may data that was pulled, when it has come as a whole; in parts, or in more than one PDU, it goes to its buffer.
 * Either way it is the same, and damage is found.
 */
static void pulled_data_may_stay_in_place(void **state)
{
	static const size_t chunks[] = { 0, 100000, 30000, 4200, 129 };
	static uint8_t buf[30000];
	struct iovec iov = { buf, sizeof(buf) };
	unsigned in_place = 0;

	(void)state;
	for (unsigned mode = 0; mode < 40; mode++) {
		struct pair_config c = { .header_digest = mode & 1,
					 .data_digest = mode & 2,
					 .host_align = mode & 4 ? 31 : 0,
					 .chunk = chunks[mode / 8] };
		struct pair *p = pair_new(&c);

		pair_run(p);
		pst_conn_set_in_place(p->target);
		for (uint32_t i = 0; i < 40; i++)
			exchange(p, i * 100, i % 8 == 0 ? 70000 : 9000 + 500 * i, mode + i); /* 70000: two R2Ts */
		in_place += p->pulled_in_place;
		if (c.data_digest && c.chunk == 0) {
			assert_non_null(pair_submit(p, NVME_CMD_WRITE, 0, &iov, 1, 0, sizeof(buf)));
			pair_output(p, p->host, &p->to_target);
			pair_input(p, p->target, &p->to_target);
			pair_events(p);
			pair_output(p, p->target, &p->to_host); /* R2T */
			pair_input(p, p->host, &p->to_host);
			pair_events(p);
			pair_output(p, p->host, &p->to_target);
			damage(&p->to_target, 1000);
			pair_run(p);
			assert_int_equal(response_status(p), NVME_TRANSIENT_TRANSPORT_ERROR);
		}
		pair_free(p);
	}
	assert_in_range(in_place, 300, 40 * 35);
}

/* With SQ flow control off, SUCCESS stands in for the response, but never for an error or a command without data. */
static void success_flag_replaces_responses(void **state)
{
	struct pair_config with = { .success = true }, without = { 0 };
	uint64_t bytes[2];
	uint8_t buf[512];
	struct iovec iov = { buf, sizeof(buf) };

	(void)state;
	for (unsigned i = 0; i < 2; i++) {
		struct pair *p = pair_new(i ? &with : &without);

		pair_run(p);
		bytes[i] = p->to_host.total;
		assert_non_null(pair_submit(p, NVME_CMD_READ, 0, &iov, 1, 0, 512));
		pair_run(p);
		assert_int_equal(p->responses, 1);
		bytes[i] = p->to_host.total - bytes[i];
		p->hold_answers = true;
		assert_non_null(pair_submit(p, NVME_CMD_READ, 0, &iov, 1, 0, 512));
		pair_run(p);
		pair_answer(p, p->held[0], NVME_UNRECOVERED_READ_ERROR | NVME_STATUS_DNR);
		p->held_count = 0;
		pair_run(p);
		assert_int_equal(response_status(p), NVME_UNRECOVERED_READ_ERROR | NVME_STATUS_DNR);
		assert_int_equal(nvme_get16(p->last_response.cqe.sqhd), i ? 0 : 2);
		pair_free(p);
	}
	assert_int_equal(bytes[0], 24 + 512 + 24);
	assert_int_equal(bytes[1], 24 + 512);
}

/* Damaged data fails its own command with a transport error, whichever way it went; the queue goes on. */
static void bad_data_digest_fails_one_command(void **state)
{
	static const struct {
		uint8_t opcode;
		uint32_t len;
	} cases[] = { { NVME_CMD_WRITE, 512 }, { NVME_CMD_WRITE, 20000 }, { NVME_CMD_READ, 5000 } };
	static uint8_t buf[20000];
	struct iovec iov = { buf, sizeof(buf) };

	(void)state;
	for (unsigned i = 0; i < PST_ARRAY_COUNT(cases); i++) {
		struct pair_config c = { .data_digest = true, .incapsule_bytes = 4096 };
		struct pair *p = pair_new(&c);

		pair_run(p);
		assert_non_null(pair_submit(p, cases[i].opcode, 0, &iov, 1, 0, cases[i].len));
		pair_output(p, p->host, &p->to_target);
		if (cases[i].opcode == NVME_CMD_WRITE && cases[i].len <= 4096) {
			damage(&p->to_target, 72 + 100);
		} else {
			pair_input(p, p->target, &p->to_target);
			pair_events(p);
			pair_output(p, p->target, &p->to_host);
			if (cases[i].opcode == NVME_CMD_READ) {
				damage(&p->to_host, 24 + 100);
			} else {
				pair_input(p, p->host, &p->to_host);
				pair_events(p);
				pair_output(p, p->host, &p->to_target);
				damage(&p->to_target, 24 + 100);
			}
		}
		pair_run(p);
		assert_int_equal(p->responses, 1);
		if (cases[i].opcode == NVME_CMD_READ)
			assert_int_equal(p->last_response.err, PST_E_CHECKSUM);
		else
			assert_int_equal(response_status(p), NVME_TRANSIENT_TRANSPORT_ERROR);
		exchange(p, 0, 5000, 9);
		pair_free(p);
	}
}

/* A damaged header ends the connection with FES 3 and the digest received. */
static void bad_header_digest_ends_the_connection(void **state)
{
	struct pair_config c = { .header_digest = true };
	struct pair *p = pair_new(&c);
	nvme_le32 digest;

	(void)state;
	pair_run(p);
	assert_non_null(pair_submit(p, NVME_CMD_FLUSH, 0, NULL, 0, 0, 0));
	pair_output(p, p->host, &p->to_target);
	damage(&p->to_target, 20);
	memcpy(&digest, p->to_target.bytes + p->to_target.from + 72, 4);
	pair_run(p);
	assert_int_equal(p->target_end.kind, PST_CONN_FAILED);
	assert_int_equal(p->target_end.error.fes, NVME_TCP_FES_HDGST);
	assert_int_equal(p->target_end.error.fei, nvme_get32(digest));
	assert_int_equal(p->host_end.kind, PST_CONN_TERMINATED);
	assert_int_equal(p->host_end.error.fes, NVME_TCP_FES_HDGST);
	assert_int_equal(p->host_end.error.fei, nvme_get32(digest));
	assert_true(pst_conn_finished(p->target));
	assert_true(pst_conn_finished(p->host));
	assert_int_equal(p->responses, 1);
	assert_int_equal(p->last_response.err, PST_E_CLOSED);
	pair_free(p);
}

/* Losing the stream brings every command back, in whatever state it was. */
static void fail_returns_every_command(void **state)
{
	static uint8_t buf[100000];
	struct iovec iov = { buf, sizeof(buf) };

	(void)state;
	for (unsigned steps = 0; steps < 40; steps++) {
		struct pair_config c = { .chunk = 6000, .incapsule_bytes = 4096, .maxh2cdata = 8192 };
		struct pair *p = pair_new(&c);

		pair_run(p);
		assert_non_null(pair_submit(p, NVME_CMD_READ, 0, &iov, 1, 0, 50000));
		assert_non_null(pair_submit(p, NVME_CMD_WRITE, 0, &iov, 1, 0, 4000));
		assert_non_null(pair_submit(p, NVME_CMD_WRITE, 0, &iov, 1, 0, 50000));
		assert_non_null(pair_submit(p, NVME_CMD_FLUSH, 0, NULL, 0, 0, 0));
		for (unsigned i = 0; i < steps; i++) {
			pair_output(p, p->host, &p->to_target);
			pair_output(p, p->target, &p->to_host);
			pair_input(p, p->target, &p->to_target);
			pair_input(p, p->host, &p->to_host);
			pair_events(p);
		}
		pst_conn_fail(p->target);
		pst_conn_fail(p->host);
		pair_events(p);
		assert_int_equal(p->responses, 4);
		assert_int_equal(pst_conn_busy(p->host), 0);
		assert_int_equal(pst_conn_busy(p->target), 0);
		assert_null(pair_submit(p, NVME_CMD_FLUSH, 0, NULL, 0, 0, 0));
		pair_free(p);
	}
}

/* A response that comes while the send of its own command has not been reported yet waits for that. */
static void a_response_waits_for_its_send(void **state)
{
	struct pair_config c = { 0 };
	struct pair *p = pair_new(&c);
	struct iovec iov[16];
	unsigned count;
	size_t sent = 0;

	(void)state;
	pair_run(p);
	assert_non_null(pair_submit(p, NVME_CMD_FLUSH, 0, NULL, 0, 0, 0));
	count = pst_conn_output(p->host, iov, 16);
	for (unsigned i = 0; i < count; i++) {
		pipe_put(&p->to_target, iov[i].iov_base, iov[i].iov_len);
		sent += iov[i].iov_len;
	}
	pair_input(p, p->target, &p->to_target);
	pair_events(p);
	pair_output(p, p->target, &p->to_host);
	pair_input(p, p->host, &p->to_host);
	pair_events(p);
	assert_int_equal(p->responses, 0);
	pst_conn_sent(p->host, sent);
	pair_events(p);
	assert_int_equal(p->responses, 1);
	pair_free(p);
}

/* One output holds no more than it may, and the next one goes on where it ended, in the middle of an entry too. */
static void an_output_is_no_longer_than_allowed(void **state)
{
	struct pair_config c = { 0 };
	struct pair *p = pair_new(&c);
	static uint8_t buf[100000];
	struct iovec data = { buf, sizeof(buf) }, iov[16];
	unsigned outputs = 0;
	size_t all = 0;

	(void)state;
	pair_run(p);
	fill(p->device, sizeof(buf), 1);
	pst_conn_set_output_max(p->target, 4096);
	assert_non_null(pair_submit(p, NVME_CMD_READ, 0, &data, 1, 0, sizeof(buf)));
	pair_output(p, p->host, &p->to_target);
	pair_input(p, p->target, &p->to_target);
	pair_events(p);
	for (unsigned count; (count = pst_conn_output(p->target, iov, 16)) > 0; outputs++) {
		size_t bytes = 0;

		for (unsigned i = 0; i < count; i++) {
			pipe_put(&p->to_host, iov[i].iov_base, iov[i].iov_len);
			bytes += iov[i].iov_len;
		}
		assert_in_range(bytes, 1, 4096);
		pst_conn_sent(p->target, bytes);
		all += bytes;
	}
	assert_int_equal(outputs, pst_div_round_up(all, 4096));
	pair_run(p);
	assert_int_equal(p->responses, 1);
	assert_memory_equal(buf, p->device, sizeof(buf));
	pair_free(p);
}

/* Nor does one want ask for more than it may, of what goes to the owner's buffers and of the rest together. */
static void a_want_is_no_longer_than_allowed(void **state)
{
	struct pair_config c = { .maxh2cdata = 8192 };
	struct pair *p = pair_new(&c);
	static uint8_t buf[100000];
	struct iovec data = { buf, sizeof(buf) }, iov[16];
	unsigned wants = 0;

	(void)state;
	pair_run(p);
	fill(buf, sizeof(buf), 1);
	pst_conn_set_input_max(p->target, 3000);
	assert_non_null(pair_submit(p, NVME_CMD_WRITE, 0, &data, 1, 0, sizeof(buf)));
	while (p->responses == 0) {
		unsigned count = pst_conn_want(p->target, iov, 16);
		size_t bytes = 0;

		for (unsigned i = 0; i < count; i++)
			bytes += iov[i].iov_len;
		assert_in_range(bytes, 1, 3000);
		wants++;
		pair_events(p);
		pair_output(p, p->host, &p->to_target);
		pair_input(p, p->target, &p->to_target);
		pair_events(p);
		pair_output(p, p->target, &p->to_host);
		pair_input(p, p->host, &p->to_host);
	}
	assert_true(wants > sizeof(buf) / 3000);
	assert_memory_equal(buf, p->device, sizeof(buf));
	pair_free(p);
}

/* A configuration out of range is refused. */
static void bad_configurations_are_refused(void **state)
{
	struct pst_conn_config good = { .role = PST_CONN_TARGET, .commands_max = 1, .maxh2cdata = 4096 }, c = good;
	struct pst_conn *conn;

	(void)state;
	c.commands_max = 0;
	assert_int_equal(pst_conn_new(&c, &conn), PST_E_INVAL);
	c = good;
	c.maxh2cdata = 4094;
	assert_int_equal(pst_conn_new(&c, &conn), PST_E_INVAL);
	c = good;
	c.align_code = 32;
	assert_int_equal(pst_conn_new(&c, &conn), PST_E_INVAL);
	assert_int_equal(pst_conn_new(&good, &conn), PST_OK);
	pst_conn_free(conn);
	pst_conn_free(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(data_survives_every_split),
		cmocka_unit_test(a_full_queue_drains),
		cmocka_unit_test(exhausted_buffers_stop_reading),
		cmocka_unit_test(data_in_place_stays_until_the_end),
		cmocka_unit_test(pulled_data_may_stay_in_place),
		cmocka_unit_test(commands_are_seen_ahead),
		cmocka_unit_test(garbage_ahead_is_no_command),
		cmocka_unit_test(success_flag_replaces_responses),
		cmocka_unit_test(bad_data_digest_fails_one_command),
		cmocka_unit_test(bad_header_digest_ends_the_connection),
		cmocka_unit_test(fail_returns_every_command),
		cmocka_unit_test(a_response_waits_for_its_send),
		cmocka_unit_test(an_output_is_no_longer_than_allowed),
		cmocka_unit_test(a_want_is_no_longer_than_allowed),
		cmocka_unit_test(bad_configurations_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

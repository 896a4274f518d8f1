/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Malformed PDUs: each wrong field, sent to an engine in READY (or before), ends the connection with one TermReq that
 * has the right status and offset and carries the header; a TermReq is never answered with a TermReq.
 */
#include "conn-pair.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <cmocka.h>

static void put16(uint8_t *p, uint32_t v)
{
	p[0] = (uint8_t)v;
	p[1] = (uint8_t)(v >> 8);
}

static void put32(uint8_t *p, uint32_t v)
{
	put16(p, v);
	put16(p + 2, v >> 16);
}

/* A header as sound peers send it, without digests. */
static void sound(uint8_t type, uint32_t data_bytes, uint8_t pdu[128])
{
	uint8_t hlen = pst_pdu_kinds[type].hlen;

	memset(pdu, 0, 128);
	pdu[0] = type;
	pdu[2] = hlen;
	pdu[3] = data_bytes ? hlen : 0;
	put32(pdu + 4, hlen + data_bytes);
}

struct change {
	const char *what;
	uint8_t type; /* of the PDU */
	uint32_t data_bytes;
	uint8_t at, bytes; /* the field that is changed */
	uint32_t value;
	uint16_t fes;
	uint32_t fei;
};

/* To a target after ICReq with a command waiting for 8192 bytes of data (MAXH2CDATA 4096, in-capsule 1024). */
static const struct change to_target[] = {
	{ "unknown type", NVME_TCP_CMD, 0, 0, 1, 0x08, 1, 0 },
	{ "type out of the table", NVME_TCP_CMD, 0, 0, 1, 0xff, 1, 0 },
	{ "type of the other direction", NVME_TCP_CMD, 0, 0, 1, NVME_TCP_RESP, 1, 0 },
	{ "second ICReq", NVME_TCP_ICREQ, 0, 8, 2, 0, 2, 0 },
	{ "CapsuleCmd HLEN", NVME_TCP_CMD, 0, 2, 1, 71, 1, 2 },
	{ "CapsuleCmd HDGSTF not agreed", NVME_TCP_CMD, 0, 1, 1, 1, 1, 1 },
	{ "CapsuleCmd DDGSTF not agreed", NVME_TCP_CMD, 512, 1, 1, 2, 1, 1 },
	{ "CapsuleCmd reserved flag", NVME_TCP_CMD, 0, 1, 1, 0x80, 1, 1 },
	{ "CapsuleCmd LAST", NVME_TCP_CMD, 0, 1, 1, 4, 1, 1 },
	{ "CapsuleCmd PLEN short", NVME_TCP_CMD, 0, 4, 4, 71, 1, 4 },
	{ "CapsuleCmd PDO inside of the header", NVME_TCP_CMD, 512, 3, 1, 68, 1, 3 },
	{ "CapsuleCmd PDO not aligned", NVME_TCP_CMD, 512, 3, 1, 74, 1, 3 },
	{ "CapsuleCmd PDO behind the end", NVME_TCP_CMD, 4, 3, 1, 200, 1, 4 },
	{ "CapsuleCmd data too long", NVME_TCP_CMD, 512, 4, 4, 72 + 1025, 5, 0 },
	{ "CapsuleCmd PLEN huge", NVME_TCP_CMD, 512, 4, 4, 0xffffffff, 5, 0 },
	{ "H2CData HLEN", NVME_TCP_H2C_DATA, 4096, 2, 1, 23, 1, 2 },
	{ "H2CData SUCCESS", NVME_TCP_H2C_DATA, 4096, 1, 1, 12, 1, 1 },
	{ "H2CData without data", NVME_TCP_H2C_DATA, 4096, 4, 4, 24, 1, 4 },
	{ "H2CData CCCID", NVME_TCP_H2C_DATA, 4096, 8, 2, 0x7777, 1, 8 },
	{ "H2CData TTAG out of range", NVME_TCP_H2C_DATA, 4096, 10, 2, 0xffff, 1, 10 },
	{ "H2CData TTAG of no command", NVME_TCP_H2C_DATA, 4096, 10, 2, 9, 1, 10 },
	{ "H2CData DATAO behind the R2T", NVME_TCP_H2C_DATA, 4096, 12, 4, 4096, 4, 0 },
	{ "H2CData DATAO wraps", NVME_TCP_H2C_DATA, 4096, 12, 4, 0xffffff00, 4, 0 },
	{ "H2CData DATAL not what PLEN says", NVME_TCP_H2C_DATA, 4096, 16, 4, 4095, 1, 16 },
	{ "H2CData longer than MAXH2CDATA", NVME_TCP_H2C_DATA, 4096, 4, 4, 24 + 4100, 5, 0 },
	{ "H2CData LAST missing at the end", NVME_TCP_H2C_DATA, 4096, 1, 1, 0, 1, 1 },
};

/* To a host after ICResp with a read and a write of 8192 bytes outstanding. */
static const struct change to_host[] = {
	{ "type of the other direction", NVME_TCP_RESP, 0, 0, 1, NVME_TCP_CMD, 1, 0 },
	{ "second ICResp", NVME_TCP_ICRESP, 0, 8, 2, 0, 2, 0 },
	{ "CapsuleResp HLEN", NVME_TCP_RESP, 0, 2, 1, 25, 1, 2 },
	{ "CapsuleResp PLEN", NVME_TCP_RESP, 0, 4, 4, 28, 1, 4 },
	{ "CapsuleResp DDGSTF", NVME_TCP_RESP, 0, 1, 1, 2, 1, 1 },
	{ "CapsuleResp CID", NVME_TCP_RESP, 0, 20, 2, 0x5555, 1, 20 },
	{ "C2HData CCCID", NVME_TCP_C2H_DATA, 8192, 8, 2, 0x5555, 1, 8 },
	{ "C2HData for a write", NVME_TCP_C2H_DATA, 8192, 8, 2, 1, 2, 0 },
	{ "C2HData SUCCESS without LAST", NVME_TCP_C2H_DATA, 8192, 1, 1, 8, 1, 1 },
	{ "C2HData longer than the command", NVME_TCP_C2H_DATA, 8196, 16, 4, 8196, 4, 0 },
	{ "C2HData not in order", NVME_TCP_C2H_DATA, 4096, 12, 4, 4096, 2, 0 },
	{ "C2HData DATAL", NVME_TCP_C2H_DATA, 8192, 16, 4, 1, 1, 16 },
	{ "R2T CCCID", NVME_TCP_R2T, 0, 8, 2, 0x5555, 1, 8 },
	{ "R2T for a read", NVME_TCP_R2T, 0, 8, 2, 0, 1, 8 },
	{ "R2T of nothing", NVME_TCP_R2T, 0, 16, 4, 0, 1, 16 },
	{ "R2T longer than the command", NVME_TCP_R2T, 0, 16, 4, 8193, 4, 0 },
	{ "R2T with a gap", NVME_TCP_R2T, 0, 12, 4, 4, 2, 0 },
};

/* The TermReq at the end of what the engine has sent. */
static void check_term(struct pipe *pipe, const struct change *c, uint8_t type, const uint8_t *header)
{
	uint8_t *end = pipe->bytes + pipe->to, *term = NULL;

	for (size_t back = 24; back <= 152 && back <= pipe->to; back++)
		if (end[-(long)back] == type && end[2 - (long)back] == 24 && end[4 - (long)back] == (uint8_t)back)
			term = end - back;
	if (term == NULL)
		fail_msg("%s: no TermReq was sent", c->what);
	if (term[8] != c->fes || term[10] + 256 * term[11] != (int)(c->fei & 0xffff))
		fail_msg("%s: FES %u FEI %u, not FES %u FEI %u", c->what, term[8], term[10] + 256 * term[11], c->fes,
			 (unsigned)c->fei);
	assert_memory_equal(term + 24, header, 8);
}

static void apply(const struct change *c, uint8_t pdu[128])
{
	for (unsigned i = 0; i < c->bytes; i++)
		pdu[c->at + i] = (uint8_t)(c->value >> 8 * i);
}

static void malformed_to_target(void **state)
{
	struct pair_config config = { .incapsule_bytes = 1024, .maxh2cdata = 4096 };

	(void)state;
	for (unsigned i = 0; i < PST_ARRAY_COUNT(to_target); i++) {
		const struct change *c = &to_target[i];
		struct pair *p = pair_new(&config);
		static uint8_t buf[8192];
		struct iovec iov = { buf, sizeof(buf) };
		uint8_t pdu[128];
		uint16_t cid;

		pair_run(p);
		p->hold_answers = true;
		assert_non_null(pair_submit(p, NVME_CMD_WRITE, 0, &iov, 1, 0, sizeof(buf)));
		pair_output(p, p->host, &p->to_target);
		pair_input(p, p->target, &p->to_target);
		pair_events(p);
		assert_int_equal(p->held_count, 1);
		cid = nvme_get16(p->held[0]->sqe.cid);
		pst_conn_pull(p->target, p->held[0], &iov, 1, sizeof(buf));
		p->held_count = 0; /* it is answered when the pull ends */
		while (pair_output(p, p->target, &p->to_host))
			;
		sound(c->type, c->data_bytes, pdu);
		if (c->type == NVME_TCP_H2C_DATA) {
			pdu[1] = NVME_TCP_F_LAST;
			put16(pdu + 8, cid);
			put16(pdu + 10, p->to_host.bytes[p->to_host.to - 24 + 10]);
			put32(pdu + 16, c->data_bytes);
		}
		apply(c, pdu);
		pipe_put(&p->to_target, pdu, pst_pdu_kinds[c->type].hlen);
		while (pair_input(p, p->target, &p->to_target))
			pair_events(p);
		if (p->target_end.kind != PST_CONN_FAILED)
			fail_msg("%s: was taken", c->what);
		while (pair_output(p, p->target, &p->to_host))
			;
		check_term(&p->to_host, c, NVME_TCP_C2H_TERM, pdu);
		assert_true(pst_conn_finished(p->target));
		pair_free(p);
	}
}

static void malformed_to_host(void **state)
{
	struct pair_config config = { 0 };

	(void)state;
	for (unsigned i = 0; i < PST_ARRAY_COUNT(to_host); i++) {
		const struct change *c = &to_host[i];
		struct pair *p = pair_new(&config);
		static uint8_t buf[8192];
		struct iovec iov = { buf, sizeof(buf) };
		uint8_t pdu[128];

		pair_run(p);
		p->hold_answers = true;
		assert_non_null(pair_submit(p, NVME_CMD_READ, 0, &iov, 1, 0, sizeof(buf)));
		assert_non_null(pair_submit(p, NVME_CMD_WRITE, 0, &iov, 1, 0, sizeof(buf)));
		while (pair_output(p, p->host, &p->to_target))
			;
		sound(c->type, c->data_bytes, pdu);
		if (c->type == NVME_TCP_C2H_DATA) {
			pdu[1] = NVME_TCP_F_LAST;
			put32(pdu + 16, c->data_bytes);
		}
		if (c->type == NVME_TCP_R2T) {
			put16(pdu + 8, 1);
			put32(pdu + 16, 4096);
		}
		apply(c, pdu);
		pipe_put(&p->to_host, pdu, pst_pdu_kinds[c->type].hlen);
		while (pair_input(p, p->host, &p->to_host))
			pair_events(p);
		if (p->host_end.kind != PST_CONN_FAILED)
			fail_msg("%s: was taken", c->what);
		while (pair_output(p, p->host, &p->to_target))
			;
		check_term(&p->to_target, c, NVME_TCP_H2C_TERM, pdu);
		pair_free(p);
	}
}

/* Before ICReq and ICResp: nothing else may come first, and their parameters are checked. */
static void malformed_initialisation(void **state)
{
	static const struct change cases[] = {
		{ "command before ICReq", NVME_TCP_CMD, 0, 8, 1, 0, 2, 0 },
		{ "ICReq PLEN", NVME_TCP_ICREQ, 0, 4, 4, 132, 1, 4 },
		{ "ICReq HLEN", NVME_TCP_ICREQ, 0, 2, 1, 64, 1, 2 },
		{ "ICReq flags", NVME_TCP_ICREQ, 0, 1, 1, 1, 1, 1 },
		{ "ICReq PFV", NVME_TCP_ICREQ, 0, 8, 2, 1, 6, 8 },
		{ "ICReq HPDA", NVME_TCP_ICREQ, 0, 10, 1, 32, 1, 10 },
		{ "ICReq DGST reserved", NVME_TCP_ICREQ, 0, 11, 1, 4, 1, 11 },
		{ "response before ICResp", NVME_TCP_RESP, 0, 8, 1, 0, 2, 0 },
		{ "ICResp PFV", NVME_TCP_ICRESP, 0, 8, 2, 1, 6, 8 },
		{ "ICResp CPDA", NVME_TCP_ICRESP, 0, 10, 1, 32, 1, 10 },
		{ "ICResp digest unasked", NVME_TCP_ICRESP, 0, 11, 1, 1, 1, 11 },
		{ "ICResp MAXH2CDATA small", NVME_TCP_ICRESP, 0, 12, 4, 4092, 1, 12 },
		{ "ICResp MAXH2CDATA odd", NVME_TCP_ICRESP, 0, 12, 4, 4097, 1, 12 },
	};
	struct pair_config config = { 0 };

	(void)state;
	for (unsigned i = 0; i < PST_ARRAY_COUNT(cases); i++) {
		const struct change *c = &cases[i];
		bool host = pst_pdu_kinds[c->type].sender == PST_PDU_FROM_CONTROLLER;
		struct pair *p = pair_new(&config);
		struct pst_conn *conn = host ? p->host : p->target;
		struct pipe *to = host ? &p->to_host : &p->to_target, *from = host ? &p->to_target : &p->to_host;
		uint8_t pdu[128];

		sound(c->type, 0, pdu);
		if (c->type == NVME_TCP_ICRESP)
			put32(pdu + 12, 65536);
		apply(c, pdu);
		pipe_put(to, pdu, pst_pdu_kinds[c->type].hlen);
		while (pair_input(p, conn, to))
			pair_events(p);
		while (pair_output(p, conn, from))
			;
		check_term(from, c, host ? NVME_TCP_H2C_TERM : NVME_TCP_C2H_TERM, pdu);
		assert_int_equal((host ? &p->host_end : &p->target_end)->kind, PST_CONN_FAILED);
		pair_free(p);
	}
}

/* A TermReq, sound or not, is taken note of and not answered. */
static void a_term_is_not_answered(void **state)
{
	struct pair_config config = { 0 };

	(void)state;
	for (unsigned bad = 0; bad < 3; bad++) {
		struct pair *p = pair_new(&config);
		uint8_t pdu[128];
		struct iovec iov[4];

		pair_run(p);
		sound(NVME_TCP_H2C_TERM, 0, pdu);
		pdu[8] = 4;
		if (bad == 1)
			put32(pdu + 4, 153);
		if (bad == 2)
			pdu[2] = 8;
		pipe_put(&p->to_target, pdu, 24);
		while (pair_input(p, p->target, &p->to_target))
			pair_events(p);
		assert_int_equal(p->target_end.kind, PST_CONN_TERMINATED);
		assert_int_equal(p->target_end.error.fes, bad ? 0 : 4);
		assert_int_equal(pst_conn_output(p->target, iov, 4), 0);
		assert_true(pst_conn_finished(p->target));
		pair_free(p);
	}
}

/* Data for which nothing asks any more, after the LAST of it, is out of sequence: at both ends. */
static void nothing_comes_after_the_last(void **state)
{
	static const struct change last = { "data after the last", 0, 0, 0, 0, 0, 2, 0 };
	struct pair_config config = { .incapsule_bytes = 1024, .maxh2cdata = 4096 };
	static uint8_t buf[4096], pdu[24 + 4096];
	struct iovec iov = { buf, sizeof(buf) };

	(void)state;
	for (unsigned host = 0; host < 2; host++) {
		struct pair *p = pair_new(&config);
		struct pst_conn *to = host ? p->host : p->target;
		struct pipe *in = host ? &p->to_host : &p->to_target, *out = host ? &p->to_target : &p->to_host;

		pair_run(p);
		p->hold_answers = true;
		assert_non_null(pair_submit(p, host ? NVME_CMD_READ : NVME_CMD_WRITE, 0, &iov, 1, 0, sizeof(buf)));
		pair_output(p, p->host, &p->to_target);
		pair_input(p, p->target, &p->to_target);
		pair_events(p);
		assert_int_equal(p->held_count, 1);
		sound(host ? NVME_TCP_C2H_DATA : NVME_TCP_H2C_DATA, sizeof(buf), pdu);
		pdu[1] = NVME_TCP_F_LAST;
		put32(pdu + 16, sizeof(buf));
		if (!host) {
			put16(pdu + 8, nvme_get16(p->held[0]->sqe.cid));
			pst_conn_pull(p->target, p->held[0], &iov, 1, sizeof(buf));
			p->held_count = 0; /* it is answered when the pull ends */
			while (pair_output(p, p->target, out))
				;
			put16(pdu + 10, out->bytes[out->to - 24 + 10]);
		}
		pipe_put(in, pdu, sizeof(pdu));
		pipe_put(in, pdu, sizeof(pdu));
		while (pair_input(p, to, in))
			pair_events(p);
		assert_int_equal((host ? &p->host_end : &p->target_end)->kind, PST_CONN_FAILED);
		while (pair_output(p, to, out))
			;
		check_term(out, &last, host ? NVME_TCP_H2C_TERM : NVME_TCP_C2H_TERM, pdu);
		pair_free(p);
	}
}

/* A second R2T while the first has not been answered breaks our MAXR2T; after it has been, the next is welcome. */
static void r2t_limit(void **state)
{
	struct pair_config config = { 0 };
	struct pair *p = pair_new(&config);
	static uint8_t buf[8192];
	struct iovec iov = { buf, sizeof(buf) };
	uint8_t pdu[128];

	(void)state;
	pair_run(p);
	p->hold_answers = true;
	assert_non_null(pair_submit(p, NVME_CMD_WRITE, 0, &iov, 1, 0, sizeof(buf)));
	while (pair_output(p, p->host, &p->to_target))
		;
	sound(NVME_TCP_R2T, 0, pdu);
	put32(pdu + 16, 4096);
	pipe_put(&p->to_host, pdu, 24);
	while (pair_input(p, p->host, &p->to_host))
		pair_events(p);
	while (pair_output(p, p->host, &p->to_target))
		;
	put32(pdu + 12, 4096);
	put32(pdu + 16, 2048);
	pipe_put(&p->to_host, pdu, 24);
	put32(pdu + 12, 4096 + 2048);
	pipe_put(&p->to_host, pdu, 24);
	while (pair_input(p, p->host, &p->to_host))
		pair_events(p);
	assert_int_equal(p->host_end.kind, PST_CONN_FAILED);
	assert_int_equal(p->host_end.error.fes, NVME_TCP_FES_LIMIT);
	pair_free(p);
}

/* No single wrong byte in a header crashes or is taken for something else: it is an error, or means the same. */
static void every_byte_changed(void **state)
{
	static const uint8_t types[] = { NVME_TCP_ICREQ, NVME_TCP_CMD, NVME_TCP_H2C_DATA, NVME_TCP_H2C_TERM };
	struct pst_pdu_limits limits = {
		.sender = PST_PDU_FROM_HOST, .align_bytes = 4, .incapsule_max = 8192, .maxh2cdata = 8192
	};

	(void)state;
	for (unsigned t = 0; t < PST_ARRAY_COUNT(types); t++) {
		for (unsigned at = 0; at < 8; at++) {
			for (unsigned value = 0; value < 256; value++) {
				struct pst_pdu_error error = { 0 };
				uint32_t bytes = 0;
				uint8_t pdu[128];
				bool ok;

				sound(types[t], pst_pdu_kinds[types[t]].has_data ? 4096 : 0, pdu);
				pdu[at] = (uint8_t)value;
				limits.connected = types[t] != NVME_TCP_ICREQ;
				ok = pst_pdu_check((const struct nvme_tcp_ch *)pdu, &limits, &bytes, &error);
				assert_int_equal(ok, error.fes == 0);
				assert_true(bytes <= 8192);
			}
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(malformed_to_target),          cmocka_unit_test(malformed_to_host),
		cmocka_unit_test(malformed_initialisation),     cmocka_unit_test(a_term_is_not_answered),
		cmocka_unit_test(nothing_comes_after_the_last), cmocka_unit_test(r2t_limit),
		cmocka_unit_test(every_byte_changed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

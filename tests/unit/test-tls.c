/* SPDX-License-Identifier: Apache-2.0 */
/* TLS with a pre-shared key: keys and identities against tls-vectors.py, and two engines over pairs of bytes. */
#include "tls-pair.h"
#include "tls-vectors.h"

#include <openssl/crypto.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

static const struct pst_auth_key key_256 = { .hash = 1, .len_bytes = 32, .bytes = "the host's" };
static const struct pst_auth_key key_384 = { .hash = 2, .len_bytes = 48, .bytes = "the host's, longer" };
static const struct pst_auth_key wrong_key = { .hash = 1, .len_bytes = 32, .bytes = "nobody's" };

/* ---- What libssl allocates ---- */

static int64_t allocations, pieces; /* so far; now */

static void *count_malloc(size_t bytes, const char *file, int line)
{
	(void)file;
	(void)line;
	allocations++;
	pieces++;
	return malloc(bytes);
}

static void *count_realloc(void *mem, size_t bytes, const char *file, int line)
{
	(void)file;
	(void)line;
	allocations++;
	pieces += mem == NULL;
	return realloc(mem, bytes);
}

static void count_free(void *mem, const char *file, int line)
{
	(void)file;
	(void)line;
	pieces -= mem != NULL;
	free(mem);
}

/* ---- Keys and identities ---- */

static void hex(const uint8_t *bytes, size_t len, char *text)
{
	for (size_t i = 0; i < len; i++)
		snprintf(text + 2 * i, 3, "%02x", bytes[i]);
}

/* Both derivations, by host and by target, give what the specifications say, and texts come back as they were. */
static void vectors_are_met(void **state)
{
	(void)state;
	for (size_t i = 0; i < PST_ARRAY_COUNT(tls_vectors); i++) {
		const struct tls_vector *v = &tls_vectors[i];
		char text[PST_TLS_IDENTITY_MAX + 1], key_text[PST_TLS_KEY_TEXT_MAX], psk_text[97] = "";
		struct pst_tls_identity identity, made;
		struct pst_tls_psk psk;
		struct pst_auth_key key;
		const char *why;

		assert_int_equal(pst_tls_key_parse(v->key, strlen(v->key), &key, &why), PST_OK);
		assert_string_equal(pst_tls_key_format(&key, key_text), v->key);
		assert_true(pst_tls_identity_parse(v->identity, strlen(v->identity), &identity));
		assert_string_equal(identity.hostnqn, v->hostnqn);
		assert_string_equal(identity.subnqn, v->subnqn);
		assert_int_equal(pst_tls_identity_format(&identity, text), strlen(v->identity));
		assert_string_equal(text, v->identity);
		assert_int_equal(pst_tls_psk_derive(&key, &identity, &psk), PST_OK);
		hex(psk.bytes, psk.len_bytes, psk_text);
		assert_string_equal(psk_text, v->psk);
		if (!v->made_by_hosts)
			continue;
		assert_int_equal(pst_tls_psk_make(&key, v->hostnqn, v->subnqn, &made, &psk), PST_OK);
		pst_tls_identity_format(&made, text);
		assert_string_equal(text, v->identity);
		hex(psk.bytes, psk.len_bytes, psk_text);
		assert_string_equal(psk_text, v->psk);
	}
}

/* Each with the reason that people are told; nothing of the text is in it. */
static void texts_that_are_no_key_are_refused(void **state)
{
	static const struct {
		const char *text, *why;
	} bad[] = {
		{ "", "begin" },
		{ "NVMeTLSkey-1:01", "begin" },
		{ "DHHC-1:01:B9Yv0Nw7Kc24BCcX77vXgSUU+RP8EHJtNjGrr6Ge+apAcsCO:", "begin" },
		{ "NVMeTLSkey-1:03:B9Yv0Nw7Kc24BCcX77vXgSUU+RP8EHJtNjGrr6Ge+apAcsCO:", "hash" },
		{ "NVMeTLSkey-1:01:", "colon" },
		{ "NVMeTLSkey-1:01:B9Yv0Nw7Kc24BCcX77vXgSUU+RP8EHJtNjGrr6Ge+apAcsCO", "colon" },
		{ "NVMeTLSkey-1:01:B9Yv0Nw7Kc24BCcX77vXgSUU+RP8EHJtNjGrr6Ge+apAcsC:", "base64" },
		{ "NVMeTLSkey-1:01:B9Yv0Nw7Kc24BCcX77vXgSUU+RP8EHJtNjGrr6Ge+apAcs O:", "base64" },
		{ "NVMeTLSkey-1:02:B9Yv0Nw7Kc24BCcX77vXgSUU+RP8EHJtNjGrr6Ge+apAcsCO:", "length" },
		{ "NVMeTLSkey-1:01:C9Yv0Nw7Kc24BCcX77vXgSUU+RP8EHJtNjGrr6Ge+apAcsCO:", "checksum" },
	};

	(void)state;
	for (size_t i = 0; i < PST_ARRAY_COUNT(bad); i++) {
		struct pst_auth_key key;
		const char *why = "";

		assert_int_equal(pst_tls_key_parse(bad[i].text, strlen(bad[i].text), &key, &why), PST_E_INVAL);
		assert_non_null(strstr(why, bad[i].why));
	}
}

/* What a stranger may write there: other kinds, missing and overlong names, blanks where none belong. */
static void texts_that_are_no_identity_are_refused(void **state)
{
	char longest[600] = "NVMe0R01 ";
	static const char *const bad[] = {
		"",
		"NVMe0R0",
		"NVMe0R01",
		"NVMe0R01 ",
		"NVMe0R01 host",
		"NVMe0R01 host ",
		"NVMe0R01 host sub ",
		"NVMe0R01 host sub digest",
		"NVMe0R01  host sub",
		"NVMe0R01 host  sub",
		"NVMe0G01 host sub",
		"NVMe0R03 host sub",
		"NVMe0R11 host sub",
		"NVMe2R01 host sub",
		"nvme0R01 host sub",
		"NVMe1R01 host sub",
		"NVMe1R01 host sub digest",
		"NVMe1R02 host sub osA/q3Kf9/qtLY4kZ8gaYHWPU4GnIMyxGOfBQvgz9us=",
		"NVMe0R01 ho\nst sub",
		"NVMe0R01 ho\xffst sub",
	};
	struct pst_tls_identity identity;

	(void)state;
	for (size_t i = 0; i < PST_ARRAY_COUNT(bad); i++)
		if (pst_tls_identity_parse(bad[i], strlen(bad[i]), &identity))
			fail_msg("taken: '%s'", bad[i]);
	assert_true(pst_tls_identity_parse("NVMe0R01 host sub", 17, &identity));
	assert_false(pst_tls_identity_parse("NVMe0R01 host\0sub", 17, &identity));
	memset(longest + 9, 'h', PST_TLS_NQN_MAX + 1);
	memcpy(longest + 9 + PST_TLS_NQN_MAX + 1, " sub", 5);
	assert_false(pst_tls_identity_parse(longest, strlen(longest), &identity));
	memmove(longest + 9, longest + 10, strlen(longest + 9));
	assert_true(pst_tls_identity_parse(longest, strlen(longest), &identity));
}

/* Of a ClientHello's list the NVMe identities are taken, up to a number; whatever its lengths say, it is not overrun.
 */
static void offers_are_read_within_bounds(void **state)
{
	static const char list[] = "\0\x34"
				   "\0\x06nobody\1\2\3\4"
				   "\0\x0eNVMe0R01 h1 s1\0\0\0\0"
				   "\0\x0eNVMe0R02 h2 s2\0\0\0\0";
	struct pst_tls_identity offers[3];
	size_t bytes = sizeof(list) - 1;

	(void)state;
	assert_int_equal(pst_tls_offers_parse((const uint8_t *)list, bytes, offers, 3), 2);
	assert_string_equal(offers[0].hostnqn, "h1");
	assert_int_equal(offers[1].hash, PST_TLS_SHA384);
	assert_int_equal(pst_tls_offers_parse((const uint8_t *)list, bytes, offers, 1), 1);
	for (size_t cut = 0; cut < bytes; cut++) {
		uint8_t *copy = malloc(cut + 1);

		memcpy(copy, list, cut);
		assert_int_equal(pst_tls_offers_parse(copy, cut, offers, 3),
				 0); /* the list is longer than what there is */
		if (cut >= 2) {
			copy[1] = (uint8_t)(cut - 2);
			assert_true(pst_tls_offers_parse(copy, cut, offers, 3) <= 1);
		}
		free(copy);
	}
}

/* An identity with a digest is known to be of another key before any key is used; names too long for version 0 too. */
static void identities_of_other_keys_are_found_out(void **state)
{
	struct pst_tls_identity identity;
	struct pst_tls_psk psk;
	char name[PST_TLS_NQN_MAX + 2] = "";

	(void)state;
	assert_int_equal(pst_tls_psk_make(&key_256, "host", "sub", &identity, &psk), PST_OK);
	assert_int_equal(pst_tls_psk_derive(&wrong_key, &identity, &psk), PST_E_KEY);
	memcpy(identity.hostnqn, "Host", 4);
	assert_int_equal(pst_tls_psk_derive(&key_256, &identity, &psk), PST_E_KEY);
	memset(name, 'x', PST_TLS_NQN_MAX + 1);
	assert_int_equal(pst_tls_psk_make(&key_256, name, "sub", &identity, &psk), PST_E_INVAL);
	name[PST_TLS_NQN_MAX] = '\0';
	identity.version = 0;
	memset(identity.subnqn, 'x', PST_TLS_NQN_MAX);
	memset(identity.hostnqn, 'y', PST_TLS_NQN_MAX);
	assert_int_equal(pst_tls_psk_derive(&key_256, &identity, &psk), PST_E_INVAL);
}

/* ---- Two engines ---- */

#define LEN 300000u

static uint8_t data[LEN], back[LEN];

/* Writes and reads of many sizes, several at a time; in the smallest pieces not of the longest. */
static void exchange(struct tls_pair *t)
{
	static const uint32_t sizes[] = { 512, 4096, 8192, 16384, 70000, LEN };
	struct iovec out[PST_ARRAY_COUNT(sizes)], in[PST_ARRAY_COUNT(sizes)];
	unsigned before = t->p->responses, count = PST_ARRAY_COUNT(sizes) - (t->chunk < 10 ? 2 : 0);

	tls_pair_run(t);

	for (size_t i = 0; i < LEN; i++)
		data[i] = (uint8_t)(i * 2654435761u >> 13);
	for (unsigned i = 0; i < count; i++) {
		out[i] = (struct iovec){ data, sizes[i] };
		in[i] = (struct iovec){ back, sizes[i] };
		assert_non_null(pair_submit(t->p, NVME_CMD_WRITE, i, &out[i], 1, 0, sizes[i]));
		tls_pair_run(t);
		memset(back, 0, sizeof(back));
		assert_non_null(pair_submit(t->p, NVME_CMD_READ, i, &in[i], 1, 0, sizes[i]));
		assert_non_null(pair_submit(t->p, NVME_CMD_FLUSH, 0, NULL, 0, 0, 0));
		tls_pair_run(t);
		assert_memory_equal(back, data, sizes[i]);
	}
	assert_int_equal(t->p->responses - before, 3 * count);
}

/* With both suites, both versions of the identity, and in pieces of every size, data comes through as it was. */
static void data_survives_every_split(void **state)
{
	static const size_t chunks[] = { 1, 5, 6, 1000, 0 };

	(void)state;
	for (unsigned i = 0; i < 4 * PST_ARRAY_COUNT(chunks); i++) {
		const struct pst_auth_key *key = i & 1 ? &key_384 : &key_256;
		const struct tls_pair_config config = {
			.host_key = *key, .target_key = *key, .version_0 = (i & 2) != 0, .chunk = chunks[i / 4]
		};
		struct tls_pair *t = tls_pair_new(&config);

		tls_pair_run(t);
		assert_int_equal(pst_tls_state(t->target), PST_TLS_OPEN);
		assert_int_equal(pst_tls_state(t->host), PST_TLS_OPEN);
		assert_string_equal(pst_tls_cipher(t->target),
				    i & 1 ? "TLS_AES_256_GCM_SHA384" : "TLS_AES_128_GCM_SHA256");
		assert_string_equal(pst_tls_peer(t->target)->hostnqn, TLS_PAIR_HOST);
		assert_int_equal(t->p->host_ready, 1);
		exchange(t);
		tls_pair_free(t);
	}
}

/* Nothing of what goes over the stream is what was written. */
static void the_stream_shows_nothing(void **state)
{
	const struct tls_pair_config config = { .host_key = key_256, .target_key = key_256 };
	struct tls_pair *t = tls_pair_new(&config);

	(void)state;
	exchange(t);
	for (size_t at = 0; at + 32 <= t->to_target.to; at++)
		assert_memory_not_equal(t->to_target.bytes + at, data + 4096, 32);
	tls_pair_free(t);
}

/* Keys of sending change as often as they are told to; the other side follows. */
static void sending_keys_are_renewed(void **state)
{
	const struct tls_pair_config config = {
		.host_key = key_256, .target_key = key_256, .rekey_records = 2, .chunk = 77
	};
	struct tls_pair *t = tls_pair_new(&config);

	(void)state;
	exchange(t);
	assert_int_equal(pst_tls_state(t->target), PST_TLS_OPEN);
	tls_pair_free(t);
}

/*
 * Once it is open, memory does not grow with what is moved: the engine asks for none, and what libssl asks for while it
 * writes a record (it does) is given back before it is done.
 */
static void memory_does_not_grow_with_data(void **state)
{
	const struct tls_pair_config config = { .host_key = key_256, .target_key = key_256 };
	struct tls_pair *t = tls_pair_new(&config);
	int64_t before;

	(void)state;
	exchange(t); /* the first use of a cipher fetches it */
	before = pieces;
	assert_true(allocations > before && before > 0);
	for (unsigned i = 0; i < 5; i++)
		exchange(t);
	assert_int_equal(pieces, before);
	tls_pair_free(t);
}

static void expect_failure(const struct pst_tls *tls, pst_err err, const char *reason)
{
	const char *why;

	assert_int_equal(pst_tls_state(tls), PST_TLS_FAILED);
	if (pst_tls_error(tls, &why) != err || strstr(why, reason) == NULL)
		fail_msg("%s '%s' instead of '%s'", pst_err_name(pst_tls_error(tls, &why)), why, reason);
}

/* With another key both sides fail, and know why; the protocol engine has heard nothing. */
static void a_wrong_key_is_refused(void **state)
{
	(void)state;
	for (int version_0 = 0; version_0 < 2; version_0++) {
		const struct tls_pair_config config = { .host_key = wrong_key,
							.target_key = key_256,
							.version_0 = version_0 };
		struct tls_pair *t = tls_pair_new(&config);

		tls_pair_run(t);
		expect_failure(t->target, PST_E_DENIED, version_0 ? "key is wrong" : "none of the host's keys");
		expect_failure(t->host, PST_E_DENIED, "the peer refuses the key");
		assert_null(pst_tls_peer(t->target));
		assert_int_equal(t->p->target_ready, 0);
		tls_pair_free(t);
	}
}

/* Wherever the host's bytes end, the target waits: nothing is open, nothing has failed, nothing is left behind. */
static void truncation_anywhere_is_no_handshake(void **state)
{
	const struct tls_pair_config config = { .host_key = key_256, .target_key = key_256 };
	struct tls_pair *t = tls_pair_new(&config);
	uint64_t all;

	(void)state;
	/* Without the last bytes, which are of the ICReq, already under TLS. */
	while (pst_tls_state(t->target) != PST_TLS_OPEN) {
		tls_pair_events(t);
		tls_pair_output(t, t->host, t->p->host, &t->to_target);
		tls_pair_output(t, t->target, t->p->target, &t->to_host);
		t->chunk = 1;
		tls_pair_input(t, t->target, t->p->target, &t->to_target);
		tls_pair_input(t, t->host, t->p->host, &t->to_host);
		tls_pair_events(t);
	}
	all = t->to_target.total - (t->to_target.to - t->to_target.from);
	assert_true(all > 300);
	tls_pair_free(t);
	for (uint64_t cut = 0; cut < all; cut++) {
		t = tls_pair_new(&config);
		t->target_input_max = cut;
		tls_pair_run(t);
		if (pst_tls_state(t->target) != (cut == 0 ? PST_TLS_FIRST : PST_TLS_HANDSHAKE))
			fail_msg("cut at %u: state %d", (unsigned)cut, pst_tls_state(t->target));
		assert_int_equal(t->p->target_ready, 0);
		tls_pair_free(t);
	}
}

/* A changed byte of the handshake, either way, ends it. The version in a record's head is nobody's concern (5.1). */
static void a_damaged_handshake_fails(void **state)
{
	const struct tls_pair_config config = { .host_key = key_256, .target_key = key_256 };
	unsigned failed = 0;

	(void)state;
	for (unsigned to_host = 0; to_host < 2; to_host++)
		for (uint64_t at = 5; at < 240; at += 3) {
			struct tls_pair *t = tls_pair_new(&config);

			t->damage_at = at;
			t->damage_host = to_host;
			tls_pair_run(t);
			failed += pst_tls_state(t->target) == PST_TLS_FAILED;
			if (pst_tls_state(t->target) == PST_TLS_OPEN && pst_tls_state(t->host) == PST_TLS_OPEN &&
			    t->p->target_ready > 0)
				fail_msg("byte %u to the %s does not matter", (unsigned)at,
					 to_host ? "host" : "target");
			tls_pair_free(t);
		}
	assert_true(failed > 20);
}

/* So does a changed byte of data, before anything of its record is believed. */
static void damaged_data_fails(void **state)
{
	const struct tls_pair_config config = { .host_key = key_256, .target_key = key_256 };
	struct tls_pair *t = tls_pair_new(&config);
	struct iovec out = { data, LEN };

	(void)state;
	tls_pair_run(t);
	t->damage_at = t->to_target.total + 500;
	assert_non_null(pair_submit(t->p, NVME_CMD_WRITE, 0, &out, 1, 0, 4096));
	tls_pair_run(t);
	expect_failure(t->target, PST_E_PROTO, "mac");
	assert_int_equal(t->p->commands, 0);
	expect_failure(t->host, PST_E_PROTO, "alert");
	tls_pair_free(t);
}

/* ---- The end ---- */

static struct pst_tls *side_of(struct tls_pair *t, bool host)
{
	return host ? t->host : t->target;
}

/* RFC 8446, 6.1: either side says goodbye, the other one hears it behind all data, and answers. */
static void goodbye_is_said_and_heard(void **state)
{
	(void)state;
	for (int host = 0; host < 2; host++)
		for (size_t chunk = 1; chunk < 40; chunk += 19) {
			const struct tls_pair_config config = { .host_key = key_384, .target_key = key_384 };
			struct tls_pair *t = tls_pair_new(&config);
			struct pipe *theirs = host ? &t->to_host : &t->to_target;
			uint64_t total;

			exchange(t);
			t->chunk = chunk;
			assert_true(pst_tls_goodbye(side_of(t, host)));
			expect_failure(side_of(t, host), PST_E_CLOSED, "closed by this side");
			assert_int_equal(pst_tls_state(side_of(t, !host)), PST_TLS_OPEN); /* so it would be cut off */
			total = theirs->total;
			tls_pair_run(t);
			expect_failure(side_of(t, !host), PST_E_CLOSED, "closed by the peer");
			assert_int_equal(theirs->total, total); /* nothing is said that nobody has asked for */
			assert_true(pst_tls_goodbye(side_of(t, !host)));
			tls_pair_run(t);
			assert_true(theirs->total > total);
			tls_pair_free(t);
		}
}

/* It is not said before there is anybody to understand it, nor after something worse. */
static void goodbye_has_its_time(void **state)
{
	const struct tls_pair_config config = { .host_key = key_256, .target_key = key_256 },
				     refused = { .host_key = wrong_key, .target_key = key_256 },
				     plain = { .plain_host = true, .plain_allowed = true };
	struct tls_pair *t = tls_pair_new(&config);

	(void)state;
	assert_false(pst_tls_goodbye(t->host));
	assert_false(pst_tls_goodbye(t->target));
	tls_pair_free(t);
	t = tls_pair_new(&refused);
	tls_pair_run(t);
	assert_false(pst_tls_goodbye(t->host));
	assert_false(pst_tls_goodbye(t->target));
	expect_failure(t->host, PST_E_DENIED, "the peer refuses the key");
	tls_pair_free(t);
	t = tls_pair_new(&plain);
	assert_true(tls_pair_output(t, NULL, t->p->host, &t->to_target));
	assert_true(tls_pair_input(t, t->target, t->p->target, &t->to_target));
	assert_true(pst_tls_feed(t->target, t->p->target));
	assert_int_equal(pst_tls_state(t->target), PST_TLS_PLAIN);
	assert_false(pst_tls_goodbye(t->target));
	tls_pair_free(t);
}

/* ---- What is not TLS, or not sane ---- */

/* All of it into a target, as far as it is taken; the error. */
static pst_err throw_at_target(const void *bytes, size_t len, uint32_t handshake_bytes_max, bool plain_allowed,
			       const char **ret_reason)
{
	struct pst_tls_config config = { .buffer_bytes = PST_TLS_BUFFER_BYTES_MIN,
					 .handshake_bytes_max = handshake_bytes_max,
					 .rekey_records = 1,
					 .plain_allowed = plain_allowed };
	struct pst_conn_config conn_config = { .role = PST_CONN_TARGET, .commands_max = 1, .maxh2cdata = 4096 };
	struct pst_tls_context *context;
	struct pst_conn *conn;
	struct pst_tls *tls;
	struct iovec iov, out[4];
	struct pst_conn_event event;
	pst_err err;

	assert_int_equal(pst_tls_context_new(PST_TLS_TARGET, &context), PST_OK);
	assert_int_equal(pst_conn_new(&conn_config, &conn), PST_OK);
	config.context = context;
	assert_int_equal(pst_tls_new(&config, NULL, NULL, &tls), PST_OK);
	while (len > 0 && pst_tls_want(tls, &iov, 1) == 1) {
		size_t n = PST_MIN(len, iov.iov_len);

		memcpy(iov.iov_base, bytes, n);
		bytes = (const uint8_t *)bytes + n;
		len -= n;
		pst_tls_got(tls, n);
		while (pst_tls_feed(tls, conn))
			while (pst_conn_next_event(conn, &event))
				;
		if (pst_tls_output(tls, conn, out, 4) > 0)
			pst_tls_sent(tls, conn, out[0].iov_len);
	}
	assert_int_equal(len, 0); /* also after a failure */
	err = pst_tls_error(tls, ret_reason);
	pst_tls_free(tls);
	pst_conn_fail(conn);
	pst_conn_free(conn);
	pst_tls_context_free(context);
	return err;
}

static void garbage_fails(void **state)
{
	static const uint8_t icreq[128] = { 0, 0, 128, 0, 128 };
	struct pst_prng prng;
	uint8_t noise[3000];
	const char *reason;

	(void)state;
	assert_int_equal(throw_at_target("GET / HTTP/1.1\r\n", 16, 16384, false, &reason), PST_E_UNSUPPORTED);
	assert_int_equal(throw_at_target(icreq, sizeof(icreq), 16384, false, &reason), PST_E_UNSUPPORTED);
	pst_prng_init(&prng, 3);
	for (unsigned i = 0; i < 300; i++) {
		for (size_t at = 0; at < sizeof(noise); at++)
			noise[at] = (uint8_t)pst_prng_below(&prng, 256);
		noise[0] = 0x16;
		noise[1] = 3;
		noise[2] = (uint8_t)(i % 5);
		noise[3] = (uint8_t)(i % 8);
		assert_int_equal(throw_at_target(noise, sizeof(noise), 16384, false, &reason), PST_E_PROTO);
		assert_non_null(reason);
	}
}

/* A record longer than allowed; a ClientHello that would be gigantic; one that goes on for ever in short records. */
static void giants_fail(void **state)
{
	static uint8_t record[70000] = { 0x16, 3, 1, 0xff, 0xff, 1, 0, 0xff, 0xff };
	static uint8_t hello[70000] = { 0x16, 3, 1, 0x3f, 0xff, 1, 0xff, 0xff, 0xff };
	static uint8_t endless[40000];
	const char *reason;

	(void)state;
	assert_int_equal(throw_at_target(record, sizeof(record), 1u << 30, false, &reason), PST_E_PROTO);
	assert_int_equal(throw_at_target(hello, sizeof(hello), 1u << 30, false, &reason), PST_E_PROTO);
	for (size_t at = 0; at + 105 <= sizeof(endless); at += 105)
		memcpy(endless + at, (uint8_t[]){ 0x16, 3, 1, 0, 100 }, 5);
	memcpy(endless + 5, (uint8_t[]){ 1, 1, 0, 0, 3, 3 }, 6); /* ClientHello of 64 KiB */
	assert_int_equal(throw_at_target(endless, sizeof(endless), 16384, false, &reason), PST_E_PROTO);
	assert_non_null(strstr(reason, "too long"));
}

/* Where hosts without TLS are taken, too, their bytes pass, and the engine is done with; TLS hosts are served as well.
 */
static void plain_hosts_pass_where_allowed(void **state)
{
	static const size_t chunks[] = { 1, 100, 0 };

	(void)state;
	for (unsigned i = 0; i < PST_ARRAY_COUNT(chunks); i++) {
		struct tls_pair_config config = { .plain_host = true, .plain_allowed = true, .chunk = chunks[i] };
		struct tls_pair *t = tls_pair_new(&config);

		exchange(t);
		assert_null(t->target);
		tls_pair_free(t);
		config = (struct tls_pair_config){
			.host_key = key_256, .target_key = key_256, .plain_allowed = true, .chunk = chunks[i]
		};
		t = tls_pair_new(&config);
		exchange(t);
		assert_int_equal(pst_tls_state(t->target), PST_TLS_OPEN);
		tls_pair_free(t);
	}
}

/* A host that wants TLS does not speak to a target that answers in clear. */
static void a_plain_target_is_refused(void **state)
{
	const struct tls_pair_config config = { .host_key = key_256, .target_key = key_256 };
	struct tls_pair *t = tls_pair_new(&config);

	(void)state;
	pst_tls_free(t->target);
	t->target = NULL;
	tls_pair_run(t);
	expect_failure(t->host, PST_E_PROTO, "does not speak TLS");
	assert_int_equal(t->p->host_ready, 0);
	tls_pair_free(t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(vectors_are_met),
		cmocka_unit_test(texts_that_are_no_key_are_refused),
		cmocka_unit_test(texts_that_are_no_identity_are_refused),
		cmocka_unit_test(offers_are_read_within_bounds),
		cmocka_unit_test(identities_of_other_keys_are_found_out),
		cmocka_unit_test(data_survives_every_split),
		cmocka_unit_test(the_stream_shows_nothing),
		cmocka_unit_test(sending_keys_are_renewed),
		cmocka_unit_test(memory_does_not_grow_with_data),
		cmocka_unit_test(a_wrong_key_is_refused),
		cmocka_unit_test(truncation_anywhere_is_no_handshake),
		cmocka_unit_test(a_damaged_handshake_fails),
		cmocka_unit_test(damaged_data_fails),
		cmocka_unit_test(goodbye_is_said_and_heard),
		cmocka_unit_test(goodbye_has_its_time),
		cmocka_unit_test(garbage_fails),
		cmocka_unit_test(giants_fail),
		cmocka_unit_test(plain_hosts_pass_where_allowed),
		cmocka_unit_test(a_plain_target_is_refused),
	};

	if (CRYPTO_set_mem_functions(count_malloc, count_realloc, count_free) != 1)
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}

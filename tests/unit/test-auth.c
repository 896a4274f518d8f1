/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DH-HMAC-CHAP: both roles against vectors that auth-vectors.py computes from the specifications, against each other,
 * and against every kind of message that they must refuse, each with its failure code.
 */
#include "proto/auth.h"
#include "auth-vectors.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

static size_t unhex(const char *text, uint8_t *bytes)
{
	size_t len = strlen(text) / 2;
	unsigned value;

	for (size_t i = 0; i < len; i++) {
		assert_int_equal(sscanf(text + 2 * i, "%2x", &value), 1);
		bytes[i] = (uint8_t)value;
	}
	return len;
}

static struct pst_auth_key key_of(const char *text)
{
	struct pst_auth_key key;
	const char *why = NULL;

	assert_int_equal(pst_auth_key_parse(text, strlen(text), &key, &why), PST_OK);
	return key;
}

static void start(struct pst_auth *auth, const struct vector *v, bool controller, bool two_way)
{
	struct pst_auth_key host_key = key_of(v->host_key), ctrl_key = key_of(v->ctrl_key);
	struct pst_auth_random random = { .seqnum = controller ? v->s1 : v->s2, .t_id = v->t_id };
	struct pst_auth_config config = {
		.controller = controller,
		.hostnqn = VECTOR_HOSTNQN,
		.subnqn = VECTOR_SUBNQN,
		.host_key = &host_key,
		.ctrl_key = two_way ? &ctrl_key : NULL,
		.hashes = 1u << v->hash,
		.groups = 1u << v->group,
	};

	unhex(controller ? v->ctrl_exponent : v->host_exponent, random.exponent);
	unhex(controller ? v->c1 : v->c2, random.challenge);
	assert_int_equal(pst_auth_init(auth, &config, &random), PST_OK);
}

static size_t send_it(struct pst_auth *auth, uint8_t *message)
{
	size_t bytes;

	assert_int_equal(pst_auth_step(auth), PST_AUTH_SEND);
	bytes = pst_auth_send_bytes(auth);
	assert_true(bytes <= PST_AUTH_MESSAGE_MAX);
	pst_auth_send(auth, message);
	return bytes;
}

static void expect_sent(struct pst_auth *auth, const char *hex)
{
	uint8_t message[PST_AUTH_MESSAGE_MAX], expected[PST_AUTH_MESSAGE_MAX];

	assert_int_equal(send_it(auth, message), unhex(hex, expected));
	assert_memory_equal(message, expected, strlen(hex) / 2);
}

static void give(struct pst_auth *auth, const char *hex)
{
	uint8_t message[PST_AUTH_MESSAGE_MAX];
	size_t bytes = unhex(hex, message);

	assert_int_equal(pst_auth_step(auth), PST_AUTH_RECEIVE);
	pst_auth_receive(auth, message, bytes);
}

/* The controller sends what the specification says, for every hash and group, and takes the host's response for right.
 */
static void controller_matches_vectors(void **state)
{
	(void)state;
	for (size_t i = 0; i < PST_ARRAY_COUNT(vectors); i++) {
		uint8_t success2[16] = { NVMF_AUTH_TYPE_DHCHAP, NVMF_AUTH_SUCCESS2 };
		struct pst_auth auth;

		success2[4] = (uint8_t)vectors[i].t_id;
		success2[5] = (uint8_t)(vectors[i].t_id >> 8);
		start(&auth, &vectors[i], true, true);
		give(&auth, vectors[i].negotiate);
		expect_sent(&auth, vectors[i].challenge);
		give(&auth, vectors[i].reply);
		expect_sent(&auth, vectors[i].success1);
		assert_int_equal(pst_auth_step(&auth), PST_AUTH_RECEIVE); /* not before the host is content, too */
		pst_auth_receive(&auth, success2, sizeof(success2));
		assert_int_equal(pst_auth_step(&auth), PST_AUTH_DONE);
		pst_auth_done(&auth);
	}
}

/* The same of the host. */
static void host_matches_vectors(void **state)
{
	(void)state;
	for (size_t i = 0; i < PST_ARRAY_COUNT(vectors); i++) {
		uint8_t message[PST_AUTH_MESSAGE_MAX];
		struct pst_auth auth;

		start(&auth, &vectors[i], false, true);
		expect_sent(&auth, vectors[i].negotiate);
		give(&auth, vectors[i].challenge);
		expect_sent(&auth, vectors[i].reply);
		give(&auth, vectors[i].success1);
		assert_int_equal(send_it(&auth, message), 16);
		assert_int_equal(pst_auth_step(&auth), PST_AUTH_DONE);
		pst_auth_done(&auth);
	}
}

/* ---- Two engines ---- */

struct pair {
	struct pst_auth host, ctrl;
};

struct keys {
	const char *host_at_host, *host_at_ctrl, *ctrl_at_host, *ctrl_at_ctrl; /* ctrl: NULL for none */
};

static void pair_start(struct pair *p, const struct keys *k, uint32_t hashes, uint32_t groups)
{
	struct pst_auth_key host[2] = { key_of(k->host_at_host), key_of(k->host_at_ctrl) }, ctrl[2] = { { 0 } };
	struct pst_auth_random random = { .challenge = { 1 }, .exponent = { 7 }, .seqnum = 0, .t_id = 9 };
	struct pst_auth_config config = { .hostnqn = VECTOR_HOSTNQN, .subnqn = VECTOR_SUBNQN };

	if (k->ctrl_at_host != NULL)
		ctrl[0] = key_of(k->ctrl_at_host);
	if (k->ctrl_at_ctrl != NULL)
		ctrl[1] = key_of(k->ctrl_at_ctrl);
	config.host_key = &host[0];
	config.ctrl_key = k->ctrl_at_host != NULL ? &ctrl[0] : NULL;
	assert_int_equal(pst_auth_init(&p->host, &config, &random), PST_OK);
	random.challenge[0] = 2;
	random.exponent[0] = 8;
	config.controller = true;
	config.host_key = &host[1];
	config.ctrl_key = k->ctrl_at_ctrl != NULL ? &ctrl[1] : NULL;
	config.hashes = hashes;
	config.groups = groups;
	assert_int_equal(pst_auth_init(&p->ctrl, &config, &random), PST_OK);
}

static void pair_run(struct pair *p)
{
	uint8_t message[PST_AUTH_MESSAGE_MAX];

	for (int i = 0; i < 10; i++) {
		struct pst_auth *from = pst_auth_step(&p->host) == PST_AUTH_SEND ? &p->host : &p->ctrl;
		struct pst_auth *to = from == &p->host ? &p->ctrl : &p->host;
		size_t bytes;

		if (pst_auth_step(from) != PST_AUTH_SEND)
			break;
		bytes = send_it(from, message);
		if (pst_auth_step(to) == PST_AUTH_RECEIVE)
			pst_auth_receive(to, message, bytes);
	}
}

static void expect_ends(struct pair *p, enum pst_auth_step host, enum pst_auth_step ctrl, uint8_t failure)
{
	bool by_peer;

	assert_int_equal(pst_auth_step(&p->host), host);
	assert_int_equal(pst_auth_step(&p->ctrl), ctrl);
	if (host == PST_AUTH_FAILED)
		assert_int_equal(pst_auth_failure(&p->host, &by_peer), failure);
	if (ctrl == PST_AUTH_FAILED)
		assert_int_equal(pst_auth_failure(&p->ctrl, &by_peer), failure);
	pst_auth_done(&p->host);
	pst_auth_done(&p->ctrl);
}

/* By nvme gen-dhchap-key: a program that is not ours. */
#define KEY_0 "DHHC-1:00:o+uwYnf7bClaWi/32ra5cCXZlPCFQJHfdKUJZsGmtBGEUCtX:"
#define KEY_1 "DHHC-1:01:U6HtkHtnQYt7i4enV0wS4ewhNQrud/ah6ewVHQiYZc506BAY:"
#define KEY_2 "DHHC-1:02:6+5UUUlH0b2GOXcVpfSYEaDdg33tTzY7RqZkuydFeJf+i6UlNI8w2pG6yJH0hdvnMq0Ztw==:"
#define KEY_3 "DHHC-1:03:r+xlvD5OBdbwic2crCbXddddhIVQNYxd5HlBzz/fNXRR68sAYHFDYF/Ha7SM/SX6fLp+TERUM/C22/D8/79jV8rdPKE=:"

/* Right keys succeed and wrong ones fail, in either direction; a proof that is wanted and can't be had is a failure. */
static void keys_decide(void **state)
{
	static const struct {
		struct keys keys;
		enum pst_auth_step end;
	} cases[] = {
		{ { KEY_1, KEY_1, NULL, NULL }, PST_AUTH_DONE },     { { KEY_2, KEY_1, NULL, NULL }, PST_AUTH_FAILED },
		{ { KEY_1, KEY_2, NULL, NULL }, PST_AUTH_FAILED },   { { KEY_1, KEY_1, KEY_2, KEY_2 }, PST_AUTH_DONE },
		{ { KEY_1, KEY_1, KEY_1, KEY_2 }, PST_AUTH_FAILED }, { { KEY_1, KEY_1, KEY_2, NULL }, PST_AUTH_FAILED },
		{ { KEY_1, KEY_1, NULL, KEY_2 }, PST_AUTH_DONE }, /* not asked for */
		{ { KEY_2, KEY_1, KEY_2, KEY_2 }, PST_AUTH_FAILED },
	};

	(void)state;
	for (size_t i = 0; i < PST_ARRAY_COUNT(cases); i++)
		for (uint32_t group = 0; group < 2; group++) {
			struct pair p;

			pair_start(&p, &cases[i].keys, 1u << PST_AUTH_SHA256, 1u << group);
			pair_run(&p);
			expect_ends(&p, cases[i].end, cases[i].end, NVMF_AUTH_FAILED);
		}
}

/* The controller takes the best of what both can use; without anything in common it says what is missing. */
static void controller_chooses(void **state)
{
	struct keys keys = { KEY_0, KEY_0, KEY_3, KEY_3 };
	struct pair p;

	(void)state;
	pair_start(&p, &keys, 0, 0);
	pair_run(&p);
	assert_int_equal(p.ctrl.hash, PST_AUTH_SHA512);
	assert_int_equal(p.ctrl.group, PST_AUTH_FFDHE3072);
	expect_ends(&p, PST_AUTH_DONE, PST_AUTH_DONE, 0);

	pair_start(&p, &keys, 0, 1u << PST_AUTH_NULL_GROUP | 1u << PST_AUTH_FFDHE2048);
	pair_run(&p);
	assert_int_equal(p.host.group, PST_AUTH_FFDHE2048);
	expect_ends(&p, PST_AUTH_DONE, PST_AUTH_DONE, 0);

	pair_start(&p, &keys, 1u << PST_AUTH_SHA384, 0);
	p.host.hashes = 1u << PST_AUTH_SHA256;
	pair_run(&p);
	expect_ends(&p, PST_AUTH_FAILED, PST_AUTH_FAILED, NVMF_AUTH_HASH_UNUSABLE);

	pair_start(&p, &keys, 0, 1u << PST_AUTH_FFDHE4096);
	p.host.groups = 1u << PST_AUTH_NULL_GROUP;
	pair_run(&p);
	expect_ends(&p, PST_AUTH_FAILED, PST_AUTH_FAILED, NVMF_AUTH_GROUP_UNUSABLE);
}

/* ---- Malformed messages ---- */

/* One field of a sound message is changed, or the message is cut; the engine fails with the code. */
struct change {
	const char *what;
	unsigned at, bytes; /* bytes 0: cut at that length */
	uint32_t value;
	uint8_t failure;
};

static const struct change negotiate_changes[] = {
	{ "empty", 0, 0, 0, NVMF_AUTH_BAD_PAYLOAD },
	{ "no T_ID", 5, 0, 0, NVMF_AUTH_BAD_PAYLOAD },
	{ "cut in the head", 7, 0, 0, NVMF_AUTH_BAD_PAYLOAD },
	{ "cut in the descriptor", 71, 0, 0, NVMF_AUTH_BAD_PAYLOAD },
	{ "type of DH-HMAC-CHAP", 0, 1, 1, NVMF_AUTH_BAD_MESSAGE },
	{ "unknown type", 0, 1, 7, NVMF_AUTH_BAD_MESSAGE },
	{ "unknown message", 1, 1, 5, NVMF_AUTH_BAD_MESSAGE },
	{ "a failure of nothing", 1, 1, NVMF_AUTH_FAILURE2, NVMF_AUTH_BAD_MESSAGE },
	{ "secure channel", 6, 1, 1, NVMF_AUTH_CONCATENATION_MISMATCH },
	{ "no protocol", 7, 1, 0, NVMF_AUTH_BAD_PAYLOAD },
	{ "more protocols than there are", 7, 1, 2, NVMF_AUTH_BAD_PAYLOAD },
	{ "255 protocols", 7, 1, 255, NVMF_AUTH_BAD_PAYLOAD },
	{ "another protocol", 8, 1, 2, NVMF_AUTH_PROTOCOL_UNUSABLE },
	{ "no hash", 10, 1, 0, NVMF_AUTH_BAD_PAYLOAD },
	{ "31 hashes", 10, 1, 31, NVMF_AUTH_BAD_PAYLOAD },
	{ "no group", 11, 1, 0, NVMF_AUTH_BAD_PAYLOAD },
	{ "255 groups", 11, 1, 255, NVMF_AUTH_BAD_PAYLOAD },
	{ "unknown hash", 12, 1, 4, NVMF_AUTH_HASH_UNUSABLE },
	{ "hash 0", 12, 1, 0, NVMF_AUTH_HASH_UNUSABLE },
	{ "unknown group", 42, 1, 6, NVMF_AUTH_GROUP_UNUSABLE },
};

/* Of SHA-256 and ffdhe2048: R1 at 16, C2 at 48, DH value at 80. */
static const struct change reply_changes[] = {
	{ "cut in the DH value", 335, 0, 0, NVMF_AUTH_BAD_PAYLOAD },
	{ "cut in the head", 15, 0, 0, NVMF_AUTH_BAD_PAYLOAD },
	{ "a second Negotiate", 0, 2, 0, NVMF_AUTH_BAD_MESSAGE },
	{ "Success2", 1, 1, NVMF_AUTH_SUCCESS2, NVMF_AUTH_BAD_MESSAGE },
	{ "T_ID", 4, 1, 0xff, NVMF_AUTH_BAD_PAYLOAD },
	{ "HL", 6, 1, 48, NVMF_AUTH_BAD_PAYLOAD },
	{ "CVALID", 8, 1, 2, NVMF_AUTH_BAD_PAYLOAD },
	{ "DHVLEN", 10, 2, 384, NVMF_AUTH_BAD_PAYLOAD },
	{ "DHVLEN 0", 10, 2, 0, NVMF_AUTH_BAD_PAYLOAD },
	{ "R1", 16, 1, 0xf5, NVMF_AUTH_FAILED },
	{ "DH value", 300, 1, 0xf5, NVMF_AUTH_FAILED },
};

/* C1 at 16, DH value at 48. */
static const struct change challenge_changes[] = {
	{ "cut in C1", 40, 0, 0, NVMF_AUTH_BAD_PAYLOAD },
	{ "cut in the DH value", 303, 0, 0, NVMF_AUTH_BAD_PAYLOAD },
	{ "cut in the head", 15, 0, 0, NVMF_AUTH_BAD_PAYLOAD },
	{ "Reply", 1, 1, NVMF_AUTH_REPLY, NVMF_AUTH_BAD_MESSAGE },
	{ "a failure of the host", 0, 2, NVMF_AUTH_FAILURE2 << 8, NVMF_AUTH_BAD_MESSAGE },
	{ "T_ID", 4, 1, 0xff, NVMF_AUTH_BAD_PAYLOAD },
	{ "HL", 6, 1, 31, NVMF_AUTH_BAD_PAYLOAD },
	{ "hash not offered", 8, 1, PST_AUTH_SHA512, NVMF_AUTH_HASH_UNUSABLE },
	{ "unknown hash", 8, 1, 0xff, NVMF_AUTH_HASH_UNUSABLE },
	{ "group not offered", 9, 1, PST_AUTH_NULL_GROUP, NVMF_AUTH_GROUP_UNUSABLE },
	{ "unknown group", 9, 1, 40, NVMF_AUTH_GROUP_UNUSABLE },
	{ "DHVLEN", 10, 2, 255, NVMF_AUTH_BAD_PAYLOAD },
	{ "sequence number 0", 12, 4, 0, NVMF_AUTH_BAD_PAYLOAD },
};

static const struct change success1_changes[] = {
	{ "cut in R2", 47, 0, 0, NVMF_AUTH_BAD_PAYLOAD },
	{ "Challenge", 1, 1, NVMF_AUTH_CHALLENGE, NVMF_AUTH_BAD_MESSAGE },
	{ "T_ID", 5, 1, 0, NVMF_AUTH_BAD_PAYLOAD },
	{ "HL", 6, 1, 0, NVMF_AUTH_BAD_PAYLOAD },
	{ "RVALID", 8, 1, 0, NVMF_AUTH_FAILED },
	{ "R2", 17, 1, 0xf5, NVMF_AUTH_FAILED },
};

/* SHA-256, ffdhe2048 */
static const struct vector *const v = &vectors[1];

/* The failure is sent, with the code, and then it is over. */
static void expect_failure(struct pst_auth *auth, bool controller, uint8_t failure)
{
	uint8_t message[PST_AUTH_MESSAGE_MAX];

	assert_int_equal(send_it(auth, message), 8);
	assert_int_equal(message[0], NVMF_AUTH_TYPE_COMMON);
	assert_int_equal(message[1], controller ? NVMF_AUTH_FAILURE1 : NVMF_AUTH_FAILURE2);
	assert_int_equal(message[6], 1);
	assert_int_equal(message[7], failure);
	assert_int_equal(pst_auth_step(auth), PST_AUTH_FAILED);
}

static void try_changes(const struct change *changes, size_t count, bool controller, const char *before,
			const char *sound)
{
	for (size_t i = 0; i < count; i++) {
		uint8_t message[PST_AUTH_MESSAGE_MAX], junk[PST_AUTH_MESSAGE_MAX];
		const struct change *c = &changes[i];
		size_t bytes = unhex(sound, message);
		struct pst_auth auth;

		start(&auth, v, controller, true);
		if (!controller)
			send_it(&auth, junk);
		if (before != NULL) {
			give(&auth, before);
			send_it(&auth, junk);
		}
		for (unsigned b = 0; b < c->bytes; b++)
			message[c->at + b] = (uint8_t)(c->value >> 8 * b);
		pst_auth_receive(&auth, message, c->bytes == 0 ? c->at : bytes);
		if (auth.failure != c->failure)
			fail_msg("%s: failure %u instead of %u", c->what, auth.failure, c->failure);
		expect_failure(&auth, controller, c->failure);
		pst_auth_done(&auth);
	}
}

static void malformed_messages_fail_with_their_code(void **state)
{
	(void)state;
	try_changes(negotiate_changes, PST_ARRAY_COUNT(negotiate_changes), true, NULL, v->negotiate);
	try_changes(reply_changes, PST_ARRAY_COUNT(reply_changes), true, v->negotiate, v->reply);
	try_changes(challenge_changes, PST_ARRAY_COUNT(challenge_changes), false, NULL, v->challenge);
	try_changes(success1_changes, PST_ARRAY_COUNT(success1_changes), false, v->challenge, v->success1);
}

/* Public values whose shared secret everybody knows are refused, whoever sends them, in every group. */
static void degenerate_public_values_are_refused(void **state)
{
	(void)state;
	for (uint8_t group = PST_AUTH_FFDHE2048; group <= PST_AUTH_FFDHE8192; group++) {
		uint32_t len = pst_auth_dh_bytes(group);
		uint8_t value[PST_AUTH_DH_MAX] = { 0 }, one[PST_AUTH_EXPONENT_MAX] = { 1 };
		bool sound = true;

		assert_true(pst_auth_dh_check(group, value, &sound));
		assert_false(sound);
		value[len - 1] = 1;
		assert_true(pst_auth_dh_check(group, value, &sound));
		assert_false(sound);
		value[len - 1] = 2;
		assert_true(pst_auth_dh_check(group, value, &sound));
		assert_true(sound);
		memset(value, 0xff, len); /* above p; p - 1 is p without its last bit, and p ends in 64 ones */
		assert_true(pst_auth_dh_check(group, value, &sound));
		assert_false(sound);
		assert_true(pst_auth_dh_public(group, one, value));
		assert_true(pst_auth_dh_check(group, value, &sound));
		assert_true(sound);
	}
}

/* p - 1, p - 2 and p of ffdhe2048 (RFC 7919, A.1). */
static void the_largest_value_is_two_below_the_prime(void **state)
{
	static const char prime[] =
	    "ffffffffffffffffadf85458a2bb4a9aafdc5620273d3cf1d8b9c583ce2d3695a9e13641146433fbcc939dce249b3ef9"
	    "7d2fe363630c75d8f681b202aec4617ad3df1ed5d5fd65612433f51f5f066ed0856365553ded1af3b557135e7f57c935"
	    "984f0c70e0e68b77e2a689daf3efe8721df158a136ade73530acca4f483a797abc0ab182b324fb61d108a94bb2c8e3fb"
	    "b96adab760d7f4681d4f42a3de394df4ae56ede76372bb190b07a7c8ee0a6d709e02fce1cdf7e2ecc03404cd28342f61"
	    "9172fe9ce98583ff8e4f1232eef28183c3fe3b1b4c6fad733bb5fcbc2ec22005c58ef1837d1683b2c6f34a26c1b2effa"
	    "886b423861285c97ffffffffffffffff";
	uint8_t value[PST_AUTH_DH_MAX];
	bool sound;

	(void)state;
	assert_int_equal(unhex(prime, value), 256);
	for (uint8_t below = 0; below < 4; below++) {
		value[255] = (uint8_t)(0xff - below);
		assert_true(pst_auth_dh_check(PST_AUTH_FFDHE2048, value, &sound));
		assert_int_equal(sound, below >= 2);
	}
}

/* A host that sends the controller's challenge back as its own gets no response to it. */
static void a_reflected_challenge_is_refused(void **state)
{
	uint8_t message[PST_AUTH_MESSAGE_MAX], challenge[PST_AUTH_MESSAGE_MAX];
	struct pst_auth auth;
	size_t bytes = unhex(v->reply, message);

	(void)state;
	start(&auth, v, true, true);
	give(&auth, v->negotiate);
	send_it(&auth, challenge);
	memcpy(message + 48, challenge + 16, 32);
	pst_auth_receive(&auth, message, bytes);
	expect_failure(&auth, true, NVMF_AUTH_FAILED);
	pst_auth_done(&auth);
}

/* A failure that the peer reports ends the transaction without an answer; its code is kept. */
static void a_failure_of_the_peer_ends_it(void **state)
{
	uint8_t failure[8] = { NVMF_AUTH_TYPE_COMMON, NVMF_AUTH_FAILURE1, 0, 0, 0, 0, 1, NVMF_AUTH_HASH_UNUSABLE };
	uint8_t junk[PST_AUTH_MESSAGE_MAX];
	struct pst_auth auth;
	bool by_peer;

	(void)state;
	start(&auth, v, false, false);
	send_it(&auth, junk);
	pst_auth_receive(&auth, failure, sizeof(failure));
	assert_int_equal(pst_auth_step(&auth), PST_AUTH_FAILED);
	assert_int_equal(pst_auth_failure(&auth, &by_peer), NVMF_AUTH_HASH_UNUSABLE);
	assert_true(by_peer);
	pst_auth_done(&auth);

	start(&auth, v, true, true);
	give(&auth, v->negotiate);
	send_it(&auth, junk);
	failure[1] = NVMF_AUTH_FAILURE2;
	pst_auth_receive(&auth, failure, 6); /* cut off: still one */
	assert_int_equal(pst_auth_step(&auth), PST_AUTH_FAILED);
	pst_auth_done(&auth);
}

/* Nothing of the keys or of the session is left behind. */
static void secrets_are_wiped(void **state)
{
	static const struct pst_auth zeros;
	struct pst_auth auth;

	(void)state;
	start(&auth, v, true, true);
	give(&auth, v->negotiate);
	pst_auth_done(&auth);
	assert_memory_equal(&auth, &zeros, sizeof(auth));
}

/* ---- Keys ---- */

/* Keys of nvme gen-dhchap-key are read, and written as they were. */
static void keys_have_one_text(void **state)
{
	static const char *const texts[] = { KEY_0, KEY_1, KEY_2, KEY_3 };

	(void)state;
	for (size_t i = 0; i < PST_ARRAY_COUNT(texts); i++) {
		struct pst_auth_key key = key_of(texts[i]);
		char text[PST_AUTH_KEY_TEXT_MAX];

		assert_int_equal(key.hash, i);
		assert_string_equal(pst_auth_key_format(&key, text), texts[i]);
	}
}

/* What is no key is refused with a reason; texts cut off anywhere, and with any one character changed, are none. */
static void bad_keys_are_refused(void **state)
{
	static const char *const bad[] = {
		"",
		":",
		"DHHC-1",
		"DHHC-1:",
		"DHHC-1:01",
		"DHHC-1:01:",
		"DHHC-1:01::",
		"DHHC-1:01:=:",
		"DHHC-1:01:====:",
		"DHHC-2:01:fkr22gpnkLfYT7jHyzW2gPFe/+SSFNumCVq5NkmR5dSMV7Yw:",
		"DHHC-1:04:fkr22gpnkLfYT7jHyzW2gPFe/+SSFNumCVq5NkmR5dSMV7Yw:",
		"DHHC-1:02:fkr22gpnkLfYT7jHyzW2gPFe/+SSFNumCVq5NkmR5dSMV7Yw:", /* 32 bytes are not SHA-384's */
		"DHHC-1:11:fkr22gpnkLfYT7jHyzW2gPFe/+SSFNumCVq5NkmR5dSMV7Yw:",
		"DHHC-1:01:fkr22gpnkLfYT7jHyzW2gPFe/+SSFNumCVq5NkmR5dSMV7Yw",
		"DHHC-1:01:fkr22gpnkLfYT7jHyzW2gPFe/+SSFNumCVq5NkmR5dSMV7Yw:\n",
		" DHHC-1:01:fkr22gpnkLfYT7jHyzW2gPFe/+SSFNumCVq5NkmR5dSMV7Yw:",
		KEY_3 KEY_3,
	};
	struct pst_auth_key key;
	const char *why;

	(void)state;
	for (size_t i = 0; i < PST_ARRAY_COUNT(bad); i++) {
		why = NULL;
		if (pst_auth_key_parse(bad[i], strlen(bad[i]), &key, &why) != PST_E_INVAL || why == NULL)
			fail_msg("taken for a key: '%s'", bad[i]);
	}
	for (size_t len = 0; len < strlen(KEY_2); len++)
		assert_int_equal(pst_auth_key_parse(KEY_2, len, &key, &why), PST_E_INVAL);
	for (size_t at = 10; at < strlen(KEY_2); at++) {
		char text[] = KEY_2;

		text[at] = text[at] == 'A' ? 'B' : 'A';
		assert_int_equal(pst_auth_key_parse(text, strlen(text), &key, &why), PST_E_INVAL);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(controller_matches_vectors),
		cmocka_unit_test(host_matches_vectors),
		cmocka_unit_test(keys_decide),
		cmocka_unit_test(controller_chooses),
		cmocka_unit_test(malformed_messages_fail_with_their_code),
		cmocka_unit_test(degenerate_public_values_are_refused),
		cmocka_unit_test(the_largest_value_is_two_below_the_prime),
		cmocka_unit_test(a_reflected_challenge_is_refused),
		cmocka_unit_test(a_failure_of_the_peer_ends_it),
		cmocka_unit_test(secrets_are_wiped),
		cmocka_unit_test(keys_have_one_text),
		cmocka_unit_test(bad_keys_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

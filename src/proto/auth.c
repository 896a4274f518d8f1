/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The transaction (Base 2.0, 8.13.5.2 to 8.13.5.6):
 *
 *	host                       controller
 *	HOST_NEGOTIATE  --------> CTRL_NEGOTIATE    AUTH_Negotiate: what the host can use
 *	HOST_CHALLENGE  <-------- CTRL_CHALLENGE    C1, S1, g^x: the controller has chosen
 *	HOST_REPLY      --------> CTRL_REPLY        R1, g^y; C2 and S2, if the host wants a proof
 *	HOST_SUCCESS1   <-------- CTRL_SUCCESS1     R2, if it did
 *	HOST_SUCCESS2   --------> CTRL_SUCCESS2     only then
 *
 * Any received message may lead to FAILURE1 (controller) or FAILURE2 (host) instead, which is sent and ends it; a
 * failure that the peer sends ends it at once. A message is accepted in one state only, with the transaction's T_ID.
 * Nothing that the peer chose is used before it has been checked; responses are compared in constant time.
 */
#include "proto/auth.h"

#include "proto/cursor.h"

#include <openssl/crypto.h>
#include <string.h>

static const struct {
	enum pst_auth_step step;
	uint8_t type, id; /* of the message that is sent or wanted */
} states[PST_AUTH_STATES] = {
	[PST_AUTH_CTRL_NEGOTIATE] = { PST_AUTH_RECEIVE, NVMF_AUTH_TYPE_COMMON, NVMF_AUTH_NEGOTIATE },
	[PST_AUTH_CTRL_CHALLENGE] = { PST_AUTH_SEND, NVMF_AUTH_TYPE_DHCHAP, NVMF_AUTH_CHALLENGE },
	[PST_AUTH_CTRL_REPLY] = { PST_AUTH_RECEIVE, NVMF_AUTH_TYPE_DHCHAP, NVMF_AUTH_REPLY },
	[PST_AUTH_CTRL_SUCCESS1] = { PST_AUTH_SEND, NVMF_AUTH_TYPE_DHCHAP, NVMF_AUTH_SUCCESS1 },
	[PST_AUTH_CTRL_SUCCESS2] = { PST_AUTH_RECEIVE, NVMF_AUTH_TYPE_DHCHAP, NVMF_AUTH_SUCCESS2 },
	[PST_AUTH_CTRL_FAILURE1] = { PST_AUTH_SEND, NVMF_AUTH_TYPE_COMMON, NVMF_AUTH_FAILURE1 },
	[PST_AUTH_HOST_NEGOTIATE] = { PST_AUTH_SEND, NVMF_AUTH_TYPE_COMMON, NVMF_AUTH_NEGOTIATE },
	[PST_AUTH_HOST_CHALLENGE] = { PST_AUTH_RECEIVE, NVMF_AUTH_TYPE_DHCHAP, NVMF_AUTH_CHALLENGE },
	[PST_AUTH_HOST_REPLY] = { PST_AUTH_SEND, NVMF_AUTH_TYPE_DHCHAP, NVMF_AUTH_REPLY },
	[PST_AUTH_HOST_SUCCESS1] = { PST_AUTH_RECEIVE, NVMF_AUTH_TYPE_DHCHAP, NVMF_AUTH_SUCCESS1 },
	[PST_AUTH_HOST_SUCCESS2] = { PST_AUTH_SEND, NVMF_AUTH_TYPE_DHCHAP, NVMF_AUTH_SUCCESS2 },
	[PST_AUTH_HOST_FAILURE2] = { PST_AUTH_SEND, NVMF_AUTH_TYPE_COMMON, NVMF_AUTH_FAILURE2 },
	[PST_AUTH_IS_DONE] = { PST_AUTH_DONE, 0, 0 },
	[PST_AUTH_IS_FAILED] = { PST_AUTH_FAILED, 0, 0 },
};

/*
 * Preferences, best first. Every hash is strong enough and cheap. Of the groups the first has the strength of the other
 * parts (128 bits) at a tenth of the cost of the largest; the NULL group leaves recorded exchanges open to guessing.
 */
static const uint8_t hash_order[] = { PST_AUTH_SHA512, PST_AUTH_SHA384, PST_AUTH_SHA256 };
static const uint8_t group_order[] = { PST_AUTH_FFDHE3072, PST_AUTH_FFDHE4096, PST_AUTH_FFDHE2048,
				       PST_AUTH_FFDHE6144, PST_AUTH_FFDHE8192, PST_AUTH_NULL_GROUP };

/* The header that all messages begin with. */
struct header {
	uint8_t auth_type, auth_id, reserved2[2];
	nvme_le16 t_id;
} __attribute__((packed));

static bool is_controller(const struct pst_auth *a)
{
	return a->state <= PST_AUTH_CTRL_FAILURE1;
}

static void fail(struct pst_auth *a, enum nvmf_auth_failure failure)
{
	a->failure = failure;
	a->state = is_controller(a) ? PST_AUTH_CTRL_FAILURE1 : PST_AUTH_HOST_FAILURE2;
}

/* ---- Life ---- */

pst_err pst_auth_init(struct pst_auth *a, const struct pst_auth_config *config, const struct pst_auth_random *random)
{
	size_t host_len = strlen(config->hostnqn), sub_len = strlen(config->subnqn);

	memset(a, 0, sizeof(*a));
	a->hashes = config->hashes != 0 ? config->hashes & PST_AUTH_HASHES : PST_AUTH_HASHES;
	a->groups = config->groups != 0 ? config->groups & PST_AUTH_GROUPS : PST_AUTH_GROUPS;
	if (host_len >= sizeof(a->hostnqn) || sub_len >= sizeof(a->subnqn) || a->hashes == 0 || a->groups == 0)
		return PST_E_INVAL;
	a->state = config->controller ? PST_AUTH_CTRL_NEGOTIATE : PST_AUTH_HOST_NEGOTIATE;
	memcpy(a->hostnqn, config->hostnqn, host_len);
	memcpy(a->subnqn, config->subnqn, sub_len);
	a->random = *random;
	a->t_id = random->t_id; /* the host's choice; the controller takes what comes */
	a->has_ctrl_key = config->ctrl_key != NULL;
	a->wants_proof = a->has_ctrl_key && !config->controller;
	if (!pst_auth_key_transform(config->host_key, a->hostnqn, &a->host_key) ||
	    (a->has_ctrl_key && !pst_auth_key_transform(config->ctrl_key, a->subnqn, &a->ctrl_key))) {
		pst_auth_done(a);
		return PST_E_NOMEM;
	}
	return PST_OK;
}

void pst_auth_done(struct pst_auth *a)
{
	OPENSSL_cleanse(a, sizeof(*a));
}

enum pst_auth_step pst_auth_step(const struct pst_auth *a)
{
	return states[a->state].step;
}

uint8_t pst_auth_failure(const struct pst_auth *a, bool *ret_by_peer)
{
	*ret_by_peer = a->failed_by_peer;
	return a->failure;
}

const char *pst_auth_failure_text(uint8_t failure)
{
	static const char *const texts[] = {
		[NVMF_AUTH_FAILED] = "the keys do not fit",
		[NVMF_AUTH_PROTOCOL_UNUSABLE] = "no common protocol",
		[NVMF_AUTH_CONCATENATION_MISMATCH] = "secure channel concatenation is not offered",
		[NVMF_AUTH_HASH_UNUSABLE] = "no common hash function",
		[NVMF_AUTH_GROUP_UNUSABLE] = "no common Diffie-Hellman group",
		[NVMF_AUTH_BAD_PAYLOAD] = "a message with a wrong payload",
		[NVMF_AUTH_BAD_MESSAGE] = "a message out of turn",
	};

	return failure < PST_ARRAY_COUNT(texts) && texts[failure] != NULL ? texts[failure] : "for an unknown reason";
}

/* ---- Values ---- */

static bool augment(const struct pst_auth *a, const uint8_t *challenge, uint8_t ret[PST_AUTH_HASH_MAX])
{
	if (a->group == PST_AUTH_NULL_GROUP) {
		memcpy(ret, challenge, pst_auth_hash_bytes(a->hash));
		return true;
	}
	return pst_auth_augment(a->hash, a->session_key, challenge, ret);
}

/* R1 (Base 2.0, 8.13.5.4) or R2 (Base 2.0, 8.13.5.5). */
static bool respond(const struct pst_auth *a, bool by_host, uint8_t ret[PST_AUTH_HASH_MAX])
{
	uint8_t challenge[PST_AUTH_HASH_MAX];
	struct pst_auth_response r = {
		.hash = a->hash,
		.key = by_host ? &a->host_key : &a->ctrl_key,
		.challenge = challenge,
		.seqnum = by_host ? a->s1 : a->s2,
		.t_id = a->t_id,
		.label = by_host ? "HostHost" : "Controller",
		.first_nqn = by_host ? a->hostnqn : a->subnqn,
		.second_nqn = by_host ? a->subnqn : a->hostnqn,
	};
	bool ok = augment(a, by_host ? a->c1 : a->c2, challenge) && pst_auth_respond(&r, ret);

	OPENSSL_cleanse(challenge, sizeof(challenge));
	return ok;
}

/* Does the peer's response fit? False after fail. */
static bool response_fits(struct pst_auth *a, bool by_host, const uint8_t *response)
{
	uint8_t expected[PST_AUTH_HASH_MAX];
	bool ok = respond(a, by_host, expected) && CRYPTO_memcmp(expected, response, pst_auth_hash_bytes(a->hash)) == 0;

	OPENSSL_cleanse(expected, sizeof(expected));
	if (!ok)
		fail(a, NVMF_AUTH_FAILED);
	return ok;
}

/* The peer's DH value, checked, gives the session key. False after fail. */
static bool exchange(struct pst_auth *a, const uint8_t *value)
{
	bool sound;

	if (a->group == PST_AUTH_NULL_GROUP)
		return true;
	if (!pst_auth_dh_check(a->group, value, &sound)) {
		fail(a, NVMF_AUTH_FAILED);
		return false;
	}
	if (!sound) { /* 0, 1, p - 1 and what is no member at all */
		fail(a, NVMF_AUTH_BAD_PAYLOAD);
		return false;
	}
	if (pst_auth_dh_session_key(a->group, a->hash, a->random.exponent, value, a->session_key))
		return true;
	fail(a, NVMF_AUTH_FAILED);
	return false;
}

static bool public_make(struct pst_auth *a)
{
	if (a->group == PST_AUTH_NULL_GROUP || pst_auth_dh_public(a->group, a->random.exponent, a->dh_value))
		return true;
	fail(a, NVMF_AUTH_FAILED);
	return false;
}

/* A sequence number is never 0 (Base 2.0, 8.13.5.3). */
static uint32_t seqnum_make(const struct pst_auth *a)
{
	return a->random.seqnum != 0 ? a->random.seqnum : 1;
}

/* ---- Messages of a host, at the controller ---- */

static bool list_has(const uint8_t *list, uint8_t len, uint8_t id)
{
	return memchr(list, id, len) != NULL;
}

/* Chooses hash and group, or fails. */
static bool choose(struct pst_auth *a, const struct nvmf_auth_descriptor *d)
{
	if (d->halen == 0 || d->halen > NVMF_AUTH_LIST_MAX || d->dhlen == 0 || d->dhlen > NVMF_AUTH_LIST_MAX) {
		fail(a, NVMF_AUTH_BAD_PAYLOAD);
		return false;
	}
	for (size_t i = 0; i < PST_ARRAY_COUNT(hash_order) && a->hash == 0; i++)
		if ((a->hashes >> hash_order[i] & 1) != 0 && list_has(d->hashes, d->halen, hash_order[i]))
			a->hash = hash_order[i];
	if (a->hash == 0) {
		fail(a, NVMF_AUTH_HASH_UNUSABLE);
		return false;
	}
	for (size_t i = 0; i < PST_ARRAY_COUNT(group_order); i++)
		if ((a->groups >> group_order[i] & 1) != 0 && list_has(d->groups, d->dhlen, group_order[i])) {
			a->group = group_order[i];
			return true;
		}
	fail(a, NVMF_AUTH_GROUP_UNUSABLE);
	return false;
}

/* Base 2.0, 8.13.5.2 */
static void got_negotiate(struct pst_auth *a, struct pst_bytes *in)
{
	const struct nvmf_auth_negotiate *m = pst_bytes_take(in, sizeof(*m));
	const struct nvmf_auth_descriptor *d, *ours = NULL;

	if (m == NULL || m->napd == 0) {
		fail(a, NVMF_AUTH_BAD_PAYLOAD);
		return;
	}
	a->t_id = nvme_get16(m->t_id);
	if (m->sc_c != 0) {
		fail(a, NVMF_AUTH_CONCATENATION_MISMATCH);
		return;
	}
	for (uint8_t i = 0; i < m->napd; i++) {
		d = pst_bytes_take(in, sizeof(*d));
		if (d == NULL) {
			fail(a, NVMF_AUTH_BAD_PAYLOAD);
			return;
		}
		if (ours == NULL && d->authid == NVMF_AUTH_PROTOCOL_DHCHAP)
			ours = d;
	}
	if (ours == NULL) {
		fail(a, NVMF_AUTH_PROTOCOL_UNUSABLE);
		return;
	}
	if (!choose(a, ours) || !public_make(a))
		return;
	memcpy(a->c1, a->random.challenge, pst_auth_hash_bytes(a->hash));
	a->s1 = seqnum_make(a);
	a->state = PST_AUTH_CTRL_CHALLENGE;
}

/* Base 2.0, 8.13.5.4 */
static void got_reply(struct pst_auth *a, struct pst_bytes *in)
{
	uint32_t hl = pst_auth_hash_bytes(a->hash), dhvlen = pst_auth_dh_bytes(a->group);
	const struct nvmf_auth_reply *m = pst_bytes_take(in, sizeof(*m));
	const uint8_t *r1 = pst_bytes_take(in, hl), *c2 = pst_bytes_take(in, hl), *dh = pst_bytes_take(in, dhvlen);

	if (m == NULL || r1 == NULL || c2 == NULL || dh == NULL || m->hl != hl || nvme_get16(m->dhvlen) != dhvlen ||
	    m->cvalid > 1) {
		fail(a, NVMF_AUTH_BAD_PAYLOAD);
		return;
	}
	a->wants_proof = m->cvalid == 1;
	/* A host that hands our challenge back would have us answer it. */
	if (a->wants_proof && CRYPTO_memcmp(c2, a->c1, hl) == 0) {
		fail(a, NVMF_AUTH_FAILED);
		return;
	}
	if (!exchange(a, dh) || !response_fits(a, true, r1))
		return;
	if (a->wants_proof) {
		if (!a->has_ctrl_key) {
			fail(a, NVMF_AUTH_FAILED);
			return;
		}
		memcpy(a->c2, c2, hl);
		a->s2 = nvme_get32(m->seqnum);
		if (!respond(a, false, a->response)) {
			fail(a, NVMF_AUTH_FAILED);
			return;
		}
	}
	a->state = PST_AUTH_CTRL_SUCCESS1;
}

/* ---- Messages of a controller, at the host ---- */

/* Base 2.0, 8.13.5.3 */
static void got_challenge(struct pst_auth *a, struct pst_bytes *in)
{
	const struct nvmf_auth_challenge *m = pst_bytes_take(in, sizeof(*m));
	const uint8_t *c1, *dh;

	if (m == NULL) {
		fail(a, NVMF_AUTH_BAD_PAYLOAD);
		return;
	}
	if (m->hash >= 32 || (a->hashes >> m->hash & 1) == 0) {
		fail(a, NVMF_AUTH_HASH_UNUSABLE);
		return;
	}
	if (m->group >= 32 || (a->groups >> m->group & 1) == 0) {
		fail(a, NVMF_AUTH_GROUP_UNUSABLE);
		return;
	}
	a->hash = m->hash;
	a->group = m->group;
	c1 = pst_bytes_take(in, pst_auth_hash_bytes(a->hash));
	dh = pst_bytes_take(in, pst_auth_dh_bytes(a->group));
	if (c1 == NULL || dh == NULL || m->hl != pst_auth_hash_bytes(a->hash) ||
	    nvme_get16(m->dhvlen) != pst_auth_dh_bytes(a->group) || nvme_get32(m->seqnum) == 0) {
		fail(a, NVMF_AUTH_BAD_PAYLOAD);
		return;
	}
	memcpy(a->c1, c1, m->hl);
	a->s1 = nvme_get32(m->seqnum);
	if (a->wants_proof) {
		memcpy(a->c2, a->random.challenge, m->hl);
		a->s2 = seqnum_make(a);
	}
	if (!exchange(a, dh) || !public_make(a))
		return;
	if (respond(a, true, a->response))
		a->state = PST_AUTH_HOST_REPLY;
	else
		fail(a, NVMF_AUTH_FAILED);
}

/* Base 2.0, 8.13.5.5 */
static void got_success1(struct pst_auth *a, struct pst_bytes *in)
{
	const struct nvmf_auth_success1 *m = pst_bytes_take(in, sizeof(*m));
	const uint8_t *r2 = pst_bytes_take(in, pst_auth_hash_bytes(a->hash));

	if (!a->wants_proof && m != NULL) {
		a->state = PST_AUTH_IS_DONE;
		return;
	}
	if (m == NULL || r2 == NULL || m->hl != pst_auth_hash_bytes(a->hash))
		fail(a, NVMF_AUTH_BAD_PAYLOAD);
	else if (m->rvalid != 1) /* it was asked to prove itself, and does not */
		fail(a, NVMF_AUTH_FAILED);
	else if (response_fits(a, false, r2))
		a->state = PST_AUTH_HOST_SUCCESS2;
}

/* ---- In ---- */

void pst_auth_receive(struct pst_auth *a, const uint8_t *message, size_t bytes)
{
	struct pst_bytes in = { message, bytes }, rest = { message, bytes };
	const struct header *h = pst_bytes_take(&in, sizeof(*h));
	bool controller = is_controller(a);
	uint8_t failure_id = controller ? NVMF_AUTH_FAILURE2 : NVMF_AUTH_FAILURE1;

	pst_assert(pst_auth_step(a) == PST_AUTH_RECEIVE);
	if (h == NULL) {
		fail(a, NVMF_AUTH_BAD_PAYLOAD);
		return;
	}
	if (h->auth_type == NVMF_AUTH_TYPE_COMMON && h->auth_id == failure_id &&
	    a->state != PST_AUTH_CTRL_NEGOTIATE) { /* there a failure has nothing that it could be of */
		const struct nvmf_auth_failure_message *m = pst_bytes_take(&rest, sizeof(*m));

		a->failure = m != NULL && m->rescode_exp != 0 ? m->rescode_exp : NVMF_AUTH_FAILED;
		a->failed_by_peer = true;
		a->state = PST_AUTH_IS_FAILED;
		return;
	}
	if (h->auth_type != states[a->state].type || h->auth_id != states[a->state].id) {
		fail(a, NVMF_AUTH_BAD_MESSAGE);
		return;
	}
	if (a->state != PST_AUTH_CTRL_NEGOTIATE && nvme_get16(h->t_id) != a->t_id) {
		fail(a, NVMF_AUTH_BAD_PAYLOAD);
		return;
	}
	switch (a->state) {
	case PST_AUTH_CTRL_NEGOTIATE:
		got_negotiate(a, &rest);
		break;
	case PST_AUTH_CTRL_REPLY:
		got_reply(a, &rest);
		break;
	case PST_AUTH_CTRL_SUCCESS2: /* Base 2.0, 8.13.5.6: it has no content */
		a->state = PST_AUTH_IS_DONE;
		break;
	case PST_AUTH_HOST_CHALLENGE:
		got_challenge(a, &rest);
		break;
	default:
		got_success1(a, &rest);
		break;
	}
}

/* ---- Out ---- */

uint32_t pst_auth_send_bytes(const struct pst_auth *a)
{
	uint32_t hl = pst_auth_hash_bytes(a->hash), dhvlen = pst_auth_dh_bytes(a->group);

	switch (a->state) {
	case PST_AUTH_CTRL_CHALLENGE:
		return (uint32_t)sizeof(struct nvmf_auth_challenge) + hl + dhvlen;
	case PST_AUTH_CTRL_SUCCESS1:
		return (uint32_t)sizeof(struct nvmf_auth_success1) + hl;
	case PST_AUTH_HOST_NEGOTIATE:
		return (uint32_t)(sizeof(struct nvmf_auth_negotiate) + sizeof(struct nvmf_auth_descriptor));
	case PST_AUTH_HOST_REPLY:
		return (uint32_t)sizeof(struct nvmf_auth_reply) + 2 * hl + dhvlen;
	case PST_AUTH_HOST_SUCCESS2:
		return (uint32_t)sizeof(struct nvmf_auth_success2);
	default:
		pst_assert(pst_auth_step(a) == PST_AUTH_SEND);
		return (uint32_t)sizeof(struct nvmf_auth_failure_message);
	}
}

static void put_negotiate(const struct pst_auth *a, struct nvmf_auth_negotiate *m)
{
	struct nvmf_auth_descriptor *d = &m->descriptors[0];

	m->napd = 1;
	d->authid = NVMF_AUTH_PROTOCOL_DHCHAP;
	for (size_t i = 0; i < PST_ARRAY_COUNT(hash_order); i++)
		if ((a->hashes >> hash_order[i] & 1) != 0)
			d->hashes[d->halen++] = hash_order[i];
	for (size_t i = 0; i < PST_ARRAY_COUNT(group_order); i++)
		if ((a->groups >> group_order[i] & 1) != 0)
			d->groups[d->dhlen++] = group_order[i];
}

static void put_challenge(const struct pst_auth *a, struct nvmf_auth_challenge *m)
{
	m->hl = (uint8_t)pst_auth_hash_bytes(a->hash);
	m->hash = a->hash;
	m->group = a->group;
	m->dhvlen = nvme_le16_of((uint16_t)pst_auth_dh_bytes(a->group));
	m->seqnum = nvme_le32_of(a->s1);
	memcpy(m->values, a->c1, m->hl);
	memcpy(m->values + m->hl, a->dh_value, pst_auth_dh_bytes(a->group));
}

/* C2 is there in any case; without a wish for a proof it is zeros, as c2 and s2 are. */
static void put_reply(const struct pst_auth *a, struct nvmf_auth_reply *m)
{
	m->hl = (uint8_t)pst_auth_hash_bytes(a->hash);
	m->cvalid = a->wants_proof;
	m->dhvlen = nvme_le16_of((uint16_t)pst_auth_dh_bytes(a->group));
	m->seqnum = nvme_le32_of(a->s2);
	memcpy(m->values, a->response, m->hl);
	memcpy(m->values + m->hl, a->c2, m->hl);
	memcpy(m->values + 2 * m->hl, a->dh_value, pst_auth_dh_bytes(a->group));
}

static void put_success1(const struct pst_auth *a, struct nvmf_auth_success1 *m)
{
	m->hl = (uint8_t)pst_auth_hash_bytes(a->hash);
	m->rvalid = a->wants_proof;
	if (a->wants_proof)
		memcpy(m->values, a->response, m->hl);
}

void pst_auth_send(struct pst_auth *a, uint8_t *message)
{
	struct header *h = (struct header *)(void *)message;

	memset(message, 0, pst_auth_send_bytes(a));
	h->auth_type = states[a->state].type;
	h->auth_id = states[a->state].id;
	h->t_id = nvme_le16_of(a->t_id);
	switch (a->state) {
	case PST_AUTH_CTRL_CHALLENGE:
		put_challenge(a, (void *)message);
		a->state = PST_AUTH_CTRL_REPLY;
		break;
	case PST_AUTH_CTRL_SUCCESS1:
		put_success1(a, (void *)message);
		a->state = a->wants_proof ? PST_AUTH_CTRL_SUCCESS2 : PST_AUTH_IS_DONE;
		break;
	case PST_AUTH_HOST_NEGOTIATE:
		put_negotiate(a, (void *)message);
		a->state = PST_AUTH_HOST_CHALLENGE;
		break;
	case PST_AUTH_HOST_REPLY:
		put_reply(a, (void *)message);
		a->state = PST_AUTH_HOST_SUCCESS1;
		break;
	case PST_AUTH_HOST_SUCCESS2:
		a->state = PST_AUTH_IS_DONE;
		break;
	default: {
		struct nvmf_auth_failure_message *m = (void *)message;

		m->rescode = NVMF_AUTH_FAILED;
		m->rescode_exp = a->failure;
		a->state = PST_AUTH_IS_FAILED;
	}
	}
}

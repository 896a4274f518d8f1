/* SPDX-License-Identifier: Apache-2.0 */
/* The pair of conn-pair.h with TLS between: for tests of that engine. Bytes move in pieces of at most chunk bytes. */
#ifndef PST_TEST_TLS_PAIR_H
#define PST_TEST_TLS_PAIR_H

#include "conn-pair.h"
#include "proto/tls.h"

struct tls_pair {
	struct pair *p;
	struct pst_tls_context *target_context, *host_context;
	struct pst_tls *target, *host; /* NULL: in clear */
	struct pipe to_target, to_host;
	struct pst_auth_key target_key;
	size_t chunk;
	uint64_t target_input_max; /* of all bytes, so many reach the target; UINT64_MAX: all */
	uint64_t damage_at;        /* in the bytes to the target, or to the host; UINT64_MAX: nowhere */
	bool damage_host;
};

struct tls_pair_config {
	struct pst_auth_key host_key, target_key; /* len_bytes 0: no such side */
	bool version_0, plain_allowed, plain_host;
	uint64_t rekey_records;
	size_t chunk;
};

#define TLS_PAIR_HOST "nqn.2026-01.example:host"
#define TLS_PAIR_SUBSYSTEM "nqn.2026-01.example:subsystem"

static inline struct tls_pair *tls_pair_new(const struct tls_pair_config *c)
{
	static const struct pair_config plain = { .incapsule_bytes = 8192, .data_digest = true };
	struct tls_pair *t = calloc(1, sizeof(*t));
	struct pst_tls_config config = { .buffer_bytes = PST_TLS_BUFFER_BYTES_MIN,
					 .handshake_bytes_max = 16384,
					 .rekey_records = c->rekey_records ? c->rekey_records : 1u << 24,
					 .plain_allowed = c->plain_allowed };
	struct pst_tls_identity identity;
	struct pst_tls_psk psk;

	t->p = pair_new(&plain);
	t->target_key = c->target_key;
	t->chunk = c->chunk ? c->chunk : SIZE_MAX / 2;
	t->target_input_max = t->damage_at = UINT64_MAX;
	pst_assert(pst_tls_context_new(PST_TLS_TARGET, &t->target_context) == PST_OK);
	pst_assert(pst_tls_context_new(PST_TLS_HOST, &t->host_context) == PST_OK);
	config.context = t->target_context;
	pst_assert(pst_tls_new(&config, NULL, NULL, &t->target) == PST_OK);
	if (c->plain_host)
		return t;
	config.context = t->host_context;
	pst_assert(pst_tls_psk_make(&c->host_key, TLS_PAIR_HOST, TLS_PAIR_SUBSYSTEM, &identity, &psk) == PST_OK);
	if (c->version_0) {
		identity.version = 0;
		identity.digest[0] = '\0';
		pst_assert(pst_tls_psk_derive(&c->host_key, &identity, &psk) == PST_OK);
	}
	pst_assert(pst_tls_new(&config, &identity, &psk, &t->host) == PST_OK);
	return t;
}

static inline void tls_pair_free(struct tls_pair *t)
{
	pst_tls_free(t->target);
	pst_tls_free(t->host);
	pst_tls_context_free(t->target_context);
	pst_tls_context_free(t->host_context);
	free(t->to_target.bytes);
	free(t->to_host.bytes);
	pair_free(t->p);
	free(t);
}

static inline bool tls_pair_output(struct tls_pair *t, struct pst_tls *tls, struct pst_conn *conn, struct pipe *pipe)
{
	bool host = pipe == &t->to_target;
	struct iovec iov[16];
	unsigned count = tls != NULL ? pst_tls_output(tls, conn, iov, 16) : pst_conn_output(conn, iov, 16);
	size_t sent = 0;

	for (unsigned i = 0; i < count; i++) {
		pipe_put(pipe, iov[i].iov_base, iov[i].iov_len);
		sent += iov[i].iov_len;
	}
	if (count > 0 && t->damage_host != host && t->damage_at < pipe->total && t->damage_at >= pipe->total - sent)
		pipe->bytes[pipe->to - (size_t)(pipe->total - t->damage_at)] ^= 0x20;
	if (count > 0 && tls != NULL)
		pst_tls_sent(tls, conn, sent);
	else if (count > 0)
		pst_conn_sent(conn, sent);
	return count > 0;
}

static inline bool tls_pair_input(struct tls_pair *t, struct pst_tls *tls, struct pst_conn *conn, struct pipe *pipe)
{
	struct iovec iov[16];
	size_t got = 0, most = PST_MIN(pipe->to - pipe->from, t->chunk);
	unsigned count;

	if (pipe == &t->to_target)
		most = PST_MIN(most, t->target_input_max - (pipe->total - (pipe->to - pipe->from)));
	if (most == 0)
		return false;
	count = tls != NULL ? pst_tls_want(tls, iov, 16) : pst_conn_want(conn, iov, 16);
	for (unsigned i = 0; i < count && got < most; i++) {
		size_t n = PST_MIN(iov[i].iov_len, most - got);

		memcpy(iov[i].iov_base, pipe->bytes + pipe->from, n);
		pipe->from += n;
		got += n;
	}
	if (count > 0 && tls != NULL)
		pst_tls_got(tls, got);
	else if (count > 0)
		pst_conn_got(conn, got);
	return got > 0;
}

/* The target looks keys up at once. */
static inline bool tls_pair_choose(struct tls_pair *t)
{
	const struct pst_tls_identity *offers;
	struct pst_tls_psk psk;
	unsigned count;

	if (t->target == NULL || pst_tls_state(t->target) != PST_TLS_OFFERED)
		return false;
	offers = pst_tls_offers(t->target, &count);
	pst_assert(count > 0);
	if (pst_tls_psk_derive(&t->target_key, &offers[0], &psk) == PST_OK)
		pst_tls_choose(t->target, 0, &psk);
	else
		pst_tls_choose(t->target, 0, NULL);
	return true;
}

static inline bool tls_pair_events(struct tls_pair *t)
{
	bool any = pair_events(t->p);

	while (t->target != NULL && pst_tls_feed(t->target, t->p->target))
		any |= pair_events(t->p);
	while (t->host != NULL && pst_tls_feed(t->host, t->p->host))
		any |= pair_events(t->p);
	if (t->target != NULL && pst_tls_spent(t->target)) {
		pst_tls_free(t->target);
		t->target = NULL;
	}
	return tls_pair_choose(t) || any;
}

/* Moves bytes until nothing moves. */
static inline void tls_pair_run(struct tls_pair *t)
{
	bool moved;

	do {
		moved = tls_pair_events(t);
		moved |= tls_pair_output(t, t->host, t->p->host, &t->to_target);
		moved |= tls_pair_output(t, t->target, t->p->target, &t->to_host);
		moved |= tls_pair_input(t, t->target, t->p->target, &t->to_target);
		moved |= tls_pair_events(t);
		moved |= tls_pair_input(t, t->host, t->p->host, &t->to_host);
	} while (moved);
}

#endif

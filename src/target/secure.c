/* SPDX-License-Identifier: Apache-2.0 */
/*
 * TLS of a connection: an engine (proto/tls.h) between its stream and its connection engine, on the connection's shard.
 *
 *   first byte -> ClientHello -> lookup at the home shard, where the keys are -> handshake -> as without TLS
 *
 * The lookup carries the key back in secret memory; one is made per connection. While it is under way the queue is not
 * freed. Failures close the connection: with an alert, which the peer has a second to read, and one line in the log.
 *
 * Any other end is an orderly one: behind what is being sent goes the closing alert, and then the stream is closed.
 * A peer that takes nothing holds that up for a moment only, and nobody waits for its own alert.
 */
#include "target/internal.h"

#include <openssl/crypto.h>

struct pst_tls_lookup {
	struct pst_queue *queue;
	struct pst_post post;
	bool found;
	unsigned which;
	struct pst_tls_psk psk;
};

pst_err pst_secure_begin(struct pst_queue *queue)
{
	const struct pst_target_config *target = &queue->shard->target->config;
	const struct pst_tls_config config = {
		.context = queue->shard->target->tls,
		.buffer_bytes = target->tls_buffer_bytes,
		.handshake_bytes_max = target->tls_handshake_bytes_max,
		.rekey_records = target->tls_rekey_records,
		.plain_allowed = queue->shard->target->ports[queue->port].tls == PST_TARGET_TLS_ALLOWED,
	};

	return pst_tls_new(&config, NULL, NULL, &queue->tls);
}

/* ---- The key ---- */

static void lookup_answered(struct pst_post *post)
{
	struct pst_tls_lookup *lookup = pst_container_of(post, struct pst_tls_lookup, post);
	struct pst_queue *queue = lookup->queue;

	queue->lookup = NULL;
	if (pst_tls_state(queue->tls) == PST_TLS_OFFERED)
		pst_tls_choose(queue->tls, lookup->which, lookup->found ? &lookup->psk : NULL);
	pst_secret_free(queue->shard->env, lookup, sizeof(*lookup));
	pst_queue_resume(queue);
}

static void lookup_at_home(struct pst_post *post)
{
	struct pst_tls_lookup *lookup = pst_container_of(post, struct pst_tls_lookup, post);
	unsigned count;
	const struct pst_tls_identity *offers = pst_tls_offers(lookup->queue->tls, &count);

	lookup->found = pst_access_find_psk(lookup->queue->shard->target, offers, count, &lookup->which, &lookup->psk);
	post->fn = lookup_answered;
	pst_env_post(lookup->queue->shard->env, post);
}

static void lookup_begin(struct pst_queue *queue)
{
	struct pst_tls_lookup *lookup = pst_secret_alloc(queue->shard->env, sizeof(*lookup));

	if (lookup == NULL) {
		pst_queue_close(queue, "there is no memory for its key");
		return;
	}
	lookup->queue = queue;
	lookup->post.fn = lookup_at_home;
	queue->lookup = lookup;
	pst_env_post(pst_target_home(queue->shard->target), &lookup->post);
}

/* ---- What has become of it ---- */

static void opened(struct pst_queue *queue)
{
	char peer[72];

	queue->tls_peer = pst_tls_peer(queue->tls);
	pst_env_log(queue->shard->env, PST_LOG_DEBUG, "tls_open peer=%s host=%s nqn=%s cipher=%s",
		    pst_addr_format(&queue->peer, peer), queue->tls_peer->hostnqn, queue->tls_peer->subnqn,
		    pst_tls_cipher(queue->tls));
}

static void failed(struct pst_queue *queue)
{
	const char *reason;
	pst_err err = pst_tls_error(queue->tls, &reason);
	unsigned count;
	const struct pst_tls_identity *offers = pst_tls_offers(queue->tls, &count);
	char peer[72];

	if (err == PST_E_CLOSED) {
		pst_queue_close(queue, "closed by the host");
		return;
	}
	pst_env_log(queue->shard->env, PST_LOG_WARN, "tls_failed peer=%s qid=%u host=%s reason=\"%s\" next=close",
		    pst_addr_format(&queue->peer, peer), queue->qid, count > 0 ? offers[0].hostnqn : "-", reason);
	if (err == PST_E_UNSUPPORTED) /* it would not understand an alert */
		pst_queue_close(queue, reason);
	else
		pst_queue_terminate(queue);
}

bool pst_secure_feed(struct pst_queue *queue)
{
	bool more = pst_tls_feed(queue->tls, queue->conn);

	switch (pst_tls_state(queue->tls)) {
	case PST_TLS_OFFERED:
		if (queue->lookup == NULL)
			lookup_begin(queue);
		break;
	case PST_TLS_OPEN:
		if (queue->tls_peer == NULL)
			opened(queue);
		break;
	case PST_TLS_FAILED:
		if (queue->state != PST_QUEUE_TERMINATING)
			failed(queue);
		break;
	case PST_TLS_PLAIN:
		if (pst_tls_spent(queue->tls)) {
			pst_tls_free(queue->tls);
			queue->tls = NULL;
		}
		break;
	default:
		break;
	}
	return more;
}

/* ---- The end (RFC 8446, 6.1) ---- */

static void parted(struct pst_queue *queue)
{
	queue->parting = false;
	pst_timer_disarm(queue->shard->env, &queue->parting_end);
	pst_queue_shut(queue);
}

static void parting_late(struct pst_timer *timer)
{
	parted(pst_container_of(timer, struct pst_queue, parting_end));
}

/* What is left to be sent is the alert alone; 0: it has left. */
static void parting_send(struct pst_queue *queue)
{
	unsigned count = pst_tls_output(queue->tls, queue->conn, queue->send_iov, PST_SEND_IOV_MAX);

	if (count == 0) {
		parted(queue);
		return;
	}
	queue->sending = true;
	queue->send.iov = queue->send_iov;
	queue->send.iov_count = count;
	pst_stream_send(queue->stream, &queue->send);
}

void pst_secure_parting_sent(struct pst_queue *queue)
{
	if (!queue->parting)
		return;
	if (queue->send.err != PST_OK) {
		parted(queue);
		return;
	}
	pst_tls_sent(queue->tls, queue->conn, queue->send.done_bytes);
	parting_send(queue);
}

bool pst_secure_part(struct pst_queue *queue)
{
	/* After an error nothing can be sent. */
	if (queue->tls == NULL || (!queue->sending && queue->send.err != PST_OK) || !pst_tls_goodbye(queue->tls))
		return false;
	queue->parting = true;
	pst_timer_init(&queue->parting_end, parting_late);
	pst_timer_arm(queue->shard->env, &queue->parting_end,
		      pst_env_now_ns(queue->shard->env) + PST_PARTING_TIMEOUT_NS);
	if (!queue->sending)
		parting_send(queue);
	return true;
}

const char *pst_secure_ending(const struct pst_queue *queue)
{
	if (queue->tls != NULL && pst_tls_state(queue->tls) == PST_TLS_OPEN)
		return "cut off by the host, without TLS's closing alert";
	return "closed by the host";
}

const char *pst_secure_late(const struct pst_queue *queue, uint64_t now_ns)
{
	uint64_t max_ns = pst_ms_ns(queue->shard->target->config.tls_handshake_timeout_ms);

	if (queue->tls_peer != NULL || pst_tls_state(queue->tls) == PST_TLS_PLAIN ||
	    now_ns - queue->state_since_ns <= max_ns)
		return NULL;
	return "no TLS handshake in time";
}

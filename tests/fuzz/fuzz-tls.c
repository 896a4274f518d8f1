/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzz target: what a stream may bring to the engine for TLS. The first byte chooses:
 *
 *   0, 1   any bytes to a target, which takes hosts without TLS or does not
 *   2      any bytes to a host
 *   3      any text as a key, as an identity, and as a list of these
 *   4...   a whole handshake and a Write, with bytes changed on their way (a position in 2 bytes, what is changed in
 *          1), and in pieces of the length that this byte says
 *
 * Who does not know the key is never taken for genuine, nothing reaches a protocol engine that was not sent, and an
 * engine that has failed takes what comes and says why. The handshake's randomness is the same every time.
 */
#include "../unit/tls-pair.h"

#define OPENSSL_SUPPRESS_DEPRECATED /* RAND_set_rand_method: the whole generator, for all of the process */
#include <openssl/rand.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len_bytes);

#define PAYLOAD 20000u

static struct pst_prng prng;

static int seeded_bytes(unsigned char *buf, int bytes)
{
	for (int i = 0; i < bytes; i++)
		buf[i] = (unsigned char)pst_prng_below(&prng, 256);
	return 1;
}

static int seeded_status(void)
{
	return 1;
}

static void check(const struct pst_tls *tls)
{
	const char *reason = NULL;
	pst_err err = pst_tls_error(tls, &reason);

	pst_assert((err != PST_OK) == (pst_tls_state(tls) == PST_TLS_FAILED) && (err == PST_OK) == (reason == NULL));
}

/* All of it into one engine. */
static void raw(struct tls_pair *t, struct pst_tls *tls, struct pst_conn *conn, const uint8_t *data, size_t len)
{
	struct pst_conn_event event;
	struct iovec iov;

	while (len > 0) {
		size_t n;

		if (tls_pair_output(t, tls, conn, tls == t->host ? &t->to_target : &t->to_host))
			continue;
		if (pst_tls_want(tls, &iov, 1) == 0)
			break; /* the protocol engine waits for an answer */
		n = PST_MIN(len, iov.iov_len);
		memcpy(iov.iov_base, data, n);
		pst_tls_got(tls, n);
		data += n;
		len -= n;
		while (pst_tls_feed(tls, conn))
			while (pst_conn_next_event(conn, &event))
				if (event.kind == PST_CONN_COMMAND)
					pst_conn_answer(conn, event.cmd, &(struct pst_conn_result){ 0 }, NULL, 0, 0);
		(void)tls_pair_choose(t);
		check(tls);
		pst_assert(pst_tls_state(tls) != PST_TLS_OPEN);
	}
}

static void texts(const uint8_t *data, size_t len)
{
	char text[PST_TLS_IDENTITY_MAX + 1], key_text[PST_TLS_KEY_TEXT_MAX];
	struct pst_tls_identity identity, offers[PST_TLS_OFFERS_MAX];
	struct pst_auth_key key;
	const char *why = NULL;

	pst_assert(pst_tls_offers_parse(data, len, offers, PST_TLS_OFFERS_MAX) <= PST_TLS_OFFERS_MAX);
	if (pst_tls_identity_parse((const char *)data, len, &identity))
		pst_assert(pst_tls_identity_format(&identity, text) == len && memcmp(text, data, len) == 0);
	if (pst_tls_key_parse((const char *)data, len, &key, &why) == PST_OK)
		pst_assert(strlen(pst_tls_key_format(&key, key_text)) == len && memcmp(key_text, data, len) == 0);
	else
		pst_assert(why != NULL);
}

/* Only what was written may be on the device, whatever is done to the bytes on their way. */
static void damaged(struct tls_pair *t, const uint8_t *data, size_t len)
{
	static uint8_t payload[PAYLOAD];
	struct iovec iov = { payload, PAYLOAD };
	bool submitted = false;

	memset(payload, 0x5c, sizeof(payload));
	for (unsigned turn = 0; turn < 40; turn++) {
		bool to_host = (turn & 1) != 0;
		struct pipe *pipe = to_host ? &t->to_host : &t->to_target;
		size_t before = pipe->to;

		(void)tls_pair_events(t);
		(void)tls_pair_output(t, to_host ? t->target : t->host, to_host ? t->p->target : t->p->host, pipe);
		if (len >= 3 && pipe->to > before) {
			size_t at = ((size_t)data[0] << 8 | data[1]) % (pipe->to - before);

			pipe->bytes[before + at] ^= data[2];
			data += 3;
			len -= 3;
		}
		while (tls_pair_input(t, to_host ? t->host : t->target, to_host ? t->p->host : t->p->target, pipe))
			(void)tls_pair_events(t);
		if (!submitted && t->p->host_ready > 0) {
			submitted = true;
			(void)pair_submit(t->p, NVME_CMD_WRITE, 0, &iov, 1, 0, PAYLOAD);
		}
		check(t->target);
		check(t->host);
	}
	for (size_t i = 0; i < PAYLOAD; i++)
		pst_assert(t->p->device[i] == 0 || t->p->device[i] == 0x5c);
	pst_assert(t->p->target_end.kind == 0 && t->p->host_end.kind == 0); /* no malformed PDU gets through */
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len_bytes)
{
	static RAND_METHOD method = { .bytes = seeded_bytes, .pseudorand = seeded_bytes, .status = seeded_status };
	static const struct pst_auth_key key = { .hash = 1, .len_bytes = 32, .bytes = "nobody knows this" };
	struct tls_pair_config config = { .host_key = key, .target_key = key };
	uint8_t how = len_bytes > 0 ? data[0] : 0;
	struct tls_pair *t;

	if (len_bytes == 0)
		return 0;
	pst_prng_init(&prng, 1);
	pst_assert(RAND_set_rand_method(&method) == 1);
	config.plain_allowed = how == 1;
	config.version_0 = (how & 4) != 0;
	config.chunk = how >= 4 ? 8u * how : 0;
	t = tls_pair_new(&config);
	if (how == 3)
		texts(data + 1, len_bytes - 1);
	else if (how == 2)
		raw(t, t->host, t->p->host, data + 1, len_bytes - 1);
	else if (how < 2)
		raw(t, t->target, t->p->target, data + 1, len_bytes - 1);
	else
		damaged(t, data + 1, len_bytes - 1);
	tls_pair_free(t);
	return 0;
}

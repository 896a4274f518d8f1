/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Receiving: the stream fills `in`, from which libssl takes records through a BIO of ours and decrypts them into the
 * connection engine's buffers. Sending: pieces of the connection engine's output are gathered to records of up to 16
 * KiB (those that are that long go straight in) and encrypted into one of two buffers, while the other is being sent.
 *
 * States go FIRST -> (PLAIN | HANDSHAKE), HANDSHAKE -> OFFERED -> HANDSHAKE -> OPEN; a host begins in HANDSHAKE. From
 * all of them to FAILED. A record is only begun when there is room for the longest one, so libssl never has half of one
 * on its hands; what it must answer on its own (alerts, KeyUpdate) and has no room for waits inside it.
 */
#include "proto/tls.h"

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdlib.h>
#include <string.h>

#define RECORD_BYTES 16384u
#define RECORD_ROOM (RECORD_BYTES + 512u) /* with header, tag, and a KeyUpdate before it */
#define HANDSHAKE_RECORD 0x16u
#define OUT_IOV 64u
#define IN_IOV 66u

struct pst_tls_context {
	SSL_CTX *ssl;
	BIO_METHOD *bio;
	enum pst_tls_role role;
};

struct out {
	uint8_t *bytes;
	size_t used;
};

struct pst_tls {
	struct pst_tls_config config;
	enum pst_tls_state state;
	pst_err err; /* once FAILED */
	const char *reason;
	SSL *ssl;             /* target: from the first byte on */
	SSL_SESSION *session; /* the PSK, until OPEN; libssl wipes it */
	struct pst_tls_identity offers[PST_TLS_OFFERS_MAX];
	unsigned offer_count, chosen;
	bool decided; /* pst_tls_choose has been called */
	char identity[PST_TLS_IDENTITY_MAX + 1];
	size_t identity_bytes;
	uint64_t handshake_bytes, records;

	uint8_t *in; /* in_from to in_to has been received */
	size_t in_from, in_to;
	bool receiving;
	struct out out[2];
	unsigned filling; /* index of the one that is written to */
	bool sending;     /* the other one is on its way */
	uint8_t *record;  /* gathers short pieces */
};

/* ---- The context ---- */

static struct pst_tls *tls_of_bio(BIO *bio)
{
	return BIO_get_data(bio);
}

static int bio_read(BIO *bio, char *to, int bytes)
{
	struct pst_tls *tls = tls_of_bio(bio);
	size_t count = PST_MIN(tls->in_to - tls->in_from, (size_t)PST_MAX(bytes, 0));

	BIO_clear_retry_flags(bio);
	if (count == 0) {
		BIO_set_retry_read(bio);
		return -1;
	}
	memcpy(to, tls->in + tls->in_from, count);
	tls->in_from += count;
	return (int)count;
}

static int bio_write(BIO *bio, const char *from, int bytes)
{
	struct pst_tls *tls = tls_of_bio(bio);
	struct out *out = &tls->out[tls->filling];

	BIO_clear_retry_flags(bio);
	if (bytes < 0 || (size_t)bytes > tls->config.buffer_bytes - out->used) {
		BIO_set_retry_write(bio);
		return -1;
	}
	memcpy(out->bytes + out->used, from, (size_t)bytes);
	out->used += (size_t)bytes;
	return bytes;
}

static long bio_ctrl(BIO *bio, int what, long number, void *pointer)
{
	(void)bio;
	(void)number;
	(void)pointer;
	return what == BIO_CTRL_FLUSH;
}

static int bio_create(BIO *bio)
{
	BIO_set_init(bio, 1);
	return 1;
}

static int on_client_hello(SSL *ssl, int *ret_alert, void *arg);
static int on_identity(SSL *ssl, const unsigned char *identity, size_t bytes, SSL_SESSION **ret_session);
static int on_key_wanted(SSL *ssl, const EVP_MD *md, const unsigned char **ret_identity, size_t *ret_bytes,
			 SSL_SESSION **ret_session);

/*
 * TCP 1.0, 3.6.1.1, 3.6.1.2 and 3.6.1.6: 1.3, keys with an ephemeral exchange (RFC 8446, 4.2.9), no early data.
 * Resumption would be a second way in, past the keys that are in force: there are no tickets.
 */
static bool context_set(struct pst_tls_context *c)
{
	SSL_CTX_set_options(c->ssl, SSL_OP_NO_TICKET | SSL_OP_NO_RENEGOTIATION);
	SSL_CTX_set_mode(c->ssl, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
	SSL_CTX_set_session_cache_mode(c->ssl, SSL_SESS_CACHE_OFF);
	SSL_CTX_set_read_ahead(c->ssl, 1);
	if (c->role == PST_TLS_TARGET) {
		SSL_CTX_set_client_hello_cb(c->ssl, on_client_hello, NULL);
		SSL_CTX_set_psk_find_session_callback(c->ssl, on_identity);
	} else {
		SSL_CTX_set_psk_use_session_callback(c->ssl, on_key_wanted);
	}
	return SSL_CTX_set_min_proto_version(c->ssl, TLS1_3_VERSION) == 1 &&
	       SSL_CTX_set_max_proto_version(c->ssl, TLS1_3_VERSION) == 1 && SSL_CTX_set_num_tickets(c->ssl, 0) == 1 &&
	       SSL_CTX_set1_groups_list(c->ssl, "X25519:P-256:P-384:ffdhe3072") == 1;
}

static bool bio_set(BIO_METHOD *bio)
{
	return BIO_meth_set_read(bio, bio_read) == 1 && BIO_meth_set_write(bio, bio_write) == 1 &&
	       BIO_meth_set_ctrl(bio, bio_ctrl) == 1 && BIO_meth_set_create(bio, bio_create) == 1;
}

pst_err pst_tls_context_new(enum pst_tls_role role, struct pst_tls_context **ret_context)
{
	struct pst_tls_context *c = calloc(1, sizeof(*c));

	if (c == NULL)
		return PST_E_NOMEM;
	c->role = role;
	c->ssl = SSL_CTX_new(role == PST_TLS_TARGET ? TLS_server_method() : TLS_client_method());
	c->bio = BIO_meth_new(BIO_TYPE_SOURCE_SINK, "memory of a connection");
	if (c->ssl == NULL || c->bio == NULL || !context_set(c) || !bio_set(c->bio)) {
		ERR_clear_error();
		pst_tls_context_free(c);
		return PST_E_NOMEM;
	}
	*ret_context = c;
	return PST_OK;
}

void pst_tls_context_free(struct pst_tls_context *c)
{
	if (c == NULL)
		return;
	SSL_CTX_free(c->ssl);
	BIO_meth_free(c->bio);
	free(c);
}

/* ---- Birth and end ---- */

static bool ssl_begin(struct pst_tls *tls)
{
	BIO *bio;

	tls->ssl = SSL_new(tls->config.context->ssl);
	bio = tls->ssl != NULL ? BIO_new(tls->config.context->bio) : NULL;
	if (bio == NULL)
		return false;
	BIO_set_data(bio, tls);
	SSL_set_bio(tls->ssl, bio, bio);
	SSL_set_app_data(tls->ssl, tls);
	if (tls->config.context->role == PST_TLS_TARGET)
		SSL_set_accept_state(tls->ssl);
	else
		SSL_set_connect_state(tls->ssl);
	return true;
}

/* The PSK as libssl keeps it, and its suite as the only one (TCP 1.0, 3.6.1.2 and 3.6.1.3). */
static bool session_begin(struct pst_tls *tls, const struct pst_tls_identity *identity, const struct pst_tls_psk *psk)
{
	static const uint8_t suites[][2] = { [PST_TLS_SHA256] = { 0x13, 0x01 }, [PST_TLS_SHA384] = { 0x13, 0x02 } };
	static const char *const names[] = {
		[PST_TLS_SHA256] = "TLS_AES_128_GCM_SHA256", [PST_TLS_SHA384] = "TLS_AES_256_GCM_SHA384"
	};
	const SSL_CIPHER *cipher = SSL_CIPHER_find(tls->ssl, suites[psk->hash]);

	pst_assert(identity->hash == psk->hash);
	tls->identity_bytes = pst_tls_identity_format(identity, tls->identity);
	tls->session = SSL_SESSION_new();
	return tls->session != NULL && cipher != NULL &&
	       SSL_SESSION_set1_master_key(tls->session, psk->bytes, psk->len_bytes) == 1 &&
	       SSL_SESSION_set_cipher(tls->session, cipher) == 1 &&
	       SSL_SESSION_set_protocol_version(tls->session, TLS1_3_VERSION) == 1 &&
	       SSL_set_ciphersuites(tls->ssl, names[psk->hash]) == 1;
}

pst_err pst_tls_new(const struct pst_tls_config *config, const struct pst_tls_identity *identity,
		    const struct pst_tls_psk *psk, struct pst_tls **ret_tls)
{
	struct pst_tls *tls = calloc(1, sizeof(*tls));
	bool host = config->context->role == PST_TLS_HOST, ok;

	pst_assert(config->buffer_bytes >= PST_TLS_BUFFER_BYTES_MIN && config->rekey_records > 0);
	pst_assert(host == (psk != NULL) && host == (identity != NULL));
	if (tls == NULL)
		return PST_E_NOMEM;
	tls->config = *config;
	tls->state = host ? PST_TLS_HANDSHAKE : PST_TLS_FIRST;
	tls->in = malloc(config->buffer_bytes);
	tls->out[0].bytes = malloc(config->buffer_bytes);
	tls->out[1].bytes = malloc(config->buffer_bytes);
	tls->record = malloc(RECORD_BYTES);
	ok = tls->in != NULL && tls->out[0].bytes != NULL && tls->out[1].bytes != NULL && tls->record != NULL;
	if (!ok || (host && (!ssl_begin(tls) || !session_begin(tls, identity, psk)))) {
		ERR_clear_error();
		pst_tls_free(tls);
		return PST_E_NOMEM;
	}
	*ret_tls = tls;
	return PST_OK;
}

void pst_tls_free(struct pst_tls *tls)
{
	if (tls == NULL)
		return;
	SSL_free(tls->ssl);
	SSL_SESSION_free(tls->session);
	free(tls->in);
	free(tls->out[0].bytes);
	free(tls->out[1].bytes);
	free(tls->record);
	free(tls);
}

enum pst_tls_state pst_tls_state(const struct pst_tls *tls)
{
	return tls->state;
}

pst_err pst_tls_error(const struct pst_tls *tls, const char **ret_reason)
{
	*ret_reason = tls->reason;
	return tls->state == PST_TLS_FAILED ? tls->err : PST_OK;
}

const char *pst_tls_cipher(const struct pst_tls *tls)
{
	return SSL_get_cipher_name(tls->ssl);
}

/* ---- Failures ---- */

static void fail(struct pst_tls *tls, pst_err err, const char *reason)
{
	if (tls->state == PST_TLS_FAILED)
		return;
	tls->state = PST_TLS_FAILED;
	tls->err = err;
	tls->reason = reason;
}

/* What libssl has no words of its own for, or none that help. */
static const struct {
	int reason;
	pst_err err;
	const char *text;
} reasons[] = {
	{ SSL_R_BINDER_DOES_NOT_VERIFY, PST_E_DENIED, "the host's key is wrong" },
	{ SSL_AD_REASON_OFFSET + SSL_AD_DECRYPT_ERROR, PST_E_DENIED, "the peer refuses the key: unknown or wrong" },
	/* What libssl says to a wrong key (a binder that does not verify). */
	{ SSL_AD_REASON_OFFSET + SSL_AD_ILLEGAL_PARAMETER, PST_E_DENIED, "the peer refuses the key, as it seems" },
	{ SSL_AD_REASON_OFFSET + SSL_AD_UNKNOWN_PSK_IDENTITY, PST_E_DENIED, "the peer does not know the key" },
	{ SSL_AD_REASON_OFFSET + SSL_AD_HANDSHAKE_FAILURE, PST_E_DENIED, "the peer refuses key or cipher suite" },
	{ SSL_AD_REASON_OFFSET + SSL_AD_ACCESS_DENIED, PST_E_DENIED, "the peer denies access" },
	{ SSL_R_WRONG_VERSION_NUMBER, PST_E_PROTO, "the peer does not speak TLS" },
	{ SSL_R_UNSUPPORTED_PROTOCOL, PST_E_PROTO, "the peer does not speak TLS 1.3" },
	{ ERR_R_MALLOC_FAILURE, PST_E_NOMEM, "there is no memory" },
};

static void fail_ssl(struct pst_tls *tls)
{
	unsigned long error = ERR_peek_error();
	const char *text = ERR_reason_error_string(error);

	for (unsigned i = 0; i < PST_ARRAY_COUNT(reasons); i++)
		if (reasons[i].reason == ERR_GET_REASON(error))
			fail(tls, reasons[i].err, reasons[i].text);
	fail(tls, PST_E_PROTO, text != NULL ? text : "libssl does not say why");
	ERR_clear_error();
}

/* After a call that has not succeeded. True: it waits for bytes, or for room. */
static bool waits(struct pst_tls *tls, int result)
{
	switch (SSL_get_error(tls->ssl, result)) {
	case SSL_ERROR_WANT_READ:
	case SSL_ERROR_WANT_WRITE:
		return true;
	case SSL_ERROR_ZERO_RETURN: /* close_notify (RFC 8446, 6.1) */
		fail(tls, PST_E_CLOSED, "closed by the peer");
		return false;
	default:
		fail_ssl(tls);
		return false;
	}
}

/* ---- Handshake ---- */

/*
 * Called when a ClientHello is there, again after pst_tls_choose, and for the second one after a HelloRetryRequest. An
 * unknown name ends with the alert that libssl sends for a wrong key: strangers need not learn which names exist.
 */
static int on_client_hello(SSL *ssl, int *ret_alert, void *arg)
{
	struct pst_tls *tls = SSL_get_app_data(ssl);
	const unsigned char *extension;
	size_t bytes;

	(void)arg;
	if (tls->decided) {
		if (tls->session != NULL)
			return SSL_CLIENT_HELLO_SUCCESS;
		fail(tls, PST_E_DENIED, "none of the host's keys is known here, or the key is another one");
		*ret_alert = SSL_AD_ILLEGAL_PARAMETER;
		return SSL_CLIENT_HELLO_ERROR;
	}
	if (SSL_client_hello_get0_ext(ssl, TLSEXT_TYPE_psk, &extension, &bytes) == 1)
		tls->offer_count = pst_tls_offers_parse(extension, bytes, tls->offers, PST_TLS_OFFERS_MAX);
	if (tls->offer_count > 0)
		return SSL_CLIENT_HELLO_RETRY;
	fail(tls, PST_E_DENIED, "the host offers no key with an NVMe identity");
	*ret_alert = SSL_AD_MISSING_EXTENSION;
	return SSL_CLIENT_HELLO_ERROR;
}

static int on_identity(SSL *ssl, const unsigned char *identity, size_t bytes, SSL_SESSION **ret_session)
{
	struct pst_tls *tls = SSL_get_app_data(ssl);

	*ret_session = NULL;
	if (tls->session == NULL || bytes != tls->identity_bytes || memcmp(identity, tls->identity, bytes) != 0)
		return 1; /* it may offer others */
	if (SSL_SESSION_up_ref(tls->session) != 1)
		return 0;
	*ret_session = tls->session;
	return 1;
}

static int on_key_wanted(SSL *ssl, const EVP_MD *md, const unsigned char **ret_identity, size_t *ret_bytes,
			 SSL_SESSION **ret_session)
{
	struct pst_tls *tls = SSL_get_app_data(ssl);

	(void)md; /* there is one suite, so this is its hash function */
	if (SSL_SESSION_up_ref(tls->session) != 1)
		return 0;
	*ret_identity = (const unsigned char *)tls->identity;
	*ret_bytes = tls->identity_bytes;
	*ret_session = tls->session;
	return 1;
}

const struct pst_tls_identity *pst_tls_offers(const struct pst_tls *tls, unsigned *ret_count)
{
	*ret_count = tls->offer_count;
	return tls->offers;
}

void pst_tls_choose(struct pst_tls *tls, unsigned which, const struct pst_tls_psk *psk)
{
	pst_assert(tls->state == PST_TLS_OFFERED && (psk == NULL || which < tls->offer_count));
	tls->decided = true;
	tls->chosen = which;
	tls->state = PST_TLS_HANDSHAKE;
	if (psk == NULL || session_begin(tls, &tls->offers[which], psk))
		return;
	ERR_clear_error();
	fail(tls, PST_E_NOMEM, "there is no memory");
}

const struct pst_tls_identity *pst_tls_peer(const struct pst_tls *tls)
{
	return tls->state == PST_TLS_OPEN && tls->decided ? &tls->offers[tls->chosen] : NULL;
}

static void handshake(struct pst_tls *tls)
{
	int result;

	if (tls->handshake_bytes > tls->config.handshake_bytes_max)
		return fail(tls, PST_E_PROTO, "the handshake is too long");
	ERR_clear_error();
	result = SSL_do_handshake(tls->ssl);
	if (result == 1) {
		tls->state = PST_TLS_OPEN;
		SSL_SESSION_free(tls->session);
		tls->session = NULL;
		if (SSL_session_reused(tls->ssl) != 1) /* the only way in is by the key */
			fail(tls, PST_E_DENIED, "the peer has not used the key");
	} else if (SSL_get_error(tls->ssl, result) == SSL_ERROR_WANT_CLIENT_HELLO_CB) {
		tls->state = PST_TLS_OFFERED;
	} else {
		(void)waits(tls, result);
	}
}

/* ---- Receiving ---- */

unsigned pst_tls_want(struct pst_tls *tls, struct iovec *iov, unsigned max)
{
	size_t left = tls->in_to - tls->in_from;

	pst_assert(!tls->receiving && max > 0);
	if (tls->state == PST_TLS_FAILED)
		left = 0;
	if (left == 0 || tls->in_to > tls->config.buffer_bytes / 2) {
		memmove(tls->in, tls->in + tls->in_from, left);
		tls->in_from = 0;
		tls->in_to = left;
	}
	if (tls->in_to == tls->config.buffer_bytes)
		return 0;
	tls->receiving = true;
	*iov = (struct iovec){ tls->in + tls->in_to, tls->config.buffer_bytes - tls->in_to };
	return 1;
}

void pst_tls_got(struct pst_tls *tls, size_t bytes)
{
	pst_assert(tls->receiving && bytes <= tls->config.buffer_bytes - tls->in_to);
	tls->receiving = false;
	tls->in_to += bytes;
	if (tls->state == PST_TLS_HANDSHAKE || tls->state == PST_TLS_OFFERED)
		tls->handshake_bytes += bytes;
}

/* Base 2.0, 8.13.1: no capsule passes before the channel that is required. */
static void first(struct pst_tls *tls)
{
	if (tls->in_from == tls->in_to)
		return;
	tls->handshake_bytes = tls->in_to - tls->in_from;
	if (tls->in[tls->in_from] != HANDSHAKE_RECORD && tls->config.plain_allowed)
		tls->state = PST_TLS_PLAIN;
	else if (tls->in[tls->in_from] != HANDSHAKE_RECORD)
		fail(tls, PST_E_UNSUPPORTED, "the peer does not speak TLS, which is required here");
	else if (ssl_begin(tls))
		tls->state = PST_TLS_HANDSHAKE;
	else
		fail(tls, PST_E_NOMEM, "there is no memory");
}

/* Up to @bytes of payload; 0: there is none. */
static size_t take_payload(struct pst_tls *tls, uint8_t *to, size_t bytes)
{
	size_t count = PST_MIN(tls->in_to - tls->in_from, bytes);
	int result;

	if (tls->state == PST_TLS_PLAIN) {
		memcpy(to, tls->in + tls->in_from, count);
		tls->in_from += count;
		return count;
	}
	ERR_clear_error();
	result = SSL_read(tls->ssl, to, (int)PST_MIN(bytes, (size_t)RECORD_BYTES));
	if (result > 0)
		return (size_t)result;
	(void)waits(tls, result);
	return 0;
}

bool pst_tls_feed(struct pst_tls *tls, struct pst_conn *conn)
{
	struct iovec iov[IN_IOV];
	size_t got = 0, count = 1;
	unsigned pieces;

	if (tls->state == PST_TLS_FIRST)
		first(tls);
	if (tls->state == PST_TLS_HANDSHAKE)
		handshake(tls);
	if (tls->state != PST_TLS_OPEN && tls->state != PST_TLS_PLAIN)
		return false;
	pieces = pst_conn_want(conn, iov, IN_IOV);
	for (unsigned i = 0; i < pieces && count > 0; i++)
		for (size_t at = 0; at < iov[i].iov_len && count > 0; at += count) {
			count = take_payload(tls, (uint8_t *)iov[i].iov_base + at, iov[i].iov_len - at);
			got += count;
		}
	if (got > 0)
		pst_conn_got(conn, got);
	return got > 0;
}

bool pst_tls_spent(const struct pst_tls *tls)
{
	return tls->state == PST_TLS_PLAIN && tls->in_from == tls->in_to && !tls->receiving;
}

/* ---- Sending ---- */

/* One record, with a new key when its time has come (RFC 8446, 4.6.3 and 5.5). False: not now, or never. */
static bool put_record(struct pst_tls *tls, const void *bytes, size_t count)
{
	int result;

	if (tls->config.buffer_bytes - tls->out[tls->filling].used < RECORD_ROOM)
		return false;
	ERR_clear_error();
	if (tls->records >= tls->config.rekey_records && SSL_key_update(tls->ssl, SSL_KEY_UPDATE_NOT_REQUESTED) == 1)
		tls->records = 0;
	result = SSL_write(tls->ssl, bytes, (int)count);
	if (result <= 0) {
		(void)waits(tls, result);
		return false;
	}
	pst_assert((size_t)result == count);
	tls->records++;
	return true;
}

/* As many of the pieces as there is room for; returns how many bytes of them are in records now. */
static size_t put_pieces(struct pst_tls *tls, const struct iovec *iov, unsigned pieces)
{
	size_t taken = 0, gathered = 0;

	for (unsigned i = 0; i < pieces; i++)
		for (size_t at = 0, count; at < iov[i].iov_len; at += count) {
			const uint8_t *from = (const uint8_t *)iov[i].iov_base + at;

			count = PST_MIN(iov[i].iov_len - at, RECORD_BYTES - gathered);
			if (count < RECORD_BYTES) {
				memcpy(tls->record + gathered, from, count);
				from = tls->record;
			}
			gathered += count;
			if (gathered < RECORD_BYTES)
				continue;
			if (!put_record(tls, from, RECORD_BYTES))
				return taken;
			taken += RECORD_BYTES;
			gathered = 0;
		}
	if (gathered > 0 && put_record(tls, tls->record, gathered))
		taken += gathered;
	return taken;
}

/* True: all that there was has been taken. */
static bool put_output(struct pst_tls *tls, struct pst_conn *conn)
{
	struct iovec iov[OUT_IOV];
	unsigned pieces = pst_conn_output(conn, iov, OUT_IOV);
	size_t all = 0, taken;

	for (unsigned i = 0; i < pieces; i++)
		all += iov[i].iov_len;
	taken = pieces > 0 ? put_pieces(tls, iov, pieces) : 0;
	if (pieces > 0)
		pst_conn_sent(conn, taken);
	return taken == all && all > 0;
}

unsigned pst_tls_output(struct pst_tls *tls, struct pst_conn *conn, struct iovec *iov, unsigned max)
{
	struct out *out;

	pst_assert(!tls->sending && max > 0);
	if (tls->state == PST_TLS_PLAIN)
		return pst_conn_output(conn, iov, max);
	if (tls->state == PST_TLS_HANDSHAKE)
		handshake(tls);
	while (tls->state == PST_TLS_OPEN && put_output(tls, conn))
		;
	out = &tls->out[tls->filling];
	if (out->used == 0)
		return 0;
	*iov = (struct iovec){ out->bytes, out->used };
	tls->filling ^= 1;
	pst_assert(tls->out[tls->filling].used == 0);
	tls->sending = true;
	return 1;
}

void pst_tls_sent(struct pst_tls *tls, struct pst_conn *conn, size_t bytes)
{
	struct out *out = &tls->out[tls->filling ^ 1];

	if (tls->state == PST_TLS_PLAIN)
		return pst_conn_sent(conn, bytes);
	pst_assert(tls->sending && bytes == out->used);
	tls->sending = false;
	out->used = 0;
}

bool pst_tls_goodbye(struct pst_tls *tls)
{
	bool said = false;

	if (tls->state == PST_TLS_OPEN || (tls->state == PST_TLS_FAILED && tls->err == PST_E_CLOSED)) {
		ERR_clear_error();
		said = SSL_shutdown(tls->ssl) >= 0; /* 0: the peer has not said it yet */
		ERR_clear_error();
	}
	fail(tls, PST_E_CLOSED, "closed by this side");
	return said;
}

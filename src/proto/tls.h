/* SPDX-License-Identifier: Apache-2.0 */
/*
 * TLS 1.3 with a pre-shared key (TCP 1.0, 3.6.1.2) between a stream and a connection engine (conn.h),
 * for both roles, by libssl over memory: bytes go in, bytes come out. No I/O, no callbacks, no clock. One thread at a
 * time (the shard's). libssl takes what is random in a handshake from OpenSSL's own generator, which is the one thing
 * here that does not come from the owner. Once the handshake is done this allocates nothing; libssl takes two pieces of
 * 40 bytes from OpenSSL's allocator for each record that it writes, and gives them back before the call returns.
 *
 * The owner does with the stream what it does for a connection engine alone, and between the two:
 *
 *	do
 *		drain(conn);                              -- pst_conn_next_event, until there is none
 *	while (pst_tls_feed(tls, conn));
 *	if (pst_tls_state(tls) == PST_TLS_OFFERED)        -- target: look up which key it is, here or later
 *		pst_tls_choose(tls, which, &psk);         -- then the same again
 *	if (!sending && (count = pst_tls_output(tls, conn, iov, max)) > 0)
 *		send(iov, count);                         -- when done: pst_tls_sent
 *	if (!receiving && (count = pst_tls_want(tls, iov, max)) > 0)
 *		receive(iov, count);                      -- when done: pst_tls_got
 *
 * It ends in FAILED: an alert may still have to be sent (pst_tls_output), what is received is thrown away, and the
 * owner closes, after a bounded time for the peer to read it. An owner that closes for any other reason says goodbye
 * before (pst_tls_goodbye), and does not wait for the peer's. A stream that ends while this is OPEN was cut off: that
 * is worth a line in the log, but not more: whoever cuts a connection ends an association, as without TLS.
 *
 * A target that also takes hosts without TLS looks at the first byte, which differs (a handshake record, 16h; an ICReq,
 * 00h): in PLAIN everything passes as it is, and as soon as pst_tls_spent says so the owner goes on without this.
 */
#ifndef PST_PROTO_TLS_H
#define PST_PROTO_TLS_H

#include "proto/conn.h"
#include "proto/tls-key.h"

#define PST_TLS_OFFERS_MAX 4u /* identities of a ClientHello that are looked at: two versions, two hash functions */

enum pst_tls_role { PST_TLS_TARGET, PST_TLS_HOST };

/* What all connections of a role share. Made and freed by the owner of them all, used by any thread. */
struct pst_tls_context;

/* PST_E_NOMEM: libssl has no memory, or can't do what is needed. Free it after the last engine; NULL is allowed. */
pst_err PST_MUST_USE pst_tls_context_new(enum pst_tls_role role, struct pst_tls_context **ret_context);
void pst_tls_context_free(struct pst_tls_context *context);

struct pst_tls;

struct pst_tls_config {
	const struct pst_tls_context *context;
	uint32_t buffer_bytes;        /* one for receiving, two for sending; at least PST_TLS_BUFFER_BYTES_MIN */
	uint32_t handshake_bytes_max; /* received before it is done; more ends the connection */
	uint64_t rekey_records;       /* records sent until the sending key is renewed (RFC 8446, 5.5); at least 1 */
	bool plain_allowed;           /* target: hosts without TLS are taken, too */
};

#define PST_TLS_BUFFER_BYTES_MIN 32768u

/* For a host: who it says it is, and the key (pst_tls_psk_make). NULL, NULL for a target. Copied. PST_E_NOMEM. */
pst_err PST_MUST_USE pst_tls_new(const struct pst_tls_config *config, const struct pst_tls_identity *identity,
				 const struct pst_tls_psk *psk, struct pst_tls **ret_tls);

/* No receive or send may be outstanding. NULL is allowed. */
void pst_tls_free(struct pst_tls *tls);

enum pst_tls_state {
	PST_TLS_FIRST,     /* target: waits for the first byte */
	PST_TLS_PLAIN,     /* target: the peer does not speak TLS, and need not */
	PST_TLS_HANDSHAKE, /* on */
	PST_TLS_OFFERED,   /* target: waits for pst_tls_choose */
	PST_TLS_OPEN,
	PST_TLS_FAILED,
};

enum pst_tls_state pst_tls_state(const struct pst_tls *tls);

/*
 * Why it has FAILED: PST_E_DENIED (the key: unknown, wrong, refused by the peer), PST_E_CLOSED (the peer has ended the
 * TLS connection), PST_E_UNSUPPORTED (target: the peer does not speak TLS; there is no alert to be sent), PST_E_NOMEM,
 * PST_E_PROTO (anything else); *ret_reason is one static line for logs, without secrets.
 * PST_OK while it has not failed.
 */
pst_err pst_tls_error(const struct pst_tls *tls, const char **ret_reason);

/* PLAIN, and there is nothing left in here: the owner may free it, and use the connection engine alone. */
bool pst_tls_spent(const struct pst_tls *tls);

/* OFFERED: who the host says it may be, by its preference. Valid until pst_tls_choose. */
const struct pst_tls_identity *pst_tls_offers(const struct pst_tls *tls, unsigned *ret_count);

/* Goes on with the key of offer @which; @psk NULL: with none, so that the handshake fails. Copied. */
void pst_tls_choose(struct pst_tls *tls, unsigned which, const struct pst_tls_psk *psk);

/* Target, OPEN: the offer that was chosen, which the host has proved to have the key of. NULL: PLAIN or no TLS yet. */
const struct pst_tls_identity *pst_tls_peer(const struct pst_tls *tls);

/* "TLS_AES_128_GCM_SHA256" once OPEN: static. */
const char *pst_tls_cipher(const struct pst_tls *tls);

/* ---- Bytes ---- */

/* Where bytes from the stream go: fills one entry of @iov, returns 1; 0: not now. One receive at a time. */
unsigned pst_tls_want(struct pst_tls *tls, struct iovec *iov, unsigned max);
void pst_tls_got(struct pst_tls *tls, size_t bytes);

/*
 * Goes on with the handshake, then with payload, into @conn (after pst_conn_next_event has returned false). True:
 * @conn has got something. Call it again until it returns false.
 */
bool pst_tls_feed(struct pst_tls *tls, struct pst_conn *conn);

/* What to send, of the handshake and of @conn; as pst_conn_output, and pst_tls_sent as pst_conn_sent. */
unsigned pst_tls_output(struct pst_tls *tls, struct pst_conn *conn, struct iovec *iov, unsigned max);
void pst_tls_sent(struct pst_tls *tls, struct pst_conn *conn, size_t bytes);

/*
 * The closing alert (RFC 8446, 6.1), once, also in answer to the peer's. True: pst_tls_output has it, and after it
 * nothing more; a send that is on its way is completed first, as always. FAILED with PST_E_CLOSED from now on. False:
 * the peer could not read one, or was told something worse already, or there is no room: the owner closes without.
 */
bool PST_MUST_USE pst_tls_goodbye(struct pst_tls *tls);

#endif

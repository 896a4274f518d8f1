/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DH-HMAC-CHAP (NVM Express Base 2.0, 8.13.5) without I/O, for both roles: one authentication transaction of one queue.
 * Messages go in and come out; the owner moves them by Authentication Send and Receive. No callbacks, no clock, no
 * randomness of its own, no allocation but libcrypto's. One thread at a time.
 *
 * The owner looks at pst_auth_step after every call:
 *
 *	SEND     a message is due: pst_auth_send gives it
 *	RECEIVE  pst_auth_receive wants the peer's next one
 *	DONE     the host, and with two keys the controller, have proved who they are
 *	FAILED   pst_auth_failure says why; the queue must be closed
 *
 * What a peer sends is checked here, and answered by a failure code; a failure message is due then before FAILED.
 *
 * The structure holds secrets: its memory is the owner's (secret memory, where there is such), from pst_auth_init to
 * pst_auth_done, which wipes it. Everything given to pst_auth_init is copied.
 */
#ifndef PST_PROTO_AUTH_H
#define PST_PROTO_AUTH_H

#include "proto/auth-crypto.h"
#include "proto/nvme.h"

#define PST_AUTH_MESSAGE_MAX (16u + 2 * PST_AUTH_HASH_MAX + PST_AUTH_DH_MAX)
#define PST_AUTH_NQN_BYTES 224u /* with the terminating zero */

/* Unpredictable bytes, from the caller; used once. */
struct pst_auth_random {
	uint8_t challenge[PST_AUTH_HASH_MAX];
	uint8_t exponent[PST_AUTH_EXPONENT_MAX];
	uint32_t seqnum;
	uint16_t t_id;
};

struct pst_auth_config {
	bool controller; /* the role */
	const char *hostnqn, *subnqn;
	const struct pst_auth_key *host_key; /* as the user has it: not transformed */
	const struct pst_auth_key *ctrl_key; /* controller: proves itself if asked. Host: asks for it. NULL: neither */
	uint32_t hashes, groups;             /* bit per identifier that may be used; 0: all */
};

enum pst_auth_step { PST_AUTH_SEND, PST_AUTH_RECEIVE, PST_AUTH_DONE, PST_AUTH_FAILED };

/* Where a transaction is. auth.c has a table of them. */
enum pst_auth_state {
	PST_AUTH_CTRL_NEGOTIATE, /* wants AUTH_Negotiate */
	PST_AUTH_CTRL_CHALLENGE, /* sends DH-HMAC-CHAP_Challenge */
	PST_AUTH_CTRL_REPLY,
	PST_AUTH_CTRL_SUCCESS1,
	PST_AUTH_CTRL_SUCCESS2, /* only where the host has asked for a proof */
	PST_AUTH_CTRL_FAILURE1,
	PST_AUTH_HOST_NEGOTIATE,
	PST_AUTH_HOST_CHALLENGE,
	PST_AUTH_HOST_REPLY,
	PST_AUTH_HOST_SUCCESS1,
	PST_AUTH_HOST_SUCCESS2,
	PST_AUTH_HOST_FAILURE2,
	PST_AUTH_IS_DONE,
	PST_AUTH_IS_FAILED,
	PST_AUTH_STATES,
};

struct pst_auth {
	enum pst_auth_state state;
	bool has_ctrl_key, wants_proof; /* wants_proof: the host has sent, or sends, a challenge of its own */
	uint8_t failure;                /* enum nvmf_auth_failure; 0: none */
	bool failed_by_peer;
	uint8_t hash, group;
	uint16_t t_id;
	uint32_t hashes, groups, s1, s2;
	char hostnqn[PST_AUTH_NQN_BYTES], subnqn[PST_AUTH_NQN_BYTES];
	struct pst_auth_random random;
	struct pst_auth_key host_key, ctrl_key; /* transformed */
	uint8_t c1[PST_AUTH_HASH_MAX], c2[PST_AUTH_HASH_MAX];
	uint8_t session_key[PST_AUTH_HASH_MAX];
	uint8_t response[PST_AUTH_HASH_MAX]; /* to be sent: the controller's R2, the host's R1 */
	uint8_t dh_value[PST_AUTH_DH_MAX];   /* our own, to be sent */
};

/* PST_E_INVAL: names longer than 223 bytes, or no hash or group left to use. PST_E_NOMEM. On error nothing is held. */
pst_err PST_MUST_USE pst_auth_init(struct pst_auth *auth, const struct pst_auth_config *config,
				   const struct pst_auth_random *random);
void pst_auth_done(struct pst_auth *auth);

enum pst_auth_step pst_auth_step(const struct pst_auth *auth);

/* The length of the message that is due, at most PST_AUTH_MESSAGE_MAX. Only in SEND. */
uint32_t pst_auth_send_bytes(const struct pst_auth *auth);

/* Writes the message that is due, and goes on. Only in SEND. */
void pst_auth_send(struct pst_auth *auth, uint8_t *message);

/*
 * The peer's message; bytes behind its end are ignored. Only in RECEIVE. Costs up to two exponentiations: milliseconds
 * in large groups.
 */
void pst_auth_receive(struct pst_auth *auth, const uint8_t *message, size_t bytes);

/* What went wrong, and a text of it (static) that completes "authentication failed: ". */
uint8_t pst_auth_failure(const struct pst_auth *auth, bool *ret_by_peer);
const char *pst_auth_failure_text(uint8_t failure);

#endif

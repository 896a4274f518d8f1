/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Authentication of a queue, by DH-HMAC-CHAP (proto/auth.h): between its Connect and anything else, where the target
 * asks for it. One command of the exchange is outstanding at a time. It ends with the queue in use, or with the loss of
 * the association: PST_E_DENIED where keys are wrong or missing.
 *
 * A target that is to prove itself and does not ask for authentication is not trusted either: whoever sits between
 * could have taken the question away.
 */
#include "host/impl.h"

#include <openssl/crypto.h>
#include <string.h>

static void auth_log(const struct pst_link *link, const char *what)
{
	pst_env_log(link->session->env, PST_LOG_WARN, "host_authentication_failed subnqn=%s qid=%u reason=\"%s\"",
		    link->session->config.subnqn, link->qid, what);
}

void auth_end(struct pst_link *link)
{
	if (link->auth == NULL)
		return;
	pst_auth_done(&link->auth->engine);
	pst_secret_free(link->session->env, link->auth, sizeof(*link->auth));
	link->auth = NULL;
}

static void auth_ready(struct pst_link *link)
{
	auth_end(link);
	if (link->qid == 0)
		steps_admin_ready(link->session);
	else
		steps_io_ready(link->session, link);
}

static void auth_submit(struct pst_link *link, bool send, uint32_t bytes)
{
	struct nvmf_auth_cmd cmd = {
		.opcode = NVME_FABRICS,
		.fctype = send ? NVMF_AUTH_SEND : NVMF_AUTH_RECEIVE,
		.spsp0 = NVMF_AUTH_SPSP,
		.spsp1 = NVMF_AUTH_SPSP,
		.secp = NVMF_AUTH_SECP,
		.length = nvme_le32_of(bytes),
	};
	struct pst_conn_xfer xfer = {
		.dir = send ? PST_CONN_DATA_OUT : PST_CONN_DATA_IN,
		.bytes = bytes,
		.iov = &link->auth->iov,
		.iov_count = 1,
	};
	struct nvme_sqe sqe;

	memcpy(&sqe, &cmd, sizeof(sqe));
	if (pst_conn_submit(link->conn, &sqe, &xfer, NULL) == NULL)
		session_lose(link->session, PST_E_CLOSED);
}

/* What the engine wants next. */
static void auth_next(struct pst_link *link)
{
	struct link_auth *auth = link->auth;
	uint32_t bytes;
	bool by_target;

	switch (pst_auth_step(&auth->engine)) {
	case PST_AUTH_SEND:
		bytes = pst_auth_send_bytes(&auth->engine);
		pst_auth_send(&auth->engine, auth->message);
		auth_submit(link, true, bytes);
		break;
	case PST_AUTH_RECEIVE:
		memset(auth->message, 0, sizeof(auth->message));
		auth_submit(link, false, sizeof(auth->message));
		break;
	case PST_AUTH_DONE:
		auth_ready(link);
		break;
	default:
		auth_log(link, pst_auth_failure_text(pst_auth_failure(&auth->engine, &by_target)));
		session_lose(link->session, PST_E_DENIED);
	}
}

void auth_begin(struct pst_link *link, bool required)
{
	struct pst_session *s = link->session;
	const struct pst_session_keys *keys = s->config.keys;
	struct pst_auth_random random;
	pst_err err;

	if (!required) {
		if (keys == NULL || !keys->has_ctrl)
			return auth_ready(link);
		auth_log(link, "the target does not ask for authentication, and was to prove itself");
		return session_lose(s, PST_E_DENIED);
	}
	if (keys == NULL || !keys->has_host) {
		auth_log(link, "the target asks for a key, and there is none");
		return session_lose(s, PST_E_DENIED);
	}
	link->auth = pst_secret_alloc(s->env, sizeof(*link->auth));
	if (link->auth == NULL)
		return session_lose(s, PST_E_NOMEM);
	link->auth->iov = (struct iovec){ link->auth->message, sizeof(link->auth->message) };
	pst_env_random(s->env, &random, sizeof(random));
	err = pst_auth_init(&link->auth->engine,
			    &(struct pst_auth_config){ .hostnqn = s->config.hostnqn,
						       .subnqn = s->config.subnqn,
						       .host_key = &keys->host,
						       .ctrl_key = keys->has_ctrl ? &keys->ctrl : NULL },
			    &random);
	OPENSSL_cleanse(&random, sizeof(random));
	if (err != PST_OK)
		return session_lose(s, err);
	auth_next(link);
}

void auth_response(struct pst_link *link, const struct pst_conn_event *ev)
{
	struct link_auth *auth = link->auth;
	uint16_t status = nvme_get16(ev->cqe.status) >> 1;

	if (status != 0) {
		auth_log(link, "the target refuses an authentication command");
		return session_lose(link->session, PST_E_DENIED);
	}
	if (nvme_fctype(&ev->cmd->sqe) == NVMF_AUTH_RECEIVE)
		pst_auth_receive(&auth->engine, auth->message, PST_MIN(ev->cmd->data_bytes, sizeof(auth->message)));
	auth_next(link);
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The admin queue: the handshake as a sequence of steps (Base 2.0, 3.5 and 6.3: Connect, CC.EN, Identify, queues), the
 * discovery log, and in life Keep Alive and asynchronous events. One command of the sequence is outstanding at a time
 * and uses `page`; its owner is NULL. Keep Alive, the event request and what follows an event have owners of their own.
 *
 * Each answer is checked before it is believed: the target may be anything.
 */
#include "host/impl.h"
#include "proto/cursor.h"

#include <stdlib.h>
#include <string.h>

#define TRANSFER_BYTES_MAX (8u << 20)
#define TRANSFER_BYTES_DEFAULT (1u << 20) /* when the controller knows no limit */
#define STATUS_POLL_NS 10000000u
#define LOG_ENTRIES_MAX 4096u
#define LOG_TRIES_MAX 5u
#define CC_ENABLE (1u | 6u << 16 | 4u << 20) /* EN, IOSQES 64 bytes, IOCQES 16 bytes, 4 KiB pages */
#define CC_SHUTDOWN (CC_ENABLE | 1u << 14)   /* SHN: normal */
#define CSTS_RDY 1u
#define CSTS_CFS 2u

static void admin_send(struct pst_session *s, const struct nvme_sqe *sqe, enum pst_conn_dir dir, uint32_t bytes,
		       void *owner)
{
	struct pst_conn_xfer xfer = { .dir = dir, .bytes = bytes, .iov = &s->page_iov, .iov_count = 1 };

	if (pst_conn_submit(s->admin.conn, sqe, &xfer, owner) == NULL)
		session_lose(s, PST_E_CLOSED);
}

static void step_to(struct pst_session *s, enum session_step step)
{
	s->step = step;
	pst_timer_arm(s->env, &s->step_timer, pst_env_now_ns(s->env) + s->config.connect_timeout_ns);
}

/* ---- Commands of the handshake ---- */

static void send_connect(struct pst_session *s, struct pst_link *link)
{
	struct nvmf_connect_cmd cmd = {
		.opcode = NVME_FABRICS,
		.fctype = NVMF_CONNECT,
		.qid = nvme_le16_of(link->qid),
		.sqsize = nvme_le16_of((uint16_t)link->depth), /* one entry stays empty, and the value is 0-based */
		.cattr = NVMF_CATTR_NO_SQ_FLOW_CONTROL,
		.kato = nvme_le32_of(link->qid == 0 ? (uint32_t)(s->config.keep_alive_ns / 1000000) : 0),
	};
	struct pst_conn_xfer xfer = {
		.dir = PST_CONN_DATA_OUT,
		.bytes = sizeof(s->connect_data),
		.iov = &s->connect_iov,
		.iov_count = 1,
	};
	struct nvme_sqe sqe;

	memcpy(&sqe, &cmd, sizeof(sqe));
	s->connect_data.cntlid = nvme_le16_of(link->qid == 0 ? NVMF_CNTLID_DYNAMIC : s->cntlid);
	pst_conn_set_incapsule(link->conn, NVME_TCP_ADMIN_INCAPSULE_BYTES);
	if (pst_conn_submit(link->conn, &sqe, &xfer, NULL) == NULL)
		session_lose(s, PST_E_CLOSED);
}

static void send_property(struct pst_session *s, bool set, uint32_t offset, bool wide, uint64_t value)
{
	struct nvmf_property_cmd cmd = {
		.opcode = NVME_FABRICS,
		.fctype = set ? NVMF_PROPERTY_SET : NVMF_PROPERTY_GET,
		.attrib = wide ? 1 : 0,
		.offset = nvme_le32_of(offset),
		.value = nvme_le64_of(value),
	};
	struct nvme_sqe sqe;

	memcpy(&sqe, &cmd, sizeof(sqe));
	admin_send(s, &sqe, PST_CONN_NO_DATA, 0, NULL);
}

static void send_identify(struct pst_session *s, uint8_t cns, uint32_t nsid, void *owner)
{
	struct nvme_sqe sqe = {
		.opcode = NVME_ADMIN_IDENTIFY,
		.nsid = nvme_le32_of(nsid),
		.cdw10 = nvme_le32_of(cns),
	};

	memset(s->page, 0, sizeof(s->page));
	admin_send(s, &sqe, PST_CONN_DATA_IN, sizeof(s->page), owner);
}

static void send_feature(struct pst_session *s, uint8_t feature, uint32_t value, void *owner)
{
	struct nvme_sqe sqe = {
		.opcode = NVME_ADMIN_SET_FEATURES,
		.cdw10 = nvme_le32_of(feature),
		.cdw11 = nvme_le32_of(value),
	};

	admin_send(s, &sqe, PST_CONN_NO_DATA, 0, owner);
}

static void send_log(struct pst_session *s, uint8_t log, uint64_t offset, uint32_t bytes, void *owner)
{
	uint32_t dwords = bytes / 4 - 1;
	struct nvme_sqe sqe = {
		.opcode = NVME_ADMIN_GET_LOG_PAGE,
		.cdw10 = nvme_le32_of(log | dwords << 16),
		.cdw11 = nvme_le32_of(dwords >> 16),
		.cdw12 = nvme_le32_of((uint32_t)offset),
		.cdw13 = nvme_le32_of((uint32_t)(offset >> 32)),
	};

	memset(s->page, 0, sizeof(s->page));
	admin_send(s, &sqe, PST_CONN_DATA_IN, bytes, owner);
}

/* ---- Answers of the handshake ---- */

static pst_err connect_error(uint16_t status)
{
	switch (status & 0x7ff) {
	case NVMF_INVALID_HOST:
		return PST_E_DENIED;
	case NVMF_CONTROLLER_BUSY:
		return PST_E_BUSY;
	case NVMF_INVALID_PARAM: /* ours are sound but for the name of the subsystem */
		return PST_E_NOTFOUND;
	default:
		return PST_E_PROTO;
	}
}

static void got_cap(struct pst_session *s, uint64_t cap)
{
	uint32_t entries_max = (uint32_t)(cap & 0xffff) + 1;

	s->cap = cap;
	s->entries = PST_MIN(s->config.queue_entries, entries_max);
	/* MQES of 0 is not allowed (Base 2.0, 3.1.3.1); MPSMIN above 4 KiB can't be met with CC.MPS 0. */
	if (entries_max < 2 || (cap >> 48 & 0xf) != 0) {
		session_lose(s, PST_E_PROTO);
		return;
	}
	step_to(s, STEP_ENABLE);
	send_property(s, true, NVME_PROP_CC, false, CC_ENABLE);
}

static void got_status(struct pst_session *s, uint32_t csts)
{
	if (csts & CSTS_CFS) {
		session_lose(s, PST_E_PROTO);
	} else if (!(csts & CSTS_RDY)) {
		pst_timer_arm(s->env, &s->retry_timer, pst_env_now_ns(s->env) + STATUS_POLL_NS);
	} else if (s->config.discovery) {
		step_to(s, STEP_LOG_SIZE);
		send_log(s, NVME_LOG_DISCOVERY, 0, sizeof(struct nvmf_discovery_log), NULL);
	} else {
		step_to(s, STEP_CONTROLLER);
		send_identify(s, NVME_CNS_CONTROLLER, 0, NULL);
	}
}

/* After the limits, or how well the path may be used: as many queues as are wanted, if it is the one to take. */
static void ask_queues(struct pst_session *s)
{
	step_to(s, STEP_QUEUES);
	send_feature(s, NVME_FEAT_QUEUES, (s->config.io_queues - 1) * 0x10001u, NULL);
}

static void got_controller(struct pst_session *s)
{
	const struct nvme_id_ctrl *id = (const struct nvme_id_ctrl *)s->page;
	uint64_t capsule_bytes = (uint64_t)nvme_get32(id->ioccsz) * 16;
	uint16_t oncs = nvme_get16(id->oncs);

	if (nvme_get16(id->cntlid) != s->cntlid || capsule_bytes < sizeof(struct nvme_sqe)) {
		session_lose(s, PST_E_PROTO);
		return;
	}
	s->transfer_bytes = TRANSFER_BYTES_DEFAULT;
	if (id->mdts > 0)
		s->transfer_bytes = id->mdts > 11 ? TRANSFER_BYTES_MAX : PAGE_BYTES << id->mdts;
	s->incapsule_bytes = (uint32_t)PST_MIN(capsule_bytes - sizeof(struct nvme_sqe), (uint64_t)INCAPSULE_BYTES_MAX);
	if (nvme_get16(id->icdoff) != 0)
		s->incapsule_bytes = 0;
	s->zeroes_bytes = oncs & 1u << 3 ? UINT64_MAX : 0;
	s->discard_bytes = oncs & 1u << 2 ? UINT64_MAX : 0;
	s->info.volatile_cache = id->vwc & 1;
	s->ana = (id->cmic & 1u << 3) != 0;
	step_to(s, STEP_NAMESPACE);
	send_identify(s, NVME_CNS_NAMESPACE, s->config.nsid, NULL);
}

/* The namespace is there, of a kind that we can use, and has the block size that it had before. */
static bool parse_namespace(struct pst_session *s)
{
	const struct nvme_id_ns *id = (const struct nvme_id_ns *)s->page;
	uint32_t format = (id->flbas & 0xf) | (id->flbas >> 5 & 3) << 4;
	const struct nvme_lbaf *lbaf = &id->lbaf[format];
	uint64_t size;

	if (nvme_get64(id->nsze) == 0) {
		session_lose(s, PST_E_NOTFOUND); /* inactive: all zeros */
		return false;
	}
	/* A block that is longer than a transfer may be could never be read. */
	if (lbaf->lbads < 9 || lbaf->lbads > 16 || nvme_get16(lbaf->ms) != 0 || 1u << lbaf->lbads > s->transfer_bytes) {
		session_lose(s, PST_E_UNSUPPORTED);
		return false;
	}
	if (!pst_mul_u64(nvme_get64(id->nsze), 1ull << lbaf->lbads, &size) ||
	    (s->info_known && s->info.block_bytes != 1u << lbaf->lbads)) {
		session_lose(s, PST_E_PROTO);
		return false;
	}
	s->info.block_bytes = 1u << lbaf->lbads;
	s->info.size_bytes = size;
	s->info.transfer_bytes_max = s->transfer_bytes;
	return true;
}

/* After a reconnect the namespace must be the same one: requests are replayed to it. */
static void got_descriptors(struct pst_session *s, bool ok)
{
	struct pst_bytes bytes = { s->page, sizeof(s->page) };
	const struct nvme_ns_descriptor *d;
	uint8_t uuid[16] = { 0 };

	while (ok && (d = pst_bytes_take(&bytes, sizeof(*d))) != NULL && d->length > 0) {
		const void *value = pst_bytes_take(&bytes, d->length);

		if (value == NULL)
			break;
		if (d->type == NVME_NIDT_UUID && d->length == sizeof(uuid))
			memcpy(uuid, value, sizeof(uuid));
	}
	if (s->info_known && memcmp(uuid, s->info.uuid, sizeof(uuid)) != 0) {
		pst_env_log(s->env, PST_LOG_ERROR, "host_other_namespace subnqn=%s nsid=%u next=retry",
			    s->config.subnqn, s->config.nsid);
		session_lose(s, PST_E_PROTO);
		return;
	}
	memcpy(s->info.uuid, uuid, sizeof(uuid));
	s->info_known = true;
	step_to(s, STEP_LIMITS);
	send_identify(s, NVME_CNS_CSI_CONTROLLER, 0, NULL);
}

/* Write Zeroes and Dataset Management have limits of their own; without the page there are none but the fields' sizes.
 */
static void got_limits(struct pst_session *s, bool ok)
{
	const struct nvme_id_ctrl_nvm *id = (const struct nvme_id_ctrl_nvm *)s->page;
	uint64_t block = s->info.block_bytes, zeroes = 65536 * block, discard = UINT32_MAX * block;

	if (ok && id->wzsl > 0 && id->wzsl < 40)
		zeroes = PST_MIN(zeroes, PST_MAX((uint64_t)PAGE_BYTES << id->wzsl, block));
	if (ok && nvme_get32(id->dmrsl) > 0)
		discard = nvme_get32(id->dmrsl) * block;
	if (ok && nvme_get64(id->dmsl) > 0 && nvme_get64(id->dmsl) < UINT32_MAX)
		discard = PST_MIN(discard, nvme_get64(id->dmsl) * block);
	s->zeroes_bytes = PST_MIN(s->zeroes_bytes, zeroes);
	s->discard_bytes = PST_MIN(s->discard_bytes, discard);
	if (!s->ana) {
		ask_queues(s);
		return;
	}
	step_to(s, STEP_ANA);
	send_log(s, NVME_LOG_ANA, 0, PAGE_BYTES, NULL);
}

/* Number of Queues: 0-based counts that the controller has given, which may be more or less than asked for. */
static void got_queues(struct pst_session *s, uint32_t dw0)
{
	uint32_t given = PST_MIN(dw0 & 0xffff, dw0 >> 16) + 1;

	s->io_count = PST_MIN(s->config.io_queues, given);
	step_to(s, STEP_IO);
	for (uint32_t i = 0; i < s->io_count && !s->lost; i++)
		link_open(&s->io[i], s->entries - 1, PST_MAX(s->incapsule_bytes, NVME_TCP_ADMIN_INCAPSULE_BYTES));
}

static void got_log_size(struct pst_session *s)
{
	const struct nvmf_discovery_log *log = (const struct nvmf_discovery_log *)s->page;
	uint64_t count = nvme_get64(log->numrec), generation = nvme_get64(log->genctr);
	bool again = s->entries_found != NULL;

	/* The second look after the last entry: nothing has changed meanwhile. */
	if (again && generation == s->log_generation) {
		s->step = STEP_LIVE;
		return;
	}
	if (count > LOG_ENTRIES_MAX || ++s->log_tries > LOG_TRIES_MAX) {
		session_lose(s, PST_E_PROTO);
		return;
	}
	free(s->entries_found);
	s->entries_found = calloc(count + 1, sizeof(*s->entries_found));
	s->log_records = count;
	s->entries_count = 0;
	s->log_generation = generation;
	if (s->entries_found == NULL) {
		session_lose(s, PST_E_NOMEM);
		return;
	}
	step_to(s, count > 0 ? STEP_LOG : STEP_LOG_SIZE);
	send_log(s, NVME_LOG_DISCOVERY, count > 0 ? 1024 : 0, 1024, NULL);
}

static void copy_padded(char *to, size_t room, const char *from, size_t len)
{
	size_t n = strnlen(from, PST_MIN(len, room - 1));

	while (n > 0 && from[n - 1] == ' ')
		n--;
	memcpy(to, from, n);
	to[n] = '\0';
}

/* Only TCP entries of NVM subsystems are of use to a host that can't do anything else. */
static void got_log_entry(struct pst_session *s)
{
	const struct nvmf_discovery_entry *from = (const struct nvmf_discovery_entry *)s->page;
	struct pst_discovery_entry *to = &s->entries_found[s->entries_count];
	char port[33];

	if (from->trtype == 3 && from->subtype == 2) {
		copy_padded(to->subnqn, sizeof(to->subnqn), from->subnqn, sizeof(from->subnqn));
		copy_padded(to->traddr, sizeof(to->traddr), from->traddr, sizeof(from->traddr));
		copy_padded(port, sizeof(port), from->trsvcid, sizeof(from->trsvcid));
		to->trsvcid = (uint16_t)strtoul(port, NULL, 10);
		s->entries_count++;
	}
	s->log_records_read++;
	if (s->log_records_read < s->log_records) {
		step_to(s, STEP_LOG);
		send_log(s, NVME_LOG_DISCOVERY, 1024 * (s->log_records_read + 1), 1024, NULL);
	} else {
		step_to(s, STEP_LOG_SIZE);
		send_log(s, NVME_LOG_DISCOVERY, 0, 1024, NULL);
	}
}

/* ---- Life ---- */

void steps_keep_alive(struct pst_session *s)
{
	struct nvme_sqe sqe = { .opcode = NVME_ADMIN_KEEP_ALIVE };

	s->keep_alive_pending = true;
	admin_send(s, &sqe, PST_CONN_NO_DATA, 0, &s->keep_alive_pending);
}

void steps_shutdown(struct pst_session *s)
{
	s->step = STEP_SHUTDOWN;
	send_property(s, true, NVME_PROP_CC, false, CC_SHUTDOWN);
}

static void send_event_request(struct pst_session *s)
{
	struct nvme_sqe sqe = { .opcode = NVME_ADMIN_ASYNC_EVENT };

	admin_send(s, &sqe, PST_CONN_NO_DATA, 0, &s->event_tag);
}

static void ask_event_log(struct pst_session *s, uint8_t lid)
{
	s->event_log = lid;
	send_log(s, lid, 0, PAGE_BYTES, &s->log_tag);
}

/* An event: read its log page, which clears it; look at the namespace again; ask for the next event. */
static void background_response(struct pst_session *s, const struct pst_conn_event *ev, uint16_t status)
{
	const void *owner = ev->cmd->owner;

	if (owner == &s->keep_alive_pending) {
		s->keep_alive_pending = false;
		if (status != 0)
			session_lose(s, PST_E_CLOSED);
	} else if (owner == &s->config_tag) {
		if (status == 0)
			send_event_request(s);
	} else if (owner == &s->event_tag) {
		if (status == 0)
			ask_event_log(s, nvme_get32(ev->cqe.dw0) >> 16 & 0xff);
	} else if (owner == &s->log_tag) {
		if (status == 0 && s->event_log == NVME_LOG_ANA && path_judge(s) == PATH_LEAVE)
			path_shut(s);
		send_identify(s, NVME_CNS_NAMESPACE, s->config.nsid, &s->namespace_tag);
	} else if (owner == &s->namespace_tag) {
		if (status == 0 && parse_namespace(s))
			send_event_request(s);
	}
}

void steps_io_ready(struct pst_session *s, struct pst_link *link)
{
	bool all = true;

	link->connected = true;
	pst_conn_set_incapsule(link->conn, s->incapsule_bytes);
	for (uint32_t i = 0; i < s->io_count; i++)
		all = all && s->io[i].connected;
	if (!all)
		return;
	s->step = STEP_LIVE;
	send_feature(s, NVME_FEAT_ASYNC_EVENT, NVME_AEC_NS_CHANGED | (s->ana ? NVME_AEC_ANA_CHANGED : 0),
		     &s->config_tag);
}

/* ---- The sequence ---- */

void steps_admin_ready(struct pst_session *s)
{
	step_to(s, STEP_CAP);
	send_property(s, false, NVME_PROP_CAP, true, 0);
}

/* What does not wait for an answer: queues whose ICResp has come. */
void steps_next(struct pst_session *s)
{
	if (s->step == STEP_LINK && link_ready(&s->admin)) {
		step_to(s, STEP_CONNECT);
		send_connect(s, &s->admin);
	}
	for (uint32_t i = 0; s->step == STEP_IO && i < s->io_count; i++) {
		struct pst_link *link = &s->io[i];

		if (!link->connected && link->auth == NULL && link_ready(link) && pst_conn_busy(link->conn) == 0)
			send_connect(s, link);
	}
}

/* CSTS was not ready: look again. */
void steps_poll_status(struct pst_session *s)
{
	send_property(s, false, NVME_PROP_CSTS, false, 0);
}

static void step_response(struct pst_session *s, const struct nvme_cqe *cqe, uint16_t status)
{
	uint64_t value = nvme_get32(cqe->dw0) | (uint64_t)nvme_get32(cqe->dw1) << 32;

	/* These two are optional: an error is an answer. */
	if (s->step == STEP_DESCRIPTORS) {
		got_descriptors(s, status == 0);
		return;
	}
	if (s->step == STEP_LIMITS) {
		got_limits(s, status == 0);
		return;
	}
	if (status != 0) {
		session_lose(s, s->step == STEP_CONNECT ? connect_error(status)
				: s->step == STEP_NAMESPACE && (status & 0x7ff) == NVME_INVALID_NAMESPACE
				    ? PST_E_NOTFOUND
				    : PST_E_PROTO);
		return;
	}
	switch (s->step) {
	case STEP_CONNECT:
		s->cntlid = (uint16_t)value;
		step_to(s, STEP_AUTH);
		auth_begin(&s->admin, (value & NVMF_CONNECT_ATR) != 0);
		break;
	case STEP_CAP:
		got_cap(s, value);
		break;
	case STEP_ENABLE:
		step_to(s, STEP_STATUS);
		steps_poll_status(s);
		break;
	case STEP_STATUS:
		got_status(s, (uint32_t)value);
		break;
	case STEP_CONTROLLER:
		got_controller(s);
		break;
	case STEP_NAMESPACE:
		if (!parse_namespace(s))
			break;
		step_to(s, STEP_DESCRIPTORS);
		send_identify(s, NVME_CNS_DESCRIPTORS, s->config.nsid, NULL);
		break;
	case STEP_ANA:
		if (path_judge(s) == PATH_TAKE)
			ask_queues(s);
		else
			session_lose(s, PST_E_AGAIN);
		break;
	case STEP_QUEUES:
		got_queues(s, (uint32_t)value);
		break;
	case STEP_LOG_SIZE:
		s->log_records_read = 0;
		got_log_size(s);
		break;
	case STEP_LOG:
		got_log_entry(s);
		break;
	case STEP_SHUTDOWN:
		session_lose(s, PST_E_CANCELLED);
		break;
	default:
		break;
	}
}

void steps_response(struct pst_session *s, struct pst_link *link, const struct pst_conn_event *ev)
{
	uint16_t status = nvme_get16(ev->cqe.status) >> 1;

	if (s->lost)
		return;
	if (ev->err != PST_OK) {
		session_lose(s, ev->err);
		return;
	}
	if (ev->cmd->owner != NULL)
		background_response(s, ev, status);
	else if (link->auth != NULL)
		auth_response(link, ev);
	else if (link->qid > 0 && status == 0)
		auth_begin(link, (nvme_get32(ev->cqe.dw0) & NVMF_CONNECT_ATR) != 0);
	else if (link->qid > 0)
		session_lose(s, connect_error(status));
	else
		step_response(s, &ev->cqe, status);
}

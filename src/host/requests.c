/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Requests and their parts.
 *
 * A request waits in `waiting` until all its parts have been made; a part is one command's worth of it. Parts come from
 * a pool as large as all queues together, so making one needs a free part and a queue with room. A part is free, with a
 * connection (in flight), in `replay` (its connection was lost), or in `later` (the target asked for another try).
 * A request is over when all its parts are made and over; the first error counts, and stops the making of more.
 *
 * Replay: requests in flight have no order among themselves (the caller waits for what it depends on), so sending a
 * read, write, flush, zeroes or discard again is the same as a late first time. A flush is sent again as it was:
 * writes completed before the target went away survive a restart of it (docs/host.md).
 *
 * If the target lost power, it fails the first flush after that, once. Others claim the same lost writes: those under
 * way at that moment, and the next flush after writes that the failed one did not cover, because they completed after
 * it was first sent. They fail as well, whatever the target says. For that the first flush after a reconnect goes
 * alone: else the success of the second could arrive before the failure of the first.
 */
#include "host/impl.h"

#include <stdlib.h>

#define RETRY_NS 10000000u
#define TRIES_MAX 50u
#define STUCK_NS 60000000000u /* a command that takes longer means that the association is ill */

pst_err requests_init(struct pst_session *s)
{
	pst_list_init(&s->waiting);
	pst_list_init(&s->failed);
	pst_list_init(&s->free);
	pst_list_init(&s->replay);
	pst_list_init(&s->later);
	if (s->config.discovery)
		return PST_OK;
	s->part_count = s->config.io_queues * (s->config.queue_entries - 1);
	s->parts = calloc(s->part_count, sizeof(*s->parts));
	if (s->parts == NULL)
		return PST_E_NOMEM;
	for (uint32_t i = s->part_count; i-- > 0;)
		pst_list_push_front(&s->free, &s->parts[i].node);
	return PST_OK;
}

void requests_done(struct pst_session *s)
{
	pst_assert(s->outstanding == 0);
	free(s->parts);
}

/* ---- Ends ---- */

static pst_err status_error(uint16_t status)
{
	switch (status & 0x7ff) {
	case NVME_SUCCESS:
		return PST_OK;
	case NVME_INVALID_OPCODE:
		return PST_E_UNSUPPORTED;
	case NVME_INVALID_FIELD:
		return PST_E_INVAL;
	case NVME_INVALID_NAMESPACE:
		return PST_E_NOTFOUND;
	case NVME_LBA_OUT_OF_RANGE:
		return PST_E_RANGE;
	case NVME_CAPACITY_EXCEEDED:
		return PST_E_NOSPACE;
	default:
		return PST_E_IO;
	}
}

/* Without DNR, and of a kind that goes by: the transport, a namespace or a queue that was just not there. */
static bool status_retry(uint16_t status)
{
	if (status & NVME_STATUS_DNR)
		return false;
	switch (status & 0x7ff) {
	case NVME_ABORT_REQUESTED:
	case NVME_ABORT_SQ_DELETED:
	case NVME_TRANSIENT_TRANSPORT_ERROR:
	case NVME_NAMESPACE_NOT_READY:
		return true;
	default:
		return false;
	}
}

static void request_complete(struct pst_session *s, struct pst_request *request)
{
	struct pst_request_state *st = request_state(request);

	request->err = st->err;
	request->nvme_status = st->nvme_status;
	request->latency_ns = pst_env_now_ns(s->env) - st->start_ns;
	if ((request->kind == PST_REQUEST_WRITE || request->kind == PST_REQUEST_WRITE_ZEROES) && !request->fua &&
	    st->err == PST_OK)
		s->writes_done++;
	if (request->kind <= PST_REQUEST_DISCARD) {
		s->stats.requests[request->kind]++;
		pst_hist_add(&s->latency[request->kind], request->latency_ns);
		if (st->err != PST_OK)
			s->stats.errors[request->kind]++;
		else if (request->kind == PST_REQUEST_READ)
			s->stats.bytes_read += request->len_bytes;
		else if (request->kind == PST_REQUEST_WRITE)
			s->stats.bytes_written += request->len_bytes;
	}
	s->outstanding--;
	request->done(request);
}

static void request_fail(struct pst_request_state *st, pst_err err, uint16_t status)
{
	if (st->err != PST_OK)
		return;
	st->err = err;
	st->nvme_status = status & 0x7ff;
	st->made = true;
	pst_list_remove(&st->node);
}

/* ---- What a flush may claim ---- */

void requests_reconnected(struct pst_session *s)
{
	s->writes_at_risk = s->writes_done;
	s->flush_first = true;
	s->flush_out = false;
}

/* A flush has failed: it tells of the writes that it covers, not of others that completed before the reconnect. */
static void flush_failed(struct pst_session *s, const struct pst_request_state *st, uint16_t status)
{
	if (s->writes_told < s->writes_at_risk)
		s->flushes_doubted = s->flushes_submitted;
	s->writes_told = PST_MAX(s->writes_told, st->covers);
	s->untold_to = s->writes_at_risk;
	s->untold_status = status;
}

/* False: it covers writes that may be lost, of which its caller has not heard yet. */
static bool flush_succeeded(struct pst_session *s, const struct pst_request_state *st)
{
	bool untold = s->writes_told < s->untold_to && st->covers > s->writes_told;

	s->writes_told = PST_MAX(s->writes_told, st->covers);
	return !untold && st->number > s->flushes_doubted;
}

/* May this flush be sent now? If not, it waits in `later` until the one under way has been answered. */
static bool flush_admit(struct pst_session *s, struct part *part)
{
	if (!s->flush_first)
		return true;
	if (s->flush_out) {
		pst_list_push_back(&s->later, &part->node);
		return false;
	}
	s->flush_out = true;
	return true;
}

/* The target has answered a flush: for good, or it asks for another try. */
static void flush_answered(struct pst_session *s, bool final)
{
	s->flush_out = false;
	if (final && s->flush_first) {
		s->flush_first = false;
		requests_retry(s);
	}
}

static void part_over(struct pst_session *s, struct part *part, pst_err err, uint16_t status)
{
	struct pst_request *request = part->request;
	struct pst_request_state *st = request_state(request);

	part->request = NULL;
	pst_list_push_front(&s->free, &part->node);
	st->parts--;
	if (request->kind == PST_REQUEST_FLUSH) {
		if (err != PST_OK) {
			flush_failed(s, st, status);
		} else if (!flush_succeeded(s, st)) {
			err = PST_E_IO;
			status = s->untold_status;
		}
		flush_answered(s, true);
	}
	if (err != PST_OK)
		request_fail(st, err, status);
	if (st->made && st->parts == 0)
		request_complete(s, request);
}

static void part_later(struct pst_session *s, struct part *part)
{
	part->tries++;
	if (part->request->kind == PST_REQUEST_FLUSH)
		flush_answered(s, false);
	pst_list_push_back(&s->later, &part->node);
	if (!pst_timer_armed(&s->retry_timer))
		pst_timer_arm(s->env, &s->retry_timer, pst_env_now_ns(s->env) + RETRY_NS);
}

static bool changes_data(const struct pst_request *request)
{
	return request->kind != PST_REQUEST_READ && request->kind != PST_REQUEST_FLUSH;
}

/* True: it waits in `later`, since its first sending may yet be carried out. */
static bool part_held(struct pst_session *s, struct part *part)
{
	if (part->hold_until_ns <= pst_env_now_ns(s->env))
		return false;
	pst_list_push_back(&s->later, &part->node);
	if (!pst_timer_armed(&s->retry_timer))
		pst_timer_arm(s->env, &s->retry_timer, part->hold_until_ns);
	return true;
}

void requests_retry(struct pst_session *s)
{
	pst_list_splice(&s->replay, &s->later);
}

void requests_response(struct pst_session *s, const struct pst_conn_event *ev)
{
	struct part *part = ev->cmd->owner;
	uint16_t status = nvme_get16(ev->cqe.status) >> 1;

	part->in_flight = false;
	if (ev->err == PST_E_CLOSED) {
		if (s->expired) {
			part_over(s, part, PST_E_TIMEOUT, 0);
			return;
		}
		s->stats.replayed_requests++;
		if (changes_data(part->request))
			part->hold_until_ns = PST_MAX(part->hold_until_ns, s->hold_ns);
		pst_list_push_back(&s->replay, &part->node);
	} else if (path_status(status)) {
		if (part->request->kind == PST_REQUEST_FLUSH)
			flush_answered(s, false);
		pst_list_push_back(&s->replay, &part->node);
		path_shut(s);
	} else if (status != 0) {
		if (status_retry(status) && part->tries < TRIES_MAX)
			part_later(s, part);
		else
			part_over(s, part, status_error(status), status);
	} else if (ev->err != PST_OK) {
		/* The data of a read was damaged on the way. */
		if (part->tries < TRIES_MAX)
			part_later(s, part);
		else
			part_over(s, part, ev->err, 0);
	} else if (part->request->kind == PST_REQUEST_READ && ev->cmd->data_bytes != part->bytes) {
		part_over(s, part, PST_E_PROTO, 0); /* success, but not all of the data */
	} else {
		part_over(s, part, PST_OK, 0);
	}
}

/* Everything that is not in flight; what is submitted meanwhile stays. */
void requests_fail_all(struct pst_session *s, pst_err err)
{
	struct pst_list requests, parts;
	struct pst_list *node;

	pst_list_init(&requests);
	pst_list_init(&parts);
	pst_list_splice(&requests, &s->waiting);
	pst_list_splice(&parts, &s->replay);
	pst_list_splice(&parts, &s->later);
	while ((node = pst_list_pop_front(&parts)) != NULL)
		part_over(s, pst_container_of(node, struct part, node), err, 0);
	while ((node = pst_list_pop_front(&requests)) != NULL) {
		struct pst_request_state *st = pst_container_of(node, struct pst_request_state, node);

		request_fail(st, err, 0);
		if (st->parts == 0)
			request_complete(s, st->request);
	}
}

/* ---- Sending ---- */

static struct pst_link *pick_link(struct pst_session *s)
{
	struct pst_link *best = NULL;
	uint32_t least = UINT32_MAX;

	for (uint32_t i = 0; i < s->io_count; i++) {
		struct pst_link *link = &s->io[i];
		uint32_t busy;

		if (!link->connected)
			continue;
		busy = pst_conn_busy(link->conn);
		if (busy < link->depth && busy < least) {
			best = link;
			least = busy;
		}
	}
	return best;
}

static uint64_t part_bytes_max(const struct pst_session *s, const struct pst_request *request)
{
	switch (request->kind) {
	case PST_REQUEST_READ:
	case PST_REQUEST_WRITE:
		return s->transfer_bytes;
	case PST_REQUEST_WRITE_ZEROES:
		return s->zeroes_bytes;
	case PST_REQUEST_DISCARD:
		return s->discard_bytes;
	default:
		return UINT64_MAX;
	}
}

/* The next part of the first waiting request; NULL if there is none, or no free part. */
static struct part *part_make(struct pst_session *s)
{
	while (!pst_list_empty(&s->waiting) && !pst_list_empty(&s->free)) {
		struct pst_request_state *st = pst_container_of(s->waiting.next, struct pst_request_state, node);
		struct pst_request *request = st->request;
		uint64_t max = part_bytes_max(s, request);
		struct part *part;

		if (max == 0) {
			request_fail(st, PST_E_UNSUPPORTED, 0);
			if (st->parts == 0) /* else it is over with the last of them */
				pst_list_push_back(&s->failed, &st->node);
			continue;
		}
		part = pst_container_of(pst_list_pop_front(&s->free), struct part, node);
		part->request = request;
		part->skip_bytes = st->made_bytes;
		part->bytes = PST_MIN(request->len_bytes - st->made_bytes, max);
		part->tries = 0;
		part->hold_until_ns = 0;
		st->parts++;
		st->made_bytes += part->bytes;
		if (st->made_bytes == request->len_bytes) {
			st->made = true;
			pst_list_remove(&st->node);
		}
		return part;
	}
	return NULL;
}

static void part_sqe(const struct pst_session *s, struct part *part, struct nvme_sqe *sqe, struct pst_conn_xfer *xfer)
{
	static const uint8_t opcodes[] = {
		[PST_REQUEST_READ] = NVME_CMD_READ,   [PST_REQUEST_WRITE] = NVME_CMD_WRITE,
		[PST_REQUEST_FLUSH] = NVME_CMD_FLUSH, [PST_REQUEST_WRITE_ZEROES] = NVME_CMD_WRITE_ZEROES,
		[PST_REQUEST_DISCARD] = NVME_CMD_DSM,
	};
	const struct pst_request *request = part->request;
	uint64_t block = s->info.block_bytes, lba = (request->offset_bytes + part->skip_bytes) / block;
	uint32_t blocks = (uint32_t)(part->bytes / block);

	*sqe = (struct nvme_sqe){ .opcode = opcodes[request->kind], .nsid = nvme_le32_of(s->config.nsid) };
	*xfer = (struct pst_conn_xfer){ 0 };
	switch (request->kind) {
	case PST_REQUEST_READ:
	case PST_REQUEST_WRITE:
		xfer->dir = request->kind == PST_REQUEST_READ ? PST_CONN_DATA_IN : PST_CONN_DATA_OUT;
		xfer->bytes = (uint32_t)part->bytes;
		xfer->iov = request->iov;
		xfer->iov_count = request->iov_count;
		xfer->skip_bytes = part->skip_bytes;
		/* fall through */
	case PST_REQUEST_WRITE_ZEROES:
		sqe->cdw10 = nvme_le32_of((uint32_t)lba);
		sqe->cdw11 = nvme_le32_of((uint32_t)(lba >> 32));
		sqe->cdw12 =
		    nvme_le32_of((blocks - 1) | (request->fua && request->kind != PST_REQUEST_READ ? NVME_RW_FUA : 0));
		break;
	case PST_REQUEST_DISCARD:
		part->range = (struct nvme_dsm_range){ .block_count = nvme_le32_of(blocks), .lba = nvme_le64_of(lba) };
		part->range_iov = (struct iovec){ &part->range, sizeof(part->range) };
		sqe->cdw11 = nvme_le32_of(NVME_DSM_DEALLOCATE); /* NR is 0-based: one range */
		xfer->dir = PST_CONN_DATA_OUT;
		xfer->bytes = sizeof(part->range);
		xfer->iov = &part->range_iov;
		xfer->iov_count = 1;
		break;
	default:
		break;
	}
}

static void part_send(struct pst_session *s, struct pst_link *link, struct part *part)
{
	struct nvme_sqe sqe;
	struct pst_conn_xfer xfer;

	part_sqe(s, part, &sqe, &xfer);
	if (pst_conn_submit(link->conn, &sqe, &xfer, part) == NULL) {
		/* The connection has just failed; its event is on the way. */
		pst_list_push_back(&s->replay, &part->node);
		link->connected = false;
		return;
	}
	part->in_flight = true;
	part->sent_ns = pst_env_now_ns(s->env);
}

void requests_pump(struct pst_session *s)
{
	struct pst_list failed, *node;

	pst_list_init(&failed);
	pst_list_splice(&failed, &s->failed);
	while ((node = pst_list_pop_front(&failed)) != NULL)
		request_complete(s, pst_container_of(node, struct pst_request_state, node)->request);
	if (s->expired) {
		requests_fail_all(s, PST_E_TIMEOUT);
		return;
	}
	while (session_live(s) && !s->path_shut) {
		struct pst_link *link = pick_link(s);
		struct part *part = NULL;

		if (link == NULL)
			break;
		node = pst_list_pop_front(&s->replay);
		part = node != NULL ? pst_container_of(node, struct part, node) : part_make(s);
		if (part == NULL)
			break;
		if (part_held(s, part))
			continue;
		if (part->request->kind != PST_REQUEST_FLUSH || flush_admit(s, part))
			part_send(s, link, part);
	}
	if (session_live(s) && s->path_shut && !requests_in_flight(s))
		session_lose(s, PST_E_AGAIN);
	if (!pst_list_empty(&s->failed))
		session_kick(s);
}

bool requests_in_flight(const struct pst_session *s)
{
	for (uint32_t i = 0; i < s->part_count; i++)
		if (s->parts[i].in_flight)
			return true;
	return false;
}

bool requests_stuck(const struct pst_session *s)
{
	uint64_t now = pst_env_now_ns(s->env);

	for (uint32_t i = 0; i < s->part_count; i++)
		if (s->parts[i].in_flight && now - s->parts[i].sent_ns > STUCK_NS)
			return true;
	return false;
}

/* ---- Submitting ---- */

static pst_err request_check(const struct pst_session *s, const struct pst_request *request)
{
	uint64_t sum = 0;

	if (request->kind > PST_REQUEST_DISCARD)
		return PST_E_INVAL;
	if (request->kind == PST_REQUEST_FLUSH)
		return PST_OK;
	if (request->len_bytes == 0 || request->offset_bytes % s->info.block_bytes != 0 ||
	    request->len_bytes % s->info.block_bytes != 0)
		return PST_E_INVAL;
	if (!pst_range_ok(request->offset_bytes, request->len_bytes, s->info.size_bytes))
		return PST_E_RANGE;
	if (request->kind != PST_REQUEST_READ && request->kind != PST_REQUEST_WRITE)
		return PST_OK;
	if (request->iov_count == 0 || request->iov_count > 64)
		return PST_E_INVAL;
	for (uint32_t i = 0; i < request->iov_count; i++)
		if (!pst_add_u64(sum, request->iov[i].iov_len, &sum))
			return PST_E_INVAL;
	return sum == request->len_bytes ? PST_OK : PST_E_INVAL;
}

void pst_session_submit(struct pst_session *s, struct pst_request *request)
{
	struct pst_request_state *st = request_state(request);

	st->request = request;
	st->start_ns = pst_env_now_ns(s->env);
	st->made_bytes = 0;
	st->parts = 0;
	st->made = false;
	st->covers = s->writes_done;
	st->number = request->kind == PST_REQUEST_FLUSH ? ++s->flushes_submitted : 0;
	st->nvme_status = 0;
	st->err = request_check(s, request);
	if (st->err == PST_OK && request->kind == PST_REQUEST_FLUSH)
		request->len_bytes = 0;
	s->outstanding++;
	pst_list_init(&st->node);
	pst_list_push_back(st->err == PST_OK ? &s->waiting : &s->failed, &st->node);
	if (!s->running)
		session_kick(s);
}

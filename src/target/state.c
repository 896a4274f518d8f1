/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Features live in one table: default, which bits a host may set, on which controllers they exist. The few with rules
 * of their own (number of queues, keep alive, host identifier) are handled beside it. None can be saved.
 */
#include "target/state.h"
#include "base/le.h"
#include "target/status.h"

#include <string.h>

#define BAD_FIELD (NVME_INVALID_FIELD | NVME_STATUS_DNR)

/* Asynchronous Event Configuration: SMART warnings (7:0), namespace attributes (8), ANA (11), discovery log (31). */
#define EVENTS_IO 0x000009ffu
#define EVENTS_DISCOVERY 0x80000000u

static const struct feature {
	uint8_t id;
	bool discovery; /* on discovery controllers too */
	bool changes;
	bool of_namespace;
	uint32_t preset, settable; /* bits of dword 11 that Set Features takes over */
} features[PST_FEATURE_COUNT] = {
	{ NVME_FEAT_ARBITRATION, false, true, false, 0, 0xffffff07 },
	{ NVME_FEAT_POWER, false, true, false, 0, 0 }, /* one power state: only 0 can be set */
	{ NVME_FEAT_TEMPERATURE, false, true, false, 343, 0x003fffff },
	{ NVME_FEAT_ERROR_RECOVERY, false, true, false, 0, 0x0000ffff },
	{ NVME_FEAT_WRITE_CACHE, false, false, false, 1,
	  0 }, /* always on: engines complete writes before they are durable */
	{ NVME_FEAT_QUEUES, false, true, false, 0, 0 },
	{ NVME_FEAT_ATOMICITY, false, true, false, 0, 1 },
	{ NVME_FEAT_ASYNC_EVENT, true, true, false, 0, EVENTS_IO | EVENTS_DISCOVERY },
	{ NVME_FEAT_KATO, true, true, false, 0, 0xffffffff },
	{ NVME_FEAT_HOST_ID, false, false, false, 0, 0 },
	{ NVME_FEAT_RESV_MASK, false, true, true, 0, 0x0000000e },
	{ NVME_FEAT_RESV_PERSIST, false, true, true, 0, 0 },
};

static const struct feature *feature_find(bool discovery, uint8_t id)
{
	for (size_t i = 0; i < PST_FEATURE_COUNT; i++)
		if (features[i].id == id && (!discovery || features[i].discovery))
			return &features[i];
	return NULL;
}

static uint32_t keep_alive_round(uint32_t ms)
{
	/* Base 2.0, 5.27.1.12: rounded up to the granularity that KAS promises, without wrapping. */
	uint64_t rounded = pst_round_up(ms, PST_TARGET_KAS_MS);

	return (uint32_t)PST_MIN(rounded, UINT32_MAX / PST_TARGET_KAS_MS * PST_TARGET_KAS_MS);
}

/* Base 2.0, 5.15, 5.27: values that hosts may get and set. */
void pst_features_init(struct pst_features *f, bool discovery, uint16_t queues_max, uint32_t keep_alive_ms)
{
	memset(f, 0, sizeof(*f));
	f->discovery = discovery;
	f->queues_max = queues_max;
	for (size_t i = 0; i < PST_FEATURE_COUNT; i++)
		f->values[i] = features[i].preset;
	for (size_t i = 0; i < PST_FEATURE_COUNT; i++) {
		if (features[i].id == NVME_FEAT_KATO)
			f->values[i] = keep_alive_round(keep_alive_ms);
		/* Base 2.0, 3.1.2.3.4.1: who asks a discovery controller to stay asks for its event, too. */
		if (features[i].id == NVME_FEAT_ASYNC_EVENT && discovery && keep_alive_ms > 0)
			f->values[i] = EVENTS_DISCOVERY;
		if (features[i].id == NVME_FEAT_QUEUES)
			f->values[i] = (uint32_t)(queues_max - 1) << 16 | (uint32_t)(queues_max - 1);
	}
}

uint32_t pst_features_value(const struct pst_features *f, uint8_t fid)
{
	const struct feature *feature = feature_find(false, fid);

	return f->values[feature - features];
}

uint16_t pst_features_get(const struct pst_features *f, uint32_t cdw10, uint32_t cdw11, uint32_t *ret_dw0,
			  bool *ret_host_id)
{
	const struct feature *feature = feature_find(f->discovery, cdw10 & 0xff);
	uint32_t select = cdw10 >> 8 & 7;

	if (feature == NULL)
		return BAD_FIELD;
	/* Fabrics host identifiers are the 128-bit ones: EXHID must be set. */
	if (feature->id == NVME_FEAT_HOST_ID && select != 3 && (cdw11 & 1) == 0)
		return BAD_FIELD;
	switch (select) {
	case 0: /* current */
		*ret_host_id = feature->id == NVME_FEAT_HOST_ID;
		*ret_dw0 = *ret_host_id ? 0 : f->values[feature - features];
		return NVME_SUCCESS;
	case 1: /* default; where nothing can be saved, saved is the same */
	case 2:
		*ret_dw0 = feature->id == NVME_FEAT_QUEUES ? f->values[feature - features] : feature->preset;
		*ret_host_id = false;
		return NVME_SUCCESS;
	case 3: /* capabilities: changeable (2), per namespace (1), not saveable (0) */
		*ret_dw0 = (feature->changes ? 1u << 2 : 0) | (feature->of_namespace ? 1u << 1 : 0);
		*ret_host_id = false;
		return NVME_SUCCESS;
	default:
		return BAD_FIELD;
	}
}

static uint16_t set_queues(struct pst_features *f, uint32_t *value, uint32_t cdw11, uint32_t *ret_dw0)
{
	uint32_t submission = cdw11 & 0xffff, completion = cdw11 >> 16;

	if (f->queues_in_use)
		return NVME_COMMAND_SEQUENCE_ERROR | NVME_STATUS_DNR;
	if (submission == 0xffff || completion == 0xffff)
		return BAD_FIELD;
	/* One of each per connection: the smaller number counts, and never more than we have. */
	submission = PST_MIN(PST_MIN(submission, completion), (uint32_t)f->queues_max - 1);
	*value = submission << 16 | submission;
	*ret_dw0 = *value;
	return NVME_SUCCESS;
}

uint16_t pst_features_set(struct pst_features *f, uint32_t cdw10, uint32_t cdw11, uint32_t *ret_dw0)
{
	const struct feature *feature = feature_find(f->discovery, cdw10 & 0xff);
	uint32_t *value;

	if (feature == NULL)
		return BAD_FIELD;
	if ((cdw10 & 1u << 31) != 0)
		return NVME_FEATURE_NOT_SAVEABLE | NVME_STATUS_DNR;
	value = &f->values[feature - features];
	switch (feature->id) {
	case NVME_FEAT_HOST_ID: /* comes with Connect and stays (Base 2.0, 5.27.1.25) */
		return NVME_COMMAND_SEQUENCE_ERROR | NVME_STATUS_DNR;
	case NVME_FEAT_QUEUES:
		return set_queues(f, value, cdw11, ret_dw0);
	case NVME_FEAT_WRITE_CACHE: /* "enabled" is what it is */
		return (cdw11 & 1) != 0 ? NVME_SUCCESS : NVME_FEATURE_NOT_CHANGEABLE | NVME_STATUS_DNR;
	case NVME_FEAT_POWER:
		return (cdw11 & 0x1f) == 0 ? NVME_SUCCESS : BAD_FIELD;
	case NVME_FEAT_KATO:
		if (cdw11 == 0) /* a running timer can't be turned off: nothing else would find a dead host */
			return NVME_KEEP_ALIVE_INVALID | NVME_STATUS_DNR;
		*value = keep_alive_round(cdw11);
		return NVME_SUCCESS;
	case NVME_FEAT_ASYNC_EVENT:
		if ((cdw11 & ~(f->discovery ? EVENTS_DISCOVERY : EVENTS_IO)) != 0)
			return BAD_FIELD;
		break;
	default:
		break;
	}
	*value = cdw11 & feature->settable;
	return NVME_SUCCESS;
}

bool pst_features_of_namespace(uint8_t fid)
{
	const struct feature *feature = feature_find(false, fid);

	return feature != NULL && feature->of_namespace;
}

/* Base 2.0, 5.16.1.18 */
void pst_log_features(bool discovery, const struct pst_log_window *w)
{
	uint8_t page[1024] = { 0 };

	for (size_t i = 0; i < PST_FEATURE_COUNT; i++) /* FSUPP, and the scope: namespace (bit 20) or controller (21) */
		if (!discovery || features[i].discovery)
			pst_put_le32(page + 4u * features[i].id, (features[i].of_namespace ? 1u << 20 : 1u << 21) | 1u);
	pst_log_window_put(w, 0, page, sizeof(page));
}

/* ---- Properties (Base 2.0, 3.1.3) ---- */

#define CC_EN 1u
#define CC_SHN(cc) ((cc) >> 14 & 3)
#define CSTS_RDY 1u
#define CSTS_CFS 2u
#define CSTS_SHST_DONE (2u << 2)

enum { REG_CAP = 0x00, REG_VS = 0x08, REG_CC = 0x14, REG_CSTS = 0x1c, REG_CRTO = 0x68 };

void pst_registers_init(struct pst_registers *r, uint32_t queue_entries_max)
{
	/* MQES (0-based), CQR, TO 15 s, CSS: NVM, CRMS: ready with media (version 2.0 requires it). MPSMIN is 0. */
	r->cap = (queue_entries_max - 1) | 1u << 16 | (uint64_t)30 << 24 | (uint64_t)1 << 37 | (uint64_t)1 << 59;
	r->cc = 0;
	r->csts = 0;
}

bool pst_registers_ready(const struct pst_registers *r)
{
	return (r->csts & CSTS_RDY) != 0 && (r->cc & CC_EN) != 0;
}

uint16_t pst_registers_get(const struct pst_registers *r, uint8_t size_code, uint32_t offset, uint64_t *ret_value)
{
	uint64_t value;

	if (size_code != (offset == REG_CAP ? 1 : 0))
		return BAD_FIELD;
	switch (offset) {
	case REG_CAP:
		value = r->cap;
		break;
	case REG_VS:
		value = PST_TARGET_VERSION;
		break;
	case REG_CC:
		value = r->cc;
		break;
	case REG_CSTS:
		value = r->csts;
		break;
	case REG_CRTO:
		value = 30; /* CRWMT, units of 500 ms, as TO */
		break;
	default:
		return BAD_FIELD;
	}
	*ret_value = value;
	return NVME_SUCCESS;
}

/* What we can enable with: NVM command set, 4096-byte pages, round robin, entry sizes 64 and 16 (or not said). */
static bool configuration_ok(uint32_t cc)
{
	uint32_t sq_shift = cc >> 16 & 15, cq_shift = cc >> 20 & 15;

	return (cc >> 4 & 7) == 0 && (cc >> 7 & 15) == 0 && (cc >> 11 & 7) == 0 && (sq_shift == 6 || sq_shift == 0) &&
	       (cq_shift == 4 || cq_shift == 0);
}

uint16_t pst_registers_set(struct pst_registers *r, uint8_t size_code, uint32_t offset, uint64_t value,
			   enum pst_register_action *ret_action)
{
	uint32_t old = r->cc, cc = (uint32_t)value;

	if (offset != REG_CC || size_code != 0) /* CC is the only one that hosts may write (no NSSR) */
		return BAD_FIELD;
	*ret_action = PST_REGISTER_NONE;
	r->cc = cc;
	if ((cc & CC_EN) == 0 && (old & CC_EN) != 0) {
		r->csts = 0;
		*ret_action = PST_REGISTER_RESET;
	} else if ((cc & CC_EN) != 0 && (old & CC_EN) == 0) {
		r->csts = configuration_ok(cc) ? CSTS_RDY : CSTS_CFS;
		if (r->csts == CSTS_RDY)
			*ret_action = PST_REGISTER_ENABLED;
	}
	if (CC_SHN(cc) != 0 && CC_SHN(old) == 0) {
		r->csts |= CSTS_SHST_DONE; /* nothing is held back: writes are flushed by Flush, or they may be lost */
		if (*ret_action != PST_REGISTER_RESET) /* a reset does all that a shutdown does */
			*ret_action = PST_REGISTER_SHUTDOWN;
	} else if (CC_SHN(cc) == 0) {
		r->csts &= ~CSTS_SHST_DONE;
	}
	return NVME_SUCCESS;
}

/* ---- Asynchronous events (Base 2.0, 5.2) ---- */

/*
 * Each kind waits for its own page. Base 2.0, 5.2 would have all of a type wait, but there are hosts that ask for a
 * kind whose page they never read (Linux without multipath: 0Ch), and they would miss the others for good.
 */
#define EVENT_ALWAYS 0xff

static const struct {
	uint8_t type, info, lid;
	uint8_t config_bit; /* of Asynchronous Event Configuration; EVENT_ALWAYS: hosts can't turn it off there */
} events[PST_EVENT_KINDS] = {
	[PST_EVENT_NS_CHANGED] = { 2, 0x00, NVME_LOG_CHANGED_NS, 8 },
	[PST_EVENT_DISCOVERY_CHANGED] = { 2, 0xf0, NVME_LOG_DISCOVERY, 31 },
	[PST_EVENT_ANA_CHANGED] = { 2, NVME_AER_ANA_CHANGED, NVME_LOG_ANA, 11 },
	[PST_EVENT_RESERVATION] = { NVME_AER_TYPE_COMMAND_SET, 0x00, NVME_LOG_RESERVATION, EVENT_ALWAYS },
};

uint16_t pst_events_request(struct pst_events *e, uint16_t cid)
{
	if (e->cid_count == PST_TARGET_AER_MAX)
		return NVME_AER_LIMIT_EXCEEDED;
	e->cids[e->cid_count++] = cid;
	return NVME_SUCCESS;
}

static void cid_remove(struct pst_events *e, uint32_t index)
{
	e->cid_count--;
	memmove(&e->cids[index], &e->cids[index + 1], (e->cid_count - index) * sizeof(e->cids[0]));
}

bool pst_events_abort(struct pst_events *e, uint16_t cid)
{
	for (uint32_t i = 0; i < e->cid_count; i++) {
		if (e->cids[i] == cid) {
			cid_remove(e, i);
			return true;
		}
	}
	return false;
}

void pst_events_raise(struct pst_events *e, enum pst_event_kind kind, uint32_t config)
{
	if (events[kind].config_bit == EVENT_ALWAYS || (config >> events[kind].config_bit & 1) != 0)
		e->pending |= 1u << kind;
}

void pst_events_log_read(struct pst_events *e, uint8_t lid)
{
	for (uint32_t kind = 0; kind < PST_EVENT_KINDS; kind++)
		if (events[kind].lid == lid) {
			e->masked &= ~(1u << kind);
			e->pending &= ~(1u << kind); /* what was not yet reported has been seen now */
		}
}

bool pst_events_next(struct pst_events *e, uint16_t *ret_cid, uint32_t *ret_dw0)
{
	uint32_t due = e->pending & ~e->masked, kind;

	if (due == 0 || e->cid_count == 0)
		return false;
	kind = (uint32_t)__builtin_ctz(due);
	e->pending &= ~(1u << kind);
	e->masked |= 1u << kind;
	*ret_cid = e->cids[0];
	*ret_dw0 = (uint32_t)events[kind].lid << 16 | (uint32_t)events[kind].info << 8 | events[kind].type;
	cid_remove(e, 0);
	return true;
}

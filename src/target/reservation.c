/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The model. A namespace has registrants (host and key) and at most one reservation, of a type. Invariants:
 *
 *   - hosts are unique, keys are not 0 (0 means "all" in a Preempt);
 *   - types 1 to 4 have one holder, which is a registrant; types 5 and 6 are held by all registrants, at least one;
 *   - without a reservation there is no holder.
 *
 * Every change begins with the same question, whether the host is registered with the key that it says, and works on
 * the state in place only after the last reason to refuse.
 */
#include "target/reservation.h"
#include "base/le.h"

#include <string.h>

#define BAD_FIELD (NVME_INVALID_FIELD | NVME_STATUS_DNR)
#define CONFLICT (NVME_RESERVATION_CONFLICT | NVME_STATUS_DNR)

static const struct {
	unsigned others;      /* what those may not do who are neither holder nor, where @registrants, registered */
	bool registrants;     /* a registration is enough */
	bool all;             /* and makes a holder */
	bool told_of_release; /* registrants hear when it is released: their access ends or changes with it */
} types[PST_RESERVATION_TYPES] = {
	[PST_RESERVATION_WRITE_EXCLUSIVE] = { PST_ACCESS_WRITE, false, false, false },
	[PST_RESERVATION_EXCLUSIVE_ACCESS] = { PST_ACCESS_READ | PST_ACCESS_WRITE, false, false, false },
	[PST_RESERVATION_WRITE_EXCLUSIVE_REGISTRANTS] = { PST_ACCESS_WRITE, true, false, true },
	[PST_RESERVATION_EXCLUSIVE_ACCESS_REGISTRANTS] = { PST_ACCESS_READ | PST_ACCESS_WRITE, true, false, true },
	[PST_RESERVATION_WRITE_EXCLUSIVE_ALL] = { PST_ACCESS_WRITE, true, true, true },
	[PST_RESERVATION_EXCLUSIVE_ACCESS_ALL] = { PST_ACCESS_READ | PST_ACCESS_WRITE, true, true, true },
};

static bool same_host(const uint8_t a[16], const uint8_t b[16])
{
	return memcmp(a, b, 16) == 0;
}

static const struct pst_registrant *find(const struct pst_reservation *r, const uint8_t host[16])
{
	for (uint32_t i = 0; i < r->count; i++)
		if (same_host(r->registrants[i].host, host))
			return &r->registrants[i];
	return NULL;
}

static bool holds(const struct pst_reservation *r, const uint8_t host[16])
{
	if (r->type == PST_RESERVATION_NONE)
		return false;
	return types[r->type].all ? find(r, host) != NULL : same_host(r->holder, host);
}

/* Base 2.0, 8.19: what each type of reservation refuses to whom. */
unsigned pst_reservation_denies(const struct pst_reservation *r, const uint8_t host[16])
{
	if (r->type == PST_RESERVATION_NONE || holds(r, host) || (types[r->type].registrants && find(r, host) != NULL))
		return 0;
	return types[r->type].others;
}

/* ---- Commands (Base 2.0, 7.2 to 7.5) ---- */

/* Base 2.0, 7.3 */
static uint16_t parse_register(uint32_t cdw10, struct pst_reservation_request *q)
{
	static const enum pst_reservation_persist cptpl[] = { PST_PERSIST_KEEP, PST_PERSIST_KEEP, PST_PERSIST_OFF,
							      PST_PERSIST_ON };

	if ((cdw10 & 7) > 2 || cdw10 >> 30 == 1) /* RREGA 3 and above, CPTPL 01b: reserved */
		return BAD_FIELD;
	q->action = (enum pst_reservation_action)(PST_RESERVATION_REGISTER + (cdw10 & 7));
	q->ignore_key = (cdw10 & 8) != 0;
	q->persist = cptpl[cdw10 >> 30];
	q->data_bytes = 16;
	return NVME_SUCCESS;
}

static uint16_t parse_type(uint32_t cdw10, struct pst_reservation_request *q)
{
	uint32_t type = cdw10 >> 8 & 0xff;

	if (type == PST_RESERVATION_NONE || type >= PST_RESERVATION_TYPES)
		return BAD_FIELD;
	q->type = (enum pst_reservation_type)type;
	return NVME_SUCCESS;
}

/* Base 2.0, 7.2 */
static uint16_t parse_acquire(uint32_t cdw10, struct pst_reservation_request *q)
{
	/* IEKEY as revision 1.3 and later define it (RESCAP bit 7): it may not be set here, nor in Release. */
	if ((cdw10 & 7) > 2 || (cdw10 & 8) != 0)
		return BAD_FIELD;
	q->action = (enum pst_reservation_action)(PST_RESERVATION_ACQUIRE + (cdw10 & 7));
	q->data_bytes = 16;
	return parse_type(cdw10, q);
}

/* Base 2.0, 7.4 */
static uint16_t parse_release(uint32_t cdw10, struct pst_reservation_request *q)
{
	if ((cdw10 & 7) > 1 || (cdw10 & 8) != 0)
		return BAD_FIELD;
	q->action = (cdw10 & 7) == 0 ? PST_RESERVATION_RELEASE : PST_RESERVATION_CLEAR;
	q->data_bytes = 8;
	return q->action == PST_RESERVATION_RELEASE ? parse_type(cdw10, q) : NVME_SUCCESS;
}

/* Base 2.0, 7.5: only the extended structure, since host identifiers have 128 bits. */
static uint16_t parse_report(uint32_t cdw10, uint32_t cdw11, struct pst_reservation_request *q)
{
	/* Over Fabrics host identifiers have 128 bits, which only the extended structure can show. */
	if ((cdw11 & 1) == 0)
		return NVME_HOST_ID_INCONSISTENT | NVME_STATUS_DNR;
	if (cdw10 >= UINT32_MAX / 4) /* NUMD: more than a command can transfer in any case */
		return BAD_FIELD;
	q->action = PST_RESERVATION_REPORT;
	q->data_bytes = (cdw10 + 1) * 4;
	return NVME_SUCCESS;
}

uint16_t pst_reservation_parse(const void *entry, struct pst_reservation_request *ret)
{
	const uint8_t *sqe = entry;
	uint32_t cdw10 = pst_get_le32(sqe + 40), cdw11 = pst_get_le32(sqe + 44);
	struct pst_reservation_request q = { 0 };
	uint16_t status;

	switch (sqe[0]) {
	case NVME_CMD_RESV_REGISTER:
		status = parse_register(cdw10, &q);
		break;
	case NVME_CMD_RESV_ACQUIRE:
		status = parse_acquire(cdw10, &q);
		break;
	case NVME_CMD_RESV_RELEASE:
		status = parse_release(cdw10, &q);
		break;
	case NVME_CMD_RESV_REPORT:
		status = parse_report(cdw10, cdw11, &q);
		break;
	default:
		return NVME_INVALID_OPCODE | NVME_STATUS_DNR;
	}
	if (status == NVME_SUCCESS)
		*ret = q;
	return status;
}

uint16_t pst_reservation_keys(const void *data, struct pst_reservation_request *q)
{
	q->key = pst_get_le64(data);
	q->other_key = q->data_bytes >= 16 ? pst_get_le64((const uint8_t *)data + 8) : 0;
	/* A key of 0 would be nobody's: a Preempt with PRKEY 0 means all registrants. */
	if ((q->action == PST_RESERVATION_REGISTER || q->action == PST_RESERVATION_REPLACE) && q->other_key == 0)
		return BAD_FIELD;
	return NVME_SUCCESS;
}

/* ---- Whom to tell ---- */

static void tell(struct pst_reservation_effect *effect, const uint8_t host[16], enum pst_reservation_notice notice)
{
	pst_assert(effect->count < PST_REGISTRANTS_MAX); /* each registrant hears one thing of one change */
	memcpy(effect->notices[effect->count].host, host, 16);
	effect->notices[effect->count++].notice = notice;
}

static void tell_others(const struct pst_reservation *r, struct pst_reservation_effect *effect, const uint8_t host[16],
			enum pst_reservation_notice notice)
{
	for (uint32_t i = 0; i < r->count; i++)
		if (!same_host(r->registrants[i].host, host))
			tell(effect, r->registrants[i].host, notice);
}

bool pst_reservation_preempted(const struct pst_reservation_effect *effect, const uint8_t host[16])
{
	for (uint32_t i = 0; i < effect->count; i++)
		if (effect->notices[i].notice == PST_NOTICE_REGISTRATION_PREEMPTED &&
		    same_host(effect->notices[i].host, host))
			return true;
	return false;
}

/* ---- Changes ---- */

static void release(struct pst_reservation *r, struct pst_reservation_effect *effect, const uint8_t by[16])
{
	if (types[r->type].told_of_release)
		tell_others(r, effect, by, PST_NOTICE_RESERVATION_RELEASED);
	r->type = PST_RESERVATION_NONE;
	memset(r->holder, 0, sizeof(r->holder));
}

static void hold(struct pst_reservation *r, enum pst_reservation_type type, const uint8_t host[16])
{
	r->type = type;
	memset(r->holder, 0, sizeof(r->holder));
	if (!types[type].all)
		memcpy(r->holder, host, sizeof(r->holder));
}

static void unregister(struct pst_reservation *r, struct pst_registrant *registrant)
{
	size_t after = r->count - (size_t)(registrant - r->registrants) - 1;

	memmove(registrant, registrant + 1, after * sizeof(*registrant));
	r->count--;
	memset(&r->registrants[r->count], 0, sizeof(r->registrants[0])); /* states compare, and nothing stale is kept */
}

/* Base 2.0, 7.3: a host that is registered may say it again with its key only. */
static uint16_t do_register(struct pst_reservation *r, const struct pst_reservation_request *q,
			    uint32_t registrants_max, struct pst_registrant *self)
{
	if (self != NULL) /* again with the same key is no error; with another one only Replace can */
		return self->key == q->other_key ? NVME_SUCCESS : CONFLICT;
	if (r->count >= PST_MIN(registrants_max, PST_REGISTRANTS_MAX))
		return NVME_INTERNAL_ERROR | NVME_STATUS_DNR;
	self = &r->registrants[r->count++];
	memcpy(self->host, q->host, sizeof(self->host));
	self->key = q->other_key;
	return NVME_SUCCESS;
}

static uint16_t do_unregister(struct pst_reservation *r, const struct pst_reservation_request *q,
			      struct pst_registrant *self, struct pst_reservation_effect *effect)
{
	bool held = holds(r, q->host);

	if (self == NULL || (!q->ignore_key && self->key != q->key))
		return CONFLICT;
	unregister(r, self);
	/* The reservation goes with its holder; one of all registrants with the last of them. */
	if (held && (!types[r->type].all || r->count == 0))
		release(r, effect, q->host);
	return NVME_SUCCESS;
}

static uint16_t do_replace(const struct pst_reservation_request *q, struct pst_registrant *self)
{
	if (self == NULL || (!q->ignore_key && self->key != q->key))
		return CONFLICT;
	self->key = q->other_key;
	return NVME_SUCCESS;
}

static uint16_t do_acquire(struct pst_reservation *r, const struct pst_reservation_request *q)
{
	if (r->type == PST_RESERVATION_NONE)
		hold(r, q->type, q->host);
	else if (!holds(r, q->host) || r->type != q->type)
		return CONFLICT;
	return NVME_SUCCESS;
}

/* Unregisters all others, or (@key not 0) those with this key. */
static void preempt_registrants(struct pst_reservation *r, const struct pst_reservation_request *q, uint64_t key,
				struct pst_reservation_effect *effect)
{
	for (uint32_t i = r->count; i-- > 0;) {
		struct pst_registrant *other = &r->registrants[i];

		if (same_host(other->host, q->host) || (key != 0 && other->key != key))
			continue;
		tell(effect, other->host, PST_NOTICE_REGISTRATION_PREEMPTED);
		unregister(r, other);
	}
}

/* Base 2.0, 8.19, Preempting a Reservation or Registration. The host itself stays registered, whatever its key. */
static uint16_t do_preempt(struct pst_reservation *r, const struct pst_reservation_request *q,
			   struct pst_reservation_effect *effect)
{
	enum pst_reservation_type old = r->type;
	bool all = types[old].all, found = false, from_holder = false;

	if (q->other_key == 0 && !all) /* "everybody" is for reservations that everybody holds */
		return BAD_FIELD;
	for (uint32_t i = 0; i < r->count; i++) {
		if (r->registrants[i].key != q->other_key)
			continue;
		found = true;
		from_holder |= old != PST_RESERVATION_NONE && !all && same_host(r->registrants[i].host, r->holder);
	}
	if (q->other_key != 0 && !found)
		return CONFLICT;
	preempt_registrants(r, q, q->other_key, effect);
	if (q->other_key == 0) {
		hold(r, q->type, q->host);
	} else if (from_holder) {
		hold(r, q->type, q->host);
		if (q->type != old) /* who stays registered may have another access now */
			tell_others(r, effect, q->host, PST_NOTICE_RESERVATION_RELEASED);
	}
	return NVME_SUCCESS;
}

static uint16_t do_release(struct pst_reservation *r, const struct pst_reservation_request *q,
			   struct pst_reservation_effect *effect)
{
	if (!holds(r, q->host)) /* nothing of this host's to release is no error */
		return NVME_SUCCESS;
	if (r->type != q->type)
		return BAD_FIELD;
	release(r, effect, q->host);
	return NVME_SUCCESS;
}

static uint16_t do_clear(struct pst_reservation *r, const struct pst_reservation_request *q,
			 struct pst_reservation_effect *effect)
{
	tell_others(r, effect, q->host, PST_NOTICE_RESERVATION_PREEMPTED);
	r->type = PST_RESERVATION_NONE;
	memset(r->holder, 0, sizeof(r->holder));
	memset(r->registrants, 0, sizeof(r->registrants));
	r->count = 0;
	return NVME_SUCCESS;
}

static uint16_t change(struct pst_reservation *r, const struct pst_reservation_request *q, uint32_t registrants_max,
		       struct pst_reservation_effect *effect)
{
	const struct pst_registrant *found = find(r, q->host);
	struct pst_registrant *self = found != NULL ? &r->registrants[found - r->registrants] : NULL;
	bool known = self != NULL && self->key == q->key;

	switch (q->action) {
	case PST_RESERVATION_REGISTER:
		return do_register(r, q, registrants_max, self);
	case PST_RESERVATION_UNREGISTER:
		return do_unregister(r, q, self, effect);
	case PST_RESERVATION_REPLACE:
		return do_replace(q, self);
	case PST_RESERVATION_ACQUIRE:
		return known ? do_acquire(r, q) : CONFLICT;
	case PST_RESERVATION_PREEMPT:
	case PST_RESERVATION_PREEMPT_ABORT:
		return known ? do_preempt(r, q, effect) : CONFLICT;
	case PST_RESERVATION_RELEASE:
		return known ? do_release(r, q, effect) : CONFLICT;
	case PST_RESERVATION_CLEAR:
		return known ? do_clear(r, q, effect) : CONFLICT;
	case PST_RESERVATION_PERSIST:
		return NVME_SUCCESS;
	case PST_RESERVATION_REPORT:
		break;
	}
	pst_assert(false);
	return BAD_FIELD;
}

/* Base 2.0, 7.5: GEN counts these, when they succeed, whether or not they changed anything. */
static bool counts(enum pst_reservation_action action)
{
	return action != PST_RESERVATION_ACQUIRE && action != PST_RESERVATION_RELEASE &&
	       action != PST_RESERVATION_PERSIST;
}

uint16_t pst_reservation_apply(struct pst_reservation *r, const struct pst_reservation_request *q,
			       uint32_t registrants_max, struct pst_reservation_effect *effect)
{
	struct pst_reservation next = *r;
	uint16_t status;

	effect->changed = false;
	effect->count = 0;
	status = change(&next, q, registrants_max, effect);
	if (status != NVME_SUCCESS) {
		effect->count = 0;
		return status;
	}
	if (q->persist != PST_PERSIST_KEEP)
		next.persist = q->persist == PST_PERSIST_ON;
	if (counts(q->action))
		next.generation++; /* rolls over to 0 */
	effect->changed = next.generation != r->generation || next.type != r->type || next.persist != r->persist;
	*r = next;
	return NVME_SUCCESS;
}

/* ---- Report (Reservation Status Extended Data Structure) ---- */

static void put(uint8_t *to, uint32_t len_bytes, uint32_t at, const uint8_t *part, uint32_t part_bytes)
{
	if (at < len_bytes)
		memcpy(to + at, part, PST_MIN(part_bytes, len_bytes - at));
}

void pst_reservation_report(const struct pst_reservation *r, uint8_t *to, uint32_t len_bytes)
{
	uint8_t part[64] = { 0 };

	memset(to, 0, len_bytes);
	pst_put_le32(part, r->generation);          /* GEN */
	part[4] = (uint8_t)r->type;                 /* RTYPE */
	pst_put_le16(part + 5, (uint16_t)r->count); /* REGCTL */
	part[9] = r->persist;                       /* PTPLS */
	put(to, len_bytes, 0, part, sizeof(part));
	for (uint32_t i = 0; i < r->count; i++) {
		const struct pst_registrant *registrant = &r->registrants[i];

		memset(part, 0, sizeof(part));
		pst_put_le16(part, NVMF_CNTLID_DYNAMIC); /* CNTLID: controllers come and go, the host stays */
		part[2] = holds(r, registrant->host);    /* RCSTS: holds the reservation */
		pst_put_le64(part + 8, registrant->key); /* RKEY */
		memcpy(part + 16, registrant->host, 16); /* HOSTID */
		put(to, len_bytes, 64 + 64 * i, part, sizeof(part));
	}
}

/* ---- At rest: version, type, count, 0; GEN; holder; 8 zeros; then host and key of each registrant ---- */

#define SAVED_VERSION 1
#define SAVED_HEADER 32u
#define SAVED_ENTRY 24u

uint32_t pst_reservation_save(const struct pst_reservation *r, uint8_t to[PST_RESERVATION_SAVED_MAX])
{
	if (!r->persist)
		return 0;
	memset(to, 0, SAVED_HEADER);
	to[0] = SAVED_VERSION;
	to[1] = (uint8_t)r->type;
	to[2] = (uint8_t)r->count;
	pst_put_le32(to + 4, r->generation);
	memcpy(to + 8, r->holder, sizeof(r->holder));
	for (uint32_t i = 0; i < r->count; i++) {
		memcpy(to + SAVED_HEADER + SAVED_ENTRY * i, r->registrants[i].host, 16);
		pst_put_le64(to + SAVED_HEADER + SAVED_ENTRY * i + 16, r->registrants[i].key);
	}
	return SAVED_HEADER + SAVED_ENTRY * r->count;
}

static bool sound(const struct pst_reservation *r)
{
	static const uint8_t nobody[16];

	for (uint32_t i = 0; i < r->count; i++)
		if (r->registrants[i].key == 0 || find(r, r->registrants[i].host) != &r->registrants[i])
			return false;
	if (r->type == PST_RESERVATION_NONE || types[r->type].all)
		return same_host(r->holder, nobody) && (r->type == PST_RESERVATION_NONE || r->count > 0);
	return find(r, r->holder) != NULL;
}

pst_err pst_reservation_load(const void *from, uint32_t len_bytes, struct pst_reservation *ret)
{
	const uint8_t *p = from;
	struct pst_reservation r = { .persist = true };

	if (len_bytes == 0) {
		*ret = (struct pst_reservation){ 0 };
		return PST_OK;
	}
	if (len_bytes < SAVED_HEADER || p[0] != SAVED_VERSION || p[1] >= PST_RESERVATION_TYPES ||
	    p[2] > PST_REGISTRANTS_MAX || p[3] != 0 || len_bytes != SAVED_HEADER + SAVED_ENTRY * p[2] ||
	    pst_get_le64(p + 24) != 0)
		return PST_E_FORMAT;
	r.type = (enum pst_reservation_type)p[1];
	r.count = p[2];
	r.generation = pst_get_le32(p + 4);
	memcpy(r.holder, p + 8, sizeof(r.holder));
	for (uint32_t i = 0; i < r.count; i++) {
		memcpy(r.registrants[i].host, p + SAVED_HEADER + SAVED_ENTRY * i, 16);
		r.registrants[i].key = pst_get_le64(p + SAVED_HEADER + SAVED_ENTRY * i + 16);
	}
	if (!sound(&r))
		return PST_E_FORMAT;
	*ret = r;
	return PST_OK;
}

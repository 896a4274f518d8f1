/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A controller's features (Base 2.0, 5.15 and 5.27) and its properties (Fabrics Property Get and
 * Set). Pure: values in, status and value out; what an action means for queues is the caller's.
 */
#ifndef PST_TARGET_STATE_H
#define PST_TARGET_STATE_H

#include "target/logs.h"

#define PST_FEATURE_COUNT 12u

struct pst_features {
	bool discovery;
	uint16_t queues_max; /* I/O queues that we grant, 1-based */
	bool queues_in_use;  /* I/O queues exist: their number can't change any more */
	uint32_t values[PST_FEATURE_COUNT];
};

void pst_features_init(struct pst_features *f, bool discovery, uint16_t queues_max, uint32_t keep_alive_ms);

/* The value in force: what Set Features (or Connect, for the keep alive timeout in ms) left. */
uint32_t pst_features_value(const struct pst_features *f, uint8_t fid);

/*
 * The two commands, by their dwords 10 and 11. Return the NVMe status. @ret_dw0: the completion's dword 0.
 * @ret_host_id: Get Features of the host identifier wants the 16 bytes transferred. Reservation Persistence belongs to
 * the namespace: its current value and its change are the caller's.
 */
uint16_t pst_features_get(const struct pst_features *f, uint32_t cdw10, uint32_t cdw11, uint32_t *ret_dw0,
			  bool *ret_host_id);
uint16_t pst_features_set(struct pst_features *f, uint32_t cdw10, uint32_t cdw11, uint32_t *ret_dw0);

/* Features that are set for a namespace: the command's NSID names it. */
bool pst_features_of_namespace(uint8_t fid);

/* Log page 12h. */
void pst_log_features(bool discovery, const struct pst_log_window *w);

/* ---- Properties ---- */

struct pst_registers {
	uint64_t cap;
	uint32_t cc, csts;
};

enum pst_register_action {
	PST_REGISTER_NONE,
	PST_REGISTER_ENABLED,  /* CC.EN 0 -> 1, accepted */
	PST_REGISTER_RESET,    /* CC.EN 1 -> 0: delete the I/O queues */
	PST_REGISTER_SHUTDOWN, /* CC.SHN: delete the I/O queues, nothing more will come */
};

void pst_registers_init(struct pst_registers *r, uint32_t queue_entries_max);
bool pst_registers_ready(const struct pst_registers *r);

/* @size_code: ATTRIB bits 2:0 of the command, 0 for 4 bytes, 1 for 8. */
uint16_t pst_registers_get(const struct pst_registers *r, uint8_t size_code, uint32_t offset, uint64_t *ret_value);
uint16_t pst_registers_set(struct pst_registers *r, uint8_t size_code, uint32_t offset, uint64_t value,
			   enum pst_register_action *ret_action);

/* ---- Asynchronous events ---- */

enum pst_event_kind {
	PST_EVENT_NS_CHANGED,        /* notice 00h, log page 04h */
	PST_EVENT_DISCOVERY_CHANGED, /* notice F0h, log page 70h */
	PST_EVENT_ANA_CHANGED,       /* notice 03h, log page 0Ch */
	PST_EVENT_RESERVATION,       /* command set specific, log page 80h */
	PST_EVENT_KINDS,
};

/* Requests wait here (their command ids) for events, or events for requests. */
struct pst_events {
	uint16_t cids[PST_TARGET_AER_MAX];
	uint32_t cid_count;
	uint32_t pending; /* bit per kind: happened, not yet reported */
	uint32_t masked;  /* bit per kind: reported, its log page not yet read with RAE 0 */
};

/* Asynchronous Event Request Limit Exceeded beyond PST_TARGET_AER_MAX. */
uint16_t pst_events_request(struct pst_events *e, uint16_t cid);
bool pst_events_abort(struct pst_events *e, uint16_t cid);

/* @config: the Asynchronous Event Configuration feature; an event that the host did not enable is dropped. */
void pst_events_raise(struct pst_events *e, enum pst_event_kind kind, uint32_t config);

/* The log page of @lid was read with RAE 0: its event may come again. */
void pst_events_log_read(struct pst_events *e, uint8_t lid);

/* The next request to complete and its dword 0; false: none. Call until false after each change. */
bool pst_events_next(struct pst_events *e, uint16_t *ret_cid, uint32_t *ret_dw0);

#endif

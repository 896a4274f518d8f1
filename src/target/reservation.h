/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reservations of one namespace (NVM Express Base 2.0, 8.19 and the Reservation commands of chapter 7) as a pure state
 * machine: a command and its host in, the next state, whom to notify and a status out. No I/O, no shard, no memory of
 * its own: a state is a plain structure that may be copied, which is how a change is made, saved, and only then put in
 * force (reservation-command.c). The wire format of the commands and of the report is here too.
 *
 * A registrant is a host, known by its 128-bit host identifier, whatever controllers it has or has not.
 */
#ifndef PST_TARGET_RESERVATION_H
#define PST_TARGET_RESERVATION_H

#include "proto/nvme.h"

/* Hard limit; the configured one (pst_target_config.registrants_max) may be lower. A saved state stays below the size
 * of a pool's record, also as text. */
#define PST_REGISTRANTS_MAX 56u

enum pst_reservation_type {
	PST_RESERVATION_NONE = 0,
	PST_RESERVATION_WRITE_EXCLUSIVE = 1,
	PST_RESERVATION_EXCLUSIVE_ACCESS = 2,
	PST_RESERVATION_WRITE_EXCLUSIVE_REGISTRANTS = 3,
	PST_RESERVATION_EXCLUSIVE_ACCESS_REGISTRANTS = 4,
	PST_RESERVATION_WRITE_EXCLUSIVE_ALL = 5, /* every registrant is a holder */
	PST_RESERVATION_EXCLUSIVE_ACCESS_ALL = 6,
	PST_RESERVATION_TYPES,
};

/* What a command does with data; one that does neither is never refused for a reservation. */
enum {
	PST_ACCESS_READ = 1,
	PST_ACCESS_WRITE = 2,
};

struct pst_registrant {
	uint8_t host[16];
	uint64_t key; /* never 0 */
};

struct pst_reservation {
	uint32_t generation; /* GEN: counts registrations, preemptions and clearings */
	enum pst_reservation_type type;
	uint8_t holder[16]; /* of types 1 to 4, a registrant; else zeros */
	bool persist;       /* PTPL: survives the loss of power */
	uint32_t count;
	struct pst_registrant registrants[PST_REGISTRANTS_MAX];
};

/* Bits of PST_ACCESS_*: what @host may not do now (8.19, Command Behavior in the Presence of a Reservation). */
unsigned pst_reservation_denies(const struct pst_reservation *r, const uint8_t host[16]);

/* ---- Commands ---- */

enum pst_reservation_action {
	PST_RESERVATION_REGISTER,
	PST_RESERVATION_UNREGISTER,
	PST_RESERVATION_REPLACE,
	PST_RESERVATION_ACQUIRE,
	PST_RESERVATION_PREEMPT,
	PST_RESERVATION_PREEMPT_ABORT,
	PST_RESERVATION_RELEASE,
	PST_RESERVATION_CLEAR,
	PST_RESERVATION_REPORT,
	PST_RESERVATION_PERSIST, /* Set Features, Reservation Persistence: @persist */
};

enum pst_reservation_persist { PST_PERSIST_KEEP, PST_PERSIST_OFF, PST_PERSIST_ON };

struct pst_reservation_request {
	enum pst_reservation_action action;
	enum pst_reservation_type type;
	bool ignore_key; /* IEKEY */
	enum pst_reservation_persist persist;
	uint32_t data_bytes; /* keys that come with the command, or the room for the report */
	uint8_t host[16];
	uint64_t key;       /* CRKEY: the host's own */
	uint64_t other_key; /* NRKEY or PRKEY */
};

/*
 * The fields of a Reservation command, before its data has come. @entry: the 64 bytes. Returns a status; *ret is filled
 * for NVME_SUCCESS only, but for host and keys.
 */
uint16_t pst_reservation_parse(const void *entry, struct pst_reservation_request *ret);

/* The keys, from the request->data_bytes bytes that came with the command. */
uint16_t pst_reservation_keys(const void *data, struct pst_reservation_request *request);

/* ---- Changes ---- */

/* Reservation notification types, as the log page (80h) numbers them. */
enum pst_reservation_notice {
	PST_NOTICE_REGISTRATION_PREEMPTED = 1,
	PST_NOTICE_RESERVATION_RELEASED = 2,
	PST_NOTICE_RESERVATION_PREEMPTED = 3,
};

/* What others have to be told; those whose registration was preempted are also those whose commands are aborted. */
struct pst_reservation_effect {
	bool changed; /* the state is another one now */
	uint32_t count;
	struct {
		uint8_t host[16];
		enum pst_reservation_notice notice;
	} notices[PST_REGISTRANTS_MAX];
};

bool pst_reservation_preempted(const struct pst_reservation_effect *effect, const uint8_t host[16]);

/*
 * Any action but REPORT. @registrants_max: at most PST_REGISTRANTS_MAX; further hosts get Internal Error. A status
 * other than NVME_SUCCESS leaves *r as it was. @effect is always filled.
 */
uint16_t pst_reservation_apply(struct pst_reservation *r, const struct pst_reservation_request *request,
			       uint32_t registrants_max, struct pst_reservation_effect *effect);

/* Reservation Status Extended data structure, as much of it as @len_bytes hold; the rest is zeros. */
void pst_reservation_report(const struct pst_reservation *r, uint8_t *to, uint32_t len_bytes);

/* ---- At rest ---- */

#define PST_RESERVATION_SAVED_MAX (32u + 24u * PST_REGISTRANTS_MAX)

/* Returns the length; 0: nothing is to be kept, since persist is off. */
uint32_t pst_reservation_save(const struct pst_reservation *r, uint8_t to[PST_RESERVATION_SAVED_MAX]);

/* PST_E_FORMAT for anything that save does not write. @len_bytes 0: nothing was kept. */
pst_err PST_MUST_USE pst_reservation_load(const void *from, uint32_t len_bytes, struct pst_reservation *ret);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Log pages (Base 2.0, 5.16) as bytes. Pure. Every builder fills a window of its page:
 * @len_bytes bytes from @offset_bytes on; what lies past the end of the page reads as zeros.
 */
#ifndef PST_TARGET_LOGS_H
#define PST_TARGET_LOGS_H

#include "target/identify.h"

struct pst_log_window {
	uint64_t offset_bytes;
	uint32_t len_bytes;
	uint8_t *data;
};

/* Length of the page, or 0 if a controller of this kind has no such page. Discovery: header and @entry_count. */
uint64_t pst_log_page_bytes(bool discovery, uint8_t lid, uint64_t entry_count);

void pst_log_supported(bool discovery, const struct pst_log_window *w);
void pst_log_effects(bool discovery, const struct pst_log_window *w);
void pst_log_firmware(const char *firmware, const struct pst_log_window *w);

struct pst_log_smart {
	uint64_t bytes_read, bytes_written;
	uint64_t read_commands, write_commands;
	uint64_t media_errors, error_log_entries;
	uint64_t power_on_hours;
};

void pst_log_smart(const struct pst_log_smart *s, const struct pst_log_window *w);

/* The last errors of a controller, newest first when read. */
struct pst_log_error {
	uint64_t count; /* from 1; 0: empty entry */
	uint16_t sqid, cid, status;
	uint32_t nsid;
	uint64_t lba;
};

struct pst_log_errors {
	uint64_t count; /* of errors since the controller was created */
	struct pst_log_error ring[PST_TARGET_ERROR_LOG_MAX];
};

void pst_log_errors_add(struct pst_log_errors *log, const struct pst_log_error *entry);
void pst_log_errors(const struct pst_log_errors *log, const struct pst_log_window *w);

/* @nsid: the namespace that changed since the page was last read; 0: none. */
void pst_log_changed_ns(uint32_t nsid, const struct pst_log_window *w);

/* Reservation notifications of a controller that its host has not read yet: the oldest is shown, and goes when read. */
#define PST_LOG_NOTICES_MAX 32u

struct pst_log_notices {
	uint64_t count; /* ever, with those that were lost */
	uint32_t first, waiting;
	uint64_t numbers[PST_LOG_NOTICES_MAX]; /* a ring, beginning at first; rising, with a gap where some were lost */
	uint8_t types[PST_LOG_NOTICES_MAX];
};

/* When the ring is full @type is lost, and the number of the last one says so: it becomes that of what was lost. */
void pst_log_notices_add(struct pst_log_notices *log, uint8_t type);
/* Without one: an empty page. */
void pst_log_notices_take(struct pst_log_notices *log, uint32_t nsid, const struct pst_log_window *w);

/* Log page 0Ch: a controller sees the one group that its namespace is in. */
#define PST_LOG_ANA_BYTES 52u

struct pst_log_ana {
	uint64_t changes; /* from 1 */
	uint32_t group, nsid;
	uint8_t state;    /* enum pst_ana_state; 0: its namespace is detached */
	bool groups_only; /* RGO: without namespace ids */
};

void pst_log_ana(const struct pst_log_ana *a, const struct pst_log_window *w);

#define PST_DISCOVERY_ENTRY_BYTES 1024u

enum pst_discovery_kind {
	PST_DISCOVERY_REFERRAL = 1,  /* another discovery service */
	PST_DISCOVERY_SUBSYSTEM = 2, /* with namespaces */
	PST_DISCOVERY_CURRENT = 3,   /* this discovery service itself */
};

struct pst_discovery_entry {
	enum pst_discovery_kind kind;
	bool ipv6;
	const char *nqn;
	const char *traddr;
	uint16_t port;
	uint16_t port_id; /* 0: of a referral */
	uint16_t admin_queue_entries;
	bool tls; /* TLS 1.3 is needed; else there must be none */
};

void pst_log_discovery_entry(const struct pst_discovery_entry *e, uint8_t ret[PST_DISCOVERY_ENTRY_BYTES]);
void pst_log_discovery_header(uint64_t generation, uint64_t entry_count, uint8_t ret[PST_DISCOVERY_ENTRY_BYTES]);

/* Copies the part of @part (which begins at @part_offset_bytes of the page) that the window shows. */
void pst_log_window_put(const struct pst_log_window *w, uint64_t part_offset_bytes, const void *part,
			size_t part_bytes);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The ring of events: what pools and the catalog say for operators, numbered from 1 on and kept in memory, the newest
 * PST_CATALOG_EVENTS_MAX. Whoever reads names the last number that is known already. Numbers begin anew with the
 * daemon: who asks for what comes after a number that was not given yet gets all, and sees by the numbers what
 * happened.
 */
#include "control/catalog-internal.h"

#include "base/units.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct cat_event *event_at(struct pst_catalog *c, uint64_t number)
{
	return &c->events[number % PST_CATALOG_EVENTS_MAX];
}

/* ---- Names for the uuids that pools speak of ---- */

#define UUID_CHARS 36u

const char *cat_name_of(struct pst_catalog *c, const uint8_t uuid[16], char buf[CAT_SNAPSHOT_NAME_MAX + 1])
{
	CAT_NAMES_EACH(l, &c->volumes) {
		const struct cat_volume *v = pst_container_of(l, struct cat_volume, named);

		if (memcmp(v->uuid, uuid, 16) == 0)
			return v->name;
		CAT_NAMES_EACH(k, &v->snapshots) {
			const struct cat_snapshot *s = pst_container_of(k, struct cat_snapshot, named);

			if (memcmp(s->uuid, uuid, 16) != 0)
				continue;
			snprintf(buf, CAT_SNAPSHOT_NAME_MAX + 1, "%s@%s", v->name, s->name);
			return buf;
		}
	}
	return NULL;
}

/* The name for the uuid that @text begins with; NULL: it begins with none, or with nobody's. */
static const char *name_at(struct pst_catalog *c, const char *text, char buf[CAT_SNAPSHOT_NAME_MAX + 1])
{
	char copy[UUID_CHARS + 1];
	uint8_t uuid[16];

	if (strnlen(text, UUID_CHARS) < UUID_CHARS)
		return NULL;
	memcpy(copy, text, UUID_CHARS);
	copy[UUID_CHARS] = '\0';
	return pst_uuid_parse(copy, uuid) == PST_OK ? cat_name_of(c, uuid, buf) : NULL;
}

/* Copies @text, with " (NAME)" behind each uuid that has one: "volume=6f1c… (train@v1) lba=7". */
static void with_names(struct pst_catalog *c, const char *text, char *to, size_t room)
{
	char buf[CAT_SNAPSHOT_NAME_MAX + 1];
	size_t used = 0;

	while (*text != '\0' && used + 1 < room) {
		const char *name = name_at(c, text, buf);
		size_t take = name != NULL ? UUID_CHARS : 1;
		int n = snprintf(to + used, room - used, "%.*s%s%s%s", (int)take, text, name != NULL ? " (" : "",
				 name != NULL ? name : "", name != NULL ? ")" : "");

		used = PST_MIN(used + (size_t)n, room - 1);
		text += take;
	}
	to[used] = '\0';
}

/* ---- The ring ---- */

void pst_catalog_event(struct pst_catalog *c, const char *pool, enum pst_log_level level, const char *text)
{
	struct cat_event *e = event_at(c, ++c->event_count);

	e->wall_ns = pst_env_wall_ns(c->env);
	e->level = level;
	snprintf(e->pool, sizeof(e->pool), "%s", pool);
	with_names(c, text, e->text, sizeof(e->text));
	c->events_by_level[level]++;
}

void cat_event(struct pst_catalog *c, unsigned pool, enum pst_log_level level, const char *fmt, ...)
{
	char text[CAT_EVENT_TEXT_MAX + 1];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	pst_env_log(c->env, level, "%s", text);
	pst_catalog_event(c, c->pools[pool].name, level, text);
}

json_t *cat_events_json(struct pst_catalog *c, uint64_t since, const char *pool)
{
	static const char *const levels[] = { "error", "warn", "info", "debug" };
	json_t *list = json_array();
	uint64_t oldest = c->event_count > PST_CATALOG_EVENTS_MAX ? c->event_count - PST_CATALOG_EVENTS_MAX : 0;
	char time[32];

	if (since > c->event_count)
		since = 0; /* of an earlier daemon */
	for (uint64_t n = PST_MAX(since, oldest) + 1; n <= c->event_count; n++) {
		const struct cat_event *e = event_at(c, n);

		if (pool != NULL && strcmp(pool, e->pool) != 0)
			continue;
		json_array_append_new(list, json_pack("{s:I s:s s:s s:s s:s}", "number", (json_int_t)n, "time",
						      pst_format_time(e->wall_ns, time), "level", levels[e->level],
						      "pool", e->pool, "text", e->text));
	}
	return list;
}

void pst_catalog_event_counts(struct pst_catalog *c, uint64_t ret_counts[4])
{
	memcpy(ret_counts, c->events_by_level, sizeof(c->events_by_level));
}

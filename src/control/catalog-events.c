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

void pst_catalog_event(struct pst_catalog *c, const char *pool, enum pst_log_level level, const char *text)
{
	struct cat_event *e = event_at(c, ++c->event_count);

	e->wall_ns = pst_env_wall_ns(c->env);
	e->level = level;
	snprintf(e->pool, sizeof(e->pool), "%s", pool);
	snprintf(e->text, sizeof(e->text), "%s", text);
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

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Progress on stderr. Events are lines that stay. On a terminal the running steps stand below them, redrawn with a
 * spinner; elsewhere each running step says a line at least every 10 s. Stalls (a volume without its daemon) are said
 * on both.
 */
#include "pipeline/runner.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

const char *status_name(enum step_status status)
{
	static const char *const names[] = { "skipped", "succeeded", "cached", "failed", "skipped" };

	return names[status];
}

static void erase(struct runner *r)
{
	for (; r->tty_lines > 0; r->tty_lines--)
		fputs("\033[A\033[2K", stderr);
}

void progress_line(struct runner *r, const char *fmt, ...)
{
	va_list ap;

	erase(r);
	fprintf(stderr, "[%7.1f] ", r->started > 0 ? run_now() - r->started : 0.0);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
	r->last_heartbeat = run_now();
}

/* Is one of the step's volumes without its daemon? */
static const struct run_volume *stalled(struct runner *r, struct run_step *s)
{
	for (size_t i = 0; i < s->spec->uses_count; i++) {
		struct pst_attach_figures g;

		if (s->uses[i].attach.pid <= 0 || !s->uses[i].ready)
			continue;
		pst_attach_live(&s->uses[i].attach, &g);
		if (!g.stats.connected && g.stats.requests[PST_REQUEST_READ] > 0)
			return &r->volumes[s->uses[i].volume];
	}
	return NULL;
}

static void describe(struct run_step *s, char *text, size_t size)
{
	static const char *const states[] = { "waiting",           "attaching volumes",
					      "running",           "reading its outputs",
					      "detaching volumes", "done" };
	uint64_t read = 0, written = 0;
	size_t used;

	for (size_t i = 0; i < s->spec->uses_count; i++) {
		struct pst_attach_figures g = { 0 };

		if (s->uses[i].attach.pid > 0)
			pst_attach_live(&s->uses[i].attach, &g);
		read += g.stats.bytes_read;
		written += g.stats.bytes_written;
	}
	used =
	    (size_t)snprintf(text, size, "%s: %s, %.0f s", s->spec->name,
			     s->next_try > 0 ? "waits for its next attempt" : states[s->state], run_now() - s->started);
	if (s->train_step > 0 && used < size)
		used += (size_t)snprintf(text + used, size - used, ", step %u", s->train_step);
	if (used < size)
		snprintf(text + used, size - used, ", read %.1f MB, wrote %.1f MB", (double)read / 1e6,
			 (double)written / 1e6);
}

static void check_stall(struct runner *r, struct run_step *s)
{
	const struct run_volume *v = stalled(r, s);
	double now = run_now();

	if (v == NULL && s->stalled_since > 0) {
		progress_line(r, "%s: its volumes are back after %.1f s", s->spec->name, now - s->stalled_since);
		s->stalled_since = 0;
	} else if (v != NULL && s->stalled_since == 0) {
		s->stalled_since = now;
		progress_line(r, "%s: stalls: the daemon of volume '%s' does not answer; it goes on when it is back",
			      s->spec->name, v->name);
	}
}

static bool active(const struct run_step *s)
{
	return s->state != STEP_WAITING && s->state != STEP_DONE;
}

static void redraw(struct runner *r)
{
	static const char spinner[] = "|/-\\";
	char mark = spinner[(unsigned)(run_now() * 8) % 4], text[200];

	erase(r);
	for (size_t i = 0; i < r->pipeline->step_count; i++)
		if (active(&r->steps[i])) {
			describe(&r->steps[i], text, sizeof(text));
			fprintf(stderr, "%c %.76s\n", mark, text);
			r->tty_lines++;
		}
	fflush(stderr);
}

void progress_tick(struct runner *r)
{
	double now = run_now();
	char text[200];

	for (size_t i = 0; i < r->pipeline->step_count; i++) {
		struct run_step *s = &r->steps[i];

		if (!active(s))
			continue;
		check_stall(r, s);
		if (!r->tty && now - s->last_said >= 8) {
			describe(s, text, sizeof(text));
			progress_line(r, "%s%s", text, s->stalled_since > 0 ? " (stalled)" : "");
			s->last_said = now;
		}
	}
	if (r->tty && now - r->last_heartbeat >= 0.12) {
		redraw(r);
		r->last_heartbeat = now;
	}
}

void progress_end(struct runner *r)
{
	erase(r);
}

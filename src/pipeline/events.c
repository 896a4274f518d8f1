/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A step may append JSON lines to its events file. They are read as they come: for the record, for progress, and for
 * the rehearsal of a failure. Lines that are no JSON objects are kept out, silently: an unmodified script may write
 * what it likes. Only whole lines are read; a line of over 64 KiB ends the reading of that file.
 */
#include "pipeline/runner.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define EVENTS_MAX 200000u /* of one run, in memory */

static void event(struct runner *r, struct run_step *s, const char *line, size_t len)
{
	json_t *e = json_loadb(line, len, 0, NULL);
	const char *kind = json_string_value(json_object_get(e, "event"));

	if (!json_is_object(e) || kind == NULL) {
		json_decref(e);
		return;
	}
	json_object_set_new(e, "step", json_string(s->spec->name));
	if (strcmp(kind, "train_step") == 0) {
		s->train_step = (unsigned)json_integer_value(json_object_get(e, "n"));
		if (r->options->kill_step != NULL && !s->rehearsed && s->pid > 0 &&
		    strcmp(r->options->kill_step, s->spec->name) == 0 && s->train_step >= r->options->kill_at) {
			s->rehearsed = s->killed_for_rehearsal = true;
			progress_line(r, "%s: killed with SIGKILL at step %u, as asked for (--kill)", s->spec->name,
				      s->train_step);
			kill(-s->pid, SIGKILL);
		}
	}
	if (json_array_size(r->events) < EVENTS_MAX)
		json_array_append_new(r->events, e);
	else
		json_decref(e);
}

void events_read(struct runner *r, struct run_step *s)
{
	static char buf[65536];
	int fd = s->events_path != NULL ? open(s->events_path, O_RDONLY | O_CLOEXEC) : -1;
	ssize_t n;

	if (fd < 0)
		return;
	while ((n = pread(fd, buf, sizeof(buf), s->events_read)) > 0) {
		char *line = buf, *end;

		while ((end = memchr(line, '\n', (size_t)(buf + n - line))) != NULL) {
			event(r, s, line, (size_t)(end - line));
			line = end + 1;
		}
		s->events_read += line - buf;
		if (line == buf)
			break;
	}
	close(fd);
}

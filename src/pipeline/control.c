/* SPDX-License-Identifier: Apache-2.0 */
/*
 * PENSTOCK_CONTROL: a unix socket of each running step. A line {"op":"persist","path":"/abs/file"} goes to the keeper
 * of the volume that holds the path; its answer comes back as {"ok":true} or {"ok":false,"error":".."}. Each client
 * has one request outstanding at a time; its index is the request's id. The clients' sockets are nobody else's.
 */
#include "pipeline/runner.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

bool control_open(struct runner *r, struct run_step *s)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };

	free(s->control_path);
	if (asprintf(&s->control_path, "%s/step-%s", r->sockets, s->spec->name) < 0)
		s->control_path = NULL;
	if (s->control_path == NULL || strlen(s->control_path) >= sizeof(addr.sun_path))
		return false;
	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", s->control_path);
	(void)unlink(s->control_path);
	s->control_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	for (size_t i = 0; i < PST_CONTROL_CLIENTS_MAX; i++)
		s->clients[i].fd = -1;
	return s->control_fd >= 0 && bind(s->control_fd, (struct sockaddr *)&addr, sizeof(addr)) == 0 &&
	       listen(s->control_fd, 16) == 0;
}

static void drop(struct control_client *c)
{
	if (c->fd >= 0)
		close(c->fd);
	c->fd = -1;
	c->used = 0;
}

void control_close(struct run_step *s)
{
	if (s->control_fd < 0)
		return;
	for (size_t i = 0; i < PST_CONTROL_CLIENTS_MAX; i++)
		drop(&s->clients[i]);
	close(s->control_fd);
	(void)unlink(s->control_path);
	s->control_fd = -1;
}

void control_accept(struct run_step *s)
{
	int fd = accept4(s->control_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	for (size_t i = 0; i < PST_CONTROL_CLIENTS_MAX && fd >= 0; i++)
		if (s->clients[i].fd < 0) {
			s->clients[i].fd = fd;
			s->clients[i].used = 0;
			return;
		}
	if (fd >= 0)
		close(fd);
}

static void say(struct control_client *c, bool ok, const char *error)
{
	json_t *m = ok ? json_pack("{s:b}", "ok", 1) : json_pack("{s:b, s:s}", "ok", 0, "error", error);
	char *text = m != NULL ? json_dumps(m, JSON_COMPACT) : NULL;

	json_decref(m);
	if (text != NULL && c->fd >= 0) {
		(void)!send(c->fd, text, strlen(text), MSG_NOSIGNAL);
		(void)!send(c->fd, "\n", 1, MSG_NOSIGNAL);
	}
	free(text);
}

static void request(struct run_step *s, size_t client, const char *line, size_t len)
{
	json_t *m = json_loadb(line, len, 0, NULL);
	const char *op = json_string_value(json_object_get(m, "op"));
	const char *path = json_string_value(json_object_get(m, "path"));
	struct control_client *c = &s->clients[client];

	if (op == NULL || strcmp(op, "persist") != 0 || path == NULL) {
		say(c, false, "expected {\"op\":\"persist\",\"path\":\"/absolute/path\"}");
		json_decref(m);
		return;
	}
	struct run_use *found = NULL;
	for (size_t i = 0; i < s->spec->uses_count; i++) {
		size_t n = strlen(s->uses[i].dir);

		if (strncmp(path, s->uses[i].dir, n) == 0 && (path[n] == '/' || path[n] == '\0'))
			found = &s->uses[i];
	}
	if (found == NULL || found->attach.pid == 0)
		say(c, false, "that path is on none of this step's volumes");
	else if (pst_attach_send(&found->attach, json_pack("{s:s, s:I, s:s}", "op", "persist", "id", (json_int_t)client,
							   "path", path)) != PST_OK)
		say(c, false, "the volume is gone");
	json_decref(m);
}

void control_input(struct runner *r, struct run_step *s, size_t client)
{
	struct control_client *c = &s->clients[client];
	ssize_t n = recv(c->fd, c->line + c->used, sizeof(c->line) - c->used, 0);
	char *end;

	(void)r;
	if (n <= 0) {
		if (n == 0 || errno != EAGAIN)
			drop(c);
		return;
	}
	c->used += (size_t)n;
	while (c->fd >= 0 && (end = memchr(c->line, '\n', c->used)) != NULL) {
		size_t len = (size_t)(end - c->line) + 1;

		request(s, client, c->line, len - 1);
		memmove(c->line, c->line + len, c->used - len);
		c->used -= len;
	}
	if (c->used == sizeof(c->line))
		drop(c); /* no line is that long */
}

void control_answer(struct run_step *s, json_t *persisted)
{
	json_int_t id = json_integer_value(json_object_get(persisted, "id"));

	if (id >= 0 && id < (json_int_t)PST_CONTROL_CLIENTS_MAX)
		say(&s->clients[id], json_is_true(json_object_get(persisted, "ok")),
		    json_string_value(json_object_get(persisted, "message")));
}

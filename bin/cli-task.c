/* SPDX-License-Identifier: Apache-2.0 */
#include "cli-task.h"

#include "base/units.h"
#include "cli-table.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define POLL_NS 300000000
#define LINE_NS 5000000000u
#define NS_PER_S 1000000000u

/* ---- Progress ---- */

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * NS_PER_S + (uint64_t)t.tv_nsec;
}

void cli_progress_begin(struct cli_progress *p)
{
	*p = (struct cli_progress){ .on_terminal = isatty(STDERR_FILENO) != 0, .last_ns = now_ns() };
}

void cli_progress_line(struct cli_progress *p, const char *fmt, ...)
{
	va_list ap;

	if (!p->on_terminal && now_ns() - p->last_ns < LINE_NS)
		return;
	p->last_ns = now_ns();
	p->shown = true;
	if (p->on_terminal)
		fputs("\r\033[K", stderr);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	if (!p->on_terminal)
		fputc('\n', stderr);
	fflush(stderr);
}

void cli_progress_end(struct cli_progress *p)
{
	if (p->on_terminal && p->shown)
		fputs("\r\033[K", stderr);
}

/* ---- Tasks ---- */

static bool is_task(json_t *t, const char *task, const char *volume)
{
	const char *of = json_string_value(json_object_get(t, "volume"));
	bool pool = json_object_get(t, "uuid") == NULL;

	if (strcmp(json_string_value(json_object_get(t, "task")), task) != 0)
		return false;
	return volume == NULL ? pool : of != NULL && strcmp(of, volume) == 0;
}

static uint64_t u64_of(json_t *object, const char *member)
{
	return (uint64_t)json_integer_value(json_object_get(object, member));
}

static void show_progress(struct cli_progress *p, const char *pool, json_t *t)
{
	uint64_t done = u64_of(t, "done_bytes"), total = u64_of(t, "total_bytes"), errors = u64_of(t, "errors");
	const char *volume = json_string_value(json_object_get(t, "volume"));
	char done_text[16], total_text[16];

	pst_format_size(done, done_text);
	pst_format_size(total, total_text);
	cli_progress_line(p, "%s of %s %s: %s of %s (%u %%)%s", json_string_value(json_object_get(t, "task")),
			  volume != NULL ? "volume" : "pool", volume != NULL ? volume : pool, done_text, total_text,
			  total > 0 ? (unsigned)((double)done * 100 / (double)total) : 0,
			  errors > 0 ? ", bad blocks found" : "");
}

static json_t *list_tasks(const struct cli_common *common, const char *pool, int *ret_exit)
{
	const struct cli_common plain = { .api = common->api };
	char *path = cli_path("pools", pool, "tasks");
	json_t *list = NULL;

	*ret_exit = CLI_FAILED;
	if (path != NULL && !cli_call(&plain, "GET", path, NULL, &list, ret_exit))
		list = NULL;
	free(path);
	return list;
}

static void wait_a_little(void)
{
	nanosleep(&(struct timespec){ .tv_nsec = POLL_NS }, NULL);
}

/* The task once it has ended, a new reference; NULL after reporting. */
static json_t *wait_for(const struct cli_common *common, const struct cli_task *task, int *ret_exit)
{
	struct cli_progress progress;
	json_t *list, *t, *found;
	size_t i;

	cli_progress_begin(&progress);
	for (;; wait_a_little()) {
		list = list_tasks(common, task->pool, ret_exit);
		found = NULL;
		json_array_foreach(list, i, t) if (is_task(t, task->task, task->volume)) found = t;
		if (found == NULL || !json_is_true(json_object_get(found, "running")))
			break;
		show_progress(&progress, task->pool, found);
		json_decref(list);
	}
	cli_progress_end(&progress);
	json_incref(found);
	if (list != NULL && found == NULL) {
		*ret_exit = CLI_NOT_FOUND;
		cli_error("penstock pool tasks", "task '%s' is not listed any more: its volume is gone, or it ended",
			  task->task);
	}
	json_decref(list);
	return found;
}

int cli_task_wait_all(const struct cli_common *common, const char *pool, const char *task)
{
	struct cli_progress progress;
	json_t *list, *t, *running;
	size_t i;
	int rc;

	cli_progress_begin(&progress);
	for (;; wait_a_little()) {
		list = list_tasks(common, pool, &rc);
		running = NULL;
		json_array_foreach(list, i, t)
		{
			if (strcmp(json_string_value(json_object_get(t, "task")), task) == 0 &&
			    json_is_true(json_object_get(t, "running")))
				running = t;
		}
		if (running != NULL)
			show_progress(&progress, pool, running);
		json_decref(list);
		if (running == NULL)
			break;
	}
	cli_progress_end(&progress);
	return rc;
}

char *cli_pool_of(const struct cli_common *common, const char *collection, const char *name, int *ret_exit)
{
	const struct cli_common plain = { .api = common->api };
	char *path = cli_path(collection, name, NULL), *pool = NULL;
	json_t *object;

	*ret_exit = CLI_FAILED;
	if (path != NULL && cli_call(&plain, "GET", path, NULL, &object, ret_exit)) {
		pool = strdup(json_string_value(json_object_get(object, "pool")));
		json_decref(object);
	}
	free(path);
	return pool;
}

static int stop(struct cli_common *common, const struct cli_task *task)
{
	char more[64];
	char *path;
	int rc = CLI_FAILED;

	snprintf(more, sizeof(more), "tasks/%s", task->task);
	path = cli_path("pools", task->pool, more);
	if (task->volume != NULL)
		common->query = json_pack("{s:s}", "volume", task->volume);
	if (path != NULL && cli_call(common, "DELETE", path, NULL, NULL, &rc)) {
		if (common->json)
			printf("{\"stopped\": \"%s\"}\n", task->task);
		else
			printf("stopped %s; `--stop` left out, it goes on\n", task->task);
	}
	free(path);
	return rc;
}

static int start(struct cli_common *common, const struct cli_task *task)
{
	char *path = cli_path("pools", task->pool, "tasks");
	json_t *t = NULL;
	int rc = CLI_FAILED;

	if (common->body == NULL)
		common->body = json_object();
	json_object_set_new(common->body, "task", json_string(task->task));
	if (task->volume != NULL)
		json_object_set_new(common->body, "volume", json_string(task->volume));
	if (path != NULL && cli_call(common, "POST", path, common->body, &t, &rc) && task->wait) {
		json_decref(t);
		t = wait_for(common, task, &rc);
	}
	free(path);
	if (t != NULL)
		rc = common->json ? cli_print_json(t) : cli_print_card(t);
	json_decref(t);
	return rc;
}

int cli_task_run(struct cli_common *common, const struct cli_task *task)
{
	struct cli_task full = *task;
	char *pool = NULL;
	int rc = CLI_OK;

	if (task->pool == NULL)
		full.pool = pool = cli_pool_of(common, "volumes", task->volume, &rc);
	if (full.pool != NULL)
		rc = task->stop ? stop(common, &full) : start(common, &full);
	free(pool);
	cli_common_done(common);
	return rc;
}

int cli_delete(const struct cli_object *o, const struct cli_object_verb *v, const bool *wait, int argc, char **argv)
{
	struct cli_common common = { 0 };
	char *path = NULL, *pool = NULL;
	int rc;

	if (!cli_object_parse(o, v, "NAME", argc, argv, &common, &rc))
		return rc;
	if (*wait)
		pool = cli_pool_of(&common, o->collection, common.names[0], &rc);
	if (rc == CLI_OK)
		path = cli_path(o->collection, common.names[0], NULL);
	if (path != NULL && cli_call(&common, "DELETE", path, NULL, NULL, &rc) && pool != NULL)
		rc = cli_task_wait_all(&common, pool, "delete");
	if (rc == CLI_OK && common.json)
		printf("{\"deleted\": \"%s\"}\n", common.names[0]);
	else if (rc == CLI_OK)
		printf("deleted %s %s\n", o->word, common.names[0]);
	free(path);
	free(pool);
	cli_common_done(&common);
	return rc;
}

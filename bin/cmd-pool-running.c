/* SPDX-License-Identifier: Apache-2.0 */
/* `penstock pool check` of a pool that a daemon has open: begun there, and looked at until it has ended. */
#include "base/units.h"
#include "cli-task.h"
#include "cmd-pool.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define POLL_NS 200000000

static uint64_t u64_of(json_t *object, const char *member)
{
	return (uint64_t)json_integer_value(json_object_get(object, member));
}

/* The check once it has ended; NULL after reporting. */
static json_t *wait_for_check(const struct cli_common *common, const char *path, json_t *check, int *ret_exit)
{
	const struct cli_common plain = { .api = common->api };
	struct cli_progress progress;

	cli_progress_begin(&progress);
	while (check != NULL && json_is_true(json_object_get(check, "running"))) {
		uint64_t done = u64_of(check, "done_blocks"), total = u64_of(check, "total_blocks");

		cli_progress_line(&progress, "checking: %u %% of %llu blocks in use, %llu findings",
				  total > 0 ? (unsigned)((double)done * 100 / (double)total) : 0,
				  (unsigned long long)total, (unsigned long long)u64_of(check, "found"));
		json_decref(check);
		check = NULL;
		nanosleep(&(struct timespec){ .tv_nsec = POLL_NS }, NULL);
		if (!cli_call(&plain, "GET", path, NULL, &check, ret_exit))
			check = NULL;
	}
	cli_progress_end(&progress);
	return check;
}

static void print_check(json_t *check)
{
	char used[16], lost[16];
	json_t *item;
	size_t i;

	json_array_foreach(json_object_get(check, "findings"), i, item)
	    puts(json_string_value(json_object_get(item, "text")));
	json_array_foreach(json_object_get(check, "notes"), i, item) printf("note: %s\n", json_string_value(item));
	if (u64_of(check, "left_out") > 0)
		printf("and %llu lines more\n", (unsigned long long)u64_of(check, "left_out"));
	pst_format_size(u64_of(check, "used_bytes"), used);
	pst_format_size(u64_of(check, "lost_bytes"), lost);
	printf("%s: %s: %llu found; %s in use, %s lost; %llu nodes and %llu data blocks read\n",
	       json_string_value(json_object_get(check, "pool")), json_string_value(json_object_get(check, "status")),
	       (unsigned long long)u64_of(check, "found"), used, lost, (unsigned long long)u64_of(check, "nodes_read"),
	       (unsigned long long)u64_of(check, "data_blocks_read"));
}

/* What the end of a check means for a script. */
static int exit_of(json_t *check)
{
	const char *status = json_string_value(json_object_get(check, "status"));
	const char *pool = json_string_value(json_object_get(check, "pool"));

	if (strcmp(status, "clean") == 0)
		return CLI_OK;
	if (strcmp(status, "damaged") == 0) {
		cli_error("stop the daemon, copy the pool if you can, then: penstock pool check --repair PATH",
			  "pool %s is damaged", pool);
		return CLI_DAMAGED;
	}
	cli_error(NULL, "the check of pool %s did not come to its end: %s", pool,
		  json_string_value(json_object_get(check, "error")));
	return CLI_FAILED;
}

int cmd_pool_check_running(const struct cli_common *common, const char *name, bool data)
{
	json_t *body = json_pack("{s:b}", "data", data), *check = NULL;
	char *path = cli_path("pools", name, "check");
	int rc = CLI_FAILED;

	if (path != NULL && cli_call(common, "POST", path, body, &check, &rc))
		check = wait_for_check(common, path, check, &rc);
	free(path);
	json_decref(body);
	if (check == NULL)
		return rc;
	if (common->json)
		cli_print_json(check);
	else
		print_check(check);
	rc = exit_of(check);
	json_decref(check);
	return rc;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The target alone, on a memory pool: ram-target ADDR:PORT SIZE [SHARDS] [io_uring|posix]. Prints one JSON line with
 * the NQN when ready; ends on SIGTERM. For trying hosts and measuring the target without the daemon around it.
 */
#include "base/units.h"
#include "target/target.h"
#include "volume/pool.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NQN "nqn.2014-08.org.nvmexpress:uuid:5ec0de00-0000-4000-8000-00000000da7a"
#define SHARDS_MAX 8u

static struct pst_env *envs[SHARDS_MAX];
static unsigned shard_count = 1;
static struct pst_target *target;
static struct pst_subsystem *subsystem;
static struct pst_pool *pool;
static struct pst_volume *volume;
static struct pst_post quit_post;

static void fail(const char *what, pst_err err)
{
	fprintf(stderr, "ram-target: %s: %s\n", what, pst_err_text(err));
	exit(1);
}

static void opened(struct pst_pool_op *op)
{
	if (op->err != PST_OK)
		fail("volume", op->err);
	pst_env_stop(envs[0]);
}

static void pool_closed(struct pst_pool_op *op)
{
	(void)op;
	for (unsigned i = 0; i < shard_count; i++)
		pst_env_stop(envs[i]);
}

static void volume_closed(struct pst_volume_close_op *op)
{
	static struct pst_pool_op close = { .kind = PST_POOL_CLOSE, .done = pool_closed };

	(void)op;
	pst_pool_submit(pool, &close);
}

static void stopped(struct pst_target_stop_op *op)
{
	static struct pst_volume_close_op close = { .done = volume_closed };

	(void)op;
	pst_volume_close(volume, &close);
}

static void removed(struct pst_subsystem_remove_op *op)
{
	static struct pst_target_stop_op stop = { .done = stopped };

	(void)op;
	pst_target_stop(target, &stop);
}

static void quit(struct pst_post *post)
{
	static struct pst_subsystem_remove_op remove = { .done = removed };

	(void)post;
	pst_subsystem_remove(subsystem, &remove);
}

static void *shard_main(void *env)
{
	pst_env_run(env);
	return NULL;
}

static void *signal_main(void *set)
{
	int number;

	sigwait(set, &number);
	quit_post.fn = quit;
	pst_env_post(envs[0], &quit_post);
	return NULL;
}

int main(int argc, char **argv)
{
	struct pst_env_config config = { .log_level = PST_LOG_INFO, .spin_us = 50 };
	struct pst_addr addr, bound;
	uint64_t bytes;
	pthread_t signals, threads[SHARDS_MAX];
	static sigset_t set;
	pst_err err;

	if (argc < 3 || pst_addr_parse(argv[1], 4420, &addr) != PST_OK || pst_parse_size(argv[2], &bytes) != PST_OK) {
		fprintf(stderr, "usage: ram-target ADDR:PORT SIZE [SHARDS] [io_uring|posix]\n");
		return 2;
	}
	if (argc > 3)
		config.backend = strcmp(argv[3], "posix") == 0 ? PST_ENV_POSIX : PST_ENV_URING;
	if (argc > 4)
		shard_count = (unsigned)strtoul(argv[4], NULL, 10) % (SHARDS_MAX + 1);
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	for (unsigned i = 0; i < shard_count; i++)
		if ((err = pst_env_new(&config, &envs[i])) != PST_OK)
			fail("environment", err);
	if ((err = pst_ram_pool_new(envs[0], bytes, &pool)) != PST_OK)
		fail("pool", err);
	struct pst_pool_op create = { .kind = PST_POOL_VOLUME_CREATE, .block_count = bytes / 4096, .done = opened };
	memset(create.uuid, 0x5e, sizeof(create.uuid));
	struct pst_pool_op open = create;
	open.kind = PST_POOL_VOLUME_OPEN;
	pst_pool_submit(pool, &create);
	pst_env_run(envs[0]);
	pst_pool_submit(pool, &open);
	pst_env_run(envs[0]);
	if ((err = pst_target_new(envs, shard_count, &(struct pst_target_config){ 0 }, &target)) != PST_OK)
		fail("target", err);
	volume = open.volume;
	struct pst_subsystem_config config_ns = {
		.nqn = NQN, .serial = "RAM1", .model = "Penstock ram", .nsid = 1, .volume = open.volume
	};
	memcpy(config_ns.uuid, open.uuid, sizeof(config_ns.uuid));
	if ((err = pst_subsystem_add(target, &config_ns, &subsystem)) != PST_OK)
		fail("subsystem", err);
	if ((err = pst_target_listen(target, &(struct pst_target_port){ .id = 1, .addr = addr }, &bound)) != PST_OK)
		fail(argv[1], err);
	pthread_create(&signals, NULL, signal_main, &set);
	for (unsigned i = 1; i < shard_count; i++)
		pthread_create(&threads[i], NULL, shard_main, envs[i]);
	printf("{\"nqn\":\"%s\",\"port\":%u,\"io\":\"%s\"}\n", NQN, bound.port, pst_env_backend_name(envs[0]));
	fflush(stdout);
	pst_env_run(envs[0]);
	pthread_join(signals, NULL);
	for (unsigned i = 1; i < shard_count; i++)
		pthread_join(threads[i], NULL);
	for (unsigned i = 0; i < shard_count; i++)
		pst_env_free(envs[i]);
	return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The public interface over real sockets, against the real target in a thread of its own: with the library's thread
 * and polled by the caller, on both back ends.
 */
#include "env/env.h"
#include "penstock/penstock.h"
#include "target/target.h"
#include "volume/pool.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#define NQN "nqn.2014-08.org.nvmexpress:uuid:11111111-2222-3333-4444-555555555555"
#define BLOCK 4096u
#define BLOCKS 4096u

struct server {
	struct pst_env *env;
	struct pst_target *target;
	struct pst_subsystem *subsystem;
	struct pst_pool *pool;
	struct pst_pool_op op;
	struct pst_volume *volume;
	struct pst_addr addr;
	struct pst_subsystem_remove_op remove;
	struct pst_target_stop_op stop;
	struct pst_volume_close_op close;
	pthread_t thread;
	bool done;
};

static struct server server;

static void on_pool(struct pst_pool_op *op)
{
	pst_container_of(op, struct server, op)->done = true;
}

static void on_remove(struct pst_subsystem_remove_op *op)
{
	pst_container_of(op, struct server, remove)->done = true;
}

static void on_stop(struct pst_target_stop_op *op)
{
	pst_container_of(op, struct server, stop)->done = true;
}

static void on_close(struct pst_volume_close_op *op)
{
	pst_container_of(op, struct server, close)->done = true;
}

static void server_wait(struct server *s)
{
	while (!s->done)
		pst_env_poll(s->env, 1000000000);
	s->done = false;
}

static void server_pool(struct server *s, enum pst_pool_op_kind kind)
{
	s->op = (struct pst_pool_op){ .kind = kind, .uuid = { 5 }, .block_count = BLOCKS, .done = on_pool };
	pst_pool_submit(s->pool, &s->op);
	server_wait(s);
	assert_int_equal(s->op.err, PST_OK);
}

static void *server_run(void *arg)
{
	pst_env_run(((struct server *)arg)->env);
	return NULL;
}

static int server_start(void **state)
{
	struct server *s = &server;
	struct pst_env_config env = { .backend = PST_ENV_POSIX, .log_level = PST_LOG_ERROR };
	struct pst_target_config config = { 0 };
	struct pst_addr addr = { .host = "127.0.0.1" };
	struct pst_subsystem_config sub = { .nqn = NQN, .serial = "1", .model = "Penstock", .nsid = 1, .uuid = { 5 } };

	(void)state;
	assert_int_equal(pst_env_new(&env, &s->env), PST_OK);
	assert_int_equal(pst_ram_pool_new(s->env, BLOCKS * BLOCK, &s->pool), PST_OK);
	server_pool(s, PST_POOL_VOLUME_CREATE);
	server_pool(s, PST_POOL_VOLUME_OPEN);
	sub.volume = s->volume = s->op.volume;
	assert_int_equal(pst_target_new(&s->env, 1, &config, &s->target), PST_OK);
	assert_int_equal(pst_target_listen(s->target, &(struct pst_target_port){ .id = 1, .addr = addr }, &s->addr),
			 PST_OK);
	assert_int_equal(pst_subsystem_add(s->target, &sub, &s->subsystem), PST_OK);
	assert_int_equal(pthread_create(&s->thread, NULL, server_run, s), 0);
	return 0;
}

static int server_stop(void **state)
{
	struct server *s = &server;

	(void)state;
	pst_env_stop(s->env);
	pthread_join(s->thread, NULL);
	s->remove.done = on_remove;
	pst_subsystem_remove(s->subsystem, &s->remove);
	server_wait(s);
	s->stop.done = on_stop;
	pst_target_stop(s->target, &s->stop);
	server_wait(s);
	s->close.done = on_close;
	pst_volume_close(s->volume, &s->close);
	server_wait(s);
	server_pool(s, PST_POOL_CLOSE);
	pst_env_free(s->env);
	return 0;
}

static struct pst_ns_options ns_options(void)
{
	return (struct pst_ns_options){
		.struct_bytes = sizeof(struct pst_ns_options),
		.traddr = "127.0.0.1",
		.trsvcid = server.addr.port,
		.subnqn = NQN,
		.io_queues = 2,
		.data_digest = true,
	};
}

static pst_host *host_open(int backend, bool caller_polls)
{
	struct pst_host_options options = { .struct_bytes = sizeof(options),
					    .backend = backend,
					    .caller_polls = caller_polls };
	pst_host *host = NULL;
	pst_err err = pst_host_open(&options, &host);

	if (err == PST_E_UNSUPPORTED && backend == PST_IO_BACKEND_URING) {
		print_message("SKIPPED: io_uring is refused here\n");
		return NULL;
	}
	assert_int_equal(err, PST_OK);
	return host;
}

/* Where the first address has nobody, another is taken; addresses that are none, or too many, are refused. */
static void other_paths_are_tried(void **state)
{
	pst_host *host = host_open(PST_IO_BACKEND_POSIX, false);
	struct pst_ns_options options = ns_options();
	const char *bad = "somewhere", *many[8] = { 0 };
	char good[72];
	const char *paths[] = { "127.0.0.1:1", good };
	uint8_t block[BLOCK];
	pst_ns *ns;

	(void)state;
	pst_addr_format(&server.addr, good);
	options.trsvcid = 1;
	assert_int_equal(pst_ns_connect(host, &options, &ns), PST_E_REFUSED);
	options.paths = paths;
	options.path_count = 2;
	assert_int_equal(pst_ns_connect(host, &options, &ns), PST_OK);
	assert_int_equal(pst_ns_read(ns, 0, block, sizeof(block)), PST_OK);
	pst_ns_disconnect(ns);
	options.paths = &bad;
	options.path_count = 1;
	assert_int_equal(pst_ns_connect(host, &options, &ns), PST_E_INVAL);
	options.paths = many;
	options.path_count = 8;
	assert_int_equal(pst_ns_connect(host, &options, &ns), PST_E_INVAL);
	pst_host_close(host);
}

/* The blocking calls, from another thread and polled inside, on each back end. */
static void blocking_calls(void **state)
{
	(void)state;
	for (int mode = 0; mode < 4; mode++) {
		pst_host *host = host_open(mode & 1 ? PST_IO_BACKEND_URING : PST_IO_BACKEND_POSIX, mode & 2);
		struct pst_ns_options options = ns_options();
		struct pst_ns_stats stats;
		struct pst_ns_info info;
		pst_ns *ns;
		static uint8_t out[3 << 20], in[3 << 20];

		if (host == NULL)
			continue;
		assert_string_equal(pst_host_backend(host), mode & 1 ? "io_uring" : "posix");
		assert_int_equal(pst_ns_connect(host, &options, &ns), PST_OK);
		pst_ns_info(ns, &info);
		assert_int_equal(info.size_bytes, BLOCK * BLOCKS);
		memset(out, mode + 1, sizeof(out));
		assert_int_equal(pst_ns_write(ns, BLOCK, out, sizeof(out)), PST_OK);
		assert_int_equal(pst_ns_read(ns, BLOCK, in, sizeof(in)), PST_OK);
		assert_memory_equal(in, out, sizeof(in));
		assert_int_equal(pst_ns_flush(ns), PST_OK);
		assert_int_equal(pst_ns_discard(ns, 0, BLOCK * BLOCKS), PST_OK);
		assert_int_equal(pst_ns_read(ns, BLOCK, in, BLOCK), PST_OK);
		assert_int_equal(in[0], 0);
		assert_int_equal(pst_ns_read(ns, 0, in, 0), PST_OK);
		assert_int_equal(pst_ns_read(ns, BLOCK * BLOCKS, in, BLOCK), PST_E_RANGE);
		assert_int_equal(pst_ns_read(ns, 1, in, BLOCK), PST_E_INVAL);
		assert_true(pst_ns_latency_ns(ns, PST_REQUEST_READ, 0.5) > 0);
		pst_ns_latency_reset(ns);
		assert_int_equal(pst_ns_latency_ns(ns, PST_REQUEST_READ, 0.5), 0);
		pst_ns_stats(ns, &stats);
		assert_int_equal(stats.bytes_written, sizeof(out));
		assert_true(stats.socket_bytes_sent > sizeof(out));
		assert_true(stats.socket_bytes_sent < sizeof(out) + sizeof(out) / 50);
		pst_ns_disconnect(ns);
		pst_host_close(host);
	}
}

/* Four threads submit at once through the mailbox; each gets exactly what it asked for. */
struct submitter {
	pthread_t thread;
	pst_ns *ns;
	unsigned index;
};

struct async {
	struct pst_request request;
	struct iovec iov;
	uint8_t buf[BLOCK];
};

static atomic_uint async_done;

static void on_async(struct pst_request *request)
{
	assert_int_equal(request->err, PST_OK);
	atomic_fetch_add((atomic_uint *)request->arg, 1);
}

static void *submitter_run(void *arg)
{
	struct submitter *s = arg;
	struct async *jobs = calloc(256, sizeof(*jobs));
	atomic_uint mine = 0;

	for (int pass = 0; pass < 2; pass++) {
		atomic_store(&mine, 0);
		for (unsigned i = 0; i < 256; i++) {
			if (pass == 0)
				memset(jobs[i].buf, (int)(s->index * 31 + i), BLOCK);
			else
				memset(jobs[i].buf, 0, BLOCK);
			jobs[i].iov = (struct iovec){ jobs[i].buf, BLOCK };
			jobs[i].request = (struct pst_request){
				.kind = pass == 0 ? PST_REQUEST_WRITE : PST_REQUEST_READ,
				.offset_bytes = (uint64_t)(s->index * 256 + i) * BLOCK,
				.len_bytes = BLOCK,
				.iov = &jobs[i].iov,
				.iov_count = 1,
				.done = on_async,
				.arg = &mine,
			};
			pst_ns_submit(s->ns, &jobs[i].request);
		}
		while (atomic_load(&mine) < 256)
			sched_yield();
	}
	for (unsigned i = 0; i < 256; i++)
		if (jobs[i].buf[0] == (uint8_t)(s->index * 31 + i) && jobs[i].buf[BLOCK - 1] == jobs[i].buf[0])
			atomic_fetch_add(&async_done, 1);
	free(jobs);
	return NULL;
}

static void many_threads_submit(void **state)
{
	pst_host *host = host_open(PST_IO_BACKEND_AUTO, false);
	struct pst_ns_options options = ns_options();
	struct submitter submitters[4];
	pst_ns *ns;

	(void)state;
	assert_int_equal(pst_ns_connect(host, &options, &ns), PST_OK);
	for (unsigned i = 0; i < 4; i++) {
		submitters[i] = (struct submitter){ .ns = ns, .index = i };
		assert_int_equal(pthread_create(&submitters[i].thread, NULL, submitter_run, &submitters[i]), 0);
	}
	for (unsigned i = 0; i < 4; i++)
		pthread_join(submitters[i].thread, NULL);
	assert_int_equal(atomic_load(&async_done), 4 * 256);
	pst_ns_disconnect(ns);
	pst_host_close(host);
}

/* Discovery, and what does not work, is told by its error. */
static void discovery_and_errors(void **state)
{
	pst_host *host = host_open(PST_IO_BACKEND_AUTO, false);
	struct pst_ns_options options = ns_options();
	struct pst_discovery_entry entries[4];
	struct pst_host_options bad = { .struct_bytes = sizeof(bad), .backend = 7 };
	size_t count = 0;
	pst_ns *ns = NULL;
	pst_host *none = NULL;

	(void)state;
	assert_int_equal(pst_host_open(&bad, &none), PST_E_INVAL);
	assert_int_equal(pst_discover(host, "127.0.0.1", server.addr.port, entries, 4, &count), PST_OK);
	assert_int_equal(count, 1);
	assert_string_equal(entries[0].subnqn, NQN);
	assert_string_equal(entries[0].traddr, "127.0.0.1");
	assert_int_equal(entries[0].trsvcid, server.addr.port);
	assert_int_equal(pst_discover(host, "127.0.0.1", 1, entries, 4, &count), PST_E_REFUSED);
	options.subnqn = NQN "x";
	assert_int_equal(pst_ns_connect(host, &options, &ns), PST_E_NOTFOUND);
	options.subnqn = NULL;
	assert_int_equal(pst_ns_connect(host, &options, &ns), PST_E_INVAL);
	options = ns_options();
	options.traddr = "no.such.name";
	assert_int_equal(pst_ns_connect(host, &options, &ns), PST_E_INVAL);
	assert_null(ns);
	pst_ns_disconnect(NULL);
	pst_host_close(host);
	pst_host_close(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(other_paths_are_tried),
		cmocka_unit_test(blocking_calls),
		cmocka_unit_test(many_threads_submit),
		cmocka_unit_test(discovery_and_errors),
	};

	return cmocka_run_group_tests(tests, server_start, server_stop);
}

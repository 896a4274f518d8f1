/* SPDX-License-Identifier: Apache-2.0 */
/* A host and a target in the simulator: for tests of the host. */
#ifndef PST_TEST_HOST_RIG_H
#define PST_TEST_HOST_RIG_H

#include "env/sim/sim.h"
#include "host/host.h"
#include "target/target.h"
#include "volume/fault.h"
#include "volume/pool.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#define SECOND 1000000000ull
#define NQN "nqn.2014-08.org.nvmexpress:uuid:11111111-2222-3333-4444-555555555555"
#define BLOCK 4096u
#define BLOCKS 4096u
#define REQUESTS 512u

/* Killed processes leak on purpose (sim.h); the leaks of the host are looked for in test-libpenstock. */
int __lsan_is_turned_off(void);
__attribute__((visibility("default"), used)) int __lsan_is_turned_off(void)
{
	return 1;
}

struct world {
	struct pst_sim *sim;
	struct pst_sim_node *target_node, *host_node;
	struct pst_env *target_env, *host_env;
	struct pst_target *target;
	struct pst_subsystem *subsystem;
	struct pst_pool *pool;
	struct pst_pool_op pool_op;
	struct pst_volume *volume;
	struct pst_target_config target_config;
	bool pool_done;
	const struct pst_fault_rule *fault;  /* of the volume, in the next target; NULL: none */
	const struct pst_target_host *known; /* host of the next target; NULL: none */
	enum pst_target_tls tls;             /* of the next target's listeners */
	uint16_t ports;                      /* of the next target, from 4420 on */

	struct pst_session_config config;
	struct pst_session_open_op open;
	struct pst_session_close_op close;
	struct pst_session *session;
	bool opened, closed;
	unsigned done;
	struct pst_request requests[REQUESTS];
	struct iovec iovs[REQUESTS];
	uint8_t *data;
};

static inline void on_pool(struct pst_pool_op *op)
{
	pst_container_of(op, struct world, pool_op)->pool_done = true;
}

static inline void on_open(struct pst_session_open_op *op)
{
	struct world *w = pst_container_of(op, struct world, open);

	w->opened = true;
	w->session = op->session;
}

static inline void on_close(struct pst_session_close_op *op)
{
	pst_container_of(op, struct world, close)->closed = true;
}

static inline void on_request(struct pst_request *request)
{
	((struct world *)request->arg)->done++;
}

static inline bool is_set(void *flag)
{
	return *(bool *)flag;
}

static inline void wait_for(struct world *w, bool *flag, uint64_t limit_ns)
{
	assert_true(pst_sim_run_until(w->sim, is_set, flag, limit_ns));
}

static inline void pool_run(struct world *w, enum pst_pool_op_kind kind)
{
	w->pool_op = (struct pst_pool_op){ .kind = kind, .uuid = { 1, 2, 3 }, .block_count = BLOCKS, .done = on_pool };
	w->pool_done = false;
	pst_pool_submit(w->pool, &w->pool_op);
	wait_for(w, &w->pool_done, SECOND);
	assert_int_equal(w->pool_op.err, PST_OK);
}

static inline void target_start(struct world *w)
{
	struct pst_subsystem_config config = {
		.nqn = NQN, .serial = "1", .model = "Penstock", .nsid = 1, .uuid = { 1, 2, 3 }
	};
	struct pst_addr bound;

	w->target_env = pst_sim_env_new(w->target_node, 0);
	assert_int_equal(pst_ram_pool_new(w->target_env, BLOCKS * BLOCK * 2, &w->pool), PST_OK);
	pool_run(w, PST_POOL_VOLUME_CREATE);
	pool_run(w, PST_POOL_VOLUME_OPEN);
	w->volume = w->pool_op.volume;
	if (w->fault != NULL) {
		assert_int_equal(pst_fault_new(w->pool_op.volume, REQUESTS, &w->volume), PST_OK);
		assert_int_equal(pst_fault_add(w->volume, w->fault), PST_OK);
	}
	config.volume = w->volume;
	assert_int_equal(pst_target_new(&w->target_env, 1, &w->target_config, &w->target), PST_OK);
	if (w->known != NULL)
		assert_int_equal(pst_target_host_set(w->target, w->known), PST_OK);
	for (uint16_t id = 1; id <= w->ports; id++) {
		struct pst_target_port port = { .id = id, .addr.port = (uint16_t)(4419 + id), .tls = w->tls };

		snprintf(port.addr.host, sizeof(port.addr.host), "%s", pst_sim_node_ip(w->target_node));
		assert_int_equal(pst_target_listen(w->target, &port, &bound), PST_OK);
	}
	assert_int_equal(pst_subsystem_add(w->target, &config, &w->subsystem), PST_OK);
}

static inline struct world *world_new(uint64_t seed)
{
	struct world *w = calloc(1, sizeof(*w));

	w->target_config.buffer_bytes_max = 4 << 20;
	w->ports = 1;
	w->sim = pst_sim_new(seed);
	if (getenv("PST_TEST_TRACE"))
		pst_sim_set_trace(w->sim, stderr);
	w->target_node = pst_sim_node_new(w->sim, "target");
	w->host_node = pst_sim_node_new(w->sim, "host");
	w->host_env = pst_sim_env_new(w->host_node, 0);
	w->data = calloc(BLOCKS, BLOCK);
	w->config = (struct pst_session_config){
		.subnqn = NQN,
		.hostnqn = "nqn.2014-08.org.nvmexpress:uuid:99999999-2222-3333-4444-555555555555",
		.hostid = { 9 },
		.nsid = 1,
		.io_queues = 1,
		.queue_entries = 32,
		.keep_alive_ns = 2 * SECOND,
		.connect_timeout_ns = 5 * SECOND,
		.reconnect_delay_ns = SECOND / 10,
		.addr.port = 4420,
	};
	snprintf(w->config.addr.host, sizeof(w->config.addr.host), "%s", pst_sim_node_ip(w->target_node));
	return w;
}

static inline pst_err session_open(struct world *w)
{
	w->open.done = on_open;
	w->opened = false;
	pst_session_open(w->host_env, &w->config, &w->open);
	wait_for(w, &w->opened, 60 * SECOND);
	return w->open.err;
}

static inline void session_close(struct world *w)
{
	w->close.done = on_close;
	w->closed = false;
	pst_session_close(w->session, &w->close);
	wait_for(w, &w->closed, 60 * SECOND);
	w->session = NULL;
}

static inline void world_free(struct world *w)
{
	if (w->session != NULL)
		session_close(w);
	pst_sim_free(w->sim);
	free(w->data);
	free(w);
}

static inline void submit(struct world *w, unsigned i, enum pst_request_kind kind, uint64_t offset, void *buf,
			  uint64_t len)
{
	w->iovs[i] = (struct iovec){ buf, len };
	w->requests[i] = (struct pst_request){
		.kind = kind,
		.offset_bytes = offset,
		.len_bytes = len,
		.iov = &w->iovs[i],
		.iov_count = 1,
		.done = on_request,
		.arg = w,
	};
	pst_session_submit(w->session, &w->requests[i]);
}

struct until {
	struct world *w;
	unsigned done;
};

static inline bool is_done(void *ctx)
{
	const struct until *u = ctx;

	return u->w->done >= u->done;
}

static inline void run_until_done(struct world *w, unsigned done, uint64_t limit_ns)
{
	struct until u = { w, done };

	assert_true(pst_sim_run_until(w->sim, is_done, &u, limit_ns));
	assert_int_equal(w->done, done);
}

static inline pst_err do_one(struct world *w, enum pst_request_kind kind, uint64_t offset, void *buf, uint64_t len)
{
	w->done = 0;
	submit(w, 0, kind, offset, buf, len);
	assert_int_equal(w->done, 0); /* never inside submit */
	run_until_done(w, 1, 120 * SECOND);
	return w->requests[0].err;
}

static inline void fill(uint8_t *buf, size_t len, uint8_t seed)
{
	for (size_t i = 0; i < len; i++)
		buf[i] = (uint8_t)(seed + i * 7 + i / BLOCK);
}

#endif

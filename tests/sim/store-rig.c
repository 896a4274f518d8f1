/* SPDX-License-Identifier: Apache-2.0 */
#include "store-rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* Killed processes leak on purpose (sim.h). */
int __lsan_is_turned_off(void);
__attribute__((visibility("default"), used)) int __lsan_is_turned_off(void)
{
	return 1;
}

static bool is_done(void *ctx)
{
	return ((struct rig *)ctx)->done;
}

static void on_store(struct pst_store_op *op)
{
	pst_container_of(op, struct rig, store_op)->done = true;
}

static void on_pool(struct pst_pool_op *op)
{
	struct rig *r = pst_container_of(op, struct rig, op);

	r->done = r->pool_done = true;
}

static void on_io(struct pst_io *io)
{
	struct rig *r = pst_container_of(io, struct rig, io);

	r->done = r->io_done = true;
}

static void on_close(struct pst_volume_close_op *op)
{
	pst_container_of(op, struct rig, close)->done = true;
}

static void on_event(void *ctx, enum pst_log_level level, const char *text)
{
	struct rig *r = ctx;
	size_t used = strlen(r->events);

	(void)level;
	snprintf(r->events + used, sizeof(r->events) - used, "%s\n", text);
}

void rig_finish(struct rig *r)
{
	assert_true(pst_sim_run_until(r->sim, is_done, r, 600 * RIG_SECOND));
}

struct rig *rig_new(uint64_t seed, uint64_t size_bytes, uint32_t partitions)
{
	struct pst_store_format_config config = { .size_bytes = size_bytes, .partition_count = partitions };
	struct rig *r = calloc(1, sizeof(*r));

	r->sim = pst_sim_new(seed);
	r->node = pst_sim_node_new(r->sim, "node");
	r->env = pst_sim_env_new(r->node, 0);
	r->store_op = (struct pst_store_op){ .done = on_store };
	pst_store_format(r->env, RIG_PATH, &config, &r->store_op);
	rig_finish(r);
	assert_int_equal(r->store_op.err, PST_OK);
	pst_sim_kill(r->node);
	return r;
}

void rig_free(struct rig *r)
{
	pst_sim_free(r->sim);
	free(r);
}

void rig_uuid(unsigned volume, uint8_t ret_uuid[16])
{
	memset(ret_uuid, 0, 16);
	ret_uuid[0] = (uint8_t)(1 + volume);
}

void rig_pool_begin(struct rig *r, struct pst_pool_op op)
{
	r->done = r->pool_done = false;
	r->op = op;
	r->op.done = on_pool;
	pst_pool_submit(r->pool, &r->op);
}

pst_err rig_pool(struct rig *r, struct pst_pool_op op)
{
	rig_pool_begin(r, op);
	rig_finish(r);
	return r->op.err;
}

pst_err rig_volume_open(struct rig *r, unsigned volume)
{
	struct pst_pool_op op = { .kind = PST_POOL_VOLUME_OPEN };
	pst_err err;

	rig_uuid(volume, op.uuid);
	err = rig_pool(r, op);
	r->volumes[volume] = r->op.volume;
	return err;
}

void rig_open_begin(struct rig *r)
{
	if (r->config.io_depth_max == 0)
		r->config.io_depth_max = 64; /* killed processes leak what they had */
	if (r->config.metadata_cache_bytes == 0)
		r->config.metadata_cache_bytes = 4 << 20;
	r->config.on_event = on_event;
	r->config.event_ctx = r;
	r->events[0] = '\0';
	r->env = pst_sim_env_new(r->node, 0);
	r->done = false;
	r->store_op = (struct pst_store_op){ .done = on_store };
	pst_store_open(r->env, RIG_PATH, &r->config, &r->store_op);
}

pst_err rig_open(struct rig *r)
{
	rig_open_begin(r);
	rig_finish(r);
	r->pool = r->store_op.pool;
	memset(r->volumes, 0, sizeof(r->volumes));
	return r->store_op.err;
}

void rig_start(struct rig *r)
{
	pst_err err = rig_open(r);

	if (err != PST_OK)
		print_error("open: %s\n", r->store_op.detail);
	assert_int_equal(err, PST_OK);
	for (unsigned i = 0; i < RIG_VOLUMES; i++) {
		err = rig_volume_open(r, i);
		assert_true(err == PST_OK || err == PST_E_NOTFOUND);
	}
}

void rig_close(struct rig *r, unsigned volume)
{
	if (r->volumes[volume] == NULL)
		return;
	r->done = false;
	r->close.done = on_close;
	pst_volume_close(r->volumes[volume], &r->close);
	rig_finish(r);
	r->volumes[volume] = NULL;
}

void rig_stop(struct rig *r)
{
	struct pst_pool_op op = { .kind = PST_POOL_CLOSE };

	for (unsigned i = 0; i < RIG_VOLUMES; i++)
		rig_close(r, i);
	assert_int_equal(rig_pool(r, op), PST_OK);
	r->pool = NULL;
	pst_sim_kill(r->node);
}

static void forget(struct rig *r)
{
	memset(r->volumes, 0, sizeof(r->volumes));
	r->pool = NULL;
}

void rig_kill(struct rig *r)
{
	pst_sim_kill(r->node);
	forget(r);
}

void rig_power(struct rig *r)
{
	pst_sim_power_off(r->node);
	pst_sim_power_on(r->node);
	forget(r);
}

void rig_create(struct rig *r, unsigned volume, uint64_t blocks)
{
	struct pst_pool_op op = { .kind = PST_POOL_VOLUME_CREATE, .block_count = blocks };

	rig_uuid(volume, op.uuid);
	assert_int_equal(rig_pool(r, op), PST_OK);
	assert_int_equal(rig_volume_open(r, volume), PST_OK);
}

void rig_io_begin(struct rig *r, unsigned volume, enum pst_io_kind kind, uint64_t lba, uint64_t count, void *buf)
{
	r->done = r->io_done = false;
	r->iov = (struct iovec){ buf, count * PST_BLOCK_BYTES };
	r->io = (struct pst_io){ .kind = kind, .lba = lba, .block_count = count, .done = on_io };
	if (kind == PST_IO_READ || kind == PST_IO_WRITE) {
		r->io.iov = &r->iov;
		r->io.iov_count = 1;
	}
	pst_volume_submit(r->volumes[volume], &r->io);
}

pst_err rig_io(struct rig *r, unsigned volume, enum pst_io_kind kind, uint64_t lba, uint64_t count, void *buf)
{
	rig_io_begin(r, volume, kind, lba, count, buf);
	rig_finish(r);
	return r->io.err;
}

pst_err rig_fill(struct rig *r, unsigned volume, uint64_t lba, uint64_t count, uint8_t byte)
{
	void *buf = aligned_alloc(PST_BLOCK_BYTES, count * PST_BLOCK_BYTES);
	pst_err err;

	memset(buf, byte, count * PST_BLOCK_BYTES);
	err = rig_io(r, volume, PST_IO_WRITE, lba, count, buf);
	free(buf);
	return err;
}

uint8_t rig_byte(struct rig *r, unsigned volume, uint64_t lba)
{
	uint8_t buf[PST_BLOCK_BYTES];

	memset(buf, 0xee, sizeof(buf));
	assert_int_equal(rig_io(r, volume, PST_IO_READ, lba, 1, buf), PST_OK);
	for (size_t i = 1; i < sizeof(buf); i++)
		assert_int_equal(buf[i], buf[0]);
	return buf[0];
}

bool rig_read_block(void *ctx, uint32_t device, uint64_t block, void *buf)
{
	struct rig *r = ctx;

	return device == 0 && pst_sim_disk_peek(r->node, RIG_PATH, block * PST_BLOCK_BYTES, buf, PST_BLOCK_BYTES);
}

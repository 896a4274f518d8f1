/* SPDX-License-Identifier: Apache-2.0 */
/* The simulator itself: does it keep what it should keep, lose what it may lose, and do the same for the same seed? */
#include "env/sim/sim.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define SECOND 1000000000u
#define BLOCK 4096u
#define BLOCKS 64u

struct job {
	struct pst_file_op op;
	struct iovec iov;
	unsigned done;
};

static void job_done(struct pst_file_op *op)
{
	pst_container_of(op, struct job, op)->done++;
}

static void job_start(struct pst_file *file, struct job *job, enum pst_file_kind kind, uint64_t offset, void *buf,
		      size_t len)
{
	*job = (struct job){ .iov = { buf, len } };
	job->op = (struct pst_file_op){ .kind = kind, .offset_bytes = offset, .len_bytes = len, .done = job_done };
	if (kind == PST_FILE_READ || kind == PST_FILE_WRITE) {
		job->op.iov = &job->iov;
		job->op.iov_count = 1;
	}
	pst_file_submit(file, &job->op);
}

static bool job_is_done(void *ctx)
{
	return ((struct job *)ctx)->done;
}

static pst_err job_run(struct pst_sim *sim, struct pst_file *file, enum pst_file_kind kind, uint64_t offset, void *buf,
		       size_t len)
{
	struct job job;

	job_start(file, &job, kind, offset, buf, len);
	assert_true(pst_sim_run_until(sim, job_is_done, &job, 60u * SECOND));
	return job.op.err;
}

struct world {
	struct pst_sim *sim;
	struct pst_sim_node *node;
	struct pst_env *env;
	struct pst_file *file;
};

static void world_open(struct world *w)
{
	w->env = pst_sim_env_new(w->node, 0);
	assert_int_equal(pst_file_open(w->env, "/d", PST_FILE_CREATE | PST_FILE_EXCLUSIVE, &w->file), PST_OK);
}

static void world_new(struct world *w, uint64_t seed, const struct pst_sim_faults *faults)
{
	w->sim = pst_sim_new(seed);
	if (faults)
		pst_sim_set_faults(w->sim, NULL, faults);
	w->node = pst_sim_node_new(w->sim, "m");
	world_open(w);
	assert_int_equal(pst_file_truncate(w->file, BLOCKS * BLOCK), PST_OK);
}

static void world_restart(struct world *w, bool power)
{
	if (power) {
		pst_sim_power_off(w->node);
		assert_false(pst_sim_node_on(w->node));
		pst_sim_power_on(w->node);
	} else {
		pst_sim_kill(w->node);
	}
	world_open(w);
}

/* Blocks whose every byte is @value: 0 to BLOCKS; the rest may be anything but is counted if it is not uniform. */
static unsigned world_count(struct world *w, uint8_t value, unsigned *ret_mixed)
{
	unsigned count = 0, mixed = 0;
	uint8_t buf[BLOCK];

	for (unsigned i = 0; i < BLOCKS; i++) {
		bool uniform = true;

		assert_int_equal(job_run(w->sim, w->file, PST_FILE_READ, i * BLOCK, buf, BLOCK), PST_OK);
		for (unsigned j = 1; j < BLOCK; j++)
			uniform &= buf[j] == buf[0];
		count += uniform && buf[0] == value;
		mixed += !uniform;
	}
	*ret_mixed = mixed;
	return count;
}

static void world_fill(struct world *w, uint8_t value)
{
	uint8_t buf[BLOCK];

	memset(buf, value, sizeof(buf));
	for (unsigned i = 0; i < BLOCKS; i++)
		assert_int_equal(job_run(w->sim, w->file, PST_FILE_WRITE, i * BLOCK, buf, BLOCK), PST_OK);
}

/* Flushed blocks all survive the plug; of those written since, some survive and some do not. */
static void power_loss_keeps_flushed_only(void **state)
{
	struct world w;
	unsigned mixed, old, new;

	(void)state;
	world_new(&w, 3, &(struct pst_sim_faults){ .disk_keep_percent = 50 });
	world_fill(&w, 1);
	assert_int_equal(job_run(w.sim, w.file, PST_FILE_FLUSH, 0, NULL, 0), PST_OK);
	world_restart(&w, true);
	assert_int_equal(world_count(&w, 1, &mixed), BLOCKS);
	world_fill(&w, 2);
	assert_int_equal(world_count(&w, 2, &mixed), BLOCKS);
	world_restart(&w, true);
	old = world_count(&w, 1, &mixed);
	new = world_count(&w, 2, &mixed);
	assert_int_equal(old + new, BLOCKS);
	assert_true(old > BLOCKS / 8 && new > BLOCKS / 8);
	assert_int_equal(mixed, 0);
	pst_sim_free(w.sim);
}

/* With tearing at 512, blocks come back as a mix of sectors. */
static void power_loss_tears(void **state)
{
	struct world w;
	struct pst_sim_stats stats;
	unsigned mixed;

	(void)state;
	world_new(&w, 3, &(struct pst_sim_faults){ .disk_keep_percent = 50, .disk_tear_bytes = 512 });
	world_fill(&w, 9);
	world_restart(&w, true);
	world_count(&w, 9, &mixed);
	assert_true(mixed > BLOCKS / 2);
	pst_sim_stats(w.sim, &stats);
	assert_int_equal(stats.torn, mixed);
	assert_int_equal(stats.power_losses, 1);
	pst_sim_free(w.sim);
}

/* A device that tears at 4096 only: a long write comes back in part, but every aligned block of it is old or new. */
static void power_loss_tears_between_blocks(void **state)
{
	struct world w;
	struct pst_sim_stats stats;
	uint8_t buf[BLOCKS * BLOCK];
	unsigned mixed, new;

	(void)state;
	memset(buf, 9, sizeof(buf));
	world_new(&w, 3, &(struct pst_sim_faults){ .disk_keep_percent = 50, .disk_tear_bytes = 4096 });
	assert_int_equal(job_run(w.sim, w.file, PST_FILE_WRITE, 0, buf, sizeof(buf)), PST_OK);
	world_restart(&w, true);
	new = world_count(&w, 9, &mixed);
	assert_int_equal(mixed, 0);
	assert_in_range(new, BLOCKS / 8, BLOCKS - BLOCKS / 8);
	pst_sim_stats(w.sim, &stats);
	assert_int_equal(stats.torn, 1);
	pst_sim_free(w.sim);
}

/* A kill loses nothing that was completed, and frees the lock. */
static void kill_keeps_completed(void **state)
{
	struct world w;
	unsigned mixed;

	(void)state;
	world_new(&w, 5, NULL);
	world_fill(&w, 4);
	world_restart(&w, false);
	assert_int_equal(world_count(&w, 4, &mixed), BLOCKS);
	pst_sim_free(w.sim);
}

/* Writes in flight at a kill: over many seeds some happened and some did not, and no completion came. */
static void kill_in_flight_is_open(void **state)
{
	unsigned happened = 0;
	uint8_t buf[BLOCK], in[BLOCK];

	(void)state;
	memset(buf, 7, sizeof(buf));
	for (uint64_t seed = 0; seed < 50; seed++) {
		struct job job;
		struct world w;

		world_new(&w, seed, NULL);
		job_start(w.file, &job, PST_FILE_WRITE, 0, buf, BLOCK);
		world_restart(&w, false);
		pst_sim_run_for(w.sim, SECOND);
		assert_int_equal(job.done, 0);
		assert_int_equal(job_run(w.sim, w.file, PST_FILE_READ, 0, in, BLOCK), PST_OK);
		happened += in[0] == 7;
		pst_sim_free(w.sim);
	}
	assert_in_range(happened, 5, 45);
}

/* A flush promises nothing about a write that is still in flight when it is submitted. */
static void flush_covers_completed_only(void **state)
{
	unsigned lost = 0;
	uint8_t buf[BLOCK], in[BLOCK];

	(void)state;
	memset(buf, 7, sizeof(buf));
	for (uint64_t seed = 0; seed < 20; seed++) {
		struct job write, flush;
		struct world w;

		world_new(&w, seed, &(struct pst_sim_faults){ .disk_keep_percent = 0 });
		job_start(w.file, &write, PST_FILE_WRITE, 0, buf, BLOCK);
		job_start(w.file, &flush, PST_FILE_FLUSH, 0, NULL, 0);
		pst_sim_run_for(w.sim, SECOND);
		assert_int_equal(write.done + flush.done, 2);
		world_restart(&w, true);
		assert_int_equal(job_run(w.sim, w.file, PST_FILE_READ, 0, in, BLOCK), PST_OK);
		lost += in[0] == 0;
		pst_sim_free(w.sim);
	}
	assert_int_equal(lost, 20);
}

/* After a failed flush a later one succeeds, and yet what the first covered is gone. */
static void failed_flush_forgets(void **state)
{
	struct pst_sim_faults faults = { .disk_keep_percent = 0, .disk_flush_error_ppm = 1000000 };
	struct world w;
	unsigned mixed, kept;

	(void)state;
	world_new(&w, 3, &faults);
	world_fill(&w, 1);
	assert_int_equal(job_run(w.sim, w.file, PST_FILE_FLUSH, 0, NULL, 0), PST_E_IO);
	faults.disk_flush_error_ppm = 0;
	pst_sim_set_faults(w.sim, NULL, &faults);
	assert_int_equal(job_run(w.sim, w.file, PST_FILE_FLUSH, 0, NULL, 0), PST_OK);
	assert_int_equal(world_count(&w, 1, &mixed), BLOCKS); /* the cache still has it */
	world_restart(&w, true);
	kept = world_count(&w, 1, &mixed);
	assert_true(kept > 0 && kept < BLOCKS);
	pst_sim_free(w.sim);
}

/* A flush that lies succeeds, and the plug takes what it claimed; the next honest flush makes good. */
static void lying_flush_claims(void **state)
{
	struct pst_sim_faults faults = { .disk_keep_percent = 0, .disk_flush_lie_ppm = 1000000 };
	struct pst_sim_stats stats;
	struct world w;
	unsigned mixed;

	(void)state;
	world_new(&w, 3, &faults);
	world_fill(&w, 1);
	assert_int_equal(job_run(w.sim, w.file, PST_FILE_FLUSH, 0, NULL, 0), PST_OK);
	world_restart(&w, true);
	assert_int_equal(world_count(&w, 1, &mixed), 0);
	world_fill(&w, 2);
	assert_int_equal(job_run(w.sim, w.file, PST_FILE_FLUSH, 0, NULL, 0), PST_OK);
	pst_sim_stats(w.sim, &stats);
	assert_int_equal(stats.flush_lies, 2);
	faults.disk_flush_lie_ppm = 0;
	pst_sim_set_faults(w.sim, NULL, &faults);
	assert_int_equal(job_run(w.sim, w.file, PST_FILE_FLUSH, 0, NULL, 0), PST_OK);
	world_restart(&w, true);
	assert_int_equal(world_count(&w, 2, &mixed), BLOCKS);
	pst_sim_free(w.sim);
}

/* Each silent and each reported fault shows itself when it is certain, and is counted. */
static void faults_strike(void **state)
{
	struct pst_sim_stats stats;
	uint8_t buf[BLOCK], in[BLOCK];
	struct world w;

	(void)state;
	memset(buf, 1, sizeof(buf));
	world_new(&w, 1, &(struct pst_sim_faults){ .disk_lost_ppm = 1000000 });
	assert_int_equal(job_run(w.sim, w.file, PST_FILE_WRITE, 0, buf, BLOCK), PST_OK);
	assert_int_equal(job_run(w.sim, w.file, PST_FILE_READ, 0, in, BLOCK), PST_OK);
	assert_int_equal(in[0], 0);
	pst_sim_set_faults(w.sim, NULL, &(struct pst_sim_faults){ .disk_rot_ppm = 1000000 });
	assert_int_equal(job_run(w.sim, w.file, PST_FILE_WRITE, 0, buf, BLOCK), PST_OK);
	assert_int_equal(job_run(w.sim, w.file, PST_FILE_READ, 0, in, BLOCK), PST_OK);
	assert_memory_not_equal(in, buf, BLOCK);
	pst_sim_set_faults(w.sim, NULL, &(struct pst_sim_faults){ .disk_latent_ppm = 1000000 });
	assert_int_equal(job_run(w.sim, w.file, PST_FILE_WRITE, BLOCK, buf, BLOCK), PST_OK);
	pst_sim_heal(w.sim);
	assert_int_equal(job_run(w.sim, w.file, PST_FILE_READ, BLOCK, in, BLOCK), PST_E_IO);
	assert_int_equal(job_run(w.sim, w.file, PST_FILE_WRITE, BLOCK, buf, BLOCK), PST_OK);
	assert_int_equal(job_run(w.sim, w.file, PST_FILE_READ, BLOCK, in, BLOCK), PST_OK);
	pst_sim_set_faults(w.sim, NULL, &(struct pst_sim_faults){ .disk_read_error_ppm = 1000000 });
	assert_int_equal(job_run(w.sim, w.file, PST_FILE_READ, BLOCK, in, BLOCK), PST_E_IO);
	pst_sim_set_faults(w.sim, NULL,
			   &(struct pst_sim_faults){ .disk_misdirect_ppm = 1000000, .disk_corrupt_to = BLOCK });
	memset(buf, 3, sizeof(buf));
	assert_int_equal(job_run(w.sim, w.file, PST_FILE_WRITE, 2 * BLOCK, buf, BLOCK), PST_OK); /* out of its range */
	assert_int_equal(job_run(w.sim, w.file, PST_FILE_READ, 2 * BLOCK, in, BLOCK), PST_OK);
	assert_memory_equal(in, buf, BLOCK);
	assert_int_equal(job_run(w.sim, w.file, PST_FILE_WRITE, 0, buf, BLOCK), PST_OK);
	pst_sim_stats(w.sim, &stats);
	assert_int_equal(stats.lost, 1);
	assert_int_equal(stats.rotten, 1);
	assert_int_equal(stats.latent, 1);
	assert_int_equal(stats.misdirected, 1);
	pst_sim_free(w.sim);
}

/* ---- Network ---- */

struct talk {
	struct pst_sim *sim;
	struct pst_sim_node *nodes[2];
	struct pst_env *envs[2];
	struct pst_listener *listener;
	struct pst_connect_op connect;
	struct pst_stream *accepted;
	struct pst_stream_op send, recv;
	struct iovec send_iov, recv_iov;
	uint8_t out[100000], in[100000];
	unsigned connects, sends, recvs;
};

static void talk_on_accept(void *ctx, struct pst_stream *stream)
{
	((struct talk *)ctx)->accepted = stream;
}

static void talk_on_connect(struct pst_connect_op *op)
{
	pst_container_of(op, struct talk, connect)->connects++;
}

static void talk_on_send(struct pst_stream_op *op)
{
	pst_container_of(op, struct talk, send)->sends++;
}

static void talk_on_recv(struct pst_stream_op *op)
{
	pst_container_of(op, struct talk, recv)->recvs++;
}

static void talk_recv(struct talk *t)
{
	t->recv_iov = (struct iovec){ t->in, sizeof(t->in) };
	t->recv = (struct pst_stream_op){ .iov = &t->recv_iov, .iov_count = 1, .done = talk_on_recv };
	pst_stream_recv(t->accepted, &t->recv);
}

static void talk_send(struct talk *t, size_t len)
{
	t->send_iov = (struct iovec){ t->out, len };
	t->send = (struct pst_stream_op){ .iov = &t->send_iov, .iov_count = 1, .done = talk_on_send };
	pst_stream_send(t->connect.stream, &t->send);
}

static struct talk *talk_new(const struct pst_sim_faults *faults)
{
	struct talk *t = calloc(1, sizeof(*t));
	struct pst_addr addr = { .port = 4420 };

	t->sim = pst_sim_new(11);
	pst_sim_set_faults(t->sim, NULL, faults);
	for (int i = 0; i < 2; i++) {
		t->nodes[i] = pst_sim_node_new(t->sim, i ? "server" : "client");
		t->envs[i] = pst_sim_env_new(t->nodes[i], 0);
	}
	snprintf(addr.host, sizeof(addr.host), "%s", pst_sim_node_ip(t->nodes[1]));
	assert_int_equal(pst_listen(t->envs[1], &addr, talk_on_accept, t, &t->listener), PST_OK);
	t->connect = (struct pst_connect_op){ .addr = addr, .done = talk_on_connect };
	pst_connect(t->envs[0], &t->connect);
	pst_sim_run_for(t->sim, SECOND);
	assert_int_equal(t->connects, 1);
	return t;
}

static void talk_free(struct talk *t)
{
	pst_sim_free(t->sim);
	free(t);
}

/* A machine that loses power says nothing: its peer waits, sends into the void, and is reset when it is back. */
static void dead_machine_is_silent(void **state)
{
	struct talk *t = talk_new(&(struct pst_sim_faults){ 0 });

	(void)state;
	pst_sim_power_off(t->nodes[1]);
	talk_send(t, 100);
	pst_sim_run_for(t->sim, 30 * (uint64_t)SECOND);
	assert_int_equal(t->sends, 1); /* the kernel took it */
	assert_int_equal(t->send.err, PST_OK);
	pst_sim_power_on(t->nodes[1]);
	pst_sim_run_for(t->sim, 5 * (uint64_t)SECOND);
	talk_send(t, 100);
	pst_sim_run_for(t->sim, SECOND);
	assert_int_equal(t->sends, 2);
	assert_int_equal(t->send.err, PST_E_CLOSED);
	talk_free(t);
}

/* A killed process's kernel closes for it: the peer sees the end at once. */
static void killed_process_closes(void **state)
{
	struct talk *t = talk_new(&(struct pst_sim_faults){ 0 });

	(void)state;
	talk_recv(t);
	pst_sim_kill(t->nodes[0]);
	pst_sim_run_for(t->sim, SECOND);
	assert_int_equal(t->recvs, 1);
	assert_int_equal(t->recv.err, PST_OK);
	assert_int_equal(t->recv.done_bytes, 0);
	talk_free(t);
}

/* A partition delays and loses nothing; connecting through it times out. */
static void partition_delays(void **state)
{
	struct talk *t = talk_new(&(struct pst_sim_faults){ 0 });

	(void)state;
	pst_sim_partition(t->nodes[0], t->nodes[1], true);
	talk_send(t, 100);
	talk_recv(t);
	pst_sim_run_for(t->sim, 5 * (uint64_t)SECOND);
	assert_int_equal(t->recvs, 0);
	pst_sim_partition(t->nodes[0], t->nodes[1], false);
	pst_sim_run_for(t->sim, SECOND);
	assert_int_equal(t->recvs, 1);
	assert_int_equal(t->recv.done_bytes, 100);
	pst_sim_partition(t->nodes[0], t->nodes[1], true);
	pst_connect(t->envs[0], &t->connect);
	pst_sim_run_for(t->sim, 9 * (uint64_t)SECOND);
	assert_int_equal(t->connects, 1);
	pst_sim_run_for(t->sim, 3 * (uint64_t)SECOND);
	assert_int_equal(t->connects, 2);
	assert_int_equal(t->connect.err, PST_E_TIMEOUT);
	talk_free(t);
}

/* A reset breaks both ends; a refusal looks like nobody listening. */
static void resets_and_refusals(void **state)
{
	struct talk *t = talk_new(&(struct pst_sim_faults){ 0 });

	(void)state;
	pst_sim_set_faults(t->sim, NULL,
			   &(struct pst_sim_faults){ .net_reset_ppm = 1000000, .net_refuse_ppm = 1000000 });
	talk_recv(t);
	talk_send(t, 100);
	pst_sim_run_for(t->sim, SECOND);
	assert_int_equal(t->recvs, 1);
	assert_int_equal(t->recv.err, PST_E_CLOSED);
	talk_send(t, 100);
	pst_sim_run_for(t->sim, SECOND);
	assert_int_equal(t->sends, 2);
	assert_int_equal(t->send.err, PST_E_CLOSED);
	pst_connect(t->envs[0], &t->connect);
	pst_sim_run_for(t->sim, SECOND);
	assert_int_equal(t->connect.err, PST_E_REFUSED);
	talk_free(t);
}

/* ---- Determinism and running ---- */

static uint64_t swarm_run(uint64_t seed, uint64_t *ret_steps)
{
	struct pst_sim_faults faults;
	struct pst_sim_stats stats;
	uint8_t buf[BLOCK];
	uint64_t hash;
	struct world w;

	world_new(&w, seed, NULL);
	pst_sim_faults_swarm(w.sim, ~0u, &faults);
	pst_sim_set_faults(w.sim, NULL, &faults);
	for (unsigned i = 0; i < 200; i++) {
		enum pst_file_kind kind = (enum pst_file_kind)pst_sim_rand_below(w.sim, 5);
		uint64_t at = pst_sim_rand_below(w.sim, BLOCKS) * BLOCK;
		pst_err err;

		pst_env_random(w.env, buf, sizeof(buf));
		err = job_run(w.sim, w.file, kind, at, buf, kind == PST_FILE_FLUSH ? 0 : BLOCK);
		assert_true(err == PST_OK || err == PST_E_IO);
		if (i % 50 == 49)
			world_restart(&w, i % 100 == 99);
	}
	hash = pst_sim_trace_hash(w.sim);
	pst_sim_stats(w.sim, &stats);
	*ret_steps = stats.steps;
	pst_sim_free(w.sim);
	return hash;
}

/* Same seed, same hash; another seed, another; under every fault at once. */
static void same_seed_same_run(void **state)
{
	uint64_t hashes[20], steps, again;

	(void)state;
	for (uint64_t seed = 0; seed < 20; seed++) {
		hashes[seed] = swarm_run(seed, &steps);
		assert_int_equal(hashes[seed], swarm_run(seed, &again));
		assert_int_equal(steps, again);
		for (uint64_t other = 0; other < seed; other++)
			assert_int_not_equal(hashes[seed], hashes[other]);
	}
}

static bool never(void *ctx)
{
	(void)ctx;
	return false;
}

struct spinner {
	struct pst_post post;
	struct pst_env *env;
};

static void spin_again(struct pst_post *post)
{
	pst_env_post(pst_container_of(post, struct spinner, post)->env, post);
}

/* A loop that never waits still reaches the limit; without any event the run ends at once. */
static void runs_are_bounded(void **state)
{
	struct spinner spinner = { .post.fn = spin_again };
	struct world w;
	uint64_t start_ns;

	(void)state;
	world_new(&w, 1, NULL);
	start_ns = pst_sim_now_ns(w.sim);
	assert_false(pst_sim_run_until(w.sim, never, NULL, SECOND));
	assert_true(pst_sim_now_ns(w.sim) - start_ns < SECOND);
	spinner.env = w.env;
	pst_env_post(w.env, &spinner.post);
	start_ns = pst_sim_now_ns(w.sim);
	assert_false(pst_sim_run_until(w.sim, never, NULL, SECOND / 100));
	assert_true(pst_sim_now_ns(w.sim) - start_ns >= SECOND / 100 - 10000);
	pst_sim_free(w.sim);
}

/* Another boot id after power on, the same after a kill; the wall clock may jump while time goes on. */
static void boots_and_clocks(void **state)
{
	char first[37], second[37];
	uint64_t now_ns, wall_ns;
	struct world w;

	(void)state;
	world_new(&w, 1, NULL);
	pst_env_boot_id(w.env, first);
	world_restart(&w, false);
	pst_env_boot_id(w.env, second);
	assert_string_equal(first, second);
	world_restart(&w, true);
	pst_env_boot_id(w.env, second);
	assert_string_not_equal(first, second);
	now_ns = pst_env_now_ns(w.env);
	wall_ns = pst_env_wall_ns(w.env);
	pst_sim_wall_jump(w.node, -3600 * (int64_t)SECOND);
	assert_true(pst_env_now_ns(w.env) >= now_ns);
	assert_true(pst_env_wall_ns(w.env) < wall_ns);
	pst_sim_free(w.sim);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(power_loss_keeps_flushed_only),
		cmocka_unit_test(power_loss_tears),
		cmocka_unit_test(power_loss_tears_between_blocks),
		cmocka_unit_test(kill_keeps_completed),
		cmocka_unit_test(kill_in_flight_is_open),
		cmocka_unit_test(flush_covers_completed_only),
		cmocka_unit_test(failed_flush_forgets),
		cmocka_unit_test(lying_flush_claims),
		cmocka_unit_test(faults_strike),
		cmocka_unit_test(dead_machine_is_silent),
		cmocka_unit_test(killed_process_closes),
		cmocka_unit_test(partition_delays),
		cmocka_unit_test(resets_and_refusals),
		cmocka_unit_test(same_seed_same_run),
		cmocka_unit_test(runs_are_bounded),
		cmocka_unit_test(boots_and_clocks),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Machines, shards and time. There are two kinds of events: the simulator's own (deliveries, disk operations, posts),
 * all in sim->events, and the timers of each shard, in the shard's own heap so that they vanish with it. A step runs
 * the earliest of all; ties go to the simulator's own, then by the order of creation. Every step also costs a little
 * virtual time, as code does: so a loop that never waits still reaches the end of a bounded run.
 */
#include "env/logline.h"
#include "env/sim/internal.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define SIM_START_NS 1000000000u
#define SIM_WALL_START_NS 1800000000000000000u

void *sim_alloc(size_t bytes)
{
	void *p = calloc(1, bytes);

	pst_assert(p);
	return p;
}

struct pst_sim *pst_sim_new(uint64_t seed)
{
	struct pst_sim *sim = sim_alloc(sizeof(*sim));

	pst_prng_init(&sim->prng, seed);
	sim->now_ns = SIM_START_NS;
	pst_list_init(&sim->envs);
	pst_list_init(&sim->files);
	pst_list_init(&sim->streams);
	pst_list_init(&sim->listeners);
	pst_list_init(&sim->conns);
	return sim;
}

void pst_sim_free(struct pst_sim *sim)
{
	if (!sim)
		return;
	sim_files_free(sim);
	sim_net_free(sim);
	PST_LIST_EACH(node, &sim->envs) {
		free(pst_container_of(node, struct pst_env, all_node));
	}
	for (uint32_t i = 0; i < sim->node_count; i++) {
		PST_LIST_EACH(node, &sim->nodes[i]->disks) {
			sim_disk_free(pst_container_of(node, struct sim_disk, node));
		}
		free(sim->nodes[i]);
	}
	free(sim);
}

void pst_sim_set_trace(struct pst_sim *sim, FILE *trace)
{
	sim->trace = trace;
}

uint64_t pst_sim_trace_hash(const struct pst_sim *sim)
{
	return sim->hash;
}

uint64_t pst_sim_now_ns(const struct pst_sim *sim)
{
	return sim->now_ns;
}

void pst_sim_stats(const struct pst_sim *sim, struct pst_sim_stats *ret_stats)
{
	*ret_stats = sim->stats;
}

uint64_t pst_sim_rand(struct pst_sim *sim)
{
	return pst_prng_next(&sim->prng);
}

uint64_t pst_sim_rand_below(struct pst_sim *sim, uint64_t bound)
{
	return pst_prng_below(&sim->prng, bound);
}

bool pst_sim_chance(struct pst_sim *sim, uint32_t ppm)
{
	/* No draw for what is off, so that a swarm of few faults is cheap. */
	return ppm && pst_prng_chance(&sim->prng, ppm, 1000000);
}

uint64_t sim_between(struct pst_sim *sim, uint64_t min, uint64_t max)
{
	return max <= min ? min : min + pst_prng_below(&sim->prng, max - min + 1);
}

void sim_arm(struct pst_sim *sim, struct pst_timer *event, uint64_t after_ns)
{
	pst_timers_arm(&sim->events, event, sim->now_ns + after_ns);
}

static uint64_t sim_mix(uint64_t hash, uint64_t value)
{
	hash = (hash ^ value) * 0x9fb21c651e98df25u;
	return hash ^ (hash >> 32);
}

void sim_trace(struct pst_sim *sim, const struct pst_env *env, const char *what, uint64_t a, uint64_t b, uint64_t c)
{
	uint64_t hash = sim_mix(sim->hash, sim->now_ns);

	for (const char *p = what; *p; p++)
		hash = sim_mix(hash, (uint64_t)*p);
	hash = sim_mix(sim_mix(hash, env ? env->id : 0), a);
	sim->hash = sim_mix(sim_mix(hash, b), c);
	if (sim->trace)
		fprintf(sim->trace, "%12.6f ms %-10s %-2u %-16s %" PRIu64 " %" PRIu64 " %" PRIu64 "\n",
			(double)(sim->now_ns - SIM_START_NS) / 1e6, env ? env->node->name : "-", env ? env->id : 0,
			what, a, b, c);
}

void sim_enter(struct pst_env *env)
{
	pst_assert(!env->dead);
	env->sim->running = env;
}

void sim_leave(struct pst_env *env)
{
	env->sim->running = NULL;
}

/* ---- Machines ---- */

struct pst_sim_node *pst_sim_node_new(struct pst_sim *sim, const char *name)
{
	struct pst_sim_node *node = sim_alloc(sizeof(*node));

	pst_assert(sim->node_count < SIM_NODES_MAX);
	node->sim = sim;
	node->index = sim->node_count;
	node->on = true;
	node->boots = 1;
	node->next_port = 30000;
	node->faults = sim->faults;
	snprintf(node->name, sizeof(node->name), "%s", name);
	snprintf(node->ip, sizeof(node->ip), "10.0.0.%u", node->index + 1);
	pst_list_init(&node->disks);
	pst_list_init(&node->live_envs);
	sim->nodes[sim->node_count++] = node;
	return node;
}

const char *pst_sim_node_ip(const struct pst_sim_node *node)
{
	return node->ip;
}

bool pst_sim_node_on(const struct pst_sim_node *node)
{
	return node->on;
}

static void env_run_posts(struct pst_timer *event)
{
	struct pst_env *env = pst_container_of(event, struct pst_env, posts_event);
	struct pst_post *post = env->posts_first;
	uint64_t ran = 0;

	env->posts_first = NULL;
	env->posts_last = &env->posts_first;
	sim_enter(env);
	while (post) {
		struct pst_post *next = post->next;

		post->fn(post);
		post = next;
		ran++;
	}
	sim_leave(env);
	sim_trace(env->sim, env, "posts", ran, 0, 0);
}

struct pst_env *pst_sim_env_new(struct pst_sim_node *node, uint32_t file_depth)
{
	struct pst_env *env = sim_alloc(sizeof(*env));

	pst_assert(node->on);
	env->sim = node->sim;
	env->node = node;
	env->id = ++node->sim->next_id;
	env->file_depth = file_depth ? file_depth : 256;
	env->posts_last = &env->posts_first;
	pst_timer_init(&env->posts_event, env_run_posts);
	pst_list_init(&env->file_waiting);
	pst_list_init(&env->file_ops);
	pst_list_init(&env->live_files);
	pst_list_init(&env->live_streams);
	pst_list_init(&env->live_listeners);
	pst_list_init(&env->connecting);
	pst_list_push_back(&node->sim->envs, &env->all_node);
	pst_list_push_back(&node->live_envs, &env->live_node);
	sim_trace(node->sim, env, "env_new", file_depth, 0, 0);
	return env;
}

static void env_detach(struct pst_env *env)
{
	env->dead = true;
	env->timers.root = NULL;
	env->posts_first = NULL;
	pst_timers_disarm(&env->sim->events, &env->posts_event);
	pst_list_remove(&env->live_node);
}

static void node_end_process(struct pst_sim_node *node, bool power)
{
	pst_assert(!node->sim->running);
	PST_LIST_EACH(at, &node->live_envs) {
		struct pst_env *env = pst_container_of(at, struct pst_env, live_node);

		sim_files_kill(env, power);
		sim_streams_kill(env, power);
		env_detach(env);
	}
}

void pst_sim_kill(struct pst_sim_node *node)
{
	sim_trace(node->sim, NULL, "kill", node->index, 0, 0);
	node->sim->stats.kills++;
	node_end_process(node, false);
}

void pst_sim_power_off(struct pst_sim_node *node)
{
	pst_assert(node->on);
	sim_trace(node->sim, NULL, "power_off", node->index, 0, 0);
	node->sim->stats.power_losses++;
	node_end_process(node, true);
	PST_LIST_EACH(at, &node->disks) {
		sim_disk_power_loss(pst_container_of(at, struct sim_disk, node));
	}
	node->on = false;
}

void pst_sim_power_on(struct pst_sim_node *node)
{
	pst_assert(!node->on);
	sim_trace(node->sim, NULL, "power_on", node->index, 0, 0);
	node->on = true;
	node->boots++;
}

void pst_sim_partition(struct pst_sim_node *a, struct pst_sim_node *b, bool cut)
{
	sim_trace(a->sim, NULL, cut ? "cut" : "uncut", a->index, b->index, 0);
	a->sim->cut[a->index][b->index] = a->sim->cut[b->index][a->index] = cut;
}

void pst_sim_wall_jump(struct pst_sim_node *node, int64_t by_ns)
{
	node->wall_offset_ns += by_ns;
}

/* ---- The seam: what every shard has ---- */

uint64_t pst_env_now_ns(struct pst_env *env)
{
	return env->sim->now_ns;
}

uint64_t pst_env_turn_ns(struct pst_env *env)
{
	return env->sim->now_ns;
}

uint64_t pst_env_wall_ns(struct pst_env *env)
{
	return SIM_WALL_START_NS + env->sim->now_ns + (uint64_t)env->node->wall_offset_ns;
}

void pst_env_random(struct pst_env *env, void *buf, size_t len_bytes)
{
	for (size_t done = 0; done < len_bytes; done += 8) {
		uint64_t value = pst_prng_next(&env->sim->prng);

		memcpy((char *)buf + done, &value, PST_MIN(len_bytes - done, sizeof(value)));
	}
}

void *pst_secret_alloc(struct pst_env *env, size_t len_bytes)
{
	(void)env;
	return calloc(1, PST_MAX(len_bytes, 1u));
}

void pst_secret_free(struct pst_env *env, void *secret, size_t len_bytes)
{
	(void)env;
	if (secret != NULL)
		explicit_bzero(secret, len_bytes);
	free(secret);
}

void pst_env_boot_id(struct pst_env *env, char ret[37])
{
	snprintf(ret, 37, "%08x-0000-4000-8000-%012x", env->node->index, env->node->boots);
}

void pst_env_log(struct pst_env *env, enum pst_log_level level, const char *fmt, ...)
{
	char line[PST_LOGLINE_MAX];
	va_list args;
	size_t len;

	if (!env->sim->trace)
		return;
	va_start(args, fmt);
	len = pst_logline_format(line, pst_env_wall_ns(env), level, fmt, args);
	va_end(args);
	fprintf(env->sim->trace, "%12.6f ms %-10s %-2u log %.*s", (double)(env->sim->now_ns - SIM_START_NS) / 1e6,
		env->node->name, env->id, (int)len, line);
}

void pst_timer_arm(struct pst_env *env, struct pst_timer *timer, uint64_t deadline_ns)
{
	pst_assert(!env->dead);
	pst_timers_arm(&env->timers, timer, deadline_ns);
}

void pst_timer_disarm(struct pst_env *env, struct pst_timer *timer)
{
	pst_assert(!env->dead);
	pst_timers_disarm(&env->timers, timer);
}

void pst_env_post(struct pst_env *to, struct pst_post *post)
{
	if (to->dead)
		return;
	post->next = NULL;
	*to->posts_last = post;
	to->posts_last = &post->next;
	if (!pst_timer_armed(&to->posts_event))
		sim_arm(to->sim, &to->posts_event, sim_between(to->sim, 100, 2000));
}

const char *pst_env_backend_name(struct pst_env *env)
{
	(void)env;
	return "sim";
}

const char *pst_env_backend_reason(struct pst_env *env)
{
	(void)env;
	return "simulated";
}

void pst_env_free(struct pst_env *env)
{
	if (!env)
		return;
	pst_assert(!env->dead && pst_list_empty(&env->live_files) && pst_list_empty(&env->live_streams) &&
		   pst_list_empty(&env->live_listeners));
	env_detach(env);
}

/* ---- Faults ---- */

void pst_sim_set_faults(struct pst_sim *sim, struct pst_sim_node *node, const struct pst_sim_faults *faults)
{
	if (node) {
		node->faults = *faults;
		return;
	}
	sim->faults = *faults;
	for (uint32_t i = 0; i < sim->node_count; i++)
		sim->nodes[i]->faults = *faults;
}

void pst_sim_heal(struct pst_sim *sim)
{
	sim_trace(sim, NULL, "heal", 0, 0, 0);
	pst_sim_set_faults(sim, NULL, &(struct pst_sim_faults){ .disk_keep_percent = 50 });
	memset(sim->cut, 0, sizeof(sim->cut));
	for (uint32_t i = 0; i < sim->node_count; i++)
		PST_LIST_EACH(at, &sim->nodes[i]->disks) {
			pst_container_of(at, struct sim_disk, node)->stalled_until_ns = 0;
		}
}

/* Off, rare or frequent: orders of magnitude find more than percentages. */
static uint32_t swarm_ppm(struct pst_sim *sim)
{
	static const uint32_t strengths[] = { 0, 100, 1000, 10000, 50000 };

	return strengths[pst_sim_rand_below(sim, PST_ARRAY_COUNT(strengths))];
}

static void swarm_disk(struct pst_sim *sim, unsigned allowed, struct pst_sim_faults *f)
{
	static const uint32_t tears[] = { 0, 512, 512, 4096 };

	if (allowed & PST_SIM_DISK_TIMING) {
		f->disk_ns_min = 1000;
		f->disk_ns_max = (uint64_t)1000 << pst_sim_rand_below(sim, 14);
		f->disk_slow_ppm = swarm_ppm(sim);
		f->disk_slow_ns_max = 100000000;
		f->disk_stall_ppm = swarm_ppm(sim) / 100;
		f->disk_stall_ns_max = 3000000000;
	}
	if (allowed & PST_SIM_DISK_TEARS) {
		f->disk_tear_bytes = tears[pst_sim_rand_below(sim, PST_ARRAY_COUNT(tears))];
		f->disk_keep_percent = (uint32_t)(pst_sim_rand_below(sim, 6) * 25); /* 125: another share each time */
		f->disk_discard_garbage = pst_sim_rand_below(sim, 2);
	}
	if (allowed & PST_SIM_DISK_ERRORS) {
		f->disk_read_error_ppm = swarm_ppm(sim) / 10;
		f->disk_write_error_ppm = swarm_ppm(sim) / 10;
		f->disk_flush_error_ppm = swarm_ppm(sim) / 10;
	}
	if (allowed & PST_SIM_DISK_CORRUPTION) {
		f->disk_latent_ppm = swarm_ppm(sim) / 10;
		f->disk_rot_ppm = swarm_ppm(sim) / 10;
		f->disk_lost_ppm = swarm_ppm(sim) / 10;
		f->disk_misdirect_ppm = swarm_ppm(sim) / 10;
		f->disk_misread_ppm = swarm_ppm(sim) / 10;
	}
	if (allowed & PST_SIM_DISK_LIES)
		f->disk_flush_lie_ppm = 10 * swarm_ppm(sim);
}

void pst_sim_faults_swarm(struct pst_sim *sim, unsigned allowed, struct pst_sim_faults *ret_faults)
{
	struct pst_sim_faults f = { .disk_keep_percent = 50 };

	allowed &= (unsigned)pst_sim_rand(sim) | (unsigned)pst_sim_rand(sim); /* each class in 3 of 4 seeds */
	swarm_disk(sim, allowed, &f);
	if (allowed & PST_SIM_NET_TIMING) {
		f.net_ns_min = 1000;
		f.net_ns_max = (uint64_t)1000 << pst_sim_rand_below(sim, 14);
		f.net_window_bytes = 512u << pst_sim_rand_below(sim, 12);
		f.net_split_ppm = 20 * swarm_ppm(sim);
		f.net_stall_ppm = swarm_ppm(sim) / 100;
		f.net_stall_ns_max = 2000000000;
	}
	if (allowed & PST_SIM_NET_BREAKS) {
		f.net_reset_ppm = swarm_ppm(sim) / 100;
		f.net_refuse_ppm = swarm_ppm(sim) * 10;
	}
	*ret_faults = f;
}

char *pst_sim_faults_describe(const struct pst_sim_faults *f, char *buf, size_t size)
{
	snprintf(buf, size,
		 "disk(max_us=%" PRIu64
		 " slow=%u stall=%u tear=%u keep=%u%% garbage=%d rderr=%u wrerr=%u flerr=%u lie=%u "
		 "latent=%u rot=%u lost=%u misdirect=%u misread=%u) net(max_us=%" PRIu64
		 " window=%u split=%u stall=%u reset=%u refuse=%u) ppm",
		 f->disk_ns_max / 1000, f->disk_slow_ppm, f->disk_stall_ppm, f->disk_tear_bytes, f->disk_keep_percent,
		 f->disk_discard_garbage, f->disk_read_error_ppm, f->disk_write_error_ppm, f->disk_flush_error_ppm,
		 f->disk_flush_lie_ppm, f->disk_latent_ppm, f->disk_rot_ppm, f->disk_lost_ppm, f->disk_misdirect_ppm,
		 f->disk_misread_ppm, f->net_ns_max / 1000, f->net_window_bytes, f->net_split_ppm, f->net_stall_ppm,
		 f->net_reset_ppm, f->net_refuse_ppm);
	return buf;
}

/* ---- Running ---- */

static struct pst_env *sim_env_next(struct pst_sim *sim)
{
	struct pst_timer *best = pst_timers_first(&sim->events);
	struct pst_env *best_env = NULL;

	for (uint32_t i = 0; i < sim->node_count; i++)
		PST_LIST_EACH(at, &sim->nodes[i]->live_envs) {
			struct pst_env *env = pst_container_of(at, struct pst_env, live_node);
			struct pst_timer *timer = pst_timers_first(&env->timers);

			if (timer && (!best || timer->deadline_ns < best->deadline_ns)) {
				best = timer;
				best_env = env;
			}
		}
	return best_env;
}

static uint64_t sim_next_ns(struct pst_sim *sim, struct pst_env **ret_env)
{
	struct pst_env *env = sim_env_next(sim);
	struct pst_timer *next = env ? pst_timers_first(&env->timers) : pst_timers_first(&sim->events);

	*ret_env = env;
	return next ? next->deadline_ns : UINT64_MAX;
}

static void sim_run_next(struct pst_sim *sim, struct pst_env *env)
{
	struct pst_timer *event = env ? pst_timers_first(&env->timers) : pst_timers_first(&sim->events);

	sim->now_ns = PST_MAX(sim->now_ns, event->deadline_ns) + sim_between(sim, 20, 200);
	sim->stats.steps++;
	if (env) {
		sim_trace(sim, env, "timer", event->deadline_ns, 0, 0);
		pst_timers_disarm(&env->timers, event);
		sim_enter(env);
		event->fn(event);
		sim_leave(env);
	} else {
		pst_timers_disarm(&sim->events, event);
		event->fn(event);
	}
}

bool pst_sim_step(struct pst_sim *sim)
{
	struct pst_env *env;

	if (sim_next_ns(sim, &env) == UINT64_MAX)
		return false;
	sim_run_next(sim, env);
	return true;
}

void pst_sim_run_for(struct pst_sim *sim, uint64_t span_ns)
{
	uint64_t end_ns = sim->now_ns + span_ns;
	struct pst_env *env;

	while (sim_next_ns(sim, &env) <= end_ns && sim->now_ns < end_ns)
		sim_run_next(sim, env);
	sim->now_ns = PST_MAX(sim->now_ns, end_ns);
}

bool pst_sim_run_until(struct pst_sim *sim, pst_sim_predicate *predicate, void *ctx, uint64_t limit_ns)
{
	uint64_t end_ns = sim->now_ns + limit_ns;
	struct pst_env *env;

	while (!predicate(ctx)) {
		if (sim->now_ns >= end_ns || sim_next_ns(sim, &env) > end_ns)
			return false;
		sim_run_next(sim, env);
	}
	return true;
}

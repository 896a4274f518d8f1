/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The target as a whole, on its home shard: listeners, subsystems, statistics, and the orderly end of each. Removal and
 * stopping are countdowns: what is still alive is counted, and whoever goes last completes the operation.
 */
#include "target/internal.h"

#include <stdlib.h>
#include <string.h>

/* ---- Birth ---- */

static pst_err shard_init(struct pst_shard *shard, struct pst_target *target, struct pst_env *env, uint32_t index)
{
	shard->target = target;
	shard->env = env;
	shard->index = index;
	pst_list_init(&shard->queues);
	pst_list_init(&shard->dirty);
	pst_list_init(&shard->hungry);
	pst_list_init(&shard->listeners);
	pst_list_init(&shard->half_open);
	shard->dirty_post.fn = pst_shard_run_dirty;
	pst_timer_init(&shard->tick, pst_shard_tick);
	return pst_buffers_init(&shard->buffers, target->config.buffer_bytes_max, target->config.transfer_bytes_max);
}

static void target_free(struct pst_target *target)
{
	if (target->shard_count > 0)
		pst_access_done(target);
	pst_discovery_done(target);
	pst_hash_done(&target->guests);
	pst_hash_done(&target->subsystem_names);
	pst_hash_done(&target->ctrl_ids);
	for (uint32_t i = 0; i < target->shard_count; i++)
		pst_buffers_done(&target->shards[i].buffers);
	pst_tls_context_free(target->tls);
	free(target->shards);
	free(target);
}

pst_err pst_target_new(struct pst_env *const *envs, uint32_t env_count, const struct pst_target_config *config,
		       struct pst_target **ret_target)
{
	struct pst_target *target = calloc(1, sizeof(*target));
	char why[PST_LIMIT_WHY_BYTES];
	pst_err err = PST_E_NOMEM;
	uint64_t seed;

	pst_assert(env_count > 0);
	if (target == NULL)
		return PST_E_NOMEM;
	target->config = *config;
	pst_env_random(envs[0], &seed, sizeof(seed));
	pst_hash_init(&target->guests, seed);
	pst_hash_init(&target->subsystem_names, seed);
	pst_hash_init(&target->ctrl_ids, seed);
	pst_list_init(&target->subsystems);
	pst_list_init(&target->ctrls);
	pst_list_init(&target->hosts);
	pst_list_init(&target->auth_line);
	pst_timer_init(&target->auth_timer, pst_auth_turn);
	target->cntlid_next = (uint16_t)seed;
	pst_list_init(&target->views);
	target->shards = calloc(env_count, sizeof(*target->shards));
	if (target->shards == NULL)
		goto fail;
	err = pst_target_config_complete(&target->config, why);
	if (err != PST_OK)
		goto fail;
	for (uint32_t i = 0; i < env_count; i++) {
		err = shard_init(&target->shards[i], target, envs[i], i);
		if (err != PST_OK)
			goto fail;
		target->shard_count++;
	}
	pst_discovery_init(target);
	*ret_target = target;
	return PST_OK;
fail:
	target_free(target);
	return err;
}

/* ---- Listeners ---- */

static pst_err listener_open(struct pst_target_listener *it, struct pst_shard *shard, unsigned port,
			     const struct pst_addr *addr)
{
	it->shard = shard;
	it->port = port;
	it->addr = *addr;
	return pst_listen(shard->env, addr, pst_queue_accept, it, &it->listener);
}

static void listen_there(struct pst_post *post)
{
	struct pst_target_listener *it = pst_container_of(post, struct pst_target_listener, post);
	pst_err err = it->shard->stopping ? PST_E_CANCELLED : listener_open(it, it->shard, it->port, &it->addr);
	char text[72];

	if (err == PST_OK) {
		pst_list_push_back(&it->shard->listeners, &it->node);
		return;
	}
	if (err != PST_E_CANCELLED)
		pst_env_log(it->shard->env, PST_LOG_WARN,
			    "listen_failed shard=%u addr=%s error=\"%s\" next=\"others serve\"", it->shard->index,
			    pst_addr_format(&it->addr, text), pst_err_text(err));
	free(it);
}

/* The next port: hosts that come as soon as it is open find all in its place. */
static pst_err port_prepare(struct pst_target *target, const struct pst_target_port *config)
{
	struct pst_port *port = &target->ports[target->port_count];

	pst_assert(config->id > 0);
	for (unsigned i = 0; i < target->port_count; i++)
		if (target->ports[i].id == config->id)
			return PST_E_EXISTS;
	if (target->port_count == PST_TARGET_PORTS_MAX)
		return PST_E_NOMEM;
	port->id = config->id;
	port->tls = config->tls;
	if (config->ana != NULL)
		memcpy(port->ana, config->ana, sizeof(port->ana));
	else
		memset(port->ana, PST_ANA_OPTIMIZED, sizeof(port->ana));
	PST_LIST_EACH(node, &target->subsystems)
		pst_ana_begin(pst_container_of(node, struct pst_subsystem, node), target->port_count);
	return PST_OK;
}

pst_err pst_target_listen(struct pst_target *target, const struct pst_target_port *config, struct pst_addr *ret_bound)
{
	struct pst_target_listener *first;
	unsigned port = target->port_count;
	pst_err err = port_prepare(target, config);

	if (err != PST_OK)
		return err;
	first = calloc(1, sizeof(*first));
	if (first == NULL)
		return PST_E_NOMEM;
	if (config->tls != PST_TARGET_TLS_OFF && target->tls == NULL)
		err = pst_tls_context_new(PST_TLS_TARGET, &target->tls);
	if (err == PST_OK)
		err = listener_open(first, &target->shards[0], port, &config->addr);
	if (err != PST_OK) {
		free(first);
		return err;
	}
	pst_list_push_back(&target->shards[0].listeners, &first->node);
	pst_listener_addr(first->listener, ret_bound);
	target->ports[port].bound = *ret_bound;
	target->port_count++;
	pst_discovery_changed_for_all(target);
	for (uint32_t i = 1; i < target->shard_count; i++) {
		struct pst_target_listener *it = calloc(1, sizeof(*it));

		if (it == NULL) /* the home shard serves, which is what the caller was promised */
			break;
		it->shard = &target->shards[i];
		it->port = port;
		it->addr = *ret_bound;
		it->post.fn = listen_there;
		pst_env_post(it->shard->env, &it->post);
	}
	return PST_OK;
}

/* ---- Stopping ---- */

static void stop_done(struct pst_post *post)
{
	struct pst_target *target = pst_container_of(post, struct pst_target, stop_post);
	struct pst_target_stop_op *op = target->stop;

	pst_timer_disarm(pst_target_home(target), &target->auth_timer);
	target_free(target);
	op->done(op);
}

void pst_target_check_stopped(struct pst_target *target)
{
	if (!target->stopping || target->stop_done_posted || target->shards_stopped < target->shard_count ||
	    atomic_load(&target->queue_count) != 0)
		return;
	target->stop_done_posted = true;
	target->stop_post.fn = stop_done;
	pst_env_post(pst_target_home(target), &target->stop_post);
}

static void shard_stopped(struct pst_post *post)
{
	struct pst_shard *shard = pst_container_of(post, struct pst_shard, stop_post);

	shard->target->shards_stopped++;
	pst_target_check_stopped(shard->target);
}

static void shard_stop(struct pst_post *post)
{
	struct pst_shard *shard = pst_container_of(post, struct pst_shard, stop_post);
	struct pst_list *node;

	shard->stopping = true;
	pst_timer_disarm(shard->env, &shard->tick);
	while ((node = pst_list_pop_front(&shard->listeners)) != NULL) {
		struct pst_target_listener *it = pst_container_of(node, struct pst_target_listener, node);

		pst_listener_close(it->listener);
		free(it);
	}
	PST_LIST_EACH(queue, &shard->queues)
		pst_queue_close(pst_container_of(queue, struct pst_queue, shard_node), "the target stops");
	post->fn = shard_stopped;
	pst_env_post(pst_target_home(shard->target), post);
}

void pst_target_quiesce(struct pst_target *target)
{
	atomic_store(&target->quiet, true);
}

void pst_target_stop(struct pst_target *target, struct pst_target_stop_op *op)
{
	pst_assert(pst_list_empty(&target->subsystems) && !target->stopping && op->done != NULL);
	target->stopping = true;
	target->stop = op;
	for (uint32_t i = 0; i < target->shard_count; i++) {
		target->shards[i].stop_post.fn = shard_stop;
		pst_env_post(target->shards[i].env, &target->shards[i].stop_post);
	}
}

/* ---- Subsystems ---- */

struct pst_subsystem *pst_subsystem_find(struct pst_target *target, const char *nqn)
{
	PST_HASH_EACH(it, &target->subsystem_names, pst_hash_string(&target->subsystem_names, nqn))
	{
		struct pst_subsystem *subsystem = pst_container_of(it, struct pst_subsystem, name_node);

		if (strcmp(subsystem->nqn, nqn) == 0)
			return subsystem;
	}
	return NULL;
}

pst_err pst_subsystem_add(struct pst_target *target, const struct pst_subsystem_config *config,
			  struct pst_subsystem **ret_subsystem)
{
	struct pst_subsystem *subsystem;
	pst_err err;

	if (strlen(config->nqn) > PST_NQN_MAX || strlen(config->serial) > 20 || strlen(config->model) > 40 ||
	    config->nsid == 0 || config->nsid >= 0xfffffffe || config->ana_group > PST_ANA_GROUPS_MAX)
		return PST_E_INVAL;
	if (pst_discovery_is(target, config->nqn) || pst_subsystem_find(target, config->nqn) != NULL)
		return PST_E_EXISTS;
	subsystem = calloc(1, sizeof(*subsystem));
	if (subsystem == NULL)
		return PST_E_NOMEM;
	subsystem->shard_stats = calloc(target->shard_count, sizeof(*subsystem->shard_stats));
	subsystem->gate.scratch = aligned_alloc(PST_BLOCK_BYTES, PST_GATE_SCRATCH_BYTES); /* resident when it is used */
	err = subsystem->shard_stats != NULL && subsystem->gate.scratch != NULL
		  ? pst_reservations_init(&subsystem->reservations, config)
		  : PST_E_NOMEM;
	if (err != PST_OK) {
		free(subsystem->gate.scratch);
		free(subsystem->shard_stats);
		free(subsystem);
		return err;
	}
	if (pst_access_list_set(subsystem, &config->allow) != PST_OK) {
		free(subsystem->gate.scratch);
		free(subsystem->shard_stats);
		free(subsystem);
		return PST_E_NOMEM;
	}
	pst_gate_init(&subsystem->gate, &subsystem->reservations.state);
	subsystem->target = target;
	subsystem->ana_group = config->ana_group > 0 ? config->ana_group : 1;
	subsystem->detached = config->detached;
	for (unsigned port = 0; port < target->port_count; port++)
		pst_ana_begin(subsystem, port);
	memcpy(subsystem->nqn, config->nqn, strlen(config->nqn)); /* zeroed, and checked above */
	memcpy(subsystem->serial, config->serial, strlen(config->serial));
	memcpy(subsystem->model, config->model, strlen(config->model));
	subsystem->nsid = config->nsid;
	memcpy(subsystem->uuid, config->uuid, sizeof(subsystem->uuid));
	subsystem->volume = config->volume;
	subsystem->flow = config->flow;
	subsystem->added_ns = pst_env_now_ns(pst_target_home(target));
	pst_list_init(&subsystem->queues);
	pst_list_push_back(&target->subsystems, &subsystem->node);
	pst_hash_add(&target->subsystem_names, &subsystem->name_node,
		     pst_hash_string(&target->subsystem_names, subsystem->nqn));
	pst_discovery_changed(subsystem);
	*ret_subsystem = subsystem;
	return PST_OK;
}

static void removed(struct pst_post *post)
{
	struct pst_subsystem *subsystem = pst_container_of(post, struct pst_subsystem, remove_post);
	struct pst_subsystem_remove_op *op = subsystem->remove;

	free(subsystem->allowed);
	free(subsystem->gate.scratch);
	free(subsystem->shard_stats);
	free(subsystem);
	op->done(op);
}

void pst_subsystem_check_removed(struct pst_subsystem *subsystem)
{
	if (subsystem->remove == NULL || subsystem->remove_posted || subsystem->queue_count != 0 ||
	    subsystem->ctrl_count != 0 || subsystem->ana_op != NULL)
		return;
	subsystem->remove_posted = true;
	subsystem->remove_post.fn = removed;
	pst_env_post(pst_target_home(subsystem->target), &subsystem->remove_post);
}

void pst_subsystem_remove(struct pst_subsystem *subsystem, struct pst_subsystem_remove_op *op)
{
	struct pst_target *target = subsystem->target;

	pst_assert(subsystem->remove == NULL && op->done != NULL);
	subsystem->remove = op;
	pst_list_remove(&subsystem->node);
	pst_hash_remove(&target->subsystem_names, &subsystem->name_node);
	PST_LIST_EACH(node, &target->ctrls) {
		struct pst_ctrl *ctrl = pst_container_of(node, struct pst_ctrl, node);

		if (ctrl->subsystem == subsystem)
			pst_ctrl_kill(ctrl, "the volume is removed");
	}
	pst_discovery_changed(subsystem);
	pst_subsystem_check_removed(subsystem);
}

void pst_subsystem_resized(struct pst_subsystem *subsystem)
{
	PST_LIST_EACH(node, &subsystem->target->ctrls) {
		struct pst_ctrl *ctrl = pst_container_of(node, struct pst_ctrl, node);

		if (ctrl->subsystem == subsystem)
			pst_ctrl_raise(ctrl, PST_EVENT_NS_CHANGED);
	}
}

uint32_t pst_subsystem_host_count(struct pst_subsystem *subsystem)
{
	return subsystem->host_count;
}

/* ---- Statistics ---- */

static uint64_t difference(_Atomic uint64_t *now, uint64_t *seen)
{
	uint64_t value = atomic_load_explicit(now, memory_order_relaxed);
	uint64_t more = value - *seen;

	*seen = value;
	return more;
}

void pst_subsystem_fold_sockets(struct pst_subsystem *subsystem, struct pst_queue *queue)
{
	subsystem->socket_received += difference(&queue->socket_received, &queue->seen_received);
	subsystem->socket_sent += difference(&queue->socket_sent, &queue->seen_sent);
	subsystem->retransmits += difference(&queue->retransmits, &queue->seen_retransmits);
}

void pst_subsystem_stats(struct pst_subsystem *subsystem, struct pst_subsystem_stats *ret_stats)
{
	struct pst_target *target = subsystem->target;

	memset(ret_stats, 0, sizeof(*ret_stats));
	for (uint32_t i = 0; i < target->shard_count; i++) {
		const struct pst_shard_stats *stats = &subsystem->shard_stats[i];

		for (unsigned kind = 0; kind < 4; kind++) {
			pst_hist_merge(&ret_stats->latency[kind], &stats->latency[kind]);
			ret_stats->ops[kind] += stats->ops[kind];
			ret_stats->errors[kind] += stats->errors[kind];
		}
		pst_hist_merge(&ret_stats->wait_qos, &stats->wait_qos);
		pst_hist_merge(&ret_stats->wait_device, &stats->wait_device);
		ret_stats->media_errors += stats->media_errors;
		ret_stats->bytes_read += stats->bytes_read;
		ret_stats->bytes_written += stats->bytes_written;
	}
	PST_LIST_EACH(node, &subsystem->queues) {
		struct pst_queue *queue = pst_container_of(node, struct pst_queue, subsystem_node);

		if (queue->shard == &target->shards[0]) /* others are as fresh as their shard's last tick */
			pst_queue_refresh_sockets(queue);
		pst_subsystem_fold_sockets(subsystem, queue);
	}
	ret_stats->socket_bytes_received = subsystem->socket_received;
	ret_stats->socket_bytes_sent = subsystem->socket_sent;
	ret_stats->retransmits = subsystem->retransmits;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Asymmetric namespace access (NVM Express Base 2.0, 8.1): through which ports hosts may use which volumes, and how
 * well. The state is of a pair of port and group; a volume is in one group. Who knows it:
 *
 *   ports[].ana            home: what the operator has set
 *   subsystem->ana         home writes, connections' shards read: what hosts are told, and a first look at commands
 *   gate->ana              volume's shard: what counts
 *
 * A change, for each subsystem that it is about:
 *
 *   what closes is told -> in force at the gate -> all is told, with an event -> done, when what the gate had let in
 *   of the closed paths is out of the volume: soon, since what waits there is recalled
 *
 * So a host that was refused on a path finds no better news of it in the log, and a path that is told to be open is.
 * After an answer with the status of a closed path nothing that came on it gets to the volume any more; what is there
 * already is ordered before later writes of the same blocks by the gate (gate.c).
 */
#include "target/internal.h"

static const struct {
	enum pst_ana_state state;
	const char *name;
	/* Base 2.0, 8.1.3.3, 8.1.3.4, 8.1.3.5, 8.1.4. Do Not Retry is clear: hosts are to try another path. */
	uint16_t status;
} states[] = {
	{ PST_ANA_OPTIMIZED, "optimized", NVME_SUCCESS },
	{ PST_ANA_NON_OPTIMIZED, "non-optimized", NVME_SUCCESS },
	{ PST_ANA_INACCESSIBLE, "inaccessible", NVME_ANA_INACCESSIBLE },
	{ PST_ANA_PERSISTENT_LOSS, "persistent-loss", NVME_ANA_PERSISTENT_LOSS },
	{ PST_ANA_CHANGE, "change", NVME_ANA_TRANSITION },
};

const char *pst_ana_state_name(enum pst_ana_state state)
{
	for (size_t i = 0; i < PST_ARRAY_COUNT(states); i++)
		if (states[i].state == state)
			return states[i].name;
	return NULL;
}

bool pst_ana_state_find(const char *name, enum pst_ana_state *ret_state)
{
	for (size_t i = 0; i < PST_ARRAY_COUNT(states); i++)
		if (strcmp(states[i].name, name) == 0) {
			*ret_state = states[i].state;
			return true;
		}
	return false;
}

uint16_t pst_ana_status(uint8_t state)
{
	if (state == PST_ANA_DETACHED)
		return NVME_INVALID_NAMESPACE | NVME_STATUS_DNR;
	for (size_t i = 0; i < PST_ARRAY_COUNT(states); i++)
		if (states[i].state == state)
			return states[i].status;
	pst_assert(false);
}

uint16_t pst_ana_look(const struct pst_cmd *cmd)
{
	return pst_ana_status(atomic_load(&cmd->queue->subsystem->ana[cmd->queue->port]));
}

/* ---- States ---- */

static uint8_t state_set(const struct pst_subsystem *subsystem, unsigned port)
{
	return subsystem->detached ? PST_ANA_DETACHED : subsystem->target->ports[port].ana[subsystem->ana_group - 1];
}

void pst_ana_begin(struct pst_subsystem *subsystem, unsigned port)
{
	atomic_store(&subsystem->ana[port], state_set(subsystem, port));
	subsystem->gate.ana[port] = state_set(subsystem, port); /* nobody comes this way yet */
	subsystem->ana_changes[port] = 1;                       /* 0 would mean that changes are not counted */
}

static void part_over(struct pst_subsystem *subsystem)
{
	struct pst_target *target = subsystem->target;
	struct pst_ana_op *op = subsystem->ana_op;

	if (--subsystem->ana_parts == 0) {
		subsystem->ana_op = NULL;
		pst_subsystem_check_removed(subsystem);
	}
	if (--op->parts > 0)
		return;
	target->ana_op = NULL;
	op->done(op);
}

static void drained(struct pst_post *post)
{
	part_over(pst_container_of(post, struct pst_subsystem, ana_drained_post));
}

void pst_ana_drained(struct pst_gate *gate)
{
	struct pst_subsystem *subsystem = pst_container_of(gate, struct pst_subsystem, gate);

	subsystem->ana_drained_post.fn = drained;
	pst_env_post(pst_target_home(subsystem->target), &subsystem->ana_drained_post);
}

/* Base 2.0, 8.1.3.6: controllers of the ports that have changed tell their hosts. */
static void in_force(struct pst_post *post)
{
	struct pst_subsystem *subsystem = pst_container_of(post, struct pst_subsystem, ana_post);
	struct pst_target *target = subsystem->target;

	for (unsigned port = 0; port < target->port_count; port++)
		atomic_store(&subsystem->ana[port], subsystem->ana_next[port]);
	PST_LIST_EACH(node, &target->ctrls) {
		struct pst_ctrl *ctrl = pst_container_of(node, struct pst_ctrl, node);

		if (ctrl->subsystem == subsystem && ctrl->ana_changes != subsystem->ana_changes[ctrl->port]) {
			ctrl->ana_changes = subsystem->ana_changes[ctrl->port];
			pst_ctrl_raise(ctrl, PST_EVENT_ANA_CHANGED);
		}
	}
	if (subsystem->ns_changed)
		pst_subsystem_resized(subsystem);
	subsystem->ns_changed = false;
	part_over(subsystem);
}

static void change_there(struct pst_post *post)
{
	struct pst_subsystem *subsystem = pst_container_of(post, struct pst_subsystem, ana_post);

	pst_gate_set_ana(&subsystem->gate, subsystem->ana_next);
	post->fn = in_force;
	pst_env_post(pst_target_home(subsystem->target), post);
}

static void change(struct pst_subsystem *subsystem, struct pst_ana_op *op)
{
	subsystem->ana_op = op;
	subsystem->ana_parts = 2; /* in force; drained */
	op->parts += 2;
	for (unsigned port = 0; port < subsystem->target->port_count; port++) {
		uint8_t state = state_set(subsystem, port);

		subsystem->ana_next[port] = state;
		subsystem->ana_changes[port] += state != atomic_load(&subsystem->ana[port]);
		if (pst_ana_status(state) != NVME_SUCCESS)
			atomic_store(&subsystem->ana[port], state);
	}
	subsystem->ana_post.fn = change_there;
	pst_env_post(subsystem->volume->env, &subsystem->ana_post);
}

/* The call's own part of the countdown, on a turn of its own. */
static void called(struct pst_post *post)
{
	struct pst_target *target = pst_container_of(post, struct pst_target, ana_post);
	struct pst_ana_op *op = target->ana_op;

	if (--op->parts > 0)
		return;
	target->ana_op = NULL;
	op->done(op);
}

static void call(struct pst_target *target, struct pst_ana_op *op)
{
	pst_assert(target->ana_op == NULL && op->done != NULL);
	target->ana_op = op;
	op->parts = 1;
	target->ana_post.fn = called;
	pst_env_post(pst_target_home(target), &target->ana_post);
}

pst_err pst_target_set_ana(struct pst_target *target, uint16_t port_id, uint32_t groups, enum pst_ana_state state,
			   struct pst_ana_op *op)
{
	unsigned port = 0;

	pst_assert(pst_ana_state_name(state) != NULL);
	while (port < target->port_count && target->ports[port].id != port_id)
		port++;
	if (port == target->port_count)
		return PST_E_NOTFOUND;
	call(target, op);
	for (uint32_t group = 0; group < PST_ANA_GROUPS_MAX; group++)
		if ((groups >> group & 1) != 0)
			target->ports[port].ana[group] = (uint8_t)state;
	PST_LIST_EACH(node, &target->subsystems) {
		struct pst_subsystem *subsystem = pst_container_of(node, struct pst_subsystem, node);

		if ((groups >> (subsystem->ana_group - 1) & 1) != 0)
			change(subsystem, op);
	}
	return PST_OK;
}

void pst_subsystem_set_group(struct pst_subsystem *subsystem, uint32_t group, struct pst_ana_op *op)
{
	pst_assert(group > 0 && group <= PST_ANA_GROUPS_MAX);
	call(subsystem->target, op);
	if (group == subsystem->ana_group)
		return;
	subsystem->ana_group = group;
	for (unsigned port = 0; port < subsystem->target->port_count; port++)
		subsystem->ana_changes[port]++; /* the log shows another group; no event 2h/00h (Base 2.0, 5.2) */
	change(subsystem, op);
}

void pst_subsystem_set_attached(struct pst_subsystem *subsystem, bool attached, struct pst_ana_op *op)
{
	call(subsystem->target, op);
	if (attached != subsystem->detached)
		return;
	subsystem->detached = !attached;
	subsystem->ns_changed = true;
	change(subsystem, op);
}

void pst_ana_log(const struct pst_ctrl *ctrl, bool groups_only, const struct pst_log_window *w)
{
	const struct pst_subsystem *subsystem = ctrl->subsystem;

	pst_log_ana(
	    &(struct pst_log_ana){
		.changes = subsystem->ana_changes[ctrl->port],
		.group = subsystem->ana_group,
		.nsid = subsystem->nsid,
		.state = atomic_load(&subsystem->ana[ctrl->port]),
		.groups_only = groups_only,
	    },
	    w);
}

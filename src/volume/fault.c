/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Each request takes a slot, which carries its own request for the lower volume. A slot goes HELD (delay or error: a
 * timer, so that a completion never runs inside submit; or paused, without one) -> LOWER (handed down) -> free. Without
 * a free slot requests wait in order.
 */
#include "volume/fault.h"

#include <stdlib.h>
#include <string.h>

struct fault;

struct fault_slot {
	struct fault *fault;
	struct pst_io lower;
	struct pst_io *upper;
	struct pst_timer timer;
	struct pst_list node; /* in fault->free */
	pst_err err;          /* to complete with when the timer fires; PST_OK: hand down */
	bool corrupt, held;
};

struct fault_rule {
	struct pst_fault_rule rule;
	uint64_t seen;
};

struct fault {
	struct pst_volume volume;
	struct pst_volume *lower;
	struct fault_slot *slots;
	uint32_t slot_count, busy;
	struct pst_list free;
	struct pst_list waiting; /* upper requests */
	struct fault_rule rules[PST_FAULT_RULES_MAX];
	uint32_t rule_count;
	uint64_t hits;
	struct pst_volume_close_op *closing;
	struct pst_volume_close_op lower_close;
};

static struct fault *to_fault(struct pst_volume *volume)
{
	return pst_container_of(volume, struct fault, volume);
}

static bool fits(const struct pst_fault_rule *r, const struct pst_io *io)
{
	if ((r->kinds & (1u << io->kind)) == 0)
		return false;
	return r->block_count == 0 || (io->lba < r->lba + r->block_count && r->lba < io->lba + io->block_count);
}

static const struct pst_fault_rule *rule_for(struct fault *f, const struct pst_io *io)
{
	for (uint32_t i = 0; i < f->rule_count; i++) {
		struct fault_rule *r = &f->rules[i];

		if (!fits(&r->rule, io))
			continue;
		r->seen++;
		if (r->seen <= r->rule.skip || (r->rule.count != 0 && r->seen > r->rule.skip + r->rule.count))
			continue;
		f->hits++;
		return &r->rule;
	}
	return NULL;
}

static void start(struct fault *f, struct pst_io *io);

static void lower_closed(struct pst_volume_close_op *op)
{
	struct fault *f = pst_container_of(op, struct fault, lower_close);
	struct pst_volume_close_op *closing = f->closing;

	free(f->slots);
	free(f);
	closing->done(closing);
}

static void close_when_idle(struct fault *f)
{
	bool begun = f->lower_close.done != NULL;

	if (f->closing == NULL || begun || f->busy > 0 || !pst_list_empty(&f->waiting))
		return;
	f->lower_close.done = lower_closed;
	pst_volume_close(f->lower, &f->lower_close);
}

static void slot_complete(struct fault_slot *s, pst_err err)
{
	struct fault *f = s->fault;
	struct pst_io *upper = s->upper;
	struct pst_list *next;

	upper->err = err;
	upper->device_ns = s->lower.device_ns;
	s->upper = NULL;
	f->busy--;
	pst_list_push_back(&f->free, &s->node);
	next = pst_list_pop_front(&f->waiting);
	if (next != NULL)
		start(f, pst_container_of(next, struct pst_io, node));
	upper->done(upper);
	close_when_idle(f);
}

static void lower_done(struct pst_io *lower)
{
	struct fault_slot *s = pst_container_of(lower, struct fault_slot, lower);

	if (s->corrupt && lower->err == PST_OK)
		*(char *)lower->iov[0].iov_base ^= 0x01;
	slot_complete(s, lower->err);
}

static void hand_down(struct fault_slot *s)
{
	const struct pst_io *upper = s->upper;

	s->held = false;
	s->lower = (struct pst_io){
		.kind = upper->kind,
		.flags = upper->flags,
		.lba = upper->lba,
		.block_count = upper->block_count,
		.iov = upper->iov,
		.iov_count = upper->iov_count,
		.holes = upper->holes,
		.done = lower_done,
	};
	pst_volume_submit(s->fault->lower, &s->lower);
}

static void timer_fired(struct pst_timer *timer)
{
	struct fault_slot *s = pst_container_of(timer, struct fault_slot, timer);

	if (s->err != PST_OK)
		slot_complete(s, s->err);
	else
		hand_down(s);
}

/* What is paused goes on, or ends with @err. */
static void unpause(struct fault_slot *s, pst_err err)
{
	s->err = err;
	pst_timer_arm(s->fault->volume.env, &s->timer, pst_env_now_ns(s->fault->volume.env));
}

static void start(struct fault *f, struct pst_io *io)
{
	struct fault_slot *s = pst_container_of(pst_list_pop_front(&f->free), struct fault_slot, node);
	const struct pst_fault_rule *rule;

	f->busy++;
	s->upper = io;
	s->err = PST_OK;
	if (io->recalled) { /* while it waited for a slot */
		s->held = true;
		unpause(s, PST_E_CANCELLED);
		return;
	}
	rule = rule_for(f, io);
	s->corrupt = rule != NULL && rule->action == PST_FAULT_CORRUPT && io->kind == PST_IO_READ;
	s->lower.device_ns = 0;
	if (rule == NULL || rule->action == PST_FAULT_CORRUPT) {
		hand_down(s);
		return;
	}
	s->held = true;
	if (rule->action == PST_FAULT_ERROR)
		s->err = rule->err;
	if (rule->action != PST_FAULT_PAUSE)
		pst_timer_arm(f->volume.env, &s->timer, pst_env_now_ns(f->volume.env) + rule->delay_ns);
}

static bool paused(const struct fault_slot *s)
{
	return s->upper != NULL && s->held && !pst_timer_armed(&s->timer);
}

static void unpause_all(struct fault *f, pst_err err)
{
	for (uint32_t i = 0; i < f->slot_count; i++)
		if (paused(&f->slots[i]))
			unpause(&f->slots[i], err);
}

static void fault_recall(struct pst_volume *volume, struct pst_io *io)
{
	struct fault *f = to_fault(volume);

	for (uint32_t i = 0; i < f->slot_count; i++) {
		struct fault_slot *s = &f->slots[i];

		if (s->upper != io)
			continue;
		if (paused(s))
			unpause(s, PST_E_CANCELLED);
		else if (!s->held)
			pst_volume_recall(f->lower, &s->lower);
	}
}

static void fault_submit(struct pst_volume *volume, struct pst_io *io)
{
	struct fault *f = to_fault(volume);

	if (pst_list_empty(&f->free))
		pst_list_push_back(&f->waiting, &io->node);
	else
		start(f, io);
}

static void fault_stats(struct pst_volume *volume, struct pst_volume_stats *ret_stats)
{
	pst_volume_stats(to_fault(volume)->lower, ret_stats);
}

static void fault_close(struct pst_volume *volume, struct pst_volume_close_op *op)
{
	struct fault *f = to_fault(volume);

	f->closing = op;
	unpause_all(f, PST_E_CANCELLED);
	close_when_idle(f);
}

static void fault_resized(struct pst_volume *volume)
{
	struct fault *f = to_fault(volume);

	pst_volume_resized(f->lower);
	f->volume.block_count = f->lower->block_count;
}

static const struct pst_volume_ops fault_ops = {
	.name = "fault",
	.submit = fault_submit,
	.stats = fault_stats,
	.close = fault_close,
	.resized = fault_resized,
	.recall = fault_recall,
};

pst_err pst_fault_new(struct pst_volume *lower, uint32_t io_max, struct pst_volume **ret_volume)
{
	struct fault *f;

	if (io_max == 0)
		return PST_E_INVAL;
	f = calloc(1, sizeof(*f));
	if (f == NULL)
		return PST_E_NOMEM;
	f->slots = calloc(io_max, sizeof(f->slots[0]));
	if (f->slots == NULL) {
		free(f);
		return PST_E_NOMEM;
	}
	f->slot_count = io_max;
	f->volume = *lower;
	f->volume.ops = &fault_ops;
	f->lower = lower;
	pst_list_init(&f->free);
	pst_list_init(&f->waiting);
	for (uint32_t i = 0; i < io_max; i++) {
		f->slots[i].fault = f;
		pst_timer_init(&f->slots[i].timer, timer_fired);
		pst_list_push_back(&f->free, &f->slots[i].node);
	}
	*ret_volume = &f->volume;
	return PST_OK;
}

pst_err pst_fault_add(struct pst_volume *fault, const struct pst_fault_rule *rule)
{
	struct fault *f = to_fault(fault);

	if (f->rule_count == PST_FAULT_RULES_MAX)
		return PST_E_NOMEM;
	f->rules[f->rule_count++] = (struct fault_rule){ .rule = *rule };
	return PST_OK;
}

void pst_fault_clear(struct pst_volume *fault)
{
	to_fault(fault)->rule_count = 0;
	unpause_all(to_fault(fault), PST_OK);
}

uint64_t pst_fault_hits(struct pst_volume *fault)
{
	return to_fault(fault)->hits;
}

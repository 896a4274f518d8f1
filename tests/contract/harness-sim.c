/* SPDX-License-Identifier: Apache-2.0 */
#include "env/sim/sim.h"
#include "harness.h"

void harness_select(int argc, char **argv)
{
	(void)argv;
	if (argc != 1) {
		fprintf(stderr, "usage: contract-sim (no arguments)\n");
		exit(2);
	}
}

const char *harness_name(void)
{
	return "sim";
}

void harness_new(struct harness *h, uint32_t file_depth)
{
	struct pst_sim *sim = pst_sim_new(1);

	h->data = sim;
	h->env = pst_sim_env_new(pst_sim_node_new(sim, "machine"), file_depth);
	snprintf(h->dir, sizeof(h->dir), "/disk");
}

void harness_free(struct harness *h)
{
	pst_env_free(h->env);
	pst_sim_free(h->data);
}

uint64_t harness_deadline_ns(struct harness *h)
{
	return pst_env_now_ns(h->env) + 20000000000u;
}

bool harness_turn(struct harness *h, uint64_t deadline_ns)
{
	if (pst_sim_now_ns(h->data) >= deadline_ns)
		return false;
	return pst_sim_step(h->data);
}

bool harness_has_ipv6(struct harness *h)
{
	(void)h;
	return true;
}

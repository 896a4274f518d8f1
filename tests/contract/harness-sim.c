/* SPDX-License-Identifier: Apache-2.0 */
#include "env/sim/sim.h"
#include "harness.h"

static struct pst_sim_node *machine;

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
	machine = pst_sim_node_new(sim, "machine");
	h->env = pst_sim_env_new(machine, file_depth);
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

bool harness_occupy_port(struct harness *h, struct pst_addr *ret_addr)
{
	(void)h;
	(void)ret_addr;
	return false; /* a simulated machine runs one program */
}

void harness_release_port(struct harness *h)
{
	(void)h;
}

struct pst_env *harness_second_shard(struct harness *h)
{
	h->second = pst_sim_env_new(machine, 0);
	return h->second;
}

void harness_free_shard(struct harness *h, struct pst_env *shard)
{
	h->second = NULL;
	pst_env_free(shard);
}

bool harness_has_ipv6(struct harness *h)
{
	(void)h;
	return true;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the contract suite needs from an environment under test. harness-real.c makes an io_uring or posix shard with a
 * temporary directory, harness-sim.c a simulated one; the tests are the same source.
 */
#ifndef TESTS_CONTRACT_HARNESS_H
#define TESTS_CONTRACT_HARNESS_H

#include "env/env.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

struct harness {
	struct pst_env *env;
	char dir[128];
	bool real; /* a kernel is below, foreign threads exist */
	struct pst_env *second;
	int port_fd;
	void *data; /* the harness's own */
};

/* Reads argv; exits 77 with a reason when the environment asked for is not to be had here. */
void harness_select(int argc, char **argv);
const char *harness_name(void);

/* cmocka's setup and teardown; *state is a struct harness. @file_depth as in pst_env_config. */
int harness_setup(void **state);
int harness_teardown(void **state);
void harness_new(struct harness *h, uint32_t file_depth);
void harness_free(struct harness *h);

/* Run what is due, waiting a little if nothing is. False when a generous time has passed since the last true. */
bool harness_turn(struct harness *h, uint64_t deadline_ns);
uint64_t harness_deadline_ns(struct harness *h);

/* Is there an IPv6 loopback? */
bool harness_has_ipv6(struct harness *h);

/* Another program takes a port, with every option for sharing that it has. False: there is no other program here. */
bool harness_occupy_port(struct harness *h, struct pst_addr *ret_addr);
void harness_release_port(struct harness *h);

/* Another shard of the same program; harness_turn drives it too. */
struct pst_env *harness_second_shard(struct harness *h);
void harness_free_shard(struct harness *h, struct pst_env *shard);

static inline void harness_path(const struct harness *h, const char *name, char path[256])
{
	snprintf(path, 256, "%s/%s", h->dir, name);
}

#define HARNESS_RUN_UNTIL(h, cond)                                                                 \
	do {                                                                                       \
		uint64_t harness_end_ns = harness_deadline_ns(h);                                  \
		while (!(cond))                                                                    \
			if (!harness_turn(h, harness_end_ns))                                      \
				fail_msg("%s:%d: never came true: %s", __FILE__, __LINE__, #cond); \
	} while (0)

/* Nothing more happens in a while. */
#define HARNESS_SETTLE(h)                                                      \
	do {                                                                   \
		uint64_t harness_end_ns = pst_env_now_ns((h)->env) + 20000000; \
		while (harness_turn(h, harness_end_ns))                        \
			;                                                      \
	} while (0)

#endif

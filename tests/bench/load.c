/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A load on one volume over libpenstock's public API, driven by one polling thread: a closed loop of `depth`
 * operations, or with --rate N an open one: N operations a second, each timed from when it was due, `depth` of them at
 * most in flight.
 */
#include "measure.h"

#include "base/prng.h"
#include "penstock/penstock.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct pst_ns_options target = { .struct_bytes = sizeof(target), .traddr = "127.0.0.1" };
static int server_pid;
static uint32_t spin_us = 20;
static double rate; /* per second; 0: closed loop */

static bool option(const char *name, char *value)
{
	if (strcmp(name, "--nqn") == 0)
		target.subnqn = value;
	else if (strcmp(name, "--port") == 0)
		target.trsvcid = (uint16_t)strtoul(value, NULL, 10);
	else if (strcmp(name, "--server-pid") == 0)
		server_pid = (int)strtol(value, NULL, 10);
	else if (strcmp(name, "--spin-us") == 0)
		spin_us = (uint32_t)strtoul(value, NULL, 10);
	else if (strcmp(name, "--rate") == 0)
		rate = strtod(value, NULL);
	else if (strcmp(name, "--digests") == 0)
		target.header_digest = target.data_digest = strcmp(value, "on") == 0;
	else
		return false;
	return true;
}

struct slot;

struct run {
	struct measure_load load;
	struct measure measure;
	struct pst_prng prng;
	pst_ns *ns;
	uint64_t next, due_ns;
	bool measuring, stop;
	uint32_t outstanding;
	struct slot *free; /* open loop */
	pst_err err;
};

struct slot {
	struct pst_request request;
	struct iovec iov;
	struct run *run;
	uint64_t due_ns; /* open loop */
	struct slot *next;
};

static void start(struct slot *s)
{
	struct run *r = s->run;
	uint64_t blocks = r->load.span_bytes / r->load.block_bytes;
	uint64_t block = r->load.sequential ? r->next++ % blocks : pst_prng_below(&r->prng, blocks);

	s->request.offset_bytes = block * r->load.block_bytes;
	r->outstanding++;
	pst_ns_submit(r->ns, &s->request);
}

static void finished(struct pst_request *request)
{
	struct slot *s = request->arg;

	s->run->outstanding--;
	if (request->err != PST_OK) {
		s->run->err = request->err;
		s->run->stop = true;
	}
	if (s->run->measuring)
		pst_hist_add(&s->run->measure.latency, rate > 0 ? measure_now_ns() - s->due_ns : request->latency_ns);
	if (rate > 0) {
		s->next = s->run->free;
		s->run->free = s;
	} else if (!s->run->stop) {
		start(s);
	}
}

/* What is due is started. With nothing free it starts late, and its wait counts. */
static void start_due(struct run *r)
{
	while (!r->stop && r->free != NULL && measure_now_ns() >= r->due_ns) {
		struct slot *s = r->free;

		r->free = s->next;
		s->due_ns = r->due_ns;
		r->due_ns += (uint64_t)(1e9 / rate);
		start(s);
	}
}

static void poll_until(pst_host *host, struct run *r, double seconds)
{
	uint64_t end = measure_now_ns() + (uint64_t)(seconds * 1e9);

	while (!r->stop && measure_now_ns() < end) {
		if (rate > 0)
			start_due(r);
		pst_host_poll(host, rate > 0 ? 0 : 10);
	}
}

int main(int argc, char **argv)
{
	static struct run r;
	struct pst_host_options options = { .struct_bytes = sizeof(options), .caller_polls = true };
	pst_host *host;
	pst_err err;

	measure_parse(argc, argv, &r.load, option);
	measure_pin(r.load.cpu);
	pst_prng_init(&r.prng, r.load.seed);
	options.spin_us = spin_us;
	target.queue_entries = r.load.depth + 1;
	err = pst_host_open(&options, &host);
	if (err == PST_OK)
		err = pst_ns_connect(host, &target, &r.ns);
	if (err != PST_OK) {
		fprintf(stderr, "load: connect: %s\n", pst_err_text(err));
		return 1;
	}

	struct slot *slots = calloc(r.load.depth, sizeof(*slots));
	/* All writes take their data from the same place, as those of the bare exchange. */
	size_t memory_bytes = (r.load.write ? 1 : (size_t)r.load.depth) * r.load.block_bytes;
	char *memory = aligned_alloc(4096, memory_bytes);

	memset(memory, 1, memory_bytes);
	for (uint32_t i = 0; i < r.load.depth; i++) {
		char *buf = memory + (r.load.write ? 0 : (size_t)i * r.load.block_bytes);

		slots[i].run = &r;
		slots[i].iov = (struct iovec){ buf, r.load.block_bytes };
		slots[i].request = (struct pst_request){ .kind = r.load.write ? PST_REQUEST_WRITE : PST_REQUEST_READ,
							 .len_bytes = r.load.block_bytes,
							 .iov = &slots[i].iov,
							 .iov_count = 1,
							 .done = finished,
							 .arg = &slots[i] };
		if (rate > 0) {
			slots[i].next = r.free;
			r.free = &slots[i];
		} else {
			start(&slots[i]);
		}
	}
	r.due_ns = measure_now_ns();
	poll_until(host, &r, r.load.warmup_seconds);
	measure_begin(&r.measure, server_pid);
	r.measuring = true;
	poll_until(host, &r, r.load.seconds);
	r.measuring = false;
	if (r.err == PST_OK)
		measure_end(&r.measure, &r.load);
	r.stop = true;
	while (r.outstanding > 0)
		pst_host_poll(host, 10);
	pst_ns_disconnect(r.ns);
	pst_host_close(host);
	free(memory);
	free(slots);
	if (r.err != PST_OK) {
		fprintf(stderr, "load: %s\n", pst_err_text(r.err));
		return 1;
	}
	return 0;
}

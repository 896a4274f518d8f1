/* SPDX-License-Identifier: Apache-2.0 */
#include "bench/burst.h"

#include "penstock/penstock.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

struct burst {
	const struct pst_burst_config *config;
	pst_host *host;
	pst_ns *ns;
	uint64_t at, since_flush, written;
	uint32_t outstanding;
	bool flushing;
	pst_err err;
};

struct burst_write {
	struct pst_request request;
	struct iovec iov;
	struct burst *burst;
	bool in_flight;
};

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void request_done(struct pst_request *request)
{
	struct burst_write *w = request->arg;
	struct burst *b = w->burst;

	w->in_flight = false;
	b->outstanding--;
	if (request->err != PST_OK)
		b->err = request->err;
	else if (request->kind == PST_REQUEST_WRITE)
		b->written += request->len_bytes;
	else
		b->flushing = false;
}

static void submit(struct burst *b, struct burst_write *w, enum pst_request_kind kind)
{
	uint64_t bytes = kind == PST_REQUEST_WRITE ? b->config->write_bytes : 0;

	w->request = (struct pst_request){ .kind = kind,
					   .offset_bytes = bytes > 0 ? b->at : 0,
					   .len_bytes = bytes,
					   .iov = bytes > 0 ? &w->iov : NULL,
					   .iov_count = bytes > 0 ? 1 : 0,
					   .done = request_done,
					   .arg = w };
	if (bytes > 0)
		b->at = (b->at + bytes) % b->config->span_bytes;
	b->since_flush += bytes;
	w->in_flight = true;
	b->outstanding++;
	pst_ns_submit(b->ns, &w->request);
}

/* Keep the writes going; a checkpoint ends with a flush that nothing of the next one overtakes. */
static void keep_going(struct burst *b, struct burst_write *writes)
{
	for (uint32_t i = 0; i < b->config->depth && !b->flushing; i++) {
		if (writes[i].in_flight)
			continue;
		if (b->since_flush < b->config->checkpoint_bytes) {
			submit(b, &writes[i], PST_REQUEST_WRITE);
		} else if (b->outstanding == 0) {
			b->since_flush = 0;
			b->flushing = true;
			submit(b, &writes[i], PST_REQUEST_FLUSH);
		}
	}
}

static bool input_ended(void)
{
	struct pollfd in = { .fd = STDIN_FILENO, .events = POLLIN };
	char byte;

	return poll(&in, 1, 0) > 0 && read(STDIN_FILENO, &byte, 1) <= 0;
}

static void run(struct burst *b, struct burst_write *writes)
{
	uint64_t last = now_ns(), last_written = 0;

	while (b->err == PST_OK) {
		uint64_t now;

		keep_going(b, writes);
		pst_host_poll(b->host, (int)b->config->report_ms);
		now = now_ns();
		if (now - last < (uint64_t)b->config->report_ms * 1000000u)
			continue;
		printf("{\"t\":%.6f,\"mb_s\":%.3f}\n", (double)now / 1e9,
		       (double)(b->written - last_written) * 1e3 / (double)(now - last));
		fflush(stdout);
		last = now;
		last_written = b->written;
		if (input_ended())
			break;
	}
	while (b->outstanding > 0)
		pst_host_poll(b->host, 100);
}

static pst_err allocate(const struct pst_burst_config *config, struct burst *b, struct burst_write **ret_writes)
{
	struct burst_write *writes = calloc(config->depth, sizeof(*writes));

	if (writes == NULL)
		return PST_E_NOMEM;
	*ret_writes = writes;
	for (uint32_t i = 0; i < config->depth; i++) {
		uint64_t *data = aligned_alloc(4096, config->write_bytes);
		struct pst_prng prng;

		if (data == NULL)
			return PST_E_NOMEM;
		pst_prng_init(&prng, i);
		for (size_t k = 0; k < config->write_bytes / sizeof(*data); k++)
			data[k] = pst_prng_next(&prng);
		writes[i].burst = b;
		writes[i].iov = (struct iovec){ data, config->write_bytes };
	}
	return PST_OK;
}

pst_err pst_burst_run(const struct pst_burst_config *config)
{
	struct pst_host_options host = { .struct_bytes = sizeof(host), .caller_polls = true };
	struct pst_ns_options ns = { .struct_bytes = sizeof(ns),
				     .traddr = config->volume.host,
				     .trsvcid = config->volume.port,
				     .subnqn = config->volume.nqn };
	struct burst b = { .config = config };
	struct burst_write *writes = NULL;

	b.err = allocate(config, &b, &writes);
	if (b.err == PST_OK)
		b.err = pst_host_open(&host, &b.host);
	if (b.err == PST_OK)
		b.err = pst_ns_connect(b.host, &ns, &b.ns);
	if (b.err == PST_OK)
		run(&b, writes);
	pst_ns_disconnect(b.ns);
	pst_host_close(b.host);
	for (uint32_t i = 0; writes != NULL && i < config->depth; i++)
		free(writes[i].iov.iov_base);
	free(writes);
	return b.err;
}

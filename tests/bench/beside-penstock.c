/* SPDX-License-Identifier: Apache-2.0 */
/* A volume over libpenstock, polled by the caller. */
#include "beside.h"

#include "penstock/penstock.h"

#include <stdio.h>
#include <stdlib.h>

static pst_host *host;
static pst_ns *ns;

struct own {
	struct pst_request request;
	struct iovec iov;
};

static bool penstock_open(const struct beside_place *place)
{
	struct pst_host_options options = { .struct_bytes = sizeof(options),
					    .caller_polls = true,
					    .spin_us = place->spin_us };
	struct pst_ns_options target = { .struct_bytes = sizeof(target),
					 .traddr = "127.0.0.1",
					 .trsvcid = (uint16_t)strtoul(place->port, NULL, 10),
					 .subnqn = place->nqn,
					 .queue_entries = place->depth + 2 };
	pst_err err = pst_host_open(&options, &host);

	if (err == PST_OK)
		err = pst_ns_connect(host, &target, &ns);
	if (err != PST_OK)
		fprintf(stderr, "beside-load: %s: %s\n", place->nqn, pst_err_text(err));
	return err == PST_OK;
}

static void completed(struct pst_request *request)
{
	struct beside_request *r = request->arg;

	r->failed = request->err != PST_OK;
	r->done(r);
}

static void penstock_submit(struct beside_request *r)
{
	static const enum pst_request_kind kinds[] = { PST_REQUEST_READ, PST_REQUEST_WRITE, PST_REQUEST_FLUSH };
	struct own *own = r->own != NULL ? r->own : (r->own = calloc(1, sizeof(*own)));
	bool flush = r->kind == BESIDE_FLUSH;

	own->iov = (struct iovec){ r->buf, r->len_bytes };
	own->request = (struct pst_request){ .kind = kinds[r->kind],
					     .offset_bytes = flush ? 0 : r->offset_bytes,
					     .len_bytes = flush ? 0 : r->len_bytes,
					     .iov = flush ? NULL : &own->iov,
					     .iov_count = flush ? 0 : 1,
					     .done = completed,
					     .arg = r };
	pst_ns_submit(ns, &own->request);
}

static void penstock_poll(void)
{
	pst_host_poll(host, 10);
}

static void penstock_close(void)
{
	pst_ns_disconnect(ns);
	pst_host_close(host);
}

const struct beside_way beside_penstock = { "penstock", penstock_open, penstock_submit, penstock_poll, penstock_close };

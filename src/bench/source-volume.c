/* SPDX-License-Identifier: Apache-2.0 */
#include "bench/feed.h"

#include "penstock/penstock.h"

#include <stdlib.h>

struct volume_source {
	struct pst_source source;
	pst_host *host;
	pst_ns *ns;
};

_Static_assert(sizeof(struct pst_request) <= sizeof(((struct pst_source_read *)NULL)->scratch), "fits in a read");

static void volume_done(struct pst_request *request)
{
	struct pst_source_read *read = request->arg;

	read->err = request->err;
	read->latency_ns = request->latency_ns;
	read->done(read);
}

static void volume_submit(struct pst_source *source, struct pst_source_read *read)
{
	struct pst_request *request = (struct pst_request *)(void *)read->scratch;

	*request = (struct pst_request){ .kind = PST_REQUEST_READ,
					 .offset_bytes = read->offset_bytes,
					 .len_bytes = read->iov.iov_len,
					 .iov = &read->iov,
					 .iov_count = 1,
					 .done = volume_done,
					 .arg = read };
	pst_ns_submit(pst_container_of(source, struct volume_source, source)->ns, request);
}

static void volume_poll(struct pst_source *source, uint64_t timeout_us)
{
	/* Rounded down: a batch that ends in less than a millisecond is waited for by polling. */
	pst_host_poll(pst_container_of(source, struct volume_source, source)->host, (int)(timeout_us / 1000));
}

pst_err pst_source_open_volume(const struct pst_source_volume_options *options, struct pst_source **ret_source)
{
	struct pst_host_options host = { .struct_bytes = sizeof(host), .caller_polls = true };
	struct pst_ns_options ns = {
		.struct_bytes = sizeof(ns), .traddr = options->host, .trsvcid = options->port, .subnqn = options->nqn
	};
	struct volume_source *s = calloc(1, sizeof(*s));
	pst_err err;

	if (s == NULL)
		return PST_E_NOMEM;
	s->source = (struct pst_source){ volume_submit, volume_poll };
	err = pst_host_open(&host, &s->host);
	if (err == PST_OK)
		err = pst_ns_connect(s->host, &ns, &s->ns);
	if (err != PST_OK) {
		pst_source_close_volume(&s->source);
		return err;
	}
	*ret_source = &s->source;
	return PST_OK;
}

void pst_source_close_volume(struct pst_source *source)
{
	struct volume_source *s = pst_container_of(source, struct volume_source, source);

	pst_ns_disconnect(s->ns);
	pst_host_close(s->host);
	free(s);
}

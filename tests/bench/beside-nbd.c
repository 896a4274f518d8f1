/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An NBD export over TCP, by libnbd. Its callbacks must not call libnbd again, and completing a request submits the
 * next: so they only put it on a list, which poll empties.
 */
#include "beside.h"

#include <libnbd.h>
#include <stdio.h>

static struct nbd_handle *nbd;
static struct beside_request *first, **last = &first;

static bool nbd_say(const char *what)
{
	fprintf(stderr, "beside-load: %s: %s\n", what, nbd_get_error());
	return false;
}

static bool nbd_way_open(const struct beside_place *place)
{
	nbd = nbd_create();
	if (nbd == NULL || nbd_connect_tcp(nbd, "127.0.0.1", place->port) < 0)
		return nbd_say("connect");
	if (nbd_can_flush(nbd) != 1) {
		fprintf(stderr, "beside-load: this NBD export can't flush: its writes would never be durable\n");
		return false;
	}
	return true;
}

static int completed(void *arg, int *error)
{
	struct beside_request *r = arg;

	r->failed = *error != 0;
	r->next = NULL;
	*last = r;
	last = &r->next;
	return 1; /* retire it */
}

static void nbd_submit(struct beside_request *r)
{
	nbd_completion_callback done = { .callback = completed, .user_data = r };
	int64_t cookie;

	if (r->kind == BESIDE_READ)
		cookie = nbd_aio_pread(nbd, r->buf, r->len_bytes, r->offset_bytes, done, 0);
	else if (r->kind == BESIDE_WRITE)
		cookie = nbd_aio_pwrite(nbd, r->buf, r->len_bytes, r->offset_bytes, done, 0);
	else
		cookie = nbd_aio_flush(nbd, done, 0);
	if (cookie < 0) {
		int error = 1;

		nbd_say("submit");
		completed(r, &error);
	}
}

static void nbd_way_poll(void)
{
	if (first == NULL && nbd_poll(nbd, 10) < 0)
		nbd_say("poll");
	while (first != NULL) {
		struct beside_request *r = first;

		first = r->next;
		if (first == NULL)
			last = &first;
		r->done(r);
	}
}

static void nbd_way_close(void)
{
	nbd_shutdown(nbd, 0);
	nbd_close(nbd);
}

const struct beside_way beside_nbd = { "nbd", nbd_way_open, nbd_submit, nbd_way_poll, nbd_way_close };

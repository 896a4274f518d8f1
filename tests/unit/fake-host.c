/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A stand-in for libpenstock: the same API over a local file, named by traddr, with a thread that completes requests
 * after they were submitted. For tests of what is built on the library; it models neither loss nor reconnect.
 */
#include <penstock/penstock.h>

#include "base/base.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct pst_host {
	int unused;
};

struct pst_ns {
	int fd;
	uint64_t size_bytes;
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t more;
	struct pst_request *first, *last; /* linked through scratch[0] */
	bool stop;
	struct pst_ns_stats stats;
};

static void run(struct pst_ns *ns, struct pst_request *r)
{
	ssize_t n = (ssize_t)r->len_bytes;

	if (r->kind != PST_REQUEST_FLUSH && !pst_range_ok(r->offset_bytes, r->len_bytes, ns->size_bytes))
		n = -1;
	else if (r->kind == PST_REQUEST_READ)
		n = preadv(ns->fd, r->iov, (int)r->iov_count, (off_t)r->offset_bytes);
	else if (r->kind == PST_REQUEST_WRITE)
		n = pwritev(ns->fd, r->iov, (int)r->iov_count, (off_t)r->offset_bytes);
	else if (r->kind == PST_REQUEST_FLUSH)
		n = fdatasync(ns->fd);
	else
		n = fallocate(ns->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)r->offset_bytes,
			      (off_t)r->len_bytes);
	r->err = n < 0 ? PST_E_IO : PST_OK;
	pthread_mutex_lock(&ns->lock);
	ns->stats.requests[r->kind]++;
	if (r->kind == PST_REQUEST_READ)
		ns->stats.bytes_read += r->len_bytes;
	if (r->kind == PST_REQUEST_WRITE)
		ns->stats.bytes_written += r->len_bytes;
	pthread_mutex_unlock(&ns->lock);
}

static void *thread_main(void *arg)
{
	struct pst_ns *ns = arg;

	pthread_mutex_lock(&ns->lock);
	for (;;) {
		while (ns->first == NULL && !ns->stop)
			pthread_cond_wait(&ns->more, &ns->lock);
		struct pst_request *r = ns->first;
		if (r == NULL)
			break;
		ns->first = (struct pst_request *)(uintptr_t)r->scratch[0];
		pthread_mutex_unlock(&ns->lock);
		run(ns, r);
		r->done(r);
		pthread_mutex_lock(&ns->lock);
	}
	pthread_mutex_unlock(&ns->lock);
	return NULL;
}

pst_err pst_host_open(const struct pst_host_options *options, pst_host **ret_host)
{
	(void)options;
	*ret_host = calloc(1, sizeof(**ret_host));
	return PST_OK;
}

void pst_host_close(pst_host *host)
{
	free(host);
}

pst_err pst_ns_connect(pst_host *host, const struct pst_ns_options *options, pst_ns **ret_ns)
{
	struct pst_ns *ns = calloc(1, sizeof(*ns));
	struct stat st;

	(void)host;
	ns->fd = open(options->traddr, O_RDWR | O_CLOEXEC);
	if (ns->fd < 0 || fstat(ns->fd, &st) != 0) {
		free(ns);
		return PST_E_REFUSED;
	}
	ns->size_bytes = (uint64_t)st.st_size;
	ns->stats.connected = true;
	pthread_mutex_init(&ns->lock, NULL);
	pthread_cond_init(&ns->more, NULL);
	pthread_create(&ns->thread, NULL, thread_main, ns);
	*ret_ns = ns;
	return PST_OK;
}

void pst_ns_disconnect(pst_ns *ns)
{
	if (ns == NULL)
		return;
	pthread_mutex_lock(&ns->lock);
	ns->stop = true;
	pthread_cond_signal(&ns->more);
	pthread_mutex_unlock(&ns->lock);
	pthread_join(ns->thread, NULL);
	close(ns->fd);
	free(ns);
}

void pst_ns_info(pst_ns *ns, struct pst_ns_info *ret_info)
{
	*ret_info =
	    (struct pst_ns_info){ .size_bytes = ns->size_bytes, .block_bytes = 4096, .transfer_bytes_max = 1 << 20 };
}

void pst_ns_submit(pst_ns *ns, struct pst_request *request)
{
	pthread_mutex_lock(&ns->lock);
	request->scratch[0] = 0;
	if (ns->first == NULL)
		ns->first = request;
	else
		ns->last->scratch[0] = (uintptr_t)request;
	ns->last = request;
	pthread_cond_signal(&ns->more);
	pthread_mutex_unlock(&ns->lock);
}

void pst_ns_stats(pst_ns *ns, struct pst_ns_stats *ret_stats)
{
	pthread_mutex_lock(&ns->lock);
	*ret_stats = ns->stats;
	pthread_mutex_unlock(&ns->lock);
}

uint64_t pst_ns_latency_ns(pst_ns *ns, enum pst_request_kind kind, double fraction)
{
	(void)ns, (void)kind, (void)fraction;
	return 1000;
}

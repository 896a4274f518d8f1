/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Model: `gate` is a reader-writer lock around `ns`: submitters hold it for reading only while they hand a request
 * over, never while they wait; pst_nsio_close takes it for writing to set `closed`, then disconnects outside of it,
 * which completes what is outstanding. Nobody submits afterwards, so the namespace can go.
 */
#include "mount/nsio.h"

#include <semaphore.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static const enum pst_request_kind kinds[3] = { PST_REQUEST_READ, PST_REQUEST_WRITE, PST_REQUEST_FLUSH };
static const double fractions[3] = { 0.5, 0.95, 0.99 };

static void figures_read(struct pst_nsio *io, struct pst_attach_figures *f)
{
	pst_ns_stats(io->ns, &f->stats);
	for (size_t k = 0; k < 3; k++)
		for (size_t i = 0; i < 3; i++)
			f->latency_ns[k][i] = pst_ns_latency_ns(io->ns, kinds[k], fractions[i]);
	uint64_t reads = f->stats.requests[PST_REQUEST_READ], writes = f->stats.requests[PST_REQUEST_WRITE];
	for (size_t i = 0; i < 3; i++)
		f->all_ns[i] = reads + writes == 0 ? 0
						   : (uint64_t)(((double)f->latency_ns[0][i] * (double)reads +
								 (double)f->latency_ns[1][i] * (double)writes) /
								(double)(reads + writes));
}

/* Caller holds the gate for reading, ns is there; one writer at a time (the ticker, or the closer after it). */
static void publish(struct pst_nsio *io)
{
	struct pst_attach_figures f;

	if (io->shared == NULL)
		return;
	figures_read(io, &f);
	atomic_fetch_add(&io->shared->sequence, 1);
	io->shared->figures = f;
	atomic_fetch_add(&io->shared->sequence, 1);
}

static void *ticker_main(void *arg)
{
	struct pst_nsio *io = arg;

	while (!atomic_load(&io->ticker_stop)) {
		struct timespec pause = { 0, 125000000 };

		nanosleep(&pause, NULL);
		pthread_rwlock_rdlock(&io->gate);
		if (!io->closed)
			publish(io);
		pthread_rwlock_unlock(&io->gate);
	}
	return NULL;
}

pst_err pst_nsio_open(const struct pst_attach_spec *spec, struct pst_attach_shared *shared, struct pst_nsio *ret_io)
{
	struct pst_host_options host_options = { .struct_bytes = sizeof(host_options) };
	struct pst_ns_options ns_options = {
		.struct_bytes = sizeof(ns_options),
		.traddr = spec->traddr,
		.trsvcid = spec->trsvcid,
		.subnqn = spec->nqn,
		.nsid = spec->nsid,
	};
	pst_err err;

	*ret_io = (struct pst_nsio){ .shared = shared };
	pthread_rwlock_init(&ret_io->gate, NULL);
	if ((err = pst_host_open(&host_options, &ret_io->host)) != PST_OK)
		return err;
	if ((err = pst_ns_connect(ret_io->host, &ns_options, &ret_io->ns)) != PST_OK) {
		pst_host_close(ret_io->host);
		return err;
	}
	pst_ns_info(ret_io->ns, &ret_io->info);
	if (PST_NSIO_BLOCK % ret_io->info.block_bytes != 0) {
		pst_ns_disconnect(ret_io->ns);
		pst_host_close(ret_io->host);
		return PST_E_UNSUPPORTED;
	}
	ret_io->ticker_runs = shared != NULL && pthread_create(&ret_io->ticker, NULL, ticker_main, ret_io) == 0;
	return PST_OK;
}

void pst_nsio_submit(struct pst_nsio *io, struct pst_request *request)
{
	pthread_rwlock_rdlock(&io->gate);
	bool closed = io->closed;
	if (!closed)
		pst_ns_submit(io->ns, request);
	pthread_rwlock_unlock(&io->gate);
	if (closed) {
		request->err = PST_E_CANCELLED;
		request->done(request);
	}
}

void pst_nsio_note(struct pst_nsio *io, pst_err err)
{
	if (io->shared != NULL && (err == PST_E_NOSPACE || err == PST_E_QUOTA))
		atomic_store(&io->shared->full, true);
}

static void wake(struct pst_request *request)
{
	sem_post(request->arg);
}

/* One request, aligned, waited for. */
static pst_err run(struct pst_nsio *io, enum pst_request_kind kind, uint64_t offset_bytes, void *buf,
		   uint64_t len_bytes)
{
	struct iovec iov = { buf, len_bytes };
	struct pst_request request = {
		.kind = kind, .offset_bytes = offset_bytes, .len_bytes = len_bytes, .done = wake
	};
	sem_t sem;

	if (buf != NULL) {
		request.iov = &iov;
		request.iov_count = 1;
	}
	sem_init(&sem, 0, 0);
	request.arg = &sem;
	pst_nsio_submit(io, &request);
	while (sem_wait(&sem) != 0)
		;
	sem_destroy(&sem);
	pst_nsio_note(io, request.err);
	return request.err;
}

/* The part of [offset, offset + len) in the block at @block, through a bounce buffer. */
static pst_err edge(struct pst_nsio *io, bool write, uint64_t offset_bytes, char *buf, uint64_t len_bytes)
{
	uint64_t block = offset_bytes / PST_NSIO_BLOCK * PST_NSIO_BLOCK;
	char *bounce = aligned_alloc(PST_NSIO_BLOCK, PST_NSIO_BLOCK);
	pst_err err = bounce == NULL ? PST_E_NOMEM : run(io, PST_REQUEST_READ, block, bounce, PST_NSIO_BLOCK);

	if (err == PST_OK && write) {
		memcpy(bounce + (offset_bytes - block), buf, len_bytes);
		err = run(io, PST_REQUEST_WRITE, block, bounce, PST_NSIO_BLOCK);
	} else if (err == PST_OK) {
		memcpy(buf, bounce + (offset_bytes - block), len_bytes);
	}
	free(bounce);
	return err;
}

static pst_err transfer(struct pst_nsio *io, bool write, uint64_t offset_bytes, char *buf, uint64_t len_bytes)
{
	pst_err err = PST_OK;

	if (!pst_range_ok(offset_bytes, len_bytes, io->info.size_bytes))
		return PST_E_RANGE;
	while (len_bytes > 0 && err == PST_OK) {
		uint64_t into = offset_bytes % PST_NSIO_BLOCK, n;

		if (into != 0 || len_bytes < PST_NSIO_BLOCK) {
			n = PST_MIN(len_bytes, PST_NSIO_BLOCK - into);
			err = edge(io, write, offset_bytes, buf, n);
		} else {
			n = PST_MIN(len_bytes / PST_NSIO_BLOCK * PST_NSIO_BLOCK, (uint64_t)1 << 20);
			err = run(io, write ? PST_REQUEST_WRITE : PST_REQUEST_READ, offset_bytes, buf, n);
		}
		offset_bytes += n;
		buf += n;
		len_bytes -= n;
	}
	return err;
}

pst_err pst_nsio_read(struct pst_nsio *io, uint64_t offset_bytes, void *buf, uint64_t len_bytes)
{
	return transfer(io, false, offset_bytes, buf, len_bytes);
}

pst_err pst_nsio_write(struct pst_nsio *io, uint64_t offset_bytes, const void *buf, uint64_t len_bytes)
{
	/* The request type has one iovec for both directions; a write never changes it. */
	return transfer(io, true, offset_bytes, (char *)(uintptr_t)buf, len_bytes);
}

pst_err pst_nsio_flush(struct pst_nsio *io)
{
	return run(io, PST_REQUEST_FLUSH, 0, NULL, 0);
}

pst_err pst_nsio_zero(struct pst_nsio *io, uint64_t offset_bytes, uint64_t len_bytes)
{
	static const char zeros[PST_NSIO_BLOCK];
	uint64_t end, first = pst_round_up(offset_bytes, PST_NSIO_BLOCK);
	pst_err err = PST_OK;

	if (!pst_add_u64(offset_bytes, len_bytes, &end) || end > io->info.size_bytes)
		return PST_E_RANGE;
	uint64_t last = end / PST_NSIO_BLOCK * PST_NSIO_BLOCK;
	if (first >= last) {
		while (offset_bytes < end && err == PST_OK) {
			uint64_t n = PST_MIN(end - offset_bytes, (uint64_t)PST_NSIO_BLOCK);

			err = pst_nsio_write(io, offset_bytes, zeros, n);
			offset_bytes += n;
		}
		return err;
	}
	if (offset_bytes < first)
		err = pst_nsio_write(io, offset_bytes, zeros, first - offset_bytes);
	if (err == PST_OK)
		err = run(io, PST_REQUEST_WRITE_ZEROES, first, NULL, last - first);
	if (err == PST_OK && last < end)
		err = pst_nsio_write(io, last, zeros, end - last);
	return err;
}

void pst_nsio_figures(struct pst_nsio *io, struct pst_attach_figures *ret_figures)
{
	pthread_rwlock_rdlock(&io->gate);
	if (!io->closed)
		figures_read(io, ret_figures);
	else if (io->shared != NULL)
		*ret_figures = io->shared->figures;
	else
		*ret_figures = (struct pst_attach_figures){ 0 };
	pthread_rwlock_unlock(&io->gate);
}

void pst_nsio_close(struct pst_nsio *io)
{
	pthread_rwlock_wrlock(&io->gate);
	bool first = !io->closed;
	if (first)
		publish(io);
	io->closed = true;
	pthread_rwlock_unlock(&io->gate);
	if (first)
		pst_ns_disconnect(io->ns);
}

void pst_nsio_done(struct pst_nsio *io)
{
	pst_nsio_close(io);
	atomic_store(&io->ticker_stop, true);
	if (io->ticker_runs)
		pthread_join(io->ticker, NULL);
	pst_host_close(io->host);
	pthread_rwlock_destroy(&io->gate);
}

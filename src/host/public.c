/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libpenstock: the public interface, a shell around the host (host.h) that adds the thread.
 *
 * One environment and one loop per pst_host, run by an own thread or by the caller's pst_host_poll. Other threads hand
 * requests over through a mailbox: a lock-free stack; who finds it empty posts once, and the loop takes all there is
 * in one exchange. Everything else from other threads is a call: posted, run by the loop, waited for.
 *
 * Lifetimes: a pst_ns lives from connect to disconnect; the host has a list of them, owned by the loop.
 */
#include "host/host.h"
#include "host/impl.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct pst_host {
	struct pst_env *env;
	bool caller_polls;
	pthread_t thread;        /* own thread, unless caller_polls */
	_Atomic(pthread_t) loop; /* the thread that runs the loop */
	char nqn[224];
	uint8_t hostid[16];
	struct pst_session_keys *keys; /* secret memory; NULL: none */
	_Atomic(struct pst_request *) mailbox;
	struct pst_post mailbox_post;
	struct pst_list namespaces; /* the loop's */
};

struct pst_ns {
	struct pst_host *host;
	struct pst_session *session;
	struct pst_list node;
};

/* ---- Waiting for the loop ---- */

/* Something that the loop finishes and a caller waits for. */
struct waiter {
	pthread_mutex_t mutex;
	pthread_cond_t cond;
	bool done;
};

static void waiter_init(struct waiter *w)
{
	*w = (struct waiter){ .mutex = PTHREAD_MUTEX_INITIALIZER, .cond = PTHREAD_COND_INITIALIZER };
}

static void waiter_signal(struct waiter *w)
{
	/* Signalled under the lock: the waiter may be gone as soon as that is released. */
	pthread_mutex_lock(&w->mutex);
	w->done = true;
	pthread_cond_signal(&w->cond);
	pthread_mutex_unlock(&w->mutex);
}

static bool on_loop(struct pst_host *host)
{
	return pthread_equal(pthread_self(), atomic_load_explicit(&host->loop, memory_order_relaxed));
}

/* On the loop's thread (possible with caller_polls) the loop is run meanwhile. */
static void waiter_wait(struct waiter *w, struct pst_host *host)
{
	if (on_loop(host)) {
		while (!w->done)
			pst_env_poll(host->env, UINT64_MAX);
		return;
	}
	pthread_mutex_lock(&w->mutex);
	while (!w->done)
		pthread_cond_wait(&w->cond, &w->mutex);
	pthread_mutex_unlock(&w->mutex);
}

/* Run fn on the loop. */
struct call {
	struct pst_post post;
	void (*fn)(struct call *call);
	struct pst_host *host;
	struct waiter waiter;
	void *arg, *ret;
	int option;
	pst_err err;
};

static void call_on_loop(struct pst_post *post)
{
	struct call *call = pst_container_of(post, struct call, post);

	call->fn(call);
}

/* fn itself signals when what it has begun is over. */
static void call_wait(struct pst_host *host, struct call *call)
{
	call->host = host;
	call->post.fn = call_on_loop;
	waiter_init(&call->waiter);
	if (on_loop(host))
		call->fn(call);
	else
		pst_env_post(host->env, &call->post);
	waiter_wait(&call->waiter, host);
}

/* ---- Host ---- */

static void mailbox_on_post(struct pst_post *post)
{
	struct pst_host *host = pst_container_of(post, struct pst_host, mailbox_post);
	struct pst_request *newest = atomic_exchange(&host->mailbox, NULL), *oldest = NULL;

	while (newest != NULL) {
		struct pst_request *request = newest;

		newest = request_state(request)->next;
		request_state(request)->next = oldest;
		oldest = request;
	}
	while (oldest != NULL) {
		struct pst_request *request = oldest;
		struct pst_ns *ns = request_state(request)->shell;

		oldest = request_state(request)->next;
		pst_session_submit(ns->session, request);
	}
}

static void *host_thread(void *arg)
{
	struct pst_host *host = arg;

	pst_env_run(host->env);
	return NULL;
}

static pst_err host_identity(struct pst_host *host, const char *nqn)
{
	uint8_t uuid[16];

	pst_env_random(host->env, uuid, sizeof(uuid));
	uuid[6] = (uint8_t)((uuid[6] & 0x0f) | 0x40); /* RFC 4122, version 4 */
	uuid[8] = (uint8_t)((uuid[8] & 0x3f) | 0x80);
	if (nqn == NULL)
		nqn = secure_getenv("PENSTOCK_HOST_NQN");
	if (nqn != NULL && (strlen(nqn) == 0 || strlen(nqn) >= sizeof(host->nqn)))
		return PST_E_INVAL;
	if (nqn == NULL) {
		pst_host_nqn_format(uuid, host->nqn);
	} else {
		memcpy(host->nqn, nqn, strlen(nqn) + 1);
		(void)pst_host_nqn_uuid(nqn, uuid);
	}
	memcpy(host->hostid, uuid, sizeof(uuid));
	return PST_OK;
}

/* ---- Keys ---- */

#define KEY_FILE_MAX 512u /* bytes: a key and white space around it */

typedef pst_err key_parser(const char *text, size_t text_len, struct pst_auth_key *ret_key, const char **ret_why);

static pst_err key_parse(const char *text, key_parser *parser, struct pst_auth_key *ret_key)
{
	static const char space[] = " \t\r\n";
	const char *why;
	size_t len;

	text += strspn(text, space);
	len = strlen(text);
	while (len > 0 && strchr(space, text[len - 1]) != NULL)
		len--;
	return parser(text, len, ret_key, &why) == PST_OK ? PST_OK : PST_E_KEY;
}

/* @text, or else what the file holds that the variable names. PST_E_NOTFOUND: neither is there. */
static pst_err key_get(const char *text, const char *variable, key_parser *parser, struct pst_auth_key *ret_key)
{
	const char *path = text == NULL ? secure_getenv(variable) : NULL;
	char buf[KEY_FILE_MAX + 1];
	size_t len = 0;
	ssize_t got;
	pst_err err;
	int fd;

	if (text != NULL)
		return key_parse(text, parser, ret_key);
	if (path == NULL || path[0] == '\0')
		return PST_E_NOTFOUND;
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return PST_E_KEY;
	while (len < KEY_FILE_MAX && (got = read(fd, buf + len, KEY_FILE_MAX - len)) > 0)
		len += (size_t)got;
	close(fd);
	buf[len] = '\0';
	err = key_parse(buf, parser, ret_key);
	explicit_bzero(buf, sizeof(buf));
	return err;
}

/* A controller that proves itself to a host that does not is of no use: the exchange begins with the host's key. */
static pst_err host_keys(struct pst_host *host, const struct pst_host_options *o, bool named)
{
	struct pst_session_keys *keys = pst_secret_alloc(host->env, sizeof(*keys));
	pst_err err, ctrl_err, tls_err;

	if (keys == NULL)
		return PST_E_NOMEM;
	host->keys = keys;
	err = key_get(o->host_key, "PENSTOCK_HOST_KEY", pst_auth_key_parse, &keys->host);
	ctrl_err = key_get(o->ctrl_key, "PENSTOCK_CTRL_KEY", pst_auth_key_parse, &keys->ctrl);
	tls_err = key_get(o->tls_key, "PENSTOCK_TLS_KEY", pst_tls_key_parse, &keys->tls);
	keys->has_host = err == PST_OK;
	keys->has_ctrl = ctrl_err == PST_OK;
	keys->has_tls = tls_err == PST_OK;
	if (err == PST_E_NOTFOUND && ctrl_err == PST_E_NOTFOUND && tls_err == PST_E_NOTFOUND) {
		pst_secret_free(host->env, keys, sizeof(*keys));
		host->keys = NULL;
		return PST_OK;
	}
	if (err == PST_E_KEY || ctrl_err == PST_E_KEY || tls_err == PST_E_KEY)
		return PST_E_KEY;
	return named && (keys->has_host || !keys->has_ctrl) ? PST_OK : PST_E_KEY;
}

static pst_err host_start(struct pst_host *host, const struct pst_host_options *o)
{
	static const enum pst_env_backend backends[] = {
		[PST_IO_BACKEND_AUTO] = PST_ENV_AUTO,
		[PST_IO_BACKEND_URING] = PST_ENV_URING,
		[PST_IO_BACKEND_POSIX] = PST_ENV_POSIX,
	};
	struct pst_env_config config = { .log_level = PST_LOG_ERROR, .spin_us = o->spin_us };
	pst_err err;

	if (o->backend < 0 || o->backend > PST_IO_BACKEND_POSIX)
		return PST_E_INVAL;
	config.backend = backends[o->backend];
	config.disk_threads = 1; /* no files here */
	err = pst_env_new(&config, &host->env);
	if (err != PST_OK)
		return err;
	err = host_identity(host, o->hostnqn);
	if (err == PST_OK)
		err = host_keys(host, o, o->hostnqn != NULL || secure_getenv("PENSTOCK_HOST_NQN") != NULL);
	if (err != PST_OK)
		return err;
	atomic_store(&host->loop, pthread_self());
	if (o->caller_polls)
		return PST_OK;
	if (pthread_create(&host->thread, NULL, host_thread, host) != 0)
		return PST_E_NOMEM;
	/* Known to the caller before the first call, whether or not the thread has begun. */
	atomic_store(&host->loop, host->thread);
	return PST_OK;
}

pst_err pst_host_open(const struct pst_host_options *options, pst_host **ret_host)
{
	struct pst_host_options o = { 0 };
	struct pst_host *host;
	pst_err err;

	if (options != NULL)
		memcpy(&o, options, PST_MIN(options->struct_bytes, sizeof(o)));
	host = calloc(1, sizeof(*host));
	if (host == NULL)
		return PST_E_NOMEM;
	host->caller_polls = o.caller_polls;
	host->mailbox_post.fn = mailbox_on_post;
	pst_list_init(&host->namespaces);
	err = host_start(host, &o);
	if (err != PST_OK) {
		pst_secret_free(host->env, host->keys, sizeof(*host->keys));
		pst_env_free(host->env);
		free(host);
		return err;
	}
	*ret_host = host;
	return PST_OK;
}

void pst_host_close(pst_host *host)
{
	if (host == NULL)
		return;
	/* The caller's mistake, but nothing is gained by leaving connections behind. */
	while (!pst_list_empty(&host->namespaces))
		pst_ns_disconnect(pst_container_of(host->namespaces.next, struct pst_ns, node));
	if (!host->caller_polls) {
		pst_env_stop(host->env);
		pthread_join(host->thread, NULL);
	}
	pst_secret_free(host->env, host->keys, sizeof(*host->keys));
	pst_env_free(host->env);
	free(host);
}

const char *pst_host_backend(pst_host *host)
{
	return pst_env_backend_name(host->env);
}

unsigned pst_host_poll(pst_host *host, int timeout_ms)
{
	if (!host->caller_polls)
		return 0;
	atomic_store_explicit(&host->loop, pthread_self(), memory_order_relaxed);
	return pst_env_poll(host->env, timeout_ms < 0 ? UINT64_MAX : (uint64_t)timeout_ms * 1000000);
}

/* ---- Connect and disconnect ---- */

struct connect_call {
	struct call call;
	struct pst_session_config config;
	struct pst_session_open_op open;
	struct pst_session_close_op close;
	struct pst_ns *ns;
	struct pst_discovery_entry *entries;
	size_t max, count;
};

static void connect_on_open(struct pst_session_open_op *op)
{
	struct connect_call *c = pst_container_of(op, struct connect_call, open);

	c->call.err = op->err;
	if (op->err == PST_OK) {
		c->ns->session = op->session;
		pst_list_push_back(&c->ns->host->namespaces, &c->ns->node);
	}
	waiter_signal(&c->call.waiter);
}

static void connect_begin(struct call *call)
{
	struct connect_call *c = pst_container_of(call, struct connect_call, call);

	pst_session_open(call->host->env, &c->config, &c->open);
}

static uint32_t or_default(uint32_t value, uint32_t def)
{
	return value != 0 ? value : def;
}

static pst_err connect_config(struct pst_host *host, const char *traddr, uint16_t port, const char *subnqn,
			      struct pst_session_config *ret_config)
{
	struct pst_session_config *c = ret_config;

	if (traddr == NULL || subnqn == NULL || strlen(traddr) == 0 || strlen(traddr) >= sizeof(c->addr.host) ||
	    strlen(subnqn) == 0 || strlen(subnqn) >= sizeof(c->subnqn))
		return PST_E_INVAL;
	*c = (struct pst_session_config){ 0 };
	memcpy(c->addr.host, traddr, strlen(traddr));
	memcpy(c->subnqn, subnqn, strlen(subnqn));
	memcpy(c->hostnqn, host->nqn, sizeof(c->hostnqn));
	memcpy(c->hostid, host->hostid, sizeof(c->hostid));
	c->keys = host->keys;
	c->addr.port = port != 0 ? port : 4420;
	c->connect_timeout_ns = 10000000000u;
	return PST_OK;
}

static pst_err connect_paths(const struct pst_ns_options *o, struct pst_session_config *c)
{
	if (o->path_count > PST_SESSION_PATHS_MAX - 1)
		return PST_E_INVAL;
	for (uint32_t i = 0; i < o->path_count; i++)
		if (pst_addr_parse(o->paths[i], 4420, &c->more[i]) != PST_OK)
			return PST_E_INVAL;
	c->more_count = o->path_count;
	return PST_OK;
}

pst_err pst_ns_connect(pst_host *host, const struct pst_ns_options *options, pst_ns **ret_ns)
{
	struct connect_call c = { .call.fn = connect_begin, .open.done = connect_on_open };
	struct pst_ns_options o = { 0 };
	pst_err err;

	memcpy(&o, options, PST_MIN(options->struct_bytes, sizeof(o)));
	err = connect_config(host, o.traddr, o.trsvcid, o.subnqn, &c.config);
	/* On its own thread the loop would wait for itself. */
	if (err != PST_OK || (!host->caller_polls && on_loop(host)))
		return PST_E_INVAL;
	c.config.nsid = or_default(o.nsid, 1);
	c.config.io_queues = PST_MIN(or_default(o.io_queues, 1), IO_QUEUES_MAX);
	c.config.queue_entries = PST_MAX(2u, PST_MIN(or_default(o.queue_entries, 128), 4096u));
	c.config.header_digest = o.header_digest;
	c.config.data_digest = o.data_digest;
	c.config.keep_alive_ns = or_default(o.keep_alive_ms, 5000) * 1000000ull;
	c.config.connect_timeout_ns = or_default(o.connect_timeout_ms, 10000) * 1000000ull;
	c.config.reconnect_delay_ns = or_default(o.reconnect_delay_ms, 100) * 1000000ull;
	c.config.loss_timeout_ns = o.loss_timeout_ms * 1000000ull;
	err = connect_paths(&o, &c.config);
	if (err != PST_OK)
		return err;
	c.ns = calloc(1, sizeof(*c.ns));
	if (c.ns == NULL)
		return PST_E_NOMEM;
	c.ns->host = host;
	call_wait(host, &c.call);
	if (c.call.err != PST_OK) {
		free(c.ns);
		return c.call.err;
	}
	*ret_ns = c.ns;
	return PST_OK;
}

static void disconnect_on_close(struct pst_session_close_op *op)
{
	struct connect_call *c = pst_container_of(op, struct connect_call, close);

	waiter_signal(&c->call.waiter);
}

static void disconnect_begin(struct call *call)
{
	struct connect_call *c = pst_container_of(call, struct connect_call, call);

	pst_list_remove(&c->ns->node);
	pst_session_close(c->ns->session, &c->close);
}

void pst_ns_disconnect(pst_ns *ns)
{
	struct connect_call c = { .call.fn = disconnect_begin, .close.done = disconnect_on_close, .ns = ns };

	if (ns == NULL)
		return;
	call_wait(ns->host, &c.call);
	free(ns);
}

void pst_ns_info(pst_ns *ns, struct pst_ns_info *ret_info)
{
	pst_session_info(ns->session, ret_info);
}

/* ---- Requests ---- */

void pst_ns_submit(pst_ns *ns, struct pst_request *request)
{
	struct pst_host *host = ns->host;
	struct pst_request_state *st = request_state(request);
	struct pst_request *head;

	if (on_loop(host)) {
		pst_session_submit(ns->session, request);
		return;
	}
	st->shell = ns;
	head = atomic_load_explicit(&host->mailbox, memory_order_relaxed);
	do
		st->next = head;
	while (!atomic_compare_exchange_weak(&host->mailbox, &head, request));
	if (head == NULL)
		pst_env_post(host->env, &host->mailbox_post);
}

struct blocking {
	struct pst_request request;
	struct waiter waiter;
};

static void blocking_done(struct pst_request *request)
{
	struct blocking *b = pst_container_of(request, struct blocking, request);

	waiter_signal(&b->waiter);
}

static pst_err blocking_run(pst_ns *ns, struct blocking *b)
{
	if (!ns->host->caller_polls && on_loop(ns->host))
		return PST_E_INVAL;
	b->request.done = blocking_done;
	waiter_init(&b->waiter);
	pst_ns_submit(ns, &b->request);
	waiter_wait(&b->waiter, ns->host);
	return b->request.err;
}

static pst_err blocking_transfer(pst_ns *ns, enum pst_request_kind kind, uint64_t offset_bytes, void *buf,
				 size_t len_bytes)
{
	struct iovec iov = { buf, len_bytes };
	struct blocking b = { .request = { .kind = kind,
					   .offset_bytes = offset_bytes,
					   .len_bytes = len_bytes,
					   .iov = &iov,
					   .iov_count = 1 } };

	return len_bytes == 0 ? PST_OK : blocking_run(ns, &b);
}

pst_err pst_ns_read(pst_ns *ns, uint64_t offset_bytes, void *buf, size_t len_bytes)
{
	return blocking_transfer(ns, PST_REQUEST_READ, offset_bytes, buf, len_bytes);
}

pst_err pst_ns_write(pst_ns *ns, uint64_t offset_bytes, const void *buf, size_t len_bytes)
{
	return blocking_transfer(ns, PST_REQUEST_WRITE, offset_bytes, (void *)(uintptr_t)buf, len_bytes);
}

pst_err pst_ns_flush(pst_ns *ns)
{
	struct blocking b = { .request = { .kind = PST_REQUEST_FLUSH } };

	return blocking_run(ns, &b);
}

pst_err pst_ns_discard(pst_ns *ns, uint64_t offset_bytes, uint64_t len_bytes)
{
	struct blocking b = { .request = {
				  .kind = PST_REQUEST_DISCARD, .offset_bytes = offset_bytes, .len_bytes = len_bytes } };

	return len_bytes == 0 ? PST_OK : blocking_run(ns, &b);
}

/* ---- Statistics ---- */

static void stats_call(struct call *call)
{
	struct pst_ns *ns = call->arg;

	pst_session_stats(ns->session, call->ret);
	waiter_signal(&call->waiter);
}

void pst_ns_stats(pst_ns *ns, struct pst_ns_stats *ret_stats)
{
	struct call call = { .fn = stats_call, .arg = ns, .ret = ret_stats };

	call_wait(ns->host, &call);
}

static void latency_call(struct call *call)
{
	struct pst_ns *ns = call->arg;

	if (call->ret != NULL)
		*(struct pst_hist *)call->ret = *pst_session_latency(ns->session, call->option);
	else
		for (int kind = 0; kind <= PST_REQUEST_DISCARD; kind++)
			*pst_session_latency(ns->session, kind) = (struct pst_hist){ 0 };
	waiter_signal(&call->waiter);
}

uint64_t pst_ns_latency_ns(pst_ns *ns, enum pst_request_kind kind, double fraction)
{
	struct pst_hist hist;
	struct call call = { .fn = latency_call, .arg = ns, .ret = &hist, .option = kind };

	if (kind > PST_REQUEST_DISCARD)
		return 0;
	call_wait(ns->host, &call);
	return pst_hist_percentile_ns(&hist, fraction);
}

void pst_ns_latency_reset(pst_ns *ns)
{
	struct call call = { .fn = latency_call, .arg = ns };

	call_wait(ns->host, &call);
}

/* ---- Discovery ---- */

static void discover_on_close(struct pst_session_close_op *op)
{
	struct connect_call *c = pst_container_of(op, struct connect_call, close);

	waiter_signal(&c->call.waiter);
}

static void discover_on_open(struct pst_session_open_op *op)
{
	struct connect_call *c = pst_container_of(op, struct connect_call, open);
	const struct pst_discovery_entry *found;

	c->call.err = op->err;
	if (op->err != PST_OK) {
		waiter_signal(&c->call.waiter);
		return;
	}
	found = pst_session_entries(op->session, &c->count);
	memcpy(c->entries, found, PST_MIN(c->count, c->max) * sizeof(*found));
	pst_session_close(op->session, &c->close);
}

pst_err pst_discover(pst_host *host, const char *traddr, uint16_t trsvcid, struct pst_discovery_entry *entries,
		     size_t max, size_t *ret_count)
{
	struct connect_call c = { .call.fn = connect_begin,
				  .open.done = discover_on_open,
				  .close.done = discover_on_close,
				  .entries = entries,
				  .max = max };
	pst_err err = connect_config(host, traddr, trsvcid, NVMF_DISCOVERY_NQN, &c.config);

	if (err != PST_OK || (!host->caller_polls && on_loop(host)))
		return PST_E_INVAL;
	c.config.discovery = true;
	c.config.queue_entries = ADMIN_ENTRIES;
	call_wait(host, &c.call);
	if (c.call.err == PST_OK)
		*ret_count = c.count;
	return c.call.err;
}

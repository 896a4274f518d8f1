/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Start: environment of each shard, pools (opened, recovered), catalog (what a crash interrupted is finished),
 * listeners, API, ready. Hosts that reconnect find their volumes at once, because listening comes after the catalog.
 * Stop, also of a start that failed half-way: API, listeners' volumes (requests in flight finish), catalog and pools
 * (marked clean), target, shards. Each stage has a flag-like pointer that says whether it was reached.
 *
 * The main thread is the home shard. SIGTERM and SIGINT end its loop; a second one during the shutdown ends the process
 * at once, which is safe: it is what a crash is to the pools. SIGHUP reads the key-encryption keys and the API's
 * certificate again.
 */
#include "control/daemon.h"
#include "control/kek.h"
#include "control/rest.h"
#include "env/secret.h"

#include <errno.h>
#include <ifaddrs.h>
#include <malloc.h>
#include <net/if.h>
#include <netdb.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MMAP_THRESHOLD_BYTES 65536
#define POLL_NS 10000000u /* while waiting for another thread */

struct daemon {
	const struct pst_daemon_config *config;
	struct pst_env *envs[PST_DAEMON_SHARDS_MAX];
	pthread_t threads[PST_DAEMON_SHARDS_MAX];
	unsigned env_count, thread_count;
	struct pst_target *target;
	struct pst_kek *kek;
	struct pst_catalog *catalog;
	struct pst_rest *rest;
	json_t *addresses, *listening;
	struct pool_events {
		struct pst_catalog *catalog;
		const char *pool;
	} events[PST_CATALOG_POOLS_MAX];
	char api[128];
	bool op_done;
	struct pst_target_stop_op target_stop;
	struct pst_catalog_close_op catalog_close;
};

/* ---- Signals ---- */

static struct pst_env *signal_env; /* a handler has no other way to know */
static volatile sig_atomic_t signal_count;

/* Reading keys again is a call like those of the API. One at a time; a signal that comes meanwhile asks for another. */
static struct {
	struct pst_post post; /* the only thing that a handler does with it is to send it */
	volatile sig_atomic_t posted;
	struct pst_catalog *catalog; /* NULL: not serving */
	struct pst_rest *rest;
	struct pst_env *env;
	struct pst_catalog_op op;
	bool has_kek, busy, again;
} reload;

static void reload_begin(void);

static void reload_done(struct pst_catalog_op *op)
{
	reload.busy = false;
	if (op->err != PST_OK)
		pst_env_log(reload.env, PST_LOG_WARN, "reload_failed reason=SIGHUP error=\"%s\"", op->message);
	json_decref(op->body);
	json_decref(op->result);
	if (reload.again)
		reload_begin();
}

static void reload_begin(void)
{
	reload.again = reload.busy;
	if (reload.catalog != NULL)
		pst_rest_reload(reload.rest);
	if (reload.catalog == NULL || !reload.has_kek || reload.busy)
		return;
	reload.busy = true;
	reload.op = (struct pst_catalog_op){ .kind = PST_CATALOG_CREATE, .object = PST_CATALOG_KEY };
	reload.op.body = json_pack("{s:s}", "action", "reload");
	reload.op.done = reload_done;
	pst_catalog_submit(reload.catalog, &reload.op);
}

static void reload_arrived(struct pst_post *post)
{
	(void)post;
	reload.posted = 0;
	reload_begin();
}

static void on_hangup(int number)
{
	(void)number;
	if (reload.posted)
		return;
	reload.posted = 1;
	pst_env_post(signal_env, &reload.post);
}

static void on_signal(int number)
{
	if (++signal_count > 1)
		_exit(128 + number);
	pst_env_stop(signal_env);
}

static void signals_install(struct pst_env *env)
{
	struct sigaction stop = { .sa_handler = on_signal }, ignore = { .sa_handler = SIG_IGN };
	struct sigaction hangup = { .sa_handler = on_hangup };

	signal_env = env;
	reload.env = env;
	reload.post.fn = reload_arrived;
	sigaction(SIGHUP, &hangup, NULL);
	sigaction(SIGTERM, &stop, NULL);
	sigaction(SIGINT, &stop, NULL);
	sigaction(SIGPIPE, &ignore, NULL);
}

/* ---- Helpers ---- */

static int exit_for(pst_err err)
{
	switch (err) {
	case PST_OK:
		return PST_DAEMON_OK;
	case PST_E_ADDRINUSE:
	case PST_E_LOCKED:
	case PST_E_EXISTS:
	case PST_E_BUSY:
		return PST_DAEMON_CONFLICT;
	case PST_E_NOSPACE:
		return PST_DAEMON_NO_SPACE;
	case PST_E_FORMAT:
	case PST_E_CHECKSUM:
		return PST_DAEMON_BAD_POOL;
	case PST_E_UNSUPPORTED:
		return PST_DAEMON_UNSUPPORTED;
	case PST_E_INVAL:
	case PST_E_RANGE:
		return PST_DAEMON_USAGE;
	default:
		return PST_DAEMON_FAILED;
	}
}

static int fail(pst_err err, const char *fmt, ...) PST_PRINTF(2, 3);
static int fail(pst_err err, const char *fmt, ...)
{
	va_list ap;

	fputs("penstockd: ", stderr);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
	return exit_for(err);
}

static void run_until(struct pst_env *env, const bool *done)
{
	while (!*done)
		pst_env_poll(env, UINT64_MAX);
}

/* ---- Starting ---- */

static int start_envs(struct daemon *d)
{
	for (unsigned i = 0; i < d->config->shards; i++) {
		pst_err err = pst_env_new(&d->config->env, &d->envs[i]);

		if (err != PST_OK)
			return fail(err, "the I/O environment can't start: %s; try --io posix", pst_err_text(err));
		d->env_count++;
	}
	pst_env_log(d->envs[0], PST_LOG_INFO, "start version=%s pid=%d shards=%u io=%s reason=\"%s\"",
		    d->config->version, (int)getpid(), d->env_count, pst_env_backend_name(d->envs[0]),
		    pst_env_backend_reason(d->envs[0]));
	return PST_DAEMON_OK;
}

static void *shard_thread(void *env)
{
	pst_env_run(env);
	return NULL;
}

static int start_shards(struct daemon *d)
{
	sigset_t all, old;
	int rc = 0;

	/* Signals are the main thread's. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	for (unsigned i = 1; i < d->env_count && rc == 0; i++) {
		rc = pthread_create(&d->threads[i], NULL, shard_thread, d->envs[i]);
		if (rc == 0)
			d->thread_count++;
	}
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return rc == 0 ? PST_DAEMON_OK : fail(PST_E_NOMEM, "a thread can't be started: %s", strerror(rc));
}

struct add_pool {
	struct pst_catalog_pool_op op;
	bool done;
};

static void pool_added(struct pst_catalog_pool_op *op)
{
	pst_container_of(op, struct add_pool, op)->done = true;
}

static void pool_event(void *ctx, enum pst_log_level level, const char *text)
{
	const struct pool_events *e = ctx;

	pst_catalog_event(e->catalog, e->pool, level, text);
}

static int start_pool(struct daemon *d, unsigned index)
{
	const struct pst_daemon_pool *config = &d->config->pools[index];
	struct add_pool add = { .op = { .name = config->name, .qos = d->config->qos, .done = pool_added } };
	char detail[400];
	pst_err err;

	d->events[index] = (struct pool_events){ d->catalog, config->name };
	err = pst_daemon_pool_open(d->envs[0], d->config, config, pool_event, &d->events[index], &add.op.pool, detail,
				   sizeof(detail));
	if (err != PST_OK)
		return fail(err, "%s", detail);
	pst_catalog_add_pool(d->catalog, &add.op);
	run_until(d->envs[0], &add.done);
	if (add.op.err != PST_OK)
		return fail(add.op.err, "%s", add.op.message);
	pst_env_log(d->envs[0], PST_LOG_INFO, "pool_open pool=%s path=%s", config->name,
		    config->path != NULL ? config->path : "memory");
	return PST_DAEMON_OK;
}

static void add_address(json_t *list, const char *host, uint16_t port)
{
	struct pst_addr addr = { .port = port };
	char text[72];

	snprintf(addr.host, sizeof(addr.host), "%s", host);
	json_array_append_new(list, json_string(pst_addr_format(&addr, text)));
}

/* 0.0.0.0 and :: are no addresses to connect to: those of the interfaces are. */
static void expand_wildcard(json_t *list, int family, uint16_t port)
{
	struct ifaddrs *all;

	if (getifaddrs(&all) != 0)
		return;
	for (const struct ifaddrs *i = all; i != NULL; i = i->ifa_next) {
		char host[NI_MAXHOST];
		socklen_t len = family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6);

		if (i->ifa_addr == NULL || i->ifa_addr->sa_family != family || !(i->ifa_flags & IFF_UP))
			continue;
		/* Link-local addresses mean nothing on another machine. */
		if (getnameinfo(i->ifa_addr, len, host, sizeof(host), NULL, 0, NI_NUMERICHOST) == 0 &&
		    strchr(host, '%') == NULL)
			add_address(list, host, port);
	}
	freeifaddrs(all);
}

struct identity {
	struct pst_catalog_identity_op op;
	bool done;
};

static void identified(struct pst_catalog_identity_op *op)
{
	pst_container_of(op, struct identity, op)->done = true;
}

static void start_discovery(struct daemon *d)
{
	struct identity identity = { .op.done = identified };

	pst_catalog_identity(d->catalog, &identity.op);
	run_until(d->envs[0], &identity.done);
	if (identity.op.err != PST_OK)
		pst_env_log(d->envs[0], PST_LOG_WARN,
			    "discovery_nqn_not_kept nqn=%s error=\"%s\" next=\"another one after the next start\"",
			    identity.op.discovery_nqn, pst_err_text(identity.op.err));
	pst_target_set_discovery_nqn(d->target, identity.op.discovery_nqn);
	for (unsigned i = 0; i < d->config->referral_count; i++) {
		pst_err err = pst_target_refer(d->target, &d->config->referrals[i]);

		pst_assert(err == PST_OK); /* there is room for as many as the configuration may have */
	}
}

static int start_listening(struct daemon *d)
{
	char text[72];

	for (unsigned i = 0; i < d->config->port_count; i++) {
		const struct pst_addr *asked = &d->config->ports[i].addr;
		struct pst_addr bound;
		const struct pst_target_port port = { .id = d->config->ports[i].id,
						      .addr = *asked,
						      .tls = d->config->ports[i].tls,
						      .ana = pst_catalog_port_ana(d->catalog, d->config->ports[i].id) };
		pst_err err = pst_target_listen(d->target, &port, &bound);

		if (err == PST_E_ADDRINUSE)
			return fail(err,
				    "%s is in use by another program; stop it, or choose another address with "
				    "--listen ADDR:PORT (port 0 takes any that is free)",
				    pst_addr_format(asked, text));
		if (err != PST_OK)
			return fail(err, "listening on %s failed: %s; choose another address with --listen",
				    pst_addr_format(asked, text), pst_err_text(err));
		json_array_append_new(d->listening, json_string(pst_addr_format(&bound, text)));
		pst_catalog_port_listens(d->catalog, port.id, &bound);
		if (strcmp(bound.host, "0.0.0.0") == 0)
			expand_wildcard(d->addresses, AF_INET, bound.port);
		else if (strcmp(bound.host, "::") == 0)
			expand_wildcard(d->addresses, AF_INET6, bound.port);
		else
			add_address(d->addresses, bound.host, bound.port);
	}
	pst_catalog_set_addresses(d->catalog, d->addresses);
	return PST_DAEMON_OK;
}

static int start_rest(struct daemon *d)
{
	const struct pst_rest_config config = {
		.env = d->envs[0],
		.catalog = d->catalog,
		.socket_path = d->config->api_socket,
		.tcp = d->config->api_tcp,
		.tcp_count = d->config->api_tcp_count,
		.cert_path = d->config->api_cert,
		.key_path = d->config->api_key,
		.limits = d->config->api_limits,
		.version = d->config->version,
		.io = pst_env_backend_name(d->envs[0]),
	};
	char detail[400] = "no memory for the API";
	pst_err err = pst_rest_start(&config, &d->rest, detail, sizeof(detail));

	if (err != PST_OK)
		return fail(err, "%s", detail);
	snprintf(d->api, sizeof(d->api), "unix:%s", d->config->api_socket);
	return PST_DAEMON_OK;
}

static int announce(struct daemon *d)
{
	json_t *pools = json_array(), *https = json_array(), *line;
	char *text;
	bool written = true;

	for (unsigned i = 0; i < d->config->pool_count; i++)
		json_array_append_new(pools, json_string(d->config->pools[i].name));
	for (unsigned i = 0; i < d->config->api_tcp_count; i++) {
		char addr[72], url[80];

		snprintf(url, sizeof(url), "https://%s", pst_addr_format(pst_rest_tcp_bound(d->rest, i), addr));
		json_array_append_new(https, json_string(url));
	}
	line = json_pack("{s:s s:o s:O s:i s:s s:o}", "api", d->api, "api_https", https, "listen", d->listening, "pid",
			 (int)getpid(), "io", pst_env_backend_name(d->envs[0]), "pools", pools);
	text = json_dumps(line, JSON_COMPACT);
	json_decref(line);
	if (text == NULL)
		return fail(PST_E_NOMEM, "no memory");
	pst_env_log(d->envs[0], PST_LOG_INFO, "ready %s", text);
	if (d->config->ready_fd >= 0) {
		FILE *f = fdopen(d->config->ready_fd, "w");

		written = f != NULL && fprintf(f, "%s\n", text) > 0;
		if (f != NULL && fclose(f) != 0)
			written = false;
	}
	free(text);
	return written ? PST_DAEMON_OK : fail(PST_E_INVAL, "--ready-fd %d can't be written to", d->config->ready_fd);
}

static int start_kek(struct daemon *d)
{
	size_t bytes, unlocked;
	pst_err err;

	if (d->config->kek == NULL)
		return PST_DAEMON_OK;
	err = pst_kek_file_new(d->envs[0], d->config->kek, d->config->kek_current, &d->kek);
	if (err != PST_OK)
		return fail(err, "--kek %s: %s", d->config->kek, pst_err_text(err));
	pst_secret_usage(&bytes, &unlocked);
	if (unlocked > 0)
		pst_env_log(d->envs[0], PST_LOG_WARN,
			    "keys_may_be_swapped bytes=%zu next=\"raise the limit of locked memory (ulimit -l, "
			    "LimitMEMLOCK=), or encrypt the swap\"",
			    unlocked);
	pst_catalog_set_kek(d->catalog, d->kek);
	return PST_DAEMON_OK;
}

/* Keys of hosts come in requests: what JSON was made of is wiped. */
static void json_wipe_free(void *mem)
{
	if (mem != NULL)
		explicit_bzero(mem, malloc_usable_size(mem));
	free(mem);
}

static int start(struct daemon *d)
{
	struct pst_target_config target_config = d->config->target;
	pst_err err;
	int rc = start_envs(d);

	if (rc != PST_DAEMON_OK)
		return rc;
	signals_install(d->envs[0]);
	rc = start_shards(d);
	if (rc != PST_DAEMON_OK)
		return rc;
	/* Hosts that can't prove who they are are let in from this machine only, unless the operator says otherwise. */
	target_config.authenticate_remote = !d->config->insecure;
	err = pst_target_new(d->envs, d->env_count, &target_config, &d->target);
	if (err == PST_OK)
		err = pst_catalog_new(d->envs[0], d->target, &d->catalog);
	if (err != PST_OK)
		return fail(err, "no memory to start");
	rc = start_kek(d);
	for (unsigned i = 0; i < d->config->pool_count && rc == PST_DAEMON_OK && signal_count == 0; i++)
		rc = start_pool(d, i);
	if (rc == PST_DAEMON_OK && signal_count == 0) {
		start_discovery(d);
		rc = start_listening(d);
	}
	return rc;
}

/* ---- Stopping ---- */

static void target_stopped(struct pst_target_stop_op *op)
{
	pst_container_of(op, struct daemon, target_stop)->op_done = true;
}

static void catalog_closed(struct pst_catalog_close_op *op)
{
	pst_container_of(op, struct daemon, catalog_close)->op_done = true;
}

static void stop(struct daemon *d)
{
	reload.catalog = NULL;
	if (d->rest != NULL) {
		while (pst_rest_quiesce(d->rest))
			pst_env_poll(d->envs[0], POLL_NS);
		pst_rest_stop(d->rest);
	}
	if (d->target != NULL)
		pst_target_quiesce(d->target);
	while (reload.busy)
		pst_env_poll(d->envs[0], POLL_NS);
	if (d->catalog != NULL) {
		d->op_done = false;
		d->catalog_close.done = catalog_closed;
		pst_catalog_close(d->catalog, &d->catalog_close);
		run_until(d->envs[0], &d->op_done);
	}
	if (d->kek != NULL)
		d->kek->ops->free(d->kek);
	if (d->target != NULL) {
		d->op_done = false;
		d->target_stop.done = target_stopped;
		pst_target_stop(d->target, &d->target_stop);
		run_until(d->envs[0], &d->op_done);
	}
	for (unsigned i = 1; i <= d->thread_count; i++) {
		pst_env_stop(d->envs[i]);
		pthread_join(d->threads[i], NULL);
	}
	if (d->env_count > 0)
		pst_env_log(d->envs[0], PST_LOG_INFO, "stopped pid=%d", (int)getpid());
	/* Signals may still come, and must find nothing that is gone. */
	signal(SIGHUP, SIG_IGN);
	signal(SIGTERM, SIG_IGN);
	signal(SIGINT, SIG_IGN);
	for (unsigned i = 0; i < d->env_count; i++)
		pst_env_free(d->envs[i]);
	json_decref(d->addresses);
	json_decref(d->listening);
}

int pst_daemon_run(const struct pst_daemon_config *config)
{
	struct daemon d = { .config = config };
	int rc;

	/*
	 * The memory of a connection is for its whole queue, and most of it is never touched. Fixed, this threshold
	 * keeps it in mappings of its own, which are not resident; else the C library would soon take it out of what
	 * others have given back, and touch all of it by clearing it.
	 */
	mallopt(M_MMAP_THRESHOLD, MMAP_THRESHOLD_BYTES);
	json_set_alloc_funcs(malloc, json_wipe_free);
	d.addresses = json_array();
	d.listening = json_array();
	rc = start(&d);

	/* The API's thread must not take the main thread's signals. */
	if (rc == PST_DAEMON_OK && signal_count == 0) {
		sigset_t all, old;

		sigfillset(&all);
		pthread_sigmask(SIG_SETMASK, &all, &old);
		rc = start_rest(&d);
		pthread_sigmask(SIG_SETMASK, &old, NULL);
	}
	if (rc == PST_DAEMON_OK && signal_count == 0)
		rc = announce(&d);
	reload.rest = d.rest;
	reload.has_kek = d.kek != NULL;
	reload.catalog = d.rest != NULL ? d.catalog : NULL;
	if (rc == PST_DAEMON_OK && signal_count == 0)
		pst_env_run(d.envs[0]);
	if (signal_count > 0)
		pst_env_log(d.envs[0], PST_LOG_INFO, "stopping reason=signal");
	stop(&d);
	return rc;
}

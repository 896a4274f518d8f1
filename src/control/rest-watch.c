/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One lock over all. Whoever may close a socket takes its link away first (pst_rest_watch_end), under the lock: a
 * number that the watch shuts down is that connection's. Shutting down is all it does; the server sees the end and
 * cleans up.
 */
#include "control/rest-watch.h"

#include <netdb.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define NS_PER_MS 1000000u
#define NS_PER_S 1000000000u

struct pst_rest_watch {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	pthread_t thread;
	uint64_t timeout_ns, wake_ns; /* when the thread wakes by itself */
	void (*chore)(void *ctx);
	void *ctx;
	struct pst_list links;
	bool released, asked, ending;
};

uint64_t pst_rest_now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * NS_PER_S + (uint64_t)t.tv_nsec;
}

/* Does what is due. Returns when something will be, UINT64_MAX: nothing. */
static uint64_t do_due(struct pst_rest_watch *w, uint64_t now_ns)
{
	uint64_t next_ns = UINT64_MAX;

	PST_LIST_EACH(n, &w->links) {
		struct pst_rest_link *l = pst_container_of(n, struct pst_rest_link, node);

		if (l->held != NULL && (w->released || l->held_ns <= now_ns)) {
			struct MHD_Connection *connection = l->held;

			l->held = NULL;
			MHD_resume_connection(connection);
		}
		if (l->deadline_ns != 0 && l->deadline_ns <= now_ns) {
			l->deadline_ns = 0;
			shutdown(l->fd, SHUT_RDWR);
		}
		if (l->held != NULL)
			next_ns = PST_MIN(next_ns, l->held_ns);
		if (l->deadline_ns != 0)
			next_ns = PST_MIN(next_ns, l->deadline_ns);
	}
	return next_ns;
}

/* Wakes the thread if it would sleep beyond @when_ns: requests that are quick wake nobody. */
static void be_there(struct pst_rest_watch *w, uint64_t when_ns)
{
	if (when_ns < w->wake_ns)
		pthread_cond_signal(&w->changed);
}

static void wait_until(struct pst_rest_watch *w, uint64_t when_ns)
{
	const struct timespec t = { .tv_sec = (time_t)(when_ns / NS_PER_S), .tv_nsec = (long)(when_ns % NS_PER_S) };

	w->wake_ns = when_ns;
	if (when_ns == UINT64_MAX)
		pthread_cond_wait(&w->changed, &w->lock);
	else
		pthread_cond_timedwait(&w->changed, &w->lock, &t);
}

static void *run(void *ctx)
{
	struct pst_rest_watch *w = ctx;

	pthread_mutex_lock(&w->lock);
	while (!w->ending) {
		if (w->asked) {
			w->asked = false;
			pthread_mutex_unlock(&w->lock);
			w->chore(w->ctx);
			pthread_mutex_lock(&w->lock);
			continue;
		}
		wait_until(w, do_due(w, pst_rest_now_ns()));
	}
	pthread_mutex_unlock(&w->lock);
	return NULL;
}

pst_err pst_rest_watch_new(uint32_t timeout_ms, void (*chore)(void *ctx), void *ctx, struct pst_rest_watch **ret_watch)
{
	struct pst_rest_watch *w = calloc(1, sizeof(*w));
	pthread_condattr_t monotonic;

	if (w == NULL)
		return PST_E_NOMEM;
	w->timeout_ns = (uint64_t)timeout_ms * NS_PER_MS;
	w->chore = chore;
	w->ctx = ctx;
	pst_list_init(&w->links);
	pthread_mutex_init(&w->lock, NULL);
	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	pthread_cond_init(&w->changed, &monotonic);
	pthread_condattr_destroy(&monotonic);
	if (pthread_create(&w->thread, NULL, run, w) != 0) {
		pthread_cond_destroy(&w->changed);
		pthread_mutex_destroy(&w->lock);
		free(w);
		return PST_E_NOMEM;
	}
	*ret_watch = w;
	return PST_OK;
}

void pst_rest_watch_free(struct pst_rest_watch *w)
{
	pthread_mutex_lock(&w->lock);
	w->ending = true;
	pthread_cond_signal(&w->changed);
	pthread_mutex_unlock(&w->lock);
	pthread_join(w->thread, NULL);
	while (!pst_list_empty(&w->links))
		pst_rest_watch_end(w, pst_container_of(w->links.next, struct pst_rest_link, node));
	pthread_cond_destroy(&w->changed);
	pthread_mutex_destroy(&w->lock);
	free(w);
}

static void name_peer(struct pst_rest_link *l, const struct sockaddr *sa)
{
	socklen_t len = sa->sa_family == AF_INET6 ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in);
	char host[NI_MAXHOST];

	memcpy(&l->peer, sa, len);
	if (getnameinfo(sa, len, host, sizeof(host), NULL, 0, NI_NUMERICHOST) == 0)
		snprintf(l->peer_text, sizeof(l->peer_text), "%.71s", host);
}

struct pst_rest_link *pst_rest_watch_begin(struct pst_rest_watch *w, struct MHD_Connection *connection, bool tcp)
{
	const union MHD_ConnectionInfo *fd = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
	const union MHD_ConnectionInfo *peer = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
	struct pst_rest_link *l = calloc(1, sizeof(*l));

	if (l == NULL)
		return NULL;
	l->fd = fd->connect_fd;
	l->tcp = tcp;
	snprintf(l->peer_text, sizeof(l->peer_text), tcp ? "unknown" : "unix");
	if (tcp && peer != NULL && peer->client_addr != NULL)
		name_peer(l, peer->client_addr);
	pthread_mutex_lock(&w->lock);
	l->deadline_ns = pst_rest_now_ns() + w->timeout_ns;
	pst_list_push_back(&w->links, &l->node);
	be_there(w, l->deadline_ns);
	pthread_mutex_unlock(&w->lock);
	return l;
}

void pst_rest_watch_end(struct pst_rest_watch *w, struct pst_rest_link *l)
{
	pthread_mutex_lock(&w->lock);
	pst_list_remove(&l->node);
	pthread_mutex_unlock(&w->lock);
	free(l);
}

void pst_rest_watch_start(struct pst_rest_watch *w, struct pst_rest_link *l)
{
	pthread_mutex_lock(&w->lock);
	l->deadline_ns = pst_rest_now_ns() + w->timeout_ns;
	be_there(w, l->deadline_ns);
	pthread_mutex_unlock(&w->lock);
}

void pst_rest_watch_pause(struct pst_rest_watch *w, struct pst_rest_link *l)
{
	pthread_mutex_lock(&w->lock);
	l->deadline_ns = 0;
	pthread_mutex_unlock(&w->lock);
}

bool pst_rest_watch_hold(struct pst_rest_watch *w, struct pst_rest_link *l, struct MHD_Connection *connection,
			 uint32_t delay_ms)
{
	bool holds;

	pthread_mutex_lock(&w->lock);
	holds = !w->released;
	if (holds) {
		MHD_suspend_connection(connection);
		l->held = connection;
		l->held_ns = pst_rest_now_ns() + (uint64_t)delay_ms * NS_PER_MS;
		be_there(w, l->held_ns);
	}
	pthread_mutex_unlock(&w->lock);
	return holds;
}

void pst_rest_watch_release(struct pst_rest_watch *w)
{
	pthread_mutex_lock(&w->lock);
	w->released = true;
	do_due(w, pst_rest_now_ns());
	pthread_mutex_unlock(&w->lock);
}

void pst_rest_watch_ask(struct pst_rest_watch *w)
{
	pthread_mutex_lock(&w->lock);
	w->asked = true;
	pthread_cond_signal(&w->changed);
	pthread_mutex_unlock(&w->lock);
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the HTTP server can't do by itself: end connections that take too long as a whole (its own timeout begins anew
 * with every byte, so one byte now and then would hold a place for ever), and keep back answers for a while. A thread
 * of its own, which sleeps while there is nothing to wait for.
 */
#ifndef PST_CONTROL_REST_WATCH_H
#define PST_CONTROL_REST_WATCH_H

#include "base/list.h"

#include <microhttpd.h>
#include <sys/socket.h>

struct pst_rest_watch;

/* One connection. */
struct pst_rest_link {
	struct pst_list node;
	int fd;
	bool tcp;
	struct sockaddr_storage peer;
	char peer_text[72];          /* for the log; "unix" */
	uint64_t deadline_ns;        /* monotonic; 0: none */
	struct MHD_Connection *held; /* its answer is kept back until held_ns; NULL: it is not */
	uint64_t held_ns;
};

/* @chore, on the watch's thread, is what pst_rest_watch_ask asks for. */
pst_err PST_MUST_USE pst_rest_watch_new(uint32_t timeout_ms, void (*chore)(void *ctx), void *ctx,
					struct pst_rest_watch **ret_watch);

/* Nothing may be held; connections may still be there. */
void pst_rest_watch_free(struct pst_rest_watch *watch);

/*
 * A connection begins, by TCP or the unix socket, with its time for a first request; NULL: no memory. It ends, before
 * its socket is closed.
 */
struct pst_rest_link *pst_rest_watch_begin(struct pst_rest_watch *watch, struct MHD_Connection *connection, bool tcp);
void pst_rest_watch_end(struct pst_rest_watch *watch, struct pst_rest_link *link);

/* Its time begins anew, for a request or an answer; or it is we who work, which has no limit. */
void pst_rest_watch_start(struct pst_rest_watch *watch, struct pst_rest_link *link);
void pst_rest_watch_pause(struct pst_rest_watch *watch, struct pst_rest_link *link);

/*
 * Suspends the connection and resumes it after @delay_ms. False: nothing is held any more, go on at once. On the
 * connection's thread, inside its handler.
 */
bool pst_rest_watch_hold(struct pst_rest_watch *watch, struct pst_rest_link *link, struct MHD_Connection *connection,
			 uint32_t delay_ms);
/* All that is held goes on now, and nothing is held any more. */
void pst_rest_watch_release(struct pst_rest_watch *watch);

void pst_rest_watch_ask(struct pst_rest_watch *watch);

uint64_t pst_rest_now_ns(void); /* monotonic */

#endif

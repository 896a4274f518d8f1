/* SPDX-License-Identifier: Apache-2.0 */
/* Inside of the host: links (link.c), the association (session.c, steps.c), requests (requests.c). */
#ifndef PST_HOST_IMPL_H
#define PST_HOST_IMPL_H

#include "host/host.h"
#include "proto/auth.h"
#include "proto/conn.h"
#include "proto/tls.h"

#define IO_QUEUES_MAX 16u
#define LINK_IOV_SEND 128u
#define LINK_SEND_BYTES 131072u /* of one send: it copies all of it before anyone else on the core has a turn */
#define LINK_IOV_RECV 66u       /* 64 of a request, one cut in two, the stage */
#define ADMIN_ENTRIES 32u
#define PAGE_BYTES 4096u
#define INCAPSULE_BYTES_MAX 65536u
#define TLS_BUFFER_BYTES 65536u
#define TLS_HANDSHAKE_BYTES_MAX 32768u
#define TLS_REKEY_RECORDS (1u << 24) /* RFC 8446, 5.5 */
#define PARTING_NS_MAX 100000000ull  /* for TLS's closing alert to leave; the target's is not waited for */

enum link_state { LINK_DOWN, LINK_CONNECTING, LINK_UP, LINK_CLOSING };

/* A queue that authenticates, in secret memory. The message's bytes are the engine's until the command is over. */
struct link_auth {
	struct pst_auth engine;
	struct iovec iov;
	uint8_t message[4096];
};

/* One queue pair: a stream and its engine. DOWN -> CONNECTING -> UP -> CLOSING -> DOWN. */
struct pst_link {
	struct pst_session *session;
	uint16_t qid;
	enum link_state state;
	bool doomed;    /* close as soon as that is possible */
	bool connected; /* the Fabrics Connect of this queue has succeeded */
	bool sending, receiving;
	bool parting; /* CLOSING, and the stream still takes TLS's closing alert */
	struct pst_timer parting_end;
	uint32_t depth;         /* commands outstanding at most */
	struct link_auth *auth; /* while it authenticates; freed with the engine if it never ends */
	struct pst_conn *conn;
	struct pst_tls *tls; /* between them; NULL: none. Freed with the engine */
	struct pst_stream *stream;
	struct pst_connect_op connect;
	struct pst_close_op close;
	struct pst_stream_op send, recv;
	struct iovec send_iov[LINK_IOV_SEND], recv_iov[LINK_IOV_RECV];
};

/* A part of a request, as long as one command may be. In one of the lists of the session, or with a connection. */
struct part {
	struct pst_list node;
	struct pst_request *request;
	uint64_t skip_bytes, bytes; /* of the request */
	uint64_t sent_ns;
	bool in_flight;
	uint8_t tries;
	uint64_t hold_until_ns;      /* not sent again before: see session_lose */
	struct nvme_dsm_range range; /* discard */
	struct iovec range_iov;
};

/* Lives in pst_request.scratch. */
struct pst_request_state {
	struct pst_list node; /* waiting, as long as parts are to be made */
	uint64_t start_ns;
	uint64_t made_bytes; /* of which parts have been made */
	uint64_t covers;     /* flush: writes_done when it was submitted */
	uint64_t number;     /* flush: flushes_submitted, with it */
	uint32_t parts;      /* not yet over */
	bool made;           /* all parts */
	pst_err err;
	uint16_t nvme_status;
	struct pst_request *request;
	struct pst_request *next; /* public.c's mailbox */
	void *shell;              /* public.c's */
};
_Static_assert(sizeof(struct pst_request_state) <= sizeof(((struct pst_request *)0)->scratch), "fits in scratch");

static inline struct pst_request_state *request_state(struct pst_request *request)
{
	return (struct pst_request_state *)(void *)request->scratch;
}

enum session_step {
	STEP_DOWN, /* no association: links close, or the reconnect delay runs */
	STEP_LINK, /* the admin queue's TCP connection and ICReq */
	STEP_CONNECT,
	STEP_AUTH, /* the admin queue authenticates, if the target asks for it; I/O queues do so in STEP_IO */
	STEP_CAP,
	STEP_ENABLE,
	STEP_STATUS, /* until CSTS.RDY */
	STEP_CONTROLLER,
	STEP_NAMESPACE,
	STEP_DESCRIPTORS,
	STEP_LIMITS,
	STEP_ANA, /* how well the namespace may be used on this path; if the controller can say */
	STEP_QUEUES,
	STEP_IO, /* I/O queues: TCP, ICReq, Connect, all at once */
	STEP_LIVE,
	STEP_LOG_SIZE, /* discovery only */
	STEP_LOG,
	STEP_SHUTDOWN,
};

struct pst_session {
	struct pst_env *env;
	struct pst_session_config config;
	struct pst_tls_context *tls;           /* NULL: there is no TLS key */
	struct pst_session_open_op *open_op;   /* until it has been answered */
	struct pst_session_close_op *close_op; /* once closing */
	bool running;                          /* inside session_run */

	enum session_step step;
	bool lost; /* tear down what there is of the association */
	pst_err lost_err, open_err;
	struct pst_link admin, io[IO_QUEUES_MAX];
	uint32_t io_count; /* of this association */
	struct pst_timer step_timer, keep_alive_timer, delay_timer, loss_timer, retry_timer;
	struct pst_post kick;
	bool kicked;
	uint64_t delay_ns;
	bool keep_alive_pending;

	/* Paths: path.c. */
	uint32_t path;        /* in use, or tried */
	uint32_t path_tries;  /* that have failed since the last association, in this round */
	uint32_t path_second; /* best that the round has found, not optimized; path_count(): none */
	bool path_any;        /* the round is over: that one is taken */
	bool path_shut;       /* this one is not to be used any more: nothing is sent, and it is left when it is idle */
	bool ana;             /* the controller reports asymmetric namespace access */
	uint8_t event_log;    /* the page that the last event is about */
	uint64_t hold_ns;     /* when changes that were in flight on a lost path may be sent again */
	char config_tag, event_tag, log_tag, namespace_tag; /* owners of admin commands */

	/* What the controller said. */
	uint16_t cntlid;
	uint64_t cap;
	uint32_t entries, transfer_bytes, incapsule_bytes;
	uint64_t zeroes_bytes, discard_bytes; /* longest of one command; 0: not supported */
	struct pst_ns_info info;
	bool info_known;

	struct nvmf_connect_data connect_data;
	struct iovec connect_iov, page_iov;
	uint8_t page[PAGE_BYTES]; /* of the admin command of the step */
	struct pst_discovery_entry *entries_found;
	uint64_t entries_count, log_records, log_records_read, log_generation;
	unsigned log_tries;

	/* Requests. */
	struct pst_list waiting; /* requests with parts to be made */
	struct pst_list failed;  /* requests to be completed with their error */
	struct pst_list free;    /* parts */
	struct pst_list replay;  /* parts to be sent again, first */
	struct pst_list later;   /* parts to be sent again after a pause */
	struct part *parts;
	uint32_t part_count;
	uint32_t outstanding; /* requests */
	bool expired;         /* the loss timeout has passed: requests fail at once */

	/* What a flush may claim (requests.c): counts of writes without FUA, in the order of their completion. */
	uint64_t writes_done;
	uint64_t writes_at_risk; /* completed before the last reconnect */
	uint64_t writes_told;    /* a flush that covers them has succeeded or failed */
	uint64_t untold_to;      /* from writes_told to here: maybe lost, and nobody has said so */
	uint16_t untold_status;  /* to say it with */
	uint64_t flushes_submitted, flushes_doubted;
	bool flush_first, flush_out; /* since the reconnect no flush was answered; one is under way */

	struct pst_ns_stats stats;
	uint64_t lost_since_ns;
	struct pst_hist latency[5];
};

/* link.c */
void link_open(struct pst_link *link, uint32_t depth, uint32_t incapsule_bytes);
void link_close(struct pst_link *link);
bool link_ready(const struct pst_link *link); /* ICReq and ICResp are through */
void link_events(struct pst_link *link);
void link_move(struct pst_link *link);

/* session.c */
void session_run(struct pst_session *s);
void session_kick(struct pst_session *s);
void session_lose(struct pst_session *s, pst_err err);
static inline bool session_live(const struct pst_session *s)
{
	return s->step == STEP_LIVE && !s->lost;
}

/* path.c */
static inline uint32_t path_count(const struct pst_session *s)
{
	return 1 + s->config.more_count;
}
const struct pst_addr *path_addr(const struct pst_session *s);
void path_lost(struct pst_session *s);   /* an association on it has ended */
bool path_failed(struct pst_session *s); /* an attempt has; true: the round goes on, at once */
void path_lives(struct pst_session *s);
enum path_verdict { PATH_TAKE, PATH_LEAVE };
/* By log page 0Ch, in s->page. */
enum path_verdict path_judge(struct pst_session *s);
/* A command came back with a status that is about the path: its part is sent on another one. */
bool path_status(uint16_t status);
void path_shut(struct pst_session *s);

/* steps.c: the handshake and other admin commands */
void steps_next(struct pst_session *s);
void steps_response(struct pst_session *s, struct pst_link *link, const struct pst_conn_event *ev);
void steps_keep_alive(struct pst_session *s);
void steps_shutdown(struct pst_session *s);
void steps_poll_status(struct pst_session *s);

void steps_admin_ready(struct pst_session *s);
void steps_io_ready(struct pst_session *s, struct pst_link *link);

/* auth.c: after a Connect that succeeded */
void auth_begin(struct pst_link *link, bool required);
void auth_response(struct pst_link *link, const struct pst_conn_event *ev);
void auth_end(struct pst_link *link);

/* requests.c */
pst_err requests_init(struct pst_session *s);
void requests_done(struct pst_session *s);
void requests_pump(struct pst_session *s);
void requests_response(struct pst_session *s, const struct pst_conn_event *ev);
void requests_fail_all(struct pst_session *s, pst_err err);
bool requests_stuck(const struct pst_session *s);
bool requests_in_flight(const struct pst_session *s);
void requests_retry(struct pst_session *s);
void requests_reconnected(struct pst_session *s);

#endif

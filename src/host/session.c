/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The association of a session: when it is made, kept alive, lost, made again, and ended.
 *
 * The step says how far the handshake is (impl.h); LIVE is its end. Loss, from any step: `lost` is set, links are
 * closed; when all are DOWN, the step is DOWN too and one of three things follows: the close is answered; the open is
 * answered with the error; or the next attempt waits for its delay (doubling up to 2 s).
 *
 * Requests live on: those in flight come back from the engine as their link closes and are kept for replay. After the
 * loss timeout they fail with PST_E_TIMEOUT, and so do new ones until there is a connection again.
 *
 * All decisions are taken in session_run. Callbacks of the environment store their result and call it.
 */
#include "host/impl.h"

#include <stdlib.h>
#include <string.h>

#define DELAY_NS_MAX 2000000000u
#define SHUTDOWN_NS_MAX 500000000u
#define FENCE_NS 500000000u /* how late a target may be in noticing that the keep-alive time is over */

static bool links_down(const struct pst_session *s)
{
	bool down = s->admin.state == LINK_DOWN && s->admin.conn == NULL;

	for (uint32_t i = 0; i < IO_QUEUES_MAX; i++)
		down = down && s->io[i].state == LINK_DOWN && s->io[i].conn == NULL;
	return down;
}

static void timers_disarm(struct pst_session *s)
{
	pst_timer_disarm(s->env, &s->step_timer);
	pst_timer_disarm(s->env, &s->keep_alive_timer);
	pst_timer_disarm(s->env, &s->delay_timer);
	pst_timer_disarm(s->env, &s->retry_timer);
}

/*
 * How long to wait before the first attempt. After silence the target may not know that the association is over, and
 * may still carry out writes of it, even ones that are yet in the network. If these came after a replay, and after a
 * later write of the caller, old data would stand. So wait until the target has dropped the association: when the
 * keep-alive time has passed without us. A target that closed the connection itself has nothing more of it.
 *
 * With another path there is no need to wait for everything: only what changes data and was in flight is held.
 */
static void session_fence(struct pst_session *s, pst_err err)
{
	uint64_t fence_ns = err == PST_E_TIMEOUT ? s->config.keep_alive_ns + FENCE_NS : 0;

	s->delay_ns = s->config.reconnect_delay_ns;
	if (path_count(s) > 1)
		s->hold_ns = pst_env_now_ns(s->env) + fence_ns;
	else
		s->delay_ns = PST_MAX(s->delay_ns, fence_ns);
}

/* The association is over, or the attempt at one. The first reason counts. */
void session_lose(struct pst_session *s, pst_err err)
{
	if (s->lost || s->step == STEP_DOWN)
		return;
	s->lost = true;
	s->lost_err = err;
	if (s->stats.connected) {
		s->stats.connected = false;
		s->lost_since_ns = pst_env_now_ns(s->env);
		session_fence(s, err);
		path_lost(s);
		if (s->close_op == NULL)
			pst_env_log(s->env, PST_LOG_WARN, "host_lost subnqn=%s reason=\"%s\" next=reconnect",
				    s->config.subnqn, pst_err_text(err));
		if (s->config.loss_timeout_ns > 0)
			pst_timer_arm(s->env, &s->loss_timer, s->lost_since_ns + s->config.loss_timeout_ns);
	}
	timers_disarm(s);
	link_close(&s->admin);
	for (uint32_t i = 0; i < IO_QUEUES_MAX; i++)
		link_close(&s->io[i]);
	session_kick(s);
}

static void session_attempt(struct pst_session *s)
{
	s->lost = s->keep_alive_pending = s->path_shut = false;
	s->step = STEP_LINK;
	pst_timer_arm(s->env, &s->step_timer, pst_env_now_ns(s->env) + s->config.connect_timeout_ns);
	link_open(&s->admin, ADMIN_ENTRIES - 1, NVME_TCP_ADMIN_INCAPSULE_BYTES);
}

static void session_free(struct pst_session *s)
{
	timers_disarm(s);
	pst_timer_disarm(s->env, &s->loss_timer);
	requests_done(s);
	free(s->entries_found);
	pst_tls_context_free(s->tls);
	free(s);
}

/* All links are down. True when the session is gone. */
static bool session_torn_down(struct pst_session *s)
{
	struct pst_session_close_op *close_op = s->close_op;
	struct pst_session_open_op *open_op = s->open_op;
	bool more;

	if (close_op != NULL) {
		requests_fail_all(s, PST_E_CANCELLED);
		requests_pump(s);
		if (s->outstanding > 0) { /* a callback has submitted again: once more, later */
			session_kick(s);
			return false;
		}
		session_free(s);
		close_op->done(close_op);
		return true;
	}
	more = path_failed(s);
	if (s->open_err == PST_OK) /* the first path is the one that the caller means */
		s->open_err = s->lost_err;
	if (open_op != NULL && !more) {
		open_op->err = s->open_err;
		open_op->session = NULL;
		session_free(s);
		open_op->done(open_op);
		return true;
	}
	s->step = STEP_DOWN;
	s->lost = false;
	pst_timer_arm(s->env, &s->delay_timer, pst_env_now_ns(s->env) + (more ? 0 : s->delay_ns));
	if (!more)
		s->delay_ns = PST_MIN(s->delay_ns * 2, (uint64_t)DELAY_NS_MAX);
	return false;
}

static void session_lives(struct pst_session *s)
{
	struct pst_session_open_op *op = s->open_op;

	pst_timer_disarm(s->env, &s->step_timer);
	pst_timer_disarm(s->env, &s->loss_timer);
	s->expired = false;
	s->stats.connected = true;
	path_lives(s);
	requests_retry(s);
	if (s->lost_since_ns > 0) {
		requests_reconnected(s);
		s->stats.reconnects++;
		s->stats.stalled_ns += pst_env_now_ns(s->env) - s->lost_since_ns;
		s->lost_since_ns = 0;
		pst_env_log(s->env, PST_LOG_INFO, "host_reconnected subnqn=%s", s->config.subnqn);
	}
	if (s->config.keep_alive_ns > 0)
		pst_timer_arm(s->env, &s->keep_alive_timer, pst_env_now_ns(s->env) + s->config.keep_alive_ns / 2);
	if (op != NULL) {
		s->open_op = NULL;
		op->err = PST_OK;
		op->session = s;
		op->done(op);
	}
}

/* The one place where things are decided. Never re-entered: what callbacks of the caller ask for is done at the end. */
void session_run(struct pst_session *s)
{
	enum session_step before;

	if (s->running)
		return;
	s->running = true;
	before = s->step;
	link_events(&s->admin);
	for (uint32_t i = 0; i < s->io_count; i++)
		link_events(&s->io[i]);
	if (s->lost && !s->kicked && links_down(s)) {
		s->running = false;
		if (session_torn_down(s))
			return;
		s->running = true;
	}
	if (!s->lost)
		steps_next(s);
	if (s->step == STEP_LIVE && before != STEP_LIVE && !s->lost)
		session_lives(s);
	requests_pump(s);
	link_move(&s->admin);
	for (uint32_t i = 0; i < s->io_count; i++)
		link_move(&s->io[i]);
	s->running = false;
}

static void session_on_kick(struct pst_post *post)
{
	struct pst_session *s = pst_container_of(post, struct pst_session, kick);

	s->kicked = false;
	session_run(s);
}

/* Run soon. With a post outstanding the session is not freed (session_run). */
void session_kick(struct pst_session *s)
{
	if (s->kicked)
		return;
	s->kicked = true;
	pst_env_post(s->env, &s->kick);
}

/* ---- Timers ---- */

static void session_on_step_timer(struct pst_timer *timer)
{
	struct pst_session *s = pst_container_of(timer, struct pst_session, step_timer);

	session_lose(s, s->step == STEP_SHUTDOWN ? PST_E_CLOSED : PST_E_TIMEOUT);
	session_run(s);
}

/* Half of the keep-alive time has passed. The answer to the last Keep Alive must be here by now. */
static void session_on_keep_alive(struct pst_timer *timer)
{
	struct pst_session *s = pst_container_of(timer, struct pst_session, keep_alive_timer);

	if (s->keep_alive_pending || requests_stuck(s)) {
		session_lose(s, PST_E_TIMEOUT);
	} else {
		steps_keep_alive(s);
		pst_timer_arm(s->env, timer, pst_env_now_ns(s->env) + s->config.keep_alive_ns / 2);
	}
	session_run(s);
}

static void session_on_delay(struct pst_timer *timer)
{
	struct pst_session *s = pst_container_of(timer, struct pst_session, delay_timer);

	session_attempt(s);
	session_run(s);
}

static void session_on_loss(struct pst_timer *timer)
{
	struct pst_session *s = pst_container_of(timer, struct pst_session, loss_timer);

	s->expired = true;
	requests_fail_all(s, PST_E_TIMEOUT);
	session_run(s);
}

static void session_on_retry(struct pst_timer *timer)
{
	struct pst_session *s = pst_container_of(timer, struct pst_session, retry_timer);

	if (s->step == STEP_STATUS)
		steps_poll_status(s);
	else
		requests_retry(s);
	session_run(s);
}

/* ---- Interface ---- */

static void session_open_failed(struct pst_post *post)
{
	struct pst_session *s = pst_container_of(post, struct pst_session, kick);

	s->lost_err = PST_E_NOMEM;
	(void)session_torn_down(s);
}

static void connect_data_init(struct pst_session *s)
{
	memcpy(s->connect_data.hostid, s->config.hostid, 16);
	memcpy(s->connect_data.subnqn, s->config.subnqn, strlen(s->config.subnqn));
	memcpy(s->connect_data.hostnqn, s->config.hostnqn, strlen(s->config.hostnqn));
	s->connect_iov = (struct iovec){ &s->connect_data, sizeof(s->connect_data) };
	s->page_iov = (struct iovec){ s->page, sizeof(s->page) };
}

/* Without memory for it there is no session to post from, so the caller is answered at once, as nothing else can be. */
void pst_session_open(struct pst_env *env, const struct pst_session_config *config, struct pst_session_open_op *op)
{
	struct pst_session *s = calloc(1, sizeof(*s));

	op->session = NULL;
	if (s == NULL) {
		op->err = PST_E_NOMEM;
		op->done(op);
		return;
	}
	s->env = env;
	s->config = *config;
	s->open_op = op;
	s->kick.fn = session_on_kick;
	s->io_count = PST_MIN(config->io_queues, IO_QUEUES_MAX);
	s->config.io_queues = s->io_count;
	s->admin.session = s;
	for (uint32_t i = 0; i < IO_QUEUES_MAX; i++) {
		s->io[i].session = s;
		s->io[i].qid = (uint16_t)(i + 1);
	}
	pst_timer_init(&s->step_timer, session_on_step_timer);
	pst_timer_init(&s->keep_alive_timer, session_on_keep_alive);
	pst_timer_init(&s->delay_timer, session_on_delay);
	pst_timer_init(&s->loss_timer, session_on_loss);
	pst_timer_init(&s->retry_timer, session_on_retry);
	connect_data_init(s);
	s->delay_ns = config->reconnect_delay_ns;
	s->path_second = path_count(s);
	if (requests_init(s) != PST_OK ||
	    (config->keys != NULL && config->keys->has_tls && pst_tls_context_new(PST_TLS_HOST, &s->tls) != PST_OK)) {
		s->kick.fn = session_open_failed;
		session_kick(s);
		return;
	}
	session_attempt(s);
}

void pst_session_close(struct pst_session *s, struct pst_session_close_op *op)
{
	pst_assert(s->close_op == NULL);
	s->close_op = op;
	if (session_live(s)) {
		steps_shutdown(s);
		pst_timer_disarm(s->env, &s->keep_alive_timer);
		pst_timer_arm(s->env, &s->step_timer, pst_env_now_ns(s->env) + SHUTDOWN_NS_MAX);
	} else if (s->step == STEP_DOWN) {
		/* Waiting for the next attempt: nothing to close. */
		pst_timer_disarm(s->env, &s->delay_timer);
		s->lost = true;
	} else {
		session_lose(s, PST_E_CANCELLED);
	}
	session_kick(s);
}

uint32_t pst_session_path(const struct pst_session *s)
{
	return s->path;
}

void pst_session_info(const struct pst_session *s, struct pst_ns_info *ret_info)
{
	*ret_info = s->info;
}

static void stats_add_link(const struct pst_link *link, struct pst_ns_stats *stats)
{
	struct pst_stream_stats now;

	if (link->state != LINK_UP)
		return;
	pst_stream_stats(link->stream, &now);
	stats->socket_bytes_received += now.bytes_received;
	stats->socket_bytes_sent += now.bytes_sent;
	stats->retransmits += now.retransmits;
}

void pst_session_stats(const struct pst_session *s, struct pst_ns_stats *ret_stats)
{
	struct pst_ns_stats stats = s->stats;

	stats_add_link(&s->admin, &stats);
	for (uint32_t i = 0; i < IO_QUEUES_MAX; i++)
		stats_add_link(&s->io[i], &stats);
	if (s->lost_since_ns > 0)
		stats.stalled_ns += pst_env_now_ns(s->env) - s->lost_since_ns;
	*ret_stats = stats;
}

struct pst_hist *pst_session_latency(struct pst_session *s, enum pst_request_kind kind)
{
	return &s->latency[kind];
}

const struct pst_discovery_entry *pst_session_entries(const struct pst_session *s, size_t *ret_count)
{
	*ret_count = s->entries_count;
	return s->entries_found;
}

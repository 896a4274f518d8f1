/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which of several paths to a subsystem a session uses. One at a time: every request is on one association, so nothing
 * is ever outstanding twice. A path is left when its association is lost, or when the target says (by an event, or by
 * the status of a command) that another one is to be used: then nothing more is sent on it, and it is closed when what
 * was in flight has been answered.
 *
 * The search goes round from the path behind the one that was left. An optimized path is taken at once; when the round
 * has found none, the first that serves at all; when there is none of these either, the next round follows a pause.
 */
#include "host/impl.h"
#include "proto/cursor.h"

enum { ANA_OPTIMIZED = 1, ANA_NON_OPTIMIZED = 2 }; /* Base 2.0, 5.16.1.13 */

#define STATUS_TYPE_PATH 0x300u

const struct pst_addr *path_addr(const struct pst_session *s)
{
	return s->path == 0 ? &s->config.addr : &s->config.more[s->path - 1];
}

static void search_begin(struct pst_session *s)
{
	s->path_tries = 0;
	s->path_second = path_count(s);
	s->path_any = false;
}

void path_lost(struct pst_session *s)
{
	search_begin(s);
	s->path_tries = path_count(s); /* not an attempt that failed: path_failed begins the round */
}

bool path_failed(struct pst_session *s)
{
	uint32_t count = path_count(s);

	if (s->path_tries == count) { /* an association was lost */
		s->path = (s->path + 1) % count;
		s->path_tries = 0;
		return false;
	}
	if (s->path_any) { /* even the second best has failed now */
		s->path = (s->path + 1) % count;
		search_begin(s);
		return false;
	}
	if (++s->path_tries < count) {
		s->path = (s->path + 1) % count;
		return true;
	}
	if (s->path_second < count) {
		s->path = s->path_second;
		s->path_any = true;
		return true;
	}
	s->path = (s->path + 1) % count;
	search_begin(s);
	return false;
}

void path_lives(struct pst_session *s)
{
	search_begin(s);
}

/* The state of the group that our namespace is in; optimized if the page has no word of it. */
static uint8_t state_of_namespace(const struct pst_session *s)
{
	struct pst_bytes bytes = { s->page, sizeof(s->page) };
	const struct nvme_ana_log *log = pst_bytes_take(&bytes, sizeof(*log));

	for (uint32_t i = 0; log != NULL && i < nvme_get16(log->ngrps); i++) {
		const struct nvme_ana_group *group = pst_bytes_take(&bytes, sizeof(*group));
		uint32_t count = group != NULL ? nvme_get32(group->nnsids) : 0;

		for (uint32_t j = 0; group != NULL && j < count; j++) {
			const nvme_le32 *nsid = pst_bytes_take(&bytes, sizeof(*nsid));

			if (nsid == NULL)
				return ANA_OPTIMIZED;
			if (nvme_get32(*nsid) == s->config.nsid)
				return group->state & 0xf;
		}
		if (group == NULL)
			break;
	}
	return ANA_OPTIMIZED;
}

enum path_verdict path_judge(struct pst_session *s)
{
	uint8_t state = state_of_namespace(s);

	if (state == ANA_OPTIMIZED)
		return PATH_TAKE;
	if (state != ANA_NON_OPTIMIZED)
		return PATH_LEAVE;
	if (s->path_any || path_count(s) == 1)
		return PATH_TAKE;
	if (s->path_second == path_count(s))
		s->path_second = s->path;
	return PATH_LEAVE;
}

bool path_status(uint16_t status)
{
	return (status & 0x700) == STATUS_TYPE_PATH && (status & NVME_STATUS_DNR) == 0;
}

void path_shut(struct pst_session *s)
{
	s->path_shut = true;
	session_kick(s);
}

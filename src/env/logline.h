/* SPDX-License-Identifier: Apache-2.0 */
/* How a log line looks, shared by all environments. Any thread. */
#ifndef PST_ENV_LOGLINE_H
#define PST_ENV_LOGLINE_H

#include "env/env.h"

#define PST_LOGLINE_MAX 1024u

/*
 * "2026-11-23T12:58:09.123456Z level=info event key=value ...\n" into @buf, cut at PST_LOGLINE_MAX; bytes of peers that
 * could forge a line or drive a terminal become '?'. Returns the length.
 */
size_t pst_logline_format(char buf[PST_LOGLINE_MAX], uint64_t wall_ns, enum pst_log_level level, const char *fmt,
			  va_list args) __attribute__((format(printf, 4, 0)));

#endif

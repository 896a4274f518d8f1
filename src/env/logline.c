/* SPDX-License-Identifier: Apache-2.0 */
#include "env/logline.h"

#include <stdio.h>
#include <time.h>

size_t pst_logline_format(char buf[PST_LOGLINE_MAX], uint64_t wall_ns, enum pst_log_level level, const char *fmt,
			  va_list args)
{
	static const char *const level_names[] = { "error", "warn", "info", "debug" };
	const size_t room = PST_LOGLINE_MAX - 1; /* the newline */
	time_t seconds = (time_t)(wall_ns / 1000000000);
	struct tm tm;
	size_t len, from;
	int n;

	gmtime_r(&seconds, &tm);
	len = strftime(buf, room, "%Y-%m-%dT%H:%M:%S", &tm);
	n = snprintf(buf + len, room - len, ".%06uZ level=%s ", (unsigned)(wall_ns % 1000000000 / 1000),
		     level_names[level]);
	from = len += (size_t)n;
	n = vsnprintf(buf + len, room - len, fmt, args);
	if (n > 0)
		len += PST_MIN((size_t)n, room - len - 1);
	for (size_t i = from; i < len; i++)
		if ((unsigned char)buf[i] < 0x20 || buf[i] == 0x7f)
			buf[i] = '?';
	buf[len++] = '\n';
	return len;
}

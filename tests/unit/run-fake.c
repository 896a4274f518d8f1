/* SPDX-License-Identifier: Apache-2.0 */
/* `penstock run` over stand-ins for daemon and host library: tests/e2e/test_run_fake.py drives it. */
#include "cli.h"

#include <stdarg.h>
#include <stdio.h>

void cli_error(const char *hint, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fprintf(stderr, "\n  try: %s\n", hint);
}

int main(int argc, char **argv)
{
	return cmd_run(argc, argv);
}

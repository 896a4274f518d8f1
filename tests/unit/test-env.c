/* SPDX-License-Identifier: Apache-2.0 */
/* What the real environment has beyond the contract: addresses, the timer heap, log lines, the choice of the backend.
 */
#include "base/prng.h"
#include "env/env.h"
#include "env/logline.h"
#include "env/timers.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

/* Numeric hosts with and without a port are taken, and written back as they were. */
static void addresses_parse_and_format(void **state)
{
	struct pst_addr addr;
	char text[72];

	(void)state;
	assert_int_equal(pst_addr_parse("127.0.0.1:4421", 4420, &addr), PST_OK);
	assert_string_equal(addr.host, "127.0.0.1");
	assert_int_equal(addr.port, 4421);
	assert_string_equal(pst_addr_format(&addr, text), "127.0.0.1:4421");
	assert_int_equal(pst_addr_parse("[::1]", 4420, &addr), PST_OK);
	assert_string_equal(pst_addr_format(&addr, text), "[::1]:4420");
	assert_int_equal(pst_addr_parse("[fe80::1]:0", 4420, &addr), PST_OK);
	assert_int_equal(addr.port, 0);
	assert_int_equal(pst_addr_parse("localhost", 1, &addr), PST_OK);
	assert_string_equal(pst_addr_format(&addr, text), "localhost:1");
}

/* Names, bare IPv6, missing brackets, ports that are none: refused, and nothing is written. */
static void bad_addresses_are_refused(void **state)
{
	static const char *const bad[] = {
		"",           ":1",         "example.org", "1.2.3.4:", "1.2.3.4:65536",
		"1.2.3.4:+1", "1.2.3.4:1x", "::1",         "[::1",     "[::1]x",
		"[::1]:",     "[1.2.3.4]",  "1.2.3.4.5",   "[]",       "1.2.3.4:99999999999"
	};
	struct pst_addr addr = { .port = 7 };
	char long_text[200];

	(void)state;
	for (size_t i = 0; i < PST_ARRAY_COUNT(bad); i++)
		assert_int_equal(pst_addr_parse(bad[i], 4420, &addr), PST_E_INVAL);
	memset(long_text, '1', sizeof(long_text) - 1);
	long_text[sizeof(long_text) - 1] = 0;
	assert_int_equal(pst_addr_parse(long_text, 4420, &addr), PST_E_INVAL);
	assert_int_equal(addr.port, 7);
}

struct model_timer {
	struct pst_timer timer;
	unsigned fired;
};

static struct pst_timer *model_last;
static bool model_disordered;

static void model_fired(struct pst_timer *timer)
{
	struct model_timer *m = pst_container_of(timer, struct model_timer, timer);

	if (model_last && (model_last->deadline_ns > timer->deadline_ns ||
			   (model_last->deadline_ns == timer->deadline_ns && model_last->seq > timer->seq)))
		model_disordered = true;
	model_last = timer;
	m->fired++;
}

/* Random arming, moving and disarming: what remains fires once, by deadline and then by the order of arming. */
static void timer_heap_against_model(void **state)
{
	static struct model_timer timers[300];
	struct pst_timers heap = { 0 };
	struct pst_prng prng;

	(void)state;
	pst_prng_init(&prng, 42);
	for (int i = 0; i < 300; i++)
		pst_timer_init(&timers[i].timer, model_fired);
	for (int round = 0; round < 200; round++) {
		unsigned armed = 0, fired = 0;

		for (int i = 0; i < 1000; i++) {
			struct pst_timer *t = &timers[pst_prng_below(&prng, 300)].timer;

			if (pst_prng_chance(&prng, 1, 3))
				pst_timers_disarm(&heap, t);
			else
				pst_timers_arm(&heap, t, pst_prng_below(&prng, 50));
		}
		for (int i = 0; i < 300; i++) {
			armed += pst_timer_armed(&timers[i].timer);
			timers[i].fired = 0;
		}
		model_last = NULL;
		fired = pst_timers_run(&heap, 24, UINT32_MAX);
		fired += pst_timers_run(&heap, 50, UINT32_MAX);
		assert_int_equal(fired, armed);
		assert_null(pst_timers_first(&heap));
		for (int i = 0; i < 300; i++)
			assert_true(timers[i].fired <= 1);
	}
	assert_false(model_disordered);
}

static size_t format_line(char *buf, const char *fmt, ...) PST_PRINTF(2, 3);

static size_t format_line(char *buf, const char *fmt, ...)
{
	va_list args;
	size_t len;

	va_start(args, fmt);
	len = pst_logline_format(buf, 1234567890123456789u, PST_LOG_WARN, fmt, args);
	va_end(args);
	return len;
}

/* One line each, whatever a peer put into a name; long ones are cut and still end in a newline. */
static void log_lines_cannot_be_forged(void **state)
{
	char line[PST_LOGLINE_MAX], big[3000];
	size_t len = format_line(line, "connect nqn=%s", "a\nlevel=error fake\x1b[2J");

	(void)state;
	assert_memory_equal(line, "2009-02-13T23:31:30.123456Z level=warn connect nqn=a?level=error fake?[2J\n", len);
	memset(big, 'x', sizeof(big) - 1);
	big[sizeof(big) - 1] = 0;
	len = format_line(line, "%s", big);
	assert_true(len <= PST_LOGLINE_MAX);
	assert_int_equal(line[len - 1], '\n');
}

/* ---- The choice of the backend, each in a child process ---- */

static void refuse_io_uring(int error)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_io_uring_setup, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (unsigned)error),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog prog = { .len = PST_ARRAY_COUNT(code), .filter = code };

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog) != 0)
		_exit(77);
}

/* 0 if pst_env_new gave @expected with a backend and reason that contain the texts. */
static int try_backend(enum pst_env_backend backend, pst_err expected, const char *name, const char *reason)
{
	struct pst_env *env = NULL;
	pst_err err = pst_env_new(&(struct pst_env_config){ .backend = backend }, &env);

	if (err != expected)
		return 1;
	if (err != PST_OK)
		return 0;
	if (strcmp(pst_env_backend_name(env), name) != 0 || !strstr(pst_env_backend_reason(env), reason))
		return 2;
	pst_env_free(env);
	return 0;
}

static int in_child(int (*fn)(void))
{
	pid_t pid = fork();
	int status;

	if (pid == 0)
		_exit(fn());
	assert_true(pid > 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	if (WEXITSTATUS(status) == 77) {
		fprintf(stderr, "# SKIPPED: this machine does not allow seccomp filters\n");
		skip();
	}
	return WEXITSTATUS(status);
}

static int child_refused(void)
{
	unsetenv("PENSTOCK_IO");
	refuse_io_uring(EPERM);
	return try_backend(PST_ENV_AUTO, PST_OK, "posix", "EPERM") ||
	       try_backend(PST_ENV_URING, PST_E_UNSUPPORTED, NULL, NULL) ||
	       try_backend(PST_ENV_POSIX, PST_OK, "posix", "asked for");
}

static int child_missing(void)
{
	unsetenv("PENSTOCK_IO");
	refuse_io_uring(ENOSYS);
	return try_backend(PST_ENV_AUTO, PST_OK, "posix", strerror(ENOSYS));
}

static int child_forced(void)
{
	setenv("PENSTOCK_IO", "posix", 1);
	if (try_backend(PST_ENV_AUTO, PST_OK, "posix", "PENSTOCK_IO"))
		return 1;
	setenv("PENSTOCK_IO", "aio", 1);
	if (try_backend(PST_ENV_AUTO, PST_E_INVAL, NULL, NULL))
		return 2;
	refuse_io_uring(EPERM);
	setenv("PENSTOCK_IO", "uring", 1);
	return try_backend(PST_ENV_AUTO, PST_E_UNSUPPORTED, NULL, NULL);
}

/* As under a container runtime's profile: AUTO falls back and says why, URING says no. */
static void refused_io_uring_falls_back(void **state)
{
	(void)state;
	assert_int_equal(in_child(child_refused), 0);
	assert_int_equal(in_child(child_missing), 0);
}

/* PENSTOCK_IO decides for AUTO; then there is no silent fallback, and a wrong value is an error. */
static void environment_variable_forces(void **state)
{
	(void)state;
	assert_int_equal(in_child(child_forced), 0);
}

static int child_lock(void)
{
	struct pst_env *env = NULL;
	struct pst_file *file;

	if (pst_env_new(&(struct pst_env_config){ .backend = PST_ENV_POSIX }, &env) != PST_OK)
		return 1;
	return pst_file_open(env, getenv("TEST_ENV_FILE"), PST_FILE_EXCLUSIVE, &file) == PST_E_LOCKED ? 0 : 2;
}

/* The lock holds against other processes, not only in this one. */
static void lock_holds_against_processes(void **state)
{
	char path[] = "/var/tmp/penstock-test-env-XXXXXX";
	int fd = mkstemp(path);
	struct pst_env *env;
	struct pst_file *file;

	(void)state;
	assert_true(fd >= 0);
	close(fd);
	setenv("TEST_ENV_FILE", path, 1);
	assert_int_equal(pst_env_new(&(struct pst_env_config){ .backend = PST_ENV_POSIX }, &env), PST_OK);
	assert_int_equal(pst_file_open(env, path, PST_FILE_EXCLUSIVE, &file), PST_OK);
	assert_int_equal(in_child(child_lock), 0);
	pst_file_close(file);
	pst_env_free(env);
	unlink(path);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(addresses_parse_and_format),   cmocka_unit_test(bad_addresses_are_refused),
		cmocka_unit_test(timer_heap_against_model),     cmocka_unit_test(log_lines_cannot_be_forged),
		cmocka_unit_test(refused_io_uring_falls_back),  cmocka_unit_test(environment_variable_forces),
		cmocka_unit_test(lock_holds_against_processes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "seeds.h"

#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define SEED_SECONDS_MAX 120u /* of processor time; a seed takes a fraction of one */
#define TWICE_EVERY 16u       /* seeds that are run a second time, for the hash */
#define JOBS_MAX 16u

struct seeds {
	const char *program;
	seed_fn *fn;
	uint64_t first, count;
	unsigned jobs;
	bool trace;
	uint64_t failed;
	struct seed_result sum;
};

struct seed_job {
	pid_t pid;
	int fd;
	uint64_t seed;
};

static int seeds_usage(const char *program)
{
	fprintf(stderr, "usage: %s [--seed N] [--count M] [--trace] [--jobs J]\n", program);
	return 2;
}

static bool seeds_number(const char *text, uint64_t *ret)
{
	char *end;

	if (!text || *text < '0' || *text > '9')
		return false;
	*ret = strtoull(text, &end, 0);
	return *end == 0;
}

static bool seeds_parse(struct seeds *s, int argc, char **argv)
{
	for (int i = 1; i < argc; i++) {
		uint64_t value = 0;

		if (strcmp(argv[i], "--trace") == 0) {
			s->trace = true;
			continue;
		}
		if (i + 1 >= argc || !seeds_number(argv[i + 1], &value))
			return false;
		if (strcmp(argv[i], "--seed") == 0)
			s->first = value;
		else if (strcmp(argv[i], "--count") == 0 && value > 0)
			s->count = value;
		else if (strcmp(argv[i], "--jobs") == 0 && value > 0 && value <= JOBS_MAX)
			s->jobs = (unsigned)value;
		else
			return false;
		i++;
	}
	return true;
}

static _Noreturn void seed_child(const struct seeds *s, uint64_t seed, int fd)
{
	struct rlimit limit = { SEED_SECONDS_MAX, SEED_SECONDS_MAX };
	struct seed_result result = { 0 }, again = { 0 };
	bool twice = s->count == 1 || seed % TWICE_EVERY == 0, ok;

	setrlimit(RLIMIT_CPU, &limit);
	ok = s->fn(seed, s->trace ? stdout : NULL, &result);
	if (ok && twice && !s->trace) {
		ok = s->fn(seed, NULL, &again);
		if (ok && again.trace_hash != result.trace_hash) {
			fprintf(stderr, "the same seed gave two runs: trace hash %016" PRIx64 ", then %016" PRIx64 "\n",
				result.trace_hash, again.trace_hash);
			ok = false;
		}
	}
	fflush(NULL);
	if (write(fd, &result, sizeof(result)) != (ssize_t)sizeof(result))
		ok = false;
	_exit(ok ? 0 : 1);
}

static bool seed_start(const struct seeds *s, struct seed_job *job, uint64_t seed)
{
	int fds[2];

	if (pipe(fds) != 0)
		return false;
	job->pid = fork();
	if (job->pid == 0) {
		close(fds[0]);
		seed_child(s, seed, fds[1]);
	}
	close(fds[1]);
	job->fd = fds[0];
	job->seed = seed;
	return job->pid > 0;
}

static void seed_end(struct seeds *s, struct seed_job *job)
{
	struct seed_result result = { 0 };
	bool got = read(job->fd, &result, sizeof(result)) == (ssize_t)sizeof(result);
	int status = -1;

	close(job->fd);
	waitpid(job->pid, &status, 0);
	job->pid = 0;
	if (got && WIFEXITED(status) && WEXITSTATUS(status) == 0) {
		for (int i = 0; i < SEED_COUNTERS; i++)
			s->sum.counters[i] += result.counters[i];
		if (s->count == 1)
			printf("trace hash %016" PRIx64 "\n", result.trace_hash);
		return;
	}
	s->failed++;
	if (WIFSIGNALED(status))
		fprintf(stderr, "seed %" PRIu64 " ended by signal %d (%s)\n", job->seed, WTERMSIG(status),
			WTERMSIG(status) == SIGXCPU || WTERMSIG(status) == SIGKILL ? "it runs for ever?"
										   : strsignal(WTERMSIG(status)));
	fprintf(stderr, "FAILED seed %" PRIu64 "; replay: %s --seed %" PRIu64 " --trace\n", job->seed, s->program,
		job->seed);
}

static void seeds_run(struct seeds *s)
{
	struct seed_job jobs[JOBS_MAX] = { 0 };
	uint64_t started = 0;

	/* In order of seeds, a window of jobs wide: no seed is much longer than another. */
	for (uint64_t ended = 0; ended < s->count; ended++) {
		while (started < s->count && started - ended < s->jobs) {
			if (!seed_start(s, &jobs[started % s->jobs], s->first + started)) {
				perror("cannot start a child process");
				exit(1);
			}
			started++;
		}
		seed_end(s, &jobs[ended % s->jobs]);
	}
}

int seeds_main(int argc, char **argv, seed_fn *fn, const char *const *counter_names)
{
	struct seeds s = { .program = argv[0], .fn = fn, .first = 1, .count = 1, .jobs = 2 };
	struct timespec from, to;

	if (!seeds_parse(&s, argc, argv))
		return seeds_usage(argv[0]);
	printf("seed %" PRIu64 ", count %" PRIu64 "\n", s.first, s.count);
	fflush(stdout);
	clock_gettime(CLOCK_MONOTONIC, &from);
	seeds_run(&s);
	clock_gettime(CLOCK_MONOTONIC, &to);
	for (int i = 0; counter_names[i]; i++)
		printf("%s %" PRIu64 "%s", counter_names[i], s.sum.counters[i], counter_names[i + 1] ? ", " : "\n");
	printf("%" PRIu64 " seeds, %" PRIu64 " failed, %.1f s\n", s.count, s.failed,
	       (double)(to.tv_sec - from.tv_sec) + (double)(to.tv_nsec - from.tv_nsec) / 1e9);
	return s.failed ? 1 : 0;
}

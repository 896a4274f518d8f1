/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Runs a fuzz target (LLVMFuzzerTestOneInput) on mutated inputs, guided by coverage where the build provides it.
 *
 *   fuzz-NAME [--seconds N] [--seed N] [--corpus DIR] [--save]    mutate inputs of DIR for N seconds
 *   fuzz-NAME FILE...                                             run just these: replays what was found
 *
 * Model. A corpus of inputs in memory; each round one is taken, changed by a few random edits, and run; one that
 * reaches an edge of the code more often than any before joins the corpus (with --save, on disk too). Edges are counted
 * by the compiler's hook (-fsanitize-coverage=trace-pc, option `fuzz` of the build); without it the corpus does not
 * grow. A crash, a failed assertion, a report of a sanitizer, a leak or a hang (10 s of CPU) leaves the input in
 * ./crash-NAME-SEED-ROUND, prints how to replay it, and fails. Same seed, same binary: same inputs.
 *
 * PENSTOCK_FUZZ_SECONDS sets the default of --seconds (2).
 */
#include "base/base.h"
#include "base/prng.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <sys/time.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len_bytes);
void __sanitizer_cov_trace_pc(void);
__attribute__((weak)) void __sanitizer_set_death_callback(void (*callback)(void));
__attribute__((weak)) size_t __sanitizer_get_current_allocated_bytes(void);

#define INPUT_MAX (64u << 10)
#define CORPUS_MAX 8192u
#define MAP_SIZE (1u << 16)
#define HANG_CPU_S 10 /* of the processor's time: a stopped or starved process does not hang */
#define HANG_S 600u   /* of the clock: it sleeps for ever */
#define LEAK_RUNS 4u

struct input {
	uint8_t *data;
	size_t len_bytes;
};

/* Signal handlers and the compiler's hook take no argument: this one state is theirs. */
static struct {
	uint8_t map[MAP_SIZE], seen[MAP_SIZE]; /* how often an edge was taken: now; greatest class so far */
	uintptr_t previous;
	bool counting;
	struct input corpus[CORPUS_MAX];
	size_t corpus_count;
	uint8_t current[INPUT_MAX];
	size_t current_bytes;
	const char *name, *save_dir;
	uint64_t seed, round, grown;
	bool reported;
} fuzz;

/* Called by instrumented code on every edge. The address is taken relative to this function: no matter where loaded. */
__attribute__((no_sanitize("address", "undefined"))) void __sanitizer_cov_trace_pc(void)
{
	uintptr_t here = (uintptr_t)__builtin_return_address(0) - (uintptr_t)&LLVMFuzzerTestOneInput;

	if (!fuzz.counting)
		return;
	here = (here * 0x9e3779b1u) >> 4 & (MAP_SIZE - 1);
	fuzz.map[here ^ fuzz.previous]++;
	fuzz.previous = here >> 1;
}

/* ---- Failure ---- */

static void write_all(int fd, const void *data, size_t len_bytes)
{
	const uint8_t *p = data;

	while (len_bytes > 0) {
		ssize_t n = write(fd, p, len_bytes);

		if (n <= 0)
			return;
		p += n;
		len_bytes -= (size_t)n;
	}
}

/* Async-signal-safe but for snprintf, on the way out of a process that has failed anyway. */
static void report(void)
{
	char path[256], text[640];
	int fd, n;

	if (fuzz.reported)
		return;
	fuzz.reported = true;
	snprintf(path, sizeof(path), "crash-%s-%llu-%llu", fuzz.name, (unsigned long long)fuzz.seed,
		 (unsigned long long)fuzz.round);
	fd = open(path, O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0666);
	if (fd >= 0) {
		write_all(fd, fuzz.current, fuzz.current_bytes);
		close(fd);
	}
	n = snprintf(text, sizeof(text), "\n%s: FAILED in round %llu of seed %llu; replay: %s %s\n", fuzz.name,
		     (unsigned long long)fuzz.round, (unsigned long long)fuzz.seed, fuzz.name, path);
	write_all(STDERR_FILENO, text, (size_t)n);
}

static void on_signal(int number)
{
	report();
	signal(number, SIG_DFL);
	raise(number);
}

static void catch_failures(void)
{
	static const int signals[] = { SIGABRT, SIGALRM, SIGPROF, SIGSEGV, SIGBUS, SIGFPE, SIGILL };

	for (size_t i = 0; i < PST_ARRAY_COUNT(signals); i++) {
		/* With a sanitizer, faults are its to explain; it calls back before it ends the process. */
		if (__sanitizer_set_death_callback != NULL && signals[i] != SIGABRT && signals[i] != SIGALRM &&
		    signals[i] != SIGPROF)
			continue;
		signal(signals[i], on_signal);
	}
	if (__sanitizer_set_death_callback != NULL)
		__sanitizer_set_death_callback(report);
}

/* ---- Corpus ---- */

static void corpus_add(const void *data, size_t len_bytes)
{
	struct input *in = &fuzz.corpus[fuzz.corpus_count];

	if (fuzz.corpus_count == CORPUS_MAX)
		return;
	in->data = malloc(len_bytes + 1);
	if (in->data == NULL)
		return;
	memcpy(in->data, data, len_bytes);
	in->len_bytes = len_bytes;
	fuzz.corpus_count++;
}

static bool read_file(const char *path)
{
	FILE *f = fopen(path, "rbe");

	if (f == NULL) {
		fprintf(stderr, "%s: %s: %s\n", fuzz.name, path, strerror(errno));
		return false;
	}
	fuzz.current_bytes = fread(fuzz.current, 1, sizeof(fuzz.current), f);
	fclose(f);
	return true;
}

static int compare_names(const struct dirent **a, const struct dirent **b)
{
	return strcmp((*a)->d_name, (*b)->d_name);
}

static int not_hidden(const struct dirent *entry)
{
	return entry->d_name[0] != '.';
}

/* In the order of names, so that a seed means the same everywhere. */
static bool corpus_load(const char *dir)
{
	struct dirent **names;
	int n = scandir(dir, &names, not_hidden, compare_names);

	if (n < 0) {
		fprintf(stderr, "%s: %s: %s\n", fuzz.name, dir, strerror(errno));
		return false;
	}
	for (int i = 0; i < n; i++) {
		char path[4096];

		snprintf(path, sizeof(path), "%s/%s", dir, names[i]->d_name);
		if (read_file(path))
			corpus_add(fuzz.current, fuzz.current_bytes);
		free(names[i]);
	}
	free(names);
	return true;
}

static void corpus_save(void)
{
	char path[4096];
	uint64_t hash = 14695981039346656037u; /* FNV-1a: the same input gets the same name */
	int fd;

	for (size_t i = 0; i < fuzz.current_bytes; i++)
		hash = (hash ^ fuzz.current[i]) * 1099511628211u;
	snprintf(path, sizeof(path), "%s/%016llx", fuzz.save_dir, (unsigned long long)hash);
	fd = open(path, O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0666);
	if (fd < 0)
		return;
	write_all(fd, fuzz.current, fuzz.current_bytes);
	close(fd);
}

/* ---- Mutation ---- */

static void edit_number(struct pst_prng *rng, size_t at)
{
	static const uint64_t special[] = { 0,      1,          4,          0x7f,       0x80,
					    0xff,   0xfff,      0x1000,     0x7fff,     0x8000,
					    0xffff, 0x7fffffff, 0x80000000, 0xffffffff, UINT64_MAX };
	uint64_t value = special[pst_prng_below(rng, PST_ARRAY_COUNT(special))];
	size_t width = (size_t)1 << pst_prng_below(rng, 4);

	memcpy(fuzz.current + at, &value, PST_MIN(width, fuzz.current_bytes - at));
}

static void edit_insert(struct pst_prng *rng, size_t at)
{
	size_t from = pst_prng_below(rng, fuzz.current_bytes + 1);
	size_t n = 1 + pst_prng_below(rng, 32);

	n = PST_MIN(n, INPUT_MAX - fuzz.current_bytes);
	memmove(fuzz.current + at + n, fuzz.current + at, fuzz.current_bytes - at);
	/* Half of the time a piece of the input itself, else noise. */
	if (pst_prng_chance(rng, 1, 2) && from + n <= fuzz.current_bytes)
		memmove(fuzz.current + at, fuzz.current + from, n);
	else
		for (size_t i = 0; i < n; i++)
			fuzz.current[at + i] = (uint8_t)pst_prng_next(rng);
	fuzz.current_bytes += n;
}

static void edit_splice(struct pst_prng *rng, size_t at)
{
	const struct input *other = &fuzz.corpus[pst_prng_below(rng, fuzz.corpus_count)];
	size_t from = pst_prng_below(rng, other->len_bytes + 1);
	size_t n = PST_MIN(other->len_bytes - from, INPUT_MAX - at);

	if (n == 0)
		return;
	memcpy(fuzz.current + at, other->data + from, n);
	fuzz.current_bytes = at + n;
}

static void mutate(struct pst_prng *rng)
{
	const struct input *base = &fuzz.corpus[pst_prng_below(rng, fuzz.corpus_count)];
	uint64_t edits = 1 + pst_prng_below(rng, 6);

	memcpy(fuzz.current, base->data, base->len_bytes);
	fuzz.current_bytes = base->len_bytes;
	while (edits-- > 0) {
		size_t at = pst_prng_below(rng, fuzz.current_bytes + 1);
		size_t left = fuzz.current_bytes - at;

		switch (left == 0 ? 3 : pst_prng_below(rng, 7)) {
		case 0:
			fuzz.current[at] ^= (uint8_t)(1u << pst_prng_below(rng, 8));
			break;
		case 1:
			fuzz.current[at] = (uint8_t)pst_prng_next(rng);
			break;
		case 2:
			edit_number(rng, at);
			break;
		case 3:
			edit_insert(rng, at);
			break;
		case 4: {
			size_t n = 1 + pst_prng_below(rng, 32);

			n = PST_MIN(n, left);
			memmove(fuzz.current + at, fuzz.current + at + n, left - n);
			fuzz.current_bytes -= n;
			break;
		}
		case 5:
			fuzz.current_bytes = at;
			break;
		default:
			edit_splice(rng, at);
			break;
		}
	}
}

/* ---- Running ---- */

static void watch(time_t cpu_s, unsigned clock_s)
{
	const struct itimerval left = { .it_value = { .tv_sec = cpu_s } };

	alarm(clock_s);
	setitimer(ITIMER_PROF, &left, NULL);
}

static void run_once(void)
{
	/* A copy of exactly the input's size: the sanitizer then sees the first byte read beyond it. */
	uint8_t *copy = malloc(fuzz.current_bytes > 0 ? fuzz.current_bytes : 1);

	pst_assert(copy != NULL);
	memcpy(copy, fuzz.current, fuzz.current_bytes);
	watch(HANG_CPU_S, HANG_S);
	fuzz.previous = 0;
	fuzz.counting = true;
	LLVMFuzzerTestOneInput(copy, fuzz.current_bytes);
	fuzz.counting = false;
	watch(0, 0);
	free(copy);
}

/* 0 without a sanitizer: the C library's own count has what it keeps for later in it. */
static size_t heap_bytes(void)
{
	return __sanitizer_get_current_allocated_bytes != NULL ? __sanitizer_get_current_allocated_bytes() : 0;
}

/* An input that leaves more on the heap each time that it runs has leaked. Once may be something kept for later. */
static void run_one(void)
{
	size_t before = heap_bytes();

	run_once();
	for (unsigned again = 0; heap_bytes() > before; again++) {
		if (again == LEAK_RUNS) {
			fprintf(stderr, "%s: memory grows each time by about %zu bytes\n", fuzz.name,
				heap_bytes() - before);
			abort();
		}
		before = heap_bytes();
		run_once();
	}
}

/* Classes of counts: 1, 2, 3, 4-7, 8-15, ..: a loop that turns once more is news, the hundredth turn is not. */
static uint8_t count_class(uint8_t count)
{
	return count < 4 ? count : (uint8_t)(34 - __builtin_clz(count));
}

/* Did this run reach something new? Remembers it and clears the map. */
static bool learn(void)
{
	bool news = false;

	for (size_t i = 0; i < MAP_SIZE; i++) {
		uint8_t class;

		if (fuzz.map[i] == 0)
			continue;
		class = count_class(fuzz.map[i]);
		fuzz.map[i] = 0;
		if (class > fuzz.seen[i]) {
			fuzz.seen[i] = class;
			news = true;
		}
	}
	return news;
}

/* About: two edges may share a place. */
static unsigned edges_seen(void)
{
	unsigned count = 0;

	for (size_t i = 0; i < MAP_SIZE; i++)
		count += fuzz.seen[i] != 0;
	return count;
}

static double seconds_now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void run_for(double seconds)
{
	double end = seconds_now() + seconds;
	struct pst_prng rng;

	pst_prng_init(&rng, fuzz.seed);
	if (fuzz.corpus_count == 0)
		corpus_add("", 0);
	for (size_t i = 0, given = fuzz.corpus_count; i < given; i++) {
		memcpy(fuzz.current, fuzz.corpus[i].data, fuzz.corpus[i].len_bytes);
		fuzz.current_bytes = fuzz.corpus[i].len_bytes;
		run_one();
		learn();
	}
	for (fuzz.round = 1; fuzz.round % 64 != 0 || seconds_now() < end; fuzz.round++) {
		mutate(&rng);
		run_one();
		if (!learn())
			continue;
		fuzz.grown++;
		corpus_add(fuzz.current, fuzz.current_bytes);
		if (fuzz.save_dir != NULL)
			corpus_save();
	}
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "seconds", required_argument, NULL, 's' },
		{ "seed", required_argument, NULL, 'r' },
		{ "corpus", required_argument, NULL, 'c' },
		{ "save", no_argument, NULL, 'w' },
		{ NULL, 0, NULL, 0 },
	};
	const char *text = getenv("PENSTOCK_FUZZ_SECONDS"), *corpus = NULL;
	double seconds = text != NULL ? strtod(text, NULL) : 2;
	bool save = false;
	int c;

	fuzz.name = program_invocation_short_name;
	fuzz.seed = (uint64_t)time(NULL);
	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (c == 's')
			seconds = strtod(optarg, NULL);
		else if (c == 'r')
			fuzz.seed = strtoull(optarg, NULL, 10);
		else if (c == 'c')
			corpus = optarg;
		else if (c == 'w')
			save = true;
		else
			return 2;
	}
	catch_failures();
	if (optind < argc) {
		for (int i = optind; i < argc; i++) {
			if (!read_file(argv[i]))
				return 1;
			run_one();
			printf("%s: %s: passed\n", fuzz.name, argv[i]);
		}
		return 0;
	}
	if (corpus != NULL && !corpus_load(corpus))
		return 1;
	fuzz.save_dir = save ? corpus : NULL;
	printf("%s: seed %llu, %.0f s, %zu inputs\n", fuzz.name, (unsigned long long)fuzz.seed, seconds,
	       fuzz.corpus_count);
	fflush(stdout);
	run_for(seconds);
	printf("%s: passed: %llu rounds, %llu inputs were new, %u edges seen\n", fuzz.name,
	       (unsigned long long)fuzz.round, (unsigned long long)fuzz.grown, edges_seen());
	return 0;
}

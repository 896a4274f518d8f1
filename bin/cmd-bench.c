/* SPDX-License-Identifier: Apache-2.0 */
/* `penstock bench`: the neighbour proof, and the checkpoint burst that is its neighbour. */
#include "cli.h"

#include "base/units.h"
#include "bench/burst.h"
#include "bench/neighbour.h"
#include "control/own-daemon.h"

#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static void print_help(void)
{
	puts(
	    "usage: penstock bench neighbour [OPTIONS]      what a noisy neighbour costs, and what a guarantee gives "
	    "back\n"
	    "       penstock bench burst --host ADDR --port PORT --nqn NQN --span SIZE      a checkpoint burst\n"
	    "\n"
	    "neighbour:\n"
	    "  --json FILE          write the proof here (default: standard output)\n"
	    "  --api URL            use this daemon (default: PENSTOCK_URL); without either, one of its own on --pool\n"
	    "  --pool DIR           pool of its own daemon (default: a new directory, removed at the end)\n"
	    "  --local DIR          where the local disk's case reads (default: beside the pool)\n"
	    "  --seconds N          per case (default 12)\n"
	    "  --record-size SIZE   (default 150K)\n"
	    "  --records N          (default 3400, about 515 MB)\n"
	    "  --batch N            records per batch (default 16)\n"
	    "  --depth N            reads in flight (default 8, at most 64)\n"
	    "  --ahead N            batches gathered ahead (default 2)\n"
	    "\n"
	    "burst writes until its standard input ends and prints a JSON line with its rate five times a second:\n"
	    "  --write-size SIZE (1Mi)  --depth N (32)  --checkpoint SIZE between flushes (128Mi)");
}

struct neighbour_options {
	struct pst_neighbour_config config;
	const char *json_path;
	const char *pool;
};

static bool take_number(const char *text, uint64_t max, uint32_t *ret)
{
	char *end;
	unsigned long v = strtoul(text, &end, 10);

	if (text[0] < '0' || text[0] > '9' || *end != '\0' || v == 0 || v > max)
		return false;
	*ret = (uint32_t)v;
	return true;
}

static bool take_size(const char *text, uint64_t max, uint64_t *ret)
{
	return pst_parse_size(text, ret) == PST_OK && *ret > 0 && *ret <= max;
}

enum {
	OPT_JSON = 1,
	OPT_API,
	OPT_POOL,
	OPT_LOCAL,
	OPT_SECONDS,
	OPT_RECORD,
	OPT_RECORDS,
	OPT_BATCH,
	OPT_DEPTH,
	OPT_AHEAD
};

static bool take_neighbour_option(struct neighbour_options *o, int c)
{
	uint64_t bytes;
	uint32_t seconds;

	switch (c) {
	case OPT_JSON:
		o->json_path = optarg;
		return true;
	case OPT_API:
		o->config.api = optarg;
		return true;
	case OPT_POOL:
		o->pool = optarg;
		return true;
	case OPT_LOCAL:
		o->config.local_dir = optarg;
		return true;
	case OPT_SECONDS:
		if (!take_number(optarg, 600, &seconds))
			return false;
		o->config.seconds = seconds;
		return true;
	case OPT_RECORD:
		if (!take_size(optarg, 1 << 20, &bytes) || bytes < 4096)
			return false;
		o->config.record_bytes = (uint32_t)bytes;
		return true;
	case OPT_RECORDS:
		return take_number(optarg, 1000000, &o->config.record_count);
	case OPT_BATCH:
		return take_number(optarg, 1024, &o->config.batch_records);
	case OPT_DEPTH:
		return take_number(optarg, PST_FEED_DEPTH_MAX, &o->config.depth);
	case OPT_AHEAD:
		return take_number(optarg, 64, &o->config.batches_ahead);
	default:
		return false;
	}
}

static void show_progress(const char *text)
{
	fprintf(stderr, "  %s\n", text);
}

static volatile sig_atomic_t signalled;

static void on_signal(int number)
{
	(void)number;
	signalled = 1;
}

static bool interrupted(void)
{
	return signalled != 0;
}

static int write_proof(json_t *proof, const char *path)
{
	FILE *f = path != NULL ? fopen(path, "we") : fopen("/dev/stdout", "ae");
	bool ok = f != NULL && json_dumpf(proof, f, JSON_INDENT(1)) == 0 && fputc('\n', f) != EOF;

	if (f != NULL)
		ok = fclose(f) == 0 && ok;
	if (!ok)
		cli_error(NULL, "%s: %s", path != NULL ? path : "standard output", strerror(errno));
	return ok ? CLI_OK : CLI_FAILED;
}

static int run_neighbour(struct neighbour_options *o)
{
	char program[PATH_MAX], message[600];
	ssize_t n = readlink("/proc/self/exe", program, sizeof(program) - 1);
	json_t *proof;
	pst_err err;
	int rc;

	if (n <= 0) {
		cli_error(NULL, "/proc is not mounted: the neighbour's process can't be started");
		return CLI_UNSUPPORTED;
	}
	program[n] = '\0';
	o->config.program = program;
	o->config.progress = show_progress;
	o->config.interrupted = interrupted;
	err = pst_neighbour_run(&o->config, &proof, message, sizeof(message));
	if (err != PST_OK) {
		cli_error(NULL, "%s", message);
		return err == PST_E_CANCELLED ? CLI_INTERRUPTED : cli_exit_for(err);
	}
	fprintf(stderr, "  %s\n", json_string_value(json_object_get(proof, "verdict")));
	rc = write_proof(proof, o->json_path);
	json_decref(proof);
	return rc;
}

static int run_on_pool(struct neighbour_options *o, const char *pool, const char *api, const char *log)
{
	struct pst_own_daemon_config config = {
		.pool = pool, .pool_size = "4Gi", .api = api, .log_path = log, .interrupted = interrupted
	};
	struct pst_own_daemon daemon;
	char why[600];
	int rc;

	if (pst_own_daemon_start(&daemon, &config, NULL, why, sizeof(why)) != 0) {
		if (interrupted())
			return CLI_INTERRUPTED;
		cli_error("penstock doctor", "penstockd did not start: %s", why);
		return CLI_NO_DAEMON;
	}
	fprintf(stderr, "  penstockd of our own: %s, %s%s\n", daemon.listen, daemon.io,
		daemon.other_port ? " (port 4420 is taken)" : "");
	o->config.api = api;
	if (o->config.local_dir == NULL)
		o->config.local_dir = pool;
	rc = run_neighbour(o);
	pst_own_daemon_stop(&daemon);
	return rc;
}

/* A new directory from @template, which it replaces; false after saying why not, with the next step. */
static bool make_directory(char *template, const char *next)
{
	if (mkdtemp(template) != NULL)
		return true;
	cli_error(next, "%s can't be made: %s", template, strerror(errno));
	return false;
}

static void remove_directory(const char *directory, const char *const *names)
{
	char path[128];

	for (; *names != NULL; names++) {
		snprintf(path, sizeof(path), "%s/%s", directory, *names);
		unlink(path);
	}
	rmdir(directory);
}

/* With a daemon of its own, on a pool that is removed again unless it was named. */
static int run_with_own_daemon(struct neighbour_options *o)
{
	static const char *const pool_files[] = { "pool.penstock", NULL };
	static const char *const daemon_files[] = { "api.sock", "api.sock.lock", "penstockd.log", NULL };
	char pool[] = "/var/tmp/penstock-bench-XXXXXX", own[] = "/tmp/penstock-XXXXXX"; /* short, for a socket's name */
	char api[64], log[64];
	int rc = CLI_FAILED;

	if (o->pool == NULL && !make_directory(pool, "penstock bench neighbour --pool DIR"))
		return rc;
	if (make_directory(own, "penstock bench neighbour --api URL of a daemon that runs, or make /tmp writable")) {
		snprintf(api, sizeof(api), "unix:%s/api.sock", own);
		snprintf(log, sizeof(log), "%s/penstockd.log", own);
		rc = run_on_pool(o, o->pool != NULL ? o->pool : pool, api, log);
		remove_directory(own, daemon_files);
	}
	if (o->pool == NULL)
		remove_directory(pool, pool_files);
	return rc;
}

static int bench_neighbour(int argc, char **argv)
{
	static const struct option options[] = { { "json", required_argument, NULL, OPT_JSON },
						 { "api", required_argument, NULL, OPT_API },
						 { "pool", required_argument, NULL, OPT_POOL },
						 { "local", required_argument, NULL, OPT_LOCAL },
						 { "seconds", required_argument, NULL, OPT_SECONDS },
						 { "record-size", required_argument, NULL, OPT_RECORD },
						 { "records", required_argument, NULL, OPT_RECORDS },
						 { "batch", required_argument, NULL, OPT_BATCH },
						 { "depth", required_argument, NULL, OPT_DEPTH },
						 { "ahead", required_argument, NULL, OPT_AHEAD },
						 { "help", no_argument, NULL, 'h' },
						 { 0 } };
	struct neighbour_options o = { .config = { .seconds = 12,
						   .record_bytes = 150000,
						   .record_count = 3400,
						   .batch_records = 16,
						   .depth = 8,
						   .batches_ahead = 2 } };
	int c;

	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (c == 'h') {
			print_help();
			return CLI_OK;
		}
		if (!take_neighbour_option(&o, c)) {
			if (c != '?')
				cli_error("penstock bench --help", "'%s' is out of range", optarg);
			return CLI_USAGE;
		}
	}
	if (optind != argc) {
		cli_error("penstock bench --help", "unexpected argument '%s'", argv[optind]);
		return CLI_USAGE;
	}
	if (o.config.api == NULL && o.pool == NULL)
		o.config.api = getenv("PENSTOCK_URL");
	/* Not restarted: a wait ends at once. What was started is taken away on the way out. */
	sigaction(SIGINT, &(struct sigaction){ .sa_handler = on_signal }, NULL);
	sigaction(SIGTERM, &(struct sigaction){ .sa_handler = on_signal }, NULL);
	sigaction(SIGHUP, &(struct sigaction){ .sa_handler = on_signal }, NULL);
	if (o.config.api == NULL)
		return run_with_own_daemon(&o);
	if (o.config.local_dir == NULL)
		o.config.local_dir = "/var/tmp";
	return run_neighbour(&o);
}

enum { OPT_HOST = 1, OPT_PORT, OPT_NQN, OPT_SPAN, OPT_WRITE, OPT_BURST_DEPTH, OPT_CHECKPOINT };

static bool take_burst_option(struct pst_burst_config *o, int c)
{
	uint64_t bytes;
	uint32_t n;

	switch (c) {
	case OPT_HOST:
		o->volume.host = optarg;
		return true;
	case OPT_PORT:
		if (!take_number(optarg, 65535, &n))
			return false;
		o->volume.port = (uint16_t)n;
		return true;
	case OPT_NQN:
		o->volume.nqn = optarg;
		return true;
	case OPT_SPAN:
		return take_size(optarg, (uint64_t)1 << 50, &o->span_bytes);
	case OPT_WRITE:
		if (!take_size(optarg, 8 << 20, &bytes) || bytes % 4096 != 0)
			return false;
		o->write_bytes = (uint32_t)bytes;
		return true;
	case OPT_BURST_DEPTH:
		return take_number(optarg, 256, &o->depth);
	case OPT_CHECKPOINT:
		return take_size(optarg, (uint64_t)1 << 50, &o->checkpoint_bytes);
	default:
		return false;
	}
}

static int bench_burst(int argc, char **argv)
{
	static const struct option options[] = { { "host", required_argument, NULL, OPT_HOST },
						 { "port", required_argument, NULL, OPT_PORT },
						 { "nqn", required_argument, NULL, OPT_NQN },
						 { "span", required_argument, NULL, OPT_SPAN },
						 { "write-size", required_argument, NULL, OPT_WRITE },
						 { "depth", required_argument, NULL, OPT_BURST_DEPTH },
						 { "checkpoint", required_argument, NULL, OPT_CHECKPOINT },
						 { "help", no_argument, NULL, 'h' },
						 { 0 } };
	struct pst_burst_config o = {
		.checkpoint_bytes = 128 << 20, .write_bytes = 1 << 20, .depth = 32, .report_ms = 200
	};
	pst_err err;
	int c;

	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (c == 'h') {
			print_help();
			return CLI_OK;
		}
		if (!take_burst_option(&o, c)) {
			if (c != '?')
				cli_error("penstock bench --help", "'%s' is out of range", optarg);
			return CLI_USAGE;
		}
	}
	if (o.volume.host == NULL || o.volume.nqn == NULL || o.volume.port == 0 || o.span_bytes < o.write_bytes) {
		cli_error("penstock bench --help",
			  "--host, --port, --nqn and a --span of at least one write are needed");
		return CLI_USAGE;
	}
	err = pst_burst_run(&o);
	if (err != PST_OK)
		cli_error(NULL, "burst on %s: %s", o.volume.nqn, pst_err_text(err));
	return cli_exit_for(err);
}

int cmd_bench(int argc, char **argv)
{
	if (argc > 1 && strcmp(argv[1], "neighbour") == 0)
		return bench_neighbour(argc - 1, argv + 1);
	if (argc > 1 && strcmp(argv[1], "burst") == 0)
		return bench_burst(argc - 1, argv + 1);
	if (argc > 1 && strcmp(argv[1], "--help") == 0) {
		print_help();
		return CLI_OK;
	}
	cli_error("penstock bench --help", argc > 1 ? "unknown bench '%s'" : "which bench?%s", argc > 1 ? argv[1] : "");
	return CLI_USAGE;
}

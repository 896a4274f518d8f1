/* SPDX-License-Identifier: Apache-2.0 */
/* The storage daemon's command line: options in, struct pst_daemon_config out; src/control/daemon.c does the rest. */
#include "base/units.h"
#include "control/client.h"
#include "control/daemon.h"
#include "control/kek.h"
#include "control/policy.h"
#include "env/secret.h"

#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char help[] = "usage: penstockd --pool PATH | --ram SIZE [OPTION]...\n"
			   "\n"
			   "Serves volumes over NVMe/TCP, and a REST API on a unix socket and over HTTPS.\n"
			   "\n"
			   "  --pool [NAME=]PATH       a pool in a directory (made if missing or empty), a file or a\n"
			   "                           block device; repeatable\n"
			   "  --pool-size SIZE         size of a pool that is made (default: half of the free\n"
			   "                           space, at most 64Gi)\n"
			   "  --format                 write a new pool to a file or device that holds none\n"
			   "  --device PATH            where else to look for a device that was added to a pool, if\n"
			   "                           it is not where it was; repeatable\n"
			   "  --space-alerts P[,P...]  percent of a pool in use at which to say so, at most 3,\n"
			   "                           ascending (default 80,90,95)\n"
			   "  --ram [NAME=]SIZE        a pool in memory, gone when the daemon ends (name: ram)\n"
			   "  --listen [ID=]ADDR[:PORT][,tls=allowed|required]  where hosts connect; repeatable:\n"
			   "                           each is a port of every volume, known by its id (default: 1,\n"
			   "                           2, ... in this order), and takes TLS or nothing else from\n"
			   "                           hosts that have a key for it; port 0 takes any that is free\n"
			   "                           (default 127.0.0.1:4420, without TLS)\n"
			   "  --referral ADDR[:PORT]   another discovery service that hosts are told of; repeatable\n"
			   "                           (default port 8009)\n"
			   "  --insecure               let in hosts without a key from beyond this machine, too\n"
			   "  --api unix:PATH          the API's socket, mode 0600 (default as in penstock(1))\n"
			   "  --api https:ADDR[:PORT]  the API over TCP, too, with TLS and tokens; repeatable\n"
			   "                           (default port 4421; port 0 takes any that is free)\n"
			   "  --api-cert FILE, --api-key FILE  certificate (chain) and private key for it, PEM;\n"
			   "                           read again on SIGHUP\n"
			   "  --kek FILE|DIR           key-encryption keys, for encrypted volumes: a file with 32\n"
			   "                           bytes (raw, hexadecimal, base64), or a directory of such\n"
			   "                           files, of which the last by name wraps; read again on SIGHUP\n"
			   "  --kek-current ID         wrap with this one instead\n"
			   "  --limit NAME=N           a limit of target, store or API, as connections_max=4096;\n"
			   "                           repeatable; penstockd(8) lists them\n"
			   "  --shards N               threads that serve connections (default 1)\n"
			   "  --io uring|posix         default: io_uring where the kernel allows it\n"
			   "  --capacity RATE          what a pool's reservations may add up to, as 100000iops or\n"
			   "                           2GB/s; repeatable; without it reservations are not checked\n"
			   "  --spin-us N              longest wait for more work before sleeping (default 20)\n"
			   "  --log error|warn|info|debug   (default info)\n"
			   "  --ready-fd N             write one JSON line to this descriptor when ready\n"
			   "  --help, --version\n"
			   "\n"
			   "penstockd(8) tells more, and lists exit codes.\n";

static _Noreturn void usage(const char *fmt, ...) PST_PRINTF(1, 2);
static _Noreturn void usage(const char *fmt, ...)
{
	va_list ap;

	fputs("penstockd: ", stderr);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputs("\n  try: penstockd --help\n", stderr);
	exit(PST_DAEMON_USAGE);
}

static uint64_t number(const char *option, const char *text, uint64_t min, uint64_t max)
{
	char *end;
	unsigned long long v = strtoull(text, &end, 10);

	if (text[0] < '0' || text[0] > '9' || *end != '\0' || v < min || v > max)
		usage("%s needs a whole number from %llu to %llu, not '%s'", option, (unsigned long long)min,
		      (unsigned long long)max, text);
	return v;
}

/* Index of @text in @words (ended by NULL). */
static unsigned choice(const char *option, const char *text, const char *const *words)
{
	for (unsigned i = 0; words[i] != NULL; i++)
		if (strcmp(text, words[i]) == 0)
			return i;
	usage("%s does not know '%s'", option, text);
}

/* "NAME=REST": copies NAME and returns REST; without one @fallback is the name. */
static const char *split_name(const char *text, const char *fallback, char *name, size_t name_bytes)
{
	const char *equals = strchr(text, '=');
	const char *slash = strchr(text, '/');

	if (equals == NULL || (slash != NULL && slash < equals)) {
		snprintf(name, name_bytes, "%s", fallback);
		return text;
	}
	snprintf(name, name_bytes, "%.*s", (int)(equals - text), text);
	return equals + 1;
}

static struct pst_daemon_pool *add_pool(struct pst_daemon_config *c)
{
	if (c->pool_count == PST_CATALOG_POOLS_MAX)
		usage("at most %u pools", PST_CATALOG_POOLS_MAX);
	return &c->pools[c->pool_count++];
}

static void add_ram(struct pst_daemon_config *c, const char *text)
{
	struct pst_daemon_pool *pool = add_pool(c);
	const char *size = split_name(text, "ram", pool->name, sizeof(pool->name));

	if (pst_parse_size(size, &pool->ram_size_bytes) != PST_OK || pool->ram_size_bytes == 0)
		usage("--ram needs a size such as 1Gi, not '%s'", size);
}

/* A name from the last part of @path: what can't be in a name becomes '-'. */
static void name_from_path(const char *path, char *name, size_t name_bytes)
{
	size_t end = strlen(path), begin;

	while (end > 0 && path[end - 1] == '/')
		end--;
	for (begin = end; begin > 0 && path[begin - 1] != '/'; begin--)
		;
	snprintf(name, name_bytes, "%.*s", (int)PST_MIN(end - begin, PST_NAME_MAX), path + begin);
	for (char *c = name; *c != '\0'; c++) {
		if (*c >= 'A' && *c <= 'Z')
			*c = (char)(*c - 'A' + 'a');
		else if (!((*c >= 'a' && *c <= 'z') || (*c >= '0' && *c <= '9') || strchr("._-", *c) != NULL))
			*c = '-';
	}
	if (!pst_name_ok(name))
		snprintf(name, name_bytes, "pool");
}

static void add_path(struct pst_daemon_config *c, const char *text)
{
	struct pst_daemon_pool *pool = add_pool(c);

	pool->path = split_name(text, "", pool->name, sizeof(pool->name));
	if (pool->path[0] == '\0')
		usage("--pool needs a path");
	if (pool->name[0] == '\0')
		name_from_path(pool->path, pool->name, sizeof(pool->name));
}

static void add_listen(struct pst_daemon_config *c, const char *text)
{
	static const char *const modes[] = { [PST_TARGET_TLS_OFF] = "off",
					     [PST_TARGET_TLS_ALLOWED] = "allowed",
					     [PST_TARGET_TLS_REQUIRED] = "required",
					     NULL };
	struct pst_daemon_port *port = &c->ports[c->port_count];
	const char *option = strchr(text, ','), *equals, *addr;
	char id[8], address[96];

	if (option != NULL && strncmp(option, ",tls=", 5) != 0)
		usage("--listen ADDR[:PORT] may be followed by ,tls=allowed or ,tls=required, not by '%s'", option);
	snprintf(address, sizeof(address), "%.*s", (int)(option != NULL ? (size_t)(option - text) : strlen(text)),
		 text);
	equals = strchr(address, '=');
	addr = equals != NULL ? equals + 1 : address;

	if (c->port_count == PST_DAEMON_PORTS_MAX)
		usage("at most %u --listen addresses", PST_DAEMON_PORTS_MAX);
	snprintf(id, sizeof(id), "%.*s", equals != NULL ? (int)PST_MIN(equals - address, 7) : 0, address);
	port->id = equals != NULL ? (uint16_t)number("the id in --listen ID=ADDR", id, 1, UINT16_MAX) : 0;
	if (pst_addr_parse(addr, PST_DAEMON_PORT, &port->addr) != PST_OK)
		usage("--listen needs a numeric address such as 127.0.0.1:4420 or [::1]:4420, not '%s'", addr);
	if (option != NULL)
		port->tls = (enum pst_target_tls)choice("tls=", option + 5, modes);
	c->port_count++;
}

static void add_referral(struct pst_daemon_config *c, const char *text)
{
	if (c->referral_count == PST_TARGET_REFERRALS_MAX)
		usage("at most %u --referral addresses", PST_TARGET_REFERRALS_MAX);
	if (pst_addr_parse(text, PST_DAEMON_DISCOVERY_PORT, &c->referrals[c->referral_count]) != PST_OK)
		usage("--referral needs a numeric address such as 192.0.2.7:8009, not '%s'", text);
	c->referral_count++;
}

/* Those that were given no id have their place in the row as one. */
static void number_ports(struct pst_daemon_config *c)
{
	for (unsigned i = 0; i < c->port_count; i++)
		if (c->ports[i].id == 0)
			c->ports[i].id = (uint16_t)(i + 1);
	for (unsigned i = 0; i < c->port_count; i++)
		for (unsigned other = 0; other < i; other++)
			if (c->ports[i].id == c->ports[other].id)
				usage("two --listen addresses are port %u: give each an id of its own, --listen "
				      "ID=ADDR:PORT",
				      c->ports[i].id);
}

static void take_alerts(struct pst_daemon_config *c, const char *text)
{
	unsigned count = 0, last = 0;
	const char *at = text;

	memset(c->store.space_alerts, 0, sizeof(c->store.space_alerts));
	for (;;) {
		char *end;
		unsigned long v = strtoul(at, &end, 10);

		if (at[0] < '0' || at[0] > '9' || v <= last || v > 100 || count == PST_SPACE_ALERTS)
			break;
		c->store.space_alerts[count++] = (uint8_t)(last = (unsigned)v);
		if (*end == '\0')
			return;
		if (*end != ',')
			break;
		at = end + 1;
	}
	usage("--space-alerts needs up to %u ascending percentages such as 80,90,95, not '%s'", PST_SPACE_ALERTS, text);
}

/* What --limit knows: tables of limits, and the part of the configuration that each is about. */
static const struct {
	const struct pst_limit *(*limits)(size_t *ret_count);
	size_t offset;
} limit_tables[] = {
	{ pst_target_limits, offsetof(struct pst_daemon_config, target) },
	{ pst_store_limits, offsetof(struct pst_daemon_config, store) },
	{ pst_rest_limits, offsetof(struct pst_daemon_config, api_limits) },
};

static _Noreturn void no_limit(const char *name)
{
	char known[3072];
	size_t at = 0, count;

	for (size_t t = 0; t < PST_ARRAY_COUNT(limit_tables); t++) {
		const struct pst_limit *limits = limit_tables[t].limits(&count);

		for (size_t i = 0; i < count && at < sizeof(known); i++)
			at += (size_t)snprintf(known + at, sizeof(known) - at, " %s", limits[i].name);
	}
	pst_assert(at < sizeof(known));
	usage("--limit %s: there is no such limit; known are%s", name, known);
}

static void take_limit(struct pst_daemon_config *c, const char *text)
{
	const char *equals = strchr(text, '=');
	char name[64], why[PST_LIMIT_WHY_BYTES];
	pst_err err = PST_E_NOTFOUND;
	uint64_t value;

	if (equals == NULL || equals == text || (size_t)(equals - text) >= sizeof(name))
		usage("--limit needs a name and a number, as connections_max=4096, not '%s'", text);
	snprintf(name, sizeof(name), "%.*s", (int)(equals - text), text);
	value = number("--limit", equals + 1, 1, UINT64_MAX);
	for (size_t t = 0; t < PST_ARRAY_COUNT(limit_tables) && err == PST_E_NOTFOUND; t++) {
		size_t count;
		const struct pst_limit *limits = limit_tables[t].limits(&count);

		err = pst_limit_set(limits, count, (char *)c + limit_tables[t].offset, name, value, why);
	}
	if (err == PST_E_NOTFOUND)
		no_limit(name);
	if (err != PST_OK)
		usage("--limit %s: %s", name, why);
}

static void add_api(struct pst_daemon_config *c, const char *text)
{
	const char *addr = text + strlen("https:");

	if (strncmp(text, "unix:", 5) == 0 && text[5] != '\0') {
		c->api_socket = text + 5;
		return;
	}
	if (strncmp(text, "http:", 5) == 0)
		usage("--api %s: over TCP the API is offered with TLS only: https:ADDR:PORT", text);
	if (strncmp(text, "https:", 6) != 0)
		usage("--api needs unix:PATH or https:ADDR:PORT, not '%s'", text);
	if (c->api_tcp_count == PST_REST_TCP_MAX)
		usage("at most %u --api https addresses", PST_REST_TCP_MAX);
	if (strncmp(addr, "//", 2) == 0)
		addr += 2;
	if (pst_addr_parse(addr, PST_DAEMON_API_PORT, &c->api_tcp[c->api_tcp_count]) != PST_OK)
		usage("--api https: needs a numeric address such as 127.0.0.1:4421 or [::1]:4421, not '%s'", addr);
	c->api_tcp_count++;
}

enum option_code {
	O_POOL = 256,
	O_POOL_SIZE,
	O_FORMAT,
	O_RAM,
	O_LISTEN,
	O_REFERRAL,
	O_INSECURE,
	O_API,
	O_API_CERT,
	O_API_KEY,
	O_KEK,
	O_KEK_CURRENT,
	O_LIMIT,
	O_SHARDS,
	O_IO,
	O_CAPACITY,
	O_SPIN,
	O_DEVICE,
	O_SPACE_ALERTS,
	O_LOG,
	O_READY,
	O_HELP,
	O_VERSION
};

static const struct option options[] = {
	{ "pool", required_argument, NULL, O_POOL },
	{ "pool-size", required_argument, NULL, O_POOL_SIZE },
	{ "format", no_argument, NULL, O_FORMAT },
	{ "ram", required_argument, NULL, O_RAM },
	{ "referral", required_argument, NULL, O_REFERRAL },
	{ "listen", required_argument, NULL, O_LISTEN },
	{ "insecure", no_argument, NULL, O_INSECURE },
	{ "kek", required_argument, NULL, O_KEK },
	{ "kek-current", required_argument, NULL, O_KEK_CURRENT },
	{ "api", required_argument, NULL, O_API },
	{ "api-cert", required_argument, NULL, O_API_CERT },
	{ "api-key", required_argument, NULL, O_API_KEY },
	{ "shards", required_argument, NULL, O_SHARDS },
	{ "io", required_argument, NULL, O_IO },
	{ "capacity", required_argument, NULL, O_CAPACITY },
	{ "device", required_argument, NULL, O_DEVICE },
	{ "space-alerts", required_argument, NULL, O_SPACE_ALERTS },
	{ "limit", required_argument, NULL, O_LIMIT },
	{ "spin-us", required_argument, NULL, O_SPIN },
	{ "log", required_argument, NULL, O_LOG },
	{ "ready-fd", required_argument, NULL, O_READY },
	{ "help", no_argument, NULL, O_HELP },
	{ "version", no_argument, NULL, O_VERSION },
	{ NULL, 0, NULL, 0 },
};

static void take_option(struct pst_daemon_config *c, int code, const char *arg)
{
	static const char *const backends[] = { "auto", "uring", "posix", NULL };
	static const char *const levels[] = { "error", "warn", "info", "debug", NULL };

	switch (code) {
	case O_POOL:
		add_path(c, arg);
		break;
	case O_POOL_SIZE:
		if (pst_parse_size(arg, &c->pool_size_bytes) != PST_OK || c->pool_size_bytes == 0)
			usage("--pool-size needs a size such as 100Gi, not '%s'", arg);
		break;
	case O_FORMAT:
		c->format = true;
		break;
	case O_RAM:
		add_ram(c, arg);
		break;
	case O_LISTEN:
		add_listen(c, arg);
		break;
	case O_REFERRAL:
		add_referral(c, arg);
		break;
	case O_INSECURE:
		c->insecure = true;
		break;
	case O_API:
		add_api(c, arg);
		break;
	case O_API_CERT:
		c->api_cert = arg;
		break;
	case O_API_KEY:
		c->api_key = arg;
		break;
	case O_KEK:
		c->kek = arg;
		break;
	case O_KEK_CURRENT:
		if (!pst_kek_id_ok(arg))
			usage("--kek-current needs a key's name: at most 64 of A-Z a-z 0-9 . _ -, not '%s'", arg);
		c->kek_current = arg;
		break;
	case O_LIMIT:
		take_limit(c, arg);
		break;
	case O_SHARDS:
		c->shards = (unsigned)number("--shards", arg, 1, PST_DAEMON_SHARDS_MAX);
		break;
	case O_IO:
		c->env.backend = (enum pst_env_backend)choice("--io", arg, backends);
		break;
	case O_CAPACITY:
		if (pst_parse_rate(arg, &c->qos.capacity_iops, &c->qos.capacity_bytes_per_s) != PST_OK)
			usage("--capacity needs a rate such as 100000iops or 2GB/s, not '%s'", arg);
		break;
	case O_DEVICE:
		if (c->device_count == PST_DAEMON_DEVICES_MAX)
			usage("at most %u --device paths", PST_DAEMON_DEVICES_MAX);
		c->devices[c->device_count++] = arg;
		break;
	case O_SPACE_ALERTS:
		take_alerts(c, arg);
		break;
	case O_SPIN:
		c->env.spin_us = (uint32_t)number("--spin-us", arg, 0, 1000);
		break;
	case O_LOG:
		c->env.log_level = (enum pst_log_level)choice("--log", arg, levels);
		break;
	case O_READY:
		c->ready_fd = (int)number("--ready-fd", arg, 0, 1 << 20);
		break;
	case O_HELP:
		fputs(help, stdout);
		exit(PST_DAEMON_OK);
	case O_VERSION:
		puts("penstockd " PENSTOCK_VERSION);
		exit(PST_DAEMON_OK);
	default:
		fputs("  try: penstockd --help\n", stderr);
		exit(PST_DAEMON_USAGE);
	}
}

/*
 * Beyond this machine hosts have to authenticate, and their keys are kept only where there is a key to wrap them with:
 * a daemon without one would listen for nobody.
 */
static void check_exposure(const struct pst_daemon_config *c)
{
	for (unsigned i = 0; i < c->port_count; i++)
		if (!c->insecure && c->kek == NULL && !pst_addr_is_loopback(c->ports[i].addr.host))
			usage("--listen %s reaches beyond this machine, where hosts have to authenticate: add --kek "
			      "FILE (32 random bytes), then `penstock host create HOSTNQN --generate-key`; or "
			      "--insecure, if everybody in that network may have the volumes",
			      c->ports[i].addr.host);
}

static void check_api(const struct pst_daemon_config *c)
{
	if (c->api_tcp_count > 0 && (c->api_cert == NULL || c->api_key == NULL))
		usage(
		    "--api https:ADDR:PORT needs --api-cert FILE and --api-key FILE: over TCP the API is offered with "
		    "TLS only");
	if (c->api_tcp_count == 0 && (c->api_cert != NULL || c->api_key != NULL))
		usage("--api-cert and --api-key need --api https:ADDR:PORT");
}

/* What fits only together. */
static void check_limits(const struct pst_daemon_config *c)
{
	struct pst_target_config target = c->target;
	char why[PST_LIMIT_WHY_BYTES];

	if (pst_target_config_complete(&target, why) != PST_OK)
		usage("--limit: %s", why);
}

int main(int argc, char **argv)
{
	struct pst_daemon_config config = {
		.shards = 1,
		.ready_fd = -1,
		.version = PENSTOCK_VERSION,
		.env = { .backend = PST_ENV_AUTO, .log_level = PST_LOG_INFO, .spin_us = 20 },
	};
	char url[256];
	int code;

	if (!pst_secret_for_openssl()) {
		fputs("penstockd: OpenSSL can't be made to keep keys out of core dumps; report this\n", stderr);
		return PST_DAEMON_FAILED;
	}
	while ((code = getopt_long(argc, argv, "", options, NULL)) != -1)
		take_option(&config, code, optarg);
	if (optind < argc)
		usage("unexpected argument '%s'", argv[optind]);
	if (config.pool_count == 0)
		usage("a pool is needed: --pool PATH, or --ram SIZE");
	if (config.kek_current != NULL && config.kek == NULL)
		usage("--kek-current needs --kek");
	if (config.port_count == 0)
		add_listen(&config, "127.0.0.1");
	number_ports(&config);
	check_exposure(&config);
	check_api(&config);
	check_limits(&config);
	if (config.api_socket == NULL)
		add_api(&config, strncmp(pst_api_url(NULL, url), "unix:", 5) == 0 ? url : pst_api_default(url));
	return pst_daemon_run(&config);
}

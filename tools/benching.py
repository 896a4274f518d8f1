# SPDX-License-Identifier: Apache-2.0
"""What the bench tools share: one measurement, pairs by turns, and a penstockd on core 0."""

import json
import math
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile

STEAL_MAX = 0.02  # of the CPU time, by the hypervisor: more, and the pair is measured again


def cpu_times():
    with open("/proc/stat", encoding="ascii") as f:
        fields = [int(x) for x in f.readline().split()[1:]]
    return sum(fields[:8]), fields[7]


def run(command):
    """One measurement: the program's JSON line, and the share of CPU time that was stolen meanwhile."""
    total, stolen = cpu_times()
    out = subprocess.run([str(c) for c in command], check=True, text=True, stdout=subprocess.PIPE, timeout=120).stdout
    total2, stolen2 = cpu_times()
    result = json.loads(out.splitlines()[-1])
    if result.get("server_cpu_us", 0) > 0:
        result["ops_per_cpu_s"] = 1e6 / result["server_cpu_us"]
    return result, (stolen2 - stolen) / max(1, total2 - total)


def interval(values):
    """Median and the order statistics that hold it with at least 95 % (binomial), or the extremes for few values."""
    ordered, n = sorted(values), len(values)
    low = 0
    while low + 1 < n // 2 and 2 * sum(math.comb(n, k) for k in range(low + 1)) / 2 ** n < 0.05:
        low += 1
    if 2 * sum(math.comb(n, k) for k in range(low + 1)) / 2 ** n > 0.05:
        low = max(0, low - 1)
    return statistics.median(ordered), ordered[low], ordered[n - 1 - low]


def compare(name, ours, limit, pairs, of="iops", bar=None):
    """ABBA pairs of two commands; the row of the table. @of: the figure whose ratio is judged by @bar."""
    a, b, repeats = [], [], 0
    while len(a) < pairs:
        first, second = (ours, limit) if len(a) % 2 == 0 else (limit, ours)
        r1, s1 = run(first)
        r2, s2 = run(second)
        if max(s1, s2) > STEAL_MAX and repeats < pairs:
            repeats += 1
            continue
        a.append(r1 if first is ours else r2)
        b.append(r2 if first is ours else r1)
        if sys.stderr.isatty():
            print(f"\r  {name}: pair {len(a)} of {pairs} ", end="", flush=True)
    ratio, low, high = interval([x[of] / max(y[of], 1e-9) for x, y in zip(a, b)])

    def middle(rows, key):
        return statistics.median(r[key] for r in rows)

    keys = ("iops", "mb_s", "p50_us", "p99_us", "server_cpu_us", "client_cpu_us", "interrupt_cpu_us")
    return {"case": name, "pairs": pairs, "repeated_for_steal": repeats, "of": of, "ratio": ratio, "ratio_95": [low, high],
            "bar": bar, "verdict": verdict(bar, not of.endswith("us"), low, high), "decided": not low <= 1 <= high,
            "penstock": {k: middle(a, k) for k in keys}, "limit": {k: middle(b, k) for k in keys}}


class Daemon:
    def __init__(self, build, *arguments):
        self.directory = tempfile.mkdtemp(prefix="penstock-bench-")
        self.api = f"unix:{self.directory}/api.sock"
        ready, ready_write = os.pipe()
        self.process = subprocess.Popen(
            ["taskset", "-c", "0", str(build / "bin/penstockd"), *arguments, "--listen", "127.0.0.1:0", "--api",
             self.api, "--ready-fd", str(ready_write)], pass_fds=[ready_write],
            stderr=open(f"{self.directory}/log", "wb"))
        os.close(ready_write)
        with os.fdopen(ready) as f:
            line = f.readline()
        if not line:
            sys.exit("bench: penstockd did not start:\n" + open(f"{self.directory}/log").read())
        self.port = json.loads(line)["listen"][0].rsplit(":", 1)[1]
        self.build = build

    def volume(self, name, size):
        out = subprocess.run([self.build / "bin/penstock", "volume", "create", name, "--size", size, "--json"],
                             env={**os.environ, "PENSTOCK_URL": self.api}, check=True, stdout=subprocess.PIPE).stdout
        return json.loads(out)["nqn"]

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(timeout=30)
        shutil.rmtree(self.directory, ignore_errors=True)


def verdict(bar, best_high, low, high):
    """Of a ratio's interval against its bar: met, missed, or undecided."""
    if bar is None:
        return "-"
    if low <= bar <= high:
        return "undecided"
    return "met" if (low > bar) == best_high else "missed"


def heading(ours, other):
    print(f"{'case':<38} {ours:>9} {other:>9}  {'ratio [95 %]':<26} {'bar':>4} {'':<9} {'p50 us':>15} {'p99 us':>15} "
          f"{'server us':>13} {'irq us':>6}")


def show(row):
    ours, limit = row["penstock"], row["limit"]
    low, high = row["ratio_95"]
    ratio = f"{row['ratio']:.2f} [{low:.2f} {high:.2f}]{' ' if row['decided'] else '?'}{row['of'].split('_')[0]}"
    print(f"\r{row['case']:<38} {ours['iops']:>9.0f} {limit['iops']:>9.0f}  {ratio:<26} {row['bar'] or '':>4} "
          f"{row['verdict']:<9} {ours['p50_us']:>7.0f} {limit['p50_us']:>7.0f} {ours['p99_us']:>7.0f} "
          f"{limit['p99_us']:>7.0f} {ours['server_cpu_us']:>6.1f} {limit['server_cpu_us']:>6.1f} "
          f"{ours['interrupt_cpu_us']:>6.1f}", flush=True)

# SPDX-License-Identifier: Apache-2.0
"""Memory and time of a daemon with a large pool, against what docs/memory.md says."""

import subprocess
import time

from conftest import BUILD

MIB = 1 << 20
LARGE = 512 << 30


def resident_bytes(daemon):
    with open(f"/proc/{daemon.process.pid}/status", encoding="ascii") as f:
        return next(int(line.split()[1]) * 1024 for line in f if line.startswith("VmRSS"))


def write_at_random(daemon, nqn, seconds):
    port = daemon.ready["listen"][0].rsplit(":", 1)[1]
    subprocess.run([BUILD / "tests/bench/load", "--nqn", nqn, "--port", port, "--op", "write", "--depth", "32",
                    "--seconds", str(seconds), "--span", "60Gi"], check=True, timeout=60, stdout=subprocess.PIPE)


def test_resident_memory_follows_the_formula(start_penstockd, tmp_path):
    """An idle pool costs a 16384th of its size more than a small one, and no more than the formula under load."""
    small = start_penstockd("--pool", tmp_path / "small", "--pool-size", "64Mi")
    large = start_penstockd("--pool", tmp_path / "large", "--pool-size", LARGE)
    assert small.ready and large.ready, large.text()
    small_bytes, space_map = resident_bytes(small), LARGE // 16384
    grown = resident_bytes(large) - small_bytes
    assert 0.9 * space_map < grown < 1.1 * space_map + 4 * MIB, f"{grown / MIB:.1f} MiB"

    nqn = large.cli_json("volume", "create", "v", "--size", "64Gi")["nqn"]
    write_at_random(large, nqn, 4)
    assert resident_bytes(large) < small_bytes + space_map + 160 * MIB, f"{resident_bytes(large) / MIB:.1f} MiB"


def test_a_full_tebibyte_opens_in_two_seconds(start_penstockd, tmp_path):
    """1 TiB of unique leaves: the daemon is ready in under 2 s after a clean stop, and after a crash in the midst of
    writes."""
    pool = tmp_path / "pool"
    subprocess.run([BUILD / "tests/bench/big-pool", "--file", pool, "--mapped", "1Ti"], check=True, timeout=300,
                   stdout=subprocess.PIPE)
    for crash in (False, True):
        begin = time.monotonic()
        daemon = start_penstockd("--pool", pool)
        seconds = time.monotonic() - begin
        assert daemon.ready, daemon.text()
        daemon.end()
        assert seconds < 2, f"{seconds:.2f} s after a {'crash' if crash else 'clean stop'}"
        if not crash:
            subprocess.run([BUILD / "tests/bench/growth", "--file", pool, "--dirty", "3"], check=True, timeout=60,
                           stdout=subprocess.PIPE)
    pool.unlink()

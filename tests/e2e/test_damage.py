# SPDX-License-Identifier: Apache-2.0
"""A pool file that is damaged under a running daemon, seen by a real host over NVMe/TCP."""

import ctypes
import os
import time

import pytest

from test_volume_io import Host

MI = 1 << 20
BLOCK = 4096
PST_E_OK = 0


class Reader(Host):
    def try_read(self, offset, count):
        """(error code, bytes)"""
        data = ctypes.create_string_buffer(b"\xee" * count, count)
        return self.lib.pst_ns_read(self.ns, offset, data, count), data.raw


@pytest.fixture
def host():
    h = Reader()
    yield h
    h.close()


def pattern(number):
    return b"block %8d of this test, found again by its text " % number + bytes(range(256)) * 15 + b"." * (BLOCK - 3840 - 53)


def wait_for(condition, seconds=10):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.05)


def metric(text, name):
    return int(next(l for l in text.splitlines() if l.startswith(name + "{")).rsplit(" ", 1)[1])


def damage(file, number):
    """Flips a bit of the block with this pattern, wherever it lies; past the page cache's stale copies by fsync."""
    wanted, at = pattern(number)[:40], 0
    with open(file, "r+b") as f:
        while True:
            chunk = f.read(8 * MI)
            assert chunk, "the block is not in the pool's file"
            found = chunk.find(wanted)
            if found >= 0:
                break
            at += len(chunk)
        f.seek(at + found + 100)
        byte = f.read(1)[0]
        f.seek(at + found + 100)
        f.write(bytes([byte ^ 16]))
        f.flush()
        os.fsync(f.fileno())


def test_a_rotten_block_is_a_media_error(start_penstockd, tmp_path, host):
    """The host gets a media error for that block only, and never its bytes; the log names volume and LBA once; writing
    it anew heals it."""
    daemon = start_penstockd("--pool", tmp_path / "pool", "--pool-size", "256Mi")
    volume = daemon.cli_json("volume", "create", "v", "--size", "16Mi")
    host.connect(volume)
    for i in range(16):
        assert len(pattern(i)) == BLOCK
        assert host.write(i * BLOCK, pattern(i)) == PST_E_OK
    damage(tmp_path / "pool/pool.penstock", 5)

    for _ in range(20):
        err, data = host.try_read(5 * BLOCK, BLOCK)
        assert err != PST_E_OK and b"of this test" not in data
    assert host.read(4 * BLOCK, BLOCK) == pattern(4) and host.read(6 * BLOCK, BLOCK) == pattern(6)
    err, data = host.try_read(0, 16 * BLOCK)
    assert err != PST_E_OK and b"of this test" not in data
    line = f"bad_block volume={volume['uuid']} lba=5 blocks=1 "
    wait_for(lambda: line in daemon.text())
    assert daemon.text().count("bad_block ") == 1, "known blocks are told again"
    metrics = daemon.call("GET", "/metrics")[1]
    assert metric(metrics, "penstock_pool_bad_blocks") == 1
    assert metric(metrics, "penstock_volume_media_errors_total") == 21  # status code type 2h

    events = [e for e in daemon.call("GET", "/v1/events")[1] if e["text"].startswith("bad_block ")]
    assert len(events) == 1 and events[0]["level"] == "error"
    assert f"volume={volume['uuid']} (v) lba=5 blocks=1 " in events[0]["text"]

    assert host.write(5 * BLOCK, pattern(99)) == PST_E_OK
    assert host.read(5 * BLOCK, BLOCK) == pattern(99)
    wait_for(lambda: f"bad_block_healed volume={volume['uuid']} lba=5" in daemon.text())
    assert metric(daemon.call("GET", "/metrics")[1], "penstock_pool_bad_blocks") == 0
    daemon.end()


def scrub(daemon, **options):
    """Runs one from beginning to end; the task."""
    status, _ = daemon.call("POST", "/v1/pools/pool/tasks", {"task": "scrub", **options})
    assert status in (200, 201, 202), _
    task = {}

    def ended():
        task.update(daemon.call("GET", "/v1/pools/pool/tasks")[1][0])
        return not task["running"]

    wait_for(ended, 30)
    return task


def test_scrub_finds_what_nobody_reads(start_penstockd, tmp_path, host):
    """By REST: the scrub finds rot in a volume that no host reads, names it, counts it; after an overwrite it finds
    nothing."""
    daemon = start_penstockd("--pool", tmp_path / "pool", "--pool-size", "256Mi")
    volume = daemon.cli_json("volume", "create", "v", "--size", "32Mi")
    host.connect(volume)
    for i in range(1024):
        assert host.write(i * BLOCK, pattern(i)) == PST_E_OK
    task = scrub(daemon)
    assert task["errors"] == 0 and task["done_bytes"] == task["total_bytes"] > 4 * MI
    damage(tmp_path / "pool/pool.penstock", 700)
    assert scrub(daemon)["errors"] == 1
    events = [e["text"] for e in daemon.call("GET", "/v1/events")[1]]
    assert any("(v) lba=700 blocks=1 " in e and "found_by=scrub" in e for e in events), events
    assert host.write(700 * BLOCK, pattern(3)) == PST_E_OK
    assert scrub(daemon)["errors"] == 0
    daemon.end()

# SPDX-License-Identifier: Apache-2.0
"""Control beside real hosts (libpenstock, by its public API): volumes in use, full pools, shrinking, statistics."""

import ctypes
import re
import threading
import time

import pytest

from conftest import BUILD

MI = 1 << 20
PST_E_NOSPACE = 5


class NsOptions(ctypes.Structure):
    _fields_ = [("struct_bytes", ctypes.c_size_t), ("traddr", ctypes.c_char_p), ("trsvcid", ctypes.c_uint16),
                ("subnqn", ctypes.c_char_p), ("nsid", ctypes.c_uint32), ("io_queues", ctypes.c_uint32),
                ("queue_entries", ctypes.c_uint32), ("header_digest", ctypes.c_bool), ("data_digest", ctypes.c_bool),
                ("keep_alive_ms", ctypes.c_uint32), ("connect_timeout_ms", ctypes.c_uint32),
                ("reconnect_delay_ms", ctypes.c_uint32), ("loss_timeout_ms", ctypes.c_uint32)]


class Host:
    """One namespace of one volume; every call waits, and raises or returns the library's error code."""

    def __init__(self, options=None, expected=0):
        self.lib = ctypes.CDLL(BUILD / "src/host/libpenstock.so")
        for name in ("pst_ns_write", "pst_ns_read"):
            getattr(self.lib, name).argtypes = [ctypes.c_void_p, ctypes.c_uint64, ctypes.c_void_p, ctypes.c_size_t]
        self.lib.pst_ns_discard.argtypes = [ctypes.c_void_p, ctypes.c_uint64, ctypes.c_uint64]
        self.lib.pst_ns_disconnect.argtypes = self.lib.pst_host_close.argtypes = [ctypes.c_void_p]
        self.host, self.ns = ctypes.c_void_p(), ctypes.c_void_p()
        assert self.lib.pst_host_open(options, ctypes.byref(self.host)) == expected

    def connect(self, volume, loss_timeout_ms=1000):
        address, port = volume["addresses"][0].rsplit(":", 1)
        options = NsOptions(struct_bytes=ctypes.sizeof(NsOptions), traddr=address.encode(), trsvcid=int(port),
                            subnqn=volume["nqn"].encode(), connect_timeout_ms=3000, loss_timeout_ms=loss_timeout_ms)
        assert self.lib.pst_ns_connect(self.host, ctypes.byref(options), ctypes.byref(self.ns)) == 0
        return self

    def write(self, offset, data):
        return self.lib.pst_ns_write(self.ns, offset, ctypes.c_char_p(data), len(data))

    def read(self, offset, count):
        data = ctypes.create_string_buffer(count)
        assert self.lib.pst_ns_read(self.ns, offset, data, count) == 0
        return data.raw

    def discard(self, offset, count):
        return self.lib.pst_ns_discard(self.ns, offset, count)

    def disconnect(self):
        if self.ns:
            self.lib.pst_ns_disconnect(self.ns)
            self.ns = ctypes.c_void_p()

    def close(self):
        self.disconnect()
        self.lib.pst_host_close(self.host)


@pytest.fixture
def host():
    h = Host()
    yield h
    h.close()


def test_volume_in_use_is_not_deleted(penstockd, host):
    """With a host connected delete is refused, says how many, and the volume serves on; --force deletes."""
    volume = penstockd.cli_json("volume", "create", "v", "--size", "1Mi")
    host.connect(volume)
    assert host.write(0, b"x" * 4096) == 0
    result = penstockd.cli("volume", "delete", "v")
    assert result.returncode == 5 and "1 host" in result.stderr and "--force" in result.stderr
    assert penstockd.cli("volume", "resize", "v", "--size", "512Ki").returncode == 5
    assert host.read(0, 4096) == b"x" * 4096
    assert penstockd.cli_json("volume", "show", "v")["hosts"] == 1
    assert penstockd.cli("volume", "delete", "v", "--force").returncode == 0
    assert host.write(0, b"y" * 4096) != 0
    host.disconnect()
    penstockd.end()


def test_deleted_after_disconnect(penstockd, host):
    """A host that has gone does not count."""
    host.connect(penstockd.cli_json("volume", "create", "v", "--size", "1Mi"))
    host.disconnect()
    assert penstockd.cli("volume", "delete", "v").returncode == 0
    penstockd.end()


def test_shrink_below_used_data(penstockd, host):
    """Data behind the new end stops a shrink and stays; once discarded the shrink goes through."""
    host.connect(penstockd.cli_json("volume", "create", "v", "--size", "8Mi"))
    assert host.write(6 * MI, b"d" * 4096) == 0
    host.disconnect()
    result = penstockd.cli("volume", "resize", "v", "--size", "4Mi")
    assert result.returncode == 5 and "holds data" in result.stderr
    volume = penstockd.cli_json("volume", "show", "v")
    assert volume["size_bytes"] == 8 * MI
    host.connect(volume)
    assert host.read(6 * MI, 4096) == b"d" * 4096
    assert host.discard(6 * MI, 4096) == 0
    host.disconnect()
    assert penstockd.cli_json("volume", "resize", "v", "--size", "4Mi")["size_bytes"] == 4 * MI


@pytest.mark.parametrize("kind", ["ram", "store"])
def test_full_pool(start_penstockd, tmp_path, host, kind):
    """Writes to a full pool fail as no space; what was written stays readable; discarding makes room again."""
    options = ["--ram", "8Mi"] if kind == "ram" else ["--pool", tmp_path / "p", "--pool-size", "64Mi"]
    daemon = start_penstockd(*options)
    assert daemon.ready, daemon.text()
    host.connect(daemon.cli_json("volume", "create", "v", "--size", "256Mi"))
    chunk, written = 256 << 10, 0
    while written < 256 * MI:
        err = host.write(written, bytes([written // chunk % 251]) * chunk)
        if err != 0:
            break
        written += chunk
    assert err == PST_E_NOSPACE and written >= 4 * MI
    assert host.read(written - chunk, chunk) == bytes([(written // chunk - 1) % 251]) * chunk
    if kind == "ram":  # the store keeps a reserve, so that a full pool can still be cleaned up
        assert daemon.cli_json("pool", "list")[0]["free_bytes"] < chunk
    assert host.discard(0, 2 * MI) == 0
    for _ in range(20):
        err = host.write(4 * MI, b"a" * 4096)
        if err == 0:
            break
        time.sleep(0.1)  # freed space comes back with the next checkpoint
    assert err == 0
    host.disconnect()
    assert daemon.cli("volume", "delete", "v").returncode == 0
    daemon.end()


def test_pool_flushes_at_its_limit(start_penstockd, tmp_path, host):
    """What no host flushes the pool does when it is as much as unflushed_bytes_max says, which is a lot by default."""
    flushes = []
    for limit in ((), ("--limit", "unflushed_bytes_max=65536")):
        daemon = start_penstockd("--pool", tmp_path / f"p{len(limit)}", "--pool-size", "64Mi", *limit)
        host.connect(daemon.cli_json("volume", "create", "v", "--size", "16Mi"))
        before = daemon.call("GET", "/v1/stats")[1]["pools"][0]["device_flushes"]
        for i in range(64):
            assert host.write(i * 4096, b"f" * 4096) == 0
        flushes.append(daemon.call("GET", "/v1/stats")[1]["pools"][0]["device_flushes"] - before)
        host.disconnect()
        daemon.end()
    assert flushes[0] == 0 and 2 <= flushes[1] <= 8, flushes


def test_statistics_count_what_hosts_did(penstockd, host):
    """Operations, bytes and latencies of /v1/stats and /metrics are those of the host; tenants are sums of volumes."""
    penstockd.cli_json("tenant", "create", "vision")
    host.connect(penstockd.cli_json("volume", "create", "v", "--size", "8Mi", "--tenant", "vision"))
    for i in range(10):
        assert host.write(i * 65536, b"w" * 65536) == 0
    for i in range(5):
        host.read(i * 65536, 65536)
    stats = penstockd.call("GET", "/v1/stats")[1]
    volume, tenant = stats["volumes"][0], stats["tenants"][0]
    assert tenant["name"] == "vision" and volume["tenant"] == "vision"
    for row in (volume, tenant):
        assert row["ops"]["write"] == 10 and row["ops"]["read"] == 5
        assert row["bytes_written"] == 655360 and row["bytes_read"] == 327680
        assert row["latency"]["write"]["count"] == 10
        assert sum(n for _, n in row["latency"]["write"]["buckets"]) == 10
        assert row["socket_bytes_received"] >= 655360
    assert volume["used_bytes"] == 655360 and volume["hosts"] == 1
    text = penstockd.call("GET", "/metrics")[1]
    assert re.search(r'penstock_volume_operations_total\{volume="v",tenant="vision",op="write"\} 10\n', text)
    assert re.search(r'penstock_tenant_latency_seconds_count\{tenant="vision",op="read"\} 5\n', text)


def test_limit_is_enforced_and_changed_live(penstockd, host):
    """A limit slows a host down at once, shows as throttled time, and can be taken back."""
    host.connect(penstockd.cli_json("volume", "create", "v", "--size", "8Mi"))

    def seconds(count):
        began = time.monotonic()
        for i in range(count):
            host.read((i % 8) * 4096, 4096)
        return time.monotonic() - began

    free = seconds(100)
    penstockd.cli_json("tenant", "set", "default", "--limit", "100iops")
    slow = seconds(100)
    throttled = penstockd.call("GET", "/v1/stats")[1]["volumes"][0]["throttled"]
    penstockd.cli_json("tenant", "set", "default", "--limit", "none")
    assert slow > 0.5 and slow > 5 * free, (free, slow)
    assert throttled["ns"] > 200_000_000
    assert seconds(100) < slow / 5


def test_host_lives_through_an_orderly_restart(start_penstockd, tmp_path, host):
    """SIGTERM and a new start in mid-write: the host waits, comes back, and no write fails or is lost."""
    pool = ["--pool", tmp_path / "pool", "--pool-size", "256Mi"]
    daemon = start_penstockd(*pool)
    listen = daemon.ready["listen"][0]
    host.connect(daemon.cli_json("volume", "create", "v", "--size", "16Mi"), loss_timeout_ms=0)
    results, stop = [], threading.Event()

    def write_on():
        while not stop.is_set():
            number = len(results)
            results.append(host.write(number % 1024 * 4096, number.to_bytes(4, "little") * 1024))

    writer = threading.Thread(target=write_on)
    writer.start()
    for _ in range(3):
        time.sleep(0.3)
        before = len(results)
        daemon.end()
        daemon = start_penstockd(*pool, "--listen", listen)
        assert daemon.ready, daemon.text()
        deadline = time.monotonic() + 20
        while len(results) < before + 100 and time.monotonic() < deadline:
            time.sleep(0.05)
        assert len(results) >= before + 100, "the host did not come back"
    stop.set()
    writer.join(30)
    assert not writer.is_alive() and not any(results)
    for number in range(max(0, len(results) - 1024), len(results)):
        assert host.read(number % 1024 * 4096, 4096) == number.to_bytes(4, "little") * 1024
    host.disconnect()
    daemon.end()

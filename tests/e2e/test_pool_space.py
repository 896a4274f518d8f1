# SPDX-License-Identifier: Apache-2.0
"""Pools that grow: on files and block devices, under a verified load and SIGKILL, and with devices that are gone."""

import json
import os
import pathlib
import subprocess
import tempfile
import time

import pytest

from conftest import BUILD

MI = 1 << 20


@pytest.fixture
def pool(start_penstockd, tmp_path):
    """start(*options): penstockd on one pool directory of 64 MiB, again and again."""
    directory = tmp_path / "pool"

    def start(*options):
        return start_penstockd("--pool", directory, *(() if directory.exists() else ("--pool-size", "64Mi")), *options)

    start.file = directory / "pool.penstock"
    return start


@pytest.fixture
def loop_device(tmp_path):
    """(path, grow): a loop device of 64 MiB, and what makes it larger."""
    if os.geteuid() != 0:
        pytest.skip("loop devices need root")
    backing = tmp_path / "loop.img"
    with open(backing, "wb") as f:
        f.truncate(64 * MI)
    made = subprocess.run(["losetup", "-f", "--show", backing], text=True, capture_output=True)
    if made.returncode != 0:
        pytest.skip(f"losetup: {made.stderr.strip()}")
    path = made.stdout.strip()

    def grow(size):
        os.truncate(backing, size)
        subprocess.run(["losetup", "-c", path], check=True)

    yield path, grow
    subprocess.run(["losetup", "-d", path], check=True)


@pytest.fixture
def short_path():
    """A directory for devices: a pool remembers where its devices lie only as far as the paths fit into a block."""
    with tempfile.TemporaryDirectory(prefix="pd-", dir="/tmp") as directory:
        yield pathlib.Path(directory)


def file_of(path, size):
    with open(path, "wb") as f:
        f.truncate(size)
    return str(path)


def only_pool(daemon):
    (pool,) = daemon.call("GET", "/v1/pools")[1]
    return pool


def device_add(daemon, path):
    status, answer = daemon.call("POST", "/v1/pools/pool/devices", {"path": str(path)})
    assert status in (200, 201), answer
    return answer


def grow(daemon, path, size=None):
    body = {"path": str(path)} | ({"size_bytes": size} if size else {})
    return daemon.call("POST", "/v1/pools/pool/grow", body)


def test_growth_under_load_and_sigkill(pool, short_path, request):
    """A verified load goes on while space is added and the daemon is killed: nothing completed is lost, sums are exact."""
    daemon = pool()
    listen = daemon.ready["listen"][0]
    volume = daemon.cli_json("volume", "create", "v", "--size", "32Mi")
    writer = subprocess.Popen([BUILD / "tests/e2e/kill-writer", "--nqn", volume["nqn"], "--port",
                               listen.rsplit(":", 1)[1], "--seconds", "6", "--span", str(16 * MI)],
                              stdout=subprocess.PIPE, text=True)
    request.addfinalizer(writer.kill)  # it would wait for ever for a daemon that failed
    while daemon.cli_json("volume", "show", "v")["hosts"] == 0:  # a host waits for a daemon only once it has been connected
        assert writer.poll() is None
        time.sleep(0.05)
    size = 64 * MI
    for i in range(6):
        if i % 2 == 0:
            device_add(daemon, file_of(short_path / f"device-{i}", 32 * MI))
            size += 32 * MI
        else:
            status, answer = grow(daemon, pool.file, (64 + 32 * i) * MI)
            assert status == 200, answer
            size += 32 * MI if i == 1 else 64 * MI
        daemon.kill()
        daemon = pool("--listen", listen)
        assert daemon.ready, daemon.text()
        shown = only_pool(daemon)
        assert shown["size_bytes"] == size and shown["devices"] == 2 + i // 2
    result = json.loads(writer.communicate(timeout=60)[0])
    assert writer.returncode == 0 and result["wrong"] == 0 and result["completed"] > 500
    total = shown["used_bytes"] + shown["free_bytes"]
    daemon.end()
    daemon = pool("--listen", listen)
    shown = only_pool(daemon)
    assert shown["used_bytes"] + shown["free_bytes"] == total
    daemon.end()


def test_block_devices_grow(pool, loop_device):
    """A block device is added to a pool, enlarged, and the pool takes its new space; smaller ones are never taken."""
    path, enlarge = loop_device
    daemon = pool()
    assert device_add(daemon, path)["size_bytes"] == 128 * MI
    status, answer = grow(daemon, path)
    assert status >= 400 and "has not grown" in answer["error"]["message"]
    status, answer = grow(daemon, path, 256 * MI)
    assert status >= 400 and "block device" in answer["error"]["message"]
    enlarge(128 * MI)
    status, answer = grow(daemon, path)
    assert status == 200 and answer["size_bytes"] == 192 * MI
    daemon.end()
    daemon = pool()
    assert only_pool(daemon)["size_bytes"] == 192 * MI
    daemon.end()


def test_missing_devices_are_named(pool, tmp_path):
    """Without one of its devices a pool is not opened; the error says which, and where it was; --device finds it."""
    device = file_of(tmp_path / "second", 32 * MI)
    daemon = pool()
    device_add(daemon, device)
    daemon.end()
    moved = tmp_path / "moved"
    os.rename(device, moved)
    daemon = pool()
    assert daemon.failed_with() != 0
    assert "device 1 of 2" in daemon.text() and device in daemon.text() and "--device" in daemon.text()
    daemon = pool("--device", moved)
    assert daemon.ready and only_pool(daemon)["devices"] == 2
    daemon.end()
    daemon = pool()  # it knows now
    assert daemon.ready, daemon.text()
    daemon.end()


def test_devices_of_pools_stay_theirs(start_penstockd, pool, tmp_path):
    """A device of a pool is neither formatted nor opened nor added elsewhere."""
    device = file_of(tmp_path / "second", 32 * MI)
    first = pool()
    device_add(first, device)
    other = start_penstockd("--pool", f"pool={tmp_path / 'other'}", "--pool-size", "64Mi")
    status, answer = other.call("POST", "/v1/pools/pool/devices", {"path": device})
    assert status >= 400
    first.end()
    status, answer = other.call("POST", "/v1/pools/pool/devices", {"path": device})
    assert status >= 400 and "belongs to the pool" in answer["error"]["message"]
    other.end()
    alone = start_penstockd("--pool", device, "--format")
    assert alone.failed_with() != 0 and "device 1 of a pool" in alone.text()
    daemon = pool()
    assert only_pool(daemon)["devices"] == 2
    daemon.end()


@pytest.mark.parametrize("alerts", ["0", "90,80", "80,101", "1,2,3,4", "x", "80,"])
def test_senseless_alerts_are_refused(start_penstockd, alerts):
    """What is no list of percentages is refused with what would be one."""
    daemon = start_penstockd("--space-alerts", alerts)
    assert daemon.failed_with() == 2 and "ascending percentages" in daemon.text()

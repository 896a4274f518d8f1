# SPDX-License-Identifier: Apache-2.0
"""Pools on disk: what survives a restart and a SIGKILL, and pools that can't be opened."""

import time

import pytest

MI = 1 << 20


@pytest.fixture
def pool(start_penstockd, tmp_path):
    """start(*options): penstockd on one pool directory, again and again."""
    directory = tmp_path / "pool"

    def start(*options):
        return start_penstockd("--pool", directory, *(() if directory.exists() else ("--pool-size", "256Mi")), *options)

    start.file = directory / "pool.penstock"
    return start


def objects(daemon):
    volumes = daemon.cli_json("volume", "list")
    for v in volumes:
        del v["addresses"]
    return volumes, daemon.cli_json("tenant", "list"), daemon.cli_json("profile", "list")


@pytest.mark.parametrize("end", ["end", "kill"])
def test_everything_survives(pool, end):
    """Volumes with their identity, policies, tenants and profiles are there after a stop, clean or not."""
    first = pool()
    first.cli_json("tenant", "create", "vision", "--quota", "1Gi", "--reserve", "500iops")
    first.cli_json("profile", "create", "mine", "--weight", "7", "--summary", "of this site")
    first.cli_json("volume", "create", "train", "--size", "64Mi", "--tenant", "vision", "--profile", "mine")
    first.cli_json("volume", "create", "gone", "--size", "64Mi")
    first.cli_json("volume", "set", "train", "--limit", "9000iops")
    first.cli_json("volume", "resize", "train", "--size", "80Mi")
    first.cli_json("tenant", "set", "default", "--weight", "33")
    first.cli("volume", "delete", "gone")
    before = objects(first)
    getattr(first, end)()
    began = time.monotonic()
    second = pool()
    assert second.ready, second.text()
    assert time.monotonic() - began < 1
    assert objects(second) == before
    second.end()


def test_directory_is_made_and_named(pool):
    """A missing directory becomes a pool of the size asked for, named like the directory."""
    daemon = pool()
    assert pool.file.stat().st_size == 256 * MI
    assert daemon.ready["pools"] == ["pool"]
    shown = daemon.cli_json("pool", "list")
    assert len(shown) == 1 and shown[0]["engine"] == "store" and 0 < shown[0]["size_bytes"] <= 256 * MI


def test_opened_twice(pool, start_penstockd):
    """The second daemon is refused, and the first goes on."""
    first = pool()
    second = pool()
    assert second.failed_with() == 5 and "another process" in second.text()
    assert first.call("GET", "/healthz")[0] == 200
    first.end()


def damage(path, *ranges):
    with open(path, "r+b") as f:
        for offset, data in ranges:
            f.seek(offset, 0 if offset >= 0 else 2)
            f.write(data)


def test_damaged_superblock(pool):
    """One bad copy is repaired; with both bad the daemon says so and leaves the pool as it is."""
    daemon = pool()
    daemon.cli_json("volume", "create", "v", "--size", "1Mi")
    daemon.end()
    damage(pool.file, (100, b"\xff" * 64))
    daemon = pool()
    assert daemon.ready, daemon.text()
    assert [v["name"] for v in daemon.cli_json("volume", "list")] == ["v"]
    daemon.end()
    damage(pool.file, (100, b"\xff" * 64), (-4096 + 100, b"\xff" * 64))
    before = pool.file.read_bytes()
    daemon = pool()
    assert daemon.failed_with() == 9 and "superblock" in daemon.text() and str(pool.file) in daemon.text()
    assert pool.file.read_bytes() == before


def test_not_a_pool(start_penstockd, tmp_path):
    """Foreign files and directories are refused and left alone; --format writes where no pool is, and only there."""
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign/precious").write_text("mine")
    daemon = start_penstockd("--pool", tmp_path / "foreign")
    assert daemon.failed_with() == 9 and "not empty" in daemon.text()
    assert [p.name for p in (tmp_path / "foreign").iterdir()] == ["precious"]
    device = tmp_path / "device"
    with open(device, "wb") as f:
        f.truncate(128 * MI)
    daemon = start_penstockd("--pool", device)
    assert daemon.failed_with() == 9
    daemon = start_penstockd("--pool", f"disk={device}", "--format")
    assert daemon.ready and daemon.ready["pools"] == ["disk"], daemon.text()
    daemon.cli_json("volume", "create", "v", "--size", "1Mi")
    daemon.end()
    daemon = start_penstockd("--pool", device, "--format")
    assert [v["name"] for v in daemon.cli_json("volume", "list")] == ["v"]
    daemon = start_penstockd("--pool", tmp_path / "no/such/place")
    assert daemon.failed_with() == 1 and "can't be made" in daemon.text()


def test_two_pools(start_penstockd, tmp_path):
    """Volumes go to the pool they are made for; the second pool alone is refused if it needs the first's tenants."""
    options = ["--pool-size", "128Mi", "--pool", tmp_path / "one", "--pool", tmp_path / "two"]
    daemon = start_penstockd(*options)
    daemon.cli_json("tenant", "create", "vision")
    daemon.cli_json("volume", "create", "a", "--size", "1Mi", "--pool", "one", "--tenant", "vision")
    daemon.cli_json("volume", "create", "b", "--size", "1Mi", "--pool", "two", "--tenant", "vision")
    daemon.end()
    daemon = start_penstockd(*options)
    assert {v["name"]: v["pool"] for v in daemon.cli_json("volume", "list")} == {"a": "one", "b": "two"}
    daemon.end()
    daemon = start_penstockd("--pool", tmp_path / "two")
    assert daemon.failed_with() == 1 and "tenant 'vision'" in daemon.text()

# SPDX-License-Identifier: Apache-2.0
"""Work in the background of a real pool, its events, checks, space and the settings of volumes, by command line."""

import json

import pytest

from test_volume_io import Host

MI = 1 << 20


@pytest.fixture
def daemon(start_penstockd, tmp_path):
    d = start_penstockd("--pool", tmp_path / "pool", "--pool-size", "256Mi")
    assert d.ready, d.text()
    d.pool_file = tmp_path / "pool/pool.penstock"
    volume = d.cli_json("volume", "create", "v", "--size", "16Mi")
    host = Host().connect(volume)
    for i in range(8):
        assert host.write(i * MI, bytes([i + 1]) * MI) == 0
    host.close()
    return d


def test_scrub(daemon):
    """A scrub reads what is in use, with its progress; it is listed, stopped by name, and its rate is changed."""
    done = daemon.cli_json("pool", "scrub", "--wait")
    assert done["task"] == "scrub" and not done["running"] and done["errors"] == 0
    assert done["done_bytes"] >= 8 * MI and done["done_bytes"] == done["total_bytes"]
    slow = daemon.cli_json("pool", "scrub", "--rate", "100KB/s")
    assert slow["running"] and slow["rate_bytes_per_s"] == 100_000
    assert daemon.cli_json("pool", "scrub", "--rate", "200KB/s")["rate_bytes_per_s"] == 200_000
    listed = daemon.cli_json("pool", "tasks")
    assert [t["task"] for t in listed if t["running"]] == ["scrub"]
    assert "scrub" in daemon.cli("pool", "tasks", "pool").stdout
    assert daemon.cli("pool", "scrub", "--stop").returncode == 0
    assert not [t for t in daemon.cli_json("pool", "tasks") if t["running"]]
    assert daemon.cli("pool", "scrub", "--stop").returncode == 4
    daemon.end()


def test_flatten(daemon):
    """A flattened clone owns what it shows; volumes that are no clones have nothing to flatten."""
    daemon.cli_json("snapshot", "create", "v@s")
    assert daemon.cli_json("volume", "clone", "v@s", "c")["own_bytes"] == 0
    done = daemon.cli_json("volume", "flatten", "c", "--wait")
    assert not done["running"] and done["volume"] == "c"
    shown = daemon.cli_json("volume", "show", "c")
    assert shown["own_bytes"] == shown["mapped_bytes"] == 8 * MI
    refused = daemon.cli("volume", "flatten", "v")
    assert refused.returncode == 2 and "not a clone" in refused.stderr
    daemon.end()


def test_straighten(daemon):
    """Straightening ends, and the data stays what it was."""
    done = daemon.cli_json("volume", "straighten", "v", "--wait")
    assert not done["running"]
    host = Host().connect(daemon.cli_json("volume", "show", "v"))
    for i in range(8):
        assert host.read(i * MI, MI) == bytes([i + 1]) * MI
    host.close()
    daemon.end()


def test_check_of_a_pool_in_use(daemon):
    """The check runs beside the daemon's work and finds nothing; its end is an event."""
    checked = daemon.cli_json("pool", "check", "pool", "--data")
    assert checked["status"] == "clean" and checked["found"] == 0 and checked["data_blocks_read"] >= 8 * MI / 4096
    events = [json.loads(line) for line in daemon.cli("pool", "events", "--json").stdout.splitlines()]
    assert any("pool_checked" in e["text"] and e["pool"] == "pool" for e in events)
    numbers = [e["number"] for e in events]
    assert numbers == sorted(set(numbers))
    later = daemon.cli("pool", "events", "--since", str(numbers[-1])).stdout
    assert later == ""
    daemon.end()


def test_space(daemon, tmp_path):
    """A pool grows by its file and by a device, in use; reserved space is counted, and too much is refused."""
    before = daemon.cli_json("pool", "show", "pool")
    grown = daemon.cli_json("pool", "grow", "pool", daemon.pool_file, "--size", "384Mi")
    assert grown["size_bytes"] > before["size_bytes"]
    device = tmp_path / "device"
    with open(device, "wb") as f:
        f.truncate(256 * MI)
    added = daemon.cli_json("pool", "add-device", "pool", device)
    assert added["devices"] == 2 and added["size_bytes"] > grown["size_bytes"]
    refused = daemon.cli("pool", "add-device", "pool", tmp_path / "missing")
    assert refused.returncode != 0 and "missing" in refused.stderr
    held = daemon.cli_json("volume", "set", "v", "--reserve-space", "64Mi")
    assert held["reserved_bytes"] == 16 * MI and held["on_full"] == "fail"
    assert daemon.cli_json("pool", "show", "pool")["reserved_bytes"] > 0
    daemon.cli_json("volume", "create", "large", "--size", "10Ti")
    refused = daemon.cli("volume", "set", "large", "--reserve-space", "10Ti")
    assert refused.returncode == 6 and "large" in refused.stderr, refused.stderr
    assert daemon.cli_json("volume", "set", "v", "--on-full", "pause")["on_full"] == "pause"
    daemon.end()

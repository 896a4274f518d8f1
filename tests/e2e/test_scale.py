# SPDX-License-Identifier: Apache-2.0
"""Many volumes and connections, and the target's limits as options of the daemon."""

import importlib.machinery
import importlib.util
import pathlib
import re
import socket

from conftest import BUILD

ROOT = pathlib.Path(__file__).resolve().parents[2]


def bench_scale():
    loader = importlib.machinery.SourceFileLoader("bench_scale", str(ROOT / "tools/bench-scale"))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("bench_scale", loader))
    loader.exec_module(module)
    return module


def test_many_volumes_and_connections():
    """The short form of tools/bench-scale: memory follows the formula, and what has gone leaves nothing."""
    scale = bench_scale()
    row = scale.measure(BUILD, volumes=200, held=200, cycled=1000)
    assert scale.judge(row) == [], row


def test_limits_are_options(start_penstockd):
    """A limit that is set is kept, and its name is in the log."""
    daemon = start_penstockd("--limit", "connections_max=1", "--limit", "registrants_max=4")
    address, port = daemon.ready["listen"][0].rsplit(":", 1)
    with socket.create_connection((address, int(port)), timeout=10) as first:
        with socket.create_connection((address, int(port)), timeout=10) as second:
            second.settimeout(10)
            assert second.recv(1) == b""
        first.setblocking(False)
        try:
            assert first.recv(1) != b"", "the first one was closed"
        except BlockingIOError:
            pass
    assert "connection_refused limit=connections_max" in daemon.text()
    daemon.end()


def test_wrong_limits_are_refused(start_penstockd):
    for option, said in (("frobs_max=1", "there is no such limit"), ("pause_s=86401", "from 1 to 86400"), ("registrants_max=57", "from 1 to 56"),
                         ("transfer_bytes_max=12288", "power of two"), ("auth_max", "a name and a number"),
                         ("auth_max=many", "whole number"), ("=5", "a name and a number")):
        daemon = start_penstockd("--limit", option)
        assert daemon.failed_with() == 2
        assert said in daemon.text(), option


def test_limits_are_documented(start_penstockd):
    """The man page lists the limits that the daemon knows, as the pages of docs/ do, each its own, and no others."""
    daemon = start_penstockd("--limit", "frobs_max=1")
    assert daemon.failed_with() == 2
    known = set(re.search(r"known are (.*)", daemon.text())[1].split())
    assert "auth_max" in known
    man = (ROOT / "man/penstockd.8").read_text(encoding="utf-8")
    assert set(re.findall(r"^\.It (\w+) Ta ", man, re.M)) == known
    listed = [name for page in ("target", "memory", "api")
              for name in re.findall(r"^\| `(\w+)` \|", (ROOT / f"docs/{page}.md").read_text(encoding="utf-8")
                                     .split("| limit | default")[1].split("\n\n")[0], re.M)]
    assert sorted(listed) == sorted(known)

# SPDX-License-Identifier: Apache-2.0
"""Pools that an older program wrote (fixtures/make-old-pool says which and how) open, hold what they held, and are
upgraded; the older program's data takes part in all that is new."""

import importlib.machinery
import importlib.util
import json
import lzma
import pathlib

import pytest

from test_volume_io import Host

FIXTURES = pathlib.Path(__file__).resolve().parent / "fixtures"
BLOCK = 4096


def maker():
    """fixtures/make-old-pool as a module: it knows what it wrote."""
    loader = importlib.machinery.SourceFileLoader("make_old_pool", str(FIXTURES / "make-old-pool"))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("make_old_pool", loader))
    loader.exec_module(module)
    return module


MAKER = maker()
EXPECTED = MAKER.expected()


def check_train(volume, changed=None):
    """Every block is what the older program wrote last, or as @changed says, or a hole."""
    versions = {**EXPECTED, **(changed or {})}
    host = Host().connect(volume)
    for lba in range(0, volume["size_bytes"] // BLOCK, 256):
        data = host.read(lba * BLOCK, 256 * BLOCK)
        for at in range(lba, lba + 256):
            want = MAKER.block(at, versions[at]) if versions.get(at) else bytes(BLOCK)
            assert data[(at - lba) * BLOCK:(at - lba + 1) * BLOCK] == want, f"block {at}"
    host.close()


@pytest.fixture(params=["clean", "killed"])
def old_pool(request, tmp_path):
    directory = tmp_path / "pool"
    directory.mkdir()
    file = directory / "pool.penstock"
    data = lzma.decompress((FIXTURES / f"format-1-{request.param}.xz").read_bytes())
    with open(file, "wb") as f:  # sparse again
        f.truncate(len(data))
        for at in range(0, len(data), 65536):
            if data[at:at + 65536].strip(b"\0"):
                f.seek(at)
                f.write(data[at:at + 65536])
    return directory


def test_old_pool_opens(start_penstockd, old_pool):
    """All that was there is there, by catalog and by block; what the upgrade was is in the log; it opens again."""
    daemon = start_penstockd("--pool", old_pool)
    assert daemon.ready, daemon.text()
    assert "pool_upgraded" in daemon.text()
    assert [v["name"] for v in daemon.cli_json("volume", "list")] == ["empty", "train"]
    assert "vision" in [t["name"] for t in daemon.cli_json("tenant", "list")]
    assert "mine" in [p["name"] for p in daemon.cli_json("profile", "list")]
    train = daemon.cli_json("volume", "show", "train")
    assert train["tenant"] == "vision" and train["profile"] == "mine"
    assert train["mapped_bytes"] == train["own_bytes"] == len(EXPECTED) * BLOCK
    check_train(train)
    daemon.end()
    again = start_penstockd("--pool", old_pool)
    assert again.ready and "pool_upgraded" not in again.text(), again.text()
    check_train(again.cli_json("volume", "show", "train"))
    again.end()


def test_check_reads_old_pools(start_penstockd, old_pool):
    """The offline check reads an old pool as it is, and the upgraded one."""
    daemon = start_penstockd("--ram", "16Mi")
    for _ in range(2):
        result = daemon.cli("pool", "check", old_pool, "--data", "--json")
        assert result.returncode == 0, result.stdout + result.stderr
        assert json.loads(result.stdout)["status"] == "clean"
        upgraded = start_penstockd("--pool", old_pool)
        assert upgraded.ready, upgraded.text()
        upgraded.end()

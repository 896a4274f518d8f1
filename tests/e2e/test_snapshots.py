# SPDX-License-Identifier: Apache-2.0
"""Snapshots, clones and rollback of a real daemon's volumes on a pool on disk, verified by real hosts."""

import os
import random
import threading
import time

import pytest

from test_volume_io import Host

BLOCK = 4096
BLOCKS = 1024
SIZE = BLOCKS * BLOCK


@pytest.fixture
def pool(start_penstockd, tmp_path):
    """start(): penstockd on one pool directory, again and again."""
    directory = tmp_path / "pool"

    def start():
        daemon = start_penstockd("--pool", directory, *(() if directory.exists() else ("--pool-size", "256Mi")))
        assert daemon.ready, daemon.text()
        return daemon

    start.directory = directory
    return start


def block(number):
    return number.to_bytes(8, "little") * (BLOCK // 8)


def number_at(data, index):
    """Which block() it is; -1: torn or foreign."""
    piece = data[index * BLOCK:(index + 1) * BLOCK]
    number = int.from_bytes(piece[:8], "little")
    return number if piece == block(number) else -1


class Model:
    """What a volume must hold: numbers by block, 0 for holes."""

    def __init__(self, daemon, volume, state=None):
        self.daemon, self.name = daemon, volume["name"]
        self.state = list(state or [0] * BLOCKS)
        self.host = Host().connect(volume)

    def write(self, lba, count, number):
        assert self.host.write(lba * BLOCK, block(number) * count) == 0
        self.state[lba:lba + count] = [number] * count

    def discard(self, lba, count):
        assert self.host.discard(lba * BLOCK, count * BLOCK) == 0
        self.state[lba:lba + count] = [0] * count

    def scatter(self, rng, first, count=60):
        for i in range(count):
            lba = rng.randrange(BLOCKS - 8)
            if rng.random() < 0.1:
                self.discard(lba, rng.randrange(1, 8))
            else:
                self.write(lba, rng.randrange(1, 8), first + i)

    def check(self):
        for lba in range(0, BLOCKS, 256):
            data = self.host.read(lba * BLOCK, 256 * BLOCK)
            for i in range(256):
                assert number_at(data, i) == self.state[lba + i], f"{self.name} block {lba + i}"

    def close(self):
        self.host.close()


def holds(daemon, name, state):
    """The volume holds exactly @state."""
    model = Model(daemon, daemon.cli_json("volume", "show", name), state)
    model.check()
    model.close()


def clone_and_check(daemon, snapshot, state, name="look"):
    daemon.cli_json("volume", "clone", snapshot, name)
    holds(daemon, name, state)
    result = daemon.cli("volume", "delete", name)
    assert result.returncode == 0, result.stderr


def test_snapshot_clone_diverge_rollback(pool):
    """A snapshot keeps its state while the volume and a clone go different ways; rollback returns to it, and forward."""
    daemon, rng = pool(), random.Random(1)
    v = Model(daemon, daemon.cli_json("volume", "create", "v", "--size", str(SIZE)))
    v.scatter(rng, 1)
    daemon.cli_json("snapshot", "create", "v@one")
    one = list(v.state)
    v.scatter(rng, 1000)
    daemon.cli_json("snapshot", "create", "v@two")
    two = list(v.state)
    clone = daemon.cli_json("volume", "clone", "v@one", "c")
    assert clone["source"] == "v@one" and clone["size_bytes"] == SIZE and clone["own_bytes"] == 0
    c = Model(daemon, clone, one)
    c.check()
    c.scatter(rng, 5000)
    v.scatter(rng, 9000)
    v.check()
    c.check()
    clone_and_check(daemon, "v@one", one)
    clone_and_check(daemon, "v@two", two)
    refused = daemon.cli("snapshot", "rollback", "v@one")
    assert refused.returncode == 5 and "1 host is connected" in refused.stderr
    v.close()
    daemon.cli_json("snapshot", "rollback", "v@one")
    holds(daemon, "v", one)
    daemon.cli_json("snapshot", "rollback", "v@two")
    holds(daemon, "v", two)
    c.check()
    c.close()
    daemon.end()
    daemon = pool()
    holds(daemon, "v", two)
    holds(daemon, "c", c.state)
    daemon.end()


def test_deleted_in_any_order(pool):
    """Versions are deleted in a random order; what stays holds what it held, and at the end all space is back."""
    daemon, rng = pool(), random.Random(2)
    empty = daemon.cli_json("pool", "show", "pool")["used_bytes"]
    v = Model(daemon, daemon.cli_json("volume", "create", "v", "--size", str(SIZE)))
    states = {}
    for i in range(5):
        v.scatter(rng, 1000 * i + 1)
        daemon.cli_json("snapshot", "create", f"v@s{i}")
        states[f"v@s{i}"] = list(v.state)
    for i in range(3):
        daemon.cli_json("volume", "clone", f"v@s{i}", f"c{i}")
        c = Model(daemon, daemon.cli_json("volume", "show", f"c{i}"), states[f"v@s{i}"])
        c.scatter(rng, 20000 + 1000 * i)
        c.close()
        states[f"c{i}"] = c.state
    v.scatter(rng, 9000)
    v.close()
    states["v"] = v.state
    names = [n for n in states if n != "v"]
    rng.shuffle(names)
    for name in names:
        result = daemon.cli("snapshot" if "@" in name else "volume", "delete", name, "--wait")
        assert result.returncode == 0, result.stderr
        del states[name]
        for left, state in states.items():
            if "@" in left:
                clone_and_check(daemon, left, state)
            else:
                holds(daemon, left, state)
    shown = daemon.cli_json("volume", "show", "v")
    assert shown["mapped_bytes"] == shown["own_bytes"] == sum(1 for n in v.state if n) * BLOCK
    assert daemon.cli("volume", "delete", "v", "--wait").returncode == 0
    deadline = time.monotonic() + 20
    while daemon.cli_json("pool", "show", "pool")["used_bytes"] > empty + 64 * BLOCK and time.monotonic() < deadline:
        time.sleep(0.1)
    assert daemon.cli_json("pool", "show", "pool")["used_bytes"] <= empty + 64 * BLOCK
    daemon.end()
    assert daemon.cli("pool", "check", pool.directory, "--data").returncode == 0


def test_with_snapshots(pool):
    """A volume with snapshots is kept, unless they are to go too; a clone of one goes on."""
    daemon = pool()
    v = Model(daemon, daemon.cli_json("volume", "create", "v", "--size", str(SIZE)))
    v.write(0, 64, 7)
    v.close()
    daemon.cli_json("snapshot", "create", "v@s")
    daemon.cli_json("volume", "clone", "v@s", "c")
    refused = daemon.cli("volume", "delete", "v")
    assert refused.returncode == 5 and "--with-snapshots" in refused.stderr
    assert daemon.cli("volume", "delete", "v", "--with-snapshots", "--wait").returncode == 0
    assert daemon.cli_json("snapshot", "list") == []
    holds(daemon, "c", v.state)
    daemon.end()


def ranges_of(answer):
    blocks = set()
    for r in answer["ranges"]:
        assert r["offset_bytes"] % BLOCK == 0 and r["length_bytes"] % BLOCK == 0
        blocks |= set(range(r["offset_bytes"] // BLOCK, (r["offset_bytes"] + r["length_bytes"]) // BLOCK))
    return blocks


def test_diff_is_the_real_difference(pool):
    """The ranges that differ are those that were written or discarded between, and nothing else."""
    daemon, rng = pool(), random.Random(3)
    v = Model(daemon, daemon.cli_json("volume", "create", "v", "--size", str(SIZE)))
    v.scatter(rng, 1)
    daemon.cli_json("snapshot", "create", "v@a")
    a = list(v.state)
    v.scatter(rng, 1000)
    daemon.cli_json("snapshot", "create", "v@b")
    assert ranges_of(daemon.cli_json("snapshot", "diff", "v@a")) == {i for i in range(BLOCKS) if a[i]}
    real = {i for i in range(BLOCKS) if a[i] != v.state[i]}
    assert ranges_of(daemon.cli_json("snapshot", "diff", "v@b", "--from", "a")) == real
    assert ranges_of(daemon.cli_json("snapshot", "diff", "v@a", "--from", "v@b")) == real
    assert ranges_of(daemon.cli_json("snapshot", "diff", "v@a", "--from", "a")) == set()
    v.close()
    daemon.end()


class Counter(threading.Thread):
    """Writes 1, 2, 3 ... to block n of one volume, then of the next one: each only when the one before is completed."""

    def __init__(self, hosts):
        super().__init__()
        self.hosts, self.done, self.stop = hosts, 0, False

    def run(self):
        while not self.stop:
            number = self.done + 1
            host = self.hosts[number % len(self.hosts)]
            assert host.write((number // len(self.hosts) % BLOCKS) * BLOCK, block(number)) == 0
            self.done = number


def highest_and_check(daemon, names, before):
    """The clones @names show one instant of a Counter: all up to some number n, and nothing above it."""
    content = {}
    for i, name in enumerate(names):
        host = Host().connect(daemon.cli_json("volume", "show", name))
        for lba in range(0, BLOCKS, 256):
            data = host.read(lba * BLOCK, 256 * BLOCK)
            for k in range(256):
                content[i, lba + k] = number_at(data, k)
        host.close()
    top = max(content.values())
    assert top >= before and min(content.values()) >= 0
    for number in range(max(1, top - BLOCKS + 1), top + 1):
        where = number % len(names), number // len(names) % BLOCKS
        assert content[where] == number, f"{number} is missing, though {top} is there"
    return top


@pytest.mark.parametrize("volumes", [1, 2])
def test_one_instant_under_load(pool, volumes):
    """While one write follows another over all volumes, a snapshot has all up to one of them and none after it."""
    daemon = pool()
    names = [f"v{i}" for i in range(volumes)]
    hosts = [Host().connect(daemon.cli_json("volume", "create", n, "--size", str(SIZE))) for n in names]
    counter = Counter(hosts)
    counter.start()
    tops = []
    for i in range(8):
        time.sleep(0.15)
        before = counter.done
        taken = daemon.cli_json("snapshot", "create", *[f"{n}@s{i}" for n in names])
        assert len(taken) == volumes
        after = counter.done
        clones = [f"look{i}-{n}" for n in names]
        for n, c in zip(names, clones):
            daemon.cli_json("volume", "clone", f"{n}@s{i}", c)
        top = highest_and_check(daemon, clones, before)
        assert top <= after + 1
        tops.append(top)
    counter.stop = True
    counter.join()
    assert tops == sorted(tops) and tops[-1] > tops[0]
    for h in hosts:
        h.close()
    daemon.end()
    assert daemon.cli("pool", "check", pool.directory, "--data").returncode == 0


def test_killed_in_between(pool):
    """SIGKILL between and during changes of versions: groups wholly or not at all, nothing half done, all data right."""
    rng = random.Random(int(os.environ.get("PENSTOCK_SEED", "4")))
    daemon = pool()
    v = Model(daemon, daemon.cli_json("volume", "create", "v", "--size", str(SIZE)))
    w = Model(daemon, daemon.cli_json("volume", "create", "w", "--size", str(SIZE)))
    states = {}
    for turn in range(12):
        v.scatter(rng, 1 + 1000 * turn, 20)
        w.write(rng.randrange(BLOCKS), 1, 1 + turn)
        group = [f"v@g{turn}", f"w@g{turn}"]
        now = {group[0]: list(v.state), group[1]: list(w.state)}
        old = rng.choice(sorted(states)) if states and turn % 3 == 2 else None
        v.close()
        w.close()

        def change():
            daemon.cli("snapshot", "create", *group)
            if old:
                daemon.cli("snapshot", "delete", old)

        worker = threading.Thread(target=change)
        worker.start()
        time.sleep(rng.random() * 0.04)
        daemon.kill()
        worker.join()
        daemon = pool()
        listed = {s["name"]: s for s in daemon.cli_json("snapshot", "list")}
        assert all(s["state"] == "ready" for s in listed.values())
        assert (group[0] in listed) == (group[1] in listed), "half a group"
        if group[0] in listed:
            states.update(now)
        if old and old not in listed:
            del states[old]
        assert set(listed) == set(states)
        for name in rng.sample(sorted(states), min(2, len(states))):
            clone_and_check(daemon, name, states[name])
        v = Model(daemon, daemon.cli_json("volume", "show", "v"), v.state)
        w = Model(daemon, daemon.cli_json("volume", "show", "w"), w.state)
        v.check()
        w.check()
    v.close()
    w.close()
    daemon.end()
    checked = daemon.cli("pool", "check", pool.directory, "--data")
    assert checked.returncode == 0, checked.stdout + checked.stderr

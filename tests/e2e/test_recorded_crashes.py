# SPDX-License-Identifier: Apache-2.0
"""Crashes that might have been: everything that a real penstockd did to its real file is on record, and played back up to
some moment with any part of what was not flushed, torn at 512 bytes or whole. Each result is checked, opened and read by
a second program.

PENSTOCK_CRASHES says how many (12); PENSTOCK_CRASH_SEED where to begin (0).
"""

import json
import os
import random
import shutil
import struct
import subprocess
import time

import pytest

from conftest import BUILD

CRASHES = int(os.environ.get("PENSTOCK_CRASHES", "12"))
SEED = int(os.environ.get("PENSTOCK_CRASH_SEED", "0"))
BLOCK, SECTOR = 4096, 512
SPAN = 12 << 20
EVENT = struct.Struct("<QIIQQQ")  # struct event of record-file.c
WRITE, FLUSH, DISCARD, WRITE_ZEROES, END = 1, 2, 3, 4, 16


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ TABLE[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF


def table():
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
        yield value


TABLE = list(table())


class Op:
    """One write, discard or flush: between which events of the record it was under way."""

    def __init__(self, kind, begin, offset, length, data):
        self.kind, self.begin, self.end, self.offset, self.length, self.data = kind, begin, None, offset, length, data


class Record:
    """The events, in order, and their times."""

    def __init__(self, path):
        self.ops, self.times, by_id = [], [], {}
        with open(path, "rb") as f:
            while len(head := f.read(EVENT.size)) == EVENT.size:
                t, what, err, ident, offset, length = EVENT.unpack(head)
                if what == END:
                    assert err == 0, "a request of the recorded daemon failed"
                    by_id.pop(ident).end = len(self.times)
                elif what in (WRITE, FLUSH, DISCARD, WRITE_ZEROES):
                    data = f.read(length) if what == WRITE else None
                    by_id[ident] = Op(what, len(self.times), offset, length, data)
                    self.ops.append(by_id[ident])
                self.times.append(t)
        assert len(self.ops) > 100, "next to nothing was recorded"

    def flushed(self, at):
        """Everything that had ended before this event is on the disk at event @at."""
        return max((op.begin for op in self.ops if op.kind == FLUSH and op.end is not None and op.end < at), default=0)


def play(record, at, power, rng, path):
    """The file as it may be after a crash at event @at."""
    flushed = record.flushed(at)
    keep = rng.choice([0.0, 0.3, 0.7, 0.95, 1.0])
    tear = rng.choice([0.0, 0.0, 0.2])
    with open(path, "r+b") as f:
        for op in record.ops:
            if op.begin >= at:
                break
            if op.kind == FLUSH:
                continue
            done = op.end is not None and op.end < (flushed if power else at)
            if not done and rng.random() >= keep:
                continue
            data = op.data if op.data is not None else bytes(op.length)
            if op.kind == DISCARD and not done:
                continue
            unit = SECTOR if power else BLOCK
            if done or rng.random() >= tear:
                f.seek(op.offset)
                f.write(data)
                continue
            for part in range(0, op.length, unit):
                if rng.random() < 0.5:
                    f.seek(op.offset + part)
                    f.write(data[part:part + unit])


def reboot(path):
    """The machine has another boot id than when the pool was open."""
    with open(path, "r+b") as f:
        size = f.seek(0, os.SEEK_END)
        for offset in (0, size - BLOCK):
            f.seek(offset)
            block = bytearray(f.read(BLOCK))
            if block[:8] != b"PENSTOCK" or block[89] == 0 or not intact(block):
                continue
            block[89:89 + 36] = b"00000000-0000-4000-8000-000000000000"
            block[8:12] = bytes(4)
            block[8:12] = struct.pack("<I", crc32c(block))
            f.seek(offset)
            f.write(block)


def intact(block):
    return struct.unpack("<I", block[8:12])[0] == crc32c(block[:8] + bytes(4) + block[12:])


class Log:
    """What the load has asked for and been told: for each block, its writes in order (begin, end, version)."""

    def __init__(self, path):
        self.writes, self.flushes = {}, []
        ranges, flushes, ends = {}, {}, {}
        for line in path.read_text().splitlines():
            kind, t, ident, *rest = line.split()
            if kind == "e":
                ends[ident] = int(t)
            elif kind == "f":
                flushes[ident] = int(t)
            else:
                ranges[ident] = (int(t), "0" if kind == "z" else ident, int(rest[0]), int(rest[1]))
        self.flushes = [(begin, ends[ident]) for ident, begin in flushes.items() if ident in ends]
        for ident, (begin, version, lba, count) in ranges.items():
            for block in range(lba, lba + count):
                self.writes.setdefault(block, []).append((begin, ends.get(ident), version))

    def allowed(self, lba, t, power):
        """What the block may hold after a crash at time @t."""
        sure = max((begin for begin, end in self.flushes if end < t), default=0) if power else t
        may = ["0"]
        for begin, end, version in self.writes.get(lba, []):
            if begin > t:
                break
            if end is not None and end < sure:
                may = []
            may.append(version)
        return may


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """(base file, record, log of the load, volume's NQN): one daemon's work of about a second, with snapshots in it."""
    top = tmp_path_factory.mktemp("recorded")
    env = {**os.environ, "PENSTOCK_URL": f"unix:{top}/api.sock"}

    def daemon(program, more):
        ready, ready_write = os.pipe()
        process = subprocess.Popen([BUILD / program, "--pool", top / "pool", "--pool-size", "96Mi", "--listen",
                                    "127.0.0.1:0", "--api", f"unix:{top}/api.sock", "--ready-fd", str(ready_write)],
                                   pass_fds=[ready_write], stderr=open(top / "log", "ab"), env={**env, **more})
        os.close(ready_write)
        with os.fdopen(ready) as f:
            line = f.readline()
        assert line, (top / "log").read_text()
        return process, int(json.loads(line)["listen"][0].rsplit(":", 1)[1])

    def cli(*arguments):
        return subprocess.run([BUILD / "bin/penstock", *arguments], env=env, text=True, capture_output=True, timeout=60)

    process, _ = daemon("bin/penstockd", {})
    nqn = json.loads(cli("volume", "create", "v", "--size", str(SPAN), "--json").stdout)["nqn"]
    process.terminate()
    assert process.wait(30) == 0
    shutil.copy(top / "pool/pool.penstock", top / "base")

    process, port = daemon("tests/e2e/penstockd-recorded", {"PENSTOCK_RECORD": str(top / "record")})
    writer = subprocess.Popen([BUILD / "tests/e2e/crash-writer", "--nqn", nqn, "--port", str(port), "--span", str(SPAN),
                               "--seconds", "1.2", "--log", top / "writes"])
    for i in range(4):
        time.sleep(0.2)
        made = cli("snapshot", "create", f"v@s{i}")
        assert made.returncode == 0, made.stderr
        if i == 2:
            assert cli("snapshot", "delete", "v@s0").returncode == 0
    assert writer.wait(60) == 0
    process.terminate()
    assert process.wait(60) == 0, (top / "log").read_text()
    return top / "base", Record(top / "record"), Log(top / "writes"), nqn


def judge(dump, log, t, power):
    wrong = []
    for lba, version in enumerate(dump):
        allowed = log.allowed(lba, t, power)
        if version not in allowed:
            wrong.append(f"block {lba} is {version}, may be {allowed[-4:]}")
    return wrong


@pytest.mark.parametrize("number", range(SEED, SEED + CRASHES))
def test_what_was_flushed_survives(number, recorded, start_penstockd, tmp_path):
    """A crash at any moment: the check finds nothing, the pool opens, every block is what it may be."""
    base, record, log, nqn = recorded
    rng = random.Random(number)
    power = rng.random() < 0.7
    at = rng.randrange(1, len(record.times))
    (tmp_path / "pool").mkdir()
    image = tmp_path / "pool/pool.penstock"
    subprocess.run(["cp", "--sparse=always", base, image], check=True)
    play(record, at, power, rng, image)
    if power:
        reboot(image)

    checked = subprocess.run([BUILD / "bin/penstock", "pool", "check", "--data", image], text=True, capture_output=True,
                             timeout=120)
    assert checked.returncode == 0, f"crash {number} at event {at}, power={power}:\n{checked.stdout}{checked.stderr}"

    daemon = start_penstockd("--pool", tmp_path / "pool")
    assert daemon.ready, f"crash {number} at event {at}: {daemon.text()}"
    port = daemon.ready["listen"][0].rsplit(":", 1)[1]
    dump = subprocess.run([BUILD / "tests/e2e/crash-writer", "--nqn", nqn, "--port", port, "--span", str(SPAN), "--dump"],
                          text=True, capture_output=True, timeout=120, check=True).stdout.split()
    wrong = judge(dump, log, record.times[at], power)
    assert not wrong, f"crash {number} at event {at}, power={power}: " + "; ".join(wrong[:5])
    daemon.end()
    checked = subprocess.run([BUILD / "bin/penstock", "pool", "check", "--data", image], text=True, capture_output=True,
                             timeout=120)
    assert checked.returncode == 0, f"crash {number}, closed again:\n{checked.stdout}{checked.stderr}"
    image.unlink()


def test_the_judge_sees_a_lost_write(recorded):
    """The test can fail: without what was flushed, blocks are judged wrong."""
    _, record, log, _ = recorded
    dump = ["0"] * (SPAN // BLOCK)
    assert judge(dump, log, record.times[-1], True)
    assert judge(["bad"] * 3, log, record.times[-1], True)

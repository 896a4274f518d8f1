# SPDX-License-Identifier: Apache-2.0
"""A penstockd of a command's own (src/control/own-daemon.c): it ends with the command, however that ends. Of the runner's: test_run.py."""
import contextlib
import os
import pathlib
import signal
import subprocess
import time

import pytest

from conftest import BUILD

PENSTOCK = BUILD / "bin/penstock"


def processes(*words):
    """Those whose command line has all of @words."""
    found = []
    for entry in pathlib.Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdigit() and all(w in (entry / "cmdline").read_bytes().split(b"\0") for w in words):
                found.append(int(entry.name))
    return found


def await_true(what, seconds=30):
    until = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < until
        time.sleep(0.05)


@pytest.fixture
def bench(tmp_path):
    """start(): `penstock bench neighbour` on a pool of its own; daemon(): the penstockd on it. Nothing outlives the test."""

    class Bench:
        pool = tmp_path / "pool"
        process = None

        def start(self):
            self.pool.mkdir()
            self.process = subprocess.Popen([PENSTOCK, "bench", "neighbour", "--pool", self.pool, "--seconds", "60",
                                             "--records", "200"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
            for line in self.process.stderr:
                if "penstockd of our own" in line:
                    return
            pytest.fail("no daemon came up")

        def daemon(self):
            return processes(b"--pool", os.fsencode(self.pool), b"--ready-fd")

    b = Bench()
    yield b
    if b.process is not None and b.process.poll() is None:
        b.process.kill()
        b.process.wait()
    for pid in b.daemon():
        os.kill(pid, signal.SIGKILL)


def test_killed_command_takes_its_daemon_with_it(bench):
    """SIGKILL of the command: the daemon closes its pool in order."""
    bench.start()
    assert len(bench.daemon()) == 1
    bench.process.kill()
    bench.process.wait()
    await_true(lambda: not bench.daemon())
    check = subprocess.run([PENSTOCK, "pool", "check", bench.pool], capture_output=True, text=True, check=False)
    assert check.returncode == 0, check.stdout + check.stderr


def test_interrupted_command_leaves_nothing(bench):
    """Ctrl-C: the exit code says so, the daemon and the directory of its socket are gone."""
    bench.start()
    (pid,) = bench.daemon()
    arguments = pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    directory = pathlib.Path(os.fsdecode(arguments[arguments.index(b"--api") + 1]).removeprefix("unix:")).parent
    assert directory.is_dir()
    bench.process.send_signal(signal.SIGINT)
    assert bench.process.wait(timeout=60) == 130
    assert not bench.daemon() and not directory.exists()


def test_daemon_that_does_not_come_up(bench):
    """Its own words say why, and nothing is left of it."""
    bench.pool.write_text("no pool")
    done = subprocess.run([PENSTOCK, "bench", "neighbour", "--pool", bench.pool, "--seconds", "1"], capture_output=True, text=True,
                          timeout=60, check=False)
    assert done.returncode == 3, done.stderr
    assert "penstockd did not start: " in done.stderr and str(bench.pool) in done.stderr
    assert not bench.daemon()

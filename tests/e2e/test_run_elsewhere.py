# SPDX-License-Identifier: Apache-2.0
"""penstock run where something is missing, taken or full: it works and says what it took, or one clear error and one
documented exit code."""

import contextlib
import os
import pathlib
import shutil
import socket
import subprocess
import sys

import pytest

import test_run
from test_run import TWO_STEPS, World, own_daemon, usable

HERE = pathlib.Path(__file__).resolve().parent
PATH = next(p for p in ("fuse-loop", "fuse2fs", "staged") if usable(p) is None)


class Place(World):
    """A world with real daemons, where commands get something in front of them."""

    def __init__(self, directory):
        super().__init__(True, directory)
        self.before = []
        self.bin = test_run.BUILD / "bin"

    def command(self, text, *options, path=PATH):
        command = super().command(text, *options, path=path)
        return [*self.before, self.bin / "penstock", *command[1:]]

    def works(self, io):
        out = self.run(TWO_STEPS, path=PATH)
        assert f"volumes by {PATH}: asked for" in out and f", {io}, listens on 127.0.0.1:" in out
        daemon = self.record()["daemon"]
        assert daemon["io"] == io and daemon["own"] is True
        assert self.log("make").splitlines()[-1] == self.log("use").splitlines()[-1]
        return out


@pytest.fixture
def place(tmp_path):
    p = Place(tmp_path)
    yield p
    p.end()


@contextlib.contextmanager
def port_taken():
    """Port 4420 is somebody's: ours, or whoever has it already."""
    with socket.socket() as s:
        try:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            s.bind(("127.0.0.1", 4420))
            s.listen()
        except OSError:
            pass
        yield


def uring_works():
    allowed = pathlib.Path("/proc/sys/kernel/io_uring_disabled")
    return not allowed.exists() or allowed.read_text().strip() == "0"


def test_port_taken(place):
    """Another port is taken, which is said and recorded."""
    with port_taken():
        out = place.run(TWO_STEPS, path=PATH)
    assert "port 4420 is taken: the daemon of this run listens on another" in out
    assert not place.record()["daemon"]["listen"].endswith(":4420")


def test_token_of_another_daemon(place, tmp_path):
    """A token that the environment names for another daemon is not shown to the run's own, which knows none."""
    token = tmp_path / "token"
    token.write_text("penstock_0011223344556677_" + "A" * 43)
    place.env["PENSTOCK_TOKEN_FILE"] = str(token)
    place.run(TWO_STEPS, path=PATH)
    assert place.record()["daemon"]["own"] is True


def test_default_port(place):
    """The port that NVMe/TCP hosts expect is taken if it is free, as in a network of its own."""
    place.before = ["unshare", "--user", "--map-root-user", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh"]
    if subprocess.run([*place.before, "true"], check=False).returncode != 0:
        pytest.skip("this user may not make a network namespace")
    out = place.run(TWO_STEPS, path="staged")
    assert "is taken" not in out
    assert place.record()["daemon"]["listen"] == "127.0.0.1:4420"


def test_posix_asked_for(place):
    """PENSTOCK_IO=posix is obeyed by daemon and hosts."""
    place.env["PENSTOCK_IO"] = "posix"
    place.works("posix")
    assert 'reason="PENSTOCK_IO=posix"' in place.log("penstockd")


def test_uring_refused(place):
    """Where io_uring is refused, as in containers, posix is taken, and the daemon's log says why."""
    place.before = [sys.executable, HERE / "refuse-io-uring.py"]
    place.works("posix")
    assert "io_chosen backend=posix" in place.log("penstockd")
    place.env["PENSTOCK_IO"] = "uring"
    out = place.run(TWO_STEPS, "--fresh", path=PATH, code=7)
    assert "the daemon of this run did not start: the I/O environment can't start" in out


@pytest.mark.skipif(not uring_works(), reason="this kernel has io_uring disabled")
def test_uring_taken(place):
    """Where it is allowed, io_uring is taken without being asked for."""
    place.env.pop("PENSTOCK_IO", None)
    place.works("io_uring")


def test_without_ipv6(place):
    """A machine (here: a network namespace) with lo and without IPv6."""
    setup = "echo 1 > /proc/sys/net/ipv6/conf/all/disable_ipv6 && ip link set lo up && ! ip -6 addr | grep -q inet6"
    place.before = ["unshare", "-n", "sh", "-c", f'{setup} || exit 99; exec "$@"', "sh"]
    if os.geteuid() != 0 or subprocess.run([*place.before, "true"], capture_output=True).returncode != 0:
        pytest.skip("a network namespace without IPv6 can't be made here (root, unshare, ip)")
    place.works("io_uring" if uring_works() and os.environ.get("PENSTOCK_IO") != "posix" else "posix")


def test_two_clones_side_by_side(tmp_path):
    """The same pipeline from two copies of the programs at once: own pools, own ports, own sockets."""
    places = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        p = Place(tmp_path / name)
        p.bin = p.directory / "bin"
        p.bin.mkdir()
        for program in ("penstock", "penstockd"):
            shutil.copy(test_run.BUILD / "bin" / program, p.bin)
        places.append(p)
    text = TWO_STEPS.replace("head -c 5000000", "sleep 1; head -c 5000000")
    running = [p.start(text, path=PATH) for p in places]
    outs = [r.communicate(timeout=120)[0] for r in running]
    assert [r.returncode for r in running] == [0, 0], outs
    listens = {p.record()["daemon"]["listen"] for p in places}
    assert len(listens) == 2
    for p in places:
        assert p.log("make").splitlines()[-1] == p.log("use").splitlines()[-1]
        p.end()


def test_missing_command(place):
    """Found before anything starts, with its place in the file; and inside of a step, by its log."""
    out = place.run(TWO_STEPS.replace('command: "sha256sum <', 'command: [/usr/bin/no-such, x] #"'), code=2)
    assert "p.yaml:" in out and "command '/usr/bin/no-such' is not there, or not executable" in out
    assert not (place.directory / "rec").exists()
    out = place.run('pipeline: m\nsteps:\n  - {name: s, command: "no-such-program"}\n', code=8)
    assert "s: FAILED: exit code 127" in out and "not found" in place.log("s")


def test_pool_open_elsewhere(place):
    """A second run on a pool that a first one has open: code 5, in the daemon's words; the first goes on."""
    first = place.start(TWO_STEPS.replace("sha256sum < $PENSTOCK_VOLUME_RAW/d/f\"\n    volumes: {raw: ro}",
                                          f"echo it runs; while [ ! -e {place.directory}/go ]; do sleep 0.1; done\"\n"
                                          "    volumes: {raw: ro}"), path=PATH)
    place.await_text("logs/use.log", "it runs", first)
    second = subprocess.run([place.bin / "penstock", "run", place.directory / "p.yaml", "--record",
                             place.directory / "rec2", "--pool", place.directory / "pool"], env=place.env,
                            capture_output=True, text=True, timeout=60)
    assert second.returncode == 5, second.stderr
    assert "did not start: the pool" in second.stderr and "is open in another process" in second.stderr
    (place.directory / "go").touch()
    out, _ = first.communicate(timeout=60)
    assert first.returncode == 0, out


def test_pool_that_is_none(place):
    """A pool that can't be opened: the daemon's words, code 3, and the file is as it was."""
    (place.directory / "pool").mkdir()
    (place.directory / "pool/pool.penstock").write_bytes(b"something else" * 1000)
    out = place.run(TWO_STEPS, code=3)
    assert "the daemon of this run did not start:" in out and "pool.penstock" in out
    assert (place.directory / "pool/pool.penstock").read_bytes() == b"something else" * 1000


FULL = """
pipeline: full
volumes:
  v: {size: 256Mi}
steps:
  - {name: big, command: "head -c 100000000 /dev/urandom > $PENSTOCK_VOLUME_V/big && sync $PENSTOCK_VOLUME_V/big", volumes: {v: rw}}
"""


@pytest.mark.parametrize("path", test_run.PATHS)
def test_full_pool(place, start_penstockd, path):
    """A pool smaller than what a step writes: the step fails, the error names the pool as the cause, code 6. With room
    again the next run succeeds."""
    if usable(path):
        pytest.skip(usable(path))
    daemon = start_penstockd("--pool", place.directory / "small", "--pool-size", "64Mi")
    assert daemon.ready, daemon.text()
    (place.directory / "p.yaml").write_text(FULL)

    def run():
        return subprocess.run([place.bin / "penstock", "run", place.directory / "p.yaml", "--api", daemon.api, "--record",
                               place.directory / "rec", "--path", path], env=place.env, capture_output=True, text=True,
                              timeout=100)

    done = run()
    assert done.returncode == 6, done.stderr
    assert "big: FAILED: " in done.stderr
    assert "the pool has no room left for volume 'full-v' (see: penstock pool list)" in done.stderr
    assert "no room left" in place.steps()["big"]["error"]
    assert daemon.cli("volume", "delete", "full-v").returncode == 0
    (place.directory / "p.yaml").write_text(FULL.replace("100000000", "1000000"))
    done = run()
    assert done.returncode == 0, done.stderr
    daemon.end()


def test_a_quota_ends_a_run_as_a_full_pool_does(place, start_penstockd):
    """The tenant's quota does not allow a volume: the run ends before any step, says whose quota, code 6."""
    daemon = start_penstockd("--pool", place.directory / "small", "--pool-size", "64Mi")
    assert daemon.ready, daemon.text()
    daemon.cli_json("tenant", "set", "default", "--quota", "1Mi")
    (place.directory / "p.yaml").write_text(FULL)
    done = subprocess.run([place.bin / "penstock", "run", place.directory / "p.yaml", "--api", daemon.api, "--record",
                           place.directory / "rec", "--path", "staged"], env=place.env, capture_output=True, text=True,
                          timeout=100)
    assert done.returncode == 6, done.stderr
    assert "tenant 'default' has 1048576 left of its quota of 1048576 bytes" in done.stderr
    assert "'full-v'" in done.stderr and "penstock tenant set default --quota" in done.stderr
    daemon.end()


@pytest.mark.skipif(usable("fuse2fs") is not None, reason=str(usable("fuse2fs")))
def test_step_that_hides_a_full_pool(place, start_penstockd):
    """A command that says nothing of what the pool refused has not succeeded: no later step may take its output for whole."""
    daemon = start_penstockd("--pool", place.directory / "small", "--pool-size", "64Mi")
    assert daemon.ready, daemon.text()
    hides = FULL.replace("command: \"", "command: \"(").replace("/big\"", "/big) || true\"")
    assert "|| true" in hides
    (place.directory / "p.yaml").write_text(hides)
    done = subprocess.run([place.bin / "penstock", "run", place.directory / "p.yaml", "--api", daemon.api, "--record",
                           place.directory / "rec", "--path", "fuse2fs"], env=place.env, capture_output=True, text=True,
                          timeout=100)
    assert done.returncode == 6, done.stderr
    error = place.steps()["big"]["error"]
    assert "the pool has no room left for volume 'full-v'" in error
    # Who notices first is fuse2fs's doing: nobody, or the look at what the step has left.
    assert error.startswith(("its command succeeded, but not all that it wrote was kept; ", "its output '/' on volume "))
    daemon.end()


@pytest.fixture
def small_disk(tmp_path):
    """small_disk(size): a directory that is a file system of that size."""
    if os.geteuid() != 0:
        pytest.skip("mounting a tmpfs needs root")
    where = tmp_path / "disk"

    def make(size):
        where.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", where], check=True)
        return where

    yield make
    subprocess.run(["umount", where], check=True)


def test_no_room_for_the_record(place, small_disk):
    """Refused before anything starts, with the directory's name, code 6."""
    disk = small_disk("1m")
    out = place.run(TWO_STEPS, "--record", disk / "rec", code=6)
    assert f"penstock: {disk}/rec: No space left on device; a run's record needs at least 4 MiB there" in out
    assert "--record DIR on another disk" in out and not (disk / "rec/.reserve").exists()
    assert not (place.directory / "pool").exists()


def test_disk_that_fills_up(place, small_disk):
    """A step's log fills the disk of the record: the step fails, and the record is written all the same."""
    disk = small_disk("12m")
    text = 'pipeline: log\nsteps:\n  - {name: loud, command: "head -c 50000000 /dev/zero"}\n'
    out = place.run(text, "--record", disk / "rec", code=8)
    assert "loud: FAILED: exit code 1" in out
    assert "No space left" not in (disk / "rec/logs/loud.log").read_text()[:200]
    record = (disk / "rec/run.json").read_text()
    assert '"status": "failed"' in record and not (disk / "rec/.reserve").exists()


def test_ctrl_c_and_a_daemon_that_hangs_for_ever(place):
    """SIGINT while the own daemon hangs and stays so: it is over within a minute, and nothing is left."""
    text = TWO_STEPS.replace("sha256sum < $PENSTOCK_VOLUME_RAW/d/f\"\n    volumes: {raw: rw}",
                             "echo it runs; sleep 1\"\n    volumes: {raw: rw}")
    p = place.start(text, path=PATH)
    place.await_text("logs/make.log", "it runs", p)
    pid = own_daemon(place)
    os.kill(pid, 19)
    try:
        p.send_signal(2)
        out, _ = p.communicate(timeout=60)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, 18)
    assert p.returncode == 130, out

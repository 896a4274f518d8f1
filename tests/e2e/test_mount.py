# SPDX-License-Identifier: Apache-2.0
"""penstock mount and umount: a volume as a directory, on every mounting path of this machine, and what is refused."""

import json
import os
import pathlib
import signal
import subprocess
import time
import uuid

import pytest

from test_run import usable
from test_volume_io import Host

PATHS = ["fuse-loop", "fuse2fs"]
RUNTIME = pathlib.Path("/run/penstock/mounts" if os.geteuid() == 0 else
                       f"{os.environ.get('XDG_RUNTIME_DIR', f'/tmp/penstock-{os.geteuid()}')}/penstock/mounts")


def best_path():
    for path in PATHS:
        if usable(path) is None:
            return path
    pytest.skip(f"nothing can be mounted here: {usable('fuse2fs')}")


class Machine:
    """A daemon, one volume with a name of its own, and a directory for it."""

    def __init__(self, daemon, directory):
        self.daemon, self.directory = daemon, directory
        self.dir = directory / "mnt"
        self.dir.mkdir()
        self.volume = f"m-{uuid.uuid4().hex[:12]}"
        self.shown = daemon.cli_json("volume", "create", self.volume, "--size", "512Mi")

    def mount(self, *options, code=0, volume=None, where=None):
        done = self.daemon.cli("mount", volume or self.volume, where or self.dir, *options)
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    def umount(self, *arguments, code=0):
        done = self.daemon.cli("umount", *(arguments or [self.dir]))
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    def mounted(self):
        return any(str(self.directory) in line or self.volume in line for line in open("/proc/self/mountinfo"))

    def left(self):
        left = [line for line in open("/proc/self/mountinfo") if str(self.directory) in line or self.volume in line]
        loops = subprocess.run(["losetup", "-a"], capture_output=True, text=True).stdout
        left += [line for line in loops.splitlines() if self.volume in line]
        left += [str(p) for p in RUNTIME.glob(f"{self.volume}*")] if RUNTIME.is_dir() else []
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                if self.volume in open(f"/proc/{pid}/cmdline").read() and \
                        open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()[0] != "Z":
                    left.append(f"process {pid}")
            except OSError:
                pass
        return left

    def assert_nothing_left(self):
        for _ in range(100):
            if not self.left():
                return
            time.sleep(0.1)
        pytest.fail("left behind: " + "\n".join(self.left()))


@pytest.fixture
def machine(start_penstockd, tmp_path):
    daemon = start_penstockd("--pool", tmp_path / "pool", "--pool-size", "2Gi")
    assert daemon.ready, daemon.text()
    m = Machine(daemon, tmp_path)
    yield m
    daemon.cli("umount", "--force", m.volume)
    m.assert_nothing_left()


@pytest.mark.parametrize("path", PATHS)
def test_files_are_there_after_a_remount(machine, path):
    """Formatted once, told which path was taken; files survive; read-only means it; nothing is left of a mount."""
    if usable(path):
        pytest.skip(usable(path))
    out = machine.mount("--path", path)
    assert f"is mounted on {machine.dir} by {path} (asked for), newly formatted" in out
    (machine.dir / "d").mkdir()
    data = os.urandom(3000000)
    (machine.dir / "d/f").write_bytes(data)
    machine.umount()
    machine.assert_nothing_left()
    said = json.loads(machine.mount("--path", path, "--ro", "--json"))
    assert (said["volume"], said["dir"], said["path"], said["formatted"]) == (machine.volume, str(machine.dir), path, False)
    assert (machine.dir / "d/f").read_bytes() == data
    with pytest.raises(OSError) as refused:
        (machine.dir / "d/g").write_text("x")
    assert refused.value.errno == 30  # EROFS
    machine.umount(machine.volume)  # by the volume's name
    machine.assert_nothing_left()


def test_path_and_reason_are_told(machine):
    """Without --path the best one is taken, and the answer says why not a better one."""
    out = machine.mount()
    assert f"by {best_path()} (not kernel: " in out or "by kernel (" in out
    machine.umount()


def test_xfs(machine):
    """--fs xfs makes xfs where root can, and fuse2fs refuses it, naming what can."""
    if usable("fuse-loop"):
        pytest.skip("xfs needs root: " + usable("fuse-loop"))
    assert "newly formatted" in machine.mount("--fs", "xfs", "--path", "fuse-loop")
    (machine.dir / "f").write_text("on xfs")
    assert subprocess.run(["stat", "-f", "-c", "%T", machine.dir], capture_output=True, text=True).stdout == "xfs\n"
    machine.umount()
    assert "ext4 only" in machine.mount("--path", "fuse2fs", code=7)
    machine.mount("--path", "fuse-loop")  # what is there counts, not --fs's default
    assert (machine.dir / "f").read_text() == "on xfs"
    machine.umount()
    assert "knows ext4 only" in machine.mount("--fs", "xfs", "--path", "fuse2fs", code=7)


def test_unknown_content_is_never_formatted(machine):
    """A volume with other data than ext4 or xfs is refused, and not a byte of it is touched."""
    best_path()
    data = os.urandom(8192)
    host = Host().connect(machine.shown)
    assert host.write(1 << 20, data) == 0  # nothing at the begin, where file systems have their magic
    host.close()
    for options in ((), ("--ro",)):
        out = machine.mount(*options, code=1)
        assert f"volume '{machine.volume}' holds data that is no ext4 or xfs; it is not formatted" in out
        assert "penstock volume delete" in out
    host = Host().connect(machine.shown)
    assert host.read(0, 1 << 20) == bytes(1 << 20) and host.read(1 << 20, 8192) == data
    host.close()
    assert not machine.mounted()


def test_second_mount_is_refused(machine):
    """A volume is mounted once, a directory serves one volume: code 5, and the first mount goes on."""
    machine.mount()
    (machine.dir / "f").write_text("one")
    other = machine.directory / "other"
    other.mkdir()
    assert "is mounted already" in machine.mount(where=other, code=5)
    machine.daemon.cli_json("volume", "create", "second", "--size", "64Mi")
    assert f"something is mounted on {machine.dir} already" in machine.mount(volume="second", code=5)
    assert (machine.dir / "f").read_text() == "one"
    # A volume in use isn't deleted under its user.
    assert machine.daemon.cli("volume", "delete", machine.volume).returncode == 5
    machine.umount()


@pytest.mark.parametrize("path", PATHS)
def test_umount_of_a_busy_directory_is_refused(machine, path):
    """Code 5 and a way out; the writer goes on and loses nothing. When it is done, the same command works."""
    if usable(path):
        pytest.skip(usable(path))
    machine.mount("--path", path)
    with open(machine.dir / "f", "w") as f:
        f.write("before ")
        out = machine.umount(code=5)
        assert f"{machine.dir} is in use; it stays mounted" in out and "--force" in out
        f.write("and after")
    machine.umount()
    machine.assert_nothing_left()
    machine.mount("--path", path)
    assert (machine.dir / "f").read_text() == "before and after"
    with open(machine.dir / "f"):
        machine.umount("--force", machine.dir)
    assert not machine.mounted()


def test_leftovers_of_a_killed_keeper_are_cleaned_up(machine):
    """SIGKILL to the keeper leaves a dead mount; umount takes it away and says what that means, mount works again."""
    path = best_path()
    for clean_by_umount in (True, False):
        pid = json.loads(machine.mount("--path", path, "--json"))["pid"]
        (machine.dir / "f").write_text("kept")
        os.sync()
        os.kill(pid, signal.SIGKILL)
        time.sleep(0.3)
        assert machine.mounted()
        if clean_by_umount:
            assert "its keeper had been killed" in machine.umount(code=1)
            machine.assert_nothing_left()
        else:
            subprocess.run(["umount", "-l", machine.dir], check=True)
    machine.mount("--path", path)
    assert (machine.dir / "f").read_text() == "kept"
    machine.umount()


def test_plain_umount_ends_the_keeper(machine):
    """umount(8), by somebody who doesn't know of us, leaves nothing either."""
    if os.geteuid() != 0:
        pytest.skip("umount(8) needs root")
    machine.mount("--path", best_path())
    subprocess.run(["umount", machine.dir], check=True)
    machine.assert_nothing_left()


def test_plain_umount_of_unwritten_data_loses_nothing(machine):
    """The directory is gone before umount(8) has written what was in memory; the keeper stays until that is done."""
    if usable("fuse-loop") is not None:
        pytest.skip(usable("fuse-loop"))
    machine.mount("--path", "fuse-loop")
    data = os.urandom(24 << 20)
    (machine.dir / "late").write_bytes(data)
    machine.daemon.cli_json("volume", "set", machine.volume, "--limit", "4MB/s")  # longer than the keeper waits elsewhere
    subprocess.run(["umount", machine.dir], check=True, timeout=60)
    machine.daemon.cli_json("volume", "set", machine.volume, "--limit", "none")
    machine.assert_nothing_left()
    machine.mount("--path", "fuse-loop")
    assert (machine.dir / "late").read_bytes() == data
    machine.umount()


def test_mistakes(machine):
    """One clear error and the documented code for each."""
    assert "nowhere" in machine.mount(where=machine.directory / "nowhere", code=2)
    assert "no-such" in machine.mount(volume="no-such", code=4)
    assert "unknown path 'magic'" in machine.mount("--path", "magic", code=2)
    assert "only `penstock run` stages files" in machine.mount("--path", "staged", code=7)
    assert "--fs: ext4 or xfs" in machine.mount("--fs", "fat", code=2)
    assert "is no volume mounted" in machine.umount("no-such", code=4)
    machine.daemon.end()
    assert "try:" in machine.mount(code=3)

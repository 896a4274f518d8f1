# SPDX-License-Identifier: Apache-2.0
"""penstock run: small shell pipelines over every mount path of this machine.

Two worlds: "fake" has local files in place of daemon and host library (quick, and it is there before they are), "real"
starts penstockd and crosses NVMe/TCP.
"""

import json
import os
import pathlib
import random
import signal
import subprocess
import tempfile
import time

import pytest

BUILD = pathlib.Path(os.environ.get("BUILD_DIR", pathlib.Path(__file__).resolve().parents[2] / "build")).resolve()
PATHS = ["fuse-loop", "fuse2fs", "staged"]


def daemon_missing():
    """Why the real world can't be had, or None."""
    program = BUILD / "bin/penstockd"
    if not program.exists():
        return "penstockd is not built"
    if "--pool" not in subprocess.run([program, "--help"], capture_output=True, text=True).stdout:
        return "this penstockd has no pools on disk (--pool)"
    return None


def usable(path):
    if path == "staged":
        return None
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        return "no /dev/fuse for this user"
    if path == "fuse-loop" and (os.geteuid() != 0 or not os.path.exists("/dev/loop-control")):
        return "loop devices and mount need root"
    if path == "fuse2fs" and not os.path.exists("/usr/bin/fuse2fs"):
        return "fuse2fs is not installed"
    return None


class World:
    def __init__(self, real, directory):
        self.real, self.directory = real, directory
        self.images = directory / "images"
        self.images.mkdir()
        self.env = dict(os.environ, PST_FAKE_DIR=str(self.images), PENSTOCK_STATE_DIR=str(directory / "state"))
        # Short, for sockets; watched, because nothing may stay in it.
        self.env["TMPDIR"] = self.tmp = tempfile.mkdtemp(prefix="pt-", dir="/tmp")
        self.env.pop("PENSTOCK_URL", None)
        self.env.pop("PENSTOCK_MOUNT", None)

    def command(self, text, *options, path="staged"):
        (self.directory / "p.yaml").write_text(text)
        program = [BUILD / "bin/penstock", "run"] if self.real else [BUILD / "tests/unit/run-fake"]
        daemon = ["--pool", self.directory / "pool"] if self.real else ["--api", "fake:"]
        return program + [self.directory / "p.yaml", "--record", self.directory / "rec", "--path", path, *daemon, *options]

    def start(self, text, *options, path="staged"):
        return subprocess.Popen(self.command(text, *options, path=path), env=self.env, stdin=subprocess.DEVNULL,
                                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True)

    def run(self, text, *options, path="staged", code=0):
        p = self.start(text, *options, path=path)
        out, _ = p.communicate(timeout=120)
        assert p.returncode == code, out
        return out

    def record(self):
        return json.loads((self.directory / "rec/run.json").read_text())

    def steps(self):
        return {s["name"]: s for s in self.record()["steps"]}

    def end(self):
        self.assert_nothing_left()
        os.rmdir(self.tmp)

    def await_text(self, path, text, process, seconds=60):
        """Waits until a file of the record holds @text. No test of a moment depends on how fast this machine is."""
        path, end = self.directory / "rec" / path, time.time() + seconds
        while time.time() < end:
            if path.exists() and text in path.read_text(errors="replace"):
                return
            if process.poll() is not None:
                pytest.fail(f"{path} never said {text!r}: {process.communicate()[0]}")
            time.sleep(0.02)
        process.kill()
        pytest.fail(f"{path} never said {text!r}: {process.communicate()[0]}")

    def log(self, step):
        return (self.directory / f"rec/logs/{step}.log").read_text()

    def assert_nothing_left(self):
        """No mount, loop device, process (ours by its command line or environment), or directory in TMPDIR."""
        here = str(self.directory)
        for _ in range(150):
            left = [m for m in open("/proc/self/mountinfo") if here in m]
            loops = subprocess.run(["losetup", "-a"], capture_output=True, text=True).stdout if os.geteuid() == 0 else ""
            left += [line for line in loops.splitlines() if here in line]
            left += [f"{self.tmp}/{name}" for name in os.listdir(self.tmp)]
            for pid in filter(str.isdigit, os.listdir("/proc")):
                if int(pid) == os.getpid():
                    continue
                try:
                    text = open(f"/proc/{pid}/cmdline").read() + open(f"/proc/{pid}/environ").read()
                    state = open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()[0]
                except OSError:
                    continue
                if here in text and state != "Z":
                    left.append(f"{pid}: {text[:200]}")
            if not left:
                return
            time.sleep(0.1)
        pytest.fail("left behind: " + "\n".join(left))


@pytest.fixture(params=["fake", "real"])
def world(request, tmp_path):
    real = request.param == "real"
    if real and daemon_missing():
        pytest.skip(daemon_missing())
    w = World(real, tmp_path)
    yield w
    w.end()


@pytest.fixture
def real_world(tmp_path):
    if daemon_missing():
        pytest.skip(daemon_missing())
    w = World(True, tmp_path)
    yield w
    w.end()


TWO_STEPS = """
pipeline: two
volumes:
  raw: {size: 64Mi, profile: dataset}
steps:
  - name: make
    command: "mkdir $PENSTOCK_VOLUME_RAW/d; head -c 5000000 /dev/urandom > $PENSTOCK_VOLUME_RAW/d/f; sha256sum < $PENSTOCK_VOLUME_RAW/d/f"
    volumes: {raw: rw}
  - name: use
    needs: [make]
    command: "sha256sum < $PENSTOCK_VOLUME_RAW/d/f"
    volumes: {raw: ro}
"""


@pytest.mark.parametrize("path", PATHS)
def test_data_goes_from_step_to_step(world, path):
    """What one step writes the next one reads, the record has the bytes of both, and counts agree."""
    if usable(path):
        pytest.skip(usable(path))
    world.run(TWO_STEPS, path=path)
    assert world.log("make").splitlines()[-1] == world.log("use").splitlines()[-1]
    record, steps = world.record(), world.steps()
    assert record["mount_path"] == path
    assert [s["status"] for s in record["steps"]] == ["succeeded", "succeeded"]
    assert steps["make"]["volumes"][0]["bytes_written"] >= 5000000
    assert steps["use"]["volumes"][0]["bytes_read"] >= 5000000
    assert len(steps["make"]["outputs"][0]["sha256"]) == 64
    if world.real:
        a = record["accounting"]["raw"]
        assert a["host_bytes"] >= 10000000
        assert abs(a["target_bytes"] / a["host_bytes"] - 1) < 0.02, a
        assert 1.0 < a["socket_bytes"] / a["host_bytes"] < 1.10, a
        assert steps["use"]["volumes"][0]["p50_us"] > 0


@pytest.mark.skipif(os.geteuid() != 0 or usable("fuse-loop") is not None, reason="xfs needs the fuse-loop path")
def test_xfs_on_request(world):
    """A volume that asks for xfs gets it, and staging such a volume is refused before anything starts."""
    text = TWO_STEPS.replace("{size: 64Mi, profile: dataset}", "{size: 512Mi, fs: xfs}").replace(
        "sha256sum < $PENSTOCK_VOLUME_RAW/d/f\"\n    volumes: {raw: ro}",
        "stat -f -c %T $PENSTOCK_VOLUME_RAW\"\n    volumes: {raw: ro}")
    world.run(text, path="fuse-loop")
    assert world.log("use").splitlines()[-1] == "xfs"
    assert "knows ext4 only" in world.run(text, path="staged", code=7)


CHECKPOINTS = """
pipeline: ck
volumes:
  ckpt: {size: 64Mi, profile: checkpoint}
steps:
  - name: train
    command: [/bin/sh, train.sh]
    volumes: {ckpt: rw}
"""

TRAIN = """
cd $PENSTOCK_VOLUME_CKPT
echo "attempt $PENSTOCK_ATTEMPT begins with:" *
exec 5>never-closed; echo part >&5
for i in 1 2 3 4 5 6; do
    [ -e c$i ] && continue
    echo $i > tmp; mv tmp c$i
    echo '{"event":"train_step","n":'$i'}' >> $PENSTOCK_EVENTS
    sleep 0.2
done
"""


@pytest.mark.parametrize("path", PATHS)
def test_killed_step_resumes_from_its_volume(world, path):
    """A step killed by SIGKILL finds its finished checkpoints again; on the staged path its local copy is gone."""
    if usable(path):
        pytest.skip(usable(path))
    (world.directory / "train.sh").write_text(TRAIN)
    world.run(CHECKPOINTS, "--kill", "train@3", path=path)
    attempts = world.steps()["train"]["attempts"]
    assert [a.get("signal") for a in attempts] == [9, None]
    begins = [line for line in world.log("train").splitlines() if "begins with" in line]
    assert "c1 c2 c3" in begins[1] and "c1" not in begins[0]
    steps = [e["n"] for e in world.record()["events"] if e["event"] == "train_step"]
    assert steps == [1, 2, 3, 4, 5, 6]


def test_interrupted_run_is_taken_up_by_the_next(world):
    """Ctrl-C in the middle of training; the next run goes on from the checkpoints, the one after starts anew."""
    (world.directory / "train.sh").write_text(TRAIN)
    p = world.start(CHECKPOINTS)
    world.await_text("events/train.jsonl", '"n":2', p)
    p.send_signal(signal.SIGINT)
    out, _ = p.communicate(timeout=60)
    assert p.returncode == 130, out
    done = [e["n"] for e in world.record()["events"] if e["event"] == "train_step"]
    assert done[0] == 1 and done[-1] < 6
    assert "takes up what an earlier run left" in world.run(CHECKPOINTS)
    assert "begins with: c1 c2" in world.log("train")
    rest = [e["n"] for e in world.record()["events"] if e["event"] == "train_step"]
    assert sorted(set(done + rest)) == [1, 2, 3, 4, 5, 6]
    assert "starts anew" in world.run(CHECKPOINTS, "--fresh")
    assert [e["n"] for e in world.record()["events"]] == [1, 2, 3, 4, 5, 6]


def test_persist_answers_when_durable(world):
    """The control socket's persist brings one file to the volume at once, although it is still open."""
    (world.directory / "train.py").write_text("""
import json, os, socket
d = os.environ["PENSTOCK_VOLUME_CKPT"]
def persist(path):
    s = socket.socket(socket.AF_UNIX); s.connect(os.environ["PENSTOCK_CONTROL"])
    s.sendall((json.dumps({"op": "persist", "path": path}) + "\\n").encode())
    return json.loads(s.makefile().readline())
if os.environ["PENSTOCK_ATTEMPT"] == "1":
    f = open(d + "/open", "w"); f.write("half"); f.flush()
    assert persist(d + "/open") == {"ok": True}
    assert not persist(d + "/none")["ok"] and not persist("/etc/passwd")["ok"]
    os.kill(os.getpid(), 9)
assert open(d + "/open").read() == "half"
""")
    world.run(CHECKPOINTS.replace("[/bin/sh, train.sh]", "[/usr/bin/python3, train.py]") + "    retries: 1\n")
    assert [a.get("signal") for a in world.steps()["train"]["attempts"]] == [9, None]


def test_failing_step_takes_its_dependents_with_it(world):
    """Retries are used up, what needs the step is skipped, what does not goes on, and the exit code says it."""
    text = """
pipeline: f
steps:
  - {name: bad, command: "echo why it failed; exit 3", retries: 1}
  - {name: after, command: "true", needs: [bad]}
  - {name: beside, command: "true"}
"""
    out = world.run(text, code=8)
    status = {n: s["status"] for n, s in world.steps().items()}
    assert status == {"bad": "failed", "after": "skipped", "beside": "succeeded"}
    assert [a["exit"] for a in world.steps()["bad"]["attempts"]] == [3, 3]
    assert "exit code 3" in out and "logs/bad.log" in out and "why it failed" in world.log("bad")


def test_timeout_ends_the_whole_group(world):
    """A step that ignores SIGTERM, and what it started in the background or in a new session, are gone in the end."""
    text = """
pipeline: t
steps:
  - name: slow
    command: "trap '' TERM; setsid sleep 300 & sleep 301 & while :; do sleep 1; done"
    timeout: 1s
"""
    begin = time.time()
    assert "timeout of 1 s" in world.run(text, code=8)
    assert time.time() - begin < 20


def test_unchanged_steps_are_cached(world):
    """A second run does nothing; a changed script runs again with all that depends on its output; --fresh runs all."""
    (world.directory / "make.sh").write_text("echo one > $PENSTOCK_VOLUME_RAW/f\n")
    text = """
pipeline: c
volumes:
  raw: {size: 64Mi}
  out: {size: 64Mi}
steps:
  - {name: make, command: [/bin/sh, make.sh], volumes: {raw: rw}}
  - {name: use, command: "cp $PENSTOCK_VOLUME_RAW/f $PENSTOCK_VOLUME_OUT/g", needs: [make], volumes: {raw: ro, out: rw}}
"""
    def status():
        return [s["status"] for s in world.record()["steps"]]

    world.run(text)
    assert status() == ["succeeded"] * 2
    world.run(text)
    assert status() == ["cached"] * 2
    (world.directory / "make.sh").write_text("# same output\necho one > $PENSTOCK_VOLUME_RAW/f\n")
    world.run(text)
    assert status() == ["succeeded", "cached"]
    (world.directory / "make.sh").write_text("echo two > $PENSTOCK_VOLUME_RAW/f\n")
    world.run(text)
    assert status() == ["succeeded"] * 2
    world.run(text, "--fresh")
    assert status() == ["succeeded"] * 2


def test_resources_are_applied(world):
    """CPUs by affinity, memory by a limit that the step feels."""
    text = """
pipeline: r
steps:
  - {name: cpus, command: "nproc", resources: {cpus: 1}}
  - {name: memory, command: [/usr/bin/python3, -c, "x = bytearray(300 << 20)"], resources: {memory: 64Mi}}
"""
    world.run(text, code=8)
    assert world.log("cpus").splitlines()[-1] == "1"
    assert "MemoryError" in world.log("memory")


def test_full_volume_fails_the_step(world):
    """A step that writes more than its volume holds fails, and says what is full."""
    text = """
pipeline: full
volumes:
  v: {size: 32Mi}
steps:
  - {name: big, command: "head -c 60000000 /dev/zero > $PENSTOCK_VOLUME_V/big", volumes: {v: rw}}
"""
    world.run(text, code=8)
    assert world.steps()["big"]["status"] == "failed"


def test_mistakes_are_found_before_anything_starts(world):
    """Exit code 2, file:line:column, and no volume made."""
    out = world.run(TWO_STEPS.replace("needs: [make]", "needs: [mace]"), code=2)
    assert "p.yaml:10:13: error: unknown step 'mace'; did you mean 'make'?" in out
    assert not (world.directory / "rec").exists() and not list(world.images.iterdir())


def test_dry_run_starts_nothing(world):
    """The plan, and no volume made."""
    out = world.run(TWO_STEPS, "--dry-run")
    assert out.index("1.\n   make") < out.index("2.\n   use")
    assert not (world.directory / "rec").exists() and not list(world.images.iterdir())


@pytest.mark.parametrize("path", PATHS)
def test_ctrl_c_at_any_moment_leaves_nothing(world, path):
    """SIGINT after a random time, once to the runner alone and once as a terminal does it, to its whole group."""
    if usable(path):
        pytest.skip(usable(path))
    text = TWO_STEPS.replace("sha256sum < $PENSTOCK_VOLUME_RAW/d/f\"\n    volumes: {raw: ro}",
                             "sleep 30\"\n    volumes: {raw: ro}")
    rng = random.Random(7)
    for i in range(6):
        p = world.start(text, path=path)
        time.sleep(rng.uniform(0, 1.5 if world.real else 0.6))
        if i % 2:
            os.killpg(p.pid, signal.SIGINT)
        else:
            p.send_signal(signal.SIGINT)
        out, _ = p.communicate(timeout=60)
        assert p.returncode in (130, -signal.SIGINT), out
        world.assert_nothing_left()


def test_killed_runner_leaves_nothing(world):
    """Even SIGKILL to the runner takes steps, volumes and daemon down."""
    path = "fuse-loop" if usable("fuse-loop") is None else "staged"
    p = world.start(TWO_STEPS.replace("sha256sum < $PENSTOCK_VOLUME_RAW/d/f\"\n    volumes: {raw: ro}",
                                      "echo it runs; sleep 30\"\n    volumes: {raw: ro}"), path=path)
    world.await_text("logs/use.log", "it runs", p)
    p.kill()
    p.communicate(timeout=30)


STALL = """
pipeline: stall
volumes:
  v: {size: 64Mi}
steps:
  - name: write
    command: [/bin/sh, write.sh]
    volumes: {v: rw}
  - name: check
    needs: [write]
    command: "cd $PENSTOCK_VOLUME_V; sha256sum --quiet -c sums; wc -l < sums"
    volumes: {v: ro}
"""

WRITE = """
sums=$PWD/sums
cd $PENSTOCK_VOLUME_V
for i in $(seq 30); do
    head -c 100000 /dev/urandom > f$i; sync f$i
    sha256sum f$i >> $sums
    echo wrote $i.
    echo '{"event":"metric","name":"wrote","value":'$i',"t":'$(date +%s.%N)'}' >> $PENSTOCK_EVENTS
    sleep 0.1
done
cp $sums sums
"""


def own_daemon(world):
    for _ in range(100):
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                program = open(f"/proc/{pid}/cmdline").read().split("\0")[0]
                environment = open(f"/proc/{pid}/environ").read()
            except OSError:
                continue
            if program.endswith("/penstockd") and str(world.directory) in environment:
                return int(pid)
        time.sleep(0.1)
    pytest.fail("no penstockd appeared")


def start_stalling(world, path):
    (world.directory / "write.sh").write_text(WRITE)
    return world.start(STALL, path=path)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("how", ["stop", "kill", "end"])
def test_daemon_away_stalls_and_resumes(real_world, path, how):
    """A daemon that hangs for 3 s, is killed (and started again by the runner), or is ended by somebody (and started
    again with the command that is told) costs time and nothing else."""
    if usable(path):
        pytest.skip(usable(path))
    p, again = start_stalling(real_world, path), None
    real_world.await_text("logs/write.log", "wrote 5.", p)
    pid = own_daemon(real_world)
    os.kill(pid, {"stop": signal.SIGSTOP, "kill": signal.SIGKILL, "end": signal.SIGTERM}[how])
    said = ""
    if how == "stop":
        time.sleep(3)
        os.kill(pid, signal.SIGCONT)
    elif how == "end":
        while "start it again:" not in said:
            line = p.stdout.readline()
            assert line, said
            said += line
        time.sleep(1)
        command = said.rsplit("start it again: ", 1)[1].split()
        again = subprocess.Popen([BUILD / "bin" / command[0], *command[1:]], env=real_world.env,
                                 stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    out, _ = p.communicate(timeout=90)
    if again:
        again.terminate()
        assert again.wait(timeout=30) == 0
    assert p.returncode == 0, said + out
    assert real_world.log("check").splitlines()[-1] == "30"
    if how == "kill":
        assert "the daemon is back" in out
    times = [e["t"] for e in real_world.record()["events"] if e["event"] == "metric"]
    longest = max(b - a for a, b in zip(times, times[1:]))
    assert len(times) == 30
    if path != "staged":  # there steps have local files; only copying out waits
        assert longest > {"stop": 2.5, "kill": 1.0, "end": 0.9}[how]


def test_ctrl_c_while_the_daemon_is_away(real_world):
    """Nothing hangs and nothing stays when the user gives up on a daemon that hangs."""
    path = "fuse-loop" if usable("fuse-loop") is None else "staged"
    p = start_stalling(real_world, path)
    real_world.await_text("logs/write.log", "wrote 5.", p)
    pid = own_daemon(real_world)
    os.kill(pid, signal.SIGSTOP)
    time.sleep(1)
    p.send_signal(signal.SIGINT)
    time.sleep(8)
    os.kill(pid, signal.SIGCONT)
    out, _ = p.communicate(timeout=60)
    assert p.returncode == 130, out

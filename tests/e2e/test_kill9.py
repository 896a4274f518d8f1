# SPDX-License-Identifier: Apache-2.0
"""penstockd is killed by SIGKILL again and again under a verified load: nothing that was completed may be lost."""

import json
import os
import pathlib
import signal
import subprocess
import time

import pytest

BUILD = pathlib.Path(os.environ.get("BUILD_DIR", pathlib.Path(__file__).resolve().parents[2] / "build")).resolve()
KILLS = int(os.environ.get("PENSTOCK_KILLS", "100"))


class Daemon:
    """penstockd on one pool and one port, to be killed and started again."""

    def __init__(self, directory):
        self.directory = directory
        self.api = f"unix:{directory}/api.sock"
        self.port = 0
        self.process = None

    def start(self):
        ready, ready_write = os.pipe()
        command = [BUILD / "bin/penstockd", "--pool", self.directory / "pool", "--listen", f"127.0.0.1:{self.port}",
                   "--api", self.api, "--ready-fd", str(ready_write)]
        if self.port == 0:
            command += ["--pool-size", "1Gi"]
        self.process = subprocess.Popen(command, pass_fds=[ready_write], stdin=subprocess.DEVNULL,
                                        stderr=open(self.directory / "penstockd.log", "ab"))
        os.close(ready_write)
        with os.fdopen(ready) as f:
            line = f.readline()
        assert line, "penstockd did not start: " + (self.directory / "penstockd.log").read_text()[-2000:]
        self.port = int(json.loads(line)["listen"][0].rsplit(":", 1)[1])

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self):
        if self.process and self.process.poll() is None:
            self.process.terminate()
            assert self.process.wait(timeout=30) == 0


@pytest.fixture
def daemon(tmp_path):
    d = Daemon(tmp_path)
    d.start()
    yield d
    if d.process.poll() is None:
        d.kill()


def test_completed_writes_survive_sigkill(daemon):
    """A hundred kills in about a minute: every completed write is there, no block is torn, restarts serve within 1 s."""
    out = subprocess.run([BUILD / "bin/penstock", "volume", "create", "v", "--size", "128Mi", "--json"], check=True,
                         stdout=subprocess.PIPE, env={**os.environ, "PENSTOCK_URL": daemon.api}).stdout
    nqn = json.loads(out)["nqn"]
    target = [BUILD / "tests/e2e/kill-writer", "--nqn", nqn, "--port", str(daemon.port)]
    began = time.monotonic()
    seconds = KILLS * 0.55
    writer = subprocess.Popen([*target, "--seconds", str(seconds), "--span", str(32 << 20)], stdout=subprocess.PIPE,
                              text=True)
    to_first_read = []
    kills = 0
    while writer.poll() is None:
        time.sleep(0.15 + 0.3 * ((kills * 7919) % 100) / 100)
        if kills == KILLS:
            continue
        daemon.kill()
        kills += 1
        exec_time = time.monotonic()
        daemon.start()
        if kills % 10 == 1:
            subprocess.run([*target, "--probe"], check=True, timeout=25)
            to_first_read.append(time.monotonic() - exec_time)
        assert time.monotonic() - began < seconds * 4 + 60, "the writer does not come to an end"
    result = json.loads(writer.stdout.read())
    print(f"{kills} kills, exec to first read {max(to_first_read):.3f} s at most, {result}")
    assert writer.returncode == 0 and result["wrong"] == 0
    assert kills == KILLS and result["reconnects"] >= KILLS / 2 and result["completed"] > 1000
    assert max(to_first_read) < 1
    daemon.stop()

# SPDX-License-Identifier: Apache-2.0
"""What the black-box tests share: programs of BUILD_DIR, and daemons that never outlive their test.

    def test_something(penstockd):          # one with a pool in memory
    def test_other(start_penstockd):        # as many as wanted, with options
"""

import http.client
import json
import os
import pathlib
import select
import signal
import socket
import subprocess

import pytest

BUILD = pathlib.Path(os.environ.get("BUILD_DIR", pathlib.Path(__file__).resolve().parents[2] / "build")).resolve()
START_SECONDS = 20
STOP_SECONDS = 30


def pytest_configure(config):
    """Beside other tests nobody gets the default port: a daemon that is to come back on it must find it free."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        config.default_port = socket.socket()
        config.default_port.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            config.default_port.bind(("127.0.0.1", 4420))
            config.default_port.listen()
        except OSError:
            pass  # another of them has it


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("penstock", timeout=30)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


class Penstockd:
    """A penstockd in a directory of its own."""

    def __init__(self, directory, *options, api=None):
        self.directory = directory
        self.socket = api or str(directory / "api.sock")
        self.api = f"unix:{self.socket}"
        self.log = directory / "penstockd.log"
        self.options = [str(o) for o in options]
        if not any(o.startswith(("--ram", "--pool")) for o in self.options):
            self.options += ["--ram", "256Mi"]
        if "--listen" not in self.options:
            self.options += ["--listen", "127.0.0.1:0"]
        self.process = None
        self.ready = None

    def start(self):
        """Waits for readiness. A daemon that ends instead leaves self.ready None."""
        ready, ready_write = os.pipe()
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                [BUILD / "bin/penstockd", *self.options, "--api", self.api, "--ready-fd", str(ready_write)],
                pass_fds=[ready_write], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        os.close(ready_write)
        with os.fdopen(ready) as f:
            assert select.select([f], [], [], START_SECONDS)[0], "penstockd neither serves nor ends"
            line = f.readline()
        self.ready = json.loads(line) if line else None
        return self

    def text(self):
        return self.log.read_text(errors="replace")

    def end(self, expected=0):
        self.process.terminate()
        assert self.process.wait(STOP_SECONDS) == expected, self.text()

    def kill(self):
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()

    def failed_with(self):
        """The exit code of a daemon that should not start."""
        assert self.ready is None, "it started"
        return self.process.wait(START_SECONDS)

    def call(self, method, path, body=None):
        """(status, parsed body or None)"""
        connection = UnixConnection(self.socket)
        try:
            text = body if isinstance(body, (str, bytes, type(None))) else json.dumps(body)
            connection.request(method, path, text, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            data = answer.read()
            is_json = answer.headers.get("Content-Type", "").startswith("application/json")
            return answer.status, json.loads(data) if data and is_json else data.decode() or None
        finally:
            connection.close()

    def cli(self, *arguments, timeout=60):
        return subprocess.run([BUILD / "bin/penstock", *[str(a) for a in arguments]], text=True, timeout=timeout,
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              env={**os.environ, "PENSTOCK_URL": self.api})

    def cli_json(self, *arguments):
        result = self.cli(*arguments, "--json")
        assert result.returncode == 0, result.stderr
        return json.loads(result.stdout)


@pytest.fixture
def start_penstockd(tmp_path):
    """start_penstockd(*options, wait=True): a Penstockd, started; killed at the end of the test if it still runs."""
    daemons = []

    def start(*options, directory=None, api=None):
        where = directory or tmp_path / f"daemon-{len(daemons)}"
        where.mkdir(parents=True, exist_ok=True)
        daemon = Penstockd(where, *options, api=api)
        daemons.append(daemon)
        return daemon.start()

    yield start
    for daemon in daemons:
        daemon.kill()


@pytest.fixture
def penstockd(start_penstockd):
    daemon = start_penstockd()
    assert daemon.ready, daemon.text()
    return daemon

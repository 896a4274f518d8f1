#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A real Linux kernel as NVMe/TCP host: boots user-mode Linux against penstockd, over a tap device in a network
namespace of its own, and has it discover, connect, make file systems, verify, discard, and live through a SIGKILL and
restart of penstockd in mid-write.

usage: linux-host.py BUILD_DIR      exit 77: skipped, with the reason
"""

import glob
import json
import os
import pathlib
import selectors
import shutil
import signal
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
OUTER, GUEST = "192.168.78.1", "192.168.78.2"
BOOT_LIMIT_S = 240


def skip(reason):
    print(f"SKIP: {reason}")
    sys.exit(77)


def find_kernel():
    named = os.environ.get("PENSTOCK_UML_KERNEL")
    if named:
        return named
    cache = os.environ.get("XDG_CACHE_HOME", os.path.expanduser("~/.cache"))
    found = sorted(glob.glob(f"{cache}/penstock/uml-linux-6.12*"))
    if not found:
        skip("no user-mode Linux kernel; `make check-long` builds one, or name one in PENSTOCK_UML_KERNEL")
    return found[-1]


def require(condition, what):
    print(f"{'PASS' if condition else 'FAIL'} {what}", flush=True)
    if not condition:
        raise SystemExit(1)


class Daemon:
    """penstockd in the namespace, on a pool directory that outlives it."""

    def __init__(self, build, netns, directory):
        self.build, self.netns, self.directory = build, netns, directory
        self.api = f"unix:{directory}/api.sock"
        self.process = None

    def start(self):
        ready_read, ready_write = os.pipe()
        self.process = subprocess.Popen(
            ["ip", "netns", "exec", self.netns, self.build / "bin/penstockd", "--pool", f"{self.directory}/pool",
             "--pool-size", "4Gi", "--listen", f"{OUTER}:4420", "--api", self.api, "--insecure",
             "--ready-fd", str(ready_write)],
            pass_fds=[ready_write], stderr=open(f"{self.directory}/penstockd.log", "ab"))
        os.close(ready_write)
        with os.fdopen(ready_read) as ready:
            line = ready.readline()
        require(bool(line), "penstockd is ready")
        return json.loads(line)

    def kill(self):
        # `ip netns exec` replaces itself with the command: this is penstockd.
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self):
        if self.process and self.process.poll() is None:
            self.process.terminate()
            require(self.process.wait(timeout=20) == 0, "penstockd stops cleanly")

    def cli(self, *words):
        out = subprocess.run([self.build / "bin/penstock", *words, "--json"], check=True, text=True,
                             stdout=subprocess.PIPE, env={**os.environ, "PENSTOCK_URL": self.api}).stdout
        return json.loads(out)


def boot(kernel, netns, directory, arguments):
    """The guest, in a PID namespace of its own: user-mode Linux leaves helpers behind when it is killed."""
    command = ["ip", "netns", "exec", netns, "unshare", "--fork", "--pid", "--mount-proc", "--kill-child",
               kernel, "mem=640M", f"uml_dir={directory}/uml", "umid=guest", "root=/dev/root", "rootfstype=hostfs", "ro",
               f"init={HERE}/guest-init", "con0=fd:0,fd:1", "con=null", "ssl=null", "quiet", "panic=-1",
               "random.trust_cpu=on", "vec0:transport=tap,ifname=tap0,depth=64,gro=1",
               f"penstock_job={HERE}/guest-job", f"penstock_ip={GUEST}/24", *arguments]
    # Its memory is a mapped file in TMPDIR.
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                            env={**os.environ, "TMPDIR": "/dev/shm"})


def follow(guest, on_mark):
    """Prints what the guest says, acts at its marks; its exit status, or None when it did not end in time."""
    deadline = time.monotonic() + BOOT_LIMIT_S
    waiter = selectors.DefaultSelector()
    waiter.register(guest.stdout, selectors.EVENT_READ)
    rest, status = b"", None
    while time.monotonic() < deadline:
        if not waiter.select(timeout=1):
            continue
        data = os.read(guest.stdout.fileno(), 65536)
        if not data:
            return status
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            text = line.decode(errors="replace").rstrip("\r")
            print(text, flush=True)
            if text.startswith("MARK "):
                on_mark(text[5:])
            if text.startswith("GUEST-EXIT "):
                status = int(text.split()[1])
    return None


def main():
    build = pathlib.Path(sys.argv[1]).resolve()
    if os.geteuid() != 0:
        skip("needs root for a network namespace and a tap device")
    if not os.path.exists("/dev/net/tun"):
        skip("/dev/net/tun is missing")
    for tool in ("ip", "nvme", "mkfs.xfs", "mkfs.ext4", "busybox"):
        if not shutil.which(tool, path="/usr/sbin:/usr/bin:/sbin:/bin"):
            skip(f"{tool} is not installed (make check installs it)")
    kernel = find_kernel()
    netns = f"penstock-{os.getpid()}"
    directory = tempfile.mkdtemp(prefix="penstock-linux-")
    guest = daemon = None
    try:
        for words in (f"netns add {netns}", f"-n {netns} link set lo up", f"-n {netns} tuntap add dev tap0 mode tap",
                      f"-n {netns} address add {OUTER}/24 dev tap0", f"-n {netns} link set tap0 up"):
            subprocess.run(["ip", *words.split()], check=True)
        daemon = Daemon(build, netns, directory)
        daemon.start()
        plain = daemon.cli("volume", "create", "plain", "--size", "1Gi")
        digest = daemon.cli("volume", "create", "digest", "--size", "1Gi")

        def on_mark(mark):
            if mark == "restart":
                daemon.kill()
                time.sleep(2)
                daemon.start()
            elif mark == "discarded":
                used = daemon.cli("volume", "show", "plain")["used_bytes"]
                require(used < 1 << 20, f"discarded space is free again ({used} bytes used)")

        guest = boot(kernel, netns, directory, [f"penstock_target={OUTER}", f"penstock_plain={plain['nqn']}",
                                                f"penstock_digest={digest['nqn']}"])
        status = follow(guest, on_mark)
        require(status == 0, f"the guest's job succeeded (status {status})")
        daemon.stop()
    finally:
        for process in (guest, daemon.process if daemon else None):
            if process and process.poll() is None:
                process.kill()
                process.wait()
        if daemon and os.path.exists(f"{directory}/penstockd.log"):
            print("--- penstockd's log, last lines")
            print("".join(open(f"{directory}/penstockd.log").readlines()[-15:]))
        subprocess.run(["ip", "netns", "del", netns], check=False)
        shutil.rmtree(directory, ignore_errors=True)


main()

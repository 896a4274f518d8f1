#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A real Linux kernel as NVMe/TCP host of Penstock, both on this machine.

The host is a kernel in a network namespace, joined by a tap device to the target in the same namespace (outside.py):
user-mode Linux (uml.py), or, where two CPUs are needed, Debian's own kernel in QEMU (stock.py). Two hosts are two kernels.
What they do is a script, guest-JOB, run in the guest; docs/linux-host.md says what is covered:

  commands  discovery, digests, every Identify and log page, commands, reservations of one host, XFS, ext4
  keys      DH-HMAC-CHAP with right, wrong and missing keys
  paths     two ports: access that changes, a port that falls silent; volumes that come, change and go
  kill      SIGKILL of the target in mid-write
  share     two kernels share a volume by reservations
  mount     `penstock mount` by the kernel's driver
  large     fio on XFS and ext4, a discard of 1 TiB
  queues    two CPUs, each with an I/O queue of its own

The kernel: $PENSTOCK_UML_KERNEL, or ~/.cache/penstock/uml-linux-6.12* (made by build-uml-kernel); for QEMU
~/.cache/penstock/stock-linux (made by get-stock-kernel). Without it, without root or without /dev/net/tun: exit 77, which
means skipped.
"""
import argparse, glob, os, shutil, signal, subprocess, sys, tempfile, threading, time, tty
import outside, stock, uml

HERE = os.path.dirname(os.path.abspath(__file__))
TOOLS = ["ip", "nvme", "mkfs.xfs", "mkfs.ext4", "busybox", "unshare", "xfs_repair"]
TOOLS_OF = {"large": ["fio", "bc"], "queues": ["fio", "ss"]}
GUESTS_OF = {"share": 2}
KERNEL_OF = {"queues": stock}  # the others: uml
SHARDS_OF = {"queues": 2}  # one for each queue


def skip(reason):
    print(f"SKIP: {reason}; `make check-long` gets what is missing and runs this test", flush=True)
    sys.exit(77)


def check_machine(job, kind):
    if os.geteuid() != 0:
        skip("needs root for a network namespace and a tap device")
    if not os.path.exists("/dev/net/tun"):
        skip("no /dev/net/tun for the guest's network")
    for tool in TOOLS + kind.TOOLS + TOOLS_OF.get(job, []):
        if shutil.which(tool, path="/usr/sbin:/usr/bin:/sbin:/bin") is None:
            skip(f"{tool} is not installed (packages.txt)")


def console_lines(terminal):
    rest = b""
    while True:
        try:
            data = os.read(terminal, 65536)
        except OSError:  # the other end is closed
            data = b""
        if not data:
            return
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            yield line.decode(errors="replace").strip()


def guest_command(kind, kernel, number, args, nqn, scratch):
    tap = f"tap{number}"
    words = [f"init={HERE}/guest-init", f"job={HERE}/guest-{args.job}", f"addr={outside.address(number)}/24",
             f"outside={scratch}/outside", f"guest={number}", f"target={outside.TARGET}", f"port={outside.PORT}",
             f"second={outside.SECOND_PORT}", f"relayed={outside.RELAYED_PORT}", f"api={outside.API_PORT}", f"nqn={nqn}"]
    # A PID namespace of its own: user-mode Linux leaves helpers behind when it is killed.
    return ["unshare", "--fork", "--pid", "--mount-proc", "--kill-child", "timeout", "-s", "KILL", str(args.seconds),
            *kind.command(kernel, number, tap, words, scratch)]


class Guest(threading.Thread):
    """A kernel that does its job, and whose orders are carried out; problem says what went wrong, nothing is good."""
    orders = threading.Lock()  # of all guests: one order at a time

    def __init__(self, number, netns, target, scratch, command, prepare):
        super().__init__()
        self.number, self.netns, self.target, self.scratch = number, netns, target, scratch
        self.command, self.prepare = command, prepare
        self.code, self.oks, self.problem = None, 0, ""

    def run(self):
        # The console is a terminal: into a pipe user-mode Linux loses some of what is written in bursts.
        ours, theirs = os.openpty()
        tty.setraw(theirs)
        # TMPDIR on tmpfs: the guest's memory is a mapped file there.
        guest = subprocess.Popen(["ip", "netns", "exec", self.netns, *self.command], stdin=theirs, stdout=theirs,
                                 stderr=theirs, env={**os.environ, "TMPDIR": "/dev/shm"},
                                 preexec_fn=self.prepare)
        os.close(theirs)
        try:
            for line in console_lines(ours):
                self.heard(line)
        finally:
            os.close(ours)
            if guest.poll() is None and self.code is None:
                guest.kill()
            guest.wait()
        if self.code is None:
            self.problem = f"guest {self.number} did not reach its end (crash, or more than the time allowed)"
        elif self.code:
            self.problem = f"{self.code} checks failed in guest {self.number}"

    def heard(self, line):
        print(f"{self.number}: {line}", flush=True)
        self.oks += line.startswith("ok ")
        if line.startswith("HOST "):
            _, order, *words = line.split()
            with self.orders:
                status, output = self.target.order(words)
            if status:
                print(f"{self.number}: order {order} failed: {output}", flush=True)
            answer = f"{self.scratch}/outside/{self.number}.{order}"
            with open(f"{answer}.new", "w", encoding="utf-8") as file:
                file.write(f"{status}\n{output}")
            os.rename(f"{answer}.new", answer)
        if line.startswith("GUEST-EXIT rc="):
            self.code = int(line.split("=")[1])


def run_guests(target, nqn, kind, kernel, args, netns, scratch):
    """What went wrong; nothing is good."""
    guests = [Guest(number, netns, target, scratch, guest_command(kind, kernel, number, args, nqn, scratch), kind.prepare())
              for number in range(1, GUESTS_OF.get(args.job, 1) + 1)]
    for guest in guests:
        guest.start()
    for guest in guests:
        guest.join()
    print(f"{sum(guest.oks for guest in guests)} checks passed", flush=True)
    return "; ".join(guest.problem for guest in guests if guest.problem)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("build", help="build directory")
    parser.add_argument("job", choices=sorted(os.path.basename(p)[6:] for p in glob.glob(f"{HERE}/guest-*")
                                              if not p.endswith(("init", "-lib"))))
    parser.add_argument("--ram", action="store_true", help="the target alone, on memory, instead of penstockd")
    parser.add_argument("--seconds", type=int, default=110, help="most time that a guest may take")
    args = parser.parse_args()
    kind = KERNEL_OF.get(args.job, uml)
    check_machine(args.job, kind)
    try:
        kernel, build = kind.find(), os.path.abspath(args.build)
    except LookupError as missing:
        skip(missing)
    netns, began, problem = f"penstock-{os.getpid()}", time.monotonic(), ""
    scratch = tempfile.mkdtemp(prefix="penstock-linux-")
    os.mkdir(f"{scratch}/outside")
    target = None
    try:
        outside.make_network(netns, GUESTS_OF.get(args.job, 1))
        target = (outside.RamTarget(build, netns, scratch) if args.ram else
                  outside.Daemon(build, netns, scratch, SHARDS_OF.get(args.job, 1)))
        nqn = target.start()
        problem = run_guests(target, nqn, kind, kernel, args, netns, scratch)
        ended = target.end(signal.SIGTERM)
        problem = problem or (ended and f"the target ended with {ended} on SIGTERM")
        if problem:
            with open(target.log, encoding="utf-8", errors="replace") as log:
                print("--- the target's log, last lines\n" + "".join(log.readlines()[-25:]))
    finally:
        if target:
            target.done()
        subprocess.run(["ip", "netns", "del", netns], check=False)
        shutil.rmtree(scratch, ignore_errors=True)
    print(f"{time.monotonic() - began:.1f} s with {kind.version(kernel)}", flush=True)
    if problem:
        raise SystemExit(f"FAIL {problem}")


main()

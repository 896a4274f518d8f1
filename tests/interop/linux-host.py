#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A real Linux kernel as NVMe/TCP host of Penstock, both on this machine.

The host is a user-mode Linux kernel in a network namespace, joined by a tap device to the target in the same namespace.
Two hosts are two kernels. What they do is a script, guest-JOB, run in the guest; docs/linux-host.md says what is covered:

  commands  discovery, digests, every Identify and log page, commands, reservations of one host, XFS, ext4
  keys      DH-HMAC-CHAP with right, wrong and missing keys
  paths     two ports: access that changes, a port that falls silent; volumes that come, change and go
  kill      SIGKILL of the target in mid-write
  share     two kernels share a volume by reservations
  mount     `penstock mount` by the kernel's driver
  large     fio on XFS and ext4, a discard of 1 TiB

The kernel: $PENSTOCK_UML_KERNEL, or ~/.cache/penstock/uml-linux-6.12* (made by build-uml-kernel). Without it, without
root or without /dev/net/tun: exit 77, which means skipped.
"""
import argparse, ctypes, glob, json, os, select, shutil, signal, subprocess, sys, tempfile, threading, time, tty

HERE = os.path.dirname(os.path.abspath(__file__))
TARGET, PORT, SECOND_PORT, API_PORT = "192.168.78.1", 4420, 4421, 4480
TOOLS = ["ip", "nvme", "mkfs.xfs", "mkfs.ext4", "busybox", "unshare", "xfs_repair"]
TOOLS_OF = {"large": ["fio", "bc"]}
GUESTS_OF = {"share": 2}


def skip(reason):
    print(f"SKIP: {reason}; `make check-long` builds the kernel and runs this test", flush=True)
    sys.exit(77)


def find_kernel():
    named = os.environ.get("PENSTOCK_UML_KERNEL")
    if named:
        if not os.access(named, os.X_OK):
            sys.exit(f"linux-host.py: PENSTOCK_UML_KERNEL={named}: no executable file there")
        return named
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    found = [k for k in sorted(glob.glob(f"{cache}/penstock/uml-linux-6.12*")) if os.access(k, os.X_OK)]
    if not found:
        skip(f"no user-mode Linux kernel in {cache}/penstock and PENSTOCK_UML_KERNEL is not set")
    return found[-1]


def check_machine(job):
    if os.geteuid() != 0:
        skip("needs root for a network namespace and a tap device")
    if not os.path.exists("/dev/net/tun"):
        skip("no /dev/net/tun for the guest's network")
    for tool in TOOLS + TOOLS_OF.get(job, []):
        if shutil.which(tool, path="/usr/sbin:/usr/bin:/sbin:/bin") is None:
            skip(f"{tool} is not installed (packages.txt)")


class RamTarget:
    """The target alone, on memory: its data dies with it, so it is not killed."""

    def __init__(self, build, netns, scratch):
        self.command = ["ip", "netns", "exec", netns, f"{build}/tests/interop/ram-target", f"{TARGET}:{PORT}", "700Mi", "2"]
        self.log = f"{scratch}/target.log"
        self.process = self.relay = None

    def start(self):
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(self.command, stdout=subprocess.PIPE, stderr=log, text=True)
        return json.loads(first_line(self.process.stdout))["nqn"]

    def order(self, words):
        """What a guest asks of the machine outside: exit status and output."""
        return 1, f"nobody knows how to {' '.join(words)}"

    def end(self, number):
        if self.process and self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(timeout=20) if self.process else 0

    def done(self):
        self.end(signal.SIGKILL)
        if self.relay:
            self.relay.kill()
            self.relay.wait()


class Daemon(RamTarget):
    """penstockd on a pool in a file, with one volume."""

    def __init__(self, build, netns, scratch):
        super().__init__(build, netns, scratch)
        self.build, self.netns, self.scratch = build, netns, scratch
        self.api = f"unix:{scratch}/api.sock"
        self.nqn = None
        with open(f"{scratch}/kek", "wb") as kek:
            kek.write(os.urandom(32))
        os.chmod(f"{scratch}/kek", 0o400)
        for program in (f"{build}/bin/penstock", f"{HERE}/relay"):  # /tmp, where they may be, is the guest's own
            shutil.copy(program, f"{scratch}/outside")
        self.relay = subprocess.Popen(["ip", "netns", "exec", netns, f"{HERE}/relay", f"{TARGET}:{API_PORT}", self.api])

    def cli(self, *words):
        done = subprocess.run([f"{self.build}/bin/penstock", *words], check=False, text=True, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, env={**os.environ, "PENSTOCK_URL": self.api})
        return done.returncode, done.stdout

    def start(self):
        ready, ready_out = os.pipe()
        command = ["ip", "netns", "exec", self.netns, f"{self.build}/bin/penstockd", "--pool", f"{self.scratch}/pool",
                   "--pool-size", "3Gi", "--listen", f"{TARGET}:{PORT}", "--listen", f"{TARGET}:{SECOND_PORT}",
                   "--api", self.api, "--insecure",
                   "--kek", f"{self.scratch}/kek", "--ready-fd", str(ready_out)]
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(command, pass_fds=[ready_out], stderr=log)
        os.close(ready_out)
        with os.fdopen(ready) as lines:
            json.loads(first_line(lines))
        if self.nqn is None:
            self.nqn = json.loads(self.cli("volume", "create", "guest", "--size", "700Mi", "--json")[1])["nqn"]
        return self.nqn

    def order(self, words):
        if words[0] == "kill-target":
            self.end(signal.SIGKILL)
            self.start()
            return 0, ""
        if words[0] in ("block-port", "open-port"):  # what the target sends from this port is dropped: silence
            done = subprocess.run(["ip", "-n", self.netns, "rule", "add" if words[0] == "block-port" else "del", "ipproto",
                                   "tcp", "sport", words[1], "blackhole"], check=False)
            return done.returncode, ""
        return self.cli(*words)


def first_line(stream, seconds=20):
    ready, _, _ = select.select([stream], [], [], seconds)
    line = stream.readline() if ready else ""
    if not line:
        raise SystemExit("FAIL the target did not get ready")
    return line


def hide_xstate():
    """On a CPU with AMX the host kernel takes back only extended register states that are larger than those it gave out
    (PTRACE_SETREGSET wants the size with AMX), so user-mode Linux dies at its first process. With a seccomp filter that
    answers ENODEV when it asks for them (PTRACE_GETREGSET, NT_X86_XSTATE) it uses the older register set."""
    class Filter(ctypes.Structure):
        _fields_ = [("code", ctypes.c_uint16), ("jt", ctypes.c_uint8), ("jf", ctypes.c_uint8), ("k", ctypes.c_uint32)]

    class Program(ctypes.Structure):
        _fields_ = [("len", ctypes.c_uint16), ("filter", ctypes.POINTER(Filter))]

    load, equal, ret = 0x20, 0x15, 0x06
    steps = [(load, 0, 0, 0), (equal, 0, 5, 101),         # ptrace
             (load, 0, 0, 16), (equal, 0, 3, 0x4204),     # PTRACE_GETREGSET
             (load, 0, 0, 32), (equal, 0, 1, 0x202),      # NT_X86_XSTATE
             (ret, 0, 0, 0x00050000 | 19), (ret, 0, 0, 0x7fff0000)]
    program = Program(len(steps), (Filter * len(steps))(*[Filter(*step) for step in steps]))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(22, 2, ctypes.byref(program), 0, 0) != 0:  # PR_SET_SECCOMP, SECCOMP_MODE_FILTER
        raise OSError(ctypes.get_errno(), "seccomp filter")


def has_amx():
    with open("/proc/cpuinfo") as cpuinfo:
        return "amx_tile" in cpuinfo.read()


def guest_command(kernel, number, job, nqn, seconds, scratch):
    # A PID namespace of its own: user-mode Linux leaves helpers behind when it is killed. Without AVX in libc, because
    # the older register set does not carry it.
    return ["unshare", "--fork", "--pid", "--mount-proc", "--kill-child", "timeout", "-s", "KILL", str(seconds), kernel,
            "mem=400M", f"uml_dir={scratch}/uml", f"umid=guest{number}", "root=/dev/root", "rootfstype=hostfs", "ro",
            f"init={HERE}/guest-init", "con0=fd:0,fd:1", "con=null", "ssl=null", "loglevel=1", "panic=-1",
            "random.trust_cpu=on", "GLIBC_TUNABLES=glibc.cpu.hwcaps=-AVX,-AVX2,-AVX512F,-AVX512VL,-AVX_Fast_Unaligned_Load",
            f"vec0:transport=tap,ifname=tap{number},depth=64,gro=1", f"job={HERE}/guest-{job}", f"addr={address(number)}/24",
            f"outside={scratch}/outside", f"guest={number}", f"target={TARGET}", f"port={PORT}", f"second={SECOND_PORT}",
            f"api={API_PORT}", f"nqn={nqn}"]


def address(number):
    return f"192.168.78.{1 + number}"


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


class Guest(threading.Thread):
    """A kernel that does its job, and whose orders are carried out; problem says what went wrong, nothing is good."""
    orders = threading.Lock()  # of all guests: one order at a time

    def __init__(self, number, netns, target, scratch, command):
        super().__init__()
        self.number, self.netns, self.target, self.scratch, self.command = number, netns, target, scratch, command
        self.code, self.oks, self.problem = None, 0, ""

    def run(self):
        # The console is a terminal: into a pipe user-mode Linux loses some of what is written in bursts.
        ours, theirs = os.openpty()
        tty.setraw(theirs)
        # TMPDIR on tmpfs: the guest's memory is a mapped file there.
        guest = subprocess.Popen(["ip", "netns", "exec", self.netns, *self.command], stdin=theirs, stdout=theirs,
                                 stderr=theirs, env={**os.environ, "TMPDIR": "/dev/shm"},
                                 preexec_fn=hide_xstate if has_amx() else None)
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


def make_network(netns, guests):
    commands = [f"netns add {netns}", f"-n {netns} link set lo up"]
    for number in range(1, guests + 1):
        commands += [f"-n {netns} tuntap add dev tap{number} mode tap", f"-n {netns} link set tap{number} up",
                     f"-n {netns} addr add {TARGET}/32 dev tap{number}",
                     f"-n {netns} route add {address(number)}/32 dev tap{number}"]
    for words in commands:
        subprocess.run(["ip", *words.split()], check=True)


def run_guests(target, nqn, kernel, args, netns, scratch):
    """What went wrong; nothing is good."""
    guests = [Guest(number, netns, target, scratch, guest_command(kernel, number, args.job, nqn, args.seconds, scratch))
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
                                              if not p.endswith(("-init", "-lib"))))
    parser.add_argument("--ram", action="store_true", help="the target alone, on memory, instead of penstockd")
    parser.add_argument("--seconds", type=int, default=110, help="most time that a guest may take")
    args = parser.parse_args()
    check_machine(args.job)
    kernel, build = find_kernel(), os.path.abspath(args.build)
    netns, began, problem = f"penstock-{os.getpid()}", time.monotonic(), ""
    scratch = tempfile.mkdtemp(prefix="penstock-linux-")
    os.mkdir(f"{scratch}/outside")
    target = None
    try:
        make_network(netns, GUESTS_OF.get(args.job, 1))
        target = (RamTarget if args.ram else Daemon)(build, netns, scratch)
        nqn = target.start()
        problem = run_guests(target, nqn, kernel, args, netns, scratch)
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
    print(f"{time.monotonic() - began:.1f} s with {os.path.basename(kernel)}", flush=True)
    if problem:
        raise SystemExit(f"FAIL {problem}")


main()

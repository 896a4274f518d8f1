#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A real Linux kernel as NVMe/TCP host of Penstock, both on this machine.

The host is a user-mode Linux kernel in a network namespace of its own, joined by a tap device to the target in the same
namespace. It discovers, connects with and without digests, reserves the volume, compares and verifies blocks, makes XFS
and ext4, verifies after remounts, trims, and (with penstockd) authenticates in both ways, goes on over the other of two
ports when one is closed or dies in mid-write, follows volumes by persistent discovery, and lives through two SIGKILLs
of the target in mid-write, with a reservation that persists: guest-job says what is checked.

The kernel: $PENSTOCK_UML_KERNEL, or ~/.cache/penstock/uml-linux-6.12* (made by build-uml-kernel). Without it, without
root or without /dev/net/tun: exit 77, which means skipped.
"""
import argparse, ctypes, glob, json, os, select, shutil, signal, subprocess, sys, tempfile, time, tty

HERE = os.path.dirname(os.path.abspath(__file__))
TARGET, GUEST, PORT, SECOND_PORT = "192.168.78.1", "192.168.78.2", 4420, 4421
PROVING = "nqn.2014-08.org.nvmexpress:uuid:5ec0de00-0000-4000-8000-000000000002"  # guest-job's


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


def check_machine():
    if os.geteuid() != 0:
        skip("needs root for a network namespace and a tap device")
    if not os.path.exists("/dev/net/tun"):
        skip("no /dev/net/tun for the guest's network")
    for tool in ("ip", "nvme", "mkfs.xfs", "mkfs.ext4", "busybox", "unshare", "xfs_repair"):
        if shutil.which(tool, path="/usr/sbin:/usr/bin:/sbin:/bin") is None:
            skip(f"{tool} is not installed (packages.txt)")


class RamTarget:
    """The target alone, on memory: its data dies with it, so it is not killed."""
    survives_kill = False
    keys = ""

    def __init__(self, build, netns, scratch):
        self.command = ["ip", "netns", "exec", netns, f"{build}/tests/interop/ram-target", f"{TARGET}:{PORT}", "700Mi", "2"]
        self.log = f"{scratch}/target.log"
        self.process = None

    def start(self):
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(self.command, stdout=subprocess.PIPE, stderr=log, text=True)
        return json.loads(first_line(self.process.stdout))["nqn"]

    def order(self, words):
        """What the guest asks of the machine outside, other than a kill."""
        raise SystemExit(f"FAIL nobody knows how to {' '.join(words)}")

    def end(self, number):
        if self.process and self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(timeout=20) if self.process else 0


class Daemon(RamTarget):
    """penstockd on a pool in a file, with one volume."""
    survives_kill = True

    def __init__(self, build, netns, scratch):
        super().__init__(build, netns, scratch)
        self.build, self.netns, self.scratch = build, netns, scratch
        self.api = f"unix:{scratch}/api.sock"
        self.nqn = None
        with open(f"{scratch}/kek", "wb") as kek:
            kek.write(os.urandom(32))

    def cli(self, *words):
        return json.loads(subprocess.run([f"{self.build}/bin/penstock", *words, "--json"], check=True, text=True,
                                         stdout=subprocess.PIPE, env={**os.environ, "PENSTOCK_URL": self.api}).stdout)

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
            self.nqn = self.cli("volume", "create", "guest", "--size", "700Mi")["nqn"]
            made = self.cli("host", "create", PROVING, "--generate-key", "--two-way")
            private = self.cli("volume", "create", "private", "--size", "64Mi", "--allow", PROVING)
            # Keys have '=' at their end at most; the guest takes words apart at the first one.
            self.keys = f"hostkey={made['key']} ctrlkey={made['ctrl_key']} private={private['nqn']}"
        return self.nqn

    def order(self, words):
        if words[0] in ("block-port", "open-port"):  # what the target sends from this port is dropped: silence
            subprocess.run(["ip", "-n", self.netns, "rule", "add" if words[0] == "block-port" else "del", "ipproto", "tcp",
                            "sport", words[1], "blackhole"], check=True)
        else:
            subprocess.run([f"{self.build}/bin/penstock", *words], check=True, stdout=subprocess.DEVNULL,
                           env={**os.environ, "PENSTOCK_URL": self.api})


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


def guest_command(kernel, nqn, seconds, scratch, kill, keys):
    # A PID namespace of its own: user-mode Linux leaves helpers behind when it is killed. Without AVX in libc, because
    # the older register set does not carry it.
    return ["unshare", "--fork", "--pid", "--mount-proc", "--kill-child", "timeout", "-s", "KILL", str(seconds), kernel,
            "mem=400M", f"uml_dir={scratch}/uml", "umid=guest", "root=/dev/root", "rootfstype=hostfs", "ro",
            f"init={HERE}/guest-init", "con0=fd:0,fd:1", "con=null", "ssl=null", "quiet", "panic=-1",
            "random.trust_cpu=on", "GLIBC_TUNABLES=glibc.cpu.hwcaps=-AVX,-AVX2,-AVX512F,-AVX512VL,-AVX_Fast_Unaligned_Load",
            "vec0:transport=tap,ifname=tap0,depth=64,gro=1", f"job={HERE}/guest-job", f"addr={GUEST}/24",
            f"target={TARGET}", f"port={PORT}", f"second={SECOND_PORT}", f"nqn={nqn}", f"kill={int(kill)}", *keys.split()]


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


def run_guest(netns, target, nqn, kernel, seconds, scratch):
    """Returns what went wrong; nothing is good."""
    code, oks, fails = None, 0, 0
    command = guest_command(kernel, nqn, seconds, scratch, target.survives_kill, target.keys)
    # TMPDIR on tmpfs: the guest's memory is a mapped file there.
    # The console is a terminal: into a pipe user-mode Linux loses some of what is written in bursts.
    ours, theirs = os.openpty()
    tty.setraw(theirs)
    guest = subprocess.Popen(["ip", "netns", "exec", netns] + command, stdin=theirs, stdout=theirs, stderr=theirs,
                             env={**os.environ, "TMPDIR": "/dev/shm"}, preexec_fn=hide_xstate if has_amx() else None)
    os.close(theirs)
    try:
        for line in console_lines(ours):
            print(line, flush=True)
            oks += line.startswith("ok ")
            fails += line.startswith("FAIL ")
            if line == "HOST kill-target":
                target.end(signal.SIGKILL)
                target.start()
            elif line.startswith("HOST "):
                target.order(line.split()[1:])
            if line.startswith("GUEST-EXIT rc="):
                code = int(line.split("=")[1])
    finally:
        os.close(ours)
        if guest.poll() is None and code is None:
            guest.kill()
        guest.wait()
    print(f"{oks} checks passed, {fails} failed", flush=True)
    if code is None:
        return "the guest did not reach its end (crash, or more than the time allowed)"
    return f"{code} checks failed in the guest" if code else ""


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("build", help="build directory")
    parser.add_argument("--ram", action="store_true", help="the target alone, on memory, instead of penstockd")
    parser.add_argument("--seconds", type=int, default=320, help="most time that the guest may take")
    args = parser.parse_args()
    check_machine()
    kernel, build = find_kernel(), os.path.abspath(args.build)
    netns, began, problem = f"penstock-{os.getpid()}", time.monotonic(), ""
    scratch = tempfile.mkdtemp(prefix="penstock-linux-")
    target = (RamTarget if args.ram else Daemon)(build, netns, scratch)
    try:
        for words in (f"netns add {netns}", f"-n {netns} link set lo up", f"-n {netns} tuntap add dev tap0 mode tap",
                      f"-n {netns} addr add {TARGET}/24 dev tap0", f"-n {netns} link set tap0 up"):
            subprocess.run(["ip", *words.split()], check=True)
        nqn = target.start()
        problem = run_guest(netns, target, nqn, kernel, args.seconds, scratch)
        ended = target.end(signal.SIGTERM)
        problem = problem or (ended and f"the target ended with {ended} on SIGTERM")
        if problem:
            with open(target.log, encoding="utf-8", errors="replace") as log:
                print("--- the target's log, last lines\n" + "".join(log.readlines()[-25:]))
    finally:
        target.end(signal.SIGKILL)
        subprocess.run(["ip", "netns", "del", netns], check=False)
        shutil.rmtree(scratch, ignore_errors=True)
    print(f"{time.monotonic() - began:.1f} s with {os.path.basename(kernel)}", flush=True)
    if problem:
        raise SystemExit(f"FAIL {problem}")


main()

# SPDX-License-Identifier: Apache-2.0
"""A user-mode Linux kernel as guest: one CPU, a program of this machine (build-uml-kernel)."""
import ctypes, glob, os

TOOLS = []


def find():
    """The path of the kernel; LookupError says what is missing."""
    named = os.environ.get("PENSTOCK_UML_KERNEL")
    if named:
        if not os.access(named, os.X_OK):
            raise SystemExit(f"linux-host.py: PENSTOCK_UML_KERNEL={named}: no executable file there")
        return named
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    found = [k for k in sorted(glob.glob(f"{cache}/penstock/uml-linux-6.12*")) if os.access(k, os.X_OK)]
    if not found:
        raise LookupError(f"no user-mode Linux kernel in {cache}/penstock and PENSTOCK_UML_KERNEL is not set")
    return found[-1]


def version(kernel):
    return os.path.basename(kernel)


def prepare():
    """A function for the child to call before it becomes the kernel, or None."""
    with open("/proc/cpuinfo") as cpuinfo:
        return hide_xstate if "amx_tile" in cpuinfo.read() else None


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


def command(kernel, number, tap, words, scratch):
    """The program that is the guest: its network device is on `tap`, and `words` are on its command line."""
    # Without AVX in libc, because the older register set does not carry it.
    return [kernel, "mem=400M", f"uml_dir={scratch}/uml", f"umid=guest{number}", "root=/dev/root", "rootfstype=hostfs", "ro",
            "con0=fd:0,fd:1", "con=null", "ssl=null", "loglevel=1", "panic=-1", "random.trust_cpu=on",
            "GLIBC_TUNABLES=glibc.cpu.hwcaps=-AVX,-AVX2,-AVX512F,-AVX512VL,-AVX_Fast_Unaligned_Load",
            f"vec0:transport=tap,ifname={tap},depth=64,gro=1", "nic=vec0", "sharing=hostfs", *words]

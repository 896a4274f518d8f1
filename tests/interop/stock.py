# SPDX-License-Identifier: Apache-2.0
"""Debian's own kernel as guest, with two CPUs, in QEMU (get-stock-kernel).

QEMU translates the guest's code (TCG), so /dev/kvm is not needed; that takes some fifteen times as long. The CPU has no
cmpxchg16b, for which QEMU may have to stop the other one each time.
"""
import os, shutil, subprocess

HERE = os.path.dirname(os.path.abspath(__file__))
CPUS, MEMORY_MIB, TRANSLATED_MIB = 2, 640, 256
TOOLS = ["qemu-system-x86_64"]


def find():
    """The directory that get-stock-kernel has made; LookupError says that it is missing."""
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    if not os.path.exists(f"{cache}/penstock/stock-linux"):
        raise LookupError(f"no kernel of Debian's in {cache}/penstock (tests/interop/get-stock-kernel)")
    return f"{cache}/penstock/stock-linux"


def version(kernel):
    with open(f"{kernel}/version", encoding="utf-8") as text:
        return text.read().strip()


def prepare():
    """A function for the child to call before it becomes QEMU, or None."""
    return None


def make_initramfs(kernel, number, scratch):
    """What the guest needs before it can have this machine's file system as its root: the path of an archive."""
    root = f"{scratch}/initramfs{number}"
    shutil.copytree(f"{kernel}/modules", f"{root}/modules")
    for directory in ("bin", "proc", "root"):
        os.mkdir(f"{root}/{directory}")
    shutil.copy(f"{kernel}/order", root)
    shutil.copy(shutil.which("busybox"), f"{root}/bin/busybox")
    shutil.copy(f"{HERE}/guest-stock-init", f"{root}/init")
    names = "".join(f"{os.path.relpath(os.path.join(at, name), root)}\n" for at, directories, files in os.walk(root)
                    for name in sorted(directories) + sorted(files))
    with open(f"{root}.cpio", "wb") as archive:
        subprocess.run(["busybox", "cpio", "-o", "-H", "newc"], cwd=root, input=names.encode(), stdout=archive,
                       stderr=subprocess.DEVNULL, check=True)
    return f"{root}.cpio"


def command(kernel, number, tap, words, scratch):
    """The program that is the guest: its network device is on `tap`, and `words` are on its command line."""
    # tsc=reliable, nowatchdog: a CPU that stands still because the machine is busy is not a fault of the guest's clock.
    line = ["console=ttyS0", "loglevel=1", "panic=-1", "random.trust_cpu=on", "tsc=reliable", "nowatchdog", "nic=eth0",
            "net.ifnames=0", "sharing=9p", *words]
    share = "security_model=none,multidevs=remap"
    return ["qemu-system-x86_64", "-accel", f"tcg,thread=multi,tb-size={TRANSLATED_MIB}", "-cpu", "max,-cx16",
            "-smp", str(CPUS), "-m", str(MEMORY_MIB),
            "-nodefaults", "-no-reboot", "-display", "none", "-serial", "stdio", "-monitor", "none",
            "-kernel", f"{kernel}/vmlinuz", "-initrd", make_initramfs(kernel, number, scratch), "-append", " ".join(line),
            "-virtfs", f"local,path=/,mount_tag=root,readonly=on,{share}",
            "-virtfs", f"local,path={scratch}/outside,mount_tag=outside,{share}",
            "-netdev", f"tap,id=net,ifname={tap},script=no,downscript=no", "-device", "virtio-net-pci,netdev=net,romfile="]

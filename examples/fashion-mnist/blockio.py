# SPDX-License-Identifier: Apache-2.0
"""Reading and writing past the page cache, and replacing files atomically.

A figure about storage is worth nothing when the bytes came from memory. So data is read with O_DIRECT into page-aligned
buffers; where a filesystem refuses O_DIRECT, it is read through the cache and dropped from it right after
(posix_fadvise), and `mode` says so, which the steps pass on to the report.
"""
import errno
import hashlib
import json
import mmap
import os
import pathlib

BLOCK = 4096


class BlockFile:
    """A file of whole 4096-byte blocks. One thread at a time: reads return a view of the one buffer inside."""

    def __init__(self, path, buffer_bytes, write=False, size_bytes=None):
        flags = (os.O_RDWR | os.O_CREAT) if write else os.O_RDONLY
        self.path = path
        self.buffer = memoryview(mmap.mmap(-1, buffer_bytes))
        self.fd = os.open(path, flags | os.O_CLOEXEC, 0o644)
        if size_bytes is not None:
            os.ftruncate(self.fd, size_bytes)
        self.mode = "direct"
        try:
            direct = os.open(path, (os.O_RDWR if write else os.O_RDONLY) | os.O_DIRECT | os.O_CLOEXEC)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.ENOTSUP):
                raise
            self._use_cache()
            return
        os.close(self.fd)
        self.fd = direct
        try:  # some filesystems take the flag at open and refuse the first read
            os.preadv(self.fd, [self.buffer[:BLOCK]], 0)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            os.close(self.fd)
            self.fd = os.open(path, flags | os.O_CLOEXEC, 0o644)
            self._use_cache()

    def _use_cache(self):
        self.mode = "buffered+fadvise"
        os.posix_fadvise(self.fd, 0, 0, os.POSIX_FADV_RANDOM)

    def read(self, offset, length):
        """A view of `length` bytes at `offset`, valid until the next call."""
        view = self.buffer[:length]
        got = os.preadv(self.fd, [view], offset)
        if got != length:
            raise OSError(errno.EIO, f"{self.path}: {got} bytes at {offset}, {length} expected: the file is cut short")
        self._forget(offset, length)
        return view

    def write(self, offset, data):
        length = len(data)
        self.buffer[:length] = data
        done = os.pwritev(self.fd, [self.buffer[:length]], offset)
        if done != length:
            raise OSError(errno.EIO, f"{self.path}: only {done} of {length} bytes written at {offset}")

    def sync(self):
        os.fdatasync(self.fd)

    def _forget(self, offset, length):
        if self.mode != "direct":
            os.posix_fadvise(self.fd, offset, length, os.POSIX_FADV_DONTNEED)

    def close(self):
        os.close(self.fd)


def write_atomic(path, data):
    """Replace `path` by `data`: after a crash at any moment it is the old file or the new one, whole."""
    path = pathlib.Path(path)
    temp = path.with_name(path.name + ".tmp")
    with open(temp, "wb") as f:
        f.write(data)
        f.flush()
        os.fsync(f.fileno())
    os.replace(temp, path)
    sync_dir(path.parent)
    return len(data)


def write_json(path, value):
    return write_atomic(path, (json.dumps(value, indent=2, sort_keys=True) + "\n").encode())


def read_json(path):
    return json.loads(pathlib.Path(path).read_text())


def sync_dir(path):
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def sha256_file(path):
    """SHA-256 in hex of a file, read past the cache as far as possible."""
    digest = hashlib.sha256()
    with open(path, "rb") as f:
        while part := f.read(1 << 20):
            digest.update(part)
        os.posix_fadvise(f.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    return digest.hexdigest()


def code_sha256():
    """One hash over all scripts of this example: what produced a model."""
    digest = hashlib.sha256()
    for path in sorted(pathlib.Path(__file__).parent.glob("*.py")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()

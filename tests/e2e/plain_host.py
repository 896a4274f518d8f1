# SPDX-License-Identifier: Apache-2.0
"""A plain NVMe/TCP host, from the specifications alone: connects, enables, reads and writes blocks, reads log pages,
waits for events. It takes no decision about paths: tests do.
"""

import struct

import independent_auth

DISCOVERY = "nqn.2014-08.org.nvmexpress.discovery"
BLOCK = 4096


class Queue(independent_auth.Queue):
    def start(self, sqe):
        """Sends a command without data, whose answer is for later."""
        self.cid += 1
        sqe = bytearray(sqe)
        sqe[1] = 0x40
        sqe[2:4] = struct.pack("<H", self.cid)
        sqe[39] = 0x5a
        self.socket.sendall(struct.pack("<BBBBI", 4, 0, 72, 0, 72) + bytes(sqe))

    def answer(self, seconds=10):
        """(status, dword 0) of what was started; None: nothing has come."""
        self.socket.settimeout(seconds)
        try:
            head = self.take(8)
        except TimeoutError:
            return None
        finally:
            self.socket.settimeout(20)
        rest = self.take(struct.unpack("<BBBBI", head)[4] - 8)
        dw0, status = struct.unpack("<I10xH", rest[:16])
        return status >> 1, dw0


def command(opcode, nsid=0, cdw10=0, cdw11=0, cdw12=0):
    return struct.pack("<BBHI32xIII12x", opcode, 0, 0, nsid, cdw10, cdw11, cdw12)


class Controller:
    """An association: its admin queue and, but for discovery, one I/O queue."""

    def __init__(self, address, nqn, hostnqn="nqn.2026-01.example:plain", discovery=False):
        self.admin, self.io = Queue(address), None
        status, cntlid = self.admin.connect(hostnqn, nqn)
        assert status == 0, hex(status)
        enable = struct.pack("<BBHB35xB3xIQ8x", 0x7f, 0, 0, 0, 0, 0x14, 0x00460001)
        assert self.admin.command(enable)[0] == 0
        if not discovery and nqn != DISCOVERY:
            self.io = Queue(address)
            status, _ = self.io.connect(hostnqn, nqn, 1, cntlid & 0xffff)
            assert status == 0, hex(status)

    def close(self):
        for queue in (self.io, self.admin):
            if queue:
                queue.close()

    def write(self, lba, value):
        """Fills a block; the status."""
        return self.io.command(command(0x01, 1, lba), out=bytes([value]) * BLOCK)[0]

    def read(self, lba):
        """(status, first byte)"""
        status, _, data = self.io.command(command(0x02, 1, lba), into=BLOCK)
        return status, data[0] if data else None

    def log(self, lid, length, offset=0, lsp=0):
        sqe = bytearray(command(0x02, 0, lid | lsp << 8 | (length // 4 - 1) << 16))
        sqe[48:52] = struct.pack("<I", offset)
        status, _, data = self.admin.command(sqe, into=length)
        assert status == 0, hex(status)
        return data

    def identify(self, cns, nsid=0):
        status, _, data = self.admin.command(command(0x06, nsid, cns), into=4096)
        assert status == 0, hex(status)
        return data

    def want_events(self, mask):
        assert self.admin.command(command(0x09, 0, 0x0b, mask))[0] == 0
        self.admin.start(command(0x0c))

    def discovery(self):
        """(generation, entries)"""
        generation, count = struct.unpack("<QQ", self.log(0x70, 1024)[:16])
        entries = []
        for i in range(count):
            e = self.log(0x70, 1024, 1024 * (i + 1))
            text = lambda at, size: e[at:at + size].rstrip(b"\0 ").decode()
            entries.append({"subtype": e[2], "portid": struct.unpack("<H", e[4:6])[0], "eflags": e[10],
                            "address": f"{text(512, 256)}:{text(32, 32)}", "nqn": text(256, 256)})
        return generation, entries

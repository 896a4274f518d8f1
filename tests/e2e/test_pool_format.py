# SPDX-License-Identifier: Apache-2.0
"""Pools of other versions: superblocks sealed correctly, but saying what this program does not know."""

import struct

import pytest

BLOCK = 4096


def crc32c(data):
    table = []
    for n in range(256):
        for _ in range(8):
            n = n >> 1 ^ (0x82F63B78 if n & 1 else 0)
        table.append(n)
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ table[(crc ^ byte) & 255]
    return crc ^ 0xFFFFFFFF


def change_superblocks(path, offset, value):
    """Sets bytes in both copies (the first block and the last) and seals them again."""
    with open(path, "r+b") as f:
        for at in (0, path.stat().st_size - BLOCK):
            f.seek(at)
            block = bytearray(f.read(BLOCK))
            crc = struct.unpack_from("<I", block, 8)[0]
            struct.pack_into("<I", block, 8, 0)
            assert crc32c(block) == crc, "this test knows the superblock's layout wrongly"
            block[offset:offset + len(value)] = value
            struct.pack_into("<I", block, 8, crc32c(block))
            f.seek(at)
            f.write(block)


@pytest.mark.parametrize("offset, value, text", [
    (12, struct.pack("<I", 99), "version 99"),
    (32, struct.pack("<Q", 1 << 40), "feature bit 40"),
], ids=["version", "incompat-feature"])
def test_unknown_format(start_penstockd, tmp_path, offset, value, text):
    """A newer format or feature is refused by name, and nothing is written to the pool."""
    daemon = start_penstockd("--pool", tmp_path / "pool", "--pool-size", "64Mi")
    assert daemon.ready, daemon.text()
    daemon.end()
    file = tmp_path / "pool/pool.penstock"
    change_superblocks(file, offset, value)
    before = file.read_bytes()
    daemon = start_penstockd("--pool", tmp_path / "pool")
    assert daemon.failed_with() == 9 and text in daemon.text() and str(file) in daemon.text()
    assert file.read_bytes() == before

# SPDX-License-Identifier: Apache-2.0
"""The dataset's shard format, and a loader that reads it past the page cache in a thread of its own.

A shard is a header block of 4096 bytes and then chunks of 65536 bytes. Little-endian; every part is checked on read:

    header  magic "PSTFMS01", u32 record bytes (785), u32 records, u32 chunk bytes, u32 records a chunk (83),
            u32 CRC-32 of what is in all chunks (without their own: with it, it would be the same for any contents),
            u32 CRC-32 of the header up to here; zeros
    chunk   83 records (the last chunk may hold fewer), zeros, u32 CRC-32 of the 65532 bytes before
    record  u8 label, 784 x u8 pixels

Training order: the chunks are shuffled, and the records are shuffled within groups of 16 chunks. So reads stay large
while neighbours in the file are far apart in training. The order of an epoch depends on the generator alone.
"""
import queue
import struct
import threading
import zlib

import numpy

from blockio import BLOCK, BlockFile, sync_dir

CLASSES = ("T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "boot")
MAGIC = b"PSTFMS01"
HEADER = struct.Struct("<8s5I")
RECORD_BYTES = 785
CHUNK_BYTES = 65536
PER_CHUNK = (CHUNK_BYTES - 4) // RECORD_BYTES
GROUP_CHUNKS = 16


class ShardError(Exception):
    """A shard is damaged or not a shard; the message names the file and the place."""


def write_shard(path, images, labels):
    """Write one shard; returns its CRC-32. The file is durable when this returns, its name when the directory is."""
    crc, chunks = 0, []
    for first in range(0, len(labels), PER_CHUNK):
        part = slice(first, first + PER_CHUNK)
        records = numpy.concatenate([labels[part, None], images[part]], axis=1).tobytes()
        body = records.ljust(CHUNK_BYTES - 4, b"\0")
        chunk = body + struct.pack("<I", zlib.crc32(body))
        crc = zlib.crc32(body, crc)
        chunks.append(chunk)
    header = HEADER.pack(MAGIC, RECORD_BYTES, len(labels), CHUNK_BYTES, PER_CHUNK, crc)
    header = (header + struct.pack("<I", zlib.crc32(header))).ljust(BLOCK, b"\0")
    f = BlockFile(path, CHUNK_BYTES, write=True, size_bytes=BLOCK + CHUNK_BYTES * len(chunks))
    try:
        for i, chunk in enumerate(chunks):
            f.write(BLOCK + i * CHUNK_BYTES, chunk)
        f.write(0, header)  # last: a shard without its header is no shard
        f.sync()
    finally:
        f.close()
    sync_dir(path.parent)
    return crc


class Shard:
    """One open shard: its records by chunk."""

    def __init__(self, path):
        self.file = BlockFile(path, CHUNK_BYTES)
        self.mode = self.file.mode
        header = bytes(self.file.read(0, BLOCK)[: HEADER.size + 4])
        magic, record_bytes, self.records, chunk_bytes, per_chunk, self.crc = HEADER.unpack(header[: HEADER.size])
        if struct.unpack("<I", header[HEADER.size:])[0] != zlib.crc32(header[: HEADER.size]) or magic != MAGIC:
            raise ShardError(f"{path}: not a shard, or its header is damaged; run the prep step again")
        if (record_bytes, chunk_bytes, per_chunk) != (RECORD_BYTES, CHUNK_BYTES, PER_CHUNK):
            raise ShardError(f"{path}: a shard of other sizes than this program's; run the prep step again")
        self.chunks = -(-self.records // PER_CHUNK)

    def chunk(self, index):
        """The records of chunk `index` as an array of (n, 785) bytes of its own, verified."""
        raw = self.file.read(BLOCK + index * CHUNK_BYTES, CHUNK_BYTES)
        if struct.unpack("<I", raw[-4:])[0] != zlib.crc32(raw[:-4]):
            raise ShardError(f"{self.file.path}: chunk {index}: checksum mismatch; run the prep step again")
        n = min(PER_CHUNK, self.records - index * PER_CHUNK)
        return numpy.frombuffer(raw[: n * RECORD_BYTES], dtype=numpy.uint8).reshape(n, RECORD_BYTES).copy()

    def close(self):
        self.file.close()


class Dataset:
    """The shards of one split, as the manifest of prep lists them."""

    def __init__(self, directory, manifest, split):
        self.shards = [Shard(directory / entry["file"]) for entry in manifest["splits"][split]]
        for shard, entry in zip(self.shards, manifest["splits"][split]):
            if (shard.crc, shard.records) != (entry["crc32"], entry["records"]):
                raise ShardError(f"{shard.file.path}: not the shard of this manifest; run the prep step again")
        self.places = [(s, c) for s, shard in enumerate(self.shards) for c in range(shard.chunks)]
        self.records = sum(s.records for s in self.shards)
        self.mode = self.shards[0].mode
        self.bytes_read = 0

    def chunk(self, place):
        shard, index = self.places[place]
        self.bytes_read += CHUNK_BYTES
        return self.shards[shard].chunk(index)

    def chunk_records(self, place):
        shard, index = self.places[place]
        return min(PER_CHUNK, self.shards[shard].records - index * PER_CHUNK)

    def in_order(self):
        """All records, chunk by chunk."""
        for place in range(len(self.places)):
            yield self.chunk(place)

    def close(self):
        for shard in self.shards:
            shard.close()


class Loader:
    """Batches of one epoch in the order of `plan`, read ahead by one thread; holds at most `depth` groups in memory.

    `plan` is a list of groups: (places of chunks, order of the records within the group). Start at batch `first`.
    """

    def __init__(self, dataset, plan, batch, first=0, depth=2):
        self.dataset, self.plan, self.batch, self.first = dataset, plan, batch, first
        self.groups = queue.Queue(maxsize=depth)
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self._read_ahead, name="prefetch", daemon=True)
        self.thread.start()

    def _put(self, item):
        while not self.stop.is_set():
            try:
                return self.groups.put(item, timeout=0.1)
            except queue.Full:
                pass

    def _read_ahead(self):
        try:
            skip = self.first * self.batch
            for places, order in self.plan:
                if self.stop.is_set():
                    return
                if skip >= len(order):
                    skip -= len(order)
                    continue
                records = numpy.concatenate([self.dataset.chunk(p) for p in places])[order]
                self._put(records[skip:])
                skip = 0
            self._put(None)
        except Exception as error:  # the training thread raises it
            self._put(error)

    def __iter__(self):
        held = None
        while True:
            while held is None or len(held) < self.batch:
                group = self.groups.get()
                if isinstance(group, Exception):
                    raise group
                if group is None:
                    if held is not None and len(held):
                        yield held
                    return
                held = group if held is None else numpy.concatenate([held, group])
            yield held[: self.batch]
            held = held[self.batch:]

    def close(self):
        self.stop.set()
        self.thread.join()

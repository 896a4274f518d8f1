# SPDX-License-Identifier: Apache-2.0
"""Stage 3, features: 60 numbers for each image, kept in a store of small pages on the volume `feature`.

This is the I/O of feature jobs: thousands of 4 KiB writes to scattered places, made durable in small groups, and then a
second pass that reads each page, changes it and writes it back (here: to standardise by figures known only at the end).
A page holds 16 records; blocks of 16 samples are scattered over the file by a fixed permutation.
"""
import os
import struct
import zlib

import numpy

from blockio import BLOCK, BlockFile, read_json, write_json
from penstock import step
from shards import Dataset

FEATURES = 60
PER_PAGE = 16
RECORD = numpy.dtype([("sample", "<u4"), ("label", "<u4"), ("values", "<f4", FEATURES)])
HEADER = struct.Struct("<8sIII")  # magic, page, records, CRC-32 of the records
HEADER_BYTES = 128
MAGIC = b"PSTFEAT1"
SYNC_PAGES = 256


def compute(pixels):
    """(n, 784) bytes to (n, 60) features: 7x7 mean pooling, and 11 figures about light, place, edges and symmetry."""
    x = pixels.reshape(-1, 28, 28).astype(numpy.float32) / 255.0
    pooled = x.reshape(-1, 7, 4, 7, 4).mean(axis=(2, 4)).reshape(-1, 49)
    light = x.sum(axis=(1, 2)) + 1e-6
    axis = numpy.arange(28, dtype=numpy.float32)
    more = numpy.stack([
        x.mean(axis=(1, 2)), x.std(axis=(1, 2)),
        (x.sum(axis=1) * axis).sum(axis=1) / light, (x.sum(axis=2) * axis).sum(axis=1) / light,
        numpy.abs(numpy.diff(x, axis=1)).mean(axis=(1, 2)), numpy.abs(numpy.diff(x, axis=2)).mean(axis=(1, 2)),
        numpy.abs(x - x[:, :, ::-1]).mean(axis=(1, 2)), numpy.abs(x - x[:, ::-1]).mean(axis=(1, 2)),
        (x > 0).mean(axis=(1, 2)), x[:, :14].mean(axis=(1, 2)), x[:, 14:].mean(axis=(1, 2))], axis=1)
    return numpy.concatenate([pooled, more], axis=1).astype(numpy.float32)


class FeatureStore:
    """Pages of feature records in one file; every page is checked on read."""

    def __init__(self, path, pages, write=False):
        self.pages = pages
        self.file = BlockFile(path, BLOCK, write=write, size_bytes=pages * BLOCK if write else None)
        self.mode = self.file.mode
        self.reads = self.writes = 0
        self.stride = next(s for s in range(int(pages * 0.618) | 1, 2 * pages + 3, 2) if numpy.gcd(s, pages) == 1)

    def place(self, block):
        """Where block number `block` of 16 samples lies: a permutation of all pages."""
        return (block * self.stride) % self.pages

    def put(self, page, records):
        body = records.tobytes()
        head = HEADER.pack(MAGIC, page, len(records), zlib.crc32(body)).ljust(HEADER_BYTES, b"\0")
        self.file.write(page * BLOCK, (head + body).ljust(BLOCK, b"\0"))
        self.writes += 1

    def get(self, page):
        raw = bytes(self.file.read(page * BLOCK, BLOCK))
        self.reads += 1
        magic, number, count, crc = HEADER.unpack(raw[: HEADER.size])
        body = raw[HEADER_BYTES: HEADER_BYTES + min(count, PER_PAGE) * RECORD.itemsize]
        if magic != MAGIC or number != page or zlib.crc32(body) != crc:
            raise SystemExit(f"{self.file.path}: page {page} is damaged; run the features step again")
        return numpy.frombuffer(body, dtype=RECORD).copy()


def first_pass(store, datasets):
    """Compute and write every page; returns the sums for the mean and the deviation."""
    total, squares, count, block = numpy.zeros(FEATURES), numpy.zeros(FEATURES), 0, 0
    for dataset in datasets:
        pending = numpy.empty((0, 785), dtype=numpy.uint8)
        sample = 0
        for chunk in list_with_end(dataset.in_order()):
            last = chunk is None
            pending = pending if last else numpy.concatenate([pending, chunk])
            usable = len(pending) if last else len(pending) // PER_PAGE * PER_PAGE
            values = compute(pending[:usable, 1:]) if usable else numpy.empty((0, FEATURES))
            total += values.sum(axis=0, dtype=numpy.float64)
            squares += (values.astype(numpy.float64) ** 2).sum(axis=0)
            count += usable
            for first in range(0, usable, PER_PAGE):
                part = slice(first, min(first + PER_PAGE, usable))
                records = numpy.zeros(part.stop - part.start, dtype=RECORD)
                records["sample"] = numpy.arange(sample, sample + len(records))
                records["label"], records["values"] = pending[part, 0], values[part]
                store.put(store.place(block), records)
                sample += len(records)
                block += 1
                if block % SYNC_PAGES == 0:
                    store.file.sync()
            pending = pending[usable:]
    store.file.sync()
    mean = total / count
    return mean, numpy.sqrt(numpy.maximum(squares / count - mean**2, 1e-12)), count


def list_with_end(items):
    yield from items
    yield None


def second_pass(store, mean, std):
    """Standardise: read, change and write back each page, in an order that is not that of the file."""
    for block in range(store.pages):
        page = store.place(store.pages - 1 - block)
        records = store.get(page)
        records["values"] = (records["values"] - mean) / std
        store.put(page, records)
        if block % SYNC_PAGES == SYNC_PAGES - 1:
            store.file.sync()
    store.file.sync()


def main():
    source, out = step.volume("train-data"), step.volume("feature")
    manifest = read_json(source / "manifest.json")
    datasets = [Dataset(source, manifest, split) for split in ("train", "test")]
    blocks = [-(-d.records // PER_PAGE) for d in datasets]
    path = out / "features.bin"
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
    store = FeatureStore(path, sum(blocks), write=True)
    mean, std, count = first_pass(store, datasets)
    second_pass(store, mean, std)
    write_json(out / "manifest.json", {
        "dataset_version": manifest["version"], "pages": store.pages, "train_pages": blocks[0], "records": count,
        "mean": [round(float(v), 6) for v in mean], "std": [round(float(v), 6) for v in std]})
    step.result("features", records=count, page_reads=store.reads, page_writes=store.writes, io=store.mode)
    print(f"features: {count} records of {FEATURES} numbers, {store.reads} page reads, {store.writes} page writes "
          f"({store.mode})")


if __name__ == "__main__":
    main()

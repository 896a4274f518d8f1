# SPDX-License-Identifier: Apache-2.0
"""Stage 2, prep: decode the raw files, measure mean and deviation for normalising, write shards onto `dataset`.

The version in the manifest is the hash of its content: the same images in the same order give the same version. The
pipeline pins what prep leaves on the volume as the snapshot dataset@v1. Pixels stay
bytes on disk (a quarter of the volume's bandwidth); the loader normalises by the figures in the manifest.
"""
import gzip
import hashlib
import json
import os

import numpy

from blockio import read_json, sha256_file, write_json
from penstock import step
from shards import write_shard

PER_SHARD = 10000


def decode(raw, name, dimensions):
    data = gzip.decompress((raw / name).read_bytes())
    offset = 4 + 4 * len(dimensions)
    return numpy.frombuffer(data, dtype=numpy.uint8, offset=offset).reshape(dimensions[0], -1)


def main():
    raw, out = step.volume("raw"), step.volume("dataset")
    files = read_json(raw / "manifest.json")["files"]
    for name, entry in files.items():
        if sha256_file(raw / name) != entry["sha256"]:
            raise SystemExit(f"prep: {raw / name} is not what ingest wrote; run the ingest step again")
    for name in os.listdir(out):  # whatever was there: what prep leaves is what it has written
        if name != "lost+found":
            os.unlink(out / name)
    limit = int(os.environ.get("LIMIT", "0")) or None  # fewer records, for tests
    splits, mean, std = {}, None, None
    for split, prefix in (("train", "train"), ("test", "t10k")):
        images = decode(raw, f"{prefix}-images-idx3-ubyte.gz", files[f"{prefix}-images-idx3-ubyte.gz"]["dimensions"])
        labels = decode(raw, f"{prefix}-labels-idx1-ubyte.gz", files[f"{prefix}-labels-idx1-ubyte.gz"]["dimensions"])
        images, labels = images[:limit], labels[:limit, 0]
        if split == "train":
            mean, std = float(images.mean() / 255.0), float(images.std() / 255.0)
        splits[split] = []
        for i, first in enumerate(range(0, len(labels), PER_SHARD)):
            part = slice(first, first + PER_SHARD)
            name = f"{split}-{i:03d}.shard"
            crc = write_shard(out / name, images[part], labels[part])
            splits[split].append({"file": name, "records": len(labels[part]), "crc32": crc})
    content = {"mean": round(mean, 6), "std": round(std, 6), "splits": splits}
    version = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    write_json(out / "manifest.json", dict(content, version=version))
    records = {split: sum(s["records"] for s in shards) for split, shards in splits.items()}
    step.result("prep", dataset_version=version, records=records)
    print(f"prep: {records['train']} + {records['test']} records, mean {mean:.4f}, deviation {std:.4f}, "
          f"dataset version {version[:12]}")


if __name__ == "__main__":
    main()

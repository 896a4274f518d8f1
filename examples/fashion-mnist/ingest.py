# SPDX-License-Identifier: Apache-2.0
"""Stage 1, ingest: raw Fashion-MNIST from Debian's package onto the volume `raw`, validated and checksummed.

Each file must have the known SHA-256, and decompress to IDX data whose header, size and value range are right; only
then is it copied, read back from the volume and compared.
"""
import gzip
import hashlib
import os
import pathlib
import struct
import sys

from blockio import sha256_file, sync_dir, write_atomic, write_json
from penstock import step

SOURCE = pathlib.Path(os.environ.get("DATASET_DIR", "/usr/share/datasets/fashion-mnist"))
FILES = {  # name: (SHA-256 of the compressed file, dimensions)
    "train-images-idx3-ubyte.gz": ("b0564c3eedabfbf835052cff8503ea422014ce006caf5b757f851416ee8300c7", (60000, 28, 28)),
    "train-labels-idx1-ubyte.gz": ("0ae29f65d86684f32d1b9c85147786c547b9c6aebcaf235f0400a0cce308b056", (60000,)),
    "t10k-images-idx3-ubyte.gz": ("cc1d090a38ace84dfa1aa66e3ada7c336ef481a96936906477e6dd344da56eaa", (10000, 28, 28)),
    "t10k-labels-idx1-ubyte.gz": ("8d3605d196f4be44669e46906da9733c8131fef761fdbfec72c424d5222f1a05", (10000,)),
}


def validate(name, compressed, expected_sha256, dimensions):
    """Raise ValueError with what is wrong with the file `name`."""
    digest = hashlib.sha256(compressed).hexdigest()
    if digest != expected_sha256:
        raise ValueError(f"{name}: SHA-256 {digest}, expected {expected_sha256}")
    data = gzip.decompress(compressed)
    header = struct.pack(f">BBBB{len(dimensions)}I", 0, 0, 8, len(dimensions), *dimensions)
    if data[: len(header)] != header:
        raise ValueError(f"{name}: not IDX data of bytes with the dimensions {dimensions}")
    values = data[len(header):]
    count = 1
    for n in dimensions:
        count *= n
    if len(values) != count:
        raise ValueError(f"{name}: {len(values)} values, {count} expected")
    if len(dimensions) == 1 and max(values) > 9:
        raise ValueError(f"{name}: label {max(values)} is above 9")


def main():
    raw = step.volume("raw")
    entries, total = {}, 0
    for name, (sha256, dimensions) in FILES.items():
        try:
            compressed = (SOURCE / name).read_bytes()
        except FileNotFoundError:
            sys.exit(f"ingest: {SOURCE / name} is missing; install the package dataset-fashion-mnist, or set "
                     "DATASET_DIR to where the four files lie")
        try:
            validate(name, compressed, sha256, dimensions)
        except (ValueError, OSError) as error:
            sys.exit(f"ingest: {error}; reinstall the package dataset-fashion-mnist")
        total += write_atomic(raw / name, compressed)
        if sha256_file(raw / name) != sha256:
            sys.exit(f"ingest: {raw / name}: what the volume gives back is not what was written")
        entries[name] = {"sha256": sha256, "bytes": len(compressed), "dimensions": dimensions}
    write_json(raw / "manifest.json", {"source": str(SOURCE), "files": entries})
    sync_dir(raw)
    step.result("ingest", files=len(entries), bytes=total)
    print(f"ingest: {len(entries)} files, {total / 1e6:.1f} MB, checksums verified after reading back")


if __name__ == "__main__":
    main()

# SPDX-License-Identifier: Apache-2.0
"""Beside the training, relabel: somebody changes the dataset. Here the labelling team merges two classes.

"shirt" and "T-shirt" are what the model confuses most; from today on both are "T-shirt". The test split is
written anew onto the volume `dataset`, in place, while others train: they read a clone of dataset@v1 and see nothing of
it. The pipeline pins the result as dataset@v2.
"""
import hashlib
import json

import numpy

from blockio import read_json, write_json
from penstock import step
from shards import CLASSES, Dataset, write_shard

FROM, TO = CLASSES.index("shirt"), CLASSES.index("T-shirt")


def main():
    pinned, live = step.volume("train-data"), step.volume("dataset")
    manifest = read_json(pinned / "manifest.json")
    changed, first = 0, 0
    records = numpy.concatenate(list(Dataset(pinned, manifest, "test").in_order()))
    for entry in manifest["splits"]["test"]:
        part = records[first: first + entry["records"]]
        first += entry["records"]
        changed += int((part[:, 0] == FROM).sum())
        part[:, 0][part[:, 0] == FROM] = TO
        entry["crc32"] = write_shard(live / entry["file"], part[:, 1:], part[:, 0])
    content = {key: manifest[key] for key in ("mean", "std", "splits")}
    version = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    write_json(live / "manifest.json", dict(content, version=version))
    step.result("relabel", changed=changed, records=len(records), dataset_version=version)
    print(f"relabel: {changed} of {len(records)} labels of the test split changed, dataset version {version[:12]}")


if __name__ == "__main__":
    main()

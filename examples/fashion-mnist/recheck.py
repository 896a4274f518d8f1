# SPDX-License-Identifier: Apache-2.0
"""Stage 8, recheck: the registered model's score on both versions of the dataset, after the volume has changed.

rollout-batch has just predicted the pinned test set with the registered model. On dataset@v1 its score must be what was
registered, to the last digit, although the volume that v1 was taken of holds something else by now. On dataset@v2 the
images are the same and the labels are not: who had trained and reported on a plain directory could not tell any more
which of the two a number was about.
"""
import numpy

from blockio import read_json
from penstock import step
from registry import latest
from shards import Dataset


def test_set(directory):
    """Labels and pixels of the test split, every chunk verified."""
    records = numpy.concatenate(list(Dataset(directory, read_json(directory / "manifest.json"), "test").in_order()))
    return records[:, 0], records[:, 1:]


def main():
    artifact = step.volume("artifact")
    manifest = latest(artifact)[1]
    predicted = numpy.fromfile(artifact / f"predictions-{manifest['version']}.bin", dtype=numpy.uint8)
    registered, scores, images, before = manifest["metrics"]["test_accuracy"], [], None, None
    for name in ("train-data", "new-data"):
        labels, pixels = test_set(step.volume(name))
        if images is not None and not numpy.array_equal(images, pixels):
            raise SystemExit(f"recheck: the images of {name} are others: the predictions say nothing about them")
        differ = 0 if before is None else int((labels != before).sum())
        images, before = pixels, labels
        accuracy = round(float((predicted == labels).mean()), 4)
        version = step.version(name)
        scores.append({"volume": name, "version": version[0] if version else name, "accuracy": accuracy,
                       "as_registered": accuracy == registered, "labels_that_differ": differ})
    if not scores[0]["as_registered"]:
        raise SystemExit(f"recheck: {scores[0]['version']} gives {scores[0]['accuracy']}, but {registered} is registered: "
                         "the pinned version is not what the model was evaluated on")
    step.result("recheck", model_version=manifest["version"], versions=scores)
    print(f"recheck: {manifest['version']} registered with {registered:.4f}; "
          + ", ".join(f"{s['version']} {s['accuracy']:.4f}" for s in scores))


if __name__ == "__main__":
    main()

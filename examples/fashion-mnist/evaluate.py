# SPDX-License-Identifier: Apache-2.0
"""Stage 5, evaluate: accuracy and confusion matrix on the held-out test set, and accuracy by brightness.

The slices by brightness come from the feature store, one random page read after the other: an average hides where a
model fails, and slices are what feature stores are read for.
"""
import io

import numpy
import torch

from blockio import read_json, write_json
from features import FeatureStore
from model import Net, make_deterministic, to_input
from penstock import step
from shards import CLASSES, Dataset

BRIGHTNESS = 49  # index of the mean in the features


def predict(net, dataset, mean, std):
    """Predicted and true labels of a whole split, in the order of the file."""
    predicted, true = [], []
    with torch.no_grad():
        for records in dataset.in_order():
            predicted.append(net(to_input(records[:, 1:], mean, std)).argmax(dim=1).numpy())
            true.append(records[:, 0].astype(numpy.int64))
    return numpy.concatenate(predicted), numpy.concatenate(true)


def brightness(directory, version, labels):
    """The brightness of each test sample, from the feature store."""
    manifest = read_json(directory / "manifest.json")
    if manifest["dataset_version"] != version:
        raise SystemExit("evaluate: the features are of another dataset version; run the features step again")
    store = FeatureStore(directory / "features.bin", manifest["pages"])
    values = numpy.zeros(len(labels), dtype=numpy.float32)
    for block in range(manifest["train_pages"], manifest["pages"]):
        records = store.get(store.place(block))
        if not numpy.array_equal(labels[records["sample"]], records["label"]):
            raise SystemExit(f"evaluate: block {block} of the features does not match the dataset's labels")
        values[records["sample"]] = records["values"][:, BRIGHTNESS]
    return values


def main():
    source, trained, out = step.volume("train-data"), step.volume("checkpoint"), step.volume("artifact")
    make_deterministic(1)
    training = read_json(trained / "train.json")
    manifest = read_json(source / "manifest.json")
    if manifest["version"] != training["dataset"]:
        raise SystemExit("evaluate: the model was trained on another dataset version; run the train step again")
    net = Net()
    net.load_state_dict(torch.load(io.BytesIO((trained / "model.pt").read_bytes())))
    net.eval()
    predicted, true = predict(net, Dataset(source, manifest, "test"), training["mean"], training["std"])
    accuracy = round(float((predicted == true).mean()), 4)
    confusion = numpy.zeros((len(CLASSES), len(CLASSES)), dtype=int)
    numpy.add.at(confusion, (true, predicted), 1)
    light = brightness(step.volume("feature"), manifest["version"], true)
    edges = numpy.quantile(light, [0.25, 0.5, 0.75])
    slices = [round(float((predicted == true)[numpy.digitize(light, edges) == q].mean()), 4) for q in range(4)]
    evaluation = {"accuracy": accuracy, "samples": len(true), "classes": CLASSES, "confusion": confusion.tolist(),
                  "accuracy_by_brightness_quartile": slices, "weights_sha256": training["weights_sha256"],
                  "dataset_version": manifest["version"]}
    write_json(out / "evaluation.json", evaluation)
    step.persist(out / "evaluation.json")
    step.metric("test_accuracy", accuracy)
    step.result("evaluate", accuracy=accuracy, samples=len(true), confusion=confusion.tolist(), classes=CLASSES,
                accuracy_by_brightness_quartile=slices)
    print(f"evaluate: accuracy {accuracy:.4f} on {len(true)} held-out images; by brightness quartile {slices}")


if __name__ == "__main__":
    main()

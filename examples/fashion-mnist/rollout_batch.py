# SPDX-License-Identifier: Apache-2.0
"""Stage 7a, rollout-batch: the registered model predicts the whole test set; predictions lie beside the model."""
import time

from blockio import read_json, write_atomic
from evaluate import predict
from model import make_deterministic
from penstock import step
from registry import load_latest
from shards import Dataset


def main():
    source, artifact = step.volume("train-data"), step.volume("artifact")
    make_deterministic(1)
    begin = time.perf_counter()
    net, manifest = load_latest(artifact)
    load_s = time.perf_counter() - begin
    begin = time.perf_counter()
    predicted, true = predict(net, Dataset(source, read_json(source / "manifest.json"), "test"),
                              manifest["input"]["mean"], manifest["input"]["std"])
    seconds = time.perf_counter() - begin
    accuracy = round(float((predicted == true).mean()), 4)
    if accuracy != manifest["metrics"]["test_accuracy"]:
        raise SystemExit(f"rollout-batch: accuracy {accuracy}, but the registry says "
                         f"{manifest['metrics']['test_accuracy']}: not the model that was evaluated")
    path = artifact / f"predictions-{manifest['version']}.bin"
    write_atomic(path, predicted.astype("uint8").tobytes())
    step.persist(path)
    step.result("rollout_batch", model_version=manifest["version"], predictions=len(predicted), seconds=round(seconds, 4),
                predictions_per_s=round(len(predicted) / seconds, 1), load_s=round(load_s, 4), accuracy=accuracy)
    print(f"rollout-batch: {manifest['version']}, {len(predicted)} predictions, {len(predicted) / seconds:.0f}/s, "
          f"accuracy {accuracy:.4f} as registered")


if __name__ == "__main__":
    main()

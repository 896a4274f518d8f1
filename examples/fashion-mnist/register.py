# SPDX-License-Identifier: Apache-2.0
"""Stage 6, register: the trained model as a version with metrics and lineage, on the volume `artifact`."""
from blockio import code_sha256, read_json
from penstock import step
from registry import NAME, publish


def main():
    trained, out = step.volume("checkpoint"), step.volume("artifact")
    training, evaluation = read_json(trained / "train.json"), read_json(out / "evaluation.json")
    if evaluation["weights_sha256"] != training["weights_sha256"]:
        raise SystemExit("register: the evaluation is of other weights; run the evaluate step again")
    lineage = {"dataset_version": training["dataset"], "data": training["data"], "run_id": step.run_id(), "code_sha256": code_sha256(),
               "weights_sha256": training["weights_sha256"], "seed": training["seed"], "steps": training["steps"]}
    version = publish(out, (trained / "model.pt").read_bytes(), {
        "metrics": {"test_accuracy": evaluation["accuracy"], "test_samples": evaluation["samples"]},
        "lineage": lineage, "input": {"mean": training["mean"], "std": training["std"]},
        "classes": evaluation["classes"]})
    step.result("register", model=NAME, version=version, test_accuracy=evaluation["accuracy"], lineage=lineage)
    print(f"register: {NAME} {version}, accuracy {evaluation['accuracy']:.4f}, "
          f"dataset {(lineage['data'] or [lineage['dataset_version'][:12]])[0]}, code {lineage['code_sha256'][:12]}")


if __name__ == "__main__":
    main()

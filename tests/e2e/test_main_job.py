# SPDX-License-Identifier: Apache-2.0
"""The main job in small form, from the command line alone: daemon, pipeline with a kill, proof, report."""
import json
import os
import pathlib
import shutil
import signal
import subprocess

import jsonschema
import pytest

from conftest import UnixConnection

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("BUILD_DIR", ROOT / "build")).resolve()
PENSTOCK = BUILD / "bin/penstock"
SMALL = {'SEED: "1", EPOCHS: "2", BATCH: "64", CHECKPOINT_STEPS: "200"':
         'SEED: "1", EPOCHS: "2", BATCH: "32", CHECKPOINT_STEPS: "20"',
         'REQUESTS: "400"': 'REQUESTS: "60"'}

pytestmark = pytest.mark.skipif(
    not pathlib.Path("/usr/share/datasets/fashion-mnist").is_dir()
    or subprocess.run(["/usr/bin/python3", "-c", "import torch"], capture_output=True).returncode != 0,
    reason="SKIP: needs the packages dataset-fashion-mnist and python3-torch")


@pytest.fixture(scope="module")
def daemon(tmp_path_factory):
    """penstockd on a pool on disk, any port; its API's address."""
    directory = tmp_path_factory.mktemp("daemon")
    ready, ready_write = os.pipe()
    api = f"unix:{directory}/api.sock"
    with open(directory / "log", "wb") as log:
        process = subprocess.Popen([BUILD / "bin/penstockd", "--pool", directory / "pool", "--pool-size", "4Gi", "--listen",
                                    "127.0.0.1:0", "--api", api, "--ready-fd", str(ready_write)],
                                   pass_fds=[ready_write], stderr=log)
    os.close(ready_write)
    with os.fdopen(ready) as f:
        line = f.readline()
    assert line, (directory / "log").read_text()
    yield api
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=20) == 0


class Job:
    """A copy of the example with small settings, and commands on it."""

    def __init__(self, base, api):
        self.base = base
        self.example = base / "example"
        shutil.copytree(ROOT / "examples/fashion-mnist", self.example,
                        ignore=shutil.ignore_patterns("__pycache__"))
        text = (self.example / "pipeline.yaml").read_text()
        for old, new in SMALL.items():
            assert old in text
            text = text.replace(old, new)
        text = text.replace("pipeline: fashion-mnist", "pipeline: small")
        text = text.replace("    inputs: [\"raw:/\", prep.py", "    env: {LIMIT: \"2560\"}\n    inputs: [\"raw:/\", prep.py")
        (self.example / "pipeline.yaml").write_text(text)
        self.env = dict(os.environ, PENSTOCK_URL=api, PENSTOCK_ACCELERATOR_COST="2")

    def penstock(self, *args, timeout=240):
        done = subprocess.run([PENSTOCK, *args], env=self.env, capture_output=True, text=True, timeout=timeout)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        return done

    def run(self, name, *args):
        self.penstock("run", self.example / "pipeline.yaml", "--state", self.base / "state", "--record",
                      self.base / name, *args)
        return json.loads((self.base / name / "run.json").read_text())


@pytest.fixture(scope="module")
def job(daemon, tmp_path_factory):
    return Job(tmp_path_factory.mktemp("job"), daemon)


@pytest.fixture(scope="module")
def killed(job):
    """The record of a run whose training was killed once."""
    return job.run("killed", "--fresh", "--kill", "train@100")


def results(record):
    return {e["stage"]: e for e in record["events"] if e["event"] == "result"}


# Every step succeeds, training goes on from a checkpoint after the kill, and every volume was really used.
def test_pipeline_recovers_from_the_kill(killed):
    assert [s["name"] for s in killed["steps"]] == ["ingest", "prep", "relabel", "features", "train", "evaluate",
                                                    "register", "rollout-batch", "rollout-realtime", "recheck"]
    assert {s["status"] for s in killed["steps"]} == {"succeeded"}
    assert killed["daemon"]["own"] is False and killed["daemon"]["io"] in ("io_uring", "posix")
    (train,) = [s for s in killed["steps"] if s["name"] == "train"]
    assert [a.get("signal") for a in train["attempts"]] == [9, None]
    (resume,) = [e for e in killed["events"] if e["event"] == "resume"]
    assert 0 < resume["n"] <= 100 and resume["n"] % 20 == 0
    for step in killed["steps"]:
        for volume in step["volumes"]:
            assert volume["bytes_read"] + volume["bytes_written"] > 0, (step["name"], volume["name"])


# The bytes cross NVMe/TCP: host library, target and sockets agree within 2 % after the stated overheads.
def test_bytes_are_accounted_for(job, killed, tmp_path):
    job.penstock("report", job.base / "killed/run.json", "--out", tmp_path)
    report = json.loads((tmp_path / "report.json").read_text())
    assert len(report["accounting"]) == 7
    for name, volume in report["accounting"].items():
        assert volume["host_bytes"] > 0 and volume["difference"] < 0.02, (name, volume)


# Training reads a clone of what prep pinned, which owns nothing, while the volume itself changes: just those labels differ
# that were changed (the score on them may come out the same by chance). The score on the pinned version stays, and the
# model's manifest and the report say which version it was.
def test_trains_from_a_clone_of_a_pinned_version(job, killed, tmp_path):
    versions = {v["name"]: v for v in killed["versions"]}
    assert list(versions) == ["dataset@v1", "dataset@v2"]
    (clone,) = versions["dataset@v1"]["clones"]
    assert clone["name"] == "train-data" and clone["own_bytes"] == 0 < clone["mapped_bytes"]
    assert {"train", "evaluate", "rollout-batch"} <= set(versions["dataset@v1"]["read_by"])
    pinned, changed = results(killed)["recheck"]["versions"]
    assert pinned["version"] == "dataset@v1" and pinned["as_registered"] and changed["version"] == "dataset@v2"
    assert pinned["accuracy"] == results(killed)["evaluate"]["accuracy"]
    assert changed["labels_that_differ"] == results(killed)["relabel"]["changed"] > 0 == pinned["labels_that_differ"]
    assert results(killed)["relabel"]["dataset_version"] != results(killed)["prep"]["dataset_version"]
    assert results(killed)["register"]["lineage"]["data"] == ["dataset@v1", versions["dataset@v1"]["uuid"]]
    done = job.penstock("report", job.base / "killed/run.json", "--out", tmp_path)
    assert f"was trained on dataset@v1 ({versions['dataset@v1']['uuid']})." in done.stdout
    assert "Volume train-data is a clone of dataset@v1 and cost no copy" in done.stdout


# The same result without the kill, to the last bit; and what has not changed is not run again.
def test_second_run_repeats_and_third_is_cached(job, killed):
    fresh = results(job.run("fresh", "--fresh"))
    assert fresh["train"]["weights_sha256"] == results(killed)["train"]["weights_sha256"]
    assert fresh["evaluate"]["accuracy"] == results(killed)["evaluate"]["accuracy"]
    again = job.run("again")
    status = {s["name"]: s["status"] for s in again["steps"]}
    assert {status[name] for name in ("ingest", "prep", "relabel", "features", "train")} == {"cached"}
    assert [v["uuid"] for v in again["versions"]] == [v["uuid"] for v in killed["versions"]]


# The proof has its four cases, its timeline and a verdict, and leaves nothing behind; the report takes it all.
def test_proof_and_report(job, killed, tmp_path):
    proof = tmp_path / "proof.json"
    job.penstock("bench", "neighbour", "--seconds", "1", "--records", "400", "--local", tmp_path, "--json", proof)
    assert [p.name for p in tmp_path.iterdir()] == ["proof.json"]
    done = job.penstock("report", job.base / "killed/run.json", "--proof", proof, "--out", tmp_path / "out")
    report = json.loads((tmp_path / "out/report.json").read_text())
    jsonschema.validate(report, json.loads((ROOT / "web/report/report.schema.json").read_text()))
    assert [c["case"] for c in report["proof"]] == ["local", "alone", "neighbour", "guarantee"]
    assert all(c["samples_per_s"] > 0 and c["bad_records"] == 0 for c in report["proof"])
    neighbour = {c["case"]: c["neighbour_mb_s"] for c in report["proof"]}
    assert neighbour["local"] == neighbour["alone"] == 0 < neighbour["guarantee"] < neighbour["neighbour"]
    assert report["summary"]["sentence"] in done.stdout and "At 2.00 an hour" in report["summary"]["sentence"]
    training, rollout = report["training"], report["rollout"]
    assert training["restart_recovery_s"] > 0 and training["samples_per_s"] > 0 and training["checkpoint_write_s"]
    assert training["test_accuracy"] > 0.6 and rollout["realtime"]["requests"] == 60
    assert any(label.startswith("Not cache-served: ") for label in report["labels"])
    assert not any("the pool is in memory" in label for label in report["labels"])
    assert report["proof_details"]["verdict"].startswith("The neighbour") and report["proof_details"]["timeline"]
    assert len(report["labels"]) >= 5 and report["environment"]["cores"] >= 1


# Ctrl-C in the middle of the proof takes everything away again: file, volumes, tenants, the neighbour's process.
def test_interrupted_proof_leaves_nothing(job, tmp_path):
    process = subprocess.Popen([PENSTOCK, "bench", "neighbour", "--seconds", "2", "--records", "200", "--local",
                                tmp_path], env=job.env, stderr=subprocess.PIPE, text=True, start_new_session=True)
    try:
        for line in process.stderr:
            if line.strip().startswith("neighbour,"):
                break
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(timeout=20) == 130
        with pytest.raises(ProcessLookupError):  # nobody of the group is left
            os.killpg(process.pid, 0)
    finally:
        process.kill()
        process.wait()
    assert "interrupted" in process.stderr.read()
    assert not list(tmp_path.iterdir())
    for kind in ("volumes", "tenants"):
        connection = UnixConnection(job.env["PENSTOCK_URL"].removeprefix("unix:"))
        connection.request("GET", f"/v1/{kind}")
        names = [entry["name"] for entry in json.loads(connection.getresponse().read())]
        connection.close()
        assert names and not [name for name in names if name.startswith("bench-")]

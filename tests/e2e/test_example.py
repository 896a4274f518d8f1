# SPDX-License-Identifier: Apache-2.0
"""The Fashion-MNIST example on plain directories, in small form: every step, a kill in mid-epoch, damage."""
import json
import os
import pathlib
import shutil
import subprocess
import time

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples" / "fashion-mnist"
DATA = pathlib.Path("/usr/share/datasets/fashion-mnist")
PYTHON = "/usr/bin/python3"
VOLUMES = ("raw", "dataset", "train-data", "new-data", "feature", "checkpoint", "artifact")
SMALL = {"LIMIT": "2560", "EPOCHS": "2", "BATCH": "32", "CHECKPOINT_STEPS": "15", "REQUESTS": "40", "SEED": "1"}

pytestmark = pytest.mark.skipif(
    not DATA.is_dir() or subprocess.run([PYTHON, "-c", "import torch"], capture_output=True).returncode != 0,
    reason="needs the packages dataset-fashion-mnist and python3-torch")


class Work:
    """Directories that stand for volumes, and a way to run the example's scripts on them."""

    def __init__(self, base):
        self.base = base
        self.env = dict(os.environ, PYTHONPATH=str(ROOT / "python"), PYTHONDONTWRITEBYTECODE="1",
                        OMP_WAIT_POLICY="passive", OMP_NUM_THREADS="2", OPENBLAS_NUM_THREADS="2",
                        PENSTOCK_EVENTS=str(base / "events.jsonl"), PENSTOCK_RUN_ID="run1", PENSTOCK_STEP="x", **SMALL)
        self.env.pop("PENSTOCK_CONTROL", None)
        for name in VOLUMES:
            (base / name).mkdir(parents=True, exist_ok=True)
            self.env["PENSTOCK_VOLUME_" + name.upper().replace("-", "_")] = str(base / name)

    def run(self, script, ok=True, **env):
        done = subprocess.run([PYTHON, script + ".py"], cwd=EXAMPLE, env=dict(self.env, **env), timeout=120,
                              capture_output=True, text=True)
        assert not ok or done.returncode == 0, done.stdout + done.stderr
        return done

    def start(self, script, **env):
        return subprocess.Popen([PYTHON, script + ".py"], cwd=EXAMPLE, env=dict(self.env, **env),
                                stdout=subprocess.DEVNULL)

    def events(self, *kinds):
        path = self.base / "events.jsonl"
        lines = path.read_text().splitlines() if path.exists() else []
        return [e for e in map(json.loads, lines) if not kinds or e["event"] in kinds]

    def result(self, stage):
        return [e for e in self.events("result") if e["stage"] == stage][-1]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """ingest and prep, once."""
    w = Work(tmp_path_factory.mktemp("prepared"))
    w.run("ingest")
    w.run("prep")
    return w


@pytest.fixture
def work(prepared, tmp_path):
    shutil.copytree(prepared.base / "dataset", tmp_path / "train-data")
    shutil.copytree(prepared.base / "dataset", tmp_path / "dataset")
    return Work(tmp_path)


# All later stages run in order on what the earlier ones left, and each reports its result.
def test_every_stage(work):
    for script in ("features", "train", "evaluate", "register", "rollout_batch", "rollout_realtime"):
        work.run(script)
    evaluated, batch, realtime = (work.result(s) for s in ("evaluate", "rollout_batch", "rollout_realtime"))
    assert evaluated["accuracy"] > 0.6 and evaluated["accuracy"] == batch["accuracy"]
    assert sum(map(sum, evaluated["confusion"])) == evaluated["samples"] == batch["predictions"] == 2560
    assert realtime["requests"] == 40 and 0 < realtime["p50_ms"] <= realtime["p99_ms"]
    manifest = json.loads((work.base / "artifact/models/fashion-mnist/v0001/manifest.json").read_text())
    assert manifest["lineage"]["run_id"] == "run1" and len(manifest["lineage"]["dataset_version"]) == 64
    steps = work.events("train_step")
    assert [e["n"] for e in steps] == list(range(1, 161)) and sum(e["samples"] for e in steps) == 2 * 2560
    assert all(0 <= e["data_wait_s"] <= e["seconds"] for e in steps)


# The labels of the test split change in place, twice with the same result; the score on what was pinned does not, and
# recheck refuses a pinned version on which the model has another score.
def test_changed_labels_change_the_score_of_the_new_version_only(work):
    for script in ("features", "train", "evaluate", "register", "relabel", "relabel", "rollout_batch"):
        work.run(script, EPOCHS="1")
    first, again = (e for e in work.events("result") if e["stage"] == "relabel")
    assert first["changed"] == again["changed"] > 200 and first["dataset_version"] == again["dataset_version"]
    shutil.copytree(work.base / "dataset", work.base / "new-data", dirs_exist_ok=True)
    work.run("recheck")
    pinned, changed = work.result("recheck")["versions"]
    assert pinned["as_registered"] and pinned["accuracy"] == work.result("evaluate")["accuracy"]
    assert changed["accuracy"] != pinned["accuracy"] and not changed["as_registered"]
    shutil.copytree(work.base / "dataset", work.base / "train-data", dirs_exist_ok=True)
    done = work.run("recheck", ok=False)
    assert done.returncode != 0 and "is not what the model was evaluated on" in done.stderr


# Killed in mid-epoch and started again, training ends with the very same weights as without the kill.
def test_kill_and_resume_is_bit_identical(work, tmp_path):
    work.run("train")
    straight = work.result("train")["weights_sha256"]
    other = Work(tmp_path / "killed")
    shutil.copytree(work.base / "train-data", other.base / "train-data", dirs_exist_ok=True)
    process = other.start("train")
    try:
        limit = time.monotonic() + 60
        while not any(e["n"] >= 100 for e in other.events("train_step")):
            assert process.poll() is None and time.monotonic() < limit, "training ended before it could be killed"
            time.sleep(0.01)
    finally:
        process.kill()
        process.wait()
    other.run("train", PENSTOCK_ATTEMPT="2")
    (resumed,) = other.events("resume")
    assert resumed["n"] % 15 == 0 and 80 < resumed["n"] < 160  # a checkpoint inside the second epoch
    assert other.result("train")["weights_sha256"] == straight
    assert len(list((other.base / "checkpoint").glob("step-*.ckpt"))) == 2


# A damaged newest checkpoint costs some steps, not the training: the one before is used.
def test_damaged_checkpoint_falls_back(work):
    process = work.start("train")
    limit = time.monotonic() + 60
    while len(work.events("checkpoint_end")) < 3:
        assert process.poll() is None and time.monotonic() < limit
        time.sleep(0.01)
    process.kill()
    process.wait()
    before, newest = sorted((work.base / "checkpoint").glob("step-*.ckpt"))[-2:]
    data = bytearray(newest.read_bytes())
    data[len(data) // 2] ^= 1
    newest.write_bytes(data)
    done = work.run("train", PENSTOCK_ATTEMPT="2")
    assert f"{newest.name}: cut short or damaged" in done.stdout
    assert f"step-{work.events('resume')[0]['n']:06d}.ckpt" == before.name


# A flipped bit in a shard is found before the model sees it, and the message names the file.
def test_damaged_shard_is_found(work):
    shard = work.base / "train-data" / "train-000.shard"
    data = bytearray(shard.read_bytes())
    data[4096 + 65536 + 1000] ^= 4
    shard.write_bytes(data)
    done = work.run("train", ok=False)
    assert done.returncode != 0 and "train-000.shard: chunk 1: checksum mismatch" in done.stderr


# A model that is not what was registered is not rolled out.
def test_damaged_model_is_not_rolled_out(work):
    for script in ("features", "train", "evaluate", "register"):
        work.run(script, EPOCHS="1")
    model = work.base / "artifact/models/fashion-mnist/v0001/model.pt"
    data = bytearray(model.read_bytes())
    data[-100] ^= 1
    model.write_bytes(data)
    done = work.run("rollout_batch", ok=False)
    assert done.returncode != 0 and "checksum mismatch" in done.stderr


# Raw files that are not the known ones stop at ingest.
def test_ingest_refuses_other_files(tmp_path):
    w = Work(tmp_path)
    source = tmp_path / "source"
    shutil.copytree(DATA, source)
    (source / "t10k-labels-idx1-ubyte.gz").write_bytes(b"no")
    done = w.run("ingest", ok=False, DATASET_DIR=str(source))
    assert done.returncode != 0 and "t10k-labels-idx1-ubyte.gz: SHA-256" in done.stderr

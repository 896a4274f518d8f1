# SPDX-License-Identifier: Apache-2.0
"""`penstock report`: what it derives from a run record, what it says of missing figures, and that the page is whole."""

import json
import os
import pathlib
import shutil
import subprocess

import jsonschema
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("BUILD_DIR", ROOT / "build")).resolve()
SCHEMA = json.loads((ROOT / "web/report/report.schema.json").read_text(encoding="utf-8"))


def step_event(t, n):
    return {"t": t, "event": "train_step", "step": "train", "n": n, "epoch": 0, "seconds": 0.1, "data_wait_s": 0.02,
            "samples": 64, "bytes": 50000}


def run_record():
    """Ten steps, a kill at t=101, three seconds of recovery, ten more steps."""
    volume = {"name": "dataset", "profile": "dataset", "bytes_read": 1000000, "bytes_written": 0, "reads": 80,
              "writes": 0, "flushes": 0, "p50_us": 100, "p95_us": 200, "p99_us": 300}
    events = [step_event(100 + 0.1 * n, n) for n in range(10)]
    events += [{"t": 104.0, "event": "resume", "step": "train", "n": 5}]
    events += [step_event(104.0 + 0.1 * n, 5 + n) for n in range(10)]
    events += [{"t": 105.5, "event": "checkpoint_end", "step": "train", "n": 15, "bytes": 2000000, "seconds": 0.04},
               {"t": 107.0, "event": "result", "step": "evaluate", "stage": "evaluate", "accuracy": 0.8912}]
    train = {"name": "train", "status": "succeeded", "seconds": 8.0, "volumes": [volume],
             "attempts": [{"started": 99.0, "ended": 101.0, "exit": None, "signal": 9},
                          {"started": 101.5, "ended": 106.0, "exit": 0, "signal": None}]}
    return {"pipeline": "p", "run_id": "r1", "command": "penstock run p.yaml", "mount_path": "fuse-loop",
            "mount_reason": "</script><b>x", "daemon": {"listen": "127.0.0.1:4420", "io": "io_uring"}, "steps": [train],
            "events": events, "timeline": [], "accounting": {"dataset": {
                "host_bytes": 1000000, "target_bytes": 1000000, "socket_bytes": 1030000, "overhead_bytes": 20000}}}


def proof_record():
    idle = {"local": 0.01, "alone": 0.02, "neighbour": 0.5, "guarantee": 0.04}
    return {"cases": [{"case": c, "accelerator_idle_fraction": f, "p99_us": 1000, "samples_per_s": 500}
                      for c, f in idle.items()], "timeline": [], "verdict": "It helped.", "labels": ["Emulated: yes."]}


@pytest.fixture
def make(tmp_path):
    def run(record, proof=None, cost=None, expect=0):
        (tmp_path / "run.json").write_text(json.dumps(record))
        command = [BUILD / "bin/penstock", "report", tmp_path / "run.json", "--out", tmp_path / "out"]
        if proof is not None:
            (tmp_path / "proof.json").write_text(json.dumps(proof))
            command += ["--proof", tmp_path / "proof.json"]
        env = {**os.environ, **({"PENSTOCK_ACCELERATOR_COST": cost} if cost else {})}
        done = subprocess.run(command, capture_output=True, text=True, env=env, timeout=20)
        assert done.returncode == expect, done.stderr
        if expect:
            return done.stderr, None
        report = json.loads((tmp_path / "out/report.json").read_text())
        jsonschema.validate(report, SCHEMA)
        return report, (tmp_path / "out/report.html").read_text(), done.stdout
    return run


def test_derives_training_figures_from_events(make):
    """Rates are over the time of the steps, recovery is from the kill to the first step after it."""
    report, _, _ = make(run_record(), proof_record())
    training = report["training"]
    assert training["samples_per_s"] == pytest.approx(640)
    assert training["dataset_read_mb_s"] == pytest.approx(0.5)
    assert training["accelerator_idle_fraction"] == pytest.approx(0.2)
    assert training["restart_recovery_s"] == pytest.approx(3.0)
    assert training["checkpoint_write_s"] == [0.04]
    assert training["test_accuracy"] == 0.8912 and report["evaluation"]["accuracy"] == 0.8912
    assert report["steps"][0]["times"][0]["signal"] == 9
    assert report["steps"][0]["volumes"][0]["iops"] == pytest.approx(10)
    assert report["accounting"]["dataset"]["difference"] == pytest.approx(0.01)
    assert training["link"].startswith("loopback")


def test_failed_step_tells_why(make):
    """A failed step keeps its error, in the file, the page's data and the terminal."""
    record = run_record()
    record["steps"][0].update(status="failed", error="train.py: exit 3 after 4 attempts")
    report, page, text = make(record)
    assert report["steps"][0]["error"] == "train.py: exit 3 after 4 attempts"
    assert "exit 3 after 4 attempts" in page and "exit 3 after 4 attempts" in text


def test_tells_the_loss_in_one_sentence_and_in_money(make):
    """The sentence has the three shares; with a price, the loss per hour."""
    report, _, text = make(run_record(), proof_record(), cost="2.00")
    assert report["summary"]["sentence"] in text
    assert "2.0 % of accelerator time alone, 50.0 % beside" in report["summary"]["sentence"]
    assert "0.04, 1.00 and 0.08" in report["summary"]["sentence"]


VERSION = {"name": "dataset@v1", "volume": "dataset", "snapshot": "v1", "uuid": "u-1", "status": "taken", "step": "prep",
           "read_by": ["train"], "created": "2026-11-23T10:00:00Z", "size_bytes": 1 << 29, "mapped_bytes": 57 << 20,
           "own_bytes": 8 << 20, "sha256": "0" * 64, "clones": [{"name": "train-data", "volume": "p-train-data",
                                                                  "uuid": "u-2", "made": True, "written": False,
                                                                  "mapped_bytes": 57 << 20, "own_bytes": 0}]}


def versions_record():
    record = run_record()
    record["versions"] = [VERSION, dict(VERSION, name="dataset@v2", uuid="u-3", read_by=[], clones=[])]
    record["steps"][0]["volumes"][0].update(version="dataset@v1", version_uuid="u-1")
    record["events"] += [
        {"t": 107.5, "event": "result", "step": "register", "stage": "register", "model": "m", "version": "v0003"},
        {"t": 108.0, "event": "result", "step": "recheck", "stage": "recheck", "versions": [
            {"version": "dataset@v1", "accuracy": 0.8912, "as_registered": True},
            {"version": "dataset@v2", "accuracy": 0.7, "as_registered": False}]}]
    return record


def test_says_what_was_trained_on_which_version(make):
    """Model, version, uuid, and what the clone cost: in the data, the page and the terminal."""
    report, page, text = make(versions_record())
    assert report["lineage"] == [
        "Model m v0003 was trained on dataset@v1 (u-1).",
        "Volume train-data is a clone of dataset@v1 and cost no copy: 0 B of its 57 MiB are its own.",
        "Scored again when the volume had changed: accuracy 0.8912 on dataset@v1, as registered.",
        "Scored again when the volume had changed: accuracy 0.7000 on dataset@v2."]
    for sentence in report["lineage"]:
        assert sentence in page and sentence in text
    assert report["steps"][0]["volumes"][0]["version"] == "dataset@v1"
    assert any(line.split()[:6] == ["dataset@v1", "taken", "prep", "57", "MiB", "8"] for line in text.splitlines())


def test_clone_that_was_written_says_so(make):
    """A clone with blocks of its own does not claim to be free, and an unknown figure claims nothing."""
    record = versions_record()
    record["versions"][0] = dict(VERSION, clones=[dict(VERSION["clones"][0], own_bytes=1 << 20)])
    report, _, _ = make(record)
    assert "Volume train-data is a clone of dataset@v1: 1 MiB of its 57 MiB are its own." in report["lineage"]
    record["versions"][0] = dict(VERSION, clones=[dict(VERSION["clones"][0], own_bytes=None)])
    report, _, _ = make(record)
    assert not any("clone" in sentence for sentence in report["lineage"])


def test_missing_figures_are_null_and_said(make):
    """Without events and proof nothing is invented."""
    record = run_record()
    record["events"] = []
    report, _, text = make(record)
    assert report["training"]["samples_per_s"] is None and report["training"]["test_accuracy"] is None
    assert report["evaluation"] is None and report["rollout"] == {"batch": None, "realtime": None}
    assert report["proof"] == [] and "not known" in report["summary"]["sentence"]
    assert "not measured" in text


def test_page_is_self_contained(make):
    """Chart.js and the data are inside, nothing is fetched, and no string of the data can end its script element."""
    _, page, _ = make(run_record(), proof_record())
    assert "Chart" in page and "/*REPORT*/" not in page and "<\\/script><b>x" in page
    for fetch in ("src=", "@import", "href=\"http"):
        assert fetch not in page.split("<script>")[0]


def test_other_files_are_refused(make):
    """A file that is no run record is named, with exit code 2."""
    stderr, _ = make({"a": 1}, expect=2)
    assert "run.json" in stderr and "run record" in stderr


CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


@pytest.mark.skipif(CHROMIUM is None, reason="SKIP: no chromium to open the page with")
@pytest.mark.parametrize("scheme", [0, 1])
@pytest.mark.parametrize("full", [True, False])
def test_page_draws_without_errors(make, tmp_path, scheme, full):
    """In a browser, dark and light, with every figure and with hardly any: no script error, nothing undefined."""
    record, proof = versions_record(), proof_record()
    if full:
        record["timeline"] = [{"t": 99.0 + t, "cpu_busy": 0.5, "steal": None, "volumes": {"dataset": {"read_mb_s": 1}}}
                              for t in range(8)]
        proof["timeline"] = [{"t": 0.2 * i, "case": "alone", "victim_mb_s": 9, "neighbour_mb_s": 0, "idle_fraction": 0}
                             for i in range(9)]
    else:
        record = {"pipeline": "p", "run_id": "r", "steps": []}
        proof = None
    make(record, proof)
    done = subprocess.run([CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr",
                           f"--user-data-dir={tmp_path}/browser", f"--blink-settings=preferredColorScheme={scheme}",
                           "--virtual-time-budget=2000", "--dump-dom", f"file://{tmp_path}/out/report.html"],
                          capture_output=True, text=True, timeout=90)
    assert done.returncode == 0 and "Reproduce this run" in done.stdout, done.stderr
    assert "CONSOLE" not in done.stderr, done.stderr
    body = done.stdout.split("<main>")[1].split("</main>")[0]
    assert "NaN" not in body and "undefined" not in body and "not measured" in body

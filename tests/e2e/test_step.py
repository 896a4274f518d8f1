# SPDX-License-Identifier: Apache-2.0
"""The step helper: a no-op alone, true lines and waiting for durability inside of a pipeline."""
import json
import pathlib
import socket
import sys
import threading

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "python"))
from penstock import step  # noqa: E402


@pytest.fixture(autouse=True)
def clean(monkeypatch):
    for name in ("EVENTS", "CONTROL", "STEP", "ATTEMPT", "RUN_ID", "VOLUME_DATA_SET"):
        monkeypatch.delenv("PENSTOCK_" + name, raising=False)


def test_version_of_a_clone(monkeypatch):
    """Name and uuid of what a volume is a clone of; None for other volumes and outside of a pipeline."""
    monkeypatch.delenv("PENSTOCK_VERSION_TRAIN_DATA", raising=False)
    assert step.version("train-data") is None
    monkeypatch.setenv("PENSTOCK_VERSION_TRAIN_DATA", "dataset@v1 1234-5")
    assert step.version("train-data") == ("dataset@v1", "1234-5")


@pytest.fixture
def events(tmp_path, monkeypatch):
    path = tmp_path / "events.jsonl"
    monkeypatch.setenv("PENSTOCK_EVENTS", str(path))
    return lambda: [json.loads(line) for line in path.read_text().splitlines()]


class Runner:
    """A control socket that answers each request with the next of `answers` (bytes)."""

    def __init__(self, path, answers):
        self.requests = []
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.bind(str(path))
        self.socket.listen()
        self.thread = threading.Thread(target=self.serve, args=(answers,), daemon=True)
        self.thread.start()

    def serve(self, answers):
        for answer in answers:
            connection, _ = self.socket.accept()
            with connection:
                self.requests.append(json.loads(connection.makefile().readline()))
                for byte in answer:
                    connection.sendall(bytes([byte]))  # split answers must be put together


@pytest.fixture
def runner(tmp_path, monkeypatch):
    def start(*answers):
        monkeypatch.setenv("PENSTOCK_CONTROL", str(tmp_path / "control"))
        return Runner(tmp_path / "control", answers)
    return start


# Without the runner's environment everything is a no-op and nothing is written.
def test_alone_it_does_nothing(tmp_path):
    target = tmp_path / "checkpoint"
    with step.train_step(1) as s:
        with s.data_wait():
            pass
    with step.checkpoint(1, target):
        target.write_bytes(b"x")
    step.metric("loss", 1.0)
    step.result("evaluate", accuracy=1.0)
    assert not step.active() and step.attempt() == 1 and step.run_id() is None
    assert [p.name for p in tmp_path.iterdir()] == ["checkpoint"]


# A training step carries its number, its times and what it read; waiting adds up.
def test_train_step_reports_wait_and_bytes(events):
    with step.train_step(7, epoch=1, samples=64) as s:
        with s.data_wait():
            pass
        with s.data_wait():
            pass
        s.bytes += 100
    (e,) = events()
    assert (e["event"], e["n"], e["epoch"], e["samples"], e["bytes"]) == ("train_step", 7, 1, 64, 100)
    assert 0 <= e["data_wait_s"] <= e["seconds"] and e["t"] > 1e9


# A step that raises did not happen.
def test_failed_train_step_is_not_reported(events):
    step.metric("before", 1)
    with pytest.raises(ValueError):
        with step.train_step(1):
            raise ValueError
    assert [e["event"] for e in events()] == ["metric"]


# checkpoint_end comes after the runner said that the file is durable, under its absolute path.
def test_checkpoint_persists_before_it_ends(tmp_path, events, runner, monkeypatch):
    monkeypatch.chdir(tmp_path)
    r = runner(b'{"ok":true}\n')
    with step.checkpoint(3, "ckpt"):
        pathlib.Path("ckpt").write_bytes(b"12345")
    assert r.requests == [{"op": "persist", "path": str(tmp_path / "ckpt")}]
    assert [(e["event"], e["n"]) for e in events()] == [("checkpoint_begin", 3), ("checkpoint_end", 3)]
    assert events()[1]["bytes"] == 5


# A refusal ends the step and the checkpoint is never reported complete.
@pytest.mark.parametrize("answer", [b'{"ok":false,"error":"no space"}\n', b"nonsense\n", b"[]\n", b""])
def test_refused_persist_raises(tmp_path, events, runner, answer):
    runner(answer)
    with pytest.raises(step.StepError):
        with step.checkpoint(3, tmp_path / "ckpt"):
            pass
    assert [e["event"] for e in events()] == ["checkpoint_begin"]


# A runner that is gone is an error, not a silent success.
def test_unreachable_runner_raises(tmp_path, monkeypatch):
    monkeypatch.setenv("PENSTOCK_CONTROL", str(tmp_path / "nobody"))
    with pytest.raises(OSError):
        step.persist(tmp_path / "x")


# An event file that can't be written costs one warning, not the work.
def test_unwritable_events_warn_once(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PENSTOCK_EVENTS", str(tmp_path / "no" / "where"))
    monkeypatch.setattr(step, "_warned", False)
    step.metric("a", 1)
    step.metric("b", 2)
    assert capsys.readouterr().err.count("penstock.step") == 1


# Volumes are found by upper case name with underscores; the error names the variable to set.
def test_volume_directory(monkeypatch):
    with pytest.raises(step.StepError, match="PENSTOCK_VOLUME_DATA_SET"):
        step.volume("data-set")
    monkeypatch.setenv("PENSTOCK_VOLUME_DATA_SET", "/d")
    assert step.volume("data-set") == pathlib.Path("/d")

# SPDX-License-Identifier: Apache-2.0
"""penstock run with versions: snapshots that steps take, clones that steps use, over every mount path."""

import os
import subprocess

import pytest

from conftest import Penstockd
from test_run import PATHS, World, daemon_missing, usable

# prep writes a dataset that train reads as dataset@v1, while edit changes the volume itself.
PIPELINE = """
pipeline: v
volumes:
  dataset: {size: 64Mi, profile: dataset}
  train-data: {clone: "dataset@v1"}
  out: {size: 64Mi, profile: artifact}
steps:
  - {name: prep, command: [/bin/sh, prep.sh], volumes: {dataset: rw}, snapshots: {dataset: v1}}
  - {name: edit, command: [/bin/sh, edit.sh], needs: [prep], volumes: {dataset: rw}, snapshots: {dataset: v2}}
  - name: train
    command: "cat $PENSTOCK_VOLUME_TRAIN_DATA/* > $PENSTOCK_VOLUME_OUT/model; echo $PENSTOCK_VERSION_TRAIN_DATA; cat $PENSTOCK_VOLUME_OUT/model"
    needs: [edit]
    volumes: {train-data: ro, out: rw}
    inputs: ["dataset@v1:/"]
"""
PREP = "rm -rf $PENSTOCK_VOLUME_DATASET/[a-z]*; echo one > $PENSTOCK_VOLUME_DATASET/f\n"


@pytest.fixture(scope="module")
def real_missing(tmp_path_factory):
    return daemon_missing() or versions_missing(tmp_path_factory.mktemp("probe"))


@pytest.fixture(params=["fake", "real"])
def world(request, tmp_path, real_missing):
    real = request.param == "real"
    if real and real_missing:
        pytest.skip(real_missing)
    (tmp_path / "world").mkdir()
    w = World(real, tmp_path / "world")
    (w.directory / "prep.sh").write_text(PREP)
    (w.directory / "edit.sh").write_text("echo two >> $PENSTOCK_VOLUME_DATASET/f\n")
    yield w
    w.end()


def versions_missing(directory):
    """Why this penstockd can't keep versions, or None."""
    daemon = Penstockd(directory, "--pool", directory / "pool", "--pool-size", "1Gi").start()
    try:
        daemon.call("POST", "/v1/volumes", {"name": "a", "size_bytes": 16 << 20})
        status, _ = daemon.call("POST", "/v1/snapshots", {"members": [{"volume": "a", "name": "s"}]})
        return None if status < 300 else f"this penstockd takes no snapshots yet (answer {status})"
    finally:
        daemon.end()


def status(world):
    return [s["status"] for s in world.record()["steps"]]


def versions(world):
    return {v["name"]: v for v in world.record()["versions"]}


@pytest.mark.parametrize("path", PATHS)
def test_pinned_version_stays_while_its_volume_changes(world, path):
    """train reads what prep wrote, not what edit made of it; the record says which version, and the clone owns nothing."""
    if usable(path):
        pytest.skip(usable(path))
    world.run(PIPELINE, path=path)
    assert world.log("train").splitlines()[-1] == "one"
    v = versions(world)
    assert v["dataset@v1"]["status"] == v["dataset@v2"]["status"] == "taken"
    assert v["dataset@v1"]["step"] == "prep" and v["dataset@v1"]["read_by"] == ["train"]
    assert world.log("train").splitlines()[-2] == "dataset@v1 " + v["dataset@v1"]["uuid"]
    assert v["dataset@v1"]["uuid"] != v["dataset@v2"]["uuid"] and len(v["dataset@v1"]["sha256"]) == 64
    (clone,) = v["dataset@v1"]["clones"]
    assert clone["volume"] == "v-train-data" and clone["own_bytes"] == 0 and clone["mapped_bytes"] > 0
    (use,) = [u for u in world.steps()["train"]["volumes"] if u["name"] == "train-data"]
    assert use["version"] == "dataset@v1" and use["version_uuid"] == v["dataset@v1"]["uuid"]
    assert use["bytes_read"] > 0 and use["bytes_written"] == 0
    # Everything is as it was, though the volume is not what prep left on it: its version is.
    world.run(PIPELINE, path=path)
    assert status(world) == ["cached"] * 3
    assert versions(world)["dataset@v1"]["status"] == "cached"
    assert versions(world)["dataset@v1"]["uuid"] == v["dataset@v1"]["uuid"]


@pytest.mark.parametrize("path", PATHS)
def test_snapshot_needs_no_replay(world, path):
    """The file system in a snapshot is whole and clean: e2fsck finds nothing, and no journal waits."""
    if world.real:
        pytest.skip("looks into the files of the stand-in")
    if usable(path):
        pytest.skip(usable(path))
    (world.directory / "prep.sh").write_text(
        "cd $PENSTOCK_VOLUME_DATASET; for i in $(seq 300); do echo $i > f$i; done; rm f1*; mkdir d; mv f2 d; "
        "head -c 3000000 /dev/urandom > big\n")
    world.run(PIPELINE, path=path)
    for name in ("v-dataset@v1", "v-dataset@v2"):
        image = world.images / name
        check = subprocess.run(["e2fsck", "-fn", image], capture_output=True, text=True)
        assert check.returncode == 0, check.stdout
        features = subprocess.run(["dumpe2fs", "-h", image], capture_output=True, text=True).stdout
        assert "needs_recovery" not in features and "Filesystem state:         clean" in features


def test_version_of_other_content_is_never_replaced(world):
    """The same content again keeps the version; other content under its name fails the step and changes nothing."""
    world.run(PIPELINE)
    uuid = versions(world)["dataset@v1"]["uuid"]
    out = world.run(PIPELINE, "--fresh")
    assert status(world) == ["succeeded"] * 3 and "still dataset@v1: the same content" in out
    assert versions(world)["dataset@v1"]["status"] == "kept" and versions(world)["dataset@v1"]["uuid"] == uuid
    (world.directory / "prep.sh").write_text(PREP.replace("one", "other"))
    out = world.run(PIPELINE.replace("[/bin/sh, prep.sh]", "sh prep.sh"), code=8)
    assert status(world) == ["failed", "skipped", "skipped"]
    assert "dataset@v1 exists and holds other content, and a version never changes" in out
    assert "penstock snapshot delete v-dataset@v1" in out
    # Named otherwise, it goes on, and the old one is still there.
    world.run(PIPELINE.replace("dataset: v1", "dataset: v3").replace("dataset@v1", "dataset@v3").replace(
        "dataset: v2", "dataset: v4"))
    assert world.log("train").splitlines()[-1] == "other"
    world.run("pipeline: v\nvolumes:\n  dataset: {size: 64Mi}\n  old: {clone: dataset@v1}\n"
              "steps:\n  - {name: look, command: cat $PENSTOCK_VOLUME_OLD/f, volumes: {old: ro}}\n")
    assert world.log("look").splitlines()[-1] == "one"


AUTO = """
pipeline: a
volumes:
  dataset: {size: 64Mi}
  data: {clone: dataset@latest}
steps:
  - {name: prep, command: [/bin/sh, prep.sh], volumes: {dataset: rw}, snapshots: {dataset: auto}}
  - {name: train, command: cat $PENSTOCK_VOLUME_DATA/f, needs: [prep], volumes: {data: ro}}
"""


def test_auto_counts_contents(world):
    """A new number for new content only; `latest` is what was pinned last, and a step runs again when it moves."""
    world.run(AUTO)
    assert list(versions(world)) == ["dataset@v1"]
    world.run(AUTO, "--fresh")
    assert list(versions(world)) == ["dataset@v1"] and versions(world)["dataset@v1"]["status"] == "kept"
    world.run(AUTO)
    assert status(world) == ["cached"] * 2
    (world.directory / "prep.sh").write_text(PREP.replace("one", "two"))
    world.run(AUTO)
    assert list(versions(world)) == ["dataset@v2"] and status(world) == ["succeeded"] * 2
    assert world.log("train").splitlines()[-1] == "two"


WRITTEN = """
pipeline: w
volumes:
  dataset: {size: 64Mi}
  scratch: {clone: "dataset@v1"}
steps:
  - {name: prep, command: [/bin/sh, prep.sh], volumes: {dataset: rw}, snapshots: {dataset: v1}}
  - {name: add, command: [/bin/sh, add.sh], needs: [prep], volumes: {scratch: rw}, retries: 1}
  - {name: look, command: cat $PENSTOCK_VOLUME_SCRATCH/f, needs: [add], volumes: {scratch: ro}}
"""


@pytest.mark.parametrize("path", PATHS)
def test_each_attempt_writes_a_clone_of_its_own(world, path):
    """A step that changes its clone in place finds the version again in its next attempt and in the next run."""
    if usable(path):
        pytest.skip(usable(path))
    (world.directory / "add.sh").write_text(
        "echo more >> $PENSTOCK_VOLUME_SCRATCH/f; sync; test $PENSTOCK_ATTEMPT = 2\n")
    world.run(WRITTEN, path=path)
    assert world.log("look").splitlines()[-2:] == ["one", "more"]
    assert versions(world)["dataset@v1"]["clones"][0]["own_bytes"] > 0
    world.run(WRITTEN, path=path)
    assert status(world) == ["cached"] * 3
    (world.directory / "add.sh").write_text("echo again >> $PENSTOCK_VOLUME_SCRATCH/f\n")
    world.run(WRITTEN, path=path)
    assert status(world) == ["cached", "succeeded", "succeeded"]
    assert world.log("look").splitlines()[-2:] == ["one", "again"]


def test_missing_version_is_named(world):
    """A clone of what nobody has taken: volume, version and the next step are named; nothing else is run for it."""
    text = ("pipeline: m\nvolumes:\n  dataset: {size: 64Mi}\n  c: {clone: dataset@v7}\n"
            "steps:\n  - {name: use, command: 'true', volumes: {c: ro}}\n")
    out = world.run(text, code=8)
    assert "volume 'c' is a clone of dataset@v7, which does not exist" in out
    assert "penstock snapshot create m-dataset@v7" in out


def test_volume_that_is_no_clone_is_not_touched(world):
    """A volume with data is not deleted because the file now says that it is a clone."""
    world.run("pipeline: n\nvolumes:\n  x: {size: 64Mi}\nsteps:\n"
              "  - {name: a, command: echo mine > $PENSTOCK_VOLUME_X/f, volumes: {x: rw}}\n")
    out = world.run("pipeline: n\nvolumes:\n  d: {size: 64Mi}\n  x: {clone: d@v1}\nsteps:\n"
                    "  - {name: a, command: 'true', volumes: {d: rw}, snapshots: {d: v1}}\n"
                    "  - {name: b, command: 'true', needs: [a], volumes: {x: ro}}\n", code=1)
    assert "volume 'n-x' is to be a clone, but a volume that is none has this name" in out
    world.run("pipeline: n\nvolumes:\n  x: {size: 64Mi}\nsteps:\n"
              "  - {name: a, command: cat $PENSTOCK_VOLUME_X/f, volumes: {x: ro}}\n")
    assert world.log("a").splitlines()[-1] == "mine"


def test_failed_step_pins_nothing(world):
    """A step that fails takes no snapshot, and what it left is not taken for a version later."""
    (world.directory / "prep.sh").write_text(PREP + "exit 3\n")
    world.run(PIPELINE, code=8)
    assert world.record()["versions"] == []
    (world.directory / "prep.sh").write_text(PREP)
    world.run(PIPELINE)
    assert world.log("train").splitlines()[-1] == "one"


def test_checked_dataset_is_pinned_by_who_checked_it(world):
    """A step that only reads a volume may pin it: what has passed its checks becomes the version."""
    world.run("pipeline: k\nvolumes:\n  d: {size: 64Mi}\n  c: {clone: d@good}\nsteps:\n"
              "  - {name: a, command: echo 5 > $PENSTOCK_VOLUME_D/f, volumes: {d: rw}}\n"
              "  - {name: check, command: grep -q 5 $PENSTOCK_VOLUME_D/f, needs: [a], volumes: {d: ro},"
              " snapshots: {d: good}}\n"
              "  - {name: use, command: cat $PENSTOCK_VOLUME_C/f, needs: [check], volumes: {c: ro}}\n")
    assert world.log("use").splitlines()[-1] == "5"
    assert versions(world)["d@good"]["step"] == "check" and len(versions(world)["d@good"]["sha256"]) == 64


def test_dry_run_shows_versions(world):
    """Clones and snapshots stand in the plan."""
    out = world.run(PIPELINE, "--dry-run")
    assert "volume v-train-data: clone of dataset@v1, profile dataset, ext4" in out
    assert "snapshots dataset@v1" in out and not os.path.exists(world.directory / "rec")

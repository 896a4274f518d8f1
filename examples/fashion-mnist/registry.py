# SPDX-License-Identifier: Apache-2.0
"""The model registry on the volume `artifact`: models/NAME/vNNNN/{model.pt,manifest.json} and models/NAME/latest.json.

A version never changes. Its manifest holds checksum, size, metrics and lineage; `latest.json` is replaced atomically,
last, so that readers see a whole version or the one before.
"""
import hashlib
import io
import re

from blockio import read_json, sync_dir, write_atomic, write_json
from penstock import step

NAME = "fashion-mnist"


def publish(root, payload, manifest):
    """Add a version; returns its name. Durable when this returns."""
    base = root / "models" / NAME
    base.mkdir(parents=True, exist_ok=True)
    numbers = [int(m.group(1)) for p in base.iterdir() if (m := re.fullmatch(r"v(\d+)", p.name))]
    version = f"v{max(numbers, default=0) + 1:04d}"
    directory = base / version
    directory.mkdir()
    write_atomic(directory / "model.pt", payload)
    write_json(directory / "manifest.json", dict(
        manifest, name=NAME, version=version, file="model.pt", bytes=len(payload),
        sha256=hashlib.sha256(payload).hexdigest()))
    for path in (base, base.parent, root):
        sync_dir(path)
    write_json(base / "latest.json", {"version": version})
    for path in (directory / "model.pt", directory / "manifest.json", base / "latest.json"):
        step.persist(path)
    return version


def latest(root):
    """The newest version's directory and manifest."""
    base = root / "models" / NAME
    try:
        directory = base / read_json(base / "latest.json")["version"]
    except FileNotFoundError:
        raise SystemExit(f"{base}: no model is registered; run the register step first") from None
    return directory, read_json(directory / "manifest.json")


def load_latest(root):
    """The newest version's network and manifest, checksum verified."""
    import torch  # not at the top: most users of this file need no framework, which takes seconds to load
    from model import Net

    directory, manifest = latest(root)
    payload = (directory / manifest["file"]).read_bytes()
    if len(payload) != manifest["bytes"] or hashlib.sha256(payload).hexdigest() != manifest["sha256"]:
        raise SystemExit(f"{directory / manifest['file']}: checksum mismatch; register the model again")
    net = Net()
    net.load_state_dict(torch.load(io.BytesIO(payload)))
    net.eval()
    return net, manifest

# SPDX-License-Identifier: Apache-2.0
"""Stage 4, train: two epochs of a small CNN, with checkpoints that a killed run goes on from, bit for bit.

A checkpoint holds everything that the rest of the training depends on: weights, optimizer, torch's random state, the
order's generator, the order of the running epoch and the position in it. It is written to a temporary file, synced,
renamed, and counts only when the runner says that it is durable on its volume. The last two are kept; the newest that
is whole is used. A checkpoint of other code, data or settings, or of a finished earlier run, is never resumed from.
"""
import hashlib
import io
import json
import os
import re
import struct

import numpy
import torch
from torch.nn import functional

from blockio import code_sha256, read_json, sync_dir, write_atomic, write_json
from model import Net, make_deterministic, to_input
from penstock import step
from shards import GROUP_CHUNKS, Dataset, Loader

SEED = int(os.environ.get("SEED", "1"))
EPOCHS = int(os.environ.get("EPOCHS", "2"))
BATCH = int(os.environ.get("BATCH", "64"))
CHECKPOINT_STEPS = int(os.environ.get("CHECKPOINT_STEPS", "200"))
RATE = 2e-3
KEEP = 2
MAGIC = b"PSTCKPT1"


def epoch_order(dataset, generator):
    """Shuffle chunks, then records within groups of chunks. Returns tensors, which checkpoints keep."""
    places = torch.randperm(len(dataset.places), generator=generator)
    orders = []
    for first in range(0, len(places), GROUP_CHUNKS):
        count = sum(dataset.chunk_records(int(p)) for p in places[first: first + GROUP_CHUNKS])
        orders.append(torch.randperm(count, generator=generator))
    return {"places": places, "orders": orders}


def epoch_plan(order):
    places = order["places"].tolist()
    return [(places[i * GROUP_CHUNKS: (i + 1) * GROUP_CHUNKS], o.numpy()) for i, o in enumerate(order["orders"])]


class Training:
    """All state that training changes; `save` and `load` are its checkpoint."""

    def __init__(self, dataset, key):
        make_deterministic(SEED)
        self.dataset, self.key = dataset, key
        self.net = Net()
        self.optimizer = torch.optim.Adam(self.net.parameters(), lr=RATE)
        self.generator = torch.Generator().manual_seed(SEED)
        self.n = self.epoch = self.batch = 0  # steps done; the epoch, and the next batch in it
        self.batches = -(-dataset.records // BATCH)
        self.order = epoch_order(dataset, self.generator)

    def save(self):
        buffer = io.BytesIO()
        torch.save({"key": self.key, "net": self.net.state_dict(), "optimizer": self.optimizer.state_dict(),
                    "rng": torch.get_rng_state(), "generator": self.generator.get_state(), "n": self.n,
                    "epoch": self.epoch, "batch": self.batch, "order": self.order, "run_id": step.run_id()}, buffer)
        payload = buffer.getvalue()
        return MAGIC + struct.pack("<Q", len(payload)) + hashlib.sha256(payload).digest() + payload

    def load(self, state):
        self.net.load_state_dict(state["net"])
        self.optimizer.load_state_dict(state["optimizer"])
        torch.set_rng_state(state["rng"])
        self.generator.set_state(state["generator"])
        self.n, self.epoch, self.batch, self.order = state["n"], state["epoch"], state["batch"], state["order"]

    def set_rate(self):
        """The learning rate falls linearly over all steps; it follows from the position, so no checkpoint holds it."""
        left = 1 - self.n / (self.batches * EPOCHS)
        for group in self.optimizer.param_groups:
            group["lr"] = RATE * max(left, 0.02)

    def finished(self):
        return self.epoch >= EPOCHS


def read_checkpoint(path):
    """The state in a checkpoint file; ValueError when it is cut short or damaged."""
    data = path.read_bytes()
    head = len(MAGIC) + 8 + 32
    if len(data) < head or data[: len(MAGIC)] != MAGIC:
        raise ValueError("not a checkpoint")
    length = struct.unpack("<Q", data[len(MAGIC): len(MAGIC) + 8])[0]
    payload = data[head:]
    if len(payload) != length or hashlib.sha256(payload).digest() != data[len(MAGIC) + 8: head]:
        raise ValueError("cut short or damaged")
    return torch.load(io.BytesIO(payload))


def checkpoints(directory):
    """Checkpoint files, newest first."""
    found = [(int(m.group(1)), p) for p in directory.iterdir() if (m := re.fullmatch(r"step-(\d+)\.ckpt", p.name))]
    return [p for _, p in sorted(found, reverse=True)]


def resume_from(directory, key):
    """The state to go on from, or None. Checkpoints of something else are removed, so that they can't mix."""
    for path in checkpoints(directory):
        try:
            state = read_checkpoint(path)
        except (OSError, ValueError) as error:
            print(f"train: {path.name}: {error}; taking the one before")
            continue
        same_run = state["run_id"] == step.run_id() and step.attempt() > 1
        if state["key"] == key and (same_run or state["epoch"] < EPOCHS):
            return state
        break
    for path in checkpoints(directory):
        path.unlink()
    sync_dir(directory)
    return None


def checkpoint(training, directory):
    path = directory / f"step-{training.n:06d}.ckpt"
    with step.checkpoint(training.n, path) as c:
        c.bytes = write_atomic(path, training.save())
    for old in checkpoints(directory)[KEEP:]:
        old.unlink()


def train_epoch(training, directory, mean, std):
    """The rest of the running epoch. Returns the loss of its last step."""
    loader = Loader(training.dataset, epoch_plan(training.order), BATCH, first=training.batch)
    batches, loss = iter(loader), None
    try:
        while training.batch < training.batches:
            n = training.n + 1
            before = training.dataset.bytes_read
            with step.train_step(n, epoch=training.epoch) as s:
                with s.data_wait():
                    records = next(batches)
                training.set_rate()
                labels = torch.from_numpy(records[:, 0].astype(numpy.int64))
                loss = functional.cross_entropy(training.net(to_input(records[:, 1:], mean, std)), labels)
                training.optimizer.zero_grad()
                loss.backward()
                training.optimizer.step()
                s.samples, s.bytes = len(labels), training.dataset.bytes_read - before
            training.n, training.batch = n, training.batch + 1
            if training.n % CHECKPOINT_STEPS == 0:
                step.metric("loss", round(loss.item(), 6))
                checkpoint(training, directory)
    finally:
        loader.close()
    return loss.item() if loss is not None else None


def main():
    source, out = step.volume("train-data"), step.volume("checkpoint")
    manifest = read_json(source / "manifest.json")
    dataset = Dataset(source, manifest, "train")
    settings = {"seed": SEED, "epochs": EPOCHS, "batch": BATCH, "code": code_sha256(), "dataset": manifest["version"]}
    key = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()
    training = Training(dataset, key)
    state = resume_from(out, key)
    if state is not None:
        training.load(state)
        step.resume(training.n)
        print(f"train: goes on after step {training.n} (epoch {training.epoch + 1}, batch {training.batch})", flush=True)
    while not training.finished():
        loss = train_epoch(training, out, manifest["mean"], manifest["std"])
        training.epoch, training.batch = training.epoch + 1, 0
        if not training.finished():
            training.order = epoch_order(dataset, training.generator)
        print(f"train: epoch {training.epoch} of {EPOCHS}, step {training.n}, loss {loss}", flush=True)
    checkpoint(training, out)
    buffer = io.BytesIO()
    torch.save(training.net.state_dict(), buffer)
    final = out / "model.pt"
    write_atomic(final, buffer.getvalue())
    step.persist(final)
    weights = hashlib.sha256(b"".join(v.numpy().tobytes() for v in training.net.state_dict().values())).hexdigest()
    parameters = sum(p.numel() for p in training.net.parameters())
    write_json(out / "train.json", {**settings, "steps": training.n, "parameters": parameters, "weights_sha256": weights,
                                    "data": step.version("train-data"), "mean": manifest["mean"], "std": manifest["std"]})
    step.persist(out / "train.json")
    step.result("train", steps=training.n, parameters=parameters, weights_sha256=weights, read_path=dataset.mode,
                epochs=EPOCHS, batch=BATCH, threads=torch.get_num_threads())
    print(f"train: {training.n} steps, {parameters} parameters, reads {dataset.mode}, weights {weights[:12]}")


if __name__ == "__main__":
    main()

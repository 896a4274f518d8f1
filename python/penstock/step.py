# SPDX-License-Identifier: Apache-2.0
"""Tell the pipeline runner what a step does: step times, data wait, checkpoints, metrics and results.

The runner (`penstock run`) gives a step its volumes, a file for event lines and a control socket in its environment.
Every function here does nothing where that environment is missing, so that a script runs alone as it runs in a
pipeline; only `volume()` needs its variable, which one can set by hand to any directory.

Events are JSON lines, one write(2) each with O_APPEND, so that several processes of one step may report to one file.
A line that can't be written is dropped with one warning on stderr: reporting must never end the work it reports on.
`persist()` is the exception: it raises, since work that goes on without a durable checkpoint would be a lie.

    from penstock import step

    with step.train_step(n, epoch=0, samples=64) as s:
        with s.data_wait():
            batch = next(loader)
        s.bytes += batch.nbytes
        ...
    with step.checkpoint(n, path) as ckpt:
        ckpt.bytes = save(path)             # write, fsync, rename; the end of the block persists `path`

Threads: any; a train_step or checkpoint object belongs to one thread.
"""
import contextlib
import json
import os
import pathlib
import socket
import sys
import time

_CONTROL_TIMEOUT_S = 300.0
_CONTROL_REPLY_BYTES_MAX = 65536
_warned = False


class StepError(RuntimeError):
    """The runner refused or could not do what the step asked for."""


def active():
    """Is this process a step of a running pipeline?"""
    return bool(os.environ.get("PENSTOCK_STEP"))


def attempt():
    """Which attempt of this step this is; 1 is the first, and the answer outside of a pipeline."""
    try:
        return max(1, int(os.environ.get("PENSTOCK_ATTEMPT", "1")))
    except ValueError:
        return 1


def run_id():
    """The run's id, or None outside of a pipeline."""
    return os.environ.get("PENSTOCK_RUN_ID") or None


def volume(name):
    """The directory of the volume `name` as a Path. Raises StepError where its variable is not set."""
    variable = "PENSTOCK_VOLUME_" + name.upper().replace("-", "_")
    value = os.environ.get(variable)
    if not value:
        raise StepError(f"volume '{name}': {variable} is not set; list the volume under this step's 'volumes' in the "
                        f"pipeline file, or set {variable} to a directory to run the script alone")
    return pathlib.Path(value)


def version(name):
    """What the volume `name` is a clone of, as ("dataset@v1", uuid); None if it is none, or outside of a pipeline."""
    words = os.environ.get("PENSTOCK_VERSION_" + name.upper().replace("-", "_"), "").split()
    return tuple(words) if len(words) == 2 else None


def emit(event, **fields):
    """Append one event line; None values are left out."""
    path = os.environ.get("PENSTOCK_EVENTS")
    if not path:
        return
    record = {"t": time.time(), "event": event}
    record.update((k, v) for k, v in fields.items() if v is not None)
    line = (json.dumps(record, separators=(",", ":"), allow_nan=False) + "\n").encode()
    try:
        fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            os.write(fd, line)
        finally:
            os.close(fd)
    except OSError as error:
        _warn_once(f"penstock.step: {path}: {error.strerror}; events of this step are lost, the step goes on")


def metric(name, value):
    """Report a number, such as a loss or an accuracy."""
    emit("metric", name=name, value=value)


def result(stage, **fields):
    """Report what a stage came to; the fields appear in the run's report."""
    emit("result", stage=stage, **fields)


def resume(n):
    """Report that the work goes on after step `n`, read from a checkpoint."""
    emit("resume", n=n)


def persist(path):
    """Wait until the file `path` is durable on its volume. A no-op without a control socket (fsync is the caller's).

    Raises StepError when the runner says no, and OSError when it can't be reached.
    """
    control = os.environ.get("PENSTOCK_CONTROL")
    if not control:
        return
    request = json.dumps({"op": "persist", "path": os.path.abspath(path)}) + "\n"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as s:
        s.settimeout(_CONTROL_TIMEOUT_S)
        s.connect(control)
        s.sendall(request.encode())
        reply = _read_line(s)
    try:
        answer = json.loads(reply)
    except ValueError:
        raise StepError(f"persist {path}: the runner's answer is not JSON: {reply[:80]!r}") from None
    if not isinstance(answer, dict) or answer.get("ok") is not True:
        reason = answer.get("error") if isinstance(answer, dict) else answer
        raise StepError(f"persist {path}: {reason or 'refused by the runner'}")


class _TrainStep:
    """Times of one training step; `bytes` and `samples` may be changed until the block ends."""

    def __init__(self, n, epoch, samples):
        self.n, self.epoch, self.samples, self.bytes = n, epoch, samples, 0
        self.data_wait_s = 0.0

    @contextlib.contextmanager
    def data_wait(self):
        """Time that the step waits for data; adds up over several uses."""
        begin = time.perf_counter()
        try:
            yield
        finally:
            self.data_wait_s += time.perf_counter() - begin


@contextlib.contextmanager
def train_step(n, epoch=None, samples=None):
    """One training step; reported when the block ends without an exception."""
    s = _TrainStep(n, epoch, samples)
    begin = time.perf_counter()
    yield s
    emit("train_step", n=n, epoch=s.epoch, seconds=round(time.perf_counter() - begin, 6),
         data_wait_s=round(s.data_wait_s, 6), samples=s.samples, bytes=s.bytes)


class _Checkpoint:
    def __init__(self):
        self.bytes = None


@contextlib.contextmanager
def checkpoint(n, path):
    """Writing the checkpoint of step `n` to `path`. When the block ends, waits until `path` is durable on its volume.

    `checkpoint_end` is reported only then; a block that raises reports nothing more and is no checkpoint.
    """
    emit("checkpoint_begin", n=n)
    c = _Checkpoint()
    begin = time.perf_counter()
    yield c
    persist(path)
    if c.bytes is None:
        c.bytes = os.stat(path).st_size
    emit("checkpoint_end", n=n, bytes=c.bytes, seconds=round(time.perf_counter() - begin, 6))


def _read_line(s):
    data = b""
    while not data.endswith(b"\n"):
        part = s.recv(4096)
        if not part:
            break
        data += part
        if len(data) > _CONTROL_REPLY_BYTES_MAX:
            raise StepError("the runner's answer is too long")
    return data.decode("utf-8", "replace")


def _warn_once(message):
    global _warned
    if not _warned:
        _warned = True
        print(message, file=sys.stderr)

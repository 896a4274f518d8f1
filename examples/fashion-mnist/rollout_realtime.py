# SPDX-License-Identifier: Apache-2.0
"""Stage 7b, rollout-realtime: the registered model behind HTTP, health-checked, put under a short load, and stopped.

The service is a process of its own on a free loopback port: GET /healthz, POST /predict (784 bytes in, JSON out). The
load is bounded: REQUESTS requests from CONCURRENCY clients that each wait for their answer. Every answer is compared
with the batch rollout's prediction of the same image.
"""
import http.client
import http.server
import json
import os
import select
import subprocess
import sys
import threading
import time

import numpy
import torch

from blockio import read_json
from model import CLASSES, to_input
from penstock import step
from registry import load_latest
from shards import Dataset

REQUESTS = int(os.environ.get("REQUESTS", "400"))
CONCURRENCY = int(os.environ.get("CONCURRENCY", "4"))
START_TIMEOUT_S = 60.0
REQUEST_TIMEOUT_S = 10.0


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    model = None  # network, manifest, lock: set by serve()

    def do_GET(self):
        if self.path == "/healthz":
            self.answer(200, {"status": "ok", "version": self.model[1]["version"]})
        else:
            self.answer(404, {"error": f"no such path: {self.path}; there are /healthz and /predict"})

    def do_POST(self):
        length = self.headers.get("Content-Length", "")
        if self.path != "/predict" or length != "784":
            self.close_connection = True  # the body was not read
            self.answer(400, {"error": "POST /predict takes one image of 784 bytes"})
            return
        net, manifest, lock = self.model
        pixels = numpy.frombuffer(self.rfile.read(784), dtype=numpy.uint8).reshape(1, 784)
        with lock, torch.no_grad():
            scores = net(to_input(pixels, manifest["input"]["mean"], manifest["input"]["std"])).softmax(dim=1)[0]
        label = int(scores.argmax())
        self.answer(200, {"label": label, "class": CLASSES[label], "score": round(float(scores[label]), 4)})

    def answer(self, status, value):
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def serve():
    """The service: says its port on stdout, ends when its stdin closes (so it can't outlive the step)."""
    torch.set_num_threads(1)
    begin = time.perf_counter()
    net, manifest = load_latest(step.volume("artifact"))
    load_s = time.perf_counter() - begin
    Handler.model = (net, manifest, threading.Lock())
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(json.dumps({"port": server.server_address[1], "load_s": load_s, "version": manifest["version"]}), flush=True)
    sys.stdin.read()
    server.shutdown()


def start_service():
    service = subprocess.Popen([sys.executable, __file__, "--serve"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    ready, _, _ = select.select([service.stdout], [], [], START_TIMEOUT_S)
    line = service.stdout.readline() if ready else b""
    if not line:
        stop_service(service)
        raise SystemExit("rollout-realtime: the service did not start; its message stands above")
    return service, json.loads(line)


def stop_service(service):
    service.stdin.close()
    try:
        return service.wait(timeout=10)
    except subprocess.TimeoutExpired:
        service.kill()
        service.wait()
        raise SystemExit("rollout-realtime: the service did not stop by itself") from None


def client(port, images, expected, numbers, latencies, errors):
    """One client: its share of the requests, one after the other on one connection."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=REQUEST_TIMEOUT_S)
    for i in numbers:
        begin = time.perf_counter()
        try:
            connection.request("POST", "/predict", body=images[i].tobytes())
            response = connection.getresponse()
            answer = json.loads(response.read())
        except (OSError, http.client.HTTPException, ValueError) as error:
            errors.append(f"request {i}: {error}")
            connection.close()
            continue
        latencies.append(time.perf_counter() - begin)
        if response.status != 200 or answer.get("label") != expected[i]:
            errors.append(f"request {i}: status {response.status}, answer {answer}, expected label {expected[i]}")
    connection.close()


def load(port, images, expected):
    """Returns (seconds, latencies, errors) of the whole load."""
    latencies, errors = [], []
    share = [range(c, REQUESTS, CONCURRENCY) for c in range(CONCURRENCY)]
    threads = [threading.Thread(target=client, args=(port, images, expected, s, latencies, errors)) for s in share]
    begin = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return time.perf_counter() - begin, sorted(latencies), errors


def check_health(port):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=REQUEST_TIMEOUT_S)
    connection.request("GET", "/healthz")
    response = connection.getresponse()
    body = json.loads(response.read())
    connection.close()
    if response.status != 200 or body.get("status") != "ok":
        raise SystemExit(f"rollout-realtime: not healthy: status {response.status}, {body}")


def main():
    source, artifact = step.volume("train-data"), step.volume("artifact")
    service, hello = start_service()
    try:
        images, expected = first_images(source, artifact, hello["version"])
        check_health(hello["port"])
        seconds, latencies, errors = load(hello["port"], images, expected)
    finally:
        code = stop_service(service)
    if errors or code != 0:
        raise SystemExit(f"rollout-realtime: {len(errors)} of {REQUESTS} requests failed, service exit {code}; "
                         f"first: {errors[:1]}")
    p50, p99 = (1e3 * latencies[min(len(latencies) - 1, int(len(latencies) * q))] for q in (0.50, 0.99))
    step.result("rollout_realtime", model_version=hello["version"], requests=len(latencies), concurrency=CONCURRENCY,
                errors=0, requests_per_s=round(len(latencies) / seconds, 1), p50_ms=round(p50, 3), p99_ms=round(p99, 3),
                load_s=round(hello["load_s"], 4))
    print(f"rollout-realtime: {hello['version']}, {len(latencies)} requests by {CONCURRENCY} clients, "
          f"{len(latencies) / seconds:.0f}/s, p50 {p50:.2f} ms, p99 {p99:.2f} ms, stopped")


def first_images(source, artifact, version):
    """Images of the test set and what the batch rollout predicted for them."""
    dataset, parts, count = Dataset(source, read_json(source / "manifest.json"), "test"), [], 0
    for records in dataset.in_order():
        parts.append(records[:, 1:])
        count += len(records)
        if count >= REQUESTS:
            break
    images = numpy.concatenate(parts)
    predicted = (artifact / f"predictions-{version}.bin").read_bytes()
    if len(images) < REQUESTS:
        images = numpy.resize(images, (REQUESTS, 784))
        predicted = bytes(numpy.resize(numpy.frombuffer(predicted, dtype=numpy.uint8), REQUESTS))
    return images, predicted


if __name__ == "__main__":
    serve() if sys.argv[1:] == ["--serve"] else main()

# SPDX-License-Identifier: Apache-2.0
"""The OpenAPI document and the daemon say the same: every path, every method, every schema; and the metrics parse."""

import re

import jsonschema
import pytest

BODIES = {
    "volume": ({"name": "v", "size_bytes": 1 << 20, "profile": "dataset", "policy": {"limit_iops": 10}},
               {"policy": {"weight": 5}}),
    "tenant": ({"name": "t", "quota_bytes": 1 << 30}, {"policy": {"reserve_iops": 5}}),
    "profile": ({"name": "p", "summary": "mine"}, {"summary": "changed"}),
}


@pytest.fixture
def document(penstockd):
    status, document = penstockd.call("GET", "/openapi.json")
    assert status == 200 and document["openapi"].startswith("3.0")
    return document


def check(document, path, method, status, body):
    """What came back is what the document promises for this status."""
    responses = document["paths"][path][method]["responses"]
    assert str(status) in responses, f"{method} {path} answered {status}, which is not documented: {body}"
    response = responses[str(status)]
    if "$ref" in response:
        response = document["components"]["responses"][response["$ref"].rsplit("/", 1)[1]]
    content = response.get("content", {})
    if "application/json" not in content:
        assert body is None or "text/plain" in content
        return
    schema = {**content["application/json"]["schema"], "components": document["components"]}
    jsonschema.Draft7Validator(schema).validate(body)


def request_is_valid(document, path, method, body):
    schema = document["paths"][path][method]["requestBody"]["content"]["application/json"]["schema"]
    jsonschema.Draft7Validator({**schema, "components": document["components"]}).validate(body)


def test_every_path_and_method(penstockd, document):
    """Each documented call is made, with success and with an error, and each answer fits its schema."""
    called = set()

    def call(method, path, name=None, body=None, expect=None):
        status, answer = penstockd.call(method, path.replace("{name}", name or "").replace("{task}", "scrub"), body)
        check(document, path, method.lower(), status, answer)
        if expect:
            assert status == expect, answer
        called.add((path, method.lower()))

    for word, (create, change) in BODIES.items():
        many, one = f"/v1/{word}s", f"/v1/{word}s/{{name}}"
        request_is_valid(document, many, "post", create)
        request_is_valid(document, one, "patch", change)
        call("POST", many, body=create, expect=201)
        call("POST", many, body=create, expect=409)
        call("POST", many, body={}, expect=400)
        call("GET", many, expect=200)
        call("GET", one, create["name"], expect=200)
        call("GET", one, "none", expect=404)
        call("PATCH", one, create["name"], change, 200)
        call("PATCH", one, "none", change, 404)
        call("PATCH", one, create["name"], {"nonsense": 1}, 400)
    call("POST", "/v1/snapshots", body={"members": [{"volume": "v", "name": "s"}]}, expect=501)
    call("POST", "/v1/snapshots", body={"members": []}, expect=400)
    call("GET", "/v1/snapshots", expect=200)
    call("GET", "/v1/snapshots/{name}", "v@s", expect=404)
    call("DELETE", "/v1/snapshots/{name}", "v@s", expect=404)
    call("GET", "/v1/snapshots/{name}/diff", "v@s", expect=404)
    call("POST", "/v1/volumes/{name}/rollback", "v", {"snapshot": "v@s"}, expect=404)
    call("GET", "/v1/pools/{name}/tasks", "ram", expect=200)
    call("POST", "/v1/pools/{name}/tasks", "ram", {"task": "scrub"}, 501)
    call("POST", "/v1/pools/{name}/tasks", "ram", {"task": "dance"}, 400)
    call("POST", "/v1/pools/{name}/tasks", "none", {"task": "scrub"}, 404)
    call("DELETE", "/v1/pools/{name}/tasks/{task}", "ram", expect=501)
    call("POST", "/v1/pools/{name}/devices", "ram", {"path": "/nowhere"}, 501)
    call("POST", "/v1/pools/{name}/devices", "ram", {"path": "here"}, 400)
    call("POST", "/v1/pools/{name}/grow", "ram", {"path": "/nowhere", "size_bytes": 1}, 501)
    call("GET", "/v1/pools/{name}/check", "ram", expect=404)
    call("POST", "/v1/pools/{name}/check", "ram", {"data": False}, 201)
    call("GET", "/v1/pools/{name}/check", "ram", expect=200)
    call("GET", "/v1/events", expect=200)
    host = {"nqn": "nqn.2026-01.example:h", "key": "DHHC-1:01:fkr22gpnkLfYT7jHyzW2gPFe/+SSFNumCVq5NkmR5dSMV7Yw:"}
    request_is_valid(document, "/v1/hosts", "post", host)  # success is test_hosts.py's
    call("POST", "/v1/hosts", body=host, expect=423)  # no --kek
    call("POST", "/v1/hosts", body={}, expect=400)
    call("GET", "/v1/hosts", expect=200)
    call("GET", "/v1/hosts/{name}", host["nqn"], expect=404)
    call("PATCH", "/v1/hosts/{name}", host["nqn"], {"groups": ["null"]}, expect=404)
    call("DELETE", "/v1/hosts/{name}", host["nqn"], expect=404)
    request_is_valid(document, "/v1/ports/{name}", "patch", {"ana": "inaccessible", "group": 2})
    call("GET", "/v1/ports", expect=200)
    call("GET", "/v1/ports/{name}", "1", expect=200)
    call("GET", "/v1/ports/{name}", "2", expect=404)
    call("PATCH", "/v1/ports/{name}", "1", {"ana": "inaccessible", "group": 2}, expect=200)
    call("PATCH", "/v1/ports/{name}", "1", {"ana": "open"}, expect=400)
    call("PATCH", "/v1/ports/{name}", "2", {"ana": "optimized"}, expect=404)
    call("POST", "/v1/keys", body={"action": "reload"}, expect=423)  # no --kek
    call("POST", "/v1/keys", body={"action": "dance"}, expect=400)
    call("GET", "/v1/keys", expect=200)
    token = {"name": "t", "role": "viewer"}  # what they open is test_tokens.py's
    request_is_valid(document, "/v1/tokens", "post", token)
    call("POST", "/v1/tokens", body=token, expect=201)
    call("POST", "/v1/tokens", body=token, expect=409)
    call("POST", "/v1/tokens", body={}, expect=400)
    call("GET", "/v1/tokens", expect=200)
    call("GET", "/v1/tokens/{name}", "t", expect=200)
    call("DELETE", "/v1/tokens/{name}", "t", expect=204)
    call("GET", "/v1/tokens/{name}", "t", expect=404)
    call("GET", "/v1/keys/{name}", "v", expect=404)
    call("DELETE", "/v1/keys/{name}", "v", expect=404)
    for path in ("/healthz", "/metrics", "/openapi.json", "/v1/stats", "/v1/pools"):
        call("GET", path, expect=200)
    call("GET", "/v1/pools/{name}", "ram", expect=200)
    call("GET", "/v1/pools/{name}", "none", expect=404)
    for word, (create, _) in BODIES.items():
        call("DELETE", f"/v1/{word}s/{{name}}", create["name"], expect=204)
        call("DELETE", f"/v1/{word}s/{{name}}", create["name"], expect=404)
    documented = {(p, m) for p, item in document["paths"].items() for m in item if m != "parameters"}
    assert called == documented


def test_what_is_not_documented_is_not_there(penstockd, document):
    """Methods that the document leaves out are refused."""
    for path, item in document["paths"].items():
        for method in {"get", "post", "patch", "delete", "put"} - set(item):
            assert penstockd.call(method.upper(), path.replace("{name}", "x").replace("{task}", "x"))[0] == 405


def test_requests_that_the_schema_refuses_are_refused(penstockd, document):
    """Schema and daemon agree on what is wrong with a body."""
    schema = {**document["components"]["schemas"]["VolumeCreate"], "components": document["components"]}
    validator = jsonschema.Draft7Validator(schema)
    for body in ({"name": "UPPER", "size_bytes": 1}, {"name": "v"}, {"name": "v", "size_bytes": 1, "more": 1},
                 {"name": "v", "size_bytes": -1}, {"name": "v", "size_bytes": 1, "policy": {"burst_ms": 0}}):
        assert not validator.is_valid(body)
        assert penstockd.call("POST", "/v1/volumes", body)[0] == 400


SAMPLE = re.compile(r'^([a-z_]+)(?:\{((?:[a-z]+="[^"\\]*",?)*)\})? ([0-9.e+-]+|\+Inf)$')


def test_metrics(penstockd):
    """Prometheus text: samples of one metric together, typed and explained; histograms cumulative up to their count."""
    penstockd.call("POST", "/v1/volumes", BODIES["volume"][0])
    status, text = penstockd.call("GET", "/metrics")
    assert status == 200
    types, seen, last, series = {}, set(), None, {}
    for line in text.splitlines():
        if line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ")
            assert name not in types
            types[name] = kind
            continue
        if line.startswith("# HELP "):
            continue
        match = SAMPLE.match(line)
        assert match, line
        name, labels, value = match[1], match[2] or "", float(match[3])
        base = name if name in types else re.sub("_(bucket|sum|count)$", "", name)
        assert base in types, line
        if base != last:
            assert base not in seen, f"{base} is not in one piece"
            seen.add(base)
            last = base
        assert (name, labels) not in series, f"twice: {line}"
        series[name, labels] = value
    assert seen == set(types)
    for name, kind in types.items():
        if kind != "histogram":
            continue
        for labels in {re.sub(',?le="[^"]*"', "", k[1]) for k in series if k[0] == name + "_bucket"}:
            values = [v for k, v in series.items() if k[0] == name + "_bucket" and k[1].startswith(labels + ",le=")]
            assert values == sorted(values) and values[-1] == series[name + "_count", labels]
    assert any(k[0] == "penstock_build_info" for k in series)
    for needed in ("penstock_volume_latency_seconds", "penstock_tenant_latency_seconds",
                   "penstock_volume_qos_wait_seconds", "penstock_volume_device_wait_seconds",
                   "penstock_volume_retransmits_total", "penstock_pool_free_bytes",
                   "penstock_pool_reserved_bytes", "penstock_pool_task_running", "penstock_events_total",
                   "penstock_volume_own_bytes", "penstock_volume_mapped_bytes", "penstock_volume_snapshots"):
        assert needed in types


def test_versions_and_tasks_fit_their_schemas(start_penstockd, tmp_path):
    """What a pool in memory can't do succeeds on disk, and the answers are as documented."""
    daemon = start_penstockd("--pool", tmp_path / "pool", "--pool-size", "128Mi")
    assert daemon.ready, daemon.text()
    document = daemon.call("GET", "/openapi.json")[1]

    def call(method, path, body=None, expect=200, **values):
        status, answer = daemon.call(method, path.format(**values), body)
        assert status == expect, answer
        check(document, path.split("?")[0], method.lower(), status, answer)
        return answer

    call("POST", "/v1/volumes", {"name": "v", "size_bytes": 1 << 20}, 201)
    call("POST", "/v1/snapshots", {"members": [{"volume": "v", "name": "s"}]}, 201)
    assert call("GET", "/v1/snapshots?volume=v")[0]["name"] == "v@s"
    call("GET", "/v1/snapshots/{name}", name="v@s")
    call("GET", "/v1/snapshots/{name}/diff", name="v@s")
    clone = call("POST", "/v1/volumes", {"name": "c", "source": "v@s"}, 201)
    assert clone["source"] == "v@s"
    call("POST", "/v1/volumes/{name}/rollback", {"snapshot": "v@s"}, name="v")
    call("PATCH", "/v1/volumes/{name}", {"on_full": "pause", "reserved_bytes": 8192}, name="v")
    call("POST", "/v1/pools/{name}/tasks", {"task": "scrub"}, 201, name="pool")
    call("GET", "/v1/pools/{name}/tasks", name="pool")
    call("GET", "/v1/events?since=0")
    call("GET", "/v1/stats")
    call("DELETE", "/v1/snapshots/{name}", None, 204, name="v@s")
    daemon.end()

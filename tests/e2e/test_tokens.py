# SPDX-License-Identifier: Apache-2.0
"""The API's other door: HTTPS and tokens. What each role may do, what a tenant sees, what strangers get, and that no
secret stays anywhere. The client is Python's own."""

import concurrent.futures
import http.client
import json
import os
import pathlib
import re
import signal
import socket
import ssl
import subprocess
import time

import jsonschema
import pytest

from conftest import BUILD, UnixConnection
from test_encryption import memory

TOKEN = re.compile(r"^penstock_[0-9a-f]{16}_[A-Za-z0-9_-]{43}$")
UNBOUND, BOUND = ("admin", "operator", "viewer", "metrics"), ("tenant", "viewer", "metrics")
MI = 1 << 20


def openssl(*arguments):
    subprocess.run(["openssl", *[str(a) for a in arguments]], check=True, stdout=subprocess.DEVNULL,
                   stderr=subprocess.PIPE)


def certificate(folder, name, ca=None, san="IP:127.0.0.1,IP:::1,DNS:localhost", days=30):
    """(certificate, key): of an authority, or signed by one."""
    key, cert, request = folder / f"{name}.key", folder / f"{name}.pem", folder / f"{name}.csr"
    openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", key)
    if ca is None:
        openssl("req", "-x509", "-new", "-key", key, "-out", cert, "-days", days, "-subj", f"/CN={name}")
        return cert, key
    extensions = folder / f"{name}.ext"
    extensions.write_text(f"subjectAltName={san}\n")
    openssl("req", "-new", "-key", key, "-out", request, "-subj", f"/CN={name}")
    openssl("x509", "-req", "-in", request, "-CA", ca[0], "-CAkey", ca[1], "-CAcreateserial", "-out", cert, "-days", days,
            "-extfile", extensions)
    return cert, key


@pytest.fixture(scope="module")
def pki(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pki")
    ca = certificate(folder, "authority")
    return {"ca": ca[0], "authority": ca, "server": certificate(folder, "server", ca),
            "other": certificate(folder, "stranger")[0], "folder": folder}


@pytest.fixture
def start(start_penstockd, pki):
    """start(*options): a daemon with HTTPS; daemon.https: where."""
    def begin(*options, server=pki["server"], **more):
        daemon = start_penstockd("--api", "https:127.0.0.1:0", "--api-cert", server[0], "--api-key", server[1], *options,
                                 **more)
        if daemon.ready:
            daemon.https = daemon.ready["api_https"][0]
        return daemon
    return begin


class Api:
    """A client with a token, or without; one connection as long as it holds."""

    def __init__(self, daemon, ca, token=None, unix=False):
        self.daemon, self.ca, self.token, self.unix = daemon, ca, token, unix
        self.connection = None

    def connect(self):
        if self.unix:
            return UnixConnection(self.daemon.socket)
        host, port = self.daemon.https.removeprefix("https://").rsplit(":", 1)
        return http.client.HTTPSConnection(host, int(port), timeout=30, context=ssl.create_default_context(cafile=self.ca))

    def raw(self, method, path, body=None, headers=None):
        headers = {"Content-Type": "application/json", **(headers or {})}
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        self.connection = self.connection or self.connect()
        self.connection.request(method, path, json.dumps(body) if body is not None else None, headers)
        answer = self.connection.getresponse()
        data = answer.read()
        if answer.will_close:
            self.close()
        return answer, data

    def __call__(self, method, path, body=None):
        answer, data = self.raw(method, path, body)
        is_json = answer.headers.get("Content-Type", "").startswith("application/json")
        return answer.status, json.loads(data) if data and is_json else data.decode()

    def close(self):
        if self.connection:
            self.connection.close()
        self.connection = None


def create(daemon, name, role, tenant=None, **more):
    """A token's text, made through the unix socket."""
    body = {"name": name, "role": role, **({"tenant": tenant} if tenant else {}), **more}
    status, answer = daemon.call("POST", "/v1/tokens", body)
    assert status == 201, answer
    assert TOKEN.match(answer["token"])
    return answer["token"]


def routes(document):
    return [(path, method.upper(), op) for path, item in document["paths"].items() for method, op in item.items()
            if method != "parameters"]


def fill(path):
    return re.sub(r"\{\w+\}", "none", path)


def body_for(method):
    return {} if method in ("POST", "PATCH") else None


def status_is_documented(op, status):
    return str(status) in op["responses"]


@pytest.mark.parametrize("unix", [False, True], ids=["https", "unix"])
def test_every_role_on_every_route(start, pki, unix):
    """403 where the document does not list the role, and never where it does; with a token the unix socket is no better."""
    daemon = start()
    assert daemon.call("POST", "/v1/tenants", {"name": "vision"})[0] == 201
    document = daemon.call("GET", "/openapi.json")[1]
    tried = 0
    for roles, tenant, list_name in ((UNBOUND, None, "x-roles"), (BOUND, "vision", "x-roles-of-a-tenant")):
        for role in roles:
            api = Api(daemon, pki["ca"], create(daemon, f"{role}{'-t' if tenant else ''}", role, tenant), unix)
            for path, method, op in routes(document):
                status, answer = api(method, fill(path), body_for(method))
                if role in op[list_name]:
                    assert status not in (401, 403), (role, tenant, method, path, answer)
                else:
                    assert status == 403 and answer["error"]["code"] == "PST_E_DENIED", (role, tenant, method, path)
                assert status_is_documented(op, status), (role, method, path, status)
                tried += 1
            api.close()
    assert tried == 7 * len(routes(document)) and len(routes(document)) > 40
    daemon.end()


def test_the_rights_of_roles(start):
    """What the roles are for, said here once more, so that a wrong table is not just documented wrongly."""
    document = start().call("GET", "/openapi.json")[1]
    ops = {(m, p): op for p, m, op in routes(document)}
    for (method, path), op in ops.items():
        assert "admin" in op["x-roles"] and "admin" not in op["x-roles-of-a-tenant"]
        secret = path.startswith(("/v1/keys", "/v1/tokens")) or (path.startswith("/v1/hosts") and method != "GET")
        assert ("operator" in op["x-roles"]) == (not secret), (method, path)
        assert ("viewer" in op["x-roles"]) == (method == "GET" and not secret), (method, path)
        assert ("metrics" in op["x-roles"]) == (path == "/metrics") == ("metrics" in op["x-roles-of-a-tenant"])
        own = path.startswith(("/v1/volumes", "/v1/snapshots"))
        reads = method == "GET" and (own or path.startswith("/v1/tenants") or
                                     path in ("/v1/stats", "/metrics", "/healthz", "/openapi.json"))
        assert ("tenant" in op["x-roles-of-a-tenant"]) == (own or reads), (method, path)
        assert ("viewer" in op["x-roles-of-a-tenant"]) == reads, (method, path)


def test_strangers_get_401_everywhere(start, pki):
    """Without a token, and with one that is not valid, every path is the same: there or not, whatever the method."""
    daemon = start("--limit", "api_failures_max=100000")
    document = daemon.call("GET", "/openapi.json")[1]
    token = create(daemon, "t", "admin")
    gone = create(daemon, "gone", "admin")
    assert daemon.call("DELETE", "/v1/tokens/gone")[0] == 204
    schema = {**document["components"]["schemas"]["Error"], "components": document["components"]}
    wrong = token[:-43] + "A" * 43
    for shown in (None, gone, wrong, "penstock_", "x", token + "A", token[:-1], "A" * 5000):
        api = Api(daemon, pki["ca"], shown)
        paths = [(p, m) for p, m, _ in routes(document)] if shown in (None, wrong) else [("/v1/volumes", "GET")]
        for path, method in paths + [("/nothing", "GET"), ("/v1/volumes", "PUT")]:
            answer, data = api.raw(method, fill(path), body_for(method))
            assert answer.status == 401, (shown, method, path)
            assert answer.headers["WWW-Authenticate"] == "Bearer"
            jsonschema.Draft7Validator(schema).validate(json.loads(data))
    for header in ("Basic " + token, token, "Bearer", "Bearer  " + token):
        answer, _ = Api(daemon, pki["ca"]).raw("GET", "/v1/volumes", headers={"Authorization": header})
        assert answer.status == 401, header
    assert Api(daemon, pki["ca"]).raw("GET", "/v1/volumes", headers={"Authorization": "bearer " + token})[0].status == 200
    assert Api(daemon, pki["ca"], token)("GET", "/v1/volumes") == (200, [])
    assert Api(daemon, pki["ca"], wrong, unix=True)("GET", "/v1/volumes")[0] == 401
    assert daemon.call("GET", "/v1/volumes") == (200, [])  # the unix socket's owner
    daemon.end()


def test_a_tenant_sees_nothing_else(start, pki, tmp_path):
    """Lists, names, statistics and metrics have what is the tenant's; the rest is as if it did not exist."""
    daemon = start("--pool", tmp_path / "pool", "--pool-size", "256Mi")
    assert daemon.ready, daemon.text()
    for tenant in ("mine", "other"):
        assert daemon.call("POST", "/v1/tenants", {"name": tenant})[0] == 201
    for name, tenant in (("a", "mine"), ("b", "other"), ("z", "default")):
        assert daemon.call("POST", "/v1/volumes", {"name": name, "size_bytes": MI, "tenant": tenant})[0] == 201
        assert daemon.call("POST", "/v1/snapshots", {"members": [{"volume": name, "name": "s"}]})[0] == 201
    mine = Api(daemon, pki["ca"], create(daemon, "t", "tenant", "mine"))
    viewer = Api(daemon, pki["ca"], create(daemon, "v", "viewer", "mine"))
    scraper = Api(daemon, pki["ca"], create(daemon, "m", "metrics", "mine"))
    uuid = {v["name"]: v["uuid"] for v in daemon.call("GET", "/v1/volumes")[1]}
    for api in (mine, viewer):
        assert [v["name"] for v in api("GET", "/v1/volumes")[1]] == ["a"]
        assert [s["name"] for s in api("GET", "/v1/snapshots")[1]] == ["a@s"]
        assert [t["name"] for t in api("GET", "/v1/tenants")[1]] == ["mine"]
        stats = api("GET", "/v1/stats")[1]
        assert [v["name"] for v in stats["volumes"]] == ["a"] and [t["name"] for t in stats["tenants"]] == ["mine"]
        assert stats["pools"] == []
    for api in (mine, viewer, scraper):
        text = api("GET", "/metrics")[1]
        assert 'volume="a"' in text and set(re.findall(r'tenant="(\w+)"', text)) == {"mine"}
        assert "penstock_pool" not in text and "penstock_events" not in text
    for method, path, body in (
            ("GET", "/v1/volumes/%", None), ("PATCH", "/v1/volumes/%", {"size_bytes": 2 * MI}),
            ("PATCH", "/v1/volumes/%", {"nonsense": 1}), ("DELETE", "/v1/volumes/%?force=true&with_snapshots=true", None),
            ("POST", "/v1/volumes/%/rollback", {"snapshot": "%@s"}), ("POST", "/v1/volumes/a/rollback", {"snapshot": "%@s"}),
            ("POST", "/v1/volumes", {"name": "n", "source": "%@s"}), ("GET", "/v1/snapshots?volume=%", None),
            ("GET", "/v1/snapshots/%@s", None), ("GET", "/v1/snapshots/%@s/diff", None),
            ("GET", "/v1/snapshots/a@s/diff?from=%@s", None), ("DELETE", "/v1/snapshots/%@s", None),
            ("POST", "/v1/snapshots", {"members": [{"volume": "%", "name": "n"}]}),
            ("POST", "/v1/snapshots", {"members": [{"volume": "a", "name": "n"}, {"volume": "%", "name": "n"}]})):
        said = []
        for name in ("b", "z", uuid["b"], "none"):
            sent = json.loads(json.dumps(body).replace("%", name))
            status, answer = mine(method, path.replace("%", name), sent)
            assert status == 404, (method, path, name, answer)
            said.append(json.dumps(answer).replace(f"'{name}", "'%"))
        assert len(set(said)) == 1, said
    assert mine("GET", "/v1/tenants/other")[0] == mine("GET", "/v1/tenants/none")[0] == 404
    assert mine("POST", "/v1/volumes", {"name": "n", "size_bytes": MI, "tenant": "other"})[0] == 404
    assert mine("GET", "/v1/tenants/mine")[0] == 200
    # Its own it may have.
    assert mine("POST", "/v1/volumes", {"name": "n", "size_bytes": MI})[1]["tenant"] == "mine"
    assert mine("PATCH", "/v1/volumes/n", {"size_bytes": 2 * MI})[0] == 200
    assert mine("POST", "/v1/snapshots", {"members": [{"volume": "n", "name": "s"}]})[0] == 201
    assert mine("POST", "/v1/volumes", {"name": "c", "source": "n@s"})[1]["source"] == "n@s"
    assert mine("POST", "/v1/volumes/n/rollback", {"snapshot": "n@s"})[0] == 200
    assert mine("DELETE", "/v1/volumes/c")[0] == mine("DELETE", "/v1/volumes/n?with_snapshots=true")[0] == 204
    assert viewer("DELETE", "/v1/volumes/a")[0] == 403
    assert [v["name"] for v in daemon.call("GET", "/v1/volumes")[1]] == ["a", "b", "z"]
    assert [s["name"] for s in daemon.call("GET", "/v1/snapshots")[1]] == ["a@s", "b@s", "z@s"]
    daemon.end()


def test_tokens_end(start, pki):
    """Revoked they open nothing from the next request on, also on a connection that is there; expired likewise."""
    daemon = start()
    api = Api(daemon, pki["ca"], create(daemon, "a", "viewer"))
    short = Api(daemon, pki["ca"], create(daemon, "b", "viewer", expires_in_s=2))
    assert api("GET", "/v1/volumes")[0] == short("GET", "/v1/volumes")[0] == 200
    listed = {t["name"]: t for t in daemon.call("GET", "/v1/tokens")[1]}
    assert "expires" in listed["b"] and "expires" not in listed["a"] and "last_used" in listed["a"]
    assert daemon.call("DELETE", "/v1/tokens/a")[0] == 204
    assert api("GET", "/v1/volumes")[0] == 401
    deadline = time.monotonic() + 10
    while short("GET", "/v1/volumes")[0] == 200:
        assert time.monotonic() < deadline
        time.sleep(0.2)
    assert daemon.call("DELETE", "/v1/tokens/a")[0] == 404
    daemon.end()


def test_a_restart_keeps_tokens_and_no_secret_lies_anywhere(start, pki, tmp_path):
    """The pool's file has the digest alone, and the log has nothing of a token, right or wrong."""
    options = ("--pool", tmp_path / "pool", "--pool-size", "128Mi", "--log", "debug")
    daemon = start(*options)
    token = create(daemon, "keep", "admin")
    assert Api(daemon, pki["ca"], token)("GET", "/v1/tokens")[0] == 200
    assert Api(daemon, pki["ca"], token[:-2] + "AA")("GET", "/v1/tokens")[0] == 401
    daemon.end()
    again = start(*options)
    assert Api(again, pki["ca"], token)("GET", "/v1/tokens")[0] == 200
    assert [t["name"] for t in again.call("GET", "/v1/tokens")[1]] == ["keep"]
    assert "last_used" in again.call("GET", "/v1/tokens/keep")[1]
    again.end()
    secret = token[-43:]
    for path in tmp_path.rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            for i in range(0, 32, 8):
                assert secret[i:i + 12].encode() not in data, path
    assert b"sha256" in (tmp_path / "pool/pool.penstock").read_bytes()
    for daemon_log in (daemon.log, again.log):
        assert "token_created token=keep" in daemon_log.read_text() or daemon_log == again.log


def test_a_core_dump_has_no_token(start, pki):
    """Once it was made and used and its connection has ended, no piece of it is in memory that a core would hold; nor the
    text of the certificate's key, which is in memory that is left out."""
    daemon = start()
    token = create(daemon, "a", "admin")
    api = Api(daemon, pki["ca"], token)
    assert api("GET", "/v1/tokens")[0] == 200
    api.close()
    line = pki["server"][1].read_text().splitlines()[1].encode()
    pieces = [token[-43:][i:i + 16].encode() for i in (0, 16, 27)]

    def clean():
        dumped = memory(daemon.process.pid, True)
        return b"penstock" in dumped and not any(p in dumped for p in pieces) and line not in dumped
    until(clean, "it stays")
    assert line in memory(daemon.process.pid, False)
    daemon.end()


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion")
def test_tcp_speaks_tls_only(start, pki):
    """Plain HTTP is refused by daemon and command line; old versions of TLS and unknown certificates are, too."""
    daemon = start()
    host, port = daemon.https.removeprefix("https://").rsplit(":", 1)
    with socket.create_connection((host, int(port)), timeout=10) as plain:
        plain.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        try:
            assert not plain.recv(100).startswith(b"HTTP")
        except ConnectionResetError:
            pass
    for version, works in ((ssl.TLSVersion.TLSv1_1, False), (ssl.TLSVersion.TLSv1_2, True), (ssl.TLSVersion.TLSv1_3, True)):
        context = ssl.create_default_context(cafile=pki["ca"])
        context.minimum_version = context.maximum_version = version
        try:
            context.set_ciphers("ALL:@SECLEVEL=0")
            with socket.create_connection((host, int(port)), timeout=10) as tcp, \
                    context.wrap_socket(tcp, server_hostname=host) as tls:
                assert works and tls.version() == version.name.replace("_", ".")
        except (ssl.SSLError, ConnectionResetError):
            assert not works
    for ca in (pki["other"], None):
        with pytest.raises(ssl.SSLCertVerificationError):
            Api(daemon, ca)("GET", "/healthz")
    daemon.end()


@pytest.mark.parametrize("options, text", [
    (["--api", "https:127.0.0.1:0"], "--api-cert"),
    (["--api", "http:127.0.0.1:0"], "TLS only"),
    (["--api", "127.0.0.1:0"], "https:ADDR:PORT"),
    (["--api", "https:example.org:1"], "numeric address"),
    (["--api-cert", "x", "--api-key", "y"], "--api https"),
    (["--api", "https:127.0.0.1:0", "--api-cert", "/nowhere", "--api-key", "/nowhere"], "/nowhere can't be read"),
    (["--limit", "api_failures_max=0"], "--limit"),
])
def test_wrong_options(start_penstockd, options, text):
    """What does not fit is said, and nothing is served."""
    daemon = start_penstockd(*options)
    assert daemon.failed_with() == 2 and text in daemon.text()


def test_key_of_another_certificate(start, pki):
    """A key that does not fit its certificate is refused at the start, by name."""
    daemon = start(server=(pki["server"][0], pki["authority"][1]))
    assert daemon.failed_with() == 2 and str(pki["server"][0]) in daemon.text()


def serial_of(daemon, ca):
    host, port = daemon.https.removeprefix("https://").rsplit(":", 1)
    with socket.create_connection((host, int(port)), timeout=10) as tcp, \
            ssl.create_default_context(cafile=ca).wrap_socket(tcp, server_hostname=host) as tls:
        return tls.getpeercert()["serialNumber"]


def until(condition, what):
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def test_certificate_is_renewed(start, pki, tmp_path):
    """SIGHUP brings a new certificate while connections live on; one that makes no sense leaves the old one in force."""
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    cert.write_bytes(pki["server"][0].read_bytes())
    key.write_bytes(pki["server"][1].read_bytes())
    daemon = start(server=(cert, key))
    api = Api(daemon, pki["ca"], create(daemon, "a", "viewer"))
    assert api("GET", "/v1/volumes")[0] == 200
    old = serial_of(daemon, pki["ca"])
    new_cert, new_key = certificate(tmp_path, "renewed", pki["authority"])
    cert.write_bytes(new_cert.read_bytes())
    key.write_bytes(new_key.read_bytes())
    daemon.process.send_signal(signal.SIGHUP)
    until(lambda: serial_of(daemon, pki["ca"]) != old, "the old certificate stays")
    assert api("GET", "/v1/volumes")[0] == 200
    new = serial_of(daemon, pki["ca"])
    cert.write_text("nonsense")
    daemon.process.send_signal(signal.SIGHUP)
    until(lambda: "api_certificate_kept" in daemon.text(), "it is not said")
    assert serial_of(daemon, pki["ca"]) == new
    assert "reload_failed" not in daemon.text()
    daemon.end()


def test_guessing_is_slowed(start, pki):
    """Beyond the limit refusals take their time and are not logged each; who has a token is served at once meanwhile."""
    daemon = start("--limit", "api_failures_max=3", "--limit", "api_failure_delay_ms=700")
    good = Api(daemon, pki["ca"], create(daemon, "a", "viewer"))
    bad = Api(daemon, pki["ca"], "penstock_0011223344556677_" + "A" * 43)
    times = []
    for _ in range(6):
        began = time.monotonic()
        assert bad("GET", "/v1/volumes")[0] == 401
        times.append(time.monotonic() - began)
    assert max(times[:3]) < 0.6 and min(times[3:]) >= 0.7
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        slow = [pool.submit(Api(daemon, pki["ca"], bad.token), "GET", "/v1/volumes") for _ in range(4)]
        began = time.monotonic()
        assert good("GET", "/v1/volumes")[0] == 200
        assert time.monotonic() - began < 0.6
        assert [s.result()[0] for s in slow] == [401] * 4
    assert daemon.text().count("api_denied") == 3 and daemon.text().count("api_slowed") == 1
    with concurrent.futures.ThreadPoolExecutor(1) as pool:  # an answer that is kept back does not hold up the end
        pending = pool.submit(Api(daemon, pki["ca"], bad.token), "GET", "/v1/volumes")
        time.sleep(0.2)
        daemon.end()
        try:
            assert pending.result()[0] == 401
        except (OSError, http.client.HTTPException):
            pass  # its connection ended with the daemon


def tls_socket(daemon, ca):
    host, port = daemon.https.removeprefix("https://").rsplit(":", 1)
    return ssl.create_default_context(cafile=ca).wrap_socket(socket.create_connection((host, int(port)), timeout=20),
                                                             server_hostname=host)


def ended_after(connection, drip):
    """Seconds until the daemon ends it, though a byte comes now and then."""
    began = time.monotonic()
    connection.settimeout(0.2)
    while time.monotonic() - began < 15:
        try:
            if drip:
                connection.sendall(drip)
            if not connection.recv(100):
                return time.monotonic() - began
        except (TimeoutError, ssl.SSLWantReadError):
            pass
        except OSError:
            return time.monotonic() - began
    return None


def test_slow_clients_are_ended(start, pki):
    """Header or body byte by byte, a handshake that never comes, silence: all end in time, and leave room for others."""
    daemon = start("--limit", "api_request_timeout_ms=1500")
    host, port = daemon.https.removeprefix("https://").rsplit(":", 1)
    token = create(daemon, "a", "admin")
    head = tls_socket(daemon, pki["ca"])
    head.sendall(b"GET /v1/volumes HTTP/1.1\r\nHost: x\r\nX-A: ")
    body = tls_socket(daemon, pki["ca"])
    body.sendall(f"POST /v1/volumes HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n"
                 "Content-Length: 60000\r\n\r\n".encode())
    stranger = tls_socket(daemon, pki["ca"])
    stranger.sendall(b"POST /v1/volumes HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
    silent = socket.create_connection((host, int(port)), timeout=20)
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        waits = [pool.submit(ended_after, head, b"a"), pool.submit(ended_after, body, b"a"),
                 pool.submit(ended_after, stranger, b"1\r\na\r\n"), pool.submit(ended_after, silent, b"")]
        api = Api(daemon, pki["ca"], token)
        assert api("GET", "/v1/volumes")[0] == 200
        for wait in waits:
            assert wait.result() is not None and wait.result() < 5
    assert Api(daemon, pki["ca"], token)("GET", "/v1/volumes")[0] == 200
    daemon.end()


def test_one_address_has_a_share_of_the_places(start, pki):
    """Further connections of one address are closed; the unix socket has places of its own."""
    daemon = start("--limit", "api_connections_per_address_max=4", "--limit", "api_connections_max=8")
    token = create(daemon, "a", "viewer")
    held = [tls_socket(daemon, pki["ca"]) for _ in range(4)]
    with pytest.raises((OSError, http.client.HTTPException)):
        Api(daemon, pki["ca"], token)("GET", "/v1/volumes")
    assert daemon.call("GET", "/v1/volumes")[0] == 200
    for connection in held:
        connection.close()

    def served():
        try:
            return Api(daemon, pki["ca"], token)("GET", "/v1/volumes")[0] == 200
        except (OSError, http.client.HTTPException):
            return False
    until(served, "places do not come back")
    daemon.end()


def answers(connection, count):
    """All that comes, until it has @count status lines."""
    got = b""
    while got.count(b"HTTP/1.1 ") - got.count(b" 100 Continue") < count:
        more = connection.recv(65536)
        if not more:
            break
        got += more
    return got


def test_requests_as_http_allows_them(start, pki):
    """Several at once, a body in chunks, a body that waits to be asked for: a token that is looked at first is in no way."""
    daemon = start()
    token = create(daemon, "a", "admin")
    head = f"Host: x\r\nAuthorization: Bearer {token}\r\n".encode()
    with tls_socket(daemon, pki["ca"]) as connection:
        connection.sendall((b"GET /v1/volumes HTTP/1.1\r\n" + head + b"\r\n") * 3)
        assert answers(connection, 3).count(b" 200 OK") == 3
        connection.sendall(b"POST /v1/volumes HTTP/1.1\r\n" + head + b"Transfer-Encoding: chunked\r\n\r\n")
        for piece in (b'{"name":"w",', b'"size_bytes":4096}', b""):
            time.sleep(0.05)
            connection.sendall(b"%x\r\n%s\r\n" % (len(piece), piece))
        assert b" 201 " in answers(connection, 1)
    for shown, status in ((head, b" 201 "), (head.replace(token[-9:].encode(), b"A" * 9), b" 401 ")):
        with tls_socket(daemon, pki["ca"]) as connection:
            body = b'{"name":"v","size_bytes":4096}'
            connection.sendall(b"POST /v1/volumes HTTP/1.1\r\n" + shown + b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n"
                               % len(body))
            time.sleep(0.05)
            connection.sendall(body)
            assert status in answers(connection, 1)
    daemon.end()


def test_large_bodies(start, pki):
    """A body beyond the limit is refused; a stranger's is not even kept."""
    daemon = start()
    api = Api(daemon, pki["ca"], create(daemon, "a", "admin"))
    assert api("POST", "/v1/volumes", {"name": "x" * 70000})[0] == 413
    assert Api(daemon, pki["ca"])("POST", "/v1/volumes", {"name": "x" * 70000})[0] == 401
    assert api("GET", "/v1/volumes") == (200, [])
    daemon.end()


def cli(daemon, *arguments, **environment):
    env = {**os.environ, **environment}
    return subprocess.run([BUILD / "bin/penstock", *[str(a) for a in arguments]], text=True, timeout=60,
                          stdin=subprocess.DEVNULL, capture_output=True, env=env)


def test_command_line(start, pki, tmp_path):
    """Tokens are made, shown once, used from a file, and revoked; the daemon is trusted for its certificate only."""
    daemon = start()
    made = daemon.cli("token", "create", "ops", "--role", "operator", "--expires", "30d")
    assert made.returncode == 0, made.stderr
    token = made.stdout.split()[-1]
    assert TOKEN.match(token)
    file = tmp_path / "token"
    file.write_text(token + "\n")
    there = ("--api", daemon.https, "--token-file", file, "--ca", pki["ca"])
    assert cli(daemon, "volume", "create", "v", "--size", "1Mi", *there).returncode == 0
    result = cli(daemon, "volume", "list", "--json", PENSTOCK_URL=daemon.https, PENSTOCK_TOKEN_FILE=str(file),
                 PENSTOCK_CA=str(pki["ca"]))
    assert [v["name"] for v in json.loads(result.stdout)] == ["v"]
    listed = daemon.cli_json("token", "list")
    assert listed[0]["name"] == "ops" and listed[0]["role"] == "operator" and token not in json.dumps(listed)
    assert "LAST USED" in daemon.cli("token", "list").stdout
    for arguments, code, text in (
            (("token", "list", *there), 12, "may not GET /v1/tokens"),
            (("volume", "list", "--api", daemon.https, "--ca", pki["ca"]), 12, "valid token"),
            (("volume", "list", "--api", daemon.https, "--token-file", file, "--ca", pki["other"]), 12, "not trusted"),
            (("volume", "list", "--api", daemon.https, "--token-file", file), 12, "not trusted"),
            (("volume", "list", "--api", daemon.https.replace("https", "http"), "--token-file", file), 2, "https://"),
            (("volume", "list", "--api", daemon.https, "--token-file", tmp_path / "none"), 2, "can't be read"),
            (("volume", "list", "--api", daemon.https, "--token-file", pki["ca"], "--ca", pki["ca"]), 2, "hold a token")):
        result = cli(daemon, *arguments)
        assert result.returncode == code and text in result.stderr, (arguments, result.stderr)
    for arguments, code in ((("token", "create", "x"), 2), (("token", "create", "x", "--role", "boss"), 2),
                            (("token", "create", "x", "--role", "tenant"), 2),
                            (("token", "create", "x", "--role", "admin", "--expires", "0"), 2),
                            (("token", "create", "x", "--role", "tenant", "--tenant", "none"), 4),
                            (("token", "create", "ops", "--role", "viewer"), 5), (("token", "revoke", "x"), 4)):
        assert daemon.cli(*arguments).returncode == code
    assert daemon.cli("token", "revoke", "ops").returncode == 0
    result = cli(daemon, "volume", "list", *there)
    assert result.returncode == 12 and "valid token" in result.stderr
    for word in ("create", "list", "show", "revoke"):
        assert daemon.cli("token", word, "--help").returncode == 0
    assert token not in daemon.text()
    daemon.end()


def test_tokens_fit_their_schemas(penstockd):
    """What the API says of tokens is as documented."""
    document = penstockd.call("GET", "/openapi.json")[1]

    def fits(name, value):
        schema = {**document["components"]["schemas"][name], "components": document["components"]}
        jsonschema.Draft7Validator(schema).validate(value)

    body = {"name": "t", "role": "viewer", "tenant": "default", "expires_in_s": 60}
    fits("TokenCreate", body)
    fits("TokenCreated", penstockd.call("POST", "/v1/tokens", body)[1])
    fits("Token", penstockd.call("GET", "/v1/tokens/t")[1])
    for bad in ({"name": "u"}, {"name": "u", "role": "boss"}, {"name": "u", "role": "admin", "expires_in_s": 0},
                {"name": "u", "role": "admin", "more": 1}):
        with pytest.raises(jsonschema.ValidationError):
            fits("TokenCreate", bad)
        assert penstockd.call("POST", "/v1/tokens", bad)[0] == 400
    penstockd.end()


def test_manual_has_every_limit():
    """The page of penstockd lists the limits of the API, too."""
    page = (pathlib.Path(__file__).resolve().parents[2] / "man/penstockd.8").read_text()
    result = subprocess.run([BUILD / "bin/penstockd", "--ram", "1Mi", "--limit", "none=1"], capture_output=True, text=True)
    for name in re.findall(r"\bapi_\w+", result.stderr):
        assert f".It {name} Ta" in page
    assert result.stderr.count(" api_") == 5

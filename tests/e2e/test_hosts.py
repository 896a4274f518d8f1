# SPDX-License-Identifier: Apache-2.0
"""Hosts from outside: keys that are made, kept and shown to nobody, who gets in and who does not, and what an
independent host (independent_auth.py) and the library make of it."""

import ctypes
import json
import os
import socket
import subprocess
import time

import jsonschema
import pytest

from independent_auth import ATR, Queue, key_of
from test_encryption import memory, pieces
from test_volume_io import Host, NsOptions

NQN = "nqn.2014-08.org.nvmexpress:uuid:11111111-2222-3333-4444-555555555555"
OTHER = "nqn.2026-01.example:other"
DISCOVERY = "nqn.2014-08.org.nvmexpress.discovery"
INVALID_HOST, AUTH_REQUIRED, DNR = 0x184, 0x191, 0x4000
DENIED, KEY, TIMEOUT = 17, 24, 11
GROUPS = {"null": 0, "ffdhe2048": 1, "ffdhe3072": 2, "ffdhe4096": 3, "ffdhe6144": 4, "ffdhe8192": 5}


class HostOptions(ctypes.Structure):
    _fields_ = [("struct_bytes", ctypes.c_size_t), ("hostnqn", ctypes.c_char_p), ("backend", ctypes.c_int),
                ("caller_polls", ctypes.c_bool), ("spin_us", ctypes.c_uint32), ("host_key", ctypes.c_char_p),
                ("ctrl_key", ctypes.c_char_p)]


class KeyHost(Host):
    """The library, with a name and keys."""

    def __init__(self, nqn=None, host_key=None, ctrl_key=None, expected=0):
        options = HostOptions(ctypes.sizeof(HostOptions), nqn and nqn.encode(), 0, False, 0,
                              host_key and host_key.encode(), ctrl_key and ctrl_key.encode())
        super().__init__(ctypes.byref(options), expected)

    def try_connect(self, volume, address=None):
        host, port = (address or volume["addresses"][0]).rsplit(":", 1)
        options = NsOptions(struct_bytes=ctypes.sizeof(NsOptions), traddr=host.encode(), trsvcid=int(port),
                            subnqn=volume["nqn"].encode(), connect_timeout_ms=3000, loss_timeout_ms=1000)
        return self.lib.pst_ns_connect(self.host, ctypes.byref(options), ctypes.byref(self.ns))


@pytest.fixture
def kek(tmp_path):
    path = tmp_path / "kek"
    path.write_bytes(os.urandom(32))
    path.chmod(0o400)
    return path


@pytest.fixture
def daemon(start_penstockd, kek):
    started = start_penstockd("--kek", kek, "--log", "debug")
    assert started.ready, started.text()
    return started


def host_create(daemon, *options, nqn=NQN):
    return daemon.cli_json("host", "create", nqn, "--generate-key", *options)


def library(volume, *keys, nqn=NQN, address=None):
    """The error of a connect, after a write and a read where it succeeds."""
    host = KeyHost(nqn, *keys)
    try:
        error = host.try_connect(volume, address)
        if error == 0:
            assert host.write(0, b"h" * 4096) == 0 and host.read(0, 4096) == b"h" * 4096
        return error
    finally:
        host.close()


@pytest.mark.parametrize("digest", ["sha256", "sha384", "sha512"])
@pytest.mark.parametrize("group", GROUPS)
def test_an_independent_host_authenticates(daemon, digest, group):
    """Every hash and group, in both ways, with a host that was written from the specification; both queues need it."""
    made = host_create(daemon, "--two-way", "--hash", digest, "--group", group)
    volume = daemon.cli_json("volume", "create", "v", "--size", "1Mi")
    admin = Queue(volume["addresses"][0])
    status, dw0 = admin.connect(NQN, volume["nqn"])
    assert status == 0 and dw0 & 0xffff0000 == ATR
    assert admin.capabilities() == AUTH_REQUIRED | DNR
    hash_id = ("sha256", "sha384", "sha512").index(digest) + 1
    assert admin.authenticate(NQN, volume["nqn"], made["key"], made["ctrl_key"], groups=[GROUPS[group]],
                              hashes=[hash_id]) == 0
    assert admin.capabilities() == 0
    assert daemon.cli_json("volume", "show", "v")["hosts"] == 1
    other = Queue(volume["addresses"][0])
    assert other.connect(NQN, volume["nqn"])[1] & ATR
    assert other.authenticate(NQN, volume["nqn"], made["key"], groups=[0, 1, 2, 3, 4, 5]) == 0  # one way
    wrong = Queue(volume["addresses"][0])
    wrong.connect(NQN, volume["nqn"])
    assert wrong.authenticate(NQN, volume["nqn"], made["ctrl_key"]) == 1
    assert wrong.capabilities() == AUTH_REQUIRED | DNR
    wrong.socket.settimeout(5)
    assert wrong.socket.recv(1) == b"", "the target closes after a failure"


def test_what_can_not_be_agreed_on_is_said(daemon):
    """No common hash and no common group have their own codes; large groups and none are not in the default."""
    made = host_create(daemon, "--hash", "sha384")
    volume = daemon.cli_json("volume", "create", "v", "--size", "1Mi")
    for hashes, groups, code in (([1], [2], 4), ([2], [0, 4, 5], 5), ([2], [3], 0)):
        queue = Queue(volume["addresses"][0])
        queue.connect(NQN, volume["nqn"])
        assert queue.authenticate(NQN, volume["nqn"], made["key"], hashes=hashes, groups=groups) == code


def test_library_and_daemon(daemon, tmp_path, monkeypatch):
    """libpenstock proves itself, and asks for a proof: by its options, and by the environment."""
    made = host_create(daemon, "--two-way")
    volume = daemon.cli_json("volume", "create", "v", "--size", "1Mi", "--allow", NQN)
    assert library(volume, made["key"]) == 0
    assert library(volume, made["key"], made["ctrl_key"]) == 0
    assert library(volume, made["ctrl_key"]) == DENIED
    assert library(volume, made["key"], made["key"]) == DENIED
    assert library(volume) == DENIED
    assert library(volume, made["key"], nqn=OTHER) == DENIED  # a key, but not on the list
    KeyHost(NQN, "DHHC-1:00:nonsense:", expected=KEY)
    KeyHost(None, made["key"], expected=KEY)  # whose?
    (tmp_path / "host.key").write_text(made["key"] + "\n")
    (tmp_path / "ctrl.key").write_text(made["ctrl_key"] + "\n")
    monkeypatch.setenv("PENSTOCK_HOST_NQN", NQN)
    monkeypatch.setenv("PENSTOCK_HOST_KEY", str(tmp_path / "host.key"))
    monkeypatch.setenv("PENSTOCK_CTRL_KEY", str(tmp_path / "ctrl.key"))
    assert library(volume, nqn=None) == 0
    monkeypatch.setenv("PENSTOCK_HOST_KEY", str(tmp_path / "none"))
    KeyHost(expected=KEY)


def test_allow_and_deny_are_live(daemon):
    """Whoever is taken off the list loses the volume at once, and does not see it any more; the last one off is nobody."""
    volume = daemon.cli_json("volume", "create", "v", "--size", "1Mi")
    assert "allowed_hosts" not in volume and library(volume) == 0
    assert daemon.cli_json("volume", "allow", "v", NQN)["allowed_hosts"] == [NQN]
    assert library(volume, nqn=OTHER) == DENIED
    queue = Queue(volume["addresses"][0])
    assert queue.connect(OTHER, volume["nqn"]) == (INVALID_HOST | DNR, 0)
    host = KeyHost(NQN)
    assert host.try_connect(volume) == 0 and host.write(0, b"x" * 4096) == 0
    result = daemon.cli("volume", "deny", "v", NQN)
    assert result.returncode == 0
    deadline = time.monotonic() + 5
    while daemon.cli_json("volume", "show", "v")["hosts"] and time.monotonic() < deadline:
        time.sleep(0.05)
    assert daemon.cli_json("volume", "show", "v")["hosts"] == 0
    assert host.write(0, b"y" * 4096) == TIMEOUT
    host.close()
    assert library(volume) == DENIED
    assert daemon.cli_json("volume", "show", "v")["allowed_hosts"] == []
    daemon.cli_json("volume", "allow", "v", "--any")
    assert library(volume) == 0
    for wrong in (["allow", "v"], ["allow", "v", NQN, OTHER], ["deny", "v"], ["allow", "v", NQN, "--any"]):
        assert daemon.cli("volume", *wrong).returncode == 2


def test_everything_survives_a_restart(start_penstockd, tmp_path, kek):
    """Hosts, keys and lists are there after kill -9; without the KEK nobody gets in by that name; clones inherit."""
    pool = ("--pool", tmp_path / "pool", "--pool-size", "64Mi")
    daemon = start_penstockd(*pool, "--kek", kek)
    made = host_create(daemon)
    daemon.cli_json("volume", "create", "v", "--size", "1Mi", "--allow", NQN)
    daemon.cli_json("snapshot", "create", "v@s")
    assert daemon.cli_json("volume", "clone", "v@s", "w")["allowed_hosts"] == [NQN]
    daemon.kill()
    daemon = start_penstockd(*pool, "--kek", kek)
    volume = daemon.cli_json("volume", "show", "w")
    assert library(volume, made["key"]) == 0 and library(volume) == DENIED
    daemon.end()
    daemon = start_penstockd(*pool)
    volume = daemon.cli_json("volume", "show", "v")
    assert library(volume, made["key"]) == DENIED and library(volume) == DENIED
    shown = daemon.cli_json("host", "show", NQN)
    assert shown["locked"] and "--kek" in shown["error"]
    result = daemon.cli("host", "create", OTHER, "--generate-key")
    assert result.returncode == 1 and "--kek" in result.stderr
    daemon.end()


def non_loopback():
    """An address of this machine that is not loopback, or None."""
    out = subprocess.run(["ip", "-4", "-o", "addr"], capture_output=True, text=True, check=False).stdout
    for line in out.splitlines():
        address = line.split()[3].split("/")[0]
        if not address.startswith("127."):
            return address
    try:
        return next(a for a in socket.gethostbyname_ex(socket.gethostname())[2] if not a.startswith("127."))
    except (StopIteration, OSError):
        return None


def test_beyond_this_machine_a_key_is_needed(start_penstockd, kek):
    """Without --insecure a host without a key comes in over loopback only, discovery included; with a key from anywhere."""
    address = non_loopback()
    if address is None:
        pytest.skip("this machine has no address but loopback")
    for options, without_key in ((("--kek", kek), DENIED), (("--insecure",), 0)):
        daemon = start_penstockd("--listen", "0.0.0.0:0", *options)
        assert daemon.ready, daemon.text()
        port = daemon.ready["listen"][0].rsplit(":", 1)[1]
        volume = daemon.cli_json("volume", "create", "v", "--size", "1Mi")
        assert library(volume, address=f"127.0.0.1:{port}") == 0
        assert library(volume, address=f"{address}:{port}") == without_key
        queue = Queue(f"{address}:{port}")
        assert (queue.connect(NQN, DISCOVERY)[0] == 0) == (without_key == 0)
        if without_key:
            made = host_create(daemon)
            assert library(volume, made["key"], address=f"{address}:{port}") == 0
        daemon.end()


def test_keys_are_in_no_core_no_log_no_answer(daemon):
    """Keys that were sent to the daemon are in its memory, and in nothing that leaves it."""
    made = host_create(daemon, "--two-way")
    volume = daemon.cli_json("volume", "create", "v", "--size", "1Mi")
    assert library(volume, made["key"], made["ctrl_key"]) == 0
    assert library(volume, made["ctrl_key"]) == DENIED
    assert daemon.call("POST", "/v1/hosts", {"nqn": OTHER, "key": made["key"][:-3] + "AA:"})[0] == 400
    answers = json.dumps([daemon.call("GET", path)[1] for path in ("/v1/hosts", f"/v1/hosts/{NQN}", "/v1/volumes",
                                                                  "/v1/keys", "/v1/events", "/v1/stats")])
    raw = [key_of(made[k])[1] for k in ("key", "ctrl_key")]
    secrets = [p for key in raw for p in pieces(key)]
    secrets += [made[k].split(":")[2].encode()[:20] for k in ("key", "ctrl_key")]
    everything, dumped = (memory(daemon.process.pid, dumped_only=d) for d in (False, True))
    assert any(s in everything for s in secrets), "this test would not find a key in memory"
    for where, text in (("dumped memory", dumped), ("log", daemon.log.read_bytes()), ("API", answers.encode())):
        for secret in secrets:
            assert secret not in text, f"a key is in the {where}"


def test_keys_come_from_files_and_are_checked(daemon, tmp_path):
    """create and set read keys from files; what is no key is refused before the daemon is asked, without showing it."""
    key = "DHHC-1:01:fkr22gpnkLfYT7jHyzW2gPFe/+SSFNumCVq5NkmR5dSMV7Yw:"
    good, bad = tmp_path / "good", tmp_path / "bad"
    good.write_text(f"  {key}\n")
    bad.write_text(key.replace("fkr", "fkq"))
    result = daemon.cli("host", "create", NQN, "--key", bad)
    assert result.returncode == 2 and "checksum" in result.stderr and "fkq" not in result.stderr
    assert daemon.cli("host", "create", NQN, "--key", tmp_path / "none").returncode == 2
    assert daemon.cli("host", "create", NQN).returncode == 2
    assert daemon.cli("host", "create", NQN, "--key", good, "--generate-key").returncode == 2
    shown = daemon.cli_json("host", "create", NQN, "--key", good)
    assert "key" not in shown and not shown["two_way"]
    assert daemon.cli("host", "create", NQN, "--key", good).returncode == 5
    result = daemon.cli("host", "set", NQN, "--two-way")
    assert result.returncode == 0 and "DHHC-1:" in result.stdout
    assert daemon.cli_json("host", "set", NQN, "--ctrl-key", "none", "--group", "null")["groups"] == ["null"]
    daemon.cli_json("volume", "create", "v", "--size", "1Mi", "--allow", NQN)
    result = daemon.cli("host", "delete", NQN)
    assert result.returncode == 5 and "claims its name" in result.stderr
    assert daemon.cli("host", "delete", NQN, "--force").returncode == 0
    assert daemon.cli("host", "show", NQN).returncode == 4


def test_answers_fit_their_schema(daemon):
    """What the API says of hosts and lists is what /openapi.json promises; what that refuses is refused."""
    document = daemon.call("GET", "/openapi.json")[1]

    def validator(name):
        schema = {**document["components"]["schemas"][name], "components": document["components"]}
        return jsonschema.Draft7Validator(schema)

    key = "DHHC-1:01:fkr22gpnkLfYT7jHyzW2gPFe/+SSFNumCVq5NkmR5dSMV7Yw:"
    body = {"nqn": NQN, "key": key, "hashes": ["sha256"], "groups": ["ffdhe2048", "null"]}
    validator("HostCreate").validate(body)
    status, host = daemon.call("POST", "/v1/hosts", body)
    assert status == 201
    validator("Host").validate(host)
    assert daemon.call("POST", "/v1/hosts", body)[0] == 409
    for change in ({"groups": ["ffdhe3072"]}, {"ctrl_key": "none"}):
        validator("HostChange").validate(change)
        status, host = daemon.call("PATCH", f"/v1/hosts/{NQN}", change)
        assert status == 200
        validator("Host").validate(host)
    for wrong in ({"nqn": "host", "key": key}, {"nqn": OTHER}, {"nqn": OTHER, "key": "DHHC-2"},
                  {"nqn": OTHER, "key": key, "hashes": ["md5"]}, {"nqn": OTHER, "key": key, "more": 1}):
        assert not validator("HostCreate").is_valid(wrong)
        assert daemon.call("POST", "/v1/hosts", wrong)[0] == 400
    assert daemon.call("POST", "/v1/volumes", {"name": "v", "size_bytes": 4096, "allowed_hosts": [NQN]})[0] == 201
    for change in ({"allow_host": OTHER}, {"deny_host": OTHER}, {"allowed_hosts": []}, {"any_host": True}):
        validator("VolumeChange").validate(change)
        status, volume = daemon.call("PATCH", "/v1/volumes/v", change)
        assert status == 200
        validator("Volume").validate(volume)
    assert daemon.call("DELETE", f"/v1/hosts/{NQN}")[0] == 204
    assert daemon.call("GET", f"/v1/hosts/{NQN}")[0] == 404

# SPDX-License-Identifier: Apache-2.0
"""TLS from outside: openssl as host and as target, the library with right, wrong and missing keys, and what becomes of
connections, keys and secrets."""

import concurrent.futures
import ctypes
import json
import os
import socket
import struct
import subprocess
import time

import pytest

from independent_auth import Queue
from openssl_tls import SUITES, Server, TlsQueue, cipher_of, client_command, goodbyes, session_file, vectors
from test_encryption import memory, pieces
from test_hosts import (DENIED, DISCOVERY, DNR, INVALID_HOST, KEY, NQN, OTHER, HostOptions, KeyHost, library,
                        non_loopback)
from test_volume_io import Host

CLOSED, PROTO, TIMEOUT = 12, 14, 11


class TlsOptions(ctypes.Structure):
    _fields_ = HostOptions._fields_ + [("tls_key", ctypes.c_char_p)]


class TlsHost(KeyHost):
    """The library, with a name and a TLS key."""

    def __init__(self, tls_key, nqn=NQN, host_key=None, expected=0):  # pylint: disable=super-init-not-called
        options = TlsOptions(ctypes.sizeof(TlsOptions), nqn and nqn.encode(), 0, False, 0,
                             host_key and host_key.encode(), None, tls_key and tls_key.encode())
        Host.__init__(self, ctypes.byref(options), expected)


class Entry(ctypes.Structure):
    _fields_ = [("subnqn", ctypes.c_char * 224), ("traddr", ctypes.c_char * 257), ("trsvcid", ctypes.c_uint16)]


def over_tls(volume, tls_key, address=None, **options):
    """The error of a connect over TLS, after a write and a read where it succeeds."""
    host = TlsHost(tls_key, **options)
    try:
        error = host.try_connect(volume, address)
        if error == 0:
            assert host.write(0, b"t" * 65536) == 0 and host.read(0, 65536) == b"t" * 65536
        return error
    finally:
        host.close()


@pytest.fixture
def kek(tmp_path):
    path = tmp_path / "kek"
    path.write_bytes(os.urandom(32))
    path.chmod(0o400)
    return path


@pytest.fixture(params=[1, 2], ids=["one shard", "two shards"])
def daemon(request, start_penstockd, kek):
    """The first address takes TLS only, the second both, the third none."""
    started = start_penstockd("--kek", kek, "--log", "debug", "--shards", request.param, "--listen",
                              "127.0.0.1:0,tls=required", "--listen", "127.0.0.1:0,tls=allowed", "--listen",
                              "127.0.0.1:0")
    assert started.ready, started.text()
    return started


@pytest.fixture
def volume(daemon):
    return daemon.cli_json("volume", "create", "v", "--size", "1Mi")


def tls_key(daemon, nqn=NQN):
    return daemon.cli_json("host", "create", nqn, "--generate-tls-key")["tls_key"]


@pytest.mark.parametrize("version", [0, 1])
@pytest.mark.parametrize("hash_id", [1, 2])
def test_openssl_is_a_host(daemon, volume, tmp_path, version, hash_id):
    """An independent TLS with an independent derivation finishes the handshake, and an independent host connects."""
    key = tls_key(daemon)
    identity, psk = vectors.derive(key, (NQN, volume["nqn"]), version, hash_id)
    if hash_id == 2:
        psk = session_file(tmp_path / "psk", psk, hash_id)
    for address in volume["addresses"][:2]:
        admin = TlsQueue(address, identity, psk, hash_id)
        assert admin.connect(NQN, volume["nqn"])[0] == 0
        assert admin.capabilities() == 0
        admin.close()
    assert f"cipher={SUITES[hash_id]}" in daemon.text()
    shown = subprocess.run(client_command(volume["addresses"][0], identity, psk, hash_id), capture_output=True,
                           stdin=subprocess.DEVNULL, timeout=20, check=True, text=True).stdout
    assert cipher_of(shown) == SUITES[hash_id] and "TLSv1.3" in shown
    if hash_id == 1:  # openssl's client loses a session for SHA-384 when it is asked again, by its own server, too
        retried = client_command(volume["addresses"][0], identity, psk, hash_id, "-groups", "P-521:P-256")
        shown = subprocess.run(retried, capture_output=True, stdin=subprocess.DEVNULL, timeout=20, check=True,
                               text=True).stdout
        assert "prime256v1" in shown, "a HelloRetryRequest asks for a group that both know"
        finite = client_command(volume["addresses"][0], identity, psk, hash_id, "-groups", "ffdhe3072")
        shown = subprocess.run(finite, capture_output=True, stdin=subprocess.DEVNULL, timeout=20, check=True,
                               text=True).stdout
        assert "3072 bits" in shown, "the group that the transport asks for"


def test_openssl_with_a_wrong_key_is_refused(daemon, volume):
    """Whatever is wrong with what is offered, there is an alert, a line in the log, and nothing more."""
    key = tls_key(daemon)
    identity, psk = vectors.derive(key, (NQN, volume["nqn"]))
    other = vectors.derive(key, (OTHER, volume["nqn"]))
    cases = ((identity, bytes(32)), (vectors.derive(key, (NQN, volume["nqn"]), 0)[0], psk), ("nobody", psk), other,
             (identity[:-5] + ("AAA" if identity[-5:-2] != "AAA" else "BBB") + identity[-2:], psk))
    for wrong_identity, wrong_psk in cases:
        with pytest.raises(ConnectionResetError, match="alert (illegal parameter|handshake failure)"):
            TlsQueue(volume["addresses"][0], wrong_identity, wrong_psk)
    result = subprocess.run(["openssl", "s_client", "-connect", volume["addresses"][0], "-tls1_2"], timeout=20,
                            stdin=subprocess.DEVNULL, capture_output=True, check=False)
    assert result.returncode != 0
    log = daemon.text()
    assert log.count("tls_failed") == len(cases) + 1 and "the host's key is wrong" in log
    assert all(p.decode(errors="ignore") not in log for p in pieces(psk)[2:])


def test_the_key_is_of_one_host_and_one_subsystem(daemon, volume):
    """Who has come as one host can't connect as another, nor to another volume, nor to discovery."""
    key = tls_key(daemon)
    other = daemon.cli_json("volume", "create", "w", "--size", "1Mi")
    identity, psk = vectors.derive(key, (NQN, volume["nqn"]))
    for hostnqn, subnqn in ((OTHER, volume["nqn"]), (NQN, other["nqn"]), (NQN, DISCOVERY)):
        queue = TlsQueue(volume["addresses"][1], identity, psk)
        assert queue.connect(hostnqn, subnqn) == (INVALID_HOST | DNR, 0)
        queue.close()
    assert "its TLS key is of another host or subsystem" in daemon.text()


def test_openssl_is_a_target(tmp_path):
    """The library finishes the handshake with openssl's server, and sends its ICReq; with another key it does not."""
    subnqn = "nqn.2026-01.example:elsewhere"
    for hash_id, key in ((1, vectors.interchange(1, b"k" * 32)), (2, vectors.interchange(2, b"k" * 48))):
        identity, psk = vectors.derive(key, (NQN, subnqn))
        if hash_id == 2:
            psk = session_file(tmp_path / "psk", psk, 2)
        server = Server(identity, psk, hash_id)
        host = TlsHost(key)
        place = {"nqn": subnqn, "addresses": [f"127.0.0.1:{server.port}"]}
        assert host.try_connect(place) == TIMEOUT  # openssl has no ICResp
        host.close()
        said = server.end()
        assert SUITES[hash_id].encode() in said and struct.pack("<BBBBI", 0, 0, 128, 0, 128) in said
        assert goodbyes(said.decode(errors="replace"), "<<<") == 1
    server = Server(identity, bytes(32))
    host = TlsHost(vectors.interchange(1, b"k" * 32))
    assert host.try_connect({"nqn": subnqn, "addresses": [f"127.0.0.1:{server.port}"]}) == DENIED
    host.close()
    server.end()


def until(condition, limit=10):
    end = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.05)


def test_connections_end_with_a_goodbye(daemon, volume, tmp_path):
    """RFC 8446, 6.1: the daemon says that it closes, hears it from hosts, and tells in the log who was cut off."""
    identity, psk = vectors.derive(tls_key(daemon), (NQN, volume["nqn"]))

    def connected(name):
        queue = TlsQueue(volume["addresses"][0], identity, psk, messages=tmp_path / name)
        assert queue.connect(NQN, volume["nqn"])[0] == 0
        return queue

    queue = connected("ends")  # the host ends: heard, and answered
    queue.socket.process.stdin.close()
    until(lambda: 'reason="closed by the host"' in daemon.text())
    queue.close()
    assert goodbyes((tmp_path / "ends").read_text(), ">>>") == 1
    queue = connected("cut")
    queue.socket.process.kill()
    until(lambda: 'reason="cut off by the host' in daemon.text())
    queue.close()
    queue = connected("put out")  # the daemon ends, without being asked
    assert daemon.cli("host", "set", NQN, "--tls-key", "none", "--generate-key").returncode == 0
    assert queue.socket.process.wait(10) is not None
    assert "unexpected eof" not in queue.socket.close()
    assert goodbyes((tmp_path / "put out").read_text(), "<<<") == 1
    assert daemon.text().count("cut off by the host") == 1


def test_library_and_daemon(daemon, volume, tmp_path, monkeypatch):
    """With the right key it works wherever TLS is taken; without, or with another, nowhere. By option and environment."""
    required, allowed, clear = volume["addresses"]
    key, other = tls_key(daemon), vectors.interchange(1, os.urandom(32))
    assert over_tls(volume, key, required) == over_tls(volume, key, allowed) == 0
    assert over_tls(volume, key, clear) == PROTO
    assert over_tls(volume, other, required) == over_tls(volume, key, required, nqn=OTHER) == DENIED
    assert library(volume, address=required) == CLOSED
    assert library(volume, address=allowed) == library(volume, address=clear) == DENIED
    assert library(volume, nqn=OTHER, address=allowed) == 0
    TlsHost("NVMeTLSkey-1:01:nonsense:", expected=KEY)
    TlsHost(key, nqn=None, expected=KEY)  # whose?
    (tmp_path / "tls.key").write_text(key + "\n")
    monkeypatch.setenv("PENSTOCK_HOST_NQN", NQN)
    monkeypatch.setenv("PENSTOCK_TLS_KEY", str(tmp_path / "tls.key"))
    assert library(volume, nqn=None, address=required) == 0
    monkeypatch.setenv("PENSTOCK_TLS_KEY", str(tmp_path / "none"))
    KeyHost(expected=KEY)


def test_both_proofs_where_there_are_both_keys(daemon, volume):
    """A host with a key and a TLS key authenticates inside TLS as well."""
    made = daemon.cli_json("host", "create", NQN, "--generate-key", "--generate-tls-key")
    assert over_tls(volume, made["tls_key"], host_key=made["key"]) == 0
    assert over_tls(volume, made["tls_key"]) == DENIED
    assert library(volume, made["key"], address=volume["addresses"][1]) == DENIED


def test_keys_change_live(daemon, volume):
    """A new key is for the next connection; without its key a host is put out; a first key puts out who has none."""
    key = tls_key(daemon)
    host = TlsHost(key)
    assert host.try_connect(volume) == 0
    new = daemon.cli_json("host", "set", NQN, "--generate-tls-key")["tls_key"]
    assert host.write(0, b"x" * 4096) == 0
    assert over_tls(volume, key) == DENIED and over_tls(volume, new) == 0
    result = daemon.cli("host", "set", NQN, "--tls-key", "none")
    assert result.returncode == 2 and "needs a key" in result.stderr
    shown = daemon.cli_json("host", "set", NQN, "--tls-key", "none", "--generate-key")
    assert shown["authenticates"] and not shown["tls"]
    assert host.write(0, b"y" * 4096) == TIMEOUT
    host.close()
    assert over_tls(volume, new) == DENIED
    assert library(volume, shown["key"], address=volume["addresses"][1]) == 0
    host = KeyHost(OTHER)
    assert host.try_connect(volume, volume["addresses"][2]) == 0
    tls_key(daemon, OTHER)
    assert host.write(0, b"y" * 4096) == TIMEOUT
    host.close()
    assert "it has a TLS key, and comes without TLS" in daemon.text()


def test_discovery_says_how_to_come(daemon, volume):
    """Over TLS the library finds the volume; each host is shown the ports where it may come, and how."""
    key = tls_key(daemon)
    host, port = volume["addresses"][0].rsplit(":", 1)
    library_host, entries, count = TlsHost(key), (Entry * 4)(), ctypes.c_size_t()
    assert library_host.lib.pst_discover(library_host.host, host.encode(), ctypes.c_uint16(int(port)), entries, 4,
                                         ctypes.byref(count)) == 0
    assert count.value == 2 and {e.subnqn.decode() for e in entries[:2]} == {volume["nqn"]}  # at two ports
    library_host.close()

    def security(queue, hostnqn):
        """[(TREQ, SECTYPE)] of the entries."""
        assert queue.connect(hostnqn, DISCOVERY)[0] == 0
        enable = struct.pack("<BBHB35xB3xIQ8x", 0x7f, 0, 0, 0, 0, 0x14, 6 << 16 | 4 << 20 | 1)
        assert queue.command(enable)[0] == 0
        log = queue.command(struct.pack("<B39xI20x", 0x02, 0x70 | (6144 // 4 - 1) << 16), into=6144)[2]
        queue.close()
        return [(log[at + 3], log[at + 768]) for at in range(1024, 6144, 1024)][:struct.unpack("<Q", log[8:16])[0]]

    identity, psk = vectors.derive(key, (NQN, DISCOVERY))
    for address in volume["addresses"][:2]:
        assert security(TlsQueue(address, identity, psk), NQN) == [(4 | 1, 2)] * 4
    for address in volume["addresses"][1:]:
        assert security(Queue(address), OTHER) == [(4, 0)] * 4


def closed_after(address, data, limit):
    """Seconds until the target closes."""
    host, port = address.rsplit(":", 1)
    began = time.monotonic()
    with socket.create_connection((host, int(port)), timeout=limit) as s:
        s.sendall(data)
        try:
            while s.recv(4096):
                pass
        except ConnectionResetError:
            pass
    return time.monotonic() - began


def test_who_does_not_finish_is_closed(daemon, volume):
    """Clear text and nonsense at once, silence and halves of a handshake in time; everybody else is served meanwhile."""
    icreq = struct.pack("<BBBBIHBBI112x", 0, 0, 128, 0, 128, 0, 0, 0, 0)
    required, allowed, _ = volume["addresses"]
    key = tls_key(daemon)
    assert closed_after(required, icreq, 20) < 1
    for nonsense in (b"\x16\x03\x01\xff\xff" + bytes(3000), b"\x16" * 3000, b"\x16\x03\x01\x00\x04\x01\x00\x00\x00"):
        assert closed_after(required, nonsense, 20) < 3
        assert closed_after(allowed, nonsense, 20) < 3
    halves = (b"", b"\x16", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
    with concurrent.futures.ThreadPoolExecutor() as pool:
        waits = [pool.submit(closed_after, required, half, 20) for half in halves]
        assert over_tls(volume, key) == 0
        assert all(4 < w.result() < 8 for w in waits)
    assert "no TLS handshake in time" in daemon.text() and "which is required here" in daemon.text()


def test_everything_survives_a_restart(start_penstockd, tmp_path, kek):
    """TLS keys are there after kill -9; without the KEK nobody gets in by that name."""
    pool = ("--pool", tmp_path / "pool", "--pool-size", "64Mi", "--listen", "127.0.0.1:0,tls=allowed")
    daemon = start_penstockd(*pool, "--kek", kek)
    key = tls_key(daemon)
    daemon.cli_json("volume", "create", "v", "--size", "1Mi", "--allow", NQN)
    daemon.kill()
    daemon = start_penstockd(*pool, "--kek", kek)
    volume = daemon.cli_json("volume", "show", "v")
    assert over_tls(volume, key) == 0 and library(volume) == DENIED
    assert daemon.cli_json("host", "show", NQN)["tls"]
    daemon.end()
    daemon = start_penstockd(*pool)
    volume = daemon.cli_json("volume", "show", "v")
    assert over_tls(volume, key) == DENIED and library(volume) == DENIED
    assert daemon.cli_json("host", "show", NQN)["locked"]
    daemon.end()


def test_beyond_this_machine_a_tls_key_is_enough(start_penstockd, kek):
    """The rule that hosts beyond loopback prove who they are is met by TLS."""
    address = non_loopback()
    if address is None:
        pytest.skip("this machine has no address but loopback")
    daemon = start_penstockd("--listen", "0.0.0.0:0,tls=allowed", "--kek", kek)
    assert daemon.ready, daemon.text()
    where = f"{address}:{daemon.ready['listen'][0].rsplit(':', 1)[1]}"
    volume = daemon.cli_json("volume", "create", "v", "--size", "1Mi")
    key = tls_key(daemon)
    assert over_tls(volume, key, where) == 0
    assert library(volume, nqn=OTHER, address=where) == DENIED
    daemon.end()


def test_keys_are_in_no_core_no_log_no_answer(daemon, volume):
    """The configured PSK and what is derived from it are in the daemon's memory, and in nothing that leaves it."""
    key = tls_key(daemon)
    host = TlsHost(key)
    assert host.try_connect(volume) == 0
    assert over_tls(volume, vectors.interchange(1, os.urandom(32))) == DENIED
    assert daemon.call("PATCH", f"/v1/hosts/{NQN}", {"tls_key": key[:-3] + "AA:"})[0] == 400
    answers = json.dumps([daemon.call("GET", path)[1] for path in ("/v1/hosts", f"/v1/hosts/{NQN}", "/v1/events")])
    configured = vectors.base64.b64decode(key.split(":")[2])[:-4]
    secrets = pieces(configured) + pieces(vectors.derive(key, (NQN, volume["nqn"]))[1]) + [key[16:36].encode()]
    everything, dumped = (memory(daemon.process.pid, dumped_only=d) for d in (False, True))
    host.close()
    assert any(s in everything for s in secrets), "this test would not find a key in memory"
    for where, text in (("dumped memory", dumped), ("log", daemon.log.read_bytes()), ("API", answers.encode())):
        for secret in secrets:
            assert secret not in text, f"a key is in the {where}"


def test_keys_come_from_files_and_are_checked(daemon, tmp_path):
    """What is no key is refused without showing it; what nvme makes is taken; listings show that there is one."""
    good, bad = tmp_path / "good", tmp_path / "bad"
    made = subprocess.run(["nvme", "gen-tls-key", "--hmac=2"], capture_output=True, text=True, check=False).stdout
    good.write_text(made if made.startswith("NVMeTLSkey-1:02:") else vectors.interchange(2, os.urandom(48)))
    bad.write_text(vectors.interchange(1, b"k" * 32).replace("a2tr", "a2tq"))
    result = daemon.cli("host", "create", NQN, "--tls-key", bad)
    assert result.returncode == 2 and "checksum" in result.stderr and "a2tq" not in result.stderr
    assert daemon.cli("host", "create", NQN, "--tls-key", good, "--generate-tls-key").returncode == 2
    assert daemon.cli("host", "create", NQN, "--tls-key", "none").returncode == 2
    assert daemon.cli("host", "create", NQN, "--generate-tls-key", "--two-way").returncode == 2
    shown = daemon.cli_json("host", "create", NQN, "--tls-key", good)
    assert shown["tls"] and not shown["authenticates"] and "tls_key" not in shown
    listed = daemon.cli("host", "list").stdout
    assert "TLS" in listed and NQN in listed


def test_options_of_listen_are_checked(start_penstockd):
    """What may follow an address is said where something else does."""
    for option in ("127.0.0.1:0,tls=maybe", "127.0.0.1:0,ssl", "127.0.0.1:0,tls", ",tls=required", "x=127.0.0.1:0,tls=off"):
        daemon = start_penstockd("--listen", option)
        assert daemon.failed_with() == 2

# SPDX-License-Identifier: Apache-2.0
"""Encrypted volumes from outside: what lies in the pool, what a core dump and the logs hold, what happens to keys.

The yardstick is independent_crypto.py, which shares no code with the product.
"""

import json
import os
import pathlib
import re
import resource
import signal
import struct
import subprocess
import time

import pytest

import independent_crypto as ic
from conftest import BUILD
from test_volume_io import Host

MI = 1 << 20
BLOCK = 4096
LBA = 77
PLAIN = (b"The plaintext that must not be found. " * 120)[:BLOCK]
SLOT = struct.Struct("<8sIHHHHI16sQ16x64s")


@pytest.fixture(autouse=True, scope="module")
def yardstick():
    ic.self_test()


@pytest.fixture
def kek(tmp_path):
    folder = tmp_path / "kek"
    folder.mkdir()
    add_kek(folder, "2026-01")
    return folder


def add_kek(folder, name):
    path = folder / name
    path.write_text(os.urandom(32).hex() + "\n")
    path.chmod(0o400)
    return path


@pytest.fixture
def start(start_penstockd, tmp_path, kek, monkeypatch):
    monkeypatch.chdir(tmp_path)  # where a core would land

    def start(*options):
        return start_penstockd("--pool", tmp_path / "pool", "--pool-size", "64Mi", *options)
    start.kek = ("--kek", kek)
    start.pool = tmp_path / "pool/pool.penstock"
    return start


def create(daemon, name="secret", **more):
    status, volume = daemon.call("POST", "/v1/volumes", {"name": name, "size_bytes": 8 * MI, "encrypted": True, **more})
    assert status == 201, volume
    return volume


def show(daemon, name="secret"):
    return daemon.call("GET", f"/v1/volumes/{name}")[1]


def slots(pool):
    """Every key slot in the pool file: (kek id, family, wrapped). Two copies each, so two of every one."""
    data, found = pool.read_bytes(), []
    for match in re.finditer(b"PSTKEYSL", data):
        _, _, version, wrap, cipher, id_bytes, wrapped_bytes, family, _, kek_id = SLOT.unpack_from(data, match.start())
        assert (version, wrap, cipher) == (1, 1, 1)
        begin = match.start() + SLOT.size
        found.append((kek_id[:id_bytes].decode(), family, data[begin:begin + wrapped_bytes]))
    return found


def volume_key(pool, kek):
    """Unwrapped by the yardstick, which also proves the slot's documented form."""
    kek_id, family, wrapped = slots(pool)[0]
    secret = ic.unwrap_padded(bytes.fromhex((kek / kek_id).read_text().strip()), wrapped)
    assert secret is not None and len(secret) == 80 and secret[64:] == family
    return secret[:64]


def write(volume, lba=LBA, data=PLAIN):
    host = Host().connect(volume)
    assert host.write(lba * BLOCK, data) == 0
    host.close()


def read(volume, lba=LBA):
    host = Host().connect(volume)
    data = host.read(lba * BLOCK, BLOCK)
    host.close()
    return data


def pieces(secret):
    """What would betray it: any 16 bytes of it, as they are or written out."""
    parts = [secret[i:i + 16] for i in range(0, len(secret), 16)]
    return parts + [p.hex().encode() for p in parts] + [p.hex().upper().encode() for p in parts]


def test_pool_holds_the_standards_ciphertext(start, kek):
    """A block lies in the pool exactly as the standard says, and nowhere as plaintext; another host reads it back."""
    daemon = start(*start.kek)
    volume = create(daemon)
    assert volume["encrypted"] and not volume["locked"]
    write(volume)
    daemon.end()
    data = start.pool.read_bytes()
    assert PLAIN[:32] not in data
    assert ic.xts(volume_key(start.pool, kek), LBA, PLAIN) in data
    daemon = start(*start.kek)
    assert read(show(daemon)) == PLAIN


def test_plain_volumes_stay_plain(start):
    """The test above can fail: without encryption the plaintext is found."""
    daemon = start(*start.kek)
    status, volume = daemon.call("POST", "/v1/volumes", {"name": "open", "size_bytes": 8 * MI})
    assert status == 201 and not volume["encrypted"]
    write(volume)
    daemon.end()
    assert PLAIN in start.pool.read_bytes() and not slots(start.pool)


def memory(pid, dumped_only):
    """The daemon's memory; with @dumped_only what a core dump would hold (mappings that are not marked dd)."""
    text, out = pathlib.Path(f"/proc/{pid}/smaps").read_text(), []
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as mem:
        for part in re.split(r"(?m)^(?=[0-9a-f]+-[0-9a-f]+ )", text)[1:]:
            begin, end = (int(x, 16) for x in part.split()[0].split("-"))
            flags = re.search(r"VmFlags:(.*)", part)[1].split()
            if "rd" not in flags or (dumped_only and "dd" in flags) or "[vvar" in part or "[vsyscall" in part:
                continue
            mem.seek(begin)
            try:
                out.append(mem.read(end - begin))
            except OSError:
                pass  # a device's or the ring's
    return b"\0".join(out)


def real_core(daemon, folder):
    """A core as the kernel writes it, or None where cores go elsewhere. The daemon is dead afterwards."""
    if pathlib.Path("/proc/sys/kernel/core_pattern").read_text().strip() not in ("core", "core.%p"):
        return None
    hard = resource.prlimit(daemon.process.pid, resource.RLIMIT_CORE)[1]
    if hard == 0:
        return None
    resource.prlimit(daemon.process.pid, resource.RLIMIT_CORE, (hard, hard))
    daemon.process.send_signal(signal.SIGABRT)
    daemon.process.wait()
    found = list(folder.glob("core*"))
    return found[0].read_bytes() if found else None


def test_keys_are_in_no_core_no_log_no_answer(start, kek, tmp_path):
    """Neither the volume's key nor the KEK appears in what leaves the process, though both are in its memory."""
    daemon = start(*start.kek, "--log", "debug")
    volume = create(daemon)
    write(volume)
    answers = json.dumps([daemon.call("GET", path)[1] for path in
                          ("/v1/volumes", "/v1/volumes/secret", "/v1/keys", "/v1/keys/secret", "/v1/pools", "/v1/stats")])
    answers += json.dumps(daemon.call("POST", "/v1/keys", {"action": "reload"})[1])
    (kek / "2026-01").rename(tmp_path / "away")
    daemon.call("POST", "/v1/keys", {"action": "reload"})
    answers += json.dumps(daemon.call("POST", "/v1/keys", {"action": "rotate"})[1])
    (tmp_path / "away").rename(kek / "2026-01")
    daemon.call("POST", "/v1/keys", {"action": "reload"})
    secrets = pieces(volume_key(start.pool, kek)) + pieces(bytes.fromhex((kek / "2026-01").read_text()))
    everything = memory(daemon.process.pid, dumped_only=False)
    dumped = memory(daemon.process.pid, dumped_only=True)
    assert any(s in everything for s in secrets), "this test would not find a key in memory"
    core = real_core(daemon, tmp_path)
    assert core is None or b"2026-01" in core, "the core holds nothing of the daemon"
    for where, text in (("core as the kernel wrote it", core or b""), ("dumped memory", dumped),
                        ("log", daemon.log.read_bytes()), ("API", answers.encode())):
        for secret in secrets:
            assert secret not in text, f"a key is in the {where}"
    if core is None:
        print("no core was written here (core_pattern or limit): judged by what the kernel would dump")


def test_volume_without_its_kek_is_locked_until_it_is_back(start, kek, tmp_path):
    """Locked is listed, with the KEK's id and what to do; not served; snapshots and deletion work; reload serves it."""
    daemon = start(*start.kek)
    write(create(daemon))
    create(daemon, "other")
    daemon.end()
    daemon = start()
    volume = show(daemon)
    assert volume["locked"] and volume["state"] == "locked"
    assert "'2026-01'" in volume["error"] and "--kek" in volume["error"]
    assert volume["size_bytes"] == 8 * MI
    daemon.end()
    (kek / "2026-01").rename(tmp_path / "away")
    daemon = start(*start.kek)
    volume = show(daemon)
    assert "'2026-01' is not in" in volume["error"] and "penstock key reload" in volume["error"]
    host = Host()
    with pytest.raises(AssertionError):
        host.connect(volume)
    status, error = daemon.call("PATCH", "/v1/volumes/secret", {"size_bytes": 16 * MI})
    assert status == 423 and error["error"]["code"] == "PST_E_KEY" and "2026-01" in error["error"]["message"]
    assert daemon.call("DELETE", "/v1/volumes/other")[0] == 204
    add_kek(kek, "2026-01")  # another key of that name
    assert daemon.call("POST", "/v1/keys", {"action": "reload"})[1]["locked"] == 1
    assert "another one" in show(daemon)["error"]
    (tmp_path / "away").replace(kek / "2026-01")
    daemon.process.send_signal(signal.SIGHUP)
    deadline = time.monotonic() + 20
    while show(daemon)["locked"]:
        assert time.monotonic() < deadline, "SIGHUP unlocks nothing"
        time.sleep(0.05)
    assert read(show(daemon)) == PLAIN


def test_encrypting_needs_a_kek(start):
    """Without --kek the request is refused, with what to do, and leaves nothing behind."""
    daemon = start()
    status, error = daemon.call("POST", "/v1/volumes", {"name": "a", "size_bytes": MI, "encrypted": True})
    assert status == 423 and "--kek" in error["error"]["hint"]
    assert daemon.call("GET", "/v1/volumes")[1] == []


def test_rotation_wraps_anew_and_leaves_the_data(start, kek):
    """Afterwards both copies of every slot are wrapped with the new KEK, the ciphertext is untouched, the old KEK can go."""
    daemon = start(*start.kek)
    write(create(daemon))
    create(daemon, "second")
    key = volume_key(start.pool, kek)
    before = ic.xts(key, LBA, PLAIN)
    add_kek(kek, "2026-07")
    assert daemon.call("POST", "/v1/keys", {"action": "reload"})[0] == 201
    answer = daemon.call("POST", "/v1/keys", {"action": "rotate", "volume": "secret"})[1]
    assert (answer["rotated"], answer["current"], answer["failed"]) == (1, 0, [])
    answer = daemon.call("POST", "/v1/keys", {"action": "rotate"})[1]
    assert (answer["rotated"], answer["current"]) == (1, 1)
    assert {slot[0] for slot in slots(start.pool)} == {"2026-07"} and len(slots(start.pool)) == 4
    (kek / "2026-01").unlink()
    daemon.end()
    assert before in start.pool.read_bytes()
    daemon = start(*start.kek)
    assert read(show(daemon)) == PLAIN


def test_rotation_survives_kill_9(start, kek):
    """Killed at any moment of a rotation over many volumes, every volume opens, and rotating again ends it."""
    daemon = start(*start.kek)
    names = [f"v{i}" for i in range(12)]
    for name in names:
        write(create(daemon, name))
    for turn in range(6):
        add_kek(kek, f"2027-{turn:02}")
        daemon.call("POST", "/v1/keys", {"action": "reload"})
        cli = subprocess.Popen([BUILD / "bin/penstock", "key", "rotate", "--api", daemon.api],
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(0.012 * turn)
        daemon.kill()
        cli.wait()
        daemon = start(*start.kek)
        assert [v["locked"] for v in daemon.call("GET", "/v1/volumes")[1]] == [False] * len(names)
        answer = daemon.call("POST", "/v1/keys", {"action": "rotate"})[1]
        assert answer["rotated"] + answer["current"] == len(names) and answer["failed"] == []
        assert {v["kek"] for v in daemon.call("GET", "/v1/keys")[1]["volumes"]} == {f"2027-{turn:02}"}
    assert read(show(daemon, "v3")) == PLAIN


def test_crypto_erase_leaves_nothing_readable(start, kek):
    """The key is gone from the pool and from memory at once; the volume stays, erased, until it is deleted."""
    daemon = start(*start.kek)
    volume = create(daemon)
    write(volume)
    secrets = pieces(volume_key(start.pool, kek))
    wrapped = slots(start.pool)[0][2]
    done = subprocess.run([BUILD / "bin/penstock", "key", "erase", "secret", "--api", daemon.api], capture_output=True,
                          text=True, check=False)
    assert done.returncode == 2 and "--yes" in done.stderr
    host = Host().connect(volume)
    status, error = daemon.call("DELETE", "/v1/keys/secret")
    assert status == 409 and "connected" in error["error"]["message"]
    host.close()
    subprocess.run([BUILD / "bin/penstock", "key", "erase", "secret", "--yes", "--api", daemon.api], check=True,
                   stdout=subprocess.DEVNULL)
    assert wrapped not in start.pool.read_bytes() and slots(start.pool) == []
    everything = memory(daemon.process.pid, dumped_only=False)
    assert not any(s in everything for s in secrets), "the key is still in memory"
    assert show(daemon)["locked"] and "erased" in show(daemon)["error"]
    assert daemon.call("GET", "/v1/keys/secret")[1]["state"] == "erased"
    daemon.end()
    daemon = start(*start.kek)
    assert "erased" in show(daemon)["error"]
    assert daemon.call("POST", "/v1/keys", {"action": "reload"})[1]["unlocked"] == 0
    assert daemon.call("DELETE", "/v1/volumes/secret")[0] == 204


def test_deleted_volume_takes_its_key_along(start):
    """No slot is left in the pool file once an encrypted volume is deleted."""
    daemon = start(*start.kek)
    create(daemon)
    assert len(slots(start.pool)) == 2
    assert daemon.call("DELETE", "/v1/volumes/secret")[0] == 204
    deadline = time.monotonic() + 20
    while slots(start.pool):
        assert time.monotonic() < deadline, "the slot is not wiped"
        time.sleep(0.05)


def test_encrypted_volume_grows(start):
    """A resize reaches through the encrypting layer to the host."""
    daemon = start(*start.kek)
    create(daemon)
    status, volume = daemon.call("PATCH", "/v1/volumes/secret", {"size_bytes": 16 * MI})
    assert status == 200 and volume["size_bytes"] == 16 * MI
    last = 16 * MI // BLOCK - 1
    write(volume, last)
    assert read(volume, last) == PLAIN

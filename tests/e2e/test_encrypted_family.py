# SPDX-License-Identifier: Apache-2.0
"""Clones, snapshots and rollbacks of encrypted volumes: one key for the family, for as long as there is a member."""

import os
import time

from test_encryption import BLOCK, MI, PLAIN, add_kek, create, kek, read, show, slots, start, write, yardstick

__all__ = ["kek", "start", "yardstick"]  # fixtures
OTHER = os.urandom(BLOCK)


def snapshot(daemon, volume, name):
    status, answer = daemon.call("POST", "/v1/snapshots", {"members": [{"volume": volume, "name": name}]})
    assert status == 201, answer


def clone(daemon, source, name, **more):
    return daemon.call("POST", "/v1/volumes", {"name": name, "source": source, **more})


def wait_for(what):
    deadline = time.monotonic() + 20
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_clone_is_read_with_the_familys_key(start, kek):
    """It outlives its origin, restarts and rotations; the slot goes with the last member; nothing is ever plaintext."""
    daemon = start(*start.kek)
    write(create(daemon))
    snapshot(daemon, "secret", "a")
    status, copy = clone(daemon, "secret@a", "copy")
    assert status == 201 and copy["encrypted"]
    assert read(copy) == PLAIN
    write(copy, data=OTHER)
    assert read(show(daemon)) == PLAIN and read(copy) == OTHER
    assert len(slots(start.pool)) == 2
    assert clone(daemon, "secret@a", "plain", encrypted=False)[0] == 400
    add_kek(kek, "2026-07")
    daemon.call("POST", "/v1/keys", {"action": "reload"})
    answer = daemon.call("POST", "/v1/keys", {"action": "rotate"})[1]
    assert (answer["rotated"], answer["current"]) == (1, 1)
    assert daemon.call("DELETE", "/v1/volumes/secret?with_snapshots=true")[0] == 204
    daemon.end()
    assert PLAIN[:64] not in start.pool.read_bytes() and OTHER[:64] not in start.pool.read_bytes()
    daemon = start(*start.kek)
    assert read(show(daemon, "copy")) == OTHER
    assert len(slots(start.pool)) == 2
    assert daemon.call("DELETE", "/v1/volumes/copy")[0] == 204
    wait_for(lambda: not slots(start.pool))
    daemon.end()


def test_a_locked_volume_is_snapshotted(start):
    """Snapshots need no key; what they hold is read when it is back."""
    daemon = start(*start.kek)
    write(create(daemon))
    daemon.end()
    daemon = start()
    assert show(daemon)["locked"]
    snapshot(daemon, "secret", "a")
    status, answer = daemon.call("POST", "/v1/pools/pool/tasks", {"task": "scrub"})
    assert status == 201, answer
    daemon.end()
    daemon = start(*start.kek)
    status, copy = clone(daemon, "secret@a", "copy")
    assert status == 201 and read(copy) == PLAIN


def test_rollback_keeps_the_key(start):
    """A volume that was rolled back is served, deciphered, as it was."""
    daemon = start(*start.kek)
    volume = create(daemon)
    write(volume)
    snapshot(daemon, "secret", "a")
    write(volume, data=OTHER)
    status, answer = daemon.call("POST", "/v1/volumes/secret/rollback", {"snapshot": "secret@a"})
    assert status == 200, answer
    assert read(show(daemon)) == PLAIN


def test_erasing_takes_the_whole_family(start):
    """Clones share the key, so it needs to be meant; then none of them is readable, whichever was named."""
    daemon = start(*start.kek)
    write(create(daemon))
    snapshot(daemon, "secret", "a")
    assert clone(daemon, "secret@a", "copy")[0] == 201
    status, error = daemon.call("DELETE", "/v1/keys/copy")
    assert status == 409 and "1 other volume" in error["error"]["message"]
    assert daemon.call("DELETE", "/v1/keys/copy?force=true")[0] == 204
    assert {v["state"] for v in daemon.call("GET", "/v1/keys")[1]["volumes"]} == {"erased"}
    assert slots(start.pool) == []
    assert show(daemon)["size_bytes"] == 8 * MI

# SPDX-License-Identifier: Apache-2.0
"""Volumes, tenants, profiles and pools by command line and REST, and what must be refused."""

import json
import os
import socket
import stat

import pytest

MI = 1 << 20


def error(answer, status, code):
    assert answer[0] == status, answer
    assert answer[1]["error"]["code"] == code and answer[1]["error"]["message"]
    return answer[1]["error"]["message"]


def test_volume_life(penstockd):
    """Created, listed, shown, changed, resized, deleted; the JSON has what the documentation promises."""
    created = penstockd.cli_json("volume", "create", "train", "--size", "64Mi", "--profile", "dataset")
    for member in ("name", "uuid", "nqn", "nsid", "size_bytes", "block_size", "tenant", "profile"):
        assert member in created
    assert created["nqn"] == f"nqn.2014-08.org.nvmexpress:uuid:{created['uuid']}"
    assert created["size_bytes"] == 64 * MI and created["block_size"] == 4096 and created["nsid"] == 1
    assert created["addresses"] == penstockd.ready["listen"]
    assert [v["name"] for v in penstockd.cli_json("volume", "list")] == ["train"]
    changed = penstockd.cli_json("volume", "set", "train", "--limit", "5000iops", "--limit", "100MB/s")
    assert changed["policy"]["limit_iops"] == 5000 and changed["policy"]["limit_bytes_per_s"] == 100_000_000
    assert penstockd.cli_json("volume", "resize", "train", "--size", "128Mi")["size_bytes"] == 128 * MI
    shown = penstockd.cli_json("volume", "show", "train")
    assert shown["size_bytes"] == 128 * MI and shown["policy"] == changed["policy"]
    assert shown["uuid"] == created["uuid"]
    assert penstockd.cli("volume", "delete", "train").stdout == "deleted volume train\n"
    assert penstockd.cli_json("volume", "list") == []
    penstockd.end()


def test_tables_for_people(penstockd):
    """Without --json there are tables and cards, and an empty list says what to type."""
    assert "penstock volume create" in penstockd.cli("volume", "list").stdout
    penstockd.cli("volume", "create", "v", "--size", "1Gi", "--reserve", "500iops")
    table = penstockd.cli("volume", "list").stdout
    assert "NAME" in table and "1 GiB" in table and "500iops" in table
    assert "nqn.2014-08" in penstockd.cli("volume", "show", "v").stdout
    for word in ("pool", "tenant", "profile"):
        assert "NAME" in penstockd.cli(word, "list").stdout


@pytest.mark.parametrize("arguments, code, text", [
    (["volume", "show", "none"], 4, "no volume 'none'"),
    (["volume", "create", "v"], 2, "--size is missing"),
    (["volume", "create", "v", "--size", "many"], 2, "--size needs a size"),
    (["volume", "create", "V!", "--size", "1Mi"], 2, "can't be a name"),
    (["volume", "create", "v", "--size", "1Mi", "--tenant", "none"], 4, "no tenant 'none'"),
    (["volume", "create", "v", "--size", "1Mi", "--profile", "none"], 4, "no profile 'none'"),
    (["volume", "create", "v", "--size", "1Mi", "--pool", "none"], 4, "no pool 'none'"),
    (["volume", "create", "v", "--size", "1Mi", "--limit", "10iops", "--reserve", "20iops"], 2, "above the limit"),
    (["volume", "set", "v"], 2, "nothing to change"),
    (["volume", "frob"], 2, "unknown verb"),
    (["volume", "list", "--frob"], 2, "unknown option"),
    (["volume", "show", "a", "b"], 2, "unexpected argument"),
    (["volume", "show"], 2, "missing NAME"),
    (["volume", "show", "a/../b?force=true"], 4, "no volume"),
    (["volume", "clone", "a@b"], 2, "one new volume"),
    (["volume", "clone", "none@v", "new"], 4, "no snapshot 'none@v'"),
    (["snapshot", "create", "v"], 2, "VOLUME@NAME"),
    (["snapshot", "create", "none@v"], 4, "no volume 'none'"),
    (["snapshot", "show", "none@v"], 4, "no snapshot 'none@v'"),
    (["snapshot", "list", "none"], 4, "no volume 'none'"),
    (["snapshot", "rollback", "none@v"], 4, "no volume 'none'"),
    (["snapshot", "diff", "none@v", "--from", "w"], 4, "no snapshot 'none@v'"),
    (["snapshot", "delete", "none@v"], 4, "no snapshot 'none@v'"),
    (["volume", "set", "ram", "--on-full", "wait"], 4, "no volume"),
    (["volume", "flatten", "none"], 4, "no volume 'none'"),
    (["pool", "scrub", "none"], 4, "no pool 'none'"),
    (["pool", "scrub", "--rate", "fast"], 2, "--rate needs a rate"),
    (["pool", "scrub"], 7, "not supported"),
    (["pool", "tasks", "none"], 4, "no pool 'none'"),
    (["pool", "check", "ram"], 1, "not supported"),
    (["pool", "add-device", "ram"], 2, "one path"),
    (["pool", "grow", "ram", "x", "--size", "1Gi"], 7, "was not enlarged"),
    (["pool", "events", "--since", "now"], 2, "--since needs"),
    (["tenant", "delete", "default"], 2, "always exists"),
    (["profile", "set", "dataset", "--weight", "7"], 2, "built in"),
])
def test_mistakes_have_a_message_and_an_exit_code(penstockd, arguments, code, text):
    """Each mistake ends with its documented exit code and says what is wrong."""
    result = penstockd.cli(*arguments)
    assert result.returncode == code, result.stderr
    assert text in result.stderr
    assert result.stderr.startswith("penstock: ")


def test_existing_names_are_refused(penstockd):
    """A second object of the same name is a conflict; the first is untouched."""
    first = penstockd.cli_json("volume", "create", "v", "--size", "1Mi")
    for command in (["volume", "create", "v", "--size", "2Mi"], ["tenant", "create", "default"],
                    ["profile", "create", "dataset"]):
        result = penstockd.cli(*command)
        assert result.returncode == 5 and "exists already" in result.stderr
    assert penstockd.cli_json("volume", "show", "v") == first


def test_no_daemon(start_penstockd, tmp_path):
    """Without a daemon the message names the socket and the program to start."""
    daemon = start_penstockd()
    daemon.end()
    result = daemon.cli("volume", "list")
    assert result.returncode == 3 and daemon.socket in result.stderr and "penstockd" in result.stderr


def test_quota(penstockd):
    """A tenant's volumes can't exceed its quota, by creating or growing; the quota can't go below what is there."""
    penstockd.cli_json("tenant", "create", "vision", "--quota", "10Mi")
    penstockd.cli_json("volume", "create", "a", "--size", "6Mi", "--tenant", "vision")
    for command in (["volume", "create", "b", "--size", "5Mi", "--tenant", "vision"],
                    ["volume", "resize", "a", "--size", "11Mi"], ["tenant", "set", "vision", "--quota", "5Mi"]):
        result = penstockd.cli(*command)
        assert result.returncode == 6 and "quota" in result.stderr and "vision" in result.stderr
    refused = penstockd.call("POST", "/v1/volumes", {"name": "b", "size_bytes": 5 * MI, "tenant": "vision"})
    text = json.dumps(refused[1])
    assert refused[0] == 507 and "PST_E_QUOTA" in text
    assert f"'b' needs {5 * MI} bytes more, but tenant 'vision' has {4 * MI} left of its quota of {10 * MI}" in text
    assert "penstock tenant set vision --quota" in text and "pool" not in text
    assert f"quota_exceeded tenant=vision volume=b needs_bytes={5 * MI} left_bytes={4 * MI}" in penstockd.text()
    assert penstockd.cli_json("tenant", "show", "vision")["provisioned_bytes"] == 6 * MI
    result = penstockd.cli("tenant", "delete", "vision")
    assert result.returncode == 5 and "1 volume" in result.stderr
    penstockd.cli_json("tenant", "set", "vision", "--quota", "0")
    penstockd.cli_json("volume", "create", "b", "--size", "50Mi", "--tenant", "vision")


def test_reservations_beyond_capacity_are_refused(start_penstockd):
    """What a pool can't honour is not promised."""
    daemon = start_penstockd("--ram", "64Mi", "--capacity", "10000iops")
    daemon.cli_json("tenant", "create", "a", "--reserve", "8000iops")
    result = daemon.cli("tenant", "create", "b", "--reserve", "3000iops")
    assert result.returncode == 6 and "honour" in result.stderr
    result = daemon.cli("volume", "create", "v", "--size", "1Mi", "--tenant", "a", "--reserve", "9000iops")
    assert result.returncode == 6 and "its reservation is more than tenant 'a' or pool 'ram'" in result.stderr
    assert "no space" not in result.stderr and "penstock tenant show" in result.stderr
    assert daemon.cli_json("volume", "list") == []
    daemon.cli_json("volume", "create", "v", "--size", "1Mi", "--tenant", "a", "--reserve", "7000iops")


def test_site_profiles(penstockd):
    """A profile of the site gives new volumes its policy, and can't go while a volume names it."""
    penstockd.cli_json("profile", "create", "tiny", "--summary", "for tests", "--limit", "100iops", "--weight", "7")
    volume = penstockd.cli_json("volume", "create", "v", "--size", "1Mi", "--profile", "tiny", "--weight", "9")
    assert volume["policy"]["limit_iops"] == 100 and volume["policy"]["weight"] == 9
    result = penstockd.cli("profile", "delete", "tiny")
    assert result.returncode == 5 and "'v'" in result.stderr
    penstockd.cli("volume", "delete", "v")
    assert penstockd.cli("profile", "delete", "tiny").returncode == 0
    names = [p["name"] for p in penstockd.cli_json("profile", "list")]
    assert names == ["artifact", "checkpoint", "dataset", "feature", "general"]


def test_port_in_use(start_penstockd):
    """A taken port is a conflict that names the address and the option."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        daemon = start_penstockd("--listen", address)
        assert daemon.failed_with() == 5
        assert address in daemon.text() and "--listen" in daemon.text()
        assert not os.path.exists(daemon.socket)


def test_api_socket(start_penstockd, tmp_path):
    """The socket is its owner's only; a living daemon keeps it, a dead one's is replaced, a file is left alone."""
    first = start_penstockd()
    assert stat.S_IMODE(os.stat(first.socket).st_mode) == 0o600
    second = start_penstockd(api=first.socket)
    assert second.failed_with() == 5 and "running penstockd" in second.text()
    assert first.call("GET", "/healthz")[0] == 200
    first.kill()
    assert os.path.exists(first.socket)
    third = start_penstockd(api=first.socket)
    assert third.ready and third.call("GET", "/healthz")[0] == 200
    third.end()
    assert not os.path.exists(first.socket)
    (tmp_path / "precious").write_text("mine")
    fourth = start_penstockd(api=str(tmp_path / "precious"))
    assert fourth.failed_with() == 5 and (tmp_path / "precious").read_text() == "mine"


@pytest.mark.parametrize("options, text", [
    (["--ram", "lots"], "--ram needs a size"),
    (["--ram", "1Gi", "--listen", "example.org:1"], "numeric address"),
    (["--ram", "1Gi", "--listen", "0.0.0.0:0"], "--insecure"),
    (["--ram", "1Gi", "--shards", "0"], "--shards needs"),
    (["--ram", "1Gi", "--io", "magic"], "does not know"),
    (["--ram", "1Gi", "--ram", "1Gi"], "two pools"),
])
def test_daemon_usage(start_penstockd, options, text):
    """What is wrong on the daemon's command line is said, and nothing is served."""
    daemon = start_penstockd(*options)
    assert daemon.failed_with() in (2, 5) and text in daemon.text()


def test_shards_and_posix(start_penstockd):
    """Several shards, either I/O environment, wildcard addresses: ready line and clean end."""
    daemon = start_penstockd("--shards", "3", "--io", "posix", "--listen", "0.0.0.0:0", "--insecure")
    assert daemon.ready["io"] == "posix"
    port = daemon.ready["listen"][0].rsplit(":", 1)[1]
    volume = daemon.cli_json("volume", "create", "v", "--size", "1Mi")
    assert f"127.0.0.1:{port}" in volume["addresses"] and f"0.0.0.0:{port}" not in volume["addresses"]
    daemon.end()


def test_rest_refuses_nonsense(penstockd):
    """Bad bodies, methods, paths and members get the error object, and the daemon goes on."""
    error(penstockd.call("POST", "/v1/volumes", "{"), 400, "PST_E_INVAL")
    error(penstockd.call("POST", "/v1/volumes"), 400, "PST_E_INVAL")
    error(penstockd.call("POST", "/v1/volumes", "[]"), 400, "PST_E_INVAL")
    error(penstockd.call("POST", "/v1/volumes", '{"name":"a","name":"b"}'), 400, "PST_E_INVAL")
    error(penstockd.call("POST", "/v1/volumes", b"\xff\xfe"), 400, "PST_E_INVAL")
    for body in ({"name": "a"}, {"name": "a", "size_bytes": -1}, {"name": "a", "size_bytes": 2**63 - 1},
                 {"name": "a", "size_bytes": "1"}, {"name": 7, "size_bytes": 1}, {"size_bytes": 1},
                 {"name": "a" * 64, "size_bytes": 1}, {"name": "a\0b", "size_bytes": 1},
                 {"name": "a", "size_bytes": 1, "colour": "red"}, {"name": "a", "size_bytes": 1, "policy": []},
                 {"name": "a", "size_bytes": 1, "policy": {"speed": 1}},
                 {"name": "a", "size_bytes": 1, "policy": {"weight": 0}}):
        error(penstockd.call("POST", "/v1/volumes", body), 400, "PST_E_INVAL")
    assert "reserve" in error(penstockd.call("PATCH", "/v1/tenants/default", {"policy": {"reserve_iops": -1}}), 400,
                              "PST_E_INVAL")
    error(penstockd.call("POST", "/v1/volumes", "x" * 70000), 413, "PST_E_INVAL")
    error(penstockd.call("PUT", "/v1/volumes"), 405, "PST_E_INVAL")
    error(penstockd.call("DELETE", "/v1/pools/ram"), 405, "PST_E_INVAL")
    error(penstockd.call("GET", "/v1/volumes/a/b"), 404, "PST_E_NOTFOUND")
    error(penstockd.call("GET", "/v1/nothing"), 404, "PST_E_NOTFOUND")
    error(penstockd.call("DELETE", "/v1/volumes/a?force=maybe"), 400, "PST_E_INVAL")
    assert penstockd.call("GET", "/v1/volumes") == (200, [])
    penstockd.end()


def test_many_volumes_at_once(penstockd):
    """Two hundred volumes come and go quickly, also asked for side by side."""
    import concurrent.futures
    import time
    began = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(16) as workers:
        answers = list(workers.map(lambda i: penstockd.call("POST", "/v1/volumes",
                                                            {"name": f"v{i}", "size_bytes": MI}), range(200)))
    assert all(status == 201 for status, _ in answers)
    assert len({a["uuid"] for _, a in answers}) == 200
    assert len(penstockd.call("GET", "/v1/volumes")[1]) == 200
    assert len(penstockd.call("GET", "/v1/stats")[1]["volumes"]) == 200
    with concurrent.futures.ThreadPoolExecutor(16) as workers:
        assert all(s == 204 for s, _ in workers.map(lambda i: penstockd.call("DELETE", f"/v1/volumes/v{i}"), range(200)))
    assert time.monotonic() - began < 20
    penstockd.end()


def test_top(penstockd):
    """One look as table and as JSON; an interval that makes no sense is refused."""
    penstockd.cli_json("volume", "create", "v", "--size", "1Mi")
    view = penstockd.cli_json("top", "--once", "--interval", "200ms")
    assert view["volumes"][0]["name"] == "v" and view["tenants"][0]["name"] == "default"
    assert "P99 US" in penstockd.cli("top", "--once", "--interval", "200ms").stdout
    assert penstockd.cli("top", "--interval", "1ms").returncode == 2


def test_help_everywhere(penstockd):
    """Every command and verb explains itself."""
    for word, verbs in {"volume": "create clone list show set resize flatten straighten detach attach delete",
                        "snapshot": "create list show diff rollback delete", "tenant": "create list show set delete",
                        "profile": "create list show set delete", "port": "list show set",
                        "pool": "list show check tasks scrub add-device grow events"}.items():
        assert penstockd.cli(word, "--help").returncode == 0
        for verb in verbs.split():
            result = penstockd.cli(word, verb, "--help")
            assert result.returncode == 0 and result.stdout.startswith(f"usage: penstock {word} {verb}")
    assert penstockd.cli("top", "--help").returncode == 0


def test_second_interrupt_is_harmless(penstockd):
    """SIGTERM twice in a row ends the daemon, one way or the other, at once."""
    penstockd.process.terminate()
    penstockd.process.terminate()
    assert penstockd.process.wait(10) in (0, 143)

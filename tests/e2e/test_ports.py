# SPDX-License-Identifier: Apache-2.0
"""Several ports of one daemon: what they are called, what hosts find at each, and how well volumes may be used there."""

from plain_host import DISCOVERY, Controller

TWO = ("--listen", "127.0.0.1:0", "--listen", "127.0.0.2:0")
ANA_EVENT, DISCOVERY_EVENT = 0x0c0302, 0x70f002


def addresses(daemon):
    return [port["address"] for port in daemon.cli_json("port", "list")]


def test_access_changes_live(start_penstockd):
    """A closed port refuses at once with a status that sends hosts elsewhere; the other one serves; an event tells."""
    daemon = start_penstockd(*TWO)
    nqn = daemon.cli_json("volume", "create", "v", "--size", "1Mi")["nqn"]
    assert [p["id"] for p in daemon.cli_json("port", "list")] == [1, 2]
    one, two = (Controller(address, nqn) for address in addresses(daemon))
    assert one.write(3, 7) == 0 and two.read(3) == (0, 7)
    two.want_events(1 << 11)
    port = daemon.cli_json("port", "set", "2", "--ana", "inaccessible")
    assert port["ana"] == "inaccessible" and port["groups"][0] == {"group": 1, "ana": "inaccessible", "volumes": 1}
    assert two.admin.answer() == (0, ANA_EVENT)
    assert two.log(0x0c, 52)[16 + 16] == 3 and one.log(0x0c, 52)[16 + 16] == 1
    assert two.write(3, 8) == 0x302 and two.read(3)[0] == 0x302
    assert one.read(3) == (0, 7)
    for state, status in (("persistent-loss", 0x301), ("change", 0x303), ("non-optimized", 0), ("optimized", 0)):
        daemon.cli_json("port", "set", "2", "--ana", state)
        assert two.read(3)[0] == status
    for controller in (one, two):
        controller.close()


def test_groups_and_restarts(start_penstockd, tmp_path):
    """The access is of a group's volumes, and is the same after a crash of the daemon."""
    directory = tmp_path / "d"
    directory.mkdir()
    options = ("--pool", directory / "pool", "--pool-size", "64Mi", "--listen", "7=127.0.0.1:0", "--listen", "127.0.0.2:0")
    daemon = start_penstockd(*options, directory=directory)
    daemon.cli_json("volume", "create", "a", "--size", "1Mi", "--ana-group", "2")
    daemon.cli_json("volume", "create", "b", "--size", "1Mi")
    daemon.cli_json("port", "set", "7", "--ana", "inaccessible", "--group", "2")
    daemon.kill()
    daemon = start_penstockd(*options, directory=directory)
    ports = {p["id"]: p for p in daemon.cli_json("port", "list")}
    assert sorted(ports) == [2, 7] and ports[7]["ana"] == "mixed" and ports[2]["ana"] == "optimized"
    a, b = (daemon.cli_json("volume", "show", name) for name in "ab")
    assert (a["ana_group"], b["ana_group"]) == (2, 1)
    closed, open_ = Controller(ports[7]["address"], a["nqn"]), Controller(ports[7]["address"], b["nqn"])
    assert closed.write(0, 1) == 0x302 and open_.write(0, 1) == 0
    assert daemon.cli_json("volume", "set", "a", "--ana-group", "1")["ana_group"] == 1
    assert closed.write(0, 1) == 0
    assert daemon.cli("port", "set", "9", "--ana", "optimized").returncode == 4
    assert daemon.cli("port", "set", "7", "--ana", "open").returncode == 2
    assert daemon.cli("port", "set", "7").returncode == 2
    assert daemon.cli("volume", "set", "a", "--ana-group", "33").returncode == 2
    closed.close()
    open_.close()


def test_ids_are_unique(start_penstockd):
    """Two ports with one id, and ids that are none, are refused."""
    for listen in (("2=127.0.0.1:0", "127.0.0.2:0"), ("0=127.0.0.1:0",), ("x=127.0.0.1:0",), ("65536=127.0.0.1:0",)):
        options = [word for address in listen for word in ("--listen", address)]
        assert start_penstockd(*options).failed_with() == 2


def test_discovery(start_penstockd, tmp_path):
    """Both ports and the referral are listed; the service has a name that outlives the daemon; changes are told."""
    directory = tmp_path / "d"
    directory.mkdir()
    options = ("--pool", directory / "pool", "--pool-size", "64Mi", *TWO, "--referral", "192.0.2.7")
    daemon = start_penstockd(*options, directory=directory)
    nqn = daemon.cli_json("volume", "create", "v", "--size", "1Mi")["nqn"]
    where = addresses(daemon)
    host = Controller(where[0], DISCOVERY)
    generation, entries = host.discovery()
    own = entries[0]["nqn"]
    assert own != DISCOVERY
    assert entries == [*({"subtype": 3, "portid": i + 1, "eflags": 2, "address": where[i], "nqn": own} for i in (0, 1)),
                       *({"subtype": 2, "portid": i + 1, "eflags": 0, "address": where[i], "nqn": nqn} for i in (0, 1)),
                       {"subtype": 1, "portid": 0, "eflags": 0, "address": "192.0.2.7:8009", "nqn": DISCOVERY}]
    assert host.discovery()[0] == generation
    host.want_events(1 << 31)
    daemon.cli_json("volume", "create", "w", "--size", "1Mi")
    assert host.admin.answer() == (0, DISCOVERY_EVENT)
    assert host.discovery()[0] > generation and len(host.discovery()[1]) == 7
    host.close()
    daemon.kill()
    daemon = start_penstockd(*options, directory=directory)
    host = Controller(addresses(daemon)[1], own, discovery=True)
    again, entries = host.discovery()
    assert entries[0]["nqn"] == own and len(entries) == 7 and again != generation
    assert host.identify(1)[768:768 + len(own)] == own.encode()
    host.close()


def test_detach(penstockd):
    """A detached volume is not there for a host that stays connected, until it is attached again."""
    nqn = penstockd.cli_json("volume", "create", "v", "--size", "1Mi")["nqn"]
    host = Controller(penstockd.cli_json("volume", "show", "v")["addresses"][0], nqn)
    assert host.write(0, 5) == 0 and host.identify(2)[0] == 1
    assert penstockd.cli("volume", "detach", "v").returncode == 5
    assert penstockd.cli_json("volume", "detach", "v", "--force")["attached"] is False
    assert host.read(0)[0] == 0x400b and host.identify(2)[0] == 0
    assert penstockd.cli_json("volume", "attach", "v")["attached"] is True
    assert host.read(0) == (0, 5)
    host.close()

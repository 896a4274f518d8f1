# SPDX-License-Identifier: Apache-2.0
"""The machine outside: the network that the guests are in, and the target that they are hosts of."""
import json, os, select, shutil, signal, subprocess

HERE = os.path.dirname(os.path.abspath(__file__))
TARGET, PORT, SECOND_PORT, RELAYED_PORT, API_PORT = "192.168.78.1", 4420, 4421, 4422, 4480


def address(number):
    return f"192.168.78.{1 + number}"


def make_network(netns, guests):
    commands = [f"netns add {netns}", f"-n {netns} link set lo up"]
    for number in range(1, guests + 1):
        commands += [f"-n {netns} tuntap add dev tap{number} mode tap", f"-n {netns} link set tap{number} up",
                     f"-n {netns} addr add {TARGET}/32 dev tap{number}",
                     f"-n {netns} route add {address(number)}/32 dev tap{number}"]
    for words in commands:
        subprocess.run(["ip", *words.split()], check=True)


class RamTarget:
    """The target alone, on memory: its data dies with it, so it is not killed."""

    def __init__(self, build, netns, scratch):
        self.command = ["ip", "netns", "exec", netns, f"{build}/tests/interop/ram-target", f"{TARGET}:{PORT}", "700Mi", "2"]
        self.log = f"{scratch}/target.log"
        self.process, self.relays = None, []

    def start(self):
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(self.command, stdout=subprocess.PIPE, stderr=log, text=True)
        return json.loads(first_line(self.process.stdout))["nqn"]

    def order(self, words):
        """What a guest asks of the machine outside: exit status and output."""
        return 1, f"nobody knows how to {' '.join(words)}"

    def end(self, number):
        if self.process and self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(timeout=20) if self.process else 0

    def done(self):
        self.end(signal.SIGKILL)
        for relay in self.relays:
            relay.kill()
            relay.wait()


class Daemon(RamTarget):
    """penstockd on a pool in a file, with one volume; at RELAYED_PORT a relay to it that can reset connections."""

    def __init__(self, build, netns, scratch, shards):
        super().__init__(build, netns, scratch)
        self.build, self.netns, self.scratch, self.shards = build, netns, scratch, shards
        self.api = f"unix:{scratch}/api.sock"
        self.nqn = None
        with open(f"{scratch}/kek", "wb") as kek:
            kek.write(os.urandom(32))
        os.chmod(f"{scratch}/kek", 0o400)
        for program in (f"{build}/bin/penstock", f"{HERE}/relay"):  # /tmp, where they may be, is the guest's own
            shutil.copy(program, f"{scratch}/outside")
        self.relays = [subprocess.Popen(["ip", "netns", "exec", netns, f"{HERE}/relay", f"{TARGET}:{port}", to], text=True,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE)
                       for port, to in ((API_PORT, self.api), (RELAYED_PORT, f"{TARGET}:{PORT}"))]

    def cli(self, *words):
        done = subprocess.run([f"{self.build}/bin/penstock", *words], check=False, text=True, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, env={**os.environ, "PENSTOCK_URL": self.api})
        return done.returncode, done.stdout

    def start(self):
        ready, ready_out = os.pipe()
        command = ["ip", "netns", "exec", self.netns, f"{self.build}/bin/penstockd", "--pool", f"{self.scratch}/pool",
                   "--pool-size", "3Gi", "--listen", f"{TARGET}:{PORT}", "--listen", f"{TARGET}:{SECOND_PORT}",
                   "--api", self.api, "--insecure", "--shards", str(self.shards),
                   "--kek", f"{self.scratch}/kek", "--ready-fd", str(ready_out)]
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(command, pass_fds=[ready_out], stderr=log)
        os.close(ready_out)
        with os.fdopen(ready) as lines:
            json.loads(first_line(lines))
        if self.nqn is None:
            self.nqn = json.loads(self.cli("volume", "create", "guest", "--size", "700Mi", "--json")[1])["nqn"]
        return self.nqn

    def order(self, words):
        if words[0] == "kill-target":
            self.end(signal.SIGKILL)
            self.start()
            return 0, ""
        if words[0] in ("block-port", "open-port"):  # what the target sends from this port is dropped: silence
            done = subprocess.run(["ip", "-n", self.netns, "rule", "add" if words[0] == "block-port" else "del", "ipproto",
                                   "tcp", "sport", words[1], "blackhole"], check=False)
            return done.returncode, ""
        if words[0] == "reset-connection":
            relay = self.relays[-1]
            relay.stdin.write(f"reset {words[1]}\n")
            relay.stdin.flush()
            answer = first_line(relay.stdout)
            return int(answer != "done\n"), answer
        return self.cli(*words)


def first_line(stream, seconds=20):
    ready, _, _ = select.select([stream], [], [], seconds)
    line = stream.readline() if ready else ""
    if not line:
        raise SystemExit("FAIL the target did not get ready")
    return line

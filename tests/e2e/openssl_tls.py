# SPDX-License-Identifier: Apache-2.0
"""TLS that is not ours: the openssl program as the other end, with keys derived by tests/unit/tls-vectors.py."""

import importlib.util
import pathlib
import re
import select
import socket
import struct
import subprocess
import time

from independent_auth import Queue

_path = pathlib.Path(__file__).resolve().parents[1] / "unit/tls-vectors.py"
_spec = importlib.util.spec_from_file_location("tls_vectors", _path)
vectors = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(vectors)

SUITES = {1: "TLS_AES_128_GCM_SHA256", 2: "TLS_AES_256_GCM_SHA384"}


def der(tag, content):
    length = bytes([len(content)]) if len(content) < 128 else bytes([0x81, len(content)])
    return bytes([tag]) + length + content


def session_file(path, psk, hash_id):
    """A PSK as a session that openssl reads: with -psk it knows TLS_AES_128_GCM_SHA256 only."""
    number = 0x1300 + hash_id
    age = der(0xa1, der(2, struct.pack(">I", int(time.time())))) + der(0xa2, der(2, struct.pack(">H", 3600)))
    whole = der(0x30, der(2, b"\1") + der(2, b"\3\4") + der(4, struct.pack(">H", number)) + der(4, b"")
                + der(4, psk) + age)
    text = vectors.base64.encodebytes(whole).decode()
    path.write_text(f"-----BEGIN SSL SESSION PARAMETERS-----\n{text}-----END SSL SESSION PARAMETERS-----\n")
    return path


class Pipe:
    """What of a socket Queue needs, over the openssl program's standard input and output."""

    def __init__(self, command):
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                        bufsize=0)
        self.timeout = 20

    def sendall(self, data):
        self.process.stdin.write(data)

    def recv(self, count):
        ready = select.select([self.process.stdout], [], [], self.timeout)[0]
        assert ready, "nothing came"
        return self.process.stdout.read(count)

    def settimeout(self, seconds):
        self.timeout = seconds

    def close(self):
        """What openssl had to say."""
        for stream in (self.process.stdin, self.process.stdout):
            try:
                stream.close()
            except BrokenPipeError:
                pass
        try:
            self.process.wait(1)  # it ends by itself where the other side has ended
        except subprocess.TimeoutExpired:
            self.process.terminate()
            self.process.wait()
        said = self.process.stderr.read().decode(errors="replace")
        self.process.stderr.close()
        return said


def client_command(address, identity, psk, hash_id, *options):
    return ["openssl", "s_client", "-connect", address, "-tls1_3", "-ciphersuites", SUITES[hash_id], "-psk_identity",
            identity, *(("-psk_session", psk) if isinstance(psk, pathlib.Path) else ("-psk", psk.hex())), *options]


class TlsQueue(Queue):
    """The independent host over openssl's TLS."""

    def __init__(self, address, identity, psk, hash_id=1, messages=None):
        """@messages: a file for what TLS says, both ways; openssl ends with its input then."""
        told = ("-no_ign_eof", "-msg", "-msgfile", messages) if messages else ()
        self.socket = Pipe(client_command(address, identity, psk, hash_id, "-quiet", *told))
        self.socket.sendall(struct.pack("<BBBBIHBBI112x", 0, 0, 128, 0, 128, 0, 0, 0, 0))
        try:
            assert self.take(128)[0] == 1  # ICResp
        except ConnectionResetError:
            raise ConnectionResetError(self.socket.close()) from None
        self.cid = 0


class Server:
    """openssl as a target that can do nothing but TLS."""

    def __init__(self, identity, psk, hash_id=1):
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        command = ["openssl", "s_server", "-accept", f"127.0.0.1:{self.port}", "-tls1_3", "-nocert", "-naccept", "1",
                   "-ciphersuites", SUITES[hash_id], "-psk_identity", identity]
        command.append("-msg")
        command += ["-psk_session", psk] if isinstance(psk, pathlib.Path) else ["-psk", psk.hex()]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.STDOUT, bufsize=0)
        said = b""
        while b"ACCEPT" not in said:
            assert select.select([self.process.stdout], [], [], 10)[0], "openssl does not listen"
            more = self.process.stdout.read(4096)
            assert more, said
            said += more

    def end(self):
        """What it said, with what it was sent."""
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.terminate()
        return self.process.communicate()[0]


def goodbyes(text, direction):
    """How many closing alerts (RFC 8446, 6.1) openssl has sent (">>>") or received ("<<<"), of what -msg says."""
    return len(re.findall(direction + r".*Alert.*close_notify", text))


def cipher_of(text):
    return re.search(r"Cipher\s*(?:is|:)\s*(\S+)", text)[1]

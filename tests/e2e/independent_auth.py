# SPDX-License-Identifier: Apache-2.0
"""An NVMe/TCP host that knows nothing but how to connect and to authenticate, from the specifications alone.

NVMe TCP Transport 1.0 (ICReq, CapsuleCmd with in-capsule data, R2T is not needed), NVM Express Base 2.0, 6.3 (Connect)
and 8.13.5 (DH-HMAC-CHAP). It shares the arithmetic with tests/unit/auth-vectors.py and no code with the product.
"""

import base64
import hashlib
import hmac
import importlib.util
import pathlib
import secrets
import socket
import struct

_path = pathlib.Path(__file__).resolve().parents[1] / "unit/auth-vectors.py"
_spec = importlib.util.spec_from_file_location("auth_vectors", _path)
vectors = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(vectors)

ATR = 1 << 17
CONNECT, PROPERTY_GET, AUTH_SEND, AUTH_RECEIVE = 1, 4, 5, 6


def key_of(text):
    """(transform, bytes) of DHHC-1:HH:BASE64:"""
    raw = base64.b64decode(text.split(":")[2], validate=True)
    return int(text.split(":")[1]), raw[:-4]


class Queue:
    """One TCP connection."""

    def __init__(self, address):
        host, port = address.rsplit(":", 1)
        self.socket = socket.create_connection((host.strip("[]"), int(port)), timeout=20)
        self.socket.sendall(struct.pack("<BBBBIHBBI112x", 0, 0, 128, 0, 128, 0, 0, 0, 0))
        assert self.take(128)[0] == 1  # ICResp
        self.cid = 0

    def close(self):
        self.socket.close()

    def take(self, count):
        data = b""
        while len(data) < count:
            more = self.socket.recv(count - len(data))
            if not more:
                raise ConnectionResetError("closed by the target")
            data += more
        return data

    def command(self, sqe, out=b"", into=0):
        """(status, dword 0, data). @sqe: 64 bytes; CID and SGL are filled in."""
        self.cid += 1
        sqe = bytearray(sqe)
        sqe[1] = 0x40
        sqe[2:4] = struct.pack("<H", self.cid)
        sqe[24:40] = struct.pack("<QI3xB", 0, len(out) or into, 0x01 if out else 0x5a)
        self.socket.sendall(struct.pack("<BBBBI", 4, 0, 72, 72 if out else 0, 72 + len(out)) + bytes(sqe) + out)
        data = b""
        while True:
            kind, flags, header, pdo, length = struct.unpack("<BBBBI", self.take(8))
            rest = self.take(length - 8)
            if kind == 7:  # C2HData
                data += rest[pdo - 8:]
                if flags & 8:  # SUCCESS
                    return 0, 0, data
            elif kind == 5:  # CapsuleResp
                dw0, status = struct.unpack("<I10xH", rest[:16])
                return status >> 1, dw0, data
            else:
                raise AssertionError(f"PDU {kind}, header {header}")

    def connect(self, hostnqn, subnqn, qid=0, cntlid=0xffff):
        """(status, dword 0)"""
        sqe = struct.pack("<BBHB19x16xHHHB1xI12x", 0x7f, 0, 0, CONNECT, 0, qid, 31, 0, 0)
        data = struct.pack("<16sH238x256s256s256x", b"independent host", cntlid, subnqn.encode(), hostnqn.encode())
        return self.command(sqe, data)[:2]

    def capabilities(self):
        """The status of Property Get, the first command after Connect."""
        return self.command(struct.pack("<BBHB35xB3xI8x8x", 0x7f, 0, 0, PROPERTY_GET, 1, 0))[0]

    def auth(self, kind, length):
        return struct.pack("<BBHB19x16xBBBBI16x", 0x7f, 0, 0, kind, 0, 1, 1, 0xe9, length)

    def send(self, message):
        return self.command(self.auth(AUTH_SEND, len(message)), out=message)[0]

    def receive(self, length=4096):
        status, _, data = self.command(self.auth(AUTH_RECEIVE, length), into=length)
        assert status == 0, hex(status)
        return data

    def authenticate(self, hostnqn, subnqn, host_key, ctrl_key=None, hashes=(1, 2, 3), groups=(0, 1, 2, 3, 4, 5)):
        """0, or the failure code that was got. Asserts that the controller's proof is right, where it is asked for."""
        t_id = secrets.randbelow(1 << 16)
        descriptor = struct.pack("BBBB30s30s", 1, 0, len(hashes), len(groups), bytes(hashes), bytes(groups))
        assert self.send(struct.pack("<BBHHBB", 0, 0, 0, t_id, 0, 1) + descriptor) == 0
        answer = self.receive()
        if answer[:2] == b"\0\xf1":
            return answer[7]
        kind, message, _, got_t_id, size, _, hash_id, group, dhvlen, s1 = struct.unpack("<BBHHBBBBHI", answer[:16])
        assert (kind, message, got_t_id) == (1, 1, t_id) and hash_id in hashes and group in groups
        digest, c1, gx = vectors.HASHES[hash_id], answer[16:16 + size], answer[16 + size:16 + size + dhvlen]
        assert size == hashlib.new(digest).digest_size and s1 != 0
        c2, s2, gy, augment = secrets.token_bytes(size), 1 + secrets.randbelow(1 << 31), b"", lambda c: c
        if group:
            p, length = vectors.prime(group), vectors.GROUPS[group][0] // 8
            y = secrets.randbits(512)
            assert dhvlen == length and 1 < int.from_bytes(gx, "big") < p - 1
            gy = pow(2, y, p).to_bytes(length, "big")
            session = hashlib.new(digest, pow(int.from_bytes(gx, "big"), y, p).to_bytes(length, "big")).digest()
            augment = lambda c: hmac.new(session, c, digest).digest()

        def response(text, nqn, challenge, seqnum, label, other):
            key = vectors.transformed(*key_of(text), nqn)
            content = (augment(challenge) + struct.pack("<IHB", seqnum, t_id, 0) + label + nqn.encode() + b"\0"
                       + other.encode())
            return hmac.new(key, content, digest).digest()

        r1 = response(host_key, hostnqn, c1, s1, b"HostHost", subnqn)
        want = ctrl_key is not None
        reply = struct.pack("<BBHHBBBBHI", 1, 2, 0, t_id, size, 0, want, 0, len(gy), s2 if want else 0)
        assert self.send(reply + r1 + (c2 if want else bytes(size)) + gy) == 0
        answer = self.receive()
        if answer[:2] == b"\0\xf1":
            return answer[7]
        assert answer[:2] == b"\1\3" and answer[8] == want
        if want:
            r2 = answer[16:16 + size]
            assert r2 == response(ctrl_key, subnqn, c2, s2, b"Controller", hostnqn), "the controller's proof is wrong"
            assert self.send(struct.pack("<BBHH10x", 1, 4, 0, t_id)) == 0
        return 0

#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Test vectors of NVMe/TCP's TLS keys, from the specifications alone: hmac, hashlib, and the openssl program.

NVM Express TCP Transport 1.0, 3.6.1.3 and 3.6.1.5; TP8018: interchange format, retained PSK, PSK identity, TLS PSK. RFC 5869:
HKDF. RFC 8446, 7.1: HKDF-Expand-Label. Usage: tls-vectors.py > tls-vectors.h; --check FILE tells whether FILE is what
comes out.
"""
import base64
import hashlib
import hmac
import struct
import subprocess
import sys
import zlib

HASHES = {1: "sha256", 2: "sha384"}
SHORT = ("nqn.2026-01.example:host", "nqn.2026-01.example:subsystem")
UUIDS = ("nqn.2014-08.org.nvmexpress:uuid:11111111-2222-3333-4444-555555555555",
         "nqn.2026-01.io.penstock:uuid:66666666-7777-8888-9999-aaaaaaaaaaaa")
LONG = ("nqn.2026-01.example:" + "h" * 203, "nqn.2026-01.example:" + "s" * 203)
# Hash of the interchange format, bytes of the key, names, version of the identity, hash of the identity.
CASES = [(0, 32, SHORT, 1, 1), (0, 48, SHORT, 1, 2), (1, 32, UUIDS, 1, 1), (2, 48, UUIDS, 1, 2), (1, 32, LONG, 1, 1),
         (2, 48, LONG, 1, 2), (0, 32, UUIDS, 0, 1), (1, 32, UUIDS, 0, 1), (2, 48, SHORT, 0, 2), (1, 32, UUIDS, 1, 2),
         (2, 48, UUIDS, 1, 1)]


def expand(digest, prk, info, length):
    """RFC 5869, 2.3, whole: T(1) || T(2) || ..."""
    out, block, number = b"", b"", 1
    while len(out) < length:
        block = hmac.new(prk, block + info + bytes([number]), digest).digest()
        out += block
        number += 1
    return out[:length]


def expand_label(digest, secret, label, context, length):
    """HKDF-Expand-Label of what HKDF-Extract(0, secret) gives."""
    prk = hmac.new(bytes(hashlib.new(digest).digest_size), secret, digest).digest()
    label = b"tls13 " + label
    return expand(digest, prk, struct.pack(">HB", length, len(label)) + label + bytes([len(context)]) + context, length)


def interchange(hash_id, key):
    return f"NVMeTLSkey-1:{hash_id:02}:{base64.b64encode(key + struct.pack('<I', zlib.crc32(key))).decode()}:"


def retained_of(hash_id, key, hostnqn):
    return expand_label(HASHES[hash_id], key, b"HostNQN", hostnqn.encode(), len(key)) if hash_id else key


def identity_and_psk(retained, names, version, hash_id):
    digest = HASHES[hash_id]
    identity = f"NVMe{version}R{hash_id:02} {names[0]} {names[1]}"
    context = identity
    if version == 1:
        mac = base64.b64encode(hmac.new(retained, f"{names[0]} {names[1]} NVMe-over-Fabrics".encode(), digest).digest())
        identity += " " + mac.decode()
        context = f"{hash_id:02} {mac.decode()}"
    return identity, expand_label(digest, retained, b"nvme-tls-psk", context.encode(), hashlib.new(digest).digest_size)


def derive(text, names, version=1, hash_id=None):
    """(identity, TLS PSK) of a key in interchange format: for tests that speak TLS with other programs."""
    _, kind, encoded, _ = text.split(":")
    key = base64.b64decode(encoded)[:-4]
    retained = retained_of(int(kind), key, names[0])
    return identity_and_psk(retained, names, version, hash_id or (2 if len(key) == 48 else 1))


def c_text(name, value):
    pieces = [value[i:i + 96] for i in range(0, len(value), 96)] or [""]
    return f"\t\t.{name} = " + "\n\t\t\t".join(f'"{p}"' for p in pieces) + ",\n"


def case(number, hash_id, size, names, version, identity_hash):
    key = hashlib.shake_256(f"configured PSK {number}".encode()).digest(size)
    identity, psk = identity_and_psk(retained_of(hash_id, key, names[0]), names, version, identity_hash)
    return (f"\t{{\n\t\t.made_by_hosts = {int(version == 1 and identity_hash == (2 if size == 48 else 1))},\n"
            + c_text("key", interchange(hash_id, key)) + c_text("hostnqn", names[0]) + c_text("subnqn", names[1])
            + c_text("identity", identity) + c_text("psk", psk.hex()) + "\t},\n")


def self_test():
    """RFC 5869's own vector, and openssl's HKDF of one of ours."""
    okm = expand("sha256", hmac.new(bytes(range(13)), b"\x0b" * 22, "sha256").digest(), bytes(range(0xf0, 0xfa)), 42)
    assert okm.hex() == ("3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865")
    info = struct.pack(">HB", 32, 13) + b"tls13 HostNQN" + bytes([len(SHORT[0])]) + SHORT[0].encode()
    theirs = subprocess.run(["openssl", "kdf", "-keylen", "32", "-kdfopt", "digest:SHA256", "-kdfopt",
                             "hexkey:" + "07" * 32, "-kdfopt", "hexsalt:" + "00" * 32, "-kdfopt",
                             "hexinfo:" + info.hex(), "HKDF"], capture_output=True, check=True, text=True).stdout
    assert theirs.strip().replace(":", "").lower() == retained_of(1, b"\x07" * 32, SHORT[0]).hex(), theirs


def header():
    return ("/* SPDX-License-Identifier: Apache-2.0 */\n/* Written by tls-vectors.py from the specifications. */\n"
            "/* clang-format off */\n"
            "static const struct tls_vector {\n"
            "\tbool made_by_hosts; /* what our host would offer; others are only taken */\n"
            "\tconst char *key, *hostnqn, *subnqn, *identity, *psk; /* psk: hexadecimal */\n} tls_vectors[] = {\n"
            + "".join(case(n, *c) for n, c in enumerate(CASES)) + "};\n")


def main():
    if sys.argv[1:2] == ["--check"]:
        self_test()
        with open(sys.argv[2], encoding="utf-8") as f:
            same = f.read() == header()
        print("the vectors are what the specifications give" if same else
              "the vectors differ: tests/unit/tls-vectors.py > tests/unit/tls-vectors.h")
        return 0 if same else 1
    sys.stdout.write(header())
    return 0


if __name__ == "__main__":
    sys.exit(main())

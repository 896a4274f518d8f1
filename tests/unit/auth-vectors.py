#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Test vectors of DH-HMAC-CHAP, from the specifications alone: hmac, hashlib, whole numbers, and the openssl program.

NVM Express Base 2.0, 8.13.5, for messages and values; RFC 7919, appendix A, for the groups, whose primes are computed
from their definition here. Usage: auth-vectors.py > auth-vectors.h; --check FILE tells whether FILE is what comes out.
"""
import base64
import hashlib
import hmac
import struct
import subprocess
import sys
import zlib

HOSTNQN = "nqn.2014-08.org.nvmexpress:uuid:11111111-2222-3333-4444-555555555555"
SUBNQN = "nqn.2026-01.io.penstock:uuid:66666666-7777-8888-9999-aaaaaaaaaaaa"
HASHES = {1: "sha256", 2: "sha384", 3: "sha512"}
# Size of the group, the offset X of its prime, bytes of our exponents (by identifier).
GROUPS = {1: (2048, 560316, 29), 2: (3072, 2625351, 35), 3: (4096, 5736041, 41), 4: (6144, 15705020, 47),
          5: (8192, 10965728, 50)}
CASES = [(h, g) for h in HASHES for g in (0, 1, 2)] + [(1, 3), (2, 4), (3, 5)]


def floor_of_e(bits):
    """[2^bits * e], by the series of 1/n!."""
    guard = 128
    term = total = 1 << (bits + guard)
    n = 1
    while term:
        term //= n
        total += term
        n += 1
    return total >> guard


def prime(group):
    """RFC 7919, A.1: p = 2^b - 2^(b-64) + ([2^(b-130) e] + X) * 2^64 - 1"""
    bits, x, _ = GROUPS[group]
    return (1 << bits) - (1 << (bits - 64)) + ((floor_of_e(bits - 130) + x) << 64) - 1


def noise(label, count):
    """Bytes that look random and are the same every time."""
    return hashlib.shake_256(label.encode()).digest(count)


def key_text(transform, key):
    return f"DHHC-1:{transform:02}:{base64.b64encode(key + struct.pack('<I', zlib.crc32(key))).decode()}:"


def transformed(transform, key, nqn):
    if transform == 0:
        return key
    return hmac.new(key, nqn.encode() + b"NVMe-over-Fabrics", HASHES[transform]).digest()


def exponent(group, random):
    size = GROUPS[group][2]
    return int.from_bytes(random[:size], "little") | 1 << (8 * size - 1)


def c_text(name, value):
    """A member with a string, in lines that fit."""
    pieces = [value[i:i + 96] for i in range(0, len(value), 96)] or [""]
    return f"\t\t.{name} = " + "\n\t\t\t".join(f'"{p}"' for p in pieces) + ",\n"


def case(hash_id, group):
    """One transaction, both ways, as the members of a struct."""
    digest = HASHES[hash_id]
    size = hashlib.new(digest).digest_size
    name = f"{digest} {group}"
    transform = (hash_id + group) % 4
    key_size = 16 + 16 * transform if transform else size
    host_key, ctrl_key = noise("host key " + name, key_size), noise("controller key " + name, key_size)
    ctrl_random, host_random = noise("controller's x " + name, 64), noise("host's y " + name, 64)
    c1, c2 = noise("c1 " + name, 64), noise("c2 " + name, 64)
    s1, s2, t_id = 0x01020304 + group, 0xf0e0d0c0 + hash_id, 0xa500 + 16 * hash_id + group
    gx = gy = b""
    a1, a2 = c1[:size], c2[:size]
    if group:
        p, length = prime(group), GROUPS[group][0] // 8
        x, y = exponent(group, ctrl_random), exponent(group, host_random)
        gx, gy = pow(2, x, p).to_bytes(length, "big"), pow(2, y, p).to_bytes(length, "big")
        session = hashlib.new(digest, pow(2, x * y, p).to_bytes(length, "big")).digest()
        a1, a2 = hmac.new(session, a1, digest).digest(), hmac.new(session, a2, digest).digest()

    def response(key, challenge, seqnum, label, first, second):
        text = challenge + struct.pack("<IHB", seqnum, t_id, 0) + label + first.encode() + b"\0" + second.encode()
        return hmac.new(key, text, digest).digest()

    r1 = response(transformed(transform, host_key, HOSTNQN), a1, s1, b"HostHost", HOSTNQN, SUBNQN)
    r2 = response(transformed(transform, ctrl_key, SUBNQN), a2, s2, b"Controller", SUBNQN, HOSTNQN)
    negotiate = struct.pack("<BBHHBB", 0, 0, 0, t_id, 0, 1) + struct.pack("BBBB30s30s", 1, 0, 1, 1, bytes([hash_id]),
                                                                       bytes([group]))
    challenge = struct.pack("<BBHHBBBBHI", 1, 1, 0, t_id, size, 0, hash_id, group, len(gx), s1) + c1[:size] + gx
    reply = struct.pack("<BBHHBBBBHI", 1, 2, 0, t_id, size, 0, 1, 0, len(gy), s2) + r1 + c2[:size] + gy
    success1 = struct.pack("<BBHHBBB7x", 1, 3, 0, t_id, size, 0, 1) + r2
    return (f"\t{{\n\t\t.hash = {hash_id}, .group = {group}, .t_id = {t_id}, .s1 = {s1}u, .s2 = {s2}u,\n"
            + c_text("host_key", key_text(transform, host_key)) + c_text("ctrl_key", key_text(transform, ctrl_key))
            + c_text("ctrl_exponent", ctrl_random.hex()) + c_text("host_exponent", host_random.hex())
            + c_text("c1", c1.hex()) + c_text("c2", c2.hex())
            + c_text("negotiate", negotiate.hex()) + c_text("challenge", challenge.hex())
            + c_text("reply", reply.hex()) + c_text("success1", success1.hex()) + "\t},\n")


def openssl(*args, data=None):
    return subprocess.run(["openssl", *args], input=data, capture_output=True, check=True).stdout.decode()


def self_test():
    """openssl agrees: the primes are safe primes (the two smaller ones; it takes long), and HMAC is HMAC."""
    for group in (1, 2):
        for number in (prime(group), prime(group) >> 1):
            assert "is prime" in openssl("prime", "-checks", "2", str(number)), group
    ours = hmac.new(b"k" * 32, b"text", "sha384").hexdigest()
    theirs = openssl("dgst", "-sha384", "-mac", "HMAC", "-macopt", "key:" + "k" * 32, data=b"text")
    assert ours in theirs, theirs


def header():
    return (f"/* SPDX-License-Identifier: Apache-2.0 */\n/* Written by auth-vectors.py from the specifications. */\n"
            f"/* clang-format off */\n"
            f"#define VECTOR_HOSTNQN \"{HOSTNQN}\"\n#define VECTOR_SUBNQN \"{SUBNQN}\"\n\n"
            "static const struct vector {\n\tuint8_t hash, group;\n\tuint16_t t_id;\n\tuint32_t s1, s2;\n"
            "\tconst char *host_key, *ctrl_key;\n"
            "\tconst char *ctrl_exponent, *host_exponent, *c1, *c2;             /* randomness, in hexadecimal */\n"
            "\tconst char *negotiate, *challenge, *reply, *success1; /* messages */\n} vectors[] = {\n"
            + "".join(case(h, g) for h, g in CASES) + "};\n")


def main():
    if sys.argv[1:2] == ["--check"]:
        self_test()
        with open(sys.argv[2], encoding="utf-8") as f:
            same = f.read() == header()
        print("the vectors are what the specifications give" if same else
              "the vectors differ: tests/unit/auth-vectors.py > tests/unit/auth-vectors.h")
        return 0 if same else 1
    sys.stdout.write(header())
    return 0


if __name__ == "__main__":
    sys.exit(main())

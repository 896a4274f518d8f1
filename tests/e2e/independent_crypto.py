# SPDX-License-Identifier: Apache-2.0
"""AES-256, XTS and key wrap in plain Python: what the product's encryption is compared with. Slow on purpose: it
follows the standards' text (FIPS 197, IEEE 1619, RFC 3394, RFC 5649) and shares no code with the product.

`independent_crypto.py` checks itself with the standards' own examples; `independent_crypto.py xts KEY LBA FILE` prints the
SHA-256 of FILE's 4096-byte blocks enciphered from LBA on.
"""
import hashlib
import sys


def _sbox():
    box, p, q = [0] * 256, 1, 1
    while True:
        p = p ^ ((p << 1) & 0xff) ^ (0x1b if p & 0x80 else 0)
        q ^= q << 1
        q ^= q << 2
        q ^= q << 4
        q &= 0xff
        if q & 0x80:
            q ^= 0x09
        rot = [((q << n) | (q >> (8 - n))) & 0xff for n in range(5)]
        box[p] = rot[0] ^ rot[1] ^ rot[2] ^ rot[3] ^ rot[4] ^ 0x63
        if p == 1:
            break
    box[0] = 0x63
    return box


SBOX = _sbox()
INVERSE = [0] * 256
for _i, _s in enumerate(SBOX):
    INVERSE[_s] = _i


def _times(a, b):
    product = 0
    while b:
        if b & 1:
            product ^= a
        a = (a << 1) ^ (0x11b if a & 0x80 else 0)
        b >>= 1
    return product


TIMES = {n: [_times(a, n) for a in range(256)] for n in (2, 3, 9, 11, 13, 14)}


class Aes256:
    def __init__(self, key):
        assert len(key) == 32
        words, rcon = [list(key[i:i + 4]) for i in range(0, 32, 4)], 1
        for i in range(8, 60):
            word = list(words[i - 1])
            if i % 8 == 0:
                word = [SBOX[b] for b in word[1:] + word[:1]]
                word[0] ^= rcon
                rcon = _times(rcon, 2)
            elif i % 8 == 4:
                word = [SBOX[b] for b in word]
            words.append([a ^ b for a, b in zip(words[i - 8], word)])
        self.keys = [sum(words[4 * r:4 * r + 4], []) for r in range(15)]

    def encrypt(self, block):
        s = [a ^ b for a, b in zip(block, self.keys[0])]
        for r in range(1, 15):
            s = [SBOX[s[(i + 4 * (i % 4)) % 16]] for i in range(16)]
            if r < 14:
                mixed = []
                for c in range(0, 16, 4):
                    a, b, d, e = s[c:c + 4]
                    mixed += [TIMES[2][a] ^ TIMES[3][b] ^ d ^ e, a ^ TIMES[2][b] ^ TIMES[3][d] ^ e,
                              a ^ b ^ TIMES[2][d] ^ TIMES[3][e], TIMES[3][a] ^ b ^ d ^ TIMES[2][e]]
                s = mixed
            s = [a ^ b for a, b in zip(s, self.keys[r])]
        return bytes(s)

    def decrypt(self, block):
        s = [a ^ b for a, b in zip(block, self.keys[14])]
        for r in range(13, -1, -1):
            s = [INVERSE[s[(i - 4 * (i % 4)) % 16]] for i in range(16)]
            s = [a ^ b for a, b in zip(s, self.keys[r])]
            if r > 0:
                mixed = []
                for c in range(0, 16, 4):
                    a, b, d, e = s[c:c + 4]
                    for w in ((14, 11, 13, 9), (9, 14, 11, 13), (13, 9, 14, 11), (11, 13, 9, 14)):
                        mixed.append(TIMES[w[0]][a] ^ TIMES[w[1]][b] ^ TIMES[w[2]][d] ^ TIMES[w[3]][e])
                s = mixed
        return bytes(s)


def xts(key, number, data, decrypt=False):
    """One data unit (a multiple of 16 bytes); @number: its tweak, little-endian in 128 bits."""
    cipher, tweak = Aes256(key[:32]), Aes256(key[32:]).encrypt(number.to_bytes(16, "little"))
    work = cipher.decrypt if decrypt else cipher.encrypt
    t, out = int.from_bytes(tweak, "little"), []
    for at in range(0, len(data), 16):
        mask = t.to_bytes(16, "little")
        block = work(bytes(a ^ b for a, b in zip(data[at:at + 16], mask)))
        out.append(bytes(a ^ b for a, b in zip(block, mask)))
        t = (t << 1) ^ ((1 << 128 | 0x87) if t >> 127 else 0)
    return b"".join(out)


def unwrap_padded(kek, wrapped):
    """RFC 5649; None if the integrity check fails."""
    cipher, n = Aes256(kek), len(wrapped) // 8 - 1
    a, r = wrapped[:8], [wrapped[8 * i:8 * i + 8] for i in range(1, n + 1)]
    if n == 1:
        plain = cipher.decrypt(wrapped)
        a, r = plain[:8], [plain[8:]]
    else:
        for t in range(6 * n, 0, -1):
            i = (t - 1) % n
            b = cipher.decrypt((int.from_bytes(a, "big") ^ t).to_bytes(8, "big") + r[i])
            a, r[i] = b[:8], b[8:]
    length, plain = int.from_bytes(a[4:], "big"), b"".join(r)
    if a[:4] != bytes.fromhex("a65959a6") or not 8 * (n - 1) < length <= 8 * n or any(plain[length:]):
        return None
    return plain[:length]


def self_test():
    key = bytes(range(32))  # FIPS 197, C.3
    cipher, plain = Aes256(key), bytes.fromhex("00112233445566778899aabbccddeeff")
    assert cipher.encrypt(plain).hex() == "8ea2b7ca516745bfeafc49904b496089"
    assert cipher.decrypt(cipher.encrypt(plain)) == plain
    # IEEE 1619-2007, B.1, vector 10 (its first 64 bytes)
    key = bytes.fromhex("2718281828459045235360287471352662497757247093699959574966967627"
                        "3141592653589793238462643383279502884197169399375105820974944592")
    plain = bytes(range(256)) * 2
    want = ("1c3b3a102f770386e4836c99e370cf9bea00803f5e482357a4ae12d414a3e63b"
            "5d31e276f8fe4a8d66b317f9ac683f44680a86ac35adfc3345befecb4bb188fd")
    assert xts(key, 0xff, plain)[:64].hex() == want
    assert xts(key, 0xff, xts(key, 0xff, plain), decrypt=True) == plain


def main():
    self_test()
    if len(sys.argv) == 5 and sys.argv[1] == "xts":
        key, lba = bytes.fromhex(sys.argv[2]), int(sys.argv[3])
        digest = hashlib.sha256()
        with open(sys.argv[4], "rb") as f:
            while block := f.read(4096):
                digest.update(xts(key, lba, block))
                lba += 1
        print(digest.hexdigest())


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Opens the golden files by docs/format/ alone: a second reader, so that the documents stay true.

Needs the Python package cryptography; exits with 77 (skipped) without it.
"""
import hashlib
import hmac
import os
import struct
import sys

try:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    from cryptography.hazmat.primitives.keywrap import aes_key_unwrap
except ImportError:
    print("skipped: no Python package cryptography")
    sys.exit(77)

HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "format")
TK = b"\x10" * 32  # the tests' key 0


def hkdf(key, salt, info, length):
    prk = hmac.new(salt or bytes(32), key, hashlib.sha256).digest()
    out, block, i = b"", b"", 1
    while len(out) < length:
        block = hmac.new(prk, block + info + bytes([i]), hashlib.sha256).digest()
        out, i = out + block, i + 1
    return out[:length]


def nonce(domain, counter):
    return struct.pack("<IQ", domain, counter)


def open_header(data, kind):
    """-> (AES-GCM under the data key, header hash)"""
    assert data[:8] == b"LOCHSEAL" and data[16] == kind
    assert struct.unpack_from("<HH", data, 8) == (1, 1) and tuple(data[12:15]) == (1, 1, 1)
    salt, commitment, mac = data[112:144], data[144:176], data[176:208]
    assert data[208:224] == b"\xa0" * 16 and struct.unpack_from("<IH", data, 224) == (1, 40)
    place = data[16:17] + data[32:48] + data[48:64] + data[64:80]
    wrapping = hkdf(TK, salt, b"loch dek wrap v1\0" + place, 32)
    dek = aes_key_unwrap(wrapping, data[232:272])
    assert hkdf(dek, salt, b"loch commit v1\0", 32) == commitment
    both = hkdf(dek, salt, b"loch file keys v1\0", 64)
    assert hmac.new(both[32:], data[:176], hashlib.sha256).digest() == mac
    return AESGCM(both[:32]), hashlib.sha256(data[:208]).digest()


def check_object(data):
    aead, head = open_header(data, 4)
    assert len(data) % 512 == 0
    inner = aead.decrypt(nonce(3, 0), data[272:], head + struct.pack("<Q", len(data)))
    n = struct.unpack_from("<Q", inner)[0]
    assert inner[8:8 + n] == b"a manifest" and not any(inner[8 + n:])


def check_archive(data):
    aead, head = open_header(data, 8)
    assert len(data) % 512 == 0 and struct.unpack_from("<Q", data, 24)[0] == 0x1800000
    inner = aead.decrypt(nonce(3, 0), data[272:], head + struct.pack("<Q", len(data)))
    n = struct.unpack_from("<Q", inner)[0]
    version, codec, pg, segment, system, begin, end = struct.unpack_from("<IIIIQQQ", inner, 8)
    assert (version, codec, pg, segment, system) == (1, 0, 150020, 1 << 24, 77)
    assert begin == 0x1800000 and end - begin == n - 40
    assert inner[48:8 + n] == bytes(i * 37 % 251 for i in range(n - 40))


def check_wal(data):
    aead, head = open_header(data, 2)
    mark = struct.unpack_from("<I", head)[0] | 1
    at, seq, tag, lsn, frames = 272, 0, bytes(16), None, 0
    while at < len(data):
        prefix = data[at:at + 64]
        m, n, number, first, term, boundary = struct.unpack_from("<IIQQQQ", prefix)
        assert m == mark and number == seq and prefix[40:56] == tag
        sealed = data[at + 64:at + 64 + n + 16]
        plain = aead.decrypt(nonce(4, seq), sealed, head + prefix)
        if seq == 0:
            assert prefix[60] == 2 and struct.unpack_from("<Q", plain)[0] == 2 and term == 5
            lsn = first
        else:
            assert prefix[60] == 1 and first == lsn
            lsn += n
            assert boundary == lsn and plain == bytes([frames]) * (100 + 37 * frames)
            frames += 1
        tag, seq = sealed[-16:], seq + 1
        at += (64 + n + 16 + 7) // 8 * 8
    assert frames == 3


def check_layer(data):
    aead, head = open_header(data, 1)

    def aad(domain, number, stored, final):
        return head + struct.pack("<QIBBH", number, stored, domain, final, 0)

    footer = aead.decrypt(nonce(2, 0), data[-80:], aad(2, 0, 80, 1))
    frames, index_bytes, index_at, length = struct.unpack_from("<IIQQ", footer)
    assert frames == 20 and length == len(data) and index_at + index_bytes + 80 == length
    index = data[index_at:index_at + index_bytes]
    assert hashlib.sha256(index).digest() == footer[32:64]
    inner = aead.decrypt(nonce(1, 0), index, aad(1, 0, index_bytes, 0))
    assert struct.unpack_from("<IB", inner) == (9, 0) and inner[8:] == b"the index"
    at = 272
    for i in range(frames):
        stored = 8 + 700 * i + 16
        inner = aead.decrypt(nonce(0, i), data[at:at + stored], aad(0, i, stored, 0))
        assert struct.unpack_from("<IB", inner) == (700 * i, 0)
        at += stored
    assert at == index_at


def lz4_block(block):
    """An LZ4 block by its description, lz4_Block_format.md."""
    out, at = bytearray(), 0

    def more(n):
        nonlocal at
        while n >= 15:
            n, last = n + block[at], block[at]
            at += 1
            if last < 255:
                break
        return n

    while True:
        token = block[at]
        at += 1
        n = more(token >> 4)
        out += block[at:at + n]
        at += n
        if at == len(block):
            return bytes(out)
        back = struct.unpack_from("<H", block, at)[0]
        at += 2
        for _ in range(more(token & 15) + 4):
            out.append(out[-back])


def golden_frame(i):
    x, out = (i * 2654435761 + 1) & 0xFFFFFFFF, bytearray()
    for k in range(i * 700):
        x = (x * 1664525 + 1013904223) & 0xFFFFFFFF
        out.append(k // 64 & 255 if i % 2 == 0 else x >> 24)
    return bytes(out)


def check_layer_lz4(data):
    aead, head = open_header(data, 1)
    assert data[15] == 2 and data[17] == 1

    def message(domain, number, at, stored):
        aad = head + struct.pack("<QIBBH", number, stored, domain, domain == 2, 0)
        inner = aead.decrypt(nonce(domain, number), data[at:at + stored], aad)
        if domain == 2:
            return inner
        length, codec = struct.unpack_from("<IB", inner)
        if codec == 0:
            assert len(inner) == 8 + length
            return inner[8:]
        assert codec == 2 and stored % 512 == 0
        block = struct.unpack_from("<I", inner, 8)[0]
        assert not any(inner[12 + block:])
        raw = lz4_block(inner[12:12 + block])
        assert len(raw) == length
        return raw

    footer = message(2, 0, len(data) - 80, 80)
    frames, index_bytes, index_at, length = struct.unpack_from("<IIQQ", footer)
    assert frames == 6 and length == len(data) and index_at + index_bytes + 80 == length
    index = message(1, 0, index_at, index_bytes)
    for i in range(frames):
        at, stored, number = struct.unpack_from("<QII", index, 16 * i)
        assert number == i and message(0, i, at, stored) == golden_frame(i)


def keyring_entries(data, version_of_format):
    head = (version_of_format, version_of_format, 1, 0, 0, 0)
    assert data[:8] == b"LOCHRING" and struct.unpack_from("<HHBBBB", data, 8) == head
    generation, count = struct.unpack_from("<Q", data, 48)[0], struct.unpack_from("<I", data, 120)[0]
    assert generation == 1
    at, seen = 124, []
    for _ in range(count):
        version, level, purpose, state, provider = struct.unpack_from("<IBBBB", data, at + 16)
        seen.append((data[at], version, level, purpose, state, provider, data[at + 24]))
        at += 24 + 16 + 16 + 4
        for _ in range(2):
            at += 4 + struct.unpack_from("<I", data, at)[0]
        at += 64
    assert at + 32 == len(data)
    return seen


TENANT_KEKS = [(10, 1, 1, 1, 2, 1, 0), (11, 1, 1, 2, 1, 1, 0), (10, 2, 1, 1, 1, 1, 0)]


def check_keyring(data):
    assert keyring_entries(data, 1) == TENANT_KEKS + [(20, 1, 2, 1, 2, 0, 0x77)]


def check_keyring_2(data):
    branch = [(30, 1, 1, 1, 2, 1, 0x78), (31, 1, 1, 2, 2, 1, 0x78)]
    keys = [(20, 1, 2, 1, 2, 0, 0x77), (40, 1, 2, 1, 1, 0, 0x78), (41, 1, 2, 2, 1, 0, 0x78), (42, 1, 2, 1, 1, 0, 0x79)]
    assert keyring_entries(data, 2) == TENANT_KEKS + branch + keys


def check_keyring_3(data):
    wire = [(50, 3, 2, 3, 3, 0, 0), (50, 4, 2, 3, 2, 0, 0)]
    entries = TENANT_KEKS + [(13, 1, 1, 3, 1, 1, 0)] + [(20, 1, 2, 1, 2, 0, 0x77)] + wire
    assert keyring_entries(data, 3) == entries


def check_cut(data):
    first, next_lsn, next_first, next_depth, leap_lsn, leap_first, leap_depth = struct.unpack("<IQIIQII", data)
    assert (first, next_first, next_depth, leap_first, leap_depth) == (0x01020304, 0x01020300, 7, 0x11, 3)
    assert (next_lsn, leap_lsn) == (0x2122334455667788, 0x1122334455667788)


for name, check in (("object", check_object), ("wal-archive", check_archive), ("wal", check_wal), ("layer", check_layer),
                    ("layer-lz4", check_layer_lz4), ("keyring", check_keyring), ("keyring-2", check_keyring_2),
                    ("keyring-3", check_keyring_3),
                    ("cut", check_cut)):
    with open(os.path.join(HERE, name + ".bin"), "rb") as f:
        check(f.read())
    print(name, "opens by its documents")

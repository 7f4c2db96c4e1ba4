#!/usr/bin/env python3
"""Makes msgpack.json: what msgpack-python writes and which bytes it refuses.

Run with the real package (pip install msgpack); the tests need only the result.
"""

import base64
import json
import math
import random
import struct

import msgpack

WRITTEN = {
    "empty map": {},
    "nil in list": [None, True, False],
    "fixints": [0, 1, 127, -1, -32],
    "uint widths": [128, 255, 256, 65535, 65536, 2**32 - 1, 2**32, 2**63 - 1, 2**63, 2**64 - 1],
    "int widths": [-33, -128, -129, -32768, -32769, -(2**31), -(2**31) - 1, -(2**63)],
    "floats": [0.0, -0.0, 1.0, 0.1, 1 / 3, 1e16, 1e22, 1e-7, 5e-324, 2.2250738585072014e-308,
               1.7976931348623157e308, 123456789012345680.0, 9007199254740993.0, 2.5, 100.0],
    "not finite": [math.nan, math.inf, -math.inf],
    "str widths": ["", "a" * 31, "a" * 32, "a" * 255, "a" * 256, "a" * 65536],
    "str contents": ["\x00", "a\x00b", "\"\\/\b\f\n\r\t\x1f\x7f", "é", "中文", "🚀", "\u2028", "\ufeff"],
    "bin": [b"", b"\x00", b"\xff\xfe", bytes(range(256)), b"x" * 65536],
    "ext": [msgpack.ExtType(0, b""), msgpack.ExtType(5, b"a"), msgpack.ExtType(127, b"abcd" * 4),
            msgpack.ExtType(1, b"abc")],
    "timestamps": [msgpack.Timestamp(0, 0), msgpack.Timestamp(2**32, 1), msgpack.Timestamp(-1, 999999999)],
    "array widths": [list(range(15)), list(range(16)), [0] * 65536],
    "map widths": {"m15": {str(i): i for i in range(15)}, "m16": {str(i): i for i in range(16)},
                   "m70000": {str(i): None for i in range(70000)}},
    "odd keys": {"": 1, "a\x00b": 2, "é": 3, "\"": 4, b"": 5, b"\xff": 6, b"a": 7, "a": 8},
    "keys like tags": {"$bytes": "x", "$float": "nan", "$ext": [1, ""], "$$bytes": 1, "$bytes:": 2,
                       "$bytes:QQ==": 3, "$$bytes:x": 4, "$other": 5, "$": 6, "$$": 7, "$bytesx": 8},
    "map like a tag": [{"$bytes": "QQ=="}, {"$float": "nan"}, {"$ext": [1, "QQ=="]}],
    "nested": {"a": [{"b": {"c": [[], {}, [1, [2, [3]]]]}}]},
    "typical": {"source": "example", "samples": 25, "nested": {"a": [1, 2.5, None, True, b"\x00"]},
                "checksums": {"s3://b/k.tar": "0" * 64}},
}

READ = {
    "empty": "", "trailing": "8000", "0xc1": "c1", "cut map": "81a161", "cut str": "a261",
    "nil": "c0", "int": "05", "list": "9101", "str": "a161",
    "array32 of str32": "dd00000001db0000000161", "float32": "ca3fc00000", "int as int64": "d30000000000000005",
    "uint8 of 5": "cc05", "bin key": "81c4016101", "raw16 text": "da000161",
    "int key": "810101", "nil key": "81c001", "bool key": "81c301", "float key": "81cb000000000000000001",
    "array key": "819001", "map key": "818001", "ext key": "81d4010001", "timestamp key": "81d6ff0000000101",
    "int key deep": "81a16191810101", "bad utf-8": "a1ff", "bad utf-8 key": "81a1ff01", "overlong": "a2c080",
    "surrogate": "a3eda080", "bin is no text": "c401ff",
    "ext 0": "c70000", "ext 127": "d47f00", "ext -2": "d4fe00", "ext -128": "c70080",
    "timestamp 32": "d6ff00000001", "timestamp 64": "d7ff" + struct.pack(">Q", 999999999 << 34).hex(),
    "timestamp 64 bad": "d7ff" + struct.pack(">Q", 1000000000 << 34).hex(),
    "timestamp 96": "c70cff" + struct.pack(">Iq", 999999999, -1).hex(),
    "timestamp 96 bad": "c70cff" + struct.pack(">Iq", 1000000000, 0).hex(),
    "timestamp 1": "d4ff00", "timestamp 0": "c700ff", "timestamp 5": "c705ff3132333435",
    "array32 lie": "ddffffffff", "map32 lie": "dfffffffff", "str32 lie": "dbffffffff", "bin32 lie": "c6ffffffff",
    "ext32 lie": "c9ffffffff01", "array of lies": "93ddffffffffc0c0",
    "500 levels": "91" * 500 + "c0", "2000 levels": "91" * 2000 + "c0",
    "duplicate keys": "82a16101a16102",
}


def tagged(value):
    """The value as plain JSON types, with the tags of core/codec/metadata_tag.h."""
    b64 = lambda data: base64.b64encode(data).decode()
    if isinstance(value, dict):
        return {key_text(k): tagged(v) for k, v in value.items()}
    if isinstance(value, list):
        return [tagged(v) for v in value]
    if isinstance(value, bytes):
        return {"$bytes": b64(value)}
    if isinstance(value, float) and not math.isfinite(value):
        return {"$float": str(value)}
    if isinstance(value, msgpack.Timestamp):
        return {"$ext": [-1, b64(value.to_bytes())]}
    if isinstance(value, msgpack.ExtType):
        return {"$ext": [value.code, b64(value.data)]}
    return value


def key_text(key):
    if isinstance(key, bytes):
        return "$bytes:" + base64.b64encode(key).decode()
    rest = key.lstrip("$")
    is_tag = rest != key and (rest in ("bytes", "float", "ext") or rest.startswith("bytes:"))
    return "$" + key if is_tag else key


def reads(data):
    try:
        msgpack.unpackb(data)
    except Exception:  # whatever it is, a peer's listing ends with it
        return False
    return True


def mutated(rng, data):
    data = bytearray(data)
    for _ in range(rng.randint(1, 3)):
        data[rng.randrange(len(data))] = rng.choice([rng.randrange(256), 0xC1, 0xD4, 0xDC, 0x81, 0xA1])
    return bytes(data)


rng = random.Random(1)
small = [msgpack.packb(v) for v in WRITTEN.values()]
small = [d for d in small if len(d) < 600]
read = {name: bytes.fromhex(text) for name, text in READ.items()}
for i in range(400):
    read[f"mutation {i}"] = mutated(rng, rng.choice(small))
result = {
    "about": f"msgpack-python {'.'.join(map(str, msgpack.version))}, defaults; made by make_msgpack.py. written: "
             "packb()'s bytes and the same as tagged JSON. read: whether unpackb() takes the bytes.",
    "written": [{"name": n, "hex": msgpack.packb(v).hex(),
                 "json": json.dumps(tagged(v), indent=2, ensure_ascii=False)} for n, v in WRITTEN.items()
                if len(msgpack.packb(v)) < 5000],
    "read": [{"name": n, "hex": d.hex(), "reads": reads(d)} for n, d in read.items()],
}
with open("msgpack.json", "w", encoding="utf-8") as out:
    json.dump(result, out, indent=1)
    out.write("\n")

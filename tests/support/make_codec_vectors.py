#!/usr/bin/env python3
"""Makes tests/data/vectors/{braceexpand,dotenv,arrays,npy_headers,samples,webdataset_names}.json.

Each file says what the Python package itself answers: braceexpand 0.1.7, python-dotenv 1.2,
numpy 2, ormsgpack and msgpack, webdataset 1.0.2. Run it again to take up new cases; the tests
need no Python.
"""

import io
import json
import logging
import os
import pathlib
import random
import re
import sys
import tempfile
import warnings

import msgpack
import numpy as np
import ormsgpack
from braceexpand import UnbalancedBracesError, braceexpand
from dotenv import dotenv_values
from numpy.lib._format_impl import _read_array_header
from webdataset.tariterators import base_plus_ext

OUT = pathlib.Path(__file__).resolve().parent.parent / "data" / "vectors"


def write(name, cases):
    lines = ",\n".join(json.dumps(case, ensure_ascii=True) for case in cases)
    (OUT / name).write_text(f"[\n{lines}\n]\n")
    print(name, len(cases))


# ---------------------------------------------------------------- braceexpand

BRACES = [
    "", "plain.tar", "a{b", "a}b", "}a{", "}{", "{}", "a{}b", "{a}", "{{a}}", "{a{b,c}}",
    "{a,b}", "{a,b}{c,d}", "x{a,b}y{1..3}z", "{,a}", "{a,}", "{,}", "{,,}", "{a,{b,c},d}",
    "{{a,b},{c,d}}", "{a,b{c,d{e,f}}}", "{1..5}", "{5..1}", "{1..1}", "{01..10}", "{1..010}",
    "{0..3}", "{00..3}", "{-1..2}", "{2..-1}", "{-0..2}", "{-01..2}", "{-5..-1}", "{0..10..3}",
    "{10..0..3}", "{0..10..-3}", "{1..3..0}", "{1..3..00}", "{01..10..4}", "{000000..000003}",
    "{0000000..12}", "{a..e}", "{e..a}", "{a..a}", "{A..C}", "{Y..b}", "{b..Y}", "{A..z..10}",
    "{z..A..10}", "{c..A}", "{a..e..2}", "{a..e..-2}", "{a..e..0}", "{a..1}", "{1..a}", "{aa..b}",
    "{a..}", "{..a}", "{1..}", "{..1}", "{1.2}", "{1...3}", "{1..2..}", "{1..2..x}", "{+1..3}",
    "{1 ..3}", "{1..3 }", "{1..3\n}", "{a..c\n}", "{1..9..2\n}", "{1..3\n\n}", "{.}", "{..}",
    "\\{a,b}", "\\{a,b\\}", "{a\\,b}", "{a\\,b,c}", "{a,b\\}", "a\\b", "a\\\\b", "a\\", "{a,b}\\",
    "\\\\{a,b}", "{\\a,b}", "a\\\nb", "{a,\\\n}", "{\\1..3}", "{1\\..3}", "{1{2,3}", "{1,2}3}",
    "{a,b}}", "{{a,b}", "}{a,b}", "}{a,b}{", "}a{x{b,c}", "}}a{{b,c}", "{a}}{b,c}{", "a,b", "{a b,c d}",
    "data-{000000..000009}.tar", "s3://b/p/data--{a,b}--{000000..000002}.tar",
    "caf\u00e9-{\u4e2d,\u00e9}", "\\\u00e9{a,b}", "{\u00e9..\u00e8}", "{a,b}{1..2}{x,{y,z}}",
    "{1..3}{,.gz}", "{{1..3},{a..c}}", "{a{1..3}b,c}", "{x{1..3}y}", "{{1..3}}", "{{}}", "{{},a}",
    "{a,{}}", "{a,b,{c}}", "{{a},b}", "{{{a,b}}}", "${a,b}", "{a;b}", "{ab}{c,d}{ef}",
    "{1..12..5}{a,b}", "{9..11}", "{09..11}", "{9..011}", "{-9..11..10}", "{-009..11..10}",
    "{{,a},{,b}}{,c}", "{}{a,b}{}", "{a,b}{}", "{1..2}{}{3..4}",
]


def brace_case(pattern):
    try:
        results = []
        for text in braceexpand(pattern):
            results.append(text)
            if len(results) > 300:
                return None
        return {"pattern": pattern, "results": results}
    except UnbalancedBracesError:
        return {"pattern": pattern, "results": None}


def make_braces():
    rng = random.Random(7)
    cases = [brace_case(p) for p in BRACES]
    tokens = ["{", "}", "{", "}", ",", ",", "..", "a", "b", "Z", "0", "1", "07", "-2", "\\", "\n", "x.tar"]
    seen = set(BRACES)
    while len(cases) < len(BRACES) + 600:
        pattern = "".join(rng.choice(tokens) for _ in range(rng.randrange(1, 22)))
        case = brace_case(pattern) if pattern not in seen else None
        seen.add(pattern)
        # Keep every pattern that expands, and a tenth of the rest.
        if case and ((case["results"] and len(case["results"]) > 1) or rng.random() < 0.1):
            cases.append(case)
    write("braceexpand.json", cases)


# ---------------------------------------------------------------- dotenv

ENV = {"FROM_ENV": "outer", "BOTH": "outer-both", "EMPTY_ENV": ""}
DOTENV = [
    "", "\n\n", "# only\n#comments", "A=1", "A=1\n", "A=1\nB=2\n", "A = 1", "A\t=\t1", " A=1", "\tA=1",
    "A=1 ", "A=1\t \n", "A=", "A= ", "A", "A\n", "A \n", "A # c\n", "A=# c", "A= # c", "A=#c", "A= #c",
    "A=ab#c", "A=ab #c", "A=ab\t#c", "A=ab # c # d", "A=a b  c ", "A==", "A=b=c", "=x", "=x\nA=1",
    "export A=1", "export\tA=1", "export  A = 1", "export A", "export", "export=1", "exportA=1",
    "export\nA=1", "export # x", "export export A=1", "export 'A'=1", "A B=1\nC=2", "A B\nC=2",
    "'A'=1", "'A B'=1", "'A'B=1", "''=1", "'A=1", "'A\nB'=1", "\"A\"=1", "A'B=1", "A\"B=1",
    "A='b'", "A='b c' # d", "A='b' c\nB=1", "A='b'#c", "A='b'c", "A='b", "A='b\nB=1", "A='b\nc'\nB=1",
    "A='\\''", "A='\\\\'", "A='\\n'", "A='a\\'b'", "A='\\\\\\''", "A='\\", "A=''", "A='' ",
    "A=\"b\"", "A=\"b c\" # d", "A=\"b\" c\nB=1", "A=\"b", "A=\"b\nB=1", "A=\"b\nc\"\nB=1",
    "A=\"\\n\\t\\r\\a\\b\\f\\v\"", "A=\"\\\"\"", "A=\"\\\\\"", "A=\"\\'\"", "A=\"\\x\"", "A=\"\\$\"",
    "A=\"\\\\n\"", "A=\"\\", "A=\"\\\"", "A=\"a\\\nb\"", "A=\"\"", "A=\"b'c\"", "A='b\"c'",
    "A=`b`", "A=`b c`", "A=b\\nc", "A=b\\", "A=b 'c'", "A=b\"c\"", "A=1\nA=2", "A=1\nB=2\nA=3", "A\nA=1",
    "A=1\nA", "A=1\nB=${A}", "B=${A}\nA=1", "A=1\nB='${A}'", "A=1\nB=\"${A}\"", "A=1\nB=$A", "A=1\nB=${A",
    "B=${MISSING}", "B=${MISSING:-d}", "B=${MISSING:-}", "B=${MISSING:-${A}}", "B=${MISSING:d}", "B=${}",
    "B=${:-x}", "B=${FROM_ENV}", "BOTH=inner\nB=${BOTH}", "B=${BOTH}\nBOTH=inner\nC=${BOTH}",
    "B=${EMPTY_ENV:-d}", "A\nB=${A:-d}", "BOTH\nB=${BOTH:-d}", "A=\nB=${A:-d}", "A=x\nB=${A}${A}-${A}",
    "A=x\nA=${A}y\nA=${A}z", "B=${ A }", "B=$${FROM_ENV}", "B=${FROM_ENV}}", "B=${${FROM_ENV}}", "B=a:b}c",
    "B=${a:b}${FROM_ENV}", "B='${FROM_ENV:-a b}'", "B=\"\\${FROM_ENV}\"", "B=${FROM_ENV:-x:y}",
    "A=1\r\nB=2\r\n", "A=1\rB=2\r", "A=\"x\r\ny\"", "A='x\ry'", "A=1\r\r\nB=2", "\ufeffA=1", "A=\ufeff1",
    "A=caf\u00e9", "A='\u4e2d \U0001f680'", "\u00e9=1", "A\u00a0=\u00a01\u00a0", "A=1\u2003#c", "A=1\u2003",
    "\u3000A=1", "A=a\u0085b", "A=a\u2028b", "A=1\x0b\x0c", "A=1\x1c#c", "A=a\x00b", "A\x00B=1", "A=1\n\n\n# c\n\nB=2",
    "A:1", "A: 1", "A;B", "A-B=1", "A.B=1", "1=2", "AWS_ENDPOINT=http://localhost:9000 # minio\nAWS_ACCESS_KEY_ID='minio'",
    "A=1 ' # x", "A=\"1\" # \"x\"", "A=\"1\"# x", "A=\"1\"   \nB=2", "A=\"1\"\nB", "A={\"a\": 1}", "A=[1, 2] # x",
    "good=1\nbad line\n=\n'x\ngood2=2", "a b c\nd e f\nA=1", "A=1\n\n  \nx y", "A= 'b'", "A=\t\"b\"", "A=\u00a0'b'",
]


def dotenv_case(text, folder):
    path = folder / "env"
    path.write_bytes(text.encode())
    bad = []

    class Count(logging.Handler):
        def emit(self, record):
            bad.append(record)

    logger = logging.getLogger("dotenv.main")
    handler = Count()
    logger.addHandler(handler)
    logger.propagate = False
    values = dotenv_values(path, encoding="utf-8")
    logger.removeHandler(handler)
    return {"text": text, "pairs": [[k, v] for k, v in values.items()], "bad_lines": len(bad)}


def make_dotenv():
    os.environ.clear()
    os.environ.update(ENV)
    rng = random.Random(11)
    tokens = ["A", "B", "=", "=", "'", "\"", " ", " ", "#", "\\", "\n", "\n", "export ", "${A}", "${", "}",
              ":-", "x", "n", "\u00a0", "\u00e9", "\t", "\r"]
    texts = list(DOTENV)
    for code in [*range(1, 0x21), 0x7F, 0x85, 0xA0, 0x1680, 0x180E, *range(0x2000, 0x200F), 0x2028, 0x2029, 0x202F,
                 0x205F, 0x2060, 0x3000, 0xFEFF]:
        texts.append(f"A{chr(code)}={chr(code)}1{chr(code)}#x")
    for _ in range(500):
        texts.append("".join(rng.choice(tokens) for _ in range(rng.randrange(1, 30))))
    with tempfile.TemporaryDirectory() as folder:
        write("dotenv.json", [dotenv_case(t, pathlib.Path(folder)) for t in texts])


# ---------------------------------------------------------------- arrays


def compact(array):
    dtype = array.dtype.str.encode()
    if array.dtype.names or array.dtype.itemsize == 0:
        return None
    out = bytes([len(dtype)]) + dtype + bytes([array.ndim])
    for axis in array.shape:
        out += axis.to_bytes(8, "little")
    return (out + np.ascontiguousarray(array).tobytes()).hex()


def array_case(array):
    with tempfile.TemporaryFile() as file:
        np.save(file, array, allow_pickle=False)
        file.seek(0)
        saved = file.read()
        file.seek(0)
        version = np.lib.format.read_magic(file)
        shape, fortran, dtype = _read_array_header(file, version)
        header_end = file.tell()
    descr = np.lib.format.dtype_to_descr(dtype)
    return {
        "dtype": descr if isinstance(descr, str) else repr(descr),
        "item_size": dtype.itemsize,
        "shape": list(shape),
        "fortran": fortran,
        "data": saved[header_end:].hex(),
        "npy": saved[:header_end].hex(),
        "compact": None if fortran else compact(array),
    }


def make_arrays():
    warnings.simplefilter("ignore")
    cases = []
    simple = ["|b1", "|i1", "|u1", "<i2", ">i2", "<u2", "<i4", ">i4", "<u4", "<i8", ">i8", "<u8", "<f2", "<f4",
              ">f4", "<f8", ">f8", "<f16", "<c8", "<c16", ">c16", "<c32", "<U3", ">U3", "|S4", "|S1", "|V8",
              "<M8[ns]", "<M8[D]", "<M8[25s]", ">M8[us]", "<m8[s]", "<m8[3W]", "<m8", "<M8", "<M8[Y]", "<m8[as]"]
    for dtype in simple:
        size = np.dtype(dtype).itemsize
        raw = bytes((i * 7 + 1) & 0x7F for i in range(6 * size))
        array = np.frombuffer(raw if dtype[1] not in "Ub" else bytes(6 * size), dtype)
        cases.append(array_case(array))
        cases.append(array_case(array.reshape(2, 3)))
    numbers = np.arange(24, dtype="<i4")
    for shape in [(), (0,), (1,), (24,), (0, 3), (3, 0), (0, 1 << 40), (1 << 20, 0), (2, 3, 4), (1, 1, 1), (24, 1, 1, 1, 1),
                  (1,) * 32, (1,) * 64]:
        array = numbers[: int(np.prod(shape, dtype=object))].reshape(shape)
        cases.append(array_case(array))
        cases.append(array_case(np.asfortranarray(array)))
    cases.append(array_case(np.asfortranarray(numbers.reshape(4, 6))))
    cases.append(array_case(np.asfortranarray(numbers.reshape(2, 3, 4))))
    for axis in (9, 10, 99, 100, 999, 1000, 9999, 10000):
        cases.append(array_case(np.zeros((axis, 0), "<f8")))
        cases.append(array_case(np.zeros((axis, 0), "<f8", order="F")))
    for descr in [
        [("a", "<f4")],
        [("a", "<f4"), ("b", "|u1")],
        [("a", "<f4", (2, 3)), ("b", "<U2")],
        [("a", [("x", "<i2"), ("y", "<i2", (2,))]), ("b", "|b1")],
        [("it's", "<f4")],
        [("say \"it's\"", "<f4"), ("back\\slash", "|S3")],
        [(("title", "name"), "<i8")],
        [("\u00e9", "<i4")],
        [("\u4e2d", "<i4"), ("\U0001f680", "<i4")],
        [("t", "<M8[ms]"), ("v", "|V3")],
        [(f"column_{i}", "<f8") for i in range(40)],
    ]:
        cases.append(array_case(np.zeros(3, np.dtype(descr))))
    cases.append(array_case(np.zeros(2, np.dtype([("a", "|u1"), ("b", "<f8")], align=True))))
    write("arrays.json", cases)
    # Headers alone, around the points where the padding jumps.
    cases = []
    for ones in range(44):
        for fortran in (False, True):
            shape = (123456789012345678, *(1,) * ones, 2)
            header = io.BytesIO()
            np.lib.format.write_array_header_1_0(header, {"descr": "<f8", "fortran_order": fortran, "shape": shape})
            cases.append({"ones": ones, "fortran": fortran, "npy": header.getvalue().hex()})
    write("npy_headers.json", cases)


# ---------------------------------------------------------------- samples


def sample_cases():
    pack = msgpack.packb
    values = [
        {}, {"a": None}, {"a": True, "b": False}, {"": ""},
        {f"n{i}": v for i, v in enumerate([0, 1, 127, 128, 255, 256, 65535, 65536, 2**32 - 1, 2**32, 2**63 - 1,
                                            2**63, 2**64 - 1, -1, -32, -33, -128, -129, -32768, -32769,
                                            -(2**31), -(2**31) - 1, -(2**63)])},
        {"f": [0.0, -0.0, 1.5, 1e308, 5e-324, float("inf"), float("-inf"), float("nan")]},
        {"s": ["", "x" * 31, "x" * 32, "y" * 255, "y" * 256]},
        {"b": [b"", b"x", b"y" * 255, b"y" * 256]},
        {"u": "caf\u00e9 \u4e2d \U0001f680"}, {"caf\u00e9": 1},
        {"l": [[], [1], [[2]], list(range(15)), list(range(16))]},
        {"m": {"x": {"y": {"z": [1, {"w": None}]}}}},
        {f"k{i}": i for i in range(15)}, {f"k{i}": i for i in range(16)}, {f"k{i}": i for i in range(300)},
    ]
    for value in values:
        yield pack(value)
    hexes = """80 90 c0 c1 00 a0 c3 8101 81a16101 81c40161 01 81a161c1 81a161 81 8201a16101 81a161d40100
        81a161d5010000 81a161d6ff00000000 81a161d7ff0000000000000000 81a161c70cff000000000000000000000000
        81a161c70001 81a161a1ff 81a1ff01 81a161a2c3a9 81a161a2c328 81a161a3eda080 81a161a2c080 81a161a4f4908080
        82a16101a16102 83a16101a16202a16103 82a0a0a0a1 8101 81c001 81c201 81cb000000000000000001 81900 819001
        81800 818001 82a161818101a16202 81a161820102 81a16181c4016101 81a16181c001 de0001a16101 df00000001a16101 deffff
        dfffffffff 81d90161cc01 81da000161cd0001 81db0000000161ce00000001 81a161cf0000000000000001 81a161d001
        81a161d0ff 81a161d1ffff 81a161d2ffffffff 81a161d3ffffffffffffffff 81a161d37fffffffffffffff 81a161ca3f800000
        81a161ca7fc00000 81a161caff800000 81a161dc00010a 81a161dd000000010a 81a161ddffffffff 81a161dbffffffff
        81a161c6ffffffff 81a161c60000000161 81a161c4016100 81a16101ff 80ff 80c1 81a16101c1c1 81a161c0a1 81a161cc
        81a161cd00 81a161ce000000 81a161cf00 81a161ca00 81a161cb00 81a161c4 81a161c401 81a161d9 81a161a161 81a161c1
        c7 dc dd de df 81 81a1 81a161 81a16191 81a16181 81a16181a162 81a16192c0""".split()
    for text in hexes:
        if len(text) % 2 == 0:
            yield bytes.fromhex(text)
    yield b"\x81\xa1a" + b"\x91" * 100 + b"\x01"
    yield b"\x81\xa1a" + b"\x91" * 500 + b"\x01"
    yield b"\x81\xa1a" + b"\x91" * 2000 + b"\x01"
    yield b"\x81\xa1a" * 400 + b"\x01"
    rng = random.Random(5)
    seeds = [pack(v) for v in values[:6]] + [pack({"a": [1, {"b": "c"}], "d": b"x", "e": 1.5})]
    for _ in range(400):
        data = bytearray(rng.choice(seeds))
        for _ in range(rng.randrange(1, 4)):
            data[rng.randrange(len(data))] = rng.choice([0xC0, 0xC1, 0xC4, 0xC7, 0xD4, 0xD9, 0xDC, 0xDE, 0x81, 0x91,
                                                         0xA1, 0x00, 0xFF, rng.randrange(256)])
        yield bytes(data[: rng.randrange(1, len(data) + 1)] if rng.random() < 0.2 else data)


def make_samples():
    cases = []
    seen = set()
    for data in sample_cases():
        if data in seen:
            continue
        seen.add(data)
        try:
            value = ormsgpack.unpackb(data)
            repacked = msgpack.packb(value).hex() if isinstance(value, dict) else None
        except ValueError:  # MsgpackDecodeError is one
            repacked = None
        cases.append({"msgpack": data.hex(), "repacked": "same" if repacked == data.hex() else repacked})
    write("samples.json", cases)


# ---------------------------------------------------------------- webdataset names


def make_names():
    def split(name):
        if "/" not in name and name.startswith("__") and name.endswith("__"):
            return None
        if re.match(r"__[^/]*__($|/)", name):
            return None
        key, extension = base_plus_ext(name)
        return None if key is None else [key, extension.lower()]

    names = ["", ".", "..", "a", "a.", ".a", ".a.b", "a.b", "a.b.c", "A.B", "a.JPG.Txt", "d/a.b", "d.e/a.b", "d.e/a",
             "d/.a", "d/.a.b", "d.e/.a", "c.d/e/.a", "c/d.e/.a.b", "./a.b", "./.a", "../.a", "/a.b", "/.a", "//.a.b",
             "a//b.c", "d/", "d.e/", "d/.", "__a__", "__a__.b", "__a.b__", "__a__/b.c", "__a__/x/b.c", "x/__a__/b.c",
             "__.b", "____.b", "____/b.c", "___/b.c", "__/b.c", "__a__b/c.d", "a__/b.c", "k.msgpack", "K.MSGPACK",
             "sample_000001.msgpack", "d/._k.jpg", "caf\u00e9.j", "k.\u00e9"]
    rng = random.Random(3)
    for _ in range(300):
        names.append("".join(rng.choice("ab..//__X") for _ in range(rng.randrange(1, 12))))
    write("webdataset_names.json", [{"name": n, "split": split(n)} for n in dict.fromkeys(names)])


if __name__ == "__main__":
    os.umask(0o022)
    make_braces()
    make_arrays()
    make_samples()
    make_names()
    make_dotenv()  # last: it empties the environment
    sys.exit(0)

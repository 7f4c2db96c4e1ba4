#!/usr/bin/env python3
"""Makes tests/data/vectors/infer.json: classes as the real library publishes them, with samples of
theirs. The unit tests infer the schema from the samples; they need no Python.

Left out is what samples cannot tell: a float field that holds ints only, lists that are all empty.
"""

import base64
import dataclasses
import json
import pathlib

import atdata
import numpy as np
from atdata.index._schema import _build_schema_record
from numpy.typing import NDArray

OUT = pathlib.Path(__file__).resolve().parent.parent / "data" / "vectors" / "infer.json"
CASES = []


def case(fields, *samples):
    """`fields`: name → annotation; those that may be None have a default and come last."""
    made = [
        (name, kind, dataclasses.field(default=None)) if "None" in str(kind) else (name, kind)
        for name, kind in fields.items()
    ]
    cls = dataclasses.make_dataclass("Case", made, bases=(atdata.PackableSample,))
    record = _build_schema_record(cls, version="1.0.0", description=None)
    packed = [cls(**sample).packed for sample in samples]
    CASES.append(
        {
            "schema": json.dumps(record),
            "samples": [base64.b64encode(data).decode() for data in packed],
        }
    )


def primitives():
    case({"text": str, "number": int, "ratio": float, "flag": bool, "raw": bytes},
         {"text": "", "number": 2**64 - 1, "ratio": 0.5, "flag": True, "raw": b""},
         {"text": "é", "number": -(2**63), "ratio": float("nan"), "flag": False, "raw": b"\xff" * 300})
    # A float that is a whole number in some samples only is written as Python wrote it.
    case({"ratio": float, "number": int}, {"ratio": 1, "number": True}, {"ratio": 0.5, "number": 3})
    case({"größe": int, "数": str, "match": bool}, {"größe": 1, "数": "x", "match": True})
    case({"raw": bytes}, {"raw": b"\x93NUMPY"}, {"raw": bytes(40)}, {"raw": b"\x03<f4 and so on"})


def lists():
    case({"tags": list[str], "ids": list[int], "weights": list[float], "flags": list[bool], "parts": list[bytes]},
         {"tags": [], "ids": [], "weights": [], "flags": [], "parts": []},
         {"tags": ["a", "b"], "ids": [1], "weights": [1, 2.5], "flags": [True], "parts": [b"\x00"]})
    case({"table": list[list[int]], "cube": list[list[list[str]]]},
         {"table": [[], [1, 2]], "cube": [[], [[], ["x"]]]}, {"table": [], "cube": []})
    case({"deep": list[list[list[list[list[list[list[list[float]]]]]]]]}, {"deep": [[[[[[[[0.5]]]]]]]]})


def optionals():
    case({"a": int, "b": str | None, "c": float | None, "d": list[int] | None, "e": bytes | None, "f": bool | None},
         {"a": 1}, {"a": 2, "b": "x", "c": 1.5, "d": [1], "e": b"x", "f": False}, {"a": 3, "b": "y"})
    case({"never": str | None}, {"never": None})
    case({"label": int, "image": NDArray[np.uint8] | None},
         {"label": 1, "image": np.zeros((2, 2), np.uint8)}, {"label": 2})


def arrays():
    named = ["float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64",
             "complex64", "complex128", "longdouble", "clongdouble"]
    for name in named:
        scalar = getattr(np, name)
        case({"x": NDArray[scalar]}, {"x": np.ones((2, 3), scalar)}, {"x": np.zeros((), scalar)})
    case({"x": NDArray[np.bool_]}, {"x": np.array([True, False])})
    case({"x": NDArray[np.str_]}, {"x": np.array(["a", "bcd"])})
    case({"x": NDArray[np.bytes_]}, {"x": np.array([b"a", b"bcd"])})
    case({"x": NDArray[np.datetime64]}, {"x": np.array(["2024-01-01"], "M8[D]")})
    case({"x": NDArray[np.timedelta64]}, {"x": np.array([1, 2], "m8[ns]")})
    case({"x": NDArray[np.void]}, {"x": np.zeros(3, [("a", "<i4"), ("b", "<f8")])})
    # The plain annotation, which takes any dtype.
    case({"x": NDArray}, {"x": np.ones(2, np.float64)}, {"x": np.ones(2, np.int8)})
    case({"x": NDArray[np.int32]}, {"x": np.arange(4, dtype=">i4")}, {"x": np.empty((0, 2), np.int32)})
    case({"features": NDArray[np.float32], "label": int}, {"features": np.ones(128, np.float32), "label": 7})


primitives()
lists()
optionals()
arrays()
OUT.write_text(json.dumps(CASES, indent=1) + "\n")
print(f"{len(CASES)} cases")

"""schema.py and schema.jsonschema of every kind of field: what the real library and a JSON Schema
validator make of them."""

import base64
import io
import json
import math
import tarfile

import msgpack
import numpy as np
import pandas
import pytest
from atdata._helpers import FORMAT_SERIALIZERS

from bounded import read
from index_db import IndexDb

jsonschema = pytest.importorskip("jsonschema")

PRIMITIVES = {"str": "text", "int": 7, "float": 0.5, "bool": True, "bytes": b"\0\1"}


def kind(name, **more):
    return {"$type": f"local#{name}", **more}


def primitive(name):
    return kind("primitive", primitive=name)


def npy(array):
    out = io.BytesIO()
    np.save(out, array)
    return out.getvalue()


def field(name, field_type, optional=False):
    return {"name": name, "fieldType": field_type, "optional": optional}


pack_dataframe, _ = FORMAT_SERIALIZERS["dataframe"]

# Every kind that decodes in some release, with a value as it lies in a sample.
FIELDS = {
    **{f"p_{name}": (primitive(name), value) for name, value in PRIMITIVES.items()},
    "array": (kind("ndarray", dtype="float32", shape=[None, 3]), npy(np.ones((2, 3), "<f4"))),
    "list_int": (kind("array", items=primitive("int")), [1, 2]),
    "list_list": (kind("array", items=kind("array", items=primitive("str"))), [["a"], []]),
    "list_bare": (kind("array"), [1, "x", None]),
    "structured": (
        kind("structured", dtype="[('a', '<i4')]"),
        npy(np.array([(1,), (2,)], dtype=[("a", "<i4")])),
    ),
    "dataframe": (kind("dataframe"), pack_dataframe(pandas.DataFrame({"a": [1, 2]}))),
}
OPTIONAL = {
    "maybe_text": (primitive("str"), None),
    "maybe_array": (kind("ndarray", dtype="int64"), npy(np.arange(3))),
}
# Not undone without packages of their own (scipy, pyarrow, safetensors): the class is made.
OTHERS = {name: kind(name) for name in ("sparse", "arrow_tensor", "safetensors")}


def record(name, fields):
    return {"name": name, "version": "1.0.0", "fields": fields, "description": f"All of {name}."}


def all_fields():
    made = [field(name, what) for name, (what, _) in FIELDS.items()]
    return made + [field(name, what, True) for name, (what, _) in OPTIONAL.items()]


def as_json(value):
    """A value as schema.jsonschema's $comment says."""
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, float) and not math.isfinite(value):
        return {"$float": "nan" if value != value else "inf" if value > 0 else "-inf"}
    return value


@pytest.fixture
def shown(home, mount):
    """A mount of an index with these schemas."""

    def show(*records):
        (home / ".atdata" / "data").mkdir(parents=True, exist_ok=True)
        with IndexDb(home / ".atdata" / "index.db") as index:
            for schema in records:
                index.schema(schema["name"], schema["version"], json.dumps(schema))
        return mount()

    return show


def validator(mounted, name):
    schema = json.loads(read(mounted / "schemas" / f"{name}@1.0.0.jsonschema"))
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def test_every_kind_decodes(shown, peer, home, tmp_path):
    mounted = shown(record("All", all_fields()), record("Binary", [
        field(name, what) for name, what in OTHERS.items()
    ]))  # fmt: skip
    values = {name: value for name, (_, value) in {**FIELDS, **OPTIONAL}.items()}
    path = tmp_path / "all.tar"
    with tarfile.open(path, "w") as tar:
        data = msgpack.packb(values)
        info = tarfile.TarInfo("k.msgpack")
        info.size = len(data)
        tar.addfile(info, io.BytesIO(data))
    side = peer()
    [got] = side.load_by_schema_py(str(mounted / "schemas" / "All@1.0.0.py"), [str(path)])
    for name, value in values.items():
        if name in ("array", "maybe_array", "structured"):
            wanted = np.load(io.BytesIO(value))
            assert isinstance(got[name], np.ndarray) and got[name].dtype == wanted.dtype, name
            assert np.array_equal(got[name], wanted), name
        elif name == "dataframe":
            assert got[name].to_dict() == {"a": {0: 1, 1: 2}}
        else:
            assert got[name] == value, name
    assert side.describe_schema_py(str(mounted / "schemas" / "Binary@1.0.0.py"))[0] == "Binary"

    checker = validator(mounted, "All")
    good = {name: as_json(value) for name, value in values.items()}
    checker.validate(good)
    checker.validate(good | {"p_float": {"$float": "nan"}, "p_int": 2**64 - 1})
    checker.validate({k: v for k, v in good.items() if k not in OPTIONAL})
    bad = [
        {"p_str": 1},
        {"p_int": 2**64},
        {"p_int": "1"},
        {"p_float": {"$float": "NaN"}},
        {"p_bool": 0},
        {"array": [1.0]},
        {"list_int": ["x"]},
        {"list_list": [1]},
        {"maybe_text": 1},
        {"more": 1},
    ]
    for change in bad:
        with pytest.raises(jsonschema.ValidationError):
            checker.validate(good | change)
    for name in FIELDS:
        with pytest.raises(jsonschema.ValidationError):
            checker.validate({k: v for k, v in good.items() if k != name})
    described = checker.schema["properties"]["array"]
    assert described["contentMediaType"] == "application/x-npy"
    assert described["x-atdata-dtype"] == "float32" and described["x-atdata-shape"] == [None, 3]
    assert checker.schema["x-atdata-ref"] == "atdata://local/schema/All@1.0.0"


HOSTILE = ['"', "\\", "a\nb", "$ref", "$defs", "../x", "😀", "</script>", "x" * 300, ""]


def test_hostile_names(shown):
    """Valid JSON and a valid schema whatever the fields are called; kinds nobody knows are
    anything."""
    fields = [field(name, primitive("int")) for name in HOSTILE]
    fields += [field("twice", primitive("int")), field("twice", primitive("str"))]
    fields += [field("unknown", kind("hologram")), field("ref", kind("ref", ref="at://x/y/z"))]
    fields += [field("odd", primitive("complex"))]
    mounted = shown(record("Hostile", fields), record("Empty", []))
    checker = validator(mounted, "Hostile")
    good = dict.fromkeys(HOSTILE, 1) | {"twice": "x", "unknown": [None], "ref": 1, "odd": {}}
    checker.validate(good)
    with pytest.raises(jsonschema.ValidationError):
        checker.validate(good | {"twice": 1})
    validator(mounted, "Empty").validate({})


def test_samples_of_the_library_are_valid(mount, peer, home):
    side = peer()
    entry = side.write("scalars", "Scalars", 5)
    mounted = mount()
    checker = jsonschema.Draft202012Validator(
        json.loads(read(mounted / "datasets" / "scalars" / "schema.jsonschema"))
    )
    for sample in side.load(entry["data_urls"][0], "Scalars"):
        checker.validate({name: as_json(value) for name, value in sample.items()})

"""Data written by real releases of the library shows and reads, whichever release it was."""

import json
import os
import shutil
import struct

import msgpack
import numpy as np
import pytest

from bounded import bounded, ls, read, sha256
from golden import TAGS, TAGS_WITH_INDEX, Golden
from index_db import IndexDb, cid_of


@pytest.fixture(params=TAGS)
def golden(request, test_data):
    return Golden(test_data / "golden" / request.param)


@pytest.mark.parametrize("tag", TAGS_WITH_INDEX)
def test_index_db_as_written(tag, test_data, tmp_path, mount):
    """Everything of the library's own file decodes; only the shards, on S3, are not to be had."""
    index = tmp_path / "copy" / "index.db"
    index.parent.mkdir()
    for source in (test_data / "golden" / tag).glob("index.db*"):
        shutil.copyfile(source, index.parent / source.name)
    mounted = mount(index=f"sqlite:{index}")
    entry = mounted.json("datasets", "training-v1", "entry.json")
    [url] = entry["data_urls"]
    assert url.startswith(f"s3://golden-{tag.replace('.', '-')}/datasets/data--")
    assert entry["cid"] == cid_of(entry["schema_ref"], [url]) and "content_cid" not in entry
    assert mounted.json("datasets", "training-v1", "metadata.json") == {"samples": 25}
    schema = mounted.json("datasets", "training-v1", "schema.json")
    assert [field["name"] for field in schema["fields"]] == ["features", "label"]
    assert [(problem["what"], problem["key"]) for problem in mounted.status()["problems"]] == [
        ("shard", url)
    ]
    assert ls(mounted / "datasets") == ["training-v1"]


def test_redis_bytes_decode(golden, tmp_path, mount):
    """The bytes of every Redis key, as rows: names, CIDs, schemas, metadata, labels."""
    with IndexDb(tmp_path / "copy" / "index.db") as index:
        golden.fill(index)
    mounted = mount(index=f"sqlite:{index.path}")
    entries = list(golden.hashes("LocalDatasetEntry:"))
    assert ls(mounted / "by-cid") == sorted(entry["cid"].decode() for entry in entries)
    for entry in entries:
        cid = entry["cid"].decode()
        urls = msgpack.unpackb(entry["data_urls"])
        shown = mounted.json("by-cid", cid, "entry.json")
        assert (shown["name"], shown["cid"]) == (entry["name"].decode(), cid)
        assert shown["data_urls"] == urls and shown["schema_ref"] == entry["schema_ref"].decode()
        assert cid == cid_of(shown["schema_ref"], urls) and "content_cid" not in shown
        # Every form of reference finds its schema, also "local://schemas/__main__.Class@1.0.0".
        class_name = shown["schema_ref"].rpartition("/")[2].rpartition("@")[0].rpartition(".")[2]
        assert mounted.json("by-cid", cid, "schema.json")["name"] == class_name
        metadata = msgpack.unpackb(entry["metadata"]) if "metadata" in entry else {}
        checksums = metadata.pop("checksums", {})
        assert {s["url"]: s["sha256"] for s in shown["shards"] if "sha256" in s} == checksums
        if "nested" in metadata:
            assert metadata["nested"] == {"a": [1, 2.5, None, True, b"\0"]}
            metadata["nested"]["a"][-1] = {"$bytes": "AA=="}
        assert mounted.json("by-cid", cid, "metadata.json") == metadata
    for name, version, record in golden.schemas():
        shown = mounted.json("schemas", f"{name}@{version}.json")
        assert shown.pop("$ref") == f"atdata://local/schema/{name}@{version}"
        assert shown == json.loads(record)
    for label in golden.hashes("Label:"):
        name, version, cid = (label[field].decode() for field in ("name", "version", "cid"))
        if version:
            assert os.readlink(mounted / "labels" / f"{name}@{version}") == f"../by-cid/{cid}"
        else:
            assert mounted.json("datasets", name, "entry.json")["cid"] == cid
    # Nothing is unsound; only the shards are not to be had.
    assert {problem["what"] for problem in mounted.status()["problems"]} == {"shard"}


def test_shards_are_the_objects(golden, tmp_path, mount):
    with IndexDb(tmp_path / "copy" / "index.db") as index:
        paths = golden.unpack_objects(index.root)
        golden.fill(index, paths)
        for name in ("alltypes", "training"):
            file = index.root / f"{name}.tar"
            shutil.copyfile(golden.directory / f"{name}.tar", file)
            index.entry(f"file-{name}", [str(file)])
    mounted = mount(index=f"sqlite:{index.path}")
    wanted = {str(paths[f"s3://{o['bucket']}/{o['key']}"]): o["sha256"] for o in golden.objects}
    for name in ("alltypes", "training"):
        file = golden.directory / f"{name}.tar"
        assert sha256(mounted / "datasets" / f"file-{name}" / file.name) == sha256(file)
        wanted[str(index.root / file.name)] = sha256(file)
    seen = {}
    for cid in ls(mounted / "by-cid"):
        for shard in mounted.json("by-cid", cid, "entry.json")["shards"]:
            if shard["file"] is not None:
                path = mounted / "by-cid" / cid / shard["file"]
                seen[shard["url"]] = sha256(path)
                assert bounded(os.stat, path).st_size == shard["size"]
    assert seen == wanted
    # What is left over lies where no data root is.
    problems = mounted.status()["problems"]
    assert {problem["key"] for problem in problems} == {f"/data/x-00000{i}.tar" for i in range(3)}


def matches(sample, wanted):
    """A decoded sample against a line of alltypes.expected.json."""

    def same_array(array, want):
        if want is None:
            return array is None
        return (
            isinstance(array, np.ndarray)
            and array.dtype.str == want["dtype"]
            and list(array.shape) == want["shape"]
            and array.tobytes().hex() == want["c_order_hex"]
        )

    def same_float(value, text):
        return struct.pack("<d", value) == struct.pack("<d", float(text))

    return {
        "s": sample["s"] == wanted["s"],
        "i": sample["i"] == int(wanted["i"]),
        "f": same_float(sample["f"], wanted["f"]),
        "b": sample["b"] is wanted["b"],
        "raw": sample["raw"].hex() == wanted["raw"],
        "arr": same_array(sample["arr"], wanted["arr"]),
        "tags": sample["tags"] == wanted["tags"],
        "nums": sample["nums"] == wanted["nums"],
        "os": sample["os"] == wanted["os"],
        "oi": sample["oi"] == wanted["oi"],
        "oarr": same_array(sample["oarr"], wanted["oarr"]),
    }


def test_alltypes_values_through_schema_py(golden, tmp_path, mount, peer):
    with IndexDb(tmp_path / "copy" / "index.db") as index:
        golden.fill(index, golden.unpack_objects(index.root))
    mounted = mount(index=f"sqlite:{index.path}")
    directory = mounted / "datasets" / "all-types"
    [shard] = [name for name in ls(directory) if name.endswith(".tar")]
    expected = json.loads((golden.directory / "alltypes.expected.json").read_text())
    assert len(expected) == 20
    python = peer()
    for url in (directory / shard, golden.directory / "alltypes.tar"):
        got = python.load_by_schema_py(str(directory / "schema.py"), [str(url)])
        assert len(got) == len(expected)
        for place, (sample, wanted) in enumerate(zip(got, expected, strict=True)):
            fields = matches(sample, wanted)
            assert fields.keys() == wanted.keys()
            assert all(fields.values()), (place, fields)
    training = mounted / "datasets" / "training-v1"
    [shard] = [name for name in ls(training) if name.endswith(".tar")]
    got = python.load_by_schema_py(str(training / "schema.py"), [str(training / shard)])
    assert [sample["label"] for sample in got] == [
        msgpack.unpackb(packed)["label"]
        for _, packed in python.load_webdataset(str(golden.directory / "training.tar"))
    ]
    assert all(sample["features"].dtype == np.float32 for sample in got)
    assert read(training / "schema.py").startswith(b'"""')

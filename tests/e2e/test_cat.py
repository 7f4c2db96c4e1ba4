"""`atdatafs cat`: every sample is a line, of both kinds of shards, and hostile ones end it well."""

import gzip
import io
import json
import math
import os
import subprocess
import tarfile

import msgpack
import numpy as np
import pytest

from command import Commands
from index_db import IndexDb


@pytest.fixture
def commands(world):
    return Commands(world)


def npy(array):
    out = io.BytesIO()
    np.save(out, array)
    return out.getvalue()


def tar_of(members):
    """{name: bytes} or [(name, bytes)] as a tar."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, data in members.items() if isinstance(members, dict) else members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


def put_dataset(world, name, shards):
    """A dataset of these shards ({file name: bytes}), past any check."""
    urls = []
    for file, data in shards.items():
        if world.kind == "disk":
            path = world.root / name / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
            urls.append(str(path))
        else:
            world.minio.put(world.bucket, f"data/{name}/{file}", data)
            urls.append(f"{world.prefix}/{name}/{file}")
    if world.kind == "disk":
        with IndexDb(world.path) as index:
            index.entry(name, urls)
    else:
        world.remote.index.entry(name, urls)


def lines(done):
    return [json.loads(line) for line in done.stdout.splitlines()]


def sample(i):
    return {
        "n": i,
        "negative": -i,
        "text": f"ümlaut {i}\n",
        "flag": i % 2 == 0,
        "nothing": None,
        "score": i / 3,
        "image": npy(np.full((4, i + 1), i, np.float32)),
        "blob": b"\x00" * i,
        "tags": ["a", {"deep": [1, 2.5]}],
        "big": 2**64 - 1,
    }


def test_samples_of_the_library(world, commands):
    shards = {
        f"s{s}.tar": tar_of(
            {f"{s}/{i:04d}.msgpack": msgpack.packb(sample(10 * s + i)) for i in range(3)}
        )
        for s in range(2)
    }
    put_dataset(world, "mnist", shards)
    rows = lines(commands("cat", "mnist"))
    assert [row["__key__"] for row in rows] == [f"{s}/{i:04d}" for s in range(2) for i in range(3)]
    for row, i in zip(rows, (0, 1, 2, 10, 11, 12), strict=True):
        expected = sample(i)
        assert row["image"] == {"dtype": "<f4", "shape": [4, i + 1]}
        assert row["blob"] == {"bytes": i}
        for name in ("n", "negative", "text", "flag", "nothing", "score", "tags", "big"):
            assert row[name] == expected[name], name
    assert lines(commands("cat", "-n", "2", "mnist")) == rows[:2]
    assert lines(commands("cat", "mnist", "s1.tar")) == rows[3:]
    assert lines(commands("cat", "-n", "4", "mnist", "s1.tar", "s0.tar")) == rows[3:] + rows[:1]
    assert "no shard 's9.tar'" in commands("cat", "mnist", "s9.tar", code=1).stderr
    assert "'nobody' is no dataset" in commands("cat", "nobody", code=1).stderr


def test_what_was_published_is_printed(world, commands):
    path = world.shard("a.tar", count=7)
    commands("publish", path, "mnist")
    rows = lines(commands("cat", "mnist"))
    assert [row["n"] for row in rows] == list(range(7))
    assert all(row["filler"] == {"bytes": 2000} for row in rows)


def test_plain_webdatasets(world, commands):
    members = [
        ("a/001.jpg", b"\xff\xd8" + bytes(1000)),
        ("a/001.cls", b"7"),
        ("a/001.json", b'{"label": [1, "x"], "nested": {"u": "\\u00fc"}}'),
        ("a/001.txt", "ein Satz\n".encode()),
        ("a/002.JPG", bytes(5)),
        ("a/002.json", b"{broken"),
        ("a/002.txt", b"\xff\xfe"),
        ("a/002.seg.png", bytes(9)),
        ("a/.hidden", b"x"),
        ("__meta__", b"x"),
        ("a/003.txt", b"t" * 70_000),
        ("a/003.txt", b"again"),
    ]
    data = tar_of(members)
    put_dataset(world, "wds", {"x.tar": data, "y.tar.gz": gzip.compress(data)})
    expected = [
        {
            "__key__": "a/001",
            "jpg": {"bytes": 1002},
            "cls": 7,
            "json": {"label": [1, "x"], "nested": {"u": "ü"}},
            "txt": "ein Satz\n",
        },
        {
            "__key__": "a/002",
            "jpg": {"bytes": 5},
            "json": "{broken",
            "txt": {"bytes": 2},
            "seg.png": {"bytes": 9},
        },
        {"__key__": "a/003", "txt": {"bytes": 70_000}},
        {"__key__": "a/003", "txt": "again"},
    ]
    rows = lines(commands("cat", "wds"))
    rows = [row for row in rows if row["__key__"] != "a/"]  # webdataset's key of "a/.hidden"
    assert rows == expected * 2


def test_arrays_as_files(world, commands, tmp_path):
    arrays = [np.arange(12).reshape(3, 4), np.zeros((0, 3), "<f8"), np.array(5, "i2")]
    members = {f"k/{i}.msgpack": msgpack.packb({"x": npy(a)}) for i, a in enumerate(arrays)}
    members["plain.npy"] = npy(np.ones(3))
    members["up/../../out.msgpack"] = msgpack.packb({"x": npy(np.ones(2))})
    put_dataset(world, "arrays", {"a.tar": tar_of(members)})
    out = tmp_path / "out"
    out.mkdir()
    done = commands("cat", "--npy", "x", "-d", out, "-n", "3", "arrays")
    assert done.stdout == "3 written\n"
    for i, array in enumerate(arrays):
        loaded = np.load(out / f"k%2F{i}.npy")
        assert loaded.dtype == array.dtype and np.array_equal(loaded, array)
    assert "File exists" in commands("cat", "--npy", "x", "-d", out, "arrays", code=1).stderr
    one = tmp_path / "one.npy"
    commands("cat", "--npy", "x", "-O", one, "arrays")
    assert np.array_equal(np.load(one), arrays[0])
    assert "no field 'y'" in commands("cat", "--npy", "y", "-O", one, "arrays", code=1).stderr
    assert commands("cat", "--npy", "x", "arrays", code=2).stderr
    assert commands("cat", "-O", one, "arrays", code=2).stderr
    # Names that lead elsewhere do not.
    everything = tmp_path / "everything"
    everything.mkdir()
    commands("cat", "--npy", "x", "-d", everything, "arrays", code=1)  # the plain one has no x
    assert set(os.listdir(tmp_path)) >= {"out", "one.npy", "everything"}
    assert not (tmp_path / "out.npy").exists()


def test_floats_that_json_has_not(world, commands):
    values = {"a": math.nan, "b": math.inf, "c": -math.inf, "d": [math.nan]}
    put_dataset(world, "odd", {"a.tar": tar_of({"k.msgpack": msgpack.packb(values)})})
    [row] = lines(commands("cat", "odd"))
    tags = {"nan": {"$float": "nan"}, "inf": {"$float": "inf"}, "-inf": {"$float": "-inf"}}
    assert row == {
        "__key__": "k",
        "a": tags["nan"],
        "b": tags["inf"],
        "c": tags["-inf"],
        "d": [tags["nan"]],
    }


GOOD = msgpack.packb({"n": 1})
DEEP = b"\x81\xa1d" + b"\x91" * 400 + b"\x01"
HOSTILE = {
    "no-tar": (b"nothing of a tar" * 100, 0, "not a tar"),
    "empty": (b"", 0, ""),
    "truncated": (tar_of({"a.msgpack": GOOD, "b.msgpack": GOOD})[:1538], 1, ""),
    "cut-data": (tar_of({"a.msgpack": GOOD, "b.bin": bytes(5000)})[:2000], 1, ""),
    "no-msgpack": (tar_of({"a.msgpack": GOOD, "b.msgpack": b"\xc1\xc1"}), 1, "'b'"),
    "no-map": (tar_of({"b.msgpack": b"\x93\x01\x02\x03"}), 0, "'b'"),
    "huge-map": (tar_of({"b.msgpack": b"\xdf\xff\xff\xff\xff"}), 0, "'b'"),
    "cut-gzip": (gzip.compress(tar_of({"a.msgpack": GOOD}))[:-20], None, ""),
    "many-parts": (tar_of([(f"k.e{i}", b"") for i in range(300)]), 0, "members"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_shards_end_it_well(disk_world, name):
    commands = Commands(disk_world)
    data, good, word = HOSTILE[name]
    put_dataset(disk_world, "bad", {"bad.tar": data})
    done = commands("cat", "bad", code=1)
    assert "'bad.tar'" in done.stderr and word in done.stderr, done.stderr
    if good is not None:
        assert len(lines(done)) == good, done.stdout


def test_what_is_deep_or_named_oddly_is_printed(disk_world):
    commands = Commands(disk_world)
    members = [
        ("deep.msgpack", DEEP),
        ("k\x1b[31m.msgpack", msgpack.packb({"__key__": "other", "a\nb": "\x07"})),
        ("both.msgpack", msgpack.packb({"txt": 1})),
        ("both.txt", b"text"),
    ]
    put_dataset(disk_world, "odd", {"a.tar": tar_of(members)})
    done = commands("cat", "odd")
    deep, escaped, both = lines(done)
    assert deep["__key__"] == "deep" and '{"items":1}' in json.dumps(deep, separators=(",", ":"))
    assert escaped == {"__key__": "k\x1b[31m", "a\nb": "\x07"}
    assert both == {"__key__": "both", "txt": 1}
    assert "\x1b" not in done.stdout and "\x07" not in done.stdout


def test_the_reader_may_leave(disk_world):
    commands = Commands(disk_world)
    members = {f"{i:06d}.msgpack": msgpack.packb({"t": "x" * 1000}) for i in range(3000)}
    put_dataset(disk_world, "many", {"a.tar": tar_of(members)})
    process = commands.start("cat", "many")
    assert json.loads(process.stdout.readline())["__key__"] == "000000"
    process.stdout.close()
    assert process.wait(30) != 0
    process.stderr.close()
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            commands.words("cat", "many"),
            stdin=subprocess.DEVNULL,
            stdout=full,
            stderr=subprocess.PIPE,
            env=commands.env,
            timeout=60,
        )
    assert done.returncode == 1 and b"No space left" in done.stderr

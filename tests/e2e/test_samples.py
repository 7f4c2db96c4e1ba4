"""samples/: what is inside of shards, as files of the right size, with few and exact requests."""

import concurrent.futures
import errno
import io
import json
import os
import struct
import tarfile

import msgpack
import numpy as np
import pytest

from bounded import bounded, ls, read, run, wait_until
from golden import TAGS, Golden
from index_db import IndexDb
from remote import MIB
from samples import DTYPES, SHAPES, array
from test_s3_counts import without_hedges

SHOWN_SECONDS = 10
BIG = 100_000

IMAGES = {
    "png": b"\x89PNG\r\n\x1a\n" + bytes(20),
    "jpg": b"\xff\xd8\xff\xe0" + bytes(20),
    "gif": b"GIF89a" + bytes(20),
    "webp": b"RIFF\x14\0\0\0WEBPVP8 " + bytes(20),
    "tif": b"II*\0" + bytes(20),
    "bmp": b"BM" + struct.pack("<I", 40) + bytes(34),
    "bin": b"nothing that anybody knows",
}


def add(tar, name, data):
    info = tarfile.TarInfo(name)
    info.size = len(data)
    tar.addfile(info, io.BytesIO(data))


def make_tar(path, members, mode="w", format=tarfile.PAX_FORMAT):
    with tarfile.open(path, mode, format=format) as tar:
        for name, data in members:
            add(tar, name, data)
    return path


class Disk:
    """An index of local files: `shard(name, ...)` is where one may be made, `mount()` shows them."""

    def __init__(self, base, mount):
        self.index = IndexDb(base / "copy" / "index.db")
        self.index.schema()
        self.index.root.mkdir(parents=True, exist_ok=True)
        self.start = mount

    def dataset(self, name, *shards, **how):
        """Shards: (file name, members)."""
        paths = []
        for file, members in shards:
            path = self.index.root / name / file
            path.parent.mkdir(parents=True, exist_ok=True)
            paths.append(members(path) if callable(members) else make_tar(path, members))
        self.index.entry(name, [str(path) for path in paths], **how)
        return paths

    def mount(self, **how):
        self.index.db.close()
        return self.start(index=f"sqlite:{self.index.path}", **how)


@pytest.fixture
def disk(tmp_path, mount):
    return Disk(tmp_path, mount)


def load(path, **how):
    return bounded(np.load, path, **how)


def contents(path):
    """Its bytes, which are as many as stat says."""
    data = read(path)
    assert bounded(os.stat, path).st_size == len(data), path
    return data


def same_array(path, wanted):
    for mode in (None, "r"):
        got = load(path, mmap_mode=mode)
        assert got.dtype == wanted.dtype and got.shape == wanted.shape, path
        assert got.tobytes() == wanted.tobytes(), path
    return True


# ---------------------------------------------------------------- atdata samples


@pytest.mark.parametrize("tag", TAGS)
def test_golden_samples(tag, test_data, tmp_path, mount):
    """Every value of shards that real releases wrote, with their schemas."""
    golden = Golden(test_data / "golden" / tag)
    with IndexDb(tmp_path / "copy" / "index.db") as index:
        golden.fill(index, golden.unpack_objects(index.root))
    mounted = mount(index=f"sqlite:{index.path}")
    directory = mounted / "datasets" / "all-types"
    [shard] = [name for name in ls(directory) if name.endswith(".tar")]
    wanted = json.loads((golden.directory / "alltypes.expected.json").read_text())
    with tarfile.open(directory / shard) as tar:
        keys = [member.name.removesuffix(".msgpack") for member in tar if member.isfile()]
    samples = directory / "samples" / shard.removesuffix(".tar")
    assert ls(samples) == sorted(keys) and len(keys) == len(wanted)
    for key, want in zip(keys, wanted, strict=True):
        sample = samples / key
        others = json.loads(contents(sample / "sample.json"))
        assert contents(sample / "s.txt").decode() == want["s"]
        assert others["i"] == int(want["i"]) and others["b"] is want["b"]
        assert struct.pack("<d", others["f"]) == struct.pack("<d", float(want["f"]))
        [raw] = [name for name in ls(sample) if name.startswith("raw.")]
        assert contents(sample / raw).hex() == want["raw"]
        assert others["tags"] == want["tags"] and others["nums"] == want["nums"]
        for field in ("arr", "oarr"):
            if want[field] is None:
                assert others[field] is None
                continue
            contents(sample / f"{field}.npy")
            got = load(sample / f"{field}.npy")
            assert got.dtype.str == want[field]["dtype"]
            assert list(got.shape) == want[field]["shape"]
            assert got.tobytes().hex() == want[field]["c_order_hex"]
        if want["os"] is None:
            assert others["os"] is None
        else:
            assert contents(sample / "os.txt").decode() == want["os"]
        assert others["oi"] == want["oi"]
    # An entry's directory shows the same.
    cid = mounted.json("datasets", "all-types", "entry.json")["cid"]
    again = mounted / "by-cid" / cid / "samples" / shard.removesuffix(".tar") / keys[1]
    assert {name: contents(again / name) for name in ls(again)} == {
        name: contents(samples / keys[1] / name) for name in ls(samples / keys[1])
    }


def compact(value):
    dtype = value.dtype.str.encode()
    shape = struct.pack(f"<B{value.ndim}q", value.ndim, *value.shape)
    return bytes([len(dtype)]) + dtype + shape + value.tobytes()


def npy(value, **how):
    out = io.BytesIO()
    np.save(out, value, **how)
    return out.getvalue()


def test_every_dtype_in_both_forms(disk):
    """As np.save would write it, without a schema that tells."""
    values = {
        f"{name}-{len(shape)}-{'x'.join(map(str, shape))}": array(dtype, shape, 1)
        for name, dtype in DTYPES.items()
        for shape in SHAPES
    }
    values |= {
        "text": np.array(["a", "日本", ""], "<U3"),
        "bytes": np.array([b"ab", b""], "|S2"),
        "when": np.array(["2026-01-02"], "<M8[ns]"),
        "big": np.arange(5, dtype=">f4"),
        "void": np.zeros(3, "|V8"),
    }
    members = [
        ("compact.msgpack", msgpack.packb({k: compact(v) for k, v in values.items()})),
        ("npy.msgpack", msgpack.packb({k: npy(v) for k, v in values.items()})),
        (
            "more.msgpack",
            msgpack.packb(
                {
                    "fortran": npy(np.asfortranarray(np.arange(6).reshape(2, 3))),
                    "compound": npy(np.zeros(2, [("a", "<f4"), ("b", "<i8")])),
                }
            ),
        ),
    ]
    disk.dataset("arrays", ("a.tar", members))
    samples = disk.mount() / "datasets" / "arrays" / "samples" / "a"
    assert ls(samples) == ["compact", "more", "npy"]
    for form in ("compact", "npy"):
        assert ls(samples / form) == sorted([*(f"{k}.npy" for k in values), "sample.json"])
        for name, value in values.items():
            same_array(samples / form / f"{name}.npy", value)
            assert contents(samples / form / f"{name}.npy") == npy(value)
        assert json.loads(contents(samples / form / "sample.json")) == {}
    same_array(samples / "more" / "fortran.npy", np.arange(6).reshape(2, 3))
    assert load(samples / "more" / "fortran.npy").flags.f_contiguous
    same_array(samples / "more" / "compound.npy", np.zeros(2, [("a", "<f4"), ("b", "<i8")]))


def test_fields_by_what_they_are(disk):
    """Images have their suffix; what is no file of its own is in sample.json."""
    nested = {"list": [1, [2.5, None], {"k": b"\0\xff"}], "none": None, "yes": True, "n": -3}
    sample = nested | {f"im {kind}": data for kind, data in IMAGES.items()}
    sample |= {"text": "naïve\n", "empty": "", "a/b": "slash", ".dot": "dot", "n" * 300: "long"}
    sample |= {"much": [list(range(100_000))], "nan": float("nan"), "top": 2**64 - 1}
    disk.dataset("kinds", ("k.tar", [("s.msgpack", msgpack.packb(sample))]))
    directory = disk.mount() / "datasets" / "kinds" / "samples" / "k" / "s"
    for kind, data in IMAGES.items():
        assert contents(directory / f"im {kind}.{kind}") == data
    texts = {"text.txt": "naïve\n", "empty.txt": "", "a%2Fb.txt": "slash", "%2Edot.txt": "dot"}
    for name, text in texts.items():
        assert contents(directory / name).decode() == text
    [long] = [name for name in ls(directory) if name.startswith("nnnn")]
    assert len(long) == 255 and long.endswith(".txt") and contents(directory / long) == b"long"
    assert msgpack.unpackb(contents(directory / "much.msgpack")) == sample["much"]
    others = json.loads(contents(directory / "sample.json"))
    assert others.pop("nan") != 0
    nested["list"][2]["k"] = {"$base64": "AP8="}
    assert others == nested | {"top": 2**64 - 1}


def test_the_schema_says_which_bytes_are_arrays(disk):
    """Bytes that would pass for an array stay bytes where the schema says so."""
    value = array("<f4", (4,), 1)
    field = lambda name, kind: {"name": name, "fieldType": kind, "optional": False}  # noqa: E731
    disk.index.schema(
        "Told",
        "1.0.0",
        {
            "name": "Told",
            "version": "1.0.0",
            "fields": [
                field("raw", {"$type": "local#primitive", "primitive": "bytes"}),
                field("arr", {"$type": "local#ndarray", "dtype": "float32"}),
                field("not", {"$type": "local#ndarray", "dtype": "float32"}),
            ],
        },
    )
    sample = {"raw": compact(value), "arr": compact(value), "not": b"no array", "new": npy(value)}
    members = [("s.msgpack", msgpack.packb(sample))]
    disk.dataset("told", ("t.tar", members), schema_ref="atdata://local/schema/Told@1.0.0")
    directory = disk.mount() / "datasets" / "told" / "samples" / "t" / "s"
    assert ls(directory) == ["arr.npy", "new.npy", "not.bin", "raw.bin", "sample.json"]
    assert contents(directory / "raw.bin") == compact(value)
    same_array(directory / "arr.npy", value)


# ---------------------------------------------------------------- plain members


def webdataset_members(count=50, seed=0):
    random = np.random.default_rng(seed)
    for i in range(count):
        yield f"{i:06d}.jpg", b"\xff\xd8\xff\xe0" + random.bytes(500 + 97 * i)
        yield f"{i:06d}.json", json.dumps({"i": i}).encode()
        yield f"{i:06d}.cls", str(i % 10).encode()


def check_members(directory, members):
    assert ls(directory) == sorted(members)
    for name, data in members.items():
        assert contents(directory / name) == data


def test_plain_webdataset(disk):
    members = dict(webdataset_members())
    members |= {"empty.txt": b"", "large.bin": np.random.default_rng(1).bytes(3 * MIB + 17)}
    disk.dataset("plain", ("p-000.tar", members.items()), ("p-001.tar", webdataset_members(3)))
    mount = disk.mount()
    samples = mount / "datasets" / "plain" / "samples"
    assert ls(samples) == ["index.json", "p-000", "p-000.idx", "p-001", "p-001.idx"]
    check_members(samples / "p-000", members)
    check_members(samples / "p-001", dict(webdataset_members(3)))
    # Parts of a large one, from several places and ends.
    with open(samples / "p-000" / "large.bin", "rb") as file:
        for place in (0, 1, MIB - 5, 2 * MIB + 3, 3 * MIB + 10):
            file.seek(place)
            assert file.read(1000) == members["large.bin"][place : place + 1000]
    with pytest.raises(FileNotFoundError):
        os.stat(samples / "p-002")
    with pytest.raises(FileNotFoundError):
        os.stat(samples / "p-000" / "none.jpg")


def test_hostile_member_names(disk):
    long = "l" * 300
    names = [
        "../up.txt", "a/b.txt", "/abs.txt", f"{long}.jpg", f"{long}x.jpg", "new\nline.txt",
        "./dot.txt", "dot.txt", "dot.txt", "dot~2.txt", "x.a b", "50%41.txt", "k.msgpack", "k.txt",
        "d/k.msgpack", "UP.JPG", "many.dots.in.txt",
    ]  # fmt: skip
    skipped = ["README", "__meta__", "__a__/x.txt", ".hidden", "no/.hidden/ext"]
    data = {name: name.encode() for name in [*names, *skipped]}
    members = [(name, msgpack.packb({"n": name}) if "msgpack" in name else data[name])
               for name in [*names, *skipped]]  # fmt: skip

    def make(path):
        make_tar(path, members)
        with tarfile.open(path, "a", format=tarfile.GNU_FORMAT, encoding="latin-1") as tar:
            add(tar, "\xff\xfe.txt", b"not UTF-8")
            info = tarfile.TarInfo("link.txt")
            info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
            tar.addfile(info)
        return path

    disk.dataset("names", ("n.tar", make))
    directory = disk.mount() / "datasets" / "names" / "samples" / "n"
    shown = ls(directory)
    wanted = {
        "%2E./up.txt".replace("/", "%2F"): b"../up.txt",
        "a%2Fb.txt": b"a/b.txt",
        "%2Fabs.txt": b"/abs.txt",
        "new%0Aline.txt": b"new\nline.txt",
        "dot.txt": b"./dot.txt",
        "dot~2.txt": b"dot~2.txt",
        "dot~3.txt": b"dot.txt",
        "dot~4.txt": b"dot.txt",
        "x.a b": b"x.a b",
        "50%2541.txt": b"50%41.txt",
        "k.txt": b"k.txt",
        "UP.JPG": b"UP.JPG",
        "many.dots.in.txt": b"many.dots.in.txt",
        "%FF%FE.txt": b"not UTF-8",
    }
    for name, text in wanted.items():
        assert name in shown, (name, shown)
        assert contents(directory / name) == text
    cut = [name for name in shown if name.startswith("lll")]
    assert len(cut) == 2 and all(len(name) == 255 and name.endswith(".jpg") for name in cut)
    assert {contents(directory / name) for name in cut} == {data[f"{long}.jpg"], data[f"{long}x.jpg"]}
    samples = {"k": "k.msgpack", "d%2Fk": "d/k.msgpack"}
    for name, key in samples.items():
        assert contents(directory / name / "n.txt").decode() == key
    assert set(shown) == {*wanted, *cut, *samples}


def test_hostile_samples(disk):
    """What does not decode says why; nothing crashes."""
    deep = b"\x81\xa1k" + b"\x91" * 500 + b"\xc0"
    samples = {
        "array": b"\x93\1\2\3",
        "cut": msgpack.packb({"a": "x" * 100})[:50],
        "empty": b"",
        "ext": msgpack.packb({"a": msgpack.ExtType(3, b"x")}),
        "huge": b"\xdf\xff\xff\xff\xff",
        "intkey": msgpack.packb({1: 2}),
        "str": b"\x81\xa1k\xdb\xff\xff\xff\xff",
        "utf8": b"\x81\xa1k\xa1\xff",
    }
    members = [(f"{key}.msgpack", data) for key, data in samples.items()]
    disk.dataset("bad", ("b.tar", [*members, ("deep.msgpack", deep)]))
    mount = disk.mount()
    directory = mount / "datasets" / "bad" / "samples" / "b"
    assert ls(directory) == sorted([*samples, "deep"])
    for key, data in samples.items():
        assert ls(directory / key) == ["sample.msgpack", "why.txt"], key
        assert contents(directory / key / "sample.msgpack") == data
        assert b"does not decode: " in contents(directory / key / "why.txt")
    assert contents(directory / "deep" / "sample.json").count(b"[") == 500


# ---------------------------------------------------------------- indexes


def wds2idx(path):
    """What NVIDIA's wds2idx writes (dali/tools/wds2idx.py, index version v1.2)."""
    samples, last = [], None
    for member in tarfile.open(path):
        if not member.isfile():
            continue
        name = member.name
        slash = name.rfind("/") + 1
        dot = name.find(".", slash)
        if dot < 0 or dot == slash:
            continue
        key, extension = name[:dot], name[dot + 1 :]
        if key != last:
            samples.append([])
        last = key
        samples[-1].append(f"{extension} {member.offset_data} {member.size} {name}")
    return "".join(f"{line}\n" for line in [f"v1.2 {len(samples)}", *map(" ".join, samples)])


def test_dali_index(disk):
    paths = disk.dataset(
        "dali",
        ("a.tar", [*webdataset_members(20), ("dir/x.jpg", b"1"), ("dir/x.Txt", b"2")]),
        ("b.tar", [(f"{i}.msgpack", msgpack.packb({"i": i})) for i in range(9)]),
        ("blank.tar", [("a b.jpg", b"1")]),
    )
    samples = disk.mount() / "datasets" / "dali" / "samples"
    for path in paths[:2]:
        assert contents(samples / f"{path.stem}.idx").decode() == wds2idx(path)
    # The format has no way to write such a name.
    assert contents(samples / "blank.idx") == b""


def load_wids(path):
    """What wids.ShardListDataset (webdataset 0.2.100, the last that has it) makes of an index.json:
    the shards' paths and lengths."""
    spec = json.loads(contents(path))
    assert spec["__kind__"] == "wids-shard-index-v1" and spec["wids_version"] == 1
    base = os.path.dirname(path)
    return spec["name"], {
        os.path.normpath(os.path.join(base, shard["url"])): (shard["nsamples"], shard["filesize"])
        for shard in spec["shardlist"]
    }


def test_wids_index(disk):
    disk.dataset(
        "team/wids",
        ("b.tar", webdataset_members(7)),
        ("a.tar", [(f"{i}.msgpack", msgpack.packb({"i": i})) for i in range(9)]),
        ("z.tar", lambda path: make_tar(path, webdataset_members(3), "w:gz")),
    )
    mount = disk.mount()
    directory = mount / "datasets" / "team%2Fwids"
    name, shards = load_wids(directory / "samples" / "index.json")
    size = lambda file: os.stat(directory / file).st_size  # noqa: E731
    assert name == "team/wids"
    assert shards == {
        str(directory / "a.tar"): (9, size("a.tar")),
        str(directory / "b.tar"): (7, size("b.tar")),
    }


# ---------------------------------------------------------------- shards that have none


def test_shards_without_samples_say_why(disk):
    disk.dataset(
        "odd",
        ("gz.tar", lambda path: make_tar(path, webdataset_members(3), "w:gz")),
        ("named.tar.gz", lambda path: make_tar(path, webdataset_members(3), "w:gz")),
        ("not.tar", lambda path: path.write_bytes(b"no tar" * 1000) and path),
        ("cut.tar", lambda path: path.write_bytes(make_tar(path, webdataset_members(9)).read_bytes()[:5000]) and path),
        ("empty.tar", []),
        ("good.tar", webdataset_members(1)),
    )  # fmt: skip
    samples = disk.mount() / "datasets" / "odd" / "samples"
    assert set(ls(samples)) >= {"index.json", "gz", "named.tar.gz", "not", "cut", "empty", "good"}
    for stem in ("gz", "named.tar.gz", "not", "cut"):
        assert ls(samples / stem) == ["why.txt"]
        assert b"cannot be shown" in contents(samples / stem / "why.txt")
    assert ls(samples / "empty") == [] and len(ls(samples / "good")) == 3
    assert contents(samples / "empty.idx") == b"v1.2 0\n"
    # There is no index of what is no tar, and looking at everything is no error.
    for name in ("gz.idx", "not.idx", "cut.idx"):
        assert contents(samples / name) == b""
    assert "named.tar.gz.idx" not in ls(samples) and "named.tar.idx" not in ls(samples)
    run("ls", "-lR", samples)
    run("du", samples)


def test_names_that_are_taken_give_way(disk):
    one = lambda name: [(f"{name}.txt", name.encode())]  # noqa: E731
    disk.dataset(
        "equal",
        ("x.tar", one("xtar")),
        ("x", one("x")),
        ("y.tar", one("ytar")),
        ("y.idx.tar", one("yidxtar")),
        ("index.json.tar", one("indextar")),
    )
    samples = disk.mount() / "datasets" / "equal" / "samples"
    found = {name: ls(samples / name) for name in ls(samples) if os.path.isdir(samples / name)}
    assert found == {
        "x": ["x.txt"],
        "x.tar": ["xtar.txt"],
        "y": ["ytar.txt"],
        "y.idx.tar": ["yidxtar.txt"],
        "index.json.tar": ["indextar.txt"],
    }
    assert contents(samples / "y.idx").startswith(b"v1.2 1\ntxt 512 4 ytar.txt")


# ---------------------------------------------------------------- large directories


def test_a_directory_of_100_000_samples(disk):
    def make(path):
        with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
            for i in range(BIG):
                add(tar, f"{i:08d}.msgpack", msgpack.packb({"i": i}))
        return path

    disk.dataset("large", ("l.tar", make))
    mount = disk.mount()
    directory = mount / "datasets" / "large" / "samples" / "l"
    names = bounded(os.listdir, directory, timeout=60)
    assert sorted(names) == [f"{i:08d}" for i in range(BIG)]
    for i in (0, 1, 77_777, BIG - 1):
        assert json.loads(contents(directory / f"{i:08d}" / "sample.json")) == {"i": i}
    # All their attributes, the second time from the kernel.
    listed = run("find", directory, "-maxdepth", "1", "-printf", "%y %f\n", timeout=100).stdout
    assert listed.count("\nd ") == BIG


# ---------------------------------------------------------------- nothing changes here


def refused(call, *args):
    with pytest.raises(OSError) as caught:
        bounded(call, *args)
    return caught.value.errno


def test_writes_are_refused(world):
    path = world.shard("a.tar")
    mount = world.mount()
    bounded(os.mkdir, mount / "datasets" / "d")
    run("cp", path, mount / "datasets" / "d")
    dataset = mount / "datasets" / "d"
    samples = dataset / "samples"
    sample = samples / "a" / ls(samples / "a")[0]
    file = sample / ls(sample)[0]
    before = {name: contents(sample / name) for name in ls(sample)}
    for place in (samples, samples / "a", sample):
        attempts = {
            "create": lambda place=place: open(place / "new.tar", "wb"),
            "mkdir": lambda place=place: os.mkdir(place / "new"),
            "symlink": lambda place=place: os.symlink("x", place / "new"),
            "move in": lambda place=place: os.rename(dataset / "metadata.json", place / "new"),
            "rmdir": lambda place=place: os.rmdir(place),
            "chmod": lambda place=place: os.chmod(place, 0o777),
            "rename": lambda place=place: os.rename(place, dataset / "other"),
        }
        for what, attempt in attempts.items():
            assert refused(attempt) == errno.EROFS, (what, place)
    for what, attempt in {
        "open": lambda: open(file, "r+b"),
        "truncate": lambda: os.truncate(file, 0),
        "unlink": lambda: os.unlink(file),
        "link": lambda: os.link(file, sample / "new"),
        "rename": lambda: os.rename(file, dataset / "x.tar"),
        "index": lambda: os.unlink(samples / "index.json"),
    }.items():
        assert refused(attempt) == errno.EROFS, what
    assert {name: contents(sample / name) for name in ls(sample)} == before


def test_what_was_just_published_shows(world):
    mount = world.mount()
    directory = mount / "datasets" / "d"
    bounded(os.mkdir, directory)
    assert not bounded(os.path.exists, directory / "samples")
    for place, name in enumerate(("a.tar", "b.tar")):
        run("cp", world.shard(name, seed=place), directory)
        wait_until(
            lambda: bounded(os.path.exists, directory / "samples"), SHOWN_SECONDS, "samples/ is there"
        )
        stem = name.removesuffix(".tar")
        wait_until(lambda s=stem: s in ls(directory / "samples"), SHOWN_SECONDS, "so does a shard")
        assert ls(directory / "samples" / stem)
    assert set(ls(directory / "samples")) == {"a", "a.idx", "b", "b.idx", "index.json"}
    # Renamed, it goes on.
    os.rename(directory, mount / "datasets" / "e")
    assert ls(mount / "datasets" / "e" / "samples" / "a")


@pytest.mark.parametrize("flags", [(), ("list_samples",), ("list_samples", "allow_delete")])
def test_samples_is_listed_where_it_is_wanted(world, flags):
    """By its name it is always there. Where things may be deleted rm -r does not read it."""
    mount = world.mount(**world.flags(*flags))
    directory = mount / "datasets" / "d"
    bounded(os.mkdir, directory)
    run("cp", world.shard("a.tar"), directory)
    assert ls(directory / "samples" / "a")
    assert ("samples" in ls(directory)) == (flags == ("list_samples",))
    [cid] = ls(mount / "by-cid")
    assert ("samples" in ls(mount / "by-cid" / cid)) == ("list_samples" in flags)
    if "allow_delete" in flags:
        run("rm", "-r", directory)
        assert "d" not in ls(mount / "datasets")


# ---------------------------------------------------------------- other bytes


def test_a_shard_replaced_underneath(disk):
    """Old bytes or new ones, never something of both."""
    [path] = disk.dataset("moving", ("m.tar", [("a.txt", b"old" * 100), ("s.msgpack", msgpack.packb({"x": "old" * 50}))]))  # fmt: skip
    samples = disk.mount() / "datasets" / "moving" / "samples" / "m"
    assert contents(samples / "a.txt") == b"old" * 100
    assert contents(samples / "s" / "x.txt") == b"old" * 50
    held = os.open(samples / "a.txt", os.O_RDONLY)
    new = make_tar(path.with_name("new"), [("b.txt", b"first"), ("a.txt", b"newer" * 70), ("s.msgpack", msgpack.packb({"x": "new", "y": "more"}))])  # fmt: skip
    os.rename(new, path)
    try:
        assert os.pread(held, 1000, 0) == b"old" * 100
    finally:
        os.close(held)
    wait_until(lambda: read(samples / "a.txt") == b"newer" * 70, SHOWN_SECONDS, "new bytes")
    assert contents(samples / "s" / "x.txt") == b"new"
    assert ls(samples) == ["a.txt", "b.txt", "s"] and ls(samples / "s") == ["sample.json", "x.txt", "y.txt"]  # fmt: skip


# ---------------------------------------------------------------- requests


def remote_dataset(remote, name, members, file="s.tar"):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for member, data in members:
            add(tar, member, data)
    key = f"data/{name}/{file}"
    remote.put(key, out.getvalue())
    remote.index.entry(name, [remote.url(key)])
    return key


def test_one_sample_is_one_get_of_its_bytes(remote):
    random = np.random.default_rng(5)
    arrays = [random.standard_normal(20_000 + i) for i in range(40)]
    members = [(f"{i:04d}.msgpack", msgpack.packb({"a": compact(a), "label": i, "t": "text"}))
               for i, a in enumerate(arrays)]  # fmt: skip
    plain = [(f"p{i:04d}.jpg", IMAGES["jpg"] + random.bytes(50_000)) for i in range(40)]
    key = remote_dataset(remote, "one", [*members, *plain])
    samples = None

    def measure(mount):
        nonlocal samples
        samples = mount / "datasets" / "one" / "samples" / "s"
        assert len(ls(samples)) == 80  # the members are known now
        remote.settled(mount)
        for place in (33, 2):
            remote.forget()
            sample = samples / f"{place:04d}"
            assert ls(sample) == ["a.npy", "sample.json", "t.txt"]
            same_array(sample / "a.npy", arrays[place])
            assert json.loads(contents(sample / "sample.json")) == {"label": place}
            contents(sample / "t.txt")
            run("ls", "-l", sample)
            [get] = remote.gets(key)
            assert get.asked == len(members[place][1])
            assert remote.proxy.counts() == {"GET": 1}
        remote.forget()
        assert contents(samples / "p0007.jpg") == plain[7][1]
        [get] = remote.gets(key)
        assert get.asked == len(plain[7][1]) and remote.proxy.counts() == {"GET": 1}

    without_hedges(remote, measure)


def test_another_mount_knows_the_members(remote):
    key = remote_dataset(remote, "known", webdataset_members(200))
    first = remote.mount()
    assert len(ls(first / "datasets" / "known" / "samples" / "s")) == 600
    first.unmount()
    mount = remote.mount()
    remote.forget()
    assert contents(mount / "datasets" / "known" / "samples" / "s" / "000123.cls") == b"3"
    gets = remote.gets(key)
    assert sum(get.asked for get in gets) <= 2 and remote.proxy.counts() == {"GET": 1}


def test_another_machine_has_the_index_beside_the_shard(team_world, tmp_path):
    """Published here: who has never seen it asks for the index, then for the sample, and no more."""
    path = team_world.shard("a.tar", count=200, bytes_each=30_000)
    mount = team_world.mount()
    bounded(os.mkdir, mount / "datasets" / "d")
    run("cp", path, mount / "datasets" / "d")
    mount.unmount()
    with tarfile.open(path) as tar:
        member = tar.getmembers()[123]
    other = team_world.mount(options={"cache_dir": tmp_path / "other", "ro": True})
    ls(other / "datasets" / "d")
    remote = team_world.remote
    remote.settled(other)
    remote.forget()
    sample = other / "datasets" / "d" / "samples" / "a" / member.name.removesuffix(".msgpack")
    for name in ls(sample):
        contents(sample / name)
    index, get = remote.gets()
    assert index.key.endswith(".atdatafs-members") and get.asked == member.size
    # How many samples there are stands in the index of datasets.
    _, shards = load_wids(other / "datasets" / "d" / "samples" / "index.json")
    assert list(shards.values()) == [(200, path.stat().st_size)]
    assert remote.proxy.counts() == {"GET": 2}


def test_many_readers_of_a_sample_share_its_request(remote):
    data = [np.random.default_rng(i).bytes(20_000) for i in range(30)]
    key = remote_dataset(remote, "many", [(f"{i:03d}.msgpack", msgpack.packb({"d": d, "i": i}))
                                          for i, d in enumerate(data)])  # fmt: skip

    def measure(mount):
        directory = mount / "datasets" / "many" / "samples" / "s"
        assert len(ls(directory)) == len(data)
        remote.settled(mount)
        remote.forget()

        def read_all(_):
            for i, wanted in enumerate(data):
                assert read(directory / f"{i:03d}" / "d.bin") == wanted
                assert json.loads(read(directory / f"{i:03d}" / "sample.json")) == {"i": i}

        with concurrent.futures.ThreadPoolExecutor(12) as pool:
            list(pool.map(read_all, range(12)))
        assert len(remote.gets(key)) == len(data)

    without_hedges(remote, measure)


def test_listing_samples_asks_for_no_members(remote):
    for i in range(3):
        remote_dataset(remote, f"d{i}", webdataset_members(3))
    mount = remote.mount()
    for i in range(3):
        ls(mount / "datasets" / f"d{i}")
    remote.settled(mount)
    remote.forget()
    for i in range(3):
        assert ls(mount / "datasets" / f"d{i}" / "samples") == ["index.json", "s", "s.idx"]
        run("find", mount / "datasets" / f"d{i}" / "samples", "-maxdepth", "1", "-name", "*.idx")
    assert remote.proxy.counts() == {}


def test_a_large_member_streams(remote):
    data = np.random.default_rng(3).bytes(20 * MIB)
    remote_dataset(remote, "stream", [("a.txt", b"1"), ("big.bin", data), ("z.txt", b"2")])
    mount = remote.mount(memory="32M")
    path = mount / "datasets" / "stream" / "samples" / "s" / "big.bin"
    assert contents(path) == data
    with open(path, "rb") as file:
        file.seek(7 * MIB - 3)
        assert file.read(10) == data[7 * MIB - 3 :][:10]


def test_a_remote_shard_that_was_replaced(remote):
    """The version that the index shows is asked for; another one is never mixed in."""
    old = [("a.txt", b"old" * 1000), ("b.txt", b"b-old")]
    new = [("b.txt", b"b-new!"), ("a.txt", b"newer" * 900)]
    remote_dataset(remote, "moved", old)
    mount = remote.mount()
    directory = mount / "datasets" / "moved" / "samples" / "s"
    assert contents(directory / "b.txt") == b"b-old"
    remote_dataset(remote, "moved", new)

    def reads_new():
        try:
            got = read(directory / "a.txt")
        except OSError as error:
            assert error.errno in (errno.ESTALE, errno.EIO), error
            return False
        assert got in (b"old" * 1000, b"newer" * 900)
        return got == b"newer" * 900

    wait_until(reads_new, SHOWN_SECONDS, "the new bytes show")
    assert contents(directory / "b.txt") == b"b-new!"


def test_a_store_that_is_away_is_an_error(remote):
    remote_dataset(remote, "away", webdataset_members(3))
    mount = remote.mount(timeout=2)
    ls(mount / "datasets" / "away")
    remote.settled(mount)
    remote.proxy.rule("reset")
    directory = mount / "datasets" / "away" / "samples" / "s"
    assert refused(os.listdir, directory) in (errno.EIO, errno.ETIMEDOUT)
    remote.proxy.behave()
    wait_until(lambda: shows(directory), 20, "it is back")


def shows(directory):
    try:
        return len(ls(directory)) == 9
    except OSError:
        return False


def test_copying_a_dataset_out_copies_samples(disk, tmp_path):
    disk.dataset("copied", ("c.tar", webdataset_members(5)))
    mount = disk.mount()
    run("cp", "-r", mount / "datasets" / "copied", tmp_path / "copied")
    run("diff", "-r", mount / "datasets" / "copied", tmp_path / "copied")
    run("rsync", "-a", f"{mount / 'datasets' / 'copied'}/", tmp_path / "synced")
    run("diff", "-r", mount / "datasets" / "copied", tmp_path / "synced")

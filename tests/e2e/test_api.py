"""libatdata's public API: the tutorial runs, and C and the real library read each other's datasets
to the same values, sample by sample and in batches (support/api_tool.c does the C side)."""

import io
import os
import subprocess
import urllib.request
from pathlib import Path

import atdata
import msgpack
import numpy as np
import pytest

import samples
from bounded import SLACK, run
from golden import TAGS, Golden
from index_db import cid_of

TOOL = os.environ["ATD_API_TOOL"]
TUTORIAL = os.environ["ATD_TUTORIAL"]
ALL_SAMPLES = 5


def environment(home):
    kept = ("PATH", "ASAN_OPTIONS", "UBSAN_OPTIONS", "TSAN_OPTIONS")
    return {name: os.environ[name] for name in kept if name in os.environ} | {"HOME": str(home)}


class Tool:
    """The C side of a world: the tool with the world's options."""

    def __init__(self, world):
        self.world = world
        self.options = [f"index={world.index_url}", f"state_dir={world.state}"]
        if world.kind == "team":
            remote = world.remote
            self.options += [f"store={world.prefix}", f"endpoint={remote.proxy.url}"]
            self.options += [f"env_file={remote.env_file}"]

    def run(self, *words, options=(), fails=None, **how):
        done = subprocess.run(
            [TOOL, *self.options, *options, *map(str, words)],
            env=environment(self.world.directory),
            capture_output=True,
            timeout=60 * SLACK,
            **how,
        )
        if fails is None:
            assert done.returncode == 0, done.stderr.decode()
        else:
            assert done.returncode == 1, done.stderr.decode()
            assert fails in done.stderr.decode()
        return done.stdout

    def lines(self, *words, **how):
        return self.run(*words, **how).decode().splitlines()

    def documents(self, *words, **how):
        return list(msgpack.Unpacker(io.BytesIO(self.run(*words, **how))))


def to_array(value):
    """A map that stands for an array, as one; anything else as it is."""
    if not isinstance(value, dict) or set(value) != {"dtype", "fortran", "shape", "data"}:
        return value
    order = "F" if value["fortran"] else "C"
    array = np.frombuffer(value["data"], dtype=value["dtype"])
    return array.reshape(value["shape"], order=order)


def assert_equal(a, b, where):
    if isinstance(b, np.ndarray):
        assert isinstance(a, np.ndarray), f"{where}: {a!r}"
        assert a.shape == b.shape and a.dtype.newbyteorder("=") == b.dtype.newbyteorder("="), where
        assert a.astype(a.dtype.newbyteorder("=")).tobytes() == (
            b.astype(b.dtype.newbyteorder("=")).tobytes()
        ), where
    elif isinstance(b, float):
        assert isinstance(a, float) and (a == b or (a != a and b != b)), f"{where}: {a} {b}"
    else:
        assert type(a) is type(b) and a == b, f"{where}: {a!r} {b!r}"


def assert_samples_equal(got, wanted):
    assert len(got) == len(wanted)
    for number, (ours, theirs) in enumerate(zip(got, wanted)):
        fields = {name: to_array(value) for name, value in ours["fields"].items()}
        assert set(fields) <= set(theirs), number
        for name, value in theirs.items():
            assert_equal(fields.get(name), value, f"sample {number}, {name}")


def assert_batches_equal(got, wanted, size):
    """Batches of C against numpy.stack of the samples, as the library's SampleBatch has it."""
    assert [len(batch["keys"]) for batch in got] == [
        min(size, len(wanted) - at) for at in range(0, len(wanted), size)
    ]
    at = 0
    for batch in got:
        theirs = wanted[at : at + len(batch["keys"])]
        at += len(theirs)
        assert set(batch["columns"]) == set(theirs[0])
        for name, column in batch["columns"].items():
            values = [sample[name] for sample in theirs]
            if isinstance(values[0], np.ndarray):
                stacked = np.stack(values)
                column = to_array(column)
                assert_equal(column, stacked, f"batch at {at}, {name}")
                assert column.dtype == stacked.dtype, name
            else:
                assert isinstance(column, list), name
                for ours, value in zip(column, values):
                    assert_equal(ours, value, f"batch at {at}, {name}")


@pytest.fixture
def tool(world):
    return Tool(world)


@pytest.fixture
def python(world, stack):
    """The real library on the world's index and store."""
    if world.kind == "disk":
        return stack.peer(world.home)
    home = world.directory / "peer"
    home.mkdir()
    side = stack.peer(home)
    remote = world.remote
    side.use_servers(remote.redis_server.port, str(remote.env_file), remote.bucket)
    return side


# ------------------------------------------------------------------ the tutorial


def test_the_tutorial(world, tmp_path, python):
    work = tmp_path / "work"
    work.mkdir()
    words = [TUTORIAL, work, world.index_url]
    if world.kind == "team":
        words += [world.prefix, world.remote.proxy.url, world.remote.env_file]
    said = run(*words, env=environment(tmp_path), timeout=60 * SLACK).stdout
    assert "schema atdata://local/schema/TutorialSample@1.0.0\n" in said
    assert "class TutorialSample(PackableSample):" in said
    sizes = [line.split(":")[0] for line in said.splitlines() if line.startswith("batch of")]
    assert sizes == ["batch of 32"] * 3 + ["batch of 4"]
    if world.kind == "team":
        [url] = [line.split()[1] for line in said.splitlines() if line.startswith("signed ")]
        with urllib.request.urlopen(url, timeout=20) as reply:
            assert reply.read() == (work / "train-000000.tar").read_bytes()
        # A URL that anybody may read is read as one, over plain HTTP.
        signed = Tool(world).documents("url", url, 0)
        assert [sample["key"] for sample in signed] == [f"{n:08d}" for n in range(40)]
    world.assert_published("tutorial", *sorted(work.glob("train-*.tar")))
    entry = python.everything_of("tutorial")
    assert entry["metadata"]["source"] == "the tutorial"
    assert f"resolved {entry['cid']}\n" in said
    loaded = python.load_decoded("tutorial")
    assert len(loaded) == 100
    for number, sample in enumerate(loaded):
        pixels = (np.arange(16, dtype="<f4") + number) / 8
        assert_equal(sample["image"], pixels.reshape(4, 4), number)
        assert sample["label"] == f"class {number % 10}"
        assert sample["confidence"] == number / 100
    part = python.load_decoded("tutorial-part")
    assert [sample["confidence"] for sample in part] == [n / 100 for n in range(80, 100)]
    # Again: nothing is sent twice, nothing is there twice.
    for path in work.glob("train-*.tar"):
        path.unlink()
    run(*words, env=environment(tmp_path), timeout=60 * SLACK)
    assert python.everything_of("tutorial")["cid"] == entry["cid"]


# ------------------------------------------------------------------ C writes, Python reads


def made(number, compact):
    """What api_tool's `write` wrote."""
    kinds = {
        "flags": ("|b1", (5,)),
        **{k: ("|" + k if k == "i1" else "<" + k, (2, 3)) for k in ("i1", "i2", "i4", "i8")},
        "u1": ("|u1", (2, 3, 4)),
        **{k: ("<" + k, (2, 3)) for k in ("u2", "u4", "u8", "f2", "f4", "f8", "c8", "c16")},
        "big_i2": (">i2", (2, 3)),
        "big_f8": (">f8", (2, 3)),
        "big_c8": (">c8", (2, 3)),
        "texts": ("<U3", (4,)),
        "big_texts": (">U3", (4,)),
        "octets": ("|S4", (4,)),
        "times": ("<M8[ns]", (4,)),
        "spans": ("<m8[s]", (4,)),
        "point": ("<f4", ()),
        "nothing": ("<f4", (0,)),
        "columns": ("<f8", (2, 3, 4)),
        "big_columns": (">i4", (3, 4)),
    }
    sample = {}
    for name, (dtype, shape) in kinds.items():
        length = int(np.prod(shape)) * np.dtype(dtype).itemsize
        octets = range(length)
        if dtype[1] == "b":
            data = bytes((i + number) % 2 for i in octets)
        elif dtype[1] == "U":
            low = 0 if dtype[0] == "<" else 3
            data = bytes(ord("A") + (i + number) % 26 if i % 4 == low else 0 for i in octets)
        elif dtype[1] == "S":
            data = bytes(ord("a") + (i + number) % 26 for i in octets)
        else:
            data = bytes((i * 7 + number * 13 + 1) % 120 for i in octets)
        fortran = name in ("columns", "big_columns") and not compact
        array = np.frombuffer(data, dtype=dtype).reshape(shape, order="F" if fortran else "C")
        sample[name] = array
    sample |= {
        "text": "naïve 数\n",
        "number": -(2**63) if number % 2 else -number,
        "ratio": number / 3,
        "flag": number % 2 == 1,
        "raw": b"\0\xff",
        "tags": [1 << i for i in range(number)],
    }
    return sample


@pytest.mark.parametrize("form", ["npy", "compact"])
@pytest.mark.parametrize("references", ["modern", "universal"])
def test_python_reads_what_c_wrote(world, tool, python, tmp_path, form, references):
    options = ["universal=1"] if references == "universal" else []
    said = tool.lines("write", "all", tmp_path / "all", form, options=options)
    assert len(said) == 3 and all(line.endswith(" 0") for line in said)
    entry = python.everything_of("all")
    start = "local://schemas/" if references == "universal" else "atdata://local/schema/"
    assert entry["schema_ref"] == start + "Everything@1.0.0"
    assert [line.split()[0] for line in said] == entry["data_urls"]
    assert said[-1].split()[1] == entry["cid"] == cid_of(entry["schema_ref"], entry["data_urls"])
    wanted = [made(number, form == "compact") for number in range(ALL_SAMPLES)]
    loaded = python.load_decoded("all")
    assert len(loaded) == ALL_SAMPLES
    for number, (got, want) in enumerate(zip(loaded, wanted)):
        assert set(got) == set(want)
        for name, value in want.items():
            assert_equal(got[name], value, f"sample {number}, {name}")
    # C reads the same, and stacks as NumPy does.
    assert_samples_equal(tool.documents("samples", "@local/all"), loaded)
    for size in (1, 2, 3, 100):
        assert_batches_equal(tool.documents("batches", "all", size), loaded, size)


# ------------------------------------------------------------------ Python writes, C reads


@pytest.mark.parametrize("kind", ["Scalars", "Arrays", "MaybeArray"])
def test_c_reads_what_python_wrote(world, tool, python, kind):
    entry = python.write("theirs", kind, 7)
    wanted = samples.expected(kind, 7)
    assert_samples_equal(tool.documents("samples", "@local/theirs"), wanted)
    assert_samples_equal(tool.documents("samples", entry["cid"], options=["memory=1"]), wanted)
    if kind != "Arrays":  # whose shapes differ
        assert_batches_equal(tool.documents("batches", "theirs", 1), wanted, 1)
    if kind == "Scalars":
        assert_batches_equal(tool.documents("batches", "theirs", 3), wanted, 3)
    if kind == "Arrays":
        tool.run("batches", "theirs", 3, fails="has another shape than")
        assert_batches_equal(tool.documents("batches", "theirs", 1), wanted, 1)


@pytest.mark.parametrize("tag", TAGS)
def test_golden_shards(disk_world, test_data, tag):
    """All dtypes as each release wrote them, against what its own script expected."""
    tool = Tool(disk_world)
    directory = test_data / "golden" / tag
    path = directory / "alltypes.tar"
    root = [f"root={directory}"]
    got = tool.documents("url", path, 0, options=root)
    import webdataset

    raw = list(webdataset.WebDataset(str(path), shardshuffle=False))
    assert [sample["key"] for sample in got] == [sample["__key__"] for sample in raw]
    from atdata._helpers import bytes_to_array

    for ours, theirs in zip(got, raw):
        assert ours["members"] == {"msgpack": theirs["msgpack"]}
        for name, value in msgpack.unpackb(theirs["msgpack"]).items():
            mine = to_array(ours["fields"][name])
            if isinstance(mine, np.ndarray):
                value = bytes_to_array(value)
            assert_equal(mine, value, f"{ours['key']}, {name}")
    arrays = {name for name, value in got[0]["fields"].items() if isinstance(value, dict)}
    assert len(arrays) >= 1


def test_golden_indexes(team_world, test_data):
    """References of every era, labels, shards in S3: whatever release wrote them."""
    tool = Tool(team_world)
    for tag in TAGS:
        golden = Golden(test_data / "golden" / tag)
        team_world.client.flushdb()
        golden.restore_redis(team_world.client)
        golden.restore_s3(team_world.minio)
        [entry] = [e for e in golden.hashes("LocalDatasetEntry:") if e["name"] == b"training-v1"]
        cid = entry["cid"].decode()
        assert tool.lines("resolve", "@local/training-v1")[0].split()[:2] == [cid, "training-v1"]
        got = tool.documents("samples", "@local/training-v1")
        assert len(got) == 25, tag
        batch = tool.documents("batches", "@local/training-v1", 32)
        stacked = np.stack([to_array(sample["fields"]["features"]) for sample in got])
        assert_equal(to_array(batch[0]["columns"]["features"]), stacked, tag)


def test_batches_are_the_librarys(world, tool, python, tmp_path):
    """Against SampleBatch itself, over one shard file."""
    tool.run("write", "all", tmp_path / "all", "compact")

    path = tmp_path / "all-000000.tar"
    plain = atdata.Dataset[atdata.DictSample](str(path))
    theirs = [sample.to_dict() for sample in plain.ordered(batch_size=None)]
    [batch, *_] = tool.documents("batches", "all", 2)
    from atdata._helpers import bytes_to_array

    for name in ("f4", "big_i2", "texts", "c16", "columns"):
        stacked = np.stack([bytes_to_array(sample[name]) for sample in theirs])
        assert_equal(to_array(batch["columns"][name]), stacked, name)


# ------------------------------------------------------------------ order, limits, failures


def test_shuffling(world, tool, tmp_path):
    tool.run("write", "all", tmp_path / "all", "compact")
    keys = lambda *options: [  # noqa: E731
        s["key"] for s in tool.documents("samples", "all", options=options)
    ]
    in_order = keys()
    assert in_order == [f"{n:08d}" for n in range(ALL_SAMPLES)]
    orders = [keys("shuffle=3", f"seed={seed}") for seed in range(6)]
    assert all(sorted(order) == in_order for order in orders)
    assert len(set(map(tuple, orders))) > 1
    assert orders[0] == keys("shuffle=3", "seed=0")


def test_many_parts_of_several_shards(team_world):
    """Shards of many parts, the next one begun early: every byte once, within the memory."""
    tool = Tool(team_world)
    paths = [team_world.shard(f"part-{i}.tar", 40, 600_000, seed=i) for i in range(3)]
    urls = []
    for path in paths:
        team_world.remote.put(f"data/big/{path.name}", path.read_bytes())
        urls.append(team_world.remote.url(f"data/big/{path.name}"))
    team_world.remote.index.entry("big", urls)
    team_world.forget()
    got = tool.documents("samples", "big", options=["memory=33554432"])
    assert len(got) == 120
    assert len(team_world.remote.gets()) == sum(-(-p.stat().st_size // (4 << 20)) for p in paths)
    assert sum(get.sent for get in team_world.remote.gets()) == sum(
        p.stat().st_size for p in paths
    )


def test_references(world, tool, python):
    first = python.write("team/mnist", "Scalars", 2)
    python.label("team/mnist", first["cid"], version="1.0.0")
    for reference in ("@local/team/mnist", "team/mnist", "team/mnist@1.0.0", first["cid"]):
        assert tool.lines("resolve", reference)[0].split()[0] == first["cid"]
    tool.run("resolve", "@local/team/mnist@9.9.9", fails="no dataset")
    tool.run("resolve", "@other/mnist", fails="only @local/NAME")
    tool.run("resolve", "@local/", fails="names no dataset")
    tool.run("resolve", "nothing", fails="no dataset 'nothing'")
    tool.run("label", "team/mnist", "2.0.0", first["cid"])
    listed = tool.lines("list")
    assert f"entry {first['cid']} team/mnist" in listed
    assert f"label {first['cid']} team/mnist@2.0.0" in listed
    assert first["schema_ref"] in [line.split()[1] for line in listed if "schema " in line]
    # Its shards under another name and class; Python finds both.
    tool.run("insert", "other", "atdata://local/schema/None@1.0.0", "x", fails="publish it first")
    python.publish_schema("Scalars", version="7.0.0")
    ref = "atdata://local/schema/Scalars@7.0.0"
    [cid] = tool.lines("insert", "other", ref, first["data_urls"][0])
    assert python.everything_of("other")["cid"] == cid
    assert len(python.load_decoded("other")) == 2
    tool.run("label", "x", "", "nothing", options=["read_only=1"], fails="read only")


def test_failures_are_told(world, tool, tmp_path):
    tool.run("url", "/etc/passwd", 0, fails="data root")
    tool.run("url", "pipe:cat /etc/passwd", 0, fails="pipe")
    tool.run("url", "relative.tar", 0, fails="no absolute path")
    bad = tmp_path / "bad.tar"
    good = world.shard("good.tar", 5)
    bad.write_bytes(good.read_bytes()[:3000])
    tool.run("url", bad, 0, options=[f"root={tmp_path}"], fails="ends inside")
    bad.write_bytes(b"")
    tool.run("url", bad, 0, options=[f"root={tmp_path}"], fails="empty")
    bad.write_bytes(b"x" * 4096)
    tool.run("url", bad, 0, options=[f"root={tmp_path}"], fails="tar")
    for packing in ("gzip", "bzip2", "xz"):
        copy = tmp_path / f"{packing}.tar"
        copy.write_bytes(good.read_bytes())
        packed = subprocess.run([packing, "-c", copy], capture_output=True, check=True).stdout
        copy.write_bytes(packed)
        assert len(tool.documents("url", copy, 0, options=[f"root={tmp_path}"])) == 5
        copy.write_bytes(packed[: len(packed) // 2])
        tool.run("url", copy, 0, options=[f"root={tmp_path}"], fails="shard")


def test_the_store_fails(team_world):
    """Retried where it may be, else an error in time; nothing hangs."""
    tool = Tool(team_world)
    path = team_world.shard("one.tar", 20, 400_000)
    team_world.remote.put("data/x/one.tar", path.read_bytes())
    team_world.remote.index.entry("x", [team_world.remote.url("data/x/one.tar")])
    team_world.remote.proxy.rule("reset", at=1000, probability=0.3)
    assert len(tool.documents("samples", "x")) == 20
    team_world.remote.proxy.behave()
    team_world.minio.s3.delete_object(Bucket=team_world.bucket, Key="data/x/one.tar")
    tool.run("samples", "x", options=["timeout=5"], fails="x")


# ------------------------------------------------------------------ as installed


def test_pkg_config(tmp_path):
    """`cmake --install`, then a compiler with nothing but pkg-config's words."""
    build = Path(TUTORIAL).parent.parent
    source = Path(__file__).resolve().parents[2] / "contrib" / "examples" / "tutorial.c"
    prefix = tmp_path / "prefix"
    run("cmake", "--install", build, "--prefix", prefix, timeout=120)
    [pc] = prefix.rglob("libatdata.pc")
    env = os.environ | {"PKG_CONFIG_PATH": str(pc.parent)}
    flags = run("pkg-config", "--cflags", "--libs", "libatdata", env=env).stdout.split()
    program = tmp_path / "tutorial"
    more = ["-fsanitize=address,undefined"] if SLACK > 1 else []
    run("cc", "-std=c11", "-Wall", "-Wextra", "-Wpedantic", "-Werror", *more, source, *flags, "-o",
        program, timeout=120)  # fmt: skip
    [library] = prefix.rglob("libatdata.so")
    work = tmp_path / "work"
    work.mkdir()
    env = environment(tmp_path) | {"LD_LIBRARY_PATH": str(library.parent)}
    said = run(program, work, f"sqlite:{work}/index.db", env=env, timeout=60 * SLACK).stdout
    assert "batch of 32" in said

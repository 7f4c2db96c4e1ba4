"""Which names can be made in a mount, and what becomes of the files that tools make on their way."""

import errno
import os
import re

import pytest

from bounded import bounded, ls, read, run
from publish_bench import RECORDS, create, refusal
from publish_tools import python


def put(path, data):
    with open(path, "wb", buffering=0) as file:
        file.write(data)


NOBODY_SHARES = [
    "notes.txt",
    "README",
    "shard.zip",
    "shard.tar.zst",
    ".tar",
    ".hidden",
    ".directory",
    ".shard-000000.tar",
    ".notes.txt.a1b2c3",
    "notes.txt.part",
    "entry.json",
    "schema.py",
    "schema.jsonschema",
    "other.json",
    "shard-{0..1}.tar",
    "back\\slash.tar",
    "shard%41.tar",
    "shard.tar.error.txt",
    "shard.tar.sha256",
    b"not-utf8-\xff.tar",
    "line\nbreak.tar",
]

TEMPORARY = [
    ".shard-000000.tar.Ab12Cd",
    "shard-000000.tar.part",
    "shard-000000.tar.partial~",
    "shard-000000.tar.AB12CD",
]

SCRATCH = [
    ".schema.json.Ab12Cd",
    ".goutputstream-AB12CD",
    ".schema.json.swp",
    ".schema.json.swx",
    ".shard-000000.tar.swp",
    "4913",
    "schema.json~",
    "sedAb12Cd",
    "XXAb12Cd",
    "tmpab12_cd3",
    "shard-000000.tar.aria2",
    "shard-000000.tar.aria2__temp",
    ".fuse_hidden0000000300000001",
]


@pytest.fixture
def dataset(bench):
    return bench.dataset()


@pytest.mark.parametrize("name", NOBODY_SHARES, ids=repr)
def test_what_nobody_would_share(bench, dataset, name):
    path = os.fsencode(dataset) + b"/" + os.fsencode(name)
    assert refusal(create, path) in (errno.EACCES, errno.EEXIST)
    assert refusal(os.mkdir, path) in (errno.EACCES, errno.EEXIST)
    assert not [entry for entry in ls(dataset) if entry not in RECORDS]
    bench.world.assert_clean()


def test_where_nothing_can_be_made(bench, dataset):
    mount = bench.mount
    places = ["x.tar", "datasets/x.tar", "labels/x.tar", ".atdatafs/x.tar", "schemas/x.tar"]
    for place in places:
        assert refusal(create, mount / place) == errno.EACCES, place
    directories = [".Trash-1000", ".Trash", "x", "labels/x", "schemas/x", ".atdatafs/x"]
    directories += [f"datasets/{dataset.name}/sub", f"datasets/{dataset.name}/.Trash-1000"]
    for place in directories:
        assert refusal(os.mkdir, mount / place) == errno.EACCES, place
    assert refusal(create, mount / "by-cid" / "x.tar") == errno.EROFS
    assert refusal(os.mkdir, mount / "by-cid" / "x") == errno.EROFS
    assert refusal(os.symlink, "x", dataset / "x.tar") == errno.EACCES
    assert refusal(os.mkfifo, dataset / "x.tar") == errno.EPERM
    put(dataset / "tmpab12_cd3", b"x")
    assert refusal(os.link, dataset / "tmpab12_cd3", dataset / "x.tar") == errno.EPERM
    assert refusal(create, dataset / ("x" * 252 + ".tar")) == errno.ENAMETOOLONG
    os.unlink(dataset / "tmpab12_cd3")


@pytest.mark.parametrize("name", SCRATCH)
def test_scratch(bench, dataset, name):
    """A file like any other, that only this mount has."""
    path = dataset / name
    before = ls(dataset)
    put(path, b"scratch")
    assert read(path) == b"scratch" and os.stat(path).st_size == 7
    assert ls(dataset) == sorted([*before, name])
    with open(path, "ab") as file:
        file.write(b" and more")
    os.truncate(path, 11)
    os.utime(path, (1700000001, 1700000001))
    os.chmod(path, 0o600)
    assert read(path) == b"scratch and" and os.stat(path).st_mtime == 1700000001
    os.rename(path, dataset / "tmpzz12_cd3")
    assert ls(dataset) == sorted([*before, "tmpzz12_cd3"])
    assert read(dataset / "tmpzz12_cd3") == b"scratch and"
    os.unlink(dataset / "tmpzz12_cd3")
    assert ls(dataset) == before
    assert bench.world.entry(dataset.name) is None
    bench.world.assert_clean()


@pytest.mark.parametrize("name", TEMPORARY)
def test_temporary(bench, dataset, name):
    """It is checked and sent at its close; only its new name publishes it."""
    before = ls(dataset)
    assert refusal(put, dataset / name, b"no tar" * 200) == errno.EINVAL
    assert ls(dataset) == sorted([*before, "shard-000000.tar.error.txt"])
    source, original = bench.source()
    run("cp", source, dataset / name)
    assert name in ls(dataset) and bench.world.entry(dataset.name) is None
    run("cmp", source, dataset / name)
    run("rm", dataset / name)
    bench.world.assert_clean()
    bench.world.forget()
    run("cp", source, dataset / name)
    run("mv", dataset / name, dataset / "shard-000000.tar")
    bench.check(dataset, original, samples=40)


def test_scratch_that_is_open_is_unlinked(bench, dataset):
    path = dataset / "tmpab12_cd3"
    with open(path, "w+b", buffering=0) as file:
        file.write(b"still here")
        os.unlink(path)
        assert not path.exists()
        file.seek(0)
        assert file.read() == b"still here"
    bench.world.assert_clean()


def test_scratch_becomes_a_shard(bench, dataset):
    """gedit's and rsync's way: another name first, also while the file is open."""
    source, original = bench.source()
    moves = python("""
import os
data = open(sys.argv[1], "rb").read()
temporary = os.path.join(os.environ["DIR"], ".goutputstream-AB12CD")
file = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
for at in range(0, len(data), 1 << 16):
    os.write(file, data[at : at + (1 << 16)])
os.fsync(file)
os.rename(temporary, sys.argv[2])
os.close(file)
""")
    bench.env.run(moves, source=source, target=dataset / source.name)
    bench.check(dataset, original, samples=40)


def test_scratch_from_another_dataset(bench):
    """What was staged in one dataset is published in another."""
    first = bench.dataset()
    run("cp", bench.source(name="a.tar")[0], first / ".a.tar.Ab12Cd")
    second = bench.dataset()
    source, original = bench.source(name="a.tar")
    run("cp", source, first / ".a.tar.Ab12Cd")
    run("mv", first / ".a.tar.Ab12Cd", second / "a.tar")
    bench.check(second, original, samples=40, sent_once=False)
    assert bench.world.entry(first.name) is None


def test_vim_leaves_nothing(bench, dataset):
    source, original = bench.source()
    run("cp", source, dataset)
    before = bench.world.entry(dataset.name)
    run("vim.tiny", "-u", "NONE", "-es", "-c", "q!", dataset / "metadata.json", check=False)
    assert ls(dataset) == sorted([*RECORDS, source.name])
    assert bench.world.entry(dataset.name) == before


# ---------------------------------------------------------------- datasets

BAD_DATASETS = [
    ".hidden",
    ".Trash-1000",
    "@local",
    "name@1.0.0",
    "star*",
    "what?",
    "[set]",
    "{a,b}",
    "back\\slash",
    "line\nbreak",
    b"\xff\xfe",
    "a%2F..%2Fb",
    "%2Fa",
    "local%2Fa",
]


@pytest.mark.parametrize("name", BAD_DATASETS, ids=repr)
def test_bad_dataset_names(bench, name):
    before = ls(bench.mount / "datasets")
    path = os.fsencode(bench.mount / "datasets") + b"/" + os.fsencode(name)
    assert refusal(os.mkdir, path) == errno.EACCES
    assert ls(bench.mount / "datasets") == before


def test_good_dataset_names(bench):
    for name in ("naïve 数", "team%2Fmnist", "with space", "UPPER-lower_1.5", "x" * 100):
        path = bench.mount / "datasets" / name
        bounded(os.mkdir, path)
        assert refusal(os.mkdir, path) == errno.EEXIST
        source, original = bench.source()
        run("cp", source, path)
        index_name = name.replace("%2F", "/")
        bench.world.assert_published(index_name, original)
        bench.world.assert_clean()
    long = bench.mount / "datasets" / ("x" * 256)
    assert refusal(os.mkdir, long) == errno.ENAMETOOLONG


def test_empty_dataset_survives_a_remount(world):
    mount = world.mount()
    for name in ("kept", "removed"):
        bounded(os.mkdir, mount / "datasets" / name)
    assert refusal(os.mkdir, mount / "datasets" / "kept") == errno.EEXIST
    (mount / "datasets" / "kept" / "metadata.json").write_text('{"by": "hand"}')
    bounded(os.rmdir, mount / "datasets" / "removed")
    assert world.entries() == []
    mount.unmount()
    mount = world.mount()
    assert ls(mount / "datasets") == ["kept"]
    assert mount.json("datasets", "kept", "metadata.json") == {"by": "hand"}
    source = world.shard("a.tar")
    run("cp", source, mount / "datasets" / "kept")
    world.assert_published("kept", source)
    assert refusal(os.rmdir, mount / "datasets" / "kept") == errno.EPERM
    mount.unmount()
    mount = world.mount()
    assert ls(mount / "datasets") == ["kept"]
    assert ls(mount / "datasets" / "kept") == sorted(["a.tar", *RECORDS])
    mount.unmount()


def test_mtime_survives_a_remount(world):
    mount = world.mount()
    bounded(os.mkdir, mount / "datasets" / "d")
    source = world.shard("a.tar")
    os.utime(source, ns=(1700000001_123456789, 1700000001_123456789))
    run("rsync", "-a", source, mount / "datasets" / "d/")
    mount.unmount()
    mount = world.mount()
    shown = os.stat(mount / "datasets" / "d" / "a.tar")
    assert shown.st_mtime_ns == 1700000001_123456789
    listed = run("rsync", "-ai", source, mount / "datasets" / "d/").stdout
    assert not re.search("^>f", listed)
    mount.unmount()


# ---------------------------------------------------------------- -o ro


def test_read_only(world):
    mount = world.mount()
    bounded(os.mkdir, mount / "datasets" / "d")
    source = world.shard("a.tar")
    run("cp", source, mount / "datasets" / "d")
    mount.unmount()
    before = world.entries()
    mount = world.mount(**world.flags("ro"))
    directory = mount / "datasets" / "d"
    attempts = {
        "create": lambda: create(directory / "b.tar"),
        "create a temporary": lambda: create(directory / ".b.tar.Ab12Cd"),
        "open": lambda: open(directory / "a.tar", "r+b"),
        "open a record": lambda: open(directory / "metadata.json", "r+b"),
        "truncate": lambda: os.truncate(directory / "schema.json", 0),
        "unlink": lambda: os.unlink(directory / "a.tar"),
        "rename": lambda: os.rename(directory, mount / "datasets" / "e"),
        "mkdir": lambda: os.mkdir(mount / "datasets" / "new"),
        "rmdir": lambda: os.rmdir(directory),
        "symlink": lambda: os.symlink("../datasets/d", mount / "labels" / "d@1.0.0"),
        "link": lambda: os.link(directory / "a.tar", directory / "b.tar"),
        "chmod": lambda: os.chmod(directory / "a.tar", 0o600),
        "utime": lambda: os.utime(directory / "a.tar"),
        "mknod": lambda: os.mkfifo(directory / "b.tar"),
    }
    for what, attempt in attempts.items():
        assert refusal(attempt) == errno.EROFS, what
    done = run("cp", source, directory / "b.tar", check=False)
    assert done.returncode == 1 and "Read-only file system" in done.stderr
    assert os.statvfs(mount.path).f_flag & os.ST_RDONLY
    run("cmp", source, directory / "a.tar")
    assert world.entries() == before
    mount.unmount()

"""What others commit shows within a second, and watching leaves no trace beside the index."""

import hashlib
import os
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from bounded import bounded, ls, read, run, sha256, wait_until
from index_db import IndexDb, make_shard

VISIBLE_S = float(os.environ.get("ATD_E2E_VISIBLE_S", "1.0"))


@pytest.fixture
def soon(capsys):
    """soon(condition, committed_at, what): it holds within a second of the commit."""

    def check(condition, committed_at, what):
        while not condition():
            assert time.monotonic() - committed_at < VISIBLE_S, f"not within {VISIBLE_S} s: {what}"
            time.sleep(0.002)
        took = time.monotonic() - committed_at
        assert took < VISIBLE_S, f"after {took:.3f} s only: {what}"
        with capsys.disabled():
            print(f" {what}: {took:.3f} s", end="")

    return check


@pytest.fixture(scope="module")
def live(module_stack):
    """A mount and a peer on one HOME, for the tests that only add to it."""
    home = module_stack.directory / "home"
    home.mkdir()
    peer = module_stack.peer(home)
    peer.write("first")
    return module_stack.mount(home=home), peer


def snapshot(directory):
    """Every file below a directory: anything that a write to it would change."""

    def state(path):
        st = path.lstat()
        content = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None
        return st.st_ino, st.st_mode, st.st_size, st.st_mtime_ns, st.st_ctime_ns, content

    return {str(path): state(path) for path in [directory, *directory.rglob("*")]}


def look_at_everything(mount):
    for place in ("datasets", "by-cid"):
        for name in ls(mount / place):
            for file in ls(mount / place / name):
                read(mount / place / name / file)
    for name in ls(mount / "labels"):
        os.readlink(mount / "labels" / name)


def exists(path):
    return bounded(os.path.lexists, path)


# ---------------------------------------------------------------- what changes


def test_new_dataset_in_a_cached_listing(live, soon):
    mount, peer = live
    before = ls(mount / "datasets")
    counted = mount.metrics()["readdir_requests"]
    assert ls(mount / "datasets") == before
    assert mount.metrics()["readdir_requests"] == counted, "the listing was not cached"
    links = os.stat(mount / "datasets").st_nlink
    peer.write("published")
    soon(
        lambda: "published" in ls(mount / "datasets"), peer.committed_at, "publish in the listing"
    )
    # A listing is of the new generation before the kernel has been told of all that it changed.
    soon(
        lambda: os.stat(mount / "datasets").st_nlink == links + 1, peer.committed_at, "the count"
    )
    assert ls(mount / "datasets") == sorted([*before, "published"])
    assert len(ls(mount / "datasets" / "published")) == 6


def test_name_that_was_absent(live, soon):
    mount, peer = live
    for _ in range(2):
        assert not exists(mount / "datasets" / "absent")
    peer.write("absent")
    soon(lambda: exists(mount / "datasets" / "absent"), peer.committed_at, "name that was absent")
    assert not exists(mount / "labels" / "absent@1.0.0")
    cid = mount.json("datasets", "absent", "entry.json")["cid"]
    peer.label("absent", cid, version="1.0.0")
    soon(lambda: exists(mount / "labels" / "absent@1.0.0"), peer.committed_at, "label")
    assert os.readlink(mount / "labels" / "absent@1.0.0") == f"../by-cid/{cid}"
    assert exists(mount / "by-cid" / cid / "entry.json")


def test_labels_that_move(live, soon):
    mount, peer = live
    old = peer.write("moving", count=1)
    peer.label("moving", old["cid"], version="1.0.0")
    link = mount / "labels" / "moving@1.0.0"
    soon(lambda: exists(link), peer.committed_at, "first label")
    directory = mount / "datasets" / "moving"
    [old_shard] = [name for name in ls(directory) if name.endswith(".tar")]
    assert mount.json("datasets", "moving", "entry.json")["cid"] == old["cid"]
    old_link = bounded(os.readlink, link)

    new = peer.write("moving", count=2)  # moves the unversioned label
    soon(
        lambda: mount.json("datasets", "moving", "entry.json")["cid"] == new["cid"],
        peer.committed_at,
        "entry.json of a relabelled name",
    )
    new_shard = Path(new["data_urls"][0]).name
    soon(
        lambda: [name for name in ls(directory) if name.endswith(".tar")] == [new_shard],
        peer.committed_at,
        "its shards",
    )
    assert sha256(directory / new_shard) == sha256(new["data_urls"][0])
    soon(lambda: not exists(directory / old_shard), peer.committed_at, "the old one is gone")

    assert os.readlink(link) == old_link == f"../by-cid/{old['cid']}"
    peer.label("moving", new["cid"], version="1.0.0")
    soon(
        lambda: os.readlink(link) == f"../by-cid/{new['cid']}", peer.committed_at, "label moved"
    )
    assert ls(mount / "labels" / "moving@1.0.0") == ls(directory)


def test_schema_that_is_published_again(live, soon):
    mount, peer = live
    entry = peer.write("described", "MaybeArray")
    path = mount / "datasets" / "described" / "schema.json"
    soon(lambda: exists(path), peer.committed_at, "dataset with a new schema")
    old = mount.json("datasets", "described", "schema.json")
    assert read(path) == read(path)
    size = os.stat(path).st_size
    peer.publish_schema("MaybeArray", "1.0.0", description="written again, naïvely")
    soon(
        lambda: mount.json("datasets", "described", "schema.json") != old,
        peer.committed_at,
        "schema.json changed",
    )
    new = mount.json("datasets", "described", "schema.json")
    assert new == peer.schema(entry["schema_ref"])
    assert new["description"] == "written again, naïvely"
    assert new == mount.json("schemas", "MaybeArray@1.0.0.json")
    assert len(read(path)) == os.stat(path).st_size != size
    assert b"written again" in read(mount / "datasets" / "described" / "schema.py")
    peer.publish_schema("MaybeArray", "1.5.0")
    soon(
        lambda: "MaybeArray@1.5.0.py" in ls(mount / "schemas"), peer.committed_at, "schema added"
    )


def test_metadata_that_changes(live, soon):
    mount, peer = live
    [shard] = peer.write_shards("again/again.tar", "Scalars", 2, per_shard=5)
    first = peer.insert("again", shard, metadata={"try": 1})
    soon(lambda: exists(mount / "datasets" / "again"), peer.committed_at, "insert")
    assert mount.json("datasets", "again", "metadata.json") == {"try": 1}
    second = peer.insert("again", shard, metadata={"try": 2, "text": "longer than before"})
    assert first["cid"] == second["cid"]
    soon(
        lambda: mount.json("datasets", "again", "metadata.json").get("try") == 2,
        peer.committed_at,
        "metadata.json changed",
    )
    by_cid = mount.json("by-cid", first["cid"], "metadata.json")
    assert by_cid == {"try": 2, "text": "longer than before"}


def test_dataset_that_is_removed(live, soon):
    """The library never deletes; others may. An open shard goes on, a working directory too."""
    mount, peer = live
    entry = peer.write("doomed")
    directory = mount / "datasets" / "doomed"
    soon(lambda: exists(directory), peer.committed_at, "publish")
    shard = directory / Path(entry["data_urls"][0]).name
    child = subprocess.Popen(
        [sys.executable, "-c", "import os; input(); print(os.getcwd()); print(os.listdir('..'))"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=mount / "datasets" / "first",
    )
    with open(shard, "rb") as reader:
        head = reader.read(512)
        with sqlite3.connect(peer.home / ".atdata" / "index.db") as db:
            db.execute("DELETE FROM dataset_entries WHERE cid = ?", (entry["cid"],))
        committed_at = time.monotonic()
        db.close()
        soon(lambda: not exists(directory), committed_at, "removal")
        soon(lambda: "doomed" not in ls(mount / "datasets"), committed_at, "the listing")
        soon(lambda: entry["cid"] not in ls(mount / "by-cid"), committed_at, "the other one")
        with pytest.raises(FileNotFoundError):
            os.stat(shard)
        assert head + reader.read() == Path(entry["data_urls"][0]).read_bytes()
    output, _ = child.communicate("\n", timeout=20)
    assert output.splitlines()[0] == str(mount / "datasets" / "first")
    assert "'first'" in output and "doomed" not in output


def test_several_writers_at_once(live, soon, stack):
    mount, peer = live
    others = [stack.peer(peer.home) for _ in range(2)]
    for round_ in range(5):
        for place, other in enumerate([peer, *others]):
            other.write(f"many-{place}-{round_}")
    wanted = {f"many-{place}-{round_}" for place in range(3) for round_ in range(5)}
    soon(
        lambda: wanted <= set(ls(mount / "datasets")),
        max(other.committed_at for other in [peer, *others]),
        "15 datasets of 3 writers",
    )
    for name in wanted:
        assert len(ls(mount / "datasets" / name)) == 6


# ---------------------------------------------------------------- no trace


@pytest.mark.parametrize("open_writer", [False, True], ids=["closed", "open"])
def test_mount_alters_nothing(open_writer, home, mount, stack):
    """With and without a program that has the database open (-wal and -shm there or not)."""
    writer = stack.peer(home)
    writer.write("quiet")
    writer.label("quiet", writer.entries()[0]["cid"], version="1.0.0")
    if not open_writer:
        writer.__exit__()
    beside = sorted(path.name for path in (home / ".atdata").iterdir())
    assert beside == ["data", "index.db"] + ["index.db-shm", "index.db-wal"] * open_writer
    before = snapshot(home)
    mounted = mount()
    look_at_everything(mounted)
    loads = mounted.metrics()["index_loads"]
    assert snapshot(home) == before
    # Also not later, when it looks again and again.
    time.sleep(1)
    assert mounted.metrics()["index_loads"] - loads <= 1
    assert mounted.status()["index"]["state"] == "live"
    mounted.unmount()
    assert snapshot(home) == before


def test_no_index_yet(home, mount, peer, soon):
    mounted = mount()
    for place in ("datasets", "schemas", "labels", "by-cid"):
        assert ls(mounted / place) == []
    assert mounted.status()["problems"] == []
    assert os.listdir(home) == []
    python = peer()
    python.write("out-of-nothing")
    soon(
        lambda: ls(mounted / "datasets") == ["out-of-nothing"],
        python.committed_at,
        "first dataset of all",
    )
    look_at_everything(mounted)
    [entry] = python.entries()
    shard = Path(entry["data_urls"][0])
    assert sha256(mounted / "datasets" / "out-of-nothing" / shard.name) == sha256(shard)


@pytest.mark.parametrize("crashed", [False, True], ids=["clean", "crashed"])
def test_read_only_directory(crashed, home, tmp_path, mount, stack):
    if os.geteuid() != 0:
        pytest.skip("only root can make a read-only mount")
    writer = stack.peer(home)
    entry = writer.write("archived")
    if crashed:
        writer.kill()
        (home / ".atdata" / "index.db-shm").unlink()
    else:
        writer.__exit__()
    archive = tmp_path / "archive"
    archive.mkdir()
    run("mount", "--bind", home, archive)
    stack.exits.callback(lambda: run("umount", archive))
    run("mount", "-o", "remount,bind,ro", archive)
    with pytest.raises(OSError):
        (archive / "x").touch()
    before = snapshot(home)
    # The URLs are those of the place where it was written.
    mounted = mount(home=archive, options=f"data_root={home / '.atdata' / 'data'}")
    shard = Path(entry["data_urls"][0])
    assert sha256(mounted / "datasets" / "archived" / shard.name) == sha256(shard)
    mounted.unmount()
    assert snapshot(home) == before


def test_what_a_crashed_writer_committed(home, tmp_path, mount, peer, soon):
    writer = peer()
    writer.write("one")
    writer.write("two")
    writer.kill()
    files = home / ".atdata"
    assert (files / "index.db-wal").stat().st_size > 0
    moved = tmp_path / "moved"
    moved.mkdir()
    for name in ("index.db", "index.db-wal"):
        shutil.copy(files / name, moved / name)
    before = snapshot(moved)
    copy = mount(index=f"sqlite:{moved / 'index.db'}")
    assert ls(copy / "datasets") == ["one", "two"]
    copy.unmount()
    assert snapshot(moved) == before

    before = snapshot(files)
    mounted = mount()
    assert ls(mounted / "datasets") == ["one", "two"]
    look_at_everything(mounted)
    assert snapshot(files) == before
    later = peer()
    later.write("three")
    soon(lambda: "three" in ls(mounted / "datasets"), later.committed_at, "after the crash")
    assert ls(mounted / "datasets") == ["one", "three", "two"]


# ---------------------------------------------------------------- writers in the way


def test_writer_that_holds_its_transaction(home, mount, peer, soon):
    writer = peer()
    writer.write("steady")
    mounted = mount()
    writer.begin_transaction("renamed")
    began = time.monotonic()
    second = mount()  # starting is not held up either
    while time.monotonic() - began < 2:
        for each in (mounted, second):
            asked = time.monotonic()
            assert ls(each / "datasets") == ["steady"]
            run("ls", "-l", each / "datasets", timeout=2)
            assert time.monotonic() - asked < 1
    assert mounted.status()["index"]["state"] == "live"
    writer.roll_back()
    writer.write("another")
    soon(
        lambda: ls(mounted / "datasets") == ["another", "steady"],
        writer.committed_at,
        "commit after a long transaction",
    )


@pytest.mark.parametrize("rows", [1, 5000])
def test_writer_that_never_rests(rows, tmp_path, mount):
    """A commit every few milliseconds: what was committed a second ago shows all the time."""
    with IndexDb(tmp_path / "store" / "index.db") as index:
        index.db.execute("BEGIN")
        for i in range(rows):
            index.entry(f"old-{i}", [f"/old/{i}.tar"], metadata={"text": "t" * 200})
        index.db.execute("COMMIT")
    mounted = mount(index=f"sqlite:{index.path}")
    committed_at = []
    ended = threading.Event()

    def commit_all_the_time():
        with IndexDb(index.path) as busy:
            while not ended.is_set():
                busy.entry(f"set-{len(committed_at):05d}", [f"/x/{len(committed_at)}.tar"])
                committed_at.append(time.monotonic())
                time.sleep(0.004)

    writer = threading.Thread(target=commit_all_the_time)
    writer.start()
    try:
        until = time.monotonic() + 4
        while time.monotonic() < until:
            due = sum(at < time.monotonic() - VISIBLE_S for at in list(committed_at))
            if due:
                assert bounded(os.path.exists, mounted / "datasets" / f"set-{due - 1:05d}"), due
            time.sleep(0.02)
    finally:
        ended.set()
        writer.join()
    assert len(committed_at) > 100
    wait_until(
        lambda: len(ls(mounted / "datasets")) == len(committed_at) + rows, VISIBLE_S, "all of it"
    )
    assert mounted.status()["index"]["load_failures"] == 0


def test_index_that_cannot_be_read_for_a_while(tmp_path, mount):
    """The last good state stays, and status.json says that it may be old."""
    with IndexDb(tmp_path / "store" / "index.db") as index:
        index.entry("kept", [make_shard(index.root / "kept.tar")])
    mounted = mount(index=f"sqlite:{index.path}")
    good = index.path.read_bytes()
    index.path.write_bytes(b"not a database, for now" * 1000)
    wait_until(lambda: mounted.status()["index"]["state"] == "stale", 5, "the mount is stale")
    assert "not an SQLite database" in mounted.status()["index"]["error"]
    assert ls(mounted / "datasets") == ["kept"]
    assert sha256(mounted / "datasets" / "kept" / "kept.tar") == sha256(index.root / "kept.tar")
    other = tmp_path / "restored.db"
    other.write_bytes(good)
    with IndexDb(other) as again:
        again.entry("restored", [make_shard(index.root / "restored.tar")])
    os.rename(other, index.path)
    wait_until(
        lambda: ls(mounted / "datasets") == ["kept", "restored"], 5, "the restored one shows"
    )
    assert mounted.status()["index"]["state"] == "live"


def test_index_behind_a_link(home, tmp_path, mount, peer, soon):
    """SQLite keeps its -wal beside the real file, not beside the link."""
    real = tmp_path / "elsewhere"
    real.mkdir()
    (home / ".atdata").mkdir()
    (home / ".atdata" / "index.db").symlink_to(real / "index.db")
    python = peer()
    python.write("linked")
    assert (real / "index.db-wal").stat().st_size > 0
    mounted = mount()
    assert ls(mounted / "datasets") == ["linked"]
    python.write("later")
    soon(lambda: "later" in ls(mounted / "datasets"), python.committed_at, "behind a link")

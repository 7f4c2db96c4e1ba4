"""The disk of the one who publishes: full, gone, read-only, or limited. The tool is told in time and
with an errno that it understands; nothing stays, and the mount goes on."""

import contextlib
import errno
import hashlib
import json
import os

import pytest

from attempts import Attempt, attempt, make_datasets
from bounded import SLACK, bounded, ls, read, run, sha256, wait_until
from publish_bench import create, refusal

MIB = 1 << 20
SETTLED_SECONDS = 20
END_SECONDS = 10 + SLACK
DISK = 16 * MIB
SMALL = {"count": 20, "bytes_each": 2000}
OVER = {"count": 300, "bytes_each": 100_000}  # 30 MB

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small disk")


@contextlib.contextmanager
def small_disk(path, size=DISK):
    path.mkdir(parents=True, exist_ok=True)
    run("mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", path)
    try:
        yield path
    finally:
        run("umount", "-l", path)


def free_bytes(path):
    found = os.statvfs(path)
    return found.f_bavail * found.f_frsize


@pytest.fixture
def small_state(world, tmp_path):
    """A world whose spool files are on a small disk, and what is free there at first."""
    with small_disk(tmp_path / "small-state") as path:
        world.state = path / "state"
        yield world, path


def mount_world(world, **options):
    """`options`: also for the disk world, where they are text."""
    if world.kind == "team":
        return world.mount(options={"timeout": 5} | options)
    return world.mount(options=",".join(f"{name}={value}" for name, value in options.items()))


def is_given_back(path, before):
    wait_until(
        lambda: free_bytes(path) >= before - MIB, SETTLED_SECONDS, "the room is given back"
    )


TOOLS = {
    "cp": ["cp", "{source}", "{target}"],
    "cp-sparse": ["cp", "--sparse=always", "{source}", "{target}"],
    "dd": ["dd", "bs=1M", "if={source}", "of={target}"],
    "cat": ["sh", "-c", 'cat "$0" > "$1"', "{source}", "{target}"],
    "rsync": ["rsync", "-a", "{source}", "{target}"],
    "rsync-inplace": ["rsync", "-a", "--inplace", "{source}", "{target}"],
    "python": [
        "python3",
        "-c",
        "import shutil, sys; shutil.copyfile(*sys.argv[1:])",
        "{source}",
        "{target}",
    ],
    "mv": ["mv", "{source}", "{target}"],
}


def test_a_full_disk_is_told_to_every_tool(small_state):
    world, disk = small_state
    mount = mount_world(world, spool_floor=0)
    make_datasets(mount, "mnist")
    small = world.shard("small.tar", **SMALL)
    attempt(mount, small, "mnist").must_work()
    before = free_bytes(disk)
    for tool, words in TOOLS.items():
        source = world.shard(f"{tool}.tar", **OVER)
        data = source.read_bytes()
        target = mount / "datasets" / "mnist" / source.name
        words = [word.format(source=source, target=target) for word in words]
        done = run(*words, check=False, timeout=END_SECONDS)
        said = done.stdout + done.stderr
        assert done.returncode != 0, tool
        assert "Disk quota exceeded" in said or "Errno 122" in said, (tool, said)
        assert "No space left" not in said, (tool, said)
        assert source.read_bytes() == data, tool
        is_given_back(disk, before)
        assert source.name not in ls(mount / "datasets" / "mnist"), tool
        source.unlink()
    other = world.shard("other.tar", **SMALL, seed=1)
    attempt(mount, other, "mnist").must_work()
    world.assert_published("mnist", small, other)
    world.assert_clean()


def test_the_floor_is_left_free(small_state):
    world, disk = small_state
    mount = mount_world(world, spool_floor="8M")
    make_datasets(mount, "mnist")
    before = free_bytes(disk)
    one = attempt(mount, world.shard("big.tar", **OVER), "mnist")
    one.must_fail(errno="Disk quota exceeded")
    is_given_back(disk, before)
    small = world.shard("small.tar", **SMALL)
    attempt(mount, small, "mnist").must_work()


def test_limits_of_shards_and_of_scratch_files(world):
    mount = mount_world(world, spool_limit="8M", scratch_limit="1M")
    make_datasets(mount, "mnist")
    directory = mount / "datasets" / "mnist"
    for tool in (("cp",), ("rsync", "-a")):
        source = world.shard("big.tar", **OVER)
        done = run(*tool, source, directory, check=False)
        assert done.returncode != 0 and "File too large" in done.stderr, done.stderr
        assert "big.tar" not in ls(directory)
    # What does not look like a tar is a tool's own.
    writer = Writer(directory / ".swap.swp")
    writer.fails(errno.EFBIG, writer.write, b"x" * (2 * MIB))
    with contextlib.suppress(OSError):  # it is poisoned
        bounded(os.close, writer.fd)
    # What does may be as large as a shard, whatever it is called meanwhile.
    path = world.shard("good.tar", count=40, bytes_each=100_000)
    run("rsync", path, directory)
    world.assert_published("mnist", path)
    with contextlib.suppress(FileNotFoundError):
        (directory / ".swap.swp").unlink()
    world.assert_clean()


# ---------------------------------------------------------------- the directory goes


def test_a_state_directory_that_becomes_read_only(small_state):
    world, disk = small_state
    mount = mount_world(world, spool_floor=0)
    make_datasets(mount, "mnist")
    first = world.shard("first.tar", **SMALL)
    attempt(mount, first, "mnist").must_work()
    run("mount", "-o", "remount,ro", disk)
    try:
        one = attempt(mount, world.shard("late.tar", **SMALL, seed=1), "mnist")
        assert not one.ok
        print(one.output)
        one.check()
        assert sha256(mount / "datasets" / "mnist" / "first.tar")
    finally:
        run("mount", "-o", "remount,rw", disk)
    second = world.shard("second.tar", **SMALL, seed=2)
    attempt(mount, second, "mnist").must_work()
    world.assert_published("mnist", first, second)
    world.assert_clean()


def test_a_state_directory_that_vanishes(world):
    mount = mount_world(world)
    make_datasets(mount, "mnist")
    first = world.shard("first.tar", **SMALL)
    attempt(mount, first, "mnist").must_work()
    world.assert_clean()  # not in the middle of its tidying
    aside = world.state.rename(world.state.with_name("aside"))
    one = attempt(mount, world.shard("late.tar", **SMALL, seed=1), "mnist")
    print(one.output, one.ok or one.reason)
    one.check()
    if not one.ok:
        if not world.state.exists():
            aside.rename(world.state)
        attempt(mount, one.source, "mnist").must_work()
    world.assert_published("mnist", first, one.source)
    world.assert_clean()


def test_without_a_usable_state_directory_it_says_why(disk_world):
    """The mount is read only then, to the kernel too; somebody may change that with mount(8)."""
    world = disk_world
    mount_world(world).unmount()
    state = world.home / ".local" / "state"
    state.mkdir(parents=True)
    (state / "atdatafs").write_text("in its place")
    mount = world.stack.mount(home=world.home)
    datasets = mount / "datasets"
    attempts = {
        "create": lambda: create(datasets / "a.tar"),
        "mkdir": lambda: os.mkdir(datasets / "new"),
        "rename": lambda: os.rename(datasets, mount / "other"),
        "symlink": lambda: os.symlink("../datasets/d", mount / "labels" / "d@1.0.0"),
        "unlink": lambda: os.unlink(mount / ".atdatafs" / "status.json"),
        "open": lambda: open(mount / ".atdatafs" / "status.json", "r+b"),
    }
    for what, attempt in attempts.items():
        assert refusal(attempt) == errno.EROFS, what
    run("mount", "-i", "-o", "remount,rw", mount.path)
    for what, attempt in attempts.items():
        assert refusal(attempt) == errno.EROFS, what
    lines = read(mount / ".atdatafs" / "events.jsonl").splitlines()
    said = [json.loads(line)["reason"] for line in lines]
    said.append(mount.status()["publishing"]["reason"])
    assert len(said) >= len(attempts)
    for line in said:
        assert "state directory" in line and "Not a directory" in line, said
        assert "-o ro" not in line, said
    mount.unmount()


# ---------------------------------------------------------------- the store's disk


def test_a_full_disk_of_the_store(disk_world):
    world = disk_world
    world.root.mkdir(parents=True)
    with small_disk(world.root) as disk:
        mount = mount_world(world)
        make_datasets(mount, "mnist")
        first = world.shard("first.tar", **SMALL)
        attempt(mount, first, "mnist").must_work()
        before = free_bytes(disk)
        one = attempt(mount, world.shard("big.tar", **OVER), "mnist")
        one.must_fail(errno="Disk quota exceeded")
        print(one.reason)
        assert one.seconds < END_SECONDS
        is_given_back(disk, before)
        second = world.shard("second.tar", **SMALL, seed=2)
        attempt(mount, second, "mnist").must_work()
        world.assert_published("mnist", first, second)
        world.assert_clean()
        mount.unmount()


# ---------------------------------------------------------------- poisoned files


class Writer:
    """System calls one by one, as GIO makes them."""

    def __init__(self, path, flags=os.O_CREAT | os.O_EXCL | os.O_RDWR):
        self.path = path
        self.fd = bounded(os.open, path, flags, 0o644)

    def write(self, data):
        done = 0
        while done < len(data):
            done += bounded(os.write, self.fd, data[done : done + MIB])

    def fails(self, code, call, *args):
        with pytest.raises(OSError) as failure:
            bounded(call, *args)
        assert failure.value.errno == code, (failure.value, errno.errorcode[code])


@pytest.mark.parametrize("synced", [False, True])
def test_a_failed_write_poisons_a_temporary_file(small_state, synced):
    """GIO goes on to fsync, rename and close after a write that failed: none of them may work."""
    world, disk = small_state
    mount = mount_world(world, spool_floor=0)
    make_datasets(mount, "mnist")
    directory = mount / "datasets" / "mnist"
    before = free_bytes(disk)
    final = directory / "data.tar"
    writer = Writer(directory / ".goutputstream-Ab12Cd")
    data = world.shard("data.tar", **OVER).read_bytes()
    writer.fails(errno.EDQUOT, writer.write, data)
    if synced:
        writer.fails(errno.EIO, os.fsync, writer.fd)
    writer.fails(errno.EIO, os.rename, writer.path, final)
    writer.fails(errno.EIO, os.close, writer.fd)
    assert final.name not in ls(directory)
    with contextlib.suppress(FileNotFoundError):
        bounded(os.unlink, writer.path)
    is_given_back(disk, before)
    assert world.entries() == []
    world.assert_clean()


def test_a_poisoned_file_is_healed_by_truncation(small_state):
    """GIO starts again on the same handle."""
    world, disk = small_state
    mount = mount_world(world, spool_floor=0)
    make_datasets(mount, "mnist")
    path = world.shard("data.tar", **SMALL)
    writer = Writer(mount / "datasets" / "mnist" / "data.tar")
    writer.fails(errno.EDQUOT, writer.write, world.shard("data.tar", **OVER, seed=1).read_bytes())
    bounded(os.ftruncate, writer.fd, 0)
    bounded(os.lseek, writer.fd, 0, os.SEEK_SET)
    writer.write(path.read_bytes())
    bounded(os.close, writer.fd)
    world.assert_published("mnist", path)
    world.assert_clean()


def test_a_failed_write_poisons_a_shard(small_state):
    world, disk = small_state
    mount = mount_world(world, spool_floor=0)
    make_datasets(mount, "mnist")
    directory = mount / "datasets" / "mnist"
    writer = Writer(directory / "data.tar")
    writer.fails(errno.EDQUOT, writer.write, world.shard("data.tar", **OVER).read_bytes())
    # What is written afterwards makes no shard of it either.
    bounded(os.lseek, writer.fd, 0, os.SEEK_SET)
    with pytest.raises(OSError):
        writer.write(world.shard("data.tar", **SMALL, seed=1).read_bytes())
    with pytest.raises(OSError) as failure:
        bounded(os.close, writer.fd)
    assert failure.value.errno in (errno.EIO, errno.EDQUOT)
    wait_until(lambda: "data.tar" not in ls(directory), 10, "it is gone")
    wait_until(lambda: "data.tar.error.txt" in ls(directory), 10, "its reason takes its place")
    assert world.entries() == []
    world.assert_clean()

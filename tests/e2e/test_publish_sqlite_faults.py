"""An index file that cannot be written while something is published: locked, read-only, no room, gone."""

import contextlib
import os
import shutil
import sqlite3
import threading

import pytest

from attempts import attempt, make_datasets
from bounded import SLACK, ls, run, wait_until
from publish_faults import LEFT_SECONDS, first, goes_on, settled

PATIENCE_S = 10  # of the editor, for an index that does not answer
END_SECONDS = PATIENCE_S + 5 + SLACK


def mount_disk(world, **how):
    mount = world.mount(**how)
    make_datasets(mount, "mnist")
    assert attempt(mount, world.shard("first.tar"), "mnist").must_work()
    return mount


@contextlib.contextmanager
def locked(path, seconds):
    """Another program writes for so long, or for the length of the block."""
    db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    db.execute("BEGIN IMMEDIATE")
    done = threading.Event()

    def hold():
        done.wait(seconds)
        db.execute("ROLLBACK")
        db.close()

    thread = threading.Thread(target=hold)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def test_a_short_lock_is_waited_for(disk_world):
    mount = mount_disk(disk_world)
    path = disk_world.shard("late.tar", seed=1)
    with locked(disk_world.path, 3):
        one = attempt(mount, path, "mnist").must_work()
        assert 2 < one.seconds < END_SECONDS
    disk_world.assert_published("mnist", first(disk_world), path)
    settled(disk_world)


def test_a_long_lock_is_told(disk_world):
    mount = mount_disk(disk_world)
    with locked(disk_world.path, 60):
        one = attempt(mount, disk_world.shard("late.tar", seed=1), "mnist")
        one.must_fail("locked")
        assert one.seconds < PATIENCE_S + 5 + SLACK
        assert ls(mount / "datasets" / "mnist")
    disk_world.assert_published("mnist", first(disk_world), goes_on(disk_world, mount))
    settled(disk_world)


@contextlib.contextmanager
def bound_read_only(directory):
    run("mount", "--bind", directory, directory)
    run("mount", "-o", "remount,bind,ro", directory)
    try:
        yield
    finally:
        run("umount", "-l", directory)


as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount")


@as_root
def test_an_index_that_can_be_read_only(disk_world):
    mount_disk(disk_world).unmount()
    with bound_read_only(disk_world.path.parent):
        mount = disk_world.mount()
        one = attempt(mount, disk_world.shard("late.tar", seed=1), "mnist")
        one.must_fail("Read-only file system", errno="Read-only file system")
        assert "first.tar" in ls(mount / "datasets" / "mnist")
        mount.unmount()
    settled(disk_world)


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 4 MiB, and what fills it."""
    path = tmp_path / "small"
    path.mkdir()
    run("mount", "-t", "tmpfs", "-o", "size=4M", "tmpfs", path)
    yield path
    run("umount", "-l", path)


def fill(directory):
    filler = directory / "filler"
    with contextlib.suppress(OSError), open(filler, "wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    return filler


@as_root
def test_no_room_for_the_index(disk_world, small_disk):
    mount_disk(disk_world).unmount()
    # Its shards lie beside it.
    disk_world.path = shutil.copyfile(disk_world.path, small_disk / "index.db")
    mount = disk_world.mount(index=disk_world.index_url)
    filler = fill(small_disk)
    one = attempt(mount, disk_world.shard("late.tar", seed=1), "mnist")
    one.must_fail("make room for the index")
    assert one.seconds < END_SECONDS
    filler.unlink()
    disk_world.assert_published("mnist", first(disk_world), goes_on(disk_world, mount))
    left = lambda: [path.name for path in small_disk.rglob("*.tar") if path.name != "next-9.tar"]  # noqa: E731
    wait_until(lambda: not left() and not disk_world.spools(), LEFT_SECONDS, "nothing is left")


def test_an_index_that_is_deleted(disk_world):
    mount = mount_disk(disk_world)
    for name in ("index.db", "index.db-wal", "index.db-shm", "index.db-journal"):
        with contextlib.suppress(FileNotFoundError):
            disk_world.path.with_name(name).unlink()
    path = disk_world.shard("late.tar", seed=1)
    one = attempt(mount, path, "mnist")
    print(one.output)
    one.check()
    if one.ok:
        disk_world.assert_published("mnist", path)

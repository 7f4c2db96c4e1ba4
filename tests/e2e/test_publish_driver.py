"""The driver's own part of publishing: what happens when requests come in unusual orders, when
somebody is in the way, and when the mount ends meanwhile."""

import errno
import mmap
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from bounded import bounded, ls, read, run, wait_until

END_SECONDS = 25  # a mount with a publish under way has ended by then


def dataset(mount, name="mnist"):
    directory = mount / "datasets" / name
    bounded(directory.mkdir)
    return directory


class Closing:
    """A descriptor that is being closed by a thread of its own: `errno` is what close(2) said."""

    def __init__(self, descriptor):
        self.descriptor = descriptor
        self.errno = None
        self.thread = threading.Thread(target=self._close, daemon=True)
        self.thread.start()

    def _close(self):
        try:
            os.close(self.descriptor)
            self.errno = 0
        except OSError as error:
            self.errno = error.errno

    def is_pending(self, seconds=0.3):
        self.thread.join(seconds)
        return self.thread.is_alive()

    def result(self, seconds=END_SECONDS):
        self.thread.join(seconds)
        assert not self.thread.is_alive(), "close(2) hangs"
        return self.errno


def write_whole(path, data, flags=os.O_CREAT | os.O_WRONLY):
    """Its descriptor, with everything written."""

    def write():
        descriptor = os.open(path, flags, 0o644)
        done = 0
        while done < len(data):
            done += os.write(descriptor, data[done : done + (1 << 20)])
        return descriptor

    return bounded(write)


# ---------------------------------------------------------------- the mount ends


def test_a_mount_that_ends_while_a_shard_is_sent_takes_it_back(team_world):
    path = team_world.shard("a.tar", count=200, bytes_each=100_000)
    mount = team_world.mount()
    directory = dataset(mount)
    team_world.remote.proxy.rule("stall", kinds=("PUT", "CREATE", "PART"), key=r"a\.tar$")
    closing = Closing(write_whole(directory / "a.tar", path.read_bytes()))
    assert closing.is_pending()
    began = time.monotonic()
    mount.process.send_signal(signal.SIGTERM)
    mount.wait_exit()
    assert time.monotonic() - began < END_SECONDS
    assert closing.result() != 0
    team_world.remote.proxy.behave()
    assert team_world.entries() == []
    mount = team_world.mount()
    team_world.assert_clean()
    assert team_world.entries() == []


def test_a_mount_that_ends_while_it_commits_is_settled_at_the_next_start(disk_world):
    path = disk_world.shard("a.tar")
    mount = disk_world.mount()
    directory = dataset(mount)
    run("cp", path, directory)
    other = disk_world.shard("b.tar", seed=1)
    with disk_world.locked():
        closing = Closing(write_whole(directory / "b.tar", other.read_bytes()))
        assert closing.is_pending(1)
        began = time.monotonic()
        mount.process.send_signal(signal.SIGTERM)
        mount.wait_exit()
        assert time.monotonic() - began < END_SECONDS
        assert closing.result() != 0
    disk_world.mount()
    disk_world.assert_clean()
    disk_world.assert_published("mnist", path)


# ---------------------------------------------------------------- descriptors


def test_no_close_is_answered_before_the_commit(disk_world):
    path = disk_world.shard("a.tar")
    mount = disk_world.mount()
    directory = dataset(mount)
    run("cp", path, directory)
    other = disk_world.shard("b.tar", seed=1)
    with disk_world.locked():
        descriptor = write_whole(directory / "b.tar", other.read_bytes())
        closings = [Closing(os.dup(descriptor))]
        assert closings[0].is_pending(1)
        closings.append(Closing(descriptor))
        assert closings[1].is_pending(1), "answered while the index is still asked"
    assert [closing.result() for closing in closings] == [0, 0]
    disk_world.assert_published("mnist", path, other)


def test_a_record_that_a_child_writes_is_applied(world):
    mount = world.mount()
    directory = dataset(mount)
    run("cp", world.shard("a.tar"), directory)
    program = "import sys; sys.stdin.read(); sys.stdout.write('{\"by\": \"child\"}')"
    descriptor = bounded(os.open, directory / "metadata.json", os.O_WRONLY | os.O_TRUNC)
    child = subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=descriptor
    )
    bounded(os.close, descriptor)
    child.communicate(b"", timeout=20)
    wait_until(
        lambda: world.entry("mnist")["metadata"].get("by") == "child", 10, "it is in the index"
    )
    # Nobody waited for the view, as who closes a file of his own does.
    wait_until(
        lambda: mount.json("datasets", "mnist", "metadata.json") == {"by": "child"}, 10, "it shows"
    )


def test_what_is_written_after_a_record_was_applied_is_not_lost_silently(world):
    mount = world.mount()
    directory = dataset(mount)
    run("cp", world.shard("a.tar"), directory)
    descriptor = write_whole(directory / "metadata.json", b'{"a": 1}', os.O_WRONLY | os.O_TRUNC)
    bounded(os.close, os.dup(descriptor))
    wait_until(lambda: world.entry("mnist")["metadata"].get("a") == 1, 10, "it is applied")
    bounded(os.close, os.dup(descriptor))
    assert bounded(os.pwrite, descriptor, b'{"a": 2}', 0) == 8
    with pytest.raises(OSError) as refused:
        bounded(os.close, descriptor)
    assert refused.value.errno == errno.EIO
    assert world.entry("mnist")["metadata"]["a"] == 1


def test_a_record_that_was_only_emptied_is_what_it_was(world):
    mount = world.mount()
    directory = dataset(mount)
    run("cp", world.shard("a.tar"), directory)
    before = read(directory / "schema.json")
    bounded(os.close, bounded(os.open, directory / "schema.json", os.O_WRONLY | os.O_TRUNC))
    wait_until(lambda: read(directory / "schema.json") == before, 10, "the record is back")


def test_reading_does_not_truncate(world):
    path = world.shard("a.tar")
    mount = world.mount()
    directory = dataset(mount)
    run("cp", path, directory)
    wait_until(lambda: os.stat(directory / "a.tar").st_mode & 0o222 == 0, 10, "it is a shard")
    with pytest.raises(OSError) as refused:
        bounded(os.open, directory / "a.tar", os.O_RDONLY | os.O_TRUNC)
    assert refused.value.errno in (errno.EPERM, errno.EACCES)
    assert read(directory / "a.tar") == path.read_bytes()


# ---------------------------------------------------------------- names


def test_a_dataset_without_shards_that_is_renamed_is_published_under_its_new_name(world):
    mount = world.mount()
    directory = dataset(mount, "old")
    new = mount / "datasets" / "new"
    assert ls(directory) == []
    bounded(os.rename, directory, new)
    path = world.shard("a.tar")
    run("cp", path, new)
    world.assert_published("new", path)
    assert world.named("old") == []
    assert not directory.exists()


def test_a_dataset_with_shards_that_is_renamed_goes_on_under_its_new_name(world):
    mount = world.mount()
    directory = dataset(mount, "old")
    new = mount / "datasets" / "new"
    paths = [world.shard("a.tar"), world.shard("b.tar", seed=1)]
    run("cp", paths[0], directory)
    bounded(os.rename, directory, new)
    run("cp", paths[1], new)
    world.assert_published("new", *paths)
    assert world.named("old") == []
    assert not directory.exists()


def test_who_is_in_a_dataset_that_is_renamed_is_in_it_afterwards(world):
    """cp opens its target directory first; a shell may be in it."""
    mount = world.mount()
    names = [mount / "datasets" / name for name in ("old", "new", "newer")]
    paths = [world.shard(f"{name}.tar", seed=seed) for seed, name in enumerate("abc")]
    bounded(os.mkdir, names[0])
    inside = os.open(names[0], os.O_PATH | os.O_DIRECTORY)
    for path, (before, after) in zip(paths[:2], zip(names, names[1:])):
        run("cp", path, f"/proc/{os.getpid()}/fd/{inside}/")
        bounded(os.rename, before, after)
    run("cp", paths[2], f"/proc/{os.getpid()}/fd/{inside}/")
    os.close(inside)
    world.assert_published("newer", *paths)
    assert ls(mount / "datasets") == ["newer"]


@pytest.mark.parametrize("has_shards", [False, True], ids=["empty", "with-shards"])
def test_the_reason_of_a_failure_goes_with_its_dataset(world, has_shards):
    mount = world.mount()
    directory = mount / "datasets" / "before"
    new = mount / "datasets" / "after"
    directory.mkdir()
    if has_shards:
        run("cp", world.shard("a.tar"), directory)
    bad = world.sources / "bad.tar"
    bad.write_bytes(b"no tar at all\n" * 1000)
    assert run("cp", bad, directory, check=False).returncode == 1
    why = read(directory / "bad.tar.error.txt")
    bounded(os.rename, directory, new)
    wait_until(lambda: "bad.tar.error.txt" in ls(new), 5, "it shows")
    assert read(new / "bad.tar.error.txt") == why
    bounded(directory.mkdir)
    assert "bad.tar.error.txt" not in ls(directory)


def test_a_file_that_is_being_published_is_neither_renamed_nor_unlinked(disk_world):
    path = disk_world.shard("a.tar")
    mount = disk_world.mount()
    directory = dataset(mount)
    run("cp", path, directory)
    other = disk_world.shard("b.tar", seed=1)
    with disk_world.locked():
        closing = Closing(write_whole(directory / "b.tar", other.read_bytes()))
        assert closing.is_pending(1)
        for name in ("c.tar", "b.tar.part"):
            with pytest.raises(OSError) as refused:
                bounded(os.rename, directory / "b.tar", directory / name)
            assert refused.value.errno == errno.EBUSY
        with pytest.raises(OSError) as refused:
            bounded(os.unlink, directory / "b.tar")
        assert refused.value.errno == errno.EBUSY
    assert closing.result() == 0
    disk_world.assert_published("mnist", path, other)


def test_rm_ends_a_publish_that_is_not_yet_committed(team_world):
    path = team_world.shard("a.tar", count=200, bytes_each=100_000)
    mount = team_world.mount()
    directory = dataset(mount)
    team_world.remote.proxy.rule("stall", kinds=("PUT", "CREATE", "PART"), key=r"a\.tar$")
    closing = Closing(write_whole(directory / "a.tar", path.read_bytes()))
    assert closing.is_pending()
    bounded(os.unlink, directory / "a.tar")
    team_world.remote.proxy.behave()
    team_world.remote.proxy.release()
    assert closing.result() != 0
    team_world.assert_clean()
    assert team_world.entries() == [] and ls(directory) == []


def test_what_was_deleted_stays_deleted_when_the_mount_ends_at_once(world):
    paths = [world.shard("a.tar"), world.shard("b.tar", seed=1)]
    mount = world.mount(options="allow_delete" if world.kind == "disk" else {"allow_delete": True})
    directory = dataset(mount)
    run("cp", *paths, directory)
    wait_until(lambda: os.stat(directory / "a.tar").st_mode & 0o222 == 0, 10, "it is a shard")
    bounded(os.unlink, directory / "a.tar")
    bounded(mount.unmount)
    urls = world.entry("mnist")["data_urls"]
    assert [url.rsplit("/", 1)[1] for url in urls] == ["b.tar"]


def test_a_dataset_has_one_file_name(world):
    mount = world.mount()
    with pytest.raises(OSError) as refused:
        bounded(os.mkdir, mount / "datasets" / "%41bc")
    assert refused.value.errno == errno.EACCES
    name = "é" * 127
    directory = dataset(mount, name)
    path = world.shard("x" * 251 + ".tar")
    bounded(os.mkdir, directory / ".~tmp~")
    run("cp", path, directory / ".~tmp~")
    bounded(os.rename, directory / ".~tmp~" / path.name, directory / path.name)
    world.assert_published(name, path)


def test_a_deleted_shard_is_back_when_what_was_to_replace_it_is_refused(disk_world):
    path = disk_world.shard("a.tar")
    mount = disk_world.mount(options="allow_delete")
    directory = dataset(mount)
    run("cp", path, directory)
    wait_until(lambda: os.stat(directory / "a.tar").st_mode & 0o222 == 0, 10, "it is a shard")
    broken = disk_world.sources / "a.tar"
    broken.write_bytes(path.read_bytes()[:20000])
    done = run("cp", "--remove-destination", broken, directory, check=False)
    assert done.returncode == 1
    assert read(directory / "a.tar") == path.read_bytes()
    disk_world.assert_published("mnist", path)


def test_a_shard_goes_with_the_file_that_was_to_replace_it(disk_world):
    paths = [disk_world.shard("a.tar"), disk_world.shard("b.tar", seed=1)]
    mount = disk_world.mount(options="allow_delete")
    directory = dataset(mount)
    run("cp", *paths, directory)
    wait_until(lambda: os.stat(directory / "a.tar").st_mode & 0o222 == 0, 10, "it is a shard")
    bounded(os.unlink, directory / "a.tar")
    descriptor = write_whole(directory / "a.tar", b"of no use")
    time.sleep(4)  # longer than the grace
    bounded(os.unlink, directory / "a.tar")
    bounded(os.close, descriptor)
    wait_until(
        lambda: len(disk_world.entry("mnist")["data_urls"]) == 1, 15, "the first one is gone too"
    )
    assert not (directory / "a.tar").exists()


def test_a_killed_copy_does_not_wait_for_the_store(team_world):
    path = team_world.shard("a.tar", count=200, bytes_each=100_000)
    mount = team_world.mount()
    directory = dataset(mount)
    team_world.remote.proxy.rule("stall", kinds=("PUT", "CREATE", "PART"), key=r"a\.tar$")
    copy = subprocess.Popen(["cp", path, directory], stderr=subprocess.DEVNULL)
    wait_until(lambda: (directory / "a.tar").exists(), 10, "it has begun")
    wait_until(
        lambda: (directory / "a.tar").stat().st_size == path.stat().st_size, 10, "all is written"
    )
    with pytest.raises(subprocess.TimeoutExpired):
        copy.wait(1)
    copy.send_signal(signal.SIGINT)
    assert copy.wait(5) == -signal.SIGINT
    team_world.remote.proxy.behave()
    team_world.remote.proxy.release()
    team_world.assert_clean()
    assert team_world.entries() == []


def test_bytes_are_those_that_were_written(disk_world):
    """Appended, in two threads, read back, mapped, with holes."""
    path = disk_world.shard("a.tar", count=60)
    data = path.read_bytes()
    mount = disk_world.mount()
    directory = dataset(mount)
    run("cp", disk_world.shard("first.tar", seed=3), directory)

    def by_appending():
        descriptor = os.open(directory / "a.tar", os.O_CREAT | os.O_RDWR | os.O_APPEND)
        for at in range(0, len(data), 7001):
            os.write(descriptor, data[at : at + 7001])
            assert os.pread(descriptor, 50, at) == data[at : at + 50]
        os.close(descriptor)

    def by_threads():
        descriptor = os.open(directory / "b.tar", os.O_CREAT | os.O_RDWR)

        def write(part):
            for at in range(part * 5003, len(data), 2 * 5003):
                os.pwrite(descriptor, data[at : at + 5003], at)

        threads = [threading.Thread(target=write, args=(part,)) for part in (0, 1)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert os.pread(descriptor, len(data), 0) == data
        os.close(descriptor)

    def by_mapping():
        descriptor = os.open(directory / "c.tar", os.O_CREAT | os.O_RDWR)
        os.ftruncate(descriptor, len(data))
        with mmap.mmap(descriptor, len(data)) as mapped:
            mapped[:] = data
            mapped.flush()
        os.close(descriptor)

    for call in (by_appending, by_threads, by_mapping):
        bounded(call)
    for name in ("a.tar", "b.tar", "c.tar"):
        assert read(directory / name) == data
    urls = disk_world.entry("mnist")["data_urls"]
    assert len(urls) == 4
    for url in urls:
        assert url.endswith("/first.tar") or disk_world.object(url) == data


def test_the_time_of_a_shard_can_be_set_and_shows(world):
    path = world.shard("a.tar")
    mount = world.mount()
    directory = dataset(mount)
    shard = directory / "a.tar"
    run("cp", path, directory)
    for when in (1_000_000_000_123_456_789, 1_100_000_000_000_000_001):
        bounded(os.utime, shard, ns=(when, when))
        assert bounded(os.stat, shard).st_mtime_ns == when
        wait_until(lambda: os.stat(shard).st_mode & 0o222 == 0, 10, "it is a shard")
        assert bounded(os.stat, shard).st_mtime_ns == when

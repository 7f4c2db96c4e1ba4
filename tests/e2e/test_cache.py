"""The cache directory: nothing twice, nothing wrong, whatever happens to it or to the daemon."""

import contextlib
import errno
import hashlib
import os
import subprocess
import time

import pytest

from bounded import SANITIZED, bounded, ls, read, run, wait_until
from mounting import refused
from remote import MIB, same_bytes, shard_paths

BLOCK = 65536
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="takes root")


def flip(path, offset):
    """One bit of a file."""
    with open(path, "r+b") as file:
        file.seek(offset)
        byte = file.read(1)
        file.seek(offset)
        file.write(bytes([byte[0] ^ 0x10]))
        file.flush()
        os.fsync(file.fileno())


def forget_pages(path):
    """The kernel drops what it holds of a file."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)


def allocated(path):
    return path.stat().st_blocks * 512


def fetched(remote, key=None):
    return sum(get.sent for get in remote.gets(key))


def filled(remote, size, name="kept"):
    """A dataset of one shard that is whole in the cache; nothing is mounted any more."""
    [key] = remote.dataset(name, 1, size)
    mount = remote.mount()
    [path] = shard_paths(mount, name)
    assert same_bytes(path, remote.objects[key])
    remote.settled(mount)
    mount.unmount()
    [data] = remote.cache_files(".data")
    [table] = remote.cache_files(".map")
    remote.forget()
    return key, data, table


# ---------------------------------------------------------------- what lies there is used


def test_cache_survives_a_remount(remote):
    size = 9 * MIB + 4321
    key, data, table = filled(remote, size)
    assert data.stat().st_size == size and table.exists()
    # Holes aside it is the object.
    assert same_bytes(data, remote.objects[key])
    mount = remote.mount()
    [path] = shard_paths(mount, "kept")
    assert same_bytes(path, remote.objects[key])
    assert remote.proxy.counts() == {}
    assert mount.metrics()["net_get_requests"] == 0


def test_cached_shards_read_while_the_server_is_away(remote):
    key, _, _ = filled(remote, 3 * MIB)
    with remote.minio.paused():
        mount = remote.mount()
        [path] = shard_paths(mount, "kept")
        assert bounded(os.stat, path).st_size == 3 * MIB
        assert same_bytes(path, remote.objects[key])


def test_part_of_a_shard_is_kept(remote):
    [key] = remote.dataset("partly", 1, 40 * MIB)
    data = remote.objects[key]
    mount = remote.mount()
    [path] = shard_paths(mount, "partly")
    with open(path, "rb", buffering=0) as file:
        assert bounded(os.pread, file.fileno(), 1000, 20 * MIB) == data[20 * MIB : 20 * MIB + 1000]
        remote.settled(mount)  # closing would cancel what is still under way
    mount.unmount()
    before = fetched(remote)
    assert before < 30 * MIB, "the whole was fetched for one read"
    mount = remote.mount()
    [path] = shard_paths(mount, "partly")
    assert same_bytes(path, data)
    remote.settled(mount)
    spans = [(get.first, get.last, get.sent) for get in remote.gets(key)]
    assert fetched(remote) == len(data), (spans, mount.metrics())
    assert remote.repeated(key) == 0 or mount.metrics()["net_hedges"] > 0


# ---------------------------------------------------------------- damage


def test_flipped_bit_is_fetched_again(remote):
    key, data, _ = filled(remote, 9 * MIB + 4321)
    flip(data, 5 * MIB + 77)
    mount = remote.mount()
    [path] = shard_paths(mount, "kept")
    assert same_bytes(path, remote.objects[key])
    remote.settled(mount)
    assert mount.metrics()["cache_bad_blocks"] >= 1
    assert BLOCK <= fetched(remote) <= 2 * MIB, remote.gets()
    # And it is whole again.
    mount.unmount()
    assert same_bytes(data, remote.objects[key])


def test_flipped_bit_under_a_mount(remote):
    """In a shard that is not complete, so that the daemon reads it and not the kernel."""
    [key] = remote.dataset("partly", 1, 40 * MIB)
    wanted = remote.objects[key]
    mount = remote.mount()
    [path] = shard_paths(mount, "partly")
    descriptor = bounded(os.open, path, os.O_RDONLY)
    try:
        for offset in (0, 100_000, 20 * MIB):
            assert bounded(os.pread, descriptor, 9000, offset) == wanted[offset : offset + 9000]
        remote.settled(mount)
        [data] = remote.cache_files()
        assert allocated(data) < 40 * MIB
        for offset in (5, 100_005, 20 * MIB + 5):
            flip(data, offset)
        forget_pages(data)
        forget_pages(path)
        for offset in (0, 100_000, 20 * MIB):
            assert bounded(os.pread, descriptor, 9000, offset) == wanted[offset : offset + 9000]
        assert same_bytes(path, wanted)
    finally:
        os.close(descriptor)


def spoil_zero(data, table):
    with open(data, "r+b") as file:
        file.write(bytes(MIB))


def spoil_cut_data(data, table):
    os.truncate(data, data.stat().st_size // 2)


def spoil_grow_data(data, table):
    os.truncate(data, data.stat().st_size + 1)


def spoil_cut_map(data, table):
    os.truncate(table, table.stat().st_size - 20)


def spoil_empty_map(data, table):
    os.truncate(table, 0)


def spoil_map_bits(data, table):
    for offset in range(0, table.stat().st_size, 97):
        flip(table, offset)


def spoil_remove_data(data, table):
    data.unlink()


def spoil_remove_map(data, table):
    table.unlink()


def spoil_directory(data, table):
    data.unlink()
    data.mkdir()


def spoil_link(data, table):
    data.rename(data.with_name("elsewhere"))
    data.symlink_to("/etc/hostname")


SPOILS = {
    name.removeprefix("spoil_"): spoil
    for name, spoil in globals().copy().items()
    if name.startswith("spoil_")
}


@pytest.mark.parametrize("spoil", SPOILS)
def test_damaged_cache_never_gives_wrong_bytes(spoil, remote):
    key, data, table = filled(remote, 3 * MIB + 4321)
    SPOILS[spoil](data, table)
    mount = remote.mount()
    [path] = shard_paths(mount, "kept")
    assert same_bytes(path, remote.objects[key])
    # Nothing outside was touched.
    assert spoil != "link" or not data.is_symlink() or fetched(remote) >= 3 * MIB


def test_directory_that_others_may_write_to_is_refused(remote):
    remote.dataset("kept", 1, MIB)
    remote.cache.mkdir()
    remote.cache.chmod(0o777)
    said = refused(
        remote.directory / "refused", index=remote.redis_server.url, options=remote.options()
    )
    assert str(remote.cache) in said


# ---------------------------------------------------------------- kill -9


def test_kill_while_fetching(remote):
    """What is in the cache file when the daemon dies is not fetched again, nor served wrong."""
    size = 96 * MIB
    part = remote.minio.put_repeated(remote.bucket, "data/large/large.tar", size)
    remote.index.entry("large", [remote.url("data/large/large.tar")])
    remote.proxy.shape(bytes_per_s=40_000_000)
    mount = remote.mount()
    [path] = shard_paths(mount, "large")
    reader = subprocess.Popen(["cat", path], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_until(
        lambda: remote.cache_files() and allocated(remote.cache_files()[0]) >= 32 * MIB,
        60,
        "some of it has come",
    )
    mount.kill()
    reader.wait(20)
    remote.proxy.shape()
    remote.forget()
    [data] = remote.cache_files()
    durable = allocated(data)
    assert 32 * MIB <= durable < size, durable
    mount = remote.mount(mount.path.parent)
    wanted = hashlib.sha256()
    for _ in range(size // len(part)):
        wanted.update(part)
    assert bounded(file_digest, path, timeout=60) == wanted.hexdigest()
    remote.settled(mount)
    # Of what was written a piece of each request under way may not have been marked.
    again = fetched(remote)
    assert again <= size - durable + 16 * MIB, (again, durable)


def file_digest(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def test_kill_again_and_again(remote):
    """At any moment: whatever was half done, the next mount serves the right bytes."""
    [key] = remote.dataset("kept", 1, 24 * MIB + 99)
    directory = remote.directory / "mount"
    for number in range(2 if SANITIZED else 5):
        mount = remote.mount(directory)
        [path] = shard_paths(mount, "kept")
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        reader = subprocess.Popen(["cat", path], **quiet)
        time.sleep(0.01 * number)  # another moment each time, whichever
        mount.kill()
        reader.wait(20)
    mount = remote.mount(directory)
    assert same_bytes(path, remote.objects[key])


# ---------------------------------------------------------------- shared, small, none


def test_two_mounts_share_a_directory(remote):
    first_key, second_key = remote.dataset("shared", 2, 9 * MIB)
    one, two = remote.mount(), remote.mount()
    first, second = shard_paths(one, "shared")
    first_two, second_two = shard_paths(two, "shared")
    assert same_bytes(first, remote.objects[first_key])
    remote.settled(one)
    # Its blocks have all reached the directory.
    wait_until(lambda: one.metrics()["cache_verified_objects"] >= 1, 30, "it is whole")
    remote.forget()
    # What one has fetched the other reads.
    assert same_bytes(first_two, remote.objects[first_key])
    remote.settled(two)
    assert fetched(remote, first_key) == 0, remote.gets(first_key)
    # Both at once: right, and at worst each fetches it.
    readers = [
        subprocess.Popen(["sha256sum", path], stdout=subprocess.PIPE, text=True)
        for path in (second, second_two)
    ]
    wanted = hashlib.sha256(remote.objects[second_key]).hexdigest()
    assert [reader.communicate(timeout=60)[0].split()[0] for reader in readers] == [wanted] * 2
    assert fetched(remote, second_key) <= 2 * 9 * MIB + MIB
    one.unmount()
    assert same_bytes(second_two, remote.objects[second_key])


def test_without_a_cache(remote):
    [key] = remote.dataset("streamed", 1, 20 * MIB)
    mount = remote.mount(cache="none", cache_dir=None, memory="32M")
    [path] = shard_paths(mount, "streamed")
    assert same_bytes(path, remote.objects[key])
    assert not remote.cache_files() and not remote.cache.exists()
    remote.settled(mount)
    assert mount.metrics()["cache_memory_used_bytes"] <= 32 * MIB
    assert mount.metrics()["cache_blocks_written"] == 0
    forget_pages(path)
    before = fetched(remote)
    assert same_bytes(path, remote.objects[key])
    assert fetched(remote) > before
    home = remote.directory / "home"
    assert sum(p.stat().st_size for p in home.rglob("*") if p.is_file()) < MIB


def test_limit_is_kept(remote):
    keys = remote.dataset("many", 6, 16 * MIB)
    limit = 40 * MIB
    mount = remote.mount(cache_size="40M")
    for path, key in zip(shard_paths(mount, "many"), keys, strict=True):
        assert same_bytes(path, remote.objects[key])

    def used():
        total = 0
        for path in remote.cache_files():
            with contextlib.suppress(FileNotFoundError):  # evicted meanwhile
                total += allocated(path)
        return total

    wait_until(lambda: used() <= limit, 30, "the cache is within its limit")
    assert mount.metrics()["cache_evicted_files"] >= 3
    for path, key in zip(shard_paths(mount, "many"), keys, strict=True):
        assert same_bytes(path, remote.objects[key])


@needs_root
def test_full_disk(remote):
    """A cache directory on a disk that is too small: everything reads all the same."""
    keys = remote.dataset("many", 3, 16 * MIB)
    remote.cache.mkdir()
    run("mount", "-t", "tmpfs", "-o", "size=20M,mode=0700", "tmpfs", remote.cache)
    try:
        mount = remote.mount()
        for path, key in zip(shard_paths(mount, "many"), keys, strict=True):
            assert same_bytes(path, remote.objects[key])
        metrics = mount.metrics()
        assert metrics["cache_write_failures"] + metrics["cache_evicted_files"] > 0
        mount.unmount()
    finally:
        run("umount", "-l", remote.cache)


def test_memory_is_bounded(remote):
    """More is being read than memory allows, by many."""
    keys = remote.dataset("many", 8, 24 * MIB)
    mount = remote.mount(cache="none", cache_dir=None, memory="32M")
    readers = [
        subprocess.Popen(["sha256sum", path], stdout=subprocess.PIPE, text=True)
        for path in shard_paths(mount, "many")
    ]
    most = 0
    while any(reader.poll() is None for reader in readers):
        most = max(most, mount.metrics()["cache_memory_used_bytes"])
        time.sleep(0.02)
    sums = [reader.communicate()[0].split()[0] for reader in readers]
    assert sums == [hashlib.sha256(remote.objects[key]).hexdigest() for key in keys]
    assert 0 < most <= 32 * MIB, most


# ---------------------------------------------------------------- complete and verified


@needs_root
def test_complete_shards_are_the_kernels(remote):
    """And a reader from before goes on, with the same inode number."""
    [key] = remote.dataset("kept", 1, 12 * MIB + 5)
    wanted = remote.objects[key]
    mount = remote.mount()
    if not mount.status()["passthrough"]:
        pytest.skip("this kernel has no passthrough")
    [path] = shard_paths(mount, "kept")
    old = bounded(os.open, path, os.O_RDONLY)
    new = None
    try:
        assert bounded(os.pread, old, 1000, 0) == wanted[:1000]
        number = os.fstat(old).st_ino
        opens = mount.metrics()["passthrough_opens"]
        assert same_bytes(path, wanted)
        wait_until(lambda: mount.metrics()["cache_verified_objects"] >= 1, 30, "it is verified")

        def is_the_kernels():
            nonlocal new
            new = bounded(os.open, path, os.O_RDONLY)
            if mount.metrics()["passthrough_opens"] > opens:
                return True
            os.close(new)
            new = None
            return False

        wait_until(is_the_kernels, 30, "an open is passed through")
        assert os.fstat(new).st_ino == number == os.fstat(old).st_ino
        assert os.fstat(new).st_size == len(wanted)
        forget_pages(path)
        for offset in (0, 6 * MIB, len(wanted) - 10):
            piece = wanted[offset : offset + 5000]
            assert bounded(os.pread, old, 5000, offset) == piece
            assert bounded(os.pread, new, 5000, offset) == piece
        reads = mount.metrics()["read_remote"]
        assert same_bytes(path, wanted)
        assert mount.metrics()["read_remote"] == reads, "the daemon was asked"
    finally:
        os.close(old)
        if new is not None:
            os.close(new)
    # The next mount knows it at once.
    mount.unmount()
    remote.forget()
    mount = remote.mount()
    [path] = shard_paths(mount, "kept")
    assert same_bytes(path, wanted)
    assert remote.proxy.counts() == {}


def test_known_sha256_is_checked(remote):
    """The library's checksums: a shard that has them is verified, another is not served."""
    good, bad = (f"data/sums/{name}.tar" for name in ("good", "bad"))
    for key in (good, bad):
        remote.put(key, size=3 * MIB)
    checksums = {
        remote.url(good): hashlib.sha256(remote.objects[good]).hexdigest(),
        remote.url(bad): hashlib.sha256(b"another").hexdigest(),
    }
    remote.index.entry(
        "sums", [remote.url(good), remote.url(bad)], metadata={"checksums": checksums}
    )
    mount = remote.mount()
    directory = mount / "datasets" / "sums"
    assert same_bytes(directory / "good.tar", remote.objects[good])
    wait_until(lambda: mount.metrics()["cache_verified_objects"] >= 1, 30, "good.tar is verified")
    with contextlib.suppress(OSError):
        read(directory / "bad.tar")

    def is_refused():
        try:
            read(directory / "bad.tar")
        except OSError as error:
            return error.errno == errno.EIO or error.errno == errno.EBADMSG
        return False

    wait_until(is_refused, 30, "bad.tar is refused")
    assert mount.metrics()["cache_mismatched_objects"] >= 1
    assert same_bytes(directory / "good.tar", remote.objects[good])
    assert "bad.tar" in ls(directory)

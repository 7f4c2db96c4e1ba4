"""A store that misbehaves gives right bytes or an honest error, and takes nothing else with it."""

import contextlib
import errno
import os
import random
import threading
import time

import pytest

from bounded import SANITIZED, bounded, ls, read, run, wait_until
from remote import HONEST, MIB, RECOVERS_SECONDS, reads_well, same_bytes, shard_paths

# Of each request that is hit, one of these at random: what a bad network or a busy server does,
# and what looks like an answer and is none, so that the object may seem to be another version.
TROUBLES = ("delay", "close", "reset", "short", "wrong_range", "status", "refuse")
LIES = ("no_range", "etag", "xml200", "garbage")
FAULTS = TROUBLES + LIES


class Readers:
    """Threads that read at random and check every byte."""

    def __init__(self, paths, contents, reads, threads=8):
        self.paths = paths
        self.contents = contents
        self.failures = {}
        self.right = 0
        self.short = 0
        self.wrong = []
        self.lock = threading.Lock()
        self.threads = [
            threading.Thread(target=self.run, args=(seed, reads // threads), daemon=True)
            for seed in range(threads)
        ]

    def finish(self, seconds):
        for thread in self.threads:
            thread.start()
        until = time.monotonic() + seconds
        for thread in self.threads:
            thread.join(max(0, until - time.monotonic()))
            assert not thread.is_alive(), f"a reader hangs, after {self.right} right reads"
        assert not self.wrong, self.wrong[:5]
        assert self.failures.keys() <= HONEST, self.failures

    def note_failure(self, error):
        with self.lock:
            self.failures[error.errno] = self.failures.get(error.errno, 0) + 1

    def run(self, seed, reads):
        numbers = random.Random(seed)
        opened = {}
        try:
            for _ in range(reads):
                self.one(numbers, opened)
        except BaseException as error:
            self.wrong.append(repr(error))
        finally:
            for descriptor in opened.values():
                os.close(descriptor)

    def one(self, numbers, opened):
        place = numbers.randrange(len(self.paths))
        data = self.contents[place]
        offset = numbers.randrange(len(data))
        size = numbers.choice((1, 100, 4096, 30_000, 131_072))
        try:
            if place not in opened:
                opened[place] = os.open(self.paths[place], os.O_RDONLY)
            # The kernel's cache would soon know everything.
            os.posix_fadvise(opened[place], offset, size, os.POSIX_FADV_DONTNEED)
            got = os.pread(opened[place], size, offset)
        except OSError as error:
            self.note_failure(error)
            time.sleep(0.02)  # a failure may be remembered for a moment
            # A stale one stays so; and the kernel may say EIO for it.
            if place in opened:
                os.close(opened.pop(place))
            return
        # Less than asked for is what read(2) gives when an error comes after some bytes.
        wanted = data[offset : offset + size]
        if not got or got != wanted[: len(got)]:
            self.wrong.append((str(self.paths[place]), offset, size, len(got)))
            return
        with self.lock:
            self.right += len(got) == len(wanted)
            self.short += len(got) < len(wanted)


@pytest.mark.parametrize("cache", ["none", "dir"])
@pytest.mark.parametrize("faults", [TROUBLES, FAULTS], ids=["troubles", "lies too"])
def test_random_reads_while_a_tenth_goes_wrong(faults, cache, remote):
    keys = remote.dataset("shaky", 20, 8 * MIB + 333)
    options = {"cache": "none", "cache_dir": None} if cache == "none" else {}
    mount = remote.mount(memory="32M", timeout=5, **options)
    paths = shard_paths(mount, "shaky")
    remote.forget()
    remote.proxy.rule("stall", probability=0.002, at=None)
    remote.proxy.rule(faults, kinds=("GET", "HEAD", "LIST"), probability=0.1, at=None, seconds=0.2)
    reads = 1_000 if SANITIZED else 2_000 if cache == "none" else 10_000
    readers = Readers(paths, [remote.objects[key] for key in keys], reads)
    readers.finish(110)
    hit = [request.fault for request in remote.proxy.requests() if request.fault]
    assert len(hit) >= 20, "too few faults to mean anything"
    assert readers.right >= reads * (0.9 if faults is TROUBLES else 0.2), readers.failures
    remote.proxy.behave()
    for path, key in zip(paths, keys, strict=True):
        wait_until(
            lambda path=path, key=key: reads_well(path, remote.objects[key]),
            RECOVERS_SECONDS,
            f"{path.name} reads again",
        )
    remote.settled(mount)
    assert mount.metrics()["cache_waiters"] == 0


def test_whole_files_while_a_tenth_goes_wrong(remote):
    """Read ahead, parts in parallel, resumed: what arrives is still the file."""
    keys = remote.dataset("shaky", 4, 24 * MIB + 77)
    mount = remote.mount(timeout=5)
    paths = shard_paths(mount, "shaky")
    remote.proxy.rule(FAULTS, probability=0.35, at=None, seconds=0.2)
    for path, key in zip(paths, keys, strict=True):
        wait_until(
            lambda path=path, key=key: reads_well(path, remote.objects[key]),
            RECOVERS_SECONDS,
            f"{path.name} reads",
        )
    assert any(request.fault for request in remote.gets())


# ---------------------------------------------------------------- one fault at a time


@pytest.mark.parametrize("fault", ["close", "reset", "short", "wrong_range", "refuse"])
def test_fault_of_a_moment_is_not_seen(fault, remote):
    [key] = remote.dataset("once", 1, 3 * MIB + 5)
    mount = remote.mount()
    [path] = shard_paths(mount, "once")
    remote.proxy.rule(fault, times=2, at=200_000)
    assert same_bytes(path, remote.objects[key])
    assert mount.metrics()["net_retries"] >= 1
    assert [get.fault for get in remote.gets()].count(fault) >= 1


@pytest.mark.parametrize("fault", ["no_range", "xml200", "garbage"])
def test_reply_that_is_no_s3s_is_an_honest_error_at_worst(fault, remote):
    [key] = remote.dataset("once", 1, 3 * MIB + 5)
    mount = remote.mount()
    [path] = shard_paths(mount, "once")
    remote.proxy.rule(fault, times=2, at=200_000)
    wait_until(
        lambda: reads_well(path, remote.objects[key]), RECOVERS_SECONDS, "it reads again"
    )


@pytest.mark.parametrize("fault", ["short", "wrong_range", "no_range", "xml200", "garbage"])
def test_fault_for_good_is_an_error(fault, remote):
    """And what was read before still reads."""
    # More than any one request asks for: the whole object as a 200 would be an answer to that.
    keys = remote.dataset("never", 2, 9 * MIB + 5)
    mount = remote.mount(timeout=5)
    first, second = shard_paths(mount, "never")
    assert same_bytes(first, remote.objects[keys[0]])
    remote.proxy.rule(fault, at=1000)
    with pytest.raises(OSError) as raised:
        read(second, timeout=60)
    assert raised.value.errno in HONEST
    assert same_bytes(first, remote.objects[keys[0]])
    remote.proxy.behave()
    wait_until(
        lambda: reads_well(second, remote.objects[keys[1]]), RECOVERS_SECONDS, "it reads again"
    )


def test_whole_object_for_a_range(remote):
    """A server without ranges: bytes of the wrong place are never taken for those of the range."""
    [key] = remote.dataset("rangeless", 1, 4 * MIB)
    remote.minio.make_public(remote.bucket)
    mount = remote.mount(timeout=5)
    [path] = shard_paths(mount, "rangeless")
    remote.proxy.rule("whole")
    data = remote.objects[key]
    descriptor = bounded(os.open, path, os.O_RDONLY)
    try:
        for offset in (3 * MIB, 1_000_000, 0):
            with contextlib.suppress(OSError):
                assert bounded(os.pread, descriptor, 1000, offset) == data[offset : offset + 1000]
    finally:
        os.close(descriptor)


def test_truncated_reply_is_resumed_at_the_byte(remote):
    [key] = remote.dataset("resumed", 1, 8 * MIB)
    mount = remote.mount()
    [path] = shard_paths(mount, "resumed")
    run("ls", "-l", path)
    remote.forget()
    remote.proxy.rule("close", times=1, at=600_000)
    assert same_bytes(path, remote.objects[key])
    remote.settled(mount)
    metrics = mount.metrics()
    assert metrics["net_resumes"] >= 1
    if metrics["net_hedges"] == 0:
        assert remote.repeated(key) == 0, remote.gets()


def test_slow_down_is_obeyed(remote):
    [key] = remote.dataset("throttled", 1, 3 * MIB)
    mount = remote.mount(timeout=20)
    [path] = shard_paths(mount, "throttled")
    remote.proxy.rule("status", status=503, times=4)
    assert same_bytes(path, remote.objects[key])
    metrics = mount.metrics()
    assert metrics["net_throttled"] >= 1 and metrics["net_retries"] >= 1


def test_server_that_refuses_for_good_is_not_hammered(remote):
    remote.dataset("refused", 1, MIB)
    mount = remote.mount(timeout=5)
    [path] = shard_paths(mount, "refused")
    remote.forget()
    remote.proxy.rule("status", status=500)
    with pytest.raises(OSError) as raised:
        read(path, timeout=60)
    assert raised.value.errno in HONEST
    assert len(remote.gets()) <= 40


def test_forbidden(remote):
    remote.dataset("forbidden", 1, MIB)
    mount = remote.mount()
    [path] = shard_paths(mount, "forbidden")
    remote.forget()
    remote.proxy.rule("status", status=403)
    with pytest.raises(OSError) as raised:
        read(path)
    assert raised.value.errno in (errno.EACCES, errno.EIO)
    assert len(remote.gets()) <= 6, "a refusal is not asked for again and again"
    assert "AccessDenied" in read(mount / ".atdatafs" / "events.jsonl").decode()


# ---------------------------------------------------------------- another version


def pread(descriptor, size, offset):
    return bounded(os.pread, descriptor, size, offset, timeout=60)


@pytest.mark.parametrize("same_size", [True, False], ids=["same size", "shorter"])
def test_overwritten_object_is_stale_and_then_new(same_size, remote):
    [key] = remote.dataset("moving", 1, 40 * MIB)
    mount = remote.mount()
    [path] = shard_paths(mount, "moving")
    old = remote.objects[key]
    far = 35 * MIB
    descriptor = bounded(os.open, path, os.O_RDONLY)
    try:
        assert pread(descriptor, 1000, 500) == old[500:1500]
        remote.settled(mount)
        new = remote.put(key, random.Random(7).randbytes((40 if same_size else 30) * MIB))
        with pytest.raises(OSError) as raised:
            pread(descriptor, 1000, far)
        assert raised.value.errno == errno.ESTALE
        # Never a mixture: what was fetched before is the old one's.
        with contextlib.suppress(OSError):
            assert pread(descriptor, 1000, 500) == old[500:1500]
        # Whoever reads on with the old handle all the same does not have the store asked again.
        for turn in range(10):
            assert os.path.exists(path)
            with pytest.raises(OSError):
                pread(descriptor, 1000, far + turn * 8192)
        asked = remote.proxy.counts()
        assert asked.get("LIST", 0) + asked.get("HEAD", 0) <= 3, asked
    finally:
        os.close(descriptor)
    assert mount.metrics()["cache_stale_reads"] >= 1
    wait_until(lambda: reads_well(path, new), RECOVERS_SECONDS, "the path gives the new bytes")
    assert bounded(os.stat, path).st_size == len(new)


def test_deleted_object(remote):
    [key] = remote.dataset("leaving", 1, 40 * MIB)
    mount = remote.mount()
    [path] = shard_paths(mount, "leaving")
    descriptor = bounded(os.open, path, os.O_RDONLY)
    try:
        assert pread(descriptor, 1000, 0) == remote.objects[key][:1000]
        remote.settled(mount)
        remote.minio.s3.delete_object(Bucket=remote.bucket, Key=key)
        with pytest.raises(OSError) as raised:
            pread(descriptor, 1000, 35 * MIB)
        assert raised.value.errno in HONEST | {errno.ENOENT}
    finally:
        os.close(descriptor)
    assert "entry.json" in ls(mount / "datasets" / "leaving")

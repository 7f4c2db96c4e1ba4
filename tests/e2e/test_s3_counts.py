"""How many requests things cost, counted by the proxy between the mount and MinIO."""

import concurrent.futures
import math
import os
import subprocess

import pytest

from bounded import bounded, ls, run, wait_until
from remote import MIB, same_bytes, shard_paths

PART = 8 * MIB
TRIES_MAX = 3


def look(mount, name):
    """What ls, ls -l, find, stat and opening do."""
    directory = mount / "datasets" / name
    run("ls", directory)
    run("ls", "-lR", directory)
    run("ls", directory / "samples")
    run("find", mount / "datasets", "-name", "*.tar", "-size", "+1k")
    run("stat", *directory.iterdir())
    run("du", "-s", "--apparent-size", directory)
    for path in shard_paths(mount, name):
        os.close(bounded(os.open, path, os.O_RDONLY))


def without_hedges(remote, measure):
    """measure(mount) with a mount of its own, again when the machine was so slow that the mount
    sent a duplicate or gave an attempt up: then the counts are those of a bad network."""
    for attempt in range(TRIES_MAX):
        cache = remote.directory / f"cache-{attempt}"
        mount = remote.mount(cache_dir=cache)
        failure = None
        try:
            measure(mount)
        except AssertionError as error:
            failure = error
        metrics = mount.metrics()
        mount.unmount()
        if failure is None:
            return
        if metrics["net_hedges"] == 0 and metrics["net_retries"] == 0:
            raise failure
    raise failure


def known(remote, mount, name):
    """The first contact with the shards, which may cost requests."""
    run("ls", "-l", mount / "datasets" / name)
    remote.settled(mount)


# ---------------------------------------------------------------- names and attributes


def test_looking_at_known_shards_costs_nothing(remote):
    remote.dataset("known", 20, 100_000)
    mount = remote.mount()
    known(remote, mount, "known")
    # One prefix: one LIST, and nothing else.
    assert remote.proxy.counts() == {"LIST": 1}
    remote.forget()
    look(mount, "known")
    assert remote.proxy.counts() == {}
    mount.unmount()
    # Another process knows them from the object table.
    mount = remote.mount()
    look(mount, "known")
    sizes = [bounded(os.stat, path).st_size for path in shard_paths(mount, "known")]
    assert sizes == [100_000] * 20
    assert remote.proxy.counts() == {}


def test_first_contact_with_many_shards_is_a_few_lists(remote):
    count = 2500
    keys = [f"data/many/shard-{i:06d}.tar" for i in range(count)]
    sizes = {key: 100 + i % 900 for i, key in enumerate(keys)}
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda key: remote.put(key, size=sizes[key]), keys))
    remote.index.entry("many", [remote.url(key) for key in keys])
    mount = remote.mount()
    listing = run("ls", "-l", mount / "datasets" / "many", timeout=120).stdout
    assert sum(line.endswith(".tar") for line in listing.splitlines()) == count
    counts = remote.proxy.counts()
    assert counts.keys() <= {"LIST"}, counts
    assert counts["LIST"] <= count // 1000 + 1, counts
    for key in keys[:: count // 10]:
        path = mount / "datasets" / "many" / key.rpartition("/")[2]
        assert bounded(os.stat, path).st_size == sizes[key]
    assert mount.metrics()["net_list_requests"] == counts["LIST"]
    assert remote.proxy.counts() == counts


# ---------------------------------------------------------------- reading


def test_whole_shard_takes_its_parts_and_no_byte_twice(remote):
    size = 5 * PART + 12_345
    [key] = remote.dataset("whole", 1, size)

    def measure(mount):
        known(remote, mount, "whole")
        remote.forget()
        [path] = shard_paths(mount, "whole")
        assert same_bytes(path, remote.objects[key])
        remote.settled(mount)
        gets = remote.gets()
        assert remote.proxy.counts() == {"GET": len(gets)}
        assert len(gets) <= math.ceil(size / PART) + 2, gets
        assert sum(get.sent for get in gets) == size
        assert remote.repeated(key) == 0, gets
        # And it stays: another read costs nothing.
        assert same_bytes(path, remote.objects[key])
        assert len(remote.gets()) == len(gets)
        assert mount.metrics()["net_get_requests"] == len(gets)

    without_hedges(remote, measure)


def test_eight_readers_of_one_shard_fetch_it_once(remote):
    size = 4 * PART + 1
    [key] = remote.dataset("shared", 1, size)

    def measure(mount):
        known(remote, mount, "shared")
        remote.forget()
        [path] = shard_paths(mount, "shared")
        readers = [
            subprocess.Popen(["sha256sum", path], stdout=subprocess.PIPE, text=True)
            for _ in range(8)
        ]
        sums = {reader.communicate(timeout=60)[0].split()[0] for reader in readers}
        assert all(reader.returncode == 0 for reader in readers)
        assert len(sums) == 1 and same_bytes(path, remote.objects[key])
        remote.settled(mount)
        assert sum(get.sent for get in remote.gets()) == size
        assert remote.repeated(key) == 0, remote.gets()

    without_hedges(remote, measure)


def test_readers_of_several_shards_fetch_each_once(remote):
    keys = remote.dataset("several", 4, 2 * PART + 100)

    def measure(mount):
        known(remote, mount, "several")
        remote.forget()
        readers = [
            subprocess.Popen(["cat", path], stdout=subprocess.DEVNULL)
            for path in shard_paths(mount, "several")
            for _ in range(2)
        ]
        assert [reader.wait(60) for reader in readers] == [0] * 8
        remote.settled(mount)
        for key in keys:
            assert sum(get.sent for get in remote.gets(key)) == len(remote.objects[key])
            assert remote.repeated(key) == 0, remote.gets(key)

    without_hedges(remote, measure)


@pytest.fixture(scope="module")
def gibibyte(minio):
    """A shard of 1 GiB, and the part that it repeats."""
    bucket = minio.make_bucket("gibibyte")
    return bucket, minio.put_repeated(bucket, "data/large.tar", 1024 * MIB)


def read_at(path, offset, size):
    descriptor = bounded(os.open, path, os.O_RDONLY)
    try:
        return bounded(os.pread, descriptor, size, offset)
    finally:
        os.close(descriptor)


def test_one_range_of_a_large_shard_is_one_request(remote, gibibyte):
    bucket, part = gibibyte
    remote.index.entry("large", [f"s3://{bucket}/data/large.tar"])
    offset, size = 700 * MIB + 54_321, 100 << 10

    def measure(mount):
        known(remote, mount, "large")
        remote.forget()
        [path] = shard_paths(mount, "large")
        within = offset % len(part)
        assert read_at(path, offset, size) == part[within : within + size]
        remote.settled(mount)
        [get] = remote.gets()
        assert get.sent <= MIB, get
        assert remote.proxy.counts() == {"GET": 1}

    without_hedges(remote, measure)


def test_random_samples_cost_a_request_each(remote, gibibyte):
    """Once it is seen that reads are scattered, ranges are exact (to the block)."""
    bucket, part = gibibyte
    remote.index.entry("large", [f"s3://{bucket}/data/large.tar"])
    offsets = [(i * 618 + 31) % 1000 * MIB + i * 1000 for i in range(20)]
    size = 110_000

    def measure(mount):
        known(remote, mount, "large")
        remote.forget()
        [path] = shard_paths(mount, "large")
        descriptor = bounded(os.open, path, os.O_RDONLY)
        try:
            for offset in offsets:
                within = offset % len(part)
                got = bounded(os.pread, descriptor, size, offset)
                assert got == (part + part)[within : within + size]
        finally:
            os.close(descriptor)
        remote.settled(mount)
        gets = remote.gets()
        assert len(gets) <= len(offsets), gets
        # Whole blocks, and what the kernel reads ahead.
        assert sum(get.sent for get in gets) <= 3 * MIB + len(offsets) * (size + 4 * 65536), gets

    without_hedges(remote, measure)


def test_closing_ends_the_fetching(remote, gibibyte):
    """Somebody looks at the beginning of a large shard and goes away."""
    bucket, _ = gibibyte
    remote.index.entry("large", [f"s3://{bucket}/data/large.tar"])
    mount = remote.mount()
    known(remote, mount, "large")
    remote.forget()
    [path] = shard_paths(mount, "large")
    run("sh", "-c", 'head -c 3000000 "$1" | wc -c', "sh", path)
    remote.settled(mount)
    fetched = sum(get.sent for get in remote.gets())
    wait_until(lambda: sum(get.sent for get in remote.gets()) == fetched, 5, "nothing more comes")
    assert fetched <= 64 * MIB, fetched


def test_metrics_agree_with_what_was_sent(remote):
    remote.dataset("counted", 3, 2 * MIB)
    mount = remote.mount()
    for path in shard_paths(mount, "counted"):
        assert same_bytes(path, remote.objects[f"data/counted/{path.name}"])
    remote.settled(mount)
    metrics, counts = mount.metrics(), remote.proxy.counts()
    assert metrics["net_get_requests"] == counts["GET"]
    assert metrics["net_list_requests"] == counts.get("LIST", 0)
    assert metrics["net_head_requests"] == counts.get("HEAD", 0)
    assert metrics["cache_fetched_bytes"] == 6 * MIB == sum(g.sent for g in remote.gets())
    assert metrics["cache_served_bytes"] >= 6 * MIB
    assert metrics["cache_misses"] > 0 and metrics["cache_waiters"] == 0
    assert ls(mount / ".atdatafs") == ["config.json", "events.jsonl", "metrics", "status.json"]

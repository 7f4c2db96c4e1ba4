"""Every release's data, restored into Redis and MinIO, reads through the mount byte for byte; so do
keys that no program should have to deal with, and stores that refuse what we would like to ask."""

import errno
import os

import msgpack
import pytest

from bounded import bounded, ls, read, sha256, wait_until
from golden import TAGS, Golden
from remote import MIB, same_bytes, shard_paths
from servers import content


@pytest.mark.parametrize("tag", TAGS)
def test_every_release_reads_from_its_servers(tag, test_data, remote):
    golden = Golden(test_data / "golden" / tag)
    remote.index.client.flushdb()
    golden.restore_redis(remote.index.client)
    objects = golden.restore_s3(remote.minio)
    mount = remote.mount()
    entries = list(golden.hashes("LocalDatasetEntry:"))
    assert ls(mount / "by-cid") == sorted(entry["cid"].decode() for entry in entries)
    seen = set()
    for entry in entries:
        cid = entry["cid"].decode()
        shown = mount.json("by-cid", cid, "entry.json")
        assert shown["data_urls"] == msgpack.unpackb(entry["data_urls"])
        for shard in shown["shards"]:
            item = objects.get(shard["url"])
            if item is None:
                continue  # a path on the disk of whoever wrote it
            path = mount / "by-cid" / cid / shard["file"]
            assert bounded(os.stat, path).st_size == item["size"]
            assert sha256(path) == item["sha256"]
            seen.add(shard["url"])
    assert seen == objects.keys()
    # What is known once it was read: also in entry.json.
    for entry in entries:
        for shard in mount.json("by-cid", entry["cid"].decode(), "entry.json")["shards"]:
            if shard["url"] in objects:
                assert shard["size"] == objects[shard["url"]]["size"]


# As in data_urls, that is: not encoded. The last segment is the name of the file.
AWKWARD_KEYS = [
    "data/plain/shard.tar",
    "data/with blanks/and one.tar",
    "data/plus+plus/a+b.tar",
    "data/percent%41/100%.tar",
    "data/percent%2Fslash/x%20y.tar",
    "data/naïve/数据 🚀.tar",
    "data/query?x=1&y=2/z?.tar",
    "data/hash#fragment/#1.tar",
    "data/equals=sign/a=b;c,d@e.tar",
    "data/quotes'\"/it's \"q\".tar",
    "data/parens(1)/x~y!z$*.tar",
    "data/colon:colon/a:b.tar",
    "data/" + "long" * 50 + "/" + "name" * 50 + ".tar",
    "top-level.tar",
]


def test_awkward_keys(remote):
    for number, key in enumerate(AWKWARD_KEYS):
        remote.put(key, size=70_000 + number)
        remote.index.entry(f"awkward-{number:02d}", [remote.url(key)])
    mount = remote.mount()
    for number, key in enumerate(AWKWARD_KEYS):
        [path] = shard_paths(mount, f"awkward-{number:02d}")
        assert path.name == key.rpartition("/")[2].replace("%2F", "%252F").replace("%20", "%2520")
        assert bounded(os.stat, path).st_size == 70_000 + number, key
        assert same_bytes(path, remote.objects[key]), key
    assert mount.status()["problems"] == []


@pytest.mark.parametrize(
    "key", ["data//double/a.tar", "data/trailing//a//b.tar", "/leading.tar", "data/./a/../b.tar"]
)
def test_keys_that_only_other_servers_allow(key, remote):
    """MinIO refuses them, S3 does not: the proxy has the object."""
    data = content(key, 300_000)
    remote.proxy.serve(remote.bucket, key, data)
    remote.index.entry("odd", [remote.url(key)])
    mount = remote.mount()
    [path] = shard_paths(mount, "odd")
    assert same_bytes(path, data)
    assert {request.key for request in remote.gets()} == {key}


def test_same_key_in_two_buckets(remote):
    other = remote.minio.make_bucket(f"{remote.bucket}-2")
    remote.put("data/same.tar", size=200_000)
    data = content("another", 200_000)
    remote.minio.put(other, "data/same.tar", data)
    remote.index.entry("both", [remote.url("data/same.tar"), f"s3://{other}/data/same.tar"])
    mount = remote.mount()
    first, second = shard_paths(mount, "both")
    assert (first.name, second.name) == ("same.tar", "same~2.tar")
    assert same_bytes(first, remote.objects["data/same.tar"])
    assert same_bytes(second, data)


def test_sizes_that_are_edges(remote):
    """Empty, one byte, around a block, around a first request, around a part."""
    sizes = [0, 1, 65535, 65536, 65537, MIB - 1, MIB, MIB + 1, 8 * MIB, 8 * MIB + 1, 9 * MIB - 1]
    for size in sizes:
        remote.put(f"data/edges/{size}.tar", size=size)
    remote.index.entry("edges", [remote.url(f"data/edges/{size}.tar") for size in sizes])
    mount = remote.mount()
    for size in sizes:
        path = mount / "datasets" / "edges" / f"{size}.tar"
        assert bounded(os.stat, path).st_size == size
        assert same_bytes(path, remote.objects[f"data/edges/{size}.tar"]), size


# ---------------------------------------------------------------- what a store may refuse


@pytest.mark.parametrize("refused", [("LIST",), ("HEAD",), ("LIST", "HEAD")], ids="+".join)
def test_store_that_refuses(refused, remote):
    remote.dataset("kept", 3, 3 * MIB + 17)
    remote.proxy.rule("status", kinds=refused, status=403)
    mount = remote.mount()
    for path, (key, data) in zip(shard_paths(mount, "kept"), remote.objects.items(), strict=True):
        assert bounded(os.stat, path).st_size == len(data), key
        assert same_bytes(path, data), key
    assert mount.status()["problems"] == []


def test_public_bucket(remote):
    """Without credentials; LIST is refused, as the policy has it."""
    remote.dataset("open", 2, 3 * MIB)
    remote.minio.make_public(remote.bucket)
    mount = remote.mount(env_file=None, unsigned=True)
    for path, data in zip(shard_paths(mount, "open"), remote.objects.values(), strict=True):
        assert bounded(os.stat, path).st_size == len(data)
        assert same_bytes(path, data)


def errno_of_reading(path):
    try:
        read(path)
    except OSError as error:
        return error.errno
    return 0


def test_private_bucket_without_credentials(remote):
    remote.dataset("closed", 1, MIB)
    mount = remote.mount(env_file=None, unsigned=True)
    assert ls(mount / "datasets") == ["closed"]
    assert "entry.json" in ls(mount / "datasets" / "closed")
    path = mount / "datasets" / "closed" / "shard-000000.tar"
    assert errno_of_reading(path) in (errno.EACCES, errno.ENOENT)
    assert "entry.json" in ls(mount / "datasets" / "closed")


def test_object_that_is_missing(remote):
    """Its dataset shows, and says why it is not there; the other shards read."""
    [kept] = remote.dataset("partly", 1, MIB)
    cid = remote.index.entry("partly", [remote.url(kept), remote.url("data/partly/gone.tar")])
    remote.index.label("partly", cid)
    mount = remote.mount()
    assert same_bytes(mount / "datasets" / "partly" / "shard-000000.tar", remote.objects[kept])
    assert errno_of_reading(mount / "datasets" / "partly" / "gone.tar") == errno.ENOENT

    def told():
        shards = mount.json("datasets", "partly", "entry.json")["shards"]
        return [shard for shard in shards if shard["url"].endswith("gone.tar") and "error" in shard]

    wait_until(told, 20, "entry.json says what is missing")

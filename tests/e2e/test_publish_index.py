"""The member index beside a published shard: there when it is worth it, right, one request, no part
of what the library reads; and gone with a shard that is taken back."""

import contextlib
import struct
import subprocess
import tarfile

import pytest

from bounded import SLACK, run, wait_until
from index_db import cid_of
from publish_faults import LEFT_SECONDS
from test_publish_together import library_of
from world import INDEX_SUFFIX

WORTH = {"count": 40, "bytes_each": 100_000}  # 4 MB: one PUT
PARTS = {"count": 220, "bytes_each": 100_000}  # over one part of 16 MiB


def varint(data, at):
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def members_of(index):
    """(name, offset, size) of each, by core/codec/member_index.h."""
    assert index[:8] == b"ATDMEMB1"
    version, kind, shard_bytes = struct.unpack_from("<IIQ", index, 8)
    assert (version, kind) == (1, 1)
    subject = index[24:56]
    count, names_bytes = struct.unpack_from("<II", index, 56)
    assert struct.unpack("<I", index[-4:])[0] == crc32c(index[:-4])
    at, end, name, found = 64, 0, b"", []
    for _ in range(count):
        blocks, at = varint(index, at)
        size, at = varint(index, at)
        shared, at = varint(index, at)
        own, at = varint(index, at)
        name = name[:shared] + index[at : at + own]
        at += own
        offset = end + 512 * blocks
        end = offset + -(-size // 512) * 512
        found.append((name.decode(), offset, size))
    assert at == len(index) - 4 and sum(len(name) for name, *_ in found) == names_bytes
    return subject.hex(), shard_bytes, found


def publish(world, *paths):
    mount = world.mount()
    (mount / "datasets" / "d").mkdir()
    for path in paths:
        run("cp", path, mount / "datasets" / "d")
    return mount


@pytest.mark.parametrize("sizes", [WORTH, PARTS], ids=["put", "parts"])
def test_it_lists_the_members(sizes, world):
    path = world.shard("a.tar", **sizes)
    publish(world, path)
    entry = world.assert_published("d", path, samples=sizes["count"])
    url = entry["data_urls"][0]
    index = world.object(url + INDEX_SUFFIX)
    assert entry["metadata"]["atdatafs"]["shards"][url]["index"] == len(index)
    subject, shard_bytes, found = members_of(index)
    assert subject == entry["metadata"]["checksums"][url]
    assert shard_bytes == path.stat().st_size
    with tarfile.open(path) as tar:
        assert found == [(member.name, member.offset_data, member.size) for member in tar]
    assert world.stored() == {url, url + INDEX_SUFFIX}
    world.assert_clean()


def test_it_is_no_part_of_the_dataset(world):
    """The CID is that of the URLs alone, and the library sees one shard and its samples."""
    path = world.shard("a.tar", **WORTH)
    mount = publish(world, path)
    entry = world.assert_published("d", path)
    assert entry["cid"] == cid_of(entry["schema_ref"], entry["data_urls"])
    assert len(entry["data_urls"]) == 1
    library = library_of(world)
    theirs = library.everything_of("d")
    assert theirs == {key: entry[key] for key in theirs}
    assert len(library.load_decoded("d")) == WORTH["count"]
    assert not [name for name in (mount / "datasets" / "d").iterdir() if "members" in name.name]


def test_a_small_shard_has_none(world):
    path = world.shard("a.tar")
    publish(world, path)
    entry = world.assert_published("d", path)
    assert "index" not in entry["metadata"]["atdatafs"]["shards"][entry["data_urls"][0]]
    assert world.stored() == set(entry["data_urls"])


def test_it_takes_one_put(team_world):
    path = team_world.shard("a.tar", **WORTH)
    publish(team_world, path)
    mine = [request for request in team_world.remote.proxy.requests() if "/d/" in request.key]
    index = [request for request in mine if request.key.endswith(INDEX_SUFFIX)]
    assert [request.kind for request in index] == ["PUT", "HEAD"]  # which confirms it
    assert index[0].number > max(
        request.number for request in mine if request.kind == "PUT" and request not in index
    )


def test_the_same_bytes_again_keep_it(world):
    path = world.shard("a.tar", **WORTH)
    mount = publish(world, path)
    entry = world.assert_published("d", path)
    run("cp", path, mount / "datasets" / "d" / ".a.tar.Ab12Cd", check=False)
    assert world.assert_published("d", path)["metadata"] == entry["metadata"]


def test_what_fails_there_fails_nothing(team_world):
    """A store that refuses the index, and a lost answer: the shard is published without one."""
    proxy = team_world.remote.proxy
    paths = [team_world.shard(f"{name}.tar", **WORTH, seed=i) for i, name in enumerate("ab")]
    mount = team_world.mount()
    (mount / "datasets" / "d").mkdir()
    proxy.rule("status", status=403, kinds=["PUT"], key=INDEX_SUFFIX)
    for path in paths:
        run("cp", path, mount / "datasets" / "d")
    entry = team_world.assert_published("d", *paths)
    for url in entry["data_urls"]:
        assert "index" not in entry["metadata"]["atdatafs"]["shards"][url]
    team_world.assert_clean()
    assert team_world.stored() == set(entry["data_urls"])


def settled_after_kill(world, holding):
    """Killed when the index was beside its shard and no entry named it: both go."""
    path = world.shard("a.tar", **WORTH)
    mount = mount_with_first(world)
    (mount / "datasets" / "d").mkdir()
    before = world.stored()
    with holding, subprocess.Popen(["cp", path, mount / "datasets" / "d"]) as copy:
        wait_until(
            lambda: any(url.endswith(INDEX_SUFFIX) for url in world.stored()), 20, "it is there"
        )
        mount.kill()
        copy.wait(20 * SLACK)
    assert len(world.stored() - before) == 2
    world.mount()
    wait_until(lambda: world.stored() == before, LEFT_SECONDS, "both are gone")
    assert world.entry("d") is None
    world.assert_clean()


def mount_with_first(world):
    mount = world.mount()
    (mount / "datasets" / "first").mkdir()
    run("cp", world.shard("first.tar"), mount / "datasets" / "first")
    return mount


def test_it_goes_with_what_a_killed_mount_left(disk_world):
    settled_after_kill(disk_world, disk_world.locked())


def test_it_goes_with_what_a_killed_mount_left_in_a_store(team_world):
    """Its reply is held back: nothing is committed before it comes."""

    @contextlib.contextmanager
    def holding():
        team_world.remote.proxy.rule("silent", kinds=["PUT"], key=INDEX_SUFFIX)
        yield
        team_world.remote.proxy.behave()

    settled_after_kill(team_world, holding())

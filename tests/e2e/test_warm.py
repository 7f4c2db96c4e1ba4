"""`atdatafs warm`, `pin`, `unpin`: what is in the cache is read without a request, what is pinned
stays."""

import pytest

from bounded import sha256, wait_until
from command import Commands
from remote import MIB, same_bytes, shard_paths

SIZE = 3 * MIB + 12345


@pytest.fixture
def commands(team_world):
    return Commands(team_world)


@pytest.fixture
def remote(team_world):
    return team_world.remote


def read_all(mount, name, remote, keys):
    for path, key in zip(shard_paths(mount, name), keys, strict=True):
        assert same_bytes(path, remote.objects[key])


def test_a_mount_reads_what_was_warmed_without_a_request(remote, commands):
    keys = remote.dataset("mnist", 3, SIZE)
    answer = commands.json("warm", "mnist")
    assert (answer["fetched"], answer["was_there"], answer["failed"]) == (3, 0, [])
    assert answer["bytes"] == 3 * SIZE
    fetched = remote.gets()
    assert not any(remote.repeated(key) for key in keys)
    remote.forget()
    answer = commands.json("warm", "mnist")
    assert (answer["fetched"], answer["was_there"]) == (0, 3)
    mount = remote.mount()
    read_all(mount, "mnist", remote, keys)
    assert fetched and not remote.gets()


def test_a_damaged_block_is_fetched_again(remote, commands):
    remote.dataset("mnist", 1, SIZE)
    commands("warm", "mnist")
    [path] = remote.cache_files()
    data = bytearray(path.read_bytes())
    data[2 * MIB + 5] ^= 1
    path.write_bytes(data)
    remote.forget()
    assert commands.json("warm", "mnist")["fetched"] == 1
    assert 0 < sum(get.sent for get in remote.gets()) < SIZE
    assert commands.json("warm", "mnist")["was_there"] == 1


def test_all_and_text(remote, commands):
    remote.dataset("a", 2, 100_000)
    remote.dataset("b", 1, 0)
    done = commands("warm", "all")
    assert done.stdout == "3 shards (195.3 KiB) in the cache\n", done.stdout
    assert commands("warm", "-q", "all").stdout == ""


def test_local_shards_need_nothing(disk_world):
    commands = Commands(disk_world)
    commands("publish", disk_world.shard("a.tar"), "mnist")
    assert commands.json("warm", "mnist")["local"] == 1


def test_what_cannot_be_had_is_told(remote, commands):
    keys = remote.dataset("mnist", 2, SIZE)
    remote.dataset("sums", 1, SIZE)
    sums = {"checksums": {remote.url("data/wrong/shard-000000.tar"): "0" * 64}}
    remote.dataset("wrong", 1, SIZE, metadata=sums)
    remote.minio.s3.delete_object(Bucket=remote.bucket, Key=keys[1])
    answer = commands.json("warm", "mnist", code=1)
    assert answer["fetched"] == 1
    assert [f["shard"] for f in answer["failed"]] == ["shard-000001.tar"]
    [failed] = commands.json("warm", "wrong", code=1)["failed"]
    assert failed["errno"] == "EBADMSG", failed
    assert "cache_size" in commands("warm", "sums", options="cache_size=2M", code=1).stderr
    assert "no cache" in commands("warm", "sums", options="cache=none", code=1).stderr


def test_pinned_shards_stay(remote, commands):
    """Used longest ago, they would go first."""
    keys = remote.dataset("old", 2, 2 * MIB)
    limit = "cache_size=16M"
    answer = commands.json("pin", "old", options=limit)
    assert answer["pinned"] and answer["fetched"] == 2
    [pin] = commands.json("pin", options=limit)
    assert pin == {"name": "old", "shards": 2, "bytes": 4 * MIB}
    kept = set(remote.cache_files())
    assert len(kept) == 2
    for i in range(3):
        remote.dataset(f"new{i}", 4, 2 * MIB)
        commands("warm", f"new{i}", options=limit)
    assert kept <= set(remote.cache_files())
    assert len(remote.cache_files()) < 14
    mount = remote.mount(cache_size="16M")
    remote.forget()
    read_all(mount, "old", remote, keys)
    assert not remote.gets()


def test_unpinned_shards_go(remote, commands):
    remote.dataset("old", 2, 2 * MIB)
    limit = "cache_size=16M"
    commands("pin", "old", options=limit)
    kept = set(remote.cache_files())
    commands("unpin", "old", options=limit)
    assert commands.json("pin", options=limit) == []
    assert "not pinned" in commands("unpin", "old", options=limit, code=1).stderr
    for i in range(3):
        remote.dataset(f"new{i}", 4, 2 * MIB)
        commands("warm", f"new{i}", options=limit)
    wait_until(lambda: not kept & set(remote.cache_files()), 10, "they were evicted")


def test_pins_leave_room(remote, commands):
    limit = "cache_size=16M"
    for i in range(4):
        remote.dataset(f"d{i}", 2, 2 * MIB)
    for i in range(3):
        commands("pin", f"d{i}", options=limit)
    refused = commands("pin", "d3", options=limit, code=1)
    assert "unpin something" in refused.stderr
    assert len(commands.json("pin", options=limit)) == 3
    # The same again takes no more room.
    commands("pin", "d0", options=limit)
    table = commands("pin", options=limit).stdout.splitlines()
    assert table[0].split() == ["NAME", "SHARDS", "SIZE"] and len(table) == 4
    assert "'all'" in commands("pin", "all", options="cache_size=1G", code=1).stderr


def test_while_a_mount_uses_the_cache(remote, commands):
    keys = remote.dataset("mnist", 2, SIZE)
    mount = remote.mount()
    before = sha256(shard_paths(mount, "mnist")[0])
    commands("pin", "mnist")
    assert sha256(shard_paths(mount, "mnist")[0]) == before
    remote.settled(mount)
    read_all(mount, "mnist", remote, keys)
    for key in keys:
        assert remote.repeated(key) == 0

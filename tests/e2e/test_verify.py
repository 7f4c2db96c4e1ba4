"""`atdatafs verify`: every kind of damage is found, by name, and nothing else is."""

import hashlib
import os
import re

import pytest

from command import Commands
from index_db import IndexDb, cid_of


@pytest.fixture
def commands(world):
    return Commands(world)


def publish(world, commands, dataset="mnist", count=4):
    """A dataset with a record of everything; returns the paths of its sources."""
    paths = [world.shard(f"data-{i:06d}.tar", seed=i) for i in range(count)]
    commands("publish", *paths, dataset)
    return paths


def overwrite(world, url, data):
    """Behind everybody's back."""
    if world.kind == "disk":
        with open(url, "wb") as file:
            file.write(data)
    else:
        world.minio.put(world.bucket, url.removeprefix(f"s3://{world.bucket}/"), data)


def remove(world, url):
    if world.kind == "disk":
        os.unlink(url)
    else:
        key = url.removeprefix(f"s3://{world.bucket}/")
        world.minio.s3.delete_object(Bucket=world.bucket, Key=key)


def url_of(world, dataset, name):
    return next(u for u in world.entry(dataset)["data_urls"] if u.endswith(f"/{name}"))


def add_entry(world, name, urls, *, metadata=None, cid=None):
    if world.kind == "disk":
        with IndexDb(world.path) as index:
            return index.entry(name, urls, metadata=metadata, cid=cid)
    return world.remote.index.entry(name, urls, metadata=metadata, cid=cid)


def problems(answer):
    return {(p.get("dataset"), p.get("shard"), p["kind"]) for p in answer["problems"]}


def test_what_is_well_is_well(world, commands):
    publish(world, commands)
    done = commands("verify", "mnist")
    assert re.fullmatch(r"1 entry, 4 shards \(.* read\): 4 good\n", done.stdout), done.stdout
    assert commands("verify", "-q", "all").stdout == ""
    answer = commands.json("verify", "--quick", "all")
    # Three entries were superseded by the fourth shard's, and are entries too.
    assert (answer["entries"], answer["good"]) == (4, 1 + 2 + 3 + 4)
    assert (answer["problems"], answer["bytes_read"]) == ([], 0)
    # Each object is read once.
    sizes = sum(len(world.object(url)) for url in world.entry("mnist")["data_urls"])
    assert commands.json("verify", "all")["bytes_read"] == sizes


def test_every_damage_is_found_by_name(world, commands):
    paths = publish(world, commands)
    data = bytearray(paths[0].read_bytes())
    data[len(data) // 2] ^= 1
    overwrite(world, url_of(world, "mnist", "data-000000.tar"), bytes(data))
    remove(world, url_of(world, "mnist", "data-000001.tar"))
    overwrite(world, url_of(world, "mnist", "data-000002.tar"), paths[2].read_bytes()[:-2000])
    expected = {
        ("mnist", "data-000000.tar", "sha256"),
        ("mnist", "data-000001.tar", "missing"),
        ("mnist", "data-000002.tar", "size"),
    }
    answer = commands.json("verify", "mnist", code=1)
    assert problems(answer) == expected
    assert answer["good"] == 1
    text = commands("verify", "all", code=1).stdout
    for _, shard, _ in expected:
        assert re.search(rf"^BAD mnist/{shard}: ", text, re.M), text
    assert "data-000003" not in text
    # Without reading, what takes no reading is found.
    quick = commands.json("verify", "--quick", "mnist", code=1)
    assert problems(quick) == {e for e in expected if e[2] != "sha256"}


def test_a_truncated_shard_without_a_checksum_is_found(world, commands):
    paths = publish(world, commands, "base", 3)
    whole = paths[0].read_bytes()
    urls = list(world.entry("base")["data_urls"])
    add_entry(world, "bare", urls)  # as somebody else wrote it: nothing is recorded
    answer = commands.json("verify", "bare")
    assert len(answer["unproven"]) == 3 and answer["problems"] == []
    assert "whole tar" in answer["unproven"][0]["reason"]
    overwrite(world, urls[0], whole[: 512 * 5 + 100])
    overwrite(world, urls[1], b"")
    assert problems(commands.json("verify", "bare", code=1)) == {
        ("bare", "data-000000.tar", "truncated"),
        ("bare", "data-000001.tar", "truncated"),
    }


def test_a_wrong_cid_is_found(world, commands):
    publish(world, commands, count=1)
    entry = world.entry("mnist")
    wrong = cid_of(entry["schema_ref"], ["/elsewhere.tar"])
    if world.kind == "disk":
        with IndexDb(world.path) as index:
            index.db.execute("UPDATE dataset_entries SET cid = ?", (wrong,))
        answer = commands.json("verify", "all", code=1)
        [bad] = [p for p in answer["problems"] if p["kind"] == "entry"]
        assert bad["dataset"] == "mnist" and bad["cid"] == wrong
        assert wrong in bad["reason"] and entry["cid"] in bad["reason"]
    else:
        world.client.hset(f"LocalDatasetEntry:{entry['cid']}", "cid", wrong)
        answer = commands.json("verify", "mnist", code=1)
        assert answer["problems"][0]["key"] == entry["cid"]
        assert "'cid'" in answer["problems"][0]["reason"]


def test_malformed_records_are_problems_of_all(team_world):
    commands = Commands(team_world)
    publish(team_world, commands, count=1)
    team_world.client.hset("LocalDatasetEntry:bafybroken", "name", "x")
    assert problems(commands.json("verify", "mnist")) == set()
    answer = commands.json("verify", "all", code=1)
    assert [p["key"] for p in answer["problems"]] == ["bafybroken"]


def test_names_and_schemes(world, commands):
    publish(world, commands, count=1)
    cid = world.entry("mnist")["cid"]
    assert commands.json("verify", cid)["good"] == 1
    assert "'nothing' is no dataset" in commands("verify", "nothing", code=1).stderr
    assert commands("verify", code=2).stderr
    add_entry(world, "odd", ["pipe:touch /tmp/never", "gs://b/x.tar", "relative/x.tar"])
    answer = commands.json("verify", "odd")
    assert len(answer["skipped"]) == 3


def test_bytes_come_from_the_store_and_memory_is_bounded(team_world):
    commands = Commands(team_world)
    paths = [team_world.shard("large.tar", count=200, bytes_each=400_000)]
    commands("publish", *paths, "large")
    team_world.remote.proxy.forget()
    answer = commands.json("verify", "large")
    assert answer["bytes_read"] == paths[0].stat().st_size
    gets = team_world.remote.proxy.requests("GET")
    assert len(gets) >= answer["bytes_read"] // (2 << 20)
    assert not team_world.remote.repeated(gets[0].key)


def test_metadata_with_other_sums(world, commands):
    """The library's own checksums are compared, whatever else is there."""
    paths = publish(world, commands, "base", 1)
    url = world.entry("base")["data_urls"][0]
    digest = hashlib.sha256(paths[0].read_bytes()).hexdigest()
    add_entry(world, "right", [url], metadata={"checksums": {url: digest}})
    assert commands.json("verify", "right")["good"] == 1
    other = {"checksums": {url: "0" * 64}, "atdatafs": {"shards": {url: {"size": 5}}}}
    cid = add_entry(world, "wrong", [url, url], metadata=other)
    assert {p["kind"] for p in commands.json("verify", cid, code=1)["problems"]} == {"size"}

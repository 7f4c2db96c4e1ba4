"""`atdatafs gc`: what nobody names goes, what anybody names stays, whatever happens meanwhile."""

import os
import subprocess
import threading
import time

import pytest

from bounded import wait_until
from command import Commands
from index_db import IndexDb
from s3_strict import StrictS3

OLD_SECONDS = 3 * 86400


@pytest.fixture
def commands(world):
    return Commands(world)


def put(world, name, data=b"nobody's"):
    """An object that no entry names; returns its URL."""
    if world.kind == "disk":
        path = world.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return str(path)
    world.minio.put(world.bucket, f"data/{name}", data)
    return f"{world.prefix}/{name}"


def add_entry(world, name, urls):
    if world.kind == "disk":
        with IndexDb(world.path) as index:
            return index.entry(name, urls)
    return world.remote.index.entry(name, urls)


def found(answer):
    return {o["url"] for o in answer["objects"] if o["outcome"] in ("found", "deleted")}


def gc(commands, *arguments, **how):
    return commands.json("gc", "--older-than", "0s", *arguments, **how)


def test_only_what_nobody_names_goes(world, commands):
    paths = [world.shard(f"{i}.tar", seed=i) for i in range(3)]
    commands("publish", *paths, "mnist")
    named = world.stored()
    orphans = {put(world, "mnist/old.tar"), put(world, "gone/x.tar"), put(world, "loose.txt")}
    answer = gc(commands)
    assert found(answer) == orphans and not answer["delete"]
    assert world.stored() == named | orphans  # a dry run
    text = commands("gc", "--older-than", "0s").stdout
    assert all(url in text for url in orphans) and "nothing was deleted" in text
    assert found(gc(commands, "--delete")) == orphans
    assert world.stored() == named
    world.assert_published("mnist", *paths)
    assert "deleted 0 objects" in commands("gc", "--older-than", "0s", "--delete").stdout


def test_the_age_counts(world, commands):
    commands("publish", world.shard("a.tar"), "mnist")
    orphan = put(world, "x/young.tar")
    answer = commands.json("gc", "--delete")
    assert (answer["objects"], answer["too_young"]) == ([], 1)
    assert orphan in world.stored()
    assert "takes an age" in commands("gc", "--older-than", "1", code=2).stderr
    assert "takes an age" in commands("gc", "--older-than", "-1d", code=2).stderr


def test_every_way_of_naming_counts(world, commands):
    """Superseded entries, patterns, lists, other spellings, member indexes, ambiguous names."""
    commands("publish", world.shard("a.tar"), "mnist")
    base = str(world.root) if world.kind == "disk" else world.prefix
    kept = [
        put(world, f"kept/{name}")
        for name in ("p-00.tar", "p-01.tar", "b-x.tar", "s1.tar", "s2.tar", "q.tar", "h.tar")
    ]
    kept.append(put(world, "kept/q.tar.atdatafs-members"))
    orphans = {put(world, "kept/p-02.tar"), put(world, "kept/r.tar.atdatafs-members")}
    add_entry(world, "patterns", [f"{base}/kept/p-{{00..01}}.tar", f"{base}/kept/b-{{x,y}}.tar"])
    add_entry(world, "list", [f"{base}/kept/s1.tar {base}/kept/s2.tar"])
    add_entry(world, "twice", [f"{base}/kept/q.tar"])
    add_entry(world, "twice", [f"{base}/kept/q.tar", f"{base}/kept/q.tar"])
    # Through a server or a program that reads the same object in its own way.
    add_entry(world, "http", ["https://cdn.example/some/where/kept/h.tar?token=1"])
    if world.kind == "disk":
        kept.append(put(world, "kept/link.tar"))
        kept.append(put(world, "kept/relative.tar"))
        (world.home / "link").symlink_to(world.root)
        add_entry(world, "linked", [f"{world.home}/link//./kept/link.tar"])
        add_entry(world, "file", ["data/kept/relative.tar"])
    answer = gc(commands, "--delete")
    assert found(answer) == orphans
    assert set(kept) <= world.stored()


def test_it_refuses_when_the_index_hides_names(team_world):
    commands = Commands(team_world)
    commands("publish", team_world.shard("a.tar"), "mnist")
    orphan = put(team_world, "x/y.tar")
    client = team_world.client
    client.hset("LocalDatasetEntry:bafybroken", "name", "x")
    assert "bafybroken" in commands("gc", "--older-than", "0s", "--delete", code=1).stderr
    client.hset(
        "LocalDatasetEntry:bafybroken",
        mapping={"cid": "bafybroken", "schema_ref": "x", "data_urls": b"\xc1"},
    )
    assert "bafybroken" in commands("gc", "--older-than", "0s", "--delete", code=1).stderr
    client.delete("LocalDatasetEntry:bafybroken")
    # What is only odd hides nothing.
    cid = team_world.entry("mnist")["cid"]
    client.hset(f"LocalDatasetEntry:{cid}", "cid", "other")
    assert found(gc(commands)) == {orphan}
    client.flushdb()
    assert "no entries" in commands("gc", "--older-than", "0s", "--delete", code=1).stderr
    assert orphan in team_world.stored() and len(team_world.stored()) == 2


def test_it_refuses_without_an_index_or_a_journal(team_world):
    commands = Commands(team_world)
    commands("publish", team_world.shard("a.tar"), "mnist")
    orphan = put(team_world, "x/y.tar")
    dead = "redis://127.0.0.1:1/0"
    assert commands("gc", "--older-than", "0s", "--delete", code=1, index=dead).stderr
    run_dir = next(team_world.state.iterdir()) / "run-abcdef"
    run_dir.mkdir()
    (run_dir / "job-1").write_bytes(b"damaged")
    assert "job-1" in commands("gc", "--older-than", "0s", "--delete", code=1).stderr
    (run_dir / "job-1").unlink()
    run_dir.rmdir()
    assert orphan in team_world.stored()
    assert found(gc(commands, "--delete")) == {orphan}


@pytest.mark.parametrize("writers", [1, 3])
def test_publishes_meanwhile_lose_nothing(world, commands, writers):
    """With no age to help: the journal and the fresh look at the index alone."""
    rounds = 6
    commands("publish", world.shard("first.tar"), "first")
    published = {}
    failed = []

    def publish(writer):
        try:
            for i in range(rounds):
                path = world.shard(f"{writer}-{i}.tar", seed=100 * writer + i)
                commands("publish", path, f"set-{writer}")
                published.setdefault(f"set-{writer}", []).append(path)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=publish, args=(w,)) for w in range(writers)]
    for thread in threads:
        thread.start()
    runs = orphans = 0
    while any(thread.is_alive() for thread in threads):
        orphans += 1
        put(world, f"orphans/{orphans}.tar")
        gc(commands, "--delete")
        runs += 1
    for thread in threads:
        thread.join()
    assert not failed, failed
    assert runs > 1
    gc(commands, "--delete")
    for dataset, paths in published.items():
        world.assert_published(dataset, *paths)
    assert not [url for url in world.stored() if "/orphans/" in url]
    assert commands.json("verify", "all")["problems"] == []


def test_a_publish_that_waits_for_its_commit_keeps_its_object(disk_world):
    """The object is there, no entry names it yet: its job in the journal does."""
    commands = Commands(disk_world)
    commands("publish", disk_world.shard("first.tar"), "first")
    before = disk_world.stored()
    orphan = put(disk_world, "x/y.tar")
    path = disk_world.shard("late.tar", seed=5)
    with disk_world.locked():
        process = commands.start("publish", path, "late")
        wait_until(
            lambda: any(url.endswith("/late.tar") for url in disk_world.stored()), 20, "it is there"
        )
        answer = gc(commands, "--delete")
        assert found(answer) == {orphan}
        assert any(url.endswith("/late.tar") for url in disk_world.stored() - before)
    assert process.wait(30) == 0, process.stderr.read()
    process.stdout.close()
    process.stderr.close()
    disk_world.assert_published("late", path)


def test_unfinished_uploads(team_world):
    """MinIO lists them by whole keys only: an endpoint that does as S3 does."""
    with StrictS3() as s3:
        commands = Commands(team_world)
        commands("publish", team_world.shard("a.tar"), "mnist")
        s3.make_bucket(team_world.bucket)
        for key in ("data/x/a.tar", "data/x/a.tar", "elsewhere/b.tar"):
            s3.create_upload(team_world.bucket, key, {})
        at = f"endpoint={s3.url}"
        assert commands.json("gc", options=at)["uploads_count"] == 0
        next(iter(s3.uploads.values())).begun -= OLD_SECONDS
        assert commands.json("gc", options=at)["uploads_count"] == 1
        answer = gc(commands, options=at)
        assert answer["uploads_count"] == 2 and len(s3.uploads) == 3
        text = commands("gc", "--older-than", "0s", "--delete", options=at).stdout
        assert text.count("deleted the unfinished upload of") == 2
        assert [upload.key for upload in s3.uploads.values()] == ["elsewhere/b.tar"]


def test_what_cannot_be_deleted_is_told(team_world):
    commands = Commands(team_world)
    commands("publish", team_world.shard("a.tar"), "mnist")
    orphan = put(team_world, "x/y.tar")
    team_world.remote.proxy.rule("status", kinds=("DELETE",), status=403)
    done = commands("gc", "--older-than", "0s", "--delete", code=1)
    assert f"'{orphan}' was not deleted" in done.stderr
    assert orphan in team_world.stored()


def test_a_request_to_delete_is_not_repeated_blindly(team_world):
    """Its reply is lost: by the time of another one there may be another object."""
    commands = Commands(team_world)
    commands("publish", team_world.shard("a.tar"), "mnist")
    orphan = put(team_world, "x/y.tar")
    proxy = team_world.remote.proxy
    for fault in ("lost_reply", "refuse"):
        proxy.forget()
        proxy.rule(fault, kinds=("DELETE",), times=1)
        assert found(gc(commands, "--delete")) == {orphan}
        kinds = [r.kind for r in proxy.requests() if r.key == "data/x/y.tar"]
        # What did arrive is found out by looking.
        expected = ["HEAD", "DELETE", "HEAD"]
        assert kinds == (expected if fault == "lost_reply" else [*expected, "DELETE"]), kinds
        assert orphan not in team_world.stored()
        put(team_world, "x/y.tar")


def test_without_a_store_it_says_what_is_missing(team_world):
    commands = Commands(team_world)
    commands("publish", team_world.shard("a.tar"), "mnist")
    options = f"state_dir={team_world.state},cache=none"
    words = commands.words("gc")
    words[words.index("-o") + 1] = options
    done = subprocess.run(words, env=commands.env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and "store=s3://" in done.stderr


def test_many_are_deleted_in_batches(disk_world):
    commands = Commands(disk_world)
    commands("publish", disk_world.shard("a.tar"), "mnist")
    kept = disk_world.stored()
    for i in range(450):
        path = put(disk_world, f"many/{i}.tar")
        os.utime(path, (time.time() - OLD_SECONDS,) * 2)
    # The time of change counts too: restored with an old time yesterday is not old.
    assert commands.json("gc")["too_young"] == 450
    answer = gc(commands, "--delete")
    assert answer["objects_count"] == 450
    assert disk_world.stored() == kept

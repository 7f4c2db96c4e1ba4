"""The real atdata library publishes into Redis and MinIO; the mount shows and reads the same."""

import errno
import hashlib
import os
import re
import stat
from pathlib import Path

import pytest

import samples
from bounded import bounded, ls, read, sha256, wait_until
from remote import shard_paths

METADATA = {"split": "train", "count": 3, "nested": {"none": None, "half": 0.5}}
COUNTS = {"scalars": ("Scalars", 30), "arrays": ("Arrays", 20), "maybe": ("MaybeArray", 6)}
SEES_SECONDS = 60  # the index is polled


@pytest.fixture
def team(remote, peer):
    """A user of the library with the same storage (past the proxy), from a .env file."""
    env_file = remote.minio.write_env_file(remote.directory / "library.env")
    python = peer()
    python.use_servers(remote.redis_server.port, str(env_file), remote.bucket)
    return remote, python


def publish_all(python):
    more = {"scalars": {"metadata": METADATA}}
    entries = {
        name: python.write(name, kind, count, **more.get(name, {}))
        for name, (kind, count) in COUNTS.items()
    }
    shards = python.write_shards("loose/part.tar", "Scalars", 25, 10)
    source = str(Path(shards[0]).parent / "part-{000000..000002}.tar")
    # Several shards in one, with a checksum in the metadata.
    entries["copied"] = python.insert("copied", source, cache_local=True, metadata={"kept": True})
    python.label("scalars", entries["scalars"]["cid"], version="1.0.0")
    return entries


def test_what_the_library_publishes_shows_and_reads(team):
    remote, python = team
    entries = publish_all(python)
    mount = remote.mount()
    assert ls(mount / "datasets") == sorted(entries)
    labelled = entries["scalars"]["cid"]
    assert os.readlink(mount / "labels" / "scalars@1.0.0") == f"../by-cid/{labelled}"
    for name, entry in entries.items():
        shown = mount.json("datasets", name, "entry.json")
        assert (shown["cid"], shown["data_urls"]) == (entry["cid"], entry["data_urls"])
        assert shown["cid"] == python.cid_of(entry["schema_ref"], entry["data_urls"])
        assert mount.json("datasets", name, "schema.json") == python.schema(entry["schema_ref"])
        paths = shard_paths(mount, name)
        assert [path.name for path in paths] == sorted(Path(u).name for u in entry["data_urls"])
        for url in entry["data_urls"]:
            bucket, _, key = url.removeprefix("s3://").partition("/")
            data = remote.minio.s3.get_object(Bucket=bucket, Key=key)["Body"].read()
            path = mount / "datasets" / name / Path(url).name
            assert bounded(os.stat, path).st_size == len(data)
            assert sha256(path) == hashlib.sha256(data).hexdigest()
    assert mount.json("datasets", "scalars", "metadata.json") == METADATA
    assert mount.json("datasets", "copied", "metadata.json") == {"kept": True}
    checksums = entries["copied"]["metadata"]["checksums"]
    assert checksums.keys() == set(entries["copied"]["data_urls"])
    for url, checksum in checksums.items():
        assert sha256(mount / "datasets" / "copied" / Path(url).name) == checksum
    # Nothing but reads.
    assert remote.proxy.counts().keys() <= {"GET", "HEAD", "LIST"}


def test_the_library_reads_the_same_through_the_mount(team):
    remote, python = team
    entries = publish_all(python)
    mount = remote.mount()
    for name, (kind, count) in (COUNTS | {"copied": ("Scalars", 25)}).items():
        directory = mount / "datasets" / name
        wanted = samples.expected(kind, count)
        through = python.load(str(directory), kind)
        if name != "scalars":  # a versioned label changes what its name means to the library
            from_s3 = python.load_indexed(name, kind)
            samples.check(from_s3, wanted)
            samples.check(through, from_s3)
        samples.check(through, wanted)
        urls = [str(path) for path in shard_paths(mount, name)]
        samples.check(python.load_by_schema_py(str(directory / "schema.py"), urls), wanted)
    pattern = str(mount / "datasets" / "copied" / "*.tar")
    samples.check(python.load(pattern, "Scalars"), samples.expected("Scalars", 25))
    assert entries["copied"]["cid"] in ls(mount / "by-cid")


def test_publishing_under_a_mount_shows(team):
    remote, python = team
    python.write("first", "Scalars", 3)
    mount = remote.mount()
    assert ls(mount / "datasets") == ["first"]
    credentials = {
        "AWS_ACCESS_KEY_ID": remote.minio.USER,
        "AWS_SECRET_ACCESS_KEY": remote.minio.PASSWORD,
        "AWS_ENDPOINT": remote.minio.url,
    }
    python.use_servers(remote.redis_server.port, credentials, remote.bucket)
    entry = python.write("team/second", "MaybeArray", 6)
    wait_until(
        lambda: "team%2Fsecond" in ls(mount / "datasets"), SEES_SECONDS, "the new dataset shows"
    )
    assert mount.json("datasets", "team%2Fsecond", "entry.json")["cid"] == entry["cid"]
    directory = mount / "datasets" / "team%2Fsecond"
    samples.check(python.load(str(directory), "MaybeArray"), samples.expected("MaybeArray", 6))
    # A dataset that is published again: the name means the new entry.
    again = python.write("first", "Scalars", 4)
    python.label("first", again["cid"])

    def is_new():
        return mount.json("datasets", "first", "entry.json")["cid"] == again["cid"]

    wait_until(is_new, SEES_SECONDS, "the name means the new entry")
    through = python.load(str(mount / "datasets" / "first"), "Scalars")
    samples.check(through, samples.expected("Scalars", 4))


# ---------------------------------------------------------------- secrets


def everything_told(mount):
    """What the mount shows or logs to anybody, and what ps shows."""
    for name in ("status.json", "metrics", "events.jsonl", "config.json"):
        yield name, read(mount / ".atdatafs" / name).decode()
    for dataset in ls(mount / "datasets"):
        yield f"{dataset}/entry.json", read(mount / "datasets" / dataset / "entry.json").decode()
    yield "the log", mount.log
    for file in (f"/proc/{mount.pid}/cmdline", "/proc/self/mountinfo"):
        yield file, Path(file).read_text(errors="replace")


@pytest.mark.parametrize("way", ["env file", "environment"])
def test_secrets_stay_secret(way, remote):
    """Also when requests fail: a refused one, a wrong key."""
    secret, key_id = remote.minio.PASSWORD, remote.minio.USER
    remote.dataset("kept", 2, 300_000)
    how = {}
    if way == "environment":
        how = {
            "env_file": None,
            "start": {"env": {"AWS_ACCESS_KEY_ID": key_id, "AWS_SECRET_ACCESS_KEY": secret}},
        }
    mount = remote.mount(**how)
    first, second = shard_paths(mount, "kept")
    read(first)
    remote.proxy.rule("status", status=403, key="shard-000001")
    with pytest.raises(OSError):
        read(second)
    remote.proxy.behave()
    for where, text in everything_told(mount):
        assert secret not in text, where
        assert not re.search(r"Signature=|X-Amz-Signature|Credential=", text), where
    assert "403" in mount.log or "denied" in mount.log.lower(), "the failure was not told"
    # The cache is private too.
    for path in [remote.cache, *remote.cache.rglob("*")]:
        mode = path.stat().st_mode
        assert stat.S_IMODE(mode) & 0o077 == 0, path
        if path.is_file() and path.suffix != ".data":
            assert secret.encode() not in path.read_bytes(), path


def test_wrong_secret(remote):
    remote.dataset("kept", 1, 300_000)
    wrong = "another-s3cret-of/tests"
    env_file = remote.minio.write_env_file(
        remote.directory / "wrong.env", remote.proxy.url, AWS_SECRET_ACCESS_KEY=wrong
    )
    mount = remote.mount(env_file=env_file)
    assert ls(mount / "datasets") == ["kept"]
    with pytest.raises(OSError) as raised:
        read(mount / "datasets" / "kept" / "shard-000000.tar")
    assert raised.value.errno in (errno.EACCES, errno.ENOENT)
    [shard] = mount.json("datasets", "kept", "entry.json")["shards"]
    assert re.search("403|denied|refused|credential|signature|key", shard["error"], re.I), shard
    for where, text in everything_told(mount):
        assert wrong not in text, where

"""The snapshot of an index in Redis: mounts start from it and serve while Redis is down, publishing
is refused at once and says why, and what comes back is coherent again without a restart."""

import errno
import os
import shutil
import subprocess
import time
from contextlib import contextmanager

import pytest

from attempts import Attempt, attempt, make_datasets
from bounded import SLACK, bounded, ls, read, run, wait_until
from mounting import refused
from remote import Remote, same_bytes, shard_paths
from servers import RedisServer
from world import TeamWorld

SHARD_BYTES = 300_000
SAVED_SECONDS = 20 * SLACK
STALE_SECONDS = 15 + SLACK
# The promise is a second from the moment that Redis answers; what the test itself takes to ask is
# on top of it.
COHERENT_SECONDS = 1.0 + 0.3 + SLACK - 1


@pytest.fixture
def team(stack, own_redis, minio, proxy):
    return TeamWorld(stack, own_redis, minio, proxy)


@pytest.fixture
def remote(stack, own_redis, minio, proxy):
    return Remote(stack, own_redis, minio, proxy)


def index_of(mount):
    return mount.status()["index"]


def snapshot_of(mount):
    return index_of(mount)["snapshot"]


def snapshots(remote):
    return sorted(path for path in (remote.cache / "snapshots").glob("*") if path.is_file())


def is_stale(mount):
    return index_of(mount)["stale"]


def wait_saved(mount):
    wait_until(lambda: "saved_at" in snapshot_of(mount), SAVED_SECONDS, "the snapshot is saved")


def wait_stale(mount):
    return wait_until(lambda: is_stale(mount), STALE_SECONDS, "it is stale")


def kept(remote, **options):
    """Mounts and unmounts, so that there is a snapshot of what is in the index."""
    mount = remote.mount(**options)
    wait_saved(mount)
    mount.unmount()
    (path,) = snapshots(remote)
    assert path.stat().st_mode & 0o777 == 0o600
    return path


def said_down(said, server):
    """What a mount says that has neither Redis nor a snapshot."""
    assert str(server.port) in said and "onnect" in said, said
    assert len(said.strip().splitlines()) == 1, said
    return said


@contextmanager
def down(server):
    server.stop()
    try:
        yield
    finally:
        server.start()


# ---------------------------------------------------------------- serving without Redis


def test_reads_listings_and_remounts_while_redis_is_down(remote, own_redis):
    """What was cached costs no request, what was not is fetched: the store is up."""
    keys = remote.dataset("digits", 3, SHARD_BYTES, metadata={"lang": "en"})
    cid = remote.index.client.keys("LocalDatasetEntry:*")[0].decode().partition(":")[2]
    remote.index.label("digits", cid, "1.0.0")
    mount = remote.mount()
    before = {
        name: read(mount / "datasets" / "digits" / name)
        for name in ("schema.json", "schema.py", "schema.jsonschema", "metadata.json", "entry.json")
    }
    listed = [(path.name, bounded(os.stat, path).st_size) for path in shard_paths(mount, "digits")]
    assert same_bytes(mount / "datasets" / "digits" / "shard-000000.tar", remote.objects[keys[0]])
    remote.settled(mount)
    wait_saved(mount)
    own_redis.stop()
    wait_stale(mount)
    assert ls(mount / "datasets") == ["digits"]
    mount.unmount()

    for _ in range(2):
        remote.forget()
        mount = remote.mount()
        index = index_of(mount)
        assert (index["state"], index["stale"]) == ("stale", True)
        assert index["snapshot"]["shown"] and index["snapshot"]["time"] in index["error"]
        assert "shown from a snapshot of" in index["error"] and str(own_redis.port) in index["error"]
        assert mount.metrics()["index_stale"] == mount.metrics()["index_from_snapshot"] == 1
        assert ls(mount / "datasets") == ["digits"]
        assert ls(mount / "labels") == ["digits@1.0.0"] and ls(mount / "by-cid") == [cid]
        assert ls(mount / "schemas") == ["Plain@1.0.0.json", "Plain@1.0.0.jsonschema", "Plain@1.0.0.py"]
        # The object table knows the sizes, the cache the bytes: nobody is asked.
        shown = [(path.name, bounded(os.stat, path).st_size) for path in shard_paths(mount, "digits")]
        assert shown == listed
        for name, text in before.items():
            assert read(mount / "datasets" / "digits" / name) == text, name
        first = mount / "labels" / "digits@1.0.0" / "shard-000000.tar"
        assert same_bytes(first, remote.objects[keys[0]])
        assert not remote.proxy.requests()
        mount.unmount()

    mount = remote.mount()
    for path, key in zip(shard_paths(mount, "digits"), keys):
        assert same_bytes(path, remote.objects[key])
    assert remote.gets(keys[2])
    # Redis was away all the time: it is as it was, and so is what is shown.
    own_redis.start()
    wait_until(lambda: not is_stale(mount), STALE_SECONDS, "it is live")
    assert not snapshot_of(mount)["shown"] and "error" not in index_of(mount)
    assert ls(mount / "datasets") == ["digits"]


def test_an_object_table_that_is_damaged_is_done_without(remote, own_redis):
    """Sizes are asked for again, for what was lost only."""
    keys = remote.dataset("digits", 4, SHARD_BYTES)
    mount = remote.mount()
    assert len(shard_paths(mount, "digits")) == 4
    remote.settled(mount)
    wait_saved(mount)
    mount.unmount()
    table = remote.cache / "objects"
    data = bytearray(table.read_bytes())
    data[len(data) // 2] ^= 0x40
    table.write_bytes(data)
    with down(own_redis):
        mount = remote.mount()
        for path, key in zip(shard_paths(mount, "digits"), keys):
            assert bounded(os.stat, path).st_size == SHARD_BYTES
            assert same_bytes(path, remote.objects[key])
        mount.unmount()
        table.write_bytes(b"")
        remote.forget()
        mount = remote.mount()
        assert [bounded(os.stat, path).st_size for path in shard_paths(mount, "digits")] == (
            [SHARD_BYTES] * 4
        )
        assert remote.proxy.requests()
        mount.unmount()


def test_what_happened_since_the_snapshot_shows(remote, own_redis):
    """The mount starts from what is old, and nobody sees it: the index is up and small."""
    remote.dataset("old", 1, SHARD_BYTES)
    kept(remote)
    remote.index.client.flushdb()
    remote.index.schema()
    remote.dataset("new", 1, SHARD_BYTES)
    mount = remote.mount()
    assert ls(mount / "datasets") == ["new"]
    assert not is_stale(mount)
    wait_saved(mount)
    # At the end what changed is saved, however short ago the last time was.
    remote.dataset("newer", 1, SHARD_BYTES)
    wait_until(lambda: ls(mount / "datasets") == ["new", "newer"], STALE_SECONDS, "it shows")
    mount.unmount()
    with down(own_redis):
        mount = remote.mount()
        assert ls(mount / "datasets") == ["new", "newer"]


def test_a_server_that_says_nothing(remote, own_redis):
    """As behind a dead network: the mount does not wait for it to fail."""
    remote.dataset("digits", 1, SHARD_BYTES)
    kept(remote)
    with own_redis.paused():
        began = time.monotonic()
        mount = remote.mount()
        assert time.monotonic() - began < 4 + SLACK
        assert ls(mount / "datasets") == ["digits"] and is_stale(mount)
    wait_until(lambda: not is_stale(mount), STALE_SECONDS, "it is live")


def test_killed_mounts_leave_a_whole_one(remote, own_redis):
    remote.dataset("digits", 1, SHARD_BYTES)
    mount = remote.mount()
    wait_saved(mount)
    mount.kill()
    with down(own_redis):
        mount = remote.mount(directory=mount.path.parent)
        assert ls(mount / "datasets") == ["digits"]


def test_two_mounts_of_one_index(remote, own_redis):
    remote.dataset("digits", 1, SHARD_BYTES)
    mounts = [remote.mount(), remote.mount()]
    for mount in mounts:
        wait_saved(mount)
    assert len(snapshots(remote)) == 1
    for mount in mounts:
        mount.unmount()
    assert len(snapshots(remote)) == 1
    with down(own_redis):
        mounts = [remote.mount(), remote.mount()]
        assert all(ls(mount / "datasets") == ["digits"] for mount in mounts)


# ---------------------------------------------------------------- coherent again


def measure_coherence(mounts, server, change):
    """Seconds from the moment that Redis answers until every mount shows `change()`."""
    server.start()
    name = change()
    return wait_until(
        lambda: all(name in os.listdir(mount / "datasets") for mount in mounts),
        STALE_SECONDS,
        "what is new shows",
    )


@pytest.mark.parametrize("away_seconds", [1, 10])
def test_coherent_within_a_second(remote, own_redis, away_seconds):
    """Of a mount that was live when Redis went, and of one that began with a snapshot."""
    remote.dataset("digits", 1, SHARD_BYTES)
    mount = remote.mount()
    wait_saved(mount)
    own_redis.stop()
    wait_stale(mount)
    mounts = [mount, remote.mount()]
    time.sleep(away_seconds)  # the pauses between attempts have grown

    def change():
        remote.index.entry("letters", ["s3://nowhere/x.tar"])
        return "letters"

    took = measure_coherence(mounts, own_redis, change)
    print(f"coherent after {took:.2f} s")
    assert took < COHERENT_SECONDS
    for mount in mounts:
        wait_until(lambda m=mount: not is_stale(m), STALE_SECONDS, "it is live")
        assert ls(mount / "datasets") == ["digits", "letters"]
        assert "error" not in index_of(mount) and not snapshot_of(mount)["shown"]


# ---------------------------------------------------------------- publishing


def fails_with(code, call, *args):
    with pytest.raises(OSError) as caught:
        bounded(call, *args)
    assert caught.value.errno == code, caught.value


def assert_event(mount, *words):
    text = read(mount / ".atdatafs" / "events.jsonl").decode()
    assert any(all(word in line for word in words) for line in text.splitlines()), (words, text)


@pytest.mark.parametrize("start", ["live", "from the snapshot"])
def test_changes_are_refused_at_once_and_work_again(team, own_redis, start):
    mount = team.mount(options={"allow_delete": True})
    make_datasets(mount, "digits")
    first = team.shard("first.tar")
    assert attempt(mount, first, "digits").must_work()
    bounded(os.symlink, "../datasets/digits", mount / "labels" / "digits@1.0.0")
    cid = team.entry("digits")["cid"]
    wait_saved(mount)
    if start != "live":
        mount.unmount()
    own_redis.stop()
    if start != "live":
        mount = team.mount(options={"allow_delete": True})
        assert snapshot_of(mount)["shown"]
    wait_stale(mount)
    assert mount.status()["publishing"]["state"] == "off"

    digits = mount / "datasets" / "digits"
    late = attempt(mount, team.shard("late.tar", seed=1), "digits")
    assert not late.ok and "cannot create" in late.output, late.output
    late.check("the index", str(own_redis.port), errno="Read-only file system")
    fails_with(errno.EROFS, os.mkdir, mount / "datasets" / "letters")
    fails_with(errno.EROFS, os.rename, digits, mount / "datasets" / "numbers")
    fails_with(errno.EROFS, os.unlink, digits / "first.tar")
    fails_with(errno.EROFS, os.symlink, "../datasets/digits", mount / "labels" / "digits@2.0.0")
    fails_with(errno.EROFS, os.unlink, mount / "labels" / "digits@1.0.0")
    fails_with(errno.EROFS, os.open, digits / "metadata.json", os.O_WRONLY | os.O_TRUNC)
    for what in ("mkdir", "rename", "unlink", "symlink"):
        assert_event(mount, what, "nothing can be published now: the index")
    assert ls(mount / "labels") == ["digits@1.0.0"]
    assert "first.tar" in ls(digits)

    own_redis.start()
    wait_until(lambda: not is_stale(mount), STALE_SECONDS, "it is live")
    again = team.shard("again.tar", seed=2)
    assert attempt(mount, again, "digits").must_work()
    bounded(os.symlink, "../datasets/digits", mount / "labels" / "digits@2.0.0")
    assert {first.name, again.name} <= set(ls(digits))
    assert team.label("digits", "1.0.0")["cid"] == cid
    assert team.label("digits", "2.0.0")["cid"] == team.entry("digits")["cid"]


def test_who_publishes_while_the_index_is_being_loaded_waits(team, own_redis):
    """Commits read afresh, so that a copy may begin; an edit of what is shown may not."""
    mount = team.mount()
    make_datasets(mount, "digits")
    assert attempt(mount, team.shard("first.tar"), "digits").must_work()
    wait_saved(mount)
    mount.unmount()
    with own_redis.paused():
        mount = team.mount()
        index = index_of(mount)
        assert index["stale"] and "being loaded" in index["error"]
        fails_with(errno.EROFS, os.symlink, "../datasets/digits", mount / "labels" / "digits@1")
        one = Attempt(mount, team.shard("second.tar", seed=1), "digits").start()
        time.sleep(0.3)
        assert not one.done
    one.wait()
    assert one.ok, one.output
    names = [url.rpartition("/")[2] for url in team.entry("digits")["data_urls"]]
    assert sorted(names) == ["first.tar", "second.tar"]


def test_the_command_does_not_act_on_a_snapshot(team, own_redis):
    mount = team.mount()
    make_datasets(mount, "digits")
    assert attempt(mount, team.shard("first.tar"), "digits").must_work()
    wait_saved(mount)
    mount.unmount()
    late = team.shard("late.tar", seed=1)
    command = [os.environ["ATDATAFS"], "publish", "-i", own_redis.url]
    command += ["-o", team.command_options, str(late), "digits"]
    env = {"PATH": os.environ["PATH"], "HOME": str(team.remote.directory / "home")}
    with down(own_redis):
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=env)
        assert done.returncode == 1, done
        assert str(own_redis.port) in done.stderr and "snapshot" not in done.stderr, done
    assert [url.rpartition("/")[2] for url in team.entry("digits")["data_urls"]] == ["first.tar"]


# ---------------------------------------------------------------- snapshots that are none


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def cut(path):
    os.truncate(path, path.stat().st_size - 1)


def swap(path):
    """Another index's, of the same name."""
    shutil.copy(path.with_name("other"), path)


def open_to_all(path):
    path.chmod(0o666)


SPOILS = {
    "a flipped byte": flip,
    "one byte less": cut,
    "no byte": lambda path: os.truncate(path, 0),
    "something else": lambda path: path.write_bytes(os.urandom(4096)),
    "another index's": swap,
    "anybody may write it": open_to_all,
}


@pytest.mark.parametrize("how", SPOILS)
def test_a_bad_snapshot_is_none(how, remote, own_redis, tmp_path_factory):
    remote.dataset("digits", 1, SHARD_BYTES)
    path = kept(remote)
    if how == "another index's":
        with RedisServer(tmp_path_factory.mktemp("other-redis")) as other:
            mount = remote.mount(index=other.url)
            assert ls(mount / "datasets") == []
            wait_saved(mount)
            mount.unmount()
        (theirs,) = set(snapshots(remote)) - {path}
        theirs.rename(path.with_name("other"))
    SPOILS[how](path)
    own_redis.stop()
    said = refused(
        remote.directory / "refused",
        home=remote.directory / "home",
        index=own_redis.url,
        options=remote.options(),
    )
    said_down(said, own_redis)
    own_redis.start()
    # With Redis it mounts as ever, and there is a good one again.
    mount = remote.mount()
    assert ls(mount / "datasets") == ["digits"] and not is_stale(mount)
    wait_saved(mount)
    mount.unmount()
    with down(own_redis):
        mount = remote.mount()
        assert ls(mount / "datasets") == ["digits"]


def test_without_one_it_fails_as_ever(remote, own_redis):
    remote.dataset("digits", 1, SHARD_BYTES)
    own_redis.stop()
    where = {"home": remote.directory / "home", "index": own_redis.url}
    said = refused(remote.directory / "refused", options=remote.options(), **where)
    said_down(said, own_redis)
    assert not remote.cache.joinpath("snapshots").exists()
    own_redis.start()


@pytest.mark.parametrize("how", ["cache=none", "a directory that cannot be written"])
def test_where_there_is_no_cache_there_is_no_snapshot(how, remote, own_redis):
    remote.dataset("digits", 1, SHARD_BYTES)
    home = remote.directory / "home"
    home.mkdir()
    if how == "cache=none":
        mount = remote.mount(cache_dir=None, cache="none")
        assert "snapshot" not in index_of(mount)
    else:
        # A file is in the way: nobody may write there, root neither.
        (home / ".cache").write_text("")
        mount = remote.mount(cache_dir=None)
    assert ls(mount / "datasets") == ["digits"]
    key = next(iter(remote.objects))
    assert same_bytes(mount / "datasets" / "digits" / "shard-000000.tar", remote.objects[key])
    mount.unmount()
    own_redis.stop()
    options = remote.options(cache_dir=None, cache="none" if how == "cache=none" else None)
    said = refused(
        remote.directory / "refused", home=home, index=own_redis.url, options=options
    )
    said_down("\n".join(line for line in said.splitlines() if "no cache directory" not in line),
              own_redis)
    own_redis.start()


def test_a_read_only_mount_keeps_one_too(remote, own_redis):
    """It takes no state directory."""
    remote.dataset("digits", 1, SHARD_BYTES)
    kept(remote, ro=True)
    with down(own_redis):
        mount = remote.mount(ro=True)
        assert ls(mount / "datasets") == ["digits"]
    assert not list((remote.directory / "home").rglob("state"))


def test_full_disks_and_strange_files_do_no_harm(remote, own_redis):
    """What cannot be saved is told in status.json, and nothing else is different."""
    remote.dataset("digits", 1, SHARD_BYTES)
    remote.cache.mkdir(parents=True, mode=0o700)
    (remote.cache / "snapshots").write_text("in the way")
    mount = remote.mount()
    wait_until(lambda: "error" in snapshot_of(mount), SAVED_SECONDS, "it is told")
    assert "saved_at" not in snapshot_of(mount)
    assert ls(mount / "datasets") == ["digits"] and not is_stale(mount)
    mount.unmount()
    assert (remote.cache / "snapshots").read_text() == "in the way"
    run("rm", remote.cache / "snapshots")
    kept(remote)

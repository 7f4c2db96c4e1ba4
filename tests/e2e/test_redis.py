"""The index in Redis: every way to name it, every way it can fail, and its restart."""

import errno
import os
import re
import socket
import threading
import uuid

import msgpack
import pytest

from bounded import bounded, ls, read, run, sha256, wait_until
from index_db import SCHEMA_REF, make_shard
from mounting import refused
from redis_index import RedisIndex
from servers import RedisServer, free_port

SEES_SECONDS = 60  # the index is polled, and a lost server is asked again with growing pauses
PASSWORD = "pa$$w:rd/with@signs%"
PASSWORD_ENCODED = "pa%24%24w%3Ard%2Fwith%40signs%25"
# What a mount needs, and no more (S3-REDIS 6.4).
READER_ACL = (
    "on ~LocalDatasetEntry:* ~LocalSchema:* ~Label:* &* -@all +ping +select +client|id"
    " +client|setname +scan +type +hgetall +get +mget"
)


class Team:
    """An index in Redis of shards on this disk."""

    def __init__(self, stack, server, db=0):
        self.stack = stack
        self.server = server
        self.index = RedisIndex(server, db)
        self.index.schema()
        self.root = stack.directory / f"shards-{uuid.uuid4().hex[:8]}"

    def dataset(self, name, seed=0):
        path = make_shard(self.root / f"{name}.tar", seed=seed)
        return self.index.entry(name, [path])

    def mount(self, url=None, **how):
        return self.stack.mount(
            index=url or self.server.url, options=f"data_root={self.root}", **how
        )

    def reads(self, mount, name):
        file = f"{name}.tar"
        return sha256(mount / "datasets" / name / file) == sha256(self.root / file)


@pytest.fixture
def team(stack, redis_server):
    team = Team(stack, redis_server)
    team.dataset("digits")
    return team


@pytest.fixture
def own_server(tmp_path):
    """A server that a test may stop."""
    with RedisServer(tmp_path / "redis") as server:
        yield server


def index_state(mount):
    return mount.status()["index"]


def comes_back(mount):
    wait_until(lambda: index_state(mount)["state"] == "live", SEES_SECONDS, "the index is live")


# ---------------------------------------------------------------- naming it


@pytest.mark.parametrize("form", ["address", "name", "no database", "unix", "unix without query"])
def test_forms_of_the_url(form, team):
    port, path = team.server.port, team.server.socket
    url = {
        "address": f"redis://127.0.0.1:{port}/0",
        "name": f"redis://localhost:{port}/0",
        "no database": f"redis://127.0.0.1:{port}",
        "unix": f"unix://{path}?db=0",
        "unix without query": f"unix://{path}",
    }[form]
    mount = team.mount(url)
    assert ls(mount / "datasets") == ["digits"]
    assert team.reads(mount, "digits")
    assert mount.json("datasets", "digits", "schema.json")["name"] == "Plain"
    status = index_state(mount)
    assert (status["provider"], status["state"]) == ("redis", "live")


@pytest.mark.parametrize("form", ["redis://127.0.0.1:{port}/5", "unix://{path}?db=5"])
def test_another_database(form, stack, redis_server):
    RedisIndex(redis_server).entry("of-database-0", ["/nowhere.tar"])
    team = Team(stack, redis_server, db=5)
    team.dataset("of-database-5")
    mount = team.mount(form.format(port=redis_server.port, path=redis_server.socket))
    assert ls(mount / "datasets") == ["of-database-5"]


def test_url_from_the_environment(team):
    mount = team.stack.mount(
        options=f"data_root={team.root}", env={"ATDATA_INDEX": team.server.url}
    )
    assert ls(mount / "datasets") == ["digits"]


@pytest.mark.parametrize(
    "url",
    [
        "redis://:0/0",
        "redis://127.0.0.1:70000/0",
        "redis://127.0.0.1/x",
        "redis://[::1/0",
        "unix://",
        "unix://relative.sock",
        "unix:///" + "x" * 200,
        "mysql://127.0.0.1/0",
    ],
)
def test_bad_urls_are_refused(url, tmp_path):
    said = refused(tmp_path / "refused", index=url, code=None)
    assert said.strip() and len(said) < 1000, said


# ---------------------------------------------------------------- passwords


@pytest.fixture
def locked_server(tmp_path):
    with RedisServer(tmp_path / "redis", password=PASSWORD) as server:
        yield server


def told(mount):
    names = ("status.json", "config.json", "metrics", "events.jsonl")
    texts = {name: read(mount / ".atdatafs" / name).decode() for name in names}
    texts["log"] = mount.log
    for file in (f"/proc/{mount.pid}/cmdline", "/proc/self/mountinfo"):
        with open(file, errors="replace") as opened:
            texts[file] = opened.read()
    return texts


def test_password_from_the_environment(stack, locked_server):
    team = Team(stack, locked_server)
    team.dataset("digits")
    url = f"redis://127.0.0.1:{locked_server.port}/0"
    mount = team.mount(url, env={"ATDATA_REDIS_PASSWORD": PASSWORD})
    assert team.reads(mount, "digits")
    locked_server.stop()
    wait_until(lambda: index_state(mount)["state"] == "stale", SEES_SECONDS, "it is stale")
    for where, text in told(mount).items():
        assert PASSWORD not in text, where
    locked_server.start()
    comes_back(mount)


def test_password_in_the_index_variable(stack, locked_server):
    """A URL in the environment may hold it; it shows nowhere, encoded or not."""
    team = Team(stack, locked_server)
    team.dataset("digits")
    url = f"redis://:{PASSWORD_ENCODED}@127.0.0.1:{locked_server.port}/0"
    mount = stack.mount(options=f"data_root={team.root}", env={"ATDATA_INDEX": url})
    assert team.reads(mount, "digits")
    for where, text in told(mount).items():
        assert PASSWORD not in text and PASSWORD_ENCODED not in text, where


def test_user_who_may_only_read(stack, locked_server):
    locked_server.client().execute_command(
        *f"ACL SETUSER reader >{PASSWORD} {READER_ACL}".split(" ")
    )
    team = Team(stack, locked_server)
    team.dataset("digits")
    team.index.label("digits", team.dataset("digits"), version="1.0.0")
    url = f"redis://reader:{PASSWORD_ENCODED}@127.0.0.1:{locked_server.port}/0"
    mount = stack.mount(options=f"data_root={team.root}", env={"ATDATA_INDEX": url})
    assert ls(mount / "datasets") == ["digits"] and ls(mount / "labels") == ["digits@1.0.0"]


@pytest.mark.parametrize("password", [None, "wrong-pa55word"])
def test_no_or_wrong_password(password, tmp_path, locked_server):
    env = {"ATDATA_REDIS_PASSWORD": password} if password else {}
    url = f"redis://127.0.0.1:{locked_server.port}/0"
    said = refused(tmp_path / "refused", index=url, env=env)
    assert "password" in said.lower() and str(locked_server.port) in said
    assert "wrong-pa55word" not in said


# ---------------------------------------------------------------- not there


def assert_one_sentence(said, *parts):
    """What the user is told: a sentence, not a dump, that names the server."""
    lines = [line for line in said.splitlines() if line.strip()]
    assert len(lines) <= 3 and len(said) < 1000, said
    for part in parts:
        assert part in said, (part, said)


def test_nobody_listens(tmp_path):
    port = free_port()
    said = refused(tmp_path / "refused", index=f"redis://127.0.0.1:{port}/0")
    assert_one_sentence(said, f"127.0.0.1:{port}")
    assert re.search("refused|not running|no server|start|is redis", said, re.IGNORECASE), said


def test_no_socket(tmp_path):
    path = tmp_path / "redis.sock"
    said = refused(tmp_path / "refused", index=f"unix://{path}?db=0")
    assert_one_sentence(said, str(path))


def test_host_that_does_not_exist(tmp_path):
    said = refused(tmp_path / "refused", index="redis://no-such-host.invalid:6379/0")
    assert_one_sentence(said, "no-such-host.invalid")


def test_server_that_says_nothing(tmp_path, own_server):
    with own_server.paused():
        said = refused(tmp_path / "refused", index=own_server.url)
    assert_one_sentence(said, str(own_server.port))


@pytest.mark.parametrize(
    "reply",
    [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"",
        b"+PONG\r\n" * 100,
        b"*1000000000\r\n",
        b"$999999999999\r\n",
        b"-LOADING Redis is loading the dataset in memory\r\n" * 100,
        b"-ERR unknown command\r\n" * 100,
        bytes(range(256)),
    ],
    ids=["http", "closes", "pong", "huge array", "huge text", "loading", "error", "bytes"],
)
def test_something_that_is_no_redis(reply, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve():
            while True:
                try:
                    client, _ = listener.accept()
                except OSError:
                    return
                with client:
                    client.recv(4096)
                    client.sendall(reply)
                    client.settimeout(0.2)
                    try:
                        while client.recv(4096):
                            pass
                    except OSError:
                        pass

        threading.Thread(target=serve, daemon=True).start()
        port = listener.getsockname()[1]
        said = refused(tmp_path / "refused", index=f"redis://127.0.0.1:{port}/0")
        assert_one_sentence(said, str(port))
        listener.shutdown(socket.SHUT_RDWR)


# ---------------------------------------------------------------- under a mount


def test_restart_under_a_mount(stack, own_server):
    """Reads and listings go on; status.json says stale; what was added meanwhile shows after."""
    team = Team(stack, own_server)
    team.dataset("digits")
    mount = team.mount()
    assert team.reads(mount, "digits")
    own_server.stop()
    wait_until(lambda: index_state(mount)["state"] == "stale", SEES_SECONDS, "it is stale")
    assert str(own_server.port) in index_state(mount)["error"]
    assert mount.metrics()["index_stale"] == 1
    assert ls(mount / "datasets") == ["digits"]
    assert team.reads(mount, "digits")
    assert not os.path.lexists(mount / "datasets" / "letters")
    own_server.start()
    team.dataset("letters")
    comes_back(mount)
    assert "error" not in index_state(mount)
    wait_until(
        lambda: ls(mount / "datasets") == ["digits", "letters"], SEES_SECONDS, "what is new shows"
    )
    # Which the kernel was told is absent, and is told of a moment after the listing.
    wait_until(
        lambda: bounded(os.path.lexists, mount / "datasets" / "letters"), SEES_SECONDS, "it is there"
    )
    assert team.reads(mount, "letters")


def test_pause_under_a_mount(stack, own_server):
    """A server that keeps its connections and says nothing."""
    team = Team(stack, own_server)
    team.dataset("digits")
    mount = team.mount()
    with own_server.paused():
        wait_until(lambda: index_state(mount)["state"] == "stale", SEES_SECONDS, "it is stale")
        assert ls(mount / "datasets") == ["digits"]
        assert team.reads(mount, "digits")
    team.dataset("letters")
    comes_back(mount)
    wait_until(
        lambda: ls(mount / "datasets") == ["digits", "letters"], SEES_SECONDS, "what is new shows"
    )


def test_killed_connections(team):
    mount = team.mount()
    for _ in range(3):
        team.index.client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        team.index.client.ping()
    team.dataset("letters")
    wait_until(
        lambda: ls(mount / "datasets") == ["digits", "letters"], SEES_SECONDS, "what is new shows"
    )
    comes_back(mount)


def test_changes_show(team):
    mount = team.mount()
    cid = team.dataset("letters")
    wait_until(
        lambda: ls(mount / "datasets") == ["digits", "letters"], SEES_SECONDS, "a dataset shows"
    )
    team.index.label("letters", cid, version="1.0.0", description="the first")
    team.index.schema("Other", "2.0.0")
    wait_until(lambda: ls(mount / "labels") == ["letters@1.0.0"], SEES_SECONDS, "a label shows")
    wait_until(
        lambda: "Other@2.0.0.json" in ls(mount / "schemas"), SEES_SECONDS, "a schema shows"
    )
    team.index.client.delete(f"LocalDatasetEntry:{cid}")
    wait_until(lambda: ls(mount / "datasets") == ["digits"], SEES_SECONDS, "it has gone")


def test_emptied_database(team):
    """FLUSHDB is what somebody wanted, or an accident: the index says so, the mount shows it."""
    mount = team.mount()
    team.index.client.flushdb()
    wait_until(lambda: ls(mount / "datasets") == [], SEES_SECONDS, "nothing is left")
    team.index.schema()
    team.dataset("again")
    wait_until(lambda: ls(mount / "datasets") == ["again"], SEES_SECONDS, "something is there")
    assert team.reads(mount, "again")


def test_mounted_while_empty(stack, redis_server):
    team = Team(stack, redis_server)
    team.index.client.flushdb()
    mount = team.mount()
    assert ls(mount / "datasets") == []
    assert index_state(mount)["state"] == "live"


# ---------------------------------------------------------------- what others wrote


def test_unsound_keys_are_left_out(team):
    client, root = team.index.client, team.root
    packed = msgpack.packb([make_shard(root / "x.tar")])
    good = {"name": "x", "schema_ref": SCHEMA_REF, "data_urls": packed}
    entries = {
        "no-name": {field: value for field, value in good.items() if field != "name"},
        "no-urls": {field: value for field, value in good.items() if field != "data_urls"},
        "bad-msgpack": good | {"data_urls": b"\x91\xda\xff\xff"},
        "not-a-list": good | {"data_urls": msgpack.packb("text")},
        "bad-name": good | {"name": b"\xff\xfe"},
    }
    for cid, fields in entries.items():
        client.hset(f"LocalDatasetEntry:{cid}", mapping=fields | {"cid": cid})
    client.set("LocalDatasetEntry:a-string", "text")
    client.rpush("LocalDatasetEntry:a-list", "text")
    client.hset("LocalSchema:Hash@1.0.0", mapping={"a": "b"})
    client.set("LocalSchema:NoVersion", "{}")
    client.set("LocalSchema:Torn@1.0.0", '{"name": ')
    client.set("Label:a-string@1.0.0", "text")
    client.hset("Label:empty@1.0.0", mapping={"nothing": "here"})
    client.set("something:else", "of another program")
    client.hset("LocalDatasetEntry", mapping={"not": "ours"})
    mount = team.mount()
    # A name that is no UTF-8 can be shown encoded; the others cannot be shown at all.
    assert "digits" in ls(mount / "datasets") and len(ls(mount / "datasets")) <= 2
    assert team.reads(mount, "digits")
    keys = " ".join(problem["key"] for problem in mount.status()["problems"])
    for cid in ("no-name", "no-urls", "bad-msgpack", "not-a-list", "a-string", "a-list", "Torn"):
        assert cid in keys, (cid, keys)
    assert "something" not in keys


def test_keys_of_other_programs_do_not_matter(team):
    """A shared database: what is ours is found among much that is not."""
    with team.index.client.pipeline(transaction=False) as pipe:
        for i in range(20_000):
            pipe.set(f"session:{i}", "x" * 20)
        pipe.execute()
    mount = team.mount()
    assert ls(mount / "datasets") == ["digits"]
    assert mount.status()["problems"] == []


def test_many_datasets(team):
    count = 5_000
    for start in range(0, count, 1000):
        with team.index.client.pipeline(transaction=False) as pipe:
            for i in range(start, start + 1000):
                fields = {
                    "cid": f"bafyrei{i:052d}",
                    "name": f"dataset-{i:06d}",
                    "schema_ref": SCHEMA_REF,
                    "data_urls": msgpack.packb([f"{team.root}/digits.tar"]),
                }
                pipe.hset(f"LocalDatasetEntry:{fields['cid']}", mapping=fields)
            pipe.execute()
    mount = team.mount()
    assert len(ls(mount / "datasets")) == count + 1
    name = "dataset-004321"
    assert sha256(mount / "datasets" / name / "digits.tar") == sha256(team.root / "digits.tar")
    found = run("find", mount / "by-cid", "-mindepth", "1", "-maxdepth", "1", "-type", "d")
    assert found.stdout.count("\n") == count + 1


def test_large_entry(team):
    """Ten thousand shards in one entry, metadata of a megabyte."""
    urls = [f"{team.root}/shards/{i:06d}.tar" for i in range(10_000)]
    make_shard(urls[1234])
    team.index.entry("large", urls, metadata={"text": "x" * 1_000_000, "deep": [[[]]]})
    mount = team.mount()
    assert mount.json("datasets", "large", "entry.json")["data_urls"] == urls
    assert len(mount.json("datasets", "large", "metadata.json")["text"]) == 1_000_000
    assert sha256(mount / "datasets" / "large" / "001234.tar") == sha256(urls[1234])
    with pytest.raises(OSError) as raised:
        read(mount / "datasets" / "large" / "000001.tar")
    assert raised.value.errno == errno.ENOENT
    assert bounded(os.stat, mount / "datasets" / "large" / "entry.json").st_size > 300_000


def test_nothing_is_written(team):
    """A mount leaves the database as it was: no key, no expiry, no change."""
    dump = {key: team.index.client.dump(key) for key in team.index.client.keys()}
    mount = team.mount()
    for name in ls(mount / "datasets" / "digits"):
        read(mount / "datasets" / "digits" / name)
    mount.unmount()
    assert {key: team.index.client.dump(key) for key in team.index.client.keys()} == dump

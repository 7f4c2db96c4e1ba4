"""A Redis that fails while something is published: what was acknowledged is in it, and what was
refused is not, nor anything of it in the store."""

import contextlib
import time

import pytest

from attempts import Attempt, attempt, make_datasets
from bounded import SLACK, bounded, ls, read, wait_until
from publish_faults import first, goes_on, settled
from redis_wire import RedisWire
from servers import RedisServer, free_port
from world import TeamWorld

TIMEOUT_S = 4
PATIENCE_S = 10  # of the editor, for an index that does not answer
END_SECONDS = TIMEOUT_S + PATIENCE_S + 5 + SLACK
NOTICED_SECONDS = 15 + SLACK  # that an index is away, or is back


@pytest.fixture
def team(stack, own_redis, minio, proxy):
    """A team with a Redis of its own."""
    return TeamWorld(stack, own_redis, minio, proxy)


def mount_team(world, url=None, **options):
    """With a dataset "mnist" of one shard, and an empty one."""
    mount = world.mount(options={"timeout": TIMEOUT_S, "index": url} | options)
    make_datasets(mount, "mnist", "empty")
    assert attempt(mount, world.shard("first.tar"), "mnist").must_work()
    return mount


def refused_at_create(one, *words):
    assert not one.ok and "cannot create" in one.output, one.output
    one.check(*words, errno="Read-only file system")


class HeldCommit:
    """A copy whose object is in the store, and whose commit has not begun."""

    def __init__(self, world, mount, path, dataset="mnist"):
        self.world = world
        self.proxy = world.remote.proxy
        self.one = Attempt(mount, path, dataset)

    def __enter__(self):
        self.proxy.forget()
        key = f"/{self.one.source.name}$"
        self.proxy.rule("delay", kinds=("HEAD",), key=key, seconds=30)
        self.one.start()
        wait_until(lambda: self.proxy.requests("HEAD"), 20, "the copy is confirmed")
        return self.one

    def __exit__(self, *_):
        self.proxy.behave()


@contextlib.contextmanager
def gone_before_the_commit(team, own_redis, how, mount, path):
    """The copy goes on to its commit, and the server is gone; a stopped one until the end."""
    with contextlib.ExitStack() as outage, HeldCommit(team, mount, path) as one:
        if how == "stopped":
            outage.enter_context(own_redis.paused())
        else:
            own_redis.kill()
        team.remote.proxy.behave()
        yield one, outage


def test_a_redis_that_is_down_refuses_at_create(team, own_redis):
    mount = mount_team(team)
    own_redis.kill()
    path = team.shard("late.tar", seed=1)
    wait_until(
        lambda: "cannot create" in attempt(mount, path, "mnist").output,
        NOTICED_SECONDS,
        "the create is refused",
    )
    refused_at_create(attempt(mount, path, "mnist"))
    assert "first.tar" in ls(mount / "datasets" / "mnist")
    own_redis.start()
    team.assert_published("mnist", first(team), goes_on(team, mount))
    settled(team)


@pytest.mark.parametrize("how", ["stopped", "killed"])
def test_a_redis_that_goes_before_the_commit(team, own_redis, how):
    mount = mount_team(team)
    path = team.shard("held.tar", seed=1)
    with gone_before_the_commit(team, own_redis, how, mount, path) as (one, _):
        one.wait()
        one.must_fail()
        assert one.seconds < END_SECONDS
    if how == "killed":
        own_redis.start()
    # Nobody can know at once: a stopped server may still read what it was sent.
    settled(team)
    done = {url.rsplit("/", 1)[1] for url in team.entry("mnist")["data_urls"]}
    assert done == {"first.tar"}, "published behind the user's back"
    team.assert_published("mnist", first(team), goes_on(team, mount))
    assert attempt(mount, path, "mnist").must_work()
    settled(team)


@pytest.mark.parametrize("how", ["stopped", "restarted"])
def test_a_redis_that_is_back_in_time_is_waited_for(team, own_redis, how):
    mount = mount_team(team)
    path = team.shard("held.tar", seed=1)
    with gone_before_the_commit(team, own_redis, how, mount, path) as (one, outage):
        time.sleep(1)  # of its outage
        outage.close()
        if how == "restarted":
            own_redis.start()
        one.wait()
        one.must_work()
    team.assert_published("mnist", first(team), path)
    settled(team)


@pytest.mark.parametrize("command", [b"EVAL", b"PING", b"HGETALL", b"SCAN"])
def test_a_lost_reply_of_redis_is_found_out(team, own_redis, command):
    with RedisWire(own_redis.port) as wire:
        mount = mount_team(team, f"redis://127.0.0.1:{wire.port}/0")
        path = team.shard("lost.tar", seed=1)
        wire.lose_reply(command)
        one = attempt(mount, path, "mnist").check()
        assert one.seconds < END_SECONDS
        if command == b"EVAL":
            assert wire.lost == 1
            one.must_work()
        elif not one.ok:  # what is read is read again; meanwhile nothing is taken
            wait_until(lambda: attempt(mount, path, "mnist").ok, NOTICED_SECONDS, "it goes on")
        team.assert_published("mnist", first(team), path)
        settled(team)


def test_replies_that_end_anywhere(team, own_redis):
    with RedisWire(own_redis.port) as wire:
        mount = mount_team(team, f"redis://127.0.0.1:{wire.port}/0")
        paths = [first(team)]
        for number, count in enumerate((0, 5, 300)):
            path = team.shard(f"cut-{number}.tar", seed=number + 1)
            wire.cut_replies_after(count)
            one = Attempt(mount, path, "mnist").start()
            time.sleep(0.3)  # of its outage
            wire.heal()
            one.wait().check()
            if not one.ok:
                wait_until(lambda p=path: attempt(mount, p, "mnist").ok, 20, "it goes on")
            paths.append(path)
        team.assert_published("mnist", *paths)
        settled(team)


def test_a_replica_is_read_only(team, own_redis, tmp_path_factory):
    mount_team(team)
    own_redis.client().config_set("repl-diskless-sync-delay", 0)
    replica = RedisServer(tmp_path_factory.mktemp("replica"))
    with replica:
        replica.client().replicaof("127.0.0.1", own_redis.port)
        wait_until(
            lambda: replica.client().info("replication")["master_link_status"] == "up", 20, "copy"
        )
        mount = team.mount(options={"timeout": TIMEOUT_S, "index": replica.url})
        path = team.shard("late.tar", seed=1)
        one = attempt(mount, path, "mnist")
        one.must_fail("read-only replica: use the master", errno="Read-only file system")
        settled(team)
        assert read(mount / "datasets" / "mnist" / "first.tar") == first(team).read_bytes()
        # What is published at the master shows at the replica.
        master = team.mount(options={"timeout": TIMEOUT_S})
        attempt(master, path, "mnist").must_work()
        shown = mount / "datasets" / "mnist" / "late.tar"
        wait_until(lambda: shown.name in ls(shown.parent), 20, "it is listed")
        # cp looked for it here before: the kernel is told a moment after the listing.
        wait_until(lambda: bounded(shown.exists), 20, "it is there")
        assert read(shown) == path.read_bytes()


def config(own_redis, **values):
    client = own_redis.client()
    for name, value in values.items():
        client.config_set(name.replace("_", "-"), value)


def test_a_redis_that_is_full(team, own_redis):
    mount = mount_team(team)
    config(own_redis, maxmemory="1")
    # Where something is deleted first Redis lets the rest of a script pass.
    for name in ("mnist", "empty"):
        one = attempt(mount, team.shard(f"full-{name}.tar", seed=1), name).check()
        print(name, one.output, "" if one.ok else one.reason)
        assert one.seconds < END_SECONDS
    one.must_fail("memory")
    config(own_redis, maxmemory="0")
    path = team.shard("next.tar", seed=2)
    wait_until(lambda: attempt(mount, path, "empty").ok, NOTICED_SECONDS, "it goes on")
    team.assert_published("empty", path)
    settled(team)


def set_user(own_redis, *without):
    own_redis.client().execute_command(
        "ACL", "SETUSER", "team", "reset", "on", ">secret", "~*", "&*", "+@all", *without
    )


def user_url(own_redis):
    return f"redis://team:secret@127.0.0.1:{own_redis.port}/0"


def test_scripts_that_are_not_permitted_are_done_without(team, own_redis):
    set_user(own_redis, "-eval", "-evalsha", "-script", "-eval_ro", "-evalsha_ro")
    mount = mount_team(team, user_url(own_redis))
    paths = [team.shard(f"{number}.tar", seed=number) for number in (1, 2, 3)]
    for path in paths:
        assert attempt(mount, path, "mnist").must_work()
    team.assert_published("mnist", first(team), *paths)
    settled(team)


@pytest.mark.parametrize("command", ["hset", "del", "multi", "set"])
def test_what_is_not_permitted_is_told(team, own_redis, command):
    set_user(own_redis)
    mount = mount_team(team, user_url(own_redis))
    set_user(own_redis, f"-{command}", *(("-eval", "-evalsha") if command == "multi" else ()))
    one = attempt(mount, team.shard("late.tar", seed=1), "mnist")
    print(one.output, "" if one.ok else one.reason)
    if command in ("hset", "multi"):
        one.must_fail("lacks a right", f"'{command}'" if command == "hset" else "")
    one.check()
    set_user(own_redis)
    goes_on(team, mount)
    settled(team)


def test_a_password_that_was_changed(team, own_redis):
    mount = mount_team(team)
    keeper = own_redis.client()
    keeper.ping()
    keeper.config_set("requirepass", "other")
    keeper.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    try:
        path = team.shard("late.tar", seed=1)
        one = attempt(mount, path, "mnist")
        one.must_fail()
        wait_until(
            lambda: "cannot create" in attempt(mount, path, "mnist").output,
            NOTICED_SECONDS,
            "the create is refused",
        )
        one = attempt(mount, path, "mnist")
        refused_at_create(one, "password")
        assert "first.tar" in ls(mount / "datasets" / "mnist")
    finally:
        keeper.config_set("requirepass", "")
    team.assert_published("mnist", first(team), goes_on(team, mount))
    settled(team)


def test_a_node_of_a_cluster(stack, tmp_path_factory, minio, proxy):
    settings = ["--cluster-enabled", "yes"]
    server = RedisServer(tmp_path_factory.mktemp("cluster"), settings=settings)
    while server.port > 55535:  # its bus has that of 10000 more
        server.port = free_port()
    with server:
        client = server.client()
        client.execute_command("CLUSTER", "ADDSLOTS", *range(16384))
        wait_until(lambda: b"state:ok" in client.execute_command("CLUSTER", "INFO"), 20, "it is up")
        world = TeamWorld(stack, server, minio, proxy)
        mount = world.mount(options={"timeout": TIMEOUT_S})
        make_datasets(mount, "mnist")
        one = attempt(mount, world.shard("first.tar"), "mnist")
        print(one.output, "" if one.ok else one.reason)
        if one.check("cluster").ok:  # all slots are its own
            world.assert_published("mnist", one.source)
        settled(world)

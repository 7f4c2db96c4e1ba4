"""An index that sentinels watch: its master is found, followed when it changes, and what was
acknowledged before it died is there afterwards, or is told."""

import contextlib
import json
import signal
import threading
import time

import pytest

from attempts import Attempt, attempt, make_datasets
from bounded import SLACK, ls, read, run, wait_until
from mounting import ATDATAFS, environment, make_state
from publish_faults import settled
from redis_index import RedisIndex
from sentinels import FAILOVER_SECONDS, Node, SaysSo, Trio
from servers import free_port
from world import TeamWorld

TIMEOUT_S = 8
GOES_ON_SECONDS = FAILOVER_SECONDS + 15 + SLACK
PUT_BACK_SECONDS = 20 + SLACK
END_SECONDS = 10 + SLACK


@pytest.fixture
def trio(tmp_path_factory):
    with Trio(tmp_path_factory.mktemp("trio")) as trio:
        yield trio


class SentinelWorld(TeamWorld):
    """A team whose index is the trio's; it is looked at past the mount, on the master of now."""

    def __init__(self, stack, trio, minio, proxy):
        super().__init__(stack, trio, minio, proxy)
        self.trio = trio

    @property
    def client(self):
        return self.trio.client()

    @client.setter
    def client(self, _):
        pass

    def listed(self, dataset="mnist"):
        entry = self.entry(dataset)
        return {url.rsplit("/", 1)[1] for url in entry["data_urls"]} if entry else set()


@pytest.fixture
def team(stack, trio, minio, proxy):
    return SentinelWorld(stack, trio, minio, proxy)


def mount_team(team, url=None):
    mount = team.mount(options={"timeout": TIMEOUT_S, "index": url})
    make_datasets(mount, "mnist")
    attempt(mount, team.shard("first.tar"), "mnist").must_work()
    return mount


def goes_on(team, mount, name="next.tar", seed=99):
    path = team.shard(name, seed=seed)
    wait_until(lambda: attempt(mount, path, "mnist").check().ok, GOES_ON_SECONDS, "it goes on")
    return path


def events(mount, words):
    lines = read(mount / ".atdatafs" / "events.jsonl").decode().splitlines()
    return [event for event in map(json.loads, lines) if words in event.get("reason", "")]


def test_the_master_is_followed(team, trio):
    """Reads go on all the time, also of what was published before."""
    mount = mount_team(team)
    first = team.sources / "0" / "first.tar"
    trio.master.kill()
    assert read(mount / "datasets" / "mnist" / "first.tar") == first.read_bytes()
    path = goes_on(team, mount)
    team.assert_published("mnist", first, path)
    assert sorted(["first.tar", "next.tar"]) == [
        name for name in ls(mount / "datasets" / "mnist") if name.endswith(".tar")
    ]
    settled(team)


def test_a_planned_failover(team, trio):
    mount = mount_team(team)
    old = trio.master
    trio.sentinels[0].client().execute_command("SENTINEL", "FAILOVER", "team.master-1")
    trio.wait_failover(old)
    wait_until(lambda: old.role() == "slave", FAILOVER_SECONDS, "the old master is a replica")
    path = goes_on(team, mount)
    team.assert_published("mnist", team.sources / "0" / "first.tar", path)
    wait_until(
        lambda: "next.tar" in ls(mount / "datasets" / "mnist"), GOES_ON_SECONDS, "it is shown"
    )
    settled(team)


class Publishing:
    """Copies, and runs of `atdatafs publish`, one after the other until it is stopped."""

    def __init__(self, team, mount, url):
        self.team = team
        self.mount = mount
        self.url = url
        self.stopping = threading.Event()
        self.acknowledged = []
        self.failed = []
        self.errors = []
        state = make_state(team.directory / "command")
        home = team.directory / "command-home"
        home.mkdir()
        self.env = environment(home, state)
        self.threads = [
            threading.Thread(target=self._repeat, args=(how, name), daemon=True)
            for how, name in ((self._copy, "copied"), (self._publish, "sent"))
        ]

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stopping.set()
        for thread in self.threads:
            thread.join(150)
            assert not thread.is_alive(), "a publish hangs"
        assert not self.errors, self.errors

    def _repeat(self, how, name):
        number = 0
        try:
            while not self.stopping.is_set():
                path = self.team.shard(f"{name}-{number:04d}.tar", count=3, seed=number)
                (self.acknowledged if how(path) else self.failed).append(path.name)
                number += 1
        except BaseException as error:
            self.errors.append(error)

    def _copy(self, path):
        one = Attempt(self.mount, path, "mnist").start().wait().check()
        if not one.ok:
            time.sleep(0.1)  # a create that is refused costs nothing
        return one.ok

    def _publish(self, path):
        words = ["-i", self.url, "-o", self.team.remote.options(state_dir=self.team.state)]
        done = run(ATDATAFS, "publish", "-q", *words, path, "mnist", check=False, env=self.env)
        assert done.returncode in (0, 1), (done.returncode, done.stdout, done.stderr)
        assert done.returncode == 0 or done.stderr, "failed without a word"
        return done.returncode == 0

    def count(self):
        return len(self.acknowledged)

    def wait_more(self, count, seconds=60):
        wanted = self.count() + count
        wait_until(
            lambda: self.count() >= wanted or self.errors, seconds, f"{count} more are published"
        )


@pytest.mark.parametrize("wait", [None, 0, 1])
@pytest.mark.parametrize("how", ["killed", "stopped"])
def test_a_failover_during_publishing(team, trio, how, wait):
    url = trio.url if wait is None else trio.url_of(*trio.sentinels, wait=wait)
    mount = mount_team(team, url)
    with Publishing(team, mount, url) as publishing:
        publishing.wait_more(6)
        old = trio.master
        if how == "killed":
            old.kill()
        else:  # as behind a dead network; it comes back later, and believes that it is the master
            old.process.send_signal(signal.SIGSTOP)
        trio.wait_failover(old)
        if how == "stopped":
            old.process.send_signal(signal.SIGCONT)
            wait_until(lambda: old.role() == "slave", FAILOVER_SECONDS, "it is a replica now")
        publishing.wait_more(6, GOES_ON_SECONDS)
    acknowledged = set(publishing.acknowledged)
    print(how, wait, len(acknowledged), "acknowledged,", publishing.failed, "failed")
    if wait != 0:
        assert acknowledged <= team.listed(), "an acknowledged shard was lost"
        assert mount.metrics()["publish_put_back"] == 0
    # With wait=0 only a process that is still there can put anything back.
    copied = {name for name in acknowledged if name.startswith("copied")}
    wait_until(lambda: copied <= team.listed(), PUT_BACK_SECONDS, "all that were copied are there")
    goes_on(team, mount)
    settled(team)


def lose(trio):
    """What is written to the master now reaches no replica. Returns what undoes it."""
    master, replicas = trio.master, trio.replicas
    for node in replicas:
        node.process.send_signal(signal.SIGSTOP)
    # Else the bytes wait in the socket of the replica, which reads them when it goes on.
    master.client().execute_command("CLIENT", "KILL", "TYPE", "replica")
    exits = contextlib.ExitStack()
    for node in replicas:
        exits.callback(node.process.send_signal, signal.SIGCONT)
    return master, exits


def test_what_a_failover_lost_is_put_back(team, trio):
    """Acknowledged by a master that had no replica: its successor has never heard of it."""
    mount = mount_team(team)
    master, undo = lose(trio)
    path = team.shard("lost.tar", seed=1)
    attempt(mount, path, "mnist").must_work()
    make_datasets(mount, "new")
    attempt(mount, path, "new").must_work()  # with its schema
    master.kill()
    undo.close()
    trio.wait_failover(master)
    for dataset in ("mnist", "new"):
        wait_until(
            lambda d=dataset: "lost.tar" in team.listed(d), PUT_BACK_SECONDS, f"{dataset} has it"
        )
    team.assert_published("mnist", team.sources / "0" / "first.tar", path)
    team.assert_published("new", path)
    wait_until(lambda: len(events(mount, "put back")) == 2, PUT_BACK_SECONDS, "it is told")
    assert mount.metrics()["publish_put_back"] == 2
    assert {event["what"] for event in events(mount, "put back")} == {
        "keep mnist/lost.tar",
        "keep new/lost.tar",
    }
    settled(team)


def test_replicas_that_are_waited_for(team, trio):
    """With wait=1 nothing is acknowledged that one server alone has."""
    mount = mount_team(team, trio.url_of(*trio.sentinels, wait=1))
    master, undo = lose(trio)
    path = team.shard("alone.tar", seed=1)
    one = attempt(mount, path, "mnist")
    one.must_fail("wait=1")
    assert team.listed() == {"first.tar"}, "it was committed all the same"
    undo.close()
    goes_on(team, mount, "alone.tar", seed=1)
    settled(team)
    assert trio.master is master


def test_replicas_that_stop_in_between(team, trio):
    """The change was made, and no replica says that it has it: that is neither success nor not."""
    mount = mount_team(team, trio.url_of(*trio.sentinels, wait=1))
    replicas = trio.replicas
    for node in replicas:
        node.process.send_signal(signal.SIGSTOP)
    path = team.shard("alone.tar", seed=1)
    one = attempt(mount, path, "mnist")
    for node in replicas:
        node.process.send_signal(signal.SIGCONT)
    assert not one.ok
    one.check("no replica confirmed it", is_taken=True)  # it is shown: it was committed
    wait_until(
        lambda: attempt(mount, path, "mnist").ok or "alone.tar" in team.listed(),
        GOES_ON_SECONDS,
        "it is there",
    )
    settled(team)


def test_sentinels_that_are_not_there(team, trio):
    """One refuses, one is silent: neither the mount nor a failover minds."""
    silent = trio.sentinels[2]
    url = trio.url_of(silent, *trio.sentinels[:2], ports=[free_port()])
    with silent.paused():
        began = time.monotonic()
        mount = mount_team(team, url)
        print("mounted and published in", time.monotonic() - began)
        path = goes_on(team, mount)
    team.assert_published("mnist", team.sources / "0" / "first.tar", path)


def test_a_master_that_does_not_know(stack, tmp_path_factory, minio, proxy):
    """Cut off from its sentinels, it goes on as if nothing had happened; the mount must not."""
    where = tmp_path_factory.mktemp("nodes")
    with Node(where / "old") as old, Node(where / "new", old) as new, SaysSo(old.port) as sentinel:
        before = TeamWorld(stack, old, minio, proxy)
        mount = before.mount(options={"timeout": TIMEOUT_S, "index": sentinel.url})
        make_datasets(mount, "mnist")
        first = before.shard("first.tar")
        attempt(mount, first, "mnist").must_work()
        wait_until(lambda: new.client().exists("Label:mnist@"), 20, "it is copied")
        new.client().replicaof("NO", "ONE")
        sentinel.port = new.port
        # Nobody publishes: the mount notices by itself.
        RedisIndex(new).entry("elsewhere", ["s3://bucket/data/elsewhere.tar"])
        wait_until(lambda: "elsewhere" in ls(mount / "datasets"), GOES_ON_SECONDS, "it is followed")
        path = before.shard("next.tar", seed=1)
        attempt(mount, path, "mnist").must_work()
        before.client = new.client()
        before.assert_published("mnist", first, path)
        assert b"next.tar" not in b"".join(
            b"".join(old.client().hgetall(key).values())
            for key in old.client().scan_iter("LocalDatasetEntry:*")
        )


def test_the_end_while_all_are_silent(team, trio):
    """What was just published would be looked at again: the unmount does not wait for that."""
    mount = mount_team(team)
    with contextlib.ExitStack() as exits:
        for server in trio.nodes + trio.sentinels:
            exits.enter_context(server.paused())
        time.sleep(3)  # of its outage
        began = time.monotonic()
        mount.unmount()
        print("unmounted in", time.monotonic() - began)
        assert time.monotonic() - began < END_SECONDS


def test_a_master_nobody_knows(team, trio):
    url = trio.url.replace("team.master-1", "no-such-master")
    words = ["-i", url, "-o", team.remote.options(state_dir=team.state)]
    path = team.shard("one.tar")
    state = make_state(team.directory / "command")
    done = run(
        ATDATAFS, "publish", *words, path, "mnist", check=False, env=environment(team.directory, state)
    )
    assert done.returncode == 1, done
    assert "no master of the name 'no-such-master'" in done.stderr, done.stderr


def test_sentinels_with_a_password(stack, tmp_path_factory, minio, proxy):
    with Trio(tmp_path_factory.mktemp("trio"), password="s3cret of:sentinels%") as trio:
        team = SentinelWorld(stack, trio, minio, proxy)
        mount = mount_team(team)
        assert "s3cret" not in json.dumps(mount.status())
        plain = trio.url.partition("?")[0]
        words = ["-i", plain, "-o", team.remote.options(state_dir=team.state)]
        words += [team.shard("two.tar", seed=2), "mnist"]
        env = environment(team.directory, make_state(team.directory / "command"))
        done = run(ATDATAFS, "publish", *words, check=False, env=env)
        assert done.returncode == 1 and "$ATDATA_SENTINEL_PASSWORD" in done.stderr, done
        run(ATDATAFS, "publish", *words, env=env | {"ATDATA_SENTINEL_PASSWORD": trio.password})
        assert team.listed() == {"first.tar", "two.tar"}

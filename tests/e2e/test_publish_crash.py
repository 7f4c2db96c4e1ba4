"""kill -9 of the daemon at 200 points of publishing.

What was acknowledged (close or cp said so) is whole in the store and in the index and reads through
the next mount; what was not is wholly there or not at all; of the rest nothing stays.

Why "wholly there" is allowed for a copy that nobody was told of: the index commits in one moment,
and the answer to close() is another. Whoever dies in between has published and could not say so. In
the other order it would have said so and not published; there is no third. Its maker copies again,
and is told that the shard is there (or, with `atdatafs publish`, that all is well).
"""

import os
import signal
import threading
import time

import pytest

import conftest
from bounded import SLACK, bounded, wait_until
from crash import COMMITTING, SENDING, SENT, Lane, cp, jobs, run_dirs, spools
from proxy import Proxy
from proxy_rules import KINDS
from servers import RedisServer
from world import DiskWorld, TeamWorld

KILLS_BY_BYTES = 7
WRITERS = 9  # of each such kill; one of them has finished
POINTS = 200  # of both worlds
COPIES = 5  # of each kill at a step
LARGE_MIB = 18  # over a part: it is sent while it is written
HELD = 60  # seconds; the kill comes first


class Crashes:
    """The lane of one world, and how many points of publishing it was killed at."""

    def __init__(self, world):
        self.world = world
        self.lane = Lane(world, "crashed")
        self.points = 0
        self.copies = 0
        self.large = []

    def source(self, is_large=False):
        """(a name nobody has, what to copy there)"""
        self.copies += 1
        name = f"s{self.copies:04d}.tar"
        if not is_large:
            return name, self.world.shard(name, count=4, bytes_each=20_000)
        if len(self.large) < 3:
            made = f"large-{len(self.large)}.tar"
            self.large.append(self.world.shard(made, count=LARGE_MIB, bytes_each=1 << 20))
        return name, self.large[self.copies % len(self.large)]

    def start_copies(self, count, first_is_large=True):
        """With cp, all at once; the first one is the one that is watched."""
        started = []
        for i in range(count):
            name, source = self.source(first_is_large and i == 0)
            copy = self.lane.copy(name, source)
            copy.start_program("cp", source, self.lane.directory / name)
            started.append(copy)
        return started

    def end_of_round(self, points):
        """Killed; then what the next mount makes of it."""
        left = self.lane.kill()
        self.points += points
        self.world.after_kill()
        self.lane.remount()
        self.lane.wait_recovered(left)
        self.lane.check()


@pytest.fixture(scope="module")
def own_redis(tmp_path_factory):
    with RedisServer(tmp_path_factory.mktemp("redis-crash")) as server:
        yield server


@pytest.fixture(scope="module")
def team_crashes(tmp_path_factory, own_redis, minio):
    with (
        Proxy(minio.port) as proxy,
        conftest.watched(tmp_path_factory.mktemp("team"), 280) as stack,
    ):
        world = TeamWorld(stack, own_redis, minio, proxy)

        def after_kill():
            proxy.behave()
            own_redis.process.send_signal(signal.SIGCONT)

        world.after_kill = after_kill
        yield Crashes(world)


@pytest.fixture(scope="module")
def disk_crashes(tmp_path_factory):
    with conftest.watched(tmp_path_factory.mktemp("disk"), 280) as stack:
        home = stack.directory / "home"
        home.mkdir()
        world = DiskWorld(stack, home)
        world.after_kill = lambda: None
        yield Crashes(world)


@pytest.fixture(params=["disk", "team"])
def crashes(request):
    return request.getfixturevalue(f"{request.param}_crashes")


# ---------------------------------------------------------------- by bytes


def test_killed_by_bytes_written(crashes):
    """Writers that have each come to another byte of their file, and one that was answered."""
    points = KILLS_BY_BYTES * (WRITERS - 1)
    for kill in range(KILLS_BY_BYTES):
        never = threading.Event()
        copies = []
        directory = crashes.lane.directory
        for writer in range(WRITERS):
            name, source = crashes.source(is_large=writer == 1)
            point = kill * (WRITERS - 1) + writer
            stop_at = source.stat().st_size * point // points
            copy = crashes.lane.copy(name, source)
            if writer == WRITERS - 1:
                copy.start(directory)
            else:
                copy.start(directory, stop_at=stop_at, go_on=never)
            copies.append(copy)
        for copy in copies:
            assert copy.reached.wait(20 * SLACK)
        copies[-1].join()
        assert copies[-1].acknowledged
        killer = threading.Timer(0.05, never.set)  # they go on into the dead mount
        killer.start()
        crashes.end_of_round(WRITERS - 1)
        killer.join()


# ---------------------------------------------------------------- by step


def job_is(state, size=None, upload=None):
    """A step of the watched copy, as the journal shows it."""

    def is_there(crashes):
        return any(
            job.state == state
            and size in (None, job.size > 0)
            and upload in (None, bool(job.upload))
            for job in jobs(run_dirs(crashes.lane.state))
        )

    return is_there


def held(fault, kind, nth=0, key="/crashed/"):
    """A request that the proxy holds, before it goes on or before its reply does."""
    before = []

    def prepare(crashes):
        proxy = crashes.world.remote.proxy
        before[:] = proxy.requests()
        proxy.rule(fault, kinds=(kind,), key=key, skip=nth, times=1, seconds=HELD)

    def is_there(crashes):
        requests = crashes.world.remote.proxy.requests()[len(before) :]
        return any(r.kind == kind and r.fault == fault and (fault == "delay" or r.status)
                   for r in requests)

    return prepare, is_there


def stopped_redis():
    """The index gets the commit, and does it after the daemon's death."""

    def stop_at_sent(crashes):
        if not job_is(SENT)(crashes) and not job_is(COMMITTING)(crashes):
            return False
        process = crashes.world.remote.redis_server.process
        process.send_signal(signal.SIGSTOP)
        try:
            wait_until(lambda: job_is(COMMITTING)(crashes), 2, "a commit is under way")
        except AssertionError:
            process.send_signal(signal.SIGCONT)  # it was over already
            return False
        return True

    return None, stop_at_sent


STEPS = {
    "spooled": lambda crashes: len(spools(crashes.lane.state)) > 0,
    "sending": job_is(SENDING),
    "sending, named": job_is(SENDING, upload=True),
    "finishing": job_is(SENDING, size=True),
    "sent": job_is(SENT),
    "committing": job_is(COMMITTING),
}
TEAM_STEPS = {
    "create": held("delay", "CREATE"),
    "created": held("silent", "CREATE"),
    "part": held("delay", "PART"),
    "put": held("delay", "PUT", 1),
    "was put": held("silent", "PUT", 2),
    "complete": held("delay", "COMPLETE"),
    "completed": held("silent", "COMPLETE"),
    "sent, its member index": held("delay", "PUT", key=r"/crashed/.*\.atdatafs-members$"),
    "index": stopped_redis(),
}
FRACTIONS = [0.1, 0.25, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]


MISSED_MAX = 10


def kill_at(crashes, name, prepare, is_there):
    """One round of copies; the daemon is killed when it is there, or else after them."""
    if prepare:
        prepare(crashes)
    copies = crashes.start_copies(COPIES)
    until = time.monotonic() + 10 * SLACK
    while not is_there(crashes) and time.monotonic() < until:
        if not any(copy.thread.is_alive() for copy in copies):
            break  # it was too fast for us
    assert not prepare or is_there(crashes), name
    crashes.end_of_round(COPIES)


def test_killed_by_step(crashes):
    lane = crashes.lane
    began = time.monotonic()
    for copy in crashes.start_copies(COPIES):
        copy.join()
        assert copy.acknowledged
    usual = time.monotonic() - began
    lane.check()
    steps = {name: (None, step) for name, step in STEPS.items()}
    if crashes.world.kind == "team":
        steps |= TEAM_STEPS
    for name, (prepare, is_there) in steps.items():
        kill_at(crashes, name, prepare, is_there)
    for fraction in FRACTIONS:
        began = time.monotonic()
        crashes.start_copies(COPIES)
        wait_until(lambda b=began, f=fraction: time.monotonic() - b > usual * f, 20, "then")
        crashes.end_of_round(COPIES)
    wanted = {SENDING, SENT, COMMITTING}
    for _ in range(MISSED_MAX):  # what was over before it was noticed
        for state in wanted - {state for state, _, _ in lane.seen}:
            kill_at(crashes, state, None, job_is(state))
    assert wanted <= {state for state, _, _ in lane.seen}, lane.seen


def test_killed_around_the_rename(crashes):
    """All but the commit was done at the flush; some are renamed, some not yet."""
    copies = []
    directory = crashes.lane.directory
    for i in range(COPIES):
        name, source = crashes.source(is_large=i == 0)
        assert cp(source, directory / f".{name}.Ab12Cd").returncode == 0
        copies.append(crashes.lane.copy(name, source))
    for copy in copies[:3]:
        copy.start_program("mv", directory / f".{copy.name}.Ab12Cd", directory / copy.name)
    copies[0].join()
    crashes.end_of_round(COPIES)
    assert copies[0].acknowledged
    assert {copy.name for copy in copies[3:]}.isdisjoint(os.listdir(crashes.lane.directory))


# ---------------------------------------------------------------- recovery


def asked(proxy, kind, key, since):
    return [r for r in proxy.requests(kind) if r.number > since and key in r.key]


def last_number(proxy):
    return max((request.number for request in proxy.requests()), default=0)


def test_killed_while_it_recovers(team_crashes):
    """Its request to the store is held, it is killed, and again; the third one gets through."""
    world, lane = team_crashes.world, team_crashes.lane
    proxy = world.remote.proxy
    prepare, is_there = TEAM_STEPS["complete"]
    prepare(team_crashes)
    team_crashes.start_copies(1)
    wait_until(lambda: is_there(team_crashes), 20, "the upload is being completed")
    left = lane.kill()
    for _ in range(2):
        proxy.behave()
        since = last_number(proxy)
        proxy.rule("delay", kinds=("ABORT",), key="/crashed/", seconds=HELD)
        lane.remount()
        wait_until(
            lambda s=since: asked(proxy, "ABORT", "/crashed/", s), 20, "the upload is taken back"
        )
        left |= lane.kill()
    proxy.behave()
    lane.remount()
    lane.wait_recovered(left)
    lane.check()


def test_store_out_of_reach_at_the_remount(team_crashes):
    """The mount comes, what is left waits, and goes when the store is back."""
    world = team_crashes.world
    proxy = world.remote.proxy
    lane = Lane(world, "unreached")
    since = last_number(proxy)
    proxy.rule("silent", kinds=("CREATE",), key="/unreached/", times=1)
    name, source = team_crashes.source(is_large=True)
    lane.copy(name, source).start_program("cp", source, lane.directory / name)
    wait_until(
        lambda: any(r.status for r in asked(proxy, "CREATE", "/unreached/", since)),
        20,
        "the upload is begun",
    )
    left = lane.kill()
    proxy.behave()
    since = last_number(proxy)
    proxy.rule("refuse", kinds=tuple(KINDS))
    lane.remount()
    wait_until(lambda: last_number(proxy) > since, 30, "recovery has asked the store")
    assert all(path.exists() for path in left) and lane.strays()
    assert bounded(os.listdir, lane.mount / "datasets")
    proxy.behave()
    lane.assert_clean()
    assert not any(path.exists() for path in left)
    assert cp(source, lane.directory / name).returncode == 0
    lane.check()


def test_the_living_are_not_touched(crashes):
    """Two daemons on one state directory: one is killed, its successor recovers."""
    world = crashes.world
    one = Lane(world, "living")
    other = Lane(world, "killed")
    other.mount.unmount()
    other.state = one.state
    other.remount()
    go_on = threading.Event()
    copies = []
    for i in range(3):
        name, source = crashes.source(is_large=i == 0)
        copy = one.copy(name, source)
        copy.start(one.directory, stop_at=source.stat().st_size * (i + 1) // 4, go_on=go_on)
        copies.append(copy)
    for copy in copies:
        assert copy.reached.wait(20 * SLACK)
    alive = run_dirs(one.state)
    for i in range(3):
        name, source = crashes.source(is_large=i == 0)
        copy = other.copy(name, source)
        copy.start(other.directory, stop_at=source.stat().st_size // 2, go_on=threading.Event())
        assert copy.reached.wait(20 * SLACK)
    assert len(alive) == 1
    other.mount.kill()
    dead = run_dirs(one.state) - alive
    assert len(dead) == 1
    other.remount()
    wait_until(lambda: not any(path.exists() for path in dead), 20 * SLACK, "the dead one is gone")
    assert all(path.exists() for path in alive)
    go_on.set()
    for copy in copies:
        copy.join()
        assert copy.acknowledged
    one.check()
    one.mount.unmount()
    other.mount.unmount()
    assert not run_dirs(one.state)


# ---------------------------------------------------------------- in the end


def test_nothing_is_left(crashes):
    """After the minute that an object is kept which might be named yet."""
    assert crashes.points >= POINTS // 2
    crashes.lane.assert_clean()
    by_name = crashes.lane.check()
    for copy in crashes.lane.acknowledged.values():
        crashes.lane.check_whole(copy, crashes.world.entry("crashed"), by_name[copy.name])
    crashes.lane.mount.unmount()
    assert not run_dirs(crashes.lane.state)
    crashes.world.assert_clean()

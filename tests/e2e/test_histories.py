"""No stale listing survives: after random histories of writes, with what can happen to connections
and servers in between, a mount shows what Redis has, and nothing else, within a second.

What it has to show is worked out from the keys, without the program (support/expected.py). All the
while readers keep the kernel's caches warm. A seed gives the same writes and the same accidents;
how they fall together is not in anybody's hand.

ATD_HISTORY_SEED=N runs that seed only, ATD_HISTORY_WRITES=10000 the whole length.
"""

import contextlib
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import expected
from bounded import SLACK, wait_until
from history import NAMES, SELDOM, SHARDS
from index_db import make_shard
from redis_index import RedisIndex
from servers import RedisServer

WRITES = int(os.environ.get("ATD_HISTORY_WRITES", "2400"))
SEEDS = [int(os.environ["ATD_HISTORY_SEED"])] if "ATD_HISTORY_SEED" in os.environ else [1, 2]
WRITERS = 4  # of these the last is the real library
LIBRARY_SHARE = 10  # of so many writes of a writer the library makes one: it is slower
PHASES = 8  # each ends with a quiet point
FLUSHED = 4  # after this one nothing is left
AT_ONCE = 10
VISIBLE_SECONDS = 1.0 * SLACK
# Of FLUSHDB nobody tells where there are only notifications: it is looked for (redis.c).
FLUSH_NOTICED_SECONDS = 3.0
LIVE_SECONDS = 15 * SLACK
WRITES_SECONDS = 400
CLIENT_RENAMED = "client-of-the-test"

READER = """
cd "$1"
while :; do
    ls -l datasets labels schemas by-cid
    cat datasets/*/entry.json by-cid/*/metadata.json schemas/*
    stat datasets/set-* labels/set-*@1.0.0
done >/dev/null 2>&1
"""
# Somebody works in there, whatever becomes of it.
DWELLER = """
while :; do
    cd "$1"/datasets/set-"$2" && for i in 1 2 3 4 5; do
        ls -l . ..
        cat entry.json metadata.json
    done
    cd /
    set -- "$1" $((($2 + 1) % 16))
    sleep 0.01
done >/dev/null 2>&1
"""


class History:
    """Redis, a mount of it, four who write and three who read."""

    def __init__(self, stack, server, seed, coherence, options="", client_command="CLIENT"):
        self.stack = stack
        self.server = server
        self.seed = seed
        self.coherence = coherence
        self.client_command = client_command
        self.visible_seconds = VISIBLE_SECONDS
        self.random = random.Random(f"accidents {seed}")
        self.root = stack.directory / "shards"
        for i in range(SHARDS):
            make_shard(self.root / f"s{i}.tar")
        self.index = RedisIndex(server)
        self.index.schema()
        options = ",".join(filter(None, [f"data_root={self.root}", options]))
        self.mount = stack.mount(index=server.url, options=options)
        self.is_barrier = "consistency=barrier" in options
        self.seen = {b"datasets/" + expected.file_name(name, b"") for name in NAMES + SELDOM}
        self.accidents = []
        self.sizes = []  # entries at the quiet points
        self.ways = []
        # Directories that stay open, as shells that stay in them.
        self.opened = {}
        for place in expected.PLACES:
            self.opened[place] = os.open(os.fsencode(self.mount.path) + b"/" + place, os.O_RDONLY)
            stack.exits.callback(os.close, self.opened[place])
        self.writers = [self._writer(i) for i in range(WRITERS - 1)]
        home = stack.directory / "library-home"
        home.mkdir()
        self.library = stack.peer(home)
        self.library_writes = 0
        self.readers = [
            self._start("sh", "-c", READER, "reader", self.mount.path),
            self._start("sh", "-c", DWELLER, "dweller", self.mount.path, "0"),
        ]

    def _start(self, *command, **pipes):
        """In a group of its own, which ends before the mount does."""
        process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", *map(str, command)],
            **{"stdin": subprocess.DEVNULL} | pipes,
        )
        self.stack.exits.callback(process.wait, 20)
        self.stack.exits.callback(process.kill)
        return process

    def _writer(self, number):
        program = Path(sys.modules["history"].__file__)
        return self._start(
            sys.executable,
            program,
            self.server.port,
            f"{self.seed}-{number}",
            self.root,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    # -------- a phase

    def write(self, count, accidents):
        """So many writes of all together; `accidents` happen meanwhile, from this thread: servers
        that another one starts die with it."""
        for writer in self.writers:
            writer.stdin.write(b"%d\n" % (count // WRITERS))
            writer.stdin.flush()
        ended = threading.Event()
        failures = []
        threads = [
            threading.Thread(target=self._watched, args=(failures, call), daemon=True)
            for call in (
                lambda: self._wait_for_writers(ended),
                lambda: self._write_by_library(count // WRITERS // LIBRARY_SHARE, ended),
                lambda: self._look_for_what_is_absent(ended),
            )
        ]
        for thread in threads:
            thread.start()
        watchdog = threading.Timer(WRITES_SECONDS, lambda: [w.kill() for w in self.writers])
        watchdog.daemon = True
        watchdog.start()
        try:
            self._have_accidents(accidents, ended)
        finally:
            ended.wait(WRITES_SECONDS)
            watchdog.cancel()
        for thread in threads:
            thread.join(WRITES_SECONDS)
        assert not failures, failures

    def _wait_for_writers(self, ended):
        try:
            for writer in self.writers:
                assert writer.stdout.readline() == b"done\n"
        finally:
            ended.set()

    @staticmethod
    def _watched(failures, call):
        try:
            call()
        except BaseException as error:
            failures.append(repr(error))

    def _write_by_library(self, count, ended):
        numbers = random.Random(f"library {self.seed} {self.library_writes}")
        self.library.use_redis(self.server.port)
        cid = None
        for _ in range(count):
            name = numbers.choice([f"set-{numbers.randrange(16)}", "of the library"])
            kind = numbers.choice(["insert", "insert", "label", "schema"])
            version = numbers.choice(["1.0.0", "1.0.1"])
            # A key may be of another type, or Redis away: then it raises, as it does for everybody.
            with contextlib.suppress(AssertionError):
                if kind == "insert" or not cid:
                    url = f"/nowhere/u{numbers.randrange(100, 110)}.tar"
                    cid = self.library.insert(name, url, "Scalars")["cid"]
                elif kind == "label":
                    self.library.label(name, cid, version=version)
                else:
                    self.library.publish_schema("Scalars", version=version)
                self.library_writes += 1
            if ended.is_set():
                break

    def _look_for_what_is_absent(self, ended):
        """So that the kernel remembers that it is."""
        top = os.fsencode(self.mount.path) + b"/"
        while not ended.wait(0.01):
            for path in self.seen:
                os.path.lexists(top + path)

    # -------- accidents

    def _have_accidents(self, kinds, ended):
        while kinds and not ended.wait(0.2 * self.random.random()):
            kind = self.random.choice(kinds)
            self.accidents.append(kind.__name__)
            kind(self)

    def kill_connections(self):
        """The mount's, by its name, where it may have one."""
        client = self.server.client()
        with contextlib.closing(client):
            listed = client.execute_command(self.client_command, "LIST").splitlines()
            for line in listed:
                fields = dict(word.split("=", 1) for word in line.decode().split())
                is_ours = fields["name"] == "atdatafs" or self.client_command != "CLIENT"
                if is_ours and fields["cmd"] != f"{self.client_command.lower()}|list":
                    client.execute_command(
                        self.client_command, "KILL", "ID", fields["id"], "SKIPME", "yes"
                    )

    def restart(self):
        self.server.stop()
        self.server.start()

    def crash(self):
        self.server.kill()
        time.sleep(0.3 * self.random.random())
        self.server.start()

    def pause(self):
        with self.server.paused():
            time.sleep(0.7 * self.random.random())

    KILLS = [kill_connections]
    ALL = [kill_connections, kill_connections, kill_connections, pause, pause, restart, crash]

    # -------- what must hold

    def wanted(self):
        """As long as a key may still expire it is asked for again."""
        with contextlib.closing(self.server.client()) as client:
            wait_until(
                lambda: client.info("keyspace").get("db0", {}).get("expires", 0) == 0,
                VISIBLE_SECONDS,
                "all has expired that will",
            )
            return expected.Index(client).files(self.root)

    def _look(self, wanted):
        """What is wrong."""

        def listed(found):
            for place, names in found.items():
                opened = sorted(map(os.fsencode, os.listdir(self.opened[place])))
                assert opened == names, f"{place} is {names}, and who has it open sees {opened}"

        try:
            found = expected.shown(self.mount.path, listed)
        except (OSError, AssertionError) as error:
            return f"{type(error).__name__}: {error}"
        lines = expected.difference(wanted, found)
        if lines:
            return lines  # who looks for a name that is absent has the index asked for news
        top = os.fsencode(self.mount.path) + b"/"
        there = [path for path in self.seen - wanted.keys() if os.path.lexists(top + path)]
        return f"names without an entry: {there}" if there else ""

    @contextlib.contextmanager
    def readers_paused(self):
        for reader in self.readers:
            reader.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            for reader in self.readers:
                reader.send_signal(signal.SIGCONT)

    def check(self):
        """Nobody writes just now. Who looks a second from now sees what Redis has."""
        quiet_at = time.monotonic()
        wanted = self.wanted()
        while True:
            began_at = time.monotonic()
            wrong = self._look(wanted)
            if not wrong:
                break
            if began_at - quiet_at >= self.visible_seconds:
                pytest.fail(f"{self.story()}\nafter {began_at - quiet_at:.1f} s:\n{wrong}")
            time.sleep(0.01)
        self.seen |= {path for path in wanted if path.count(b"/") == 1}
        self.sizes.append(len(wanted[b"by-cid"]))
        self.ways.append(self.mount.status()["index"]["coherence"])
        return began_at - quiet_at

    def check_at_once(self):
        """What consistency=barrier promises of listings, of an index that may still be on its way
        into the mount."""
        datasets = os.fsencode(self.mount.path) + b"/datasets"
        for i in range(AT_ONCE):
            name = f"at-once-{i}"
            cid = self.index.entry(name, [f"/nowhere/{name}.tar"])
            assert name.encode() in os.listdir(datasets), self.story()
            self.index.client.delete(f"LocalDatasetEntry:{cid}")
            assert name.encode() not in os.listdir(datasets), self.story()
        wanted = self.wanted()
        for place in expected.PLACES:
            found = sorted(os.listdir(os.fsencode(self.mount.path) + b"/" + place))
            assert found == wanted[place], self.story()

    def story(self):
        return (
            f"ATD_HISTORY_SEED={self.seed} ATD_HISTORY_WRITES={WRITES}, accidents: {self.accidents}"
            f", {self.mount.status()['index']}"
        )

    def run(self):
        """Returns how long it took to see all, at each quiet point."""
        took = []
        for phase in range(PHASES):
            accidents = ([], self.KILLS, [], self.ALL)[phase % 4]
            self.write(WRITES // PHASES, accidents)
            if self.is_barrier and not phase % 2:
                self.check_at_once()
            with self.readers_paused() if phase % 4 == 0 else contextlib.nullcontext():
                took.append(self.check())
            if phase == FLUSHED:
                with self.readers_paused():
                    self.index.client.flushdb()
                    took.append(self.check())
        wait_until(
            lambda: self.mount.status()["index"]["state"] == "live", LIVE_SECONDS, "it is live"
        )
        wait_until(
            lambda: self.mount.status()["index"]["coherence"] == self.coherence,
            LIVE_SECONDS,
            self.coherence,
        )
        took.append(self.check())
        assert self.library_writes > 0
        assert all(reader.poll() is None for reader in self.readers)
        for process in (*self.readers, *self.writers):
            process.kill()
            process.wait(20)
        return took


def tell(capsys, history, took):
    with capsys.disabled():
        print(
            f"\n  seed {history.seed}: seen after {', '.join(f'{s:.2f}' for s in took)} s"
            f"; {history.ways} entries {history.sizes}; {len(history.accidents)} accidents; library {history.library_writes}"
            f"; {len(history.seen)} names",
            end=" ",
        )


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("consistency", ["eventual", "barrier"])
def test_history(consistency, seed, stack, tmp_path, capsys):
    with RedisServer(tmp_path / "redis") as server:
        options = f"consistency={consistency}"
        history = History(stack, server, seed, "tracking (RESP2)", options)
        tell(capsys, history, history.run())


@pytest.mark.parametrize("way", ["polling", "keyspace notifications"])
def test_history_without_tracking(way, stack, tmp_path, capsys):
    settings = ["--rename-command", "CLIENT", CLIENT_RENAMED]
    if way != "polling":
        settings += ["--notify-keyspace-events", "KA"]
    with RedisServer(tmp_path / "redis", settings=settings) as server:
        history = History(stack, server, SEEDS[0], way, client_command=CLIENT_RENAMED)
        if way != "polling":
            history.visible_seconds += FLUSH_NOTICED_SECONDS
        tell(capsys, history, history.run())

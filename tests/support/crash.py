"""A daemon that is killed while it publishes: what is under way, what the journal says, and what
must hold afterwards.
"""

import hashlib
import os
import re
import subprocess
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from bounded import SLACK, bounded, ls, run, sha256, wait_until
from index_db import cid_of
from mounting import FS_TYPE, mounts_on

# core/publish/publisher_private.h: an object that may still be named is looked at twice, so far
# apart; what could not be settled is tried again then.
ORPHAN_SECONDS = 60
RECOVER_SECONDS = ORPHAN_SECONDS + 15 * SLACK
WRITE_BYTES = 64 << 10
HANG_SECONDS = 20 * SLACK

SPOOLING, SENDING, SENT, COMMITTING = range(4)


@dataclass(frozen=True)
class Job:
    """A job file of core/publish/journal.c."""

    state: int
    size: int
    url: str
    upload: str
    seen: tuple  # (wall clock, time since the boot) in ms of the first look; empty: none yet

    @property
    def waits(self):
        """The object may be there without a name: nobody deletes it at the first look."""
        return self.state == COMMITTING or (self.state == SENDING and self.size > 0)


def parse_job(data):
    head, _, rest = data.partition(b"\n")
    words = head.split()
    lengths = [int(word) for word in words[6:11]]
    texts = []
    for length in lengths:
        texts.append(rest[:length].decode())
        rest = rest[length:]
    seen = tuple(int(word) for word in words[12:14])
    return Job(int(words[3]), int(words[4]), texts[1], texts[2], seen)


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def age_sightings(directories, seconds):
    """As if the first look at these jobs' objects had been so much earlier."""
    for directory in directories:
        for path in directory.glob("job-*"):
            head, _, rest = path.read_bytes().partition(b"\n")
            words = head.split(b" ")
            words[12:14] = [b"%d" % (int(word) - 1000 * seconds) for word in words[12:14]]
            body = b" " + b" ".join(words[3:]) + b"\n" + rest
            path.write_bytes(b"%s %s %08x" % (*words[:2], crc32c(body)) + body)


def run_dirs(state):
    return set(Path(state).glob("*/run-*"))


def jobs(directories):
    """Those in these directories of processes now."""
    found = []
    for directory in directories:
        with suppress(FileNotFoundError):
            for path in directory.iterdir():
                if re.fullmatch(r"job-\d+", path.name):
                    with suppress(FileNotFoundError):
                        found.append(parse_job(path.read_bytes()))
    return found


@dataclass
class Copy:
    """One copy into the mount, and what its maker was told."""

    source: Path
    name: str
    acknowledged: bool = False
    thread: threading.Thread | None = None
    reached: threading.Event = field(default_factory=threading.Event)

    def write(self, directory, stop_at=None, go_on=None):
        """As a program that writes: `stop_at` bytes, then it waits for `go_on`."""
        data = self.source.read_bytes()
        stop_at = len(data) if stop_at is None else min(stop_at, len(data))
        try:
            file = os.open(directory / self.name, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
            try:
                self._put(file, data, 0, stop_at)
                self.reached.set()
                if go_on is not None:
                    go_on.wait(HANG_SECONDS)
                    self._put(file, data, stop_at, len(data))
            except BaseException:
                with suppress(OSError):
                    os.close(file)
                raise
            os.close(file)
            self.acknowledged = True
        except OSError:
            pass  # the daemon is gone
        finally:
            self.reached.set()

    @staticmethod
    def _put(file, data, at, end):
        while at < end:
            at += os.write(file, data[at : min(end, at + WRITE_BYTES)])

    def start(self, directory, **how):
        self.thread = threading.Thread(
            target=self.write, args=(directory,), kwargs=how, daemon=True
        )
        self.thread.start()

    def start_program(self, *command):
        """cp or another one: its exit code is the answer."""

        def wait():
            done = subprocess.run(
                [str(word) for word in command],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                timeout=HANG_SECONDS,
            )
            self.acknowledged = done.returncode == 0

        self.thread = threading.Thread(target=wait, daemon=True)
        self.thread.start()

    def join(self):
        self.thread.join(HANG_SECONDS)
        assert not self.thread.is_alive(), f"the writer of {self.name} hangs"


class Lane:
    """One state directory, one dataset, one mount at a time that is killed again and again."""

    def __init__(self, world, dataset):
        self.world = world
        self.dataset = dataset
        self.state = world.directory / f"state-{dataset}"
        self.place = world.directory / f"mount-{dataset}"
        self.copies = []
        self.acknowledged = {}  # by name, the copy
        self.seen = set()  # (state, whether the object may be there) of jobs that a kill left
        self.mount = None
        self.recovered = 0
        self.remount()

    @property
    def options(self):
        if self.world.kind == "disk":
            return f"state_dir={self.state}"
        return {"state_dir": self.state}

    def remount(self):
        if self.world.kind == "disk":
            self.mount = self.world.stack.mount(
                self.place, home=self.world.home, options=f"state_dir={self.state}"
            )
        else:
            self.mount = self.world.remote.mount(
                self.place, state_dir=self.state, cache_dir=self.world.directory / "cache"
            )

    @property
    def directory(self):
        path = self.mount / "datasets" / self.dataset
        if not bounded(path.exists):
            bounded(path.mkdir)
        return path

    def copy(self, name, source):
        copy = Copy(source, name)
        self.copies.append(copy)
        return copy

    # -------- the kill, and after it

    def kill(self):
        """Returns the directories that the dead process left, and notes its jobs."""
        self.mount.kill()
        for copy in self.copies:
            if copy.thread:
                copy.join()
        left = run_dirs(self.state)
        self.seen |= {(job.state, job.size > 0, bool(job.upload)) for job in jobs(left)}
        return left

    def wait_recovered(self, left):
        """Recovery has been through what is left: only what has to wait its minute is there."""

        def done():
            here = {directory for directory in left if directory.exists()}
            return all(
                any(job.waits for job in jobs([directory])) and not spools(directory)
                for directory in here
            )

        wait_until(done, 15 * SLACK, f"{self.dataset} is recovered, but {left}")

    def check(self):
        """Copies since the last check are whole or not there, the acknowledged ones there."""
        entry = self.world.entry(self.dataset)
        urls = entry["data_urls"] if entry else []
        if entry:
            assert entry["cid"] == entry["key"] == cid_of(entry["schema_ref"], urls)
            assert self.world.label(self.dataset)["cid"] == entry["cid"]
            assert entry["schema_ref"].rsplit("/", 1)[1] in self.world.schemas()
            assert urls == sorted(urls) and len(set(urls)) == len(urls)
        by_name = {url.rsplit("/", 1)[1]: url for url in urls}
        if entry:  # the mount shows what the index says
            shown = {name for name in ls(self.directory) if name.endswith(".tar")}
            assert shown == set(by_name), shown ^ set(by_name)
        for copy in self.copies:
            if copy.acknowledged:
                assert copy.name in by_name, f"{copy.name} was acknowledged and is lost"
                self.acknowledged[copy.name] = copy
            if copy.name in by_name:
                self.check_whole(copy, entry, by_name[copy.name])
        self.copies.clear()
        assert set(self.acknowledged) <= set(by_name)
        return by_name

    def check_whole(self, copy, entry, url):
        digest = hashlib.sha256(copy.source.read_bytes()).hexdigest()
        assert hashlib.sha256(self.world.object(url)).hexdigest() == digest, url
        assert sha256(self.directory / copy.name) == digest
        assert entry["metadata"]["checksums"][url] == digest
        record = entry["metadata"]["atdatafs"]["shards"][url]
        assert record["size"] == copy.source.stat().st_size

    def strays(self):
        """What is left of this lane that should not be."""
        named = {url for entry in self.world.entries() for url in entry["data_urls"]}
        mine = f"/{self.dataset}/"
        objects = [url for url in self.world.objects() - named if mine in url]
        uploads = [upload for upload in self.world.uploads() if mine in upload]
        alive = {Path(path).parent for path in spools(self.state)}
        dead = [path for path in run_dirs(self.state) if path not in alive and any(path.iterdir())]
        return objects + uploads + spools(self.state) + dead

    def assert_clean(self, seconds=RECOVER_SECONDS):
        try:
            wait_until(lambda: not self.strays(), seconds, "nothing is left")
        except AssertionError:
            raise AssertionError(f"left: {self.strays()}") from None


def spools(state):
    return [str(path) for path in Path(state).rglob("spool-*")]


def is_mounted(path):
    return FS_TYPE in mounts_on(path)


def cp(source, target):
    return run("cp", source, target, check=False)

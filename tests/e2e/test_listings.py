"""What the kernel keeps of a directory: it is never asked again by itself, so that whatever changes
without its doing has to be told, and what it was told late must not stay."""

import errno
import os
import sqlite3
import threading
import time

import pytest

from bounded import bounded, ls, run, wait_until
from publish_bench import RECORDS, refusal
from redis_index import RedisIndex

SEES_SECONDS = 20
SPOOL_SECONDS = 20
LARGE = 300  # listings of more names are kept here (listing.h)
ROUNDS = 100
DELETIONS = 20
GRACE_SECONDS = 3


@pytest.fixture
def index(redis_server):
    index = RedisIndex(redis_server)
    index.schema()
    return index


@pytest.fixture
def team(stack, redis_server, index):
    """A mount of an index that others write."""
    return stack.mount(index=redis_server.url)


def shows(directory, *names):
    wait_until(lambda: ls(directory) == sorted(names), SEES_SECONDS, f"{names}")


def test_a_schema_that_comes_after_its_datasets(team, index):
    reference = "atdata://local/schema/Late@1.0.0"
    cid = index.entry("d", ["/nowhere/d.tar"], schema_ref=reference)
    places = [team / "datasets" / "d", team / "by-cid" / cid]
    wait_until(lambda: "d" in ls(team / "datasets"), SEES_SECONDS, "it is there")
    for place in places:
        shows(place, "entry.json", "metadata.json")
    index.schema("Late", record={"name": "Late", "version": "1.0.0", "fields": []})
    wait_until(lambda: "Late@1.0.0.json" in ls(team / "schemas"), SEES_SECONDS, "it is published")
    for place in places:
        shows(place, *RECORDS)
    index.client.delete("LocalSchema:Late@1.0.0")
    shows(team / "schemas", *(f"Plain@1.0.0.{form}" for form in ("json", "jsonschema", "py")))
    for place in places:
        shows(place, "entry.json", "metadata.json")


def test_a_label_that_comes_before_its_entry(team, index):
    cid = index.entry("d", ["/nowhere/d.tar"])
    index.client.delete(f"LocalDatasetEntry:{cid}")
    index.label("d", cid, "1.0.0")
    index.entry("other", ["/nowhere/other.tar"])
    shows(team / "datasets", "other")
    before = ls(team / "labels")
    index.entry("d", ["/nowhere/d.tar"])
    shows(team / "datasets", "d", "other")
    shows(team / "labels", "d@1.0.0")
    assert bounded(os.readlink, team / "labels" / "d@1.0.0")
    index.client.delete(f"LocalDatasetEntry:{cid}")
    shows(team / "datasets", "other")
    shows(team / "labels", *before)


def test_a_dataset_that_means_another_entry(team, index):
    first = index.entry("d", ["/nowhere/a.tar"])
    second = index.entry("d", ["/nowhere/b.tar"], schema_ref="atdata://local/schema/None@1.0.0")
    index.label("d", first)
    wait_until(lambda: "d" in ls(team / "datasets"), SEES_SECONDS, "it is there")
    shows(team / "datasets" / "d", *RECORDS)
    index.label("d", second)
    shows(team / "datasets" / "d", "entry.json", "metadata.json")


def test_a_listing_that_is_read_while_the_index_moves(team, index):
    """Whichever of the answer and the notification comes first, the last state shows in the end."""
    index.entry("d", ["/nowhere/d.tar"])
    place = team / "datasets"
    stop = threading.Event()

    def look():
        while not stop.is_set():
            os.listdir(place)

    lookers = [threading.Thread(target=look, daemon=True) for _ in range(2)]
    for looker in lookers:
        looker.start()
    try:
        for turn in range(ROUNDS):
            cid = index.entry(f"turn-{turn}", [f"/nowhere/{turn}.tar"])
            shows(place, "d", f"turn-{turn}")
            index.client.delete(f"LocalDatasetEntry:{cid}")
    finally:
        stop.set()
        for looker in lookers:
            looker.join()


def test_a_directory_that_was_renamed_under_somebody(disk_world):
    """His listing is of the inode that had the old name, and nobody tells of that any more."""
    mount = disk_world.mount()
    other = disk_world.mount(disk_world.directory / "other")
    directory = mount / "datasets" / "d"
    bounded(os.mkdir, directory)
    run("cp", disk_world.shard("a.tar"), directory)
    here = bounded(os.open, directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        assert ls(here) == sorted([*RECORDS, "a.tar"])
        bounded(os.rename, directory, directory.with_name("e"))
        assert ls(here) == sorted([*RECORDS, "a.tar"])
        wait_until(lambda: "e" in ls(other / "datasets"), SEES_SECONDS, "the other has seen it")
        ls(here)
        run("cp", disk_world.shard("b.tar", seed=1), other / "datasets" / "e")
        shows(directory.with_name("e"), *RECORDS, "a.tar", "b.tar")
        shows(here, *RECORDS, "a.tar", "b.tar")
    finally:
        os.close(here)


def test_what_was_listed_is_let_go(disk_world):
    """A file that was unlinked takes its spool file with it, though its directory was listed."""
    mount = disk_world.mount()
    directory = mount / "datasets" / "d"
    bounded(os.mkdir, directory)
    run("cp", disk_world.shard("a.tar"), directory)
    names = [f".n{number:03d}.swp" for number in range(LARGE)]
    for name in names:
        (directory / name).write_bytes(b"x" * 1000)
    assert ls(directory) == sorted([*RECORDS, "a.tar", *names])
    assert disk_world.spools()
    for name in names:
        bounded(os.unlink, directory / name)
    shows(directory, *RECORDS, "a.tar")
    wait_until(lambda: not disk_world.spools(), SPOOL_SECONDS, "no spool file is left")


class Deleter(threading.Thread):
    """Somebody who deletes a dataset as soon as it is in the index."""

    def __init__(self, path, name):
        super().__init__(daemon=True)
        self.path = path
        self.dataset = name
        self.done = False

    def run(self):
        with sqlite3.connect(self.path, timeout=30, isolation_level=None) as db:
            gone = 0
            while not gone and not self.done:
                if db.execute(
                    "SELECT 1 FROM dataset_entries WHERE name = ?", (self.dataset,)
                ).fetchone():
                    gone = db.execute(
                        "DELETE FROM dataset_entries WHERE name = ?", (self.dataset,)
                    ).rowcount


def test_rm_of_what_somebody_else_deleted_at_once(disk_world):
    """It is published, and perhaps no generation ever had it."""
    mount = disk_world.mount(**disk_world.flags("allow_delete"))
    directory = mount / "datasets" / "d"
    bounded(os.mkdir, directory)
    run("cp", disk_world.shard("a.tar"), directory)
    source = disk_world.shard("b.tar", seed=1)
    for turn in range(DELETIONS):
        other = directory.with_name(f"e{turn}")
        bounded(os.mkdir, other)
        deleter = Deleter(disk_world.path, other.name)
        deleter.start()
        run("cp", source, other)
        run("rm", "-f", other / source.name)
        deleter.done = True
        deleter.join()
        assert not bounded(os.path.exists, other / source.name)
    assert ls(directory) == sorted([*RECORDS, "a.tar"]), "it still serves"


def leaving(world):
    entry = world.entry("d")
    records = entry["metadata"]["atdatafs"]["shards"] if entry else {}
    return [url for url, record in records.items() if record.get("leaving")]


def test_what_is_being_deleted_when_the_mount_ends(disk_world):
    """The grace is over, and it waits for the index."""
    mount = disk_world.mount(**disk_world.flags("allow_delete"))
    directory = mount / "datasets" / "d"
    bounded(os.mkdir, directory)
    names = [f"{letter}.tar" for letter in "abcdef"]
    for seed, name in enumerate(names):
        run("cp", disk_world.shard(name, seed=seed), directory)
    run("rm", *(directory / name for name in names[1:]))
    wait_until(lambda: len(leaving(disk_world)) == len(names) - 1, GRACE_SECONDS, "marked")
    with disk_world.locked():
        time.sleep(GRACE_SECONDS + 1)
        ending = threading.Thread(target=mount.unmount)
        ending.start()
        time.sleep(1)
    ending.join()
    urls = disk_world.entry("d")["data_urls"]
    assert [url.rsplit("/", 1)[1] for url in urls] == names[:1]

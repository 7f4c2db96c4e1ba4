"""Listings of many names while the index moves: what is there all the time shows exactly once."""

import os
import threading
import time
from collections import Counter

import pytest

from bounded import SLACK, bounded, ls, wait_until
from redis_index import RedisIndex

LASTING = 3000  # several READDIRs
COMING = 40
LISTINGS = 30
SEES_SECONDS = 30
STATE_S = 2.1  # so long a reader is given the rest of the state that he began with (listing.c)
DEADLINE_S = 60 * SLACK


class Moving:
    """A mount of names that last, in an index where others come and go around them."""

    def __init__(self, stack, server):
        self.index = RedisIndex(server)
        self.index.schema()
        self.lasting = {f"lasting-{i:05d}" for i in range(LASTING)}
        self.cids = {name: self.add(name) for name in self.lasting}
        self.mount = stack.mount(index=server.url)
        self.turn = 0

    def add(self, name):
        return self.index.entry(name, [f"/nowhere/{name}.tar"])

    def move(self):
        """Names that sort before, between and after the others; those of the last time go."""
        names = [f"{'almz'[i % 4]}-{self.turn}-{i}" for i in range(COMING)]
        names += [f"lasting-{i:05d}-{self.turn}" for i in range(0, LASTING, LASTING // COMING)]
        came = [self.add(name) for name in names]
        if self.turn:
            self.index.client.delete(*(f"LocalDatasetEntry:{cid}" for cid in self.came))
        self.came = came
        self.names = set(names)
        self.turn += 1

    def generation(self):
        return self.mount.status()["index"]["generation"]

    def assert_whole(self, names):
        counts = Counter(names)
        assert not [name for name, n in counts.items() if n > 1]
        assert not self.lasting - counts.keys()
        assert not [name for name in counts.keys() - self.lasting if "-" not in name]


@pytest.fixture
def moving(stack, redis_server):
    return Moving(stack, redis_server)


@pytest.mark.parametrize("state_ends", [False, True], ids=["at once", "from another state"])
def test_a_listing_that_is_read_in_pieces_is_whole(moving, state_ends):
    place = moving.mount / "datasets"
    for begun in (1, LASTING // 2):
        with os.scandir(place) as listing:
            names = [next(listing).name for _ in range(begun)]
            before = moving.generation()
            moving.move()
            wait_until(lambda: moving.generation() > before, SEES_SECONDS, "a new generation")
            if state_ends:
                time.sleep(STATE_S)
            names += [entry.name for entry in listing]
        moving.assert_whole(names)
        expected = moving.lasting | moving.names
        wait_until(lambda: set(ls(place)) == expected, SEES_SECONDS, "the new state is listed")
    moving.assert_whole(ls(place))


def test_listings_while_names_come_and_go(moving):
    place = moving.mount / "datasets"
    first = moving.generation()
    stop = threading.Event()

    def move():
        while not stop.is_set():
            moving.move()

    mover = threading.Thread(target=move)
    mover.start()
    try:
        listed = 0

        def list_once():
            nonlocal listed
            moving.assert_whole(ls(place))
            listed += 1
            return listed >= LISTINGS and moving.generation() >= first + 3

        wait_until(list_once, DEADLINE_S, "listings of several generations")
    finally:
        stop.set()
        mover.join()
    expected = moving.lasting | moving.names
    wait_until(lambda: set(ls(place)) == expected, SEES_SECONDS, "the last state is listed")


def test_names_that_were_only_listed_go_and_come_back(moving):
    """Of directories that nobody looked into the kernel is told less: it must be enough."""
    place = moving.mount / "datasets"
    moving.assert_whole(entry.name for entry in os.scandir(place) if entry.stat())
    inside = place / "lasting-00001"
    assert "entry.json" in ls(inside)
    cid = moving.mount.json("datasets", "lasting-00001", "entry.json")["cid"]
    assert cid == moving.cids["lasting-00001"]
    size = os.stat(inside / "entry.json").st_size
    other = moving.index.entry("lasting-00001", ["/nowhere/other.tar"])
    moving.index.client.delete(f"LocalDatasetEntry:{cid}")
    wait_until(
        lambda: bounded(os.stat, inside / "entry.json").st_size != size,
        SEES_SECONDS,
        "what was seen in it is looked at again",
    )
    wait_until(
        lambda: moving.mount.json("datasets", "lasting-00001", "entry.json")["cid"] == other,
        SEES_SECONDS,
        "what was read in it is read again",
    )
    before = moving.generation()
    moving.index.client.delete(f"LocalDatasetEntry:{moving.cids['lasting-00002']}")
    second = moving.index.entry("lasting-00002", ["/nowhere/second.tar"])
    wait_until(lambda: moving.generation() > before, SEES_SECONDS, "a new generation")
    wait_until(
        lambda: "lasting-00002" in ls(place)
        and moving.mount.json("datasets", "lasting-00002", "entry.json")["cid"] == second,
        SEES_SECONDS,
        "what was never looked into is the new state",
    )
    gone = {f"lasting-{i:05d}" for i in range(0, LASTING, 2)}
    moving.index.client.delete(
        f"LocalDatasetEntry:{second}", *(f"LocalDatasetEntry:{moving.cids[n]}" for n in gone)
    )
    wait_until(lambda: not gone & set(ls(place)), SEES_SECONDS, "they are gone")
    # A listing is of the new generation before the kernel has been told of each name that went.
    wait_until(
        lambda: not bounded(os.path.exists, place / "lasting-00004"), SEES_SECONDS, "it is gone"
    )
    moving.add("lasting-00004")
    wait_until(lambda: bounded(os.path.exists, place / "lasting-00004"), SEES_SECONDS, "it is back")


def test_a_repeated_ls_sends_nothing(moving):
    """Not even an OPENDIR; and after a change it shows that."""
    place = moving.mount / "datasets"
    expected = moving.lasting

    def requests():
        metrics = moving.mount.metrics()
        return [metrics[f"{kind}_requests"] for kind in ("opendir", "readdir", "lookup", "getattr")]

    def listed():
        """The metrics themselves take some: as many as when nothing happens in between."""
        sent = [requests() for _ in range(2)]
        assert set(ls(place)) == expected
        sent.append(requests())
        return all(c - b == b - a for a, b, c in zip(*sent, strict=True))

    wait_until(listed, SEES_SECONDS, "the listing is kept")
    moving.move()
    wait_until(
        lambda: set(ls(place)) == moving.lasting | moving.names, SEES_SECONDS, "the new state"
    )
    expected = moving.lasting | moving.names
    wait_until(listed, SEES_SECONDS, "the new listing is kept")

"""What tests of publishing have in common when something fails meanwhile."""

import hashlib

from attempts import attempt, make_datasets
from bounded import SLACK, wait_until

SMALL = {"count": 20, "bytes_each": 2000}
LARGE = {"count": 220, "bytes_each": 100_000}  # over one part of 16 MiB
LEFT_SECONDS = 90  # what cannot be taken back or settled is tried again every minute
FORGIVEN_SECONDS = 15 + SLACK  # after a failure creates are refused for a moment


def mount_team(world, **options):
    """A mount that knows its bucket: what it asks about that is asked."""
    mount = world.mount(options=options)
    make_datasets(mount, "first")
    attempt(mount, world.shard("first.tar"), "first").must_work()
    world.remote.forget()
    return mount


def settled(world, sources=None):
    """What the index names is there, and nothing else is, nor an upload or a spool file. With
    `sources` every object but those of the dataset "first" has the bytes of one of them."""

    def wrong():
        named = {url for entry in world.entries() for url in entry["data_urls"]}
        objects = world.objects()
        missing = [f"missing: {url}" for url in named - objects]
        return missing + sorted(objects - named) + world.uploads() + world.spools()

    try:
        wait_until(lambda: not wrong(), LEFT_SECONDS, "index and store agree")
    except AssertionError:
        raise AssertionError(f"wrong: {wrong()}") from None
    if sources is None:
        return
    wanted = {hashlib.sha256(path.read_bytes()).digest() for path in sources}
    for url in world.objects():
        if "/first/" not in url:
            assert hashlib.sha256(world.object(url)).digest() in wanted, url


def again(mount, one):
    """The same copy works now."""

    def works():
        second = attempt(mount, one.source, one.dataset, one.tool).check()
        assert second.ok or "cannot create" in second.output, second.reason
        return second.ok

    wait_until(works, FORGIVEN_SECONDS, f"{one.dataset} is published")


def first(world):
    """The source of the first shard, which all tests of an index begin with."""
    return world.sources / "0" / "first.tar"


def goes_on(world, mount, number=9):
    """The next copy works, as soon as the index is known to be back; returns its source."""
    path = world.shard(f"next-{number}.tar", seed=number)
    wait_until(lambda: attempt(mount, path, "mnist").ok, FORGIVEN_SECONDS, "it goes on")
    return path


def set_rules(world, faults, kinds):
    """A rule for each dataset, which has the fault's name."""
    for name, rule in faults.items():
        world.remote.proxy.rule(**rule, kinds=kinds, key=f"/{name}/")

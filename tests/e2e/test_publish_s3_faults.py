"""A store that fails while something is published: the copy is whole and right, or it failed, said
why, and left nothing. Each step of publishing meets each fault; all faults of a step at once, every
copy in a dataset of its own."""

import contextlib
import errno
import hashlib
import os
import signal
import subprocess
import threading
import time

import pytest

from attempts import Attempt, attempt, make_datasets, together
from bounded import SANITIZED, SLACK, bounded, ls, read, run, sha256, wait_until
from servers import wait_gone

TIMEOUT_S = 4
# What a copy may take whose store stands still: the stream's parts, then the whole again.
END_SECONDS = 2 * TIMEOUT_S + 4 + SLACK
FORGIVEN_SECONDS = 15  # after a failure creates are refused for a moment
LEFT_SECONDS = 90  # what cannot be taken back is tried again every minute
SMALL = {"count": 20, "bytes_each": 2000}
LARGE = {"count": 220, "bytes_each": 100_000}  # over one part of 16 MiB

# name: rule. What happens a few times only is survived; what lasts must be told.
PASSING = {
    "busy": {"fault": "status", "status": 503, "times": 2},
    "broken": {"fault": "status", "status": 500, "times": 1},
    "refused": {"fault": "refuse", "times": 1},
    "cut": {"fault": "cut", "times": 1, "at": 1000},
    "garbled": {"fault": "garbage", "times": 1},
    "lost": {"fault": "lost_reply", "times": 1},
}
LASTING = {
    "down": {"fault": "status", "status": 503},
    "denied": {"fault": "status", "status": 403},
    "unreachable": {"fault": "refuse"},
    "nonsense": {"fault": "garbage"},
    "unheard": {"fault": "lost_reply"},
    "silent": {"fault": "silent"},
    "deaf": {"fault": "deaf", "at": 100},
    "inside": {"fault": "xml200"},
}
STEPS = {
    "put": (SMALL, ("PUT",)),
    "head_small": (SMALL, ("HEAD",)),
    "create": (LARGE, ("CREATE",)),
    "part": (LARGE, ("PART",)),
    "complete": (LARGE, ("COMPLETE",)),
    "head_large": (LARGE, ("HEAD",)),
}


@pytest.fixture
def team(team_world):
    """With a mount that knows its bucket: what it asks about that is asked."""
    mount = team_world.mount(options={"timeout": TIMEOUT_S})
    make_datasets(mount, "first")
    assert attempt(mount, team_world.shard("first.tar"), "first").ok
    team_world.remote.forget()
    return team_world, mount


def settled(world, sources):
    """Every object is a shard that was sent, under its own name, and nothing else is left."""
    wanted = {hashlib.sha256(path.read_bytes()).digest() for path in sources}

    def left():
        named = {url for entry in world.entries() for url in entry["data_urls"]}
        return sorted(world.objects() - named) + world.uploads() + world.spools()

    try:
        wait_until(lambda: not left(), LEFT_SECONDS, "nothing is left")
    except AssertionError:
        raise AssertionError(f"left: {left()}") from None
    for url in world.objects():
        if "/first/" not in url:
            assert hashlib.sha256(world.object(url)).digest() in wanted, url


def again(mount, one):
    """The same copy works now."""

    def works():
        second = attempt(mount, one.source, one.dataset).check()
        assert second.ok or "cannot create" in second.output, second.reason
        return second.ok

    wait_until(works, FORGIVEN_SECONDS, f"{one.dataset} is published")


def attempts_of(world, mount, faults, shape):
    make_datasets(mount, *faults)
    return {
        name: Attempt(mount, world.shard("data.tar", **shape, seed=number + 1), name)
        for number, name in enumerate(faults)
    }


def set_rules(world, faults, kinds):
    for name, rule in faults.items():
        world.remote.proxy.rule(**rule, kinds=kinds, key=f"/{name}/")


@pytest.mark.parametrize("step", STEPS)
def test_what_passes_is_survived(team, step):
    world, mount = team
    shape, kinds = STEPS[step]
    made = attempts_of(world, mount, PASSING, shape)
    set_rules(world, PASSING, kinds)
    together(made.values())
    hit = {request.key.split("/")[1] for request in world.remote.proxy.requests() if request.fault}
    assert hit == set(PASSING)
    for name, one in made.items():
        one.check()
        one.must_work()
        world.assert_published(name, one.source)
    settled(world, [one.source for one in made.values()])


@pytest.mark.parametrize("step", STEPS)
def test_what_lasts_is_told(team, step):
    world, mount = team
    shape, kinds = STEPS[step]
    made = attempts_of(world, mount, LASTING, shape)
    set_rules(world, LASTING, kinds)
    together(made.values())
    for name, one in made.items():
        print(f"{name}: {one.seconds:.1f} s {one.output!r}")
        one.check()
        print("  ", "" if one.ok else one.reason)
        assert one.seconds < END_SECONDS, (name, one.seconds)
        if not one.ok:
            assert world.entry(name) is None, name
    # Who may only write cannot look afterwards: what the reply said is enough then.
    assert made["denied"].ok == step.startswith("head")
    # It goes on, and what failed is not in the way.
    world.remote.proxy.behave()
    for name, one in made.items():
        if not one.ok:
            again(mount, one)
        world.assert_published(name, one.source)
        assert sha256(one.path) == hashlib.sha256(one.data).hexdigest()
        assert f"{one.source.name}.error.txt" not in ls(one.directory)
    settled(world, [one.source for one in made.values()])

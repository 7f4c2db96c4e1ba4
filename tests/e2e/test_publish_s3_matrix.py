"""Each step of publishing to S3 meets each fault: the copy is whole and right, or it failed, said why,
and left nothing. All faults of a step at once, every copy in a dataset of its own."""

import hashlib

import pytest

from attempts import Attempt, make_datasets, together
from bounded import SLACK, ls, sha256
from publish_faults import LARGE, SMALL, again, mount_team, set_rules, settled

TIMEOUT_S = 4
# A store that stands still: the stream's parts, then the whole again; and as long once more for
# what waits for its turn among others that fail.
CROWD_SECONDS = 4 * TIMEOUT_S + 8 + 2 * SLACK

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
    """A world and a mount of it."""
    return team_world, mount_team(team_world, timeout=TIMEOUT_S)


def attempts_of(world, mount, faults, shape):
    make_datasets(mount, *faults)
    return {
        name: Attempt(mount, world.shard("data.tar", **shape, seed=number + 1), name)
        for number, name in enumerate(faults)
    }


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
        assert one.seconds < CROWD_SECONDS, (name, one.seconds)
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

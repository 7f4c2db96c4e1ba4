"""A store that fails in one way while something is published, and whom that holds. What every step
does at every fault is in test_publish_s3_matrix.py."""

import contextlib
import os
import signal
import time

import pytest

from attempts import Attempt, attempt, make_datasets, together
from bounded import SLACK, bounded, ls, read, run, sha256, wait_until
from mounting import LAZY_UNMOUNT
from publish_faults import LARGE, SMALL, again, mount_team, set_rules, settled

TIMEOUT_S = 4
END_SECONDS = 2 * TIMEOUT_S + 4 + SLACK  # the stream's parts, then the whole again


@pytest.fixture
def team(team_world):
    """A world and a mount of it."""
    return team_world, mount_team(team_world, timeout=TIMEOUT_S)


def test_a_reply_that_comes_slowly_is_waited_for(team):
    """COMPLETE's reply begins with blanks while the server still works, for longer than a timeout."""
    world, mount = team
    make_datasets(mount, "slow")
    world.remote.proxy.rule("blanks", kinds=("COMPLETE",), seconds=TIMEOUT_S + 2)
    path = world.shard("large.tar", **LARGE, seed=1)
    one = attempt(mount, path, "slow").must_work()
    assert one.seconds > TIMEOUT_S
    world.assert_published("slow", path)
    settled(world, [path])


CONFLICT = {"fault": "status", "status": 409, "code": "ConditionalRequestConflict"}


def test_a_conflict_at_complete_is_sent_anew(team):
    world, mount = team
    make_datasets(mount, "conflict")
    world.remote.proxy.rule(**CONFLICT, kinds=("COMPLETE",), times=1)
    path = world.shard("large.tar", **LARGE, seed=1)
    attempt(mount, path, "conflict").must_work()
    assert len(world.remote.proxy.requests("CREATE")) == 2
    world.assert_published("conflict", path)
    settled(world, [path])


def test_a_name_that_was_taken_meanwhile_is_not_written_over(team):
    world, mount = team
    make_datasets(mount, "taken")
    theirs = b"somebody else's"
    for name, shape in (("small.tar", SMALL), ("large.tar", LARGE)):
        path = world.shard(name, **shape, seed=1)
        world.minio.put(world.bucket, f"data/taken/{name}", theirs)
        attempt(mount, path, "taken").must_work()
    for name in ("small.tar", "large.tar"):
        assert world.object(f"{world.prefix}/taken/{name}") == theirs
        world.minio.s3.delete_object(Bucket=world.bucket, Key=f"data/taken/{name}")
    paths = [world.sources / "1" / name for name in ("small.tar", "large.tar")]
    world.assert_published("taken", *paths)
    settled(world, paths)


@pytest.mark.parametrize("status, code", [(501, "NotImplemented"), (400, "InvalidRequest")])
def test_checksums_that_are_refused_are_done_without(team_world, status, code):
    proxy = team_world.remote.proxy
    for header in ("x-amz-checksum", "x-amz-sdk-checksum"):
        kinds = ("PUT", "CREATE", "PART")
        proxy.rule("status", kinds=kinds, header=header, status=status, code=code)
    mount = team_world.mount(options={"timeout": TIMEOUT_S})
    make_datasets(mount, "plain")
    paths = [team_world.shard(name, **shape) for name, shape in (("s.tar", SMALL), ("l.tar", LARGE))]
    for path in paths:
        attempt(mount, path, "plain").must_work()
    team_world.assert_published("plain", *paths)
    refused = [request for request in proxy.requests() if request.fault]
    assert 1 <= len(refused) <= 2, refused  # it is remembered
    settled(team_world, paths)


TAKING_BACK = {
    "busy": {"fault": "status", "status": 503, "times": 3},
    "denied": {"fault": "status", "status": 403, "times": 1},
    "lost": {"fault": "lost_reply", "times": 1},
    "silent": {"fault": "silent", "times": 1},
    "nonsense": {"fault": "garbage", "times": 2},
}


def test_what_cannot_be_taken_back_at_once_is_later(team):
    """An incomplete tar of which parts were sent: its upload is aborted, in the end."""
    world, mount = team
    whole = world.shard("large.tar", **LARGE, seed=1).read_bytes()
    cut = world.sources / "cut.tar"
    cut.write_bytes(whole[: len(whole) - 200_000])
    make_datasets(mount, *TAKING_BACK)
    set_rules(world, TAKING_BACK, ("ABORT",))
    made = [Attempt(mount, cut, name) for name in TAKING_BACK]
    for one in together(made):
        one.must_fail(errno="Invalid argument")
        assert one.seconds < END_SECONDS
    wait_until(  # not before the answers, which nobody makes wait for it
        lambda: len({r.key for r in world.remote.proxy.requests() if r.fault}) == len(TAKING_BACK),
        END_SECONDS,
        "each was asked to be taken back",
    )
    settled(world, [])
    assert all(world.entry(name) is None for name in TAKING_BACK)


def test_an_object_that_is_not_wanted_is_deleted_in_the_end(team):
    """The index refuses what is in the store already."""
    world, mount = team
    make_datasets(mount, *TAKING_BACK)
    set_rules(world, TAKING_BACK, ("DELETE",))
    made = [Attempt(mount, world.shard("small.tar", **SMALL, seed=1), n) for n in TAKING_BACK]
    world.client.config_set("maxmemory", "1")
    try:
        for one in together(made):
            one.must_fail("memory")
    finally:
        world.client.config_set("maxmemory", "0")
    settled(world, [])


# ---------------------------------------------------------------- nobody else


def latency(call):
    began = time.monotonic()
    bounded(call)
    return time.monotonic() - began


def test_a_dead_store_holds_nobody_else(team):
    world, mount = team
    make_datasets(mount, "dead", "other")
    first = mount / "datasets" / "first" / "first.tar"
    wanted = sha256(first)
    large = world.shard("large.tar", **LARGE, seed=1)
    with world.minio.paused():
        one = Attempt(mount, large, "dead").start()
        wait_until(lambda: world.remote.proxy.requests(), 20, "it is sent")
        slowest = 0.0
        while one.done is None:
            for call in (
                lambda: ls(mount / "datasets"),
                lambda: ls(mount / "datasets" / "dead"),
                lambda: os.stat(one.path) if one.done is None and one.path.exists() else None,
                lambda: sha256(first) == wanted or pytest.fail("other bytes"),
                lambda: (mount / "datasets" / "other" / ".scratch.swp").write_bytes(b"x"),
                lambda: read(mount / "datasets" / "first" / "entry.json"),
            ):
                with contextlib.suppress(FileNotFoundError):  # it ends meanwhile
                    slowest = max(slowest, latency(call))
            time.sleep(0.05)
        assert slowest < 0.5 * SLACK, slowest
        (mount / "datasets" / "other" / ".scratch.swp").unlink()
        one.must_fail()
        assert one.seconds < END_SECONDS
    again(mount, one)
    world.assert_published("dead", large)
    settled(world, [large])


@pytest.mark.parametrize("step", ["CREATE", "PART", "COMPLETE", "PUT"])
def test_a_killed_copy_ends_at_once(team_world, step):
    """Also while the store says nothing: who waits for a verdict can be killed."""
    world = team_world
    mount = mount_team(world, timeout=60)
    make_datasets(mount, "killed")
    world.remote.proxy.rule("silent", kinds=(step,), key="/killed/")
    shape = SMALL if step == "PUT" else LARGE
    one = Attempt(mount, world.shard("data.tar", **shape, seed=1), "killed").start()
    wait_until(lambda: world.remote.proxy.requests(step, "data/killed/data.tar"), 20, "it is sent")
    wait_until(lambda: one.is_waiting(), 20, "it waits for the verdict")
    began = time.monotonic()
    one.process.send_signal(signal.SIGKILL)
    one.wait(5 + SLACK)
    assert time.monotonic() - began < 2 * SLACK
    assert not one.ok
    world.remote.proxy.behave()
    wait_until(lambda: not one.path.exists(), 10, "the rest is gone")
    assert world.entry("killed") is None
    path = world.shard("data.tar", **shape, seed=2)
    again(mount, Attempt(mount, path, "killed"))
    world.assert_published("killed", path)
    settled(world, [path])


def test_a_killed_writer_who_is_held_ends_at_once(team_world):
    """Who is too far ahead of the store waits in write(2)."""
    world = team_world
    mount = mount_team(world, timeout=60)
    make_datasets(mount, "killed")
    world.remote.proxy.rule("silent", kinds=("PART",), key="/killed/")
    path = world.shard("data.tar", count=150, bytes_each=1_000_000, seed=1)
    one = Attempt(mount, path, "killed").start()
    seen = []

    def stands_still():
        seen.append(os.stat(one.path).st_size if one.path.exists() else 0)
        return seen[-1] > 64 << 20 and seen[-200:-1] == [seen[-1]] * 199

    wait_until(stands_still, 60, "the writer is held")
    assert seen[-1] < path.stat().st_size
    began = time.monotonic()
    one.process.send_signal(signal.SIGKILL)
    one.wait(5 + SLACK)
    assert time.monotonic() - began < 2 * SLACK
    world.remote.proxy.behave()
    wait_until(lambda: not one.path.exists(), 10, "the rest is gone")
    settled(world, [])


def test_a_signal_after_the_unmount_does_not_cut_the_end_short(team_world):
    """systemd unmounts, then tells the daemon. What was sent is being taken back, which takes as
    long as the store does."""
    world = team_world
    mount = mount_team(world, timeout=60)
    make_datasets(mount, "left")
    pid = mount.pid
    world.remote.proxy.rule("silent", kinds=("ABORT",), key="/left/")
    with open(mount / "datasets" / "left" / "data.tar", "wb") as file:
        file.write(world.shard("data.tar", **LARGE, seed=1).read_bytes()[: 20 << 20])
        wait_until(lambda: world.remote.proxy.requests("PART", "data/left/data.tar"), 20, "sent")
        run(*LAZY_UNMOUNT, mount.path)
        with contextlib.suppress(OSError):
            file.close()
    wait_until(lambda: world.remote.proxy.requests("ABORT", "data/left/data.tar"), 20, "taken back")
    os.kill(pid, signal.SIGTERM)
    mount.wait_exit()
    world.remote.proxy.behave()
    mount_team_again = world.mount()
    settled(world, [])
    mount_team_again.unmount()


def test_mv_keeps_its_source_when_it_fails(team):
    world, mount = team
    make_datasets(mount, "moved")
    world.remote.proxy.rule("status", kinds=("PUT",), key="/moved/", status=403)
    path = world.shard("small.tar", **SMALL, seed=1)
    data = path.read_bytes()
    attempt(mount, path, "moved", ("mv",)).must_fail("AccessDenied")
    world.remote.proxy.behave()
    again(mount, Attempt(mount, path, "moved", ("mv",)))
    assert not path.exists()
    path.write_bytes(data)
    world.assert_published("moved", path)
    settled(world, [path])

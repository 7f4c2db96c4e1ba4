"""Endpoints that are strict or careless where S3 is not: the same copies arrive there, whole, and
never over anything that is there."""

import hashlib
import re
import uuid

import pytest

from attempts import Attempt, attempt, make_datasets, together
from bounded import ls, sha256, wait_until
from s3_strict import Object, StrictS3
from world import TeamWorld

TIMEOUT_S = 5
SMALL = {"count": 20, "bytes_each": 2000}
LARGE = {"count": 380, "bytes_each": 100_000}  # three parts of 16 MiB


class StrictWorld(TeamWorld):
    """A team whose objects are in a StrictS3."""

    def __init__(self, stack, redis_server, minio, proxy, s3):
        super().__init__(stack, redis_server, minio, proxy)
        self.s3 = s3
        s3.make_bucket(self.bucket)

    def mount(self, directory=None, options=None, **how):
        more = {"endpoint": self.s3.url, "timeout": TIMEOUT_S}
        return super().mount(directory, more | (options or {}), **how)

    def object(self, url):
        bucket, _, key = url.removeprefix("s3://").partition("/")
        return self.s3.objects[bucket, key].data

    def stored(self):
        return {f"s3://{bucket}/{key}" for bucket, key in list(self.s3.objects)}

    def uploads(self):
        return [f"upload of {upload.key}" for upload in list(self.s3.uploads.values())]


@pytest.fixture
def strict(stack, redis_server, minio, proxy):
    """strict(r2=True, ...): a world and its endpoint."""

    made = []

    def make(**switches):
        s3 = StrictS3(**switches)
        s3.__enter__()
        made.append(s3)
        return StrictWorld(stack, redis_server, minio, proxy, s3)

    yield make
    stack.exits.close()  # mounts end before what they talk to
    for s3 in made:
        s3.__exit__()


SWITCHES = {
    "r2": {"r2": True},
    "r2-without-checksums": {"r2": True, "no_checksums": True},
    "no-checksums": {"no_checksums": True},
    "may-not-list": {"hides_missing": True},
    "writes-over": {"ignore_if_none_match": True},
    "completes-over": {"ignore_at_complete": True},
}


def copy_both(world, mount):
    """A shard that goes in one piece and one that goes in parts, into a new dataset "mnist"."""
    make_datasets(mount, "mnist")
    paths = [world.shard("small.tar", **SMALL), world.shard("large.tar", **LARGE)]
    for path in paths:
        attempt(mount, path, "mnist").must_work()
    world.assert_published("mnist", *paths)
    return paths


@pytest.mark.parametrize("switches", SWITCHES.values(), ids=SWITCHES)
def test_copies_arrive(strict, switches):
    world = strict(**switches)
    mount = world.mount()
    for path in copy_both(world, mount):
        assert sha256(mount / "datasets" / "mnist" / path.name) == sha256(path)
    world.assert_clean()
    if "no_checksums" in switches:
        before = len(world.s3.requests)
        attempt(mount, world.shard("third.tar", **SMALL, seed=3), "mnist").must_work()
        sent = [r for r in world.s3.requests[before:] if r.startswith("PUT ")]
        assert len(sent) == 1, sent  # the refusal is remembered


@pytest.mark.parametrize("switches", SWITCHES.values(), ids=SWITCHES)
def test_nothing_is_written_over(strict, switches):
    """Somebody else's objects lie where ours would, and two mounts publish the same names."""
    world = strict(**switches)
    mounts = [world.mount(), world.mount()]
    make_datasets(mounts[0], "mnist")
    theirs = {}
    for name in ("small.tar", "large.tar"):
        theirs[name] = f"{world.prefix}/mnist/{name}"
        made = Object(b"theirs", hashlib.md5(b"theirs").hexdigest())
        world.s3.objects[world.bucket, f"data/mnist/{name}"] = made
    path = world.shard("first.tar", **SMALL)
    attempt(mounts[0], path, "mnist").must_work()
    wait_until(lambda: "mnist" in ls(mounts[1] / "datasets"), 10, "both show it")
    made = [
        Attempt(mount, world.shard(name, **shape, seed=number), "mnist")
        for number, mount in enumerate(mounts)
        for name, shape in (("small.tar", SMALL), ("large.tar", LARGE))
    ]
    for one in together(made):
        one.check(is_taken=True)
    for name, url in theirs.items():
        assert world.object(url) == b"theirs"
        assert sum(one.ok for one in made if one.source.name == name) == 1
        del world.s3.objects[world.bucket, url.removeprefix(f"s3://{world.bucket}/")]
    assert all("/.atdatafs-probe-" in key for key in world.s3.overwritten), world.s3.overwritten
    world.assert_published("mnist", path, *(one.source for one in made if one.ok))
    world.assert_clean()


# ---------------------------------------------------------------- corrections


@pytest.mark.parametrize(
    "switches", [{"region": "eu-far-2"}, {"clock_offset_s": 3 * 3600}], ids=["region", "clock"]
)
def test_what_requests_are_signed_for_is_corrected(strict, switches):
    """Also for writes: a body that was refused is sent again."""
    world = strict(**switches)
    mount = world.mount()
    copy_both(world, mount)
    assert 1 <= world.s3.refused < 5
    world.assert_clean()


# ---------------------------------------------------------------- what may not be asked


REFUSED = {
    "HEAD": ("HEAD",),
    "LIST": ("LIST", "UPLOADS", "BUCKET"),
    "HEAD-and-LIST": ("HEAD", "LIST", "UPLOADS", "BUCKET"),
    "DELETE": ("DELETE", "ABORT"),
}


@pytest.mark.parametrize("kinds", REFUSED.values(), ids=REFUSED)
def test_a_bucket_that_refuses_questions(team_world, kinds):
    world = team_world
    world.remote.proxy.rule("status", kinds=kinds, status=403)
    mount = world.mount(options={"timeout": TIMEOUT_S})
    copy_both(world, mount)
    mount.unmount()
    world.remote.proxy.behave()
    if "DELETE" not in kinds:
        world.assert_clean()


def test_a_bucket_that_is_not_there_is_told(team_world):
    world = team_world
    elsewhere = f"s3://no-such-{uuid.uuid4().hex[:8]}/data"
    mount = world.mount(options={"timeout": TIMEOUT_S, "store": elsewhere})
    make_datasets(mount, "mnist")
    for name, shape in (("small.tar", SMALL), ("large.tar", LARGE)):
        one = attempt(mount, world.shard(name, **shape), "mnist")
        if "cannot create" not in one.output:
            one.must_fail("bucket")
        one.must_fail()


def test_credentials_that_are_wrong_are_told(team_world):
    world = team_world
    bad = world.minio.write_env_file(
        world.remote.directory / "bad.env", world.remote.proxy.url, AWS_SECRET_ACCESS_KEY="wrong"
    )
    mount = world.mount(options={"timeout": TIMEOUT_S, "env_file": bad})
    make_datasets(mount, "mnist")
    one = attempt(mount, world.shard("small.tar", **SMALL), "mnist")
    one.must_fail()
    print(one.reason)
    assert "wrong" not in one.reason.replace("wrong secret", "")
    assert re.search("secret|signature|credential|key", one.reason), one.reason

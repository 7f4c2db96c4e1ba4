"""Fixtures for the file managers: `desktop` for all of them, `manager` for one test each.

Environment, besides that of the end-to-end tests: ATD_DESKTOP_SHOTS, where screenshots go.
"""

import itertools
import os
import sys
import tempfile
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))

import managers  # noqa: E402 (its place is only known now)
from bounded import run  # noqa: E402
from desktop import Desktop  # noqa: E402
from world import DiskWorld, TeamWorld  # noqa: E402

# File managers refuse root or warn it: the desktop is an ordinary user's.
USER = "nobody" if os.geteuid() == 0 else None


def give(directory):
    if USER:
        run("chown", "-R", USER, directory)


@pytest.fixture(scope="session")
def shots():
    path = os.environ.get("ATD_DESKTOP_SHOTS") or tempfile.mkdtemp(prefix="atdatafs-desktop-")
    Path(path).mkdir(parents=True, exist_ok=True)
    return Path(path)


@pytest.fixture(scope="session")
def desktop(can_mount, shots):
    with tempfile.TemporaryDirectory(prefix="atd-desktop-", ignore_cleanup_errors=True) as path:
        with Desktop(path, USER, shots) as desktop:
            yield desktop


@pytest.fixture
def tmp_path():
    """In a place that the user may pass through, unlike pytest's own."""
    with tempfile.TemporaryDirectory(prefix="atd-", ignore_cleanup_errors=True) as path:
        Path(path).chmod(0o755)
        yield Path(path)


@pytest.fixture
def world(request, stack, home):
    """The embedded default, or with the parameter "team" Redis and MinIO; as the user's."""
    if getattr(request, "param", "disk") == "team":
        world = TeamWorld(
            stack, *(request.getfixturevalue(name) for name in ("redis_server", "minio", "proxy"))
        )
    else:
        world = DiskWorld(stack, home)
    world.state.mkdir()
    give(stack.directory)
    return world


@pytest.fixture
def source(world):
    """source("a.tar"): the path of a shard, or of `content`, alone in a directory of the user's."""
    made = itertools.count()

    def make(name, content=None, **how):
        number = next(made)
        path = world.shard(name, seed=f"source-{number}", **how)
        if content is not None:
            path.write_bytes(content)
        give(world.sources)
        return path

    return make


@pytest.fixture
def mount(world):
    return world.mount(user=USER)


@pytest.fixture(params=managers.ALL, ids=lambda kind: kind.program)
def manager(request, desktop, mount):
    """Ended before the mount is taken away: it has directories open there."""
    if not request.param.is_installed():
        pytest.skip(f"there is no {request.param.program}")
    manager = request.param(desktop)
    manager.prepare()
    yield manager
    if request.node.stash.get(FAILED, False):
        desktop.shot(f"{manager.name}-failed")
    manager.close()


FAILED = pytest.StashKey[bool]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if report.when == "call" and report.failed:
        item.stash[FAILED] = True
    return report

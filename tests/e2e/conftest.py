"""Fixtures of the end-to-end tests: `mount` starts the real daemon, `peer` the real library,
`redis_server`, `minio` and `proxy` the real servers and the proxy in between, `remote` all of it,
`world` what is published into.

Environment: ATDATAFS (the program), ATD_TEST_DATA (tests/data), ATD_MINIO (the server's program),
ATD_WRITE_INDEX (support/write_index.c),
ATD_E2E_VISIBLE_S (how soon a commit must show; longer under a sanitizer), CI (when set, nothing
may be skipped).
"""

import contextlib
import os
import shutil
import stat
import sys
import threading
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "support"))

import mounting  # noqa: E402 (its place is only known now)
import peer as peers  # noqa: E402
import publish_tools  # noqa: E402
from bounded import SLACK, run  # noqa: E402
from proxy import Proxy  # noqa: E402
from publish_bench import Bench  # noqa: E402
from remote import Remote  # noqa: E402
from servers import Minio, RedisServer  # noqa: E402
from world import DiskWorld, TeamWorld  # noqa: E402

WATCHDOG_SECONDS = 500


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """Where everything is installed a skipped test is a test that fails."""
    report = yield
    if report.skipped and os.environ.get("CI"):
        report.outcome = "failed"
        report.longrepr = f"skipped, which CI does not allow: {report.longrepr}"
    return report


@pytest.fixture(scope="session", autouse=True)
def can_mount(tmp_path_factory):
    """As root everything happens in a mount namespace of our own: nothing can be left over."""
    if not os.path.exists("/dev/fuse"):
        pytest.skip("there is no /dev/fuse")
    if os.geteuid() != 0:
        if not shutil.which("fusermount3"):
            pytest.skip("neither root nor fusermount3 to mount with")
        return
    os.unshare(os.CLONE_NEWNS)
    run("mount", "--make-rprivate", "/")
    if os.stat("/dev/fuse").st_mode & 0o666 != 0o666:
        # Where udev has not opened the device for everybody, as fusermount3 needs it.
        device = tmp_path_factory.mktemp("device") / "fuse"
        os.mknod(device, 0o666 | stat.S_IFCHR, os.stat("/dev/fuse").st_rdev)
        device.chmod(0o666)
        run("mount", "--bind", device, "/dev/fuse")


@pytest.fixture(scope="session")
def test_data():
    return Path(os.environ["ATD_TEST_DATA"])


@pytest.fixture
def home(tmp_path):
    """A HOME of its own, without an index yet."""
    path = tmp_path / "home"
    path.mkdir()
    return path


@pytest.fixture
def own_redis(tmp_path_factory):
    """A server that a test may stop."""
    with RedisServer(tmp_path_factory.mktemp("own-redis")) as server:
        yield server


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory):
    if not shutil.which("redis-server"):
        pytest.skip("there is no redis-server")
    # A short path: that of its socket must fit into sockaddr_un.
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(scope="session")
def minio(tmp_path_factory):
    program = os.environ.get("ATD_MINIO")
    if not program:
        pytest.skip("there is no MinIO (contrib/minio)")
    with Minio(tmp_path_factory.mktemp("minio"), program) as server:
        yield server


@pytest.fixture(scope="session")
def session_proxy(minio):
    with Proxy(minio.port) as proxy:
        yield proxy


@pytest.fixture
def proxy(session_proxy):
    """The proxy, with nothing counted and no fault."""
    session_proxy.forget()
    yield session_proxy
    session_proxy.behave()
    session_proxy.shape()


@pytest.fixture
def remote(stack, redis_server, minio, proxy):
    """An empty Redis and a bucket, with the proxy in between; see remote.py."""
    return Remote(stack, redis_server, minio, proxy)


class Stack:
    """What a test or a module has started, ended in reverse order."""

    def __init__(self, directory):
        self.directory = directory
        self.exits = contextlib.ExitStack()
        self.mounts = []
        self.hung = False

    def mount(self, directory=None, **how):
        directory = directory or self.directory / f"mount-{len(self.mounts)}"
        mount = self.exits.enter_context(mounting.mounted(directory, **how))
        self.mounts.append(mount)
        return mount

    def peer(self, home):
        return self.exits.enter_context(peers.Peer(home))

    def free(self):
        """The test hangs: without its daemons every access of theirs fails."""
        self.hung = True
        for mount in self.mounts:
            mount.process.kill()


@contextlib.contextmanager
def watched(directory, seconds=WATCHDOG_SECONDS):
    stack = Stack(directory)
    watchdog = threading.Timer(seconds, stack.free)
    watchdog.daemon = True
    watchdog.start()
    try:
        with stack.exits:
            yield stack
    finally:
        watchdog.cancel()
        assert not stack.hung, f"the test hung for {seconds} s"


@pytest.fixture
def stack(tmp_path):
    with watched(tmp_path) as stack:
        yield stack


@pytest.fixture
def mount(stack, home):
    """mount(home=..., index=..., options=...): see mounting.start; HOME is the test's `home`."""
    return lambda directory=None, **how: stack.mount(directory, **{"home": home, **how})


@pytest.fixture
def peer(stack, home):
    """peer(home=...): see peer.Peer and library.py."""
    return lambda home=home: stack.peer(home)


@pytest.fixture(scope="module")
def module_stack(tmp_path_factory):
    """For a mount that all tests of a file share."""
    with watched(tmp_path_factory.mktemp("module")) as stack:
        yield stack


@pytest.fixture
def disk_world(stack, home):
    """The library's embedded default, to publish into; see world.py."""
    return DiskWorld(stack, home)


@pytest.fixture
def team_world(stack, redis_server, minio, proxy):
    """Redis and MinIO, to publish into; see world.py."""
    return TeamWorld(stack, redis_server, minio, proxy)


@pytest.fixture(params=["disk_world", "team_world"])
def world(request):
    """One after the other."""
    return request.getfixturevalue(request.param)


def _make_world(request, kind, stack):
    if kind == "disk":
        home = stack.directory / "home"
        home.mkdir(exist_ok=True)
        return DiskWorld(stack, home)
    proxy = request.getfixturevalue("session_proxy")
    proxy.forget()
    servers = (request.getfixturevalue(name) for name in ("redis_server", "minio"))
    return TeamWorld(stack, *servers, proxy)


@pytest.fixture
def disk_world(request, stack):
    return _make_world(request, "disk", stack)


@pytest.fixture
def team_world(request, stack, proxy):
    return _make_world(request, "team", stack)


@pytest.fixture(params=["disk", "team"])
def world(request):
    """Where a test publishes, and looks past the mount at what came of it: see world.py."""
    return request.getfixturevalue(f"{request.param}_world")


@pytest.fixture(scope="module", params=["disk", "team"])
def module_world(request, tmp_path_factory):
    """As `world`, for a mount that all tests of a file share."""
    seconds = WATCHDOG_SECONDS * SLACK
    with watched(tmp_path_factory.mktemp(request.param), seconds) as stack:
        yield _make_world(request, request.param, stack)


@pytest.fixture(scope="module")
def bench(module_world):
    with publish_tools.environment(module_world.directory) as env:
        bench = Bench(module_world, env)
        yield bench
        bench.mount.unmount()

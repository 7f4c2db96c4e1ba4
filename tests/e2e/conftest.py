"""Fixtures of the end-to-end tests: `mount` starts the real daemon, `peer` the real library,
`redis_server`, `minio` and `proxy` the real servers and the proxy in between, `remote` all of it.

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
from bounded import run  # noqa: E402
from proxy import Proxy  # noqa: E402
from remote import Remote  # noqa: E402
from servers import Minio, RedisServer  # noqa: E402

WATCHDOG_SECONDS = 150


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
def watched(directory):
    stack = Stack(directory)
    watchdog = threading.Timer(WATCHDOG_SECONDS, stack.free)
    watchdog.daemon = True
    watchdog.start()
    try:
        with stack.exits:
            yield stack
    finally:
        watchdog.cancel()
        assert not stack.hung, f"the test hung for {WATCHDOG_SECONDS} s"


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

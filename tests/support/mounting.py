"""A real mount: the daemon in the foreground, watched from start to exit code."""

import json
import os
import re
import signal
import subprocess
import time
from contextlib import contextmanager, suppress
from pathlib import Path

from bounded import bounded, read, run, wait_until

ATDATAFS = os.environ.get("ATDATAFS", "atdatafs")
FS_TYPE = "fuse.atdatafs"
LAZY_UNMOUNT = ["umount", "-l"] if os.geteuid() == 0 else ["fusermount3", "-uz"]
START_SECONDS = 30
EXIT_SECONDS = 30


def environment(home, state, **more):
    """What the daemon sees: nothing of the developer's own session."""
    options = f"log_path={state / 'sanitizer'}"
    env = {
        "PATH": os.environ["PATH"],
        "LANG": "C.UTF-8",
        "HOME": str(home),
        "TMPDIR": str(state / "tmp"),
        # Where the tests run there may be an instance's metadata service: none of our business.
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    for name in ("ASAN_OPTIONS", "UBSAN_OPTIONS", "TSAN_OPTIONS"):
        env[name] = f"{os.environ.get(name, '')}:{options}"
    return env | more


def as_user(user):
    """The words before a command that run it as another user."""
    if not user:
        return []
    group = run("id", "-g", user).stdout.strip()
    return ["setpriv", f"--reuid={user}", f"--regid={group}", "--clear-groups"]


def make_state(directory):
    """The private directory of one daemon: its log, sanitizer reports, temporary files."""
    state = Path(directory)
    (state / "tmp").mkdir(parents=True)
    os.chmod(state / "tmp", 0o1777)
    return state


def sanitizer_reports(state):
    return "".join(path.read_text(errors="replace") for path in state.glob("sanitizer.*"))


def mounts_on(path):
    """The file system types mounted on a path, the last one on top."""
    wanted = str(path)
    found = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        words = line.split(" ")
        if re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), words[4]) == wanted:
            found.append(words[words.index("-") + 1])
    return found


def detach(path):
    """Takes every mount of ours off a path, open files or not."""
    while FS_TYPE in mounts_on(path):
        run(*LAZY_UNMOUNT, path, timeout=20)


class Mount:
    """One running daemon. `mount / "datasets"` is a path below the mount point."""

    def __init__(self, path, state, process, user):
        self.path = path
        self.state = state
        self.process = process
        self.user = user
        self.ended = False

    def __truediv__(self, name):
        return self.path / name

    def status(self):
        return json.loads(read(self.path / ".atdatafs" / "status.json"))

    def metrics(self):
        lines = read(self.path / ".atdatafs" / "metrics").decode().splitlines()
        pairs = (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
        return {
            name.removeprefix("atdatafs_").removesuffix("_total"): int(value)
            for name, value in pairs
        }

    def json(self, *names):
        return json.loads(read(self.path.joinpath(*names)))

    @property
    def pid(self):
        """The daemon's, also when another program (strace) started it."""
        return self.process.pid if self.user else self.status()["pid"]

    def open_shards(self):
        """The shards that the daemon has open."""
        opened = []
        for descriptor in Path(f"/proc/{self.pid}/fd").iterdir():
            with suppress(FileNotFoundError):  # closed meanwhile
                opened.append(os.readlink(descriptor))
        return [path for path in opened if path.endswith(".tar")]

    @property
    def log(self):
        return (self.state / "log").read_text(errors="replace")

    def wait_usable(self):
        def is_usable():
            code = self.process.poll()
            assert code is None, f"the daemon ended with {code}: {self.log}"
            # A file of the mount, and not from the cache: a dead mount may lie there until the
            # daemon takes it away.
            ask = ["stat", "--cached=never", self.path / ".atdatafs" / "status.json"]
            return FS_TYPE in mounts_on(self.path) and self._as_user(*ask).returncode == 0

        wait_until(is_usable, START_SECONDS, f"{self.path} is usable")

    def _as_user(self, *words):
        return run(*as_user(self.user), *words, check=False, timeout=START_SECONDS)

    def wait_exit(self, expect=0):
        """The daemon has ended well, and left nothing behind."""
        self.ended = True
        code = self.process.wait(EXIT_SECONDS)
        reports = sanitizer_reports(self.state)
        assert not reports, reports
        assert code == expect, f"exit code {code}, not {expect}: {self.log}"
        assert "ERROR" not in self.log and "runtime error" not in self.log, self.log
        assert not os.listdir(self.state / "tmp"), "the daemon left temporary files"

    def unmount(self):
        """The test has closed everything: then the daemon soon has too."""
        wait_until(lambda: not self.open_shards(), 5, "the daemon has closed every shard")
        run(*LAZY_UNMOUNT, self.path, timeout=20)
        self.wait_exit()

    def kill(self):
        """kill -9: the mount stays behind, dead."""
        os.kill(self.pid, signal.SIGKILL)
        self.ended = True
        self.process.wait(EXIT_SECONDS)

    def abandon(self):
        """For the end of a test that failed: nothing of it may stay."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(EXIT_SECONDS)
        detach(self.path)


def launch(directory, *, home=None, index=None, options="", wrapper=(), user=None, env=None):
    """Starts the daemon in `directory`; whether it gets anywhere is to be seen.

    home     HOME of the daemon (default: directory/home, which need not exist)
    index    an INDEX-URL, such as sqlite:/path
    options  the text after -o
    wrapper  words to put before the command (strace ...)
    user     a user name to run as
    env      more of its environment
    """
    directory = Path(directory)
    home = home or directory / "home"
    path = directory / "mnt"
    if not mounts_on(path):  # a dead one may lie there
        path.mkdir(parents=True, exist_ok=True)
    state = make_state(directory / f"daemon-{time.monotonic_ns()}")
    if user:
        run("chown", user, state, path)
    # It dies with the test, however that ends.
    command = [*as_user(user), "setpriv", "--pdeathsig", "TERM", *wrapper]
    command += [ATDATAFS, *([index] if index else []), str(path), "-f"]
    if options:
        command += ["-o", options]
    with open(state / "log", "wb") as log:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=environment(home, state, **(env or {})),
        )
    return Mount(path, state, process, user)


def start(directory, **how):
    """As launch(), and returns when the mount is usable."""
    mount = launch(directory, **how)
    try:
        mount.wait_usable()
    except BaseException:
        mount.abandon()
        raise
    return mount


def refused(directory, *, code=1, **how):
    """As launch(), for what must fail: returns what the daemon said when it has ended so.

    `code` None: 1 or 2, a wrong command line.
    """
    mount = launch(directory, **how)
    try:
        ended = mount.process.wait(START_SECONDS)
        reports = sanitizer_reports(mount.state)
        assert not reports, reports
        wanted = (1, 2) if code is None else (code,)
        assert ended in wanted, f"exit code {ended}, not {wanted}: {mount.log}"
        assert not mounts_on(mount.path), "it left a mount behind"
        return mount.log
    finally:
        mount.abandon()


@contextmanager
def mounted(directory, **how):
    """A mount for the length of a block. At its end the daemon must exit with 0, without leaks."""
    mount = start(directory, **how)
    try:
        yield mount
        if not mount.ended:
            bounded(mount.unmount, timeout=EXIT_SECONDS + 30)
    finally:
        mount.abandon()

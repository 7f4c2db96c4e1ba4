"""Starting, failing to start, dying, unmounting; other users, and being an ordinary user."""

import contextlib
import errno
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from bounded import bounded, ls, read, run, sha256, wait_until
from index_db import IndexDb, make_shard
from mounting import (
    ATDATAFS,
    FS_TYPE,
    as_user,
    detach,
    environment,
    make_state,
    mounted,
    mounts_on,
    sanitizer_reports,
)

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")


@pytest.fixture
def index(home):
    """An index in HOME with one dataset of one shard of 3 MiB."""
    with IndexDb(home / ".atdata" / "index.db") as index:
        index.schema()
        index.entry("digits", [make_shard(index.root / "digits.tar", 3, 1 << 20)])
    return index


@pytest.fixture
def command(tmp_path, home):
    """command(words...) runs atdatafs to its end; what it mounted is taken away after the test."""
    state = make_state(tmp_path / "command")
    mountpoints = []

    def atdatafs(*words, env=None, **how):
        mountpoints.extend(word for word in words if not mounts_on(word))
        env = environment(home, state, **(env or {}))
        return run(ATDATAFS, *words, env=env, check=False, **how)

    yield atdatafs
    for mountpoint in mountpoints:
        detach(mountpoint)
    # The background daemons end after the detach; only then have they reported leaks.
    wait_until(lambda: not daemons(state), 30, "all daemons of this test have ended")
    assert sanitizer_reports(state) == ""
    assert os.listdir(state / "tmp") == []


def daemons(state):
    """The processes whose environment names this state directory."""
    wanted = f"TMPDIR={state / 'tmp'}".encode()
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended meanwhile
            if wanted in (process / "environ").read_bytes().split(b"\0"):
                found.append(int(process.name))
    return found


def mountpoint(tmp_path, name="mnt"):
    path = tmp_path / name
    path.mkdir()
    return path


# ---------------------------------------------------------------- starting


def test_parent_returns_when_usable(tmp_path, index, command):
    path = mountpoint(tmp_path)
    # Captured output: this returns only when the daemon has closed both.
    done = command(path, timeout=20)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert os.listdir(path / "datasets") == ["digits"]
    assert sha256(path / "datasets" / "digits" / "digits.tar") == sha256(index.root / "digits.tar")
    assert mounts_on(path) == [FS_TYPE]
    run("fusermount3", "-u", path)
    assert os.listdir(path) == []


def test_mount_again_and_again(tmp_path, index, command):
    path = mountpoint(tmp_path)
    for _ in range(5):
        assert command(path).returncode == 0
        assert ls(path / "datasets") == ["digits"]
        run("fusermount3", "-u", path)


def test_relative_paths_and_index_from_the_environment(tmp_path, index, command):
    mountpoint(tmp_path, "my mount")
    os.rename(index.path, tmp_path / "moved %41?#.db")
    os.rename(index.root, tmp_path / "data")
    done = command("my mount", env={"ATDATA_INDEX": "sqlite:moved %41?#.db"}, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert ls(tmp_path / "my mount" / "datasets") == ["digits"]
    detach(tmp_path / "my mount")


def test_two_mounts_of_one_index(tmp_path, index, mount):
    one, two = mount(), mount()
    shards = [each / "datasets" / "digits" / "digits.tar" for each in (one, two)]
    assert sha256(shards[0]) == sha256(shards[1]) == sha256(index.root / "digits.tar")
    one.unmount()
    assert sha256(shards[1]) == sha256(index.root / "digits.tar")


def test_help_and_version(command):
    assert command("--help").stdout.startswith("usage: atdatafs [INDEX-URL] MOUNTPOINT")
    assert command("--version").stdout.startswith("atdatafs ")


FAILING_STARTS = {
    # what: (words; MNT and DIR are replaced), exit code, what the sentence says
    "no mount point": ([], 2, "a mount point is missing"),
    "unknown option": (["MNT", "-o", "no_such_option"], 2, "option 'no_such_option' is unknown"),
    "unknown flag": (["MNT", "--frobnicate"], 2, "option '--frobnicate' is unknown"),
    "bad umask": (["MNT", "-o", "umask=9"], 2, "umask=9"),
    "too many words": (["MNT", "MNT"], 2, "one argument too many"),
    "unknown index": (["postgres://joe:s3cret@localhost/0", "MNT"], 2, "redis://HOST/DB"),
    "redis": (["redis://joe:s3cret@localhost:1/0", "MNT"], 1, "no server answers"),
    "no such env file": (["MNT", "-o", "env_file=DIR/absent.env"], 1, "absent.env"),
    "cache is a file": (["MNT", "-o", "cache_dir=DIR/file"], 1, "/file' or something"),
    "no path": (["sqlite:", "MNT"], 2, "lacks a path"),
    "missing mount point": (["DIR/absent"], 1, "No such file or directory"),
    "mount point is a file": (["DIR/file"], 1, "is not a directory"),
    "named index is missing": (["sqlite:DIR/absent.db", "MNT"], 1, "No such file or directory"),
    "index is a directory": (["sqlite:DIR", "MNT"], 1, "is not a regular file"),
    "index is a FIFO": (["sqlite:DIR/fifo", "MNT"], 1, "is not a regular file"),
    "index is text": (["sqlite:DIR/text.db", "MNT"], 1, "it is not an SQLite database"),
    "index is noise": (["sqlite:DIR/noise.db", "MNT"], 1, "it is not an SQLite database"),
    "index is cut": (["sqlite:DIR/cut.db", "MNT"], 1, "malformed"),
}


@pytest.mark.parametrize("foreground", [False, True], ids=["background", "foreground"])
@pytest.mark.parametrize("what", FAILING_STARTS)
def test_failing_start(what, foreground, tmp_path, index, command):
    words, exit_code, sentence = FAILING_STARTS[what]
    path = mountpoint(tmp_path)
    place = mountpoint(tmp_path, "dir")
    (place / "file").touch()
    os.mkfifo(place / "fifo")
    (place / "text.db").write_text("name,cid\n" * 1000)
    (place / "noise.db").write_bytes(os.urandom(20000))
    whole = index.path.read_bytes()
    (place / "cut.db").write_bytes(whole[: len(whole) // 2])
    words = [word.replace("MNT", str(path)).replace("DIR", str(place)) for word in words]
    done = command(*words, *(["-f"] if foreground else []), timeout=30)
    assert done.returncode == exit_code, done
    assert done.stderr.startswith("atdatafs: ") and done.stderr.count("\n") == 1, done.stderr
    assert sentence in done.stderr
    assert "s3cret" not in done.stderr + done.stdout
    assert mounts_on(path) == [] and done.stdout == ""


def test_empty_index_file_is_an_empty_index(tmp_path, command):
    (tmp_path / "empty.db").touch()
    path = mountpoint(tmp_path)
    assert command(f"sqlite:{tmp_path / 'empty.db'}", path).returncode == 0
    assert ls(path / "datasets") == []
    assert (tmp_path / "empty.db").stat().st_size == 0


def test_mounted_already(tmp_path, index, mount, command):
    first = mount()
    done = command(first.path)
    assert done.returncode == 1
    assert done.stderr.startswith(f"atdatafs: '{first.path}' is mounted already; fusermount3 -u")
    assert mounts_on(first.path) == [FS_TYPE] and ls(first / "datasets") == ["digits"]


# ---------------------------------------------------------------- dying


def test_dead_mount_is_replaced(index, mount, tmp_path):
    first = mount(tmp_path / "place")
    assert ls(first / "datasets") == ["digits"]
    os.stat(first.path)  # the kernel keeps the answer, also when the daemon is dead
    first.kill()
    assert mounts_on(first.path) == [FS_TYPE]
    for path in (first.path, first / "datasets", first / "datasets" / "digits"):
        with pytest.raises(OSError) as dead:
            bounded(os.listdir, path)
        assert dead.value.errno == errno.ENOTCONN
    second = mount(tmp_path / "place")
    assert second.path == first.path and mounts_on(first.path) == [FS_TYPE]
    assert ls(second / "datasets") == ["digits"]
    second.kill()
    # Two dead ones, one on the other.
    third = mount(tmp_path / "place")
    assert sha256(third / "datasets" / "digits" / "digits.tar") == sha256(index.root / "digits.tar")


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_signal_ends_it_cleanly(stop, index, mount):
    mounted_ = mount()
    assert ls(mounted_ / "datasets") == ["digits"]
    os.kill(mounted_.pid, stop)
    mounted_.wait_exit()
    assert mounts_on(mounted_.path) == []


def test_sigterm_with_open_readers(index, mount):
    """Passthrough readers do not need the daemon any more; directories and texts do."""
    running = mount()
    passthrough = running.status()["passthrough"]
    content = (index.root / "digits.tar").read_bytes()
    with open(running / "datasets" / "digits" / "digits.tar", "rb", buffering=0) as shard:
        assert bounded(shard.read, 1000) == content[:1000]
        text = bounded(open, running / "datasets" / "digits" / "entry.json", "rb", buffering=0)
        directory = os.open(running / "datasets", os.O_RDONLY)
        os.kill(running.pid, signal.SIGTERM)
        running.wait_exit()
        assert mounts_on(running.path) == []
        if passthrough:
            assert bounded(os.pread, shard.fileno(), len(content), 0) == content
        with pytest.raises(OSError) as dead:
            bounded(os.listdir, directory)
        assert dead.value.errno == errno.ENOTCONN
        os.close(directory)
        close_dead(text)
        close_dead(shard)


def close_dead(file):
    """close(2) of a file whose daemon is gone may fail, and closes it."""
    try:
        file.close()
    except OSError as error:
        assert error.errno == errno.ENOTCONN


def test_unmount_with_an_open_reader(index, mount):
    """A plain unmount is EBUSY; a lazy one lets the reader finish, then the daemon ends."""
    running = mount()
    content = (index.root / "digits.tar").read_bytes()
    with open(running / "datasets" / "digits" / "digits.tar", "rb", buffering=0) as shard:
        assert bounded(shard.read, 100) == content[:100]
        for words in (["umount"], ["fusermount3", "-u"]):
            refused = run(*words, running.path, check=False)
            assert refused.returncode != 0 and "busy" in refused.stderr.lower()
        assert ls(running / "datasets") == ["digits"]
        run("fusermount3", "-uz", running.path)
        assert mounts_on(running.path) == [] and os.listdir(running.path) == []
        rest = b"".join(iter(lambda: bounded(shard.read, 100000), b""))
        assert content[:100] + rest == content
        assert bounded(os.fstat, shard.fileno()).st_size == len(content)
        assert running.process.poll() is None
    running.wait_exit()


# ---------------------------------------------------------------- other users

READER = """
import hashlib, os, sys
names = os.listdir(sys.argv[1] + "/datasets")
content = open(sys.argv[1] + "/datasets/digits/digits.tar", "rb").read()
print(*names, hashlib.sha256(content).hexdigest())
"""


def as_nobody(*words, **how):
    return run(*as_user("nobody"), *words, **how)


@pytest.fixture
def open_place():
    """A directory that other users can reach, as pytest's own cannot be."""
    place = Path(tempfile.mkdtemp(prefix="atdatafs-e2e-"))
    place.chmod(0o755)
    with IndexDb(place / "store" / "index.db") as index:
        index.schema()
        index.entry("digits", [make_shard(index.root / "digits.tar", 3, 1 << 20)])
    yield place
    detach(place / "mnt")
    shutil.rmtree(place)


def nobodys_python():
    """A python that nobody can run (the virtual environment may be root's alone)."""
    for python in ("/usr/bin/python3", sys.executable):
        if Path(python).exists() and as_nobody(python, "-c", "", check=False).returncode == 0:
            return python
    pytest.skip("there is no python that the user nobody can run")


@needs_root
def test_other_users(open_place):
    python = nobodys_python()
    index = f"sqlite:{open_place / 'store' / 'index.db'}"
    wanted = f"digits {sha256(open_place / 'store' / 'data' / 'digits.tar')}\n"
    path = open_place / "mnt"

    with mounted(open_place, index=index, options="allow_other"):
        assert as_nobody(python, "-c", READER, path).stdout == wanted
    with mounted(open_place, index=index, options="allow_other,umask=077"):
        denied = as_nobody(python, "-c", READER, path, check=False)
        assert denied.returncode == 1 and "PermissionError" in denied.stderr
    with mounted(open_place, index=index, options="allow_other,uid=65534,umask=077"):
        assert as_nobody(python, "-c", READER, path).stdout == wanted
    with mounted(open_place, index=index):
        denied = as_nobody(python, "-c", READER, path, check=False)
        assert denied.returncode == 1 and "PermissionError" in denied.stderr


@needs_root
def test_ordinary_user(open_place):
    """Through fusermount3: no passthrough, and root is not let in; the bytes are the same."""
    python = nobodys_python()
    if not shutil.which("fusermount3"):
        pytest.skip("there is no fusermount3")
    run("chown", "-R", "nobody", open_place)
    store = open_place / "store"
    wanted = f"digits {sha256(store / 'data' / 'digits.tar')}\n"
    # The default index of a HOME that is his.
    (open_place / "home").mkdir()
    (open_place / "home" / ".atdata").symlink_to(store)
    with mounted(open_place, user="nobody") as running:
        path = running.path
        assert as_nobody(python, "-c", READER, path).stdout == wanted
        status = as_nobody("cat", path / ".atdatafs" / "status.json").stdout
        assert '"passthrough": false' in status
        metrics = as_nobody("cat", path / ".atdatafs" / "metrics").stdout
        assert "atdatafs_passthrough_opens_total 0\n" in metrics
        shard = path / "datasets" / "digits" / "digits.tar"
        as_nobody("cmp", shard, store / "data" / "digits.tar")
        assert as_nobody("tar", "tf", shard).stdout.count(".msgpack") == 3
        with pytest.raises(PermissionError):
            os.listdir(path)
        assert as_nobody("fusermount3", "-u", path).returncode == 0
        running.wait_exit()
        assert mounts_on(path) == []

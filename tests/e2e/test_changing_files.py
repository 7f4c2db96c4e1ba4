"""Shard files that somebody replaces, rewrites or deletes while they are mounted."""

import errno
import os
import threading
import time

import pytest

from bounded import bounded, ls, read, run, sha256, wait_until
from index_db import IndexDb, make_shard
from overlay import overlay

MIB = 1 << 20
# An absent file is looked for again each second when it is asked for, and from time to time anyway.
ABSENT_S = 3
NOT_ASKED_S = 12


class Shard:
    """One shard, its original file, and the mount that shows it."""

    def __init__(self, mount, original):
        self.mount = mount
        self.original = original
        self.path = mount / "datasets" / "digits" / original.name
        self.directory = self.path.parent

    def replace(self, content):
        """As careful programs do: a new file is moved on top."""
        temporary = self.original.with_suffix(".new")
        temporary.write_bytes(content)
        os.rename(temporary, self.original)

    def rewrite(self, content):
        """As careless ones do: the same file gets other bytes."""
        with open(self.original, "r+b") as file:
            file.write(content)
            file.truncate()

    def is_absent(self):
        try:
            bounded(open, self.path, "rb").close()
        except FileNotFoundError:
            return True
        except OSError as error:
            assert error.errno == errno.ESTALE
        return False

    def shows(self, content):
        """Opened anew it is all new: bytes, size, entry.json."""
        assert read(self.path) == content
        assert bounded(os.stat, self.path).st_size == len(content)
        assert bounded(os.stat, self.path).st_mtime_ns == self.original.stat().st_mtime_ns
        [entry] = self.mount.json("datasets", "digits", "entry.json")["shards"]
        assert entry["size"] == len(content)
        assert int(run("du", "-b", self.path).stdout.split()[0]) == len(content)


@pytest.fixture(params=["passthrough", "daemon"])
def shard(request, tmp_path, stack):
    """`daemon`: where the kernel refuses passthrough and the daemon answers READs."""
    store = tmp_path / "store"
    if request.param == "daemon":
        store = overlay(tmp_path / "overlay", stack)
    with IndexDb(store / "index.db") as index:
        index.schema()
        index.entry("digits", [make_shard(index.root / "digits.tar", 3, MIB)])
    mount = stack.mount(index=f"sqlite:{index.path}")
    shard = Shard(mount, index.root / "digits.tar")
    shard.shows(shard.original.read_bytes())
    counter = "cached_opens" if request.param == "daemon" else "passthrough_opens"
    if request.param == "daemon" or mount.status()["passthrough"]:
        assert mount.metrics()[counter] > 0
    return shard


def noise(seed, size):
    return (f"{seed:08d}".encode() * (size // 8 + 1))[:size]


@pytest.mark.parametrize("size", [3 * MIB + 2048, MIB + 1, 5 * MIB, 0])
@pytest.mark.parametrize("how", ["replace", "rewrite"])
def test_next_open_is_all_new(shard, how, size):
    for seed in range(3):
        content = noise(seed, size)
        getattr(shard, how)(content)
        shard.shows(content)
    assert shard.mount.status()["problem_count"] == 0


def test_attributes_follow_without_an_open(shard):
    """The kernel asks again at the latest after a minute (fs.h), and whenever a program insists."""
    for seed, size in enumerate([2 * MIB, 2 * MIB + 1, 100]):
        shard.replace(noise(seed, size))
        shown = run("stat", "--cached=never", "-c", "%s %.Y", shard.path).stdout
        assert shown == run("stat", "-c", "%s %.Y", shard.original).stdout
        assert int(shown.split()[0]) == size
    shard.shows(noise(2, 100))


def test_reader_of_a_replaced_file_keeps_the_old_one(shard):
    old = shard.original.read_bytes()
    new = noise(2, 3 * MIB)
    with open(shard.path, "rb", buffering=0) as reader:
        assert bounded(reader.read, 1000) == old[:1000]
        shard.replace(new)
        assert read(shard.path) == new
        assert bounded(os.pread, reader.fileno(), len(old), 0) == old
        with open(shard.path, "rb", buffering=0) as second:
            assert bounded(os.pread, second.fileno(), len(new), 0) == new
            assert bounded(os.pread, reader.fileno(), 5000, MIB) == old[MIB : MIB + 5000]
    shard.shows(new)


def test_reader_of_a_rewritten_file_gets_no_mixture(shard):
    """Through the daemon ESTALE; with passthrough a reader has the file itself, as it is now."""
    old = noise(4, 3 * MIB)
    shard.replace(old)  # of which the kernel has no page yet
    new = noise(3, len(old))
    passthrough = shard.mount.metrics()["passthrough_opens"] > 0
    with open(shard.path, "rb", buffering=0) as reader:
        descriptor = reader.fileno()
        # No reading ahead: what is asked for later is not in the page cache.
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_RANDOM)
        assert bounded(os.pread, descriptor, 4096, 0) == old[:4096]
        shard.rewrite(new)
        at = 2 * MIB
        if passthrough:
            assert bounded(os.pread, descriptor, 4096, at) == new[at : at + 4096]
        else:
            with pytest.raises(OSError) as stale:
                bounded(os.pread, descriptor, 4096, at)
            assert stale.value.errno in (errno.ESTALE, errno.EIO)
            # Again and again, and anywhere it did not read before the change.
            for at in (MIB, len(old) - 4096):
                with pytest.raises(OSError):
                    bounded(os.pread, descriptor, 4096, at)
        assert read(shard.path) == new
    shard.shows(new)


def test_whole_reads_during_rewrites_are_never_mixed(shard):
    """Each content is one byte repeated: a successful read holds one of them only."""
    ended = threading.Event()
    size = 2 * MIB
    shard.rewrite(b"a" * size)

    def rewrite():
        while not ended.is_set():
            for letter in (b"b", b"c", b"d"):
                shard.replace(letter * size)
                time.sleep(0.003)

    writer = threading.Thread(target=rewrite)
    writer.start()
    try:
        whole = failed = 0
        until = time.monotonic() + 2
        while time.monotonic() < until:
            try:
                content = read(shard.path)
            except OSError as error:
                assert error.errno == errno.ESTALE
                failed += 1
                continue
            assert len(content) == size and content.count(content[:1]) == size
            whole += 1
    finally:
        ended.set()
        writer.join()
    assert whole, failed


def test_deleted_and_back_again(shard):
    content = shard.original.read_bytes()
    aside = shard.original.with_suffix(".aside")
    os.rename(shard.original, aside)
    with pytest.raises(OSError) as gone:
        bounded(open, shard.path, "rb")
    assert gone.value.errno in (errno.ENOENT, errno.ESTALE)
    wait_until(lambda: shard.path.name not in ls(shard.directory), ABSENT_S, "it is not listed")
    wait_until(shard.is_absent, ABSENT_S, "its name is absent")
    [entry] = shard.mount.json("datasets", "digits", "entry.json")["shards"]
    assert entry["file"] is None and "does not exist" in entry["error"]
    [problem] = shard.mount.status()["problems"]
    assert problem["key"] == str(shard.original)

    os.rename(aside, shard.original)
    wait_until(lambda: bounded(os.path.exists, shard.path), ABSENT_S, "it is found again")
    wait_until(lambda: shard.path.name in ls(shard.directory), ABSENT_S, "it is listed again")
    shard.shows(content)
    wait_until(lambda: not shard.mount.status()["problems"], ABSENT_S, "no problem any more")


def test_back_again_while_nobody_looks(shard):
    """A listing alone does not ask for the file: it shows again by itself."""
    aside = shard.original.with_suffix(".aside")
    os.rename(shard.original, aside)
    with pytest.raises(OSError):
        bounded(open, shard.path, "rb")
    assert shard.path.name not in ls(shard.directory)
    os.rename(aside, shard.original)
    wait_until(lambda: shard.path.name in ls(shard.directory), NOT_ASKED_S, "it is listed again")


def test_reader_of_a_deleted_file(shard):
    content = shard.original.read_bytes()
    with open(shard.path, "rb", buffering=0) as reader:
        os.unlink(shard.original)
        assert bounded(os.pread, reader.fileno(), len(content), 0) == content
    with pytest.raises(OSError):
        bounded(open, shard.path, "rb")


def test_becomes_something_else(shard):
    """A FIFO, a directory or a link out of the root in its place is not opened."""
    content = shard.original.read_bytes()
    secret = shard.original.parent.parent / "secret"
    secret.write_bytes(b"secret")
    replacements = {
        "FIFO": lambda: os.mkfifo(shard.original),
        "directory": lambda: shard.original.mkdir(),
        "link": lambda: shard.original.symlink_to(secret),
    }
    for what, replacement in replacements.items():
        shard.original.unlink()
        replacement()
        with pytest.raises(OSError) as refused:
            bounded(read, shard.path)
        assert refused.value.errno in (errno.ENOENT, errno.ESTALE, errno.EACCES, errno.EINVAL), what
        if shard.original.is_dir():
            shard.original.rmdir()
        else:
            shard.original.unlink()
        shard.original.write_bytes(content)
        wait_until(lambda: bounded(os.path.exists, shard.path), ABSENT_S, f"back after a {what}")
        assert sha256(shard.path) == sha256(shard.original)

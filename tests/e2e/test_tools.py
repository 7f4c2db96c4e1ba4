"""Ordinary programs on the mount: exact bytes, true sizes, no needless requests, no writes."""

import errno
import hashlib
import os
import random
import shutil
import stat
import subprocess
import sys

import pytest

from bounded import bounded, ls, read, run, sha256
from index_db import IndexDb, make_shard
from overlay import overlay, passthrough_is_possible

MIB = 1 << 20
# Requests that a warm listing must not send.
COUNTED = ["lookup", "getattr", "opendir", "readdir", "open", "read", "readlink"]

MMAP_READER = """
import hashlib, mmap, random, sys
with open(sys.argv[1], "rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as mapped:
    places = random.Random(1).sample(range(len(mapped)), 200)
    print(hashlib.sha256(b"".join(mapped[at:at + 5000] for at in places)).hexdigest())
    print(hashlib.sha256(mapped).hexdigest())
"""


class Tree:
    """The mount of a module, and the original files by (dataset, shard name)."""

    def __init__(self, mount, files):
        self.mount = mount
        self.files = files

    def shards(self):
        return {
            self.mount / "datasets" / dataset / name: original
            for (dataset, name), original in self.files.items()
        }


@pytest.fixture(scope="module", params=["passthrough", "daemon"])
def tree(request, module_stack):
    base = module_stack.directory / request.param
    store = base / "store" if request.param == "passthrough" else overlay(base, module_stack)
    files = {}
    with IndexDb(store / "index.db") as index:
        index.schema()
        for dataset, sizes in {"big": [64, 64], "medium": [8] * 6, "small": [0, 0, 0]}.items():
            names = [f"{dataset}-{i:06d}.tar" for i in range(len(sizes))]
            for name, mib in zip(names, sizes, strict=True):
                path = index.root / dataset / name
                make_shard(path, count=mib or 2, bytes_each=MIB if mib else 77)
                files[dataset, name] = path
            cid = index.entry(dataset, [str(files[dataset, name]) for name in names])
            index.label(dataset, cid, version="1.0.0")
        odd = {"empty.tar": b"", "one.tar": b"x", "page.tar": b"p" * 4096, "more.tar": b"m" * 4097}
        for name, content in odd.items():
            files["odd", name] = index.root / name
            files["odd", name].write_bytes(content)
        index.entry("odd", [str(files["odd", name]) for name in odd], metadata={"k": "v"})
    mount = module_stack.mount(base / "mounted", index=f"sqlite:{index.path}", options="ro")
    read(mount / "datasets" / "odd" / "one.tar")
    yield Tree(mount, files)
    opens = mount.metrics()
    if request.param == "daemon":
        assert opens["passthrough_opens"] == 0 and opens["cached_opens"] > 0
    elif passthrough_is_possible(store):
        assert opens["passthrough_opens"] > 0 and opens["cached_opens"] == 0
    mount.unmount()
    shutil.rmtree(base / "store", ignore_errors=True)


def same_files(copied, original):
    run("cmp", copied, original)


# ---------------------------------------------------------------- copies


def test_cp(tree, tmp_path):
    for number, (path, original) in enumerate(tree.shards().items()):
        run("cp", path, tmp_path / f"{number}.tar")
        same_files(tmp_path / f"{number}.tar", original)
        (tmp_path / f"{number}.tar").unlink()


def test_cp_r(tree, tmp_path):
    run("cp", "-r", tree.mount / "datasets", tmp_path / "copy")
    assert ls(tmp_path / "copy") == ["big", "medium", "odd", "small"]
    for (dataset, name), original in tree.files.items():
        same_files(tmp_path / "copy" / dataset / name, original)
        for record in ("entry.json", "metadata.json"):
            copied = tmp_path / "copy" / dataset / record
            same_files(copied, tree.mount / "datasets" / dataset / record)


def test_tar_of_the_tree(tree, tmp_path):
    places = ["datasets", "schemas", "labels", "by-cid"]
    run("tar", "cf", tmp_path / "all.tar", "-C", tree.mount.path, *places)
    run("tar", "xf", tmp_path / "all.tar", "-C", tmp_path)
    for (dataset, name), original in tree.files.items():
        same_files(tmp_path / "datasets" / dataset / name, original)
    for label in ls(tree.mount / "labels"):
        copied, shown = tmp_path / "labels" / label, tree.mount / "labels" / label
        assert os.readlink(copied) == os.readlink(shown) and ls(copied) == ls(shown)


def test_tar_tf_of_a_shard(tree):
    for path, original in tree.shards().items():
        if path.parent.name != "odd":
            listed = run("tar", "tvf", path).stdout
            assert listed == run("tar", "tvf", original).stdout and listed.count(".msgpack") >= 2


def test_rsync_sends_nothing_twice(tree, tmp_path):
    places = [f"{tree.mount / name}" for name in ("datasets", "schemas", "labels")]
    first = run("rsync", "-ai", *places, tmp_path).stdout
    assert "datasets/big/big-000001.tar" in first
    for (dataset, name), original in tree.files.items():
        same_files(tmp_path / "datasets" / dataset / name, original)
    assert run("rsync", "-ai", *places, tmp_path).stdout == ""
    # The same when it reads everything to compare.
    assert run("rsync", "-aic", *places, tmp_path).stdout == ""


def test_md5sum(tree, tmp_path):
    sums = []
    for path, original in tree.shards().items():
        digest = hashlib.md5(original.read_bytes()).hexdigest()
        sums.append(f"{digest}  {path}\n")
    (tmp_path / "sums").write_text("".join(sums))
    assert run("md5sum", "-c", tmp_path / "sums").stdout.count(": OK") == len(sums)


# ---------------------------------------------------------------- reads


def test_mmap(tree):
    for path, original in tree.shards().items():
        if os.stat(original).st_size > 5000:
            digests = [
                run(sys.executable, "-c", MMAP_READER, place).stdout for place in (path, original)
            ]
            assert digests[0] == digests[1] and digests[0].strip()


@pytest.mark.parametrize("what", ["the same shard", "different shards"])
def test_eight_readers_at_once(tree, what):
    shards = tree.shards()
    paths = [path for path in shards if path.parent.name in ("big", "medium")]
    if what == "the same shard":
        paths = paths[:1] * 8
    assert len(paths) == 8
    readers = [
        subprocess.Popen(["sha256sum", path], stdout=subprocess.PIPE, text=True) for path in paths
    ]
    for path, reader in zip(paths, readers, strict=True):
        output, _ = reader.communicate(timeout=60)
        assert reader.returncode == 0
        assert output.split()[0] == sha256(shards[path])


def test_random_preads(tree):
    path, original = list(tree.shards().items())[0]
    content = original.read_bytes()
    numbers = random.Random(7)
    descriptor = bounded(os.open, path, os.O_RDONLY)
    try:
        for _ in range(500):
            at = numbers.randrange(len(content) + 10000)
            size = numbers.choice([1, 511, 4096, 5000, 65536, MIB + 1])
            assert bounded(os.pread, descriptor, size, at) == content[at : at + size], (at, size)
        assert os.pread(descriptor, 10, len(content)) == b""
        assert os.lseek(descriptor, 0, os.SEEK_END) == len(content)
    finally:
        os.close(descriptor)


def test_direct_reads(tree, tmp_path):
    path, original = list(tree.shards().items())[1]
    run("dd", f"if={path}", f"of={tmp_path / 'copy'}", "iflag=direct", "bs=1M")
    same_files(tmp_path / "copy", original)


# ---------------------------------------------------------------- sizes and attributes


def test_find_by_size(tree):
    directory = tree.mount / "datasets"
    found = run("find", directory, "-name", "*.tar", "-size", "+60M").stdout.splitlines()
    assert sorted(found) == [str(directory / "big" / f"big-00000{i}.tar") for i in range(2)]
    found = run("find", directory, "-size", "0", "-type", "f").stdout.splitlines()
    assert found == [str(directory / "odd" / "empty.tar")]
    found = run("find", directory, "-name", "*.tar", "-size", "-4097c").stdout.splitlines()
    assert sorted(os.path.basename(path) for path in found) == ["empty.tar", "one.tar", "page.tar"]
    assert run("find", directory, "-type", "d").stdout.count("\n") == 5


def test_du(tree):
    for (dataset, name), original in tree.files.items():
        path = tree.mount / "datasets" / dataset / name
        size = original.stat().st_size
        assert run("du", "-b", path).stdout.split()[0] == str(size)
        assert run("du", "-B512", path).stdout.split()[0] == str((size + 511) // 512)
    directory = tree.mount / "datasets" / "big"
    sizes = [os.stat(directory / name) for name in ls(directory)]
    total = int(run("du", "-sb", directory).stdout.split()[0])
    assert total == sum(st.st_size for st in sizes)
    blocks = int(run("du", "-s", "-B512", directory).stdout.split()[0])
    assert blocks == sum(st.st_blocks for st in sizes) >= 2 * 64 * MIB // 512


def test_stat_fields(tree):
    mount = tree.mount
    for path, original in tree.shards().items():
        shown, real = bounded(os.stat, path), original.stat()
        assert (shown.st_size, shown.st_mtime_ns) == (real.st_size, real.st_mtime_ns)
        assert (shown.st_mode, shown.st_nlink) == (stat.S_IFREG | 0o444, 1)
        assert (shown.st_uid, shown.st_gid) == (os.getuid(), os.getgid())
        assert shown.st_blocks == (real.st_size + 511) // 512
    inodes = [os.stat(path).st_ino for path in tree.shards()]
    assert len(set(inodes)) == len(inodes)
    assert os.stat(mount / "datasets").st_nlink == 2 + 4
    assert os.stat(mount / "by-cid").st_nlink == 2 + 4
    assert os.stat(mount.path).st_nlink == 2 + 5
    for name in ("", "datasets", "datasets/big", "by-cid", ".atdatafs"):
        assert os.stat(mount / name).st_mode == stat.S_IFDIR | 0o755
    st = os.statvfs(mount.path)
    assert st.f_namemax == 255 and st.f_flag & os.ST_RDONLY and st.f_blocks > 0
    assert run("df", mount.path).returncode == 0


def test_owner_and_umask_options(tree, stack, tmp_path):
    index = next(iter(tree.files.values())).parent.parent.parent / "index.db"
    options = "uid=1234,gid=4321,umask=027"
    mount = stack.mount(tmp_path / "other", index=f"sqlite:{index}", options=options)
    modes = {"datasets": 0o750, "datasets/big": 0o750, "datasets/odd/one.tar": 0o440}
    for path, mode in modes.items():
        st = os.stat(mount / path)
        assert (st.st_uid, st.st_gid, stat.S_IMODE(st.st_mode)) == (1234, 4321, mode)
    assert mount.json(".atdatafs", "config.json")["umask"] == "027"


def test_second_listing_asks_nothing(tree):
    mount = tree.mount
    listings = [
        ["ls", "-l", mount / "datasets"],
        ["ls", "-l", mount / "datasets" / "medium"],
        ["ls", "-lR", mount / "labels", mount / "schemas", mount / "by-cid"],
        ["find", mount / "datasets", "-size", "+1k"],
        ["du", "-s", mount / "datasets"],
    ]
    for listing in listings:
        first = run(*listing).stdout
        mount.metrics()
        before = mount.metrics()
        reading_metrics = mount.metrics()
        assert run(*listing).stdout == first
        after = mount.metrics()
        for counter in COUNTED:
            name = f"{counter}_requests"
            own = reading_metrics[name] - before[name]
            assert after[name] - reading_metrics[name] == own, (listing, name)


# ---------------------------------------------------------------- what is refused


def test_writes_are_refused(tree):
    mount = tree.mount
    shard = mount / "datasets" / "odd" / "one.tar"
    attempts = {
        "open": lambda: open(shard, "r+b"),
        "append": lambda: open(shard, "ab"),
        "truncate": lambda: os.truncate(shard, 0),
        "unlink": lambda: os.unlink(shard),
        "rename": lambda: os.rename(shard, mount / "datasets" / "odd" / "two.tar"),
        "rename a dataset": lambda: os.rename(mount / "datasets" / "odd", mount / "datasets" / "b"),
        "create": lambda: open(mount / "datasets" / "odd" / "new.tar", "xb"),
        "create on top": lambda: open(mount / "notes.txt", "xb"),
        "mkdir": lambda: os.mkdir(mount / "datasets" / "new"),
        "rmdir": lambda: os.rmdir(mount / "datasets" / "odd"),
        "symlink": lambda: os.symlink("../datasets/odd", mount / "labels" / "odd@1.0.0"),
        "link": lambda: os.link(shard, mount / "datasets" / "odd" / "two.tar"),
        "chmod": lambda: os.chmod(shard, 0o600),
        "chown": lambda: os.chown(shard, 1, 1),
        "utime": lambda: os.utime(shard),
        "setxattr": lambda: os.setxattr(shard, "user.x", b"1"),
        "mknod": lambda: os.mkfifo(mount / "datasets" / "fifo"),
    }
    for what, attempt in attempts.items():
        with pytest.raises(OSError) as refused:
            bounded(attempt)
        assert refused.value.errno == errno.EROFS, what
    assert read(shard) == b"x"
    done = run("cp", "/etc/hostname", mount / "datasets" / "odd" / "new.tar", check=False)
    assert done.returncode == 1 and "Read-only file system" in done.stderr


def test_extended_attributes_are_unsupported(tree):
    shard = tree.mount / "datasets" / "odd" / "one.tar"
    with pytest.raises(OSError) as refused:
        bounded(os.getxattr, shard, "user.atdata.cid")
    assert refused.value.errno == errno.ENOTSUP
    with pytest.raises(OSError) as refused:
        bounded(os.listxattr, shard)
    assert refused.value.errno == errno.ENOTSUP


def test_what_is_no_file(tree):
    mount = tree.mount
    with pytest.raises(NotADirectoryError):
        os.listdir(mount / "datasets" / "odd" / "one.tar")
    with pytest.raises(IsADirectoryError):
        open(mount / "datasets" / "odd", "rb")
    for absent in ("nothing", "datasets/none", "datasets/odd/none.tar", "by-cid/bafynone"):
        with pytest.raises(FileNotFoundError):
            bounded(os.stat, mount / absent)
    with pytest.raises(OSError) as refused:
        bounded(os.stat, mount / "datasets" / ("x" * 256))
    assert refused.value.errno == errno.ENAMETOOLONG

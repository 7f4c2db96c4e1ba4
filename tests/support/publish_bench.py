"""Where tests publish: one mount of a world, a new dataset for each test."""

import os

from bounded import bounded, ls, run, sha256

USUAL = (40, 75_000)  # samples of a shard, bytes of each
MTIME_NS = 1700000001_500000000
RECORDS = ["entry.json", "metadata.json", "schema.json", "schema.jsonschema", "schema.py"]


def refusal(call, *args):
    """The errno of a call that must fail."""
    try:
        bounded(call, *args)
    except OSError as error:
        return error.errno
    raise AssertionError(f"{args} is not refused")


def create(path):
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644))


class Bench:
    """A mount, and what is copied into it."""

    def __init__(self, world, env, *, prefix="tool", **mount):
        self.world = world
        self.env = env
        self.prefix = prefix
        self.mount = world.mount(**mount)
        self.datasets = self.sources = 0

    @property
    def originals(self):
        """What the current dataset's shards must be like."""
        path = self.world.directory / f"original-{self.prefix}-{self.datasets}"
        path.mkdir(exist_ok=True)
        return path

    def dataset(self):
        """A new one; its directory."""
        self.datasets += 1
        path = self.mount / "datasets" / f"{self.prefix}{self.datasets:03d}"
        bounded(os.mkdir, path)
        self.world.forget()
        return path

    def source(self, *, count=USUAL[0], bytes_each=USUAL[1], name="shard-000000.tar"):
        """(the path to copy from, in a directory of its own, the same file for the test)."""
        self.sources += 1
        path = self.world.shard(name, count, bytes_each, seed=f"{self.prefix}-{self.sources}")
        os.utime(path, ns=(MTIME_NS, MTIME_NS))
        (self.originals / name).unlink(missing_ok=True)
        os.link(path, self.originals / name)
        return path, self.originals / name

    def source_directory(self, names, *, count, bytes_each):
        """(a directory to copy from, the same files for the test)."""
        pairs = [self.source(name=name, count=count, bytes_each=bytes_each) for name in names]
        directory = self.world.directory / f"directory-{self.prefix}-{self.datasets}"
        directory.mkdir()
        for path, _ in pairs:
            path.rename(directory / path.name)
        return directory, [original for _, original in pairs]

    def tree(self):
        """The members of a shard, unpacked."""
        path, _ = self.source(count=5, bytes_each=300_000, name="tree.tar")
        tree = self.world.directory / f"tree-{self.prefix}-{self.datasets}"
        tree.mkdir()
        run("tar", "xf", path, "-C", tree)
        return tree

    def check(self, directory, *originals, samples=None, sent_once=True):
        """The mount shows them at once and exactly, the index and the store have them."""
        names = [original.name for original in originals]
        assert ls(directory) == sorted(RECORDS + names)
        for original in originals:
            assert os.stat(directory / original.name).st_size == original.stat().st_size
            assert sha256(directory / original.name) == sha256(original)
        entry = self.world.assert_published(directory.name, *originals, samples=samples)
        sent = self.world.sent_bytes(names)
        wanted = sum(original.stat().st_size for original in originals)
        assert sent in (None, wanted) or not sent_once
        self.world.assert_clean()
        return entry

"""Where a test publishes: an index and a store, looked at past the mount.

DiskWorld: the library's embedded default (SQLite and its disk store). TeamWorld: Redis and MinIO.
Both answer the same questions, from the servers and files themselves.
"""

import contextlib
import hashlib
import json
import sqlite3
from pathlib import Path

import msgpack

from bounded import wait_until
from index_db import cid_of, make_shard
from proxy_rules import WRITING
from remote import Remote

SCRATCH_SECONDS = 20  # what was sent and is not wanted is taken back in the background
INDEX_SUFFIX = ".atdatafs-members"  # the member index beside a shard


def _unpack(value):
    return None if value is None else msgpack.unpackb(value)


class World:
    """`state` is the mounts' state directory; `made` counts the shards that were made."""

    def __init__(self, directory):
        self.directory = Path(directory)
        self.state = self.directory / "state"
        self.sources = self.directory / "sources"
        self.sources.mkdir(parents=True)

    # -------- sources

    def shard(self, name, count=20, bytes_each=2000, seed=0):
        """A good tar of `Plain`-like samples {n, filler}, as a path of its own."""
        return Path(make_shard(self.sources / f"{seed}" / name, count, bytes_each, seed))

    # -------- the index

    def named(self, name):
        return [entry for entry in self.entries() if entry["name"] == name]

    def entry(self, name):
        """The only entry of that name; None when there is none."""
        found = self.named(name)
        assert len(found) <= 1, f"{len(found)} entries are called {name}"
        return found[0] if found else None

    # -------- what must hold

    def assert_published(self, dataset, *paths, samples=None):
        """The dataset consists of these files exactly, and everything about it is right."""
        entry = self.entry(dataset)
        assert entry, f"{dataset} is not in the index: {[e['name'] for e in self.entries()]}"
        urls = entry["data_urls"]
        assert len(set(urls)) == len(urls)
        assert sorted(url.rsplit("/", 1)[1] for url in urls) == sorted(p.name for p in paths)
        assert entry["cid"] == entry["key"] == cid_of(entry["schema_ref"], urls)
        label = self.label(dataset)
        assert label and label["cid"] == entry["cid"]
        by_name = {path.name: path for path in paths}
        records = entry["metadata"]["atdatafs"]["shards"]
        for url in urls:
            data = by_name[url.rsplit("/", 1)[1]].read_bytes()
            assert hashlib.sha256(self.object(url)).digest() == hashlib.sha256(data).digest(), url
            assert entry["metadata"]["checksums"][url] == hashlib.sha256(data).hexdigest()
            assert records[url]["size"] == len(data)
            if samples is not None:
                assert records[url]["samples"] == samples
        reference = entry["schema_ref"].rsplit("/", 1)[1]
        assert reference in self.schemas(), reference
        return entry

    def assert_clean(self, mount=None):
        """No object without an entry, no upload, no spool file is left."""

        def left():
            named = {url for entry in self.entries() for url in entry["data_urls"]}
            objects = self.objects() - named
            return sorted(objects) + self.uploads() + self.spools()

        try:
            wait_until(lambda: not left(), SCRATCH_SECONDS, "nothing is left")
        except AssertionError:
            raise AssertionError(f"left: {left()}") from None

    def sent_bytes(self, names):
        """How many bytes of shards of these names went to the store; None: nobody counts them."""
        return None

    def forget(self):
        """What was counted."""

    def objects(self):
        """What the store has; a member index counts as its shard's, unless it is left alone."""
        stored = self.stored()
        return {
            url
            for url in stored
            if not (url.endswith(INDEX_SUFFIX) and url.removesuffix(INDEX_SUFFIX) in stored)
        }

    def spools(self):
        return [str(path) for path in self.state.rglob("spool-*")]


class DiskWorld(World):
    kind = "disk"

    def __init__(self, stack, home):
        super().__init__(stack.directory / "disk-world")
        self.stack = stack
        self.home = home
        self.path = home / ".atdata" / "index.db"
        self.root = home / ".atdata" / "data"

    def mount(self, directory=None, options="", **how):
        text = f"state_dir={self.state}" + (f",{options}" if options else "")
        return self.stack.mount(directory, home=self.home, options=text, **how)

    @staticmethod
    def flags(*names):
        """What mount() takes to have these options."""
        return {"options": ",".join(names)}

    @property
    def index_url(self):
        return f"sqlite:{self.path}"

    @property
    def command_options(self):
        return f"state_dir={self.state}"

    @contextlib.contextmanager
    def locked(self):
        """Nobody can commit to the index meanwhile."""
        db = sqlite3.connect(self.path, timeout=30, isolation_level=None)
        db.execute("BEGIN IMMEDIATE")
        try:
            yield
        finally:
            db.execute("ROLLBACK")
            db.close()

    def _rows(self, query):
        """A file that was killed while it was made has no tables yet: the library makes them too."""
        if not self.path.exists():
            return []
        db = sqlite3.connect(self.path, timeout=30)
        try:
            return db.execute(query).fetchall()
        except sqlite3.OperationalError as error:
            if "no such table" not in str(error):
                raise
            return []
        finally:
            db.close()

    def entries(self):
        query = "SELECT cid, name, schema_ref, data_urls, metadata FROM dataset_entries"
        return [
            {
                "key": cid,
                "cid": cid,
                "name": name,
                "schema_ref": ref,
                "data_urls": _unpack(urls),
                "metadata": _unpack(metadata),
            }
            for cid, name, ref, urls, metadata in self._rows(query)
        ]

    def labels(self):
        query = "SELECT name, version, cid FROM labels"
        return {(name, version): {"cid": cid} for name, version, cid in self._rows(query)}

    def label(self, name, version=""):
        return self.labels().get((name, version))

    def schemas(self):
        query = "SELECT name, version, schema_json FROM schemas"
        return {f"{name}@{version}": json.loads(text) for name, version, text in self._rows(query)}

    def object(self, url):
        return Path(url).read_bytes()

    def stored(self):
        return {str(path) for path in self.root.rglob("*") if path.is_file()}

    def uploads(self):
        return []


class TeamWorld(World):
    kind = "team"

    def __init__(self, stack, redis_server, minio, proxy):
        super().__init__(stack.directory / "team-world")
        self.remote = Remote(stack, redis_server, minio, proxy)
        self.remote.index.client.flushdb()
        self.client = self.remote.index.client
        self.minio = minio
        self.bucket = self.remote.bucket
        self.prefix = f"s3://{self.bucket}/data"

    def mount(self, directory=None, options=None, **how):
        more = {"state_dir": self.state} | (options or {})
        return self.remote.mount(directory, start=how, **more)

    @staticmethod
    def flags(*names):
        return {"options": dict.fromkeys(names, True)}

    @property
    def index_url(self):
        return self.remote.redis_server.url

    @property
    def command_options(self):
        return self.remote.options(state_dir=self.state)

    def entries(self):
        found = []
        for key in self.client.scan_iter("LocalDatasetEntry:*", count=1000):
            fields = self.client.hgetall(key)
            if not fields:  # deleted between the two
                continue
            found.append(
                {
                    "key": key.decode().partition(":")[2],
                    "cid": fields[b"cid"].decode(),
                    "name": fields[b"name"].decode(),
                    "schema_ref": fields[b"schema_ref"].decode(),
                    "data_urls": _unpack(fields[b"data_urls"]),
                    "metadata": _unpack(fields.get(b"metadata")),
                }
            )
        return found

    def labels(self):
        found = {}
        for key in self.client.scan_iter("Label:*", count=1000):
            fields = {k.decode(): v.decode() for k, v in self.client.hgetall(key).items()}
            found[(fields["name"], fields["version"])] = fields
        return found

    def label(self, name, version=""):
        return self.labels().get((name, version))

    def schemas(self):
        keys = list(self.client.scan_iter("LocalSchema:*", count=1000))
        return {key.decode().partition(":")[2]: json.loads(self.client.get(key)) for key in keys}

    def object(self, url):
        bucket, _, key = url.removeprefix("s3://").partition("/")
        return self.minio.s3.get_object(Bucket=bucket, Key=key)["Body"].read()

    def stored(self):
        pages = self.minio.s3.get_paginator("list_objects_v2").paginate(Bucket=self.bucket)
        return {
            f"s3://{self.bucket}/{item['Key']}" for page in pages for item in page.get("Contents", [])
        }

    def uploads(self):
        """Unfinished ones, by key: MinIO lists them for an exact key only."""
        found = []
        for key in self.keys_written():
            reply = self.minio.s3.list_multipart_uploads(Bucket=self.bucket, Prefix=key)
            found += [f"upload of {upload['Key']}" for upload in reply.get("Uploads", [])]
        return found

    def sent_bytes(self, names):
        puts = self.remote.proxy.requests("PUT") + self.remote.proxy.requests("PART")
        return sum(put.taken for put in puts if put.key.rpartition("/")[2] in names)

    def forget(self):
        self.remote.forget()

    def keys_written(self):
        """The keys that any write went to, as the proxy has seen them."""
        keys = set()
        for request in self.remote.proxy.requests():
            if request.kind in WRITING:
                keys.add(request.key)
        return sorted(key for key in keys if key)

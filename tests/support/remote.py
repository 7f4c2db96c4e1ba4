"""A team's storage for one test: an index in Redis, a bucket in MinIO, the proxy before it, and
mounts of them."""

import errno
import hashlib
import uuid

from bounded import ls, sha256, wait_until
from proxy_rules import repeated_bytes
from redis_index import RedisIndex
from servers import content

MIB = 1 << 20
HONEST = {errno.EIO, errno.ESTALE, errno.ETIMEDOUT}  # what a read that fails may say
RECOVERS_SECONDS = 60  # from whatever a store has done


class Remote:
    """`objects` has what the test has put, by key; `url(key)` is what the index calls it."""

    def __init__(self, stack, redis_server, minio, proxy):
        self.stack = stack
        self.redis_server = redis_server
        self.minio = minio
        self.proxy = proxy
        self.index = RedisIndex(redis_server)
        self.index.schema()
        self.bucket = minio.make_bucket(f"team-{uuid.uuid4().hex[:12]}")
        self.directory = stack.directory / f"remote-{self.bucket}"
        self.cache = self.directory / "cache"
        self.directory.mkdir()
        self.env_file = minio.write_env_file(self.directory / ".env", proxy.url)
        self.objects = {}

    def url(self, key):
        return f"s3://{self.bucket}/{key}"

    def put(self, key, data=None, size=None):
        """An object, past the proxy; its contents are made up when only a size is given."""
        data = content(f"{key} {size}", size) if data is None else data
        self.minio.put(self.bucket, key, data)
        self.objects[key] = data
        return data

    def dataset(self, name, shards, size, *, metadata=None, prefix="data"):
        """A dataset of `shards` shards of `size` bytes; returns their keys."""
        keys = [f"{prefix}/{name}/shard-{i:06d}.tar" for i in range(shards)]
        for key in keys:
            self.put(key, size=size)
        self.index.entry(name, [self.url(key) for key in keys], metadata=metadata)
        return keys

    def options(self, **more):
        """The text after -o; an option that is None is left out, True has no value."""
        options = {
            "store": f"s3://{self.bucket}/data",
            "endpoint": self.proxy.url,
            "env_file": self.env_file,
            "cache_dir": self.cache,
            "cache_size": "10G",
            "timeout": 10,
        } | more
        return ",".join(
            name if value is True else f"{name}={value}"
            for name, value in options.items()
            if value is not None
        )

    def mount(self, directory=None, index=None, start=None, **options):
        """A mount of the index in Redis, with these options changed."""
        home = self.directory / "home"
        home.mkdir(exist_ok=True)
        return self.stack.mount(
            directory,
            home=home,
            index=index or self.redis_server.url,
            options=self.options(**options),
            **(start or {}),
        )

    # -------- what was fetched

    def forget(self):
        self.proxy.forget()

    def gets(self, key=None):
        return self.proxy.requests("GET", key)

    def count(self, kind):
        return self.proxy.counts().get(kind, 0)

    def repeated(self, key):
        return repeated_bytes(self.gets(key))

    def settled(self, mount):
        """Nothing is being fetched any more: what was read ahead has come too."""

        def quiet():
            metrics = mount.metrics()
            return metrics["cache_flights_under_way"] == metrics["net_in_flight"] == 0

        wait_until(quiet, 20, "nothing is being fetched")

    def cache_files(self, suffix=".data"):
        return sorted(self.cache.rglob(f"*{suffix}"))


def shard_paths(mount, name):
    """The shards of a dataset, in order."""
    directory = mount / "datasets" / name
    return [directory / file for file in ls(directory) if file.endswith(".tar")]


def same_bytes(path, data, timeout=60):
    """The file has these bytes (by digest: a difference would print megabytes)."""
    return sha256(path, timeout) == hashlib.sha256(data).hexdigest()


def reads_well(path, data):
    """The file has these bytes; false when reading it fails honestly."""
    try:
        return same_bytes(path, data)
    except OSError as error:
        assert error.errno in HONEST, error
        return False

"""What users of the real atdata library do; runs in the peer process (peer.py), never in a test's.

Every function returns plain values. The classes are those of samples.py.
"""

import dataclasses
import importlib.util
import os
import pickle
import sys
import time
import traceback
from multiprocessing.connection import Connection
from pathlib import Path

import atdata
import redis
import webdataset
from atdata._cid import generate_cid
from atdata.index import LocalDatasetEntry
from atdata.stores import S3DataStore
from numpy.typing import NDArray

import samples


@atdata.packable
class Scalars:
    """One of each: "quotes", newlines
    and naïve 数."""

    text: str
    number: int
    ratio: float
    flag: bool
    raw: bytes
    tags: list[str]
    table: list[list[int]]
    maybe_text: str | None = None
    maybe_number: int | None = None


@atdata.packable
class Arrays:
    f2: NDArray
    f4: NDArray
    f8: NDArray
    i1: NDArray
    i2: NDArray
    i4: NDArray
    i8: NDArray
    u1: NDArray
    u2: NDArray
    u4: NDArray
    u8: NDArray
    flags: NDArray
    waves: NDArray


@atdata.packable
class MaybeArray:
    label: int
    maybe: NDArray | None = None


TYPES = {"Scalars": Scalars, "Arrays": Arrays, "MaybeArray": MaybeArray}
_index = None


def index():
    global _index
    if _index is None:
        _index = atdata.Index()
    return _index


def use_servers(redis_port, credentials, bucket):
    """From now on the index is in Redis, the shards in S3.

    `credentials`: the path of a .env file, or a dictionary of what would stand in it.
    """
    global _index
    store = S3DataStore(credentials, bucket=bucket)
    server = redis.Redis("127.0.0.1", redis_port)
    _index = atdata.Index(redis=server, data_store=store, atmosphere=None)


def use_redis(port):
    """From now on the index is in Redis, and shards stay where they are."""
    global _index
    _index = atdata.Index(redis=redis.Redis("127.0.0.1", port), atmosphere=None)


def redis_command(*words):
    """For what the library has no function: through its own connection."""
    return index().provider.redis.execute_command(*words)


def _plain_entry(entry):
    return {
        "name": entry.name,
        "cid": entry.cid,
        "schema_ref": entry.schema_ref,
        "data_urls": list(entry.data_urls),
        "metadata": entry.metadata,
    }


def _plain_sample(sample):
    return {field.name: getattr(sample, field.name) for field in dataclasses.fields(sample)}


def _make(kind, count):
    return [TYPES[kind](**sample) for sample in samples.expected(kind, count)]


# ---------------------------------------------------------------- writing


def open_index():
    index()


def write(name, kind="Scalars", count=3, **how):
    """Index.write_samples: into the disk store, or where use_servers() said."""
    return _plain_entry(index().write_samples(_make(kind, count), name=name, **how))


def write_shards(stem, kind, count, per_shard):
    """Shards below the disk store's root that no index knows yet; returns their paths."""
    stem = Path.home() / ".atdata" / "data" / stem
    stem.parent.mkdir(parents=True, exist_ok=True)
    atdata.write_samples(_make(kind, count), stem, maxcount=per_shard)
    return sorted(str(path) for path in stem.parent.glob("*.tar"))


def insert(name, url, kind="Scalars", **how):
    """Index.insert_dataset: without a store it records the URL as it stands, else it copies."""
    return _plain_entry(index().insert_dataset(atdata.Dataset[TYPES[kind]](url), name=name, **how))


def label(name, cid, **how):
    index().label(name, cid, **how)


def publish_schema(kind, version=None, description=None):
    return index().publish_schema(TYPES[kind], version=version, description=description)


def begin_transaction(name):
    """An uncommitted write, its lock held until roll_back()."""
    connection = index().provider._conn
    connection.execute("BEGIN IMMEDIATE")
    connection.execute("UPDATE dataset_entries SET name = ?", (name,))


def roll_back():
    index().provider._conn.rollback()


# ---------------------------------------------------------------- asking


def schema(ref):
    return index().get_schema(ref)


def list_schemas():
    return index().list_schemas()


def entries():
    return [_plain_entry(entry) for entry in index().list_entries()]


def list_until(stop_path, names):
    """Lists everything again and again until that file is there; names are looked up once they
    were seen. Returns how often; how often a KeyError was gone at the next try; and what else went
    wrong: (what was called, in which round, the error)."""
    names = set(names)
    seen = set()
    problems = []
    rounds = again = 0

    def call(what, function, *args):
        nonlocal again
        for last in (False, False, True):
            try:
                return function(*args)
            except Exception as error:
                if last or not isinstance(error, KeyError):
                    problems.append((what, rounds, f"{type(error).__name__}: {error}"))
                    return []
                again += 1

    while not os.path.exists(stop_path):
        rounds += 1
        listed = [entry.name for entry in call("list_datasets", index().list_datasets)]
        for name in seen:
            call("get_entry_by_name", index().get_entry_by_name, name)
            call("get_dataset", index().get_dataset, name)
        seen |= names & set(listed)
        call("list_schemas", index().list_schemas)
        call("list_labels", index().list_labels)
    return rounds, again, problems


def cid_of(schema_ref, data_urls):
    return generate_cid({"data_urls": data_urls, "schema_ref": schema_ref})


def has_default(name):
    """Whether a lookup by label and without a version finds one entry for certain. Over Redis any
    label of the name may be found: the last that SCAN gives (ATDATA-FORMATS 1.7)."""
    labelled = {cid for label, cid, _ in index().list_labels() if label == name}
    return len(labelled) < 2 or type(index().provider).__name__ != "RedisProvider"


def everything_of(name):
    """What the index says of a dataset: by name, by CID, by label, from its listings."""
    entry = index().get_entry_by_name(name)
    again = index().get_entry(entry.cid)
    dataset = index().get_dataset(name)
    assert _plain_entry(entry) == _plain_entry(again)
    if has_default(name):
        assert _plain_entry(entry) == _plain_entry(dataset)
    else:
        assert dataset.cid in [cid for label, cid, _ in index().list_labels() if label == name]
    assert entry.cid == cid_of(entry.schema_ref, list(entry.data_urls))
    fresh = LocalDatasetEntry(
        name=entry.name, schema_ref=entry.schema_ref, data_urls=list(entry.data_urls)
    )
    assert fresh.cid == entry.cid
    assert [listed.cid for listed in index().list_datasets() if listed.name == name] == [entry.cid]
    return _plain_entry(entry)


def decode(ref):
    """(name, [(field, has a default)]) of the class that a schema decodes to."""
    sample_type = index().get_schema_type(ref)
    fields = dataclasses.fields(sample_type)
    return sample_type.__name__, [
        (field.name, field.default is not dataclasses.MISSING) for field in fields
    ]


def load_decoded(name):
    """load_dataset without a class: the samples through the one that the schema decodes to."""
    dataset = atdata.load_dataset(f"@local/{name}", split="train", index=index())
    return [_plain_sample(sample) for sample in dataset.ordered(batch_size=None)]


def load_files_decoded(ref, urls):
    """Shards read as files through the class of a schema."""
    sample_type = index().get_schema_type(ref)
    read = []
    for url in urls:
        dataset = atdata.Dataset[sample_type](url)
        read += [_plain_sample(sample) for sample in dataset.ordered(batch_size=None)]
    return read


# ---------------------------------------------------------------- reading files


def load(path, kind=None):
    """load_dataset of a path; without a kind as dictionaries."""
    if kind:
        dataset = atdata.load_dataset(path, TYPES[kind], split="train")
        return [_plain_sample(sample) for sample in dataset.ordered(batch_size=None)]
    dataset = atdata.load_dataset(path, split="train")
    return [sample.to_dict() for sample in dataset.ordered(batch_size=None)]


def load_indexed(name, kind):
    """load_dataset of a name in the index: from S3, without any mount."""
    dataset = atdata.load_dataset(f"@local/{name}", TYPES[kind], split="train", index=index())
    return [_plain_sample(sample) for sample in dataset.ordered(batch_size=None)]


def load_webdataset(urls):
    """The raw members of every sample."""
    dataset = webdataset.WebDataset(urls, shardshuffle=False)
    return [(sample["__key__"], sample["msgpack"]) for sample in dataset]


def import_schema_py(path):
    """The class of a schema.py, imported as a module of the user's."""
    spec = importlib.util.spec_from_file_location(f"schema_{abs(hash(path))}", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    [name] = module.__all__
    return getattr(module, name)


def load_by_schema_py(path, urls):
    """The samples of shards through the class of a schema.py."""
    sample_type = import_schema_py(path)
    read = []
    for url in urls:
        dataset = atdata.Dataset[sample_type](url)
        read += [_plain_sample(sample) for sample in dataset.ordered(batch_size=None)]
    return read


def describe_schema_py(path):
    """Name, docstring, and each field with whether it has a default."""
    sample_type = import_schema_py(path)
    fields = {
        field.name: field.default is not dataclasses.MISSING
        for field in dataclasses.fields(sample_type)
    }
    return sample_type.__name__, sample_type.__doc__, fields


# ---------------------------------------------------------------- the process


def serve(pipe):
    while True:
        try:
            function, args, kwargs = pipe.recv()
        except EOFError:
            return
        try:
            reply = (True, globals()[function](*args, **kwargs), time.monotonic())
        except BaseException:
            reply = (False, traceback.format_exc(), time.monotonic())
        # Older protocols lose the byte order of big-endian arrays.
        pipe.send_bytes(pickle.dumps(reply, protocol=5))


if __name__ == "__main__":
    os.chdir(Path.home().parent)
    serve(Connection(int(sys.argv[1])))

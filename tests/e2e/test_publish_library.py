"""What was published by copying, the real library reads; what it publishes, the mount shows, and
a shard that is added there it reads again."""

import io
import json
import shutil
import struct

import msgpack
import numpy as np
import pytest

import samples
from bounded import SLACK, ls, read, run, wait_until
from golden import TAGS, Golden
from publish_samples import compressed, library_shard, packed_shard, plain_webdataset
from test_publish_together import library_of

COUNT = 12
NEW = "atdata://local/schema/"
UNIVERSAL = "local://schemas/"


@pytest.fixture
def library(world):
    return library_of(world)


def publish(world, mount, dataset, *paths):
    """Copied; returns the entry as the index has it."""
    directory = mount / "datasets" / dataset
    if dataset not in ls(mount / "datasets"):
        directory.mkdir()
    for path in paths:
        run("cp", path, directory)
    return world.entry(dataset)


def same_entry(world, mount, library, dataset):
    """By name, by CID, in listings; the CID by Python; and what the mount says."""
    theirs = library.everything_of(dataset)
    ours = world.entry(dataset)
    assert theirs == {key: ours[key] for key in theirs}
    wait_until(
        lambda: mount.json("datasets", dataset, "entry.json")["cid"] == theirs["cid"],
        5 * SLACK,
        "the mount shows it",
    )
    shown = mount.json("datasets", dataset, "entry.json")
    assert (shown["schema_ref"], shown["data_urls"]) == (theirs["schema_ref"], theirs["data_urls"])
    return theirs


def check_schema(mount, library, dataset, reference):
    """Listed, got and decoded; the same as the mount's."""
    name = reference.rsplit("/", 1)[1]
    record = library.schema(reference)
    shown = mount.json("datasets", dataset, "schema.json")
    for key in ("name", "version", "fields"):
        assert record[key] == shown[key], key
    assert name in [f"{item['name']}@{item['version']}" for item in library.list_schemas()]
    class_name, fields = library.decode(reference)
    assert class_name == record["name"]
    assert [field for field, _ in fields] == [field["name"] for field in record["fields"]]
    assert [default for _, default in fields] == [field["optional"] for field in record["fields"]]
    return record


def as_decoded(kind, count):
    """What a decoded class gives: arrays that may be missing stay bytes (ATDATA-FORMATS 4.7)."""
    return samples.expected(kind, count)


@pytest.mark.parametrize("pax", [False, True], ids=["ustar", "pax"])
@pytest.mark.parametrize("kind", ["Scalars", "Arrays"])
def test_samples_of_the_library(kind, pax, world, library, tmp_path):
    """Two shards, copied in the wrong order; webdataset's writer, the library's samples."""
    mount = world.mount()
    parts = [
        library_shard(tmp_path / f"part-{i}.tar", kind, COUNT, seed=i * COUNT, pax=pax)
        for i in range(2)
    ]
    publish(world, mount, kind.lower(), *reversed(parts))
    entry = same_entry(world, mount, library, kind.lower())
    assert entry["schema_ref"] == f"{NEW}{kind}@1.0.0"
    check_schema(mount, library, kind.lower(), entry["schema_ref"])
    wanted = samples.expected(kind, 2 * COUNT)
    samples.check(library.load_decoded(kind.lower()), wanted)
    samples.check(library.load_indexed(kind.lower(), kind), wanted)
    paths = [str(mount / "datasets" / kind.lower() / path.name) for path in parts]
    samples.check(library.load_files_decoded(entry["schema_ref"], paths), wanted)


def compact(array):
    dtype = array.dtype.str.encode()
    shape = b"".join(struct.pack("<q", n) for n in array.shape)
    return bytes([len(dtype)]) + dtype + bytes([array.ndim]) + shape + array.tobytes()


def npy(array):
    file = io.BytesIO()
    np.save(file, array, allow_pickle=False)
    return file.getvalue()


@pytest.mark.parametrize("encode", [npy, compact])
def test_arrays_of_both_ages(encode, world, library, tmp_path):
    values = [
        {"label": i, "image": samples.array("|u1", (4, 5, 3), i)} for i in range(COUNT)
    ]
    path = packed_shard(
        tmp_path / "arrays.tar", [{**value, "image": encode(value["image"])} for value in values]
    )
    mount = world.mount()
    publish(world, mount, "images", path)
    entry = same_entry(world, mount, library, "images")
    record = check_schema(mount, library, "images", entry["schema_ref"])
    kinds = {field["name"]: field["fieldType"]["$type"] for field in record["fields"]}
    assert kinds == {"label": "local#primitive", "image": "local#ndarray"}
    samples.check(library.load_decoded("images"), values)


def test_fields_that_may_be_missing(world, library, tmp_path):
    """nil, or not there at all; an array among them stays bytes for a decoded class (4.7)."""
    mount = world.mount()
    maybe = library_shard(tmp_path / "maybe.tar", "MaybeArray", COUNT)
    publish(world, mount, "maybe", maybe)
    entry = same_entry(world, mount, library, "maybe")
    record = check_schema(mount, library, "maybe", entry["schema_ref"])
    assert [field["optional"] for field in record["fields"]] == [False, True]
    samples.check(library.load_indexed("maybe", "MaybeArray"), samples.expected("MaybeArray", COUNT))
    assert [sample["label"] for sample in library.load_decoded("maybe")] == list(range(COUNT))
    values = [{"a": "x", "b": i} if i % 2 else {"b": i} for i in range(COUNT)]
    publish(world, mount, "absent", packed_shard(tmp_path / "absent.tar", values))
    entry = same_entry(world, mount, library, "absent")
    record = check_schema(mount, library, "absent", entry["schema_ref"])
    assert [field["name"] for field in record["fields"]] == ["b", "a"]  # the required one first
    wanted = [{"b": value["b"], "a": value.get("a")} for value in values]
    samples.check(library.load_decoded("absent"), wanted)


def test_universal(world, library, tmp_path):
    """The reference that every release reads; the next shard keeps it, whatever the option."""
    options = "compat=universal" if world.kind == "disk" else {"compat": "universal"}
    mount = world.mount(options=options)
    parts = [
        library_shard(tmp_path / f"part-{i}.tar", "Scalars", COUNT, seed=i * COUNT)
        for i in range(2)
    ]
    publish(world, mount, "everywhere", parts[0])
    mount.unmount()
    mount = world.mount()
    publish(world, mount, "everywhere", parts[1])
    entry = same_entry(world, mount, library, "everywhere")
    assert entry["schema_ref"] == f"{UNIVERSAL}Everywhere@1.0.0"
    check_schema(mount, library, "everywhere", entry["schema_ref"])
    samples.check(library.load_decoded("everywhere"), samples.expected("Scalars", 2 * COUNT))


def test_plain_webdataset(world, library, tmp_path):
    """No sample of the library's: it is listed, its schema decodes, webdataset reads it."""
    path = plain_webdataset(tmp_path / "plain.tar", COUNT)
    mount = world.mount()
    publish(world, mount, "pictures", path)
    entry = same_entry(world, mount, library, "pictures")
    record = check_schema(mount, library, "pictures", entry["schema_ref"])
    assert {field["name"] for field in record["fields"]} == {"jpg", "json", "cls"}
    script = (
        "import sys, webdataset\n"
        "found = list(webdataset.WebDataset(sys.argv[1], shardshuffle=False))\n"
        "print(len(found), sorted(found[0])[-3:])"
    )
    import sys

    shown = mount / "datasets" / "pictures" / "plain.tar"
    assert run(sys.executable, "-c", script, shown).stdout.split()[0] == str(COUNT)


@pytest.mark.parametrize("ending", ["tar.gz", "tgz", "tar.bz2", "tar.xz"])
def test_compressed(ending, disk_world, tmp_path):
    """webdataset unpacks them by their content."""
    library = library_of(disk_world)
    path = compressed(tmp_path / f"numbers.{ending}", COUNT)
    mount = disk_world.mount()
    publish(disk_world, mount, "packed", path)
    entry = same_entry(disk_world, mount, library, "packed")
    check_schema(mount, library, "packed", entry["schema_ref"])
    wanted = [{"number": i, "text": f"no {i}"} for i in range(COUNT)]
    samples.check(library.load_decoded("packed"), wanted)


# ---------------------------------------------------------------- the other way round

USER = {"tags": ["a", "b"], "licence": "näive", "nested": {"n": [1, 2.5, None, True], "b": b"\x00"}}


def user_part(metadata):
    return {k: v for k, v in metadata.items() if k not in ("checksums", "atdatafs")}


def test_a_shard_is_added_to_what_python_made(world, library, tmp_path):
    mount = world.mount()
    theirs = library.write("theirs", "Scalars", COUNT, metadata=USER)
    library.label("theirs", theirs["cid"], version="1.0.0", description="first")
    library.publish_schema("Arrays", version="3.2.1")
    seconds = 5 * SLACK
    wait_until(lambda: "theirs" in ls(mount / "datasets"), seconds, "the dataset")
    wait_until(lambda: "theirs@1.0.0" in ls(mount / "labels"), seconds, "the label")
    wait_until(lambda: "Arrays@3.2.1.json" in ls(mount / "schemas"), seconds, "the schema")
    before = read(mount / "datasets" / "theirs" / "metadata.json")
    packed = msgpack.packb(user_part(world.entry("theirs")["metadata"]))
    record = library.schema(theirs["schema_ref"])
    path = library_shard(tmp_path / "more.tar", "Scalars", COUNT, seed=COUNT)
    publish(world, mount, "theirs", path)
    entry = same_entry(world, mount, library, "theirs")
    assert entry["schema_ref"] == theirs["schema_ref"]
    assert library.schema(theirs["schema_ref"]) == record
    assert set(theirs["data_urls"]) < set(entry["data_urls"]) and len(entry["data_urls"]) == 2
    assert user_part(entry["metadata"]) == USER
    assert msgpack.packb(user_part(entry["metadata"])) == packed
    assert read(mount / "datasets" / "theirs" / "metadata.json") == before
    for url, checksum in (theirs["metadata"].get("checksums") or {}).items():
        assert entry["metadata"]["checksums"][url] == checksum
    if library.has_default("theirs"):
        got = library.load_decoded("theirs")
        if entry["data_urls"][0] not in theirs["data_urls"]:
            got = got[COUNT:] + got[:COUNT]
        samples.check(got, samples.expected("Scalars", 2 * COUNT))
    # The version that Python labelled stays what it was.
    assert world.label("theirs", "1.0.0")["cid"] == theirs["cid"]
    assert [e["cid"] for e in world.entries() if e["data_urls"] == theirs["data_urls"]]


# ---------------------------------------------------------------- older releases


@pytest.mark.parametrize("tag", TAGS)
def test_a_shard_is_added_to_what_a_release_wrote(tag, test_data, team_world, tmp_path):
    """In that release's bucket: all shards of a dataset must lie in one (ATDATA-FORMATS 8)."""
    world = team_world
    golden = Golden(test_data / "golden" / tag)
    golden.restore_redis(world.client)
    golden.restore_s3(world.minio)
    world.bucket = golden.objects[0]["bucket"]
    library = library_of(world)
    mount = world.mount(options={"store": f"s3://{world.bucket}/data"})
    before = {entry["name"]: entry for entry in world.entries()}
    added = {"training-v1": "training.tar", "all-types": "alltypes.tar"}
    for dataset, name in added.items():
        source = tmp_path / f"zz-{name}"
        shutil.copyfile(golden.directory / name, source)
        publish(world, mount, dataset, source)
        entry = same_entry(world, mount, library, dataset)
        old = before[dataset]
        assert entry["schema_ref"] == old["schema_ref"]
        # Where the list was sorted it still is.
        assert [url for url in entry["data_urls"] if url in old["data_urls"]] == old["data_urls"]
        assert len(entry["data_urls"]) == len(old["data_urls"]) + 1
        assert user_part(entry["metadata"] or {}) == user_part(old["metadata"] or {})
        directory = mount / "datasets" / dataset
        shards = sorted(str(directory / file) for file in ls(directory) if file.endswith(".tar"))
        through = library.load_by_schema_py(str(directory / "schema.py"), shards)
        assert len(through) == (50 if dataset == "training-v1" else 40)
        is_readable = not entry["schema_ref"].startswith("atdata://local/sampleSchema/")
        if is_readable and library.has_default(dataset):
            assert len(library.load_decoded(dataset)) == len(through)
    assert json.loads(read(mount / ".atdatafs" / "status.json"))

"""What the real atdata library writes shows in the mount, and reads back through the mount."""

import hashlib
import json
import os
from pathlib import Path

import pytest

import samples
from bounded import bounded, ls, read, sha256

METADATA = {
    "source": "naïve 数 \"quoted\" \n",
    "count": 25,
    "big": 2**64 - 1,
    "small": -(2**63),
    "ratio": 0.1,
    "nested": {"list": [1, [2, None], {"deep": True}], "empty": {}, "nothing": None},
}

# Index name -> directory name (DESIGN 2.1). TAIL stands for the last 8 characters of the CID.
WRITABLE_NAMES = {
    "team/mnist": "team%2Fmnist",
    "my data": "my data",
    "{a,b}": "{a,b}",
    "a/../b": "a%2F..%2Fb",
    "naïve 数 🚀": "naïve 数 🚀",
    ".hidden": "%2Ehidden",
    "a@b": "a@b",
    "new\nline\ttab\x7f": "new%0Aline%09tab%7F",
    "*?[x]\\": "*?[x]\\",
    "~": "~",
    "x" * 255: "x" * 255,
}
# Python cannot make shards under these names, or makes them where no data root is.
INDEX_ONLY_NAMES = {
    "..": "%2E.",
    ".": "%2E",
    "%41": "%2541",
    "100%": "100%",
    "": "%",
    "x" * 300: "x" * 246 + "~TAIL",
    "数" * 100: "数" * 82 + "~TAIL",
    "/" * 100: "%2F" * 82 + "~TAIL",
}


@pytest.fixture(scope="module")
def written(module_stack):
    """One HOME full of what Python writes, mounted: (mount, peer, entries by name)."""
    home = module_stack.directory / "home"
    home.mkdir()
    peer = module_stack.peer(home)
    entries = {
        "scalars": peer.write("scalars", "Scalars", 30, metadata=METADATA),
        "arrays": peer.write("arrays", "Arrays", 20),
        "maybe": peer.write("maybe", "MaybeArray", 6),
    }
    parts = peer.write_shards("parts/part.tar", "Scalars", 25, per_shard=10)
    assert [Path(part).name for part in parts] == [f"part-00000{i}.tar" for i in range(3)]
    pattern = parts[0].replace("000000", "{000000..000002}")
    entries["braced"] = peer.insert("braced", pattern, metadata={"kept": True}, version="2.0.0")
    for name in WRITABLE_NAMES:
        entries[name] = peer.write(name)
    # A shard each: two names over the same URLs would be one entry.
    shards = peer.write_shards("only/one.tar", "Scalars", len(INDEX_ONLY_NAMES), per_shard=1)
    for name, shard in zip(INDEX_ONLY_NAMES, shards, strict=True):
        entries[name] = peer.insert(name, shard)
    yield module_stack.mount(home=home), peer, entries


def test_every_kind_shows_and_its_shards_are_the_files(written):
    mount, _, entries = written
    for name in ("scalars", "arrays", "maybe"):
        entry = entries[name]
        directory = mount / "datasets" / name
        shards = [Path(url).name for url in entry["data_urls"]]
        assert ls(directory) == sorted(
            ["entry.json", "metadata.json"]
            + ["schema.json", "schema.jsonschema", "schema.py", *shards]
        )
        for url, checksum in entry["metadata"]["checksums"].items():
            assert sha256(directory / Path(url).name) == checksum == sha256(url)
            assert bounded(os.stat, directory / Path(url).name).st_size == os.stat(url).st_size


def test_entry_json_has_the_cid_that_python_computes(written):
    mount, peer, entries = written
    by_cid = {}
    for entry in entries.values():
        by_cid[entry["cid"]] = entry
    for cid, entry in by_cid.items():
        shown = mount.json("by-cid", cid, "entry.json")
        assert shown["cid"] == cid == peer.cid_of(entry["schema_ref"], entry["data_urls"])
        assert "content_cid" not in shown
        assert shown["data_urls"] == entry["data_urls"]
        assert shown["schema_ref"] == entry["schema_ref"]
    assert ls(mount / "by-cid") == sorted(entry["cid"] for entry in peer.entries())


def test_metadata_json_is_the_users(written):
    mount, _, entries = written
    assert mount.json("datasets", "scalars", "metadata.json") == METADATA
    assert mount.json("datasets", "arrays", "metadata.json") == {}
    assert mount.json("datasets", "braced", "metadata.json") == {"kept": True}
    shards = mount.json("datasets", "scalars", "entry.json")["shards"]
    assert {shard["url"]: shard["sha256"] for shard in shards} == entries["scalars"]["metadata"][
        "checksums"
    ]


def test_schema_json_is_what_get_schema_returns(written):
    mount, peer, entries = written
    for name in ("scalars", "arrays", "maybe"):
        ref = entries[name]["schema_ref"]
        assert mount.json("datasets", name, "schema.json") == peer.schema(ref)
        assert mount.json("schemas", ref.rpartition("/")[2] + ".json") == peer.schema(ref)


def test_a_name_is_a_directory_name(written):
    mount, _, entries = written
    wanted = {"scalars", "arrays", "maybe", "braced"}
    for name, shown in (WRITABLE_NAMES | INDEX_ONLY_NAMES).items():
        shown = shown.replace("TAIL", entries[name]["cid"][-8:])
        entry = mount.json("datasets", shown, "entry.json")
        assert (entry["name"], entry["cid"]) == (name, entries[name]["cid"])
        wanted.add(shown)
    assert set(ls(mount / "datasets")) == wanted


def test_shards_of_awkward_names_are_the_files(written):
    mount, _, entries = written
    for name, shown in WRITABLE_NAMES.items():
        [url] = entries[name]["data_urls"]
        assert sha256(mount / "datasets" / shown / Path(url).name) == sha256(url), name


def test_brace_pattern_shows_every_shard(written):
    mount, _, entries = written
    directory = mount / "datasets" / "braced"
    [pattern] = entries["braced"]["data_urls"]
    entry = mount.json("datasets", "braced", "entry.json")
    assert entry["data_urls"] == [pattern]
    names = [shard["file"] for shard in entry["shards"]]
    assert names == ["part-000000.tar", "part-000001.tar", "part-000002.tar"]
    for name in names:
        assert sha256(directory / name) == sha256(Path(pattern).parent / name)


def test_library_reads_every_sample_through_the_mount(written):
    mount, peer, entries = written
    counts = {"scalars": ("Scalars", 30), "arrays": ("Arrays", 20), "maybe": ("MaybeArray", 6)}
    for name, (kind, count) in counts.items():
        [url] = entries[name]["data_urls"]
        directory = mount / "datasets" / name
        # A shard, and a directory, in which the library looks for *.tar.
        for path in (directory / Path(url).name, directory):
            samples.check(peer.load(str(path), kind), samples.expected(kind, count))
    samples.check(peer.load(str(mount / "datasets" / "scalars")), samples.expected("Scalars", 30))
    pattern = str(mount / "datasets" / "braced" / "part-{000000..000002}.tar")
    samples.check(peer.load(pattern, "Scalars"), samples.expected("Scalars", 25))


def test_webdataset_reads_the_same_members(written):
    mount, peer, entries = written
    [url] = entries["scalars"]["data_urls"]
    through = peer.load_webdataset(str(mount / "datasets" / "scalars" / Path(url).name))
    assert len(through) == 30
    assert through == peer.load_webdataset(url)
    braced = peer.load_webdataset(str(mount / "datasets" / "braced" / "part-{000000..000002}.tar"))
    assert len(braced) == 25


def test_schema_py_decodes_the_samples(written):
    mount, peer, entries = written
    counts = {"scalars": ("Scalars", 30), "arrays": ("Arrays", 20), "maybe": ("MaybeArray", 6)}
    for name, (kind, count) in counts.items():
        directory = mount / "datasets" / name
        urls = [str(directory / Path(url).name) for url in entries[name]["data_urls"]]
        got = peer.load_by_schema_py(str(directory / "schema.py"), urls)
        samples.check(got, samples.expected(kind, count))
        stem = entries[name]["schema_ref"].rpartition("/")[2]
        assert read(mount / "schemas" / f"{stem}.py") == read(directory / "schema.py")


def test_schema_py_says_what_the_schema_says(written):
    mount, peer, entries = written
    path = mount / "datasets" / "scalars" / "schema.py"
    name, doc, fields = peer.describe_schema_py(str(path))
    assert name == "Scalars"
    assert doc == peer.schema(entries["scalars"]["schema_ref"])["description"]
    assert fields == {field: field.startswith("maybe") for field in samples.scalars(0)}


def test_labels_are_links_to_entries(module_stack):
    home = module_stack.directory / "labels-home"
    home.mkdir()
    peer = module_stack.peer(home)
    first = peer.write("mnist", count=1)
    second = peer.write("mnist", count=2)
    other = peer.write("team/other", count=3)
    peer.label("mnist", first["cid"], version="1.0.0", description="the first naïve try")
    peer.label("mnist", second["cid"], version="2.0.0")
    peer.label("team/alias", other["cid"], version="v 1/2")
    peer.label("alias", other["cid"])
    peer.label("dangling", "bafynowhere", version="1.0.0")
    mount = module_stack.mount(home=home)

    links = {name: os.readlink(mount / "labels" / name) for name in ls(mount / "labels")}
    assert links == {
        "mnist@1.0.0": f"../by-cid/{first['cid']}",
        "mnist@2.0.0": f"../by-cid/{second['cid']}",
        "team%2Falias@v 1%2F2": f"../by-cid/{other['cid']}",
    }
    for name, target in links.items():
        entry = mount.json("labels", name, "entry.json")
        assert entry["cid"] == target.rpartition("/")[2]
    # The unversioned label is what a name means, also for a name that no entry has.
    assert mount.json("datasets", "mnist", "entry.json")["cid"] == second["cid"]
    assert mount.json("datasets", "alias", "entry.json")["cid"] == other["cid"]
    # A label whose entry has another name means it too (2.2), versioned or not.
    assert mount.json("datasets", "team%2Falias", "entry.json")["cid"] == other["cid"]
    assert ls(mount / "datasets") == ["alias", "mnist", "team%2Falias", "team%2Fother"]
    [described] = [
        label
        for label in mount.json("by-cid", first["cid"], "entry.json")["labels"]
        if label["version"] == "1.0.0"
    ]
    assert (described["name"], described["description"]) == ("mnist", "the first naïve try")
    dangling = [p for p in mount.status()["problems"] if p["what"] == "label"]
    assert [problem["key"] for problem in dangling] == ["dangling"]


def test_every_schema_version_shows(module_stack):
    home = module_stack.directory / "schemas-home"
    home.mkdir()
    peer = module_stack.peer(home)
    refs = [
        peer.publish_schema("Scalars", "1.0.0"),
        peer.publish_schema("Scalars"),
        peer.publish_schema("Scalars", "2.0.0-beta x/y"),
        peer.publish_schema("Arrays", description="naïve"),
    ]
    assert refs[1] == "atdata://local/schema/Scalars@1.0.1"
    mount = module_stack.mount(home=home)

    assert ls(mount / "schemas") == [
        "Arrays@1.0.0.json",
        "Arrays@1.0.0.jsonschema",
        "Arrays@1.0.0.py",
        "Scalars@1.0.0.json",
        "Scalars@1.0.0.jsonschema",
        "Scalars@1.0.0.py",
        "Scalars@1.0.1.json",
        "Scalars@1.0.1.jsonschema",
        "Scalars@1.0.1.py",
        "Scalars@2.0.0-beta x%2Fy.json",
        "Scalars@2.0.0-beta x%2Fy.jsonschema",
        "Scalars@2.0.0-beta x%2Fy.py",
    ]
    listed = {record["$ref"]: record for record in peer.list_schemas()}
    for ref in refs:
        stem = ref.removeprefix("atdata://local/schema/").replace("/", "%2F")
        shown = mount.json("schemas", f"{stem}.json")
        assert shown == peer.schema(ref)
        assert shown["name"] == listed[ref]["name"] and shown["fields"]
        assert peer.describe_schema_py(str(mount / "schemas" / f"{stem}.py"))[0] == shown["name"]


def test_nothing_but_unreachable_shards_is_a_problem(written):
    mount, _, _ = written
    assert mount.status()["problems"] == []
    for name in ls(mount / "datasets"):
        for file in ls(mount / "datasets" / name):
            content = read(mount / "datasets" / name / file)
            if file.endswith(".json"):
                json.loads(content)
            assert len(content) == bounded(os.stat, mount / "datasets" / name / file).st_size
            assert hashlib.sha256(content).hexdigest() == sha256(mount / "datasets" / name / file)

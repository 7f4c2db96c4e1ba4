"""Records are written with editors and copied like files: schema.json, metadata.json, schemas/,
labels/, the names of datasets; and what is deleted.
"""

import errno
import json
import os

import pytest

import publish_tools
from bounded import bounded, ls, read, run, wait_until
from index_db import SCHEMA
from publish_bench import RECORDS, Bench, create, refusal
from publish_tools import KIO, python

LOCKED_SECONDS = 60  # core/index/writer.h waits for 15
GRACE_SECONDS = 20  # an unlinked shard leaves the index after three, on an idle machine

# How people put a new text ($SRC) in the place of a record ($DST).
REPLACERS = {
    "cp": 'cp "$SRC" "$DST"',
    "cat >": 'cat "$SRC" >"$DST"',
    "echo >": 'TEXT=$(cat "$SRC"); echo "$TEXT" >"$DST"',
    "printf, twice": '{ head -c 5 "$SRC"; tail -c +6 "$SRC"; } >"$DST"',
    "dd": 'dd if="$SRC" of="$DST" status=none',
    "tee": 'tee "$DST" <"$SRC" >/dev/null',
    "sponge": 'sponge "$DST" <"$SRC"',
    "rsync": 'rsync "$SRC" "$DST"',
    "rsync -a": 'rsync -a "$SRC" "$DST"',
    "rsync --inplace": 'rsync --inplace "$SRC" "$DST"',
    "gio copy": 'gio copy "$SRC" "$DST"',
    "gio save": 'gio save "$DST" <"$SRC"',
    "kioclient5": f'{KIO} copy --overwrite "$SRC" "$DST"',
    "python": python('open(sys.argv[2], "w").write(open(sys.argv[1]).read())'),
    "python, os.replace": python("""
import tempfile
file, path = tempfile.mkstemp(dir=os.path.dirname(sys.argv[2]))
os.write(file, open(sys.argv[1], "rb").read())
os.fsync(file)
os.close(file)
os.replace(path, sys.argv[2])
"""),
    "as nano": python("""
path = sys.argv[2]
swap = os.path.join(os.path.dirname(path), "." + os.path.basename(path) + ".swp")
os.close(os.open(swap, os.O_WRONLY | os.O_CREAT | os.O_EXCL))
file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
os.write(file, open(sys.argv[1], "rb").read())
os.fsync(file)
os.close(file)
os.unlink(swap)
"""),
    "vim, new text": 'vim.tiny -u NONE -N -es -c "%d" -c "0r $SRC" -c "wq!" "$DST"',
}

# How they change a word in it.
EDITORS = {
    "sed -i": "sed -i s/before/after/ \"$DST\"",
    "sed -i.bak, with its backup": "sed -i~ s/before/after/ \"$DST\"",
    "perl -i": "perl -i -pe s/before/after/ \"$DST\"",
    "vim": 'vim.tiny -u NONE -N -es -c "%s/before/after/" -c "wq" "$DST"',
    "vim, with a swap file and a backup":
        'vim.tiny -u NONE -N -es -c "set backup writebackup backupskip= directory=." '
        '-c "set backupdir=. swapfile" -c "%s/before/after/" -c "wq" "$DST"; rm -f "$DST~"',
    "vim, in place": 'vim.tiny -u NONE -N -es -c "set backupcopy=yes" '
                     '-c "%s/before/after/" -c "wq" "$DST"',
    "sponge": 'sed s/before/after/ "$DST" | sponge "$DST"',
    "jq and mv": 'jq -c \'.word |= sub("before"; "after")\' "$DST" >"$DIR/tmpab12_cd3" && '
                 'mv "$DIR/tmpab12_cd3" "$DST"',
}  # fmt: skip


def user_metadata(entry):
    return {k: v for k, v in (entry["metadata"] or {}).items() if k not in ("checksums", "atdatafs")}


def published(bench):
    """A dataset of one shard; its directory and the original."""
    directory = bench.dataset()
    source, original = bench.source()
    run("cp", source, directory)
    return directory, original


def text_file(bench, name, value):
    path = bench.originals / "text" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    return path


def shown_schema(directory):
    return json.loads(read(directory / "schema.json"))


def fields_of(schema):
    return [field["name"] for field in schema["fields"]]


def schema_of(name, version="1.0.0", extra=()):
    """A schema of the samples that the tests make, and perhaps optional fields."""
    fields = [
        *SCHEMA["fields"],
        {
            "name": "filler",
            "fieldType": {"$type": "local#primitive", "primitive": "bytes"},
            "optional": False,
        },
    ]
    for field in extra:
        kind = {"$type": "local#primitive", "primitive": "str"}
        fields.append({"name": field, "fieldType": kind, "optional": True})
    return SCHEMA | {"name": name, "version": version, "fields": fields}


# ---------------------------------------------------------------- metadata.json


@pytest.mark.parametrize("name", REPLACERS)
def test_metadata_is_replaced(bench, name):
    directory, original = published(bench)
    before = bench.world.entry(directory.name)
    for value in ({"word": "before", "n": 1}, {"word": "after", "list": [1, {"a": None}]}):
        source = text_file(bench, "metadata.json", value)
        bench.env.run(REPLACERS[name], source=source, target=directory / "metadata.json")
        assert json.loads(read(directory / "metadata.json")) == value
        entry = bench.check(directory, original)
        assert user_metadata(entry) == value
        for key in ("checksums", "atdatafs"):
            assert entry["metadata"][key] == before["metadata"][key]
        assert entry["cid"] == before["cid"]


@pytest.mark.parametrize("name", EDITORS)
def test_metadata_is_edited(bench, name):
    directory, original = published(bench)
    path = directory / "metadata.json"
    run("cp", text_file(bench, "m", {"word": "before"}), path)
    bench.env.run(EDITORS[name], target=path)
    assert json.loads(read(path)) == {"word": "after"}
    for left in ("metadata.json~", "metadata.json.bak"):
        if left in ls(directory):
            run("rm", directory / left)
    assert user_metadata(bench.check(directory, original)) == {"word": "after"}


@pytest.mark.parametrize("name", ["cp", "echo >", "rsync", "gio save", "python, os.replace"])
def test_metadata_before_the_first_shard(bench, name):
    """It waits here, and goes with the first shard."""
    directory = bench.dataset()
    source = text_file(bench, "metadata.json", {"word": "early"})
    bench.env.run(REPLACERS[name], source=source, target=directory / "metadata.json")
    assert json.loads(read(directory / "metadata.json")) == {"word": "early"}
    assert bench.world.entry(directory.name) is None
    shard, original = bench.source()
    run("cp", shard, directory)
    assert user_metadata(bench.check(directory, original)) == {"word": "early"}
    assert json.loads(read(directory / "metadata.json")) == {"word": "early"}


BAD_METADATA = ["{", "[1, 2]", "not json", '{"a": 1} x', '{"a": NaN}']


@pytest.mark.parametrize("text", BAD_METADATA, ids=repr)
@pytest.mark.parametrize("name", ["cp", "rsync", "gio save", "python, os.replace"])
def test_bad_metadata(bench, name, text):
    """The tool is told, the old text stays."""
    directory, original = published(bench)
    path = directory / "metadata.json"
    run("cp", text_file(bench, "good", {"word": "old"}), path)
    source = text_file(bench, "metadata.json", text)
    code, output = bench.env.run(REPLACERS[name], check=False, source=source, target=path)
    assert code != 0 and "Invalid argument" in output
    assert json.loads(read(path)) == {"word": "old"}
    assert user_metadata(bench.world.entry(directory.name)) == {"word": "old"}
    assert read(directory / "metadata.json.error.txt")
    for entry in ls(directory):
        if entry.startswith((".goutput", "tmp")):
            run("rm", directory / entry)
    run("cp", text_file(bench, "good", {"word": "new"}), path)
    assert user_metadata(bench.check(directory, original)) == {"word": "new"}


# ---------------------------------------------------------------- schema.json


@pytest.mark.parametrize("name", REPLACERS)
def test_schema_before_the_first_shard(bench, name):
    """A schema that was dropped in is the dataset's, not an inferred one."""
    directory = bench.dataset()
    class_name = f"Chosen{bench.datasets}{bench.world.kind.title()}"
    source = text_file(bench, "schema.json", schema_of(class_name, extra=["note"]))
    bench.env.run(REPLACERS[name], source=source, target=directory / "schema.json")
    assert shown_schema(directory)["name"] == class_name
    assert bench.world.entry(directory.name) is None
    shard, original = bench.source()
    run("cp", shard, directory)
    entry = bench.check(directory, original)
    assert entry["schema_ref"] == f"atdata://local/schema/{class_name}@1.0.0"
    stored = bench.world.schemas()[f"{class_name}@1.0.0"]
    assert fields_of(stored) == ["n", "filler", "note"]
    assert fields_of(shown_schema(directory)) == ["n", "filler", "note"]


@pytest.mark.parametrize("name", REPLACERS)
def test_schema_is_replaced(bench, name):
    """The same class with other fields: its next patch version, used by this dataset."""
    directory, original = published(bench)
    before = shown_schema(directory)
    optional = {"$type": "local#primitive", "primitive": "str"}
    fields = [*before["fields"], {"name": "note", "fieldType": optional, "optional": True}]
    source = text_file(bench, "schema.json", before | {"fields": fields})
    bench.env.run(REPLACERS[name], source=source, target=directory / "schema.json")
    after = shown_schema(directory)
    assert (after["name"], after["version"]) == (before["name"], "1.0.1")
    assert "note" in fields_of(after)
    entry = bench.check(directory, original)
    assert entry["schema_ref"].endswith(f"/{before['name']}@1.0.1")
    stored = bench.world.schemas()
    assert "note" not in fields_of(stored[f"{before['name']}@1.0.0"])
    assert f"{before['name']}@1.0.1.json" in ls(bench.mount / "schemas")


@pytest.mark.parametrize("name", ["sed -i", "vim", "perl -i"])
def test_schema_is_edited(bench, name):
    directory, original = published(bench)
    before = shown_schema(directory)
    script = EDITORS[name].replace("before", "filler").replace("after", "other")
    code, _ = bench.env.run(script, check=False, target=directory / "schema.json")
    # Fields that the shards do not have: whether it is taken or not, both sides agree.
    entry = bench.world.assert_published(directory.name, original)
    version = entry["schema_ref"].rpartition("@")[2]
    assert shown_schema(directory)["version"] == version
    assert version == ("1.0.1" if code == 0 else before["version"])


def test_same_schema_again(bench):
    directory, original = published(bench)
    before = bench.world.entry(directory.name)
    source = bench.originals / "again.json"
    source.write_bytes(read(directory / "schema.json"))
    bench.env.run('cp "$SRC" "$DST"', source=source, target=directory / "schema.json")
    assert bench.check(directory, original)["cid"] == before["cid"]


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"name": 1}', '{"name": "X", "fields": 3}'])
@pytest.mark.parametrize("name", ["cp", "rsync", "gio save"])
def test_bad_schema(bench, name, text):
    directory, original = published(bench)
    before = bench.world.entry(directory.name), read(directory / "schema.json")
    source = text_file(bench, "schema.json", text)
    target = directory / "schema.json"
    code, output = bench.env.run(REPLACERS[name], check=False, source=source, target=target)
    assert code != 0 and "Invalid argument" in output, (code, output)
    assert read(directory / "schema.json.error.txt")
    for entry in ls(directory):
        if entry.startswith(".goutput"):
            run("rm", directory / entry)
    assert (bench.world.entry(directory.name), read(directory / "schema.json")) == before
    run("rm", directory / "schema.json.error.txt")
    bench.check(directory, original)


# ---------------------------------------------------------------- schemas/


@pytest.mark.parametrize("name", ["cp", "echo >", "rsync", "gio save", "python", "sponge"])
def test_schemas(bench, name):
    """A version is published once and never changed."""
    bench.dataset()
    key = f"Lone{bench.datasets}{bench.world.kind.title()}@2.1.0"
    path = bench.mount / "schemas" / f"{key}.json"
    record = schema_of(key.partition("@")[0], "2.1.0")
    source = text_file(bench, "schema.json", record)
    bench.env.run(REPLACERS[name], source=source, target=path)
    assert bench.world.schemas()[key]["fields"] == record["fields"]
    assert fields_of(json.loads(read(path))) == ["n", "filler"]
    assert f"{key}.py" in ls(bench.mount / "schemas")
    before = bench.world.schemas()[key]
    other = text_file(bench, "other.json", schema_of(record["name"], "2.1.0", ["more"]))
    code, output = bench.env.run(REPLACERS[name], check=False, source=other, target=path)
    assert code != 0 or name in ("echo >", "python"), output
    assert bench.world.schemas()[key] == before
    assert fields_of(json.loads(read(path))) == ["n", "filler"]


def test_schemas_by_a_wrong_name(bench):
    bench.dataset()
    source = text_file(bench, "s.json", schema_of("Right", "1.0.0"))
    wrong = bench.mount / "schemas" / "Wrong@1.0.0.json"
    done = run("cp", source, wrong, check=False)
    assert done.returncode == 1 and "Invalid argument" in done.stderr
    names = ls(bench.mount / "schemas")
    assert "Wrong@1.0.0.json" not in names and "Wrong@1.0.0.json.error.txt" in names
    assert b"Right@1.0.0" in read(bench.mount / "schemas" / "Wrong@1.0.0.json.error.txt")
    assert not {"Wrong@1.0.0", "Right@1.0.0"} & bench.world.schemas().keys()
    run("rm", bench.mount / "schemas" / "Wrong@1.0.0.json.error.txt")


# ---------------------------------------------------------------- labels and names


def test_labels(bench):
    directory, original = published(bench)
    labels = bench.mount / "labels"
    cid = bench.world.entry(directory.name)["cid"]
    label = f"{directory.name}@1.0.0"
    run("ln", "-s", f"../datasets/{directory.name}", labels / label)
    assert bench.world.label(directory.name, "1.0.0")["cid"] == cid
    assert os.readlink(labels / label) == f"../by-cid/{cid}"
    assert sorted(ls(labels / label)) == ls(directory)
    run("ln", "-s", f"../by-cid/{cid}", labels / f"{directory.name}@latest")
    assert bench.world.label(directory.name, "latest")["cid"] == cid
    # Another shard: the label stays with what it named.
    second, there = bench.source(name="shard-000001.tar", bytes_each=1000)
    run("cp", second, directory)
    bench.world.assert_published(directory.name, original, there)
    assert os.readlink(labels / label) == f"../by-cid/{cid}"
    assert ls(labels / label) == sorted([*RECORDS, original.name])
    assert refusal(os.symlink, "../datasets/none", labels / "none@1.0.0") == errno.EINVAL
    assert refusal(os.symlink, f"../by-cid/{cid}", labels / "noversion") == errno.EINVAL
    assert refusal(os.symlink, f"../datasets/{directory.name}", labels / label) == errno.EEXIST
    assert refusal(os.unlink, labels / label) == errno.EPERM


def test_dataset_is_renamed(bench):
    directory, original = published(bench)
    label = bench.mount / "labels" / f"{directory.name}@1.0.0"
    run("ln", "-s", f"../datasets/{directory.name}", label)
    before = bench.world.entry(directory.name)
    other, _ = published(bench)
    renamed = bench.mount / "datasets" / f"{directory.name}-renamed"
    done = run("mv", "-T", directory, other, check=False)
    assert done.returncode == 1 and bench.world.entry(directory.name) == before
    run("mv", directory, renamed)
    assert not directory.exists() and directory.name not in ls(bench.mount / "datasets")
    assert bench.world.entry(directory.name) is None
    assert bench.check(renamed, original, sent_once=False)["cid"] == before["cid"]
    assert bench.world.label(renamed.name, "1.0.0")["cid"] == before["cid"]
    # An empty one has nothing but its name.
    empty = bench.dataset()
    run("mv", empty, bench.mount / "datasets" / f"{empty.name}-renamed")
    assert not empty.exists() and (bench.mount / "datasets" / f"{empty.name}-renamed").exists()
    for bad in (".hidden", "a@b", "*"):
        assert refusal(os.rename, renamed, bench.mount / "datasets" / bad) == errno.EACCES


# ---------------------------------------------------------------- deleting


def test_nothing_is_deleted(bench):
    directory, original = published(bench)
    run("ln", "-s", f"../datasets/{directory.name}", bench.mount / f"labels/{directory.name}@1.0.0")
    attempts = {
        "rm": lambda: os.unlink(directory / original.name),
        "rm of a record": lambda: os.unlink(directory / "metadata.json"),
        "rmdir": lambda: os.rmdir(directory),
        "rm of a label": lambda: os.unlink(bench.mount / f"labels/{directory.name}@1.0.0"),
        "mv": lambda: os.rename(directory / original.name, directory / "other.tar"),
        "mv to a scratch name": lambda: os.rename(directory / original.name, directory / "tmp12345678"),
    }  # fmt: skip
    for what, attempt in attempts.items():
        assert refusal(attempt) == errno.EPERM, what
    code, output = bench.env.run('rm -r "$DIR"', check=False, target=directory / "x")
    assert code == 1 and "Operation not permitted" in output
    bench.check(directory, original)


@pytest.fixture
def deleting(world):
    """A mount that deletes."""
    mount = world.mount(**world.flags("allow_delete"))
    bounded(os.mkdir, mount / "datasets" / "d")
    for name in ("a.tar", "b.tar"):
        run("cp", world.shard(name), mount / "datasets" / "d")
    yield mount
    mount.unmount()


def listed(world, *names, dataset="d"):
    entry = world.entry(dataset)
    urls = entry["data_urls"] if entry else []
    return sorted(url.rsplit("/", 1)[1] for url in urls) == sorted(names)


def test_rm(world, deleting):
    directory = deleting / "datasets" / "d"
    run("rm", directory / "a.tar")
    assert "a.tar" not in ls(directory)
    wait_until(lambda: listed(world, "b.tar"), GRACE_SECONDS, "it is out of the index")
    world.assert_published("d", world.sources / "0" / "b.tar")
    assert ls(directory) == sorted([*RECORDS, "b.tar"])
    assert any(url.endswith("/a.tar") for url in world.objects()), "objects stay until gc"
    # And the name is free.
    source = world.shard("a.tar", seed=1)
    run("cp", source, directory)
    assert listed(world, "a.tar", "b.tar")
    run("cmp", source, directory / "a.tar")


def test_rm_r(world, deleting):
    run("rm", "-r", deleting / "datasets" / "d")
    assert "d" not in ls(deleting / "datasets")
    wait_until(lambda: world.entry("d") is None, GRACE_SECONDS, "it is out of the index")
    assert world.label("d") is None
    run("mkdir", deleting / "datasets" / "d")
    source = world.shard("a.tar", seed=1)
    run("cp", source, deleting / "datasets" / "d")
    world.assert_published("d", source)


def test_rmdir(world, deleting):
    directory = deleting / "datasets" / "d"
    assert refusal(os.rmdir, directory) == errno.ENOTEMPTY
    assert listed(world, "a.tar", "b.tar")
    run("rm", directory / "a.tar", directory / "b.tar")
    wait_until(lambda: listed(world), GRACE_SECONDS, "they are out of the index")
    run("rmdir", directory)
    assert world.entry("d") is None and "d" not in ls(deleting / "datasets")


def test_rm_while_the_index_cannot_be_written(disk_world):
    """Whoever ran it was told that the shard is gone: it is deleted when that can be done."""
    mount = disk_world.mount(**disk_world.flags("allow_delete"))
    directory = mount / "datasets" / "d"
    bounded(os.mkdir, directory)
    run("cp", disk_world.shard("a.tar"), disk_world.shard("b.tar", seed=1), directory)
    with disk_world.locked():
        run("rm", directory / "a.tar")
        wait_until(
            lambda: b"it stays hidden" in read(mount / ".atdatafs" / "events.jsonl"),
            LOCKED_SECONDS,
            "it was tried, and told of",
        )
        assert "a.tar" not in ls(directory)
    wait_until(lambda: listed(disk_world, "b.tar"), GRACE_SECONDS, "it is out of the index")
    assert ls(directory) == sorted([*RECORDS, "b.tar"])


def test_a_renamed_dataset_has_no_shard_again_that_was_removed(world, deleting):
    directory = deleting / "datasets" / "d"
    run("rm", directory / "a.tar")
    bounded(os.rename, directory, directory.with_name("e"))
    assert listed(world, "b.tar", dataset="e")
    assert ls(directory.with_name("e")) == sorted([*RECORDS, "b.tar"])


OVERWRITERS = {
    "cp --remove-destination": 'cp --remove-destination "$SRC" "$DST"',
    "mv -f": 'mv -f "$SRC" "$DST"',
    "install": 'install "$SRC" "$DST"',
}


@pytest.mark.parametrize("name", OVERWRITERS)
def test_overwritten(bench_that_deletes, name):
    """The old one gives way to the new one, and is there until then."""
    bench = bench_that_deletes
    directory = bench.dataset()
    first, _ = bench.source(name="b.tar")
    other, there = bench.source(name="a.tar")
    run("cp", first, other, directory)
    second, original = bench.source(name="b.tar", bytes_each=50_000)
    bench.env.run(OVERWRITERS[name], source=second, target=directory / "b.tar")
    run("cmp", original, directory / "b.tar")
    entry = bench.world.entry(directory.name)
    assert len(entry["data_urls"]) == 2
    assert ls(directory) == sorted([*RECORDS, "a.tar", "b.tar"])
    run("cmp", there, directory / "a.tar")
    # Nor does it go when the grace of the old one is over: what is unlinked later goes later.
    run("rm", directory / "a.tar")
    wait_until(
        lambda: listed(bench.world, "b.tar", dataset=directory.name),
        GRACE_SECONDS,
        "what was unlinked last is out of the index",
    )
    run("cmp", original, directory / "b.tar")


@pytest.mark.parametrize("name", OVERWRITERS)
def test_overwritten_by_what_is_no_shard(bench_that_deletes, name):
    """The old one comes back."""
    bench = bench_that_deletes
    directory = bench.dataset()
    first, original = bench.source(name="b.tar")
    run("cp", first, directory)
    bad = text_file(bench, "b.tar", "no tar" * 1000)
    code, _ = bench.env.run(OVERWRITERS[name], check=False, source=bad, target=directory / "b.tar")
    assert code != 0 and bad.exists()
    assert ls(directory) == sorted([*RECORDS, "b.tar", "b.tar.error.txt"])
    run("cmp", original, directory / "b.tar")
    bench.world.assert_published(directory.name, original)


@pytest.fixture(scope="module")
def bench_that_deletes(module_world):
    how = module_world.flags("allow_delete")
    with publish_tools.environment(module_world.directory) as env:
        bench = Bench(module_world, env, prefix="deletes", **how)
        yield bench
        bench.mount.unmount()


def test_deleted_label(world, deleting):
    label = deleting / "labels" / "d@1.0.0"
    run("ln", "-s", "../datasets/d", label)
    run("rm", label)
    assert world.label("d", "1.0.0") is None
    assert "d@1.0.0" not in ls(deleting / "labels")
    assert listed(world, "a.tar", "b.tar")
    assert refusal(create, deleting / "labels" / "x") == errno.EACCES

"""An index that anybody may have written: what is sound shows, the rest is reported, and nothing
is run, opened outside of the data roots, or waited for."""

import os
import random
import re
import shutil
import sqlite3
import sys
from pathlib import Path

import pytest

import hostile_rows as rows
from bounded import bounded, ls, read, run, sha256, wait_until
from index_db import SCHEMA_REF, IndexDb, make_shard
from mounting import ATDATAFS, environment, make_state, mounts_on, sanitizer_reports

# Where the daemon opens files besides its index, roots and temporary directory: what the loader,
# the C library and FUSE need.
SYSTEM_PLACES = [
    "/dev/fuse",
    "/dev/null",
    "/etc/ld.so.cache",
    "/etc/localtime",
    "/etc/ssl/openssl.cnf",
    "/lib",
    "/proc/stat",  # how many processors, where there is no /sys
    "/proc/sys",
    "/sys/devices/system/cpu",
    "/sys/devices/virtual/bdi",
    "/usr/lib",
    "/usr/share/zoneinfo",
]


class Hostile:
    """A mount of everything in hostile_rows."""

    def __init__(self, mount, world, index, trace):
        self.mount = mount
        self.world = world
        self.index = index
        self.trace = trace
        # Shards are looked at in the background.
        wanted = len(world.bad_urls())
        wait_until(lambda: mount.metrics()["shards_unreadable"] >= wanted, 20, "all looked at")
        self.status = mount.status()
        self.problems = {problem["key"]: problem for problem in self.status["problems"]}


@pytest.fixture(scope="module", params=["alone", "traced"])
def hostile(request, module_stack):
    base = module_stack.directory / request.param
    world = rows.World(base, base / "store" / "data")
    with IndexDb(base / "store" / "index.db", tables=rows.TYPELESS_TABLES) as index:
        rows.fill(index, world)
    how = {}
    trace = base / "trace"
    if request.param == "traced":
        if not shutil.which("strace"):
            pytest.skip("there is no strace to watch the daemon with")
        trace.mkdir()
        calls = "open,openat,openat2,creat,execve,connect,socket"
        how["wrapper"] = ["strace", "-ff", "-y", "-qq", "-o", trace / "t", "-e", f"trace={calls}"]
        # Leaks cannot be looked for under a tracer; the other run does.
        how["env"] = {"ASAN_OPTIONS": "detect_leaks=0:exitcode=99"}
    mount = module_stack.mount(base / "mounted", index=f"sqlite:{index.path}", **how)
    yield Hostile(mount, world, index, trace)
    assert not world.marker.exists(), "something of the index was run"


def file_of(hostile, cid):
    """The one shard file shown in an entry's directory."""
    [name] = [name for name in ls(hostile.mount / "by-cid" / cid) if name.endswith(".tar")]
    return hostile.mount / "by-cid" / cid / name


def test_what_is_sound_shows(hostile):
    mount = hostile.mount
    assert mount.json("datasets", "sound", "metadata.json") == {"sound": True}
    assert mount.json("datasets", "sound", "schema.json")["name"] == "Plain"
    shard = mount / "datasets" / "sound" / "good.tar"
    assert sha256(shard) == sha256(hostile.world.root / "good.tar")
    assert run("tar", "tf", shard).stdout.count(".msgpack") == 3


def test_bad_rows_are_reported_and_do_not_show(hostile):
    shown = ls(hostile.mount / "by-cid")
    for cid in rows.BAD_ENTRIES:
        assert hostile.problems[cid]["what"] == "entry", cid
        assert hostile.problems[cid]["reason"], cid
        assert cid not in shown
    reasons = [problem["reason"] for problem in hostile.status["problems"]]
    for reason in rows.BAD_CIDS.values():
        assert any(text.startswith(reason) for text in reasons), reason
    assert hostile.status["problem_count"] == len(hostile.status["problems"])
    assert hostile.status["index"]["state"] == "live"


def test_odd_names_are_spelled(hostile):
    shown = set(ls(hostile.mount / "datasets"))
    assert "n" not in shown
    for place, name in enumerate(rows.ODD_NAMES):
        cid = f"bafyodd{place:08d}"
        directory = rows.ODD_NAMES[name].replace("TAIL", cid[-8:])
        assert directory in shown
        entry = hostile.mount.json("datasets", directory, "entry.json")
        assert entry["cid"] == cid
        if b"\xff" not in name and b"\xe6" not in name:
            assert entry["name"] == name.decode()
    shown = ls(hostile.mount / "by-cid")
    for cid, directory in rows.ODD_CIDS.items():
        assert directory in shown
        assert hostile.mount.json("by-cid", directory, "entry.json")["cid"] == cid
    for name in (*shown, *ls(hostile.mount / "datasets"), *ls(hostile.mount / "labels")):
        assert name not in (".", "..") and "/" not in name and 0 < len(name.encode()) <= 255


def test_urls_that_may_be_read(hostile):
    for place, original in enumerate(hostile.world.good_urls().values()):
        assert sha256(file_of(hostile, f"url-{place}")) == sha256(original)


def test_urls_that_may_not_be_read(hostile):
    first = len(hostile.world.good_urls())
    for place, (url, reason) in enumerate(hostile.world.bad_urls().items(), first):
        [shard] = hostile.mount.json("by-cid", f"url-{place}", "entry.json")["shards"]
        assert shard["url"] == url and shard["file"] is None
        assert reason in shard["error"], (url, shard["error"])
        # Stores are asked when somebody looks: those shards are told of from then on.
        told = [p["reason"] for p in hostile.mount.status()["problems"] if p["key"] == url]
        assert shard["error"] in told
        names = ls(hostile.mount / "by-cid" / f"url-{place}")
        assert names == sorted(
            ["entry.json", "metadata.json", "schema.json", "schema.jsonschema", "schema.py"]
        )
        for name in (url.rpartition("/")[2], "secret.tar", "shadow"):
            if 0 < len(name) < 256 and "\0" not in name:
                assert not bounded(os.path.exists, hostile.mount / "by-cid" / f"url-{place}" / name)


def test_brace_bombs_are_reported(hostile):
    for cid in rows.BRACE_BOMBS:
        assert hostile.problems[cid]["what"] == "entry", cid
        entry = hostile.mount.json("by-cid", cid, "entry.json")
        assert entry["shards"] == [] and entry["error"] == hostile.problems[cid]["reason"]


def test_equal_and_taken_shard_names(hostile):
    good = sha256(hostile.world.root / "good.tar")
    names = [name for name in ls(hostile.mount / "datasets" / "twice") if name.endswith(".tar")]
    assert names == ["good.tar", "good~2.tar", "good~3.tar"]
    for name in names:
        assert sha256(hostile.mount / "datasets" / "twice" / name) == good
    records = hostile.mount / "datasets" / "records"
    assert ls(records) == [
        "entry.json",
        "metadata.json",
        "schema.json",
        "schema.jsonschema",
        "schema.py",
        "schema~2.json",
    ]
    assert hostile.mount.json("datasets", "records", "schema.json")["name"] == "Plain"
    assert sha256(records / "schema~2.json") == sha256(hostile.world.root / "schema.json")


def test_bad_schemas_are_reported(hostile):
    shown = ls(hostile.mount / "schemas")
    for name in [*rows.BAD_SCHEMAS, "IsBlob"]:
        keys = [key for key in hostile.problems if key in (name, f"{name}@1.0.0")]
        sound = f"{name}@1.0.0.json" in shown
        assert bool(keys) != sound, name
        if not sound and name != "IsBlob":
            # Its dataset shows all the same.
            assert sha256(file_of(hostile, f"s-{name}")) == sha256(hostile.world.root / "good.tar")
            assert "schema.json" not in ls(hostile.mount / "by-cid" / f"s-{name}")
    assert {"NoJson@1.0.0", "Deep@1.0.0", "Huge@1.0.0", "IsBlob"} <= hostile.problems.keys()


IMPORTER = """
import runpy, sys
for path in sys.argv[1:]:
    try:
        runpy.run_path(path)
        print("imported")
    except ImportError:
        print("refused")
"""


def test_schema_py_runs_nothing(hostile):
    """Whatever the record says, its module defines a class or refuses to be imported."""
    paths = [hostile.mount / "by-cid" / f"s-{name}" / "schema.py" for name in rows.CODE_SCHEMAS]
    done = run(sys.executable, "-c", IMPORTER, *paths)
    outcomes = dict(zip(rows.CODE_SCHEMAS, done.stdout.split(), strict=True))
    assert not hostile.world.marker.exists(), outcomes
    assert outcomes["Description"] == outcomes["Version"] == outcomes["Dtype"] == "imported"
    assert outcomes["FieldName"] == outcomes["FieldCode"] == outcomes["Primitive"] == "refused"


def test_labels(hostile):
    directory = hostile.mount / "labels"
    links = {name: os.readlink(directory / name) for name in ls(directory)}
    assert links["%2E.%2F..@..%2F..%2Fetc"] == "../by-cid/sound"
    assert set(links.values()) == {"../by-cid/sound"}
    assert "dangling" in hostile.problems and "no-version-type" in hostile.problems
    # Two that differ only behind the cut: each has a name of its own, or is reported.
    cut = [name for name in ls(directory) if name.startswith("lll")]
    reported = [key for key in hostile.problems if key.startswith("lll")]
    assert len(set(cut)) == len(cut) and len(cut) + len(reported) == 2


def test_walking_everything_never_hangs(hostile):
    """Every file can be read; the texts are what they say they are."""
    files = 0
    for place in ("datasets", "by-cid", "schemas", ".atdatafs"):
        for directory, _, names in bounded(lambda: list(os.walk(hostile.mount / place))):
            for name in names:
                content = read(Path(directory) / name)
                files += 1
                if name.endswith(".json") and not name.endswith("~2.json"):
                    assert content.decode("utf-8")
    assert files > 300
    assert run("find", hostile.mount.path, "-size", "+0").returncode == 0
    assert run("ls", "-lR", hostile.mount.path).returncode == 0
    assert hostile.mount.status()["pid"] == hostile.status["pid"]


def test_opened_nothing_outside(hostile):
    """Last of all: the trace of every open of the daemon."""
    if not hostile.trace.exists():
        return
    allowed = [*SYSTEM_PLACES, str(hostile.world.root.parent), str(hostile.mount.state)]
    allowed += [str(Path(ATDATAFS).resolve()), f"/proc/{hostile.mount.pid}/"]
    # What members were found in shards, for samples/.
    allowed.append(f"{hostile.mount.path.parent}/home/.cache/atdatafs/members")
    opened = set()
    for file in hostile.trace.iterdir():
        for line in file.read_text(errors="replace").splitlines():
            assert not line.startswith("creat("), line
            # The one server that the index names; a metadata service is not even connected to.
            assert not line.startswith("connect(") or re.search(r"AF_UNIX|127\.0\.0\.1|::1", line)
            assert not line.startswith("execve(") or f'"{ATDATAFS}"' in line, line
            path = re.search(r"= \d+<([^>]*)>$", line)
            if path and not path[1].startswith("socket:"):
                opened.add(path[1])
    inside = [path for path in opened if path.startswith(str(hostile.world.root))]
    assert str(hostile.world.root / "good.tar") in inside
    strange = [path for path in opened if not any(path.startswith(place) for place in allowed)]
    assert strange == []


# ---------------------------------------------------------------- the database itself


@pytest.mark.parametrize("what", rows.STRUCTURES)
def test_structure(what, tmp_path, mount):
    sql, reported, shown = rows.STRUCTURES[what]
    with IndexDb(tmp_path / "store" / "index.db") as index:
        index.schema()
        cid = index.entry("sound", [make_shard(index.root / "good.tar")])
        index.label("sound", cid, "1.0.0")
    rows.change_structure(index.path, sql)
    mounted = mount(index=f"sqlite:{index.path}")
    tables = [p["key"] for p in mounted.status()["problems"] if p["what"] == "table"]
    assert sorted(tables) == reported
    assert ls(mounted / "datasets") == shown
    for name in shown:
        assert sha256(mounted / "datasets" / name / "good.tar") == sha256(index.root / "good.tar")


def test_tables_without_rowid(tmp_path, mount):
    """Never made by the library; the rows show, or the tables are reported."""
    tables = re.sub(r"\);(?=\nCREATE (TABLE|INDEX)|\n$)", ") WITHOUT ROWID;", rows.TYPELESS_TABLES)
    tables = tables.replace("(cid,", "(cid PRIMARY KEY,", 1)
    tables = tables.replace("schemas (name, version,", "schemas (name PRIMARY KEY, version,")
    tables = tables.replace("labels (name,", "labels (name PRIMARY KEY,")
    assert tables.count("WITHOUT ROWID") == 3
    with IndexDb(tmp_path / "store" / "index.db", tables=tables) as index:
        index.schema()
        index.entry("sound", [make_shard(index.root / "good.tar")])
    mounted = mount(index=f"sqlite:{index.path}")
    reported = {p["key"] for p in mounted.status()["problems"]}
    assert ls(mounted / "datasets") == ["sound"] or reported == {
        "dataset_entries",
        "labels",
        "schemas",
    }


def test_huge_generated_columns(tmp_path, mount):
    """A table may compute: a name of 20 MB that takes no room on the disk. It is not asked to."""
    with IndexDb(tmp_path / "store" / "index.db") as index:
        index.entry("sound", [make_shard(index.root / "good.tar")])
    rows.change_structure(
        index.path,
        "ALTER TABLE dataset_entries RENAME TO old;"
        "CREATE TABLE dataset_entries (cid TEXT, name TEXT AS"
        " (CASE cid WHEN 'huge' THEN printf('%.20000000c', 'x') ELSE 'sound' END),"
        " schema_ref TEXT, data_urls BLOB, metadata BLOB, created_at TEXT);"
        "INSERT INTO dataset_entries (cid, schema_ref, data_urls)"
        " SELECT cid, schema_ref, data_urls FROM old UNION ALL SELECT 'huge', '', x'90'",
    )
    mounted = mount(index=f"sqlite:{index.path}")
    assert ls(mounted / "datasets") == []
    assert [problem["key"] for problem in mounted.status()["problems"]] == ["dataset_entries"]


def test_ten_thousand_bad_rows(tmp_path, mount):
    """The list of problems has an end, their count does not."""
    with IndexDb(tmp_path / "store" / "index.db") as index:
        index.db.execute("BEGIN")
        for i in range(10000):
            index.row(f"bad-{i}", "n", data_urls=b"\xc1")
        index.db.execute("COMMIT")
        index.entry("sound", [])
    mounted = mount(index=f"sqlite:{index.path}")
    status = mounted.status()
    assert status["problem_count"] == 10000 and len(status["problems"]) == 1000
    assert ls(mounted / "datasets") == ["sound"]


@pytest.mark.parametrize("seed", range(12))
def test_damaged_database(seed, tmp_path):
    """Bytes changed at random: it mounts what it can, or says in a sentence why not."""
    with IndexDb(tmp_path / "store" / "index.db") as index:
        index.schema()
        for i in range(200):
            cid = index.entry(f"set-{i}", [f"/x/{i}.tar"], metadata={"i": i})
            index.label(f"set-{i}", cid, "1.0.0")
    content = bytearray(index.path.read_bytes())
    numbers = random.Random(seed)
    for _ in range(30):
        content[numbers.randrange(100 if seed < 10 else 0, len(content))] = numbers.randrange(256)
    index.path.write_bytes(content)
    path = tmp_path / "mnt"
    path.mkdir()
    state = make_state(tmp_path / "state")
    env = environment(tmp_path, state)
    done = run(ATDATAFS, f"sqlite:{index.path}", path, env=env, check=False, timeout=30)
    assert done.returncode in (0, 1), (done.returncode, done.stderr, sanitizer_reports(state))
    if done.returncode == 1:
        assert done.stderr.startswith("atdatafs: ") and done.stderr.count("\n") == 1
        assert mounts_on(path) == []
    else:
        for name in ls(path / "datasets"):
            read(path / "datasets" / name / "entry.json")
        read(path / ".atdatafs" / "status.json")
        run("fusermount3", "-u", path)
    assert sanitizer_reports(state) == ""


# ---------------------------------------------------------------- the files beside it


def a_store(directory):
    with IndexDb(directory / "index.db") as index:
        index.schema()
        index.entry("sound", [make_shard(index.root / "good.tar")])
    return index


@pytest.mark.parametrize("suffix", ["-wal", "-journal"])
def test_links_beside_the_index(suffix, tmp_path):
    """As root SQLite would give what a -wal link leads to to the owner of the database."""
    if os.geteuid() != 0:
        pytest.skip("only root can give files away")
    index = a_store(tmp_path / "store")
    victim = tmp_path / "victim"
    victim.write_bytes(b"of root alone\n" * 100)
    before = victim.stat()
    os.chown(index.path, 65534, 65534)
    Path(f"{index.path}{suffix}").symlink_to(victim)
    path = tmp_path / "mnt"
    path.mkdir()
    state = make_state(tmp_path / "state")
    env = environment(tmp_path, state)
    done = run(ATDATAFS, f"sqlite:{index.path}", path, env=env, check=False, timeout=30)
    assert done.returncode == 1 and "is not a regular file" in done.stderr
    after = victim.stat()
    assert (after.st_uid, after.st_mtime_ns, after.st_ctime_ns) == (
        before.st_uid,
        before.st_mtime_ns,
        before.st_ctime_ns,
    )
    assert sanitizer_reports(state) == "" and mounts_on(path) == []


@pytest.mark.parametrize("has_shm", [False, True])
def test_wal_of_noise(has_shm, tmp_path, mount):
    """SQLite ignores frames whose checksums are wrong."""
    index = a_store(tmp_path / "store")
    Path(f"{index.path}-wal").write_bytes(random.Random(1).randbytes(100000))
    if has_shm:
        Path(f"{index.path}-shm").write_bytes(random.Random(2).randbytes(32768))
    mounted = mount(index=f"sqlite:{index.path}")
    assert ls(mounted / "datasets") == ["sound"]


def test_rows_become_hostile_while_mounted(tmp_path, mount):
    index = a_store(tmp_path / "store")
    mounted = mount(index=f"sqlite:{index.path}")
    assert ls(mounted / "datasets") == ["sound"]
    world = rows.World(tmp_path / "more", tmp_path / "store" / "data" / "more")
    with sqlite3.connect(index.path) as db:
        db.executescript("DROP TABLE dataset_entries; DROP TABLE labels; DROP TABLE schemas;")
    db.close()
    with IndexDb(index.path, tables=rows.TYPELESS_TABLES) as again:
        rows.fill(again, world)

    def problems():
        return {problem["key"] for problem in mounted.status()["problems"]}

    wait_until(lambda: "name-is-int" in problems(), 5, "the new rows are reported")
    assert mounted.json("datasets", "sound", "metadata.json") == {"sound": True}
    assert mounted.json("datasets", "sound", "entry.json")["schema_ref"] == SCHEMA_REF
    assert not world.marker.exists()

"""Commands that look at an index without a mount (ls, show, schema, label, resolve, status), in
both worlds: the same as the real library says, the same as a mount shows; signed URLs are fetched
by the real curl."""

import json
import os
import pty
import shutil
import socket
import subprocess
import time

import pytest

import samples
from bounded import SLACK, read, run, wait_until
from command import Commands
from index_db import SCHEMA
from mounting import ATDATAFS
from publish_samples import library_shard, plain_webdataset
from test_publish_together import library_of

COUNT = 12
COMMANDS = {
    "ls": [],
    "show": ["mnist"],
    "schema list": [],
    "schema show": ["Plain"],
    "schema python": ["Plain"],
    "schema publish": ["x.json"],
    "schema infer": ["x.tar"],
    "label": ["mnist", "mnist@1.0.0"],
    "resolve": ["mnist"],
    "status": [],
}


@pytest.fixture
def commands(world):
    return Commands(world)


@pytest.fixture
def library(world):
    return library_of(world)


@pytest.fixture
def filled(world, commands, library):
    """The world with what the library wrote and what was published here; returns the library."""
    library.open_index()
    library.write("digits", "Scalars", COUNT)
    library.write("team/arrays", "Arrays", COUNT)
    commands("publish", world.shard("a.tar"), world.shard("b.tar", seed=1), "mnist")
    return library


def key_facts(entry):
    return {key: entry[key] for key in ("name", "cid", "schema_ref")}


def library_entries(library):
    """Without former states, which stay for a minute (DESIGN 4.4), by name."""
    entries = [entry for entry in library.entries() if "@superseded:" not in entry["name"]]
    return sorted(entries, key=lambda entry: entry["name"])


# ---------------------------------------------------------------- ls


def test_ls_says_what_the_library_lists(world, commands, filled):
    listed = commands.json("ls")["datasets"]
    theirs = library_entries(filled)
    assert [key_facts(entry) for entry in listed] == [key_facts(entry) for entry in theirs]
    assert {entry["name"] for entry in listed} == {"digits", "team/arrays", "mnist"}
    by_name = {entry["name"]: entry for entry in listed}
    assert by_name["team/arrays"]["file"] == "team%2Farrays"
    ours = by_name["mnist"]
    size = sum(len(world.object(url)) for url in world.entry("mnist")["data_urls"])
    assert (ours["shards"], ours["size_bytes"], ours["samples"]) == (2, size, 40)
    for entry in theirs:
        assert by_name[entry["name"]]["shards"] == len(entry["data_urls"])

    text = commands.lines("ls")
    assert text[0].split()[:5] == ["NAME", "SHARDS", "SIZE", "SAMPLES", "SCHEMA"]
    assert [line.split()[0] for line in text[1:]] == ["digits", "mnist", "team/arrays"]
    assert " 40 " in text[2] and "Mnist@1.0.0" in text[2]
    assert all(line == line.rstrip() for line in text)
    assert commands.lines("ls", "--names") == ["digits", "mnist", "team%2Farrays"]


def test_ls_asks_no_store(team_world):
    commands = Commands(team_world)
    library = library_of(team_world)
    library.write("digits", "Scalars", COUNT)
    commands("publish", team_world.shard("a.tar"), "mnist")
    shutil.rmtree(team_world.remote.cache, ignore_errors=True)
    team_world.forget()
    by_name = {entry["name"]: entry for entry in commands.json("ls")["datasets"]}
    assert by_name["digits"]["size_bytes"] is None and by_name["digits"]["shards"] == 1
    assert by_name["mnist"]["size_bytes"] == team_world.shard("a.tar").stat().st_size
    assert team_world.remote.proxy.counts() == {}


def test_ls_of_a_dataset_has_its_shards(world, commands, filled):
    entry = world.entry("mnist")
    for word in ("mnist", "@local/mnist", entry["cid"]):
        answer = commands.json("ls", word)
        assert answer["cid"] == entry["cid"]
        assert [shard["url"] for shard in answer["shards"]] == entry["data_urls"]
        assert [shard["file"] for shard in answer["shards"]] == ["a.tar", "b.tar"]
        for shard in answer["shards"]:
            assert shard["size"] == len(world.object(shard["url"]))
            assert shard["sha256"] == entry["metadata"]["checksums"][shard["url"]]
    lines = commands.lines("ls", "mnist")
    assert [line.split()[0] for line in lines] == ["FILE", "a.tar", "b.tar"]
    assert commands.lines("ls", "--names", "mnist") == ["a.tar", "b.tar"]
    # By either spelling of a name that is no file name.
    assert commands.json("ls", "team/arrays") == commands.json("ls", "team%2Farrays")


def test_a_shard_that_is_gone_is_told_of(disk_world):
    commands = Commands(disk_world)
    commands("publish", disk_world.shard("a.tar"), disk_world.shard("b.tar", seed=1), "mnist")
    os.unlink(disk_world.entry("mnist")["data_urls"][0])
    good, gone = sorted(commands.json("ls", "mnist")["shards"], key=lambda shard: "error" in shard)
    assert "error" not in good and "does not exist" in gone["error"]
    assert "does not exist" in commands("ls", "mnist").stdout
    (dataset,) = commands.json("ls")["datasets"]
    assert dataset["size_bytes"] is None and dataset["shards"] == 2


# ---------------------------------------------------------------- show




def test_show_is_the_mounts_entry_json(world, commands, filled):
    commands("label", "mnist", "mnist@1.0.0")
    mount = world.mount()
    for name in ("digits", "mnist", "team/arrays"):
        path = mount / "datasets" / name.replace("/", "%2F")
        theirs = read(path / "entry.json").decode()
        assert json.loads(commands("show", "--json", name).stdout) == json.loads(theirs), name
        # Of paths: whatever lies there, without an index.
        nowhere = {"index": "redis://127.0.0.1:1/0"}
        shard = json.loads(theirs)["shards"][0]["file"]
        for inside in (path, path / "entry.json", path / shard, path / "schema.py"):
            assert commands("show", "--json", inside, **nowhere).stdout == theirs
        here = commands("show", "--json", ".", cwd=path, **nowhere)
        assert here.stdout == theirs


def test_show_has_everything_in_words(world, commands, filled):
    commands("label", "mnist", "mnist@1.0.0")
    document = commands.json("show", "mnist")
    words = commands("show", "mnist@1.0.0").stdout

    def check(value):
        if isinstance(value, dict):
            for item in value.values():
                check(item)
        elif isinstance(value, list):
            for item in value:
                check(item)
        elif value is not None:
            assert str(value) in words, value

    check(document)


# ---------------------------------------------------------------- schemas


def test_schemas_are_those_of_the_library(world, commands, filled):
    listed = commands.json("schema list")["schemas"]
    theirs = filled.list_schemas()
    assert sorted((item["name"], item["version"]) for item in listed) == sorted(
        (item["name"].rpartition(".")[2], item["version"]) for item in theirs
    ) or sorted((item["name"], item["version"]) for item in listed) == sorted(
        (item["name"], item["version"]) for item in theirs
    )
    names = [f"{item['name']}@{item['version']}" for item in listed]
    assert commands.lines("schema list", "--names") == names
    for item in listed:
        ours = json.loads(commands("schema show", item["ref"]).stdout)
        assert ours == filled.schema(item["ref"])
        again = commands("schema show", f"{item['name']}@{item['version']}").stdout
        assert json.loads(again) == ours
    lines = commands.lines("schema list")
    assert lines[0].split() == ["NAME", "VERSION", "FIELDS"]
    assert len(lines) == 1 + len(listed)


def test_schema_files_are_the_mounts(world, commands, filled):
    mount = world.mount()
    for name in commands.lines("schema list", "--names"):
        for command, suffix in (("schema show", "json"), ("schema python", "py")):
            theirs = read(mount / "schemas" / f"{name}.{suffix}").decode()
            assert commands(command, name).stdout == theirs
            assert commands(command, name.partition("@")[0]).stdout == theirs  # the only version


def test_a_python_schema_decodes_the_samples(commands, filled, tmp_path):
    path = tmp_path / "scalars.py"
    path.write_text(commands("schema python", "Scalars").stdout)
    url = commands.lines("resolve", "--signed", "digits")[0]
    shard = tmp_path / "shard.tar"
    run("curl", "-sSf", "-o", shard, url if "://" in url else f"file://{url}")
    assert filled.load_by_schema_py(str(path), [str(shard)]) == samples.expected("Scalars", COUNT)


def test_the_latest_version_is_by_number(commands, filled):
    for version in ("1.9.0", "1.10.0", "1.2.0"):
        filled.publish_schema("Scalars", version=version)
    assert json.loads(commands("schema show", "Scalars").stdout)["version"] == "1.10.0"
    assert json.loads(commands("schema show", "Scalars@1.2.0").stdout)["version"] == "1.2.0"
    assert "schema list" in commands.refused("schema show", "Scalars@7.0.0")
    assert "schema list" in commands.refused("schema python", "Nobody")


@pytest.mark.parametrize("kind", ["Scalars", "Arrays"])
def test_an_inferred_schema_is_published_and_decodes(kind, world, commands, library, tmp_path):
    """Two shards, of one the library's own class says the fields."""
    library.open_index()
    shards = [library_shard(tmp_path / f"part-{i}.tar", kind, COUNT, seed=i) for i in range(2)]
    made = commands("schema infer", "--class", "Mine", *shards).stdout
    path = tmp_path / "mine.json"
    path.write_text(made)
    assert commands("schema publish", path).stdout == "published Mine@1.0.0\n"
    record = library.schema("atdata://local/schema/Mine@1.0.0")
    assert record["fields"] == json.loads(made)["fields"]
    assert library.decode("atdata://local/schema/Mine@1.0.0")[0] == "Mine"
    # Again it is the same; from standard input, under another name.
    commands("schema publish", path)
    with open(path, "rb") as file:
        done = subprocess.run(
            commands.words("schema publish", "--json", "--name", "Other", "-"),
            stdin=file,
            stdout=subprocess.PIPE,
            env=commands.env,
            timeout=60,
            check=True,
        )
    assert json.loads(done.stdout) == {"name": "Other", "version": "1.0.0"}
    assert {"Mine@1.0.0", "Other@1.0.0"} <= set(commands.lines("schema list", "--names"))
    # That version is never changed.
    changed = json.loads(made)
    changed["fields"] = changed["fields"][:1]
    path.write_text(json.dumps(changed))
    assert "Mine@1.0.0" in commands.refused("schema publish", path)
    assert world.schemas()["Mine@1.0.0"]["fields"] == record["fields"]


def test_what_no_schema_can_be_made_of_is_named(world, commands, tmp_path):
    plain = plain_webdataset(tmp_path / "plain.tar")
    packed = library_shard(tmp_path / "packed.tar", "Scalars", 2)
    cut = tmp_path / "cut.tar"
    cut.write_bytes(packed.read_bytes()[:3000])
    text = tmp_path / "text.json"
    text.write_text("{")
    assert str(cut) in commands.refused("schema infer", packed, cut)
    assert str(plain) in commands.refused("schema infer", packed, plain)
    assert "missing.tar" in commands.refused("schema infer", tmp_path / "missing.tar")
    assert str(text) in commands.refused("schema publish", text)
    assert json.loads(commands("schema infer", plain).stdout)["name"] == "Plain"
    assert not world.schemas() or set(world.schemas()) == {"Plain@1.0.0"}


# ---------------------------------------------------------------- labels


def test_a_label_is_the_librarys(world, commands, filled):
    cid = world.entry("mnist")["cid"]
    assert commands("label", "mnist", "mnist@1.0.0").stdout == f"mnist@1.0.0 is {cid}\n"
    assert world.label("mnist", "1.0.0")["cid"] == cid
    first = world.entry("mnist")
    commands("publish", world.shard("c.tar", seed=2), "mnist")
    now = world.label("mnist")["cid"]
    assert now != cid
    # The version stays, the name moves on.
    assert commands.lines("resolve", "@local/mnist@1.0.0") == first["data_urls"]
    assert len(commands.lines("resolve", "@local/mnist")) == 3
    # Again; by CID; with what is there already; what is none.
    commands("label", "-q", "mnist@1.0.0", "mnist@1.0.0")
    answer = commands.json("label", cid, "mnist@0.9.0")
    assert answer == {"name": "mnist", "version": "0.9.0", "cid": cid}
    assert "choose another version" in commands.refused("label", "mnist", "mnist@1.0.0")
    assert world.label("mnist", "1.0.0")["cid"] == cid
    assert "see atdatafs ls" in commands.refused("label", "nobody", "mnist@3.0.0")
    for wrong in ("mnist", "mnist@", "@1.0.0", "m*@1.0.0"):
        commands.refused("label", "mnist", wrong, code=2)
    assert "option ro" in commands.refused("label", "mnist", "mnist@3.0.0", options="ro")
    assert world.label("mnist", "3.0.0") is None


# ---------------------------------------------------------------- resolve


def test_resolve_gives_the_librarys_urls(world, commands, filled):
    for entry in library_entries(filled):
        for word in (f"@local/{entry['name']}", entry["name"], entry["cid"]):
            assert commands.lines("resolve", word) == entry["data_urls"]
    answer = commands.json("resolve", "mnist")
    assert [shard["url"] for shard in answer["shards"]] == world.entry("mnist")["data_urls"]
    assert "no such version" in commands.refused("resolve", "@local/mnist@9.9.9")
    assert "@local" in commands.refused("resolve", "@elsewhere/mnist")
    for wrong in ("@local/", "@local/mnist@", "@local/@1"):
        commands.refused("resolve", wrong)
    commands.refused("resolve", "@local/nobody")


def test_signed_urls_are_fetched_by_curl(world, commands, filled, tmp_path):
    urls = world.entry("mnist")["data_urls"]
    signed = commands.lines("resolve", "--signed", "@local/mnist")
    assert len(signed) == len(urls)
    for url, address in zip(urls, signed, strict=True):
        if world.kind == "team":
            assert address.startswith(world.remote.proxy.url) and "X-Amz-Signature=" in address
        else:
            assert address == url
            address = f"file://{address}"
        run("curl", "-sSf", "-o", tmp_path / "fetched", address)
        assert (tmp_path / "fetched").read_bytes() == world.object(url)
    answer = commands.json("resolve", "--signed=60", "mnist")
    assert answer["valid_seconds"] == 60
    if world.kind == "team":
        assert all("X-Amz-Expires=60&" in shard["signed_url"] for shard in answer["shards"])
    for wrong in ("--signed=0", "--signed=604801", "--signed=x", "--signed="):
        commands.refused("resolve", wrong, "mnist", code=2)


def test_a_signed_url_of_an_odd_key(team_world, tmp_path):
    """What has to be escaped in a URL is."""
    commands = Commands(team_world)
    key = "data/odd/a b+c%20ä=&?#.tar"
    data = team_world.remote.put(key, b"odd bytes")
    team_world.remote.index.entry("odd", [team_world.remote.url(key)])
    (address,) = commands.lines("resolve", "--signed", "odd")
    assert address.isascii() and " " not in address
    run("curl", "-sSf", "-o", tmp_path / "fetched", address)
    assert (tmp_path / "fetched").read_bytes() == data


def test_what_nobody_can_fetch_is_not_signed(team_world):
    commands = Commands(team_world)
    index = team_world.remote.index
    index.entry("pipe", ["pipe:touch /tmp/never", "s3://b/k.tar"])
    index.entry("web", ["https://example.invalid/a.tar"])
    index.entry("braces", ["s3://b/{a,b}-{0..1}.tar"])
    index.entry("lines", ["s3://b/a\nb.tar"])
    assert "pipe:touch" in commands.refused("resolve", "--signed", "pipe")
    assert commands.lines("resolve", "pipe") == ["pipe:touch /tmp/never", "s3://b/k.tar"]
    assert commands.lines("resolve", "--signed", "web") == ["https://example.invalid/a.tar"]
    assert commands.lines("resolve", "braces") == [
        f"s3://b/{letter}-{number}.tar" for letter in "ab" for number in "01"
    ]
    assert "--json" in commands.refused("resolve", "lines")
    assert commands.json("resolve", "lines")["shards"] == [{"url": "s3://b/a\nb.tar"}]
    # Without credentials nothing can be signed.
    bare = team_world.remote.options(env_file=None, unsigned=True)
    done = run(
        ATDATAFS, "resolve", "--signed", "braces", "-i", commands.world.index_url, "-o", bare,
        check=False, env=commands.env,
    )  # fmt: skip
    assert done.returncode == 1 and "without credentials" in done.stderr, done


# ---------------------------------------------------------------- status


def test_status_counts_as_the_mount(world, commands, filled):
    mount = world.mount()
    ours = commands.json("status")
    theirs = mount.json(".atdatafs", "status.json")
    for key in ("provider", "location", "datasets", "entries", "schemas", "labels"):
        assert ours["index"][key] == theirs["index"][key], key
    assert (ours["problems"], ours["problem_count"]) == ([], 0)
    assert ours["version"] == theirs["version"]
    # The mount's own.
    nowhere = {"index": "redis://127.0.0.1:1/0"}
    of_mount = json.loads(commands("status", "--json", mount.path, **nowhere).stdout)
    assert of_mount["pid"] == theirs["pid"] and of_mount["mountpoint"] == str(mount.path)
    words = commands("status", mount.path, **nowhere).stdout
    assert f"pid                 {theirs['pid']}\n" in words
    words = commands("status").stdout
    assert f"  provider          {ours['index']['provider']}\n" in words
    if world.kind == "team":
        assert ours["store"]["new_shards"] == world.prefix
        assert world.minio.PASSWORD not in words
    else:
        assert ours["store"]["new_shards"] == str(world.root)


def test_status_of_what_is_no_mount(world, commands, tmp_path):
    assert "is no mount" in commands.refused("status", tmp_path)
    assert "is no mount" in commands.refused("status", tmp_path / "nothing")


def test_status_tells_of_problems(team_world):
    commands = Commands(team_world)
    index = team_world.remote.index
    index.hash("LocalDatasetEntry:bad\033[2J", {"name": "bad", "cid": "bad\033[2J"})
    answer = commands.json("status")
    assert answer["problem_count"] == 1
    assert "bad" in answer["problems"][0]["key"]
    words = commands("status").stdout
    assert "\033" not in words and "\\x1b[2J" in words


# ---------------------------------------------------------------- names that anybody may write

HOSTILE = [
    "new\nline",
    "\033]0;title\007",
    "tab\there",
    "\u202egnp.exe",
    "c1\x9b31m",
    "-rf",
    "--json",
    "sp ace",
    "100%41",
    "数据集",
    "a" * 300,
    "..",
]


def test_hostile_names_stay_on_their_line(team_world):
    commands = Commands(team_world)
    index = team_world.remote.index
    for i, name in enumerate(HOSTILE):
        index.entry(name, [f"s3://b/{i}.tar"], schema_ref=f"local://schemas/E\033[31m{i}@1.0.0")
    lines = commands.lines("ls")
    assert len(lines) == 1 + len(HOSTILE)
    text = "\n".join(lines)
    for unsafe in "\033\007\t\u202e\x9b":
        assert unsafe not in text, repr(unsafe)
    assert "new\\x0aline" in text and "数据集" in text
    assert sorted(entry["name"] for entry in commands.json("ls")["datasets"]) == sorted(HOSTILE)
    # Each can be named, as it is and as ls --names has it.
    names = commands.lines("ls", "--names")
    assert len(names) == len(HOSTILE)
    by_file = {entry["file"]: entry["name"] for entry in commands.json("ls")["datasets"]}
    for file, name in by_file.items():
        for word in (file, name):
            assert commands.json("resolve", "--", word)["name"] == name
    # Nor do they say anything in errors.
    for name in HOSTILE:
        refused = commands.refused("ls", "--", f"no {name}")
        assert not any(ord(c) < 32 for c in refused.rstrip("\n"))


def test_names_with_an_at_sign(team_world):
    """The library splits at the last one; a plain word is a name first (ATDATA-FORMATS 1.7)."""
    commands = Commands(team_world)
    index = team_world.remote.index
    whole = index.entry("a@b", ["s3://b/whole.tar"])
    version = index.entry("a", ["s3://b/version.tar"])
    index.label("a", version, "c")
    assert commands.json("resolve", "a@b")["cid"] == whole
    assert commands.json("resolve", "a@c")["cid"] == version
    assert commands.json("resolve", "@local/a@c")["cid"] == version
    commands.refused("resolve", "@local/a@b")


# ---------------------------------------------------------------- how they end


def test_wrong_usage_is_2(disk_world):
    commands = Commands(disk_world)
    wrong = {
        "ls": (["a", "b"], ["--nope"], ["-i"]),
        "show": ([], ["a", "b"]),
        "schema list": (["a"],),
        "schema show": ([], ["a", "b"]),
        "schema python": ([], ["--json", "a"]),
        "schema publish": ([], ["a", "b"], ["--name"]),
        "schema infer": ([], ["--class"], ["-i", "sqlite:/x", "a.tar"]),
        "label": ([], ["a"], ["a", "b@1", "c"]),
        "resolve": ([], ["a", "b"]),
        "status": (["a", "b"],),
    }
    for command, lines in wrong.items():
        for words in lines:
            said = commands.refused(command, *words, code=2)
            assert f"see atdatafs {command} --help" in said, said
    for words in (["schema"], ["schema", "nope"]):
        done = run(ATDATAFS, *words, check=False, env=commands.env)
        assert done.returncode == 2 and "schema takes list" in done.stderr
    refused = run(ATDATAFS, "ls", "-i", "index.db", check=False, env=commands.env)
    assert refused.returncode == 2 and "sqlite:PATH" in refused.stderr


def test_help_of_each(disk_world):
    commands = Commands(disk_world)
    whole = run(ATDATAFS, "--help", env=commands.env).stdout
    for command in COMMANDS:
        for word in ("--help", "-h"):
            text = run(ATDATAFS, *command.split(), word, env=commands.env).stdout
            assert text.startswith(f"usage: atdatafs {command} "), text
            assert "\nexamples:\n  atdatafs " in text and "exit codes: 0 " in text
            assert max(map(len, text.splitlines())) <= 100
        assert f"\n  {command.split()[0]} " in whole
    text = run(ATDATAFS, "schema", "--help", env=commands.env).stdout
    assert "  infer " in text and "examples:" in text


def test_without_a_server_they_fail_soon(disk_world, tmp_path):
    commands = Commands(disk_world)
    record = tmp_path / "x.json"
    record.write_text(json.dumps(SCHEMA))
    with socket.create_server(("127.0.0.1", 0)) as silent:  # answers nothing
        for index in (
            "redis://127.0.0.1:1/0",
            f"redis://127.0.0.1:{silent.getsockname()[1]}/0",
            f"sqlite:{tmp_path}/nothing.db",
        ):
            for command, words in COMMANDS.items():
                if command == "schema infer":
                    continue
                if index.endswith(f":{silent.getsockname()[1]}/0") and command not in ("ls", "label"):
                    continue  # each takes ten seconds
                if command == "schema publish":
                    if index.startswith("sqlite:"):  # which it makes, as publish does
                        continue
                    words = [record]
                began = time.monotonic()
                said = commands.refused(command, *words, index=index)
                assert "index" in said, said
                assert time.monotonic() - began < 15 * SLACK
    assert not (tmp_path / "nothing.db").exists()


def looking(commands):
    """Commands that print something in a filled world."""
    return {
        "ls": [],
        "show": ["mnist"],
        "schema list": [],
        "schema show": ["Mnist"],
        "schema python": ["Mnist"],
        "resolve": ["mnist"],
        "status": [],
    }


def test_a_full_disk_is_a_failure(world, commands):
    commands("publish", world.shard("a.tar"), "mnist")
    for command, words in looking(commands).items():
        with open("/dev/full", "w") as full:
            process = commands.start(command, *words, stdout=full)
            _, err = process.communicate(timeout=60)
        assert process.returncode == 1, command
        assert b"No space left on device" in err, (command, err)


def test_a_reader_that_leaves_is_no_trouble(team_world):
    commands = Commands(team_world)
    with team_world.remote.index.client.pipeline() as pipe:
        for i in range(3000):
            cid = f"bafy{i:055d}"
            fields = {"cid": cid, "name": f"dataset-{i:04d}", "schema_ref": "local://schemas/A@1.0.0"}
            pipe.hset(f"LocalDatasetEntry:{cid}", mapping=fields | {"data_urls": b"\x91\xa6s3:a/b"})
        pipe.execute()
    process = commands.start("ls")
    first = process.stdout.readline()
    process.stdout.close()
    err = process.stderr.read()
    process.stderr.close()
    assert process.wait(60) == -13 and err == b"" and first.startswith(b"NAME"), (first, err)


def on_terminal(words, env):
    """What a command prints on a terminal."""
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        words, stdin=subprocess.DEVNULL, stdout=follower, stderr=subprocess.PIPE, env=env
    )
    os.close(follower)
    shown = b""
    while True:
        try:
            piece = os.read(leader, 65536)
        except OSError:  # nobody has the other side any more
            break
        if not piece:
            break
        shown += piece
    os.close(leader)
    assert process.wait(60) == 0, process.stderr.read()
    process.stderr.close()
    return shown.decode()


def test_colours_are_for_terminals(disk_world):
    commands = Commands(disk_world)
    commands("publish", disk_world.shard("a.tar"), "mnist")
    xterm = commands.env | {"TERM": "xterm"}
    for command, words in {"ls": [], "show": ["mnist"], "status": []}.items():
        line = commands.words(command, *words)
        assert "\033[" in on_terminal(line, xterm), command
        for plain in (xterm | {"NO_COLOR": "1"}, xterm | {"TERM": "dumb"}, commands.env):
            assert "\033" not in on_terminal(line, plain), command
        assert "\033" not in commands(command, *words, env=xterm).stdout
    line = commands.words("ls", "--json")
    json.loads(on_terminal(line, xterm))


def test_looking_changes_nothing(disk_world):
    """Neither in the index nor beside it."""
    commands = Commands(disk_world)
    commands("publish", disk_world.shard("a.tar"), "mnist")
    wait_until(lambda: not disk_world.uploads(), 5, "all is settled")
    shutil.rmtree(disk_world.state)
    directory = disk_world.path.parent

    def seen():
        return sorted(
            (str(path), path.stat().st_mtime_ns) for path in directory.rglob("*") if path.is_file()
        )

    before = seen()
    for command, words in looking(commands).items():
        commands(command, *words)
        assert seen() == before, command
    assert not disk_world.state.exists()

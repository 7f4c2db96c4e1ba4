"""`atdatafs publish FILE... NAME`, in both worlds: what it publishes, what it says, how it ends."""

import errno
import fcntl
import json
import os
import pty
import re
import select
import shutil
import signal
import sqlite3
import struct
import subprocess
import termios
import time

import pytest

from bounded import ls, run, wait_until
from crash import COMMITTING, ORPHAN_SECONDS, age_sightings, jobs, run_dirs
from mounting import ATDATAFS, environment, make_state, sanitizer_reports
from proxy_rules import WRITING

SECONDS = 60
LEAVES_SECONDS = 15  # after a signal, sanitizer included


class Command:
    """The command of one world; `words(...)` is its command line."""

    def __init__(self, world):
        self.world = world
        self.state = make_state(world.directory / "command")
        home = world.directory / "command-home"
        home.mkdir()
        self.env = environment(home, self.state)

    def words(self, *arguments, options=""):
        more = self.world.command_options + (f",{options}" if options else "")
        return [ATDATAFS, "publish", "-i", self.world.index_url, "-o", more, *map(str, arguments)]

    def __call__(self, *arguments, code=0, options="", **how):
        done = run(
            *self.words(*arguments, options=options),
            check=False,
            timeout=SECONDS,
            env=self.env,
            **how,
        )
        assert not sanitizer_reports(self.state), sanitizer_reports(self.state)
        assert done.returncode == code, (done.returncode, done.stdout, done.stderr)
        return done

    def json(self, *arguments, **how):
        return json.loads(self("--json", *arguments, **how).stdout)

    def start(self, *arguments, **how):
        return subprocess.Popen(
            self.words(*arguments),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=self.env,
            **how,
        )


@pytest.fixture
def publish(world):
    return Command(world)


@pytest.fixture
def team_publish(team_world):
    return Command(team_world)


def parts_sent(world, name):
    """The requests that bring a file's bytes: not those that find out what the store can do."""
    return [
        request
        for request in world.remote.proxy.requests()
        if request.kind in ("PUT", "PART") and request.key.endswith(f"/{name}")
    ]


def test_files_are_published_and_named(world, publish):
    paths = [world.shard("a.tar"), world.shard("b.tar", seed=1)]
    done = publish(*paths, "mnist")
    assert sorted(done.stdout.splitlines()[:-1]) == [
        f"published {path.name} ({path.stat().st_size / 1024:.1f} KiB)" for path in paths
    ]
    assert re.fullmatch(r"2 published \(.*\)", done.stdout.splitlines()[-1])
    assert done.stderr == ""
    world.assert_published("mnist", *paths, samples=20)
    world.assert_clean()


def test_again_it_uploads_nothing(team_world, team_publish):
    paths = [team_world.shard(f"{i}.tar", seed=i) for i in range(6)]
    paths.append(team_world.shard("large.tar", count=100, bytes_each=200_000))
    team_publish(*paths, "mnist")
    entry = team_world.assert_published("mnist", *paths)
    objects = team_world.objects()
    team_world.remote.proxy.forget()
    done = team_publish(*paths, "mnist")
    assert done.stdout.splitlines()[-1] == "7 were there"
    assert set(WRITING).isdisjoint(team_world.remote.proxy.counts())
    assert team_world.objects() == objects
    assert team_world.entry("mnist")["cid"] == entry["cid"]
    # The rest of a list of which some are there.
    more = team_world.shard("more.tar", seed=9)
    answer = team_publish.json(*paths, more, "mnist")
    assert (answer["published"], answer["was_there"], answer["failed"]) == (1, 7, 0)
    assert len(parts_sent(team_world, "more.tar")) == 1
    assert not any(parts_sent(team_world, path.name) for path in paths)


def test_a_mount_shows_what_the_command_published(world, publish):
    path = world.shard("a.tar")
    mount = world.mount()
    publish(path, "mnist")
    shown = mount / "datasets" / "mnist" / "a.tar"
    wait_until(shown.exists, 5, "it shows")
    done = run("cmp", path, shown, check=False)
    assert done.returncode == 0, done


def test_each_failure_is_named_and_the_rest_is_published(world, publish):
    good = world.shard("good.tar")
    cut = world.sources / "cut.tar"
    cut.write_bytes(good.read_bytes()[:5000])
    notes = world.sources / "notes.txt"
    notes.write_text("no shard")
    odd = os.fsdecode(os.fsencode(world.sources) + b"/o\xffd\n.tar")
    shutil.copy(good, odd)
    fifo = world.sources / "fifo.tar"
    os.mkfifo(fifo)
    missing = world.sources / "missing.tar"
    wrong = {
        cut: "ends inside",
        notes: "notes.txt",
        odd: "UTF-8",
        fifo: "no regular file",
        missing: os.strerror(errno.ENOENT),
        world.sources: "directory",
        "-": "standard input",
    }
    done = publish(*wrong, good, "mnist", code=1)
    assert len(done.stderr.splitlines()) == len(wrong), done.stderr
    for path, reason in wrong.items():
        name = os.fsencode(path).decode(errors="replace").replace("\ufffd", "?").replace("\n", "?")
        assert any(
            line.startswith(f"atdatafs: {name}: ") and reason in line
            for line in done.stderr.splitlines()
        ), (name, done.stderr)
    assert done.stdout.splitlines()[-1].endswith(f"{len(wrong)} failed")
    world.assert_published("mnist", good)
    world.assert_clean()


def test_other_bytes_under_a_published_name_are_refused(world, publish):
    first = world.shard("a.tar")
    publish(first, "mnist")
    answer = publish.json(world.shard("a.tar", seed=1), "mnist", code=1)
    (file,) = answer["files"]
    assert file["outcome"] == "failed" and file["errno"] == "EEXIST", file
    world.assert_published("mnist", first)
    world.assert_clean()


def test_json(world, publish):
    good, bad = world.shard("a.tar"), world.sources / "bad.tar"
    bad.write_bytes(b"text\n" * 1000)
    answer = publish.json(good, bad, "mnist", code=1)
    entry = world.entry("mnist")
    published, failed = answer["files"]
    assert published == {
        "path": str(good),
        "file": "a.tar",
        "outcome": "published",
        "size_bytes": good.stat().st_size,
        "url": entry["data_urls"][0],
        "cid": entry["cid"],
    }
    assert (failed["outcome"], failed["errno"]) == ("failed", "EINVAL") and failed["reason"]
    counts = {key: answer[key] for key in ("published", "was_there", "failed", "not_begun")}
    assert counts == {"published": 1, "was_there": 0, "failed": 1, "not_begun": 0}
    assert answer["dataset"] == "mnist"


def test_a_wrong_command_line_is_2_and_nothing_happens(world, publish):
    path = world.shard("a.tar")
    other = world.shard("a.tar", seed=1)
    for words in ([path], [path, path], ["-x", path, "n"], [path, "n*"], [path, other, "n"]):
        assert publish(*words, code=2).stderr.startswith("atdatafs: "), words
    assert "ro" in publish(path, "n", options="ro", code=2).stderr
    assert world.entries() == []
    assert publish("--help").stdout.startswith("usage: atdatafs publish")


def test_without_an_index_or_a_store_it_says_so(team_world, team_publish):
    path = team_world.shard("a.tar")

    def refused(*words):
        done = run(
            ATDATAFS, "publish", *words, path, "n", check=False, env=team_publish.env, timeout=SECONDS
        )
        assert done.returncode == 1 and len(done.stderr.splitlines()) == 1, done
        return done.stderr

    state = f"state_dir={team_world.state}"
    assert "refused" in refused("-i", "redis://127.0.0.1:1/0", "-o", f"store=s3://b/p,{state}")
    assert "store=s3://" in refused("-i", team_world.index_url, "-o", state)
    assert team_world.entries() == []


def test_an_index_that_may_not_be_written(disk_world):
    publish = Command(disk_world)
    directory = disk_world.path.parent
    first = disk_world.shard("a.tar")
    publish(first, "mnist")
    if os.geteuid() == 0:  # who may write whatever its mode is
        run("mount", "--bind", directory, directory)
        run("mount", "-o", "remount,bind,ro", directory)
    else:
        directory.chmod(0o500)
        disk_world.path.chmod(0o400)
    try:
        done = publish(disk_world.shard("b.tar"), "mnist", code=1)
        assert str(directory) in done.stderr or "b.tar: " in done.stderr, done.stderr
    finally:
        if os.geteuid() == 0:
            run("umount", directory)
        else:
            directory.chmod(0o700)
            disk_world.path.chmod(0o600)
    disk_world.assert_published("mnist", first)
    disk_world.assert_clean()


def test_a_file_that_changes_meanwhile_is_not_published(team_world, team_publish):
    path = team_world.shard("a.tar", count=200, bytes_each=100_000)
    team_world.remote.proxy.shape(up_bytes_per_s=10 << 20)
    process = team_publish.start(path, "mnist")
    wait_until(lambda: parts_sent(team_world, "a.tar"), 20, "something is sent")
    with open(path, "r+b") as file:
        file.seek(600)
        file.write(b"x")
    out, err = process.communicate(timeout=SECONDS)
    assert process.returncode == 1 and "changed" in err, (out, err)
    assert team_world.entries() == []
    team_world.assert_clean()


def test_several_at_once(team_world, team_publish):
    paths = [team_world.shard(f"{i}.tar", seed=i) for i in range(8)]
    team_publish(team_world.shard("first.tar", seed=90), "mnist")  # what is asked once
    seconds = {}
    team_world.remote.proxy.rule("delay", kinds=("PUT",), seconds=0.5)
    for jobs in (1, 8):
        began = time.monotonic()
        team_publish("-j", jobs, *paths, f"set{jobs}")
        seconds[jobs] = time.monotonic() - began
    assert seconds[1] > 8 * 0.5 and seconds[8] < seconds[1] - 4 * 0.5, seconds
    for jobs in (1, 8):
        team_world.assert_published(f"set{jobs}", *paths)


def test_many_files(disk_world):
    paths = []
    source = disk_world.shard("0.tar", count=1, bytes_each=10)
    for i in range(150):
        paths.append(disk_world.sources / f"train-{i:06d}.tar")
        shutil.copy(source, paths[-1])
    answer = Command(disk_world).json("-j", 16, *paths, "mnist")
    assert answer["published"] == 150
    urls = disk_world.entry("mnist")["data_urls"]
    assert [url.rsplit("/", 1)[1] for url in urls] == [path.name for path in paths]


# -------- interrupted


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("stalled", [False, True])
def test_interrupted_it_takes_back_what_is_under_way(team_world, team_publish, number, stalled):
    first = team_world.shard("a.tar")
    large = team_world.shard("b.tar", count=100, bytes_each=400_000)
    last = team_world.shard("c.tar", seed=3)
    team_publish(first, "mnist")
    team_world.remote.proxy.forget()
    if stalled:
        team_world.remote.proxy.rule("stall", kinds=("PUT", "PART"), key=r"b\.tar")
    else:
        team_world.remote.proxy.shape(up_bytes_per_s=4 << 20)
    process = team_publish.start("-j", 1, "--json", large, last, "mnist")
    wait_until(lambda: parts_sent(team_world, "b.tar"), 20, "something is sent")
    process.send_signal(number)
    began = time.monotonic()
    out, err = process.communicate(timeout=SECONDS)
    assert time.monotonic() - began < LEAVES_SECONDS
    assert process.returncode == 128 + number, (process.returncode, err)
    assert "interrupted" in err
    assert [file["outcome"] for file in json.loads(out)["files"]] == ["failed", "not_begun"]
    team_world.remote.proxy.behave()
    team_world.remote.proxy.release()
    team_world.remote.proxy.shape()
    team_world.assert_published("mnist", first)
    if not stalled:
        team_world.assert_clean()
    answer = team_publish.json(large, last, "mnist")
    assert answer["published"] == 2
    team_world.assert_published("mnist", first, large, last)
    team_world.assert_clean()


def test_killed_in_the_middle_and_run_again(team_world, team_publish):
    paths = [team_world.shard(f"{i}.tar", count=60, bytes_each=200_000, seed=i) for i in range(4)]
    team_world.remote.proxy.shape(up_bytes_per_s=24 << 20)
    process = team_publish.start("-j", 2, *paths, "mnist")
    wait_until(lambda: team_world.entry("mnist"), 30, "the first is published")
    process.kill()
    process.communicate(timeout=SECONDS)
    team_world.remote.proxy.shape()
    acknowledged = team_world.entry("mnist")["data_urls"]
    assert len(acknowledged) < 4
    answer = team_publish.json(*paths, "mnist")
    assert answer["failed"] == 0 and answer["was_there"] >= len(acknowledged)
    team_world.assert_published("mnist", *paths)
    assert set(acknowledged) <= set(team_world.entry("mnist")["data_urls"])
    wait_until(lambda: not team_world.uploads() + team_world.spools(), 20, "nothing is under way")
    # An object whose commit was under way is looked at again after a minute, by whoever runs then.
    entry = team_world.entry("mnist")
    jobs = b"".join(path.read_bytes() for path in team_world.state.rglob("*") if path.is_file())
    for url in team_world.objects() - set(entry["data_urls"]):
        assert url.encode() in jobs, f"{url} is forgotten"


def test_what_a_killed_commit_left_goes_with_a_later_run(disk_world):
    """Each run is too short to look twice, a minute apart: the first look is written down."""
    publish = Command(disk_world)
    first = disk_world.shard("a.tar")
    publish(first, "mnist")
    named = disk_world.objects()

    def left():
        return jobs(run_dirs(disk_world.state))

    index = sqlite3.connect(disk_world.path, isolation_level=None)
    index.execute("BEGIN IMMEDIATE")
    try:
        process = publish.start(disk_world.shard("b.tar", seed=1), "mnist")
        wait_until(lambda: any(job.state == COMMITTING for job in left()), 20, "it is at its commit")
        process.kill()
        process.communicate(timeout=SECONDS)
    finally:
        index.close()
    orphans = disk_world.objects() - named
    assert len(orphans) == 1 and {job.url for job in left()} == orphans
    for _ in range(2):
        publish(first, "mnist")
        assert disk_world.objects() == named | orphans
        assert [len(job.seen) for job in left()] == [2]
    age_sightings(run_dirs(disk_world.state), ORPHAN_SECONDS + 1)
    publish(first, "mnist")
    assert disk_world.objects() == named
    disk_world.assert_clean()
    assert not run_dirs(disk_world.state)


def test_a_reader_that_leaves_stops_nothing(world, publish):
    paths = [world.shard(f"{i}.tar", seed=i) for i in range(5)]
    read_end, write_end = os.pipe()
    os.close(read_end)
    process = subprocess.Popen(
        publish.words(*paths, "mnist"),
        stdin=subprocess.DEVNULL,
        stdout=write_end,
        stderr=subprocess.PIPE,
        text=True,
        env=publish.env,
    )
    os.close(write_end)
    _, err = process.communicate(timeout=SECONDS)
    assert process.returncode == 1 and "standard output" in err, (process.returncode, err)
    world.assert_published("mnist", *paths)


# -------- on a terminal


def on_terminal(publish, *arguments, columns=80, env=None, code=0):
    """Everything that came to the terminal that all three streams are."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    process = subprocess.Popen(
        publish.words(*arguments),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
        env=publish.env | {"TERM": "xterm"} | (env or {}),
    )
    os.close(theirs)
    shown = b""
    deadline = time.monotonic() + SECONDS
    try:
        while time.monotonic() < deadline:
            if not select.select([ours], [], [], 1)[0]:
                continue
            try:
                more = os.read(ours, 65536)
            except OSError:  # EIO: nobody has the other end
                break
            if not more:
                break
            shown += more
        assert process.wait(SECONDS) == code, shown
    finally:
        os.close(ours)
        if process.poll() is None:
            process.kill()
            process.wait()
    return shown.decode()


def drawn(shown):
    """The progress lines, each as it stood on the screen."""
    return re.findall(r"\r([^\r\n\x1b]+)\x1b\[K", shown)


def test_a_terminal_sees_progress(team_world, team_publish):
    name = "a-very-long-name-" * 12 + ".tar"
    path = team_world.shard(name, count=200, bytes_each=400_000)  # several parts
    for columns in (200, 80, 40, 12):
        team_world.remote.proxy.shape(up_bytes_per_s=40 << 20)
        shown = on_terminal(team_publish, path, f"set{columns}", columns=columns)
        team_world.remote.proxy.shape()
        lines = drawn(shown)
        assert len(lines) > 5, shown
        assert all(len(line) < columns for line in lines), lines
        assert re.match(r"(\[ +\] )? +0%", lines[0])
        percents = [int(re.search(r"(\d+)%", line)[1]) for line in lines]
        assert percents == sorted(percents) and percents[-1] >= 40
        if columns == 200:
            assert any(re.search(r"MiB/s  0:\d\d left  0 of 1 files$", line) for line in lines), lines
        # It is gone when something else is said, and at the end.
        assert shown.endswith(f"\r\x1b[Kpublished {name} (76.5 MiB)\r\n"), shown[-400:]


def test_what_was_unlinked_just_now_stays_when_it_is_published_again(world, publish):
    """Within the grace of an unlink in a mount: "was there" is a promise."""
    mount = world.mount(**world.flags("allow_delete"))
    directory = mount / "datasets" / "d"
    a, b = world.shard("a.tar"), world.shard("b.tar", seed=1)
    publish(a, b, "d")
    wait_until(lambda: directory.exists() and "b.tar" in ls(directory), SECONDS, "it shows")
    run("rm", directory / "a.tar", directory / "b.tar")

    def records():
        entry = world.entry("d")  # not one moment's: it may be between two names
        return entry["metadata"]["atdatafs"]["shards"].values() if entry else ()

    wait_until(
        lambda: [bool(record.get("leaving")) for record in records()] == [True, True],
        SECONDS,
        "the marks",
    )
    assert "was there a.tar" in publish(a, "d").stdout
    wait_until(lambda: len(records()) == 1, SECONDS, "b.tar is out of the index")
    wait_until(lambda: "a.tar" in ls(directory), SECONDS, "a.tar shows again")
    mount.unmount()
    world.assert_published("d", a)
    assert not any("leaving" in record for record in records())


def test_the_first_line_does_not_wait_for_anything(team_world, team_publish):
    path = team_world.shard("a.tar")
    shown = on_terminal(
        team_publish, "-i", "redis://127.0.0.1:1/0", path, "mnist", columns=80, code=1
    )
    assert drawn(shown) and "refused" in shown.rsplit("\x1b[K", 1)[1], shown


@pytest.mark.parametrize(
    "more, words", [({}, ["-q"]), ({"TERM": "dumb"}, []), ({"TERM": ""}, [])]
)
def test_no_progress_where_nobody_wants_it(disk_world, more, words):
    shown = on_terminal(
        Command(disk_world), *words, disk_world.shard("a.tar"), "mnist", env=more
    )
    assert "\x1b" not in shown and "%" not in shown, shown


def test_progress_has_no_colours(disk_world):
    shown = on_terminal(Command(disk_world), disk_world.shard("a.tar"), "mnist")
    assert set(re.findall(r"\x1b\[[0-9;]*[A-Za-z]", shown)) <= {"\x1b[K"}, shown

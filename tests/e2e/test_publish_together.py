"""Many who publish into the same datasets at once, and the real library that writes and lists
meanwhile: nothing is lost, nothing is there twice, and nobody who looks is in anybody's way.
"""

import os
import subprocess
import threading
import time

import pytest

import conftest
from bounded import SLACK, bounded, ls, run, sha256, wait_until
from proxy import Proxy
from servers import Minio, RedisServer
from world import DiskWorld, TeamWorld

DATASETS = [f"together{i}" for i in range(5)]
PROCESSES = 20
SHARDS = 200
SUPERSEDED_SECONDS = 60  # core/publish/editor.h

ONE_ENTRY_EACH = """
local counts = {}
for _, key in ipairs(redis.call('KEYS', 'LocalDatasetEntry:*')) do
    local name = redis.call('HGET', key, 'name')
    counts[name] = (counts[name] or 0) + 1
end
local out = {}
for name, count in pairs(counts) do out[#out + 1] = name .. '=' .. count end
return out
"""


class Watch:
    """Asks the index at once for how many entries have each name, again and again."""

    def __init__(self, world):
        self.world = world
        self.seen = set()
        self.problems = []
        self.looks = 0
        self.over = threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)

    def _counts(self):
        if self.world.kind == "team":
            rows = self.world.client.eval(ONE_ENTRY_EACH, 0)
            pairs = (row.decode().rpartition("=") for row in rows)
            return {name: int(count) for name, _, count in pairs}
        query = "SELECT name, count(*) FROM dataset_entries GROUP BY name"
        return dict(self.world._rows(query))

    def _run(self):
        while not self.over.is_set():
            counts = self._counts()
            self.looks += 1
            for name in DATASETS:
                if counts.get(name, 0) != 1 and (name in counts or name in self.seen):
                    self.problems.append((name, counts.get(name, 0)))
                if name in counts:
                    self.seen.add(name)
            time.sleep(0.002)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.thread.join(30)


def two_mounts(world):
    """Each with a state directory and a place of its own."""
    mounts = []
    for i in (1, 2):
        state = world.directory / f"state-{i}"
        options = f"state_dir={state}" if world.kind == "disk" else {"state_dir": state}
        if world.kind == "team":
            options["cache_dir"] = world.directory / f"cache-{i}"
            mounts.append(world.remote.mount(world.directory / f"mount-{i}", **options))
        else:
            mounts.append(
                world.stack.mount(
                    world.directory / f"mount-{i}", home=world.home, options=options
                )
            )
    return mounts


def directory_of(mount, dataset):
    path = mount / "datasets" / dataset
    try:
        bounded(path.mkdir)
    except FileExistsError:
        pass
    return path


def library_of(world, name="peer"):
    """The real library on the same servers."""
    if world.kind == "disk":
        return world.stack.peer(world.home)
    home = world.directory / name
    home.mkdir()
    peer = world.remote.stack.peer(home)
    env = {
        "AWS_ENDPOINT": world.minio.url,
        "AWS_ACCESS_KEY_ID": world.minio.USER,
        "AWS_SECRET_ACCESS_KEY": world.minio.PASSWORD,
    }
    peer.use_servers(world.remote.redis_server.port, env, world.bucket)
    return peer


def copies(mounts, shards):
    """One process a part of the shards: they copy at once, each into its mount."""
    started = []
    for number in range(PROCESSES):
        lines = []
        for i, (dataset, path) in enumerate(shards):
            if i % PROCESSES == number:
                target = mounts[number % 2] / "datasets" / dataset / path.name
                lines.append(f'cp "{path}" "{target}"')
        script = "set -e\n" + "\n".join(lines)
        started.append(
            subprocess.Popen(
                ["bash", "-c", script], stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True
            )
        )
    return started


def wait_all(started, seconds=60 * SLACK):
    for process in started:
        _, errors = process.communicate(timeout=seconds)
        assert process.returncode == 0, errors


@pytest.fixture(params=["disk", "team"])
def together(request, tmp_path_factory):
    with conftest.watched(tmp_path_factory.mktemp(request.param), 250) as stack:
        if request.param == "disk":
            (stack.directory / "home").mkdir()
            yield DiskWorld(stack, stack.directory / "home")
        else:
            servers = [request.getfixturevalue(name) for name in ("redis_server", "minio", "proxy")]
            yield TeamWorld(stack, *servers)


def check_lister(world, lister):
    """It never raised; over Redis, when it asked again.

    There the library's own look is not one moment: SCAN, then an HGETALL a key. A commit in between
    makes get_entry_by_name miss both the old entry (read when it has another name already) and the
    new one (not yet there at the SCAN), and a deletion makes the HGETALL of that key fail, however
    late it comes. get_dataset and load_dataset go by the label and see nothing of that.
    """
    rounds, again, problems = lister.end(30 * SLACK)
    assert rounds > 20
    assert not problems, (rounds, len(problems), problems[:20])
    assert again <= (rounds if world.kind == "team" else 0), (rounds, again)


def test_twenty_publish_at_once(together):
    world = together
    shards = []
    for i in range(SHARDS):
        dataset = DATASETS[i % len(DATASETS)]
        shards.append((dataset, world.shard(f"{dataset}-{i:06d}.tar", count=3, bytes_each=3000)))
    mounts = two_mounts(world)
    for dataset in DATASETS:
        for mount in mounts:
            directory_of(mount, dataset)
    writer = library_of(world, "writer")
    writer.open_index()
    lister = library_of(world, "lister")
    stop = world.directory / "stop"
    lister.begin("list_until", str(stop), DATASETS)
    written = []
    with Watch(world) as watch:
        started = copies(mounts, shards)
        number = 0
        while any(process.poll() is None for process in started) or number < 5:
            entry = writer.write(f"python{number}", count=2)
            writer.publish_schema("Scalars", version=f"2.0.{number}")
            writer.label(f"python{number}", entry["cid"], version="1.0.0")
            written.append(entry)
            number += 1
        wait_all(started)
        for dataset in DATASETS:
            paths = [path for name, path in shards if name == dataset]
            entry = world.assert_published(dataset, *paths)
            assert entry["data_urls"] == sorted(entry["data_urls"])
            assert len(entry["data_urls"]) == SHARDS // len(DATASETS)
        for entry in written:
            assert world.entry(entry["name"])["data_urls"] == entry["data_urls"]
            assert world.label(entry["name"], "1.0.0")["cid"] == entry["cid"]
        for mount in mounts:
            for dataset, path in shards[:5]:
                wait_until(lambda m=mount, d=dataset, p=path: p.name in ls(m / "datasets" / d),
                           10 * SLACK, "both mounts show it")
                assert sha256(mount / "datasets" / dataset / path.name) == sha256(path)
        if world.kind == "team":  # the lister is there when what was superseded goes
            wait_until(
                lambda: not [e for e in world.entries() if "@superseded:" in e["name"]],
                SUPERSEDED_SECONDS + 60 * SLACK,
                "superseded entries are gone",
            )
    stop.touch()
    check_lister(world, lister)
    assert watch.looks > 50
    assert not watch.problems, watch.problems[:10]
    names = {e["name"] for e in world.entries() if "@superseded:" not in e["name"]}
    assert names == set(DATASETS) | {entry["name"] for entry in written}


def test_first_shards_of_a_new_dataset(together):
    """Two mounts, one each, at the same moment: one dataset, one schema."""
    mounts = two_mounts(together)
    for i in range(5):
        name = f"new{i}"
        paths = [together.shard(f"{letter}{i}.tar") for letter in "ab"]
        targets = [directory_of(mount, name) for mount in mounts]
        wait_all(
            [
                subprocess.Popen(["cp", path, target], stderr=subprocess.PIPE, text=True)
                for path, target in zip(paths, targets, strict=True)
            ]
        )
        entry = together.assert_published(name, *paths)
        assert entry["schema_ref"].endswith("@1.0.0")
    together.assert_clean()


def at_once(sources, mounts, dataset, name):
    """The same name from both mounts: (exit code, errors) of each."""
    targets = [directory_of(mount, dataset) / name for mount in mounts]
    started = [
        subprocess.Popen(["cp", source, target], stderr=subprocess.PIPE, text=True)
        for source, target in zip(sources, targets, strict=True)
    ]
    results = []
    for process in started:
        _, errors = process.communicate(timeout=60 * SLACK)
        results.append((process.returncode, errors))
    return results


def test_same_name_from_two_mounts(together):
    """Other bytes: one wins and the other is told. The same bytes: both do, with one object."""
    mounts = two_mounts(together)
    for i in range(4):
        ours, theirs = (together.shard("x.tar", seed=seed) for seed in (10 + i, 20 + i))
        results = at_once([ours, theirs], mounts, f"other{i}", "x.tar")
        codes = [code for code, _ in results]
        assert sorted(codes) == [0, 1], results
        lost = results[codes.index(1)][1]
        assert "Operation not permitted" in lost, lost
        winner = [ours, theirs][codes.index(0)]
        together.assert_published(f"other{i}", winner)
    for i in range(4):
        path = together.shard("y.tar", seed=30 + i)
        results = at_once([path, path], mounts, f"same{i}", "y.tar")
        codes = [code for code, _ in results]
        if codes != [0, 0]:  # the other one was there before this one was opened
            assert "Operation not permitted" in "".join(errors for _, errors in results)
            assert 0 in codes
        together.assert_published(f"same{i}", path)
        mine = [url for url in together.objects() if f"/same{i}/" in url]
        assert len(mine) == 1 or wait_until(
            lambda n=i: sum(f"/same{n}/" in url for url in together.objects()) == 1, 20, "one"
        )
    together.assert_clean()


def test_order_makes_no_difference(tmp_path_factory, redis_server, minio, proxy):
    """The same files in another order, into another index and bucket of the same names."""
    cids = []
    names = [f"part-{i:06d}.tar" for i in (3, 0, 4, 1, 2)]
    program = os.environ["ATD_MINIO"]
    bucket = None
    for turn, order in enumerate((names, list(reversed(names)), sorted(names))):
        directory = tmp_path_factory.mktemp(f"order{turn}")
        with (
            RedisServer(directory / "redis") as redis,
            Minio(directory / "minio", program) as store,
            Proxy(store.port) as door,
            conftest.watched(directory, 100) as stack,
        ):
            world = TeamWorld(stack, redis, store, door)
            bucket = bucket or world.bucket
            if world.bucket != bucket:
                store.make_bucket(bucket)
                world.bucket = world.remote.bucket = bucket
            mount = world.mount()
            target = directory_of(mount, "ordered")
            for name in order:
                run("cp", world.shard(name), target)
            entry = world.entry("ordered")
            assert entry["data_urls"] == sorted(entry["data_urls"])
            cids.append(entry["cid"])
    assert len(set(cids)) == 1

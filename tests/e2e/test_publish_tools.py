"""Every tool that people copy files with publishes a shard, in its own way of writing.

All of them share one mount; each has a dataset of its own.
"""

import os
import re

import pytest

import publish_tools
from bounded import bounded
from publish_bench import MTIME_NS, USUAL
from publish_tools import COPIES, RCLONE, WRITERS, python

LARGE = (11, 4 << 20)  # samples, bytes of each: enough for several parts of an upload


def recorded_mtime(entry, name):
    shards = entry["metadata"]["atdatafs"]["shards"]
    return next(shards[url]["mtime_ns"] for url in shards if url.endswith(f"/{name}"))


def copy_one(bench, tool, **size):
    directory = bench.dataset()
    source, original = bench.source(**size)
    target = directory / source.name
    bench.env.run(tool.script, source=source, target=target)
    assert source.exists() != tool.moves
    samples = size.get("count", USUAL[0])
    entry = bench.check(directory, original, samples=samples, sent_once=not tool.stages)
    if tool.keeps:
        cut = MTIME_NS // tool.keeps * tool.keeps
        assert os.stat(target).st_mtime_ns == recorded_mtime(entry, target.name) == cut


@pytest.mark.parametrize("tool", COPIES, ids=lambda tool: tool.name)
def test_copy(bench, tool):
    copy_one(bench, tool)


@pytest.mark.parametrize("name", ["cp", "mv", "rsync -a", "rsync --inplace", "rclone copyto"])
def test_copy_of_a_large_one(bench, name):
    tool = next(tool for tool in COPIES if tool.name == name)
    copy_one(bench, tool, count=LARGE[0], bytes_each=LARGE[1])


@pytest.mark.parametrize("tool", WRITERS, ids=lambda tool: tool.name)
def test_write(bench, tool):
    """Programs that make the shard in the mount; what they make elsewhere is the same."""
    directory = bench.dataset()
    tree = bench.tree()
    original = bench.originals / "made.tar"
    bench.env.run(tool.script, target=original, tree=tree)
    bench.env.run(tool.script, target=directory / "made.tar", tree=tree)
    bench.check(directory, original, samples=5, sent_once=not tool.stages)


def test_compressed(bench):
    directory = bench.dataset()
    tree = bench.tree()
    scripts = {
        "a.tar.gz": 'cd "$TREE" && tar cf - * | gzip -n >"$DST"',
        "b.tgz": 'cd "$TREE" && tar cf "$DST" -I "gzip -n" *',
        "c.tar.xz": 'cd "$TREE" && tar cJf "$DST" *',
        "d.tar.bz2": 'cd "$TREE" && tar cjf "$DST" *',
    }
    for name, script in scripts.items():
        bench.env.run(script, target=bench.originals / name, tree=tree)
        bench.env.run(script, target=directory / name, tree=tree)
    bench.check(directory, *(bench.originals / name for name in scripts))


# ---------------------------------------------------------------- directories

DIRECTORIES = {
    "cp -r": 'cp -r "$SRC_DIR" "$DIR"',
    "cp -a": 'cp -a "$SRC_DIR/." "$DIR"',
    "mv": 'mv "$SRC_DIR" "$DIR"',
    "rsync -a": 'rsync -a "$SRC_DIR/" "$DIR/"',
    "rsync -a --delay-updates": 'rsync -a --delay-updates "$SRC_DIR/" "$DIR/"',
    "rclone copy": f'{RCLONE} copy "$SRC_DIR" "$DIR"',
    "rclone move": f'{RCLONE} move "$SRC_DIR" "$DIR"',
    "gio copy": 'gio copy "$SRC_DIR"/*.tar "$DIR"',
    "kioclient5 copy": f'{publish_tools.KIO} copy "$SRC_DIR" "$DIR"',
    "copytree": python('shutil.copytree(os.environ["SRC_DIR"], os.environ["DIR"])'),
    "tar xf": 'mkdir "$DIR" && tar cf - -C "$SRC_DIR" . | tar xf - -C "$DIR"',
}


@pytest.mark.parametrize("name", DIRECTORIES)
def test_directory(bench, name):
    """A directory of shards becomes a dataset, whatever the order its files come in."""
    directory = bench.dataset()
    exists = name not in ("cp -r", "mv", "kioclient5 copy", "copytree", "tar xf")
    if not exists:
        bounded(os.rmdir, directory)
    names = [f"part-{i:06d}.tar" for i in range(4)]
    source, originals = bench.source_directory(names, count=4, bytes_each=90_000)
    bench.env.run(DIRECTORIES[name], source=source / names[0], target=directory / "x")
    entry = bench.check(directory, *originals, samples=4)
    assert entry["data_urls"] == sorted(entry["data_urls"])


# ---------------------------------------------------------------- again


def writes_of(bench, script, **what):
    """What a script's end was, and how many WRITE requests it took."""
    before = bench.mount.metrics()["write_requests"]
    ended = bench.env.run(script, check=False, **what)
    return ended, bench.mount.metrics()["write_requests"] - before


def test_again(bench):
    """What is there already is refused before a byte moves, or not even tried."""
    directory = bench.dataset()
    source, original = bench.source()
    what = {"source": source, "target": directory / source.name}
    bench.env.run('cp "$SRC" "$DST"', **what)
    refused = {
        'cp "$SRC" "$DST"': "cannot create regular file '.*': Operation not permitted",
        'cp -n "$SRC" "$DST"': None,
        'cp --remove-destination "$SRC" "$DST"': "cannot remove .*: Operation not permitted",
        'cp -b "$SRC" "$DST"': "Operation not permitted",
        'mv -f "$SRC" "$DST"': "Operation not permitted",
        'install "$SRC" "$DST"': "Operation not permitted",
        'dd if="$SRC" of="$DST"': "Operation not permitted",
        'cat "$SRC" >"$DST"': "Operation not permitted",
        'cat "$SRC" >>"$DST"': "Operation not permitted",
        'tar rf "$DST" "$SRC"': "Bad file descriptor",
        'truncate -s 0 "$DST"': "Operation not permitted",
        'rsync --inplace -I "$SRC" "$DST"': "Operation not permitted",
        'rsync -I "$SRC" "$DST"': "Permission denied",
        'curl -sS -o "$DST" "file://$SRC"': "",
        f'{RCLONE} copyto --ignore-times "$SRC" "$DST"': "not permitted|permission denied",
        'gio copy "$SRC" "$DST"': "Operation not permitted",
        'gio move "$SRC" "$DST"': "Operation not permitted",
        f'{publish_tools.KIO} copy --overwrite "$SRC" "$DST"': "",
        python("shutil.copy(sys.argv[1], sys.argv[2])"): "PermissionError",
    }
    for script, message in refused.items():
        (code, output), writes = writes_of(bench, script, **what)
        assert writes == 0, script
        assert (code != 0) == (message is not None), (script, code, output)
        if message:
            assert re.search(message, output), (script, output)
        assert source.exists()
    bench.check(directory, original, samples=USUAL[0])


@pytest.mark.parametrize("name", ["rsync -a", "rclone"])
def test_synchronised_again(bench, name):
    """Size and time are equal: nothing is sent."""
    scripts = {
        "rsync -a": 'rsync -ai "$SRC" "$DIR/"',
        "rclone": f'{RCLONE} -v copyto "$SRC" "$DST" 2>&1',
    }
    directory = bench.dataset()
    source, original = bench.source()
    what = {"source": source, "target": directory / source.name}
    bench.env.run(scripts[name], **what)
    (code, output), writes = writes_of(bench, scripts[name], **what)
    assert (code, writes) == (0, 0), output
    assert ">f" not in output and "Copied" not in output
    bench.check(directory, original, samples=USUAL[0])

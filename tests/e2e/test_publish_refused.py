"""What is no shard is refused, whoever copies it: the tool fails, the reason is told, nothing is left.

All of them share one mount; each has a dataset of its own.
"""

import io
import json
import os
import re
import signal
import subprocess
import sys
import tarfile

import msgpack
import pytest

from bounded import bounded, ls, read, run, wait_until
from publish_bench import USUAL
from publish_tools import COPIES, python
from servers import content

# How each tool says that its last write was refused with EINVAL: exit code, message (TOOLS 2b).
TOOLS = {
    "cp": (1, "cp: failed to close '.*': Invalid argument"),
    "cp -a": (1, "cp: failed to close '.*': Invalid argument"),
    "cp --sparse=always": (1, "cp: failed to close '.*': Invalid argument"),
    "mv": (1, "mv: failed to close '.*': Invalid argument"),
    "install": (1, "failed to close '.*': Invalid argument"),
    "dd": (1, "dd: closing output file '.*': Invalid argument"),
    "dd conv=fsync": (1, "dd: closing output file '.*': Invalid argument"),
    "cat >": (1, "cat: .*: Invalid argument"),
    "tee": (1, "tee: .*: Invalid argument"),
    "rsync": (11, r"close failed on .*: Invalid argument \(22\)"),
    "rsync -aP": (11, r"close failed on .*: Invalid argument \(22\)"),
    "rsync --inplace": (11, "Invalid argument"),
    "rsync -a --delay-updates": (11, "Invalid argument"),
    "rsync -a --remove-source-files": (11, "Invalid argument"),
    "rclone copyto": (1, "invalid argument"),
    "rclone moveto": (1, "invalid argument"),
    "curl": (23, "."),
    "wget -O": (3, ""),
    "sftp": (1, "close remote: (Failure|Bad message)"),
    "gio copy": (1, "Error closing file: Invalid argument"),
    "gio move": (1, "Error closing file: Invalid argument"),
    "kioclient5 copy": (1, "Could not write to file"),
    "kioclient5 move": (1, "Could not write to file"),
    "shutil.copy": (1, r"OSError: \[Errno 22\] Invalid argument"),
    "shutil.move": (1, r"OSError: \[Errno 22\] Invalid argument"),
    "python, as sponge": (1, r"OSError: \[Errno 22\] Invalid argument"),
}
SCRIPTS = {tool.name: tool.script for tool in COPIES}


# ---------------------------------------------------------------- what is no shard


def truncated(path):
    return path.read_bytes()[: path.stat().st_size * 6 // 10]


def without_end(path):
    """Cut behind the last member: only the blocks of zeros are missing."""
    with tarfile.open(path) as tar:
        last = tar.getmembers()[-1]
    return path.read_bytes()[: last.offset_data + (last.size + 511) // 512 * 512]


def tar_of(members):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, data in members:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return out.getvalue()


def samples(pack):
    return tar_of([(f"{i:08d}.msgpack", pack(i)) for i in range(30)])


def damaged(path):
    data = bytearray(path.read_bytes())
    data[512 * 200 : 512 * 201] = bytes(range(256)) * 2  # within a member's data or a header
    with tarfile.open(path) as tar:
        data[tar.getmembers()[5].offset + 148] ^= 0x55  # a header's checksum
    return bytes(data)


BAD = {
    "truncated": (truncated, "end"),
    "without its end": (without_end, "end"),
    "no tar": (lambda _: content("noise", 700_000), "tar"),
    "text": (lambda _: b"not a tar, but some text\n" * 1000, "tar"),
    "a damaged header": (damaged, "."),
    "undecodable samples": (lambda _: samples(lambda i: b"\xc1garbage" * 20), "sample|msgpack"),
    "samples that are no maps": (lambda _: samples(lambda i: msgpack.packb([i])), "sample|map"),
}
OTHER_FIELDS = samples(lambda i: msgpack.packb({"n": "text", "filler": b"x" * 3000}))


def bad_file(bench, make):
    path, _ = bench.source(name="shard-000001.tar")
    data = make(path)
    path.unlink()
    path.write_bytes(data)
    return path


def check_refused(bench, target, reason, there=()):
    """Nothing of it is anywhere but the reason, and that is told twice."""
    directory = target.parent
    note = directory / f"{target.name}.error.txt"
    names = ls(directory)
    assert note.name in names, names
    assert target.name not in names
    assert [name for name in names if name.endswith(".tar")] == [path.name for path in there]
    text = read(note).decode()
    assert re.search(reason, text) and text.endswith("\n"), text
    lines = read(bench.mount / ".atdatafs" / "events.jsonl").decode().splitlines()
    events = [json.loads(line) for line in lines]
    path = f"datasets/{directory.name}/{target.name}"
    told = [event for event in events if path in event.get("what", "")]
    assert told and told[-1]["reason"] == text.strip(), told
    if there:
        bench.world.assert_published(directory.name, *there)
    else:
        assert bench.world.entry(directory.name) is None
    bench.world.assert_clean()


def refuse(bench, name, make, reason, *, there=()):
    directory = bench.mount / "datasets" / f"{bench.prefix}{bench.datasets:03d}"
    source = bad_file(bench, make)
    target = directory / source.name
    code, message = TOOLS[name]
    data = source.read_bytes()
    ended, output = bench.env.run(SCRIPTS[name], check=False, source=source, target=target)
    assert ended == code and re.search(message, output), (ended, output)
    assert source.read_bytes() == data, "the source is gone"
    check_refused(bench, target, reason, there)
    return source, target


def succeed(bench, name, target, there=()):
    """A good file of the same name, and the reason goes away."""
    source, original = bench.source(name="shard-000001.tar", bytes_each=USUAL[1] + 1)
    bench.env.run(SCRIPTS[name], source=source, target=target)
    assert f"{target.name}.error.txt" not in ls(target.parent)
    bench.check(target.parent, *there, original, sent_once=False)


@pytest.mark.parametrize("name", TOOLS)
def test_tool(bench, name):
    bench.dataset()
    _, target = refuse(bench, name, truncated, "end")
    succeed(bench, name, target)


@pytest.mark.parametrize("what", BAD)
@pytest.mark.parametrize("name", ["cp", "rsync", "gio move"])
def test_kind(bench, name, what):
    bench.dataset()
    refuse(bench, name, *BAD[what])


@pytest.mark.parametrize("name", ["cp", "mv", "rsync", "rclone moveto", "gio move", "dd"])
def test_other_schema(bench, name):
    """The samples contradict the dataset's schema; what is published stays as it is."""
    directory = bench.dataset()
    first, there = bench.source()
    bench.env.run(SCRIPTS["cp"], source=first, target=directory / first.name)
    before = bench.world.entry(directory.name)
    _, target = refuse(bench, name, lambda _: OTHER_FIELDS, "n", there=[there])
    assert bench.world.entry(directory.name) == before
    succeed(bench, name, target, [there])


@pytest.mark.parametrize("name", ["cp", "rsync", "rclone copyto", "gio copy", "dd", "shutil.copy"])
def test_empty(bench, name):
    """An empty file is no shard; whether its tool can be told or not, nothing is published."""
    directory = bench.dataset()
    source = bad_file(bench, lambda _: b"")
    bench.env.run(SCRIPTS[name], check=False, source=source, target=directory / source.name)
    assert bench.world.entry(directory.name) is None
    succeed(bench, "cat >", directory / source.name)


def test_note_is_removed(bench):
    directory = bench.dataset()
    _, target = refuse(bench, "cp", truncated, "end")
    note = directory / f"{target.name}.error.txt"
    assert run("cp", "/etc/hostname", note, check=False).returncode == 1
    run("rm", note)
    assert note.name not in ls(directory)
    bounded(os.rmdir, directory)


def test_gio_replaces_nothing_by_a_fragment(bench):
    """Its FSYNC and RENAME come although the write failed (TOOLS 2b)."""
    directory = bench.dataset()
    source = bad_file(bench, truncated)
    code, output = bench.env.run(
        'cat "$SRC" | gio save "$DST"', check=False, source=source, target=directory / source.name
    )
    assert code != 0 and "Invalid argument" in output, output
    check_refused(bench, directory / source.name, "end")


# ---------------------------------------------------------------- writers that die


def half_written(bench, directory, source, script, name):
    """A script whose file in the mount has begun and not ended; returns its process."""
    process = bench.env.start(script, source=source, target=directory / source.name)

    def has_begun():
        assert process.poll() is None, process.stdout.read()
        paths = [directory / entry for entry in ls(directory) if re.fullmatch(name, entry)]
        return any(bounded(os.stat, path).st_size > 500_000 for path in paths)

    wait_until(has_begun, 20, "the file has begun")
    return process


def group_is_gone(group):
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return True
    return False


def remove_staged(directory, name):
    """What a dead rsync could not remove."""
    for entry in ls(directory):
        if re.fullmatch(rf"\.{re.escape(name)}\..{{6}}", entry):
            run("rm", directory / entry)


def is_quiet(mount):
    return mount.status()["publishing"]["under_way"] == 0


HALF = 'head -c 2000000 "$SRC" >"$SRC.half"; tail -c +1 -f "$SRC.half" | '

# Half of the shard comes, and then nothing; from one process: between two, a shell that is
# interrupted goes on with the second if the first had just ended well.
SLOWLY = {
    "cp": (HALF + 'cp /dev/stdin "$DST"', r"shard-000001\.tar"),
    "dd": (HALF + 'dd of="$DST" bs=64k status=none',
           r"shard-000001\.tar"),
    "cat": (HALF + 'cat >"$DST"', r"shard-000001\.tar"),
    "python": (python("""
import time
file = open(sys.argv[2], "wb", buffering=0)
file.write(open(sys.argv[1], "rb").read(2000000))
time.sleep(60)
"""), r"shard-000001\.tar"),
    "rsync": ('rsync --bwlimit=2m "$SRC" "$DST"', r"\.shard-000001\.tar\..{6}"),
    "rsync -P": ('rsync -P --bwlimit=2m "$SRC" "$DST"', r"\.shard-000001\.tar\..{6}"),
}  # fmt: skip


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL], ids=["SIGINT", "SIGKILL"])
@pytest.mark.parametrize("name", SLOWLY)
def test_killed_while_it_writes(bench, name, number):
    """All its closes look like good ones (TOOLS 4.5)."""
    directory = bench.dataset()
    source, _ = bench.source(name="shard-000001.tar", count=40, bytes_each=200_000)
    script, staged = SLOWLY[name]
    process = half_written(bench, directory, source, script, staged)
    os.killpg(process.pid, number)
    process.wait(10)
    wait_until(lambda: group_is_gone(process.pid), 10, "all of it has ended")
    remove_staged(directory, "shard-000001.tar")
    wait_until(lambda: is_quiet(bench.mount), 20, "nothing is under way")
    assert "shard-000001.tar" not in ls(directory)
    assert bench.world.entry(directory.name) is None
    bench.world.assert_clean()
    succeed(bench, "cp", directory / "shard-000001.tar")


@pytest.mark.parametrize("name", ["cp", "rsync"])
def test_killed_while_it_waits(team_world, name):
    """The store does not answer; a killed tool ends soon all the same, and nothing is published."""
    world = team_world
    mount = world.mount()
    directory = mount / "datasets" / "waits"
    bounded(os.mkdir, directory)
    run("cp", world.shard("first.tar"), directory)
    proxy = world.remote.proxy
    proxy.rule("silent", kinds=("PUT",), key="second")
    source = world.shard("second.tar", count=40)
    command = [name, source, directory / source.name]
    process = subprocess.Popen(command, start_new_session=True)
    wait_until(
        lambda: any("second" in put.key for put in proxy.requests("PUT")), 20, "it is being sent"
    )
    os.killpg(process.pid, signal.SIGKILL)
    process.wait(10)
    wait_until(lambda: group_is_gone(process.pid), 10, "all of it has ended")
    proxy.behave()
    remove_staged(directory, "second.tar")
    wait_until(lambda: is_quiet(mount), 30, "it was given up")
    world.assert_published("waits", world.sources / "0" / "first.tar")
    world.assert_clean()
    mount.unmount()


# ---------------------------------------------------------------- too large


@pytest.mark.parametrize("name", ["cp", "mv", "rsync", "gio copy", "gio move", "shutil.copy"])
def test_too_large(disk_world, name, tmp_path):
    world = disk_world
    mount = world.mount(options="spool_limit=1M")
    directory = mount / "datasets" / "large"
    bounded(os.mkdir, directory)
    source = world.shard("large.tar", count=40, bytes_each=100_000)
    env = {"SRC": str(source), "DST": str(directory / source.name), "DIR": str(directory)}
    env |= {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "GIO_USE_VFS": "local"}
    env |= {"PYTHON": sys.executable}
    done = run("bash", "-c", SCRIPTS[name], check=False, env=env)
    assert done.returncode != 0 and "too large" in (done.stdout + done.stderr), done
    assert source.exists()
    assert world.entries() == []
    for entry in ls(directory):
        if entry.endswith(".tar"):
            run("rm", directory / entry)
    world.assert_clean()
    mount.unmount()

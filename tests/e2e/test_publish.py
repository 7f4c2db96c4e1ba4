"""Publishing by copying, in both worlds: what arrives in the index and the store, and what the real
library makes of it."""

import errno
import os
import shutil

import pytest

from bounded import bounded, ls, read, run, sha256, wait_until


def copy(source, directory):
    run("cp", source, directory)


def test_a_copy_is_published_and_shows_at_once(world):
    paths = [world.shard("a.tar"), world.shard("b.tar", count=3)]
    mount = world.mount()
    directory = mount / "datasets" / "mnist"
    directory.mkdir()
    for path in paths:
        copy(path, directory)
        assert sha256(directory / path.name) == sha256(path)
        assert oct(os.stat(directory / path.name).st_mode) in ("0o100444", "0o100644")
    entry = world.assert_published("mnist", *paths)
    assert entry["schema_ref"] == "atdata://local/schema/Mnist@1.0.0"
    shown = mount.json("datasets", "mnist", "entry.json")
    wait_until(
        lambda: mount.json("datasets", "mnist", "entry.json")["cid"] == entry["cid"], 5, "it shows"
    )
    shown = mount.json("datasets", "mnist", "entry.json")
    assert shown["data_urls"] == entry["data_urls"]
    assert ls(directory) == sorted(
        ["a.tar", "b.tar", "entry.json", "metadata.json"]
        + ["schema.json", "schema.jsonschema", "schema.py"]
    )
    world.assert_clean()


def test_a_large_shard_goes_in_parts(team_world):
    path = team_world.shard("large.tar", count=300, bytes_each=200_000)
    assert path.stat().st_size > 48 << 20
    mount = team_world.mount()
    (mount / "datasets" / "big").mkdir()
    copy(path, mount / "datasets" / "big")
    team_world.assert_published("big", path, samples=300)
    team_world.assert_clean()
    assert sha256(mount / "datasets" / "big" / "large.tar") == sha256(path)


def test_what_is_no_shard_is_refused_and_leaves_nothing(world):
    good = world.shard("x.tar")
    data = good.read_bytes()
    broken = {"cut": data[: len(data) // 2], "text": b"no tar at all\n" * 1000}
    mount = world.mount()
    directory = mount / "datasets" / "mnist"
    directory.mkdir()
    for name, content in broken.items():
        source = world.sources / f"{name}.tar"
        source.write_bytes(content)
        done = run("cp", source, directory, check=False)
        assert done.returncode == 1 and "Invalid argument" in done.stderr, done.stderr
        assert not (directory / f"{name}.tar").exists()
        assert read(directory / f"{name}.tar.error.txt").strip()
    assert world.entries() == []
    world.assert_clean()
    # The same name, mended: the reason is gone.
    shutil.copyfile(good, world.sources / "cut.tar")
    copy(world.sources / "cut.tar", directory)
    world.assert_published("mnist", world.sources / "cut.tar")
    assert "cut.tar.error.txt" not in ls(directory)


def test_a_published_shard_never_changes(world):
    first = world.shard("a.tar")
    other = world.shard("a.tar", seed=1)
    os.utime(other, (1, 1))
    mount = world.mount()
    directory = mount / "datasets" / "mnist"
    directory.mkdir()
    copy(first, directory)
    for path in (first, other):
        done = run("cp", path, directory, check=False)
        assert done.returncode == 1 and "Operation not permitted" in done.stderr
        done = run("rsync", path, directory / "a.tar", check=False)
        assert path == first or done.returncode == 23
    for name in (".a.tar.Ab12Cd", "a.tar.part"):
        with pytest.raises(PermissionError):
            bounded(lambda name=name: os.close(os.open(directory / name, os.O_CREAT | os.O_RDWR)))
    for change in (os.unlink, lambda path: os.rename(path, path.with_name("b.tar"))):
        with pytest.raises(OSError) as refused:
            bounded(change, directory / "a.tar")
        assert refused.value.errno == errno.EPERM
    world.assert_published("mnist", first)


def test_a_temporary_name_is_published_by_its_rename(world):
    paths = [world.shard("a.tar"), world.shard("b.tar", count=2)]
    mount = world.mount()
    directory = mount / "datasets" / "mnist"
    directory.mkdir()
    run("rsync", "-a", *paths, f"{directory}/")
    world.assert_published("mnist", *paths)
    world.assert_clean()
    for path in paths:
        assert (directory / path.name).stat().st_mtime_ns == path.stat().st_mtime_ns
    sent = run("rsync", "-a", "--itemize-changes", *paths, f"{directory}/").stdout
    assert ">f" not in sent  # modes may differ: a shard is shown as 0444


def test_an_empty_dataset_survives_a_remount(world):
    mount = world.mount()
    (mount / "datasets" / "later").mkdir()
    bounded(mount.unmount)
    mount = world.mount()
    assert ls(mount / "datasets") == ["later"]
    copy(world.shard("a.tar"), mount / "datasets" / "later")
    assert world.entry("later")


def test_a_schema_is_published_by_writing_it(world):
    mount = world.mount()
    (mount / "datasets" / "mnist").mkdir()
    copy(world.shard("a.tar"), mount / "datasets" / "mnist")
    wait_until(lambda: "Mnist@1.0.0.json" in ls(mount / "schemas"), 5, "it shows")
    text = read(mount / "schemas" / "Mnist@1.0.0.json").decode().replace("1.0.0", "2.0.0")
    source = world.sources / "Mnist@2.0.0.json"
    source.write_text(text)
    copy(source, mount / "schemas")
    assert sorted(world.schemas()) == ["Mnist@1.0.0", "Mnist@2.0.0"]
    assert world.schemas()["Mnist@2.0.0"]["fields"] == world.schemas()["Mnist@1.0.0"]["fields"]
    # By a tool's temporary name.
    (world.sources / "Mnist@3.0.0.json").write_text(text.replace("2.0.0", "3.0.0"))
    run("rsync", "-a", world.sources / "Mnist@3.0.0.json", f"{mount / 'schemas'}/")
    assert "Mnist@3.0.0" in world.schemas()
    # A version that is there never changes, and what is no schema is none.
    before = world.schemas()["Mnist@2.0.0"]
    source.write_text(text.replace('"fields"', '"description": "another", "fields"', 1))
    assert run("cp", source, mount / "schemas", check=False).returncode == 1
    (world.sources / "Other@1.0.0.json").write_text("[]")
    assert run("cp", world.sources / "Other@1.0.0.json", mount / "schemas", check=False).returncode
    assert world.schemas()["Mnist@2.0.0"] == before
    assert len(world.schemas()) == 3
    world.assert_clean()

"""The desktops' libraries by their command lines: gio(1) and kioclient, copy and move."""

import shutil

import pytest

KIO = shutil.which("kioclient5") or "kioclient"  # as it is called since KDE 6
TOOLS = {
    "gio-copy": ["gio", "copy"],
    "gio-move": ["gio", "move"],
    "kio-copy": [KIO, "--noninteractive", "copy"],
    "kio-move": [KIO, "--noninteractive", "move"],
}
REPLACE = {KIO: ["--overwrite"]}  # gio does without being asked


@pytest.fixture(params=TOOLS)
def tool(request):
    """tool(SOURCE, DIRECTORY): the finished program. `moves`: the source goes with success."""
    words = TOOLS[request.param]
    if not shutil.which(words[0]):
        pytest.skip(f"there is no {words[0]}")
    desktop = request.getfixturevalue("desktop")

    def call(source, directory, replace=False):
        extra = REPLACE.get(words[0], []) if replace else []
        target = directory / source.name if words[0] == "gio" else directory
        return desktop.run(*words[:1], *extra, *words[1:], source, target, check=False)

    call.moves = "move" in words
    return call


def test_a_copy_or_move_publishes(tool, desktop, world, mount, source):
    directory = mount / "datasets" / "mnist"
    desktop.run("mkdir", directory)
    kept = world.directory / "kept"
    kept.mkdir()
    published = []
    for name in ("a.tar", "b.tar"):
        path = source(name)
        published.append(shutil.copy(path, kept / name))
        done = tool(path, directory)
        assert done.returncode == 0, done.stderr
        assert path.exists() != tool.moves
        world.assert_published("mnist", *published)

    # The name is taken; then what is no tar. Each time the source stays.
    for replace in (False, True):
        other = source("a.tar")
        done = tool(other, directory, replace)
        assert done.returncode != 0 and done.stderr, done
        assert other.exists()
    broken = source("x.tar", b"no tar at all\n" * 1000)
    done = tool(broken, directory)
    assert done.returncode != 0 and done.stderr, done
    assert broken.exists()
    names = desktop.run("ls", directory).stdout.split()
    assert "x.tar" not in names and "x.tar.error.txt" in names
    world.assert_published("mnist", *published)
    for path in published:
        desktop.run("cmp", path, directory / path.name)
    world.assert_clean()

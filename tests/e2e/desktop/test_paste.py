"""Publishing with a file manager: paste, a name that is taken, a broken file, drag, delete.

One long story for each of them, because starting them takes the time. The pictures are for people
to look at; what is asserted is in the index, in the store and in the directory.
"""

import shutil

import pytest

from desktop import wait_until

DONE_SECONDS = 30
BROKEN = b"no tar at all\n" * 1000


class Story:
    def __init__(self, manager, desktop, world, mount, source):
        self.manager = manager
        self.desktop = desktop
        self.world = world
        self.source = source
        self.mount = mount
        self.datasets = mount / "datasets"
        self.directory = self.datasets / "mnist"
        desktop.run("mkdir", self.directory)
        self.published = []
        self.target = None

    def ls(self, directory=None):
        return self.desktop.run("ls", "-A", directory or self.directory).stdout.split()

    def shot(self, name):
        self.desktop.wait_still()
        self.desktop.shot(f"{self.manager.name}-{name}")

    def names(self):
        entry = self.world.entry("mnist")
        return sorted(url.rsplit("/", 1)[1] for url in entry["data_urls"]) if entry else []

    def assert_unchanged(self):
        """What was published is there, byte for byte, and nothing else is."""
        if self.published:
            self.world.assert_published("mnist", *self.published)
        else:
            assert self.world.entries() == []
        for path in self.published:
            self.desktop.run("cmp", path, self.directory / path.name)
        assert len(self.world.named("mnist")) == bool(self.published)

    def deletes_refused(self):
        """Whether anybody has tried to delete a shard."""
        events = self.desktop.run("cat", self.mount / ".atdatafs" / "events.jsonl").stdout
        return "unlink" in events

    def bring(self, path):
        """To the clipboard, from a window on its directory."""
        window = self.manager.open(path.parent, 0)
        self.manager.copy_all(window, path)
        return window

    def wait_published(self, path):
        self.published.append(path)
        wait_until(
            lambda: path.name in self.names(), DONE_SECONDS, f"{path.name} is in the index"
        )
        self.assert_unchanged()

    def paste_good(self, path, name):
        self.bring(path)
        before = self.desktop.numbers()
        self.manager.paste(
            self.target, lambda: path.name in self.names() or self.manager.dialogs(before)
        )
        self.wait_published(path)
        assert not self.manager.dialogs(before), self.manager.dialogs(before)
        self.shot(name)

    def paste_refused(self, path, name):
        """Returns the windows before, and the dialog that came."""
        self.bring(path)
        before = self.desktop.numbers()
        self.manager.paste(self.target, lambda: self.manager.dialogs(before))
        dialog = self.manager.wait_dialog(before, "tells that it was refused")
        self.shot(name)
        return before, dialog


def test_publish_by_paste(manager, desktop, world, mount, source):
    story = Story(manager, desktop, world, mount, source)
    story.target = manager.open(story.directory, 1)
    story.paste_good(source("a.tar"), "published")

    # The name is taken.
    before, dialog = story.paste_refused(source("a.tar"), "name-taken")
    manager.agree_to_replace(dialog)
    refusal = manager.wait_dialog([*before, dialog.number], "refuses to replace a shard")
    story.shot("replace-refused")
    manager.dismiss(refusal)
    story.assert_unchanged()

    # A broken one: told why, in words.
    broken = source("x.tar", BROKEN)
    _, dialog = story.paste_refused(broken, "broken")
    story.assert_unchanged()
    assert broken.read_bytes() == BROKEN
    manager.dismiss(dialog)
    wait_until(lambda: "x.tar" not in story.ls(), DONE_SECONDS, "x.tar is not there")
    assert "x.tar.error.txt" in story.ls()
    manager.refresh(story.target)
    story.shot("broken-reason")

    story.paste_good(source("b.tar"), "second")
    world.assert_clean()


@pytest.mark.parametrize("world", ["team"], indirect=True)
def test_publish_to_a_team(manager, desktop, world, mount, source):
    """Redis and MinIO; a shard of several megabytes, and a cut: the source goes only afterwards."""
    story = Story(manager, desktop, world, mount, source)
    story.target = manager.open(story.directory, 1)
    path = source("a.tar", count=50, bytes_each=200_000)
    kept = world.directory / "kept"
    kept.mkdir()
    shutil.copy(path, kept)
    manager.copy_all(manager.open(path.parent, 0), path, cut=True)
    before = desktop.numbers()
    manager.paste(story.target, lambda: story.names() or manager.dialogs(before))
    story.wait_published(kept / path.name)
    wait_until(lambda: not path.exists(), DONE_SECONDS, "the source is gone")
    manager.refresh(story.target)
    story.shot("team")

    broken = source("x.tar", BROKEN)
    manager.copy_all(manager.open(broken.parent, 0), broken, cut=True)
    manager.paste(story.target, lambda: manager.dialogs(before))
    dialog = manager.wait_dialog(before, "tells that it was refused")
    manager.dismiss(dialog)
    story.assert_unchanged()
    assert broken.read_bytes() == BROKEN
    world.assert_clean()


def test_publish_by_dragging(manager, desktop, world, mount, source):
    story = Story(manager, desktop, world, mount, source)
    path = source("c.tar")
    window = manager.open(path.parent, 0)
    manager.open(story.directory, 1)
    desktop.wait_still()
    desktop.activate(window)
    desktop.drag(manager.icon, (900, 500), "ctrl")
    story.wait_published(path)
    story.shot("dragged")
    assert path.exists()
    world.assert_clean()


def test_a_new_folder_is_a_dataset(manager, desktop, world, mount, source):
    story = Story(manager, desktop, world, mount, source)
    window = manager.open(story.datasets, 1)
    manager.new_folder(window, "digits", lambda: "digits" in story.ls(story.datasets))
    path = source("d.tar")
    story.bring(path)
    target = manager.open(story.datasets / "digits", 1)
    manager.paste(target, lambda: world.entry("digits"))
    world.assert_published("digits", path)
    world.assert_clean()


@pytest.mark.parametrize("key", ["Delete", "shift+Delete"])
def test_a_published_shard_is_not_deleted(manager, desktop, world, mount, source, key):
    story = Story(manager, desktop, world, mount, source)
    path = source("a.tar")
    desktop.run("cp", path, story.directory)
    story.wait_published(path)
    window = manager.select(manager.open(story.directory, 0), story.directory / path.name)
    before = desktop.numbers()
    manager.delete(window, key, story.deletes_refused)
    story.shot(f"{key.replace('+', '-').lower()}-refused")
    manager.dismiss_all(before)
    story.assert_unchanged()
    # KIO's way to the trash is a copy and an unlink: the copy must not stay without the other.
    assert not desktop.ask("find", desktop.home / ".local/share/Trash/files", "-type", "f")

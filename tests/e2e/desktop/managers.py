"""The file managers, driven as people do: select all, copy, paste, dialogs."""

import shutil
import time

from desktop import wait_until

WINDOW_SECONDS = 40  # the first one of a cold program
ANSWER_SECONDS = 30
TRY_SECONDS = 4  # a key may come before the view is ready: then it is pressed again


class Manager:
    """One file manager that runs for one test. Subclasses say how theirs differs."""

    program = None
    # Titles of the windows that only show progress, in lower case.
    progress = ("progress", "copying", "moving", "file operations")
    new_folder_keys = "ctrl+shift+n"
    refresh_key = "F5"

    def __init__(self, desktop):
        self.desktop = desktop
        self.pids_before = set(desktop.pids())

    @classmethod
    def is_installed(cls):
        return shutil.which(cls.program) is not None

    @property
    def name(self):
        return self.program

    def command(self, directory):
        return [self.program, str(directory)]

    def prepare(self):
        """Settings in the user's home, before the first start."""

    def close(self):
        """Ends it and whatever it has started."""
        self.desktop.kill([pid for pid in self.desktop.pids() if pid not in self.pids_before])

    # -------- windows

    def open(self, directory, half=None):
        """A window of its own on a directory, on the left or right half of the screen."""
        before = self.desktop.numbers()
        self.desktop.spawn(*self.command(directory))
        window = self.desktop.wait_new(before, f"{self.name} opens {directory}", WINDOW_SECONDS)
        name = directory.name
        wait_until(
            lambda: name in self.desktop.title(window.number), WINDOW_SECONDS, f"{name} is shown"
        )
        if half is not None:
            self.desktop.place(window, 600 * half, 20, 598, 740)
        self.desktop.activate(window)
        return window

    def is_progress(self, window):
        return any(word in window.title.lower() for word in self.progress)

    def dialogs(self, before):
        """New windows that ask or tell something."""
        return [
            window
            for window in self.desktop.windows()
            if window.number not in before and not self.is_progress(window)
        ]

    def wait_dialog(self, before, what):
        wait_until(lambda: self.dialogs(before), ANSWER_SECONDS, f"{self.name}: {what}")
        self.desktop.wait_still()
        return self.dialogs(before)[-1]

    def dismiss(self, window):
        """Escape, until it is gone."""

        def is_gone():
            if window.number not in self.desktop.numbers():
                return True
            self.desktop.run("xdotool", "windowactivate", window.number, check=False)
            self.desktop.key("Escape")
            time.sleep(0.3)
            return window.number not in self.desktop.numbers()

        wait_until(is_gone, ANSWER_SECONDS, f"{self.name}: {window} closes")

    # -------- what people do

    def again(self, press, condition, what):
        """Presses, and presses again when nothing came of it."""
        began = time.monotonic()
        while True:
            press()
            try:
                wait_until(condition, TRY_SECONDS, what)
                return
            except AssertionError:
                if time.monotonic() - began > ANSWER_SECONDS:
                    self.desktop.shot(f"{self.name}-stuck")
                    raise

    def focus(self, window):
        """The keyboard goes to the view of files: a click where it is empty."""
        self.desktop.activate(window)
        x, y, width, height = self.desktop.geometry(window)
        self.desktop.click(x + width * 3 // 4, y + height - 120)

    def refresh(self, window):
        """No change made by the daemon reaches a manager: the kernel tells inotify of its own."""
        self.focus(window)
        self.desktop.key(self.refresh_key)
        self.desktop.wait_still()

    def select_all(self, window):
        self.focus(window)
        self.desktop.key("ctrl+a")
        self.desktop.wait_still()  # nautilus copies nothing until it has drawn the selection

    def copy_all(self, window, path, cut=False):
        """The window shows nothing but `path`: it goes to the clipboard."""

        def press():
            self.select_all(window)
            self.desktop.key("ctrl+x" if cut else "ctrl+c")

        def is_there():
            return str(path) in self.desktop.clipboard()

        self.again(press, is_there, f"{self.name}: {path} is in the clipboard")

    def paste(self, window, has_begun):
        def press():
            self.focus(window)
            self.desktop.key("ctrl+v")

        self.again(press, has_begun, f"{self.name}: the paste begins")

    def agree(self, dialog, keys):
        """The dialog's question is answered with yes."""
        self.desktop.activate(dialog)
        self.desktop.key(*keys)
        self.desktop.wait_gone(dialog, f"{self.name} takes the answer")

    def agree_to_replace(self, dialog):
        self.agree(dialog, self.replace_keys)

    def agree_to_delete(self, dialog):
        self.agree(dialog, self.delete_keys)

    def delete(self, window, key, is_done):
        """Presses the key, agrees to whatever it asks, until it is done."""
        before = self.desktop.numbers()
        asked = set()

        def look():
            if is_done():
                return True
            for dialog in self.dialogs(before):
                if dialog.number not in asked:
                    asked.add(dialog.number)
                    self.desktop.wait_still()
                    self.desktop.shot(f"{self.name}-asks")
                    self.agree_to_delete(dialog)
                    break
            return is_done()

        def press():
            self.desktop.activate(window)
            self.desktop.key(key)

        self.again(press, look, f"{self.name} deletes")
        self.desktop.wait_still()

    def dismiss_all(self, before):
        for dialog in self.dialogs(before):
            self.dismiss(dialog)

    # -------- what differs

    # In a window on the left half that shows one file: where that is.
    icon = (0, 0)
    # Yes, in the dialog about a name that is taken and in the one that asks whether to delete.
    replace_keys = ()
    delete_keys = ()

    def select(self, window, path):
        """One file of a directory, in this window or another; returns that one."""
        self.focus(window)
        before = self.desktop.numbers()
        self.desktop.key("ctrl+s")
        dialog = self.desktop.wait_new(before, f"{self.name} asks for a pattern")
        self.desktop.type(path.name)
        self.desktop.key("Return")
        self.desktop.wait_gone(dialog, f"{self.name} has taken the pattern")
        self.desktop.wait_still()
        return window

    def new_folder(self, window, name, has_come):
        before = self.desktop.numbers()

        def press():
            self.focus(window)
            self.desktop.key(self.new_folder_keys)

        self.again(
            press, lambda: self.dialogs(before), f"{self.name} asks for the new folder's name"
        )
        self.desktop.wait_still()
        self.desktop.key("ctrl+a")
        self.desktop.type(name)
        self.desktop.wait_still()
        self.desktop.shot(f"{self.name}-new-folder")
        self.desktop.key("Return")
        wait_until(has_come, ANSWER_SECONDS, f"{self.name} makes the folder")


class Thunar(Manager):
    program = "thunar"
    icon = (212, 150)
    replace_keys = ("alt+r",)
    delete_keys = ("alt+y", "alt+d")  # one of them is a button's


class Dolphin(Manager):
    program = "dolphin"
    icon = (324, 139)
    new_folder_keys = "F10"
    replace_keys = ("alt+o",)
    delete_keys = ("alt+d",)

    def command(self, directory):
        return [self.program, "--new-window", str(directory)]

    def select(self, window, path):
        before = self.desktop.numbers()
        self.desktop.spawn(self.program, "--new-window", "--select", str(path))
        window = self.desktop.wait_new(before, f"dolphin selects {path}", WINDOW_SECONDS)
        self.desktop.activate(window)
        self.desktop.wait_still()
        return window


class Nautilus(Manager):
    program = "nautilus"
    icon = (113, 150)

    def command(self, directory):
        return [self.program, "--new-window", str(directory)]

    # Its buttons have no keys: the one that says yes is the rightmost, above or below.
    def agree_to_replace(self, dialog):
        x, y, width, _ = self.desktop.geometry(dialog)
        self.click_away(dialog, x + width - 60, y + 28)

    def agree_to_delete(self, dialog):
        x, y, width, height = self.desktop.geometry(dialog)
        self.click_away(dialog, x + width - 60, y + height - 28)

    def click_away(self, dialog, x, y):
        self.desktop.activate(dialog)
        self.desktop.click(x, y)
        self.desktop.wait_gone(dialog, f"{self.name} takes the answer")


ALL = [Thunar, Dolphin, Nautilus]

"""A desktop for the length of a session: Xvfb, openbox, a D-Bus session bus; windows and keys.

All of it belongs to one ordinary user and dies with the test: every process started in it carries
a mark in its environment, by which it is found, however it came to be (D-Bus starts services).
"""

import contextlib
import os
import secrets
import signal
import struct
import subprocess
import time
from functools import partial
from pathlib import Path

import bounded
from bounded import run
from mounting import as_user

SCREEN = "1200x800x24"
START_SECONDS = 30
END_SECONDS = 10
KEY_DELAY_MS = "30"
POLL_SECONDS = 0.1
STILL_SECONDS = 0.3

# Each look is a program or two: asked too often they leave the desktop no time to do anything.
wait_until = partial(bounded.wait_until, pause=POLL_SECONDS)


def cookie_file(path):
    """An Xauthority with one key for every display (what xauth(1) would write)."""
    fields = (b"", b"", b"MIT-MAGIC-COOKIE-1", secrets.token_bytes(16))
    packed = b"".join(struct.pack(">H", len(field)) + field for field in fields)
    path.write_bytes(struct.pack(">H", 0xFFFF) + packed)  # FamilyWild
    path.chmod(0o600)
    return path


class Window:
    def __init__(self, number, title, kind):
        self.number = number
        self.title = title
        self.kind = kind  # "dialog", "normal", ...

    def __repr__(self):
        return f"{self.kind} window {self.title!r}"


class Desktop:
    """`directory` is the user's already; `shots` is where screenshots go."""

    def __init__(self, directory, user, shots):
        self.directory = Path(directory)
        self.user = user
        self.shots = Path(shots)
        self.mark = f"ATD_DESKTOP={secrets.token_hex(8)}"
        self.shot_count = 0
        self.home = self.directory / "home"
        self.log = self.directory / "log"
        runtime = self.directory / "run"
        authority = self.directory / "xauthority"
        for path in (self.home, runtime):
            path.mkdir()
            path.chmod(0o700)
        cookie_file(authority)
        name, _, value = self.mark.partition("=")
        self.environment = {
            name: value,
            "PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin",
            "LANG": "C.UTF-8",
            "HOME": str(self.home),
            "USER": user or os.environ.get("USER", "user"),
            "XDG_RUNTIME_DIR": str(runtime),
            "XAUTHORITY": str(authority),
            "TMPDIR": str(self.directory),
            # Nothing but what is tested: no session manager, no accessibility bus.
            "NO_AT_BRIDGE": "1",
            "GTK_USE_PORTAL": "0",
            "GIO_USE_VOLUME_MONITOR": "unix",
            "QT_QPA_PLATFORM": "xcb",
            "GSK_RENDERER": "cairo",  # there is no GPU
        }
        if user:
            run("chown", "-R", user, self.directory)

    # -------- its life

    def __enter__(self):
        try:
            self._start()
        except BaseException:
            self.end()
            raise
        return self

    def __exit__(self, *_):
        self.end()

    def _start(self):
        receiver, sender = os.pipe()
        authority = self.environment["XAUTHORITY"]
        self.spawn(
            *("Xvfb", "-displayfd", str(sender), "-screen", "0", SCREEN, "-nolisten", "tcp"),
            *("-auth", authority, "-noreset"),
            pass_fds=(sender,),
        )
        os.close(sender)
        with open(receiver, "rb") as told:
            number = told.readline().strip().decode()
        assert number, f"Xvfb did not start: {self.log.read_text(errors='replace')}"
        self.environment["DISPLAY"] = f":{number}"
        bus = f"unix:path={self.environment['XDG_RUNTIME_DIR']}/bus"
        self.environment["DBUS_SESSION_BUS_ADDRESS"] = bus
        self.spawn("dbus-daemon", "--session", "--nofork", "--nopidfile", f"--address={bus}")
        self.spawn("openbox", "--sm-disable")
        socket = Path(bus.removeprefix("unix:path="))
        wait_until(socket.exists, START_SECONDS, "the session bus listens")
        wait_until(
            lambda: "window id" in self.ask("xprop", "-root", "_NET_SUPPORTING_WM_CHECK"),
            START_SECONDS,
            "openbox manages windows",
        )

    def pids(self):
        """Every living process of this desktop."""
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                with contextlib.suppress(OSError):
                    if self.mark.encode() in (entry / "environ").read_bytes().split(b"\0"):
                        found.append(int(entry.name))
        return found

    def kill(self, pids):
        """TERM, then KILL, and they are gone."""

        def living():
            return [pid for pid in pids if _is_alive(pid)]

        for sent in (signal.SIGTERM, signal.SIGKILL):
            for pid in living():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, sent)
            with contextlib.suppress(AssertionError):
                wait_until(lambda: not living(), END_SECONDS, "they end")
                return
        raise AssertionError(f"processes that do not end: {living()}")

    def end(self):
        self.kill(self.pids())

    # -------- programs

    def command(self, *words):
        return [*as_user(self.user), *map(str, words)]

    def spawn(self, *words, **how):
        """Starts a program that stays; it dies with the test."""
        with open(self.log, "ab") as log:
            return subprocess.Popen(
                self.command("setpriv", "--pdeathsig", "KILL", *words),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self.environment,
                cwd=self.home,
                **how,
            )

    def run(self, *words, check=True, **how):
        return run(
            *self.command(*words), check=check, env=self.environment, cwd=self.home, **how
        )

    def ask(self, *words):
        """What a program prints, whatever comes of it."""
        return self.run(*words, check=False).stdout

    # -------- windows

    def title(self, number):
        return self.ask("xdotool", "getwindowname", number).strip()

    def _kind(self, number):
        text = self.ask("xprop", "-id", number, "_NET_WM_WINDOW_TYPE")
        return text.rpartition("_NET_WM_WINDOW_TYPE_")[2].strip().lower() or "normal"

    def numbers(self):
        """Of the windows that openbox manages, the oldest first."""
        text = self.ask("xprop", "-root", "_NET_CLIENT_LIST").partition("#")[2]
        return [int(word.strip(" ,\n"), 16) for word in text.split(",") if word.strip()]

    def windows(self):
        return [Window(n, self.title(n), self._kind(n)) for n in self.numbers()]

    def wait_new(self, before, what, seconds=START_SECONDS):
        """The window that was not there before, as soon as there is one."""

        def found():
            return [window for window in self.windows() if window.number not in before]

        wait_until(found, seconds, what)
        return found()[0]

    def wait_gone(self, window, what):
        wait_until(lambda: window.number not in self.numbers(), START_SECONDS, what)

    def activate(self, window):
        self.run("xdotool", "windowactivate", "--sync", window.number)

    def geometry(self, window):
        text = self.ask("xdotool", "getwindowgeometry", "--shell", window.number)
        pairs = dict(line.split("=") for line in text.splitlines() if "=" in line)
        return [int(pairs[name]) for name in ("X", "Y", "WIDTH", "HEIGHT")]

    def place(self, window, x, y, width, height):
        self.run("xdotool", "windowsize", window.number, width, height)
        self.run("xdotool", "windowmove", window.number, x, y)

    # -------- keys and the mouse

    def key(self, *keys):
        self.run("xdotool", "key", "--delay", KEY_DELAY_MS, *keys)

    def type(self, text):
        self.run("xdotool", "type", "--delay", KEY_DELAY_MS, text)

    def click(self, x, y):
        self.run("xdotool", "mousemove", x, y, "click", 1)

    def drag(self, start, end, modifier):
        """Slowly, as a hand does: what it passes over must see it."""
        words = ["mousemove", *start, "sleep", "0.2", "mousedown", 1]
        for step in range(1, 11):
            x, y = (round(a + (b - a) * step / 10) for a, b in zip(start, end, strict=True))
            words += ["sleep", "0.08", "mousemove", x, y]
        words += ["keydown", modifier, "sleep", "0.5", "mouseup", 1, "sleep", "0.2"]
        self.run("xdotool", *words, "keyup", modifier)

    def clipboard(self):
        """What a paste would paste: addresses of files."""
        for kind in ("x-special/gnome-copied-files", "text/uri-list"):
            text = self.ask("timeout", "5", "xclip", "-o", "-selection", "clipboard", "-t", kind)
            if text:
                return text
        return ""

    # -------- looking

    def shot(self, name):
        """A picture of the whole screen, for people."""
        self.shot_count += 1
        path = self.shots / f"{self.shot_count:02d}-{name}.png"
        with open(path, "wb") as file:
            subprocess.run(
                self.command("import", "-window", "root", "png:-"),
                stdout=file,
                stderr=subprocess.DEVNULL,
                env=self.environment,
                timeout=30,
                check=False,
            )
        return path

    def wait_still(self, seconds=3):
        """Until two pictures in a row are equal, or for so long. Not for what a test rests on."""
        began = time.monotonic()
        last = None
        while time.monotonic() - began < seconds:
            done = subprocess.run(
                self.command("xwd", "-root", "-silent"),
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=self.environment,
                timeout=30,
                check=False,
            )
            if done.stdout == last:
                return
            last = done.stdout
            time.sleep(STILL_SECONDS)


def _is_alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False

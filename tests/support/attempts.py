"""Copies into a mount that may fail: each is a success, or a failure that says all it must."""

import contextlib
import json
import subprocess
import threading
import time
from pathlib import Path

from bounded import bounded, ls, read

# The errnos that tools understand (TOOLS 4), as they print them.
HONEST = ("Input/output error", "Remote I/O error", "Connection timed out", "Read-only file system")
HONEST += ("Disk quota exceeded", "File too large", "Operation not permitted", "Invalid argument")
LIES = ("Interrupted system call", "Resource temporarily unavailable", "No space left on device")
LIMIT_SECONDS = 120  # a copy that takes longer hangs, whatever it copies


class Attempt:
    """`tool` copies `source` into a dataset that exists; `ok` says how it ended."""

    def __init__(self, mount, source, dataset, tool=("cp",)):
        self.mount = mount
        self.source = source
        self.dataset = dataset
        self.tool = tool
        self.directory = mount / "datasets" / dataset
        self.path = self.directory / source.name
        self.data = source.read_bytes()
        self.seconds = None
        self.done = None
        self.thread = threading.Thread(target=self._run, daemon=True)

    def _run(self):
        began = time.monotonic()
        self.process = subprocess.Popen(
            [*self.tool, str(self.source), str(self.directory)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        output, _ = self.process.communicate()
        self.seconds = time.monotonic() - began
        self.done = (self.process.returncode, output)

    def start(self):
        self.thread.start()
        return self

    def wait(self, seconds=LIMIT_SECONDS):
        self.thread.join(seconds)
        assert self.done, f"{self.tool} hangs: {self.source} to {self.dataset}"
        return self

    def is_waiting(self):
        """In a system call that FUSE answers, as close(2) is while the shard is published."""
        where = Path(f"/proc/{self.process.pid}/syscall")
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            return where.read_text().split()[0] == "3"  # close, on x86-64
        return False

    @property
    def ok(self):
        return self.done[0] == 0

    @property
    def output(self):
        return self.done[1]

    @property
    def reason(self):
        """Of a failure: what the note beside the file says."""
        return read(self.directory / f"{self.source.name}.error.txt").decode().strip()

    def events(self):
        lines = read(self.mount / ".atdatafs" / "events.jsonl").splitlines()
        events = [json.loads(line) for line in lines]
        place = f"datasets/{self.dataset}/{self.source.name}"
        return [event for event in events if place in event.get("what", event.get("path", ""))]

    def check(self, *words, errno=None, is_taken=False):
        """What any end must be like. `words`: the reason of a failure has them all. `is_taken`:
        somebody else's shard has the name, which may have come between cp's look and its open."""
        if self.ok:
            return self
        honest = (*HONEST, "File exists") if is_taken else HONEST
        assert any(text in self.output for text in honest), self.output
        assert not any(text in self.output for text in LIES), self.output
        assert errno is None or errno in self.output, (errno, self.output)
        assert self.source.read_bytes() == self.data
        assert is_taken or self.source.name not in ls(self.directory)
        if "File exists" in self.output:
            return self
        reason = self.reason
        assert reason and "\n" not in reason, reason
        assert [event["reason"] for event in self.events()][-1] == reason
        for word in words:
            assert word in reason, f"{word!r} is not in the reason: {reason}"
        return self

    def must_fail(self, *words, errno=None):
        assert not self.ok, f"{self.source.name} was published"
        return self.check(*words, errno=errno)

    def must_work(self):
        assert self.ok, (self.dataset, self.output, self.reason)
        return self


def attempt(mount, source, dataset, tool=("cp",), seconds=LIMIT_SECONDS):
    """One, run to its end."""
    return Attempt(mount, source, dataset, tool).start().wait(seconds)


def make_datasets(mount, *names):
    for name in names:
        bounded((mount / "datasets" / name).mkdir)


def together(attempts, seconds=LIMIT_SECONDS):
    """Starts them all, and waits for the last one."""
    for one in attempts:
        one.start()
    until = time.monotonic() + seconds
    for one in attempts:
        one.wait(max(0, until - time.monotonic()))
    return attempts

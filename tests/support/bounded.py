"""Calls that must not hang: each ends in time or fails the test."""

import hashlib
import os
import subprocess
import threading
import time

SECONDS = 20
# Under a sanitizer (tests/e2e/CMakeLists.txt), where all takes several times as long.
SANITIZED = float(os.environ.get("ATD_E2E_VISIBLE_S", "1")) > 1
SLACK = 10 if SANITIZED else 1


def bounded(call, *args, timeout=SECONDS, **kwargs):
    """The call's result; it runs in a thread, since a hanging system call cannot be interrupted.

    What hangs is freed when the test's daemon is killed, so the thread never outlives the test.
    """
    outcome = []

    def run():
        try:
            outcome.append((call(*args, **kwargs), None))
        except BaseException as error:
            outcome.append((None, error))

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(timeout)
    assert outcome, f"{call} hangs: {args}"
    result, error = outcome[0]
    if error is not None:
        raise error
    return result


def run(*command, timeout=60, check=True, **kwargs):
    """A finished program with its output as text. One that hangs is killed and fails the test."""
    done = subprocess.run(
        [str(word) for word in command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        timeout=timeout,
        **kwargs,
    )
    assert not check or done.returncode == 0, (command, done.returncode, done.stdout, done.stderr)
    return done


def ls(path):
    return bounded(lambda: sorted(os.listdir(path)))


def read(path, timeout=SECONDS):
    def whole():
        with open(path, "rb") as file:
            return file.read()

    return bounded(whole, timeout=timeout)


def sha256(path, timeout=SECONDS):
    def digest():
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    return bounded(digest, timeout=timeout)


def wait_until(condition, seconds, what, pause=0.005):
    """Asks again and again, and returns how long it took (at least once, also when late)."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < seconds, f"after {seconds} s still not: {what}"
        time.sleep(pause)
    return time.monotonic() - began

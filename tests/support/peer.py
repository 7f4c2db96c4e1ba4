"""Another process on the same index: a user of the real atdata library, with a HOME of its own."""

import os
import pickle
import subprocess
import sys
from multiprocessing import Pipe
from pathlib import Path

SECONDS = 60
LIBRARY = Path(__file__).with_name("library.py")


class Peer:
    """Calls functions of library.py in that process: `peer.write("mnist", "Scalars", 10)`."""

    def __init__(self, home):
        self.home = Path(home)
        self.committed_at = None  # time.monotonic() when the last call returned over there
        self._pipe, theirs = Pipe()
        env = {**os.environ, "HOME": str(home), "PYTHONDONTWRITEBYTECODE": "1"}
        env.pop("ATDATA_INDEX", None)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, str(LIBRARY), str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                env=env,
            )

    def __getattr__(self, function):
        def call(*args, **kwargs):
            self._pipe.send((function, args, kwargs))
            assert self._pipe.poll(SECONDS), f"{function} hangs in the peer"
            ok, result, self.committed_at = pickle.loads(self._pipe.recv_bytes())
            assert ok, result
            return result

        return call

    def begin(self, function, *args, **kwargs):
        """As a call, whose result end() gives."""
        self._pipe.send((function, args, kwargs))

    def end(self, seconds=SECONDS):
        assert self._pipe.poll(seconds), "the call hangs in the peer"
        ok, result, self.committed_at = pickle.loads(self._pipe.recv_bytes())
        assert ok, result
        return result

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._pipe.close()
        try:
            self._process.wait(SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            raise

    def kill(self):
        """A crash: what it committed stays in the -wal file."""
        self._process.kill()
        self._process.wait(SECONDS)

"""`atdatafs COMMAND ...` on the index and the store of a world, without a mount."""

import json
import subprocess

from bounded import run
from mounting import ATDATAFS, environment, make_state, sanitizer_reports

SECONDS = 60


class Commands:
    """`commands("ls", "mnist")`: the finished process; its home is empty."""

    def __init__(self, world):
        self.world = world
        self.state = make_state(world.directory / "commands")
        home = world.directory / "commands-home"
        home.mkdir()
        self.env = environment(home, self.state)

    def words(self, command, *arguments, options="", index=None):
        """The command line. `command` may be of two words."""
        more = self.world.command_options + (f",{options}" if options else "")
        where = ["-i", index or self.world.index_url, "-o", more]
        if command == "schema infer":  # which opens no index
            where = []
        return [ATDATAFS, *command.split(), *where, *map(str, arguments)]

    def __call__(self, command, *arguments, code=0, options="", index=None, prefix=(), **how):
        """`prefix`: the words of a program that starts it."""
        words = self.words(command, *arguments, options=options, index=index)
        done = run(*prefix, *words, check=False, **{"timeout": SECONDS, "env": self.env} | how)
        return self.checked(done, code)

    def checked(self, done, code):
        assert not sanitizer_reports(self.state), sanitizer_reports(self.state)
        assert done.returncode == code, (done.args, done.returncode, done.stdout, done.stderr)
        return done

    def json(self, command, *arguments, **how):
        return json.loads(self(command, "--json", *arguments, **how).stdout)

    def lines(self, command, *arguments, **how):
        return self(command, *arguments, **how).stdout.splitlines()

    def refused(self, command, *arguments, code=1, **how):
        """What it says; it fails, and prints nothing else."""
        done = self(command, *arguments, code=code, **how)
        assert done.stdout == "" and len(done.stderr.splitlines()) == 1, done
        assert done.stderr.startswith("atdatafs: "), done
        return done.stderr

    def start(self, command, *arguments, **how):
        return subprocess.Popen(
            self.words(command, *arguments),
            **{"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
            | {"env": self.env}
            | how,
        )

"""`atdatafs COMMAND` in a world, without a mount."""

import json
import subprocess

from bounded import run
from mounting import ATDATAFS, environment, make_state, sanitizer_reports

SECONDS = 120  # one command, under a sanitizer on a busy machine


class Commands:
    """commands("verify", "all", code=1) runs it and checks its exit code; `json` reads its JSON."""

    def __init__(self, world, **environ):
        self.world = world
        self.state = make_state(world.directory / "commands")
        home = world.directory / "commands-home"
        home.mkdir(exist_ok=True)
        self.env = environment(home, self.state) | environ

    def words(self, command, *arguments, options="", index=None):
        more = self.world.command_options + (f",{options}" if options else "")
        words = ["-i", index or self.world.index_url, "-o", more, *map(str, arguments)]
        return [ATDATAFS, command, *words]

    def __call__(self, command, *arguments, code=0, options="", index=None, prefix=(), **how):
        words = [*prefix, *self.words(command, *arguments, options=options, index=index)]
        done = run(*words, check=False, timeout=SECONDS, env=self.env, **how)
        assert not sanitizer_reports(self.state), sanitizer_reports(self.state)
        assert done.returncode == code, (done.returncode, done.stdout, done.stderr)
        return done

    def json(self, command, *arguments, **how):
        return json.loads(self(command, "--json", *arguments, **how).stdout)

    def start(self, command, *arguments, **how):
        return subprocess.Popen(
            self.words(command, *arguments),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=self.env,
            **how,
        )

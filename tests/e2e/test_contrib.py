"""What comes with the program: the man page and the shells' completions, with the real index."""

import re
import shutil
from pathlib import Path

import pytest

from bounded import run
from command import Commands
from mounting import ATDATAFS
from redis_index import RedisIndex

CONTRIB = Path(__file__).resolve().parent.parent.parent / "contrib"
MAN = CONTRIB / "man" / "atdatafs.8"
COMPLETIONS = CONTRIB / "completions"
BREAKS = " \t\n\"'@><=;|&(:"  # COMP_WORDBREAKS of an interactive bash
CALL = """
COMP_WORDBREAKS=$1 COMP_LINE=$2 COMP_POINT=${#2}
shift 2
COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
source "$SCRIPT"
[[ $(complete -p atdatafs) == *_atdatafs* ]] || exit 9
_atdatafs
((${#COMPREPLY[@]})) && printf '%s\\n' "${COMPREPLY[@]}"
exit 0
"""


def command_names(env):
    """As --help lists them, with the sub-commands of schema."""
    text = run(ATDATAFS, "--help", env=env).stdout.partition("\ncommands")[2]
    names = re.findall(r"^  ([a-z-]+) ", text, re.M)
    assert {"ls", "publish", "schema"} <= set(names)
    return names


# ---------------------------------------------------------------- man


def test_the_man_page_renders_without_a_warning():
    if not shutil.which("man"):
        pytest.skip("there is no man")
    done = run("man", "--warnings", "-E", "UTF-8", "-l", "-Tutf8", "-Z", MAN)
    assert done.stderr == "", done.stderr


def test_the_man_page_has_every_command_and_its_options(disk_world):
    env = Commands(disk_world).env
    page = MAN.read_text().replace("\\-", "-")
    for name in command_names(env):
        assert re.search(rf"^\.(SS|B) .*\b{name}\b", page, re.M), name
        text = run(ATDATAFS, name, "--help", env=env).stdout
        for option in re.findall(r"^  (--[a-z-]+)", text, re.M):
            assert option in page, (name, option)


# ---------------------------------------------------------------- bash


class Bash:
    """`bash(line)`: what Tab at its end offers."""

    def __init__(self, env, directory):
        self.env = env | {"SCRIPT": str(COMPLETIONS / "atdatafs.bash")}
        self.directory = directory

    def __call__(self, line):
        line = line.replace("atdatafs", ATDATAFS, 1)
        # As readline splits it: what separates words stands by itself.
        words = re.findall(r"[:=@]+|[^\s:=@]+", line)
        if line[-1].isspace():
            words.append("")
        done = run(
            "bash", "--norc", "--noprofile", "-c", CALL, "bash", BREAKS, line, *words,
            env=self.env, cwd=self.directory,
        )  # fmt: skip
        assert done.stderr == "", done.stderr
        return done.stdout.splitlines()


@pytest.fixture
def bash(disk_world, tmp_path):
    if not shutil.which("bash"):
        pytest.skip("there is no bash")
    commands = Commands(disk_world)
    for name in ("mnist", "mnist-test", "digits"):
        commands("publish", disk_world.shard("a.tar", seed=len(name)), name)
    (tmp_path / "here").mkdir()
    return Bash(commands.env | {"ATDATA_INDEX": disk_world.index_url}, tmp_path / "here")


def test_commands_and_options_are_the_programs(bash):
    names = command_names(bash.env)
    assert bash("atdatafs ") == names
    assert bash("atdatafs l") == [name for name in names if name.startswith("l")]
    assert {"--help", "--version", "-o"} <= set(bash("atdatafs -"))
    assert bash("atdatafs schema ") == ["list", "show", "python", "publish", "infer"]
    assert bash("atdatafs schema p") == ["python", "publish"]
    assert bash("atdatafs ls --n") == ["--names"]
    assert bash("atdatafs schema infer --c") == ["--class"]
    assert bash("atdatafs schema python --json") == []
    for name in names:
        if name != "schema":
            assert "--help" in bash(f"atdatafs {name} --"), name
    assert set(bash("atdatafs resolve --")) >= {"--signed", "--json", "--index", "--help"}


def test_names_are_the_indexs(bash, disk_world):
    assert bash("atdatafs ls ") == ["digits", "mnist", "mnist-test"]
    assert bash("atdatafs resolve --json mn") == ["mnist", "mnist-test"]
    assert bash("atdatafs label d") == ["digits"]
    assert bash("atdatafs schema show ") == ["Digits@1.0.0", "Mnist@1.0.0", "MnistTest@1.0.0"]
    assert bash("atdatafs schema python Mnist@") == ["1.0.0"]  # behind the last '@'
    assert bash("atdatafs resolve @local/m") == ["local/mnist", "local/mnist-test"]
    # Of the index that the line means.
    elsewhere = bash.env | {"ATDATA_INDEX": "redis://127.0.0.1:1/0"}
    other = Bash(elsewhere, bash.directory)
    assert other("atdatafs ls ") == []
    assert other(f"atdatafs ls -i {disk_world.index_url} d") == ["digits"]
    assert other(f"atdatafs ls --index={disk_world.index_url} d") == ["digits"]
    assert bash("atdatafs ls -i re") == ["redis://", "rediss://", "redis+sentinel://"]


def test_files_are_offered_where_they_are_meant(bash):
    for name in ("a.tar", "a.json", "a.txt"):
        (bash.directory / name).touch()
    (bash.directory / "dir").mkdir()
    assert set(bash("atdatafs publish a")) == {"a.tar"}
    assert set(bash("atdatafs publish ")) == {"a.tar", "dir", "digits", "mnist", "mnist-test"}
    assert set(bash("atdatafs schema publish ")) == {"a.json", "dir"}
    assert set(bash("atdatafs schema infer ")) == {"a.tar", "dir"}
    assert bash("atdatafs status ") == ["dir"]
    assert bash("atdatafs sqlite:/x d") == ["dir"]


def test_names_are_never_run(bash, redis_server):
    """The index is anybody's text."""
    index = RedisIndex(redis_server, db=7)
    evil = ["$(touch evil)", "`touch evil`", "a b;touch evil", "'q", '"q', "$HOME", "*"]
    for i, name in enumerate(evil):
        index.entry(name, [f"s3://b/{i}.tar"])
    offered = Bash(bash.env | {"ATDATA_INDEX": f"{redis_server.url[:-1]}7"}, bash.directory)
    shown = offered("atdatafs ls ")
    assert len(shown) == len(evil)
    for word in shown:  # each is one word of a command line, which says the name again
        done = run("bash", "--norc", "-c", f"printf %s {word}", cwd=bash.directory, env=bash.env)
        assert done.stdout in evil, word
    assert not (bash.directory / "evil").exists()


# ---------------------------------------------------------------- the other shells


def test_the_other_shells_can_read_theirs():
    """Where they are installed."""
    for shell, file in (("zsh", "_atdatafs"), ("fish", "atdatafs.fish")):
        assert (COMPLETIONS / file).is_file()
        if shutil.which(shell):
            run(shell, "-n", COMPLETIONS / file)

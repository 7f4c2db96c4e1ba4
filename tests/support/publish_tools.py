"""The programs that people copy shards with, as one table.

Each is a piece of bash that finds in its environment: $SRC the shard, $DST the name that it gets
in the mount, $DIR and $NAME the parts of that, $SRC_DIR and $URL (http) where the shard is, $TREE
an unpacked shard, $TMP a directory outside of the mount, $PYTHON.
Source of what each sends to the file system: TOOLS 1.
"""

import functools
import http.server
import os
import subprocess
import sys
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

SECONDS = 60
SFTP_SERVER = "/usr/lib/openssh/sftp-server"

RCLONE = 'rclone --config "" --retries 1 --low-level-retries 1'
SFTP = f'sftp -q -b - -D {SFTP_SERVER}'
KIO = "kioclient5 --noninteractive"


@dataclass(frozen=True)
class Tool:
    """moves: the source is gone afterwards. keeps: the mtime, cut to so many ns.
    stages: there was another shard on the way, which may have been sent, too."""

    name: str
    script: str
    moves: bool = False
    keeps: int = 0
    stages: bool = False


def python(code):
    return f'"$PYTHON" -c \'\nimport os, shutil, sys, tarfile\n{code}\' "${{SRC:-}}" "$DST"'


SPONGE = """
data = open(sys.argv[1], "rb").read()
with open(sys.argv[2], "wb", buffering=0) as file:
    while data:
        data = data[file.write(data[:1 << 20]):]
"""

REWRITE = """
with open(sys.argv[1], "rb") as source, open(sys.argv[2], "xb") as file:
    data = source.read()
    file.write(data[: 1 << 20])  # and again from the start, as GIO does after EINVAL
    file.seek(0)
    file.write(data)
"""

BACKWARDS = """
data = open(sys.argv[1], "rb").read()
file = os.open(sys.argv[2], os.O_WRONLY | os.O_CREAT | os.O_EXCL)
for at in reversed(range(0, len(data), 1 << 20)):
    os.pwrite(file, data[at : at + (1 << 20)], at)
os.close(file)
"""

MAPPED = """
import mmap
data = open(sys.argv[1], "rb").read()
file = os.open(sys.argv[2], os.O_RDWR | os.O_CREAT | os.O_EXCL)
os.ftruncate(file, len(data))
with mmap.mmap(file, len(data)) as mapped:
    mapped[:] = data
    mapped.flush()
os.close(file)
"""

TARFILE = """
with tarfile.open(sys.argv[2], "{mode}") as tar:
    for name in sorted(os.listdir(os.environ["TREE"])):
        tar.add(os.path.join(os.environ["TREE"], name), name)
"""

WEBDATASET = """
import webdataset
with webdataset.TarWriter(sys.argv[2], mtime=1, user="u", group="g", encoder=False) as sink:
    for name in sorted(os.listdir(os.environ["TREE"])):
        key, ending = name.split(".", 1)
        with open(os.path.join(os.environ["TREE"], name), "rb") as file:
            sink.write({"__key__": key, ending: file.read()})
"""

APPEND_STAGED = """
cd "$TREE"
set -- *
tar cf "$DIR/.$NAME.Ab12Cd" "$1"
shift
tar rf "$DIR/.$NAME.Ab12Cd" "$@"
mv "$DIR/.$NAME.Ab12Cd" "$DST"
"""

COPIES = [
    Tool("cp", 'cp "$SRC" "$DST"'),
    Tool("cp into the directory", 'cp "$SRC" "$DIR"'),
    Tool("cp -p", 'cp -p "$SRC" "$DST"', keeps=1),
    Tool("cp -a", 'cp -a "$SRC" "$DST"', keeps=1),
    Tool("cp --reflink=auto", 'cp --reflink=auto "$SRC" "$DST"'),
    Tool("cp --sparse=always", 'cp --sparse=always "$SRC" "$DST"'),
    Tool("cp within the mount", 'cp "$SRC" "$DIR/.$NAME.Ab12Cd" && cp "$DIR/.$NAME.Ab12Cd" "$DST" '
         '&& rm "$DIR/.$NAME.Ab12Cd"', stages=True),
    Tool("cp and mv within the mount", 'cp "$SRC" "$DST.part" && mv "$DST.part" "$DST"'),
    Tool("mv", 'mv "$SRC" "$DST"', moves=True, keeps=1),
    Tool("install", 'install "$SRC" "$DST"'),
    Tool("install -p", 'install -p -m 600 "$SRC" "$DST"', keeps=1),
    Tool("dd", 'dd if="$SRC" of="$DST" bs=1M status=none'),
    Tool("dd conv=fsync", 'dd if="$SRC" of="$DST" bs=1M conv=fsync status=none'),
    Tool("dd oflag=direct", 'dd if="$SRC" of="$DST" bs=1M oflag=direct status=none'),
    Tool("cat >", 'cat "$SRC" >"$DST"'),
    Tool("cat >, of two", '{ head -c 1000000 "$SRC"; tail -c +1000001 "$SRC"; } >"$DST"'),
    Tool("exec 3>", 'exec 3>"$DST"; head -c 1000000 "$SRC" >&3; tail -c +1000001 "$SRC" >&3; '
         "exec 3>&-"),
    Tool("tee", 'tee "$DST" <"$SRC" >/dev/null'),
    Tool("sponge", 'sponge "$DST" <"$SRC"'),
    Tool("gzip -d >", 'gzip -1 <"$SRC" >"$TMP/$NAME.gz" && gzip -dc "$TMP/$NAME.gz" >"$DST"'),
    Tool("zstd -d -o", 'zstd -q -1 "$SRC" -o "$TMP/$NAME.zst" && '
         'zstd -q -d "$TMP/$NAME.zst" -o "$DST"'),
    Tool("rsync", 'rsync "$SRC" "$DST"'),
    Tool("rsync -a", 'rsync -a "$SRC" "$DIR/"', keeps=1),
    Tool("rsync -aP", 'rsync -aP "$SRC" "$DST"', keeps=1),
    Tool("rsync --whole-file", 'rsync --whole-file "$SRC" "$DST"'),
    Tool("rsync --inplace", 'rsync --inplace "$SRC" "$DST"'),
    Tool("rsync -a --delay-updates", 'rsync -a --delay-updates "$SRC" "$DIR/"', keeps=1),
    Tool("rsync -S", 'rsync -S "$SRC" "$DST"'),
    Tool("rsync --preallocate", 'rsync --preallocate "$SRC" "$DST"'),
    Tool("rsync --append", 'rsync --append "$SRC" "$DST"'),
    Tool("rsync -a --temp-dir", 'rsync -a --temp-dir="$TMP" "$SRC" "$DIR/"', keeps=1),
    Tool("rsync -a --partial-dir", 'rsync -a --partial-dir=.~tmp~ "$SRC" "$DIR/"', keeps=1),
    Tool("rsync -a --remove-source-files", 'rsync -a --remove-source-files "$SRC" "$DIR/"',
         moves=True, keeps=1),
    Tool("rsync -a --fsync", 'rsync -a --fsync "$SRC" "$DIR/"', keeps=1),
    Tool("rclone copyto", f'{RCLONE} copyto "$SRC" "$DST"', keeps=1),
    Tool("rclone moveto", f'{RCLONE} moveto "$SRC" "$DST"', moves=True, keeps=1),
    Tool("rclone copy of a directory", f'{RCLONE} copy "$SRC_DIR" "$DIR"', keeps=1),
    Tool("curl", 'curl -fsS -o "$DST" "file://$SRC"'),
    Tool("curl -R", 'curl -fsSR -o "$DST" "$URL"', keeps=1_000_000_000),
    Tool("wget -O", 'wget -q -O "$DST" "$URL"'),
    Tool("wget -P", 'wget -q -P "$DIR" "$URL"', keeps=1_000_000_000),
    Tool("aria2c", 'aria2c -q -d "$DIR" -o "$NAME" "$URL"'),
    Tool("sftp", f'echo put "$SRC" "$DST" | {SFTP}'),
    Tool("sftp put -p", f'echo put -p "$SRC" "$DST" | {SFTP}', keeps=1_000_000_000),
    Tool("gio copy", 'gio copy "$SRC" "$DST"'),
    Tool("gio copy -p", 'gio copy -p "$SRC" "$DIR/"', keeps=1000),
    Tool("gio move", 'gio move "$SRC" "$DST"', moves=True, keeps=1000),
    Tool("gio save", 'gio save "$DST" <"$SRC"'),
    Tool("kioclient5 copy", f'{KIO} copy "$SRC" "$DST"', keeps=1),
    Tool("kioclient5 move", f'{KIO} move "$SRC" "$DST"', moves=True, keeps=1),
    Tool("shutil.copy", python("shutil.copy(sys.argv[1], sys.argv[2])")),
    Tool("shutil.copy2", python("shutil.copy2(sys.argv[1], sys.argv[2])"), keeps=1),
    Tool("shutil.move", python("shutil.move(sys.argv[1], sys.argv[2])"), moves=True, keeps=1),
    Tool("python, as sponge", python(SPONGE)),
    Tool("python, twice from the start", python(REWRITE)),
    Tool("python, backwards", python(BACKWARDS)),
    Tool("python, mapped", python(MAPPED)),
]  # fmt: skip

# These make $DST from $TREE, and the same wherever it is.
WRITERS = [
    Tool("tar cf", 'cd "$TREE" && tar cf "$DST" *'),
    Tool("tar cf -", 'cd "$TREE" && tar cf - * >"$DST"'),
    Tool("tar rf", 'cd "$TREE" && tar rf "$DST" *'),
    Tool("tar rf of a staged one", APPEND_STAGED, stages=True),
    Tool("tarfile w", python(TARFILE.format(mode="w"))),
    Tool("tarfile w|", python(TARFILE.format(mode="w|"))),
    Tool("webdataset.TarWriter", python(WEBDATASET)),
]


class Environment:
    """Where tools run: nothing of the developer's own settings, and an http server of `base`."""

    def __init__(self, base, url):
        self.base = Path(base)
        self.url = url
        self.home = self.base / "tool-home"
        for name in ("tmp", "run"):
            (self.home / name).mkdir(parents=True, exist_ok=True)
        (self.home / "run").chmod(0o700)

    def variables(self, source=None, target=None, tree=None, **more):
        env = {
            "PATH": os.environ["PATH"],
            "LANG": "C.UTF-8",
            "HOME": self.home,
            "XDG_RUNTIME_DIR": self.home / "run",
            "GIO_USE_VFS": "local",
            "QT_QPA_PLATFORM": "offscreen",
            "KDE_FORK_SLAVES": "1",
            "PYTHON": sys.executable,
            "TMP": self.home / "tmp",
        }
        if source:
            url = f"{self.url}/{source.relative_to(self.base)}"
            env |= {"SRC": source, "SRC_DIR": source.parent, "URL": url}
        if target:
            env |= {"DST": target, "DIR": target.parent, "NAME": target.name}
        if tree:
            env["TREE"] = tree
        return {name: str(value) for name, value in (env | more).items()}

    def start(self, script, **what):
        """A process of its own group, to be killed."""
        return subprocess.Popen(
            ["bash", "-euo", "pipefail", "-c", script],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=self.variables(**what),
            start_new_session=True,
        )

    def run(self, script, *, check=True, timeout=SECONDS, **what):
        """(exit code, output) of a script that has ended."""
        process = self.start(script, **what)
        try:
            output, _ = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
        assert not check or process.returncode == 0, (script, process.returncode, output)
        return process.returncode, output


@contextmanager
def environment(base):
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    handler = functools.partial(Quiet, directory=str(base))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield Environment(base, f"http://127.0.0.1:{server.server_port}")
        finally:
            server.shutdown()
            thread.join()

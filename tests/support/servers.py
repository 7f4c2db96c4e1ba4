"""Real servers on loopback for the length of a test: redis-server and MinIO.

Each owns one process, a directory and a free port, and dies with the test, however that ends.
"""

import contextlib
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

from bounded import wait_until

START_SECONDS = 60  # under a sanitizer on a busy machine
STOP_SECONDS = 30
STARTS_MAX = 5  # a port that was free a moment ago may be taken
PORTS_FROM = 15000
PART_BYTES = 8 << 20  # of a multipart upload


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def lasting_port():
    """For a server that stops and starts again: one that the kernel gives to nobody's connection,
    not even to that of a client which tries to reach the server meanwhile."""
    low = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    while True:
        port = random.randrange(PORTS_FROM, low)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def content(seed, size):
    """Random bytes, the same for the same seed."""
    return random.Random(str(seed)).randbytes(size)


class Server:
    """A process with its own directory; subclasses give the command and ask whether it answers."""

    def __init__(self, directory):
        self.directory = Path(directory)
        self.directory.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self.process = None

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.stop()
        shutil.rmtree(self.directory, ignore_errors=True)

    @property
    def pid(self):
        return self.process.pid

    @property
    def log(self):
        return (self.directory / "log").read_text(errors="replace")

    def start(self):
        """Starts it, also again on the same data and port, and returns when it answers."""
        for _ in range(STARTS_MAX):
            self._spawn()
            try:
                wait_until(self._settled, START_SECONDS, f"{self.directory.name} answers")
            except AssertionError:
                self.kill()
                raise AssertionError(f"{self.directory.name}: {self.log}") from None
            if self.process.poll() is None:
                return
            if "in use" not in self.log:
                break
            self.port = free_port()
        raise AssertionError(f"{self.directory.name} ended: {self.log}")

    def _spawn(self):
        with open(self.directory / "log", "wb") as log:
            self.process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", *self.command()],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.directory,
                env={"PATH": os.environ["PATH"], "HOME": str(self.directory)} | self.environment(),
            )

    def _settled(self):
        return self.process.poll() is not None or self.answers()

    def environment(self):
        return {}

    def stop(self):
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.terminate()
            try:
                self.process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self.kill()

    def kill(self):
        self.process.kill()
        self.process.wait(STOP_SECONDS)

    @contextlib.contextmanager
    def paused(self):
        """It keeps its connections and says nothing any more, as behind a dead network."""
        self.process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.process.send_signal(signal.SIGCONT)


class RedisServer(Server):
    """redis-server on TCP and on a Unix socket; its data survives stop() and start()."""

    def __init__(self, directory, *, password=None, settings=()):
        super().__init__(directory)
        self.port = lasting_port()
        self.password = password
        self.settings = settings
        self.socket = self.directory / "redis.sock"

    def command(self):
        command = ["redis-server", "--bind", "127.0.0.1", "--port", str(self.port)]
        command += ["--unixsocket", str(self.socket), "--unixsocketperm", "777"]
        command += ["--dir", str(self.directory), "--save", "", "--appendonly", "yes"]
        command += ["--appendfsync", "no"]
        if self.password:
            command += ["--requirepass", self.password]
        return [*command, *self.settings]

    def answers(self):
        import redis

        with self.client() as client:
            try:
                return client.ping()
            except redis.exceptions.RedisError:
                return False

    def client(self, db=0):
        import redis

        return redis.Redis("127.0.0.1", self.port, db, password=self.password)

    @property
    def url(self):
        secret = f":{self.password}@" if self.password else ""
        return f"redis://{secret}127.0.0.1:{self.port}/0"

    @property
    def unix_url(self):
        return f"unix://{self.socket}?db=0"


class Minio(Server):
    """MinIO with one drive; `s3` is a boto3 client of its root user."""

    USER = "atdatafs-tests"
    PASSWORD = "s3cret-of-the/tests+=%"

    def __init__(self, directory, program):
        super().__init__(directory)
        self.program = program
        self._client = None

    def command(self):
        drive = self.directory / "drive"
        drive.mkdir(exist_ok=True)
        where = ["--address", f"127.0.0.1:{self.port}", "--certs-dir", self.directory / "certs"]
        return [self.program, "server", "--quiet", *where, drive]

    def environment(self):
        return {
            "MINIO_ROOT_USER": self.USER,
            "MINIO_ROOT_PASSWORD": self.PASSWORD,
            "MINIO_BROWSER": "off",
            "MINIO_UPDATE": "off",
            "MINIO_CALLHOME_ENABLE": "off",
            "MINIO_SCANNER_SPEED": "slowest",
        }

    def answers(self):
        import http.client

        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=2)
        try:
            connection.request("GET", "/minio/health/live")
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    @property
    def s3(self):
        import boto3
        from botocore.config import Config

        if self._client is None:
            self._client = boto3.client(
                "s3",
                endpoint_url=self.url,
                region_name="us-east-1",
                aws_access_key_id=self.USER,
                aws_secret_access_key=self.PASSWORD,
                config=Config(s3={"addressing_style": "path"}, max_pool_connections=32),
            )
        return self._client

    def write_env_file(self, path, endpoint=None, **more):
        """The credentials as the library's .env; returns the path."""
        values = {
            "AWS_ENDPOINT": endpoint or self.url,
            "AWS_ACCESS_KEY_ID": self.USER,
            "AWS_SECRET_ACCESS_KEY": self.PASSWORD,
        } | more
        lines = [f"{name}='{value}'\n" for name, value in values.items()]
        path = Path(path)
        path.touch(mode=0o600)
        path.write_text("".join(lines))
        return path

    def make_bucket(self, name):
        self.s3.create_bucket(Bucket=name)
        return name

    def make_public(self, bucket):
        """Anybody may read objects (not list)."""
        allow = {
            "Effect": "Allow",
            "Principal": {"AWS": ["*"]},
            "Action": ["s3:GetObject"],
            "Resource": [f"arn:aws:s3:::{bucket}/*"],
        }
        policy = {"Version": "2012-10-17", "Statement": [allow]}
        self.s3.put_bucket_policy(Bucket=bucket, Policy=json.dumps(policy))

    def put(self, bucket, key, data):
        return self.s3.put_object(Bucket=bucket, Key=key, Body=data)["ETag"]

    def put_repeated(self, bucket, key, size, seed=0):
        """A large object of one random part again and again; returns the part."""
        part = content(f"part {seed}", PART_BYTES)
        assert size % PART_BYTES == 0
        where = {"Bucket": bucket, "Key": key}
        upload = {**where, "UploadId": self.s3.create_multipart_upload(**where)["UploadId"]}
        parts = []
        for number in range(1, size // PART_BYTES + 1):
            done = self.s3.upload_part(**upload, PartNumber=number, Body=part)
            parts.append({"PartNumber": number, "ETag": done["ETag"]})
        self.s3.complete_multipart_upload(**upload, MultipartUpload={"Parts": parts})
        return part

    def presign(self, bucket, key, seconds=3600):
        params = {"Bucket": bucket, "Key": key}
        return self.s3.generate_presigned_url("get_object", Params=params, ExpiresIn=seconds)


def process_seconds(pid):
    """CPU seconds that a process has used, user and system."""
    words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


def wait_gone(pid, seconds=10):
    """The process has ended (or is a zombie that its parent has not asked for yet)."""

    def gone():
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return True
        return state in "ZX"

    began = time.monotonic()
    wait_until(gone, seconds, f"process {pid} has ended")
    return time.monotonic() - began

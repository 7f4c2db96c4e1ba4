"""HTTP/1.1 as the proxy reads and writes it."""

import re
import socket
import struct
import threading
import time
import urllib.parse

HEAD_BYTES_MAX = 65536

CODES = {403: "AccessDenied", 404: "NoSuchKey", 412: "PreconditionFailed", 429: "TooManyRequests"}
CODES |= {500: "InternalError", 503: "SlowDown"}


class Gone(Exception):
    """A peer has closed its connection."""


class Line:
    """A line of so many bytes a second, shared by all connections."""

    def __init__(self, bytes_per_s):
        self.bytes_per_s = bytes_per_s
        self.lock = threading.Lock()
        self.free_at = 0.0

    def take(self, count):
        now = time.monotonic()
        with self.lock:
            # A late wake-up is made good, an idle line is not.
            self.free_at = max(self.free_at, now - 0.01) + count / self.bytes_per_s
            wait = self.free_at - now
        if wait > 0:
            time.sleep(wait)


class Stream:
    """One side: a socket with what was read ahead of its use."""

    def __init__(self, sock):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock = sock
        self.ahead = bytearray()

    def head(self):
        """The start line and headers, without the blank line; None at the end of the stream."""
        while (end := self.ahead.find(b"\r\n\r\n")) < 0:
            if len(self.ahead) > HEAD_BYTES_MAX:
                raise Gone
            more = self.sock.recv(HEAD_BYTES_MAX)
            if not more:
                return None
            self.ahead += more
        head = bytes(self.ahead[:end])
        del self.ahead[: end + 4]
        return Head(head)

    def line(self):
        while (end := self.ahead.find(b"\r\n")) < 0:
            more = self.sock.recv(HEAD_BYTES_MAX)
            if not more:
                raise Gone
            self.ahead += more
        line = bytes(self.ahead[: end + 2])
        del self.ahead[: end + 2]
        return line

    def take_ahead(self, count):
        taken = bytes(self.ahead[:count])
        del self.ahead[:count]
        return taken

    def close(self, reset=False):
        if reset:
            linger = struct.pack("ii", 1, 0)
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.sock.close()


class Head:
    """A start line and headers; names are looked up in any case and kept as they came."""

    def __init__(self, text):
        lines = text.decode("latin-1").split("\r\n")
        self.start = lines[0]
        self.headers = [
            (name, value.strip()) for name, _, value in (x.partition(":") for x in lines[1:])
        ]

    def get(self, name, default=None):
        for have, value in self.headers:
            if have.lower() == name:
                return value
        return default

    def has(self, beginning):
        return any(name.lower().startswith(beginning) for name, _ in self.headers)

    def drop(self, *names):
        self.headers = [pair for pair in self.headers if pair[0].lower() not in names]

    def set(self, name, value):
        self.drop(name.lower())
        self.headers.append((name, value))

    @property
    def status(self):
        return int(self.start.split(" ")[1])

    def encode(self):
        lines = [self.start, *(f"{name}: {value}" for name, value in self.headers)]
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def classify(head):
    """(kind, bucket, key, first, last) of a request."""
    method, target = head.start.split(" ")[:2]
    path, _, query = target.partition("?")
    bucket, _, key = path.removeprefix("/").partition("/")
    names = set(urllib.parse.parse_qs(query, keep_blank_values=True))
    kind = method
    if method == "PUT" and "partNumber" in names:
        kind = "PART"
    elif method == "POST" and "uploads" in names:
        kind = "CREATE"
    elif method == "POST" and "uploadId" in names:
        kind = "COMPLETE"
    elif method == "DELETE" and "uploadId" in names:
        kind = "ABORT"
    elif method == "GET" and not key and "uploads" in names:
        kind = "UPLOADS"
    elif method == "GET" and not key:
        kind = "LIST" if names & {"list-type", "prefix"} else "BUCKET"
    elif method == "GET" and names & {"uploads", "uploadId", "acl", "tagging"}:
        kind = "OTHER"
    first = last = None
    if match := re.fullmatch(r"bytes=(\d+)-(\d+)", head.get("range", "")):
        first, last = int(match[1]), int(match[2])
    return kind, bucket, urllib.parse.unquote(key, errors="surrogateescape"), first, last


def error_body(status, key, code=""):
    code = code or CODES.get(status, "InternalError")
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f"<Error><Code>{code}</Code><Message>as the test wants it</Message>"
        f"<Resource>/{urllib.parse.quote(key, errors='surrogateescape')}</Resource>"
        "<RequestId>0</RequestId></Error>"
    ).encode()

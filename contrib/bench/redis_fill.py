"""Large indexes in Redis for contrib/bench/scale, written and read on a bare connection."""

import json
import re
import socket
import sys

import msgpack

BUCKET = "bench"
SCHEMA_REF = "atdata://local/schema/Row@1.0.0"
SCHEMA = {
    "name": "Row",
    "version": "1.0.0",
    "fields": [
        {
            "name": "x",
            "fieldType": {"$type": "local#primitive", "primitive": "int"},
            "optional": False,
        }
    ],
}
SCAN_COUNT = 1000
RECEIVE_BYTES = 1 << 20


def packed_shards(urls):
    """What a publish records of its shards."""
    record = {"size": 10240, "etag": "0" * 32, "samples": 8, "mtime_ns": 1_700_000_000 * 10**9}
    return {"atdatafs": {"shards": {url: record for url in urls}}}


def entry_fields(cid, name, urls, metadata):
    return {
        "cid": cid,
        "name": name,
        "schema_ref": SCHEMA_REF,
        "data_urls": msgpack.packb(urls),
        "metadata": msgpack.packb(metadata),
    }


def bulk(*words):
    """A command on the wire."""
    parts = [word if isinstance(word, bytes) else str(word).encode() for word in words]
    return b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(p), p) for p in parts)


def dataset_words(number, name):
    """HSET of an entry of one shard; the same number is the same key, whatever it is called."""
    cid = f"bafyrei{number:052d}"
    urls = [f"s3://{BUCKET}/data/{name}/data-000000.tar"]
    fields = entry_fields(cid, name, urls, packed_shards(urls))
    return ["HSET", f"LocalDatasetEntry:{cid}", *(word for pair in fields.items() for word in pair)]


class Wire:
    """A bare connection: what it is told, without a client library's time."""

    def __init__(self, server):
        self.socket = socket.create_connection(("127.0.0.1", server.port))
        self.mark = bulk("ECHO", "that was all")
        self.end = b"$12\r\nthat was all\r\n"

    def send(self, data):
        self.socket.sendall(data + self.mark)

    def receive(self):
        """The replies to what was sent."""
        pieces = bytearray()
        while not pieces.endswith(self.end):
            piece = self.socket.recv(RECEIVE_BYTES)
            if not piece:
                sys.exit("the server hung up")
            pieces += piece
        return bytes(pieces[: -len(self.end)])

    def close(self):
        self.socket.close()


def write(server, count, prefix):
    """The datasets of the numbers below `count`, called so."""
    wire = Wire(server)
    for first in range(0, count, SCAN_COUNT):
        numbers = range(first, min(first + SCAN_COUNT, count))
        wire.send(b"".join(bulk(*dataset_words(i, f"{prefix}-{i:07d}")) for i in numbers))
        wire.receive()
    wire.close()


def fill(server, count):
    client = server.client()
    client.flushdb()
    client.set("LocalSchema:Row@1.0.0", json.dumps(SCHEMA))
    write(server, count, "dataset")


def bare_load(server):
    """Every hash, a SCAN on its way with each batch of HGETALL; the replies are not even parsed."""
    wire = Wire(server)
    cursor, seen = b"0", 0
    batch = b""
    while True:
        wire.send(bulk("SCAN", cursor, "COUNT", SCAN_COUNT) + batch)
        words = wire.receive()
        cursor = words.split(b"\r\n", 3)[2]
        count = int(re.match(rb"\*2\r\n\$\d+\r\n\d+\r\n\*(\d+)\r\n", words)[1])
        keys = words.split(b"\r\n", 4 + 2 * count)[5 : 4 + 2 * count : 2]
        batch = b"".join(bulk("HGETALL", key) for key in keys if key.startswith(b"LocalDataset"))
        seen += len(keys)
        if cursor == b"0":
            break
    wire.send(batch)
    wire.receive()
    wire.close()
    return seen

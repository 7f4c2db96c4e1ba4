"""An index.db made row by row, with the library's own tables, and shards to go with it."""

import base64
import hashlib
import io
import json
import random
import sqlite3
import tarfile
from pathlib import Path

import msgpack

# As the library makes them (ATDATA-FORMATS 2.1).
TABLES = """
CREATE TABLE IF NOT EXISTS dataset_entries (
    cid         TEXT PRIMARY KEY,
    name        TEXT NOT NULL,
    schema_ref  TEXT NOT NULL,
    data_urls   BLOB NOT NULL,
    metadata    BLOB,
    legacy_uuid TEXT,
    created_at  TEXT DEFAULT (datetime('now'))
);
CREATE INDEX IF NOT EXISTS idx_entries_name ON dataset_entries(name);
CREATE TABLE IF NOT EXISTS schemas (
    name        TEXT NOT NULL,
    version     TEXT NOT NULL,
    schema_json TEXT NOT NULL,
    created_at  TEXT DEFAULT (datetime('now')),
    PRIMARY KEY (name, version)
);
CREATE TABLE IF NOT EXISTS labels (
    name        TEXT NOT NULL,
    cid         TEXT NOT NULL,
    version     TEXT NOT NULL DEFAULT '',
    description TEXT,
    created_at  TEXT DEFAULT (datetime('now')),
    PRIMARY KEY (name, version)
);
CREATE INDEX IF NOT EXISTS idx_labels_cid ON labels(cid);
"""

SCHEMA_REF = "atdata://local/schema/Plain@1.0.0"
SCHEMA = {
    "name": "Plain",
    "version": "1.0.0",
    "fields": [
        {
            "name": "n",
            "fieldType": {"$type": "local#primitive", "primitive": "int"},
            "optional": False,
        }
    ],
    "description": None,
    "createdAt": "2026-01-02T03:04:05.678901+00:00",
}


def _cbor_head(major, number):
    for extra, size in ((24, 1), (25, 2), (26, 4), (27, 8)):
        if number < 24:
            return bytes([major << 5 | number])
        if number < 1 << 8 * size:
            return bytes([major << 5 | extra]) + number.to_bytes(size, "big")
    raise ValueError(number)


def _cbor_text(text):
    return _cbor_head(3, len(text.encode())) + text.encode()


def cid_of(schema_ref, urls):
    """The CID of an entry: DAG-CBOR, SHA-256, base32 (ATDATA-FORMATS 3)."""
    content = b"\xa2" + _cbor_text("data_urls") + _cbor_head(4, len(urls))
    content += b"".join(map(_cbor_text, urls)) + _cbor_text("schema_ref") + _cbor_text(schema_ref)
    binary = b"\x01\x71\x12\x20" + hashlib.sha256(content).digest()
    return "b" + base64.b32encode(binary).decode().lower().rstrip("=")


class IndexDb:
    """Each call is a transaction of its own, as in the library. Close it to fold the -wal in."""

    def __init__(self, path, tables=TABLES):
        self.path = Path(path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.db = sqlite3.connect(self.path, isolation_level=None)
        self.db.execute("PRAGMA journal_mode=WAL")
        self.db.executescript(tables)

    @property
    def root(self):
        """The default data root."""
        return self.path.parent / "data"

    def entry(self, name, urls, *, schema_ref=SCHEMA_REF, metadata=None, cid=None):
        cid = cid_of(schema_ref, urls) if cid is None else cid
        packed = None if metadata is None else msgpack.packb(metadata)
        self.row(cid, name, schema_ref, msgpack.packb(urls), packed)
        return cid

    def row(self, cid, name, schema_ref=SCHEMA_REF, data_urls=b"\x90", metadata=None):
        """An entry whatever it holds."""
        self.db.execute(
            "INSERT OR REPLACE INTO dataset_entries (cid, name, schema_ref, data_urls, metadata)"
            " VALUES (?, ?, ?, ?, ?)",
            (cid, name, schema_ref, data_urls, metadata),
        )

    def schema(self, name="Plain", version="1.0.0", record=SCHEMA):
        text = record if isinstance(record, (str, bytes)) else json.dumps(record)
        self.db.execute(
            "INSERT OR REPLACE INTO schemas (name, version, schema_json) VALUES (?, ?, ?)",
            (name, version, text),
        )

    def label(self, name, cid, version="", description=None):
        self.db.execute(
            "INSERT OR REPLACE INTO labels (name, cid, version, description) VALUES (?, ?, ?, ?)",
            (name, cid, version, description),
        )

    def close(self):
        self.db.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def make_shard(path, count=3, bytes_each=100, seed=0):
    """A tar of `count` samples with random contents; returns its path as text."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    numbers = random.Random(f"{path.name} {seed}")
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for i in range(count):
            content = msgpack.packb({"n": i, "filler": numbers.randbytes(bytes_each)})
            member = tarfile.TarInfo(f"{i:08d}.msgpack")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return str(path)

"""What somebody who may write the index could put there, each with what has to come of it."""

import json
import os
import socket
import sqlite3

import msgpack

from index_db import SCHEMA, SCHEMA_REF, make_shard

# Columns without types and constraints hold anything.
TYPELESS_TABLES = """
CREATE TABLE dataset_entries (cid, name, schema_ref, data_urls, metadata, legacy_uuid, created_at);
CREATE TABLE schemas (name, version, schema_json, created_at);
CREATE TABLE labels (name, cid, version, description, created_at);
"""

NO_URLS = b"\x90"

# cid: (name, schema_ref, data_urls, metadata). All of them are reported by their cid.
BAD_ENTRIES = {
    "name-is-int": (5, SCHEMA_REF, NO_URLS, None),
    "name-is-float": (5.5, SCHEMA_REF, NO_URLS, None),
    "name-is-null": (None, SCHEMA_REF, NO_URLS, None),
    "name-is-blob": (b"name", SCHEMA_REF, NO_URLS, None),
    "name-is-too-long": ("n" * 70000, SCHEMA_REF, NO_URLS, None),
    "ref-is-int": ("n", 1, NO_URLS, None),
    "ref-is-too-long": ("n", "r" * 70000, NO_URLS, None),
    "urls-is-text": ("n", SCHEMA_REF, "\x00", None),
    "urls-is-json": ("n", SCHEMA_REF, b'["/x.tar"]', None),
    "urls-is-null": ("n", SCHEMA_REF, None, None),
    "urls-is-int": ("n", SCHEMA_REF, 7, None),
    "urls-is-empty": ("n", SCHEMA_REF, b"", None),
    "urls-is-str": ("n", SCHEMA_REF, msgpack.packb("/x.tar"), None),
    "urls-is-map": ("n", SCHEMA_REF, msgpack.packb({"a": "b"}), None),
    "urls-is-truncated": ("n", SCHEMA_REF, msgpack.packb(["/x.tar"])[:-1], None),
    "urls-has-more": ("n", SCHEMA_REF, msgpack.packb(["/x.tar"]) + b"\x00", None),
    "urls-of-ints": ("n", SCHEMA_REF, msgpack.packb([1, 2]), None),
    "urls-of-bins": ("n", SCHEMA_REF, msgpack.packb([b"/x.tar"]), None),
    "urls-of-bad-utf8": ("n", SCHEMA_REF, b"\x91\xa2\xff\xfe", None),
    "urls-count-is-huge": ("n", SCHEMA_REF, b"\xdd\xff\xff\xff\xff\xa1x", None),
    "urls-str-is-huge": ("n", SCHEMA_REF, b"\x91\xdb\xff\xff\xff\xffx", None),
    "urls-is-deep": ("n", SCHEMA_REF, b"\x91" * 100000 + b"\x90", None),
    "metadata-is-text": ("n", SCHEMA_REF, NO_URLS, "{}"),
    "metadata-is-int": ("n", SCHEMA_REF, NO_URLS, 1),
    "metadata-is-empty": ("n", SCHEMA_REF, NO_URLS, b""),
    "metadata-is-truncated": ("n", SCHEMA_REF, NO_URLS, b"\x81\xa1"),
    "metadata-has-more": ("n", SCHEMA_REF, NO_URLS, b"\x80\x80"),
    "metadata-count-is-huge": ("n", SCHEMA_REF, NO_URLS, b"\xdf\xff\xff\xff\xff\xa1x\x00"),
    "metadata-is-deep": ("n", SCHEMA_REF, NO_URLS, b"\x81\xa1x" * 5000 + b"\x80"),
    "metadata-of-int-keys": ("n", SCHEMA_REF, NO_URLS, msgpack.packb({1: 2})),
    "metadata-of-bad-utf8": ("n", SCHEMA_REF, NO_URLS, b"\x81\xa1x\xa1\xff"),
}

# A cid that is no text is reported too, by the reason.
BAD_CIDS = {None: "column cid is NULL", 7: "column cid is INTEGER", b"c": "column cid is BLOB"}

# name as bytes: its directory. TAIL are the last 8 characters of the cid.
ODD_NAMES = {
    b"..": "%2E.",
    b".": "%2E",
    b"": "%",
    b"x" * 300: "x" * 246 + "~TAIL",
    b"new\nline": "new%0Aline",
    b"invalid \xff\xfe utf-8": "invalid %FF%FE utf-8",
    b"half a char \xe6\x95": "half a char %E6%95",
    b"a\0b": "a%00b",
    b"/etc/passwd": "%2Fetc%2Fpasswd",
    b"../../etc": "%2E.%2F..%2Fetc",
    b"%2e%2e": "%252e%252e",
    b"%": "%25",
    b"\x1b[2J\x07": "%1B[2J%07",
}

ODD_CIDS = {
    "..": "%2E.",
    "../../x": "%2E.%2F..%2Fx",
    "c" * 300: "c" * 246 + "~" + "c" * 8,
    "": "%",
    "a/b\0c": "a%2Fb%00c",
}

CODE = "import os; os.system('touch {marker}')"

# schema name: its record. "{marker}" is a file that running the code would make.
BAD_SCHEMAS = {
    "NoJson": "{not json",
    "Empty": "",
    "Array": "[]",
    "Trailing": '{"name": "T", "version": "1", "fields": []} x',
    "Bom": '\ufeff{"name": "T", "version": "1", "fields": []}',
    "NoFields": '{"name": "T"}',
    "Deep": "[" * 100000,
    "DeepField": '{"name": "D", "version": "1", "fields": [{"name": "a", "fieldType": '
    + '{"$type": "local#array", "items": ' * 5000
    + "{}"
    + "}" * 5000
    + "}]}",
    "Huge": {**SCHEMA, "description": "x" * (5 << 20)},
}

CODE_SCHEMAS = {
    "ClassName": {**SCHEMA, "name": "X(object):\n    " + CODE + "\nclass Y"},
    "FieldName": {
        **SCHEMA,
        "fields": [{**SCHEMA["fields"][0], "name": "a: int = __import__('os').system('x')\n    b"}],
    },
    "FieldCode": {**SCHEMA, "fields": [{**SCHEMA["fields"][0], "name": CODE}]},
    "Description": {**SCHEMA, "description": '"""\n' + CODE + '\n"""'},
    "Backslash": {**SCHEMA, "description": '\\"""\n' + CODE + "\n#\\"},
    "Encoding": {**SCHEMA, "description": "# -*- coding: utf-7 -*-\n+AAo-" + CODE},
    "Version": {**SCHEMA, "version": '1.0.0"\n' + CODE + '\nx = "'},
    "Dtype": {
        **SCHEMA,
        "fields": [
            {
                "name": "a",
                "fieldType": {"$type": "local#ndarray", "dtype": "float32\n" + CODE},
                "optional": False,
            }
        ],
    },
    "Primitive": {
        **SCHEMA,
        "fields": [
            {
                "name": "a",
                "fieldType": {"$type": "local#primitive", "primitive": CODE},
                "optional": False,
            }
        ],
    },
    "Kind": {
        **SCHEMA,
        "fields": [{"name": "a", "fieldType": {"$type": "local#" + CODE}, "optional": False}],
    },
}

# A brace pattern that stands for more shards than there can be; reported by the entry's cid.
BRACE_BOMBS = {
    "bomb-product": "/x/" + "{0..9}" * 12 + ".tar",
    "bomb-range": "/x/{1..9999999999}.tar",
    "bomb-nested": "/x/" + "{a," * 1000 + "b" + "}" * 1000 + ".tar",
    "bomb-of-bombs": "/x/" + "{1..100}{1..100}{1..100}{1..100}" + ".tar",
}


class World:
    """The data root with its traps, and what lies outside of it."""

    def __init__(self, directory, root):
        self.root = root
        self.outside = directory / "outside"
        self.marker = directory / "marker"  # appears when something of the index is run
        root.mkdir(parents=True)
        make_shard(root / "good.tar")
        make_shard(root / "real" / "inner.tar")
        make_shard(root / "schema.json")
        self.outside.mkdir(parents=True)
        make_shard(self.outside / "secret.tar")
        os.mkfifo(root / "fifo.tar")
        (root / "directory.tar").mkdir()
        (root / "link-out.tar").symlink_to(self.outside / "secret.tar")
        (root / "dir-out").symlink_to(self.outside)
        (root / "relative-out").symlink_to("../../outside")
        (root / "loop.tar").symlink_to("loop.tar")
        (root / "link-in.tar").symlink_to("real/inner.tar")
        (root / "dir-in").symlink_to("real")
        (root / "proc.tar").symlink_to("/proc/self/environ")
        with socket.socket(socket.AF_UNIX) as listener:
            working_directory = os.getcwd()
            os.chdir(root)  # the name of a socket may not be long
            listener.bind("socket.tar")
            os.chdir(working_directory)

    def good_urls(self):
        """URL: the file whose bytes the shard has."""
        root = self.root
        return {
            f"{root}/good.tar": root / "good.tar",
            f"file://{root}/good.tar": root / "good.tar",
            f"{root}/link-in.tar": root / "real" / "inner.tar",
            f"{root}/dir-in/inner.tar": root / "real" / "inner.tar",
            f"{root}/real/../good.tar": root / "good.tar",
        }

    def bad_urls(self):
        """URL: what the reason says."""
        root, outside = self.root, self.outside
        return {
            f"pipe:touch {self.marker}": "never opened or run",
            f"pipe:cat {root}/good.tar": "never opened or run",
            "file:///etc/shadow": "not below a data root",
            "/etc/shadow": "not below a data root",
            "FILE:/etc/shadow": "not below a data root",
            "/dev/zero": "not below a data root",
            "/proc/self/mem": "not below a data root",
            f"{outside}/secret.tar": "not below a data root",
            "data/good.tar": "never opened",
            "good.tar": "never opened",
            "file:good.tar": "never opened",
            "file://otherhost/x.tar": "of another host",
            "gs://bucket/x.tar": "never opened or run",
            "s3://bucket/x.tar": "no credentials",
            "https://localhost/x.tar": "localhost",
            "http://169.254.169.254/x.tar": "link-local",
            "at://did:plc:x/blob/y": "never opened or run",
            "": "empty",
            f"{root}/nul.tar\0.tar": "holds a NUL",
            f"{root}/missing.tar": "does not exist",
            f"{root}/good.tar/x.tar": "does not exist",
            f"{root}/fifo.tar": "a FIFO",
            f"{root}/socket.tar": "a socket",
            f"{root}/directory.tar": "a directory",
            f"{root}/link-out.tar": "leads out of the data root",
            f"{root}/dir-out/secret.tar": "leads out of the data root",
            f"{root}/relative-out/secret.tar": "leads out of the data root",
            f"{root}/../../outside/secret.tar": "leads out of the data root",
            f"{root}/real/../../../outside/secret.tar": "leads out of the data root",
            f"file://{root}/%2e%2e/%2e%2e/outside/secret.tar": "leads out of the data root",
            f"{root}/proc.tar": "leads out of the data root",
            f"{root}/loop.tar": "loop",
            f"{root}/" + "a" * 5000: "too long",
            f"{root}/" + "b/" * 1500 + "x.tar": f"'{root}/b/b/b/",  # cut
        }


def fill(index, world):
    """All of it into an index of TYPELESS_TABLES, around one sound dataset ("sound")."""
    index.schema()
    index.entry("sound", [f"{world.root}/good.tar"], metadata={"sound": True}, cid="sound")
    for cid, row in BAD_ENTRIES.items():
        index.row(cid, *row)
    for place, cid in enumerate(BAD_CIDS):
        index.row(cid, f"bad-cid-{place}")
    for place, name in enumerate(ODD_NAMES):
        index.db.execute(
            "INSERT INTO dataset_entries (cid, name, schema_ref, data_urls)"
            " VALUES (?, CAST(? AS TEXT), ?, ?)",
            (f"bafyodd{place:08d}", name, SCHEMA_REF, NO_URLS),
        )
    for place, cid in enumerate(ODD_CIDS):
        index.entry(f"odd-cid-{place}", [], cid=cid)
    for place, url in enumerate([*world.good_urls(), *world.bad_urls()]):
        index.entry(f"url-{place}", [url], cid=f"url-{place}")
    shared = f"{world.root}/good.tar"
    index.entry("twice", [shared, f"{world.root}/real/../good.tar", shared], cid="twice")
    index.entry("records", [f"{world.root}/schema.json"], cid="records")
    for cid, pattern in BRACE_BOMBS.items():
        index.entry(cid, [pattern], cid=cid)
    for name, record in (BAD_SCHEMAS | CODE_SCHEMAS).items():
        text = record if isinstance(record, str) else json.dumps(record)
        index.schema(name, "1.0.0", text.replace("{marker}", str(world.marker)))
        ref = f"atdata://local/schema/{name}@1.0.0"
        index.entry(f"schema-{name}", [f"{world.root}/good.tar"], schema_ref=ref, cid=f"s-{name}")
    index.schema("IsBlob", "1.0.0", b'{"name": "B", "version": "1", "fields": []}')
    index.label("dangling", "nowhere", "1.0.0")
    index.label("no-version-type", "sound", 5)
    index.label(7, "sound", "1.0.0")
    index.label("../..", "sound", "../../etc")
    for end in ("one", "two"):
        index.label("l" * 300 + end, "sound", "1.0.0")


STRUCTURES = {
    # what: (SQL run on an index with one sound label and schema, tables reported, datasets shown)
    "endless view": (
        "DROP TABLE dataset_entries; CREATE VIEW dataset_entries AS WITH RECURSIVE n(i) AS"
        " (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i AS cid, i AS name, i AS schema_ref,"
        " x'90' AS data_urls, NULL AS metadata, NULL AS created_at FROM n",
        ["dataset_entries"],
        [],
    ),
    "all are views": (
        "DROP TABLE dataset_entries; DROP TABLE labels; DROP TABLE schemas;"
        " CREATE VIEW dataset_entries AS SELECT 1; CREATE VIEW labels AS SELECT 1;"
        " CREATE VIEW schemas AS SELECT 1",
        ["dataset_entries", "labels", "schemas"],
        [],
    ),
    "column is missing": (
        "ALTER TABLE dataset_entries DROP COLUMN metadata",
        ["dataset_entries"],
        [],
    ),
    "label column is missing": (
        "DROP INDEX idx_labels_cid; ALTER TABLE labels DROP COLUMN cid",
        ["labels"],
        ["sound"],
    ),
    "no labels table": ("DROP TABLE labels", [], ["sound"]),
    "no tables": ("DROP TABLE dataset_entries; DROP TABLE labels; DROP TABLE schemas", [], []),
    "triggers": (
        "CREATE TRIGGER t AFTER INSERT ON dataset_entries BEGIN"
        " DELETE FROM dataset_entries; END;"
        " CREATE TRIGGER u BEFORE UPDATE ON labels BEGIN SELECT load_extension('/x'); END",
        [],
        ["sound"],
    ),
    "virtual table": (
        "DROP TABLE dataset_entries; CREATE VIRTUAL TABLE dataset_entries USING"
        " fts5(cid, name, schema_ref, data_urls, metadata, created_at)",
        ["dataset_entries"],
        [],
    ),
    "more columns": ("ALTER TABLE dataset_entries ADD COLUMN sha TEXT", [], ["sound"]),
}


def change_structure(path, sql):
    with sqlite3.connect(path) as db:
        db.executescript(sql)
    db.close()

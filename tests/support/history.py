"""A writer of a random history in Redis, in a process of its own: what the library, this program and
anybody else who may write the index would send. For e2e/test_histories.py.

    python history.py PORT SEED ROOT

For each line of its input, a number, it makes so many writes and says "done". What it has written
hangs on SEED, and on what others write at the same time.
"""

import json
import random
import sys
import time

import msgpack
import redis

from index_db import SCHEMA, cid_of

NAMES = [b"set-%d" % i for i in range(16)] + [
    b"team/mnist",
    b"n\xc3\xa4me",
    b"a@b",
    b"..",
    b".hidden",
    b"",
    b"%",
    b"%41",
    b"a\0b",
    b"new\nline",
    b"bad \xff\xfe utf-8",
    b"n[a]*",
    b"x" * 300,
    b"x" * 300 + b"y",
    b"\xe6\x95\xb0" * 90,
]
# Seldom in use: what was superseded shows, and does not, as they come and go.
SELDOM = [b"seldom-%d" % i for i in range(6)]
ODD_CIDS = [b"..", b"", b"a/b\0c", b"c" * 300, b"c" * 301, b"c" * 250 + b"d" + b"c" * 50, b"\xff"]
VERSIONS = [b"1.0.0", b"1.0.1", b"1.10.0", b"latest", b"../..", b"b@c", b"v" * 260]
SCHEMAS = [b"Plain", b"Other", b"mod.Plain", b"odd/name", b"S" * 300, b"Scalars"]
SCHEMA_VERSIONS = [b"1.0.0", b"1.0.1"]
REFS = [
    b"atdata://local/schema/Plain@1.0.0",
    b"atdata://local/schema/Plain@1.0.1",
    b"atdata://local/sampleSchema/Other@1.0.0",
    b"local://schemas/__main__.Plain@1.0.0",
    b"atdata://local/schema/Nobody@1.0.0",
    b"at://did:plc:x/schema/y",
    b"nonsense",
]
BAD_FIELDS = {
    b"data_urls": [b"", b"\x91", b"\x91\x01", b"\xc0", b"text", b"\x91\xa2\xff\xfe"],
    b"metadata": [b"", b"\x81\xa1", b"\x81\x01\x02", b"\x80\x80"],
}
BAD_SCHEMAS = [b"", b"{not json", b"[]", b'{"name": "T"}']
DATES = [b"2026-01-02T03:04:05+00:00", b"2026-03-02T03:04:05.5+00:00"]
URL_SETS = 60
SHARDS = 4  # that are there: s0.tar ...
EXPIRES_MS = 40
PIPELINED = 40
PAUSE_S = 0.004
AWAY_SECONDS = 60

SCRIPT = """
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[1], 'cid', ARGV[1], 'name', ARGV[2], 'schema_ref', ARGV[3],
           'data_urls', ARGV[4])
redis.call('HSET', KEYS[2], 'cid', ARGV[1], 'name', ARGV[2], 'version', '')
return 1
"""


def entry_key(cid):
    return b"LocalDatasetEntry:" + cid


def label_key(name, version):
    return b"Label:" + name + b"@" + version


class Writer:
    def __init__(self, client, seed, root):
        self.client = client
        self.random = random.Random(seed)
        self.seed = seed
        self.root = root
        self.turn = 0
        self.kinds = {
            self.insert: 12,
            self.insert_at_once: 6,
            self.insert_by_script: 3,
            self.label_before_entry: 4,
            self.label: 10,
            self.label_of_other_fields: 2,
            self.label_of_cut_name: 5,
            self.remove_label: 4,
            self.metadata: 8,
            self.no_metadata: 2,
            self.new_name: 3,
            self.supersede: 3,
            self.remove_entry: 4,
            self.rename_key: 1,
            self.copy_key: 1,
            self.expire: 2,
            self.schema: 6,
            self.append_to_schema: 1,
            self.rename_schema: 1,
            self.remove_schema: 2,
            self.spoil: 3,
            self.other_type: 1,
            self.many_at_once: 1,
            self.move_away: 0.3,
            self.flush: 0.06,
        }

    def write(self, count):
        kinds, weights = list(self.kinds), list(self.kinds.values())
        for _ in range(count):
            self.turn += 1
            until = time.monotonic() + AWAY_SECONDS
            kind = self.random.choices(kinds, weights)[0]
            while True:
                try:
                    kind()
                    break
                except redis.exceptions.ResponseError:
                    break  # a key of another type, or none
                except redis.exceptions.RedisError:
                    assert time.monotonic() < until, "Redis is away"
                    time.sleep(0.02)
            if self.random.random() < 0.4:
                time.sleep(self.random.random() * PAUSE_S)

    # -------- what to write

    def pick(self, choices):
        return self.random.choice(choices)

    def content(self, number):
        """(schema_ref, data_urls): one of few, so that it is often there."""
        urls = [f"/nowhere/u{number}.tar"]
        if number % 3 == 0:
            urls = [f"{self.root}/s{number % SHARDS}.tar", *urls]
        return REFS[number % len(REFS)], urls

    def entry_fields(self):
        """(cid, fields)"""
        ref, urls = self.content(self.random.randrange(URL_SETS))
        cid = cid_of(ref.decode(), urls).encode()
        if self.random.random() < 0.1:
            cid = self.pick(ODD_CIDS)
        fields = {"cid": cid, "name": self.name(), "schema_ref": ref}
        fields["data_urls"] = msgpack.packb(urls)
        if self.random.random() < 0.3:
            fields["metadata"] = self.metadata_value()
        return cid, fields

    def metadata_value(self):
        value = {"turn": self.turn, "seed": self.seed, "text": "x" * self.random.randrange(200)}
        if self.turn % 7 == 0:
            value |= {"checksums": {"/x": "0"}, "atdatafs": {"shards": {}}, "nested": {"a": [1, {}]}}
        return msgpack.packb([1, "two"] if self.turn % 31 == 0 else value)

    def label_fields(self, name, cid, version):
        fields = {"cid": cid, "name": name, "version": version}
        if self.random.random() < 0.3:
            fields["created_at"] = self.pick(DATES)
        if self.random.random() < 0.3:
            fields["description"] = f"turn {self.turn} {self.seed}"
        return fields

    def name(self):
        return self.pick(NAMES if self.random.random() < 0.95 else SELDOM)

    def version(self):
        return self.pick(VERSIONS) if self.random.random() < 0.6 else b""

    def schema_key(self):
        return b"LocalSchema:" + self.pick(SCHEMAS) + b"@" + self.pick(SCHEMA_VERSIONS)

    def any_key(self, prefix):
        """One that is there."""
        found = sorted(self.client.scan_iter(prefix + b"*", count=1000))
        return self.pick(found) if found else prefix + b"none@1"

    # -------- entries

    def insert(self):
        """As the library: the entry, then its label, each by itself."""
        cid, fields = self.entry_fields()
        self.client.hset(entry_key(cid), mapping=fields)
        if self.random.random() < 0.6:
            version = self.version()
            key = label_key(fields["name"], version)
            self.client.hset(key, mapping=self.label_fields(fields["name"], cid, version))

    def insert_at_once(self):
        """As this program: all or nothing, and what was there is renamed."""
        cid, fields = self.entry_fields()
        with self.client.pipeline(transaction=True) as pipe:
            old = self.any_key(b"LocalDatasetEntry:")
            if old != entry_key(cid) and self.client.hexists(old, "name"):
                superseded = b"%b@superseded:%b" % (fields["name"], old.partition(b":")[2])
                pipe.hset(old, "name", superseded)
            pipe.delete(entry_key(cid))
            pipe.hset(entry_key(cid), mapping=fields)
            label = self.label_fields(fields["name"], cid, b"")
            pipe.hset(label_key(fields["name"], b""), mapping=label)
            pipe.execute()

    def insert_by_script(self):
        cid, fields = self.entry_fields()
        keys = [entry_key(cid), label_key(fields["name"], b"")]
        values = [cid, fields["name"], fields["schema_ref"], fields["data_urls"]]
        self.client.eval(SCRIPT, len(keys), *keys, *values)

    def label_before_entry(self):
        """They arrive apart, and what one waits for may have come in between."""
        cid, fields = self.entry_fields()
        version = self.version()
        key = label_key(fields["name"], version)
        self.client.hset(key, mapping=self.label_fields(fields["name"], cid, version))
        time.sleep(self.random.random() * PAUSE_S)
        self.client.hset(entry_key(cid), mapping=fields)

    def metadata(self):
        key = self.any_key(b"LocalDatasetEntry:")
        if self.client.hexists(key, "name"):
            self.client.hset(key, "metadata", self.metadata_value())

    def no_metadata(self):
        self.client.hdel(self.any_key(b"LocalDatasetEntry:"), "metadata")

    def new_name(self):
        self.client.hset(self.any_key(b"LocalDatasetEntry:"), "name", self.name())

    def supersede(self):
        key = self.any_key(b"LocalDatasetEntry:")
        end = b"superseded:" + key.partition(b":")[2]
        if self.random.random() < 0.5:
            end = self.pick(VERSIONS)
        self.client.hset(key, "name", self.pick(self.pick([NAMES, SELDOM, SELDOM])) + b"@" + end)

    def remove_entry(self):
        remove = self.client.unlink if self.random.random() < 0.5 else self.client.delete
        remove(self.any_key(b"LocalDatasetEntry:"))

    # -------- labels

    def label(self):
        name, version = self.name(), self.version()
        cid = self.any_key(b"LocalDatasetEntry:").partition(b":")[2]
        if self.random.random() < 0.1:
            cid = self.entry_fields()[0]
        self.client.hset(label_key(name, version), mapping=self.label_fields(name, cid, version))

    def label_of_other_fields(self):
        """One key, which is another label now: a@b, c or a, b@c."""
        cid = self.any_key(b"LocalDatasetEntry:").partition(b":")[2]
        name, version = self.pick([(b"a@b", b"c"), (b"a", b"b@c"), (b"other", b"1")])
        self.client.hset(b"Label:a@b@c", mapping=self.label_fields(name, cid, version))

    def label_of_cut_name(self):
        """Several share a file name, of which one shows."""
        name = self.pick([b"z" * 300, b"z" * 300 + b"y"])
        version = self.pick([b"", b"1.0.0", b"1.0.1"])
        if self.random.random() < 0.4:
            self.client.delete(label_key(name, version))
            return
        ref, urls = self.content(0)
        cid = cid_of(ref.decode(), urls).encode()
        fields = {"cid": cid, "name": "cut", "schema_ref": ref, "data_urls": msgpack.packb(urls)}
        self.client.hset(entry_key(cid), mapping=fields)
        self.client.hset(label_key(name, version), mapping=self.label_fields(name, cid, version))

    def remove_label(self):
        self.client.delete(self.any_key(b"Label:"))

    # -------- schemas

    def schema(self):
        record = dict(SCHEMA)
        record["description"] = f"turn {self.turn}-{self.seed}"
        if self.turn % 5 == 0:
            record["name"] = "Other"
        self.client.set(self.schema_key(), json.dumps(record))

    def append_to_schema(self):
        self.client.append(self.any_key(b"LocalSchema:"), " ")

    def rename_schema(self):
        self.client.rename(self.any_key(b"LocalSchema:"), self.schema_key())

    def remove_schema(self):
        self.client.getdel(self.any_key(b"LocalSchema:"))

    # -------- keys

    def rename_key(self):
        """Onto a key that is there, or one of another kind."""
        prefix = self.pick([b"LocalDatasetEntry:", b"Label:"])
        other = self.pick([entry_key(self.entry_fields()[0]), self.any_key(prefix), b"aside"])
        self.client.rename(self.any_key(prefix), other)

    def copy_key(self):
        target = entry_key(self.entry_fields()[0])
        self.client.copy(self.any_key(b"LocalDatasetEntry:"), target, replace=True)

    def expire(self):
        prefix = self.pick([b"LocalDatasetEntry:", b"Label:", b"LocalSchema:"])
        self.client.pexpire(self.any_key(prefix), EXPIRES_MS)

    def move_away(self):
        self.client.move(self.any_key(b"LocalDatasetEntry:"), 1)

    def spoil(self):
        """A record that is none any more."""
        if self.random.random() < 0.3:
            self.client.set(self.schema_key(), self.pick(BAD_SCHEMAS))
            return
        key = self.any_key(b"LocalDatasetEntry:")
        field = self.pick(list(BAD_FIELDS))
        if self.random.random() < 0.3:
            self.client.hdel(key, field)
        elif self.client.hexists(key, "name"):
            self.client.hset(key, field, self.pick(BAD_FIELDS[field]))

    def other_type(self):
        key = self.pick([self.any_key(b"Label:"), entry_key(self.entry_fields()[0])])
        self.client.delete(key)
        self.client.rpush(key, "no hash")
        if self.random.random() < 0.5:
            self.client.hset(self.schema_key(), "no", "string")

    def many_at_once(self):
        with self.client.pipeline(transaction=False) as pipe:
            for _ in range(PIPELINED):
                cid, fields = self.entry_fields()
                if self.random.random() < 0.3:
                    pipe.delete(entry_key(cid))
                else:
                    pipe.hset(entry_key(cid), mapping=fields)
                    label = self.label_fields(fields["name"], cid, b"1.0.1")
                    pipe.hset(label_key(fields["name"], b"1.0.1"), mapping=label)
            pipe.execute(raise_on_error=False)

    def flush(self):
        if self.random.random() < 0.3:
            self.client.flushall()
        else:
            self.client.flushdb(asynchronous=self.random.random() < 0.5)


def main():
    port, seed, root = int(sys.argv[1]), sys.argv[2], sys.argv[3]
    writer = Writer(redis.Redis("127.0.0.1", port, socket_timeout=AWAY_SECONDS), seed, root)
    for line in sys.stdin:
        writer.write(int(line))
        print("done", flush=True)


if __name__ == "__main__":
    main()

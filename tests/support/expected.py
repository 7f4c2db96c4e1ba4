"""What a mount has to show of an index in Redis, worked out from its keys by DESIGN 2.1 and 2.2 and
nothing of the program's; and what it does show, in the same form.

Both are {path: what is there}: a directory's names, a link's target, a file's contents. Paths and
names are bytes. A dataset's shards are plain paths, of which those in `root` exist.
"""

import codecs
import hashlib
import json
import os
import re

import msgpack
import redis

from index_db import cid_of

FILE_NAME_BYTES = 255
NAME_BYTES_MAX = 65536
TAIL_BYTES = 8
SHOWN_MAX = 1000  # of one difference
RECORDS = [b"entry.json", b"metadata.json"]
NOT_THE_USERS = ("checksums", "atdatafs")
PLACES = [b"datasets", b"labels", b"schemas", b"by-cid"]

codecs.register_error("a-byte-each", lambda error: ("\ufffd", error.start + 1))


def text(raw):
    """As JSON has it."""
    return raw.decode("utf-8", "a-byte-each")


def turn_of(schema):
    """What history.py writes into each description: of a schema.py nothing else is compared."""
    found = re.search(r"turn [0-9-]+", schema.get("description") or "")
    return found and found[0]


# ---------------------------------------------------------------- names


def _pieces(name, first=True):
    """The name as file names have it, in units that are never cut."""
    decoded = name.decode("utf-8", "surrogateescape")
    raws = [char.encode("utf-8", "surrogateescape") for char in decoded]
    at = 0
    for char, raw in zip(decoded, raws):
        bad = "\udc80" <= char <= "\udcff" or char < " " or char in "\x7f/"
        bad = bad or (char == "." and first and at == 0)
        bad = bad or (
            char == "%" and (name == b"%" or re.match(rb"[0-9A-Fa-f]{2}", name[at + 1 : at + 3]))
        )
        yield b"%%%02X" % raw[0] if bad else raw
        at += len(raw)


def file_name(name, cid, suffix=b""):
    """DESIGN 2.1. `cid` tells names apart that are cut."""
    room = FILE_NAME_BYTES - len(suffix)
    whole = b"".join(_pieces(name)) or b"%"
    if len(whole) <= room:
        return whole + suffix
    tail = b"".join(_pieces(cid[-TAIL_BYTES:], first=False))
    room -= 1 + len(tail)
    kept = b""
    for piece in _pieces(name):
        if len(kept + piece) > room:
            break
        kept += piece
    return kept + b"~" + tail + suffix


def _semver(version):
    parts = version.split(b".")
    if len(parts) == 3 and all(re.fullmatch(rb"[0-9]+", part) for part in parts):
        return tuple(map(int, parts))
    return None


# ---------------------------------------------------------------- the keys


def _unpacked(raw, kind):
    """None: it is not of that kind."""
    try:
        value = msgpack.unpackb(raw)
    except Exception:
        return None
    return value if isinstance(value, kind) else None


def _read_keys(client, prefix, command):
    """subject: record, without those of another type."""
    keys = sorted(set(client.scan_iter(prefix + b"*", count=1000)))
    with client.pipeline(transaction=False) as pipe:
        for key in keys:
            pipe.execute_command(command, key)
        records = pipe.execute(raise_on_error=False)
    return {
        key.removeprefix(prefix): record
        for key, record in zip(keys, records)
        if record and not isinstance(record, redis.exceptions.ResponseError)
    }


class Index:
    """The sound records of an index. Nobody may write meanwhile."""

    def __init__(self, client):
        self.entries = self._entries(_read_keys(client, b"LocalDatasetEntry:", "HGETALL"))
        labels = _read_keys(client, b"Label:", "HGETALL")
        self.labels = {}
        for key, fields in labels.items():
            name, version = fields.get(b"name"), fields.get(b"version")
            if None in (name, version, fields.get(b"cid")) or key != name + b"@" + version:
                continue
            self.labels[name, version] = fields
        self.schemas = self._schemas(_read_keys(client, b"LocalSchema:", "GET"))

    @staticmethod
    def _entries(records):
        """Of those that share a file name in by-cid/ there is only the first."""
        taken, entries = set(), {}
        for cid, fields in sorted(records.items()):
            if None in (fields.get(b"name"), fields.get(b"schema_ref")):
                continue
            urls = _unpacked(fields.get(b"data_urls", b""), list)
            metadata = _unpacked(fields.get(b"metadata", b"\x80"), (dict, list))
            if urls is None or not all(isinstance(url, str) for url in urls) or metadata is None:
                continue
            if file_name(cid, cid) in taken:
                continue
            taken.add(file_name(cid, cid))
            entries[cid] = {
                "cid": cid,
                "name": fields[b"name"],
                "schema_ref": fields[b"schema_ref"],
                "data_urls": urls,
                "metadata": metadata,
            }
        return entries

    @staticmethod
    def _schemas(records):
        schemas = {}
        for key, record in records.items():
            try:
                record = json.loads(record)
            except ValueError:
                continue
            name, at, version = key.rpartition(b"@")
            if not at or not isinstance(record, dict) or "fields" not in record:
                continue
            ref = b"atdata://local/schema/" + name.rpartition(b".")[2] + b"@" + version
            stem = file_name(key, hashlib.sha256(key).hexdigest()[:16].encode(), b".json")[:-5]
            schemas[name, version] = (stem, record | {"$ref": text(ref)})
        return schemas

    def schema_of(self, entry):
        """Of those that a reference may mean the one without a module's name."""
        found = re.fullmatch(
            rb"(?:atdata://local/(?:schema|sampleSchema)|local://schemas)/(.*)@([^@]*)",
            entry["schema_ref"],
            re.DOTALL,
        )
        if not found:
            return None
        bare, version = found[1].rpartition(b".")[2], found[2]
        same = [key for key in self.schemas if (key[0].rpartition(b".")[2], key[1]) == (bare, version)]
        return self.schemas[min(same, key=lambda key: (len(key[0]), key[0]))][1] if same else None

    # -------- meaning

    def _live_labels(self, name):
        return {
            version: fields
            for (label, version), fields in self.labels.items()
            if label == name and fields[b"cid"] in self.entries
        }

    def _is_superseded(self, entry):
        name, at, version = entry["name"].rpartition(b"@")
        if not at:
            return False
        if version == b"superseded:" + entry["cid"]:
            used = any(other["name"] == name for other in self.entries.values())
            return used or bool(self._live_labels(name))
        label = self.labels.get((name, version))
        return bool(version and label and label[b"cid"] == entry["cid"])

    def meaning(self, name):
        """(entry, the others' CIDs); None: the name does not show."""
        labels = self._live_labels(name)
        if b"" in labels:
            return self.entries[labels[b""][b"cid"]], []
        if labels:

            def age(version):
                numbers = _semver(version)
                created_at = labels[version].get(b"created_at", b"")
                return created_at, numbers is not None, numbers or (), version

            return self.entries[labels[max(labels, key=age)][b"cid"]], []
        named = sorted(cid for cid, entry in self.entries.items() if entry["name"] == name)
        if not named or (len(named) == 1 and self._is_superseded(self.entries[named[0]])):
            return None
        return self.entries[named[0]], named[1:]

    # -------- files

    def datasets(self):
        """file name: (entry, the others' CIDs)."""
        names = {entry["name"] for entry in self.entries.values()}
        names |= {name for name, _ in self.labels}
        shown = {}
        for name in sorted(names):
            meaning = self.meaning(name)
            if meaning:
                shown.setdefault(file_name(name, meaning[0]["cid"]), meaning)
        return shown

    def links(self):
        links = {}
        for (name, version), fields in sorted(self.labels.items()):
            cid = fields[b"cid"]
            if version and cid in self.entries:
                target = b"../by-cid/" + file_name(cid, cid)
                links.setdefault(file_name(name + b"@" + version, cid), target)
        return links

    def entry_json(self, entry, others, root):
        labels = [
            {
                key.decode(): text(fields[key]) or None
                if key == b"version"
                else text(fields[key])
                for key in (b"name", b"version", b"description", b"created_at")
                if key in fields
            }
            for _, fields in sorted(self.labels.items())
            if fields[b"cid"] == entry["cid"]
        ]
        record = {
            "name": text(entry["name"]),
            "cid": text(entry["cid"]),
            "schema_ref": text(entry["schema_ref"]),
            "data_urls": entry["data_urls"],
            "labels": labels,
            "shards": [
                {"file": _shard_name(url, root), "url": url} for url in entry["data_urls"]
            ],
        }
        content_cid = cid_of(text(entry["schema_ref"]), entry["data_urls"])
        if content_cid.encode() != entry["cid"]:
            record["content_cid"] = content_cid
        if others:
            record["ambiguous"] = [text(cid) for cid in others]
        return record

    def _directory(self, path, entry, others, root):
        schema = self.schema_of(entry)
        metadata = entry["metadata"]
        if isinstance(metadata, dict):
            metadata = {k: v for k, v in metadata.items() if k not in NOT_THE_USERS}
        files = {
            b"entry.json": self.entry_json(entry, others, root),
            b"metadata.json": metadata,
        }
        if schema:
            files |= {b"schema.json": schema, b"schema.py": turn_of(schema)}
            files |= {b"schema.jsonschema": turn_of(schema)}
        shards = [_shard_name(url, root) for url in entry["data_urls"]]
        names = sorted([*files, *(shard.encode() for shard in shards if shard)])
        return {path: names} | {path + b"/" + name: what for name, what in files.items()}

    def files(self, root):
        """All of it."""
        datasets, links = self.datasets(), self.links()
        found = {b"labels": sorted(links), b"datasets": sorted(datasets)}
        found |= {b"labels/" + name: target for name, target in links.items()}
        for name, (entry, others) in datasets.items():
            found |= self._directory(b"datasets/" + name, entry, others, root)
        found[b"by-cid"] = sorted(file_name(cid, cid) for cid in self.entries)
        for cid, entry in self.entries.items():
            found |= self._directory(b"by-cid/" + file_name(cid, cid), entry, [], root)
        schemas = {}
        for stem, record in self.schemas.values():
            schemas |= {stem + b".json": record, stem + b".py": turn_of(record)}
            if len(stem + b".jsonschema") <= 255:
                schemas |= {stem + b".jsonschema": turn_of(record)}
        found[b"schemas"] = sorted(schemas)
        return found | {b"schemas/" + name: what for name, what in schemas.items()}


def _shard_name(url, root):
    return os.path.basename(url) if os.path.isfile(url) and url.startswith(str(root)) else None


# ---------------------------------------------------------------- the mount


def _contents(path):
    size = os.stat(path).st_size
    with open(path, "rb") as file:
        data = file.read()
        assert os.fstat(file.fileno()).st_size == len(data), f"{path} has another size"
    assert size == len(data), f"{path} had another size"
    if path.endswith((b".py", b".jsonschema")):
        return turn_of({"description": data.decode()})
    record = json.loads(data)
    if path.endswith(b"/entry.json"):
        record["shards"] = [{key: s[key] for key in ("file", "url")} for s in record["shards"]]
    return record


def shown(mount_point, listed=None):
    """What `mount_point` shows, as Index.files(); `listed` is called when the names are known."""
    top = os.fsencode(mount_point) + b"/"
    found = {place: sorted(os.listdir(top + place)) for place in PLACES}
    if listed:
        listed(found)
    for name in found[b"labels"]:
        found[b"labels/" + name] = os.readlink(top + b"labels/" + name)
    for name in found[b"schemas"]:
        found[b"schemas/" + name] = _contents(top + b"schemas/" + name)
    for place in (b"datasets", b"by-cid"):
        for name in found[place]:
            directory = place + b"/" + name
            found[directory] = sorted(os.listdir(top + directory))
            for leaf in found[directory]:
                path = directory + b"/" + leaf
                if leaf.endswith((b".json", b".py", b".jsonschema")):
                    found[path] = _contents(top + path)
                else:
                    os.stat(top + path)
    return found


def _brief(value):
    line = repr(value)
    return line if len(line) <= SHOWN_MAX else line[:SHOWN_MAX] + "..."


def difference(wanted, found, most=8):
    """In words; empty: there is none."""
    lines = []
    for path in sorted(wanted.keys() | found.keys()):
        want, have = wanted.get(path), found.get(path)
        if want == have and type(want) is type(have):
            continue
        if isinstance(want, list) and isinstance(have, list) and path.count(b"/") < 2:
            missing, more = sorted(set(want) - set(have)), sorted(set(have) - set(want))
            lines.append(f"{path}: not there {_brief(missing)}, too much {_brief(more)}")
        else:
            if isinstance(want, dict) and isinstance(have, dict):
                same = {key for key in want if key in have and want[key] == have[key]}
                want = {key: value for key, value in want.items() if key not in same}
                have = {key: value for key, value in have.items() if key not in same}
            lines.append(f"{path}:\n   shown  {_brief(have)}\n   wanted {_brief(want)}")
    if len(lines) > most:
        lines[most:] = [f"and {len(lines) - most} more"]
    return "\n".join(lines)

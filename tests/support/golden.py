"""Data written by real releases of the library; see tests/data/golden."""

import base64
import json
import shutil

import msgpack

TAGS = ["v0.2.3b1", "v0.3.2b3", "v0.5.1b1", "v0.7.0b1"]
TAGS_WITH_INDEX = TAGS[1:]


class Golden:
    """One release's data: Redis keys, S3 objects, shards."""

    def __init__(self, directory):
        self.directory = directory
        self.keys = json.loads((directory / "redis.json").read_text())
        self.objects = json.loads((directory / "s3.json").read_text())

    def hashes(self, prefix):
        for key, value in self.keys.items():
            if key.startswith(prefix):
                assert value["type"] == "hash", key
                yield {name: base64.b64decode(text) for name, text in value["fields"].items()}

    def schemas(self):
        for key, value in self.keys.items():
            if key.startswith("LocalSchema:"):
                name, _, version = key.removeprefix("LocalSchema:").rpartition("@")
                yield name, version, base64.b64decode(value["value"])

    def restore_redis(self, client):
        """The keys as they were dumped."""
        for key, value in self.keys.items():
            if value["type"] == "hash":
                fields = {name: base64.b64decode(text) for name, text in value["fields"].items()}
                client.hset(key, mapping=fields)
            else:
                client.set(key, base64.b64decode(value["value"]))

    def restore_s3(self, minio):
        """The objects, in buckets of their own names; returns them with their URLs."""
        have = {bucket["Name"] for bucket in minio.s3.list_buckets()["Buckets"]}
        for item in self.objects:
            if item["bucket"] not in have:
                have.add(minio.make_bucket(item["bucket"]))
            data = (self.directory / "s3" / item["file"]).read_bytes()
            minio.put(item["bucket"], item["key"], data)
        return {f"s3://{item['bucket']}/{item['key']}": item for item in self.objects}

    def unpack_objects(self, root):
        """The S3 objects as files; returns their paths by URL."""
        paths = {}
        for item in self.objects:
            path = root / item["bucket"] / item["key"]
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(self.directory / "s3" / item["file"], path)
            paths[f"s3://{item['bucket']}/{item['key']}"] = path
        return paths

    def fill(self, index, paths=None):
        """The Redis keys as rows, byte for byte; with `paths` the URLs mapped to local files."""
        for entry in self.hashes("LocalDatasetEntry:"):
            data_urls = entry["data_urls"]
            if paths:
                urls = [str(paths.get(url, url)) for url in msgpack.unpackb(data_urls)]
                data_urls = msgpack.packb(urls)
            texts = (entry[field].decode() for field in ("cid", "name", "schema_ref"))
            index.row(*texts, data_urls, entry.get("metadata"))
        for name, version, record in self.schemas():
            index.schema(name, version, record.decode())
        for label in self.hashes("Label:"):
            label = {field: text.decode() for field, text in label.items()}
            index.label(label["name"], label["cid"], label["version"], label.get("description"))

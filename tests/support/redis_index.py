"""An index in Redis, written by tests: the keys of the library, with any contents."""

import json

import msgpack

from index_db import SCHEMA, SCHEMA_REF, cid_of


class RedisIndex:
    """As IndexDb, in the database `db` of a server, which it empties first."""

    def __init__(self, server, db=0):
        self.client = server.client(db)
        self.client.flushdb()

    def entry(self, name, urls, *, schema_ref=SCHEMA_REF, metadata=None, cid=None):
        cid = cid_of(schema_ref, urls) if cid is None else cid
        fields = {
            "cid": cid,
            "name": name,
            "schema_ref": schema_ref,
            "data_urls": msgpack.packb(urls),
        }
        if metadata is not None:
            fields["metadata"] = msgpack.packb(metadata)
        self.hash(f"LocalDatasetEntry:{cid}", fields)
        return cid

    def hash(self, key, fields):
        """A whole hash, whatever was there."""
        with self.client.pipeline() as pipe:
            pipe.delete(key)
            pipe.hset(key, mapping=fields)
            pipe.execute()

    def schema(self, name="Plain", version="1.0.0", record=SCHEMA):
        text = record if isinstance(record, (str, bytes)) else json.dumps(record)
        self.client.set(f"LocalSchema:{name}@{version}", text)

    def label(self, name, cid, version="", description=None):
        fields = {"cid": cid, "name": name, "version": version}
        if description is not None:
            fields["description"] = description
        self.hash(f"Label:{name}@{version}", fields)

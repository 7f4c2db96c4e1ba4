"""Prints as JSON what the real atdata library finds in an index (a path: SQLite; else a Redis URL).

A process of its own, as all that uses the library; for e2e/test_index_writers.py.
"""

import json
import sys

import redis
from atdata.index import Index


def main(place):
    if place.startswith("/"):
        index = Index(provider="sqlite", path=place)
    else:
        index = Index(redis=redis.Redis.from_url(place))
    entries = {
        e.cid: [e.name, e.schema_ref, e.data_urls, e.metadata] for e in index.list_datasets()
    }
    json.dump(
        {
            "entries": entries,
            "labels": sorted([n, c, v or ""] for n, c, v in index.list_labels()),
            "schemas": [s["name"] for s in index.list_schemas()],
            "fields": index.get_schema("atdata://local/schema/Point@1.0.0")["fields"],
            "dataset": index.get_dataset("näme").cid,
            "version": index.get_label("näme", "0.9.0").cid,
            "by name": index.get_entry_by_name("näme@0.9.0").cid,
        },
        sys.stdout,
    )


main(sys.argv[1])

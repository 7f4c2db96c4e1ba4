"""What core/index writes, by itself and before anything else of publishing, the library reads."""

import json
import os
import sqlite3
import sys
from pathlib import Path

from bounded import run

LIST_INDEX = Path(__file__).resolve().parent.parent / "support" / "list_index.py"
CID_1 = "bafyreib3azrylquzdxzz3vpnyk2hvlx2ysu5qbsjqx5emd6sclknlmyyui"
CID_2 = "bafyreiabltrd5zm73pvi7plq25pef3hm7jxhbi3kv4hapegrkfpkqtkbme"
REFERENCE = "atdata://local/schema/Point@1.0.0"
URLS = ["a/b", "c/d"]


def write(place):
    run(os.environ["ATD_WRITE_INDEX"], place)


def check(place):
    seen = json.loads(run(sys.executable, LIST_INDEX, place).stdout)
    assert seen["entries"] == {
        CID_1: ["näme", REFERENCE, URLS, {"k": 1}],
        CID_2: ["näme@0.9.0", REFERENCE, URLS, None],
    }
    assert seen["labels"] == [["näme", CID_2, "0.9.0"], ["näme", CID_1, ""]]
    assert seen["schemas"] == ["Point"]
    assert seen["fields"][0]["name"] == "x"
    assert (seen["version"], seen["by name"]) == (CID_2, CID_2)
    return seen


def script(path):
    with sqlite3.connect(path) as database:
        return database.execute(
            "SELECT sql FROM sqlite_schema WHERE sql NOT NULL ORDER BY name"
        ).fetchall()


def test_a_file_of_ours(tmp_path):
    ours, theirs = str(tmp_path / "new" / "index.db"), str(tmp_path / "index.db")
    write(ours)
    # The default label is the one with the greatest time, among times of one form.
    assert check(ours)["dataset"] == CID_1
    run(sys.executable, "-c", "import sys; from atdata.index import Index; "
        "Index(provider='sqlite', path=sys.argv[1])", theirs)
    assert script(ours) == script(theirs)
    write(theirs)
    assert check(theirs)["dataset"] == CID_1


def test_a_redis_server(redis_server):
    client = redis_server.client()
    client.flushall()
    write(redis_server.url)
    check(redis_server.url)
    client.flushall()

"""Makes the demonstration index and reads all of it back with the real atdata library."""

import csv
import gzip
import hashlib
import os
import sqlite3
import subprocess
import sys
import tempfile
from pathlib import Path

demo, table = sys.argv[1:]
home = tempfile.TemporaryDirectory()
# The library's defaults: HOME/.atdata/index.db and HOME/.atdata/data.
os.environ["HOME"] = home.name
root = Path(home.name).resolve() / ".atdata"
made = subprocess.run([demo, table, root], check=True, text=True, stdout=subprocess.PIPE)
again = subprocess.run([demo, table, root], text=True, stderr=subprocess.PIPE)
assert again.returncode == 1 and "exists already" in again.stderr, again

import atdata  # noqa: E402 (after HOME is set)
import numpy as np  # noqa: E402
from atdata._cid import generate_cid  # noqa: E402

with gzip.open(table, "rt") as text:
    rows = [[int(number) for number in row] for row in csv.reader(text)]
assert len(rows) == 1797


def tables(path):
    """The statements that made a database, without their layout."""
    found = sqlite3.connect(path).execute("SELECT type, name, sql FROM sqlite_master")
    return sorted((*kind_and_name, "".join((sql or "").split())) for *kind_and_name, sql in found)


atdata.Index(provider="sqlite", path=root / "library.db")
assert tables(root / "index.db") == tables(root / "library.db")

index = atdata.Index()
entries = list(index.list_entries())
assert [entry.name for entry in entries] == ["handwritten-digits"], entries
entry = entries[0]
content = {"data_urls": entry.data_urls, "schema_ref": entry.schema_ref}
assert entry.cid == generate_cid(content) == made.stdout.split()[-1]
assert len(entry.data_urls) == 3
assert entry.metadata["license"] == "CC BY 4.0"
assert set(entry.metadata["checksums"]) == set(entry.data_urls)
for url, checksum in entry.metadata["checksums"].items():
    assert Path(url).parent == root / "data" / "handwritten-digits", url
    assert hashlib.sha256(Path(url).read_bytes()).hexdigest() == checksum, url

assert index.get_label("handwritten-digits").cid == entry.cid
assert index.get_label("handwritten-digits", "1.0.0").cid == entry.cid

[schema] = index.list_schemas()
assert schema["name"] == "DigitSample" and schema["version"] == "1.0.0", schema
assert schema["createdAt"] and schema["description"]
sample_type = index.get_schema_type(entry.schema_ref)
assert list(sample_type.__dataclass_fields__) == ["image", "label"]


def check(samples, got_key):
    read = 0
    for row, sample in zip(rows, samples, strict=True):
        assert isinstance(sample.image, np.ndarray) and sample.image.dtype == np.uint8
        assert sample.image.shape == (8, 8)
        assert sample.image.ravel().tolist() == row[:64] and sample.label == row[64], read
        read += 1
    print(f"{got_key}: {read} samples agree")


for name in ("@local/handwritten-digits", "@local/handwritten-digits@1.0.0"):
    dataset = atdata.load_dataset(name, split="train", index=index)
    check(dataset.ordered(batch_size=None), name)
batches = list(
    atdata.load_dataset("@local/handwritten-digits", sample_type, split="train", index=index)
    .ordered(batch_size=599)
)
assert [batch.image.shape for batch in batches] == [(599, 8, 8)] * 3, batches

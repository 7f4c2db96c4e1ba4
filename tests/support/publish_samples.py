#!/usr/bin/env python3
"""Shards for publishing tests: good ones as the real library and webdataset write them, and bad ones.

Every function writes one file and returns its path; the same arguments give the same bytes. The
real classes are asked for only where they are needed, so that a test's process may import this.

    publish_samples.py KIND OUT.tar [--count N] [--size BYTES] [--seed N]
"""

import argparse
import io
import json
import tarfile
from pathlib import Path

import numpy as np

MTIME = 1_700_000_000
BLOCK = 512
RECORD = 10240
# Payload of one sample of a large shard; the last one has what is left.
LARGE_SAMPLE = 1 << 20


# ---------------------------------------------------------------- as the real ones write


def _write(path, samples, pax):
    """webdataset's own writer. A time with a fraction makes it write pax headers, as `now` does."""
    import webdataset

    mtime = MTIME + 0.25 if pax else MTIME
    with open(path, "wb") as file, webdataset.TarWriter(file, mtime=mtime) as sink:
        for sample in samples:
            sink.write(sample)
    return Path(path)


def library_shard(path, kind="Scalars", count=20, seed=0, pax=False):
    """Samples of library.py's class `kind`, packed by the library."""
    import library
    import samples

    cls = library.TYPES[kind]
    packed = [cls(**samples.KINDS[kind](seed + i)).packed for i in range(count)]
    return _write(
        path,
        ({"__key__": f"{seed + i:08d}", "msgpack": data} for i, data in enumerate(packed)),
        pax,
    )


def class_shard(path, cls, values, pax=False):
    """Samples of any class of the library's: a dictionary of field values each."""
    packed = [cls(**value).packed for value in values]
    return _write(
        path, ({"__key__": f"{i:08d}", "msgpack": data} for i, data in enumerate(packed)), pax
    )


def plain_webdataset(path, count=20, seed=0, pax=False):
    """Images (bytes that begin as a JPEG does), a JSON text and a class each."""
    random = np.random.default_rng(seed)
    return _write(
        path,
        (
            {
                "__key__": f"{seed + i:08d}",
                "jpg": b"\xff\xd8\xff\xe0" + random.bytes(2000),
                "json": {"number": i, "text": "naïve"},
                "cls": i % 10,
            }
            for i in range(count)
        ),
        pax,
    )


# ---------------------------------------------------------------- by hand


def packed_shard(path, values, member="{:08d}.msgpack"):
    """msgpack of any dictionaries: what the library would not write."""
    import msgpack

    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for i, value in enumerate(values):
            data = value if isinstance(value, bytes) else msgpack.packb(value)
            tar.addfile(_info(member.format(i), len(data)), io.BytesIO(data))
    return Path(path)


def numbers(path, count=20, seed=0):
    """Samples {number: int, text: str}; the smallest good shard there is."""
    return packed_shard(path, [{"number": seed + i, "text": f"no {i}"} for i in range(count)])


def breaks_schema(path, count=20, seed=0, at=None, how="type"):
    """As `numbers`, but sample `at` (the last) has a field of another type, one too many ("extra")
    or one that is missing."""
    values = [{"number": seed + i, "text": f"no {i}"} for i in range(count)]
    bad = values[count - 1 if at is None else at]
    if how == "type":
        bad["number"] = "seven"
    elif how == "extra":
        bad["surprise"] = 1
    else:
        del bad["text"]
    return packed_shard(path, values)


def undecodable(path, count=20, seed=0):
    """The last sample is no msgpack."""
    good = [{"number": seed + i, "text": ""} for i in range(count - 1)]
    return packed_shard(path, [*good, b"\xc1 is never used"])


def _info(name, size):
    info = tarfile.TarInfo(name)
    info.size = size
    info.mtime = MTIME
    info.mode = 0o444
    info.uname = info.gname = "bigdata"
    return info


def empty(path):
    """What the library writes of no samples."""
    Path(path).write_bytes(bytes(RECORD))
    return Path(path)


def not_a_tar(path, size=100_000, seed=0):
    Path(path).write_bytes(np.random.default_rng(seed).bytes(size))
    return Path(path)


def truncated(path, count=20, seed=0, after=10, inside="data"):
    """A killed copy of `numbers`: `after` whole samples, then a cut inside the next one's "header"
    or "data", or with `after` = count no end blocks."""
    whole = numbers(path, count, seed).read_bytes()
    cut = after * 2 * BLOCK
    if after < count:
        cut += 10 if inside == "header" else BLOCK + 10
    Path(path).write_bytes(whole[:cut])
    return Path(path)


def compressed(path, count=20, seed=0):
    """By the path's ending: .gz, .tgz, .bz2, .tbz2, .xz, .txz."""
    import bz2
    import gzip
    import lzma

    whole = numbers(path, count, seed).read_bytes()
    ending = Path(path).suffix
    if ending in (".gz", ".tgz"):
        data = gzip.compress(whole, mtime=MTIME)
    elif ending in (".bz2", ".tbz2"):
        data = bz2.compress(whole)
    else:
        data = lzma.compress(whole)
    Path(path).write_bytes(data)
    return Path(path)


def large(path, size=10 << 20, seed=0, stop_at=None):
    """Samples {number: int, data: bytes} in a tar of exactly `size` bytes (rounded up to a record).

    Disk speed: one random block is reused, and numbered so that no two samples are equal.
    `stop_at`: no more than so many bytes are written, as by a copy that was killed.
    """
    size += -size % RECORD
    block = np.random.default_rng(seed).bytes(LARGE_SAMPLE)
    left = size - 2 * BLOCK
    room = stop_at if stop_at is not None else size
    with open(path, "wb", buffering=1 << 20) as file:
        number = 0
        while left >= 2 * BLOCK and room > 0:
            # bin32 and a number of 9 bytes: the rest of a sample has always the same length.
            payload = min(left - BLOCK, LARGE_SAMPLE)
            if 0 < left - BLOCK - payload < 2 * BLOCK:
                payload -= 2 * BLOCK  # the last sample needs a header and data of its own
            head = b"\x82\xa6number\xcf" + number.to_bytes(8, "big") + b"\xa4data\xc6"
            data = block[: payload - len(head) - 4]
            member = b"".join(
                [
                    _info(f"{number:08d}.msgpack", payload).tobuf(tarfile.USTAR_FORMAT),
                    head,
                    len(data).to_bytes(4, "big"),
                    data,
                ]
            )
            assert len(member) % BLOCK == 0
            file.write(member[:room])
            room -= len(member)
            left -= len(member)
            number += 1
        if room > 0:
            file.write(bytes(min(room, left + 2 * BLOCK)))
    return Path(path)


KINDS = {
    "library": library_shard,
    "pax": lambda path, **how: library_shard(path, pax=True, **how),
    "plain": plain_webdataset,
    "numbers": numbers,
    "breaks_schema": breaks_schema,
    "undecodable": undecodable,
    "truncated": truncated,
    "compressed": compressed,
    "large": large,
    "not_a_tar": not_a_tar,
    "empty": empty,
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("path")
    for name in ("count", "size", "seed"):
        parser.add_argument(f"--{name}", type=int)
    options = vars(parser.parse_args())
    kind, path = options.pop("kind"), options.pop("path")
    written = KINDS[kind](path, **{key: n for key, n in options.items() if n is not None})
    print(json.dumps({"path": str(written), "size": written.stat().st_size}))


if __name__ == "__main__":
    main()

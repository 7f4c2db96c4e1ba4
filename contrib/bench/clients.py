"""What contrib/bench/publish (and scale) compares with, each in a process of its own: boto3, the library, a plain
writer. Prints what it measured as JSON; starting Python and importing are not counted.

    clients.py boto3|library|make|write JSON
"""
import contextlib
import io
import json
import os
import random
import sys
import tarfile
import time
from concurrent.futures import ThreadPoolExecutor

WRITE_BYTES = 256 << 10
IMAGE_BYTES = 110_000


def timed(work):
    cpu, began = time.process_time(), time.perf_counter()
    more = work() or {}
    seconds = time.perf_counter() - began
    return {"seconds": seconds, "cpu": time.process_time() - cpu} | more


def boto3_upload(files, pool, bucket, client):
    """upload_file with its defaults, `pool` files at once; counts what goes out."""
    import boto3
    from botocore.config import Config

    config = Config(s3={"addressing_style": "path"}, max_pool_connections=32)
    s3 = boto3.client("s3", region_name="us-east-1", config=config, **client)
    counts = {"requests": 0, "sent": 0}

    def count(request, **_):
        counts["requests"] += 1
        counts["sent"] += int(request.headers.get("Content-Length") or 0)

    s3.meta.events.register("before-send.s3", count)

    def work():
        with ThreadPoolExecutor(pool) as threads:
            list(threads.map(lambda file: s3.upload_file(file[0], bucket, file[1]), files))

    return timed(work) | counts


def photo():
    import atdata

    @atdata.packable
    class Photo:
        image: bytes
        label: int
        caption: str

    return Photo


def library_insert(path, name, bucket, redis_port, credentials):
    """Index.insert_dataset of one local shard: the library reads, packs and writes every sample."""
    import atdata
    import redis
    from atdata.stores import S3DataStore

    server = redis.Redis("127.0.0.1", redis_port)
    store = S3DataStore(credentials, bucket=bucket)
    index = atdata.Index(redis=server, data_store=store, atmosphere=None)
    dataset = atdata.Dataset[photo()](path)
    return timed(lambda: index.insert_dataset(dataset, name=name) and None)


def inserter(redis_port):
    """insert(name): Index.insert_dataset of a URL that is not read; returns the CID."""
    import atdata
    import redis

    index = atdata.Index(redis=redis.Redis("127.0.0.1", redis_port), atmosphere=None)
    cls = photo()

    def insert(name):
        dataset = atdata.Dataset[cls](f"s3://bench/data/{name}/data-000000.tar")
        return index.insert_dataset(dataset, name=name).cid

    return insert


def make(path, size, seed):
    """A shard of the library's samples, about `size` bytes."""
    cls = photo()
    numbers = random.Random(seed)
    image = min(IMAGE_BYTES, size // 8)
    number = 0
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        while tar.offset + image < size:
            sample = cls(image=numbers.randbytes(image), label=number, caption=f"no {number}")
            info = tarfile.TarInfo(f"{number:08d}.msgpack")
            data = sample.packed
            info.size, info.mtime = len(data), 1_700_000_000
            tar.addfile(info, io.BytesIO(data))
            number += 1
    return {"samples": number}


def write(source, target):
    """Writes as cp does, and times the close by itself."""
    times = {}

    def work():
        with open(source, "rb", buffering=0) as file:
            out = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
            while piece := file.read(WRITE_BYTES):
                while piece:
                    piece = piece[os.write(out, piece) :]
            before = time.perf_counter()
            os.close(out)
            times["close"] = time.perf_counter() - before
        return times

    return timed(work)


if __name__ == "__main__":
    kinds = {"boto3": boto3_upload, "library": library_insert, "make": make, "write": write}
    with contextlib.redirect_stdout(sys.stderr):  # webdataset tells of its shards
        result = kinds[sys.argv[1]](**json.loads(sys.argv[2]))
    print(json.dumps(result))

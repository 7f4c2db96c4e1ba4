"""The S3 store writes to real and to strict endpoints (support/store_writer.c does it)."""

import os
import subprocess

import pytest
from s3_strict import StrictS3, test_itself  # noqa: F401  (collected: the double tests itself)

PART_BYTES = 5 << 20
SIZE = 3 * PART_BYTES + 12345


def made(size):
    return bytes((i * 31 + (i >> 8) * 7) & 0xFF for i in range(size))


def write(endpoint, bucket, guards, user="user", password="password"):
    environment = {
        "PATH": os.environ["PATH"],
        "AWS_ACCESS_KEY_ID": user,
        "AWS_SECRET_ACCESS_KEY": password,
        "ASAN_OPTIONS": os.environ.get("ASAN_OPTIONS", ""),
    }
    run = subprocess.run(
        [os.environ["ATD_STORE_WRITER"], endpoint, bucket, "guards" if guards else "open"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert run.returncode == 0, run.stderr


@pytest.mark.skipif(not os.environ.get("ATD_MINIO"), reason="no MinIO")
def test_minio(minio):
    bucket = minio.make_bucket("store-write")
    write(minio.url, bucket, True, minio.USER, minio.PASSWORD)
    body = minio.s3.get_object(Bucket=bucket, Key="w/parts")["Body"].read()
    assert body == made(SIZE)
    keys = [o["Key"] for o in minio.s3.list_objects_v2(Bucket=bucket)["Contents"]]
    assert keys == ["w/one", "w/parts"]
    for key in ("w/parts", "w/left"):
        left = minio.s3.list_multipart_uploads(Bucket=bucket, Prefix=key)
        assert not left.get("Uploads"), key


@pytest.mark.parametrize(
    "switches, guards",
    [
        ({"r2": True}, True),
        ({"no_checksums": True}, True),
        ({"ignore_if_none_match": True}, False),
        ({"ignore_at_complete": True}, False),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_strict(switches, guards):
    with StrictS3(**switches) as s3:
        bucket = s3.make_bucket("bucket")
        write(s3.url, bucket, guards)
        assert s3.objects[bucket, "w/parts"].data == made(SIZE)
        assert sorted(key for _, key in s3.objects) == ["w/one", "w/parts"]
        assert not s3.uploads
        # Only of the probe's scratch object.
        assert len(s3.overwritten) == (0 if guards else 1)

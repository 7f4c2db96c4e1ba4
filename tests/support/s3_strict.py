"""An S3 endpoint in memory that is as strict, or as careless, as the worst real ones.

    with StrictS3(r2=True) as s3: ... s3.url ... s3.objects["bucket", "key"] ...

r2                     as Cloudflare R2: all parts but the last of one length (checked at Complete),
                       aws-chunked and trailers refused, ETags that are no MD5
ignore_if_none_match   writes over objects whatever was asked; `overwritten` has their keys
ignore_at_complete     the same, but only of CompleteMultipartUpload
no_checksums           refuses x-amz-checksum-* and tells none
region                 refuses what is signed for another, and names it
clock_offset_s         its clock is off by so much, and what is signed for another time is refused

Signatures themselves are not checked. Run as a program it tests itself.
"""

import base64
import calendar
import ctypes
import email.utils
import hashlib
import http.client
import re
import threading
import time
import urllib.parse
import uuid
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from xml.etree import ElementTree
from xml.sax.saxutils import escape

PART_BYTES_MIN = 5 << 20
PARTS_MAX = 10000
PAGE_MAX = 1000
BODY_MAX = 5 << 30
SKEW_SECONDS = 900
TABLE = []
for _byte in range(256):
    for _ in range(8):
        _byte = _byte >> 1 ^ (0x82F63B78 if _byte & 1 else 0)
    TABLE.append(_byte)


def _load_isal():
    """ISA-L, which the project links: a thousand times as fast as the loop below."""
    try:
        crc32_iscsi = ctypes.CDLL("libisal.so.2").crc32_iscsi
    except (OSError, AttributeError):
        return None
    crc32_iscsi.argtypes = (ctypes.c_char_p, ctypes.c_int, ctypes.c_uint)
    crc32_iscsi.restype = ctypes.c_uint
    return crc32_iscsi


ISAL = _load_isal()


def crc32c(data):
    if ISAL and len(data) < 1 << 31:
        return ISAL(bytes(data), len(data), 0xFFFFFFFF) ^ 0xFFFFFFFF
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ TABLE[crc & 0xFF ^ byte]
    return crc ^ 0xFFFFFFFF


def crc32c_text(data):
    return base64.b64encode(crc32c(data).to_bytes(4, "big")).decode()


class Refused(Exception):
    def __init__(self, status, code, message="", region=""):
        super().__init__(code)
        self.status, self.code, self.message, self.region = status, code, message, region


@dataclass
class Object:
    data: bytes
    etag: str
    crc32c: str = ""
    meta: dict = field(default_factory=dict)  # x-amz-meta-...: value
    modified: float = field(default_factory=time.time)


@dataclass
class Upload:
    bucket: str
    key: str
    wants_crc32c: bool
    meta: dict = field(default_factory=dict)
    parts: dict = field(default_factory=dict)  # number: (data, etag, crc32c)
    begun: float = field(default_factory=time.time)


def meta_of(headers):
    return {n: value for n, value in headers.items() if n.startswith("x-amz-meta-")}


class StrictS3:
    def __init__(
        self,
        *,
        r2=False,
        ignore_if_none_match=False,
        ignore_at_complete=False,
        no_checksums=False,
        hides_missing=False,
        region="",
        clock_offset_s=0,
    ):
        self.r2 = r2
        self.ignore_if_none_match = ignore_if_none_match
        self.ignore_at_complete = ignore_at_complete or ignore_if_none_match
        self.no_checksums = no_checksums
        self.hides_missing = hides_missing  # S3 without s3:ListBucket
        self.region = region
        self.clock_offset_s = clock_offset_s
        self.refused = 0  # requests, for how they were signed
        self.lock = threading.Lock()
        self.buckets = set()
        self.objects = {}  # (bucket, key): Object
        self.uploads = {}  # id: Upload
        self.overwritten = []
        self.requests = []  # "PUT /bucket/key?query"
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler_of(self))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @property
    def port(self):
        return self._server.server_address[1]

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._server.server_close()

    def make_bucket(self, name):
        self.buckets.add(name)
        return name

    # ---------------------------------------------------------------- what requests do

    def etag(self, data):
        return uuid.uuid4().hex[:24] if self.r2 else hashlib.md5(data).hexdigest()

    def store(self, bucket, key, made, if_none_match, ignore):
        there = (bucket, key) in self.objects
        if there and if_none_match and not ignore:
            raise Refused(412, "PreconditionFailed")
        self.overwritten += [key] * there
        self.objects[bucket, key] = made

    def check_checksum(self, headers, data):
        """What the request says of its body; "" when nothing."""
        if "aws-chunked" in headers.get("content-encoding", "") or "x-amz-trailer" in headers:
            raise Refused(501, "NotImplemented", "aws-chunked")
        if headers.get("x-amz-content-sha256", "").startswith("STREAMING"):
            raise Refused(501, "NotImplemented", "streaming payloads")
        said = headers.get("x-amz-checksum-crc32c", "")
        if said and self.no_checksums:
            raise Refused(501, "NotImplemented", "x-amz-checksum-crc32c")
        if said and said != crc32c_text(data):
            raise Refused(400, "BadDigest")
        digest = headers.get("x-amz-content-sha256", "UNSIGNED-PAYLOAD")
        if digest != "UNSIGNED-PAYLOAD" and digest != hashlib.sha256(data).hexdigest():
            raise Refused(400, "XAmzContentSHA256Mismatch")
        return said

    def upload_of(self, bucket, key, upload_id):
        upload = self.uploads.get(upload_id)
        if not upload or (upload.bucket, upload.key) != (bucket, key):
            raise Refused(404, "NoSuchUpload")
        return upload

    def check_signature(self, headers):
        authorization = headers.get("authorization", "")
        signed = re.search(r"Credential=[^/]+/\d+/([^/]+)/s3/", authorization)
        if self.region and (not signed or signed[1] != self.region):
            self.refused += 1
            raise Refused(400, "AuthorizationHeaderMalformed", region=self.region)
        if self.clock_offset_s:
            when = calendar.timegm(time.strptime(headers.get("x-amz-date", ""), "%Y%m%dT%H%M%SZ"))
            if abs(when - time.time() - self.clock_offset_s) > SKEW_SECONDS:
                self.refused += 1
                raise Refused(403, "RequestTimeTooSkewed")

    def put_object(self, bucket, key, headers, data):
        said = self.check_checksum(headers, data)
        made = Object(data, self.etag(data), said, meta_of(headers))
        guarded = headers.get("if-none-match") == "*"
        self.store(bucket, key, made, guarded, self.ignore_if_none_match)
        return made.etag

    def create_upload(self, bucket, key, headers):
        algorithm = headers.get("x-amz-checksum-algorithm", "")
        if algorithm and self.no_checksums:
            raise Refused(501, "NotImplemented", "x-amz-checksum-algorithm")
        if algorithm not in ("", "CRC32C"):
            raise Refused(400, "InvalidRequest", "only CRC32C")
        upload_id = uuid.uuid4().hex
        self.uploads[upload_id] = Upload(bucket, key, bool(algorithm), meta_of(headers))
        return upload_id

    def put_part(self, bucket, key, query, headers, data):
        upload = self.upload_of(bucket, key, query["uploadId"])
        number = int(query["partNumber"])
        said = self.check_checksum(headers, data)
        if not 1 <= number <= PARTS_MAX:
            raise Refused(400, "InvalidArgument", "partNumber")
        if upload.wants_crc32c and not said:
            raise Refused(400, "InvalidRequest", "the upload was begun with CRC32C")
        etag = self.etag(data)
        upload.parts[number] = (data, etag, said)
        return etag

    def complete(self, bucket, key, query, headers, body):
        upload = self.upload_of(bucket, key, query["uploadId"])
        named = []
        for part in ElementTree.fromstring(body):
            fields = {re.sub("{.*}", "", f.tag): f.text for f in part}
            if fields:
                named.append(fields)
        numbers = [int(fields["PartNumber"]) for fields in named]
        if not numbers or numbers != sorted(set(numbers)):
            raise Refused(400, "InvalidPartOrder")
        parts = []
        for fields in named:
            part = upload.parts.get(int(fields["PartNumber"]))
            if not part or part[1] != fields["ETag"].strip('"'):
                raise Refused(400, "InvalidPart")
            if upload.wants_crc32c and fields.get("ChecksumCRC32C") != part[2]:
                raise Refused(400, "InvalidPart", "ChecksumCRC32C")
            parts.append(part)
        sizes = [len(data) for data, _, _ in parts]
        if any(size < PART_BYTES_MIN for size in sizes[:-1]):
            raise Refused(400, "EntityTooSmall")
        if self.r2 and (len(set(sizes[:-1])) > 1 or sizes[-1] > sizes[0]):
            raise Refused(400, "InvalidPart", "all but the last part must have one length")
        sums = b"".join(base64.b64decode(said) for _, _, said in parts)
        made = Object(
            b"".join(data for data, _, _ in parts),
            f"{self.etag(b'')}-{len(parts)}",
            f"{crc32c_text(sums)}-{len(parts)}" if upload.wants_crc32c else "",
            upload.meta,
        )
        guarded = headers.get("if-none-match") == "*"
        self.store(bucket, key, made, guarded, self.ignore_at_complete)
        del self.uploads[query["uploadId"]]
        return made.etag


def _handler_of(s3):
    class Handler(_Handler):
        store = s3

    return Handler


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "s3_strict"

    def log_message(self, *_):
        pass

    def date_time_string(self, timestamp=None):
        return super().date_time_string((timestamp or time.time()) + self.store.clock_offset_s)

    def do_GET(self):
        self._answer()

    do_HEAD = do_PUT = do_POST = do_DELETE = do_GET

    # ---------------------------------------------------------------- in and out

    def _answer(self):
        self.request_body = b""
        if self.headers.get("Expect", "").lower() == "100-continue":
            self.send_response_only(100)
            self.end_headers()
        length = int(self.headers.get("Content-Length") or 0)
        if length > BODY_MAX or self.headers.get("Transfer-Encoding"):
            self.close_connection = True
            return self._error(Refused(411, "MissingContentLength"))
        self.request_body = self.rfile.read(length)
        path, _, query = self.path.partition("?")
        bucket, _, key = path[1:].partition("/")
        self.query = dict(urllib.parse.parse_qsl(query, keep_blank_values=True))
        self.headers_lower = {name.lower(): value for name, value in self.headers.items()}
        with self.store.lock:
            self.store.requests.append(f"{self.command} {self.path}")
            try:
                reply = self._serve(urllib.parse.unquote(bucket), urllib.parse.unquote(key))
            except Refused as refused:
                reply = None
                why = refused
            except (KeyError, ValueError, ElementTree.ParseError) as error:
                reply = None
                why = Refused(400, "InvalidArgument", repr(error))
        if reply is None:
            self._error(why)
        else:
            self._send(*reply)

    def _error(self, refused):
        body = f"<Error><Code>{refused.code}</Code><Message>{escape(refused.message)}</Message>"
        if refused.region:
            body += f"<Region>{refused.region}</Region>"
        body += "</Error>"
        self._send(refused.status, {}, body.encode())

    def _send(self, status, headers, body=b"", length=None):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if status not in (204, 304):
            self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        if self.command != "HEAD" and status not in (204, 304):
            self.wfile.write(body)

    # ---------------------------------------------------------------- operations

    def _serve(self, bucket, key):
        store, query, headers = self.store, self.query, self.headers_lower
        store.check_signature(headers)
        if not bucket:
            return 200, {}, b"<ListAllMyBucketsResult/>"
        if not key and self.command == "PUT":
            store.buckets.add(bucket)
            return 200, {}
        if bucket not in store.buckets:
            raise Refused(404, "NoSuchBucket")
        if not key:
            return self._of_bucket(bucket)
        if self.command in ("GET", "HEAD"):
            return self._read(bucket, key)
        if self.command == "PUT" and "uploadId" in query:
            etag = store.put_part(bucket, key, query, headers, self.request_body)
            return 200, {"ETag": f'"{etag}"'}
        if self.command == "PUT":
            etag = store.put_object(bucket, key, headers, self.request_body)
            return 200, {"ETag": f'"{etag}"'}
        if self.command == "POST" and "uploads" in query:
            upload_id = store.create_upload(bucket, key, headers)
            name = "InitiateMultipartUploadResult"
            return 200, {}, f"<{name}><UploadId>{upload_id}</UploadId></{name}>".encode()
        if self.command == "POST" and "uploadId" in query:
            etag = store.complete(bucket, key, query, headers, self.request_body)
            name = "CompleteMultipartUploadResult"
            return 200, {}, f'<{name}><ETag>"{etag}"</ETag></{name}>'.encode()
        if self.command == "DELETE" and "uploadId" in query:
            store.upload_of(bucket, key, query["uploadId"])
            del store.uploads[query["uploadId"]]
            return (204, {})
        if self.command == "DELETE":
            store.objects.pop((bucket, key), None)
            return (204, {})
        raise Refused(501, "NotImplemented")

    def _of_bucket(self, bucket):
        if self.command == "HEAD":
            return 200, {}
        if self.command == "GET" and "location" in self.query:
            return 200, {}, b"<LocationConstraint/>"
        if self.command == "GET" and "uploads" in self.query:
            return self._list_uploads(bucket)
        if self.command == "GET":
            return self._list(bucket)
        raise Refused(501, "NotImplemented")

    def _read(self, bucket, key):
        made = self.store.objects.get((bucket, key))
        headers = self.headers_lower
        if not made:
            if self.store.hides_missing:
                raise Refused(403, "AccessDenied")
            raise Refused(404, "NoSuchKey")
        if headers.get("if-match", f'"{made.etag}"') not in (f'"{made.etag}"', "*"):
            raise Refused(412, "PreconditionFailed")
        reply = {
            "ETag": f'"{made.etag}"',
            "Last-Modified": email.utils.formatdate(made.modified, usegmt=True),
            "Accept-Ranges": "bytes",
            "Content-Type": "binary/octet-stream",
            **made.meta,
        }
        if made.crc32c and headers.get("x-amz-checksum-mode") == "ENABLED":
            reply["x-amz-checksum-crc32c"] = made.crc32c
            kind = "COMPOSITE" if "-" in made.crc32c else "FULL_OBJECT"
            reply["x-amz-checksum-type"] = kind
        size = len(made.data)
        wanted = re.fullmatch(r"bytes=(\d*)-(\d*)", headers.get("range", ""))
        if not wanted or not any(wanted.groups()):
            return 200, reply, made.data
        first, last = wanted.groups()
        if not first:
            first, last = max(size - int(last), 0), size - 1
        first, last = int(first), min(int(last or size - 1), size - 1)
        if first > last:
            raise Refused(416, "InvalidRange")
        reply["Content-Range"] = f"bytes {first}-{last}/{size}"
        return 206, reply, made.data[first : last + 1]

    def _key(self, text):
        """As the client wants it spelled."""
        if self.query.get("encoding-type") == "url":
            return urllib.parse.quote_plus(text, safe="/")
        return escape(text)

    def _list(self, bucket):
        query = self.query
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
        token = query.get("continuation-token", "")
        after = base64.urlsafe_b64decode(token).decode() if token else query.get("start-after", "")
        size = min(int(query.get("max-keys") or PAGE_MAX), PAGE_MAX)
        rows, last, more = [], after, False
        for (where, key), made in sorted(self.store.objects.items()):
            if where != bucket or not key.startswith(prefix) or key <= after:
                continue
            end = key.find(delimiter, len(prefix)) if delimiter else -1
            common = key[: end + len(delimiter)] if end >= 0 else ""
            if common and (after.startswith(common) or last.startswith(common)):
                continue
            if len(rows) == size:
                more = True
                break
            last = key
            if common:
                last = common + chr(0x10FFFF)
                row = f"<CommonPrefixes><Prefix>{self._key(common)}</Prefix></CommonPrefixes>"
                rows.append(row)
                continue
            when = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(made.modified))
            rows.append(
                f"<Contents><Key>{self._key(key)}</Key><LastModified>{when}</LastModified>"
                f"<ETag>&quot;{made.etag}&quot;</ETag><Size>{len(made.data)}</Size>"
                "<StorageClass>STANDARD</StorageClass></Contents>"
            )
        head = f"<Name>{bucket}</Name><Prefix>{self._key(prefix)}</Prefix>"
        head += f"<KeyCount>{len(rows)}</KeyCount><MaxKeys>{size}</MaxKeys>"
        if query.get("encoding-type") == "url":
            head += "<EncodingType>url</EncodingType>"
        head += f"<IsTruncated>{'true' if more else 'false'}</IsTruncated>"
        if more:
            token = base64.urlsafe_b64encode(last.encode()).decode()
            head += f"<NextContinuationToken>{token}</NextContinuationToken>"
        body = f"<ListBucketResult>{head}{''.join(rows)}</ListBucketResult>"
        return 200, {"Content-Type": "application/xml"}, body.encode()

    def _list_uploads(self, bucket):
        prefix = self.query.get("prefix", "")
        rows = ""
        for upload_id, upload in self.store.uploads.items():
            if upload.bucket == bucket and upload.key.startswith(prefix):
                rows += f"<Upload><Key>{self._key(upload.key)}</Key>"
                when = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(upload.begun))
                rows += f"<UploadId>{upload_id}</UploadId><Initiated>{when}</Initiated></Upload>"
        encoding = ""
        if self.query.get("encoding-type") == "url":
            encoding = "<EncodingType>url</EncodingType>"
        name = "ListMultipartUploadsResult"
        body = f"<{name}>{encoding}<IsTruncated>false</IsTruncated>{rows}</{name}>"
        return 200, {"Content-Type": "application/xml"}, body.encode()


# -------------------------------------------------------------------- it tests itself


def _ask(s3, method, target, body=b"", **headers):
    connection = http.client.HTTPConnection("127.0.0.1", s3.port, timeout=30)
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request(method, target, body, named)
    reply = connection.getresponse()
    data = reply.read()
    connection.close()
    return reply.status, data.decode(errors="replace"), reply.headers


def _upload(s3, sizes, **complete_headers):
    _, text, _ = _ask(s3, "POST", "/b/k?uploads", x_amz_checksum_algorithm="CRC32C")
    upload_id = re.search("<UploadId>(.*)</UploadId>", text)[1]
    body = ""
    for number, size in enumerate(sizes, 1):
        data = bytes(size)
        where = f"/b/k?partNumber={number}&uploadId={upload_id}"
        said = crc32c_text(data)
        status, _, headers = _ask(s3, "PUT", where, data, x_amz_checksum_crc32c=said)
        assert status == 200
        body += f"<Part><PartNumber>{number}</PartNumber><ETag>{headers['ETag']}</ETag>"
        body += f"<ChecksumCRC32C>{said}</ChecksumCRC32C></Part>"
    body = f"<CompleteMultipartUpload>{body}</CompleteMultipartUpload>".encode()
    return _ask(s3, "POST", f"/b/k?uploadId={upload_id}", body, **complete_headers)


def test_itself():
    assert crc32c(b"123456789") == 0xE3069283
    star = {"If_None_Match": "*"}
    with StrictS3(r2=True) as s3:
        assert _ask(s3, "GET", "/b/k")[0] == 404
        s3.make_bucket("b")
        assert _ask(s3, "PUT", "/b/a%20b", b"hello", **star)[0] == 200
        assert _ask(s3, "PUT", "/b/a%20b", b"again", **star)[0] == 412
        assert s3.objects["b", "a b"].etag != hashlib.md5(b"hello").hexdigest()
        status, text, headers = _ask(s3, "GET", "/b/a%20b", Range="bytes=1-2")
        assert (status, text, headers["Content-Range"]) == (206, "el", "bytes 1-2/5")
        assert _ask(s3, "HEAD", "/b/a%20b")[2]["Content-Length"] == "5"
        assert "<Key>a+b</Key>" in _ask(s3, "GET", "/b?list-type=2&encoding-type=url")[1]
        assert _ask(s3, "PUT", "/b/x", b"x", x_amz_checksum_crc32c="AAAAAA==")[0] == 400
        assert _ask(s3, "PUT", "/b/x", b"x", Content_Encoding="aws-chunked")[0] == 501
        assert _ask(s3, "PUT", "/b/x", b"x", x_amz_trailer="x-amz-checksum-crc32")[0] == 501
        least = PART_BYTES_MIN
        assert "one length" in _upload(s3, [least, least + 1, 5])[1]
        assert "one length" in _upload(s3, [least, least + 1])[1]
        assert "EntityTooSmall" in _upload(s3, [5, least])[1]
        assert len(s3.uploads) == 3
        assert "<Key>k</Key>" in _ask(s3, "GET", "/b?uploads&prefix=k")[1]
        assert _upload(s3, [least, 5], **star)[0] == 200
        assert s3.objects["b", "k"].crc32c.endswith("-2")
        assert _upload(s3, [5], **star)[0] == 412
        for upload_id in list(s3.uploads):
            assert _ask(s3, "DELETE", f"/b/k?uploadId={upload_id}")[0] == 204
            assert _ask(s3, "DELETE", f"/b/k?uploadId={upload_id}")[0] == 404
        assert s3.overwritten == []
        assert _ask(s3, "DELETE", "/b/k")[0] == 204
        assert _ask(s3, "HEAD", "/b/k")[0] == 404
    with StrictS3(ignore_if_none_match=True) as s3:
        s3.make_bucket("b")
        assert _ask(s3, "PUT", "/b/k", b"1", **star)[0] == 200
        assert _ask(s3, "PUT", "/b/k", b"2", **star)[0] == 200
        assert _upload(s3, [5], **star)[0] == 200
        assert s3.overwritten == ["k", "k"]
        for i in range(5):
            _ask(s3, "PUT", f"/b/d/{i}/x", b"")
        text = _ask(s3, "GET", "/b?list-type=2&prefix=d/&delimiter=/&max-keys=3")[1]
        assert text.count("<CommonPrefixes>") == 3 and "<IsTruncated>true" in text
        token = re.search("<NextContinuationToken>(.*)</Next", text)[1]
        where = f"/b?list-type=2&prefix=d/&delimiter=/&continuation-token={token}"
        assert _ask(s3, "GET", where)[1].count("<CommonPrefixes>") == 2
    with StrictS3(no_checksums=True) as s3:
        s3.make_bucket("b")
        refused = _ask(s3, "POST", "/b/k?uploads", x_amz_checksum_algorithm="CRC32C")
        assert refused[0] == 501


if __name__ == "__main__":
    test_itself()

"""What the proxy can be told to do wrong, and what it tells of the requests that it saw."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Rule:
    """Which requests go wrong, and how. Of several rules the first that applies does.

    fault        one of FAULTS, or a tuple of which each request gets one at random
    kinds, key   the requests meant; `key` is a regular expression to be found in the key
    probability  of those, how many
    skip, times  the first `skip` pass, then `times` are hit (None: all)
    at           the byte of the body where it happens; None: anywhere
    seconds      of delay
    status       of the reply of the fault "status"
    code         S3's word for what the faults "status" and "xml200" say (default: that of `status`)
    rate         bytes a second, of the fault "slow"
    header       only requests that have a header which begins so
    """

    fault: str | tuple
    kinds: tuple = ("GET",)
    key: str = ""
    probability: float = 1.0
    skip: int = 0
    times: int | None = None
    at: int | None = 0
    seconds: float = 0.0
    status: int = 503
    code: str = ""
    rate: int = 1 << 20
    header: str = ""


KINDS = {
    "GET": "of an object",
    "HEAD": "of an object or a bucket",
    "LIST": "of objects",
    "BUCKET": "a question about the bucket",
    "UPLOADS": "the list of unfinished uploads",
    "PUT": "a whole object",
    "CREATE": "begins an upload",
    "PART": "of an upload",
    "COMPLETE": "ends an upload",
    "ABORT": "takes an upload back",
    "DELETE": "of an object",
    "OTHER": "what is rarely asked of an object",
}
WRITING = ("PUT", "CREATE", "PART", "COMPLETE", "ABORT", "DELETE")

FAULTS = {
    "delay": "the reply comes `seconds` later",
    "stall": "nothing comes from byte `at` on, until release() or the client closes",
    "close": "the connection ends at byte `at`",
    "reset": "the connection is reset at byte `at`",
    "short": "a well-formed reply, Content-Length included, of `at` bytes less than the range",
    "wrong_range": "Content-Range names another range",
    "no_range": "200 instead of 206, without Content-Range, with the bytes of the range",
    "whole": "200 with the whole object; takes a public bucket",
    "etag": "the ETag of another version",
    "xml200": "an error of S3 with status 200",
    "status": "an error reply with `status` and S3's code for it",
    "garbage": "no HTTP",
    "refuse": "the connection ends without a reply",
    "lost_reply": "the server does what it is asked, and the connection ends without its reply",
    "silent": "the same, and then nothing comes, until release() or the client closes",
    "cut": "the connection is reset at byte `at` of the request's body",
    "deaf": "the request's body is read to byte `at` only, until release()",
    "slow": "the request's body is read at `rate`",
    "blanks": "the reply's body comes after `seconds` of blanks, as that of a slow COMPLETE",
}


@dataclass(frozen=True)
class Request:
    """One request that the proxy saw. `sent`: bytes of the body that went to the client; `taken`:
    how many its own body has; `received`: how many of them came."""

    number: int
    connection: int
    kind: str  # of KINDS; else the method
    bucket: str
    key: str
    first: int | None
    last: int | None  # inclusive
    at: float  # time.monotonic()
    taken: int = 0
    status: int = 0
    sent: int = 0
    received: int = 0
    fault: str = ""

    @property
    def asked(self):
        return None if self.first is None else self.last - self.first + 1


def repeated_bytes(requests):
    """How many bytes of one object were sent more than once."""
    spans = sorted((r.first or 0, (r.first or 0) + r.sent) for r in requests if r.kind == "GET")
    repeated = reached = 0
    for first, end in spans:
        repeated += max(0, min(end, reached) - first)
        reached = max(reached, end)
    return repeated

"""An HTTP/1.1 proxy in front of an S3 server that counts, and misbehaves where it is told to.

It runs in a process of its own (`Proxy` in the test controls it), a thread a connection. The Host
header is passed on as it came: clients sign for the proxy's address, and the server checks the
signature against that header.
"""

import os
import pickle
import random
import re
import select
import socket
import subprocess
import sys
import threading
import time
import traceback
import urllib.parse
from dataclasses import replace
from email.utils import formatdate
from hashlib import md5
from multiprocessing import Pipe
from multiprocessing.connection import Connection

from proxy_rules import FAULTS, Request, Rule
from proxy_wire import Gone, Head, Line, Stream, classify, error_body

PIECE_BYTES = 1 << 20
SHAPED_PIECE_BYTES = 128 << 10
CALL_SECONDS = 30
HELD_SECONDS = 120  # no connection is held longer, whatever the rule says


class Proxy:
    """Starts the proxy; `url` is the endpoint for clients. Its methods call Server's."""

    def __init__(self, upstream_port, *, seed=1):
        ours, theirs = Pipe()
        with theirs:
            self._process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", sys.executable, __file__, str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
            )
        self._pipe = ours
        self._pipe.send((upstream_port, seed))
        self.port = self._receive()
        self.url = f"http://127.0.0.1:{self.port}"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._pipe.close()
        self._process.kill()
        self._process.wait(CALL_SECONDS)

    def _receive(self):
        assert self._pipe.poll(CALL_SECONDS), "the proxy hangs"
        ok, result = pickle.loads(self._pipe.recv_bytes())
        assert ok, result
        return result

    def _call(self, method, *args):
        self._pipe.send((method, args))
        return self._receive()

    def rule(self, fault, **how):
        """Adds a rule; see Rule."""
        names = (fault,) if isinstance(fault, str) else fault
        assert set(names) <= FAULTS.keys(), names
        self._call("add_rule", Rule(fault, **how))

    def behave(self):
        """No rules any more; what they hold goes on."""
        self._call("behave")

    def release(self):
        """What is stalled now goes on; the rules stay."""
        self._call("release")

    def shape(self, latency_s=0.0, bytes_per_s=0, up_bytes_per_s=0):
        """A line of this round trip time and bandwidth, for replies and for the bodies of requests
        (0: whatever it gives)."""
        self._call("shape", latency_s, bytes_per_s, up_bytes_per_s)

    def requests(self, kind=None, key=None):
        """Those since forget(), in order of their arrival."""
        return [
            request
            for request in self._call("requests")
            if kind in (None, request.kind) and key in (None, request.key)
        ]

    def counts(self):
        """The number of requests by kind; a kind without one is missing."""
        counts = {}
        for request in self._call("requests"):
            counts[request.kind] = counts.get(request.kind, 0) + 1
        return counts

    def forget(self):
        self._call("forget")

    def serve(self, bucket, key, data):
        """An object of the proxy's own, for keys that MinIO refuses; signatures are not checked.

        A LIST of that bucket shows only these.
        """
        self._call("serve_object", bucket, key, data)


# ---------------------------------------------------------------- the other process


class Server:
    def __init__(self, upstream_port, seed):
        self.upstream_port = upstream_port
        self.latency_s = 0.0
        self.shaped = None
        self.shaped_up = None
        self.lock = threading.Lock()
        # Guarded by it:
        self.random = random.Random(seed)
        self.rules = []  # [rule, how many matched]
        self.seen = {}
        self.releases = 0
        self.objects = {}
        self.numbers = 0
        self.connections = 0
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=512)

    # -------- calls of the test

    def add_rule(self, rule):
        with self.lock:
            self.rules.append([rule, 0])

    def behave(self):
        with self.lock:
            self.rules.clear()
            self.releases += 1

    def release(self):
        with self.lock:
            self.releases += 1

    def shape(self, latency_s, bytes_per_s, up_bytes_per_s):
        self.latency_s = latency_s
        self.shaped_up = Line(up_bytes_per_s) if up_bytes_per_s else None
        self.shaped = Line(bytes_per_s) if bytes_per_s else None

    def requests(self):
        with self.lock:
            return list(self.seen.values())

    def forget(self):
        with self.lock:
            self.seen.clear()

    def serve_object(self, bucket, key, data):
        with self.lock:
            self.objects[bucket, key] = data

    # -------- for connections

    def own_keys(self, bucket):
        with self.lock:
            return {key: data for (place, key), data in self.objects.items() if place == bucket}

    def note(self, connection, head):
        with self.lock:
            self.numbers += 1
            request = Request(self.numbers, connection, *classify(head), time.monotonic())
            request = replace(request, taken=int(head.get("content-length", 0)))
            self.seen[request.number] = request
            return request

    def update(self, request, *, add_sent=0, add_received=0, **fields):
        """Also while the body is sent: a test may look at a reply that has stalled."""
        with self.lock:
            now = self.seen.get(request.number)
            if now is not None:
                sent, received = now.sent + add_sent, now.received + add_received
                self.seen[request.number] = replace(now, sent=sent, received=received, **fields)

    def decide(self, request, head):
        """The rule that hits this request, with one fault, or None."""
        with self.lock:
            for pair in self.rules:
                rule, matched = pair
                if request.kind not in rule.kinds or not re.search(rule.key, request.key):
                    continue
                if rule.header and not head.has(rule.header):
                    continue
                if rule.probability < 1 and self.random.random() >= rule.probability:
                    continue
                pair[1] += 1
                if matched < rule.skip:
                    continue
                if rule.times is not None and matched >= rule.skip + rule.times:
                    continue
                if isinstance(rule.fault, tuple):
                    rule = replace(rule, fault=self.random.choice(rule.fault))
                return rule
        return None

    def anywhere(self, length):
        with self.lock:
            return self.random.randrange(length) if length else 0

    def serve(self):
        while True:
            sock, _ = self.listener.accept()
            self.connections += 1
            client = Client(self, sock, self.connections)
            threading.Thread(target=client.run, daemon=True).start()


class Client:
    """One connection of a client, with its own one to the server."""

    def __init__(self, server, sock, number):
        self.server = server
        self.number = number
        self.down = Stream(sock)
        self.up = None
        self.pipe = os.pipe()
        for end in self.pipe:
            os.set_blocking(end, True)
        try:
            import fcntl

            fcntl.fcntl(self.pipe[1], fcntl.F_SETPIPE_SZ, PIECE_BYTES)
        except OSError:
            pass  # over the user's limit: smaller pieces

    def run(self):
        try:
            # The round trip of the handshake.
            time.sleep(self.server.latency_s)
            while self.one():
                pass
        except (Gone, ConnectionError, BrokenPipeError):
            pass
        except OSError as error:
            print(f"proxy: {error}", file=sys.stderr)
        except Exception:
            traceback.print_exc()
        finally:
            self.down.close()
            self.drop_up()
            for end in self.pipe:
                os.close(end)

    def drop_up(self):
        if self.up:
            self.up.close()
            self.up = None

    def one(self):
        """Serves one request; false when the connection has ended."""
        head = self.down.head()
        if head is None:
            return False
        request = self.server.note(self.number, head)
        rule = self.server.decide(request, head)
        fault = rule.fault if rule else ""
        if fault:
            self.server.update(request, fault=fault)
        if self.server.latency_s:
            time.sleep(self.server.latency_s)
        if head.get("expect"):
            head.drop("expect")
            self.down.sock.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        if fault == "delay":
            self.hold(rule.seconds)
        elif fault == "refuse":
            return False
        elif fault == "garbage":
            self.down.sock.sendall(b"\x16\x03\x01 this is not HTTP\r\n\r\n")
            return False
        elif fault in ("status", "xml200"):
            self.drain_request(request, head)
            return self.fail(request, rule)
        elif fault == "whole":
            head.drop("range", "authorization", "x-amz-security-token")
        own = self.server.objects.get((request.bucket, request.key))
        if own is not None:
            return self.serve_own(request, head, own)
        if request.kind == "LIST" and (keys := self.server.own_keys(request.bucket)):
            return self.list_own(request, head, keys)
        return self.forward(request, head, rule)

    def fail(self, request, rule):
        status = 200 if rule.fault == "xml200" else rule.status
        body = error_body(500 if status == 200 else status, request.key, rule.code)
        head = Head(f"HTTP/1.1 {status} As Told".encode())
        head.headers = [("Content-Type", "application/xml"), ("Content-Length", str(len(body)))]
        head.set("Date", formatdate(usegmt=True))
        self.server.update(request, status=status)
        self.down.sock.sendall(head.encode() + (b"" if request.kind == "HEAD" else body))
        return True

    def list_own(self, request, head, keys):
        query = urllib.parse.parse_qs(head.start.split(" ")[1].partition("?")[2])
        prefix, after = (query.get(name, [""])[0] for name in ("prefix", "start-after"))
        body = '<?xml version="1.0" encoding="UTF-8"?>\n<ListBucketResult>'
        body += f"<Name>{request.bucket}</Name><EncodingType>url</EncodingType>"
        for key in sorted(keys, key=lambda key: key.encode()):
            if key.startswith(prefix) and key > after:
                data = keys[key]
                body += f"<Contents><Key>{urllib.parse.quote(key, safe='/')}</Key>"
                body += "<LastModified>2023-11-14T22:13:20.000Z</LastModified>"
                body += f"<ETag>&quot;{md5(data).hexdigest()}&quot;</ETag>"
                body += f"<Size>{len(data)}</Size></Contents>"
        body = (body + "<IsTruncated>false</IsTruncated></ListBucketResult>").encode()
        reply = Head(b"HTTP/1.1 200 OK")
        reply.headers = [("Content-Type", "application/xml"), ("Content-Length", str(len(body)))]
        reply.set("Date", formatdate(usegmt=True))
        self.server.update(request, status=200)
        self.down.sock.sendall(reply.encode() + body)
        return True

    def serve_own(self, request, head, data):
        etag = f'"{md5(data).hexdigest()}"'
        reply = Head(b"HTTP/1.1 200 OK")
        if head.get("if-match", etag) not in (etag, etag.strip('"')):
            reply.start, data = "HTTP/1.1 412 Precondition Failed", error_body(412, request.key)
        elif request.first is not None:
            total = len(data)
            data = data[request.first : request.last + 1]
            reply.start = "HTTP/1.1 206 Partial Content"
            end = request.first + len(data) - 1
            reply.set("Content-Range", f"bytes {request.first}-{end}/{total}")
        reply.headers += [("ETag", etag), ("Content-Length", str(len(data)))]
        reply.set("Last-Modified", formatdate(1700000000, usegmt=True))
        reply.set("Date", formatdate(usegmt=True))
        self.server.update(request, status=reply.status)
        if request.kind == "HEAD":
            data = b""
        self.down.sock.sendall(reply.encode() + data)
        self.server.update(request, add_sent=len(data))
        return True

    # -------- passing on

    def drain_request(self, request, head):
        left = int(head.get("content-length", 0))
        more = self.down.take_ahead(left)
        while left:
            self.server.update(request, add_received=len(more))
            left -= len(more)
            if not left:
                break
            more = self.down.sock.recv(min(left, PIECE_BYTES))
            if not more:
                raise Gone

    def connect_up(self):
        address = ("127.0.0.1", self.server.upstream_port)
        self.up = Stream(socket.create_connection(address))

    def pass_body(self, request, rule, length):
        """The request's body, as the rule has it."""
        at = min(length, rule.at or 0) if rule else 0
        if rule is None or rule.fault not in ("cut", "deaf", "slow"):
            self.move(self.down, self.up, length, request, up=True)
        elif rule.fault == "slow":
            self.move(self.down, self.up, length, request, up=True, line=Line(rule.rate))
        else:
            self.move(self.down, self.up, at, request, up=True)
            if rule.fault == "cut":
                self.down.close(reset=True)
                raise Gone
            self.hold(HELD_SECONDS)
            self.move(self.down, self.up, length - at, request, up=True)

    def exchange(self, request, head, rule):
        """Sends the request on and returns the head of the reply."""
        length = int(head.get("content-length", 0))
        for attempt in range(2):
            reused = self.up is not None
            try:
                if not reused:
                    self.connect_up()
                self.up.sock.sendall(head.encode())
                if length:
                    self.pass_body(request, rule, length)
                reply = self.up.head()
                while reply is not None and 100 <= reply.status < 200:
                    reply = self.up.head()
                if reply is not None:
                    return reply
            except (ConnectionError, BrokenPipeError):
                pass
            self.drop_up()
            # The server may have closed an idle connection; a body cannot be sent again.
            if not reused or length or attempt:
                raise Gone

    def forward(self, request, head, rule):
        reply = self.exchange(request, head, rule)
        if rule is not None and rule.fault == "late":
            self.hold(rule.seconds)
        status = reply.status
        if rule is not None and rule.fault in ("lost_reply", "silent"):
            self.server.update(request, status=status)
            if rule.fault == "silent":
                self.hold(HELD_SECONDS)
            return False
        bodiless = request.kind == "HEAD" or status in (204, 304)
        length = reply.get("content-length")
        chunked = reply.get("transfer-encoding", "").lower() == "chunked"
        if bodiless:
            count = 0
        elif length is not None:
            count = int(length)
        elif not chunked:
            raise Gone  # as long as the connection lasts: no S3 server does that
        hit = rule is not None and status < 300 and not chunked
        if hit:
            self.edit(reply, rule)
        self.server.update(request, status=reply.status)
        if hit and rule.fault == "blanks" and not bodiless:
            self.send_late(request, reply, rule, count)
        elif chunked and not bodiless:
            self.down.sock.sendall(reply.encode())
            self.move_chunks(request)
        else:
            at = None
            if hit and rule.fault in ("stall", "close", "reset"):
                at = min(count, rule.at if rule.at is not None else self.server.anywhere(count))
            elif hit and rule.fault == "short" and not bodiless:
                count = self.shorten(reply, rule, count)
            self.down.sock.sendall(reply.encode())
            if not self.body(request, rule, count, at):
                return False
            if hit and rule.fault == "short":
                self.drop_up()  # the rest of the body is still in it
        close = "close" in (head.get("connection", ""), reply.get("connection", ""))
        return not close

    def edit(self, reply, rule):
        if rule.fault == "wrong_range" and reply.get("content-range"):
            numbers = [int(number) for number in re.findall(r"\d+", reply.get("content-range"))]
            shift = rule.at or 4096
            if numbers[0] >= shift:
                shift = -shift
            first, last = numbers[0] + shift, numbers[1] + shift
            reply.set("Content-Range", f"bytes {first}-{last}/{numbers[2]}")
        elif rule.fault == "no_range" and reply.get("content-range"):
            reply.drop("content-range")
            reply.start = "HTTP/1.1 200 OK"
        elif rule.fault == "etag":
            reply.set("ETag", '"0123456789abcdef0123456789abcdef"')

    def shorten(self, reply, rule, count):
        less = rule.at if rule.at is not None else self.server.anywhere(count)
        count -= min(count, max(1, less))
        reply.set("Content-Length", str(count))
        return count

    def send_late(self, request, reply, rule, count):
        """A reply that begins before the server knows how it ends."""
        reply.drop("content-length")
        reply.set("Transfer-Encoding", "chunked")
        self.down.sock.sendall(reply.encode())
        until = time.monotonic() + rule.seconds
        while time.monotonic() < until:
            self.down.sock.sendall(b"1\r\n \r\n")
            self.hold(0.2)
        body = self.up.take_ahead(count)
        while len(body) < count:
            more = self.up.sock.recv(count - len(body))
            if not more:
                raise Gone
            body += more
        # The declaration must stand at the very beginning: a server that sent blanks has none.
        body = b"\n" + re.sub(rb"^<\?xml.*?\?>", b"", body)
        self.down.sock.sendall(b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body))
        self.server.update(request, add_sent=len(body))

    def body(self, request, rule, count, at):
        """Moves the body; false when the connection was ended by a fault."""
        if at is None:
            self.move(self.up, self.down, count, request)
            return True
        self.move(self.up, self.down, at, request)
        if rule.fault == "stall":
            self.hold(HELD_SECONDS)
            self.move(self.up, self.down, count - at, request)
            return True
        self.down.close(reset=rule.fault == "reset")
        raise Gone

    def hold(self, seconds):
        """Waits, for release() at the longest; raises when the client has closed meanwhile."""
        with self.server.lock:
            releases = self.server.releases
        until = time.monotonic() + seconds
        watch = select.poll()
        watch.register(self.down.sock, select.POLLRDHUP)
        while self.server.releases == releases and (left := until - time.monotonic()) > 0:
            if watch.poll(min(20, 1000 * left)):
                raise Gone

    def move(self, source, sink, count, request, *, up=False, line=None):
        """Moves bytes of a body and counts them for `request`; `up`: towards the server."""
        shaped = line or (self.server.shaped_up if up else self.server.shaped)
        ahead = source.take_ahead(count)
        if ahead:
            if shaped:
                shaped.take(len(ahead))
            sink.sock.sendall(ahead)
            self.count(request, len(ahead), up)
            count -= len(ahead)
        piece = SHAPED_PIECE_BYTES if shaped else PIECE_BYTES
        read_end, write_end = self.pipe
        while count:
            moved = os.splice(source.sock.fileno(), write_end, min(count, piece))
            if moved == 0:
                raise Gone
            if shaped:
                shaped.take(moved)
            left = moved
            while left:
                done = os.splice(read_end, sink.sock.fileno(), left)
                self.count(request, done, up)
                left -= done
            count -= moved

    def count(self, request, amount, up):
        if up:
            self.server.update(request, add_received=amount)
        else:
            self.server.update(request, add_sent=amount)

    def move_chunks(self, request):
        while True:
            line = self.up.line()
            size = int(line.split(b";")[0], 16)
            self.down.sock.sendall(line)
            if size:
                self.move(self.up, self.down, size, request)
            trailer = self.up.line()
            self.down.sock.sendall(trailer)
            if not size:
                while trailer != b"\r\n":
                    trailer = self.up.line()
                    self.down.sock.sendall(trailer)
                return


def control(pipe):
    server = Server(*pipe.recv())
    threading.Thread(target=server.serve, daemon=True).start()
    pipe.send_bytes(pickle.dumps((True, server.listener.getsockname()[1])))
    while True:
        try:
            method, args = pipe.recv()
        except EOFError:
            os._exit(0)  # connections may hang in their threads
        try:
            reply = (True, getattr(server, method)(*args))
        except Exception:
            reply = (False, traceback.format_exc())
        pipe.send_bytes(pickle.dumps(reply))


if __name__ == "__main__":
    # The names must be those of the module that the test has imported, for pickle.
    import proxy

    proxy.control(Connection(int(sys.argv[1])))

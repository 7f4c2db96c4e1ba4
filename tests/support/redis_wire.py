"""A TCP proxy in front of a Redis server that loses what it is told to.

    with RedisWire(server.port) as wire: ... redis://127.0.0.1:{wire.port}/0 ...
    wire.lose_reply(b"EVAL")     the next request with these bytes reaches the server, its reply not
    wire.cut_replies_after(100)  of all connections together; then they end
    wire.heal()
"""

import contextlib
import select
import socket
import threading

CHUNK = 1 << 16


class RedisWire:
    def __init__(self, upstream_port):
        self.upstream_port = upstream_port
        self.lock = threading.Lock()
        # Guarded by it:
        self.needle = None
        self.lost = 0
        self.left_bytes = None
        self.refusing = False
        self.open = set()
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port = self.listener.getsockname()[1]

    def __enter__(self):
        threading.Thread(target=self._serve, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.listener.close()
        self.drop()

    def lose_reply(self, needle):
        with self.lock:
            self.needle = needle
            self.lost = 0

    def cut_replies_after(self, count):
        with self.lock:
            self.left_bytes = count

    def refuse(self):
        """No connection any more, until heal()."""
        with self.lock:
            self.refusing = True
        self.drop()

    def heal(self):
        with self.lock:
            self.needle = self.left_bytes = None
            self.refusing = False

    def drop(self):
        with self.lock:
            pairs = list(self.open)
        for pair in pairs:
            for sock in pair:
                with contextlib.suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)

    def _serve(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            with self.lock:
                refusing = self.refusing
            if refusing:
                client.close()
                continue
            threading.Thread(target=self._pass, args=(client,), daemon=True).start()

    def _pass(self, client):
        try:
            server = socket.create_connection(("127.0.0.1", self.upstream_port))
        except OSError:
            client.close()
            return
        pair = (client, server)
        with self.lock:
            self.open.add(pair)
        try:
            self._move(client, server)
        except OSError:
            pass
        finally:
            with self.lock:
                self.open.discard(pair)
            for sock in pair:
                sock.close()

    def _move(self, client, server):
        loses = False
        while True:
            for sock in select.select([client, server], [], [])[0]:
                data = sock.recv(CHUNK)
                if not data:
                    return
                if sock is client:
                    loses = loses or self._takes(data)
                    server.sendall(data)
                elif loses:
                    return  # the server has answered: it is done
                else:
                    passed = self._passes(data)
                    client.sendall(data[:passed])
                    if passed < len(data):
                        return

    def _takes(self, data):
        with self.lock:
            if self.needle is None or self.needle not in data:
                return False
            self.needle = None
            self.lost += 1
            return True

    def _passes(self, data):
        with self.lock:
            if self.left_bytes is None:
                return len(data)
            passed = min(len(data), self.left_bytes)
            self.left_bytes -= passed
            return passed

"""A master, its replicas and the sentinels that watch them, on loopback for the length of a test."""

import contextlib
import socketserver
import threading
from urllib.parse import quote

from bounded import wait_until
from servers import RedisServer, Server

SETTLED_SECONDS = 30  # until all know of each other
FAILOVER_SECONDS = 40
MASTER = "team.master-1"
DOWN_AFTER_MS = 1000


class Node(RedisServer):
    """One that may be a master or a replica; quick to copy."""

    def __init__(self, directory, master=None):
        super().__init__(directory)
        self.settings = ["--repl-diskless-sync-delay", "0", "--repl-timeout", "10"]
        if master:
            self.settings += ["--replicaof", "127.0.0.1", str(master.port)]

    def role(self):
        return self.client().execute_command("ROLE")[0].decode()


class Sentinel(Server):
    def __init__(self, directory, master, quorum, password=None):
        super().__init__(directory)
        self.password = password
        lines = [
            f"port {self.port}",
            "bind 127.0.0.1",
            f"sentinel monitor {MASTER} 127.0.0.1 {master.port} {quorum}",
            f"sentinel down-after-milliseconds {MASTER} {DOWN_AFTER_MS}",
            f"sentinel failover-timeout {MASTER} 5000",
            f"sentinel parallel-syncs {MASTER} 2",
        ]
        if password:
            lines += [f'requirepass "{password}"', f'sentinel sentinel-pass "{password}"']
        (self.directory / "sentinel.conf").write_text("\n".join(lines) + "\n")

    def command(self):
        return ["redis-server", self.directory / "sentinel.conf", "--sentinel"]

    def client(self):
        import redis

        return redis.Redis("127.0.0.1", self.port, password=self.password)

    def answers(self):
        import redis

        with contextlib.suppress(redis.exceptions.RedisError):
            return self.client().ping()
        return False

    def master_port(self):
        return int(self.client().execute_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", MASTER)[1])

    def knows(self, replicas, others):
        state = self.client().sentinel_master(MASTER)
        return state["num-slaves"] == replicas and state["num-other-sentinels"] == others


class Trio:
    """Three nodes, three sentinels. `url` is that of all; `client()` one of the master now."""

    def __init__(self, directory, password=None):
        self.directory = directory
        self.password = password
        self.exits = contextlib.ExitStack()
        self.nodes = []
        self.sentinels = []

    def __enter__(self):
        enter = self.exits.enter_context
        with contextlib.ExitStack() as undo:
            undo.push(self.exits)
            self.nodes.append(enter(Node(self.directory / "node-0")))
            for number in (1, 2):
                self.nodes.append(enter(Node(self.directory / f"node-{number}", self.nodes[0])))
            for number in range(3):
                where = self.directory / f"sentinel-{number}"
                sentinel = Sentinel(where, self.nodes[0], 2, self.password)
                self.sentinels.append(enter(sentinel))
            wait_until(self.is_settled, SETTLED_SECONDS, "the sentinels know everybody")
            undo.pop_all()
        return self

    def __exit__(self, *_):
        for server in self.nodes + self.sentinels:
            if server.process.poll() is None:
                server.process.kill()  # stopped ones too, and none shall take over now
        self.exits.close()

    def is_settled(self):
        links = [node.client().info("replication") for node in self.nodes[1:]]
        return all(link["master_link_status"] == "up" for link in links) and all(
            sentinel.knows(2, 2) for sentinel in self.sentinels
        )

    @property
    def url(self):
        return self.url_of(*self.sentinels)

    def url_of(self, *sentinels, ports=(), **parameters):
        hosts = [f"127.0.0.1:{port}" for port in ports]
        hosts += [f"127.0.0.1:{sentinel.port}" for sentinel in sentinels]
        if self.password:
            parameters["sentinel_password"] = quote(self.password)
        text = "&".join(f"{name}={value}" for name, value in parameters.items())
        return f"redis+sentinel://{','.join(hosts)}/{MASTER}/0" + (f"?{text}" if text else "")

    @property
    def master(self):
        """The node that says that it is one, and that the sentinels name."""
        port = self.sentinels[0].master_port()
        return next(node for node in self.nodes if node.port == port)

    @property
    def replicas(self):
        master = self.master
        return [node for node in self.nodes if node is not master]

    def client(self, db=0):
        return self.master.client(db)

    def wait_failover(self, old):
        """Until all sentinels name another node, and that is the master of one replica again."""

        def is_over():
            ports = {sentinel.master_port() for sentinel in self.sentinels}
            if len(ports) != 1 or old.port in ports:
                return False
            state = self.master.client().info("replication")
            return state["role"] == "master" and state["connected_slaves"] >= 1

        wait_until(is_over, FAILOVER_SECONDS, "another node is the master")


class SaysSo:
    """A sentinel that names whom the test wants: `port` may be changed at any time."""

    def __init__(self, port):
        self.port = port

        class Handler(socketserver.BaseRequestHandler):
            def handle(handler):
                while handler.request.recv(4096):
                    port = str(self.port)
                    reply = f"*2\r\n$9\r\n127.0.0.1\r\n${len(port)}\r\n{port}\r\n"
                    handler.request.sendall(reply.encode())

        self.server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True

    @property
    def url(self):
        return f"redis+sentinel://127.0.0.1:{self.server.server_address[1]}/{MASTER}/0"

    def __enter__(self):
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()

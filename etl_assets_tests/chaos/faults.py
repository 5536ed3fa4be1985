"""Faults between a client and a server: connections that break or hang, an S3 that refuses, fails or is slow."""

import contextlib
import http.client
import random
import select
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from time import monotonic
from typing import Any
from urllib.parse import urlsplit

_BLOCK = 64 * 1024


class PostgresProxy:
    """A TCP port in front of a Unix socket of PostgreSQL, whose connections can be reset and can hang."""

    def __init__(self, socket_path: str) -> None:
        self._socket_path = socket_path
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._sockets: list[socket.socket] = []
        self._reset_after: int | None = None
        self._hang_after: int | None = None
        self._closed = threading.Event()
        self.resets = 0
        self.hangs = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def reset_once_after(self, received: int) -> None:
        """Reset the first connection that has received this many bytes from the server."""
        self._reset_after = received

    def hang_once_after(self, received: int) -> None:
        """Stop forwarding on the first connection that has received this many bytes from the server."""
        self._hang_after = received

    def close(self) -> None:
        self._closed.set()
        for each in (self._listener, *self._sockets):
            each.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.socket(socket.AF_UNIX)
                try:
                    server.connect(self._socket_path)
                except OSError:
                    client.close()
                    continue
                self._sockets += [client, server]
                threading.Thread(target=self._forward, args=(client, server), daemon=True).start()

    def _forward(self, client: socket.socket, server: socket.socket) -> None:
        received = 0
        with contextlib.suppress(OSError), client, server:
            while True:
                for sender in select.select([client, server], [], [])[0]:
                    block = sender.recv(_BLOCK)
                    if not block:
                        return
                    if self._hang_after is not None and received >= self._hang_after:
                        self._hang_after = None
                        self.hangs += 1
                        self._closed.wait()
                        return
                    (server if sender is client else client).sendall(block)
                    received += len(block) if sender is server else 0
                    if self._reset_after is not None and received >= self._reset_after:
                        self._reset_after = None
                        self.resets += 1
                        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                        return


Fault = Callable[["Request"], bool]
"""Answers a request and returns True, or returns False: the request is forwarded."""


class Request(BaseHTTPRequestHandler):
    """A request to S3."""

    protocol_version = "HTTP/1.1"
    server: "S3Proxy"

    def do_GET(self) -> None:
        self._handle()

    def do_PUT(self) -> None:
        self._handle()

    def do_POST(self) -> None:
        self._handle()

    def do_DELETE(self) -> None:
        self._handle()

    def do_HEAD(self) -> None:
        self._handle()

    def _handle(self) -> None:
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        with self.server.lock:
            self.server.requests += 1
        if self.server.fault and self.server.fault(self):
            with self.server.lock:
                self.server.faults += 1
            return
        self.answer(*self.forward())

    def forward(self) -> tuple[int, list[tuple[str, str]], bytes]:
        connection = http.client.HTTPConnection(self.server.target)
        try:
            connection.request(self.command, self.path, self.body, dict(self.headers))
            response = connection.getresponse()
            return response.status, response.getheaders(), response.read()
        finally:
            connection.close()

    def answer(self, status: int, headers: list[tuple[str, str]], body: bytes, sent: int | None = None) -> None:
        self.send_response(status)
        for name, value in headers:
            if name.lower() not in ("content-length", "connection", "transfer-encoding", "server", "date"):
                self.send_header(name, value)
        length = next((value for name, value in headers if name.lower() == "content-length"), str(len(body)))
        self.send_header("Content-Length", length if self.command == "HEAD" else str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body[:sent])

    def refuse(self, status: int, code: str) -> bool:
        body = f"<Error><Code>{code}</Code><Message>{code}, by the test</Message></Error>".encode()
        self.answer(status, [("Content-Type", "application/xml")], body)
        return True

    def reset(self) -> bool:
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True
        self.connection.close()
        return True

    def answer_half(self) -> bool:
        """Forward the request, and reset the connection in the middle of the answer."""
        status, headers, body = self.forward()
        if len(body) < 2:
            return self.reset()
        self.answer(status, headers, body, sent=len(body) // 2)
        self.wfile.flush()
        return self.reset()

    def log_message(self, *_: Any) -> None:
        pass


class S3Proxy(ThreadingHTTPServer):
    """A proxy in front of S3 that injects faults."""

    daemon_threads = True

    def __init__(self, target: str) -> None:
        super().__init__(("127.0.0.1", 0), Request)
        self.target = urlsplit(target).netloc
        self.fault: Fault | None = None
        self.lock = threading.Lock()
        self.requests = 0
        self.faults = 0

    def handle_error(self, *_: Any) -> None:
        """Print nothing: connections are reset on purpose."""


@contextmanager
def s3_proxy(target: str) -> Iterator[S3Proxy]:
    """Serve a proxy in front of S3."""
    with S3Proxy(target) as proxy:
        threading.Thread(target=proxy.serve_forever, daemon=True).start()
        yield proxy
        proxy.shutdown()


def for_seconds(seconds: float, fault: Fault) -> Fault:
    """Return a fault that ends this long after the first request."""
    first: list[float] = []

    def ending(request: Request) -> bool:
        first.append(monotonic())
        return monotonic() < first[0] + seconds and fault(request)

    return ending


def random_faults(seed: int, share: float) -> Fault:
    """Return a fault that fails a share of the requests, in different ways."""
    draw = random.Random(seed)
    lock = threading.Lock()
    faults: list[Fault] = [
        lambda request: request.refuse(500, "InternalError"),
        lambda request: request.refuse(503, "SlowDown"),
        Request.reset,
        Request.answer_half,
    ]

    def fault(request: Request) -> bool:
        with lock:
            drawn = draw.choice(faults) if draw.random() < share else None
        return drawn(request) if drawn else False

    return fault

"""What goes wrong between a client and a server: a wire that is cut or hangs, an S3 that refuses, fails or is slow."""

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
from typing import Any
from urllib.parse import urlsplit

_BLOCK = 64 * 1024


class Wire:
    """A TCP port that leads to a unix socket of PostgreSQL. It can be cut, and it can hang."""

    def __init__(self, socket_path: str) -> None:
        self._socket_path = socket_path
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._ends: list[socket.socket] = []
        self._cut_after: int | None = None
        self._hang_after: int | None = None
        self._closed = threading.Event()
        self.cuts = 0
        self.hangs = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def cut_once_after(self, answered: int) -> None:
        """Cut the connection over which the server has next answered so many bytes."""
        self._cut_after = answered

    def hang_once_after(self, answered: int) -> None:
        """Let nothing more through, and say nothing, where the server has next answered so many bytes."""
        self._hang_after = answered

    def close(self) -> None:
        self._closed.set()
        for end in (self._listener, *self._ends):
            end.close()

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
                self._ends += [client, server]
                threading.Thread(target=self._carry, args=(client, server), daemon=True).start()

    def _carry(self, client: socket.socket, server: socket.socket) -> None:
        answered = 0
        with contextlib.suppress(OSError), client, server:
            while True:
                for end in select.select([client, server], [], [])[0]:
                    block = end.recv(_BLOCK)
                    if not block:
                        return
                    if self._hang_after is not None and answered >= self._hang_after:
                        self._hang_after = None
                        self.hangs += 1
                        self._closed.wait()
                        return
                    (server if end is client else client).sendall(block)
                    answered += len(block) if end is server else 0
                    if self._cut_after is not None and answered >= self._cut_after:
                        self._cut_after = None
                        self.cuts += 1
                        # a reset, not a polite end
                        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                        return


Fault = Callable[["Request"], bool]
"""Answers a request in its own way and gives True, or lets it through."""


class Request(BaseHTTPRequestHandler):
    """A request on its way to S3."""

    protocol_version = "HTTP/1.1"
    server: "Street"

    def do_GET(self) -> None:
        self._pass()

    def do_PUT(self) -> None:
        self._pass()

    def do_POST(self) -> None:
        self._pass()

    def do_DELETE(self) -> None:
        self._pass()

    def do_HEAD(self) -> None:
        self._pass()

    def _pass(self) -> None:
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        with self.server.lock:
            self.server.requests += 1
        if self.server.fault and self.server.fault(self):
            with self.server.lock:
                self.server.faults += 1
            return
        status, headers, body = self.ask()
        self.answer(status, headers, body)

    def ask(self) -> tuple[int, list[tuple[str, str]], bytes]:
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
        body = f"<Error><Code>{code}</Code><Message>{code}, said the test</Message></Error>".encode()
        self.answer(status, [("Content-Type", "application/xml")], body)
        return True

    def reset(self) -> bool:
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True
        self.connection.close()
        return True

    def answer_half(self) -> bool:
        """Do what is asked, and break off in the middle of the answer."""
        status, headers, body = self.ask()
        if len(body) < 2:
            return self.reset()
        self.answer(status, headers, body, sent=len(body) // 2)
        self.wfile.flush()
        return self.reset()

    def log_message(self, *_: Any) -> None:
        pass


class Street(ThreadingHTTPServer):
    """The way to S3, on which a fault may lie in wait."""

    daemon_threads = True

    def __init__(self, target: str) -> None:
        super().__init__(("127.0.0.1", 0), Request)
        self.target = urlsplit(target).netloc
        self.fault: Fault | None = None
        self.lock = threading.Lock()
        self.requests = 0
        self.faults = 0

    def handle_error(self, *_: Any) -> None:
        """A connection that was reset is what this is for."""


@contextmanager
def street(target: str) -> Iterator[Street]:
    """Open a way to S3."""
    with Street(target) as made:
        threading.Thread(target=made.serve_forever, daemon=True).start()
        yield made
        made.shutdown()


def now_and_then(seed: int, share: float) -> Fault:
    """Fail a share of the requests in every way there is."""
    draw = random.Random(seed)
    lock = threading.Lock()
    ways: list[Callable[[Request], bool]] = [
        lambda request: request.refuse(500, "InternalError"),
        lambda request: request.refuse(503, "SlowDown"),
        Request.reset,
        Request.answer_half,
    ]

    def fault(request: Request) -> bool:
        with lock:
            way = draw.choice(ways) if draw.random() < share else None
        return way(request) if way else False

    return fault

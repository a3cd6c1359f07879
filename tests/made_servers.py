"""Servers for the tests of remote datasets: files over HTTP that may be cut short, S3, and a line that breaks."""

from __future__ import annotations

import http.server
import os
import re
import socket
import socketserver
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

T = TypeVar("T", bound=socketserver.BaseServer)


class FileServer(socketserver.ThreadingMixIn, http.server.HTTPServer):
    """Serves a folder. `ranges` says whether it knows them; `before(name, start)` is called ahead of every answer;
    where `cut(name, start)` says so, the connection is cut in the middle of the body; `login` is what it asks for."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, root: Path, ranges: bool = True, login: str = "") -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.root, self.ranges, self.login = root, ranges, login
        self.before: Callable[[str, int], None] = lambda name, start: None
        self.cut: Callable[[str, int], bool] = lambda name, start: False
        self.sent: dict[str, int] = {}  # bytes of bodies by file
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that was killed hangs up."""


class Handler(http.server.BaseHTTPRequestHandler):
    server: FileServer

    def do_GET(self) -> None:
        name = self.path.lstrip("/")
        path = self.server.root / name
        if self.server.login and self.headers["Authorization"] != self.server.login:
            return self.send_error(403)
        if not path.is_file():
            return self.send_error(404)
        content, status = path.read_bytes(), 200
        asked = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", "")) if self.server.ranges else None
        start = int(asked[1]) if asked else 0
        if asked:
            if start >= len(content):
                return self.send_error(416)
            content, status = content[start : int(asked[2]) + 1], 206
        self.server.before(name, start)
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        with self.server.lock:
            if self.server.cut(name, start):
                content = content[: len(content) // 2]
            self.server.sent[name] = self.server.sent.get(name, 0) + len(content)
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


class Line(socketserver.ThreadingMixIn, socketserver.TCPServer):
    """Passes bytes on to a server and back, and breaks the connection that has brought the next `every` bytes."""

    daemon_threads = True

    def __init__(self, url: str, every: int) -> None:
        super().__init__(("127.0.0.1", 0), Pipe)
        self.to, self.every = (str(urlsplit(url).hostname), int(urlsplit(url).port or 80)), every
        self.brought = self.broken = 0
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def breaks(self, count: int) -> bool:
        with self.lock:
            self.brought += count
            due = self.brought >= self.every * (self.broken + 1)
            self.broken += due
            return due


class Pipe(socketserver.BaseRequestHandler):
    server: Line

    def handle(self) -> None:
        with socket.create_connection(self.server.to) as far:
            asking = threading.Thread(target=pass_on, args=(self.request, far), daemon=True)
            asking.start()
            pass_on(far, self.request, self.server.breaks)
            self.request.shutdown(socket.SHUT_RDWR)


def pass_on(source: socket.socket, to: socket.socket, breaks: Callable[[int], bool] = lambda count: False) -> None:
    with suppress(OSError):
        while content := source.recv(2**14):
            if breaks(len(content)):
                return
            to.sendall(content)


@contextmanager
def running(server: T) -> Iterator[T]:
    """Let a server answer in a thread of its own."""
    with server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def serving(root: Path, **options: Any) -> AbstractContextManager[FileServer]:
    return running(FileServer(root, **options))


def breaking_line(url: str, every: int) -> AbstractContextManager[Line]:
    return running(Line(url, every))


@contextmanager
def serving_s3(bucket: str, asked: list[tuple[str, str]] | None = None) -> Iterator[str]:
    """An S3 store with one bucket, which the environment of this process points to. It answers one request at a time, since
    moto does not look and write in one step; what is `asked` of it is told: method, and path below the bucket."""
    import boto3
    from moto.server import ThreadedMotoServer

    settings = {"AWS_ACCESS_KEY_ID": "who", "AWS_SECRET_ACCESS_KEY": "the-secret", "AWS_DEFAULT_REGION": "us-east-1"}
    before = dict(os.environ)
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    assert server._server is not None
    answer, lock = server._server.app, threading.Lock()

    def one_by_one(environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        with lock:
            if asked is not None:
                asked.append((environ["REQUEST_METHOD"], environ["PATH_INFO"].removeprefix(f"/{bucket}/")))
            return answer(environ, start_response)

    server._server.app = one_by_one
    host, port = server.get_host_and_port()
    os.environ.update(settings, AWS_ENDPOINT_URL=f"http://{host}:{port}", AWS_EC2_METADATA_DISABLED="true")
    try:
        boto3.client("s3").create_bucket(Bucket=bucket)
        yield f"s3://{bucket}"
    finally:
        os.environ.clear()
        os.environ.update(before)
        server.stop()

"""A loopback endpoint that answers as told: well, late, broken, or not at all."""

from __future__ import annotations

import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Reply:
    """One HTTP response.

    Attributes:
        status: 0 resets the connection instead of answering.
        body: JSON value, or text sent as it is.
        promised: length announced beyond the body's own, to break off in the middle.
        delay_s: wait before answering.
        drip_s: wait before each of ten pieces of the body.
    """

    status: int = 200
    body: Any = ""
    headers: dict[str, str] = field(default_factory=dict)
    promised: int = 0
    delay_s: float = 0.0
    drip_s: float = 0.0


def answered(text: str | None = "awe because the sky is vast", finish: str = "stop", **more: Any) -> Reply:
    """A chat completion; `more` goes into its message."""
    message = {"role": "assistant", "content": text, **more}
    body = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "vision-1-2026-01-01",
        "system_fingerprint": "fp_1",
        "choices": [{"index": 0, "message": message, "finish_reason": finish}],
        "usage": {"prompt_tokens": 70, "completion_tokens": 9, "total_tokens": 79},
    }
    return Reply(body=body)


def error(status: int, message: str, code: str | None = None, param: str | None = None, **headers: str) -> Reply:
    """An error in OpenAI's form."""
    named = {key.replace("_", "-"): value for key, value in headers.items()}
    return Reply(status, {"error": {"message": message, "type": "x", "param": param, "code": code}}, named)


class Endpoint:
    """A running server; `reply` decides, from the request's JSON, what to answer; `requests` keeps what came, `paths` where to."""

    def __init__(self) -> None:
        self.reply: Callable[[dict[str, Any]], Reply] = lambda request: answered()
        self.models = Reply(body={"object": "list", "data": []})
        self.requests: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.paths: list[str] = []
        self.in_flight = self.most_in_flight = 0
        self.lock = threading.Lock()

    def script(self, *replies: Reply) -> None:
        """Answer with these in turn, the last one from then on."""
        remaining = list(replies)
        self.reply = lambda request: remaining.pop(0) if len(remaining) > 1 else remaining[0]

    def handle(self, handler: BaseHTTPRequestHandler) -> None:
        length = int(handler.headers.get("content-length") or 0)
        request = json.loads(handler.rfile.read(length) or "{}")
        if handler.command == "GET":
            return send(handler, self.models)
        with self.lock:
            self.requests.append(request)
            self.paths.append(handler.path)
            self.headers.append({name.lower(): value for name, value in handler.headers.items()})
            self.in_flight += 1
            self.most_in_flight = max(self.most_in_flight, self.in_flight)
            reply = self.reply(request)
        time.sleep(reply.delay_s)
        with self.lock:
            self.in_flight -= 1
        return send(handler, reply)


def send(handler: BaseHTTPRequestHandler, reply: Reply) -> None:
    if reply.status == 0:
        handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        for end in (handler.rfile, handler.wfile, handler.connection):  # the last one closed resets
            end.close()
        return
    text = reply.body if isinstance(reply.body, str) else json.dumps(reply.body)
    headers = {"content-type": "application/json"} | reply.headers
    handler.send_response(reply.status)
    for name, value in headers.items():
        handler.send_header(name, value)
    handler.send_header("content-length", str(len(text.encode()) + reply.promised))
    handler.end_headers()
    data = text.encode()
    size = max(1, len(data) // 10) if reply.drip_s else max(1, len(data))
    for start in range(0, len(data), size):
        time.sleep(reply.drip_s)
        handler.wfile.write(data[start : start + size])
        handler.wfile.flush()
    handler.close_connection = bool(reply.promised)


@contextmanager
def running() -> Iterator[tuple[Endpoint, str]]:
    """The endpoint and its base URL."""
    endpoint = Endpoint()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            endpoint.handle(self)

        do_GET = do_POST

        def log_message(self, *arguments: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        def handle_error(self, request: object, client_address: object) -> None:
            """A reset connection is what was asked for."""

    server = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield endpoint, f"http://127.0.0.1:{server.server_port}/v1"
    finally:
        server.shutdown()
        server.server_close()

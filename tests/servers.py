"""Loopback HTTP servers that answer as told: well, late, broken, or not at all."""

from __future__ import annotations

import json
import re
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

Line = dict[str, Any]


@dataclass
class Reply:
    """One HTTP response.

    Attributes:
        status: 0 resets the connection instead of answering.
        body: JSON value, or text or bytes sent as they are.
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


@dataclass
class Request:
    """What a client sent: `body` as it came, `path` with its query, header names in lower case."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body or b"{}")


@contextmanager
def serving(answer: Callable[[Request], Reply]) -> Iterator[str]:
    """Let `answer` reply to every request, each in a thread of its own; the server's address without a path."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            headers = {name.lower(): value for name, value in self.headers.items()}
            _send(self, answer(Request(self.command, self.path, headers, _read_body(self))))

        do_GET = do_POST

        def log_message(self, *arguments: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        request_queue_size = 128  # so that none of many requests at once is turned away

        def handle_error(self, request: object, client_address: object) -> None:
            """A reset connection, or a client that was killed, is what was asked for."""

    server = Server(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def _read_body(handler: BaseHTTPRequestHandler) -> bytes:
    """The request's body, sent whole or in chunks."""
    if handler.headers.get("transfer-encoding", "").lower() != "chunked":
        return handler.rfile.read(int(handler.headers.get("content-length") or 0))
    pieces = []
    while size := int(handler.rfile.readline().strip() or b"0", 16):
        pieces.append(handler.rfile.read(size))
        handler.rfile.readline()
    handler.rfile.readline()
    return b"".join(pieces)


def _send(handler: BaseHTTPRequestHandler, reply: Reply) -> None:
    time.sleep(reply.delay_s)
    if reply.status == 0:
        handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        for end in (handler.rfile, handler.wfile, handler.connection):  # the last one closed resets
            end.close()
        return
    data = reply.body if isinstance(reply.body, bytes) else b""
    if not isinstance(reply.body, bytes):
        data = (reply.body if isinstance(reply.body, str) else json.dumps(reply.body)).encode()
    headers = {"content-type": "application/json"} | {name.lower(): value for name, value in reply.headers.items()}
    handler.send_response(reply.status)
    for name, value in headers.items():
        handler.send_header(name, value)
    handler.send_header("content-length", str(len(data) + reply.promised))
    handler.end_headers()
    size = max(1, len(data) // 10) if reply.drip_s else max(1, len(data))
    for start in range(0, len(data), size):
        time.sleep(reply.drip_s)
        handler.wfile.write(data[start : start + size])
        handler.wfile.flush()
    handler.close_connection = bool(reply.promised)


# --------------------------------------------------------------------------------------------------- chat completions


def answered(text: Any = "awe because the sky is vast", finish: Any = "stop", **more: Any) -> Reply:
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
    """An endpoint whose `reply` decides, from a request's JSON, what to answer.

    Attributes:
        models: what is answered to every GET.
        requests, headers, paths: what came with each POST.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.restart()

    def restart(self) -> None:
        """Forget what came, and answer as a server that was just started."""
        self.reply: Callable[[dict[str, Any]], Reply] = lambda request: answered()
        self.models = Reply(body={"object": "list", "data": []})
        self.requests: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.paths: list[str] = []
        self.in_flight = self.most_in_flight = 0

    def script(self, *replies: Reply) -> None:
        """Answer with these in turn, the last one from then on."""
        remaining = list(replies)
        self.reply = lambda request: remaining.pop(0) if len(remaining) > 1 else remaining[0]

    def __call__(self, request: Request) -> Reply:
        if request.method == "GET":
            return self.models
        with self.lock:
            self.requests.append(request.json())
            self.paths.append(request.path)
            self.headers.append(request.headers)
            self.in_flight += 1
            self.most_in_flight = max(self.most_in_flight, self.in_flight)
            reply = self.reply(self.requests[-1])
        time.sleep(reply.delay_s)
        with self.lock:
            self.in_flight -= 1
        return Reply(reply.status, reply.body, reply.headers, reply.promised, drip_s=reply.drip_s)


@contextmanager
def chat_server() -> Iterator[tuple[Endpoint, str]]:
    """An `Endpoint` and its base URL."""
    endpoint = Endpoint()
    with serving(endpoint) as address:
        yield endpoint, f"{address}/v1"


# ------------------------------------------------------------------------------------------------- files and batches


class BatchEndpoint:
    """Files, batches, and chat completions for the probe.

    Attributes:
        probe: answers a chat completion.
        polls: looks at a batch before it has ended.
        fail: custom id -> how its lines end, in turn: a status, or an error code.
        worked: how often each custom id was worked on, and so paid for.
        status: how batches end.
        refuses: batches are not worked on at all.
        said: what is answered about each custom id.
        cut: how many downloads break off in the middle.
    """

    def __init__(self, probe: Callable[[dict[str, Any]], Reply]) -> None:
        self.probe = probe
        self.files: dict[str, bytes] = {}
        self.batches: dict[str, Line] = {}
        self.looks: Counter[str] = Counter()
        self.worked: Counter[str] = Counter()
        self.calls: Counter[str] = Counter()
        self.fail: dict[str, list[int | str]] = {}
        self.polls, self.status = 2, "completed"
        self.refuses, self.said, self.cut = False, "awe because it is painting {}", 0
        self.busy: list[int] = []
        self.lock = threading.Lock()

    def create(self, body: Line) -> Line:
        name = f"batch_{len(self.batches)}"
        named = {"id": name, "object": "batch", "status": "in_progress", "created_at": 1}
        given = {key: body.get(key) for key in ("endpoint", "completion_window", "input_file_id", "metadata")}
        self.batches[name] = named | given | {"request_counts": {"total": 1, "completed": 0, "failed": 0}}
        if not self.refuses:
            self.work(self.batches[name])
        return self.batches[name]

    def work(self, batch: Line) -> None:
        """Answer every line at once; the client learns of it later."""
        good, bad = [], []
        for line in self.files[batch["input_file_id"]].decode().splitlines():
            identifier = json.loads(line)["custom_id"]
            turns = self.fail.get(identifier, [])
            end = turns.pop(0) if turns else 200
            if isinstance(end, str):
                bad.append({"custom_id": identifier, "response": None, "error": {"code": end, "message": end}})
                continue
            self.worked[identifier] += 1
            body = self.completion(identifier)
            if end != 200:
                body = {"error": {"message": f"status {end}", "code": "content_filter" if end == 400 else None}}
            written = {"custom_id": identifier, "response": {"status_code": end, "body": body}, "error": None}
            (good if end == 200 else bad).append(written)
        for name, lines in (("output", reversed(good)), ("error", bad)):  # the order of results is not the requests'
            text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
            if text:
                self.files[f"{name}_{batch['id']}"] = text.encode()
                batch[f"_{name}_file_id"] = f"{name}_{batch['id']}"

    def completion(self, identifier: str) -> Any:
        """The body of the answer to a line."""
        return answered(self.said.format(identifier)).body

    def look(self, name: str) -> Line:
        self.looks[name] += 1
        batch = self.batches[name]
        if self.looks[name] > self.polls:
            batch["status"] = self.status
            for kind in ("output", "error"):
                batch[f"{kind}_file_id"] = batch.get(f"_{kind}_file_id")
            if self.status == "failed":
                batch["errors"] = {"object": "list", "data": [{"message": "the file is not valid", "code": "invalid"}]}
        return batch

    def __call__(self, request: Request) -> Reply:
        parts = urlsplit(request.path)
        with self.lock:
            return self.reply(request, parts.path, parse_qs(parts.query))

    def reply(self, request: Request, path: str, query: dict[str, list[str]]) -> Reply:
        if path in ("/v1/chat/completions", "/v1/responses"):
            return self.probe(request.json())
        self.calls[f"{request.method} {re.sub(r'(batch|file|output|error)_[^/]*', 'ID', path)}"] += 1
        if self.busy and path != "/v1/models":
            return Reply(self.busy.pop(0), {"error": {"message": "busy"}})
        match request.method, path.split("/")[2:]:
            case "POST", ["files"]:
                name = f"file_{len(self.files)}"
                self.files[name] = upload_of(request.body)
                described = {"id": name, "object": "file", "bytes": 1, "created_at": 1, "filename": "f"}
                return Reply(body=described | {"purpose": "batch"})
            case "GET", ["files", name, "content"]:
                self.cut -= 1
                content = self.files[name][: -40 if self.cut >= 0 else None]
                return Reply(body=content, headers={"content-type": "application/octet-stream"})
            case "POST", ["batches"]:
                return Reply(body=self.create(request.json()))
            case "GET", ["batches"]:
                newest = list(reversed(self.batches.values()))
                after = query.get("after", [None])[0]
                start = next((i + 1 for i, b in enumerate(newest) if b["id"] == after), 0)
                data = newest[start : start + int(query["limit"][0])]
                return Reply(body={"object": "list", "data": data, "has_more": False})
            case "GET", ["batches", name]:
                return Reply(body=self.look(name))
        return Reply(body={"object": "list", "data": []})


def upload_of(raw: bytes) -> bytes:
    """The file in a multipart form."""
    boundary = raw.partition(b"\r\n")[0]
    part = next(part for part in raw.split(boundary) if b'name="file"' in part)
    return part.partition(b"\r\n\r\n")[2].removesuffix(b"\r\n")


@contextmanager
def batch_server(probe: Callable[[dict[str, Any]], Reply]) -> Iterator[tuple[BatchEndpoint, str]]:
    """A `BatchEndpoint` and its base URL."""
    endpoint = BatchEndpoint(probe)
    with serving(endpoint) as address:
        yield endpoint, f"{address}/v1"

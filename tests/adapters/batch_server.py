"""A loopback imitation of the files and batches endpoints."""

from __future__ import annotations

import json
import re
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from fault_server import answered
from seeing import asked_for_colour, seeing

Line = dict[str, Any]


class BatchEndpoint:
    """Files, batches, and chat completions for the probe.

    Attributes:
        polls: looks at a batch before it has ended.
        fail: custom id -> how its lines end, in turn: a status, or an error code.
        worked: how often each custom id was worked on, and so paid for.
        status: how batches end.
        refuses: batches are not worked on at all.
        said: what is answered about each custom id.
        cut: how many downloads break off in the middle.
    """

    def __init__(self) -> None:
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
        self.batches[name] = {
            "id": name,
            "object": "batch",
            "status": "in_progress",
            "endpoint": body["endpoint"],
            "completion_window": body["completion_window"],
            "created_at": 1,
            "input_file_id": body["input_file_id"],
            "metadata": body.get("metadata"),
            "request_counts": {"total": 1, "completed": 0, "failed": 0},
        }
        if not self.refuses:
            self.work(self.batches[name])
        return self.batches[name]

    def work(self, batch: Line) -> None:
        """Answer every line at once; the client learns of it later."""
        good, bad = [], []
        for line in self.files[batch["input_file_id"]].decode().splitlines():
            request = json.loads(line)
            identifier = request["custom_id"]
            turns = self.fail.get(identifier, [])
            end = turns.pop(0) if turns else 200
            if isinstance(end, str):
                bad.append({"custom_id": identifier, "response": None, "error": {"code": end, "message": end}})
                continue
            self.worked[identifier] += 1
            body = answered(self.said.format(identifier)).body
            if end != 200:
                body = {"error": {"message": f"status {end}", "code": "content_filter" if end == 400 else None}}
            written = {"custom_id": identifier, "response": {"status_code": end, "body": body}, "error": None}
            (good if end == 200 else bad).append(written)
        for name, lines in (("output", reversed(good)), ("error", bad)):  # the order of results is not the requests'
            text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
            if text:
                self.files[f"{name}_{batch['id']}"] = text.encode()
                batch[f"_{name}_file_id"] = f"{name}_{batch['id']}"

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

    def reply(self, method: str, path: str, query: dict[str, list[str]], raw: bytes) -> tuple[int, Any]:
        """Status and JSON value (or bytes) for one request."""
        if path == "/v1/chat/completions":
            request = json.loads(raw)
            assert asked_for_colour(request), "paintings belong into batches"
            return 200, seeing(request).body
        self.calls[f"{method} {re.sub(r'(batch|file|output|error)_[^/]*', 'ID', path)}"] += 1
        if self.busy and path != "/v1/models":
            return self.busy.pop(0), {"error": {"message": "busy"}}
        match method, path.split("/")[2:]:
            case "POST", ["files"]:
                name = f"file_{len(self.files)}"
                self.files[name] = upload_of(raw)
                return 200, {
                    "id": name,
                    "object": "file",
                    "bytes": 1,
                    "created_at": 1,
                    "filename": "f",
                    "purpose": "batch",
                }
            case "GET", ["files", name, "content"]:
                self.cut -= 1
                return 200, self.files[name][: -40 if self.cut >= 0 else None]
            case "POST", ["batches"]:
                return 200, self.create(json.loads(raw))
            case "GET", ["batches"]:
                newest = list(reversed(self.batches.values()))
                after = query.get("after", [None])[0]
                start = next((i + 1 for i, b in enumerate(newest) if b["id"] == after), 0)
                data = newest[start : start + int(query["limit"][0])]
                return 200, {"object": "list", "data": data, "has_more": False}
            case "GET", ["batches", name]:
                return 200, self.look(name)
        return 200, {"object": "list", "data": []}


def upload_of(raw: bytes) -> bytes:
    """The file in a multipart form."""
    boundary = raw.partition(b"\r\n")[0]
    part = next(part for part in raw.split(boundary) if b'name="file"' in part)
    return part.partition(b"\r\n\r\n")[2].removesuffix(b"\r\n")


@contextmanager
def running() -> Iterator[tuple[BatchEndpoint, str]]:
    """The endpoint and its base URL."""
    endpoint = BatchEndpoint()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            parts = urlsplit(self.path)
            raw = read_body(self)
            with endpoint.lock:
                status, value = endpoint.reply(self.command, parts.path, parse_qs(parts.query), raw)
            data = value if isinstance(value, bytes) else json.dumps(value).encode()
            self.send_response(status)
            self.send_header(
                "content-type", "application/octet-stream" if isinstance(value, bytes) else "application/json"
            )
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST

        def log_message(self, *arguments: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        def handle_error(self, request: object, client_address: object) -> None:
            """A client that was killed is what was asked for."""

    server = Server(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield endpoint, f"http://127.0.0.1:{server.server_port}/v1"
    finally:
        server.shutdown()
        server.server_close()


def read_body(handler: BaseHTTPRequestHandler) -> bytes:
    """The request's body, sent whole or in chunks."""
    if handler.headers.get("transfer-encoding", "").lower() != "chunked":
        return handler.rfile.read(int(handler.headers.get("content-length") or 0))
    pieces = []
    while size := int(handler.rfile.readline().strip() or b"0", 16):
        pieces.append(handler.rfile.read(size))
        handler.rfile.readline()
    handler.rfile.readline()
    return b"".join(pieces)

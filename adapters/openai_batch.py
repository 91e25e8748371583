"""The Batch API: many requests in one file, answered within a day at a lower price."""

from __future__ import annotations

import json
from collections.abc import Awaitable
from pathlib import Path
from typing import Any, Protocol, TypeVar

from harness.adapters.base import BatchState
from harness.adapters.endpoint_errors import EndpointError, ResponseRefused, in_short, outcome_of_error
from harness.adapters.openai_client import OpenAIClient
from harness.types import Failed, Item, Outcome, RetryableError, UserError

ENDED = frozenset({"completed", "expired", "cancelled"})
LATER = frozenset({"batch_expired", "batch_cancelled"})
"""Errors of a line that say that it was not worked on."""
PAGE = 100
MOST_PAGES = 10
T = TypeVar("T")


class Requests(Protocol):
    """What makes the requests of a batch and reads their answers: `OpenAIChat`."""

    poll_s: float
    key_env: str

    @property
    def client(self) -> OpenAIClient:
        """The client of the running event loop."""

    @property
    def batch_path(self) -> str:
        """Where each request goes: `/v1/chat/completions`, say."""

    def request(self, item: Item) -> dict[str, Any]:
        """The JSON of a request about an item; `ImageError` for an image that cannot be decoded."""

    def outcome_of_body(self, item: Item, body: Any) -> Outcome:
        """Read a response's JSON; `EndpointError` for an error, `ValueError` for what is no JSON."""


class OpenAIBatches:
    """Files and batches of one endpoint; see `harness.adapters.base.Batches`.

    Args:
        adapter: makes requests and reads answers.
    """

    most_requests = 50_000
    most_bytes = 190_000_000

    def __init__(self, adapter: Requests) -> None:
        self.adapter = adapter
        self.poll_s = adapter.poll_s

    def line(self, item: Item) -> str:
        """The request about `item` as a line of an input file.

        Raises:
            ImageError: its picture cannot be decoded.
        """
        body = self.adapter.request(item)
        request = {"custom_id": item.id, "method": "POST", "url": self.adapter.batch_path, "body": body}
        return json.dumps(request) + "\n"

    async def upload(self, path: Path) -> str:
        """Upload an input file; its id."""
        return await self._made(self._client.upload(path, "batch"))

    async def create(self, file: str, key: str) -> str:
        """Start a batch that can be found by `key`; its id."""
        asked = {"input_file_id": file, "endpoint": self.adapter.batch_path, "completion_window": "24h"}
        return await self._made(self._client.post("/batches", asked | {"metadata": {"harness_job": key}}))

    async def find(self, key: str) -> str | None:
        """The batch that was started with `key`, among the newest thousand."""
        after: dict[str, Any] = {}
        for _ in range(MOST_PAGES):
            page = (await self._object(self._client.get("/batches", limit=PAGE, **after))).get("data") or []
            for batch in page:
                if (batch.get("metadata") or {}).get("harness_job") == key:
                    return str(batch["id"])
            if len(page) < PAGE:
                return None
            after = {"after": page[-1]["id"]}
        return None

    async def state(self, batch: str) -> BatchState:
        """How far a batch is."""
        found = await self._object(self._client.get(f"/batches/{batch}"))
        files = tuple(str(found[name]) for name in ("output_file_id", "error_file_id") if found.get(name))
        counts = found.get("request_counts") or {}
        answered = sum(counts.get(name) or 0 for name in ("completed", "failed"))
        if found.get("status") != "failed":
            return BatchState(found.get("status") in ENDED, files, answered)
        errors = (found.get("errors") or {}).get("data") or []
        told = in_short("; ".join(str(e.get("message")) for e in errors) or "no reason given")
        return BatchState(True, files, answered, told)

    async def results(self, file: str) -> dict[str, dict[str, Any]]:
        """Item id -> line of an output or error file.

        Raises:
            RetryableError: what came is not such a file (a download that was cut off, say).
        """
        content = await self._done(self._client.download(file))
        try:
            # Not `splitlines`, which also breaks at the separators that JSON allows inside a text.
            lines = [json.loads(line) for line in content.split("\n") if line.strip()]
            return {str(line["custom_id"]): line for line in lines}
        except (ValueError, KeyError, TypeError) as error:
            raise RetryableError(f"file {file} of a batch is damaged: {error}", kind="bad-response") from None

    def outcome(self, item: Item, line: dict[str, Any] | None) -> Outcome:
        """Read a line of an output or error file; None where neither holds the item.

        Raises:
            RetryableError: the same request may succeed in another batch.
        """
        error = (line or {}).get("error") or {}
        response = (line or {}).get("response") or {}
        if line is None or error.get("code") in LATER:
            raise RetryableError("the batch ended before this request was worked on", kind="batch-expired")
        status, body = int(response.get("status_code") or 500), response.get("body") or {}
        try:
            if status == 200:
                return self.adapter.outcome_of_body(item, body)
            inner = body.get("error") if isinstance(body, dict) else None
            return outcome_of_error(EndpointError(status, body if inner or not error else {"error": error}))
        except EndpointError as found:
            return self._final(found)
        except (UserError, ValueError) as mistake:  # the others of the batch were worked on nevertheless
            return Failed(f"http-{status}" if status != 200 else "not-json", str(mistake))

    def _final(self, error: EndpointError) -> Outcome:
        """The outcome of an error inside a 200."""
        try:
            return outcome_of_error(error)
        except UserError as mistake:
            return Failed(f"http-{error.status}", str(mistake))

    @property
    def _client(self) -> OpenAIClient:
        return self.adapter.client

    async def _made(self, request: Awaitable[Any]) -> str:
        """The id of what a request made."""
        created = await self._object(request)
        if not created.get("id"):
            raise RetryableError("the endpoint names no id", kind="bad-response")
        return str(created["id"])

    async def _object(self, request: Awaitable[Any]) -> dict[str, Any]:
        """The endpoint's answer, a JSON object; see `_done`."""
        found = await self._done(request)
        if not isinstance(found, dict):
            raise RetryableError(f"expected a JSON object, got {in_short(str(found))[:80]}", kind="bad-response")
        return found

    async def _done(self, request: Awaitable[T]) -> T:
        """The endpoint's answer.

        Raises:
            RetryableError: asking again may help.
            UserError: it will not.
        """
        try:
            return await request
        except ResponseRefused as error:
            raise UserError(f"the endpoint refuses batches: {error}") from None
        except (EndpointError, RetryableError) as error:
            failed = outcome_of_error(error, self.adapter.key_env)
            raise UserError(f"the endpoint refuses batches: {getattr(failed, 'message', failed.raw)}") from None

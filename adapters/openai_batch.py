"""The Batch API: many requests in one file, answered within a day at a lower price."""

from __future__ import annotations

import json
from collections.abc import Awaitable
from pathlib import Path
from typing import Any, Protocol, TypeVar

import openai

from harness.adapters.base import BatchState
from harness.adapters.endpoint_errors import EndpointError, ResponseRefused, in_short, of_sdk, outcome_of_error
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
    def client(self) -> openai.AsyncOpenAI:
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
            ImageError: its image cannot be decoded.
        """
        body = self.adapter.request(item)
        request = {"custom_id": item.id, "method": "POST", "url": self.adapter.batch_path, "body": body}
        return json.dumps(request) + "\n"

    async def upload(self, path: Path) -> str:
        """Upload an input file; its id."""
        with path.open("rb") as file:
            created = await self._done(self._client.files.create(file=file, purpose="batch"))
        return str(created.id)

    async def create(self, file: str, key: str) -> str:
        """Start a batch that can be found by `key`; its id."""
        created = await self._done(
            self._client.batches.create(
                input_file_id=file,
                endpoint=self.adapter.batch_path,  # type: ignore[arg-type]
                completion_window="24h",
                metadata={"harness_job": key},
            )
        )
        return str(created.id)

    async def find(self, key: str) -> str | None:
        """The batch that was started with `key`, among the newest thousand."""
        after: dict[str, Any] = {}
        for _ in range(MOST_PAGES):
            page = await self._done(self._client.batches.list(limit=PAGE, **after))
            for batch in page.data:
                if (batch.metadata or {}).get("harness_job") == key:
                    return str(batch.id)
            if len(page.data) < PAGE:
                return None
            after = {"after": page.data[-1].id}
        return None

    async def state(self, batch: str) -> BatchState:
        """How far a batch is."""
        found = await self._done(self._client.batches.retrieve(batch))
        files = tuple(name for name in (found.output_file_id, found.error_file_id) if name)
        counts = found.request_counts
        answered = counts.completed + counts.failed if counts else 0
        if found.status != "failed":
            return BatchState(found.status in ENDED, files, answered)
        errors = found.errors.data if found.errors and found.errors.data else []
        told = in_short("; ".join(str(e.message) for e in errors) or "no reason given")
        return BatchState(True, files, answered, told)

    async def results(self, file: str) -> dict[str, dict[str, Any]]:
        """Item id -> line of an output or error file.

        Raises:
            RetryableError: what came is not such a file (a download that was cut off, say).
        """
        content = await self._done(self._client.files.content(file))
        try:
            # Not `splitlines`, which also breaks at the separators that JSON allows inside a text.
            lines = [json.loads(line) for line in content.text.split("\n") if line.strip()]
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
        except EndpointError as found:  # inside a 200
            try:
                return outcome_of_error(found)
            except UserError as mistake:
                return Failed(f"http-{found.status}", str(mistake))
        except (UserError, ValueError) as mistake:  # the others of the batch were worked on nevertheless
            return Failed(f"http-{status}" if status != 200 else "not-json", str(mistake))

    @property
    def _client(self) -> openai.AsyncOpenAI:
        return self.adapter.client

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
        except (openai.OpenAIError, ValueError) as error:
            failed = outcome_of_error(of_sdk(error, openai), self.adapter.key_env)
            raise UserError(f"the endpoint refuses batches: {getattr(failed, 'message', failed.raw)}") from None

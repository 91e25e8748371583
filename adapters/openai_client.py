"""JSON over HTTP with an endpoint that speaks as OpenAI does; OpenAI's own package takes half a second to import.

What comes back is an answer's JSON or one of our own errors, so that nothing above needs to know the HTTP library.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit, urlunsplit

import httpx2

from harness.adapters.endpoint_address import Endpoint
from harness.adapters.endpoint_client import http_client
from harness.adapters.endpoint_errors import EndpointError, connection_error, in_short
from harness.types import RetryableError


class OpenAIClient:
    """A client for the running event loop, without retries.

    Every call raises `EndpointError` for a response that is no success, `RetryableError` if none comes or it is broken,
    and `ResponseRefused` for one that is not even read.

    Args:
        endpoint: address (a query goes with every request) and key.

    Raises:
        UserError: there is no key, or the proxy cannot be used.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        parts, key = urlsplit(endpoint.base_url), endpoint.key() or "none"
        self.base_url = urlunsplit((parts.scheme, parts.netloc, parts.path.rstrip("/"), "", ""))
        self.query = dict(parse_qsl(parts.query))
        self.headers = {"authorization": f"Bearer {key}", "user-agent": "sevlm-harness"}
        host = parts.hostname or ""
        if host.endswith(".azure.com"):
            self.headers["api-key"] = key
        if host == "api.openai.com":
            named = {"openai-organization": "OPENAI_ORG_ID", "openai-project": "OPENAI_PROJECT_ID"}
            self.headers |= {header: os.environ[name] for header, name in named.items() if os.environ.get(name)}
        self._http = http_client(endpoint)

    async def get(self, path: str, **query: Any) -> Any:
        """The JSON at a path; its text if its headers call it something else."""
        return _json(await self._request("GET", path, query))

    async def post(self, path: str, body: Any) -> Any:
        """What a path answers to a JSON body."""
        return _json(await self._request("POST", path, json=body))

    async def upload(self, file: Path, purpose: str) -> Any:
        """What the endpoint says of a file that was uploaded."""
        with file.open("rb") as content:
            sent = {"file": (file.name, content)}
            return _json(await self._request("POST", "/files", data={"purpose": purpose}, files=sent))

    async def download(self, file: str) -> str:
        """The text of a file that the endpoint keeps."""
        return str((await self._request("GET", f"/files/{file}/content")).text)

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def _request(self, method: str, path: str, query: dict[str, Any] | None = None, **content: Any) -> Any:
        where, sent = self.base_url + path, self.query | (query or {})
        try:
            response = await self._http.request(method, where, params=sent, headers=self.headers, **content)
        except (httpx2.HTTPError, httpx2.InvalidURL, OSError) as error:
            raise connection_error(error) from None
        if not response.is_success:
            raise EndpointError(response.status_code, response.content, response.headers)
        return response


def _json(response: Any) -> Any:
    if not response.headers.get("content-type", "").partition(";")[0].strip().endswith("json"):
        return response.text
    try:
        return response.json()
    except (ValueError, RecursionError) as error:
        raise RetryableError(f"the response is not JSON: {in_short(str(error))}", kind="bad-response") from None

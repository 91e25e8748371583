"""Bodies of responses: too large, packed, nested without end."""

from __future__ import annotations

import gzip
import json
import zlib
from typing import Any

import pytest
from adapter_samples import Picture, item
from asking_openai import driven, loaded
from servers import Endpoint, Reply, answered

from harness.infer.throttle import Clock
from harness.types import Answer, Failed, Outcome, UserError

GOOD = '{"emotion": "awe", "explanation": "because the vast golden sky glows"}'
WHOLE = json.dumps(answered(GOOD).body).encode()
PADDED = WHOLE + b" " * (40 * 2**20)


async def at_once(seconds: float) -> None:
    """A wait that takes no time."""


def only(endpoint: Endpoint, url: str, picture: Picture, reply: Reply, **settings: Any) -> Outcome:
    endpoint.script(reply)
    (outcome,) = driven(loaded(url, **settings), item("0", picture()), clock=Clock(sleep=at_once))
    return outcome


# -------------------------------------------------------------------------------------------------- sizes and packing


@pytest.mark.parametrize(
    ("body", "encoding", "status"),
    [
        (gzip.compress(PADDED, 1), "gzip", 200),
        (zlib.compress(PADDED, 1), "deflate", 200),
        (gzip.compress(gzip.compress(PADDED, 1), 1), "gzip, gzip", 200),
        (PADDED, "", 200),
        (b"x" * len(PADDED), "", 400),
        (gzip.compress(PADDED, 1), "gzip", 503),
    ],
    ids=["gzip", "deflate", "twice", "plain", "error", "busy"],
)
def test_a_response_that_would_fill_the_memory_is_given_up(
    endpoint: Endpoint, url: str, picture: Picture, body: bytes, encoding: str, status: int
) -> None:
    outcome = only(endpoint, url, picture, Reply(status, body, {"content-encoding": encoding} if encoding else {}))
    assert isinstance(outcome, Failed)
    assert outcome.message == "the response is larger than 32 MiB"
    assert len(endpoint.requests) == 1


def raw_deflate(data: bytes) -> bytes:
    packing = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packing.compress(data) + packing.flush()


@pytest.mark.parametrize(
    ("body", "encoding"),
    [
        (gzip.compress(WHOLE), "gzip"),
        (gzip.compress(WHOLE), "x-gzip"),
        (zlib.compress(WHOLE), "deflate"),
        (raw_deflate(WHOLE), "deflate"),
        (zlib.compress(gzip.compress(WHOLE)), "gzip, deflate"),
        (WHOLE, "identity"),
    ],
)
def test_packed_answers_are_read(endpoint: Endpoint, url: str, picture: Picture, body: bytes, encoding: str) -> None:
    assert isinstance(only(endpoint, url, picture, Reply(200, body, {"content-encoding": encoding})), Answer)


@pytest.mark.parametrize(
    ("body", "encoding", "kind", "requests"),
    [
        (b"not packed at all", "gzip", "connection", 6),
        (gzip.compress(WHOLE)[:-20], "gzip", "connection", 6),
        (WHOLE, "br", "not-json", 1),
    ],
)
def test_what_cannot_be_unpacked(
    endpoint: Endpoint, url: str, picture: Picture, body: bytes, encoding: str, kind: str, requests: int
) -> None:
    outcome = only(endpoint, url, picture, Reply(200, body, {"content-encoding": encoding}))
    assert isinstance(outcome, Failed)
    assert (outcome.error_type, len(endpoint.requests)) == (kind, requests)


@pytest.mark.parametrize("status", [200, 400])
@pytest.mark.parametrize("kind", ["application/json", "text/plain"])
def test_json_nested_without_end(endpoint: Endpoint, url: str, picture: Picture, status: int, kind: str) -> None:
    reply = Reply(status, b"[" * 200_000, {"content-type": kind})
    outcome = only(endpoint, url, picture, reply)
    assert isinstance(outcome, Failed)
    assert outcome.error_type in ("bad-response", "not-json", "http-400")
    with pytest.raises(UserError, match=r"does not answer|the probe was rejected"):
        only(endpoint, url, picture, reply, probe="strict")


def test_a_list_of_models_that_is_too_large_is_none(endpoint: Endpoint, url: str, picture: Picture) -> None:
    endpoint.models = Reply(200, PADDED)
    assert isinstance(only(endpoint, url, picture, answered(GOOD)), Answer)

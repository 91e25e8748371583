"""Where an endpoint lives and the key to it: said before the first painting, and never in a file."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import openai
import pytest
from adapter_samples import Picture, item
from asking_openai import ask, check_reachable, loaded
from servers import Endpoint, Reply, error

from harness.adapters.endpoint_client import Endpoint as Connected
from harness.adapters.openai_chat import OpenAIChat
from harness.adapters.openai_wire import connect
from harness.types import Answer, UserError

KEY = "sk-test-0123456789abcdefghij"


def test_the_key_is_sent_and_loopback_goes_without(
    endpoint: Endpoint, url: str, picture: Picture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    ask(loaded(url), item("a", picture()))
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    ask(loaded(url), item("a", picture()))
    sent = [headers["authorization"] for headers in endpoint.headers]
    assert sent == ["Bearer none", f"Bearer {KEY}"]
    monkeypatch.delenv("OPENAI_API_KEY")
    with pytest.raises(UserError, match="; export OPENAI_API_KEY "):
        OpenAIChat("m").load()


def test_azure_takes_the_key_in_its_header_and_its_version_in_the_query(
    endpoint: Endpoint, url: str, picture: Picture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    azure = Connected("https://me.openai.azure.com/openai/deployments/d?api-version=2024-10-21", None, 1.0)

    async def built() -> openai.AsyncOpenAI:
        return connect(azure)

    client = asyncio.run(built())
    assert str(client.base_url) == "https://me.openai.azure.com/openai/deployments/d/"
    assert client.default_headers["api-key"] == KEY
    assert client.default_query == {"api-version": "2024-10-21"}
    adapter = loaded(f"{url}?api-version=2024-10-21")
    (outcome,) = ask(adapter, item("a", picture()))
    assert isinstance(outcome, Answer)
    assert endpoint.paths == ["/v1/chat/completions?api-version=2024-10-21"]
    assert adapter.fingerprint()["base_url"] == url
    assert adapter.fingerprint()["query"] == "api-version=2024-10-21"


def test_nobody_at_home_and_a_refused_key_are_found_before_the_first_item(
    endpoint: Endpoint, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(UserError, match=f"nobody answers at http://127.0.0.1:{port}/v1"):
        check_reachable(loaded(f"http://127.0.0.1:{port}/v1"))
    endpoint.models = error(401, "bad key")
    with pytest.raises(UserError, match=r"401 bad key; check the key in \$OPENAI_API_KEY"):
        check_reachable(loaded(url))
    elsewhere = Reply(307, "", {"location": f"{url}/models/"})
    for no_list in (Reply(404, "nothing here"), elsewhere, Reply(302, "", {"location": "https://login.example/sso"})):
        endpoint.models = no_list
        check_reachable(loaded(url))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"base_url": "127.0.0.1:8000"}, "expected http"),
        ({"detail": "medium"}, "expected one of auto, low, high"),
        ({"max_tokens": 0}, "max_tokens=0: expected at least 1"),
        ({"temperature": -0.5}, "temperature=-0.5: expected at least 0"),
        ({"timeout_s": float("nan")}, "timeout_s=nan: expected more than 0"),
        ({"requests_per_minute": 0}, "requests_per_minute=0: expected more than 0"),
    ],
)
def test_settings_that_cannot_work_are_refused_at_once(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        OpenAIChat("m", **settings)

"""What an endpoint adapter of your own needs: images, errors, prices, and the probe that shows whether it sees."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.adapters.base import EndpointAdapter
from harness.adapters.endpoint_errors import EndpointError, connection_error, outcome_of_error
from harness.adapters.endpoint_images import COLOURS, PROMPT, SHOWN, Verdict, data_url, write_plain_image
from harness.adapters.endpoint_prices import Price
from harness.types import Failed, Item, Outcome, UserError

__all__ = ["Price", "check_vision", "connection_error", "data_url", "outcome_of_status"]


def outcome_of_status(status: int, body: Any, headers: Mapping[str, str] | None = None, key_env: str = "") -> Outcome:
    """What a response that is no success makes of an item: a refusal of its moderation, or a failure.

    Args:
        status: HTTP status.
        body: as it came: bytes, text, or what its JSON holds; the error's message is found in any usual form.
        headers: for `Retry-After` and the like.
        key_env: environment variable that holds the key, for messages.

    Raises:
        RetryableError: the same request may succeed later (429, 5xx, 529 and so on), with the wait that was asked for.
        UserError: no request can succeed: a bad key, an unknown model, no credits.
    """
    return outcome_of_error(EndpointError(status, body, headers), key_env)


async def check_vision(adapter: EndpointAdapter) -> None:
    """Ask the adapter for the colours of two generated images, for its `open`; what that costs is paid for.

    Raises:
        RetryableError: the endpoint cannot answer now.
        UserError: it does not name them, so it does not see; or it cannot answer at all.
    """
    answers = []
    with tempfile.TemporaryDirectory() as folder:
        for colour in SHOWN:
            image = write_plain_image(colour, Path(folder) / f"{colour}.png")
            item = Item(f"probe-{colour}", image, tuple(COLOURS), PROMPT, explanations=False)
            outcome = await adapter.answer(item)
            cost = outcome.usage.cost_usd
            adapter.spent_usd += (adapter.max_usage(item).cost_usd if cost is None else cost) or 0.0
            if isinstance(outcome, Failed):
                raise UserError(f"{adapter.name}: the probe was rejected: {outcome.message} ({outcome.error_type})")
            answers.append(outcome.raw or getattr(outcome, "emotion", ""))
    verdict = Verdict(tuple(answers))
    if not verdict.sees:
        raise UserError(f"{adapter.name} does not look at images: {verdict.problem()}")

"""Which parameter of a request an endpoint rejects, in whatever words."""

from __future__ import annotations

import re
from collections.abc import Iterable

from harness.adapters.endpoint_errors import EndpointError

REJECTED = frozenset({400, 403, 422, 501})
"""Statuses of requests that an endpoint does not take as they are."""
ITS_VALUE = re.compile(
    r"too (?:large|small|high|low)|at (?:most|least)|(?:less|greater) than|exceed|maximum|between|range", re.I
)
"""Of a parameter that is taken, with another value."""
UNKNOWN = re.compile(r"unexpected keyword|unknown|unsupported|not supported|unrecogni[sz]ed|not permitted", re.I)
"""Of a parameter that a server has stumbled over, and so answers with a 500."""
NAMES = {
    "temperature": r"(?:temperatur\w*|temp|sampling|温度|온도|[Тт]емператур\S*)",
    "schema": r"(?:(?:response|text)[_. -]?(?:format|schema)|json[_ -](?:schema|object|mode)|"
    r"structured[_ -]outputs?|guided|grammar|constrained decoding)",
    "logprobs": r"(?:(?:(?:top|response)[_ -]?)?log[_ -]?prob(?:s|abilit(?:y|ies))?|include(?=[\['`\"]))",
    "reasoning_summary": r"reasoning[_. ]summar(?:y|ies)",
    "reasoning_effort": r"(?:reasoning[_. -]?effort|reasoning|thinking|effort)",
    "thinking": r"(?:thinking(?:[_ ]?(?:config|budget|level))?|thoughts?)",
}
"""Optional parameter -> how endpoints name it."""


def is_rejection(error: EndpointError) -> bool:
    """Whether an endpoint does not take a request as it is."""
    stumbled = error.status == 500 and UNKNOWN.search(error.message) is not None
    return (error.status in REJECTED or stumbled) and not error.moderated


def rejected_among(error: EndpointError, names: Iterable[str]) -> str | None:
    """The first of the optional parameters that a rejection is about; None: none of them."""
    about = (name for name in names if error.mentions(NAMES.get(name, re.escape(name))))
    return next(about, None) if is_rejection(error) else None

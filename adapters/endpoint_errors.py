"""What endpoints' errors mean, whoever's they are: try again, a refusal, a failed item, or the user has to act."""

from __future__ import annotations

import contextlib
import json
import math
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from harness.redact import redact_known
from harness.types import Failed, Outcome, Refusal, RetryableError, Usage, UserError

TEMPORARY = frozenset({408, 409, 425, 429})
"""Client errors that may pass; all server errors (5xx) may."""
CONCERNS_ALL = {
    401: "check {key}",
    402: "the account has no credits left; add some and repeat the command to go on",
    403: "{key} may not be used for this model, or something on the way there forbids it",
    404: "check model= and base_url= (which usually ends in /v1)",
    405: "check base_url= (which usually ends in /v1)",
    407: "check the proxy in $HTTPS_PROXY",
    410: "the model or this address is no longer served; check model= and base_url=",
    451: "it is not served where you are",
}
"""Statuses that no other item will change, and what the user can do about them."""
MODERATED = re.compile(
    r"content[_ ]?(?:filter|policy|management policy)|ResponsibleAIPolicyViolation|moderation|safety system|"
    r"flagged|PROHIBITED_CONTENT|data_inspection_failed|sensitive (?:content|words)|usage polic(?:y|ies)",
    re.IGNORECASE,
)
NO_CREDITS = re.compile(
    r"insufficient[_ ](?:credits?|balance|funds|quota)|credit balance is too low|"
    r"(?:out of|no|add|used all\b.*) credits|exceeded[_ ]current[_ ]quota|exceeded your current quota|"
    r"billing (?:hard|details|not|is|limit|account|issue)|payment required|in arrears|arrearage|"
    r"credits? (?:is|are|has been|have been) (?:depleted|exhausted|used up)|(?:spending|spend) limit|余额不足|欠费|"
    r"(?:not |n't have )enough (?:credits?|balance|funds)|balance is (?:insufficient|negative|exhausted)|"
    r"no (?:remaining |more )?(?:balance|funds)\b|(?:top up|recharge) your (?:account|balance)",
    re.IGNORECASE,
)
BAD_KEY = re.compile(
    r"(?:api[\s_-]*key|access[\s_-]*token) (?:is |was |has been )?"
    r"(?:not valid|invalid|incorrect|expired|revoked|missing|disabled|not found)|"
    r"(?:invalid|incorrect|missing|expired|revoked|unknown)[\s_-]+(?:x-)?(?:api[\s_-]*key|authentication|credentials?)|"
    r"(?:key|account|organization) (?:is|was|has been) (?:suspended|deactivated|disabled|revoked)|authentication_error",
    re.IGNORECASE,
)
OTHER_API = re.compile(r"v1/responses|responses api|/chat/completions endpoint|unsupported_api_for_model", re.I)
NO_MODEL = re.compile(
    r"model_?not_?found|(?:unknown|no such) model\b|not a valid model\b|"
    r"\bmodels?\b[^.]{0,80}(?:does not exist|not found|no longer|decommissioned|"
    r"has been (?:retired|deprecated|removed|shut down))",
    re.IGNORECASE,
)
LOADING = re.compile(r"\bload(?:ing|ed yet)\b|warm(?:ing)? ?up|start(?:ing)? up|cold start|not ready", re.IGNORECASE)
"""A server that will answer once its model is in memory, whatever its status."""
NO_IMAGES = re.compile(
    r"image input is not supported|(?:does not|doesn't) support (?:image|vision|multimodal)|not a multimodal model|"
    r"no (?:vision|multimodal) (?:support|projector)|support image input",
    re.IGNORECASE,
)
"""A server whose model is text-only may say so with a 500, which no repetition mends."""
NAMED_STATUSES = {
    "rate_limit": 429,
    "too_many_requests": 429,
    "resource_exhausted": 429,
    "overloaded": 529,
    "unavailable": 503,
    "timeout": 504,
    "insufficient_quota": 402,
    "authentication": 401,
    "permission": 403,
    "not_found": 404,
    "invalid_request": 400,
    "invalid_argument": 400,
    "server_error": 500,
    "internal": 500,
}
"""Beginnings of error codes and types that stand for a status inside a 200."""
WORDS = (
    *("message", "error", "detail", "msg", "status_msg", "Message", "errors", "error_description", "error_msg"),
    *("faultstring", "reason", "title", "Error", "fault", "Response", "base_resp"),
)
"""Keys under which endpoints put their words, or what holds them."""
ERRORS = ("errors", "base_resp", "detail", "message", "Message", "msg", "error_msg", "fault", "Error", "Response")
"""Keys of a response without an answer that say that it is an error."""
LONGEST_MESSAGE, LONGEST_LOOKED_AT = 400, 20_000
DURATION = re.compile(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m(?!s))?(?:(\d+(?:\.\d+)?)s)?(?:(\d+(?:\.\d+)?)ms)?")
UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
DELAY = re.compile(
    r"(?:try again|retry|wait|available|resets?)\b[^.\d]{0,40}"
    r"((?:\d{1,6}(?:\.\d{1,6})? ?(?:ms|milli|s|m|h)[a-z]*[ ,]{0,2}){1,3})",
    re.IGNORECASE,
)


WAIT_KEY = re.compile(
    r"(?:retry_?(?:after|delay|in)|wait|estimated_?time)(?:_?(?:(?P<ms>ms|milliseconds)|seconds|s|time))?",
    re.IGNORECASE,
)


class EndpointError(Exception):
    """An error as an endpoint reported it.

    Attributes:
        status: the HTTP status, or the one that an error inside a 200 stands for.
        message: the endpoint's own words, in one line.
        code: the error's code, type or status in words; empty if there is none.
        param: the request's parameter that the error is about; empty if it names none.
        retry_after_s: seconds that the endpoint asks to wait, or None.
        location: where a redirect leads; empty otherwise.
        cost_usd: what the request cost; None: nobody said, and it may have been billed.
    """

    cost_usd: float | None = 0.0

    def __init__(self, status: int, body: Any, headers: Mapping[str, str] | None = None) -> None:
        if isinstance(body, bytes):
            body = body.decode(errors="replace")
        if isinstance(body, str) and body.lstrip()[:1] in ("{", "["):
            with contextlib.suppress(ValueError, RecursionError):  # a body that is no JSON is taken as it is
                body = json.loads(body)
        error = _error_of(body)
        self.status = status
        self.code = " ".join(str(error[key]) for key in ("code", "type", "status") if error.get(key) not in (None, ""))
        self.param = str(error.get("param") or "")
        self.message = _message_of(status, body)
        self.moderated = bool(MODERATED.search(f"{self.code} {self.message} {_quoted(error.get('innererror'))}"))
        self.moderated |= bool(as_object(error.get("metadata")).get("reasons"))
        self.retry_after_s = retry_after_s(headers or {}, body, self.message)
        self.location = (headers or {}).get("location", "")
        super().__init__(self.message)

    def mentions(self, pattern: str) -> bool:
        """Whether the error speaks of a parameter, in whatever words."""
        words, flags = f"{self.param} {self.message}", re.IGNORECASE | re.ASCII  # no blanks part words in Chinese
        return re.search(rf"(?<!\w){pattern}(?![a-z])", words, flags) is not None


class ResponseRefused(ValueError):
    """A response that is not even read: it is too large, or packed in an unknown way."""


def of_sdk(error: Exception, sdk: Any) -> EndpointError | RetryableError:
    """What a package says of a request, as ours: `anthropic`, or another one of the same make (`openai`).

    Raises:
        ResponseRefused, RetryableError: what our own connection said.
        Exception: `error` itself, if it is none of the package's.
    """
    for cause in (error, error.__cause__):
        if isinstance(cause, ResponseRefused | RetryableError):
            raise cause
    if isinstance(error, sdk.APIStatusError):
        return EndpointError(error.status_code, error.response.content, error.response.headers)
    if isinstance(error, sdk.APIConnectionError):
        return connection_error(error.__cause__ or error)
    if isinstance(error, sdk.APIResponseValidationError | ValueError | RecursionError):
        return RetryableError(f"the response is not JSON: {in_short(str(error))}", kind="bad-response")
    raise error


def connection_error(error: BaseException) -> RetryableError:
    """A request that got no response; if it was never sent, it was not billed."""
    name = type(error).__name__
    message = in_short(f"{name}: {error}" if str(error) else name)
    if name in ("ConnectTimeout", "ConnectError", "ProxyError", "UnsupportedProtocol", "PoolTimeout"):
        return RetryableError(f"no connection ({message})", kind="unreachable")
    return RetryableError(message, kind="timeout" if "Timeout" in name else "connection")


def error_in_success(body: Any) -> EndpointError | None:
    """The error in a response that says 200: of the whole, of its first choice, or of the message; None if none is."""
    if not isinstance(body, Mapping):
        return None
    choices = body.get("choices") or body.get("output") or body.get("content") or body.get("candidates")
    first = as_object(choices[0]) if isinstance(choices, list) and choices else {}
    for holder in (body, first, as_object(first.get("message"))):
        error = holder.get("error")
        # some endpoints give an empty one, or the code 0, with every answer
        is_none = isinstance(error, Mapping) and (not any(error.values()) or str(error.get("code")) in ("0", "200"))
        if error and not is_none:
            return EndpointError(_status_in(error), {"error": error})
    if choices or not any(body.get(key) and "role" not in as_object(body[key]) for key in ERRORS):
        return None
    inner = body.get("errors") or body.get("base_resp") or body
    inner = inner[0] if isinstance(inner, list) and inner else inner
    return EndpointError(400 if "detail" in body else _status_in(inner), {"error": inner})


def outcome_of_error(error: EndpointError | RetryableError, key_env: str = "") -> Outcome:
    """The outcome of a request that failed for good.

    Args:
        key_env: environment variable that holds the key, for messages.

    Raises:
        RetryableError: the same request may succeed later.
        UserError: no request can succeed: bad key, unknown model, no credits.
    """
    if isinstance(error, RetryableError):
        raise error
    status, message = error.status, f"{error.status} {error.message}"
    key = f"the key in ${key_env}" if key_env else "the key"
    words, usage = f"{error.code} {error.message}", Usage(cost_usd=error.cost_usd)
    if error.moderated and status < 500 and status != 429:
        return Refusal(error.message, usage)
    if NO_CREDITS.search(words) and (status < 429 or (status == 429 and error.retry_after_s is None)):
        raise UserError(f"the endpoint says: {message}; {CONCERNS_ALL[402]}")
    if 300 <= status < 400:
        raise UserError(
            f"the endpoint redirects to {public_url(error.location) or 'nowhere'}, where neither key nor images are "
            "sent; if that is yours, make it base_url="
        )
    if NO_IMAGES.search(words):
        return Failed("no-images", message, usage=usage)
    if OTHER_API.search(words):
        raise UserError(f"the endpoint says: {message}; add api=responses to the model")
    status = _plain_status(status, words)
    if status >= 500 and LOADING.search(words):
        raise RetryableError(message, error.retry_after_s, kind="loading")
    if status in TEMPORARY or status >= 500:
        kind = "broken-answer" if error.cost_usd is None else f"http-{status}"
        raise RetryableError(message, error.retry_after_s, kind=kind, cost_usd=error.cost_usd)
    if status in CONCERNS_ALL:
        raise UserError(f"the endpoint says: {message}; {CONCERNS_ALL[status].replace('{key}', key)}")
    return Failed(f"http-{status}", message, usage=usage)


def _plain_status(status: int, words: str) -> int:
    """The status that says what the words say: some call a bad key, or a model that is gone, a bad request."""
    if status in (400, 401, 403) and BAD_KEY.search(words):
        return 401
    return 404 if status in (400, 422) and NO_MODEL.search(words) else status


# ------------------------------------------------------------------------------------------------ rejected parameters

REJECTED = frozenset({400, 403, 422, 501})
"""Statuses of requests that an endpoint does not take as they are."""
ITS_VALUE = re.compile(
    r"too (?:large|small|high|low)|at (?:most|least)|(?:less|greater) than|exceed|maximum|between|range", re.I
)
"""Of a parameter that is taken, with another value."""
UNKNOWN_PARAMETER = re.compile(
    r"unexpected keyword|unknown|unsupported|not supported|unrecogni[sz]ed|not permitted", re.I
)
"""Of a parameter that a server has stumbled over, and so answers with a 500."""
PARAMETER_NAMES = {
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
    stumbled = error.status == 500 and UNKNOWN_PARAMETER.search(error.message) is not None
    return (error.status in REJECTED or stumbled) and not error.moderated


def rejected_among(error: EndpointError, names: Iterable[str]) -> str | None:
    """The first of the optional parameters that a rejection is about; None: none of them."""
    about = (name for name in names if error.mentions(PARAMETER_NAMES.get(name, re.escape(name))))
    return next(about, None) if is_rejection(error) else None


# ------------------------------------------------------------------------------------------------- reading what came


def as_object(value: Any) -> dict[str, Any]:
    """A JSON object; an empty one instead of anything else."""
    return value if isinstance(value, dict) else {}


def as_list(value: Any) -> list[Any]:
    """A JSON list; an empty one instead of anything else."""
    return value if isinstance(value, list) else []


def in_short(text: str) -> str:
    """A text in one line of bearable length; of an HTML page its title. Keys go first, lest a part of one is left."""
    if len(text) > LONGEST_LOOKED_AT:
        text = next(iter(text[:LONGEST_LOOKED_AT].rsplit(maxsplit=1)), "")  # whole words: the last may be half a key
    line = " ".join(redact_known(text).split())
    if re.search(r"<!doctype html|<html", line[:2000], re.IGNORECASE):
        title = re.search(r"<title>([^<]{1,100})", line, re.IGNORECASE)
        return "an HTML page instead of JSON" + (f", {title[1].strip()!r}" if title else "")
    return line if len(line) <= LONGEST_MESSAGE else f"{line[:LONGEST_MESSAGE]}…"


def public_url(url: str) -> str:
    """A URL without user name, password, query and fragment."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path.rstrip("/"), "", ""))


def _quoted(value: Any) -> str:
    """A value as the reader of a message can take it."""
    if isinstance(value, str):
        return value
    try:
        return "" if value is None else json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError):
        return str(value)


def _error_of(body: Any) -> Mapping[str, Any]:
    """The part of a body that describes the error."""
    if isinstance(body, list) and len(body) == 1:
        return _error_of(body[0])
    inner = as_object(body).get("error")
    return inner if isinstance(inner, Mapping) else as_object(body)


def _message_of(status: int, body: Any) -> str:
    """The endpoint's words: `error.message`, `error`, `message`, `detail`, or the body as it is."""
    error = _error_of(body)
    own = next((error[key] for key in WORDS if error.get(key)), None)
    if isinstance(own, Mapping):
        return _message_of(status, own)
    if own is None:
        own = body if body not in (None, "", {}, []) else f"HTTP {status} without a word"
    if isinstance(own, list) and all(isinstance(part, Mapping) and {"msg", "message"} & set(part) for part in own):
        places = [".".join(map(str, part.get("loc", ()))) for part in own]  # FastAPI's
        told = [_quoted(part.get("msg") or part.get("message")) for part in own]
        own = "; ".join(f"{place}: {words}" if place else words for place, words in zip(places, told, strict=True))
    upstream = as_object(error.get("metadata")).get("raw")
    return in_short(_quoted(own) + (f" ({_quoted(upstream)})" if upstream else ""))


def _status_in(error: Any) -> int:
    """The status that an error inside a 200 stands for; 502 if it does not say."""
    found = as_object(error)
    for key in ("code", "status", "status_code", "type"):
        value = str(found.get(key) or "").lower()
        if value.isdigit() and 400 <= int(value[:4]) < 600:
            return int(value)
        for name, status in NAMED_STATUSES.items():
            if name in value:
                return status
    words = _quoted(error)
    if BAD_KEY.search(words):
        return 401
    if MODERATED.search(words):
        return 400
    return 402 if NO_CREDITS.search(words) else 502


def retry_after_s(headers: Mapping[str, Any], body: Any = None, message: str = "") -> float | None:
    """Seconds that an endpoint asks to wait: by its headers, by a delay in the body, or in words; None: it does not."""
    for told in (*_told_by_headers(headers), *_told_by_body(body)):
        if told is not None and math.isfinite(told):
            return max(0.0, told)
    if (found := DELAY.search(message)) is None:
        return None
    parts = re.findall(r"(\d+(?:\.\d+)?) ?(ms|milli|s|m|h)", found[1].lower())
    return sum(float(number) * UNITS["ms" if unit == "milli" else unit] for number, unit in parts)


def _told_by_headers(headers: Mapping[str, Any]) -> Iterator[float | None]:
    """`retry-after-ms`, `Retry-After` and its kin, then the latest reset of a limit that is used up."""
    named = {name.lower().replace("rate-limit", "ratelimit"): str(value) for name, value in headers.items()}
    for name in sorted((name for name in named if re.search("retry-?after", name)), key=lambda name: "ms" not in name):
        yield _number(named[name], 0.001) if name.endswith("ms") else duration_s(named[name])
    resets = {}
    pattern = re.compile(r"(?:(?:x|anthropic)-)?ratelimit-(?:reset-?(.*)|(.+)-reset)")
    for name, value in named.items():
        if (found := pattern.fullmatch(name)) is not None:
            kind = found[1] or found[2] or ""
            left = named.get(f"x-ratelimit-remaining-{kind}", named.get(f"anthropic-ratelimit-{kind}-remaining"))
            if left is None or _number(left) == 0:
                resets[kind] = duration_s(value)
    if (found := re.search(r"\b(?:t|reset)=(\d+)", named.get("ratelimit", ""))) is not None:  # the IETF's
        resets["ratelimit"] = _number(found[1])
    yield max((told for told in resets.values() if told is not None), default=None)


def _told_by_body(body: Any, depth: int = 0) -> Iterator[float | None]:
    """Values of keys such as `retry_after` and Google's `retryDelay`, wherever in an error they stand."""
    if depth > 6:
        return
    if isinstance(body, Mapping):
        for key, value in body.items():
            if (found := WAIT_KEY.fullmatch(str(key))) is not None:
                yield _number(value, 0.001) if found["ms"] else duration_s(str(value))
            yield from _told_by_body(value, depth + 1)
    elif isinstance(body, list):
        for value in body[:20]:
            yield from _told_by_body(value, depth + 1)


def duration_s(text: str) -> float | None:
    """Seconds in a text such as `3.2s`, `1m30s`, `120ms`, `37`, a time stamp since 1970 or an ISO date.

    >>> duration_s("1m30s"), duration_s("120ms"), duration_s("37"), duration_s("soon")
    (90.0, 0.12, 37.0, None)
    """
    text = text.strip()
    if (number := _number(text)) is not None:
        if number > 1e9:  # a point in time, in seconds or milliseconds
            return number / (1000 if number > 1e11 else 1) - time.time()
        return number
    if text and (found := DURATION.fullmatch(text)) is not None:
        scales = 3600, 60, 1, 0.001
        return sum(float(part or 0) * scale for part, scale in zip(found.groups(), scales, strict=True))
    for read in (parsedate_to_datetime, datetime.fromisoformat):  # an HTTP date, an ISO date
        with contextlib.suppress(TypeError, ValueError, OverflowError, IndexError):
            return read(text).timestamp() - time.time()
    return None


def _number(text: Any, scale: float = 1.0) -> float | None:
    try:
        number = float(text) * scale
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None

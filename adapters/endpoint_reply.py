"""What a model said through an endpoint, whoever's: text, thoughts, how it ended, what it took; nothing is trusted."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any, Literal

from harness.adapters.endpoint_errors import as_list, as_object, error_in_success, in_short
from harness.adapters.endpoint_prices import Price
from harness.redact import redact_known
from harness.tasks.parser import label_place, parse_answer
from harness.types import Answer, Failed, Item, Outcome, Refusal, RetryableError, Usage

Ending = Literal["done", "cut", "refused", "broken"]
ENDINGS: dict[Ending, str] = {
    "refused": "filter|safe|prohibit|block|spii|recitation|sensitive|refus|moderat|policy|guardrail|inspection|risk|"
    "toxic|harm|violat|offens|language|armor|copyright|illegal|forbidden|csam",
    "broken": "malformed|error|abort|fail|insufficient|overload|timed?.?out|cancel|interrupt|unavailable|network|"
    "rate_?limit|quota",
    "cut": "length|max|limit|exceed|context|truncat|incomplete|budget|too_long|window|contin",
    "done": "stop|^end|_end$|eos|complete|done|finish|normal|success|tool|function|unspecified|repetition|"
    "^none$|^null$|^$",
}
"""How vendors name the ways in which an answer ends; a name of none of these kinds is an error's."""
LONGEST_NAME = 100
MOST_TOKENS = 10**8
"""A count beyond this is none."""
DOUBTFUL = 0.02
"""Largest probability of tokens that begin several labels at once which is still left out of the count."""


def ending_of(finish_reason: Any) -> Ending:
    """How an answer ended, by whatever name.

    >>> ending_of("stop"), ending_of("MAX_TOKENS"), ending_of("content_filter: PROHIBITED_CONTENT"), ending_of("abort")
    ('done', 'cut', 'refused', 'broken')
    """
    name = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", str(finish_reason if finish_reason is not None else "")).lower().strip()
    return next((ending for ending, pattern in ENDINGS.items() if re.search(pattern, name)), "broken")


@dataclass(frozen=True)
class Reply:
    """An answer, and what came with it.

    Attributes:
        text: the answer; empty if there is none.
        finish_reason: in the endpoint's words.
        refusal: the API's own field for it, empty if the model did not refuse.
        reasoning: what the model thought, if the endpoint keeps that apart.
        tokens: a mapping with `token` and `top_logprobs` per token of the answer; empty if not given.
        model, system_fingerprint: as the endpoint names itself.
        prompt_tokens, completion_tokens: as counted, thoughts included; None if nobody said, or no such number exists.
        cached_tokens, reasoning_tokens: parts of the two.
        problem: what the endpoint says of an answer that it could not finish.
    """

    text: str = ""
    finish_reason: str = "stop"
    refusal: str = ""
    reasoning: str = ""
    tokens: tuple[Mapping[str, Any], ...] = ()
    model: str | None = None
    system_fingerprint: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cached_tokens: int | None = None
    reasoning_tokens: int | None = None
    problem: str = ""

    @property
    def ending(self) -> Ending:
        """How it ended."""
        return ending_of(self.finish_reason)

    def usage(self, price: Price, latency_s: float | None = None) -> Usage:
        """Tokens and what they cost."""
        cost = price.cost_usd(self.prompt_tokens, self.completion_tokens, self.cached_tokens)
        return Usage(
            latency_s,
            self.prompt_tokens,
            self.completion_tokens,
            cost,
            cached_tokens=self.cached_tokens,
            reasoning_tokens=self.reasoning_tokens,
        )


def outcome_of_reply(reply: Reply, item: Item, usage: Usage) -> Outcome:
    """What a reply says about an item: the API's refusals first, then what the parser reads from the text.

    Raises:
        RetryableError: the endpoint could not finish the answer.
    """
    if reply.refusal or reply.ending == "refused":
        return Refusal(reply.refusal or reply.text or reply.finish_reason, usage, reply.reasoning)
    if reply.ending == "broken":
        message = reply.problem or f"the answer ended with {reply.finish_reason!r}"
        raise RetryableError(message, kind="broken-answer", cost_usd=usage.cost_usd)
    cut, explained = reply.ending == "cut", item.explanations
    found = parse_answer(reply.text, item.labels, usage, truncated=cut, explained=explained, reasoning=reply.reasoning)
    if isinstance(found, Failed) and found.error_type == "no-answer":
        return replace(found, message=f"{found.message}; see reasoning_effort= and extra_body=")
    if isinstance(found, Answer) and reply.tokens:
        return replace(found, emotion_probs=label_probabilities(reply.tokens, item.labels))
    return found


# ----------------------------------------------------------------------------------------------- reading what came

ANSWERS = {"choices", "output", "content", "candidates"}
"""Keys of what holds an answer."""


def read_json(body: Any, price: Price) -> dict[str, Any]:
    """A response's JSON object, also if its headers call it text, without the envelope that some gateways put it in.

    Args:
        price: for what an error cost that came after the work was begun.

    Raises:
        EndpointError: it is an error after all.
        RetryableError: it is a part of one, or empty.
        ValueError: it is none.
    """
    if isinstance(body, str):
        try:
            body = unstreamed(body) or json.loads(body)
        except (ValueError, RecursionError):
            start = in_short(body)[:80]
            if start[:1] in ("", "{", "[") or start.startswith(("data:", "event:")):
                raise RetryableError(f"the response is no whole JSON: {start!r}", kind="bad-response") from None
            raise ValueError(f"expected JSON, got {start}; check base_url= (it usually ends in /v1)") from None
    if isinstance(body, list) and body and all(isinstance(part, dict) for part in body):
        body = body[0] if len(body) == 1 else _put_together(body)  # events as a list are Gemini's other stream
    if not isinstance(body, dict):
        raise ValueError(
            f"expected a JSON object, got {in_short(str(body))[:80]}; check base_url= (it usually ends in /v1)"
        )
    wrapped = [] if ANSWERS & set(body) else [as_object(body.get(name)) for name in ("data", "result", "response")]
    answer: dict[str, Any] = next((inner for inner in wrapped if ANSWERS & set(inner)), body)
    if (error := error_in_success(answer)) is not None:
        usage = Reply(**token_counts(answer)).usage(price)
        is_counted = None not in (usage.prompt_tokens, usage.completion_tokens)
        unknown = not is_counted and any(answer.get(key) for key in ANSWERS)
        error.cost_usd = None if unknown else usage.cost_usd or 0.0
        raise error
    return answer


def text_of(content: Any) -> str:
    """An answer's text; some endpoints give a list of parts, of which thoughts are none of the answer."""
    if isinstance(content, list):
        return "".join(text_of(part) for part in content)
    if isinstance(content, Mapping):
        if not {"type", "text", "thought"} & set(content):
            return json.dumps(content, ensure_ascii=False)  # an answer by schema that somebody parsed already
        thought = content.get("thought") is True or re.search("think|reason|refusal", str(content.get("type")))
        return "" if thought else text_of(content.get("text"))
    return content if isinstance(content, str) else ""


def thoughts_of(message: Mapping[str, Any]) -> str:
    """What a message says that the model thought: by either of the two names, or as parts of its content."""
    for name in ("reasoning", "reasoning_content", "thinking"):
        if isinstance(message.get(name), str) and message[name].strip():
            return str(message[name])
    parts = message.get("content")
    thoughts = [part for part in parts if isinstance(part, Mapping)] if isinstance(parts, list) else []
    kept = [part for part in thoughts if re.search("think|reason", str(part.get("type")))]
    return "".join(text_of(part.get("thinking")) or text_of(part.get("text")) for part in kept)


def name_of(value: Any) -> str | None:
    """What a model, or a system, is called, in a bearable length. Keys go first, lest a part of one is left."""
    return redact_known(str(value))[:LONGEST_NAME] if isinstance(value, str | int) and value else None


def count(value: Any) -> int | None:
    """A number of tokens; None for what is none, or cannot be one."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= MOST_TOKENS:
        return None
    return math.ceil(value)


def token_counts(body: Mapping[str, Any]) -> dict[str, Any]:
    """Tokens under the names of `Reply`, by whichever names they came; 0 for a whole prompt is no count."""
    usage, google = as_object(body.get("usage")), as_object(body.get("usageMetadata"))
    if google and ("candidates" in body or not usage):
        prompt, thoughts = count(google.get("promptTokenCount")) or None, count(google.get("thoughtsTokenCount"))
        answer, total = count(google.get("candidatesTokenCount")), count(google.get("totalTokenCount"))
        spoken = None if answer is None else answer + (thoughts or 0)
        completion = completion_count(prompt, spoken, total, None)
        cached = count(google.get("cachedContentTokenCount"))
    else:
        prompt = count(usage.get("prompt_tokens", usage.get("input_tokens"))) or None
        # Anthropic's names: what went into its cache, or came from there, is counted beside the prompt.
        cache = [count(usage.get(name)) or 0 for name in ("cache_creation_input_tokens", "cache_read_input_tokens")]
        if prompt is not None and ("prompt_tokens" not in usage or sum(cache) > prompt):
            prompt += sum(cache)
        inward = as_object(usage.get("prompt_tokens_details") or usage.get("input_tokens_details"))
        outward = as_object(usage.get("completion_tokens_details") or usage.get("output_tokens_details"))
        thoughts = count(outward.get("reasoning_tokens", usage.get("reasoning_tokens")))
        spoken = count(usage.get("completion_tokens", usage.get("output_tokens")))
        completion = completion_count(prompt, spoken, count(usage.get("total_tokens")), thoughts)
        cached = count(inward.get("cached_tokens", usage.get("prompt_cache_hit_tokens", cache[1] or None)))
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "cached_tokens": cached,
        "reasoning_tokens": thoughts,
    }


def completion_count(prompt: int | None, completion: int | None, total: int | None, thoughts: int | None) -> int | None:
    """All that was generated: what is reported or, if some left the thoughts out of that, total - prompt."""
    beside = total - prompt if total is not None and prompt is not None else None
    alone = completion + thoughts if completion is not None and thoughts is not None and thoughts > completion else None
    return max((known for known in (completion, beside, alone) if known is not None), default=None)


def listed_tokens(content: Any) -> tuple[Mapping[str, Any], ...]:
    """The tokens of an answer with their probabilities; empty if one of them has another form."""
    sound = []
    for token in as_list(content):
        if not isinstance(token, Mapping) or not isinstance(token.get("token"), str):
            return ()
        kept = []
        for top in as_list(token.get("top_logprobs")):
            logprob = top.get("logprob") if isinstance(top, Mapping) and isinstance(top.get("token"), str) else None
            if isinstance(logprob, int | float) and not isinstance(logprob, bool) and logprob <= 1e-3:
                kept.append(top)
        sound.append({"token": token["token"], "top_logprobs": kept})
    return tuple(sound)


# ----------------------------------------------------------------------------------------------------------- streams

BROKEN_OFF = "interrupted: the stream broke off"


def unstreamed(text: str) -> dict[str, Any] | None:
    """The response in a stream of events, which some proxies send unasked, in any of the APIs; None if it is none.

    Raises:
        ValueError: an event is no JSON.
    """
    events = _events(text)
    if not events:
        return None
    # An error goes with what was said before it, which may be billed.
    errors = [event.get("error") or event for event in events if event.get("error") or event.get("object") == "error"]
    return _put_together(events) | ({"error": errors[-1]} if errors else {})


def _events(text: str) -> list[dict[str, Any]]:
    """What the events of a stream say: each line of data, or all lines of an event together, is JSON."""
    found: list[dict[str, Any]] = []
    # Not `splitlines`, which also breaks at the separators that JSON allows inside a text.
    for event in text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n").split("\n\n"):
        lines = [line[5:].strip() for line in event.split("\n") if line.startswith("data:")]
        data = [line for line in lines if line and line != "[DONE]"]
        try:
            found += [as_object(json.loads(line)) for line in data]
        except ValueError:
            found.append(as_object(json.loads("\n".join(data))))
    return found


def _put_together(events: Sequence[dict[str, Any]]) -> dict[str, Any]:
    for event in reversed(events):
        if whole := event.get("response"):  # the Responses API's last event
            return as_object(whole)
    if started := next((event["message"] for event in events if event.get("type") == "message_start"), None):
        return _message_of(as_object(started), events)
    if any(event.get("candidates") for event in events):
        return _content_of(events)
    return _completion_of(events)


def _completion_of(events: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """A chat completion of the first choice: of its last whole message, or of the pieces of one."""
    choices = [choice for event in events for choice in map(as_object, as_list(event.get("choices")))]
    choices = [choice for choice in choices if not choice.get("index")]
    deltas = [as_object(choice.get("delta")) for choice in choices]
    calls = [as_object(call).get("function") for delta in deltas for call in as_list(delta.get("tool_calls"))]
    called = [as_object(function) for function in (*calls, *(delta.get("function_call") for delta in deltas))]
    pieces = {
        "content": "".join(text_of(delta.get("content")) for delta in deltas)
        or "".join(text_of(choice.get("text")) for choice in choices),
        "refusal": "".join(text_of(delta.get("refusal")) for delta in deltas),
        "reasoning": "".join(thoughts_of(delta) for delta in deltas),
        "function_call": {"arguments": "".join(text_of(function.get("arguments")) for function in called)},
    }
    wholes = [choice for choice in choices if choice.get("message")]
    ends = [choice["finish_reason"] for choice in choices if choice.get("finish_reason")]
    finish = ends[-1] if ends else None if wholes and len(choices) == 1 else BROKEN_OFF
    choice = (wholes[-1] if wholes else {"message": pieces}) | {"finish_reason": finish}
    named = next((event for event in events if event.get("choices")), events[0])
    return {**named, "choices": [choice] if choices else [], "usage": _last(events, "usage")}


def _message_of(started: dict[str, Any], events: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """A message of Anthropic's API."""
    deltas = [as_object(event.get("delta")) for event in events]
    content = [{"type": kind, kind: "".join(text_of(d.get(kind)) for d in deltas)} for kind in ("thinking", "text")]
    ends = [delta["stop_reason"] for delta in deltas if delta.get("stop_reason")]
    usage = as_object(started.get("usage"))
    for event in events:
        usage = usage | as_object(event.get("usage"))
    end = {"stop_reason": ends[-1], "usage": usage} if ends else {"stop_reason": BROKEN_OFF, "usage": None}
    return {**started, "content": content, **end}  # the count that comes with the start is none of the answer


def _content_of(events: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """A response of Gemini's generateContent."""
    candidates = [candidate for event in events for candidate in map(as_object, as_list(event.get("candidates"))[:1])]
    parts = [part for candidate in candidates for part in as_list(as_object(candidate.get("content")).get("parts"))]
    ends = [candidate["finishReason"] for candidate in candidates if candidate.get("finishReason")]
    candidate = {"content": {"parts": parts}, "finishReason": ends[-1] if ends else BROKEN_OFF}
    return {**events[0], "candidates": [candidate], "usageMetadata": _last(events, "usageMetadata")}


def _last(events: Sequence[dict[str, Any]], name: str) -> Any:
    return next((event[name] for event in reversed(events) if event.get(name)), None)


# ----------------------------------------------------------------------------------------------- label probabilities


def label_probabilities(tokens: Sequence[Mapping[str, Any]], labels: Sequence[str]) -> dict[str, float] | None:
    """The share of each label at the place where the answer names its emotion.

    At that place the listed tokens are read as beginnings of labels. A label that no listed token begins gets an equal
    share of the probability that the list leaves over, but no more than the least listed one; all are then divided by
    their sum.

    Args:
        tokens: `choices[0].logprobs.content`: mappings with `token` and `top_logprobs` (each `token`, `logprob`).
        labels: the task's labels.

    Returns:
        label -> probability (sums to 1), or None where the place is not found, or a token of some weight begins several
        labels, so that its probability cannot be divided among them.
    """
    texts = [str(token.get("token")) for token in tokens]
    place = label_place("".join(texts), labels)
    ends = accumulate(map(len, texts))
    index = None if place is None else next((i for i, end in enumerate(ends) if place[0] < end), None)
    if place is None or index is None:
        return None
    before = texts[index][: place[0] - sum(map(len, texts[:index]))]
    tops = tokens[index].get("top_logprobs") or ()
    listed = {
        str(top["token"]): math.exp(top["logprob"]) for top in tops if isinstance(top.get("logprob"), int | float)
    }
    found: dict[str, float] = {}
    doubtful = 0.0
    for token, probability in listed.items():
        word = token.removeprefix(before).strip().lower() if token.startswith(before) else ""
        begun = []
        for label, name in zip(labels, map(str.lower, labels), strict=True):
            # a token may hold a whole label and something after it, such as a closing quotation mark
            holds = word.startswith(name) and not word[len(name) : len(name) + 1].isalnum()
            if word and (name.startswith(word) or holds):
                begun.append(label)
        if len(begun) == 1:
            found[begun[0]] = found.get(begun[0], 0.0) + probability
        elif begun:
            doubtful += probability
    if not (sum(found.values()) > 0.0 and doubtful <= DOUBTFUL):
        return None
    absent = [label for label in labels if label not in found]
    left = max(0.0, 1.0 - sum(listed.values()))
    whole = found | dict.fromkeys(absent, min(left / len(absent), min(listed.values())) if absent else 0.0)
    total = sum(whole.values())
    return {label: whole[label] / total for label in labels}

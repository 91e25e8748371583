"""Outcome files: one JSON line per example, appended durably, read back strictly; requests are counted beside them."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from json.decoder import scanstring  # type: ignore[attr-defined]
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from harness.types import Answer, Failed, Outcome, Refusal, Unparsed, Usage, UserError, check_name

T = TypeVar("T")
FSYNC_EVERY_S = 1.0
_BEGINS = b'{"id": "'

LATER_USAGE = frozenset({"cached_tokens", "reasoning_tokens", "reserve_usd"})
"""Parts of the usage that are written only if they are known."""
KINDS: dict[type, str] = {Answer: "answer", Refusal: "refusal", Unparsed: "unparsed", Failed: "failed"}


def outcome_to_json(example_id: str, outcome: Outcome) -> dict[str, Any]:
    """One line of an outcomes file; `truncated`, `reasoning` and `reason` are written only if they say something."""
    line: dict[str, Any] = {"id": example_id, "kind": KINDS[type(outcome)]}
    if isinstance(outcome, Answer):
        line |= {"emotion": outcome.emotion, "explanation": outcome.explanation}
        line["emotion_probs"] = dict(outcome.emotion_probs) if outcome.emotion_probs is not None else None
        line["held_out"] = outcome.held_out
        line["ratings"] = dict(outcome.ratings) if outcome.ratings is not None else None
        line |= {"truncated": True} if outcome.truncated else {}
    line["raw"] = outcome.raw
    line |= {"reasoning": outcome.reasoning} if outcome.reasoning else {}
    line |= {"reason": outcome.reason} if isinstance(outcome, Unparsed) and outcome.reason else {}
    usage = ((field.name, getattr(outcome.usage, field.name)) for field in dataclasses.fields(Usage))
    line["usage"] = {key: value for key, value in usage if value is not None or key not in LATER_USAGE}
    line["error"] = None
    if isinstance(outcome, Failed):
        line["error"] = {"type": outcome.error_type, "message": outcome.message}
    return line


def outcome_from_json(line: Mapping[str, Any]) -> tuple[str, Outcome]:
    """Read one line of an outcomes file; one without `kind` is an answer: a label, an explanation or both.

    Raises:
        ValueError: a key is missing or of the wrong type; the message names it.
    """
    example_id = line.get("id")
    if not isinstance(example_id, str):
        raise ValueError(f"key 'id' must be a string, got {_shown(example_id)}")
    given = _of_type(line, "usage", dict, {})
    used = {field.name: given[field.name] for field in dataclasses.fields(Usage) if field.name in given}
    for name, value in used.items():
        if value is not None and not (isinstance(value, int | float) and _is_finite(value)):
            raise ValueError(f"key 'usage': {name!r} must be a finite number, true, false or null, got {_shown(value)}")
    usage = Usage(**used)
    raw, reasoning = _of_type(line, "raw", str, ""), _of_type(line, "reasoning", str, "")
    match line.get("kind") or "answer":
        case "answer":
            return example_id, _answer_from_json(line, raw, usage, reasoning)
        case "refusal":
            return example_id, Refusal(raw, usage, reasoning)
        case "unparsed":
            return example_id, Unparsed(raw, usage, _of_type(line, "reason", str, ""), reasoning)
        case "failed":
            error = _of_type(line, "error", dict, {})
            failed = Failed(str(error.get("type", "unknown")), str(error.get("message", "")), raw, usage, reasoning)
            return example_id, failed
        case other:
            raise ValueError(f"key 'kind' must be answer, refusal, unparsed or failed, got {_shown(other)}")


def _of_type(line: Mapping[str, Any], key: str, kind: type[T], default: T) -> T:
    value = line.get(key)
    if value is None:
        return default
    if not isinstance(value, kind):
        expected = {dict: "an object", bool: "true, false"}.get(kind, "text")
        raise ValueError(f"key {key!r} must be {expected} or null, got {_shown(value)}")
    return value


def _is_finite(number: float) -> bool:
    try:
        return math.isfinite(number)
    except OverflowError:  # whole numbers of any length are JSON
        return False


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _answer_from_json(line: Mapping[str, Any], raw: str, usage: Usage, reasoning: str) -> Answer:
    emotion, explanation = _of_type(line, "emotion", str, ""), _of_type(line, "explanation", str, "")
    if not emotion and not explanation:
        raise ValueError(f"key 'emotion' must be a non-empty string in an answer, got {_shown(line.get('emotion'))}")
    probs = _numbers(line, "emotion_probs", "labels", least=0.0)
    held_out = line.get("held_out")
    indexes = held_out if isinstance(held_out, list) else [held_out]
    if held_out is not None and not (indexes and all(type(index) is int for index in indexes)):
        raise ValueError(f"key 'held_out' must be an index, a list of indexes or null, got {_shown(held_out)}")
    ratings = _numbers(line, "ratings", "dimensions")
    truncated = _of_type(line, "truncated", bool, False)
    left_out = tuple(held_out) if isinstance(held_out, list) else held_out
    return Answer(emotion, explanation, probs, raw, usage, left_out, ratings, truncated, reasoning)


def _numbers(line: Mapping[str, Any], key: str, of: str, least: float | None = None) -> dict[str, float] | None:
    numbers = line.get(key)
    if numbers is None:
        return None
    if not isinstance(numbers, Mapping) or not all(isinstance(v, int | float) for v in numbers.values()):
        raise ValueError(f"key {key!r} must map {of} to numbers, got {_shown(numbers)}")
    if any(not _is_finite(v) or (least is not None and v < least) for v in numbers.values()):
        raise ValueError(f"key {key!r} must hold finite numbers{'' if least is None else f' >= {least:g}'}")
    return {str(name): float(value) for name, value in numbers.items()}


def named_file(file: str, option: str) -> tuple[str, Path]:
    """Name and path of `[NAME=]FILE`, the value of an option; the file's stem is the name if none is given.

    Raises:
        UserError: no such file, or a name that cannot be one.
    """
    # a path may hold an equals sign itself
    name, equals, path = ("", "", file) if Path(file).is_file() else file.partition("=")
    source = Path(path if equals else file)
    if not source.is_file():
        raise UserError(f"{option} {file}: no such file")
    return check_name(name if equals else source.stem, f"{option.lstrip('-')} name"), source


class Recorded:
    """Which examples have an outcome, and which of those failed; an example's last outcome counts.

    Args:
        outcomes: ids with outcomes in the order in which they were recorded; read once, not kept.
    """

    def __init__(self, outcomes: Iterable[tuple[str, Outcome]]) -> None:
        failed = {example_id: isinstance(outcome, Failed) for example_id, outcome in outcomes}
        self.failed = {example_id for example_id, last_failed in failed.items() if last_failed}
        self.answered = failed.keys() - self.failed

    def __len__(self) -> int:
        return len(self.answered) + len(self.failed)

    def to_ask(self, selected: set[str], *, retry_failed: bool) -> set[str]:
        """Those of `selected` that have no outcome, or a failed one if failures are asked again."""
        unanswered = selected - self.answered
        return unanswered if retry_failed else unanswered - self.failed


class _AppendOnly:
    """A file that only grows, open for O_APPEND writes, which survive a killed process."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class OutcomeLog(_AppendOnly):
    """Appends outcomes to one file; each line is on its way to the disk before `append` returns.

    Every line is one `write` on an O_APPEND descriptor, so it survives a killed process; `fsync` follows at most once
    a second and at `close`, so that a power cut costs at most the last second.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._synced = time.monotonic()

    def append(self, example_id: str, outcome: Outcome) -> None:
        """Record one outcome.

        Raises:
            OSError: the disk is full or gone; a partly written line is cut off again.
        """
        # Lone surrogates (broken model text) are escaped: a line that cannot be encoded would lose the outcome.
        text = json.dumps(outcome_to_json(example_id, outcome), ensure_ascii=False, allow_nan=False)
        data = text.encode("utf-8", errors="backslashreplace") + b"\n"
        written = os.write(self._descriptor, data)
        if written != len(data):
            os.ftruncate(self._descriptor, os.fstat(self._descriptor).st_size - written)
            raise OSError(28, "No space left on device: an outcome could not be written")
        if time.monotonic() - self._synced >= FSYNC_EVERY_S:
            os.fsync(self._descriptor)
            self._synced = time.monotonic()

    def close(self) -> None:
        """Flush to the disk and close."""
        os.fsync(self._descriptor)
        super().close()


class RequestLogError(OSError):
    """A request could not be noted (the disk is full, say), so it was not sent."""


class RequestLog(_AppendOnly):
    """How often an endpoint was asked: one byte per request, written before the request is sent.

    An outcome is recorded when it arrives. A command that is killed leaves requests behind whose outcome nobody
    recorded: they are sent again when it is repeated, and may be billed twice. This file is how they are counted.
    """

    def begin(self) -> None:
        """Note that a request is about to be sent.

        Raises:
            RequestLogError: it could not be written.
        """
        try:
            os.write(self._descriptor, b".")
        except OSError as error:
            raise RequestLogError(error.errno, error.strerror) from error


def read_outcomes(path: Path) -> Iterator[tuple[str, Outcome]]:
    """Stream (id, outcome) from an outcomes file; a torn last line is left out.

    Raises:
        UserError: any other line is not an outcome; the message names file, line and key.
    """
    for number, line in json_lines(path):
        try:
            yield outcome_from_json(line)
        except (TypeError, ValueError) as error:
            raise UserError(f"{path}:{number}: {error}") from error


def cut_torn_line(path: Path) -> bool:
    """Remove an unfinished last line; True if there was one.

    A last line that lacks its newline alone is whole: readers count it, so it is ended here and not removed.
    """
    with path.open("rb+") as file:
        end = file.seek(0, os.SEEK_END)
        position = end
        while position > 0:
            step = min(1 << 16, position)
            file.seek(position - step)
            newline = file.read(step).rfind(b"\n")
            if newline >= 0:
                position = position - step + newline + 1
                break
            position -= step
        if position == end:
            return False
        file.seek(position)
        if _parses(file.read()):
            file.write(b"\n")
            return False
        file.truncate(position)
        return True


def json_lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Stream (line number, object) from a JSONL file; an unfinished last line is left out.

    Raises:
        UserError: a line is not JSON, or not an object.
    """
    with path.open("rb") as file:
        for number, data in enumerate(file, start=1):
            if not data.endswith(b"\n") and not _parses(data):
                return
            if not data.strip():
                continue
            try:
                line = json.loads(data.decode("utf-8"))
            except UnicodeDecodeError as error:
                raise UserError(f"{path}:{number}: not UTF-8 text (byte {error.start} of the line)") from error
            except (ValueError, RecursionError) as error:
                raise UserError(f"{path}:{number}: not JSON ({error})") from error
            if not isinstance(line, dict):
                raise UserError(f"{path}:{number}: expected an object, got {type(line).__name__}")
            yield number, line


def _parses(data: bytes) -> bool:
    try:
        json.loads(data)
    except (ValueError, RecursionError):
        return False
    return True


class StoredOutcomes(Mapping[str, Outcome]):
    """An outcomes file as a mapping that holds places in the file, not outcomes; a retried example's last line counts.

    Raises:
        UserError: when an outcome is asked for whose line is not one; the message names file, line and key.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._places: dict[str, int] = {}
        self._file = path.open("rb")
        place = 0
        for data in self._file:
            if data.startswith(_BEGINS) and data.endswith(b"}\n"):
                self._places[scanstring(data.decode("utf-8", "replace"), len(_BEGINS))[0]] = place
            elif data.strip():
                try:
                    self._places[self._read(data, place)[0]] = place
                except UserError:
                    if data.endswith(b"\n"):  # else it is a line that a crash left unfinished
                        raise
            place += len(data)

    def __getitem__(self, example_id: str) -> Outcome:
        place = self._places[example_id]
        self._file.seek(place)
        return self._read(self._file.readline(), place)[1]

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)

    def _read(self, data: bytes, place: int) -> tuple[str, Outcome]:
        try:
            return outcome_from_json(json.loads(data))
        except (TypeError, ValueError, AttributeError, RecursionError) as error:
            with self._path.open("rb") as file:
                line = 1 + file.read(place).count(b"\n")
            raise UserError(f"{self._path}:{line}: {error}") from error

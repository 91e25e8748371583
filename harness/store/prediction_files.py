"""Predictions made elsewhere: any usual file of them becomes outcomes of a task.

A file holds *records* (JSON Lines, a JSON list, csv, tsv, Excel, Parquet, an evaluation log); `Columns` says where in a
record its id, text, label and so on stand. The known formats are such `Columns`; they are recognised by the keys of the
first record. A column is a key (`prediction`), a path (`output.completion`, `choices.0.text`) or a pattern
(`{art_style}/{painting}`).
"""

from __future__ import annotations

import dataclasses
import importlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from harness.errors import nearest
from harness.store.outcomes import outcome_from_json
from harness.tasks.parser import parse_answer
from harness.tasks.readers.tables import read_rows, read_text
from harness.types import Answer, Failed, Outcome, Refusal, Task, Unparsed, Usage, UserError

Record: TypeAlias = Mapping[str, Any]

OUTSIDE = "label outside the task"
_BECAUSE = re.compile(r"\bbecause\b", re.IGNORECASE)
_BRACED = re.compile(r"\{([^{}]+)\}")


@dataclass(frozen=True, slots=True)
class Columns:
    """Where the parts of a prediction stand; None for what a file does not hold.

    Attributes:
        id: the example's id; numbers are taken as text.
        text: what the model said; label and explanation are read from it as from any model's answer.
        emotion, explanation: label and explanation apart, instead of `text`; one of them may be missing.
        probs: what the columns of label probabilities start with (`p_` for `p_awe`), or one column with an object.
        last_because: cut `text` after the last "because" instead of the first, as SEVLM's script does.
        refusal: text that is there if the model declined.
        errors: places of which one holds something if no answer was got.
        prompt_tokens, completion_tokens, latency_s, finish_reason: what the server reported.
    """

    id: str = "id"
    text: str | None = None
    emotion: str | None = None
    explanation: str | None = None
    probs: str | None = None
    last_because: bool = False
    refusal: str | None = None
    errors: tuple[str, ...] = ()
    prompt_tokens: str | None = None
    completion_tokens: str | None = None
    latency_s: str | None = None
    finish_reason: str | None = None


_CHOICE = "response.body.choices.0"
_OUTPUT = "response.body.output.-1.content.0"
_USAGE = "response.body.usage"
FORMATS: Mapping[str, Columns] = {
    "outcomes": Columns(),
    "sevlm": Columns(id="image_id", text="caption", last_because=True),
    "coco": Columns(id="image_id", explanation="caption"),
    "artemis-speaker": Columns(id="{art_style}/{painting}", emotion="grounding_emotion", explanation="caption"),
    "openai-batch": Columns(
        id="custom_id",
        text=f"{_CHOICE}.message.content",
        refusal=f"{_CHOICE}.message.refusal",
        errors=("error", "response.body.error"),
        prompt_tokens=f"{_USAGE}.prompt_tokens",
        completion_tokens=f"{_USAGE}.completion_tokens",
        finish_reason=f"{_CHOICE}.finish_reason",
    ),
    "openai-batch-responses": Columns(
        id="custom_id",
        text=f"{_OUTPUT}.text",
        refusal=f"{_OUTPUT}.refusal",
        errors=("error", "response.body.error"),
        prompt_tokens=f"{_USAGE}.input_tokens",
        completion_tokens=f"{_USAGE}.output_tokens",
        finish_reason="response.body.incomplete_details.reason",
    ),
    "inspect": Columns(
        text="output.completion",
        errors=("error",),
        prompt_tokens="output.usage.input_tokens",
        completion_tokens="output.usage.output_tokens",
        latency_s="total_time",
        finish_reason="output.choices.0.stop_reason",
    ),
    "lmms-eval": Columns(id="doc_id", text="filtered_resps"),
    "vlmevalkit": Columns(id="index", text="prediction"),
    "lighteval": Columns(id="doc.id", text="model_response.text"),
}
"""Names of `--format`."""
_KEYS_OF = (
    ("openai-batch", {"custom_id", "response"}),
    ("inspect", {"output", "epoch"}),
    ("lmms-eval", {"doc_id", "filtered_resps"}),
    ("lighteval", {"doc", "model_response"}),
    ("vlmevalkit", {"index", "prediction"}),
    ("artemis-speaker", {"art_style", "painting", "grounding_emotion", "caption"}),
    ("coco", {"image_id", "caption"}),
)
_OWN_KEYS = {"kind", "emotion", "explanation", "raw", "emotion_probs", "ratings"}


def read_predictions(
    path: Path, task: Task, columns: Columns | None = None, format_name: str | None = None
) -> list[tuple[str, Outcome]]:
    """Read a file of predictions.

    Args:
        path: the file.
        task: its labels (and its card's `aliases`), and whether answers need an explanation.
        columns: where the parts stand, for a file of one's own making.
        format_name: a key of `FORMATS`; None to recognise it.

    Returns:
        (id, outcome) in the order of the file. A label that the task does not have is `Unparsed`.

    Raises:
        UserError: a file that holds no predictions, is cut off, or is in no known form; a record without an id, or with
            a value of the wrong type; no label at all is one of the task's. Names file and record.
    """
    records = list(read_records(path))
    if not records:
        raise UserError(f"{path}: is empty; expected predictions, a record per example")
    name = format_name or (None if columns else _recognised(path, records))
    if name is not None and name not in FORMATS:
        raise UserError(f"--format {name}: {nearest(name, FORMATS)}")
    reader = _RecordReader(task, columns or FORMATS[name or "outcomes"])
    if name == "inspect":
        records = [(where, record) for where, record in records if record.get("epoch", 1) in (1, "1")]
    found = []
    for where, record in records:
        try:
            found.append(reader.own(record) if name == "outcomes" else reader.read(record))
        except (TypeError, ValueError) as error:
            raise UserError(f"{where}: {error}") from None
    text = None if name == "outcomes" else reader.columns.text
    if text and all(isinstance(o, Unparsed) for _, o in found) and all(_get(r, text) is None for _, r in records):
        raise UserError(f"{path}: no record holds anything in {text!r}; name another column: --text COLUMN")
    labelled = [o for _, o in found if isinstance(o, Answer) or (isinstance(o, Unparsed) and o.reason == OUTSIDE)]
    if labelled and all(isinstance(outcome, Unparsed) for outcome in labelled):
        wrong = sorted({outcome.raw for outcome in labelled})[:3]
        raise UserError(
            f"{path}: no label is one of {', '.join(task.emotions)}; the file has {', '.join(map(repr, wrong))}"
        )
    return found


def _recognised(path: Path, records: Sequence[tuple[str, Record]]) -> str:
    """The format, by the keys of the first record.

    Raises:
        UserError: none; names the keys and what to type.
    """
    keys = set(records[0][1])
    if "id" in keys and keys & _OWN_KEYS:
        return "outcomes"
    for name, expected in _KEYS_OF:
        if expected <= keys:
            captions = [str(record.get("caption", "")) for _, record in records]
            if name == "coco" and 2 * sum(bool(_BECAUSE.search(caption)) for caption in captions) > len(captions):
                return "sevlm"
            if name == "openai-batch" and any(_get(record, "response.body.output") for _, record in records):
                return "openai-batch-responses"
            return name
    shown = ", ".join(sorted(map(str, keys))[:12])
    raise UserError(
        f"{path}: which columns hold what? It has {shown}. Type --id COLUMN and --text COLUMN (or --emotion COLUMN, "
        f"--explanation COLUMN), or --format with one of {', '.join(FORMATS)}; see docs/files.md"
    )


# ------------------------------------------------------------------------------------------ records of a file


def read_records(path: Path) -> Iterator[tuple[str, Record]]:
    """The records of a file, each with where it stands (`FILE:3`, `FILE, entry 3`, `FILE, row 3`).

    Raises:
        UserError: not in the form that its name or its beginning promises, or cut off.
    """
    match path.suffix.lower():
        case ".csv" | ".tsv" | ".xlsx":
            yield from read_rows(path, ())
        case ".parquet":
            yield from _parquet_records(path)
        case ".eval":
            yield from _inspect_records(path)
        case _:
            text = read_text(path)
            lines = [(n, line) for n, line in enumerate(re.split(r"\r\n|\n|\r", text), 1) if line.strip()]
            first = lines[0][1].lstrip() if lines else ""
            if first.startswith("[") or (first.startswith("{") and not _is_json(first)):
                found = _json_records(path, _loaded(text, str(path)))
            else:
                found = ((f"{path}:{n}", _loaded(line, f"{path}:{n}")) for n, line in lines)
                if len(lines) == 1 and path.suffix.lower() == ".json":
                    (where, value) = next(found)
                    found = _json_records(path, value) if _holds_records(value) else iter([(where, value)])
            for where, record in found:
                if not isinstance(record, dict):
                    raise UserError(f"{where}: expected an object, got {type(record).__name__}")
                yield where, record


def _is_record(value: Mapping[str, Any]) -> bool:
    return "id" in value or any(keys <= value.keys() for _, keys in _KEYS_OF)


def _lists_in(value: Mapping[str, Any]) -> list[list[Any]]:
    return [v for v in value.values() if isinstance(v, list) and v and all(isinstance(r, dict) for r in v)]


def _holds_records(value: Any) -> bool:
    """Whether an object holds records and is none: a list of them under some key, or each under its id."""
    if not isinstance(value, dict) or _is_record(value):
        return False
    return len(_lists_in(value)) == 1 or all(isinstance(v, dict) for v in value.values())


def _json_records(path: Path, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict) and _is_record(value):
        value = [value]
    if isinstance(value, dict):  # an evaluation log, a list under some key, or id -> record
        lists = _lists_in(value)
        records = value.get("samples", lists[0] if len(lists) == 1 else None)
        if records is None:
            records = [{"id": key, **(v if isinstance(v, dict) else {"raw": v})} for key, v in value.items()]
        value = records
    return ((f"{path}, entry {n}", record) for n, record in enumerate(value if isinstance(value, list) else [], 1))


def _loaded(text: str, where: str) -> Any:
    try:
        return json.loads(text, parse_constant=_constant, object_pairs_hook=_object)
    except _Twice as key:
        raise UserError(f"{where}: key {str(key)!r} stands twice") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{where}: not JSON ({error})") from None


def _constant(name: str) -> float | None:
    return None if name == "NaN" else float(name)  # pandas' empty cells


class _Twice(Exception):
    """A key that an object holds twice, so that one of its values would be lost."""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise _Twice(key)
        found[key] = value
    return found


def _is_json(line: str) -> bool:
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return line.rstrip().endswith("}") and '": ' in line and line.count("{") > line.count("[")
    return True


def _parquet_records(path: Path) -> Iterator[tuple[str, Record]]:
    import pyarrow as pa
    from pyarrow.parquet import ParquetFile

    try:
        with ParquetFile(path) as file:
            rows = (row for batch in file.iter_batches(4096) for row in batch.to_pylist())
            yield from ((f"{path}, row {number}", row) for number, row in enumerate(rows, 1))
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"{path}: not a Parquet file ({error})") from None


def _inspect_records(path: Path) -> Iterator[tuple[str, Record]]:
    try:
        log: Any = importlib.import_module("inspect_ai.log")
    except ImportError:
        raise UserError(
            f"{path}: reading an .eval log needs the package inspect_ai; or type: inspect log convert {path} --to json "
            "--output-dir FOLDER, and give the .json file"
        ) from None
    try:
        samples = log.read_eval_log(str(path)).samples or []
    except Exception as error:  # a broken archive may fail in any way
        raise UserError(f"{path}: not a log of inspect_ai ({error})") from None
    for number, sample in enumerate(samples, 1):
        output = sample.output.model_dump(mode="json")
        output["completion"] = sample.output.completion  # computed, so that a dump leaves it out
        yield f"{path}, sample {number}", sample.model_dump(mode="json") | {"output": output}


# ------------------------------------------------------------------------------------------ a record's outcome


class _RecordReader:
    """Turns records into outcomes.

    Args:
        task: what is asked.
        columns: where the parts stand.
    """

    def __init__(self, task: Task, columns: Columns) -> None:
        self._task = task
        self.columns = columns
        aliases = task.options.get("aliases")
        self._labels = {_plain(label): label for label in task.emotions}
        if isinstance(aliases, Mapping):
            self._labels = {_plain(str(k)): str(v) for k, v in aliases.items() if v in task.emotions} | self._labels

    def own(self, record: Record) -> tuple[str, Outcome]:
        """A line of an outcomes file: `id` and `emotion`, `explanation` or `raw`, and whatever else it holds."""
        line = dict(record) | {"id": _id(record.get("id"))}
        if line.get("kind") not in (None, "answer"):
            return outcome_from_json(line)
        if line.get("emotion") is None and line.get("explanation") is None:
            if not isinstance(line.get("raw"), str):
                raise ValueError("expected 'emotion', 'explanation' or 'raw'")
            thoughts = line["reasoning"] if isinstance(line.get("reasoning"), str) else ""
            return line["id"], self._parsed(line["raw"], Usage(), bool(line.get("truncated")), thoughts)
        emotion = line.get("emotion")
        if isinstance(emotion, str) and emotion:
            label = self._labels.get(_plain(emotion))
            if label is None:
                return line["id"], Unparsed(emotion, reason=OUTSIDE)
            line["emotion"] = label
        line["explanation"] = "" if line.get("explanation") is None else line["explanation"]
        id_, outcome = outcome_from_json(line)
        if isinstance(outcome, Answer) and outcome.emotion_probs is not None:
            outcome = dataclasses.replace(outcome, emotion_probs=self._normalised(outcome.emotion_probs))
        return id_, outcome

    def read(self, record: Record) -> tuple[str, Outcome]:
        """A record of another format."""
        columns = self.columns
        outcome: Outcome
        id_ = _id(_found(record, columns.id, "--id"))
        usage = Usage(
            prompt_tokens=_whole(_optional(record, columns.prompt_tokens)),
            completion_tokens=_whole(_optional(record, columns.completion_tokens)),
            latency_s=_optional(record, columns.latency_s),
        )
        cut_off = _optional(record, columns.finish_reason) in (
            "length",
            "max_tokens",
            "model_length",
            "max_output_tokens",
        )
        if error := next((found for column in columns.errors if (found := _get(record, column))), None):
            message = error.get("message", error) if isinstance(error, Mapping) else error
            return id_, Failed("imported", str(message), usage=usage)
        if refusal := _optional(record, columns.refusal):
            return id_, Refusal(str(refusal), usage)
        if columns.text is not None:
            said = _found(record, columns.text, "--text")
            while isinstance(said, list | tuple):  # of several answers the first; some logs nest them once more
                said = said[0] if said else ""
            outcome = self._parsed(_text(said), usage, cut_off)
        else:
            emotion = _text(_found(record, columns.emotion, "--emotion") if columns.emotion else "")
            explanation = _text(_found(record, columns.explanation, "--explanation") if columns.explanation else "")
            label = self._labels.get(_plain(emotion), "")
            if emotion and not label:
                outcome = Unparsed(emotion, usage, OUTSIDE)
            elif (columns.emotion and not emotion) or not (label or explanation):
                outcome = Unparsed(explanation, usage, "empty")
            else:
                outcome = Answer(label, explanation, usage=usage)
        if columns.probs is not None and isinstance(outcome, Answer):
            outcome = dataclasses.replace(outcome, emotion_probs=self._probabilities(record, columns.probs))
        return id_, outcome

    def _parsed(self, text: str, usage: Usage, cut_off: bool = False, thoughts: str = "") -> Outcome:
        if self.columns.last_because and (pieces := _BECAUSE.split(text))[1:]:
            label = self._labels.get(_plain(pieces[0]))
            if label is not None:
                return Answer(label, pieces[-1].strip(), raw=text, usage=usage)
        if label := self._labels.get(_plain(text)):  # a bare label, also where people give explanations
            return Answer(label, "", raw=text, usage=usage)
        explained = self._task.explanations
        return parse_answer(
            text, self._task.emotions, usage, truncated=cut_off, explained=explained, reasoning=thoughts
        )

    def _probabilities(self, record: Record, prefix: str) -> dict[str, float]:
        whole = _get(record, prefix)
        if isinstance(whole, str):
            whole = json.loads(whole)
        given = (
            {str(key): value for key, value in whole.items()}
            if isinstance(whole, Mapping)
            else {key.removeprefix(prefix): value for key, value in record.items() if key.startswith(prefix)}
        )
        found = {self._labels[_plain(key)]: float(v) for key, v in given.items() if _plain(key) in self._labels}
        if not found:
            raise ValueError(
                f"no column is called {prefix}LABEL for any label, such as {prefix}{self._task.emotions[0]}"
            )
        return self._normalised(found)

    def _normalised(self, probabilities: Mapping[str, float]) -> dict[str, float]:
        """Probabilities that sum to 1 but for rounding to two decimals, divided by their sum.

        Raises:
            ValueError: negative, or another sum.
        """
        total = sum(probabilities.values())
        tolerance = max(0.01, 0.005 * len(self._task.emotions)) + 1e-9
        if not all(p >= 0 for p in probabilities.values()) or not abs(total - 1) <= tolerance:
            raise ValueError(f"probabilities sum to {total:.4g}, expected 1")
        return {label: probability / total for label, probability in probabilities.items()}


def _plain(label: str) -> str:
    """A label without case, surrounding blanks and full stop; underscores and hyphens are blanks."""
    return re.sub(r"[\s_-]+", " ", label.strip().strip(".").strip()).casefold()


def _id(value: object) -> str:
    if isinstance(value, float) and value.is_integer():  # whole numbers that pandas kept as 5.0
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
        raise ValueError(f"the id must be text or a whole number, got {str(value)[:60]!r}")
    return str(value)


def _get(record: Record, column: str) -> Any:
    """A value by key, by path, or None."""
    if column in record:
        return record[column]
    value: Any = record
    for step in column.split("."):
        if isinstance(value, str) and value[:1] in "[{":  # a nested value that a table holds as text
            try:
                value = json.loads(value)
            except ValueError:
                return None
        if isinstance(value, Mapping):
            value = value.get(step)
        elif isinstance(value, list | tuple) and re.fullmatch(r"-?\d+", step) and -len(value) <= int(step) < len(value):
            value = value[int(step)]
        else:
            return None
    return value


def _found(record: Record, column: str, option: str) -> Any:
    """A value that must be there; a pattern's columns are put together.

    Raises:
        ValueError: there is none.
    """
    if "{" in column:
        return _BRACED.sub(lambda match: str(_found(record, match[1], option)), column)
    value = _get(record, column)
    if value is None and column not in record and "." not in column:
        raise ValueError(f"no column {column!r} ({option}); {nearest(column, map(str, record))}")
    return value


def _optional(record: Record, column: str | None) -> Any:
    return None if column is None else _get(record, column)


def _whole(value: Any) -> int | None:
    return int(value) if isinstance(value, int | float) else None


def _text(value: Any) -> str:
    """Text; what tables hold for nothing (None, NaN) is empty."""
    return "" if value is None or value != value else str(value).strip()

"""What a judge is asked: a rubric as YAML, its prompt, its JSON schema, and how a verdict is read.

A verdict that cannot be read is no verdict: nothing is scored, and never a low score.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import Field, field_validator

from harness.types import UserError
from harness.yaml_file import Settings, Text, YamlFile

RUBRICS = Path(__file__).with_name("rubrics")
LOWEST, HIGHEST = 1, 5
MAX_VERDICT = 20_000
"""Characters of a reply that are looked at."""

_T = TypeVar("_T")
Preference = Literal["A", "B", "tie"]


class Criterion(Settings):
    """One question with words for each of its five steps."""

    question: Text
    anchors: dict[str, Text]

    @field_validator("anchors", mode="before")
    @classmethod
    def _steps(cls, value: object) -> object:
        """YAML reads the steps as numbers."""
        return {str(key): text for key, text in value.items()} if isinstance(value, dict) else value


class Rubric(Settings):
    """A rubric file.

    Attributes:
        name, version: identify it beside its hash.
        image: whether the judge sees the image.
        references: whether it reads what people said.
        task: what it is told before the criteria.
        criteria: key -> question and anchors.
        preference: the question of the pairwise mode.
    """

    name: Text
    version: int = Field(1, ge=1)
    image: bool = True
    references: bool = False
    task: Text
    criteria: dict[str, Criterion] = Field(min_length=1)
    preference: Text

    @property
    def digest(self) -> str:
        """Twelve hex digits over everything a judge reads of it."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:12]

    def verdict_schema(self) -> dict[str, Any]:
        """JSON schema of a verdict: one whole number from 1 to 5 per criterion."""
        score = {"type": "integer", "minimum": LOWEST, "maximum": HIGHEST}
        properties = dict.fromkeys(self.criteria, score)
        return {"type": "object", "properties": properties, "required": [*properties], "additionalProperties": False}

    def prompt(self, emotion: str, explanation: str, references: tuple[str, ...]) -> str:
        """What the judge reads about one explanation."""
        lines = [self.task, *_quoted("People said", references if self.references else ())]
        lines += [f"Emotion named: {emotion}", *_quoted("Explanation", (explanation,)), "Criteria:"]
        for key, criterion in self.criteria.items():
            steps = "; ".join(f"{step} = {text}" for step, text in sorted(criterion.anchors.items()))
            lines.append(f'- "{key}": {criterion.question} {steps}')
        keys = ", ".join(f'"{key}": 1 to 5' for key in self.criteria)
        return "\n".join([*lines, f"Answer with one JSON object and nothing else: {{{keys}}}"])

    def pair_prompt(self, a: tuple[str, str], b: tuple[str, str], references: tuple[str, ...]) -> str:
        """What the judge reads about two explanations, each as (emotion, explanation)."""
        lines = [self.task, *_quoted("People said", references if self.references else ())]
        for name, (emotion, explanation) in (("A", a), ("B", b)):
            lines += [f"Emotion named by {name}: {emotion}", *_quoted(f"Explanation {name}", (explanation,))]
        form = 'Answer with one JSON object and nothing else: {"better": "A", "B" or "tie"}'
        return "\n".join([*lines, self.preference, form])


PAIR_SCHEMA: Mapping[str, Any] = {
    "type": "object",
    "properties": {"better": {"type": "string", "enum": ["A", "B", "tie"]}},
    "required": ["better"],
    "additionalProperties": False,
}


def _quoted(name: str, texts: tuple[str, ...]) -> list[str]:
    """Texts of models and people as JSON strings: what they say is quoted, not obeyed."""
    return [f"{name}: {json.dumps(text, ensure_ascii=False)}" for text in texts]


def load_rubric(name: str | Path | None) -> Rubric:
    """A rubric by path, or one of ours by name; None: the default.

    Raises:
        UserError: no such file, or a mistake in it, with its line.
    """
    own = RUBRICS / f"{name or 'explanation'}.yaml"
    path = own if own.is_file() else Path(str(name)).expanduser()
    if not path.is_file():
        ours = ", ".join(sorted(p.stem for p in RUBRICS.glob("*.yaml")))
        raise UserError(f"--rubric {name}: no such file; ours are: {ours}")
    document = YamlFile(path)
    rubric = document.read(Rubric)
    for key, criterion in rubric.criteria.items():
        if sorted(criterion.anchors) != [str(step) for step in range(LOWEST, HIGHEST + 1)]:
            steps = ", ".join(sorted(criterion.anchors)) or "none"
            node = document.at("criteria", key, "anchors")
            raise document.error(node, f"anchors: expected words for 1, 2, 3, 4 and 5, got {steps}")
    return rubric


# ------------------------------------------------------------------------------------------- verdicts


@dataclass(frozen=True, slots=True)
class Unread(Exception):
    """A reply that is no verdict, and why."""

    reason: str


def read_scores(reply: str, rubric: Rubric) -> dict[str, int]:
    """The last JSON object of a reply that scores every criterion.

    Raises:
        Unread: there is none, or two that differ.
    """
    found = []
    for value in _objects(reply):
        scores: dict[str, Any] = {key: value.get(key) for key in rubric.criteria}
        if all(type(score) in (int, float) and score in range(LOWEST, HIGHEST + 1) for score in scores.values()):
            found.append({key: int(score) for key, score in scores.items()})
    return _only(found, "no object with a whole number from 1 to 5 for each criterion")


def read_preference(reply: str) -> Preference:
    """Which of two explanations a reply prefers.

    Raises:
        Unread: it names none, or two.
    """
    named = [str(value.get("better", "")).strip().upper() for value in _objects(reply)]
    found: list[Preference] = ["tie" if name == "TIE" else name for name in named if name in ("A", "B", "TIE")]  # type: ignore[misc]
    return _only(found, 'no object with "better": A, B or tie')


def _only(found: list[_T], otherwise: str) -> _T:
    if not found:
        raise Unread(otherwise)
    if any(one != found[0] for one in found):
        raise Unread("two verdicts that differ")
    return found[0]


def _objects(reply: str) -> Iterator[dict[str, Any]]:
    """The JSON objects of a text that stand outside each other, in order; each position is looked at once."""
    decoder, start = json.JSONDecoder(), 0
    text = reply[:MAX_VERDICT]
    while (start := text.find("{", start)) >= 0:
        end = text.find("}", start)
        if end < 0:
            return
        try:
            value, start = decoder.raw_decode(text, start)
        except (ValueError, RecursionError):
            start += 1
            continue
        if isinstance(value, dict):
            yield value

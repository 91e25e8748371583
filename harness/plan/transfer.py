"""A model that was trained on one task and is asked on another: its labels mapped, its training pictures kept apart."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from harness.types import Answer, Example, Outcome, Unparsed, UserError

if TYPE_CHECKING:
    from harness.plan.selection import Selection

RECORD = "trained_on.json"
"""File in a checkpoint folder: the task and the pictures that the checkpoint was trained on."""
Trained: TypeAlias = tuple[str, frozenset[str]]
"""A task and the keys of the pictures of it that a model was trained on."""


def mapped(outcome: Outcome, label_map: Mapping[str, str]) -> Outcome:
    """An answer in the labels of the task at hand.

    Args:
        outcome: in the labels of the task that the model was trained on.
        label_map: label there -> label here.

    Returns:
        The answer with its label replaced and its probabilities summed by label and divided by their total (None when
        that is 0); `Unparsed` when the label has no counterpart; anything but an answer as it is.
    """
    if not isinstance(outcome, Answer):
        return outcome
    if outcome.emotion not in label_map:
        raw = outcome.raw or f"{outcome.emotion} because {outcome.explanation}"
        return Unparsed(raw, outcome.usage, "label outside the task", outcome.reasoning)
    probabilities = None
    if outcome.emotion_probs is not None:
        probabilities = _summed(outcome.emotion_probs, label_map)
    return dataclasses.replace(outcome, emotion=label_map[outcome.emotion], emotion_probs=probabilities)


def _summed(probabilities: Mapping[str, float], label_map: Mapping[str, str]) -> dict[str, float] | None:
    summed = dict.fromkeys(label_map.values(), 0.0)
    for label, probability in probabilities.items():
        if label in label_map:
            summed[label_map[label]] += probability
    total = sum(summed.values())
    return {label: probability / total for label, probability in summed.items()} if total > 0 else None


def picture_key(example: Example) -> str:
    """A digest under which the same picture is found in another dataset: its file's name without accents and case.

    WikiArt's file names (`artist_title.jpg`) are kept by the datasets built on it, though their accents may be
    composed, decomposed or garbled.
    """
    plain = unicodedata.normalize("NFKD", example.image.stem)
    letters = "".join(c for c in plain.casefold() if c.isascii() and c.isalnum())
    return hashlib.sha256(letters.encode()).hexdigest()[:16]


@contextmanager
def record_training(
    folder: Path, task: str, examples: Iterable[Example], init_from: Path | None = None
) -> Iterator[None]:
    """Write beside a checkpoint which task and which pictures (as digests of their names) it was trained on.

    What the checkpoint that it starts from was trained on stands under `before`. In a new folder the record comes
    first: a process killed at the very end must not leave a checkpoint without it.
    """
    from harness.atomic import write_atomically
    from harness.store.run_folder import to_json

    keys = sorted({picture_key(example) for example in examples})
    before = [] if init_from is None else trained_pictures(init_from)
    earlier = [{"task": name, "pictures": sorted(pictures)} for name, pictures in before]
    record = to_json({"task": task, "pictures": keys} | ({"before": earlier} if earlier else {}))
    new = not folder.exists()
    if new:
        write_atomically(folder / RECORD, record)
    try:
        yield
    except UserError:
        if new:
            (folder / RECORD).unlink(missing_ok=True)
            with suppress(OSError):  # something else is in there
                folder.rmdir()
        raise
    write_atomically(folder / RECORD, record)


def trained_pictures(folder: Path) -> list[Trained]:
    """What a checkpoint was trained on, the last training first; empty where nothing is recorded.

    Raises:
        UserError: the record is not what `record_training` writes.
    """
    path = folder / RECORD
    if not path.is_file():
        return []
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        return [_trained(training) for training in (record, *record.get("before", []))]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path}: cannot be read ({error}); remove it or train again") from None


def _trained(record: Mapping[str, Any]) -> Trained:
    return str(record["task"]), frozenset(record["pictures"])


def refuse_overlap(
    model: str, trained_on: str, seen: frozenset[str], task: str, examples: Selection | Sequence[Example]
) -> None:
    """Refuse to ask a model about pictures that it was trained on.

    Raises:
        UserError: there are such pictures; the message counts and names them and says how to go on.
    """
    known = [example.id for example in examples if picture_key(example) in seen]
    if known:
        more = f" and {len(known) - 3:,} more" if len(known) > 3 else ""
        raise UserError(
            f"model {model!r} was trained on {len(known):,} of the {len(examples):,} pictures of task {task!r} "
            f"(training split of {trained_on!r}): {', '.join(known[:3])}{more}. Its scores would not be a test; "
            f"choose a checkpoint trained on {task!r}, or add overlap=allow to the model to go on nevertheless"
        )

"""Which images a model was trained on: recorded beside its checkpoint, and refused as a test."""

from __future__ import annotations

import hashlib
import json
import unicodedata
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeAlias

from harness.atomic import to_json, write_atomically
from harness.types import Example, UserError

RECORD = "trained_on.json"
"""File in a checkpoint folder: the task and the images that the checkpoint was trained on."""
Trained: TypeAlias = tuple[str, frozenset[str]]
"""A task and the keys of its images that a model was trained on."""


def image_key(example: Example) -> str:
    """A digest under which the same image is found in another dataset: its file's name without accents and case.

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
    """Write beside a checkpoint which task and which images (as digests of their names) it was trained on.

    What the checkpoint that it starts from was trained on stands under `before`. In a new folder the record comes
    first: a process killed at the very end must not leave a checkpoint without it.
    """
    keys = sorted({image_key(example) for example in examples})
    before = [] if init_from is None else trained_images(init_from)
    earlier = [{"task": name, "pictures": sorted(images)} for name, images in before]
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


def trained_images(folder: Path) -> list[Trained]:
    """What a checkpoint was trained on, the last training first; empty if nothing is recorded.

    Raises:
        UserError: the record is not what `record_training` writes.
    """
    path = folder / RECORD
    if not path.is_file():
        return []
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        return [(str(t["task"]), frozenset(t["pictures"])) for t in (record, *record.get("before", []))]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path}: cannot be read ({error}); remove it or train again") from None


def refuse_overlap(model: str, trained_on: str, seen: frozenset[str], task: str, examples: Iterable[Example]) -> None:
    """Refuse to ask a model about images that it was trained on.

    Raises:
        UserError: there are such images; the message counts and names them and says how to continue.
    """
    keys = {example.id: image_key(example) for example in examples}
    known = [example_id for example_id, key in keys.items() if key in seen]
    if known:
        more = f" and {len(known) - 3:,} more" if len(known) > 3 else ""
        raise UserError(
            f"model {model!r} was trained on {len(known):,} of the {len(keys):,} images of task {task!r} "
            f"(training split of {trained_on!r}): {', '.join(known[:3])}{more}. Its scores would not be a test; "
            f"choose a checkpoint trained on {task!r}, or add overlap=allow to the model to ask it nevertheless"
        )

"""Teachers: what other models answered about training images, read from outcomes files to be learned."""

from __future__ import annotations

import dataclasses
import filecmp
import hashlib
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from harness.adapters import Teacher
from harness.plan.contamination import image_key
from harness.store.outcomes import KINDS, named_file, read_outcomes
from harness.tasks.readers.base import Reader, check_label
from harness.types import Answer, Example, Outcome, Task, UserError

SHOWN = 3
LEAST_SHARE = 1e-6
"""What a teacher finds less probable is not learned: a soft label's part is divided by the sum of such parts."""


def read_teachers(files: Sequence[str], task: Task, train: Sequence[Example], reader: Reader) -> list[Teacher]:
    """The usable answers of outcomes files; how many of each were left out, and why, goes to standard error.

    Args:
        files: `[NAME=]FILE`; the file's stem names the teacher if NAME is absent.
        train: the examples that are trained on.
        reader: of the task, whose other splits must not be learned.

    Raises:
        UserError: a file is missing or corrupt, holds labels of another task, an outcome about an image of another
            split, or nothing usable; or two files share a name.
    """
    sources = dict(named_file(file, "--teacher") for file in files)
    if len(sources) != len(files):
        raise UserError("--teacher: two files share a name; tell them apart as NAME=FILE")
    held_out = [example for example in reader.examples() if example.split != "train"]
    return [read_teacher(name, path, task, train, held_out) for name, path in sources.items()]


def read_teacher(name: str, path: Path, task: Task, train: Sequence[Example], held_out: Iterable[Example]) -> Teacher:
    """The usable answers of one outcomes file, as `read_teachers`; of several outcomes of an example the last counts.

    Args:
        held_out: examples of every other split: test images above all.
    """
    content = path.read_bytes()
    found = list(read_outcomes(path))
    if len(found) < (lines := sum(bool(line.strip()) for line in content.split(b"\n"))):
        raise UserError(f"--teacher {path}:{lines}: the last line is cut off")
    outcomes = dict(found)
    known = {example.id: example for example in train}
    _refuse_leak(path, outcomes, known, held_out)
    answers: dict[str, Answer] = {}
    left_out: Counter[str] = Counter()
    for example_id, outcome in outcomes.items():
        if not isinstance(outcome, Answer):
            left_out[KINDS[type(outcome)]] += 1
        elif example_id not in known:
            left_out["not in the training split"] += 1
        elif not outcome.emotion:
            left_out["no label"] += 1
        elif task.explanations and (outcome.truncated or not outcome.explanation.strip()):
            left_out["explanation missing or cut off"] += 1
        else:
            answers[example_id] = _with_shares(outcome, task, f"{path}, {example_id!r}")
    reasons = "".join(f"; {count} left out: {reason}" for reason, count in left_out.most_common())
    if not answers:
        raise UserError(f"--teacher {path}: no usable outcome among {len(outcomes)}{reasons}")
    print(f"teacher {name}: {len(answers)} of {len(outcomes)} outcomes are learned{reasons}", file=sys.stderr)
    return Teacher(name, answers, {"file": path.name, "sha256": hashlib.sha256(content).hexdigest()})


def _with_shares(answer: Answer, task: Task, where: str) -> Answer:
    """The answer with probabilities that sum to 1.

    Raises:
        UserError: a label that is not the task's.
    """
    found = dict(answer.emotion_probs or {})
    for label in (answer.emotion, *found):
        check_label(label, task, where)
    largest = max(found.values(), default=0.0)
    kept = {label: p / largest for label, p in found.items() if largest and p / largest >= LEAST_SHARE}
    total = sum(kept.values())  # of values from 0 to 1, so that it is finite
    shares = {label: part / total for label, part in kept.items()}
    return dataclasses.replace(answer, emotion_probs=shares or None)


def _refuse_leak(
    path: Path, outcomes: Mapping[str, Outcome], train: Mapping[str, Example], held_out: Iterable[Example]
) -> None:
    """Refuse outcomes about held-out images, known by id or, under another id, by `image_key`.

    Raises:
        UserError: there are such outcomes; the message counts and names them.
    """
    by_key: defaultdict[str, list[Example]] = defaultdict(list)
    for learned in (train[example_id] for example_id in outcomes if example_id in train):
        by_key[image_key(learned)].append(learned)
    leaked: dict[str, str] = {}
    for example in held_out:
        if example.id in outcomes:
            leaked[example.id] = example.split
        for learned in by_key.get(image_key(example), ()):
            one, other = learned.image, example.image
            named = re.search("[A-Za-z]", one.stem)  # a number (`0001.jpg`) is no name: contents decide
            if named or (one.is_file() and other.is_file() and filecmp.cmp(one, other, shallow=False)):
                leaked[learned.id] = example.split
    if leaked:
        names = ", ".join(f"{example_id} ({split})" for example_id, split in list(leaked.items())[:SHOWN])
        more = f" and {len(leaked) - SHOWN:,} more" if len(leaked) > SHOWN else ""
        raise UserError(
            f"--teacher {path}: {len(leaked):,} of its {len(outcomes):,} outcomes are about images that are not for "
            f"training: {names}{more}. What is learned there could not be tested; ask the teacher with: --split train"
        )

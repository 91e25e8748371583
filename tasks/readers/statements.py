"""The image test: which statement is about this image? Only looking helps, and no judge is needed.

    dataset: statements
    options: {of: artemis, form: choice, distractors: 3}

Built from any task with explanations. `choice` shows an utterance that somebody made before the image among utterances
of the same emotion made before others; `true-false` shows one, which half of the time was made before another image
(one that shares the `similar` key of `meta`, if there is one). True and false statements are drawn alike, an image
first and then one of its utterances, so that the text alone gives nothing away: answers to blank images show whether
that is so.
"""

from __future__ import annotations

import hashlib
import random
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from importlib import import_module
from typing import Any, ClassVar, NamedTuple

from harness.tasks.loading import builtin_cards, load_task
from harness.tasks.readers.base import PreparedTable, Reader, TableRow, count_splits
from harness.types import Annotation, Example, UserError, histogram

FORMS = ("choice", "true-false")
TRUE, FALSE = "true", "false"
_TRIES = 200


class StatementsReader(Reader):
    """Statements about the images of another task; its training split is that task's own.

    Options:
        of: name of the task, or path of its card, whose data are used.
        form: `choice` or `true-false`.
        distractors: wrong statements beside the right one (`choice`).
        similar: key of `meta` that a false statement's image shares (`true-false`).
        seed: draws the statements.
    """

    options: ClassVar[tuple[str, ...]] = ("of", "form", "distractors", "similar", "seed")

    @cached_property
    def base(self) -> Reader:
        """The reader of the task that the statements are made of.

        Raises:
            UserError: there is no such task, or its data are not the harness's own.
        """
        from harness.tasks import READERS

        name = self.option("of")
        card = builtin_cards().get(name) or self.option_path("of")
        task = load_task(card)
        if task.dataset not in READERS or task.dataset == self.task.dataset or not task.explanations:
            raise UserError(f"{self._where()}: option 'of': {name!r} must be a task with explanations of its own")
        module, _, attribute = READERS[task.dataset].partition(":")
        reader: Reader = getattr(import_module(module), attribute)(task, self.data_root)
        return reader

    @property
    def form(self) -> str:
        """`choice` or `true-false`.

        Raises:
            UserError: something else, or labels that do not belong to it.
        """
        form = self.option("form", "choice")
        wanted = {"choice": 1 + int(self.number("distractors", 3)), "true-false": 2}
        if form not in FORMS:
            raise UserError(f"{self._where()}: option 'form' must be one of {', '.join(FORMS)}, got {form!r}")
        if len(self.task.emotions) != wanted[form]:
            raise UserError(f"{self._where()}: emotions: expected {wanted[form]} labels for this form")
        return form

    def examples(self, split: str | None = None) -> Iterator[Example]:
        """Stream one example per image with an utterance; those of `train` as the other task has them."""
        if split == "train":
            yield from self.base.examples("train")
            return
        for name in [split] if split else [s for s in self.base.splits() if s != "train"]:
            shown = [e for e in self.base.examples(name) if any(a.explanation.strip() for a in e.annotations)]
            yield from self._choices(shown) if self.form == "choice" else self._true_or_false(shown)

    def _choices(self, shown: Sequence[Example]) -> Iterator[Example]:
        pools = _pools(shown)
        wrong = int(self.number("distractors", 3))
        for example in shown:
            draw = self._draw(example)
            own = draw.choice(_utterances(example))
            others = _others(pools[own.emotion], example, wrong, draw)
            if len(others) < wrong:
                continue
            place = draw.randrange(wrong + 1)
            statements = (*others[:place], own, *others[place:])
            lines = [f"{label}: {_said(s)}" for label, s in zip(self.task.emotions, statements, strict=True)]
            yield _asked(example, "\n".join(lines), statements, self.task.emotions[place])

    def _true_or_false(self, shown: Sequence[Example]) -> Iterator[Example]:
        key = str(self.task.options.get("similar", ""))
        ranked = sorted(shown, key=lambda e: hashlib.sha256(e.id.encode()).hexdigest())
        true = {e.id for e in ranked[::2]}
        pools = _pools(shown)
        kinds: dict[Any, list[Example]] = defaultdict(list)
        for example in shown:
            kinds[example.meta.get(key)].append(example)
        similar = {kind: _pools(alike) for kind, alike in kinds.items()}
        for example in shown:
            draw = self._draw(example)
            statement = draw.choice(_utterances(example))
            if example.id not in true:
                emotion, alike = statement.emotion, similar[example.meta.get(key)]
                others = _others(alike[emotion], example, 1, draw) or _others(pools[emotion], example, 1, draw)
                if not others:
                    continue
                statement = others[0]
            yield _asked(example, _said(statement), (statement,), TRUE if example.id in true else FALSE)

    def _draw(self, example: Example) -> random.Random:
        return random.Random(f"{int(self.number('seed', 0))} {example.id}")

    def splits(self) -> dict[str, int]:
        """Examples per split; `train` holds the other task's."""
        return count_splits(example for split in self.base.splits() for example in self.examples(split))

    def fingerprint(self) -> dict[str, Any]:
        """The other task's data, and how statements are drawn from them."""
        return {"of": self.base.fingerprint(), "options": dict(self.task.options)}

    def check(self) -> PreparedTable:
        """What the other task's data hold, and how many statements came of them."""
        below = self.base.check()
        rows = [TableRow(f"statements, {split}", count) for split, count in self.splits().items() if split != "train"]
        return PreparedTable(below.title, (*below.rows, *rows))

    @property
    def facts(self) -> tuple[TableRow, ...]:
        """What was counted of the other task's data."""
        return self.base.facts

    @property
    def trained_task(self) -> str:
        """The other task."""
        return self.base.task.name

    @property
    def preprocessing(self) -> str:
        """That of the other task."""
        return self.base.preprocessing

    def notes(self) -> list[str]:
        """What a reader of the report must know."""
        return [
            *self.base.notes(),
            "Accuracy on blank images is what the text alone gives away; chance is 1 in the labels.",
        ]


def _utterances(example: Example) -> list[Annotation]:
    return [a for a in example.annotations if a.explanation.strip()]


class _Pool(NamedTuple):
    """Examples with utterances of one emotion, and the running sum of the share of their utterances that have it.

    Images of wrong statements are drawn by that share. A right statement is drawn from all utterances of its image, so
    that its image has the emotion by the share, too; drawn evenly, right statements would come from images that evoke
    the emotion in more people than wrong ones do.
    """

    emotion: str
    examples: list[Example]
    shares: list[float]


def _pools(shown: Sequence[Example]) -> Mapping[str, _Pool]:
    """Emotion -> its pool."""
    found: dict[str, _Pool] = {}
    for example in shown:
        said = Counter(a.emotion for a in _utterances(example))
        for emotion, count in said.items():
            pool = found.setdefault(emotion, _Pool(emotion, [], []))
            pool.examples.append(example)
            pool.shares.append((pool.shares[-1] if pool.shares else 0.0) + count / said.total())
    return found


def _others(pool: _Pool, example: Example, count: int, draw: random.Random) -> list[Annotation]:
    """Utterances that were made before `count` other images: an image is drawn, then its utterance."""
    own = {a.explanation.casefold() for a in example.annotations}
    seen = {example.id}
    found: list[Annotation] = []
    for _ in range(_TRIES):
        if len(found) == count:
            break
        (other,) = draw.choices(pool.examples, cum_weights=pool.shares)
        if other.id in seen:
            continue
        seen.add(other.id)
        said = [a for a in _utterances(other) if a.emotion == pool.emotion and a.explanation.casefold() not in own]
        if said:
            found.append(draw.choice(said))
            own.add(found[-1].explanation.casefold())
    return found


def _said(statement: Annotation) -> str:
    return f"{statement.emotion} because {statement.explanation}"


def _asked(example: Example, context: str, statements: tuple[Annotation, ...], label: str) -> Example:
    answer = (Annotation(label, ""),)
    return replace(
        example,
        annotations=answer,
        emotion_histogram=histogram(answer),
        ratings={},
        context=context,
        statements=statements,
    )

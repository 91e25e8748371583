"""What a dataset reader is: examples streamed from disk, and a table of what was found there."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from harness.errors import nearest
from harness.types import Example, Task, UserError


@dataclass(frozen=True, slots=True)
class TableRow:
    """One line of a `PreparedTable`: what was counted, how many, and a remark."""

    what: str
    count: int
    note: str = ""


@dataclass(frozen=True, slots=True)
class PreparedTable:
    """What a dataset holds, what was left out and why; `str()` is the text that the command line prints."""

    title: str
    rows: tuple[TableRow, ...]

    def __str__(self) -> str:
        what = max((len(row.what) for row in self.rows), default=0)
        count = max((len(f"{row.count:,}") for row in self.rows), default=0)
        lines = (f"  {row.what:<{what}}  {row.count:>{count},}  {row.note}".rstrip() for row in self.rows)
        return "\n".join([self.title, *lines])

    def counts(self) -> dict[str, int]:
        """Count per line of the table."""
        return {row.what: row.count for row in self.rows}


class Reader(ABC):
    """Reads one dataset for one task.

    Args:
        task: its `options` are this reader's settings, its `emotions` the only labels allowed.
        data_root: folder under which prepared datasets lie, one folder per task name.

    Class attributes:
        options: names of the options that this reader understands.

    Raises:
        UserError: an unknown option, or one with a value that cannot be used.
    """

    options: ClassVar[tuple[str, ...]] = ()

    def __init__(self, task: Task, data_root: Path) -> None:
        self.task = task
        self.data_root = data_root
        for option in task.options:
            if option not in self.options:
                known = nearest(option, self.options) if self.options else f"{task.dataset} has no options"
                raise UserError(f"{self._where()}: unknown option {option!r}; {known}")

    @abstractmethod
    def examples(self, split: str | None = None) -> Iterator[Example]:
        """Stream the examples of one split (None: of all), always in the same order.

        Raises:
            UserError: data absent or malformed; the message says where, and what to type.
        """

    @abstractmethod
    def splits(self) -> dict[str, int]:
        """Number of examples per split, as `examples` gives them."""

    @abstractmethod
    def fingerprint(self) -> dict[str, Any]:
        """JSON-serialisable identity of the data: checksums and sizes. Cheap: images are not read."""

    @abstractmethod
    def check(self) -> PreparedTable:
        """Look at everything on disk again and count it.

        Raises:
            UserError: as `examples`.
        """

    @property
    def trained_task(self) -> str:
        """Name of the task that models are trained on to be asked here: this one, unless the data are another's."""
        return self.task.name

    @property
    def facts(self) -> tuple[TableRow, ...]:
        """What is counted of the data once, and shown in the report; nothing unless a reader says so."""
        return ()

    @property
    def preprocessing(self) -> str:
        """What was done to the explanations; shown in metric signatures as `pre:<this>`."""
        return "none"

    def notes(self) -> list[str]:
        """Sentences about this data that a reader of the report must know."""
        return []

    def prepare(self, annotations: Path, images: Path, progress: bool = True) -> PreparedTable:
        """Check a download and keep a local copy under the data root.

        Args:
            annotations: the file that the dataset's authors give out.
            images: the folder of images; it is read where it lies, not copied.
            progress: show progress bars.

        Raises:
            UserError: this kind of dataset needs no preparing, or the download is not what it should be.
        """
        raise UserError(f"task {self.task.name!r} reads its files where they lie and needs no preparing")

    def option(self, name: str, default: str | None = None) -> str:
        """An option's text.

        Raises:
            UserError: it is missing and has no default, or is not text.
        """
        value = self.task.options.get(name, default)
        if not isinstance(value, str) or not value:
            raise UserError(f"{self._where()}: option {name!r} must be text, got {value!r}")
        return value

    def option_path(self, name: str) -> Path:
        """An option that names a file or folder, relative to the task's card.

        Raises:
            UserError: as `option`.
        """
        base = self.task.source.parent if self.task.source else Path()
        return base / Path(self.option(name)).expanduser()

    def number(self, name: str, default: float) -> float:
        """A numeric option.

        Raises:
            UserError: it is no number.
        """
        value = self.task.options.get(name, default)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise UserError(f"{self._where()}: option {name!r} must be a number, got {value!r}")
        return float(value)

    def flag(self, name: str, default: bool = False) -> bool:
        """An option that is true or false.

        Raises:
            UserError: it is something else.
        """
        value = self.task.options.get(name, default)
        if not isinstance(value, bool):
            raise UserError(f"{self._where()}: option {name!r} must be true or false, got {value!r}")
        return value

    def _where(self) -> str:
        return str(self.task.source or f"task {self.task.name!r}")


def check_label(emotion: str, task: Task, where: str) -> str:
    """Return `emotion` if it is a label of the task.

    Raises:
        UserError: it is not; the message starts with `where` and suggests the nearest label.
    """
    if emotion not in task.emotions:
        raise UserError(
            f"{where}: emotion {emotion!r} is no label of task {task.name!r}; {nearest(emotion, task.emotions)}"
        )
    return emotion


def count_splits(examples: Iterable[Example]) -> dict[str, int]:
    """Examples per split, in order of appearance."""
    return dict(Counter(example.split for example in examples))


class LabelSpelling:
    """Recognises a task's labels in other capitals, with surrounding blanks, and under a dataset's other names.

    Args:
        task: its `emotions` are the labels.
        aliases: the dataset's other names, in lower case -> label; those of another task's labels do no harm.
        remarks: gets the number of labels that had to be re-spelled.
    """

    def __init__(self, task: Task, remarks: Counter[str], aliases: Mapping[str, str] | None = None) -> None:
        self._task = task
        self._remarks = remarks
        known = {label.casefold(): label for label in task.emotions}
        self._known = {k: v for k, v in (aliases or {}).items() if v in task.emotions} | known

    def __call__(self, written: str, where: str) -> str:
        """The label.

        Raises:
            UserError: it is none of the task's; the message starts with `where`.
        """
        label = self._known.get(written.strip().casefold(), written)
        if label != written:
            self._remarks["labels in another spelling"] += 1
        return check_label(label, self._task, where)


# --------------------------------------------------------------------- facts: what is counted of a task's data once


def facts_of(examples: Iterable[Example], labels: Sequence[str]) -> Iterator[TableRow]:
    """Count a task's examples, all splits of them, in one pass.

    Args:
        examples: each once.
        labels: the task's, in the order in which they are listed.
    """
    sizes: Counter[str] = Counter()
    lengths: Counter[int] = Counter()
    counts: Counter[str] = Counter()
    images: dict[Hashable, set[str]] = {}
    texts: dict[Hashable, set[str]] = {}
    for example in examples:
        sizes[example.split] += 1
        counts.update(example.emotion_histogram)
        images.setdefault(example.image, set()).add(example.split)
        for text in (note.explanation for note in example.annotations if note.explanation):
            lengths[len(text.split())] += 1
            texts.setdefault(text, set()).add(example.split)
    yield TableRow("examples", sizes.total())
    yield from (TableRow(f"examples in {split}", count) for split, count in sizes.items())
    if lengths:
        ordered = sorted(lengths.elements())
        quarter, half, most = (ordered[(len(ordered) - 1) * part // 100] for part in (25, 50, 95))
        note = f"median words each; a quarter has at most {quarter}, 95 % at most {most}"
        yield TableRow("words of an explanation", half, note)
    if len(sizes) > 1:
        yield _in_several("images in several splits", images)
        yield from [_in_several("explanations in several splits", texts)] if texts else []
    yield from (TableRow(f"annotated {label}", counts[label]) for label in labels)
    shares = [count / counts.total() for count in counts.values() if count]
    entropy = sum(share * math.log2(1 / share) for share in shares)
    yield TableRow(
        "labels that occur", len(shares), f"entropy {entropy:.2f} of at most {math.log2(len(labels)):.2f} bits"
    )


def _in_several(what: str, found: Mapping[Hashable, set[str]]) -> TableRow:
    several = [str(key) for key, splits in found.items() if len(splits) > 1]
    return TableRow(what, len(several), several[0][-60:] if several else "")

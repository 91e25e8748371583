"""Any table with a row per annotation or per image; the card says which columns hold what.

    options:
      columns: {image: "{style}/{file}.jpg", emotion: feeling, explanation: why, language: "{language|lower}"}

A role's value is a column, or a pattern that holds columns in braces; after a bar may follow `lower`, `capitalize`,
`spaces` (underscores become blanks), `stem` or `folder` (of a path) or `artist` (of a WikiArt file name). Roles are
`image`, `emotion`, `explanation`, `split`, `context`, `id` (default: the image), `weight` (how many annotations the row
stands for), `valence`, `arousal`, `dominance`, or `vad` for a list of the three; any other name becomes `meta`, along
which results can be sliced.
"""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

from harness.errors import nearest
from harness.tasks.loading import builtin_cards, load_task
from harness.tasks.readers.base import LabelSpelling
from harness.tasks.readers.layout import Entry, LayoutReader
from harness.tasks.readers.tables import number, read_rows, text_list
from harness.types import Annotation, Task, UserError

DIMENSIONS = ("valence", "arousal", "dominance")
ROLES = ("image", "emotion", "explanation", "split", "context", "id", "weight", *DIMENSIONS, "vad")
FILTERS: Mapping[str, Callable[[str], str]] = {
    "lower": str.lower,
    "capitalize": str.capitalize,
    "spaces": lambda text: text.replace("_", " "),
    "stem": lambda text: PurePosixPath(text).stem,
    "folder": lambda text: PurePosixPath(text).parent.name,
    "artist": lambda text: text.partition("_")[0].replace("-", " "),
}
_PART = re.compile(r"\{([^{}|]*)(?:\|(\w+))?\}")

_Row = tuple[str, dict[str, str]]


@dataclasses.dataclass(frozen=True)
class _Pattern:
    """What a role is made of: text with columns in it."""

    text: str

    def columns(self) -> list[str]:
        return [match[1] for match in _PART.finditer(self.text)] if "{" in self.text else [self.text]

    def fill(self, row: Mapping[str, str]) -> str:
        if "{" not in self.text:
            return row[self.text]
        return _PART.sub(lambda match: FILTERS.get(match[2], str)(row[match[1]]), self.text)


class TableReader(LayoutReader):
    """One entry per image (or per `id`), in order of first appearance; its rows need not follow each other.

    Options:
        columns: role -> column or pattern, see above; `image` and `emotion` are needed (but for `marks` and
            `valence_bands`). Ratings are averaged over an entry's rows; the other roles come from its first row.
        duplicates: `keep` (default) counts a row that repeats another word for word as one more annotation, as votes
            are; `drop` leaves it out.
        marks: for tables with a column of 0 and 1 per label: the column's name, `{}` standing for the label.
        valence_bands: instead of `emotion`: upper limits of the mean valence for all labels but the last.
        delimiter: between cells (default: found by the header; `tab` for tab).
        header_rows: rows above the data (default 1; with two, a column is called `first/second`).
        aliases: the file's label, in lower case -> the task's.
        unfold: columns of a JSON file that hold lists side by side; each place becomes a row.
        picture_name: pattern of the image's path in which `{}` is the cell (default `{}`).
    """

    options: ClassVar[tuple[str, ...]] = (
        *LayoutReader.options, "columns", "duplicates", "marks", "valence_bands", "delimiter", "header_rows", "aliases",
        "unfold", "picture_name",
    )  # fmt: skip

    def entries(self, annotations: Path, images: Path, remarks: Counter[str]) -> Iterator[Entry]:
        """One entry per image or id."""
        roles = self._roles(annotations)
        mark = self.option("marks", "-")  # a column of 0 and 1 for each label, instead of one that holds labels
        marks = {label: mark.replace("{}", label) for label in self.task.emotions} if mark != "-" else {}
        bands = self._bands()
        spelled = LabelSpelling(self.task, remarks, self.task.options.get("aliases"))
        duplicates = self.option("duplicates", "keep")
        if duplicates not in ("keep", "drop"):
            raise UserError(f"{self._where()}: option 'duplicates': {nearest(duplicates, ('keep', 'drop'))}")
        drop = duplicates == "drop"
        found: dict[str, list[_Row]] = {}
        seen: set[tuple[str, ...]] = set()
        wanted = [*(column for pattern in roles.values() for column in pattern.columns()), *marks.values()]
        for where, row in self._rows_of(annotations, wanted):
            cells = tuple(row.values())
            if cells in seen:
                remarks["repeated rows dropped" if drop else "repeated rows, counted as annotations"] += 1
            if cells not in seen or not drop:
                id_ = (roles.get("id") or roles["image"]).fill(row).lstrip("/")
                found.setdefault(id_, []).append((where, row))
            seen.add(cells)
        for id_, rows in found.items():
            entry = self._entry(id_, rows, roles)
            if bands:
                label = self.task.emotions[sum(entry.ratings["valence"] >= limit for limit in bands)]
                notes: list[Annotation] = [Annotation(label, "")]
            elif marks:
                notes = [
                    Annotation(label, "")
                    for where, row in rows
                    for label, column in marks.items()
                    if number(row[column], where, column) > 0
                ]
                remarks["entries with several emotions"] += len(notes) > len(rows)
            else:
                emotion, said = roles["emotion"], roles.get("explanation")
                notes = [
                    Annotation(spelled(emotion.fill(row), where), said.fill(row) if said else "")
                    for where, row in rows
                    for _ in range(_weight(row, where, roles))
                ]
            yield dataclasses.replace(entry, annotations=tuple(notes))

    def _entry(self, id_: str, rows: Sequence[_Row], roles: Mapping[str, _Pattern]) -> Entry:
        where, first = rows[0]
        splits = {roles["split"].fill(row) for _, row in rows} if "split" in roles else {""}
        if len(splits) > 1:
            raise UserError(f"{where}: {id_!r} is in several splits: {', '.join(sorted(splits))}")
        ratings = {
            dimension: sum(number(roles[dimension].fill(r), w, roles[dimension].text) for w, r in rows) / len(rows)
            for dimension in DIMENSIONS
            if dimension in roles
        }
        if "vad" in roles:
            lists = [_three_numbers(roles["vad"].fill(row), where, roles["vad"].text) for where, row in rows]
            ratings |= {d: sum(v) / len(rows) for d, v in zip(DIMENSIONS, zip(*lists, strict=True), strict=True)}
        return Entry(
            id=id_,
            image=self.option("picture_name", "{}").replace("{}", roles["image"].fill(first)).lstrip("/"),
            annotations=(),
            split=splits.pop() or None,
            meta={role: pattern.fill(first) for role, pattern in roles.items() if role not in ROLES},
            ratings=ratings,
            context=roles["context"].fill(first) if "context" in roles else "",
        )

    def _rows_of(self, path: Path, columns: Sequence[str]) -> Iterator[_Row]:
        delimiter, unfold = self.task.options.get("delimiter"), self.task.options.get("unfold", [])
        if not isinstance(unfold, list) or not all(isinstance(column, str) for column in unfold):
            raise UserError(f"{self._where()}: option 'unfold' must be a list of columns, got {unfold!r}")
        return read_rows(
            path,
            columns,
            encoding=self.option("encoding", "utf-8"),
            delimiter="\t" if delimiter == "tab" else delimiter,
            header_rows=int(self.number("header_rows", 1)),
            unfold=unfold,
        )

    def _roles(self, annotations: Path) -> dict[str, _Pattern]:
        given: Any = self.task.options.get("columns")
        roles = {str(role): _Pattern(str(text)) for role, text in given.items()} if isinstance(given, dict) else {}
        if "picture" in roles:
            roles["image"] = roles.pop("picture")
        labelled = {"emotion"} if not ({"marks", "valence_bands"} & self.task.options.keys()) else set()
        if {"image"} | labelled <= roles.keys():
            return roles
        header = ", ".join(next(self._rows_of(annotations, ()), ("", {"no row": ""}))[1])
        raise UserError(
            f"task {self.task.name!r}: which columns hold what is a setting; copy {self.task.source} and add "
            "options: {columns: {image: COLUMN, emotion: COLUMN, explanation: COLUMN}} with columns of "
            f"{annotations}: {header}; roles: {', '.join(ROLES)}"
        )

    def _bands(self) -> list[float]:
        limits: Any = self.task.options.get("valence_bands", [])
        numbers = isinstance(limits, list) and all(isinstance(limit, int | float) for limit in limits)
        if limits and (not numbers or len(limits) != len(self.task.emotions) - 1 or sorted(limits) != limits):
            raise UserError(
                f"{self._where()}: option 'valence_bands' must hold {len(self.task.emotions) - 1} rising numbers, one "
                f"fewer than there are labels, got {limits!r}"
            )
        return [float(limit) for limit in limits]


def _weight(row: Mapping[str, str], where: str, roles: Mapping[str, _Pattern]) -> int:
    if "weight" not in roles:
        return 1
    weight = number(roles["weight"].fill(row), where, roles["weight"].text)
    if weight < 0 or weight != int(weight):
        raise UserError(f"{where}: {roles['weight'].text} is not a count: {weight:g}")
    return int(weight)


def _three_numbers(cell: str, where: str, column: str) -> list[float]:
    values = text_list(cell, where)
    if len(values) != len(DIMENSIONS):
        raise UserError(f"{where}: {column} must hold 3 numbers, got {cell!r}")
    return [number(value, where, column) for value in values]


class KnownTableReader(TableReader):
    """The table of a built-in task by that task's name (`dataset: dvisa`): its card's options under the card's own."""

    def __init__(self, task: Task, data_root: Path) -> None:
        known = load_task(builtin_cards()[task.dataset])
        super().__init__(dataclasses.replace(task, options={**known.options, **task.options}), data_root)
        self.task = dataclasses.replace(self.task, source=task.source)

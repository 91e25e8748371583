"""Any table with a row per annotation, its columns named by the card."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

from harness.suggestions import nearest
from harness.tasks.readers.label_spelling import LabelSpelling
from harness.tasks.readers.layout import Entry, LayoutReader
from harness.tasks.readers.tables import number, read_rows
from harness.types import Annotation, UserError

ROLES = ("picture", "emotion", "explanation", "split", "context", "valence", "arousal", "dominance")


class TableReader(LayoutReader):
    """One row per annotation; rows of one picture need not follow each other.

    Options:
        columns: role -> column; `picture` and `emotion` are needed; also `explanation`, `split`, `context`, `valence`,
            `arousal`, `dominance` (ratings are averaged over a picture's rows) and, under any other name, text
            for slices.
        delimiter: between cells (default a comma; `tab` for tab).
        header_rows: rows above the data (default 1; with two, a column is called `first/second`).
        aliases: the file's label, in lower case -> the task's.
        picture_name: pattern of the picture's path in which `{}` is the cell (default `{}`).
    """

    options: ClassVar[tuple[str, ...]] = (
        *LayoutReader.options, "columns", "delimiter", "header_rows", "aliases", "picture_name",
    )  # fmt: skip

    def entries(self, annotations: Path, images: Path, remarks: Counter[str]) -> Iterator[Entry]:
        """One entry per picture, in order of first appearance; a row repeated word for word is dropped."""
        roles = self._roles(annotations)
        spelled = LabelSpelling(self.task, remarks, self.task.options.get("aliases"))
        found: dict[str, dict[tuple[str, ...], tuple[str, dict[str, str]]]] = {}
        for where, row in self._rows_of(annotations, roles):
            rows = found.setdefault(row[roles["picture"]], {})
            key = tuple(row.values())
            remarks["repeated rows dropped"] += key in rows
            rows.setdefault(key, (where, row))
        pattern = self.option("picture_name", "{}")
        for name, rows in found.items():
            yield _entry(name, pattern, list(rows.values()), roles, spelled)

    def _rows_of(self, path: Path, roles: dict[str, str]) -> Iterator[tuple[str, dict[str, str]]]:
        delimiter = self.option("delimiter", ",")
        return read_rows(
            path,
            list(roles.values()),
            encoding=self.option("encoding", "utf-8"),
            delimiter="\t" if delimiter == "tab" else delimiter,
            header_rows=int(self.number("header_rows", 1)),
        )

    def _roles(self, annotations: Path) -> dict[str, str]:
        roles: Any = self.task.options.get("columns")
        if isinstance(roles, dict) and {"picture", "emotion"} <= roles.keys():
            return {str(role): str(column) for role, column in roles.items()}
        try:
            header = ", ".join(next(self._rows_of(annotations, {}))[1])
        except StopIteration:
            header = "no row"
        raise UserError(
            f"task {self.task.name!r}: which columns hold what is a setting; copy {self.task.source} and add "
            "options: {columns: {picture: COLUMN, emotion: COLUMN, explanation: COLUMN}} with columns of "
            f"{annotations}: {header}; known roles: {nearest('', ROLES).removeprefix('known: ')}"
        )


def _entry(
    name: str, pattern: str, rows: list[tuple[str, dict[str, str]]], roles: dict[str, str], spelled: LabelSpelling
) -> Entry:
    where, first = rows[0]
    text = roles.get("explanation")
    notes = [Annotation(spelled(r[roles["emotion"]], w), r[text] if text else "") for w, r in rows]
    splits = {row[roles["split"]] for _, row in rows} if "split" in roles else {""}
    if len(splits) > 1:
        raise UserError(f"{where}: picture {name!r} is in several splits: {', '.join(sorted(splits))}")
    rated: list[str] = [role for role in ("valence", "arousal", "dominance") if role in roles]
    means: dict[str, float] = {d: sum(number(r[roles[d]], w, roles[d]) for w, r in rows) / len(rows) for d in rated}
    meta = {role: first[column] for role, column in roles.items() if role not in ROLES}
    context = first[roles["context"]] if "context" in roles else ""
    return Entry(name, pattern.replace("{}", name), tuple(notes), splits.pop() or None, meta, means, context)

"""The file that the ArtEmis authors give out: one csv row per annotation, and the official splits of its paintings."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from harness.tasks.readers.base import check_label
from harness.types import Task, UserError

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ("art_style", "painting", "emotion", "utterance", "repetition")
SEED = 2021
VAL_SHARE, TEST_SHARE = 0.05, 0.1


@dataclass(frozen=True, slots=True)
class Release:
    """The rows of a release.

    Attributes:
        rows: the five `COLUMNS`, in file order; `repetition` as int64, the rest text, names exactly as written.
        mended_labels: rows whose emotion had to be trimmed or lower-cased.
        files: what was read.
    """

    rows: pd.DataFrame
    mended_labels: int
    files: tuple[Path, ...]


def read_release(path: Path, task: Task, more: tuple[str, ...] = ()) -> Release:
    """Read the csv. Byte-order mark, CRLF, quoted newlines and stray carriage returns are taken in stride.

    Args:
        path: the csv.
        task: for its labels.
        more: further columns that must be there and are kept as text.

    Raises:
        UserError: unreadable, not UTF-8, not a csv, a column is missing, a row without style or painting, an
            emotion outside the task's labels, a repetition that is no number; rows are counted from 1.
    """
    rows = _read_csv(path)
    missing = [column for column in COLUMNS + more if column not in rows.columns]
    if missing:
        raise UserError(
            f"{path}: no column {', '.join(missing)}; found {', '.join(map(str, rows.columns))}; "
            f"an ArtEmis release has {', '.join(COLUMNS + more)}"
        )
    if rows.empty:
        raise UserError(f"{path}: holds a header but no annotation")
    rows = rows[list(COLUMNS + more)].fillna("")
    for column in ("art_style", "painting"):
        _refuse_first(rows, rows[column].str.strip() == "", path, f"no {column}")
    spelling = {label.casefold(): label for label in task.emotions}
    labels = rows["emotion"].str.strip().map(lambda label: spelling.get(label.casefold(), label))
    mended = int((labels != rows["emotion"]).sum())
    rows["emotion"] = labels
    _check_labels(rows, path, task)
    counts = rows["repetition"].str.strip()
    _refuse_first(rows, ~counts.str.fullmatch(r"\d{1,9}"), path, "repetition is no whole number")
    rows["repetition"] = counts.astype("int64")
    return Release(rows, mended, (path,))


def official_splits(paintings: Iterable[str]) -> dict[str, str]:
    """Assign each painting to `train`, `val` or `test` as the official preprocessing does.

    Args:
        paintings: `art_style + painting` of every painting, exactly as in the file, before any repair.

    Returns:
        painting -> split; 85/5/10, reproducible (`make_train_test_val_splits` of github.com/optas/artemis).

    Raises:
        UserError: too few paintings to split.
    """
    from sklearn.model_selection import train_test_split

    names = sorted(set(paintings))
    if len(names) < 10:
        raise UserError(f"{len(names)} paintings are too few to split into train, val and test; at least 10 are needed")
    train, held_out = train_test_split(names, test_size=VAL_SHARE + TEST_SHARE, random_state=SEED)
    val, test = train_test_split(held_out, test_size=round(TEST_SHARE * len(names)), random_state=SEED)
    parts = {"train": train, "val": val, "test": test}
    return {name: split for split, members in parts.items() for name in members}


def _read_csv(path: Path) -> pd.DataFrame:
    import pandas as pd

    # A line ends with \n; without this, pandas would end one at a carriage return inside an unquoted utterance.
    end: Literal["\n", "\r"] = "\n" if _has_newline(path) else "\r"
    settings: dict[str, Any] = {"dtype": str, "keep_default_na": False, "encoding": "utf-8-sig"}
    try:
        rows: pd.DataFrame = pd.read_csv(path, lineterminator=end, **settings)
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 text ({error.reason}); expected the csv of the release") from None
    except (pd.errors.ParserError, pd.errors.EmptyDataError, ValueError) as error:
        raise UserError(f"{path}: not a csv file: {str(error).strip()}") from None
    if not isinstance(rows.index, pd.RangeIndex):  # pandas takes surplus leading fields for an index
        raise UserError(f"{path}: not a csv file: the first row has more fields than the header")
    rows.columns = rows.columns.str.strip()
    last = rows.columns[-1]
    rows[last] = rows[last].str.rstrip("\r")
    return rows


def _has_newline(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return b"\n" in file.read(1 << 16)
    except OSError as error:
        raise UserError(f"{path}: cannot read the annotations file ({error.strerror})") from None


def _check_labels(rows: pd.DataFrame, path: Path, task: Task) -> None:
    for emotion in rows["emotion"].unique():
        if emotion not in task.emotions:
            first = int((rows["emotion"] == emotion).argmax())
            check_label(emotion, task, f"{path}, annotation {first + 1} ({rows['painting'].iloc[first]})")


def _refuse_first(rows: pd.DataFrame, wrong: pd.Series[bool], path: Path, what: str) -> None:
    if wrong.any():
        first = int(wrong.argmax())
        raise UserError(f"{path}, annotation {first + 1}: {what}: {', '.join(map(str, rows.iloc[first]))[:100]}")

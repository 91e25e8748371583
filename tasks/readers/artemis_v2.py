"""ArtEmis v2.0: the first release and `Contrastive.csv` together, cut into the published subsets and test sets.

What the official scripts do (`dataset/combine.py`, `dataset/create_parts.py` of github.com/Vision-CAIR/artemis-v2) is
done here on the same rows in the same order: names in decomposed Unicode (NFD), the split drawn again over the
paintings of both releases, rows sampled by seed 42. Two things cannot be the same: spelling is not repaired (see
`artemis`), so rows at the length limits may differ; and the official script draws `test_old` from an unordered
Python set, so every run of it draws another half. Here the half is drawn from the sorted names.

Options of the card:
    train_set: `combined` (default), `full_combined`, `new`, `old_full`, `old_large` or `old_small`.
    test_set: `test_all` (default; the paper's Combined test), `test_new`, `test_old`, `test_ref` or `test_40`.
    preprocessing, folder: as in `artemis` (default `deep-net`, `artemis-v2`).
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from harness.errors import nearest
from harness.tasks.readers.artemis import COPIED_COLUMNS, SHORTEST, ArtemisReader, Release, read_release
from harness.types import Task, UserError

if TYPE_CHECKING:
    import pandas as pd

OLD_FILE, NEW_FILE = "artemis_dataset_release_v0.csv", "Contrastive.csv"
SAMPLE_SEED = 42

_Row = Mapping[str, Any]
_TRAIN_SETS: dict[str, Callable[[_Row], bool]] = {
    "combined": lambda row: row["version"] == "new" or row["old_small"],
    "full_combined": lambda row: True,
    "new": lambda row: bool(row["version"] == "new"),
    "old_full": lambda row: bool(row["version"] == "old"),
    "old_large": lambda row: bool(row["old_large"]),
    "old_small": lambda row: bool(row["old_small"]),
}
_TEST_SETS: dict[str, Callable[[_Row], bool]] = {
    "test_all": lambda row: row["split_deep_net"] == "test" and (row["version"] == "new" or row["old_half"]),
    "test_new": lambda row: bool(row["split_deep_net"] == "test" and row["version"] == "new"),
    "test_old": lambda row: bool(row["split_deep_net"] == "test" and row["old_half"]),
    "test_ref": lambda row: bool(row["split_deep_net"] == "test" and row["version"] == "old"),
    "test_40": lambda row: bool(row["split_deep_net"] == "rest" and row["version"] == "old"),
}


class ArtemisV2Reader(ArtemisReader):
    """Reads a prepared copy; `train` and `val` come from the train set, `test` is the test set."""

    options: ClassVar[tuple[str, ...]] = ("preprocessing", "folder", "leave_out", "train_set", "test_set")
    columns: ClassVar[tuple[str, ...]] = (*COPIED_COLUMNS, "version", "old_small", "old_large", "old_half")
    default_preprocessing: ClassVar[str] = "deep-net"
    default_folder: ClassVar[str] = "artemis-v2"
    annotations_metavar: ClassVar[str] = f"FOLDER_OF_{OLD_FILE}_AND_{NEW_FILE}"

    def __init__(self, task: Task, data_root: Path) -> None:
        super().__init__(task, data_root)
        if self.preprocessing != "deep-net":
            raise UserError(f"{self._where()}: the subsets are defined on the deep-net preprocessing only")
        self._train = self._named("train_set", "combined", _TRAIN_SETS)
        self._test = self._named("test_set", "test_all", _TEST_SETS)

    def _named(self, option: str, default: str, known: Mapping[str, Callable[[_Row], bool]]) -> Callable[[_Row], bool]:
        name = self.option(option, default)
        if name not in known:
            raise UserError(f"{self._where()}: unknown {option} {name!r}; {nearest(name, known)}")
        return known[name]

    def fingerprint(self) -> dict[str, Any]:
        """Also names the sets."""
        sets = {"train_set": self.option("train_set", "combined"), "test_set": self.option("test_set", "test_all")}
        return super().fingerprint() | sets

    def _paintings(self) -> Iterator[list[dict[str, Any]]]:
        """The rows of one painting that belong to the sets, their split renamed to what it is used as."""
        for rows in super()._paintings():
            tested = [row for row in rows if self._test(row)]
            if tested:
                yield [row | {"split_deep_net": "test"} for row in tested]
            elif learnt := [r for r in rows if r["split_deep_net"] in ("train", "val") and self._train(r)]:
                yield learnt

    def _release(self, annotations: Path) -> Release:
        return read_both(annotations, self.task)

    def _extend(self, rows: pd.DataFrame, limit: float) -> None:
        add_sets(rows, limit)


def read_both(folder: Path, task: Task) -> Release:
    """The rows of both releases, new ones first, painting names in NFD; columns `version` and `order` are added.

    Raises:
        UserError: a file is missing or not what it should be.
    """
    import pandas as pd

    if not folder.is_dir():
        raise UserError(f"{folder}: expected the folder that holds {OLD_FILE} and {NEW_FILE}")
    new = read_release(folder / NEW_FILE, task, ("anchor_painting",))
    old = read_release(folder / OLD_FILE, task)
    rows = pd.concat([new.rows.assign(version="new"), old.rows.assign(version="old")], ignore_index=True)
    for column in ("art_style", "painting", "anchor_painting"):
        rows[column] = rows[column].fillna("").map(lambda name: unicodedata.normalize("NFD", name))
    rows["order"] = range(len(rows))
    return Release(rows, new.respelled_labels + old.respelled_labels, new.files + old.files)


def add_sets(rows: pd.DataFrame, limit: float) -> None:
    """Mark which rows belong to `old_small` and `old_large`, and which paintings to the tested half of the old ones.

    Args:
        rows: with `order`, `version`, `tokens`, `split_deep_net`, `id`.
        limit: tokens of the longest utterance kept.
    """
    import numpy as np

    kept = rows[rows["tokens"].between(SHORTEST, limit)].sort_values("order")
    new, old = kept[kept["version"] == "new"], kept[kept["version"] == "old"]
    for name, size in (("old_small", len(new)), ("old_large", 2 * len(new))):
        chosen = old.sample(min(size, len(old)), random_state=SAMPLE_SEED)
        rows[name] = rows["order"].isin(chosen["order"])
    tested = sorted(set(old.loc[old["split_deep_net"] == "test", "id"]))
    half = np.random.RandomState(SAMPLE_SEED).permutation(tested)[: len(tested) // 2]
    rows["old_half"] = rows["id"].isin(list(half)) & (rows["version"] == "old")

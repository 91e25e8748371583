"""Splits for datasets that have no official one: drawn by picture, with a fixed seed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from harness.types import UserError

SEED = 2021
"""The seed of ArtEmis's own split, kept for every drawn one."""


def drawn_splits(pictures: Mapping[str, str], val: float, test: float, stratify: bool) -> dict[str, str]:
    """Assign each picture to `train`, `val` or `test`; independent of the order in which they are given.

    Args:
        pictures: picture -> its class, used when `stratify`.
        val, test: shares in 0..1, `test` above 0, together below 1.
        stratify: draw within each class (classes with a single picture are drawn together).

    Raises:
        UserError: too few pictures, or shares that cannot be.
    """
    from sklearn.model_selection import train_test_split

    if not (0 <= val < 1 and 0 < test < 1 and val + test < 1):
        raise UserError(f"shares val {val:g} and test {test:g} must leave some pictures for training and for testing")
    names = sorted(pictures)
    held = round((val + test) * len(names))
    if round(test * len(names)) < 1 or held >= len(names):
        raise UserError(f"{len(names)} pictures are too few to split into train, val and test")
    classes = _strata(names, pictures) if stratify else None
    train, rest = train_test_split(names, test_size=held, random_state=SEED, stratify=classes)
    validation: list[str] = []
    if val and round(test * len(names)) < len(rest):
        again = _strata(rest, pictures) if stratify else None
        validation, rest = train_test_split(rest, test_size=round(test * len(names)), random_state=SEED, stratify=again)
    parts = {"train": train, "val": validation, "test": rest}
    return {name: split for split, members in parts.items() for name in members}


def _strata(names: list[str], classes: Mapping[str, str]) -> list[str] | None:
    """The class of each name, rare ones merged; None where some class could not be in every part."""
    counts = Counter(classes[name] for name in names)
    merged = [classes[name] if counts[classes[name]] > 1 else "" for name in names]
    groups = Counter(merged)
    return merged if len(groups) > 1 and min(groups.values()) > 1 and len(groups) * 2 <= len(names) else None

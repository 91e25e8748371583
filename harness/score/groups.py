"""Rows that are one model trained with several seeds (`group=NAME`): their mean and standard deviation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean, stdev
from typing import Any

_PLACE = ("task", "split", "metric", "emotion", "conditioned_on", "references")


def group_records(models: Sequence[Mapping[str, Any]], cells: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Records of every group of two or more models, overall and per emotion, controls and slices apart.

    Each is `{"group", "models", "task", "split", "metric", "emotion", "conditioned_on", "references", "mean", "sd",
    "values"}`: the standard deviation (n - 1) is over trainings, so it says what another seed would change and nothing
    of the choice of paintings, which the members' intervals are about. Where a member has no value there is no record.

    Args:
        models: the manifest's models, with `model` and, where given, `group`.
        cells: cells of results.json.
    """
    members: dict[str, list[str]] = {}
    for model in models:
        if model.get("group"):
            members.setdefault(model["group"], []).append(model["model"])
    values: dict[tuple[Any, ...], dict[str, float]] = {}
    for cell in cells:
        if cell["control"] is None and cell["slice"] is None and cell["value"] is not None:
            values.setdefault(tuple(cell[key] for key in _PLACE), {})[cell["model"]] = cell["value"]
    return [
        _record(group, names, place, [found[name] for name in names])
        for group, names in members.items()
        for place, found in values.items()
        if len(names) > 1 and found.keys() >= set(names)
    ]


def _record(group: str, names: Sequence[str], place: tuple[Any, ...], values: Sequence[float]) -> dict[str, Any]:
    where = dict(zip(_PLACE, place, strict=True))
    return {
        "group": group,
        "models": list(names),
        **where,
        "mean": fmean(values),
        "sd": stdev(values),
        "values": values,
    }

"""Comparisons and their outcome, one line each."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor


@dataclass(frozen=True)
class Line:
    """One comparison.

    Attributes:
        name: tensor or file, with the part of it in brackets.
        status: `ok`, `FAIL`, or `SKIP` with the reason in `detail`.
        difference: largest absolute difference; None for comparisons by equality.
        tolerance: absolute tolerance that `difference` was held against.
        detail: what is wrong, or why it was skipped.
    """

    name: str
    status: Literal["ok", "FAIL", "SKIP"]
    difference: float | None = None
    tolerance: float | None = None
    detail: str = ""

    def __str__(self) -> str:
        numbers = "equality" if self.difference is None else f"{self.difference:.2e} <= {self.tolerance:.0e}"
        shown = "" if self.status == "SKIP" else numbers
        return f"{self.status:4}  {self.name:58}  {shown:20}  {self.detail}".rstrip()


@dataclass
class Report:
    """All lines of one run, in order."""

    lines: list[Line] = field(default_factory=list)

    @property
    def failed(self) -> bool:
        """Whether any comparison failed."""
        return any(line.status == "FAIL" for line in self.lines)

    def tensor(self, name: str, got: Tensor, expected: Tensor, absolute: float, relative: float = 0.0) -> None:
        """Compares max |got - expected| <= absolute + relative |expected|; integers and infinities must be equal."""
        if got.shape != expected.shape:
            self.fail(name, f"shape {tuple(got.shape)}, expected {tuple(expected.shape)}")
            return
        if not got.is_floating_point():  # identifiers of 19 digits do not fit a double
            self.check(name, torch.equal(got, expected.to(got.dtype)), f"{int((got != expected).sum())} differ")
            return
        got, expected = got.detach().double(), expected.detach().double()
        difference = torch.where(got == expected, 0.0, (got - expected).abs()).nan_to_num(nan=float("inf"))
        allowed = absolute + relative * expected.abs()
        agrees = bool(((difference == 0) | (difference <= allowed)).all())  # infinities make `allowed` NaN
        largest = difference.max().item() if difference.numel() else 0.0
        self.lines.append(Line(name, "ok" if agrees else "FAIL", largest, absolute))

    def equal(self, name: str, got: Any, expected: Any) -> None:
        """Compares two plain values (or equal-shaped tensors) by equality."""
        if isinstance(got, Tensor):
            self.tensor(name, got, expected, 0.0)
        elif got == expected:
            self.lines.append(Line(name, "ok"))
        else:
            self.fail(name, f"got {_short(got)}, expected {_short(expected)}")

    def check(self, name: str, holds: bool, detail: str) -> None:
        """A condition that the fixture must fulfil; `detail` says what is wrong when it does not."""
        self.lines.append(Line(name, "ok" if holds else "FAIL", detail="" if holds else detail))

    def fail(self, name: str, detail: str) -> None:
        """Records a comparison that cannot succeed."""
        self.lines.append(Line(name, "FAIL", detail=detail))

    def skip(self, name: str, reason: str) -> None:
        """Records a comparison that cannot be made here, and why."""
        self.lines.append(Line(name, "SKIP", detail=reason))

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Turns an exception inside into a FAIL: a damaged fixture must fail, not end the run."""
        try:
            yield
        except Exception as error:
            self.fail(name, f"{type(error).__name__}: {_short(error)}")

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON values: `ok`, `counts` by status, `comparisons`."""
        statuses = [line.status for line in self.lines]
        return {
            "ok": not self.failed,
            "counts": {status: statuses.count(status) for status in ("ok", "FAIL", "SKIP")},
            "comparisons": [dataclasses.asdict(line) for line in self.lines],
        }


def _short(value: Any) -> str:
    text = str(value).replace("\n", " ")
    return text if len(text) <= 120 else text[:117] + "..."
